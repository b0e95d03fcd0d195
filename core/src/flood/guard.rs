//! Calm, pressure or flood; whose fault; what to do.

use std::fmt;

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

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calm => "calm",
            Self::Pressure => "pressure",
            Self::Flood => "flood",
        })
    }
}
