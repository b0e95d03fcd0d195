//! What this kernel can do, found out by doing it.

use std::io;
use std::thread;
use std::time::Duration;

use palisade_core::net::Addr;
use palisade_core::ours::NFT_PROBE_TABLE;

use super::super::BlockError;
use super::layout::Kind;
use super::load::Manner;
use crate::netlink::nft::port::{Port, missing_is};
use crate::netlink::nft::{ANY_SIZE, Element, Set};

/// The set that is made and tried, in a table of its own: in the wall's, a daemon that stands beside takes it for
/// a stranger's and deletes it.
const SET: &str = "probe";

/// Two that look at once take the table from under each other, so whoever was not alone looks again, so often.
const TRIES: u32 = 20;

/// Where the rule set never stands still, so many looks must do: what they say is nearly always right, and the
/// slower way is never wrong.
const ENOUGH: u32 = 3;

/// How long one look takes at most, waited before the next.
const PAUSE: Duration = Duration::from_millis(10);

/// What was found out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) manner: Manner,
    /// Whether a set's size can be changed.
    pub(super) sized: bool,
}

/// Tries two things in a set of its own.
///
/// Whether adding an element that stands gives it the new end: since 6.12 it does (nf_tables: set
/// element timeout update support); before, the old end stays and no error tells.
///
/// Whether adding a set that stands gives it the new size: since 6.5 (nf_tables: permit update of
/// set size); before, the old one stays and no error tells.
pub(super) fn look() -> io::Result<Found> {
    let mut port = Port::open(NFT_PROBE_TABLE)?;
    let mut tried = 0;
    loop {
        tried += 1;
        let (before, commits) = (port.generation()?, port.commits());
        let found = once(&mut port);
        // Each change of the rule set counts the generation up by one.
        let alone = port.generation()?.wrapping_sub(before) == port.commits().wrapping_sub(commits);
        if alone || tried == TRIES || (found.is_ok() && tried >= ENOUGH) {
            return found;
        }
        thread::sleep(PAUSE);
    }
}

fn once(port: &mut Port) -> io::Result<Found> {
    let set = Set { name: SET.to_owned(), size: Some(2), ..Kind::parse("ban4_32").expect("a name of ours").0.set(1, true) };
    let keys = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|text| text.parse::<Addr>().expect("an address").octets());
    let element = |key, timeout| Element { key, timeout, restart: true };
    port.begin()
        .add_table()
        .delete_table()
        .add_table()
        .add_set(&set)
        .add_elements(SET, [element(&*keys[0], Some(5_000)), element(&*keys[1], None)].into_iter());
    port.commit()?;
    port.begin().add_elements(SET, keys.iter().take(2).map(|key| element(&**key, Some(300_000))));
    port.commit()?;
    let mut updated = 0;
    let asked = [(0, SET, &*keys[0]), (1, SET, &*keys[1])];
    port.elements(&asked, |_, element| updated += usize::from(element.left.is_some_and(|left| left > 100_000)))?;
    let sized = larger(port, &set, &keys[2]);
    port.begin().delete_table();
    missing_is(port.commit(), ())?;
    Ok(Found { manner: if updated == asked.len() { Manner::Update } else { Manner::Exchange }, sized })
}

/// Whether a full set takes one more element once it is said to be larger.
fn larger(port: &mut Port, set: &Set, key: &[u8]) -> bool {
    port.begin().add_set(&Set { size: Some(ANY_SIZE), ..set.clone() });
    let said = port.commit();
    port.begin().add_elements(SET, [Element::bare(key)].into_iter());
    said.and_then(|()| port.commit()).is_ok()
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
