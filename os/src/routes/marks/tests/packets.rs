//! What the marks do to packets.

use std::io::Write;
use std::net::UdpSocket;

use palisade_core::route::spec::Guard;
use palisade_core::route::wanted::Marks;
use palisade_core::route::words::Mask;

use super::{FIBRE, LTE_PROBE, Lab, OUTSIDE, WAN1, WAN2, both, connect, echoes, joined, listen, sh, uplink};
use crate::netns::Netns;
use crate::netns::trying::soon;
use crate::probe::Prober;

/// Sends one datagram from an address.
fn udp(netns: &Netns, from: &str, to: &str) -> std::io::Result<usize> {
    netns.within(|| UdpSocket::bind(from).unwrap().send_to(b"?", to)).unwrap()
}

#[test]
fn a_forwarded_connection_is_answered_by_the_uplink_it_came_from() {
    let lab = Lab::new();
    let web = listen(&lab.lan, "0.0.0.0:80");
    // Somebody else's bits, set before ours and looked at behind ours.
    sh(
        &lab.gateway,
        "nft 'table inet other { counter kept { };
           chain pre { type filter hook prerouting priority -160; meta mark set meta mark | 0x5; ct state new ct mark set ct mark | 0x10000; }
           chain post { type filter hook postrouting priority 200; oifname wan2 meta mark & 0xff == 0x5 meta mark & 0x7f000000 == 0x42000000 counter name kept; }
         }'",
    );
    // Without marks the answer leaves by the other uplink.
    let unanswered = connect(&lab.outside, &format!("{WAN2}:8080"), 1);
    assert!(unanswered.is_err() && lab.spoofed(1) > 0);
    sh(&lab.gateway, "conntrack -F 2>/dev/null");
    sh(&lab.lan, "ss -K state syn-recv sport = :80 >/dev/null");
    lab.rules();
    lab.set(Some(&both(Guard::Count)));
    let spoofed = lab.spoofed(1);
    for (to, mark) in [(WAN1, FIBRE), (WAN2, super::LTE)] {
        let mut both = joined(&lab.outside, &format!("{to}:8080"), &web);
        echoes(&mut both);
        // conntrack(8) writes marks in decimal.
        let marked = format!("mark={} ", mark.0 | 0x1_0000);
        assert_eq!(lab.states(&["dport=8080", to, &marked]).len(), 1, "{:#?}", lab.states(&["dport=8080"]));
    }
    assert_eq!(lab.spoofed(1), spoofed);
    assert!(!sh(&lab.gateway, "nft list counter inet other kept").contains("packets 0 "), "others' bits survive");
    assert_eq!(lab.leaked("lte"), 0);
}

#[test]
fn what_went_out_by_an_uplink_stays_on_it() {
    let lab = Lab::new();
    let server = listen(&lab.outside, &format!("{OUTSIDE}:7000"));
    lab.rules();
    lab.set(Some(&both(Guard::Count)));
    let server6 = listen(&lab.outside, "[2001:db8:ff::1]:7000");
    let to = format!("{OUTSIDE}:7000");
    let begun = || -> Vec<_> {
        let mut all: Vec<_> = [&lab.lan, &lab.gateway].map(|from| joined(from, &to, &server)).into();
        all.push(joined(&lab.gateway, "[2001:db8:ff::1]:7000", &server6));
        all
    };
    let mut old = begun();
    old.iter_mut().for_each(echoes);
    // The default moves. What began stays, for its address is the first provider's; what begins takes the new way.
    sh(&lab.gateway, "ip route replace default via 203.0.113.1; ip -6 route replace default via 2001:db8:2::1");
    let mut new = begun();
    old.iter_mut().chain(&mut new).for_each(echoes);
    let peers = |all: &[(std::net::TcpStream, std::net::TcpStream)]| -> Vec<String> {
        all.iter().map(|(_, server)| server.peer_addr().unwrap().ip().to_string()).collect()
    };
    assert_eq!(
        (peers(&old), peers(&new)),
        ([WAN1, WAN1, "2001:db8:1::2"].map(str::to_owned).into(), [WAN2, WAN2, "2001:db8:2::2"].map(str::to_owned).into())
    );
    assert_eq!((lab.spoofed(1), lab.spoofed(2)), (0, 0));
    // Without the marks, what the LAN began takes the new way with the old source, and the provider eats it.
    lab.set(None);
    old[0].0.write_all(b"ping").unwrap();
    soon("a spoofed packet", || lab.spoofed(2) > 0);
}

#[test]
fn leaks_are_counted_or_dropped_and_nothing_else_is() {
    let lab = Lab::new();
    lab.set(Some(&both(Guard::Count)));
    // Not routed by its source: no rules here. By the default it leaves by wan1.
    udp(&lab.gateway, &format!("{WAN2}:0"), &format!("{OUTSIDE}:9")).unwrap();
    udp(&lab.gateway, "[2001:db8:2::2]:0", "[2001:db8:ff::1]:9").unwrap();
    assert_eq!(lab.leaked("lte"), 2);
    soon("the first provider saw them", || lab.spoofed(1) == 2);
    assert!(lab.states(&["dport=9", "src=203.0.113.2"]).iter().all(|state| state.contains("mark=0 ")), "a leak marks nothing");
    // By its own uplink, to the network behind, to this host, on the link, to a group: no leaks.
    sh(
        &lab.gateway,
        "ip -6 route add multicast ff05::/16 dev wan1 table local
         nft 'table inet other { counter groups { }; chain post { type filter hook postrouting priority 200;
           oifname wan1 ip daddr 169.254.7.7 counter name groups; oifname wan1 ip6 daddr ff05::fb counter name groups; }; }'",
    );
    for to in ["203.0.113.1:9", "192.0.2.2:9", "198.51.100.2:9", "169.254.7.7:9"] {
        udp(&lab.gateway, &format!("{WAN2}:0"), to).unwrap();
    }
    udp(&lab.gateway, &format!("{WAN1}:0"), &format!("{OUTSIDE}:9")).unwrap();
    udp(&lab.gateway, "[2001:db8:2::2]:0", "[ff05::fb]:9").unwrap();
    assert!(sh(&lab.gateway, "nft list counter inet other groups").contains("packets 2 "), "both left by the other uplink");
    assert_eq!(lab.leaked("lte"), 2);

    // Another guard and another uplink: the counter goes on.
    let mut more = both(Guard::Drop);
    more.uplinks.push(uplink("tunnel", "tun0", None, &["2001:db8:3::/48"], Guard::Count));
    lab.set(Some(&more));
    assert_eq!((lab.leaked("lte"), lab.leaked("tunnel")), (2, 0));
    let spoofed = lab.spoofed(1);
    let _ = udp(&lab.gateway, &format!("{WAN2}:0"), &format!("{OUTSIDE}:9"));
    // Forwarded, too, and with what source NAT made of it.
    sh(&lab.gateway, "nft insert rule ip nat post oifname wan1 udp dport 10 snat to 203.0.113.2");
    udp(&lab.lan, "192.0.2.2:0", &format!("{OUTSIDE}:10")).unwrap();
    soon("both counted", || lab.leaked("lte") == 4);
    assert_eq!(lab.spoofed(1), spoofed, "dropped here");
    assert!(lab.gateway.within(super::super::leaks).unwrap().unwrap()["lte"].bytes >= 4 * 29);
    let mut fewer = both(Guard::Off);
    fewer.uplinks.truncate(1);
    lab.set(Some(&fewer));
    assert!(lab.gateway.within(super::super::leaks).unwrap().unwrap().is_empty());
}

#[test]
fn marks_from_within_a_tunnel_are_cleared_and_probes_keep_theirs() {
    let lab = Lab::new();
    lab.rules();
    let watched = "nft 'table inet other { counter theirs { }; counter ours { };
       chain raw { type filter hook prerouting priority -160; iifname wan2 meta mark set 0x41000007; }
       chain pre { type filter hook prerouting priority -140; iifname wan2 meta mark & 0x7 == 0x7 counter name theirs;
         iifname wan2 meta mark & 0x7f000000 != 0 counter name ours; }; }'";
    sh(&lab.gateway, watched);
    // An uplink without a mark for connections: nothing of ours is left.
    let plain = vec![uplink("fibre", "wan1", Some(FIBRE), &[], Guard::Off), uplink("lte", "wan2", None, &[], Guard::Off)];
    lab.set(Some(&Marks { mask: Mask::OURS, uplinks: plain }));
    let mut prober = lab.gateway.within(|| Prober::open(WAN2.parse().unwrap(), Some(LTE_PROBE), Some("wan2")).unwrap()).unwrap();
    let answered = |prober: &mut Prober, seq| {
        prober.send(OUTSIDE.parse().unwrap(), seq, 32).unwrap();
        soon("an answer", || prober.receive().unwrap().iter().any(|answer| answer.seq == seq));
    };
    answered(&mut prober, 1);
    assert!(!sh(&lab.gateway, "nft list counter inet other theirs").contains("packets 0 "));
    assert!(sh(&lab.gateway, "nft list counter inet other ours").contains("packets 0 "), "what the outer packet was marked with");
    // With marks for both, a probe that goes out by wan2 leaves its connection unmarked and its own mark alone.
    lab.set(Some(&both(Guard::Count)));
    sh(&lab.gateway, "conntrack -F 2>/dev/null");
    answered(&mut prober, 2);
    answered(&mut prober, 3);
    let states = lab.states(&["icmp", "src=203.0.113.2"]);
    assert!(states.len() == 1 && states[0].contains("mark=0 "), "{states:#?}");
}
