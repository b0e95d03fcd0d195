//! A firewall of the mind: keeps every promise of [`Blocker`] and blocks nothing.
//!
//! A peer of the real ones for tests of everything above: clones share one state, so a test keeps a
//! [`Memory`] in its hand, looks at what the house did, and plays the stranger who changes things.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade_core::bans::wall::{Entry, Found, Frame, Key, Limits, Report, Standing, Step, Wanted};
use palisade_core::time::{Stamp, Until};

use super::{BlockError, Blocker, Drift, Read};

/// How many bans fit: as many as in nftables.
const MOST_BANS: usize = 1 << 24;

/// A wall in memory; clones are the same wall.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    frame: Option<Frame>,
    bans: BTreeMap<Key, Until>,
    now: Stamp,
    refused: BTreeSet<Key>,
    lost: BTreeSet<Key>,
    torn: Option<String>,
}

impl State {
    /// Goes on in time: what is over is gone, as in a kernel. Time never goes back.
    fn advance(&mut self, now: Stamp) {
        self.now = self.now.max(now);
        let now = self.now;
        self.bans.retain(|_, until| !until.over(now));
    }

    fn block(&mut self, entry: &Entry) -> Result<(), String> {
        if self.refused.contains(&entry.key) {
            return Err(format!("memory refused {:?}, as it was told to", entry.key));
        }
        self.frame.get_or_insert_default();
        if entry.until.over(self.now) {
            self.bans.remove(&entry.key);
        } else {
            self.bans.insert(entry.key.clone(), entry.until);
        }
        Ok(())
    }

    fn standing(&self, until: Until) -> Standing {
        Standing { left: until.left(self.now), packets: Some(0), bytes: Some(0) }
    }
}

impl Memory {
    /// An empty wall.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands at `now`; `None` where nothing was ever built, or all was taken away.
    pub fn standing(&self, now: Stamp) -> Option<Wanted> {
        let mut state = self.state();
        state.advance(now);
        Some(Wanted { frame: state.frame.clone()?, bans: state.bans.clone() })
    }

    /// From now on this ban is refused, as a kernel short of memory would; or no more.
    pub fn refuse(&self, key: Key, refuse: bool) {
        let mut state = self.state();
        if refuse {
            state.refused.insert(key);
        } else {
            state.refused.remove(&key);
        }
    }

    /// A stranger takes single bans out.
    pub fn stranger_deletes(&self, keys: impl IntoIterator<Item = Key>) {
        let mut state = self.state();
        for key in keys {
            if state.bans.remove(&key).is_some() {
                state.lost.insert(key);
            }
        }
    }

    /// A stranger takes everything away.
    pub fn stranger_flushes(&self) {
        let mut state = self.state();
        state.bans.clear();
        state.frame = None;
        state.torn = Some("everything was flushed".to_owned());
    }
}

impl Blocker for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn limits(&self) -> Limits {
        Limits { bans: MOST_BANS, ports: true, timeouts: true, counters: true, lasting: false }
    }

    fn read(&mut self, what: Read<'_>) -> Result<Found, BlockError> {
        let state = self.state();
        let mut found = Found { whole: state.frame.is_some(), frame: state.frame.clone(), bans: BTreeMap::new() };
        let standing = |(key, until): (&Key, &Until)| (key.clone(), state.standing(*until));
        match what {
            Read::Frame => {}
            Read::Keys(keys) => found.bans.extend(keys.iter().filter_map(|key| state.bans.get_key_value(key)).map(standing)),
            Read::All => found.bans.extend(state.bans.iter().map(standing)),
        }
        Ok(found)
    }

    fn apply(&mut self, steps: &[Step], now: Stamp) -> Report {
        let mut state = self.state();
        state.advance(now);
        let mut failed = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            match step {
                Step::Frame(frame) => state.frame = Some(frame.clone()),
                Step::Block(entry) => failed.extend(state.block(entry).err().map(|why| (index, why))),
                Step::Release(key) => _ = state.bans.remove(key),
            }
        }
        Report { done: steps.len() - failed.len(), failed }
    }

    fn replace(&mut self, frame: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<Report, BlockError> {
        // Drawn first: whoever gives the entries may look at this wall.
        let entries: Vec<Entry> = entries.collect();
        let mut state = self.state();
        state.advance(now);
        state.bans.clear();
        state.lost.clear();
        state.torn = None;
        state.frame = Some(frame.clone());
        let blocked = entries.iter().map(|entry| state.block(entry));
        let failed: Vec<_> = blocked.enumerate().filter_map(|(index, done)| Some((index, done.err()?))).collect();
        Ok(Report { done: entries.len() - failed.len(), failed })
    }

    fn remove(&mut self) -> Result<(), BlockError> {
        let mut state = self.state();
        state.frame = None;
        state.bans.clear();
        Ok(())
    }

    fn notices(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn drift(&mut self) -> Result<Drift, BlockError> {
        let mut state = self.state();
        let lost = std::mem::take(&mut state.lost);
        Ok(match state.torn.take() {
            Some(what) => Drift::Everything(what),
            None if lost.is_empty() => Drift::None,
            None => Drift::Bans(lost.into_iter().collect()),
        })
    }
}
