//! The steering: which way packets take, kept so. An event in, actions out, and the next moment at which it wants to be asked.
//!
//! The other half of what the daemon decides with; it shares nothing with [`crate::brain`], which decides who is shut out.
//!
//! ```text
//!   asked to apply ─> journal ─┐
//!   seen to change ─> healer ──┼─> Look ─> wanted ─> Compare ─> plan ─> Apply ─> Look again, until nothing is left to do
//!   probes ─> trackers ─> chooser ┘                                      └─> Purge of the uplink that was left
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`io`] | [`Event`], [`Action`]: everything that enters and leaves |
//! | [`journal`] | what was confirmed, what is on trial, what to go back to |
//! | `mod` | the state, and which event goes where |
//! | `asking` | requests become rounds and answers |
//! | `round` | one round: from what is found to what is wanted |
//! | `watch` | probes, healths, policies, the watch over a trial |
//! | `text` | steps and uplinks in words |

mod asking;
pub mod io;
pub mod journal;
mod round;
#[cfg(test)]
mod tests;
mod text;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::config::Config;
use crate::control::route::PlanReply;
use crate::route::heal::{Alert, Healer};
use crate::route::plan::Ours;
use crate::route::policy::Chooser;
use crate::route::wanted::{Health, Healths};
use crate::route::{Protocol, Spec, TableId, Wanted, World};
use crate::time::{Now, Span, Stamp, Tick};

pub use io::{Action, Answered, Changes, Event, Probe};
use journal::{Journal, Opening, Set};
use round::{Round, Why};
use watch::{Guarded, Watched};

/// How long after a failure it is tried again at first, and at most.
const RETRY: (Span, Span) = (Span::secs(1), Span::secs(30));

/// The steering.
#[derive(Debug)]
pub struct Steering {
    boot: String,
    /// Nothing is changed, whatever is found.
    observe: bool,
    journal: Journal,
    /// What the journal held before the change that is being written.
    before: Option<Journal>,
    /// What is to stand.
    spec: Spec,
    /// What tells objects of ours from others': of what stands, and of what stood and may not be gone yet.
    ours: Vec<Ours>,
    world: World,
    wanted: Wanted,
    healths: Healths,
    since: BTreeMap<Arc<str>, (Health, Stamp)>,
    watched: BTreeMap<Arc<str>, Watched>,
    chooser: Chooser,
    healer: Healer,
    guarded: Guarded,
    /// Uplinks that were left, and whose connections are to be ended once the new way stands.
    left: Vec<watch::Left>,
    round: Option<Round>,
    waiting: VecDeque<Round>,
    retry_at: Option<Tick>,
    retry: Span,
    /// The kernel could not be read: until then nobody but an asker makes a round.
    blind_until: Option<Tick>,
    /// What the last round found that is not as it should be.
    findings: round::Findings,
    /// An answer that waits for whether the asker is still reached.
    held: Option<(u64, PlanReply)>,
    /// Something of ours was removed by somebody else since the last round.
    drifted: bool,
    healed: u64,
    contested: Option<String>,
    out: Vec<Action>,
}

impl Steering {
    /// Wakes up with the journal as it is on the disk. What it wants to do first comes with the first [`Steering::handle`].
    pub fn new(journal: Journal, boot: &str, observe: bool, now: Now) -> Self {
        let mut steering = Self {
            boot: boot.to_owned(),
            observe,
            journal,
            before: None,
            spec: Spec::default(),
            ours: Vec::new(),
            world: World::default(),
            wanted: Wanted::default(),
            healths: Healths::new(),
            since: BTreeMap::new(),
            watched: BTreeMap::new(),
            chooser: Chooser::default(),
            healer: Healer::new(now.tick),
            guarded: Guarded::default(),
            left: Vec::new(),
            round: None,
            waiting: VecDeque::new(),
            retry_at: None,
            retry: RETRY.0,
            blind_until: None,
            findings: round::Findings::default(),
            held: None,
            drifted: false,
            healed: 0,
            contested: None,
            out: Vec::new(),
        };
        steering.wake(now);
        steering
    }

    fn wake(&mut self, now: Now) {
        // Who only looks takes nothing back, and must not say so.
        if !self.observe && matches!(self.journal.open(&self.boot, now.tick), Opening::Lapsed(_)) {
            self.keep();
            self.tell("the set that was on trial was not confirmed in time and is taken back");
        }
        self.ours = self.journal.sets().filter_map(|set| read(set).ok()).map(|spec| Ours::of(&spec)).collect();
        if let Some(Err(what)) = self.journal.standing().map(read) {
            self.trouble(
                "routing",
                Some(format!("what was applied cannot be read any more: {what}; `palisade route apply` applies the config anew")),
            );
        }
        self.stand(now);
        if self.journal.trial.is_some() {
            let peers = self.spec.settings.control_peers.clone();
            self.guard(None, &peers, now);
        }
        self.begin(Round::new(Why::Start));
    }

    /// What the journal says is what is to stand.
    fn stand(&mut self, now: Now) {
        let spec = self.journal.standing().and_then(|set| read(set).ok()).unwrap_or_default();
        let leaving = Ours::of(&self.spec);
        if !self.spec.is_empty() && !self.ours.contains(&leaving) {
            self.ours.push(leaving);
        }
        self.spec = spec;
        self.follow(now);
        let named = self.spec.settings.table_names && !self.spec.is_empty();
        let tables = if named { self.spec.tables().cloned().collect() } else { Vec::new() };
        self.out.push(Action::Names { tables, protocol: self.spec.settings.protocol });
    }

    /// Takes one event and appends what follows from it to `out`.
    pub fn handle(&mut self, event: Event, now: Now, out: &mut Vec<Action>) {
        match event {
            Event::Asked { id, request } => self.asked(id, request, now),
            Event::Found(world) => self.found(*world, now),
            Event::Blind(error) => self.blind(error, now),
            Event::Compared { marks, switches } => self.compared(marks, &switches, now),
            Event::Applied(report) => self.applied(&report, now),
            Event::NotKept(error) => self.not_kept(&error, now),
            Event::Changed(changes) => self.changed(&changes, now),
            Event::Echo { uplink, target, seq } => self.echo(&uplink, target, seq, now),
            Event::Ways(answers) => self.ways(answers, now),
            Event::Stop => self.take_back("the daemon stops, and nobody else would do it in time", now),
            Event::Idle => {}
        }
        self.idle(now);
        out.append(&mut self.out);
    }

    /// What is due by now.
    fn idle(&mut self, now: Now) {
        if self.journal.trial.as_ref().is_some_and(|trial| now.tick >= trial.until) {
            self.take_back("it was not confirmed in time", now);
        }
        self.probe(now);
        self.alert();
        if self.round.is_some() {
            return;
        }
        if let Some(round) = self.waiting.pop_front() {
            self.begin(round);
        } else if self.blind_until.is_some_and(|until| now.tick < until) {
            // What is decided from could not be read; to look again at once would never end.
        } else if self.retry_at.is_some_and(|at| now.tick >= at) {
            self.begin(Round::new(Why::Again));
        } else if self.healer.due(now.tick).is_some() {
            let why = if std::mem::take(&mut self.drifted) { Why::Drift } else { Why::Look };
            self.begin(Round::new(why));
        } else if self.reconsider(now) {
            self.begin(Round::new(Why::Health));
        }
    }

    /// What is ours now: the protocol and the tables, of what stands and of what is not gone yet.
    pub fn own(&self) -> (Protocol, BTreeSet<TableId>) {
        let tables = self.ours.iter().flat_map(|ours| ours.tables.iter().copied()).chain(self.spec.tables().map(|table| table.id));
        (self.spec.settings.protocol, tables.collect())
    }

    /// The host as it was found last.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// How the uplinks that are applied are.
    pub const fn healths(&self) -> &Healths {
        &self.healths
    }

    /// When it wants to be asked again.
    pub fn next_deadline(&self) -> Tick {
        let trial = self.journal.trial.as_ref().map(|trial| trial.until);
        let probes = self.watched.values().map(Watched::next_deadline).min();
        let always = [trial, probes, self.guarded.next_deadline()].into_iter().flatten();
        match self.blind_until {
            Some(until) => always.fold(until, Tick::min),
            None => always
                .chain([self.retry_at, self.chooser.next_deadline()].into_iter().flatten())
                .fold(self.healer.next_deadline(), Tick::min),
        }
    }

    /// Goes back from what is on trial.
    fn take_back(&mut self, why: &str, now: Now) {
        if self.journal.trial.is_none() || !self.journal.go_back() {
            return;
        }
        self.keep();
        self.tell(&format!("the set on trial is taken back: {why}"));
        self.stand(now);
        self.begin(Round::new(Why::Reverted));
    }

    /// Who keeps removing ours is told once, and once that it is over.
    fn alert(&mut self) {
        for alert in self.healer.alerts() {
            self.contested = match alert {
                Alert::Contested(what) => Some(text::contested(&what)),
                Alert::Calm => None,
            };
            let wrong = self.wrong();
            self.trouble("routing", wrong);
        }
    }

    fn keep(&mut self) {
        self.out.push(Action::Keep(Box::new(self.journal.clone())));
    }

    fn tell(&mut self, what: &str) {
        self.out.push(Action::Tell(what.to_owned()));
    }

    fn trouble(&mut self, about: &str, what: Option<String>) {
        self.out.push(Action::Trouble { about: about.to_owned(), what });
    }
}

/// The spec of a kept set.
fn read(set: &Set) -> Result<Spec, String> {
    Config::read_routing(&set.text, "the applied set").map_err(|errors| errors.to_string())
}
