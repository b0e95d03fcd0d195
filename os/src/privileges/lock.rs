//! One of us at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A process id and its newline are fewer.
const PID_MAX: u64 = 16;

/// The lock; held until dropped, or until the process is gone however it went. The file stays:
/// removing it would let two hold locks of the same name.
#[derive(Debug)]
#[must_use]
pub struct Lock(File);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("{} is held by {}; is it running already?", path.display(), pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who says to hold it.
        pid: Option<u32>,
    },
    /// The file cannot be used.
    #[error("the lock file {} cannot be used", path.display())]
    System {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Takes the lock at `path` (flock(2)), without waiting, and writes our process id into it.
pub fn lock_file(path: &Path) -> Result<Lock, LockError> {
    let system = |source| LockError::System { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let mut file = options.open(path).map_err(system)?;
    // What root makes in the daemon's folder must not lock the daemon out.
    super::own_like_dir(path).map_err(system)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = (&file).take(PID_MAX).read_to_string(&mut text);
            let pid = read.ok().and_then(|_| text.trim().parse().ok());
            return Err(LockError::Held { path: path.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(system(source)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(system)?;
    Ok(Lock(file))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A stale id would only mislead who looks.
        let _ = self.0.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = lock_file(&path).unwrap();
        let refused = lock_file(&path).unwrap_err();
        let LockError::Held { pid, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(*pid, Some(std::process::id()));
        assert!(refused.to_string().contains("is held by process"));
        drop(lock);
        // A child that another test is just starting has it too, until it becomes another program.
        let again = (0..1000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            lock_file(&path).ok()
        });
        assert!(again.is_some(), "what was let go is held still");
        assert!(matches!(lock_file(Path::new("/nonexistent/lock")), Err(LockError::System { .. })));
        std::os::unix::fs::symlink(&path, dir.path().join("link")).unwrap();
        assert!(matches!(lock_file(&dir.path().join("link")), Err(LockError::System { .. })));
    }
}
