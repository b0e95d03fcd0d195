//! How far a long verb has come: a bar on a terminal, nothing in a pipe.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};
use palisade_core::time::{Span, Tick};
use palisade_os::clock;

/// What is over sooner needs no bar.
const QUIET: Span = Span::millis(500);

/// A bar that shows itself when it is worth it.
pub(super) struct Progress {
    /// How many bytes there are; `None` where that is not known.
    total: Option<u64>,
    unit: &'static str,
    since: Tick,
    bar: Option<ProgressBar>,
    shown: bool,
}

impl Progress {
    /// Begins. With what is to be read in bytes, where that is known.
    pub(super) fn begin(total: Option<u64>) -> Self {
        Self { total, unit: "rows", since: clock::now().tick, bar: None, shown: io::stderr().is_terminal() }
    }

    /// What is counted, where it is not rows.
    pub(super) const fn of(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// So many bytes are read, and so many rows were in them.
    pub(super) fn at(&mut self, bytes: u64, rows: u64) {
        if !self.shown || (self.bar.is_none() && clock::now().tick.since(self.since) < QUIET) {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| match self.total {
            Some(total) => ProgressBar::new(total).with_style(style("{wide_bar} {percent}%  {msg}  {eta} left")),
            None => ProgressBar::new_spinner().with_style(style("{spinner} {msg}  {elapsed}")),
        });
        bar.set_position(bytes);
        bar.set_message(format!("{rows} {}", self.unit));
    }

    /// Takes the bar away: what was done is told in words.
    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn style(template: &str) -> ProgressStyle {
    // Both templates are ours; one that were wrong would leave the plain bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
