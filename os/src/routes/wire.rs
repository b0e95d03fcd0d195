//! Links, addresses, rules and routes as rtnetlink has them.
//!
//! ```text
//!  16 RTM_NEWLINK 18 GETLINK    ifinfomsg     u8 family  u8 pad  u16 type  i32 link  u32 flags  u32 change
//!       3 IFLA_IFNAME   18 IFLA_LINKINFO { 1 IFLA_INFO_KIND }
//!  20 RTM_NEWADDR 22 GETADDR    ifaddrmsg     u8 family  u8 prefixlen  u8 flags  u8 scope  u32 link
//!       1 IFA_ADDRESS (of a point-to-point link the *peer's*)   2 IFA_LOCAL   8 IFA_FLAGS u32
//!  24 RTM_NEWROUTE 25 DEL 26 GET  rtmsg       u8 family  u8 dst_len  u8 src_len  u8 tos  u8 table  u8 protocol  u8 scope  u8 type  u32 flags
//!       1 DST  2 SRC  3 IIF  4 OIF  5 GATEWAY  6 PRIORITY  7 PREFSRC  9 MULTIPATH: rtnexthop*  15 TABLE  16 MARK
//!       18 VIA: u16 family, address   25 UID  27 IP_PROTO u8  28 SPORT be16  29 DPORT be16
//!       rtnexthop  u16 length (with its attributes)  u8 flags  u8 hops  i32 link  attributes as above
//!  32 RTM_NEWRULE 33 DEL 34 GET   fib_rule_hdr  u8 family  u8 dst_len  u8 src_len  u8 tos  u8 table  u8 0  u8 0  u8 action  u32 flags
//!       1 DST  2 SRC  3 IIFNAME  4 GOTO u32  6 PRIORITY u32  10 FWMARK u32  12 TUN_ID be64  13 SUPPRESS_IFGROUP u32
//!       14 SUPPRESS_PREFIXLEN u32 (all ones: none)  15 TABLE u32  16 FWMASK u32  17 OIFNAME  18 PAD  19 L3MDEV u8
//!       20 UID_RANGE u32 u32  21 PROTOCOL u8  22 IP_PROTO u8  23 SPORT_RANGE u16 u16  24 DPORT_RANGE u16 u16  25 DSCP u8
//! ```
//! Source: rtnetlink(7), linux/rtnetlink.h, linux/if_addr.h, linux/fib_rules.h; net/core/fib_rules.c for what is left out.

use palisade_core::net::{Addr, Family, Prefix};
use palisade_core::route::lookup::Question;
use palisade_core::route::world::{Address, Link};
use palisade_core::route::{Action, Hop, Kind, Mark, Mask, Priority, Protocol, Route, Rule, Selector, TableId};

use crate::netlink::family_byte;
use crate::netlink::wire::{Attr, Attrs, Builder, Message};

pub(super) const NEWLINK: u16 = 16;
pub(super) const DELLINK: u16 = 17;
pub(super) const GETLINK: u16 = 18;
pub(super) const NEWADDR: u16 = 20;
pub(super) const DELADDR: u16 = 21;
pub(super) const GETADDR: u16 = 22;
pub(super) const NEWROUTE: u16 = 24;
pub(super) const DELROUTE: u16 = 25;
pub(super) const GETROUTE: u16 = 26;
pub(super) const NEWRULE: u16 = 32;
pub(super) const DELRULE: u16 = 33;
pub(super) const GETRULE: u16 = 34;

pub(super) const IFINFOMSG: usize = 16;
pub(super) const IFADDRMSG: usize = 8;
pub(super) const RTMSG: usize = 12;
const RTNEXTHOP: usize = 8;

const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
/// `IFF_UP`, `IFF_LOWER_UP` (linux/if.h).
const UP: u32 = 1;
const LOWER_UP: u32 = 0x1_0000;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// `IFA_F_TEMPORARY` (IPv4: secondary), `DADFAILED`, `DEPRECATED`, `TENTATIVE` (linux/if_addr.h).
const TEMPORARY: u32 = 0x01;
const DAD_FAILED: u32 = 0x08;
const DEPRECATED: u32 = 0x20;
const TENTATIVE: u32 = 0x40;

mod fra {
    pub(super) const DST: u16 = 1;
    pub(super) const SRC: u16 = 2;
    pub(super) const IIFNAME: u16 = 3;
    pub(super) const GOTO: u16 = 4;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const FWMARK: u16 = 10;
    pub(super) const TUN_ID: u16 = 12;
    pub(super) const SUPPRESS_IFGROUP: u16 = 13;
    pub(super) const SUPPRESS_PREFIXLEN: u16 = 14;
    pub(super) const TABLE: u16 = 15;
    pub(super) const FWMASK: u16 = 16;
    pub(super) const OIFNAME: u16 = 17;
    pub(super) const PAD: u16 = 18;
    pub(super) const L3MDEV: u16 = 19;
    pub(super) const UID_RANGE: u16 = 20;
    pub(super) const PROTOCOL: u16 = 21;
    pub(super) const IP_PROTO: u16 = 22;
    pub(super) const SPORT_RANGE: u16 = 23;
    pub(super) const DPORT_RANGE: u16 = 24;
    pub(super) const DSCP: u16 = 25;
}
/// `FIB_RULE_INVERT`; `UNRESOLVED`, `IIF_DETACHED`, `OIF_DETACHED` are the kernel's notes about how it stands.
const INVERT: u32 = 0x02;
const STANDING: u32 = 0x04 | 0x08 | 0x10;
/// "No suppression" as the kernel writes it.
const NO_SUPPRESS: u32 = u32::MAX;
/// `RT_TABLE_COMPAT`: look at the attribute.
const COMPAT: u8 = 252;

mod rta {
    pub(super) const DST: u16 = 1;
    pub(super) const SRC: u16 = 2;
    pub(super) const IIF: u16 = 3;
    pub(super) const OIF: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const PREFSRC: u16 = 7;
    pub(super) const MULTIPATH: u16 = 9;
    pub(super) const TABLE: u16 = 15;
    pub(super) const MARK: u16 = 16;
    pub(super) const VIA: u16 = 18;
    pub(super) const UID: u16 = 25;
    pub(super) const IP_PROTO: u16 = 27;
    pub(super) const SPORT: u16 = 28;
    pub(super) const DPORT: u16 = 29;
}
pub(super) const RTA_TABLE: u16 = rta::TABLE;
/// `RTNH_F_ONLINK`.
const ONLINK: u8 = 4;
/// `RTM_F_CLONED`: a cache entry, no route.
const CLONED: u32 = 0x200;
/// `RTM_F_FIB_MATCH`: answer with the matching entry. IPv6 then tells its table by itself and refuses to be asked for it;
/// IPv4 tells it with `RTM_F_LOOKUP_TABLE`.
const FIB_MATCH: u32 = 0x2000;
const LOOKUP_TABLE: u32 = 0x1000;
/// `RT_SCOPE_LINK`.
const SCOPE_LINK: u8 = 253;
/// What IPv6 makes of metric 0 (`IP6_RT_PRIO_USER`, net/ip6_route.h).
const IP6_METRIC: u32 = 1024;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn two32(attr: &Attr<'_>) -> Option<(u32, u32)> {
    Some((u32_at(attr.payload, 0)?, u32_at(attr.payload, 4)?))
}

fn two16(attr: &Attr<'_>) -> Option<(u16, u16)> {
    let [a, b, c, d] = *attr.payload.first_chunk::<4>()?;
    Some((u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])))
}

const fn family(byte: u8) -> Option<Family> {
    match byte {
        2 => Some(Family::V4),
        10 => Some(Family::V6),
        _ => None,
    }
}

fn prefix(attr: Option<Attr<'_>>, len: u8, family: Family) -> Option<Prefix> {
    let addr = match attr {
        Some(attr) => Addr::from_octets(attr.payload)?,
        None => zero(family),
    };
    Prefix::new(addr, len)
}

/// The address that is none.
pub(super) fn zero(family: Family) -> Addr {
    match family {
        Family::V4 => Addr::UNSPECIFIED,
        Family::V6 => std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED).into(),
    }
}

/// A link, and whether the message says that it is there.
pub(super) fn link(message: &Message<'_>) -> Option<Link> {
    if message.kind != NEWLINK {
        return None;
    }
    let (index, flags) = (u32_at(message.payload, 4)?, u32_at(message.payload, 8)?);
    let attrs = message.attrs(IFINFOMSG);
    let kind = attrs.find(IFLA_LINKINFO).and_then(|info| info.nested().find(IFLA_INFO_KIND)).and_then(|kind| kind.str().map(str::to_owned));
    let name = attrs.find(IFLA_IFNAME)?.str()?.to_owned();
    Some(Link { index, name, up: flags & UP != 0, carrier: flags & LOWER_UP != 0, kind })
}

pub(super) fn address(message: &Message<'_>) -> Option<Address> {
    let head = message.payload.first_chunk::<IFADDRMSG>()?;
    if message.kind != NEWADDR {
        return None;
    }
    let family = family(head[0])?;
    let attrs = message.attrs(IFADDRMSG);
    let far = attrs.find(IFA_ADDRESS);
    let addr = Addr::from_octets(attrs.find(IFA_LOCAL).or(far)?.payload)?;
    let flags = attrs.find(IFA_FLAGS).and_then(|flags| flags.ne32()).unwrap_or_else(|| head[2].into());
    Some(Address {
        link: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
        addr,
        network: prefix(far.or_else(|| attrs.find(IFA_LOCAL)), head[1], family)?,
        global: head[3] == 0,
        tentative: flags & TENTATIVE != 0 && flags & DAD_FAILED == 0,
        dad_failed: flags & DAD_FAILED != 0,
        deprecated: flags & DEPRECATED != 0,
        temporary: family == Family::V6 && flags & TEMPORARY != 0,
    })
}

/// A rule, of a message that adds, removes or lists it.
pub(super) fn rule(message: &Message<'_>) -> Option<Rule> {
    let head = message.payload.first_chunk::<RTMSG>()?;
    if !matches!(message.kind, NEWRULE | DELRULE) {
        return None;
    }
    let family = family(head[0])?;
    let flags = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
    let mut selector = Selector { not: flags & INVERT != 0, tos: head[3], ..Selector::default() };
    let (mut table, mut goto, mut mark, mut mask) = (u32::from(head[4]), None, None, None);
    let mut rule = Rule::new(family, Priority(0), Selector::default(), Action::Nop, Protocol::UNSPEC);
    for attr in message.attrs(RTMSG) {
        match attr.kind {
            fra::DST => selector.to = prefix(Some(attr), head[1], family),
            fra::SRC => selector.from = prefix(Some(attr), head[2], family),
            fra::IIFNAME => selector.iif = attr.str().map(str::to_owned),
            fra::OIFNAME => selector.oif = attr.str().map(str::to_owned),
            fra::GOTO => goto = attr.ne32(),
            fra::PRIORITY => rule.priority = Priority(attr.ne32()?),
            fra::FWMARK => mark = attr.ne32(),
            fra::FWMASK => mask = attr.ne32(),
            fra::TUN_ID => selector.tun_id = attr.be64(),
            fra::SUPPRESS_IFGROUP => rule.suppress_ifgroup = attr.ne32().filter(|group| *group != NO_SUPPRESS),
            fra::SUPPRESS_PREFIXLEN => rule.suppress_prefixlength = attr.ne32().filter(|length| *length != NO_SUPPRESS),
            fra::TABLE => table = attr.ne32()?,
            fra::L3MDEV => selector.l3mdev = attr.payload.first().is_some_and(|on| *on != 0),
            fra::UID_RANGE => selector.uid = two32(&attr),
            fra::PROTOCOL => rule.protocol = Protocol(*attr.payload.first()?),
            fra::IP_PROTO => selector.ipproto = attr.payload.first().copied(),
            fra::SPORT_RANGE => selector.sport = two16(&attr),
            fra::DPORT_RANGE => selector.dport = two16(&attr),
            fra::DSCP => selector.dscp = attr.payload.first().copied(),
            fra::PAD => {}
            other => {
                rule.other.extend(other.to_ne_bytes());
                rule.other.extend(attr.payload);
            }
        }
    }
    let unknown = flags & !(INVERT | STANDING);
    if unknown != 0 {
        rule.other.extend(unknown.to_ne_bytes());
    }
    if let Some(mark) = mark.or(mask.map(|_| 0)) {
        selector.fwmark = Some((Mark(mark), Mask(mask.unwrap_or(u32::MAX))));
    }
    rule.selector = selector;
    rule.action = match head[7] {
        1 => Action::Lookup(TableId(table)),
        2 => Action::Goto(Priority(goto.unwrap_or(0))),
        3 => Action::Nop,
        6 => Action::Blackhole,
        7 => Action::Unreachable,
        8 => Action::Prohibit,
        other => Action::Other(other),
    };
    Some(rule)
}

fn table_byte(table: TableId) -> u8 {
    u8::try_from(table.0).unwrap_or(COMPAT)
}

/// The header of a message about this rule.
pub(super) fn rule_head(rule: &Rule) -> [u8; RTMSG] {
    let Selector { to, from, not, tos, .. } = &rule.selector;
    let len = |prefix: &Option<Prefix>| prefix.as_ref().map_or(0, Prefix::len);
    let (table, action) = match rule.action {
        Action::Lookup(table) => (table_byte(table), 1),
        Action::Goto(_) => (0, 2),
        Action::Nop => (0, 3),
        Action::Blackhole => (0, 6),
        Action::Unreachable => (0, 7),
        Action::Prohibit => (0, 8),
        Action::Other(number) => (0, number),
    };
    let [f0, f1, f2, f3] = if *not { INVERT } else { 0 }.to_ne_bytes();
    [family_byte(Some(rule.family)), len(to), len(from), *tos, table, 0, 0, action, f0, f1, f2, f3]
}

/// Its attributes: all that it has. What is not sent with a removal matches anything.
pub(super) fn rule_attrs(rule: &Rule, b: &mut Builder) {
    let s = &rule.selector;
    let mut put = |kind: u16, bytes: &[u8]| _ = b.attr(kind, bytes);
    put(fra::PRIORITY, &rule.priority.0.to_ne_bytes());
    put(fra::PROTOCOL, &[rule.protocol.0]);
    for (kind, prefix) in [(fra::DST, &s.to), (fra::SRC, &s.from)] {
        if let Some(prefix) = prefix {
            put(kind, &prefix.addr().octets());
        }
    }
    match rule.action {
        Action::Lookup(table) if !s.l3mdev => put(fra::TABLE, &table.0.to_ne_bytes()),
        Action::Goto(to) => put(fra::GOTO, &to.0.to_ne_bytes()),
        _ => {}
    }
    if let Some((mark, mask)) = s.fwmark {
        put(fra::FWMARK, &mark.0.to_ne_bytes());
        put(fra::FWMASK, &mask.0.to_ne_bytes());
    }
    if let Some(id) = s.tun_id {
        put(fra::TUN_ID, &id.to_be_bytes());
    }
    if s.l3mdev {
        put(fra::L3MDEV, &[1]);
    }
    if let Some((first, last)) = s.uid {
        put(fra::UID_RANGE, &[first.to_ne_bytes(), last.to_ne_bytes()].concat());
    }
    if let Some(number) = s.ipproto {
        put(fra::IP_PROTO, &[number]);
    }
    for (kind, ports) in [(fra::SPORT_RANGE, s.sport), (fra::DPORT_RANGE, s.dport)] {
        if let Some((first, last)) = ports {
            put(kind, &[first.to_ne_bytes(), last.to_ne_bytes()].concat());
        }
    }
    if let Some(dscp) = s.dscp {
        put(fra::DSCP, &[dscp]);
    }
    if let Some(length) = rule.suppress_prefixlength {
        put(fra::SUPPRESS_PREFIXLEN, &length.to_ne_bytes());
    }
    if let Some(group) = rule.suppress_ifgroup {
        put(fra::SUPPRESS_IFGROUP, &group.to_ne_bytes());
    }
    for (kind, name) in [(fra::IIFNAME, &s.iif), (fra::OIFNAME, &s.oif)] {
        if let Some(name) = name {
            b.attr_str(kind, name);
        }
    }
}

/// A route; none of the cache's.
pub(super) fn route(message: &Message<'_>) -> Option<Route> {
    let head = message.payload.first_chunk::<RTMSG>()?;
    if !matches!(message.kind, NEWROUTE | DELROUTE) {
        return None;
    }
    let family = family(head[0])?;
    let flags = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
    if flags & CLONED != 0 {
        return None;
    }
    let attrs = message.attrs(RTMSG);
    let number = |kind| attrs.find(kind).and_then(|attr| attr.ne32());
    let kind = match head[7] {
        1 => Kind::Unicast,
        6 => Kind::Blackhole,
        7 => Kind::Unreachable,
        8 => Kind::Prohibit,
        9 => Kind::Throw,
        other => Kind::Other(other),
    };
    let from = if head[2] > 0 { prefix(attrs.find(rta::SRC), head[2], family) } else { None };
    let mut hops = Vec::new();
    // Of a route that leads nowhere IPv6 tells the loopback as its way.
    if matches!(kind, Kind::Unicast | Kind::Other(_)) {
        if let Some(all) = attrs.find(rta::MULTIPATH) {
            hops = multipath(all.payload);
        } else if let Some(link) = number(rta::OIF) {
            hops.push(Hop { link, gateway: gateway(attrs), onlink: head[8] & ONLINK != 0, weight: 1 });
        }
    }
    Some(Route {
        table: TableId(number(rta::TABLE).unwrap_or_else(|| head[4].into())),
        to: prefix(attrs.find(rta::DST), head[1], family)?,
        from,
        metric: number(rta::PRIORITY).unwrap_or(0),
        tos: head[3],
        kind,
        hops,
        prefsrc: attrs.find(rta::PREFSRC).and_then(|attr| Addr::from_octets(attr.payload)),
        protocol: Protocol(head[5]),
    })
}

fn gateway(attrs: Attrs<'_>) -> Option<Addr> {
    let own = attrs.find(rta::GATEWAY).and_then(|attr| Addr::from_octets(attr.payload));
    own.or_else(|| attrs.find(rta::VIA).and_then(|attr| Addr::from_octets(attr.payload.get(2..)?)))
}

fn multipath(mut rest: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let Some(head) = rest.first_chunk::<RTNEXTHOP>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let Some(attrs) = rest.get(RTNEXTHOP..len) else { break };
        hops.push(Hop {
            link: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
            gateway: gateway(Attrs(attrs)),
            onlink: head[2] & ONLINK != 0,
            weight: u16::from(head[3]) + 1,
        });
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

/// The header of a message about this route.
pub(super) fn route_head(route: &Route) -> [u8; RTMSG] {
    let kind = match route.kind {
        Kind::Unicast => 1,
        Kind::Blackhole => 6,
        Kind::Unreachable => 7,
        Kind::Prohibit => 8,
        Kind::Throw => 9,
        Kind::Other(number) => number,
    };
    let on_link = route.family() == Family::V4 && route.kind == Kind::Unicast && route.hops.iter().all(|hop| hop.gateway.is_none());
    let onlink = matches!(route.hops.as_slice(), [hop] if hop.onlink);
    [
        family_byte(Some(route.family())),
        route.to.len(),
        route.from.as_ref().map_or(0, Prefix::len),
        route.tos,
        table_byte(route.table),
        route.protocol.0,
        if on_link { SCOPE_LINK } else { 0 },
        kind,
        if onlink { ONLINK } else { 0 },
        0,
        0,
        0,
    ]
}

/// Its attributes.
pub(super) fn route_attrs(route: &Route, b: &mut Builder) {
    b.attr(rta::TABLE, &route.table.0.to_ne_bytes());
    if route.to.len() > 0 {
        b.attr(rta::DST, &route.to.addr().octets());
    }
    if let Some(from) = &route.from {
        b.attr(rta::SRC, &from.addr().octets());
    }
    b.attr(rta::PRIORITY, &route.metric.to_ne_bytes());
    if let Some(source) = route.prefsrc {
        b.attr(rta::PREFSRC, &source.octets());
    }
    match route.hops.as_slice() {
        [] => {}
        [hop] => {
            b.attr(rta::OIF, &hop.link.to_ne_bytes());
            if let Some(gateway) = hop.gateway {
                b.attr(rta::GATEWAY, &gateway.octets());
            }
        }
        several => {
            b.attr(rta::MULTIPATH, &nexthops(several));
        }
    }
}

fn nexthops(hops: &[Hop]) -> Vec<u8> {
    let mut all = Vec::new();
    for hop in hops {
        let gateway = hop.gateway.map(|gateway| gateway.octets());
        let payload = gateway.as_deref().map_or(0, |octets| 4 + octets.len());
        let len = u16::try_from(RTNEXTHOP + payload).unwrap_or(u16::MAX);
        let weight = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
        all.extend(len.to_ne_bytes());
        all.extend([if hop.onlink { ONLINK } else { 0 }, weight]);
        all.extend(hop.link.to_ne_bytes());
        if let Some(octets) = gateway {
            all.extend(u16::try_from(4 + octets.len()).unwrap_or(u16::MAX).to_ne_bytes());
            all.extend(rta::GATEWAY.to_ne_bytes());
            all.extend(octets.iter());
        }
    }
    all
}

/// As the kernel keeps it.
pub(super) fn normal(mut route: Route) -> Route {
    if route.family() == Family::V6 && route.metric == 0 {
        route.metric = IP6_METRIC;
    }
    route
}

/// The header of a question for a packet's way.
pub(super) fn question_head(question: &Question) -> [u8; RTMSG] {
    let family = question.to.family();
    let flags = if family == Family::V4 { FIB_MATCH | LOOKUP_TABLE } else { FIB_MATCH };
    let [f0, f1, f2, f3] = flags.to_ne_bytes();
    let from = question.from.map_or(0, |from| from.family().bits());
    [family_byte(Some(family)), family.bits(), from, 0, 0, 0, 0, 0, f0, f1, f2, f3]
}

/// Its attributes.
pub(super) fn question_attrs(question: &Question, b: &mut Builder) {
    b.attr(rta::DST, &question.to.octets());
    if let Some(from) = question.from {
        b.attr(rta::SRC, &from.octets());
    }
    for (kind, number) in
        [(rta::IIF, question.iif), (rta::OIF, question.oif), (rta::MARK, question.mark.map(|mark| mark.0)), (rta::UID, question.uid)]
    {
        if let Some(number) = number {
            b.attr(kind, &number.to_ne_bytes());
        }
    }
    if let Some(number) = question.ipproto {
        b.attr(rta::IP_PROTO, &[number]);
    }
    for (kind, port) in [(rta::SPORT, question.sport), (rta::DPORT, question.dport)] {
        if let Some(port) = port {
            b.attr(kind, &port.to_be_bytes());
        }
    }
}
