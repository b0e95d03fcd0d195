//! Who is named, and who is not.

use super::world::{MAX, World, prefix, source};
use crate::flood::guard::{Said, State};
use crate::flood::settings::{Action, Settings};

const GAME: &str = "192.0.2.66";

#[test]
fn twenty_hosts_and_a_torrent_are_left_alone_for_a_day() {
    let mut world = World::lan(Settings::default());
    world.step = 20;
    for step in 0..4320u32 {
        let second = step * 20;
        // They come and go: each by up to a third of what it has, at its own pace.
        for (at, holder) in world.holders.values_mut().enumerate() {
            let base = if at == 19 { 800.0 } else { 27.0 + 7.0 * at as f64 };
            holder.flows = base * (1.0 + 0.33 * (f64::from(second) / (40.0 + at as f64)).sin());
        }
        world.tick();
    }
    assert_eq!(world.said, Vec::new());
}

#[test]
fn the_game_that_fills_quickly_is_named_and_limited_before_a_fifth_is_full() {
    let mut world = World::lan(Settings::default());
    world.run(600);
    world.hold(GAME, 30.0, 2000.0);
    let took = world.until(60, |world| world.limited() == [source(GAME)]).expect("it is limited");
    assert!(took <= 4, "{took} s");
    assert!(world.gauge().fill() < 0.2, "{}", world.gauge().fill());
    assert_eq!(world.named(), [source(GAME)]);
    world.run(600);
    assert_eq!(world.named(), [source(GAME)], "and nobody else, ever");
    assert!(world.gauge().fill() < 0.3);
}

#[test]
fn the_game_that_fills_in_three_hours_is_named_early_and_limited_before_a_fifth_is_full() {
    let mut world = World::lan(Settings::default());
    world.run(3600);
    world.hold(GAME, 5.0, 6.0);
    let took = world.until(3600, |world| world.named() == [source(GAME)]).expect("it is named");
    assert!(world.gauge().fill() < 0.06, "named at {}", world.gauge().fill());
    assert!(took < 600, "{took} s");
    assert_eq!(world.action_of(source(GAME)), Some(Action::Watch), "the table bears it well");
    world.until(7200, |world| world.limited() == [source(GAME)]).expect("it is limited");
    assert!(world.gauge().fill() < 0.2, "limited at {}", world.gauge().fill());
    assert_eq!(world.count_of(|said| matches!(said, Said::Grown { to: Action::Limit, .. })), 1);
}

#[test]
fn even_one_flow_a_second_does_not_train_its_habit() {
    let mut world = World::lan(Settings::default());
    world.step = 10;
    world.run(600);
    world.hold(GAME, 0.0, 1.0);
    world.until(86_400, |world| world.named() == [source(GAME)]).expect("it is named");
    assert!(world.gauge().fill() < 0.1, "named at {}", world.gauge().fill());
}

#[test]
fn a_server_that_always_had_five_thousand_is_no_culprit_even_in_a_flood() {
    let mut world = World::lan(Settings::default());
    world.step = 10;
    world.hold("192.0.2.80", 5000.0, 0.0);
    world.run(3600);
    assert_eq!(world.said, Vec::new());
    world.step = 1;
    let quarter = f64::from(MAX) / 4.0;
    for host in 1..=3 {
        world.hold(&format!("198.51.100.{host}"), quarter, 100.0);
    }
    world.run(120);
    assert!(world.guard.status(world.now).state > State::Calm);
    let named = world.named();
    assert_eq!(named.len(), 3, "{named:?}");
    assert!(named.iter().all(|culprit| culprit.to_string().starts_with("198.51.100.")), "{named:?}");
}

#[test]
fn a_server_met_minutes_ago_is_trusted_when_another_floods() {
    let mut world = World::lan(Settings::default());
    world.hold("192.0.2.80", 5000.0, 0.0);
    world.run(30);
    world.hold(GAME, 0.0, 5000.0);
    world.run(60);
    assert_eq!(world.named(), [source(GAME)]);
}

#[test]
fn a_proxy_whose_load_doubles_over_a_day_is_no_culprit() {
    let mut world = World::lan(Settings::default());
    world.step = 10;
    world.hold("192.0.2.81", 3000.0, 3000.0 / 86_400.0);
    world.run(86_400);
    assert!(world.holders[&prefix("192.0.2.81")].flows > 5900.0);
    assert_eq!(world.said, Vec::new());
}

#[test]
fn an_office_whose_load_goes_up_tenfold_in_the_morning_is_no_culprit() {
    let mut world = World::lan(Settings::default());
    world.step = 10;
    world.hold("192.0.2.81", 500.0, 0.0);
    for _ in 0..3 {
        for (seconds, rate) in [(10_800, 4500.0 / 10_800.0), (28_800, 0.0), (7200, -4500.0 / 7200.0), (39_600, 0.0)] {
            world.holders.get_mut(&prefix("192.0.2.81")).unwrap().rate = rate;
            world.run(seconds);
        }
    }
    assert_eq!(world.said, Vec::new());
}

#[test]
fn a_start_in_the_middle_of_a_flood_names_who_floods_and_spares_the_server() {
    let mut world = World::lan(Settings::default());
    world.hold("192.0.2.80", 5000.0, 0.0);
    world.hold(GAME, 45_000.0, 1000.0);
    world.run(3);
    assert_eq!(world.named(), [source(GAME)]);
    assert_eq!(world.limited(), [source(GAME)]);
}

#[test]
fn a_start_in_the_middle_of_a_flood_with_room_left_trusts_only_until_it_grows() {
    let mut world = World::lan(Settings::default());
    world.hold(GAME, 6000.0, 1500.0);
    world.until(10, |world| world.limited() == [source(GAME)]).expect("it is limited");
    assert!(world.gauge().fill() < 0.25, "{}", world.gauge().fill());
    let mut world = World::lan(Settings::default());
    world.hold(GAME, 6000.0, 6.0);
    world.until(600, |world| world.named() == [source(GAME)]).expect("it is named");
    assert!(world.gauge().fill() < 0.2, "{}", world.gauge().fill());
}

#[test]
fn what_has_come_over_many_hours_so_slowly_that_it_trained_its_habit_is_named_under_pressure() {
    let mut world = World::lan(Settings::default());
    world.run(600);
    world.hold(GAME, 100.0, 0.0);
    // Doubles in two hours.
    world.step = 10;
    for _ in 0..30 * 360 {
        let holder = world.holders.get_mut(&prefix(GAME)).unwrap();
        holder.flows *= (10.0f64 / 7200.0).exp2();
        world.run(10);
        if !world.limited().is_empty() {
            break;
        }
        assert!(world.named().is_empty(), "no rule but the last should see it");
    }
    assert_eq!(world.limited(), [source(GAME)]);
    assert!(world.gauge().fill() < 0.75, "{}", world.gauge().fill());
}

#[test]
fn several_that_flood_are_no_measure_for_each_other() {
    let mut world = World::lan(Settings::default());
    world.run(600);
    for host in 1..=8 {
        world.hold(&format!("198.51.100.{host}"), 0.0, 100.0);
    }
    world.run(30);
    assert_eq!(world.named().len(), 8);
}

#[test]
fn a_busy_host_that_keeps_what_it_began_with_is_let_go_in_the_end() {
    let mut world = World::lan(Settings::default());
    world.run(600);
    world.hold(GAME, 1800.0, 0.0);
    world.until(20, |world| world.named() == [source(GAME)]).expect("it is named");
    assert_eq!(world.action_of(source(GAME)), Some(Action::Watch));
    world.step = 10;
    world.until(6 * 3600, |world| world.guard.status(world.now).offenders.is_empty()).expect("it is a habit now");
    world.run(86_400);
    assert_eq!(world.named(), [source(GAME)], "once");
}

#[test]
fn one_that_is_fast_is_named_before_it_holds_many() {
    let mut world = World::lan(Settings::default());
    world.run(600);
    world.hold("198.51.100.1", 0.0, 3000.0);
    world.run(5);
    // While somebody is watched, who opens flows is listened to.
    world.hold(GAME, 60.0, 0.0);
    for _ in 0..30 {
        // It closes as fast as it opens.
        let holder = world.holders.get_mut(&prefix(GAME)).unwrap();
        (holder.flows, holder.rate) = (150.0, 300.0);
        world.tick();
    }
    assert!(world.named().contains(&source(GAME)), "{:?}", world.named());
}

#[test]
fn one_that_is_fast_and_holds_few_is_no_culprit() {
    let mut world = World::lan(Settings::default());
    world.run(600);
    world.hold("198.51.100.1", 0.0, 3000.0);
    world.run(5);
    world.hold(GAME, 60.0, 0.0);
    for _ in 0..30 {
        // Its name server's questions are answered, and forgotten, at once.
        let holder = world.holders.get_mut(&prefix(GAME)).unwrap();
        (holder.flows, holder.rate) = (0.0, 200.0);
        world.tick();
    }
    assert_eq!(world.named(), [source("198.51.100.1")]);
}
