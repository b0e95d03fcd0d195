//! The last good list of a feed, on the disk: one file, replaced in one step, so that what is known of a list and
//! the list itself are never of two different ones.
//!
//! | line | what |
//! |---|---|
//! | first | `# palisade feed ` and a [`Header`] in JSON |
//! | others | a member each, sorted: a plain table, which `palisade import plain` reads too |
//!
//! The file's time of modification is when the list was last what its keeper has.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use palisade_core::config::Feed;
use palisade_core::feeds::LeftOut;
use palisade_core::net::Prefix;
use palisade_core::tables::{Format, Item, Reader};
use palisade_core::time::Stamp;
use palisade_os::privileges::own_like_dir;
use serde::{Deserialize, Serialize};

/// What the first line begins with.
const FIRST: &str = "# palisade feed ";

/// The longest first line, in bytes: a URL, two marks and some numbers.
const FIRST_MAX: u64 = 16 * 1024;

/// By what a list is known again, in its keeper's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marks {
    /// `ETag` (RFC 9110 8.8.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    /// `Last-Modified` (RFC 9110 8.8.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) modified: Option<String>,
    /// A file's time, size and number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
}

/// What is known of a kept list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Where it is from.
    pub(super) source: String,
    /// In which form it was read.
    format: String,
    #[serde(flatten)]
    pub(super) marks: Marks,
    /// What of it is not followed.
    pub(super) left_out: LeftOut,
    /// When it was last what its keeper has.
    #[serde(skip, default = "never")]
    pub(super) seen: Stamp,
}

const fn never() -> Stamp {
    Stamp(0)
}

impl Header {
    /// Of a copy that was just taken.
    pub(super) fn of(feed: &Feed, marks: Marks, left_out: LeftOut, now: Stamp) -> Self {
        Self { source: feed.source.to_string(), format: feed.format.to_string(), marks, left_out, seen: now }
    }

    /// Whether the list is from where the feed's is now, and was read as it is now.
    pub(super) fn is_of(&self, feed: &Feed) -> bool {
        self.source == feed.source.to_string() && self.format == feed.format.to_string()
    }
}

/// Reads a kept list. What cannot be read is no list.
pub(super) fn read(path: &Path) -> Option<(Header, Vec<Prefix>)> {
    let file = File::open(path).ok()?;
    let meta = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let mut reader = BufReader::with_capacity(super::PIECE, file.take(super::LIST_MAX));
    let mut first = String::new();
    (&mut reader).take(FIRST_MAX).read_line(&mut first).ok()?;
    let mut header: Header = serde_json::from_str(first.strip_prefix(FIRST)?).ok()?;
    header.seen = meta.modified().ok().map_or(never(), stamp);
    let mut members = Vec::new();
    let mut whole = true;
    let mut take = |_, item| match item {
        Item::Ban(row) => members.push(row.prefix),
        _ => whole = false,
    };
    let mut table = Reader::new(Format::Plain, header.seen);
    loop {
        let piece = reader.fill_buf().ok()?;
        if piece.is_empty() {
            break;
        }
        table.push(piece, &mut take);
        let n = piece.len();
        reader.consume(n);
    }
    table.finish(&mut take);
    // Sorted and apart is how it was written; somebody's hand may have been in it since.
    let apart = members.windows(2).all(|pair| pair[0] < pair[1] && !pair[0].covers(&pair[1]));
    (whole && apart && !members.is_empty()).then_some((header, members))
}

/// Keeps a list in place of the former.
pub(super) fn write(path: &Path, header: &Header, members: &[Prefix]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    own_like_dir(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // No feed's name begins with a dot.
    let fresh = folder.join(format!(".{name}.new"));
    let _ = fs::remove_file(&fresh);
    let written = write_new(&fresh, header, members)
        .and_then(|()| own_like_dir(&fresh))
        .and_then(|()| fs::rename(&fresh, path))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn write_new(path: &Path, header: &Header, members: &[Prefix]) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    let mut out = BufWriter::with_capacity(super::PIECE, file);
    writeln!(out, "{FIRST}{}", serde_json::to_string(header)?)?;
    for prefix in members {
        writeln!(out, "{prefix}")?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.set_modified(time(header.seen))?;
    file.sync_all()
}

/// Notes that the kept list is what its keeper has.
pub(super) fn seen(path: &Path, now: Stamp) {
    // At worst it is asked for sooner after the next start.
    let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(time(now)));
}

fn time(stamp: Stamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(stamp.0).unwrap_or_default())
}

fn stamp(time: SystemTime) -> Stamp {
    Stamp(time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or_default())
}
