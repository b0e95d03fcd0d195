//! A wall clock that tells when it was stepped.

use crate::time::Now;

/// How far the wall clock may run apart from the boot clock between two looks before it counts as
/// a step, in milliseconds. NTP slews at most 500 ppm: 30 ms a minute.
const STEP: i64 = 2000;

/// Compares each look at the clocks with the one before.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    last: Now,
}

impl Steady {
    /// Starts with this look.
    pub const fn new(now: Now) -> Self {
        Self { last: now }
    }

    /// The last look.
    pub const fn last(&self) -> Now {
        self.last
    }

    /// By how many milliseconds the wall clock was stepped since the last look; 0 when it was not.
    pub fn step(&mut self, now: Now) -> i64 {
        let boot = i64::try_from(now.tick.since(self.last.tick).as_millis()).unwrap_or(i64::MAX);
        let wall = now.stamp.0.saturating_sub(self.last.stamp.0);
        self.last = now;
        let apart = wall.saturating_sub(boot);
        if apart.saturating_abs() > STEP { apart } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Stamp, Tick};

    fn at(stamp: i64, tick: u64) -> Now {
        Now { stamp: Stamp(stamp), tick: Tick(tick) }
    }

    #[test]
    fn steps_are_told_and_slewing_is_not() {
        let mut clock = Steady::new(at(1_000_000, 50));
        assert_eq!(clock.step(at(1_060_030, 60_050)), 0);
        assert_eq!(clock.step(at(1_060_030 + 86_400_000, 60_060)), 86_399_990);
        assert_eq!(clock.step(at(1_060_040, 60_070)), -86_400_000);
    }
}
