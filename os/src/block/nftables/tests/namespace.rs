//! Network namespaces as threads, and a cable between two of them.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Moves the calling thread, and what it starts, into a new network namespace.
fn unshare() {
    // SAFETY: takes no pointers; it changes only the calling thread.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "these tests need root: {}", io::Error::last_os_error());
    sh("ip link set lo up");
}

/// Runs `work` in a namespace of its own.
pub(in crate::block) fn alone<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        unshare();
        work()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a shell script here, which must succeed; its output.
#[track_caller]
pub(in crate::block) fn sh(script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A thread in another namespace that does what it is told.
pub(in crate::block) struct Peer {
    work: Option<Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<JoinHandle<()>>,
    path: String,
}

impl Peer {
    pub(in crate::block) fn new() -> Self {
        let (work, told) = channel::<Box<dyn FnOnce() + Send>>();
        let (say, heard) = channel();
        let thread = std::thread::spawn(move || {
            unshare();
            // SAFETY: takes nothing and cannot fail.
            say.send(unsafe { libc::gettid() }).unwrap();
            told.into_iter().for_each(|work| work());
        });
        let path = format!("/proc/{}/task/{}/ns/net", std::process::id(), heard.recv().unwrap());
        Self { work: Some(work), thread: Some(thread), path }
    }

    /// Runs `work` over there and waits for it.
    pub(in crate::block) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (say, heard) = channel();
        self.start(move || _ = say.send(work()));
        heard.recv().expect("the work over there panicked")
    }

    /// Runs it and does not wait.
    pub(in crate::block) fn start(&self, work: impl FnOnce() + Send + 'static) {
        self.work.as_ref().unwrap().send(Box::new(work)).unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.work = None;
        let _ = self.thread.take().unwrap().join();
    }
}

/// The wall's side of the cable, and two hosts and two of the other family on the far side.
pub(in crate::block) const WALL4: &str = "192.0.2.1";
pub(in crate::block) const BAD4: &str = "192.0.2.10";
pub(in crate::block) const GOOD4: &str = "192.0.2.20";
pub(in crate::block) const WALL6: &str = "2001:db8::1";
pub(in crate::block) const BAD6: &str = "2001:db8:0:1::10";
pub(in crate::block) const GOOD6: &str = "2001:db8:0:1::20";

/// Lays a cable from this namespace to a new one.
pub(in crate::block) fn cable() -> Peer {
    let peer = Peer::new();
    sh(&format!("ip link add w0 type veth peer name c0 netns {}", peer.path));
    sh(&format!("ip addr add {WALL4}/24 dev w0; ip addr add {WALL6}/32 dev w0 nodad; ip link set w0 up"));
    peer.run(|| {
        sh(&format!("ip addr add {BAD4}/24 dev c0; ip addr add {GOOD4}/24 dev c0"));
        sh(&format!("ip addr add {BAD6}/32 dev c0 nodad; ip addr add {GOOD6}/32 dev c0 nodad; ip link set c0 up"));
    });
    for (from, to) in [(BAD4, WALL4), (BAD6, WALL6), (GOOD4, WALL4), (GOOD6, WALL6)] {
        let reached = peer.run(move || (0..20).any(|_| ping(from, to)));
        assert!(reached, "the cable does not carry {from}");
    }
    peer
}

/// The gateway's addresses towards the server behind it, and the server's.
pub(in crate::block) const INNER4: &str = "198.51.100.1";
pub(in crate::block) const SERVER4: &str = "198.51.100.2";
pub(in crate::block) const INNER6: &str = "2001:db8:2::1";
pub(in crate::block) const SERVER6: &str = "2001:db8:2::2";

/// Makes this namespace, with a [`cable`] to the outside, a gateway: what comes to port 80 goes to
/// port 8080 of a server behind, and connections are tracked. The outside, and the server.
pub(in crate::block) fn gateway() -> (Peer, Peer) {
    let (outside, server) = (cable(), Peer::new());
    sh(&format!("ip link add w1 type veth peer name s0 netns {}", server.path));
    sh(&format!("ip addr add {INNER4}/24 dev w1; ip addr add {INNER6}/48 dev w1 nodad; ip link set w1 up"));
    server.run(|| {
        sh(&format!("ip addr add {SERVER4}/24 dev s0; ip addr add {SERVER6}/48 dev s0 nodad; ip link set s0 up"));
        sh(&format!("ip route add default via {INNER4}; ip -6 route add default via {INNER6}"));
    });
    // The outside lies in the whole /32, the server's network too: the longer prefix needs its own route.
    outside.run(|| sh(&format!("ip route add {SERVER4} via {WALL4}; ip -6 route add {SERVER6} via {WALL6}")));
    sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    sh(&format!(
        "nft 'table inet nat {{
           chain pre {{ type nat hook prerouting priority dstnat;
             ip daddr {WALL4} tcp dport 80 dnat ip to {SERVER4}:8080; ip6 daddr {WALL6} tcp dport 80 dnat ip6 to [{SERVER6}]:8080; }}
           chain track {{ type filter hook forward priority 0; ct state new counter; }}
         }}'"
    ));
    (outside, server)
}

/// An ICMP echo there and back (RFC 792, RFC 4443), from one of several own addresses.
pub(in crate::block) fn ping(from: &str, to: &str) -> bool {
    // type, code, checksum, id, sequence; the kernel fills in ICMPv6's checksum, for ICMP it is done here.
    let (protocol, request, reply, skip) = if to.contains(':') { (58, 128, 129, 0) } else { (1, 8, 0, 20) };
    let checksum = if to.contains(':') { [0, 0] } else { (!0x0800u16).wrapping_sub(0x1234 + 1).to_be_bytes() };
    let echo = [&[request, 0][..], &checksum, &[0x12, 0x34, 0, 1]].concat();
    let socket = UdpSocket::from(bound(from, libc::SOCK_RAW, protocol).unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (storage, len) = raw(at(to, 0));
    // SAFETY: message and address are live for the call, with their own lengths.
    let sent = unsafe { libc::sendto(socket.as_raw_fd(), echo.as_ptr().cast(), echo.len(), 0, (&raw const storage).cast(), len) };
    let until = Instant::now() + Duration::from_millis(300);
    let mut buffer = [0; 200];
    while sent > 0 && Instant::now() < until {
        // SAFETY: the buffer is live, ours, and of the length given.
        let got = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let got = buffer.get(skip..usize::try_from(got).unwrap_or(0)).unwrap_or_default();
        if got.len() >= 8 && got[0] == reply && got[4..8] == echo[4..8] {
            return true;
        }
    }
    false
}

/// A socket bound to one of several own addresses.
fn bound(from: &str, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let family = if from.contains(':') { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: takes no pointers; the result is checked.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    assert!(fd >= 0);
    // SAFETY: the descriptor was just made and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let (storage, len) = raw(at(from, 0));
    // SAFETY: the storage is live for the call and `len` bytes of it hold an address.
    if unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), len) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// The address as the kernel's structure, and its length.
fn raw(addr: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: sockaddr_storage is plain bytes, all zero is a valid value of it.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let (bytes, len): (Vec<u8>, usize) = match addr {
        SocketAddr::V4(a) => ([&2u16.to_ne_bytes()[..], &a.port().to_be_bytes(), &a.ip().octets()].concat(), 16),
        SocketAddr::V6(a) => ([&10u16.to_ne_bytes()[..], &a.port().to_be_bytes(), &[0; 4], &a.ip().octets()].concat(), 28),
    };
    // SAFETY: at most 24 bytes go into the 128 of the storage; both are live and do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut storage).cast(), bytes.len()) };
    (storage, len.try_into().unwrap())
}

/// Connects from one of several own addresses, within a second.
pub(in crate::block) fn connect(from: &str, to: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::from(bound(from, libc::SOCK_STREAM, 0)?);
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (storage, len) = raw(at(to, port));
    // SAFETY: the storage is live for the call and `len` bytes of it hold an address.
    if unsafe { libc::connect(stream.as_raw_fd(), (&raw const storage).cast(), len) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stream)
}
