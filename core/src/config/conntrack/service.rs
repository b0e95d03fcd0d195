//! `[conntrack.service.NAME]`: timeouts of one service's flows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use toml::de::DeTable;

use super::super::error::{At, Gather, Place, Problem};
use super::super::nearest::{hint, shown};
use super::super::show::{line, list, quoted};
use super::super::values::{Bounds, Reading, Value};
use super::super::walk::Key;
use super::super::words::{self, Wrong};
use super::timeouts::{self, RawTimeouts, TCP_STATES, UDP_STATES};
use crate::flood::flow::{TCP, UDP};
use crate::flood::settings::Service;
use crate::net::Prefix;

/// Keys of `[conntrack.service.NAME]`.
pub(in super::super) const SERVICE_KEYS: &[&str] = &["protocol", "ports", "prefixes", "timeouts"];

/// Words of `protocol`, and the states that such flows have.
const PROTOCOLS: [(&str, u8, &[&str]); 2] = [("tcp", TCP, TCP_STATES), ("udp", UDP, UDP_STATES)];

/// Each is a rule that every new flow is held against, whoever opens it.
const SERVICES_MAX: usize = 32;
/// As many as a jail may name: a service has one port or a few, and a range of thousands is no service but a protocol,
/// whose timeouts are the kernel's own.
const PORTS_MAX: usize = 32;
/// Servers of one service, or networks; not a list of clients.
const PREFIXES_MAX: usize = 256;
/// What the kernel calls such a policy is 31 bytes at most (`CTNL_TIMEOUT_NAME_MAX`, linux/netfilter/nfnetlink_cttimeout.h).
const NAME_MAX: usize = 31;
const PORT: Bounds = Bounds { low: 1, high: 65535, why: "that is what TCP and UDP have" };
const PORTS: &str = "a list like [\"dns\", 5060, \"6000-6007\"]";

/// What was typed, by name.
pub(super) type RawServices = BTreeMap<String, RawService>;

#[derive(Debug, Default)]
pub(super) struct RawService {
    /// Its name in the file that wrote of it last.
    at: Place,
    protocol: Option<At<&'static str>>,
    ports: Option<At<Vec<u16>>>,
    prefixes: Option<At<Vec<Prefix>>>,
    timeouts: RawTimeouts,
}

/// Adds what a later file wrote.
pub(super) fn merge(services: &mut RawServices, later: RawServices) {
    for (name, later) in later {
        let earlier = services.entry(name).or_default();
        earlier.at = later.at;
        earlier.protocol = later.protocol.or(earlier.protocol.take());
        earlier.ports = later.ports.or(earlier.ports.take());
        earlier.prefixes = later.prefixes.or(earlier.prefixes.take());
        earlier.timeouts.extend(later.timeouts);
    }
}

impl Reading<'_> {
    /// Reads the table of services.
    pub(super) fn flood_services(&mut self, value: &Value<'_>) -> RawServices {
        let mut all = RawServices::new();
        let Some(table) = self.table("service", value, "a table of services, each written [conntrack.service.NAME]") else { return all };
        if table.len() > SERVICES_MAX {
            self.tell(&value.span(), Problem::TooLarge(too_many(table.len())), None);
            return all;
        }
        for (key, value) in table {
            let name: &str = key.get_ref();
            let Some(table) = value.get_ref().as_table() else {
                self.unknown(key, "in [conntrack.service]", &[]);
                continue;
            };
            if is_name(name) {
                let service = self.flood_service(key, table);
                all.insert(name.to_owned(), service);
            } else {
                let message =
                    format!("`{}` cannot be a service's name: a letter, then a-z, 0-9, `_` and `-`, {NAME_MAX} at most", shown(name));
                let lower = name.to_lowercase();
                let hint = is_name(&lower).then(|| format!("did you mean `{lower}`?"));
                self.tell(&key.span(), Problem::Value(message), hint);
            }
        }
        all
    }

    fn flood_service(&mut self, key: &Key<'_>, table: &DeTable<'_>) -> RawService {
        let mut raw = RawService { at: self.place(&key.span()), ..RawService::default() };
        let called = format!("[conntrack.service.{}", key.get_ref());
        for (setting, value) in table {
            let name: &str = setting.get_ref();
            match name {
                "protocol" => raw.protocol = self.word(name, value, &PROTOCOLS.map(|(word, ..)| word), &[]),
                "ports" => raw.ports = self.service_ports(name, value),
                "prefixes" => raw.prefixes = self.texts(name, value, ("a list of texts like \"192.0.2.0/24\"", PREFIXES_MAX), prefix),
                "timeouts" => {
                    raw.timeouts = self.flood_timeouts(value, &format!("{called}.timeouts]"), &[TCP_STATES, UDP_STATES].concat());
                }
                _ => self.unknown(setting, &format!("in {called}]"), SERVICE_KEYS),
            }
        }
        raw
    }

    fn service_ports(&mut self, name: &str, value: &Value<'_>) -> Option<At<Vec<u16>>> {
        let typed = self.list(name, value, (PORTS, PORTS_MAX), |reading, element| {
            if element.get_ref().is_integer() {
                return reading.number::<u16>(name, element, PORT).map(|port| vec![port.value]);
            }
            let text = reading.text(name, element, PORTS)?;
            let more = ", and a service has no more: timeouts of a whole protocol are `timeouts` in [conntrack]";
            words::ports_or(text, more).map_or_else(|wrong| reading.wrong_value(element, wrong), Some)
        })?;
        let ports: BTreeSet<u16> = typed.value.into_iter().flatten().collect();
        if ports.len() > PORTS_MAX {
            self.errors.tell(
                typed.at,
                Problem::TooLarge(format!("these are more than the {PORTS_MAX} ports that a service may have")),
                None,
            );
            return None;
        }
        Some(At { value: ports.into_iter().collect(), at: typed.at })
    }
}

/// Whether a service may be called that.
fn is_name(text: &str) -> bool {
    words::is_jail_name(text) && text.len() <= NAME_MAX && !text.contains('.') && text.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn prefix(text: &str) -> Result<Prefix, Wrong> {
    text.parse().map_err(|error| (format!("`{}`: {error}", shown(text)), None))
}

fn too_many(count: usize) -> String {
    format!("{count} services are more than {SERVICES_MAX}: every new flow is held against each of them")
}

/// The services that were typed. Here is told what is missing and what does not go together.
pub(super) fn mean(raw: RawServices, errors: &mut Gather) -> BTreeMap<String, Service> {
    if let Some((_, service)) = raw.iter().nth(SERVICES_MAX) {
        errors.tell(service.at, Problem::TooLarge(too_many(raw.len())), None);
        return BTreeMap::new();
    }
    let places: BTreeMap<String, Place> = raw.iter().map(|(name, raw)| (name.clone(), raw.at)).collect();
    let services: BTreeMap<String, Service> =
        raw.into_iter().filter_map(|(name, raw)| one(&name, raw, errors).map(|service| (name, service))).collect();
    for (n, (name, service)) in services.iter().enumerate() {
        for (other, earlier) in services.iter().take(n) {
            if let Some(port) = shared(earlier, service) {
                let (word, ..) = spoken(service.protocol);
                let message = format!(
                    "services `{other}` and `{name}` both have {word} port {port} of the same addresses: which timeouts are meant?"
                );
                errors.tell(places.get(name).copied().unwrap_or_default(), Problem::Clash(message), None);
            }
        }
    }
    services
}

fn one(name: &str, raw: RawService, errors: &mut Gather) -> Option<Service> {
    let mut missing = |what: &str| {
        errors.tell(raw.at, Problem::Missing(format!("service `{name}` has no {what}")), None);
    };
    if raw.protocol.is_none() {
        missing("protocol: write `protocol = \"tcp\"` or `\"udp\"`");
    }
    let ports = raw.ports.map(|typed| typed.value).unwrap_or_default();
    if ports.is_empty() {
        missing("ports: write those that it listens on, like `ports = [\"dns\"]`");
    }
    if raw.timeouts.is_empty() {
        missing("timeouts: write at least one, like `timeouts = { established = \"1h\" }` of tcp or `{ unreplied = \"10s\" }` of udp");
    }
    let (word, protocol, states) =
        PROTOCOLS.into_iter().find(|(word, ..)| raw.protocol.as_ref().is_some_and(|typed| typed.value == *word))?;
    for (state, typed) in &raw.timeouts {
        if !states.contains(&state.as_str()) {
            let message = format!("`{state}` is no state of {word}, which service `{name}` is: its states are {}", states.join(", "));
            errors.tell(typed.at, Problem::Clash(message), hint(state, states));
        }
    }
    let prefixes = raw.prefixes.map(|typed| typed.value).unwrap_or_default();
    Some(Service { protocol, ports, prefixes, timeouts: timeouts::mean(raw.timeouts) })
}

/// A port that both have, if a flow to it could be of either.
fn shared(one: &Service, other: &Service) -> Option<u16> {
    let any = |service: &Service| service.prefixes.is_empty();
    let meet = any(one) || any(other) || one.prefixes.iter().any(|prefix| other.prefixes.iter().any(|theirs| prefix.overlaps(theirs)));
    let port = one.ports.iter().find(|port| other.ports.contains(port)).copied();
    port.filter(|_| meet && one.protocol == other.protocol)
}

/// The word for a protocol that a service can have.
fn spoken(protocol: u8) -> (&'static str, u8, &'static [&'static str]) {
    PROTOCOLS.into_iter().find(|(_, number, _)| *number == protocol).unwrap_or(PROTOCOLS[0])
}

/// The sections as TOML again.
pub(super) fn show(out: &mut String, services: &BTreeMap<String, Service>) {
    for (name, service) in services {
        let _ = write!(out, "\n[conntrack.service.{name}]\n");
        line(out, "protocol", quoted(spoken(service.protocol).0));
        line(out, "ports", format!("{:?}", service.ports));
        line(out, "prefixes", list(&service.prefixes));
        line(out, "timeouts", timeouts::show(&service.timeouts));
    }
}
