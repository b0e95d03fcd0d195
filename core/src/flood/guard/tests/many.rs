//! /64s whose addresses rotate, crowds of forged sources.

use super::world::{MAX, World, prefix, source, to};
use crate::flood::guard::offenders::PURGES;
use crate::flood::guard::{Said, State};
use crate::flood::settings::Settings;
use crate::flood::timeouts::Profile;
use crate::flood::wanted::{Culprit, LIMITS};
use crate::time::Span;

#[test]
fn a_host_that_takes_a_new_address_for_each_flow_is_named_by_its_net() {
    let mut world = World::lan(Settings::default());
    world.run(120);
    world.net("2001:db8:66::/64", 0.0, 3000.0, 900);
    // One of its addresses alone would be enough, but the net is more.
    world.hold("2001:db8:66::1", 0.0, 20.0);
    world.run(30);
    assert_eq!(world.named(), [source("2001:db8:66::/64")]);
    assert_eq!(world.limited(), [source("2001:db8:66::/64")]);
}

#[test]
fn one_host_of_a_net_is_named_itself() {
    let mut world = World::lan(Settings::default());
    world.run(120);
    world.net("2001:db8:66::/64", 2000.0, 0.0, 40);
    world.hold("2001:db8:66::1", 1900.0, 0.0);
    world.run(30);
    assert_eq!(world.named(), [source("2001:db8:66::1")]);
}

#[test]
fn the_net_this_host_lives_in_is_never_one_source() {
    for told in [true, false] {
        let mut world = World::lan(Settings::default());
        let own = "2001:db8:1::53".parse().unwrap();
        world.own.insert(own);
        if told {
            world.guard.home([own]);
        } else {
            // It is seen by its own flows.
            world.hold("2001:db8:1::53", 5.0, 0.0);
        }
        world.run(120);
        world.net("2001:db8:1::/64", 0.0, 3000.0, 900);
        world.run(20);
        assert!(world.guard.status(world.now).state > State::Calm);
        assert_eq!(world.named(), []);
    }
}

/// A network with a web server, and a SYN flood against it.
fn attacked(forged: u32) -> World {
    let mut world = World::lan(Settings::default());
    world.run(120);
    for second in 1..=20 {
        world.forged = Some((to("192.0.2.80:80/tcp"), forged / 20 * second));
        world.tick();
    }
    world
}

#[test]
fn a_crowd_of_forged_sources_is_limited_by_where_it_goes() {
    let mut world = attacked(55_000);
    let crowd = Culprit::Crowd { to: to("192.0.2.80:80/tcp") };
    assert_eq!(world.named(), [crowd]);
    let wanted = world.guard.wanted();
    assert_eq!(wanted.profile, Some(Profile::Attack));
    let limit = &wanted.limits[0];
    assert_eq!(limit.whose, crowd);
    assert!(u64::from(limit.rate) * 8 + u64::from(limit.burst) < u64::from(MAX / 4) && limit.rate > 100);
    assert!(!limit.timeouts.contains_key("tcp_established"), "there may be real ones in it");
    world.forged = None;
    world.run(700);
    assert!(world.guard.wanted().limits.is_empty());
    assert_eq!(world.guard.status(world.now).state, State::Calm);
}

#[test]
fn visitors_who_finish_their_handshakes_are_no_crowd() {
    let mut world = World::lan(Settings::default());
    world.run(120);
    for second in 1..=60 {
        world.forged = Some((to("192.0.2.80:443/tcp"), 900 * second));
        world.now.tick.0 += 1000;
        world.guard.gauge(world.gauge(), world.now);
        let census = crate::flood::census::Census { unassured: 900, ..world.census() };
        world.guard.census(census, &|_| None, &|_| false, world.now);
        world.hear();
    }
    assert!(world.guard.status(world.now).state > State::Calm);
    assert_eq!(world.named(), []);
}

#[test]
fn where_a_culprit_explains_it_there_is_no_crowd() {
    let mut world = World::lan(Settings::default());
    world.run(120);
    world.forged = Some((to("192.0.2.80:80/tcp"), 9000));
    world.hold("192.0.2.66", 0.0, 4000.0);
    world.run(12);
    assert_eq!(world.named(), [source("192.0.2.66")]);
}

#[test]
fn limits_are_the_worst_and_never_too_many() {
    let mut world = World::new(Settings::default());
    for host in 0..250 {
        world.hold(&format!("192.0.2.{host}"), 10.0, 0.0);
    }
    world.run(60);
    for host in 0..100u32 {
        world.hold(&format!("198.51.100.{host}"), f64::from(520 + host), 0.0);
    }
    world.run(20);
    assert_eq!(world.named().len(), 100);
    let limits = world.limited();
    assert_eq!(limits.len(), LIMITS);
    assert_eq!(limits[0], Culprit::Source { prefix: prefix("198.51.100.99") });
    let status = world.guard.status(world.now);
    assert_eq!((status.limits, status.offenders.iter().filter(|one| one.limited).count()), (LIMITS, LIMITS));
}

#[test]
fn idle_flows_of_those_only_who_are_limited_end_and_of_few_at_once() {
    let mut world = World::new(Settings::default());
    for host in 0..250 {
        world.hold(&format!("192.0.2.{host}"), 10.0, 0.0);
    }
    world.run(60);
    for host in 0..100u32 {
        world.hold(&format!("198.51.100.{host}"), f64::from(520 + host), 0.0);
    }
    // So that all of them are over, and in danger at once.
    world.guard.configure(Settings { engage: (0.5, 0.95), ..Settings::default() });
    let purged = |world: &mut World| {
        let of = |said| if let Said::Purge { culprit } = said { Some(culprit) } else { None };
        world.guard.take().into_iter().filter_map(of).collect::<Vec<_>>()
    };
    world.now.tick = world.now.tick.plus(Span::secs(1));
    world.guard.gauge(world.gauge(), world.now);
    assert_eq!(world.guard.state(), State::Pressure);
    world.look();
    let limited = world.limited();
    assert_eq!(limited.len(), LIMITS);
    let mut all = purged(&mut world);
    assert_eq!(all, limited[..PURGES], "the worst first");
    for pass in 2..=8 {
        world.guard.pass(world.now);
        let more = purged(&mut world);
        assert_eq!(more.len(), if pass <= LIMITS / PURGES { PURGES } else { 0 });
        all.extend(more);
    }
    assert_eq!(all, limited, "each once");
}
