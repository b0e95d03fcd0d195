//! FreeBSD's routing messages (route(4)), native byte order. `u_long` is a word: 8 bytes, or 4 on 32-bit systems.
//!
//! ```text
//!    0  u16 length   2  u8 version, 5   3  u8 type                 of every message
//!    8  i32 flags   12  i32 which addresses follow                  of a route, whose head has 152 bytes (92)
//!  types  1 RTM_ADD 2 DELETE 3 CHANGE 4 GET (in a dump)   12 NEWADDR 13 DELADDR 14 IFINFO 17 IFANNOUNCE
//!  flags  0x1 RTF_UP 0x2 GATEWAY 0x4 HOST 0x8 REJECT 0x1000 BLACKHOLE
//!  addresses, each where its bit is set, in this order: 0x1 destination 0x2 gateway 0x4 mask, others
//!    0  u8 length    1  u8 family: 2 INET (address at 4), 28 INET6 (at 8)   rounded up to words; length 0: one word
//! ```
//! Source: FreeBSD's net/route.h (`struct rt_msghdr`, `SA_SIZE`), netinet/in.h, netinet6/in6.h.

use std::collections::BTreeSet;

use palisade_core::net::Addr;

const VERSION: u8 = 5;
const ADD: u8 = 1;
const DELETE: u8 = 2;
const CHANGE: u8 = 3;
const GET: u8 = 4;
const NEWADDR: u8 = 12;
const DELADDR: u8 = 13;
const IFINFO: u8 = 14;
const IFANNOUNCE: u8 = 17;

const GATEWAY: u32 = 0x2;
const HOST: u32 = 0x4;
/// Routes that lead nowhere.
const REJECT: u32 = 0x8 | 0x1000;

const WORD: usize = size_of::<usize>();
/// 32 bytes, a word, and `struct rt_metrics` of 14 words.
const ROUTE: usize = 32 + 15 * WORD;
/// Kinds of address that may follow (`RTAX_MAX`).
const KINDS: usize = 8;

const INET: u8 = 2;
const INET6: u8 = 28;

/// A message: its type and all of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    kind: u8,
    bytes: &'a [u8],
}

/// The messages in `bytes`. Ends at anything cut short or of another version.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let (version, kind) = (head[2], head[3]);
        let (message, rest) = bytes.split_at_checked(len).filter(|_| len >= 4 && version == VERSION)?;
        bytes = rest;
        Some(Message { kind, bytes: message })
    })
}

/// The next hops of the routes in a dump that stand for "everything else".
pub(super) fn gateways(dump: &[u8]) -> BTreeSet<Addr> {
    messages(dump).filter_map(Route::of).filter(Route::leads_out).filter_map(|route| route.gateway).collect()
}

/// Whether own addresses or routes that lead out may be others after this.
pub(super) fn may_change(message: Message<'_>) -> bool {
    match message.kind {
        NEWADDR | DELADDR | IFINFO | IFANNOUNCE => true,
        // On a router the others come in thousands.
        ADD | DELETE | CHANGE => Route::of(message).is_some_and(|route| route.leads_out()),
        _ => false,
    }
}

/// What matters of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    /// The prefix length; `None` for a host.
    len: Option<u32>,
    v6: bool,
    gateway: Option<Addr>,
}

impl Route {
    /// `None` for anything that is no route by way of a gateway, or leads nowhere.
    fn of(message: Message<'_>) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(*message.bytes.get(at..)?.first_chunk()?));
        let (flags, which) = (word(8)?, word(12)?);
        if !matches!(message.kind, ADD | DELETE | CHANGE | GET) || flags & GATEWAY == 0 || flags & REJECT != 0 {
            return None;
        }
        let mut rest = message.bytes.get(ROUTE..)?;
        let mut found: [&[u8]; KINDS] = [&[]; KINDS];
        for (_, place) in found.iter_mut().enumerate().filter(|(kind, _)| which & (1 << kind) != 0) {
            let len = usize::from(*rest.first()?);
            *place = rest.get(..len)?;
            rest = rest.get(len.max(1).next_multiple_of(WORD)..).unwrap_or_default();
        }
        let [destination, gateway, mask, ..] = found;
        let v6 = match *destination.get(1)? {
            INET => false,
            INET6 => true,
            _ => return None,
        };
        Some(Self { len: (flags & HOST == 0).then(|| ones(mask, v6)), v6, gateway: address(gateway) })
    }

    /// The default route, its two halves 0.0.0.0/1 and 128.0.0.0/1 as VPN clients set them, or IPv6's global
    /// space 2000::/3.
    fn leads_out(&self) -> bool {
        self.len.is_some_and(|len| len <= if self.v6 { 3 } else { 1 })
    }
}

/// The length of a mask, of which trailing zeros may be missing, and of the default route's all.
fn ones(mask: &[u8], v6: bool) -> u32 {
    let bytes = mask.get(if v6 { 8 } else { 4 }..).unwrap_or_default();
    let mut len = 0;
    for byte in bytes.iter().take(if v6 { 16 } else { 4 }) {
        len += byte.leading_ones();
        if *byte != 0xff {
            break;
        }
    }
    len
}

/// The address in a `sockaddr`. In a link-local one the kernel may keep the link's number in bytes 2 and 3
/// (KAME); it is dropped, as prefixes have none.
pub(super) fn address(sockaddr: &[u8]) -> Option<Addr> {
    match *sockaddr.get(1)? {
        INET => Addr::from_octets(sockaddr.get(4..8)?),
        INET6 => {
            let mut octets: [u8; 16] = *sockaddr.get(8..)?.first_chunk()?;
            if octets[0] == 0xfe && octets[1] & 0xc0 == 0x80 {
                octets[2..4].fill(0);
            }
            Addr::from_octets(&octets)
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A `sockaddr_in` or `sockaddr_in6`.
    pub(in super::super) fn sockaddr(addr: &str, port: u16) -> Vec<u8> {
        let addr: std::net::IpAddr = addr.parse().unwrap();
        let mut bytes = vec![16, INET];
        bytes.extend(port.to_be_bytes());
        match addr {
            std::net::IpAddr::V4(v4) => bytes.extend([&v4.octets()[..], &[0; 8]].concat()),
            std::net::IpAddr::V6(v6) => {
                bytes[..2].copy_from_slice(&[28, INET6]);
                bytes.extend([&[0; 4][..], &v6.octets(), &[0; 4]].concat());
            }
        }
        bytes
    }

    fn message(kind: u8, flags: u32, addresses: &[(usize, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0; ROUTE];
        let mut which = 0u32;
        for (at, address) in addresses {
            which |= 1 << at;
            let mut address = address.clone();
            address.resize(address.len().max(1).next_multiple_of(WORD), 0);
            bytes.extend(address);
        }
        let len = u16::try_from(bytes.len()).unwrap();
        bytes[..2].copy_from_slice(&len.to_ne_bytes());
        (bytes[2], bytes[3]) = (VERSION, kind);
        bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
        bytes[12..16].copy_from_slice(&which.to_ne_bytes());
        bytes
    }

    /// `UP`, `GATEWAY`, `STATIC`.
    const USUAL: u32 = 0x803;

    fn route(kind: u8, to: &str, via: &str, mask: Vec<u8>) -> Vec<u8> {
        message(kind, USUAL, &[(0, sockaddr(to, 0)), (1, sockaddr(via, 0)), (2, mask)])
    }

    #[test]
    fn the_next_hops_of_what_leads_out() {
        // Masks as they come: none of the default route's is left, of others trailing zeros are missing.
        let short = |ones: &[u8], start: usize| [&[u8::try_from(start + ones.len()).unwrap()][..], &vec![0; start - 1], ones].concat();
        let dump = [
            route(GET, "0.0.0.0", "192.0.2.1", vec![0]),
            route(GET, "0.0.0.0", "192.0.2.2", sockaddr("0.0.0.0", 0)),
            route(GET, "128.0.0.0", "192.0.2.3", short(&[0x80], 4)),
            route(GET, "198.51.100.0", "192.0.2.4", sockaddr("255.255.255.0", 0)),
            route(GET, "10.0.0.0", "192.0.2.5", short(&[0xff], 4)),
            route(GET, "::", "fe80:3::1", vec![0]),
            route(GET, "2000::", "2001:db8::1", short(&[0xe0], 8)),
            route(GET, "2001:db8:1::", "2001:db8::2", sockaddr("ffff:ffff:ffff::", 0)),
            message(GET, USUAL | HOST, &[(0, sockaddr("0.0.0.0", 0)), (1, sockaddr("192.0.2.6", 0))]),
            message(GET, USUAL | REJECT, &[(0, sockaddr("0.0.0.0", 0)), (1, sockaddr("127.0.0.1", 0)), (2, vec![0])]),
            // By way of a link, whose address (family 18) is no gateway.
            message(GET, 1, &[(0, sockaddr("0.0.0.0", 0)), (1, vec![54, 18]), (2, vec![0])]),
        ]
        .concat();
        let found: Vec<String> = gateways(&dump).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "fe80::1"]);
    }

    #[test]
    fn only_what_may_change_the_surroundings_is_a_change() {
        let default = |kind| route(kind, "0.0.0.0", "192.0.2.1", vec![0]);
        let other = |kind| route(kind, "198.51.100.0", "192.0.2.1", sockaddr("255.255.255.0", 0));
        let changes = |bytes: Vec<u8>| messages(&bytes).any(may_change);
        for kind in [ADD, DELETE, CHANGE] {
            assert!(changes(default(kind)) && !changes(other(kind)), "{kind}");
        }
        assert!(!changes(default(7)), "a lookup that failed");
        for kind in [NEWADDR, DELADDR, IFINFO, IFANNOUNCE] {
            assert!(changes([&4u16.to_ne_bytes()[..], &[VERSION, kind]].concat()), "{kind}");
        }
        assert!(!changes([&4u16.to_ne_bytes()[..], &[9, NEWADDR]].concat()), "a version nobody knows");
    }

    #[test]
    fn a_cut_or_endless_list_ends() {
        let whole = route(GET, "0.0.0.0", "192.0.2.1", vec![0]);
        for len in 0..whole.len() {
            assert_eq!(gateways(&whole[..len]), BTreeSet::new(), "{len}");
        }
        let mut endless = whole;
        endless[..2].fill(0);
        assert_eq!(messages(&endless).count(), 0);
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..400), whole in any::<bool>(), which in any::<u32>()) {
            let mut bytes = bytes;
            if whole && bytes.len() > 16 {
                let len = u16::try_from(bytes.len()).unwrap();
                bytes[..2].copy_from_slice(&len.to_ne_bytes());
                (bytes[2], bytes[3]) = (VERSION, GET);
                bytes[8..12].copy_from_slice(&USUAL.to_ne_bytes());
                bytes[12..16].copy_from_slice(&which.to_ne_bytes());
            }
            prop_assert!(gateways(&bytes).len() <= bytes.len() / 4);
            let _ = (messages(&bytes).any(may_change), address(&bytes));
        }
    }
}
