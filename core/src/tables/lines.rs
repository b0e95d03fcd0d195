//! A stream cut into lines.

use super::{Item, LINE_MAX, Take};

/// What some editors put before the first line (the byte order mark in UTF-8).
pub(super) const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

/// What reads one line and says what it found.
pub(super) type Read<'a> = dyn FnMut(&[u8], &mut dyn FnMut(Item)) + 'a;

/// Cuts at newlines. A line that is too long is passed over whole, never cut into others.
#[derive(Debug)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come yet.
    part: Vec<u8>,
    /// How many lines were handed out.
    number: u64,
    /// The line that comes is too long, and that was said.
    skipping: bool,
}

impl Lines {
    /// A cutter that has `before` lines behind it.
    pub(super) const fn new(before: u64) -> Self {
        Self { part: Vec::new(), number: before, skipping: false }
    }

    /// How many lines are behind it.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether a line has begun that has not ended.
    pub(super) const fn unfinished(&self) -> bool {
        !self.part.is_empty() || self.skipping
    }

    /// Takes bytes, has each whole line read, and hands out what it says.
    pub(super) fn push(&mut self, mut bytes: &[u8], take: &mut Take<'_>, read: &mut Read<'_>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            self.number += 1;
            let number = self.number;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            let line = if self.part.is_empty() {
                line
            } else {
                self.part.extend_from_slice(&line[..line.len().min(LINE_MAX + 1)]);
                &self.part
            };
            if line.len() > LINE_MAX {
                take(number, too_long());
            } else {
                read(trimmed(line, number), &mut |item| take(number, item));
            }
            self.part.clear();
        }
        if self.skipping || bytes.is_empty() {
            return;
        }
        if self.part.len() + bytes.len() > LINE_MAX {
            self.part.clear();
            self.skipping = true;
            take(self.number + 1, too_long());
        } else {
            self.part.extend_from_slice(bytes);
        }
    }
}

/// Without the mark before the first line and blanks around it, a carriage return among them.
fn trimmed(line: &[u8], number: u64) -> &[u8] {
    let line = if number == 1 { line.strip_prefix(&BOM).unwrap_or(line) } else { line };
    line.trim_ascii()
}

fn too_long() -> Item {
    Item::Bad(format!("the line is longer than {LINE_MAX} bytes"))
}
