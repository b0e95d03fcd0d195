//! Bans on their way into sets.

use std::collections::BTreeMap;

use palisade_core::bans::wall::Key;
use palisade_core::net::Addr;
use palisade_core::time::{Stamp, Until};

use super::layout::{Kind, Layout};
use crate::netlink::nft::{Batch, Element};

/// The shortest timeout given, in milliseconds: two ticks of the slowest kernel clock (100 Hz). What
/// rounds to no tick at all the kernel takes for "never ends".
const SHORTEST: u64 = 20;
/// The longest, 292 years: the kernel refuses what does not fit 64 bits of nanoseconds.
const LONGEST: u64 = i64::MAX.unsigned_abs() / 1_000_000;

/// What an element is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing.
    Release,
    /// A ban, for so many milliseconds.
    In(u64),
    /// A ban without end.
    Never,
}

impl End {
    /// For a ban `until`, at `now`.
    pub(super) fn of(until: Until, now: Stamp) -> Self {
        match until.left(now) {
            None => Self::Never,
            Some(_) if until.over(now) => Self::Release,
            Some(left) => Self::In(left.as_millis().clamp(SHORTEST, LONGEST)),
        }
    }

    const fn timeout(self) -> Option<u64> {
        match self {
            Self::In(ms) => Some(ms),
            Self::Release | Self::Never => None,
        }
    }
}

/// One element to change: the place of its set, its address, and whose step it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) set: usize,
    pub(super) addr: Addr,
    pub(super) end: End,
    pub(super) index: usize,
}

/// The sets that stand, by kind, with their names at hand.
#[derive(Debug, Default)]
pub(super) struct Sets {
    places: BTreeMap<Kind, usize>,
    names: Vec<String>,
    last: Option<(Kind, usize)>,
}

impl Sets {
    pub(super) fn of(layout: &Layout) -> Self {
        let mut sets = Self::default();
        layout.kinds.keys().for_each(|kind| _ = sets.add(kind.clone(), layout.generation));
        sets
    }

    /// Adds a kind that is not there yet; tells its place.
    pub(super) fn add(&mut self, kind: Kind, generation: u32) -> usize {
        let place = self.names.len();
        self.names.push(kind.name(generation));
        self.places.insert(kind, place);
        place
    }

    /// The place of the set for `key`. Bans come in runs of a kind, so the last one is asked first.
    pub(super) fn place(&mut self, key: &Key) -> Option<usize> {
        let kind = Kind::of(key);
        match &self.last {
            Some((last, place)) if *last == kind => Some(*place),
            _ => {
                let place = *self.places.get(&kind)?;
                self.last = Some((kind, place));
                Some(place)
            }
        }
    }

    pub(super) fn holds(&self, kind: &Kind) -> bool {
        self.places.contains_key(kind)
    }

    pub(super) fn name(&self, place: usize) -> &str {
        &self.names[place]
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.places.keys()
    }
}

/// How elements are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Into sets nobody else has seen: nothing stands there yet.
    Fresh,
    /// Over what may stand, on a kernel that gives a standing element the new end (6.12 and later).
    Update,
    /// Over what may stand, on one that does not: out and in again, in one transaction.
    Exchange,
}

/// Sorts changes by set, and keeps only the last one of each element.
pub(super) fn settle(changes: &mut Vec<Change>) {
    if changes.len() > 1 {
        changes.sort_by_key(|change| (change.set, change.addr, std::cmp::Reverse(change.index)));
        changes.dedup_by_key(|change| (change.set, change.addr));
    }
}

/// Writes settled changes. To release, an element is first added and then deleted: deleting one
/// that is not there would fail everything, and the operation that would not exists only since 6.3.
pub(super) fn write(batch: &mut Batch, sets: &Sets, changes: &[Change], manner: Manner) {
    for of_one_set in changes.chunk_by(|a, b| a.set == b.set) {
        let Some(first) = of_one_set.first() else { continue };
        let name = sets.name(first.set);
        let goes = |change: &&Change| manner != Manner::Fresh && (change.end == End::Release || manner == Manner::Exchange);
        batch.add_elements(name, of_one_set.iter().filter(goes).map(|change| Element::bare(change.addr.octets())));
        batch.delete_elements(name, of_one_set.iter().filter(goes).map(|change| change.addr.octets()));
        let stays = of_one_set.iter().filter(|change| change.end != End::Release);
        let element =
            |change: &Change| Element { key: change.addr.octets(), timeout: change.end.timeout(), restart: manner == Manner::Update };
        batch.add_elements(name, stays.map(element));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::time::Span;

    #[test]
    fn no_end_rounds_to_never_or_is_refused() {
        let now = Stamp(1_000_000);
        assert_eq!(End::of(Until::At(now), now), End::Release);
        assert_eq!(End::of(Until::At(Stamp(1_000_001)), now), End::In(SHORTEST));
        assert_eq!(End::of(Until::At(now.plus(Span::secs(3))), now), End::In(3000));
        assert_eq!(End::of(Until::At(Stamp(i64::MAX)), now), End::In(LONGEST));
        assert_eq!(End::of(Until::Forever, now), End::Never);
    }

    #[test]
    fn the_last_change_of_an_element_counts() {
        let addr: Addr = "192.0.2.1".parse().unwrap();
        let change = |set, end, index| Change { set, addr, end, index };
        let mut changes = vec![change(1, End::Never, 0), change(0, End::Never, 1), change(1, End::Release, 2), change(1, End::In(5), 3)];
        settle(&mut changes);
        assert_eq!(changes.iter().map(|c| (c.set, c.end)).collect::<Vec<_>>(), [(0, End::Never), (1, End::In(5))]);
    }
}
