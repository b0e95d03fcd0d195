//! capabilities(7) and `SO_PEERCRED`.

mod capabilities;

pub use capabilities::{drop_capabilities, have};

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use super::{Peer, group, groups_of, user};

/// What is kept for good of what the daemon does not need: nothing.
pub const KEPT: Option<&str> = None;

/// The groups that may read logs and journal on common systems; those that exist are joined.
pub(super) const LOG_GROUPS: [&str; 2] = ["adm", "systemd-journal"];

/// Who connected (`SO_PEERCRED`, unix(7)): filled in by the kernel, cannot be forged.
pub fn peer_credentials(stream: &UnixStream) -> io::Result<Peer> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).expect("12 bytes");
    // SAFETY: `peer` and `len` are live and ours, `len` is the size of `peer`.
    let rc = unsafe { libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &raw mut len) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(Peer { pid: peer.pid, uid: peer.uid, gid: peer.gid }) }
}

/// Becomes this user, with its own groups and those that may read logs, for good, keeping the
/// capabilities (see [`drop_capabilities`], to be called next). Call it before any thread is started.
pub fn become_user(name: &str) -> io::Result<()> {
    let account = user(name)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no user `{name}`")))?;
    let mut groups = groups_of(name)?;
    for group_name in LOG_GROUPS {
        groups.extend(group(group_name)?);
    }
    groups.push(account.gid);
    groups.sort_unstable();
    groups.dedup();
    capabilities::keep_over_user_change(true)?;
    let check = |rc: i32| if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    let (uid, gid) = (account.uid, account.gid);
    // SAFETY: pointer and length are of a live vector that is only read.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
    // SAFETY: plain system call without pointers.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: plain system call without pointers.
    check(unsafe { libc::setresuid(uid, uid, uid) })?;
    capabilities::keep_over_user_change(false)?;
    capabilities::raise()
}
