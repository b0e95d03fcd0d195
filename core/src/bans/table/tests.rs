use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::allow::AllowList;

fn p(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn new_ban(prefix: Prefix, since: i64, until: Option<i64>, origin: Origin) -> NewBan {
    NewBan {
        who: AllowList::new().bannable(prefix, Stamp(0)).unwrap(),
        ports: Ports::All,
        since: Stamp(since),
        until: until.map_or(Until::Forever, |at| Until::At(Stamp(at))),
        origin,
        reason: "5 failures of sshd in 10s".into(),
        offences: 1,
    }
}

fn jail(prefix: &str, until: i64) -> NewBan {
    new_ban(p(prefix), 0, Some(until), Origin::Jail("sshd".into()))
}

fn prefixes(bans: &[Ban]) -> Vec<String> {
    bans.iter().map(|b| b.key.prefix.to_string()).collect()
}

#[test]
fn the_longest_wins_and_permanent_absorbs() {
    let mut table = BanTable::new(10);
    assert!(matches!(table.ban(jail("203.0.113.7", 100)), Ok(Change::New { displaced: None, .. })));
    assert!(matches!(table.ban(jail("203.0.113.7", 50)), Ok(Change::Unchanged { ban }) if ban.until == Until::At(Stamp(100))));
    let by_hand = new_ban(p("203.0.113.7"), 10, None, Origin::Manual);
    let Ok(Change::Extended { ban, was }) = table.ban(by_hand) else { panic!() };
    assert_eq!((ban.since, ban.until, ban.origin, was), (Stamp(0), Until::Forever, Origin::Manual, Until::At(Stamp(100))));
    assert!(matches!(table.ban(jail("203.0.113.7", i64::MAX)), Ok(Change::Unchanged { .. })));
    assert_eq!((table.next_deadline(), table.expire(Stamp(i64::MAX))), (None, vec![]));
}

#[test]
fn unbanning_says_what_still_covers_and_what_stays_inside() {
    let mut table = BanTable::new(10);
    for who in ["203.0.113.0/24", "203.0.113.7", "203.0.0.0/16", "203.0.113.64/26", "198.51.100.7"] {
        let _ = table.ban(jail(who, 100)).unwrap();
    }
    let _ = table.ban(NewBan { ports: Ports::only([22]).unwrap(), ..jail("203.0.113.0/24", 50) }).unwrap();
    let unbanned = table.unban(p("203.0.113.0/24"));
    assert_eq!(unbanned.removed.len(), 2, "whatever the ports");
    assert_eq!(prefixes(&unbanned.still_covered_by), ["203.0.0.0/16"]);
    assert_eq!(prefixes(&unbanned.inside), ["203.0.113.7/32", "203.0.113.64/26"]);
    assert_eq!(prefixes(&table.overlapping(p("203.0.113.64/26"))), ["203.0.0.0/16", "203.0.113.64/26"]);
    assert_eq!(table.next_deadline(), Some(Stamp(100)), "no end without its ban");
    assert_eq!((table.unban_jail(&"other".into()).len(), table.unban_jail(&"sshd".into()).len(), table.len()), (0, 4, 0));
}

#[test]
fn a_full_table_displaces_what_ends_soonest_but_nothing_by_hand() {
    let mut table = BanTable::new(3);
    let _ = table.ban(new_ban(p("192.0.2.1"), 0, Some(5), Origin::Manual)).unwrap();
    let _ = table.ban(new_ban(p("192.0.2.2"), 0, None, Origin::Flood)).unwrap();
    let _ = table.ban(jail("192.0.2.3", 50)).unwrap();
    let Ok(Change::New { displaced: Some(gone), .. }) = table.ban(jail("192.0.2.4", 20)) else { panic!() };
    assert_eq!(gone.key, Key::all(p("192.0.2.3")));
    assert!(matches!(table.ban(jail("192.0.2.4", 30)), Ok(Change::Extended { .. })), "its own room");
    let _ = table.ban(new_ban(p("192.0.2.4"), 0, None, Origin::Manual)).unwrap();
    let refused = table.ban(jail("192.0.2.5", 1000)).unwrap_err();
    assert!(refused.to_string().contains("the ban table is full with 3 bans"));
    assert_eq!((table.len(), table.displaced()), (3, 1));
}

#[test]
fn a_feeds_ban_yields_and_comes_after_all_others() {
    let feed = |who: &str| new_ban(p(who), 0, None, Origin::Feed("drop".into()));
    let mut table = BanTable::new(3);
    let _ = table.ban(feed("192.0.2.1")).unwrap();
    // Whoever else asks has it, ends it sooner or not.
    assert!(matches!(table.ban(jail("192.0.2.1", 50)), Ok(Change::New { ban, displaced: None }) if ban.until == Until::At(Stamp(50))));
    assert!(matches!(table.ban(feed("192.0.2.1")), Ok(Change::Unchanged { ban }) if ban.origin == Origin::Jail("sshd".into())));
    assert_eq!(table.expire(Stamp(50)).len(), 1);
    for who in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        let _ = table.ban(feed(who)).unwrap();
    }
    assert!(table.ban(feed("192.0.2.4")).is_err(), "a feed's ban displaced another");
    for (who, gone) in [("192.0.2.5", "192.0.2.1"), ("192.0.2.6", "192.0.2.2"), ("192.0.2.7", "192.0.2.3")] {
        let Ok(Change::New { displaced: Some(left), .. }) = table.ban(jail(who, 100)) else { panic!("{who}") };
        assert_eq!(left.key.prefix, p(gone));
    }
    // Only then those of jails.
    let Ok(Change::New { displaced: Some(left), .. }) = table.ban(jail("192.0.2.8", 100)) else { panic!() };
    assert!(!left.origin.is_feed() && table.fed == 0);
}

#[test]
fn an_ended_ban_not_yet_expired_is_no_ban() {
    let mut table = BanTable::new(3);
    let _ = table.ban(jail("192.0.2.1", 100)).unwrap();
    let again = new_ban(p("192.0.2.1"), 100, Some(150), Origin::Flood);
    assert!(matches!(table.ban(again), Ok(Change::New { ban, displaced: None }) if ban.since == Stamp(100)));
    assert_eq!(table.len(), 1);
}

#[test]
fn only_a_ban_of_all_the_ports_shuts_out() {
    let mut table = BanTable::new(9);
    let ports = |list: &[u16]| Ports::only(list.iter().copied()).unwrap();
    let _ = table.ban(NewBan { ports: ports(&[22, 80]), ..jail("192.0.2.0/24", 100) }).unwrap();
    let addr = p("192.0.2.9").addr();
    assert!(table.shut_out(addr, &ports(&[22])).is_some() && table.shut_out(addr, &Ports::All).is_none());
    let _ = table.ban(jail("192.0.2.9", 100)).unwrap();
    assert!(table.shut_out(addr, &Ports::All).is_some());
    assert_eq!(table.check(addr).unwrap().key, Key::all(p("192.0.2.9")));
}

#[test]
fn a_forced_ban_is_a_ban_of_its_own() {
    let mut allow = AllowList::new();
    let _ = allow.set_config([p("192.0.2.0/24")]);
    let mut table = BanTable::new(9);
    let forced = NewBan { who: allow.forced(p("192.0.2.9")).unwrap(), ..jail("203.0.113.9", 100) };
    let _ = table.ban(forced).unwrap();
    let found = table.overlapping(p("192.0.2.0/24"));
    assert_eq!(found.iter().map(|b| b.key.clone()).collect::<Vec<_>>(), [Key { forced: true, ..Key::all(p("192.0.2.9")) }]);
    assert_eq!(table.unban(p("192.0.2.9")).removed, found);
}

#[test]
fn a_clock_step_keeps_what_is_left() {
    let mut table = BanTable::new(9);
    let _ = table.ban(jail("192.0.2.9", 100)).unwrap();
    table.shift(86_400_000);
    assert!(table.expire(Stamp(86_400_099)).is_empty());
    assert_eq!(table.expire(Stamp(86_400_100)).len(), 1);
    assert_eq!(table.next_deadline(), None);
}

/// Prefixes of a space of 16 addresses, so that they meet.
fn small() -> impl Strategy<Value = Prefix> {
    (0u8..16, 27u8..=32).prop_map(|(low, len)| Prefix::new(Ipv4Addr::new(192, 0, 2, low).into(), len).unwrap())
}

#[derive(Clone, Debug)]
enum Ask {
    Ban(Prefix, bool, Option<i64>, u8),
    Unban(Prefix),
    UnbanJail,
    Expire(i64),
    Shift(i64),
    RoundTrip,
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let ban = (small(), any::<bool>(), proptest::option::weighted(0.9, 1i64..60), 0u8..4).prop_map(|(p, o, u, f)| Ask::Ban(p, o, u, f));
    let one = prop_oneof![
        8 => ban,
        2 => small().prop_map(Ask::Unban),
        1 => Just(Ask::UnbanJail),
        2 => (0i64..40).prop_map(Ask::Expire),
        1 => (-20i64..20).prop_map(Ask::Shift),
        1 => Just(Ask::RoundTrip),
    ];
    proptest::collection::vec(one, 0..60)
}

fn origin(from: u8) -> Origin {
    match from {
        0 => Origin::Manual,
        1 => Origin::Jail("sshd".into()),
        2 => Origin::Flood,
        _ => Origin::Feed("drop".into()),
    }
}

proptest! {
    #[test]
    fn the_table_equals_a_naive_one(asks in asks(), looked_up in small()) {
        let mut table = BanTable::new(1000);
        let mut naive: Vec<(Key, Until, Origin)> = Vec::new();
        let mut now = 0;
        for ask in asks {
            match ask {
                Ask::Ban(prefix, ssh_only, ends, from) => {
                    let ports = if ssh_only { Ports::only([22]).unwrap() } else { Ports::All };
                    let new = NewBan { ports: ports.clone(), ..new_ban(prefix, now, ends.map(|e| now + e), origin(from)) };
                    let (key, until) = (Key { ports, ..Key::all(prefix) }, new.until);
                    let _ = table.ban(new).unwrap();
                    match naive.iter_mut().find(|(k, ..)| *k == key) {
                        Some(old) if old.1.over(Stamp(now)) || (from != 3 && (until > old.1 || old.2 == origin(3))) => {
                            (old.1, old.2) = (until, origin(from));
                        }
                        Some(_) => {}
                        None => naive.push((key, until, origin(from))),
                    }
                }
                Ask::Unban(prefix) => {
                    let unbanned = table.unban(prefix);
                    let was = naive.len();
                    naive.retain(|(k, ..)| k.prefix != prefix);
                    prop_assert_eq!(unbanned.removed.len(), was - naive.len());
                    prop_assert_eq!(unbanned.still_covered_by.len(), naive.iter().filter(|(k, ..)| k.prefix.covers(&prefix)).count());
                    prop_assert_eq!(unbanned.inside.len(), naive.iter().filter(|(k, ..)| prefix.covers(&k.prefix)).count());
                }
                Ask::UnbanJail => {
                    drop(table.unban_jail(&"sshd".into()));
                    naive.retain(|(.., o)| *o != origin(1));
                }
                Ask::Expire(step) => {
                    now += step;
                    let over = table.expire(Stamp(now));
                    prop_assert!(over.iter().all(|b| b.until.over(Stamp(now))));
                    naive.retain(|(_, until, _)| !until.over(Stamp(now)));
                }
                Ask::Shift(ms) => {
                    now += ms;
                    table.shift(ms);
                    naive.iter_mut().for_each(|(_, until, _)| *until = until.shifted(ms));
                }
                Ask::RoundTrip => {
                    let stored: Vec<Ban> = table.iter().collect();
                    prop_assert_eq!(prefixes(&table.unban_all()), prefixes(&stored));
                    prop_assert!(stored.into_iter().all(|ban| table.restore(ban)));
                }
            }
            naive.sort();
            prop_assert_eq!(table.fed, naive.iter().filter(|(.., o)| o.is_feed()).count());
            let seen: Vec<_> = table.iter().map(|b| (b.key, b.until, b.origin)).collect();
            prop_assert_eq!(&seen, &naive);
            let soonest = naive.iter().filter_map(|(_, until, _)| match until { Until::At(at) => Some(*at), Until::Forever => None }).min();
            prop_assert_eq!(table.next_deadline(), soonest);
        }
        let scan = |holds: &dyn Fn(&Prefix) -> bool| naive.iter().filter(|(k, ..)| holds(&k.prefix)).map(|(k, ..)| k.clone()).collect::<BTreeSet<_>>();
        let keys = |bans: Vec<Ban>| bans.into_iter().map(|b| b.key).collect::<BTreeSet<_>>();
        prop_assert_eq!(keys(table.covering(looked_up)), scan(&|k| k.covers(&looked_up)));
        prop_assert_eq!(keys(table.within(looked_up).collect()), scan(&|k| looked_up.covers(k)));
        prop_assert_eq!(keys(table.overlapping(looked_up)), scan(&|k| looked_up.overlaps(k)));
        let longest = naive.iter().map(|(k, ..)| k.prefix).filter(|k| k.contains(looked_up.addr())).max_by_key(Prefix::len);
        prop_assert_eq!(table.check(looked_up.addr()).map(|b| b.key.prefix), longest);
    }

    #[test]
    fn longest_wins_whatever_the_order(mut bans in proptest::collection::vec((0i64..5, proptest::option::of(5i64..20), 1u32..5), 1..6)) {
        let result = |bans: &[(i64, Option<i64>, u32)]| {
            let mut table = BanTable::new(9);
            for (since, until, offences) in bans {
                let _ = table.ban(NewBan { offences: *offences, ..new_ban(p("192.0.2.1"), *since, *until, Origin::Flood) }).unwrap();
            }
            table.iter().map(|b| (b.since, b.until, b.offences)).collect::<Vec<_>>()
        };
        let forward = result(&bans);
        bans.reverse();
        prop_assert_eq!(&forward, &result(&bans));
        prop_assert_eq!(forward.len(), 1);
    }

    #[test]
    fn a_full_table_never_loses_what_may_not_leave(bans in proptest::collection::vec((0u8..16, proptest::option::weighted(0.8, 1i64..50), 0u8..3), 0..40)) {
        let mut table = BanTable::new(4);
        let mut safe: BTreeSet<Prefix> = BTreeSet::new();
        for (low, until, from) in bans {
            let new = new_ban(Prefix::host(Ipv4Addr::new(192, 0, 2, low).into()), 0, until, origin(from));
            let prefix = new.who.prefix();
            let soonest = table.iter().filter(|b| b.origin != Origin::Manual && b.until != Until::Forever).map(|b| b.until).min();
            match table.ban(new) {
                Ok(Change::New { displaced: Some(gone), .. }) => prop_assert!(Some(gone.until) == soonest && !safe.contains(&gone.key.prefix)),
                Ok(_) => {}
                Err(full) => { prop_assert_eq!(full.prefix, prefix); prop_assert_eq!(soonest, None); continue; }
            }
            safe = table.iter().filter(|b| b.until == Until::Forever || b.origin == Origin::Manual).map(|b| b.key.prefix).collect();
            prop_assert!(table.len() <= 4);
        }
    }
}
