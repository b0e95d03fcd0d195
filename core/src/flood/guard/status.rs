//! What `conntrack status` shows.

use serde::{Deserialize, Serialize, Serializer};

use super::State;
use super::drops::Lost;
use crate::flood::owner::Process;
use crate::flood::settings::Action;
use crate::flood::timeouts::Profile;
use crate::flood::wanted::Culprit;
use crate::time::{Span, Stamp};

/// How it stands with the table, and because of whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// How many flows there are.
    pub count: u32,
    /// How many there can be; 0: no bound is known.
    pub max: u32,
    /// How full it is, 0 to 1.
    pub fill: f64,
    /// How it stands.
    pub state: State,
    /// Since when.
    pub since: Stamp,
    /// Which timeouts are wanted; `None`: they are the administrator's.
    pub profile: Option<Profile>,
    /// When it will be full; `None`: it does not fill.
    pub forecast: Option<Forecast>,
    /// Who floods, the worst first.
    pub offenders: Vec<Offender>,
    /// How many of them have a limit in the kernel.
    pub limits: usize,
    /// What was lost since the guard started, by cause.
    pub drops: Vec<Lost>,
    /// How many sources' habits are known.
    pub habits: usize,
    /// Messages that were never told, because too many came at once.
    pub untold: u64,
}

/// If it goes on like this.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Flows more each second.
    pub growth_per_second: f64,
    /// Until the table is full. In JSON: seconds.
    #[serde(serialize_with = "seconds", deserialize_with = "from_seconds")]
    pub full_in: Span,
}

/// One culprit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offender {
    /// Who, in words: `192.0.2.7`, `2001:db8:1::/64`, `user 1000 to port 443/tcp`, `many sources to 192.0.2.1:80/tcp`.
    pub addr: String,
    /// Who.
    pub culprit: Culprit,
    /// How many flows it holds.
    pub flows: u32,
    /// How many it opens a second: heard, or at least by its growth.
    pub new_per_second: f32,
    /// Its share of all there can be, 0 to 1.
    pub share: f64,
    /// How many it usually has.
    pub usual: f64,
    /// When it was named.
    pub since: Stamp,
    /// What is done about it.
    pub action: Action,
    /// Why it is one.
    pub why: String,
    /// Why nothing is done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exempt: Option<String>,
    /// The local process that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// How many packets of new flows its limit dropped.
    pub dropped: u64,
    /// Whether it is over its habit still, or only held.
    pub over: bool,
    /// Whether its limit is among those that should be in the kernel: only so many of the worst are.
    pub limited: bool,
}

fn seconds<S: Serializer>(span: &Span, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(span.as_secs_ceil())
}

fn from_seconds<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Span, D::Error> {
    u64::deserialize(d).map(Span::secs)
}
