//! Bans as lines of a text file: the mirror of what should be in our block, and the file beside it.
//!
//! How the block stands in the text is in [`text`], which is pure.
//!
//! Every change writes the whole file from the mirror, so whatever others did to the block is
//! undone by it, and what they wrote around it stays. A line knows no end of a ban and no packets,
//! and the order of such files has no place for the allow list (an entry that lets pass would also
//! overrule the owner's own entries that do not): bans never overlap it anyway.

mod text;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use palisade_core::bans::wall::{Entry, Found, Key, Limits, Standing, Step};
use palisade_core::time::Stamp;

pub(super) use self::text::Syntax;
use self::text::Text;
use super::file::{self, Seen};
use super::{BlockError, Drift, Read};

/// How many bans fit. Whoever reads such a file goes through it line by line for each connection or
/// request, and every change writes all of it: this many take 3 MB and are still written in moments.
const MOST_BANS: usize = 65_536;

/// How often a change is tried again that somebody else's change to the file came before.
const TRIES: usize = 5;

/// So many single bans changed by others are named; more are everything.
const NAMED: usize = 10_000;

/// A file with our block.
#[derive(Debug)]
pub(super) struct Listed<S> {
    /// The backend's name, for messages.
    name: &'static str,
    path: PathBuf,
    syntax: S,
    /// What the block should hold; `None` where none should be there, or whether is not known yet.
    bans: Option<BTreeSet<Key>>,
    /// The file as we last left it or looked at it.
    seen: Option<Seen>,
    /// What was last told of the file, so that it is told once.
    told: Drift,
}

impl<S: Syntax> Listed<S> {
    /// Takes what stands in the file as what should stand. Writes nothing.
    ///
    /// # Errors
    /// Where the file cannot be read, or another be put in its place.
    pub(super) fn open(name: &'static str, path: &str, syntax: S) -> Result<Self, BlockError> {
        let mut listed = Self { name, path: path.into(), syntax, bans: None, seen: None, told: Drift::None };
        let unusable = |error: io::Error| BlockError::Unusable {
            what: format!("{name}: {path} cannot be rewritten: {error}"),
            hint: format!(
                "its folder must be there and be writable to us; a systemd unit needs User=root and ReadWritePaths= for it, or name another file in [backend.{name}]"
            ),
        };
        file::writable(&listed.path).map_err(unusable)?;
        let (text, seen) = listed.look().map_err(unusable)?;
        (listed.bans, listed.seen) = (text.bans, Some(seen));
        Ok(listed)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What in the file is not ours.
    pub(super) fn foreign(&self) -> Result<Vec<u8>, BlockError> {
        self.look().map(|(text, _)| text.foreign).map_err(self.failed("reading"))
    }

    /// What such a file can hold.
    pub(super) const fn limits() -> Limits {
        Limits { bans: MOST_BANS, ports: false, timeouts: false, counters: false, lasting: true }
    }

    /// Reads back what the file says, whatever we last wrote.
    pub(super) fn read(&self, what: Read<'_>) -> Result<Found, BlockError> {
        let (text, _) = self.look().map_err(self.failed("reading"))?;
        let Some(bans) = text.bans else { return Ok(Found::default()) };
        let mut found = Found { whole: text.wrong.is_none(), ..Found::default() };
        let standing = |key: &Key| (key.clone(), Standing::default());
        match what {
            Read::Frame => {}
            Read::Keys(keys) => found.bans.extend(keys.iter().filter(|key| bans.contains(key)).map(standing)),
            Read::All => found.bans.extend(bans.iter().map(standing)),
        }
        Ok(found)
    }

    /// Takes the steps, in one rewrite. Whether the file changed.
    pub(super) fn apply(&mut self, steps: &[Step], now: Stamp) -> Result<bool, BlockError> {
        let mut bans = self.bans.clone().unwrap_or_default();
        for step in steps {
            match step {
                Step::Frame(_) => {} // see above: a file has no place for it
                Step::Block(entry) if !entry.until.over(now) => _ = bans.insert(entry.key.clone()),
                Step::Block(Entry { key, .. }) | Step::Release(key) => _ = bans.remove(key),
            }
        }
        if self.bans.is_none() && bans.is_empty() {
            return Ok(false);
        }
        self.write(Some(bans))
    }

    /// Makes exactly these stand. How many entries there were, and whether the file changed.
    pub(super) fn replace(&mut self, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<(usize, bool), BlockError> {
        let (mut bans, mut count) = (BTreeSet::new(), 0);
        for entry in entries {
            count += 1;
            if !entry.until.over(now) {
                bans.insert(entry.key);
            }
        }
        Ok((count, self.write(Some(bans))?))
    }

    /// Takes our block out. Whether there was one.
    pub(super) fn remove(&mut self) -> Result<bool, BlockError> {
        self.write(None)
    }

    /// What somebody else did to our block. One stat(2) where nothing changed.
    pub(super) fn drift(&mut self) -> Result<Drift, BlockError> {
        let Some(bans) = &self.bans else { return Ok(Drift::None) };
        if let Some(seen) = &self.seen
            && seen.still(&self.path).map_err(self.failed("looking at"))?
        {
            return Ok(Drift::None);
        }
        let (text, seen) = self.look().map_err(self.failed("reading"))?;
        let drift = match (text.bans, text.wrong) {
            (None, _) => Drift::Everything(format!("our block in {} is gone", self.path.display())),
            (_, Some(wrong)) => Drift::Everything(format!("{wrong}, in {}", self.path.display())),
            (Some(there), None) => {
                let changed: Vec<Key> = there.symmetric_difference(bans).cloned().collect();
                match changed.len() {
                    0 => Drift::None,
                    n if n <= NAMED => Drift::Bans(changed),
                    n => Drift::Everything(format!("{n} bans in {} were changed", self.path.display())),
                }
            }
        };
        self.seen = Some(seen);
        if drift == self.told {
            return Ok(Drift::None);
        }
        self.told = drift.clone();
        Ok(drift)
    }

    fn write(&mut self, bans: Option<BTreeSet<Key>>) -> Result<bool, BlockError> {
        for _ in 0..TRIES {
            let changed = self.try_write(bans.as_ref()).map_err(self.failed("rewriting"))?;
            if let Some(changed) = changed {
                (self.bans, self.told) = (bans, Drift::None);
                return Ok(changed);
            }
        }
        let busy = io::Error::other(format!("somebody else changed it {TRIES} times while we did"));
        Err(self.failed("rewriting")(busy))
    }

    /// `None` where somebody else was quicker.
    fn try_write(&mut self, bans: Option<&BTreeSet<Key>>) -> io::Result<Option<bool>> {
        let (old, seen) = file::read(&self.path)?;
        let new = Text::render(&Text::parse(&old, &self.syntax).foreign, bans, &self.syntax);
        if new == old {
            self.seen = Some(seen);
            return Ok(Some(false));
        }
        let Some(seen) = file::write(&self.path, &new, &seen)? else { return Ok(None) };
        self.seen = Some(seen);
        Ok(Some(true))
    }

    fn look(&self) -> io::Result<(Text, Seen)> {
        let (bytes, seen) = file::read(&self.path)?;
        Ok((Text::parse(&bytes, &self.syntax), seen))
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(io::Error) -> BlockError + use<S> {
        let what = format!("{}: {doing} {}", self.name, self.path.display());
        move |source| BlockError::Kernel { what, source }
    }
}
