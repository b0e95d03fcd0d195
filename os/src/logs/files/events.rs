//! What the kernel's notices mean for the paths.

use std::path::{Path, PathBuf};

use palisade_core::time::{Span, Tick};

use super::Files;
use super::watcher::{Change, Told};

/// How long a file born at a path is tracked to other names. Rotations that follow each other faster
/// than we look are what it is for.
const BIRTH: Span = Span::secs(10);

/// So many of them; more is no rotation but an attack on us.
const BIRTHS_MAX: usize = 64;

/// A file that appeared at a followed path, and where it is now.
#[derive(Clone, Debug)]
pub(super) struct Birth {
    pub(super) key: u64,
    pub(super) at: PathBuf,
    /// It is between two names: the cookie of the move.
    cookie: Option<u32>,
    until: Tick,
}

/// What has to be looked at after the notices.
#[derive(Default)]
struct Changed {
    rechecks: Vec<u64>,
    expand: bool,
    all: bool,
}

impl Files {
    /// Reads all notices and acts on them. Whether some were lost, so that all must be looked at.
    pub(super) fn drain_events(&mut self, now: Tick) -> bool {
        let Some(mut watcher) = self.watcher.take() else { return false };
        let mut changed = Changed::default();
        watcher.drain(&mut |told| self.notice(told, now, &mut changed));
        self.watcher = Some(watcher);
        if changed.expand {
            self.expand();
            // A directory that is new may hold files already, one that went took them away.
            changed.rechecks.extend(self.follows.keys());
        }
        self.find_moved_births(now);
        changed.rechecks.sort_unstable();
        changed.rechecks.dedup();
        for key in changed.rechecks {
            self.recheck(key, now);
        }
        changed.all
    }

    fn notice(&mut self, told: Told<'_>, now: Tick, changed: &mut Changed) {
        match told {
            Told::Lost => changed.all = true,
            Told::Over(watch) => {
                changed.expand |= self.dirs.remove(&watch).is_some();
                self.tails.remove(&watch);
            }
            Told::File { watch, moved } => {
                let Some(key) = self.tails.get(&watch) else { return };
                let tails = self.follows.get_mut(key).map(|follow| follow.tails.iter_mut());
                tails.into_iter().flatten().filter(|tail| tail.watch == Some(watch)).for_each(|tail| tail.dirty = true);
                changed.rechecks.extend(moved.then_some(*key));
            }
            Told::Dir => changed.expand = true,
            Told::Name { watch, name, change } => {
                let dirs = self.dirs.get(&watch).cloned().unwrap_or_default();
                for path in dirs.iter().map(|dir| dir.join(name)) {
                    self.name_changed(&path, change, now, changed);
                }
            }
        }
    }

    fn name_changed(&mut self, path: &Path, change: Change, now: Tick, changed: &mut Changed) {
        let key = self.paths.get(path).copied();
        match key {
            Some(key) => changed.rechecks.push(key),
            None => changed.expand |= self.specs.iter().any(|spec| spec.pattern.touches(path)),
        }
        match change {
            Change::Went => self.births.retain(|birth| birth.at != path),
            Change::MovedAway(cookie) => {
                self.births.iter_mut().filter(|birth| birth.at == path).for_each(|birth| birth.cookie = Some(cookie));
            }
            Change::MovedHere(cookie) => {
                // What stood there is gone.
                self.births.retain(|birth| birth.at != path || birth.cookie.is_some());
                let moved = self.births.iter_mut().find(|birth| birth.cookie == Some(cookie));
                if let Some(birth) = moved {
                    birth.at = path.to_owned();
                    birth.cookie = None;
                    return;
                }
            }
            Change::Came | Change::Other => {}
        }
        if let Some(key) = key.filter(|_| matches!(change, Change::Came | Change::MovedHere(_)))
            && self.births.len() < BIRTHS_MAX
        {
            self.births.push(Birth { key, at: path.to_owned(), cookie: None, until: now.plus(BIRTH) });
        }
    }

    /// Files that were born at a followed path and moved on before we opened them.
    fn find_moved_births(&mut self, now: Tick) {
        self.births.retain(|birth| birth.until > now);
        for birth in self.births.clone() {
            let moved = self.follows.get(&birth.key).is_some_and(|follow| follow.path != birth.at);
            if moved && birth.cookie.is_none() {
                self.adopt(birth.key, &birth.at, now);
            }
        }
    }
}
