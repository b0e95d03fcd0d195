//! Files in folders that are not ours alone, opened and replaced so that whoever else writes there gains nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use crate::privileges::is_root;

/// Opens a file to read it. What is no regular file is refused, and a FIFO put in its place does not hold us up.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open(path, 0)
}

/// The same, but a file that anybody may have planted is refused: it must be root's or a system user's (below
/// [`FIRST_PERSON`]), and in a folder that everybody may write to it must be root's and no link.
pub fn open_of_system(path: &Path) -> io::Result<File> {
    let public = path.parent().is_some_and(|dir| fs::metadata(dir).is_ok_and(|meta| meta.mode() & 0o002 != 0));
    let file = open(path, if public { libc::O_NOFOLLOW } else { 0 })?;
    let uid = file.metadata()?.uid();
    if uid == 0 || !public && uid < FIRST_PERSON {
        return Ok(file);
    }
    let place = if public { ", in a folder that everybody may write to" } else { "" };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it is not used, since it is of user {uid}{place}")))
}

/// Users below are the system's own (login.defs(5), `UID_MIN`).
const FIRST_PERSON: u32 = 1000;

fn open(path: &Path, more: i32) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC | more).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

/// Puts a small file in its place whole, given to the owner of its directory. That owner may be anybody, so no link of
/// his is followed: the new file is made under another name, where nothing may be, and renamed. File and name are on the
/// disk when this returns.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(beside)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if is_root() {
        let meta = fs::metadata(dir)?;
        fchown(&file, Some(meta.uid()), Some(meta.gid()))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;

    #[test]
    fn a_fifo_is_refused_without_waiting_for_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(open_regular(&path).unwrap_err().to_string().contains("no regular file"));
        assert!(open_regular(dir.path()).is_err());
    }

    #[test]
    fn a_file_that_anybody_may_have_planted_is_refused() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("leases"), dir.path().join("link"));
        fs::write(&path, "").unwrap();
        symlink(&path, &link).unwrap();
        for (mode, uid, file, linked) in [
            (0o755, 0, true, true),
            (0o755, 999, true, true),
            (0o755, 1000, false, false),
            (0o755, 65534, false, false),
            (0o1777, 0, true, false),
            (0o1777, 999, false, false),
        ] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            chown(&path, Some(uid), None).unwrap();
            assert_eq!((open_of_system(&path).is_ok(), open_of_system(&link).is_ok()), (file, linked), "{mode:o} {uid}");
            assert!(open_regular(&link).is_ok());
        }
        assert!(open_of_system(&path).unwrap_err().to_string().contains("user 999"));
    }

    #[test]
    fn a_file_is_replaced_without_following_its_owners_links() {
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(1234), Some(4321)).unwrap();
        let (path, trap, target) = (dir.path().join("word"), dir.path().join("word.new"), dir.path().join("precious"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &trap).unwrap();
        for text in ["one", "two"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), target.metadata().unwrap().uid()), ("precious", 0));
        let meta = path.metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (1234, 4321, 0o640));
    }
}
