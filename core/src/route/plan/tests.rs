//! Plans applied to a simulated kernel that others have written into as well.

use proptest::prelude::*;

use super::super::routes::{Hop, LAST};
use super::super::rule::{Action, Selector};
use super::super::wanted::made::*;
use super::super::wanted::{Chosen, Health, Healths, wanted};
use super::simulated::apply;
use super::*;
use crate::net::Family;

fn steps_of(wanted: &Wanted, world: &World, ours: &Ours) -> Plan {
    plan(wanted, world, ours, true, &|_| None)
}

fn run(world: &mut World, plan: &Plan) {
    for step in &plan.steps {
        apply(world, step).unwrap_or_else(|error| panic!("{error}: {step:?}"));
    }
}

fn settle(world: &mut World, wanted: &Wanted, ours: &Ours) {
    let plan = steps_of(wanted, world, ours);
    run(world, &plan);
}

fn wanted_of(spec: &Spec, world: &World) -> Wanted {
    wanted(spec, world, &Healths::new(), &all_chosen(spec))
}

fn seed_world() -> World {
    world(&[(2, "net0"), (7, "sixxs0")], vec![address(2, "2001::1", "2001::/64"), address(7, "2a02::1", "2a02::1")])
}

#[test]
fn from_the_ground_up_and_from_the_top_down() {
    let (spec, mut world) = (seed(), seed_world());
    let (wanted, ours) = (wanted_of(&spec, &world), Ours::of(&spec));
    let up = plan(&wanted, &world, &ours, false, &|_| None);
    let names = spec.names();
    let text = |step: &Step| match step {
        Step::AddRoute(route) => format!("+ {}", route.text(&names, |_| Some("sixxs0"))),
        Step::DelRoute(route) => format!("- {}", route.text(&names, |_| Some("sixxs0"))),
        Step::AddRule(rule) => format!("+ {}", rule.priority.0),
        Step::DelRule(rule) => format!("- {}", rule.priority.0),
        Step::Marks(marks) => format!("marks {}", marks.is_some()),
        Step::Sysctl(sysctl) => sysctl.path.clone(),
    };
    let texts: Vec<String> = up.steps.iter().map(text).collect();
    assert_eq!(
        texts,
        [
            "+ unreachable default table sixxs0 metric 4294967295 proto palisade",
            "+ unreachable default table sixxs1 metric 4294967295 proto palisade",
            "+ default dev sixxs0 table sixxs0 proto palisade src 2a02::1",
            "+ 4000",
            "+ 4100",
            "+ 4101",
            "+ 4110",
            "+ 4111",
            "+ 4200",
            "+ 4201",
            "+ 4300",
            "+ 4301",
            "marks true",
        ]
    );
    run(&mut world, &up);
    assert_eq!((steps_of(&wanted, &world, &ours).steps, steps_of(&wanted, &world, &ours).unchanged), (vec![], 12));
    let down = steps_of(&Wanted::default(), &world, &ours);
    assert_eq!(text(&down.steps[0]), "- 4000");
    assert_eq!(text(&down.steps[9]), "- default dev sixxs0 table sixxs0 proto palisade src 2a02::1");
    assert_eq!(text(&down.steps[10]), "- unreachable default table sixxs0 metric 4294967295 proto palisade");
    run(&mut world, &down);
    assert_eq!(world, seed_world());
}

#[test]
fn a_new_next_hop_is_removed_and_added_over_the_guard() {
    let (spec, mut world) = (seed(), seed_world());
    let ours = Ours::of(&spec);
    let first = steps_of(&wanted_of(&spec, &world), &world, &ours);
    run(&mut world, &first);
    // The tunnel's interface is made anew while our route to the old one is still to be seen.
    let link = world.links.remove(&7).unwrap();
    world.links.insert(9, crate::route::world::Link { index: 9, ..link });
    world.addresses[1].link = 9;
    let second = steps_of(&wanted_of(&spec, &world), &world, &ours);
    let [Step::DelRoute(old), Step::AddRoute(new)] = second.steps.as_slice() else { panic!("{second:?}") };
    assert_eq!((old.hops[0].link, new.hops[0].link, old.metric), (7, 9, new.metric));
}

#[test]
fn what_others_put_into_our_table_is_a_conflict_and_stays() {
    let (spec, mut world) = (seed(), seed_world());
    let (ours, wanted) = (Ours::of(&spec), wanted_of(&spec, &world));
    let own = wanted.routes.iter().find(|route| route.kind == Kind::Unicast).unwrap();
    let bird = Route { protocol: Protocol(12), hops: vec![Hop { link: 2, ..own.hops[0].clone() }], ..own.clone() };
    world.routes.push(bird.clone());
    let plan = steps_of(&wanted, &world, &ours);
    assert_eq!(plan.conflicts, [Conflict { what: own.clone(), whose: bird.clone() }]);
    run(&mut world, &plan);
    assert!(world.routes.contains(&bird) && !world.routes.contains(own));
    assert!(steps_of(&wanted, &world, &ours).is_empty());
}

#[test]
fn a_second_rule_that_is_the_same_goes() {
    let (spec, mut world) = (seed(), seed_world());
    let (ours, wanted) = (Ours::of(&spec), wanted_of(&spec, &world));
    settle(&mut world, &wanted, &ours);
    let double = world.rules[3].clone();
    world.rules.insert(3, double.clone());
    let plan = steps_of(&wanted, &world, &ours);
    assert_eq!(plan.steps, [Step::DelRule(double)]);
    run(&mut world, &plan);
    assert!(steps_of(&wanted, &world, &ours).is_empty());
}

#[test]
fn switches_are_set_where_they_differ_and_can_be_read() {
    let mut spec = two_isps();
    spec.settings.rp_filter = crate::route::spec::RpFilter::Set;
    let (ours, wanted) = (Ours::of(&spec), wanted_of(&spec, &World::default()));
    let sysctls = |value: Option<&'static str>| {
        let plan = plan(&wanted, &World::default(), &ours, true, &|_| value.map(str::to_owned));
        plan.steps.iter().filter(|step| matches!(step, Step::Sysctl(_))).count()
    };
    assert_eq!((sysctls(Some("0\n")), sysctls(Some("1\n")), sysctls(None)), (1, 0, 0));
}

#[test]
fn shared_tables_are_never_ours() {
    let mut spec = seed();
    spec.uplinks[1].table.as_mut().unwrap().id = TableId::MAIN;
    assert_eq!(Ours::of(&spec).tables, BTreeSet::from([TableId(201)]));
}

prop_compose! {
    /// Rules of others: some look just like ours but for the protocol, some have our protocol elsewhere.
    fn foreign_rules()(
        rules in prop::collection::vec((0u32..6000, 0u8..4, any::<bool>(), 1u32..4), 0..6),
    ) -> Vec<Rule> {
        let mut all: Vec<Rule> = rules.into_iter().map(|(priority, kind, six, n)| {
            let family = if six { Family::V6 } else { Family::V4 };
            let protocol = if kind == 0 && !(4000..5000).contains(&priority) && !(90..130).contains(&priority) { Protocol::OURS } else { Protocol(kind) };
            let selector = Selector { oif: Some(format!("if{n}")), ..Selector::default() };
            Rule::new(family, Priority(priority), selector, Action::Lookup(TableId(200 + n)), protocol)
        }).collect();
        all.sort_by_key(|rule| (rule.family, rule.priority));
        all
    }
}

prop_compose! {
    /// Routes of others, in our tables too, and with our protocol in tables that are not ours.
    fn foreign_routes()(routes in prop::collection::vec((198u32..206, 0u8..3, any::<bool>(), 0u32..3), 0..6)) -> Vec<Route> {
        let mut all: Vec<Route> = Vec::new();
        for (table, protocol, guard, to) in routes {
            let to = [prefix("0.0.0.0/0"), prefix("192.0.2.0/24"), prefix("::/0")][usize::try_from(to).unwrap()];
            let metric = if guard { LAST } else if to.family() == Family::V6 { 1024 } else { 0 };
            let protocol = if !(201..=203).contains(&table) { Protocol::OURS } else { Protocol(protocol) };
            let hops = vec![Hop { link: 1, gateway: None, onlink: false, weight: 1 }];
            let route = Route { table: TableId(table), to, from: None, metric, tos: 0, kind: Kind::Unicast, hops, prefsrc: None, protocol };
            if !all.iter().any(|other| key(other) == key(&route)) {
                all.push(route);
            }
        }
        all
    }
}

fn foreign_of(world: &World, ours: &[Ours]) -> (Vec<Rule>, Vec<Route>) {
    let rules = world.rules.iter().filter(|rule| !ours.iter().any(|ours| ours.is_rule(rule))).cloned();
    let routes = world.routes.iter().filter(|route| !ours.iter().any(|ours| ours.is_route(route))).cloned();
    (rules.collect(), routes.collect())
}

/// A rule of ours that leads into a table of ours where the guard is wanted and does not stand.
fn unguarded(world: &World, wanted: &Wanted, ours: &Ours) -> Option<Rule> {
    let stands = |guard: &Route| world.routes.iter().any(|route| key(route) == key(guard));
    let bad = |rule: &&Rule| match rule.action {
        Action::Lookup(table) if ours.is_rule(rule) => {
            let guards = wanted.routes.iter().filter(|route| route.kind == Kind::Unreachable);
            guards.filter(|guard| guard.table == table && guard.family() == rule.family).any(|guard| !stands(guard))
        }
        _ => false,
    };
    world.rules.iter().find(bad).cloned()
}

/// A lookup in a table of ours before the suppress rule that belongs in front of it.
fn bare(world: &World, wanted: &Wanted, ours: &Ours) -> bool {
    let twin = |rule: &Rule| {
        let before = |other: &&Rule| {
            let fits = other.family == rule.family && other.suppress_prefixlength.is_some() && other.selector == rule.selector;
            fits && other.priority < rule.priority
        };
        wanted.rules.iter().rfind(before)
    };
    world
        .rules
        .iter()
        .filter(|rule| ours.is_rule(rule) && wanted.rules.contains(rule))
        .filter_map(twin)
        .any(|twin| !world.rules.contains(twin))
}

fn marks_of(step: &Step) -> bool {
    matches!(step, Step::Marks(_) | Step::Sysctl(_))
}

proptest! {
    #[test]
    fn applied_once_is_applied(
        spec in specs(), base in worlds(), rules in foreign_rules(), routes in foreign_routes(),
        changed in worlds(), next in specs(), lost in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut world = World { rules, ..base };
        world.routes.extend(routes);
        let before = world.clone();
        let (ours, later) = (Ours::of(&spec), Ours::of(&next));
        let wanted = wanted_of(&spec, &world);
        let foreign = foreign_of(&world, &[ours.clone(), later.clone()]);

        // Up, with every moment between looked at.
        for step in &steps_of(&wanted, &world, &ours).steps {
            prop_assert!(apply(&mut world, step).is_ok(), "{step:?}");
            prop_assert_eq!(unguarded(&world, &wanted, &ours), None);
            prop_assert!(!bare(&world, &wanted, &ours));
        }
        prop_assert!(steps_of(&wanted, &world, &ours).is_empty());
        prop_assert_eq!(&foreign_of(&world, &[ours.clone(), later.clone()]), &foreign);

        // Others take some of it away, and the links and addresses change: it converges again.
        for index in lost {
            let own: Vec<Rule> = world.rules.iter().filter(|rule| ours.is_rule(rule)).cloned().collect();
            if !own.is_empty() {
                prop_assert!(apply(&mut world, &Step::DelRule(index.get(&own).clone())).is_ok());
            }
        }
        (world.links, world.addresses) = (changed.links, changed.addresses);
        let wanted = wanted_of(&spec, &world);
        settle(&mut world, &wanted, &ours);
        prop_assert!(steps_of(&wanted, &world, &ours).is_empty());

        // Another spec: what it does not have any more goes, then all of it goes.
        settle(&mut world, &Wanted::default(), &ours);
        let wanted = wanted_of(&next, &world);
        settle(&mut world, &wanted, &later);
        prop_assert!(steps_of(&wanted, &world, &later).is_empty());
        settle(&mut world, &Wanted::default(), &later);
        prop_assert_eq!((&world.rules, &world.routes), (&before.rules, &before.routes), "released");
        prop_assert!(!steps_of(&Wanted::default(), &world, &ours).steps.iter().any(marks_of));
    }

    #[test]
    fn a_failover_never_leaves_a_guarded_table_bare(world in worlds(), down in any::<(bool, bool)>()) {
        let spec = two_isps();
        let (ours, mut world) = (Ours::of(&spec), World { missing: vec![], ..world });
        let of = |world: &World, chosen: &Chosen, healths: &Healths| wanted(&spec, world, healths, chosen);
        let all = of(&world, &all_chosen(&spec), &Healths::new());
        settle(&mut world, &all, &ours);
        let healths: Healths = [("fibre", down.0), ("lte", down.1)].map(|(name, down)| (name.into(), if down { Health::Down } else { Health::Up })).into();
        let wanted = of(&world, &Chosen::new(), &healths);
        for step in &steps_of(&wanted, &world, &ours).steps {
            prop_assert!(apply(&mut world, step).is_ok());
            prop_assert_eq!(unguarded(&world, &wanted, &ours), None);
        }
    }
}
