//! A regex as a short program that [`super::run`] walks through.
//!
//! What it knows is what templates are made of: characters, classes, `?` `*` `+` `{}` behind one
//! character, groups (also with `?` behind), `|`, `^`, `$`, `\b`, back references, and the boundaries that
//! [`super::template`] adds. There is no loop over a group, so a program ends; each alternative is
//! tried in Python's order, so it finds what Python finds. What it does not know goes to
//! [`super::wild`].
//!
//! Digits are `0` to `9` (Python reads those of all scripts; no service writes dates in them).

use super::class::Class;
use super::parse::{Node, Parser};

/// How many groups are remembered; the longest default template has 10.
pub(super) const GROUPS: usize = 24;

/// Longer programs are not walked: each step of one may be a level of recursion.
const LONGEST: usize = 400;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// This byte.
    Byte(u8),
    /// A character of the set.
    One(Class),
    /// So many characters of the set, as many as possible first, or as few.
    Many {
        class: Class,
        min: u16,
        max: u16,
        greedy: bool,
    },
    /// The first of the words that lets the rest match; letters in any case if told so.
    Words {
        words: Box<[Box<str>]>,
        any_case: bool,
    },
    /// Remembers the place.
    Save(u8),
    /// Goes on here, or else there.
    Split(u16, u16),
    Jump(u16),
    Begin,
    End,
    /// `\b`, `\B`.
    Border(bool),
    /// The boundary before a template.
    EdgeBegin,
    /// The boundary behind a template.
    EdgeEnd,
    /// The text of this group again.
    Again(u8),
    Match,
}

/// A compiled regex.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) ops: Box<[Op]>,
    fields: Box<[(char, u8)]>,
    /// What a match may begin with; `None`: anything, or nothing.
    pub(super) first: Option<Class>,
    /// Matches at the start of the line only.
    pub(super) anchored: bool,
    /// A byte that every match holds, and what stands behind it: a line without is not searched.
    pub(super) needs: Option<(u8, Option<Class>)>,
}

impl Program {
    /// `None` for what is not known here.
    pub(super) fn compile(regex: &str) -> Option<Self> {
        let (text, any_case) = match regex.strip_prefix("(?") {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => {
                let (flags, rest) = rest.split_once(')')?;
                (flags.bytes().all(|b| matches!(b, b'i' | b'u')).then_some(rest)?, flags.contains('i'))
            }
            _ => (regex, false),
        };
        let mut parser = Parser::new(text, any_case);
        let branches = parser.branches()?;
        if !parser.text.is_empty() {
            return None;
        }
        let mut ops = Vec::new();
        emit_branches(&mut ops, &branches, any_case)?;
        ops.push(Op::Match);
        if ops.len() > LONGEST {
            return None;
        }
        let mut first = Some(Class::NONE);
        begin_with(&ops, 0, &mut first);
        let anchored = ops.iter().find(|op| !matches!(op, Op::Save(_))) == Some(&Op::Begin);
        let needs = needs(&ops);
        Some(Self { fields: parser.fields.into(), first, anchored, needs, ops: ops.into() })
    }

    /// The groups whose names say what they hold.
    pub(super) fn fields(&self) -> &[(char, u8)] {
        &self.fields
    }
}

/// The colon of a time of day where there is one, else the first byte that no way leads around.
fn needs(ops: &[Op]) -> Option<(u8, Option<Class>)> {
    let mut found: Option<usize> = None;
    let mut pc = 0;
    while let Some(op) = ops.get(pc) {
        pc = match op {
            // Behind all alternatives, or behind what may be left out.
            Op::Split(here, there) => match ops.get(usize::from(*there).wrapping_sub(1)) {
                Some(Op::Jump(end)) => usize::from(*end),
                _ => usize::from(*here.max(there)),
            },
            Op::Jump(to) => usize::from(*to),
            op => {
                if matches!(op, Op::Byte(b) if found.is_none() || (*b == b':' && found.is_some_and(|at| ops.get(at) != Some(op)))) {
                    found = Some(pc);
                }
                pc + 1
            }
        };
    }
    let at = found?;
    let mut behind = Some(Class::NONE);
    begin_with(ops, at + 1, &mut behind);
    match ops.get(at)? {
        Op::Byte(b) => Some((*b, behind)),
        _ => None,
    }
}

/// What a match from `pc` on may begin with.
fn begin_with(ops: &[Op], mut pc: usize, first: &mut Option<Class>) {
    loop {
        let Some(known) = first else { return };
        match &ops[pc] {
            Op::Byte(b) if *b < 128 => return *known = known.with(Class::byte(*b)),
            Op::One(class) => return *known = known.with(*class),
            Op::Many { class, min, .. } => {
                *known = known.with(*class);
                if *min > 0 {
                    return;
                }
            }
            Op::Words { words, any_case } => {
                for byte in words.iter().filter_map(|word| word.bytes().next()) {
                    let class = Class::byte(byte);
                    *known = known.with(if *any_case { class.any_case() } else { class });
                }
                return;
            }
            Op::Split(here, there) => {
                begin_with(ops, usize::from(*here), first);
                pc = usize::from(*there);
                continue;
            }
            Op::Jump(to) => {
                pc = usize::from(*to);
                continue;
            }
            Op::Save(_) | Op::EdgeBegin | Op::EdgeEnd | Op::Border(_) => {}
            Op::Byte(_) | Op::Begin | Op::End | Op::Again(_) | Op::Match => return *first = None,
        }
        pc += 1;
    }
}

fn emit_branches(ops: &mut Vec<Op>, branches: &[Vec<Node>], any_case: bool) -> Option<()> {
    if let Some(words) = words(branches) {
        ops.push(Op::Words { words, any_case });
        return Some(());
    }
    let mut ends = Vec::new();
    for (n, branch) in branches.iter().enumerate() {
        if ops.len() > LONGEST {
            return None;
        }
        let last = n + 1 == branches.len();
        let split = ops.len();
        if !last {
            ops.push(Op::Split(0, 0));
        }
        for node in branch {
            emit(ops, node, any_case)?;
        }
        if !last {
            ends.push(ops.len());
            ops.push(Op::Jump(0));
            ops[split] = Op::Split(place(split + 1)?, place(ops.len())?);
        }
    }
    let end = place(ops.len())?;
    ends.into_iter().for_each(|at| ops[at] = Op::Jump(end));
    Some(())
}

fn place(at: usize) -> Option<u16> {
    u16::try_from(at).ok()
}

/// At least two alternatives that are nothing but letters.
fn words(branches: &[Vec<Node>]) -> Option<Box<[Box<str>]>> {
    let letter = |node: &Node| match node {
        Node::Byte(b) => Some(char::from(*b)),
        // A letter in any case.
        Node::Many { class, min: 1, max: 1, .. } => (b'a'..=b'z').find(|b| Class::byte(*b).any_case() == *class).map(char::from),
        _ => None,
    };
    let word = |branch: &Vec<Node>| -> Option<Box<str>> {
        let text: Option<String> = branch.iter().map(letter).collect();
        text.filter(|text| !text.is_empty()).map(Into::into)
    };
    (branches.len() > 1).then(|| branches.iter().map(word).collect::<Option<Vec<_>>>())?.map(Into::into)
}

fn emit(ops: &mut Vec<Op>, node: &Node, any_case: bool) -> Option<()> {
    match node {
        Node::Byte(b) => ops.push(Op::Byte(*b)),
        Node::Many { class, min: 1, max: 1, .. } => ops.push(Op::One(*class)),
        Node::Many { class, min, max, greedy } => ops.push(Op::Many { class: *class, min: *min, max: *max, greedy: *greedy }),
        Node::Plain(op) => ops.push(op.clone()),
        Node::Group { number, branches, optional } => {
            let split = ops.len();
            if optional.is_some() {
                ops.push(Op::Split(0, 0));
            }
            ops.extend(number.map(|number| Op::Save(number * 2)));
            emit_branches(ops, branches, any_case)?;
            ops.extend(number.map(|number| Op::Save(number * 2 + 1)));
            if let Some(greedy) = optional {
                let (inside, behind) = (place(split + 1)?, place(ops.len())?);
                ops[split] = if *greedy { Op::Split(inside, behind) } else { Op::Split(behind, inside) };
            }
        }
    }
    Some(())
}
