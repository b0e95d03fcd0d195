//! Who is behind an address: processes of this host by their sockets, containers by their network namespace, neighbours by their
//! link-layer address, hosts by their lease.
//!
//! | file | what |
//! |---|---|
//! | `held` | Linux: the processes behind a sample of flows |
//! | `gone` | Linux: the same where the sockets are closed already |
//! | `processes` | Linux: `/proc`: who holds which socket, and what a process is |
//! | `units` | Linux: control groups by their number |
//! | `containers` | Linux: the network namespace that has an address, and its sockets |
//! | `neighbour` | Linux: the neighbour table |
//! | `leases` | files of DHCP servers |
//!
//! Whoever lacks the right to look into other users' processes (`CAP_SYS_PTRACE`) is still told whose a socket is and in which unit.

#[cfg(target_os = "linux")]
mod containers;
#[cfg(target_os = "linux")]
mod gone;
#[cfg(target_os = "linux")]
mod held;
mod leases;
#[cfg(target_os = "linux")]
mod neighbour;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod units;

use std::io;
use std::path::PathBuf;

use palisade_core::flood::census::Held;
use palisade_core::flood::flow::Flow;
use palisade_core::flood::owner::Behind;
use palisade_core::net::Addr;

/// Most processes told of one address.
pub const MOST: usize = 64;

/// The usual files of DHCP servers.
pub fn usual_leases() -> Vec<PathBuf> {
    palisade_core::flood::leases::USUAL.iter().map(PathBuf::from).collect()
}

/// The local processes behind a sample of flows of which there are `seen` in all, most flows first; counts are of all, not of the
/// sample. Only TCP and UDP flows that this host began have such a process. A flow whose socket is gone counts for the process
/// that holds most sockets to the same endpoint; else for one that opens, or holds at least eight of, half the sockets to the
/// same port; where there is none, it is left out. Of more than 262,144 sockets of a protocol the first are looked at, which
/// may leave out more. Works in the calling thread's network namespace.
///
/// # Errors
/// What the kernel said to the listing of sockets (CONFIG_INET_DIAG). What may not be looked into is no error: see above.
#[cfg(target_os = "linux")]
pub fn holders(sample: &[Flow], seen: u64) -> io::Result<Vec<Held>> {
    held::holders(sample, seen)
}

/// What is known of an address. Works in the calling thread's network namespace; a container's address is looked for in all.
///
/// # Errors
/// What the kernel said to the listing of sockets or neighbours. What may not be looked into is told in [`Behind::hidden`].
#[cfg(target_os = "linux")]
pub fn behind(addr: Addr, leases: &[PathBuf]) -> io::Result<Behind> {
    let mut behind = held::talkers(addr)?;
    if let Some(neighbour) = neighbour::of(addr)? {
        behind.mac = Some(neighbour.mac);
        behind.interface = neighbour.interface;
    }
    leases::add(addr, leases, &mut behind);
    Ok(behind)
}

/// The processes of a container that has the address, those with most sockets first; empty where none has it. Unlike
/// [`behind`] it names nobody of this host that merely talks to it.
///
/// # Errors
/// As [`behind`].
#[cfg(target_os = "linux")]
pub fn contained(addr: Addr) -> io::Result<Vec<(palisade_core::flood::owner::Process, u32)>> {
    containers::processes(addr, &mut processes::Names::default()).map(|(found, _)| found)
}

/// Not known on this system.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn holders(_sample: &[Flow], _seen: u64) -> io::Result<Vec<Held>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "which process holds a flow is not known on this system"))
}

/// What leases tell of an address; the rest is not known on this system.
///
/// # Errors
/// None; the form is that of the other systems.
#[cfg(not(target_os = "linux"))]
pub fn behind(addr: Addr, leases: &[PathBuf]) -> io::Result<Behind> {
    let mut behind = Behind { hidden: Some("processes and neighbours are not known on this system".to_owned()), ..Behind::default() };
    leases::add(addr, leases, &mut behind);
    Ok(behind)
}
