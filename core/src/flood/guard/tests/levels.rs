//! Calm, pressure, flood, and back.

use super::world::{MAX, World, source};
use crate::flood::gauge::Gauge;
use crate::flood::guard::level::{Level, Signs, percent};
use crate::flood::guard::{FloodGuard, Said, State};
use crate::flood::settings::Settings;
use crate::flood::timeouts::Profile;
use crate::time::{Now, Span, Stamp, Tick};

fn at(second: u64) -> Now {
    Now { stamp: Stamp(0), tick: Tick(second * 1000) }
}

/// A guard that sees these counts, one a second; what states it went through.
fn states(counts: impl IntoIterator<Item = f64>) -> Vec<(usize, State, State)> {
    let mut guard = FloodGuard::new(Settings::default());
    let mut states = Vec::new();
    for (second, fill) in counts.into_iter().enumerate() {
        guard.gauge(Gauge { count: (fill * f64::from(MAX)) as u32, max: MAX, ..Gauge::default() }, at(second as u64));
        for said in guard.take() {
            if let Said::State { from, to, .. } = said {
                states.push((second, from, to));
            }
        }
    }
    states
}

/// Noise that is the same each time: -1 to 1.
fn noise(second: u32) -> f64 {
    // The finalizer of splitmix64.
    let mut mixed = (u64::from(second) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / 2f64.powi(52) - 1.0
}

#[test]
fn fill_engages_at_once_and_is_left_a_step_at_a_time() {
    use State::{Calm, Flood, Pressure};
    let stairs = [(0.5, 100), (0.71, 100), (0.86, 100), (0.72, 200), (0.65, 200), (0.55, 200)];
    let counts = stairs.iter().flat_map(|(fill, seconds)| std::iter::repeat_n(*fill, *seconds));
    let expected = [(100, Calm, Pressure), (200, Pressure, Flood), (360, Flood, Pressure), (760, Pressure, Calm)];
    assert_eq!(states(counts), expected);
}

#[test]
fn a_table_that_is_always_at_pressure_leaves_a_flood_that_is_over() {
    use State::{Calm, Flood, Pressure};
    let counts = (0..1000).map(|second| if (300..320).contains(&second) { 0.86 } else { 0.72 });
    assert_eq!(states(counts), [(0, Calm, Pressure), (300, Pressure, Flood), (380, Flood, Pressure)]);
    let counts = (0..1000).map(|second| if (300..320).contains(&second) { 0.86 } else { 0.78 });
    assert_eq!(states(counts), [(0, Calm, Pressure), (300, Pressure, Flood)], "nearer to a flood than to pressure");
}

#[test]
fn small_shares_are_told_with_a_decimal() {
    for (share, told) in [(0.0, "0.0 %"), (0.0042, "0.4 %"), (0.0949, "9.5 %"), (0.0996, "10 %"), (0.1, "10 %"), (0.714, "71 %")] {
        assert_eq!(percent(share), told);
    }
    let mut level = Level::default();
    let settings = Settings { engage: (0.004, 0.5), ..Settings::default() };
    let step = level.step(&Signs { fill: 0.012, ..Signs::default() }, &settings, at(0)).unwrap();
    assert_eq!(step.why, "1.2 % full, from 0.4 % on it is under pressure");
}

#[test]
fn noise_around_a_threshold_never_flaps() {
    for threshold in [0.70, 0.85, 0.60] {
        let seen = states((0..1500).map(|second| threshold + 0.02 * noise(second)));
        assert!(seen.len() <= 2, "{threshold}: {seen:?}");
    }
    let seen = states((0..1500).map(|second| 0.45 + 0.04 * noise(second)));
    assert_eq!(seen, [], "noise is no growth");
    // A table that swings between engage and release all day goes up once and stays.
    let seen = states((0..4000).map(|second| 0.68 + 0.06 * (f64::from(second) / 300.0).sin() + 0.01 * noise(second)));
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn a_forecast_engages_long_before_the_table_is_full() {
    let fast = states((0..60).map(|second| 0.02 + if second < 20 { 0.0 } else { f64::from(second - 20) * 2000.0 / f64::from(MAX) }));
    let (second, _, to) = fast[0];
    assert!((24..=28).contains(&second) && to >= State::Pressure, "{fast:?}");
    assert_eq!(fast.last().map(|(_, _, to)| *to), Some(State::Flood));
    // 40 flows a second from a third on: full in 18 minutes, pressure when 10 are left.
    let slow = states((0..2000).map(|second| (0.33 + f64::from(second) * 40.0 / f64::from(MAX)).min(0.69)));
    assert!(slow[0].0 < 520, "{slow:?}");
    let jump = states((0..600).map(|second| if second < 300 { 0.1 } else { 0.4 }));
    assert_eq!(jump, [], "a jump is no growth");
}

#[test]
fn drops_are_a_flood_where_the_table_is_full_and_only_told_where_it_has_room() {
    let mut guard = FloodGuard::new(Settings::default());
    guard.gauge(Gauge { count: 100, max: MAX, ..Gauge::default() }, at(0));
    guard.gauge(Gauge { count: 100, max: MAX, insert_failed: 7, ..Gauge::default() }, at(1));
    assert_eq!(guard.status(at(1)).state, State::Calm, "a clash is not want of room");
    guard.gauge(Gauge { count: 100, max: MAX, insert_failed: 7, drop: 1, ..Gauge::default() }, at(2));
    assert_eq!(guard.status(at(2)).state, State::Calm, "whoever sends malformed packets moves that counter");
    assert!(guard.take().iter().any(|said| matches!(said, Said::Dropped { count: 1, .. })), "it is told");
    guard.gauge(Gauge { count: MAX, max: MAX, insert_failed: 7, drop: 2, ..Gauge::default() }, at(64));
    assert_eq!(guard.status(at(64)).state, State::Flood);
}

#[test]
fn it_is_so_since_it_was_first_seen_or_changed() {
    let moment = |second| Now { stamp: Stamp(1_795_366_800_000).plus(Span::secs(second)), ..at(second) };
    let mut guard = FloodGuard::new(Settings::default());
    for (second, count, since) in [(5, 10, 5), (6, 10, 5), (7, MAX, 7), (8, MAX, 7)] {
        guard.gauge(Gauge { count, max: MAX, ..Gauge::default() }, moment(second));
        assert_eq!(guard.status(moment(second)).since, moment(since).stamp);
    }
}

#[test]
fn a_table_without_a_bound_is_always_calm() {
    let mut guard = FloodGuard::new(Settings::default());
    for second in 0..100 {
        guard.gauge(Gauge { count: (second * 1_000_000) as u32, max: 0, ..Gauge::default() }, at(second));
    }
    assert_eq!(guard.status(at(100)).state, State::Calm);
    assert!(guard.take().is_empty());
}

#[test]
fn thresholds_the_wrong_way_round_do_no_harm() {
    let settings = Settings { engage: (0.9, 0.5), release: 0.95, ..Settings::default() };
    let mut level = Level::default();
    let mut go = |fill, second| level.step(&Signs { fill, ..Signs::default() }, &settings, at(second)).map(|step| step.to);
    assert_eq!((go(0.6, 0), go(0.92, 1)), (Some(State::Pressure), Some(State::Flood)));
    assert_eq!((go(0.4, 2), go(0.4, 61), go(0.4, 62)), (None, None, Some(State::Pressure)));
}

#[test]
fn timeouts_follow_the_state_only_where_they_may() {
    for (adapt, expected) in [(true, Some(Profile::Attack)), (false, None)] {
        let mut world = World::lan(Settings { adapt, ..Settings::default() });
        world.run(10);
        assert_eq!(world.guard.wanted().profile, adapt.then_some(Profile::Calm));
        world.hold("198.51.100.1", 58_000.0, 0.0);
        world.tick();
        assert_eq!(world.guard.wanted().profile, expected);
    }
}

#[test]
fn after_a_flood_all_is_as_it_was() {
    let mut world = World::lan(Settings { calm_after: Span::secs(60), ..Settings::default() });
    world.run(100);
    world.hold("192.0.2.66", 58_000.0, 8000.0);
    world.run(10);
    assert_eq!(world.guard.status(world.now).state, State::Flood);
    assert!(world.guard.alarmed() && world.guard.wanted().listen);
    world.hold("192.0.2.66", 10.0, 0.0);
    world.run(600);
    let states: Vec<State> = world.states().into_iter().map(|(_, to)| to).collect();
    assert_eq!(states[states.len() - 2..], [State::Pressure, State::Calm]);
    assert_eq!(world.named(), [source("192.0.2.66")]);
    let wanted = world.guard.wanted();
    assert!(wanted.limits.is_empty() && !wanted.listen && wanted.profile == Some(Profile::Calm), "{wanted:?}");
    assert!(!world.guard.alarmed() && world.guard.next_deadline().is_none());
}
