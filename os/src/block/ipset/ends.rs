//! How many members of a set may have ended by themselves: what is missing beyond that, somebody took.
//!
//! Ends are kept as counts of a few seconds each, so that however many bans there are it takes no more
//! than the longest timeout has such steps: some 134,000 numbers.

use std::collections::BTreeMap;

/// Ends so many seconds around one another are counted as one.
const STEP: u64 = 16;

/// How much earlier than noted a member may end: a tick, and the second that is rounded.
const EARLY: u64 = 2;

/// When members of one set end, in seconds on a clock that stands still while the machine sleeps, as
/// the kernel's timers do.
#[derive(Debug, Default)]
pub struct Ends {
    counts: BTreeMap<u64, usize>,
    /// The longest that a load took: its members may end so much later than noted.
    late: u64,
}

impl Ends {
    /// A member was given an end.
    pub fn note(&mut self, at: u64) {
        *self.counts.entry(at / STEP).or_default() += 1;
    }

    /// What was noted took so long to be done.
    pub fn took(&mut self, seconds: u64) {
        self.late = self.late.max(seconds);
    }

    /// Whether it may be that so many ended by themselves until now, since this was asked before.
    pub fn explain(&mut self, mut missing: usize, now: u64) -> bool {
        for (step, count) in &mut self.counts {
            if step * STEP > now + EARLY || missing == 0 {
                break;
            }
            let taken = missing.min(*count);
            *count -= taken;
            missing -= taken;
        }
        let over = |step: u64| (step + 2) * STEP + self.late < now;
        self.counts.retain(|step, count| *count > 0 && !over(*step));
        missing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_end_is_explained() {
        let mut ends = Ends::default();
        (0..10).for_each(|_| ends.note(100));
        assert!(ends.explain(0, 50) && !ends.explain(1, 50));
        assert!(ends.explain(4, 101) && ends.explain(6, 103) && !ends.explain(1, 103));
        ends.note(200);
        assert!(ends.explain(0, 1000) && !ends.explain(1, 1000), "what did not end then was released or ends at another time now");
    }

    #[test]
    fn it_stays_small() {
        let mut ends = Ends::default();
        (0..2_000_000).for_each(|at| ends.note(at));
        assert_eq!(ends.counts.len(), 125_000);
    }
}
