//! Follows many log files on one descriptor for notices, in one thread, through every kind of rotation.
//!
//! | what happens | what is done |
//! |---|---|
//! | renamed, a new file in its place | the old file is read to its end and on until it is quiet for a minute; the new one from its start |
//! | rotated again before we looked | a file that was born at the path is found at the name it was moved to |
//! | copied and truncated | shorter than read, or another beginning: read from its start |
//! | deleted, and back | the same, from its start |
//! | rotated while we were not running | the old file is found by its inode in the same directory, its rest is read first |
//!
//! The second needs notices that tell names, which FreeBSD's do not: there, a file that was born and moved on
//! between two looks is not found.
//!
//! What cannot be saved: lines that were truncated away before they were read; files that came and
//! went through more than one rotation, or into another directory, while we were not running. A
//! pattern should not match the copies that `copytruncate` leaves: they are new files to everybody.

mod events;
mod follow;
mod glob;
#[cfg(target_os = "linux")]
mod inotify;
#[cfg(any(target_os = "freebsd", test))]
mod kqueue;
mod paths;
mod position;
#[cfg(test)]
mod rotating;
mod share;
mod tail;
#[cfg(test)]
mod tests;
mod watcher;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use palisade_core::time::{Span, Tick};

use super::{LogError, Take};
use events::Birth;
use follow::{Follow, Trouble};
use glob::Pattern;
pub use glob::{is_glob, means};
use position::Mark;
use share::Share;

pub use share::Lag;
use watcher::Watcher;

/// Everything is looked at this often although notices should tell: network file systems and some
/// overlays do not notify, and a symbolic link above a file can change without notice.
const LOOK: Span = Span::secs(5);

/// The same where there are no notices at all.
const LOOK_BLIND: Span = Span::millis(250);

/// One read: large enough that system calls do not count, small enough to stay in the cache.
const CHUNK: usize = 128 * 1024;

/// What to follow for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// The number its lines are to carry.
    pub source: usize,
    /// An absolute path; `*`, `?` and `[...]` may stand in any component. Compressed files are not matched.
    pub pattern: String,
}

/// A spec and what is wrong with it as a whole.
#[derive(Debug)]
struct Spec {
    source: usize,
    pattern: Pattern,
    trouble: Option<Trouble>,
}

/// Something to tell with the next pump.
#[derive(Debug)]
struct Notice {
    source: usize,
    about: String,
    trouble: Option<Trouble>,
}

/// The files.
#[derive(Debug)]
pub struct Files {
    specs: Vec<Spec>,
    line_max: usize,
    /// By a number that is never used again.
    follows: BTreeMap<u64, Follow>,
    paths: HashMap<PathBuf, u64>,
    next_key: u64,
    /// Positions not yet claimed by a file.
    stored: HashMap<PathBuf, Vec<Mark>>,
    /// Which of the paths are ours, and what the other readers read.
    share: Share,
    watcher: Option<Watcher>,
    /// The kernel's limits do not let us watch everything.
    blind: bool,
    dirs: HashMap<i32, Vec<PathBuf>>,
    tails: HashMap<i32, u64>,
    births: Vec<Birth>,
    notices: Vec<Notice>,
    next_look: Tick,
    /// What stands there now was there before us.
    opening: bool,
    /// Whose turn it is when the budget does not reach for all.
    turn: u64,
    buffer: Box<[u8]>,
    scratch: String,
}

impl Files {
    /// Opens what is there. A file with a position that fits goes on from it; one without starts at
    /// its end; one that appears later starts at its beginning. Lines over `line_max` bytes are
    /// dropped whole. Only a pattern that makes no sense is an error.
    pub fn open(specs: Vec<FileSpec>, positions: HashMap<PathBuf, String>, line_max: usize) -> Result<Self, LogError> {
        Self::with(specs, positions, line_max, Watcher::open().ok())
    }

    /// The same for so many readers at most, each for a thread of its own: a path is read by one of
    /// them, and no file by two.
    pub fn open_shared(
        readers: usize,
        specs: &[FileSpec],
        positions: &HashMap<PathBuf, String>,
        line_max: usize,
    ) -> Result<Vec<Self>, LogError> {
        let readers = share::readers(readers, specs)?;
        let shares = Share::among(readers).into_iter();
        let new = |share| Self::new(specs.to_vec(), positions.clone(), line_max, Watcher::open().ok(), share);
        let mut all = shares.map(new).collect::<Result<Vec<_>, _>>()?;
        // Those with a position first, in all of them: see `begin`.
        for known in [true, false] {
            all.iter_mut().for_each(|files| files.begin(known));
        }
        Ok(all)
    }

    fn with(
        specs: Vec<FileSpec>,
        positions: HashMap<PathBuf, String>,
        line_max: usize,
        watcher: Option<Watcher>,
    ) -> Result<Self, LogError> {
        let mut files = Self::new(specs, positions, line_max, watcher, Share::default())?;
        [true, false].into_iter().for_each(|known| files.begin(known));
        Ok(files)
    }

    fn new(
        specs: Vec<FileSpec>,
        positions: HashMap<PathBuf, String>,
        line_max: usize,
        watcher: Option<Watcher>,
        share: Share,
    ) -> Result<Self, LogError> {
        let spec = |s: FileSpec| Pattern::parse(&s.pattern).map(|pattern| Spec { source: s.source, pattern, trouble: None });
        let mut files = Self {
            specs: specs.into_iter().map(spec).collect::<Result<_, _>>()?,
            line_max,
            follows: BTreeMap::new(),
            paths: HashMap::new(),
            next_key: 0,
            stored: positions.into_iter().filter_map(|(path, text)| Some((path, position::read(&text)?))).collect(),
            share,
            blind: watcher.is_none(),
            watcher,
            dirs: HashMap::new(),
            tails: HashMap::new(),
            births: Vec::new(),
            notices: Vec::new(),
            next_look: Tick(0),
            opening: true,
            turn: 0,
            buffer: vec![0; CHUNK].into(),
            scratch: String::new(),
        };
        files.expand();
        Ok(files)
    }

    /// Opens the files of paths with a position, then the others: the rest of a rotated file belongs
    /// to the path it was read by.
    fn begin(&mut self, known: bool) {
        // What the first round has opened has no position any more, but files.
        let now = |follow: &Follow| self.stored.contains_key(&follow.path) == known && follow.tails.is_empty();
        let keys: Vec<u64> = self.follows.iter().filter(|(_, follow)| now(follow)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.recheck(key, Tick(0)));
        self.opening = known;
    }

    /// Becomes readable when there is something to pump. `None` without notices: then deadlines do.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watcher.as_ref().map(AsFd::as_fd)
    }

    /// When to pump even though nothing became readable.
    pub const fn next_deadline(&self) -> Option<Tick> {
        Some(self.next_look)
    }

    /// Reads what is new, up to about `budget_bytes`, and hands it out; then the positions this
    /// reached. Whether there is more to read right now. Never blocks.
    pub fn pump(&mut self, now: Tick, budget_bytes: usize, take: &mut dyn FnMut(Take<'_>)) -> bool {
        if self.next_look == Tick(0) {
            // Opened without a clock: what is quiet is quiet from now.
            self.follows.values_mut().for_each(|follow| follow.at_end = now);
            self.follows.values_mut().flat_map(|follow| &mut follow.tails).for_each(|tail| tail.quiet_from = now);
        }
        let all = self.drain_events(now);
        if all || now >= self.next_look {
            self.look(now);
        }
        self.tell_notices(take);
        let more = self.read(now, budget_bytes.max(1), take);
        for follow in self.follows.values_mut() {
            follow.tell(&mut self.scratch, take);
        }
        self.tell_notices(take);
        more
    }

    /// Small backlogs first, whole: live lines do not wait for a large one. Of the large ones each
    /// gets a chunk in turn, and one of them gets its chunk even when the budget is used up.
    fn read(&mut self, now: Tick, budget: usize, take: &mut dyn FnMut(Take<'_>)) -> bool {
        let mut left = budget;
        let (small, large) = self.dirty();
        for key in small {
            if left == 0 {
                break;
            }
            left -= self.step(key, left, now, take);
        }
        let mut large = share::from_turn(large, self.turn);
        let mut first = true;
        while let Some(key) = large.pop_front() {
            if left == 0 && !first {
                break;
            }
            self.turn = key + 1;
            let room = if left == 0 { budget } else { left };
            left = left.saturating_sub(self.step(key, room, now, take));
            first = false;
            if self.follows.get(&key).is_some_and(Follow::dirty) {
                large.push_back(key);
            }
        }
        self.follows.values().any(Follow::dirty)
    }

    /// The paths with something to read: those that one read will do for, and the others.
    fn dirty(&self) -> (Vec<u64>, Vec<u64>) {
        let dirty = self.follows.iter().filter(|(_, follow)| follow.dirty());
        let behind = dirty.map(|(key, follow)| (follow.behind(), *key));
        let (mut small, large): (Vec<_>, Vec<_>) = behind.partition(|(behind, _)| *behind < CHUNK as u64);
        small.sort_unstable();
        (small.into_iter().map(|(_, key)| key).collect(), large.into_iter().map(|(_, key)| key).collect())
    }

    /// One read of a path. How much was read.
    fn step(&mut self, key: u64, room: usize, now: Tick, take: &mut dyn FnMut(Take<'_>)) -> usize {
        let Some(follow) = self.follows.get_mut(&key) else { return 0 };
        match follow.step(&mut self.buffer[..room.min(CHUNK)], now, take) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.trouble(key, Some(Trouble { what: format!("reading failed: {error}"), soft: false }));
                0
            }
        }
    }

    /// How far each path is behind what was written to it.
    pub fn lags(&self, now: Tick, tell: &mut dyn FnMut(Lag<'_>)) {
        for follow in self.follows.values() {
            let bytes = follow.behind();
            let since = if bytes == 0 { Span::ZERO } else { now.since(follow.at_end) };
            tell(Lag { path: &follow.path, bytes, since });
        }
    }

    fn tell_notices(&mut self, take: &mut dyn FnMut(Take<'_>)) {
        for Notice { source, about, trouble } in self.notices.drain(..) {
            take(match &trouble {
                Some(Trouble { what, soft }) => Take::Problem { source, about: &about, what, soft: *soft },
                None => Take::Solved { source, about: &about },
            });
        }
    }

    /// Notes what is wrong with a path now, and tells it if it is news.
    fn trouble(&mut self, key: u64, trouble: Option<Trouble>) {
        let Some(follow) = self.follows.get_mut(&key) else { return };
        if follow.trouble == trouble {
            return;
        }
        let about = follow.path.display().to_string();
        follow.trouble.clone_from(&trouble);
        self.notices.extend(follow.sources.iter().map(|&source| Notice { source, about: about.clone(), trouble: trouble.clone() }));
    }
}
