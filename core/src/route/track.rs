//! Whether one uplink answers: echo requests in rounds, counted up and down.
//!
//! A round asks every target; it is good once `quorum` of them have answered, and bad once the time is over. `down` bad
//! rounds in a row: down; `up` good ones: up. Rounds are judged in the order in which they were sent. Loss and latency are
//! looked at over a window; they count what the quorum needs, so a target that never answers does not spoil them.

use std::collections::VecDeque;

use super::spec::Track;
use super::wanted::Health;
use crate::net::Addr;
use crate::time::{Span, Tick};

/// How many rounds may be under way: more than a timeout of a minute at one a second.
const UNDER_WAY: usize = 64;

/// How many parts the window has: each is forgotten as a whole.
const PARTS: u64 = 60;

/// An uplink that costs money is asked so many times more seldom.
const METERED: u64 = 10;

/// Watches one uplink.
#[derive(Clone, Debug)]
pub struct Tracker {
    track: Track,
    interval: Span,
    seq: u16,
    next: Tick,
    rounds: VecDeque<Round>,
    health: Option<Health>,
    good: u32,
    bad: u32,
    window: VecDeque<Part>,
    poor: bool,
}

#[derive(Clone, Debug)]
struct Round {
    seq: u16,
    sent: Tick,
    /// When each target answered, in the order of the targets.
    answers: Vec<Option<Span>>,
    judged: bool,
}

/// What was counted in one part of the window.
#[derive(Clone, Copy, Debug)]
struct Part {
    begun: Tick,
    rounds: u64,
    /// Answers that were needed, and those that came,
    needed: u64,
    came: u64,
    /// and how long these took altogether, in milliseconds.
    took: u64,
}

/// How well it answers, over the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Percent of the answers needed that did not come; none before the first round is over.
    pub loss: Option<u8>,
    /// Mean time of an answer; none if there was none.
    pub rtt: Option<Span>,
    /// Loss or time is at or above what the config warns of.
    pub warn: bool,
}

impl Round {
    fn answered(&self) -> usize {
        self.answers.iter().flatten().count()
    }

    fn over(&self, timeout: Span, now: Tick) -> bool {
        now >= self.sent.plus(timeout) || self.answered() == self.answers.len()
    }
}

impl Tracker {
    /// Begins with a round at once.
    pub fn new(track: &Track, metered: bool, now: Tick) -> Self {
        let factor = if metered { METERED } else { 1 };
        Self {
            // An interval of nothing would ask without end.
            interval: Span::millis(track.interval.as_millis().max(10).saturating_mul(factor)),
            track: track.clone(),
            seq: 0,
            next: now,
            rounds: VecDeque::new(),
            health: None,
            good: 0,
            bad: 0,
            window: VecDeque::new(),
            poor: false,
        }
    }

    /// How long from one round to the next.
    pub const fn interval(&self) -> Span {
        self.interval
    }

    fn quorum(&self) -> usize {
        self.track.quorum.clamp(1, self.track.targets.len().max(1))
    }

    /// Whom to ask now, and with which number. After a long sleep it is one round, not all that were missed.
    pub fn due(&mut self, now: Tick) -> Vec<(Addr, u16)> {
        self.expired(now);
        if now < self.next || self.track.targets.is_empty() {
            return Vec::new();
        }
        self.next = now.plus(self.interval);
        self.seq = self.seq.wrapping_add(1);
        if self.rounds.len() == UNDER_WAY {
            self.close(now);
        }
        self.rounds.push_back(Round { seq: self.seq, sent: now, answers: vec![None; self.track.targets.len()], judged: false });
        self.track.targets.iter().map(|target| (*target, self.seq)).collect()
    }

    /// A target answered. What was not asked, was answered before or comes too late is nothing.
    pub fn answered(&mut self, target: Addr, seq: u16, now: Tick) {
        self.expired(now);
        let place = self.track.targets.iter().position(|known| *known == target);
        let round = self.rounds.iter_mut().find(|round| round.seq == seq);
        if let (Some(place), Some(round)) = (place, round) {
            round.answers[place].get_or_insert(now.since(round.sent));
        }
        self.expired(now);
    }

    /// Judges what is over.
    pub fn expired(&mut self, now: Tick) {
        let (quorum, timeout) = (self.quorum(), self.track.timeout);
        let mut verdicts = Vec::new();
        for round in self.rounds.iter_mut().skip_while(|round| round.judged) {
            let good = round.answered() >= quorum;
            if !good && !round.over(timeout, now) {
                break;
            }
            round.judged = true;
            verdicts.push(good);
        }
        verdicts.into_iter().for_each(|good| self.judge(good));
        while self.rounds.front().is_some_and(|round| round.judged && round.over(timeout, now)) {
            self.close(now);
        }
        let part = self.part();
        while self.window.front().is_some_and(|first| now.since(first.begun) > self.track.window.max(part)) {
            self.window.pop_front();
        }
        self.weigh();
    }

    fn judge(&mut self, good: bool) {
        (self.good, self.bad) = if good { (self.good.saturating_add(1), 0) } else { (0, self.bad.saturating_add(1)) };
        if self.good >= self.track.up.max(1) {
            self.health = Some(Health::Up);
        } else if self.bad >= self.track.down.max(1) {
            self.health = Some(Health::Down);
        }
    }

    fn part(&self) -> Span {
        Span::millis((self.track.window.as_millis() / PARTS).max(1))
    }

    /// Counts the oldest round into the window.
    fn close(&mut self, now: Tick) {
        let Some(round) = self.rounds.pop_front() else { return };
        if !round.judged {
            self.judge(round.answered() >= self.quorum());
        }
        let mut times: Vec<u64> = round.answers.iter().flatten().map(|took| took.as_millis()).collect();
        times.sort_unstable();
        times.truncate(self.quorum());
        if self.window.back().is_none_or(|last| now.since(last.begun) >= self.part()) {
            self.window.push_back(Part { begun: now, rounds: 0, needed: 0, came: 0, took: 0 });
        }
        let needed = self.quorum() as u64;
        if let Some(part) = self.window.back_mut() {
            part.rounds += 1;
            part.needed += needed;
            part.came += times.len() as u64;
            part.took = part.took.saturating_add(times.iter().fold(0, |sum, took| sum.saturating_add(*took)));
        }
    }

    /// Whether loss or latency makes it count as down. Back only below what warns: else it would flap at the edge.
    fn weigh(&mut self) {
        let rounds: u64 = self.window.iter().map(|part| part.rounds).sum();
        let holds = self.track.window.as_millis() / self.interval.as_millis();
        let stats = self.stats();
        let (loss, rtt) = (stats.loss.unwrap_or(0), stats.rtt.unwrap_or(Span::ZERO));
        let above = |loss_line: Option<u8>, rtt_line: Option<Span>| {
            loss_line.is_some_and(|line| loss >= line.max(1)) || rtt_line.is_some_and(|line| rtt >= line.max(Span::millis(1)))
        };
        let down = above(self.track.loss.map(|lines| lines.1), self.track.latency.map(|lines| lines.1));
        // A few rounds are no measure of percents.
        let enough = rounds >= (holds / 2).clamp(1, 10);
        self.poor = if self.poor { down || stats.warn } else { down && enough };
    }

    /// How it is; none as long as nothing is known: it then counts by its link.
    pub fn health(&self) -> Option<Health> {
        if self.poor { Some(Health::Down) } else { self.health }
    }

    /// How well it answers.
    pub fn stats(&self) -> Stats {
        let sum = |of: fn(&Part) -> u64| self.window.iter().map(of).fold(0u64, u64::saturating_add);
        let (needed, came, took) = (sum(|part| part.needed), sum(|part| part.came), sum(|part| part.took));
        let lost = needed.saturating_sub(came).saturating_mul(100).checked_div(needed);
        let loss = lost.map(|percent| u8::try_from(percent).unwrap_or(100));
        let rtt = took.checked_div(came).map(Span::millis);
        let lossy = self.track.loss.is_some_and(|(line, _)| loss.is_some_and(|loss| loss >= line.max(1)));
        let slow = self.track.latency.is_some_and(|(line, _)| rtt.is_some_and(|rtt| rtt >= line.max(Span::millis(1))));
        Stats { loss, rtt, warn: lossy || slow }
    }

    /// When to call [`Self::due`] next.
    pub fn next_deadline(&self) -> Tick {
        let over = self.rounds.front().map(|round| round.sent.plus(self.track.timeout));
        over.map_or(self.next, |over| over.min(self.next))
    }
}

#[cfg(test)]
mod tests {
    use super::super::wanted::made::{addr, track};
    use super::*;
    use proptest::prelude::*;

    /// Plays seconds of rounds in which these targets answer after so many milliseconds.
    fn play(tracker: &mut Tracker, now: &mut u64, rounds: u32, answering: &[(usize, u64)]) {
        let targets = tracker.track.targets.clone();
        for _ in 0..rounds {
            let asked = tracker.due(Tick(*now));
            assert_eq!(asked.len(), targets.len());
            for (target, after) in answering {
                tracker.answered(targets[*target], asked[0].1, Tick(*now + after));
            }
            *now += tracker.interval.as_millis();
            tracker.expired(Tick(*now));
        }
    }

    #[test]
    fn counts_decide_and_the_first_ones_too() {
        let (mut tracker, mut now) = (Tracker::new(&track(), false, Tick(5)), 5);
        assert_eq!((tracker.health(), tracker.stats()), (None, Stats::default()));
        play(&mut tracker, &mut now, 2, &[(1, 40)]);
        assert_eq!(tracker.health(), None);
        play(&mut tracker, &mut now, 1, &[(0, 20)]);
        assert_eq!(tracker.health(), Some(Health::Up));
        play(&mut tracker, &mut now, 2, &[]);
        play(&mut tracker, &mut now, 1, &[(0, 1)]);
        play(&mut tracker, &mut now, 2, &[]);
        assert_eq!(tracker.health(), Some(Health::Up), "not in a row");
        play(&mut tracker, &mut now, 1, &[(0, 3000)]);
        assert_eq!(tracker.health(), Some(Health::Down), "too late is no answer");
        play(&mut tracker, &mut now, 3, &[(0, 1), (1, 1)]);
        assert_eq!(tracker.health(), Some(Health::Up));
    }

    #[test]
    fn a_quorum_must_answer() {
        let quorum = Track { quorum: 2, ..track() };
        let (mut tracker, mut now) = (Tracker::new(&quorum, false, Tick(0)), 0);
        play(&mut tracker, &mut now, 3, &[(1, 1)]);
        assert_eq!(tracker.health(), Some(Health::Down));
        assert_eq!(tracker.stats().loss, Some(50));
    }

    #[test]
    fn loss_and_latency_over_the_window() {
        let second = Track { interval: Span::secs(1), timeout: Span::millis(900), loss: Some((10, 20)), ..track() };
        let second = Track { latency: Some((Span::millis(200), Span::millis(500))), ..second };
        let (mut tracker, mut now) = (Tracker::new(&second, false, Tick(0)), 0);
        play(&mut tracker, &mut now, 50, &[(0, 30)]);
        assert_eq!(tracker.stats(), Stats { loss: Some(0), rtt: Some(Span::millis(30)), warn: false });
        // Never three in a row, and yet too many.
        for _ in 0..10 {
            play(&mut tracker, &mut now, 2, &[]);
            play(&mut tracker, &mut now, 1, &[(0, 30)]);
        }
        assert_eq!((tracker.health(), tracker.stats().warn), (Some(Health::Down), true));
        // Better, but not yet good: it stays down until below what warns.
        play(&mut tracker, &mut now, 46, &[(0, 30)]);
        assert!(tracker.stats().loss.is_some_and(|loss| (10..20).contains(&loss)), "{:?}", tracker.stats());
        assert_eq!(tracker.health(), Some(Health::Down));
        play(&mut tracker, &mut now, 61, &[(0, 30)]);
        assert_eq!((tracker.health(), tracker.stats().loss), (Some(Health::Up), Some(0)));
        play(&mut tracker, &mut now, 61, &[(0, 600)]);
        assert_eq!(tracker.health(), Some(Health::Down));
    }

    #[test]
    fn metered_is_ten_times_more_seldom_and_sleep_is_made_up_for_once() {
        let mut tracker = Tracker::new(&track(), true, Tick(0));
        assert_eq!(tracker.due(Tick(0)).len(), 2);
        assert!(tracker.due(Tick(99_999)).is_empty());
        assert_eq!(tracker.due(Tick(10_000_000)).len(), 2);
        assert!(tracker.due(Tick(10_000_001)).is_empty());
        assert_eq!(tracker.next_deadline(), Tick(10_002_000));
    }

    proptest! {
        #[test]
        fn whatever_comes_it_stays_small(events in prop::collection::vec((0u64..5000, any::<u16>(), 0usize..3), 0..300)) {
            let endless = Track { timeout: Span::secs(1_000_000), interval: Span::ZERO, window: Span::ZERO, ..track() };
            let mut tracker = Tracker::new(&endless, false, Tick(0));
            let mut now = 0;
            for (step, seq, kind) in events {
                now += step;
                match kind {
                    0 => drop(tracker.due(Tick(now))),
                    1 => tracker.answered(addr("2001:db8:1::1"), seq % 300, Tick(now)),
                    _ => tracker.expired(Tick(now)),
                }
                prop_assert!(tracker.rounds.len() <= UNDER_WAY && tracker.window.len() as u64 <= PARTS + 2);
                prop_assert!(tracker.stats().loss.is_none_or(|loss| loss <= 100));
            }
        }
    }
}
