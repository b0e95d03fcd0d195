//! Walks a [`Program`] over a line.
//!
//! Backtracks as Python does, without allocating, within a budget of steps: who writes a line that
//! makes a pattern search for ever has written a line without a date.

use super::class::{Class, char_at, is_word};
use super::mould::Trace;
use super::program::{GROUPS, Op, Program};

/// Steps for each byte of a line, and for each line: the default templates take fewer than 30 a byte.
const STEPS_A_BYTE: usize = 128;
const STEPS_A_LINE: usize = 8192;

/// No place.
const NOWHERE: u32 = u32::MAX;

/// A match and its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) start: usize,
    pub(super) end: usize,
    places: [u32; 2 * GROUPS],
}

impl Hit {
    pub(super) const fn new(start: usize, end: usize) -> Self {
        Self { start, end, places: [NOWHERE; 2 * GROUPS] }
    }

    /// Where a group matched.
    pub(super) fn group(&self, group: u8) -> Option<(usize, usize)> {
        let at = usize::from(group) * 2;
        let (start, end) = (*self.places.get(at)?, *self.places.get(at + 1)?);
        (start != NOWHERE && end != NOWHERE && start <= end).then_some((start as usize, end as usize))
    }

    /// Notes where a group matched.
    pub(super) fn note(&mut self, group: u8, start: usize, end: usize) {
        let at = usize::from(group) * 2;
        for (at, place) in [(at, start), (at + 1, end)] {
            if let Some(slot) = self.places.get_mut(at) {
                *slot = u32::try_from(place).unwrap_or(NOWHERE);
            }
        }
    }
}

impl Program {
    /// The leftmost match in a valid text that begins at `from` or later. `^` is the text's start.
    /// Takes its steps from `left`.
    pub(super) fn search(&self, text: &[u8], from: usize, left: &mut usize) -> Option<Hit> {
        self.traced(text, from, left, &mut ())
    }

    /// The same; `trace` is told what the way to the match asked of the text.
    pub(super) fn traced<T: Trace>(&self, text: &[u8], from: usize, left: &mut usize, trace: &mut T) -> Option<Hit> {
        let steps = text.len().saturating_mul(STEPS_A_BYTE).saturating_add(STEPS_A_LINE).min(*left);
        let mut walk = Walk { ops: &self.ops, text, hit: Hit::new(0, 0), steps, trace };
        let hit = self.walked(&mut walk, from);
        *left -= steps - walk.steps;
        hit
    }

    fn walked<T: Trace>(&self, walk: &mut Walk<'_, T>, from: usize) -> Option<Hit> {
        let text = walk.text;
        if self.anchored {
            return (from == 0).then(|| walk.whole(0))?;
        }
        // That a match holds what it needs has not to be told: it is part of the match.
        if let Some((byte, behind)) = self.needs {
            let fits = |at: usize| {
                behind.is_none_or(|class| text.get(at + 1).is_some_and(|b| if *b < 128 { class.has(*b) } else { class.has_other() }))
            };
            if !memchr::memchr_iter(byte, text).any(fits) {
                return None;
            }
        }
        let first = self.first.unwrap_or(Class::ALL);
        let mut at = from;
        while at < text.len() {
            let b = text[at];
            let begins = if b < 128 { first.has(b) } else { first.has_other() && b & 0xc0 != 0x80 };
            walk.trace.asked(text, at, || first);
            if begins && let Some(hit) = walk.whole(at) {
                return Some(hit);
            }
            at += 1;
        }
        (self.first.is_none() && from <= text.len()).then(|| walk.whole(text.len()))?
    }
}

struct Walk<'a, T> {
    ops: &'a [Op],
    text: &'a [u8],
    hit: Hit,
    steps: usize,
    trace: &'a mut T,
}

impl<T: Trace> Walk<'_, T> {
    fn whole(&mut self, at: usize) -> Option<Hit> {
        let end = self.go(0, at)?;
        Some(Hit { start: at, end, ..self.hit })
    }

    /// Where the match ends that goes on from here.
    fn go(&mut self, mut pc: usize, mut at: usize) -> Option<usize> {
        loop {
            self.spend(1)?;
            match self.ops.get(pc)? {
                Op::Byte(b) => {
                    self.trace.asked(self.text, at, || Class::byte(*b));
                    at = (self.text.get(at) == Some(b)).then_some(at + 1)?;
                }
                Op::One(class) => at += self.length(*class, at)?,
                Op::Many { class, min, max, greedy: true } => return self.most(*class, *min, *max, pc + 1, at),
                Op::Many { class, min, max, .. } => return self.fewest(*class, *min, *max, pc + 1, at),
                Op::Words { words, any_case } => return self.words(words, *any_case, pc + 1, at),
                Op::Save(slot) => return self.save(usize::from(*slot), pc + 1, at),
                Op::Split(here, there) => {
                    if let Some(end) = self.go(usize::from(*here), at) {
                        return Some(end);
                    }
                    pc = usize::from(*there);
                    continue;
                }
                Op::Jump(to) => {
                    pc = usize::from(*to);
                    continue;
                }
                Op::Begin => (at == 0).then_some(())?,
                Op::End => self.ends(at).then_some(())?,
                Op::Border(is) => ((self.word_before(at) != self.word_at(at)) == *is).then_some(())?,
                Op::EdgeBegin => {
                    (at == 0 || (!(self.word_at(at) && self.word_before(at)) && (!self.ends(at) || self.word_before(at)))).then_some(())?
                }
                Op::EdgeEnd => (!(self.word_at(at) && self.word_before(at))).then_some(())?,
                Op::Again(group) => {
                    let (start, end) = self.hit.group(*group)?;
                    let word = self.text.get(start..end)?;
                    for (n, b) in word.iter().enumerate() {
                        self.trace.asked(self.text, start + n, || Class::byte(*b));
                        self.trace.asked(self.text, at + n, || Class::byte(*b));
                    }
                    at = self.text.get(at..)?.starts_with(word).then_some(at + word.len())?;
                }
                Op::Match => return Some(at),
            }
            pc += 1;
        }
    }

    /// `None` where there is too little left, which then is spent too.
    fn spend(&mut self, steps: usize) -> Option<()> {
        let left = self.steps.checked_sub(steps);
        self.steps = left.unwrap_or(0);
        left.map(|_| ())
    }

    fn save(&mut self, slot: usize, pc: usize, at: usize) -> Option<usize> {
        let place = u32::try_from(at).ok()?;
        let before = std::mem::replace(self.hit.slot(slot)?, place);
        let end = self.go(pc, at);
        if end.is_none() {
            *self.hit.slot(slot)? = before;
        }
        end
    }

    fn most(&mut self, class: Class, min: u16, max: u16, pc: usize, at: usize) -> Option<usize> {
        let (mut to, mut n) = (at, 0);
        while n < max
            && let Some(length) = self.length(class, to)
        {
            (to, n) = (to + length, n + 1);
        }
        // A run is looked through once for each place it may be entered at.
        self.spend(usize::from(n))?;
        loop {
            if n < min {
                return None;
            }
            if let Some(end) = self.go(pc, to) {
                return Some(end);
            }
            n = n.checked_sub(1)?;
            to -= 1;
            while self.text.get(to).is_some_and(|b| b & 0xc0 == 0x80) {
                to -= 1;
            }
        }
    }

    fn fewest(&mut self, class: Class, min: u16, max: u16, pc: usize, mut at: usize) -> Option<usize> {
        let mut n = 0;
        loop {
            if n >= min
                && let Some(end) = self.go(pc, at)
            {
                return Some(end);
            }
            if n >= max {
                return None;
            }
            (at, n) = (at + self.length(class, at)?, n + 1);
        }
    }

    fn words(&mut self, words: &[Box<str>], any_case: bool, pc: usize, at: usize) -> Option<usize> {
        for word in words {
            let mut bytes = word.bytes().zip(at..);
            let same = bytes.all(|(byte, at)| {
                let class = if any_case { Class::byte(byte).any_case() } else { Class::byte(byte) };
                self.trace.asked(self.text, at, || class);
                self.text.get(at).is_some_and(|there| *there == byte || (any_case && there.eq_ignore_ascii_case(&byte)))
            });
            if same && let Some(end) = self.go(pc, at + word.len()) {
                return Some(end);
            }
        }
        None
    }

    fn length(&mut self, class: Class, at: usize) -> Option<usize> {
        self.trace.asked(self.text, at, || class);
        class.length(self.text, at)
    }

    fn ends(&mut self, at: usize) -> bool {
        self.trace.asked(self.text, at, || Class::ALL);
        at == self.text.len()
    }

    fn word_at(&mut self, at: usize) -> bool {
        self.trace.asked(self.text, at, Class::words);
        match self.text.get(at) {
            Some(b) if *b < 128 => b.is_ascii_alphanumeric() || *b == b'_',
            Some(_) => char_at(self.text, at).is_some_and(is_word),
            None => false,
        }
    }

    fn word_before(&mut self, at: usize) -> bool {
        let Some(mut at) = at.checked_sub(1) else { return false };
        while at > 0 && self.text.get(at).is_some_and(|b| b & 0xc0 == 0x80) {
            at -= 1;
        }
        self.word_at(at)
    }
}

impl Hit {
    fn slot(&mut self, slot: usize) -> Option<&mut u32> {
        self.places.get_mut(slot)
    }
}
