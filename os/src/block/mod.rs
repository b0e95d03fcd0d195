//! The firewalls, one file each, behind one trait.

pub mod command;
pub mod detect;
mod file;
pub mod hosts;
pub mod ipfw;
#[cfg(target_os = "linux")]
pub mod ipset;
#[cfg(target_os = "linux")]
pub mod iptables;
mod listed;
pub mod memory;
#[cfg(target_os = "linux")]
pub mod neighbours;
#[cfg(target_os = "linux")]
pub mod nftables;
pub mod nginx;
pub mod pf;
#[cfg(target_os = "linux")]
pub mod proof;
#[cfg(target_os = "linux")]
pub mod xtables;

use std::os::fd::BorrowedFd;

use palisade_core::bans::backend::Backend;
use palisade_core::bans::wall::{Entry, Found, Frame, Key, Limits, Report, Step};
use palisade_core::config::BackendSection;
use palisade_core::time::Stamp;

use crate::errors::chain;
use crate::process::ToolError;

/// What to read back.
#[derive(Clone, Copy, Debug)]
pub enum Read<'a> {
    /// Tables, chains, rules, the allow list; no bans.
    Frame,
    /// The frame, and these bans one by one.
    Keys(&'a [Key]),
    /// Everything. Lists the kernel's sets, which costs quadratic time there (a million bans: half
    /// a minute): for tests, and for rebuilding a lost store.
    All,
}

/// What somebody else did to our objects since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// Nothing.
    None,
    /// These bans were removed or changed by somebody else.
    Bans(Vec<Key>),
    /// More than single bans, or it cannot be told: build it anew. Says what was seen.
    Everything(String),
}

/// A firewall that holds what it is told and decides nothing.
pub trait Blocker: Send {
    /// Its name as in the config: `nftables`.
    fn name(&self) -> &'static str;

    /// What it can hold.
    fn limits(&self) -> Limits;

    /// Reads back what of ours stands.
    fn read(&mut self, what: Read<'_>) -> Result<Found, BlockError>;

    /// Takes the steps in order. One that fails does not stop the rest. `now` is for the kernel
    /// timeouts of the bans' ends; a ban already over by `now` is released.
    fn apply(&mut self, steps: &[Step], now: Stamp) -> Report;

    /// Makes exactly this stand, whatever stood before, without a moment in which a ban that stood
    /// and should stand does not. The entries are taken as a stream, so a million of them need no
    /// memory. Indexes in the report count the entries.
    fn replace(&mut self, frame: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<Report, BlockError>;

    /// Takes everything of ours away, and nothing else.
    fn remove(&mut self) -> Result<(), BlockError>;

    /// Becomes readable when somebody may have changed our objects, where the system can tell.
    fn notices(&self) -> Option<BorrowedFd<'_>>;

    /// What somebody else did since the last call. Never blocks.
    fn drift(&mut self) -> Result<Drift, BlockError>;
}

/// Steps in the pieces in which they are taken: each frame alone, what is between two frames together. With the
/// place of each piece's first step.
fn runs(steps: &[Step]) -> impl Iterator<Item = (usize, &[Step])> {
    let frame = |step: &Step| matches!(step, Step::Frame(_));
    let pieces = steps.chunk_by(move |one, next| !frame(one) && !frame(next));
    pieces.scan(0, |base, run| {
        let at = *base;
        *base += run.len();
        Some((at, run))
    })
}

/// Opens this firewall as the config has it, in the calling thread's network namespace. What stands
/// there goes on standing.
///
/// # Errors
/// [`BlockError::Unusable`] where the system lacks what it needs, with what to do about it.
pub fn open(backend: Backend, section: &BackendSection) -> Result<Box<dyn Blocker>, BlockError> {
    Ok(match backend {
        #[cfg(target_os = "linux")]
        Backend::Nftables => Box::new(nftables::Nftables::open()?),
        Backend::Pf => Box::new(pf::Pf::open(section)?),
        Backend::Ipfw => Box::new(ipfw::Ipfw::open(section)?),
        #[cfg(target_os = "linux")]
        Backend::Ipset => Box::new(ipset::Ipset::open(section)?),
        #[cfg(target_os = "linux")]
        Backend::Iptables => Box::new(iptables::Iptables::open(section)?),
        Backend::Hosts => Box::new(hosts::Hosts::open(&section.hosts)?),
        Backend::Nginx => Box::new(nginx::Nginx::open(&section.nginx)?),
        Backend::Command => Box::new(command::Command::open(&section.command)?),
        #[cfg(not(target_os = "linux"))]
        Backend::Nftables | Backend::Ipset | Backend::Iptables => return Err(linux_only(backend)),
        Backend::Memory => Box::new(memory::Memory::new()),
    })
}

/// What is said of a firewall of Linux's on another system.
#[cfg(not(target_os = "linux"))]
fn linux_only(backend: Backend) -> BlockError {
    let hint = "name one of this system in [ban] backend: pf or ipfw".to_owned();
    BlockError::Unusable { what: format!("{backend} is a firewall of Linux's, and this is none"), hint }
}

/// Why a firewall did not do as it was told: what failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The kernel or tool lacks it, or we lack the right.
    #[error("{what}{}", if hint.is_empty() { String::new() } else { format!(": {hint}") })]
    Unusable {
        /// What was tried.
        what: String,
        /// What to do next.
        hint: String,
    },
    /// The kernel said no.
    #[error("{what}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// The firewall's own program said no, or could not be run.
    #[error("{what}{}", hinted(hint))]
    Tool {
        /// What was tried.
        what: String,
        /// What to do next; empty where what the program said tells it.
        hint: String,
        /// What the program said.
        #[source]
        source: ToolError,
    },
}

impl BlockError {
    /// The report of so many steps that failed by this, all of them.
    pub(crate) fn all_failed(&self, steps: usize) -> Report {
        let why = chain(self);
        Report { done: 0, failed: (0..steps).map(|index| (index, why.clone())).collect() }
    }
}

fn hinted(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!(" ({hint})") }
}

#[cfg(test)]
mod tests {
    use palisade_core::time::Until;

    use super::*;

    #[test]
    fn frames_stand_alone_and_what_is_between_them_together() {
        let (frame, block) = (
            || Step::Frame(Frame::default()),
            |n: u8| {
                let key = Key::all(format!("192.0.2.{n}").parse().unwrap());
                Step::Block(Entry { key, until: Until::Forever })
            },
        );
        let steps = [block(1), block(2), frame(), frame(), block(3), frame(), block(4)];
        let places: Vec<(usize, usize)> = runs(&steps).map(|(at, run)| (at, run.len())).collect();
        assert_eq!(places, [(0, 2), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]);
        assert_eq!(runs(&[]).count(), 0);
    }
}
