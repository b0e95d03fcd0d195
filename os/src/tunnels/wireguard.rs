//! The peers of a WireGuard interface, over generic netlink.
//!
//! ```text
//!  message     nlmsghdr  u8 command  u8 version  u16 0  attributes
//!  the family  type 16 (GENL_ID_CTRL), command 3 CTRL_CMD_GETFAMILY: 2 CTRL_ATTR_FAMILY_NAME -> 1 CTRL_ATTR_FAMILY_ID u16
//!  a device    type of the family, command 0 WG_CMD_GET_DEVICE, as a listing: 2 WGDEVICE_A_IFNAME ->
//!       3 WGDEVICE_A_PRIVATE_KEY   8 WGDEVICE_A_PEERS { 0 { peer } ... }
//!  a peer      1 WGPEER_A_PUBLIC_KEY 32 bytes   2 PRESHARED_KEY   4 ENDPOINT struct sockaddr_in or sockaddr_in6
//!              5 PERSISTENT_KEEPALIVE_INTERVAL u16 seconds, 0 none   6 LAST_HANDSHAKE_TIME i64 s, i64 ns of the wall clock, 0 never
//!              7 RX_BYTES u64   8 TX_BYTES u64   9 ALLOWEDIPS
//!  sockaddr    u16 family  u16 port, big endian  then 4 bytes, or u32 flow label, 16 bytes, u32 scope
//! ```
//! All in host order but for ports and addresses. One with many allowed addresses comes in pieces, one a message, each
//! with its public key. The answer holds private and preshared keys too: they are not looked at, and the buffer they
//! came in is overwritten before anything else happens.
//! Source: linux/wireguard.h, linux/genetlink.h.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use palisade_core::route::handshakes::{Peer, Peers, PublicKey};
use palisade_core::time::{Span, Stamp};

use crate::netlink::socket::{GENERIC, Next, Socket};
use crate::netlink::wire::{Attr, Attrs, Builder, Message, flag};

const GENLMSG: usize = 4;
const CTRL: u16 = 16;
const GETFAMILY: [u8; GENLMSG] = [3, 1, 0, 0];
const CTRL_FAMILY_ID: u16 = 1;
const CTRL_FAMILY_NAME: u16 = 2;

const GET_DEVICE: [u8; GENLMSG] = [0, 1, 0, 0];
const DEVICE_IFNAME: u16 = 2;
const DEVICE_PEERS: u16 = 8;
const PEER_PUBLIC_KEY: u16 = 1;
const PEER_ENDPOINT: u16 = 4;
const PEER_KEEPALIVE: u16 = 5;
const PEER_LAST_HANDSHAKE: u16 = 6;
const PEER_RX_BYTES: u16 = 7;
const PEER_TX_BYTES: u16 = 8;

/// How many peers are read; a hub with more is watched by these. Some 100 bytes each.
const MOST_PEERS: usize = 4096;

/// The peers of an interface of the calling thread's namespace; none where it is no WireGuard interface.
pub(super) fn peers(interface: &str) -> io::Result<Option<Peers>> {
    let mut socket = Socket::open(GENERIC)?;
    let Some(family) = family(&mut socket)? else { return Ok(None) };
    let seq = socket.next_seq();
    let mut request = Builder::new();
    request.message(family, flag::REQUEST | flag::DUMP, seq, &GET_DEVICE).attr_str(DEVICE_IFNAME, interface);
    let mut peers = Vec::new();
    let listed = socket.dump(request.bytes(), seq, |message| {
        read(&message, &mut peers);
        if peers.len() < MOST_PEERS { Next::More } else { Next::Enough }
    });
    socket.wipe();
    match listed {
        Ok(_) => Ok(Some(Peers(peers))),
        // No such interface; it is something else.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EOPNOTSUPP)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number under which this kernel has WireGuard; none where it has none, so that no interface can be one.
fn family(socket: &mut Socket) -> io::Result<Option<u16>> {
    let seq = socket.next_seq();
    let mut request = Builder::new();
    request.message(CTRL, flag::REQUEST | flag::ACK, seq, &GETFAMILY).attr_str(CTRL_FAMILY_NAME, "wireguard");
    let mut family = None;
    let asked = socket.request(request.bytes(), seq, |message| {
        family = message.attrs(GENLMSG).find(CTRL_FAMILY_ID).and_then(|attr| number(&attr)).map(u16::from_ne_bytes);
    });
    match asked {
        Ok(()) => Ok(family),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds the peers of one message to those of the messages before.
fn read(message: &Message<'_>, peers: &mut Vec<Peer>) {
    let Some(list) = message.attrs(GENLMSG).find(DEVICE_PEERS) else { return };
    for peer in list.nested().filter_map(|attr| peer(attr.nested())) {
        let goes_on = peers.last().is_some_and(|last| last.key == peer.key);
        if !goes_on && peers.len() < MOST_PEERS {
            peers.push(peer);
        }
    }
}

fn peer(attrs: Attrs<'_>) -> Option<Peer> {
    let find = |kind| attrs.find(kind);
    Some(Peer {
        key: PublicKey(number(&find(PEER_PUBLIC_KEY)?)?),
        endpoint: find(PEER_ENDPOINT).and_then(|attr| endpoint(attr.payload)),
        keepalive: find(PEER_KEEPALIVE)
            .and_then(|attr| number(&attr))
            .map(u16::from_ne_bytes)
            .filter(|seconds| *seconds != 0)
            .map(|s| Span::secs(s.into())),
        handshake: find(PEER_LAST_HANDSHAKE).and_then(|attr| handshake(attr.payload)),
        rx: find(PEER_RX_BYTES).and_then(|attr| number(&attr)).map(u64::from_ne_bytes).unwrap_or_default(),
        tx: find(PEER_TX_BYTES).and_then(|attr| number(&attr)).map(u64::from_ne_bytes).unwrap_or_default(),
    })
}

fn number<const N: usize>(attr: &Attr<'_>) -> Option<[u8; N]> {
    attr.payload.try_into().ok()
}

fn handshake(payload: &[u8]) -> Option<Stamp> {
    let (seconds, nanos) = payload.split_first_chunk::<8>()?;
    let (seconds, nanos) = (i64::from_ne_bytes(*seconds), i64::from_ne_bytes(*nanos.first_chunk::<8>()?));
    (seconds > 0).then(|| Stamp(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)))
}

fn endpoint(payload: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = payload.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => Some((Ipv4Addr::from(*rest.first_chunk::<4>()?), port).into()),
        libc::AF_INET6 => {
            let (_, rest) = rest.split_first_chunk::<4>()?;
            let (addr, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(*addr), port, 0, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::wire::Messages;
    use proptest::prelude::*;

    const SECRET: [u8; 32] = *b"never to be seen outside of here";

    /// One message as the kernel sends it.
    fn device(peers: &[&dyn Fn(&mut Builder)]) -> Vec<u8> {
        /// `WGDEVICE_A_PRIVATE_KEY`.
        const PRIVATE_KEY: u16 = 3;
        let mut b = Builder::new();
        b.message(30, 0, 1, &GET_DEVICE).attr_str(DEVICE_IFNAME, "wg0").attr(PRIVATE_KEY, &SECRET);
        let list = b.nest(DEVICE_PEERS);
        for peer in peers {
            let nest = b.nest(0);
            peer(&mut b);
            b.end(nest);
        }
        b.end(list);
        b.bytes().to_vec()
    }

    fn read_all(datagrams: &[Vec<u8>]) -> Vec<Peer> {
        let mut peers = Vec::new();
        for datagram in datagrams {
            Messages(datagram).for_each(|message| read(&message, &mut peers));
        }
        peers
    }

    fn full(b: &mut Builder) {
        /// `WGPEER_A_PRESHARED_KEY`.
        const PRESHARED_KEY: u16 = 2;
        b.attr(PEER_PUBLIC_KEY, &[7; 32]).attr(PRESHARED_KEY, &SECRET);
        b.attr(PEER_ENDPOINT, &[&2u16.to_ne_bytes()[..], &51820u16.to_be_bytes(), &[192, 0, 2, 9], &[0; 8]].concat());
        b.attr(PEER_KEEPALIVE, &25u16.to_ne_bytes());
        b.attr(PEER_LAST_HANDSHAKE, &[1_700_000_000i64.to_ne_bytes(), 250_000_000i64.to_ne_bytes()].concat());
        b.attr(PEER_RX_BYTES, &92u64.to_ne_bytes()).attr(PEER_TX_BYTES, &148u64.to_ne_bytes());
    }

    #[test]
    fn a_peer_is_read_and_its_secrets_are_not() {
        let peers = read_all(&[device(&[&full])]);
        let wanted = Peer {
            key: PublicKey([7; 32]),
            endpoint: Some("192.0.2.9:51820".parse().unwrap()),
            keepalive: Some(Span::secs(25)),
            handshake: Some(Stamp(1_700_000_000_250)),
            rx: 92,
            tx: 148,
        };
        assert_eq!(peers, [wanted]);
        assert!(!format!("{peers:?}").contains("110, 101, 118, 101, 114"), "`never` as bytes");
    }

    #[test]
    fn a_peer_in_pieces_is_one_and_the_next_is_another() {
        let piece = |b: &mut Builder| _ = b.attr(PEER_PUBLIC_KEY, &[7; 32]);
        let next =
            |b: &mut Builder| _ = b.attr(PEER_PUBLIC_KEY, &[8; 32]).attr(PEER_LAST_HANDSHAKE, &[0; 16]).attr(PEER_KEEPALIVE, &[0; 2]);
        let peers = read_all(&[device(&[&full]), device(&[&piece, &next])]);
        assert_eq!(peers.len(), 2);
        assert_eq!((peers[0].tx, peers[1].key, peers[1].handshake, peers[1].keepalive), (148, PublicKey([8; 32]), None, None));
    }

    #[test]
    fn an_endpoint_of_ipv6() {
        let addr: Ipv6Addr = "2001:db8::9".parse().unwrap();
        let bytes = [&10u16.to_ne_bytes()[..], &51820u16.to_be_bytes(), &[0; 4], &addr.octets(), &3u32.to_ne_bytes()].concat();
        assert_eq!(endpoint(&bytes), Some(SocketAddrV6::new(addr, 51820, 0, 3).into()));
        assert_eq!(endpoint(&bytes[..27]), None, "cut short");
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 1u16..10) {
            let mut peers = read_all(&[device(&[&|b: &mut Builder| _ = b.attr(PEER_PUBLIC_KEY, &[1; 32]).attr(kind, &bytes)]), bytes.clone()]);
            let mut b = Builder::new();
            b.message(30, 0, 1, &GET_DEVICE).attr(DEVICE_PEERS, &bytes);
            Messages(b.bytes()).for_each(|message| read(&message, &mut peers));
            prop_assert!(peers.len() <= 1 + bytes.len());
        }
    }
}
