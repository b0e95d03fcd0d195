//! Probes, the uplinks' healths, what the policies choose, and the watch over a trial.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Action, Probe, Steering, text};
use crate::net::{Addr, Family, Prefix};
use crate::route::lookup::{Answer, Question};
use crate::route::spec::Track;
use crate::route::track::Tracker;
use crate::route::wanted::{Health, Healths, connection_mark, healths, probe_mark, source_of, sources, wanted};
use crate::route::{Kind, Mark, Mask};
use crate::time::{Now, Span, Tick};

/// How the peers of a trial are asked for: often enough that a wrong set is taken back while the operator still waits.
const CONTROL: (Span, Span, u32) = (Span::secs(1), Span::secs(1), 5);

/// The name probes of `control_peers` go by: no uplink can have it.
pub(super) const CONTROL_NAME: &str = "";

/// One uplink that is asked for.
#[derive(Debug)]
pub(super) struct Watched {
    track: Track,
    metered: bool,
    tracker: Tracker,
    mark: Option<Mark>,
    /// The sources its probes were last sent from.
    from: BTreeMap<Family, Addr>,
    /// When one was answered last, or its sockets were made anew.
    heard: Tick,
}

impl Watched {
    pub(super) fn next_deadline(&self) -> Tick {
        self.tracker.next_deadline()
    }

    pub(super) const fn tracker(&self) -> &Tracker {
        &self.tracker
    }
}

/// What must go on working while a set is on trial.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    questions: Vec<Question>,
    before: Option<Vec<Answer>>,
    control: Option<Tracker>,
}

impl Guarded {
    pub(super) fn next_deadline(&self) -> Option<Tick> {
        self.control.as_ref().map(Tracker::next_deadline)
    }
}

/// Who is purged when an uplink is left.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Left {
    uplink: Arc<str>,
    mark: Option<(Mark, Mask)>,
    sources: Vec<Prefix>,
}

impl Steering {
    /// Watches the uplinks of what is to stand; those that are watched alike already go on.
    pub(super) fn follow(&mut self, now: Now) {
        let mut former = std::mem::take(&mut self.watched);
        for uplink in &self.spec.uplinks {
            let Some(track) = &uplink.track else { continue };
            let mark = probe_mark(&self.spec, &uplink.name);
            let same = |old: &Watched| old.track == *track && old.metered == uplink.metered && old.mark == mark;
            let old = former.remove(&uplink.name);
            if old.as_ref().is_some_and(|old| !same(old)) {
                // Its sockets carry another mark.
                self.out.push(Action::Unprobe(Arc::clone(&uplink.name)));
            }
            let watched = old.filter(same).unwrap_or_else(|| Watched {
                track: track.clone(),
                metered: uplink.metered,
                tracker: Tracker::new(track, uplink.metered, now.tick),
                mark,
                from: BTreeMap::new(),
                heard: now.tick,
            });
            self.watched.insert(Arc::clone(&uplink.name), watched);
        }
        self.out.extend(former.into_keys().map(Action::Unprobe));
        let spec = &self.spec;
        self.since.retain(|name, _| spec.uplink(name).is_some());
        self.healths.retain(|name, _| spec.uplink(name).is_some());
    }

    /// Sends the probes that are due.
    pub(super) fn probe(&mut self, now: Now) {
        let mut probes = Vec::new();
        for (name, watched) in &mut self.watched {
            watched.tracker.expired(now.tick);
            for (to, seq) in watched.tracker.due(now.tick) {
                let uplink = self.spec.uplink(name);
                let Some(from) = uplink.and_then(|uplink| source_of(uplink, &self.world, to.family())) else { continue };
                let moved = watched.from.insert(to.family(), from).is_some_and(|old| old != from);
                // Probes of one socket are one connection to the kernel, and address translation that was chosen for its
                // first packet (by the wrong way, before our rules stood) stays with it: a new socket is a new one.
                let deaf = now.tick >= watched.heard.plus(watched.track.timeout).plus(watched.tracker.interval());
                if moved || deaf {
                    watched.heard = now.tick;
                    probes.push(Action::Unprobe(Arc::clone(name)));
                }
                probes.push(Action::Probe(Probe { uplink: Arc::clone(name), from: Some(from), mark: watched.mark, to, seq }));
            }
        }
        if let Some(control) = &mut self.guarded.control {
            control.expired(now.tick);
            let probe = |(to, seq)| Action::Probe(Probe { uplink: CONTROL_NAME.into(), from: None, mark: None, to, seq });
            probes.extend(control.due(now.tick).into_iter().map(probe));
        }
        self.out.append(&mut probes);
        if self.guarded.control.as_ref().is_some_and(|control| control.health() == Some(Health::Down)) {
            self.guarded.control = None;
            self.take_back("the hosts in `control_peers` do not answer any more", now);
        }
    }

    pub(super) fn echo(&mut self, uplink: &str, target: Addr, seq: u16, now: Now) {
        if let Some(watched) = self.watched.get_mut(uplink) {
            watched.heard = now.tick;
            watched.tracker.answered(target, seq, now.tick);
        } else if let Some(control) = self.guarded.control.as_mut().filter(|_| uplink == CONTROL_NAME) {
            control.answered(target, seq, now.tick);
        }
    }

    /// What the probes say of each uplink, as far as they say anything yet.
    fn probed(&self) -> Healths {
        let one = |(name, watched): (&Arc<str>, &Watched)| Some((Arc::clone(name), watched.tracker.health()?));
        self.watched.iter().filter_map(one).collect()
    }

    /// Whether an uplink's health, or what a policy would choose, is not what the last round went by.
    pub(super) fn reconsider(&self, now: Now) -> bool {
        healths(&self.spec, &self.world, &self.probed()) != self.healths || self.chooser.next_deadline().is_some_and(|at| now.tick >= at)
    }

    /// Takes what was found: healths, choices, and what should stand then.
    pub(super) fn weigh(&mut self, now: Now) {
        let probed = self.probed();
        self.healths = healths(&self.spec, &self.world, &probed);
        self.tell_healths(now);
        for switched in self.chooser.update(&self.spec, &self.healths, now) {
            self.out.push(Action::Tell(text::switched(&switched)));
            for name in &switched.purge {
                let Some(uplink) = self.spec.uplink(name) else { continue };
                let mask = self.spec.settings.mark_mask;
                let mark = connection_mark(&self.spec, name).map(|mark| (mark, mask));
                self.left.push(Left { uplink: Arc::clone(name), mark, sources: sources(uplink, &self.world) });
            }
        }
        self.wanted = wanted(&self.spec, &self.world, &probed, self.chooser.chosen());
    }

    /// What changed is told, and since when it is so.
    fn tell_healths(&mut self, now: Now) {
        for (name, health) in &self.healths {
            let old = self.since.get(name).map(|(health, _)| *health);
            if old == Some(*health) {
                continue;
            }
            self.since.insert(Arc::clone(name), (*health, now.stamp));
            // What is so from the start is told where it is not as it should be.
            match (old, health) {
                (None, Health::Up) => {}
                (_, Health::Up) => self.out.push(Action::Tell(format!("uplink {name} is up"))),
                (_, Health::Down) => self.out.push(Action::Tell(format!("uplink {name} is down"))),
            }
        }
    }

    /// Once the new way stands, the connections of the uplink that was left are ended.
    pub(super) fn purge(&mut self) {
        for Left { uplink, mark, sources } in std::mem::take(&mut self.left) {
            self.out.push(Action::Purge { uplink, mark, sources });
        }
    }

    /// A trial begins: how the peers are reached now is what they must be reached by then.
    pub(super) fn guard(&mut self, peer: Option<(Addr, Addr)>, control: &[Addr], now: Now) {
        let session = peer.map(|(to, from)| Question { from: Some(from), ..Question::to(to) });
        let questions: Vec<Question> = session.into_iter().chain(control.iter().map(|peer| Question::to(*peer))).collect();
        let (interval, timeout, down) = CONTROL;
        let track = Track {
            targets: control.to_vec(),
            interval,
            timeout,
            down,
            up: 1,
            quorum: 1,
            loss: None,
            latency: None,
            window: Span::secs(60),
        };
        let control = (!control.is_empty()).then(|| Tracker::new(&track, false, now.tick));
        self.out.push(Action::Ask(questions.clone()));
        self.guarded = Guarded { questions, before: None, control };
    }

    /// The set on trial stands: whether the peers are still reached is asked, if there is whom to ask for.
    pub(super) fn look_after_trial(&mut self) -> bool {
        if self.journal.trial.is_none() {
            self.guarded = Guarded::default();
            self.out.push(Action::Unprobe(CONTROL_NAME.into()));
            return false;
        }
        let asks = self.guarded.before.is_some() && !self.guarded.questions.is_empty();
        if asks {
            self.out.push(Action::Ask(self.guarded.questions.clone()));
        }
        asks
    }

    pub(super) fn ways(&mut self, answers: Vec<Answer>, now: Now) {
        let Some(before) = &self.guarded.before else {
            self.guarded.before = Some(answers);
            return;
        };
        let lost = before.iter().zip(&answers).zip(&self.guarded.questions).find(|((before, after), _)| worse(before, after));
        if let Some((_, question)) = lost {
            let why = format!("{} would be reached by another way than this session's, or not at all", question.to);
            if let Some((id, _)) = self.held.take() {
                self.out.push(Action::Answer { id, reply: Err((5, format!("taken back: {why}"))) });
            }
            self.take_back(&why, now);
        }
        self.answer_held();
    }
}

/// Whether somebody who was reached would not be any more, or by another interface.
fn worse(before: &Answer, after: &Answer) -> bool {
    match (before, after) {
        (Answer::Route(before), Answer::Route(after)) => {
            before.kind == Kind::Unicast && before.hops.iter().all(|hop| after.hops.iter().all(|other| other.link != hop.link))
        }
        (Answer::Route(before), Answer::NoWay(_)) => before.kind == Kind::Unicast,
        (Answer::NoWay(_), _) => false,
    }
}
