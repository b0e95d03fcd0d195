//! What the config sets of the flood guard. Where nothing is typed, [`Settings::default`] holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::timeouts::Timeouts;
use crate::net::Prefix;
use crate::time::{Span, Term};

/// `[conntrack]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether the table is watched at all.
    pub enabled: bool,
    /// Fill from which on the table is under pressure, and from which on it counts as flooded, each 0 to 1.
    pub engage: (f64, f64),
    /// Fill below which pressure is over, once it has held for [`Settings::calm_after`].
    pub release: f64,
    /// How long.
    pub calm_after: Span,
    /// A forecast that the table is full within this time counts as pressure too.
    pub horizon: Span,
    /// No source with fewer flows is ever a culprit, but for one that opens them so fast that it has so many soon: that is one
    /// from half of this on.
    pub per_source: u32,
    /// Nobody here is ever limited or banned for a flood. Named all the same.
    pub exempt: Vec<Prefix>,
    /// What is done about a culprit.
    pub action: Action,
    /// New flows a second that a limited source may still open, and how many at once.
    pub limit: (u32, u32),
    /// How long somebody stays limited after it was last over its habit.
    pub limit_time: Span,
    /// How long somebody is banned (`action = "ban"`).
    pub ban_time: Term,
    /// Whether a culprit's idle flows are ended while the table is under pressure.
    pub purge: bool,
    /// Whether the kernel's timeouts are shortened under pressure and in a flood, and put back after.
    pub adapt: bool,
    /// Whether states bound to an address that this host has lost are ended.
    pub follow_addresses: bool,
    /// How long the uplinks' addresses live: no state is of use for longer. `None`: they are not known to change.
    pub address_lifetime: Option<Span>,
    /// Timeouts that are to hold whatever is proposed: by the switch's name without `nf_conntrack_` and `_timeout`.
    pub timeouts: Timeouts,
    /// Timeouts of single services, by what they are called.
    pub services: BTreeMap<String, Service>,
    /// Files of leases; those that are usual where none is typed.
    pub leases: Option<Vec<String>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            engage: (0.70, 0.85),
            release: 0.60,
            calm_after: Span::secs(60),
            horizon: Span::secs(600),
            per_source: 512,
            exempt: Vec::new(),
            action: Action::Limit,
            limit: (5, 20),
            limit_time: Span::secs(300),
            ban_time: Term::For(Span::secs(3600)),
            purge: true,
            adapt: true,
            follow_addresses: true,
            address_lifetime: None,
            timeouts: Timeouts::new(),
            services: BTreeMap::new(),
            leases: None,
        }
    }
}

/// What is done about a culprit; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is named.
    Watch,
    /// Its new flows are limited, those of others and all that stand go on.
    Limit,
    /// It is banned. A local process, which cannot be, is limited.
    Ban,
}

/// `[conntrack.service.NAME]`: timeouts of one service's flows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// TCP or UDP, by number.
    pub protocol: u8,
    /// To which ports.
    pub ports: Vec<u16>,
    /// Only to or from these; empty: all.
    pub prefixes: Vec<Prefix>,
    /// The policy: state's name (`established`, `syn_sent`, `unreplied`, `replied`) to time.
    pub timeouts: Timeouts,
}
