//! The bytes of links and addresses.
//!
//! ```text
//!  16 RTM_NEWLINK 17 DELLINK 18 GETLINK   ifinfomsg  u8 family  u8 pad  u16 type  i32 link  u32 flags  u32 change
//!       3 IFLA_IFNAME   18 IFLA_LINKINFO { 1 IFLA_INFO_KIND }   29 IFLA_EXT_MASK u32: 8 RTEXT_FILTER_SKIP_STATS
//!  20 RTM_NEWADDR 21 DELADDR 22 GETADDR   ifaddrmsg  u8 family  u8 prefixlen  u8 flags  u8 scope  u32 link
//!       1 IFA_ADDRESS (of a point-to-point link the *peer's*)   2 IFA_LOCAL   8 IFA_FLAGS u32, all of them
//! ```
//! Source: rtnetlink(7), linux/if_link.h, linux/if_addr.h.

use palisade_core::net::{Addr, Family, Prefix};
use palisade_core::route::world::{Address, Link};

use crate::netlink::wire::{Builder, Message};

pub(super) const NEWLINK: u16 = 16;
pub(super) const DELLINK: u16 = 17;
pub(super) const GETLINK: u16 = 18;
pub(super) const NEWADDR: u16 = 20;
pub(super) const DELADDR: u16 = 21;
pub(super) const GETADDR: u16 = 22;
pub(super) const IFINFOMSG: usize = 16;
pub(super) const IFADDRMSG: usize = 8;

const IFNAME: u16 = 3;
const LINKINFO: u16 = 18;
const INFO_KIND: u16 = 1;
const EXT_MASK: u16 = 29;
const SKIP_STATS: u32 = 8;
/// `IFF_UP`, `IFF_LOWER_UP`.
const UP: u32 = 1;
const LOWER_UP: u32 = 0x10000;

const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const FLAGS: u16 = 8;
/// `IFA_F_TEMPORARY`; of IPv4 the same bit is "secondary".
const TEMPORARY: u32 = 1;
const OPTIMISTIC: u32 = 4;
const DADFAILED: u32 = 8;
const DEPRECATED: u32 = 0x20;
const TENTATIVE: u32 = 0x40;

/// Without the counters, which are most of it.
pub(super) fn briefly(b: &mut Builder) {
    b.attr(EXT_MASK, &SKIP_STATS.to_ne_bytes());
}

/// Reads `RTM_NEWLINK`.
pub(super) fn link(message: &Message<'_>) -> Option<Link> {
    let head: &[u8; IFINFOMSG] = message.payload.first_chunk().filter(|_| message.kind == NEWLINK)?;
    let number = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let attrs = message.attrs(IFINFOMSG);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned();
    Some(Link {
        index: number(4),
        name: text(attrs.find(IFNAME)?.payload),
        up: number(8) & UP != 0,
        carrier: number(8) & LOWER_UP != 0,
        kind: attrs.find(LINKINFO).and_then(|info| info.nested().find(INFO_KIND)).map(|kind| text(kind.payload)),
    })
}

/// Reads `RTM_NEWADDR`.
pub(super) fn address(message: &Message<'_>) -> Option<Address> {
    let head: &[u8; IFADDRMSG] = message.payload.first_chunk().filter(|_| message.kind == NEWADDR)?;
    let family = super::family(head[0])?;
    let attrs = message.attrs(IFADDRMSG);
    let flags = attrs.find(FLAGS).and_then(|attr| attr.ne32()).unwrap_or_else(|| head[2].into());
    let of = |kind| attrs.find(kind).and_then(|attr| Addr::from_octets(attr.payload)).filter(|addr| addr.family() == family);
    let addr = of(LOCAL).or_else(|| of(ADDRESS))?;
    Some(Address {
        link: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
        addr,
        network: Prefix::new(of(ADDRESS).unwrap_or(addr), head[1])?,
        global: head[3] == 0,
        tentative: flags & TENTATIVE != 0 && flags & OPTIMISTIC == 0,
        dad_failed: flags & DADFAILED != 0,
        deprecated: flags & DEPRECATED != 0,
        temporary: family == Family::V6 && flags & TEMPORARY != 0,
    })
}
