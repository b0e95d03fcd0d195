//! Many bans, in each program's own form.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use palisade::store::Store;
use palisade_core::bans::ban::{Ban, Origin};
use palisade_core::bans::wall::Key;
use palisade_core::event::Record;
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp};

use crate::lab::scattered;

/// How long all of them last, in seconds: a day.
const LASTING: u32 = 86_400;
/// How many bans are put into the store in one transaction.
const AT_ONCE: u32 = 10_000;

/// Palisade's store with so many bans, in `state`.
pub(crate) fn store(state: &Path, count: u32) -> Result<()> {
    let (mut store, _) = Store::open(state)?;
    let now = Stamp(jiff::Timestamp::now().as_millisecond());
    for first in (0..count).step_by(AT_ONCE as usize) {
        let records: Vec<Record> = (first..count.min(first + AT_ONCE)).map(|n| Record::Ban(ban(n, now))).collect();
        store.write(&records)?;
    }
    Ok(())
}

fn ban(n: u32, now: Stamp) -> Ban {
    let until = palisade_core::time::Until::At(now.plus(Span::secs(LASTING.into())));
    Ban { key: Key::all(host(n)), since: now, until, origin: Origin::Manual, reason: "bench".to_owned(), offences: 1 }
}

/// The `n`-th address as a prefix.
pub(crate) fn host(n: u32) -> Prefix {
    Prefix::host(std::net::IpAddr::V4(scattered(n)).into())
}

/// A file for `nft -f`: a table with one hash set with timeouts and the rule that drops its
/// members. All elements in one statement: one statement for each takes it twice as long.
pub(crate) fn nft(file: &Path, count: u32) -> Result<()> {
    write(file, |out| {
        out.write_all(b"table inet bench {\n set banned { type ipv4_addr; flags timeout; elements = {\n")?;
        for n in 0..count {
            writeln!(out, "{} timeout {LASTING}s,", scattered(n))?;
        }
        out.write_all(b"} }\n chain input { type filter hook prerouting priority -300; ip saddr @banned drop; }\n}\n")
    })
}

/// A file for `ipset restore`: what `ipset save` writes of such a set, with the hash size it has
/// when it is full, so that it need not grow while it is filled.
pub(crate) fn ipset(file: &Path, count: u32) -> Result<()> {
    let buckets = (count / 2).next_power_of_two();
    write(file, |out| {
        writeln!(out, "create banned hash:ip family inet hashsize {buckets} maxelem {} timeout {LASTING}", count.max(65_536) * 2)?;
        for n in 0..count {
            writeln!(out, "add banned {} timeout {LASTING}", scattered(n))?;
        }
        Ok(())
    })
}

fn write(file: &Path, text: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut out = BufWriter::new(File::create(file).with_context(|| file.display().to_string())?);
    text(&mut out)?;
    Ok(out.flush()?)
}
