//! When the next census is due.
//!
//! Reading the gauge costs microseconds, a census of half a million flows 0.7 s of a core. So a census is taken when there is reason
//! to: something moved, or the guard is alarmed; and however much reason there is, only so much of a core goes into it.

use super::gauge::Gauge;
use crate::time::{Span, Tick};

/// Where nothing happens, a census is taken this often.
pub const QUIET: Span = Span::secs(60);
/// From one census to the next, start to start, passes at least this.
pub const SHORTEST: Span = Span::secs(1);
/// And at least so many times what the last one took: a twelfth of a core, 8.3 %.
pub const RARITY: f64 = 12.0;
/// While the guard is alarmed, a census is taken at least this often, even where it takes more of a core than that, but never more
/// than half of one.
pub const ALARMED: Span = Span::secs(5);
/// A census is due when the count moved by more than this share of what there can be, since the last one ...
pub const MOVED: f64 = 0.01;
/// ... and by more flows than this.
pub const MOVED_LEAST: u32 = 500;

/// When the next census is due.
#[derive(Clone, Debug)]
pub struct Pace {
    /// When there was nothing yet.
    began: Tick,
    /// When the last census began, and what it took.
    last: Option<(Tick, Span)>,
    /// How the table was when it began.
    base: Option<Gauge>,
    /// The latest gauge before the next census can have begun.
    before: Option<Gauge>,
    /// There is reason for a census.
    pressing: bool,
    alarmed: bool,
}

impl Pace {
    /// The first census is due at once.
    pub const fn new(now: Tick) -> Self {
        Self { began: now, last: None, base: None, before: None, pressing: false, alarmed: false }
    }

    /// How the table is, each second; `alarmed`: whether the guard wants to know all it can.
    pub fn gauge(&mut self, gauge: &Gauge, now: Tick, alarmed: bool) {
        // A census that is due may be under way: what moves from now on, it may have missed.
        if self.before.is_none() || self.due() >= now {
            self.before = Some(*gauge);
        }
        self.alarmed = alarmed;
        self.pressing |= alarmed || self.base.is_some_and(|base| moved(&base, gauge));
    }

    /// New flows were missed by who listens: a census will tell.
    pub const fn lost(&mut self) {
        self.pressing = true;
    }

    /// A census was taken, ended at `now` and took `took`.
    pub fn taken(&mut self, took: Span, now: Tick) {
        let began = Tick(now.0.saturating_sub(took.as_millis()));
        self.last = Some((began, took));
        self.base = self.before.take();
        self.pressing = self.alarmed;
    }

    /// When the next one is due; it may be past.
    pub fn due(&self) -> Tick {
        let Some((began, took)) = self.last else { return self.began };
        let spared = took.times(RARITY).max(SHORTEST);
        began.plus(match (self.pressing, self.alarmed) {
            (true, true) => spared.min(ALARMED.max(took.times(2.0))),
            (true, false) => spared,
            (false, _) => spared.max(QUIET),
        })
    }
}

/// Whether that is reason enough for a census.
fn moved(from: &Gauge, to: &Gauge) -> bool {
    let least = (f64::from(to.max) * MOVED).max(f64::from(MOVED_LEAST));
    let count = f64::from(from.count.abs_diff(to.count)) > least;
    count || from.drop != to.drop || from.early_drop != to.early_drop
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(count: u32) -> Gauge {
        Gauge { count, max: 262_144, ..Gauge::default() }
    }

    /// A pace that took its first census of 100 flows at 10.0 to 10.1 s.
    fn started() -> Pace {
        let mut pace = Pace::new(Tick(10_000));
        assert_eq!(pace.due(), Tick(10_000));
        pace.gauge(&table(100), Tick(10_000), false);
        pace.taken(Span::millis(100), Tick(10_100));
        pace
    }

    #[test]
    fn quiet_is_a_minute() {
        let mut pace = started();
        assert_eq!(pace.due(), Tick(70_000));
        // 1 % of 262,144 is 2621.44.
        pace.gauge(&table(100 + 2621), Tick(11_000), false);
        assert_eq!(pace.due(), Tick(70_000));
        pace.gauge(&table(100 + 2622), Tick(12_000), false);
        assert_eq!(pace.due(), Tick(11_200));
        // What moved and came back has moved.
        pace.gauge(&table(100), Tick(13_000), false);
        assert_eq!(pace.due(), Tick(11_200));
    }

    #[test]
    fn small_tables_move_by_500_and_any_table_by_a_drop() {
        let small = |count| Gauge { count, max: 4096, ..Gauge::default() };
        assert!(!moved(&small(600), &small(100)) && moved(&small(601), &small(100)));
        let endless = |count| Gauge { count, ..Gauge::default() };
        assert!(!moved(&endless(100), &endless(600)) && moved(&endless(100), &endless(601)));
        assert!(moved(&small(100), &Gauge { drop: 1, ..small(100) }) && moved(&Gauge { early_drop: 7, ..small(1) }, &small(1)));
        assert!(!moved(&small(100), &Gauge { invalid: 9, insert_failed: 9, search_restart: 9, ..small(100) }));
    }

    #[test]
    fn alarmed_is_five_seconds_at_most_and_a_second_at_least() {
        let alarmed = |took, ended| {
            let mut pace = started();
            pace.taken(Span::millis(took), Tick(ended));
            pace.gauge(&table(100), Tick(ended), true);
            pace.due()
        };
        assert_eq!(alarmed(50, 20_050), Tick(21_000));
        assert_eq!(alarmed(200, 20_200), Tick(22_400));
        assert_eq!(alarmed(700, 20_700), Tick(25_000));
        assert_eq!(alarmed(4000, 24_000), Tick(28_000));
    }

    #[test]
    fn what_moves_during_a_census_asks_for_another() {
        let mut pace = started();
        pace.gauge(&table(100), Tick(69_000), false);
        // Due at 70.0, ends at 72.0; 10,000 come at 71.0 and may have been missed.
        pace.gauge(&table(10_100), Tick(71_000), false);
        pace.taken(Span::secs(2), Tick(72_000));
        assert_eq!(pace.due(), Tick(130_000));
        pace.gauge(&table(10_100), Tick(72_500), false);
        assert_eq!(pace.due(), Tick(94_000));
    }

    proptest! {
        /// Whatever happens: not alarmed, censuses take at most a twelfth of the time (but for the first); alarmed, they are at most 5 s
        /// or twice their length apart; quiet, at most a minute or twelve times that.
        #[test]
        fn the_share_of_a_core_is_bounded(seconds in proptest::collection::vec((0_u32..300_000, any::<bool>(), 1_u64..3000), 1..200), calm: bool) {
            let mut pace = Pace::new(Tick(0));
            let (mut now, mut began, mut took) = (0_u64, None::<u64>, 0_u64);
            for (count, alarmed, next) in seconds {
                let alarmed = alarmed && !calm;
                now += 1000;
                pace.gauge(&table(count), Tick(now), alarmed);
                if pace.due() > Tick(now) {
                    let latest = if alarmed { 5000.max(took * 2) } else { 60_000.max(took * 12) };
                    prop_assert!(pace.due().0 <= began.unwrap_or(0) + latest);
                    continue;
                }
                if let Some(began) = began {
                    prop_assert!(now >= began + 1000);
                    prop_assert!(alarmed || now >= began + took * 12);
                }
                (began, took) = (Some(now), next);
                now += took;
                pace.taken(Span::millis(took), Tick(now));
            }
        }
    }
}
