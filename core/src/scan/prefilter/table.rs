//! An Aho-Corasick automaton as a table with one step a byte, whatever the needles.
//!
//! A step waits for the one before it; so a text is cut into [`LANES`] parts, each ending with a line
//! where lines are short, and one step of each is made in turn: the waits overlap.
//!
//! Of a byte only its last [`BITS`] bits count, which tell letters apart and take large ones for small
//! ones: so a state has a short row, many rows stay in the nearest cache, and nothing is asked about the
//! byte first. Texts that differ are thereby the same at times (`401` and `TPQ`), so what is found is
//! compared with the needle.

use std::array;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use aho_corasick::automaton::Automaton;
use aho_corasick::nfa::noncontiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use super::{Found, Text};

/// So many parts of a text are run through at once: with more there are not enough registers.
pub(super) const LANES: usize = 6;
/// A shorter text is not worth cutting up.
const SHORT: usize = 4096;
/// So many bits of a byte are looked at.
const BITS: u32 = 5;
/// So many places a row has, one for each class of bytes.
const ROW: usize = 1 << BITS;

/// The automaton as one table, as small as it goes: what is hot of it should stay in the cache.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// For each state and class the next state. A state is known by where its row begins: that saves a
    /// multiplication in each step. State 0 is the start, and states near to it come first.
    next: Vec<u32>,
    /// From here on are the states where needles end; a power of two, so that one bit tells them.
    ends_from: u32,
    /// For each of them the indexes of the needles.
    ends: Vec<Vec<u32>>,
    needles: Vec<Text>,
}

/// Most states of either kind: a table of 8 MiB at worst. All shipped signatures together have a third of them.
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
    /// `None` without texts, with an empty one, or with too many for the numbers of states.
    pub(super) fn new(needles: Vec<Text>) -> Option<Self> {
        if needles.iter().map(|text| text.bytes.len()).min().unwrap_or(0) == 0 {
            return None;
        }
        let texts = needles.iter().map(|text| text.bytes.iter().copied().map(class).collect::<Vec<u8>>());
        let nfa = NFA::builder().match_kind(MatchKind::Standard).prefilter(false).build(texts).ok()?;
        let start = nfa.start_state(Anchored::No).ok()?;
        // By distance from the start, and where each class leads from each.
        let (mut states, mut leads) = (vec![start], Vec::new());
        let mut numbers = HashMap::from([(start, 0)]);
        let mut at = 0;
        while let Some(state) = states.get(at).copied() {
            at += 1;
            for class in (0..).take(ROW) {
                let next = nfa.next_state(Anchored::No, state, class);
                leads.push(match numbers.entry(next) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        states.push(next);
                        *new.insert(states.len() - 1)
                    }
                });
            }
        }
        let many = states.iter().filter(|state| nfa.is_match(**state)).count();
        let ends_from = many.max(states.len() - many).next_power_of_two();
        if ends_from > STATES {
            return None;
        }
        let (mut rows, mut ends) = (Vec::new(), Vec::new());
        for state in &states {
            let found = if nfa.is_match(*state) { nfa.match_len(*state) } else { 0 };
            let number = if found > 0 { ends_from + ends.len() } else { rows.len() - ends.len() };
            rows.push(u32::try_from(number * ROW).ok()?);
            if found > 0 {
                ends.push((0..found).map(|index| nfa.match_pattern(*state, index).as_u32()).collect());
            }
        }
        let mut next = vec![0; (ends_from + many) * ROW];
        for (leads, row) in leads.chunks(ROW).zip(&rows) {
            let places = next.get_mut(*row as usize..).unwrap_or_default();
            places.iter_mut().zip(leads).for_each(|(place, lead)| *place = rows.get(*lead).copied().unwrap_or(0));
        }
        Some(Self { next, ends_from: u32::try_from(ends_from * ROW).ok()?, ends, needles })
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
            state = step(&self.next, state, *byte);
            self.is_end(state) && self.at(state, text.get(..=at).unwrap_or_default()).next().is_some()
        })
    }

    const fn is_end(&self, state: u32) -> bool {
        state & self.ends_from != 0
    }

    /// The needles with which this text, at whose end this state was reached, ends.
    fn at<'a>(&'a self, state: u32, text: &'a [u8]) -> impl Iterator<Item = &'a Text> {
        self.ending(state).iter().filter_map(|needle| self.needles.get(*needle as usize)).filter(|needle| needle.ends(text))
    }

    /// The needles that end where this state is reached, were it all bits that count.
    fn ending(&self, state: u32) -> &[u32] {
        let number = state.checked_sub(self.ends_from).map(|row| row as usize / ROW);
        number.and_then(|number| self.ends.get(number)).map(Vec::as_slice).unwrap_or_default()
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
        let mut states = lanes.map(|lane| lane.state);
        let mut made = 0;
        while made < steps {
            let parts = lanes.map(|lane| text.get(lane.at + made..lane.at + steps).unwrap_or_default());
            let (more, reached) = run(&self.next, self.ends_from, parts, states);
            (made, states) = (made + more, reached);
            lanes.iter_mut().zip(states).for_each(|(lane, state)| self.note(text, (lane, state, made), found));
        }
        for (lane, state) in lanes.iter_mut().zip(states) {
            lane.at += steps;
            lane.state = state;
        }
    }

    /// Runs one lane to its end.
    fn alone(&self, text: &[u8], lane: &mut Lane, found: &mut Vec<Found>) {
        while let Some(byte) = text.get(lane.at).filter(|_| lane.at < lane.end) {
            let state = step(&self.next, lane.state, *byte);
            lane.state = state;
            self.note(text, (lane, state, 1), found);
            lane.at += 1;
        }
    }

    /// Notes the needles that end where a lane has come to by so many steps more.
    #[inline]
    fn note(&self, text: &[u8], (lane, state, made): (&mut Lane, u32, usize), found: &mut Vec<Found>) {
        if !self.is_end(state) {
            return;
        }
        let at = lane.at + made;
        if lane.again(text, state, at) {
            return;
        }
        let had = found.len();
        found.extend(self.at(state, text.get(..at).unwrap_or_default()).map(|text| Found { at: at - 1, needle: text.number }));
        // What was another text is perhaps the right one the next time.
        if found.len() - had == self.ending(state).len() {
            lane.noted.rotate_right(1);
            lane.noted[0] = (state, at);
        }
    }
}

/// What of a byte counts.
const fn class(byte: u8) -> u8 {
    byte & (u8::MAX >> (u8::BITS - BITS))
}

#[inline]
fn step(next: &[u32], state: u32, byte: u8) -> u32 {
    // Never outside: there is a row for each state.
    next.get((state + u32::from(class(byte))) as usize).copied().unwrap_or(0)
}

/// Runs through parts of one length abreast, until one of them reaches a state where a needle ends. How many
/// steps that took, and what was reached.
///
/// By itself, so that nothing else needs registers.
#[inline(never)]
fn run(next: &[u32], ends_from: u32, parts: [&[u8]; LANES], states: [u32; LANES]) -> (usize, [u32; LANES]) {
    let [a, b, c, d, e, f] = parts;
    let [mut p, mut q, mut r, mut s, mut t, mut u] = states;
    let mut made = 0;
    for (((((a, b), c), d), e), f) in a.iter().zip(b).zip(c).zip(d).zip(e).zip(f) {
        (p, q, r) = (step(next, p, *a), step(next, q, *b), step(next, r, *c));
        (s, t, u) = (step(next, s, *d), step(next, t, *e), step(next, u, *f));
        made += 1;
        if (p | q | r | s | t | u) & ends_from != 0 {
            break;
        }
    }
    (made, [p, q, r, s, t, u])
}
