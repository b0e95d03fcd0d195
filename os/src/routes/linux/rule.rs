//! The bytes of rules.
//!
//! ```text
//!  32 RTM_NEWRULE 33 DELRULE 34 GETRULE   fib_rule_hdr  u8 family  u8 dst_len  u8 src_len  u8 tos  u8 table  u8 0  u8 0  u8 action  u32 flags
//!       1 FRA_DST   2 FRA_SRC   3 FRA_IIFNAME   4 FRA_GOTO u32   6 FRA_PRIORITY u32   10 FRA_FWMARK u32   12 FRA_TUN_ID be64
//!      13 FRA_SUPPRESS_IFGROUP u32   14 FRA_SUPPRESS_PREFIXLEN u32 (both: all ones for none)   15 FRA_TABLE u32
//!      16 FRA_FWMASK u32   17 FRA_OIFNAME   18 FRA_PAD   19 FRA_L3MDEV u8   20 FRA_UID_RANGE u32 u32   21 FRA_PROTOCOL u8
//!      22 FRA_IP_PROTO u8   23 FRA_SPORT_RANGE u16 u16   24 FRA_DPORT_RANGE u16 u16   25 FRA_DSCP u8
//!      28 FRA_SPORT_MASK u16   29 FRA_DPORT_MASK u16   30 FRA_DSCP_MASK u8
//!  flags   2 FIB_RULE_INVERT; of what is there now: 4 UNRESOLVED (goto)   8, 16 the interface is not there
//!  action  1 FR_ACT_TO_TBL   2 GOTO   3 NOP   6 BLACKHOLE   7 UNREACHABLE   8 PROHIBIT
//! ```
//! Source: linux/fib_rules.h; numbers are in host order. What is not in the table is kept as it came ([`Rule::other`]),
//! with flags that are not in it first, as an attribute of type 0.

use palisade_core::net::{Addr, Family, Prefix};
use palisade_core::route::{Action, Mark, Mask, Priority, Protocol, Rule, TableId};

use crate::netlink::family_byte;
use crate::netlink::wire::{Attr, Attrs, Builder, Message};

pub(super) const NEWRULE: u16 = 32;
pub(super) const DELRULE: u16 = 33;
pub(super) const GETRULE: u16 = 34;
/// `struct fib_rule_hdr`.
pub(super) const HEAD: usize = 12;

const DST: u16 = 1;
const SRC: u16 = 2;
const IIFNAME: u16 = 3;
const GOTO: u16 = 4;
const PRIORITY: u16 = 6;
const FWMARK: u16 = 10;
const TUN_ID: u16 = 12;
const SUPPRESS_IFGROUP: u16 = 13;
const SUPPRESS_PREFIXLEN: u16 = 14;
const TABLE: u16 = 15;
const FWMASK: u16 = 16;
const OIFNAME: u16 = 17;
const PAD: u16 = 18;
const L3MDEV: u16 = 19;
const UID_RANGE: u16 = 20;
const PROTOCOL: u16 = 21;
const IP_PROTO: u16 = 22;
const SPORT_RANGE: u16 = 23;
const DPORT_RANGE: u16 = 24;
/// Linux 6.13; before that it is not refused but overlooked.
pub(super) const DSCP: u16 = 25;
const SPORT_MASK: u16 = 28;
const DPORT_MASK: u16 = 29;
const DSCP_MASK: u16 = 30;

const INVERT: u32 = 2;
const OF_NOW: u32 = 4 | 8 | 16;
/// What a field holds that is not set.
const NONE: u32 = u32::MAX;

/// `IFNAMSIZ`, its NUL included.
const NAME: usize = 16;

const ACTIONS: [(Action, u8); 4] = [(Action::Nop, 3), (Action::Blackhole, 6), (Action::Unreachable, 7), (Action::Prohibit, 8)];

fn number(action: Action) -> u8 {
    match action {
        Action::Lookup(_) => 1,
        Action::Goto(_) => 2,
        Action::Other(number) => number,
        plain => ACTIONS.iter().find(|(known, _)| *known == plain).map_or(0, |(_, number)| *number),
    }
}

/// What the kernel would take for something else than it says: a rule that it does not refuse but reads as "every packet",
/// or does not give back as it got it.
pub(super) fn flaw(rule: &Rule) -> Option<&'static str> {
    let s = &rule.selector;
    let foreign = |prefix: &Option<Prefix>| prefix.is_some_and(|prefix| prefix.family() != rule.family);
    let empty = |prefix: &Option<Prefix>| prefix.is_some_and(|prefix| prefix.len() == 0);
    let unnamed = |name: &Option<String>| name.as_ref().is_some_and(|name| name.is_empty() || name.len() >= NAME || name.contains('\0'));
    [
        (foreign(&s.from) || foreign(&s.to), "its addresses are of another family than the rule"),
        (empty(&s.from) || empty(&s.to), "a prefix of length 0 is every address: leave it out"),
        (unnamed(&s.iif) || unnamed(&s.oif), "an interface's name has 1 to 15 bytes"),
        (s.fwmark.is_some_and(|(mark, mask)| mask.0 == 0 || mark.0 & !mask.0 != 0), "the mark has bits that its mask has not, or no mask"),
        (s.ipproto == Some(0), "protocol 0 is every protocol: leave it out"),
        (s.tun_id == Some(0), "tunnel key 0 is every key: leave it out"),
        (s.dscp.is_some_and(|dscp| dscp > 63), "dscp is 0 to 63"),
        (s.dscp.is_some() && s.tos != 0, "tos and dscp are the same byte: give one"),
    ]
    .into_iter()
    .find_map(|(wrong, why)| wrong.then_some(why))
}

/// What stands before the attributes.
pub(super) fn head(rule: &Rule) -> [u8; HEAD] {
    let len = |prefix: &Option<Prefix>| prefix.map_or(0, |prefix| prefix.len());
    let table = match rule.action {
        Action::Lookup(TableId(id)) => u8::try_from(id).unwrap_or(0),
        _ => 0,
    };
    let kept = Attrs(&rule.other).find(0).and_then(|attr| attr.ne32()).unwrap_or(0);
    let [a, b, c, d] = (if rule.selector.not { INVERT | kept } else { kept }).to_ne_bytes();
    let s = &rule.selector;
    [family_byte(Some(rule.family)), len(&s.to), len(&s.from), s.tos, table, 0, 0, number(rule.action), a, b, c, d]
}

/// The attributes: everything that the rule says, so that a deletion fits no other.
pub(super) fn write(b: &mut Builder, rule: &Rule) {
    let s = &rule.selector;
    b.attr(PRIORITY, &rule.priority.0.to_ne_bytes()).attr(PROTOCOL, &[rule.protocol.0]);
    match rule.action {
        Action::Lookup(TableId(id)) if !s.l3mdev => _ = b.attr(TABLE, &id.to_ne_bytes()),
        Action::Goto(Priority(to)) => _ = b.attr(GOTO, &to.to_ne_bytes()),
        _ => {}
    }
    for (kind, prefix) in [(SRC, &s.from), (DST, &s.to)] {
        if let Some(prefix) = prefix {
            b.attr(kind, &prefix.addr().octets());
        }
    }
    for (kind, name) in [(IIFNAME, &s.iif), (OIFNAME, &s.oif)] {
        if let Some(name) = name {
            b.attr_str(kind, name);
        }
    }
    if let Some((mark, mask)) = s.fwmark {
        b.attr(FWMARK, &mark.0.to_ne_bytes()).attr(FWMASK, &mask.0.to_ne_bytes());
    }
    if let Some((first, last)) = s.uid {
        b.attr(UID_RANGE, &[first.to_ne_bytes(), last.to_ne_bytes()].concat());
    }
    for (kind, byte) in [(IP_PROTO, s.ipproto), (DSCP, s.dscp), (L3MDEV, s.l3mdev.then_some(1))] {
        if let Some(byte) = byte {
            b.attr(kind, &[byte]);
        }
    }
    for (kind, ports) in [(SPORT_RANGE, s.sport), (DPORT_RANGE, s.dport)] {
        if let Some((first, last)) = ports {
            b.attr(kind, &[first.to_ne_bytes(), last.to_ne_bytes()].concat());
        }
    }
    if let Some(id) = s.tun_id {
        b.attr_be64(TUN_ID, id);
    }
    for (kind, value) in [(SUPPRESS_PREFIXLEN, rule.suppress_prefixlength), (SUPPRESS_IFGROUP, rule.suppress_ifgroup)] {
        if let Some(value) = value {
            b.attr(kind, &value.to_ne_bytes());
        }
    }
    for attr in Attrs(&rule.other).filter(|attr| attr.kind != 0) {
        b.attr(attr.kind, attr.payload);
    }
}

/// Reads a message about a rule.
pub(super) fn read(message: &Message<'_>) -> Option<Rule> {
    if !matches!(message.kind, NEWRULE | DELRULE) {
        return None;
    }
    let head: &[u8; HEAD] = message.payload.first_chunk()?;
    let family = super::family(head[0])?;
    let flags = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
    let mut rule = Rule::new(family, Priority(0), palisade_core::route::Selector::default(), Action::Other(head[7]), Protocol::UNSPEC);
    let mut found = Found { table: head[4].into(), ..Found::default() };
    rule.selector.not = flags & INVERT != 0;
    rule.selector.tos = head[3];
    if flags & !(INVERT | OF_NOW) != 0 {
        super::append(&mut rule.other, 0, &(flags & !(INVERT | OF_NOW)).to_ne_bytes());
    }
    for attr in message.attrs(HEAD) {
        if take(&mut rule, &mut found, head, attr).is_none() {
            super::append(&mut rule.other, attr.kind, attr.payload);
        }
    }
    if found.mark != 0 || found.mask != 0 {
        rule.selector.fwmark = Some((Mark(found.mark), Mask(found.mask)));
    }
    rule.action = match head[7] {
        1 => Action::Lookup(TableId(found.table)),
        2 => Action::Goto(Priority(found.goto)),
        other => ACTIONS.iter().find(|(_, number)| *number == other).map_or(Action::Other(other), |(action, _)| *action),
    };
    Some(rule)
}

/// What is said in two places.
#[derive(Default)]
struct Found {
    table: u32,
    goto: u32,
    mark: u32,
    mask: u32,
}

/// Takes an attribute in. `None`: it is not known, or has no size that is.
fn take(rule: &mut Rule, found: &mut Found, head: &[u8; HEAD], attr: Attr<'_>) -> Option<()> {
    let s = &mut rule.selector;
    let value = |attr: Attr<'_>| attr.ne32().map(|value| (value != NONE).then_some(value));
    match attr.kind {
        DST => s.to = Some(prefix(rule.family, attr.payload, head[1])?),
        SRC => s.from = Some(prefix(rule.family, attr.payload, head[2])?),
        IIFNAME => s.iif = Some(attr.str()?.to_owned()),
        OIFNAME => s.oif = Some(attr.str()?.to_owned()),
        GOTO if head[7] == 2 => found.goto = attr.ne32()?,
        PRIORITY => rule.priority = Priority(attr.ne32()?),
        FWMARK => found.mark = attr.ne32()?,
        FWMASK => found.mask = attr.ne32()?,
        TUN_ID => s.tun_id = Some(attr.be64()?),
        SUPPRESS_IFGROUP => rule.suppress_ifgroup = value(attr)?,
        SUPPRESS_PREFIXLEN => rule.suppress_prefixlength = value(attr)?,
        TABLE if head[7] == 1 => found.table = attr.ne32()?,
        TABLE if attr.ne32()? == 0 => {}
        PAD => {}
        L3MDEV => s.l3mdev = byte(attr)? != 0,
        UID_RANGE => s.uid = Some(pair(attr.payload, u32::from_ne_bytes)?),
        PROTOCOL => rule.protocol = Protocol(byte(attr)?),
        IP_PROTO => s.ipproto = Some(byte(attr)?),
        SPORT_RANGE => s.sport = Some(pair(attr.payload, u16::from_ne_bytes)?),
        DPORT_RANGE => s.dport = Some(pair(attr.payload, u16::from_ne_bytes)?),
        DSCP => s.dscp = Some(byte(attr)?),
        // All bits: what newer kernels add where nobody asked for some.
        SPORT_MASK | DPORT_MASK if attr.payload == [0xff; 2] => {}
        DSCP_MASK if attr.payload == [0x3f] => {}
        _ => return None,
    }
    Some(())
}

fn byte(attr: Attr<'_>) -> Option<u8> {
    if let [byte] = attr.payload { Some(*byte) } else { None }
}

fn pair<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Option<(T, T)> {
    let (first, last) = bytes.split_at_checked(N)?;
    Some((number(first.try_into().ok()?), number(last.try_into().ok()?)))
}

fn prefix(family: Family, octets: &[u8], len: u8) -> Option<Prefix> {
    Addr::from_octets(octets).filter(|addr| addr.family() == family).and_then(|addr| Prefix::new(addr, len))
}
