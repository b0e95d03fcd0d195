//! Which uplinks a policy uses, and when it changes.
//!
//! ```text
//!   a chosen one fails, others of its tier work   the others carry on
//!   all chosen ones fail                          the lowest tier with a working one, at once
//!   a better one is back                          taken after it was up for `failback_after`
//!   none works at all                             no change: more likely the targets are at fault than every uplink
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::spec::{Member, Policy, Purge, Spec};
use super::wanted::{Chosen, Health, Healths};
use crate::time::{Now, Tick};

/// What each policy has chosen, over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chooser {
    chosen: Chosen,
    /// Since when each uplink that works does.
    up: BTreeMap<Arc<str>, Tick>,
    deadline: Option<Tick>,
}

/// A policy uses other uplinks than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// Which policy.
    pub policy: Arc<str>,
    /// Uplinks it does not use any more.
    pub left: Vec<Arc<str>>,
    /// Uplinks it did not use before.
    pub taken: Vec<Arc<str>>,
    /// Uplinks whose connections are to be forgotten, and no others.
    pub purge: Vec<Arc<str>>,
    /// To something better, not away from something that failed.
    pub back: bool,
}

impl Chooser {
    /// What each policy uses now.
    pub const fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// When to look again though nothing was heard.
    pub const fn next_deadline(&self) -> Option<Tick> {
        self.deadline
    }

    /// Takes in how the uplinks are (see [`super::wanted::healths`]; one that is not in it counts as up) and says what changed.
    pub fn update(&mut self, spec: &Spec, healths: &Healths, now: Now) -> Vec<Switched> {
        let works = |name: &str| healths.get(name) != Some(&Health::Down);
        self.up.retain(|name, _| works(name) && spec.uplink(name).is_some());
        for uplink in spec.uplinks.iter().filter(|uplink| works(&uplink.name)) {
            self.up.entry(Arc::clone(&uplink.name)).or_insert(now.tick);
        }
        self.chosen.retain(|name, _| spec.policy(name).is_some());
        self.deadline = None;
        spec.policies.iter().filter_map(|policy| self.choose(policy, now.tick)).collect()
    }

    fn choose(&mut self, policy: &Policy, now: Tick) -> Option<Switched> {
        let before = self.chosen.get(&policy.name).cloned().unwrap_or_default();
        let had: BTreeSet<&str> = before.iter().map(|member| &*member.uplink).collect();
        let is_chosen = |member: &Member| had.contains(&*member.uplink);
        let working: Vec<&Member> = policy.members.iter().filter(|member| self.up.contains_key(&member.uplink)).collect();
        let settled = |member: &Member| {
            let since = self.up.get(&member.uplink).is_some_and(|since| now >= since.plus(policy.failback_after));
            since || is_chosen(member)
        };
        let carries_on = working.iter().any(|member| is_chosen(member));
        let fit: Vec<&Member> = working.iter().copied().filter(|member| !carries_on || settled(member)).collect();
        let tier = fit.iter().map(|member| member.tier).min();
        let mut after: Vec<Member> = fit.into_iter().filter(|member| Some(member.tier) == tier).cloned().collect();
        if working.is_empty() {
            // Weights and tiers may have changed; one that was taken out of the policy is gone all the same.
            after = policy.members.iter().filter(|member| is_chosen(member)).cloned().collect();
        }
        let waited: Vec<Tick> = working
            .iter()
            .filter(|member| Some(member.tier) <= tier && !settled(member) && !after.contains(member))
            .filter_map(|member| self.up.get(&member.uplink).map(|since| since.plus(policy.failback_after)))
            .collect();
        self.deadline = self.deadline.into_iter().chain(waited).min();
        let switched = switched(policy, &before, &after, carries_on);
        self.chosen.insert(Arc::clone(&policy.name), after);
        switched
    }
}

/// What is to be told of the change; nothing where the same uplinks are used.
fn switched(policy: &Policy, before: &[Member], after: &[Member], carried_on: bool) -> Option<Switched> {
    let missing = |from: &[Member], of: &[Member]| -> Vec<Arc<str>> {
        let gone = from.iter().filter(|member| !of.iter().any(|other| other.uplink == member.uplink));
        gone.map(|member| Arc::clone(&member.uplink)).collect()
    };
    let (left, taken) = (missing(before, after), missing(after, before));
    if left.is_empty() && taken.is_empty() {
        return None;
    }
    // Something is taken while what was in use still works: nothing forced it.
    let back = carried_on && !taken.is_empty();
    let purge = match if back { policy.on_failback } else { policy.on_failover } {
        Purge::Uplink => left.clone(),
        Purge::None => Vec::new(),
    };
    Some(Switched { policy: Arc::clone(&policy.name), left, taken, purge, back })
}

#[cfg(test)]
mod tests {
    use super::super::wanted::made::two_isps;
    use super::*;
    use crate::time::{Span, Stamp};

    fn at(seconds: u64) -> Now {
        Now { stamp: Stamp(0), tick: Tick(seconds * 1000) }
    }

    fn healths(states: &[(&str, bool)]) -> Healths {
        states.iter().map(|(name, up)| (Arc::from(*name), if *up { Health::Up } else { Health::Down })).collect()
    }

    fn chosen(chooser: &Chooser) -> Vec<&str> {
        chooser.chosen()["default"].iter().map(|member| &*member.uplink).collect()
    }

    #[test]
    fn failover_at_once_and_failback_after_a_while() {
        let (spec, mut chooser) = (two_isps(), Chooser::default());
        let (all, lte) = (healths(&[("fibre", true), ("lte", true)]), healths(&[("fibre", false), ("lte", true)]));
        let first = chooser.update(&spec, &all, at(0));
        assert_eq!((first.len(), first[0].purge.len(), chosen(&chooser)), (1, 0, vec!["fibre"]));
        assert!(chooser.update(&spec, &all, at(5)).is_empty());

        let over = chooser.update(&spec, &lte, at(10)).remove(0);
        assert_eq!((&*over.left[0], &*over.taken[0], &*over.purge[0], over.back), ("fibre", "lte", "fibre", false));
        assert_eq!(chooser.next_deadline(), None);

        assert!(chooser.update(&spec, &all, at(20)).is_empty());
        assert_eq!(chooser.next_deadline(), Some(Tick(140_000)));
        // A flap begins the wait anew.
        assert!(chooser.update(&spec, &lte, at(100)).is_empty());
        assert!(chooser.update(&spec, &all, at(101)).is_empty());
        assert!(chooser.update(&spec, &all, at(220)).is_empty());
        let back = chooser.update(&spec, &all, at(221)).remove(0);
        assert_eq!((&*back.left[0], &*back.taken[0], &*back.purge[0], back.back), ("lte", "fibre", "lte", true));
        assert_eq!((chosen(&chooser), chooser.next_deadline()), (vec!["fibre"], None));
    }

    #[test]
    fn all_down_is_no_change_and_the_first_to_come_back_is_taken() {
        let (spec, mut chooser) = (two_isps(), Chooser::default());
        let none = healths(&[("fibre", false), ("lte", false)]);
        assert!(chooser.update(&spec, &none, at(0)).is_empty());
        assert_eq!(chosen(&chooser), Vec::<&str>::new());
        let _ = chooser.update(&spec, &healths(&[("fibre", true), ("lte", true)]), at(1));
        assert!(chooser.update(&spec, &none, at(2)).is_empty());
        assert_eq!(chosen(&chooser), ["fibre"]);
        let over = chooser.update(&spec, &healths(&[("fibre", false), ("lte", true)]), at(3));
        assert_eq!((chosen(&chooser), over[0].back), (vec!["lte"], false));
    }

    #[test]
    fn one_of_a_tier_leaves_and_comes_back() {
        let (mut spec, mut chooser) = (two_isps(), Chooser::default());
        spec.policies[0].members[1].tier = 1;
        spec.policies[0].failback_after = Span::secs(10);
        let (all, one) = (healths(&[("fibre", true), ("lte", true)]), healths(&[("fibre", false), ("lte", true)]));
        let _ = chooser.update(&spec, &all, at(0));
        assert_eq!(chosen(&chooser), ["fibre", "lte"]);
        let over = chooser.update(&spec, &one, at(1)).remove(0);
        assert_eq!((over.left.len(), over.taken.len(), &*over.purge[0], over.back), (1, 0, "fibre", false));
        assert!(chooser.update(&spec, &all, at(2)).is_empty());
        assert_eq!(chooser.next_deadline(), Some(Tick(12_000)));
        let back = chooser.update(&spec, &all, at(12)).remove(0);
        assert_eq!((back.left.len(), back.taken.len(), back.purge.len(), back.back), (0, 1, 0, true));
    }

    #[test]
    fn a_new_spec_is_followed() {
        let (mut spec, mut chooser) = (two_isps(), Chooser::default());
        let all = healths(&[("fibre", true), ("lte", true)]);
        let _ = chooser.update(&spec, &all, at(0));
        spec.policies[0].members[0].weight = 9;
        assert!(chooser.update(&spec, &all, at(1)).is_empty());
        assert_eq!(chooser.chosen()["default"][0].weight, 9);
        spec.policies[0].members.remove(0);
        let switched = chooser.update(&spec, &all, at(2)).remove(0);
        assert_eq!((&*switched.left[0], &*switched.taken[0], switched.back), ("fibre", "lte", false));
        spec.policies.clear();
        assert!(chooser.update(&spec, &all, at(3)).is_empty() && chooser.chosen().is_empty());
    }
}
