//! What is done about a culprit, when, and for how long.

use super::world::{World, prefix, process, source, to};
use crate::flood::flow::{TCP, UDP};
use crate::flood::guard::{Said, State};
use crate::flood::settings::{Action, Service, Settings};
use crate::flood::wanted::Culprit;
use crate::time::{Span, Term};

const GAME: &str = "192.0.2.66";

/// A network in which the game floods, limited since moments.
fn flooded(settings: Settings) -> World {
    let mut world = World::lan(settings);
    world.run(120);
    world.hold(GAME, 30.0, 4000.0);
    world.run(6);
    world
}

#[test]
fn an_exempt_source_is_named_and_told_why_nothing_is_done() {
    for by_config in [true, false] {
        let exempt = vec![prefix("192.0.2.64/26")];
        let mut world = World::lan(Settings {
            exempt: if by_config { exempt.clone() } else { Vec::new() },
            action: Action::Ban,
            ..Settings::default()
        });
        world.exempt = if by_config { Vec::new() } else { exempt };
        world.run(120);
        world.hold(GAME, 30.0, 8000.0);
        world.run(60);
        let named = world.said.iter().find_map(|(_, said)| match said {
            Said::Named { culprit, action, exempt, .. } if *culprit == source(GAME) => Some((*action, exempt.clone())),
            _ => None,
        });
        let (action, why) = named.expect("it is named");
        assert_eq!(action, Action::Watch);
        assert!(why.unwrap().contains(if by_config { "192.0.2.64/26" } else { "allow list" }));
        assert!(world.guard.status(world.now).state == State::Flood && world.guard.wanted().limits.is_empty());
        assert_eq!(world.count_of(|said| matches!(said, Said::Ban { .. } | Said::Purge { .. } | Said::Grown { .. })), 0);
    }
}

#[test]
fn one_that_becomes_exempt_is_free_at_once() {
    let mut world = flooded(Settings::default());
    assert_eq!(world.limited(), [source(GAME)]);
    world.guard.configure(Settings { exempt: vec![prefix(GAME)], ..Settings::default() });
    assert!(world.guard.wanted().limits.is_empty());
    world.run(1);
    assert_eq!(world.count_of(|said| matches!(said, Said::Eased { to: Action::Watch, .. })), 1);
}

#[test]
fn new_settings_let_those_go_who_are_no_culprits_by_them() {
    let mut world = flooded(Settings::default());
    let peak = world.holders[&prefix(GAME)].flows;
    assert!(peak < 60_000.0);
    world.guard.configure(Settings { per_source: 1_000_000, ..Settings::default() });
    assert!(world.guard.wanted().limits.is_empty());
    assert!(world.guard.next_deadline().is_some_and(|deadline| deadline <= world.now.tick));
    world.guard.pass(world.now);
    world.hear();
    assert_eq!(world.count_of(|said| matches!(said, Said::Over { .. })), 1);
    let mut world = flooded(Settings::default());
    world.guard.configure(Settings { enabled: false, ..Settings::default() });
    assert_eq!(world.guard.wanted(), crate::flood::wanted::Wanted::default());
    world.run(10);
    assert_eq!(world.count_of(|said| matches!(said, Said::Over { .. })), 1);
    assert!(world.guard.status(world.now).state == State::Calm && !world.guard.alarmed());
    let mut world = flooded(Settings::default());
    world.guard.configure(Settings { action: Action::Watch, ..Settings::default() });
    assert!(world.guard.wanted().limits.is_empty());
    world.run(5);
    assert_eq!(world.action_of(source(GAME)), Some(Action::Watch));
}

#[test]
fn a_limit_has_the_rate_of_the_config_and_short_timeouts() {
    let world = flooded(Settings { limit: (7, 30), ..Settings::default() });
    let limit = &world.guard.wanted().limits[0];
    assert_eq!((limit.rate, limit.burst), (7, 30));
    assert_eq!(limit.timeouts["tcp_established"], Span::secs(600));
    assert_eq!(limit.timeouts["udp"], Span::secs(10));
}

#[test]
fn watching_only_watches() {
    let mut world = flooded(Settings { action: Action::Watch, ..Settings::default() });
    world.run(60);
    assert_eq!(world.named(), [source(GAME)]);
    assert!(world.guard.wanted().limits.is_empty());
    assert_eq!(world.count_of(|said| matches!(said, Said::Ban { .. } | Said::Purge { .. })), 0);
}

#[test]
fn a_ban_is_said_once_and_again_when_it_comes_back_after_it_is_over() {
    let settings = Settings { action: Action::Ban, ban_time: Term::For(Span::secs(900)), ..Settings::default() };
    let mut world = flooded(settings.clone());
    world.run(60);
    let bans = |world: &World| world.count_of(|said| matches!(said, Said::Ban { .. }));
    assert_eq!(bans(&world), 1);
    assert!(world.guard.wanted().limits.is_empty(), "who is banned needs no limit");
    world.run(900);
    assert_eq!(world.count_of(|said| matches!(said, Said::Over { .. })), 1);
    world.hold(GAME, 30.0, 4000.0);
    world.run(60);
    assert_eq!(bans(&world), 2);
    // Where it is not shut out, it is not said each second.
    let mut world = World::lan(settings);
    world.bans_work = false;
    world.run(120);
    world.hold(GAME, 30.0, 2000.0);
    world.run(600);
    assert_eq!(bans(&world), 1);
    world.run(600);
    assert_eq!(bans(&world), 2);
}

#[test]
fn a_ban_that_was_lifted_is_said_again_with_the_next_flood() {
    let settings = Settings { action: Action::Ban, ban_time: Term::Forever, ..Settings::default() };
    let bans = |world: &World| world.count_of(|said| matches!(said, Said::Ban { .. }));
    // It has stopped, being banned: it is free, and banned again when it floods again.
    let mut world = flooded(settings.clone());
    world.run(30);
    assert_eq!((bans(&world), world.action_of(source(GAME))), (1, Some(Action::Ban)));
    world.guard.unbanned(prefix("192.0.2.99"));
    world.hold(GAME, 30.0, 0.0);
    world.run(5);
    world.guard.unbanned(prefix(GAME));
    world.run(5);
    assert!(world.action_of(source(GAME)) == Some(Action::Watch) && world.limited().is_empty());
    world.hold(GAME, 30.0, 4000.0);
    world.run(20);
    assert_eq!((bans(&world), world.action_of(source(GAME))), (2, Some(Action::Ban)));
}

#[test]
fn who_floods_on_after_its_ban_was_lifted_or_refused_is_limited_for_a_while() {
    let settings = Settings { action: Action::Ban, ban_time: Term::Forever, ..Settings::default() };
    let bans = |world: &World| world.count_of(|said| matches!(said, Said::Ban { .. }));
    let mut world = World::lan(settings);
    world.bans_work = false;
    world.run(120);
    world.hold(GAME, 30.0, 4000.0);
    world.run(10);
    assert!(bans(&world) == 1 && world.limited().is_empty());
    world.guard.unbanned(prefix(GAME));
    world.run(200);
    assert_eq!((bans(&world), world.limited()), (1, vec![source(GAME)]));
    let eased = |said: &Said| matches!(said, Said::Eased { to: Action::Limit, why, .. } if why.contains("lifted or refused"));
    assert_eq!(world.count_of(eased), 1);
    world.run(110);
    assert!(bans(&world) == 2 && world.limited().is_empty());
}

#[test]
fn idle_flows_are_ended_at_once_and_then_each_half_minute_under_pressure_only() {
    let purges = |world: &World| -> Vec<u64> {
        world.said.iter().filter(|(_, said)| matches!(said, Said::Purge { .. })).map(|(second, _)| *second).collect()
    };
    let mut calm = flooded(Settings::default());
    calm.run(100);
    assert!(purges(&calm).is_empty() && calm.limited() == [source(GAME)], "the table bears it");
    let mut world = World::lan(Settings::default());
    world.run(120);
    world.hold(GAME, 50_000.0, 100.0);
    world.run(100);
    let seen = purges(&world);
    assert!(seen.len() >= 2 && seen.windows(2).all(|two| two[1] - two[0] >= 30), "{seen:?}");
    let mut world = World::lan(Settings { purge: false, ..Settings::default() });
    world.run(120);
    world.hold(GAME, 50_000.0, 100.0);
    world.run(100);
    assert!(purges(&world).is_empty());
}

#[test]
fn who_stops_is_held_for_the_limit_time_and_twice_as_long_when_it_comes_back() {
    let mut world = flooded(Settings { limit_time: Span::secs(300), ..Settings::default() });
    let mut holds = Vec::new();
    for _ in 0..3 {
        assert_eq!(world.limited(), [source(GAME)]);
        world.hold(GAME, 30.0, 0.0);
        world.until(20, |world| world.guard.status(world.now).offenders.iter().all(|one| !one.over)).expect("it is seen to be under");
        holds.push(world.until(4000, |world| world.guard.wanted().limits.is_empty()).expect("it is let go"));
        world.run(60);
        world.hold(GAME, 30.0, 4000.0);
        world.until(30, |world| !world.limited().is_empty()).expect("it is limited again");
    }
    for (hold, expected) in holds.iter().zip([300, 600, 1200]) {
        assert!(hold.abs_diff(expected) <= 12, "{holds:?}");
    }
    let over = world
        .said
        .iter()
        .find_map(|(_, said)| if let Said::Over { lasted, dropped, .. } = said { Some((*lasted, *dropped)) } else { None });
    let (lasted, dropped) = over.unwrap();
    assert!(lasted >= Span::secs(300) && dropped >= 4000, "{lasted} {dropped}");
}

#[test]
fn who_goes_on_against_its_limit_stays_limited_and_who_opens_a_page_does_not() {
    let mut world = flooded(Settings::default());
    world.hold(GAME, 30.0, 0.0);
    // It goes on trying: its limit drops 500 a second for half an hour.
    for _ in 0..1800 {
        *world.dropped.entry(source(GAME)).or_default() += 500;
        world.tick();
    }
    assert_eq!(world.limited(), [source(GAME)]);
    // Now a page each half minute, thirty connections at once, of which some are dropped.
    let released = (0..900).find(|second| {
        if second % 30 == 0 {
            *world.dropped.entry(source(GAME)).or_default() += 15;
        }
        world.tick();
        world.limited().is_empty()
    });
    assert!(released.is_some());
}

#[test]
fn a_local_process_is_limited_by_user_and_port_and_its_host_is_no_source() {
    let own: crate::net::Addr = "192.0.2.1".parse().unwrap();
    for action in [Action::Limit, Action::Ban] {
        let mut world = World::lan(Settings { action, ..Settings::default() });
        world.own.insert(own);
        world.run(120);
        for second in 1..=30 {
            world.hold("192.0.2.1", f64::from(second) * 1500.0, 0.0);
            world.processes = vec![process(1000, "game", second * 1500, "203.0.113.9:4433/udp")];
            world.tick();
        }
        let culprit = Culprit::Local { uid: 1000, protocol: UDP, port: 4433 };
        assert_eq!(world.named(), [culprit]);
        assert_eq!(world.limited(), [culprit]);
        let process = world.guard.status(world.now).offenders[0].process.clone();
        assert_eq!(process.unwrap().comm, "game");
        assert_eq!(world.count_of(|said| matches!(said, Said::Ban { .. })), 0);
        // Nobody looks for processes any more, but the host has its flows still: it stays for a while.
        world.processes.clear();
        world.run(290);
        assert_eq!(world.limited(), [culprit]);
        world.run(20);
        assert!(world.limited().is_empty());
    }
}

#[test]
fn a_local_process_is_gone_when_it_was_looked_for_or_its_host_has_no_flows() {
    let own: crate::net::Addr = "192.0.2.1".parse().unwrap();
    for (looked, flows, over) in [(false, 9000.0, true), (true, 9000.0, false), (false, 100.0, false)] {
        let mut world = World::lan(Settings::default());
        world.own.insert(own);
        world.run(120);
        for second in 1..=30 {
            world.processes = vec![process(1000, "game", second * 300, "203.0.113.9:4433/udp")];
            world.tick();
        }
        assert_eq!(world.named().len(), 1);
        world.processes.clear();
        world.hold("192.0.2.1", flows, 0.0);
        world.looked = looked;
        world.run(11);
        let status = world.guard.status(world.now);
        assert_eq!(status.offenders.iter().map(|one| one.over).collect::<Vec<_>>(), [over], "{looked} {flows}");
    }
}

#[test]
fn who_is_not_looked_at_any_more_is_let_go_and_the_table_is_calm() {
    for told in [false, true] {
        let mut world = flooded(Settings { limit_time: Span::secs(300), ..Settings::default() });
        world.hold(GAME, 60_000.0, 4000.0);
        world.run(3);
        assert_eq!(world.guard.state(), State::Flood);
        let begun = world.now;
        let mut ended = None;
        for second in 1..=400 {
            world.now.tick = begun.tick.plus(Span::secs(second));
            if told {
                world.guard.lost(world.now);
            } else {
                // Its limit drops on, and says nothing of what it holds.
                world.guard.limited(&[(source(GAME), 10_000_000 + second * 4000)], world.now);
            }
            let (calm, free) = (world.guard.state() == State::Calm, world.guard.wanted().limits.is_empty());
            // It was said in the first second.
            assert_eq!(calm, told && second > 60, "{second}");
            if free {
                ended = ended.or(Some(second));
            }
        }
        assert!(ended.is_some_and(|ended| (295..=300).contains(&ended)), "{ended:?}");
        world.hear();
        assert_eq!(world.count_of(|said| matches!(said, Said::Over { .. })), 1);
        let blind = |said: &Said| matches!(said, Said::State { to: State::Calm, why, .. } if why.contains("cannot be read"));
        assert_eq!(world.count_of(blind), usize::from(told));
        assert!(!told || !world.guard.alarmed() && world.guard.next_deadline().is_none());
    }
}

#[test]
fn a_gauge_after_all_ends_the_loss_and_time_alone_ends_the_flood() {
    let mut world = flooded(Settings::default());
    world.hold(GAME, 60_000.0, 0.0);
    world.run(3);
    assert_eq!(world.guard.state(), State::Flood);
    world.guard.lost(world.now);
    assert_eq!(world.guard.next_deadline(), Some(world.now.tick.plus(Span::secs(60))));
    world.run(3);
    assert_ne!(world.guard.next_deadline(), Some(world.now.tick.plus(Span::secs(57))));
    assert!(world.guard.state() > State::Calm);
    world.guard.lost(world.now);
    let at = world.guard.next_deadline().expect("it is calm then");
    world.guard.pass(crate::time::Now { tick: at, ..world.now });
    assert_eq!(world.guard.state(), State::Calm);
}

#[test]
fn a_short_hold_does_not_end_between_two_censuses() {
    let mut world = flooded(Settings { limit_time: Span::secs(1), ..Settings::default() });
    let begun = world.now.tick;
    for second in 1..=60 {
        world.now.tick = begun.plus(Span::secs(second));
        world.guard.pass(world.now);
        assert_eq!(world.limited(), [source(GAME)]);
    }
}

#[test]
fn a_user_with_two_services_is_known_by_both() {
    for uid in [0, 1000] {
        let mut world = World::lan(Settings::default());
        world.step = 10;
        world.processes = vec![process(uid, "web", 500, "203.0.113.9:443/tcp"), process(uid, "base", 10, "203.0.113.9:5432/tcp")];
        world.run(600);
        // As an office in the morning.
        for step in 1..=36 {
            world.processes[0] = process(uid, "web", 500 + step * 125, "203.0.113.9:443/tcp");
            world.run(300);
        }
        world.run(7200);
        assert_eq!(world.said, Vec::new());
        // It is a habit, and no licence.
        world.step = 1;
        for second in 1..=30 {
            world.processes[1] = process(uid, "base", second * 1500, "203.0.113.9:5432/tcp");
            world.tick();
        }
        assert_eq!(world.named(), [Culprit::Local { uid, protocol: TCP, port: 5432 }]);
    }
}

#[test]
fn two_constant_services_of_one_user_met_first_are_never_named() {
    let mut world = World::lan(Settings::default());
    world.step = 10;
    world.processes = vec![process(1000, "web", 5000, "203.0.113.9:443/tcp"), process(1000, "base", 10, "203.0.113.9:5432/tcp")];
    world.run(7200);
    assert_eq!(world.said, Vec::new());
}

#[test]
fn root_is_limited_to_a_port_or_not_at_all_and_dns_only_in_a_flood() {
    let run = |held: &dyn Fn(u32) -> crate::flood::census::Held, seconds: u32| {
        let mut world = World::lan(Settings::default());
        world.run(60);
        for second in 1..=seconds {
            world.processes = vec![held(second * 1000)];
            world.tick();
        }
        world
    };
    let mail = run(&|flows| process(0, "agent", flows, "203.0.113.9:25/tcp"), 20);
    assert_eq!(mail.limited(), [Culprit::Local { uid: 0, protocol: TCP, port: 25 }]);
    let ping = run(&|flows| process(0, "prober", flows, "203.0.113.9/icmp"), 20);
    assert!(ping.limited().is_empty() && ping.named().len() == 1);
    let spread = run(
        &|flows| crate::flood::census::Held {
            top: Some((to("203.0.113.9:25/tcp"), 10)),
            ..process(1000, "torrent", flows, "203.0.113.9:25/tcp")
        },
        20,
    );
    assert_eq!(spread.limited(), [Culprit::Local { uid: 1000, protocol: TCP, port: 0 }]);
    // To many addresses, and one port.
    let scan = run(
        &|flows| crate::flood::census::Held {
            top: Some((to("203.0.113.9:80/tcp"), 10)),
            port: Some((TCP, 80, flows)),
            ..process(1000, "scanner", flows, "203.0.113.9:80/tcp")
        },
        20,
    );
    assert_eq!(scan.limited(), [Culprit::Local { uid: 1000, protocol: TCP, port: 80 }]);
    let dns = |seconds| run(&|flows| process(990, "resolver", flows, "203.0.113.53:53/udp"), seconds);
    let asks = dns(20);
    assert!(asks.guard.status(asks.now).state < State::Flood && asks.limited().is_empty() && asks.named().len() == 1);
    assert_eq!(dns(58).limited(), [Culprit::Local { uid: 990, protocol: UDP, port: 53 }]);
}

#[test]
fn services_of_the_config_are_wanted_always() {
    let service =
        Service { protocol: UDP, ports: vec![53], prefixes: Vec::new(), timeouts: [("replied".to_owned(), Span::secs(5))].into() };
    let world = World::lan(Settings { services: [("dns".to_owned(), service.clone())].into(), ..Settings::default() });
    assert_eq!(world.guard.wanted().services, [("dns".to_owned(), service)]);
}

#[test]
fn the_status_reads_as_it_was_written() {
    let world = flooded(Settings::default());
    let status = world.guard.status(world.now);
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<crate::flood::guard::Status>(&text).unwrap().offenders.len(), 1);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["state"], status.state.to_string());
    let offender = &json["offenders"][0];
    assert_eq!((offender["addr"].as_str(), offender["action"].as_str()), (Some(GAME), Some("limit")));
    assert!(offender["since"].as_str().is_some_and(|since| since.ends_with('Z')));
    assert!(offender["why"].as_str().is_some_and(|why| why.contains("most to 203.0.113.9:443/tcp")), "{offender}");
}

#[test]
fn what_is_said_reads_well() {
    let mut world = flooded(Settings::default());
    world.hold(GAME, 30.0, 0.0);
    world.run(600);
    let lines: Vec<String> = world.said.iter().map(|(_, said)| said.to_string()).collect();
    assert!(lines.iter().any(|line| line.starts_with("192.0.2.66 floods the connection table: holds ")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("192.0.2.66: over after ")), "{lines:#?}");
}
