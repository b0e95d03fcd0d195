//! Who we are, what we may do, who is at the other end.

mod accounts;
mod capabilities;
mod lock;

pub use accounts::{Account, group, groups_of, user, user_name};
pub use capabilities::{Cap, drop_capabilities, have, have_net_admin};
pub use lock::{Lock, LockError, lock_file};

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The groups that may read logs and journal on common systems; those that exist are joined.
const LOG_GROUPS: [&str; 2] = ["adm", "systemd-journal"];

/// Who is at the other end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The process that connected; it may be gone by now.
    pub pid: i32,
    /// Its user then.
    pub uid: u32,
    /// Its group then.
    pub gid: u32,
}

/// Who connected (`SO_PEERCRED`, unix(7)): filled in by the kernel, cannot be forged.
pub fn peer_credentials(stream: &UnixStream) -> io::Result<Peer> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).expect("12 bytes");
    // SAFETY: `peer` and `len` are live and ours, `len` is the size of `peer`.
    let rc = unsafe { libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &raw mut len) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(Peer { pid: peer.pid, uid: peer.uid, gid: peer.gid }) }
}

/// Whether we run as root.
pub fn is_root() -> bool {
    // SAFETY: plain system call without pointers that cannot fail.
    unsafe { libc::geteuid() == 0 }
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

/// As root: gives a file to the owner of its directory, so that the daemon finds what root made.
/// A symbolic link is not followed. As anybody else: does nothing.
pub fn own_like_dir(path: &Path) -> io::Result<()> {
    if !is_root() {
        return Ok(());
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let meta = std::fs::metadata(dir)?;
    lchown(path, Some(meta.uid()), Some(meta.gid()))
}

/// Runs one test of this crate again, as nobody, with `name` set to `value` in its environment.
#[cfg(test)]
pub(crate) fn run_test_as_nobody(test: &str, name: &str, value: &Path) {
    use std::os::unix::process::CommandExt;
    // A copy, as nobody may not reach the build directory.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let program = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::os::unix::fs::chown(dir.path(), Some(65534), Some(65534)).unwrap();
    let mut command = std::process::Command::new(&program);
    command.args([test, "--exact", "--nocapture"]).env(name, value).current_dir("/").uid(65534).gid(65534);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;
    use std::process::Command;

    #[test]
    fn the_peer_is_known() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = peer_credentials(&one).unwrap();
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        assert!(is_root() == (peer.uid == 0));
    }

    #[test]
    fn files_go_to_their_directorys_owner() {
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(1234), Some(4321)).unwrap();
        let path = dir.path().join("store");
        std::fs::write(&path, "").unwrap();
        own_like_dir(&path).unwrap();
        let meta = path.metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 4321));
    }

    fn status(field: &str) -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Changes the whole process, so it runs in one of its own.
    #[test]
    fn a_user_of_our_own_keeps_only_what_is_asked_for() {
        const CHILD: &str = "PALISADE_TEST_DROP";
        if std::env::var_os(CHILD).is_none() {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["privileges::tests::a_user_of_our_own_keeps_only_what_is_asked_for", "--exact", "--nocapture"])
                .env(CHILD, "1")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        assert!(have_net_admin());
        assert!(become_user("no-such-user").is_err() && is_root());
        become_user("nobody").unwrap();
        assert!(!is_root() && have_net_admin() && have(Cap::DacReadSearch));
        let nobody = user("nobody").unwrap().unwrap();
        assert_eq!(status("Uid"), [nobody.uid.to_string().as_str(); 4].join(" "));
        let groups = status("Groups");
        for name in LOG_GROUPS {
            let gid = group(name).unwrap();
            assert!(gid.is_none_or(|gid| groups.split(' ').any(|g| g == gid.to_string())), "{name} {groups}");
        }
        drop_capabilities(&[Cap::NetAdmin, Cap::DacReadSearch]).unwrap();
        let both = format!("{:016x}", (1 << 12) | (1 << 2));
        for (field, expect) in
            [("CapEff", both.as_str()), ("CapPrm", &both), ("CapBnd", &both), ("CapInh", "0000000000000000"), ("NoNewPrivs", "1")]
        {
            assert_eq!(status(field), expect, "{field}");
        }
        assert!(std::fs::read("/etc/shadow").is_ok(), "CAP_DAC_READ_SEARCH reads it");
        drop_capabilities(&[Cap::NetAdmin]).unwrap();
        assert!(std::fs::read("/etc/shadow").is_err() && have_net_admin());
        drop_capabilities(&[]).unwrap();
        assert!(!have_net_admin());
        drop_capabilities(&[Cap::NetAdmin]).unwrap();
        assert!(!have_net_admin(), "what is gone is gone");
    }
}
