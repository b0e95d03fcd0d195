//! In namespaces: flows of real packets and planted ones, counted and heard.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use palisade_core::flood::flow::{ICMP, TCP, TcpState, UDP};
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::Span;

use super::*;
use crate::netlink::conntrack::L4;
use crate::netlink::conntrack::plant::{Seed, plant};
use crate::netns::Netns;

const HERE: &str = "192.0.2.1";
/// What our datagrams to port 53 are translated to.
const GUISE: &str = "192.0.2.11";
const THERE: &str = "192.0.2.2";
const HERE6: &str = "2001:db8::1";
const THERE6: &str = "2001:db8::2";
/// Nobody: what goes to its port 8080 is translated to THERE.
const NAME: &str = "198.51.100.8";

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

fn nft(ns: &Netns, rules: &str) {
    ns.within(|| {
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());
    })
    .unwrap();
}

/// A host that tracks its connections, and another at the end of a cable.
fn pair() -> (Netns, Netns) {
    let (here, there) = (Netns::new().unwrap(), Netns::new().unwrap());
    let (mut a, mut b) = (here.wiring().unwrap(), there.wiring().unwrap());
    a.cable("cable", &there, "cable").unwrap();
    for (wiring, own, others) in
        [(&mut a, &[HERE, GUISE, HERE6][..], &[THERE, THERE6, NAME][..]), (&mut b, &[THERE, THERE6], &[HERE, GUISE, HERE6])]
    {
        wiring.up("lo").unwrap();
        wiring.up("cable").unwrap();
        own.iter().for_each(|own| wiring.add_address("cable", addr(own)).unwrap());
        others.iter().for_each(|other| wiring.add_route(Prefix::host(addr(other)), "cable").unwrap());
    }
    nft(
        &here,
        &format!(
            "table inet t {{
               chain out {{ type nat hook output priority -100; ip daddr {NAME} tcp dport 8080 dnat ip to {THERE}:80; }}
               chain post {{ type nat hook postrouting priority 100; udp dport 53 ip saddr {HERE} snat ip to {GUISE}; }}
               chain track {{ type filter hook output priority 0; ct state new counter; }}
             }}\n"
        ),
    );
    (here, there)
}

/// A host alone, with an address on its loopback, that tracks its connections.
fn alone() -> Netns {
    let ns = Netns::new().unwrap();
    let mut wiring = ns.wiring().unwrap();
    wiring.up("lo").unwrap();
    wiring.add_address("lo", addr(HERE)).unwrap();
    nft(&ns, "table inet t { chain track { type filter hook output priority 0; ct state new counter; }; }\n");
    ns
}

fn all(table: &mut Table) -> Vec<Flow> {
    let mut flows = Vec::new();
    let pass = table.each(|flow| flows.push(*flow)).unwrap();
    assert_eq!((pass.flows, pass.others), (flows.len() as u64, 0));
    flows
}

fn connect(ns: &Netns, to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().unwrap();
    ns.within(|| TcpStream::connect_timeout(&to, Duration::from_secs(10)).unwrap()).unwrap()
}

#[test]
fn real_flows_are_told_with_their_states_and_translations() {
    let (here, there) = pair();
    let mut table = here.within(Table::open).unwrap().unwrap();
    let listen = |at: &str| there.within(|| TcpListener::bind(at).unwrap()).unwrap();
    let (web, other, other6) = (listen("0.0.0.0:80"), listen("0.0.0.0:443"), listen(&format!("[{THERE6}]:443")));
    let open = [
        (connect(&here, &format!("{NAME}:8080")), web.accept().unwrap()),
        (connect(&here, &format!("{THERE}:443")), other.accept().unwrap()),
        (connect(&here, &format!("[{THERE6}]:443")), other6.accept().unwrap()),
    ];
    let names = there.within(|| UdpSocket::bind(format!("{THERE}:53")).unwrap()).unwrap();
    let asking = here.within(|| UdpSocket::bind(format!("{HERE}:0")).unwrap()).unwrap();
    for socket in [&names, &asking] {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    asking.send_to(b"?", format!("{THERE}:53")).unwrap();
    let (_, peer) = names.recv_from(&mut [0; 4]).unwrap();
    assert_eq!(peer.ip(), addr(GUISE).ip());
    names.send_to(b"!", peer).unwrap();
    asking.recv_from(&mut [0; 4]).unwrap();
    let silent = there.within(|| UdpSocket::bind(format!("[{THERE6}]:123")).unwrap()).unwrap();
    here.within(|| UdpSocket::bind(format!("[{HERE6}]:0")).unwrap().send_to(b"?", format!("[{THERE6}]:123")).unwrap()).unwrap();
    let pinged = here.within(|| Command::new("ping").args(["-c", "1", "-W", "10", THERE]).stdout(Stdio::null()).status().unwrap()).unwrap();
    assert!(pinged.success());

    let flows: BTreeMap<_, _> = all(&mut table).into_iter().map(|flow| ((flow.protocol, flow.destination, flow.port), flow)).collect();
    let told = |protocol, to: &str, port| {
        let flow = flows.get(&(protocol, addr(to), port)).unwrap_or_else(|| panic!("{protocol} {to} {port} in {flows:#?}"));
        assert!(flow.left > Span::ZERO, "{flow:?}");
        assert_eq!(flow.source, addr(if to.contains(':') { HERE6 } else { HERE }));
        (flow.tcp, flow.replied, (flow.source_nat, flow.destination_nat))
    };
    let up = Some(TcpState::Established);
    assert_eq!(told(TCP, NAME, 8080), (up, true, (false, true)));
    assert_eq!(told(TCP, THERE, 443), (up, true, (false, false)));
    assert_eq!(told(TCP, THERE6, 443), (up, true, (false, false)));
    assert_eq!(told(UDP, THERE, 53), (None, true, (true, false)));
    assert_eq!(told(UDP, THERE6, 123), (None, false, (false, false)));
    assert_eq!(told(ICMP, THERE, 0).0, None);
    let of = |to: &str| flows[&(TCP, addr(to), if to == NAME { 8080 } else { 443 })];
    assert_eq!(of(NAME).source_port, open[0].0.local_addr().unwrap().port());
    assert!(of(THERE).assured && !flows[&(UDP, addr(THERE6), 123)].assured);
    drop((open, silent));
}

#[test]
fn a_table_is_gauged_without_being_read() {
    let ns = Netns::new().unwrap();
    ns.within(|| {
        let mut table = Table::open().unwrap();
        let max = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap();
        let expected = Gauge { max: max.trim().parse().unwrap(), ..Gauge::default() };
        assert_eq!(table.gauge().unwrap(), expected, "nothing was ever tracked here");
        assert_eq!(all(&mut table), []);

        let (a, b) = (addr("203.0.113.7"), addr(HERE));
        let seeds = (1..=1000).map(|port| Seed::new(UDP, (a, port), (b, 53)));
        let mut socket = Socket::open(NETFILTER).unwrap();
        assert_eq!(plant(&mut socket, seeds.clone()).unwrap(), 1000);
        assert_eq!(plant(&mut socket, seeds).unwrap(), 0, "they stand already");
        assert_eq!(table.gauge().unwrap(), Gauge { count: 1000, ..expected });
        assert_eq!(all(&mut table).len(), 1000);
    })
    .unwrap();
}

#[test]
fn what_is_planted_is_told_as_it_was_planted() {
    let ns = Netns::new().unwrap();
    ns.within(|| {
        let (a, b) = (addr("203.0.113.7"), addr(HERE));
        let (a6, b6) = (addr("2001:db8::7"), addr(HERE6));
        let icmp =
            |source, destination, kind| conntrack::Tuple { source, destination, protocol: ICMP, l4: L4::Icmp { id: 7, kind, code: 0 } };
        let mut ping = Seed::new(ICMP, (a, 0), (b, 0));
        (ping.orig, ping.reply) = (icmp(a, b, 8), icmp(b, a, 0));
        let seeds = [
            Seed { tcp: Some(TcpState::SynSent), status: 0, timeout: 60, ..Seed::new(TCP, (a, 1), (b, 22)) },
            Seed { zone: 5, ..Seed::new(TCP, (a, 1), (b, 22)) },
            Seed::new(UDP, (a6, 1), (b6, 53)),
            ping,
        ];
        assert_eq!(plant(&mut Socket::open(NETFILTER).unwrap(), seeds).unwrap(), 4);
        let mut flows = all(&mut Table::open().unwrap());
        flows.sort_by_key(|flow| (flow.protocol, flow.assured));
        let brief: Vec<_> = flows.iter().map(|f| (f.protocol, f.source, f.source_port, f.port, f.tcp, f.replied, f.assured)).collect();
        let expected = [
            (ICMP, a, 0, 0, None, true, true),
            (TCP, a, 1, 22, Some(TcpState::SynSent), false, false),
            (TCP, a, 1, 22, Some(TcpState::Established), true, true),
            (UDP, a6, 1, 53, None, true, true),
        ];
        assert_eq!(brief, expected, "both zones have theirs");
        assert!(flows[1].left <= Span::secs(60) && flows[2].left > Span::secs(60));
    })
    .unwrap();
}

#[test]
fn who_may_not_is_told_what_is_needed() {
    let ns = alone();
    let errors = ns.within(|| {
        // SAFETY: plain system call; as such, other than through libc, it changes the calling thread alone, which ends here.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        let mut table = Table::open().unwrap();
        [table.gauge().map(drop), table.each(|_| {}).map(drop), Listener::open(1).map(drop)].map(Result::unwrap_err)
    });
    for error in errors.unwrap() {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
    }
}

/// Opens so many flows, one a port.
fn storm(ns: &Netns, flows: u16) {
    ns.within(|| {
        let socket = UdpSocket::bind((addr(HERE).ip(), 0)).unwrap();
        let own = socket.local_addr().unwrap().port();
        for port in (1..=flows + 1).filter(|port| *port != own).take(flows.into()) {
            socket.send_to(b"?", (addr(HERE).ip(), port)).unwrap();
        }
    })
    .unwrap();
}

/// What is heard until nothing more comes; loopback has told of every packet when it was sent.
fn hear(listener: &mut Listener) -> (Heard, Vec<Flow>) {
    let mut flows = Vec::new();
    let heard = listener.drain(|flow| flows.push(*flow)).unwrap();
    (heard, flows)
}

#[test]
fn new_flows_are_heard_once_each_and_old_ones_never() {
    let ns = alone();
    storm(&ns, 5);
    let mut listener = ns.within(|| Listener::open(1)).unwrap().unwrap();
    assert_eq!(hear(&mut listener).0, Heard::default());
    storm(&ns, 400);
    let (heard, flows) = hear(&mut listener);
    assert_eq!((heard, listener.one_in()), (Heard { flows: 400, lost: false }, 1));
    let ports: std::collections::BTreeSet<_> = flows.iter().map(|flow| flow.port).collect();
    assert_eq!(ports.len(), 400);
    let (ip, first): (IpAddr, _) = (addr(HERE).ip(), flows[0]);
    assert!(flows.iter().all(|flow| flow.source.ip() == ip && flow.protocol == UDP && !flow.replied && !flow.assured), "{first:?}");
    // What is ended or changed is not new.
    let mut table = ns.within(Table::open).unwrap().unwrap();
    assert_eq!(table.gauge().unwrap().count, 405);
    assert_eq!(hear(&mut listener).0, Heard::default());
}

#[test]
fn one_in_some_is_picked_by_chance() {
    const ALL: u16 = 8192;
    let ns = alone();
    let mut listener = ns.within(|| Listener::open(8)).unwrap().unwrap();
    storm(&ns, ALL);
    let (heard, _) = hear(&mut listener);
    assert!(!heard.lost);
    // 1,024 are expected, with a deviation of 30; twelve of them on either side.
    assert!((664..=1384).contains(&heard.flows), "{heard:?}");
    for wrong in [0, 3, 100] {
        assert_eq!(ns.within(|| Listener::open(wrong)).unwrap().unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_storm_that_is_too_much_is_told_and_survived() {
    let ns = alone();
    let mut listener = ns.within(|| Listener::with_buffer(1, 4096)).unwrap().unwrap();
    storm(&ns, 2000);
    let (heard, _) = hear(&mut listener);
    assert!(heard.lost && heard.flows < 2000, "{heard:?}");
    let again = ns.within(|| UdpSocket::bind((addr(HERE).ip(), 0)).unwrap()).unwrap();
    again.send_to(b"?", (addr(HERE).ip(), 9)).unwrap();
    let began = Instant::now();
    let own = again.local_addr().unwrap().port();
    loop {
        let (heard, flows) = hear(&mut listener);
        if flows.iter().any(|flow| (flow.source_port, flow.port) == (own, 9)) {
            assert!(!heard.lost);
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "the new flow is not heard");
    }
}

#[test]
fn a_kernel_that_is_told_to_be_silent_is_an_error_with_a_way_out() {
    let ns = alone();
    let error = ns.within(|| {
        std::fs::write("/proc/sys/net/netfilter/nf_conntrack_events", "0").unwrap();
        Listener::open(1).map(drop).unwrap_err()
    });
    let error = error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("set it to 2"), "{error}");
}
