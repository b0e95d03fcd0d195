//! Whatever is wanted after whatever stood, it stands, and making it stand again writes nothing.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::netlink::nft::port::Port;
use palisade_core::flood::flow::{TCP, UDP};
use palisade_core::ours::NFT_FLOOD_TABLE;

/// Few culprits, so that many stay from one to the next.
fn culprit() -> impl Strategy<Value = Culprit> {
    let to = ["192.0.2.1:443/tcp", "[2001:db8::1]:53/udp", "192.0.2.1/icmp"];
    prop_oneof![
        proptest::sample::select(vec!["192.0.2.7/32", "192.0.2.8/32", "2001:db8:1::/64", "2001:db8:1::7/128"]).prop_map(source),
        (1000u32..1002, prop_oneof![Just(TCP), Just(UDP)], prop_oneof![Just(0u16), Just(53)])
            .prop_map(|(uid, protocol, port)| Culprit::Local { uid, protocol, port }),
        proptest::sample::select(to.to_vec()).prop_map(|to| Culprit::Crowd { to: to.parse().unwrap() }),
    ]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let names = proptest::sample::select(vec!["tcp_established", "tcp_unacknowledged", "udp", "udp_stream", "icmp", "icmpv6", "generic"]);
    let timeouts = move || proptest::collection::btree_map(names.clone().prop_map(str::to_owned), (1u64..4).prop_map(Span::secs), 0..4);
    let limits = proptest::collection::btree_map(culprit(), (1u32..3, 1u32..3, timeouts()), 0..6).prop_map(|all| {
        let limit = |(whose, (rate, burst, timeouts))| Limit { whose, rate, burst, timeouts };
        all.into_iter().map(limit).collect::<Vec<_>>()
    });
    let prefixes = proptest::sample::subsequence(vec!["192.0.2.0/24", "2001:db8::/32", "198.51.100.1/32"], 0..3);
    let one = (proptest::sample::subsequence(vec![22u16, 80, 443], 0..3), prefixes, 0u64..3);
    let services = proptest::collection::btree_map("(ssh|web|6 in 4)", one, 0..3).prop_map(|all| {
        let service = |(name, (ports, prefixes, secs)): (String, (Vec<u16>, Vec<&str>, u64))| {
            (name, service(TCP, &ports, &prefixes, if secs == 0 { &[] } else { &[("established", 60)] }))
        };
        all.into_iter().map(service).collect::<Vec<_>>()
    });
    (limits, services).prop_map(|(limits, services)| Wanted { limits, services, ..Wanted::default() })
}

#[test]
fn what_is_wanted_stands_and_is_not_written_again() {
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    runner
        .run(&proptest::collection::vec(wanted(), 4..12), |sequence| {
            let netns = Netns::new().unwrap();
            netns
                .within(|| {
                    let generation = || Port::open(NFT_FLOOD_TABLE).unwrap().generation().unwrap();
                    let base = times(&[("tcp_established", 7440), ("udp_stream", 100)]);
                    for wanted in sequence {
                        crate::limits::set(&wanted, &base).unwrap();
                        assert_eq!(crate::limits::stands(&wanted, &base).unwrap(), crate::limits::Standing::All, "{wanted:?}");
                        let before = generation();
                        crate::limits::set(&wanted, &base).unwrap();
                        assert_eq!(generation(), before, "{wanted:?}");
                        let counted: Vec<_> = crate::limits::dropped().unwrap().into_iter().map(|(whose, _)| whose).collect();
                        assert_eq!(counted.len(), wanted.limits.len());
                        assert!(wanted.limits.iter().all(|limit| counted.contains(&limit.whose)));
                    }
                })
                .unwrap();
            Ok(())
        })
        .unwrap();
}
