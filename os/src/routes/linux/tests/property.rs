//! However ours are changed, what is wanted is what stands, and what is others' stays as it was.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

fn selector(family: Family) -> impl Strategy<Value = Selector> {
    let prefixes = match family {
        Family::V4 => ["192.0.2.1", "192.0.2.0/24", "203.0.113.0/28"],
        Family::V6 => ["2a02::1", "2a02::/32", "2001:db8::/48"],
    };
    let prefix =
        move || proptest::option::weighted(0.25, proptest::sample::select(prefixes.to_vec()).prop_map(|text| text.parse().unwrap()));
    let name = || proptest::option::weighted(0.25, proptest::sample::select(vec!["net0", "absent"]).prop_map(str::to_owned));
    let mark =
        proptest::option::weighted(0.25, (1u32..3).prop_map(|mark| (palisade_core::route::Mark(mark), palisade_core::route::Mask(3))));
    (prefix(), prefix(), name(), name(), mark, proptest::option::weighted(0.25, 1u8..3), proptest::option::weighted(0.25, Just((5, 6))))
        .prop_map(|(from, to, iif, oif, fwmark, ipproto, uid)| Selector { from, to, iif, oif, fwmark, ipproto, uid, ..Selector::default() })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let one = prop_oneof![Just(Family::V4), Just(Family::V6)].prop_flat_map(|family| {
        let action = prop_oneof![Just(Action::Lookup(TableId(200))), Just(Action::Unreachable), Just(Action::Lookup(TableId(300)))];
        // Few places, so that many share one.
        (selector(family), 4000u32..4004, action).prop_map(move |(selector, at, action)| Rule { action, ..rule(family, at, selector) })
    });
    proptest::collection::vec(one, 0..24)
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let one = (0usize..6, 1u32..4, any::<bool>()).prop_map(|(to, metric, reject)| {
        let (to, gateway) = [
            ("0.0.0.0/0", Some("192.0.2.1")),
            ("203.0.113.0/24", None),
            ("203.0.113.7/32", Some("192.0.2.9")),
            ("::/0", Some("2001:db8:1::1")),
            ("2001:db8:a::/48", None),
            ("2001:db8:a::1/128", Some("fe80::1")),
        ][to];
        // A gateway is looked up by the rules that stand, whatever they are here.
        let way = Hop { onlink: gateway.is_some(), ..hop(0, gateway) };
        route(to, metric, if reject { vec![] } else { vec![way] })
    });
    proptest::collection::vec(one, 0..16)
}

/// Additions before removals, where the place is free.
fn steps(found: &World, rules: &[Rule], routes: &[Route]) -> Vec<Step> {
    let mine = |protocol: Protocol| protocol == Protocol::OURS;
    let old_routes: Vec<&Route> = found.routes.iter().filter(|route| mine(route.protocol)).collect();
    let mut steps = Vec::new();
    steps.extend(old_routes.iter().filter(|route| !routes.contains(route)).map(|route| Step::DelRoute((*route).clone())));
    steps.extend(routes.iter().filter(|route| !old_routes.contains(route)).cloned().map(Step::AddRoute));
    steps.extend(rules.iter().filter(|rule| !found.rules.contains(rule)).cloned().map(Step::AddRule));
    steps.extend(found.rules.iter().filter(|rule| mine(rule.protocol) && !rules.contains(rule)).cloned().map(Step::DelRule));
    steps
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}

#[test]
fn what_is_wanted_stands_and_what_is_others_stays() {
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let sequence = proptest::collection::vec((rules(), routes()), 8..16);
    runner
        .run(&sequence, |sequence| {
            alone(move || {
                cables();
                sh("ip rule add pref 4001 from 192.0.2.1 lookup 200 protocol 4; ip rule add pref 4001 from 192.0.2.1 lookup 200
                    ip -6 rule add pref 4002 lookup 200 fwmark 1/3 protocol 81; ip -6 rule add pref 4002 unreachable from 2a02::1
                    ip route add 203.0.113.0/24 dev net0 table 200 proto bird metric 9; ip -6 route add default dev net0 table 200 proto bird metric 9");
                let mut router = Linux::open().unwrap();
                let foreign = |world: &World| {
                    let rules: Vec<Rule> = world.rules.iter().filter(|rule| rule.protocol != Protocol::OURS).cloned().collect();
                    let routes: Vec<Route> = world.routes.iter().filter(|route| route.protocol != Protocol::OURS).cloned().collect();
                    (rules, sorted(routes))
                };
                let net0 = index(&mut router, "net0");
                let before = foreign(&all(&mut router));
                for (mut rules, mut routes) in sequence {
                    rules = rules.into_iter().fold(Vec::new(), |mut kept, rule| {
                        if !kept.contains(&rule) {
                            kept.push(rule);
                        }
                        kept
                    });
                    routes.iter_mut().flat_map(|route| &mut route.hops).for_each(|hop| hop.link = net0);
                    routes.sort_by_key(|route| (route.to, route.metric));
                    routes.dedup_by_key(|route| (route.to, route.metric));
                    let steps = steps(&all(&mut router), &rules, &routes);
                    done(&mut router, &steps);
                    let now = all(&mut router);
                    assert_eq!(sorted(of_us(&now.rules)), sorted(rules));
                    assert_eq!(sorted(now.routes.iter().filter(|route| route.protocol == Protocol::OURS).cloned().collect()), sorted(routes));
                    assert_eq!(foreign(&now), before);
                }
            });
            Ok(())
        })
        .unwrap();
}
