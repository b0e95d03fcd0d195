//! Whatever the censuses say.

use proptest::prelude::*;

use super::world::{prefix, to};
use crate::flood::census::{Census, Row};
use crate::flood::gauge::Gauge;
use crate::flood::guard::{FloodGuard, Said, habit, offenders};
use crate::flood::settings::{Action, Settings};
use crate::flood::wanted::{Culprit, LIMITS};
use crate::net::{Addr, Prefix};
use crate::time::{Now, Stamp, Tick};

fn row(prefix: Prefix, flows: u32, opened: Option<f32>, hosts: u32) -> Row {
    Row { prefix, flows, unreplied: flows, unassured: flows, opened, top: Some((to("203.0.113.9:443/tcp"), flows)), hosts }
}

/// Any row: of hosts, exempt hosts (198.51.100.0/24), own ones (192.0.2.1, 2001:db8:1::1), nets, and rows that make no sense.
fn rows() -> impl Strategy<Value = Row> {
    let who = prop_oneof![
        (0u8..6).prop_map(|host| format!("192.0.2.{host}")),
        (0u8..6).prop_map(|host| format!("198.51.100.{host}")),
        (0u8..4).prop_map(|host| format!("2001:db8:1::{host}")),
        (0u8..4).prop_map(|net| format!("2001:db8:{net}::/64")),
        Just("2001:db8::/32".to_owned()),
        Just("0.0.0.0/0".to_owned()),
    ];
    let flows = prop_oneof![0u32..2000, Just(u32::MAX), 0u32..70_000];
    let opened = prop_oneof![Just(None), (0f32..1e6).prop_map(Some), Just(Some(f32::NAN)), Just(Some(f32::INFINITY))];
    (who, flows, opened, 0u32..2000).prop_map(|(who, flows, opened, hosts)| row(prefix(&who), flows, opened, hosts))
}

fn censuses() -> impl Strategy<Value = (Census, u32, u64)> {
    let rows = || prop::collection::vec(rows(), 0..12);
    (rows(), rows(), any::<(u64, u64, u32, u32, u32)>(), 0u32..70_000, 0u64..100_000).prop_map(|(top, nets, numbers, count, pause)| {
        let (flows, sources, median, ninth, unassured) = numbers;
        let endpoints = vec![(to("192.0.2.80:80/tcp"), unassured)];
        (Census { flows, sources, top, nets, typical: (median, ninth), unassured, endpoints, ..Census::default() }, count, pause)
    })
}

fn own(addr: Addr) -> bool {
    ["192.0.2.1", "2001:db8:1::1"].iter().any(|own| addr == own.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_is_an_exempt_or_own_address_acted_upon(steps in prop::collection::vec(censuses(), 1..40), ban: bool, told: bool) {
        let settings = Settings {
            action: if ban { Action::Ban } else { Action::Limit },
            exempt: vec![prefix("198.51.100.0/25")],
            ..Settings::default()
        };
        let listed = prefix("198.51.100.0/24");
        let exempt = |prefix: Prefix| listed.overlaps(&prefix).then(|| "listed".to_owned());
        let mut guard = FloodGuard::new(settings);
        if told {
            guard.home(["2001:db8:1::1".parse().unwrap()]);
        }
        let spared = |prefix: Prefix| {
            let home = told && prefix.contains("2001:db8:1::1".parse().unwrap());
            listed.overlaps(&prefix) || (prefix.is_host() && own(prefix.addr())) || home
        };
        let mut now = Now { stamp: Stamp(0), tick: Tick(1000) };
        for (census, count, pause) in steps {
            now.tick = Tick(now.tick.0 + pause);
            guard.gauge(Gauge { count, max: 65_536, ..Gauge::default() }, now);
            guard.census(census, &exempt, &own, now);
            let wanted = guard.wanted();
            prop_assert!(wanted.limits.len() <= LIMITS);
            let limited = wanted.limits.iter().map(|limit| limit.whose);
            let done = guard.take().into_iter().filter_map(|said| match said {
                Said::Ban { prefix, .. } => Some(Culprit::Source { prefix }),
                Said::Purge { culprit } => Some(culprit),
                _ => None,
            });
            for culprit in limited.chain(done) {
                if let Culprit::Source { prefix } = culprit {
                    prop_assert!(!spared(prefix), "{prefix}");
                    prop_assert!(prefix.is_host() || prefix.len() == 64, "{prefix}");
                }
            }
            let status = guard.status(now);
            prop_assert!(serde_json::to_string(&status).is_ok());
        }
    }
}

#[test]
fn memory_is_bounded_whoever_comes() {
    let mut guard = FloodGuard::new(Settings::default());
    let mut now = Now { stamp: Stamp(0), tick: Tick(1000) };
    for round in 0..12u32 {
        now.tick = Tick(now.tick.0 + 1000);
        let host = |at: u32| Prefix::host(std::net::Ipv4Addr::from((198 << 24) + round * 10_000 + at).into());
        let top = (0..10_000).map(|at| row(host(at), 600 + at + if at < 300 { 90_000 } else { 0 }, None, 1)).collect();
        let endpoints = (0..1000).map(|port| (to(&format!("192.0.2.80:{}/tcp", 1 + port + round * 1000)), 100)).collect();
        let census = Census { flows: 60_000, sources: 10_000, top, endpoints, typical: (1, 1), ..Census::default() };
        guard.gauge(Gauge { count: 60_000 - round, max: 65_536, ..Gauge::default() }, now);
        guard.census(census, &|_| None, &|_| false, now);
    }
    assert!(guard.habits.len() <= habit::ROOM && guard.habits.len() > 1000);
    assert!(guard.crowds.len() <= 1024);
    let (standing, gone) = guard.offenders.remembered();
    assert!(standing <= offenders::ROOM && standing > 100 && gone <= 1024, "{standing} {gone}");
    assert!(guard.take().len() <= 8192);
}
