//! The seed's case and two ISPs, text by text; then whatever proptest makes up.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::rule::Action;
use super::super::spec::{Condition, Families, FreeAction, Gateway, RpFilter, Sticky};
use super::super::words::Priority;
use super::made::*;
use super::*;

fn rule_texts(spec: &Spec, rules: &[Rule]) -> Vec<String> {
    let names = spec.names();
    rules.iter().map(|rule| rule.text(&names)).collect()
}

fn route_texts(spec: &Spec, world: &World, wanted: &Wanted) -> Vec<String> {
    wanted.routes.iter().map(|route| route.text(&spec.names(), |index| world.name_of(index))).collect()
}

fn pendings(wanted: &Wanted) -> Vec<(&str, &str, &str)> {
    wanted.pending.iter().map(|p| (&*p.uplink, p.route.as_deref().unwrap_or(""), p.why.as_str())).collect()
}

fn of(spec: &Spec, world: &World, chosen: &Chosen) -> Wanted {
    wanted(spec, world, &Healths::new(), chosen)
}

const SEED_RULES: [&str; 9] = [
    "4000: fwmark 0x1000000/0x7f000000 lookup sixxs0",
    "4100: from 2a02::1 lookup main suppress_prefixlength 3",
    "4101: from 2a02::2 lookup main suppress_prefixlength 3",
    "4110: oif sixxs0 lookup main suppress_prefixlength 3",
    "4111: oif sixxs1 lookup main suppress_prefixlength 3",
    "4200: from 2a02::1 lookup sixxs0",
    "4201: from 2a02::2 lookup sixxs1",
    "4300: oif sixxs0 lookup sixxs0",
    "4301: oif sixxs1 lookup sixxs1",
];

#[test]
fn the_seed_before_its_tunnels_are_there() {
    let (spec, world) = (seed(), world(&[(2, "net0")], vec![address(2, "2001::1", "2001::/64")]));
    let wanted = of(&spec, &world, &Chosen::new());
    assert_eq!(rule_texts(&spec, &wanted.rules), SEED_RULES);
    assert!(wanted.rules.iter().all(|rule| rule.family == Family::V6));
    let guards = ["sixxs0", "sixxs1"].map(|table| format!("unreachable default table {table} metric 4294967295 proto palisade"));
    assert_eq!(route_texts(&spec, &world, &wanted), guards);
    assert_eq!(
        pendings(&wanted),
        [
            ("sixxs0", "default dev sixxs0 table sixxs0 proto palisade", "interface absent"),
            ("sixxs1", "default dev sixxs1 table sixxs1 proto palisade", "interface absent"),
        ]
    );
    let marks = wanted.marks.unwrap();
    // All of them: what leaves by the interface of one may be another's.
    assert_eq!((marks.mask, marks.uplinks.len()), (Mask(0x7f00_0000), 3));
    assert_eq!((marks.uplinks[1].connection, &marks.uplinks[1].sources), (None, &vec![prefix("2a02::1")]));
    assert_eq!(priorities_needed(&spec), 302);
    assert_eq!((probe_mark(&spec, "sixxs0"), probe_mark(&spec, "sixxs1")), (Some(Mark(0x100_0000)), None));
    assert!(wanted.sysctls.is_empty());
}

#[test]
fn the_seed_once_a_tunnel_is_there() {
    let spec = seed();
    let mut world = world(&[(2, "net0"), (7, "sixxs0")], vec![address(2, "2001::1", "2001::/64"), address(7, "2a02::1", "2a02::1")]);
    let default = "default dev sixxs0 table sixxs0 proto palisade src 2a02::1";
    let wanted = of(&spec, &world, &Chosen::new());
    assert_eq!(rule_texts(&spec, &wanted.rules), SEED_RULES);
    assert!(route_texts(&spec, &world, &wanted).contains(&default.to_owned()));
    assert_eq!(pendings(&wanted).len(), 1);

    world.links.get_mut(&7).unwrap().carrier = false;
    let wanted = of(&spec, &world, &Chosen::new());
    assert_eq!(pendings(&wanted)[0].2, "no carrier");
    world.links.get_mut(&7).unwrap().up = false;
    assert_eq!(pendings(&of(&spec, &world, &Chosen::new()))[0].2, "interface down");
}

#[test]
fn addresses_that_are_not_ready_are_told_and_not_used() {
    let spec = seed();
    let links = [(2, "net0"), (7, "sixxs0"), (8, "sixxs1")];
    let mut world = world(&links, vec![address(7, "2a02::1", "2a02::1"), address(8, "2a02::2", "2a02::2")]);
    (world.addresses[0].tentative, world.addresses[1].dad_failed) = (true, true);
    let wanted = of(&spec, &world, &Chosen::new());
    assert_eq!(rule_texts(&spec, &wanted.rules), SEED_RULES);
    assert!(route_texts(&spec, &world, &wanted).contains(&"default dev sixxs0 table sixxs0 proto palisade".to_owned()));
    let whys = ["source 2001::1 is not on this host", "source 2a02::1 is tentative", "source 2a02::2: duplicate address detected"];
    assert_eq!(pendings(&wanted).iter().map(|pending| pending.2).collect::<Vec<_>>(), whys);
}

#[test]
fn a_kernel_without_ipv6_gets_none() {
    let world = World { missing: vec![Family::V6], ..World::default() };
    let wanted = of(&seed(), &world, &Chosen::new());
    assert!(wanted.rules.is_empty() && wanted.routes.is_empty());
    assert!(wanted.pending.iter().all(|pending| pending.why == "this kernel has no IPv6"));
}

#[test]
fn two_isps_and_a_policy() {
    let (mut spec, world) = (two_isps(), isps_world());
    let wanted = of(&spec, &world, &both(&spec));
    let expected = [
        "4032: fwmark 0x40000000/0x40000000 lookup main suppress_prefixlength 1",
        "4033: fwmark 0x41000000/0x7f000000 lookup fibre",
        "4034: fwmark 0x42000000/0x7f000000 lookup lte",
        "4100: from 198.51.100.2 lookup main suppress_prefixlength 1",
        "4101: from 203.0.113.9 lookup main suppress_prefixlength 1",
        "4110: oif wan1 lookup main suppress_prefixlength 1",
        "4111: oif wwan0 lookup main suppress_prefixlength 1",
        "4200: from 198.51.100.2 lookup fibre",
        "4201: from 203.0.113.9 lookup lte",
        "4300: oif wan1 lookup fibre",
        "4301: oif wwan0 lookup lte",
        "4400: from all lookup main suppress_prefixlength 1",
        "4401: from all lookup default-policy",
    ];
    assert_eq!(rule_texts(&spec, &wanted.rules), expected);
    assert_eq!(priorities_needed(&spec), 402);
    assert_eq!(
        route_texts(&spec, &world, &wanted),
        [
            "unreachable default table default-policy metric 4294967295 proto palisade",
            "unreachable default table fibre metric 4294967295 proto palisade",
            "unreachable default table lte metric 4294967295 proto palisade",
            "default via 198.51.100.1 dev wan1 table fibre proto palisade src 198.51.100.2",
            "default via 203.0.113.1 dev wwan0 table lte proto palisade src 203.0.113.9",
            "default table default-policy proto palisade nexthop via 198.51.100.1 dev wan1 weight 3 nexthop via 203.0.113.1 dev wwan0 weight 1",
        ]
    );
    assert_eq!(
        wanted.marks.unwrap().uplinks.iter().map(|m| m.connection).collect::<Vec<_>>(),
        [Some(Mark(0x4100_0000)), Some(Mark(0x4200_0000))]
    );
    assert!(wanted.sysctls.is_empty() && wanted.pending.is_empty());

    // Both in one tier: packets of one connection take one way. And the filter of reverse paths is told of marks.
    spec.policies[0].members[1].tier = 1;
    spec.settings.rp_filter = RpFilter::Set;
    let switches =
        |spec: &Spec| of(spec, &world, &both(spec)).sysctls.into_iter().map(|s| format!("{}={}", s.path, s.value)).collect::<Vec<_>>();
    let valid_mark = "net/ipv4/conf/all/src_valid_mark=1";
    assert_eq!(switches(&spec), [valid_mark, "net/ipv4/fib_multipath_hash_policy=1", "net/ipv6/fib_multipath_hash_policy=1"]);
    spec.policies[0].sticky = Sticky::Source;
    assert_eq!(switches(&spec).len(), 5);
    assert_eq!(switches(&spec)[2], "net/ipv4/fib_multipath_hash_fields=1");
}

#[test]
fn a_gateway_must_be_on_the_link() {
    let (mut spec, mut world) = (two_isps(), isps_world());
    world.addresses[0] = address(3, "198.51.100.2", "198.51.100.2");
    world.routes.clear();
    let wanted = of(&spec, &world, &both(&spec));
    let whys: Vec<String> = wanted.pending.iter().map(|pending| pending.why.clone()).collect();
    assert_eq!(whys[0], "gateway 198.51.100.1 is not on a network of wan1");
    assert_eq!(whys[1], "gateway unknown: main has no default route by wwan0 from DHCP yet");
    assert_eq!(whys[2], "policy default: none of its chosen uplinks has a way (table default-policy)");
    assert_eq!(wanted.pending[0].route.as_deref(), Some("default via 198.51.100.1 dev wan1 table fibre proto palisade src 198.51.100.2"));
    assert_eq!(wanted.routes.len(), 3, "the guards stand");

    // A route to just the gateway, as DHCP leaves with /32 addresses, is enough.
    let mut host = dhcp_default(3, "192.0.2.1");
    (host.to, host.hops[0].gateway) = (prefix("198.51.100.1"), None);
    world.routes.push(host);
    assert!(!of(&spec, &world, &both(&spec)).pending.iter().any(|pending| &*pending.uplink == "fibre"));
    spec.uplinks[0].gateway4 = Gateway::Addr(addr("198.51.100.2"));
    assert_eq!(of(&spec, &world, &both(&spec)).pending[0].why, "gateway 198.51.100.2 is an address of this host");
}

#[test]
fn only_members_with_a_way_share_a_policys_table() {
    let (spec, mut world) = (two_isps(), isps_world());
    world.links.get_mut(&3).unwrap().carrier = false;
    let wanted = of(&spec, &world, &both(&spec));
    let last = route_texts(&spec, &world, &wanted).pop().unwrap();
    assert_eq!(last, "default via 203.0.113.1 dev wwan0 table default-policy proto palisade src 203.0.113.9");
}

#[test]
fn a_family_that_no_chosen_uplink_has_takes_the_best_other() {
    let (mut spec, mut world) = (two_isps(), isps_world());
    spec.uplinks[1].gateway6 = Gateway::None;
    world.addresses.push(address(4, "2001:db8:4::9", "2001:db8:4::/64"));
    let chosen = Chosen::from([(Arc::clone(&spec.policies[0].name), vec![spec.policies[0].members[0].clone()])]);
    let texts = route_texts(&spec, &world, &of(&spec, &world, &chosen));
    assert!(texts.contains(&"default dev wwan0 table default-policy proto palisade src 2001:db8:4::9".to_owned()), "{texts:#?}");
    assert!(texts.contains(&"default via 198.51.100.1 dev wan1 table default-policy proto palisade src 198.51.100.2".to_owned()));
}

#[test]
fn free_rules_stand_before_sources_in_their_order() {
    let (mut spec, world) = (two_isps(), isps_world());
    let mut mail = free(FreeAction::Uplink("fibre".into()));
    (mail.families, mail.selector.ipproto, mail.selector.dport) = (Families::Both, Some(6), Some((25, 25)));
    let mut user = free(FreeAction::Uplink("lte".into()));
    user.selector.uid = Some((1000, 1000));
    let mut guests = free(FreeAction::Policy("default".into()));
    (guests.selector.iif, guests.selector.from, guests.priority) =
        (Some("lan2".to_owned()), Some(prefix("192.168.20.0/24")), Some(Priority(900)));
    let mut bulk = free(FreeAction::Prohibit);
    bulk.selector.fwmark = Some((Mark(5), Mask(15)));
    bulk.when = vec![("fibre".into(), Condition::Down)];
    spec.rules = vec![mail, user, guests, bulk];
    let texts = |world: &World| rule_texts(&spec, &of(&spec, world, &both(&spec)).rules);
    let all = texts(&world);
    let expected = [
        "900: from 192.168.20.0/24 iif lan2 lookup default-policy",
        "4100: ipproto tcp dport 25 lookup main suppress_prefixlength 1",
        "4101: ipproto tcp dport 25 lookup fibre",
        "4102: uidrange 1000-1000 lookup main suppress_prefixlength 1",
        "4103: uidrange 1000-1000 lookup lte",
        "4200: from 198.51.100.2 lookup main suppress_prefixlength 1",
    ];
    assert_eq!(all[0], "899: from 192.168.20.0/24 iif lan2 lookup main suppress_prefixlength 1");
    assert_eq!([&all[1], &all[5], &all[6], &all[7], &all[8], &all[9]], expected.each_ref(), "{all:#?}");

    let mut down = world.clone();
    down.links.get_mut(&3).unwrap().up = false;
    assert!(texts(&down).contains(&"4105: fwmark 0x5/0xf prohibit".to_owned()));
    assert_eq!(texts(&down).len(), all.len() + 1, "nothing else is renumbered");
}

#[test]
fn marks_that_do_not_fit_are_named() {
    let mut spec = two_isps();
    spec.settings.mark_mask = Mask(0x3000);
    assert_eq!(unmarkable(&spec).map(|uplink| &*uplink.name).collect::<Vec<_>>(), ["lte"]);
    assert_eq!((connection_mark(&spec, "fibre"), connection_mark(&spec, "lte")), (Some(Mark(0x3000)), None));
    spec.settings.mark_mask = Mask(0);
    assert_eq!(unmarkable(&spec).count(), 2);
    let many = (0..1000).map(|n| uplink(&format!("u{n:03}"), "eth", Some(1000 + n), &["2001:db8::1"]));
    let spec = Spec { uplinks: many.collect(), ..Spec::default() };
    assert_eq!(priorities_needed(&spec), 4200, "63 marks, twice; four blocks of a thousand");
}

proptest! {
    #[test]
    fn every_rule_of_ours_is_in_its_place(spec in specs(), world in worlds()) {
        let wanted = of(&spec, &world, &all_chosen(&spec));
        let ours = super::super::plan::Ours::of(&spec);
        prop_assert!(wanted.rules.iter().all(|rule| ours.is_rule(rule)));
        prop_assert!(wanted.routes.iter().all(|route| ours.is_route(route)));
        let end = 4000 + priorities_needed(&spec);
        prop_assert!(wanted.rules.iter().all(|rule| rule.priority.0 < 4000 || rule.priority.0 < end));
        prop_assert!(wanted.rules.windows(2).all(|two| two[0].priority <= two[1].priority));
        for family in [Family::V4, Family::V6] {
            prop_assert!(world.has(family) || !wanted.rules.iter().any(|rule| rule.family == family));
        }
    }

    #[test]
    fn nothing_is_renumbered_by_what_the_host_does(spec in specs(), one in worlds(), other in worlds()) {
        // One and the same rule never stands at two places, whatever the host is like.
        let (one, other) = (of(&spec, &one, &all_chosen(&spec)), of(&spec, &other, &all_chosen(&spec)));
        let places = |wanted: &Wanted| -> std::collections::BTreeSet<(Family, String, Action, u32)> {
            wanted.rules.iter().map(|r| (r.family, r.selector.to_string(), r.action, r.priority.0)).collect()
        };
        let (one, other) = (places(&one), places(&other));
        let blocks = |at: u32| at / 100;
        for (family, selector, action, at) in &one {
            // Two free rules of the same text may both be there; anything else has one place in each block.
            let twins: Vec<_> = other.iter().filter(|o| (o.0, &o.1, o.2) == (*family, selector, *action) && blocks(o.3) == blocks(*at)).collect();
            prop_assert!(twins.is_empty() || twins.iter().any(|o| o.3 == *at) || selector.contains("ipproto") || selector.is_empty());
        }
    }
}
