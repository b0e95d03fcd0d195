//! Which rule the kernel takes for which.
//!
//! Two facts of Linux (net/core/fib_rules.c), as tried out:
//!
//! * With `NLM_F_EXCL`, a rule is taken to be *there already* when one stands with the same of everything, who made it
//!   (`FRA_PROTOCOL`) included; except that `not` and the target of `goto` are not looked at, and that `from`, `to`, `tos`
//!   and `dscp` fit anything where the new one does not say them. So `100: from all lookup 9` cannot be added behind
//!   `100: from 192.0.2.1 lookup 9`. Without the flag nothing is compared, and the same rule may stand twice.
//! * A deletion removes the *first* rule that has all that was said. What was not said, of anything, fits anything: to
//!   remove `100: from all lookup 9` may remove `100: from 192.0.2.1 lookup 9` where that stands before it.
//!
//! So a deletion says everything, our protocol and the priority among it: no rule of anybody else's fits. That leaves
//! rules of our own protocol at the same priority that say more. [`Places`] knows them beforehand.

use palisade_core::route::{Action, Rule};

/// Whether a deletion of `said` may remove `standing`.
pub fn fits(said: &Rule, standing: &Rule) -> bool {
    let (a, b) = (&said.selector, &standing.selector);
    said.family == standing.family
        && said.priority == standing.priority
        && (said.protocol.0 == 0 || said.protocol == standing.protocol)
        && same_action(said.action, standing.action)
        && wild(a.from.as_ref(), b.from.as_ref())
        && wild(a.to.as_ref(), b.to.as_ref())
        && wild(a.iif.as_ref(), b.iif.as_ref())
        && wild(a.oif.as_ref(), b.oif.as_ref())
        && mark(a.fwmark, b.fwmark)
        && wild(a.uid, b.uid)
        && wild(a.ipproto, b.ipproto)
        && wild(a.sport, b.sport)
        && wild(a.dport, b.dport)
        && (a.tos == 0 || a.tos == b.tos)
        && wild(a.dscp, b.dscp)
        && wild(a.tun_id, b.tun_id)
        && (!a.l3mdev || b.l3mdev)
        && wild(said.suppress_prefixlength, standing.suppress_prefixlength)
        && wild(said.suppress_ifgroup, standing.suppress_ifgroup)
        && (said.other.is_empty() || said.other == standing.other)
}

/// Whether the kernel takes `new` for `standing`, when asked to add only what is not there.
pub fn taken_for(new: &Rule, standing: &Rule) -> bool {
    let (a, b) = (&new.selector, &standing.selector);
    fits(new, standing)
        && (new.protocol, new.suppress_prefixlength, new.suppress_ifgroup)
            == (standing.protocol, standing.suppress_prefixlength, standing.suppress_ifgroup)
        && same_action(standing.action, new.action)
        && (&a.iif, &a.oif, a.fwmark, a.uid, a.ipproto, a.sport, a.dport, a.tun_id, a.l3mdev)
            == (&b.iif, &b.oif, b.fwmark, b.uid, b.ipproto, b.sport, b.dport, b.tun_id, b.l3mdev)
}

fn wild<T: PartialEq>(said: Option<T>, standing: Option<T>) -> bool {
    said.is_none() || said == standing
}

/// Mark and mask are two attributes, and 0 says nothing.
fn mark<M: PartialEq + Copy + Default, N: PartialEq + Copy + Default>(said: Option<(M, N)>, standing: Option<(M, N)>) -> bool {
    let ((m, n), (p, q)) = (said.unwrap_or_default(), standing.unwrap_or_default());
    (m == M::default() || m == p) && (n == N::default() || n == q)
}

fn same_action(said: Action, standing: Action) -> bool {
    match (said, standing) {
        (Action::Lookup(a), Action::Lookup(b)) => a.0 == 0 || a == b,
        (Action::Goto(_), Action::Goto(_)) => true,
        (a, b) => a == b,
    }
}

/// How to add a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addition {
    /// The very same is there.
    There,
    /// Only if it is not there (`NLM_F_EXCL`).
    Exclusive,
    /// Without asking, for the kernel would take it for another that is there.
    Regardless,
}

/// How to remove a rule, and no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is not there.
    Gone,
    /// These stand before it and would be taken for it. Remove them one after another, then it, then put them back.
    Behind(Vec<Rule>),
}

/// The rules that stand, as far as we know.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// In the kernel's order: by priority, then by age. Of one family.
    rules: Vec<Rule>,
}

impl Places {
    /// These, in the kernel's order.
    pub const fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Adds a rule behind those of its priority, unless it is there, and tells how to do that in the kernel.
    pub fn add(&mut self, rule: &Rule) -> Addition {
        let end = self.rules.partition_point(|other| other.priority <= rule.priority);
        let begin = self.rules[..end].partition_point(|other| other.priority < rule.priority);
        let beside = &self.rules[begin..end];
        if beside.contains(rule) {
            return Addition::There;
        }
        let mistaken = beside.iter().any(|standing| taken_for(rule, standing));
        self.rules.insert(end, rule.clone());
        if mistaken { Addition::Regardless } else { Addition::Exclusive }
    }

    /// Removes a rule, and tells how to do that in the kernel.
    pub fn remove(&mut self, rule: &Rule) -> Removal {
        let begin = self.rules.partition_point(|other| other.priority < rule.priority);
        let same = self.rules[begin..].iter().take_while(|other| other.priority == rule.priority);
        let Some(at) = same.clone().position(|other| other == rule) else { return Removal::Gone };
        let before: Vec<Rule> = same.take(at).filter(|other| fits(rule, other)).cloned().collect();
        self.rules.remove(begin + at);
        // They come back behind the others of their priority.
        self.rules.retain(|other| !before.contains(other));
        for back in &before {
            self.add(back);
        }
        Removal::Behind(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::net::Family;
    use palisade_core::route::{Priority, Protocol, Selector, TableId};

    fn rule(priority: u32, from: Option<&str>) -> Rule {
        let selector = Selector { from: from.map(|text| text.parse().unwrap()), ..Selector::default() };
        Rule::new(Family::V4, Priority(priority), selector, Action::Lookup(TableId(9)), Protocol::OURS)
    }

    #[test]
    fn a_deletion_that_says_less_fits_what_says_more() {
        let (all, one) = (rule(1, None), rule(1, Some("192.0.2.1")));
        assert!(fits(&all, &one) && !fits(&one, &all));
        let foreign = Rule { protocol: Protocol::STATIC, ..one.clone() };
        assert!(!fits(&all, &foreign), "our protocol is always said");
        assert!(!fits(&all, &rule(2, None)), "and so is the priority");
        assert!(taken_for(&all, &one) && !taken_for(&one, &all));
        let not = Rule { selector: Selector { not: true, ..one.selector.clone() }, ..one.clone() };
        assert!(taken_for(&one, &not), "the kernel does not look at it");
        let bound = Rule { selector: Selector { oif: Some("net0".into()), ..one.selector.clone() }, ..one.clone() };
        assert!(fits(&one, &bound) && !taken_for(&one, &bound));
    }

    #[test]
    fn what_stands_in_the_way_is_told() {
        let (all, one, two) = (rule(1, None), rule(1, Some("192.0.2.1")), rule(1, Some("192.0.2.2")));
        let mut places = Places::default();
        assert_eq!(places.add(&one), Addition::Exclusive);
        assert_eq!(places.add(&all), Addition::Regardless);
        assert_eq!(places.add(&two), Addition::Exclusive);
        assert_eq!(places.add(&rule(0, None)), Addition::Exclusive);
        assert_eq!(places.add(&one), Addition::There);
        assert_eq!(places.remove(&all), Removal::Behind(vec![one.clone()]));
        assert_eq!(places.rules(), [rule(0, None), two, one]);
        assert_eq!(places.remove(&all), Removal::Gone);
    }
}
