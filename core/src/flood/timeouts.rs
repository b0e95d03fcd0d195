//! The kernel's switches of connection tracking: what each is for, what it should be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Span;

/// Timeouts by their short names: `tcp_established`, `udp_stream`, `icmp`.
pub type Timeouts = BTreeMap<String, Span>;

/// Which of the three sets of timeouts holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// The administrator's own.
    #[default]
    Calm,
    /// The table fills.
    Pressure,
    /// The table is nearly full.
    Attack,
}
