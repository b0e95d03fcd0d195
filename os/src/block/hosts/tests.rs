//! Against libwrap itself: tcpdmatch(8) says what it would do with a client. It reads the files of a folder of ours.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use palisade_core::bans::wall::Key;
use palisade_core::time::Until;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::errors::chain;

/// A folder with hosts.allow and hosts.deny.
struct Etc(tempfile::TempDir);

impl Etc {
    fn new(allow: &str, deny: &str) -> Self {
        let etc = Self(tempfile::tempdir().unwrap());
        fs::write(etc.path("hosts.allow"), allow).unwrap();
        fs::write(etc.path("hosts.deny"), deny).unwrap();
        etc
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn section(&self, name: &str) -> HostsSection {
        HostsSection { file: self.path(name).to_str().unwrap().to_owned() }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// What libwrap says, without a word of complaint about the files.
    #[track_caller]
    fn denied(&self, client: &str) -> bool {
        let out = Command::new("tcpdmatch").args(["-d", "sshd", client]).current_dir(self.0.path()).output().unwrap();
        let (said, complained) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(!complained.contains("line"), "{complained}");
        match said.lines().last().map(str::trim) {
            Some("access:   denied") => true,
            Some("access:   granted") => false,
            _ => panic!("tcpdmatch says {said} {complained}"),
        }
    }
}

fn key(text: &str) -> Key {
    Key::all(text.parse().unwrap())
}

fn entry(text: &str) -> Entry {
    Entry { key: key(text), until: Until::Forever }
}

fn now() -> Stamp {
    clock::now().stamp
}

#[track_caller]
fn did(wall: &mut Hosts, steps: &[Step]) {
    let report = wall.apply(steps, now());
    assert!(report.ok() && report.done == steps.len(), "{report:?}");
}

#[track_caller]
fn replaced(wall: &mut Hosts, prefixes: &[&str]) {
    let report = wall.replace(&Frame::default(), &mut prefixes.iter().map(|p| entry(p)), now()).unwrap();
    assert!(report.ok() && report.done == prefixes.len(), "{report:?}");
}

fn stands(wall: &mut Hosts) -> Vec<Key> {
    wall.read(Read::All).unwrap().bans.into_keys().collect()
}

const INSIDE: [&str; 9] = [
    "192.0.2.7",
    "198.51.100.0",
    "198.51.100.255",
    "203.0.113.6",
    "203.0.113.7",
    "2001:db8:1::",
    "2001:db8:1::ffff",
    "2001:db8:0:f:1::",
    "2001:db8:2::7",
];
const OUTSIDE: [&str; 8] =
    ["192.0.2.6", "192.0.2.8", "198.51.101.0", "203.0.113.5", "203.0.113.8", "2001:db8:1:1::", "2001:db8:0:10::", "2001:db8:2::8"];
const BANS: [&str; 6] = ["192.0.2.7/32", "198.51.100.0/24", "203.0.113.6/31", "2001:db8:1::/64", "2001:db8:0:8::/61", "2001:db8:2::7/128"];

#[test]
fn libwrap_denies_the_banned_and_grants_the_others() {
    for file in ["hosts.deny", "hosts.allow"] {
        let etc = Etc::new("", "");
        let mut wall = Hosts::open(&etc.section(file)).unwrap();
        replaced(&mut wall, &BANS);
        for (client, denied) in INSIDE.map(|c| (c, true)).into_iter().chain(OUTSIDE.map(|c| (c, false))) {
            assert_eq!(etc.denied(client), denied, "{client} by {file}:\n{}", etc.text(file));
        }
        did(&mut wall, &[Step::Release(key("198.51.100.0/24")), Step::Release(key("2001:db8:1::/64"))]);
        assert!(!etc.denied("198.51.100.255") && !etc.denied("2001:db8:1::ffff"));
        assert!(etc.denied("192.0.2.7") && etc.denied("2001:db8:2::7"));
    }
}

#[test]
fn every_one_of_many_is_denied_whatever_the_lengths_of_lines() {
    let etc = Etc::new("", "");
    let mut wall = Hosts::open(&etc.section("hosts.deny")).unwrap();
    // The longest spellings there are.
    let many: Vec<String> = (0..1000).map(|n| format!("2001:db8:aaaa:bbbb:cccc:dddd:eeee:{:x}/128", 0x1000 + n)).collect();
    replaced(&mut wall, &many.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(etc.text("hosts.deny").lines().all(|line| line.len() < 400));
    for n in [0, 7, 8, 500, 999] {
        assert!(etc.denied(many[n].strip_suffix("/128").unwrap()), "{n}");
    }
    assert!(!etc.denied("2001:db8:aaaa:bbbb:cccc:dddd:eeee:2000"));
}

#[test]
fn in_hosts_allow_it_comes_before_what_lets_everybody_in() {
    let etc = Etc::new("sshd : 192.0.2.0/255.255.255.0\nALL : ALL\n", "ALL : ALL\n");
    let error = chain(&Hosts::open(&etc.section("hosts.deny")).unwrap_err());
    assert!(error.contains("with `ALL : ALL`") && error.contains("[backend.hosts]"), "{error}");
    let mut wall = Hosts::open(&etc.section("hosts.allow")).unwrap();
    replaced(&mut wall, &["192.0.2.7/32"]);
    assert!(etc.denied("192.0.2.7") && !etc.denied("192.0.2.8") && !etc.denied("198.51.100.7"));
}

#[test]
fn what_lets_everybody_in_later_is_an_error_for_as_long_as_it_does() {
    let etc = Etc::new("sshd : LOCAL\n", "");
    let mut wall = Hosts::open(&etc.section("hosts.deny")).unwrap();
    replaced(&mut wall, &["192.0.2.7/32"]);
    assert_eq!(wall.drift().unwrap(), Drift::None);
    fs::write(etc.path("hosts.allow"), "sshd : LOCAL, ALL\n").unwrap();
    for _ in 0..2 {
        let error = chain(&wall.drift().unwrap_err());
        assert!(error.contains("hosts.allow lets everybody in first with `sshd : LOCAL, ALL`"), "{error}");
    }
    fs::remove_file(etc.path("hosts.allow")).unwrap();
    assert_eq!(wall.drift().unwrap(), Drift::None);
}

#[test]
fn what_lets_everybody_in_is_told_from_what_does_not() {
    for line in [
        "ALL : ALL",
        "sshd:ALL",
        "ALL : all : allow",
        " sshd, vsftpd : ALL, 192.0.2.7",
        "sshd : LOCAL, All",
        "sshd : 192.0.2.7 ALL EXCEPT 192.0.2.8",
        "ALL : [2001:db8::]/32 ALL",
    ] {
        assert!(lets_everybody_in(line), "{line}");
    }
    for line in ["# ALL : ALL", "ALL : ALL : deny", "ALL : LOCAL EXCEPT ALL", "ALL : 192.0.2.7", "sshd : LOCAL", "", "ALL"] {
        assert!(!lets_everybody_in(line), "{line}");
    }
}

#[test]
fn forced_bans_and_bans_by_rule_are_two() {
    let etc = Etc::new("", "");
    let mut wall = Hosts::open(&etc.section("hosts.deny")).unwrap();
    let forced = Key { forced: true, ..key("192.0.2.7/32") };
    did(&mut wall, &[Step::Block(entry("192.0.2.7/32")), Step::Block(Entry { key: forced.clone(), until: Until::Forever })]);
    // Also for one who has to read it.
    let mut next = Hosts::open(&etc.section("hosts.deny")).unwrap();
    assert_eq!(stands(&mut next), [key("192.0.2.7/32"), forced.clone()]);
    did(&mut next, &[Step::Release(key("192.0.2.7/32"))]);
    assert!(etc.denied("192.0.2.7"));
    did(&mut next, &[Step::Release(forced)]);
    assert!(!etc.denied("192.0.2.7"));
}

#[test]
fn what_others_do_is_seen_and_what_we_do_is_not() {
    let etc = Etc::new("", "# theirs\n");
    let path = etc.path("hosts.deny");
    let mut wall = Hosts::open(&etc.section("hosts.deny")).unwrap();
    assert_eq!(wall.drift().unwrap(), Drift::None, "before there is anything of ours");
    replaced(&mut wall, &BANS);
    assert_eq!(wall.drift().unwrap(), Drift::None);
    did(&mut wall, &[Step::Release(key("192.0.2.7/32")), Step::Block(entry("192.0.2.99/32"))]);
    assert_eq!(wall.drift().unwrap(), Drift::None);

    // One ban out, one in, within the second, in place, without a change of size.
    let edited = etc.text("hosts.deny").replace("192.0.2.99", "192.0.2.88");
    fs::write(&path, edited).unwrap();
    let mut changed = vec![key("192.0.2.88/32"), key("192.0.2.99/32")];
    assert_eq!(wall.drift().unwrap(), Drift::Bans(changed.clone()));
    assert_eq!(wall.drift().unwrap(), Drift::None, "it is told once");
    did(&mut wall, &[Step::Release(changed.remove(0)), Step::Block(entry("192.0.2.99/32"))]);
    assert!(etc.denied("192.0.2.99") && !etc.denied("192.0.2.88"));
    assert_eq!(wall.drift().unwrap(), Drift::None);

    // Their own lines are theirs.
    fs::write(&path, etc.text("hosts.deny") + "ALL : 192.0.2.200\n").unwrap();
    assert_eq!(wall.drift().unwrap(), Drift::None);
    did(&mut wall, &[Step::Block(entry("192.0.2.98/32"))]);
    assert!(etc.text("hosts.deny").ends_with("# theirs\nALL : 192.0.2.200\n"));

    for (edit, said) in [
        ("ALL : 192.0.2.1 : allow\n".to_owned() + &etc.text("hosts.deny"), "lines were put before our block"),
        (String::new(), "is gone"),
        (etc.text("hosts.deny").replace("ALL : 192.0.2.98", "sshd : 192.0.2.98"), "not ours"),
    ] {
        fs::write(&path, edit).unwrap();
        let Drift::Everything(what) = wall.drift().unwrap() else { panic!("{said} is not seen") };
        assert!(what.contains(said), "{what}");
        assert!(said == "is gone" || !wall.read(Read::Frame).unwrap().whole);
        replaced(&mut wall, &BANS);
        assert_eq!(wall.drift().unwrap(), Drift::None);
        assert!(etc.denied("192.0.2.7") && wall.read(Read::Frame).unwrap().whole);
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(wall.drift().unwrap(), Drift::Everything(_)));
}

#[test]
fn a_link_stays_and_what_cannot_be_written_is_told_at_once() {
    let etc = Etc::new("", "");
    symlink(etc.path("hosts.deny"), etc.path("link")).unwrap();
    let mut wall = Hosts::open(&etc.section("link")).unwrap();
    replaced(&mut wall, &["192.0.2.7/32"]);
    assert!(fs::symlink_metadata(etc.path("link")).unwrap().is_symlink() && etc.denied("192.0.2.7"));
    let error = chain(&Hosts::open(&HostsSection { file: "/nonexistent/hosts.deny".into() }).unwrap_err());
    assert!(error.contains("/nonexistent/hosts.deny") && error.contains("[backend.hosts]"), "{error}");
    let error = Hosts::open(&HostsSection { file: "/proc/hosts.deny".into() })
        .and_then(|mut wall| wall.replace(&Frame::default(), &mut [entry("192.0.2.7/32")].into_iter(), now()).map(|_| wall));
    assert!(chain(&error.unwrap_err()).contains("/proc/hosts.deny"));
}

#[test]
fn taken_away_nothing_of_ours_is_left() {
    let theirs = "# theirs\r\nALL : 192.0.2.200";
    let etc = Etc::new("", theirs);
    let mut wall = Hosts::open(&etc.section("hosts.deny")).unwrap();
    replaced(&mut wall, &BANS);
    assert_ne!(etc.text("hosts.deny"), theirs);
    wall.remove().unwrap();
    assert_eq!(etc.text("hosts.deny"), theirs);
    assert!(!wall.read(Read::Frame).unwrap().whole);
    assert_eq!(wall.drift().unwrap(), Drift::None);
    wall.remove().unwrap();
    // And it can be put up again.
    did(&mut wall, &[Step::Block(entry("192.0.2.7/32"))]);
    assert!(etc.denied("192.0.2.7"));
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (0u32..40, 8u8..=32).prop_map(|(n, len)| Prefix::new(std::net::Ipv4Addr::from_bits(0xc000_0200 + n).into(), len));
    let v6 = (0u128..40, 16u8..=128).prop_map(|(n, len)| Prefix::new(std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + n).into(), len));
    prop_oneof![v4, v6].prop_map(Option::unwrap)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn whatever_stood_before_what_is_wanted_stands_after(states in vec((btree_set(any_prefix(), 0..20), any::<bool>()), 1..6)) {
        let etc = Etc::new("", "sshd : .example.org");
        let mut wall = Hosts::open(&etc.section("hosts.deny")).unwrap();
        for (wanted, all_at_once) in states {
            let entries: Vec<Entry> = wanted.iter().map(|p| Entry { key: Key::all(*p), until: Until::Forever }).collect();
            if all_at_once {
                prop_assert!(wall.replace(&Frame::default(), &mut entries.into_iter(), now()).unwrap().ok());
            } else {
                let gone = stands(&mut wall).into_iter().filter(|key| !wanted.contains(&key.prefix)).map(Step::Release);
                let steps: Vec<Step> = entries.into_iter().map(Step::Block).chain(gone).collect();
                did(&mut wall, &steps);
                did(&mut wall, &steps);
            }
            let there: Vec<Prefix> = stands(&mut wall).into_iter().map(|key| key.prefix).collect();
            prop_assert_eq!(there, wanted.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(wall.drift().unwrap(), Drift::None);
            prop_assert!(etc.text("hosts.deny").ends_with("sshd : .example.org"));
        }
    }
}
