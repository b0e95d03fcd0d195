//! What the kernel tells of files and directories, in one shape; which kernel, is chosen here.
//!
//! | system | how it tells | what it does not tell |
//! |---|---|---|
//! | Linux | [`inotify`](super::inotify) | |
//! | FreeBSD | `kqueue` | which name in a directory is another, nor that a name's rights are |

use std::ffi::OsStr;

#[cfg(target_os = "linux")]
pub(super) use super::inotify::{Inotify as Watcher, LIMITS, NAME, limit_reached};
#[cfg(target_os = "freebsd")]
pub(super) use super::kqueue::{Kqueue as Watcher, LIMITS, NAME, limit_reached};

/// One notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told<'a> {
    /// There were more than the kernel keeps, and the rest is lost.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "kqueue merges and loses nothing"))]
    Lost,
    /// The kernel has ended this watch.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "kqueue watches until it is told not to"))]
    Over(i32),
    /// A file that is read is another than it was.
    File {
        /// Its watch.
        watch: i32,
        /// It is at another name, or at none: look at the path it is read by.
        moved: bool,
    },
    /// A directory is at another name, or at none, or what is in it is another and nothing says what.
    Dir,
    /// Something happened to a name in a directory.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "kqueue tells no names"))]
    Name {
        /// The directory's watch.
        watch: i32,
        /// In the directory.
        name: &'a OsStr,
        /// What.
        change: Change,
    },
}

/// What can happen to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "kqueue tells no names"))]
pub(super) enum Change {
    /// It was not there before.
    Came,
    /// It is there no more, and its file at no other name that we are told of.
    Went,
    /// Its file is on the way to the name that is told of with the same number.
    MovedAway(u32),
    /// The file that moved away with this number is here.
    MovedHere(u32),
    /// Its rights, or something that does not matter.
    Other,
}
