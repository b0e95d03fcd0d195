//! Netlink: one codec ([`wire`]), one socket ([`socket`]), and a file for each family on top.

pub mod nft;
pub mod socket;
pub mod wire;
