//! What a pattern's every match holds: a few short texts, one of which must stand in the line.
//!
//! Found in the pattern's syntax tree: each place of a concatenation gives the texts it can begin
//! with there, an alternation the union of what its branches give. Of all such sets the one is
//! taken whose commonest member is rarest in ordinary logs ([`rarity`]).
//!
//! A needle is looked for in the line as it was read, and where something is wrapped around it, in
//! what was unwrapped. Fields are looked at without their escapes, though: a needle of theirs holds
//! only bytes that no encoder of JSON escapes ([`plain`]).

mod rarity;

use std::collections::BTreeSet;

use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Class, Hir, HirKind};

pub(super) use rarity::weight;

/// Longest needle: longer ones are hardly rarer, and cost states of the automaton.
const LONGEST: usize = 12;
/// A pattern with so many letters of either case, and not just of `[Mm]essage`, is one without case.
const FOLDED: u32 = 4;
/// How far into each text a needle is looked for.
const READ: usize = 24;
/// Longer ones are found with less work: a set that has a shorter one is the second to be asked.
pub(super) const FAST: usize = 7;
/// So many bytes before a text are kept in mind: a word of a path is rarer with its slash.
const BEFORE: usize = 4;
/// Most needles of one rule; `../` in all its disguises has 150.
const MOST: usize = 384;
/// A set lighter than this is found in too many innocent lines: a second choice is looked for.
const GOOD: u32 = 10;
/// What weighs more is no rarer: then fewer needles are better.
const RARE: u32 = 24;
/// A set lighter than this stands in so many lines that it is no help.
const COMMONEST: u32 = 4;
/// How deep groups are looked into. Patterns nest no deeper than `pattern` allows; this is for fields of others.
const DEPTH: u32 = 40;

/// Texts one of which each match holds. Empty: nothing is known, each line must be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needles {
    /// The texts, sorted; in small letters where case does not count.
    pub texts: Vec<Vec<u8>>,
    /// ASCII letters of either case are meant.
    pub folded: bool,
    /// Of these too one stands in each such line. They are rarer, and take more work to find.
    pub also: Option<Box<Self>>,
}

impl Needles {
    /// Those of a pattern over texts as they stand in the line.
    pub(super) fn of(hir: &Hir) -> Self {
        let rarest = Reader::new(raw).read(hir, b"");
        if rarest.shortest() >= FAST {
            return rarest;
        }
        Reader { least: FAST, ..Reader::new(raw) }.read(hir, b"").besides(rarest)
    }

    /// Those of a pattern over a text before which one of these stands.
    pub(super) fn of_behind(hir: &Hir, before: &[&[u8]]) -> Self {
        let all: Vec<Self> = before.iter().map(|before| Reader::new(raw).read(hir, before)).collect();
        if all.iter().any(Self::is_empty) {
            return Self::of(hir);
        }
        let folded = all.iter().any(|needles| needles.folded);
        let (_, union) = finished(all.into_iter().flat_map(|needles| needles.texts).collect()).unwrap_or_default();
        Self { folded, ..union }
    }

    /// Those of a pattern over a field.
    pub(super) fn of_field(hir: &Hir) -> Self {
        Reader::new(plain).read(hir, b"")
    }

    /// These texts as they stand in the line.
    pub(super) fn texts(texts: impl IntoIterator<Item = String>) -> Self {
        Reader::new(raw).weighed(texts.into_iter().map(String::into_bytes).collect()).map(|(_, needles)| needles).unwrap_or_default()
    }

    /// These texts of a field, where each can be a needle.
    pub(super) fn any<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Self {
        let texts = texts.into_iter().map(|text| text.as_ref().to_vec()).collect();
        Reader::new(plain).weighed(texts).map(|(_, needles)| needles).unwrap_or_default()
    }

    /// These and nothing else, whatever they weigh.
    pub(super) fn exactly(texts: &[&[u8]]) -> Self {
        Self { texts: texts.iter().map(|text| text.to_vec()).collect(), ..Self::default() }
    }

    /// Whether not each line of its program holds one.
    pub(super) fn is_help(&self) -> bool {
        self.weight() >= COMMONEST
    }

    /// Whether they are rare, and found with little work.
    pub(super) fn is_worth_it(&self) -> bool {
        self.shortest() >= FAST && self.weight() >= GOOD
    }

    /// The first of these that is worth it, or else the rarest.
    pub(super) fn rarest(sets: impl IntoIterator<Item = Self>) -> Self {
        let mut rarest = Self::default();
        for set in sets.into_iter().filter(|set| !set.is_empty()) {
            if set.is_worth_it() {
                return set;
            }
            if set.weight() > rarest.weight() {
                rarest = set;
            }
        }
        rarest
    }

    /// These, and in a line that holds one, those; only those where these stand everywhere.
    pub(super) fn besides(self, rarer: Self) -> Self {
        if rarer.is_empty() {
            return self;
        }
        if !self.is_help() {
            return rarer;
        }
        Self { also: Some(Box::new(rarer)), ..self }
    }

    /// How long the shortest is; 0 where nothing is known.
    pub(super) fn shortest(&self) -> usize {
        self.texts.iter().map(Vec::len).min().unwrap_or(0)
    }

    /// Whether nothing is known.
    pub const fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    fn weight(&self) -> u32 {
        self.texts.iter().map(|text| weight(text)).min().unwrap_or(0)
    }
}

type Weighed = (u32, Needles);

fn heavier(a: Option<Weighed>, b: Option<Weighed>) -> Option<Weighed> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 > a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Reads patterns for needles.
#[derive(Clone, Copy)]
struct Reader {
    /// What a needle may hold.
    holds: fn(u8) -> bool,
    /// How long each must be.
    least: usize,
}

impl Reader {
    const fn new(holds: fn(u8) -> bool) -> Self {
        Self { holds, least: 1 }
    }

    fn read(self, hir: &Hir, before: &[u8]) -> Needles {
        let mut letters = 0;
        let small = fold(hir, DEPTH, &mut letters);
        let folded = letters >= FOLDED;
        let before = if folded { before.to_ascii_lowercase() } else { before.to_vec() };
        let found = self.best(if folded { &small } else { hir }, &before, DEPTH).map(|(_, needles)| needles).unwrap_or_default();
        if !folded {
            return found;
        }
        let texts: BTreeSet<Vec<u8>> = found.texts.iter().map(|text| text.to_ascii_lowercase()).collect();
        Needles { texts: texts.into_iter().collect(), folded, also: None }
    }

    /// The rarest set, where these bytes stand before.
    fn best(self, hir: &Hir, before: &[u8], depth: u32) -> Option<Weighed> {
        let depth = depth.checked_sub(1)?;
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) => self.beginnings(hir, before),
            HirKind::Literal(literal) => self.weighed(vec![[before, &literal.0].concat()]),
            HirKind::Capture(capture) => self.best(&capture.sub, before, depth),
            HirKind::Repetition(repetition) if repetition.min > 0 => self.best(&repetition.sub, b"", depth),
            HirKind::Repetition(_) => None,
            HirKind::Alternation(all) => {
                let union = all.iter().map(|one| self.best(one, before, depth)).collect::<Option<Vec<_>>>().and_then(united);
                heavier(self.beginnings(hir, before), union)
            }
            HirKind::Concat(all) => {
                let mut found = None;
                let mut before = before.to_vec();
                let mut joined = false;
                for (at, one) in all.iter().enumerate() {
                    // There is nothing better.
                    if found.as_ref().is_some_and(|(weight, _)| *weight >= RARE) {
                        break;
                    }
                    // What begins within a text was looked at from where that begins.
                    if !joined {
                        let rest = all.get(at..).unwrap_or_default().to_vec();
                        found = heavier(found, self.beginnings(&Hir::concat(rest), &before));
                    }
                    found = heavier(found, self.best(one, &before, depth));
                    joined = matches!(one.kind(), HirKind::Literal(_));
                    before = behind(&before, one, depth);
                }
                found
            }
        }
    }

    /// The texts that a match of this begins with, and what stands before.
    fn beginnings(self, hir: &Hir, before: &[u8]) -> Option<Weighed> {
        let mut extractor = Extractor::new();
        extractor.limit_total(MOST).limit_literal_len(READ).limit_class(3).limit_repeat(4);
        let found = extractor.extract(hir);
        // What stands before says nothing alone.
        let texts = found.literals().filter(|all| all.iter().all(|literal| !literal.is_empty()))?;
        self.weighed(texts.iter().map(|literal| [before, literal.as_bytes()].concat()).collect())
    }

    /// The rarest piece of each text.
    fn weighed(self, texts: Vec<Vec<u8>>) -> Option<Weighed> {
        finished(texts.iter().map(|text| self.piece(text)).collect::<Option<BTreeSet<_>>>()?)
    }

    /// The heaviest piece of at most [`LONGEST`] bytes of bytes that it may hold.
    fn piece(self, text: &[u8]) -> Option<Vec<u8>> {
        let runs = text.split(|byte| !(self.holds)(*byte)).filter(|run| run.len() >= self.least);
        let windows = runs.flat_map(|run| run.windows(run.len().min(LONGEST)));
        // Of equals the first: daemons begin with what sets their messages apart.
        windows.rev().max_by_key(|window| weight(window)).map(<[u8]>::to_vec)
    }
}

/// The bytes that stand directly behind a part of a pattern, as far as they are always the same.
fn behind(before: &[u8], part: &Hir, depth: u32) -> Vec<u8> {
    let Some(depth) = depth.checked_sub(1) else { return Vec::new() };
    let mut text = match part.kind() {
        HirKind::Empty | HirKind::Look(_) => before.to_vec(),
        HirKind::Literal(literal) => [before, &literal.0].concat(),
        HirKind::Capture(capture) => behind(before, &capture.sub, depth),
        HirKind::Concat(all) => all.iter().fold(before.to_vec(), |before, one| behind(&before, one, depth)),
        HirKind::Alternation(all) => all.iter().map(|one| behind(before, one, depth)).reduce(|a, b| common_end(&a, &b)).unwrap_or_default(),
        HirKind::Repetition(repetition) => {
            let once = behind(b"", &repetition.sub, depth);
            if repetition.min == 0 { common_end(before, &once) } else { once }
        }
        HirKind::Class(_) => Vec::new(),
    };
    text.drain(..text.len().saturating_sub(BEFORE));
    text
}

fn common_end(a: &[u8], b: &[u8]) -> Vec<u8> {
    let same = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    a.get(a.len() - same..).unwrap_or_default().to_vec()
}

/// All of these together.
fn united(all: Vec<Weighed>) -> Option<Weighed> {
    finished(all.into_iter().flat_map(|(_, needles)| needles.texts).collect())
}

/// The same without the difference of large and small letters, and how many letters it did not make
/// it for before.
fn fold(hir: &Hir, depth: u32, letters: &mut u32) -> Hir {
    let Some(depth) = depth.checked_sub(1) else { return hir.clone() };
    match hir.kind() {
        HirKind::Class(Class::Bytes(class)) => match class.ranges() {
            [large, small] if large.len() == 1 && small.len() == 1 && large.start().to_ascii_lowercase() == small.start() => {
                *letters += 1;
                Hir::literal([small.start()])
            }
            _ => hir.clone(),
        },
        HirKind::Repetition(repetition) => {
            let mut repetition = repetition.clone();
            *repetition.sub = fold(&repetition.sub, depth, letters);
            Hir::repetition(repetition)
        }
        HirKind::Capture(capture) => fold(&capture.sub, depth, letters),
        HirKind::Concat(all) => Hir::concat(all.iter().map(|one| fold(one, depth, letters)).collect()),
        HirKind::Alternation(all) => Hir::alternation(all.iter().map(|one| fold(one, depth, letters)).collect()),
        HirKind::Literal(literal) => Hir::literal(literal.0.to_ascii_lowercase()),
        _ => hir.clone(),
    }
}

fn finished(texts: BTreeSet<Vec<u8>>) -> Option<Weighed> {
    if texts.is_empty() || texts.len() > MOST {
        return None;
    }
    // One that holds another is found wherever that one is.
    let all: Vec<Vec<u8>> = texts.into_iter().collect();
    let holds = |long: &[u8], short: &[u8]| long.len() > short.len() && long.windows(short.len()).any(|window| window == short);
    let texts: Vec<Vec<u8>> = all.iter().filter(|long| !all.iter().any(|short| holds(long, short))).cloned().collect();
    let needles = Needles { texts, ..Needles::default() };
    // Each doubling of their number costs a little.
    let weight = needles.weight();
    Some((weight.min(RARE).saturating_sub(needles.texts.len().ilog2()).max(weight.min(1)), needles))
}

/// All bytes but those that end a line or begin a colour.
const fn raw(byte: u8) -> bool {
    !matches!(byte, b'\n' | b'\r' | 0x1b)
}

/// Bytes that stand for themselves in every JSON: not what encoders escape though they need not
/// (`/` in PHP, `<>&` in Go, `'+` and the grave accent in .NET, all beyond ASCII in Python).
const fn plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'/' | b'<' | b'>' | b'&' | b'\'' | b'+' | b'`')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex_syntax::ParserBuilder;

    fn hir(pattern: &str) -> Hir {
        ParserBuilder::new().unicode(false).utf8(false).build().parse(pattern).unwrap()
    }

    fn needles(pattern: &str) -> Vec<String> {
        Needles::of(&hir(pattern)).texts.iter().map(|text| String::from_utf8(text.clone()).unwrap()).collect()
    }

    #[test]
    fn the_rarest_texts_of_a_pattern_are_taken() {
        assert_eq!(needles("^Unable to negotiate with (?P<addr>[0-9.]+): no$"), ["nable to neg"]);
        assert_eq!(needles("^.* from [0-9.]+: Login failed$"), ["Login failed"]);
        assert_eq!(needles("^(?:Invalid|Illegal) user .*$"), ["Illegal user", "Invalid user"]);
        assert_eq!(needles("^x(?:.*|y)$"), ["x"]);
        assert_eq!(needles("^(?:.*/)?(?:a/)?(?:phpinfo|shell)\\.php$"), ["a/phpinfo.ph", "phpinfo.php", "shell.php"]);
        assert!(needles("^[0-9.]+ .*$").iter().all(|needle| needle == " "));
        assert!(needles("^(?:abcdef)?[0-9]+$").iter().all(|needle| needle.len() == 1));
        assert!(needles("^.*$").is_empty());
    }

    #[test]
    fn what_stands_before_makes_a_word_rarer() {
        let behind = |pattern: &str| -> Vec<String> {
            let found = Needles::of_behind(&hir(pattern), &[b" ", b"] \""]);
            found.texts.iter().map(|text| String::from_utf8(text.clone()).unwrap()).collect()
        };
        assert_eq!(behind("^/(?:[^?]*/)?(?:[^?]*_shell|pma|HNAP1)$"), ["/HNAP1", "/pma", "] \"/", "_shell"]);
        assert_eq!(behind("^https?:.*$"), [" http:", " https:", "] \"http:", "] \"https:"]);
        assert_eq!(behind("^.*/(?:x/)?wp-login$"), ["/wp-login"]);
        assert_eq!(behind("^.*$"), [""; 0]);
    }

    #[test]
    fn a_rare_but_short_set_is_asked_second() {
        let found = Needles::of(&hir("^FAIL: [a-z]+ address from=[0-9.]+$"));
        assert_eq!((found.texts, found.also.unwrap().texts), (vec![b"ddress from=".to_vec()], vec![b"FAIL: ".to_vec()]));
    }

    #[test]
    fn what_json_escapes_is_in_no_needle_of_a_field() {
        let needles = |pattern: &str| -> Vec<String> {
            Needles::of_field(&hir(pattern)).texts.iter().map(|text| String::from_utf8(text.clone()).unwrap()).collect()
        };
        assert_eq!(needles("^user=\"root\", path=/etc/passwd<$"), ["passwd"]);
        assert!(needles("^\"\\\\/<>$").is_empty());
    }

    #[test]
    fn case_is_folded_where_the_pattern_folds_it() {
        let found = Needles::of(&hir("^(?i)denied by .*$"));
        assert!(found.folded);
        assert!(found.texts.iter().all(|text| *text == text.to_ascii_lowercase() && text.len() >= 3), "{found:?}");
        assert!(!Needles::of(&hir("^[Dd]enied by$")).folded);
    }

    fn holds(found: &Needles, text: &str) -> bool {
        let small = if found.folded { text.to_ascii_lowercase() } else { text.to_owned() };
        let one = found.is_empty() || found.texts.iter().any(|needle| memchr::memmem::find(small.as_bytes(), needle).is_some());
        one && found.also.as_ref().is_none_or(|also| holds(also, text))
    }

    fn pattern() -> impl Strategy<Value = String> {
        let leaf =
            prop_oneof!["[a-c ]{1,4}", Just("[ab]".to_owned()), Just("[a-z]".to_owned()), Just(".".to_owned()), Just("(?i:ab)".to_owned())];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 1..4).prop_map(|all| all.concat()),
                proptest::collection::vec(inner.clone(), 1..4).prop_map(|all| format!("(?:{})", all.join("|"))),
                (inner.clone(), "[*+?]|\\{2\\}|\\{0,2\\}").prop_map(|(one, many)| format!("(?:{one}){many}")),
                inner.prop_map(|one| format!("({one})")),
            ]
        })
    }

    proptest! {
        /// Whatever matches holds one of them, and of the others too; what stands before included.
        #[test]
        fn no_match_is_without_a_needle(pattern in pattern(), text in "[a-cAB ]{0,24}") {
            let regex = regex::bytes::RegexBuilder::new(&format!("^(?:{pattern})$")).unicode(false).build().unwrap();
            if regex.is_match(text.as_bytes()) {
                let found = Needles::of(&hir(&pattern));
                prop_assert!(holds(&found, &text), "{found:?}");
                let found = Needles::of_behind(&hir(&format!("^(?:{pattern})$")), &[b" ", b"Ba"]);
                prop_assert!([" ", "Ba"].iter().all(|before| holds(&found, &format!("{before}{text}"))), "{found:?}");
            }
        }
    }
}
