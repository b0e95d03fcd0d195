//! Bans on their way into sets, sets that grow before they are full, and a whole wall beside the standing one.

use std::collections::{BTreeMap, BTreeSet};

use palisade_core::bans::wall::{Entry, Frame, Report};
use palisade_core::time::Stamp;

use super::known::{Known, is_made_for};
use super::layout::{Kind, Layout, next_generation};
use super::sets::{Change, End, Header};
use super::{CHUNK, Ipset, MOST_BANS, failed, too_many};
use crate::block::BlockError;

/// Twice as many as there are, so that sets seldom grow; also because the kernel divides a set's room
/// among parts of its table, and adding to a part whose share is used up has it count all the others
/// (`mtype_add`, net/netfilter/ipset/ip_set_hash_gen.h).
const SPARE: usize = 2;

impl Ipset {
    /// How a set of this kind for so many members is made. Bans are `counted` only where that is said.
    pub(super) fn header(&self, kind: &Kind, members: usize) -> Header {
        let most = members.saturating_mul(SPARE).clamp(1, MOST_BANS).next_power_of_two().max(self.room);
        Header { kind: "hash:net".to_owned(), family: kind.family, most, timeouts: kind.bans(), counters: false, entries: 0 }
    }

    /// Makes the sets that the layouts name and that are not there; for how many members, and whether
    /// they count, `made_for` says. One of the name that no rule of ours uses is taken away first.
    pub(super) fn make(
        &mut self,
        layouts: &[Layout],
        used: &BTreeSet<String>,
        made_for: impl Fn(&Kind) -> (usize, bool),
    ) -> Result<(), BlockError> {
        let headers = self.headers()?;
        let mut lines = Vec::new();
        for layout in layouts {
            for kind in &layout.kinds {
                let name = layout.name(&self.names, kind);
                let stands = headers.get(&name);
                if stands.is_some_and(|header| used.contains(&name) && is_made_for(kind, header)) {
                    continue;
                }
                if stands.is_some() {
                    self.sets.destroy(&name).map_err(failed("a set with a name of ours is in the way"))?;
                }
                let (members, counters) = made_for(kind);
                lines.push(Header { counters, ..self.header(kind, members) }.create(&name));
                self.ends.insert(name, super::Ends::default());
            }
        }
        self.sets.restore(&lines).map_err(failed("making sets"))
    }

    /// Makes the changes in the sets that are known. Which could not be made, and why.
    pub(super) fn write(&mut self, changes: &[Change]) -> Result<Vec<(usize, String)>, BlockError> {
        let Some(mut known) = self.known.take() else { return Ok(Vec::new()) };
        let bad = self.write_to(&mut known, changes);
        self.known = Some(known);
        bad
    }

    fn write_to(&mut self, known: &mut Known, changes: &[Change]) -> Result<Vec<(usize, String)>, BlockError> {
        let mut more: BTreeMap<usize, usize> = BTreeMap::new();
        for change in changes.iter().filter(|change| change.end != End::Release) {
            *more.entry(change.set).or_default() += 1;
        }
        for (set, count) in more {
            let header = &known.held[set].header;
            let need = header.entries.saturating_add(count);
            if need > header.most && header.most < MOST_BANS {
                self.grow(known, set, need)?;
            }
            // At most; what stood before is counted twice until the next look.
            known.held[set].header.entries = need;
        }
        let began = self.seconds();
        let bad = self.sets.change(changes, &known.names()).map_err(failed("changing sets"))?;
        let took = self.seconds() - began;
        for change in changes {
            if let (End::In(seconds), Some(ends)) = (change.end, self.ends.get_mut(&known.held[change.set].name)) {
                ends.note(began + seconds);
                ends.took(took);
            }
        }
        Ok(bad)
    }

    /// Puts a larger set into the place of one that will be full. Rules go on asking the name.
    fn grow(&mut self, known: &mut Known, set: usize, need: usize) -> Result<(), BlockError> {
        let taken = self.generations()?;
        let held = &mut known.held[set];
        let Some(layout) = known.layouts.iter().find(|layout| layout.family == held.kind.family) else { return Ok(()) };
        let larger = layout.named(next_generation(&taken)).name(&self.names, &held.kind);
        let header = Header { most: self.header(&held.kind, need).most, ..held.header.clone() };
        let grown = self.sets.restore(&[header.create(&larger)]);
        let grown = grown.and_then(|()| self.sets.copy(&held.name, &larger, CHUNK));
        let grown = grown.and_then(|()| self.sets.restore(&[format!("swap {larger} {}", held.name)]));
        let gone = self.sets.destroy(&larger);
        grown.and(gone).map_err(failed("making room in a set that is nearly full"))?;
        held.header = header;
        Ok(())
    }

    fn generations(&mut self) -> Result<BTreeSet<u32>, BlockError> {
        Ok(self.headers()?.keys().filter_map(|name| self.names.generation(name)).collect())
    }

    /// Takes the sets away that no rule of ours asks any more.
    pub(super) fn tidy(&mut self) -> Result<(), BlockError> {
        let used = match &self.known {
            Some(known) => known.used(),
            None => self.learn()?.known.used(),
        };
        for name in self.headers()?.into_keys().filter(|name| !used.contains(name)) {
            self.ends.remove(&name);
            // One that a stranger's rule asks stays; it is tried again the next time, and nobody is banned by it.
            let _ = self.sets.destroy(&name);
        }
        Ok(())
    }

    /// Fills a fresh generation of sets, then has the rules ask them instead of the standing ones, for
    /// each family in one transaction.
    pub(super) fn exchange(&mut self, frame: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<Report, BlockError> {
        let generation = next_generation(&self.generations()?);
        let layouts = self.tables.families().map(|family| Layout::new(family, generation, frame.refusal)).collect();
        let mut fresh = Known::new(layouts);
        let allowed: Vec<_> = frame.allow.iter().filter(|prefix| self.tables.filters(prefix.family())).copied().collect();
        let kinds = |prefixes: &[palisade_core::net::Prefix]| {
            let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
            prefixes.iter().for_each(|prefix| *counts.entry(Kind::allow(prefix)).or_default() += 1);
            counts
        };
        self.add_sets(&mut fresh, kinds(&allowed), false)?;
        let members = allowed.iter().flat_map(|prefix| Kind::members(*prefix).map(|member| (Kind::allow(prefix), member)));
        let changes: Vec<_> = members
            .filter_map(|(kind, member)| Some(Change { set: *fresh.places.get(&kind)?, member, end: End::Never, index: 0 }))
            .collect();
        if let Some((_, why)) = self.write_to(&mut fresh, &changes)?.pop() {
            return Err(BlockError::Unusable { what: "ipset: filling the allow list".to_owned(), hint: why });
        }
        let report = self.fill(&mut fresh, entries, now)?;
        self.raise(&fresh.layouts)?;
        self.settle(fresh.layouts)?;
        self.tidy()?;
        Ok(report)
    }

    /// Makes sets of kinds that are new in this wall, for so many members each.
    fn add_sets(&mut self, fresh: &mut Known, kinds: BTreeMap<Kind, usize>, counters: bool) -> Result<(), BlockError> {
        let mut lines = Vec::new();
        for (kind, members) in kinds {
            let Some(layout) = fresh.layouts.iter_mut().find(|layout| layout.family == kind.family) else { continue };
            layout.add(kind.clone()).map_err(too_many)?;
            let name = layout.name(&self.names, &kind);
            let header = Header { counters: counters && kind.bans(), ..self.header(&kind, members) };
            lines.push(header.create(&name));
            self.ends.insert(name.clone(), super::Ends::default());
            fresh.hold(kind, name, header);
        }
        self.sets.restore(&lines).map_err(failed("making sets"))
    }

    /// Puts the entries into new sets, a chunk at a time. The first tells whether there are few enough
    /// for their sets to count.
    fn fill(&mut self, fresh: &mut Known, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<Report, BlockError> {
        let (mut report, mut count, mut counted) = (Report::default(), 0, None);
        loop {
            let mut chunk = Vec::new();
            while chunk.len() < CHUNK
                && let Some(entry) = entries.next()
            {
                let end = End::of(entry.until, now);
                if end != End::Release && self.tables.filters(entry.key.prefix.family()) {
                    chunk.push((count, entry.key, end));
                }
                count += 1;
            }
            if chunk.is_empty() {
                break;
            }
            let counted = *counted.get_or_insert(chunk.len() <= self.counted);
            let long = chunk.len() == CHUNK;
            let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
            for (_, key, _) in &chunk {
                *kinds.entry(Kind::of(key)).or_default() += 1;
            }
            kinds.retain(|kind, _| !fresh.places.contains_key(kind));
            if long {
                // Where there is more to come, nobody knows how much; room is only a limit and takes no memory.
                kinds.values_mut().for_each(|members| *members = MOST_BANS);
            }
            self.add_sets(fresh, kinds, counted)?;
            let mut changes = Vec::with_capacity(chunk.len());
            for (index, key, end) in &chunk {
                if let Some(set) = fresh.places.get(&Kind::of(key)) {
                    changes.extend(Kind::members(key.prefix).map(|member| Change { set: *set, member, end: *end, index: *index }));
                }
            }
            report.failed.extend(self.write_to(fresh, &changes)?);
        }
        report.done = count - report.failed.len();
        Ok(report)
    }
}
