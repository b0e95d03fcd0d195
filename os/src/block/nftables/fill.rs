//! A whole wall, put up beside the standing one.

use std::io;

use palisade_core::bans::wall::{Entry, Frame, Report};
use palisade_core::time::Stamp;

use super::layout::{COUNTED, Kind, Layout};
use super::load::{Change, End, Manner, Sets};
use super::read::Snapshot;
use super::{BULK, Known, Nftables, TRANSACTION, commit_each, disturbed, members};
use crate::netlink::nft::{ANY_SIZE, Element, Set};

const _: () = assert!(TRANSACTION > COUNTED, "the first transaction tells whether the wall is too long to count");

/// The most elements a set's hash table is made for before it is filled. The kernel keeps the
/// number in 16 bits and drops the others; from there on the table grows by itself.
const MOST_EXPECTED: usize = 65_535;

/// What a load made.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) sets: Sets,
    /// Whether their elements count.
    pub(super) counted: bool,
    pub(super) report: Report,
}

impl Nftables {
    /// Fills a fresh generation of sets, then exchanges it with the standing one in one transaction.
    pub(super) fn exchange(&mut self, frame: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> io::Result<Report> {
        let generation = Snapshot::take(&mut self.port)?.free_generation();
        let allow = frame.allow.iter().map(|prefix| (Kind::allow(prefix), false)).collect();
        let mut layout = Layout { generation, refusal: frame.refusal, kinds: allow };
        let batch = self.port.begin().add_table();
        for kind in layout.allowing() {
            let set = kind.set(generation, false);
            let elements = members(frame, kind).into_iter().map(|prefix| Element::bare(prefix.addr().octets()));
            batch.add_set(&set).add_elements(&set.name, elements);
        }
        self.port.commit()?;
        let filled = self.fill(generation, entries, now)?;
        layout.kinds.extend(filled.sets.kinds().map(|kind| (kind.clone(), filled.counted)));
        let there = Snapshot::take(&mut self.port)?;
        if !layout.kinds.iter().all(|(kind, counted)| there.sets.contains(&kind.set(generation, *counted))) {
            return Err(disturbed());
        }
        there.wake(&mut self.port)?;
        there.rebuild(&layout, self.port.begin());
        self.port.commit()?;
        self.known = Some(Known { sets: Sets::of(&layout), whole: true });
        Ok(filled.report)
    }

    /// Puts the entries into new sets of this generation, a transaction at a time. The first tells
    /// whether there are few enough for their sets to count.
    pub(super) fn fill(&mut self, generation: u32, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> io::Result<Filled> {
        let (mut sets, mut report, mut count, mut counted) = (Sets::default(), Report::default(), 0, None);
        let mut changes = Vec::new();
        loop {
            let mut fresh = Vec::new();
            while changes.len() < TRANSACTION
                && let Some(entry) = entries.next()
            {
                let end = End::of(entry.until, now);
                if end != End::Release {
                    let set = sets.place(&entry.key).unwrap_or_else(|| {
                        let place = sets.add(Kind::of(&entry.key), generation);
                        fresh.push((place, Kind::of(&entry.key)));
                        place
                    });
                    changes.push(Change { set, addr: entry.key.prefix.addr(), end, index: count });
                }
                count += 1;
            }
            if changes.is_empty() {
                break;
            }
            let counted = *counted.get_or_insert(changes.len() <= self.counted);
            changes.sort_by_key(|change| change.set);
            let fresh = fresh.into_iter().map(|(place, kind)| (kind.set(generation, counted), in_set(&changes, place)));
            self.make(&fresh.collect::<Vec<_>>())?;
            commit_each(&mut self.port, &sets, &changes, Manner::Fresh, &mut report.failed)?;
            changes.clear();
        }
        report.done = count - report.failed.len();
        Ok(Filled { sets, counted: counted.unwrap_or(true), report })
    }

    /// Makes sets for so many elements each. A hash table that fits from the start halves the time
    /// 20,000 elements take: they come faster than the kernel lets a table grow. But the number
    /// that sizes it limits the set as well, until the next transaction takes the limit away.
    fn make(&mut self, sets: &[(Set, usize)]) -> io::Result<()> {
        let expected = |count: usize| u32::try_from(count.min(MOST_EXPECTED)).ok().filter(|_| self.sized && count >= BULK);
        let sized: Vec<_> = sets.iter().map(|(set, count)| Set { size: expected(*count), ..set.clone() }).collect();
        let batch = self.port.begin();
        sized.iter().for_each(|set| _ = batch.add_set(set));
        self.port.commit()?;
        let batch = self.port.begin();
        for set in sized.into_iter().filter(|set| set.size.is_some()) {
            batch.add_set(&Set { size: Some(ANY_SIZE), ..set });
        }
        self.port.commit()
    }
}

/// How many of the changes, sorted by set, are in this one.
fn in_set(changes: &[Change], set: usize) -> usize {
    changes.partition_point(|change| change.set <= set) - changes.partition_point(|change| change.set < set)
}
