//! What a pattern's every match holds: a few short texts, one of which must stand in the line.
//!
//! Found in the pattern's syntax tree: each place of a concatenation gives the texts it can begin
//! with there, an alternation the union of what its branches give. Of all such sets the one is
//! taken whose commonest member is rarest in ordinary logs ([`weight`]).
//!
//! A needle is looked for in the line as it was read, and where something is wrapped around it, in
//! what was unwrapped. Fields are looked at without their escapes, though: a needle of theirs holds
//! only bytes that no encoder of JSON escapes ([`plain`]).

use std::collections::BTreeSet;

use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Class, Hir, HirKind};

/// Longest needle: longer ones are hardly rarer, and cost states of the automaton.
const LONGEST: usize = 12;
/// A pattern with so many letters of either case, and not just of `[Mm]essage`, is one without case.
const FOLDED: u32 = 4;
/// How far into each text a needle is looked for.
const READ: usize = 24;
/// Shorter ones stand in every other line.
const SHORT: usize = 3;
/// Most needles of one rule; `../` in all its disguises has 150.
const MOST: usize = 384;
/// A set lighter than this is found in too many innocent lines: a second choice is looked for.
const GOOD: u32 = 10;
/// What weighs more is no rarer: then fewer needles are better.
const RARE: u32 = 24;
/// How deep groups are looked into. Patterns nest no deeper than `pattern` allows; this is for fields of others.
const DEPTH: u32 = 40;

/// Words that stand in many innocent lines. A needle made of them weighs little.
const COMMON: &[u8] =
    b"from user User for port the to in on of by at is not and client server host login connection Connection connect request \
    address error warning info root session closed open opened auth ssh2 pid uid index php html http https HTTP POST GET \
    HEAD post get head admin with name method authentication Authentication authenticated Authenticated received Received \
    disconnect disconnected Disconnected COMMAND Mozilla mozilla ://";

/// Texts one of which each match holds. Empty: nothing is known, each line must be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needles {
    /// The texts, sorted; in small letters where case does not count.
    pub texts: Vec<Vec<u8>>,
    /// ASCII letters of either case are meant.
    pub folded: bool,
}

impl Needles {
    /// Those of a pattern over texts as they stand in the line.
    pub(super) fn of(hir: &Hir) -> Self {
        Reader(raw).read(hir)
    }

    /// Those of a pattern over a field.
    pub(super) fn of_field(hir: &Hir) -> Self {
        Reader(plain).read(hir)
    }

    /// These texts as they stand in the line.
    pub(super) fn texts(texts: impl IntoIterator<Item = String>) -> Self {
        Reader(raw).weighed(texts.into_iter().map(String::into_bytes).collect()).map(|(_, needles)| needles).unwrap_or_default()
    }

    /// These texts of a field, where each can be a needle.
    pub(super) fn any<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Self {
        let texts = texts.into_iter().map(|text| text.as_ref().to_vec()).collect();
        Reader(plain).weighed(texts).map(|(_, needles)| needles).unwrap_or_default()
    }

    /// These and nothing else, whatever they weigh.
    pub(super) fn exactly(texts: &[&[u8]]) -> Self {
        Self { texts: texts.iter().map(|text| text.to_vec()).collect(), folded: false }
    }

    /// The first of these that is rare enough, or else the rarest.
    pub(super) fn rarest(sets: impl IntoIterator<Item = Self>) -> Self {
        let mut rarest = Self::default();
        for set in sets.into_iter().filter(|set| !set.is_empty()) {
            if set.weight() >= GOOD {
                return set;
            }
            if set.weight() > rarest.weight() {
                rarest = set;
            }
        }
        rarest
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

/// Reads patterns for needles of these bytes.
#[derive(Clone, Copy)]
struct Reader(fn(u8) -> bool);

impl Reader {
    fn read(self, hir: &Hir) -> Needles {
        let mut letters = 0;
        let small = fold(hir, DEPTH, &mut letters);
        let folded = letters >= FOLDED;
        let found = self.best(if folded { &small } else { hir }, DEPTH).map(|(_, needles)| needles).unwrap_or_default();
        if !folded {
            return found;
        }
        let texts: BTreeSet<Vec<u8>> = found.texts.iter().map(|text| text.to_ascii_lowercase()).collect();
        Needles { texts: texts.into_iter().collect(), folded }
    }

    fn best(self, hir: &Hir, depth: u32) -> Option<Weighed> {
        let depth = depth.checked_sub(1)?;
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) => self.beginnings(hir),
            HirKind::Literal(literal) => self.weighed(vec![literal.0.to_vec()]),
            HirKind::Capture(capture) => self.best(&capture.sub, depth),
            HirKind::Repetition(repetition) if repetition.min > 0 => self.best(&repetition.sub, depth),
            HirKind::Repetition(_) => None,
            HirKind::Alternation(all) => {
                let union = all.iter().map(|one| self.best(one, depth)).collect::<Option<Vec<_>>>().and_then(united);
                heavier(self.beginnings(hir), union)
            }
            HirKind::Concat(all) => {
                let mut found = None;
                for (at, one) in all.iter().enumerate() {
                    // There is nothing better.
                    if found.as_ref().is_some_and(|(weight, _)| *weight >= RARE) {
                        break;
                    }
                    let rest = all.get(at..).unwrap_or_default().to_vec();
                    found = heavier(found, self.beginnings(&Hir::concat(rest)));
                    found = heavier(found, self.best(one, depth));
                }
                found
            }
        }
    }

    /// The texts that a match of this begins with.
    fn beginnings(self, hir: &Hir) -> Option<Weighed> {
        let mut extractor = Extractor::new();
        extractor.limit_total(MOST).limit_literal_len(READ).limit_class(3).limit_repeat(4);
        let found = extractor.extract(hir);
        self.weighed(found.literals()?.iter().map(|literal| literal.as_bytes().to_vec()).collect())
    }

    /// The rarest piece of each text.
    fn weighed(self, texts: Vec<Vec<u8>>) -> Option<Weighed> {
        finished(texts.iter().map(|text| self.piece(text)).collect::<Option<BTreeSet<_>>>()?)
    }

    /// The heaviest piece of at most [`LONGEST`] bytes of bytes that it may hold.
    fn piece(self, text: &[u8]) -> Option<Vec<u8>> {
        let runs = text.split(|byte| !self.0(*byte)).filter(|run| !run.is_empty());
        let windows = runs.flat_map(|run| run.windows(run.len().min(LONGEST)));
        // Of equals the first: daemons begin with what sets their messages apart.
        windows.rev().max_by_key(|window| weight(window)).map(<[u8]>::to_vec)
    }
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
    let needles = Needles { texts, folded: false };
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

/// How rare a text is in ordinary logs, roughly: what its bytes weigh, those of common words and
/// numbers next to nothing.
pub(super) fn weight(text: &[u8]) -> u32 {
    if text.len() < SHORT {
        return 0;
    }
    let same = |a: &u8, b: &u8| a.is_ascii_alphanumeric() == b.is_ascii_alphanumeric();
    let pieces = text.split(|byte| *byte == b' ').flat_map(|word| word.chunk_by(same));
    pieces.map(piece_weight).sum::<u32>() + u32::from(text.contains(&b' '))
}

/// The same of a word, or of what stands between words.
fn piece_weight(piece: &[u8]) -> u32 {
    // A piece of a common word is as common.
    if piece.len() > 1 && memchr::memmem::find(COMMON, piece).is_some() {
        return 2;
    }
    // A dash, a bracket, a colon; a letter that was cut off its word.
    if piece.len() == 1 {
        return 1;
    }
    piece
        .iter()
        .map(|byte| match byte {
            b'0'..=b'9' => 1,
            b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 2,
            b'A'..=b'Z' => 4,
            _ => 3,
        })
        .sum()
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
        /// Whatever matches holds one of them.
        #[test]
        fn no_match_is_without_a_needle(pattern in pattern(), text in "[a-cAB ]{0,24}") {
            let found = Needles::of(&hir(&pattern));
            let regex = regex::bytes::RegexBuilder::new(&format!("^(?:{pattern})$")).unicode(false).build().unwrap();
            if !found.is_empty() && regex.is_match(text.as_bytes()) {
                let text = if found.folded { text.to_ascii_lowercase() } else { text };
                prop_assert!(found.texts.iter().any(|needle| memchr::memmem::find(text.as_bytes(), needle).is_some()), "{found:?}");
            }
        }
    }
}
