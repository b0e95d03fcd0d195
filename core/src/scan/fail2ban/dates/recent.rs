//! The last date, at which lines without one count: fail2ban's `__lastDate`.
//!
//! To read a date takes longer than to find it, and hardly anybody asks for the last one. So of lines that
//! only pass by the text is kept, and read when it is asked for. The text of a date that is none (30 February,
//! second 60) must not be kept, as the one before it counts on: what cannot be seen at once to be a date is read.

use std::sync::Arc;

use super::run::Hit;
use super::template::{Reading, Template};
use crate::time::Stamp;

/// Longer texts are read at once.
const ROOM: usize = 96;

/// The last date.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    at: Option<Stamp>,
    /// How it was written, where that is known.
    kept: Option<Kept>,
    /// Whether `at` is older than what is kept.
    unread: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    template: usize,
    hit: Hit,
    text: [u8; ROOM],
    /// When its line was seen: a date without a year is near to it.
    now: Stamp,
}

/// A date as it stands in a line.
pub(super) struct Written<'a> {
    pub(super) template: usize,
    pub(super) hit: &'a Hit,
    /// The line, at least up to the date's end.
    pub(super) line: &'a [u8],
    pub(super) now: Stamp,
}

impl Kept {
    fn text(&self) -> &[u8] {
        self.text.get(..self.hit.end).unwrap_or_default()
    }

    fn of(written: &Written<'_>) -> Option<Self> {
        let mut text = [0; ROOM];
        text.get_mut(..written.hit.end)?.copy_from_slice(written.line.get(..written.hit.end)?);
        Some(Self { template: written.template, hit: *written.hit, text, now: written.now })
    }
}

impl Recent {
    /// The last date; what was kept of it is read by `read`.
    pub(super) fn at(&mut self, read: impl FnOnce(Written<'_>) -> Option<Stamp>) -> Option<Stamp> {
        if let Some(kept) = self.kept.as_ref().filter(|_| self.unread) {
            self.at = read(Written { template: kept.template, hit: &kept.hit, line: kept.text(), now: kept.now });
            self.unread = false;
        }
        self.at
    }

    /// Another one, known otherwise.
    pub(super) fn set(&mut self, at: Option<Stamp>) {
        *self = Self { at, kept: None, unread: false };
    }

    /// Another one, which has been read.
    pub(super) fn read(&mut self, written: Written<'_>, at: Option<Stamp>) {
        *self = Self { at, kept: Kept::of(&written), unread: false };
    }

    /// Another one, which is read later; `false` where it must be read now to know that it is one.
    pub(super) fn pass(&mut self, written: &Written<'_>, template: Option<&Arc<Template>>) -> bool {
        let (Some(kept), Some(template)) = (&mut self.kept, template) else { return false };
        if kept.template != written.template || kept.hit != *written.hit {
            return false;
        }
        let Some(text) = written.line.get(..written.hit.end) else { return false };
        if kept.now == written.now && kept.text() == text {
            return true;
        }
        if sure(template, kept, text)
            && let Some(room) = kept.text.get_mut(..text.len())
        {
            room.copy_from_slice(text);
            (kept.now, self.unread) = (written.now, true);
            return true;
        }
        false
    }
}

/// Whether a text with the same fields at the same places as one that is a date is one too.
fn sure(template: &Template, kept: &Kept, text: &[u8]) -> bool {
    let Reading::Fields(fields) = template.reading() else { return false };
    let taken = || fields.iter().filter_map(|(field, group)| Some((*field, kept.hit.group(*group)?)));
    let year = taken().any(|(field, _)| matches!(field, 'Y' | 'y'));
    taken().all(|(field, (start, end))| {
        let (Some(new), Some(old)) = (text.get(start..end), kept.text().get(start..end)) else { return false };
        match field {
            // Of 29 February there is none in most years.
            'd' => (year && new == old) || number(new).is_some_and(|day| (1..=28).contains(&day)),
            'H' => number(new).is_some_and(|hour| hour < 24),
            'M' | 'S' => number(new).is_some_and(|part| part < 60),
            'm' | 'b' | 'B' | 'Y' | 'y' | 'z' | 'a' | 'A' => new == old,
            'f' => true,
            _ => false,
        }
    })
}

/// A number of one or two digits, perhaps with a blank before it.
fn number(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| byte.is_ascii_digit().then_some(byte & 15);
    match *text {
        [b' ', one] | [one] => digit(one),
        [ten, one] => Some(digit(ten)? * 10 + digit(one)?),
        _ => None,
    }
}
