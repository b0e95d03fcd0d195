//! A Python regex, taken apart.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange, Hir, HirKind};

/// One piece of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Nothing, which always matches.
    Empty,
    /// One character.
    Char(char),
    /// One character of many.
    Set(Arc<ClassUnicode>),
    /// A place.
    Assert(Assert),
    /// A capture group, counted from 1.
    Group(u32, Box<Self>),
    /// One after another.
    Concat(Vec<Self>),
    /// The first of these that works.
    Alt(Vec<Self>),
    /// Many times.
    Repeat(Box<Self>, Times),
    /// Text ahead or behind.
    Look(Box<Look>),
    /// What is matched first is not tried again.
    Atomic(Box<Self>),
    /// What a group matched, once more.
    Again {
        /// The group.
        group: u32,
        /// Whether case counts not.
        fold: bool,
    },
    /// One or the other, as a group has matched or not.
    Cond {
        /// The group.
        group: u32,
        /// Where it has.
        yes: Box<Self>,
        /// Where it has not.
        no: Box<Self>,
    },
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Assert {
    /// `\A`, and `^` of a single line.
    Start,
    /// `\Z`.
    End,
    /// `$` of a single line: the end, or before the newline at the end.
    Dollar,
    /// `^` of several lines.
    LineStart,
    /// `$` of several lines.
    LineEnd,
    /// `\b`.
    Word {
        /// Whether only ASCII letters make words.
        ascii: bool,
    },
    /// `\B`.
    NotWord {
        /// Whether only ASCII letters make words.
        ascii: bool,
    },
}

/// How often, and what is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) min: u32,
    pub(super) max: Option<u32>,
    pub(super) greed: Greed,
}

/// What a repetition tries first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greed {
    /// As many as there are.
    Greedy,
    /// As few as will do.
    Lazy,
    /// As many as there are, and never fewer.
    Possessive,
}

/// A look at the text around.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Look {
    pub(super) negated: bool,
    /// How many characters back; `None` looks ahead.
    pub(super) back: Option<usize>,
    pub(super) node: Node,
}

/// An expression and the names of its groups.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) node: Node,
    /// How many groups there are; they count from 1.
    pub(super) groups: u32,
    pub(super) names: HashMap<String, u32>,
}

/// Repeats larger than any text: Python's own limit lies beyond this too.
const NEVER_SO_MANY: usize = u32::MAX as usize;

impl Node {
    /// How many characters it matches, where that is always the same.
    pub(super) fn width(&self) -> Option<usize> {
        match self {
            Self::Empty | Self::Assert(_) | Self::Look(_) => Some(0),
            Self::Char(_) | Self::Set(_) => Some(1),
            Self::Group(_, node) | Self::Atomic(node) => node.width(),
            Self::Concat(nodes) => nodes.iter().try_fold(0_usize, |sum, node| Some(sum.saturating_add(node.width()?))),
            Self::Alt(nodes) => same(nodes.iter()),
            Self::Repeat(node, times) => {
                let min = usize::try_from(times.min).ok()?;
                let width = node.width()?;
                (times.max == Some(times.min) || width == 0).then(|| width.saturating_mul(min).min(NEVER_SO_MANY))
            }
            Self::Again { .. } => None,
            Self::Cond { yes, no, .. } => same([yes.as_ref(), no.as_ref()].into_iter()),
        }
    }

    /// Whether `wanted` is so of this or anything in it.
    pub(super) fn any(&self, wanted: &dyn Fn(&Self) -> bool) -> bool {
        wanted(self)
            || match self {
                Self::Group(_, node) | Self::Atomic(node) | Self::Repeat(node, _) => node.any(wanted),
                Self::Concat(nodes) | Self::Alt(nodes) => nodes.iter().any(|node| node.any(wanted)),
                Self::Look(look) => look.node.any(wanted),
                Self::Cond { yes, no, .. } => yes.any(wanted) || no.any(wanted),
                Self::Empty | Self::Char(_) | Self::Set(_) | Self::Assert(_) | Self::Again { .. } => false,
            }
    }

    /// One after another, without needless nesting.
    pub(super) fn concat(mut nodes: Vec<Self>) -> Self {
        nodes.retain(|node| *node != Self::Empty);
        match nodes.len() {
            0 => Self::Empty,
            1 => nodes.remove(0),
            _ => Self::Concat(nodes),
        }
    }
}

fn same<'a>(mut nodes: impl Iterator<Item = &'a Node>) -> Option<usize> {
    let width = nodes.next()?.width()?;
    nodes.all(|node| node.width() == Some(width)).then_some(width)
}

/// A class as `regex-syntax` knows it, in Python's meaning where the two differ.
fn unicode(pattern: &str) -> ClassUnicode {
    match regex_syntax::parse(pattern).map(Hir::into_kind) {
        Ok(HirKind::Class(regex_syntax::hir::Class::Unicode(class))) => class,
        _ => ClassUnicode::empty(),
    }
}

/// `\d \D \s \S \w \W`, by Unicode and by ASCII, in Python's meaning: `\d` is what is a decimal digit in
/// any script; `\s` is `str.isspace`, which counts four control characters that Unicode does not; `\w` is
/// `str.isalnum` and the underscore: no marks, but all numbers.
pub(super) static SHORTHANDS: LazyLock<[(Arc<ClassUnicode>, Arc<ClassUnicode>); 6]> = LazyLock::new(|| {
    let both = |wide: &str, ascii: &str| (Arc::new(unicode(wide)), Arc::new(unicode(ascii)));
    [
        both(r"\p{Nd}", "[0-9]"),
        both(r"\P{Nd}", "[^0-9]"),
        both(r"[\s\x1c-\x1f]", r"[ \t-\r]"),
        both(r"[^\s\x1c-\x1f]", r"[^ \t-\r]"),
        both(r"[\p{L}\p{N}_]", "[0-9A-Za-z_]"),
        both(r"[^\p{L}\p{N}_]", "[^0-9A-Za-z_]"),
    ]
});
/// Whether `\w` takes it.
pub(super) fn is_word(c: char) -> bool {
    let [.., words, _] = &*SHORTHANDS;
    contains(&words.0, c)
}

/// Whether a class holds a character.
pub(super) fn contains(class: &ClassUnicode, c: char) -> bool {
    let ranges = class.ranges();
    let after = ranges.partition_point(|range| range.start() <= c);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| c <= range.end())
}

/// `.`
pub(super) static NOT_NEWLINE: LazyLock<Arc<ClassUnicode>> = LazyLock::new(|| Arc::new(unicode(r"[^\n]")));
/// `.` of `(?s)`.
pub(super) static ANY: LazyLock<Arc<ClassUnicode>> = LazyLock::new(|| Arc::new(unicode(r"[\x00-\u{10ffff}]")));

/// One character and the others that differ from it by case only.
pub(super) fn folded(c: char) -> Node {
    let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
    fold(&mut class);
    match class.ranges() {
        [one] if one.start() == one.end() => Node::Char(c),
        _ => Node::Set(Arc::new(class)),
    }
}

/// Adds what differs by case only.
pub(super) fn fold(class: &mut ClassUnicode) {
    // Without the tables of case, which are compiled in, it stays as it is.
    let _ = class.try_case_fold_simple();
}
