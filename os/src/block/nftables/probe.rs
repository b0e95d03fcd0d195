//! What this kernel can do, found out by doing it.

use std::io;

use palisade_core::net::Addr;

use super::super::BlockError;
use super::layout::Kind;
use super::load::Manner;
use super::port::{Port, missing_is};
use crate::netlink::nft::{Element, Set};

/// The set that is made, tried and deleted. No name of a kind of ours, so that one left by a crash
/// is a stranger that the next rebuild deletes.
const SET: &str = "probe";

/// Whether adding an element that stands gives it the new end. Since 6.12 it does (nf_tables: set
/// element timeout update support); before, the old end stays and no error tells.
pub(super) fn manner(port: &mut Port) -> io::Result<Manner> {
    let stood = port.table()?.is_some();
    let set = Set { name: SET.to_owned(), ..Kind::parse("ban4_32").expect("a name of ours").0.set(1, true) };
    let keys = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<Addr>().expect("an address").octets());
    let element = |key, timeout| Element { key, timeout, restart: true };
    port.begin()
        .add_table()
        .add_set(&set)
        .delete_set(SET)
        .add_set(&set)
        .add_elements(SET, [element(keys[0], Some(5_000)), element(keys[1], None)].into_iter());
    port.commit()?;
    port.begin().add_elements(SET, keys.into_iter().map(|key| element(key, Some(300_000))));
    port.commit()?;
    let mut updated = 0;
    let asked = [(0, SET, &*keys[0]), (1, SET, &*keys[1])];
    port.elements(&asked, |_, element| updated += usize::from(element.left.is_some_and(|left| left > 100_000)))?;
    if stood {
        port.begin().delete_set(SET);
    } else {
        port.begin().delete_table();
    }
    missing_is(port.commit(), ())?;
    Ok(if updated == keys.len() { Manner::Update } else { Manner::Exchange })
}

/// Why nftables cannot be used here, in one line, and what to do.
pub(super) fn unusable(error: io::Error) -> BlockError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => BlockError::Unusable {
            what: format!("nftables: not permitted to change the firewall ({error})"),
            hint: "run as root or give the process CAP_NET_ADMIN".to_owned(),
        },
        Some(
            libc::EPROTONOSUPPORT
            | libc::EAFNOSUPPORT
            | libc::EOPNOTSUPP
            | libc::ESOCKTNOSUPPORT
            | libc::EINVAL
            | libc::ENOENT
            | libc::ECONNREFUSED,
        ) => BlockError::Unusable {
            what: format!("nftables: this kernel has no nf_tables with inet tables ({error})"),
            hint: "load it with `modprobe nf_tables`, or choose another backend in [ban]".to_owned(),
        },
        _ => BlockError::Kernel { what: "nftables: opening it".to_owned(), source: error },
    }
}
