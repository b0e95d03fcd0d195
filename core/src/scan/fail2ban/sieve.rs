//! Tells in one pass which expressions a line can match at all.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::expression::Expression;

/// Longer needles are not looked for where a date was cut out: they are taken to be there.
const WINDOW: usize = 64;

/// The texts that the expressions of a filter ask for.
#[derive(Debug)]
pub(super) struct Sieve {
    texts: Option<AhoCorasick>,
    /// For each text, the expressions that ask for it.
    owners: Vec<Vec<usize>>,
    /// Expressions that ask for none.
    always: Vec<bool>,
    /// What the failregexes ask for; none where one of them asks for nothing.
    needles: Vec<String>,
    /// Which bytes stand behind one another in a needle: for each of ASCII, in small letters, the set of the next.
    pairs: Box<[u128]>,
}

impl Sieve {
    /// For the failregexes and the prefregex, in this order.
    pub(super) fn new<'a>(fails: impl Iterator<Item = &'a Expression>, pref: Option<&'a Expression>) -> Self {
        let (mut texts, mut owners, mut always) = (Vec::<String>::new(), Vec::<Vec<usize>>::new(), Vec::new());
        let mut add = |i: usize, expression: &Expression| {
            let literals = expression.literals();
            always.push(literals.is_none());
            for literal in literals.unwrap_or_default() {
                match texts.iter().position(|text| text == literal) {
                    Some(at) => owners.get_mut(at).into_iter().for_each(|owners| owners.push(i)),
                    None => {
                        texts.push(literal.clone());
                        owners.push(vec![i]);
                    }
                }
            }
            texts.len()
        };
        let (mut count, mut needles) = (0, 0);
        for (i, expression) in fails.enumerate() {
            (count, needles) = (i + 1, add(i, expression));
        }
        if let Some(pref) = pref {
            add(count, pref);
        }
        let all = always.iter().take(count).any(|always| *always);
        let needles = if all { Vec::new() } else { texts.iter().take(needles).cloned().collect() };
        let mut builder = AhoCorasick::builder();
        builder.ascii_case_insensitive(true).match_kind(MatchKind::Standard).kind(Some(AhoCorasickKind::DFA));
        let built = builder.build(&texts).ok();
        if built.is_none() {
            always.fill(true);
        }
        Self { texts: built, owners, always, pairs: pairs(&needles), needles }
    }

    /// Texts in small letters, one of which each line holds that a failregex can match; none: nothing is known.
    pub(super) fn needles(&self) -> &[String] {
        &self.needles
    }

    /// Whether a needle stands there where these two are put together, that stands in neither.
    pub(super) fn joins(&self, before: &[u8], after: &[u8]) -> bool {
        let (Some(last), Some(first)) = (before.last(), after.first()) else { return false };
        let next = self.pairs.get(usize::from(last.to_ascii_lowercase()));
        if first.is_ascii() && next.is_some_and(|next| next >> first.to_ascii_lowercase() & 1 == 0) {
            return false;
        }
        let most = self.needles.iter().map(String::len).max().unwrap_or(0);
        let mut room = [0; 2 * WINDOW];
        let before = before.get(before.len().saturating_sub(most)..).unwrap_or_default();
        let after = after.get(..most.min(after.len())).unwrap_or_default();
        let length = before.len() + after.len();
        let Some(window) = room.get_mut(..length).filter(|_| most <= WINDOW) else { return true };
        for (place, byte) in window.iter_mut().zip(before.iter().chain(after)) {
            *place = *byte;
        }
        let Some(texts) = &self.texts else { return true };
        texts.find_overlapping_iter(&*window).any(|found| found.start() < before.len() && found.end() > before.len())
    }

    /// Sets `possible` to whether each expression can match.
    pub(super) fn sift(&self, text: &str, possible: &mut Vec<bool>) {
        possible.clear();
        possible.extend_from_slice(&self.always);
        let Some(texts) = &self.texts else { return };
        for found in texts.find_overlapping_iter(text) {
            for owner in self.owners.get(found.pattern().as_usize()).into_iter().flatten() {
                if let Some(place) = possible.get_mut(*owner) {
                    *place = true;
                }
            }
        }
    }
}

fn pairs(needles: &[String]) -> Box<[u128]> {
    let mut pairs = vec![0; 128];
    for (before, after) in needles.iter().flat_map(|needle| needle.bytes().zip(needle.bytes().skip(1))) {
        if let Some(next) = pairs.get_mut(usize::from(before)).filter(|_| after.is_ascii()) {
            *next |= 1_u128 << after;
        }
    }
    pairs.into()
}
