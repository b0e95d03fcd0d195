//! nftables over netlink: one table of ours, no process, nothing of anybody else's touched.
//!
//! | file | what is in it |
//! |---|---|
//! | [`layout`] | the table for the sets in use: names, chains, rules; pure |
//! | `load` | bans on their way into sets |
//! | `fill` | a whole wall on its way into sets nobody has seen yet |
//! | `read` | what stands, and the operations from it to another layout |
//! | `drift` | what others did |
//! | `probe` | what this kernel can do |

mod drift;
mod fill;
pub mod layout;
mod load;
mod probe;
mod read;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;

use palisade_core::bans::wall::{Entry, Found, Frame, Key, Limits, Report, Step};
use palisade_core::net::Prefix;
use palisade_core::ours::NFT_TABLE;
use palisade_core::time::Stamp;

use self::drift::Ears;
use self::layout::{COUNTED, Class, Kind};
use self::load::{Change, End, Manner, Sets};
use self::read::Snapshot;
use super::{BlockError, Blocker, Drift, Read};
use crate::netlink::nft::Element;
use crate::netlink::nft::port::{Port, missing_is};

/// Elements a transaction: of the sizes measured for a million (10,000 to all in one) the fastest.
const TRANSACTION: usize = 65_536;

/// From so many steps on a load is done without listening to our own notifications of it.
const BULK: usize = 1000;

/// How many bans fit. Each takes about 110 bytes of kernel memory: this is 1.8 GB.
const MOST_BANS: usize = 1 << 24;

/// The table `inet palisade` of the network namespace it was opened in.
#[derive(Debug)]
pub struct Nftables {
    port: Port,
    ears: Ears,
    known: Option<Known>,
    manner: Manner,
    /// Whether a set's hash table can be sized before it is filled.
    sized: bool,
    /// [`COUNTED`], smaller in tests.
    counted: usize,
}

/// The table as we last saw or left it.
#[derive(Debug)]
struct Known {
    sets: Sets,
    whole: bool,
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> BlockError + '_ {
    move |source| BlockError::Kernel { what: format!("nftables: {what}"), source }
}

fn disturbed() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "somebody else changed the table `inet palisade` meanwhile; build it anew")
}

impl Nftables {
    /// Opens it in the calling thread's network namespace. What stands there goes on standing.
    ///
    /// # Errors
    /// [`BlockError::Unusable`] without the right (CAP_NET_ADMIN) or without nf_tables in the kernel.
    pub fn open() -> Result<Self, BlockError> {
        let mut port = Port::open(NFT_TABLE).map_err(probe::unusable)?;
        let probe::Found { manner, sized } = probe::look().map_err(probe::unusable)?;
        let ears = Ears::open(&mut port).map_err(probe::unusable)?;
        Ok(Self { port, ears, known: None, manner, sized, counted: COUNTED })
    }

    /// Makes sure that the sets of `needed` stand, in a table that is whole if there is anything to
    /// `block`. Reads nothing where that is known.
    fn ensure(&mut self, needed: BTreeSet<Kind>, block: bool) -> io::Result<&mut Known> {
        let enough = |known: &Known| (known.whole || !block) && needed.iter().all(|kind| known.sets.holds(kind));
        if !self.known.as_ref().is_some_and(enough) {
            let there = Snapshot::take(&mut self.port)?;
            let mut layout = there.layout();
            needed.into_iter().for_each(|kind| _ = layout.kinds.entry(kind).or_insert(true));
            let mut whole = layout == there.layout() && there.whole();
            if block && !whole {
                there.wake(&mut self.port)?;
                there.rebuild(&layout, self.port.begin());
                self.port.commit()?;
                whole = true;
            }
            self.known = Some(Known { sets: Sets::of(&layout), whole });
        }
        self.known.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Makes the frame stand. The list that stands is read first, so that only what differs changes:
    /// no member is missing for a moment.
    fn set_frame(&mut self, frame: &Frame) -> io::Result<()> {
        self.known = None;
        let there = Snapshot::take(&mut self.port)?;
        let old = read::frame(&mut self.port, &there.layout())?;
        let mut layout = there.layout();
        layout.refusal = frame.refusal;
        layout.kinds.retain(|kind, _| kind.class != Class::Allow);
        layout.kinds.extend(frame.allow.iter().map(|prefix| (Kind::allow(prefix), false)));
        there.wake(&mut self.port)?;
        let batch = self.port.begin();
        if layout != there.layout() || !there.whole() {
            there.rebuild(&layout, batch);
        }
        for kind in layout.allowing() {
            let name = kind.name(layout.generation);
            let wanted = members(frame, kind);
            let gone: Vec<_> = members(&old, kind).into_iter().filter(|prefix| !frame.allow.contains(prefix)).collect();
            batch.add_elements(&name, wanted.iter().chain(&gone).map(|prefix| Element::bare(prefix.addr().octets())));
            batch.delete_elements(&name, gone.iter().map(|prefix| prefix.addr().octets()));
        }
        self.port.commit()?;
        self.known = Some(Known { sets: Sets::of(&layout), whole: true });
        Ok(())
    }

    /// What Block and Release steps change, `base` being the first one's index. Makes the sets they need.
    fn changes(&mut self, steps: &[Step], base: usize, now: Stamp) -> io::Result<Vec<Change>> {
        let blocks = steps.iter().any(|step| matches!(step, Step::Block(entry) if !entry.until.over(now)));
        let known = self.ensure(BTreeSet::new(), blocks)?;
        let mut changes = Vec::with_capacity(steps.len());
        let mut missing = BTreeSet::new();
        for (i, step) in steps.iter().enumerate() {
            let (key, end) = match step {
                Step::Block(entry) => (&entry.key, End::of(entry.until, now)),
                Step::Release(key) => (key, End::Release),
                Step::Frame(_) => continue,
            };
            match known.sets.place(key) {
                Some(set) => changes.push(Change { set, addr: key.prefix.addr(), end, index: base + i }),
                None if end == End::Release => {} // no such set, no such ban
                None => _ = missing.insert(Kind::of(key)),
            }
        }
        if !missing.is_empty() {
            self.ensure(missing, true)?;
            return self.changes(steps, base, now);
        }
        load::settle(&mut changes);
        Ok(changes)
    }

    /// Takes up to a transaction's worth of Block and Release steps. Refused, it looks whether the
    /// table still is as it was believed to be before it looks for the step that is to blame.
    fn take(&mut self, steps: &[Step], base: usize, now: Stamp, failed: &mut Vec<(usize, String)>) {
        let mut result = self.changes(steps, base, now).and_then(|changes| self.commit(&changes));
        if result.is_err() {
            self.known = None;
            result = self.changes(steps, base, now).and_then(|changes| {
                let known = self.known.as_ref().ok_or(io::ErrorKind::NotFound)?;
                commit_each(&mut self.port, &known.sets, &changes, self.manner, failed)
            });
        }
        if let Err(error) = result {
            self.known = None;
            failed.extend((base..base + steps.len()).map(|index| (index, refusal(&error))));
        }
    }

    fn commit(&mut self, changes: &[Change]) -> io::Result<()> {
        let known = self.known.as_ref().ok_or(io::ErrorKind::NotFound)?;
        load::write(self.port.begin(), &known.sets, changes, self.manner);
        self.port.commit()
    }
}

/// Commits the changes in one transaction; refused, in halves, down to the ones that are to blame.
///
/// # Errors
/// What is about all of them: the table or set is gone, or the right to change it.
fn commit_each(port: &mut Port, sets: &Sets, changes: &[Change], manner: Manner, failed: &mut Vec<(usize, String)>) -> io::Result<()> {
    load::write(port.begin(), sets, changes, manner);
    let Err(error) = port.commit() else { return Ok(()) };
    if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EPERM)) {
        return Err(error);
    }
    if let [only] = changes {
        failed.push((only.index, refusal(&error)));
        return Ok(());
    }
    let (first, second) = changes.split_at(changes.len() / 2);
    commit_each(port, sets, first, manner, failed)?;
    commit_each(port, sets, second, manner, failed)
}

fn refusal(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => "; give the process CAP_NET_ADMIN, or free the table from its owner",
        Some(libc::ENOMEM | libc::ENOBUFS) => "; the kernel is short of memory",
        _ => "",
    };
    format!("nftables refused it: {error}{hint}")
}

fn members(frame: &Frame, kind: &Kind) -> Vec<Prefix> {
    frame.allow.iter().filter(|prefix| Kind::allow(prefix) == *kind).copied().collect()
}

impl Blocker for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn limits(&self) -> Limits {
        Limits { bans: MOST_BANS, ports: true, timeouts: true, counters: true, lasting: false }
    }

    fn read(&mut self, what: Read<'_>) -> Result<Found, BlockError> {
        self.look(what).map_err(failed("reading what stands"))
    }

    fn apply(&mut self, steps: &[Step], now: Stamp) -> Report {
        let paused = (steps.len() >= BULK).then(|| self.ears.pause(&mut self.port).ok()).flatten();
        let mut failed = Vec::new();
        let mut base = 0;
        while let Some(step) = steps.get(base) {
            let rest = &steps[base..];
            let run = rest.iter().position(|step| matches!(step, Step::Frame(_))).unwrap_or(rest.len()).min(TRANSACTION);
            if let Step::Frame(frame) = step {
                failed.extend(self.set_frame(frame).err().map(|error| (base, refusal(&error))));
            } else {
                self.take(&rest[..run], base, now, &mut failed);
            }
            base += run.max(1);
        }
        if let Some(paused) = paused
            && !self.ears.resume(&mut self.port, paused).unwrap_or(false)
        {
            self.known = None;
            failed = (0..steps.len()).map(|index| (index, disturbed().to_string())).collect();
        }
        Report { done: steps.len() - failed.len(), failed }
    }

    fn replace(&mut self, frame: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<Report, BlockError> {
        self.known = None;
        let paused = self.ears.pause(&mut self.port).map_err(failed("before a load"))?;
        let result = self.exchange(frame, entries, now);
        if result.is_ok() {
            self.ears.forget(&self.port).map_err(failed("after a load"))?;
        }
        let alone = self.ears.resume(&mut self.port, paused).map_err(failed("after a load"))?;
        match result {
            Ok(_) if !alone => {
                self.known = None;
                Err(failed("building the table")(disturbed()))
            }
            other => other.map_err(failed("building the table")),
        }
    }

    fn remove(&mut self) -> Result<(), BlockError> {
        self.known = None;
        self.port.begin().delete_table();
        missing_is(self.port.commit(), ()).map_err(failed("deleting our table"))
    }

    fn notices(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ears.fd())
    }

    fn drift(&mut self) -> Result<Drift, BlockError> {
        let drift = self.ears.drift(&mut self.port).map_err(failed("listening for what others do"))?;
        if matches!(drift, Drift::Everything(_)) {
            self.known = None;
        }
        Ok(drift)
    }
}

impl Nftables {
    fn look(&mut self, what: Read<'_>) -> io::Result<Found> {
        let there = Snapshot::take(&mut self.port)?;
        if there.table.is_none() {
            self.known = None;
            return Ok(Found::default());
        }
        let (layout, whole) = (there.layout(), there.whole());
        let mut sets = Sets::of(&layout);
        let mut found = Found { whole, frame: Some(read::frame(&mut self.port, &layout)?), ..Found::default() };
        match what {
            Read::Frame => {}
            Read::Keys(keys) => self.look_up(keys, &mut sets, &mut found)?,
            Read::All => {
                for kind in layout.banning() {
                    found.bans.extend(read::bans(&mut self.port, kind, layout.generation)?);
                }
            }
        }
        self.known = Some(Known { sets, whole });
        Ok(found)
    }

    fn look_up(&mut self, keys: &[Key], sets: &mut Sets, found: &mut Found) -> io::Result<()> {
        let placed: Vec<_> =
            keys.iter().enumerate().filter_map(|(i, key)| Some((i, sets.place(key)?, key.prefix.addr().octets()))).collect();
        let asked: Vec<_> = placed.iter().map(|(i, set, octets)| (*i, sets.name(*set), &**octets)).collect();
        self.port.elements(&asked, |i, element| _ = found.bans.insert(keys[i].clone(), read::standing(&element)))
    }
}
