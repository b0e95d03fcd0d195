//! One message of the blocklistd protocol, in the machine's own byte order.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the whole message |
//! | 4 | 4 | version: 1 |
//! | 8 | 4 | kind: see [`Kind`] |
//! | 12 | 4 | length of the address that follows: 0, 16 (IPv4) or 28 (IPv6) |
//! | 16 | 128 | `struct sockaddr_storage`; its first bytes are the address |
//! | 144 | 0 to 128 | text, without an end mark |
//!
//! Source: blocklist, `lib/bl.c` (`bl_message_t`, `bl_send`) and `include/bl.h` (`bl_type_t`).
//! The address, ip(7) and ipv6(7): family (2 bytes; on FreeBSD length and family, 1 each), port (2,
//! network order), then IPv4: 4 bytes; IPv6: flow (4), 16 bytes, scope (4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What somebody did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 1: failed to log in.
    Failure,
    /// 2: logged in.
    Success,
    /// 3: did what nobody honest does.
    Abuse,
    /// 4: tried a user that there is not.
    BadUser,
}

/// A message, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    pub(super) named: Option<SocketAddr>,
    pub(super) text: &'a [u8],
}

const VERSION: u32 = 1;
const ADDRESS: usize = 16;
const TEXT: usize = 144;

/// Takes a message apart.
pub(super) fn read(bytes: &[u8]) -> Result<Message<'_>, &'static str> {
    let text = bytes.get(TEXT..).ok_or("it is too short")?;
    let word = |at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes);
    if usize::try_from(word(0)) != Ok(bytes.len()) {
        return Err("its length is not the one it says");
    }
    if word(4) != VERSION {
        return Err("it is of another version of the protocol");
    }
    let kind = match word(8) {
        1 => Kind::Failure,
        2 => Kind::Success,
        3 => Kind::Abuse,
        4 => Kind::BadUser,
        _ => return Err("its kind is unknown"),
    };
    let storage = bytes.get(ADDRESS..TEXT).unwrap_or_default();
    let named = match word(12) {
        0 => None,
        16 => Some(IpAddr::V4(Ipv4Addr::from(part::<4>(storage, 4)))),
        28 => Some(IpAddr::V6(Ipv6Addr::from(part::<16>(storage, 8)))),
        _ => return Err("its address is of no known length"),
    };
    let port = u16::from_be_bytes(part::<2>(storage, 2));
    Ok(Message { kind, named: named.map(|ip| SocketAddr::new(ip, port)), text })
}

fn part<const N: usize>(storage: &[u8], at: usize) -> [u8; N] {
    storage.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

/// Writes a message, as libblocklist does.
#[cfg(test)]
pub(super) fn message(kind: u32, named: Option<SocketAddr>, text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0u8; TEXT];
    bytes.extend_from_slice(text);
    let length = u32::try_from(bytes.len()).unwrap();
    let salen: u32 = named.map_or(0, |addr| if addr.is_ipv4() { 16 } else { 28 });
    for (at, word) in [length, VERSION, kind, salen].into_iter().enumerate() {
        bytes[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    if let Some(addr) = named {
        bytes[18..20].copy_from_slice(&addr.port().to_be_bytes());
        match addr.ip() {
            IpAddr::V4(ip) => bytes[20..24].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes[24..40].copy_from_slice(&ip.octets()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind_and_family_is_read() {
        for (number, kind) in [(1, Kind::Failure), (2, Kind::Success), (3, Kind::Abuse), (4, Kind::BadUser)] {
            for named in [None, Some("192.0.2.7:50022".parse().unwrap()), Some("[2001:db8::7]:53".parse().unwrap())] {
                let bytes = message(number, named, b"ssh");
                assert_eq!(read(&bytes), Ok(Message { kind, named, text: b"ssh" }));
            }
        }
    }

    #[test]
    fn what_is_not_of_the_protocol_is_refused() {
        let good = message(1, None, b"");
        assert!(read(&good[..TEXT - 1]).is_err() && read(b"").is_err());
        for (at, value) in [(0, 143u32), (0, 145), (4, 2), (8, 0), (8, 5), (12, 17)] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            assert!(read(&bad).is_err(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn total_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
