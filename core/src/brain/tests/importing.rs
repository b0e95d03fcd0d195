//! Tables become bans.

use super::*;
use crate::control::Imported;
use crate::ports::Ports;
use crate::tables::{End, Row};

fn row(prefix: &str, end: Option<i64>) -> Row {
    Row { end: end.map(End::At), ..Row::of(prefix.parse().unwrap()) }
}

fn import(rows: Vec<Row>) -> Request {
    Request::Import { rows, term: None, reason: "a table".to_owned(), origin: Origin::Import("plain".into()), asker: None }
}

impl Lab {
    fn import(&mut self, rows: Vec<Row>) -> Imported {
        let Reply::Imported(imported) = self.ask(import(rows)) else { panic!("not an answer to import") };
        imported
    }

    fn bans(&mut self) -> Vec<Ban> {
        let Reply::List { bans } = self.ask(Request::List) else { panic!() };
        bans
    }
}

#[test]
fn rows_become_bans_with_what_the_table_tells_and_the_rest_from_who_asks() {
    let mut lab = Lab::new("[ban]\nmanual_time = \"2h\"\n");
    let now = lab.now.stamp;
    let full = Row {
        end: Some(End::Forever),
        since: Some(now.minus(Span::secs(60))),
        ports: Ports::only([22]).unwrap(),
        offences: 3,
        reason: "scans".to_owned(),
        ..row("203.0.113.7", None)
    };
    let imported =
        lab.import(vec![full, row("203.0.113.8", None), row("203.0.113.9", Some(now.0 + 5000)), row("203.0.113.10", Some(now.0))]);
    assert_eq!((imported.new, imported.over, imported.killed.sockets), (3, 1, 6), "{imported:?}");
    let bans = lab.bans();
    let told: Vec<_> = bans.iter().map(|ban| (ban.key.prefix.to_string(), ban.until, &*ban.reason, ban.offences)).collect();
    assert_eq!(
        told,
        [
            ("203.0.113.7/32".to_owned(), Until::Forever, "scans", 3),
            ("203.0.113.8/32".to_owned(), Until::At(now.plus(Span::secs(7200))), "a table", 1),
            ("203.0.113.9/32".to_owned(), Until::At(now.plus(Span::secs(5))), "a table", 1),
        ]
    );
    assert_eq!(
        (bans[0].since, &bans[0].key.ports, &bans[0].origin),
        (now.minus(Span::secs(60)), &Ports::only([22]).unwrap(), &Origin::Import("plain".into()))
    );
    // A table cannot say that a ban began in the future.
    lab.import(vec![Row { since: Some(now.plus(Span::secs(9))), ..row("203.0.113.11", None) }]);
    assert!(lab.bans().iter().all(|ban| ban.since <= now));
}

#[test]
fn a_thousand_rows_are_one_order_one_transaction_and_one_event() {
    let mut lab = Lab::new("");
    let rows = (0..999).map(|n| row(&format!("10.0.{}.{}", n / 250, n % 250), None)).collect();
    let actions = lab.play(Event::Asked { id: 9, who: String::new(), request: import(rows) });
    let orders = actions.iter().filter(|action| matches!(action, Action::Order { .. })).count();
    assert_eq!((orders, steps(&actions).len()), (1, 999));
    let bans: Vec<usize> = kept(&actions).iter().map(|records| records.iter().filter(|r| matches!(r, Record::Ban(_))).count()).collect();
    assert_eq!(bans.iter().filter(|count| **count > 0).collect::<Vec<_>>(), [&999]);
    let told: Vec<_> = actions.iter().filter_map(|a| if let Action::Tell(notice) = a { Some(&notice.what) } else { None }).collect();
    assert!(matches!(told[..], [What::Imported { bans: 999, killed: KillCount { sockets: 1998, .. }, .. }]), "{told:?}");
    // They are kept before anybody is told that they are.
    let place = |is: fn(&Action) -> bool| actions.iter().position(is).unwrap();
    assert!(place(|a| matches!(a, Action::Keep(_))) < place(|a| matches!(a, Action::Answer { .. })));
}

#[test]
fn many_rows_for_a_small_wall_are_one_new_wall_and_then_its_connections_end() {
    let mut lab = Lab::new("");
    let rows = |from: u32, count: u32| -> Vec<Row> {
        (from..from + count).map(|n| row(&std::net::Ipv4Addr::from_bits(0x0a00_0000 | n).to_string(), None)).collect()
    };
    let actions = lab.tell(Event::Asked { id: 9, who: String::new(), request: import(rows(0, 1000)) });
    let rebuild = |actions: &[Action]| {
        actions.iter().find_map(|a| if let Action::Rebuild { ticket, entries, .. } = a { Some((*ticket, entries.len())) } else { None })
    };
    let (ticket, entries) = rebuild(&actions).unwrap();
    assert!(entries == 1000 && !actions.iter().any(|a| matches!(a, Action::Order { .. } | Action::Kill { .. } | Action::Answer { .. })));
    let actions = lab.tell(Event::Rebuilt { ticket, result: Ok(Report::default()) });
    let targets = actions.iter().find_map(|a| if let Action::Kill { targets, .. } = a { Some(targets.len()) } else { None });
    assert!(
        targets == Some(1000) && !actions.iter().any(|a| matches!(a, Action::Answer { .. })),
        "the block stands, and now connections end"
    );
    let killed = KillCount { sockets: 3, states: 4 };
    let actions = lab.tell(Event::Ended { ticket, killed, error: None });
    let answer = actions
        .into_iter()
        .find_map(|a| if let Action::Answer { reply: Reply::Imported(imported), .. } = a { Some(imported) } else { None });
    assert_eq!(answer.map(|imported| (imported.new, imported.killed)), Some((1000, killed)));

    // One that fails ends nobody's connections and says so.
    let actions = lab.tell(Event::Asked { id: 9, who: String::new(), request: import(rows(5000, 2000)) });
    let (ticket, _) = rebuild(&actions).unwrap();
    let actions = lab.tell(Event::Rebuilt { ticket, result: Err("no".to_owned()) });
    assert!(!actions.iter().any(|a| matches!(a, Action::Kill { .. })));
    let answer = actions
        .into_iter()
        .find_map(|a| if let Action::Answer { reply: Reply::Imported(imported), .. } = a { Some(imported) } else { None });
    assert_eq!(
        answer.map(|imported| (imported.failed, imported.error)),
        Some((2000, Some("no; they are kept and tried again".to_owned())))
    );

    // A few more for a large one are an order.
    lab.play(Event::Asked { id: 9, who: String::new(), request: import(rows(10_000, 2000)) });
    let actions = lab.tell(Event::Asked { id: 9, who: String::new(), request: import(rows(20_000, 1001)) });
    assert_eq!((rebuild(&actions), steps(&actions).len()), (None, 1001));
}

#[test]
fn the_longer_ban_stays_whoever_made_it() {
    let mut lab = Lab::new("");
    let now = lab.now.stamp;
    lab.ban("203.0.113.7", false);
    let imported = lab.import(vec![row("203.0.113.7", Some(now.0 + 5000))]);
    assert_eq!((imported.new, imported.longer, imported.unchanged), (0, 0, 1));
    assert_eq!(lab.bans()[0].origin, Origin::Manual);
    let imported = lab.import(vec![row("203.0.113.7", Some(now.0 + 500_000))]);
    assert_eq!((imported.longer, lab.bans()[0].until), (1, Until::At(Stamp(now.0 + 500_000))));
    // One that says nothing new changes nothing in the kernel.
    let request = import(vec![row("203.0.113.7", Some(now.0 + 500_000))]);
    assert!(steps(&lab.play(Event::Asked { id: 9, who: String::new(), request })).is_empty());
}

#[test]
fn no_import_bans_who_is_protected_and_each_refusal_names_its_row() {
    let mut lab = Lab::new("[allow]\nprefixes = [\"198.51.100.0/25\"]\n");
    let rows = vec![
        row("203.0.113.1", None),
        row("198.51.100.7", None),
        row("198.51.100.0/24", None),
        row("127.0.0.1", None),
        row("0.0.0.0/0", None),
    ];
    let imported = lab.import(rows);
    assert_eq!((imported.new, imported.refused.len()), (1, 4));
    assert_eq!(imported.refused[0], (1, "198.51.100.7/32 is protected by 198.51.100.0/25 (allowed by the config)".to_owned()));
    assert_eq!(lab.bans().len(), 1);
    let asker = "198.51.100.200".parse().unwrap();
    let Request::Import { rows, term, reason, origin, .. } = import(vec![row("198.51.100.200", None)]) else { unreachable!() };
    let Reply::Imported(imported) = lab.ask(Request::Import { rows, term, reason, origin, asker: Some(asker) }) else { panic!() };
    assert_eq!(imported.refused.len(), 1, "whoever imports cannot shut itself out");
}

#[test]
fn rows_that_do_not_stand_are_counted() {
    let mut lab = Lab::new("[limits]\nbans = 2\n");
    let now = lab.now.stamp;
    lab.ban("203.0.113.1", false);
    let soon = row("203.0.113.2", Some(now.0 + 1000));
    let imported = lab.import(vec![soon, row("203.0.113.3", Some(now.0 + 2000))]);
    assert_eq!(
        (imported.new, imported.displaced, imported.failed),
        (2, 1, 0),
        "who ends soonest leaves a full table, and nobody banned by hand"
    );
    assert_eq!(lab.bans().iter().map(|ban| ban.key.prefix.to_string()).collect::<Vec<_>>(), ["203.0.113.1/32", "203.0.113.3/32"]);
    lab.import(vec![Row { end: Some(End::Forever), ..row("203.0.113.3", None) }]);
    let imported = lab.import(vec![row("203.0.113.4", None)]);
    assert_eq!((imported.new, imported.failed), (0, 1));
    assert!(imported.error.unwrap().contains("full"));

    let mut lab = Lab::new("");
    let request = import(vec![row("203.0.113.1", None), row("203.0.113.2", None)]);
    let actions = lab.tell(Event::Asked { id: 9, who: String::new(), request });
    let ticket = actions.iter().find_map(|a| if let Action::Order { ticket, .. } = a { Some(*ticket) } else { None }).unwrap();
    lab.tell(Event::Applied { ticket, failed: vec![(Some(key("203.0.113.2")), "no".to_owned())] });
    let actions = lab.tell(Event::Ended { ticket, killed: KillCount::default(), error: None });
    let answer = actions
        .into_iter()
        .find_map(|a| if let Action::Answer { reply: Reply::Imported(imported), .. } = a { Some(imported) } else { None });
    let imported = answer.unwrap();
    assert_eq!((imported.new, imported.failed), (2, 1));
    assert_eq!(imported.error.unwrap(), "no; it is kept and tried again");
}

#[test]
fn a_request_of_the_largest_rows_fits() {
    let ports = Ports::only(65_000..65_000 + 32).unwrap();
    let largest = Row {
        prefix: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128".parse().unwrap(),
        end: Some(End::At(i64::MIN)),
        since: Some(Stamp(1_795_366_800_123)),
        ports,
        offences: u32::MAX,
        reason: "\u{1}".repeat(crate::tables::REASON_MAX),
    };
    let bound = largest.bytes();
    assert!(serde_json::to_vec(&largest).unwrap().len() <= bound);
    assert!(serde_json::to_vec(&row("203.0.113.7", None)).unwrap().len() <= row("203.0.113.7", None).bytes());
    assert!(serde_json::to_vec(&import(Vec::new())).unwrap().len() + crate::control::ROWS_A_REQUEST < crate::control::REQUEST_MAX);
}

#[test]
fn requests_and_answers_survive_the_socket() {
    let rows =
        vec![row("203.0.113.7", Some(5)), Row { end: Some(End::Forever), ports: Ports::only([22]).unwrap(), ..row("2001:db8::/32", None) }];
    let request = import(rows);
    let text = serde_json::to_string(&request).unwrap();
    assert!(text.contains(r#"{"prefix":"203.0.113.7/32","end":{"at":5}}"#), "{text}");
    assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    let reply = Reply::Imported(Imported { refused: vec![(3, "x".to_owned())], ..Imported::default() });
    assert_eq!(serde_json::from_str::<Reply>(&serde_json::to_string(&reply).unwrap()).unwrap(), reply);
}
