use proptest::prelude::*;

use super::*;

const HALF: u32 = u32::MAX / 2;

fn exec() -> Exec {
    Exec {
        start: vec!["aiccu".into(), "start".into()],
        stop: Some(vec!["aiccu".into(), "stop".into()]),
        pidfile: Some("/run/aiccu.pid".into()),
        restart: Restart::OnFailure,
        restart_on_probe: false,
        budget: Some("sixxs".into()),
        cost: 1,
        stop_cost: 0,
        fatal: vec!["Login failed".into()],
        min_uptime: Span::secs(10),
    }
}

fn machine(exec: Exec) -> Machine {
    let ready = Ready { interface: "sixxs0".into(), address: None, within: Span::secs(60) };
    let backoff = Backoff { min: Span::secs(30), max: Span::secs(1800), factor: 200, jitter: 20, reset_after: Span::secs(900) };
    Machine::new("sixxs0".into(), exec, ready, backoff, Memory::default())
}

/// What is done, without the words.
fn on(machine: &mut Machine, event: Event, s: u64) -> Vec<Action> {
    let all = machine.handle(event, Tick(s * 1000), HALF);
    all.into_iter().filter(|action| !matches!(action, Action::Tell(_) | Action::Leave)).collect()
}

fn died(lived: u64, clean: bool) -> Event {
    Event::Died { lived: Span::secs(lived), clean, how: "killed".into() }
}

fn automatic() -> Vec<Action> {
    vec![Action::Ask { cost: 1, kind: Kind::Automatic }]
}

/// Started at that second and up five seconds later.
fn up(machine: &mut Machine, s: u64) {
    assert_eq!(on(machine, Event::Answer(Answer::Granted), s), [Action::Start]);
    assert_eq!(on(machine, Event::Ready(true, "early".into()), s + 1), [], "without its process it is not up");
    assert_eq!(on(machine, Event::Running, s + 4), []);
    assert_eq!(on(machine, Event::Ready(true, "sixxs0 has 2a02::1".into()), s + 5), []);
    assert_eq!(machine.state(), &State::Up { since: Tick((s + 5) * 1000), proof: "sixxs0 has 2a02::1".into() });
}

fn seconds(machine: &Machine) -> Option<u64> {
    machine.next_deadline().map(|at| at.0 / 1000)
}

#[test]
fn it_is_started_when_granted_and_up_when_ready() {
    let mut m = machine(exec());
    assert_eq!(on(&mut m, Event::Found(false), 0), automatic());
    assert_eq!(on(&mut m, Event::Answer(Answer::Wait(Tick(44_000), Waits::Budget(Why::Window))), 0), []);
    assert_eq!((seconds(&m), on(&mut m, Event::Passed, 43)), (Some(44), vec![]));
    assert_eq!(on(&mut m, Event::Passed, 44), automatic());
    up(&mut m, 44);
    assert_eq!(m.next_deadline(), None);
    assert_eq!(on(&mut m, Event::Probes { fail: true }, 60), [], "a failed probe restarts nothing");
}

#[test]
fn one_found_alive_is_adopted_and_costs_nothing() {
    let mut m = machine(exec());
    assert_eq!(on(&mut m, Event::Found(true), 0), []);
    assert_eq!(m.next_deadline(), None, "it is not stopped for being late: nobody knows when it began");
    assert_eq!(on(&mut m, Event::Ready(true, "there".into()), 1), []);
    assert!(matches!(m.state(), State::Up { .. }));
    // One that a human started while it waited is adopted too.
    let mut m = machine(exec());
    let _ = on(&mut m, Event::Found(false), 0);
    assert_eq!(on(&mut m, Event::Running, 0), []);
    assert!(matches!(m.state(), State::Starting { .. }));
}

#[test]
fn each_failure_waits_longer_until_it_was_up_for_long() {
    let mut m = machine(exec());
    let (mut s, mut waits) = (0, Vec::new());
    let _ = on(&mut m, Event::Found(false), 0);
    for _ in 0..8 {
        up(&mut m, s);
        assert_eq!(on(&mut m, died(20, false), s + 25), []);
        waits.push(seconds(&m).unwrap() - s - 25);
        s = seconds(&m).unwrap() + 1;
        assert_eq!(on(&mut m, Event::Passed, s), automatic());
    }
    let doubled = [30, 60, 120, 240, 480, 960, 1800, 1800];
    assert!(waits.iter().zip(doubled).all(|(wait, exact)| wait.abs_diff(exact) <= 1), "{waits:?}");
    up(&mut m, s);
    let _ = on(&mut m, died(905, false), s + 905);
    assert!(seconds(&m).unwrap().abs_diff(s + 935) <= 1, "after that long it is the first again");
    let (low, high) = (pause(&m.backoff, 1, 0), pause(&m.backoff, 1, u32::MAX));
    assert_eq!((low, high), (Span::secs(24), Span::secs(36)));
}

#[test]
fn the_config_says_whether_an_end_is_a_failure() {
    let ended = |restart, lived, clean| {
        let mut m = machine(Exec { restart, ..exec() });
        let _ = on(&mut m, Event::Found(false), 0);
        up(&mut m, 0);
        let _ = on(&mut m, died(lived, clean), 30);
        m.state().clone()
    };
    let again = |state| matches!(state, State::Backoff { .. });
    assert_eq!(ended(Restart::OnFailure, 30, true), State::Down);
    assert!(again(ended(Restart::OnFailure, 30, false)) && again(ended(Restart::Always, 30, true)));
    assert!(again(ended(Restart::OnFailure, 9, true)), "what ends so soon never was up");
    assert_eq!(ended(Restart::No, 30, false), State::Down);
}

#[test]
fn one_that_is_not_ready_in_time_is_stopped_harder_and_harder() {
    let mut m = machine(Exec { stop_cost: 1, ..exec() });
    let _ = on(&mut m, Event::Found(false), 0);
    let _ = on(&mut m, Event::Answer(Answer::Granted), 0);
    let _ = on(&mut m, Event::Running, 1);
    assert_eq!((seconds(&m), on(&mut m, Event::Passed, 60)), (Some(60), automatic()), "its stop command connects too");
    assert_eq!(on(&mut m, Event::Answer(Answer::Wait(Tick(0), Waits::Budget(Why::Window))), 60), [Action::Terminate]);
    assert_eq!((on(&mut m, Event::Passed, 79), on(&mut m, Event::Passed, 80)), (vec![], vec![Action::Kill]));
    assert_eq!((on(&mut m, Event::Passed, 99), on(&mut m, Event::Passed, 100)), (vec![], vec![Action::Kill]), "for ever, but slowly");
    assert_eq!(on(&mut m, died(50, false), 101), []);
    assert_eq!(on(&mut m, Event::Stopped, 101), []);
    assert!(matches!(m.state(), State::Backoff { .. }));
    // Where nothing is known to run, the stop command would only be a connect.
    let _ = on(&mut m, Event::Passed, 200);
    let _ = on(&mut m, Event::Answer(Answer::Granted), 200);
    assert_eq!(on(&mut m, Event::Passed, 260), [Action::Terminate]);
}

#[test]
fn fatal_words_latch_until_a_human_comes() {
    let mut m = machine(exec());
    let _ = on(&mut m, Event::Found(false), 0);
    let _ = on(&mut m, Event::Answer(Answer::Granted), 0);
    assert_eq!(on(&mut m, Event::Fatal("Login failed".into()), 1), [Action::Refused, Action::Stop]);
    assert_eq!(on(&mut m, Event::StartFailed("status 1".into()), 1), []);
    let _ = on(&mut m, Event::Stopped, 2);
    assert_eq!(m.state(), &State::Failed { why: "its client says: Login failed".into() });
    assert_eq!((m.next_deadline(), on(&mut m, Event::Underlay(true), 9)), (None, vec![]));
    // Not even a new daemon tries.
    let mut next = Machine::new("sixxs0".into(), exec(), m.ready.clone(), m.backoff, m.memory().clone());
    assert_eq!((on(&mut next, Event::Found(false), 0), next.state()), (vec![], m.state()));
    assert_eq!(on(&mut next, Event::Order(Order::Start(Kind::Manual)), 5), [Action::Ask { cost: 1, kind: Kind::Manual }]);
    up(&mut next, 5);
    assert_eq!(next.memory(), &Memory::default());
    // Last words that are read after the end count as well.
    let mut m = machine(exec());
    let _ = on(&mut m, Event::Found(false), 0);
    let _ = on(&mut m, Event::Answer(Answer::Granted), 0);
    let _ = on(&mut m, Event::StartFailed("status 1".into()), 1);
    assert_eq!(on(&mut m, Event::Fatal("Login failed".into()), 1), [Action::Refused]);
    assert!(matches!(m.state(), State::Failed { .. }));
    let mut m = machine(exec());
    let _ = on(&mut m, Event::Found(false), 0);
    let _ = on(&mut m, Event::Answer(Answer::Granted), 0);
    let _ = on(&mut m, Event::NotRun { why: "there is no program aiccu".into(), lasts: true }, 0);
    assert!(matches!(m.state(), State::Failed { .. }));
}

#[test]
fn a_human_stops_starts_and_restarts() {
    let mut m = machine(exec());
    let _ = on(&mut m, Event::Found(false), 0);
    up(&mut m, 0);
    assert_eq!(on(&mut m, Event::Order(Order::Restart(Kind::Manual)), 20), [Action::Stop]);
    assert_eq!(on(&mut m, died(20, true), 21), []);
    assert_eq!(on(&mut m, Event::Stopped, 21), [Action::Ask { cost: 1, kind: Kind::Manual }]);
    up(&mut m, 21);
    assert_eq!(on(&mut m, Event::Order(Order::Stop), 30), [Action::Stop]);
    assert_eq!((on(&mut m, Event::Stopped, 31), m.state()), (vec![], &State::Down));
    assert!(m.memory().stopped);
    let mut next = Machine::new("sixxs0".into(), exec(), m.ready.clone(), m.backoff, m.memory().clone());
    assert_eq!((on(&mut next, Event::Found(false), 0), next.state()), (vec![], &State::Down));
    // One who may not start it at once has it started when it may.
    let _ = on(&mut next, Event::Order(Order::Start(Kind::Manual)), 5);
    let _ = on(&mut next, Event::Answer(Answer::Wait(Tick(9000), Waits::Budget(Why::Hold))), 5);
    assert_eq!(on(&mut next, Event::Passed, 9), automatic());
}

#[test]
fn without_its_underlay_it_does_not_try() {
    let mut m = machine(exec());
    let _ = on(&mut m, Event::Underlay(false), 0);
    assert_eq!(on(&mut m, Event::Found(false), 0), []);
    assert_eq!(m.state(), &State::Waiting { until: None, why: Waits::Underlay });
    assert_eq!(on(&mut m, Event::Underlay(true), 10), automatic());
    up(&mut m, 10);
    assert_eq!(on(&mut m, Event::Underlay(false), 20), [], "one that runs is left");
    let _ = on(&mut m, died(20, false), 30);
    assert_eq!(on(&mut m, Event::Passed, 61), []);
    assert_eq!(on(&mut m, Event::Underlay(true), 70), automatic());
    let _ = on(&mut m, Event::Answer(Answer::Granted), 70);
    let _ = on(&mut m, Event::StartFailed("status 1".into()), 70);
    let (_, _) = (on(&mut m, Event::Underlay(false), 71), on(&mut m, Event::Underlay(true), 72));
    assert!(matches!(m.state(), State::Backoff { .. }), "a link that flaps does not shorten the wait: {:?}", m.state());
}

#[test]
fn probes_restart_it_only_if_told_to() {
    let mut m = machine(Exec { restart_on_probe: true, ..exec() });
    let _ = on(&mut m, Event::Found(false), 0);
    up(&mut m, 0);
    assert_eq!(on(&mut m, Event::Probes { fail: true }, 10), [Action::Stop]);
    let _ = on(&mut m, Event::Stopped, 11);
    assert!(matches!(m.state(), State::Backoff { .. }));
    let mut m = machine(exec());
    let _ = on(&mut m, Event::Found(false), 0);
    up(&mut m, 0);
    let _ = on(&mut m, Event::Ready(false, "sixxs0 is gone".into()), 10);
    assert_eq!((m.state(), m.next_deadline()), (&State::Lost { since: Tick(10_000) }, None));
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Order(Order::Start(Kind::Manual))),
        Just(Event::Order(Order::Stop)),
        Just(Event::Order(Order::Restart(Kind::SpendLast))),
        Just(Event::Running),
        any::<bool>().prop_map(|lasts| Event::NotRun { why: String::new(), lasts }),
        Just(Event::StartFailed(String::new())),
        (0u64..50, any::<bool>()).prop_map(|(lived, clean)| died(lived, clean)),
        Just(Event::Stopped),
        Just(Event::Fatal(String::new())),
        any::<bool>().prop_map(|yes| Event::Ready(yes, String::new())),
        any::<bool>().prop_map(|fail| Event::Probes { fail }),
        any::<bool>().prop_map(Event::Underlay),
        Just(Event::Passed),
    ]
}

proptest! {
    /// Whatever comes in whatever order: it never starts without a grant, and never one that is known to run.
    #[test]
    fn it_starts_only_what_was_granted_and_does_not_run(
        events in proptest::collection::vec((event(), 0u64..40, 0u8..3, any::<u32>()), 1..200),
        stop_cost in 0u32..2,
    ) {
        let mut m = machine(Exec { stop_cost, restart_on_probe: true, ..exec() });
        let (mut s, mut alive) = (0, false);
        for (event, pass, answer, chance) in events {
            s += pass;
            let now = Tick(s * 1000);
            match event {
                Event::Running => alive = true,
                Event::Died { .. } | Event::Stopped => alive = false,
                _ => {}
            }
            let mut todo = m.handle(event, now, chance);
            let mut granted = false;
            while let Some(action) = todo.pop() {
                match action {
                    Action::Ask { .. } => {
                        let answer = [Answer::Granted, Answer::Wait(now.plus(Span::secs(5)), Waits::Disk), Answer::Denied(String::new())][usize::from(answer)].clone();
                        granted = answer == Answer::Granted;
                        todo.extend(m.handle(Event::Answer(answer), now, chance));
                    }
                    Action::Start => prop_assert!(granted && !alive),
                    _ => {}
                }
            }
        }
    }
}
