//! Against the real kernel, in namespaces of its own. Needs root, iproute2, nftables and conntrack.
//!
//! ```text
//!  client: 192.0.2.2, 192.0.2.3, 2001:db8:1::2, 2001:db8:1::3, 2001:db8:2::2
//!    |
//!  gateway: lan 192.0.2.1, 2001:db8:1::1, 2001:db8:2::1; port 5300 of it is the server's 53
//!    |      wan 198.51.100.1, 2001:db8:5::1
//!  server: 198.51.100.2, 2001:db8:5::2
//! ```

mod packets;
mod property;
mod table;
mod timeouts;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use palisade_core::flood::settings::Service;
use palisade_core::flood::timeouts::Timeouts;
use palisade_core::flood::wanted::{Culprit, Limit, Wanted};
use palisade_core::time::Span;

use crate::netns::Netns;
use crate::netns::trying::{echoes, soon};

const SERVER: &str = "198.51.100.2";
const SERVER6: &str = "2001:db8:5::2";

/// Runs a shell script in a namespace, which must succeed; its output.
#[track_caller]
fn sh(netns: &Netns, script: &str) -> String {
    let out = netns.within(|| Command::new("sh").args(["-ec", script]).output().unwrap()).unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[track_caller]
fn put(netns: &Netns, wanted: &Wanted) {
    assert_eq!(netns.within(|| super::set(wanted, &Timeouts::new())).unwrap().unwrap(), super::Done::All);
    assert!(is(netns, wanted));
}

fn is(netns: &Netns, wanted: &Wanted) -> bool {
    netns.within(|| super::stands(wanted, &Timeouts::new())).unwrap().unwrap() == super::Standing::All
}

fn source(prefix: &str) -> Culprit {
    Culprit::Source { prefix: prefix.parse().unwrap() }
}

fn limit(whose: Culprit, rate: u32, burst: u32) -> Limit {
    Limit { whose, rate, burst, timeouts: Timeouts::new() }
}

fn limits(limits: Vec<Limit>) -> Wanted {
    Wanted { limits, ..Wanted::default() }
}

fn times(all: &[(&str, u64)]) -> Timeouts {
    all.iter().map(|(name, secs)| ((*name).to_owned(), Span::secs(*secs))).collect()
}

fn service(protocol: u8, ports: &[u16], prefixes: &[&str], timeouts: &[(&str, u64)]) -> Service {
    let prefixes = prefixes.iter().map(|text| text.parse().unwrap()).collect();
    Service { protocol, ports: ports.to_vec(), prefixes, timeouts: times(timeouts) }
}

struct Lab {
    gateway: Netns,
    client: Netns,
    server: Netns,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { gateway: Netns::new().unwrap(), client: Netns::new().unwrap(), server: Netns::new().unwrap() };
        let mut wiring = lab.gateway.wiring().unwrap();
        wiring.cable("lan0", &lab.client, "eth0").unwrap();
        wiring.cable("wan0", &lab.server, "eth0").unwrap();
        sh(
            &lab.gateway,
            "ip link set lo up; ip link set lan0 up; ip link set wan0 up
             ip addr add 192.0.2.1/24 dev lan0; ip addr add 2001:db8:1::1/64 dev lan0 nodad; ip addr add 2001:db8:2::1/64 dev lan0 nodad
             ip addr add 198.51.100.1/24 dev wan0; ip addr add 2001:db8:5::1/64 dev wan0 nodad
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
             nft 'table ip nat { chain pre { type nat hook prerouting priority dstnat; udp dport 5300 dnat to 198.51.100.2:53; }; }'
             echo 600 > /proc/sys/net/netfilter/nf_conntrack_udp_timeout",
        );
        sh(
            &lab.client,
            "ip link set lo up; ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0; ip addr add 192.0.2.3/24 dev eth0
             for a in 1::2 1::3 2::2; do ip addr add 2001:db8:$a/64 dev eth0 nodad; done
             ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8:1::1",
        );
        sh(
            &lab.server,
            "ip link set lo up; ip link set eth0 up; ip addr add 198.51.100.2/24 dev eth0; ip addr add 2001:db8:5::2/64 dev eth0 nodad
             ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:5::1",
        );
        lab
    }

    #[track_caller]
    fn set(&self, wanted: &Wanted) {
        put(&self.gateway, wanted);
    }

    fn dropped(&self) -> BTreeMap<Culprit, u64> {
        self.gateway.within(super::dropped).unwrap().unwrap().into_iter().collect()
    }

    /// The gateway's states with all of `texts` in them, as conntrack(8) tells.
    fn states(&self, texts: &[&str]) -> Vec<String> {
        let all = sh(&self.gateway, "conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
        all.lines().filter(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned).collect()
    }
}

/// A server for datagrams that takes what comes.
fn sink(netns: &Netns, at: &str) -> UdpSocket {
    let socket = netns.within(|| UdpSocket::bind(at).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    socket
}

/// The senders of what has come since last time.
fn arrived(sink: &UdpSocket) -> Vec<SocketAddr> {
    let mut buffer = [0; 8];
    std::iter::from_fn(|| sink.recv_from(&mut buffer).ok().map(|(_, from)| from)).collect()
}

/// Ports that no flow of this process had yet: one that is used twice is the same flow again.
static PORTS: AtomicU16 = AtomicU16::new(20_000);

/// Opens so many flows of one datagram each from this address.
fn open(netns: &Netns, from: &str, to: &str, flows: usize) {
    netns.within(|| open_here(from, to, flows)).unwrap();
}

/// The same as another user.
fn open_as(netns: &Netns, uid: u32, from: &str, to: &str, flows: usize) {
    netns
        .within(|| {
            // SAFETY: plain system call; as such, other than through libc, it changes the calling thread alone.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }, 0);
            open_here(from, to, flows);
        })
        .unwrap();
}

fn open_here(from: &str, to: &str, flows: usize) {
    let from: std::net::IpAddr = from.parse().unwrap();
    for _ in 0..flows {
        let socket = UdpSocket::bind((from, PORTS.fetch_add(1, Ordering::Relaxed))).unwrap();
        // What a limit drops here, on its way out, is refused to the sender.
        let _ = socket.send_to(b"?", to);
    }
}

fn listen(netns: &Netns, at: &str) -> TcpListener {
    netns.within(|| TcpListener::bind(at).unwrap()).unwrap()
}

/// Both ends of a connection from an address, that must come about.
#[track_caller]
fn joined(from: &Netns, source: &str, to: &str, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = from.within(|| bound(source, to, Duration::from_secs(20)).unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    (client, server)
}

/// Connects from an IPv4 address, in the calling thread's namespace.
fn bound(source: &str, to: &str, within: Duration) -> std::io::Result<TcpStream> {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    let (source, to): (std::net::Ipv4Addr, std::net::SocketAddrV4) = (source.parse().unwrap(), to.parse().unwrap());
    let name = |addr: std::net::Ipv4Addr, port: u16| libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap(),
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(addr).to_be() },
        sin_zero: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_in>()).unwrap();
    // SAFETY: plain system call; the descriptor is new and owned here alone.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    };
    let (source, to) = (name(source, 0), name(*to.ip(), to.port()));
    // SAFETY: live addresses of the length told, on a socket that is open.
    unsafe {
        assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const source).cast(), len), 0);
        let _ = libc::connect(socket.as_raw_fd(), (&raw const to).cast(), len);
    }
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one live pollfd.
    if unsafe { libc::poll(&raw mut poll, 1, i32::try_from(within.as_millis()).unwrap()) } != 1 {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    let stream = TcpStream::from(socket);
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    stream.set_nonblocking(false)?;
    Ok(stream)
}
