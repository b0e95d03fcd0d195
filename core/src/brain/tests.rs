use super::*;
use crate::attack::{Attack, FULL_FAILURE, Sign};
use crate::bans::ban::Origin;
use crate::bans::wall::{Key, Report, Step};
use crate::control::{BanOutcome, Reply, Request, State, Whom};
use crate::event::KillCount;
use crate::net::Addr;
use crate::time::{Term, Until};

mod backlog;
mod feeds;
mod floods;
mod importing;
mod reporting;

const LIMITS: Limits = Limits { bans: 1_000_000, ports: true, timeouts: true, counters: true, lasting: false };

/// A brain with a clock of its own and a wall that does as it is told.
struct Lab {
    brain: Brain,
    now: Now,
    actions: Vec<Action>,
}

fn config(text: &str) -> Config {
    Config::read(&[("test.toml".to_owned(), text.to_owned())], &["sshd"]).unwrap()
}

fn key(text: &str) -> Key {
    Key::all(text.parse().unwrap())
}

impl Lab {
    fn new(text: &str) -> Self {
        Self::with(text, Mode::Enforce, Kept::default())
    }

    fn with(text: &str, mode: Mode, kept: Kept) -> Self {
        Self::on(LIMITS, text, mode, kept)
    }

    fn on(limits: Limits, text: &str, mode: Mode, kept: Kept) -> Self {
        let now = Now { stamp: Stamp(1_795_366_800_000), tick: Tick(1_000_000) };
        let mut brain = Brain::new(config(text), mode, "memory", limits, kept, now);
        let mut actions = Vec::new();
        brain.raise(&mut actions);
        let mut lab = Self { brain, now, actions: Vec::new() };
        for action in &actions {
            if let Action::Rebuild { ticket, .. } = action {
                lab.tell(Event::Rebuilt { ticket: *ticket, result: Ok(Report::default()) });
            }
        }
        lab.actions = actions;
        lab
    }

    fn pass(&mut self, ms: u64) {
        self.now.stamp = self.now.stamp.plus(Span::millis(ms));
        self.now.tick = self.now.tick.plus(Span::millis(ms));
    }

    /// What follows from an event, the wall's part left to the test.
    fn tell(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.brain.handle(event, self.now, &mut actions);
        actions
    }

    /// The same with a wall that does everything and ends two sockets each time.
    fn play(&mut self, event: Event) -> Vec<Action> {
        let mut all = Vec::new();
        let mut todo = self.tell(event);
        while !todo.is_empty() {
            let mut more = Vec::new();
            for action in &todo {
                match action {
                    Action::Order { ticket, order } => {
                        let sockets = 2 * order.kills(&Report::all_done(order.len())).len() as u64;
                        more.extend(self.tell(Event::Applied { ticket: *ticket, failed: Vec::new() }));
                        more.extend(self.tell(Event::Ended { ticket: *ticket, killed: KillCount { sockets, states: 0 }, error: None }));
                    }
                    Action::Rebuild { ticket, .. } => {
                        more.extend(self.tell(Event::Rebuilt { ticket: *ticket, result: Ok(Report::default()) }))
                    }
                    _ => {}
                }
            }
            all.append(&mut todo);
            todo = more;
        }
        all
    }

    fn fail(&mut self, addr: &str, times: usize) -> Vec<Action> {
        let signs = (0..times).map(|_| Sign::Attack(attack(addr))).collect::<Vec<_>>();
        let batch = Batch {
            source: "/var/log/auth.log".to_owned(),
            lines: times as u64,
            signs,
            position: Some("pos".to_owned()),
            ..Batch::default()
        };
        self.play(Event::Heard(batch))
    }

    fn ask(&mut self, request: Request) -> Reply {
        let actions = self.play(Event::Asked { id: 9, who: "uid 0".to_owned(), request });
        let answer = actions.into_iter().find_map(|a| if let Action::Answer { id: 9, reply } = a { Some(reply) } else { None });
        answer.expect("an answer")
    }

    fn ban(&mut self, prefix: &str, force: bool) -> BanOutcome {
        let request = Request::Ban {
            prefixes: vec![prefix.parse().unwrap()],
            term: Some(Term::For(Span::secs(60))),
            reason: String::new(),
            force,
            origin: Origin::Manual,
            asker: None,
        };
        let Reply::Bans { results, .. } = self.ask(request) else { panic!("not an answer to ban") };
        results[0].what.clone()
    }

    fn banned(&mut self, addr: &str) -> bool {
        let addr: Addr = addr.parse().unwrap();
        let Reply::Check { bans } = self.ask(Request::Check { addr }) else { panic!() };
        !bans.is_empty()
    }
}

fn asks_to_ban(prefix: &str) -> Request {
    let prefixes = vec![prefix.parse().unwrap()];
    Request::Ban { prefixes, term: None, reason: String::new(), force: false, origin: Origin::Manual, asker: None }
}

fn attack(addr: &str) -> Attack {
    Attack {
        addr: addr.parse().unwrap(),
        jail: "sshd".into(),
        signature: "sshd/failed-password".into(),
        service: "sshd".into(),
        score: FULL_FAILURE,
        at: None,
        user: None,
        line: "a line".to_owned(),
    }
}

fn steps(actions: &[Action]) -> Vec<Step> {
    actions.iter().flat_map(|a| if let Action::Order { order, .. } = a { order.steps() } else { Vec::new() }).collect()
}

fn kept(actions: &[Action]) -> Vec<&Vec<Record>> {
    actions.iter().filter_map(|a| if let Action::Keep(records) = a { Some(records) } else { None }).collect()
}

fn told(actions: &[Action]) -> Vec<&What> {
    actions.iter().filter_map(|a| if let Action::Tell(notice) = a { Some(&notice.what) } else { None }).collect()
}

#[test]
fn the_fifth_failure_is_ordered_kept_and_told() {
    let mut lab = Lab::new("");
    assert!(steps(&lab.fail("203.0.113.7", 4)).is_empty());
    let actions = lab.fail("203.0.113.7", 1);
    let until = Until::At(lab.now.stamp.plus(Span::secs(600)));
    assert_eq!(steps(&actions), [Step::Block(crate::bans::wall::Entry { key: key("203.0.113.7"), until })]);
    let what = told(&actions);
    let [What::Ban { killed: KillCount { sockets: 2, states: 0 }, offences: 1, origin: Origin::Jail(_), .. }] = what[..] else {
        panic!("{what:?}")
    };
    assert!(lab.banned("203.0.113.7") && !lab.banned("203.0.113.8"));
}

#[test]
fn a_position_is_kept_in_one_piece_with_what_its_lines_led_to() {
    let mut lab = Lab::new("");
    let actions = lab.fail("203.0.113.7", 5);
    let first = kept(&actions)[0];
    let kinds: Vec<&str> = first
        .iter()
        .map(|r| match r {
            Record::Failure { .. } => "failure",
            Record::Spent { .. } => "spent",
            Record::Sentence(_) => "sentence",
            Record::Ban(_) => "ban",
            Record::Position { .. } => "position",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["failure", "failure", "failure", "failure", "failure", "spent", "sentence", "ban", "position"]);
}

#[test]
fn lines_that_come_late_do_not_make_a_repeat_offender() {
    let mut lab = Lab::new("");
    lab.fail("203.0.113.7", 50);
    let Reply::List { bans } = lab.ask(Request::List) else { panic!() };
    assert_eq!((bans.len(), bans[0].offences), (1, 1));
}

#[test]
fn bans_end_by_themselves_when_their_time_has_come() {
    let mut lab = Lab::new("[jail.sshd]\nban_time = \"3s\"\n");
    lab.fail("203.0.113.7", 5);
    let deadline = lab.brain.next_deadline(lab.now);
    assert_eq!(deadline.since(lab.now.tick), Span::secs(3));
    lab.pass(3000);
    let actions = lab.play(Event::Idle);
    assert_eq!(steps(&actions), [Step::Release(key("203.0.113.7"))]);
    assert_eq!(told(&actions), [&What::Expired]);
    assert!(!lab.banned("203.0.113.7"));
}

#[test]
fn an_answer_waits_until_the_ban_stands_and_its_connections_are_ended() {
    let mut lab = Lab::new("");
    let request = asks_to_ban("203.0.113.7");
    let answered = |actions: &[Action]| actions.iter().any(|a| matches!(a, Action::Answer { .. }));
    let actions = lab.tell(Event::Asked { id: 1, who: "uid 0".to_owned(), request });
    assert!(!answered(&actions));
    let Some(ticket) = actions.iter().find_map(|a| if let Action::Order { ticket, .. } = a { Some(*ticket) } else { None }) else {
        panic!()
    };
    assert!(!answered(&lab.tell(Event::Applied { ticket, failed: Vec::new() })));
    let last = lab.tell(Event::Ended { ticket, killed: KillCount { sockets: 1, states: 7 }, error: None });
    assert!(
        last.iter().any(|a| matches!(a, Action::Answer { id: 1, reply: Reply::Bans { killed: KillCount { sockets: 1, states: 7 }, .. } }))
    );
}

#[test]
fn a_wall_that_refuses_is_a_problem_and_is_built_again() {
    let mut lab = Lab::new("");
    let request = asks_to_ban("203.0.113.7");
    let actions = lab.tell(Event::Asked { id: 1, who: String::new(), request });
    let Some(Action::Order { ticket, .. }) = actions.first() else { panic!("{actions:?}") };
    let failed = vec![(Some(key("203.0.113.7")), "no memory".to_owned())];
    lab.tell(Event::Applied { ticket: *ticket, failed });
    let last = lab.tell(Event::Ended { ticket: *ticket, killed: KillCount::default(), error: None });
    let Some(Action::Answer { reply: Reply::Bans { results, .. }, .. }) = last.iter().find(|a| matches!(a, Action::Answer { .. })) else {
        panic!()
    };
    assert!(matches!(&results[0].what, BanOutcome::Failed { error } if error.starts_with("no memory")));
    let Reply::Status(status) = lab.ask(Request::Status) else { panic!() };
    assert_eq!((status.state, status.problems[0].about.as_str()), (State::Degraded, "wall"));
    lab.pass(1000);
    let actions = lab.play(Event::Idle);
    let Some(Action::Rebuild { entries, .. }) = actions.iter().find(|a| matches!(a, Action::Rebuild { .. })) else { panic!() };
    assert_eq!(entries[0].key, key("203.0.113.7"));
    let Reply::Status(status) = lab.ask(Request::Status) else { panic!() };
    assert_eq!(status.state, State::Enforcing);
}

#[test]
fn drift_is_put_right_in_both_directions() {
    let mut lab = Lab::new("");
    lab.fail("203.0.113.7", 5);
    let seen = lab.now.tick;
    let keys = Some(vec![key("203.0.113.7"), key("203.0.113.99")]);
    let actions = lab.play(Event::Drifted { keys, what: "2 bans changed".to_owned(), seen });
    assert!(
        matches!(&steps(&actions)[..], [Step::Block(entry), Step::Release(gone)] if entry.key == key("203.0.113.7") && *gone == key("203.0.113.99"))
    );
    assert!(matches!(told(&actions)[..], [What::Drift { repaired: 2, .. }]));
    let actions = lab.play(Event::Drifted { keys: None, what: "the table is gone".to_owned(), seen });
    assert!(matches!(&actions[0], Action::Rebuild { entries, .. } if entries.len() == 1));
    let Reply::Status(status) = lab.ask(Request::Status) else { panic!() };
    assert_eq!(status.drift, 2);
}

#[test]
fn many_changed_bans_of_few_are_built_anew() {
    let mut lab = Lab::new("");
    let seen = lab.now.tick;
    let keys = |n: u32| Some((0..n).map(|host| key(&format!("2001:db8::{host:x}"))).collect());
    for prefix in ["192.0.2.1/32", "2001:db8::/64"] {
        lab.ban(prefix, false);
    }
    for (n, anew) in [(1, false), (999, false), (1000, true)] {
        let actions = lab.play(Event::Drifted { keys: keys(n), what: "bans changed".to_owned(), seen });
        assert_eq!(actions.iter().any(|action| matches!(action, Action::Rebuild { .. })), anew, "{n} changed");
    }
}

#[test]
fn a_clock_that_steps_ends_nothing_and_prolongs_nothing() {
    let mut lab = Lab::new("");
    lab.fail("203.0.113.7", 5);
    for days in [1i64, -1] {
        lab.now.stamp = lab.now.stamp.shifted(days * 86_400_000);
        let actions = lab.play(Event::Idle);
        assert!(steps(&actions).is_empty());
        assert!(kept(&actions)[0].contains(&Record::Shift(days * 86_400_000)));
        let Reply::List { bans } = lab.ask(Request::List) else { panic!() };
        assert_eq!(bans[0].until.left(lab.now.stamp), Some(Span::secs(600)));
    }
}

#[test]
fn a_clock_that_starts_in_the_past_releases_nobody_early() {
    let until = |now: Now| Until::At(now.stamp.plus(Span::secs(60)));
    let lab = Lab::new("");
    let ban = Ban {
        key: key("203.0.113.7"),
        since: lab.now.stamp,
        until: until(lab.now),
        origin: Origin::Manual,
        reason: String::new(),
        offences: 1,
    };
    let late = lab.now.stamp.plus(Span::secs(3600));
    let kept = Kept { bans: vec![Ban { until: Until::At(late.plus(Span::secs(60))), ..ban }], last_moment: Some(late), ..Kept::default() };
    let mut lab = Lab::with("", Mode::Enforce, kept);
    let Reply::List { bans } = lab.ask(Request::List) else { panic!() };
    assert_eq!(bans[0].until.left(lab.now.stamp), Some(Span::secs(60)));
}

#[test]
fn observing_tells_and_touches_nothing() {
    let mut lab = Lab::with("", Mode::Observe, Kept::default());
    let actions = lab.fail("203.0.113.7", 5);
    assert!(steps(&actions).is_empty());
    assert!(matches!(told(&actions)[..], [What::WouldBan { .. }]));
    let idle = |r: &Record| matches!(r, Record::Notice(_) | Record::Position { .. });
    assert!(kept(&actions).into_iter().flatten().all(idle));
}

#[test]
fn who_is_protected_is_not_banned_and_that_is_told_once() {
    let mut lab = Lab::new("[allow]\nprefixes = [\"198.51.100.0/24\"]\n");
    let actions = lab.fail("198.51.100.7", 500);
    assert!(steps(&actions).is_empty());
    assert!(matches!(told(&actions)[..], [What::Refused { .. }]));
    assert!(matches!(lab.ban("198.51.100.0/22", false), BanOutcome::Refused { .. }));
    assert!(matches!(lab.ban("198.51.100.7", true), BanOutcome::Banned { .. }));
    assert!(matches!(lab.ban("127.0.0.1", true), BanOutcome::Refused { .. }));
    assert!(matches!(lab.ban("0.0.0.0/0", true), BanOutcome::Refused { .. }));
}

#[test]
fn a_new_member_lifts_the_bans_within_it_and_the_wall_is_told() {
    let mut lab = Lab::new("");
    lab.fail("203.0.113.7", 5);
    let request =
        Request::AllowAdd { prefixes: vec!["203.0.113.0/24".parse().unwrap()], term: Term::Forever, comment: "office".to_owned() };
    let Reply::Allowed { lifted, .. } = lab.ask(request) else { panic!() };
    assert_eq!(lifted[0].key, key("203.0.113.7"));
    assert!(!lab.banned("203.0.113.7"));
    let own = ["192.0.2.1".parse().unwrap()].into();
    let actions = lab.play(Event::Host { own, gateways: Default::default(), resolvers: Default::default() });
    let [Step::Frame(frame)] = &steps(&actions)[..] else { panic!() };
    assert!(frame.allow.contains(&"192.0.2.1".parse().unwrap()) && frame.allow.contains(&"203.0.113.0/24".parse().unwrap()));
}

#[test]
fn what_the_config_protects_is_lifted_at_the_start() {
    let now = Lab::new("").now;
    let ban = Ban {
        key: key("198.51.100.7"),
        since: now.stamp,
        until: Until::Forever,
        origin: Origin::Manual,
        reason: String::new(),
        offences: 1,
    };
    let mut lab = Lab::with("[allow]\nprefixes = [\"198.51.100.0/24\"]\n", Mode::Enforce, Kept { bans: vec![ban], ..Kept::default() });
    assert!(
        matches!(lab.actions.iter().find(|a| matches!(a, Action::Rebuild { .. })), Some(Action::Rebuild { entries, .. }) if entries.is_empty())
    );
    assert!(!lab.banned("198.51.100.7"));
}

#[test]
fn unbanning_a_part_says_what_still_covers_it() {
    let mut lab = Lab::new("");
    lab.ban("203.0.113.0/24", false);
    lab.ban("203.0.113.7", false);
    let whom = |text: &str| Whom::Prefixes(vec![text.parse().unwrap()]);
    let Reply::Unbans { removed, missing, still, .. } = lab.ask(Request::Unban { whom: whom("203.0.113.7") }) else { panic!() };
    assert_eq!((removed.len(), missing.len(), still[0].key.prefix.to_string().as_str()), (1, 0, "203.0.113.0/24"));
    let Reply::Unbans { removed, missing, still, .. } = lab.ask(Request::Unban { whom: whom("203.0.113.8") }) else { panic!() };
    assert_eq!((removed.len(), missing.len(), still.len()), (0, 1, 1));
    assert!(lab.banned("203.0.113.7"));
    let Reply::Unbans { removed, .. } = lab.ask(Request::Unban { whom: Whom::All }) else { panic!() };
    assert_eq!(removed.len(), 1);
    assert!(!lab.banned("203.0.113.7"));
}

#[test]
fn enough_banned_neighbours_ban_the_neighbourhood() {
    let mut lab = Lab::new("[ban]\nspread = { ipv4 = 24, hosts = 3 }\n");
    lab.fail("203.0.113.1", 5);
    lab.fail("203.0.113.2", 5);
    assert!(!lab.banned("203.0.113.99"));
    lab.fail("203.0.113.3", 5);
    assert!(lab.banned("203.0.113.99"));
}

#[test]
fn a_store_that_lost_everything_is_told_everything() {
    let mut lab = Lab::new("");
    lab.ban("203.0.113.7", false);
    let actions = lab.play(Event::Forgotten);
    assert!(kept(&actions)[0].iter().any(|r| matches!(r, Record::Ban(ban) if ban.key == key("203.0.113.7"))));
}

#[test]
fn a_wall_that_was_taken_down_says_so_and_comes_back_whole() {
    let mut lab = Lab::new("");
    lab.ban("203.0.113.7", false);
    let actions = lab.play(Event::Asked { id: 1, who: String::new(), request: Request::Flush });
    assert!(actions.contains(&Action::TakeDown { id: 1 }));
    let Reply::Status(status) = lab.ask(Request::Status) else { panic!() };
    assert_eq!(status.state, State::Degraded);
    let own = ["192.0.2.1".parse().unwrap()].into();
    assert!(
        steps(&lab.play(Event::Host { own, gateways: Default::default(), resolvers: Default::default() })).is_empty(),
        "nothing is put up piecemeal"
    );
    let request = asks_to_ban("203.0.113.8");
    let actions = lab.play(Event::Asked { id: 2, who: String::new(), request });
    let at = |wanted: fn(&Action) -> bool| actions.iter().position(wanted).unwrap();
    assert!(at(|a| matches!(a, Action::Rebuild { entries, .. } if entries.len() == 2)) < at(|a| matches!(a, Action::Order { .. })));
    let Reply::Status(status) = lab.ask(Request::Status) else { panic!() };
    assert_eq!(status.state, State::Enforcing);
    lab.play(Event::Asked { id: 3, who: String::new(), request: Request::Flush });
    assert_eq!(lab.ask(Request::Restore), Reply::Restored { bans: 2 });
}

#[test]
fn a_new_config_decides_anew_whom_the_host_protects() {
    let mut lab = Lab::new("[allow]\nauto = [\"loopback\"]\n");
    lab.play(Event::Host { own: ["192.0.2.1".parse().unwrap()].into(), gateways: Default::default(), resolvers: Default::default() });
    let new = |auto: &str| Event::Configured(Box::new(config(&format!("[allow]\nauto = [{auto}]\n"))));
    lab.play(new("\"loopback\", \"self\""));
    assert!(matches!(lab.ban("192.0.2.1", false), BanOutcome::Refused { .. }));
    lab.play(new("\"loopback\""));
    assert!(matches!(lab.ban("192.0.2.1", false), BanOutcome::Banned { .. }));
}

#[test]
fn an_observer_changes_nothing_and_says_so() {
    let mut lab = Lab::with("", Mode::Observe, Kept::default());
    for request in [Request::Flush, Request::Unban { whom: Whom::All }, Request::Kill { prefixes: Vec::new() }] {
        assert!(matches!(lab.ask(request), Reply::Failed { exit: 1, .. }));
    }
}

#[test]
fn failures_that_go_on_do_not_put_the_repair_off() {
    let mut lab = Lab::new("");
    let fail = |lab: &mut Lab| {
        let request = asks_to_ban("203.0.113.7");
        let actions = lab.tell(Event::Asked { id: 1, who: String::new(), request });
        let ticket = actions.iter().find_map(|a| if let Action::Order { ticket, .. } = a { Some(*ticket) } else { None }).unwrap();
        lab.tell(Event::Applied { ticket, failed: vec![(None, "no".to_owned())] });
    };
    for _ in 0..9 {
        fail(&mut lab);
        lab.pass(100);
    }
    lab.pass(100);
    assert!(lab.tell(Event::Idle).iter().any(|a| matches!(a, Action::Rebuild { .. })));
}

#[test]
fn a_firewall_without_ports_shuts_out_of_all_of_them_and_says_so() {
    let text = "[jail.sshd]\nmax_retry = 2\nports = [\"ssh\"]\n";
    let limited = Ban {
        key: Key { ports: Ports::only([25]).unwrap(), ..key("192.0.2.9") },
        since: Stamp(1_795_366_700_000),
        until: Until::Forever,
        origin: Origin::Jail("mail".into()),
        reason: String::new(),
        offences: 1,
    };
    let before = Kept { bans: vec![limited.clone()], ..Kept::default() };
    let mut lab = Lab::on(Limits { ports: false, ..LIMITS }, text, Mode::Enforce, before);
    let changed = |record: &Record| {
        *record == Record::Unban(limited.key.clone()) || matches!(record, Record::Ban(ban) if ban.key == key("192.0.2.9"))
    };
    assert_eq!(kept(&lab.actions).into_iter().flatten().filter(|record| changed(record)).count(), 2, "{:?}", lab.actions);
    assert!(told(&lab.actions).iter().any(|what| matches!(what, What::Daemon { what } if what.contains("knows no ports"))));
    let actions = lab.fail("203.0.113.5", 2);
    assert!(steps(&actions).iter().any(|step| matches!(step, Step::Block(entry) if entry.key == key("203.0.113.5"))), "{actions:?}");
    // With one that knows them, all stays as it was.
    let mut lab = Lab::new(text);
    let actions = lab.fail("203.0.113.5", 2);
    assert!(steps(&actions).iter().any(|step| matches!(step, Step::Block(entry) if entry.key.ports == Ports::only([22]).unwrap())));
}

#[test]
fn where_open_connections_go_on_past_a_ban_a_wall_built_anew_ends_them() {
    for lasting in [true, false] {
        let mut lab = Lab::on(Limits { lasting, ..LIMITS }, "", Mode::Enforce, Kept::default());
        lab.ban("203.0.113.5", false);
        let actions = lab.play(Event::Drifted { keys: None, what: "flushed".to_owned(), seen: lab.now.tick });
        let rebuilt = actions.iter().position(|action| matches!(action, Action::Rebuild { .. })).unwrap();
        let ended = actions.iter().position(
            |action| matches!(action, Action::Kill { targets, .. } if *targets == [("203.0.113.5/32".parse().unwrap(), Ports::All)]),
        );
        assert_eq!(ended.is_some(), lasting, "{actions:?}");
        assert!(ended.is_none_or(|at| at > rebuilt), "ended before the wall stands");
    }
}

#[test]
fn a_fight_with_another_program_is_told_once_and_is_over_when_it_is() {
    let mut lab = Lab::new("");
    let mut problems = 0;
    for _ in 0..30 {
        lab.pass(1000);
        let actions = lab.play(Event::Drifted { keys: None, what: "flushed".to_owned(), seen: lab.now.tick });
        problems += told(&actions).iter().filter(|what| matches!(what, What::Problem { about, .. } if about == "contested wall")).count();
    }
    assert_eq!(problems, 1);
    lab.pass(120_000);
    let actions = lab.play(Event::Idle);
    assert!(told(&actions).iter().any(|what| matches!(what, What::Solved { about } if about == "contested wall")), "{actions:?}");
}

#[test]
fn an_input_that_stays_behind_is_a_problem_until_it_has_caught_up() {
    let mut lab = Lab::new("");
    let problems = |lab: &Lab| lab.brain.problems.keys().cloned().collect::<Vec<_>>();
    let behind = |lab: &mut Lab, bytes, secs| {
        lab.tell(Event::Behind { source: "/log".to_owned(), bytes, since: Span::secs(secs) });
    };
    let source = |lab: &Lab| lab.brain.sources.get("/log").map(|s| (s.behind_bytes, s.behind_ms)).unwrap();
    // A large backlog, and one that is small but old: each is waited for a minute.
    for (bytes, secs) in [(100 << 20, 1), (1, 31)] {
        behind(&mut lab, bytes, secs);
        assert_eq!(source(&lab), (bytes, secs * 1000));
        lab.pass(59_000);
        behind(&mut lab, bytes, secs);
        assert!(problems(&lab).is_empty());
        lab.pass(1000);
        behind(&mut lab, bytes, secs);
        assert_eq!(problems(&lab), ["reading /log"]);
        behind(&mut lab, 0, 0);
        assert!(problems(&lab).is_empty());
        assert_eq!(source(&lab), (0, 0));
    }
    // Caught up in between: the minute begins anew.
    behind(&mut lab, 100 << 20, 1);
    lab.pass(50_000);
    behind(&mut lab, 1000, 1);
    lab.pass(20_000);
    behind(&mut lab, 100 << 20, 1);
    assert!(problems(&lab).is_empty());
    lab.pass(60_000);
    behind(&mut lab, 100 << 20, 1);
    assert_eq!(problems(&lab).len(), 1);
    // Another config may not read it at all.
    lab.tell(Event::Configured(Box::new(config(""))));
    assert!(problems(&lab).is_empty());
}
