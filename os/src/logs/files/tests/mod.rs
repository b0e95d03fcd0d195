//! Real files, real rotations.

mod lines;
mod notices;
mod paths;
mod property;
mod rotation;

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use palisade_core::time::{Span, Tick};
use tempfile::TempDir;

use super::super::Take;
use super::super::cutter::lines_of;
use super::watcher::Watcher;
use super::{FileSpec, Files};

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
