//! What the kernel lost is counted whole and told now and then.

use crate::flood::gauge::Gauge;
use crate::flood::guard::{Cause, FloodGuard, Said, State};
use crate::flood::settings::Settings;
use crate::time::{Now, Stamp, Tick};

const FULL: Gauge =
    Gauge { count: 1000, max: 1000, drop: 0, early_drop: 0, insert_failed: 0, invalid: 0, search_restart: 0, chain_too_long: 0 };

fn at(second: u64) -> Now {
    Now { stamp: Stamp(0), tick: Tick(second * 1000) }
}

/// The drops told since the last look.
fn told(guard: &mut FloodGuard) -> Vec<(Cause, u64, String)> {
    let dropped = guard.take().into_iter().filter_map(|said| match said {
        Said::Dropped { cause, count, explanation, .. } => Some((cause, count, explanation)),
        _ => None,
    });
    dropped.collect()
}

fn total(guard: &FloodGuard, cause: Cause) -> u64 {
    guard.status(at(0)).drops.iter().find(|lost| lost.cause == cause).map_or(0, |lost| lost.total)
}

#[test]
fn each_cause_is_told_at_once_then_once_a_minute_and_nothing_is_lost() {
    let mut guard = FloodGuard::new(Settings::default());
    guard.gauge(Gauge { drop: 5000, ..FULL }, at(0));
    assert_eq!(told(&mut guard), [], "what was before it began is not its");
    for second in 1..=150 {
        guard.gauge(Gauge { drop: 5000 + second * 10, ..FULL }, at(second));
    }
    let all = told(&mut guard);
    assert_eq!(
        all.iter().map(|(cause, count, _)| (*cause, *count)).collect::<Vec<_>>(),
        [(Cause::TableFull, 10), (Cause::TableFull, 600), (Cause::TableFull, 600)]
    );
    assert!(all[1].2.starts_with("600 packets of new flows were dropped because the table is full"), "{}", all[1].2);
    assert_eq!(total(&guard, Cause::TableFull), 1500);
    // What is left is told when its minute is over, by time alone.
    let due = guard.next_deadline().expect("290 are not told yet");
    assert_eq!(due, Tick(181_000));
    guard.pass(at(181));
    assert_eq!(told(&mut guard).iter().map(|(_, count, _)| *count).collect::<Vec<_>>(), [290]);
}

#[test]
fn causes_are_told_apart() {
    let roomy = Gauge { count: 10, ..FULL };
    let cases = [
        (Gauge { drop: 3, ..roomy }, Cause::NoMemory, 3),
        (Gauge { drop: 3, ..FULL }, Cause::TableFull, 3),
        (Gauge { early_drop: 4, ..FULL }, Cause::EarlyDrop, 4),
        (Gauge { insert_failed: 5, ..roomy }, Cause::Clash, 5),
        (Gauge { insert_failed: 5, chain_too_long: 5, ..roomy }, Cause::ChainTooLong, 5),
        // Since Linux 5.7 a clash counts as a drop too.
        (Gauge { drop: 5, insert_failed: 5, ..roomy }, Cause::Clash, 5),
        (Gauge { drop: 5, insert_failed: 5, ..FULL }, Cause::Clash, 5),
    ];
    for (gauge, cause, count) in cases {
        let mut guard = FloodGuard::new(Settings::default());
        guard.gauge(Gauge { count: gauge.count, ..FULL }, at(0));
        guard.gauge(gauge, at(1));
        let all = told(&mut guard);
        assert_eq!(all.iter().map(|(cause, count, _)| (*cause, *count)).collect::<Vec<_>>(), [(cause, count)]);
    }
}

#[test]
fn a_clash_is_no_want_of_room_and_what_is_dropped_beside_it_in_a_full_table_is() {
    for (fill, cause, worst) in [(10, Cause::NoMemory, State::Calm), (960, Cause::TableFull, State::Flood)] {
        let gauge = |drop, insert_failed| Gauge { count: fill, drop, insert_failed, ..FULL };
        // By these settings no fill is a flood by itself.
        let mut guard = FloodGuard::new(Settings { engage: (2.0, 2.0), ..Settings::default() });
        guard.gauge(gauge(0, 0), at(0));
        guard.gauge(gauge(1, 1), at(1));
        assert_eq!((guard.state(), total(&guard, cause), total(&guard, Cause::Clash)), (State::Calm, 0, 1));
        guard.gauge(gauge(6, 3), at(2));
        assert_eq!((guard.state(), total(&guard, cause), total(&guard, Cause::Clash)), (worst, 3, 3));
    }
}

#[test]
fn what_was_lost_while_it_was_off_is_not_told() {
    let mut guard = FloodGuard::new(Settings::default());
    guard.gauge(FULL, at(0));
    guard.configure(Settings { enabled: false, ..Settings::default() });
    guard.pass(at(1));
    guard.configure(Settings::default());
    assert_eq!(told(&mut guard), []);
    guard.gauge(Gauge { drop: 500, count: 100, ..FULL }, at(3600));
    assert_eq!((told(&mut guard), total(&guard, Cause::TableFull), total(&guard, Cause::NoMemory)), (Vec::new(), 0, 0));
    assert_eq!(guard.state(), State::Calm);
    guard.gauge(Gauge { drop: 503, count: 100, ..FULL }, at(3601));
    assert_eq!(total(&guard, Cause::NoMemory), 3);
    // Other settings that leave it on change nothing of that.
    guard.configure(Settings { per_source: 9, ..Settings::default() });
    guard.gauge(Gauge { drop: 504, count: 100, ..FULL }, at(3602));
    assert_eq!(total(&guard, Cause::NoMemory), 4);
}

#[test]
fn counters_that_go_back_begin_again() {
    let mut guard = FloodGuard::new(Settings::default());
    for (second, drop) in [(0, 100), (1, 3), (2, 5)] {
        guard.gauge(Gauge { drop, ..FULL }, at(second));
    }
    assert_eq!(total(&guard, Cause::TableFull), 2);
    guard.gauge(Gauge { drop: u64::MAX, ..FULL }, at(3));
    guard.gauge(Gauge { drop: 0, ..FULL }, at(4));
    guard.gauge(Gauge { drop: u64::MAX, ..FULL }, at(5));
    assert_eq!(total(&guard, Cause::TableFull), u64::MAX);
}
