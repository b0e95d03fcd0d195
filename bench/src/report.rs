//! Tables, on the terminal and in docs/benchmarks.md.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// An aim, what was measured, and whether that is enough.
#[derive(Clone, Debug)]
pub(crate) struct Line(String);

impl Line {
    pub(crate) fn aim(aim: &str, measured: &str, met: bool) -> Self {
        Self(format!("aim: {aim}; measured: {measured} ({})", if met { "met" } else { "**missed**" }))
    }
}

/// The outcome of one measurement.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Which marker in the document is its place.
    pub(crate) id: &'static str,
    pub(crate) head: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) aims: Vec<Line>,
}

impl Table {
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("| {} |\n|{}\n", self.head.join(" | "), "---|".repeat(self.head.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        if !self.aims.is_empty() {
            text.push('\n');
        }
        for Line(line) in &self.aims {
            let _ = writeln!(text, "- {line}");
        }
        text
    }
}

/// Puts `text` between the markers `<!-- ID -->` and `<!-- /ID -->` of the document.
pub(crate) fn write(document: &Path, id: &str, text: &str) -> Result<()> {
    let old = fs::read_to_string(document).with_context(|| document.display().to_string())?;
    let new = between(&old, id, text).with_context(|| format!("{} has no place <!-- {id} --> ... <!-- /{id} -->", document.display()))?;
    fs::write(document, new).with_context(|| document.display().to_string())
}

fn between(document: &str, id: &str, text: &str) -> Option<String> {
    let (open, close) = (format!("<!-- {id} -->\n"), format!("<!-- /{id} -->"));
    let (before, rest) = document.split_once(&open)?;
    let (_, after) = rest.split_once(&close)?;
    Some(format!("{before}{open}{text}{close}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_place_is_written() {
        let document = "prose\n<!-- a -->\nold\n<!-- /a -->\nmore\n";
        assert_eq!(between(document, "a", "new\n").as_deref(), Some("prose\n<!-- a -->\nnew\n<!-- /a -->\nmore\n"));
        assert_eq!(between(document, "b", "new\n"), None);
    }
}
