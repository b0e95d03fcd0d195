//! A few flows that stand fairly for all.

use crate::flood::flow::Flow;

/// A sample of flows in which each that came has the same chance to be, however many came: algorithm R
/// (J. S. Vitter, "Random sampling with a reservoir", ACM TOMS 11 (1985)).
#[derive(Clone, Debug)]
pub struct Sample {
    most: usize,
    flows: Vec<Flow>,
    seen: u64,
    dice: Dice,
}

/// Enough of randomness to choose by: xorshift64* (S. Vigna, "An experimental exploration of Marsaglia's xorshift generators,
/// scrambled", ACM TOMS 42 (2016)).
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    /// A number below `end`, each as likely as the others but for `end` / 2^64.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let thrown = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(thrown) * u128::from(end)) >> 64) as u64
    }
}

impl Sample {
    /// A sample of at most `most` flows. Who knows the `seed` can foresee which: give it one that nobody does.
    pub const fn new(most: usize, seed: u64) -> Self {
        // Xorshift stays at 0 for ever.
        let seed = if seed == 0 { 0x9e37_79b9_7f4a_7c15 } else { seed };
        Self { most, flows: Vec::new(), seen: 0, dice: Dice(seed) }
    }

    /// One more came.
    pub fn add(&mut self, flow: &Flow) {
        self.seen += 1;
        if self.flows.len() < self.most {
            self.flows.push(*flow);
            return;
        }
        let place = usize::try_from(self.dice.below(self.seen)).ok();
        if let Some(there) = place.and_then(|place| self.flows.get_mut(place)) {
            *there = *flow;
        }
    }

    /// Those that were drawn, in no order that means anything.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// How many came.
    pub const fn seen(&self) -> u64 {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flood::census::fold::tests::flow;
    use proptest::prelude::*;

    #[test]
    fn each_has_the_same_chance() {
        // 20,000 samples of 4 of 16: each flow is in 5,000 of them, give or take sqrt(20,000 * 1/4 * 3/4) = 61.
        let mut times = [0_i32; 16];
        for seed in 0..20_000_u64 {
            let mut sample = Sample::new(4, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            (0..16).for_each(|port| sample.add(&flow("192.0.2.1", "198.51.100.1", port)));
            assert_eq!((sample.flows().len(), sample.seen()), (4, 16));
            sample.flows().iter().for_each(|flow| times[usize::from(flow.port)] += 1);
        }
        assert!(times.iter().all(|n| (n - 5000).abs() < 5 * 61), "{times:?}");
    }

    proptest! {
        #[test]
        fn never_more_than_asked_for_and_all_of_few(most in 0_usize..50, came in 0_u16..200, seed: u64) {
            let mut sample = Sample::new(most, seed);
            (0..came).for_each(|port| sample.add(&flow("192.0.2.1", "198.51.100.1", port)));
            prop_assert_eq!((sample.flows().len(), sample.seen()), (most.min(came.into()), came.into()));
            let mut ports: Vec<u16> = sample.flows().iter().map(|flow| flow.port).collect();
            ports.sort_unstable();
            ports.dedup();
            prop_assert_eq!(ports.len(), sample.flows().len());
        }
    }
}
