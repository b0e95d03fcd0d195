//! Calm, pressure or flood; whose fault; what to do.

use serde::{Deserialize, Serialize};

/// How it stands with the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should.
    #[default]
    Calm,
    /// It fills.
    Pressure,
    /// It is nearly full, or will be within moments.
    Flood,
}
