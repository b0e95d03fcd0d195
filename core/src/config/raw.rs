//! What was typed: every key there is, as a type, with its place, before it is checked together.

use std::collections::BTreeMap;

use super::AutoAllow;
use super::backends::Setting;
use super::blocklistd::RawBlocklistd;
use super::conntrack::RawConntrack;
use super::error::{At, Place};
use super::feeds::RawFeed;
use super::routing::RawRouting;
use crate::bans::backend::Backend;
use crate::bans::wall::{Ports, Refusal};
use crate::judge::policy::{Escalate, Spread};
use crate::net::Prefix;
use crate::time::{Span, Term};

/// The tables of this build.
pub(super) const TABLES: &[&str] = &[
    "ban",
    "backend",
    "allow",
    "limits",
    "jail",
    "feed",
    "conntrack",
    "blocklistd",
    "routing",
    "uplink",
    "rule",
    "policy",
    "tunnel",
    "budget",
];
/// Keys of `[ban]` that each jail may override.
pub(super) const POLICY_KEYS: &[&str] =
    &["ban_time", "find_time", "max_retry", "escalate", "ipv4_prefix", "ipv6_prefix", "spread", "kill_states", "forgive"];
/// Further keys of `[ban]`.
pub(super) const BAN_KEYS: &[&str] = &["backend", "manual_time", "action"];
/// Keys of `[allow]`.
pub(super) const ALLOW_KEYS: &[&str] = &["prefixes", "names", "auto"];
/// Keys of `[limits]`.
pub(super) const LIMITS_KEYS: &[&str] = &["tracked_sources", "bans", "line"];
/// Further keys of `[jail.NAME]`.
pub(super) const JAIL_KEYS: &[&str] = &["enabled", "signatures", "fail2ban", "options", "files", "journal", "ports", "timezone", "reports"];
/// Keys of `escalate`.
pub(super) const ESCALATE_KEYS: &[&str] = &["factor", "max", "forget", "steps", "within"];
/// Keys of `spread`.
pub(super) const SPREAD_KEYS: &[&str] = &["ipv4", "ipv6", "hosts"];
/// Words of `auto`.
pub(super) const AUTO_WORDS: &[&str] = &["loopback", "self", "gateways", "resolvers", "admin-sessions"];
/// Words of `backend`.
pub(super) const BACKENDS: &[&str] = &["auto", "nftables", "ipset", "iptables", "pf", "ipfw", "hosts", "nginx", "command", "memory"];
/// Words of `action`.
pub(super) const ACTIONS: &[&str] = &["drop", "reject"];

#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) ban: RawBan,
    pub(super) backends: Vec<Setting>,
    pub(super) allow: RawAllow,
    pub(super) limits: RawLimits,
    pub(super) jails: BTreeMap<String, RawJail>,
    pub(super) feeds: BTreeMap<String, RawFeed>,
    pub(super) conntrack: RawConntrack,
    pub(super) blocklistd: RawBlocklistd,
    pub(super) routing: RawRouting,
}

#[derive(Debug, Default)]
pub(super) struct RawBan {
    pub(super) backend: Option<At<Option<Backend>>>,
    pub(super) manual_time: Option<At<Term>>,
    pub(super) action: Option<At<Refusal>>,
    pub(super) policy: RawPolicy,
}

#[derive(Debug, Default)]
pub(super) struct RawPolicy {
    pub(super) ban_time: Option<At<Term>>,
    pub(super) find_time: Option<At<Span>>,
    pub(super) max_retry: Option<At<u16>>,
    pub(super) escalate: Option<At<RawEscalate>>,
    pub(super) ipv4_prefix: Option<At<u8>>,
    pub(super) ipv6_prefix: Option<At<u8>>,
    pub(super) spread: Option<At<Spread>>,
    pub(super) kill_states: Option<At<bool>>,
    pub(super) forgive: Option<At<bool>>,
}

/// `escalate` is one value: it is replaced as a whole, and what it leaves out has the default.
#[derive(Clone, Debug)]
pub(super) struct RawEscalate {
    pub(super) value: Escalate,
    /// Where `max` was typed, if it was.
    pub(super) max: Option<Place>,
}

#[derive(Debug, Default)]
pub(super) struct RawAllow {
    pub(super) prefixes: Option<At<Vec<Prefix>>>,
    pub(super) names: Option<At<Vec<String>>>,
    pub(super) auto: Option<At<AutoAllow>>,
}

#[derive(Debug, Default)]
pub(super) struct RawLimits {
    pub(super) tracked_sources: Option<At<usize>>,
    pub(super) bans: Option<At<usize>>,
    pub(super) line: Option<At<usize>>,
}

#[derive(Debug, Default)]
pub(super) struct RawJail {
    /// Its name in the file that wrote of it last.
    pub(super) at: Place,
    pub(super) enabled: Option<At<bool>>,
    pub(super) signatures: Option<At<Vec<String>>>,
    pub(super) fail2ban: Option<At<String>>,
    pub(super) options: Option<At<BTreeMap<String, String>>>,
    pub(super) files: Option<At<Vec<String>>>,
    pub(super) journal: Option<At<Vec<String>>>,
    pub(super) ports: Option<At<Ports>>,
    pub(super) timezone: Option<At<String>>,
    pub(super) reports: Option<At<bool>>,
    pub(super) policy: RawPolicy,
}

/// Takes over each of the fields that the later one has.
macro_rules! take_over {
    ($earlier:expr, $later:expr, $($field:ident),+) => {
        $(if $later.$field.is_some() { $earlier.$field = $later.$field; })+
    };
}

impl Raw {
    /// Adds a later file: tables merge by name, keys of the later one win.
    pub(super) fn merge(&mut self, later: Self) {
        take_over!(self.ban, later.ban, backend, manual_time, action);
        self.ban.policy.merge(later.ban.policy);
        self.backends.extend(later.backends);
        take_over!(self.allow, later.allow, prefixes, names, auto);
        take_over!(self.limits, later.limits, tracked_sources, bans, line);
        for (name, jail) in later.jails {
            self.jails.entry(name).or_default().merge(jail);
        }
        for (name, feed) in later.feeds {
            self.feeds.entry(name).or_default().merge(feed);
        }
        self.conntrack.merge(later.conntrack);
        self.blocklistd.merge(later.blocklistd);
        self.routing.merge(later.routing);
    }
}

impl RawJail {
    fn merge(&mut self, later: Self) {
        self.at = later.at;
        take_over!(self, later, enabled, signatures, fail2ban, options, files, journal, ports, timezone, reports);
        self.policy.merge(later.policy);
    }
}

impl RawPolicy {
    fn merge(&mut self, later: Self) {
        take_over!(self, later, ban_time, find_time, max_retry, escalate, ipv4_prefix, ipv6_prefix, spread, kill_states, forgive);
    }
}
