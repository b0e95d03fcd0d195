//! From what is found to what is wanted: ordered steps.
//!
//! ```text
//!   guard routes, other routes, rules ascending, marks, switches    what is new, from the ground up
//!   stale rules, stale routes                                       what is old, from the top down
//! ```
//!
//! At no moment between does a rule lead into a table whose guard or default route is still to come, or is gone already.
//! A route that differs in its next hop is removed and added again, one right after the other, with the guard beneath: to
//! replace it would hit whatever else has its key, of others too.

use std::collections::{BTreeMap, BTreeSet};

use super::routes::{Kind, Route};
use super::rule::Rule;
use super::spec::Spec;
use super::wanted::{Marks, Sysctl, Wanted, layout};
use super::words::{Priority, Protocol, TableId};
use super::world::World;
use crate::net::Prefix;

#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

/// What tells ours from everybody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// Our rules and routes carry it,
    pub protocol: Protocol,
    /// our rules stand from here
    pub base: Priority,
    /// for so many priorities,
    pub range: u32,
    /// or where a free rule named its own place,
    pub places: BTreeSet<Priority>,
    /// our routes stand in these tables.
    pub tables: BTreeSet<TableId>,
}

impl Ours {
    /// Of what a spec declares.
    pub fn of(spec: &Spec) -> Self {
        let named = spec.rules.iter().filter_map(|rule| rule.priority);
        Self {
            protocol: spec.settings.protocol,
            base: spec.settings.priority_base,
            range: spec.settings.priority_range,
            places: named.flat_map(|own| layout::twin(own).into_iter().chain([own])).collect(),
            tables: spec.tables().map(|table| table.id).filter(|id| !SHARED.contains(id)).collect(),
        }
    }

    /// Both, as one: what stood under an earlier config is ours too. `None` where the protocols differ: then each is
    /// looked for by itself.
    #[must_use]
    pub fn join(&self, other: &Self) -> Option<Self> {
        let end = |ours: &Self| ours.base.0.saturating_add(ours.range);
        let base = self.base.min(other.base);
        (self.protocol == other.protocol).then(|| Self {
            protocol: self.protocol,
            base,
            range: end(self).max(end(other)) - base.0,
            places: self.places.union(&other.places).copied().collect(),
            tables: self.tables.union(&other.tables).copied().collect(),
        })
    }

    /// Whether a rule is ours: our protocol, and in a place of ours.
    pub fn is_rule(&self, rule: &Rule) -> bool {
        let Priority(at) = rule.priority;
        let in_range = at >= self.base.0 && at - self.base.0 < self.range;
        rule.protocol == self.protocol && (in_range || self.places.contains(&rule.priority))
    }

    /// Whether a route is ours: our protocol, and in a table of ours.
    pub fn is_route(&self, route: &Route) -> bool {
        route.protocol == self.protocol && self.tables.contains(&route.table)
    }
}

/// Tables that are never ours, whatever a config says.
const SHARED: [TableId; 4] = [TableId(0), TableId::DEFAULT, TableId::MAIN, TableId::LOCAL];

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add this route; it is an error if one like it is there.
    AddRoute(Route),
    /// Remove this route, and none that differs.
    DelRoute(Route),
    /// Add this rule; it is an error if it is there.
    AddRule(Rule),
    /// Remove this rule, and none that differs.
    DelRule(Rule),
    /// Make our nftables table hold exactly this; none: there is none of ours.
    Marks(Option<Marks>),
    /// Set a switch.
    Sysctl(Sysctl),
}

/// What became of the steps.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many were done.
    pub done: usize,
    /// Which were not, by their place, and why.
    pub failed: Vec<(usize, Failure)>,
}

/// Why a step was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the kernel said.
    pub error: String,
    /// It may work as things are a moment later (a link that is not up, a tentative address); no fault.
    pub passing: bool,
}

/// The steps from what is found to what is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In their order.
    pub steps: Vec<Step>,
    /// How many rules and routes stand as they should.
    pub unchanged: usize,
    /// What cannot stand because of somebody else.
    pub conflicts: Vec<Conflict>,
}

impl Plan {
    /// Whether all is as it should be.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// A route of somebody else stands where ours should. It is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What should stand.
    pub what: Route,
    /// What does.
    pub whose: Route,
}

/// What leads from `world` to `wanted`, touching nothing but what is `ours`.
///
/// `marks_stand` says whether our nftables table holds exactly `wanted.marks` (is absent, where none are wanted). `sysctls`
/// reads a switch. What was applied is released by planning [`Wanted::default`] with the `ours` of what was applied.
pub fn plan(wanted: &Wanted, world: &World, ours: &Ours, marks_stand: bool, sysctls: &dyn Fn(&str) -> Option<String>) -> Plan {
    let mut plan = Plan::default();
    let stale_routes = routes(wanted, world, ours, &mut plan);
    let stale_rules = rules(wanted, world, ours, &mut plan);
    if !marks_stand {
        plan.steps.push(Step::Marks(wanted.marks.clone()));
    }
    // One that cannot be read is of a kernel without it, or of a family that is missing: to set it would fail for ever.
    let differs = |sysctl: &&Sysctl| sysctls(&sysctl.path).is_some_and(|value| value.trim() != sysctl.value);
    plan.steps.extend(wanted.sysctls.iter().filter(differs).cloned().map(Step::Sysctl));
    plan.steps.extend(stale_rules.into_iter().map(Step::DelRule));
    plan.steps.extend(stale_routes.into_iter().map(Step::DelRoute));
    plan
}

/// Whether they are the same, whatever the order of the hops.
fn same_route(a: &Route, b: &Route) -> bool {
    let hops = |route: &Route| {
        let mut hops = if route.kind == Kind::Unicast { route.hops.clone() } else { Vec::new() };
        hops.sort_unstable();
        if let [only] = hops.as_mut_slice() {
            only.weight = 1;
        }
        hops
    };
    key(a) == key(b) && (a.kind, a.prefsrc, a.protocol) == (b.kind, b.prefsrc, b.protocol) && hops(a) == hops(b)
}

/// What the kernel takes for one route: it refuses a second with the same.
type Key<'a> = (TableId, &'a Prefix, Option<&'a Prefix>, u8, u32);

const fn key(route: &Route) -> Key<'_> {
    (route.table, &route.to, route.from.as_ref(), route.tos, route.metric)
}

/// The steps that add routes; returns what is to go.
fn routes(wanted: &Wanted, world: &World, ours: &Ours, plan: &mut Plan) -> Vec<Route> {
    let mut old: BTreeMap<Key<'_>, Vec<&Route>> = BTreeMap::new();
    let mut foreign: BTreeMap<Key<'_>, &Route> = BTreeMap::new();
    for route in world.routes.iter().filter(|route| ours.tables.contains(&route.table)) {
        if ours.is_route(route) {
            old.entry(key(route)).or_default().push(route);
        } else {
            foreign.insert(key(route), route);
        }
    }
    // Guards first: they are what the rest stands on. The sort keeps the order otherwise.
    let mut new: Vec<&Route> = wanted.routes.iter().filter(|route| ours.is_route(route)).collect();
    new.sort_by_key(|route| route.kind == Kind::Unicast);
    for route in new {
        let there = old.entry(key(route)).or_default();
        let place = there.iter().position(|other| same_route(route, other));
        plan.unchanged += usize::from(place.is_some());
        if let Some(place) = place {
            there.remove(place);
        }
        if let Some(whose) = foreign.get(&key(route)) {
            plan.conflicts.push(Conflict { what: route.clone(), whose: (*whose).clone() });
        } else {
            plan.steps.extend(there.drain(..).cloned().map(Step::DelRoute));
            plan.steps.extend(place.is_none().then(|| Step::AddRoute(route.clone())));
        }
    }
    // In the order of keys a guard, with the last metric there is, goes last: as long as anything stands, it has ground beneath.
    old.into_values().flatten().cloned().collect()
}

/// The steps that add rules; returns what is to go.
fn rules(wanted: &Wanted, world: &World, ours: &Ours, plan: &mut Plan) -> Vec<Rule> {
    let mut new: BTreeSet<&Rule> = wanted.rules.iter().filter(|rule| ours.is_rule(rule)).collect();
    let mut stale = Vec::new();
    for rule in world.rules.iter().filter(|rule| ours.is_rule(rule)) {
        // A second one that is the same is too many: the kernel takes any number, unless it is asked not to.
        if new.remove(rule) {
            plan.unchanged += 1;
        } else {
            stale.push(rule.clone());
        }
    }
    let mut new: Vec<&Rule> = new.into_iter().collect();
    new.sort_by_key(|rule| (rule.priority, rule.suppress_prefixlength.is_none(), rule.family));
    plan.steps.extend(new.into_iter().cloned().map(Step::AddRule));
    stale
}
