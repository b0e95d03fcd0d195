//! Lines whose date is where the last one's was, told without a search.
//!
//! A search asks its text certain things at certain places: whether there is a digit, a colon, a letter of a
//! month. While one finds a date, a [`Mould`] notes what was asked and answered ([`Trace`]). Any text that gives the
//! same answers at these places leads the same search the same way to the same groups, so that a line that fits
//! needs no search. Of what stands elsewhere in a line nothing was asked, so it does not matter.
//!
//! Moulds are of texts that are ASCII as far as they were asked about; others are searched.

use super::class::Class;
use super::program::Program;
use super::run::Hit;

/// Farther into a line no mould goes.
const LONGEST: usize = 128;

/// A search that took as many steps might end at its limit in a shorter text; none of a date does.
const ASKED: u32 = 1024;

/// Is told what a search asks of its text.
pub(super) trait Trace {
    /// Whether the character at `at` is of this class.
    fn asked(&mut self, text: &[u8], at: usize, class: impl FnOnce() -> Class);
}

/// A search that nobody watches.
impl Trace for () {
    #[inline]
    fn asked(&mut self, _: &[u8], _: usize, _: impl FnOnce() -> Class) {}
}

/// What a search asked, and what it found.
#[derive(Clone, Debug)]
pub(super) struct Mould {
    /// For each place the first of a row of characters of ASCII that all give the same answers...
    first: Vec<u8>,
    /// ... and how many follow it: to compare with these takes some bytes at once.
    more: Vec<u8>,
    pub(super) hit: Hit,
}

/// A mould while it is made.
struct Making {
    same: Vec<u128>,
    asked: u32,
    /// Where the text always ends, if it does: it is cut there.
    cut: bool,
    spoiled: bool,
}

impl Trace for Making {
    fn asked(&mut self, text: &[u8], at: usize, class: impl FnOnce() -> Class) {
        self.asked = self.asked.saturating_add(1);
        match text.get(at) {
            Some(byte) if byte.is_ascii() && at < LONGEST && self.asked < ASKED => {
                if self.same.len() <= at {
                    self.same.resize(at + 1, u128::MAX);
                }
                let class = class();
                let answer = if class.has(*byte) { class } else { class.not() };
                if let Some(same) = self.same.get_mut(at) {
                    *same &= answer.ascii();
                }
            }
            None if self.cut => {}
            _ => self.spoiled = true,
        }
    }
}

impl Mould {
    /// Of the search for a program in `line[..to]` from `from` on; `cut`: `to` is not the end of the line, and is the same
    /// for all lines.
    pub(super) fn of(program: &Program, line: &[u8], (from, to): (usize, usize), cut: bool) -> Option<Self> {
        let mut making = Making { same: Vec::new(), asked: 0, cut, spoiled: false };
        let text = line.get(..to)?;
        let hit = program.traced(text, from, &mut { usize::MAX }, &mut making)?;
        let Making { mut same, spoiled, .. } = making;
        // All of a date is ASCII, so that its places are the same in characters.
        same.resize(same.len().max(hit.end), u128::MAX);
        if spoiled || same.len() > LONGEST {
            return None;
        }
        let mut mould = Self { first: Vec::new(), more: Vec::new(), hit };
        for (same, byte) in same.into_iter().zip(text) {
            let (first, last) = row(same, *byte)?;
            mould.first.push(first);
            mould.more.push(last - first);
        }
        Some(mould)
    }

    /// Whether a line has its date where it had it, in all groups.
    pub(super) fn fits(&self, line: &[u8]) -> bool {
        let Some(head) = line.get(..self.first.len()) else { return false };
        let outside = |((byte, first), more): ((&u8, &u8), &u8)| u8::from(byte.wrapping_sub(*first) > *more);
        head.iter().zip(&self.first).zip(&self.more).map(outside).fold(0, |any, one| any | one) == 0
    }

    /// That the character at `at` must be this one; `None` where that is too far.
    pub(super) fn narrow(&mut self, at: usize, byte: u8) -> Option<()> {
        while self.first.len() <= at && at < LONGEST {
            self.first.push(0);
            self.more.push(127);
        }
        (*self.first.get_mut(at)?, *self.more.get_mut(at)?) = (byte, 0);
        Some(())
    }
}

/// The first and the last of those around `byte` that are of the set.
fn row(set: u128, byte: u8) -> Option<(u8, u8)> {
    let has = |byte: &u8| set >> byte & 1 == 1;
    if !byte.is_ascii() {
        return None;
    }
    Some(((0..=byte).rev().take_while(has).last()?, (byte..128).take_while(has).last()?))
}
