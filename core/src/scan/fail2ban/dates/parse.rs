//! The regexes that [`super::program`] knows, read.

use super::class::{Class, REST, SPACES, WORDS};
use super::program::{GROUPS, Op};
use super::template::{EDGE_BEGIN, EDGE_END};

/// How deep groups may stand in one another: each level is one of recursion.
const DEEPEST: u8 = 24;

/// A part of a regex.
#[derive(Debug)]
pub(super) enum Node {
    Byte(u8),
    Many { class: Class, min: u16, max: u16, greedy: bool },
    Group { number: Option<u8>, branches: Vec<Vec<Self>>, optional: Option<bool> },
    Plain(Op),
}

/// What is left of a regex, and what was seen in it.
pub(super) struct Parser<'t> {
    pub(super) text: &'t str,
    any_case: bool,
    groups: u8,
    names: Vec<(String, u8)>,
    /// The groups whose names say what they hold.
    pub(super) fields: Vec<(char, u8)>,
    depth: u8,
}

impl<'t> Parser<'t> {
    pub(super) const fn new(text: &'t str, any_case: bool) -> Self {
        Self { text, any_case, groups: 0, names: Vec::new(), fields: Vec::new(), depth: 0 }
    }

    fn take(&mut self, text: &str) -> bool {
        self.text.strip_prefix(text).map(|rest| self.text = rest).is_some()
    }

    /// Alternatives, up to the end or a closing parenthesis.
    pub(super) fn branches(&mut self) -> Option<Vec<Vec<Node>>> {
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
