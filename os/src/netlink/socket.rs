//! One netlink socket: requests, acknowledgements, dumps, notifications.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::wire::{self, Message, Messages, flag};

/// `NETLINK_ROUTE`.
pub const ROUTE: i32 = libc::NETLINK_ROUTE;
/// `NETLINK_SOCK_DIAG`.
pub const SOCK_DIAG: i32 = libc::NETLINK_SOCK_DIAG;
/// `NETLINK_NETFILTER`.
pub const NETFILTER: i32 = libc::NETLINK_NETFILTER;
/// `NETLINK_GENERIC`.
pub const GENERIC: i32 = libc::NETLINK_GENERIC;

/// What a receive buffer holds. The kernel sends listings in pieces of at most 32 KiB; a batch's
/// many errors come one a datagram.
const BUFFER: usize = 64 * 1024;

/// How long the kernel may take to answer before it counts as an error. A transaction of 65,536
/// elements takes under 0.2 s here; a commit waits for other transactions on a busy host.
const ANSWER_TIMEOUT: libc::timeval = libc::timeval { tv_sec: 30, tv_usec: 0 };

/// A bound netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    port: u32,
    seq: u32,
    buffer: Vec<u8>,
}

/// What a handler of [`Socket::dump`] wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next message.
    More,
    /// No more, the rest is read and thrown away.
    Enough,
    /// No more, and the rest is not even read: the socket is of no use any more but to be dropped, which ends the listing.
    Leave,
}

/// What the kernel answered to a request that it did not carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its error number.
    pub errno: i32,
    /// Its words, where it has any.
    pub words: Option<String>,
}

impl Socket {
    /// Opens and binds a socket of `protocol` in the calling thread's network namespace.
    pub fn open(protocol: i32) -> io::Result<Self> {
        // SAFETY: plain system call without pointers; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, is open and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut socket = Self { fd, port: 0, seq: 0, buffer: vec![0; BUFFER] };
        socket.bind()?;
        socket.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &1i32)?;
        socket.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1i32)?;
        socket.option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &ANSWER_TIMEOUT)?;
        Ok(socket)
    }

    fn bind(&mut self) -> io::Result<()> {
        // SAFETY: sockaddr_nl is plain integers, all zero is a valid value of it.
        let mut addr: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        addr.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).expect("AF_NETLINK is 16");
        let mut len = libc::socklen_t::try_from(size_of::<libc::sockaddr_nl>()).expect("12 bytes");
        // SAFETY: `addr` is a live sockaddr_nl and `len` its size; the kernel only reads it.
        if unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const addr).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `addr` and `len` are live and ours; the kernel writes at most `len` bytes into `addr`.
        if unsafe { libc::getsockname(self.fd.as_raw_fd(), (&raw mut addr).cast(), &raw mut len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        self.port = addr.nl_pid;
        Ok(())
    }

    fn option<T>(&self, level: i32, name: i32, value: &T) -> io::Result<()> {
        let len = libc::socklen_t::try_from(size_of::<T>()).expect("options are a few bytes");
        // SAFETY: `value` is live for the call and `len` is its exact size; the kernel only reads it.
        let rc = unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Makes room for large sends (a transaction is one send) and many notifications, in bytes.
    /// Beyond the system's limits with CAP_NET_ADMIN, up to them without.
    pub fn buffers(&self, send: i32, receive: i32) -> io::Result<()> {
        self.option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &send).or_else(|_| self.option(libc::SOL_SOCKET, libc::SO_SNDBUF, &send))?;
        self.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &receive).or_else(|_| self.option(libc::SOL_SOCKET, libc::SO_RCVBUF, &receive))
    }

    /// Joins a multicast group of the protocol.
    pub fn join(&self, group: u32) -> io::Result<()> {
        self.option(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, &group)
    }

    /// Leaves it.
    pub fn leave(&self, group: u32) -> io::Result<()> {
        self.option(libc::SOL_NETLINK, libc::NETLINK_DROP_MEMBERSHIP, &group)
    }

    /// Asks the kernel to take the filters of listings seriously (`NETLINK_GET_STRICT_CHK`, Linux 4.20): it lists only
    /// what was asked for, and refuses what it does not understand. An older one lists everything.
    pub fn strict(&self) -> io::Result<()> {
        self.option(libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, &1i32)
    }

    /// Has the kernel ask this classic BPF program about each message before it is put in our queue: the program returns
    /// how many of its bytes to keep, 0 for none of it.
    pub fn filter(&self, program: &mut [libc::sock_filter]) -> io::Result<()> {
        let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // The kernel copies the program during the call and checks it whole; the pointer outlives the call only in `program`,
        // which is not used by it any more.
        self.option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &libc::sock_fprog { len, filter: program.as_mut_ptr() })
    }

    /// Our port id: notifications of what we did ourselves carry it.
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// A sequence number not used before (skips 0, which notifications carry).
    pub fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }

    /// Sends the messages as one datagram, as a transaction must be.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            // SAFETY: the pointer and length are of a live slice; the kernel only reads it.
            let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Receives one datagram. With `wait` false: `WouldBlock` when there is none.
    /// `ENOBUFS` tells that notifications were lost. A datagram from anyone but the kernel is refused.
    pub fn receive(&mut self, wait: bool) -> io::Result<Messages<'_>> {
        let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
        let len = loop {
            // SAFETY: sockaddr_nl is plain integers, all zero is a valid value of it.
            let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
            let mut from_len = libc::socklen_t::try_from(size_of::<libc::sockaddr_nl>()).expect("12 bytes");
            // SAFETY: buffer and address are live, ours, and the lengths given are theirs.
            let got = unsafe {
                libc::recvfrom(
                    self.fd.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    flags,
                    (&raw mut from).cast(),
                    &raw mut from_len,
                )
            };
            match usize::try_from(got) {
                Ok(len) if from.nl_pid == 0 => break len,
                Ok(_) => {}
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() == io::ErrorKind::WouldBlock && wait {
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer within 30 seconds"));
                    }
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        };
        Ok(Messages(&self.buffer[..len]))
    }

    /// Overwrites what was received, for answers that hold secrets.
    pub fn wipe(&mut self) {
        self.buffer.fill(0);
        // Nobody reads it again before it is freed or filled: without this the compiler may leave the zeros out.
        std::hint::black_box(&self.buffer);
    }

    /// Sends one request that lists, and hands each message of the answer to `take`.
    /// Returns whether the listing changed while it was read (`NLM_F_DUMP_INTR`): read again then.
    pub fn dump(&mut self, request: &[u8], seq: u32, mut take: impl FnMut(Message<'_>) -> Next) -> io::Result<bool> {
        self.send(request)?;
        let mut interrupted = false;
        let mut next = Next::More;
        loop {
            for message in self.receive(true)? {
                if message.seq != seq {
                    continue;
                }
                interrupted |= message.flags & flag::DUMP_INTR != 0;
                match message.kind {
                    wire::DONE => match message.errno() {
                        Some(errno @ 1..) => return Err(io::Error::from_raw_os_error(errno)),
                        _ => return Ok(interrupted),
                    },
                    wire::ERROR => match message.errno() {
                        Some(0) => {}
                        Some(errno) => return Err(io::Error::from_raw_os_error(errno)),
                        None => return Err(io::ErrorKind::InvalidData.into()),
                    },
                    _ if next == Next::More => {
                        next = take(message);
                        if next == Next::Leave {
                            return Ok(interrupted);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Sends one request with [`flag::ACK`] and waits for its acknowledgement, handing what comes
    /// before it to `take`.
    pub fn request(&mut self, request: &[u8], seq: u32, take: impl FnMut(Message<'_>)) -> io::Result<()> {
        self.ask(request, seq, take)?.map_err(|refusal| io::Error::from_raw_os_error(refusal.errno))
    }

    /// The same, with the kernel's words where it refuses.
    pub fn ask(&mut self, request: &[u8], seq: u32, mut take: impl FnMut(Message<'_>)) -> io::Result<Result<(), Refusal>> {
        self.send(request)?;
        loop {
            for message in self.receive(true)? {
                if message.seq != seq {
                    continue;
                }
                if message.kind != wire::ERROR {
                    take(message);
                    continue;
                }
                return match message.errno() {
                    Some(0) => Ok(Ok(())),
                    Some(errno) => Ok(Err(Refusal { errno, words: message.words().map(str::to_owned) })),
                    None => Err(io::ErrorKind::InvalidData.into()),
                };
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
