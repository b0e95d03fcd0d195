//! What the config declares of tunnels and of connect budgets: `[tunnel.NAME]`, `[budget.NAME]`.

use std::sync::Arc;

use crate::net::{Addr, Prefix};
use crate::time::Span;

/// One `[tunnel.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tunnel {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is kept up.
    pub enabled: bool,
    /// What it is.
    pub kind: TunnelKind,
    /// When it counts as up.
    pub ready: Ready,
    /// How long to wait between two tries.
    pub backoff: Backoff,
    /// The uplink it runs over.
    pub underlay: Option<Arc<str>>,
}

/// What a tunnel is.
#[derive(Clone, Debug, PartialEq)]
pub enum TunnelKind {
    /// A client program that is started and stopped.
    Exec(Exec),
    /// An interface that we make: 6in4, GRE.
    Link(LinkTunnel),
    /// A WireGuard interface that somebody else makes; its handshakes are watched.
    Wireguard(Wireguard),
}

/// `kind = "exec"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    /// Program and arguments, no shell. At least the program.
    pub start: Vec<String>,
    /// The same to stop it; none: the process is sent SIGTERM.
    pub stop: Option<Vec<String>>,
    /// Where a client that goes into the background writes its process id (`type = "forking"`); none: the program that
    /// was started is the client (`type = "simple"`).
    pub pidfile: Option<String>,
    /// When it is started again.
    pub restart: Restart,
    /// Whether the uplink's failed probes restart it too.
    pub restart_on_probe: bool,
    /// The provider's budget that each start is taken from.
    pub budget: Option<Arc<str>>,
    /// What one start costs.
    pub cost: u32,
    /// What one stop costs: some clients log in to say goodbye.
    pub stop_cost: u32,
    /// Output after which it is no use to try again before a human looked. Plain text, found anywhere in a line.
    pub fatal: Vec<String>,
    /// A client that ends sooner never was up.
    pub min_uptime: Span,
}

/// `restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    No,
    /// When it ended otherwise than with exit status 0, or without being asked to.
    OnFailure,
    /// Whenever it ended.
    Always,
}

/// Which interface we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// IPv6 in IPv4 (RFC 4213).
    Sit,
    /// GRE over IPv4 (RFC 2784).
    Gre,
}

/// `kind = "sit"` and `"gre"`.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkTunnel {
    /// Which.
    pub kind: LinkKind,
    /// The interface's name.
    pub interface: String,
    /// Our end: an IPv4 address; none (`"auto"`): the one that packets to the far end leave with, followed.
    pub local: Option<Addr>,
    /// The far end: an IPv4 address.
    pub remote: Addr,
    /// Hop limit of the outer packets.
    pub ttl: u8,
    /// Largest packet within.
    pub mtu: u32,
    /// Addresses the interface gets, each with the length of its network.
    pub addresses: Vec<(Addr, u8)>,
    /// A program that tells the provider of a new local end, run when that changed; `{local}` in its arguments is the address.
    pub update: Option<Vec<String>>,
    /// The budget that telling is taken from.
    pub budget: Option<Arc<str>>,
}

/// `kind = "wireguard"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Wireguard {
    /// The interface's name.
    pub interface: String,
    /// A handshake older than this while packets are sent: nobody is there.
    pub handshake: Span,
}

/// `ready`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// This interface is up,
    pub interface: String,
    /// has this address, if one is named,
    pub address: Option<Prefix>,
    /// within this time of the start.
    pub within: Span,
}

/// `backoff`. Shares are percent: whole numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub min: Span,
    /// At most.
    pub max: Span,
    /// Each failure waits so many percent of the one before: 200.
    pub factor: u32,
    /// Up to so many percent more or less, by chance: 20.
    pub jitter: u32,
    /// Up for so long, and the next failure is the first.
    pub reset_after: Span,
}

/// One `[budget.NAME]`: what a provider allows, as it words it.
///
/// More than `connects` within `within` is a breach: refused for `penalty`. `breaches` breaches within
/// `breach_within`: locked out for `lockout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its name.
    pub name: Arc<str>,
    /// How many connects are allowed
    pub connects: u32,
    /// within any such time.
    pub within: Span,
    /// How long one more is answered with refusals.
    pub penalty: Span,
    /// So many breaches
    pub breaches: u32,
    /// within any such time
    pub breach_within: Span,
    /// lock out for so long.
    pub lockout: Span,
    /// How many connects are kept for a human.
    pub reserve: u32,
    /// What is added to every wait: clocks differ, connects take time to arrive.
    pub margin: Span,
}
