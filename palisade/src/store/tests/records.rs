use std::ops::ControlFlow;

use palisade_core::bans::wall::Entry;
use palisade_core::event::{Allowed, KillCount, Notice, Record, Sentence, What};
use palisade_core::flood::guard::State;
use palisade_core::flood::history::Point;
use palisade_core::flood::settings::Action;
use palisade_core::time::Span;

use super::super::{Counted, Keep, StoreError};
use super::*;

fn failure(addr: &str, unit: &str, jail: &str, counted: i64) -> Record {
    Record::Failure { unit: p(unit), counted: Stamp(counted), attack: attack(addr, jail) }
}

fn counted(store: &Store, since: i64) -> Vec<Counted> {
    let mut all = Vec::new();
    store
        .failures(Stamp(since), &mut |one| {
            all.push(one);
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

fn sentences(store: &Store) -> Vec<Sentence> {
    let mut all = Vec::new();
    store
        .sentences(&mut |one| {
            all.push(one);
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

fn every_what() -> Vec<What> {
    let (until, origin, reason) = (Until::At(Stamp(5000)), Origin::Flood, "why \u{1F512}".to_owned());
    vec![
        What::Ban {
            until,
            origin: origin.clone(),
            reason: reason.clone(),
            offences: u32::MAX,
            killed: KillCount { sockets: 1, states: u64::MAX },
        },
        What::Ban { until: Until::Forever, origin: Origin::Manual, reason: String::new(), offences: 0, killed: KillCount::default() },
        What::Killed(KillCount { sockets: u64::MAX, states: 0 }),
        What::Unban { by: "root".to_owned() },
        What::Expired,
        What::Refused { origin: Origin::Import("plain".into()), protected_by: "own address".to_owned() },
        What::WouldBan { until, origin: Origin::Jail("nginx".into()), reason },
        What::Drift { what: "table".to_owned(), repaired: 10_000, millis: 40 },
        What::Problem { about: "journal".to_owned(), what: "gone".to_owned() },
        What::Solved { about: "journal".to_owned() },
        What::Allow { added: true, comment: "office".to_owned() },
        What::Table { state: State::Pressure, count: 60_000, max: 65_536, what: "it fills".to_owned() },
        What::Culprit { who: "203.0.113.7".to_owned(), flows: 9000, new_per_second: 400, action: Action::Limit, what: String::new() },
        What::CulpritOver { who: "203.0.113.7".to_owned(), seconds: 300, dropped: 7 },
        What::Purged { whose: "203.0.113.7".to_owned(), states: 12 },
        What::Daemon { what: "started".to_owned() },
    ]
}

#[test]
fn bans_come_back_as_they_were() {
    let (dir, mut store) = fresh();
    let mut kept: Vec<Ban> = Vec::new();
    for (n, origin) in ["manual", "jail:sshd", "flood", "spread", "import:plain", "recovered"].into_iter().enumerate() {
        let mut one = ban("203.0.113.0/24", 5000 + n as i64);
        one.key.prefix = p(&format!("203.0.113.{n}"));
        one.origin = origin.into();
        one.offences = u32::MAX - n as u32;
        kept.push(one);
    }
    let mut forever = ban("2001:db8::/64", 0);
    forever.until = Until::Forever;
    let mut forced = forever.clone();
    forced.key.forced = true;
    forced.reason = "by hand\0, \u{202e}odd".to_owned();
    let mut ports = forever.clone();
    ports.key.ports = only(&[22, 80, 65535]);
    ports.until = Until::At(Stamp(i64::MAX));
    kept.extend([forever, forced, ports, ban("0.0.0.0/0", 1), ban("::/0", -1)]);
    let records: Vec<Record> = kept.iter().cloned().map(Record::Ban).collect();
    store.write(&records).unwrap();
    drop(store);

    let (mut store, opening) = Store::open(dir.path()).unwrap();
    assert_eq!(opening, Opening::Known);
    kept.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(bans(&store), kept, "sorted by prefix, and equal");
    assert_eq!(store.ban_count().unwrap(), kept.len() as u64);

    kept[3].until = Until::Forever;
    store.write(&[Record::Ban(kept[3].clone()), Record::Unban(kept[4].key.clone())]).unwrap();
    kept.remove(4);
    assert_eq!(bans(&store), kept, "one ban a key; another key's stays");
    let mut first = 0;
    store
        .each_ban(&mut |_| {
            first += 1;
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(first, 1, "breaking off is heeded");
}

#[test]
fn entries_come_set_by_set_and_only_what_stands() {
    let (_dir, mut store) = fresh();
    let mut records = Vec::new();
    for n in 0..20u8 {
        let mut one = ban(&format!("198.51.100.{n}/{}", if n % 2 == 0 { 32 } else { 31 }), 100 + i64::from(n));
        if n % 5 == 0 {
            one.key.ports = only(&[22]);
        }
        records.push(Record::Ban(one));
    }
    store.write(&records).unwrap();
    let mut batches: Vec<Vec<Entry>> = Vec::new();
    let all = store.ban_count().unwrap() as usize;
    let over = bans(&store).iter().filter(|b| b.until.over(Stamp(104))).count();
    assert!(over > 0);
    let mut take = |batch: Vec<Entry>| {
        batches.push(batch);
        ControlFlow::Continue(())
    };
    store.entries(Stamp(104), 7, &mut take).unwrap();
    assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), all - over);
    for batch in &batches {
        assert!(batch.len() <= 7 && batch.iter().all(|e| !e.until.over(Stamp(104))));
        let mut sets: Vec<_> = batch.iter().map(|e| (e.key.ports.clone(), e.key.prefix.len())).collect();
        sets.dedup();
        let runs = sets.len();
        sets.sort();
        sets.dedup();
        assert_eq!(runs, sets.len(), "each set is one run");
    }
    let mut calls = 0;
    let mut once = |_| {
        calls += 1;
        ControlFlow::Break(())
    };
    store.entries(Stamp(104), 7, &mut once).unwrap();
    assert_eq!(calls, 1);
}

#[test]
fn failures_count_until_spent_and_stay_as_evidence() {
    let (_dir, mut store) = fresh();
    store
        .write(&[
            failure("203.0.113.7", "203.0.113.7/32", "sshd", 1000),
            failure("203.0.113.7", "203.0.113.7/32", "nginx", 1001),
            failure("2001:db8::7", "2001:db8::/64", "sshd", 1002),
            failure("2001:db8::8", "2001:db8::/64", "sshd", 1003),
            failure("203.0.113.8", "203.0.113.8/32", "sshd", 999),
        ])
        .unwrap();
    let seen: Vec<_> = counted(&store, 1000).into_iter().map(|c| (c.jail.to_string(), c.unit, c.counted.0, c.score)).collect();
    let want = |jail: &str, unit, at| (jail.to_owned(), p(unit), at, 10);
    assert_eq!(
        seen,
        [
            want("sshd", "203.0.113.7/32", 1000),
            want("nginx", "203.0.113.7/32", 1001),
            want("sshd", "2001:db8::/64", 1002),
            want("sshd", "2001:db8::/64", 1003)
        ]
    );
    store
        .write(&[
            Record::Spent { jail: "sshd".into(), unit: p("2001:db8::/64") },
            Record::Spent { jail: "nginx".into(), unit: p("203.0.113.8") },
        ])
        .unwrap();
    assert_eq!(counted(&store, 0).len(), 3, "another jail's failures, and other sources', count on");

    let lines = store.lines_of(&p("2001:db8::/48"), 10).unwrap();
    assert_eq!(lines.iter().map(|l| (l.addr, l.spent)).collect::<Vec<_>>(), [(a("2001:db8::8"), true), (a("2001:db8::7"), true)]);
    assert_eq!(store.lines_of(&p("203.0.113.0/24"), 2).unwrap().len(), 2);
    let line = &store.lines_of(&p("203.0.113.8"), 10).unwrap()[0];
    let from = attack("203.0.113.8", "sshd");
    assert_eq!((line.counted, &line.jail, line.score), (Stamp(999), &from.jail, 10));
    assert_eq!((line.signature.as_str(), &line.user, &line.line), (&*from.signature, &from.user, &from.line));
    assert!(!line.spent && store.lines_of(&p("198.51.100.0/24"), 10).unwrap().is_empty());
}

#[test]
fn sentences_allowed_and_positions_replace_their_likes() {
    let (_dir, mut store) = fresh();
    let sentence = |started, ends| Sentence { prefix: p("203.0.113.7"), started: Stamp(started), ends };
    let allow = |prefix: &str, comment: &str, until| Allowed { prefix: p(prefix), since: Stamp(7), until, comment: comment.to_owned() };
    let at = |source: &str, position: &str| Record::Position { source: source.to_owned(), position: position.to_owned() };
    store
        .write(&[
            Record::Sentence(sentence(1000, Until::At(Stamp(2000)))),
            Record::Sentence(sentence(1000, Until::At(Stamp(3000)))),
            Record::Sentence(sentence(4000, Until::Forever)),
            Record::Allow(allow("198.51.100.0/24", "office", Until::Forever)),
            Record::Allow(allow("198.51.100.0/24", "new office", Until::At(Stamp(9)))),
            Record::Allow(allow("2001:db8::/48", "", Until::Forever)),
            Record::Allow(allow("192.0.2.1", "x", Until::Forever)),
            Record::Disallow(p("192.0.2.1")),
            at("journal", "s=1"),
            at("/var/log/auth.log", "17"),
            at("journal", "s=2"),
        ])
        .unwrap();
    assert_eq!(sentences(&store), [sentence(1000, Until::At(Stamp(3000))), sentence(4000, Until::Forever)]);
    let members = [allow("198.51.100.0/24", "new office", Until::At(Stamp(9))), allow("2001:db8::/48", "", Until::Forever)];
    assert_eq!(store.allowed().unwrap(), members);
    let positions = store.positions().unwrap();
    assert_eq!((positions.len(), &*positions["journal"], &*positions["/var/log/auth.log"]), (2, "s=2", "17"));
}

#[test]
fn notices_come_back_and_can_be_narrowed() {
    let (_dir, mut store) = fresh();
    let mut all = Vec::new();
    for (n, what) in every_what().into_iter().enumerate() {
        let prefix = [None, Some(p("203.0.113.7")), Some(p("2001:db8::/64"))][n % 3];
        all.push(Notice { at: Stamp(n as i64), prefix, what });
    }
    store.write(&all.iter().cloned().map(Record::Notice).collect::<Vec<_>>()).unwrap();
    assert_eq!(store.notices(None, None, 1000).unwrap(), all);
    assert_eq!(store.notices(None, None, 3).unwrap(), all[all.len() - 3..], "the newest, oldest first");
    assert_eq!(store.notices(Some(Stamp(4)), None, 1000).unwrap(), all[4..]);
    assert!(store.notices(None, None, 0).unwrap().is_empty());
    for about in ["203.0.113.0/24", "203.0.113.7"] {
        let found = store.notices(None, Some(&p(about)), 1000).unwrap();
        assert_eq!(found.len(), all.iter().filter(|n| n.prefix == Some(p("203.0.113.7"))).count());
        assert!(found.iter().all(|n| n.prefix == Some(p("203.0.113.7"))));
    }
    store.db.execute("UPDATE notices SET what = '{\"event\":\"of-tomorrow\"}' WHERE id = 1", []).unwrap();
    assert!(matches!(&store.notices(None, None, 1000).unwrap()[0].what, What::Daemon { what } if what.contains("of-tomorrow")));
}

#[test]
fn a_shift_moves_every_moment_and_saturates() {
    let (_dir, mut store) = fresh();
    let mut forever = ban("203.0.113.8", 0);
    forever.until = Until::Forever;
    let told = What::Ban {
        until: Until::At(Stamp(5000)),
        origin: Origin::Manual,
        reason: String::new(),
        offences: 1,
        killed: KillCount::default(),
    };
    let quiet =
        What::Ban { until: Until::Forever, origin: Origin::Manual, reason: String::new(), offences: 1, killed: KillCount::default() };
    let sentence = |started: i64| Sentence { prefix: p("203.0.113.7"), started: Stamp(started), ends: Until::At(Stamp(started + 50)) };
    store
        .write(&[
            Record::Ban(ban("203.0.113.7", 5000)),
            Record::Ban(forever),
            Record::Ban(ban("203.0.113.9", i64::MAX)),
            failure("203.0.113.7", "203.0.113.7", "sshd", 1000),
            Record::Sentence(sentence(0)),
            Record::Sentence(sentence(500)),
            Record::Allow(Allowed { prefix: p("192.0.2.1"), since: Stamp(1), until: Until::At(Stamp(2)), comment: String::new() }),
            Record::Notice(Notice { at: Stamp(3), prefix: None, what: told }),
            Record::Notice(Notice { at: Stamp(4), prefix: None, what: quiet.clone() }),
        ])
        .unwrap();
    store.seen(Stamp(2000)).unwrap();
    store.write(&[Record::Shift(500)]).unwrap();
    let moved: Vec<_> = bans(&store).iter().map(|b| (b.since.0, b.until)).collect();
    let at = |ms| Until::At(Stamp(ms));
    assert_eq!(moved, [(1500, at(5500)), (1500, Until::Forever), (1500, at(i64::MAX))]);
    assert_eq!(counted(&store, 0)[0].counted, Stamp(1500));
    let line_time: i64 = store.db.query_row("SELECT at FROM failures", [], |row| row.get(0)).unwrap();
    assert_eq!(line_time, 1400);
    assert_eq!(sentences(&store), [sentence(500), sentence(1000)], "though one takes the place of the other");
    let member = &store.allowed().unwrap()[0];
    assert_eq!((member.since, member.until), (Stamp(501), at(502)));
    let notices = store.notices(None, None, 10).unwrap();
    // What was told is not rewritten; only when it was told moves along.
    assert!(matches!(notices[0], Notice { at: Stamp(503), what: What::Ban { until: Until::At(Stamp(5000)), .. }, .. }));
    assert_eq!((notices[1].at, &notices[1].what), (Stamp(504), &quiet));
    assert_eq!(store.last_moment().unwrap(), Some(Stamp(2500)));

    store.write(&[Record::Shift(-86_400_000)]).unwrap();
    assert_eq!(store.last_moment().unwrap(), Some(Stamp(2500 - 86_400_000)), "a clock set back is not behind");
    for by in [i64::MIN, i64::MIN, i64::MAX, i64::MAX, i64::MAX, 0] {
        store.write(&[Record::Shift(by)]).unwrap();
    }
    assert!(bans(&store).iter().all(|b| b.since == Stamp(i64::MAX)));
}

#[test]
fn the_history_is_kept_by_grain_and_forgotten_by_age() {
    let (_dir, mut store) = fresh();
    let point = |at, grain, peak| Point { at: Stamp(at), grain, peak, max: 65_536, drops: 3, top: vec![(p("192.0.2.9"), 1)] };
    let (day, month) = (86_400_000, 31 * 86_400_000);
    let points = [point(0, 60, 1), point(60_000, 60, 2), point(0, 3600, 3)];
    store.write(&points.clone().map(Record::History)).unwrap();
    assert_eq!(store.history(60, Stamp(0)).unwrap(), points[..2]);
    assert_eq!(store.history(60, Stamp(1)).unwrap(), points[1..2]);
    assert_eq!(store.history(3600, Stamp(0)).unwrap(), points[2..]);
    let keep = Keep { failures: Span::secs(1), sentences: Span::secs(1) };
    assert_eq!(store.tidy(Stamp(day + 1), keep).unwrap().history, 1);
    assert_eq!(store.history(60, Stamp(0)).unwrap(), points[1..2]);
    assert_eq!(store.tidy(Stamp(month + 1), keep).unwrap().history, 2);
    store.write(&[Record::History(point(5, 60, 9)), Record::Shift(1000)]).unwrap();
    assert_eq!(store.history(60, Stamp(0)).unwrap(), [point(1005, 60, 9)]);
    store.db.execute("UPDATE history SET top = 'x'", []).unwrap();
    assert!(store.history(60, Stamp(0)).unwrap()[0].top.is_empty(), "a stranger's hand");
}

#[test]
fn the_last_moment_is_the_newest_known() {
    let (_dir, mut store) = fresh();
    assert_eq!(store.last_moment().unwrap(), None);
    store.seen(Stamp(100)).unwrap();
    store.seen(Stamp(50)).unwrap();
    assert_eq!(store.last_moment().unwrap(), Some(Stamp(100)));
    store.write(&[failure("203.0.113.7", "203.0.113.7", "sshd", 300)]).unwrap();
    store.write(&[Record::Notice(Notice { at: Stamp(200), prefix: None, what: What::Expired })]).unwrap();
    assert_eq!(store.last_moment().unwrap(), Some(Stamp(300)));
}

#[test]
fn a_reader_sees_whole_batches_and_changes_nothing() {
    let (dir, mut store) = fresh();
    store.write(&[Record::Ban(ban("203.0.113.7", 5000))]).unwrap();
    let mut reader = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(bans(&reader).len(), 1);
    store.write(&[Record::Ban(ban("203.0.113.8", 5000))]).unwrap();
    assert_eq!(bans(&reader).len(), 2, "beside a writer");
    assert!(matches!(reader.write(&[Record::Unban(Key::all(p("203.0.113.7")))]), Err(StoreError::ReadOnly(_))));
    drop(store);
    drop(reader);
    assert_eq!(bans(&Store::open_read_only(dir.path()).unwrap()).len(), 2, "and without one");
}
