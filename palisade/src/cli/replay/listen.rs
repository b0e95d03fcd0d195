//! One log, read and scanned in a thread of its own.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

use palisade_core::attack::Sign;
use palisade_core::replay::order::Forward;
use palisade_core::scan::{Line, LogClock, ScanState, Scanner};
use palisade_core::time::Stamp;
use palisade_os::logs::journal::past;

use super::super::past::{Blocks, Kind, Opened, each_line, journal as read_journal};
use super::streams::{Entry, Log, Shared};

/// A batch is handed over when it holds so many signs, or at the log's end: few enough that the merge is never far
/// behind, enough that handing over costs nothing.
const BATCH: usize = 1024;

/// In so many bytes at the begin of a log its first time is looked for.
const HEAD: u64 = 64 * 1024;

/// Where in a journal file the time of its first record stands, in microseconds, little endian (systemd,
/// JOURNAL_FILE_FORMAT, "Header": `head_entry_realtime`).
const JOURNAL_BEGIN: usize = 184;

/// What a log says, on its way to the merge.
pub(super) struct Out {
    forward: Forward<(u64, u8, Sign)>,
    batch: Vec<Entry>,
    sender: SyncSender<Vec<Entry>>,
    /// The merge is over.
    closed: bool,
}

impl Out {
    pub(super) fn new(log: &Log, sender: SyncSender<Vec<Entry>>) -> Self {
        Self { forward: Forward::new(log.begin, log.clock.now, log.clock.zone.clone()), batch: Vec::new(), sender, closed: false }
    }

    fn push(&mut self, line: u64, whose: u8, mut sign: Sign) {
        // The texts are for people who ask why; here they would only be carried around.
        let at = match &mut sign {
            Sign::Attack(attack) => {
                (attack.line, attack.user) = (String::new(), None);
                attack.at
            }
            Sign::Login(login) => {
                (login.line, login.user) = (String::new(), None);
                login.at
            }
        };
        let Self { forward, batch, .. } = self;
        forward.push((line, whose, sign), at, &mut |(line, whose, sign), at| batch.push(Entry { at, line, whose, sign }));
    }

    /// Hands over what there is, if it is enough. May wait.
    fn hand_over(&mut self, enough: usize) {
        if self.batch.len() >= enough.max(1) {
            self.closed |= self.sender.send(std::mem::take(&mut self.batch)).is_err();
        }
    }

    pub(super) fn finish(mut self) {
        let Self { forward, batch, .. } = &mut self;
        forward.finish(&mut |(line, whose, sign), at| batch.push(Entry { at, line, whose, sign }));
        self.hand_over(1);
    }
}

/// Reads a log of lines to its end.
pub(super) fn lines(log: &Log, opened: Opened, shared: &Shared, out: &mut Out) -> io::Result<()> {
    let pipe = opened.is_pipe();
    let mut blocks = Blocks::new(opened.reader(Arc::clone(&shared.bytes))?, shared.line_max, pipe);
    let mut states: Vec<ScanState> = log.ears.iter().map(|(ear, clock)| ear.scanner.state(clock.clone())).collect();
    let mut number = 0;
    let mut signs: Vec<(u64, u8, Sign)> = Vec::new();
    while !out.closed {
        // Unpacking is work; waiting for a pipe is none.
        let mut leave = (!pipe).then(|| shared.work());
        let Some(block) = blocks.next()? else { break };
        leave.get_or_insert_with(|| shared.work());
        number += block.dropped;
        let mut counted = Counted::default();
        for ((ear, _), state) in log.ears.iter().zip(&mut states) {
            counted = scan_block(&ear.scanner, state, block.lines, shared.line_max, &mut |line, sign| {
                signs.push((number + line, ear.whose, sign))
            });
        }
        number += counted.lines;
        shared.lines.fetch_add(counted.lines + block.dropped, Ordering::Relaxed);
        shared.oversize.fetch_add(counted.oversize + block.dropped, Ordering::Relaxed);
        if log.ears.len() > 1 {
            signs.sort_by_key(|(line, ..)| *line);
        }
        signs.drain(..).for_each(|(line, whose, sign)| out.push(line, whose, sign));
        drop(leave);
        out.hand_over(if pipe { 1 } else { BATCH });
    }
    Ok(())
}

/// How many lines a block had, and how many of them were too long.
#[derive(Clone, Copy, Default)]
pub(in crate::cli) struct Counted {
    /// All.
    pub(in crate::cli) lines: u64,
    /// Those that were not looked at.
    pub(in crate::cli) oversize: u64,
}

/// Holds each line of a block against a scanner; `sink` is told the number of the line in the block, from 1, and what it
/// means.
pub(in crate::cli) fn scan_block(
    scanner: &Scanner,
    state: &mut ScanState,
    block: &[u8],
    line_max: usize,
    sink: &mut dyn FnMut(u64, Sign),
) -> Counted {
    let mut counted = Counted::default();
    each_line(block, line_max, |line| {
        counted.lines += 1;
        match line {
            Some(line) => scanner.scan(state, Line::raw(line), &mut |sign| sink(counted.lines, sign)),
            None => counted.oversize += 1,
        }
    });
    counted
}

/// Reads a journal file to its end. `journalctl` does most of the work, so no leave is asked for.
pub(super) fn journal(log: &Log, shared: &Shared, out: &mut Out) -> io::Result<()> {
    let mut states: Vec<ScanState> = log.ears.iter().map(|(ear, clock)| ear.scanner.state(clock.clone())).collect();
    let wants = log.ears.iter().enumerate().flat_map(|(at, (ear, _))| match &ear.wants {
        Some(matches) => matches.iter().map(|text| (at, Some(text.clone()))).collect(),
        None => vec![(at, None)],
    });
    let wants: Vec<(usize, Option<String>)> = wants.collect();
    let mut number = 0;
    read_journal(&log.path, &wants, shared.line_max, &mut |take| {
        number += 1;
        shared.lines.fetch_add(1, Ordering::Relaxed);
        match take {
            past::Take::Oversize => {
                shared.oversize.fetch_add(1, Ordering::Relaxed);
            }
            past::Take::Record { sources, record } => {
                let line = Line::journal(Some(record.ident), record.pid, record.message, record.realtime);
                for source in sources {
                    if let (Some((ear, _)), Some(state)) = (log.ears.get(*source), states.get_mut(*source)) {
                        ear.scanner.scan(state, line, &mut |sign| out.push(number, ear.whose, sign));
                    }
                }
            }
        }
        out.hand_over(BATCH);
        !out.closed
    })
}

/// The time of the first line of a file that has one.
pub(super) fn begin(path: &Path, kind: Kind, clock: &LogClock) -> Option<Stamp> {
    let opened = Opened::open(path).ok()?;
    let mut head = Vec::new();
    // Of a damaged file, what can be read of it.
    let _ = opened.reader(Arc::new(AtomicU64::new(0))).ok()?.take(HEAD).read_to_end(&mut head);
    if kind == Kind::Journal {
        let micros: [u8; 8] = head.get(JOURNAL_BEGIN..JOURNAL_BEGIN + 8)?.try_into().ok()?;
        return i64::try_from(u64::from_le_bytes(micros) / 1000).ok().filter(|ms| *ms > 0).map(Stamp);
    }
    let mut first = None;
    each_line(&head, head.len(), |line| {
        first = first.or_else(|| Line::raw(line?).when(clock));
    });
    first
}
