//! The bytes of routes.
//!
//! ```text
//!  24 RTM_NEWROUTE 25 DELROUTE 26 GETROUTE   rtmsg  u8 family  u8 dst_len  u8 src_len  u8 tos  u8 table  u8 protocol  u8 scope  u8 type  u32 flags
//!       1 RTA_DST   2 RTA_SRC   3 RTA_IIF u32   4 RTA_OIF u32   5 RTA_GATEWAY   6 RTA_PRIORITY u32   7 RTA_PREFSRC
//!       9 RTA_MULTIPATH: rtnexthop*   15 RTA_TABLE u32   16 RTA_MARK u32   18 RTA_VIA: u16 family, address
//!      25 RTA_UID u32   27 RTA_IP_PROTO u8   28 RTA_SPORT be16   29 RTA_DPORT be16
//!  rtnexthop  u16 length (with its attributes)  u8 flags  u8 weight-1  u32 link  attributes as above, padded to 4
//!  flags      4 RTNH_F_ONLINK (both)   0x200 RTM_F_CLONED   0x1000 RTM_F_LOOKUP_TABLE   0x2000 RTM_F_FIB_MATCH
//!  scope      0 universe   253 link   254 host   255 nowhere (in a deletion: any)
//! ```
//! Source: rtnetlink(7), linux/rtnetlink.h. A route by a nexthop object (30 RTA_NH_ID) carries its ways as well, unless
//! net.ipv4.nexthop_compat_mode is off.

use palisade_core::net::{Addr, Family, Prefix};
use palisade_core::route::lookup::Question;
use palisade_core::route::{Hop, Kind, Protocol, Route, TableId};

use crate::netlink::family_byte;
use crate::netlink::wire::{Attr, Attrs, Builder, Message};

pub(super) const NEWROUTE: u16 = 24;
pub(super) const DELROUTE: u16 = 25;
pub(super) const GETROUTE: u16 = 26;
/// `struct rtmsg`.
pub(super) const HEAD: usize = 12;
const RTNEXTHOP: usize = 8;

const DST: u16 = 1;
const SRC: u16 = 2;
const IIF: u16 = 3;
const OIF: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const PREFSRC: u16 = 7;
const MULTIPATH: u16 = 9;
pub(super) const TABLE: u16 = 15;
const MARK: u16 = 16;
const VIA: u16 = 18;
const UID: u16 = 25;
const IP_PROTO: u16 = 27;
const SPORT: u16 = 28;
const DPORT: u16 = 29;

const ONLINK: u8 = 4;
const CLONED: u32 = 0x200;
const LOOKUP_TABLE: u32 = 0x1000;
const FIB_MATCH: u32 = 0x2000;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const SCOPE_NOWHERE: u8 = 255;
/// Far more than makes sense, and far below what an attribute holds.
const MOST_HOPS: usize = 256;
/// What IPv6 makes of metric 0 (`IP6_RT_PRIO_USER`).
const USUAL6: u32 = 1024;

const KINDS: [(Kind, u8); 5] = [(Kind::Unicast, 1), (Kind::Blackhole, 6), (Kind::Unreachable, 7), (Kind::Prohibit, 8), (Kind::Throw, 9)];

fn number(kind: Kind) -> u8 {
    match kind {
        Kind::Other(number) => number,
        known => KINDS.iter().find(|(other, _)| *other == known).map_or(0, |(_, number)| *number),
    }
}

/// What the kernel would not do as it is told, or not as one route.
pub(super) fn flaw(route: &Route) -> Option<&'static str> {
    let family = route.family();
    let ways = route.kind == Kind::Unicast;
    let foreign = |addr: Option<Addr>| addr.is_some_and(|addr| addr.family() != family);
    [
        (ways && route.hops.is_empty(), "it has no way on"),
        (route.hops.len() > MOST_HOPS, "it has more ways on than anybody has uplinks"),
        (!ways && !route.hops.is_empty(), "it leads nowhere, yet has a way on"),
        (route.hops.iter().any(|hop| !(1..=256).contains(&hop.weight)), "a weight is 1 to 256"),
        (route.from.is_some_and(|from| from.family() != family) || foreign(route.prefsrc), "its addresses are of several families"),
        (family == Family::V6 && route.hops.iter().any(|hop| foreign(hop.gateway)), "IPv6 has no gateways of IPv4"),
        (
            family == Family::V6 && route.hops.len() > 1 && route.hops.iter().any(|hop| hop.gateway.is_none()),
            "IPv6 shares packets among gateways only, not among interfaces without one: give each uplink a gateway, or tiers of their own",
        ),
    ]
    .into_iter()
    .find_map(|(wrong, why)| wrong.then_some(why))
}

/// What stands before the attributes; another for a deletion.
pub(super) fn head(route: &Route, delete: bool) -> [u8; HEAD] {
    let onlink = matches!(route.hops.as_slice(), [only] if only.onlink);
    let scope = match (route.family(), route.kind) {
        (Family::V4, _) if delete => SCOPE_NOWHERE,
        (Family::V4, Kind::Other(2)) => SCOPE_HOST,
        (Family::V4, Kind::Unicast) if route.hops.iter().all(|hop| hop.gateway.is_none()) => SCOPE_LINK,
        _ => 0,
    };
    let [a, b, c, d] = u32::from(if onlink { ONLINK } else { 0 }).to_ne_bytes();
    let from = route.from.map_or(0, |from| from.len());
    let table = u8::try_from(route.table.0).unwrap_or(0);
    let family = family_byte(Some(route.family()));
    [family, route.to.len(), from, route.tos, table, route.protocol.0, scope, number(route.kind), a, b, c, d]
}

/// The attributes.
pub(super) fn write(b: &mut Builder, route: &Route) {
    b.attr(TABLE, &route.table.0.to_ne_bytes());
    if route.to.len() != 0 {
        b.attr(DST, &route.to.addr().octets());
    }
    if let Some(from) = route.from {
        b.attr(SRC, &from.addr().octets());
    }
    match metric(route.family(), route.metric) {
        0 => {}
        metric => _ = b.attr(PRIORITY, &metric.to_ne_bytes()),
    }
    if let Some(source) = route.prefsrc {
        b.attr(PREFSRC, &source.octets());
    }
    match route.hops.as_slice() {
        [] => {}
        [only] => {
            b.attr(OIF, &only.link.to_ne_bytes());
            if let Some((kind, payload)) = gateway(route.family(), only) {
                b.attr(kind, &payload);
            }
        }
        several => {
            let ways: Vec<u8> = several.iter().flat_map(|hop| way(route.family(), hop)).collect();
            b.attr(MULTIPATH, &ways);
        }
    }
}

fn gateway(family: Family, hop: &Hop) -> Option<(u16, Vec<u8>)> {
    let gateway = hop.gateway?;
    if gateway.family() == family {
        return Some((GATEWAY, gateway.octets().to_vec()));
    }
    let kind = u16::from(family_byte(Some(gateway.family()))).to_ne_bytes();
    Some((VIA, [kind.as_slice(), &gateway.octets()].concat()))
}

fn way(family: Family, hop: &Hop) -> Vec<u8> {
    let weight = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    let [a, b, c, d] = hop.link.to_ne_bytes();
    let mut bytes = vec![0, 0, if hop.onlink { ONLINK } else { 0 }, weight, a, b, c, d];
    if let Some((kind, payload)) = gateway(family, hop) {
        super::append(&mut bytes, kind, &payload);
    }
    let len = u16::try_from(bytes.len()).expect("a gateway is at most 24 bytes");
    bytes[..2].copy_from_slice(&len.to_ne_bytes());
    bytes
}

/// A metric as the kernel keeps it.
pub(super) fn metric(family: Family, metric: u32) -> u32 {
    if family == Family::V6 && metric == 0 { USUAL6 } else { metric }
}

/// Reads a message about a route. `None` also of what is not in a table: a cached one.
pub(super) fn read(message: &Message<'_>) -> Option<Route> {
    if !matches!(message.kind, NEWROUTE | DELROUTE) {
        return None;
    }
    let head: &[u8; HEAD] = message.payload.first_chunk()?;
    let family = super::family(head[0])?;
    let flags = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
    if flags & CLONED != 0 {
        return None;
    }
    let kind = KINDS.iter().find(|(_, number)| *number == head[7]).map_or(Kind::Other(head[7]), |(kind, _)| *kind);
    let mut route = Route {
        table: TableId(head[4].into()),
        to: zero(family, head[1])?,
        from: if head[2] == 0 { None } else { Some(zero(family, head[2])?) },
        metric: 0,
        tos: head[3],
        kind,
        hops: Vec::new(),
        prefsrc: None,
        protocol: Protocol(head[5]),
    };
    let mut only = Hop { link: 0, gateway: None, onlink: flags & u32::from(ONLINK) != 0, weight: 1 };
    for attr in message.attrs(HEAD) {
        match attr.kind {
            DST => route.to = prefix(family, attr.payload, head[1])?,
            SRC if head[2] != 0 => route.from = Some(prefix(family, attr.payload, head[2])?),
            PRIORITY => route.metric = attr.ne32()?,
            PREFSRC => route.prefsrc = Addr::from_octets(attr.payload),
            TABLE => route.table = TableId(attr.ne32()?),
            OIF => only.link = attr.ne32()?,
            MULTIPATH => route.hops = ways(attr.payload),
            _ => only.gateway = via(attr).or(only.gateway),
        }
    }
    route.metric = metric(family, route.metric);
    if route.hops.is_empty() && only.link != 0 {
        route.hops.push(only);
    }
    // IPv6 has those that lead nowhere lead there by the loopback.
    if !matches!(kind, Kind::Unicast | Kind::Other(_)) {
        route.hops.clear();
    }
    Some(route)
}

fn ways(mut rest: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let Some(head) = rest.first_chunk::<RTNEXTHOP>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let Some(attrs) = rest.get(RTNEXTHOP..len) else { break };
        hops.push(Hop {
            link: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
            gateway: Attrs(attrs).find_map(via),
            onlink: head[2] & ONLINK != 0,
            weight: u16::from(head[3]) + 1,
        });
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

fn via(attr: Attr<'_>) -> Option<Addr> {
    match attr.kind {
        GATEWAY => Addr::from_octets(attr.payload),
        VIA => Addr::from_octets(attr.payload.get(2..)?),
        _ => None,
    }
}

fn zero(family: Family, len: u8) -> Option<Prefix> {
    let all = match family {
        Family::V4 => Addr::UNSPECIFIED,
        Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    Prefix::new(all, len)
}

fn prefix(family: Family, octets: &[u8], len: u8) -> Option<Prefix> {
    Addr::from_octets(octets).filter(|addr| addr.family() == family).and_then(|addr| Prefix::new(addr, len))
}

/// What stands before the attributes of a question.
pub(super) fn question_head(question: &Question) -> [u8; HEAD] {
    let family = question.to.family();
    // IPv6 always tells the table, and refuses to be asked for it.
    let table = if family == Family::V4 { LOOKUP_TABLE } else { 0 };
    let [a, b, c, d] = (table | FIB_MATCH).to_ne_bytes();
    let from = if question.from.is_some() { family.bits() } else { 0 };
    [family_byte(Some(family)), family.bits(), from, 0, 0, 0, 0, 0, a, b, c, d]
}

/// Its attributes.
pub(super) fn write_question(b: &mut Builder, question: &Question) {
    b.attr(DST, &question.to.octets());
    if let Some(from) = question.from {
        b.attr(SRC, &from.octets());
    }
    for (kind, value) in [(IIF, question.iif), (OIF, question.oif), (MARK, question.mark.map(|mark| mark.0)), (UID, question.uid)] {
        if let Some(value) = value {
            b.attr(kind, &value.to_ne_bytes());
        }
    }
    if let Some(number) = question.ipproto {
        b.attr(IP_PROTO, &[number]);
    }
    for (kind, port) in [(SPORT, question.sport), (DPORT, question.dport)] {
        if let Some(port) = port {
            b.attr(kind, &port.to_be_bytes());
        }
    }
}
