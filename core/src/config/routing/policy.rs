//! `[policy.NAME]`: which of several uplinks is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use toml::de::DeTable;

use super::super::error::{At, Gather, Place, Problem};
use super::super::nearest::{hint, shown};
use super::super::show::{line, quoted};
use super::super::values::{Bounds, Reading, TimeBounds, Value};
use super::super::walk::Key;
use super::{Taken, head, or, place};
use crate::route::spec::{LastResort, Member, Policy, Purge, Spec, Sticky};
use crate::route::words::Table;
use crate::time::Span;

/// Keys of `[policy.NAME]`.
pub(in super::super) const POLICY_KEYS: &[&str] = &["members", "sticky", "on_failover", "on_failback", "last_resort"];
/// Keys of a member.
pub(in super::super) const MEMBER_KEYS: &[&str] = &["uplink", "tier", "weight"];
/// Keys of `on_failover`.
pub(in super::super) const FAILOVER_KEYS: &[&str] = &["purge"];
/// Keys of `on_failback`.
pub(in super::super) const FAILBACK_KEYS: &[&str] = &["purge", "after"];

const MEMBERS: usize = 64;
const TIER: Bounds = Bounds { low: 1, high: 1000, why: "there are not so many uplinks" };
const WEIGHT: Bounds = Bounds { low: 1, high: 256, why: "the kernel counts shares so" };
const AFTER: TimeBounds =
    TimeBounds { low: Span::ZERO, high: Span::secs(86_400), permanent: false, why: "an uplink that has been up for a day is up" };
const AFTER_DEFAULT: Span = Span::secs(120);

#[derive(Debug, Default)]
pub(super) struct RawPolicy {
    pub(super) at: Place,
    members: Option<At<Vec<RawMember>>>,
    sticky: Option<At<&'static str>>,
    failover: Option<&'static str>,
    failback: Option<(Option<&'static str>, Option<Span>)>,
    last_resort: Option<At<&'static str>>,
}

#[derive(Clone, Debug)]
struct RawMember {
    at: Place,
    uplink: String,
    tier: u16,
    weight: Option<u16>,
}

impl RawPolicy {
    pub(super) fn merge(&mut self, later: Self) {
        self.at = later.at;
        self.members = later.members.or(self.members.take());
        self.sticky = later.sticky.or(self.sticky.take());
        self.failover = later.failover.or(self.failover);
        self.failback = later.failback.or(self.failback);
        self.last_resort = later.last_resort.or(self.last_resort.take());
    }
}

impl Reading<'_> {
    pub(super) fn routing_policy(&mut self, key: &Key<'_>, table: &DeTable<'_>) -> RawPolicy {
        let mut raw = RawPolicy { at: self.place(&key.span()), ..RawPolicy::default() };
        for (setting, value) in table {
            let name: &str = setting.get_ref();
            match name {
                "members" => raw.members = self.members(value),
                "sticky" => raw.sticky = self.word(name, value, &["connection", "source"], &[]),
                "on_failover" => raw.failover = self.purge(name, value, FAILOVER_KEYS).and_then(|(purge, _)| purge),
                "on_failback" => raw.failback = self.purge(name, value, FAILBACK_KEYS),
                "last_resort" => raw.last_resort = self.word(name, value, &["unreachable", "main"], &[]),
                _ => self.unknown(setting, &format!("in [policy.{}]", key.get_ref()), POLICY_KEYS),
            }
        }
        raw
    }

    fn members(&mut self, value: &Value<'_>) -> Option<At<Vec<RawMember>>> {
        const SHAPE: &str = "a list like [{ uplink = \"fibre\", tier = 1 }]";
        let array = value.get_ref().as_array().or_else(|| self.wrong_type("members", value, SHAPE))?;
        if array.len() > MEMBERS {
            self.tell(&value.span(), Problem::TooLarge(format!("{} members are more than the {MEMBERS} that are read", array.len())), None);
            return None;
        }
        let members = array.iter().filter_map(|element| self.member(element, SHAPE)).collect();
        self.at_of(value, Some(members))
    }

    fn member(&mut self, element: &Value<'_>, shape: &str) -> Option<RawMember> {
        let at = self.place(&element.span());
        if let Some(name) = element.get_ref().as_str() {
            return Some(RawMember { at, uplink: name.to_owned(), tier: 1, weight: None });
        }
        let table = self.table("members", element, shape)?;
        let (mut uplink, mut tier, mut weight) = (None, 1, None);
        for (key, value) in table {
            let name: &str = key.get_ref();
            match name {
                "uplink" => uplink = self.text(name, value, "the name of an uplink").map(str::to_owned),
                "tier" => tier = self.number(name, value, TIER).map_or(1, |typed| typed.value),
                "weight" => weight = self.number(name, value, WEIGHT).map(|typed| typed.value),
                _ => self.unknown(key, "in a member", MEMBER_KEYS),
            }
        }
        if uplink.is_none() {
            self.errors.tell(at, Problem::Missing("a member needs its `uplink`".to_owned()), None);
        }
        Some(RawMember { at, uplink: uplink?, tier, weight })
    }

    fn purge(&mut self, key: &str, value: &Value<'_>, known: &[&str]) -> Option<(Option<&'static str>, Option<Span>)> {
        let table = self.table(key, value, "a table like { purge = \"uplink\" }")?;
        let (mut purge, mut after) = (None, None);
        for (field, value) in table {
            let name: &str = field.get_ref();
            match name {
                "purge" => purge = self.word(name, value, &["none", "uplink"], &[]).map(|word| word.value),
                "after" if known.contains(&"after") => after = self.span(name, value, AFTER).map(|typed| typed.value),
                _ => self.unknown(field, &format!("in `{key}`"), known),
            }
        }
        Some((purge, after))
    }
}

fn purge(word: Option<&str>) -> Purge {
    if word == Some("none") { Purge::None } else { Purge::Uplink }
}

/// The policies that were typed.
pub(super) fn mean(raw: BTreeMap<String, RawPolicy>, spec: &Spec, taken: &mut Taken, errors: &mut Gather) -> Vec<Policy> {
    raw.into_iter().filter_map(|(name, policy)| one(&name, policy, spec, taken, errors)).collect()
}

fn one(name: &str, raw: RawPolicy, spec: &Spec, taken: &mut Taken, errors: &mut Gather) -> Option<Policy> {
    let at = place(raw.members.as_ref(), raw.at);
    let typed = or(raw.members, Vec::new());
    if typed.is_empty() {
        errors.tell(at, Problem::Missing(format!("policy `{name}` has no members: write `members = [{{ uplink = \"fibre\" }}]`")), None);
        return None;
    }
    let names: Vec<&str> = spec.uplinks.iter().map(|uplink| &*uplink.name).collect();
    let mut seen = BTreeSet::new();
    let mut members = Vec::new();
    for member in typed {
        let Some(uplink) = spec.uplink(&member.uplink) else {
            errors.tell(
                member.at,
                Problem::Missing(format!("there is no [uplink.{}]", shown(&member.uplink))),
                hint(&member.uplink, &names),
            );
            continue;
        };
        if !seen.insert(Arc::clone(&uplink.name)) {
            errors.tell(member.at, Problem::Duplicate(shown(&member.uplink)), None);
        }
        members.push(Member { uplink: Arc::clone(&uplink.name), tier: member.tier, weight: member.weight.unwrap_or(uplink.weight) });
    }
    let table = format!("policy.{name}");
    let id = taken.choose(&table);
    if let Err(other) = taken.claim(id, &table, &format!("policy `{name}`")) {
        errors.tell(raw.at, Problem::Clash(format!("table `{table}` of policy `{name}` is {other}'s already")), None);
    }
    Some(Policy {
        name: name.into(),
        table: Table { name: table.into(), id },
        members,
        sticky: if or(raw.sticky, "connection") == "source" { Sticky::Source } else { Sticky::Connection },
        on_failover: purge(raw.failover),
        on_failback: purge(raw.failback.and_then(|(purge, _)| purge)),
        failback_after: raw.failback.and_then(|(_, after)| after).unwrap_or(AFTER_DEFAULT),
        last_resort: if or(raw.last_resort, "unreachable") == "main" { LastResort::Main } else { LastResort::Unreachable },
    })
}

pub(super) fn show(out: &mut String, policy: &Policy) {
    head(out, "policy", &policy.name);
    let member = |member: &Member| format!("{{ uplink = {}, tier = {}, weight = {} }}", quoted(&member.uplink), member.tier, member.weight);
    let members: Vec<String> = policy.members.iter().map(member).collect();
    line(out, "members", format!("[{}]", members.join(", ")));
    line(out, "sticky", quoted(if policy.sticky == Sticky::Source { "source" } else { "connection" }));
    let word = |purge| quoted(if purge == Purge::None { "none" } else { "uplink" });
    line(out, "on_failover", format!("{{ purge = {} }}", word(policy.on_failover)));
    line(out, "on_failback", format!("{{ purge = {}, after = {} }}", word(policy.on_failback), quoted(&policy.failback_after)));
    line(out, "last_resort", quoted(if policy.last_resort == LastResort::Main { "main" } else { "unreachable" }));
}
