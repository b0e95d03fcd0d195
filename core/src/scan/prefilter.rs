//! One pass over many lines for all signatures: which lines any of them could match at all.
//!
//! All needles of all rules ([`super::needles`]) are one Aho-Corasick automaton. It runs over whole
//! blocks of lines, so that what is innocent is neither cut into lines nor taken apart; where it
//! stops, the line is looked through once more for all needles, as the first may be of a signature
//! that does not match.

use aho_corasick::automaton::OverlappingState;
use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind, StartKind};

use super::needles::Needles;

/// Up to so many needles the automaton is a full table, one step a byte; beyond it would take
/// megabytes and leave the cache.
const TABLE: usize = 4096;

/// The needles of many signatures, each known by its slot.
#[derive(Clone, Debug)]
pub(super) struct Prefilter {
    /// `None`: there are no needles, or so many that no automaton could be built.
    automaton: Option<AhoCorasick>,
    /// The slots each needle is of.
    slots: Vec<Vec<usize>>,
    /// The slots that must be asked about each line.
    always: Seen,
    /// Whether there is one.
    any_always: bool,
}

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

    /// Whether it holds this one.
    pub(super) fn has(&self, slot: usize) -> bool {
        self.0.get(slot / 64).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }
}

impl Prefilter {
    /// A prefilter over slots 0, 1 and so on: each given by the needles of its rules.
    pub(super) fn new<'a>(all: impl Iterator<Item = Vec<&'a Needles>>) -> Self {
        let all: Vec<Vec<&Needles>> = all.collect();
        let mut always = Seen::of(all.len());
        let mut any_always = false;
        let mut by_text = std::collections::BTreeMap::<&[u8], Vec<usize>>::new();
        let mut folded = false;
        for (slot, rules) in all.iter().enumerate() {
            if rules.iter().any(|needles| needles.is_empty()) {
                always.add(slot);
                any_always = true;
                continue;
            }
            for needles in rules {
                folded |= needles.folded;
                for text in &needles.texts {
                    let slots = by_text.entry(text).or_default();
                    if slots.last() != Some(&slot) {
                        slots.push(slot);
                    }
                }
            }
        }
        let kind = if by_text.len() <= TABLE { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
        let built = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .start_kind(StartKind::Unanchored)
            .ascii_case_insensitive(folded)
            .kind(Some(kind))
            .build(by_text.keys());
        let none = by_text.is_empty();
        let automaton = built.ok().filter(|_| !none);
        if automaton.is_none() && !none {
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

    /// The first place in `text` at or behind `from` that a needle ends at.
    pub(super) fn next(&self, text: &[u8], from: usize) -> Option<usize> {
        let input = Input::new(text).range(from.min(text.len())..);
        self.automaton.as_ref()?.find(input).map(|found| found.end())
    }

    /// Makes `seen` the slots that a line of this text can be of. Whether there is any.
    pub(super) fn mark(&self, text: &[u8], seen: &mut Seen) -> bool {
        seen.0.clone_from(&self.always.0);
        let mut any = self.any_always;
        let Some(automaton) = &self.automaton else { return any };
        let mut state = OverlappingState::start();
        loop {
            automaton.find_overlapping(text, &mut state);
            let Some(found) = state.get_match() else { return any };
            any = true;
            let slots = self.slots.get(found.pattern().as_usize());
            slots.into_iter().flatten().for_each(|slot| seen.add(*slot));
        }
    }
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
        let all: Vec<Vec<Needles>> =
            [&["abcd"][..], &["bc"], &["bc", "x"], &["cde"], &[]].map(|texts| vec![Needles::any(texts)]).into();
        assert!(all[4][0].is_empty());
        assert_eq!(seen(&all, b"abcde"), (true, vec![0, 1, 2, 3, 4]));
        assert_eq!(seen(&all, b"x"), (true, vec![2, 4]));
        assert_eq!(seen(&all[..4], b"y"), (false, vec![]));
        assert_eq!(seen(&[], b"y"), (false, vec![]));
        assert_eq!(seen(&[vec![]], b"y"), (false, vec![]));
    }

    #[test]
    fn many_slots_have_a_bit_each() {
        let all: Vec<Vec<Needles>> = (0..200).map(|n| vec![Needles::any([format!("<{n}>").replace(['<', '>'], "#")])]).collect();
        assert_eq!(seen(&all, b"#7# #64# #199#"), (true, vec![7, 64, 199]));
    }
}
