//! From what was typed, over the built-in defaults, to what is meant. Here is told what is missing
//! and what does not go together.

use std::collections::{BTreeMap, BTreeSet};

use super::defaults::{BuiltIn, JAILS};
use super::error::{At, Gather, Place, Problem};
use super::nearest::hint;
use super::raw::{Raw, RawJail, RawPolicy};
use super::walk::JAILS_MAX;
use super::words;
use super::{AllowSection, BackendSection, BanSection, Config, Jail, LimitsSection};
use crate::attack::JailName;
use crate::bans::backend::Backend;
use crate::bans::wall::Ports;
use crate::judge::policy::{Escalate, Policy};
use crate::scan;

/// The config that these values mean. Where an error is told, it is not to be used.
pub(super) fn config(raw: Raw, errors: &mut Gather) -> Config {
    let (ban, allow, limits) = (BanSection::default(), AllowSection::default(), LimitsSection::default());
    let ban = BanSection {
        backend: or(&raw.ban.backend, ban.backend),
        manual_time: or(&raw.ban.manual_time, ban.manual_time),
        refusal: or(&raw.ban.action, ban.refusal),
        policy: policy(&ban.policy, &raw.ban.policy, errors),
    };
    let allow = AllowSection {
        prefixes: raw.allow.prefixes.map_or(allow.prefixes, |typed| typed.value),
        names: raw.allow.names.map_or(allow.names, |typed| typed.value),
        auto: or(&raw.allow.auto, allow.auto),
    };
    let limits = LimitsSection {
        tracked_sources: or(&raw.limits.tracked_sources, limits.tracked_sources),
        bans: or(&raw.limits.bans, limits.bans),
        line: or(&raw.limits.line, limits.line),
    };
    let jails = jails(&ban.policy, &raw.jails, errors);
    let backends = BackendSection::of(raw.backends);
    if ban.backend == Some(Backend::Command) && backends.command.run.is_empty() {
        let message = "`backend = \"command\"` needs a program to tell the bans to".to_owned();
        let hint = "write `run = [\"/usr/libexec/sshguard/sshg-fw-nft-sets\"]` in [backend.command]".to_owned();
        errors.tell(raw.ban.backend.map_or_else(Place::default, |typed| typed.at), Problem::Missing(message), Some(hint));
    }
    let feeds = super::feeds::mean(raw.feeds, errors);
    let conntrack = super::conntrack::mean(raw.conntrack, errors);
    let blocklistd = super::blocklistd::mean(raw.blocklistd, &jails, errors);
    let routing = super::routing::mean(raw.routing, true, errors);
    Config { ban, backends, allow, limits, jails, feeds, conntrack, blocklistd, routing }
}

fn or<T: Copy>(typed: &Option<At<T>>, default: T) -> T {
    typed.as_ref().map_or(default, |typed| typed.value)
}

fn jails(base: &Policy, written: &BTreeMap<String, RawJail>, errors: &mut Gather) -> BTreeMap<JailName, Jail> {
    if let Some((_, jail)) = written.iter().nth(JAILS_MAX) {
        let message = format!("{} jails in all files are more than the {JAILS_MAX} that are read", written.len());
        errors.tell(jail.at, Problem::TooLarge(message), None);
        return BTreeMap::new();
    }
    let unwritten = RawJail::default();
    let names: BTreeSet<&str> = JAILS.iter().map(|jail| jail.name).chain(written.keys().map(String::as_str)).collect();
    let one = |name: &str| {
        let built_in = JAILS.iter().find(|jail| jail.name == name);
        let typed = written.get(name);
        let jail = jail(name, base, built_in, typed.unwrap_or(&unwritten), errors);
        (JailName::from(name), jail)
    };
    names.into_iter().map(one).collect()
}

fn jail(name: &str, base: &Policy, built_in: Option<&BuiltIn>, raw: &RawJail, errors: &mut Gather) -> Jail {
    let list = |typed: &Option<At<Vec<String>>>, default: Option<&[&str]>| match typed {
        Some(typed) => typed.value.clone(),
        None => default.unwrap_or_default().iter().map(|text| (*text).to_owned()).collect(),
    };
    // Whoever writes a filter means the filter.
    let of_name = raw.fail2ban.is_none();
    let mut signatures = list(&raw.signatures, built_in.filter(|_| of_name).map(|jail| jail.signatures));
    if of_name && built_in.is_none() && raw.reports.is_none() && raw.signatures.is_none() && scan::places(name).is_some() {
        signatures.push(name.to_owned());
    }
    // Whoever writes one kind of source means that one: the other's default would read besides it.
    let unsaid = raw.files.is_none() && raw.journal.is_none();
    let sources = built_in.filter(|_| unsaid);
    let usual = if unsaid && built_in.is_none() { places(&signatures) } else { Usual::default() };
    let ports = raw.ports.as_ref().map_or(usual.ports, |typed| typed.value.clone());
    let jail = Jail {
        name: name.into(),
        enabled: or(&raw.enabled, true),
        reports: or(&raw.reports, false),
        signatures,
        fail2ban: super::filter::mean(name, raw, errors),
        files: [list(&raw.files, sources.map(|jail| jail.files)), usual.files].concat(),
        journal: [list(&raw.journal, sources.map(|jail| jail.journal)), usual.journal].concat(),
        timezone: raw.timezone.as_ref().map(|typed| typed.value.clone()),
        policy: Policy { ports, ..policy(base, &raw.policy, errors) },
    };
    let names: Vec<&str> = JAILS.iter().map(|jail| jail.name).collect();
    if jail.signatures.is_empty() && jail.fail2ban.is_none() && !jail.reports {
        let at = raw.signatures.as_ref().map_or(raw.at, |typed| typed.at);
        let message = format!("jail `{name}` has no signatures: nothing would ever match");
        errors.tell(at, Problem::Missing(message), hint(name, &names).filter(|_| built_in.is_none()));
    }
    if jail.enabled && jail.fail2ban.is_none() && !jail.reports && jail.files.is_empty() && jail.journal.is_empty() {
        let message = format!("jail `{name}` has no source: write `files` or `journal`, or `enabled = false`");
        errors.tell(raw.at, Problem::Missing(message), hint(name, &names).filter(|_| built_in.is_none()));
    }
    jail
}

/// Where the services of a jail's signatures usually log and listen.
#[derive(Default)]
struct Usual {
    files: Vec<String>,
    journal: Vec<String>,
    ports: Ports,
}

/// The places of all these signatures together, none twice. One that names no ports means all of them.
fn places(signatures: &[String]) -> Usual {
    let places: Vec<scan::Places> = signatures.iter().filter_map(|name| scan::places(name)).collect();
    let numbers = |place: &scan::Places| place.ports.iter().filter_map(|text| words::ports(text).ok()).flatten().collect::<Vec<u16>>();
    let ports: Vec<Vec<u16>> = places.iter().map(numbers).collect();
    let every = !ports.iter().any(Vec::is_empty);
    Usual {
        files: once(places.iter().flat_map(|place| &place.files)),
        journal: once(places.iter().flat_map(|place| &place.journal)),
        ports: Ports::only(ports.into_iter().flatten().filter(|_| every)).unwrap_or_default(),
    }
}

fn once<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    texts.filter(|text| seen.insert(*text)).cloned().collect()
}

/// `base` with what was typed over it.
fn policy(base: &Policy, raw: &RawPolicy, errors: &mut Gather) -> Policy {
    let mut policy = Policy {
        find_time: or(&raw.find_time, base.find_time),
        max_retry: or(&raw.max_retry, base.max_retry),
        ban_time: or(&raw.ban_time, base.ban_time),
        escalate: raw.escalate.as_ref().map_or_else(|| base.escalate.clone(), |typed| typed.value.value.clone()),
        ipv4_prefix: or(&raw.ipv4_prefix, base.ipv4_prefix),
        ipv6_prefix: or(&raw.ipv6_prefix, base.ipv6_prefix),
        spread: or(&raw.spread, base.spread),
        ports: Ports::All,
        kill_states: or(&raw.kill_states, base.kill_states),
        forgive: or(&raw.forgive, base.forgive),
    };
    longest(&mut policy, raw, errors);
    neighbourhoods(&policy, raw, errors);
    policy
}

/// A ban is never shorter than `ban_time`: a `max` below it is raised, or told of where it was typed
/// beside it.
fn longest(policy: &mut Policy, raw: &RawPolicy, errors: &mut Gather) {
    let Escalate::Factor { max, .. } = &mut policy.escalate else { return };
    if *max >= policy.ban_time {
        return;
    }
    if let Some(at) = raw.escalate.as_ref().and_then(|typed| typed.value.max) {
        let message = format!("`max` = {max} is shorter than the `ban_time` of {} it is to limit", policy.ban_time);
        errors.tell(at, Problem::Clash(message), None);
    }
    *max = policy.ban_time;
}

/// A neighbourhood is wider than what is banned in it.
fn neighbourhoods(policy: &Policy, raw: &RawPolicy, errors: &mut Gather) {
    let families = [
        ("ipv4", policy.spread.ipv4, policy.ipv4_prefix, &raw.ipv4_prefix),
        ("ipv6", policy.spread.ipv6, policy.ipv6_prefix, &raw.ipv6_prefix),
    ];
    for (name, spread, unit, typed_unit) in families {
        let Some((wider, _)) = spread.filter(|(wider, _)| *wider >= unit) else { continue };
        // Typed in neither place, it is [ban]'s, and was told of there.
        let at = raw.spread.as_ref().map(|typed| typed.at).or_else(|| typed_unit.as_ref().map(|typed| typed.at));
        if let Some(at) = at {
            let message = format!("`spread` has {name} = {wider}, which is no wider than `{name}_prefix` = {unit}");
            errors.tell(at, Problem::Clash(message), Some(format!("a wider prefix has a length below {unit}")));
        }
    }
}
