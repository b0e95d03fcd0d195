//! The words between the ban table and a firewall: what should stand, what stands, and the steps.
//!
//! A backend is told what should be there ([`Wanted`], or single [`Step`]s towards it) and reports
//! what it did ([`Report`]); it decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::net::Prefix;
pub use crate::ports::Ports;
use crate::time::{Span, Stamp, Until};

/// What makes one ban of the wall the same as another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Who.
    pub prefix: Prefix,
    /// From what.
    pub ports: Ports,
    /// Made by hand with `--force`: stands before the allow list instead of behind it.
    pub forced: bool,
}

impl Key {
    /// All traffic of `prefix`, behind the allow list.
    pub const fn all(prefix: Prefix) -> Self {
        Self { prefix, ports: Ports::All, forced: false }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.prefix)?;
        if let Ports::Only(ports) = &self.ports {
            write!(f, " ports {ports:?}")?;
        }
        if self.forced { f.write_str(" forced") } else { Ok(()) }
    }
}

/// One ban as the wall knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who and from what.
    pub key: Key,
    /// When the backend may forget it by itself, as a backstop to our own release.
    pub until: Until,
}

/// What a banned packet meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// Silence.
    #[default]
    Drop,
    /// A TCP reset, or an ICMP "administratively prohibited".
    Reject,
}

/// What stands around the bans and changes seldom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Prefixes that pass before any ban is looked at (but not before forced ones).
    pub allow: BTreeSet<Prefix>,
    /// What a banned packet meets.
    pub refusal: Refusal,
}

/// All that should be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Allow list and manner.
    pub frame: Frame,
    /// Every ban that has not ended.
    pub bans: BTreeMap<Key, Until>,
}

impl Wanted {
    /// The bans as entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.bans.iter().map(|(key, until)| Entry { key: key.clone(), until: *until })
    }
}

/// One thing to change. Steps are idempotent: doing one twice is doing it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Let these prefixes pass before any ban is looked at; replaces the former list.
    Frame(Frame),
    /// Make this ban stand, with this end, whether it stood before or not.
    Block(Entry),
    /// Make it stand no more. That it did not is success.
    Release(Key),
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as the step says.
    Done,
    /// It is not, and why. The backend tells what to do about it where it knows.
    Failed(String),
}

/// What became of the steps, in their order.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many are done.
    pub done: usize,
    /// The ones that are not: index into the steps, and why.
    pub failed: Vec<(usize, String)>,
}

impl Report {
    /// All of `n` steps done.
    pub const fn all_done(n: usize) -> Self {
        Self { done: n, failed: Vec::new() }
    }

    /// Whether nothing failed.
    pub fn ok(&self) -> bool {
        self.failed.is_empty()
    }
}

/// One ban as it was read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What is left of its kernel timeout; `None` where it has none.
    pub left: Option<Span>,
    /// Packets it has dropped; `None` where the backend does not count, or not this one.
    pub packets: Option<u64>,
    /// Bytes it has dropped.
    pub bytes: Option<u64>,
}

/// What of ours was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Whether tables, chains, rules and the like are there and as they should be for what they hold.
    pub whole: bool,
    /// The frame as it stands; `None` where it could not be read.
    pub frame: Option<Frame>,
    /// The bans that were asked for and stand; all that stand after a full read.
    pub bans: BTreeMap<Key, Standing>,
}

/// What a backend can hold. `wanted` is cut to it before it is compared, and the rest is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many bans.
    pub bans: usize,
    /// Whether it can limit a ban to ports.
    pub ports: bool,
    /// Whether it forgets bans by itself when they end.
    pub timeouts: bool,
    /// Whether it counts what each ban drops, of a wall that is not too long for that.
    pub counters: bool,
    /// Whether a connection that is open already goes on past a ban. Then those of all bans are ended after the wall
    /// was built anew, for who came in while it was down.
    pub lasting: bool,
}

/// How far an element's remaining time may be from what is wanted before it counts as wrong.
/// Covers the time between reading the clock and the kernel's doing so, and a tick's rounding.
pub const TIMEOUT_SLACK: Span = Span::secs(2);

/// Whether an element with `left` on its timeout stands for a ban that should end at `until`.
pub fn keeps(left: Option<Span>, until: Until, now: Stamp) -> bool {
    match (left, until.left(now)) {
        (None, None) => true,
        (Some(left), Some(want)) => left.as_millis().abs_diff(want.as_millis()) <= TIMEOUT_SLACK.as_millis(),
        _ => false,
    }
}
