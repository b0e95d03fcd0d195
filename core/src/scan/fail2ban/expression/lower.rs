//! An expression as one that runs in linear time, with what must be checked afterwards.
//!
//! What `regex-automata` cannot say is left out, in such a way that the linear expression matches
//! wherever the real one does:
//!
//! | piece | stands as | is checked afterwards |
//! |---|---|---|
//! | a look | an empty group, which tells the place | the look, at that place |
//! | `(?:(?!a)b)*`, `b` one character | a group around `b*` | the look, before each character |
//! | `\b`, where a text is not all ASCII | an empty group | the place |
//! | a back reference | a group around what the other group may match | that both hold the same |
//! | a condition | its two cases as alternatives | cannot be: see below |
//! | an atomic group | a group | cannot be |
//!
//! A regex tries its ways in a fixed order and takes the first that leads to the end. The linear expression
//! has the same ways in the same order, and some more. So if its first match passes all checks, it is the
//! first match of the real expression; that holds for nearly all lines. If it does not pass, another way
//! may: then, and where a check is not possible (in a repetition, the places of all rounds but the last
//! are forgotten), [`super::machine`] decides. Where the linear expression does not match, nothing does.

use std::sync::Arc;

use regex_syntax::hir::{Capture, Class, ClassUnicode, ClassUnicodeRange, Hir, Look as Place, Repetition};

use super::program::{Program, slot};
use super::syntax::{Assert, Greed, Look, Node, Times};

/// What must hold of a linear match.
#[derive(Clone, Debug)]
pub(super) enum Check {
    /// A look at the place of a group.
    At {
        /// Where the group is kept.
        slot: usize,
        /// What must be there.
        peek: Peek,
    },
    /// A place, at the place of a group.
    Place {
        /// Where the group is kept.
        slot: usize,
        /// Which.
        place: Assert,
    },
    /// A look before each character of a group.
    Each {
        /// Where the group is kept.
        slot: usize,
        /// What must be there.
        peek: Peek,
    },
    /// Two groups hold the same.
    Same {
        /// Where the one is kept.
        slot: usize,
        /// Where the other is kept.
        group: usize,
        /// Whether case counts not.
        fold: bool,
    },
}

/// A look, ready to be done.
#[derive(Clone, Debug)]
pub(super) struct Peek {
    pub(super) negated: bool,
    pub(super) back: Option<usize>,
    /// The text, where it looks ahead for just that.
    pub(super) text: Option<String>,
    pub(super) program: Arc<Program>,
}

/// The linear expression.
#[derive(Debug)]
pub(super) struct Lowered {
    pub(super) hir: Hir,
    pub(super) checks: Vec<Check>,
    /// Whether a match that passes the checks is the match of the real expression.
    pub(super) decides: bool,
}

struct Lowering<'a> {
    whole: &'a Node,
    ascii: bool,
    checks: Vec<Check>,
    decides: bool,
    groups: u32,
    /// How many repetitions this stands in.
    loops: u32,
}

/// The linear expression for texts of ASCII only, or for all.
pub(super) fn lower(node: &Node, groups: u32, ascii: bool) -> Lowered {
    let mut lowering = Lowering { whole: node, ascii, checks: Vec::new(), decides: true, groups, loops: 0 };
    let hir = lowering.node(node);
    Lowered { hir, checks: lowering.checks, decides: lowering.decides }
}

impl Lowering<'_> {
    fn node(&mut self, node: &Node) -> Hir {
        match node {
            Node::Empty => Hir::empty(),
            Node::Char(c) => self.char(*c),
            Node::Set(class) => Hir::class(Class::Unicode(if self.ascii { ascii_of(class) } else { ClassUnicode::clone(class) })),
            Node::Assert(place) => self.place(*place),
            Node::Group(index, node) => capture(*index, self.node(node)),
            Node::Concat(nodes) => Hir::concat(nodes.iter().map(|node| self.node(node)).collect()),
            Node::Alt(nodes) => Hir::alternation(nodes.iter().map(|node| self.node(node)).collect()),
            Node::Repeat(node, times) => self.repeat(node, *times),
            Node::Look(look) => self.look(look),
            Node::Atomic(node) => {
                self.decides = false;
                self.node(node)
            }
            Node::Again { group, fold } => self.again(*group, *fold),
            Node::Cond { yes, no, .. } => {
                self.decides = false;
                Hir::alternation(vec![self.node(yes), self.node(no)])
            }
        }
    }

    fn char(&self, c: char) -> Hir {
        if self.ascii && !c.is_ascii() {
            return Hir::fail();
        }
        Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes())
    }

    fn place(&mut self, place: Assert) -> Hir {
        Hir::look(match place {
            Assert::Start => Place::Start,
            Assert::End => Place::End,
            Assert::LineStart => Place::StartLF,
            // The only newline of a text is at its end: other texts are not decided this way.
            Assert::LineEnd | Assert::Dollar => Place::EndLF,
            Assert::Word { .. } if self.ascii => Place::WordAscii,
            Assert::NotWord { .. } if self.ascii => Place::WordAsciiNegate,
            // Python's words are none of those that automata know.
            Assert::Word { .. } | Assert::NotWord { .. } => {
                let Some(group) = self.marker() else { return Hir::empty() };
                self.checks.push(Check::Place { slot: slot(group), place });
                return capture(group, Hir::empty());
            }
        })
    }

    /// A group for a check; `None` where a check is not possible.
    fn marker(&mut self) -> Option<u32> {
        if self.loops > 0 {
            self.decides = false;
            return None;
        }
        self.groups += 1;
        Some(self.groups)
    }

    fn repeat(&mut self, node: &Node, times: Times) -> Hir {
        if times.greed == Greed::Possessive {
            self.decides = false;
        }
        if let Some((looks, each)) = tempered(node)
            && let Some(group) = self.marker()
        {
            for look in looks {
                self.check_look(look, |peek| Check::Each { slot: slot(group), peek });
            }
            let inner = self.node(each);
            return capture(group, repetition(inner, times));
        }
        let once = times.max == Some(1);
        self.loops += u32::from(!once);
        let inner = self.node(node);
        self.loops -= u32::from(!once);
        repetition(inner, times)
    }

    fn look(&mut self, look: &Look) -> Hir {
        match self.marker() {
            Some(group) => {
                self.check_look(look, |peek| Check::At { slot: slot(group), peek });
                capture(group, Hir::empty())
            }
            None => Hir::empty(),
        }
    }

    fn check_look(&mut self, look: &Look, check: impl FnOnce(Peek) -> Check) {
        // What a look ahead captures is known only to who runs it.
        if !look.negated && look.node.any(&|node| matches!(node, Node::Group(..))) {
            self.decides = false;
        }
        let text = if look.back.is_none() { plain(&look.node) } else { None };
        let program = Arc::new(Program::new(&look.node));
        self.checks.push(check(Peek { negated: look.negated, back: look.back, text, program }));
    }

    fn again(&mut self, group: u32, fold: bool) -> Hir {
        let inner = match find(self.whole, group) {
            // A group of one character is matched again by such a character.
            Some(node @ (Node::Char(_) | Node::Set(_))) if !fold => self.node(&node.clone()),
            _ => {
                let any = Node::Set(super::syntax::ANY.clone());
                repetition(self.node(&any), Times { min: 0, max: None, greed: Greed::Lazy })
            }
        };
        match self.marker() {
            Some(marker) => {
                self.checks.push(Check::Same { slot: slot(marker), group: slot(group), fold });
                capture(marker, inner)
            }
            None => inner,
        }
    }
}

fn capture(index: u32, sub: Hir) -> Hir {
    Hir::capture(Capture { index, name: None, sub: Box::new(sub) })
}

fn repetition(sub: Hir, times: Times) -> Hir {
    Hir::repetition(Repetition { min: times.min, max: times.max, greedy: times.greed != Greed::Lazy, sub: Box::new(sub) })
}

/// `(?!a)(?!b)c`, `c` one character: the looks and the character.
fn tempered(node: &Node) -> Option<(Vec<&Look>, &Node)> {
    let Node::Concat(nodes) = node else { return None };
    let (each, looks) = nodes.split_last()?;
    if !matches!(each, Node::Char(_) | Node::Set(_)) {
        return None;
    }
    fn look(node: &Node) -> Option<&Look> {
        if let Node::Look(look) = node { Some(look) } else { None }
    }
    Some((looks.iter().map(look).collect::<Option<Vec<_>>>()?, each))
}

/// The text that a node is, if it is just that.
fn plain(node: &Node) -> Option<String> {
    match node {
        Node::Char(c) => Some((*c).into()),
        Node::Concat(nodes) => nodes.iter().map(|node| if let Node::Char(c) = node { Some(*c) } else { None }).collect(),
        _ => None,
    }
}

/// What stands in a group.
fn find(node: &Node, group: u32) -> Option<&Node> {
    match node {
        Node::Group(index, node) if *index == group => Some(node),
        Node::Group(_, node) | Node::Atomic(node) | Node::Repeat(node, _) => find(node, group),
        Node::Concat(nodes) | Node::Alt(nodes) => nodes.iter().find_map(|node| find(node, group)),
        Node::Look(look) => find(&look.node, group),
        Node::Cond { yes, no, .. } => find(yes, group).or_else(|| find(no, group)),
        Node::Empty | Node::Char(_) | Node::Set(_) | Node::Assert(_) | Node::Again { .. } => None,
    }
}

fn ascii_of(class: &ClassUnicode) -> ClassUnicode {
    let ranges = class.ranges().iter().take_while(|range| range.start().is_ascii());
    ClassUnicode::new(ranges.map(|range| ClassUnicodeRange::new(range.start(), range.end().min('\x7f'))))
}
