//! Changes on their way to the wall, and the connections to end once they stand.
//!
//! An established connection that is ended before its ban stands is simply opened anew, so the list
//! of what to end can only be had in exchange for the wall's [`Report`].

use std::collections::{BTreeMap, BTreeSet};

use super::wall::{Entry, Frame, Key, Report, Step};
use crate::net::Prefix;
use crate::ports::Ports;
use crate::time::Until;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Block { until: Until, kill: bool },
    Release,
}

/// What is to change at the wall, each ban's latest word only, so that an order which waits for a
/// busy wall grows with the number of bans it names and no further.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    frame: Option<Frame>,
    changes: BTreeMap<Key, Change>,
}

impl Order {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets exactly these pass.
    pub fn frame(&mut self, frame: Frame) {
        self.frame = Some(frame);
    }

    /// Makes a ban stand; with `kill`, its connections are ended once it does.
    pub fn block(&mut self, entry: Entry, kill: bool) {
        let asked_before = matches!(self.changes.get(&entry.key), Some(Change::Block { kill: true, .. }));
        self.changes.insert(entry.key, Change::Block { until: entry.until, kill: kill || asked_before });
    }

    /// Makes a ban stand no more.
    pub fn release(&mut self, key: Key) {
        self.changes.insert(key, Change::Release);
    }

    /// Adds what was ordered later.
    pub fn absorb(&mut self, later: Self) {
        self.frame = later.frame.or(self.frame.take());
        for (key, change) in later.changes {
            match change {
                Change::Block { until, kill } => self.block(Entry { key, until }, kill),
                Change::Release => self.release(key),
            }
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.frame.is_none() && self.changes.is_empty()
    }

    /// Whether it makes any ban stand.
    pub fn blocks_any(&self) -> bool {
        self.blocks().next().is_some()
    }

    /// How many bans change.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// The steps: the frame, then blocks, then releases.
    pub fn steps(&self) -> Vec<Step> {
        let blocks = self.blocks().map(|(key, until, _)| Step::Block(Entry { key: key.clone(), until }));
        let releases = self.changes.iter().filter(|(_, change)| **change == Change::Release);
        self.frame.clone().map(Step::Frame).into_iter().chain(blocks).chain(releases.map(|(key, _)| Step::Release(key.clone()))).collect()
    }

    /// Whose connections to end, now that the wall has taken [`Self::steps`] and reported: those of
    /// the blocks that stand. A block that failed ends nothing; it comes again with the repair.
    pub fn kills(&self, report: &Report) -> Vec<(Prefix, Ports)> {
        let first = usize::from(self.frame.is_some());
        let failed: BTreeSet<usize> = report.failed.iter().map(|(at, _)| *at).collect();
        let numbered = self.blocks().enumerate().filter(|(n, (.., kill))| *kill && !failed.contains(&(first + n)));
        numbered.map(|(_, (key, ..))| (key.prefix, key.ports.clone())).collect()
    }

    fn blocks(&self) -> impl Iterator<Item = (&Key, Until, bool)> {
        self.changes.iter().filter_map(|(key, change)| match change {
            Change::Block { until, kill } => Some((key, *until, *kill)),
            Change::Release => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> Key {
        Key::all(Prefix::host(Ipv4Addr::new(192, 0, 2, n).into()))
    }

    proptest! {
        /// A wall on which any step may fail: whatever is ended, its block stands at that moment.
        #[test]
        fn states_are_never_killed_before_the_block_stands(
            asks in proptest::collection::vec((0u8..5, 0u8..3, any::<bool>()), 0..20),
            poisoned in proptest::collection::btree_set(0u8..5, 0..3),
            framed: bool, split in 0usize..20,
        ) {
            let (mut order, mut later) = (Order::new(), Order::new());
            if framed { order.frame(Frame::default()); }
            for (n, (who, what, kill)) in asks.iter().enumerate() {
                let part = if n < split { &mut order } else { &mut later };
                match what {
                    0 => part.release(key(*who)),
                    _ => part.block(Entry { key: key(*who), until: Until::Forever }, *kill),
                }
            }
            order.absorb(later);
            let mut standing: BTreeSet<Key> = BTreeSet::new();
            let mut report = Report::default();
            for (index, step) in order.steps().into_iter().enumerate() {
                match step {
                    Step::Block(entry) if poisoned.iter().any(|who| key(*who) == entry.key) => report.failed.push((index, "poisoned".into())),
                    Step::Block(entry) => { standing.insert(entry.key); report.done += 1; }
                    _ => report.done += 1,
                }
            }
            let killed: BTreeSet<Prefix> = order.kills(&report).into_iter().map(|(prefix, _)| prefix).collect();
            prop_assert!(killed.iter().all(|prefix| standing.contains(&Key::all(*prefix))));
            // And nobody is forgotten: whose last word was a block, with a kill asked for since its last release.
            for who in 0..5 {
                let mine: Vec<_> = asks.iter().filter(|(n, ..)| *n == who).collect();
                let asked = mine.rsplit(|(_, what, _)| *what == 0).next().is_some_and(|blocks| blocks.iter().any(|(.., kill)| *kill));
                let ever = mine.iter().any(|(_, what, kill)| *what != 0 && *kill);
                let (stands, is_killed) = (standing.contains(&key(who)), killed.contains(&key(who).prefix));
                prop_assert!(is_killed || !(asked && stands));
                prop_assert!(ever || !is_killed);
            }
        }
    }
}
