//! The notices of kqueue(2) about files and directories (`EVFILT_VNODE`).
//!
//! | bit | name | of a file | of a directory |
//! |---|---|---|---|
//! | 0x01 | `NOTE_DELETE` | a name of it was removed | the same |
//! | 0x02 | `NOTE_WRITE` | it was written | a name in it came, went or moved |
//! | 0x04 | `NOTE_EXTEND` | it grew | the same |
//! | 0x08 | `NOTE_ATTRIB` | its rights, times or length (truncated) | |
//! | 0x20 | `NOTE_RENAME` | it was renamed | the same |
//! | 0x40 | `NOTE_REVOKE` | its file system went | the same |
//!
//! Sources: kqueue(2); which operation gives which, in FreeBSD's sys/kern/vfs_subr.c (`vop_*_post`). A directory
//! says only that something is another, so what is in it is listed again. A watch needs an open descriptor: a
//! file has one, as it is read; of a directory one is opened. So a file that may not be read, and one in a
//! directory that may not be listed, is seen only when all is looked at.

#[cfg(target_os = "freebsd")]
pub(super) use self::freebsd::{Kqueue, LIMITS, NAME, limit_reached};
use super::watcher::Told;

const DELETE: u32 = 0x01;
const WRITE: u32 = 0x02;
const EXTEND: u32 = 0x04;
const ATTRIB: u32 = 0x08;
const RENAME: u32 = 0x20;
const REVOKE: u32 = 0x40;

/// What a file is watched for: that it grew or shrank, or is at another name.
const FILE: u32 = DELETE | WRITE | EXTEND | ATTRIB | RENAME | REVOKE;

/// What a directory is watched for: names that come, go or move, and its own end.
const DIR: u32 = DELETE | WRITE | EXTEND | RENAME | REVOKE;

/// What these bits of a watch mean.
fn told(watch: i32, is_dir: bool, bits: u32) -> Option<Told<'static>> {
    match bits & if is_dir { DIR } else { FILE } {
        0 => None,
        _ if is_dir => Some(Told::Dir),
        bits => Some(Told::File { watch, moved: bits & (DELETE | RENAME | REVOKE) != 0 }),
    }
}

#[cfg(target_os = "freebsd")]
mod freebsd {
    use std::collections::HashMap;
    use std::fs::{self, File, OpenOptions};
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    use std::path::Path;

    use super::super::position::FileId;
    use super::{DIR, FILE, told};
    use crate::bsd::kqueue::Queue;
    use crate::logs::files::watcher::Told;

    const _: () = assert!(
        FILE == libc::NOTE_DELETE | libc::NOTE_WRITE | libc::NOTE_EXTEND | libc::NOTE_ATTRIB | libc::NOTE_RENAME | libc::NOTE_REVOKE
    );

    /// Its name in problems.
    pub(in super::super) const NAME: &str = "kqueue";

    /// What to do when it watches no more.
    pub(in super::super) const LIMITS: &str =
        "no descriptors are left to watch files with: they are looked at every 250 ms; raise kern.maxfilesperproc and the service's limit";

    /// Whether this error means that the limits are reached.
    pub(in super::super) fn limit_reached(error: &io::Error) -> bool {
        matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
    }

    /// The queue, and the directories that are open for it. A watch's number is its descriptor's.
    #[derive(Debug)]
    pub(in super::super) struct Kqueue {
        queue: Queue,
        dirs: HashMap<i32, (FileId, File)>,
    }

    impl Kqueue {
        pub(in super::super) fn open() -> io::Result<Self> {
            Ok(Self { queue: Queue::open()?, dirs: HashMap::new() })
        }

        /// Watches a directory. The same directory gives the same watch again.
        pub(in super::super) fn dir(&mut self, path: &Path) -> io::Result<i32> {
            let there = id(&fs::metadata(path)?);
            if let Some(watch) = self.known(there) {
                return Ok(watch);
            }
            let flags = libc::O_DIRECTORY | libc::O_NONBLOCK | libc::O_CLOEXEC;
            let dir = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
            // What was opened may be another than what was looked at.
            let there = id(&dir.metadata()?);
            if let Some(watch) = self.known(there) {
                return Ok(watch);
            }
            let watch = self.watch(dir.as_fd(), DIR)?;
            self.dirs.insert(watch, (there, dir));
            Ok(watch)
        }

        fn known(&self, there: FileId) -> Option<i32> {
            self.dirs.iter().find(|(_, (id, _))| *id == there).map(|(watch, _)| *watch)
        }

        /// Watches the very file that is open, whatever its name is by now. The watch ends with the descriptor.
        pub(in super::super) fn file(&mut self, file: BorrowedFd<'_>) -> io::Result<i32> {
            self.watch(file, FILE)
        }

        fn watch(&self, fd: BorrowedFd<'_>, bits: u32) -> io::Result<i32> {
            let watch = fd.as_raw_fd();
            self.queue.watch(usize::try_from(watch).map_err(io::Error::other)?, libc::EVFILT_VNODE, bits)?;
            Ok(watch)
        }

        /// Ends a watch. One that ended by itself is no error.
        pub(in super::super) fn remove(&mut self, watch: i32) {
            // A directory's ends as its descriptor is closed.
            if self.dirs.remove(&watch).is_none()
                && let Ok(ident) = usize::try_from(watch)
            {
                self.queue.forget(ident, libc::EVFILT_VNODE);
            }
        }

        /// Hands out all notices. Never blocks.
        pub(in super::super) fn drain(&mut self, take: &mut dyn FnMut(Told<'_>)) {
            while let Ok(Some(happened)) = self.queue.next() {
                let Ok(watch) = i32::try_from(happened.ident) else { continue };
                if let Some(told) = told(watch, self.dirs.contains_key(&watch), happened.flags) {
                    take(told);
                }
            }
        }
    }

    impl AsFd for Kqueue {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.queue.as_fd()
        }
    }

    fn id(meta: &fs::Metadata) -> FileId {
        FileId { dev: meta.dev(), ino: meta.ino() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_to_a_file_makes_it_be_read_and_what_moves_it_makes_its_path_be_looked_at() {
        for (bits, moved) in [
            (WRITE | EXTEND, false),
            (ATTRIB, false),
            (RENAME, true),
            (DELETE, true),
            (REVOKE, true),
            (WRITE | DELETE, true),
            // Somebody else's bits beside ours change nothing.
            (WRITE | 0x8000_0100, false),
        ] {
            assert_eq!(told(7, false, bits), Some(Told::File { watch: 7, moved }), "{bits:#x}");
        }
        assert_eq!(told(7, false, 0x100), None);
    }

    #[test]
    fn whatever_happens_in_a_directory_makes_it_be_listed_again() {
        for bits in [WRITE, WRITE | 0x10, EXTEND, DELETE, RENAME, REVOKE] {
            assert_eq!(told(3, true, bits), Some(Told::Dir), "{bits:#x}");
        }
        // Its own times and rights say nothing about what is in it.
        assert_eq!(told(3, true, ATTRIB), None);
    }
}
