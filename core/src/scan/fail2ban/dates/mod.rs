//! fail2ban's `datepattern`: finds the date in a line, says what is to be cut out, and what moment it is.
//!
//! | part | what it does |
//! |---|---|
//! | `tokens` | `%Y`, `%ExH` ... to the regexes they stand for |
//! | `template` | one pattern: anchors, boundaries, what is cut out |
//! | `defaults` | the list used where no pattern is given |
//! | `program`, `run` | regexes without look-around, run byte by byte without allocating |
//! | `wild` | all other regexes |
//! | `stamps` | `EPOCH`, `LEPOCH` and `TAI64N` |
//! | `memory` | which template is tried first, and which match is distrusted |
//! | `value`, `zones` | the parts of a date to a moment |
//!
//! The rules are those of fail2ban's `server/datetemplate.py`, `datedetector.py` and `strptime.py`.

use super::super::times::LogClock;
use crate::time::Stamp;

/// A compiled `datepattern`. Immutable: share it.
#[derive(Clone, Debug)]
pub struct Detector {}

/// What finding dates remembers from one line to the next; one for each source. Bounded: a few
/// bytes a template.
#[derive(Clone, Debug, Default)]
pub struct DateMemory {}

/// A date in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateFound {
    /// Where the text begins that is cut out of the line, in bytes.
    pub start: usize,
    /// Where it ends. Equal to `start` where the pattern matched nothing at all: the line has no
    /// date by intent (`{NONE}`, or an optional date that is missing).
    pub end: usize,
    /// The moment. `None` where the text looks like a date and is none (30 February), or is empty:
    /// the line then counts at the last moment known, or now.
    pub at: Option<Stamp>,
}

/// Why a `datepattern` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DateError {
    /// Not a regex, or with a `%` letter that stands for nothing.
    #[error("the datepattern `{pattern}` cannot be used: {why}")]
    Wrong {
        /// The line of the datepattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Detector {
    /// Compiles a `datepattern`, one template a line; `None`: the default list.
    pub fn compile(_pattern: Option<&str>) -> Result<Self, DateError> {
        Ok(Self {})
    }

    /// Finds the date of the next line of a source.
    pub fn find(&self, _memory: &mut DateMemory, _line: &str, _clock: &LogClock) -> Option<DateFound> {
        None
    }
}
