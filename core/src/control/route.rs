//! What is asked and answered of routing, tunnels and budgets.
//!
//! What is to be planned or applied travels as the config's text: the command line has read the files and told what is
//! wrong in them with their lines, the daemon reads this text with the same reader.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::net::{Addr, Prefix};
pub use crate::route::budget::BudgetStatus;
pub use crate::route::tunnel::State;
use crate::time::{Span, Stamp};

/// `palisade route`, `tunnel`, `budget`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum RouteRequest {
    /// `route plan`: what would change if this were applied.
    Plan {
        /// [`crate::config::show_routing`]'s text.
        text: String,
    },
    /// `route apply`.
    Apply {
        /// As above.
        text: String,
        /// On trial for so long; for good when it does not say.
        confirm: Option<Span>,
        /// The peer of the asker's own ssh session, which must not be cut off, and this host's address in it.
        peer: Option<(Addr, Addr)>,
    },
    /// `route confirm`.
    Confirm,
    /// `route revert`.
    Revert,
    /// `route status`.
    Status,
    /// `route release`.
    Release,
    /// `tunnel status`.
    Tunnels,
    /// `tunnel start|stop|restart`.
    Tunnel {
        /// Which.
        name: String,
        /// What.
        order: TunnelVerb,
        /// Spend the connect that may lead to a lockout.
        spend_last: bool,
    },
    /// `budget`.
    Budgets,
    /// `budget reset`.
    BudgetReset {
        /// Which.
        name: String,
    },
}

impl RouteRequest {
    /// Whether it changes nothing.
    pub const fn only_reads(&self) -> bool {
        matches!(self, Self::Plan { .. } | Self::Status | Self::Tunnels | Self::Budgets)
    }
}

/// What a human asks of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TunnelVerb {
    /// Start it, and keep it up.
    Start,
    /// Stop it, and leave it down.
    Stop,
    /// Stop and start it.
    Restart,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum RouteReply {
    /// To `route plan`, and what `apply`, `revert` and `release` did.
    Plan(PlanReply),
    /// To `route status`.
    Status(Box<RouteStatus>),
    /// To `tunnel status`.
    Tunnels {
        /// By name.
        tunnels: Vec<TunnelStatus>,
    },
    /// To `budget`.
    Budgets {
        /// By name.
        budgets: Vec<BudgetStatus>,
        /// Those whose file cannot be used, and why.
        broken: Vec<String>,
    },
    /// To `tunnel start` and the like: it is done, or under way.
    Said {
        /// What.
        text: String,
    },
}

/// How one tunnel is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// Its name.
    pub name: Arc<str>,
    /// `exec`, `sit`, `gre`, `wireguard`.
    pub kind: String,
    /// How it is.
    #[serde(flatten)]
    pub state: State,
    /// Its client's process.
    pub pid: Option<u32>,
    /// Failures in a row.
    pub failures: u32,
    /// What it is taken from.
    pub budget: Option<Arc<str>>,
    /// The last line its programs printed.
    pub last_line: Option<String>,
}

/// What changes, or was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReply {
    /// In their order. What is pending changes nothing now.
    pub steps: Vec<StepText>,
    /// How many of the steps are no more than pending.
    pub pending: usize,
    /// How many of our rules and routes stay as they are.
    pub unchanged: usize,
    /// What cannot be, because somebody else's object is in its place.
    pub conflicts: Vec<String>,
    /// Rules of others before ours that take packets of ours.
    pub shadows: Vec<String>,
    /// What the kernel refused, and why.
    pub failed: Vec<String>,
    /// Until when it must be confirmed.
    pub confirm_within: Option<Span>,
}

impl PlanReply {
    /// How many changes there are now.
    pub const fn changes(&self) -> usize {
        self.steps.len().saturating_sub(self.pending)
    }
}

/// One step in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepText {
    /// `add`, `del`, `set`.
    pub op: String,
    /// `rule`, `route`, `nft`, `sysctl`.
    pub object: String,
    /// 4 or 6, of rules and routes.
    pub family: Option<u8>,
    /// As `ip` writes it.
    pub text: String,
    /// Why it cannot be done yet.
    pub pending: Option<String>,
}

/// How it stands with routing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// `none` (nothing was applied), `applied`, `trial`.
    pub state: String,
    /// When it was applied.
    pub since: Option<Stamp>,
    /// What is left of the trial.
    pub confirm_within: Option<Span>,
    /// Each uplink.
    pub uplinks: Vec<UplinkStatus>,
    /// Each policy and what it uses now.
    pub policies: Vec<PolicyStatus>,
    /// Rules of others before ours that take packets of ours.
    pub shadows: Vec<String>,
    /// Others' objects in the place of ours.
    pub conflicts: Vec<String>,
    /// Rules and routes of ours that do not stand now and should.
    pub missing: usize,
    /// How often somebody else's change was repaired.
    pub healed: u64,
    /// Who else keeps removing ours, while that lasts.
    pub contested: Option<String>,
}

/// One uplink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// Its name.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// Its table's name and number; main's where it has none.
    pub table: (String, u32),
    /// `up`, `down`, `pending`.
    pub state: String,
    /// Since when; `None` without a daemon.
    pub since: Option<Stamp>,
    /// Who leaves by it now.
    pub sources: Vec<Prefix>,
    /// Mean time of the probes' answers.
    pub rtt: Option<Span>,
    /// Percent of them that did not come.
    pub loss: Option<f64>,
    /// Why it is less than good, though not down.
    pub warn: Option<String>,
    /// Packets with its source that left elsewhere.
    pub leaks: Option<u64>,
    /// What is declared and cannot stand now, and why.
    pub pending: Vec<String>,
}

/// One policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Its name.
    pub name: String,
    /// The uplinks in use.
    pub uses: Vec<String>,
    /// All of them.
    pub members: Vec<String>,
}
