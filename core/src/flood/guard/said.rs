//! What is to be told, and what is to be done once.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::State;
use super::drops::Cause;
use crate::flood::gauge::Gauge;
use crate::flood::owner::Process;
use crate::flood::settings::Action;
use crate::flood::wanted::Culprit;
use crate::net::Prefix;
use crate::time::{Span, Term};

/// One thing the guard says, in the order it came to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "lowercase")]
pub enum Said {
    /// It stands otherwise with the table.
    State {
        /// Before.
        from: State,
        /// From now on.
        to: State,
        /// Why.
        why: String,
    },
    /// Somebody floods.
    Named {
        /// Who.
        culprit: Culprit,
        /// How many flows it holds.
        flows: u32,
        /// How many it opens a second: heard, or by its growth.
        new_per_second: f32,
        /// Why it is a culprit: its numbers and those they are compared with.
        why: String,
        /// The local process that it is.
        process: Option<Process>,
        /// What is done about it now.
        action: Action,
        /// Why nothing is ever done about it.
        exempt: Option<String>,
    },
    /// More is done about one that was named before.
    Grown {
        /// Who.
        culprit: Culprit,
        /// How many flows it holds.
        flows: u32,
        /// How many it opens a second.
        new_per_second: f32,
        /// What was done.
        from: Action,
        /// What is done from now on.
        to: Action,
        /// Why.
        why: String,
    },
    /// Less is done about one that still floods: it is exempt now, or the config says so.
    Eased {
        /// Who.
        culprit: Culprit,
        /// What was done.
        from: Action,
        /// What is done from now on.
        to: Action,
        /// Why.
        why: String,
    },
    /// It is over.
    Over {
        /// Who.
        culprit: Culprit,
        /// For how long it was a culprit.
        lasted: Span,
        /// How many packets its limit dropped.
        dropped: u64,
    },
    /// Ban it, once.
    Ban {
        /// Whom.
        prefix: Prefix,
        /// For how long.
        term: Term,
        /// Why.
        why: String,
    },
    /// End its idle flows, once.
    Purge {
        /// Whose.
        culprit: Culprit,
    },
    /// The kernel lost packets or flows. At most once a minute for each cause.
    Dropped {
        /// Why.
        cause: Cause,
        /// How many since it was told last.
        count: u64,
        /// What the kernel's counters gained by it since it was told last; the count and the most there can be as they are now.
        difference: Gauge,
        /// How many, what it means, what helps.
        explanation: String,
    },
}

impl fmt::Display for Said {
    /// One line, for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { from, to, why } => write!(f, "connection table: {from} -> {to}: {why}"),
            Self::Named { culprit, why, process, action, exempt, .. } => {
                write!(f, "{culprit} floods the connection table: {why}")?;
                process.as_ref().map_or(Ok(()), |process| write!(f, "; it is {process}"))?;
                match (exempt, action) {
                    (Some(exempt), _) => write!(f, "; nothing is done: {exempt}"),
                    (None, Action::Watch) => f.write_str("; watched"),
                    (None, action) => write!(f, "; {}", done(*action)),
                }
            }
            Self::Grown { culprit, to, why, .. } => write!(f, "{culprit}: {}: {why}", done(*to)),
            Self::Eased { culprit, to, why, .. } => write!(f, "{culprit}: {}: {why}", done(*to)),
            Self::Over { culprit, lasted, dropped } => {
                write!(f, "{culprit}: over after {lasted}; {dropped} packets of new flows were dropped")
            }
            Self::Ban { prefix, term, why } => write!(f, "{prefix}: banned for {term}: {why}"),
            Self::Purge { culprit } => write!(f, "{culprit}: its idle flows are ended"),
            Self::Dropped { explanation, .. } => f.write_str(explanation),
        }
    }
}

const fn done(action: Action) -> &'static str {
    match action {
        Action::Watch => "only watched from now on",
        Action::Limit => "its new flows are limited",
        Action::Ban => "it is banned",
    }
}

/// More than this is never said between two looks: each culprit can say three things at once.
const ROOM: usize = 8192;

/// What is said and not yet taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    said: VecDeque<Said>,
    lost: u64,
}

impl Queue {
    /// One more; where there is no room the oldest goes, and is counted.
    pub(super) fn push(&mut self, said: Said) {
        if self.said.len() >= ROOM {
            self.said.pop_front();
            self.lost = self.lost.saturating_add(1);
        }
        self.said.push_back(said);
    }

    pub(super) fn take(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said).into()
    }

    /// How many were never taken.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }
}
