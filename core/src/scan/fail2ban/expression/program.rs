//! An expression as instructions for [`super::machine`].

use std::collections::HashMap;
use std::sync::Arc;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::syntax::{Assert, Greed, Node, Times, contains};

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// This character.
    Char(char),
    /// These characters.
    Text(usize),
    /// One of a set.
    Set(usize),
    /// Many of a set, as many or as few as will do.
    Span { set: usize, min: u32, max: Option<u32>, lazy: bool },
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
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set {
    ascii: u128,
    class: Arc<ClassUnicode>,
}

/// Instructions and what they name.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub(super) ops: Vec<Op>,
    pub(super) sets: Vec<Set>,
    pub(super) texts: Vec<Box<str>>,
    /// What may come first at each instruction, as far as that was asked for.
    firsts: Vec<First>,
    pub(super) counters: usize,
    /// Whether it can only match at the start of the text.
    pub(super) anchored: bool,
}

/// With which characters an instruction, and what follows it, can go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct First {
    ascii: u128,
    wide: bool,
    /// Also without any.
    none: bool,
}

impl First {
    const ANY: Self = Self { ascii: u128::MAX, wide: true, none: true };

    fn of(c: char) -> Self {
        if c.is_ascii() { Self { ascii: 1 << u32::from(c), ..Self::default() } } else { Self { wide: true, ..Self::default() } }
    }

    fn add(&mut self, other: Self) {
        self.ascii |= other.ascii;
        self.wide |= other.wide;
        self.none |= other.none;
    }
}

/// So many instructions are looked at to know what comes first at one.
const AHEAD: usize = 64;

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
        let chosen = program.chosen();
        program.firsts = chosen.into_iter().enumerate().map(|(pc, chosen)| if chosen { program.first(pc) } else { First::ANY }).collect();
        program
    }

    /// Whether the text can go on here with this instruction; that it cannot is certain.
    pub(super) fn can(&self, pc: usize, text: &str, at: usize) -> bool {
        let Some(first) = self.firsts.get(pc) else { return true };
        match text.as_bytes().get(at) {
            Some(byte) if byte.is_ascii() => first.none || first.ascii >> byte & 1 == 1,
            Some(_) => first.none || first.wide,
            None => first.none,
        }
    }

    /// The instructions that another may choose to go on with, or not.
    fn chosen(&self) -> Vec<bool> {
        let mut chosen = vec![false; self.ops.len()];
        for (pc, op) in self.ops.iter().enumerate() {
            let targets = match *op {
                Op::Split { first, second } => [first, second],
                Op::Span { .. } => [pc + 1, pc + 1],
                Op::Loop { exit, .. } => [pc + 1, exit],
                _ => continue,
            };
            for target in targets {
                if let Some(place) = chosen.get_mut(target) {
                    *place = true;
                }
            }
        }
        chosen
    }

    fn first(&self, pc: usize) -> First {
        let mut first = First::default();
        let (mut open, mut seen) = (vec![pc], Vec::new());
        while let Some(pc) = open.pop() {
            if seen.contains(&pc) {
                continue;
            }
            if seen.len() > AHEAD {
                return First::ANY;
            }
            seen.push(pc);
            let Some(op) = self.ops.get(pc) else { return First::ANY };
            match *op {
                Op::Char(c) => first.add(First::of(c)),
                Op::Text(text) => {
                    let c = self.texts.get(text).and_then(|text| text.chars().next());
                    first.add(c.map_or(First::ANY, First::of));
                }
                Op::Set(set) | Op::Span { set, .. } => {
                    let Some(set) = self.sets.get(set) else { return First::ANY };
                    let wide = set.class.ranges().last().is_some_and(|range| !range.end().is_ascii());
                    first.add(First { ascii: set.ascii, wide, none: false });
                    if matches!(op, Op::Span { min: 0, .. }) {
                        open.push(pc + 1);
                    }
                }
                Op::Save(_) | Op::Zero(_) => open.push(pc + 1),
                Op::Round { body, .. } => open.push(body),
                Op::Split { first, second } => open.extend([first, second]),
                Op::Jump(to) => open.push(to),
                Op::Loop { exit, .. } => open.extend([pc + 1, exit]),
                Op::Unless { no, .. } => open.extend([pc + 1, no]),
                Op::Assert(_) | Op::Look { .. } | Op::Atomic { .. } | Op::Again { .. } | Op::Done => return First::ANY,
            }
        }
        first
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
            Node::Concat(nodes) => self.sequence(nodes),
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

    /// Characters after one another are one text.
    fn sequence(&mut self, nodes: &[Node]) {
        let mut rest = nodes;
        while let [node, after @ ..] = rest {
            let text: String = rest.iter().map_while(|node| if let Node::Char(c) = node { Some(*c) } else { None }).collect();
            let chars = text.chars().count();
            if chars > 1 {
                self.program.texts.push(text.into());
                let index = self.program.texts.len() - 1;
                self.push(Op::Text(index));
                rest = rest.get(chars..).unwrap_or_default();
            } else {
                self.emit(node);
                rest = after;
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
        let class = match node {
            Node::Char(c) => Some(Arc::new(ClassUnicode::new([ClassUnicodeRange::new(*c, *c)]))),
            Node::Set(class) => Some(class.clone()),
            _ => None,
        };
        if let Some(class) = class.filter(|_| times.max != Some(1)) {
            let set = self.set(&class);
            self.push(Op::Span { set, min: times.min, max: times.max, lazy });
            return;
        }
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
