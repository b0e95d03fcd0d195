//! One state of a listing, and the request that deletes it.

use palisade_core::flood::flow::{Flow, TCP, TcpState, UDP};
use palisade_core::net::{Addr, Family};
use palisade_core::time::Span;

use super::{DELETE, HEAD, ID, MARK, NEW, PROTOINFO, PROTOINFO_TCP, PROTOINFO_TCP_STATE, STATUS, TIMEOUT, head};
use super::{TUPLE_IP, TUPLE_ORIG, TUPLE_PROTO, TUPLE_REPLY, TUPLE_ZONE, ZONE};
use crate::netlink::pipeline::Pipeline;
use crate::netlink::wire::{Attrs, Message};

/// Bits of [`Entry::status`] (`enum ip_conntrack_status`).
pub mod status {
    /// `IPS_SEEN_REPLY`: packets passed in both directions.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// `IPS_ASSURED`: never dropped early when the table is full.
    pub const ASSURED: u32 = 1 << 2;
    /// `IPS_CONFIRMED`: its first packet has passed all rules. Every state that is listed has it.
    pub const CONFIRMED: u32 = 1 << 3;
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
            L4::Ports { source, destination } if self.protocol == TCP || self.protocol == UDP => Some((source, destination)),
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
    /// Where a TCP connection is; `None` for other protocols, and where the kernel does not tell.
    pub tcp: Option<TcpState>,
    /// `CTA_TUPLE_ORIG` and `CTA_ZONE` as they came: what a deletion must say.
    tuple_bytes: &'a [u8],
    zone_bytes: Option<&'a [u8]>,
}

/// The family of a state's message; `None` for another message or another family.
pub(super) fn family_of(message: &Message<'_>) -> Option<Family> {
    match i32::from(*message.payload.first()?) {
        _ if message.kind != NEW => None,
        libc::AF_INET => Some(Family::V4),
        libc::AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

impl<'a> Entry<'a> {
    /// Reads one message of a listing. `None` for anything but a whole IPv4 or IPv6 state.
    pub fn parse(message: &Message<'a>) -> Option<Self> {
        let family = family_of(message)?;
        let (mut orig, mut reply) = (None, None);
        let (mut id, mut status, mut mark, mut timeout, mut zone_bytes) = (None, 0, 0, None, None);
        let mut tcp = None;
        for attr in message.attrs(HEAD) {
            match attr.kind {
                TUPLE_ORIG => orig = Some(attr),
                TUPLE_REPLY => reply = Some(attr),
                STATUS => status = attr.be32()?,
                MARK => mark = attr.be32()?,
                TIMEOUT => timeout = Some(Span::secs(attr.be32()?.into())),
                ID => id = Some(attr.be32()?),
                ZONE => zone_bytes = Some(attr.payload),
                PROTOINFO => tcp = tcp_state(attr.nested()),
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

    /// As a census counts it.
    pub fn flow(&self) -> Flow {
        let (source_port, port) = match self.orig.l4 {
            L4::Ports { source, destination } => (source, destination),
            L4::Icmp { .. } | L4::None => (0, 0),
        };
        let is = |bit: u32| self.status & bit != 0;
        Flow {
            source: self.orig.source,
            destination: self.orig.destination,
            protocol: self.orig.protocol,
            source_port,
            port,
            tcp: self.tcp.filter(|_| self.orig.protocol == TCP),
            replied: is(status::SEEN_REPLY),
            assured: is(status::ASSURED),
            source_nat: is(status::SRC_NAT),
            destination_nat: is(status::DST_NAT),
            left: self.timeout.unwrap_or(Span::ZERO),
        }
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

/// `CTA_PROTOINFO_TCP_STATE` of a `CTA_PROTOINFO`; a number without a name counts as none.
pub(super) fn tcp_state(protoinfo: Attrs<'_>) -> Option<TcpState> {
    let state = protoinfo.find(PROTOINFO_TCP)?.nested().find(PROTOINFO_TCP_STATE)?;
    TcpState::of(*state.payload.first()?)
}

/// `NLA_F_NESTED`: the kernel asks for it on nests since 5.2.
const NESTED: u16 = 1 << 15;

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
