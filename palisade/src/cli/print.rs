//! How answers look: standard output for answers, standard error for messages.

use std::fmt::{self, Display};
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::ColorChoice;
use palisade_core::time::{Span, Stamp, Until};
use serde::Serialize;

use super::Exit;
use super::ask::{Refused, Unreachable};
use crate::serve::proof::CannotEnforce;
use crate::settings::BadConfig;

static COLOR: AtomicBool = AtomicBool::new(false);

/// Decides once whether answers are coloured: never in a pipe, never with NO_COLOR, unless told to.
pub fn choose_color(choice: ColorChoice) {
    let on = match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            io::stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
                && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
        }
    };
    COLOR.store(on, Ordering::Relaxed);
}

/// Whether answers are coloured.
pub fn colored() -> bool {
    COLOR.load(Ordering::Relaxed)
}

/// A piece of text in a colour (an SGR code: 1 bold, 2 dim, 31 red, 32 green, 33 yellow, 36 cyan).
pub struct Painted<T>(pub u8, pub T);

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if colored() { write!(f, "\x1b[{}m{}\x1b[0m", self.0, self.1) } else { self.1.fmt(f) }
    }
}

/// Whoever read our answer has seen enough, as `head` does: nothing went wrong.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub struct Closed;

/// Writes to standard output. [`Closed`] when nobody reads it any more; other pipes that break are
/// errors, so this is the one place that tells them apart.
pub fn out(write: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>) -> Result<()> {
    let mut stdout = io::stdout().lock();
    told(write(&mut stdout).and_then(|()| stdout.flush()))
}

/// Writes a line of the answer.
pub fn line(text: impl Display) -> Result<()> {
    out(|out| writeln!(out, "{text}"))
}

/// Writes a JSON document on one line.
pub fn json(value: &impl Serialize) -> Result<()> {
    out(|out| {
        serde_json::to_writer(&mut *out, value)?;
        writeln!(out)
    })
}

/// An answer of many lines, written when there is enough of it: one system call a line would cost more than the line.
pub struct Buffered(BufWriter<StdoutLock<'static>>);

impl Buffered {
    /// Nothing written yet. Standard output is ours until it is dropped.
    pub fn new() -> Self {
        Self(BufWriter::with_capacity(64 * 1024, io::stdout().lock()))
    }

    /// Writes to it. [`Closed`] when nobody reads it any more.
    pub fn out(&mut self, write: impl FnOnce(&mut BufWriter<StdoutLock<'static>>) -> io::Result<()>) -> Result<()> {
        told(write(&mut self.0))
    }

    /// Writes a line of the answer.
    pub fn line(&mut self, text: impl Display) -> Result<()> {
        self.out(|out| writeln!(out, "{text}"))
    }

    /// Writes a JSON document on one line.
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        self.out(|out| {
            serde_json::to_writer(&mut *out, value)?;
            writeln!(out)
        })
    }

    /// Whoever reads it gets all of it now.
    pub fn flush(&mut self) -> Result<()> {
        self.out(|out| out.flush())
    }
}

impl Default for Buffered {
    fn default() -> Self {
        Self::new()
    }
}

/// A reader that has seen enough ends the verb quietly.
fn told(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(anyhow::Error::new(Closed)),
        result => result.context("writing the answer"),
    }
}

/// What is left, for people: `3h12m left`, `for ever`, at most two units.
pub fn left(until: Until, now: Stamp) -> String {
    match until.left(now) {
        None => "for ever".to_owned(),
        Some(span) => format!("{} left", rough(span)),
    }
}

/// A duration by its two largest units: `3h12m`, `2d4h`, `900ms`. Seconds are rounded up, so that a ban of
/// an hour that was just made has an hour left.
pub fn rough(span: Span) -> String {
    let ms = span.as_millis();
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let text = Span::secs(span.as_secs_ceil()).to_string();
    let mut units = 0;
    let end = text.char_indices().find(|(_, c)| {
        units += usize::from(c.is_ascii_alphabetic());
        units == 2
    });
    end.map_or_else(|| text.clone(), |(at, _)| text[..=at].to_owned())
}

/// Tells an error once, with its whole chain, and chooses the exit code.
pub fn failure(error: &anyhow::Error) -> Exit {
    if error.is::<Closed>() {
        return Exit::Done;
    }
    if let Some(bad) = error.downcast_ref::<BadConfig>() {
        match bad {
            BadConfig::Invalid(errors) => say(errors),
            BadConfig::Signature(_) | BadConfig::Unreadable { .. } | BadConfig::Zone { .. } => say(format_args!("palisade: {bad}")),
        }
        return Exit::Config;
    }
    if let Some(refused) = error.downcast_ref::<Refused>() {
        say(&refused.message);
        return refused.exit;
    }
    say(format_args!("palisade: {error:#}"));
    if error.downcast_ref::<Unreachable>().is_some() {
        Exit::NoDaemon
    } else if error.downcast_ref::<CannotEnforce>().is_some() {
        Exit::Degraded
    } else {
        Exit::Internal
    }
}

/// A message for people, on standard error. A closed standard error is nobody's problem.
pub fn say(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Rows in columns as wide as their widest cell, two blanks between; the last column runs free.
pub fn table(rows: &[Vec<String>]) -> Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let start = text.len();
        for (c, cell) in row.iter().enumerate() {
            if c + 1 == row.len() {
                text.push_str(cell);
            } else {
                text.push_str(&format!("{cell:<width$}  ", width = widths[c]));
            }
        }
        text.truncate(text.trim_end().len().max(start));
        text.push('\n');
    }
    out(|out| out.write_all(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_for_people_have_two_units() {
        assert_eq!(rough("1d2h3m4s".parse().unwrap()), "1d2h");
        assert_eq!(rough(Span::secs(59)), "59s");
        assert_eq!(rough(Span::millis(1500)), "2s");
        assert_eq!(rough(Span::millis(3_599_999)), "1h");
        assert_eq!(rough(Span::millis(20)), "20ms");
        assert_eq!(left(Until::Forever, Stamp(0)), "for ever");
    }
}
