//! The counted failures of one source in one jail, in time order.

use crate::attack::FULL_FAILURE;
use crate::time::Stamp;

/// One failure in eight bytes:
///
/// | bits | what |
/// |---|---|
/// | 63..16 | milliseconds since 1970, 0 to 2^48-1 (year 10889) |
/// | 15..0 | score, at least 1, so that no failure is all zeros |
type Packed = u64;

const SCORE_BITS: u32 = 16;
const LATEST: i64 = (1 << 48) - 1;

fn pack(at: Stamp, score: u16) -> Packed {
    (at.0.clamp(0, LATEST).unsigned_abs() << SCORE_BITS) | u64::from(score.max(1))
}

const fn at(packed: Packed) -> Stamp {
    Stamp((packed >> SCORE_BITS).cast_signed())
}

const fn score(packed: Packed) -> u32 {
    (packed & 0xffff) as u32
}

/// How much of the weak signs a full failure has for itself. Services write several lines about one
/// attempt: sshd says that the password was wrong (10) and then that the connection was closed (2).
/// The second tells nothing new, and `max_retry` failures are to be that many and not one fewer.
const COMPANION: u32 = 2;

/// What failures weigh together: the full ones all, the weak signs what they have beyond
/// [`COMPANION`] for each full one. Signs without any failure weigh what they are.
pub(super) fn weigh(scores: impl Iterator<Item = u32>) -> u32 {
    let (mut full, mut failures, mut weak) = (0u32, 0u32, 0u32);
    for score in scores {
        if score >= u32::from(FULL_FAILURE) {
            full = full.saturating_add(score);
            failures += 1;
        } else {
            weak = weak.saturating_add(score);
        }
    }
    full.saturating_add(weak.saturating_sub(failures.saturating_mul(COMPANION)))
}

/// Most sources are seen once or twice: those need no allocation. Zero is an empty place.
#[derive(Clone, Debug)]
pub(super) enum Window {
    Few([Packed; 2]),
    Many(Vec<Packed>),
}

impl Default for Window {
    fn default() -> Self {
        Self::Few([0; 2])
    }
}

impl Window {
    fn all(&self) -> &[Packed] {
        match self {
            Self::Few([0, _]) => &[],
            Self::Few(few @ [_, 0]) => &few[..1],
            Self::Few(few) => few,
            Self::Many(many) => many,
        }
    }

    fn set(&mut self, kept: &[Packed]) {
        *self = match *kept {
            [] => Self::default(),
            [one] => Self::Few([one, 0]),
            [one, two] => Self::Few([one, two]),
            _ => Self::Many(kept.to_vec()),
        };
    }

    /// How many failures.
    pub(super) fn len(&self) -> usize {
        self.all().len()
    }

    /// What they weigh together.
    pub(super) fn sum(&self) -> u32 {
        weigh(self.all().iter().map(|p| score(*p)))
    }

    /// The sum of those later than `cutoff`, and how many they are.
    pub(super) fn since(&self, cutoff: Stamp) -> &[Packed] {
        let all = self.all();
        &all[all.partition_point(|p| at(*p) <= cutoff)..]
    }

    /// What those later than `cutoff` weigh together.
    pub(super) fn sum_since(&self, cutoff: Stamp) -> u32 {
        weigh(self.since(cutoff).iter().map(|p| score(*p)))
    }

    /// When the first was.
    pub(super) fn first(&self) -> Option<Stamp> {
        self.all().first().map(|p| at(*p))
    }

    /// When the last was.
    pub(super) fn last(&self) -> Option<Stamp> {
        self.all().last().map(|p| at(*p))
    }

    /// Counts one more, at its place in time.
    pub(super) fn insert(&mut self, when: Stamp, weight: u16) {
        let packed = pack(when, weight);
        let place = self.all().partition_point(|p| at(*p) <= at(packed));
        match self {
            Self::Few(few @ [0, _]) => few[0] = packed,
            Self::Few(few @ [_, 0]) if place == 0 => *few = [packed, few[0]],
            Self::Few(few @ [_, 0]) => few[1] = packed,
            Self::Few(few) => {
                let mut many = Vec::with_capacity(4);
                many.extend_from_slice(few);
                many.insert(place, packed);
                *self = Self::Many(many);
            }
            Self::Many(many) => many.insert(place, packed),
        }
    }

    /// Forgets all up to and including `cutoff`.
    pub(super) fn forget_until(&mut self, cutoff: Stamp) {
        let kept = self.since(cutoff).len();
        self.keep_latest(kept);
    }

    /// Forgets all but the latest `n`.
    pub(super) fn keep_latest(&mut self, n: usize) {
        let len = self.len();
        if n >= len {
            return;
        }
        match self {
            Self::Many(many) if n > 2 => drop(many.drain(..len - n)),
            _ => {
                let kept = self.all()[len - n..].to_vec();
                self.set(&kept);
            }
        }
    }

    /// Moves all along with a wall clock that stepped by `ms`.
    pub(super) fn shift(&mut self, ms: i64) {
        let moved: Vec<Packed> = self.all().iter().map(|p| pack(at(*p).shifted(ms), (*p & 0xffff) as u16)).collect();
        self.set(&moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_window_of_two_needs_no_allocation() {
        assert_eq!(size_of::<Window>(), 24);
        let mut window = Window::default();
        window.insert(Stamp(5), 10);
        window.insert(Stamp(3), 3);
        assert!(matches!(window, Window::Few(_)));
        assert_eq!((window.first(), window.last(), window.sum()), (Some(Stamp(3)), Some(Stamp(5)), 11));
    }

    #[test]
    fn what_a_service_says_twice_about_one_attempt_counts_once() {
        let sum = |scores: &[u32]| weigh(scores.iter().copied());
        assert_eq!(sum(&[10, 2].repeat(9)), 90, "nine wrong passwords, each with its goodbye");
        assert_eq!(sum(&[2; 7]), 14, "signs alone weigh what they are");
        assert_eq!(sum(&[10, 2, 2, 1]), 13, "what is beyond one sign for each failure counts");
        assert_eq!(sum(&[2, 2, 10]), 12, "whatever came first");
    }

    proptest! {
        #[test]
        fn a_window_is_a_sorted_list(steps in proptest::collection::vec((0i64..20, 1u16..12, 0u8..6), 0..40)) {
            let mut window = Window::default();
            let mut model: Vec<(i64, u16)> = Vec::new();
            for (t, s, what) in steps {
                match what {
                    0 => { window.forget_until(Stamp(t)); model.retain(|(at, _)| *at > t); }
                    1 => { let n = usize::from(s); window.keep_latest(n); model.drain(..model.len().saturating_sub(n)); }
                    2 => { window.shift(t); model.iter_mut().for_each(|(at, _)| *at += t); }
                    _ => { window.insert(Stamp(t), s); model.insert(model.partition_point(|(at, _)| *at <= t), (t, s)); }
                }
                let seen: Vec<(i64, u16)> = window.all().iter().map(|p| (at(*p).0, (*p & 0xffff) as u16)).collect();
                prop_assert_eq!(&seen, &model);
                prop_assert_eq!(matches!(window, Window::Few(_)) || window.len() > 2, true);
            }
        }
    }
}
