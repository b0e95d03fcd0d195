//! The kernel's notices about files and directories.
//!
//! `struct inotify_event` (inotify(7)), native byte order:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | watch |
//! | 4 | 4 | mask |
//! | 8 | 4 | cookie: ties MOVED_FROM to MOVED_TO |
//! | 12 | 4 | length of the name, padding included |
//! | 16 | n | name in the directory, NUL padded |

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::watcher::{Change, Told};

/// Its name in problems.
pub(super) const NAME: &str = "inotify";

/// What to do when it watches no more.
pub(super) const LIMITS: &str =
    "no inotify watches are left: files are looked at every 250 ms; raise fs.inotify.max_user_watches and max_user_instances";

/// Whether this error means that the limits are reached.
pub(super) fn limit_reached(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOSPC)
}

/// What a directory tells: names that come, go or change their rights, and its own end.
const DIR: u32 = libc::IN_CREATE
    | libc::IN_MOVED_FROM
    | libc::IN_MOVED_TO
    | libc::IN_DELETE
    | libc::IN_ATTRIB
    | libc::IN_DELETE_SELF
    | libc::IN_MOVE_SELF
    | libc::IN_ONLYDIR;

/// What a file tells: that it grew or shrank.
const FILE: u32 = libc::IN_MODIFY;

/// The size of an event without its name.
const HEAD: usize = 16;

/// Notices are read in pieces of this size: a few hundred.
const EVENTS: usize = 16 * 1024;

/// One notice, as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Event<'a> {
    watch: i32,
    mask: u32,
    cookie: u32,
    name: &'a OsStr,
}

/// An inotify descriptor.
#[derive(Debug)]
pub(super) struct Inotify(OwnedFd);

impl Inotify {
    pub(super) fn open() -> io::Result<Self> {
        // SAFETY: plain system call without pointers; the result is checked.
        let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, is open and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches a directory. The same directory gives the same watch again.
    pub(super) fn dir(&mut self, path: &Path) -> io::Result<i32> {
        self.add(path, DIR)
    }

    /// Watches the very file that is open, whatever its name is by now.
    pub(super) fn file(&mut self, file: BorrowedFd<'_>) -> io::Result<i32> {
        self.add(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), FILE)
    }

    fn add(&self, path: &Path, mask: u32) -> io::Result<i32> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: `path` is a live NUL-terminated string that is only read.
        let watch = unsafe { libc::inotify_add_watch(self.0.as_raw_fd(), path.as_ptr(), mask) };
        if watch < 0 { Err(io::Error::last_os_error()) } else { Ok(watch) }
    }

    /// Ends a watch. One that ended by itself is no error.
    pub(super) fn remove(&mut self, watch: i32) {
        // SAFETY: plain system call without pointers.
        unsafe { libc::inotify_rm_watch(self.0.as_raw_fd(), watch) };
    }

    /// Hands out all notices. Never blocks.
    pub(super) fn drain(&mut self, take: &mut dyn FnMut(Told<'_>)) {
        let mut buffer = [0u8; EVENTS];
        loop {
            let len = self.read(&mut buffer);
            let mut bytes = &buffer[..len];
            while let Some((event, rest)) = next_event(bytes) {
                let told = told(event);
                #[cfg(test)]
                let told = if tests::WITHOUT_NAMES.get() { tests::without_name(told) } else { told };
                take(told);
                bytes = rest;
            }
            if len == 0 {
                return;
            }
        }
    }

    /// Reads what is there into `buffer`; 0 when nothing is. Never blocks.
    fn read(&self, buffer: &mut [u8]) -> usize {
        loop {
            // SAFETY: pointer and length are of a live slice of ours, which the kernel fills.
            let got = unsafe { libc::read(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
            match usize::try_from(got) {
                Ok(len) => return len,
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return 0,
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What an event means.
fn told(event: Event<'_>) -> Told<'_> {
    let Event { watch, mask, cookie, name } = event;
    let has = |bits: u32| mask & bits != 0;
    if has(libc::IN_Q_OVERFLOW) {
        Told::Lost
    } else if has(libc::IN_IGNORED) {
        Told::Over(watch)
    } else if !name.is_empty() {
        let change = match () {
            () if has(libc::IN_DELETE) => Change::Went,
            () if has(libc::IN_MOVED_FROM) => Change::MovedAway(cookie),
            () if has(libc::IN_MOVED_TO) => Change::MovedHere(cookie),
            () if has(libc::IN_CREATE) => Change::Came,
            () => Change::Other,
        };
        Told::Name { watch, name, change }
    } else if has(libc::IN_DELETE_SELF | libc::IN_MOVE_SELF) {
        Told::Dir
    } else {
        Told::File { watch, moved: false }
    }
}

/// The first event in `bytes`, and the rest. Ends at anything cut short.
fn next_event(bytes: &[u8]) -> Option<(Event<'_>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (name, rest) = rest.split_at_checked(usize::try_from(word(12)).ok()?)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some((Event { watch: word(0).cast_signed(), mask: word(4), cookie: word(8), name: OsStr::from_bytes(name) }, rest))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::cell::Cell;
    use std::fs::{self, File};

    thread_local! {
        /// Whether notices come as kqueue's do.
        pub(in super::super) static WITHOUT_NAMES: Cell<bool> = const { Cell::new(false) };
    }

    /// What kqueue would have told.
    pub(super) fn without_name(told: Told<'_>) -> Told<'_> {
        match told {
            Told::Name { watch, change: Change::Other, .. } => Told::File { watch, moved: false },
            Told::Name { .. } => Told::Dir,
            other => other,
        }
    }

    #[test]
    fn tells_what_happens_in_a_directory_and_to_an_open_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut inotify = Inotify::open().unwrap();
        let watch = inotify.dir(dir.path()).unwrap();
        assert_eq!(inotify.dir(dir.path()).unwrap(), watch);
        let file = File::create(dir.path().join("a")).unwrap();
        let growth = inotify.file(file.as_fd()).unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        io::Write::write_all(&mut &file, b"x").unwrap();
        let mut buffer = [0; 4096];
        let len = inotify.read(&mut buffer);
        let (mut bytes, mut seen) = (&buffer[..len], Vec::new());
        while let Some((event, rest)) = next_event(bytes) {
            seen.push((event.watch, event.mask, event.name.to_str().unwrap().to_owned()));
            bytes = rest;
        }
        let expect = [
            (watch, libc::IN_CREATE, "a".to_owned()),
            (watch, libc::IN_MOVED_FROM, "a".to_owned()),
            (watch, libc::IN_MOVED_TO, "b".to_owned()),
            (growth, libc::IN_MODIFY, String::new()),
        ];
        assert_eq!(seen, expect);
        assert_eq!(inotify.read(&mut buffer), 0);
        assert!(inotify.dir(&dir.path().join("b")).is_err(), "a file is no directory");
    }

    #[test]
    fn cut_events_end_the_list() {
        assert!(next_event(&[0; 15]).is_none());
        let mut long = [0; 16];
        long[12] = 200;
        assert!(next_event(&long).is_none());
    }
}
