//! Many files among several readers.
//!
//! A path is read by the reader that its directory and the letters of its name say, so that the
//! names a log goes through (`auth.log`, `auth.log.1`, `auth-20261122.log`) fall to one. What else
//! may lead two readers to one file (hard links, other schemes of names) is kept apart by a list of
//! who reads what.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade_core::time::Span;

use super::position::{FileId, Mark, hash};
use super::{FileSpec, LogError, Pattern};

/// So many files let go are remembered.
const RETIRED_MAX: usize = 256;

/// How far a path is behind what was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag<'a> {
    /// Which.
    pub path: &'a Path,
    /// So many bytes are there and not yet read.
    pub bytes: u64,
    /// So long ago all of it had been read; zero where all of it is.
    pub since: Span,
}

/// One reader's share.
#[derive(Debug, Default)]
pub(super) struct Share {
    index: u64,
    /// How many readers there are; 0 is one.
    of: u64,
    list: Arc<Mutex<List>>,
}

/// What all readers know.
#[derive(Debug, Default)]
struct List {
    /// Which file is read by which reader.
    read: HashMap<FileId, u64>,
    /// Files let go, and how far they were read: they may turn up under a name that a pattern matches.
    retired: VecDeque<Mark>,
}

/// How many readers are worth it: no more than there are paths now, and no more than wanted.
pub(super) fn readers(wanted: usize, specs: &[FileSpec]) -> Result<usize, LogError> {
    let mut paths = Vec::new();
    for spec in specs {
        paths.extend(Pattern::parse(&spec.pattern)?.expand(&mut |_| {}));
    }
    paths.sort_unstable();
    paths.dedup();
    Ok(wanted.min(paths.len()).max(1))
}

/// These numbers, beginning with the first that is not less than `turn`.
pub(super) fn from_turn(keys: Vec<u64>, turn: u64) -> VecDeque<u64> {
    let first = keys.partition_point(|key| *key < turn);
    let mut keys = VecDeque::from(keys);
    keys.rotate_left(first);
    keys
}

impl Share {
    /// The shares of so many readers.
    pub(super) fn among(readers: usize) -> Vec<Self> {
        let list = Arc::default();
        (0..readers as u64).map(|index| Self { index, of: readers as u64, list: Arc::clone(&list) }).collect()
    }

    /// Whether this path is ours.
    pub(super) fn has(&self, path: &Path) -> bool {
        if self.of < 2 {
            return true;
        }
        let name = path.file_name().unwrap_or_default().as_bytes();
        let mut family = path.parent().unwrap_or(path).as_os_str().as_bytes().to_vec();
        family.push(b'/');
        family.extend(name.iter().filter(|byte| byte.is_ascii_alphabetic()));
        hash(&family) % self.of == self.index
    }

    /// What concerns no path is told by the first.
    pub(super) const fn is_first(&self) -> bool {
        self.index == 0
    }

    /// How many of so many things this reader may have.
    pub(super) fn part(&self, most: usize) -> usize {
        most / usize::try_from(self.of.max(1)).unwrap_or(1)
    }

    /// Whether another reader reads this file.
    pub(super) fn read_by_another(&self, id: FileId) -> bool {
        self.list().read.get(&id).is_some_and(|reader| *reader != self.index)
    }

    /// Takes a file, unless another reader has it.
    pub(super) fn take(&self, id: FileId) -> bool {
        match self.list().read.entry(id) {
            Entry::Occupied(other) => *other.get() == self.index,
            Entry::Vacant(free) => {
                free.insert(self.index);
                true
            }
        }
    }

    /// How far a file was read that was let go.
    pub(super) fn retired(&self, id: FileId) -> Option<Mark> {
        self.list().retired.iter().find(|mark| mark.id == id).copied()
    }

    /// Lets a file go. `last`: no other path of this reader reads it.
    pub(super) fn retire(&self, mark: Mark, last: bool) {
        let mut list = self.list();
        if last {
            list.read.remove(&mark.id);
        }
        list.retired.push_back(mark);
        if list.retired.len() > RETIRED_MAX {
            list.retired.pop_front();
        }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        // Nothing in here can be half done.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
