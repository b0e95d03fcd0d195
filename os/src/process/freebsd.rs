//! procctl(2) and kqueue(2).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::SocketAddr;

use crate::bsd::kqueue::Queue;

/// Has the calling process sent this signal when the process that made it ends. Async-signal-safe: one system call.
pub(super) fn end_with_parent(mut signal: libc::c_int) -> io::Result<()> {
    // SAFETY: `PROC_PDEATHSIG_CTL` reads one int, which is live; id 0 is the calling process.
    let rc = unsafe { libc::procctl(libc::P_PID, 0, libc::PROC_PDEATHSIG_CTL, (&raw mut signal).cast()) };
    if rc != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// There are no rights but root's here.
pub(super) const fn give_up_inherited() {}

/// A descriptor that becomes readable when this child of ours has ended, or has ended already and is not reaped.
pub(super) fn end_of(pid: libc::pid_t) -> io::Result<OwnedFd> {
    let queue = Queue::open()?;
    queue.watch(usize::try_from(pid).map_err(io::Error::other)?, libc::EVFILT_PROC, libc::NOTE_EXIT)?;
    Ok(queue.into())
}

/// There are no such names here.
pub(super) fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "abstract socket names are Linux's alone"))
}
