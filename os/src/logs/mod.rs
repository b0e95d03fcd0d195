//! Where lines come from: files, the journal, standard input.
//!
//! All three deliver bytes bounded in size, say how far they have got only after the lines that
//! cover it, report a source that cannot be read as a problem (never as an error that stops the
//! others), and block nowhere: they have descriptors and deadlines to poll.

mod cutter;
pub mod files;
pub mod journal;
pub mod stdin;

pub use files::{FileSpec, Files};
pub use journal::Journal;
pub use stdin::Stdin;

use std::path::Path;

/// What an input hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take<'a> {
    /// A line, without its line end.
    Line {
        /// Whose line: the number its owner gave.
        source: usize,
        /// Where it was read.
        path: &'a Path,
        /// The line. Anything but a newline may be in it.
        bytes: &'a [u8],
    },
    /// Whole lines one after another, each with its line end: what a chunk of a file held. They are
    /// to be split at newlines, and a `\r` before one is of the line end.
    Block {
        /// Whose lines.
        source: usize,
        /// Where they were read.
        path: &'a Path,
        /// The lines. None is over the cap.
        bytes: &'a [u8],
    },
    /// A line over the cap went by and was dropped whole.
    Oversize {
        /// Whose line.
        source: usize,
        /// Where.
        path: &'a Path,
        /// How long it was.
        bytes: u64,
    },
    /// All up to here has been handed out, and nothing beyond. To be kept with what the lines led to.
    Position {
        /// One of the sources that read it.
        source: usize,
        /// What is read: the key to keep it under.
        path: &'a Path,
        /// Opaque; the same module reads it.
        position: &'a str,
    },
    /// Something is not read as it should be. Tried again by itself. Told once until it changes.
    Problem {
        /// Whose.
        source: usize,
        /// What it is about: a path or a pattern.
        about: &'a str,
        /// What is wrong and what to do about it.
        what: &'a str,
        /// Nothing is broken, there is just nothing to read yet.
        soft: bool,
    },
    /// That problem is over.
    Solved {
        /// Whose.
        source: usize,
        /// What the problem was about.
        about: &'a str,
    },
}

/// Why an input cannot be opened as described. Missing or unreadable files are no such error.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The path or pattern makes no sense.
    #[error("`{pattern}` cannot be followed: {why}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The journal match makes no sense.
    #[error("`{text}` is no journal match: {why}; write it like _SYSTEMD_UNIT=ssh.service")]
    Match {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no `journalctl`.
    #[error("no journalctl in /usr/bin or /bin; install systemd, or read log files instead")]
    NoJournalctl,
    /// The system said no.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}
