//! Limits of culprits and timeouts of services: one nftables table of ours, by netlink, nobody else's touched.
//!
//! | file | what it holds |
//! |---|---|
//! | `layout` | what the table looks like; pure |
//! | `names` | what its objects are called, and whose they are by that |
//! | [`policy`] | timeouts by state, in the kernel's, nft's and the switches' words |
//!
//! Every function works in the calling thread's network namespace.

mod layout;
mod names;
pub mod policy;
#[cfg(test)]
mod tests;

use std::io;

use palisade_core::flood::timeouts::Timeouts;
use palisade_core::flood::wanted::{Culprit, Wanted};
use palisade_core::ours::NFT_FLOOD_TABLE;

use crate::netlink::nft::whole::Whole;
use crate::netlink::nft::{Held, whole};
use policy::Beneath;

/// Makes the limits and the timeouts of services stand as wanted, in one transaction; where nothing is wanted, the table
/// is taken away. A limit that stays wanted keeps its fill and its counter, a policy that stays the connections that
/// have it; where everything stands already nothing is written.
///
/// What a policy does not say it holds as `base` says, by the switches' short names (`tcp_established`): what they hold
/// beneath a profile that shortens them for a while. What `base` does not say either it holds as the switches say now.
///
/// # Errors
/// `InvalidInput` for more than [`LIMITS`](palisade_core::flood::wanted::LIMITS) limits and for what cannot be one;
/// `PermissionDenied` without CAP_NET_ADMIN; `Unsupported` for a kernel without nf_tables. Else what the kernel said.
pub fn set(wanted: &Wanted, base: &Timeouts) -> io::Result<Done> {
    put(layout::whole(wanted, &Beneath::new(base))?, || layout::without_timeouts(wanted))
}

/// What [`set`] has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// All stands.
    All,
    /// The kernel has no timeouts by policy: the limits stand alone. What that means and what to do about it.
    WithoutTimeouts(String),
}

/// What [`stands`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Exactly what is wanted, nothing missing, changed or added.
    All,
    /// Exactly that, but no timeouts: all there can be where [`set`] has said [`Done::WithoutTimeouts`].
    WithoutTimeouts,
    /// Something else.
    Other,
}

fn put(table: Option<Whole>, without_timeouts: impl FnOnce() -> io::Result<Option<Whole>>) -> io::Result<Done> {
    let absent = |error, nothing| absent_is((), nothing, error);
    let refused = match whole::set(NFT_FLOOD_TABLE, table.as_ref()) {
        Err(error) if lacking(&error) && table.as_ref().is_some_and(has_timeouts) => error,
        other => return other.or_else(|error| absent(error, table.is_none())).map(|()| Done::All),
    };
    let less = without_timeouts()?;
    whole::set(NFT_FLOOD_TABLE, less.as_ref()).or_else(|error| absent(error, less.is_none()))?;
    Ok(Done::WithoutTimeouts(format!(
        "table inet {NFT_FLOOD_TABLE}: this kernel has no timeouts by policy ({refused}): limits stand, but what culprits still open \
         and what services have lasts as long as the kernel's switches say; load them with `modprobe -a nft_ct nf_conntrack` \
         (a kernel with CONFIG_NF_CONNTRACK_TIMEOUT), or declare no services"
    )))
}

fn has_timeouts(table: &Whole) -> bool {
    table.objects.iter().any(|object| matches!(object.held, Held::Timeouts(_)))
}

/// What a kernel answers that does not know a kind of object.
fn lacking(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOENT))
}

/// Whether the table stands as wanted with this `base`; where nothing is wanted, whether there is none.
///
/// # Errors
/// As of [`set`].
pub fn stands(wanted: &Wanted, base: &Timeouts) -> io::Result<Standing> {
    let is = |table: Option<&Whole>| whole::stands(NFT_FLOOD_TABLE, table).or_else(|error| absent_is(true, table.is_none(), error));
    let table = layout::whole(wanted, &Beneath::new(base))?;
    if is(table.as_ref())? {
        Ok(Standing::All)
    } else if table.as_ref().is_some_and(has_timeouts) && is(layout::without_timeouts(wanted)?.as_ref())? {
        Ok(Standing::WithoutTimeouts)
    } else {
        Ok(Standing::Other)
    }
}

/// How many packets each limit has dropped since it stands. Empty without the table.
///
/// # Errors
/// As of [`set`].
pub fn dropped() -> io::Result<Vec<(Culprit, u64)>> {
    let objects = whole::objects(NFT_FLOOD_TABLE).or_else(|error| absent_is(Vec::new(), true, error))?;
    let counted = objects.into_iter().filter_map(|object| {
        let Held::Counter { packets, .. } = object.held else { return None };
        Some((names::culprit(&object.name)?, packets))
    });
    Ok(counted.collect())
}

/// The answer where the kernel knows no nf_tables and `nothing` is wanted of it; else the error, with what to do.
fn absent_is<T>(answer: T, nothing: bool, error: io::Error) -> io::Result<T> {
    let Some(errno) = error.raw_os_error() else { return Err(error) };
    let table = format!("table inet {NFT_FLOOD_TABLE}");
    Err(match errno {
        libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL | libc::ECONNREFUSED if nothing => return Ok(answer),
        libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL | libc::ECONNREFUSED | libc::ENOENT => io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "{table}: this kernel has no nf_tables with inet tables, connection tracking and limits ({error}); load them with \
                 `modprobe -a nf_tables nft_ct nft_limit`, or set conntrack.action = \"watch\" and declare no services"
            ),
        ),
        libc::EPERM | libc::EACCES => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{table}: not permitted to change the firewall ({error}); run as root or give the process CAP_NET_ADMIN"),
        ),
        _ => io::Error::new(error.kind(), format!("{table}: {error}")),
    })
}
