//! What outlives the daemon: one SQLite file, `palisade.db`, in the state directory.
//!
//! | file | what it holds |
//! |---|---|
//! | `open` | making, checking, setting aside, bringing up to date |
//! | `schema` | the tables and the steps between their versions |
//! | `column` | how the words of core stand in columns |
//! | `write` | records, all of a batch or none |
//! | `read` | what is asked of it, streamed where it may be much |
//! | `tidy` | forgetting, in bounded bites |
//!
//! The store is a diary, not a judge: it holds what the brain said and gives it back. One process
//! writes (the lock in the run directory sees to that); any number read beside it. What it promises
//! and what happens on each failure stands in `docs/store.md`.

mod column;
mod error;
mod open;
mod read;
mod schema;
mod tidy;
mod write;

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

pub use error::StoreError;
pub use read::{Counted, Evidence};
pub use tidy::{Keep, Tidied};

/// The database's name in the state directory.
pub const FILE: &str = "palisade.db";

/// How long a call waits for another process' transaction. Ours are over in milliseconds; a
/// million bans take seconds, but then the lock of the run directory keeps writers apart.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The open store. One thread uses it at a time; it may be sent to another.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
    /// Where the last [`Store::tidy`] stopped looking for bans that are over.
    sweep: Option<tidy::Place>,
}

/// What [`Store::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A sound database.
    Known,
    /// None: a fresh one was made.
    New,
    /// A damaged one: it was moved away with its log and a fresh one was made. What stands in the
    /// kernel is the best that is known now.
    SetAside {
        /// Where it is now.
        to: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}

impl Store {
    /// Opens the store in `dir` for writing; makes the directory (0750) and the database (0640)
    /// where they are missing. What root makes gets the owner of the directory.
    ///
    /// # Errors
    /// Damage is none: see [`Opening::SetAside`]. A schema of a later Palisade, a full or read-only
    /// disk, a busy database and failures of the system are.
    pub fn open(dir: &Path) -> Result<(Self, Opening), StoreError> {
        let (db, path, opening) = open::writable(dir, schema::STEPS, open::Trust::Proven)?;
        Ok((Self { db, path, sweep: None }, opening))
    }

    /// The same without reading all of it first, for one quick question: of damage only what shows
    /// at once is found.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_briefly(dir: &Path) -> Result<(Self, Opening), StoreError> {
        let (db, path, opening) = open::writable(dir, schema::STEPS, open::Trust::Assumed)?;
        Ok((Self { db, path, sweep: None }, opening))
    }

    /// Opens it for reading, beside a writer or without one; makes and changes nothing.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::Missing`], [`StoreError::Older`], [`StoreError::Corrupt`].
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        let (db, path) = open::readable(dir, schema::STEPS)?;
        Ok(Self { db, path, sweep: None })
    }

    /// For damage that shows only later ([`StoreError::Corrupt`] from any call): moves the database
    /// away as [`Store::open`] would and goes on with a fresh one.
    ///
    /// # Errors
    /// Any [`StoreError`]; the store is closed then, open it again.
    pub fn set_aside(self, why: String) -> Result<(Self, Opening), StoreError> {
        let Self { db, path, .. } = self;
        drop(db);
        let to = open::move_away(&path)?;
        let db = open::create(&path, schema::STEPS)?;
        Ok((Self { db, path, sweep: None }, Opening::SetAside { to, why }))
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
