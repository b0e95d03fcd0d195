//! From a message of a listing straight to the [`Flow`] that a census counts.
//!
//! A census reads every state there is. What it needs of one lies, as every kernel writes it, at the same places of
//! the original tuple, which stands first; the rest is few attributes:
//!
//! ```text
//!  offset behind nfgenmsg    IPv4                              IPv6
//!    0 CTA_TUPLE_ORIG        length 52                         length 76
//!    4   CTA_TUPLE_IP        length 20                         length 44
//!    8     source            8, 1, 4 bytes                     20, 3, 16 bytes
//!          destination       8, 2, 4 bytes                     20, 4, 16 bytes
//!        CTA_TUPLE_PROTO     at 24, length 28                  at 48, length 28
//!          number            5, 1, u8, 3 bytes of padding
//!          ports             6, 2, be16, 2 of padding    6, 3, be16, 2 of padding        (TCP, UDP and their kin)
//! ```
//! (`ctnetlink_dump_tuples`, net/netfilter/nf_conntrack_netlink.c.) A message that looks otherwise in anything, ICMP
//! for one, is read as [`Entry::parse`] reads it: what comes out is the same for any bytes.

use palisade_core::flood::flow::{Flow, TCP};
use palisade_core::net::{Addr, Family};
use palisade_core::time::Span;

use super::entry::{Entry, family_of, status, tcp_state};
use super::{HEAD, ID, MARK, PROTOINFO, STATUS, TIMEOUT, TUPLE_IP, TUPLE_ORIG, TUPLE_PROTO, TUPLE_REPLY};
use crate::netlink::wire::{Attrs, Message};

/// The flow of one message of a listing or notification. `None` for anything but a whole IPv4 or IPv6 state; the same
/// as [`Entry::parse`] and [`Entry::flow`] give, sooner.
pub fn flow(message: &Message<'_>) -> Option<Flow> {
    usual(message).or_else(|| Entry::parse(message).map(|entry| entry.flow()))
}

/// Lengths of a tuple with ports, its header included, by address length.
const TUPLE: [(usize, u16, u16); 2] = [(4, 52, 20), (16, 76, 44)];
/// Of its half with the protocol: number and two ports, eight bytes each.
const PROTO: u16 = 28;

/// What a tuple of ports says.
struct Ends {
    source: Addr,
    destination: Addr,
    protocol: u8,
    ports: (u16, u16),
}

/// A message that looks as it usually does; `None` where it does not.
fn usual(message: &Message<'_>) -> Option<Flow> {
    let family = family_of(message)?;
    let (orig, rest) = tuple(message.payload.get(HEAD..)?, TUPLE_ORIG, family)?;
    let (_, rest) = tuple(rest, TUPLE_REPLY, family)?;
    let (mut bits, mut left, mut tcp) = (0, Span::ZERO, None);
    for attr in Attrs(rest) {
        match attr.kind {
            STATUS => bits = attr.be32()?,
            TIMEOUT => left = Span::secs(attr.be32()?.into()),
            PROTOINFO => tcp = tcp_state(attr.nested()),
            // What makes the message no state elsewhere does so here: a tuple again, or a number that is none.
            TUPLE_ORIG | TUPLE_REPLY => return None,
            ID | MARK => _ = attr.be32()?,
            _ => {}
        }
    }
    let is = |bit: u32| bits & bit != 0;
    Some(Flow {
        source: orig.source,
        destination: orig.destination,
        protocol: orig.protocol,
        source_port: orig.ports.0,
        port: orig.ports.1,
        tcp: tcp.filter(|_| orig.protocol == TCP),
        replied: is(status::SEEN_REPLY),
        assured: is(status::ASSURED),
        source_nat: is(status::SRC_NAT),
        destination_nat: is(status::DST_NAT),
        left,
    })
}

/// A tuple with ports that begins here, and what follows it.
fn tuple(bytes: &[u8], kind: u16, family: Family) -> Option<(Ends, &[u8])> {
    let (octets, whole, ip) = TUPLE[usize::from(family == Family::V6)];
    let first = if family == Family::V4 { 1 } else { 3 };
    let mut at = Fields(bytes);
    at.nest(kind, whole)?;
    at.nest(TUPLE_IP, ip)?;
    let source = Addr::from_octets(at.field(first, octets)?)?;
    let destination = Addr::from_octets(at.field(first + 1, octets)?)?;
    at.nest(TUPLE_PROTO, PROTO)?;
    let protocol = *at.field(1, 1)?.first()?;
    let mut port = |kind| Some(u16::from_be_bytes(at.field(kind, 2)?.try_into().ok()?));
    let ports = (port(2)?, port(3)?);
    Some((Ends { source, destination, protocol, ports }, at.0))
}

/// Attributes of known kind and length, one after another.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The header of a nest, which has the nested flag or, before Linux 5.2, has it not in some.
    fn nest(&mut self, kind: u16, len: u16) -> Option<()> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        let told = (u16::from_ne_bytes([head[0], head[1]]), u16::from_ne_bytes([head[2], head[3]]) & !NESTED);
        self.0 = rest;
        (told == (len, kind)).then_some(())
    }

    /// A payload, its padding passed over.
    fn field(&mut self, kind: u16, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        let told = (usize::from(u16::from_ne_bytes([head[0], head[1]])), u16::from_ne_bytes([head[2], head[3]]));
        self.0 = rest.get(len.next_multiple_of(4)..)?;
        (told == (4 + len, kind)).then_some(())?;
        rest.get(..len)
    }
}

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
