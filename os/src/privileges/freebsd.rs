//! Root is one whole: whoever may open /dev/pf, run ipfw(8) or read everybody's logs is root, and the
//! children that do it for us (pfctl(8)) need it too. So root is kept; what can be given up without it is
//! that any of us or of our children gains more by a set-user-id program.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use super::{Cap, Children, Peer, is_root};

/// What is kept for good of what the daemon does not need.
pub const KEPT: Option<&str> =
    Some("all of root's rights are kept: this system cannot split them, and its firewalls are changed by root alone");

/// The version of `struct xucred` (`XUCRED_VERSION`, sys/ucred.h).
const XUCRED_VERSION: libc::c_uint = 0;

/// Who connected (`LOCAL_PEERCRED`, unix(4)): filled in by the kernel, cannot be forged.
pub fn peer_credentials(stream: &UnixStream) -> io::Result<Peer> {
    // SAFETY: a xucred is integers and a union of a pointer we never follow and an integer; all zero is valid.
    let mut peer: libc::xucred = unsafe { std::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<libc::xucred>()).map_err(io::Error::other)?;
    // SAFETY: `peer` and `len` are live and ours, `len` is the size of `peer`.
    let rc = unsafe { libc::getsockopt(stream.as_raw_fd(), libc::SOL_LOCAL, libc::LOCAL_PEERCRED, (&raw mut peer).cast(), &raw mut len) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    if peer.cr_version != XUCRED_VERSION || peer.cr_ngroups < 1 {
        return Err(io::Error::other("the kernel tells of the other end in a version that is not known"));
    }
    // SAFETY: the kernel filled the union with the process id, or left the zero, which is one too.
    let pid = unsafe { peer.cr_pid__c_anonymous_union.cr_pid };
    Ok(Peer { pid, uid: peer.cr_uid, gid: peer.cr_groups[0] })
}

/// Whether the calling thread has it in effect: root has all.
pub fn have(_: Cap) -> bool {
    is_root()
}

/// Keeps root ([`KEPT`]), and forbids that a program we run gains what we have not
/// (`PROC_NO_NEW_PRIVS_CTL`, procctl(2), FreeBSD 14; before it, nothing is given up).
pub fn drop_capabilities(_: &[Cap], _: Children) -> io::Result<()> {
    let mut enable = libc::PROC_NO_NEW_PRIVS_ENABLE;
    // SAFETY: `PROC_NO_NEW_PRIVS_CTL` reads one int, which is live; id 0 is the calling process.
    let rc = unsafe { libc::procctl(libc::P_PID, 0, libc::PROC_NO_NEW_PRIVS_CTL, (&raw mut enable).cast()) };
    let error = io::Error::last_os_error();
    if rc == 0 || error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) }
}
