//! FreeBSD: the routing socket (route(4)), getifaddrs(3), and processes by sysctl(3).
//!
//! An administrator is whoever is at the other end of a connection to one of sshd's ports that an sshd process
//! holds which only exists after authentication, as [`super::Links`] wants it:
//!
//! * one whose effective, real and saved user are the same ordinary one, which is not that of sshd's unprivileged
//!   process (where that is not known, this rule is not used);
//! * one of root whose title is that of a session (`sshd: NAME@TERMINAL`).
//!
//! A record in utx.active is no proof beside these: a stale one's process number may be given to the process of
//! somebody who only guesses, and where it names a host there is no address to compare. It covers nobody but root
//! without a terminal and without a command (`ssh -N`), who is therefore not seen.
//!
//! A port on which an ordinary user's sshd process listens is a forward of that user's, and its visitors are anybody.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::slice;

use libc::c_int;
use palisade_core::net::Addr;

use super::processes::{Process, Stream, processes, streams};
use super::sshd::{SERVERS, is_session_title, privsep};
use super::{LinkError, Paths, rtsock};
use crate::bsd::sysctl;

/// Most bytes of the routing table: about 250,000 routes. A router with more names its gateways in the config.
const MOST_ROUTES: usize = 64 << 20;

/// Most bytes of the list of processes: 60,000 of them, more than the kernel has by default.
const MOST_PROCESSES: usize = 64 << 20;

/// Most bytes of one process's open files and of its title.
const MOST_FILES: usize = 4 << 20;
const MOST_TITLE: usize = 64 * 1024;

/// Most routing tables that are read; usual is one.
const MOST_TABLES: u32 = 64;

/// One message of the routing socket: what it can buffer at most by default (net.raw.recvspace) is less.
const MESSAGE: usize = 16 * 1024;

/// How many waiting messages are read at most: in turmoil there is always one more.
const MOST_MESSAGES: usize = 4096;

/// Where what is read is kept.
pub(super) fn default_paths() -> Paths {
    Paths {
        resolv_conf: vec!["/etc/resolv.conf".into()],
        proc: "/proc".into(),
        utmp: "/var/run/utx.active".into(),
        sessions: "/run/systemd/sessions".into(),
        passwd: "/etc/passwd".into(),
        sshd_config: "/etc/ssh/sshd_config".into(),
    }
}

/// The routing socket.
#[derive(Debug)]
pub(super) struct Kernel {
    watch: OwnedFd,
}

impl Kernel {
    /// Opens it and begins to watch.
    pub(super) fn open() -> Result<Self, LinkError> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain system call without pointers; the result is checked.
        let fd = unsafe { libc::socket(libc::PF_ROUTE, kind, libc::AF_UNSPEC) };
        if fd < 0 {
            return Err(LinkError::new("open the routing socket", io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just made, is open and nobody else owns it.
        Ok(Self { watch: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The addresses of all interfaces.
    pub(super) fn own(&mut self) -> io::Result<BTreeSet<Addr>> {
        let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
        // SAFETY: `first` is live and ours; on success the C library writes the head of a list into it, which is
        // freed below and not used after that.
        if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut own = BTreeSet::new();
        let mut next = first;
        while !next.is_null() {
            // SAFETY: not null, and so an entry of the list, which lives until it is freed.
            let entry = unsafe { &*next };
            if !entry.ifa_addr.is_null() {
                let start: *const u8 = entry.ifa_addr.cast();
                // SAFETY: not null, and so a sockaddr of the list, whose first byte is its length in bytes
                // (getifaddrs(3)), so many of which are there to be read.
                let bytes = unsafe { slice::from_raw_parts(start, usize::from(*start)) };
                own.extend(rtsock::address(bytes));
            }
            next = entry.ifa_next;
        }
        // SAFETY: the head that getifaddrs gave, freed once; nothing refers to the list any more.
        unsafe { libc::freeifaddrs(first) };
        Ok(own)
    }

    /// The next hops of the default routes in all tables.
    pub(super) fn gateways(&mut self) -> io::Result<BTreeSet<Addr>> {
        let mut found = BTreeSet::new();
        for table in 0..tables() {
            let name = [libc::CTL_NET, libc::PF_ROUTE, 0, libc::AF_UNSPEC, libc::NET_RT_DUMP, 0, table];
            found.extend(rtsock::gateways(&sysctl::list(&name, MOST_ROUTES)?));
        }
        Ok(found)
    }

    /// Reads what waits: whether addresses or routes that lead out may have changed.
    pub(super) fn changed(&mut self) -> io::Result<bool> {
        let mut changed = false;
        let mut buffer = [0u8; MESSAGE];
        for _ in 0..MOST_MESSAGES {
            // SAFETY: pointer and length are of a live array of ours, which the kernel fills.
            let got = unsafe { libc::read(self.watch.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
            if let Ok(len) = usize::try_from(got) {
                changed |= rtsock::messages(&buffer[..len]).any(rtsock::may_change);
                continue;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(changed),
                io::ErrorKind::Interrupted => {}
                // Some were lost: any of them may have been a change.
                _ if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                _ => return Err(error),
            }
        }
        Ok(true)
    }

    /// The peers of authenticated ssh sessions on these ports.
    pub(super) fn admins(&mut self, paths: &Paths, ports: &[u16]) -> Result<BTreeSet<Addr>, LinkError> {
        let privsep = privsep(&paths.passwd)?;
        let name = [libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PROC];
        let list = sysctl::list(&name, MOST_PROCESSES).map_err(|e| LinkError::new("list the processes", e))?;
        let (mut peers, mut foreign) = (Vec::new(), HashSet::new());
        for process in processes(&list).filter(|process| SERVERS.contains(&process.name.as_str())) {
            let (there, ordinary) = (held(&process), process.user.is_some_and(|user| user != 0));
            foreign.extend(there.iter().filter(|stream| ordinary && stream.peer.is_none()).map(|stream| stream.port));
            if is_after_login(&process, privsep) {
                peers.extend(there);
            }
        }
        let counts = |stream: &Stream| ports.contains(&stream.port) && !foreign.contains(&stream.port);
        Ok(peers.into_iter().filter(counts).filter_map(|stream| stream.peer).collect())
    }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// How many routing tables there are (setfib(2)).
fn tables() -> c_int {
    let mut count = [0; 4];
    let known = sysctl::value(c"net.fibs", &mut count).is_ok_and(|len| len == count.len());
    let count = if known { u32::from_ne_bytes(count) } else { 1 };
    c_int::try_from(count.clamp(1, MOST_TABLES)).unwrap_or(1)
}

/// Whether a server's process is one that only exists once somebody has logged in.
fn is_after_login(process: &Process, privsep: Option<u32>) -> bool {
    match process.user {
        Some(0) => is_session_title(&of_process(process, libc::KERN_PROC_ARGS, MOST_TITLE)),
        Some(user) => privsep.is_some_and(|privsep| user != privsep),
        None => false,
    }
}

/// The stream sockets a process holds.
fn held(process: &Process) -> Vec<Stream> {
    streams(&of_process(process, libc::KERN_PROC_FILEDESC, MOST_FILES)).collect()
}

/// What the kernel tells of a process; nothing of one that is gone, or that we may not look into.
fn of_process(process: &Process, what: c_int, most: usize) -> Vec<u8> {
    let Ok(pid) = c_int::try_from(process.pid) else { return Vec::new() };
    sysctl::list(&[libc::CTL_KERN, libc::KERN_PROC, what, pid], most).unwrap_or_default()
}
