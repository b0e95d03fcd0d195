//! Feeds followed: each has its list looked at, weighed, and kept for when it cannot be had.
//!
//! | file | what |
//! |---|---|
//! | `mod` | [`Follower`]: one feed, its last good list, and when it is looked at next |
//! | `fetch` | a list over HTTPS, within bounds |
//! | `kept` | the last good list on the disk |
//! | `sieve` | a list's bytes to its members |

mod fetch;
mod kept;
mod sieve;

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use palisade_core::brain::Fed;
use palisade_core::config::{Config, Feed, FeedSource};
use palisade_core::feeds::{self, Accepted, Fresh, Report};
use palisade_core::net::Prefix;
use palisade_core::time::{Now, Span, Stamp, Tick};
use palisade_os::{clock, files};

use kept::{Header, Marks};
use sieve::Sieve;

/// The largest list that is read, in bytes and unpacked: four million entries of IPv6 fit in.
const LIST_MAX: u64 = 64 << 20;

/// How many bytes are read at once.
const PIECE: usize = 64 * 1024;

/// The folder of kept lists, in the state folder.
const FOLDER: &str = "feeds";

/// Why a list could not be had.
#[derive(Debug)]
struct Failure {
    /// What happened and what to do next.
    what: String,
    /// How long its keeper asked us to stay away.
    stay_away: Option<Span>,
}

impl Failure {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), stay_away: None }
    }
}

/// What came of asking for a list.
#[derive(Debug)]
enum Answer {
    /// It is the one that was good last.
    Same,
    /// A copy, and by what to know it again.
    Copy(Fresh, Marks),
}

/// One feed that is followed.
#[derive(Debug)]
pub(crate) struct Follower {
    feed: Feed,
    folder: PathBuf,
    /// Of the list that was good last.
    header: Option<Header>,
    report: Report,
    failures: u32,
    next: Tick,
}

impl Follower {
    /// Takes up a feed where it was left: with the list that was good last, and what came of it.
    pub(crate) fn take_up(feed: &Feed, state: &Path, now: Now) -> (Self, Option<Fed>) {
        let folder = state.join(FOLDER);
        let mut follower = Self { feed: feed.clone(), folder, header: None, report: Report::default(), failures: 0, next: now.tick };
        let Some((header, members)) = kept::read(&follower.file()) else { return (follower, None) };
        let good = header.seen;
        let checked = header.source == feed.source.to_string();
        follower.report = Report { good: Some(good), checked: checked.then_some(good), left_out: header.left_out, ..Report::default() };
        // A clock that was wrong must not put it off for longer than usual.
        let due = if checked { good.plus(feed.every).since(now.stamp).min(feed.every) } else { Span::ZERO };
        follower.plan(due, now);
        follower.header = Some(header);
        let fed = follower.tell(Some(members), false);
        (follower, Some(fed))
    }

    /// What is followed.
    pub(crate) const fn feed(&self) -> &Feed {
        &self.feed
    }

    /// When it is to be looked at.
    pub(crate) const fn next(&self) -> Tick {
        self.next
    }

    /// Looks at the list. With `accept`, it is followed however much it changed.
    pub(crate) fn look(&mut self, accept: bool) -> Fed {
        let asked = clock::now().stamp;
        let outcome = self.ask(asked).and_then(|answer| self.weigh(answer, accept, asked));
        let now = clock::now();
        self.report.checked = Some(now.stamp);
        (self.report.added, self.report.removed) = (0, 0);
        let (members, stay_away) = match outcome {
            Ok(None) => {
                self.good(now.stamp);
                (None, None)
            }
            Ok(Some(Accepted { members, added, removed, left_out })) => {
                self.good(now.stamp);
                (self.report.added, self.report.removed, self.report.left_out) = (added, removed, left_out);
                (Some(members), None)
            }
            Err(Failure { what, stay_away }) => {
                self.failures = self.failures.saturating_add(1);
                self.report.error = Some(what);
                (None, stay_away)
            }
        };
        self.plan(feeds::wait(self.feed.every, self.failures, stay_away, dice()), now);
        self.tell(members, true)
    }

    /// Has it looked at as soon as may be.
    pub(crate) fn hurry(&mut self, now: Now) {
        self.plan(Span::ZERO, now);
    }

    fn good(&mut self, now: Stamp) {
        self.failures = 0;
        self.report.good = Some(now);
        self.report.error = None;
    }

    fn plan(&mut self, wait: Span, now: Now) {
        self.next = now.tick.plus(wait);
        self.report.next = Some(now.stamp.plus(wait));
    }

    fn tell(&self, members: Option<Vec<Prefix>>, looked: bool) -> Fed {
        Fed { name: self.feed.name.clone(), members, report: self.report.clone(), looked }
    }

    fn file(&self) -> PathBuf {
        self.folder.join(&*self.feed.name)
    }

    /// Asks for the list, if need be.
    fn ask(&self, now: Stamp) -> Result<Answer, Failure> {
        let known = self.header.as_ref().filter(|header| header.is_of(&self.feed)).map(|header| &header.marks);
        match &self.feed.source {
            FeedSource::Path(path) => read_file(path, known, Sieve::new(&self.feed, now)),
            FeedSource::Url(url) => fetch::fetch(url, self.feed.ca.as_deref(), known, Sieve::new(&self.feed, now)),
        }
    }

    /// Whether a copy may be followed; keeps it if so. `None`: nothing changed.
    fn weigh(&mut self, answer: Answer, accept: bool, now: Stamp) -> Result<Option<Accepted>, Failure> {
        let Answer::Copy(fresh, marks) = answer else {
            kept::seen(&self.file(), now);
            return Ok(None);
        };
        // Another source's list, or one read in another form, is nothing to compare with.
        let same = self.header.as_ref().is_some_and(|header| header.is_of(&self.feed));
        let last = if same { kept::read(&self.file()).map(|(_, members)| members) } else { None };
        let accepted = feeds::weigh(last.as_deref(), fresh, self.feed.guard, accept).map_err(|refused| {
            let word = format!("; if that is right: `palisade feed refresh {} --accept`", self.feed.name);
            Failure::new(format!("refused: {refused}{}", if refused.acceptable() { &*word } else { "" }))
        })?;
        let header = Header::of(&self.feed, marks, accepted.left_out, now);
        if let Err(error) = kept::write(&self.file(), &header, &accepted.members) {
            tracing::warn!("the list of feed {} is not kept for the next start: {error}", self.feed.name);
            // What is on the disk is an older one: all of it is asked for next time, and compared with that.
            self.header.iter_mut().for_each(|header| header.marks = Marks::default());
        } else {
            self.header = Some(header);
        }
        Ok(Some(accepted))
    }
}

/// Removes the kept lists of feeds that the config does not have any more.
pub(crate) fn sweep(state: &Path, config: &Config) {
    for entry in fs::read_dir(state.join(FOLDER)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_none_or(|name| !config.feeds().contains_key(name)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A number from 0 to 1 that nobody foresees and that no secret depends on.
fn dice() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

/// Reads a list from a file, unless it is the one that is known.
fn read_file(path: &str, known: Option<&Marks>, mut sieve: Sieve) -> Result<Answer, Failure> {
    let fail = |error: std::io::Error| Failure::new(format!("{path}: {error}"));
    // One that is no file and never gets a writer must not hold us up.
    let file = files::open_regular(Path::new(path)).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    let marks = Marks { file: Some(format!("{}.{} {} {}", meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino())), ..Marks::default() };
    if known == Some(&marks) {
        return Ok(Answer::Same);
    }
    pour(file, &mut sieve).map_err(|error| Failure::new(format!("{path}: {error}")))?;
    Ok(Answer::Copy(sieve.finish(), marks))
}

/// Reads all of a list, unless it has more entries than it may.
fn pour(mut from: impl Read, sieve: &mut Sieve) -> std::io::Result<()> {
    let (mut piece, mut total) = (vec![0; PIECE], 0);
    loop {
        let n = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        total += n as u64;
        if total > LIST_MAX {
            return Err(std::io::Error::other(format!("it is longer than {} MiB; no list is", LIST_MAX >> 20)));
        }
        if !sieve.push(&piece[..n]) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
