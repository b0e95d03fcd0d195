//! A regex as a short program that [`super::run`] walks through.
//!
//! What it knows is what templates are made of: characters, classes, `?` `*` `+` `{}` behind one
//! character, groups (also with `?` behind), `|`, `^`, `$`, `\b`, back references, and the boundaries that
//! [`super::template`] adds. There is no loop over a group, so a program ends; each alternative is
//! tried in Python's order, so it finds what Python finds. What it does not know goes to
//! [`super::wild`].
//!
//! Digits are `0` to `9` (Python reads those of all scripts; no service writes dates in them).

use super::template::{EDGE_BEGIN, EDGE_END};

/// How many groups are remembered; the longest default template has 10.
pub(super) const GROUPS: usize = 24;

/// Longer programs are not walked: each step of one may be a level of recursion.
const LONGEST: usize = 400;

/// How deep groups may stand in one another; see [`LONGEST`].
const DEEPEST: u8 = 24;

/// Characters outside ASCII, as far as classes tell them apart.
const WORDS: u8 = 1;
const SPACES: u8 = 2;
const REST: u8 = 4;

/// A set of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    ascii: u128,
    other: u8,
}

impl Class {
    const NONE: Self = Self { ascii: 0, other: 0 };
    const ALL: Self = Self { ascii: u128::MAX, other: WORDS | SPACES | REST };

    fn of(inside: impl Fn(u8) -> bool, other: u8) -> Self {
        let ascii = (0..128u8).filter(|b| inside(*b)).fold(0, |set, b| set | 1 << b);
        Self { ascii, other }
    }

    fn digits() -> Self {
        Self::of(|b| b.is_ascii_digit(), 0)
    }

    fn words() -> Self {
        Self::of(|b| b.is_ascii_alphanumeric() || b == b'_', WORDS)
    }

    /// Python's, which has the four separators of ASCII.
    fn spaces() -> Self {
        Self::of(|b| matches!(b, b' ' | 9..=13 | 28..=31), SPACES)
    }

    const fn not(self) -> Self {
        Self { ascii: !self.ascii, other: !self.other & (WORDS | SPACES | REST) }
    }

    const fn with(self, more: Self) -> Self {
        Self { ascii: self.ascii | more.ascii, other: self.other | more.other }
    }

    fn byte(b: u8) -> Self {
        Self::of(|c| c == b, 0)
    }

    fn any_case(self) -> Self {
        Self::of(|b| self.has(b.to_ascii_lowercase()) || self.has(b.to_ascii_uppercase()), self.other)
    }

    pub(super) const fn has(self, b: u8) -> bool {
        b < 128 && self.ascii >> b & 1 == 1
    }

    pub(super) const fn has_other(self) -> bool {
        self.other != 0
    }

    /// How long the character at `at` is, if it is of the set.
    pub(super) fn length(self, text: &[u8], at: usize) -> Option<usize> {
        let b = *text.get(at)?;
        if b < 128 {
            return self.has(b).then_some(1);
        }
        let c = char_at(text, at)?;
        let kind = if is_word(c) {
            WORDS
        } else if c.is_whitespace() {
            SPACES
        } else {
            REST
        };
        (self.other & kind != 0).then(|| c.len_utf8())
    }
}

/// What `\w` is to Python.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The character that begins at `at`.
pub(super) fn char_at(text: &[u8], at: usize) -> Option<char> {
    let end = text.len().min(at.checked_add(4)?);
    text.get(at..end)?.utf8_chunks().next()?.valid().chars().next()
}

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
        let mut parser = Parser { text, any_case, groups: 0, names: Vec::new(), fields: Vec::new(), depth: 0 };
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
        Some(Self { fields: parser.fields.into(), first, anchored, ops: ops.into() })
    }

    /// The groups whose names say what they hold.
    pub(super) fn fields(&self) -> &[(char, u8)] {
        &self.fields
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

/// A part of a regex.
#[derive(Debug)]
enum Node {
    Byte(u8),
    Many { class: Class, min: u16, max: u16, greedy: bool },
    Group { number: Option<u8>, branches: Vec<Vec<Node>>, optional: Option<bool> },
    Plain(Op),
}

struct Parser<'t> {
    text: &'t str,
    any_case: bool,
    groups: u8,
    names: Vec<(String, u8)>,
    fields: Vec<(char, u8)>,
    depth: u8,
}

impl Parser<'_> {
    fn take(&mut self, text: &str) -> bool {
        self.text.strip_prefix(text).map(|rest| self.text = rest).is_some()
    }

    fn branches(&mut self) -> Option<Vec<Vec<Node>>> {
        let mut branches = vec![Vec::new()];
        loop {
            if self.text.is_empty() || self.text.starts_with(')') {
                return Some(branches);
            }
            if self.take("|") {
                branches.push(Vec::new());
                continue;
            }
            let node = self.node()?;
            branches.last_mut()?.push(node);
        }
    }

    fn node(&mut self) -> Option<Node> {
        for (text, op) in [
            (EDGE_BEGIN, Op::EdgeBegin),
            (EDGE_END, Op::EdgeEnd),
            ("^", Op::Begin),
            ("$", Op::End),
            ("\\b", Op::Border(true)),
            ("\\B", Op::Border(false)),
        ] {
            if self.take(text) {
                return Some(Node::Plain(op));
            }
        }
        if self.take("(") {
            return self.group();
        }
        let class = if self.take("[") {
            self.class()?
        } else {
            match self.character()? {
                Ok(class) => class,
                Err(c) if c.is_ascii() => {
                    let b = u8::try_from(c).ok()?;
                    let class = Class::byte(b);
                    let wide = if self.any_case { class.any_case() } else { class };
                    let Some(times) = self.times()? else {
                        return Some(if wide == class { Node::Byte(b) } else { Node::Many { class: wide, min: 1, max: 1, greedy: true } });
                    };
                    return Some(Node::Many { class: wide, min: times.0, max: times.1, greedy: times.2 });
                }
                Err(_) => return None,
            }
        };
        let (min, max, greedy) = self.times()?.unwrap_or((1, 1, true));
        Some(Node::Many { class, min, max, greedy })
    }

    /// A class like `\d`, or one character; outside and inside brackets.
    fn character(&mut self) -> Option<Result<Class, char>> {
        let mut chars = self.text.chars();
        let c = chars.next()?;
        if c != '\\' {
            // What begins a quantifier has nothing to quantify here.
            let known = !matches!(c, '*' | '+' | '?');
            self.text = chars.as_str();
            return known.then_some(if c == '.' { Ok(Class::of(|b| b != b'\n', WORDS | SPACES | REST)) } else { Err(c) });
        }
        let c = chars.next()?;
        self.text = chars.as_str();
        Some(match c {
            'd' => Ok(Class::digits()),
            'w' => Ok(Class::words()),
            's' => Ok(Class::spaces()),
            'D' => Ok(Class::digits().not()),
            'W' => Ok(Class::words().not()),
            'S' => Ok(Class::spaces().not()),
            't' => Err('\t'),
            c if !c.is_ascii_alphanumeric() => Err(c),
            _ => return None,
        })
    }

    /// What stands between brackets; the first has been taken.
    fn class(&mut self) -> Option<Class> {
        let not = self.take("^");
        let mut class = if self.take("]") { Class::byte(b']') } else { Class::NONE };
        while !self.take("]") {
            let from = match self.inner()? {
                Ok(more) => {
                    class = class.with(more);
                    continue;
                }
                Err(from) => from,
            };
            let to = if self.text.starts_with('-') && !self.text.starts_with("-]") {
                self.take("-");
                self.inner()?.err()?
            } else {
                from
            };
            if !from.is_ascii() || !to.is_ascii() || from > to {
                return None;
            }
            class = class.with(Class::of(|b| (from..=to).contains(&char::from(b)), 0));
        }
        let class = if self.any_case { class.any_case() } else { class };
        Some(if not { class.not() } else { class })
    }

    fn inner(&mut self) -> Option<Result<Class, char>> {
        let c = self.text.chars().next()?;
        if c == '\\' {
            return self.character();
        }
        self.text = &self.text[c.len_utf8()..];
        Some(Err(c))
    }

    /// `?`, `*`, `+`, `{2}`, `{1,3}` and whether it takes what it can. The outer `None` is for what is not known.
    #[expect(clippy::option_option, reason = "not known, none there, this one")]
    fn times(&mut self) -> Option<Option<(u16, u16, bool)>> {
        let (min, max) = if self.take("?") {
            (0, 1)
        } else if self.take("*") {
            (0, u16::MAX)
        } else if self.take("+") {
            (1, u16::MAX)
        } else if self.text.starts_with('{') {
            let Some((inside, rest)) = self.text[1..].split_once('}') else { return Some(None) };
            let (min, max) = inside.split_once(',').unwrap_or((inside, inside));
            let (Ok(min), Ok(max)) = (number(min, 0), number(max, u16::MAX)) else { return Some(None) };
            if inside.is_empty() || inside == "," || min > max {
                return None;
            }
            self.text = rest;
            (min, max)
        } else {
            return Some(None);
        };
        let greedy = !self.take("?");
        let more = self.text.starts_with(['+', '*', '?'])
            || (self.text.starts_with('{') && self.text[1..].starts_with(|c: char| c.is_ascii_digit()));
        (!more).then_some(Some((min, max, greedy)))
    }

    /// What follows an opening parenthesis.
    fn group(&mut self) -> Option<Node> {
        if self.take("?P=") {
            let (name, rest) = self.text.split_once(')')?;
            let group = self.names.iter().find(|(known, _)| known == name)?.1;
            self.text = rest;
            return self.times()?.is_none().then_some(Node::Plain(Op::Again(group)));
        }
        let number = if self.take("?:") {
            None
        } else {
            self.groups += 1;
            let number = self.groups;
            if usize::from(number) >= GROUPS {
                return None;
            }
            if self.take("?P<") {
                let (name, rest) = self.text.split_once('>')?;
                if self.names.iter().any(|(known, _)| known == name) {
                    return None;
                }
                self.names.push((name.to_owned(), number));
                self.fields.extend(field(name).map(|field| (field, number)));
                self.text = rest;
            } else if self.text.starts_with('?') {
                return None;
            }
            Some(number)
        };
        self.depth += 1;
        let branches = (self.depth <= DEEPEST).then(|| self.branches())??;
        self.depth -= 1;
        if !self.take(")") {
            return None;
        }
        let optional = match self.times()? {
            None => None,
            Some((0, 1, greedy)) => Some(greedy),
            Some(_) => return None,
        };
        Some(Node::Group { number, branches, optional })
    }
}

fn number(text: &str, empty: u16) -> Result<u16, ()> {
    match text {
        "" => Ok(empty),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| ()),
        _ => Err(()),
    }
}

/// The field that a group of this name holds.
pub(super) fn field(name: &str) -> Option<char> {
    let mut chars = name.chars();
    chars.next().filter(|c| chars.next().is_none() && c.is_ascii_alphabetic())
}

fn emit_branches(ops: &mut Vec<Op>, branches: &[Vec<Node>], any_case: bool) -> Option<()> {
    if let Some(words) = words(branches) {
        return Some(ops.push(Op::Words { words, any_case }));
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

impl Class {
    /// Every character: what a match without a known start begins with.
    pub(super) const fn all() -> Self {
        Self::ALL
    }
}
