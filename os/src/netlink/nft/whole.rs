//! An `inet` table that is ours as a whole: put up, compared, healed and taken away. Others' tables are not touched.
//!
//! What stands as wanted is not written. Else all rules are written anew in one transaction, while chains that hang
//! where they should and objects that are as wanted stay: counters go on counting, limits keep their fill, and
//! connections keep the timeouts they were given.

use std::io;

use super::port::{Port, missing_is};
use super::{Batch, Chain, Object, Rule, Set, Table, op, parse_chain, parse_object, parse_rule, parse_set};

/// `NFT_TABLE_F_DORMANT`: the table exists and does nothing.
const DORMANT: u32 = 1;

/// How often a change is tried anew that somebody else's change to the table came before.
const TRIES: u32 = 3;

/// All that is to be in the table. Rules stand in their chain in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whole {
    /// In any order.
    pub(crate) chains: Vec<Chain>,
    /// Each of a chain of these.
    pub(crate) rules: Vec<Rule>,
    /// What rules use; no two of one kind with one name.
    pub(crate) objects: Vec<Object>,
}

/// Makes the table stand as wanted, in one transaction; `None` takes it away.
///
/// # Errors
/// What the kernel said.
pub(crate) fn set(table: &'static str, wanted: Option<&Whole>) -> io::Result<()> {
    for tried in 1.. {
        match put(table, wanted) {
            // It was changed between the look and the change.
            Err(error) if tried < TRIES && matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EBUSY | libc::EEXIST)) => {}
            other => return other,
        }
    }
    Ok(())
}

fn put(table: &'static str, wanted: Option<&Whole>) -> io::Result<()> {
    let mut port = Port::open(table)?;
    let Some(wanted) = wanted else {
        if port.table()?.is_some() {
            port.begin().delete_table();
            missing_is(port.commit(), ())?;
        }
        return Ok(());
    };
    let found = Found::take(&mut port)?;
    if found.is(wanted) {
        return Ok(());
    }
    if found.table.as_ref().is_some_and(|table| table.flags & DORMANT != 0) {
        // The kernel refuses to wake a table and to hang new chains in hooks in one transaction.
        port.begin().add_table();
        port.commit()?;
    }
    found.rebuild(wanted, port.begin());
    port.commit()
}

/// Whether the table stands exactly as wanted, nothing missing, changed or added; for `None`, whether there is none.
///
/// # Errors
/// What the kernel said.
pub(crate) fn stands(table: &'static str, wanted: Option<&Whole>) -> io::Result<bool> {
    let found = Found::take(&mut Port::open(table)?)?;
    Ok(wanted.map_or(found.table.is_none(), |wanted| found.is(wanted)))
}

/// The table's objects, none where there is no table.
///
/// # Errors
/// What the kernel said.
pub(crate) fn objects(table: &'static str) -> io::Result<Vec<Object>> {
    listed(&mut Port::open(table)?)
}

fn listed(port: &mut Port) -> io::Result<Vec<Object>> {
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
            objects: listed(port)?,
        })
    }

    fn is(&self, wanted: &Whole) -> bool {
        self.table.as_ref().is_some_and(|table| table.flags & DORMANT == 0)
            && self.sets.is_empty()
            && self.objects.len() == wanted.objects.len()
            && by_name(&self.objects).into_iter().zip(by_name(&wanted.objects)).all(|(is, wanted)| is.is(wanted))
            && sorted(self.chains.clone()) == sorted(wanted.chains.clone())
            && by_chain(self.rules.clone()) == by_chain(wanted.rules.clone())
    }

    /// Writes the operations that make `wanted` of this.
    fn rebuild(&self, wanted: &Whole, batch: &mut Batch) {
        batch.add_table();
        if self.table.is_some() {
            batch.delete_rules();
        }
        self.sets.iter().for_each(|set| _ = batch.delete_set(&set.name));
        for chain in self.chains.iter().filter(|chain| !wanted.chains.iter().any(|wanted| hangs_as(chain, wanted))) {
            batch.delete_chain(&chain.name);
        }
        // What is not as wanted cannot be changed in place, but may be made anew in the transaction that deletes it.
        for object in self.objects.iter().filter(|object| !wanted.objects.iter().any(|wanted| object.is(wanted))) {
            batch.delete_object(object.kind(), &object.name);
        }
        for object in wanted.objects.iter().filter(|wanted| !self.objects.iter().any(|object| object.is(wanted))) {
            batch.add_object(object);
        }
        wanted.chains.iter().for_each(|chain| _ = batch.add_chain(chain));
        wanted.rules.iter().for_each(|rule| _ = batch.add_rule(rule));
    }
}

fn by_name(objects: &[Object]) -> Vec<&Object> {
    let mut all: Vec<_> = objects.iter().collect();
    all.sort_by(|a, b| (a.kind(), &a.name).cmp(&(b.kind(), &b.name)));
    all
}

/// For comparing what has no order of its own.
pub(crate) fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all
}

/// Rules in their order within each chain, the chains sorted.
pub(crate) fn by_chain(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.sort_by(|a, b| a.chain.cmp(&b.chain));
    rules
}

/// Whether `there` can become `wanted` without being deleted: the policy can be set.
pub(crate) fn hangs_as(there: &Chain, wanted: &Chain) -> bool {
    let place = |chain: &Chain| chain.base.as_ref().map(|base| (base.hook, base.priority, base.kind.clone()));
    there.name == wanted.name && place(there) == place(wanted)
}
