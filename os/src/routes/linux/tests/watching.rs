use super::*;
use crate::routes::{Changes, Own, Watch};

fn watch(router: &Linux) -> Watch {
    Watch::open(Own { protocol: Protocol::OURS, tables: [TableId(200)].into(), port: router.port() }).unwrap()
}

#[test]
fn others_are_heard_and_our_own_voice_is_not() {
    alone(|| {
        cables();
        let mut router = Linux::open().unwrap();
        let net0 = index(&mut router, "net0");
        // Link-local addresses are announced again once nobody else is found to have them.
        while all(&mut router).addresses.iter().any(|address| address.tentative) {
            std::thread::yield_now();
        }
        let mut watch = watch(&router);
        let drained = |watch: &mut Watch| watch.drain().unwrap();
        let nothing = Changes::default();
        let rules = [rule(Family::V4, 4200, from("192.0.2.2")), rule(Family::V6, 4200, from("2001:db8:1::2"))];
        let guard = route("::/0", u32::MAX, vec![]);
        done(&mut router, &[Step::AddRule(rules[0].clone()), Step::AddRule(rules[1].clone()), Step::AddRoute(guard.clone())]);
        done(&mut router, &[Step::AddRoute(route("0.0.0.0/0", 3, vec![hop(net0, None)])), Step::DelRoute(guard)]);
        assert_eq!(drained(&mut watch), nothing);

        sh("ip rule add pref 9 from 203.0.113.1 lookup 9");
        assert_eq!(drained(&mut watch), Changes { rules_new: true, ..nothing.clone() });
        sh("ip rule del pref 9");
        assert_eq!(drained(&mut watch), Changes { rules_gone: true, ..nothing.clone() });
        sh("ip rule del pref 4200; ip -6 rule flush");
        let gone = drained(&mut watch);
        assert_eq!((gone.rules_gone, gone.ours_gone.as_slice()), (true, &rules[..]));
        sh("ip route flush table 200");
        assert_eq!(drained(&mut watch), Changes { routes_gone: true, defaults: true, ..nothing.clone() });
        sh("ip route add 203.0.113.0/24 via 192.0.2.1; ip route del 203.0.113.0/24");
        assert_eq!(drained(&mut watch), nothing, "somebody else's route in main to somewhere");
        sh("ip route add default via 192.0.2.1 proto dhcp");
        assert_eq!(drained(&mut watch), Changes { defaults: true, ..nothing.clone() });
        sh("ip address add 192.0.2.9/32 dev net0");
        assert!(drained(&mut watch).addresses);
        sh("ip link set net0 mtu 1400");
        assert!(drained(&mut watch).links);
    });
}

#[test]
fn routes_of_ipv4_that_die_with_their_link_die_in_silence() {
    alone(|| {
        cables();
        let mut router = Linux::open().unwrap();
        let tun0 = index(&mut router, "tun0");
        let (guard, guard6) = (route("0.0.0.0/0", u32::MAX, vec![]), route("::/0", u32::MAX, vec![]));
        let stays = [rule(Family::V4, 4200, from("198.51.100.2")), rule(Family::V6, 4200, from("2001:db8:2::2"))];
        let live = [route("0.0.0.0/0", 0, vec![hop(tun0, None)]), route("::/0", 1024, vec![hop(tun0, None)])];
        let mut steps: Vec<Step> = [&guard, &guard6, &live[0]].map(|route| Step::AddRoute(route.clone())).into();
        steps.extend(stays.iter().cloned().map(Step::AddRule));
        done(&mut router, &steps);
        let mut watch = watch(&router);
        let ours = [TableId(200)].into();
        sh("ip link set tun0 down");
        let changes = watch.drain().unwrap();
        assert!(changes.links && !changes.routes_gone && !changes.lost, "{changes:?}");
        let world = router.read(&Read::Ours(ours)).unwrap();
        assert_eq!(world.routes.iter().filter(|route| route.table == TableId(200)).collect::<Vec<_>>(), [&guard, &guard6]);
        assert_eq!(of_us(&world.rules), stays);
        let (error, passing) = refused(&mut router, Step::AddRoute(live[0].clone()));
        assert!(passing, "{error}");
        // IPv6 says so.
        sh("ip link set tun0 up");
        done(&mut router, &[Step::AddRoute(live[0].clone()), Step::AddRoute(live[1].clone())]);
        watch.drain().unwrap();
        sh("ip link set tun0 down");
        assert!(watch.drain().unwrap().routes_gone);
    });
}

#[test]
fn an_interface_made_again_has_another_index() {
    alone(|| {
        cables();
        let mut router = Linux::open().unwrap();
        let tun0 = index(&mut router, "tun0");
        let bound = rule(Family::V4, 4201, Selector { oif: Some("tun0".into()), ..Selector::default() });
        let old = route("0.0.0.0/0", 0, vec![hop(tun0, None)]);
        done(&mut router, &[Step::AddRule(bound.clone()), Step::AddRoute(old.clone())]);
        let mut watch = watch(&router);
        sh("ip link del tun0; ip link add tun0 type veth peer name far-tun0; ip link set tun0 up; ip link set far-tun0 up");
        assert!(watch.drain().unwrap().links);
        let world = all(&mut router);
        let new = world.link("tun0").unwrap().index;
        assert_ne!(new, tun0);
        assert_eq!(of_us(&world.rules), [bound], "a rule knows it by its name");
        // What is gone with its link is removed without complaint, and what takes its place stands.
        let renewed = Route { hops: vec![hop(new, None)], ..old.clone() };
        done(&mut router, &[Step::DelRoute(old), Step::AddRoute(renewed.clone())]);
        assert!(all(&mut router).routes.contains(&renewed));
    });
}

#[test]
fn a_storm_that_did_not_fit_is_told_as_lost() {
    alone(|| {
        cables();
        let mut router = Linux::open().unwrap();
        let net0 = index(&mut router, "net0");
        let mut watch = watch(&router);
        let ours = rule(Family::V4, 4200, from("192.0.2.2"));
        let far =
            |n: u32| Route { protocol: Protocol::STATIC, ..route(&format!("203.{}.{}.0/24", n / 256, n % 256), 0, vec![hop(net0, None)]) };
        let storm: Vec<Step> = (0..10_000).map(|n| Step::AddRoute(far(n))).collect();
        // Another program's hand: not the one whose voice is left out.
        let mut other = Linux::open().unwrap();
        done(&mut router, &[Step::AddRule(ours.clone())]);
        for _ in 0..2 {
            done(&mut other, &storm);
            done(
                &mut other,
                &storm
                    .iter()
                    .map(|step| if let Step::AddRoute(route) = step { Step::DelRoute(route.clone()) } else { unreachable!() })
                    .collect::<Vec<_>>(),
            );
        }
        let mut lost = false;
        for _ in 0..8 {
            lost |= watch.drain().unwrap().lost;
        }
        assert!(lost);
        assert_eq!(watch.drain().unwrap(), Changes::default(), "and it is over");
        sh("ip rule del pref 4200");
        assert_eq!(watch.drain().unwrap().ours_gone, [ours]);
    });
}
