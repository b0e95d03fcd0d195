//! The whole program with PF, whose pfctl is a stand-in: what the daemon makes of a firewall that is another system's.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lab::house::{House, fail, sshd_jail};
use lab::{Lab, until};

/// The folder with the stand-ins, and the kernel that is a file in it.
struct Pf(PathBuf);

impl Pf {
    fn new(lab: &Lab) -> Self {
        let folder = lab.path("bin");
        fs::create_dir(&folder).unwrap();
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../os/tests/stand-ins").canonicalize().unwrap();
        for program in ["pfctl", "sysctl", "tcpdrop", "world"] {
            symlink(programs.join(program), folder.join(program)).unwrap();
        }
        Self(folder)
    }

    /// Runs one of them; what it printed, where it succeeded.
    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Option<String> {
        let mut command = Command::new(self.0.join(program));
        let file = self.0.join("input");
        fs::write(&file, input).unwrap();
        command.args(arguments).stdin(fs::File::open(file).unwrap()).stderr(Stdio::null());
        let done = command.output().unwrap();
        done.status.success().then(|| String::from_utf8(done.stdout).unwrap())
    }

    /// Loads a pf.conf, with or without the line that leads to our anchor.
    fn main(&self, anchor: &str) {
        let rules = format!("{anchor}\nblock in all\npass in proto tcp from any to any port 22\npass out all\n");
        self.run("world", &["pf-main"], &rules).unwrap();
    }

    /// Whether a packet to our sshd passes: the first of a connection, or a later one.
    fn passes(&self, from: &str, first: bool) -> bool {
        let mut arguments = vec!["packet", "pf", "in", "tcp", from, "50000", "192.0.2.1", "22"];
        arguments.extend(first.then_some("syn"));
        self.run("world", &arguments, "").is_some()
    }
}

#[test]
fn the_daemon_keeps_a_wall_in_pf() {
    let Some(lab) = Lab::new() else { return };
    let pf = Pf::new(&lab);
    let log = lab.path("auth.log");
    fs::write(&log, "").unwrap();
    let backend = format!("[ban]\nbackend = \"pf\"\n[backend]\npath = [\"{}\"]\n", pf.0.display());
    let mut house = House::new(&lab, &format!("{backend}{}", sshd_jail(&log, "max_retry = 3")));
    let (it, other) = ("203.0.113.7", "203.0.113.8");

    pf.main("");
    let refused = house.expect(6, &format!("ban {it}"));
    assert!(refused.err.contains("anchor \"palisade\"") && refused.err.contains("/etc/pf.conf"), "{refused:?}");

    pf.main("anchor \"palisade\"");
    house.start();
    assert!(pf.passes(it, true) && pf.passes(it, false) && pf.passes(other, true));
    fail(&log, it, 3);
    house.until_banned(it);
    until("its connection is over", || !pf.passes(it, false));
    assert!(!pf.passes(it, true) && pf.passes(other, false));

    let emptied = ["-a", "palisade", "-t", "palisade", "-T", "flush"];
    pf.run("pfctl", &emptied, "").unwrap();
    assert!(pf.passes(it, true), "the stranger did nothing");
    // A connection made in between is older than the entry that comes back, and PF looks at states first.
    until("it is put back, and who came in meanwhile is out", || !pf.passes(it, true) && !pf.passes(it, false));

    pf.main("");
    until("the missing anchor is told", || house.ask(["status"]).out.contains("does not lead to the anchor"));
    house.expect(6, "status");
    let told = house.expect(1, "doctor").out;
    assert!(
        told.contains("BAD  rules:") && told.contains("before the first `pass` or `block` rule") && told.contains("anchor \"palisade\""),
        "{told}"
    );
    pf.main("anchor \"palisade\"");
    until("all is well again", || house.ask(["status"]).code == 0);

    house.kill();
    assert!(!pf.passes(it, true), "the wall stands without the daemon");
    house.start();
    house.expect(0, &format!("unban {it}"));
    assert!(pf.passes(it, true));
}
