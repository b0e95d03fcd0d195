//! Random wanted states, one after another, never cleaned up.

use palisade_core::bans::plan::plan;
use palisade_core::bans::wall::{Frame, Key, Ports, Refusal, Step, Wanted};
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::{Span, Until};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{Which, holds, now, over_all};
use crate::block::nftables::tests::namespace::alone;
use crate::block::{Drift, Read};

/// Few addresses and lengths, so that they collide.
fn any_prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (0u32..4, prop_oneof![Just(0u8), Just(1), Just(22), Just(24), Just(31), Just(32)])
        .prop_map(|(host, len)| (Addr::from(std::net::Ipv4Addr::from_bits(0xc000_0200 + host)), len));
    let v6 = (0u128..4, prop_oneof![Just(0u8), Just(32), Just(61), Just(64), Just(128)])
        .prop_map(|(net, len)| (Addr::from(std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + (net << 64) + net)), len));
    prop_oneof![v4, v6].prop_map(|(addr, len)| Prefix::new(addr, len).unwrap())
}

fn any_key() -> impl Strategy<Value = Key> {
    let ports = prop_oneof![
        3 => Just(Ports::All),
        1 => Just(Ports::only([22]).unwrap()),
        1 => Just(Ports::only((20..50).map(|port| port * 100)).unwrap())
    ];
    (any_prefix(), ports, prop::bool::weighted(0.2)).prop_map(|(prefix, ports, forced)| Key { prefix, ports, forced })
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    let until = prop_oneof![Just(None), (60u64..100_000).prop_map(Some)];
    let frame = (btree_set(any_prefix(), 0..4), any::<bool>())
        .prop_map(|(allow, reject)| Frame { allow, refusal: if reject { Refusal::Reject } else { Refusal::Drop } });
    (frame, btree_map(any_key(), until, 0..12)).prop_map(|(frame, bans)| {
        let end = |left: Option<u64>| left.map_or(Until::Forever, |left| Until::At(now().plus(Span::secs(left))));
        Wanted { frame, bans: bans.into_iter().map(|(key, left)| (key, end(left))).collect() }
    })
}

/// Each state with how it comes to stand: all at once, and by a program that was just started.
fn walk(which: Which, states: Vec<(Wanted, bool, bool)>) {
    let mut wall = which.open();
    for (wanted, all_at_once, started) in states {
        if started {
            wall = which.open();
        }
        let report = if all_at_once {
            wall.replace(&wanted.frame, &mut wanted.entries(), now()).unwrap()
        } else {
            let found = wall.read(Read::All).unwrap();
            let steps = plan(&found, &wanted, &wall.limits(), now()).steps;
            wall.apply(&steps, now())
        };
        assert!(report.ok(), "{report:?}");
        holds(wall.as_mut(), &wanted);
        // Doing it twice is doing it once.
        let again: Vec<_> = wanted.entries().map(Step::Block).collect();
        assert!(wall.apply(&again, now()).ok());
        holds(wall.as_mut(), &wanted);
        assert_eq!(wall.drift().unwrap(), Drift::None, "our own doing");
    }
    wall.remove().unwrap();
    assert!(!which.rules().contains(which.chain()));
    assert_eq!(wall.read(Read::All).unwrap(), palisade_core::bans::wall::Found::default());
}

fn whatever_stood_before_what_is_wanted_stands_after(which: Which) {
    let config = ProptestConfig { cases: 8, max_shrink_iters: 30, failure_persistence: None, ..ProptestConfig::default() };
    let states = vec((any_wanted(), any::<bool>(), prop::bool::weighted(0.2)), 1..8);
    let walked = TestRunner::new(config).run(&states, |states| {
        alone(move || walk(which, states));
        Ok(())
    });
    walked.unwrap();
}

over_all!(whatever_stood_before_what_is_wanted_stands_after);
