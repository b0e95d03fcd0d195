//! No other system's tunnels are known here.

use std::io;

use palisade_core::net::Addr;
use palisade_core::route::handshakes::Peers;
use palisade_core::route::tunnels::LinkTunnel;

use super::{LinkState, TunnelError};

fn unsupported<T>(interface: &str) -> Result<T, TunnelError> {
    let what = format!("look after the tunnel interface {interface}: on this system only tunnels of kind \"exec\" are");
    Err(TunnelError::new(what, io::ErrorKind::Unsupported.into()))
}

pub(super) fn make(tunnel: &LinkTunnel, _: Addr) -> Result<u32, TunnelError> {
    unsupported(&tunnel.interface)
}

pub(super) fn set_local(tunnel: &LinkTunnel, _: Addr) -> Result<(), TunnelError> {
    unsupported(&tunnel.interface)
}

pub(super) fn remove(tunnel: &LinkTunnel) -> Result<bool, TunnelError> {
    unsupported(&tunnel.interface)
}

pub(super) fn state(tunnel: &LinkTunnel) -> Result<Option<LinkState>, TunnelError> {
    unsupported(&tunnel.interface)
}

pub(super) fn wireguard(interface: &str) -> Result<Option<Peers>, TunnelError> {
    unsupported(interface)
}
