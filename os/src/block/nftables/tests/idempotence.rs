//! Random wanted states, one after another, never cleaned up.

use palisade_core::bans::wall::{Frame, Key, Ports, Refusal, Wanted};
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::{Span, Until};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::namespace::alone;
use super::{diff, holds, now};
use crate::block::nftables::{Manner, Nftables};
use crate::block::{Blocker, Read};

/// Few addresses and lengths, so that they collide.
fn any_prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (0u32..4, prop_oneof![Just(0u8), Just(22), Just(24), Just(31), Just(32)])
        .prop_map(|(host, len)| (Addr::from(std::net::Ipv4Addr::from_bits(0xc000_0200 + host)), len));
    let v6 = (0u128..4, prop_oneof![Just(32u8), Just(61), Just(64), Just(127), Just(128)])
        .prop_map(|(net, len)| (Addr::from(std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + (net << 64) + net)), len));
    prop_oneof![v4, v6].prop_map(|(addr, len)| Prefix::new(addr, len).unwrap())
}

fn any_key() -> impl Strategy<Value = Key> {
    let ports = prop_oneof![
        3 => Just(Ports::All),
        1 => Just(Ports::only([22]).unwrap()),
        1 => Just(Ports::only([22, 80, 443]).unwrap())
    ];
    (any_prefix(), ports, prop::bool::weighted(0.2)).prop_map(|(prefix, ports, forced)| Key { prefix, ports, forced })
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    // Seconds from now on; some far beyond what a kernel timeout can hold are in the unit tests.
    let until = prop_oneof![Just(None), (60u64..100_000).prop_map(Some)];
    let frame = (btree_set(any_prefix(), 0..4), any::<bool>())
        .prop_map(|(allow, reject)| Frame { allow, refusal: if reject { Refusal::Reject } else { Refusal::Drop } });
    (frame, btree_map(any_key(), until, 0..12)).prop_map(|(frame, bans)| {
        let end = |left: Option<u64>| left.map_or(Until::Forever, |left| Until::At(now().plus(Span::secs(left))));
        Wanted { frame, bans: bans.into_iter().map(|(key, left)| (key, end(left))).collect() }
    })
}

/// `counted`: up to how many bans a wall put up at once counts.
fn walk(states: Vec<(Wanted, bool)>, manner: Manner, counted: usize) {
    let mut wall = Nftables::open().unwrap();
    (wall.manner, wall.counted) = (manner, counted);
    for (wanted, all_at_once) in states {
        let report = if all_at_once {
            let report = wall.replace(&wanted.frame, &mut wanted.entries(), now()).unwrap();
            let found = wall.read(Read::All).unwrap();
            assert!(found.bans.values().all(|standing| standing.packets.is_some() == (wanted.bans.len() <= counted)));
            report
        } else {
            let found = wall.read(Read::All).unwrap();
            wall.apply(&diff(&found, &wanted, now()), now())
        };
        assert!(report.ok(), "{report:?}");
        holds(&mut wall, &wanted);
        // Doing it twice is doing it once.
        let again: Vec<_> = wanted.entries().map(palisade_core::bans::wall::Step::Block).collect();
        assert!(wall.apply(&again, now()).ok());
        holds(&mut wall, &wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_stood_before_what_is_wanted_stands_after(states in vec((any_wanted(), any::<bool>()), 1..12), old: bool, counted in 0usize..12) {
        alone(move || walk(states, if old { Manner::Exchange } else { Manner::Update }, counted));
    }
}
