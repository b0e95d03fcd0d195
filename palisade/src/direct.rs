//! The house without a daemon: the same brain on store and kernel, for one question or the parts of
//! one, with the lock held.

use std::path::PathBuf;

use anyhow::Result;
use palisade_core::bans::wall::Key;
use palisade_core::brain::{Action, Brain, Event, Mode};
use palisade_core::config::Config;
use palisade_core::control::conntrack::{ConntrackReply, ConntrackRequest};
use palisade_core::control::{Problem, Reply, Request, State, Whom};
use palisade_core::event::KillCount;
#[cfg(target_os = "linux")]
use palisade_core::flood::timeouts::Timeouts;
#[cfg(target_os = "linux")]
use palisade_core::flood::wanted::Wanted;
use palisade_core::net::Prefix;
use palisade_core::ports::Ports;
use palisade_core::time::Now;
use palisade_os::block::{Blocker, Read};
use palisade_os::clock;
use palisade_os::flows::Flows;

use crate::feeds::Follower;
use crate::serve::open::{self, Opened};
use crate::serve::{errors::chain, host, keeper, killing, wall};
use crate::settings::Places;
use crate::store::Store;

/// A question about at most so many prefixes reads only what overlaps them; with more, reading all
/// bans in one go is cheaper than looking each up.
const FEW: usize = 256;

/// Store and kernel, held for one question or the parts of one.
pub struct Direct {
    config: Config,
    state: PathBuf,
    /// Why the firewall cannot be used, where that is so.
    broken: Option<String>,
    brain: Brain,
    store: Store,
    blocker: Box<dyn Blocker>,
    flows: Box<dyn Flows>,
    _lock: palisade_os::privileges::Lock,
}

impl Direct {
    /// Takes the lock and opens what the question needs.
    pub fn open(places: &Places, request: &Request) -> Result<Self> {
        let opened = match request {
            Request::Ban { prefixes, .. } | Request::Kill { prefixes } | Request::Unban { whom: Whom::Prefixes(prefixes) }
                if prefixes.len() <= FEW =>
            {
                open::around(places, prefixes)?
            }
            Request::Check { addr } => open::reading(places, Some(&[Prefix::host(*addr)]))?,
            reads if reads.only_reads() => open::reading(places, None)?,
            _ => open::all(places, Mode::Enforce)?,
        };
        let Opened { lock, config, mut store, mut blocker, broken, flows, mut links, mut brain, .. } = opened;
        let mut actions = Vec::new();
        for event in host::first(&mut links) {
            brain.handle(event, clock::now(), &mut actions);
        }
        // Whoever only asks changes nothing; whoever changes something starts from what is so now: a clock
        // that stepped, a ban that ended, an own address that is new.
        let mut kills = Vec::new();
        if !request.only_reads() {
            if !blocker.read(Read::Frame)?.whole {
                actions.retain(|action| matches!(action, Action::Keep(_)));
            }
            kills = open::carry_out(actions, &mut brain, blocker.as_mut(), &mut store)?;
        }
        let mut direct = Self { config, state: places.state.clone(), broken, brain, store, blocker, flows, _lock: lock };
        direct.act_all(kills, &mut None)?;
        if matches!(request, Request::Feeds | Request::Status) {
            direct.remember_feeds();
        }
        Ok(direct)
    }

    /// Asks, and does what follows.
    pub fn ask(&mut self, request: Request, now: Now) -> Result<Reply> {
        if let Request::Events { since, about, .. } = &request {
            let notices = self.store.notices(*since, about.as_ref(), keeper::EVENTS)?;
            return Ok(Reply::Events { notices });
        }
        if request == Request::Conntrack(ConntrackRequest::History) {
            let points = keeper::history(&self.store, now.stamp)?;
            return Ok(Reply::Conntrack(ConntrackReply::History { points }));
        }
        let mut actions = Vec::new();
        if !request.only_reads() && !matches!(request, Request::Flush) && !self.blocker.read(Read::Frame)?.whole {
            // Nothing stands yet, or not all of it: put up what the store has before adding to it.
            self.brain.raise(&mut actions);
        }
        let who = "the command line".to_owned();
        let only_reads = request.only_reads();
        self.brain.handle(Event::Asked { id: 0, who, request }, now, &mut actions);
        if only_reads {
            actions.retain(|action| !matches!(action, Action::Order { .. } | Action::Keep(_)));
        }
        let mut answer = None;
        // Feeds' members are settled in parts.
        loop {
            self.act_all(std::mem::take(&mut actions), &mut answer)?;
            if only_reads || !self.brain.busy() {
                break;
            }
            self.brain.handle(Event::Idle, clock::now(), &mut actions);
        }
        Ok(match answer {
            Some(Reply::Status(mut status)) => {
                status.since = None;
                if let Some(what) = self.broken.take() {
                    status.state = State::Degraded;
                    status.backend = "none".to_owned();
                    status.problems.push(Problem { about: "firewall".to_owned(), what, since: now.stamp });
                } else if status.bans > 0 && !self.blocker.read(Read::Frame)?.whole {
                    status.state = State::Degraded;
                    let what = "the stored bans do not stand in the kernel; `palisade restore` puts them there".to_owned();
                    status.problems.push(Problem { about: "wall".to_owned(), what, since: now.stamp });
                }
                Reply::Status(status)
            }
            Some(reply) => reply,
            None => Reply::Failed { exit: 70, message: "there was no answer; this is a bug".to_owned() },
        })
    }

    /// Does these and what follows from them.
    fn act_all(&mut self, mut actions: Vec<Action>, answer: &mut Option<Reply>) -> Result<()> {
        while !actions.is_empty() {
            for action in std::mem::take(&mut actions) {
                self.act(action, &mut actions, answer)?;
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action, more: &mut Vec<Action>, answer: &mut Option<Reply>) -> Result<()> {
        match action {
            Action::Order { ticket, order } => {
                let steps = order.steps();
                let report = if steps.is_empty() { Default::default() } else { self.blocker.apply(&steps, clock::now().stamp) };
                let kills = order.kills(&report);
                let failed = wall::failures(&steps, &report).into_iter().collect();
                self.brain.handle(Event::Applied { ticket, failed }, clock::now(), more);
                self.end(ticket, kills, more);
            }
            Action::Kill { ticket, targets } => self.end(ticket, targets, more),
            Action::Rebuild { ticket, frame, entries } => {
                let result = self.blocker.replace(&frame, &mut entries.into_iter(), clock::now().stamp).map_err(|e| chain(&e));
                self.brain.handle(Event::Rebuilt { ticket, result }, clock::now(), more);
            }
            Action::Keep(records) => open::keep(&mut self.store, &records)?,
            Action::Answer { reply, .. } => *answer = Some(reply),
            Action::Look { mut why, keys, .. } => {
                self.look(&mut why, &keys);
                *answer = Some(Reply::Why(why));
            }
            Action::Fetch { id, names, accept } => {
                for name in &names {
                    let Some(feed) = self.config.feed(name).cloned() else { continue };
                    let (mut follower, fed) = Follower::take_up(&feed, &self.state, clock::now());
                    for fed in fed.into_iter().chain([follower.look(accept)]) {
                        self.brain.handle(Event::Fed(Box::new(fed)), clock::now(), more);
                    }
                }
                self.brain.handle(Event::Fetched { id, names }, clock::now(), more);
            }
            Action::TakeDown { .. } => {
                self.blocker.remove()?;
                // What a daemon that was killed has left of its limits goes with the wall.
                #[cfg(target_os = "linux")]
                palisade_os::limits::set(&Wanted::default(), &Timeouts::new())?;
                *answer = Some(Reply::Flushed);
            }
            // Floods are watched by the daemon alone.
            Action::Tell(_) | Action::Hold { .. } | Action::Purge { .. } | Action::Forget { .. } => {}
        }
        Ok(())
    }

    /// Tells the brain what is kept of the feeds' lists. For whoever only asks: nothing is done about it.
    fn remember_feeds(&mut self) {
        let mut undone = Vec::new();
        for feed in self.config.feeds().values().filter(|feed| feed.enabled) {
            if let (_, Some(fed)) = Follower::take_up(feed, &self.state, clock::now()) {
                self.brain.handle(Event::Fed(Box::new(fed)), clock::now(), &mut undone);
            }
        }
        while self.brain.busy() {
            self.brain.handle(Event::Idle, clock::now(), &mut undone);
        }
    }

    fn end(&mut self, ticket: u64, kills: Vec<(Prefix, Ports)>, more: &mut Vec<Action>) {
        let (killed, error) =
            if kills.is_empty() { (KillCount::default(), None) } else { killing::kill(self.flows.as_mut(), &killing::targets(kills)) };
        self.brain.handle(Event::Ended { ticket, killed, error }, clock::now(), more);
    }

    fn look(&mut self, why: &mut palisade_core::control::Why, keys: &[Key]) {
        wall::look(self.blocker.as_mut(), why, keys);
        keeper::remember(&self.store, why);
    }
}
