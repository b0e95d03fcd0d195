//! How long flows last, as conntrack(8) tells.

use super::*;
use crate::limits::{Done, Standing};
use palisade_core::flood::flow::{TCP, UDP};

/// Seconds left of the only state with all of `texts`.
#[track_caller]
fn left(lab: &Lab, texts: &[&str]) -> u64 {
    soon(&format!("a state with {texts:?}"), || lab.states(texts).len() == 1);
    let line = lab.states(texts).remove(0);
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

#[test]
fn what_a_culprit_still_opens_ends_soon() {
    let lab = Lab::new();
    let short = times(&[("tcp_established", 660), ("tcp_syn_sent", 9), ("udp", 80), ("icmp", 7), ("generic", 5)]);
    let with = |whose| Limit { timeouts: short.clone(), ..limit(whose, 100, 100) };
    let local = Culprit::Local { uid: 0, protocol: UDP, port: 53 };
    let crowd = Culprit::Crowd { to: "192.0.2.1:5300/udp".parse().unwrap() };
    lab.set(&limits([source("192.0.2.2/32"), source("2001:db8:1::/64"), local, crowd].map(with).into()));
    let server = listen(&lab.server, "198.51.100.2:80");
    let _open =
        [joined(&lab.client, "192.0.2.2", "198.51.100.2:80", &server), joined(&lab.client, "192.0.2.3", "198.51.100.2:80", &server)];
    assert!(left(&lab, &["tcp", "src=192.0.2.2 ", "ESTABLISHED"]) <= 660);
    assert!(left(&lab, &["tcp", "src=192.0.2.3 ", "ESTABLISHED"]) > 300_000);
    for (from, to) in [("192.0.2.2", "198.51.100.2:9"), ("192.0.2.3", "198.51.100.2:9"), ("192.0.2.3", "192.0.2.1:5300")] {
        open(&lab.client, from, to, 1);
    }
    for (from, to) in [("2001:db8:1::3", "[2001:db8:5::2]:9"), ("2001:db8:2::2", "[2001:db8:5::2]:9")] {
        open(&lab.client, from, to, 1);
    }
    for to in ["198.51.100.2:53", "198.51.100.2:54"] {
        open(&lab.gateway, "198.51.100.1", to, 1);
    }
    open(&lab.gateway, "2001:db8:5::1", "[2001:db8:5::2]:53", 1);
    for texts in [
        ["udp", "src=192.0.2.2 ", "dport=9 "],
        ["udp", "src=192.0.2.3 ", "dport=5300 "],
        ["udp", "src=2001:db8:1::3 ", "dport=9 "],
        ["udp", "src=198.51.100.1 ", "dport=53 "],
        ["udp", "src=2001:db8:5::1 ", "dport=53 "],
    ] {
        assert!(left(&lab, &texts) <= 80, "{texts:?}: {:?}", lab.states(&texts));
    }
    for texts in
        [["udp", "src=192.0.2.3 ", "dport=9 "], ["udp", "src=2001:db8:2::2 ", "dport=9 "], ["udp", "src=198.51.100.1 ", "dport=54 "]]
    {
        assert!(left(&lab, &texts) > 80, "{texts:?}: {:?}", lab.states(&texts));
    }
}

#[test]
fn a_service_has_its_own_timeouts_and_the_culprits_win() {
    let lab = Lab::new();
    let web = service(TCP, &[80, 81], &[], &[("established", 7000)]);
    let near = service(TCP, &[82], &["192.0.2.3/32", "203.0.113.0/24"], &[("established", 9000)]);
    let to_server = service(TCP, &[83], &["198.51.100.0/24", "2001:db8::/32"], &[("established", 5000)]);
    let short = Limit { timeouts: times(&[("tcp_established", 600)]), ..limit(source("192.0.2.2/32"), 100, 100) };
    let services = [("web", web), ("near by", near), ("to-server", to_server)].map(|(name, service)| (name.to_owned(), service));
    let mut wanted = Wanted { limits: vec![short], services: services.into(), ..Wanted::default() };
    lab.set(&wanted);
    let mut open = Vec::new();
    for port in [80, 81, 82, 83, 84] {
        let at = format!("198.51.100.2:{port}");
        let server = listen(&lab.server, &at);
        open.extend(["192.0.2.2", "192.0.2.3"].map(|from| joined(&lab.client, from, &at, &server)));
    }
    for (port, full) in [(80, 7000), (81, 7000), (82, 9000), (83, 5000), (84, 432_000)] {
        let dport = format!("dport={port} ");
        let left = |from: &str| left(&lab, &["tcp", from, &dport, "ESTABLISHED"]);
        assert!((full - 200..=full).contains(&left("src=192.0.2.3 ")), "{port}");
        assert!((400..=600).contains(&left("src=192.0.2.2 ")), "{port}");
    }
    // One that is limited no longer: the service stays, and its connections keep what they have.
    wanted.limits.clear();
    lab.set(&wanted);
    open.iter_mut().for_each(echoes);
    soon("a packet counts", || left(&lab, &["tcp", "src=192.0.2.3 ", "dport=80 ", "ESTABLISHED"]) > 6800);
    assert!(left(&lab, &["tcp", "src=192.0.2.2 ", "dport=84 ", "ESTABLISHED"]) > 300_000, "no policy is left");
}

#[test]
fn what_is_made_during_an_attack_holds_what_was_before_it() {
    let netns = Netns::new().unwrap();
    let switch = |name: &str, secs: u32| sh(&netns, &format!("echo {secs} > /proc/sys/net/netfilter/nf_conntrack_{name}"));
    switch("tcp_timeout_established", 300);
    switch("tcp_timeout_close_wait", 11);
    switch("udp_timeout", 4);
    let base = times(&[("tcp_established", 7440), ("tcp_fin_wait", 77), ("udp", 33), ("udp_stream", 99)]);
    let web = service(TCP, &[443], &[], &[("syn_sent", 9)]);
    let short = Limit { timeouts: times(&[("udp", 5)]), ..limit(source("192.0.2.7/32"), 5, 20) };
    let wanted = Wanted { limits: vec![short], services: vec![("web".to_owned(), web)], ..Wanted::default() };
    let run = |base: &Timeouts| {
        netns
            .within(|| {
                let done = crate::limits::set(&wanted, base).unwrap();
                assert_eq!((done, crate::limits::stands(&wanted, base).unwrap()), (Done::All, Standing::All));
            })
            .unwrap();
        sh(&netns, "nft list table inet palisade_flood | tr -d ' \\t\\n'")
    };
    let text = run(&base);
    // nft(8) leaves out what is as the kernel is made.
    for line in [
        "cttimeoutservice_web_tcp4{protocoltcpl3protoippolicy={syn_sent:9,established:7440,fin_wait:77,close_wait:11}}",
        "cttimeoutsource_192.0.2.7/32_udp4{protocoludpl3protoippolicy={unreplied:5,replied:99}}",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    // The switches go back: nothing changes as long as the base does not.
    switch("tcp_timeout_established", 7440);
    assert_eq!(run(&base), text);
    let none = netns.within(|| crate::limits::stands(&wanted, &times(&[("tcp_established", 7441)])).unwrap()).unwrap();
    assert_eq!(none, Standing::Other);
    // Without a base, as the switches say now.
    run(&Timeouts::new());
    let now = netns.within(|| crate::limits::stands(&wanted, &times(&[("udp_stream", 120), ("tcp_close_wait", 11)])).unwrap()).unwrap();
    assert_eq!(now, Standing::All);
}

#[test]
fn a_kernel_without_policies_keeps_the_limits_and_says_so() {
    let netns = Netns::new().unwrap();
    let wanted = limits(vec![Limit { timeouts: times(&[("udp", 8)]), ..limit(source("192.0.2.2/32"), 5, 20) }]);
    let whole = || {
        let mut table = crate::limits::layout::whole(&wanted, &crate::limits::policy::Beneath::default()).unwrap().unwrap();
        for object in &mut table.objects {
            if let crate::netlink::nft::Held::Timeouts(policy) = &mut object.held {
                policy.protocol = 99; // which no kernel has timeouts for
            }
        }
        Some(table)
    };
    let told = |done: Done| match done {
        Done::WithoutTimeouts(text) => assert!(text.contains("limits stand") && text.contains("modprobe"), "{text}"),
        Done::All => panic!("it has done all"),
    };
    let standing = |wanted: &Wanted| netns.within(|| crate::limits::stands(wanted, &Timeouts::new())).unwrap().unwrap();
    for _ in 0..2 {
        told(netns.within(|| crate::limits::put(whole(), || crate::limits::layout::without_timeouts(&wanted))).unwrap().unwrap());
        assert_eq!(standing(&wanted), Standing::WithoutTimeouts);
        assert_eq!(standing(&limits(vec![limit(source("192.0.2.2/32"), 5, 20)])), Standing::All, "the limit");
        assert_eq!(standing(&limits(vec![limit(source("192.0.2.2/32"), 6, 20)])), Standing::Other);
    }
    sh(&netns, "nft add counter inet palisade_flood more");
    assert_eq!(standing(&wanted), Standing::Other, "somebody has changed it");
    // Services alone leave nothing.
    told(netns.within(|| crate::limits::put(whole(), || Ok(None))).unwrap().unwrap());
    assert_eq!(standing(&Wanted::default()), Standing::All);
    assert_eq!(
        standing(&Wanted { services: vec![("s".to_owned(), service(UDP, &[9], &[], &[("replied", 5)]))], ..Wanted::default() }),
        Standing::WithoutTimeouts
    );
}
