//! What a census of the connection table reads: the table as a whole, every flow in it, and new flows as they come.
//!
//! All of it is of the network namespace in which it was opened, and needs CAP_NET_ADMIN. A kernel that tracks no
//! connections has none: that is no error, and [`Gauge::max`] is 0 then. So is a namespace in which no rule asks for
//! tracking; its table is empty.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use palisade_core::flood::flow::Flow;
use palisade_core::flood::gauge::Gauge;

use super::linux::tracking;
use super::purge::told;
use crate::netlink::conntrack::{self, brief, events, stats};
use crate::netlink::socket::{NETFILTER, Next, Socket};

/// The connection table.
#[derive(Debug)]
pub struct Table {
    /// Kept open, so that a gauge costs microseconds. `None`: a kernel without netfilter, when it was looked last.
    socket: Option<Socket>,
}

/// One pass over the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// How many flows were handed over.
    pub flows: u64,
    /// How many states of the listing are none that a census counts: neither IPv4 nor IPv6, or not understood.
    pub others: u64,
    /// The kernel says that the listing changed while it was read: some flows may be missing from it, or be in it
    /// twice. On a table that changes all the time that is no reason to read it again.
    pub interrupted: bool,
}

impl Table {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel said, and what to do. A kernel without netfilter is none: it has no flows.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: socket()? })
    }

    /// How many flows there are, how many there can be, and what was dropped since boot. A few microseconds.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_ADMIN; where connections are tracked, but the kernel does not tell of them
    /// (nf_conntrack_netlink is not loaded); each with what to do.
    pub fn gauge(&mut self) -> io::Result<Gauge> {
        let Some(socket) = self.socket()? else { return Ok(Gauge::default()) };
        if_tracked(stats::gauge(socket), "asking how full the connection table is")
    }

    /// Hands every flow to `take`, in the kernel's order, which is none.
    ///
    /// # Errors
    /// As [`Table::gauge`].
    pub fn each(&mut self, mut take: impl FnMut(&Flow)) -> io::Result<Pass> {
        let mut pass = Pass::default();
        let Some(socket) = self.socket()? else { return Ok(pass) };
        let listed = conntrack::dump_messages(socket, None, |message| {
            match brief::flow(&message) {
                Some(flow) => {
                    pass.flows += 1;
                    take(&flow);
                }
                None => pass.others += 1,
            }
            Next::More
        });
        pass.interrupted = if_tracked(listed, "listing the connection table")?;
        Ok(pass)
    }

    /// The socket; tried again where there was none, since netfilter may have been loaded meanwhile.
    fn socket(&mut self) -> io::Result<Option<&mut Socket>> {
        if self.socket.is_none() {
            self.socket = socket()?;
        }
        Ok(self.socket.as_mut())
    }
}

fn socket() -> io::Result<Option<Socket>> {
    match Socket::open(NETFILTER) {
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) && !tracking() => Ok(None),
        other => other.map(Some).map_err(|error| told("opening netlink to connection tracking", &error)),
    }
}

/// The kernel knows the messages only with connection tracking; without it there is nothing to tell.
fn if_tracked<T: Default>(result: io::Result<T>, doing: &str) -> io::Result<T> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) && !tracking() => Ok(T::default()),
        other => other.map_err(|error| told(doing, &error)),
    }
}

/// How much the kernel keeps for us of what we have not read, in bytes. 8 MiB lost nothing at 210,000 new flows a
/// second, where the usual 208 KiB lost some six times in four seconds.
const HEARD: i32 = 8 << 20;

/// So many events are read at once at most, so that a storm does not keep its listener from everything else.
const DRAIN: u64 = 65_536;

/// Hears of new flows: readable when there are some.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    one_in: u32,
}

/// What was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// How many flows were handed over; each stands for [`Listener::one_in`].
    pub flows: u64,
    /// More came than there was room for, and some were lost: who opens flows is told too low this time. The table
    /// itself tells what there is.
    pub lost: bool,
}

impl Listener {
    /// Hears of one new flow in `one_in`, a power of two, picked by chance; 1: of all. In the calling thread's network
    /// namespace, of flows that begin from now on.
    ///
    /// # Errors
    /// `InvalidInput` for anything but a power of two, `Unsupported` where the kernel is set not to tell of flows,
    /// `PermissionDenied` without CAP_NET_ADMIN.
    pub fn open(one_in: u32) -> io::Result<Self> {
        Self::with_buffer(one_in, HEARD)
    }

    fn with_buffer(one_in: u32, buffer: i32) -> io::Result<Self> {
        if events::silenced() {
            let text = "the kernel tells of no new connections: net.netfilter.nf_conntrack_events is 0; \
                        set it to 2, with which it does so only while somebody listens";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let socket = events::open(one_in, buffer).map_err(|error| match error.raw_os_error() {
            None => error,
            Some(_) => told("listening for new connections", &error),
        })?;
        Ok(Self { socket, one_in })
    }

    /// Hands over what has been heard since the last time, without waiting; at most 65,536 flows, then what is left
    /// keeps the listener readable.
    ///
    /// # Errors
    /// What the kernel said, when the socket is of no use any more. Lost events are none: [`Heard::lost`].
    pub fn drain(&mut self, mut take: impl FnMut(&Flow)) -> io::Result<Heard> {
        let (mut heard, mut read) = (Heard::default(), 0);
        while read < DRAIN {
            read += 1;
            match self.socket.receive(false) {
                Ok(messages) => {
                    for flow in messages.filter_map(|message| brief::flow(&message)) {
                        heard.flows += 1;
                        take(&flow);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => heard.lost = true,
                Err(error) => return Err(told("hearing of new connections", &error)),
            }
        }
        Ok(heard)
    }

    /// How many new flows each one heard stands for.
    pub const fn one_in(&self) -> u32 {
        self.one_in
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
