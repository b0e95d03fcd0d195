//! The wall clock is set a day forward and a day back while bans stand.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::fs;

use lab::house::{House, fail, sshd_jail};
use lab::{Lab, until};

/// The library of faketime(1), by which this test sets the program's wall clock. (Not asked of the
/// program itself, which leaves things in /dev/shm.)
fn library() -> String {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|file| file.is_file());
    found.expect("libfaketime is not installed, and this test needs it: run `make deps`").display().to_string()
}

/// Seconds left of each ban, as the kernel has it and as the daemon tells.
fn left(house: &House<'_>, addr: &str) -> (i64, i64) {
    let why = house.json(&format!("why {addr}"));
    let kernel = why["bans"][0]["kernel"]["left"].as_i64().unwrap();
    let text = house.expect(0, "list").out;
    let row = text.lines().find(|line| line.starts_with(addr)).unwrap();
    let told = row.split_whitespace().nth(1).unwrap();
    (kernel, seconds(told))
}

/// `59m58s` in seconds.
fn seconds(text: &str) -> i64 {
    let (mut all, mut number) = (0, 0);
    for c in text.chars() {
        match (c, c.to_digit(10)) {
            (_, Some(digit)) => number = number * 10 + i64::from(digit),
            (unit, None) => {
                all += number
                    * match unit {
                        'd' => 86_400,
                        'h' => 3600,
                        'm' => 60,
                        _ => 1,
                    };
                number = 0;
            }
        }
    }
    all
}

#[test]
fn a_day_forward_and_back_ends_no_ban_and_lengthens_none() {
    let Some(lab) = Lab::new() else { return };
    let (clock, log) = (lab.path("clock"), lab.path("auth.log"));
    lab.victim.sh("mount -t tmpfs tmpfs /dev/shm"); // where the library leaves things too
    fs::write(&clock, "+0").unwrap();
    fs::write(&log, "").unwrap();
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 3\nban_time = \"50m\""));
    house.env = [
        ("LD_PRELOAD", library()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    house.start();
    house.expect(0, "ban 203.0.113.7 --for 59m");
    house.expect(0, "ban 203.0.113.8 --permanent");
    fail(&log, "203.0.113.9", 3);
    house.until_banned("203.0.113.9");
    fail(&log, "203.0.113.10", 2);
    until("two are counted", || house.score("203.0.113.10") == 20);
    let addrs = ["203.0.113.7", "203.0.113.9"];
    let before = addrs.map(|addr| left(&house, addr));
    let start = std::time::Instant::now();

    for (step, steps) in [("+1d", 1), ("-1d", 2), ("+0", 3)] {
        let told = house.events("daemon").len();
        fs::write(&clock, step).unwrap();
        until(&format!("the step to {step} is noticed"), || house.status()["bans"] == 3 && house.events("daemon").len() > told);
        for (addr, was) in addrs.iter().zip(before) {
            let gone = i64::try_from(start.elapsed().as_secs()).unwrap();
            let is = left(&house, addr);
            for (was, is) in [(was.0, is.0), (was.1, is.1)] {
                assert!((was - gone - is).abs() <= 3, "{addr} after {steps} steps, {gone} s: {was} s were left, {is} s are");
            }
        }
        assert_eq!(house.kernel().len(), 3);
        assert_eq!(house.score("203.0.113.10"), 20, "what was counted is forgotten");
    }
    // A restart under the same clock finds the same.
    house.kill();
    house.start();
    assert_eq!((house.list().len(), house.kernel().len()), (3, 3));
    fail(&log, "203.0.113.10", 1);
    house.until_banned("203.0.113.10");
}
