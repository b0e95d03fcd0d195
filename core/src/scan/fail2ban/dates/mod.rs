//! fail2ban's `datepattern`: finds the date in a line, says what is to be cut out, and what moment it is.
//!
//! | part | what it does |
//! |---|---|
//! | `tokens` | `%Y`, `%ExH` ... to the regexes they stand for |
//! | `template` | one pattern: anchors, boundaries, what is cut out |
//! | `defaults` | the list used where no pattern is given |
//! | `class`, `parse`, `program`, `run` | regexes without look-around, run byte by byte without allocating |
//! | `wild` | all other regexes |
//! | `stamps` | `EPOCH`, `LEPOCH` and `TAI64N` |
//! | `memory` | which template is tried first, and which match is distrusted |
//! | `mould` | lines whose date is where the last one's was, without a search |
//! | `recent` | the last date, read when somebody asks |
//! | `value`, `zones` | the parts of a date to a moment |
//!
//! The rules are those of fail2ban's `server/datetemplate.py`, `datedetector.py` and `strptime.py`.

mod class;
mod defaults;
mod memory;
mod mould;
mod parse;
mod program;
mod recent;
mod run;
mod stamps;
mod template;
mod tokens;
mod value;
mod wild;
mod zones;

use std::collections::HashSet;
use std::sync::Arc;

use super::super::times::LogClock;
use crate::time::Stamp;
use memory::Fitting;
use recent::Written;
use run::Hit;
use template::Template;

pub use memory::DateMemory;

/// More templates than this are refused; `{DATE}` makes 17 of one.
const MOST: usize = 512;

/// A compiled `datepattern`. Immutable: share it.
#[derive(Clone, Debug)]
pub struct Detector {
    templates: Vec<Arc<Template>>,
}

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
    /// The same line again.
    #[error("the datepattern `{0}` stands there twice; take one away")]
    Twice(String),
    /// More than anybody needs.
    #[error("the datepattern has more than {MOST} templates; take some away")]
    Many,
}

impl Detector {
    /// Compiles a `datepattern`, one template a line; `None`: the default list.
    ///
    /// | line | templates |
    /// |---|---|
    /// | `{^LN-BEG}` | those of the default list that are bound to the start of the line |
    /// | `{DEFAULT}` | the default list if nothing else is there, else none (as fail2ban has it) |
    /// | `{NONE}` | one that matches nothing at the start of each line |
    /// | with `{DATE}` in it | one for each default pattern, which goes in there |
    /// | else | one |
    pub fn compile(pattern: Option<&str>) -> Result<Self, DateError> {
        let mut list = List::default();
        for line in pattern.unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty()) {
            list.add(line)?;
        }
        if list.templates.is_empty() {
            list.templates.clone_from(&defaults::ALL);
        }
        Ok(Self { templates: list.templates })
    }

    /// Finds the date of the next line of a source.
    pub fn find(&self, memory: &mut DateMemory, line: &str, clock: &LogClock) -> Option<DateFound> {
        let (template, hit) = memory.search(&self.templates, line, clock.now.0.div_euclid(1000))?;
        // A group that took no part cuts out nothing.
        let (start, end) = hit.group(1).unwrap_or((0, 0));
        let at = if start == end { None } else { self.moment(template, &hit, line, clock) };
        if at.is_some() {
            memory.recent.read(Written { template, hit: &hit, line: line.as_bytes(), now: clock.now }, at);
        }
        Some(DateFound { start, end, at })
    }

    /// Passes a line by of which nothing but the date matters to what comes after: what [`Self::find`] would
    /// remember is remembered. `false` where that takes a search, or where `fine` says so of what would be cut
    /// out; then nothing is.
    pub fn pass(&self, memory: &mut DateMemory, line: &[u8], clock: &LogClock, fine: impl FnOnce(usize, usize) -> bool) -> bool {
        let Some(Fitting { template, hit }) = memory.fitting(line) else { return false };
        let hit = *hit;
        let (start, end) = hit.group(1).unwrap_or((0, 0));
        if !fine(start, end) {
            return false;
        }
        memory.fitted(line, clock.now.0.div_euclid(1000));
        let written = Written { template, hit: &hit, line, now: clock.now };
        if start < end && !memory.recent.pass(&written, self.templates.get(template)) {
            let text = line.get(..hit.end).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default();
            if let Some(at) = self.moment(template, &hit, text, clock) {
                memory.recent.read(written, Some(at));
            }
        }
        true
    }

    /// The last date that was found, or told by [`DateMemory::set_recent`].
    pub fn recent(&self, memory: &mut DateMemory, clock: &LogClock) -> Option<Stamp> {
        memory.recent.at(|written| {
            let text = str::from_utf8(written.line).unwrap_or_default();
            self.moment(written.template, written.hit, text, &LogClock { now: written.now, ..clock.clone() })
        })
    }

    fn moment(&self, template: usize, hit: &Hit, line: &str, clock: &LogClock) -> Option<Stamp> {
        value::moment(self.templates.get(template)?, hit, line, clock)
    }
}

/// Templates as they are gathered.
#[derive(Default)]
struct List {
    templates: Vec<Arc<Template>>,
    names: HashSet<String>,
}

impl List {
    fn add(&mut self, line: &str) -> Result<(), DateError> {
        let key = if line.contains('%') { line.to_owned() } else { line.to_uppercase() };
        let wrong = |why| DateError::Wrong { pattern: line.to_owned(), why };
        match key.as_str() {
            "{^LN-BEG}" => self.all(defaults::at_start(), line),
            "{DEFAULT}" => Ok(()),
            "{NONE}" => self.one(Template::new("{UNB}^").map_err(wrong)?, line, false),
            _ if key.contains("{DATE}") => {
                let made = defaults::PATTERNS.iter().map(|pattern| Template::new(&with_date(line, pattern)));
                let made = made.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
                // If one is a regex, all are.
                made.iter().take(1).try_for_each(Template::check).map_err(wrong)?;
                self.all(made.into_iter().map(Arc::new), line)
            }
            _ => {
                let template = Template::new(line).map_err(wrong)?;
                template.check().map_err(wrong)?;
                self.one(template, line, false)
            }
        }
    }

    /// Those of a list; what is there already stays where it is, except that the first lines have none.
    fn all(&mut self, templates: impl Iterator<Item = Arc<Template>>, line: &str) -> Result<(), DateError> {
        let known = !self.templates.is_empty();
        templates.into_iter().try_for_each(|template| self.push(template, line, known))
    }

    fn one(&mut self, template: Template, line: &str, known: bool) -> Result<(), DateError> {
        self.push(Arc::new(template), line, known)
    }

    fn push(&mut self, template: Arc<Template>, line: &str, known: bool) -> Result<(), DateError> {
        if self.templates.len() >= MOST {
            return Err(DateError::Many);
        }
        if self.names.insert(template.name.clone()) {
            self.templates.push(template);
        } else if !known {
            return Err(DateError::Twice(line.to_owned()));
        }
        Ok(())
    }
}

/// A line with a default pattern where it says `{DATE}`.
fn with_date(line: &str, pattern: &str) -> String {
    // fail2ban puts the names of keywords in, and so finds the word where it is not all of the line.
    let date = if pattern == "EPOCH" { "Epoch" } else { template::unbound(pattern) };
    let mut out = String::new();
    let mut from = 0;
    for (start, end) in template::unescaped(&template::DATE_TAG, line) {
        out.push_str(&line[from..start]);
        out.push_str(date);
        from = end;
    }
    out + &line[from..]
}

#[cfg(test)]
mod tests;
