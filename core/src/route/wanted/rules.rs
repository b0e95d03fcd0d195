//! The rules that should stand.

use std::collections::BTreeSet;

use super::super::rule::{Action, Rule, Selector};
use super::super::spec::{Condition, FreeAction, FreeRule, Policy, Spec};
use super::super::words::{Priority, TableId};
use super::super::world::World;
use super::layout::{self, Bits, Layout, Two, suppressed};
use super::way::Way;
use super::{Health, Healths};
use crate::net::Family;

/// All of them, ascending.
pub(super) fn rules(spec: &Spec, world: &World, ways: &[Way<'_>], healths: &Healths) -> Vec<Rule> {
    let mut rules = Rules { spec, world, ways, layout: Layout::of(spec), all: Vec::new() };
    rules.uplinks();
    rules.free(healths);
    if let Some(policy) = spec.policy(Policy::DEFAULT) {
        for family in rules.families_of(policy) {
            rules.add(family, rules.layout.policy_main(), Selector::default(), Todo::Suppress);
            rules.add(family, rules.layout.policy(), Selector::default(), Todo::Lookup(policy.table.id));
        }
    }
    rules.all.sort_by(|a, b| (a.priority, a.family).cmp(&(b.priority, b.family)).then_with(|| a.cmp(b)));
    rules.all.dedup();
    rules.all
}

/// What becomes of packets, in our two kinds of rules.
#[derive(Clone, Copy)]
enum Todo {
    /// What main knows better than by a default route stays there.
    Suppress,
    Lookup(TableId),
}

struct Rules<'a> {
    spec: &'a Spec,
    world: &'a World,
    ways: &'a [Way<'a>],
    layout: Layout,
    all: Vec<Rule>,
}

impl<'a> Rules<'a> {
    fn add(&mut self, family: Family, priority: Priority, selector: Selector, todo: Todo) {
        let protocol = self.spec.settings.protocol;
        self.all.push(match todo {
            Todo::Suppress => Rule::new(family, priority, selector, Action::Lookup(TableId::MAIN), protocol).suppress(suppressed(family)),
            Todo::Lookup(table) => Rule::new(family, priority, selector, Action::Lookup(table), protocol),
        });
    }

    fn way(&self, name: &str) -> Option<&'a Way<'a>> {
        self.ways.iter().find(|way| &*way.uplink.name == name)
    }

    /// The families that any of a policy's uplinks is for.
    fn families_of(&self, policy: &Policy) -> Vec<Family> {
        let ways: Vec<&Way<'_>> = policy.members.iter().filter_map(|member| self.way(&member.uplink)).collect();
        let used = |family: &Family| self.world.has(*family) && ways.iter().any(|way| way.uses(*family));
        [Family::V4, Family::V6].into_iter().filter(used).collect()
    }

    /// The rules of all uplinks, for each of their families.
    fn uplinks(&mut self) {
        let mut kept = BTreeSet::new();
        // Both go in the order of the spec, and only those with tables have slots.
        let ways = self.ways.iter().filter_map(|way| way.uplink.table.as_ref().map(|table| (way, table.id)));
        for ((slot, _, marks), (way, table)) in layout::marked(self.spec).zip(ways) {
            for family in way.families() {
                self.uplink(slot, way, family, table, marks);
                kept.extend(marks.connection.map(|_| family));
            }
        }
        // Connections stay on the uplink they began on; their packets to this host's own networks do not take it.
        let any = Selector { fwmark: Some(Bits::of(self.spec.settings.mark_mask).connections()), ..Selector::default() };
        for family in kept {
            self.add(family, self.layout.connections_main(), any.clone(), Todo::Suppress);
        }
    }

    fn uplink(&mut self, slot: u32, way: &Way<'_>, family: Family, table: TableId, marks: Two) {
        let (layout, mask) = (self.layout, self.spec.settings.mark_mask);
        let places = [(marks.probe, layout.probe(slot)), (marks.connection, layout.connection(slot))];
        for (mark, place) in places.into_iter().filter_map(|(mark, place)| Some((mark?, place))) {
            self.add(family, place, Selector { fwmark: Some((mark, mask)), ..Selector::default() }, Todo::Lookup(table));
        }
        for source in way.sources(family) {
            let from = Selector { from: Some(source), ..Selector::default() };
            self.add(family, layout.sources_main(slot), from.clone(), Todo::Suppress);
            self.add(family, layout.sources(slot), from, Todo::Lookup(table));
        }
        let oif = Selector { oif: Some(way.uplink.interface.clone()), ..Selector::default() };
        self.add(family, layout.interfaces_main(slot), oif.clone(), Todo::Suppress);
        self.add(family, layout.interfaces(slot), oif, Todo::Lookup(table));
    }

    fn free(&mut self, healths: &Healths) {
        let mut place = 0;
        for rule in &self.spec.rules {
            let own = rule.priority.unwrap_or_else(|| {
                place += 1;
                self.layout.free(place - 1)
            });
            // Without its user's number it would be for everybody.
            if rule.user.is_none() && rule.when.iter().all(|(name, condition)| holds(healths.get(name), *condition)) {
                for family in rule.families.each().filter(|family| self.world.has(*family)) {
                    self.free_rule(rule, family, own);
                }
            }
        }
    }

    fn free_rule(&mut self, rule: &FreeRule, family: Family, own: Priority) {
        let (action, twin) = match &rule.action {
            FreeAction::Uplink(name) => match self.way(name) {
                // An empty table lets everything through: the rule would do nothing.
                Some(way) if !way.uses(family) => return,
                Some(way) => match &way.uplink.table {
                    Some(table) => (Action::Lookup(table.id), true),
                    None => (Action::Lookup(TableId::MAIN), false),
                },
                None => return,
            },
            FreeAction::Policy(name) => match self.spec.policy(name) {
                Some(policy) if self.families_of(policy).contains(&family) => (Action::Lookup(policy.table.id), true),
                _ => return,
            },
            FreeAction::Table(table) => (Action::Lookup(*table), false),
            FreeAction::Goto(to) => (Action::Goto(*to), false),
            FreeAction::Unreachable => (Action::Unreachable, false),
            FreeAction::Prohibit => (Action::Prohibit, false),
            FreeAction::Blackhole => (Action::Blackhole, false),
            FreeAction::Nop => (Action::Nop, false),
        };
        let selector = plain(&rule.selector);
        if let Some(before) = layout::twin(own).filter(|_| twin) {
            self.add(family, before, selector.clone(), Todo::Suppress);
        }
        let mut made = Rule::new(family, own, selector, action, self.spec.settings.protocol);
        made.suppress_prefixlength = rule.suppress_prefixlength;
        made.suppress_ifgroup = rule.suppress_ifgroup;
        self.all.push(made);
    }
}

/// As the kernel gives it back: a prefix of length 0 is none.
fn plain(selector: &Selector) -> Selector {
    let mut plain = selector.clone();
    plain.from = plain.from.filter(|prefix| prefix.len() > 0);
    plain.to = plain.to.filter(|prefix| prefix.len() > 0);
    plain
}

fn holds(health: Option<&Health>, condition: Condition) -> bool {
    match condition {
        Condition::Up => health == Some(&Health::Up),
        Condition::Down => health != Some(&Health::Up),
    }
}
