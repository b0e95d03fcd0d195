//! A store that cannot be written, or that is damaged: nobody is let in for that.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, SeekFrom, Write};

use lab::house::{House, fail, sshd_jail};
use lab::traffic::{Counter, Flood};
use lab::{ATTACKER, Lab, until};

#[test]
fn a_full_disk_degrades_and_still_enforces() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.path("auth.log");
    fs::write(&log, "").unwrap();
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 3"));
    let state = house.state.display().to_string();
    fs::create_dir(&house.state).unwrap();
    lab.victim.sh(&format!("mount -t tmpfs -o size=512k,mode=0750 tmpfs {state}"));
    house.start();
    house.expect(0, "ban 203.0.113.1 --for 1h");
    house.expect(0, "status");
    until("it is written", || lab.victim.sh(&format!("stat -c %s {state}/*-wal")).trim() != "0");
    lab.victim.try_sh(&format!("dd if=/dev/zero of={state}/filler bs=4k 2>/dev/null"));

    // By log and by hand, until the disk says no: each stands all the same.
    let mut expected: BTreeSet<String> = ["203.0.113.1/32".to_owned()].into();
    let mut n = 10;
    until("the store says that it cannot be written", || {
        n += 1;
        let (by_log, by_hand) = (format!("203.0.113.{n}"), format!("192.0.2.{n}"));
        fail(&log, &by_log, 3);
        house.expect(0, &format!("ban {by_hand} --for 1h --reason {}", "x".repeat(100)));
        house.until_banned(&by_log);
        expected.extend([format!("{by_log}/32"), format!("{by_hand}/32")]);
        house.status()["state"] == "degraded" || n > 200
    });
    let status = house.expect(6, "--json status").json();
    let about: Vec<&str> = status["problems"].as_array().unwrap().iter().map(|problem| problem["about"].as_str().unwrap()).collect();
    assert_eq!(about, ["store"], "{status}");
    assert_eq!(house.kernel().into_keys().collect::<BTreeSet<_>>(), expected, "not all of them stand");

    lab.victim.sh(&format!("rm {state}/filler"));
    until("it has recovered", || house.ask(["status"]).code == 0);
    house.kill();
    house.start();
    assert_eq!(house.list().into_keys().collect::<BTreeSet<_>>(), expected, "not all of them were kept in the end");
    assert_eq!(house.kernel().into_keys().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn a_damaged_store_is_set_aside_and_the_bans_are_taken_from_the_kernel() {
    let Some(lab) = Lab::new() else { return };
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let mut house = House::new(&lab, "");
    house.start();
    house.expect(0, &format!("ban {ATTACKER} --for 1h"));
    house.expect(0, "ban 2001:db8:5::/64 --permanent");
    house.expect(0, "ban 203.0.113.0/24 --for 30m");
    house.stop();
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    let (before, kernel) = (house.list(), house.kernel());
    let database = fs::read_dir(&house.state)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "db"))
        .unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&database).unwrap();
    for at in [0, 4096, 8192] {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&[0x5a; 2048]).unwrap();
    }
    drop(file);

    house.start();
    let list = house.json("list");
    let origins: BTreeSet<&str> = list["bans"].as_array().unwrap().iter().map(|ban| ban["origin"].as_str().unwrap()).collect();
    assert_eq!(origins, ["recovered"].into(), "{list}");
    assert!(
        house.list().keys().eq(before.keys())
            && house.list().values().map(serde_json::Value::is_null).eq(before.values().map(serde_json::Value::is_null))
    );
    for (prefix, element) in house.kernel() {
        let (was, is) = (kernel[&prefix].left, element.left);
        assert!(
            was.is_some() == is.is_some() && is <= was.map(|was| was + 1) && is.unwrap_or(0) + 30 >= was.unwrap_or(0),
            "{prefix}: {was:?}, then {is:?}"
        );
    }
    let kept = |name: &str| fs::read_dir(&house.state).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().contains(name));
    assert!(kept("palisade.db.corrupt-"), "the damaged one was thrown away");
    assert!(house.log().contains("damaged"), "it was not told loudly");
    // And it is kept anew.
    house.kill();
    house.start();
    assert!(house.list().keys().eq(before.keys()));
    flood.go_on(200);
    assert_eq!(counter.of(ATTACKER), 0, "packets passed, of {}", flood.sent());
}

#[test]
fn without_the_store_and_without_a_daemon_a_ban_says_what_is_wrong() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    fs::write(&house.state, "a file in the place of the folder").unwrap();
    let answer = house.ask(["ban", "203.0.113.7"]);
    assert!(answer.code == 70 && answer.err.contains(&house.state.display().to_string()), "{answer:?}");
    assert!(house.kernel().is_empty());
}

#[test]
fn a_clock_behind_the_store_loses_no_ban_made_by_hand() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    house.expect(0, "ban 203.0.113.4 --for 1h");
    // As if the host had been up a day later already, and started now with a clock that is behind.
    let (mut store, _) = palisade::store::Store::open(&house.state).unwrap();
    let tomorrow = palisade_os::clock::now().stamp.plus("1d".parse().unwrap());
    store.seen(tomorrow).unwrap();
    drop(store);
    house.expect(0, "ban 203.0.113.5 --for 1h");
    assert!(house.banned("203.0.113.5"));
    house.start();
    assert!(house.banned("203.0.113.5"));
    assert!(house.kernel().contains_key("203.0.113.5/32"));
}
