//! From what stands to what should stand, in an order that is safe at every step.
//!
//! An allow list that grows goes first, so that nobody new on it meets a ban in between; then
//! blocks; then releases; an allow list that only shrinks goes last, when the bans that were to
//! leave anyway are gone.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use super::wall::{Entry, Found, Frame, Key, Limits, Step, Wanted, keeps};
use crate::ports::Ports;
use crate::time::{Stamp, Until};

/// The steps from found to wanted.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order to take them.
    pub steps: Vec<Step>,
    /// How many bans stand as they should.
    pub unchanged: usize,
    /// How many of the steps give a ban that stands another end.
    pub retimed: usize,
    /// What the backend cannot hold: bans of ports where it knows no ports, and when there are too
    /// many, those that end soonest.
    pub left_out: Vec<Key>,
}

impl Plan {
    /// Whether all is as it should be, as far as the backend can hold it.
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl fmt::Display for Plan {
    /// `3 to add, 1 to release, 4120 unchanged`, and what else there is to tell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |which: fn(&Step) -> bool| self.steps.iter().filter(|step| which(step)).count();
        let add = count(|step| matches!(step, Step::Block(_))) - self.retimed;
        let release = count(|step| matches!(step, Step::Release(_)));
        write!(f, "{add} to add, {release} to release, {} unchanged", self.unchanged)?;
        if self.retimed > 0 {
            write!(f, ", {} to retime", self.retimed)?;
        }
        if count(|step| matches!(step, Step::Frame(_))) > 0 {
            f.write_str(", allow list and rules to set")?;
        }
        if self.left_out.is_empty() { Ok(()) } else { write!(f, ", {} more than the backend can hold", self.left_out.len()) }
    }
}

/// Compares `found`, which must be a full reading, with `wanted` at `now`. Where the rules around
/// the bans are not whole, no ban is taken as standing.
pub fn plan(found: &Found, wanted: &Wanted, limits: &Limits, now: Stamp) -> Plan {
    let (fit, left_out) = cut(wanted, limits, now);
    let mut plan = Plan { left_out, ..Plan::default() };
    let frame = frame_step(found, &wanted.frame);
    if let Some((step, true)) = &frame {
        plan.steps.push(step.clone());
    }
    for (key, until) in &fit {
        let standing = found.bans.get(*key);
        if found.whole && standing.is_some_and(|standing| !limits.timeouts || keeps(standing.left, *until, now)) {
            plan.unchanged += 1;
            continue;
        }
        plan.retimed += usize::from(found.whole && standing.is_some());
        plan.steps.push(Step::Block(Entry { key: (*key).clone(), until: *until }));
    }
    let gone = found.bans.keys().filter(|key| !fit.contains_key(key));
    plan.steps.extend(gone.cloned().map(Step::Release));
    if let Some((step, false)) = frame {
        plan.steps.push(step);
    }
    plan
}

/// What of `wanted` has not ended and the backend can hold, and what it cannot.
fn cut<'a>(wanted: &'a Wanted, limits: &Limits, now: Stamp) -> (BTreeMap<&'a Key, Until>, Vec<Key>) {
    let lasting = wanted.bans.iter().filter(|(_, until)| !until.over(now));
    let (mut fit, beyond): (Vec<_>, Vec<_>) = lasting.partition(|(key, _)| limits.ports || key.ports == Ports::All);
    let mut left_out: Vec<Key> = beyond.into_iter().map(|(key, _)| key.clone()).collect();
    if fit.len() > limits.bans {
        fit.sort_by_key(|(_, until)| Reverse(**until));
        left_out.extend(fit.drain(limits.bans..).map(|(key, _)| key.clone()));
        left_out.sort();
    }
    (fit.into_iter().map(|(key, until)| (key, *until)).collect(), left_out)
}

/// The frame's step where there is one, and whether it goes first.
fn frame_step(found: &Found, wanted: &Frame) -> Option<(Step, bool)> {
    let grows = found.frame.as_ref().is_none_or(|frame| !wanted.allow.is_subset(&frame.allow));
    let same = found.whole && found.frame.as_ref() == Some(wanted);
    (!same).then(|| (Step::Frame(wanted.clone()), grows || !found.whole))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::super::wall::{Refusal, Standing};
    use super::*;
    use crate::net::Prefix;
    use crate::time::Span;

    const NOW: Stamp = Stamp(1_000_000);
    const ABLE: Limits = Limits { bans: 1000, ports: true, timeouts: true, counters: true, lasting: false };

    fn prefix(n: u8) -> Prefix {
        Prefix::host(Ipv4Addr::new(192, 0, 2, n).into())
    }

    /// A model of a firewall: takes the steps literally.
    fn apply(found: &mut Found, steps: &[Step], limits: &Limits) {
        found.whole = true;
        for step in steps {
            match step {
                Step::Frame(frame) => found.frame = Some(frame.clone()),
                Step::Block(entry) => {
                    let left = entry.until.left(NOW).filter(|_| limits.timeouts);
                    found.bans.insert(entry.key.clone(), Standing { left, ..Standing::default() });
                }
                Step::Release(key) => drop(found.bans.remove(key)),
            }
        }
    }

    #[test]
    fn one_line_says_it() {
        let mut wanted = Wanted::default();
        wanted.bans.extend((0..4).map(|n| (Key::all(prefix(n)), Until::Forever)));
        let mut found = Found { whole: true, frame: Some(Frame::default()), ..Found::default() };
        found.bans.insert(Key::all(prefix(3)), Standing::default());
        found.bans.insert(Key::all(prefix(9)), Standing::default());
        assert_eq!(plan(&found, &wanted, &ABLE, NOW).to_string(), "3 to add, 1 to release, 1 unchanged");
        found.bans.insert(Key::all(prefix(2)), Standing { left: Some(Span::secs(60)), ..Standing::default() });
        found.frame = None;
        let told = plan(&found, &wanted, &Limits { bans: 3, ..ABLE }, NOW).to_string();
        assert_eq!(told, "2 to add, 2 to release, 0 unchanged, 1 to retime, allow list and rules to set, 1 more than the backend can hold");
    }

    #[test]
    fn what_ends_soonest_is_left_out_and_what_has_ended_is_not_wanted() {
        let mut wanted = Wanted::default();
        wanted.bans.insert(Key::all(prefix(1)), Until::At(NOW));
        wanted.bans.insert(Key::all(prefix(2)), Until::At(NOW.plus(Span::secs(5))));
        wanted.bans.insert(Key::all(prefix(3)), Until::Forever);
        wanted.bans.insert(Key { ports: Ports::only([22]).unwrap(), ..Key::all(prefix(4)) }, Until::Forever);
        let plan = plan(&Found::default(), &wanted, &Limits { bans: 1, ports: false, ..ABLE }, NOW);
        assert_eq!(plan.left_out.iter().map(|k| k.prefix).collect::<Vec<_>>(), [prefix(2), prefix(4)]);
        assert_eq!(plan.steps.len(), 2, "frame and one block: {plan}");
    }

    fn frames() -> impl Strategy<Value = Frame> {
        (proptest::collection::btree_set((0u8..6).prop_map(prefix), 0..4), any::<bool>())
            .prop_map(|(allow, reject)| Frame { allow, refusal: if reject { Refusal::Reject } else { Refusal::Drop } })
    }

    fn keys() -> impl Strategy<Value = Key> {
        (0u8..10, any::<bool>(), any::<bool>()).prop_map(|(n, ssh, forced)| {
            let ports = if ssh { Ports::only([22]).unwrap() } else { Ports::All };
            Key { prefix: prefix(n), ports, forced }
        })
    }

    fn wanteds() -> impl Strategy<Value = Wanted> {
        let until = prop_oneof![Just(Until::Forever), (-2i64..9).prop_map(|s| Until::At(Stamp(NOW.0 + s * 10_000)))];
        (frames(), proptest::collection::btree_map(keys(), until, 0..15)).prop_map(|(frame, bans)| Wanted { frame, bans })
    }

    fn founds() -> impl Strategy<Value = Found> {
        let left = proptest::option::of((0u64..9).prop_map(|s| Span::secs(s * 10)));
        let standing = left.prop_map(|left| Standing { left, ..Standing::default() });
        (any::<bool>(), proptest::option::of(frames()), proptest::collection::btree_map(keys(), standing, 0..15))
            .prop_map(|(whole, frame, bans)| Found { whole, frame, bans })
    }

    fn limits() -> impl Strategy<Value = Limits> {
        (0usize..20, any::<bool>(), any::<bool>()).prop_map(|(bans, ports, timeouts)| Limits {
            bans,
            ports,
            timeouts,
            counters: false,
            lasting: false,
        })
    }

    proptest! {
        #[test]
        fn after_a_plan_the_next_one_is_empty(mut found in founds(), wanted in wanteds(), limits in limits()) {
            if !limits.timeouts { found.bans.values_mut().for_each(|s| s.left = None); }
            let first = plan(&found, &wanted, &limits, NOW);
            apply(&mut found, &first.steps, &limits);
            let next = plan(&found, &wanted, &limits, NOW);
            prop_assert!(next.is_empty(), "{:?}", next.steps);
            prop_assert_eq!(next.unchanged, found.bans.len());
            let lasting = wanted.bans.values().filter(|until| !until.over(NOW)).count();
            prop_assert_eq!(found.bans.len() + next.left_out.len(), lasting);
        }

        /// At no step does a ban that stood and should stand not stand, nor is one who is on the
        /// list afterwards met by a ban that was not there before.
        #[test]
        fn every_step_is_safe(mut found in founds(), wanted in wanteds()) {
            let stood: BTreeSet<Key> = found.bans.keys().cloned().collect();
            let plan = plan(&found, &wanted, &ABLE, NOW);
            for step in &plan.steps {
                let grown = |found: &Found| found.frame.as_ref().is_some_and(|f| wanted.frame.allow.is_subset(&f.allow));
                if matches!(step, Step::Block(_)) { prop_assert!(grown(&found), "a block before the allow list grew"); }
                apply(&mut found, std::slice::from_ref(step), &ABLE);
                let lasting = stood.iter().filter(|key| wanted.bans.get(key).is_some_and(|until| !until.over(NOW)));
                prop_assert!(lasting.into_iter().all(|key| found.bans.contains_key(key)));
            }
        }
    }
}
