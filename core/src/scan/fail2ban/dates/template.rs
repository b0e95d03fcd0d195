//! One pattern: anchors, boundaries, what is cut out of the line.
//!
//! A pattern's text is rewritten before it is a regex, step by step as fail2ban's
//! `server/datetemplate.py` does:
//!
//! | in the pattern | becomes |
//! |---|---|
//! | `{^LN-BEG}` in front | `^(?:\W{0,2})?`: at the start, behind at most two signs |
//! | `{UNB}` in front | no boundaries |
//! | `**` at an end | no boundary at that end |
//! | `^` in front, `$` at the end | no boundary at that end |
//! | none of these | `(?=^|\b|\W)` before and `(?=\b|\W|$)` behind: no letter or digit on both sides |
//! | no unnamed group | all of it (without `^` and `$`) is group 1, which is cut out of the line |
//! | a name (`%a %b %p` ...) | read in any case |

use std::sync::{LazyLock, OnceLock};

use regex::Regex;

use super::mould::Mould;
use super::program::Program;
use super::run::Hit;
use super::stamps::Stamps;
use super::tokens;
use super::wild::Wild;

/// Bound to the start of the line.
pub(super) const LINE_BEGIN: u8 = 8;
/// Bound to the end of the line.
pub(super) const LINE_END: u8 = 4;

/// Before: no letter or digit on both sides, and not at the very end.
pub(super) const EDGE_BEGIN: &str = r"(?=^|\b|\W)";
/// Behind: no letter or digit on both sides.
pub(super) const EDGE_END: &str = r"(?=\b|\W|$)";

/// Longer patterns are refused: none is, and each byte of one costs memory.
const LONGEST: usize = 4096;

/// A template of a `datepattern`.
#[derive(Debug)]
pub(super) struct Template {
    /// What tells it from others of the same list.
    pub(super) name: String,
    pub(super) flags: u8,
    pub(super) weight: f64,
    kind: Kind,
    /// Compiled at the first use: most of the default list is never needed.
    matcher: OnceLock<Result<Matcher, String>>,
}

/// What the parts found stand for.
#[derive(Debug)]
enum Kind {
    /// Named fields of a regex.
    Fields(String),
    /// Seconds since 1970 in group 2 of a regex; `true`: or milliseconds, or microseconds.
    Epoch(String, bool),
    /// `EPOCH`, `LEPOCH`, `TAI64N` by themselves.
    Stamps(Stamps),
}

#[derive(Debug)]
enum Matcher {
    Program(Box<Program>),
    Wild(Box<Wild>),
}

/// What the text of a date is, before it is a moment.
pub(super) enum Reading<'t> {
    /// Values by the names of the groups.
    Fields(&'t [(char, u8)]),
    /// Seconds since 1970; `true`: or milliseconds, or microseconds.
    Epoch { group: u8, long: bool },
    /// `@` and 24 hexadecimal digits.
    Tai,
}

/// Where a word may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    Anywhere,
    Word,
    Line,
}

impl Template {
    /// Reads one line of a `datepattern`; not `{DATE}` and not the lists.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        if pattern.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        let key = if pattern.contains('%') { pattern.to_owned() } else { pattern.to_uppercase() };
        if let Some(stamps) = Stamps::named(&key) {
            let flags = if stamps.begin { LINE_BEGIN } else { 0 };
            return Ok(Self::of(key, flags, Kind::Stamps(stamps)));
        }
        if EPOCH_TAG.is_match(pattern) && unescaped(&EPOCH_TAG, pattern).next().is_some() {
            return Self::epoch(pattern, key.contains("LEPOCH"));
        }
        Self::fields(pattern)
    }

    /// The same with another weight.
    pub(super) fn weighing(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    const fn of(name: String, flags: u8, kind: Kind) -> Self {
        Self { name, flags, weight: 1.0, kind, matcher: OnceLock::new() }
    }

    fn fields(pattern: &str) -> Result<Self, String> {
        let (mut text, mut begin, mut end) = (pattern, Begin::Word, true);
        if let Some(rest) = text.strip_prefix("{UNB}") {
            (text, begin, end) = (rest, Begin::Anywhere, false);
        } else if let Some(rest) = text.strip_prefix("{^LN-BEG}") {
            (text, begin) = (rest, Begin::Line);
        }
        let names = tokens::has_names(text);
        let mut regex = tokens::expand(text)?;
        if names {
            regex.insert_str(0, "(?iu)");
        }
        let (regex, flags) = bound(&regex, begin, end);
        Ok(Self::of(pattern.to_owned(), flags, Kind::Fields(regex)))
    }

    fn epoch(pattern: &str, long: bool) -> Result<Self, String> {
        let digits = if long { r"(\d{10,11}(?:\d{3}(?:\.\d{1,6}|\d{3})?)?)" } else { r"(\d{10,11}\b(?:\.\d{3,6})?)" };
        let mut regex = String::new();
        let mut from = 0;
        for (start, end) in unescaped(&EPOCH_TAG, pattern) {
            regex.push_str(&pattern[from..start]);
            regex.push_str(digits);
            from = end;
        }
        regex.push_str(&pattern[from..]);
        if !grouped(pattern) {
            regex = format!("({regex})");
        }
        let (regex, flags) = bound(&regex, Begin::Word, true);
        Ok(Self::of(pattern.to_owned(), flags, Kind::Epoch(regex, long)))
    }

    /// Compiles it, if that has not been done.
    pub(super) fn check(&self) -> Result<(), String> {
        match &self.kind {
            Kind::Fields(regex) | Kind::Epoch(regex, _) => self.matcher(regex).as_ref().map(|_| ()).map_err(Clone::clone),
            Kind::Stamps(_) => Ok(()),
        }
    }

    /// The regex it is.
    #[cfg(test)]
    pub(super) fn regex(&self) -> Option<&str> {
        match &self.kind {
            Kind::Fields(regex) | Kind::Epoch(regex, _) => Some(regex),
            Kind::Stamps(_) => None,
        }
    }

    fn matcher(&self, regex: &str) -> &Result<Matcher, String> {
        self.matcher.get_or_init(|| match Program::compile(regex) {
            Some(program) => Ok(Matcher::Program(Box::new(program))),
            None => Wild::compile(regex).map(|wild| Matcher::Wild(Box::new(wild))),
        })
    }

    /// The leftmost match in `line[..to]` that begins at `from` or later. Takes its steps from `left`.
    pub(super) fn search(&self, line: &str, (from, to): (usize, usize), left: &mut usize) -> Option<Hit> {
        let line = line.get(..to)?;
        match &self.kind {
            Kind::Stamps(stamps) => stamps.search(line.as_bytes(), from),
            Kind::Fields(regex) | Kind::Epoch(regex, _) => match self.matcher(regex).as_ref().ok()? {
                Matcher::Program(program) => program.search(line.as_bytes(), from, left),
                Matcher::Wild(wild) => wild.search(line, from, left),
            },
        }
    }

    /// The same search as a mould, where it can be one; see [`Mould::of`].
    pub(super) fn mould(&self, line: &[u8], (from, to): (usize, usize), cut: bool) -> Option<Mould> {
        match &self.kind {
            Kind::Fields(regex) | Kind::Epoch(regex, _) => match self.matcher(regex).as_ref().ok()? {
                Matcher::Program(program) => Mould::of(program, line, (from, to), cut),
                Matcher::Wild(_) => None,
            },
            Kind::Stamps(_) => None,
        }
    }

    /// How a match is read.
    pub(super) fn reading(&self) -> Reading<'_> {
        match &self.kind {
            Kind::Stamps(stamps) if stamps.tai => Reading::Tai,
            Kind::Stamps(stamps) => Reading::Epoch { group: 1, long: stamps.long },
            Kind::Epoch(_, long) => Reading::Epoch { group: 2, long: *long },
            Kind::Fields(regex) => Reading::Fields(match self.matcher(regex) {
                Ok(Matcher::Program(program)) => program.fields(),
                Ok(Matcher::Wild(wild)) => wild.fields(),
                Err(_) => &[],
            }),
        }
    }
}

#[expect(clippy::unwrap_used, reason = "constants, compiled by the tests of this module")]
fn constant(regex: &str) -> Regex {
    Regex::new(regex).unwrap()
}

/// `{EPOCH}` and `{LEPOCH}` within a pattern.
static EPOCH_TAG: LazyLock<Regex> = LazyLock::new(|| constant(r"(?i)\{L?EPOCH\}"));
/// Where each default pattern goes.
pub(super) static DATE_TAG: LazyLock<Regex> = LazyLock::new(|| constant(r"(?i)\{DATE\}"));
/// Flags for the whole regex.
static FLAGS: LazyLock<Regex> = LazyLock::new(|| constant(r"\(\?[a-z]+\)"));
/// A start that needs no boundary.
static BOUND_BEGIN: LazyLock<Regex> = LazyLock::new(|| constant(r"^\(*(?:\(\?\w+\))?(?:\^|\(*\*\*|\((?:\?:)?\^)"));
/// An end that needs no boundary.
static BOUND_END: LazyLock<Regex> = LazyLock::new(|| constant(r"(?:^|[^\\])(?:\$\)?|\\b|\\s|\*\*\)*)$"));
/// `**` at the start and at the end.
static STARS_BEGIN: LazyLock<Regex> = LazyLock::new(|| constant(r"^\(*(?:\(\?\w+\))?\(*(\*\*)"));
static STARS_END: LazyLock<Regex> = LazyLock::new(|| constant(r"(?:^|[^\\])(\*\*)\)*$"));
/// What becomes group 1: all but flags, `^` and `$`.
static WHOLE: LazyLock<Regex> = LazyLock::new(|| constant(r"^((?:\(\?\w+\))?\^?(?:\(\?\w+\))?)(.*?)(\$?)$"));
/// Bound to the start of the line, to its end.
static LINE_START: LazyLock<Regex> = LazyLock::new(|| constant(r"^(?:\(\?\w+\))?(?:\^|\((?:\?:)?\^(?:[^|]|$))"));
static LINE_STOP: LazyLock<Regex> = LazyLock::new(|| constant(r"(?:^|[^\\|])\$\)?$"));
/// Boundaries of a default pattern, taken off where it goes into another.
static OUTER: LazyLock<Regex> = LazyLock::new(|| constant(r"^\{UNB\}|^\{\^LN-BEG\}"));

/// A default pattern without its boundaries.
pub(super) fn unbound(pattern: &str) -> &str {
    OUTER.find(pattern).map_or(pattern, |found| &pattern[found.end()..])
}

/// Where `tag` stands without a backslash before it.
pub(super) fn unescaped<'t>(tag: &'static Regex, text: &'t str) -> impl Iterator<Item = (usize, usize)> + 't {
    tag.find_iter(text).map(|found| (found.start(), found.end())).filter(|(start, _)| !text[..*start].ends_with('\\'))
}

/// Whether a regex has an unnamed group, told by its parentheses.
fn grouped(regex: &str) -> bool {
    regex.match_indices('(').any(|(at, _)| {
        let before = &regex[..at];
        !before.ends_with("(?") && !before.ends_with('\\') && !regex[at + 1..].starts_with('?')
    })
}

/// Adds boundaries and group 1.
fn bound(regex: &str, begin: Begin, end: bool) -> (String, u8) {
    let mut text = regex.trim().to_owned();
    let flag = unescaped(&FLAGS, &text).next().map(|(start, end)| text[start..end].to_owned());
    if let Some(flag) = &flag {
        text = text.replacen(flag.as_str(), "", 1);
    }
    let begins = begin != Begin::Anywhere && !BOUND_BEGIN.is_match(&text);
    let ends = end && !BOUND_END.is_match(&text);
    if !grouped(&text) {
        text = WHOLE.replace(&text, "$1($2)$3").into_owned();
    }
    let mut flags = 0;
    if begins && begin == Begin::Line {
        flags |= LINE_BEGIN;
        text.insert_str(0, r"^(?:\W{0,2})?");
    } else if begins {
        text.insert_str(0, EDGE_BEGIN);
    }
    if ends {
        text.push_str(EDGE_END);
    }
    if LINE_START.is_match(&text) {
        flags |= LINE_BEGIN;
    }
    if LINE_STOP.is_match(&text) {
        flags |= LINE_END;
    }
    for stars in [&STARS_BEGIN, &STARS_END] {
        if let Some(found) = stars.captures(&text).and_then(|found| found.get(1)).map(|found| found.range()) {
            text.replace_range(found, "");
        }
    }
    (flag.unwrap_or_default() + &text, flags)
}
