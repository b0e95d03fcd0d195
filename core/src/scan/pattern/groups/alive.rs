//! Which stops of a pattern can still come to the end of a text: an automaton that reads the text
//! backwards, and is made as it goes.
//!
//! A state is the set of stops that take the next byte and then can come to the end. Set out as a
//! table, one step a byte; a step that is not in the table yet is worked out from the pattern.

use std::collections::HashMap;

use super::program::{MATCH, Program};

/// Of the table: not worked out yet.
const UNKNOWN: u32 = u32::MAX;
/// Of the table: no stop is in the next set.
const NOTHING: u32 = u32::MAX - 1;
/// Most memory of one automaton, in bytes: what the regex crate allows its own by default. A text that
/// needs more is not decided here.
const MEMORY: usize = 2 << 20;
/// Most steps that one text may have worked out, besides one for each [`EACH`] bytes of it: working
/// one out takes as long as many bytes do.
const STEPS: usize = 4096;
const EACH: usize = 32;

/// So many places are looked at one by one before states are asked ahead.
const SHORT: usize = 1024;
/// So many places are looked at together.
const CHUNK: usize = 16;

/// Why a text was not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// The automaton.
#[derive(Debug, Default)]
pub(super) struct Alive {
    /// For each state and class the next state, as the place of its first step in here.
    next: Vec<u32>,
    /// How many bits a state's number is shifted to be that place.
    shift: u32,
    /// For each state the set, a bit for each stop.
    rows: Vec<u64>,
    /// Words of a set.
    width: usize,
    known: HashMap<Box<[u64]>, u16>,
    work: Vec<u64>,
}

/// The set of one state.
#[derive(Clone, Copy)]
pub(super) struct Row<'a>(&'a [u64]);

impl Row<'_> {
    pub(super) fn has(self, stop: u16) -> bool {
        self.0.get(usize::from(stop / 64)).is_some_and(|word| word >> (stop % 64) & 1 == 1)
    }
}

impl Alive {
    /// Runs from the end of the text to its start, and notes each state in `states`, which has one
    /// place more than the text. False, at once, where nothing can come to the end any more.
    pub(super) fn run(&mut self, program: &Program, text: &[u8], states: &mut [u16]) -> Result<bool, TooMany> {
        if self.rows.is_empty() {
            self.begin(program);
        }
        let mut steps = STEPS + text.len() / EACH;
        let (mut state, shift) = (0u32, self.shift);
        let Some((last, states)) = states.split_last_mut() else { return Err(TooMany) };
        *last = 0;
        let (mut text, mut states) = (text, states);
        loop {
            // As far as all steps are known.
            let mut left = text.len();
            for (byte, place) in text.iter().rev().zip(states.iter_mut().rev()) {
                let at = state as usize + usize::from(program.classes[usize::from(*byte)]);
                let next = self.next.get(at).copied().unwrap_or(UNKNOWN);
                if next >= NOTHING {
                    break;
                }
                state = next;
                *place = number(state, shift);
                left -= 1;
            }
            (text, states) = (text.get(..left).unwrap_or_default(), states.get_mut(..left).unwrap_or_default());
            let Some(byte) = text.last() else { return Ok(true) };
            let class = program.classes[usize::from(*byte)];
            if self.next.get(state as usize + usize::from(class)) == Some(&NOTHING) {
                return Ok(false);
            }
            let made = if steps == 0 { None } else { self.make(program, number(state, shift), class) };
            if made.is_none() {
                // The next text may need others.
                *self = Self::default();
                return Err(TooMany);
            }
            steps -= 1;
        }
    }

    /// The set of a state.
    pub(super) fn row(&self, state: u16) -> Row<'_> {
        let at = usize::from(state) * self.width;
        Row(self.rows.get(at..at + self.width).unwrap_or_default())
    }

    /// How many states long this stop is in each and none of the others is.
    pub(super) fn stays(&self, states: &[u16], stop: u16, others: &[u16]) -> usize {
        let leaves = |state: u16| {
            let row = self.row(state);
            !row.has(stop) || others.iter().any(|other| row.has(*other))
        };
        let short = &states[..states.len().min(SHORT)];
        if let Some(left) = short.iter().position(|state| leaves(*state)) {
            return left;
        }
        // It goes on: each state is asked once, and many places are looked at together.
        let count = u16::try_from(self.rows.len() / self.width.max(1)).unwrap_or(u16::MAX);
        let leaves: Vec<bool> = (0..count).map(leaves).collect();
        let leaves = |state: &u16| leaves.get(usize::from(*state)).copied().unwrap_or(true);
        let rest = &states[short.len()..];
        let chunks = rest.chunks(CHUNK).position(|chunk| chunk.iter().fold(false, |any, state| any | leaves(state)));
        let from = chunks.map_or(rest.len(), |chunks| chunks * CHUNK);
        let more = rest[from..].iter().position(leaves).unwrap_or(rest.len() - from);
        short.len() + from + more
    }

    fn begin(&mut self, program: &Program) {
        self.shift = program.bytes.len().next_power_of_two().trailing_zeros();
        self.width = program.len().div_ceil(64);
        self.work = vec![0; self.width];
        // The end of the text: not known by its set, as other steps lead from it.
        self.work[0] = 1 << MATCH;
        self.add();
    }

    /// Adds the state whose set was worked out; its number.
    fn add(&mut self) -> Option<u16> {
        let number = u16::try_from(self.rows.len() / self.width).ok()?;
        let more = self.next.len() + (1 << self.shift);
        if more * size_of::<u32>() + 2 * self.rows.len() * size_of::<u64>() > MEMORY {
            return None;
        }
        self.next.resize(more, UNKNOWN);
        self.rows.extend_from_slice(&self.work);
        Some(number)
    }

    /// Works out one step.
    fn make(&mut self, program: &Program, from: u16, class: u8) -> Option<()> {
        let byte = *program.bytes.get(usize::from(class))?;
        self.work.fill(0);
        self.work[0] = 1 << MATCH;
        let work = &mut self.work;
        let mut put = |all: &[super::program::Before]| {
            for one in all.iter().filter(|one| (one.from..=one.to).contains(&byte)) {
                work[usize::from(one.stop / 64)] |= 1 << (one.stop % 64);
            }
        };
        if from == 0 {
            put(program.before_end());
        } else {
            let at = usize::from(from) * self.width;
            for (index, word) in self.rows.get(at..at + self.width)?.iter().enumerate() {
                let mut word = *word;
                while word != 0 {
                    put(program.before(index * 64 + word.trailing_zeros() as usize));
                    word &= word - 1;
                }
            }
        }
        // Nothing takes a byte, and nothing leads to the match without one.
        let nothing = self.work[0] == 1 << MATCH && self.work[1..].iter().all(|word| *word == 0) && program.before(0).is_empty();
        let next = match self.known.get(&self.work[..]) {
            _ if nothing => NOTHING,
            Some(known) => u32::from(*known) << self.shift,
            None => {
                let number = self.add()?;
                self.known.insert(self.work.clone().into(), number);
                u32::from(number) << self.shift
            }
        };
        *self.next.get_mut((usize::from(from) << self.shift) + usize::from(class))? = next;
        Some(())
    }
}

/// The number of a state.
#[expect(clippy::cast_possible_truncation, reason = "there are no more states than `add` can number")]
const fn number(state: u32, shift: u32) -> u16 {
    (state >> shift) as u16
}
