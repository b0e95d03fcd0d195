//! What is asked and answered of the connection table.

use serde::{Deserialize, Serialize};

pub use crate::flood::guard::Status;
use crate::flood::history::Point;

/// `palisade conntrack`, as far as the daemon knows more than the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum ConntrackRequest {
    /// `conntrack status`.
    Status,
    /// How the table was: a day finely, a month coarsely.
    History,
}

impl ConntrackRequest {
    /// Whether it changes nothing.
    pub const fn only_reads(&self) -> bool {
        matches!(self, Self::Status | Self::History)
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum ConntrackReply {
    /// To [`ConntrackRequest::Status`].
    Status(Box<Status>),
    /// To [`ConntrackRequest::History`].
    History {
        /// Both grains, oldest first; the coarse ones tell of the fine ones' time too.
        points: Vec<Point>,
    },
}
