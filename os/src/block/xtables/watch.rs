//! Whether somebody may have changed a filter table since we looked. Says when to look closer, not what.
//!
//! nf_tables tells: by notifications, each with its table, and by a generation number that every
//! transaction moves on by one. So our own transactions can be told from others' by counting them.
//! The kernel's first tables tell nothing, but how many entries they have and how large they are can
//! be asked for in a microsecond; what that does not show, a closer look from time to time does.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use palisade_core::net::Family;
use palisade_core::time::{Span, Tick};

use super::programs::Kind;
use crate::clock;
use crate::netlink::nft::batch::get_generation;
use crate::netlink::nft::{GROUP, named_table, op, operation, parse_generation};
use crate::netlink::socket::{NETFILTER, Socket};
use crate::netlink::wire::Builder;

/// Room for notifications. A reload of a large ruleset is some thousands of them; when more come than
/// fit, that is noticed and the tables are looked at.
const RECEIVE_BUFFER: i32 = 4 << 20;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6` (linux/netfilter.h), in whose tables iptables-nft works.
const FAMILIES: [u8; 2] = [2, 10];

/// The least time between two closer looks that nothing gave a reason for. A look is a run of
/// iptables-legacy-save for each family (2 ms each with few rules); it finds also what leaves the size as
/// it was, as `iptables -F INPUT; iptables -A INPUT -j ACCEPT` does where our jump stood alone.
const EVERY: Span = Span::secs(2);

/// A look that took so long is not repeated before this many times as long: at most 1 % of a processor.
const RARELY: u64 = 100;

/// Watches over the filter tables.
#[derive(Debug)]
pub(super) struct Watch {
    /// Whether a closer look is due.
    due: bool,
    means: Means,
}

#[derive(Debug)]
enum Means {
    Nft(Ears),
    Legacy(Sizes),
}

impl Watch {
    /// Begins to watch, in the calling thread's network namespace.
    pub(super) fn open(kind: Kind) -> io::Result<Self> {
        let means = match kind {
            Kind::Nft => Means::Nft(Ears::open()?),
            Kind::Legacy => Means::Legacy(Sizes::open()?),
        };
        Ok(Self { due: false, means })
    }

    /// Becomes readable when something was told.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.means {
            Means::Nft(ears) => Some(ears.socket.as_fd()),
            Means::Legacy(_) => None,
        }
    }

    /// Whether the tables should be looked at. Asking makes it no, until there is a new reason.
    pub(super) fn due(&mut self) -> io::Result<bool> {
        self.due |= match &mut self.means {
            Means::Nft(ears) => ears.heard_of_change()?,
            Means::Legacy(sizes) => sizes.changed() || clock::now().tick >= sizes.next,
        };
        Ok(std::mem::take(&mut self.due))
    }

    /// A look was taken, which took so long.
    pub(super) fn looked(&mut self, took: Span) {
        if let Means::Legacy(sizes) = &mut self.means {
            sizes.pace(took);
        }
    }

    /// We are about to change the tables.
    pub(super) fn pause(&mut self) -> io::Result<()> {
        self.due |= match &mut self.means {
            Means::Nft(ears) => ears.pause()?,
            Means::Legacy(sizes) => sizes.changed(),
        };
        Ok(())
    }

    /// We changed them in so many transactions.
    pub(super) fn resume(&mut self, transactions: u32) -> io::Result<()> {
        self.due |= match &mut self.means {
            Means::Nft(ears) => ears.resume(transactions)?,
            Means::Legacy(sizes) => {
                _ = sizes.changed();
                false
            }
        };
        Ok(())
    }
}

/// What nf_tables tells.
#[derive(Debug)]
struct Ears {
    asking: Socket,
    socket: Socket,
    request: Builder,
    heard: u32,
    paused_at: u32,
}

impl Ears {
    fn open() -> io::Result<Self> {
        let (asking, socket) = (Socket::open(NETFILTER)?, Socket::open(NETFILTER)?);
        socket.buffers(RECEIVE_BUFFER, RECEIVE_BUFFER)?;
        socket.join(GROUP)?;
        let mut ears = Self { asking, socket, request: Builder::new(), heard: 0, paused_at: 0 };
        ears.heard = ears.generation()?;
        Ok(ears)
    }

    fn generation(&mut self) -> io::Result<u32> {
        let seq = self.asking.next_seq();
        self.request.clear();
        get_generation(&mut self.request, seq);
        let mut found = None;
        self.asking.request(self.request.bytes(), seq, |message| found = found.or(parse_generation(message.payload)))?;
        found.map(|generation| generation.0).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Whether a filter table was changed, or anything was that nobody told of.
    fn heard_of_change(&mut self) -> io::Result<bool> {
        let generation = self.generation()?;
        let told = self.drain()?;
        let untold = newer(generation, self.heard);
        if untold {
            self.heard = generation;
        }
        Ok(told || untold)
    }

    /// Reads what was told, without waiting.
    fn drain(&mut self) -> io::Result<bool> {
        let mut changed = false;
        loop {
            match self.socket.receive(false) {
                Ok(messages) => {
                    for message in messages {
                        match operation(message.kind) {
                            Some(op::NEW_GENERATION) => {
                                let told = parse_generation(message.payload).map(|generation| generation.0);
                                self.heard = told.filter(|told| newer(*told, self.heard)).unwrap_or(self.heard);
                            }
                            Some(_) => {
                                let filter = |(family, table): (u8, &str)| FAMILIES.contains(&family) && table == "filter";
                                changed |= named_table(message.payload).is_some_and(filter);
                            }
                            None => {}
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// Stops listening: what we do ourselves would fill the buffer, and a listener makes it slower.
    fn pause(&mut self) -> io::Result<bool> {
        let changed = self.heard_of_change()?;
        self.socket.leave(GROUP)?;
        self.paused_at = self.heard;
        Ok(changed)
    }

    /// Listens again. Whether more happened meanwhile than our own transactions.
    fn resume(&mut self, transactions: u32) -> io::Result<bool> {
        self.socket.join(GROUP)?;
        self.heard = self.generation()?;
        Ok(self.heard.wrapping_sub(self.paused_at) != transactions)
    }
}

/// Whether one generation number comes after the other. They wrap.
const fn newer(this: u32, that: u32) -> bool {
    this.wrapping_sub(that).cast_signed() > 0
}

/// How large the kernel's first tables are.
#[derive(Debug)]
struct Sizes {
    sockets: Vec<(Family, UdpSocket)>,
    last: Vec<Option<Size>>,
    next: Tick,
}

/// Entries and bytes of a table.
type Size = (u32, u32);

impl Sizes {
    fn open() -> io::Result<Self> {
        let v4 = UdpSocket::bind("0.0.0.0:0").map(|socket| (Family::V4, socket))?;
        // No IPv6, no table of it.
        let v6 = UdpSocket::bind("[::]:0").ok().map(|socket| (Family::V6, socket));
        let mut sizes = Self { sockets: [v4].into_iter().chain(v6).collect(), last: Vec::new(), next: Tick::default() };
        _ = sizes.changed();
        sizes.pace(Span::ZERO);
        Ok(sizes)
    }

    /// Whether they are not as they were when this was asked before.
    fn changed(&mut self) -> bool {
        let now: Vec<_> = self.sockets.iter().map(|(family, socket)| size(*family, socket)).collect();
        let changed = now != self.last;
        self.last = now;
        changed
    }

    fn pace(&mut self, took: Span) {
        self.next = clock::now().tick.plus(EVERY.max(Span::millis(took.as_millis().saturating_mul(RARELY))));
    }
}

/// What `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO` answer (linux/netfilter_ipv4/ip_tables.h and
/// linux/netfilter_ipv6/ip6_tables.h: `struct ipt_getinfo`, `struct ip6t_getinfo`, the same).
#[repr(C)]
struct Info {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    num_entries: u32,
    size: u32,
}

/// `IPT_BASE_CTL`, and `IP6T_BASE_CTL`: the first of their options asks for this.
const GET_INFO: i32 = 64;

/// How large the filter table is; `None` where there is none, or it may not be asked.
fn size(family: Family, socket: &UdpSocket) -> Option<Size> {
    let mut info = Info { name: [0; 32], valid_hooks: 0, hook_entry: [0; 5], underflow: [0; 5], num_entries: 0, size: 0 };
    info.name[..6].copy_from_slice(b"filter");
    let level = if family == Family::V4 { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    let mut len = libc::socklen_t::try_from(size_of::<Info>()).ok()?;
    // SAFETY: `info` and `len` are live and ours; the kernel reads the name and writes at most `len` bytes, which is
    // the size of `info`, made of integers only.
    let rc = unsafe { libc::getsockopt(socket.as_raw_fd(), level, GET_INFO, (&raw mut info).cast(), &raw mut len) };
    (rc == 0).then_some((info.num_entries, info.size))
}
