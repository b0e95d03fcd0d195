//! What stands of feeds' members, whoever else bans, protects or unbans them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::bans::ban::Ban;
use crate::bans::wall::Entry;
use crate::control::FeedStatus;
use crate::feeds::Report as Looked;

const TWO: &str = "[feed.a]\npath = \"/a\"\n[feed.b]\npath = \"/b\"\n[jail.sshd]\nfiles = [\"/x\"]\nmax_retry = 1\nban_time = \"1m\"\n";

impl Lab {
    /// A feed's list was looked at, and everything that follows is done.
    fn feed(&mut self, name: &str, members: &[&str]) -> Vec<Action> {
        let members: BTreeSet<Prefix> = members.iter().map(|text| text.parse().unwrap()).collect();
        let report = Looked { added: members.len(), ..Looked::default() };
        let fed = Fed { name: name.into(), members: Some(members.into_iter().collect()), report, looked: true };
        let actions = self.play(Event::Fed(Box::new(fed)));
        self.settle(actions)
    }

    /// A feed's list was looked at and has not changed, or could not be.
    fn look(&mut self, name: &str, error: Option<&str>) -> Vec<Action> {
        let report = Looked { error: error.map(str::to_owned), ..Looked::default() };
        let actions = self.play(Event::Fed(Box::new(Fed { name: name.into(), members: None, report, looked: true })));
        self.settle(actions)
    }

    fn settle(&mut self, mut actions: Vec<Action>) -> Vec<Action> {
        while self.brain.busy() {
            actions.extend(self.play(Event::Idle));
        }
        actions
    }

    /// Every ban and whose it is.
    fn owners(&mut self) -> BTreeMap<String, String> {
        let Reply::List { bans } = self.ask(Request::List) else { panic!() };
        bans.into_iter().map(|ban| (ban.key.prefix.to_string(), ban.origin.to_string())).collect()
    }

    fn owner(&mut self, prefix: &str) -> Option<String> {
        self.owners().remove(&prefix.parse::<Prefix>().unwrap().to_string())
    }

    fn feeds(&mut self) -> Vec<FeedStatus> {
        let Reply::Feeds { feeds } = self.ask(Request::Feeds) else { panic!() };
        feeds
    }

    fn unban(&mut self, whom: Whom) -> (Vec<Ban>, Vec<(String, usize)>) {
        let Reply::Unbans { removed, listed, .. } = self.ask(Request::Unban { whom }) else { panic!() };
        (removed, listed)
    }
}

fn only(prefix: &str) -> Whom {
    Whom::Prefixes(vec![prefix.parse().unwrap()])
}

#[test]
fn members_stand_for_ever_until_the_last_feed_drops_them() {
    let mut lab = Lab::new(TWO);
    let actions = lab.feed("a", &["192.0.2.0/24", "203.0.113.7"]);
    assert_eq!(steps(&actions).len(), 2);
    assert!(actions.iter().any(|a| matches!(a, Action::Tell(Notice { what: What::Fed { members: 2, added: 2, .. }, .. }))), "{actions:?}");
    let kept = |a: &Action| matches!(a, Action::Keep(records) if records.iter().any(|r| matches!(r, Record::Ban(ban) if ban.until == Until::Forever)));
    assert!(actions.iter().any(kept));
    lab.feed("b", &["203.0.113.7", "203.0.113.8"]);
    let own = |owner: Option<String>| owner.unwrap_or_default();
    assert_eq!((own(lab.owner("203.0.113.7")), own(lab.owner("203.0.113.8"))), ("feed:a".into(), "feed:b".into()));
    // Nothing is done at the wall for one that another feed has too, but to say it once more.
    let actions = lab.feed("a", &["192.0.2.0/24"]);
    assert!(steps(&actions).iter().all(|step| matches!(step, Step::Block(_))), "{actions:?}");
    assert_eq!(own(lab.owner("203.0.113.7")), "feed:b");
    let actions = lab.feed("b", &["203.0.113.8"]);
    assert_eq!(steps(&actions), [Step::Release(key("203.0.113.7"))]);
    assert_eq!(lab.owners().len(), 2);
    // The same again: nothing to do.
    assert!(steps(&lab.feed("b", &["203.0.113.8"])).is_empty() && steps(&lab.look("b", None)).is_empty());
}

#[test]
fn a_jails_ban_goes_first_and_the_feeds_stands_again_when_it_ends() {
    let mut lab = Lab::new(TWO);
    lab.fail("203.0.113.7", 1);
    lab.feed("a", &["203.0.113.7"]);
    assert_eq!(lab.owner("203.0.113.7").unwrap(), "jail:sshd");
    lab.pass(61_000);
    let actions = lab.play(Event::Idle);
    // In one order, as a block: at no moment it does not stand.
    assert!(matches!(steps(&actions)[..], [Step::Block(Entry { until: Until::Forever, .. })]), "{actions:?}");
    assert_eq!(lab.owner("203.0.113.7").unwrap(), "feed:a");
    // By hand over the feed's, and back again.
    let BanOutcome::Banned { until: Until::At(_) } = lab.ban("203.0.113.7", false) else { panic!("the feed's ban did not yield") };
    lab.look("a", None);
    assert_eq!(lab.owner("203.0.113.7").unwrap(), "manual");
    lab.pass(61_000);
    lab.play(Event::Idle);
    assert_eq!(lab.owner("203.0.113.7").unwrap(), "feed:a");
    // Dropped meanwhile, it ends with the other's.
    lab.ban("203.0.113.7", false);
    lab.feed("a", &["203.0.113.9"]);
    assert_eq!(lab.owner("203.0.113.7").unwrap(), "manual");
    lab.pass(61_000);
    lab.play(Event::Idle);
    assert_eq!(lab.owner("203.0.113.7"), None);
}

#[test]
fn taking_back_what_a_jail_did_leaves_what_a_feed_lists() {
    let mut lab = Lab::new(TWO);
    lab.fail("203.0.113.7", 1);
    lab.feed("a", &["203.0.113.7"]);
    let Reply::Unbans { removed, still, listed, .. } = lab.ask(Request::Unban { whom: Whom::Jail("sshd".into()) }) else { panic!() };
    assert_eq!((removed.len(), still.len(), listed), (1, 1, vec![]));
    assert_eq!(lab.owner("203.0.113.7").unwrap(), "feed:a");
}

#[test]
fn unbanned_by_hand_lasts_until_the_list_is_looked_at_and_says_so() {
    let mut lab = Lab::new(TWO);
    lab.feed("a", &["203.0.113.7", "203.0.113.8"]);
    let (removed, listed) = lab.unban(only("203.0.113.7"));
    assert_eq!((removed.len(), listed), (1, vec![("a".to_owned(), 1)]));
    // Neither time nor another feed nor a failure brings it back.
    lab.pass(600_000);
    lab.play(Event::Idle);
    lab.feed("b", &["192.0.2.1"]);
    lab.look("a", Some("no route"));
    assert_eq!((lab.owner("203.0.113.7"), lab.feeds()[0].unbanned), (None, 1));
    lab.look("a", None);
    assert_eq!((lab.owner("203.0.113.7").unwrap(), lab.feeds()[0].unbanned), ("feed:a".to_owned(), 0));
    let (removed, listed) = lab.unban(Whom::All);
    assert_eq!((removed.len(), listed), (3, vec![("a".to_owned(), 2), ("b".to_owned(), 1)]));
    lab.look("b", None);
    assert_eq!(lab.owners().into_keys().collect::<Vec<_>>(), ["192.0.2.1/32"]);
}

#[test]
fn whom_the_allow_list_protects_no_feed_bans_and_later_it_does() {
    let mut lab = Lab::new(&format!("{TWO}[allow]\nprefixes = [\"203.0.113.7\"]\n"));
    lab.feed("a", &["127.0.0.0/8", "203.0.113.0/24", "203.0.113.7", "198.51.100.9"]);
    assert_eq!(lab.owners().into_keys().collect::<Vec<_>>(), ["198.51.100.9/32"]);
    assert_eq!((lab.feeds()[0].members, lab.feeds()[0].protected), (4, 3));
    lab.ask(Request::AllowAdd { prefixes: vec!["198.51.100.9".parse().unwrap()], term: Term::For(Span::secs(60)), comment: String::new() });
    assert!(lab.owners().is_empty());
    assert_eq!(lab.feeds()[0].protected, 4);
    lab.look("a", None);
    assert!(lab.owners().is_empty());
    // Protected no longer: by time, by hand and by the config.
    lab.pass(61_000);
    let actions = lab.play(Event::Idle);
    lab.settle(actions);
    assert_eq!(lab.owners().into_keys().collect::<Vec<_>>(), ["198.51.100.9/32"]);
    let actions = lab.play(Event::Configured(Box::new(config(TWO))));
    lab.settle(actions);
    assert_eq!((lab.owners().len(), lab.feeds()[0].protected), (3, 1));
}

#[test]
fn a_feed_that_is_followed_no_longer_takes_its_bans_along() {
    let mut lab = Lab::new(TWO);
    lab.feed("a", &["203.0.113.7", "203.0.113.8"]);
    lab.feed("b", &["203.0.113.8"]);
    lab.look("a", Some("no route"));
    let actions = lab.play(Event::Configured(Box::new(config(&TWO.replace("/a\"", "/a\"\nenabled = false")))));
    lab.settle(actions);
    assert_eq!(lab.owners(), BTreeMap::from([("203.0.113.8/32".to_owned(), "feed:b".to_owned())]));
    let Reply::Status(status) = lab.ask(Request::Status) else { panic!() };
    assert!(status.problems.is_empty(), "{:?}", status.problems);
    // What comes late is for nobody.
    lab.feed("a", &["203.0.113.9"]);
    assert_eq!(lab.owners().len(), 1);
}

#[test]
fn after_a_restart_the_members_of_before_stand_until_the_list_says_otherwise() {
    let mut lab = Lab::new(TWO);
    lab.feed("a", &["203.0.113.7", "203.0.113.8"]);
    lab.feed("b", &["192.0.2.1"]);
    let Reply::List { bans } = lab.ask(Request::List) else { panic!() };
    let kept = || Kept { bans: bans.clone(), ..Kept::default() };
    let mut lab = Lab::with(TWO, Mode::Enforce, kept());
    assert_eq!(lab.owners().len(), 3);
    lab.look("a", Some("no network"));
    assert_eq!((lab.owners().len(), lab.feeds()[0].members), (3, 2));
    let actions = lab.feed("a", &["203.0.113.8"]);
    assert_eq!(steps(&actions), [Step::Release(key("203.0.113.7"))]);
    // Without the feed in the config they are let go of.
    let mut lab = Lab::with("[feed.a]\npath = \"/a\"\n", Mode::Enforce, kept());
    lab.settle(Vec::new());
    assert_eq!(lab.owners().into_keys().collect::<Vec<_>>(), ["203.0.113.7/32", "203.0.113.8/32"]);
    // Of a lost store's, too.
    let recovered = bans.iter().map(|ban| Ban { origin: Origin::Recovered, ..ban.clone() }).collect();
    let mut lab = Lab::with(TWO, Mode::Enforce, Kept { bans: recovered, ..Kept::default() });
    lab.feed("a", &["203.0.113.7"]);
    lab.feed("a", &["203.0.113.8"]);
    assert_eq!((lab.owner("203.0.113.7"), lab.owner("203.0.113.8").unwrap()), (None, "feed:a".to_owned()));
}

#[test]
fn a_failing_feed_is_a_problem_once_and_degrades_only_what_never_was_good() {
    let mut lab = Lab::new(TWO);
    let told = |actions: &[Action]| actions.iter().filter(|a| matches!(a, Action::Tell(Notice { what: What::Problem { .. }, .. }))).count();
    let state = |lab: &mut Lab| {
        let Reply::Status(status) = lab.ask(Request::Status) else { panic!() };
        (status.state, status.problems.len())
    };
    assert_eq!(told(&lab.look("a", Some("no route"))), 1);
    assert_eq!(told(&lab.look("a", Some("no route"))), 0);
    assert_eq!(state(&mut lab), (State::Degraded, 1));
    lab.feed("a", &["203.0.113.7"]);
    assert_eq!(state(&mut lab), (State::Enforcing, 0));
    assert_eq!(told(&lab.look("a", Some("no route"))), 1);
    assert_eq!(state(&mut lab), (State::Enforcing, 1));
    // Taken up again from the disk, for a new config: that solves nothing.
    let members = Some(vec!["203.0.113.7".parse().unwrap()]);
    let actions = lab.play(Event::Fed(Box::new(Fed { name: "a".into(), members, ..Fed::default() })));
    lab.settle(actions);
    assert_eq!(state(&mut lab), (State::Enforcing, 1));
    assert_eq!(lab.feeds()[0].report.error.as_deref(), Some("no route"));
    let actions = lab.look("a", None);
    assert!(actions.iter().any(|a| matches!(a, Action::Tell(Notice { what: What::Solved { about }, .. }) if about == "feed a")));
}

#[test]
fn feeds_leave_room_for_others_and_say_when_there_is_none_for_them() {
    let mut lab = Lab::new(&format!("{TWO}[limits]\nbans = 3\n"));
    lab.feed("a", &["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]);
    assert_eq!((lab.owners().len(), lab.feeds()[0].no_room), (3, 1));
    lab.fail("203.0.113.7", 1);
    assert_eq!((lab.owner("203.0.113.7").unwrap(), lab.feeds()[0].no_room), ("jail:sshd".to_owned(), 2));
    let Reply::Status(status) = lab.ask(Request::Status) else { panic!() };
    assert!(status.state == State::Degraded && status.problems[0].what.contains("[limits] bans"), "{status:?}");
    lab.feed("a", &["192.0.2.1", "192.0.2.2"]);
    let Reply::Status(status) = lab.ask(Request::Status) else { panic!() };
    assert!(status.problems.is_empty() && lab.owners().len() == 3);
}

#[test]
fn listed_neighbours_say_nothing_of_a_neighbourhood() {
    let mut lab = Lab::new(&TWO.replace("max_retry", "spread = { ipv4 = 24, hosts = 2 }\nmax_retry"));
    lab.feed("a", &["203.0.113.1", "203.0.113.2"]);
    lab.fail("203.0.113.7", 1);
    assert_eq!(lab.owner("203.0.113.0/24"), None);
    lab.fail("203.0.113.8", 1);
    assert_eq!(lab.owner("203.0.113.0/24").unwrap(), "spread");
}

#[test]
fn a_refresh_is_answered_when_all_of_it_stands() {
    let mut lab = Lab::new(TWO);
    let refresh = |names: &[&str]| Request::FeedRefresh { names: names.iter().map(|n| (*n).to_owned()).collect(), accept: true };
    let Reply::Failed { exit: 2, message } = lab.ask(refresh(&["c"])) else { panic!() };
    assert!(message.contains("no feed `c`") && message.contains("a, b"), "{message}");
    let actions = lab.play(Event::Asked { id: 9, who: "uid 0".to_owned(), request: refresh(&[]) });
    let Some(Action::Fetch { id: 9, names, accept: true }) = actions.first() else { panic!("{actions:?}") };
    let members: Vec<Prefix> = (0..10_000u32).map(|n| Prefix::host(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into())).collect();
    lab.tell(Event::Fed(Box::new(Fed { name: "a".into(), members: Some(members), report: Looked::default(), looked: true })));
    let mut actions = lab.tell(Event::Fetched { id: 9, names: names.clone() });
    assert!(lab.brain.next_deadline(lab.now) == lab.now.tick, "it does not go on by itself");
    let (mut answered, mut killed) = (0, 0);
    while !actions.is_empty() {
        let mut more = Vec::new();
        for action in &actions {
            match action {
                Action::Rebuild { ticket, entries, .. } => {
                    assert_eq!(entries.len(), 10_000);
                    more.extend(lab.tell(Event::Rebuilt { ticket: *ticket, result: Ok(Report::default()) }));
                }
                // Their connections end once they stand, in one go.
                Action::Kill { ticket, targets } => {
                    killed += targets.len();
                    more.extend(lab.tell(Event::Ended { ticket: *ticket, killed: KillCount::default(), error: None }));
                }
                Action::Order { ticket, order } => {
                    assert!(order.is_empty(), "so many are put up as one new wall");
                    more.extend(lab.tell(Event::Applied { ticket: *ticket, failed: Vec::new() }));
                    more.extend(lab.tell(Event::Ended { ticket: *ticket, killed: KillCount::default(), error: None }));
                }
                Action::Answer { id: 9, reply: Reply::Refreshed { feeds } } => {
                    answered += 1;
                    assert_eq!((feeds.len(), lab.owners().len()), (2, 10_000));
                }
                _ => {}
            }
        }
        if more.is_empty() && lab.brain.busy() {
            more = lab.tell(Event::Idle);
        }
        actions = more;
    }
    assert_eq!((answered, killed), (1, 10_000));
}

#[derive(Clone, Debug)]
enum Deed {
    Feed(bool, BTreeSet<u8>),
    Fail(u8),
    Ban(u8),
    Unban(u8),
    Allow(u8, bool),
    Pass,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let one = prop_oneof![
        3 => (any::<bool>(), prop::collection::btree_set(0u8..8, 0..8)).prop_map(|(a, list)| Deed::Feed(a, list)),
        2 => (0u8..8).prop_map(Deed::Fail),
        1 => (0u8..8).prop_map(Deed::Ban),
        1 => (0u8..8).prop_map(Deed::Unban),
        1 => (0u8..8, any::<bool>()).prop_map(|(n, add)| Deed::Allow(n, add)),
        2 => Just(Deed::Pass),
    ];
    prop::collection::vec(one, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens: a listed prefix is banned unless it is protected or was unbanned since its lists were looked
    /// at; no other is banned by a feed; and the wall, told by orders alone, holds what the table holds.
    #[test]
    fn what_is_listed_stands(deeds in deeds()) {
        let mut lab = Lab::new(TWO);
        let host = |n: u8| format!("192.0.2.{n}");
        let prefix = |n: u8| host(n).parse::<Prefix>().unwrap();
        let mut lists = [BTreeSet::new(), BTreeSet::new()];
        let (mut lifted, mut allowed) = (BTreeSet::new(), BTreeSet::new());
        let mut wall: BTreeMap<Key, Until> = BTreeMap::new();
        for deed in deeds {
            let ask = |request| Event::Asked { id: 1, who: String::new(), request };
            let mut actions = match deed {
                Deed::Feed(b, list) => {
                    let texts: Vec<String> = list.iter().map(|n| host(*n)).collect();
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    lifted.retain(|n| !list.contains(n));
                    lists[usize::from(b)] = list;
                    lab.feed(if b { "b" } else { "a" }, &texts)
                }
                Deed::Fail(n) => lab.fail(&host(n), 1),
                Deed::Ban(n) => {
                    let prefixes = vec![prefix(n)];
                    let term = Some(Term::For(Span::secs(60)));
                    lab.play(ask(Request::Ban { prefixes, term, reason: String::new(), force: false, origin: Origin::Manual, asker: None }))
                }
                Deed::Unban(n) => {
                    // Only what stands can be unbanned.
                    if lab.banned(&host(n)) && lists.iter().any(|list| list.contains(&n)) {
                        lifted.insert(n);
                    }
                    lab.play(ask(Request::Unban { whom: only(&host(n)) }))
                }
                Deed::Allow(n, true) => {
                    allowed.insert(n);
                    lab.play(ask(Request::AllowAdd { prefixes: vec![prefix(n)], term: Term::Forever, comment: String::new() }))
                }
                Deed::Allow(n, false) => {
                    allowed.remove(&n);
                    lab.play(ask(Request::AllowDel { prefixes: vec![prefix(n)] }))
                }
                Deed::Pass => {
                    lab.pass(61_000);
                    lab.play(Event::Idle)
                }
            };
            actions = lab.settle(actions);
            for step in steps(&actions) {
                match step {
                    Step::Block(entry) => drop(wall.insert(entry.key, entry.until)),
                    Step::Release(key) => drop(wall.remove(&key)),
                    Step::Frame(_) => {}
                }
            }
            let owners = lab.owners();
            let listed: BTreeSet<u8> = lists.iter().flatten().copied().collect();
            // One that is dropped by all is no longer lifted.
            lifted.retain(|n| listed.contains(n));
            for n in 0..8 {
                let owner = owners.get(&format!("{}/32", host(n)));
                let must = listed.contains(&n) && !allowed.contains(&n) && !lifted.contains(&n);
                prop_assert!(!must || owner.is_some(), "{n} is listed and not banned: {owners:?}");
                prop_assert!(listed.contains(&n) || !owner.is_some_and(|o| o.starts_with("feed:")), "{n} is banned and not listed");
                prop_assert!(!allowed.contains(&n) || owner.is_none(), "{n} is protected and banned");
            }
            prop_assert_eq!(wall.keys().map(|k| k.prefix.to_string()).collect::<Vec<_>>(), owners.into_keys().collect::<Vec<_>>());
            let Reply::List { bans } = lab.ask(Request::List) else { panic!() };
            prop_assert!(bans.iter().all(|ban| wall[&ban.key] == ban.until));
        }
    }
}
