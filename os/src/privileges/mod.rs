//! Who we are, what we may do, who is at the other end.

mod accounts;
#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;
mod lock;

pub use accounts::{Account, group, groups_of, user, user_name};
#[cfg(target_os = "freebsd")]
pub use freebsd::{KEPT, drop_capabilities, have, peer_credentials};
#[cfg(target_os = "linux")]
pub use linux::{KEPT, become_user, drop_capabilities, have, peer_credentials};
pub use lock::{Lock, LockError, lock_file};

use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

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

/// A part of root's power we may keep. The numbers are those of Linux; where root is one whole, each is had by
/// root alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Cap {
    /// CAP_DAC_READ_SEARCH: read logs that are not for everybody.
    DacReadSearch = 2,
    /// CAP_NET_ADMIN: firewall, connection tracking, routes.
    NetAdmin = 12,
    /// CAP_NET_RAW: raw sockets, by which iptables speaks to its tables.
    NetRaw = 13,
    /// CAP_SYS_PTRACE: see what the processes of others hold open.
    SysPtrace = 19,
}

/// What the programs that are run from here on may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Children {
    /// Nothing of it: none of them changes anything.
    None,
    /// The same: one of them is the firewall's.
    Same,
}

/// Whether the calling thread may change firewall and routes.
pub fn have_net_admin() -> bool {
    have(Cap::NetAdmin)
}

/// Whether we run as root.
pub fn is_root() -> bool {
    effective_user() == 0
}

/// The calling thread's user, by whom it is told what it may.
pub fn effective_user() -> u32 {
    // SAFETY: plain system call without pointers that cannot fail.
    unsafe { libc::geteuid() }
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
    use super::linux::LOG_GROUPS;
    use super::*;
    use std::os::unix::fs::chown;
    use std::os::unix::net::UnixStream;
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
        let children = || {
            let status = Command::new("cat").arg("/proc/self/status").output().unwrap();
            let text = String::from_utf8(status.stdout).unwrap();
            text.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap().to_owned()
        };
        drop_capabilities(&[Cap::NetAdmin, Cap::DacReadSearch], Children::Same).unwrap();
        assert_eq!(children(), format!("{:016x}", (1 << 12) | (1 << 2)), "a firewall's program has what it needs");
        drop_capabilities(&[Cap::NetAdmin, Cap::DacReadSearch], Children::None).unwrap();
        assert_eq!(children(), "0000000000000000");
        let both = format!("{:016x}", (1 << 12) | (1 << 2));
        for (field, expect) in
            [("CapEff", both.as_str()), ("CapPrm", &both), ("CapBnd", &both), ("CapInh", "0000000000000000"), ("NoNewPrivs", "1")]
        {
            assert_eq!(status(field), expect, "{field}");
        }
        assert!(std::fs::read("/etc/shadow").is_ok(), "CAP_DAC_READ_SEARCH reads it");
        drop_capabilities(&[Cap::NetAdmin], Children::None).unwrap();
        assert!(std::fs::read("/etc/shadow").is_err() && have_net_admin());
        drop_capabilities(&[], Children::None).unwrap();
        assert!(!have_net_admin());
        drop_capabilities(&[Cap::NetAdmin], Children::None).unwrap();
        assert!(!have_net_admin(), "what is gone is gone");
    }
}
