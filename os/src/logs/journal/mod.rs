//! The journal, through a `journalctl` child that follows it: systemd's own reader knows rotation,
//! vacuuming, compression and namespaces.
//!
//! The child prints every record that any source wants; which source wants which is found here. A
//! newline within a message makes no second line.

mod matches;
pub mod past;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use palisade_core::time::{Span, Stamp, Tick};

use super::LogError;
use super::cutter::{Cut, Cutter};
use crate::clock;
use crate::process::Piped;
use matches::Match;
use record::Fields;

/// Where `journalctl` may be: never looked up in `PATH`.
const PLACES: [&str; 2] = ["/usr/bin/journalctl", "/bin/journalctl"];

/// Where journals are.
const JOURNALS: [&str; 2] = ["/run/log/journal", "/var/log/journal"];

/// A pipe's capacity.
const CHUNK: usize = 64 * 1024;

/// One JSON object at most: bytes that are no text take up to four characters each, so this holds
/// messages of 256 KiB of anything.
const RECORD_MAX: usize = 1024 * 1024;

/// What is kept of what the child complains.
const COMPLAINT_MAX: usize = 1024;

/// A child that died is started anew after this, twice as long each time, up to the latter.
const RETRY: Span = Span::secs(1);
const RETRY_MAX: Span = Span::secs(60);

/// A child that lives so long is well.
const SETTLED: Span = Span::secs(5);

/// The fields a record is made of.
const FIELDS: [&str; 6] = ["MESSAGE", "SYSLOG_IDENTIFIER", "_COMM", "_PID", "SYSLOG_PID", "_UID"];
/// The fields that are printed whether asked for or not.
const CURSOR: &str = "__CURSOR";
const REALTIME: &str = "__REALTIME_TIMESTAMP";

/// Whether there is a journal to read and a program to read it.
pub fn available() -> bool {
    program().is_some() && JOURNALS.iter().any(|dir| Path::new(dir).is_dir())
}

fn program() -> Option<PathBuf> {
    PLACES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The program as it names itself (`SYSLOG_IDENTIFIER`), else as the kernel does (`_COMM`).
    pub ident: &'a [u8],
    /// Its process, as the kernel knows it where known.
    pub pid: Option<u32>,
    /// Its user, as the kernel knows it.
    pub uid: Option<u32>,
    /// The message: any bytes, newlines too.
    pub message: &'a [u8],
    /// Where in the journal.
    pub cursor: &'a str,
    /// When the journal got it.
    pub realtime: Option<Stamp>,
}

/// What the journal hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take<'a> {
    /// A record this source wants. One that two sources want comes twice.
    Record {
        /// Who wants it.
        source: usize,
        /// The record.
        record: Record<'a>,
    },
    /// A message over the cap went by and was dropped whole.
    Oversize {
        /// Who wanted it; `None` when it was too long to tell.
        source: Option<usize>,
        /// How long it was.
        bytes: u64,
    },
    /// All up to here has been handed out. Opaque; to be kept with what the records led to.
    Position {
        /// What [`Journal::open`] takes.
        cursor: &'a str,
    },
    /// The journal is not read as it should be. Tried again by itself.
    Problem {
        /// What is wrong and what to do about it.
        what: &'a str,
    },
    /// That is over.
    Solved,
}

/// How the journal is read; the defaults are right outside of tests.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program; `None` looks for `journalctl`.
    pub program: Option<PathBuf>,
    /// Arguments before the others, like `--directory=DIR`.
    pub extra: Vec<OsString>,
    /// Messages over so many bytes are dropped whole.
    pub message_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { program: None, extra: Vec::new(), message_max: 64 * 1024 }
    }
}

/// The journal, being followed.
#[derive(Debug)]
pub struct Journal {
    program: PathBuf,
    extra: Vec<OsString>,
    message_max: usize,
    matches: Vec<Match>,
    child: Option<Piped>,
    started: Tick,
    /// The running child gave us something.
    useful: bool,
    cutter: Cutter,
    fields: Fields,
    /// Of the last record read.
    cursor: Option<String>,
    /// Where to begin without one: what is older is history.
    since: Stamp,
    /// The position changed since it was last told.
    moved: bool,
    complaint: Vec<u8>,
    trouble: Option<String>,
    retry: Span,
    retry_at: Tick,
    buffer: Box<[u8]>,
}

impl Journal {
    /// Follows what the sources want (`_SYSTEMD_UNIT=ssh.service`; several fields separated by
    /// blanks must all hold, `+` is or) from the kept position on, or from now.
    pub fn open(matches: Vec<(usize, String)>, cursor: Option<String>) -> Result<Self, LogError> {
        Self::open_with(matches, cursor, Options::default())
    }

    /// The same with another program, other arguments or another cap.
    pub fn open_with(matches: Vec<(usize, String)>, cursor: Option<String>, options: Options) -> Result<Self, LogError> {
        let matches = matches.into_iter().map(|(source, text)| Match::parse(source, &text)).collect::<Result<Vec<_>, _>>()?;
        let (cursor, since) = position(cursor.as_deref());
        let mut names: BTreeSet<&str> = FIELDS.into_iter().chain([CURSOR, REALTIME]).collect();
        names.extend(matches.iter().flat_map(|m| m.groups.iter().flatten()).map(|(field, _)| field.as_str()));
        let fields = Fields::new(names.into_iter().map(str::to_owned).collect());
        Ok(Self {
            program: options.program.or_else(program).ok_or(LogError::NoJournalctl)?,
            extra: options.extra,
            message_max: options.message_max,
            matches,
            child: None,
            started: Tick(0),
            useful: false,
            cutter: Cutter::new(RECORD_MAX),
            fields,
            moved: cursor.is_none(),
            cursor,
            since: since.unwrap_or_else(|| clock::now().stamp),
            complaint: Vec::new(),
            trouble: None,
            retry: RETRY,
            retry_at: Tick(0),
            buffer: vec![0; CHUNK].into(),
        })
    }

    /// Becomes readable when there is something to pump. Another one after each restart of the
    /// child, `None` while there is none: ask before each poll.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.child.as_ref().map(|child| child.stdout.as_fd())
    }

    /// When to pump even though nothing became readable.
    pub fn next_deadline(&self) -> Option<Tick> {
        match self.child {
            None => Some(self.retry_at),
            Some(_) => self.trouble.as_ref().filter(|_| self.complaint.is_empty()).map(|_| self.started.plus(SETTLED)),
        }
    }

    /// Reads what is new, up to about `budget_bytes`, and hands it out; then the position this
    /// reached. Whether there is more to read right now. Never blocks; call it once to begin.
    pub fn pump(&mut self, now: Tick, budget_bytes: usize, take: &mut dyn FnMut(Take<'_>)) -> bool {
        if self.child.is_none() && now >= self.retry_at {
            self.start(now, take);
        }
        let mut left = budget_bytes.max(1);
        let mut open = self.child.is_some();
        let mut more = open;
        while open && more && left > 0 {
            let room = left.min(CHUNK);
            let Some(child) = &mut self.child else { break };
            match child.stdout.read(&mut self.buffer[..room]) {
                Ok(0) => open = false,
                Ok(count) => {
                    left -= count;
                    self.feed(count, take);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    more = false;
                    open = error.kind() == io::ErrorKind::WouldBlock;
                }
            }
        }
        self.hear_complaints(take);
        if self.child.is_some() && !open {
            self.ended(now, take);
        } else if self.child.is_some() && now.since(self.started) >= SETTLED && self.complaint.is_empty() {
            self.tell(None, take);
        }
        if std::mem::take(&mut self.moved) {
            match &self.cursor {
                Some(cursor) => take(Take::Position { cursor }),
                None => take(Take::Position { cursor: &format!("@{}", self.since.0) }),
            }
        }
        open && more
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut names: BTreeSet<&str> = FIELDS.into_iter().collect();
        let groups = || self.matches.iter().flat_map(|m| &m.groups);
        names.extend(groups().flatten().map(|(field, _)| field.as_str()));
        let names: Vec<&str> = names.into_iter().collect();
        let mut arguments = self.extra.clone();
        // Without --all, a field over 4096 bytes is printed as null: long messages would hide attacks.
        let fixed = ["--output=json", "--all", "--follow", "--no-tail", "--no-pager"];
        arguments.extend(fixed.map(OsString::from));
        arguments.push(format!("--output-fields={}", names.join(",")).into());
        arguments.push(match &self.cursor {
            Some(cursor) => format!("--after-cursor={cursor}").into(),
            None => format!("--since=@{}.{:03}", self.since.0.div_euclid(1000), self.since.0.rem_euclid(1000)).into(),
        });
        for (n, group) in groups().enumerate() {
            if n > 0 {
                arguments.push("+".into());
            }
            arguments.extend(group.iter().map(|(field, value)| OsString::from(format!("{field}={value}"))));
        }
        arguments
    }

    fn start(&mut self, now: Tick, take: &mut dyn FnMut(Take<'_>)) {
        self.started = now;
        self.useful = false;
        self.cutter.reset();
        self.complaint.clear();
        match Piped::spawn(&self.program, &self.arguments()) {
            Ok(child) => self.child = Some(child),
            Err(error) => {
                self.again_later(now);
                self.tell(Some(format!("{} cannot be started: {error}; tried again", self.program.display())), take);
            }
        }
    }

    fn again_later(&mut self, now: Tick) {
        self.retry_at = now.plus(self.retry);
        self.retry = self.retry.times(2.0).min(RETRY_MAX);
    }

    fn ended(&mut self, now: Tick, take: &mut dyn FnMut(Take<'_>)) {
        let mut child = self.child.take();
        let status = child.as_mut().and_then(|child| child.ended().ok().flatten());
        let status = status.map_or_else(|| "closed its output".to_owned(), |status| format!("ended with {status}"));
        drop(child);
        let complaint = String::from_utf8_lossy(&self.complaint).trim().to_owned();
        self.complaint.clear();
        if self.useful {
            self.retry = RETRY;
        }
        if !self.useful && self.cursor.is_some() && complaint.contains("cursor") {
            self.cursor = None;
            self.since = clock::now().stamp;
            self.moved = true;
            self.retry_at = now;
            let what =
                format!("the journal does not know the kept position ({complaint}); reading on from now, records between are not seen");
            return self.tell(Some(what), take);
        }
        self.again_later(now);
        let hint = "a user that is not root must be a member of group systemd-journal";
        self.tell(Some(format!("journalctl {status}: {complaint}; started again ({hint})")), take);
    }

    fn hear_complaints(&mut self, take: &mut dyn FnMut(Take<'_>)) {
        let Some(child) = &mut self.child else { return };
        let before = self.complaint.len();
        let mut piece = [0; 512];
        while let Ok(count @ 1..) = child.stderr.read(&mut piece) {
            let room = COMPLAINT_MAX - self.complaint.len();
            self.complaint.extend_from_slice(&piece[..count.min(room)]);
        }
        let alive = child.ended().is_ok_and(|status| status.is_none());
        if self.complaint.len() > before && alive {
            let what = format!("journalctl says: {}", String::from_utf8_lossy(&self.complaint).trim());
            self.tell(Some(what), take);
        }
    }

    /// Tells what is wrong now, if it is news.
    fn tell(&mut self, trouble: Option<String>, take: &mut dyn FnMut(Take<'_>)) {
        if self.trouble == trouble {
            return;
        }
        match &trouble {
            Some(what) => take(Take::Problem { what }),
            None => take(Take::Solved),
        }
        self.trouble = trouble;
    }

    fn feed(&mut self, count: usize, take: &mut dyn FnMut(Take<'_>)) {
        let Self { cutter, buffer, fields, matches, cursor, message_max, .. } = self;
        let (mut good, mut bad) = (false, None);
        cutter.feed(&buffer[..count], &mut |cut| match cut {
            Cut::Line([]) => {}
            Cut::Line(json) => match fields.read(json) {
                Ok(()) => {
                    good = true;
                    hand_out(fields, matches, *message_max, take);
                    if let Some(new) = text(fields.first(CURSOR)) {
                        cursor.replace(new.to_owned());
                    }
                }
                Err(error) => bad = Some(format!("journalctl printed what is no record: {error}")),
            },
            Cut::Oversize(bytes) => take(Take::Oversize { source: None, bytes }),
        });
        self.moved |= good;
        self.useful |= good;
        if good || bad.is_some() {
            self.tell(bad, take);
        }
    }
}

/// The record that was read; `None` for one without a message.
fn record_of(fields: &Fields) -> Option<Record<'_>> {
    Some(Record {
        ident: fields.first("SYSLOG_IDENTIFIER").or_else(|| fields.first("_COMM")).unwrap_or_default(),
        pid: fields.number("_PID").or_else(|| fields.number("SYSLOG_PID")),
        uid: fields.number("_UID"),
        message: fields.first("MESSAGE")?,
        cursor: text(fields.first(CURSOR)).unwrap_or_default(),
        realtime: fields.number(REALTIME).map(|micros: i64| Stamp(micros / 1000)),
    })
}

fn hand_out(fields: &Fields, matches: &[Match], message_max: usize, take: &mut dyn FnMut(Take<'_>)) {
    let Some(record) = record_of(fields) else { return };
    let message = record.message;
    let mut told = BTreeSet::new();
    for wanted in matches.iter().filter(|wanted| wanted.holds(&|name| fields.all(name))) {
        if !told.insert(wanted.source) {
            continue;
        }
        take(if message.len() > message_max {
            Take::Oversize { source: Some(wanted.source), bytes: message.len() as u64 }
        } else {
            Take::Record { source: wanted.source, record }
        });
    }
}

fn text(bytes: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(bytes?).ok()
}

/// A kept position: a cursor, or `@` and a [`Stamp`] when there was no record yet. Anything else is
/// no position; a cursor goes into an argument, so its letters are checked.
fn position(kept: Option<&str>) -> (Option<String>, Option<Stamp>) {
    let Some(kept) = kept else { return (None, None) };
    if let Some(millis) = kept.strip_prefix('@') {
        return (None, millis.parse().ok().map(Stamp));
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'=' || byte == b';';
    let good = !kept.is_empty() && kept.len() <= 512 && kept.bytes().all(plain);
    (good.then(|| kept.to_owned()), None)
}
