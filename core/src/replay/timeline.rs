//! How many attacks, bans and lines kept out there were in each stretch of time.

use crate::time::{Span, Stamp};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A line of an attack.
    Attack,
    /// A ban.
    Ban,
    /// A line of somebody who would have been shut out.
    KeptOut,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it begins.
    pub from: Stamp,
    /// Attacks.
    pub attacks: u64,
    /// Bans.
    pub bans: u64,
    /// Lines kept out.
    pub kept_out: u64,
}

impl Bucket {
    const fn add(&mut self, other: &Self) {
        self.attacks += other.attacks;
        self.bans += other.bans;
        self.kept_out += other.kept_out;
    }
}

/// The finest stretch: a log of a few minutes still has a shape.
const FINEST: Span = Span::secs(60);

/// So many stretches in which something happened are kept; then two become one. 45 days of a minute each, a few
/// megabytes.
const MOST: usize = 65_536;

/// Counts by time, in bounded memory whatever the times are.
#[derive(Clone, Debug)]
pub struct Timeline {
    grain: Span,
    /// Those in which something happened, in order.
    buckets: Vec<Bucket>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { grain: FINEST, buckets: Vec::new() }
    }
}

impl Timeline {
    /// Counts one at this time, which is not before the last.
    pub fn add(&mut self, at: Stamp, what: What) {
        let from = begin(at, self.grain);
        if self.buckets.last().is_none_or(|last| last.from < from) {
            self.buckets.push(Bucket { from, ..Bucket::default() });
            if self.buckets.len() > MOST {
                self.grain = self.grain.times(2.0);
                self.buckets = fold(&self.buckets, self.grain);
            }
        }
        let Some(last) = self.buckets.last_mut() else { return };
        match what {
            What::Attack => last.attacks += 1,
            What::Ban => last.bans += 1,
            What::KeptOut => last.kept_out += 1,
        }
    }

    /// By stretches of this length, or longer where they are not known so finely. Those without anything are left out.
    pub fn by(&self, length: Span) -> Vec<Bucket> {
        fold(&self.buckets, length.max(self.grain))
    }

    /// `columns` stretches of the same length that go from `from` to `until`.
    pub fn columns(&self, from: Stamp, until: Stamp, columns: usize) -> Vec<Bucket> {
        let whole = u128::from(until.since(from).as_millis()) + 1;
        let wide = columns.max(1) as u128;
        let start = |column: usize| from.plus(Span::millis(u64::try_from(whole * column as u128 / wide).unwrap_or(u64::MAX)));
        let mut all: Vec<Bucket> = (0..columns.max(1)).map(|column| Bucket { from: start(column), ..Bucket::default() }).collect();
        for bucket in &self.buckets {
            let place = u128::from(bucket.from.since(from).as_millis()) * wide / whole;
            let last = all.len() - 1;
            if let Some(column) = all.get_mut(usize::try_from(place).unwrap_or(last).min(last)) {
                column.add(bucket);
            }
        }
        all
    }
}

fn begin(at: Stamp, grain: Span) -> Stamp {
    let grain = i64::try_from(grain.as_millis()).unwrap_or(i64::MAX).max(1);
    Stamp(at.0.saturating_sub(at.0.rem_euclid(grain)))
}

fn fold(buckets: &[Bucket], grain: Span) -> Vec<Bucket> {
    let mut folded: Vec<Bucket> = Vec::new();
    for bucket in buckets {
        let from = begin(bucket.from, grain);
        match folded.last_mut() {
            Some(last) if last.from >= from => last.add(bucket),
            _ => folded.push(Bucket { from, ..*bucket }),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn hours_and_columns_hold_what_was_counted() {
        let mut line = Timeline::default();
        for (at, what) in [(0, What::Attack), (1, What::Attack), (HOUR - 1, What::Ban), (HOUR, What::Attack), (5 * HOUR, What::KeptOut)] {
            line.add(Stamp(at), what);
        }
        let bucket = |from, attacks, bans, kept_out| Bucket { from: Stamp(from), attacks, bans, kept_out };
        assert_eq!(line.by(Span::secs(3600)), [bucket(0, 2, 1, 0), bucket(HOUR, 1, 0, 0), bucket(5 * HOUR, 0, 0, 1)]);
        let columns = line.columns(Stamp(0), Stamp(6 * HOUR - 1), 3);
        assert_eq!(columns, [bucket(0, 3, 1, 0), bucket(2 * HOUR, 0, 0, 0), bucket(4 * HOUR, 0, 0, 1)]);
    }

    #[test]
    fn ages_take_no_more_memory_than_weeks() {
        let mut line = Timeline::default();
        let count = 4 * i64::try_from(MOST).unwrap();
        for n in 0..count {
            line.add(Stamp(n * 61_000), What::Attack);
        }
        line.add(Stamp(i64::MAX), What::Ban);
        assert!(line.buckets.len() <= MOST, "{}", line.buckets.len());
        assert_eq!(line.by(Span::ZERO).iter().map(|bucket| bucket.attacks).sum::<u64>(), count.unsigned_abs());
        for columns in [0, 1, 80] {
            let all = line.columns(Stamp(0), Stamp(i64::MAX), columns);
            assert_eq!(all.iter().map(|bucket| bucket.attacks + bucket.bans).sum::<u64>(), count.unsigned_abs() + 1);
        }
    }
}
