use super::*;
use proptest::prelude::*;

fn p(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn a(text: &str) -> Addr {
    text.parse().unwrap()
}

const T0: Stamp = Stamp(1_000_000);

#[test]
fn both_directions_of_covering_protect() {
    let mut list = AllowList::new();
    let _ = list.set_config([p("198.51.100.0/24"), p("2001:db8:1:2::5")]);
    for wrong in
        ["198.51.100.7", "198.51.100.0/24", "198.51.0.0/16", "0.0.0.0/0", "2001:db8:1:2::/64", "2001:db8:1:2::5", "::/0", "127.3.4.5"]
    {
        let refused = list.bannable(p(wrong), T0).unwrap_err();
        assert!(refused.member.prefix.overlaps(&p(wrong)), "{wrong}");
    }
    for right in ["198.51.101.0/24", "2001:db8:1:2::6", "2001:db8:1:3::/64", "203.0.113.0/24"] {
        assert_eq!(list.bannable(p(right), T0).unwrap().prefix(), p(right));
    }
    let text = list.bannable(p("198.51.100.7"), T0).unwrap_err().to_string();
    assert_eq!(text, "198.51.100.7/32 is protected by 198.51.100.0/24 (allowed by the config)");
}

#[test]
fn a_protected_neighbour_narrows_the_ban_to_the_attacker() {
    let mut list = AllowList::new();
    let _ = list.set_own([a("2001:db8::1")]);
    let unit = p("2001:db8::/64");
    assert_eq!(list.bannable_or_narrower(a("2001:db8::bad"), unit, T0).unwrap().prefix(), p("2001:db8::bad/128"));
    assert_eq!(list.bannable_or_narrower(a("2001:db8::1"), unit, T0).unwrap_err().member.why, Why::Own);
}

#[test]
fn force_stops_at_loopback_and_own_addresses() {
    let mut list = AllowList::new();
    let _ = list.set_own([a("192.0.2.1")]);
    let _ = list.set_gateways([a("192.0.2.254")]);
    for never in ["127.0.0.1", "0.0.0.0/0", "::/0", "::1", "192.0.2.0/24", "192.0.2.1", "126.0.0.0/7"] {
        assert!(list.forced(p(never)).is_err(), "{never}");
    }
    let forced = list.forced(p("192.0.2.254")).unwrap();
    assert!(forced.forced() && list.bannable(p("192.0.2.254"), T0).is_err());
}

#[test]
fn a_session_protects_an_hour_longer_than_it_lives() {
    let mut list = AllowList::new();
    let peer = a("203.0.113.9");
    assert_eq!(list.set_sessions([peer], T0).added, [p("203.0.113.9")]);
    let later = T0.plus(Span::secs(1800));
    assert!(list.set_sessions([peer], later).is_empty());
    assert!(list.set_sessions([], later).is_empty());
    let end = later.plus(SESSION_GRACE);
    assert_eq!(list.next_deadline(), Some(end));
    assert!(list.bannable(peer.into(), Stamp(end.0 - 1)).is_err());
    assert!(list.bannable(peer.into(), end).is_ok(), "over even before anyone expires it");
    assert_eq!(list.expire(end).removed, [p("203.0.113.9")]);
    assert_eq!(list.next_deadline(), None);
}

#[test]
fn parts_change_by_themselves() {
    let mut list = AllowList::new();
    let shared = p("192.0.2.53");
    assert_eq!(list.set_resolvers([a("192.0.2.53")]).added, [shared]);
    assert!(list.set_gateways([a("192.0.2.53")]).is_empty(), "already protected");
    assert!(list.add_by_hand(shared, Until::At(T0), "name server").is_empty());
    assert!(list.set_resolvers([]).is_empty() && list.remove_by_hand(shared).unwrap().is_empty(), "still the gateway");
    assert_eq!(list.remove_by_hand(shared), None);
    assert_eq!(list.set_gateways([]).removed, [shared]);
    assert_eq!(list.members(T0).count(), 2, "loopback stays");
    assert_eq!(list.next_deadline(), None, "no end without its member");
}

/// Prefixes of a space of 16 addresses, so that they meet.
fn small() -> impl Strategy<Value = Prefix> {
    (0u8..16, 26u8..=32).prop_map(|(low, len)| Prefix::new(Ipv4Addr::new(192, 0, 2, low).into(), len).unwrap())
}

proptest! {
    #[test]
    fn no_bannable_ever_intersects_the_allow_list(
        parts in proptest::collection::vec((0u8..6, proptest::collection::vec(small(), 0..3), 0i64..50), 0..12),
        asked in small(), host in 0u8..16, now in 0i64..50,
    ) {
        let mut list = AllowList::new();
        for (part, members, at) in parts {
            let addrs = members.iter().map(Prefix::addr).collect::<Vec<_>>();
            match part {
                0 => drop(list.set_config(members)),
                1 => drop(list.set_own(addrs)),
                2 => drop(list.set_sessions(addrs, Stamp(at).minus(SESSION_GRACE))),
                3 => for m in members { let _ = list.add_by_hand(m, Until::At(Stamp(at)), ""); },
                4 => for m in members { let _ = list.remove_by_hand(m); },
                _ => drop(list.expire(Stamp(now.min(at)))),
            }
        }
        let now = Stamp(now);
        let all = list.prefixes(now);
        let free = |prefix: &Prefix| all.iter().all(|m| !m.overlaps(prefix));
        prop_assert_eq!(list.bannable(asked, now).is_ok(), free(&asked));
        let addr = Addr::from(Ipv4Addr::new(192, 0, 2, host));
        let unit = Prefix::host(addr).widen(asked.len());
        match list.bannable_or_narrower(addr, unit, now) {
            Ok(b) => prop_assert!(free(&b.prefix()) && b.prefix().contains(addr)),
            Err(refused) => prop_assert!(!free(&addr.into()) && all.contains(&refused.member.prefix)),
        }
        if let Ok(b) = list.forced(asked) {
            prop_assert!(list.members(now).filter(|m| m.why == Why::Own).all(|m| !m.prefix.overlaps(&b.prefix())));
        }
    }
}
