//! Failing over: only the dead uplink's connections are forgotten.

use palisade_core::route::spec::Guard;
use palisade_core::route::words::{Mark, Mask};

use super::{FIBRE, LTE, Lab, OUTSIDE, WAN1, both, echoes, joined, listen, sh};
use crate::flows::purge::purge;
use crate::netlink::conntrack;
use crate::netlink::socket::{NETFILTER, Next, Socket};

#[test]
fn only_the_dead_uplinks_connections_are_purged() {
    let lab = Lab::new();
    let (server, web) = (listen(&lab.outside, &format!("{OUTSIDE}:7000")), listen(&lab.lan, "0.0.0.0:80"));
    let ssh = listen(&lab.gateway, "0.0.0.0:2222");
    lab.rules();
    lab.set(Some(&both(Guard::Count)));
    // By the first uplink: from the LAN, from here, and one that came in to the LAN and one to here.
    let to = format!("{OUTSIDE}:7000");
    let mut dead = vec![joined(&lab.lan, &to, &server), joined(&lab.gateway, &to, &server)];
    dead.push(joined(&lab.outside, &format!("{WAN1}:8080"), &web));
    dead.push(joined(&lab.outside, &format!("{WAN1}:2222"), &ssh));
    // By the second the same, and one that uses no uplink.
    sh(&lab.gateway, "ip route replace default via 203.0.113.1");
    let mut alive = vec![joined(&lab.lan, &to, &server), joined(&lab.gateway, &to, &server)];
    alive.push(joined(&lab.outside, "203.0.113.2:8080", &web));
    alive.push(joined(&lab.outside, "203.0.113.2:2222", &ssh));
    alive.push(joined(&lab.gateway, "192.0.2.2:80", &web));
    dead.iter_mut().chain(&mut alive).for_each(echoes);
    let mark = |mark: Mark| format!("mark={} ", mark.0);
    assert_eq!((lab.states(&[&mark(FIBRE)]).len(), lab.states(&[&mark(LTE)]).len()), (4, 4));

    // The kernel filters its listing by itself.
    let listed = lab.gateway.within(|| {
        let mut marks = Vec::new();
        let mut socket = Socket::open(NETFILTER).unwrap();
        let take = |entry: &conntrack::Entry<'_>| {
            marks.push(entry.mark);
            Next::More
        };
        conntrack::dump_marked(&mut socket, FIBRE.0, Mask::OURS.0, take).unwrap();
        marks
    });
    assert_eq!(listed.unwrap(), [FIBRE.0; 4]);

    let purged = |mark, addrs: &[&str]| {
        let addrs: Vec<_> = addrs.iter().map(|text| text.parse().unwrap()).collect();
        lab.gateway.within(|| purge(mark, &addrs)).unwrap()
    };
    assert_eq!(purged(None, &[]).unwrap(), 0);
    assert_eq!(purged(Some((FIBRE, Mask(0))), &[]).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(purged(Some((Mark(0x4500_0000), Mask::OURS)), &[]).unwrap(), 0);
    assert_eq!(purged(None, &["192.0.2.64/26", "2001:db8::/32"]).unwrap(), 0);
    // By address those that left with it: from the LAN and from here. By mark the rest.
    assert_eq!(purged(None, &["198.51.100.0/30"]).unwrap(), 2);
    alive.iter_mut().for_each(echoes);
    assert_eq!(purged(Some((FIBRE, Mask::OURS)), &["198.51.100.2/32"]).unwrap(), 2);
    assert_eq!((lab.states(&[&mark(FIBRE)]).len(), lab.states(&[&mark(LTE)]).len()), (0, 4));
    alive.iter_mut().for_each(echoes);
    assert_eq!(purged(Some((LTE, Mask::OURS)), &[]).unwrap(), 4);
    assert_eq!(lab.states(&["dport=80 ", "ESTABLISHED"]).len(), 1, "what used no uplink is nobody's");
}
