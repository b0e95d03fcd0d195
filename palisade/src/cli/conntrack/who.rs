//! Who is behind a source of the table, asked only of those on top and not each time anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use palisade_core::flood::census::{Census, Held};
use palisade_core::flood::flow::Flow;
use palisade_core::flood::owner::{Behind, Process};
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::{Span, Tick};
use palisade_os::owners;

/// Of so many sources on top, at most, it is found out who they are.
const ASKED: usize = 4;

/// An answer is as good as new for so long.
const KEPT: Span = Span::secs(10);

/// Who is behind whom, as found out lately.
#[derive(Debug, Default)]
pub(super) struct Who {
    known: BTreeMap<Prefix, (Tick, Option<Process>)>,
    leases: Vec<PathBuf>,
}

impl Who {
    /// With these files of leases.
    pub(super) const fn new(leases: Vec<PathBuf>) -> Self {
        Self { known: BTreeMap::new(), leases }
    }

    /// Everything known of an address.
    pub(super) fn behind(&self, addr: Addr) -> io::Result<Behind> {
        owners::behind(addr, &self.leases)
    }

    /// The processes of this host that hold flows, by a sample of those whose source is its own, out of `seen`.
    pub(super) fn holders(sample: &[Flow], seen: u64) -> io::Result<Vec<Held>> {
        if sample.is_empty() { Ok(Vec::new()) } else { owners::holders(sample, seen) }
    }

    /// The process behind each of the largest sources that has one. `sample`: flows whose source is this host's own.
    pub(super) fn processes(
        &mut self,
        census: &Census,
        own: &BTreeSet<Addr>,
        sample: &[Flow],
        now: Tick,
    ) -> io::Result<BTreeMap<Prefix, Process>> {
        self.known.retain(|_, (since, _)| now.since(*since) < KEPT);
        let mut told = BTreeMap::new();
        for row in census.top.iter().take(ASKED) {
            let found = match self.known.get(&row.prefix) {
                Some((_, found)) => found.clone(),
                None => {
                    let found = Self::find(row.prefix, row.flows, own, sample)?;
                    self.known.insert(row.prefix, (now, found.clone()));
                    found
                }
            };
            told.extend(found.map(|process| (row.prefix, process)));
        }
        Ok(told)
    }

    fn find(source: Prefix, flows: u32, own: &BTreeSet<Addr>, sample: &[Flow]) -> io::Result<Option<Process>> {
        if own.contains(&source.addr()) {
            let of: Vec<Flow> = sample.iter().filter(|flow| flow.source == source.addr()).copied().collect();
            return Ok(Self::holders(&of, flows.into())?.into_iter().next().map(|held| held.process));
        }
        Ok(owners::contained(source.addr())?.into_iter().next().map(|(process, _)| process))
    }
}
