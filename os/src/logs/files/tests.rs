//! Real files, real rotations.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use palisade_core::time::{Span, Tick};
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::Take;
use super::super::cutter::lines_of;
use super::inotify::tests::WITHOUT_NAMES;
use super::watcher::Watcher;
use super::{FileSpec, Files};
use crate::wake;

const LINE_MAX: usize = 100;

/// A directory, who reads it, and what was read.
struct Scene {
    dir: TempDir,
    patterns: Vec<String>,
    notify: bool,
    files: Option<Files>,
    now: Tick,
    positions: HashMap<PathBuf, String>,
    lines: Vec<String>,
    other: Vec<String>,
}

impl Scene {
    fn new(patterns: &[&str]) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            patterns: patterns.iter().map(|p| (*p).to_owned()).collect(),
            notify: true,
            files: None,
            now: Tick(1000),
            positions: HashMap::new(),
            lines: Vec::new(),
            other: Vec::new(),
        }
    }

    /// One log, there and empty, followed.
    fn simple() -> Self {
        let mut scene = Self::new(&["log"]);
        scene.write("log", "");
        scene.start();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn start(&mut self) {
        let spec = |(source, p): (usize, &String)| FileSpec { source, pattern: self.path(p).display().to_string() };
        let specs: Vec<FileSpec> = self.patterns.iter().enumerate().map(spec).collect();
        let watcher = self.notify.then(|| Watcher::open().unwrap());
        self.files = Some(Files::with(specs, self.positions.clone(), LINE_MAX, watcher).unwrap());
        self.pump(usize::MAX);
    }

    fn stop(&mut self) {
        self.files = None;
    }

    fn pump(&mut self, budget: usize) -> bool {
        let Some(files) = &mut self.files else { return false };
        let root = format!("{}/", self.dir.path().display());
        let short = |path: &Path| path.display().to_string().replace(&root, "");
        let (lines, other, positions) = (&mut self.lines, &mut self.other, &mut self.positions);
        let line = |source, path: &Path, bytes: &[u8], lines: &mut Vec<String>| {
            assert!(path.starts_with(&root));
            let text = String::from_utf8_lossy(bytes);
            lines.push(if source == 0 { text.into_owned() } else { format!("{source}: {text}") });
        };
        files.pump(self.now, budget, &mut |take| match take {
            Take::Line { source, path, bytes } => line(source, path, bytes, lines),
            Take::Block { source, path, bytes } => lines_of(bytes).for_each(|bytes| line(source, path, bytes, lines)),
            Take::Oversize { path, bytes, .. } => lines.push(format!("{} over {bytes}", short(path))),
            Take::Position { path, position, .. } => {
                positions.insert(path.to_owned(), position.to_owned());
            }
            Take::Problem { about, what, soft, source } => {
                let mark = if soft { "soft" } else { "hard" };
                other.push(format!("{source} {mark} {}: {}", about.replace(&root, ""), what.replace(&root, "")));
            }
            Take::Solved { about, source } => other.push(format!("{source} solved {}", about.replace(&root, ""))),
        })
    }

    fn settle(&mut self) {
        while self.pump(usize::MAX) {}
    }

    fn later(&mut self, span: Span) {
        self.now = self.now.plus(span);
        self.settle();
    }

    fn lines(&mut self) -> Vec<String> {
        self.settle();
        std::mem::take(&mut self.lines)
    }

    fn other(&mut self) -> Vec<String> {
        self.settle();
        std::mem::take(&mut self.other)
    }
}

#[test]
fn old_lines_are_history_new_lines_are_read() {
    let mut scene = Scene::new(&["log"]);
    scene.write("log", "old\nbegun ");
    scene.start();
    assert!(scene.lines().is_empty());
    scene.write("log", "before\r\nnul \0 and \n");
    scene.write("log", b"broken \xff utf8\n\n");
    assert_eq!(scene.lines(), ["begun before", "nul \0 and ", "broken \u{fffd} utf8", ""]);
    assert!(scene.other().is_empty());
}

#[test]
fn one_written_line_makes_the_descriptor_ready_and_one_pump_reads_it() {
    let mut scene = Scene::simple();
    scene.write("log", "one\n");
    let fd = scene.files.as_ref().unwrap().fd().unwrap();
    assert!(wake::poll(&[fd], None, Some(Span::ZERO)).unwrap().at(0));
    assert!(!scene.pump(usize::MAX));
    assert_eq!(scene.lines, ["one"]);
}

#[test]
fn a_partial_line_waits_for_its_end_also_over_a_restart() {
    let mut scene = Scene::simple();
    scene.write("log", "one\nhal");
    assert_eq!(scene.lines(), ["one"]);
    scene.stop();
    scene.start();
    assert!(scene.lines().is_empty());
    scene.write("log", "f\n");
    assert_eq!(scene.lines(), ["half"]);
}

#[test]
fn an_over_long_line_is_dropped_whole_even_in_pieces_and_over_a_restart() {
    let mut scene = Scene::simple();
    let piece = "Failed password for root from 192.0.2.1 ".repeat(25);
    for _ in 0..500 {
        scene.write("log", &piece);
        scene.pump(300);
    }
    assert!(scene.lines().is_empty());
    scene.stop();
    scene.start();
    for _ in 0..548 {
        scene.write("log", &piece);
    }
    scene.write("log", "\nnext\n");
    assert_eq!(scene.lines(), ["log over 1048000", "next"]);
    scene.stop();
    scene.write("log", "after\n");
    scene.start();
    assert_eq!(scene.lines(), ["after"]);
}

#[test]
fn renamed_and_created_anew_nothing_is_lost() {
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
fn the_line_begun_in_the_old_file_is_completed_there() {
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
fn copied_and_truncated() {
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
fn late_files_late_directories_and_returns() {
    let mut scene = Scene::new(&["a/b/log"]);
    scene.start();
    let missing = "0 soft a/b/log: not there yet; read from its first line when it appears";
    assert_eq!(scene.other(), [missing]);
    fs::create_dir(scene.path("a")).unwrap();
    scene.settle();
    fs::create_dir(scene.path("a/b")).unwrap();
    scene.write("a/b/log", "1\n");
    assert_eq!(scene.lines(), ["1"]);
    assert_eq!(scene.other(), ["0 solved a/b/log"]);
    fs::remove_file(scene.path("a/b/log")).unwrap();
    scene.settle();
    scene.write("a/b/log", "2\n");
    assert_eq!(scene.lines(), ["2"]);
    assert!(scene.other().is_empty(), "a rotation is not worth a word");
    fs::remove_dir_all(scene.path("a")).unwrap();
    scene.settle();
    scene.later(Span::secs(60));
    assert_eq!(scene.other(), [missing]);
    fs::create_dir_all(scene.path("a/b")).unwrap();
    scene.write("a/b/log", "3\n");
    assert_eq!(scene.lines(), ["3"]);
    assert_eq!(scene.other(), ["0 solved a/b/log"]);
    // The directory itself is exchanged.
    scene.rename("a", "z");
    fs::create_dir_all(scene.path("a/b")).unwrap();
    scene.write("a/b/log", "4\n");
    assert_eq!(scene.lines(), ["4"]);
}

#[test]
fn patterns_are_expanded_live() {
    let mut scene = Scene::new(&["*/access*.log", "one/access.log"]);
    fs::create_dir(scene.path("one")).unwrap();
    scene.start();
    let other = scene.other();
    assert!(other[0].starts_with("0 soft */access*.log: no file matches yet"), "{other:?}");
    scene.write("one/access.log", "1\n");
    scene.write("one/error.log", "no\n");
    assert_eq!(scene.lines(), ["1", "1: 1"]);
    fs::create_dir(scene.path("two")).unwrap();
    scene.settle();
    scene.write("two/access-x.log", "2\n");
    assert_eq!(scene.lines(), ["2"]);
    let mut other = scene.other();
    other.sort();
    assert_eq!(other, ["0 solved */access*.log", "0 solved one/access.log", "1 solved one/access.log"]);
    fs::create_dir(scene.path("three")).unwrap();
    scene.write("three/access.log", "3\n");
    assert_eq!(scene.lines(), ["3"]);
    // Gone for good: forgotten after a minute.
    fs::remove_file(scene.path("two/access-x.log")).unwrap();
    (0..3).for_each(|_| scene.later(Span::secs(61)));
    assert_eq!(scene.files.as_ref().unwrap().follows.len(), 2);
}

#[test]
fn a_pattern_that_matches_rotated_names_reads_nothing_twice() {
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
fn rotated_while_away_the_rest_comes_first() {
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

#[test]
fn what_is_no_file_is_refused_and_the_others_go_on() {
    let mut scene = Scene::new(&["link", "fifo", "zero", "dir", "socket", "log"]);
    symlink("/etc/shadow", scene.path("link")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(scene.path("fifo")).status().unwrap().success());
    let zero = std::process::Command::new("mknod").arg(scene.path("zero")).args(["c", "1", "5"]).status().unwrap();
    assert!(zero.success());
    fs::create_dir(scene.path("dir")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(scene.path("socket")).unwrap();
    scene.write("log", "");
    scene.start();
    let refused = |source: usize, name: &str, kind: &str| {
        format!("{source} hard {name}: it is {kind}; only regular files are read, give the path of the log itself")
    };
    let mut other = scene.other();
    other.sort();
    let expect = [
        refused(0, "link", "a symbolic link"),
        refused(1, "fifo", "a FIFO"),
        refused(2, "zero", "a device"),
        refused(3, "dir", "a directory"),
        refused(4, "socket", "a socket"),
    ];
    assert_eq!(other, expect);
    scene.write("log", "on\n");
    assert_eq!(scene.lines(), ["5: on"]);
    // Told once, and picked up when it becomes a file.
    scene.later(Span::secs(20));
    assert!(scene.other().is_empty());
    fs::remove_file(scene.path("link")).unwrap();
    scene.write("link", "now a file\n");
    assert_eq!(scene.lines(), ["now a file"]);
    assert_eq!(scene.other(), ["0 solved link"]);
}

#[test]
fn a_followed_log_replaced_by_a_link_is_refused() {
    let mut scene = Scene::simple();
    scene.write("secret", "secret\n");
    fs::remove_file(scene.path("log")).unwrap();
    symlink(scene.path("secret"), scene.path("log")).unwrap();
    scene.write("secret", "more\n");
    assert!(scene.lines().is_empty());
    assert!(scene.other()[0].contains("a symbolic link"));
}

#[test]
fn a_linked_directory_above_is_fine() {
    let mut scene = Scene::new(&["var/log"]);
    fs::create_dir(scene.path("data")).unwrap();
    scene.write("data/log", "");
    symlink(scene.path("data"), scene.path("var")).unwrap();
    scene.start();
    scene.write("data/log", "1\n");
    assert_eq!(scene.lines(), ["1"]);
    assert!(scene.other().is_empty());
}

/// Root reads everything, so the denial itself is tried in a child without rights.
#[test]
fn denied_files_are_named_with_the_fix() {
    const CHILD: &str = "PALISADE_TEST_DENIED";
    if let Some(dir) = std::env::var_os(CHILD) {
        let log = Path::new(&dir).join("log");
        let spec = FileSpec { source: 0, pattern: log.display().to_string() };
        let mut files = Files::open(vec![spec], HashMap::new(), LINE_MAX).unwrap();
        let mut said = String::new();
        let mut pump = |files: &mut Files, now| {
            said.clear();
            files.pump(Tick(now), 1000, &mut |take| said.push_str(&format!("{take:?}\n")));
            said.clone()
        };
        let denied = pump(&mut files, 0);
        assert!(denied.contains("Problem") && denied.contains(&format!("setfacl -m u:palisade:r {}", log.display())), "{denied}");
        // We own it: granting is what setfacl would do. What was in it before we began is history.
        fs::set_permissions(&log, fs::Permissions::from_mode(0o600)).unwrap();
        let mut file = OpenOptions::new().append(true).open(&log).unwrap();
        file.write_all(b"new\n").unwrap();
        let granted = pump(&mut files, 1);
        assert!(
            granted.contains("Solved") && granted.contains(&format!("{:?}", b"new\n")) && !granted.contains(&format!("{:?}", b"old")),
            "{granted}"
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    fs::write(&log, "old\n").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o000)).unwrap();
    let nobody = (65534, 65534);
    std::os::unix::fs::chown(dir.path(), Some(nobody.0), Some(nobody.1)).unwrap();
    std::os::unix::fs::chown(&log, Some(nobody.0), Some(nobody.1)).unwrap();
    crate::privileges::run_test_as_nobody("logs::files::tests::denied_files_are_named_with_the_fix", CHILD, dir.path());
}

#[test]
fn without_inotify_looking_does_it() {
    let mut scene = Scene::new(&["log", "*.log"]);
    scene.notify = false;
    scene.write("log", "");
    scene.start();
    assert!(scene.files.as_ref().unwrap().fd().is_none());
    assert!(scene.other().iter().any(|o| o.contains("no inotify watches are left")));
    scene.write("log", "1\n");
    scene.write("x.log", "x\n");
    let deadline = scene.files.as_ref().unwrap().next_deadline().unwrap();
    assert_eq!(deadline.since(scene.now), Span::millis(250));
    scene.now = deadline;
    let mut lines = scene.lines();
    lines.sort();
    assert_eq!(lines, ["1", "1: x"]);
    scene.write("log", "2\n");
    scene.rename("log", "log.1");
    scene.write("log", "3\n");
    scene.later(Span::millis(250));
    assert_eq!(scene.lines(), ["2", "3"]);
}

/// FreeBSD's way: a directory says only that something in it is another.
#[test]
fn without_names_in_the_notices_files_are_followed_all_the_same() {
    WITHOUT_NAMES.set(true);
    for test in [
        one_written_line_makes_the_descriptor_ready_and_one_pump_reads_it,
        renamed_and_created_anew_nothing_is_lost,
        the_line_begun_in_the_old_file_is_completed_there,
        copied_and_truncated,
        late_files_late_directories_and_returns,
        patterns_are_expanded_live,
        a_pattern_that_matches_rotated_names_reads_nothing_twice,
        rotated_while_away_the_rest_comes_first,
        a_followed_log_replaced_by_a_link_is_refused,
        a_linked_directory_above_is_fine,
        lost_notices_mean_looking_at_everything,
    ] {
        test();
    }
    WITHOUT_NAMES.set(false);
}

#[test]
fn lost_notices_mean_looking_at_everything() {
    let mut scene = Scene::simple();
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    // Different names in turn, as equal notices in a row are merged.
    for n in 0..=most / 2 {
        File::create(scene.path(if n % 2 == 0 { "a" } else { "b" })).unwrap();
        fs::remove_file(scene.path(if n % 2 == 0 { "a" } else { "b" })).unwrap();
    }
    scene.rename("log", "log.1");
    scene.write("log.1", "1\n");
    scene.write("log", "2\n");
    assert_eq!(scene.lines(), ["1", "2"]);
}

#[test]
fn the_budget_is_kept_and_shared() {
    let mut scene = Scene::new(&["a", "b"]);
    scene.write("a", "");
    scene.write("b", "");
    scene.start();
    scene.write("a", "a\n".repeat(100_000));
    scene.write("b", "b\n");
    // The quiet one does not wait for the loud one.
    assert!(scene.pump(1000));
    assert_eq!(scene.lines.iter().filter(|l| *l == "1: b").count(), 1);
    assert_eq!(scene.lines.len(), 500);
    scene.lines.clear();
    assert!(scene.pump(1000));
    assert_eq!(scene.lines.len(), 500);
    let rest = scene.lines();
    assert_eq!(rest.len(), 100_000 - 499);
}

#[test]
fn a_large_backlog_goes_on_however_much_the_small_ones_get() {
    let mut scene = Scene::new(&["a", "b"]);
    scene.write("a", "");
    scene.write("b", "");
    scene.start();
    scene.write("a", "a\n".repeat(100_000));
    for n in 1..=10 {
        scene.write("b", "b\n".repeat(500));
        assert!(scene.pump(1000));
        assert_eq!(scene.lines.iter().filter(|l| *l == "1: b").count(), n * 500);
        assert_eq!(scene.lines.iter().filter(|l| *l == "a").count(), n * 500);
    }
}

#[test]
fn how_far_a_path_is_behind_is_told() {
    let mut scene = Scene::new(&["a", "b"]);
    scene.write("a", "");
    scene.write("b", "");
    scene.start();
    let lags = |scene: &Scene| {
        let mut all = Vec::new();
        scene.files.as_ref().unwrap().lags(scene.now, &mut |lag| {
            all.push((lag.path.file_name().unwrap().to_string_lossy().into_owned(), lag.bytes, lag.since));
        });
        all
    };
    let none = |name: &str| (name.to_owned(), 0, Span::ZERO);
    assert_eq!(lags(&scene), [none("a"), none("b")]);
    scene.write("a", "a\n".repeat(200_000));
    scene.now = scene.now.plus(Span::secs(3));
    scene.pump(100_000);
    assert_eq!(lags(&scene), [("a".to_owned(), 300_000, Span::secs(3)), none("b")]);
    scene.settle();
    assert_eq!(lags(&scene), [none("a"), none("b")]);
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

#[derive(Clone, Debug)]
enum Op {
    Append(u8),
    Begin,
    Rename,
    AppendOld,
    Truncate,
    Pump(usize),
    Stop,
    Start,
    Later,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..20u8).prop_map(Op::Append),
        2 => Just(Op::Begin),
        2 => Just(Op::Rename),
        1 => Just(Op::AppendOld),
        1 => Just(Op::Truncate),
        4 => (1..2000usize).prop_map(Op::Pump),
        1 => Just(Op::Stop),
        2 => Just(Op::Start),
        1 => Just(Op::Later),
    ]
}

/// What a perfect reader would have read, and what even it may miss.
#[derive(Default)]
struct Model {
    next: u32,
    /// Numbers of the lines in the file at the path; the last may lack its end.
    current: Vec<u32>,
    open_line: bool,
    rotations: u32,
    /// The current file, the last rotated one, was made since the last look.
    unseen: bool,
    old_unseen: bool,
    /// The last rotated one was missed for good.
    old_lost: bool,
    /// Six seconds each since it last grew.
    quiet: u32,
    /// Lines of files that came and went since the last look: missed when nobody looks in time.
    passed: BTreeSet<u32>,
    excused: BTreeSet<u32>,
}

impl Model {
    fn text(&mut self) -> String {
        let end = if std::mem::take(&mut self.open_line) { "end\n".to_owned() } else { String::new() };
        self.current.push(self.next);
        self.next += 1;
        format!("{end}line {} and some more\n", self.next - 1)
    }

    fn apply(&mut self, op: &Op, scene: &mut Scene) {
        match op {
            Op::Append(count) => (0..*count).for_each(|_| scene.write("log", self.text())),
            Op::Begin => {
                let text = self.text();
                scene.write("log", text.trim_end());
                self.open_line = true;
            }
            Op::Rename => {
                if self.unseen {
                    self.passed.extend(&self.current);
                }
                if self.open_line {
                    self.excused.extend(self.current.last());
                }
                self.old_unseen = self.unseen;
                self.old_lost = false;
                self.quiet = 0;
                self.unseen = true;
                self.rotations += 1;
                self.current.clear();
                self.open_line = false;
                scene.rename("log", &format!("log.{}", self.rotations));
                scene.write("log", "");
            }
            Op::AppendOld => {
                if self.rotations > 0 {
                    if self.old_lost || self.quiet > 8 {
                        // Not known, or let go.
                        self.excused.insert(self.next);
                    } else if self.old_unseen {
                        self.passed.insert(self.next);
                    }
                    self.quiet = if self.quiet > 8 { self.quiet } else { 0 };
                    let name = format!("log.{}", self.rotations);
                    scene.write(&name, format!("\nline {} in the old file\n", self.next));
                    self.next += 1;
                }
            }
            Op::Truncate => {
                // What was not read before is gone.
                self.excused.extend(&self.current);
                self.current.clear();
                self.open_line = false;
                File::options().write(true).open(scene.path("log")).unwrap().set_len(0).unwrap();
            }
            Op::Pump(budget) => {
                scene.pump(*budget);
                self.looked(scene);
            }
            Op::Stop => self.stop(scene),
            Op::Start => {
                self.stop(scene);
                scene.start();
                self.looked(scene);
            }
            Op::Later => {
                scene.later(Span::secs(6));
                self.quiet += 1;
                self.looked(scene);
            }
        }
    }

    fn looked(&mut self, scene: &Scene) {
        if scene.files.is_some() {
            self.passed.clear();
            self.unseen = false;
            self.old_unseen = false;
        }
    }

    fn stop(&mut self, scene: &mut Scene) {
        scene.stop();
        self.excused.append(&mut self.passed);
        self.old_lost |= self.old_unseen;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever is done to a log, with whatever restarts between: every line once.
    #[test]
    fn every_line_exactly_once(ops in proptest::collection::vec(op(), 1..60)) {
        let mut scene = Scene::simple();
        let mut model = Model::default();
        for op in &ops {
            model.apply(op, &mut scene);
        }
        if scene.files.is_none() {
            model.apply(&Op::Start, &mut scene);
        }
        scene.settle();
        scene.later(Span::secs(6));
        let mut seen = HashSet::new();
        for line in scene.lines() {
            let Some(number) = line.strip_prefix("line ") else {
                prop_assert!(line.is_empty(), "{line}");
                continue;
            };
            let number: u32 = number.split(' ').next().unwrap().parse().unwrap();
            prop_assert!(seen.insert(number), "{number} twice");
        }
        let unfinished = model.open_line.then(|| *model.current.last().unwrap());
        for number in 0..model.next {
            let excused = model.excused.contains(&number) || unfinished == Some(number);
            prop_assert!(seen.contains(&number) || excused, "{number} lost");
        }
    }
}
