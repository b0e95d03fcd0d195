//! The real kernel, in network namespaces of our own. Needs root; `ip` sets the scene and plays the others.

mod bytes;
mod compat;
mod property;
mod routes;
mod rules;
mod watching;

use std::process::Command;

use palisade_core::net::Family;
use palisade_core::route::plan::Step;
use palisade_core::route::{Action, Hop, Kind, Priority, Protocol, Route, Rule, Selector, TableId, World};

use super::Linux;
use crate::netns::Netns;
use crate::routes::{Read, Router};

/// Runs a test in a network namespace of its own; what it starts inherits it.
fn alone<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    Netns::new().unwrap().within(test).unwrap()
}

fn sh(script: &str) {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
}

/// Two cables, both ends here: `net0` with addresses, `tun0` without.
fn cables() {
    sh("ip link set lo up
        for link in net0 tun0; do ip link add $link type veth peer name far-$link; ip link set far-$link up; ip link set $link up; done
        ip address add 192.0.2.2/24 dev net0; ip -6 address add 2001:db8:1::2/64 dev net0 nodad
        ip address add 198.51.100.2/24 dev tun0; ip -6 address add 2001:db8:2::2/64 dev tun0 nodad");
}

fn index(router: &mut Linux, name: &str) -> u32 {
    all(router).link(name).unwrap().index
}

fn all(router: &mut Linux) -> World {
    router.read(&Read::All).unwrap()
}

fn done(router: &mut Linux, steps: &[Step]) {
    let report = router.apply(steps);
    assert_eq!((report.done, report.failed.as_slice()), (steps.len(), &[][..]), "{steps:?}");
}

fn refused(router: &mut Linux, step: Step) -> (String, bool) {
    let report = router.apply(std::slice::from_ref(&step));
    let [(0, failure)] = report.failed.as_slice() else { panic!("{step:?} was done") };
    (failure.error.clone(), failure.passing)
}

fn rule(family: Family, priority: u32, selector: Selector) -> Rule {
    Rule::new(family, Priority(priority), selector, Action::Lookup(TableId(200)), Protocol::OURS)
}

fn from(text: &str) -> Selector {
    Selector { from: Some(text.parse().unwrap()), ..Selector::default() }
}

fn hop(link: u32, gateway: Option<&str>) -> Hop {
    Hop { link, gateway: gateway.map(|text| text.parse().unwrap()), onlink: false, weight: 1 }
}

fn route(to: &str, metric: u32, hops: Vec<Hop>) -> Route {
    let kind = if hops.is_empty() { Kind::Unreachable } else { Kind::Unicast };
    let to = to.parse().unwrap();
    Route { table: TableId(200), to, from: None, metric, tos: 0, kind, hops, prefsrc: None, protocol: Protocol::OURS }
}

fn of_us(rules: &[Rule]) -> Vec<Rule> {
    rules.iter().filter(|rule| rule.protocol == Protocol::OURS).cloned().collect()
}
