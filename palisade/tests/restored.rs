//! Everything is flushed as at boot, and `palisade restore` puts it back without a daemon.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use lab::house::House;
use lab::traffic::{Counter, Flood};
use lab::{ATTACKER, Lab, until};

#[test]
fn all_bans_come_back_with_what_is_left_of_them() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "[allow]\nprefixes = [\"203.0.113.77/32\"]\n");
    house.start();
    house.expect(0, "ban 198.51.100.66 --for 10m");
    house.expect(0, "ban 2001:db8:0:66::/64 --permanent --reason told");
    house.expect(0, "ban 192.0.2.0/24 --for 1h");
    house.expect(5, "ban 203.0.113.0/24 --for 1h");
    house.expect(0, "ban 203.0.113.0/24 --for 2h --force");
    house.expect(0, "ban 203.0.113.1 --for 2s");
    house.expect(0, "ban 203.0.113.2 --for 1h");
    house.expect(0, "unban 203.0.113.2");
    let listed = house.list();
    house.stop();
    let before = house.kernel();
    assert_eq!(before.len(), listed.len());
    until("the short one has ended", || !house.kernel().contains_key("203.0.113.1/32"));

    lab.victim.sh("nft flush ruleset");
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    until("nothing stands", || counter.of(ATTACKER) > 100);

    house.expect(0, "restore");
    flood.go_on(50);
    let passed = counter.of(ATTACKER);
    flood.go_on(300);
    assert_eq!(counter.of(ATTACKER), passed, "packets pass");

    let after = house.kernel();
    let names: Vec<&str> = after.keys().map(String::as_str).collect();
    assert_eq!(names, ["192.0.2.0/24", "198.51.100.66/32", "2001:db8:0:66::/64", "203.0.113.0/24"]);
    for (prefix, element) in &after {
        let (was, is) = (before[prefix].left, element.left);
        assert_eq!(was.is_some(), is.is_some(), "{prefix}: {was:?} before, {is:?} after");
        if let (Some(was), Some(is)) = (was, is) {
            assert!(is <= was && is + 60 >= was, "{prefix}: {was} s were left, {is} s are");
        }
    }
    assert_eq!(after["2001:db8:0:66::/64"].left, None);
    assert!(after["203.0.113.0/24"].set.starts_with("forced"));
    // The daemon finds it so, and changes none of it.
    house.start();
    let mut expected = listed;
    expected.remove("203.0.113.1/32");
    assert_eq!(house.list(), expected);
    assert!(house.kernel().keys().eq(after.keys()));
    assert_eq!(counter.of(ATTACKER), passed, "packets passed while the daemon started");
}

#[test]
fn restoring_what_stands_opens_no_gap() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    house.expect(0, &format!("ban {ATTACKER} --for 1h"));
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    for _ in 0..20 {
        house.expect(0, "restore");
    }
    flood.go_on(200);
    assert_eq!((counter.of(ATTACKER), house.kernel().len()), (0, 1), "of {} packets", flood.sent());
    house.expect(0, "flush");
    until("the wall is down", || counter.of(ATTACKER) > 0);
    assert_eq!(lab.victim.sh("nft list tables"), "");
    assert_eq!(house.list().len(), 1, "the store keeps the bans");
}

#[test]
fn restarts_and_reloads_open_no_gap() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    house.start();
    house.expect(0, &format!("ban {ATTACKER} --for 1h"));
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    for n in 0..3 {
        // Each reload sets the rules anew: other prefixes are allowed, other answers given.
        house.configure(&format!("[ban]\naction = \"{}\"\n[allow]\nprefixes = [\"192.0.2.{n}\"]\n", ["reject", "drop", "reject"][n]));
        house.reload();
        until("the new config is in force", || house.expect(0, "allow list").out.contains(&format!("192.0.2.{n}/32")));
        flood.go_on(50);
        house.stop();
        flood.go_on(50);
        house.start();
        flood.go_on(50);
    }
    assert_eq!(counter.of(ATTACKER), 0, "packets passed, of {}", flood.sent());
    assert_eq!(house.list().len(), 1);
}
