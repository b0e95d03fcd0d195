//! One pass over many lines for all signatures: which lines any of them could match at all.
//!
//! All needles of all rules ([`super::needles`]) are one Aho-Corasick automaton, a table with one
//! step a byte. It runs over whole blocks of lines, so that what is innocent is neither cut into
//! lines nor taken apart. A step waits for the one before it; so a block is cut into [`LANES`] parts,
//! each ending with a line, and one step of each is made in turn: the waits overlap.
//!
//! A line with a needle is looked through once more for all needles, as the first may be of a
//! signature that does not match.

use std::array;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use aho_corasick::automaton::Automaton;
use aho_corasick::nfa::noncontiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use super::needles::Needles;

/// So many parts of a block are run through at once: with more there are not enough registers.
const LANES: usize = 4;
/// A shorter block is not worth cutting up.
const SHORT: usize = 4096;

/// The needles of many signatures, each known by its slot.
#[derive(Clone, Debug)]
pub(super) struct Prefilter {
    /// `None`: there are no needles, or so many that no automaton could be built.
    automaton: Option<Table>,
    /// The slots each needle is of.
    slots: Vec<Vec<usize>>,
    /// The slots that must be asked about each line.
    always: Seen,
    /// Whether there is one.
    any_always: bool,
}

/// The automaton as one table, as small as it goes: what is hot of it should stay in the cache.
#[derive(Clone, Debug)]
struct Table {
    /// The class of each byte; large letters are of the class of small ones where case does not count.
    classes: [u8; 256],
    /// How many classes there are.
    width: usize,
    /// For each state and class the next state, with [`MATCH`] where a needle ends there. State 0 is
    /// the start, and states near to it come first.
    next: Vec<u16>,
    /// For each state the needles that end there.
    ends: Vec<Vec<u32>>,
    /// Each needle, and whether case counts. Where it does for some only, the table knows small
    /// letters, and what it finds is compared.
    needles: Vec<(Vec<u8>, bool)>,
}

/// Of a state's number: a needle ends there.
const MATCH: u16 = 1 << 15;

/// A set of slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Vec<u64>);

impl Seen {
    fn of(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn add(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    /// Whether it holds one of the slots up to this one.
    pub(super) fn any_up_to(&self, last: usize) -> bool {
        let whole = self.0.iter().take(last / 64).any(|word| *word != 0);
        whole || self.0.get(last / 64).is_some_and(|word| word << (63 - last % 64) != 0)
    }

    /// Whether it holds this one.
    pub(super) fn has(&self, slot: usize) -> bool {
        self.0.get(slot / 64).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }
}

/// A part of a block on its way through the automaton.
#[derive(Clone, Copy)]
struct Lane {
    at: usize,
    end: usize,
    state: u16,
}

impl Prefilter {
    /// A prefilter over slots 0, 1 and so on: each given by the needles of its rules.
    pub(super) fn new<'a>(all: impl Iterator<Item = Vec<&'a Needles>>) -> Self {
        let all: Vec<Vec<&Needles>> = all.collect();
        let mut always = Seen::of(all.len());
        let mut any_always = false;
        let mut by_text = BTreeMap::<(&[u8], bool), Vec<usize>>::new();
        for (slot, rules) in all.iter().enumerate() {
            if rules.iter().any(|needles| needles.is_empty()) {
                always.add(slot);
                any_always = true;
                continue;
            }
            for needles in rules {
                for text in &needles.texts {
                    let slots = by_text.entry((text, !needles.folded)).or_default();
                    if slots.last() != Some(&slot) {
                        slots.push(slot);
                    }
                }
            }
        }
        let automaton = Table::new(by_text.keys().map(|(text, exact)| (text.to_vec(), *exact)).collect());
        if automaton.is_none() && !by_text.is_empty() {
            (0..all.len()).for_each(|slot| always.add(slot));
            any_always = true;
        }
        Self { automaton, slots: by_text.into_values().collect(), always, any_always }
    }

    /// A set for [`Self::mark`].
    pub(super) fn seen(&self) -> Seen {
        Seen(vec![0; self.always.0.len()])
    }

    /// Whether lines can be passed over.
    pub(super) const fn skips(&self) -> bool {
        !self.any_always
    }

    /// Makes `seen` the slots that a line of this text can be of. Whether there is any.
    pub(super) fn mark(&self, text: &[u8], seen: &mut Seen) -> bool {
        seen.0.clone_from(&self.always.0);
        self.mark_more(text, seen) || self.any_always
    }

    /// Adds to `seen` the slots that a line of this text can be of. Whether there is any.
    pub(super) fn mark_more(&self, text: &[u8], seen: &mut Seen) -> bool {
        let mut any = false;
        let Some(table) = &self.automaton else { return any };
        let mut state = 0;
        for (at, byte) in text.iter().enumerate() {
            state = table.step(state, *byte);
            if state & MATCH == 0 {
                continue;
            }
            for needle in table.found(state, text, at + 1) {
                any = true;
                let slots = self.slots.get(needle);
                slots.into_iter().flatten().for_each(|slot| seen.add(*slot));
            }
        }
        any
    }

    /// Puts into `hits`, in their order, the ends of the first needles of all lines of `block` that
    /// hold one.
    pub(super) fn hits(&self, block: &[u8], hits: &mut Vec<usize>) {
        hits.clear();
        let Some(table) = &self.automaton else { return };
        let mut lanes = Table::lanes(block);
        if block.len() >= SHORT {
            table.abreast(block, &mut lanes, hits);
        }
        lanes.iter_mut().for_each(|lane| table.alone(block, lane, hits));
        hits.sort_unstable();
    }
}

impl Table {
    /// `None` without texts, or with too many for the numbers of states.
    fn new(needles: Vec<(Vec<u8>, bool)>) -> Option<Self> {
        needles.first()?;
        let folded = needles.iter().any(|(_, exact)| !exact);
        let texts = needles.iter().map(|(text, _)| &text[..]);
        let nfa =
            NFA::builder().match_kind(MatchKind::Standard).ascii_case_insensitive(folded).prefilter(false).build(texts.clone()).ok()?;
        let (classes, bytes) = classes(folded, texts);
        let start = nfa.start_state(Anchored::No).ok()?;
        let mut table = Self { classes, width: bytes.len(), next: Vec::new(), ends: Vec::new(), needles: Vec::new() };
        let mut numbers = HashMap::from([(start, 0)]);
        let mut states = vec![start];
        // By distance from the start.
        let mut at = 0;
        while let Some(state) = states.get(at).copied() {
            at += 1;
            let needles = if nfa.is_match(state) { nfa.match_len(state) } else { 0 };
            table.ends.push((0..needles).map(|index| nfa.match_pattern(state, index).as_u32()).collect());
            for byte in &bytes {
                let next = nfa.next_state(Anchored::No, state, *byte);
                let number = match numbers.entry(next) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        let number = u16::try_from(states.len()).ok().filter(|number| *number < MATCH)?;
                        states.push(next);
                        *new.insert(number)
                    }
                };
                table.next.push(if nfa.is_match(next) { number | MATCH } else { number });
            }
        }
        Some(Self { needles, ..table })
    }

    /// The needles that end at `at` of `text`, where this state was reached.
    fn found(&self, state: u16, text: &[u8], at: usize) -> impl Iterator<Item = usize> {
        let all = self.ends.get(usize::from(state & !MATCH)).into_iter().flatten();
        all.map(|needle| *needle as usize).filter(move |needle| {
            let before = text.get(..at).unwrap_or_default();
            self.needles.get(*needle).is_some_and(|(text, exact)| !exact || before.ends_with(text))
        })
    }

    fn step(&self, state: u16, byte: u8) -> u16 {
        let at = usize::from(state & !MATCH) * self.width + usize::from(self.classes[usize::from(byte)]);
        // Never outside: there is a row for each state.
        self.next.get(at).copied().unwrap_or(0)
    }

    /// Cuts the block behind newlines into parts of about one length. Parts may be empty.
    fn lanes(block: &[u8]) -> [Lane; LANES] {
        let mut from = 0;
        array::from_fn(|n| {
            let goal = block.len() / LANES * (n + 1);
            let end = match block.get(goal.max(from)..) {
                Some(rest) if n + 1 < LANES && block.len() >= SHORT => {
                    memchr::memchr(b'\n', rest).map_or(block.len(), |at| goal.max(from) + at + 1)
                }
                _ => block.len(),
            };
            let lane = Lane { at: from, end, state: 0 };
            from = end;
            lane
        })
    }

    /// Runs all lanes in step until one is at its end.
    fn abreast(&self, block: &[u8], lanes: &mut [Lane; LANES], hits: &mut Vec<usize>) {
        loop {
            let steps = lanes.iter().map(|lane| lane.end.saturating_sub(lane.at)).min().unwrap_or(0);
            let parts: [&[u8]; LANES] = lanes.map(|lane| block.get(lane.at..lane.at + steps).unwrap_or_default());
            let [a, b, c, d] = parts;
            let mut states = lanes.map(|lane| lane.state);
            let mut made = 0;
            for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
                let [p, q, r, s] = states;
                states = [self.step(p, *a), self.step(q, *b), self.step(r, *c), self.step(s, *d)];
                made += 1;
                let [p, q, r, s] = states;
                if (p | q | r | s) & MATCH != 0 {
                    break;
                }
            }
            if made == 0 {
                return;
            }
            for (lane, state) in lanes.iter_mut().zip(states) {
                lane.at += made;
                lane.state = state;
                self.note(block, lane, hits);
            }
        }
    }

    /// Runs one lane to its end.
    fn alone(&self, block: &[u8], lane: &mut Lane, hits: &mut Vec<usize>) {
        while let Some(byte) = block.get(lane.at).filter(|_| lane.at < lane.end) {
            lane.state = self.step(lane.state, *byte);
            lane.at += 1;
            self.note(block, lane, hits);
        }
    }

    /// Notes a needle that ends here, and goes on with the next line.
    fn note(&self, block: &[u8], lane: &mut Lane, hits: &mut Vec<usize>) {
        if lane.state & MATCH == 0 || self.found(lane.state, block, lane.at).next().is_none() {
            return;
        }
        hits.push(lane.at);
        let rest = block.get(lane.at..lane.end).unwrap_or_default();
        lane.at = memchr::memchr(b'\n', rest).map_or(lane.end, |at| lane.at + at + 1);
        lane.state = 0;
    }
}

/// The class of each byte, and a byte of each class: those of no text are one.
fn classes<'a>(folded: bool, texts: impl Iterator<Item = &'a [u8]>) -> ([u8; 256], Vec<u8>) {
    let same = |byte: u8| if folded { byte.to_ascii_lowercase() } else { byte };
    let used: BTreeSet<u8> = texts.flatten().map(|byte| same(*byte)).collect();
    let none = (0..=u8::MAX).find(|byte| !used.contains(&same(*byte)));
    let bytes: Vec<u8> = none.into_iter().chain(used.iter().copied()).collect();
    let class = |byte: usize| {
        let byte = same(u8::try_from(byte).unwrap_or(0));
        let at = bytes.iter().skip(none.iter().len()).position(|one| *one == byte).map_or(0, |at| at + none.iter().len());
        u8::try_from(at).unwrap_or(0)
    };
    (array::from_fn(class), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(all: &[Vec<Needles>], text: &[u8]) -> (bool, Vec<usize>) {
        let prefilter = Prefilter::new(all.iter().map(|rules| rules.iter().collect()));
        let mut seen = prefilter.seen();
        let any = prefilter.mark(text, &mut seen);
        (any, (0..all.len()).filter(|slot| seen.has(*slot)).collect())
    }

    #[test]
    fn overlapping_needles_are_all_seen() {
        let all: Vec<Vec<Needles>> = [&["abcd"][..], &["bc"], &["bc", "x"], &["cde"], &[]].map(|texts| vec![Needles::any(texts)]).into();
        assert!(all[4][0].is_empty());
        assert_eq!(seen(&all, b"abcde"), (true, vec![0, 1, 2, 3, 4]));
        assert_eq!(seen(&all, b"x"), (true, vec![2, 4]));
        assert_eq!(seen(&all[..4], b"y"), (false, vec![]));
        assert_eq!(seen(&[], b"y"), (false, vec![]));
        assert_eq!(seen(&[vec![]], b"y"), (false, vec![]));
    }

    #[test]
    fn each_line_with_a_needle_is_hit_once_however_the_block_is_cut() {
        let needles = Needles::any(["needle"]);
        let prefilter = Prefilter::new(std::iter::once(vec![&needles]));
        for (every, count) in [(1, 3000), (7, 3000), (100, 2000), (3, 10), (1000, 1)] {
            let line = |n: usize| format!("{n} {}{}\n", "hay ".repeat(n % 40), if n.is_multiple_of(every) { "needle needle" } else { "" });
            let block: String = (0..count).map(line).collect();
            let mut hits = Vec::new();
            prefilter.hits(block.as_bytes(), &mut hits);
            let lines: Vec<usize> = hits.iter().map(|hit| block.as_bytes().iter().take(*hit).filter(|b| **b == b'\n').count()).collect();
            assert_eq!(lines, (0..count).step_by(every).collect::<Vec<_>>());
        }
    }

    #[test]
    fn case_counts_for_those_for_which_it_does() {
        let small = Needles { texts: vec![b"needle".to_vec()], folded: true };
        let all = [vec![small], vec![Needles::any(["NEEDLE x"])]];
        assert_eq!(seen(&all, b"a NeeDLE x"), (true, vec![0]));
        assert_eq!(seen(&all, b"a NEEDLE x"), (true, vec![0, 1]));
        assert_eq!(seen(&all[1..], b"a needle x"), (false, vec![]));
        let prefilter = Prefilter::new([vec![Needles::any(["AbC"])], all[0].clone()].iter().map(|rules| rules.iter().collect()));
        let mut hits = Vec::new();
        prefilter.hits(b"abc abc\nABC\nabc AbC\n", &mut hits);
        assert_eq!(hits, [19]);
    }

    #[test]
    fn many_slots_have_a_bit_each() {
        let all: Vec<Vec<Needles>> = (0..200).map(|n| vec![Needles::any([format!("<{n}>").replace(['<', '>'], "#")])]).collect();
        assert_eq!(seen(&all, b"#7# #64# #199#"), (true, vec![7, 64, 199]));
    }
}
