//! `[tunnel.NAME]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::DeTable;

use super::super::error::{At, Gather, Place, Problem};
use super::super::nearest::{hint, shown};
use super::super::show::{line, list, quoted};
use super::super::values::{Bounds, Reading, TimeBounds, Value};
use super::super::walk::Key;
use super::super::words::{self, Wrong};
use super::{addr, head, host, interface, optional, or, place, prefix};
use crate::net::{Addr, Family, Prefix};
use crate::route::Spec;
use crate::route::tunnels::{Backoff, Budget, Exec, LinkKind, LinkTunnel, Ready, Restart, Tunnel, TunnelKind, Wireguard};
use crate::time::Span;

/// Keys of `[tunnel.NAME]`.
pub(in super::super) const TUNNEL_KEYS: &[&str] = &[
    "enabled",
    "kind",
    "start",
    "stop",
    "type",
    "pidfile",
    "ready",
    "restart",
    "restart_on_probe",
    "backoff",
    "budget",
    "cost",
    "stop_cost",
    "fatal",
    "min_uptime",
    "underlay",
    "interface",
    "local",
    "remote",
    "ttl",
    "mtu",
    "addresses",
    "update",
    "handshake",
];
/// Keys of `ready`.
pub(in super::super) const READY_KEYS: &[&str] = &["interface", "address", "within"];
/// Keys of `backoff`.
pub(in super::super) const BACKOFF_KEYS: &[&str] = &["min", "max", "factor", "jitter", "reset_after"];
/// Keys of `fatal`.
pub(in super::super) const FATAL_KEYS: &[&str] = &["output"];

/// Keys of all kinds, and of each.
const COMMON: &[&str] = &["enabled", "kind", "ready", "backoff", "underlay"];
const KINDS: [(&str, &[&str]); 4] = [
    ("exec", &["start", "stop", "type", "pidfile", "restart", "restart_on_probe", "budget", "cost", "stop_cost", "fatal", "min_uptime"]),
    ("sit", &["interface", "local", "remote", "ttl", "mtu", "addresses", "update", "budget"]),
    ("gre", &["interface", "local", "remote", "ttl", "mtu", "addresses", "update", "budget"]),
    ("wireguard", &["interface", "handshake"]),
];

const DAY: Span = Span::secs(86_400);
const WAIT: TimeBounds = TimeBounds { low: Span::secs(1), high: DAY, permanent: false, why: "it is waited for" };
const COST: Bounds = Bounds { low: 0, high: 100, why: "a budget has no more" };
const TTL: Bounds = Bounds { low: 1, high: 255, why: "it is a byte" };
const MTU: Bounds = Bounds { low: 1280, high: 65_535, why: "IPv6 needs 1280 (RFC 8200 5)" };
const FACTOR: Bounds = Bounds { low: 1, high: 100, why: "waits do not shrink" };
const JITTER: Bounds = Bounds { low: 0, high: 1, why: "it is a share of the wait" };
const PATTERNS: (&str, usize) = ("a list of texts", 64);
const ADDRESSES: (&str, usize) = ("a list like [\"2001:db8::2/64\"]", 64);

#[derive(Debug, Default)]
pub(super) struct RawTunnel {
    pub(super) at: Place,
    /// Which keys were written, and where.
    written: BTreeMap<String, Place>,
    enabled: Option<At<bool>>,
    kind: Option<At<&'static str>>,
    start: Option<At<Vec<String>>>,
    stop: Option<At<Vec<String>>>,
    forking: Option<At<bool>>,
    pidfile: Option<At<String>>,
    ready: Option<RawReady>,
    restart: Option<At<&'static str>>,
    restart_on_probe: Option<At<bool>>,
    backoff: Option<At<Backoff>>,
    budget: Option<At<String>>,
    cost: Option<At<u32>>,
    stop_cost: Option<At<u32>>,
    fatal: Option<At<Vec<String>>>,
    min_uptime: Option<At<Span>>,
    underlay: Option<At<String>>,
    interface: Option<At<String>>,
    local: Option<At<Option<Addr>>>,
    remote: Option<At<Addr>>,
    ttl: Option<At<u8>>,
    mtu: Option<At<u32>>,
    addresses: Option<At<Vec<(Addr, u8)>>>,
    update: Option<At<Vec<String>>>,
    handshake: Option<At<Span>>,
}

#[derive(Clone, Debug, Default)]
struct RawReady {
    interface: Option<String>,
    address: Option<Prefix>,
    within: Option<Span>,
}

/// Takes over each of the fields that the later one has.
macro_rules! later_wins {
    ($earlier:expr, $later:expr, $($field:ident),+) => { $(if $later.$field.is_some() { $earlier.$field = $later.$field; })+ };
}

impl RawTunnel {
    pub(super) fn merge(&mut self, later: Self) {
        self.at = later.at;
        self.written.extend(later.written);
        later_wins!(
            self,
            later,
            enabled,
            kind,
            start,
            stop,
            forking,
            pidfile,
            ready,
            restart,
            restart_on_probe,
            backoff,
            budget,
            cost,
            stop_cost,
            fatal,
            min_uptime,
            underlay,
            interface,
            local,
            remote,
            ttl,
            mtu,
            addresses,
            update,
            handshake
        );
    }
}

impl Reading<'_> {
    pub(super) fn tunnel(&mut self, key: &Key<'_>, table: &DeTable<'_>) -> RawTunnel {
        let mut raw = RawTunnel { at: self.place(&key.span()), ..RawTunnel::default() };
        for (setting, value) in table {
            let name: &str = setting.get_ref();
            raw.written.insert(name.to_owned(), self.place(&setting.span()));
            match name {
                "enabled" => raw.enabled = self.boolean(name, value),
                "kind" => raw.kind = self.word(name, value, &KINDS.map(|(kind, _)| kind), &[]),
                "start" => raw.start = self.program(name, value),
                "stop" => raw.stop = self.program(name, value),
                "type" => raw.forking = self.word(name, value, &["forking", "simple"], &[]).map(|word| word.map(|word| word == "forking")),
                "pidfile" => raw.pidfile = self.typed(name, value, words::file),
                "ready" => raw.ready = self.ready(value),
                "restart" => raw.restart = self.word(name, value, &["no", "on-failure", "always"], &[]),
                "restart_on_probe" => raw.restart_on_probe = self.boolean(name, value),
                "backoff" => raw.backoff = self.backoff(value),
                "budget" | "underlay" => {
                    let typed = self.text(name, value, "a name").map(str::to_owned);
                    let typed = self.at_of(value, typed);
                    *(if name == "budget" { &mut raw.budget } else { &mut raw.underlay }) = typed;
                }
                "cost" => raw.cost = self.number(name, value, COST),
                "stop_cost" => raw.stop_cost = self.number(name, value, COST),
                "fatal" => raw.fatal = self.fatal(value),
                "min_uptime" => raw.min_uptime = self.span(name, value, TimeBounds { low: Span::ZERO, ..WAIT }),
                _ => self.link_key(key, setting, value, &mut raw),
            }
        }
        raw
    }

    fn link_key(&mut self, tunnel: &Key<'_>, setting: &Key<'_>, value: &Value<'_>, raw: &mut RawTunnel) {
        let name: &str = setting.get_ref();
        match name {
            "interface" => raw.interface = self.typed(name, value, interface),
            "local" => raw.local = self.typed(name, value, |text| if text == "auto" { Ok(None) } else { addr(text).map(Some) }),
            "remote" => raw.remote = self.typed(name, value, addr),
            "ttl" => raw.ttl = self.number(name, value, TTL),
            "mtu" => raw.mtu = self.number(name, value, MTU),
            "addresses" => raw.addresses = self.texts(name, value, ADDRESSES, address),
            "update" => raw.update = self.program(name, value),
            "handshake" => raw.handshake = self.span(name, value, WAIT),
            _ => self.unknown(setting, &format!("in [tunnel.{}]", tunnel.get_ref()), TUNNEL_KEYS),
        }
    }

    fn typed<T>(&mut self, key: &str, value: &Value<'_>, read: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<At<T>> {
        let typed = self.parsed(key, value, read);
        self.at_of(value, typed)
    }

    fn ready(&mut self, value: &Value<'_>) -> Option<RawReady> {
        let mut raw = RawReady::default();
        for (key, value) in self.table("ready", value, "a table like { interface = \"tun0\", within = \"60s\" }")? {
            let name: &str = key.get_ref();
            match name {
                "interface" => raw.interface = self.parsed(name, value, interface),
                "address" => raw.address = self.parsed(name, value, prefix),
                "within" => raw.within = self.span(name, value, WAIT).map(|typed| typed.value),
                _ => self.unknown(key, "in `ready`", READY_KEYS),
            }
        }
        Some(raw)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bounds are small and not negative")]
    fn backoff(&mut self, value: &Value<'_>) -> Option<At<Backoff>> {
        let mut backoff = BACKOFF;
        for (key, value) in self.table("backoff", value, "a table like { min = \"30s\", max = \"30m\" }")? {
            let name: &str = key.get_ref();
            match name {
                "min" => backoff.min = self.span(name, value, WAIT).map_or(backoff.min, |typed| typed.value),
                "max" => backoff.max = self.span(name, value, WAIT).map_or(backoff.max, |typed| typed.value),
                "factor" => {
                    backoff.factor = self.fraction(name, value, FACTOR).map_or(backoff.factor, |factor| (factor * 100.0).round() as u32)
                }
                "jitter" => {
                    backoff.jitter = self.fraction(name, value, JITTER).map_or(backoff.jitter, |jitter| (jitter * 100.0).round() as u32)
                }
                "reset_after" => backoff.reset_after = self.span(name, value, WAIT).map_or(backoff.reset_after, |typed| typed.value),
                _ => self.unknown(key, "in `backoff`", BACKOFF_KEYS),
            }
        }
        if backoff.max < backoff.min {
            let message = format!("`backoff` waits at most {}, which is less than its first wait of {}", backoff.max, backoff.min);
            self.tell(&value.span(), Problem::Clash(message), None);
        }
        self.at_of(value, Some(backoff))
    }

    fn fatal(&mut self, value: &Value<'_>) -> Option<At<Vec<String>>> {
        let mut output = None;
        let text =
            |text: &str| if text.is_empty() { Err(("an empty text is found in every line".to_owned(), None)) } else { Ok(text.to_owned()) };
        for (key, value) in self.table("fatal", value, "a table like { output = [\"Login failed\"] }")? {
            match &**key.get_ref() {
                "output" => output = self.texts("output", value, PATTERNS, text),
                _ => self.unknown(key, "in `fatal`", FATAL_KEYS),
            }
        }
        output
    }
}

const BACKOFF: Backoff = Backoff { min: Span::secs(30), max: Span::secs(1800), factor: 200, jitter: 20, reset_after: Span::secs(900) };

/// `2001:db8::2/64`: an address with its network's length; host bits stay.
fn address(text: &str) -> Result<(Addr, u8), Wrong> {
    let (own, len) = text.split_once('/').map_or((text, None), |(own, len)| (own, Some(len)));
    let own = addr(own)?;
    let bits = own.family().bits();
    let len = len.map_or(Some(bits), |len| len.parse().ok().filter(|len| *len <= bits && *len > 0));
    len.map(|len| (own, len)).ok_or_else(|| (format!("`{}` has no length from 1 to {bits}", shown(text)), None))
}

/// The tunnels that were typed.
pub(super) fn mean(
    raw: BTreeMap<String, RawTunnel>,
    spec: &Spec,
    budgets: &BTreeMap<Arc<str>, Budget>,
    errors: &mut Gather,
) -> BTreeMap<Arc<str>, Tunnel> {
    raw.into_iter().filter_map(|(name, raw)| Some((Arc::from(name.as_str()), one(&name, raw, spec, budgets, errors)?))).collect()
}

fn one(name: &str, raw: RawTunnel, spec: &Spec, budgets: &BTreeMap<Arc<str>, Budget>, errors: &mut Gather) -> Option<Tunnel> {
    let Some(kind) = raw.kind.as_ref().map(|kind| kind.value) else {
        errors.tell(
            raw.at,
            Problem::Missing(format!("tunnel `{name}` has no kind: write `kind = \"exec\"`, \"sit\", \"gre\" or \"wireguard\"")),
            None,
        );
        return None;
    };
    let own = KINDS.iter().find(|(word, _)| *word == kind).map_or(&[] as &[&str], |(_, keys)| keys);
    let strange = raw
        .written
        .iter()
        .filter(|(key, _)| TUNNEL_KEYS.contains(&key.as_str()) && !COMMON.contains(&key.as_str()) && !own.contains(&key.as_str()));
    for (key, at) in strange {
        errors.tell(*at, Problem::Clash(format!("`{key}` means nothing to a tunnel of kind {kind}")), None);
    }
    let names: Vec<&str> = budgets.keys().map(|name| &**name).collect();
    if let Some(budget) = raw.budget.as_ref().filter(|budget| !budgets.contains_key(budget.value.as_str())) {
        errors.tell(budget.at, Problem::Missing(format!("there is no [budget.{}]", shown(&budget.value))), hint(&budget.value, &names));
    }
    let uplinks: Vec<&str> = spec.uplinks.iter().map(|uplink| &*uplink.name).collect();
    if let Some(underlay) = raw.underlay.as_ref().filter(|underlay| spec.uplink(&underlay.value).is_none()) {
        errors.tell(
            underlay.at,
            Problem::Missing(format!("there is no [uplink.{}]", shown(&underlay.value))),
            hint(&underlay.value, &uplinks),
        );
    }
    clashes(name, &raw, spec, budgets, errors);
    let ready = raw.ready.clone().unwrap_or_default();
    let (enabled, backoff) =
        (raw.enabled.as_ref().is_none_or(|typed| typed.value), raw.backoff.as_ref().map_or(BACKOFF, |typed| typed.value));
    let underlay = raw.underlay.as_ref().map(|underlay| Arc::from(underlay.value.as_str()));
    let made = raw.interface.as_ref().map_or_else(|| name.to_owned(), |typed| typed.value.clone());
    let at = raw.at;
    let kind = match kind {
        "exec" => TunnelKind::Exec(exec(name, raw, errors)?),
        "wireguard" => TunnelKind::Wireguard(Wireguard { interface: made.clone(), handshake: or(raw.handshake, Span::secs(180)) }),
        word => TunnelKind::Link(link(name, word, &made, raw, errors)?),
    };
    let awaited = match ready.interface {
        Some(interface) => interface,
        None if matches!(kind, TunnelKind::Exec(_)) => name.to_owned(),
        None => made,
    };
    if let Err((message, _)) = interface(&awaited) {
        errors.tell(at, Problem::Value(message), Some("name another one: `ready = { interface = \"...\" }`, or `interface`".to_owned()));
    }
    let ready = Ready { interface: awaited, address: ready.address, within: ready.within.unwrap_or(Span::secs(60)) };
    Some(Tunnel { name: name.into(), enabled, kind, ready, backoff, underlay })
}

/// A tunnel over an uplink that it makes itself never comes up; nor does one that costs more than its budget gives.
fn clashes(name: &str, raw: &RawTunnel, spec: &Spec, budgets: &BTreeMap<Arc<str>, Budget>, errors: &mut Gather) {
    let made = |underlay: &&At<String>| spec.uplink(&underlay.value).is_some_and(|uplink| uplink.tunnel.as_deref() == Some(name));
    if let Some(underlay) = raw.underlay.as_ref().filter(made) {
        let message = format!("tunnel `{name}` would run over itself: it makes the interface of uplink `{}`", shown(&underlay.value));
        errors.tell(underlay.at, Problem::Clash(message), None);
    }
    if let Some((cost, budget)) = raw.cost.as_ref().zip(raw.budget.as_ref().and_then(|budget| budgets.get(budget.value.as_str()))) {
        let free = budget.connects.saturating_sub(budget.reserve);
        if cost.value > free {
            let message = format!(
                "a start of tunnel `{name}` costs {}, and budget `{}` has {free} for what starts by itself",
                cost.value, budget.name
            );
            errors.tell(cost.at, Problem::Clash(message), None);
        }
    }
}

fn exec(name: &str, raw: RawTunnel, errors: &mut Gather) -> Option<Exec> {
    let Some(start) = raw.start else {
        errors.tell(
            raw.at,
            Problem::Missing(format!("tunnel `{name}` has nothing to start: write `start = [\"aiccu\", \"start\"]`")),
            None,
        );
        return None;
    };
    match (&raw.forking, &raw.pidfile) {
        (Some(At { value: true, at }), None) => {
            let message = format!("tunnel `{name}` forks: without its `pidfile` nobody knows which process it is");
            errors.tell(*at, Problem::Missing(message), None);
        }
        (Some(At { value: false, .. }), Some(pidfile)) => {
            errors.tell(
                pidfile.at,
                Problem::Clash(format!("tunnel `{name}` does not fork (`type = \"simple\"`): its process is known without a `pidfile`")),
                None,
            );
        }
        _ => {}
    }
    Some(Exec {
        start: start.value,
        stop: raw.stop.map(|stop| stop.value),
        pidfile: raw.pidfile.map(|pidfile| pidfile.value),
        restart: match or(raw.restart, "on-failure") {
            "no" => Restart::No,
            "always" => Restart::Always,
            _ => Restart::OnFailure,
        },
        restart_on_probe: or(raw.restart_on_probe, false),
        budget: raw.budget.map(|budget| Arc::from(budget.value)),
        cost: or(raw.cost, 1),
        stop_cost: or(raw.stop_cost, 0),
        fatal: or(raw.fatal, Vec::new()),
        min_uptime: or(raw.min_uptime, Span::secs(10)),
    })
}

fn link(name: &str, word: &str, interface: &str, raw: RawTunnel, errors: &mut Gather) -> Option<LinkTunnel> {
    let Some(remote) = raw.remote else {
        errors.tell(raw.at, Problem::Missing(format!("tunnel `{name}` has no far end: write `remote = \"192.0.2.1\"`")), None);
        return None;
    };
    let ends = [Some((remote.value, remote.at)), raw.local.as_ref().and_then(|local| Some((local.value?, local.at)))];
    for (end, at) in ends.into_iter().flatten().filter(|(end, _)| end.family() != Family::V4) {
        errors.tell(at, Problem::Value(format!("{end} is no IPv4 address: a tunnel of kind {word} runs over IPv4")), None);
    }
    let (kind, mtu) = if word == "sit" { (LinkKind::Sit, 1480) } else { (LinkKind::Gre, 1476) };
    if let Some(update) = raw.update.as_ref().filter(|_| raw.local.as_ref().is_some_and(|local| local.value.is_some())) {
        errors.tell(
            place(Some(update), raw.at),
            Problem::Clash("`update` tells of a new local end, and `local` never changes".to_owned()),
            None,
        );
    }
    Some(LinkTunnel {
        kind,
        interface: interface.to_owned(),
        local: raw.local.and_then(|local| local.value),
        remote: remote.value,
        ttl: or(raw.ttl, 64),
        mtu: or(raw.mtu, mtu),
        addresses: or(raw.addresses, Vec::new()),
        update: raw.update.map(|update| update.value),
        budget: raw.budget.map(|budget| Arc::from(budget.value)),
    })
}

pub(super) fn show(out: &mut String, tunnel: &Tunnel) {
    head(out, "tunnel", &tunnel.name);
    line(out, "enabled", tunnel.enabled);
    match &tunnel.kind {
        TunnelKind::Exec(exec) => show_exec(out, exec),
        TunnelKind::Link(link) => show_link(out, link),
        TunnelKind::Wireguard(wireguard) => {
            line(out, "kind", quoted("wireguard"));
            line(out, "interface", quoted(&wireguard.interface));
            line(out, "handshake", quoted(&wireguard.handshake));
        }
    }
    let ready = &tunnel.ready;
    let address = ready.address.as_ref().map(|address| format!(", address = {}", quoted(&host(address)))).unwrap_or_default();
    line(out, "ready", format!("{{ interface = {}{address}, within = {} }}", quoted(&ready.interface), quoted(&ready.within)));
    let Backoff { min, max, factor, jitter, reset_after } = &tunnel.backoff;
    let [factor, jitter] = [factor, jitter].map(|percent| toml::Value::Float(f64::from(*percent) / 100.0));
    let (min, max, reset) = (quoted(min), quoted(max), quoted(reset_after));
    line(out, "backoff", format!("{{ min = {min}, max = {max}, factor = {factor}, jitter = {jitter}, reset_after = {reset} }}"));
    optional(out, "underlay", tunnel.underlay.as_deref().map(quoted));
}

fn show_exec(out: &mut String, exec: &Exec) {
    line(out, "kind", quoted("exec"));
    line(out, "start", list(&exec.start));
    optional(out, "stop", exec.stop.as_ref().map(list));
    line(out, "type", quoted(if exec.pidfile.is_some() { "forking" } else { "simple" }));
    optional(out, "pidfile", exec.pidfile.as_ref().map(quoted));
    let restart = match exec.restart {
        Restart::No => "no",
        Restart::OnFailure => "on-failure",
        Restart::Always => "always",
    };
    line(out, "restart", quoted(restart));
    line(out, "restart_on_probe", exec.restart_on_probe);
    optional(out, "budget", exec.budget.as_deref().map(quoted));
    line(out, "cost", exec.cost);
    line(out, "stop_cost", exec.stop_cost);
    line(out, "fatal", format!("{{ output = {} }}", list(&exec.fatal)));
    line(out, "min_uptime", quoted(&exec.min_uptime));
}

fn show_link(out: &mut String, link: &LinkTunnel) {
    line(out, "kind", quoted(if link.kind == LinkKind::Sit { "sit" } else { "gre" }));
    line(out, "interface", quoted(&link.interface));
    line(out, "local", link.local.map_or_else(|| quoted("auto"), |local| quoted(&local)));
    line(out, "remote", quoted(&link.remote));
    line(out, "ttl", link.ttl);
    line(out, "mtu", link.mtu);
    line(out, "addresses", list(link.addresses.iter().map(|(own, len)| format!("{own}/{len}"))));
    optional(out, "update", link.update.as_ref().map(list));
    optional(out, "budget", link.budget.as_deref().map(quoted));
}
