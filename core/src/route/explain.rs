//! Which way a packet takes, rule by rule, those of others included.
//!
//! What the kernel does (net/core/fib_rules.c, fib_rules_lookup; tried out):
//!
//! ```text
//!   rules in order; one whose selector fits:
//!     lookup      longest prefix, then lowest metric; nothing or `throw`: the next rule
//!                 a route no longer than suppress_prefixlength: the next rule; unreachable & co. are never suppressed
//!     goto        the rule of that priority, or the next where there is none
//!     others      the end
//!   none left     no way
//! ```

use super::lookup::Question;
use super::routes::{Kind, Route};
use super::rule::{Action, Rule, Selector};
use super::words::{Mark, Priority, TableId};
use super::world::World;
use crate::net::{Addr, Family, Prefix};

/// The way of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Every rule that was looked at.
    pub steps: Vec<TraceStep>,
    /// Where it ended.
    pub end: End,
}

/// One rule that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    /// Which.
    pub rule: Rule,
    /// Whether it is for such packets.
    pub matched: bool,
    /// Why not; or what it did.
    pub why: String,
    /// What its table had, if it was looked up.
    pub result: Found,
}

/// What a table had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was not looked up.
    Unasked,
    /// No route, or one that says to go on (`throw`).
    Nothing,
    /// A default route (or near it) that this rule is blind to.
    Suppressed(Route),
    /// This one.
    Route(Route),
}

/// Where it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By this route: out, or to this host itself.
    Route(Route),
    /// A rule or route says so.
    Refused {
        /// How.
        how: Refusal,
        /// The route that says so; none if the rule itself does.
        route: Option<Route>,
    },
    /// No rule was left.
    NoWay,
}

/// How a packet is refused; the sender's error behind each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// By an `unreachable` route: no route to host (`EHOSTUNREACH`); by such a rule: network unreachable (`ENETUNREACH`).
    Unreachable,
    /// `EACCES`.
    Prohibit,
    /// `EINVAL`.
    Blackhole,
    /// By something that is not known here.
    Unknown,
}

/// Follows a packet through all rules of its family. `world` must have the routes of all tables, `local` too.
pub fn explain(world: &World, question: &Question) -> Trace {
    let rules: Vec<&Rule> = world.rules.iter().filter(|rule| rule.family == question.to.family()).collect();
    let mut steps = Vec::new();
    let mut at = 0;
    while let Some(rule) = rules.get(at).copied() {
        at += 1;
        let step = |matched, why: &str, result| TraceStep { rule: rule.clone(), matched, why: why.to_owned(), result };
        if let Err(why) = fits(rule, world, question) {
            steps.push(step(false, &why, Found::Unasked));
            continue;
        }
        let refused = |how, route| Some(End::Refused { how, route });
        let (end, step) = match rule.action {
            Action::Lookup(table) => look_up(world, rule, table, question),
            Action::Goto(to) => {
                // Only forward: the kernel refuses others, and so nothing goes round in circles.
                let target = rules.iter().skip(at).position(|other| other.priority == to).filter(|_| to > rule.priority);
                at += target.unwrap_or(0);
                let why = if target.is_some() { format!("goes on at {}", to.0) } else { format!("there is no rule {} to go on at", to.0) };
                (None, step(true, &why, Found::Unasked))
            }
            Action::Nop => (None, step(true, "does nothing", Found::Unasked)),
            Action::Unreachable => {
                (refused(Refusal::Unreachable, None), step(true, "says that the network is unreachable", Found::Unasked))
            }
            Action::Prohibit => (refused(Refusal::Prohibit, None), step(true, "forbids it", Found::Unasked)),
            Action::Blackhole => (refused(Refusal::Blackhole, None), step(true, "drops it", Found::Unasked)),
            Action::Other(_) => (refused(Refusal::Unknown, None), step(true, "what it does is not understood", Found::Unasked)),
        };
        steps.push(step);
        if let Some(end) = end {
            return Trace { steps, end };
        }
    }
    Trace { steps, end: End::NoWay }
}

fn look_up(world: &World, rule: &Rule, table: TableId, question: &Question) -> (Option<End>, TraceStep) {
    let step = |why: &str, result| TraceStep { rule: rule.clone(), matched: true, why: why.to_owned(), result };
    let Some(route) = best(world, table, question) else {
        return (None, step("the table has no route for it", Found::Nothing));
    };
    let how = match route.kind {
        Kind::Throw => return (None, step("a throw route: go on", Found::Nothing)),
        Kind::Unicast | Kind::Other(_) => None,
        Kind::Unreachable => Some(Refusal::Unreachable),
        Kind::Blackhole => Some(Refusal::Blackhole),
        Kind::Prohibit => Some(Refusal::Prohibit),
    };
    let found = Found::Route(route.clone());
    if let Some(how) = how {
        return (Some(End::Refused { how, route: Some(route.clone()) }), step("the table refuses it", found));
    }
    if rule.suppress_prefixlength.is_some_and(|length| u32::from(route.to.len()) <= length) {
        return (None, step("too short a prefix for this rule: go on", Found::Suppressed(route.clone())));
    }
    let why = if rule.suppress_ifgroup.is_some() { "takes it (groups of interfaces are not looked at)" } else { "takes it" };
    (Some(End::Route(route.clone())), step(why, found))
}

/// The route of a table that the kernel would take.
fn best<'a>(world: &'a World, table: TableId, question: &Question) -> Option<&'a Route> {
    let routes = world.routes.iter().filter(|route| route.table == table && route.to.contains(question.to) && route.tos == 0);
    let sourced = routes.filter(|route| route.from.is_none_or(|from| question.from.is_some_and(|source| from.contains(source))));
    let usable = sourced.filter(|route| match (question.oif, route.kind) {
        (None, _) | (_, Kind::Throw) => true,
        (Some(oif), Kind::Unicast | Kind::Other(_)) => route.hops.iter().any(|hop| hop.link == oif),
        // IPv4 takes a refusal whatever the interface; to IPv6 it is a route by `lo`, which is another one.
        (Some(_), _) => question.to.family() == Family::V4,
    });
    let length = |prefix: &Prefix| std::cmp::Reverse(prefix.len());
    usable.min_by_key(|route| (length(&route.to), route.from.as_ref().map_or(std::cmp::Reverse(0), length), route.metric))
}

/// Whether a rule is for such packets; if not, why.
fn fits(rule: &Rule, world: &World, question: &Question) -> Result<(), String> {
    if !rule.other.is_empty() || rule.selector.tun_id.is_some() {
        return Err("has attributes that are not understood: taken as not matching".to_owned());
    }
    if rule.selector.l3mdev {
        return Err("only for interfaces of a VRF: taken as not matching".to_owned());
    }
    match (mismatch(&rule.selector, world, question), rule.selector.not) {
        (None, false) | (Some(_), true) => Ok(()),
        (Some(why), false) => Err(why),
        (None, true) => Err("it is for all but such packets".to_owned()),
    }
}

/// The first thing the selector asks for that the packet does not have, `not` left aside.
fn mismatch(selector: &Selector, world: &World, question: &Question) -> Option<String> {
    // What this host sends comes in by `lo`, so to speak.
    let iif = question.iif.map_or(Some("lo"), |index| world.name_of(index));
    let oif = question.oif.and_then(|index| world.name_of(index));
    let Mark(mark) = question.mark.unwrap_or_default();
    let uid = question.uid.unwrap_or(0);
    let within = |span: (u16, u16), port: Option<u16>| port.is_some_and(|port| port != 0 && (span.0..=span.1).contains(&port));
    let checks = [
        (selector.iif.as_deref().is_none_or(|name| iif == Some(name)), "comes in elsewhere"),
        (selector.oif.as_deref().is_none_or(|name| oif == Some(name)), "its socket is not bound to that interface"),
        (selector.fwmark.is_none_or(|(own, mask)| (own.0 ^ mark) & mask.0 == 0), "another mark"),
        (selector.uid.is_none_or(|(first, last)| (first..=last).contains(&uid)), "another user"),
        (selector.ipproto.is_none_or(|number| question.ipproto == Some(number)), "another protocol"),
        (selector.sport.is_none_or(|span| within(span, question.sport)), "another source port"),
        (selector.dport.is_none_or(|span| within(span, question.dport)), "another destination port"),
        (selector.tos == 0 && selector.dscp.unwrap_or(0) == 0, "another type of service (none is asked about)"),
        (selector.to.is_none_or(|to| to.contains(question.to)), "another destination"),
    ];
    let first = checks.iter().find(|(fits, _)| !fits).map(|(_, why)| (*why).to_owned());
    first.or_else(|| selector.from.filter(|from| !has_source(from, question)).map(|_| source_of(question)))
}

/// IPv4 compares the bits, of no source too; IPv6 never takes no source for one.
fn has_source(from: &Prefix, question: &Question) -> bool {
    match (question.from, question.to.family()) {
        (Some(source), _) => from.contains(source),
        (None, Family::V4) => from.contains(Addr::UNSPECIFIED),
        (None, Family::V6) => false,
    }
}

fn source_of(question: &Question) -> String {
    match question.from {
        Some(_) => "another source".to_owned(),
        None => "its source is not chosen yet".to_owned(),
    }
}

/// The priority of the rule that decided, if one did.
pub fn decided_by(trace: &Trace) -> Option<Priority> {
    trace.steps.last().filter(|_| trace.end != End::NoWay).map(|step| step.rule.priority)
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Ours, Step, plan};
    use super::super::routes::Hop;
    use super::super::wanted::made::{addr, address, all_chosen, prefix, seed, specs, world, worlds};
    use super::super::wanted::{Healths, wanted};
    use super::super::words::{Mask, Protocol};
    use super::*;
    use proptest::prelude::*;

    fn route(table: TableId, to: &str, link: u32) -> Route {
        let hops = vec![Hop { link, gateway: None, onlink: false, weight: 1 }];
        Route {
            table,
            to: prefix(to),
            from: None,
            metric: 1024,
            tos: 0,
            kind: Kind::Unicast,
            hops,
            prefsrc: None,
            protocol: Protocol::KERNEL,
        }
    }

    fn base_rule(priority: u32, table: TableId) -> Rule {
        Rule::new(Family::V6, Priority(priority), Selector::default(), Action::Lookup(table), Protocol::KERNEL)
    }

    /// The seed's host with its rules, before or after `route apply`.
    fn host(applied: bool) -> World {
        let addresses = vec![address(2, "2001::1", "2001::/64"), address(7, "2a02::1", "2a02::1"), address(8, "2a02::2", "2a02::2")];
        let mut world = world(&[(1, "lo"), (2, "net0"), (7, "sixxs0"), (8, "sixxs1")], addresses);
        world.rules = vec![base_rule(0, TableId::LOCAL), base_rule(32766, TableId::MAIN)];
        let local = |own: &str| Route { kind: Kind::Other(2), ..route(TableId::LOCAL, own, 1) };
        world.routes = vec![local("2001::1"), local("2a02::1"), route(TableId::MAIN, "2001::/64", 2), route(TableId::MAIN, "::/0", 2)];
        if applied {
            let spec = seed();
            let wanted = wanted(&spec, &world, &Healths::new(), &all_chosen(&spec));
            for step in plan(&wanted, &world, &Ours::of(&spec), true, &|_| None).steps {
                match step {
                    Step::AddRoute(route) => world.routes.push(route),
                    Step::AddRule(rule) => world.rules.push(rule),
                    other => panic!("{other:?}"),
                }
            }
            world.rules.sort_by_key(|rule| rule.priority);
        }
        world
    }

    fn ask(from: Option<&str>) -> Question {
        Question { from: from.map(addr), ..Question::to(addr("2001:db8::9")) }
    }

    fn out(trace: &Trace) -> Option<u32> {
        match &trace.end {
            End::Route(route) => Some(route.hops[0].link),
            _ => None,
        }
    }

    #[test]
    fn the_seed_before_and_after() {
        let (before, after) = (host(false), host(true));
        assert_eq!(out(&explain(&before, &ask(Some("2a02::1")))), Some(2), "the bug");
        let trace = explain(&after, &ask(Some("2a02::1")));
        assert_eq!((out(&trace), decided_by(&trace)), (Some(7), Some(Priority(4200))));
        assert!(matches!(trace.steps.iter().find(|step| step.rule.priority == Priority(4100)).unwrap().result, Found::Suppressed(_)));
        assert_eq!(trace.steps[1].why, "another mark");
        assert_eq!(out(&explain(&after, &ask(Some("2001::1")))), Some(2));
        let unbound = explain(&after, &ask(None));
        assert_eq!((out(&unbound), decided_by(&unbound)), (Some(2), Some(Priority(32766))));
        // Its own network stays with main, this host with itself.
        assert_eq!(out(&explain(&after, &Question { from: Some(addr("2a02::1")), ..Question::to(addr("2001::5")) })), Some(2));
        assert_eq!(out(&explain(&after, &Question::to(addr("2a02::1")))), Some(1));
        let probe = Question { mark: Some(Mark(0x100_0000)), ..ask(None) };
        assert_eq!(decided_by(&explain(&after, &probe)), Some(Priority(4000)));
        let bound = Question { oif: Some(8), ..ask(None) };
        assert_eq!((out(&explain(&after, &bound)), decided_by(&explain(&after, &bound))), (Some(8), Some(Priority(4301))));
    }

    #[test]
    fn a_dead_tunnel_refuses_instead_of_leaking() {
        let mut world = host(true);
        world.routes.retain(|route| route.hops.iter().all(|hop| hop.link != 7));
        let trace = explain(&world, &ask(Some("2a02::1")));
        assert!(matches!(trace.end, End::Refused { how: Refusal::Unreachable, route: Some(_) }));
    }

    #[test]
    fn a_socket_bound_to_an_interface_passes_ipv6_refusals() {
        // To IPv6 a refusal is a route by `lo`, and the socket asks for another interface; IPv4 does not look. Both tried out.
        let mut world = host(true);
        world.routes.retain(|route| route.hops.iter().all(|hop| hop.link != 7));
        world.routes.push(route(TableId::MAIN, "::/0", 7));
        let bound = Question { oif: Some(7), ..ask(None) };
        assert_eq!(decided_by(&explain(&world, &bound)), Some(Priority(32766)));
        let guard = Route { kind: Kind::Unreachable, hops: vec![], ..route(TableId(200), "0.0.0.0/0", 0) };
        let rule = Rule { family: Family::V4, ..base_rule(1, TableId(200)) };
        let world = World { rules: vec![rule], routes: vec![guard], ..world };
        let bound = Question { oif: Some(7), ..Question::to(addr("192.0.2.9")) };
        assert!(matches!(explain(&world, &bound).end, End::Refused { how: Refusal::Unreachable, .. }));
    }

    #[test]
    fn other_peoples_rules_are_followed_too() {
        let mut world = host(true);
        let mut wg = base_rule(3999, TableId(51820));
        wg.selector = Selector { not: true, fwmark: Some((Mark(0xca6c), Mask::ALL)), ..Selector::default() };
        world.rules.insert(1, wg);
        world.routes.push(route(TableId(51820), "::/0", 8));
        assert_eq!(decided_by(&explain(&world, &ask(Some("2a02::1")))), Some(Priority(3999)));
        let own = Question { mark: Some(Mark(0xca6c)), ..ask(Some("2a02::1")) };
        let trace = explain(&world, &own);
        assert_eq!((out(&trace), trace.steps[1].why.as_str()), (Some(7), "it is for all but such packets"));

        let mut strange = base_rule(1, TableId(9));
        strange.other = vec![1];
        let mut goto = base_rule(2, TableId(9));
        goto.action = Action::Goto(Priority(32766));
        goto.selector.uid = Some((1000, 1000));
        world.rules.splice(1..1, [strange, goto]);
        let user = Question { uid: Some(1000), ..ask(Some("2a02::1")) };
        let trace = explain(&world, &user);
        assert!(trace.steps[1].why.contains("not understood"));
        assert_eq!((trace.steps.len(), decided_by(&trace)), (4, Some(Priority(32766))));
    }

    #[test]
    fn tables_are_read_as_the_kernel_reads_them() {
        let (mut world, table) = (host(false), TableId::MAIN);
        world.routes.push(Route { metric: 1, ..route(table, "2001:db8::/32", 8) });
        world.routes.push(Route { metric: 9, ..route(table, "2001:db8::/48", 7) });
        world.routes.push(Route { metric: 5, ..route(table, "2001:db8::/48", 8) });
        assert_eq!(out(&explain(&world, &ask(None))), Some(8));
        world.routes.push(Route { kind: Kind::Throw, hops: vec![], ..route(table, "2001:db8::/64", 0) });
        assert_eq!(explain(&world, &ask(None)).end, End::NoWay);
        world.rules[1].suppress_prefixlength = Some(128);
        world.routes.pop();
        assert_eq!(explain(&world, &ask(None)).end, End::NoWay);
        world.routes.push(Route { kind: Kind::Prohibit, hops: vec![], ..route(table, "2001:db8::9", 0) });
        assert!(matches!(explain(&world, &ask(None)).end, End::Refused { how: Refusal::Prohibit, .. }), "refusals are not suppressed");
    }

    proptest! {
        #[test]
        fn no_source_of_ours_leaves_by_another_uplink(spec in specs(), world in worlds()) {
            // Without free rules: whatever is up or down, a source leaves by its own interface, or is refused, or falls through on
            // purpose. Main here has no route but defaults.
            let spec = super::super::spec::Spec { rules: vec![], ..spec };
            let wanted = wanted(&spec, &world, &Healths::new(), &all_chosen(&spec));
            let applied = World { rules: wanted.rules.clone(), routes: [world.routes.clone(), wanted.routes.clone()].concat(), ..world.clone() };
            for uplink in spec.uplinks.iter().filter(|uplink| uplink.table.is_some() && uplink.on_down == super::super::spec::OnDown::Unreachable) {
                let super::super::spec::Sources::Fixed(sources) = &uplink.source else { continue };
                for source in sources.iter().filter(|source| world.has(source.family())) {
                    let to = if source.family() == Family::V4 { "203.0.113.9" } else { "2001:db8:ffff::9" };
                    let trace = explain(&applied, &Question { from: Some(source.addr()), ..Question::to(addr(to)) });
                    match trace.end {
                        End::Route(route) => prop_assert_eq!(world.name_of(route.hops[0].link), Some(&*uplink.interface)),
                        End::Refused { .. } => {}
                        End::NoWay => prop_assert!(false, "its guard must catch it"),
                    }
                }
            }
        }
    }
}
