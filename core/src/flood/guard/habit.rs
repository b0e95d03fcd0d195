//! What a source usually holds, so that nobody is judged by another's measure.
//!
//! A habit is what somebody has held at most these days, without what came suddenly:
//!
//! * It rises towards what is held with a time constant of half an hour, and at most doubles in an hour. From the smallest
//!   habit that counts (an eighth of `per_source`), a source that gains more than a flow every four seconds is four
//!   times over it before long, however steadily it does so: what fills 65,536 in less than two days is seen. An office
//!   whose load goes up tenfold in a morning stays within twice its habit.
//! * It falls to a half in three days: the quiet of a night or of a weekend is not forgotten work.
//! * Nothing is learned of who is over, nor while the table is under pressure: then retries make everybody larger. Except
//!   from who has been over for an hour without growing while the table was at ease: that is a new habit, not a flood.
//! * Whom the guard meets in its first census has what it holds as its habit, on trust: a server may always have had
//!   5,000 flows. The trust ends if it grows by half within ten minutes, or by a quarter within the hour it takes to
//!   be trusted, once the table is under pressure. Where that first census already finds the table under pressure, who
//!   holds an eighth of it is not trusted.
//! * Everybody else begins with the habit of those who are like most.
//!
//! A second habit, which doubles in a day at most, is kept for the worst case: see [`super::suspects`].
//!
//! Kept only for those who hold enough for it to matter, so forged sources with a flow each take no room. When there are
//! more than the room holds, the smallest habits go, each day unseen counting as a half.

use std::collections::HashMap;

use super::forecast::seconds;
use crate::flood::wanted::Culprit;
use crate::time::{Span, Tick};

/// How many habits are kept. One is about 150 bytes: 2.5 MB at most.
pub(super) const ROOM: usize = 16_384;

/// Towards what is held: so far in half an hour that a third is missing still.
const RISES: f64 = 1800.0;

/// A habit at most doubles in this time, the slow one in a day.
const DOUBLES: f64 = 3600.0;
const SLOWLY: f64 = 86_400.0;

/// A habit that is not lived up to is a half in this time.
const HALVES: f64 = 3.0 * 86_400.0;

/// Nobody learns more from one census than it would in this time: a night without censuses is no steady night.
const MOST: Span = Span::secs(600);

/// So fast is nobody by habit who was not seen to be: a browser that starts.
const SLOWEST: f64 = 5.0;

/// How long a flow of no particular kind lives: `nf_conntrack_udp_timeout` and a TCP connection of a page.
pub(super) const LIFE: f64 = 30.0;

/// New flows a second from which on speed alone is looked at.
pub(super) const FAST: f64 = 20.0;

/// On trust: how long, and within which time growing by half ends it.
const TRUSTED: Span = Span::secs(3600);
const SHORTLY: Span = Span::secs(600);

/// Somebody over its habit who has neither grown nor shrunk by a quarter for so long has a new one.
const SETTLED: Span = Span::secs(3600);

/// How fast it grows is an average of about so long.
const GROWTH: f64 = 10.0;

/// What usually is; rises and falls slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Envelope(pub f64);

impl Envelope {
    /// Learns from `value` what `elapsed` seconds teach. Up to `floor` it is no matter how fast it rises.
    pub(super) fn learn(&mut self, value: f64, floor: f64, doubles: f64, elapsed: f64) {
        let usual = self.0;
        self.0 = if value > usual {
            let base = usual.max(floor.min(value));
            let near = base + (value - base) * (1.0 - (-elapsed / RISES).exp());
            near.min(base * (elapsed / doubles).exp2()).max(base)
        } else {
            value + (usual - value) * (-elapsed / HALVES).exp2()
        };
    }
}

/// What one holds and opens now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measure {
    pub flows: u32,
    pub opened: Option<f32>,
}

/// What holds for all in one census.
#[derive(Clone, Copy, Debug)]
pub(super) struct Season {
    pub now: Tick,
    /// Since the census before; `None`: this is the first.
    pub elapsed: Option<Span>,
    pub per_source: u32,
    /// What those hold that are like most.
    pub typical: f64,
    /// The table is under pressure, or full enough to be.
    pub pressed: bool,
    /// How many flows the table can hold; 0: no bound.
    pub max: u32,
}

impl Season {
    /// A smaller habit makes no difference.
    pub(super) fn floor(&self) -> f64 {
        f64::from(self.per_source) / 8.0
    }
}

/// What is known of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usual {
    /// How many flows it usually has, on trust where it was there first.
    pub flows: f64,
    /// The same of days: as long as it is not trusted, what it began with.
    pub slow: f64,
    /// How many it usually opens a second.
    pub rate: f64,
    /// How many more it has each second, and went on to have: a jump alone is none.
    pub growth: f64,
    /// How many more each second since the census before.
    pub gained: f64,
    /// For how long, and in how many censuses, it opened [`FAST`] or more.
    pub fast: (Span, u32),
}

#[derive(Clone, Debug)]
struct Habit {
    flows: Envelope,
    slow: Envelope,
    rate: Envelope,
    growth: f64,
    /// The same since the census before alone, and whether there was none before.
    gained: f64,
    fresh: bool,
    held: u32,
    seen: Tick,
    /// Met in the first census: what it held then, and when that was.
    trust: Option<(u32, Tick)>,
    fast: Option<(Tick, u32)>,
    /// What it held when it was last found to have grown or shrunk by a quarter, and when.
    settled: (u32, Tick),
}

/// Of all.
#[derive(Clone, Debug, Default)]
pub(super) struct Habits {
    kept: HashMap<Culprit, Habit>,
}

/// Whose habit it is. A local process's is its user's, whichever port most of its flows go to today: who looks and learns sums
/// what all of one habit have, and does so once a census.
pub(super) const fn key(whose: Culprit) -> Culprit {
    match whose {
        Culprit::Local { uid, protocol, .. } => Culprit::Local { uid, protocol, port: 0 },
        other => other,
    }
}

impl Habits {
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// What is usual for those of one habit who now have `measure` together. Looking also notes how it grows: once a census.
    pub(super) fn look(&mut self, whose: Culprit, measure: Measure, season: &Season) -> Usual {
        let key = key(whose);
        let opens = f64::from(measure.opened.unwrap_or(0.0));
        if let Some(habit) = self.kept.get_mut(&key) {
            habit.see(measure, opens, season);
            return habit.usual(season.now);
        }
        // Where it was not there before, all it has came since.
        let elapsed = season.elapsed.map_or(0.0, seconds);
        let gained = if elapsed > 0.0 { f64::from(measure.flows) / elapsed.max(1.0) } else { 0.0 };
        let mut habit = Habit {
            flows: Envelope(season.typical.min(f64::from(season.per_source) / 4.0)),
            slow: Envelope(0.0),
            rate: Envelope(0.0),
            growth: gained * averaged(elapsed),
            gained,
            fresh: true,
            held: measure.flows,
            seen: season.now,
            trust: None,
            fast: (opens >= FAST).then_some((season.now, 1)),
            settled: (measure.flows, season.now),
        };
        let eighth = season.pressed && season.max > 0 && measure.flows >= season.max / 8;
        if season.elapsed.is_none() && !eighth {
            habit.flows = Envelope(habit.flows.0.max(f64::from(measure.flows)));
            habit.slow = habit.flows;
            habit.trust = Some((measure.flows, season.now));
        }
        let usual = habit.usual(season.now);
        let matters = f64::from(measure.flows) >= season.floor() || opens >= SLOWEST;
        if matters && self.kept.len() < ROOM + ROOM / 4 {
            self.kept.insert(key, habit);
        }
        usual
    }

    /// What this census teaches about one; `over`: it is over its habit, `near` that it endangers the table if so.
    pub(super) fn learn(&mut self, whose: Culprit, over: bool, near: bool, season: &Season) {
        let Some(habit) = self.kept.get_mut(&key(whose)) else { return };
        let settled = season.now.since(habit.settled.1) >= SETTLED && !near;
        let (elapsed, held) = (seconds(season.elapsed.unwrap_or(Span::ZERO).min(MOST)), f64::from(habit.held));
        if season.pressed || (over && !settled) {
            return;
        }
        habit.flows.learn(held, season.floor(), DOUBLES, elapsed);
        habit.slow.learn(held, season.floor(), SLOWLY, elapsed);
    }

    /// The same of how fast it opens flows.
    pub(super) fn learn_rate(&mut self, whose: Culprit, opened: f32, season: &Season) {
        let elapsed = seconds(season.elapsed.unwrap_or(Span::ZERO).min(MOST));
        if let Some(habit) = self.kept.get_mut(&key(whose)).filter(|_| !season.pressed) {
            habit.rate.learn(f64::from(opened.max(0.0)), SLOWEST, DOUBLES, elapsed);
        }
    }

    /// Lets the smallest go where there are more than the room holds.
    pub(super) fn trim(&mut self, now: Tick) {
        if self.kept.len() <= ROOM {
            return;
        }
        let weight = |habit: &Habit| habit.flows.0 * (-seconds(now.since(habit.seen)) / SLOWLY).exp2();
        let mut weights: Vec<(f64, Culprit)> = self.kept.iter().map(|(whose, habit)| (weight(habit), *whose)).collect();
        weights.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, whose) in weights.drain(ROOM..) {
            self.kept.remove(&whose);
        }
    }
}

/// How much what was so for `elapsed` seconds weighs in the average.
fn averaged(elapsed: f64) -> f64 {
    1.0 - (-elapsed / GROWTH).exp()
}

impl Habit {
    fn see(&mut self, measure: Measure, opens: f64, season: &Season) {
        let elapsed = seconds(season.now.since(self.seen));
        if elapsed > 0.0 {
            self.gained = (f64::from(measure.flows) - f64::from(self.held)) / elapsed;
            self.growth += (self.gained - self.growth) * averaged(elapsed);
            self.fresh = false;
        }
        (self.held, self.seen) = (measure.flows, season.now);
        self.fast = (opens >= FAST).then(|| self.fast.map_or((season.now, 1), |(from, times)| (from, times.saturating_add(1))));
        let (flows, settled) = (f64::from(measure.flows), f64::from(self.settled.0));
        if flows > 1.25 * settled || flows < 0.75 * settled {
            self.settled = (measure.flows, season.now);
        }
        if let Some((first, at)) = self.trust {
            let (age, grown) = (season.now.since(at), measure.flows.saturating_sub(first));
            let by = |share: f64| grown >= season.per_source && f64::from(grown) >= share * f64::from(first);
            if (age <= SHORTLY && by(0.5)) || (season.pressed && by(0.25)) {
                self.trust = None;
                self.flows = Envelope(season.typical.min(f64::from(season.per_source) / 4.0));
                self.slow = Envelope(0.0);
            } else if age > TRUSTED {
                self.trust = None;
            }
        }
    }

    fn usual(&self, now: Tick) -> Usual {
        Usual {
            flows: self.flows.0,
            slow: self.slow.0,
            rate: self.rate.0.max(self.flows.0 / LIFE).max(SLOWEST),
            growth: if self.fresh { 0.0 } else { self.growth.min(self.gained) },
            gained: self.gained,
            fast: self.fast.map_or((Span::ZERO, 0), |(from, times)| (now.since(from), times)),
        }
    }
}
