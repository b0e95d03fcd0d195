//! The journal of routing on the disk: `STATE/routing.json`, replaced whole, read with suspicion.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use palisade_core::steering::journal::{Journal, VERSION};
use palisade_os::files;

/// A journal larger than this is none: a dozen sets of the largest config.
const MOST: u64 = 64 << 20;

/// Where the journal is.
pub(crate) fn path(state: &Path) -> PathBuf {
    state.join("routing.json")
}

/// Why there is no journal to go by.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no journal.
    #[error("{} is damaged ({what}): nothing is known of what was applied; remove it, look with `ip rule`, and `palisade route apply`", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Reads it; an empty one where there is no file.
pub(crate) fn read(state: &Path) -> Result<Journal, JournalError> {
    let path = path(state);
    let unreadable = |source| JournalError::Unreadable { path: path.clone(), source };
    let file: File = match files::open_regular(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Journal::default()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).map_err(unreadable)?;
    let damaged = |what: String| JournalError::Damaged { path: path.clone(), what };
    let journal: Journal = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if journal.v == VERSION { Ok(journal) } else { Err(damaged(format!("version {}, not {VERSION}", journal.v))) }
}

/// Writes it, and returns once it is on the disk.
pub(crate) fn write(state: &Path, journal: &Journal) -> io::Result<()> {
    let path = path(state);
    files::replace(&path, &serde_json::to_vec(journal).map_err(io::Error::other)?)?;
    // The new name is only sure to be found after a power cut once the folder is written too.
    File::open(state)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::time::{Now, Span};

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), Journal::default());
        let mut journal = Journal::default();
        journal.try_out("[routing]\n".to_owned(), "boot", Span::secs(60), Now::default());
        write(dir.path(), &journal).unwrap();
        assert_eq!(read(dir.path()).unwrap(), journal);
        for bad in ["", "{}", "[1]", r#"{"v":2,"confirmed":null,"trial":null,"history":[]}"#] {
            std::fs::write(path(dir.path()), bad).unwrap();
            assert!(matches!(read(dir.path()), Err(JournalError::Damaged { .. })), "{bad}");
        }
    }
}
