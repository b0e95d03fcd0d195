use palisade_core::route::Mark;
use palisade_core::route::lookup::{Answer, Question};

use super::*;

fn ours(world: &World) -> Vec<Route> {
    let mut routes: Vec<Route> = world.routes.iter().filter(|route| route.protocol == Protocol::OURS).cloned().collect();
    routes.sort();
    routes
}

fn sorted(mut routes: Vec<Route>) -> Vec<Route> {
    routes.sort();
    routes
}

/// One route of each sort.
fn every(net0: u32, tun0: u32) -> Vec<Route> {
    let several = |a: &str, b: &str| vec![Hop { weight: 3, ..hop(net0, Some(a)) }, Hop { weight: 1, ..hop(tun0, Some(b)) }];
    let far = Hop { onlink: true, ..hop(tun0, Some("203.0.113.9")) };
    let far6 = Hop { onlink: true, ..hop(tun0, Some("2001:db8:9::9")) };
    let mut routes = vec![
        route("0.0.0.0/0", u32::MAX, vec![]),
        route("0.0.0.0/0", 0, vec![hop(net0, Some("192.0.2.1"))]),
        Route { prefsrc: Some("198.51.100.2".parse().unwrap()), ..route("0.0.0.0/0", 5, vec![hop(tun0, None)]) },
        route("203.0.113.0/24", 7, vec![far.clone()]),
        route("203.0.113.0/25", 0, several("192.0.2.1", "198.51.100.1")),
        route("203.0.113.0/26", 0, vec![hop(net0, None), hop(tun0, None)]),
        route("203.0.113.0/27", 0, vec![far, hop(net0, Some("192.0.2.1"))]),
        route("203.0.113.0/28", 0, vec![hop(net0, Some("fe80::1"))]),
        Route { tos: 0x10, ..route("203.0.113.0/24", 7, vec![hop(net0, None)]) },
        route("::/0", u32::MAX, vec![]),
        route("::/0", 1024, vec![hop(net0, Some("2001:db8:1::1"))]),
        Route { prefsrc: Some("2001:db8:2::2".parse().unwrap()), ..route("::/0", 5, vec![hop(tun0, None)]) },
        route("2001:db8:a::/48", 7, vec![far6]),
        route("2001:db8:b::/48", 1024, several("2001:db8:1::1", "2001:db8:2::1")),
        route("2001:db8:c::1/128", 1, vec![hop(net0, Some("fe80::1"))]),
        Route { from: Some("2001:db8:2::/64".parse().unwrap()), ..route("2001:db8:d::/48", 9, vec![hop(tun0, None)]) },
    ];
    for (at, kind) in [Kind::Blackhole, Kind::Prohibit, Kind::Throw].into_iter().enumerate() {
        routes.push(Route { kind, ..route(&format!("203.0.113.{}/32", 200 + at), 1, vec![]) });
        routes.push(Route { kind, table: TableId(70_000), ..route(&format!("2001:db8:e::{at}/128"), 1, vec![]) });
    }
    routes
}

#[test]
fn what_is_written_is_what_is_read_and_what_is_removed() {
    alone(|| {
        cables();
        let mut router = Linux::open().unwrap();
        let before = all(&mut router);
        let (net0, tun0) = (before.link("net0").unwrap().index, before.link("tun0").unwrap().index);
        let routes = every(net0, tun0);
        let add: Vec<Step> = routes.iter().cloned().map(Step::AddRoute).collect();
        done(&mut router, &add);
        let found = ours(&router.read(&Read::Ours([TableId(200), TableId(70_000), TableId(777)].into())).unwrap());
        for (found, wanted) in found.iter().zip(&sorted(routes.clone())) {
            assert_eq!(found, wanted);
        }
        assert_eq!(found.len(), routes.len());
        assert_eq!(ours(&router.read(&Read::Ours([TableId(70_000)].into())).unwrap()).len(), 3);
        let del: Vec<Step> = routes.iter().cloned().map(Step::DelRoute).collect();
        done(&mut router, &del);
        assert_eq!(sorted(all(&mut router).routes), sorted(before.routes));
        done(&mut router, &del);
    });
}

#[test]
fn somebody_elses_route_with_the_same_key_is_left_alone() {
    alone(|| {
        cables();
        let mut router = Linux::open().unwrap();
        let (net0, tun0) = (index(&mut router, "net0"), index(&mut router, "tun0"));
        sh("ip route add default via 192.0.2.1 table 200 proto bird; ip -6 route add default via 2001:db8:1::1 table 200 proto bird");
        let before = all(&mut router).routes;
        for (to, metric, gateway) in [("0.0.0.0/0", 0, "192.0.2.1"), ("::/0", 1024, "2001:db8:1::1")] {
            let same = route(to, metric, vec![hop(net0, Some(gateway))]);
            let (error, passing) = refused(&mut router, Step::AddRoute(same.clone()));
            assert!(error.contains("somebody else's") && !passing, "{error}");
            let _ = router.apply(&[Step::AddRoute(route(to, metric, vec![hop(tun0, None)])), Step::DelRoute(same)]);
        }
        assert_eq!(all(&mut router).routes, before);
    });
}

#[test]
fn refusals_are_passing_or_they_are_not() {
    alone(|| {
        cables();
        sh("ip link set tun0 down; ip -6 address add 2001:db8:1::99/64 dev net0");
        let mut router = Linux::open().unwrap();
        let (net0, tun0) = (index(&mut router, "net0"), index(&mut router, "tun0"));
        let source = |text: &str, route: Route| Route { prefsrc: Some(text.parse().unwrap()), ..route };
        let passing = [
            route("0.0.0.0/0", 1, vec![hop(tun0, None)]),
            route("::/0", 1, vec![hop(tun0, None)]),
            route("0.0.0.0/0", 1, vec![hop(4711, None)]),
            route("::/0", 1, vec![hop(4711, None)]),
            route("0.0.0.0/0", 1, vec![hop(net0, Some("203.0.113.1"))]),
            route("::/0", 1, vec![hop(net0, Some("2001:db8:9::1"))]),
            source("203.0.113.1", route("0.0.0.0/0", 1, vec![hop(net0, None)])),
            source("2001:db8:9::1", route("::/0", 1, vec![hop(net0, None)])),
            source("2001:db8:1::99", route("::/0", 1, vec![hop(net0, None)])),
        ];
        for route in passing {
            let (error, passing) = refused(&mut router, Step::AddRoute(route.clone()));
            assert!(passing, "{route:?}: {error}");
        }
        let fatal = [
            Route { kind: Kind::Unicast, ..route("0.0.0.0/0", 1, vec![]) },
            route("::/0", 1, vec![hop(net0, Some("192.0.2.1"))]),
            route("::/0", 1, vec![hop(net0, None), hop(tun0, None)]),
            Route { tos: 3, ..route("0.0.0.0/0", 1, vec![hop(net0, None)]) },
        ];
        for route in fatal {
            let (error, passing) = refused(&mut router, Step::AddRoute(route.clone()));
            assert!(!passing, "{route:?}: {error}");
        }
    });
}

#[test]
fn main_has_its_default_routes_read_and_no_others() {
    alone(|| {
        cables();
        sh("ip route add default via 192.0.2.1; ip route add default via 192.0.2.9 metric 50 proto dhcp; ip route add 0.0.0.0/1 via 192.0.2.1
            ip route add 203.0.113.0/24 via 192.0.2.1; ip -6 route add default via fe80::1 dev net0 proto ra metric 7
            ip -6 route add default dev tun0; ip -6 route add 2000::/3 dev tun0; ip -6 route add 2001:db8:77::/48 dev tun0
            ip nexthop add id 5 via 192.0.2.1 dev net0; ip route add default table 200 nhid 5
            ip route add default table 300 via inet6 fe80::5 dev net0");
        let mut router = Linux::open().unwrap();
        let net0 = index(&mut router, "net0");
        let world = router.read(&Read::Ours([TableId(200)].into())).unwrap();
        let main: Vec<_> = world.routes.iter().filter(|route| route.table == TableId::MAIN).collect();
        assert!(main.iter().all(|route| route.is_default()) && main.len() == 4, "{main:?}");
        let metrics: Vec<_> = main.iter().map(|route| (route.family(), route.metric, route.protocol.0)).collect();
        assert_eq!(metrics, [(Family::V4, 0, 3), (Family::V4, 50, 16), (Family::V6, 7, 9), (Family::V6, 1024, 3)]);
        let by_object: Vec<_> = world.routes.iter().filter(|route| route.table == TableId(200)).map(|route| route.hops.clone()).collect();
        assert_eq!(by_object, [vec![hop(net0, Some("192.0.2.1"))]]);
        assert!(all(&mut router).routes.len() > 10);
        let world = router.read(&Read::Ours([TableId(300), TableId::MAIN].into())).unwrap();
        let by: Vec<_> = world.routes.iter().filter(|route| route.table == TableId(300)).map(|route| route.hops.clone()).collect();
        assert_eq!(by, [vec![hop(net0, Some("fe80::5"))]]);
        assert!(world.routes.iter().any(|route| route.table == TableId::MAIN && !route.is_default()), "all of it, where main is asked for");
    });
}

#[test]
fn links_and_addresses_tell_what_they_are() {
    alone(|| {
        cables();
        sh("ip address add 192.0.2.77 peer 203.0.113.1/32 dev net0; ip -6 address add 2001:db8:1::9/64 dev net0
            ip -6 address add 2001:db8:1::a/64 dev net0 nodad preferred_lft 0; ip link set far-tun0 down");
        let mut router = Linux::open().unwrap();
        let world = all(&mut router);
        let (net0, tun0) = (world.link("net0").unwrap(), world.link("tun0").unwrap());
        assert!(net0.works() && tun0.up && !tun0.carrier);
        assert_eq!((net0.kind.as_deref(), world.link("lo").unwrap().kind.as_deref()), (Some("veth"), None));
        let of = |text: &str| world.addresses_of(net0.index).find(|address| address.addr == text.parse().unwrap()).unwrap();
        assert_eq!((of("192.0.2.2").network.to_string(), of("192.0.2.2").usable()), ("192.0.2.0/24".into(), true));
        assert_eq!(of("192.0.2.77").network.to_string(), "203.0.113.1/32");
        assert!(of("2001:db8:1::9").tentative && of("2001:db8:1::a").deprecated && of("2001:db8:1::a").usable());
        assert!(world.addresses_of(net0.index).any(|address| !address.global), "its link-local one");
        assert_eq!(world.missing, []);
    });
}

#[test]
fn questions_are_answered_with_the_route_that_stands() {
    alone(|| {
        cables();
        let mut router = Linux::open().unwrap();
        let (net0, tun0) = (index(&mut router, "net0"), index(&mut router, "tun0"));
        let by_tunnel = route("::/0", 1024, vec![hop(tun0, None)]);
        let marked = Selector { fwmark: Some((Mark(5), palisade_core::route::Mask::ALL)), ..Selector::default() };
        let drop = |n: u32, addr, action| Rule { action, ..rule(Family::V6, 4300 + n, Selector { to: Some(addr), ..Selector::default() }) };
        let (dead, hole) = ("2001:db8:d::/48".parse().unwrap(), "2001:db8:e::/48".parse().unwrap());
        sh("ip -6 route add default via 2001:db8:1::1; ip route add default via 192.0.2.1; ip route add blackhole 203.0.113.9");
        done(
            &mut router,
            &[
                Step::AddRoute(by_tunnel.clone()),
                Step::AddRoute(route("0.0.0.0/0", 0, vec![])),
                Step::AddRule(rule(Family::V6, 4200, from("2001:db8:2::2"))),
                Step::AddRule(rule(Family::V4, 4200, marked)),
                Step::AddRule(drop(0, dead, Action::Unreachable)),
                Step::AddRule(drop(1, hole, Action::Prohibit)),
            ],
        );
        let far = Question::to("2001:db8:f::1".parse().unwrap());
        let Answer::Route(usual) = router.lookup(&far).unwrap() else { panic!() };
        assert_eq!((usual.table, usual.hops), (TableId::MAIN, vec![hop(net0, Some("2001:db8:1::1"))]));
        let bound = Question { from: Some("2001:db8:2::2".parse().unwrap()), ..far.clone() };
        assert_eq!(router.lookup(&bound).unwrap(), Answer::Route(by_tunnel));
        let far4 = Question::to("203.0.113.1".parse().unwrap());
        assert!(matches!(router.lookup(&far4).unwrap(), Answer::Route(route) if route.table == TableId::MAIN));
        let no = |question: Question, router: &mut Linux| router.lookup(&question).unwrap();
        assert_eq!(no(Question { mark: Some(Mark(5)), ..far4.clone() }, &mut router), Answer::NoWay(libc::EHOSTUNREACH));
        assert_eq!(no(Question::to(dead.addr()), &mut router), Answer::NoWay(libc::ENETUNREACH));
        assert_eq!(no(Question::to(hole.addr()), &mut router), Answer::NoWay(libc::EACCES));
        assert_eq!(no(Question::to("203.0.113.9".parse().unwrap()), &mut router), Answer::NoWay(libc::EINVAL));
        sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        let through =
            |to: &str, from: &str| Question { from: Some(from.parse().unwrap()), iif: Some(tun0), ..Question::to(to.parse().unwrap()) };
        for (to, from, gateway) in [("203.0.113.1", "198.51.100.7", "192.0.2.1"), ("2001:db8:f::1", "2001:db8:2::7", "2001:db8:1::1")] {
            let Answer::Route(route) = router.lookup(&through(to, from)).unwrap() else { panic!("{to}") };
            assert_eq!(route.hops, [hop(net0, Some(gateway))]);
        }
        assert!(router.lookup(&Question { oif: Some(4711), ..far4 }).is_err());
        let ports = Question { ipproto: Some(6), sport: Some(1), dport: Some(25), uid: Some(7), ..far };
        assert!(matches!(router.lookup(&ports).unwrap(), Answer::Route(_)));
    });
}

/// What a kernel without IPv6 answers, asked of a family that this one does not have.
#[test]
fn an_error_at_the_end_of_a_listing_is_an_error() {
    alone(|| {
        cables();
        let mut socket = super::super::socket().unwrap();
        let mut ask = |kind, head: &[u8; 12], table: u32| {
            let filter = |b: &mut crate::netlink::wire::Builder| {
                if table != 0 {
                    b.attr(15, &table.to_ne_bytes());
                }
            };
            super::super::list(&mut socket, kind, head, filter, |_| Some(())).map_err(|error| error.raw_os_error())
        };
        assert_eq!(ask(34, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0), Err(Some(libc::EAFNOSUPPORT)));
        assert_eq!(ask(26, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 4711), Err(Some(libc::ENOENT)));
        assert_eq!(ask(26, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 254).map(|_| ()), Ok(()));
    });
}
