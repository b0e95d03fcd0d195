//! One supervised tunnel: when its client is started, stopped, left alone, given up.
//!
//! ```text
//!            Ask, granted            ready
//!   Down ------------------> Starting ----> Up <----> Lost (its process runs, its interface or address is gone)
//!    ^  \                        |           |
//!    |   Waiting (budget,        | late, died, or the order to
//!    |    underlay, disk)        v           v
//!    +------- Stopping <---------+-----------+
//!                |
//!                +--> Backoff --> Ask again          Failed: only a human goes on from there
//! ```
//!
//! The machine asks a budget before each start, and so does not start what the provider would refuse. A client that is
//! alive is never started again, and one that answers no probes is not restarted unless the config says so.

mod link;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::budget::{Kind, Why};
use super::tunnels::{Backoff, Exec, Ready, Restart};
use crate::time::{Span, Tick};
pub use link::{LinkFacts, LinkStep, link};

/// How long a stop command may take, and then SIGTERM, before the next harder means.
const STOP_STEP: Span = Span::secs(10);

/// How long after a budget could not be written it is tried again.
pub const DISK_AGAIN: Span = Span::secs(30);

/// How a tunnel is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// It does not run and nobody wants it to.
    Down,
    /// It is to start, but not yet.
    Waiting {
        /// When it asks again; none: when the reason is gone.
        until: Option<Tick>,
        /// Why.
        why: Waits,
    },
    /// Its client was started or found running; its interface is not there yet.
    Starting {
        /// Since when.
        since: Tick,
    },
    /// It carries packets.
    Up {
        /// Since when.
        since: Tick,
        /// How that is known.
        proof: String,
    },
    /// Its process runs, but its interface or address is gone.
    Lost {
        /// Since when.
        since: Tick,
    },
    /// Its client is being stopped.
    Stopping {
        /// Since when.
        since: Tick,
    },
    /// It failed and is tried again later.
    Backoff {
        /// When.
        until: Tick,
    },
    /// It is no use to try again before a human looked.
    Failed {
        /// Why.
        why: String,
    },
}

/// What a tunnel waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waits {
    /// The provider's budget.
    Budget(Why),
    /// The uplink that it runs over.
    Underlay,
    /// A disk that the budget can be written to.
    Disk,
}

/// What a human wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start it; the kind says how far into the budget.
    Start(Kind),
    /// Stop it, and leave it so.
    Stop,
    /// Stop it and start it.
    Restart(Kind),
}

/// What a budget said to [`Action::Ask`]. Where there is none: granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is spent, and that is written.
    Granted,
    /// Not before.
    Wait(Tick, Waits),
    /// Not at all.
    Denied(String),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The daemon begins: whether its client is alive.
    Found(bool),
    /// A human says so.
    Order(Order),
    /// To the last [`Action::Ask`].
    Answer(Answer),
    /// The client's process is known: it was spawned, its pidfile is there, or it was found.
    Running,
    /// A program could not be run at all, so nothing left this host. It never will be if that `lasts`.
    NotRun {
        /// What the system said.
        why: String,
        /// Whether trying again is no use: there is no such program.
        lasts: bool,
    },
    /// The start command said that it failed.
    StartFailed(String),
    /// Its process is gone.
    Died {
        /// How long it lived.
        lived: Span,
        /// With exit status 0, as far as is known.
        clean: bool,
        /// In words.
        how: String,
    },
    /// Neither its process nor any command of ours runs any more.
    Stopped,
    /// It printed what is no use to try again after.
    Fatal(String),
    /// Whether its interface and address are there, and in which words.
    Ready(bool, String),
    /// Whether the probes of its uplink fail.
    Probes {
        /// They do.
        fail: bool,
    },
    /// Whether the uplink it runs over works.
    Underlay(bool),
    /// Nothing but time.
    Passed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the budget, spend and write it if it is granted, and [`Event::Answer`].
    Ask {
        /// How much.
        cost: u32,
        /// By whom.
        kind: Kind,
    },
    /// Run the start command.
    Start,
    /// Run the stop command.
    Stop,
    /// Send SIGTERM to what is known to run.
    Terminate,
    /// Send SIGKILL to what is known to run.
    Kill,
    /// Give up the place among those who wait for the budget.
    Leave,
    /// Tell the budget that the provider refused.
    Refused,
    /// Tell people.
    Tell(String),
}

/// What of a tunnel outlives the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// A human stopped it.
    pub stopped: bool,
    /// It is no use to try again, and why.
    pub failed: Option<String>,
    /// Failures in a row.
    pub failures: u32,
}

/// What comes after it has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    Down,
    Start(Kind),
    Backoff,
    Fail(String),
}

/// What a budget was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Start(Kind),
    Stop,
}

/// The machine of one tunnel with a client program.
#[derive(Clone, Debug)]
pub struct Machine {
    name: Arc<str>,
    exec: Exec,
    ready: Ready,
    backoff: Backoff,
    state: State,
    memory: Memory,
    next: Next,
    asked: Option<Asked>,
    /// Its process is known.
    alive: bool,
    /// We started it, so it must be ready in time.
    ours: bool,
    underlay: bool,
    probes_fail: bool,
    /// How hard it was told to stop: asked, terminated, killed.
    stops: u8,
    /// The least time between two tries.
    not_before: Tick,
}

impl Machine {
    /// Of a tunnel of which this is remembered, before it is known whether its client runs.
    pub fn new(name: Arc<str>, exec: Exec, ready: Ready, backoff: Backoff, memory: Memory) -> Self {
        Self {
            name,
            exec,
            ready,
            backoff,
            state: State::Down,
            memory,
            next: Next::Down,
            asked: None,
            alive: false,
            ours: false,
            underlay: true,
            probes_fail: false,
            stops: 0,
            not_before: Tick(0),
        }
    }

    /// How it is.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// What should outlive the daemon.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Takes other words of a new config. The client that runs goes on.
    pub fn set(&mut self, exec: Exec, ready: Ready, backoff: Backoff) {
        (self.exec, self.ready, self.backoff) = (exec, ready, backoff);
    }

    /// When it wants to be told that time [`Event::Passed`].
    pub fn next_deadline(&self) -> Option<Tick> {
        match &self.state {
            State::Waiting { until, .. } => *until,
            State::Backoff { until } => Some(*until),
            State::Starting { since } if self.ours => Some(since.plus(self.ready.within)),
            State::Lost { since } if self.exec.restart_on_probe => Some(since.plus(self.ready.within)),
            State::Stopping { since } => Some(since.plus(STOP_STEP.times(f64::from(self.stops) + 1.0))),
            _ => None,
        }
    }

    /// What is to be done about it. `chance`: any number, another each time.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Tick, chance: u32) -> Vec<Action> {
        match event {
            Event::Found(alive) => self.found(alive, now),
            Event::Order(order) => self.order(order, now),
            Event::Answer(answer) => self.answer(answer, now, chance),
            Event::Running => self.running(now),
            Event::NotRun { why, lasts } => self.not_run(why, lasts, now, chance),
            Event::StartFailed(how) => match self.state {
                State::Starting { .. } if !self.alive => self.failed(format!("its start failed: {how}"), now, chance),
                _ => Vec::new(),
            },
            Event::Died { lived, clean, how } => self.died(lived, clean, &how, now, chance),
            Event::Stopped => self.stopped(now, chance),
            Event::Fatal(line) => self.fatal(&line, now),
            Event::Ready(yes, proof) => self.is_ready(yes, proof, now),
            Event::Probes { fail } => self.probes(fail, now),
            Event::Underlay(up) => self.underlay(up, now),
            Event::Passed => self.passed(now),
        }
    }

    fn found(&mut self, alive: bool, now: Tick) -> Vec<Action> {
        if alive {
            return self.running(now);
        }
        match (&self.memory.failed, self.memory.stopped) {
            (Some(why), _) => self.state = State::Failed { why: why.clone() },
            (None, true) => self.state = State::Down,
            (None, false) => return self.ask(Kind::Automatic, now),
        }
        Vec::new()
    }

    fn running(&mut self, now: Tick) -> Vec<Action> {
        self.alive = true;
        match self.state {
            State::Starting { .. } | State::Up { .. } | State::Lost { .. } | State::Stopping { .. } => Vec::new(),
            _ => {
                (self.state, self.ours, self.memory.failed) = (State::Starting { since: now }, false, None);
                vec![Action::Leave, Action::Tell(format!("the client of tunnel {} runs already: it is left as it is", self.name))]
            }
        }
    }

    fn order(&mut self, order: Order, now: Tick) -> Vec<Action> {
        match (order, &self.state) {
            (Order::Stop, _) => {
                self.memory = Memory { stopped: true, ..Memory::default() };
                self.stop(Next::Down, Kind::Manual, now)
            }
            (Order::Start(kind) | Order::Restart(kind), State::Stopping { .. }) => {
                self.memory = Memory::default();
                self.next = Next::Start(kind);
                Vec::new()
            }
            (Order::Start(_), State::Starting { .. } | State::Up { .. } | State::Lost { .. }) => Vec::new(),
            (Order::Restart(kind), State::Starting { .. } | State::Up { .. } | State::Lost { .. }) => {
                self.memory = Memory::default();
                self.stop(Next::Start(kind), kind, now)
            }
            (Order::Start(kind) | Order::Restart(kind), _) => {
                self.not_before = now;
                self.ask(kind, now)
            }
        }
    }

    /// Wants to start.
    fn ask(&mut self, kind: Kind, now: Tick) -> Vec<Action> {
        if kind == Kind::Automatic && !self.underlay {
            self.state = State::Waiting { until: None, why: Waits::Underlay };
            return vec![Action::Leave];
        }
        if kind == Kind::Automatic && now < self.not_before {
            self.state = State::Backoff { until: self.not_before };
            return vec![Action::Leave];
        }
        self.asked = Some(Asked::Start(kind));
        vec![Action::Ask { cost: self.exec.cost, kind }]
    }

    fn answer(&mut self, answer: Answer, now: Tick, chance: u32) -> Vec<Action> {
        match (self.asked.take(), answer) {
            (None, _) => Vec::new(),
            (Some(Asked::Stop), Answer::Granted) => vec![Action::Stop],
            // The stop command would connect too, and may not: a signal does not.
            (Some(Asked::Stop), _) => self.harder(now),
            (Some(Asked::Start(kind)), Answer::Granted) => {
                if kind != Kind::Automatic {
                    self.memory = Memory::default();
                }
                (self.state, self.ours, self.alive) = (State::Starting { since: now }, true, false);
                vec![Action::Start]
            }
            (Some(Asked::Start(kind)), Answer::Wait(until, why)) => {
                if kind != Kind::Automatic {
                    // It will, as soon as it may by itself.
                    self.memory = Memory::default();
                }
                self.state = State::Waiting { until: Some(until), why };
                Vec::new()
            }
            (Some(Asked::Start(Kind::Automatic)), Answer::Denied(why)) => self.give_up(why),
            (Some(Asked::Start(_)), Answer::Denied(why)) => match self.state {
                // It was stopped for a restart.
                State::Stopping { .. } => self.failed(why, now, chance),
                _ => vec![Action::Tell(why)],
            },
        }
    }

    fn not_run(&mut self, why: String, lasts: bool, now: Tick, chance: u32) -> Vec<Action> {
        match self.state {
            State::Stopping { .. } => self.harder(now),
            State::Starting { .. } if self.alive => Vec::new(),
            State::Starting { .. } if lasts => self.give_up(why),
            State::Starting { .. } => self.failed(why, now, chance),
            _ => Vec::new(),
        }
    }

    fn died(&mut self, lived: Span, clean: bool, how: &str, now: Tick, chance: u32) -> Vec<Action> {
        self.alive = false;
        let debounced = lived < self.exec.min_uptime;
        let again = match self.exec.restart {
            Restart::No => false,
            Restart::OnFailure => debounced || !clean,
            Restart::Always => true,
        };
        match &self.state {
            State::Starting { .. } => self.failed(format!("its client ended ({how}) after {lived}, before it was up"), now, chance),
            State::Up { since, .. } | State::Lost { since } => {
                if !debounced && now.since(*since) >= self.backoff.reset_after {
                    self.memory.failures = 0;
                }
                if again {
                    return self.failed(format!("its client ended ({how}) after {lived}"), now, chance);
                }
                self.state = State::Down;
                vec![Action::Tell(format!("tunnel {}: its client ended ({how}); the config does not have it restarted", self.name))]
            }
            _ => Vec::new(),
        }
    }

    /// Another failure.
    fn failed(&mut self, why: String, now: Tick, chance: u32) -> Vec<Action> {
        (self.alive, self.memory.failures) = (false, self.memory.failures.saturating_add(1));
        if self.exec.restart == Restart::No {
            return self.give_up(why);
        }
        let wait = pause(&self.backoff, self.memory.failures, chance);
        self.not_before = now.plus(wait);
        self.state = State::Backoff { until: self.not_before };
        let wait = Span::secs(wait.as_secs_ceil());
        vec![Action::Leave, Action::Tell(format!("tunnel {}: {why}; it is tried again in {wait} if its budget allows", self.name))]
    }

    fn give_up(&mut self, why: String) -> Vec<Action> {
        let tell = format!("tunnel {0} is given up: {why}. When that is mended: palisade tunnel start {0}", self.name);
        self.memory.failed = Some(why.clone());
        self.state = State::Failed { why };
        vec![Action::Leave, Action::Tell(tell)]
    }

    /// Stops what may run, and then that.
    fn stop(&mut self, next: Next, kind: Kind, now: Tick) -> Vec<Action> {
        match self.state {
            State::Stopping { .. } => {
                self.next = next;
                Vec::new()
            }
            State::Starting { .. } | State::Up { .. } | State::Lost { .. } => {
                (self.state, self.next, self.stops) = (State::Stopping { since: now }, next, 0);
                match (&self.exec.stop, self.exec.stop_cost) {
                    (Some(_), 0) => vec![Action::Stop],
                    // Of what is not known to run it would only be a connect.
                    (Some(_), cost) if self.alive => {
                        self.asked = Some(Asked::Stop);
                        vec![Action::Ask { cost, kind }]
                    }
                    _ => self.harder(now),
                }
            }
            _ => {
                self.state = State::Down;
                vec![Action::Leave]
            }
        }
    }

    /// The next harder means to stop it.
    fn harder(&mut self, now: Tick) -> Vec<Action> {
        self.stops = self.stops.saturating_add(1);
        match self.stops {
            1 => vec![Action::Terminate],
            n => {
                // From now on at the same pace: what SIGKILL does not end hangs in the kernel.
                (self.state, self.stops) = (State::Stopping { since: now }, 1);
                let tell = Action::Tell(format!("tunnel {}: its client does not stop and is killed", self.name));
                if n == 2 { vec![Action::Kill, tell] } else { vec![Action::Kill] }
            }
        }
    }

    fn stopped(&mut self, now: Tick, chance: u32) -> Vec<Action> {
        if !matches!(self.state, State::Stopping { .. }) {
            return Vec::new();
        }
        self.alive = false;
        match std::mem::replace(&mut self.next, Next::Down) {
            Next::Down => {
                self.state = State::Down;
                vec![Action::Leave]
            }
            Next::Start(kind) => {
                self.not_before = now;
                self.ask(kind, now)
            }
            Next::Backoff => self.failed("it was stopped".to_owned(), now, chance),
            Next::Fail(why) => self.give_up(why),
        }
    }

    fn fatal(&mut self, line: &str, now: Tick) -> Vec<Action> {
        let why = format!("its client says: {line}");
        let rest = match self.state {
            State::Starting { .. } | State::Up { .. } | State::Lost { .. } => self.stop(Next::Fail(why), Kind::Automatic, now),
            State::Stopping { .. } => {
                self.next = Next::Fail(why);
                Vec::new()
            }
            // Its last words, read after its end.
            State::Backoff { .. } | State::Waiting { .. } => self.give_up(why),
            State::Down | State::Failed { .. } => return Vec::new(),
        };
        [Action::Refused].into_iter().chain(rest).collect()
    }

    fn is_ready(&mut self, yes: bool, proof: String, now: Tick) -> Vec<Action> {
        match (&self.state, yes) {
            (State::Starting { .. } | State::Lost { .. }, true) if self.alive => {
                self.state = State::Up { since: now, proof: proof.clone() };
                vec![Action::Tell(format!("tunnel {} is up: {proof}", self.name))]
            }
            (State::Up { .. }, false) => {
                self.state = State::Lost { since: now };
                vec![Action::Tell(format!("tunnel {}: its client runs, but {proof}", self.name))]
            }
            _ => Vec::new(),
        }
    }

    fn probes(&mut self, fail: bool, now: Tick) -> Vec<Action> {
        let before = std::mem::replace(&mut self.probes_fail, fail);
        if fail && !before && self.exec.restart_on_probe && matches!(self.state, State::Up { .. }) {
            let tell = Action::Tell(format!("tunnel {} answers no probes: it is restarted, as its config says", self.name));
            return [tell].into_iter().chain(self.stop(Next::Backoff, Kind::Automatic, now)).collect();
        }
        Vec::new()
    }

    fn underlay(&mut self, up: bool, now: Tick) -> Vec<Action> {
        self.underlay = up;
        match (&self.state, up) {
            (State::Waiting { why: Waits::Underlay, .. }, true) => self.ask(Kind::Automatic, now),
            (State::Waiting { .. } | State::Backoff { .. }, false) => self.ask(Kind::Automatic, now),
            _ => Vec::new(),
        }
    }

    fn passed(&mut self, now: Tick) -> Vec<Action> {
        if self.next_deadline().is_none_or(|at| now < at) {
            return Vec::new();
        }
        match self.state {
            State::Waiting { .. } | State::Backoff { .. } => self.ask(Kind::Automatic, now),
            State::Starting { .. } | State::Lost { .. } => {
                let Ready { interface, within, .. } = &self.ready;
                let tell = Action::Tell(format!("tunnel {}: {interface} was not ready within {within}: its client is stopped", self.name));
                [tell].into_iter().chain(self.stop(Next::Backoff, Kind::Automatic, now)).collect()
            }
            State::Stopping { .. } => self.harder(now),
            _ => Vec::new(),
        }
    }
}

/// How long to wait after so many failures in a row.
fn pause(backoff: &Backoff, failures: u32, chance: u32) -> Span {
    let max = u128::from(backoff.max.as_millis());
    let mut wait = u128::from(backoff.min.as_millis()).min(max);
    for _ in 1..failures.min(64) {
        wait = (wait * u128::from(backoff.factor.max(100)) / 100).min(max);
    }
    let jitter = u128::from(backoff.jitter.min(100));
    let least = wait * (100 - jitter) / 100;
    let more = wait * 2 * jitter / 100 * u128::from(chance) / u128::from(u32::MAX);
    Span::millis(u64::try_from(least + more).unwrap_or(u64::MAX))
}
