//! The last lines, over which one expression may match (`maxlines`), and which of them it did match.
//!
//! A port of fail2ban's `Regex.search` (`server/failregex.py`).

use std::collections::VecDeque;

/// However many lines are asked for, no more than this is kept of them, in bytes.
const MOST: usize = 256 * 1024;

/// Lines without their dates, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    lines: VecDeque<String>,
}

impl Lines {
    /// Adds a line; only the last `most` are kept.
    pub(super) fn push(&mut self, line: &str, most: usize) {
        self.lines.push_back(line.to_owned());
        let mut size: usize = self.lines.iter().map(|line| line.len() + 1).sum();
        while self.lines.len() > most.max(1) || (size > MOST && self.lines.len() > 1) {
            size -= self.lines.pop_front().map_or(0, |line| line.len() + 1);
        }
    }

    /// All of them, each with its newline.
    pub(super) fn join(&self, into: &mut String) {
        into.clear();
        for line in &self.lines {
            into.push_str(line);
            into.push('\n');
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Nothing but this.
    pub(super) fn replace(&mut self, line: &str) {
        self.lines.clear();
        self.lines.push_back(line.to_owned());
    }

    /// Those that a match from `start` to `end` of `text` lies in, and the others. `skipped` is what
    /// `<SKIPLINES>` passed over.
    pub(super) fn matched(&self, text: &str, (start, end): (usize, usize), skipped: &str) -> (Self, Self) {
        let lines: Vec<&String> = self.lines.iter().collect();
        if lines.len() <= 1 {
            return (self.clone(), Self::default());
        }
        let bytes = text.as_bytes();
        let newlines = |upto: usize| bytes.iter().take(upto).filter(|byte| **byte == b'\n').count();
        let before = bytes.get(..=start).unwrap_or(bytes);
        let first = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let from = end.checked_sub(1).unwrap_or_else(|| bytes.len().saturating_sub(1));
        let last = bytes.iter().skip(from).position(|byte| *byte == b'\n').map_or(bytes.len(), |at| from + at + 1);
        let (first, last) = (newlines(first).min(lines.len()), newlines(last).min(lines.len()));
        let mut matched: Vec<&String> = lines.get(first..last).unwrap_or_default().to_vec();
        let mut others: Vec<&String> = lines.get(..first).unwrap_or_default().to_vec();
        let mut passed = 0;
        for skip in split(skipped) {
            let found = matched.iter().skip(passed).position(|line| *line == skip);
            if let Some(at) = found {
                passed += at;
                others.push(matched.remove(passed));
            }
        }
        others.extend_from_slice(lines.get(last.max(first)..).unwrap_or_default());
        let own = |lines: Vec<&String>| Self { lines: lines.into_iter().cloned().collect() };
        (own(matched), own(others))
    }
}

/// Python's `str.splitlines`: what looks like several lines to it is none of those that were read.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let ends = |c| matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
        let Some((line, after)) = rest.find(ends).and_then(|at| rest.split_at_checked(at)) else {
            return Some(std::mem::take(&mut rest));
        };
        let end = if after.starts_with("\r\n") { 2 } else { after.chars().next().map_or(0, char::len_utf8) };
        rest = after.get(end..).unwrap_or_default();
        Some(line)
    })
}
