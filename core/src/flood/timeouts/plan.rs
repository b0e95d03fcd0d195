//! What should change on this machine, and why.

use serde::{Deserialize, Serialize};

use super::catalogue::{LONGEST, PREFIX, Scope, Switch, Unit, switch, timeout};
use super::profile::{NAT_TCP, NAT_UDP, TABLE, is_open, useful};
use super::{Facts, Values, number};
use crate::flood::settings::Settings;
use crate::time::Span;

/// Bytes the kernel takes for one flow: 383 of slab, measured over half a million on Linux 6.18, and one bucket of
/// 8 bytes.
pub const ENTRY: u64 = 391;

/// The table never needs to be smaller than this: 25 MiB when full, and less than it would fill in a busy home.
const LEAST: u64 = 65_536;

/// Nor is more proposed: to look through a million flows takes a second and a half, and whoever has more knows their
/// own number.
const MOST: u64 = 1 << 20;

/// Sizes are an `int` to the kernel.
const INT_MAX: u64 = 0x7fff_ffff;

/// One switch to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its whole name: `nf_conntrack_udp_timeout`.
    pub name: String,
    /// What it holds.
    pub from: String,
    /// What it should.
    pub to: String,
    /// Why.
    pub why: String,
}

/// What should change, by name. Made so, there is nothing left to plan.
///
/// A timeout that the config sets shall hold exactly. Of the others, those that are longer than of use are shortened, and
/// those that are too short for whoever translates addresses are lengthened; what lies between is the administrator's.
pub fn plan(found: &Values, facts: &Facts, settings: &Settings) -> Vec<Change> {
    let times = found.keys().filter_map(|name| {
        let known = switch(name)?;
        let now = number(found, name)?;
        let (to, why) = wanted(known, now, facts, settings)?;
        (to != now).then(|| change(found, name, to, why)).flatten()
    });
    let mut changes: Vec<Change> = times.chain(sizes(found, facts)).collect();
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    changes
}

fn change(found: &Values, name: &str, to: u64, why: String) -> Option<Change> {
    Some(Change { name: name.to_owned(), from: found.get(name)?.clone(), to: to.to_string(), why })
}

/// What a timeout should be, and why; `None` where what it holds is well.
fn wanted(known: &Switch, now: u64, facts: &Facts, settings: &Settings) -> Option<(u64, String)> {
    let short = known.short()?;
    if let Some(typed) = settings.timeouts.get(&short) {
        return Some(typed_value(&short, *typed));
    }
    let row = TABLE.iter().find(|row| row.name == known.name).map(|row| row.calm);
    let life = if is_open(known.name) { useful(settings) } else { None };
    let longest = row.into_iter().chain(life).min()?;
    let least = match known.name {
        "tcp_timeout_established" if facts.forwards => NAT_TCP.min(longest),
        "udp_timeout_stream" if facts.forwards => NAT_UDP.min(longest),
        _ => 0,
    };
    if now > longest {
        let why = if life == Some(longest) && row.is_none_or(|calm| longest < calm) {
            format!("the uplinks' addresses live {}; no connection outlives them", Span::secs(longest))
        } else {
            shorter(known.name).to_owned()
        };
        Some((longest, why))
    } else if now < least {
        let rule =
            if known.name == "udp_timeout_stream" { "RFC 4787 asks 2 minutes of it for UDP" } else { "RFC 5382 asks 2h4m of it for TCP" };
        Some((least, format!("this host passes on packets of others, and {rule}")))
    } else {
        None
    }
}

fn typed_value(short: &str, typed: Span) -> (u64, String) {
    let asked = typed.as_secs_ceil();
    let to = asked.clamp(1, LONGEST);
    let bound = if to == asked { String::new() } else { format!(", and the kernel takes 1 to {LONGEST} s") };
    (to, format!("the config sets it: timeouts.{short} = \"{typed}\"{bound}"))
}

/// Why this timeout need not be longer.
fn shorter(name: &str) -> &'static str {
    match name {
        "tcp_timeout_established" | "sctp_timeout_established" => "a connection silent for a day is dead; its state would stay for days",
        "tcp_timeout_syn_sent" | "tcp_timeout_syn_recv" => "whoever is not answered by then asks anew; floods leave these behind",
        "tcp_timeout_fin_wait" | "tcp_timeout_time_wait" | "tcp_timeout_close_wait" | "tcp_timeout_last_ack" | "tcp_timeout_close" => {
            "the connection is over; late packets come within a minute"
        }
        "tcp_timeout_max_retrans" | "tcp_timeout_unacknowledged" => "the other side does not answer any more",
        "udp_timeout" | "udp_timeout_stream" => "no more than RFC 4787 asks for",
        "generic_timeout" => "what is not known better goes on within two minutes, or not at all",
        _ => "an answer comes within seconds, or not at all",
    }
}

/// How many flows there should be room for: as many as take a twentieth of the memory when all are there, rounded down
/// to a power of two (the hash table's own sizes are), within [`LEAST`] and [`MOST`]; on a machine so small that even
/// the least would take much, a quarter of it.
///
/// A table that is too small drops packets; one that is large costs 8 bytes a flow until there are flows. The kernel's own
/// size ends at 262,144 however much memory there is.
fn room(ram: u64) -> u64 {
    let most = power(ram / 4 / ENTRY);
    power(ram / 20 / ENTRY).clamp(LEAST, MOST).min(most)
}

/// The largest power of two that is not larger; at least 1024, the kernel's own least.
fn power(of: u64) -> u64 {
    of.checked_ilog2().map_or(0, |bits| 1 << bits).max(1024)
}

/// What [`room`] says, where it can be set: never less than there is, unless that could take half of the memory.
fn sizes(found: &Values, facts: &Facts) -> Vec<Change> {
    if facts.ram == 0 || !facts.initial {
        return Vec::new();
    }
    let (max, buckets) = (format!("{PREFIX}max"), format!("{PREFIX}buckets"));
    let Some(now) = number(found, &max).filter(|max| *max <= INT_MAX) else { return Vec::new() };
    let room = room(facts.ram);
    let count = number(found, &format!("{PREFIX}count")).unwrap_or(0);
    let most = facts.ram / 2 / ENTRY;
    let mebi = |flows: u64| flows.saturating_mul(ENTRY) >> 20;
    let (to, why) = if now < room {
        (room, format!("a full table drops packets; this one takes {} MiB of {} when full", mebi(room), facts.ram >> 20))
    // One that would be full at once drops packets now, to save memory that may never be asked for.
    } else if now > most && room < now && count < room / 2 {
        (room, format!("a full table would take {} MiB, more than half of the memory", mebi(now)))
    } else {
        (now, String::new())
    };
    let mut changes = Vec::new();
    if to != now {
        changes.extend(change(found, &max, to, why));
    }
    if let Some(chains) = number(found, &buckets)
        && chains < to / 4
    {
        let why = format!("with {chains} chains for {to} flows each packet would look through many");
        changes.extend(change(found, &buckets, to, why));
    }
    changes
}

/// What is to be said beside the plan: what cannot be changed here, what does not exist, what is worth a thought and not
/// ours to set.
pub fn advice(found: &Values, facts: &Facts, settings: &Settings) -> Vec<String> {
    let mut said = Vec::new();
    let is = |name: &str, value: u64| number(found, &format!("{PREFIX}{name}")) == Some(value);
    for short in settings.timeouts.keys() {
        match timeout(short) {
            None => said.push(format!("timeouts.{short}: there is no such timeout of connection tracking")),
            Some(known) if !found.contains_key(&known.full()) => {
                said.push(format!("timeouts.{short}: this kernel has no {}; nothing comes of it", known.full()));
            }
            Some(_) => {}
        }
    }
    let elsewhere = sizes(found, &Facts { initial: true, ..*facts });
    if !facts.initial && !elsewhere.is_empty() {
        let list: Vec<String> = elsewhere.iter().map(|change| format!("{} = {}", change.name, change.to)).collect();
        said.push(format!(
            "{} would be right for this much memory; all network namespaces share it, and it is set in the machine's initial one",
            list.join(", ")
        ));
    }
    if is("events", 0) {
        said.push("nf_conntrack_events = 0: nobody hears who opens flows; 2 has the kernel tell while somebody listens".to_owned());
    }
    if is("acct", 0) {
        said.push(
            "nf_conntrack_acct = 0: bytes and packets of flows are not counted; 1 counts them, at a small cost for each packet".to_owned(),
        );
    }
    if is("helper", 1) {
        said.push(
            "nf_conntrack_helper = 1: helpers are put on flows by port alone, which forged packets abuse; name them in rules".to_owned(),
        );
    }
    said
}

/// Whether a plan or a profile could ever set the switch of this whole name: timeouts and the two sizes. What else a
/// journal or a file names does not come from us.
pub fn may_set(name: &str) -> bool {
    switch(name).is_some_and(|known| known.unit == Unit::Seconds || matches!(known.name, "max" | "buckets"))
}

/// Whether it is what such a switch can hold: a whole number, of 1 to 20 digits as 64 bits have, and nothing else, no
/// line break above all.
pub fn is_value(value: &str) -> bool {
    (1..=20).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether somebody can set it here at all.
pub fn settable(known: &Switch, facts: &Facts) -> bool {
    match known.scope {
        Scope::Namespace => true,
        Scope::Initial => facts.initial,
        Scope::ReadOnly => false,
    }
}

/// A switch's value for people: `86400 (1d)`, `262144`.
pub fn told(known: Option<&Switch>, value: &str) -> String {
    match (known.map(|known| known.unit), value.parse::<u64>()) {
        (Some(Unit::Seconds), Ok(secs)) if secs >= 60 => format!("{value} ({})", Span::secs(secs)),
        _ => value.to_owned(),
    }
}
