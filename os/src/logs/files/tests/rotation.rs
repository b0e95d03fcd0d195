//! Logs that are renamed, copied and cut, by whoever, whenever.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use palisade_core::time::{Span, Tick};

use super::super::{FileSpec, Files};
use super::{LINE_MAX, Scene, Take, lines_of};
use crate::wake;

#[test]
pub(super) fn renamed_and_created_anew_nothing_is_lost() {
    let mut scene = Scene::simple();
    scene.write("log", "1\n");
    scene.rename("log", "log.1");
    scene.write("log.1", "2\n");
    assert_eq!(scene.lines(), ["1", "2"]);
    scene.write("log.1", "3\n");
    scene.write("log", "4\n");
    assert_eq!(scene.lines(), ["3", "4"]);
    scene.write("log.1", "slow writer\n");
    scene.write("log", "5\n");
    assert_eq!(scene.lines(), ["slow writer", "5"]);
    // Quiet for a minute: let go.
    scene.later(Span::secs(61));
    scene.write("log.1", "too late\n");
    scene.write("log", "6\n");
    scene.later(Span::secs(6));
    assert_eq!(scene.lines(), ["6"]);
    assert!(scene.other().is_empty());
}

#[test]
pub(super) fn the_line_begun_in_the_old_file_is_completed_there() {
    let mut scene = Scene::simple();
    scene.write("log", "ol");
    scene.settle();
    scene.rename("log", "log.1");
    scene.write("log", "new\n");
    scene.write("log.1", "d\n");
    assert_eq!(scene.lines(), ["old", "new"]);
}

#[test]
fn rotated_twice_before_a_look() {
    for pumps in [false, true] {
        let mut scene = Scene::simple();
        scene.write("log", "1\n");
        scene.rename("log", "log.1");
        scene.write("log", "2\n");
        if pumps {
            scene.settle();
        }
        scene.rename("log.1", "log.2");
        scene.rename("log", "log.1");
        scene.write("log", "3\n");
        scene.rename("log.2", "log.3");
        scene.rename("log.1", "log.2");
        scene.rename("log", "log.1");
        scene.write("log", "4\n");
        assert_eq!(scene.lines(), ["1", "2", "3", "4"]);
    }
}

#[test]
pub(super) fn copied_and_truncated() {
    let mut scene = Scene::simple();
    scene.write("log", "first line\nsecond line\n");
    assert_eq!(scene.lines().len(), 2);
    fs::copy(scene.path("log"), scene.path("log.1")).unwrap();
    File::options().write(true).open(scene.path("log")).unwrap().set_len(0).unwrap();
    scene.write("log", "a\n");
    assert_eq!(scene.lines(), ["a"]);
    // Truncated and grown beyond where it was, between two looks.
    File::options().write(true).open(scene.path("log")).unwrap().set_len(0).unwrap();
    scene.write("log", "b\nand much more than before\n");
    assert_eq!(scene.lines(), ["b", "and much more than before"]);
    // The same size as before.
    File::options().write(true).open(scene.path("log")).unwrap().set_len(0).unwrap();
    scene.write("log", "c\nAND MUCH MORE THAN BEFORE\n");
    assert_eq!(scene.lines(), ["c", "AND MUCH MORE THAN BEFORE"]);
    scene.stop();
    File::options().write(true).open(scene.path("log")).unwrap().set_len(0).unwrap();
    scene.write("log", "d\nwhile nobody read it, and even longer\n");
    scene.start();
    assert_eq!(scene.lines(), ["d", "while nobody read it, and even longer"]);
}

#[test]
pub(super) fn a_pattern_that_matches_rotated_names_reads_nothing_twice() {
    let mut scene = Scene::new(&["log*"]);
    scene.write("log", "");
    scene.start();
    scene.write("log", "1\n");
    scene.rename("log", "log.1");
    scene.write("log", "2\n");
    assert_eq!(scene.lines(), ["1", "2"]);
    scene.write("log.1", "3\n");
    scene.write("log.1.gz", "\x1f\x08 no line\n");
    (0..3).for_each(|_| scene.later(Span::secs(61)));
    scene.write("log.1", "4\n");
    assert_eq!(scene.lines(), ["3", "4"]);
    fs::hard_link(scene.path("log"), scene.path("log-link")).unwrap();
    scene.write("log", "5\n");
    assert_eq!(scene.lines(), ["5"]);
    assert!(scene.other()[0].contains("the same file as log, which is read already"));
    scene.stop();
    scene.write("log", "6\n");
    scene.rename("log", "log.2");
    scene.write("log", "7\n");
    fs::remove_file(scene.path("log-link")).unwrap();
    scene.start();
    assert_eq!(scene.lines(), ["6", "7"]);
}

#[test]
pub(super) fn rotated_while_away_the_rest_comes_first() {
    let mut scene = Scene::simple();
    scene.write("log", "1\n");
    assert_eq!(scene.lines(), ["1"]);
    scene.stop();
    scene.write("log", "2\n");
    scene.rename("log", "log-20261122");
    scene.write("log", "3\n");
    scene.start();
    assert_eq!(scene.lines(), ["2", "3"]);
    scene.stop();
    fs::remove_file(scene.path("log")).unwrap();
    scene.write("other", "keeps the inode number from being used again\n");
    scene.write("log", "4\n");
    scene.start();
    assert_eq!(scene.lines(), ["4"]);
}

/// Several readers of one directory while logs in it are rotated, each under another scheme of names.
#[test]
fn several_readers_read_each_line_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let append = |name: &str, text: &str| {
        OpenOptions::new().append(true).create(true).open(path(name)).unwrap().write_all(text.as_bytes()).unwrap();
    };
    let logs = ["auth.log", "mail.log", "web-access", "web-error", "x"];
    logs.iter().for_each(|log| append(log, ""));
    let specs = [FileSpec { source: 0, pattern: path("*").display().to_string() }];
    let (mut lines, mut positions) = (Vec::new(), HashMap::new());
    let (mut next, mut now, mut used) = (0, Tick(1000), 0);
    for restart in 0..3 {
        let mut all = Files::open_shared(3, &specs, &positions, LINE_MAX).unwrap();
        assert_eq!(all.len(), 3);
        used = all.iter().filter(|files| files.follows.values().any(|follow| !follow.tails.is_empty())).count().max(used);
        for round in 0..8 {
            for log in logs {
                append(log, &format!("{next}\n"));
                next += 1;
                let old = match round % 4 {
                    0 => format!("{log}.{restart}{round}"),
                    1 => format!("{log}.old{restart}{round}"),
                    2 => format!("{log}-2026112{round}{restart}.bak"),
                    _ => continue,
                };
                fs::rename(path(log), path(&old)).unwrap();
                append(&old, &format!("{next}\n"));
                next += 1;
            }
            // Past the minute after which replaced files are let go.
            for _ in 0..14 {
                now = now.plus(Span::secs(6));
                for files in &mut all {
                    while files.pump(now, usize::MAX, &mut |take| match take {
                        Take::Line { bytes, .. } => lines.push(String::from_utf8_lossy(bytes).parse::<u32>().unwrap()),
                        Take::Block { bytes, .. } => {
                            lines.extend(lines_of(bytes).map(|line| String::from_utf8_lossy(line).parse::<u32>().unwrap()));
                        }
                        Take::Position { path, position, .. } => {
                            positions.insert(path.to_owned(), position.to_owned());
                        }
                        _ => {}
                    }) {}
                }
            }
        }
    }
    assert!(used > 1, "more than one reader had something to do");
    lines.sort_unstable();
    assert!(lines.iter().copied().eq(0..next), "{} of {next}", lines.len());
}

/// A writer that numbers its lines while the log is rotated under it, twice within 100 ms, by
/// rename; it reopens after each rotation as daemons do.
#[test]
fn rotating_under_a_running_writer_loses_nothing() {
    let mut scene = Scene::simple();
    let dir = scene.dir.path().to_owned();
    static STOP: AtomicBool = AtomicBool::new(false);
    let writer = std::thread::spawn(move || {
        let log = dir.join("log");
        let (mut written, mut rotations) = (0u32, 0);
        while rotations < 20 {
            let mut file = OpenOptions::new().append(true).create(true).open(&log).unwrap();
            for n in 0..300 {
                writeln!(file, "{written}").unwrap();
                written += 1;
                if n == 200 {
                    for old in (0..20).rev() {
                        let name = |n: usize| if n == 0 { log.clone() } else { dir.join(format!("log.{n}")) };
                        let _ = fs::rename(name(old), name(old + 1));
                    }
                }
            }
            rotations += 1;
            std::thread::sleep(Duration::from_millis(if rotations % 2 == 0 { 60 } else { 1 }));
        }
        STOP.store(true, Ordering::SeqCst);
        written
    });
    let start = Instant::now();
    while !STOP.load(Ordering::SeqCst) {
        let fd = scene.files.as_ref().unwrap().fd().unwrap();
        let _ = wake::poll(&[fd], None, Some(Span::millis(50))).unwrap();
        scene.now = Tick(1000 + u64::try_from(start.elapsed().as_millis()).unwrap());
        scene.pump(usize::MAX);
    }
    let written = writer.join().unwrap();
    let mut lines: Vec<u32> = scene.lines().iter().map(|l| l.parse().unwrap()).collect();
    lines.sort_unstable();
    assert!(lines.iter().copied().eq(0..written), "{} of {written}", lines.len());
}
