//! Sockets of this host over netlink (inet_diag): listing and ending them.
//!
//! ```text
//!  type 20 SOCK_DIAG_BY_FAMILY, 21 SOCK_DESTROY
//!  request  inet_diag_req_v2  u8 family  u8 protocol  u8 ext  u8 pad  u32 states (bit 1 << state)  sockid
//!  answer   inet_diag_msg     u8 family  u8 state  u8 timer  u8 retrans  sockid  u32 expires rqueue wqueue uid inode
//!           attributes: 21 INET_DIAG_CGROUP_ID u64, of its own accord since Linux 5.9
//!  sockid   be16 sport  be16 dport  16 bytes src  16 bytes dst  u32 if  u32 cookie[2]      (48 bytes; IPv4 in the first 4 of 16)
//! ```
//! Source: linux/inet_diag.h, sock_diag(7). Except for ports and addresses all is in host order.
//!
//! An IPv4 connection to a dual-stack listener is a socket of family IPv6 with mapped addresses: it
//! is only in the IPv6 listing, and must be ended as it was listed.

use std::io;

use palisade_core::net::{Addr, Family};

use super::family_byte;
use super::pipeline::Pipeline;
use super::socket::{Next, Socket};
use super::wire::{Builder, Message, flag};

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const SOCKID: usize = 48;
const ANSWER: usize = 4 + SOCKID + 20;
const CGROUP_ID: u16 = 21;

/// States of sockets (net/tcp_states.h); a connected UDP socket is `ESTABLISHED` too.
pub mod state {
    /// A connection, or a connected UDP socket.
    pub const ESTABLISHED: u8 = 1;
    /// A handshake that we began, without an answer yet.
    pub const SYN_SENT: u8 = 2;
    /// A handshake that a peer began.
    pub const SYN_RECV: u8 = 3;
    /// Both sides are done; kept for late packets.
    pub const TIME_WAIT: u8 = 6;
    /// No peer (any more).
    pub const CLOSE: u8 = 7;
    /// Waits for peers.
    pub const LISTEN: u8 = 10;
    /// A handshake that a peer began, as newer kernels call it inside.
    const NEW_SYN_RECV: u8 = 12;

    /// Every state in which a process may hold the socket: not those of handshakes and late packets, which the kernel
    /// keeps by itself.
    pub const HELD: u32 = !((1 << TIME_WAIT) | (1 << SYN_RECV) | (1 << NEW_SYN_RECV));

    /// Every state in which a TCP socket has a peer.
    pub const WITH_PEER: u32 = ((1 << (NEW_SYN_RECV + 1)) - 2) & !(1 << CLOSE) & !(1 << LISTEN);
}

/// Which sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// One socket as it was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sock {
    /// The listing it is in; mapped IPv4 is in that of IPv6.
    pub family: Family,
    /// Its protocol.
    pub protocol: Protocol,
    /// One of [`state`].
    pub state: u8,
    /// Our address, unmapped.
    pub local: Addr,
    /// Our port.
    pub local_port: u16,
    /// The peer's address, unmapped.
    pub remote: Addr,
    /// The peer's port.
    pub remote_port: u16,
    /// Who made it.
    pub uid: u32,
    /// What `/proc/PID/fd` shows as `socket:[inode]`; 0 where no process holds it.
    pub inode: u32,
    /// The control group (version 2) of whoever made it: the inode of its folder. `None` before Linux 5.9, and of what waits for late packets.
    pub cgroup: Option<u64>,
    id: [u8; SOCKID],
}

impl Sock {
    /// Reads one message of a listing; `None` for anything else.
    pub fn parse(message: &Message<'_>, protocol: Protocol) -> Option<Self> {
        if message.kind != BY_FAMILY {
            return None;
        }
        let bytes: &[u8; ANSWER] = message.payload.first_chunk()?;
        let id: &[u8; SOCKID] = bytes[4..].first_chunk()?;
        let (family, len) = match i32::from(bytes[0]) {
            libc::AF_INET => (Family::V4, 4),
            libc::AF_INET6 => (Family::V6, 16),
            _ => return None,
        };
        let u32_at = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(Self {
            family,
            protocol,
            state: bytes[1],
            local_port: u16::from_be_bytes([id[0], id[1]]),
            remote_port: u16::from_be_bytes([id[2], id[3]]),
            local: Addr::from_octets(&id[4..4 + len])?,
            remote: Addr::from_octets(&id[20..20 + len])?,
            uid: u32_at(4 + SOCKID + 12),
            inode: u32_at(4 + SOCKID + 16),
            cgroup: message.attrs(ANSWER).find(CGROUP_ID).and_then(|attr| Some(u64::from_ne_bytes(attr.payload.try_into().ok()?))),
            id: *id,
        })
    }

    /// Whether it has a peer whose connection could be ended. A listening socket has none.
    pub fn has_peer(&self) -> bool {
        self.remote_port != 0 && self.state < 32 && state::WITH_PEER & (1 << self.state) != 0
    }
}

fn request(family: Family, protocol: Protocol, states: u32, id: &[u8; SOCKID]) -> [u8; 8 + SOCKID] {
    let mut bytes = [0; 8 + SOCKID];
    bytes[0] = family_byte(Some(family));
    bytes[1] = protocol.number();
    bytes[4..8].copy_from_slice(&states.to_ne_bytes());
    bytes[8..].copy_from_slice(id);
    bytes
}

/// How often a listing that changed under our hands is read again before it is taken as it is.
const REPEATS: usize = 3;

/// Lists the sockets of a family and protocol that are in one of `states` (bits `1 << state`) and
/// that `keep` wants. `ENOENT` says that the kernel has no such family, or no module to list the protocol.
pub fn list(
    socket: &mut Socket,
    family: Family,
    protocol: Protocol,
    states: u32,
    mut keep: impl FnMut(&Sock) -> bool,
) -> io::Result<Vec<Sock>> {
    let mut found = Vec::new();
    for _ in 0..REPEATS {
        found.clear();
        let seq = socket.next_seq();
        let mut ask = Builder::new();
        ask.message(BY_FAMILY, flag::REQUEST | flag::DUMP, seq, &request(family, protocol, states, &[0; SOCKID]));
        let interrupted = socket.dump(ask.bytes(), seq, |message| {
            found.extend(Sock::parse(&message, protocol).filter(&mut keep));
            Next::More
        })?;
        if !interrupted {
            break;
        }
    }
    Ok(found)
}

/// Hands the first `most` sockets of a family and protocol that are in one of `states` to `take`, in the order of the
/// kernel's hash tables. How many were handed over, and whether there are more: then, as after an error, the socket is of no
/// use any more but to be dropped. Errors as of [`list`].
pub fn first(
    socket: &mut Socket,
    family: Family,
    protocol: Protocol,
    states: u32,
    most: usize,
    mut take: impl FnMut(&Sock),
) -> io::Result<(usize, bool)> {
    let (mut count, mut cut) = (0, false);
    let seq = socket.next_seq();
    let mut ask = Builder::new();
    ask.message(BY_FAMILY, flag::REQUEST | flag::DUMP, seq, &request(family, protocol, states, &[0; SOCKID]));
    socket.dump(ask.bytes(), seq, |message| {
        if count >= most {
            cut = true;
            return Next::Leave;
        }
        count += 1;
        if let Some(sock) = Sock::parse(&message, protocol) {
            take(&sock);
        }
        Next::More
    })?;
    Ok((count, cut))
}

/// Ends the sockets: their processes get `ECONNABORTED`, TCP peers a reset. Each is named by its
/// cookie, so a newer socket of the same addresses is left alone. One without a peer (a listening
/// one above all) is passed over. `ended` gets each outcome as errno, 0 for success.
pub fn destroy(socket: &mut Socket, socks: &[Sock], mut ended: impl FnMut(&Sock, i32)) -> io::Result<()> {
    let mut pipeline = Pipeline::new(socket);
    let mut waiting = Vec::new();
    let mut flush = |pipeline: &mut Pipeline<'_>, waiting: &mut Vec<&Sock>| {
        let mut order = waiting.drain(..);
        pipeline.flush(|errno| {
            if let Some(sock) = order.next() {
                ended(sock, errno);
            }
        })
    };
    for sock in socks.iter().filter(|sock| sock.has_peer()) {
        pipeline.push(DESTROY, &request(sock.family, sock.protocol, u32::MAX, &sock.id));
        waiting.push(sock);
        if pipeline.full() {
            flush(&mut pipeline, &mut waiting)?;
        }
    }
    flush(&mut pipeline, &mut waiting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::wire::Messages;
    use proptest::prelude::*;

    fn answer(family: u8, state: u8, local: [u8; 16], remote: [u8; 16]) -> Builder {
        let mut bytes = [0; ANSWER];
        bytes[0] = family;
        bytes[1] = state;
        bytes[4..8].copy_from_slice(&[0, 22, 0x12, 0x34]);
        bytes[8..24].copy_from_slice(&local);
        bytes[24..40].copy_from_slice(&remote);
        bytes[64..68].copy_from_slice(&33u32.to_ne_bytes());
        bytes[68..72].copy_from_slice(&44u32.to_ne_bytes());
        let mut b = Builder::new();
        b.message(BY_FAMILY, 0, 1, &bytes);
        b
    }

    #[test]
    fn a_mapped_peer_is_the_ipv4_peer_in_the_ipv6_listing() {
        let mapped = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, last];
        let mut built = answer(10, state::ESTABLISHED, mapped(1), mapped(2));
        built.attr(CGROUP_ID, &4242u64.to_ne_bytes());
        let sock = Sock::parse(&Messages(built.bytes()).next().unwrap(), Protocol::Tcp).unwrap();
        assert_eq!((sock.family, sock.local, sock.remote), (Family::V6, "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()));
        assert_eq!((sock.local_port, sock.remote_port, sock.uid, sock.inode), (22, 0x1234, 33, 44));
        assert!(sock.has_peer());
        assert_eq!(sock.cgroup, Some(4242));
    }

    #[test]
    fn listening_and_closed_sockets_have_no_peer() {
        assert_eq!(state::WITH_PEER, 0b1_1011_0111_1110);
        assert_eq!(!state::HELD, 0b1_0000_0100_1000);
        for without in [state::LISTEN, state::CLOSE, 0, 77] {
            let built = answer(2, without, [1; 16], [2; 16]);
            assert!(!Sock::parse(&Messages(built.bytes()).next().unwrap(), Protocol::Tcp).unwrap().has_peer());
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut b = Builder::new();
            b.message(BY_FAMILY, 0, 1, &bytes);
            for message in Messages(b.bytes()) {
                let _ = Sock::parse(&message, Protocol::Udp).map(|sock| sock.has_peer());
            }
        }
    }
}
