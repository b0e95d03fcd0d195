//! What programs report of attackers they know themselves, and what they are told.

use serde::{Deserialize, Serialize};

use crate::attack::JailName;
use crate::net::Addr;
use crate::time::Until;

/// What a program reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// Whom. They count for the jail as if a line had told of each.
    pub addrs: Vec<Addr>,
    /// The jail whose policy judges.
    pub jail: JailName,
    /// What they did.
    pub what: ReportedAs,
    /// The user name tried.
    pub user: Option<String>,
    /// What is kept in the place of a line.
    pub reason: String,
}

/// What somebody did whom a program reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportedAs {
    /// Failed, so heavily: 10 is one full failure.
    Failure(u16),
    /// Did what nobody honest does: as heavy as the jail's `max_retry`.
    Abuse,
    /// Logged in.
    Login,
}

/// What became of one reported address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportResult {
    /// Which.
    pub addr: Addr,
    /// What.
    #[serde(flatten)]
    pub what: ReportOutcome,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum ReportOutcome {
    /// It counts.
    Counted {
        /// What its window weighs now.
        score: u32,
        /// What bans.
        needed: u32,
    },
    /// It is banned.
    Banned {
        /// Until then.
        until: Until,
    },
    /// A safety rule protects it: nothing was counted.
    Refused {
        /// Which.
        protected_by: String,
    },
}
