//! The times of one log, made to go forward only.
//!
//! | what stands in the log | what is made of it |
//! |---|---|
//! | a time before the last one (the clock was set back, two writers) | the last one |
//! | a time before the last one in the hour that a zone has twice, without saying which | of the second, if it is after the last one |
//! | no time that can be read | the last one |
//! | a time far ahead, and then times that go on where they were | the last one for the stray; one broken line must not move all that follow to its date |
//! | a time far ahead, and what follows goes on from there | that time |

use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::time::{Span, Stamp};

/// So far ahead of the last time one is doubted until the next is seen: a log that is written to at all is
/// written to every day.
const AHEAD: Span = Span::secs(86_400);

/// So many are held back at most while there is doubt; then it is believed.
const HELD: usize = 64;

/// A time that is so far behind the last one, in an hour that comes twice, is of the second. Lines of two writers, or of
/// requests that took a while, are not so far behind.
const BEHIND: Span = Span::secs(1800);

/// Puts entries of one log in order by their times, each an entry and what stands in its line.
#[derive(Debug)]
pub struct Forward<T> {
    last: Option<Stamp>,
    /// Doubted, and what came after it without a time of its own.
    held: Vec<(T, Stamp)>,
    fallback: Stamp,
    zone: TimeZone,
    /// In the second of two hours that look the same.
    again: bool,
}

impl<T> Forward<T> {
    /// Of a log that begins then, as far as that is known; `fallback` is the time of what stands before any time. Where times
    /// name no zone, they were read by this one.
    pub const fn new(begin: Option<Stamp>, fallback: Stamp, zone: TimeZone) -> Self {
        Self { last: begin, held: Vec::new(), fallback, zone, again: false }
    }

    /// The next entry. What is settled by it goes to `out`, with its time.
    pub fn push(&mut self, entry: T, at: Option<Stamp>, out: &mut impl FnMut(T, Stamp)) {
        match (self.held.first().map(|(_, at)| *at), at) {
            (Some(doubted), None) => {
                self.held.push((entry, doubted));
                if self.held.len() > HELD {
                    self.finish(out);
                }
            }
            (Some(doubted), Some(at)) => {
                if at < doubted.minus(AHEAD) {
                    // It goes on where it was: the one between was a stray.
                    let there = self.last.unwrap_or(at);
                    self.held.iter_mut().for_each(|(_, stray)| *stray = there);
                }
                self.finish(out);
                self.push(entry, Some(at), out);
            }
            (None, Some(at)) if self.last.is_none_or(|last| at > last.plus(AHEAD)) => self.held.push((entry, at)),
            (None, at) => {
                let last = *self.last.get_or_insert(self.fallback);
                self.settle(entry, at.unwrap_or(last), out);
            }
        }
    }

    /// There are no more.
    pub fn finish(&mut self, out: &mut impl FnMut(T, Stamp)) {
        for (entry, at) in std::mem::take(&mut self.held) {
            self.settle(entry, at, out);
        }
    }

    fn settle(&mut self, entry: T, at: Stamp, out: &mut impl FnMut(T, Stamp)) {
        let at = match self.last {
            Some(last) if at < last => {
                let twice = self.again || last.since(at) >= BEHIND;
                let second = self.second(at).filter(|second| twice && *second >= last);
                self.again |= second.is_some();
                second.unwrap_or(last)
            }
            _ => {
                self.again = false;
                at
            }
        };
        self.last = Some(at);
        out(entry, at);
    }

    /// The second moment at which clocks of this zone showed the same, where there are two and this is the first.
    fn second(&self, at: Stamp) -> Option<Stamp> {
        let first = jiff::Timestamp::from_millisecond(at.0).ok()?;
        let shown = self.zone.to_datetime(first);
        let AmbiguousOffset::Fold { before, after } = self.zone.to_ambiguous_timestamp(shown).offset() else { return None };
        let moment = |offset: jiff::tz::Offset| offset.to_timestamp(shown).ok();
        let second = moment(after).filter(|_| moment(before) == Some(first))?;
        Some(Stamp(second.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400_000;

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn ordered(begin: Option<i64>, times: &[Option<i64>]) -> Vec<i64> {
        let mut all = Vec::new();
        let mut out = |n: usize, at: Stamp| all.push((n, at.0));
        let mut forward = Forward::new(begin.map(Stamp), Stamp(7), berlin());
        for (n, at) in times.iter().enumerate() {
            forward.push(n, at.map(Stamp), &mut out);
        }
        forward.finish(&mut out);
        assert!(all.iter().map(|(n, _)| *n).eq(0..times.len()), "in their order, none lost: {all:?}");
        all.into_iter().map(|(_, at)| at).collect()
    }

    #[test]
    fn times_go_forward_and_missing_ones_are_inherited() {
        assert_eq!(ordered(None, &[Some(10), Some(30), None, Some(20), Some(40)]), [10, 30, 30, 30, 40]);
        assert_eq!(ordered(None, &[None, None]), [7, 7]);
        assert_eq!(ordered(Some(5), &[None, Some(6)]), [5, 6]);
    }

    #[test]
    fn a_stray_line_moves_nobody_and_a_real_gap_is_one() {
        assert_eq!(ordered(None, &[Some(10), Some(900 * DAY), Some(20), Some(30)]), [10, 10, 20, 30]);
        assert_eq!(ordered(None, &[Some(900 * DAY), Some(20), Some(30)]), [20, 20, 30], "the first may be the stray");
        assert_eq!(ordered(None, &[Some(10), Some(9 * DAY), None, Some(9 * DAY + 5)]), [10, 9 * DAY, 9 * DAY, 9 * DAY + 5]);
        assert_eq!(ordered(None, &[Some(10), Some(9 * DAY), None]), [10, 9 * DAY, 9 * DAY], "the last of a log is believed");
    }

    #[test]
    fn an_hour_that_comes_twice_is_lived_twice() {
        // 2026-10-25: at 01:00 UTC clocks in Berlin go from 03:00 back to 02:00. Read as the first each time.
        let utc = |text: &str| Stamp::parse(&format!("2026-10-25T{text}Z")).unwrap().0;
        let minutes = |read: [&str; 6]| ordered(None, &read.map(|text| Some(utc(text))));
        let lived = ["00:20:00", "00:59:00", "01:01:00", "01:00:59", "01:59:00", "02:00:00"].map(utc);
        let read = ["00:20:00", "00:59:00", "00:01:00", "00:00:59", "00:59:00", "02:00:00"];
        let expected = [lived[0], lived[1], lived[2], lived[2], lived[4], lived[5]];
        assert_eq!(minutes(read), expected);
        // A line that is a little late there is only late.
        assert_eq!(ordered(None, &[Some(utc("00:40:00")), Some(utc("00:39:00"))]), [utc("00:40:00"); 2]);
        // And elsewhere nothing is lived twice.
        assert_eq!(ordered(None, &[Some(utc("05:59:00")), Some(utc("05:01:00"))]), [utc("05:59:00"); 2]);
    }

    #[test]
    fn doubt_holds_little_back() {
        let mut count = 0;
        let mut out = |(), _| count += 1;
        let mut forward = Forward::new(Some(Stamp(0)), Stamp(0), TimeZone::UTC);
        forward.push((), Some(Stamp(9 * DAY)), &mut out);
        for _ in 0..1000 {
            forward.push((), None, &mut out);
            assert!(forward.held.len() <= HELD);
        }
        forward.finish(&mut out);
        assert_eq!(count, 1001);
    }

    proptest! {
        #[test]
        fn whatever_times_a_log_has_they_go_forward(times in proptest::collection::vec(proptest::option::of(any::<i64>()), 0..50), begin in proptest::option::of(any::<i64>())) {
            let all = ordered(begin, &times);
            prop_assert!(all.is_sorted());
        }
    }
}
