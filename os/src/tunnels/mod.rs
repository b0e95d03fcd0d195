//! Tunnels that the kernel itself makes, and what it tells of those that others made.
//!
//! An interface that is made here carries our mark in its alias (`ip link` shows it): only one that does is ever
//! removed. One of the same kind and to the same far end that somebody else made is taken as it is, its near end set
//! and missing addresses added, and it stays when the tunnel goes.
//!
//! | file | what it holds |
//! |---|---|
//! | `linux` | Linux: 6in4 and GRE interfaces over rtnetlink |
//! | [`ends`] | Linux: where such a tunnel begins and ends, in the bytes of its kind |
//! | [`wireguard`] | Linux: a WireGuard interface's peers over generic netlink |
//! | `elsewhere` | that there is none of it on other systems |

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
pub mod ends;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
#[cfg(target_os = "linux")]
pub mod wireguard;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use palisade_core::net::{Addr, Family};
use palisade_core::route::handshakes::Peers;
use palisade_core::route::tunnels::LinkTunnel;

#[cfg(not(target_os = "linux"))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;

/// What could not be done, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct TunnelError {
    /// What was tried, and where.
    what: String,
    /// What the system said.
    #[source]
    source: io::Error,
}

impl TunnelError {
    fn new(what: impl Into<String>, source: io::Error) -> Self {
        Self { what: what.into(), source }
    }

    /// What the system said, by its kind: `AlreadyExists` of an interface that is something else.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// An interface as the kernel has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Its number.
    pub index: u32,
    /// What it is: `sit`, `gre`, ...; none of hardware.
    pub kind: Option<String>,
    /// Where the tunnel begins; none of one that leaves it open, and of what is no sit and no gre.
    pub local: Option<Addr>,
    /// Where it ends; likewise.
    pub remote: Option<Addr>,
    /// Switched on (`IFF_UP`).
    pub up: bool,
    /// `IFF_LOWER_UP`; tunnels have it as soon as they are up.
    pub carrier: bool,
    /// Made here: it carries our mark.
    pub ours: bool,
}

/// Makes the tunnel's interface with its addresses and switches it on; its number.
///
/// One that is there already is adopted if it is of the same kind and leads to the same far end, and gets what is
/// missing. Addresses that it has beyond the declared ones stay.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where an interface of that name is something else, which is then left as it is.
pub fn make(tunnel: &LinkTunnel, local: Addr) -> Result<u32, TunnelError> {
    system::make(tunnel, local)
}

/// Moves the tunnel's near end there. Nothing else of the interface changes: addresses and routes stay.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] where there is no such interface, as [`make`] where it is something else.
pub fn set_local(tunnel: &LinkTunnel, local: Addr) -> Result<(), TunnelError> {
    system::set_local(tunnel, local)
}

/// Removes the interface if it was made here; whether it was.
pub fn remove(tunnel: &LinkTunnel) -> Result<bool, TunnelError> {
    system::remove(tunnel)
}

/// How the tunnel's interface is; none: there is no interface of that name.
pub fn state(tunnel: &LinkTunnel) -> Result<Option<LinkState>, TunnelError> {
    system::state(tunnel)
}

/// The peers of a WireGuard interface; none: there is no such interface, or it is no WireGuard one.
pub fn wireguard(interface: &str) -> Result<Option<Peers>, TunnelError> {
    system::wireguard(interface)
}

/// The address that what this host sends there leaves with now; none: there is no way there.
///
/// Nothing is sent: connecting a UDP socket only asks the routing tables.
pub fn local_for(remote: Addr) -> Result<Option<Addr>, TunnelError> {
    /// The discard service; no packet ever goes there.
    const PORT: u16 = 9;
    let ask = || {
        let socket = match remote.family() {
            Family::V4 => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
            Family::V6 => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
        }?;
        socket.connect((remote.ip(), PORT))?;
        socket.local_addr()
    };
    match ask() {
        Ok(own) if own.ip().is_unspecified() => Ok(None),
        Ok(own) => Ok(Some(Addr::from(own.ip()))),
        Err(error) if no_way(&error) => Ok(None),
        Err(error) => Err(TunnelError::new(format!("ask for the way to {remote}"), error)),
    }
}

/// Whether that is how a system says that there is no route: none at all, an `unreachable`, `prohibit` or `blackhole` one.
fn no_way(error: &io::Error) -> bool {
    let no_route = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENETDOWN, libc::EADDRNOTAVAIL, libc::EACCES, libc::EINVAL];
    error.raw_os_error().is_some_and(|errno| no_route.contains(&errno))
}
