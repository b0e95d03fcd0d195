//! prctl(2), pidfd_open(2), and the abstract names of unix(7).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;

/// Has the calling process sent this signal when the thread that made it ends. Async-signal-safe.
pub(super) fn end_with_parent(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: plain system call without pointers.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives up, in the calling process, the rights that its program would be given. Async-signal-safe.
pub(super) fn give_up_inherited() {
    // SAFETY: plain system call without pointers. It fails only on kernels without ambient sets.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0u64, 0u64, 0u64) };
}

/// A descriptor that becomes readable when this child of ours has ended.
pub(super) fn end_of(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: plain system call without pointers; the result is checked.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the descriptor was just made, is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The address `@name`.
pub(super) fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(name)
}
