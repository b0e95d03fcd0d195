//! Netlink: one codec ([`wire`]), one socket ([`socket`]), and a file for each family on top.

pub mod conntrack;
pub mod nft;
pub mod pipeline;
pub mod sock_diag;
pub mod socket;
pub mod wire;

use palisade_core::net::Family;

/// The families, in the order in which they are listed.
pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The address family as the headers of all netlink families have it; 0 for any.
pub(crate) const fn family_byte(family: Option<Family>) -> u8 {
    // AF_INET and AF_INET6 of Linux; asserted below against libc.
    match family {
        None => 0,
        Some(Family::V4) => 2,
        Some(Family::V6) => 10,
    }
}

const _: () = assert!(libc::AF_INET == 2 && libc::AF_INET6 == 10);
