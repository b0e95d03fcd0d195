//! What should hold in the kernel because of the flood guard.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::flow::Endpoint;
use super::settings::Service;
use super::timeouts::{Profile, Timeouts};
use crate::net::Prefix;

/// All of it. The hands make it so, again and again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Whose new flows are limited, each by itself. At most [`LIMITS`].
    pub limits: Vec<Limit>,
    /// Timeouts of single services, for good.
    pub services: Vec<(String, Service)>,
    /// Which timeouts hold now; `None`: they are not ours to change.
    pub profile: Option<Profile>,
    /// Whether who opens flows is listened to, one in some.
    pub listen: bool,
}

/// More limited at once than this is no list of culprits: each costs every new flow a comparison.
pub const LIMITS: usize = 64;

/// New flows of one culprit, and no others.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Whose.
    pub whose: Culprit,
    /// How many a second.
    pub rate: u32,
    /// How many at once, after a quiet while.
    pub burst: u32,
    /// Timeouts of the flows it still opens, so that they end soon; empty: the kernel's.
    pub timeouts: Timeouts,
}

/// Who floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Culprit {
    /// A source, by address or /64.
    Source {
        /// Which.
        prefix: Prefix,
    },
    /// Processes of a user of this host, as far as they send to that port.
    Local {
        /// Whose.
        uid: u32,
        /// TCP, UDP, by number.
        protocol: u8,
        /// Where to; 0: anywhere.
        port: u16,
    },
    /// Nobody in particular: many sources, forged ones maybe, that all open flows to one endpoint.
    Crowd {
        /// Where to.
        to: Endpoint,
    },
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source { prefix } if prefix.is_host() => write!(f, "{}", prefix.addr()),
            Self::Source { prefix } => write!(f, "{prefix}"),
            Self::Local { uid, protocol, port: 0 } => write!(f, "user {uid} ({})", super::flow::Protocol(*protocol)),
            Self::Local { uid, protocol, port } => write!(f, "user {uid} to port {port}/{}", super::flow::Protocol(*protocol)),
            Self::Crowd { to } => write!(f, "many sources to {to}"),
        }
    }
}
