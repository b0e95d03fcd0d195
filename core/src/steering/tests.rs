//! The steering on a kernel small enough to see through, with a disk that may fail.

use std::collections::BTreeMap;

use super::journal::Journal;
use super::*;
use crate::control::route::{PlanReply, RouteReply, RouteRequest, RouteStatus};
use crate::net::Addr;
use crate::route::explain::{End, explain};
use crate::route::lookup::{Answer, Question};
use crate::route::plan::simulated;
use crate::route::plan::{Failure, Report, Step};
use crate::route::wanted::Marks;
use crate::route::wanted::made::{addr, address, dhcp_default, prefix, world};
use crate::route::{Action as Does, Priority, Protocol, Rule, Selector, TableId};

const TUNNELS: &str = r#"
[uplink.net0]
interface = "net0"
table = "main"
source = ["2001::1"]
[uplink.sixxs0]
interface = "sixxs0"
table = { name = "sixxs0", id = 200 }
source = ["2a02::1"]
[uplink.sixxs1]
interface = "sixxs1"
table = { name = "sixxs1", id = 201 }
source = ["2a02::2"]
"#;

const PROVIDERS: &str = r#"
[uplink.fibre]
interface = "wan1"
gateway4 = "198.51.100.1"
source = ["198.51.100.2"]
track = { targets = ["192.0.2.1"], interval = "1s", timeout = "500ms", down = 3, up = 2 }
[uplink.lte]
interface = "wwan0"
gateway4 = "dhcp"
source = "auto"
track = { targets = ["192.0.2.1"], interval = "1s", timeout = "500ms", down = 3, up = 2 }
[policy.default]
members = [{ uplink = "fibre", tier = 1 }, { uplink = "lte", tier = 2 }]
on_failback = { purge = "none", after = "10s" }
[routing]
rp_filter = "set"
"#;

struct Lab {
    steering: Steering,
    world: World,
    marks: Option<Marks>,
    switches: BTreeMap<String, String>,
    now: Now,
    disk: Journal,
    disk_full: bool,
    unreadable: bool,
    answers: Vec<(u64, Answered)>,
    told: Vec<String>,
    troubles: BTreeMap<String, String>,
    /// Everything that left, in its order.
    log: Vec<Action>,
    /// Which uplinks answer.
    echoes: Vec<&'static str>,
    /// Steps the kernel refuses for now.
    refuse: Option<Failure>,
}

fn tunnels_world() -> World {
    let addresses = vec![address(2, "2001::1", "2001::/64"), address(3, "2a02::1", "2a02::1/128"), address(4, "2a02::2", "2a02::2/128")];
    let mut default = dhcp_default(2, "192.0.2.1");
    (default.to, default.hops[0].gateway, default.metric) = (prefix("::/0"), Some(addr("2001::ff")), 1024);
    let mut world = world(&[(2, "net0"), (3, "sixxs0"), (4, "sixxs1")], addresses);
    world.routes.push(default);
    let kernels =
        |priority, table| Rule::new(crate::net::Family::V6, Priority(priority), Selector::default(), Does::Lookup(table), Protocol::KERNEL);
    world.rules = vec![kernels(0, TableId::LOCAL), kernels(32_766, TableId::MAIN)];
    world
}

fn providers_world() -> World {
    let addresses = vec![address(3, "198.51.100.2", "198.51.100.0/24"), address(4, "203.0.113.9", "203.0.113.0/24")];
    World { routes: vec![dhcp_default(4, "203.0.113.1")], ..world(&[(3, "wan1"), (4, "wwan0")], addresses) }
}

impl Lab {
    fn new(world: World) -> Self {
        let now = Now { stamp: Stamp(1_000_000_000), tick: Tick(1_000_000) };
        let mut lab = Self {
            steering: Steering::new(Journal::default(), "boot-1", false, now),
            world,
            marks: None,
            switches: BTreeMap::from([("net/ipv4/conf/all/src_valid_mark".to_owned(), "0".to_owned())]),
            now,
            disk: Journal::default(),
            disk_full: false,
            unreadable: false,
            answers: Vec::new(),
            told: Vec::new(),
            troubles: BTreeMap::new(),
            log: Vec::new(),
            echoes: Vec::new(),
            refuse: None,
        };
        lab.drive(Event::Idle);
        lab
    }

    /// The daemon is killed and comes back, perhaps after a reboot.
    fn restart(&mut self, boot: &str) {
        self.steering = Steering::new(self.disk.clone(), boot, false, self.now);
        self.drive(Event::Idle);
    }

    fn drive(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Vec::new();
            self.steering.handle(event, self.now, &mut actions);
            for action in actions {
                self.log.push(action.clone());
                match self.act(action) {
                    Ok(more) => events.extend(more),
                    Err(error) => {
                        events.push_front(Event::NotKept(error));
                        break;
                    }
                }
            }
        }
    }

    fn act(&mut self, action: Action) -> Result<Option<Event>, String> {
        Ok(match action {
            Action::Look(_) if self.unreadable => Some(Event::Blind("it kept changing".to_owned())),
            Action::Look(_) => Some(Event::Found(Box::new(self.world.clone()))),
            Action::Compare { marks, switches } => {
                let held = |path: String| self.switches.get(&path).cloned().map(|value| (path, value));
                Some(Event::Compared { marks: marks == self.marks, switches: switches.into_iter().filter_map(held).collect() })
            }
            Action::Apply(steps) => Some(Event::Applied(self.apply(&steps))),
            Action::Keep(_) if self.disk_full => return Err("no space left on device".to_owned()),
            Action::Keep(journal) => {
                self.disk = *journal;
                None
            }
            Action::Ask(questions) => Some(Event::Ways(questions.iter().map(|question| self.way(question)).collect())),
            Action::Probe(Probe { uplink, to, seq, .. }) => {
                self.echoes.contains(&&*uplink).then_some(Event::Echo { uplink, target: to, seq })
            }
            Action::Answer { id, reply } => {
                self.answers.push((id, reply));
                None
            }
            Action::Tell(what) => {
                self.told.push(what);
                None
            }
            Action::Trouble { about, what: Some(what) } => {
                self.troubles.insert(about, what);
                None
            }
            Action::Trouble { about, what: None } => {
                self.troubles.remove(&about);
                None
            }
            Action::Names { .. } | Action::Unprobe(_) | Action::Purge { .. } => None,
        })
    }

    fn apply(&mut self, steps: &[Step]) -> Report {
        let mut report = Report::default();
        for (at, step) in steps.iter().enumerate() {
            if let (Some(failure), Step::AddRoute(_)) = (&self.refuse, step) {
                report.failed.push((at, failure.clone()));
                continue;
            }
            match step {
                Step::Marks(marks) => self.marks.clone_from(marks),
                Step::Sysctl(switch) => drop(self.switches.insert(switch.path.clone(), switch.value.clone())),
                step => simulated::apply(&mut self.world, step).unwrap(),
            }
            report.done += 1;
        }
        report
    }

    fn way(&self, question: &Question) -> Answer {
        match explain(&self.world, question).end {
            End::Route(route) => Answer::Route(route),
            _ => Answer::NoWay(101),
        }
    }

    fn ask(&mut self, request: RouteRequest) -> Answered {
        self.drive(Event::Asked { id: 7, request });
        let (id, reply) = self.answers.pop().unwrap();
        assert_eq!((id, self.answers.len()), (7, 0));
        reply
    }

    fn plan(&mut self, request: RouteRequest) -> PlanReply {
        match self.ask(request).unwrap() {
            RouteReply::Plan(plan) => plan,
            other => panic!("{other:?}"),
        }
    }

    fn status(&mut self) -> RouteStatus {
        match self.ask(RouteRequest::Status).unwrap() {
            RouteReply::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Time goes by, deadline by deadline.
    fn wait(&mut self, span: Span) {
        let until = self.now.tick.plus(span);
        while self.now.tick < until {
            let next = self.steering.next_deadline().max(Tick(self.now.tick.0 + 1)).min(until);
            let step = next.since(self.now.tick);
            self.now = Now { stamp: self.now.stamp.plus(step), tick: next };
            self.drive(Event::Idle);
        }
    }

    fn ours(&self) -> usize {
        let rules = self.world.rules.iter().filter(|rule| rule.protocol == Protocol::OURS).count();
        rules + self.world.routes.iter().filter(|route| route.protocol == Protocol::OURS).count()
    }

    /// Somebody else removes a rule, and the kernel tells of it.
    fn remove_rule(&mut self, priority: u32) {
        let Some(at) = self.world.rules.iter().position(|rule| rule.priority == Priority(priority)) else { return };
        let rule = self.world.rules.remove(at);
        self.drive(Event::Changed(Changes { rules: vec![rule], ..Changes::default() }));
    }
}

fn apply(text: &str) -> RouteRequest {
    RouteRequest::Apply { text: text.to_owned(), confirm: None, peer: None }
}

fn try_out(text: &str, peer: Option<(Addr, Addr)>) -> RouteRequest {
    RouteRequest::Apply { text: text.to_owned(), confirm: Some(Span::secs(60)), peer }
}

#[test]
fn what_is_applied_stands_and_what_is_released_is_gone() {
    let mut lab = Lab::new(tunnels_world());
    let before = lab.world.clone();
    let plan = lab.plan(RouteRequest::Plan { text: TUNNELS.to_owned() });
    assert_eq!((plan.changes(), lab.world == before, lab.disk == Journal::default()), (13, true, true), "planning changes nothing");
    assert_eq!(lab.plan(apply(TUNNELS)).changes(), 13);
    assert_eq!((lab.ours(), lab.status().missing), (12, 0));
    assert_eq!(lab.plan(RouteRequest::Plan { text: TUNNELS.to_owned() }).changes(), 0);
    assert_eq!(lab.plan(apply(TUNNELS)).changes(), 0);
    lab.restart("boot-1");
    assert_eq!(lab.ours(), 12);
    let _ = lab.plan(RouteRequest::Release);
    assert_eq!((lab.world == before, lab.marks.is_none()), (true, true));
    lab.restart("boot-1");
    assert_eq!(lab.ours(), 0, "released is released, also for the next daemon");
    let _ = lab.plan(RouteRequest::Revert);
    assert_eq!(lab.ours(), 12, "there is a way back from a release too");
}

#[test]
fn a_set_that_another_replaces_leaves_nothing() {
    let mut lab = Lab::new(tunnels_world());
    let before = lab.world.clone();
    let _ = lab.plan(apply(TUNNELS));
    let moved = TUNNELS.replace("id = 200", "id = 300").replace("id = 201", "id = 301");
    let _ = lab.plan(apply(&moved));
    assert!(lab.world.routes.iter().all(|route| !matches!(route.table, TableId(200 | 201))));
    assert_eq!(lab.ours(), 12);
    let _ = lab.plan(apply(&format!("{moved}\n[routing]\npriority_base = 9000\nprotocol = 81\n")));
    assert_eq!(lab.ours(), 0, "all of it has the new number now");
    let _ = lab.plan(RouteRequest::Release);
    assert_eq!(lab.world, before);
}

#[test]
fn a_trial_ends_by_itself_or_is_confirmed() {
    let mut lab = Lab::new(tunnels_world());
    let before = lab.world.clone();
    let plan = lab.plan(try_out(TUNNELS, None));
    assert_eq!((plan.confirm_within, lab.ours()), (Some(Span::secs(60)), 12));
    lab.wait(Span::secs(59));
    assert_eq!((lab.ours(), lab.status().state.as_str()), (12, "trial"));
    lab.wait(Span::secs(2));
    assert_eq!((lab.world == before, lab.status().state.as_str()), (true, "none"));
    assert!(lab.told.iter().any(|what| what.contains("not confirmed in time")));
    assert_eq!(lab.ask(RouteRequest::Confirm).unwrap_err().0, 1);

    let _ = lab.plan(try_out(TUNNELS, None));
    let _ = lab.plan(RouteRequest::Confirm);
    lab.wait(Span::secs(120));
    assert_eq!((lab.ours(), lab.status().state.as_str()), (12, "applied"));
    let _ = lab.plan(RouteRequest::Revert);
    assert_eq!(lab.world, before);
    assert_eq!(lab.ask(RouteRequest::Revert).unwrap_err().0, 1);
}

#[test]
fn a_trial_outlives_the_daemon_and_ends_with_its_boot() {
    let mut lab = Lab::new(tunnels_world());
    let before = lab.world.clone();
    let _ = lab.plan(try_out(TUNNELS, None));
    lab.restart("boot-1");
    assert_eq!((lab.ours(), lab.status().state.as_str()), (12, "trial"));
    lab.wait(Span::secs(61));
    assert_eq!(lab.world, before);
    // Nobody was there when it ended.
    let _ = lab.plan(try_out(TUNNELS, None));
    lab.now.tick = lab.now.tick.plus(Span::secs(61));
    lab.restart("boot-1");
    assert_eq!(lab.world, before);
    // A reboot takes rules and routes along; what was confirmed comes back, what was on trial does not.
    let _ = lab.plan(apply(TUNNELS));
    let _ = lab.plan(try_out("[uplink.sixxs1]\ninterface = \"sixxs1\"\ntable = 201\nsource = [\"2a02::2\"]\n", None));
    assert_eq!(lab.ours(), 6);
    lab.world = before;
    lab.now.tick = Tick(5);
    lab.restart("boot-2");
    assert_eq!((lab.ours(), lab.status().state.as_str()), (12, "applied"));
}

#[test]
fn what_cannot_be_written_down_is_not_done() {
    let mut lab = Lab::new(tunnels_world());
    let before = lab.world.clone();
    lab.disk_full = true;
    let (exit, message) = lab.ask(apply(TUNNELS)).unwrap_err();
    assert!(exit == 6 && message.contains("nothing was changed"), "{message}");
    assert_eq!((lab.world == before, lab.status().state.as_str()), (true, "none"));
    assert!(lab.troubles.contains_key("routing journal"));
    lab.disk_full = false;
    let _ = lab.plan(try_out(TUNNELS, None));
    // A trial that ends while the disk is full is taken back all the same.
    lab.disk_full = true;
    lab.wait(Span::secs(61));
    assert_eq!(lab.world, before);
}

#[test]
fn who_would_be_cut_off_is_not() {
    let mut lab = Lab::new(tunnels_world());
    let before = lab.world.clone();
    let wrong = format!("{TUNNELS}\n[[rule]]\nfrom = \"2001::1\"\nlookup = \"sixxs0\"\n");
    let session = Some((addr("2001:db8:1::1"), addr("2001::1")));
    let (exit, why) = lab.ask(try_out(&wrong, session)).unwrap_err();
    assert!(exit == 5 && why.contains("taken back"), "{why}");
    assert_eq!(lab.world, before, "taken back at once");
    assert!(lab.told.iter().any(|what| what.contains("2001:db8:1::1 would be reached by another way")), "{:?}", lab.told);
    let _ = lab.plan(try_out(TUNNELS, session));
    assert_eq!(lab.ours(), 12);
    // Who must answer and does not.
    let _ = lab.plan(RouteRequest::Confirm);
    let silent = format!("{TUNNELS}\n[routing]\ncontrol_peers = [\"2001:db8:1::7\"]\n");
    lab.echoes = vec![""];
    let _ = lab.plan(try_out(&silent, None));
    lab.wait(Span::secs(20));
    assert_eq!(lab.status().state, "trial");
    lab.echoes.clear();
    lab.wait(Span::secs(20));
    assert_eq!(lab.status().state, "applied", "taken back before its time");
}

#[test]
fn what_others_remove_is_put_back_with_patience() {
    let mut lab = Lab::new(tunnels_world());
    let _ = lab.plan(apply(TUNNELS));
    lab.remove_rule(4200);
    assert_eq!(lab.ours(), 11, "not while it may go on being removed");
    lab.wait(Span::millis(300));
    assert_eq!((lab.ours(), lab.status().healed), (12, 1));
    // Again and again: it is put back more and more seldom, and told once.
    let mut alerts = 0;
    for _ in 0..100 {
        let knew = lab.status().contested.is_some();
        lab.remove_rule(4200);
        lab.wait(Span::millis(500));
        alerts += usize::from(!knew && lab.status().contested.is_some());
    }
    assert_eq!(alerts, 1);
    assert!(lab.troubles["routing"].contains("4200: from 2a02::1 lookup sixxs0"), "{:?}", lab.troubles);
    assert!(lab.status().healed < 30, "{}", lab.status().healed);
    lab.wait(Span::secs(120));
    assert_eq!((lab.ours(), lab.status().contested, lab.troubles.len()), (12, None, 0), "and that it is over");
}

#[test]
fn an_uplink_that_fails_is_left_and_only_its_connections_end() {
    let mut lab = Lab::new(providers_world());
    lab.echoes = vec!["fibre", "lte"];
    let _ = lab.plan(apply(PROVIDERS));
    lab.wait(Span::secs(5));
    let uses = |lab: &mut Lab| lab.status().policies[0].uses.clone();
    assert_eq!(uses(&mut lab), ["fibre"]);
    lab.log.clear();
    lab.echoes = vec!["lte"];
    lab.wait(Span::secs(5));
    assert_eq!(uses(&mut lab), ["lte"]);
    let purged = |lab: &Lab| -> Vec<String> {
        lab.log
            .iter()
            .filter_map(|action| if let Action::Purge { uplink, .. } = action { Some(uplink.to_string()) } else { None })
            .collect()
    };
    assert_eq!(purged(&lab), ["fibre"]);
    let applied = lab.log.iter().rposition(|action| matches!(action, Action::Apply(_))).unwrap();
    let ended = lab.log.iter().position(|action| matches!(action, Action::Purge { .. })).unwrap();
    assert!(applied < ended, "first the new way, then the end of the old one's connections");
    // Both fail: more likely whom we ask.
    lab.echoes.clear();
    lab.wait(Span::secs(10));
    assert_eq!(uses(&mut lab), ["lte"]);
    lab.echoes = vec!["fibre", "lte"];
    lab.wait(Span::secs(5));
    assert_eq!(uses(&mut lab), ["lte"], "not before it has been up for a while");
    lab.wait(Span::secs(15));
    assert_eq!(uses(&mut lab), ["fibre"]);
    assert_eq!(purged(&lab), ["fibre"], "the config says that nothing ends on the way back");
}

#[test]
fn probes_that_nobody_answers_get_a_new_socket() {
    let mut lab = Lab::new(providers_world());
    lab.echoes = vec!["fibre"];
    let _ = lab.plan(apply(PROVIDERS));
    lab.wait(Span::secs(10));
    let anew = |name: &str| lab.log.iter().filter(|action| matches!(action, Action::Unprobe(uplink) if &**uplink == name)).count();
    assert!(anew("lte") >= 3 && anew("fibre") == 0, "{} {}", anew("lte"), anew("fibre"));
}

#[test]
fn switches_are_put_back_as_they_were() {
    let mut lab = Lab::new(providers_world());
    let _ = lab.plan(apply(PROVIDERS));
    let valid = "net/ipv4/conf/all/src_valid_mark";
    assert_eq!((lab.switches[valid].as_str(), lab.disk.switches[valid].as_str()), ("1", "0"));
    lab.restart("boot-1");
    let _ = lab.plan(RouteRequest::Release);
    assert_eq!((lab.switches[valid].as_str(), lab.disk.switches.len()), ("0", 0));
}

#[test]
fn what_the_kernel_refuses_for_now_is_tried_again() {
    let mut lab = Lab::new(tunnels_world());
    lab.refuse = Some(Failure { error: "the interface is down".to_owned(), passing: true });
    let _ = lab.plan(apply(TUNNELS));
    assert_eq!(lab.ours(), 8, "the rules stand");
    lab.refuse = None;
    lab.wait(Span::secs(40));
    assert_eq!((lab.ours(), lab.status().missing), (12, 0));
}

#[test]
fn who_only_observes_changes_nothing() {
    let mut lab = Lab::new(tunnels_world());
    lab.steering = Steering::new(Journal::default(), "boot-1", true, lab.now);
    let before = lab.world.clone();
    assert_eq!(lab.ask(apply(TUNNELS)).unwrap_err().0, 5);
    lab.wait(Span::secs(120));
    assert_eq!(lab.world, before);
}

#[test]
fn a_trial_is_neither_a_moment_nor_a_day_and_nonsense_is_told() {
    let mut lab = Lab::new(tunnels_world());
    for span in [Span::secs(1), Span::secs(86_400)] {
        let request = RouteRequest::Apply { text: TUNNELS.to_owned(), confirm: Some(span), peer: None };
        assert_eq!(lab.ask(request).unwrap_err().0, 2);
    }
    assert_eq!(lab.ask(apply("[uplink.x]\ninterfac = 1\n")).unwrap_err().0, 4);
    assert_eq!(lab.ours(), 0);
}

#[test]
fn whoever_is_killed_between_journal_and_kernel_leaves_nothing_behind() {
    let mut lab = Lab::new(tunnels_world());
    let before = lab.world.clone();
    let far = format!("{TUNNELS}\n[[rule]]\npriority = 50\nfrom = \"2001:db8:7::/64\"\nlookup = \"sixxs0\"\n");
    let _ = lab.plan(try_out(&far, None));
    assert!(lab.world.rules.iter().any(|rule| rule.priority == Priority(50)));
    // The trial lapses: the journal is written, and then the daemon is killed.
    let mut journal = lab.disk.clone();
    assert!(journal.go_back());
    lab.disk = journal;
    lab.restart("boot-1");
    assert_eq!((&lab.world, lab.disk.leaving.len()), (&before, 0));
}

#[test]
fn a_kernel_that_cannot_be_read_is_asked_seldom() {
    let mut lab = Lab::new(providers_world());
    lab.echoes = vec!["fibre", "lte"];
    let _ = lab.plan(apply(PROVIDERS));
    lab.wait(Span::secs(5));
    lab.unreadable = true;
    lab.echoes.clear();
    lab.log.clear();
    lab.wait(Span::secs(60));
    let looks = lab.log.iter().filter(|action| matches!(action, Action::Look(_))).count();
    assert!((2..20).contains(&looks), "{looks}");
    lab.unreadable = false;
    lab.wait(Span::secs(60));
    assert_eq!(lab.status().missing, 0);
}

#[test]
fn a_disk_that_fills_up_later_undoes_nothing() {
    let mut lab = Lab::new(providers_world());
    let _ = lab.plan(apply(PROVIDERS));
    let ours = lab.ours();
    lab.disk_full = true;
    lab.switches.insert("net/ipv4/conf/all/src_valid_mark".to_owned(), "0".to_owned());
    lab.wait(Span::secs(120));
    assert_eq!((lab.ours(), lab.status().state.as_str()), (ours, "applied"));
}

#[test]
fn what_is_on_trial_does_not_outlive_a_daemon_that_is_stopped() {
    let mut lab = Lab::new(tunnels_world());
    let before = lab.world.clone();
    let _ = lab.plan(try_out(TUNNELS, None));
    lab.drive(Event::Stop);
    assert_eq!((&lab.world, lab.disk.trial.is_none()), (&before, true));
}

#[test]
fn an_uplink_whose_mark_is_another_gets_new_sockets() {
    let mut lab = Lab::new(providers_world());
    lab.echoes = vec!["fibre", "lte"];
    let _ = lab.plan(apply(PROVIDERS));
    lab.log.clear();
    let _ = lab.plan(apply(&format!("{PROVIDERS}\n[uplink.aaa]\ninterface = \"wan3\"\nsource = [\"192.0.2.77\"]\n")));
    for name in ["fibre", "lte"] {
        assert!(lab.log.iter().any(|action| matches!(action, Action::Unprobe(uplink) if &**uplink == name)), "{name}");
    }
}
