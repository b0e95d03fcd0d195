//! Links, routes and ssh sessions for real, in network namespaces of our own. Needs root, iproute2,
//! and openssh for the sessions.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use palisade_core::net::Addr;
use palisade_os::links::{Links, Paths};

fn sh(script: &str) {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
}

/// Runs a test on a thread with a network namespace of its own; what it starts inherits it.
fn alone(test: impl FnOnce() + Send + 'static) {
    let run = std::thread::spawn(move || {
        // SAFETY: plain system call; only the calling thread changes its namespace, and ends with it.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "needs root");
        test();
    });
    if let Err(panic) = run.join() {
        std::panic::resume_unwind(panic);
    }
}

fn addrs(list: &[&str]) -> BTreeSet<Addr> {
    list.iter().map(|a| a.parse().unwrap()).collect()
}

fn readable(links: &Links) -> bool {
    let mut poll = libc::pollfd { fd: links.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd, and the count says one.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

#[test]
fn the_neighbourhood_is_read_and_its_changes_are_noticed() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let resolv = dir.path().join("resolv.conf");
        fs::write(&resolv, "nameserver 192.0.2.53\nnameserver fe80::53%d0\n").unwrap();
        let paths = Paths { resolv_conf: vec![resolv, dir.path().join("absent")], ..Paths::default() };
        let mut links = Links::open(paths).unwrap();
        assert!(!links.drain().unwrap());
        sh("ip link set lo up; ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up
            ip address add 192.0.2.10/24 dev d0; ip address add 192.0.2.11 peer 203.0.113.1 dev d0
            ip -6 address add 2001:db8::10/64 dev d0 nodad; ip address add 198.51.100.200/32 dev lo
            ip route add default via 192.0.2.1; ip route add 203.0.113.128/25 via 192.0.2.7
            ip route add default table 77 nexthop via 192.0.2.2 nexthop via 192.0.2.3
            ip route add 128.0.0.0/1 via 192.0.2.4; ip route add default table 78 via inet6 fe80::4 dev d0
            ip -6 route add default via 2001:db8::1; ip -6 route add default via fe80::1 dev d0 metric 5 table 79
            ip -6 route add default table 80 nexthop via 2001:db8::2 nexthop via 2001:db8::3");
        assert!(readable(&links) && links.drain().unwrap() && !readable(&links));
        let now = links.snapshot().unwrap();
        assert!(
            now.own.is_superset(&addrs(&["127.0.0.1", "::1", "192.0.2.10", "192.0.2.11", "2001:db8::10", "198.51.100.200"])),
            "{:?}",
            now.own
        );
        assert!(!now.own.contains(&"203.0.113.1".parse().unwrap()), "the peer of a point-to-point link is not us");
        let hops = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "fe80::4", "fe80::1", "2001:db8::1", "2001:db8::2", "2001:db8::3"];
        assert_eq!(now.gateways, addrs(&hops));
        assert_eq!(now.resolvers, addrs(&["192.0.2.53", "fe80::53"]));

        assert!(!links.drain().unwrap());
        sh("ip route add 203.0.113.64/26 via 192.0.2.7");
        assert!(readable(&links) && !links.drain().unwrap(), "a route to somewhere is no change");
        sh("ip route del default via 192.0.2.1");
        assert!(links.drain().unwrap());
        sh("ip address del 192.0.2.10/24 dev d0");
        assert!(links.drain().unwrap());
    });
}

/// A private sshd and its clients; all ended by their own handles.
struct Sshd {
    dir: tempfile::TempDir,
    children: Vec<Child>,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Sshd {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("palisade-sshd").tempdir().unwrap();
        let d = dir.path().display();
        fs::create_dir_all("/run/sshd").unwrap();
        sh(&format!(
            "ssh-keygen -qt ed25519 -N '' -f {d}/host; ssh-keygen -qt ed25519 -N '' -f {d}/key; chmod 755 {d}; cp {d}/key.pub {d}/authorized"
        ));
        let config = format!(
            "Port 2222\nListenAddress 0.0.0.0\nHostKey {d}/host\nAuthorizedKeysFile {d}/authorized\nStrictModes no\nUsePAM no\n\
             PidFile none\nPermitRootLogin yes\nPasswordAuthentication yes\nLoginGraceTime 60\nSubsystem sftp internal-sftp\n"
        );
        fs::write(dir.path().join("config"), config).unwrap();
        // Asked for a password, the client leaves a sign and lets the server wait.
        sh(&format!("printf '#!/bin/sh\\ntouch {d}/asked\\nexec sleep 30\\n' > {d}/ask; chmod 755 {d}/ask"));
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let sshd = Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f"]).arg(dir.path().join("config")).stderr(log).spawn().unwrap();
        let sshd = Self { dir, children: vec![sshd] };
        until("sshd listens", || TcpStream::connect("192.0.2.1:2222").is_ok());
        sshd
    }

    /// Logs in from an address and stays.
    fn login(&mut self, user: &str, from: &str, with: &[&str]) {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", "2222", "-b", from, "-l", user, "-i", &path("key")])
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .env("SSH_ASKPASS", path("ask"))
            .env("SSH_ASKPASS_REQUIRE", "force")
            .args(with)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("client")).unwrap());
        self.children.push(ssh.spawn().unwrap());
    }

    fn logs(&self) -> String {
        let read = |name| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        format!("{}\n{}", read("log"), read("client"))
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}: waited in vain");
        std::thread::sleep(Duration::from_millis(30));
    }
}

#[test]
fn an_ssh_connection_counts_once_somebody_has_logged_in() {
    if !Path::new("/usr/sbin/sshd").exists() {
        eprintln!("SKIPPED: openssh-server is not installed");
        return;
    }
    alone(|| {
        sh(
            "ip link set lo up; for a in 192.0.2.1 198.51.100.20 198.51.100.21 203.0.113.8 203.0.113.9; do ip address add $a/32 dev lo; done",
        );
        let mut sshd = Sshd::start();
        // The login databases are the host's and know nothing of this: only processes can prove here.
        let paths = Paths { utmp: "/nonexistent".into(), sessions: "/nonexistent".into(), ..Paths::default() };
        let mut links = Links::open(paths).unwrap();
        let mut admins = move || links.admin_sessions_on(&[2222]).unwrap();

        // Two attackers hold connections before login: one has said no more than its version, the other
        // is being asked for root's password.
        let mut quiet = TcpStream::connect("192.0.2.1:2222").unwrap();
        quiet.write_all(b"SSH-2.0-quiet\r\n").unwrap();
        sshd.login("root", "203.0.113.9", &["-o", "PreferredAuthentications=password", "192.0.2.1"]);
        let asked = sshd.dir.path().join("asked");
        until("root's password is asked for", || asked.exists());
        assert_eq!(admins(), BTreeSet::new());

        sshd.login("root", "198.51.100.20", &["192.0.2.1", "cat"]);
        // No shell, no terminal, no command: a tunnel of an ordinary user.
        sshd.login("nobody", "198.51.100.21", &["-N", "192.0.2.1"]);
        let want = addrs(&["198.51.100.20", "198.51.100.21"]);
        let begin = Instant::now();
        while admins() != want {
            assert!(begin.elapsed() < Duration::from_secs(20), "{:?}\n{}", admins(), sshd.logs());
            std::thread::sleep(Duration::from_millis(30));
        }
        quiet.set_nonblocking(true).unwrap();
        let mut banner = [0; 512];
        assert!(quiet.read(&mut banner).unwrap() > 0);
        assert_ne!(quiet.read(&mut banner).ok(), Some(0), "still connected");
        for _ in 0..2 {
            let mut client = sshd.children.pop().unwrap();
            client.kill().unwrap();
            client.wait().unwrap();
        }
        until("the sessions end", || admins().is_empty());
    });
}
