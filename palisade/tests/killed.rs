//! The daemon is killed while it bans: what stood stands on, without a gap, and nothing that it
//! said it had done is lost.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and what was measured is printed")]

mod lab;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use lab::house::House;
use lab::traffic::{Counter, Flood};
use lab::{Lab, until};

const FLOODER: &str = "203.0.113.66";
const CHUNK: usize = 10_000;

/// 100,000 addresses of the documentation's 2001:db8::/32, each of a /64 of its own, in tens of thousands.
fn chunk(n: usize) -> Vec<String> {
    (0..CHUNK).map(|i| format!("2001:db8:{:x}:{i:x}::/64", n + 0x100)).collect()
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
    let confirmed = AtomicUsize::new(0);
    let start = Instant::now();
    let (house_ref, confirmed_ref) = (&house, &confirmed);
    let command = |n: usize| house_ref.command(["ban", "--for", "1h"]).args(chunk(n)).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    scope(|scope| {
        scope.spawn(|| {
            for n in 0..10 {
                if !command(n).wait().unwrap().success() {
                    return;
                }
                confirmed_ref.store(n + 1, Ordering::SeqCst);
            }
        });
        until("three chunks are confirmed", || confirmed.load(Ordering::SeqCst) >= 3);
        println!("30,000 bans in {:?}", start.elapsed());
        sleep(start.elapsed() / 15);
        kill(house_ref);
    });
    // The client goes on without the daemon, so all of it is there in the end, and confirmed.
    println!("{} chunks were confirmed, {:?}", confirmed.load(Ordering::SeqCst), start.elapsed());
    flood.go_on(200);
    assert_eq!(counter.of(FLOODER), before, "packets passed after the kill");

    let restart = Instant::now();
    house.start();
    println!("ready again after {:?}", restart.elapsed());
    flood.go_on(200);
    let listed: BTreeSet<String> = house.list().into_keys().collect();
    let standing: BTreeSet<String> = house.kernel().into_keys().collect();
    assert!(listed == standing, "{} in the store, {} in the kernel, {} in one only", listed.len(), standing.len(), listed.symmetric_difference(&standing).count());
    for n in 0..confirmed.load(Ordering::SeqCst) {
        let lost = chunk(n).into_iter().filter(|prefix| !listed.contains(prefix)).count();
        assert_eq!(lost, 0, "of the {CHUNK} confirmed bans of chunk {n}, these are lost");
    }
    assert!(listed.contains(&format!("{FLOODER}/32")));
    assert_eq!(counter.of(FLOODER), before, "packets passed, of {} sent", flood.sent() - sent);
    println!("{} packets sent meanwhile, none passed; {} bans stand", flood.sent() - sent, listed.len());
}

/// Kills the daemon, which stays known to the house.
fn kill(house: &House<'_>) {
    house.daemon().signal(rustix::process::Signal::KILL);
}
