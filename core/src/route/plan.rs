//! From what is found to what is wanted: ordered steps.

use std::collections::BTreeSet;

use super::routes::Route;
use super::rule::Rule;
use super::wanted::{Marks, Sysctl};
use super::words::{Priority, Protocol, TableId};

/// What tells ours from everybody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// Our rules and routes carry it,
    pub protocol: Protocol,
    /// our rules stand from here
    pub base: Priority,
    /// for so many priorities, or where a free rule named its own place,
    pub range: u32,
    /// our routes stand in these tables.
    pub tables: BTreeSet<TableId>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add this route; it is an error if one like it is there.
    AddRoute(Route),
    /// Remove this route, and none that differs.
    DelRoute(Route),
    /// Add this rule; it is an error if it is there.
    AddRule(Rule),
    /// Remove this rule, and none that differs.
    DelRule(Rule),
    /// Make our nftables table hold exactly this; none: there is none of ours.
    Marks(Option<Marks>),
    /// Set a switch.
    Sysctl(Sysctl),
}

/// What became of the steps.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many were done.
    pub done: usize,
    /// Which were not, by their place, and why.
    pub failed: Vec<(usize, Failure)>,
}

/// Why a step was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the kernel said.
    pub error: String,
    /// It may work as things are a moment later (a link that is not up, a tentative address); no fault.
    pub passing: bool,
}
