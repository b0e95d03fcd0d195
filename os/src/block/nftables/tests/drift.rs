//! What strangers do is seen; what we do ourselves, and what is not ours, is not.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use palisade_core::bans::wall::{Frame, Key, Step};

use super::namespace::{alone, sh};
use super::{block, did, frame, holds, key, many, now, port_key, replaced, wanted};
use crate::block::nftables::Nftables;
use crate::block::{Blocker, Drift, Read};

fn noticed(wall: &Nftables) -> bool {
    let mut fd = libc::pollfd { fd: wall.notices().unwrap().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd is given; the kernel writes only its `revents`.
    unsafe { libc::poll(&raw mut fd, 1, 0) == 1 }
}

#[test]
fn a_flush_of_everything_is_seen_and_healed() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        replaced(&mut wall, &frame(&["192.0.2.1/32"]), &mut many(100_000));
        assert_eq!(wall.drift().unwrap(), Drift::None);
        assert!(!noticed(&wall));
        sh("nft flush ruleset");
        assert!(noticed(&wall));
        assert_eq!(wall.drift().unwrap(), Drift::Everything("a rule of ours was deleted".into()));
        replaced(&mut wall, &frame(&["192.0.2.1/32"]), &mut many(100_000));
        assert_eq!(wall.drift().unwrap(), Drift::None);
        let asked: Vec<Key> = many(100_000).map(|entry| entry.key).collect();
        let found = wall.read(Read::Keys(&asked)).unwrap();
        assert!(found.whole && found.bans.len() == 100_000);
    });
}

/// As the command line looks beside a daemon: who asks what the kernel can do must find out, and be no drift.
#[test]
fn another_that_looks_what_the_kernel_can_do_disturbs_nothing() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        replaced(&mut wall, &Frame::default(), &mut many(10));
        let _other = Nftables::open().unwrap();
        assert_eq!(wall.drift().unwrap(), Drift::None);
        std::thread::scope(|scope| {
            let looks = [(); 2].map(|()| scope.spawn(|| (0..20).for_each(|_| drop(Nftables::open().unwrap()))));
            while !looks.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                replaced(&mut wall, &Frame::default(), &mut many(10));
            }
        });
        let tables = sh("nft list tables");
        assert!(!tables.contains("probe"), "nothing of it stays: {tables}");
    });
}

/// From the moment the wall could know that everything was flushed until every ban stands again,
/// as the daemon does it. Says how long that takes; on an idle machine under 100 ms.
#[test]
fn how_long_a_flush_opens_the_wall() {
    let took = alone(|| {
        let mut wall = Nftables::open().unwrap();
        replaced(&mut wall, &Frame::default(), &mut many(10_000));
        let mut flush = std::process::Command::new("nft").args(["flush", "ruleset"]).spawn().unwrap();
        while !noticed(&wall) {
            std::thread::yield_now();
        }
        let began = Instant::now();
        assert!(matches!(wall.drift().unwrap(), Drift::Everything(_)));
        let seen = began.elapsed();
        replaced(&mut wall, &Frame::default(), &mut many(10_000));
        let took = (seen, began.elapsed());
        assert!(flush.wait().unwrap().success());
        assert_eq!(wall.read(Read::All).unwrap().bans.len(), 10_000);
        took
    });
    eprintln!("a flush of 10,000 bans was seen in {:?} and all stood again after {:?}", took.0, took.1);
    assert!(took.1 < Duration::from_secs(10));
}

#[test]
fn single_bans_are_named() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        let (a, b, c) = (key("192.0.2.7/32"), port_key("198.51.100.0/24", &[22]), key("2001:db8::/64"));
        did(&mut wall, &[block(a.clone(), None), block(b.clone(), Some(500)), block(c.clone(), None)]);
        assert_eq!(wall.drift().unwrap(), Drift::None, "our own doing is no drift");
        sh("nft delete element inet palisade ban4_32 '{ 192.0.2.7 }'; nft delete element inet palisade ban4_24_p22 '{ 198.51.100.0 }'");
        sh("nft add element inet palisade ban6_64 '{ 2001:db8:1:: }'");
        assert_eq!(wall.drift().unwrap(), Drift::Bans(vec![a.clone(), b.clone(), key("2001:db8:1::/64")]));
        did(&mut wall, &[block(a.clone(), None), block(b.clone(), None), Step::Release(key("2001:db8:1::/64"))]);
        holds(&mut wall, &wanted(Frame::default(), &[a, b, c]));
        assert_eq!(wall.drift().unwrap(), Drift::None);
    });
}

#[test]
fn every_change_of_the_structure_is_seen_and_healed() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        let all = [key("192.0.2.7/32"), port_key("192.0.2.8/32", &[22]), key("2001:db8::/64")];
        let wanted = wanted(frame(&["192.0.2.1/32"]), &all);
        replaced(&mut wall, &wanted.frame, &mut wanted.entries());
        for wound in [
            "nft delete table inet palisade",
            "nft insert rule inet palisade v4 accept",
            "nft add rule inet palisade out counter",
            "nft flush chain inet palisade pre",
            "nft delete rule inet palisade v4 handle $(nft -a list chain inet palisade v4 | sed -n 's/.*@ban4_32[.0-9]* .*handle //p')",
            "nft add chain inet palisade own '{ type filter hook input priority 0; policy drop; }'",
            "nft chain inet palisade pre '{ policy drop; }'",
            "nft add table inet palisade '{ flags dormant; }'",
            "nft add map inet palisade m '{ type ipv4_addr : verdict; }'; nft add element inet palisade m '{ 192.0.2.1 : goto v4 }'",
            "nft delete element inet palisade $(nft list sets inet | grep -o 'allow4_32[.0-9]*') '{ 192.0.2.1 }'",
            "nft flush table inet palisade; nft delete chain inet palisade pre; nft add chain inet palisade pre '{ type filter hook prerouting priority 100; }'",
        ] {
            sh(wound);
            assert!(noticed(&wall), "{wound}");
            assert!(matches!(wall.drift().unwrap(), Drift::Everything(_)), "{wound}");
            let found = wall.read(Read::Frame).unwrap();
            assert!(!found.whole || found.frame.as_ref() != Some(&wanted.frame), "{wound}");
            replaced(&mut wall, &wanted.frame, &mut wanted.entries());
            holds(&mut wall, &wanted);
            assert_eq!(wall.drift().unwrap(), Drift::None, "{wound}");
        }
    });
}

#[test]
fn what_is_not_ours_and_what_we_do_is_no_drift() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        replaced(&mut wall, &Frame::default(), &mut many(10));
        sh(
            "nft 'table inet other { set s { type ipv4_addr; elements = { 192.0.2.1 }; }; chain c { type filter hook input priority 0; }; }'",
        );
        sh("nft 'table ip palisade { chain pre { }; }'; nft delete table ip palisade; nft flush table inet other");
        assert_eq!(wall.drift().unwrap(), Drift::None);
        // A load big enough to be done without listening, with a stranger's changes around it.
        let steps: Vec<_> = many(5000).map(Step::Block).collect();
        did(&mut wall, &steps);
        sh("nft add rule inet other c counter");
        did(&mut wall, &steps);
        wall.remove().unwrap();
        assert_eq!(wall.drift().unwrap(), Drift::None);
    });
}

#[test]
fn a_change_nobody_told_of_is_found_by_the_generation_number() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        replaced(&mut wall, &Frame::default(), &mut many(10));
        let paused = wall.ears.pause(&mut wall.port).unwrap();
        sh("nft add table inet other");
        assert_eq!(wall.drift().unwrap(), Drift::None, "something changed, but nothing of ours");
        sh("nft flush ruleset");
        assert!(matches!(wall.drift().unwrap(), Drift::Everything(_)));
        assert!(!wall.ears.resume(&mut wall.port, paused).unwrap());
        assert!(matches!(wall.drift().unwrap(), Drift::Everything(_)));
    });
}

#[test]
fn an_expired_ban_is_no_drift() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        did(&mut wall, &[block(key("192.0.2.7/32"), Some(1)), block(key("192.0.2.8/32"), None)]);
        std::thread::sleep(Duration::from_millis(1500));
        let found = wall.read(Read::All).unwrap();
        assert_eq!(found.bans.keys().collect::<Vec<_>>(), [&key("192.0.2.8/32")]);
        assert_eq!(wall.drift().unwrap(), Drift::None);
        assert!(wall.apply(&[Step::Release(key("192.0.2.7/32"))], now()).ok());
    });
}
