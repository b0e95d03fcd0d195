//! What is wrong with a configuration, where, and what was probably meant.

use std::fmt;

use serde_json::{Value, json};

use super::nearest::shown;
use crate::attack::excerpt;

/// How many errors are told in full. Whoever has more fixes these first; the rest is counted.
pub const MOST_TOLD: usize = 50;

/// How many characters of a source line are quoted: a terminal's width, less the gutter.
const QUOTED: usize = 110;

/// How many characters before the error stay in view where a line is too long to be quoted whole.
const LEAD: usize = 40;

/// Where something was typed: which file, and the bytes it stands on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A typed value and where it was typed.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// A key that does not exist.
    #[error("unknown key `{key}` {table}")]
    UnknownKey {
        /// As typed, made printable.
        key: String,
        /// Where: `in [ban]`, `outside any table`.
        table: String,
    },
    /// A table that does not exist.
    #[error("unknown table [{0}]")]
    UnknownTable(String),
    /// Right, but for a later version.
    #[error("{0} is not in this build yet")]
    Later(String),
    /// The wrong type of value.
    #[error("`{key}` must be {want}, not {found}")]
    Type {
        /// Whose value.
        key: String,
        /// What it takes: `a duration like 10m`.
        want: String,
        /// What is there: `a boolean`.
        found: &'static str,
    },
    /// A value outside its range.
    #[error("`{key}` is {got}, but must be {range}: {why}")]
    Range {
        /// Whose value.
        key: String,
        /// As typed.
        got: String,
        /// `1 to 1000`.
        range: String,
        /// Why there is a bound.
        why: &'static str,
    },
    /// A value of the right type that means nothing.
    #[error("{0}")]
    Value(String),
    /// The same thing twice in a list.
    #[error("`{0}` is listed twice")]
    Duplicate(String),
    /// Two values that cannot both be meant.
    #[error("{0}")]
    Clash(String),
    /// Something needed that is not there.
    #[error("{0}")]
    Missing(String),
    /// More than is read.
    #[error("{0}")]
    TooLarge(String),
}

impl Problem {
    /// The word `--json` has for it.
    const fn kind(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "syntax",
            Self::UnknownKey { .. } => "unknown-key",
            Self::UnknownTable(_) => "unknown-table",
            Self::Later(_) => "later",
            Self::Type { .. } => "type",
            Self::Range { .. } => "range",
            Self::Value(_) => "value",
            Self::Duplicate(_) => "duplicate",
            Self::Clash(_) => "clash",
            Self::Missing(_) => "missing",
            Self::TooLarge(_) => "too-large",
        }
    }
}

/// One error with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name as it was passed in.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: Problem,
    /// What was probably meant.
    pub hint: Option<String>,
    /// The source line made printable, and the caret marks' offset and width in characters.
    quote: (String, usize, usize),
}

impl ConfigError {
    fn new((name, text): &(String, String), place: Place, problem: Problem, hint: Option<String>) -> Self {
        let start = floor_char_boundary(text, place.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_text = text[line_start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let column = text[line_start..start].chars().count();
        let end = floor_char_boundary(text, place.end).clamp(start, (line_start + line_text.len()).max(start));
        let width = text[start..end].chars().count().max(1);
        Self {
            file: excerpt(name.as_bytes()),
            line: before.matches('\n').count() + 1,
            column: column + 1,
            problem,
            hint,
            quote: quote(line_text, column, width),
        }
    }

    /// `{"file","line","column","kind","message","hint"}`.
    pub fn to_json(&self) -> Value {
        json!({
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "kind": self.problem.kind(),
            "message": self.problem.to_string(),
            "hint": self.hint,
        })
    }
}

/// The part of `line` around `column`, one printable character for each of its characters so that
/// the caret marks stand under the right ones; then where they stand and how many.
fn quote(line: &str, column: usize, width: usize) -> (String, usize, usize) {
    let skip = if column + width.min(LEAD) < QUOTED { 0 } else { column.saturating_sub(LEAD) };
    let printable = |c: char| match c {
        '\t' => ' ',
        c if shown(c.encode_utf8(&mut [0; 4])).chars().count() != 1 => '\u{fffd}',
        c => c,
    };
    let text = line.chars().skip(skip).take(QUOTED).map(printable).collect();
    (text, column - skip, width.min((QUOTED + skip).saturating_sub(column)).max(1))
}

/// The last character boundary at or before `at`.
fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, offset, width) = &self.quote;
        let number = self.line.to_string();
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.problem)?;
        writeln!(f, "  {number} | {text}")?;
        write!(f, "  {:gutter$} | {:offset$}{}", "", "", "^".repeat(*width), gutter = number.len())?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " {hint}"))
    }
}

impl std::error::Error for ConfigError {}

/// All that is wrong, in the files' order. Exit code 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// At least one, at most [`MOST_TOLD`].
    pub errors: Vec<ConfigError>,
    /// How many there are beyond these.
    pub more: usize,
}

impl ConfigErrors {
    /// A list of [`ConfigError::to_json`].
    pub fn to_json(&self) -> Value {
        self.errors.iter().map(ConfigError::to_json).collect()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Where errors are gathered while everything else goes on being read.
#[derive(Debug, Default)]
pub(super) struct Gather {
    found: Vec<(Place, Problem, Option<String>)>,
    more: usize,
}

impl Gather {
    pub(super) fn tell(&mut self, at: Place, problem: Problem, hint: Option<String>) {
        self.tell_with(at, || (problem, hint));
    }

    /// Like [`Self::tell`], for what takes time to word: an error that is only counted is not worded.
    pub(super) fn tell_with(&mut self, at: Place, word: impl FnOnce() -> (Problem, Option<String>)) {
        if self.found.len() < MOST_TOLD {
            let (problem, hint) = word();
            self.found.push((at, problem, hint));
        } else {
            self.more += 1;
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The errors with their lines, sorted by place.
    pub(super) fn finish(mut self, files: &[(String, String)]) -> ConfigErrors {
        self.found.sort_by_key(|(at, ..)| *at);
        let no_file = (String::from("built-in defaults"), String::new());
        let file = |at: Place| files.get(at.file).unwrap_or(&no_file);
        let errors = self.found.into_iter().map(|(at, problem, hint)| ConfigError::new(file(at), at, problem, hint)).collect();
        ConfigErrors { errors, more: self.more }
    }
}
