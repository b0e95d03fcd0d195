//! A file of somebody's that is read whole, and put in its place whole.
//!
//! The new text is written to a file of another name in the same folder, given the old one's mode
//! and owner, brought to the disk, and renamed over the old one: who reads the file at any moment,
//! a power cut included, finds the old text or the new. A symbolic link is followed and stays.
//! What a rename does not carry over is lost: further hard links, ACLs, SELinux labels.

use std::ffi::{CString, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use palisade_core::time::Stamp;

use crate::clock;

/// Larger files are not read: eight times what the most bans take in the longest spelling.
const SIZE_MAX: u64 = 32 << 20;

/// The mode of a file that was not there: everybody reads it. TCP wrappers are read by whatever
/// user a service runs as, and one that cannot read the file lets everybody in.
const MODE: u32 = 0o644;

/// A file changed less long ago than this may change again without its times showing it: the
/// kernel's clock for them goes in steps of up to 10 ms, older file systems' of 2 s (FAT).
const FRESH_MS: i64 = 2_000;

/// Which state of a file was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    state: State,
    /// Whether it had stood for so long that any later change shows.
    settled: bool,
}

/// What changes whenever a file does; nothing where there is none.
type State = Option<(u64, u64, u64, [i64; 4])>;

fn state_of(meta: &Metadata) -> State {
    Some((meta.dev(), meta.ino(), meta.size(), [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]))
}

fn state(path: &Path) -> io::Result<State> {
    match fs::metadata(path) {
        Ok(meta) => Ok(state_of(&meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Seen {
    fn of(state: State) -> Self {
        let Stamp(now) = clock::now().stamp;
        let settled = state.is_none_or(|(.., [_, _, changed, _])| now - changed.saturating_mul(1000) > FRESH_MS);
        Self { state, settled }
    }

    /// Whether the file surely is as it was seen. Costs one stat(2).
    pub(super) fn still(&self, path: &Path) -> io::Result<bool> {
        Ok(self.settled && state(path)? == self.state)
    }
}

/// Reads it: its bytes, none where there is no such file, and which state they are of.
pub(super) fn read(path: &Path) -> io::Result<(Vec<u8>, Seen)> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Seen::of(None))),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > SIZE_MAX {
        return Err(io::Error::other(format!("it is larger than {SIZE_MAX} bytes")));
    }
    Ok((text, Seen::of(state_of(&meta))))
}

/// Puts this text in its place, if the file still is as it was `seen`. `None` where it is not.
pub(super) fn write(path: &Path, text: &[u8], seen: &Seen) -> io::Result<Option<Seen>> {
    let target = target(path)?;
    let old = match fs::metadata(&target) {
        Ok(meta) => Some(meta),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let beside = beside(&target)?;
    let written = new(&beside, text, old.as_ref()).and_then(|()| {
        // The last look before the rename: what somebody wrote meanwhile is not lost but read again.
        if state(&target)? != seen.state {
            return Ok(false);
        }
        fs::rename(&beside, &target)?;
        Ok(true)
    });
    if !matches!(written, Ok(true)) {
        let _ = fs::remove_file(&beside); // the error that led here is the one to tell
    }
    if !written? {
        return Ok(None);
    }
    if let Some(dir) = target.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(Some(Seen::of(state(&target)?)))
}

/// Whether [`write`] could: the folder of the file may be written.
pub(super) fn writable(path: &Path) -> io::Result<()> {
    let target = target(path)?;
    let dir = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = CString::new(dir.as_os_str().as_bytes())?;
    // SAFETY: the string is live and ends with NUL; the call only reads it.
    let rc = unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The file itself where `path` is a symbolic link to it.
fn target(path: &Path) -> io::Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => fs::canonicalize(path),
        _ => Ok(path.to_owned()),
    }
}

/// `.NAME.palisade` in the same folder: globs for file names pass over a leading dot.
fn beside(target: &Path) -> io::Result<PathBuf> {
    let mut name = OsString::from(".");
    name.push(target.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(".palisade");
    Ok(target.with_file_name(name))
}

fn new(path: &Path, text: &[u8], old: Option<&Metadata>) -> io::Result<()> {
    // One may be left from a crash. There is one of us only, so it is nobody's.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    let own = file.metadata()?;
    if let Some(old) = old.filter(|old| (old.uid(), old.gid()) != (own.uid(), own.gid())) {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    let mode = old.map_or(MODE, |old| old.mode() & 0o7777);
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    #[test]
    fn mode_owner_and_link_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        chown(&real, Some(7), Some(8)).unwrap();
        symlink("real", &link).unwrap();
        let (text, seen) = read(&link).unwrap();
        assert_eq!(text, b"old");
        let before = fs::metadata(&real).unwrap().ino();
        write(&link, b"new", &seen).unwrap().unwrap();
        let meta = fs::metadata(&real).unwrap();
        assert_eq!((fs::read(&real).unwrap(), meta.mode() & 0o7777, meta.uid(), meta.gid()), (b"new".to_vec(), 0o640, 7, 8));
        assert_ne!(meta.ino(), before, "another file in its place, not the same one written over");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside");
    }

    #[test]
    fn what_somebody_wrote_meanwhile_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let (text, none) = read(&path).unwrap();
        assert!(text.is_empty());
        fs::write(&path, "theirs").unwrap();
        assert_eq!(write(&path, b"ours", &none).unwrap(), None);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let (_, seen) = read(&path).unwrap();
        assert!(write(&path, b"ours", &seen).unwrap().is_some());
        assert!(!seen.still(&path).unwrap());
    }

    #[test]
    fn a_new_file_is_for_everybody_to_read_and_a_left_over_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts.deny");
        fs::write(dir.path().join(".hosts.deny.palisade"), "left from a crash, and longer").unwrap();
        let (_, seen) = read(&path).unwrap();
        write(&path, b"x", &seen).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn what_cannot_be_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_err(), "a folder is no file");
        assert!(writable(&dir.path().join("no/file")).is_err());
        assert!(writable(&dir.path().join("file")).is_ok());
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        assert!(writable(&dir.path().join("dangling")).is_err(), "a link to nowhere is not guessed at");
    }
}
