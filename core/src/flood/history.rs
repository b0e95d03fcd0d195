//! How the table was: a day finely, a month coarsely.

use serde::{Deserialize, Serialize};

use super::census::Census;
use super::gauge::Gauge;
use crate::net::Prefix;
use crate::time::{Span, Stamp};

/// The fine grain, and how long it is kept.
pub const FINE: (Span, Span) = (Span::secs(60), Span::secs(86_400));
/// The coarse one.
pub const COARSE: (Span, Span) = (Span::secs(3600), Span::secs(31 * 86_400));

/// How the table was in one grain of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// When the grain began.
    pub at: Stamp,
    /// How long it is, in seconds: 60 or 3600.
    pub grain: u32,
    /// The most flows there were.
    pub peak: u32,
    /// How many there could be.
    pub max: u32,
    /// Packets dropped in it because the table was full.
    pub drops: u64,
    /// Who held the most at the peak, largest first, at most [`NAMED`].
    pub top: Vec<(Prefix, u32)>,
}

/// How many sources a point names.
pub const NAMED: usize = 5;

/// A census names who held most at a peak only if it was taken this near to it: a peak between two of a quiet minute's is named.
pub const NEAR: Span = Span::secs(120);

impl Point {
    /// Adds what another point knows of the same grain: the higher peak and who held it, all drops. There are two where the daemon was
    /// restarted within the grain, or the wall clock was put back. Of another grain it adds nothing.
    pub fn merge(&mut self, other: &Self) {
        if (self.at, self.grain) != (other.at, other.grain) {
            return;
        }
        let drops = self.drops.saturating_add(other.drops);
        if other.peak > self.peak || self.top.is_empty() && other.peak == self.peak {
            *self = other.clone();
        }
        self.drops = drops;
    }
}

/// Makes points of gauges and censuses. Grains are aligned to the wall clock; one without a gauge makes no point.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// The fine grain that is open, and the coarse one.
    open: [Option<Open>; 2],
    /// The gauge before, and when.
    last: Option<(Stamp, Gauge)>,
    /// The census before, and when.
    census: Option<(Stamp, Vec<(Prefix, u32)>)>,
}

/// A grain that is not over yet.
#[derive(Clone, Debug)]
struct Open {
    point: Point,
    /// When the peak was.
    peaked: Stamp,
    /// When the census was taken that names who held most.
    named: Option<Stamp>,
}

/// The later of two less the earlier.
fn apart(a: Stamp, b: Stamp) -> Span {
    a.since(b).max(b.since(a))
}

impl Open {
    fn new(now: Stamp, grain: Span) -> Self {
        let (at, seconds) = (begin(now, grain), u32::try_from(grain.as_secs_ceil()).unwrap_or(u32::MAX));
        Self { point: Point { at, grain: seconds, peak: 0, max: 0, drops: 0, top: Vec::new() }, peaked: now, named: None }
    }

    /// Takes the names of a census where it is nearer to the peak than that which named before.
    fn name(&mut self, taken: Stamp, top: &[(Prefix, u32)]) {
        let far = apart(taken, self.peaked);
        if far <= NEAR && self.named.is_none_or(|named| far < apart(named, self.peaked)) {
            self.named = Some(taken);
            self.point.top = top.to_vec();
        }
    }
}

/// When the grain began that a moment is in.
fn begin(now: Stamp, grain: Span) -> Stamp {
    let grain = i64::try_from(grain.as_millis()).unwrap_or(i64::MAX).max(1);
    Stamp(now.0.saturating_sub(now.0.rem_euclid(grain)))
}

impl Recorder {
    /// Nothing recorded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How the table is, each second. What comes back is over: the point of a minute, and that of an hour. After a restart within a
    /// grain, or a wall clock that was put back, there may be a second one of the same: see [`Point::merge`].
    ///
    /// Packets dropped since the last gauge count for the grain of this one. Where the kernel's counter went backwards none do:
    /// see [`Gauge::since`].
    pub fn gauge(&mut self, gauge: &Gauge, now: Stamp) -> Vec<Point> {
        let drops = self.last.map_or(0, |(_, was)| gauge.since(&was).drop);
        self.last = Some((now, *gauge));
        let mut over = Vec::new();
        for (open, (grain, _)) in self.open.iter_mut().zip([FINE, COARSE]) {
            over.extend(open.take_if(|open| open.point.at != begin(now, grain)).map(|open| open.point));
            let fresh = open.is_none();
            let open = open.get_or_insert_with(|| Open::new(now, grain));
            open.point.drops = open.point.drops.saturating_add(drops);
            if fresh || gauge.count > open.point.peak {
                (open.point.peak, open.point.max, open.peaked) = (gauge.count, gauge.max, now);
                if let Some((taken, top)) = &self.census {
                    open.name(*taken, top);
                }
                // What named an earlier, lower peak too long ago names this one no more.
                if open.named.is_some_and(|named| apart(named, now) > NEAR) {
                    open.named = None;
                    open.point.top.clear();
                }
            }
        }
        over
    }

    /// A census, taken about when the last gauge was. Before the first gauge it counts for nothing.
    pub fn census(&mut self, census: &Census) {
        let Some((now, _)) = self.last else { return };
        let top: Vec<(Prefix, u32)> = census.largest(NAMED).into_iter().map(|row| (row.prefix, row.flows)).collect();
        self.open.iter_mut().flatten().for_each(|open| open.name(now, &top));
        self.census = Some((now, top));
    }

    /// Moves what is open along with a wall clock that stepped by `ms`. A grain that is open then goes on as the one it comes to lie in.
    pub fn shift(&mut self, ms: i64) {
        self.last = self.last.map(|(at, gauge)| (at.shifted(ms), gauge));
        if let Some((taken, _)) = &mut self.census {
            *taken = taken.shifted(ms);
        }
        let now = self.last.map_or(Stamp(0), |(at, _)| at);
        for (open, (grain, _)) in self.open.iter_mut().zip([FINE, COARSE]) {
            let Some(open) = open else { continue };
            open.point.at = begin(now, grain);
            open.peaked = open.peaked.shifted(ms);
            open.named = open.named.map(|named| named.shifted(ms));
        }
    }

    /// Ends what is open, as it stands: for a daemon that ends. After a start, the rest of the grain is a second point of it.
    pub fn finish(&mut self) -> Vec<Point> {
        std::mem::take(&mut self.open).into_iter().flatten().map(|open| open.point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::census::Row;
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-22T17:00:00Z: an hour's begin.
    const HOUR: i64 = 1_795_366_800;

    fn table(count: u32, drop: u64) -> Gauge {
        Gauge { count, max: 4096, drop, ..Gauge::default() }
    }

    fn at(second: i64) -> Stamp {
        Stamp((HOUR + second) * 1000)
    }

    fn census(flows: u32) -> Census {
        let row = |n: u32| Row {
            prefix: format!("192.0.2.{n}").parse().unwrap(),
            flows: flows - n,
            unreplied: 0,
            unassured: 0,
            opened: None,
            top: None,
            hosts: 1,
        };
        Census { top: (0..9).map(row).collect(), ..Census::default() }
    }

    #[test]
    fn minutes_and_hours_by_hand() {
        let mut recorder = Recorder::new();
        let mut points = Vec::new();
        // 17:00:30 to 18:00:00; the peak is at 17:01:10, drops at 17:01:59 (3) and 17:02:00 (4).
        for second in 30..=3600 {
            let count = if second == 70 { 900 } else { 100 };
            let drops = 1000 + u64::from(second >= 119) * 3 + u64::from(second >= 120) * 4;
            points.extend(recorder.gauge(&table(count, drops), at(second)));
            if [40, 65, 72, 100].contains(&second) {
                recorder.census(&census(u32::try_from(second).unwrap() * 10));
            }
        }
        let hours: Vec<&Point> = points.iter().filter(|point| point.grain == 3600).collect();
        assert_eq!((points.len(), hours.len()), (61, 1));
        let (first, second, third) = (&points[0], &points[1], &points[2]);
        assert_eq!((first.at, first.peak, first.max, first.drops, first.grain), (at(0), 100, 4096, 0, 60));
        // The peak is the first of equals, 17:00:30; the census of 17:00:40 is the nearest.
        assert_eq!((first.top[0].1, first.top.len()), (400, NAMED));
        assert_eq!((second.at, second.peak, second.drops, second.top[0].1), (at(60), 900, 3, 720));
        assert_eq!((third.at, third.peak, third.drops, third.top[0].1), (at(120), 100, 4, 1000));
        // Three minutes on, the census of 17:01:40 says nothing of who is there.
        assert_eq!((points[4].at, points[4].top.len()), (at(240), 0));
        assert_eq!((hours[0].at, hours[0].peak, hours[0].drops, hours[0].top[0].1), (at(0), 900, 7, 720));
    }

    #[test]
    fn a_gap_makes_no_points_and_a_counter_that_began_anew_counts_from_there() {
        let mut recorder = Recorder::new();
        assert!(recorder.gauge(&table(5, 100), at(0)).is_empty());
        // Two hours later, rebooted: the counter stands at 7.
        let over = recorder.gauge(&table(6, 7), at(7200));
        assert_eq!(over.iter().map(|point| (point.at, point.grain, point.drops)).collect::<Vec<_>>(), [(at(0), 60, 0), (at(0), 3600, 0)]);
        recorder.gauge(&table(6, 9), at(7201));
        let end = recorder.finish();
        assert_eq!(end.iter().map(|point| (point.at, point.drops)).collect::<Vec<_>>(), [(at(7200), 2), (at(7200), 2)]);
        assert!(recorder.finish().is_empty());
    }

    #[test]
    fn a_clock_that_steps_moves_what_is_open() {
        let mut recorder = Recorder::new();
        recorder.gauge(&table(50, 0), at(10));
        recorder.census(&census(50));
        recorder.shift(-86_400_000);
        assert!(recorder.gauge(&table(40, 1), at(11 - 86_400)).is_empty());
        let end = recorder.finish();
        assert_eq!((end[0].at, end[0].peak, end[0].drops, end[0].top[0].1), (at(-86_400), 50, 1, 50));
        assert_eq!(end[1].at, at(-86_400));
    }

    #[test]
    fn two_points_of_one_grain_are_one() {
        let point = |peak, drops, top: &[(&str, u32)]| {
            let top = top.iter().map(|(prefix, n)| (prefix.parse().unwrap(), *n)).collect();
            Point { at: at(0), grain: 60, peak, max: 4096, drops, top }
        };
        let mut one = point(10, 3, &[("192.0.2.1", 9)]);
        one.merge(&point(20, 4, &[("192.0.2.2", 19)]));
        assert_eq!(one, point(20, 7, &[("192.0.2.2", 19)]));
        one.merge(&point(1, 1, &[]));
        assert_eq!(one, point(20, 8, &[("192.0.2.2", 19)]));
        one.merge(&Point { grain: 3600, ..point(99, 99, &[]) });
        assert_eq!(one, point(20, 8, &[("192.0.2.2", 19)]));
    }

    proptest! {
        /// Gauges at any times forward: every drop is in one point of each grain, every grain has a gauge in it and begins on its own
        /// boundary, none comes twice, and the highest peak is the highest gauge.
        #[test]
        fn nothing_is_lost_or_invented(steps in proptest::collection::vec((1_u64..4_000_000, 0_u32..5000, 0_u64..50), 1..80), start in 0_i64..2_000_000_000_000) {
            let mut recorder = Recorder::new();
            let (mut now, mut drop, mut points, mut gauges) = (Stamp(start), 0, Vec::new(), Vec::new());
            recorder.gauge(&table(0, 0), now);
            gauges.push((now, 0));
            for (step, count, drops) in steps {
                (now, drop) = (now.plus(Span::millis(step)), drop + drops);
                points.extend(recorder.gauge(&table(count, drop), now));
                gauges.push((now, count));
            }
            points.extend(recorder.finish());
            for (grain, _) in [FINE, COARSE] {
                let of: Vec<&Point> = points.iter().filter(|point| u64::from(point.grain) * 1000 == grain.as_millis()).collect();
                prop_assert_eq!(of.iter().map(|point| point.drops).sum::<u64>(), drop);
                prop_assert!(of.is_sorted_by(|a, b| a.at < b.at));
                for point in of {
                    prop_assert_eq!(point.at.0.rem_euclid(i64::try_from(grain.as_millis()).unwrap()), 0);
                    let within = gauges.iter().filter(|(at, _)| *at >= point.at && *at < point.at.plus(grain)).map(|(_, count)| *count);
                    prop_assert_eq!(within.max(), Some(point.peak));
                }
            }
        }
    }
}
