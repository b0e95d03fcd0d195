//! When the table will be full, if it goes on like this.
//!
//! Growth is the median of the slopes of all pairs of samples (Theil and Sen), so that one jump, up or down, moves it not
//! at all; it counts only where nearly all pairs rise, so that noise is no growth. Each window is believed for ten times
//! as long as it saw: what was so for five seconds says nothing about the next ten minutes.

use std::collections::VecDeque;

use crate::flood::gauge::Gauge;
use crate::time::{Span, Tick};

/// How far back, how far apart at least, and which share of the pairs must rise. The shortest has six samples: only if
/// each is higher than the one before is that no accident.
const WINDOWS: [(Span, Span, f64); 4] = [
    (Span::secs(5), Span::ZERO, 1.0),
    (Span::secs(10), Span::ZERO, 0.9),
    (Span::secs(60), Span::secs(3), 0.85),
    (Span::secs(300), Span::secs(10), 0.8),
];

/// Windows up to this one are compared with what was before them, for so long.
const SHORT: Span = Span::secs(10);
const BEFORE: Span = Span::secs(70);

/// One gauge a second for as long as the longest window, and as many again where they come faster.
const SAMPLES: usize = 602;

/// A slope of fewer samples is none.
const FEWEST: usize = 5;

/// A window is believed for so many times what it saw.
const BELIEVED: f64 = 10.0;

/// Growth counts where it gained this share of the table within the window ...
const GAINED: f64 = 0.05;

/// ... or where the table is this full already, and it gained at least [`STIRRED`].
const FILLED: f64 = 0.20;

/// Less than a hundredth of the table is the coming and going of any network.
const STIRRED: f64 = 0.01;

/// What the last minutes say of the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outlook {
    /// Flows more each second.
    pub growth: f64,
    /// Until the table is full.
    pub full_in: Span,
}

/// The counts of the last five minutes.
#[derive(Clone, Debug, Default)]
pub(super) struct Forecast {
    samples: VecDeque<(Tick, u32)>,
    max: u32,
    outlook: Option<Outlook>,
}

impl Forecast {
    /// One more gauge. One that is not later than the last says nothing about growth.
    pub(super) fn add(&mut self, gauge: &Gauge, now: Tick) {
        self.max = gauge.max;
        if self.samples.back().is_none_or(|(last, _)| now > *last) {
            self.samples.push_back((now, gauge.count));
        }
        let oldest = WINDOWS[WINDOWS.len() - 1].0;
        while self.samples.len() > SAMPLES || self.samples.front().is_some_and(|(at, _)| now.since(*at) > oldest) {
            self.samples.pop_front();
        }
        let outlooks = WINDOWS.iter().filter_map(|window| self.outlook_of(window, now));
        self.outlook = outlooks.min_by_key(|outlook| outlook.full_in);
    }

    /// The worst of what the windows say; `None`: it does not fill.
    pub(super) const fn outlook(&self) -> Option<Outlook> {
        self.outlook
    }

    /// Whether it grew by a hundredth of the table since the last gauge: worth a look at once.
    pub(super) fn jumped(&self) -> bool {
        let mut latest = self.samples.iter().rev().map(|(_, count)| *count);
        let (Some(last), Some(before)) = (latest.next(), latest.next()) else { return false };
        self.max > 0 && f64::from(last.saturating_sub(before)) >= STIRRED * f64::from(self.max)
    }

    fn outlook_of(&self, (back, apart, rising): &(Span, Span, f64), now: Tick) -> Option<Outlook> {
        let (max, count) = (f64::from(self.max), f64::from(self.samples.back()?.1));
        let points = self.points(*back, *apart, now);
        let (first, last) = (points.first()?, points.last()?);
        if last.1 <= first.1 {
            return None;
        }
        let seen = last.0 - first.0;
        let growth = slope(&points, *rising).filter(|growth| *growth > 0.0 && max > 0.0)?;
        let gained = growth * seen / max;
        if gained < GAINED && (count < FILLED * max || gained < STIRRED) {
            return None;
        }
        // What rises for seconds only must rise out of what was before, or it is the swing of a busy table.
        let before = (*back <= SHORT).then(|| self.highest_before(*back, now)).flatten();
        if before.is_some_and(|highest| count - highest < gained * max / 2.0) {
            return None;
        }
        let left = (max - count).max(0.0) / growth;
        (left <= BELIEVED * seen).then(|| Outlook { growth, full_in: Span::secs(1).times(left) })
    }

    /// The highest of the minute before a window.
    fn highest_before(&self, back: Span, now: Tick) -> Option<f64> {
        let ages = |at: &Tick| now.since(*at);
        let before = self.samples.iter().filter(|(at, _)| ages(at) > back && ages(at) <= BEFORE);
        before.map(|(_, count)| f64::from(*count)).max_by(f64::total_cmp)
    }

    /// The samples of a window, newest last, in seconds and flows, thinned.
    fn points(&self, back: Span, apart: Span, now: Tick) -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut next = None::<Tick>;
        for (at, count) in self.samples.iter().rev().take_while(|(at, _)| now.since(*at) <= back) {
            if next.is_none_or(|next| next.since(*at) >= apart) {
                points.push((-seconds(now.since(*at)), f64::from(*count)));
                next = Some(*at);
            }
        }
        points.reverse();
        points
    }
}

/// In seconds, with its fraction.
pub(super) fn seconds(span: Span) -> f64 {
    span.as_millis() as f64 / 1000.0
}

/// The median slope of all pairs; `None` where too few are there, or too few of them rise.
fn slope(points: &[(f64, f64)], rising: f64) -> Option<f64> {
    if points.len() < FEWEST {
        return None;
    }
    let pairs = points.iter().enumerate().flat_map(|(i, a)| points[i + 1..].iter().map(move |b| (b.1 - a.1) / (b.0 - a.0)));
    let mut slopes: Vec<f64> = pairs.filter(|slope| slope.is_finite()).collect();
    let up = slopes.iter().filter(|slope| **slope > 0.0).count();
    if slopes.is_empty() || (up as f64) < rising * slopes.len() as f64 {
        return None;
    }
    slopes.sort_unstable_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied()
}
