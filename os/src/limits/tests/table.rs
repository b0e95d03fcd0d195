//! The table as a whole: building, comparing, healing, removing, and what nft(8) says of it.

use super::*;
use crate::netlink::nft::port::Port;
use palisade_core::flood::flow::{TCP, UDP};
use palisade_core::ours::NFT_FLOOD_TABLE;

fn all() -> Wanted {
    let short =
        times(&[("tcp_established", 60), ("tcp_syn_sent", 5), ("tcp_max_retrans", 7), ("udp", 10), ("udp_stream", 20), ("icmp", 3)]);
    let culprits = [
        source("192.0.2.7/32"),
        source("2001:db8::/64"),
        Culprit::Local { uid: 1000, protocol: UDP, port: 53 },
        Culprit::Local { uid: 1001, protocol: TCP, port: 0 },
        Culprit::Crowd { to: "198.51.100.1:443/tcp".parse().unwrap() },
        Culprit::Crowd { to: "[2001:db8::1]:53/udp".parse().unwrap() },
    ];
    let limits = culprits.map(|whose| Limit { timeouts: short.clone(), ..limit(whose, 5, 20) });
    let services = [
        ("ssh", service(TCP, &[22], &["198.51.100.0/22", "198.51.100.0/24", "2001:db8::/32"], &[("established", 7200)])),
        ("6 \"in\" 4", service(UDP, &[51820], &[], &[("replied", 300)])),
    ];
    Wanted { limits: limits.into(), services: services.map(|(name, service)| (name.to_owned(), service)).into(), ..Wanted::default() }
}

fn generation(netns: &Netns) -> u32 {
    netns.within(|| Port::open(NFT_FLOOD_TABLE).unwrap().generation().unwrap()).unwrap()
}

#[test]
fn nft_prints_what_was_meant_and_can_read_it_back() {
    let netns = Netns::new().unwrap();
    put(&netns, &all());
    let text = sh(&netns, "nft list table inet palisade_flood");
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in [
        "limit source_192.0.2.7/32 { rate over 5/second burst 20 packets }",
        "counter crowd_2001-db8--1_udp_53 { packets 0 bytes 0 }",
        "ct timeout source_192.0.2.7/32_tcp4 { protocol tcp l3proto ip policy = { syn_sent : 5, established : 60, retrans : 7 } }",
        "ct timeout source_2001-db8--/64_udp6 { protocol udp l3proto ip6 policy = { unreplied : 10, replied : 20 } }",
        "ct timeout service_ssh_tcp4 { protocol tcp l3proto ip policy = { established : 7200 } }",
        "type filter hook prerouting priority mangle + 5; policy accept; ct state new ct status ! confirmed jump incoming",
        "type filter hook output priority mangle + 5; policy accept; ct state new ct status ! confirmed jump outgoing",
        "ip saddr 192.0.2.7 limit name \"source_192.0.2.7/32\" counter name \"source_192.0.2.7/32\" drop",
        "ip6 saddr 2001:db8::/64 limit name \"source_2001-db8--/64\" counter name \"source_2001-db8--/64\" drop",
        "meta skuid 1000 udp dport 53 limit name \"user_1000_udp_53\" counter name \"user_1000_udp_53\" drop",
        "meta skuid 1001 meta l4proto tcp limit name \"user_1001_tcp_0\" counter name",
        "ip daddr 198.51.100.1 tcp dport 443 limit name \"crowd_198.51.100.1_tcp_443\"",
        "ip6 daddr 2001:db8::1 udp dport 53 ct timeout set \"crowd_2001-db8--1_udp_53_udp6\"",
        "tcp dport 22 jump service_ssh",
        "ip saddr 198.51.100.0/24 ct timeout set \"service_ssh_tcp4\"",
        "ip daddr 198.51.100.0/22 ct timeout set \"service_ssh_tcp4\"",
        "ip6 daddr 2001:db8::/32 ct timeout set \"service_ssh_tcp6\"",
        "udp dport 51820 jump service_6/20/22in/22/204",
        "meta nfproto ipv4 ct timeout set \"service_6/20/22in/22/204_udp4\"",
    ] {
        assert!(flat.contains(line), "no `{line}` in\n{text}");
    }
    sh(&netns, "f=$(mktemp); nft list ruleset > $f; nft flush ruleset; nft -f $f; rm $f");
    let generation_before = generation(&netns);
    assert!(is(&netns, &all()), "{}", sh(&netns, "nft list ruleset"));
    put(&netns, &all());
    assert_eq!(generation(&netns), generation_before, "what nft(8) loads is what we write");
}

#[test]
fn every_change_of_others_is_seen_and_healed() {
    let netns = Netns::new().unwrap();
    let wanted = all();
    assert!(is(&netns, &Wanted::default()) && !is(&netns, &wanted));
    for change in [
        "nft flush ruleset",
        "nft flush table inet palisade_flood",
        "nft insert rule inet palisade_flood incoming accept",
        "nft add rule inet palisade_flood pre counter",
        "nft delete rule inet palisade_flood out handle $(nft -a list chain inet palisade_flood out | sed -n 's/.*jump.* handle //p' | head -1)",
        "nft replace rule inet palisade_flood incoming handle $(nft -a list chain inet palisade_flood incoming | sed -n 's/.*limit.* handle //p' | head -1) ip saddr 192.0.2.7 limit name source_192.0.2.7/32 drop",
        "nft 'add chain inet palisade_flood pre { type filter hook prerouting priority mangle + 5; policy drop; }'",
        "nft add chain inet palisade_flood more; nft add rule inet palisade_flood pre jump more",
        "nft 'add set inet palisade_flood s { type ipv4_addr; }'",
        "nft add counter inet palisade_flood source_192.0.2.9/32",
        "nft 'add limit inet palisade_flood more { rate 5/second; }'",
        "nft 'add quota inet palisade_flood more { over 5 bytes; }'",
        "nft 'add ct timeout inet palisade_flood more { protocol tcp; l3proto ip; policy = { established: 60 }; }'",
        "nft flush table inet palisade_flood; nft delete limit inet palisade_flood source_192.0.2.7/32
         nft 'add limit inet palisade_flood source_192.0.2.7/32 { rate over 500/second burst 20 packets; }'",
        "nft flush table inet palisade_flood; nft delete ct timeout inet palisade_flood service_ssh_tcp4
         nft 'add ct timeout inet palisade_flood service_ssh_tcp4 { protocol tcp; l3proto ip; policy = { established: 7201 }; }'",
        "nft 'add table inet palisade_flood { flags dormant; }'",
        "nft 'add table inet palisade_flood { flags dormant; }'; nft flush table inet palisade_flood; nft delete chain inet palisade_flood pre",
    ] {
        put(&netns, &wanted);
        sh(&netns, change);
        assert!(!is(&netns, &wanted), "{change}");
        put(&netns, &wanted);
    }
    let mut faster = wanted.clone();
    faster.limits[0].rate = 6;
    assert!(!is(&netns, &faster), "another rate is another table");
    faster.limits[0].rate = 5;
    faster.services[0].1.timeouts = times(&[("established", 7201)]);
    assert!(!is(&netns, &faster), "other timeouts are another table");
}

#[test]
fn nothing_is_left_and_strangers_are_untouched() {
    let netns = Netns::new().unwrap();
    let others = "nft 'table inet other { counter source_192.0.2.7/32 { packets 7 bytes 9 }; limit l { rate 5/second; }
        ct timeout t { protocol tcp; l3proto ip; policy = { established: 60 }; }
        chain c { type filter hook prerouting priority -145; limit name l counter name source_192.0.2.7/32 ct timeout set t; }; }
        table ip palisade_flood { counter source_192.0.2.8/32 { }; chain c { }; }; table inet palisade { chain pre { }; }'";
    sh(&netns, others);
    let before = sh(&netns, "nft list ruleset");
    put(&netns, &Wanted::default());
    let seen = || {
        let dropped = netns.within(crate::limits::dropped).unwrap().unwrap();
        dropped.into_iter().map(|(culprit, _)| culprit).collect::<std::collections::BTreeSet<_>>()
    };
    assert!(seen().is_empty());
    for wanted in [all(), Wanted { services: Vec::new(), ..all() }, Wanted { limits: Vec::new(), ..all() }] {
        put(&netns, &wanted);
        assert_eq!(seen(), wanted.limits.iter().map(|limit| limit.whose).collect(), "only our own counters");
    }
    put(&netns, &Wanted::default());
    assert_eq!(sh(&netns, "nft list ruleset"), before);
}

#[test]
fn counters_of_others_in_our_table_are_nobodys() {
    let netns = Netns::new().unwrap();
    put(&netns, &limits(vec![limit(source("192.0.2.7/32"), 5, 20)]));
    sh(&netns, "nft add counter inet palisade_flood source_192.0.2.8; nft 'add counter inet palisade_flood other'");
    assert_eq!(netns.within(crate::limits::dropped).unwrap().unwrap(), [(source("192.0.2.7/32"), 0)]);
}

#[test]
fn the_most_limits_stand_at_once() {
    let netns = Netns::new().unwrap();
    let many = |n: u8| {
        limits((0..n).map(|n| Limit { timeouts: times(&[("udp", 5)]), ..limit(source(&format!("192.0.2.{n}/32")), 5, 20) }).collect())
    };
    put(&netns, &many(64));
    let before = generation(&netns);
    let error = netns.within(|| crate::limits::set(&many(65), &Timeouts::new())).unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(generation(&netns), before, "what stands stays");
    assert!(is(&netns, &many(64)));
}

#[test]
fn without_the_right_it_says_so() {
    let netns = Netns::new().unwrap();
    let error = netns
        .within(|| {
            // SAFETY: plain system call; as such, other than through libc, it changes the calling thread alone.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
            crate::limits::set(&all(), &Timeouts::new()).unwrap_err()
        })
        .unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("palisade_flood") && error.to_string().contains("CAP_NET_ADMIN"), "{error}");
}

#[test]
fn a_kernel_without_nf_tables_is_enough_for_nothing() {
    let errno = |errno| std::io::Error::from_raw_os_error(errno);
    assert!(crate::limits::absent_is(true, true, errno(libc::EPROTONOSUPPORT)).unwrap());
    let error = crate::limits::absent_is((), false, errno(libc::EINVAL)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("modprobe"), "{error}");
}
