//! How a jail judges. Made by the config, which checks every bound.

use serde::{Deserialize, Serialize};

use crate::net::{Addr, Family, Prefix};
use crate::ports::Ports;
use crate::time::{Span, Term};

/// How one jail counts and sentences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The exact sliding window in which failures count.
    pub find_time: Span,
    /// So many full failures within the window are a ban; 1 to 1000.
    pub max_retry: u16,
    /// How long a first ban lasts.
    pub ban_time: Term,
    /// How later bans grow.
    pub escalate: Escalate,
    /// What is counted and banned together in IPv4, 8 to 32.
    pub ipv4_prefix: u8,
    /// What is counted and banned together in IPv6, 16 to 128.
    pub ipv6_prefix: u8,
    /// When a whole neighbourhood is banned.
    pub spread: Spread,
    /// What a ban shuts out.
    pub ports: Ports,
    /// Whether a ban ends the source's open connections.
    pub kill_states: bool,
    /// Whether a login forgives what was counted: see [`super::clemency`].
    pub forgive: bool,
}

/// How bans of a repeat offender grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Escalate {
    /// The n-th ban lasts `ban_time * factor^(n-1)`, at most `max`; bans older than `forget` do not count.
    Factor {
        /// At least 1.
        factor: f64Eq,
        /// The longest a ban grows to.
        max: Term,
        /// How long after the end of its last ban a source is a first offender again.
        forget: Span,
    },
    /// The n-th ban that starts within `within` lasts `steps[n-1]`, the last step for all later ones.
    Ladder {
        /// At least one.
        steps: Vec<Term>,
        /// Bans that started longer ago do not count.
        within: Span,
    },
}

/// When so many distinct banned sources of a wider prefix ban that prefix. `None`: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// The wider prefix and how many distinct bans in it, for IPv4.
    pub ipv4: Option<(u8, u32)>,
    /// The same for IPv6.
    pub ipv6: Option<(u8, u32)>,
}

/// A finite number that can be compared; the config refuses NaN.
#[expect(non_camel_case_types, reason = "reads as the f64 it is")]
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct f64Eq(pub f64);

impl PartialEq for f64Eq {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for f64Eq {}

impl Default for Policy {
    /// The built-in defaults of `[ban]`.
    fn default() -> Self {
        Self {
            find_time: Span::secs(600),
            max_retry: 5,
            ban_time: Term::For(Span::secs(600)),
            escalate: Escalate::Factor { factor: f64Eq(2.0), max: Term::For(Span::secs(7 * 86_400)), forget: Span::secs(30 * 86_400) },
            ipv4_prefix: 32,
            ipv6_prefix: 64,
            spread: Spread::default(),
            ports: Ports::All,
            kill_states: true,
            forgive: true,
        }
    }
}

impl Policy {
    /// What is counted and banned together with `addr`.
    pub fn unit(&self, addr: Addr) -> Prefix {
        let len = match addr.family() {
            Family::V4 => self.ipv4_prefix,
            Family::V6 => self.ipv6_prefix,
        };
        Prefix::host(addr).widen(len)
    }
}
