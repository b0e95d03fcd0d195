//! Ending a prefix's connections: local sockets, then connection-tracking states.
//!
//! Called only once the block stands: states ended without a block in both directions come back
//! with the next packet.

#[cfg(target_os = "linux")]
pub mod census;
pub mod ipfw;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod memory;
pub mod pf;
#[cfg(target_os = "linux")]
pub mod purge;
mod targets;
mod tcpdrop;
pub mod tracked;

use palisade_core::bans::backend::Backend;
use palisade_core::bans::wall::Ports;
use palisade_core::config::BackendSection;
use palisade_core::net::Prefix;

/// Whose connections to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The other end.
    pub prefix: Prefix,
    /// Only connections to these of our ports.
    pub ports: Ports,
}

/// How much was ended. Nothing to end is success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Killed {
    /// Local TCP and UDP sockets.
    pub sockets: u64,
    /// Connection-tracking states, both directions of each counted once.
    pub states: u64,
}

/// Where connections can be found and ended.
pub trait Flows: Send {
    /// Ends every connection of the targets. Does as much as it can; the error tells what it could not.
    fn kill(&mut self, targets: &[Target]) -> Result<Killed, FlowError>;
}

/// Opens what ends connections where this firewall blocks, in the calling thread's network namespace.
pub fn open(backend: Backend, section: &BackendSection) -> Result<Box<dyn Flows>, FlowError> {
    Ok(match backend {
        Backend::Pf => Box::new(pf::Pf::open(section)?),
        Backend::Ipfw => Box::new(ipfw::Ipfw::open(section)),
        Backend::Memory => Box::new(memory::Memory::new(Vec::new())),
        #[cfg(target_os = "linux")]
        _ => Box::new(linux::Linux::open()?),
        // Whatever keeps packets out there: the host's own sockets can be ended.
        #[cfg(not(target_os = "linux"))]
        _ => Box::new(ipfw::Ipfw::open(section)),
    })
}

/// Why connections could not be ended.
#[derive(Debug, thiserror::Error)]
#[error("{what} (ended before that: {} sockets, {} states)", killed.sockets, killed.states)]
pub struct FlowError {
    /// What was tried.
    pub what: String,
    /// What was ended all the same.
    pub killed: Killed,
    /// What the kernel said.
    #[source]
    pub source: std::io::Error,
}
