//! The kernel's switches of connection tracking: what each is for, what it should be.
//!
//! | file | what |
//! |---|---|
//! | [`catalogue`] | all there are from Linux 5.10 to 6.18: unit, purpose, the kernel's own value, who may set it |
//! | [`plan`] | what should change on this machine, and why |
//! | [`profile`] | the three sets of timeouts: calm, pressure, attack |
//! | [`persist`] | the file by which it holds after a reboot |

pub mod catalogue;
pub mod persist;
pub mod plan;
pub mod profile;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Span;

/// Timeouts by their short names: `tcp_established`, `udp_stream`, `icmp`.
pub type Timeouts = BTreeMap<String, Span>;

/// Switches by their names below `/proc/sys/net/netfilter`, and what each holds, as the kernel writes it.
pub type Values = BTreeMap<String, String>;

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

impl Profile {
    /// As it is written: `calm`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Pressure => "pressure",
            Self::Attack => "attack",
        }
    }
}

/// What a plan must know of the machine beside its switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Bytes of memory; 0: not known, then nothing is said about sizes.
    pub ram: u64,
    /// Whether the sizes can be set here: they are shared by all network namespaces, and the initial one sets them.
    pub initial: bool,
    /// Whether it passes on packets of others: forwarding is on, or translated flows were seen.
    pub forwards: bool,
}

/// What a switch holds, where that is a number that is not negative.
fn number(found: &Values, name: &str) -> Option<u64> {
    found.get(name)?.trim().parse().ok()
}
