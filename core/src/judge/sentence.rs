//! How long a ban lasts, for a first or a repeat offender.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::policy::{Escalate, Policy};
use crate::cover::Lengths;
use crate::net::Prefix;
use crate::time::{Span, Stamp, Term, Until};

/// One sentence of the past or present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentence {
    /// Who.
    pub prefix: Prefix,
    /// When it began.
    pub started: Stamp,
    /// When it ends or ended.
    pub ends: Until,
}

/// What makes a repeat offender: the sentences so far, at most a fixed number of them. When there
/// are more, those that ended longest ago are forgotten first.
#[derive(Clone, Debug)]
pub struct Past {
    sentences: BTreeMap<(Prefix, Stamp), Until>,
    ends: BTreeSet<(Until, Prefix, Stamp)>,
    lengths: Lengths,
    capacity: usize,
}

impl Past {
    /// A past of at most `capacity` sentences (at least one).
    pub fn new(capacity: usize) -> Self {
        Self { sentences: BTreeMap::new(), ends: BTreeSet::new(), lengths: Lengths::default(), capacity: capacity.max(1) }
    }

    /// Remembers a sentence, new or from the store. One of the same prefix and start is replaced.
    pub fn add(&mut self, sentence: Sentence) {
        self.drop_one(sentence.prefix, sentence.started);
        self.lengths.add(sentence.prefix);
        self.sentences.insert((sentence.prefix, sentence.started), sentence.ends);
        self.ends.insert((sentence.ends, sentence.prefix, sentence.started));
        if self.sentences.len() > self.capacity
            && let Some(&(_, prefix, started)) = self.ends.first()
        {
            self.drop_one(prefix, started);
        }
    }

    /// Forgets every sentence that ended at or before `moment`, which no policy looks at any more.
    pub fn forget_ended(&mut self, moment: Stamp) {
        while let Some(&(ends, prefix, started)) = self.ends.first()
            && ends.over(moment)
        {
            self.drop_one(prefix, started);
        }
    }

    /// The sentences of `prefix` and of the prefixes that cover it, widest prefix first.
    pub fn of(&self, prefix: Prefix) -> impl Iterator<Item = Sentence> + '_ {
        let all = self.lengths.covers_of(prefix).flat_map(|p| self.sentences.range((p, Stamp(i64::MIN))..=(p, Stamp(i64::MAX))));
        all.map(|((prefix, started), ends)| Sentence { prefix: *prefix, started: *started, ends: *ends })
    }

    /// Moves every sentence along with a wall clock that stepped by `ms`.
    pub fn shift(&mut self, ms: i64) {
        let old = std::mem::take(&mut self.sentences);
        self.sentences = old.into_iter().map(|((prefix, started), ends)| ((prefix, started.shifted(ms)), ends.shifted(ms))).collect();
        self.ends = self.sentences.iter().map(|((prefix, started), ends)| (*ends, *prefix, *started)).collect();
    }

    /// How many sentences are remembered.
    pub fn len(&self) -> usize {
        self.sentences.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    fn drop_one(&mut self, prefix: Prefix, started: Stamp) {
        if let Some(ends) = self.sentences.remove(&(prefix, started)) {
            self.ends.remove(&(ends, prefix, started));
            self.lengths.remove(prefix);
        }
    }
}

/// How long `prefix` is banned if it is banned at `now`, and the how manieth offence that is.
pub fn sentence(policy: &Policy, prefix: Prefix, past: &Past, now: Stamp) -> (Term, u32) {
    let counts = |s: &Sentence| match &policy.escalate {
        Escalate::Factor { forget, .. } => s.started <= now && s.ends > Until::At(now.minus(*forget)),
        Escalate::Ladder { within, .. } => s.started <= now && s.started > now.minus(*within),
    };
    let earlier = u32::try_from(past.of(prefix).filter(counts).count()).unwrap_or(u32::MAX - 1);
    let term = match &policy.escalate {
        Escalate::Factor { factor, max, .. } => grown(policy.ban_time, factor.0, earlier).min(*max),
        Escalate::Ladder { steps, .. } => {
            let step = steps.get(earlier as usize).or_else(|| steps.last());
            step.copied().unwrap_or(policy.ban_time)
        }
    };
    (term, earlier + 1)
}

/// `term * factor^times`, saturating. A factor below 1, which the config refuses, does not shorten.
fn grown(term: Term, factor: f64, times: u32) -> Term {
    match term {
        Term::For(span) if times > 0 && span > Span::ZERO => {
            let factor = factor.max(1.0).powi(i32::try_from(times).unwrap_or(i32::MAX));
            Term::For(span.times(factor))
        }
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::f64Eq;
    use super::*;

    fn p(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn secs(s: u64) -> Term {
        Term::For(Span::secs(s))
    }

    /// A sentence of 300 s that began at `start` seconds.
    fn short(prefix: &str, start: i64) -> Sentence {
        Sentence { prefix: p(prefix), started: Stamp(start * 1000), ends: Until::At(Stamp((start + 300) * 1000)) }
    }

    fn ladder() -> Policy {
        let steps = vec![secs(300), secs(7 * 86_400)];
        Policy { escalate: Escalate::Ladder { steps, within: Span::secs(86_400) }, ..Policy::default() }
    }

    const WHO: &str = "203.0.113.7";

    #[test]
    fn the_ladder_counts_what_started_within_its_time() {
        let mut past = Past::new(100);
        let at = |past: &Past, s: i64| sentence(&ladder(), p(WHO), past, Stamp(s * 1000));
        assert_eq!(at(&past, 0), (secs(300), 1));
        past.add(short(WHO, 0));
        assert_eq!(at(&past, 86_399), (secs(604_800), 2), "a second breach within a day");
        assert_eq!(at(&past, 86_400), (secs(300), 1), "(0, 86400] excludes the first");
        past.add(short(WHO, 1000));
        past.add(short(WHO, 2000));
        assert_eq!(at(&past, 3000), (secs(604_800), 4), "the last step for all later ones");
    }

    #[test]
    fn the_factor_grows_to_its_cap_and_forgets() {
        let policy = Policy::default();
        let mut past = Past::new(100);
        let mut now = Stamp(0);
        let mut terms = Vec::new();
        for n in 1..=14 {
            let (term, offences) = sentence(&policy, p(WHO), &past, now);
            assert_eq!(offences, n);
            let Term::For(span) = term else { panic!("{term:?}") };
            terms.push(span.as_secs_ceil());
            past.add(Sentence { prefix: p(WHO), started: now, ends: term.from(now) });
            now = now.plus(span);
        }
        assert_eq!(terms[..4], [600, 1200, 2400, 4800]);
        assert_eq!(terms[10..], [604_800; 4]);
        let forget = Span::secs(30 * 86_400);
        let last = past.of(p(WHO)).last().unwrap().ends.left(Stamp(0)).unwrap();
        assert_eq!(sentence(&policy, p(WHO), &past, Stamp(0).plus(last).plus(forget).minus(Span::millis(1))).1, 2);
        assert_eq!(sentence(&policy, p(WHO), &past, Stamp(0).plus(last).plus(forget)), (secs(600), 1));
    }

    #[test]
    fn hostile_numbers_saturate() {
        let mut past = Past::new(5000);
        (0..3000).for_each(|n| past.add(short(WHO, n)));
        let huge = |ban_time, factor| Policy {
            ban_time,
            escalate: Escalate::Factor { factor: f64Eq(factor), max: Term::Forever, forget: Span::millis(u64::MAX) },
            ..Policy::default()
        };
        let now = Stamp(4_000_000);
        assert_eq!(sentence(&huge(secs(1), 1e300), p(WHO), &past, now).0, Term::For(Span::millis(u64::MAX)));
        assert_eq!(sentence(&huge(secs(1), -3.0), p(WHO), &past, now).0, secs(1));
        assert_eq!(sentence(&huge(Term::Forever, 2.0), p(WHO), &past, now).0, Term::Forever);
        assert_eq!(sentence(&huge(secs(0), 2.0), p(WHO), &past, now).0, secs(0));
    }

    #[test]
    fn a_covering_sentence_counts_and_a_neighbours_does_not() {
        let mut past = Past::new(100);
        past.add(short("2001:db8::/64", 0));
        past.add(short("2001:db8::1", 10));
        let offences = |who: &str| sentence(&ladder(), p(who), &past, Stamp(20_000)).1;
        assert_eq!(
            (offences("2001:db8::1"), offences("2001:db8::2"), offences("2001:db8::/64"), offences("2001:db8:0:1::/64")),
            (3, 2, 2, 1)
        );
    }

    #[test]
    fn the_past_is_bounded_and_forgets_what_ended_first() {
        let mut past = Past::new(3);
        past.add(Sentence { ends: Until::Forever, ..short(WHO, 0) });
        (1..10).for_each(|n| past.add(short("198.51.100.1", n)));
        past.add(short("198.51.100.1", 9));
        assert_eq!((past.len(), past.ends.len()), (3, 3));
        assert_eq!(past.of(p(WHO)).count(), 1, "what has no end is not forgotten");
        past.shift(1000);
        past.forget_ended(Stamp(309_000));
        assert_eq!(past.of(p("198.51.100.1")).map(|s| s.started).collect::<Vec<_>>(), [Stamp(10_000)]);
        past.forget_ended(Stamp(i64::MAX));
        assert_eq!(past.len(), 1);
    }
}
