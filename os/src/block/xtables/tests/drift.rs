//! What strangers do is seen and healed; what we do ourselves, and what is not ours, is not.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use palisade_core::bans::wall::{Frame, Key, Step};

use super::{Which, block, did, frame, holds, key, many, over_all, port_key, replaced, wanted};
use crate::block::nftables::tests::namespace::{alone, sh};
use crate::block::xtables::Kind;
use crate::block::{Blocker, Drift, Read};

fn noticed(wall: &dyn Blocker) -> bool {
    let mut fd = libc::pollfd { fd: wall.notices().unwrap().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd is given; the kernel writes only its `revents`.
    unsafe { libc::poll(&raw mut fd, 1, 0) == 1 }
}

/// What is said of it, at the latest when the next closer look is due.
fn in_time(wall: &mut dyn Blocker) -> Drift {
    let began = Instant::now();
    loop {
        let drift = wall.drift().unwrap();
        if drift != Drift::None || began.elapsed() > Duration::from_secs(30) {
            return drift;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn every_sabotage_of_the_rules_is_seen_and_healed(which: Which) {
    alone(move || {
        which.sh("t4 -N foreign; t4 -A INPUT -p tcp --dport 22 -j ACCEPT; t4 -A FORWARD -j foreign; t6 -P FORWARD DROP");
        let mut wall = which.open();
        let all = [key("192.0.2.7/32"), key("192.0.2.9/32"), port_key("192.0.2.8/32", &[22]), key("2001:db8::/64")];
        let wanted = wanted(frame(&["192.0.2.1/32"]), &all);
        replaced(wall.as_mut(), &wanted.frame, &mut wanted.entries());
        assert_eq!(wall.drift().unwrap(), Drift::None);
        let chain = which.chain();
        let six = if which.is_ipset() { "palisade-src" } else { "IP6BAN" };
        for wound in [
            "t4 -I INPUT -s 192.0.2.7 -j ACCEPT".to_owned(),
            "t6 -I FORWARD -j ACCEPT".to_owned(),
            // What is in a comment need not be text.
            "t4 -I INPUT -m comment --comment \"$(printf 'B\\374ro')\" -j ACCEPT".to_owned(),
            format!("t4 -F {chain}"),
            format!("t6 -A {six} -j ACCEPT"),
            format!("t4 -I {chain} -j ACCEPT"),
            format!("t4 -D INPUT -j {chain}"),
            format!("t4 -D {chain} 3"),
            format!("t4 -I OUTPUT -j {chain}"),
            "t4 -F; t4 -X; t6 -F; t6 -X".to_owned(),
            "t4 -F INPUT; t4 -A INPUT -j ACCEPT".to_owned(),
            "printf '*filter\\n:INPUT DROP [0:0]\\n:FORWARD ACCEPT [0:0]\\n:OUTPUT ACCEPT [0:0]\\n:mine - [0:0]\\n-A INPUT -j ACCEPT\\n-A FORWARD -j mine\\nCOMMIT\\n' | restore4"
                .to_owned(),
        ] {
            which.sh(&wound);
            assert!(which.kind == Kind::Legacy || noticed(wall.as_ref()), "{wound}");
            let drift = if which.kind == Kind::Nft { wall.drift().unwrap() } else { in_time(wall.as_mut()) };
            assert!(matches!(drift, Drift::Everything(_)), "{wound}: {drift:?}");
            let found = wall.read(Read::Frame).unwrap();
            assert!(!found.whole || found.frame.as_ref() != Some(&wanted.frame), "{wound}");
            replaced(wall.as_mut(), &wanted.frame, &mut wanted.entries());
            holds(wall.as_mut(), &wanted);
            assert_eq!(wall.drift().unwrap(), Drift::None, "{wound}");
        }
        assert!(which.rules().contains("-A FORWARD -j mine") && which.rules().contains(":INPUT DROP"), "theirs stands");
    });
}

/// Where not even a size changes, a closer look finds it.
fn a_rule_exchanged_for_another_is_found(which: Which) {
    alone(move || {
        let mut wall = which.open();
        let wanted = wanted(Frame::default(), &[key("192.0.2.7/32"), key("192.0.2.9/32")]);
        replaced(wall.as_mut(), &wanted.frame, &mut wanted.entries());
        let chain = which.chain();
        let rule = if which.is_ipset() { "1 -i xx -j RETURN" } else { "3 -s 192.0.2.99 -j DROP" };
        which.sh(&format!("t4 -R {chain} {rule}"));
        let drift = in_time(wall.as_mut());
        if which.is_ipset() {
            assert!(matches!(drift, Drift::Everything(_)), "{drift:?}");
        } else {
            assert_eq!(drift, Drift::Bans(vec![key("192.0.2.7/32"), key("192.0.2.99/32")]));
            did(wall.as_mut(), &[block(key("192.0.2.7/32"), None), Step::Release(key("192.0.2.99/32"))]);
            holds(wall.as_mut(), &wanted);
        }
    });
}

fn what_is_not_ours_and_what_we_do_is_no_drift(which: Which) {
    alone(move || {
        let mut wall = which.open();
        assert_eq!(wall.drift().unwrap(), Drift::None);
        replaced(wall.as_mut(), &frame(&["192.0.2.1/32"]), &mut many(300));
        let quiet = |wall: &mut dyn Blocker, what: &str| assert_eq!(wall.drift().unwrap(), Drift::None, "{what}");
        quiet(wall.as_mut(), "a load");
        which.sh("t4 -N foreign; t4 -A foreign -j ACCEPT; t4 -A INPUT -j foreign; t6 -A OUTPUT -j ACCEPT");
        sh("nft add table inet other; nft add chain inet other c; ipset create palisade hash:ip; ipset create palisade-other hash:net");
        quiet(wall.as_mut(), "others' chains and sets");
        let steps: Vec<_> = many(900).map(Step::Block).collect();
        did(wall.as_mut(), &steps);
        which.sh("t4 -D INPUT -j foreign");
        let steps: Vec<_> = many(800).map(|entry| Step::Release(entry.key)).collect();
        did(wall.as_mut(), &steps);
        quiet(wall.as_mut(), "changes of ours around one of theirs");
        did(wall.as_mut(), &[Step::Frame(Frame::default()), block(key("2001:db8::/32"), None)]);
        std::thread::sleep(Duration::from_millis(2500)); // a look at the sets is due
        quiet(wall.as_mut(), "a look");
        if which.is_ipset() {
            // As another of us that is just being opened has them, to try the kernel out.
            sh("ipset create palisade-probe hash:net");
            which.sh("t4 -N palisade-probe; t4 -A palisade-probe -m set --match-set palisade-probe src -j DROP");
            quiet(wall.as_mut(), "another's trying out");
            assert!(wall.read(Read::Frame).unwrap().whole);
            which.sh("t4 -F palisade-probe; t4 -X palisade-probe");
            sh("ipset destroy palisade-probe");
        }
        wall.remove().unwrap();
        quiet(wall.as_mut(), "taking all away");
        assert_eq!(sh("ipset list -n"), "palisade\npalisade-other\n");
    });
}

over_all!(
    every_sabotage_of_the_rules_is_seen_and_healed,
    a_rule_exchanged_for_another_is_found,
    what_is_not_ours_and_what_we_do_is_no_drift,
);

fn ipset(kind: Kind) -> Which {
    Which { backend: palisade_core::bans::backend::Backend::Ipset, kind }
}

#[test]
fn every_sabotage_of_the_sets_is_seen_and_healed() {
    alone(|| {
        let which = ipset(Kind::Nft);
        let mut wall = which.open();
        let all = [key("192.0.2.7/32"), key("192.0.2.9/32"), port_key("192.0.2.8/32", &[22]), key("2001:db8::/64")];
        let wanted = wanted(frame(&["192.0.2.1/32"]), &all);
        replaced(wall.as_mut(), &wanted.frame, &mut wanted.entries());
        for (wound, at_once) in [
            ("ipset flush", false),
            ("ipset del $(named b4) 192.0.2.7", false),
            ("ipset add $(named a4) 192.0.2.9", false),
            ("ipset add $(named b4) 203.0.113.0/24", false),
            ("s=$(named b4); ipset create t hash:net timeout 0; ipset swap t $s; ipset flush t", false),
            ("s=$(named b4); iptables-nft -F; iptables-nft -X; ipset destroy $s; iptables-nft -P INPUT ACCEPT", true),
        ] {
            sh(&format!("named() {{ ipset list -n | grep \"^palisade-$1\\(\\.\\|$\\)\"; }}\n{wound}"));
            let drift = if at_once { wall.drift().unwrap() } else { in_time(wall.as_mut()) };
            assert!(matches!(drift, Drift::Everything(_)), "{wound}: {drift:?}");
            replaced(wall.as_mut(), &wanted.frame, &mut wanted.entries());
            holds(wall.as_mut(), &wanted);
            assert_eq!(wall.drift().unwrap(), Drift::None, "{wound}");
        }
    });
}

#[test]
fn what_was_taken_out_just_before_we_changed_something_is_seen() {
    alone(|| {
        let mut wall = ipset(Kind::Legacy).open();
        did(wall.as_mut(), &[block(key("192.0.2.7/32"), None), block(key("192.0.2.8/32"), Some(500))]);
        sh("ipset del palisade-b4 192.0.2.7");
        did(wall.as_mut(), &[block(key("192.0.2.9/32"), None)]);
        assert_eq!(wall.drift().unwrap(), Drift::Everything("IPv4: 1 members were taken out of the set palisade-b4".into()));
        assert_eq!(wall.read(Read::All).unwrap().bans.len(), 2, "and what was asked for was done");
    });
}

#[test]
fn an_expired_ban_is_no_drift() {
    alone(|| {
        let mut wall = ipset(Kind::Nft).open();
        let keys: [Key; 3] = ["192.0.2.7/32", "192.0.2.8/32", "192.0.2.9/32"].map(key);
        did(wall.as_mut(), &[block(keys[0].clone(), Some(2)), block(keys[1].clone(), Some(3)), block(keys[2].clone(), None)]);
        let began = Instant::now();
        while wall.read(Read::All).unwrap().bans.len() > 1 {
            assert_eq!(wall.drift().unwrap(), Drift::None);
            assert!(began.elapsed() < Duration::from_secs(20));
        }
        assert!(began.elapsed() > Duration::from_millis(2900), "it ended early");
        did(wall.as_mut(), &[Step::Release(keys[0].clone()), Step::Release(keys[1].clone())]);
        assert_eq!(wall.drift().unwrap(), Drift::None);
        sh("ipset del palisade-b4 192.0.2.9");
        assert!(matches!(in_time(wall.as_mut()), Drift::Everything(_)));
    });
}
