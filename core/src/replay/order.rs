//! The times of one log, made to go forward only.
//!
//! | what stands in the log | what is made of it |
//! |---|---|
//! | a time before the last one (the clock was set back, the hour that summer time repeats, two writers) | the last one |
//! | no time that can be read | the last one |
//! | a time far ahead, and then times that go on where they were | the last one for the stray; one broken line must not move all that follow to its date |
//! | a time far ahead, and what follows goes on from there | that time |

use crate::time::{Span, Stamp};

/// So far ahead of the last time one is doubted until the next is seen: a log that is written to at all is
/// written to every day.
const AHEAD: Span = Span::secs(86_400);

/// So many are held back at most while there is doubt; then it is believed.
const HELD: usize = 64;

/// Puts entries of one log in order by their times, each an entry and what stands in its line.
#[derive(Debug)]
pub struct Forward<T> {
    last: Option<Stamp>,
    /// Doubted, and what came after it without a time of its own.
    held: Vec<(T, Stamp)>,
    fallback: Stamp,
}

impl<T> Forward<T> {
    /// Of a log that begins then, as far as that is known; `fallback` is the time of what stands before any time.
    pub const fn new(begin: Option<Stamp>, fallback: Stamp) -> Self {
        Self { last: begin, held: Vec::new(), fallback }
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
        let at = self.last.map_or(at, |last| last.max(at));
        self.last = Some(at);
        out(entry, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400_000;

    fn ordered(begin: Option<i64>, times: &[Option<i64>]) -> Vec<i64> {
        let mut all = Vec::new();
        let mut out = |n: usize, at: Stamp| all.push((n, at.0));
        let mut forward = Forward::new(begin.map(Stamp), Stamp(7));
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
    fn doubt_holds_little_back() {
        let mut count = 0;
        let mut out = |(), _| count += 1;
        let mut forward = Forward::new(Some(Stamp(0)), Stamp(0));
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
