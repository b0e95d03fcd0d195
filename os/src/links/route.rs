//! Addresses and default routes over rtnetlink.
//!
//! ```text
//!  20 RTM_NEWADDR 21 DELADDR 22 GETADDR    ifaddrmsg  u8 family  u8 prefixlen  u8 flags  u8 scope  u32 link
//!       1 IFA_ADDRESS (of a point-to-point link the *peer's*)   2 IFA_LOCAL
//!  24 RTM_NEWROUTE 25 DELROUTE 26 GETROUTE rtmsg      u8 family  u8 dst_len  u8 src_len  u8 tos  u8 table  u8 protocol  u8 scope  u8 type  u32 flags
//!       5 RTA_GATEWAY   9 RTA_MULTIPATH: rtnexthop*   18 RTA_VIA: u16 family, address
//!       rtnexthop  u16 length (with its attributes)  u8 flags  u8 hops  i32 link  attributes as above
//! ```
//! Source: rtnetlink(7), linux/rtnetlink.h, linux/if_addr.h.

use std::collections::BTreeSet;
use std::io;

use palisade_core::net::{Addr, Family};

use crate::netlink::family_byte;
use crate::netlink::socket::{Next, Socket};
use crate::netlink::wire::{Attrs, Builder, Message, flag};

/// What [`super::Links`] listens to: `RTNLGRP_LINK`, `IPV4_IFADDR`, `IPV4_ROUTE`, `IPV6_IFADDR`, `IPV6_ROUTE`.
pub(super) const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];

const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const GETROUTE: u16 = 26;
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;
const RTNEXTHOP: usize = 8;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
/// `RTN_UNICAST`.
const UNICAST: u8 = 1;

/// How often a listing that changed under our hands is read again before it is taken as it is.
const REPEATS: usize = 3;

/// How many waiting datagrams [`drain`] reads at most; on a router with a full table in turmoil
/// there is always one more, and the descriptor stays readable.
const MOST_DATAGRAMS: usize = 4096;

fn list(socket: &mut Socket, kind: u16, head: &[u8], mut take: impl FnMut(Message<'_>)) -> io::Result<()> {
    for _ in 0..REPEATS {
        let seq = socket.next_seq();
        let mut request = Builder::new();
        request.message(kind, flag::REQUEST | flag::DUMP, seq, head);
        let interrupted = socket.dump(request.bytes(), seq, |message| {
            take(message);
            Next::More
        })?;
        if !interrupted {
            break;
        }
    }
    Ok(())
}

/// The addresses of all interfaces.
pub(crate) fn addresses(socket: &mut Socket) -> io::Result<BTreeSet<Addr>> {
    let mut own = BTreeSet::new();
    list(socket, GETADDR, &[0; IFADDRMSG], |message| own.extend(own_address(&message)))?;
    Ok(own)
}

fn own_address(message: &Message<'_>) -> Option<Addr> {
    if message.kind != NEWADDR {
        return None;
    }
    let attrs = message.attrs(IFADDRMSG);
    Addr::from_octets(attrs.find(IFA_LOCAL).or_else(|| attrs.find(IFA_ADDRESS))?.payload)
}

/// The next hops of the default routes in all tables.
pub(super) fn gateways(socket: &mut Socket) -> io::Result<BTreeSet<Addr>> {
    let mut found = BTreeSet::new();
    for family in [Family::V4, Family::V6] {
        let mut head = [0; RTMSG];
        head[0] = family_byte(Some(family));
        let result = list(socket, GETROUTE, &head, |message| {
            if leads_out(&message) {
                next_hops(message.attrs(RTMSG), &mut found);
            }
        });
        match result {
            // A kernel without IPv6 has no such routes.
            Err(error) if family == Family::V6 && matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => {}
            other => other?,
        }
    }
    Ok(found)
}

/// Whether a message tells of a route that stands for "everything else": the default route, its two
/// halves 0.0.0.0/1 and 128.0.0.0/1 as VPN clients set them, or IPv6's global space 2000::/3.
fn leads_out(message: &Message<'_>) -> bool {
    let Some(head) = message.payload.first_chunk::<RTMSG>() else { return false };
    let most = if head[0] == family_byte(Some(Family::V4)) { 1 } else { 3 };
    matches!(message.kind, NEWROUTE | DELROUTE) && head[1] <= most && head[7] == UNICAST
}

fn next_hops(attrs: Attrs<'_>, found: &mut BTreeSet<Addr>) {
    for attr in attrs {
        match attr.kind {
            RTA_GATEWAY => found.extend(Addr::from_octets(attr.payload)),
            RTA_VIA => found.extend(attr.payload.get(2..).and_then(Addr::from_octets)),
            RTA_MULTIPATH => {
                let mut rest = attr.payload;
                while let Some(head) = rest.first_chunk::<RTNEXTHOP>() {
                    let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
                    let Some(hop) = rest.get(RTNEXTHOP..len) else { break };
                    for attr in Attrs(hop) {
                        match attr.kind {
                            RTA_GATEWAY => found.extend(Addr::from_octets(attr.payload)),
                            RTA_VIA => found.extend(attr.payload.get(2..).and_then(Addr::from_octets)),
                            _ => {}
                        }
                    }
                    rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
}

/// Reads what waits. Routes that do not lead out are no change: on a router they come in thousands.
pub(super) fn drain(watch: &mut Socket) -> io::Result<bool> {
    let mut changed = false;
    for _ in 0..MOST_DATAGRAMS {
        match watch.receive(false) {
            Ok(messages) => changed |= messages.into_iter().any(|m| !matches!(m.kind, NEWROUTE | DELROUTE) || leads_out(&m)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
            // Some were lost: any of them may have been a change.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::wire::Messages;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in prop_oneof![Just(NEWADDR), Just(NEWROUTE)], hop in any::<u8>()) {
            let mut b = Builder::new();
            b.message(kind, 0, 1, &[2, 0, 0, 0, 0, 0, 0, UNICAST, 0, 0, 0, 0]);
            b.attr(RTA_MULTIPATH, &[&[hop, 0, 0, 0, 0, 0, 0, 0], bytes.as_slice()].concat()).attr(RTA_VIA, &bytes);
            for message in Messages(b.bytes()) {
                let _ = (own_address(&message), leads_out(&message));
                next_hops(message.attrs(RTMSG), &mut BTreeSet::new());
            }
        }
    }
}
