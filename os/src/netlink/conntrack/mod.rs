//! Connection tracking over netlink (ctnetlink): listing states and deleting single ones.
//!
//! | file | what |
//! |---|---|
//! | `entry` | a state as it is listed, and its deletion |
//! | [`brief`] | the same message read straight into the [`Flow`](palisade_core::flood::flow::Flow) that a census counts |
//! | [`stats`] | how many there are, how many there can be, what was dropped: without a listing |
//! | [`events`] | new states as they come |
//! | [`plant`] | states made by hand, for tests and measurements |
//!
//! ```text
//!  message  type 0x0100 new, 0x0101 get, 0x0102 delete    then nfgenmsg: u8 family  u8 version 0  be16 0
//!   1 CTA_TUPLE_ORIG / 2 CTA_TUPLE_REPLY
//!       1 CTA_TUPLE_IP     1 v4 source  2 v4 destination  3 v6 source  4 v6 destination
//!       2 CTA_TUPLE_PROTO  1 u8 number  2 be16 source port  3 be16 destination port
//!                          4 be16 ICMP id  5 u8 type  6 u8 code    7, 8, 9: the same for ICMPv6
//!       3 CTA_TUPLE_ZONE   be16, where the zone holds for this direction only
//!   3 CTA_STATUS be32   7 CTA_TIMEOUT be32 seconds   12 CTA_ID be32   18 CTA_ZONE be16, absent for zone 0
//!   4 CTA_PROTOINFO      1 CTA_PROTOINFO_TCP: 1 CTA_PROTOINFO_TCP_STATE u8
//!   8 CTA_MARK be32, absent for 0;   in a request to list, with 21 CTA_MARK_MASK be32: only states so marked
//!  25 CTA_FILTER        1 flags of the original, 2 of the reply tuple: u32 in *host* order; 1 source, 2 destination
//! ```
//! Source: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c.
//!
//! Two traps, closed by what can be written here:
//!
//! * A delete request without a tuple **flushes every state**. [`Entry::delete`] is the only way to
//!   write one, and it has a tuple from a listing; there is no filtered delete.
//! * The kernel's filter is **inverted for IPv6** (it takes the others). A [`Filter`] holds an
//!   `Ipv4Addr`. Kernels before 5.8 ignore it and list everything, so what comes back is matched
//!   again by whoever asked.

use std::io;
use std::net::Ipv4Addr;

use palisade_core::net::{Addr, Family};

use super::socket::{Next, Socket};
use super::wire::{Builder, Message, flag};

pub use entry::{Entry, L4, Tuple, status};

pub mod brief;
mod entry;
pub mod events;
pub mod plant;
pub mod stats;
#[cfg(test)]
mod tests;

const NEW: u16 = 0x0100;
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
/// `struct nfgenmsg`.
const HEAD: usize = 4;

const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOINFO: u16 = 4;
const TIMEOUT: u16 = 7;
const MARK: u16 = 8;
const ID: u16 = 12;
const ZONE: u16 = 18;
const MARK_MASK: u16 = 21;
const FILTER: u16 = 25;

const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const TUPLE_ZONE: u16 = 3;

const PROTOINFO_TCP: u16 = 1;
const PROTOINFO_TCP_STATE: u16 = 1;

fn head(family: Option<Family>) -> [u8; HEAD] {
    [super::family_byte(family), 0, 0, 0]
}

/// Which of a state's four addresses a [`Filter`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Source of the first packet.
    OrigSource,
    /// Destination of the first packet.
    OrigDestination,
    /// Source of the answers.
    ReplySource,
    /// Destination of the answers.
    ReplyDestination,
}

impl Place {
    /// All four.
    pub const ALL: [Self; 4] = [Self::OrigSource, Self::OrigDestination, Self::ReplySource, Self::ReplyDestination];
}

/// Lets the kernel list only states with this address there. A help, not a promise: see above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Where.
    pub place: Place,
    /// What; never IPv6, whose filter is inverted.
    pub addr: Ipv4Addr,
}

impl Filter {
    /// Whether the state has the address there.
    pub fn matches(&self, entry: &Entry<'_>) -> bool {
        let there = match self.place {
            Place::OrigSource => entry.orig.source,
            Place::OrigDestination => entry.orig.destination,
            Place::ReplySource => entry.reply.source,
            Place::ReplyDestination => entry.reply.destination,
        };
        there == Addr::from(self.addr)
    }

    fn write(self, request: &mut Builder) {
        let (tuple, flags) = match self.place {
            Place::OrigSource | Place::OrigDestination => (TUPLE_ORIG, 1),
            Place::ReplySource | Place::ReplyDestination => (TUPLE_REPLY, 2),
        };
        let side: u16 = match self.place {
            Place::OrigSource | Place::ReplySource => 1,
            Place::OrigDestination | Place::ReplyDestination => 2,
        };
        let outer = request.nest(tuple);
        let inner = request.nest(TUPLE_IP);
        request.attr(side, &self.addr.octets());
        request.end(inner);
        request.end(outer);
        let filter = request.nest(FILTER);
        request.attr(flags, &u32::from(side).to_ne_bytes());
        request.end(filter);
    }
}

/// How often a listing that changed under our hands is read again before it is taken as it is.
const REPEATS: usize = 3;

/// Lists the states of a family (`None`: of both), and hands each to `take`. A listing that the
/// kernel says has changed while it was read is read again, so `take` may see a state twice.
pub fn dump(socket: &mut Socket, family: Option<Family>, filter: Option<Filter>, take: impl FnMut(&Entry<'_>) -> Next) -> io::Result<()> {
    let family = if filter.is_some() { Some(Family::V4) } else { family };
    list(socket, family, |request| filter.into_iter().for_each(|filter| filter.write(request)), take)
}

/// Lists the states whose mark is `mark` in the bits of `mask`, and hands each to `take`, as [`dump`] does. A kernel
/// that does not filter by marks lists all: what comes back is to be matched again.
pub fn dump_marked(socket: &mut Socket, mark: u32, mask: u32, take: impl FnMut(&Entry<'_>) -> Next) -> io::Result<()> {
    list(socket, None, |request| _ = request.attr_be32(MARK, mark & mask).attr_be32(MARK_MASK, mask), take)
}

fn list(
    socket: &mut Socket,
    family: Option<Family>,
    filter: impl Fn(&mut Builder),
    mut take: impl FnMut(&Entry<'_>) -> Next,
) -> io::Result<()> {
    for _ in 0..REPEATS {
        let mut enough = false;
        let interrupted = messages(socket, family, &filter, |message| {
            let next = Entry::parse(&message).map_or(Next::More, |entry| take(&entry));
            enough |= next == Next::Enough;
            next
        })?;
        if !interrupted || enough {
            break;
        }
    }
    Ok(())
}

/// Asks once for the states of a family (`None`: of both) and hands each message of the listing to `take`, unread.
/// Whether the kernel says that the listing changed while it was read.
pub fn dump_messages(socket: &mut Socket, family: Option<Family>, take: impl FnMut(Message<'_>) -> Next) -> io::Result<bool> {
    messages(socket, family, |_| {}, take)
}

fn messages(
    socket: &mut Socket,
    family: Option<Family>,
    filter: impl Fn(&mut Builder),
    take: impl FnMut(Message<'_>) -> Next,
) -> io::Result<bool> {
    let seq = socket.next_seq();
    let mut request = Builder::new();
    request.message(GET, flag::REQUEST | flag::DUMP, seq, &head(family));
    filter(&mut request);
    socket.dump(request.bytes(), seq, take)
}
