//! How the table was: a day finely, a month coarsely.

use serde::{Deserialize, Serialize};

use crate::net::Prefix;
use crate::time::{Span, Stamp};

/// The fine grain, and how long it is kept.
pub const FINE: (Span, Span) = (Span::secs(60), Span::secs(86_400));
/// The coarse one.
pub const COARSE: (Span, Span) = (Span::secs(3600), Span::secs(31 * 86_400));

/// How the table was in one grain of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// When the grain began.
    pub at: Stamp,
    /// How long it is, in seconds: 60 or 3600.
    pub grain: u32,
    /// The most flows there were.
    pub peak: u32,
    /// How many there could be.
    pub max: u32,
    /// Packets dropped in it because the table was full.
    pub drops: u64,
    /// Who held the most at the peak, largest first, at most [`NAMED`].
    pub top: Vec<(Prefix, u32)>,
}

/// How many sources a point names.
pub const NAMED: usize = 5;
