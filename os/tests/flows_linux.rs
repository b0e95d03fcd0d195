//! Ending connections for real, in network namespaces of our own: attacker and bystander (one
//! namespace), a gateway that is us, and a server behind it.
//!
//! ```text
//!  outside 198.51.100.66 (attacker) .10 (bystander), 2001:db8:1::66 ::10
//!     |          gateway 198.51.100.1 192.0.2.1, 2001:db8:1::1 2001:db8:2::1; DNAT 8080 -> server:80, masquerade
//!  inside  192.0.2.80, 2001:db8:2::80
//! ```
//! `conntrack` and `ss` are the witnesses. Needs root, iproute2, nftables and conntrack.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use palisade_core::bans::wall::Ports;
use palisade_os::flows::linux::Linux;
use palisade_os::flows::{Flows, Killed, Target};

const ATTACKER: &str = "198.51.100.66";
const BYSTANDER: &str = "198.51.100.10";
const ATTACKER6: &str = "2001:db8:1::66";
const BYSTANDER6: &str = "2001:db8:1::10";

/// Three namespaces, removed in the end.
struct Lab {
    name: String,
}

static LABS: AtomicU32 = AtomicU32::new(0);

fn sh(script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(out.status.success(), "{script}\n{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

impl Lab {
    fn new() -> Self {
        let name = format!("palflows{}x{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let lab = Self { name };
        let (o, g, i) = (lab.ns("outside"), lab.ns("gateway"), lab.ns("inside"));
        sh(&format!(
            "ip netns add {o}; ip netns add {g}; ip netns add {i}
             for n in {o} {g} {i}; do ip -n $n link set lo up; done
             ip -n {g} link add out type veth peer name eth0 netns {o}
             ip -n {g} link add in type veth peer name eth0 netns {i}
             ip -n {o} address add {ATTACKER}/24 dev eth0; ip -n {o} address add {BYSTANDER}/24 dev eth0
             ip -n {o} address add {ATTACKER6}/64 dev eth0 nodad; ip -n {o} address add {BYSTANDER6}/64 dev eth0 nodad
             ip -n {g} address add 198.51.100.1/24 dev out; ip -n {g} address add 192.0.2.1/24 dev in
             ip -n {g} address add 2001:db8:1::1/64 dev out nodad; ip -n {g} address add 2001:db8:2::1/64 dev in nodad
             ip -n {i} address add 192.0.2.80/24 dev eth0; ip -n {i} address add 2001:db8:2::80/64 dev eth0 nodad
             ip -n {o} link set eth0 up; ip -n {i} link set eth0 up; ip -n {g} link set out up; ip -n {g} link set in up
             ip -n {i} route add default via 192.0.2.1; ip -n {i} route add default via 2001:db8:2::1
             ip netns exec {g} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
             ip netns exec {g} sh -c 'cd /proc/sys/net/netfilter; for t in icmp_timeout icmpv6_timeout udp_timeout udp_timeout_stream; do echo 600 > nf_conntrack_$t; done'
             ip netns exec {g} nft -f - <<'R'
             table inet nat {{
               chain zones {{ type filter hook prerouting priority raw; tcp dport 9005 ct zone set 5; }}
               chain zout {{ type filter hook output priority raw; tcp sport 9005 ct zone set 5; }}
               chain pre {{ type nat hook prerouting priority dstnat; iif out tcp dport 8080 dnat ip to 192.0.2.80:80; iif in tcp dport 7001 dnat ip to {ATTACKER}:7000; iif out tcp dport 8080 dnat ip6 to [2001:db8:2::80]:80; }}
               chain post {{ type nat hook postrouting priority srcnat; oif out ip saddr 192.0.2.0/24 masquerade; oif out ip6 saddr 2001:db8:2::/64 masquerade; }}
               chain track {{ type filter hook input priority 0; ct state new counter; }}
             }}\nR\n"
        )
        .replace("\\n", "\n"));
        lab
    }

    fn ns(&self, what: &str) -> String {
        format!("{}{what}", self.name)
    }

    /// Does something within a namespace; sockets made there stay there.
    fn within<T: Send>(&self, what: &str, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.ns(what));
        std::thread::scope(|scope| {
            let run = scope.spawn(move || {
                let ns = std::fs::File::open(path).unwrap();
                // SAFETY: the descriptor is open; only the calling thread, which ends here, changes its namespace.
                let rc = unsafe { libc::setns(ns.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(rc, 0, "setns: {}", std::io::Error::last_os_error());
                work()
            });
            run.join().unwrap()
        })
    }

    fn exec(&self, what: &str, script: &str) -> String {
        sh(&format!("ip netns exec {} sh -ec '{script}'", self.ns(what)))
    }

    /// The gateway's states with `text` in them, as conntrack(8) tells.
    fn states(&self, text: &str) -> Vec<String> {
        let all = self.exec("gateway", "conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
        all.lines().filter(|line| line.contains(text)).map(ToOwned::to_owned).collect()
    }

    fn tcp(&self, from: &str, to: &str) -> TcpStream {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        self.within("outside", || connect(from, to))
    }

    fn listen(&self, what: &str, at: &str) -> TcpListener {
        self.within(what, || TcpListener::bind(at).unwrap())
    }

    fn kill(&self, targets: &[Target]) -> Killed {
        self.within("gateway", || {
            // The kernel's filter and our own find the same.
            let seen = [0, u32::MAX].map(|few| {
                let mut flows = Linux::open().unwrap().listing_plainly_up_to(few);
                targets.iter().map(|target| flows.list(target.prefix, 0).unwrap().states).sum::<u64>()
            });
            assert_eq!(seen[0], seen[1]);
            Linux::open().unwrap().listing_plainly_up_to(0).kill(targets).unwrap()
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for what in ["outside", "gateway", "inside"] {
            let _ = Command::new("ip").args(["netns", "del", &self.ns(what)]).status();
        }
    }
}

/// Connects from a given source address, port 0 for any.
fn connect(from: SocketAddr, to: SocketAddr) -> TcpStream {
    TcpStream::from(connected(from, to, libc::SOCK_STREAM, 0))
}

/// One ICMP echo and its answer.
fn ping(from: SocketAddr, to: SocketAddr) {
    let (protocol, kind) = if from.is_ipv4() { (libc::IPPROTO_ICMP, 8) } else { (libc::IPPROTO_ICMPV6, 128) };
    let socket = UdpSocket::from(connected(from, to, libc::SOCK_RAW, protocol));
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // Type, code, checksum, id 7, sequence 1. The kernel writes ICMPv6's checksum itself.
    let sum = !(0x0800u16 + 7 + 1);
    let [high, low] = sum.to_be_bytes();
    socket.send(&[kind, 0, high, low, 0, 7, 0, 1]).unwrap();
    socket.recv(&mut [0; 64]).unwrap();
}

fn connected(from: SocketAddr, to: SocketAddr, kind: i32, protocol: i32) -> OwnedFd {
    let domain = if from.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: plain system call; the descriptor is new and owned by nobody else.
    let stream = unsafe { OwnedFd::from_raw_fd(libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol)) };
    for (addr, call) in [(from, libc::bind as unsafe extern "C" fn(_, _, _) -> _), (to, libc::connect)] {
        // SAFETY: sockaddr_in6 is plain integers, zero is a valid value.
        let mut raw: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        let len = match addr {
            SocketAddr::V4(v4) => {
                let bytes = libc::sockaddr_in {
                    sin_family: 2,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: sockaddr_in is smaller than sockaddr_in6 and both are plain integers.
                unsafe { (&raw mut raw).cast::<libc::sockaddr_in>().write(bytes) };
                16
            }
            SocketAddr::V6(v6) => {
                raw.sin6_family = 10;
                raw.sin6_port = v6.port().to_be();
                raw.sin6_addr.s6_addr = v6.ip().octets();
                28
            }
        };
        // SAFETY: the address is live and `len` is within it.
        let rc = unsafe { call(stream.as_raw_fd(), (&raw const raw).cast::<libc::sockaddr>(), len) };
        assert_eq!(rc, 0, "{from} to {to}: {}", std::io::Error::last_os_error());
    }
    stream
}

fn all(prefix: &str) -> Target {
    Target { prefix: prefix.parse().unwrap(), ports: Ports::All }
}

fn keys(lines: &[String]) -> BTreeSet<String> {
    // Without the remaining seconds, which run.
    lines.iter().map(|line| line.split_whitespace().filter(|w| w.contains('=')).collect::<Vec<_>>().join(" ")).collect()
}

/// The stream works in both directions.
fn echoes(a: &mut TcpStream, b: &mut TcpStream) {
    for stream in [&*a, &*b] {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    let mut buf = [0; 4];
    a.write_all(b"ping").unwrap();
    b.read_exact(&mut buf).unwrap();
    b.write_all(b"pong").unwrap();
    a.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"pong");
}

#[test]
fn every_kind_of_state_goes_and_the_bystanders_stay() {
    let lab = Lab::new();
    let inside = lab.listen("inside", "[::]:80");
    let outside = lab.listen("outside", "[::]:7000");
    let zone = lab.listen("gateway", "[::]:9005");
    let udp = lab.within("gateway", || UdpSocket::bind("[::]:5353").unwrap());
    let mut open = Vec::new();
    for (a, gateway, behind) in [
        (format!("{ATTACKER}:0"), "198.51.100.1", "192.0.2.80"),
        (format!("{BYSTANDER}:0"), "198.51.100.1", "192.0.2.80"),
        (format!("[{ATTACKER6}]:0"), "[2001:db8:1::1]", "[2001:db8:2::80]"),
        (format!("[{BYSTANDER6}]:0"), "[2001:db8:1::1]", "[2001:db8:2::80]"),
    ] {
        open.push((lab.tcp(&a, &format!("{gateway}:8080")), inside.accept().unwrap().0)); // DNAT
        open.push((lab.tcp(&a, &format!("{gateway}:9005")), zone.accept().unwrap().0)); // local, in zone 5
        let to = format!("{}:7000", a.rsplit_once(':').unwrap().0);
        let from = format!("{behind}:0");
        let snat = lab.within("inside", || connect(from.parse().unwrap(), to.parse().unwrap())); // masqueraded
        open.push((snat, outside.accept().unwrap().0));
        lab.within("outside", || {
            UdpSocket::bind(&a).unwrap().send_to(b"?", format!("{gateway}:5353")).unwrap();
        });
        let mut buf = [0; 8];
        let (_, peer) = udp.recv_from(&mut buf).unwrap();
        udp.send_to(b"!", peer).unwrap();
        lab.within("outside", || ping(a.parse().unwrap(), format!("{gateway}:0").parse().unwrap()));
    }
    // A name of ours that leads to the attacker: he is in the answers alone.
    let disguised = lab.within("inside", || connect("192.0.2.80:0".parse().unwrap(), "203.0.113.5:7001".parse().unwrap()));
    open.push((disguised, outside.accept().unwrap().0));
    for (a, b) in &mut open {
        echoes(a, b);
    }
    for who in [ATTACKER, BYSTANDER, ATTACKER6, BYSTANDER6] {
        let seen = lab.states(who);
        assert!(seen.len() >= 5, "DNAT, zone, SNAT, UDP, ICMP of {who}: {seen:#?}");
        assert!(seen.iter().any(|s| s.contains("zone=5")), "{seen:#?}");
        let listed = lab.within("gateway", || Linux::open().unwrap().list(who.parse().unwrap(), 100).unwrap());
        assert_eq!((listed.states, listed.sockets), (seen.len() as u64, 1), "{listed:#?}");
        assert!(listed.flows.iter().any(|f| f.behind.is_some_and(|b| b.to_string().ends_with(":80") || b.to_string() == "192.0.2.80")));
    }
    let before = (keys(&lab.states(BYSTANDER)), keys(&lab.states(BYSTANDER6)));

    // By host and by prefix, IPv4 (which the kernel may filter) and IPv6 (whose filter would take the others).
    for (who, target) in [(ATTACKER, "198.51.100.66/32"), (ATTACKER6, "2001:db8:1::60/124")] {
        let there = lab.states(who).len() as u64;
        let killed = lab.kill(&[all(target)]);
        assert!(killed.sockets == 1 && killed.states >= there - 1, "{killed:?}, there were {there}");
        let left = lab.states(who);
        assert_eq!(left, Vec::<String>::new());
        assert_eq!(lab.kill(&[all(target)]), Killed::default(), "nothing to kill is success");
    }
    assert_eq!((keys(&lab.states(BYSTANDER)), keys(&lab.states(BYSTANDER6))), before);
    for (a, b) in open.iter_mut().skip(3).take(3) {
        echoes(a, b);
    }
    for (a, b) in open.iter_mut().skip(9).take(3) {
        echoes(a, b);
    }
}

#[test]
fn two_thousand_connections_go_and_one_idle_reader_knows_at_once() {
    const MANY: usize = 2000;
    let lab = Lab::new();
    // A dual-stack listener: IPv4 peers are mapped sockets in the IPv6 listing.
    let listener = lab.listen("gateway", "[::]:9000");
    let mut clients = Vec::new();
    let mut servers = Vec::new();
    raise_files();
    for _ in 0..MANY {
        clients.push(lab.tcp(&format!("{ATTACKER}:0"), "198.51.100.1:9000"));
        servers.push(listener.accept().unwrap().0);
    }
    let mut bystander = (lab.tcp(&format!("{BYSTANDER}:0"), "198.51.100.1:9000"), listener.accept().unwrap().0);
    // An idle stream: its reader waits.
    let mut idle = servers.pop().unwrap();
    idle.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let reader = std::thread::spawn(move || idle.read(&mut [0; 1]).map_err(|e| (e.kind(), e.raw_os_error())));

    // The wall stands first, as in the house: else resets would race with what the test looks at.
    lab.exec("gateway", &format!("nft add table inet wall; nft add chain inet wall pre {{ type filter hook prerouting priority -310\\; }}; nft add chain inet wall out {{ type filter hook output priority -310\\; }}; nft add rule inet wall pre ip saddr {ATTACKER} drop; nft add rule inet wall out ip daddr {ATTACKER} drop"));
    let killed = lab.kill(&[all("198.51.100.64/26")]);
    assert_eq!(killed, Killed { sockets: MANY as u64, states: MANY as u64 });
    assert_eq!(reader.join().unwrap(), Err((ErrorKind::ConnectionAborted, Some(libc::ECONNABORTED))));
    assert_eq!(lab.exec("gateway", "ss -Htn state connected sport = :9000").lines().filter(|l| l.contains(ATTACKER)).count(), 0);
    assert_eq!(lab.exec("gateway", "ss -Htln sport = :9000").lines().count(), 1, "the listening socket stays");
    assert_eq!(lab.states(ATTACKER), Vec::<String>::new());
    echoes(&mut bystander.0, &mut bystander.1);
    lab.tcp(&format!("{BYSTANDER}:0"), "198.51.100.1:9000");
    drop(clients);
}

fn raise_files() {
    let limit = libc::rlimit { rlim_cur: 16384, rlim_max: 16384 };
    // SAFETY: the struct is live; only this process's limit changes.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

#[test]
fn only_the_named_ports_and_only_connected_udp() {
    let lab = Lab::new();
    let (ssh, web) = (lab.listen("gateway", "0.0.0.0:2222"), lab.listen("gateway", "[::]:8000"));
    let mut kept = (lab.tcp(&format!("{ATTACKER}:0"), "198.51.100.1:8000"), web.accept().unwrap().0);
    let cut = (lab.tcp(&format!("{ATTACKER}:0"), "198.51.100.1:2222"), ssh.accept().unwrap().0);
    let (connected, open) = lab.within("gateway", || {
        let connected = UdpSocket::bind("198.51.100.1:2222").unwrap();
        connected.connect((ATTACKER, 999)).unwrap();
        (connected, UdpSocket::bind("0.0.0.0:2223").unwrap())
    });
    lab.within("outside", || ping(format!("{ATTACKER}:0").parse().unwrap(), "198.51.100.1:0".parse().unwrap()));
    let target = Target { prefix: "198.51.100.66/32".parse().unwrap(), ports: Ports::only([2222, 2223]).unwrap() };
    assert_eq!(lab.kill(&[target]), Killed { sockets: 2, states: 1 });
    let left = lab.states(ATTACKER);
    assert!(left.len() == 2 && left.iter().any(|s| s.contains("dport=8000")) && left.iter().any(|s| s.contains("icmp")), "{left:#?}");
    assert_eq!((&cut.1).read(&mut [0]).unwrap_err().raw_os_error(), Some(libc::ECONNABORTED));
    connected.set_nonblocking(true).unwrap();
    assert_eq!(connected.recv(&mut [0]).unwrap_err().raw_os_error(), Some(libc::ECONNABORTED));
    open.set_nonblocking(true).unwrap();
    assert_eq!(open.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    echoes(&mut kept.0, &mut kept.1);
}

#[test]
fn half_open_and_closing_sockets_are_found() {
    let lab = Lab::new();
    let listener = lab.listen("gateway", "[::]:9000");
    // The answer to the handshake is lost: the gateway keeps a socket in SYN_RECV.
    lab.exec(
        "outside",
        "nft add table ip t; nft add chain ip t in { type filter hook input priority 0\\; }; nft add rule ip t in tcp sport 9000 drop",
    );
    let half = lab.within("outside", || {
        let to: SocketAddr = "198.51.100.1:9000".parse().unwrap();
        TcpStream::connect_timeout(&to, Duration::from_millis(300)).map(drop).unwrap_err().kind()
    });
    assert_eq!(half, ErrorKind::TimedOut);
    // Closed by the server first: TIME_WAIT stays on the gateway.
    let closing = lab.listen("gateway", "[::]:9001");
    let client = lab.tcp(&format!("{ATTACKER}:0"), "198.51.100.1:9001");
    drop(closing.accept().unwrap());
    drop(client);
    let seen = || lab.exec("gateway", "ss -Htan");
    for state in ["SYN-RECV", "TIME-WAIT"] {
        let begin = Instant::now();
        while !seen().contains(state) {
            assert!(begin.elapsed() < Duration::from_secs(20), "no {state}: {}", seen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let killed = lab.kill(&[all("198.51.100.0/24")]);
    assert_eq!(killed.sockets, 2);
    let after = seen();
    assert_eq!(after.lines().map(|line| line.split_whitespace().next().unwrap()).collect::<Vec<_>>(), ["LISTEN", "LISTEN"], "{after}");
    drop(listener);
}

#[test]
fn without_the_capability_it_says_so() {
    let lab = Lab::new();
    let listener = lab.listen("gateway", "[::]:9000");
    let mut open = (lab.tcp(&format!("{ATTACKER}:0"), "198.51.100.1:9000"), listener.accept().unwrap().0);
    let error = lab.within("gateway", || {
        // SAFETY: plain system call; as such, other than through libc, it changes the calling thread alone.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        Linux::open().unwrap().kill(&[all(ATTACKER)]).unwrap_err()
    });
    assert_eq!(error.killed, Killed::default());
    let text = error.to_string();
    assert!(text.contains("end local sockets: CAP_NET_ADMIN") && text.contains("states: CAP_NET_ADMIN"), "{text}");
    echoes(&mut open.0, &mut open.1);
}

#[test]
fn a_namespace_that_tracks_nothing_has_nothing_to_kill() {
    let lab = Lab::new();
    assert_eq!(lab.within("outside", || Linux::open().unwrap().kill(&[all("0.0.0.0/0"), all("::/0")]).unwrap()), Killed::default());
}
