//! One pass over many lines for all rules: which lines any of them could match at all.
//!
//! All needles of all rules ([`super::needles`]) are looked for in whole blocks of lines, so that what
//! is innocent is neither cut into lines nor taken apart. How, say their number and the shortest:
//!
//! | needles | search |
//! |---|---|
//! | as many as one or a few services have | a look at each second, fourth or eighth byte ([`sieve`]) |
//! | more | an automaton, a step a byte ([`mod@table`]) |
//! | a few too short for either | each by itself (`memmem`) |
//!
//! Rules of access logs are looked for only where a line can be of an access log ([`access::MARK`]).

mod sieve;
mod table;

use std::collections::BTreeMap;

use memchr::memmem::Finder;

use self::sieve::Sieve;
use self::table::Table;
use super::formats::access;
use super::needles::{FAST, Needles};

/// Shorter needles have no piece that is worth looking for.
const PIECE: usize = 4;
/// So many of them can be looked for one by one; each takes a fifth as long as all others together.
const SINGLE: usize = 4;
/// With more needles, or a quarter of them where one is short, pieces of theirs are found in too many
/// innocent lines.
const CROWD: usize = 160;

/// What one rule needs.
pub(super) struct Slot<'a> {
    pub(super) needles: &'a Needles,
    /// The rule is of an access log.
    pub(super) request: bool,
}

/// The needles of many rules, each rule known by its slot.
#[derive(Clone, Debug)]
pub(super) struct Prefilter {
    /// Needles of all rules but those of access logs, and of those.
    groups: Vec<Group>,
    /// The slots each needle is of.
    slots: Vec<Vec<u32>>,
    /// For each slot the needles of which one must be there too, if it has such.
    also: Vec<Option<Table>>,
    /// The slots that must be asked about each line.
    always: Vec<u32>,
}

/// Needles that are looked for together.
#[derive(Clone, Debug)]
struct Group {
    /// What stands in each text that holds one of them.
    gate: Option<Finder<'static>>,
    searches: Vec<Search>,
}

/// A way to look for needles.
#[derive(Clone, Debug)]
enum Search {
    One(Box<Finder<'static>>, u32),
    Sieve(Sieve),
    Table(Table),
}

/// A needle.
#[derive(Clone, Debug)]
struct Text {
    /// As found ones name it.
    number: u32,
    bytes: Vec<u8>,
    /// Letters of either case are meant; the bytes are small ones.
    folded: bool,
}

impl Text {
    fn begins(&self, text: &[u8]) -> bool {
        text.get(..self.bytes.len()).is_some_and(|text| self.is(text))
    }

    fn ends(&self, text: &[u8]) -> bool {
        text.len().checked_sub(self.bytes.len()).and_then(|from| text.get(from..)).is_some_and(|text| self.is(text))
    }

    fn is(&self, text: &[u8]) -> bool {
        if self.folded { text.eq_ignore_ascii_case(&self.bytes) } else { text == self.bytes }
    }
}

/// A needle that stands in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    /// Where one of its bytes is.
    pub(super) at: usize,
    needle: u32,
}

impl Prefilter {
    /// A prefilter over slots 0, 1 and so on.
    pub(super) fn new<'a>(all: impl Iterator<Item = Slot<'a>>) -> Self {
        let mut always = Vec::new();
        let mut by_text = BTreeMap::<(bool, &[u8], bool), Vec<u32>>::new();
        let mut also = Vec::new();
        for (number, slot) in (0..).zip(all) {
            also.push(slot.needles.also.as_ref().and_then(|needles| {
                let text = |bytes: &Vec<u8>| Text { number: 0, bytes: bytes.clone(), folded: needles.folded };
                Table::new(needles.texts.iter().map(text).collect())
            }));
            if slot.needles.is_empty() {
                always.push(number);
            }
            for text in &slot.needles.texts {
                by_text.entry((slot.request, text, slot.needles.folded)).or_default().push(number);
            }
        }
        let texts = |request: bool| -> Vec<Text> {
            let all = (0..).zip(by_text.keys()).filter(|(_, (of_request, ..))| *of_request == request);
            all.map(|(number, (_, text, folded))| Text { number, bytes: text.to_vec(), folded: *folded }).collect()
        };
        let groups = [(None, texts(false)), (Some(Finder::new(access::MARK).into_owned()), texts(true))];
        let mut prefilter = Self { groups: Vec::new(), slots: Vec::new(), also, always };
        for (gate, texts) in groups {
            match searches(texts) {
                Ok(searches) => prefilter.groups.push(Group { gate, searches }),
                Err(lost) => prefilter.always.extend(lost.iter().filter_map(|text| by_text.values().nth(text.number as usize)).flatten()),
            }
        }
        prefilter.always.sort_unstable();
        prefilter.always.dedup();
        prefilter.slots = by_text.into_values().collect();
        prefilter
    }

    /// Whether lines can be passed over.
    pub(super) const fn skips(&self) -> bool {
        self.always.is_empty()
    }

    /// Puts into `found` the needles that stand in a text, by their places.
    pub(super) fn find(&self, text: &[u8], found: &mut Vec<Found>) {
        found.clear();
        for Group { gate, searches } in &self.groups {
            if gate.as_ref().is_some_and(|gate| gate.find(text).is_none()) {
                continue;
            }
            for search in searches {
                match search {
                    Search::One(finder, needle) => one(finder, text, |at| found.push(Found { at, needle: *needle })),
                    Search::Sieve(sieve) => sieve.find(text, found),
                    Search::Table(table) => table.find(text, found),
                }
            }
        }
        found.sort_unstable();
    }

    /// Adds to `slots` those that a text with these needles can be of, in their order.
    pub(super) fn mark(&self, text: &[u8], found: &[Found], slots: &mut Vec<u32>) {
        slots.extend(&self.always);
        let holds = |slot: &u32| self.also.get(*slot as usize).and_then(Option::as_ref).is_none_or(|also| also.any(text));
        let all = found.iter().filter_map(|found| self.slots.get(found.needle as usize)).flatten();
        // One that was there before need not be asked again; of several in a row the first answers.
        let mut last = None;
        slots.extend(all.copied().filter(|slot| last.replace(*slot) != Some(*slot) && holds(slot)));
        slots.sort_unstable();
        slots.dedup();
    }
}

/// Tells where this stands first in each line that holds it.
fn one(finder: &Finder<'_>, text: &[u8], mut tell: impl FnMut(usize)) {
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| finder.find(rest)) {
        tell(from + at);
        let Some(newline) = text.get(from + at..).and_then(|rest| memchr::memchr(b'\n', rest)) else { return };
        from += at + newline;
    }
}

/// How to look for these; those for which there is no way.
fn searches(texts: Vec<Text>) -> Result<Vec<Search>, Vec<Text>> {
    let (short, mut long): (Vec<_>, Vec<_>) = texts.iter().cloned().partition(|text| text.bytes.len() < PIECE && !text.folded);
    // An automaton takes other texts for short ones too often.
    let mut searches = Vec::new();
    if short.len() > SINGLE {
        long.extend(short);
    } else {
        searches.extend(short.iter().map(|text| Search::One(Box::new(Finder::new(&text.bytes).into_owned()), text.number)));
    }
    let Some(least) = long.iter().map(|text| text.bytes.len()).min() else { return Ok(searches) };
    if least < PIECE || long.len() > (if least < FAST { CROWD / 4 } else { CROWD }) {
        searches.push(Search::Table(Table::new(long).ok_or(texts)?));
    } else {
        searches.push(Search::Sieve(Sieve::new(long, least)));
    }
    Ok(searches)
}

#[cfg(test)]
mod tests {
    use super::table::LANES;
    use super::*;
    use proptest::prelude::*;

    fn prefilter(all: &[Needles]) -> Prefilter {
        Prefilter::new(all.iter().map(|needles| Slot { needles, request: false }))
    }

    fn marks(prefilter: &Prefilter, text: &[u8]) -> Vec<u32> {
        let (mut found, mut slots) = (Vec::new(), Vec::new());
        prefilter.find(text, &mut found);
        prefilter.mark(text, &found, &mut slots);
        slots
    }

    fn texts(texts: &[&[u8]], folded: bool) -> Needles {
        Needles { texts: texts.iter().map(|text| text.to_vec()).collect(), folded, also: None }
    }

    #[test]
    fn overlapping_needles_are_all_seen() {
        let all = [&[&b"abcd"[..]][..], &[b"bc"], &[b"bc", b"x"], &[b"cde"], &[]].map(|all| texts(all, false));
        assert_eq!(marks(&prefilter(&all), b"abcde"), [0, 1, 2, 3, 4]);
        assert_eq!(marks(&prefilter(&all), b"x"), [2, 4]);
        assert!(!prefilter(&all).skips() && prefilter(&all[..4]).skips());
        assert!(marks(&prefilter(&all[..4]), b"y").is_empty());
        assert!(marks(&prefilter(&[]), b"y").is_empty());
    }

    #[test]
    fn rules_of_access_logs_are_looked_for_in_access_logs() {
        let needles = texts(&[b"/wp-login.php"], false);
        let prefilter = Prefilter::new([true, false].map(|request| Slot { needles: &needles, request }).into_iter());
        assert_eq!(marks(&prefilter, b"192.0.2.7 - - [22/Nov/2026:17:00:00 +0100] \"GET /wp-login.php HTTP/1.1\" 404 1"), [0, 1]);
        assert_eq!(marks(&prefilter, b"GET /wp-login.php"), [1]);
    }

    #[test]
    fn case_counts_for_those_for_which_it_does() {
        for small in [&b"needle"[..], b"a nee", b"nee", b"any longer needle"] {
            let all = [texts(&[small], true), texts(&[&small.to_ascii_uppercase()], false)];
            assert_eq!(marks(&prefilter(&all), b"an AnY lOngEr Needle"), [0][..usize::from(small != b"a nee")]);
            assert_eq!(marks(&prefilter(&all), b"x ANY LONGER NEEDLE A NEE"), [0, 1]);
            assert_eq!(marks(&prefilter(&all), b""), [0u32; 0]);
        }
    }

    #[test]
    fn a_long_line_is_looked_through_in_parts() {
        let needle = Text { number: 7, bytes: b"needle".to_vec(), folded: false };
        let table = Table::new(vec![needle]).unwrap();
        // Where it is cut, and around there.
        let part = 20_000 / LANES;
        for newline in [None, Some(part + 3), Some(part * (LANES - 1) - 10)] {
            for near in (0..LANES).map(|cut| cut * part).chain([19_990]) {
                for begin in (near..near + 10).chain(near.saturating_sub(10)..near) {
                    let mut text = vec![b'x'; 20_000];
                    let end = text.len().min(begin + 6);
                    text[begin..end].copy_from_slice(&b"needle"[..end - begin]);
                    if let Some(at) = newline {
                        text[at] = b'\n';
                    }
                    let mut found = Vec::new();
                    table.find(&text, &mut found);
                    found.dedup();
                    let whole = text[begin..].starts_with(b"needle");
                    assert_eq!(found, if whole { vec![Found { at: begin + 5, needle: 7 }] } else { vec![] }, "{newline:?} {begin}");
                }
            }
        }
    }

    /// Needles and a text that may hold them: of few letters, so that there is much to find, and of some that a
    /// search may take for them (`!` and 0xe2 end with the bits of `a` and `b`).
    fn hay() -> impl Strategy<Value = (Vec<(Vec<u8>, bool)>, Vec<u8>)> {
        let needle = (proptest::collection::vec(proptest::sample::select(b"aaaBBBbbb@!\xe2".as_slice()), 1..20), any::<bool>());
        let needles = (1..20usize, proptest::collection::vec(needle, 1..8), 0..400usize).prop_map(|(least, needles, many)| {
            let long = |text: Vec<u8>| if text.len() < least { text.repeat(least.div_ceil(text.len())) } else { text };
            let lower = |(text, folded): (Vec<u8>, bool)| (if folded { text.to_ascii_lowercase() } else { text }, folded);
            let crowd = (0..many).map(|n| (format!("{n:0>least$}").into_bytes(), false));
            needles.into_iter().map(|(text, folded)| lower((long(text), folded))).chain(crowd).collect::<Vec<_>>()
        });
        (needles, proptest::collection::vec(any::<prop::sample::Index>(), 0..400)).prop_map(|(needles, parts)| {
            let pieces = parts.iter().flat_map(|part| match part.index(12) {
                0 => part.get(&needles).0.to_ascii_uppercase(),
                1..4 => part.get(&needles).0.clone(),
                4 => b"\n".to_vec(),
                5..9 => b"ab".to_vec(),
                9 => b"!\xe2".to_vec(),
                _ => b"a@B c".to_vec(),
            });
            let text = pieces.collect();
            (needles, text)
        })
    }

    proptest! {
        /// Each needle is found where it stands and nowhere else, whatever it is looked for with.
        #[test]
        fn all_searches_find_the_same((needles, text) in hay()) {
            let all: Vec<Text> = (0..).zip(&needles).map(|(number, (bytes, folded))| Text { number, bytes: bytes.clone(), folded: *folded }).collect();
            let small = text.to_ascii_lowercase();
            let mut wanted: Vec<(u32, usize)> = Vec::new();
            for needle in &all {
                let text = if needle.folded { &small } else { &text };
                let places = (0..text.len()).filter(|at| text[*at..].starts_with(&needle.bytes));
                wanted.extend(places.map(|at| (needle.number, at)));
            }
            wanted.sort_unstable();
            let least = needles.iter().map(|(text, _)| text.len()).min().unwrap_or(0);
            let mut ways = vec![vec![Search::Table(Table::new(all.clone()).unwrap())], searches(all.clone()).unwrap()];
            if least >= 3 {
                ways.push(vec![Search::Sieve(Sieve::new(all.clone(), least))]);
            }
            for searches in ways {
                let shown = format!("{searches:?}");
                let prefilter = Prefilter { groups: vec![Group { gate: None, searches }], slots: Vec::new(), also: Vec::new(), always: Vec::new() };
                let mut found = Vec::new();
                prefilter.find(&text, &mut found);
                let mut found: Vec<(u32, usize)> = found.iter().filter_map(|found| {
                    // From one of its bytes to where it begins: an occurrence around it is there.
                    let needle = &all[found.needle as usize];
                    let text = if needle.folded { &small } else { &text };
                    let around = found.at.saturating_sub(needle.bytes.len() - 1)..=found.at;
                    let begin = around.into_iter().find(|at| text[*at..].starts_with(&needle.bytes));
                    Some((found.needle, begin?))
                }).collect();
                found.sort_unstable();
                found.dedup();
                let mut lines: Vec<(u32, usize)> = found.iter().map(|(needle, at)| (*needle, line(&text, *at))).collect();
                let mut right: Vec<(u32, usize)> = wanted.iter().map(|(needle, at)| (*needle, line(&text, *at))).collect();
                lines.dedup();
                right.dedup();
                prop_assert_eq!(lines, right, "{}", &shown[..shown.len().min(60)]);
            }
        }
    }

    fn line(text: &[u8], at: usize) -> usize {
        memchr::memchr_iter(b'\n', &text[..at]).count()
    }
}
