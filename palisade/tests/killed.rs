//! The daemon is killed while it bans: what stood stands on, without a gap, and nothing that it
//! said it had done is lost.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and what was measured is printed")]

mod lab;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Instant;

use lab::house::{House, fail, sshd_jail};
use lab::traffic::{Counter, Flood};
use lab::{Lab, until};

const FLOODER: &str = "203.0.113.66";
const CHUNK: usize = 10_000;

/// 100,000 addresses of the documentation's 2001:db8::/32, each of a /64 of its own, in tens of thousands.
fn chunk(n: usize) -> Vec<String> {
    (1..=CHUNK).map(|i| format!("2001:db8:{:x}:{i:x}::/64", n + 0x100)).collect()
}

#[test]
fn killed_in_the_middle_of_100_000_bans_store_and_kernel_are_equal_and_nothing_passes() {
    let Some(lab) = Lab::new() else { return };
    lab.appear(FLOODER);
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, FLOODER, "198.51.100.1:9");
    until("the flood arrives as long as nobody forbids it", || counter.of(FLOODER) > 100);
    let mut house = House::new(&lab, "");
    house.start();
    house.expect(0, &format!("ban {FLOODER} --permanent"));
    flood.go_on(50);
    let before = counter.of(FLOODER);
    let sent = flood.sent();

    // A client bans without pause; the daemon is killed a while after the third chunk was confirmed.
    let (confirmed, dead) = (AtomicUsize::new(0), AtomicBool::new(false));
    let start = Instant::now();
    let (house_ref, confirmed_ref) = (&house, &confirmed);
    let command = |n: usize| {
        house_ref
            .command(["ban", "--for", "1h"])
            .args(chunk(n))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    scope(|scope| {
        scope.spawn(|| {
            for n in 0..10 {
                if dead.load(Ordering::SeqCst) || !command(n).wait().unwrap().success() {
                    return;
                }
                confirmed_ref.store(n + 1, Ordering::SeqCst);
            }
        });
        until("three chunks are confirmed", || confirmed.load(Ordering::SeqCst) >= 3);
        println!("30,000 bans in {:?}", start.elapsed());
        sleep(start.elapsed() / 6); // half a chunk
        kill(house_ref);
        dead.store(true, Ordering::SeqCst);
    });
    // A client in the middle of its work goes on without the daemon, or says that it could not.
    println!("{} chunks were confirmed, {:?}", confirmed.load(Ordering::SeqCst), start.elapsed());
    flood.go_on(200);
    assert_eq!(counter.of(FLOODER), before, "packets passed after the kill");

    let restart = Instant::now();
    house.start();
    println!("ready again after {:?}", restart.elapsed());
    flood.go_on(200);
    let listed: BTreeSet<String> = house.list().into_keys().collect();
    let standing: BTreeSet<String> = house.kernel().into_keys().collect();
    assert!(
        listed == standing,
        "{} in the store, {} in the kernel, {} in one only",
        listed.len(),
        standing.len(),
        listed.symmetric_difference(&standing).count()
    );
    for n in 0..confirmed.load(Ordering::SeqCst) {
        let lost = chunk(n).into_iter().filter(|prefix| !listed.contains(prefix)).count();
        assert_eq!(lost, 0, "of the {CHUNK} confirmed bans of chunk {n}, these are lost");
    }
    assert!(listed.contains(&format!("{FLOODER}/32")));
    assert_eq!(counter.of(FLOODER), before, "packets passed, of {} sent", flood.sent() - sent);
    println!("{} packets sent meanwhile, none passed; {} bans stand", flood.sent() - sent, listed.len());
}

#[test]
fn what_was_confirmed_is_not_lost_when_the_daemon_is_killed_the_moment_after() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    let log = lab.path("auth.log");
    std::fs::write(&log, "").unwrap();
    house.configure(&sshd_jail(&log, "max_retry = 2"));
    let mut expected = BTreeSet::new();
    for n in 1..=6 {
        house.start();
        let (by_hand, by_log) = (format!("203.0.113.{n}"), format!("198.51.100.{}", 100 + n));
        if n % 2 == 0 {
            fail(&log, &by_log, 2);
            expected.insert(format!("{by_log}/32"));
            until("the attacker is banned", || house.kernel().contains_key(&format!("{by_log}/32")));
        } else {
            house.expect(0, &format!("ban {by_hand} --for 1h"));
            expected.insert(format!("{by_hand}/32"));
        }
        house.kill();
        assert!(house.kernel().keys().eq(&expected), "the wall fell with the daemon: {:?}", house.kernel());
    }
    house.start();
    assert_eq!(house.list().into_keys().collect::<BTreeSet<_>>(), expected);
    assert_eq!(house.kernel().into_keys().collect::<BTreeSet<_>>(), expected);
}

/// Kills the daemon, which stays known to the house.
fn kill(house: &House<'_>) {
    house.daemon().signal(rustix::process::Signal::KILL);
}
