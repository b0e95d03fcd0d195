//! A laboratory for tests of the real program: network namespaces with real hosts in them, joined
//! by a wire, in which real services are attacked by real clients.
//!
//! ```text
//!   outside                                    victim (or gateway)
//!   198.51.100.66  attacker   ── wire ──       198.51.100.1
//!   198.51.100.77  bystander                   2001:db8:0:1::1
//!   2001:db8:0:66::/64  attackers
//!   2001:db8:0:77::/64  bystanders
//! ```
//! Everything happens in namespaces of this test alone; they, and what runs in them, are gone with
//! the [`Lab`], and when the test is killed. The machine's own network is never touched.
#![allow(dead_code, unreachable_pub, reason = "each test file is a program of its own and uses some of the laboratory")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and what was measured is printed")]

pub mod fail2ban;
pub mod house;
pub mod lan;
pub mod lists;
pub mod provider;
pub mod service;
pub mod space;
pub mod traffic;
pub mod uplinks;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use space::Space;
use tempfile::TempDir;

/// The guarded host.
pub const VICTIM: &str = "198.51.100.1";
/// Who attacks.
pub const ATTACKER: &str = "198.51.100.66";
/// Who does not, and comes along the same wire.
pub const BYSTANDER: &str = "198.51.100.77";
/// The guarded host, by IPv6.
pub const VICTIM6: &str = "2001:db8:0:1::1";
/// Two attackers of one /64.
pub const ATTACKERS6: [&str; 2] = ["2001:db8:0:66::1", "2001:db8:0:66:a:b:c:d"];
/// Of another /64.
pub const BYSTANDER6: &str = "2001:db8:0:77::1";

/// What waits for something that happens "at once" waits so long before the test fails: far more
/// than it takes on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(15);

/// The guarded host and the network it is attacked from.
pub struct Lab {
    /// The guarded host.
    pub victim: Space,
    /// Everybody else.
    pub outside: Space,
    /// Files of this test.
    pub dir: TempDir,
}

impl Lab {
    /// Makes one; `None`, loudly, where the test may not make namespaces.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED, NOT PROVEN: this test makes network namespaces and needs root");
            return None;
        }
        let (victim, outside) = (Space::new("victim"), Space::new("outside"));
        // A /run of its own: sshd wants its /run/sshd, and the machine's logins are none of the victim's.
        victim.sh("mount -t tmpfs tmpfs /run; mkdir -m 0755 /run/sshd");
        // Nor are the names that the machine's `ip` knows; those of the kernel's own tables are built in.
        victim.sh("mkdir -p /etc/iproute2; mount -t tmpfs tmpfs /etc/iproute2");
        victim.sh(&format!(
            "ip link add wire address 02:00:00:00:00:01 type veth peer name wire address 02:00:00:00:00:02 netns {}",
            outside.pid()
        ));
        victim.sh("ip link set wire up; ip addr add 198.51.100.1/24 dev wire; ip addr add 2001:db8:0:1::1/64 dev wire nodad");
        outside.sh("ip link set wire up; for n in 66 77; do ip addr add 198.51.100.$n/24 dev wire; done");
        outside.sh(
            "for a in 66::1 66:a:b:c:d 77::1; do ip addr add 2001:db8:0:$a/64 dev wire nodad; done; ip route add 2001:db8:0:1::/64 dev wire",
        );
        // Whoever else a test makes up is out there too.
        victim.sh("ip route add 203.0.113.0/24 dev wire; ip route add 2001:db8::/32 dev wire");
        Some(Self { victim, outside, dir: tempfile::Builder::new().prefix("palisade-lab-").tempdir().unwrap() })
    }

    /// Gives somebody outside one more address.
    pub fn appear(&self, addr: &str) {
        let (len, nodad) = if addr.contains(':') { (64, "nodad") } else { (32, "") };
        self.outside.sh(&format!("ip addr add {addr}/{len} dev wire {nodad}"));
    }

    /// A path in the folder of this test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Looks until it is so, and how long that took. Fails the test after `most`.
pub fn until_within(most: Duration, what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < most, "waited {most:?} in vain: {what}");
        sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

/// Looks until it is so.
pub fn until(what: &str, is_so: impl FnMut() -> bool) -> Duration {
    until_within(SOON, what, is_so)
}

/// A program of the machine.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not installed, and this test needs it: run `make deps`"))
}

/// Adds text to a file as a log writer does.
pub fn append(path: &Path, text: impl AsRef<[u8]>) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_ref()).unwrap();
}
