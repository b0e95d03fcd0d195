//! `EPOCH`, `LEPOCH` and `TAI64N`, which are no regexes here.
//!
//! | keyword | text | where |
//! |---|---|---|
//! | `EPOCH` | 10 or 11 digits, maybe a fraction of 3 to 6 | at the start, behind `[` at the start, in `audit(`; nothing but the edge of a word behind it |
//! | `LEPOCH` | the same, or milliseconds (maybe with a fraction of 1 to 6), or microseconds | the same |
//! | `TAI64N` | `@` and 24 hexadecimal digits | anywhere |
//! | with `^` or `{^LN-BEG}` before it | the same | at the start, behind at most two signs |
//!
//! Source: fail2ban's `server/datetemplate.py`, `DateEpoch` and `DateTai64n`. The conditions it states for
//! what stands behind `[` and `audit(` never apply there, so they do not here.

use memchr::memmem;

use super::class::{char_at, is_word};
use super::run::Hit;

/// What is before the number in a line of the audit log.
const AUDIT: &[u8] = b"audit(";

/// Hexadecimal digits of TAI64N: 16 for seconds, 8 for nanoseconds.
const TAI_DIGITS: usize = 24;

/// One of the keywords.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps {
    /// Bound to the start of the line.
    pub(super) begin: bool,
    /// Or milliseconds, or microseconds.
    pub(super) long: bool,
    pub(super) tai: bool,
}

impl Stamps {
    /// Of the keyword in capitals.
    pub(super) fn named(key: &str) -> Option<Self> {
        let word = key.strip_prefix("{^LN-BEG}").or_else(|| key.strip_prefix('^')).unwrap_or(key);
        let begin = word.len() != key.len();
        match word {
            "EPOCH" | "LEPOCH" => Some(Self { begin, long: word == "LEPOCH", tai: false }),
            "TAI64N" => Some(Self { begin, long: false, tai: true }),
            _ => None,
        }
    }

    /// The leftmost match that begins at `from` or later.
    pub(super) fn search(self, text: &[u8], from: usize) -> Option<Hit> {
        if self.begin {
            return if from == 0 { self.at_start(text) } else { None };
        }
        if self.tai {
            return memchr::memchr_iter(b'@', text.get(from..)?).find_map(|at| hit(from + at, from + at, self.end(text, from + at)?));
        }
        let audits = memmem::find_iter(text, AUDIT).filter(|at| !edge_word_before(text, *at)).map(|at| at + AUDIT.len());
        let square = text.starts_with(b"[").then_some(1);
        let mut places = [0].into_iter().chain(square).chain(audits).filter(|at| *at >= from);
        places.find_map(|at| hit(at, at, self.end(text, at)?))
    }

    fn at_start(self, text: &[u8]) -> Option<Hit> {
        // As many signs as there are, at most two; one less where `@` was taken for one.
        let mut places = [Some(0), None, None];
        let mut at = 0;
        for place in places.iter_mut().skip(1) {
            match char_at(text, at) {
                Some(c) if !is_word(c) => at += c.len_utf8(),
                _ => break,
            }
            *place = Some(at);
        }
        places.into_iter().rev().flatten().find_map(|at| hit(0, at, self.end(text, at)?))
    }

    /// Where the text ends that begins at `at`.
    fn end(self, text: &[u8], at: usize) -> Option<usize> {
        if self.tai {
            let digits = text.strip_prefix_at(at, b"@")?.get(..TAI_DIGITS)?;
            let end = at + 1 + TAI_DIGITS;
            return (digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) && edge(text, end)).then_some(end);
        }
        let seconds = digits(text, at);
        if self.long {
            return [11, 10].into_iter().filter(|n| *n <= seconds).find_map(|n| long_end(text, at + n));
        }
        [11, 10].into_iter().filter(|n| *n <= seconds && edge(text, at + n)).find_map(|n| {
            let end = at + n;
            let parts = if text.get(end) == Some(&b'.') { digits(text, end + 1).min(6) } else { 0 };
            let fractions = (3..=parts).rev().map(|parts| end + 1 + parts);
            fractions.chain([end]).find(|end| edge(text, *end))
        })
    }
}

/// Milliseconds with a fraction, microseconds, milliseconds, nothing: what fits first.
fn long_end(text: &[u8], end: usize) -> Option<usize> {
    let more = digits(text, end);
    let millis = (more >= 3).then_some(end + 3);
    let parts = match millis.and_then(|end| text.get(end)) {
        Some(b'.') => digits(text, end + 4).min(6),
        _ => 0,
    };
    let fractions = (1..=parts).rev().map(|parts| end + 4 + parts);
    let micros = (more >= 6).then_some(end + 6);
    fractions.chain(micros).chain(millis).chain([end]).find(|end| edge(text, *end))
}

fn hit(start: usize, from: usize, end: usize) -> Option<Hit> {
    let mut hit = Hit::new(start, end);
    hit.note(1, from, end);
    Some(hit)
}

fn digits(text: &[u8], at: usize) -> usize {
    // 20 are more than any number here has.
    text.iter().skip(at).take(20).take_while(|b| b.is_ascii_digit()).count()
}

/// Whether a word ends behind the letter or digit before `at`.
fn edge(text: &[u8], at: usize) -> bool {
    !char_at(text, at).is_some_and(is_word)
}

fn edge_word_before(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let start = before.iter().rposition(|b| b & 0xc0 != 0x80);
    start.and_then(|start| char_at(before, start)).is_some_and(is_word)
}

trait At {
    fn strip_prefix_at(&self, at: usize, prefix: &[u8]) -> Option<&[u8]>;
}

impl At for [u8] {
    fn strip_prefix_at(&self, at: usize, prefix: &[u8]) -> Option<&[u8]> {
        self.get(at..)?.strip_prefix(prefix)
    }
}
