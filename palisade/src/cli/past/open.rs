//! A log, opened, and by its first bytes what it is: names lie.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Cursor, IsTerminal, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use anyhow::Result;
use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use palisade_core::time::Stamp;
use palisade_os::logs::journal::past;

use super::super::Exit;
use super::super::ask::{Refused, usage};
use super::super::print;
use super::zstd::Frames;

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Kind {
    /// Lines.
    Plain,
    /// Lines in gzip.
    Gzip,
    /// Lines in xz.
    Xz,
    /// Lines in zstd.
    Zstd,
    /// A file of systemd's journal.
    Journal,
}

/// What files begin with: RFC 1952 2.3.1, the .xz format 2.1.1.1, RFC 8878 3.1.1 and 3.1.2, systemd's
/// JOURNAL_FILE_FORMAT.
const MAGIC: [(&[u8], Kind); 5] = [
    (b"\x1f\x8b", Kind::Gzip),
    (b"\xfd7zXZ\0", Kind::Xz),
    (b"\x28\xb5\x2f\xfd", Kind::Zstd),
    (b"\x50\x2a\x4d\x18", Kind::Zstd),
    (past::MAGIC, Kind::Journal),
];

/// What is not read, and what reads it. The first bytes of bzip2, lz4's frames and compress(1).
const OTHERS: [(&[u8], &str, &str); 3] =
    [(b"BZh", "bzip2", "bzcat"), (b"\x04\x22\x4d\x18", "lz4", "lz4cat"), (b"\x1f\x9d", "compress", "zcat")];

/// The longest magic.
const HEAD: usize = 8;

/// What unpacking may take: xz's largest preset wants 65 MiB, so nobody's log needs more than this.
const XZ_MEMORY: u64 = 128 << 20;

/// How much of a packed file is read at once.
const PACKED: usize = 128 * 1024;

/// A log that can be read once, from its begin to its end.
pub(in crate::cli) struct Opened {
    /// What it is.
    pub(in crate::cli) kind: Kind,
    /// How many bytes it has, packed; `None` for a pipe.
    pub(in crate::cli) size: Option<u64>,
    /// When it was last written to; `None` for a pipe.
    pub(in crate::cli) modified: Option<Stamp>,
    input: Box<dyn Read + Send>,
}

/// Files that were named together: of several, one that cannot be read is told, and the others are read all the same.
pub(in crate::cli) struct Several<'a> {
    files: &'a [PathBuf],
    unread: usize,
}

impl<'a> Several<'a> {
    pub(in crate::cli) const fn new(files: &'a [PathBuf]) -> Self {
        Self { files, unread: 0 }
    }

    /// Opens one of them; `None`, told, where it cannot be read. An error where that is so of all.
    pub(in crate::cli) fn open(&mut self, path: &Path) -> Result<Option<Opened>> {
        let error = match Opened::open(path) {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) => error,
        };
        self.unread += 1;
        if self.unread >= self.files.len() {
            return Err(error);
        }
        print::say(&error);
        Ok(None)
    }

    /// Whether all were opened so far.
    pub(in crate::cli) const fn all(&self) -> bool {
        self.unread == 0
    }

    /// The exit code, where it would be this one had all been read.
    pub(in crate::cli) const fn exit(&self, exit: Exit) -> Exit {
        if self.all() { exit } else { Exit::Degraded }
    }
}

impl Opened {
    /// Opens a file, or standard input for `-`.
    pub(in crate::cli) fn open(path: &Path) -> Result<Self> {
        let wrong = |why: &dyn Display| usage(format_args!("cannot read {}: {why}", path.display()));
        if path.as_os_str() == "-" {
            if io::stdin().is_terminal() {
                print::say("reading lines from standard input; Ctrl-D ends them");
            }
            return Self::of(Box::new(io::stdin())).map_err(|error| wrong(&error));
        }
        let file = File::open(path).map_err(|error| wrong(&error))?;
        let about = file.metadata().map_err(|error| wrong(&error))?;
        if about.is_dir() {
            return Err(wrong(&"it is a directory"));
        }
        if !about.is_file() {
            return Self::of(Box::new(file)).map_err(|error| wrong(&error));
        }
        let modified = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified = modified.and_then(|since| i64::try_from(since.as_millis()).ok()).map(Stamp);
        Self::of_file(file, about.len(), modified).map_err(|error| wrong(&error))
    }

    fn of_file(mut file: File, size: u64, modified: Option<Stamp>) -> io::Result<Self> {
        let kind = kind(&head(&mut file)?)?;
        file.rewind()?;
        Ok(Self { kind, size: Some(size), modified, input: Box::new(file) })
    }

    fn of(mut input: Box<dyn Read + Send>) -> io::Result<Self> {
        let head = head(&mut input)?;
        let kind = kind(&head)?;
        if kind == Kind::Journal {
            return Err(io::Error::other("it is a journal file in a pipe; name the file itself"));
        }
        Ok(Self { kind, size: None, modified: None, input: Box::new(Cursor::new(head).chain(input)) })
    }

    /// Whether it is a pipe: what is read from it may be all there is for a long time.
    pub(in crate::cli) const fn is_pipe(&self) -> bool {
        self.size.is_none()
    }

    /// Its lines, unpacked. `read` counts the bytes that are read of the file. For a journal, use [`journal`].
    pub(in crate::cli) fn reader(self, read: Arc<AtomicU64>) -> io::Result<Box<dyn Read + Send>> {
        let input = Counted { input: self.input, read };
        let packed = |input| BufReader::with_capacity(PACKED, input);
        Ok(match self.kind {
            Kind::Plain | Kind::Journal => Box::new(input),
            Kind::Gzip => Box::new(MultiGzDecoder::new(packed(input))),
            Kind::Xz => Box::new(XzDecoder::new_stream(packed(input), Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?)),
            Kind::Zstd => Box::new(Frames::new(packed(input))),
        })
    }
}

/// Reads a journal file to its end; see [`past::read`].
pub(in crate::cli) fn journal(
    path: &Path,
    wanted: &[(usize, Option<String>)],
    message_max: usize,
    take: &mut dyn FnMut(past::Take<'_>) -> bool,
) -> io::Result<()> {
    let options = palisade_os::logs::journal::Options { message_max, ..Default::default() };
    past::read(&path.canonicalize()?, wanted, &options, take).map_err(|error| match std::error::Error::source(&error) {
        Some(source) => io::Error::other(format!("{error}: {source}")),
        None => io::Error::other(error),
    })
}

/// What is not read to its end: whatever is broken there is neither the asker's words nor a fault of ours.
pub(in crate::cli) fn unread(path: &Path) -> impl Fn(io::Error) -> anyhow::Error {
    let path = path.display().to_string();
    move |error| {
        let message = format!("palisade: {path}: {error}; what could be read of it counts");
        anyhow::Error::new(Refused { exit: Exit::Degraded, message })
    }
}

/// The first bytes, as many as there are.
fn head(input: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    input.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn kind(head: &[u8]) -> io::Result<Kind> {
    if let Some((_, format, program)) = OTHERS.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Err(io::Error::other(format!(
            "it is packed with {format}, which is not read; unpack it: `{program} FILE | palisade ... -`"
        )));
    }
    Ok(MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map_or(Kind::Plain, |(_, kind)| *kind))
}

/// Counts what is read.
struct Counted {
    input: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(out)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
