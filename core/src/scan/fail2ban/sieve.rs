//! Tells in one pass which expressions a line can match at all.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::expression::Expression;

/// The texts that the expressions of a filter ask for.
#[derive(Debug)]
pub(super) struct Sieve {
    texts: Option<AhoCorasick>,
    /// For each text, the expressions that ask for it.
    owners: Vec<Vec<usize>>,
    /// Expressions that ask for none.
    always: Vec<bool>,
}

impl Sieve {
    pub(super) fn new<'a>(expressions: impl Iterator<Item = &'a Expression>) -> Self {
        let (mut texts, mut owners, mut always) = (Vec::<String>::new(), Vec::<Vec<usize>>::new(), Vec::new());
        for (i, expression) in expressions.enumerate() {
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
        }
        let mut builder = AhoCorasick::builder();
        builder.ascii_case_insensitive(true).match_kind(MatchKind::Standard).kind(Some(AhoCorasickKind::DFA));
        let built = builder.build(&texts).ok();
        if built.is_none() {
            always.fill(true);
        }
        Self { texts: built, owners, always }
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
