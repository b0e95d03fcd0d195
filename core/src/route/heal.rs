//! When drift is acted on.
//!
//! Whoever takes rules away in a loop (wg-quick's `while ip rule del ...`) takes ours again as soon as they are back, for
//! ever. So healing waits until it is quiet; and what is taken away again and again is put back more and more seldom, with
//! one word to the operator.
//!
//! ```text
//!   something of ours was removed    250 ms after the last removal, at most 2 s after the first
//!   links, addresses, other changes  50 ms after the last, at most 500 ms after the first
//!   messages were lost               as other changes, and everything is read anew
//!   nothing was heard                everything is read anew every 60 s (IPv4 routes vanish without a word)
//!   the same removal, 5 times in 30 s  contested: again only 1 s, 2 s, ... 30 s after it was last put back
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::time::{Span, Tick};

const QUIET: Span = Span::millis(250);
const QUIET_AT_MOST: Span = Span::secs(2);
const SETTLED: Span = Span::millis(50);
const SETTLED_AT_MOST: Span = Span::millis(500);
const RESYNC: Span = Span::secs(60);
const CONTEST: Span = Span::secs(30);
const TIMES: usize = 5;
const FIRST_WAIT: Span = Span::secs(1);
const LONGEST_WAIT: Span = Span::secs(30);

/// How many different things are remembered as removed. A contest is over few; whoever removes more than this at once
/// flushes, and does not come back five times.
const KEYS: usize = 4096;

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// Somebody removed a rule or route of ours; its text. What our own steps removed is not seen.
    Removed(&'a str),
    /// A link, an address, somebody else's rule or route changed.
    Changed,
    /// The kernel could not tell us all (`ENOBUFS`).
    Lost,
    /// Something that we did ourselves.
    Own,
}

/// Read the host and carry a plan out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heal {
    /// Read everything anew, whatever was heard.
    pub full: bool,
}

/// What the operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alert {
    /// Somebody removes these again and again; they are put back, but more and more seldom.
    Contested(Vec<String>),
    /// It is over.
    Calm,
}

/// Knows when to heal.
#[derive(Clone, Debug)]
pub struct Healer {
    removals: Option<Burst>,
    changes: Option<Burst>,
    /// A contested thing is missing, to be put back then.
    waiting: Option<Tick>,
    lost: bool,
    last_full: Tick,
    last_heal: Option<Tick>,
    /// When each thing was removed, at most the last five times.
    removed: BTreeMap<String, VecDeque<Tick>>,
    contested: BTreeSet<String>,
    last_contested: Tick,
    wait: Span,
    alerts: Vec<Alert>,
}

/// Events in a row.
#[derive(Clone, Copy, Debug)]
struct Burst {
    first: Tick,
    last: Tick,
}

impl Burst {
    fn more(burst: Option<Self>, now: Tick) -> Self {
        Self { first: burst.map_or(now, |burst| burst.first), last: now }
    }

    fn ends(self, quiet: Span, at_most: Span) -> Tick {
        self.last.plus(quiet).min(self.first.plus(at_most))
    }
}

impl Healer {
    /// Everything was just read.
    pub const fn new(now: Tick) -> Self {
        Self {
            removals: None,
            changes: None,
            waiting: None,
            lost: false,
            last_full: now,
            last_heal: None,
            removed: BTreeMap::new(),
            contested: BTreeSet::new(),
            last_contested: now,
            wait: FIRST_WAIT,
            alerts: Vec::new(),
        }
    }

    /// Takes in what was seen.
    pub fn seen(&mut self, what: Seen<'_>, now: Tick) {
        match what {
            Seen::Own => {}
            Seen::Removed(key) => self.removed(key, now),
            Seen::Changed => self.changes = Some(Burst::more(self.changes, now)),
            Seen::Lost => {
                self.lost = true;
                self.changes = Some(Burst::more(self.changes, now));
            }
        }
    }

    fn removed(&mut self, key: &str, now: Tick) {
        self.forget(now);
        if let Some(times) = self.removed.get_mut(key) {
            if times.len() == TIMES {
                times.pop_front();
            }
            times.push_back(now);
            let often = times.len() == TIMES && times.front().is_some_and(|first| now.since(*first) <= CONTEST);
            if often && self.contested.insert(key.to_owned()) && self.contested.len() == 1 {
                self.alerts.push(Alert::Contested(vec![key.to_owned()]));
            }
        } else if self.removed.len() < KEYS {
            self.removed.insert(key.to_owned(), VecDeque::from([now]));
        }
        if !self.contested.contains(key) {
            self.removals = Some(Burst::more(self.removals, now));
            return;
        }
        self.last_contested = now;
        if self.waiting.is_none() {
            let since = self.last_heal.unwrap_or(now);
            self.waiting = Some(since.plus(self.wait).max(now.plus(QUIET)));
            self.wait = Span::millis(self.wait.as_millis().saturating_mul(2)).min(LONGEST_WAIT);
        }
    }

    /// Drops what was removed too long ago to matter.
    fn forget(&mut self, now: Tick) {
        if self.removed.len() >= KEYS / 2 {
            self.removed.retain(|_, times| times.back().is_some_and(|last| now.since(*last) <= CONTEST));
        }
    }

    /// When the contest is over if nobody removes any of it again: after what is missing is back, and for long enough that
    /// whoever removes it would have.
    fn calm_at(&self) -> Option<Tick> {
        let quiet = self.last_contested.max(self.last_heal.unwrap_or_default()).plus(CONTEST);
        (!self.contested.is_empty() && self.waiting.is_none()).then_some(quiet)
    }

    fn heal_at(&self) -> Tick {
        let removals = self.removals.map(|burst| burst.ends(QUIET, QUIET_AT_MOST));
        let changes = self.changes.map(|burst| burst.ends(SETTLED, SETTLED_AT_MOST));
        // What is still being removed is not put back because a link moved: that would feed the loop.
        let soon = match (removals, changes) {
            (Some(removals), Some(changes)) => Some(removals.max(changes)),
            (None, Some(changes)) => Some(self.waiting.map_or(changes, |waiting| waiting.max(changes))),
            (removals, None) => removals,
        };
        let resync = self.last_full.plus(RESYNC);
        soon.into_iter().chain(self.waiting).fold(resync, Tick::min)
    }

    /// Whether to heal now. The caller then reads the host, plans and applies; what it does itself it does not report, or
    /// reports as [`Seen::Own`].
    pub fn due(&mut self, now: Tick) -> Option<Heal> {
        if self.calm_at().is_some_and(|at| now >= at) {
            self.contested.clear();
            self.removed.clear();
            self.wait = FIRST_WAIT;
            self.alerts.push(Alert::Calm);
        }
        if now < self.heal_at() {
            return None;
        }
        let full = self.lost || now >= self.last_full.plus(RESYNC);
        // A resync alone does not end a contest's wait, but whoever heals puts back all that is missing.
        (self.removals, self.changes, self.waiting, self.lost) = (None, None, None, false);
        self.last_heal = Some(now);
        if full {
            self.last_full = now;
        }
        Some(Heal { full })
    }

    /// What the operator should know now; each is told once.
    pub fn alerts(&mut self) -> Vec<Alert> {
        // All that turned out to be contested by now, in the one alert.
        let all = || self.contested.iter().cloned().collect();
        let told = std::mem::take(&mut self.alerts);
        told.into_iter()
            .map(|alert| if matches!(alert, Alert::Contested(_)) && !self.contested.is_empty() { Alert::Contested(all()) } else { alert })
            .collect()
    }

    /// What is contested now.
    pub fn contested(&self) -> impl Iterator<Item = &str> {
        self.contested.iter().map(String::as_str)
    }

    /// When to call [`Self::due`] next.
    pub fn next_deadline(&self) -> Tick {
        self.calm_at().into_iter().fold(self.heal_at(), Tick::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs to `end`; `act` is called every millisecond with whether our rule stands, and says whether it removes it.
    fn play(healer: &mut Healer, from: u64, end: u64, mut act: impl FnMut(u64, bool) -> bool) -> (Vec<u64>, Vec<Alert>) {
        let (mut stands, mut heals, mut alerts) = (true, Vec::new(), Vec::new());
        for ms in from..end {
            if act(ms, stands) && stands {
                stands = false;
                healer.seen(Seen::Removed("4100: from 2a02::1 lookup main suppress_prefixlength 3"), Tick(ms));
            }
            if healer.due(Tick(ms)).is_some() {
                heals.push(ms);
                stands = true;
                healer.seen(Seen::Own, Tick(ms));
            }
            alerts.extend(healer.alerts());
        }
        (heals, alerts)
    }

    #[test]
    fn one_removal_is_healed_once_it_is_quiet() {
        let mut healer = Healer::new(Tick(0));
        let (heals, alerts) = play(&mut healer, 0, 59_000, |ms, _| ms == 1000);
        assert_eq!((heals, alerts), (vec![1250], vec![]));
    }

    #[test]
    fn a_burst_is_waited_out_but_not_for_ever() {
        let mut healer = Healer::new(Tick(0));
        for ms in (0..5000).step_by(100) {
            healer.seen(Seen::Removed(&format!("rule {ms}")), Tick(ms));
            assert_eq!(healer.next_deadline(), Tick((ms + 250).min(2000)));
            if healer.due(Tick(ms)).is_some() {
                assert_eq!(ms, 2000);
                return;
            }
        }
        panic!("never healed");
    }

    #[test]
    fn wg_quicks_loop_ends() {
        // `while [[ $(ip rule show) == *...* ]]; do ip rule del ...; done`: removes what it sees every 5 ms, and ends at the
        // first look that sees nothing.
        let (mut healer, mut looping) = (Healer::new(Tick(0)), true);
        let (heals, alerts) = play(&mut healer, 0, 30_000, |ms, stands| {
            let looks = looping && ms >= 1000 && ms % 5 == 0;
            looping &= !looks || stands;
            looks
        });
        assert_eq!((heals.len(), alerts.len(), looping), (1, 0, false));
    }

    #[test]
    fn a_contest_ends_in_backoff_and_one_alert() {
        let mut healer = Healer::new(Tick(0));
        let ten_minutes = 600_000;
        let (heals, alerts) = play(&mut healer, 0, ten_minutes, |ms, stands| stands && ms % 20 == 0);
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        assert!(matches!(&alerts[0], Alert::Contested(what) if what.len() == 1));
        assert!(heals.len() < 45, "five at first, then 1 2 4 8 16 30 30 ... s: {}", heals.len());
        let last = heals.len() - 1;
        assert!(heals[last] - heals[last - 1] >= 29_000);
        assert_eq!(healer.contested().count(), 1);
        // The other one stops.
        let (heals, alerts) = play(&mut healer, ten_minutes, ten_minutes + 100_000, |_, _| false);
        assert_eq!((alerts, heals.is_empty()), (vec![Alert::Calm], false));
        let (heals, alerts) = play(&mut healer, ten_minutes + 100_000, ten_minutes + 110_000, |ms, _| ms == ten_minutes + 100_100);
        assert_eq!((heals.first(), alerts), (Some(&(ten_minutes + 100_350)), vec![]));
    }

    #[test]
    fn what_is_not_contested_is_healed_as_ever() {
        let mut healer = Healer::new(Tick(0));
        let _ = play(&mut healer, 0, 55_000, |ms, stands| stands && ms % 20 == 0);
        let now = Tick(55_000);
        healer.seen(Seen::Removed("4200: from 2a02::1 lookup sixxs0"), now);
        assert!(healer.next_deadline() <= now.plus(QUIET));
    }

    #[test]
    fn links_move_sooner_losses_and_long_silence_read_all() {
        let mut healer = Healer::new(Tick(0));
        healer.seen(Seen::Own, Tick(10));
        assert_eq!(healer.next_deadline(), Tick(60_000));
        healer.seen(Seen::Changed, Tick(10));
        assert_eq!((healer.due(Tick(59)), healer.due(Tick(60))), (None, Some(Heal { full: false })));
        healer.seen(Seen::Lost, Tick(100));
        assert_eq!(healer.due(Tick(150)), Some(Heal { full: true }));
        assert_eq!((healer.due(Tick(60_149)), healer.due(Tick(60_150))), (None, Some(Heal { full: true })));
    }

    proptest! {
        #[test]
        fn it_always_heals_in_the_end_and_stays_small(events in prop::collection::vec((0u64..400, 0u8..4, 0u8..3), 1..300)) {
            let (mut healer, mut now, mut missing_since) = (Healer::new(Tick(0)), 0, None);
            for (step, what, key) in events {
                now += step;
                match what {
                    0 | 1 => {
                        healer.seen(Seen::Removed(&key.to_string()), Tick(now));
                        missing_since.get_or_insert(now);
                    }
                    2 => healer.seen(Seen::Changed, Tick(now)),
                    _ => healer.seen(Seen::Lost, Tick(now)),
                }
                if healer.due(Tick(now)).is_some() {
                    missing_since = None;
                }
                prop_assert!(missing_since.is_none_or(|since| now - since <= 31_000));
                prop_assert!(healer.next_deadline() <= Tick(now).plus(RESYNC));
            }
        }
    }
}
