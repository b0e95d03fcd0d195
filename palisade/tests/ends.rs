//! Bans end by themselves, whoever is there to see it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and what was measured is printed")]

mod lab;

use std::time::{Duration, Instant};

use lab::house::House;
use lab::traffic::{Counter, Flood};
use lab::{ATTACKER, Lab, until};

/// Bans the flooding attacker for 3 s in the way it is told to, and looks at what arrives.
#[allow(clippy::redundant_closure_for_method_calls, reason = "methods of a borrowed house are not general enough")]
fn three_seconds(prepare: impl FnOnce(&mut House<'_>), afterwards: impl FnOnce(&mut House<'_>)) {
    let Some(lab) = Lab::new() else { return };
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    until("the flood arrives", || counter.of(ATTACKER) > 100);
    let mut house = House::new(&lab, "");
    prepare(&mut house);
    let asked = Instant::now();
    house.expect(0, &format!("ban {ATTACKER} --for 3s"));
    let banned = Instant::now();
    afterwards(&mut house);
    assert!(house.kernel().contains_key("198.51.100.66/32") || asked.elapsed() > Duration::from_secs(3));
    let before = counter.of(ATTACKER);
    until("the ban ends", || counter.of(ATTACKER) > before);
    let (most, least) = (asked.elapsed(), banned.elapsed());
    println!("3 s lasted {least:?} to {most:?}");
    assert!(most >= Duration::from_millis(2900), "it ended early, after {most:?}");
    assert!(least < Duration::from_secs(6), "it ended late, after {least:?}");
    flood.go_on(100);
    assert!(counter.of(ATTACKER) > before + 50);
    until("it is told as ended", || !house.banned(ATTACKER) && house.list().is_empty());
    until("it is gone from the kernel", || house.kernel().is_empty());
}

#[test]
fn three_seconds_with_the_daemon() {
    three_seconds(|house| house.start(), |_| {});
}

#[test]
fn three_seconds_without_a_daemon() {
    three_seconds(|_| {}, |_| {});
}

#[test]
fn three_seconds_with_the_daemon_killed_meanwhile() {
    three_seconds(|house| house.start(), |house| house.kill());
}

#[test]
fn three_seconds_with_the_daemon_killed_and_started_again() {
    three_seconds(
        |house| house.start(),
        |house| {
            house.kill();
            house.start();
        },
    );
}

#[test]
fn three_seconds_with_the_daemon_stopped_meanwhile() {
    three_seconds(|house| house.start(), |house| house.stop());
}
