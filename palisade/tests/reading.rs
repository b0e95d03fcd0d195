//! Every line counts exactly once: whatever is done to the log, and whenever the daemon dies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use lab::house::{House, fail, failure, sshd_jail};
use lab::{Lab, append, until};

/// Attackers who fail once too often, and such who just do not.
fn villains(n: usize) -> String {
    format!("203.0.113.{n}")
}

fn nearly(n: usize) -> String {
    format!("192.0.2.{n}")
}

/// All villains are banned and nobody else; of each of the others exactly two failures are counted.
fn exactly(house: &House<'_>, count: usize) {
    until("all villains are banned", || house.list().len() >= count);
    let mut expected: Vec<String> = (1..=count).map(|n| format!("{}/32", villains(n))).collect();
    expected.sort();
    assert_eq!(house.list().into_keys().collect::<Vec<_>>(), expected);
    for n in 1..=count {
        until("both are counted", || house.score(&nearly(n)) >= 20);
        assert_eq!(house.score(&nearly(n)), 20, "{} failed twice", nearly(n));
    }
}

#[test]
fn rotation_by_rename_and_by_copytruncate() {
    let Some(lab) = Lab::new() else { return };
    let (log, old) = (lab.path("auth.log"), lab.path("auth.log.1"));
    fs::write(&log, "").unwrap();
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 3"));
    house.start();
    const COUNT: usize = 12;
    let once = |log| (1..=COUNT).for_each(|n| append(log, failure(&villains(n)) + &failure(&nearly(n))));
    // First failures; then the log is renamed, and what its writer still has open goes on for a while.
    once(&log);
    fs::rename(&log, &old).unwrap();
    (1..=COUNT / 2).for_each(|n| append(&old, failure(&villains(n)) + &failure(&nearly(n))));
    fs::write(&log, "").unwrap();
    (COUNT / 2 + 1..=COUNT).for_each(|n| append(&log, failure(&villains(n)) + &failure(&nearly(n))));
    until("all is read", || house.lines() == 4 * COUNT as u64);
    assert!(house.list().is_empty(), "two failures are not three");
    // The log is copied and cut to nothing, under a reader that stands at its end.
    fs::copy(&log, lab.path("auth.log.copy")).unwrap();
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
    (1..=COUNT).for_each(|n| append(&log, failure(&villains(n))));
    exactly(&house, COUNT);
    assert_eq!(house.lines(), 5 * COUNT as u64);
}

#[test]
fn a_restart_between_failures_counts_each_once() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.path("auth.log");
    fs::write(&log, "").unwrap();
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 3"));
    house.start();
    for addr in ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"] {
        fail(&log, addr, 2);
        until("two are counted", || house.score(addr) == 20);
    }
    // The first half of a line.
    let line = failure("203.0.113.4");
    append(&log, &line[..40]);
    house.kill();
    // While nobody reads:
    fail_between(&log, &line[40..]);
    house.start();
    house.until_banned("203.0.113.2");
    house.until_banned("203.0.113.4");
    assert_eq!(house.score("203.0.113.1"), 20);
    assert!(!house.banned("203.0.113.1"), "a line was counted twice");
    fail(&log, "203.0.113.3", 1);
    house.until_banned("203.0.113.3");
    for _ in 0..2 {
        house.stop();
        house.start();
        assert_eq!(house.score("203.0.113.1"), 20);
    }
    assert!(!house.banned("203.0.113.1"));
    assert_eq!(house.list().len(), 3);
}

fn fail_between(log: &std::path::Path, rest: &str) {
    append(log, rest);
    fail(log, "203.0.113.2", 1);
}

#[test]
fn what_was_written_while_nobody_read_counts_when_it_was_written() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.path("auth.log");
    fs::write(&log, "").unwrap();
    // The zone is not the host's, so that the config's must have been taken.
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 3\nfind_time = \"10m\"\ntimezone = \"Asia/Tokyo\""));
    house.start();
    append(&log, failure("198.51.100.1"));
    until("it is read", || house.lines() == 1);
    house.stop();
    let tokyo = |addr: &str, ago: i64| {
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(ago);
        let at = at.in_tz("Asia/Tokyo").unwrap().strftime("%b %e %H:%M:%S").to_string();
        format!("{at} victim sshd[77]: Failed password for root from {addr} port 50022 ssh2\n")
    };
    for _ in 0..3 {
        append(&log, tokyo("203.0.113.1", 3600));
        append(&log, tokyo("203.0.113.2", 120));
    }
    append(&log, tokyo("203.0.113.3", 60));
    house.start();
    house.until_banned("203.0.113.2");
    until("all is read", || house.score("203.0.113.3") == 10);
    assert_eq!(house.score("203.0.113.1"), 0);
    assert!(!house.banned("203.0.113.1"), "an hour ago is no failure of now");
}

#[test]
fn killed_again_and_again_under_a_storm_of_lines() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.path("auth.log");
    fs::write(&log, "").unwrap();
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 3"));
    // Where the log is read from is known once something of it was kept: what is older is history.
    house.start();
    fail(&log, "2001:db8::1", 1);
    until("one is counted", || house.score("2001:db8::1") == 10);
    house.stop();
    const COUNT: usize = 60;
    let path = log.clone();
    let writer = std::thread::spawn(move || {
        for round in 0..3 {
            for n in 1..=COUNT {
                append(&path, failure(&villains(n)));
                sleep(Duration::from_millis(10));
                if round < 2 {
                    append(&path, failure(&nearly(n)));
                }
                sleep(Duration::from_millis(10));
            }
        }
    });
    let mut kills = 0;
    while !writer.is_finished() {
        house.start();
        sleep(Duration::from_millis(60 * (kills % 5))); // sooner or later, so that it dies at many places
        house.kill();
        kills += 1;
    }
    writer.join().unwrap();
    assert!(kills >= 3, "killed {kills} times only");
    house.start();
    exactly(&house, COUNT);
}

#[test]
fn logs_that_come_late_and_logs_of_a_pattern() {
    let Some(lab) = Lab::new() else { return };
    let (late, folder) = (lab.path("later/auth.log"), lab.path("logs"));
    fs::create_dir(&folder).unwrap();
    let config = format!("[jail.sshd]\nfiles = [\"{}\", \"{}/*.log\"]\nmax_retry = 3\n", late.display(), folder.display());
    let mut house = House::new(&lab, &config);
    house.start();
    fs::create_dir(lab.path("later")).unwrap();
    fail(&late, "203.0.113.1", 3);
    house.until_banned("203.0.113.1");
    fail(&folder.join("new.log"), "203.0.113.2", 3);
    house.until_banned("203.0.113.2");
    fail(&folder.join("new.txt"), "203.0.113.3", 3);
    // Things that are no logs: a link to one, a pipe. They hold nothing up.
    std::os::unix::fs::symlink(lab.path("elsewhere"), folder.join("link.log")).unwrap();
    fail(&lab.path("elsewhere"), "203.0.113.4", 3);
    lab.victim.sh(&format!("mkfifo {}/pipe.log", folder.display()));
    fail(&folder.join("another.log"), "203.0.113.5", 3);
    house.until_banned("203.0.113.5");
    assert_eq!(house.list().into_keys().collect::<Vec<_>>(), ["203.0.113.1/32", "203.0.113.2/32", "203.0.113.5/32"]);
}
