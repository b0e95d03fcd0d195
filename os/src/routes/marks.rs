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
use crate::netlink::nft::port::{Port, missing_is};
use crate::netlink::nft::{Batch, Chain, OBJECT_COUNTER, Object, Rule, Set, Table, op, parse_chain, parse_object, parse_rule, parse_set};

/// `NFT_TABLE_F_DORMANT`: the table exists and does nothing.
const DORMANT: u32 = 1;

/// How often a change is tried anew that somebody else's change to the table came before.
const TRIES: u32 = 3;

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
    for tried in 1.. {
        match put(layout.as_ref()) {
            // It was changed between the look and the change.
            Err(error) if tried < TRIES && matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EBUSY | libc::EEXIST)) => {}
            other => return other.or_else(|error| absent_is((), layout.is_none(), error)),
        }
    }
    Ok(())
}

fn put(layout: Option<&Layout>) -> io::Result<()> {
    let mut port = Port::open(NFT_ROUTE_TABLE)?;
    let Some(layout) = layout else {
        if port.table()?.is_some() {
            port.begin().delete_table();
            missing_is(port.commit(), ())?;
        }
        return Ok(());
    };
    let found = Found::take(&mut port)?;
    if found.is(layout) {
        return Ok(());
    }
    if found.table.as_ref().is_some_and(|table| table.flags & DORMANT != 0) {
        // The kernel refuses to wake a table and to hang new chains in hooks in one transaction.
        port.begin().add_table();
        port.commit()?;
    }
    found.rebuild(layout, port.begin());
    port.commit()
}

/// Whether the table stands exactly as wanted, nothing missing, changed or added; for `None`, whether there is none.
///
/// # Errors
/// As of [`set`].
pub fn stands(wanted: Option<&Marks>) -> io::Result<bool> {
    let layout = wanted.map(Layout::of).transpose()?;
    let found = Port::open(NFT_ROUTE_TABLE).and_then(|mut port| Found::take(&mut port));
    match (found, &layout) {
        (Ok(found), Some(layout)) => Ok(found.is(layout)),
        (Ok(found), None) => Ok(found.table.is_none()),
        (Err(error), layout) => absent_is(true, layout.is_none(), error),
    }
}

/// What leaked since the table was put up, by uplink. Empty without the table.
///
/// # Errors
/// As of [`set`].
pub fn leaks() -> io::Result<BTreeMap<String, Leak>> {
    let objects = Port::open(NFT_ROUTE_TABLE).and_then(|mut port| objects(&mut port));
    let objects = objects.or_else(|error| absent_is(Vec::new(), true, error))?;
    let counters = objects.into_iter().filter(|object| object.kind == OBJECT_COUNTER);
    Ok(counters
        .filter_map(|object| Some((uplink_of(&object.name)?.to_owned(), Leak { packets: object.packets, bytes: object.bytes })))
        .collect())
}

fn objects(port: &mut Port) -> io::Result<Vec<Object>> {
    port.list(op::GET_OBJECT, None, |payload, all| all.extend(parse_object(payload)))
}

/// What stands of the table.
#[derive(Debug, Default)]
struct Found {
    table: Option<Table>,
    chains: Vec<Chain>,
    rules: Vec<Rule>,
    sets: Vec<Set>,
    objects: Vec<Object>,
}

impl Found {
    fn take(port: &mut Port) -> io::Result<Self> {
        let table = port.table()?;
        if table.is_none() {
            return Ok(Self::default());
        }
        Ok(Self {
            table,
            chains: port.list(op::GET_CHAIN, None, |payload, all| all.extend(parse_chain(payload)))?,
            rules: port.list(op::GET_RULE, None, |payload, all| all.extend(parse_rule(payload)))?,
            sets: port.list(op::GET_SET, None, |payload, all| all.extend(parse_set(payload)))?,
            objects: objects(port)?,
        })
    }

    fn is(&self, layout: &Layout) -> bool {
        let mut counters: Vec<_> = self.objects.iter().map(|object| object.name.clone()).collect();
        counters.sort();
        self.table.as_ref().is_some_and(|table| table.flags & DORMANT == 0)
            && self.sets.is_empty()
            && self.objects.iter().all(|object| object.kind == OBJECT_COUNTER)
            && counters == layout.counters
            && sorted(self.chains.clone()) == sorted(layout.chains.clone())
            && by_chain(self.rules.clone()) == by_chain(layout.rules.clone())
    }

    /// Writes the operations that make `layout` of this. Chains that hang where they should and counters stay.
    fn rebuild(&self, layout: &Layout, batch: &mut Batch) {
        batch.add_table();
        if self.table.is_some() {
            batch.delete_rules();
        }
        self.sets.iter().for_each(|set| _ = batch.delete_set(&set.name));
        for chain in self.chains.iter().filter(|chain| !layout.chains.iter().any(|wanted| hangs_as(chain, wanted))) {
            batch.delete_chain(&chain.name);
        }
        let kept = |object: &&Object| object.kind == OBJECT_COUNTER && layout.counters.contains(&object.name);
        for object in self.objects.iter().filter(|object| !kept(object)) {
            batch.delete_object(object.kind, &object.name);
        }
        layout.chains.iter().for_each(|chain| _ = batch.add_chain(chain));
        layout.counters.iter().for_each(|counter| _ = batch.add_counter(counter));
        layout.rules.iter().for_each(|rule| _ = batch.add_rule(rule));
    }
}

fn sorted(mut chains: Vec<Chain>) -> Vec<Chain> {
    chains.sort();
    chains
}

/// Rules in their order within each chain, the chains sorted.
fn by_chain(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.sort_by(|a, b| a.chain.cmp(&b.chain));
    rules
}

/// Whether `there` can become `wanted` without being deleted: the policy can be set.
fn hangs_as(there: &Chain, wanted: &Chain) -> bool {
    let place = |chain: &Chain| chain.base.as_ref().map(|base| (base.hook, base.priority, base.kind.clone()));
    there.name == wanted.name && place(there) == place(wanted)
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
