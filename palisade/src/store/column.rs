//! How the words of core stand in columns.
//!
//! | word | columns | as |
//! |---|---|---|
//! | Prefix | `family` | 4 or 6 |
//! | | `addr` | the first address in packet order, 4 or 16 bytes: compares as addresses do |
//! | | `len` | 0 to 32 or 128 |
//! | Ports | `ports` | each port as two bytes, high byte first, ascending; no bytes: all ports |
//! | Stamp | | milliseconds since 1970, UTC |
//! | Until | | the same; NULL: for ever |
//! | Origin | | its printed text |
//! | What | `what` | its JSON |

use palisade_core::bans::ban::{Ban, Origin};
use palisade_core::bans::wall::{Key, Ports};
use palisade_core::net::{Addr, Family, Octets, Prefix};
use palisade_core::time::{Stamp, Until};
use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};

/// Who a ban is for, as [`read_ban`] and [`read_key`] read it.
pub(super) const KEY: &str = "family, addr, len, ports, forced";

/// The three columns of a prefix.
pub(super) struct PrefixColumns {
    pub(super) family: i64,
    pub(super) addr: Octets,
    pub(super) last: Octets,
    pub(super) len: u8,
}

impl From<&Prefix> for PrefixColumns {
    fn from(prefix: &Prefix) -> Self {
        let family = family(prefix.family());
        Self { family, addr: prefix.addr().octets(), last: prefix.last().octets(), len: prefix.len() }
    }
}

pub(super) const fn family(family: Family) -> i64 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

/// The end of something, `None` for ever.
pub(super) const fn until(until: Until) -> Option<i64> {
    match until {
        Until::At(Stamp(ms)) => Some(ms),
        Until::Forever => None,
    }
}

pub(super) fn ports(ports: &Ports) -> Vec<u8> {
    match ports {
        Ports::All => Vec::new(),
        Ports::Only(ports) => ports.iter().flat_map(|port| port.to_be_bytes()).collect(),
    }
}

fn odd(column: usize, what: &str) -> Error {
    Error::FromSqlConversionFailure(column, Type::Blob, what.into())
}

/// The prefix in columns `at` (family), `at + 1` (addr), `at + 2` (len).
pub(super) fn read_prefix(row: &Row<'_>, at: usize) -> Result<Prefix> {
    let bytes = row.get_ref(at + 1)?.as_blob().map_err(|_| odd(at + 1, "no address"))?;
    let addr = Addr::from_octets(bytes).ok_or_else(|| odd(at + 1, "no address"))?;
    if family(addr.family()) != row.get::<_, i64>(at)? {
        return Err(odd(at, "an address of the other family"));
    }
    Prefix::new(addr, row.get(at + 2)?).ok_or_else(|| odd(at + 2, "no length of a prefix"))
}

/// The end in column `at`.
pub(super) fn read_until(row: &Row<'_>, at: usize) -> Result<Until> {
    Ok(row.get::<_, Option<i64>>(at)?.map_or(Until::Forever, |ms| Until::At(Stamp(ms))))
}

fn read_ports(row: &Row<'_>, at: usize) -> Result<Ports> {
    let bytes = row.get_ref(at)?.as_blob().map_err(|_| odd(at, "no ports"))?;
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(odd(at, "half a port"));
    }
    Ports::only(pairs.iter().map(|pair| u16::from_be_bytes(*pair))).ok_or_else(|| odd(at, "more ports than a ban may name"))
}

/// The key in the first columns, in the order of [`KEY`].
pub(super) fn read_key(row: &Row<'_>) -> Result<Key> {
    Ok(Key { prefix: read_prefix(row, 0)?, ports: read_ports(row, 3)?, forced: row.get(4)? })
}

/// The ban in `KEY, since, until, origin, reason, offences`.
pub(super) fn read_ban(row: &Row<'_>) -> Result<Ban> {
    Ok(Ban {
        key: read_key(row)?,
        since: Stamp(row.get(5)?),
        until: read_until(row, 6)?,
        origin: Origin::from(row.get_ref(7)?.as_str()?),
        reason: row.get(8)?,
        offences: row.get(9)?,
    })
}
