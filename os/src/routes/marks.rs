//! Connection marks and leak counters: one nftables table of ours, by netlink, nobody else's touched.
//!
//! What it holds stands in `marks/layout.rs`; here it is put up, compared, read and taken away. Every function works in
//! the calling thread's network namespace.

mod layout;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;

use palisade_core::ours::NFT_ROUTE_TABLE;
use palisade_core::route::wanted::Marks;

use self::layout::{Layout, uplink_of};
use crate::netlink::nft::{Held, whole};

/// What left by another uplink than its source's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leak {
    /// So many packets.
    pub packets: u64,
    /// Of so many bytes.
    pub bytes: u64,
}

/// Makes the table stand as wanted, in one transaction; `None` takes it away. Counters of uplinks that stay go on
/// counting, and where everything stands already nothing is written.
///
/// # Errors
/// `InvalidInput` for what cannot be a table, `Unsupported` for a kernel without nf_tables, `PermissionDenied`
/// without CAP_NET_ADMIN, else what the kernel said.
pub fn set(wanted: Option<&Marks>) -> io::Result<()> {
    let layout = wanted.map(Layout::of).transpose()?;
    whole::set(NFT_ROUTE_TABLE, layout.map(Layout::whole).as_ref()).or_else(|error| absent_is((), wanted.is_none(), error))
}

/// Whether the table stands exactly as wanted, nothing missing, changed or added; for `None`, whether there is none.
///
/// # Errors
/// As of [`set`].
pub fn stands(wanted: Option<&Marks>) -> io::Result<bool> {
    let layout = wanted.map(Layout::of).transpose()?;
    whole::stands(NFT_ROUTE_TABLE, layout.map(Layout::whole).as_ref()).or_else(|error| absent_is(true, wanted.is_none(), error))
}

/// What leaked since the table was put up, by uplink. Empty without the table.
///
/// # Errors
/// As of [`set`].
pub fn leaks() -> io::Result<BTreeMap<String, Leak>> {
    let objects = whole::objects(NFT_ROUTE_TABLE).or_else(|error| absent_is(Vec::new(), true, error))?;
    Ok(objects
        .into_iter()
        .filter_map(|object| {
            let Held::Counter { packets, bytes } = object.held else { return None };
            Some((uplink_of(&object.name)?.to_owned(), Leak { packets, bytes }))
        })
        .collect())
}

/// The answer where the kernel knows no nf_tables and `nothing` is wanted of it; else the error, with what to do.
fn absent_is<T>(answer: T, nothing: bool, error: io::Error) -> io::Result<T> {
    let Some(errno) = error.raw_os_error() else { return Err(error) };
    let table = format!("table inet {NFT_ROUTE_TABLE}");
    Err(match errno {
        libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL | libc::ECONNREFUSED if nothing => return Ok(answer),
        libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL | libc::ECONNREFUSED | libc::ENOENT => io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "{table}: this kernel has no nf_tables with inet tables, connection marks and counters ({error}); \
                 load them with `modprobe -a nf_tables nft_ct`, or declare uplinks without guard and policies without sticky = \"connection\""
            ),
        ),
        libc::EPERM | libc::EACCES => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{table}: not permitted to change the firewall ({error}); run as root or give the process CAP_NET_ADMIN"),
        ),
        _ => io::Error::new(error.kind(), format!("{table}: {error}")),
    })
}
