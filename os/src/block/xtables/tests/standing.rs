//! What stands beside us, what stands after a restart, and what happens when there is much of it.

use std::collections::BTreeSet;
use std::time::Instant;

use palisade_core::bans::wall::{Entry, Found, Frame, Key, Refusal, Step};
use palisade_core::time::{Span, Until};

use super::{Which, block, did, frame, holds, key, many, now, over_all, port_key, replaced, wanted};
use crate::block::ipset::Ipset;
use crate::block::nftables::tests::namespace::{alone, sh};
use crate::block::xtables::Kind;
use crate::block::{Blocker, Drift, Read};

/// As Docker, ufw and libvirt have theirs: chains, jumps, address translation, sets.
const FOREIGN: &str = "
    t4 -N DOCKER-USER; t4 -A DOCKER-USER -j RETURN; t4 -A FORWARD -j DOCKER-USER; t4 -P FORWARD DROP
    t4 -N ufw-user-input; t4 -A ufw-user-input -p tcp --dport 22 -m comment --comment 'a -j palisade-src of theirs' -j ACCEPT
    t4 -A INPUT -j ufw-user-input; t4 -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; t4 -P INPUT DROP
    t4 -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 198.51.100.2:8080; t4 -t raw -A PREROUTING -j ACCEPT
    t6 -N LIBVIRT_INP; t6 -A LIBVIRT_INP -p udp --dport 53 -j ACCEPT; t6 -A INPUT -j LIBVIRT_INP; t6 -A OUTPUT -j ACCEPT
    ipset create fail2ban hash:ip timeout 60; ipset add fail2ban 192.0.2.99; t4 -A INPUT -m set --match-set fail2ban src -j DROP";

fn what_others_have_is_left_as_it_is(which: Which) {
    alone(move || {
        which.sh(FOREIGN);
        let all = || format!("{}{}", which.rules(), sh("ipset list -n; nft list tables | grep -v filter || true"));
        let before = all();
        let mut wall = which.open();
        assert_eq!(all(), before, "opening changes nothing");
        assert_eq!(wall.read(Read::All).unwrap(), Found::default());
        let bans =
            [key("192.0.2.7/32"), port_key("192.0.2.0/24", &[22, 80]), key("2001:db8::/64"), Key { forced: true, ..key("0.0.0.0/0") }];
        let wanted = wanted(Frame { refusal: Refusal::Reject, ..frame(&["192.0.2.1/32", "2001:db8::1/128"]) }, &bans);
        replaced(wall.as_mut(), &wanted.frame, &mut wanted.entries());
        did(wall.as_mut(), &[block(port_key("203.0.113.0/24", &[443]), Some(60)), Step::Frame(Frame::default())]);
        did(wall.as_mut(), &[Step::Release(key("192.0.2.7/32"))]);
        let theirs = |rules: &str| -> Vec<String> {
            let ours = ["palisade", "IP4BAN", "IP6BAN"];
            let foreign = |line: &&str| !ours.iter().any(|name| line.contains(name)) || line.contains("of theirs");
            rules.lines().filter(foreign).map(str::to_owned).collect()
        };
        assert_eq!(theirs(&all()), theirs(&before));
        wall.remove().unwrap();
        assert_eq!(all(), before);
        wall.remove().unwrap();
    });
}

fn a_restarted_program_sees_what_stands(which: Which) {
    alone(move || {
        let bans =
            [key("192.0.2.7/32"), port_key("192.0.2.0/24", &[22]), key("2001:db8::/64"), Key { forced: true, ..key("192.0.2.7/32") }];
        let wanted = wanted(frame(&["192.0.2.1/32"]), &bans);
        did(which.open().as_mut(), &[Step::Frame(wanted.frame.clone())]);
        did(which.open().as_mut(), &wanted.entries().map(Step::Block).collect::<Vec<_>>());
        let rules = which.rules();
        let mut wall = which.open();
        assert_eq!(rules, which.rules(), "opening changes nothing");
        holds(wall.as_mut(), &wanted);
        did(which.open().as_mut(), &[Step::Release(bans[1].clone()), block(bans[0].clone(), None)]);
        let asked = [bans[0].clone(), bans[1].clone(), key("192.0.2.0/32"), key("192.0.2.0/24")];
        assert_eq!(wall.read(Read::Keys(&asked)).unwrap().bans.into_keys().collect::<Vec<_>>(), [bans[0].clone()]);
        which.sh(&format!("t4 -F {}", which.chain()));
        assert!(!which.open().read(Read::All).unwrap().whole);
        let mut wall = which.open();
        did(wall.as_mut(), &[block(bans[2].clone(), None)]);
        assert!(wall.read(Read::Frame).unwrap().whole, "who bans makes all whole");
    });
}

fn a_ban_that_is_over_is_released_and_twice_is_once(which: Which) {
    alone(move || {
        let mut wall = which.open();
        let over = Entry { key: key("192.0.2.7/32"), until: Until::At(now()) };
        did(wall.as_mut(), &[Step::Block(over.clone()), Step::Release(key("192.0.2.9/32"))]);
        assert_eq!(wall.read(Read::All).unwrap(), Found::default(), "nothing to do");
        did(wall.as_mut(), &[block(over.key.clone(), Some(60)), block(key("192.0.2.8/32"), None), block(key("192.0.2.8/32"), Some(60))]);
        did(wall.as_mut(), &[Step::Block(over.clone())]);
        let found = wall.read(Read::All).unwrap();
        assert_eq!(found.bans.keys().collect::<Vec<_>>(), [&key("192.0.2.8/32")]);
        assert_eq!(found.bans[&key("192.0.2.8/32")].left.is_some(), wall.limits().timeouts, "the last end counts");
        replaced(wall.as_mut(), &Frame::default(), &mut [over].into_iter());
        assert_eq!(wall.read(Read::All).unwrap().bans.len(), 0);
    });
}

/// ip6tables-nft compares addresses without their masks when it looks for a rule to delete.
fn a_release_takes_no_other_rule(which: Which) {
    alone(move || {
        let mut wall = which.open();
        let keys = ["2001:db8::/32", "2001:db8::/64", "2001:db8::/128", "192.0.2.0/24", "192.0.2.0/32"].map(key);
        did(wall.as_mut(), &keys.clone().map(|key| block(key, None)));
        for at in [2, 0, 3, 1] {
            did(wall.as_mut(), &[Step::Release(keys[at].clone())]);
            let found = wall.read(Read::All).unwrap();
            assert!(found.whole && !found.bans.contains_key(&keys[at]) && found.bans.contains_key(&keys[4]), "{found:?}");
        }
        assert_eq!(wall.read(Read::All).unwrap().bans.into_keys().collect::<Vec<_>>(), [keys[4].clone()]);
    });
}

over_all!(
    a_release_takes_no_other_rule,
    what_others_have_is_left_as_it_is,
    a_restarted_program_sees_what_stands,
    a_ban_that_is_over_is_released_and_twice_is_once
);

fn ipset(kind: Kind) -> Ipset {
    Ipset::open(&Which { backend: palisade_core::bans::backend::Backend::Ipset, kind }.section()).unwrap()
}

/// How many members a set takes, by its header.
fn rooms() -> Vec<usize> {
    let all = sh("ipset list -t | sed -n 's/.*maxelem \\([0-9]*\\).*/\\1/p'");
    all.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_set_grows_before_it_is_full() {
    for kind in [Kind::Nft, Kind::Legacy] {
        alone(move || {
            let mut wall = ipset(kind);
            wall.room = 4;
            let mut count = 0;
            let mut last = 0;
            while count < 300 {
                let some: Vec<_> = many(count + 7).skip(count as usize).map(Step::Block).collect();
                did(&mut wall, &some);
                count += 7;
                let room = *rooms().iter().max().unwrap();
                assert!(room > count as usize && room >= last);
                last = room;
            }
            assert!(last > 300 && rooms().len() == 1, "{:?}", rooms());
            let found = wall.read(Read::All).unwrap();
            assert!(found.whole && found.bans.len() == count as usize);
            assert!(found.bans.values().all(|standing| standing.left.is_some_and(|left| left > Span::secs(3000))), "ends are kept");
            assert_eq!(wall.drift().unwrap(), Drift::None);
            // What another release of ours left full is no obstacle either.
            sh(
                "ipset create small hash:net maxelem 301 timeout 0 counters; ipset save palisade-b4 | grep ^add | sed s/palisade-b4/small/ | ipset restore",
            );
            sh("ipset swap small palisade-b4; ipset destroy small");
            let mut wall = ipset(kind);
            did(&mut wall, &[block(key("192.0.2.0/24"), None), block(key("192.0.2.1/32"), Some(50))]);
            assert_eq!(wall.read(Read::All).unwrap().bans.len(), count as usize + 2);
        });
    }
}

#[test]
fn a_fill_grows_sets_too_and_only_a_short_one_counts() {
    alone(|| {
        let mut wall = ipset(Kind::Legacy);
        (wall.room, wall.counted) = (4, 100);
        for (n, counts) in [(100, true), (101, false), (70_000, false)] {
            replaced(&mut wall, &frame(&["192.0.2.1/32"]), &mut many(n));
            let found = wall.read(Read::All).unwrap();
            assert_eq!(found.bans.len(), n as usize);
            assert!(found.bans.values().all(|standing| standing.packets.is_some() == counts));
            assert_eq!(wall.drift().unwrap(), Drift::None);
        }
        assert_eq!(rooms().len(), 2, "the former sets are gone");
    });
}

#[test]
fn one_member_that_is_refused_does_not_sink_the_rest() {
    alone(|| {
        let mut wall = ipset(Kind::Nft);
        did(&mut wall, &[block(key("192.0.2.1/32"), None)]);
        // A set that refuses what is put into it beyond two, and that is not known to be so small.
        sh("ipset create small hash:net maxelem 2 timeout 0; ipset add small 192.0.2.1; ipset swap small palisade-b4");
        let steps: Vec<_> = ["192.0.2.2/32", "192.0.2.3/32", "2001:db8::/64"].map(|text| block(key(text), None)).into();
        let changes = [("192.0.2.2/32", 0), ("192.0.2.3/32", 1), ("192.0.2.1/32", 2), ("2001:db8::/64", 3)];
        let sets = super::super::super::ipset::sets::Sets::find(&["/usr/sbin".to_owned(), "/sbin".to_owned()]).unwrap();
        let change = |(text, index): (&str, usize)| crate::block::ipset::sets::Change {
            set: 0,
            member: text.parse().unwrap(),
            end: crate::block::ipset::sets::End::Never,
            index,
        };
        let bad = sets.change(&changes.map(change), &["palisade-b4"]).unwrap();
        assert_eq!(bad.iter().map(|(index, _)| *index).collect::<BTreeSet<_>>(), [1, 3].into());
        assert!(bad[0].1.contains("full"), "{bad:?}");
        assert_eq!(sh("ipset save palisade-b4 | grep -c ^add"), "2\n");
        did(&mut wall, &steps);
        assert_eq!(wall.read(Read::All).unwrap().bans.len(), 4, "it is grown");
    });
}

#[test]
fn a_ban_longer_than_the_kernel_counts_stands_without_a_timeout() {
    alone(|| {
        let mut wall = ipset(Kind::Nft);
        did(&mut wall, &[block(key("192.0.2.1/32"), Some(2_147_400)), block(key("192.0.2.2/32"), Some(5_000_000))]);
        let found = wall.read(Read::All).unwrap();
        assert_eq!(found.bans.values().map(|standing| standing.left.is_some()).collect::<Vec<_>>(), [true, false]);
        did(&mut wall, &[block(key("192.0.2.1/32"), Some(5_000_000)), block(key("192.0.2.2/32"), Some(60))]);
        let found = wall.read(Read::All).unwrap();
        assert_eq!(found.bans.values().map(|standing| standing.left.is_some()).collect::<Vec<_>>(), [false, true]);
    });
}

#[test]
fn iptables_takes_so_many_and_no_more() {
    alone(|| {
        let which = Which { backend: palisade_core::bans::backend::Backend::Iptables, kind: Kind::Legacy };
        let mut wall = which.open();
        let report = wall.replace(&Frame::default(), &mut many(65_538), now()).unwrap();
        assert_eq!(report.done, 65_536);
        assert_eq!(report.failed.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [65_536, 65_537]);
        let more = block(key("2001:db8::/64"), None);
        assert!(wall.apply(&[more.clone(), block(key("10.0.0.1/32"), None)], now()).failed[0].1.contains("use backend"));
        did(wall.as_mut(), &[Step::Release(key("10.0.0.1/32"))]);
        did(wall.as_mut(), &[more]);
        assert_eq!(wall.drift().unwrap(), Drift::None);
        assert_eq!(wall.read(Read::All).unwrap().bans.len(), 65_536);
    });
}

/// The numbers that the module docs and the note tell: `cargo test ... -- --ignored --nocapture how_long`.
#[test]
#[ignore = "measures"]
fn how_long_loads_and_repairs_take() {
    use palisade_core::bans::backend::Backend;
    for (backend, sizes) in [
        (Backend::Ipset, if std::env::var_os("A_MILLION").is_some() { &[10_000, 1_000_000][..] } else { &[10_000, 20_000][..] }),
        (Backend::Iptables, &[10_000, 20_000][..]),
    ] {
        for kind in [Kind::Nft, Kind::Legacy] {
            let which = Which { backend, kind };
            for size in sizes {
                let size = *size;
                alone(move || {
                    let mut wall = which.open();
                    let timed = |work: &mut dyn FnMut()| {
                        let began = Instant::now();
                        work();
                        began.elapsed()
                    };
                    let load = timed(&mut || replaced(wall.as_mut(), &Frame::default(), &mut many(size)));
                    let again = timed(&mut || replaced(wall.as_mut(), &Frame::default(), &mut many(size)));
                    let one = timed(&mut || did(wall.as_mut(), &[block(key("192.0.2.1/32"), Some(60))]));
                    let gone = timed(&mut || did(wall.as_mut(), &[Step::Release(key("192.0.2.1/32"))]));
                    which.sh("t4 -F INPUT; t4 -I INPUT -j ACCEPT");
                    let seen = timed(&mut || while wall.drift().unwrap() == Drift::None {});
                    let healed = timed(&mut || replaced(wall.as_mut(), &Frame::default(), &mut many(size)));
                    let quiet = timed(&mut || assert_eq!(wall.drift().unwrap(), Drift::None));
                    eprintln!(
                        "{which:?} {size}: load {load:?}, again {again:?}, one more {one:?}, one less {gone:?}, seen in {seen:?}, healed in {healed:?}, quiet look {quiet:?}; {}",
                        std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|line| line.starts_with("VmHWM")).unwrap()
                    );
                });
            }
        }
    }
}
