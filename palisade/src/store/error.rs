//! What can go wrong with the store, told by what the operator has to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi;

/// Why the store could not do what it was asked. Whatever it says, nothing of the asked-for batch
/// was kept, everything kept before is still there, and the same call may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room (ENOSPC, EDQUOT).
    #[error("{}: the disk is full: free some space; bans go on from memory and are kept when there is room", .0.display())]
    Full(PathBuf),
    /// The file, its directory or its file system cannot be written, or the store was opened for reading.
    #[error("{}: cannot be written: check the owner of the directory and whether its file system is mounted read-only", .0.display())]
    ReadOnly(PathBuf),
    /// Somebody else held the database's lock for longer than [`super::BUSY_TIMEOUT`].
    #[error("{}: another program is writing to it: find it with `fuser {}`", .0.display(), .0.display())]
    Busy(PathBuf),
    /// What was read makes no sense. The next [`super::Store::open`], or [`super::Store::set_aside`], starts a fresh one.
    #[error("{}: damaged: {why}: it is set aside at the next start", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The disk or the system failed.
    #[error("{}: {why}: look at the kernel log for failures of the disk", path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A later Palisade wrote it.
    #[error(
        "{}: has schema {found}, this palisade knows {known}: install the newer palisade again, or move the file away \
         (a copy from before the upgrade may stand beside it as palisade.db.v{known}-*)", path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest this program knows.
        known: i64,
    },
    /// An earlier Palisade wrote it, and it was opened for reading only.
    #[error("{}: has schema {found}, this palisade writes {known}: `palisade run` or `palisade restore` brings it up to date", path.display())]
    Older {
        /// The database file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The one this program writes.
        known: i64,
    },
    /// There is no database to read.
    #[error("{}: does not exist: nothing was ever kept here", .0.display())]
    Missing(PathBuf),
    /// Something that is no regular file stands where the database should.
    #[error("{}: is not a regular file: move it away", .0.display())]
    NotAFile(PathBuf),
    /// Anything else.
    #[error("{}: {why}", path.display())]
    Other {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        why: String,
    },
}

impl StoreError {
    /// Sorts what SQLite said by what can be done about it.
    pub(super) fn sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let why = error.to_string();
        let Some(code) = error.sqlite_error() else { return Self::odd_row(path, error) };
        match code.code {
            ErrorCode::DiskFull => Self::Full(path),
            // The wal-index is grown by writing to it, and a full disk is what stops that.
            ErrorCode::SystemIoFailure if code.extended_code == ffi::SQLITE_IOERR_SHMSIZE => Self::Full(path),
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Self::ReadOnly(path),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy(path),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Corrupt { path, why },
            ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed => Self::Io { path, why },
            _ => Self::Other { path, why },
        }
    }

    /// A row that does not fit its words: only damage or a stranger's hand makes one.
    fn odd_row(path: PathBuf, error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        let why = error.to_string();
        match error {
            E::FromSqlConversionFailure(..) | E::IntegralValueOutOfRange(..) | E::InvalidColumnType(..) | E::Utf8Error(..) => {
                Self::Corrupt { path, why }
            }
            _ => Self::Other { path, why },
        }
    }

    /// Sorts what the file system said.
    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(path),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(path),
            _ => Self::Io { path, why: error.to_string() },
        }
    }
}
