//! Many logs at once, in log time: each is read, unpacked and scanned by a thread of its own, and what they say is
//! merged by time.
//!
//! * No more threads work at a time than there are to be; one that waits for the merge does not count, so nobody waits
//!   for somebody who cannot go on.
//! * A log is opened when the merge comes to its begin, or when there is a thread to spare: of a hundred rotated logs a
//!   few are open at a time.
//! * Each thread is [`DEPTH`] batches ahead at most.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::Duration;

use palisade_core::attack::Sign;
use palisade_core::replay::LineId;
use palisade_core::scan::LogClock;
use palisade_core::time::Stamp;

use super::super::past::{Kind, Opened};
use super::super::progress::Progress;
use super::listen::{self, Out};
use super::which::Ear;

/// How many batches a log is ahead of the merge at most. A batch is what a block of a mebibyte gave: some ten thousand
/// signs of 200 bytes where each line is one, so this is 10 MiB for a log of nothing but attacks.
const DEPTH: usize = 4;

/// How often the bar moves while the merge waits.
const TICK: Duration = Duration::from_millis(100);

/// A log to be read.
pub(super) struct Log {
    /// As it was named.
    pub(super) path: PathBuf,
    /// What it is.
    pub(super) kind: Kind,
    /// A pipe, which can be opened once; files are opened when they are read.
    pub(super) pipe: Option<Opened>,
    /// What its times are read by, by and large.
    pub(super) clock: LogClock,
    /// The time of its first line, where one can be read.
    pub(super) begin: Option<Stamp>,
    /// Who listens, each by the clock of its zone.
    pub(super) ears: Vec<(Ear, LogClock)>,
}

/// What a line said.
pub(super) struct Entry {
    pub(super) at: Stamp,
    pub(super) line: u64,
    /// For which configs, a bit each.
    pub(super) whose: u8,
    pub(super) sign: Sign,
}

/// What all threads have in common.
pub(super) struct Shared {
    pub(super) line_max: usize,
    pub(super) bytes: Arc<AtomicU64>,
    pub(super) lines: AtomicU64,
    pub(super) oversize: AtomicU64,
    working: Permits,
}

impl Shared {
    pub(super) fn new(threads: usize, line_max: usize) -> Self {
        let working = Permits { free: Mutex::new(threads.max(1)), freed: Condvar::new() };
        Self { line_max, bytes: Arc::default(), lines: AtomicU64::new(0), oversize: AtomicU64::new(0), working }
    }

    /// Waits for the leave to work.
    pub(super) fn work(&self) -> Permit<'_> {
        let free = self.working.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.working.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Permit(&self.working)
    }
}

struct Permits {
    free: Mutex<usize>,
    freed: Condvar,
}

/// The leave to work, given back when dropped.
pub(super) struct Permit<'a>(&'a Permits);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

/// A log that is being read.
struct Stream<'scope> {
    path: PathBuf,
    entries: std::vec::IntoIter<Entry>,
    head: Option<Entry>,
    batches: Receiver<Vec<Entry>>,
    thread: Option<ScopedJoinHandle<'scope, io::Result<()>>>,
}

/// The merge of all logs.
struct Merge<'scope, 'env, 'a> {
    scope: &'scope Scope<'scope, 'env>,
    shared: &'env Shared,
    threads: usize,
    /// By begin, the unknown ones first.
    waiting: VecDeque<Log>,
    streams: Vec<Stream<'scope>>,
    running: usize,
    /// The heads' times.
    order: BinaryHeap<Reverse<(Stamp, usize)>>,
    progress: &'a mut Progress,
    troubles: Vec<String>,
}

/// Reads all logs and tells `hear` what they say, in the order of time. What went wrong with single logs.
pub(super) fn play(
    mut logs: Vec<Log>,
    threads: usize,
    shared: &Shared,
    progress: &mut Progress,
    hear: &mut dyn FnMut(LineId, Entry),
) -> io::Result<Vec<String>> {
    logs.sort_by_key(|log| log.begin);
    std::thread::scope(|scope| {
        let mut merge = Merge {
            scope,
            shared,
            threads: threads.max(1),
            waiting: logs.into(),
            streams: Vec::new(),
            running: 0,
            order: BinaryHeap::new(),
            progress,
            troubles: Vec::new(),
        };
        merge.all(hear)?;
        Ok(merge.troubles)
    })
}

impl<'scope> Merge<'scope, '_, '_> {
    fn all(&mut self, hear: &mut dyn FnMut(LineId, Entry)) -> io::Result<()> {
        loop {
            self.start_due()?;
            let Some(Reverse((_, log))) = self.order.pop() else { return Ok(()) };
            let mut line = None;
            // All that one line said stays together.
            while let Some(entry) =
                self.streams.get_mut(log).and_then(|stream| stream.head.take_if(|head| *line.get_or_insert(head.line) == head.line))
            {
                hear(LineId { log, line: entry.line }, entry);
                self.advance(log);
            }
            if let Some(head) = self.streams.get(log).and_then(|stream| stream.head.as_ref()) {
                self.order.push(Reverse((head.at, log)));
            }
        }
    }

    /// Opens the logs that begin before what comes next, and others while there are threads to spare.
    fn start_due(&mut self) -> io::Result<()> {
        loop {
            let due = |begin: Stamp| self.order.peek().is_none_or(|Reverse((at, _))| begin <= *at);
            let Some(next) = self.waiting.pop_front_if(|log| self.running < self.threads || log.begin.is_none_or(due)) else {
                return Ok(());
            };
            let number = self.streams.len();
            let (sender, batches) = sync_channel(DEPTH);
            let path = next.path.clone();
            let shared = self.shared;
            let body = move || read(next, shared, sender);
            let thread = Builder::new().name("log".to_owned()).spawn_scoped(self.scope, body)?;
            self.running += 1;
            self.streams.push(Stream { path, entries: Vec::new().into_iter(), head: None, batches, thread: Some(thread) });
            self.advance(number);
            if let Some(head) = self.streams.get(number).and_then(|stream| stream.head.as_ref()) {
                self.order.push(Reverse((head.at, number)));
            }
        }
    }

    /// Fetches the next head of a stream.
    fn advance(&mut self, number: usize) {
        let Some(stream) = self.streams.get_mut(number) else { return };
        loop {
            if let Some(entry) = stream.entries.next() {
                stream.head = Some(entry);
                return;
            }
            match stream.batches.recv_timeout(TICK) {
                Ok(batch) => stream.entries = batch.into_iter(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.progress.at(self.shared.bytes.load(Ordering::Relaxed), self.shared.lines.load(Ordering::Relaxed));
        }
        self.running -= 1;
        let what = match stream.thread.take().map(ScopedJoinHandle::join) {
            Some(Ok(Err(error))) => error.to_string(),
            Some(Err(_)) => "its reader failed".to_owned(),
            _ => return,
        };
        self.troubles.push(format!("{}: {what}; what could be read of it counts", stream.path.display()));
    }
}

fn read(mut log: Log, shared: &Shared, sender: SyncSender<Vec<Entry>>) -> io::Result<()> {
    let mut out = Out::new(&log, sender);
    let done = match log.pipe.take() {
        _ if log.kind == Kind::Journal => listen::journal(&log, shared, &mut out),
        Some(pipe) => listen::lines(&log, pipe, shared, &mut out),
        None => Opened::open(&log.path)
            .map_err(|error| io::Error::other(format!("{error:#}")))
            .and_then(|file| listen::lines(&log, file, shared, &mut out)),
    };
    out.finish();
    done
}
