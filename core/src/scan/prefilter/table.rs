//! An Aho-Corasick automaton as a table with one step a byte, whatever the needles.
//!
//! A step waits for the one before it; so a text is cut into [`LANES`] parts, each ending with a line
//! where lines are short, and one step of each is made in turn: the waits overlap.

use std::array;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use aho_corasick::automaton::Automaton;
use aho_corasick::nfa::noncontiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use super::{Found, Text};

/// So many parts of a text are run through at once: with more there are not enough registers.
const LANES: usize = 4;
/// A shorter text is not worth cutting up.
const SHORT: usize = 4096;

/// The automaton as one table, as small as it goes: what is hot of it should stay in the cache.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The class of each byte; large letters are of the class of small ones where case does not count.
    classes: [u8; 256],
    /// A row has two to the power of so many places, one for each class at least.
    shift: u32,
    /// For each state and class the next state, with [`MATCH`] where a needle ends there. A state is
    /// known by where its row begins: that saves a multiplication in each step. State 0 is the start,
    /// and states near to it come first.
    next: Vec<u32>,
    /// For each state the indexes of the needles that end there.
    ends: Vec<Vec<u32>>,
    /// Where case counts for some needles only, the table knows small letters, and what it finds is
    /// compared.
    needles: Vec<Text>,
}

/// Of a state: a needle ends there.
const MATCH: u32 = 1 << 31;
/// Most states: a table of 32 MiB at worst. All shipped signatures together have a third of them.
const STATES: usize = 1 << 15;

/// A part of a text on its way through the automaton.
#[derive(Clone, Copy)]
struct Lane {
    at: usize,
    end: usize,
    state: u32,
    /// States where needles end, all of which were noted, and where that was last; 0 where there is none yet.
    noted: [(u32, usize); NOTED],
}

/// So many of such states are kept in mind, ...
const NOTED: usize = 4;
/// ... and for so many bytes: what one line holds over and over is noted once.
const NEAR: usize = 64;

impl Lane {
    const fn new(at: usize, end: usize) -> Self {
        Self { at, end, state: 0, noted: [(0, 0); NOTED] }
    }

    /// Whether what ends here was noted shortly before, in the same line.
    fn again(&mut self, text: &[u8], state: u32, at: usize) -> bool {
        let Some(noted) = self.noted.iter_mut().find(|(noted, _)| *noted == state) else { return false };
        let between = text.get(noted.1..at).unwrap_or_default();
        let again = between.len() <= NEAR && !between.contains(&b'\n');
        *noted = if again { (state, at) } else { (0, 0) };
        again
    }
}

impl Table {
    /// `None` without texts, or with too many for the numbers of states.
    pub(super) fn new(needles: Vec<Text>) -> Option<Self> {
        needles.first()?;
        let folded = needles.iter().any(|text| text.folded);
        let texts = needles.iter().map(|text| &text.bytes[..]);
        let nfa =
            NFA::builder().match_kind(MatchKind::Standard).ascii_case_insensitive(folded).prefilter(false).build(texts.clone()).ok()?;
        let (classes, bytes) = classes(folded, texts);
        let start = nfa.start_state(Anchored::No).ok()?;
        let shift = bytes.len().next_power_of_two().ilog2();
        let mut table = Self { classes, shift, next: Vec::new(), ends: Vec::new(), needles: Vec::new() };
        let mut numbers = HashMap::from([(start, 0)]);
        let mut states = vec![start];
        // By distance from the start.
        let mut at = 0;
        while let Some(state) = states.get(at).copied() {
            at += 1;
            let needles = if nfa.is_match(state) { nfa.match_len(state) } else { 0 };
            table.ends.push((0..needles).map(|index| nfa.match_pattern(state, index).as_u32()).collect());
            let row = table.next.len();
            for byte in &bytes {
                let next = nfa.next_state(Anchored::No, state, *byte);
                let number = match numbers.entry(next) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        let number = u32::try_from(states.len()).ok().filter(|_| states.len() < STATES)?;
                        states.push(next);
                        *new.insert(number << shift)
                    }
                };
                table.next.push(if nfa.is_match(next) { number | MATCH } else { number });
            }
            table.next.resize(row + (1 << shift), 0);
        }
        Some(Self { needles, ..table })
    }

    /// All needles in a text.
    pub(super) fn find(&self, text: &[u8], found: &mut Vec<Found>) {
        let mut lanes = self.lanes(text);
        if text.len() >= SHORT {
            self.abreast(text, &mut lanes, found);
        }
        lanes.iter_mut().for_each(|lane| self.alone(text, lane, found));
    }

    /// Whether one of the needles is in a text.
    pub(super) fn any(&self, text: &[u8]) -> bool {
        let mut state = 0;
        text.iter().enumerate().any(|(at, byte)| {
            state = self.step(state, *byte);
            state & MATCH != 0 && self.at(state, text.get(..=at).unwrap_or_default()).next().is_some()
        })
    }

    /// The needles with which this text, at whose end this state was reached, ends.
    fn at<'a>(&'a self, state: u32, text: &'a [u8]) -> impl Iterator<Item = &'a Text> {
        self.ending(state).iter().filter_map(|needle| self.needles.get(*needle as usize)).filter(|needle| needle.ends(text))
    }

    /// The needles that end where this state is reached, were it not for case.
    fn ending(&self, state: u32) -> &[u32] {
        self.ends.get(((state & !MATCH) >> self.shift) as usize).map(Vec::as_slice).unwrap_or_default()
    }

    #[inline]
    fn step(&self, state: u32, byte: u8) -> u32 {
        let at = (state & !MATCH) + u32::from(self.classes[usize::from(byte)]);
        // Never outside: there is a row for each state.
        self.next.get(at as usize).copied().unwrap_or(0)
    }

    /// Cuts a text into parts of about one length, behind newlines where there are some. Parts may be
    /// empty. Where a line is cut, the part behind begins as much earlier as a needle may be long.
    fn lanes(&self, text: &[u8]) -> [Lane; LANES] {
        if text.len() < SHORT {
            return array::from_fn(|n| Lane::new(0, if n == 0 { text.len() } else { 0 }));
        }
        let back = self.needles.iter().map(|needle| needle.bytes.len()).max().unwrap_or(0);
        let (mut from, mut within) = (0, false);
        array::from_fn(|n| {
            let goal = (text.len() / LANES * (n + 1)).max(from);
            let near = text.get(goal..).unwrap_or_default();
            let newline = memchr::memchr(b'\n', near.get(..SHORT).unwrap_or(near));
            let end = if n + 1 == LANES { text.len() } else { newline.map_or(goal, |at| goal + at + 1) };
            let lane = Lane::new(if within { from.saturating_sub(back) } else { from }, end);
            (from, within) = (end, newline.is_none());
            lane
        })
    }

    /// Runs all lanes in step until one is at its end.
    fn abreast(&self, text: &[u8], lanes: &mut [Lane; LANES], found: &mut Vec<Found>) {
        let steps = lanes.iter().map(|lane| lane.end.saturating_sub(lane.at)).min().unwrap_or(0);
        let parts: [&[u8]; LANES] = lanes.map(|lane| text.get(lane.at..lane.at + steps).unwrap_or_default());
        let [a, b, c, d] = parts;
        let mut states = lanes.map(|lane| lane.state);
        for (made, (((a, b), c), d)) in (1..).zip(a.iter().zip(b).zip(c).zip(d)) {
            let [p, q, r, s] = states;
            states = [self.step(p, *a), self.step(q, *b), self.step(r, *c), self.step(s, *d)];
            let [p, q, r, s] = states;
            if (p | q | r | s) & MATCH != 0 {
                lanes.iter_mut().zip(states).for_each(|(lane, state)| self.note(text, (lane, state, made), found));
            }
        }
        for (lane, state) in lanes.iter_mut().zip(states) {
            lane.at += steps;
            lane.state = state;
        }
    }

    /// Runs one lane to its end.
    fn alone(&self, text: &[u8], lane: &mut Lane, found: &mut Vec<Found>) {
        while let Some(byte) = text.get(lane.at).filter(|_| lane.at < lane.end) {
            let state = self.step(lane.state, *byte);
            lane.state = state;
            self.note(text, (lane, state, 1), found);
            lane.at += 1;
        }
    }

    /// Notes the needles that end where a lane has come to by so many steps more.
    #[inline]
    fn note(&self, text: &[u8], (lane, state, made): (&mut Lane, u32, usize), found: &mut Vec<Found>) {
        if state & MATCH == 0 {
            return;
        }
        let at = lane.at + made;
        if lane.again(text, state, at) {
            return;
        }
        let had = found.len();
        found.extend(self.at(state, text.get(..at).unwrap_or_default()).map(|text| Found { at: at - 1, needle: text.number }));
        // Where case was not right it may be the next time.
        if found.len() - had == self.ending(state).len() {
            lane.noted.rotate_right(1);
            lane.noted[0] = (state, at);
        }
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
