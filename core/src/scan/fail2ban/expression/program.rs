//! An expression as instructions for [`super::machine`].

use std::collections::HashMap;
use std::sync::Arc;

use regex_syntax::hir::ClassUnicode;

use super::syntax::{Assert, Greed, Node, Times, contains};

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// This character.
    Char(char),
    /// One of a set.
    Set(usize),
    /// A place.
    Assert(Assert),
    /// Remember the position.
    Save(usize),
    /// Go on at `first`; should that fail, at `second`.
    Split { first: usize, second: usize },
    /// Go on there.
    Jump(usize),
    /// Begin to count a loop.
    Zero(usize),
    /// The head of a loop: its body follows.
    Loop { counter: usize, min: u32, max: Option<u32>, lazy: bool, exit: usize },
    /// Once more round, as nothing else helped.
    Round { counter: usize, body: usize },
    /// The instructions up to `end` are looked at on their own.
    Look { negated: bool, back: Option<usize>, end: usize },
    /// The instructions up to `end` are done once.
    Atomic { end: usize },
    /// What a group matched.
    Again { group: usize, fold: bool },
    /// Go on there where a group has not matched.
    Unless { group: usize, no: usize },
    /// Matched.
    Done,
}

/// A set of characters that is asked often.
#[derive(Clone, Debug)]
pub(super) struct Set {
    ascii: u128,
    class: Arc<ClassUnicode>,
}

/// Instructions and what they name.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub(super) ops: Vec<Op>,
    pub(super) sets: Vec<Set>,
    pub(super) counters: usize,
    /// Whether it can only match at the start of the text.
    pub(super) anchored: bool,
}

impl Set {
    fn new(class: &Arc<ClassUnicode>) -> Self {
        let ascii = (0..128_u8).filter(|b| contains(class, char::from(*b))).fold(0_u128, |set, b| set | 1 << b);
        Self { ascii, class: class.clone() }
    }

    pub(super) fn contains(&self, c: char) -> bool {
        if c.is_ascii() { self.ascii >> u32::from(c) & 1 == 1 } else { contains(&self.class, c) }
    }
}

impl Program {
    /// The instructions of an expression.
    pub(super) fn new(node: &Node) -> Self {
        let mut maker = Maker::default();
        maker.emit(node);
        maker.push(Op::Done);
        let mut program = maker.program;
        program.anchored = starts_at_start(node);
        program
    }
}

/// Whether every match begins at the start of the text.
fn starts_at_start(node: &Node) -> bool {
    match node {
        Node::Assert(Assert::Start) => true,
        Node::Group(_, node) | Node::Atomic(node) => starts_at_start(node),
        Node::Concat(nodes) => nodes.first().is_some_and(starts_at_start),
        Node::Alt(nodes) => nodes.iter().all(starts_at_start),
        _ => false,
    }
}

#[derive(Default)]
struct Maker {
    program: Program,
    known: HashMap<*const ClassUnicode, usize>,
}

impl Maker {
    fn here(&self) -> usize {
        self.program.ops.len()
    }

    fn push(&mut self, op: Op) -> usize {
        self.program.ops.push(op);
        self.here() - 1
    }

    fn patch(&mut self, at: usize, op: Op) {
        if let Some(place) = self.program.ops.get_mut(at) {
            *place = op;
        }
    }

    fn set(&mut self, class: &Arc<ClassUnicode>) -> usize {
        let sets = &mut self.program.sets;
        *self.known.entry(Arc::as_ptr(class)).or_insert_with(|| {
            sets.push(Set::new(class));
            sets.len() - 1
        })
    }

    fn emit(&mut self, node: &Node) {
        match node {
            Node::Empty => {}
            Node::Char(c) => {
                self.push(Op::Char(*c));
            }
            Node::Set(class) => {
                let set = self.set(class);
                self.push(Op::Set(set));
            }
            Node::Assert(place) => {
                self.push(Op::Assert(*place));
            }
            Node::Group(index, node) => {
                let slot = slot(*index);
                self.push(Op::Save(slot));
                self.emit(node);
                self.push(Op::Save(slot + 1));
            }
            Node::Concat(nodes) => nodes.iter().for_each(|node| self.emit(node)),
            Node::Alt(nodes) => self.alternatives(nodes),
            Node::Repeat(node, times) => self.repeat(node, *times),
            Node::Look(look) => {
                let at = self.push(Op::Done);
                self.emit(&look.node);
                self.push(Op::Done);
                let end = self.here();
                self.patch(at, Op::Look { negated: look.negated, back: look.back, end });
            }
            Node::Atomic(node) => self.atomic(|maker| maker.emit(node)),
            Node::Again { group, fold } => {
                self.push(Op::Again { group: slot(*group), fold: *fold });
            }
            Node::Cond { group, yes, no } => {
                let at = self.push(Op::Done);
                self.emit(yes);
                let over = self.push(Op::Done);
                let no_at = self.here();
                self.emit(no);
                let end = self.here();
                self.patch(at, Op::Unless { group: slot(*group), no: no_at });
                self.patch(over, Op::Jump(end));
            }
        }
    }

    fn alternatives(&mut self, nodes: &[Node]) {
        let mut over = Vec::new();
        for (i, node) in nodes.iter().enumerate() {
            if i + 1 == nodes.len() {
                self.emit(node);
                break;
            }
            let split = self.push(Op::Done);
            self.emit(node);
            over.push(self.push(Op::Done));
            let second = self.here();
            self.patch(split, Op::Split { first: split + 1, second });
        }
        let end = self.here();
        for at in over {
            self.patch(at, Op::Jump(end));
        }
    }

    fn atomic(&mut self, body: impl FnOnce(&mut Self)) {
        let at = self.push(Op::Done);
        body(self);
        self.push(Op::Done);
        let end = self.here();
        self.patch(at, Op::Atomic { end });
    }

    fn repeat(&mut self, node: &Node, times: Times) {
        if times.greed == Greed::Possessive {
            self.atomic(|maker| maker.repeat(node, Times { greed: Greed::Greedy, ..times }));
            return;
        }
        let lazy = times.greed == Greed::Lazy;
        let split = |body, exit| {
            let (first, second) = if lazy { (exit, body) } else { (body, exit) };
            Op::Split { first, second }
        };
        match (times.min, times.max) {
            (0, Some(1)) => {
                let at = self.push(Op::Done);
                self.emit(node);
                let end = self.here();
                self.patch(at, split(at + 1, end));
            }
            // What takes a character each time needs no count to come to an end.
            (0, None) if node.width() == Some(1) => {
                let at = self.push(Op::Done);
                self.emit(node);
                self.push(Op::Jump(at));
                let end = self.here();
                self.patch(at, split(at + 1, end));
            }
            (1, None) if node.width() == Some(1) => {
                let body = self.here();
                self.emit(node);
                let at = self.here();
                self.push(split(body, at + 1));
            }
            (min, max) => self.counted(node, min, max, lazy),
        }
    }

    fn counted(&mut self, node: &Node, min: u32, max: Option<u32>, lazy: bool) {
        let counter = self.program.counters;
        self.program.counters += 1;
        self.push(Op::Zero(counter));
        let head = self.push(Op::Done);
        self.push(Op::Round { counter, body: head + 2 });
        self.emit(node);
        self.push(Op::Jump(head));
        let exit = self.here();
        self.patch(head, Op::Loop { counter, min, max, lazy, exit });
    }
}

/// Where the start of a group is kept; its end is kept in the next.
pub(super) fn slot(group: u32) -> usize {
    usize::try_from(group).unwrap_or(0).saturating_mul(2)
}
