//! Censuses of the connection table become limits and bans.

use super::*;
use crate::control::conntrack::{ConntrackReply, ConntrackRequest};
use crate::flood::census::{Census, Row};
use crate::flood::gauge::Gauge;
use crate::flood::settings::Action as Answer;
use crate::flood::wanted::{Culprit, Wanted};

const GAMER: &str = "192.0.2.66";
const SETTINGS: &str = "[conntrack]\nhorizon = \"1h\"\n";

fn row(addr: &str, flows: u32) -> Row {
    Row { prefix: addr.parse().unwrap(), flows, unreplied: 0, unassured: 0, opened: None, top: None, hosts: 1 }
}

fn kept(actions: &[Action]) -> Vec<&Wanted> {
    actions.iter().filter_map(|action| if let Action::Hold { wanted, .. } = action { Some(&**wanted) } else { None }).collect()
}

fn culprits(actions: &[Action]) -> Vec<(String, Answer)> {
    let told = |action: &Action| match action {
        Action::Tell(Notice { what: What::Culprit { who, action, .. }, .. }) => Some((who.clone(), *action)),
        _ => None,
    };
    actions.iter().filter_map(told).collect()
}

impl Lab {
    /// Twenty quiet hosts and one with so many flows, for some seconds, one look a second.
    fn table(&mut self, addr: &str, flows: impl Fn(u32) -> u32, seconds: u32) -> Vec<Action> {
        let mut all = Vec::new();
        for second in 0..seconds {
            self.pass(1000);
            let mut top: Vec<Row> = (10..30).map(|n| row(&format!("192.0.2.{n}"), 20)).collect();
            top.push(row(addr, flows(second)));
            top.sort_by_key(|row| Reverse(row.flows));
            let count: u32 = top.iter().map(|row| row.flows).sum();
            let census = Census { flows: count.into(), sources: 21, typical: (20, 20), top, ..Census::default() };
            all.extend(self.play(Event::Gauged(Gauge { count, max: 65_536, ..Gauge::default() })));
            all.extend(self.play(Event::Counted(Box::new(census))));
        }
        all
    }

    fn flood(&mut self, addr: &str) -> Vec<Action> {
        let mut all = self.table(addr, |_| 20, 20);
        all.extend(self.table(addr, |second| 20 + 1000 * second, 10));
        all
    }
}

#[test]
fn a_culprit_is_told_and_limited_and_asked_about() {
    let mut lab = Lab::new(SETTINGS);
    let quiet = lab.table(GAMER, |_| 20, 20);
    assert!(culprits(&quiet).is_empty() && kept(&quiet).iter().all(|wanted| wanted.limits.is_empty()));
    let actions = lab.table(GAMER, |second| 20 + 1000 * second, 10);
    let told = culprits(&actions);
    assert!(told.iter().all(|(who, _)| who == GAMER), "{told:?}");
    assert_eq!(told.last().unwrap().1, Answer::Limit, "named first, and limited once it goes on: {told:?}");
    let limits = &kept(&actions).last().unwrap().limits;
    assert_eq!(limits.iter().map(|limit| limit.whose).collect::<Vec<_>>(), [Culprit::Source { prefix: GAMER.parse().unwrap() }]);
    let Reply::Conntrack(ConntrackReply::Status(status)) = lab.ask(Request::Conntrack(ConntrackRequest::Status)) else { panic!() };
    assert_eq!((status.offenders.len(), &*status.offenders[0].addr, status.offenders[0].action), (1, GAMER, Answer::Limit));
    let Reply::Status(status) = lab.ask(Request::Status) else { panic!() };
    assert_eq!(status.conntrack.unwrap().limited, 1);
}

#[test]
fn nothing_is_wanted_twice() {
    let mut lab = Lab::new(SETTINGS);
    lab.flood(GAMER);
    let again = lab.tell(Event::Idle);
    assert!(kept(&again).is_empty(), "{again:?}");
}

#[test]
fn whoever_is_protected_is_named_and_let_be() {
    let mut lab = Lab::new(&format!("{SETTINGS}[allow]\nprefixes = [\"{GAMER}\"]\n"));
    let actions = lab.flood(GAMER);
    assert!(culprits(&actions).iter().all(|(_, action)| *action == Answer::Watch) && !culprits(&actions).is_empty());
    assert!(kept(&actions).iter().all(|wanted| wanted.limits.is_empty()));
    let mut lab = Lab::new(&format!("{SETTINGS}action = \"ban\"\n"));
    lab.tell(Event::Sessions([GAMER.parse().unwrap()].into()));
    let actions = lab.flood(GAMER);
    assert!(actions.iter().all(|action| !matches!(action, Action::Order { order, .. } if order.blocks_any())), "an administrator");
}

#[test]
fn a_flood_bans_through_the_one_table() {
    let mut lab = Lab::new(&format!("{SETTINGS}action = \"ban\"\nban_time = \"2h\"\n"));
    let actions = lab.flood(GAMER);
    assert_eq!(actions.iter().filter(|action| matches!(action, Action::Order { order, .. } if order.blocks_any())).count(), 1);
    let Reply::List { bans } = lab.ask(Request::List) else { panic!() };
    assert_eq!((bans.len(), &bans[0].origin, bans[0].key.prefix.to_string()), (1, &Origin::Flood, format!("{GAMER}/32")));
    assert_eq!(bans[0].until, Until::At(bans[0].since.plus(Span::secs(7200))));
    assert!(actions.iter().any(|action| matches!(action, Action::Tell(Notice { what: What::Ban { origin: Origin::Flood, .. }, .. }))));
}

#[test]
fn who_only_observes_tells_and_does_nothing() {
    let mut lab = Lab::with(&format!("{SETTINGS}action = \"ban\"\n"), Mode::Observe, Kept::default());
    let actions = lab.flood(GAMER);
    assert!(culprits(&actions).iter().all(|(_, action)| *action == Answer::Watch) && !culprits(&actions).is_empty());
    assert!(kept(&actions).iter().all(|wanted| wanted.limits.is_empty() && wanted.profile.is_none()));
    assert!(actions.iter().all(|action| !matches!(action, Action::Order { .. } | Action::Purge { .. } | Action::Forget { .. })));
    assert!(actions.iter().any(|action| matches!(action, Action::Tell(Notice { what: What::WouldBan { .. }, .. }))));
}

#[test]
fn states_of_a_lost_address_end_unless_it_comes_back() {
    let host = |addrs: &[&str]| Event::Host {
        own: addrs.iter().map(|addr| addr.parse().unwrap()).collect(),
        gateways: BTreeSet::new(),
        resolvers: BTreeSet::new(),
    };
    let forgotten = |actions: &[Action]| {
        let of = |action: &Action| if let Action::Forget { addrs } = action { addrs.clone() } else { Vec::new() };
        actions.iter().flat_map(of).map(|addr| addr.to_string()).collect::<Vec<_>>()
    };
    let mut lab = Lab::new("");
    lab.tell(host(&["192.0.2.1", "198.51.100.9", "127.0.0.1", "fe80::1"]));
    assert!(forgotten(&lab.tell(host(&["192.0.2.1"]))).is_empty(), "it may come back");
    lab.pass(9000);
    assert!(forgotten(&lab.tell(host(&["192.0.2.1", "198.51.100.9", "127.0.0.1", "fe80::1"]))).is_empty());
    lab.pass(60_000);
    assert!(forgotten(&lab.tell(Event::Idle)).is_empty(), "it came back");
    lab.tell(host(&["192.0.2.1"]));
    assert_eq!(lab.brain.next_deadline(lab.now), lab.now.tick.plus(Span::secs(10)));
    lab.pass(10_000);
    assert_eq!(forgotten(&lab.tell(Event::Idle)), ["198.51.100.9"], "what never leaves the link or the host has no states to end");
    let mut lab = Lab::new("[conntrack]\nfollow_addresses = false\n");
    lab.tell(host(&["192.0.2.1", "198.51.100.9"]));
    lab.tell(host(&["192.0.2.1"]));
    lab.pass(60_000);
    assert!(forgotten(&lab.tell(Event::Idle)).is_empty());
}

#[test]
fn the_history_is_kept_a_minute_a_grain() {
    let mut lab = Lab::new("");
    let actions = lab.table(GAMER, |second| second, 150);
    let points: Vec<_> = actions
        .iter()
        .flat_map(|action| if let Action::Keep(records) = action { records.clone() } else { Vec::new() })
        .filter_map(|record| if let Record::History(point) = record { Some(point) } else { None })
        .collect();
    assert!(points.len() >= 2 && points.iter().all(|point| point.grain == 60 && point.max == 65_536), "{points:?}");
    assert!(points.windows(2).all(|pair| pair[0].at < pair[1].at && pair[0].peak < pair[1].peak));
}
