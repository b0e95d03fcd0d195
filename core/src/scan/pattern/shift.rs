//! Whether what a client writes can shift the address: decided, not guessed.
//!
//! The line that the service writes is the pattern with every field of the client's holding anything
//! at all. If there is a line of that kind in which a pattern finds an address that begins at another
//! place than the one the service wrote, a client can have anybody blamed, and the rule is refused.
//! "Anything at all" is taken literally: a field is not held to the class that the pattern gives it,
//! for no client is.
//!
//! | repetition | in the line that the service writes |
//! |---|---|
//! | of one byte: once at most, or always the same number of times, fewer than [`LONG`] | as in the pattern, like a date's month |
//! | of more than a byte, fewer than [`LONG`] times | as in the pattern |
//! | of digits, hex digits, `.:,/+-` and blanks | as in the pattern: numbers, dates, addresses that a service prints |
//! | within a group that is `owned`, or in a placeholder | as in the pattern: the signature says why |
//! | every other | any bytes |
//!
//! Both sides become automata of positions (Glushkov's), walked in step over all lines at once. It
//! ends at the first line that both accept with different beginnings of the address, and that line is
//! shown; or when all pairs of positions are seen, and then there is none. Where the automaton is
//! not exact (long counted repetitions, word boundaries) it accepts more: that can only refuse more.

use regex_syntax::hir::{Hir, HirKind, Repetition};

use super::bytes::Bytes;

/// A part that may stand so often or oftener can hold an address: `0.0.0.0` is 7, `::` needs context.
pub(super) const LONG: u32 = 7;
/// A byte that may stand so often is a word of somebody's.
const MANY: u32 = 2;
/// Most positions of one automaton: eight times the longest shipped.
const POSITIONS: usize = 4096;
/// Most steps from one position to another: the longest shipped has a twentieth.
const EDGES: usize = 100_000;
/// Most pairs looked at for two automata; a few thousand is usual.
const PAIRS: usize = 2_000_000;
/// Copies made of a counted repetition before it is taken as unbounded.
const COPIES: u32 = LONG + 1;

/// Where in a line a position is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Before,
    Address,
    Behind,
}

#[derive(Debug)]
struct Position {
    bytes: Bytes,
    phase: Phase,
    /// Which positions may come next.
    next: Vec<u32>,
    last: bool,
}

/// Lines, as an automaton of positions.
#[derive(Debug)]
pub(in super::super) struct Lines {
    positions: Vec<Position>,
    first: Vec<u32>,
}

/// Why nothing could be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct TooLarge;

/// The positions at both ends of a part.
#[derive(Default)]
struct Part {
    first: Vec<u32>,
    last: Vec<u32>,
    nullable: bool,
}

struct Builder<'a> {
    positions: Vec<Position>,
    phase: Phase,
    edges: usize,
    owned: &'a dyn Fn(&str) -> bool,
    /// Whether fields that are not owned may hold anything.
    free: bool,
}

impl Lines {
    /// The lines a pattern matches.
    pub(super) fn matched(hir: &Hir, open_end: bool) -> Result<Self, TooLarge> {
        Self::of(hir, open_end, false, &|_| true)
    }

    /// The lines a service writes.
    pub(super) fn written(hir: &Hir, open_end: bool, owned: &dyn Fn(&str) -> bool) -> Result<Self, TooLarge> {
        Self::of(hir, open_end, true, owned)
    }

    fn of(hir: &Hir, open_end: bool, free: bool, owned: &dyn Fn(&str) -> bool) -> Result<Self, TooLarge> {
        let mut builder = Builder { positions: Vec::new(), phase: Phase::Before, edges: 0, owned, free };
        let mut whole = builder.part(hir, false)?;
        if open_end {
            let rest = builder.anything()?;
            whole = builder.join(whole, rest)?;
        }
        for at in &whole.last {
            builder.positions[*at as usize].last = true;
        }
        Ok(Self { positions: builder.positions, first: whole.first })
    }
}

impl Builder<'_> {
    fn position(&mut self, bytes: Bytes) -> Result<Part, TooLarge> {
        let at = u32::try_from(self.positions.len()).map_err(|_| TooLarge)?;
        if self.positions.len() >= POSITIONS {
            return Err(TooLarge);
        }
        self.positions.push(Position { bytes, phase: self.phase, next: Vec::new(), last: false });
        Ok(Part { first: vec![at], last: vec![at], nullable: false })
    }

    fn link(&mut self, from: &[u32], to: &[u32]) -> Result<(), TooLarge> {
        for at in from {
            let next = &mut self.positions[*at as usize].next;
            for to in to {
                if !next.contains(to) {
                    next.push(*to);
                    self.edges += 1;
                }
            }
            if self.edges > EDGES {
                return Err(TooLarge);
            }
        }
        Ok(())
    }

    fn join(&mut self, mut a: Part, b: Part) -> Result<Part, TooLarge> {
        self.link(&a.last, &b.first)?;
        if a.nullable {
            a.first.extend(&b.first);
        }
        let mut last = b.last;
        if b.nullable {
            last.extend(&a.last);
        }
        Ok(Part { first: a.first, last, nullable: a.nullable && b.nullable })
    }

    fn star(&mut self, mut part: Part) -> Result<Part, TooLarge> {
        self.link(&part.last.clone(), &part.first.clone())?;
        part.nullable = true;
        Ok(part)
    }

    fn anything(&mut self) -> Result<Part, TooLarge> {
        let any = self.position(Bytes::ALL)?;
        self.star(any)
    }

    /// Digits and colons or dots, one of the latter at least: other words are no address, and no rule
    /// takes them for one. A service may write a host's name in its place.
    fn address(&mut self) -> Result<Part, TooLarge> {
        self.phase = Phase::Address;
        if self.free {
            let name = self.position(Bytes::of(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-"))?;
            let name = self.star(name)?;
            let number = self.position(Bytes::of(b"0123456789abcdefABCDEF:."))?;
            let number = self.star(number)?;
            self.phase = Phase::Behind;
            let (first, last) = ([name.first, number.first].concat(), [name.last, number.last].concat());
            return Ok(Part { first, last, nullable: false });
        }
        let digits = self.position(Bytes::of(b"0123456789abcdefABCDEF:."))?;
        let digits = self.star(digits)?;
        let mark = self.position(Bytes::of(b":."))?;
        let more = self.position(Bytes::of(b"0123456789abcdefABCDEF:."))?;
        let more = self.star(more)?;
        let part = self.join(digits, mark)?;
        let part = self.join(part, more)?;
        self.phase = Phase::Behind;
        Ok(part)
    }

    fn part(&mut self, hir: &Hir, owned: bool) -> Result<Part, TooLarge> {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => Ok(Part { nullable: true, ..Part::default() }),
            HirKind::Literal(literal) => {
                let mut all = Part { nullable: true, ..Part::default() };
                for byte in &literal.0 {
                    let one = self.position(Bytes::of(&[*byte]))?;
                    all = self.join(all, one)?;
                }
                Ok(all)
            }
            HirKind::Class(class) => self.position(Bytes::of_class(class)),
            HirKind::Capture(group) => match group.name.as_deref() {
                Some("addr") => self.address(),
                Some(name) => self.part(&group.sub, owned || (self.owned)(name)),
                None => self.part(&group.sub, owned),
            },
            HirKind::Concat(all) => {
                let mut joined = Part { nullable: true, ..Part::default() };
                for one in all {
                    let one = self.part(one, owned)?;
                    joined = self.join(joined, one)?;
                }
                Ok(joined)
            }
            HirKind::Alternation(all) => {
                let mut any = Part::default();
                for one in all {
                    let one = self.part(one, owned)?;
                    any.first.extend(one.first);
                    any.last.extend(one.last);
                    any.nullable |= one.nullable;
                }
                Ok(any)
            }
            HirKind::Repetition(repetition) => self.repetition(repetition, owned),
        }
    }

    fn repetition(&mut self, r: &Repetition, owned: bool) -> Result<Part, TooLarge> {
        // A word that the pattern keeps short may be long in the line: then it is another line's pattern that reads it.
        let word = matches!(r.sub.kind(), HirKind::Class(_)) && r.max != Some(r.min);
        let field = r.max.is_none_or(|max| max >= if word { MANY } else { LONG });
        if self.free && field && !owned && !is_number(&r.sub) {
            return self.anything();
        }
        let least = r.min.min(COPIES);
        let mut all = Part { nullable: true, ..Part::default() };
        for _ in 0..least {
            let one = self.part(&r.sub, owned)?;
            all = self.join(all, one)?;
        }
        match r.max.filter(|max| max - r.min <= COPIES) {
            Some(max) => {
                for _ in r.min..max {
                    let mut one = self.part(&r.sub, owned)?;
                    one.nullable = true;
                    all = self.join(all, one)?;
                }
                Ok(all)
            }
            None => {
                let one = self.part(&r.sub, owned)?;
                let rest = self.star(one)?;
                self.join(all, rest)
            }
        }
    }
}

/// Whether this is one byte of what a service prints as a number, a date or an address; or a blank.
pub(super) fn is_number(hir: &Hir) -> bool {
    const NUMBERS: &[u8] = b"0123456789abcdefABCDEFxTZ.:,/+- ";
    match hir.kind() {
        HirKind::Class(class) => Bytes::of(NUMBERS).holds_all(&Bytes::of_class(class)),
        HirKind::Literal(literal) => literal.0.iter().all(|b| NUMBERS.contains(b)),
        HirKind::Capture(group) => group.name.is_none() && is_number(&group.sub),
        HirKind::Concat(all) | HirKind::Alternation(all) => all.iter().all(is_number),
        HirKind::Repetition(r) => is_number(&r.sub),
        HirKind::Empty | HirKind::Look(_) => true,
    }
}

/// A pair of positions on the way, with how it was reached.
struct Step {
    written: u32,
    matched: u32,
    differ: bool,
    before: Option<u32>,
}

/// A line that is written with one address and matched with another, if there is one: the line, with
/// the address that was written in `<>`.
pub(in super::super) fn shifted(written: &Lines, matched: &Lines) -> Result<Option<String>, TooLarge> {
    let width = matched.positions.len();
    let mut seen = vec![0u64; (written.positions.len() * width * 2).div_ceil(64)];
    let mut steps: Vec<Step> = Vec::new();
    let mut enter = |steps: &mut Vec<Step>, from: &[u32], to: &[u32], differ: bool, before: Option<u32>| {
        for p in from {
            let a = &written.positions[*p as usize];
            for q in to {
                let b = &matched.positions[*q as usize];
                if !a.bytes.meets(&b.bytes) {
                    continue;
                }
                let differ = differ || ((a.phase == Phase::Before) != (b.phase == Phase::Before));
                let bit = (*p as usize * width + *q as usize) * 2 + usize::from(differ);
                if seen[bit / 64] >> (bit % 64) & 1 == 0 {
                    seen[bit / 64] |= 1 << (bit % 64);
                    steps.push(Step { written: *p, matched: *q, differ, before });
                }
            }
        }
    };
    enter(&mut steps, &written.first, &matched.first, false, None);
    let mut at = 0;
    while let Some(Step { written: p, matched: q, differ, .. }) = steps.get(at) {
        let (a, b, differ) = (&written.positions[*p as usize], &matched.positions[*q as usize], *differ);
        if differ && a.last && b.last {
            return Ok(Some(example(written, matched, &steps, at)));
        }
        if steps.len() > PAIRS {
            return Err(TooLarge);
        }
        enter(&mut steps, &a.next, &b.next, differ, u32::try_from(at).ok());
        at += 1;
    }
    Ok(None)
}

/// The line that leads to a step.
fn example(written: &Lines, matched: &Lines, steps: &[Step], last: usize) -> String {
    let mut path = Vec::new();
    let mut at = Some(last);
    while let Some(step) = at.and_then(|at| steps.get(at)) {
        path.push(step);
        at = step.before.map(|before| before as usize);
    }
    let (mut line, mut inside) = (String::new(), false);
    for step in path.iter().rev() {
        let (a, b) = (&written.positions[step.written as usize], &matched.positions[step.matched as usize]);
        if inside != (a.phase == Phase::Address) {
            line.push(if inside { '>' } else { '<' });
            inside = !inside;
        }
        line.push(char::from(a.bytes.example(&b.bytes)));
    }
    if inside {
        line.push('>');
    }
    line
}
