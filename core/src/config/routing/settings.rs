//! `[routing]`.

use toml::de::DeTable;

use super::super::error::{At, Gather, Place, Problem};
use super::super::show::{line, list, quoted};
use super::super::values::{Bounds, Reading};
use super::{addr, or};
use crate::net::Addr;
use crate::route::spec::{RpFilter, Settings};
use crate::route::words::{Mask, Priority, Protocol};

/// Its keys.
pub(in super::super) const SETTINGS_KEYS: &[&str] =
    &["priority_base", "priority_range", "protocol", "table_names", "mark_mask", "rp_filter", "control_peers"];

/// The kernel's own rules for main and default stand at 32766 and 32767: behind them ours would be of no use.
const LAST: u32 = 32_765;
const BASE: Bounds = Bounds { low: 1, high: LAST as u64, why: "rule 0 is the kernel's, and 32766 looks up main" };
const RANGE: Bounds = Bounds { low: 100, high: LAST as u64, why: "fewer are not enough for two uplinks" };
const PROTOCOL: Bounds = Bounds { low: 5, high: 255, why: "0 to 4 are the kernel's and everybody's" };
/// Programs with numbers of their own (linux/rtnetlink.h).
const PROGRAMS: &[(u8, &str)] = &[
    (8, "gated"),
    (9, "router advertisements"),
    (10, "mrt"),
    (11, "zebra"),
    (12, "bird"),
    (13, "dnrouted"),
    (14, "xorp"),
    (15, "ntk"),
    (16, "dhcp"),
    (17, "mrouted"),
    (18, "keepalived"),
    (42, "babel"),
    (84, "ovn"),
    (99, "openr"),
    (186, "bgp"),
    (187, "isis"),
    (188, "ospf"),
    (189, "rip"),
    (192, "eigrp"),
];
const PEERS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct RawSettings {
    pub(super) at: Place,
    base: Option<At<u32>>,
    range: Option<At<u32>>,
    protocol: Option<At<u8>>,
    table_names: Option<At<bool>>,
    mask: Option<At<u32>>,
    rp_filter: Option<At<&'static str>>,
    peers: Option<At<Vec<Addr>>>,
}

impl RawSettings {
    pub(super) fn merge(&mut self, later: Self) {
        self.base = later.base.or(self.base.take());
        self.range = later.range.or(self.range.take());
        self.protocol = later.protocol.or(self.protocol.take());
        self.table_names = later.table_names.or(self.table_names.take());
        self.mask = later.mask.or(self.mask.take());
        self.rp_filter = later.rp_filter.or(self.rp_filter.take());
        self.peers = later.peers.or(self.peers.take());
        self.at = self.base.as_ref().map(|base| base.at).or(self.range.as_ref().map(|range| range.at)).unwrap_or(later.at);
    }
}

impl Reading<'_> {
    pub(super) fn settings(&mut self, table: &DeTable<'_>) -> RawSettings {
        let mut raw = RawSettings::default();
        for (key, value) in table {
            let name: &str = key.get_ref();
            raw.at = self.place(&key.span());
            match name {
                "priority_base" => raw.base = self.number(name, value, BASE),
                "priority_range" => raw.range = self.number(name, value, RANGE),
                "protocol" => raw.protocol = self.number(name, value, PROTOCOL),
                "table_names" => raw.table_names = self.boolean(name, value),
                "mark_mask" => raw.mask = self.hex(name, value),
                "rp_filter" => raw.rp_filter = self.word(name, value, &["advise", "set"], &[]),
                "control_peers" => raw.peers = self.texts(name, value, ("a list of addresses", PEERS), addr),
                _ => self.unknown(key, "in [routing]", SETTINGS_KEYS),
            }
        }
        raw
    }
}

pub(super) fn mean(raw: RawSettings, errors: &mut Gather) -> Settings {
    let default = Settings::default();
    let at = raw.base.as_ref().map(|base| base.at).or(raw.range.as_ref().map(|range| range.at)).unwrap_or(raw.at);
    let (base, range) = (or(raw.base, default.priority_base.0), or(raw.range, default.priority_range));
    if base.saturating_add(range - 1) > LAST {
        let message = format!(
            "`priority_base` = {base} and `priority_range` = {range} reach to {}, behind the rule that looks up main (32766)",
            base.saturating_add(range - 1)
        );
        errors.tell(at, Problem::Clash(message), Some(format!("with this range the base is at most {}", (LAST + 1).saturating_sub(range))));
    }
    if let Some(typed) = &raw.mask {
        let bits = typed.value.checked_shr(typed.value.trailing_zeros()).unwrap_or(0);
        if bits < 0b11 || bits & bits.wrapping_add(1) != 0 {
            let message = format!("`mark_mask` = {:#x} is not two or more bits side by side", typed.value);
            errors.tell(typed.at, Problem::Value(message), Some("0x7f000000 serves 32 uplinks".to_owned()));
        }
    }
    if let Some((typed, (_, program))) =
        raw.protocol.as_ref().and_then(|typed| Some((typed, PROGRAMS.iter().find(|(number, _)| *number == typed.value)?)))
    {
        let message = format!("`protocol` {} is that of {program}: what that makes would be taken for ours", typed.value);
        errors.tell(typed.at, Problem::Clash(message), Some("80 is nobody's".to_owned()));
    }
    Settings {
        priority_base: Priority(base),
        priority_range: range,
        protocol: Protocol(or(raw.protocol, default.protocol.0)),
        table_names: or(raw.table_names, default.table_names),
        mark_mask: Mask(or(raw.mask, default.mark_mask.0)),
        rp_filter: if or(raw.rp_filter, "advise") == "set" { RpFilter::Set } else { RpFilter::Advise },
        control_peers: or(raw.peers, Vec::new()),
    }
}

pub(super) fn show(out: &mut String, settings: &Settings) {
    out.push_str("\n[routing]\n");
    line(out, "priority_base", settings.priority_base.0);
    line(out, "priority_range", settings.priority_range);
    line(out, "protocol", settings.protocol.0);
    line(out, "table_names", settings.table_names);
    line(out, "mark_mask", quoted(&settings.mark_mask));
    line(out, "rp_filter", quoted(if settings.rp_filter == RpFilter::Set { "set" } else { "advise" }));
    line(out, "control_peers", list(&settings.control_peers));
}
