//! What the tests of routing are made of.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::routes::{Hop, Kind};
use super::super::rule::Selector;
use super::super::spec::{
    Condition, Families, FreeAction, FreeRule, Gateway, LastResort, OnDown, Policy, Purge, Sources, Sticky, Track, Uplink,
};
use super::super::words::{Priority, Protocol, Table, TableId};
use super::super::world::{Address, Link};
use super::*;
use crate::net::Addr;
use crate::time::Span;

pub(crate) fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(crate) fn track() -> Track {
    Track {
        targets: vec![addr("2001:db8:1::1"), addr("2606:4700:4700::1111")],
        interval: Span::secs(10),
        timeout: Span::secs(2),
        down: 3,
        up: 3,
        quorum: 1,
        loss: None,
        latency: None,
        window: Span::secs(60),
    }
}

pub(crate) fn uplink(name: &str, interface: &str, table: Option<u32>, source: &[&str]) -> Uplink {
    Uplink {
        name: name.into(),
        interface: interface.to_owned(),
        table: table.map(|id| Table { name: name.into(), id: TableId(id) }),
        source: if source.is_empty() { Sources::Auto } else { Sources::Fixed(source.iter().map(|text| prefix(text)).collect()) },
        subnets: Vec::new(),
        gateway4: Gateway::Unused,
        gateway6: Gateway::Unused,
        on_down: OnDown::Unreachable,
        guard: Guard::Off,
        track: None,
        tunnel: None,
        weight: 1,
        metered: false,
    }
}

/// routing.md's first sample.
pub(crate) fn seed() -> Spec {
    let point_to_point = |mut uplink: Uplink| {
        (uplink.gateway4, uplink.gateway6) = (Gateway::None, Gateway::None);
        uplink
    };
    let mut sixxs0 = point_to_point(uplink("sixxs0", "sixxs0", Some(200), &["2a02::1"]));
    (sixxs0.track, sixxs0.guard) = (Some(track()), Guard::Count);
    let sixxs1 = point_to_point(uplink("sixxs1", "sixxs1", Some(201), &["2a02::2"]));
    let net0 = point_to_point(uplink("net0", "net0", None, &["2001::1"]));
    Spec { uplinks: vec![net0, sixxs0, sixxs1], ..Spec::default() }
}

/// routing.md's second: two ISPs over IPv4, the better one three times the share.
pub(crate) fn two_isps() -> Spec {
    let mut fibre = uplink("fibre", "wan1", Some(210), &["198.51.100.2"]);
    fibre.gateway4 = Gateway::Addr(addr("198.51.100.1"));
    let mut lte = uplink("lte", "wwan0", Some(211), &[]);
    lte.gateway4 = Gateway::Dhcp;
    let member = |name: &str, tier, weight| Member { uplink: name.into(), tier, weight };
    let policy = Policy {
        name: Policy::DEFAULT.into(),
        table: Table { name: "default-policy".into(), id: TableId(220) },
        members: vec![member("fibre", 1, 3), member("lte", 2, 1)],
        sticky: Sticky::Connection,
        on_failover: Purge::Uplink,
        on_failback: Purge::Uplink,
        failback_after: Span::secs(120),
        last_resort: LastResort::Unreachable,
    };
    Spec { uplinks: vec![fibre, lte], policies: vec![policy], ..Spec::default() }
}

pub(crate) fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.to_owned(), up: true, carrier: true, kind: None }
}

pub(crate) fn address(link: u32, own: &str, network: &str) -> Address {
    let (addr, network) = (addr(own), prefix(network));
    Address { link, addr, network, global: true, tentative: false, dad_failed: false, deprecated: false, temporary: false }
}

pub(crate) fn world(links: &[(u32, &str)], addresses: Vec<Address>) -> World {
    World { links: links.iter().map(|(index, name)| (*index, link(*index, name))).collect(), addresses, ..World::default() }
}

pub(crate) fn dhcp_default(link: u32, gateway: &str) -> Route {
    let hops = vec![Hop { link, gateway: Some(addr(gateway)), onlink: false, weight: 1 }];
    let to = prefix("0.0.0.0/0");
    let protocol = Protocol::DHCP;
    Route { table: TableId::MAIN, to, from: None, metric: 100, tos: 0, kind: Kind::Unicast, hops, prefsrc: None, protocol }
}

pub(crate) fn isps_world() -> World {
    let addresses = vec![address(3, "198.51.100.2", "198.51.100.0/24"), address(4, "203.0.113.9", "203.0.113.0/24")];
    World { routes: vec![dhcp_default(4, "203.0.113.1")], ..world(&[(3, "wan1"), (4, "wwan0")], addresses) }
}

pub(crate) fn both(spec: &Spec) -> Chosen {
    Chosen::from([(Arc::clone(&spec.policies[0].name), spec.policies[0].members.clone())])
}

pub(crate) fn free(action: FreeAction) -> FreeRule {
    FreeRule {
        name: None,
        families: Families::Only(Family::V4),
        selector: Selector::default(),
        user: None,
        action,
        when: Vec::new(),
        priority: None,
        suppress_prefixlength: None,
        suppress_ifgroup: None,
    }
}

prop_compose! {
    /// One uplink whose interface is `ifN`.
    fn uplinks_of(n: u32)(
        tabled in prop::bool::weighted(0.8), auto: bool, v6: bool, tracked: bool, fall: bool, guard in 0u8..3, gateway in 0u8..5,
    ) -> Uplink {
        let source = if auto { vec![] } else if v6 { vec![format!("2001:db8:{n}::1")] } else { vec![format!("192.0.2.{n}")] };
        let source: Vec<&str> = source.iter().map(String::as_str).collect();
        let mut uplink = uplink(&format!("up{n}"), &format!("if{n}"), tabled.then_some(200 + n), &source);
        let gateway = match gateway {
            0 => Gateway::Unused,
            1 => Gateway::None,
            2 => Gateway::Addr(addr(if v6 { "fe80::1" } else { "192.0.2.254" })),
            3 => Gateway::Dhcp,
            _ => Gateway::Ra,
        };
        if v6 { uplink.gateway6 = gateway } else { uplink.gateway4 = gateway }
        uplink.track = tracked.then(track);
        uplink.on_down = if fall { OnDown::Fallthrough } else { OnDown::Unreachable };
        uplink.guard = [Guard::Off, Guard::Count, Guard::Drop][usize::from(guard)];
        uplink
    }
}

prop_compose! {
    /// Any spec of up to three uplinks, two free rules and a policy.
    pub(crate) fn specs()(
        uplinks in prop::collection::vec(any::<u8>(), 0..4).prop_flat_map(|v| (0..v.len()).map(|n| uplinks_of(u32::try_from(n).unwrap() + 1)).collect::<Vec<_>>()),
        policy in any::<Option<(bool, bool)>>(),
        free_rules in prop::collection::vec((0u8..6, any::<bool>(), prop::option::of(100u32..120)), 0..3),
        tiers in prop::collection::vec(1u16..3, 3),
    ) -> Spec {
        let mut spec = Spec { uplinks, ..Spec::default() };
        if let (Some((last, source)), false) = (policy, spec.uplinks.is_empty()) {
            let member = |(uplink, tier): (&Uplink, &u16)| Member { uplink: Arc::clone(&uplink.name), tier: *tier, weight: *tier };
            let mut policy = two_isps().policies.remove(0);
            policy.members = spec.uplinks.iter().zip(&tiers).map(member).collect();
            policy.last_resort = if last { LastResort::Main } else { LastResort::Unreachable };
            policy.sticky = if source { Sticky::Source } else { Sticky::Connection };
            spec.policies.push(policy);
        }
        for (kind, six, priority) in free_rules {
            let name = spec.uplinks.first().map(|uplink| Arc::clone(&uplink.name));
            let mut rule = free(match (kind, name) {
                (0 | 1, Some(name)) => FreeAction::Uplink(name),
                (2, Some(_)) if !spec.policies.is_empty() => FreeAction::Policy("default".into()),
                (3, _) => FreeAction::Table(TableId(77)),
                (4, Some(name)) => {
                    spec.rules.push(FreeRule { when: vec![(name, Condition::Up)], ..free(FreeAction::Nop) });
                    FreeAction::Unreachable
                }
                _ => FreeAction::Blackhole,
            });
            rule.families = if six { Families::Both } else { Families::Only(Family::V4) };
            rule.selector.ipproto = Some(kind + 1);
            rule.priority = priority.map(Priority);
            spec.rules.push(rule);
        }
        spec
    }
}

prop_compose! {
    /// Any host with some of those interfaces.
    pub(crate) fn worlds()(
        links in prop::collection::vec(any::<(bool, bool, bool)>(), 3),
        addresses in prop::collection::vec((1u32..4, any::<bool>(), any::<bool>()), 0..5),
        gateway in any::<bool>(), missing in prop::bool::weighted(0.1),
    ) -> World {
        let mut world = World::default();
        for (index, (_, up, carrier)) in (1u32..).zip(links).filter(|(_, (there, _, _))| *there) {
            world.links.insert(index, Link { up, carrier, ..link(index, &format!("if{index}")) });
        }
        for (index, six, tentative) in addresses.into_iter().filter(|(index, _, _)| world.links.contains_key(index)) {
            let mut address = if six {
                address(index, &format!("2001:db8:{index}::1"), &format!("2001:db8:{index}::/64"))
            } else {
                address(index, &format!("192.0.2.{index}"), "192.0.2.0/24")
            };
            address.tentative = tentative;
            world.addresses.push(address);
        }
        if gateway && world.links.contains_key(&1) {
            world.routes.push(dhcp_default(1, "192.0.2.253"));
        }
        world.missing.extend(missing.then_some(Family::V6));
        world
    }
}

pub(crate) fn all_chosen(spec: &Spec) -> Chosen {
    spec.policies.iter().map(|policy| (Arc::clone(&policy.name), policy.members.clone())).collect()
}
