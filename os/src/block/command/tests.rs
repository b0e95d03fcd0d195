//! Against sshguard's own programs, with real packets where there is a packet filter. They need root.

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use palisade_core::time::Until;

use super::*;
use crate::errors::chain;
use crate::netns::Netns;
use crate::wake::poll;

const SSHGUARD: &str = "/usr/libexec/sshguard";

const WALL4: &str = "192.0.2.1";
const WALL6: &str = "2001:db8::1";
const BAD4: &str = "198.51.100.7";
const NEIGHBOUR4: &str = "198.51.100.8";
const GOOD4: &str = "203.0.113.9";
const BAD6: &str = "2001:db8:1::7";
const GOOD6: &str = "2001:db8:2::7";

fn now() -> Stamp {
    clock::now().stamp
}

fn key(text: &str) -> Key {
    Key::all(text.parse().unwrap())
}

fn entry(text: &str) -> Entry {
    Entry { key: key(text), until: Until::Forever }
}

fn section(record: &Path, run: &[&str]) -> CommandSection {
    CommandSection { run: run.iter().map(|word| (*word).to_owned()).collect(), record: record.to_str().unwrap().to_owned() }
}

#[track_caller]
fn did(wall: &mut Command, steps: &[Step]) {
    let report = wall.apply(steps, now());
    assert!(report.ok() && report.done == steps.len(), "{report:?}");
}

#[track_caller]
fn blocks(wall: &mut Command, prefix: &str) {
    did(wall, &[Step::Block(entry(prefix))]);
}

#[track_caller]
fn releases(wall: &mut Command, prefix: &str) {
    did(wall, &[Step::Release(key(prefix))]);
}

#[track_caller]
fn replaced(wall: &mut Command, prefixes: &[&str]) {
    let report = wall.replace(&Frame::default(), &mut prefixes.iter().map(|p| entry(p)), now()).unwrap();
    assert!(report.ok() && report.done == prefixes.len(), "{report:?}");
}

#[track_caller]
fn sh(script: &str) -> String {
    let out = Process::new("sh").args(["-ec", script]).stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn kill(pid: u32, signal: i32) {
    // SAFETY: plain system call without pointers, to a child of ours that was not reaped.
    assert_eq!(unsafe { libc::kill(pid.try_into().unwrap(), signal) }, 0);
}

/// Looks every 10 ms until everything is to be built anew; what is said of it.
fn everything(wall: &mut Command) -> String {
    for _ in 0..2000 {
        if let Ok(Drift::Everything(what)) = wall.drift() {
            return what;
        }
        let _ = poll(&[], None, Some(Span::millis(10))).unwrap();
    }
    panic!("the end of the program is not noticed")
}

/// Who sends from outside, and who listens on the wall.
struct Wire {
    listeners: [UdpSocket; 2],
    senders: Vec<(&'static str, UdpSocket)>,
    count: Cell<u32>,
}

impl Wire {
    /// Lays a cable from the wall's namespace to one outside, from which these addresses send.
    fn lay(wall: &Netns) -> Self {
        let outside = Netns::new().unwrap();
        let (mut a, mut b) = (wall.wiring().unwrap(), outside.wiring().unwrap());
        let addr = |text: &str| text.parse().unwrap();
        a.cable("w0", &outside, "c0").unwrap();
        for (wiring, link) in [(&mut a, "w0"), (&mut b, "c0")] {
            wiring.up(link).unwrap();
        }
        for own in [WALL4, WALL6] {
            a.add_address("w0", addr(own)).unwrap();
            b.add_route(Prefix::host(addr(own)), "c0").unwrap();
        }
        let hosts = [BAD4, NEIGHBOUR4, GOOD4, BAD6, GOOD6];
        for host in hosts {
            b.add_address("c0", addr(host)).unwrap();
            a.add_route(Prefix::host(addr(host)), "w0").unwrap();
        }
        let bind = |ip: &str| UdpSocket::bind(SocketAddr::new(ip.parse().unwrap(), 7)).unwrap();
        let listeners = wall.within(|| [bind(WALL4), bind(WALL6)]).unwrap();
        for listener in &listeners {
            listener.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        }
        let senders = outside.within(|| hosts.map(|host| (host, bind(host))).into_iter().collect()).unwrap();
        let wire = Self { listeners, senders, count: Cell::new(0) };
        for host in hosts {
            assert!((0..20).any(|_| wire.carries(host)), "the cable does not carry {host}");
        }
        wire
    }

    fn carries(&self, from: &str) -> bool {
        let (_, sender) = self.senders.iter().find(|(host, _)| *host == from).unwrap();
        let v6 = from.parse::<IpAddr>().unwrap().is_ipv6();
        let to: IpAddr = if v6 { WALL6 } else { WALL4 }.parse().unwrap();
        self.count.set(self.count.get() + 1);
        let word = self.count.get().to_ne_bytes();
        sender.send_to(&word, SocketAddr::new(to, 7)).unwrap();
        let mut got = [0; 4];
        while let Ok(n) = self.listeners[usize::from(v6)].recv(&mut got) {
            if n == 4 && got == word {
                return true;
            }
        }
        false
    }

    #[track_caller]
    fn shut(&self, shut: &[&str]) {
        for (host, _) in &self.senders {
            // One packet that comes through is one too many; one that is late on a busy machine is none.
            let carried = if shut.contains(host) { self.carries(host) } else { (0..20).any(|_| self.carries(host)) };
            assert_eq!(carried, !shut.contains(host), "{host}; to be shut out: {shut:?}");
        }
    }
}

/// What each of sshguard's programs must do with real packets. `cleans`: it takes its rules away when
/// it is asked to end.
fn shuts_out(setup: &str, run: &[&str], cleans: bool) {
    let dir = tempfile::tempdir().unwrap();
    let section = section(&dir.path().join("record"), run);
    let space = Netns::new().unwrap();
    let wire = Wire::lay(&space);
    // All in one thread: the program ends with the thread that started it.
    space
        .within(move || {
            sh(setup);
            let mut wall = Command::open(&section).unwrap();
            assert!(!wall.read(Read::Frame).unwrap().whole);
            replaced(&mut wall, &[]);
            assert!(wall.read(Read::Frame).unwrap().whole);
            wire.shut(&[]);

            blocks(&mut wall, "198.51.100.7/32");
            wire.shut(&[BAD4]);
            blocks(&mut wall, "2001:db8:1::/64");
            wire.shut(&[BAD4, BAD6]);
            // One that covers another, and is lifted while the other stands.
            blocks(&mut wall, "198.51.100.0/24");
            wire.shut(&[BAD4, NEIGHBOUR4, BAD6]);
            releases(&mut wall, "198.51.100.0/24");
            wire.shut(&[BAD4, BAD6]);
            releases(&mut wall, "198.51.100.7/32");
            wire.shut(&[BAD6]);
            blocks(&mut wall, "198.51.100.7/32");

            // It is killed: what it did stands, and another goes on. Both may have told the same ban.
            let first = wall.running.as_ref().unwrap().pid();
            kill(first, libc::SIGKILL);
            let what = everything(&mut wall);
            assert!(what.contains("signal: 9"), "{what}");
            wire.shut(&[BAD4, BAD6]);
            replaced(&mut wall, &["198.51.100.7/32", "2001:db8:1::/64"]);
            assert_ne!(wall.running.as_ref().unwrap().pid(), first);
            assert_eq!(wall.drift().unwrap(), Drift::None);
            wire.shut(&[BAD4, BAD6]);
            releases(&mut wall, "198.51.100.7/32");
            wire.shut(&[BAD6]);

            // Somebody asks it to end: what it took away with it is told again.
            blocks(&mut wall, "198.51.100.7/32");
            kill(wall.running.as_ref().unwrap().pid(), libc::SIGTERM);
            everything(&mut wall);
            wire.shut(if cleans { &[] } else { &[BAD4, BAD6] });
            replaced(&mut wall, &["198.51.100.7/32", "2001:db8:1::/64"]);
            wire.shut(&[BAD4, BAD6]);

            // We end: the wall stands. Whoever comes next knows what stands, and that one of them has ended since.
            drop(wall);
            wire.shut(&[BAD4, BAD6]);
            let mut wall = Command::open(&section).unwrap();
            let found = wall.read(Read::All).unwrap();
            assert!(found.whole);
            assert_eq!(found.bans.into_keys().collect::<Vec<_>>(), [key("198.51.100.7/32"), key("2001:db8:1::/64")]);
            replaced(&mut wall, &["2001:db8:1::/64"]);
            wire.shut(&[BAD6]);

            wall.remove().unwrap();
            wire.shut(&[]);
            assert!(!wall.read(Read::Frame).unwrap().whole);
            replaced(&mut wall, &["198.51.100.7/32"]);
            wire.shut(&[BAD4]);
        })
        .unwrap();
}

#[test]
fn sshguards_nft_sets_shut_out() {
    shuts_out("", &[&format!("{SSHGUARD}/sshg-fw-nft-sets")], true);
}

#[test]
fn sshguards_ipset_shuts_out() {
    let setup = "ipset create sshguard4 hash:net family inet; ipset create sshguard6 hash:net family inet6
        iptables -w -I INPUT -m set --match-set sshguard4 src -j DROP; ip6tables -w -I INPUT -m set --match-set sshguard6 src -j DROP";
    shuts_out(setup, &[&format!("{SSHGUARD}/sshg-fw-ipset")], false);
}

fn iptables_shut_out(variant: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut setup = String::new();
    for tool in ["iptables", "ip6tables"] {
        setup.push_str(&format!("{tool}-{variant} -w -N sshguard; {tool}-{variant} -w -I INPUT -j sshguard\n"));
        std::os::unix::fs::symlink(format!("/usr/sbin/{tool}-{variant}"), dir.path().join(tool)).unwrap();
    }
    let path = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", dir.path().display());
    shuts_out(&setup, &["/usr/bin/env", &path, &format!("{SSHGUARD}/sshg-fw-iptables")], false);
}

#[test]
fn sshguards_iptables_shut_out_with_nft() {
    iptables_shut_out("nft");
}

#[test]
fn sshguards_iptables_shut_out_with_legacy() {
    iptables_shut_out("legacy");
}

#[test]
fn sshguards_hosts_are_told() {
    // It knows no other file than /etc/hosts.allow, so it gets an /etc of its own.
    let dir = tempfile::tempdir().unwrap();
    let etc = dir.path().join("etc");
    let allow = etc.join("hosts.allow");
    fs::create_dir(&etc).unwrap();
    fs::write(&allow, "sshd : 198.51.100.1\n").unwrap();
    let script = format!("mount --bind {} /etc && exec {SSHGUARD}/sshg-fw-hosts", etc.display());
    let mut wall = Command::open(&section(&dir.path().join("record"), &["/usr/bin/unshare", "--mount", "sh", "-c", &script])).unwrap();
    let text = || fs::read_to_string(&allow).unwrap();
    replaced(&mut wall, &["192.0.2.7/32"]);
    assert!(text().contains("192.0.2.7") && text().contains("sshd : 198.51.100.1"), "{}", text());
    did(&mut wall, &[Step::Block(entry("192.0.2.8/32")), Step::Release(key("192.0.2.7/32"))]);
    assert!(text().contains("192.0.2.8") && !text().contains("192.0.2.7"), "{}", text());
    // It empties its block when it starts, so a restart is told everything.
    kill(wall.running.as_ref().unwrap().pid(), libc::SIGKILL);
    everything(&mut wall);
    assert!(text().contains("192.0.2.8"), "{}", text());
    replaced(&mut wall, &["192.0.2.8/32", "192.0.2.9/32"]);
    assert!(text().contains("192.0.2.8") && text().contains("192.0.2.9"), "{}", text());
}

#[test]
fn sshguards_null_is_content_with_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut wall = Command::open(&section(&dir.path().join("record"), &[&format!("{SSHGUARD}/sshg-fw-null")])).unwrap();
    replaced(&mut wall, &["192.0.2.7/32", "2001:db8::/64"]);
    assert_eq!(wall.drift().unwrap(), Drift::None);
    wall.remove().unwrap();
}

/// A program that writes down what it is told, then does as `rest` says with `$line`.
fn recorder(dir: &Path, rest: &str) -> CommandSection {
    let script = format!("while read -r line; do echo \"$line\" >>{}; {rest}; done", dir.join("lines").display());
    section(&dir.join("record"), &["/bin/sh", "-c", &script])
}

fn lines(dir: &Path) -> Vec<String> {
    let lines = fs::read_to_string(dir.join("lines")).unwrap_or_default();
    fs::remove_file(dir.join("lines")).ok();
    lines.lines().map(str::to_owned).collect()
}

#[test]
fn it_is_flushed_only_when_nothing_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let section = recorder(dir.path(), ":");
    let mut wall = Command::open(&section).unwrap();
    replaced(&mut wall, &["192.0.2.7/32", "2001:db8::/64"]);
    assert_eq!(lines(dir.path()), ["flush", "block 192.0.2.7 4 32", "block 2001:db8:: 6 64"]);
    replaced(&mut wall, &["192.0.2.7/32", "2001:db8::/64"]);
    assert_eq!(lines(dir.path()), [""; 0]);
    drop(wall);
    // The next one may be told of a single ban only, by a verb that needs no daemon.
    let mut wall = Command::open(&section).unwrap();
    did(&mut wall, &[Step::Block(entry("192.0.2.8/32")), Step::Release(Key { forced: true, ..key("2001:db8::/64") })]);
    assert_eq!(lines(dir.path()), ["block 192.0.2.8 4 32", "release 2001:db8:: 6 64"]);
    drop(wall);
    // Told anew it may stand twice, so it is released twice.
    let mut wall = Command::open(&section).unwrap();
    replaced(&mut wall, &["192.0.2.7/32"]);
    assert_eq!(lines(dir.path()), ["block 192.0.2.7 4 32", "release 192.0.2.8 4 32"]);
    releases(&mut wall, "192.0.2.7/32");
    assert_eq!(lines(dir.path()), ["release 192.0.2.7 4 32", "release 192.0.2.7 4 32"]);
}

#[test]
fn what_lies_in_another_is_not_told_and_nothing_opens_between() {
    let dir = tempfile::tempdir().unwrap();
    let mut wall = Command::open(&recorder(dir.path(), ":")).unwrap();
    replaced(&mut wall, &["192.0.2.0/24", "192.0.2.7/32"]);
    assert_eq!(lines(dir.path()), ["flush", "block 192.0.2.0 4 24"]);
    releases(&mut wall, "192.0.2.0/24");
    let inner = "block 192.0.2.7 4 32";
    assert_eq!(lines(dir.path()), [inner, "release 192.0.2.0 4 24", inner]);
    assert_eq!(wall.read(Read::All).unwrap().bans.into_keys().collect::<Vec<_>>(), [key("192.0.2.7/32")]);
    did(&mut wall, &[Step::Block(Entry { key: key("192.0.2.9/32"), until: Until::At(Stamp(1)) })]);
    assert_eq!(lines(dir.path()), [""; 0], "what is over is not told");
}

#[test]
fn what_it_complains_of_is_told_for_that_ban_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut wall = Command::open(&recorder(dir.path(), "case $line in *:*) echo 'no such chain' >&2;; esac")).unwrap();
    let entries = ["192.0.2.7/32", "2001:db8::/64", "2001:db8::7/128"].map(entry);
    let report = wall.replace(&Frame::default(), &mut entries.iter().cloned(), now()).unwrap();
    let told = "/bin/sh says to `block 2001:db8:: 6 64`: no such chain".to_owned();
    assert_eq!(report, Report { done: 1, failed: vec![(1, told.clone()), (2, told)] });
    let found = wall.read(Read::Keys(&entries.clone().map(|entry| entry.key))).unwrap();
    assert_eq!(found.bans.into_keys().collect::<Vec<_>>(), [key("192.0.2.7/32")], "what was refused does not stand");
    assert_eq!(wall.read(Read::All).unwrap().bans.len(), 1);
    lines(dir.path());
    // Only that one is told again.
    assert!(!wall.replace(&Frame::default(), &mut entries.into_iter(), now()).unwrap().ok());
    assert_eq!(lines(dir.path()), ["block 2001:db8:: 6 64"]);
}

#[test]
fn a_program_that_cannot_start_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("record");
    let missing = chain(&Command::open(&section(&record, &["/usr/libexec/sshguard/sshg-fw-ipfwd"])).unwrap_err());
    assert!(missing.contains("sshg-fw-ipfwd is no program") && missing.contains("[backend.command]"), "{missing}");
    assert!(Command::open(&section(&record, &[])).is_err());
    assert!(chain(&Command::open(&section(Path::new("/proc/nothing/record"), &["/bin/sh"])).unwrap_err()).contains("`record`"));

    // No iptables where it looks for one.
    let sshguard = format!("{SSHGUARD}/sshg-fw-iptables");
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    std::os::unix::fs::symlink("/usr/bin/basename", empty.join("basename")).unwrap();
    let path = format!("PATH={}", empty.display());
    let mut wall = Command::open(&section(&record, &["/usr/bin/env", &path, &sshguard])).unwrap();
    let error = chain(&wall.replace(&Frame::default(), &mut [entry("192.0.2.7/32")].into_iter(), now()).unwrap_err());
    for part in ["exit status: 69", "Could not initialize firewall", "cannot set its firewall up"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!wall.read(Read::Frame).unwrap().whole);
    // It is not started again at once, and says so.
    let error = chain(&wall.replace(&Frame::default(), &mut std::iter::empty(), now()).unwrap_err());
    assert!(error.contains("it is started again in"), "{error}");
    let report = wall.apply(&[Step::Block(entry("192.0.2.7/32"))], now());
    assert!(report.failed[0].1.contains("exit status: 69"), "{report:?}");
}

#[test]
fn one_that_does_not_understand_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let script = "read -r line; echo 'Invalid command' >&2; exit 65";
    let mut wall = Command::open(&section(&dir.path().join("record"), &["/bin/sh", "-c", script])).unwrap();
    let error = chain(&wall.replace(&Frame::default(), &mut [entry("192.0.2.7/32")].into_iter(), now()).unwrap_err());
    assert!(error.contains("exit status: 65: Invalid command") && error.contains("sshguard's backend protocol"), "{error}");
}

#[test]
fn one_that_stops_reading_is_bounded_and_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let mut wall = Command::open(&recorder(dir.path(), "case $line in *192.0.2.9*) exec sleep 600;; esac")).unwrap();
    replaced(&mut wall, &[]);
    wall.within = Span::millis(300);
    let pid = wall.running.as_ref().unwrap().pid();
    let report = wall.apply(&["192.0.2.8/32", "192.0.2.9/32", "192.0.2.10/32"].map(|p| Step::Block(entry(p))), now());
    assert_eq!((report.done, report.failed.len()), (0, 3));
    assert!(report.failed[0].1.contains("was still running") || report.failed[0].1.contains("not carry out"), "{report:?}");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it was ended");
    assert!(wall.drift().is_err() || matches!(wall.drift(), Ok(Drift::Everything(_))));
}

#[test]
fn one_that_keeps_ending_is_started_less_and_less_often() {
    let dir = tempfile::tempdir().unwrap();
    let mut wall = Command::open(&section(&dir.path().join("record"), &["/bin/sh", "-c", "exit 3"])).unwrap();
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert!(wall.replace(&Frame::default(), &mut std::iter::empty(), now()).is_err());
        waits.push(wall.wait.as_millis() / 1000);
        wall.end.as_mut().unwrap().due = Tick(0);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
}
