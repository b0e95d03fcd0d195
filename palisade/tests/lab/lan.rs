//! A gateway with a LAN behind it, and a server far away; those in the LAN who behave, and one who does not.
//!
//! ```text
//!   lan  192.0.2.10..29 ─┐                             outside  203.0.113.0/24, 2001:db8:0:99::/64: every address is
//!        192.0.2.66     ─┴─ 192.0.2.1 victim ── wire ──         the server's, with an echo on port 443 and on port 80
//! ```

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use palisade_core::flood::flow::TCP;
use palisade_core::net::Addr;
use palisade_os::netlink::conntrack::plant::{Seed, plant};
use palisade_os::netlink::socket::{NETFILTER, Socket};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::Lab;
use super::space::{Space, enter};
use super::uplinks::cable;

/// Who floods, in the LAN.
pub const GAMER: &str = "192.0.2.66";
/// The same by IPv6. Its /64 is everybody's in the LAN.
pub const GAMER6: &str = "2001:db8:0:2::66";
/// The port of those who behave: how they fare does not depend on how busy the flooded server is.
pub const WELL: u16 = 443;
/// The port that is flooded.
pub const ILL: u16 = 80;

/// The gateway and its LAN.
pub struct Lan {
    /// With the gateway as its victim.
    pub lab: Lab,
    /// Everybody in the LAN.
    pub lan: Space,
    _servers: Vec<Server>,
}

impl Lan {
    /// Makes one; `None`, loudly, where the test may not.
    pub fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let lan = Space::new("lan");
        let gw = &lab.victim;
        cable(gw, "lan0", &lan, "gw");
        gw.sh("ip addr add 192.0.2.1/24 dev lan0; ip addr add 2001:db8:0:2::1/64 dev lan0 nodad; ip link set lan0 up; \
               sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1; \
               ip route replace 203.0.113.0/24 via 198.51.100.77; ip route replace 2001:db8:0:99::/64 via 2001:db8:0:77::1; \
               ip route add 2001:db8:f000::/36 via 2001:db8:0:77::1");
        lan.sh("ip link set gw up; for n in $(seq 10 29) 66; do ip addr add 192.0.2.$n/24 dev gw; ip addr add 2001:db8:0:2::$n/64 dev gw nodad; done; \
                ip route add default via 192.0.2.1; ip route add default via 2001:db8:0:2::1");
        lab.outside.sh("ip route add local 203.0.113.0/24 dev lo; ip route add local 2001:db8:0:99::/64 dev lo; \
                        ip route add 192.0.2.0/24 via 198.51.100.1; ip route add 2001:db8:0:2::/64 via 2001:db8:0:1::1; \
                        sysctl -qw net.core.somaxconn=4096 net.ipv4.tcp_max_syn_backlog=8192");
        // The gateway translates, as they do, and so it tracks.
        gw.sh("nft 'table ip nat { chain post { type nat hook postrouting priority srcnat; oifname wire ip saddr 192.0.2.0/24 masquerade; }; }; \
               table ip6 seen { chain passing { type filter hook forward priority 0; ct state new counter; }; }'");
        let servers = [ILL, WELL].map(|port| Server::start(&lab.outside, port)).into();
        Some(Self { lab, lan, _servers: servers })
    }

    /// Fills the gateway's table to the last entry with open connections of that host: what its game does in hours.
    pub fn fill(&self, addr: &str) {
        let from: Addr = addr.parse().unwrap();
        let max = max();
        let room = max.saturating_sub(self.count());
        self.lab.victim.within(|| {
            let mut socket = Socket::open(NETFILTER).unwrap();
            let seeds = (0..room).map(|n| {
                let port = u16::try_from(n % 60_000 + 1024).unwrap();
                Seed { timeout: 400_000, ..Seed::new(TCP, (from, port), (server(false, n / 60_000).into(), ILL)) }
            });
            // The last may find no room: that is what is wanted.
            let _ = plant(&mut socket, seeds);
        });
        assert!(self.count() > max - max / 100, "{} of {max} are there", self.count());
    }

    /// How many flows the gateway tracks.
    pub fn count(&self) -> u64 {
        self.lab.victim.sh("cat /proc/sys/net/netfilter/nf_conntrack_count").trim().parse().unwrap()
    }
}

/// How many flows can be tracked: the same in every network namespace of the machine.
pub fn max() -> u64 {
    std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap().trim().parse().unwrap()
}

struct Server {
    stop: Arc<AtomicBool>,
    at: SocketAddr,
    net: std::fs::File,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(space: &Space, port: u16) -> Self {
        let listener = space.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                let mut byte = [0];
                if matches!(stream.read(&mut byte), Ok(1)) {
                    let _ = stream.write_all(&byte);
                }
            }
        });
        Self { stop, at: (Ipv6Addr::LOCALHOST, port).into(), net: space.net(), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let (net, at) = (self.net.try_clone().unwrap(), self.at);
        let _ = spawn(move || {
            enter(&net);
            TcpStream::connect_timeout(&at, Duration::from_secs(1)).map(drop)
        })
        .join();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Twenty hosts that open a connection now and again, exchange a byte and close.
pub struct Neighbours {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Neighbours {
    /// All of them, by IPv4 or IPv6.
    pub fn start(space: &Space, ipv6: bool) -> Self {
        let (stop, good, bad) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads = (10..30u8).map(|n| {
            let (net, stop, good, bad) = (space.net(), Arc::clone(&stop), Arc::clone(&good), Arc::clone(&bad));
            spawn(move || {
                enter(&net);
                let from: IpAddr = if ipv6 { format!("2001:db8:0:2::{n}").parse().unwrap() } else { Ipv4Addr::new(192, 0, 2, n).into() };
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let done = exchange(from, (server(ipv6, turn), WELL).into());
                    if done.is_ok() { &good } else { &bad }.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(200));
                }
            })
        });
        let threads = threads.collect();
        Self { stop, good, bad, threads }
    }

    /// How many of their connections went well, and how many did not.
    pub fn fared(&self) -> (u64, u64) {
        (self.good.load(Ordering::Relaxed), self.bad.load(Ordering::Relaxed))
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One connection with a byte there and back.
fn exchange(from: IpAddr, to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::from(begin(from, to, SocketFlags::CLOEXEC, Duration::from_secs(5))?);
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"!")?;
    stream.read_exact(&mut [0])
}

fn begin(from: IpAddr, to: SocketAddr, flags: SocketFlags, within: Duration) -> std::io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = TcpStream::from(socket_with(family, SocketType::STREAM, flags, None)?);
    socket.set_write_timeout(Some(within))?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    match connect(&socket, &to) {
        Err(error) if error != rustix::io::Errno::INPROGRESS => Err(error.into()),
        _ => Ok(socket.into()),
    }
}

/// One of the server's addresses.
fn server(ipv6: bool, n: u64) -> IpAddr {
    let n = u8::try_from(n % 250 + 1).unwrap();
    if ipv6 { format!("2001:db8:0:99::{n:x}").parse().unwrap() } else { Ipv4Addr::new(203, 0, 113, n).into() }
}

/// What the game opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// TCP connections, which it forgets about.
    Tcp,
    /// A datagram each from ever new ports to ever new addresses.
    Udp,
}

/// The buggy game: opens in a loop, so many a second.
pub struct Game {
    stop: Arc<AtomicBool>,
    opened: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Game {
    /// From an address of the space.
    pub fn start(space: &Space, from: &str, opens: Opens, per_second: u64) -> Self {
        let (stop, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count, net, from) = (Arc::clone(&stop), Arc::clone(&opened), space.net(), from.parse::<IpAddr>().unwrap());
        let thread = spawn(move || {
            enter(&net);
            let began = Instant::now();
            let mut open = VecDeque::new();
            for n in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let to = SocketAddr::new(server(from.is_ipv6(), n), ILL);
                let done = match opens {
                    Opens::Tcp => begin(from, to, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Duration::from_secs(1)),
                    Opens::Udp => UdpSocket::bind((from, 0)).and_then(|socket| socket.send_to(b"game", to).map(|_| socket.into())),
                };
                count.fetch_add(u64::from(done.is_ok()), Ordering::Relaxed);
                // A while, so that the handshake is whole; few enough for the limit of open files.
                open.extend(done);
                if open.len() > 300 {
                    open.pop_front();
                }
                let due = Duration::from_secs_f64(n as f64 / per_second as f64);
                sleep(due.saturating_sub(began.elapsed()));
            }
        });
        Self { stop, opened, thread: Some(thread) }
    }

    /// How many it has opened, or tried to.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
}

impl Drop for Game {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// SYNs with forged sources, of 2001:db8:f000::/36, each another: a connection table's worst. The gateway has one next hop
/// for them all: the kernel's table of neighbours is one for all network namespaces, and other tests need it.
pub struct Forged {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Forged {
    /// Out of the space to an IPv6 address and port, so many a second.
    pub fn start(space: &Space, to: &str, port: u16, per_second: u64) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count, net, to) = (Arc::clone(&stop), Arc::clone(&sent), space.net(), to.parse::<Ipv6Addr>().unwrap());
        let thread = spawn(move || {
            enter(&net);
            // IPPROTO_RAW (255): the packet brings its own header.
            let raw = rustix::net::Protocol::from_raw(255.try_into().unwrap());
            let socket = socket_with(AddressFamily::INET6, SocketType::RAW, SocketFlags::CLOEXEC, Some(raw)).unwrap();
            let began = Instant::now();
            for n in 0..u64::MAX {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let host = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let from = Ipv6Addr::from_bits((0x2001_0db8_f000_0000 | u128::from(n & 0xfff_ffff)) << 64 | u128::from(host));
                let packet = syn(from, to, port, n);
                let at = SocketAddr::new(to.into(), 0);
                count.fetch_add(
                    u64::from(rustix::net::sendto(&socket, &packet, rustix::net::SendFlags::empty(), &at).is_ok()),
                    Ordering::Relaxed,
                );
                if n % 100 == 0 {
                    sleep(Duration::from_secs_f64(n as f64 / per_second as f64).saturating_sub(began.elapsed()));
                }
            }
        });
        Self { stop, sent, thread: Some(thread) }
    }

    /// How many left.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Forged {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An IPv6 packet (RFC 8200 3) with a TCP SYN (RFC 9293 3.1) and its right checksum, without which it is no new flow.
fn syn(from: Ipv6Addr, to: Ipv6Addr, port: u16, n: u64) -> [u8; 60] {
    let mut packet = [0; 60];
    packet[0] = 0x60;
    packet[5] = 20;
    (packet[6], packet[7]) = (TCP, 64);
    packet[8..24].copy_from_slice(&from.octets());
    packet[24..40].copy_from_slice(&to.octets());
    let source = 1024 + u16::try_from(n % 60_000).unwrap();
    packet[40..42].copy_from_slice(&source.to_be_bytes());
    packet[42..44].copy_from_slice(&port.to_be_bytes());
    packet[44..48].copy_from_slice(&u32::try_from(n & 0xffff_ffff).unwrap().to_be_bytes());
    (packet[52], packet[53], packet[54]) = (5 << 4, 2, 0xff);
    let words = |bytes: &[u8]| bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let mut sum = words(&packet[8..]) + 20 + u32::from(TCP);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[56..58].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
    packet
}
