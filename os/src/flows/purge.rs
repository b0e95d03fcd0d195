//! Forgetting the connections of one uplink, and of no other: states of connection tracking, by mark and by address.
//!
//! When an uplink is left, a state goes on translating to its address, and the next provider drops what comes with
//! it. Without the state, the next packet of the connection is answered with a reset or begins a new one.

use std::io;

use palisade_core::net::Prefix;
use palisade_core::route::words::{Mark, Mask};

use super::linux::{Deletion, tracking};
use crate::netlink::conntrack::{self, Entry};
use crate::netlink::socket::{NETFILTER, Next, Socket};

/// Ends every state whose mark is this in these bits, and every one whose answers go to one of `addrs`: those whose
/// source was translated to it, and those this host began from it. How many were ended. All others stay. Works in
/// the calling thread's network namespace.
///
/// # Errors
/// `InvalidInput` for a mask without bits, which all states match; else what the kernel said, after as many were
/// ended as could be.
pub fn purge(mark: Option<(Mark, Mask)>, addrs: &[Prefix]) -> io::Result<u64> {
    if mark.is_some_and(|(_, Mask(mask))| mask == 0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "purging by a mark needs a mask with bits in it: every connection matches none",
        ));
    }
    if mark.is_none() && addrs.is_empty() {
        return Ok(0);
    }
    let sockets = Socket::open(NETFILTER).and_then(|list| Ok((list, Socket::open(NETFILTER)?)));
    let (mut list, mut delete) = match sockets {
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) && !tracking() => return Ok(0),
        other => other.map_err(|error| told("opening netlink to connection tracking", &error))?,
    };
    let mut deletion = Deletion::new(&mut delete);
    let take = |entry: &Entry<'_>| if matches(entry, mark, addrs) { deletion.add(entry) } else { Next::More };
    let listed = match mark {
        Some((Mark(mark), Mask(mask))) if addrs.is_empty() => conntrack::dump_marked(&mut list, mark, mask, take),
        _ => conntrack::dump(&mut list, None, None, take),
    };
    deletion.flush();
    match listed {
        // The kernel knows the messages only with connection tracking; without it there are no states.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) && !tracking() => {}
        other => other.map_err(|error| told("listing connection-tracking states", &error))?,
    }
    match deletion.error {
        Some(error) => Err(told("deleting a connection-tracking state", &error)),
        None => Ok(deletion.deleted),
    }
}

fn matches(entry: &Entry<'_>, mark: Option<(Mark, Mask)>, addrs: &[Prefix]) -> bool {
    mark.is_some_and(|(Mark(mark), Mask(mask))| entry.mark & mask == mark & mask)
        || addrs.iter().any(|prefix| prefix.contains(entry.reply.destination))
}

pub(super) fn told(doing: &str, error: &io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; run as root or give the process CAP_NET_ADMIN",
        Some(libc::EINVAL | libc::EOPNOTSUPP) => "; load the kernel module nf_conntrack_netlink",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{doing}: {error}{hint}"))
}
