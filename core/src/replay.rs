//! What a config would have banned over logs of the past, in log time.
//!
//! The daemon's own brain does it, with a clock that goes by the signs it is given: what is counted,
//! sentenced, spread, expired and escalated here is what the daemon would have done, had each line
//! come when it was written. Of the host nothing is known: the allow list is what the config writes, and
//! loopback. Feeds and the flood guard have no part in it.
//!
//! | file | what |
//! |---|---|
//! | `replay` | [`Replay`]: signs in, [`WouldBan`]s out |
//! | [`order`] | the times of one log, made to go forward only |
//! | [`timeline`] | how many of what in each stretch of time |

pub mod order;
#[cfg(test)]
mod tests;
pub mod timeline;

use std::collections::HashMap;

use crate::attack::{JailName, Sign};
use crate::bans::ban::{Ban, Origin};
use crate::bans::wall::{Key, Limits};
use crate::brain::{Action, Batch, Brain, Event, Kept, Mode};
use crate::config::Config;
use crate::event::{KillCount, Record};
use crate::net::Prefix;
use crate::ports::Ports;
use crate::time::{Now, Span, Stamp, Until};
use timeline::{Timeline, What};

/// A wall that holds all it is told: a replay asks what the config wants, not what a firewall can.
const WALL: Limits = Limits { bans: usize::MAX, ports: true, timeouts: true, counters: true, lasting: false };

/// Which line of which log: signs of the same line have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineId {
    /// Which log.
    pub log: usize,
    /// Which line of it, from 1.
    pub line: u64,
}

/// A ban that would have been made, or made longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WouldBan {
    /// Who.
    pub prefix: Prefix,
    /// From what.
    pub ports: Ports,
    /// When it would have begun.
    pub at: Stamp,
    /// When it would have ended.
    pub until: Until,
    /// The jail whose line led to it.
    pub jail: JailName,
    /// Who asked: that jail, or the number of banned neighbours.
    pub origin: Origin,
    /// The how manieth of this source.
    pub offence: u32,
    /// Why.
    pub reason: String,
    /// How many lines it would have kept out.
    pub kept_out: u64,
}

/// How many lines there were of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That tell of an attack.
    pub attacks: u64,
    /// That tell of a login.
    pub logins: u64,
    /// Of both, those whose source would have been shut out when they were written.
    pub kept_out: u64,
    /// Of those, logins: somebody who belongs there would have been shut out.
    pub logins_kept_out: u64,
}

/// A config at work on the past.
pub struct Replay {
    brain: Brain,
    now: Now,
    /// What is counted was counted of this line already.
    counted: Option<(LineId, bool)>,
    first: Option<Stamp>,
    counts: Counts,
    bans: Vec<WouldBan>,
    /// Where the last ban of each key is in `bans`.
    latest: HashMap<Key, usize>,
    timeline: Timeline,
    actions: Vec<Action>,
}

impl Replay {
    /// Nothing has happened yet.
    pub fn new(config: Config) -> Self {
        let now = Now::default();
        Self {
            brain: Brain::new(config, Mode::Enforce, "replay", WALL, Kept::default(), now),
            now,
            counted: None,
            first: None,
            counts: Counts::default(),
            bans: Vec::new(),
            latest: HashMap::new(),
            timeline: Timeline::default(),
            actions: Vec::new(),
        }
    }

    /// A line said this at `at`; they come in the order of time, and what does not counts as if it came with the one
    /// before. Times before 1970 count as its begin.
    pub fn hear(&mut self, at: Stamp, line: LineId, sign: Sign) {
        self.pass_to(at);
        let jail = match &sign {
            Sign::Attack(attack) => attack.jail.clone(),
            Sign::Login(login) => login.jail.clone(),
        };
        let shut_out = self.brain.shuts_out(&sign, self.now.stamp);
        self.count(line, &sign, shut_out.as_ref());
        // Who is shut out writes no lines: what such a line says has not happened.
        if shut_out.is_some() {
            return;
        }
        let batch = Batch { lines: 1, signs: vec![sign], ..Batch::default() };
        self.tell(Event::Heard(batch), &jail);
    }

    /// What would have been banned, in the order of time.
    pub fn bans(&self) -> &[WouldBan] {
        &self.bans
    }

    /// How many lines there were of each kind.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// How many of what when.
    pub const fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The times of the first and the last sign.
    pub fn span(&self) -> Option<(Stamp, Stamp)> {
        self.first.map(|first| (first, self.now.stamp))
    }

    /// Moves the clocks on. What ended on the way has ended before what comes now.
    fn pass_to(&mut self, at: Stamp) {
        let deadline = self.brain.next_deadline(self.now);
        let passed = at.since(self.now.stamp);
        self.now = Now { stamp: self.now.stamp.plus(passed), tick: self.now.tick.plus(passed) };
        self.first.get_or_insert(self.now.stamp);
        if deadline <= self.now.tick && passed > Span::ZERO {
            self.tell(Event::Idle, &JailName::from(""));
        }
    }

    fn count(&mut self, line: LineId, sign: &Sign, shut_out: Option<&Key>) {
        let (before, kept_before) = self.counted.filter(|(counted, _)| *counted == line).map_or((false, false), |(_, kept)| (true, kept));
        self.counted = Some((line, kept_before || shut_out.is_some()));
        let login = matches!(sign, Sign::Login(_));
        if !before {
            let count = if login { &mut self.counts.logins } else { &mut self.counts.attacks };
            *count += 1;
            if !login {
                self.timeline.add(self.now.stamp, What::Attack);
            }
        }
        let Some(key) = shut_out.filter(|_| !kept_before) else { return };
        self.counts.kept_out += 1;
        self.counts.logins_kept_out += u64::from(login);
        self.timeline.add(self.now.stamp, What::KeptOut);
        if let Some(ban) = self.latest.get(key).and_then(|at| self.bans.get_mut(*at)) {
            ban.kept_out += 1;
        }
    }

    /// Tells the brain, with a wall at its side that does at once whatever it is told.
    fn tell(&mut self, event: Event, jail: &JailName) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut actions = std::mem::take(&mut self.actions);
            self.brain.handle(event, self.now, &mut actions);
            for action in actions.drain(..) {
                match action {
                    Action::Keep(records) => records.into_iter().for_each(|record| self.note(record, jail)),
                    Action::Order { ticket, .. } => {
                        events.push(Event::Ended { ticket, killed: KillCount::default(), error: None });
                        events.push(Event::Applied { ticket, failed: Vec::new() });
                    }
                    Action::Kill { ticket, .. } => events.push(Event::Ended { ticket, killed: KillCount::default(), error: None }),
                    // The rest is for a store, a kernel or people.
                    _ => {}
                }
            }
            self.actions = actions;
        }
    }

    fn note(&mut self, record: Record, jail: &JailName) {
        let Record::Ban(Ban { key, until, origin, reason, offences, .. }) = record else { return };
        self.timeline.add(self.now.stamp, What::Ban);
        self.latest.insert(key.clone(), self.bans.len());
        let Key { prefix, ports, .. } = key;
        let (at, jail) = (self.now.stamp, jail.clone());
        self.bans.push(WouldBan { prefix, ports, at, until, jail, origin, offence: offences, reason, kept_out: 0 });
    }
}
