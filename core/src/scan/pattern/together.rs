//! Many patterns over one long text: one pass of one automaton says which of them match.
//!
//! A path of a MiB would go through the pattern of each rule that it holds a needle of. So patterns
//! that were once asked about a long text are put together, and of the next one all are answered at
//! once. The automaton is made as it goes, in bounded memory; where a text would need more of it,
//! each pattern is asked by itself.

use std::collections::HashMap;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::hybrid::{CacheError, LazyStateID};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

use super::{NEST, Pattern, SET_SIZE};

/// A text from this length on is long. Hardly any that a service logs is, and all else is as quick to
/// ask one by one: only the patterns whose needles the line holds are asked at all.
pub(super) const LONG_TEXT: usize = 4096;
/// Most patterns: several times those of shipped rules over paths, agents and fields.
const PATTERNS: usize = 256;
/// Memory of what was made; when it is full it is made anew.
const CACHE: usize = 4 << 20;
/// So often at most before the text is given up, if ...
const CLEARS: usize = 2;
/// ... fewer than so many bytes were read for each state that was made.
const EACH: usize = 32;
/// So often it is told how many bytes were read.
const PART: usize = 1024;

/// The patterns that were asked, and what they say of the text at hand.
#[derive(Debug, Default)]
pub(in super::super) struct Together {
    /// Their regexes with their numbers.
    numbers: HashMap<String, usize>,
    automaton: Option<Automaton>,
    /// Where in memory the text at hand was read from, which holds for one line only.
    of: Option<(usize, usize)>,
    /// Which of them match it; `None` if that was not decided.
    matching: Option<Vec<usize>>,
}

#[derive(Debug)]
struct Automaton {
    /// `None`: they are too large to be one.
    dfa: Option<(DFA, Cache)>,
    /// How many patterns it is of.
    patterns: usize,
}

/// That the automaton would become too large.
struct TooLarge;

impl From<CacheError> for TooLarge {
    fn from(_: CacheError) -> Self {
        Self
    }
}

impl Together {
    /// To be told when another line is looked at.
    pub(in super::super) fn forget(&mut self) {
        self.of = None;
    }

    /// Whether a pattern matches a text. `raw` is the part of the line that it was read from: the memory
    /// of what was read from one part may hold another's next.
    pub(in super::super) fn matches(&mut self, pattern: &Pattern, text: &[u8], raw: &[u8]) -> bool {
        let known = if text.len() < LONG_TEXT { None } else { self.known(pattern, text, raw) };
        known.unwrap_or_else(|| pattern.regex().is_match(text))
    }

    /// False where a pattern is one of these, and does not match. One that is none is not made one.
    pub(super) fn allows(&mut self, pattern: &Pattern, text: &[u8]) -> bool {
        !self.numbers.contains_key(&pattern.expanded) || self.matches(pattern, text, text)
    }

    /// Makes a pattern one of these: it was asked about a long text, and what it said could have been
    /// known for less.
    pub(super) fn add(&mut self, pattern: &Pattern) {
        if self.numbers.len() < PATTERNS && !self.numbers.contains_key(&pattern.expanded) {
            self.numbers.insert(pattern.expanded.clone(), self.numbers.len());
        }
    }

    fn known(&mut self, pattern: &Pattern, text: &[u8], raw: &[u8]) -> Option<bool> {
        let Some(number) = self.numbers.get(&pattern.expanded).copied() else {
            self.add(pattern);
            return None;
        };
        let of = (raw.as_ptr().addr(), raw.len());
        if self.of != Some(of) {
            let mut matching = self.matching.take().unwrap_or_default();
            matching.clear();
            self.matching = self.run(text, &mut matching).is_ok().then_some(matching);
            self.of = Some(of);
        }
        // One that came after the automaton was made is not of it.
        let made = self.automaton.as_ref().is_some_and(|automaton| number < automaton.patterns);
        self.matching.as_ref().filter(|_| made).map(|matching| matching.contains(&number))
    }

    fn run(&mut self, text: &[u8], matching: &mut Vec<usize>) -> Result<(), TooLarge> {
        let automaton = match &mut self.automaton {
            Some(automaton) if automaton.patterns == self.numbers.len() => automaton,
            automaton => automaton.insert(Automaton::new(&self.numbers)),
        };
        let (dfa, cache) = automaton.dfa.as_mut().ok_or(TooLarge)?;
        let mut state = dfa.start_state_forward(cache, &Input::new(text).anchored(Anchored::Yes)).map_err(|_| TooLarge)?;
        let mut at = 0;
        cache.search_start(at);
        for part in text.chunks(PART) {
            for byte in part {
                if !state.is_tagged() {
                    let next = dfa.next_state_untagged(cache, state, *byte);
                    if !next.is_tagged() {
                        state = next;
                        continue;
                    }
                }
                state = dfa.next_state(cache, state, *byte)?;
                if state.is_match() {
                    // Of a pattern that may end anywhere.
                    note(dfa, cache, state, matching);
                } else if state.is_dead() {
                    return Ok(());
                } else if state.is_quit() {
                    return Err(TooLarge);
                }
            }
            at += part.len();
            cache.search_update(at);
        }
        cache.search_finish(at);
        state = dfa.next_eoi_state(cache, state)?;
        if state.is_match() {
            note(dfa, cache, state, matching);
        }
        Ok(())
    }
}

impl Automaton {
    fn new(numbers: &HashMap<String, usize>) -> Self {
        let mut texts = vec![""; numbers.len()];
        for (text, number) in numbers {
            texts[*number] = text;
        }
        let config = DFA::config()
            .match_kind(MatchKind::All)
            .cache_capacity(CACHE)
            .skip_cache_capacity_check(true)
            .minimum_cache_clear_count(Some(CLEARS))
            .minimum_bytes_per_state(Some(EACH));
        let dfa = DFA::builder()
            .configure(config)
            .syntax(syntax::Config::new().unicode(false).utf8(false).nest_limit(NEST))
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(SET_SIZE)))
            .build_many(&texts);
        let dfa = dfa.ok().map(|dfa| {
            let cache = dfa.create_cache();
            (dfa, cache)
        });
        Self { dfa, patterns: texts.len() }
    }
}

/// Notes the patterns that end in this state.
fn note(dfa: &DFA, cache: &Cache, state: LazyStateID, matching: &mut Vec<usize>) {
    for index in 0..dfa.match_len(cache, state) {
        let pattern = dfa.match_pattern(cache, state, index).as_usize();
        if !matching.contains(&pattern) {
            matching.push(pattern);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_together_is_what_each_says() {
        let texts = [r"^/(?:[^?]*/)?a(?:\?.*)?$", "^.*b.*c$", "^/x", r"^.*\bd$", "^(?i:.*E)$", "^[ab]{0,30}c?$"];
        let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::field(text, true, false).unwrap()).collect();
        let mut together = Together::default();
        for round in 0..3 {
            for piece in ["a", "b", "c", "/", "/x/", " d", "e", "/a?b", "bc", "\n", "abbaab", "xb"] {
                for end in ["", "a", "c", "d", " d", "E"] {
                    let text = format!("/{}{end}", piece.repeat(LONG_TEXT));
                    together.forget();
                    for pattern in &patterns {
                        let (text, short) = (text.as_bytes(), &text.as_bytes()[LONG_TEXT / 2..]);
                        assert_eq!(
                            together.matches(pattern, text, text),
                            pattern.regex().is_match(text),
                            "{round}: {} {piece} {end}",
                            pattern.text
                        );
                        assert_eq!(together.matches(pattern, short, short), pattern.regex().is_match(short));
                    }
                }
            }
        }
        assert!(together.automaton.is_some_and(|automaton| automaton.dfa.is_some() && automaton.patterns == texts.len()));
    }
}
