//! Bytes as the kernel writes them, and any others.

use palisade_core::flood::flow::{Flow, TcpState};
use palisade_core::time::Span;
use proptest::prelude::*;

use super::*;
use crate::netlink::pipeline::Pipeline;
use crate::netlink::wire::Messages;

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

/// A state as the kernel lists it: all that it writes, in its order.
fn listed(seed: &plant::Seed, bits: u32) -> Builder {
    let mut b = Builder::new();
    let family = seed.orig.source.family();
    b.message(NEW, 2, 1, &head(Some(family)));
    plant::tuple(&mut b, TUPLE_ORIG, &seed.orig);
    plant::tuple(&mut b, TUPLE_REPLY, &seed.reply);
    b.attr_be32(STATUS, bits).attr_be32(TIMEOUT, seed.timeout);
    if let Some(state) = seed.tcp {
        let outer = b.nest(PROTOINFO);
        let inner = b.nest(PROTOINFO_TCP);
        b.attr(PROTOINFO_TCP_STATE, &[state as u8]).attr(2, &[7]).attr(3, &[7]).attr(4, &[0; 2]).attr(5, &[0; 2]);
        b.end(inner);
        b.end(outer);
    }
    b.attr_be32(ID, 9).attr_be32(11, 1);
    b
}

fn ends(v6: bool) -> (Addr, Addr) {
    let [a, b] = if v6 { ["2001:db8::1", "2001:db8::2"] } else { ["192.0.2.1", "198.51.100.2"] };
    (a.parse().unwrap(), b.parse().unwrap())
}

#[test]
fn a_flow_is_what_a_census_counts_of_a_state() {
    let built = state();
    let flow = brief::flow(&Messages(built.bytes()).next().unwrap()).unwrap();
    let expected = Flow {
        source: "192.0.2.1".parse().unwrap(),
        destination: "198.51.100.2".parse().unwrap(),
        protocol: 6,
        source_port: 5,
        port: 80,
        tcp: None,
        replied: false,
        assured: false,
        source_nat: false,
        destination_nat: true,
        left: Span::secs(30),
    };
    assert_eq!(flow, expected);

    let (a, b) = ends(true);
    let seed = plant::Seed { tcp: Some(TcpState::SynSent2), timeout: 7, ..plant::Seed::new(6, (a, 1), (b, 2)) };
    let built = listed(&seed, status::SEEN_REPLY | status::ASSURED | status::SRC_NAT);
    let flow = brief::flow(&Messages(built.bytes()).next().unwrap()).unwrap();
    assert_eq!((flow.source, flow.destination, flow.source_port, flow.port), (a, b, 1, 2));
    assert_eq!((flow.tcp, flow.left), (Some(TcpState::SynSent2), Span::secs(7)));
    assert_eq!((flow.replied, flow.assured, flow.source_nat, flow.destination_nat), (true, true, true, false));
}

#[test]
fn what_has_no_ports_has_no_ports() {
    let (source, destination) = ends(false);
    for (protocol, l4) in [(1, L4::Icmp { id: 7, kind: 8, code: 0 }), (47, L4::None)] {
        let orig = Tuple { source, destination, protocol, l4 };
        let seed = plant::Seed { orig, reply: orig, tcp: None, ..plant::Seed::new(17, (source, 1), (destination, 2)) };
        let built = listed(&seed, 0);
        let flow = brief::flow(&Messages(built.bytes()).next().unwrap()).unwrap();
        assert_eq!((flow.protocol, flow.source_port, flow.port, flow.tcp), (protocol, 0, 0, None));
        assert_eq!((flow.source, flow.destination), (source, destination));
    }
}

proptest! {
    /// Whatever the bytes: neither reader fails, and both read the same.
    #[test]
    fn reading_is_total_and_the_short_way_leads_to_the_same(
        v6: bool,
        protocol in prop_oneof![Just(6u8), Just(17), Just(132), any::<u8>()],
        bits: u32,
        number in 0u8..12,
        noise in proptest::collection::vec(any::<u8>(), 0..24),
        at in 0usize..260,
        cut in 0usize..400,
        kind in prop_oneof![Just(None), any::<u8>().prop_map(Some)],
        whole: bool,
    ) {
        let (a, b) = ends(v6);
        let mut seed = plant::Seed::new(protocol, (a, 1000), (b, 443));
        seed.tcp = TcpState::of(number);
        let mut bytes = if whole { listed(&seed, bits) } else { state() }.bytes().to_vec();
        if let Some(kind) = kind {
            bytes[16] = kind;
        }
        for (slot, byte) in bytes.iter_mut().skip(16 + at).zip(&noise) {
            *slot = *byte;
        }
        if cut >= HEAD + 16 && cut < bytes.len() {
            bytes.truncate(cut);
            let len = u32::try_from(cut).unwrap();
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
        }
        for message in Messages(&bytes) {
            prop_assert_eq!(brief::flow(&message), Entry::parse(&message).map(|entry| entry.flow()));
        }
    }

    /// Attributes in any order, twice, or missing.
    #[test]
    fn both_ways_agree_on_any_order_of_attributes(
        order in proptest::collection::vec((0u16..14, proptest::collection::vec(any::<u8>(), 0..6)), 0..8),
        first in 0usize..3,
    ) {
        let (a, b) = ends(false);
        let seed = plant::Seed::new(6, (a, 1000), (b, 443));
        let mut message = Builder::new();
        message.message(NEW, 2, 1, &head(Some(Family::V4)));
        for kind in [TUPLE_ORIG, TUPLE_REPLY, TUPLE_ORIG].into_iter().skip(first) {
            plant::tuple(&mut message, kind, if kind == TUPLE_ORIG { &seed.orig } else { &seed.reply });
        }
        for (kind, payload) in order {
            message.attr(kind, &payload);
        }
        let message = Messages(message.bytes()).next().unwrap();
        prop_assert_eq!(brief::flow(&message), Entry::parse(&message).map(|entry| entry.flow()));
    }
}
