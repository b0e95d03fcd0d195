//! Rules and routes: read, changed, watched, asked for; with what else it takes that packets leave by the right uplink.
//!
//! | file | what |
//! |---|---|
//! | `linux` | rtnetlink: reading, steps, single ways |
//! | `wire` | its messages |
//! | `watch` | what others change |
//! | [`marks`] | connection marks and leak counters, in a table of nftables of our own |
//! | [`sysctl`] | switches below /proc/sys/net |
//! | [`names`] | what tables are called, for `ip` |
//! | [`udp`] | servers that would answer from the wrong address |

mod linux;
pub mod marks;
pub mod names;
pub mod sysctl;
pub mod udp;
mod watch;
mod wire;

use std::collections::BTreeSet;

use palisade_core::route::lookup::{Answer, Question};
use palisade_core::route::plan::{Report, Step};
use palisade_core::route::{TableId, World};

pub use linux::Linux;
pub use watch::Watch;

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Links, addresses, all rules; of routes main's default routes, and all of these tables.
    Ours(BTreeSet<TableId>),
    /// All routes of all tables.
    All,
}

/// Reading or asking failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct RouteError {
    /// What was tried.
    pub what: &'static str,
    /// What the kernel said.
    #[source]
    pub source: std::io::Error,
}

/// A kernel's rules and routes. It does what it is told and decides nothing.
pub trait Router: Send {
    /// The host as it is now.
    ///
    /// # Errors
    /// What could not be listed.
    fn read(&mut self, what: &Read) -> Result<World, RouteError>;

    /// Does the steps in their order; one that fails does not stop the others.
    fn apply(&mut self, steps: &[Step]) -> Report;

    /// Which route a packet would take.
    ///
    /// # Errors
    /// Where the kernel cannot be asked; that there is no way is an answer.
    fn lookup(&mut self, question: &Question) -> Result<Answer, RouteError>;

    /// By which number notifications of its own changes are known.
    fn port(&self) -> u32;
}

/// The kernel's, for the calling thread's network namespace.
///
/// # Errors
/// Where it cannot be opened.
pub fn open() -> Result<Box<dyn Router>, RouteError> {
    Ok(Box::new(Linux::open()?))
}
