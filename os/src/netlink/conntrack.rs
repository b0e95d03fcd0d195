//! Connection tracking over netlink (ctnetlink): listing states and deleting single ones.
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

use palisade_core::flood::flow::TcpState;
use palisade_core::net::{Addr, Family};
use palisade_core::time::Span;

use super::pipeline::Pipeline;
use super::socket::{Next, Socket};
use super::wire::{Attrs, Builder, Message, flag};

const NEW: u16 = 0x0100;
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
/// `struct nfgenmsg`.
const HEAD: usize = 4;

const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOINFO: u16 = 4;
const PROTOINFO_TCP: u16 = 1;
const PROTOINFO_TCP_STATE: u16 = 1;
const TIMEOUT: u16 = 7;
const MARK: u16 = 8;
const ID: u16 = 12;
const ZONE: u16 = 18;
const MARK_MASK: u16 = 21;
const FILTER: u16 = 25;

const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const TUPLE_ZONE: u16 = 3;

/// Bits of [`Entry::status`] (`enum ip_conntrack_status`).
pub mod status {
    /// `IPS_SEEN_REPLY`: packets passed in both directions.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// `IPS_ASSURED`: never dropped early when the table is full.
    pub const ASSURED: u32 = 1 << 2;
    /// `IPS_SRC_NAT`: the source is translated.
    pub const SRC_NAT: u32 = 1 << 4;
    /// `IPS_DST_NAT`: the destination is translated.
    pub const DST_NAT: u32 = 1 << 5;
    /// `IPS_FIXED_TIMEOUT`: packets do not make it last longer.
    pub const FIXED_TIMEOUT: u32 = 1 << 10;
    /// `IPS_OFFLOAD`, `IPS_HW_OFFLOAD`: its packets go by a flow table, and its timeout tells nothing of them.
    pub const OFFLOADED: u32 = 1 << 14 | 1 << 15;
}

/// What of the transport tells flows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum L4 {
    /// TCP, UDP, SCTP, DCCP, UDP-Lite.
    Ports {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP and ICMPv6.
    Icmp {
        /// The echo's identifier.
        id: u16,
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// Anything else: addresses and protocol alone.
    None,
}

/// One direction of a state: how its packets look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// Ports or the ICMP identifier.
    pub l4: L4,
}

impl Tuple {
    /// Source and destination port of TCP and UDP; of nothing else.
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match self.l4 {
            L4::Ports { source, destination } if self.protocol == 6 || self.protocol == 17 => Some((source, destination)),
            _ => None,
        }
    }
}

/// A state as a listing or a notification shows it, borrowed from the message.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Family of its addresses.
    pub family: Family,
    /// The direction of its first packet.
    pub orig: Tuple,
    /// The direction of the answers, as they look before any translation is undone.
    pub reply: Tuple,
    /// Its zone, 0 by default; for a zone of one direction only, that one.
    pub zone: u16,
    /// What tells it from a later state of the same tuple.
    pub id: Option<u32>,
    /// [`status`] bits.
    pub status: u32,
    /// What it is marked with; 0: nothing.
    pub mark: u32,
    /// How long it lasts without another packet.
    pub timeout: Option<Span>,
    /// The TCP state; `None` for other protocols.
    pub tcp: Option<TcpState>,
    /// `CTA_TUPLE_ORIG` and `CTA_ZONE` as they came: what a deletion must say.
    tuple_bytes: &'a [u8],
    zone_bytes: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    /// Reads one message of a listing. `None` for anything but a whole IPv4 or IPv6 state.
    pub fn parse(message: &Message<'a>) -> Option<Self> {
        if message.kind != NEW {
            return None;
        }
        let family = match i32::from(*message.payload.first()?) {
            libc::AF_INET => Family::V4,
            libc::AF_INET6 => Family::V6,
            _ => return None,
        };
        let (mut orig, mut reply) = (None, None);
        let (mut id, mut status, mut mark, mut timeout, mut zone_bytes) = (None, 0, 0, None, None);
        let mut tcp = None;
        for attr in message.attrs(HEAD) {
            match attr.kind {
                PROTOINFO => tcp = tcp_state(attr.nested()),
                TUPLE_ORIG => orig = Some(attr),
                TUPLE_REPLY => reply = Some(attr),
                STATUS => status = attr.be32()?,
                MARK => mark = attr.be32()?,
                TIMEOUT => timeout = Some(Span::secs(attr.be32()?.into())),
                ID => id = Some(attr.be32()?),
                ZONE => zone_bytes = Some(attr.payload),
                _ => {}
            }
        }
        let (orig, reply) = (orig?, reply?);
        let one_way = orig.nested().find(TUPLE_ZONE).or_else(|| reply.nested().find(TUPLE_ZONE));
        let zone = zone_bytes.or_else(|| one_way.map(|zone| zone.payload));
        Some(Self {
            family,
            orig: tuple(orig.nested())?,
            reply: tuple(reply.nested())?,
            zone: zone.and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?))).unwrap_or(0),
            id,
            status,
            mark,
            timeout,
            tcp,
            tuple_bytes: orig.payload,
            zone_bytes,
        })
    }

    /// Asks for the deletion of exactly this state: its tuple and zone word for word, and its id,
    /// so that a newer state of the same tuple is left alone. `ENOENT` says that it is gone.
    pub fn delete(&self, pipeline: &mut Pipeline<'_>) {
        let request = pipeline.push(DELETE, &head(Some(self.family)));
        request.attr(TUPLE_ORIG | NESTED, self.tuple_bytes);
        if let Some(zone) = self.zone_bytes {
            request.attr(ZONE, zone);
        }
        if let Some(id) = self.id {
            request.attr_be32(ID, id);
        }
    }
}

/// `NLA_F_NESTED`: the kernel asks for it on nests since 5.2.
const NESTED: u16 = 1 << 15;

fn tcp_state(protoinfo: Attrs<'_>) -> Option<TcpState> {
    let state = protoinfo.find(PROTOINFO_TCP)?.nested().find(PROTOINFO_TCP_STATE)?;
    TcpState::of(*state.payload.first()?)
}

fn tuple(attrs: Attrs<'_>) -> Option<Tuple> {
    let ip = attrs.find(TUPLE_IP)?.nested();
    let (mut source, mut destination) = (None, None);
    for attr in ip {
        match (attr.kind, attr.payload.len()) {
            (1, 4) | (3, 16) => source = Addr::from_octets(attr.payload),
            (2, 4) | (4, 16) => destination = Addr::from_octets(attr.payload),
            _ => {}
        }
    }
    let (mut protocol, mut ports, mut icmp) = (None, (None, None), (None, None, None));
    for attr in attrs.find(TUPLE_PROTO)?.nested() {
        match attr.kind {
            1 => protocol = attr.payload.first().copied(),
            2 => ports.0 = attr.be16(),
            3 => ports.1 = attr.be16(),
            4 | 7 => icmp.0 = attr.be16(),
            5 | 8 => icmp.1 = attr.payload.first().copied(),
            6 | 9 => icmp.2 = attr.payload.first().copied(),
            _ => {}
        }
    }
    let l4 = match (ports, icmp) {
        ((Some(source), Some(destination)), _) => L4::Ports { source, destination },
        (_, (Some(id), Some(kind), Some(code))) => L4::Icmp { id, kind, code },
        _ => L4::None,
    };
    Some(Tuple { source: source?, destination: destination?, protocol: protocol?, l4 })
}

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

/// `IPCTNL_MSG_CT_GET_STATS` of linux/netfilter/nfnetlink_conntrack.h, and in its answer
/// `CTA_STATS_GLOBAL_ENTRIES`.
const STATS: u16 = (1 << 8) | 5;
const STATS_ENTRIES: u16 = 1;

/// How many states this network namespace has. Costs a few microseconds, where a listing walks the
/// whole hash table, whatever is in it.
pub fn count(socket: &mut Socket) -> io::Result<u32> {
    let seq = socket.next_seq();
    let mut request = Builder::new();
    request.message(STATS, flag::REQUEST | flag::ACK, seq, &head(None));
    let mut entries = None;
    socket.request(request.bytes(), seq, |message| {
        entries = message.attrs(HEAD).find(STATS_ENTRIES).and_then(|attr| attr.be32());
    })?;
    entries.ok_or_else(|| io::ErrorKind::InvalidData.into())
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
        let seq = socket.next_seq();
        let mut request = Builder::new();
        request.message(GET, flag::REQUEST | flag::DUMP, seq, &head(family));
        filter(&mut request);
        let mut enough = false;
        let interrupted = socket.dump(request.bytes(), seq, |message| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::wire::Messages;
    use proptest::prelude::*;

    fn state() -> Builder {
        let mut b = Builder::new();
        b.message(NEW, 0, 1, &[2, 0, 0, 0]);
        for (kind, source, destination, ports) in
            [(1, [192, 0, 2, 1], [198, 51, 100, 2], (5, 80)), (2, [10, 0, 0, 9], [192, 0, 2, 1], (8080, 5))]
        {
            let outer = b.nest(kind);
            let ip = b.nest(1);
            b.attr(1, &source).attr(2, &destination);
            b.end(ip);
            let proto = b.nest(2);
            b.attr(1, &[6]).attr(2, &u16::to_be_bytes(ports.0)).attr(3, &u16::to_be_bytes(ports.1));
            b.end(proto);
            b.end(outer);
        }
        b.attr_be32(STATUS, status::DST_NAT).attr_be32(TIMEOUT, 30).attr_be32(ID, 77).attr(ZONE, &[0, 5]);
        b.attr_be32(MARK, 0x4100_0005);
        b
    }

    #[test]
    fn a_state_is_read_and_its_deletion_says_tuple_zone_and_id() {
        let built = state();
        let message = Messages(built.bytes()).next().unwrap();
        let entry = Entry::parse(&message).unwrap();
        assert_eq!(entry.orig.source, "192.0.2.1".parse().unwrap());
        assert_eq!((entry.orig.ports(), entry.reply.ports()), (Some((5, 80)), Some((8080, 5))));
        assert_eq!((entry.zone, entry.id, entry.status, entry.timeout), (5, Some(77), status::DST_NAT, Some(Span::secs(30))));

        assert_eq!(entry.mark, 0x4100_0005);

        let mut socket = Socket::open(crate::netlink::socket::NETFILTER).unwrap();
        let mut pipeline = Pipeline::new(&mut socket);
        entry.delete(&mut pipeline);
        let request = pipeline.push(0, &[]).bytes().to_vec();
        let delete = Messages(&request).next().unwrap();
        assert_eq!((delete.kind, delete.flags, delete.payload[0]), (DELETE, flag::REQUEST | flag::ACK, 2));
        let sent: Vec<_> = delete.attrs(HEAD).map(|attr| (attr.kind, attr.payload)).collect();
        let orig = message.attrs(HEAD).find(TUPLE_ORIG).unwrap().payload;
        assert_eq!(sent, [(TUPLE_ORIG, orig), (ZONE, &[0, 5][..]), (ID, &77u32.to_be_bytes()[..])]);
    }

    #[test]
    fn what_lacks_a_tuple_is_no_state() {
        let mut b = Builder::new();
        b.message(NEW, 0, 1, &[2, 0, 0, 0]).attr_be32(ID, 1);
        assert!(Entry::parse(&Messages(b.bytes()).next().unwrap()).is_none());
    }

    proptest! {
        #[test]
        fn reading_is_total(noise in proptest::collection::vec(any::<u8>(), 0..64), at in 0usize..160, kind in prop_oneof![Just(2u8), Just(10), any::<u8>()]) {
            let mut bytes = state().bytes().to_vec();
            bytes[16] = kind;
            for (i, byte) in noise.iter().enumerate() {
                if let Some(slot) = bytes.get_mut(16 + at + i) {
                    *slot = *byte;
                }
            }
            for message in Messages(&bytes) {
                let _ = Entry::parse(&message);
            }
        }
    }
}
