//! How the story is told: lines for people, or one JSON object a step.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::Exit;
use crate::cli::print::{self, Painted};

/// What was told so far, and what of it was not seen.
pub(super) struct Tale {
    json: bool,
    began: Instant,
    steps: u32,
    missing: Vec<&'static str>,
}

impl Tale {
    /// Begins it.
    pub(super) fn begin(json: bool) -> Result<Self> {
        if !json {
            print::line("palisade demo: real packets in namespaces made for this; nothing of it happens on this host\n")?;
        }
        Ok(Self { json, began: Instant::now(), steps: 0, missing: Vec::new() })
    }

    /// Something on the way to the next step; for people only.
    pub(super) fn detail(&self, text: &str) -> Result<()> {
        if self.json { Ok(()) } else { print::line(format_args!("        {}", Painted(2, text))) }
    }

    /// A step, and whether it was seen to be so.
    pub(super) fn step(&mut self, name: &'static str, seen: bool, text: impl Display, facts: Value) -> Result<()> {
        self.steps += 1;
        if !seen {
            self.missing.push(name);
        }
        let text = text.to_string();
        if self.json {
            return print::json(&json!({ "v": 1, "step": self.steps, "name": name, "seen": seen, "text": text, "facts": facts }));
        }
        let mark = if seen { Painted(32, "ok") } else { Painted(31, "NOT SEEN") };
        let text = text.replace('\n', "\n        ");
        print::line(format_args!("{:>2}  {mark}  {text}", self.steps))
    }

    /// Whether a step was not seen.
    pub(super) const fn something_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Ends it: the answer of the whole.
    pub(super) fn end(self) -> Result<Exit> {
        let seconds = self.began.elapsed().as_secs_f64();
        if self.json {
            print::json(&json!({ "v": 1, "steps": self.steps, "seconds": seconds, "not_seen": self.missing }))?;
        } else if self.missing.is_empty() {
            print::line(format_args!("\nAll {} steps were seen, in {seconds:.1} s.", self.steps))?;
        } else {
            print::line(format_args!("\nNot seen: {}.", self.missing.join(", ")))?;
        }
        Ok(if self.missing.is_empty() { Exit::Done } else { Exit::No })
    }
}

/// Milliseconds to the hundredth, as a number; null where it did not happen.
pub(super) fn millis(time: Option<Duration>) -> Option<f64> {
    time.map(|time| (time.as_secs_f64() * 100_000.0).round() / 100.0)
}

/// The same for people.
pub(super) fn ms(time: Option<Duration>) -> String {
    millis(time).map_or_else(|| "never".to_owned(), |ms| format!("{ms:.2} ms"))
}
