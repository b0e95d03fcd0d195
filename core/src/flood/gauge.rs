//! The table as a whole at one instant, and what the kernel counted since it booted.

use serde::{Deserialize, Serialize};

/// What costs microseconds to read: `nf_conntrack_count`, `nf_conntrack_max`, and the sums over all processors of
/// `IPCTNL_MSG_CT_GET_STATS_CPU` (linux/netfilter/nfnetlink_conntrack.h, `enum ctattr_stats_cpu`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauge {
    /// How many flows are tracked.
    pub count: u32,
    /// How many there can be; 0: no bound is known.
    pub max: u32,
    /// Packets dropped because the table was full or no memory could be had.
    pub drop: u64,
    /// Flows thrown out before their time to make room.
    pub early_drop: u64,
    /// Flows that could not be inserted (another packet of the same flow was faster, or a clash of translations).
    pub insert_failed: u64,
    /// Packets that fit no flow.
    pub invalid: u64,
    /// Hash buckets were searched again because they were rehashed meanwhile.
    pub search_restart: u64,
    /// Flows given up because their hash bucket's chain was too long.
    pub chain_too_long: u64,
}

impl Gauge {
    /// How full the table is, 0 to 1 (more, where `max` was lowered below what stands).
    pub fn fill(&self) -> f64 {
        if self.max == 0 { 0.0 } else { f64::from(self.count) / f64::from(self.max) }
    }

    /// What the counters gained since an earlier gauge; the count and the most there can be as they are now.
    ///
    /// The kernel counts in 32 bits a processor (`struct ip_conntrack_stat`, linux/netfilter/nf_conntrack_common.h). A sum that went
    /// backwards has wrapped, or began anew (a boot, the module loaded again); by how much it grew is not known then, and counts as 0.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            count: self.count,
            max: self.max,
            drop: self.drop.saturating_sub(earlier.drop),
            early_drop: self.early_drop.saturating_sub(earlier.early_drop),
            insert_failed: self.insert_failed.saturating_sub(earlier.insert_failed),
            invalid: self.invalid.saturating_sub(earlier.invalid),
            search_restart: self.search_restart.saturating_sub(earlier.search_restart),
            chain_too_long: self.chain_too_long.saturating_sub(earlier.chain_too_long),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_gained_is_the_difference_and_nothing_where_it_went_backwards() {
        let gauge = |n: u64| Gauge {
            count: 3,
            max: 8,
            drop: n,
            early_drop: n + 1,
            insert_failed: n + 2,
            invalid: n + 3,
            search_restart: n + 4,
            chain_too_long: n + 5,
        };
        let none = Gauge { count: 3, max: 8, ..Gauge::default() };
        let all = Gauge { drop: 6, early_drop: 6, insert_failed: 6, invalid: 6, search_restart: 6, chain_too_long: 6, ..none };
        assert_eq!(gauge(10).since(&Gauge { count: 1, max: 4, ..gauge(4) }), all);
        assert_eq!(gauge(4).since(&gauge(10)), none);
        let wrapped = Gauge { drop: 5, ..gauge(20) }.since(&gauge(10));
        assert_eq!((wrapped.drop, wrapped.early_drop), (0, 10), "each by itself");
    }
}
