//! The neighbour table over rtnetlink.
//!
//! ```text
//!  28 RTM_NEWNEIGH 30 RTM_GETNEIGH   ndmsg      u8 family  u8 pad  u16 pad  i32 link  u16 state  u8 flags  u8 type
//!       1 NDA_DST   2 NDA_LLADDR
//!  16 RTM_NEWLINK 18 RTM_GETLINK     ifinfomsg  u8 family  u8 pad  u16 type  i32 link  u32 flags  u32 change
//!       3 IFLA_IFNAME
//! ```
//! Source: rtnetlink(7), linux/neighbour.h.

use std::io;

use palisade_core::flood::leases::mac;
use palisade_core::flood::owner::printable;
use palisade_core::net::Addr;

use crate::netlink::family_byte;
use crate::netlink::socket::{Next, ROUTE, Socket};
use crate::netlink::wire::{Builder, Message, flag};

const NEWNEIGH: u16 = 28;
const GETNEIGH: u16 = 30;
const GETLINK: u16 = 18;
const NDMSG: usize = 12;
const IFINFOMSG: usize = 16;
const DST: u16 = 1;
const LLADDR: u16 = 2;
const IFNAME: u16 = 3;
/// `IFNAMSIZ` without its end.
const NAME: usize = 15;
/// `MAX_ADDR_LEN`.
const LONGEST: usize = 32;

/// How often a listing that changed under our hands is read again before it is taken as it is.
const REPEATS: usize = 3;

/// Bits of a neighbour's state (`NUD_*`), best proof first: it answered just now, it was set by hand, its answer gets old.
const PROOFS: [u16; 5] = [REACHABLE, DELAY, PROBE, PERMANENT, STALE];
const REACHABLE: u16 = 0x02;
const STALE: u16 = 0x04;
const DELAY: u16 = 0x08;
const PROBE: u16 = 0x10;
const PERMANENT: u16 = 0x80;

/// Whose address it is on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// `52:54:00:12:34:56`.
    pub(super) mac: String,
    /// The interface; `None` where it has just gone.
    pub(super) interface: Option<String>,
}

/// The neighbour of this address, of several links the one with the best proof.
pub(super) fn of(addr: Addr) -> io::Result<Option<Neighbour>> {
    let mut socket = Socket::open(ROUTE)?;
    let mut head = [0; NDMSG];
    head[0] = family_byte(Some(addr.family()));
    let mut best: Option<(usize, u32, String)> = None;
    for _ in 0..REPEATS {
        let seq = socket.next_seq();
        let mut request = Builder::new();
        request.message(GETNEIGH, flag::REQUEST | flag::DUMP, seq, &head);
        let interrupted = socket.dump(request.bytes(), seq, |message| {
            if let Some(found) = entry(&message, addr)
                && best.as_ref().is_none_or(|best| found.0 < best.0)
            {
                best = Some(found);
            }
            Next::More
        });
        match interrupted {
            Ok(true) => {}
            Ok(false) => break,
            // A kernel without IPv6 has no such neighbours.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(best.map(|(_, link, mac)| Neighbour { mac, interface: interface(&mut socket, link) }))
}

/// How well proven the neighbour of one message is, its link and its address there; `None` for any other, and for one that nobody answers for.
fn entry(message: &Message<'_>, addr: Addr) -> Option<(usize, u32, String)> {
    if message.kind != NEWNEIGH {
        return None;
    }
    let head: &[u8; NDMSG] = message.payload.first_chunk()?;
    let link = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
    let state = u16::from_ne_bytes([head[8], head[9]]);
    let proof = PROOFS.iter().position(|proof| state & proof != 0)?;
    let attrs = message.attrs(NDMSG);
    if Addr::from_octets(attrs.find(DST)?.payload)? != addr {
        return None;
    }
    let there = attrs.find(LLADDR)?.payload;
    Some((proof, link, mac(there.get(..there.len().min(LONGEST))?)?))
}

fn interface(socket: &mut Socket, link: u32) -> Option<String> {
    let seq = socket.next_seq();
    let mut head = [0; IFINFOMSG];
    head[4..8].copy_from_slice(&link.to_ne_bytes());
    let mut request = Builder::new();
    request.message(GETLINK, flag::REQUEST | flag::ACK, seq, &head);
    let mut name = None;
    let answered = socket.request(request.bytes(), seq, |message| {
        name = message.attrs(IFINFOMSG).find(IFNAME).and_then(|attr| attr.str()).map(|text| printable(text, NAME));
    });
    answered.ok().and(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::wire::Messages;

    fn message(state: u16, addr: &[u8], there: &[u8]) -> Builder {
        let [low, high] = state.to_ne_bytes();
        let [a, b, c, d] = 7u32.to_ne_bytes();
        let mut built = Builder::new();
        built.message(NEWNEIGH, 0, 1, &[2, 0, 0, 0, a, b, c, d, low, high, 0, 1]).attr(DST, addr).attr(LLADDR, there);
        built
    }

    fn read(built: &Builder) -> Option<(usize, u32, String)> {
        entry(&Messages(built.bytes()).next().unwrap(), "192.0.2.7".parse().unwrap())
    }

    #[test]
    fn only_who_answers_is_a_neighbour() {
        let (addr, there) = ([192, 0, 2, 7], [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(read(&message(REACHABLE, &addr, &there)), Some((0, 7, "52:54:00:12:34:56".to_owned())));
        assert!(read(&message(STALE, &addr, &there)) > read(&message(REACHABLE, &addr, &there)));
        // NUD_INCOMPLETE, FAILED, NOARP, NONE.
        for state in [0x01, 0x20, 0x40, 0] {
            assert_eq!(read(&message(state, &addr, &there)), None, "{state}");
        }
        assert_eq!(read(&message(REACHABLE, &[192, 0, 2, 8], &there)), None);
        assert_eq!(read(&message(REACHABLE, &addr, &[0; 6])), None);
    }

    proptest! {
        #[test]
        fn reading_is_total(state in any::<u16>(), addr in proptest::collection::vec(any::<u8>(), 0..20), there in proptest::collection::vec(any::<u8>(), 0..64), cut in 0usize..80) {
            let built = message(state, &addr, &there);
            let mut bytes = built.bytes().to_vec();
            bytes.truncate(bytes.len().saturating_sub(cut));
            for message in Messages(&bytes) {
                let _ = entry(&message, "192.0.2.7".parse().unwrap());
            }
            let _ = read(&built);
        }
    }
}
