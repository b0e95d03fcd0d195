//! All culprits that stand, and those who were let go lately.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::State;
use super::offender::{Offender, Sighting, Signs};
use super::said::Queue;
use crate::flood::gauge::Gauge;
use crate::flood::settings::{Action, Settings};
use crate::flood::wanted::{Culprit, LIMITS, Limit};
use crate::net::Prefix;
use crate::time::{Now, Span, Tick};

/// More than this at once are no list; the largest are kept.
pub(super) const ROOM: usize = 1024;

/// Idle flows of so many are ended in one pass at most: the others' come with the next, of which there are several a second.
pub(super) const PURGES: usize = 16;

/// Which gone ones are remembered for a longer hold.
const GONE: usize = 1024;

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Offenders {
    standing: BTreeMap<Culprit, Offender>,
    /// When it was let go, and how often it had come back by then.
    gone: HashMap<Culprit, (Tick, u32)>,
}

impl Offenders {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Offender> {
        self.standing.values()
    }

    pub(super) fn has(&self, culprit: &Culprit) -> bool {
        self.standing.contains_key(culprit)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    /// How many flows too many those with a name have.
    pub(super) fn excess(&self) -> f64 {
        let named = self.standing.values().filter(|offender| offender.over && !matches!(offender.culprit, Culprit::Crowd { .. }));
        named.map(|offender| (f64::from(offender.flows) - offender.usual).max(0.0)).sum()
    }

    /// Takes what a census says of everybody `of` whom it can say something; who is not in it holds nothing worth naming.
    pub(super) fn see(&mut self, seen: Vec<Sighting>, of: impl Fn(&Culprit) -> bool, settings: &Settings, now: Now, said: &mut Queue) {
        let mut there = HashSet::new();
        let (mut seen, mut full) = (seen, false);
        seen.sort_by_key(|one| std::cmp::Reverse(one.flows));
        for sighting in seen {
            let culprit = sighting.culprit;
            if let Some(offender) = self.standing.get_mut(&culprit) {
                there.insert(culprit);
                offender.see(sighting, now.tick);
            } else if sighting.over.is_some() && !full {
                // Where there is no room for one, there is none for those with less.
                if !self.room_for(sighting.flows, now.tick, said) {
                    full = true;
                    continue;
                }
                there.insert(culprit);
                let strikes = self.strikes(&culprit, settings, now.tick);
                self.standing.insert(culprit, Offender::new(sighting, strikes, now));
            }
        }
        for offender in self.standing.values_mut().filter(|offender| of(&offender.culprit) && !there.contains(&offender.culprit)) {
            offender.gone(now.tick);
        }
    }

    /// This census did not look at local processes, or could not, though this host's own addresses may have `flows` flows.
    pub(super) fn unlooked(&mut self, flows: u64, per_source: u32, now: Tick) {
        for offender in self.standing.values_mut().filter(|offender| matches!(offender.culprit, Culprit::Local { .. })) {
            if flows < u64::from(per_source / 2) { offender.gone(now) } else { offender.unseen(now) }
        }
    }

    /// How often it has come back soon: once more than last time, if that is not long ago.
    fn strikes(&mut self, culprit: &Culprit, settings: &Settings, now: Tick) -> u32 {
        let gone = self.gone.remove(culprit);
        gone.filter(|(at, _)| now.since(*at) <= settings.limit_time).map_or(0, |(_, strikes)| strikes.saturating_add(1))
    }

    /// Whether there is room for one more with so many flows; the smallest that is only watched makes it.
    fn room_for(&mut self, flows: u32, now: Tick, said: &mut Queue) -> bool {
        if self.standing.len() < ROOM {
            return true;
        }
        let watched = self.standing.values().filter(|offender| offender.action == Action::Watch);
        let smallest = watched.min_by_key(|offender| offender.flows).filter(|offender| offender.flows < flows);
        let Some(culprit) = smallest.map(|offender| offender.culprit) else { return false };
        if let Some(offender) = self.standing.remove(&culprit) {
            said.push(offender.farewell(now));
        }
        true
    }

    /// Asks again who is exempt, and why.
    pub(super) fn exempt(&mut self, why: impl Fn(&Culprit) -> Option<String>) {
        for offender in self.standing.values_mut() {
            offender.exempt = why(&offender.culprit);
        }
    }

    /// Asks again by new settings who is a culprit at all, and who of them is exempt. Whoever is exempt for another reason
    /// stays so until the next census.
    pub(super) fn reconsider(&mut self, settings: &Settings, why: impl Fn(&Culprit) -> Option<String>) {
        for offender in self.standing.values_mut() {
            offender.exempt = offender.exempt.take().or_else(|| why(&offender.culprit));
            offender.reconsider(settings);
        }
    }

    /// Does what is due about each, the largest first. Idle flows are ended of those only who have a limit: whoever is not among the
    /// worst opens anew what is ended.
    pub(super) fn act(&mut self, settings: &Settings, state: State, gauge: &Gauge, now: Tick, said: &mut Queue) {
        let mut all: Vec<&mut Offender> = self.standing.values_mut().collect();
        all.sort_by_key(|offender| std::cmp::Reverse(offender.flows));
        let largest = all.iter().filter(|offender| offender.over).map(|offender| offender.flows).max().unwrap_or(0);
        let signs = Signs { state, gauge, largest };
        all.into_iter().for_each(|offender| offender.act(settings, &signs, now, said));
        if settings.purge && state >= State::Pressure {
            let mut left = PURGES;
            for limit in self.limits(settings, gauge) {
                let offender = self.standing.get_mut(&limit.whose).filter(|_| left > 0);
                left -= usize::from(offender.is_some_and(|offender| offender.purge(now, said)));
            }
        }
    }

    /// The ban of one does not stand.
    pub(super) fn unbanned(&mut self, prefix: Prefix) {
        if let Some(offender) = self.standing.get_mut(&Culprit::Source { prefix }) {
            offender.unban();
        }
    }

    /// What the limits have dropped.
    pub(super) fn limited(&mut self, dropped: &[(Culprit, u64)], settings: &Settings, max: u32, now: Tick) {
        for (culprit, total) in dropped {
            if let Some(offender) = self.standing.get_mut(culprit) {
                let (rate, _) = offender.rate(settings, max);
                offender.count(*total, rate, now);
            }
        }
    }

    /// Lets those go for whom `over` holds.
    pub(super) fn release(&mut self, over: impl Fn(&Offender) -> bool, settings: &Settings, now: Tick, said: &mut Queue) {
        let (gone, standing): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.standing).into_iter().partition(|(_, one)| over(one));
        self.standing = standing;
        for (culprit, offender) in gone {
            said.push(offender.farewell(now));
            self.gone.insert(culprit, (now, offender.strikes));
        }
        self.gone.retain(|_, (at, _)| now.since(*at) <= settings.limit_time);
        if self.gone.len() > GONE {
            let mut all: Vec<(Span, Culprit)> = self.gone.iter().map(|(culprit, (at, _))| (now.since(*at), *culprit)).collect();
            all.sort_unstable();
            all.drain(..GONE);
            for (_, culprit) in all {
                self.gone.remove(&culprit);
            }
        }
    }

    /// When the next is let go, if nothing happens.
    pub(super) fn deadline(&self, settings: &Settings) -> Option<Tick> {
        self.standing.values().map(|offender| offender.ends(settings)).min()
    }

    /// The worst first.
    pub(super) fn worst(&self) -> Vec<&Offender> {
        let mut all: Vec<&Offender> = self.standing.values().collect();
        all.sort_by_key(|offender| std::cmp::Reverse((offender.action, offender.peak)));
        all
    }

    /// The limits that should hold, of the worst.
    pub(super) fn limits(&self, settings: &Settings, gauge: &Gauge) -> Vec<Limit> {
        self.worst().into_iter().filter_map(|offender| offender.limit(settings, gauge)).take(LIMITS).collect()
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.standing.len(), self.gone.len())
    }
}
