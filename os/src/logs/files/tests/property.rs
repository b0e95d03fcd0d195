//! Whatever is done to a log, held against a perfect reader.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;

use palisade_core::time::Span;
use proptest::prelude::*;

use super::Scene;

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
