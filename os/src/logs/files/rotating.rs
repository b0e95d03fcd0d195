//! The real logrotate under a writer that numbers its lines, with readers that stop and start again
//! from what they kept: no line lost, none twice.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use palisade_core::time::{Span, Tick};
use tempfile::TempDir;

use super::super::Take;
use super::super::cutter::lines_of;
use super::{FileSpec, Files};
use crate::wake;

/// How long one kind of rotation is tried.
const LONG: Duration = Duration::from_secs(4);

/// Writes numbers as lines until told to stop; opens its log anew when it is told to, or each time.
fn writer(log: PathBuf, stop: Arc<AtomicBool>, reopen: Arc<AtomicBool>) -> JoinHandle<u32> {
    std::thread::spawn(move || {
        let open = || OpenOptions::new().append(true).create(true).open(&log).unwrap();
        let (mut file, mut next) = (open(), 0);
        while !stop.load(Ordering::SeqCst) {
            if reopen.swap(false, Ordering::SeqCst) {
                file = open();
            }
            writeln!(file, "{next}").unwrap();
            next += 1;
            if next % 64 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        next
    })
}

struct Reading {
    specs: Vec<FileSpec>,
    files: Option<Files>,
    positions: HashMap<PathBuf, String>,
    lines: Vec<u32>,
    start: Instant,
}

impl Reading {
    fn new(log: &Path) -> Self {
        let specs = vec![FileSpec { source: 0, pattern: log.display().to_string() }];
        let mut reading = Self { specs, files: None, positions: HashMap::new(), lines: Vec::new(), start: Instant::now() };
        reading.restart();
        reading
    }

    /// Lets go of everything but the positions, and begins again.
    fn restart(&mut self) {
        self.files = None;
        self.files = Some(Files::open(self.specs.clone(), self.positions.clone(), 100).unwrap());
        self.pump();
    }

    fn pump(&mut self) -> bool {
        let now = Tick(1000 + u64::try_from(self.start.elapsed().as_millis()).unwrap());
        let Self { files: Some(files), lines, positions, .. } = self else { return false };
        files.pump(now, 1 << 20, &mut |take| match take {
            Take::Line { bytes, .. } => lines.push(number(bytes)),
            Take::Block { bytes, .. } => lines.extend(lines_of(bytes).map(number)),
            Take::Position { path, position, .. } => {
                positions.insert(path.to_owned(), position.to_owned());
            }
            Take::Oversize { .. } => panic!("no line is long"),
            Take::Problem { .. } | Take::Solved { .. } => {}
        })
    }

    fn wait(&self, ms: u64) {
        let fd = self.files.as_ref().and_then(Files::fd);
        let _ = wake::poll(&fd.into_iter().collect::<Vec<_>>(), None, Some(Span::millis(ms))).unwrap();
    }
}

fn number(line: &[u8]) -> u32 {
    std::str::from_utf8(line).unwrap().parse().unwrap_or_else(|_| panic!("{line:?} is no whole line"))
}

/// `logrotate`, or `None` with a loud line where it is not installed.
fn logrotate(dir: &TempDir, how: &str) -> Option<impl Fn() + use<>> {
    let (log, config, state) = (dir.path().join("log"), dir.path().join("conf"), dir.path().join("state"));
    let there = Command::new("/usr/sbin/logrotate").arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIPPED: no /usr/sbin/logrotate; tests/deps installs it");
        return None;
    }
    let text = format!("{} {{\n rotate 40\n missingok\n su root root\n{how}\n}}\n", log.display());
    fs::write(&config, text).unwrap();
    Some(move || {
        let done = Command::new("/usr/sbin/logrotate").arg("-f").arg("-s").arg(&state).arg(&config).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    })
}

/// Rotates under a writer for a while. Which numbers were read, in order, and how many were written.
fn under_a_writer(how: &str, stops: bool, rotate: &mut dyn FnMut(&dyn Fn(), &AtomicBool)) -> Option<(Vec<u32>, u32)> {
    let dir = tempfile::tempdir().unwrap();
    let logrotate = logrotate(&dir, how)?;
    let log = dir.path().join("log");
    File::create(&log).unwrap();
    let mut reading = Reading::new(&log);
    let (stop, reopen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let writing = writer(log, Arc::clone(&stop), Arc::clone(&reopen));
    let begin = Instant::now();
    let mut last = begin;
    let mut round = 0;
    while begin.elapsed() < LONG {
        if last.elapsed() > Duration::from_millis(350) {
            rotate(&logrotate, &reopen);
            last = Instant::now();
            round += 1;
            if stops && round % 2 == 0 {
                reading.restart();
            }
        }
        reading.wait(20);
        reading.pump();
    }
    stop.store(true, Ordering::SeqCst);
    let written = writing.join().unwrap();
    // Files that were replaced may have been written to until now.
    std::thread::sleep(Duration::from_millis(50));
    while reading.pump() {}
    reading.restart();
    while reading.pump() {}
    reading.lines.sort_unstable();
    Some((reading.lines, written))
}

fn each_once(how: &str, stops: bool, rotate: &mut dyn FnMut(&dyn Fn(), &AtomicBool)) {
    let Some((lines, written)) = under_a_writer(how, stops, rotate) else { return };
    assert!(written > 1000, "{written}");
    let twice = lines.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let lost = (0..written).filter(|n| lines.binary_search(n).is_err()).count();
    assert_eq!((lost, twice), (0, 0), "of {written}");
}

fn and_reopen(rotate: &dyn Fn(), reopen: &AtomicBool) {
    rotate();
    reopen.store(true, Ordering::SeqCst);
}

#[test]
fn logrotate_renames_and_the_writer_opens_anew() {
    each_once(" create 600\n nocompress", false, &mut and_reopen);
}

#[test]
fn logrotate_renames_and_we_are_started_anew() {
    each_once(" create 600\n nocompress", true, &mut and_reopen);
}

#[test]
fn logrotate_twice_within_a_tenth_of_a_second() {
    each_once(" create 600\n nocompress", false, &mut |rotate, reopen| {
        and_reopen(rotate, reopen);
        // A line at least in the file between.
        std::thread::sleep(Duration::from_millis(10));
        and_reopen(rotate, reopen);
    });
}

/// What a daemon that writes on into a file loses when that is compressed is lost for everybody; so
/// the writer opens anew before, as `delaycompress` and `sharedscripts` are there for.
#[test]
fn logrotate_compresses_under_us() {
    each_once(" create 600\n compress\n delaycompress", false, &mut and_reopen);
    // At once: the rotated file is replaced by a packed one as soon as it is moved.
    let Some((lines, written)) = under_a_writer(" create 600\n compress", false, &mut and_reopen) else { return };
    let twice = lines.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let lost = (0..written).filter(|n| lines.binary_search(n).is_err()).count();
    assert_eq!((lost, twice), (0, 0), "of {written}");
}

/// Between the copy and the truncation lines are lost by `copytruncate` itself (logrotate(8)), and
/// what was written after our last read and before the truncation is gone: the writer pauses.
#[test]
fn logrotate_copies_and_truncates() {
    let dir = tempfile::tempdir().unwrap();
    let Some(rotate) = logrotate(&dir, " copytruncate\n nocompress") else { return };
    let log = dir.path().join("log");
    let mut file = OpenOptions::new().append(true).create(true).open(&log).unwrap();
    let mut reading = Reading::new(&log);
    let mut next = 0;
    for round in 0..30 {
        for _ in 0..(round * 37 % 200) {
            writeln!(file, "{next}").unwrap();
            next += 1;
        }
        while reading.pump() {}
        if round % 5 == 4 {
            reading.restart();
        }
        rotate();
        if round % 7 == 6 {
            reading.restart();
        }
    }
    while reading.pump() {}
    assert!(reading.lines.iter().copied().eq(0..next), "{} of {next}", reading.lines.len());
}
