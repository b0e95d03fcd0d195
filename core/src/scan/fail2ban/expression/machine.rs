//! Runs an expression by trying, as Python does, and counts each step.
//!
//! It knows all of the syntax: looks, back references, conditions. What it cannot do is bound its own
//! time, so that it stops after [`STEPS`] of them. Its memory is bounded by the same number: no step puts
//! more than one frame on the stack.

use super::places::{behind, char_at, forward, holds};
use super::program::{Op, Program};

/// How many steps an expression may take for one text. Ordinary lines need some hundreds; this many take
/// about two milliseconds.
pub(super) const STEPS: u32 = 200_000;

/// How many all expressions together may take for one line: with what else is done to a line of 64 KiB they take less than
/// five milliseconds.
const LINE: u32 = 250_000;

/// A stack that grew larger than this is given back.
const KEEP: usize = 4096;

/// The step limit was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

#[derive(Clone, Copy, Debug)]
enum Frame {
    /// Another way to go on.
    Branch { pc: usize, at: usize },
    /// A span may be shorter, down to `floor`.
    Shorter { pc: usize, floor: usize, at: usize },
    /// A span may be longer by so many of its set.
    Longer { pc: usize, set: usize, left: u32, at: usize },
    /// What a slot held before.
    Slot { slot: usize, held: Option<usize> },
    /// What a counter held before.
    Count { counter: usize, held: Count },
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    rounds: u32,
    /// Where the round began.
    began: Option<usize>,
}

/// What is needed to run a program; kept from one run to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    slots: Vec<Option<usize>>,
    counts: Vec<Count>,
    stack: Vec<Frame>,
    steps: u32,
    most: u32,
    /// What was spent on the line at hand before.
    spent: u32,
}

impl Machine {
    /// Begins a line.
    pub(super) const fn begin(&mut self) {
        (self.steps, self.spent) = (0, 0);
    }

    /// Begins to count steps anew, up to this many, or to what is left for the line.
    pub(super) fn wind(&mut self, most: u32) {
        self.charge(0);
        self.most = most.min(LINE.saturating_sub(self.spent));
    }

    /// Spends steps on what costs as much.
    pub(super) fn charge(&mut self, steps: usize) {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.spent = self.spent.saturating_add(self.steps).saturating_add(steps);
        self.steps = 0;
    }

    /// How many steps were taken since they are counted.
    pub(super) fn taken(&self) -> usize {
        usize::try_from(self.steps).unwrap_or(usize::MAX)
    }

    /// Whether nothing is left for the line.
    pub(super) const fn is_spent(&self) -> bool {
        self.spent >= LINE
    }

    /// Where each group begins and ends, group 0 being the whole match.
    pub(super) fn slots(&self) -> &[Option<usize>] {
        &self.slots
    }

    /// The first match at or after `from`.
    pub(super) fn search(&mut self, program: &Program, text: &str, from: usize, slots: usize) -> Result<bool, TooMany> {
        let mut start = if program.anchored { 0 } else { from };
        loop {
            self.ready(program, slots);
            if let Some(end) = self.run(program, text, 0, start)? {
                self.put(0, Some(start));
                self.put(1, Some(end));
                return Ok(true);
            }
            let Some(c) = text.get(start..).and_then(|rest| rest.chars().next()) else { return Ok(false) };
            if program.anchored {
                return Ok(false);
            }
            start += c.len_utf8();
        }
    }

    /// Whether it matches here, whatever it matches; `held` is what the groups of the expression around it
    /// have matched.
    pub(super) fn here(&mut self, program: &Program, text: &str, at: usize, held: &[Option<usize>]) -> Result<bool, TooMany> {
        self.ready(program, held.len());
        self.slots.copy_from_slice(held);
        Ok(self.run(program, text, 0, at)?.is_some())
    }

    fn ready(&mut self, program: &Program, slots: usize) {
        self.slots.clear();
        self.slots.resize(slots, None);
        self.counts.clear();
        self.counts.resize(program.counters, Count::default());
        self.stack.clear();
        if self.stack.capacity() > KEEP {
            self.stack.shrink_to(KEEP);
        }
    }

    fn get(&self, slot: usize) -> Option<usize> {
        self.slots.get(slot).copied().flatten()
    }

    fn put(&mut self, slot: usize, at: Option<usize>) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = at;
        }
    }

    fn save(&mut self, slot: usize, at: usize) {
        self.stack.push(Frame::Slot { slot, held: self.get(slot) });
        self.put(slot, Some(at));
    }

    fn count(&self, counter: usize) -> Count {
        self.counts.get(counter).copied().unwrap_or_default()
    }

    fn recount(&mut self, counter: usize, count: Count) {
        let held = self.count(counter);
        self.stack.push(Frame::Count { counter, held });
        if let Some(place) = self.counts.get_mut(counter) {
            *place = count;
        }
    }

    /// Undoes the last steps to the last branch above `base`.
    fn back(&mut self, program: &Program, text: &str, base: usize) -> Option<(usize, usize)> {
        while self.stack.len() > base {
            match self.stack.pop()? {
                Frame::Branch { pc, at } => return Some((pc, at)),
                Frame::Shorter { pc, floor, at } => {
                    if let Some(at) = self.shorter(program, text, (pc, floor, at)) {
                        return Some((pc, at));
                    }
                }
                Frame::Longer { pc, set, left, at } => {
                    if let Some(at) = self.longer(program, text, (pc, set, left, at)) {
                        return Some((pc, at));
                    }
                }
                frame => self.restore(frame),
            }
        }
        None
    }

    fn restore(&mut self, frame: Frame) {
        match frame {
            Frame::Slot { slot, held } => self.put(slot, held),
            Frame::Count { counter, held } => {
                if let Some(place) = self.counts.get_mut(counter) {
                    *place = held;
                }
            }
            Frame::Branch { .. } | Frame::Shorter { .. } | Frame::Longer { .. } => {}
        }
    }

    /// Undoes all steps above `base`.
    fn undo(&mut self, base: usize) {
        while self.stack.len() > base
            && let Some(frame) = self.stack.pop()
        {
            self.restore(frame);
        }
    }

    /// A greedy span gives up characters until the text can go on after it.
    fn shorter(&mut self, program: &Program, text: &str, (pc, floor, mut at): (usize, usize, usize)) -> Option<usize> {
        while at > floor {
            self.steps += 1;
            at -= 1;
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            if program.can(pc, text, at) {
                if at > floor {
                    self.stack.push(Frame::Shorter { pc, floor, at });
                }
                return Some(at);
            }
        }
        None
    }

    /// A lazy span takes characters until the text can go on after it.
    fn longer(&mut self, program: &Program, text: &str, (pc, index, mut left, mut at): (usize, usize, u32, usize)) -> Option<usize> {
        let set = program.sets.get(index)?;
        while left > 0 {
            self.steps += 1;
            at += char_at(text, at).filter(|c| set.contains(*c))?.len_utf8();
            left -= 1;
            if program.can(pc, text, at) {
                if left > 0 {
                    self.stack.push(Frame::Longer { pc, set: index, left, at });
                }
                return Some(at);
            }
        }
        None
    }

    /// Many characters of a set: where it goes on first.
    fn span(&mut self, program: &Program, text: &str, (pc, at): (usize, usize), span: Op) -> Option<(usize, usize)> {
        let Op::Span { set: index, min, max, lazy } = span else { return None };
        let set = program.sets.get(index)?;
        let next = pc + 1;
        let most = max.unwrap_or(u32::MAX);
        let (floor, taken) = forward(set, text, at, min);
        if taken < min {
            return None;
        }
        if lazy {
            let left = most.saturating_sub(min);
            if program.can(next, text, floor) {
                if left > 0 {
                    self.stack.push(Frame::Longer { pc: next, set: index, left, at: floor });
                }
                return Some((next, floor));
            }
            return self.longer(program, text, (next, index, left, floor)).map(|at| (next, at));
        }
        let (end, more) = forward(set, text, floor, most.saturating_sub(min));
        // To run ahead costs far less than to try.
        self.steps = self.steps.saturating_add(more / 16);
        if program.can(next, text, end) {
            if end > floor {
                self.stack.push(Frame::Shorter { pc: next, floor, at: end });
            }
            return Some((next, end));
        }
        self.shorter(program, text, (next, floor, end)).map(|at| (next, at))
    }

    /// Runs from an instruction to the next `Done`, which ends the piece it stands in.
    fn run(&mut self, program: &Program, text: &str, pc: usize, at: usize) -> Result<Option<usize>, TooMany> {
        let base = self.stack.len();
        let (mut pc, mut at) = (pc, at);
        loop {
            self.steps += 1;
            if self.steps > self.most {
                return Err(TooMany);
            }
            let Some(op) = program.ops.get(pc) else { return Ok(None) };
            let next = match *op {
                Op::Done => return Ok(Some(at)),
                Op::Char(wanted) => char_at(text, at).filter(|c| *c == wanted).map(|c| (pc + 1, at + c.len_utf8())),
                Op::Set(set) => char_at(text, at)
                    .filter(|c| program.sets.get(set).is_some_and(|set| set.contains(*c)))
                    .map(|c| (pc + 1, at + c.len_utf8())),
                Op::Assert(place) => holds(place, text, at).then_some((pc + 1, at)),
                Op::Save(slot) => {
                    self.save(slot, at);
                    Some((pc + 1, at))
                }
                Op::Text(index) => {
                    let wanted = program.texts.get(index).map_or("", AsRef::as_ref);
                    let there = text.as_bytes().get(at..).is_some_and(|rest| rest.starts_with(wanted.as_bytes()));
                    there.then_some((pc + 1, at + wanted.len()))
                }
                Op::Span { .. } => self.span(program, text, (pc, at), *op),
                Op::Split { first, second } => self.split(program, text, (first, second), at),
                Op::Jump(to) => Some((to, at)),
                Op::Again { group, fold } => self.again(text, group, fold, at).map(|at| (pc + 1, at)),
                Op::Unless { group, no } => {
                    let matched = self.get(group).is_some() && self.get(group + 1).is_some();
                    Some((if matched { pc + 1 } else { no }, at))
                }
                Op::Zero(_) | Op::Loop { .. } | Op::Round { .. } => self.rounds(program, text, *op, (pc, at)),
                Op::Look { negated, back, end } => self.look(program, text, (pc, at), negated, back)?.then_some((end, at)),
                Op::Atomic { end } => self.once(program, text, pc + 1, at)?.map(|at| (end, at)),
            };
            match next.or_else(|| self.back(program, text, base)) {
                Some(next) => (pc, at) = next,
                None => return Ok(None),
            }
        }
    }

    /// The first of two ways, and later the second; what cannot go on is no way.
    fn split(&mut self, program: &Program, text: &str, (first, second): (usize, usize), at: usize) -> Option<(usize, usize)> {
        match (program.can(first, text, at), program.can(second, text, at)) {
            (true, true) => {
                self.stack.push(Frame::Branch { pc: second, at });
                Some((first, at))
            }
            (true, false) => Some((first, at)),
            (false, true) => Some((second, at)),
            (false, false) => None,
        }
    }

    fn rounds(&mut self, program: &Program, text: &str, op: Op, (pc, at): (usize, usize)) -> Option<(usize, usize)> {
        Some(match op {
            Op::Loop { counter, min, max, lazy, exit } => {
                let Count { rounds, began } = self.count(counter);
                // A round that took nothing is not followed by another.
                let more = max.is_none_or(|max| rounds < max) && began != Some(at);
                if rounds < min {
                    (pc + 1, at)
                } else if !more {
                    (exit, at)
                } else {
                    let ways = if lazy { (exit, pc + 1) } else { (pc + 1, exit) };
                    return self.split(program, text, ways, at);
                }
            }
            Op::Round { counter, body } => {
                let rounds = self.count(counter).rounds.saturating_add(1);
                self.recount(counter, Count { rounds, began: Some(at) });
                (body, at)
            }
            Op::Zero(counter) => {
                self.recount(counter, Count::default());
                (pc + 1, at)
            }
            _ => (pc + 1, at),
        })
    }

    /// Runs a piece of the program; other ways through it are not tried later.
    fn once(&mut self, program: &Program, text: &str, pc: usize, at: usize) -> Result<Option<usize>, TooMany> {
        let base = self.stack.len();
        let end = self.run(program, text, pc, at)?;
        if end.is_some() {
            let mut kept = base;
            for i in base..self.stack.len() {
                if let Some(frame) = self.stack.get(i).copied()
                    && matches!(frame, Frame::Slot { .. } | Frame::Count { .. })
                {
                    self.stack.swap(kept, i);
                    kept += 1;
                }
            }
            self.stack.truncate(kept);
        }
        Ok(end)
    }

    fn look(
        &mut self,
        program: &Program,
        text: &str,
        (pc, at): (usize, usize),
        negated: bool,
        back: Option<usize>,
    ) -> Result<bool, TooMany> {
        let Some(from) = behind(text, at, back) else { return Ok(negated) };
        let base = self.stack.len();
        let found = self.once(program, text, pc + 1, from)?.is_some();
        if found && negated {
            // What it matched is undone, as if it had not been looked at.
            self.undo(base);
        }
        Ok(found != negated)
    }

    fn again(&self, text: &str, group: usize, fold: bool, at: usize) -> Option<usize> {
        let held = text.get(self.get(group)?..self.get(group + 1)?)?;
        let rest = text.get(at..)?;
        if !fold {
            return rest.starts_with(held).then(|| at + held.len());
        }
        let mut chars = rest.chars();
        let mut end = at;
        for wanted in held.chars() {
            let c = chars.next().filter(|c| *c == wanted || c.to_lowercase().eq(wanted.to_lowercase()))?;
            end += c.len_utf8();
        }
        Some(end)
    }
}
