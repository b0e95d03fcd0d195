//! Rules and routes of this host: read, changed, watched, asked.
//!
//! | file | what it holds |
//! |---|---|
//! | [`places`] | which rule the kernel takes for which, when one is added and when one is removed |
//! | `linux` | rtnetlink: the router, with a file each for the bytes of links, rules and routes |
//! | [`memory`] | the same without a kernel, for tests |
//! | `marks` | Linux: connection marks and leak counters, in a table of nftables of our own |
//! | [`names`] | what `ip` calls our tables and our protocol |
//! | `udp` | Linux: servers that answer from whatever address the route says, connections that wait for an answer |
//! | `freebsd` | that it is not there, and what is |

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub mod marks;
pub mod memory;
pub mod names;
pub mod places;
#[cfg(target_os = "linux")]
pub mod udp;

use std::collections::BTreeSet;
use std::io;

use palisade_core::route::lookup::{Answer, Question};
use palisade_core::route::plan::{Report, Step};
use palisade_core::route::{Protocol, Rule, TableId, World};

#[cfg(target_os = "freebsd")]
pub use freebsd::{Watch, open};
#[cfg(target_os = "linux")]
pub use linux::{Linux, Watch, open};

/// What holds rules and routes, and does what it is told about them.
pub trait Router: Send {
    /// Links, addresses and all rules of both families, and the routes that were asked for.
    ///
    /// # Errors
    /// [`RouteError::Unsteady`] when it kept changing while it was read: ask again a moment later.
    fn read(&mut self, what: &Read) -> Result<World, RouteError>;

    /// Takes the steps in order. One that fails does not stop the rest. To remove what is gone already is no failure.
    fn apply(&mut self, steps: &[Step]) -> Report;

    /// Asks which way a packet would take.
    fn lookup(&mut self, question: &Question) -> Result<Answer, RouteError>;

    /// What its own changes carry in the kernel's notifications, for [`Own::port`].
    fn port(&self) -> Option<u32> {
        None
    }
}

/// Which routes to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Those of these tables, and the default routes of main. However many others main has, they are not kept.
    Ours(BTreeSet<TableId>),
    /// Those of all tables. On a router that speaks BGP these may be a million.
    All,
}

/// Why the kernel could not be read or asked.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// It said no.
    #[error("cannot {what}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// It changed under our hands, each time it was read.
    #[error("{what} kept changing while they were read; they are read again in a moment")]
    Unsteady {
        /// What.
        what: &'static str,
    },
    /// This system has no such thing.
    #[error("{0}")]
    Unsupported(String),
}

/// What a [`Watch`] takes for ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// What our rules and routes carry.
    pub protocol: Protocol,
    /// Our tables: whatever somebody else does in them is told.
    pub tables: BTreeSet<TableId>,
    /// [`Router::port`] of the router whose changes are not to be told: they are our own.
    pub port: Option<u32>,
}

/// What changed since a [`Watch`] was drained last, other than by ourselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A link. IPv4 routes that die with a link going down are not told otherwise.
    pub links: bool,
    /// An address.
    pub addresses: bool,
    /// Somebody added a rule.
    pub rules_new: bool,
    /// Somebody removed a rule that was not ours.
    pub rules_gone: bool,
    /// A route of ours is gone.
    pub routes_gone: bool,
    /// A default route, or somebody else's in our tables, came or went.
    pub defaults: bool,
    /// Those of the removed rules that were ours: not all of them where `lost`.
    pub ours_gone: Vec<Rule>,
    /// There was more than could be told. Everything may have changed.
    pub lost: bool,
}

impl Changes {
    /// Whether anything changed.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}
