//! One open file and how far it was read.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use palisade_core::time::Tick;

use super::super::cutter::{Cutter, Piece};
use super::position::{FileId, HEAD, Mark, hash};

/// A directory is looked through for a rotated file up to this many names.
const NAMES_MAX: usize = 10_000;

/// Why a path is not read.
#[derive(Debug)]
pub(super) enum Refused {
    Missing,
    /// We may not enter its directory.
    DirDenied,
    /// We may not read it. What is there: a file and its size.
    Denied(FileId, u64),
    /// It is no regular file, but this.
    Kind(&'static str),
    System(io::Error),
}

/// A regular file, just opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) size: u64,
}

/// Which file stands at `path`, and its size, without opening it.
pub(super) fn look(path: &Path) -> Result<(FileId, u64), Refused> {
    let meta = fs::symlink_metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refused::Missing,
        io::ErrorKind::PermissionDenied => Refused::DirDenied,
        _ => Refused::System(error),
    })?;
    regular(&meta)?;
    Ok((FileId { dev: meta.dev(), ino: meta.ino() }, meta.len()))
}

fn regular(meta: &fs::Metadata) -> Result<(), Refused> {
    let kind = meta.file_type();
    Err(Refused::Kind(match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }))
}

/// Opens a regular file for reading.
///
/// The last component must be no symbolic link: a service may write in its own log directory and
/// could point its log at any file. Links above it are fine: they are in directories the
/// administrator owns, and `/var/log` itself may well be one. Looked at before it is opened, as
/// opening some devices does things; opened so that a FIFO put there meanwhile does not block.
pub(super) fn open(path: &Path) -> Result<Opened, Refused> {
    let (id, size) = look(path)?;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Refused::Missing,
        io::ErrorKind::PermissionDenied => Refused::Denied(id, size),
        // By O_NOFOLLOW; the latter is FreeBSD's (open(2)).
        _ if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EMLINK)) => Refused::Kind("a symbolic link"),
        _ => Refused::System(error),
    })?;
    let meta = file.metadata().map_err(Refused::System)?;
    regular(&meta)?;
    Ok(Opened { id: FileId { dev: meta.dev(), ino: meta.ino() }, size: meta.len(), file })
}

/// Opens the file with this inode in `dir`, whatever its name is now, and tells the name.
pub(super) fn find(dir: &Path, ino: u64) -> Option<(Opened, OsString)> {
    fs::read_dir(dir)
        .ok()?
        .flatten()
        .take(NAMES_MAX)
        .filter(|entry| entry.metadata().is_ok_and(|meta| meta.ino() == ino))
        .find_map(|entry| open(&entry.path()).ok().filter(|opened| opened.id.ino == ino).map(|opened| (opened, entry.file_name())))
}

/// What a read of a tail came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// How much was read.
    pub(super) bytes: usize,
    /// Whether the end was reached.
    pub(super) end: bool,
    /// Whether [`Tail::mark`] is another now.
    pub(super) moved: bool,
}

/// A file being followed.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    pub(super) id: FileId,
    /// Up to where it was read.
    read: u64,
    /// Its first bytes, to see that it is still the same content: at least as many as were read, up
    /// to [`HEAD`].
    head: Vec<u8>,
    cutter: Cutter,
    pub(super) watch: Option<i32>,
    /// It may have grown.
    pub(super) dirty: bool,
    /// When it last grew, or was seen to be replaced.
    pub(super) quiet_from: Tick,
}

impl Tail {
    fn new(opened: Opened, read: u64, head: Vec<u8>, line_max: usize) -> Self {
        let Opened { file, id, .. } = opened;
        Self { file, id, read, head, cutter: Cutter::new(line_max), watch: None, dirty: true, quiet_from: Tick(0) }
    }

    /// From its first line.
    pub(super) fn begin(opened: Opened, line_max: usize) -> Self {
        Self::new(opened, 0, Vec::new(), line_max)
    }

    /// From the first line that was not complete when the file had `size` bytes: what is older is
    /// history, and a fragment must not look like a line.
    pub(super) fn history(opened: Opened, size: u64, line_max: usize) -> io::Result<Self> {
        let head = head_of(&opened.file, HEAD)?;
        let size = size.min(opened.size);
        // With no newline in so many bytes the line is over-long, and reading from there finds it so.
        let span = size.min(line_max as u64 + 2);
        let mut last = vec![0; usize::try_from(span).unwrap_or(0)];
        opened.file.read_exact_at(&mut last, size - span)?;
        let start = last.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
        Ok(Self::new(opened, size - span + start, head, line_max))
    }

    /// From a mark; `None` where it is not the content that was marked.
    pub(super) fn resume(opened: Opened, mark: Mark, line_max: usize) -> Result<Self, Opened> {
        match head_of(&opened.file, mark.head) {
            Ok(head) if opened.size >= mark.offset && head.len() == mark.head && hash(&head) == mark.hash => {
                Ok(Self::new(opened, mark.offset, head, line_max))
            }
            _ => Err(opened),
        }
    }

    /// How far its lines were handed out.
    pub(super) fn mark(&self) -> Mark {
        Mark { id: self.id, offset: self.read - self.cutter.pending(), head: self.head.len(), hash: hash(&self.head) }
    }

    /// How much of it was not read yet.
    pub(super) fn behind(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len().saturating_sub(self.read))
    }

    /// Whether no name leads to it any more.
    pub(super) fn unlinked(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// Reads the next piece into `buffer` and hands out the lines that end in it.
    pub(super) fn step(&mut self, buffer: &mut [u8], take: &mut dyn FnMut(Piece<'_>)) -> io::Result<Step> {
        let bytes = retry(|| self.file.read_at(buffer, self.read))?;
        // Checked after the read: what was read before a truncation is good, what was read after it
        // is not.
        if !self.same(bytes)? {
            self.read = 0;
            self.head.clear();
            self.cutter.reset();
            return Ok(Step { bytes: 0, end: false, moved: true });
        }
        let end = bytes < buffer.len();
        if bytes == 0 {
            return Ok(Step { bytes, end, moved: false });
        }
        let before = self.mark_offset();
        self.keep_head(&buffer[..bytes]);
        self.cutter.blocks(&buffer[..bytes], take);
        self.read += bytes as u64;
        Ok(Step { bytes, end, moved: self.mark_offset() != before })
    }

    fn mark_offset(&self) -> u64 {
        self.read - self.cutter.pending()
    }

    /// Whether the content is still that of which the beginning was read.
    fn same(&self, bytes: usize) -> io::Result<bool> {
        let mut head = [0; HEAD];
        let head = &mut head[..self.head.len()];
        let got = retry(|| self.file.read_at(head, 0))?;
        if head[..got] != self.head[..] {
            return Ok(false);
        }
        Ok(bytes > 0 || self.file.metadata()?.len() >= self.read)
    }

    fn keep_head(&mut self, piece: &[u8]) {
        let missing = HEAD - self.head.len();
        // Until the head is full it reaches at least as far as was read.
        let Some(skip) = (self.head.len() as u64).checked_sub(self.read) else { return };
        let new = piece.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).take(missing);
        self.head.extend(new);
    }
}

fn head_of(file: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut head = vec![0; len];
    let got = retry(|| file.read_at(&mut head, 0))?;
    head.truncate(got);
    Ok(head)
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
