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
}
