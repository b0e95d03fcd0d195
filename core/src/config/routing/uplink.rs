//! `[uplink.NAME]` and its `track`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use toml::de::DeTable;

use super::super::error::{At, Gather, Place, Problem};
use super::super::nearest::{hint, shown};
use super::super::show::{line, list, quoted};
use super::super::values::{Bounds, Reading, TimeBounds, Value};
use super::super::walk::Key;
use super::{Taken, addr, head, host, interface, is_name, optional, or, place, source};
use crate::net::{Addr, Family, Prefix};
use crate::route::spec::{Gateway, Guard, OnDown, Sources, Track, Uplink};
use crate::route::words::{Table, TableId};
use crate::time::Span;

/// Keys of `[uplink.NAME]`.
pub(in super::super) const UPLINK_KEYS: &[&str] = &[
    "interface",
    "table",
    "source",
    "subnets",
    "gateway",
    "gateway4",
    "gateway6",
    "on_down",
    "guard",
    "track",
    "tunnel",
    "weight",
    "metered",
];
/// Keys of `table`.
pub(in super::super) const TABLE_KEYS: &[&str] = &["name", "id"];
/// Keys of `track`.
pub(in super::super) const TRACK_KEYS: &[&str] = &["targets", "interval", "timeout", "down", "up", "quorum", "loss", "latency", "window"];
/// Keys of `loss` and `latency`.
pub(in super::super) const LINES_KEYS: &[&str] = &["warn", "down"];

const PREFIXES: (&str, usize) = ("a list of addresses and prefixes, or \"auto\"", 256);
const TARGETS: (&str, usize) = ("a list of addresses", 16);
const TABLE: Bounds = Bounds { low: 1, high: u32::MAX as u64, why: "0 is no table" };
const WEIGHT: Bounds = Bounds { low: 1, high: 256, why: "the kernel counts shares so" };
const TIMES: Bounds = Bounds { low: 1, high: 1000, why: "so many rounds would be waited for" };
const QUORUM: Bounds = Bounds { low: 1, high: 16, why: "there are at most so many targets" };
const PERCENT: Bounds = Bounds { low: 1, high: 100, why: "it is a share" };
const INTERVAL: TimeBounds = TimeBounds {
    low: Span::millis(100),
    high: Span::secs(3600),
    permanent: false,
    why: "the targets are somebody else's, and a seldom answer proves little",
};
const TIMEOUT: TimeBounds =
    TimeBounds { low: Span::millis(10), high: Span::secs(60), permanent: false, why: "an answer later than that is of no use" };
const WINDOW: TimeBounds = TimeBounds { low: Span::secs(1), high: Span::secs(3600), permanent: false, why: "it is kept in memory" };

/// `table` as it was typed.
#[derive(Clone, Debug)]
enum TypedTable {
    Main,
    Name(String),
    Id(u32),
    Both(String, u32),
}

#[derive(Clone, Debug)]
enum TypedSources {
    Auto,
    Fixed(Vec<Prefix>),
}

#[derive(Debug, Default)]
pub(super) struct RawUplink {
    /// Its name in the file that wrote of it last.
    pub(super) at: Place,
    interface: Option<At<String>>,
    table: Option<At<TypedTable>>,
    source: Option<At<TypedSources>>,
    subnets: Option<At<Vec<Prefix>>>,
    gateway: Option<At<Gateway>>,
    gateway4: Option<At<Gateway>>,
    gateway6: Option<At<Gateway>>,
    on_down: Option<At<&'static str>>,
    guard: Option<At<&'static str>>,
    track: Option<RawTrack>,
    tunnel: Option<At<String>>,
    weight: Option<At<u16>>,
    metered: Option<At<bool>>,
}

#[derive(Debug, Default)]
struct RawTrack {
    at: Place,
    targets: Option<At<Vec<Addr>>>,
    interval: Option<At<Span>>,
    timeout: Option<At<Span>>,
    down: Option<At<u32>>,
    up: Option<At<u32>>,
    quorum: Option<At<usize>>,
    loss: Option<At<(u8, u8)>>,
    latency: Option<At<(Span, Span)>>,
    window: Option<At<Span>>,
}

impl RawUplink {
    pub(super) fn merge(&mut self, later: Self) {
        self.at = later.at;
        self.interface = later.interface.or(self.interface.take());
        self.table = later.table.or(self.table.take());
        self.source = later.source.or(self.source.take());
        self.subnets = later.subnets.or(self.subnets.take());
        self.gateway = later.gateway.or(self.gateway.take());
        self.gateway4 = later.gateway4.or(self.gateway4.take());
        self.gateway6 = later.gateway6.or(self.gateway6.take());
        self.on_down = later.on_down.or(self.on_down.take());
        self.guard = later.guard.or(self.guard.take());
        match (&mut self.track, later.track) {
            (Some(track), Some(later)) => track.merge(later),
            (track, later) => *track = later.or(track.take()),
        }
        self.tunnel = later.tunnel.or(self.tunnel.take());
        self.weight = later.weight.or(self.weight.take());
        self.metered = later.metered.or(self.metered.take());
    }
}

impl RawTrack {
    fn merge(&mut self, later: Self) {
        self.at = later.at;
        self.targets = later.targets.or(self.targets.take());
        self.interval = later.interval.or(self.interval.take());
        self.timeout = later.timeout.or(self.timeout.take());
        self.down = later.down.or(self.down.take());
        self.up = later.up.or(self.up.take());
        self.quorum = later.quorum.or(self.quorum.take());
        self.loss = later.loss.or(self.loss.take());
        self.latency = later.latency.or(self.latency.take());
        self.window = later.window.or(self.window.take());
    }
}

impl Reading<'_> {
    pub(super) fn uplink(&mut self, key: &Key<'_>, table: &DeTable<'_>) -> RawUplink {
        let mut raw = RawUplink { at: self.place(&key.span()), ..RawUplink::default() };
        for (setting, value) in table {
            let name: &str = setting.get_ref();
            match name {
                "interface" => {
                    let typed = self.parsed(name, value, interface);
                    raw.interface = self.at_of(value, typed);
                }
                "table" => raw.table = self.uplink_table(value),
                "source" => raw.source = self.sources(value),
                "subnets" => raw.subnets = self.texts(name, value, PREFIXES, source),
                "gateway" => raw.gateway = self.gateway(name, value),
                "gateway4" => raw.gateway4 = self.gateway(name, value),
                "gateway6" => raw.gateway6 = self.gateway(name, value),
                "on_down" => raw.on_down = self.word(name, value, &["unreachable", "fallthrough"], &[]),
                "guard" => raw.guard = self.word(name, value, &["off", "count", "drop"], &[]),
                "track" => raw.track = self.track(key, value),
                "tunnel" => {
                    let typed = self.text(name, value, "the name of a tunnel").map(str::to_owned);
                    raw.tunnel = self.at_of(value, typed);
                }
                "weight" => raw.weight = self.number(name, value, WEIGHT),
                "metered" => raw.metered = self.boolean(name, value),
                _ => self.unknown(setting, &format!("in [uplink.{}]", key.get_ref()), UPLINK_KEYS),
            }
        }
        raw
    }

    fn uplink_table(&mut self, value: &Value<'_>) -> Option<At<TypedTable>> {
        const SHAPE: &str = "\"main\", a name, a number, or { name = \"...\", id = ... }";
        let name_of = |text: &str| {
            if is_name(text) { Ok(text.to_owned()) } else { Err((format!("`{}` cannot be a table's name", shown(text)), None)) }
        };
        let typed = if value.get_ref().is_integer() {
            self.number("table", value, TABLE).map(|id| TypedTable::Id(id.value))
        } else if let Some(fields) = value.get_ref().as_table() {
            let (mut name, mut id) = (None, None);
            for (key, value) in fields {
                match &**key.get_ref() {
                    "name" => name = self.parsed("name", value, name_of),
                    "id" => id = self.number("id", value, TABLE).map(|id| id.value),
                    _ => self.unknown(key, "in `table`", TABLE_KEYS),
                }
            }
            match (name, id) {
                (Some(name), Some(id)) => Some(TypedTable::Both(name, id)),
                (Some(name), None) => Some(TypedTable::Name(name)),
                (None, Some(id)) => Some(TypedTable::Id(id)),
                (None, None) if fields.is_empty() => self.wrong_type("table", value, SHAPE),
                // What is wrong was told.
                (None, None) => None,
            }
        } else {
            let text = self.text("table", value, SHAPE)?;
            if text == "main" {
                Some(TypedTable::Main)
            } else if let Some(id) = super::hex(text).filter(|id| *id != 0) {
                Some(TypedTable::Id(id))
            } else {
                self.parsed("table", value, name_of).map(TypedTable::Name)
            }
        };
        self.at_of(value, typed)
    }

    fn sources(&mut self, value: &Value<'_>) -> Option<At<TypedSources>> {
        let typed = match value.get_ref().as_str() {
            Some("auto") => Some(TypedSources::Auto),
            Some(text) => {
                let message = format!("`{}` is not a word for `source`: it is \"auto\", or a list like [\"{}\"]", shown(text), shown(text));
                self.tell(&value.span(), Problem::Value(message), hint(text, &["auto"]));
                None
            }
            None => self.texts("source", value, PREFIXES, source).map(|list| TypedSources::Fixed(list.value)),
        };
        self.at_of(value, typed)
    }

    fn gateway(&mut self, key: &str, value: &Value<'_>) -> Option<At<Gateway>> {
        let read = |text: &str| match text {
            "ra" if key == "gateway4" => {
                Err(("`ra` is IPv6's way to tell a gateway".to_owned(), Some("for IPv4 it is \"dhcp\"".to_owned())))
            }
            "dhcp" if key == "gateway6" => {
                Err(("`dhcp` tells no gateway for IPv6".to_owned(), Some("routers tell it themselves: \"ra\"".to_owned())))
            }
            "none" => Ok(Gateway::None),
            "dhcp" => Ok(Gateway::Dhcp),
            "ra" => Ok(Gateway::Ra),
            text => addr(text).map(Gateway::Addr).map_err(|(message, _)| {
                (format!("{message}; a gateway is an address, or one of none, dhcp, ra"), hint(text, &["none", "dhcp", "ra"]))
            }),
        };
        let typed = self.parsed(key, value, read);
        if let Some(Gateway::Addr(addr)) = typed {
            let wrong = matches!((key, addr.family()), ("gateway4", Family::V6) | ("gateway6", Family::V4));
            if wrong {
                self.tell(&value.span(), Problem::Value(format!("`{key}` cannot be {addr}: that is of the other family")), None);
                return None;
            }
        }
        self.at_of(value, typed)
    }

    fn track(&mut self, uplink: &Key<'_>, value: &Value<'_>) -> Option<RawTrack> {
        let table = self.table("track", value, "a table, written [uplink.NAME.track]")?;
        let mut raw = RawTrack { at: self.place(&value.span()), ..RawTrack::default() };
        for (key, value) in table {
            let name: &str = key.get_ref();
            match name {
                "targets" => raw.targets = self.texts(name, value, TARGETS, addr),
                "interval" => raw.interval = self.span(name, value, INTERVAL),
                "timeout" => raw.timeout = self.span(name, value, TIMEOUT),
                "down" => raw.down = self.number(name, value, TIMES),
                "up" => raw.up = self.number(name, value, TIMES),
                "quorum" => raw.quorum = self.number(name, value, QUORUM),
                "window" => raw.window = self.span(name, value, WINDOW),
                "loss" => {
                    raw.loss = self.two_lines(name, value, "{ warn = 10, down = 20 } in percent", |reading, key, value| {
                        Some(reading.number(key, value, PERCENT)?.value)
                    })
                }
                "latency" => {
                    raw.latency = self.two_lines(name, value, "{ warn = \"200ms\", down = \"500ms\" }", |reading, key, value| {
                        Some(reading.span(key, value, TIMEOUT)?.value)
                    });
                }
                _ => self.unknown(key, &format!("in [uplink.{}.track]", uplink.get_ref()), TRACK_KEYS),
            }
        }
        Some(raw)
    }

    /// `{ warn, down }`, both, the second no less than the first.
    fn two_lines<T: PartialOrd + Copy>(
        &mut self,
        key: &str,
        value: &Value<'_>,
        shape: &str,
        read: impl Fn(&mut Self, &str, &Value<'_>) -> Option<T>,
    ) -> Option<At<(T, T)>> {
        let table = self.table(key, value, shape)?;
        let (mut warn, mut down) = (None, None);
        for (field, value) in table {
            let name: &str = field.get_ref();
            match name {
                "warn" => warn = read(self, name, value),
                "down" => down = read(self, name, value),
                _ => self.unknown(field, &format!("in `{key}`"), LINES_KEYS),
            }
        }
        let typed = match (warn, down) {
            (Some(warn), Some(down)) if warn <= down => Some((warn, down)),
            (Some(_), Some(_)) => {
                self.tell(&value.span(), Problem::Clash(format!("`{key}` warns only above what is down")), None);
                None
            }
            _ => {
                self.tell(&value.span(), Problem::Missing(format!("`{key}` needs both lines, like {shape}")), None);
                None
            }
        };
        self.at_of(value, typed)
    }
}

/// The uplinks that were typed.
pub(super) fn mean(
    raw: BTreeMap<String, RawUplink>,
    tunnels: Option<&BTreeSet<String>>,
    taken: &mut Taken,
    errors: &mut Gather,
) -> Vec<Uplink> {
    // Numbers that were typed come first, so that none is chosen that somebody wrote.
    let mut tables = BTreeMap::new();
    for written in [true, false] {
        for (name, uplink) in &raw {
            let typed = uplink.table.as_ref().map(|typed| typed.value.clone());
            if matches!(typed, Some(TypedTable::Id(_) | TypedTable::Both(..))) == written {
                tables.insert(name.clone(), table(name, uplink, typed, taken, errors));
            }
        }
    }
    let mut places = Vec::new();
    let mut all = Vec::new();
    for (name, uplink) in raw {
        let at = place(uplink.source.as_ref(), uplink.at);
        let table = tables.remove(&name).flatten();
        if let Some(uplink) = one(&name, uplink, table, tunnels, errors) {
            places.push(at);
            all.push(uplink);
        }
    }
    owners(&all, &places, errors);
    all
}

fn table(name: &str, uplink: &RawUplink, typed: Option<TypedTable>, taken: &mut Taken, errors: &mut Gather) -> Option<Table> {
    let at = place(uplink.table.as_ref(), uplink.at);
    let (table, id) = match typed {
        Some(TypedTable::Main) => return None,
        None => (name.to_owned(), taken.choose(name)),
        Some(TypedTable::Name(table)) => {
            let id = taken.choose(&table);
            (table, id)
        }
        Some(TypedTable::Id(id)) => (name.to_owned(), TableId(id)),
        Some(TypedTable::Both(table, id)) => (table, TableId(id)),
    };
    let reserved = matches!(id, TableId::LOCAL | TableId::MAIN | TableId::DEFAULT)
        || matches!(table.as_str(), "main" | "local" | "default" | "unspec");
    if reserved {
        let message = format!(
            "table `{table}` ({}) of uplink `{name}` is the kernel's: an uplink has one of its own, or `table = \"main\"` to be watched only",
            id.0
        );
        errors.tell(at, Problem::Value(message), None);
    } else if let Err(other) = taken.claim(id, &table, &format!("uplink `{name}`")) {
        errors.tell(at, Problem::Clash(format!("table `{table}` ({}) of uplink `{name}` is {other}'s already", id.0)), None);
    }
    Some(Table { name: table.into(), id })
}

fn one(name: &str, raw: RawUplink, table: Option<Table>, tunnels: Option<&BTreeSet<String>>, errors: &mut Gather) -> Option<Uplink> {
    let at = raw.at;
    let Some(interface) = raw.interface else {
        errors.tell(at, Problem::Missing(format!("uplink `{name}` has no interface: write `interface = \"eth0\"`")), None);
        return None;
    };
    let Some(typed) = raw.source else {
        let message =
            format!("uplink `{name}` has no source: write whose packets leave by it, `source = [\"192.0.2.1\"]` or `source = \"auto\"`");
        errors.tell(at, Problem::Missing(message), None);
        return None;
    };
    let source = match typed.value {
        TypedSources::Auto => Sources::Auto,
        TypedSources::Fixed(list) if list.is_empty() => {
            errors.tell(
                typed.at,
                Problem::Missing(format!("uplink `{name}` has an empty list of sources: nothing would ever leave by it")),
                None,
            );
            return None;
        }
        TypedSources::Fixed(list) => Sources::Fixed(list),
    };
    if let Some((tunnel, tunnels)) = raw.tunnel.as_ref().zip(tunnels).filter(|(tunnel, tunnels)| !tunnels.contains(&tunnel.value)) {
        let names: Vec<&str> = tunnels.iter().map(String::as_str).collect();
        errors.tell(tunnel.at, Problem::Missing(format!("there is no [tunnel.{}]", shown(&tunnel.value))), hint(&tunnel.value, &names));
    }
    let subnets = or(raw.subnets, Vec::new());
    let has = |family| match &source {
        Sources::Auto => None,
        Sources::Fixed(list) => Some(list.iter().chain(&subnets).any(|prefix| prefix.family() == family)),
    };
    let [gateway4, gateway6] = gateways(name, [&raw.gateway, &raw.gateway4, &raw.gateway6], [has(Family::V4), has(Family::V6)], errors);
    let families = [(Family::V4, gateway4), (Family::V6, gateway6)]
        .into_iter()
        .filter(|(_, gateway)| *gateway != Gateway::Unused)
        .map(|(family, _)| family)
        .collect();
    Some(Uplink {
        name: name.into(),
        interface: interface.value,
        table,
        source,
        subnets,
        gateway4,
        gateway6,
        on_down: if or(raw.on_down, "unreachable") == "fallthrough" { OnDown::Fallthrough } else { OnDown::Unreachable },
        guard: match or(raw.guard, "count") {
            "off" => Guard::Off,
            "drop" => Guard::Drop,
            _ => Guard::Count,
        },
        track: raw.track.and_then(|track| tracked(name, track, families, errors)),
        tunnel: raw.tunnel.map(|tunnel| Arc::from(tunnel.value)),
        weight: or(raw.weight, 1),
        metered: or(raw.metered, false),
    })
}

/// The gateways of both families. One that is not named is none for a family that has sources; for `source = "auto"` it
/// is what DHCP and router advertisements say, unless only the other family's is named.
fn gateways(name: &str, [both, four, six]: [&Option<At<Gateway>>; 3], has: [Option<bool>; 2], errors: &mut Gather) -> [Gateway; 2] {
    let families = [Family::V4, Family::V6];
    let shared = |family: Family| {
        let typed = both.as_ref()?;
        let fits = match typed.value {
            Gateway::Addr(addr) => addr.family() == family,
            Gateway::Dhcp => family == Family::V4,
            Gateway::Ra => family == Family::V6,
            Gateway::None | Gateway::Unused => true,
        };
        fits.then_some(typed)
    };
    let typed = [four.as_ref().or_else(|| shared(families[0])), six.as_ref().or_else(|| shared(families[1]))];
    let any = typed.iter().any(Option::is_some);
    [0, 1].map(|n| match (typed[n], has[n]) {
        (Some(At { value: Gateway::None, .. }), Some(false)) => Gateway::Unused,
        (Some(gateway), Some(false)) => {
            let family = if n == 0 { "IPv4" } else { "IPv6" };
            let message = format!("uplink `{name}` has a gateway for {family}, but no source of that family");
            errors.tell(gateway.at, Problem::Clash(message), Some("name a source of it, or `source = \"auto\"`".to_owned()));
            gateway.value
        }
        (Some(gateway), _) => gateway.value,
        (None, Some(true)) => Gateway::None,
        (None, Some(false)) => Gateway::Unused,
        (None, None) if any => Gateway::Unused,
        (None, None) => [Gateway::Dhcp, Gateway::Ra][n],
    })
}

fn tracked(name: &str, raw: RawTrack, families: Vec<Family>, errors: &mut Gather) -> Option<Track> {
    let Some(targets) = raw.targets.filter(|targets| !targets.value.is_empty()) else {
        errors.tell(
            raw.at,
            Problem::Missing(format!("uplink `{name}` is tracked without targets: write `targets = [\"192.0.2.1\"]`")),
            None,
        );
        return None;
    };
    if let Some(stray) = targets.value.iter().find(|target| !families.contains(&target.family())) {
        let message = format!("uplink `{name}` cannot ask {stray}: it has no way for that family");
        errors.tell(targets.at, Problem::Clash(message), None);
    }
    let quorum = raw.quorum.as_ref().map_or(1, |quorum| quorum.value);
    if quorum > targets.value.len() {
        let message = format!("`quorum` = {quorum} of {} targets can never be reached", targets.value.len());
        errors.tell(place(raw.quorum.as_ref(), raw.at), Problem::Clash(message), None);
    }
    Some(Track {
        targets: targets.value,
        interval: or(raw.interval, Span::secs(10)),
        timeout: or(raw.timeout, Span::secs(2)),
        down: or(raw.down, 3),
        up: or(raw.up, 3),
        quorum,
        loss: raw.loss.map(|lines| lines.value),
        latency: raw.latency.map(|lines| lines.value),
        window: or(raw.window, Span::secs(60)),
    })
}

/// Each source has one owner, or it would depend on their order who has it. One uplink may well name an address and the
/// prefix around it.
fn owners(uplinks: &[Uplink], places: &[Place], errors: &mut Gather) {
    let mut all: Vec<(Prefix, usize)> = Vec::new();
    for (n, uplink) in uplinks.iter().enumerate() {
        let fixed = match &uplink.source {
            Sources::Auto => &[],
            Sources::Fixed(list) => list.as_slice(),
        };
        all.extend(fixed.iter().chain(&uplink.subnets).map(|prefix| (*prefix, n)));
    }
    // A prefix sorts before what it covers: those around the one that is looked at are a stack.
    all.sort_unstable();
    let mut around: Vec<(Prefix, usize)> = Vec::new();
    for (prefix, n) in all {
        while around.last().is_some_and(|(outer, _)| !outer.covers(&prefix)) {
            around.pop();
        }
        if let Some((_, m)) = around.last().filter(|(_, m)| *m != n) {
            let (first, second) = (n.min(*m), n.max(*m));
            let message = format!("uplinks `{}` and `{}` both claim {}", uplinks[first].name, uplinks[second].name, host(&prefix));
            errors.tell(places[second], Problem::Clash(message), Some("a source leaves by one uplink; give each its own".to_owned()));
        }
        around.push((prefix, n));
    }
}

const fn gateway_word(gateway: Gateway) -> Option<&'static str> {
    match gateway {
        Gateway::None => Some("none"),
        Gateway::Dhcp => Some("dhcp"),
        Gateway::Ra => Some("ra"),
        Gateway::Unused | Gateway::Addr(_) => None,
    }
}

pub(super) fn show(out: &mut String, uplink: &Uplink) {
    head(out, "uplink", &uplink.name);
    line(out, "interface", quoted(&uplink.interface));
    match &uplink.table {
        None => line(out, "table", quoted("main")),
        Some(table) => line(out, "table", format!("{{ name = {}, id = {} }}", quoted(&table.name), table.id.0)),
    }
    match &uplink.source {
        Sources::Auto => line(out, "source", quoted("auto")),
        Sources::Fixed(sources) => line(out, "source", list(sources.iter().map(host))),
    }
    line(out, "subnets", list(uplink.subnets.iter().map(host)));
    for (key, gateway) in [("gateway4", uplink.gateway4), ("gateway6", uplink.gateway6)] {
        if let Gateway::Addr(addr) = gateway {
            line(out, key, quoted(&addr));
        }
        optional(out, key, gateway_word(gateway).map(quoted));
    }
    line(out, "on_down", quoted(if uplink.on_down == OnDown::Fallthrough { "fallthrough" } else { "unreachable" }));
    let guard = match uplink.guard {
        Guard::Off => "off",
        Guard::Count => "count",
        Guard::Drop => "drop",
    };
    line(out, "guard", quoted(guard));
    optional(out, "tunnel", uplink.tunnel.as_deref().map(quoted));
    line(out, "weight", uplink.weight);
    line(out, "metered", uplink.metered);
    let Some(track) = &uplink.track else { return };
    let name = if uplink.name.contains('.') { quoted(&uplink.name) } else { uplink.name.to_string() };
    out.push_str(&format!("[uplink.{name}.track]\n"));
    line(out, "targets", list(&track.targets));
    line(out, "interval", quoted(&track.interval));
    line(out, "timeout", quoted(&track.timeout));
    line(out, "down", track.down);
    line(out, "up", track.up);
    line(out, "quorum", track.quorum);
    optional(out, "loss", track.loss.map(|(warn, down)| format!("{{ warn = {warn}, down = {down} }}")));
    optional(out, "latency", track.latency.map(|(warn, down)| format!("{{ warn = {}, down = {} }}", quoted(&warn), quoted(&down))));
    line(out, "window", quoted(&track.window));
}
