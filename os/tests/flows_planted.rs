//! One host's states among many planted ones, wherever its address stands: exactly those are deleted, with the
//! kernel's filter and without. In network namespaces of our own. Needs root.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

use std::collections::HashSet;

use palisade_core::bans::wall::Ports;
use palisade_core::flood::flow::{ICMP, TCP, TcpState, UDP};
use palisade_core::net::Addr;
use palisade_os::flows::linux::Linux;
use palisade_os::flows::{Flows, Killed, Target};
use palisade_os::netlink::conntrack::plant::{Seed, plant};
use palisade_os::netlink::conntrack::{self, L4, Tuple};
use palisade_os::netlink::socket::{NETFILTER, Next, Socket};
use palisade_os::netns::Netns;

const HIS: &str = "203.0.113.9";
const HIS6: &str = "2001:db8:1::9";

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

/// All states: both directions and the zone.
fn standing() -> HashSet<(Tuple, Tuple, u16)> {
    let mut all = HashSet::new();
    let take = |entry: &conntrack::Entry<'_>| {
        assert!(all.insert((entry.orig, entry.reply, entry.zone)), "twice in one listing: {entry:?}");
        Next::More
    };
    conntrack::dump(&mut Socket::open(NETFILTER).unwrap(), None, None, take).unwrap();
    all
}

/// Everybody else: his neighbours above all, to and from the same server and ports.
fn others() -> Vec<Seed> {
    let hosts = ["203.0.113.8", "203.0.113.10", "203.0.112.9", "9.113.0.203", "198.51.100.9"];
    let v4 = hosts.into_iter().flat_map(|host| (1..=900).map(move |port| Seed::new(TCP, (addr(host), port), (addr("192.0.2.1"), 443))));
    let hosts = ["2001:db8:1::8", "2001:db8:1::a", "2001:db8::9"];
    let v6 = hosts.into_iter().flat_map(|host| (1..=300).map(move |port| Seed::new(UDP, (addr(host), port), (addr("2001:db8::1"), 53))));
    let out = (1..=300).map(|port| Seed::new(UDP, (addr("192.0.2.1"), port), (addr("203.0.113.10"), 53)));
    v4.chain(v6).chain(out).map(|seed| if seed.orig.protocol == UDP { Seed { status: 0, ..seed } } else { seed }).collect()
}

/// States with his address in each of the four places, alone there and with others, in both zones, of all kinds.
fn his(him: &str, us: &str, else_: &str) -> Vec<Seed> {
    let (him, us, else_) = (addr(him), addr(us), addr(else_));
    let mut all: Vec<_> = (1..=400).map(|port| Seed::new(TCP, (him, port), (us, 443))).collect();
    all.extend((1..=50).map(|port| Seed::new(UDP, (us, port), (him, 53))));
    for n in 1..=5 {
        // What goes to him leads elsewhere, what goes elsewhere leads to him, and the same for who sends.
        let mut away = Seed::new(TCP, (us, 1000 + n), (him, 80));
        away.reply.source = else_;
        let mut disguised = Seed::new(TCP, (us, 2000 + n), (else_, 80));
        disguised.reply.source = him;
        let mut masked = Seed::new(TCP, (him, 3000 + n), (us, 80));
        masked.reply.destination = else_;
        let mut masking = Seed::new(TCP, (else_, 4000 + n), (us, 80));
        masking.reply.destination = him;
        let zoned = Seed { zone: 5, tcp: Some(TcpState::SynSent), status: 0, ..Seed::new(TCP, (him, n), (us, 443)) };
        all.extend([away, disguised, masked, masking, zoned, Seed::new(UDP, (him, 5000 + n), (him, 7))]);
    }
    if him.family() == palisade_core::net::Family::V4 {
        let echo = |source, destination, kind| Tuple { source, destination, protocol: ICMP, l4: L4::Icmp { id: 7, kind, code: 0 } };
        all.push(Seed { orig: echo(him, us, 8), reply: echo(us, him, 0), tcp: None, ..all[0] });
    }
    all
}

#[test]
fn exactly_one_hosts_states_are_deleted_wherever_its_address_stands() {
    for few in [0, u32::MAX] {
        let ns = Netns::new().unwrap();
        ns.within(|| {
            let mut socket = Socket::open(NETFILTER).unwrap();
            let others = others();
            assert_eq!(plant(&mut socket, others.iter().copied()).unwrap(), others.len() as u64);
            let rest = standing();
            let mut flows = Linux::open().unwrap().listing_plainly_up_to(few);
            for (him, us, else_) in [(HIS, "192.0.2.1", "198.51.100.77"), (HIS6, "2001:db8::1", "2001:db8:7::7")] {
                let all = his(him, us, else_);
                assert_eq!(plant(&mut socket, all.iter().copied()).unwrap(), all.len() as u64);
                assert_eq!(flows.list(him.parse().unwrap(), 0).unwrap().states, all.len() as u64);
                let target = Target { prefix: him.parse().unwrap(), ports: Ports::All };
                let killed = flows.kill(std::slice::from_ref(&target)).unwrap();
                assert_eq!(killed, Killed { sockets: 0, states: all.len() as u64 }, "each is counted once");
                assert!(standing() == rest, "everybody else's stand, and nothing more");
                assert_eq!(flows.kill(&[target]).unwrap(), Killed::default());
            }
        })
        .unwrap();
    }
}

#[test]
fn of_two_hosts_what_lies_between_them_is_counted_once() {
    let ns = Netns::new().unwrap();
    ns.within(|| {
        let mut socket = Socket::open(NETFILTER).unwrap();
        let (a, b, us) = (addr(HIS), addr("203.0.113.20"), addr("192.0.2.1"));
        let between = (1..=40).flat_map(|port| [Seed::new(UDP, (a, port), (b, 53)), Seed::new(UDP, (b, port), (a, 54))]);
        let ours = (1..=40).flat_map(|port| [Seed::new(UDP, (a, port), (us, 53)), Seed::new(UDP, (us, port), (b, 54))]);
        assert_eq!(plant(&mut socket, between.chain(ours)).unwrap(), 160);
        plant(&mut socket, others()).unwrap();
        let targets = [a, b].map(|addr| Target { prefix: palisade_core::net::Prefix::host(addr), ports: Ports::All });
        let killed = Linux::open().unwrap().listing_plainly_up_to(0).kill(&targets).unwrap();
        assert_eq!(killed, Killed { sockets: 0, states: 160 });
        assert_eq!(standing().len(), others().len());
    })
    .unwrap();
}
