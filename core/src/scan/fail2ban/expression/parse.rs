//! Reads Python's regex syntax (`re` of Python 3.11, the Python of Debian 12).
//!
//! | text | what it is |
//! |---|---|
//! | `^` `$` `\A` `\Z` `\b` `\B` | places; `$` is also before the newline at the end |
//! | `.` `[...]` `\d \D \s \S \w \W` | sets of characters, by Unicode; `(?a)` by ASCII |
//! | `\t \n \r \a \f \v \0 \ooo \xhh \uhhhh \Uhhhhhhhh` | one character; an unknown letter is an error |
//! | `*` `+` `?` `{m}` `{m,}` `{,n}` `{m,n}`, each with `?` or `+` after | repeats; any other `{` is itself |
//! | `(...)` `(?:...)` `(?P<name>...)` `(?flags-flags:...)` `(?>...)` | groups |
//! | `(?=...)` `(?!...)` `(?<=...)` `(?<!...)` | looks; those behind are of fixed width |
//! | `\1` `(?P=name)` `(?(group)yes\|no)` | what a group matched, and whether |
//! | `(?#...)`, and `#` of `(?x)` | comments |
//!
//! Backslashes and brackets are read in [`escapes`], parentheses in [`groups`].

mod escapes;
mod groups;

use std::collections::{HashMap, HashSet};

use super::ExpressionError;
use super::syntax::{ANY, Assert, Greed, NOT_NEWLINE, Node, Times, Tree, folded};

/// How deep groups may stand in each other: what walks the tree calls itself once a level.
const DEPTH: u32 = 100;

/// How long an expression may be; the longest that fail2ban ships, put together, has 4,000 bytes.
const LONGEST: usize = 16 * 1024;

/// Python's own largest group number is far above; no filter has this many.
const GROUPS: u32 = 1000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a letter of the syntax")]
pub(super) struct Flags {
    fold: bool,
    multiline: bool,
    dotall: bool,
    verbose: bool,
    ascii: bool,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    groups: u32,
    names: HashMap<String, u32>,
    open: HashSet<u32>,
    /// Groups that conditions name by number, which may come later.
    awaited: Vec<(u32, usize)>,
    /// Flags for the whole text that stand within it.
    global: Flags,
}

type Parsed<T> = Result<T, ExpressionError>;

/// Reads a whole expression.
pub(super) fn parse(text: &str, multiline: bool) -> Parsed<Tree> {
    if text.len() > LONGEST {
        return Err(ExpressionError::TooLong(text.len()));
    }
    let mut flags = Flags { multiline, ..Flags::default() };
    // A flag for the whole text is known once it has been read: then it is read again.
    loop {
        let mut parser = Parser { text, at: 0, groups: 0, names: HashMap::new(), open: HashSet::new(), awaited: Vec::new(), global: flags };
        let node = parser.alternation(flags, 0)?;
        if parser.at < text.len() {
            return Err(parser.wrong("a `)` that closes nothing"));
        }
        if parser.global != flags {
            flags = parser.global;
            continue;
        }
        if let Some(&(_, at)) = parser.awaited.iter().find(|(group, _)| *group > parser.groups) {
            return Err(ExpressionError::Syntax { at, what: "a condition on a group that is not there" });
        }
        return Ok(Tree { node, groups: parser.groups, names: parser.names });
    }
}

impl<'a> Parser<'a> {
    pub(super) const fn wrong(&self, what: &'static str) -> ExpressionError {
        ExpressionError::Syntax { at: self.at, what }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let here = self.rest().starts_with(text);
        if here {
            self.at += text.len();
        }
        here
    }

    pub(super) fn alternation(&mut self, mut flags: Flags, depth: u32) -> Parsed<Node> {
        if depth > DEPTH {
            return Err(self.wrong("too many groups in each other"));
        }
        let mut all = Vec::new();
        loop {
            all.push(self.sequence(&mut flags, depth)?);
            if !self.eat("|") {
                break;
            }
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Node::Alt(all) })
    }

    pub(super) fn sequence(&mut self, flags: &mut Flags, depth: u32) -> Parsed<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        // Whether the last piece is one that may be repeated.
        let mut repeatable = false;
        while let Some(c) = self.peek() {
            match c {
                '|' | ')' => break,
                _ if flags.verbose && (c.is_ascii_whitespace() || c == '\u{b}') => {
                    self.next();
                }
                '#' if flags.verbose => {
                    self.next();
                    while self.next().is_some_and(|c| c != '\n') {}
                }
                '*' | '+' | '?' | '{' => {
                    if let Some(times) = self.times()? {
                        let node = nodes.pop().filter(|_| repeatable).ok_or_else(|| self.wrong("nothing to repeat"))?;
                        nodes.push(Node::Repeat(Box::new(node), times));
                        repeatable = false;
                    } else {
                        self.next();
                        nodes.push(literal(c, *flags));
                        repeatable = true;
                    }
                }
                _ => {
                    if let Some(node) = self.atom(flags, depth)? {
                        // A place in a group of its own may be repeated.
                        repeatable = c == '(' || !matches!(node, Node::Assert(_));
                        nodes.push(node);
                    }
                }
            }
        }
        Ok(Node::concat(nodes))
    }

    /// A quantifier; `None` where `{` is itself.
    fn times(&mut self) -> Parsed<Option<Times>> {
        let start = self.at;
        let (min, max) = match self.next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            _ => {
                if self.peek() == Some('}') {
                    self.at = start;
                    return Ok(None);
                }
                let low = self.number();
                let high = if self.eat(",") { self.number() } else { low };
                if !self.eat("}") {
                    self.at = start;
                    return Ok(None);
                }
                let many = |text: &str| text.parse::<u32>().map_err(|_| ExpressionError::Syntax { at: start, what: "too large a repeat" });
                let min = if low.is_empty() { 0 } else { many(low)? };
                let max = if high.is_empty() { None } else { Some(many(high)?) };
                if max.is_some_and(|max| max < min) {
                    return Err(self.wrong("a repeat whose least is more than its most"));
                }
                (min, max)
            }
        };
        let greed = if self.eat("?") {
            Greed::Lazy
        } else if self.eat("+") {
            Greed::Possessive
        } else {
            Greed::Greedy
        };
        Ok(Some(Times { min, max, greed }))
    }

    fn number(&mut self) -> &'a str {
        let rest = self.rest();
        let digits = rest.get(..rest.bytes().take_while(u8::is_ascii_digit).count()).unwrap_or_default();
        self.at += digits.len();
        digits
    }

    fn atom(&mut self, flags: &mut Flags, depth: u32) -> Parsed<Option<Node>> {
        let Some(c) = self.next() else { return Ok(None) };
        Ok(Some(match c {
            '^' => Node::Assert(if flags.multiline { Assert::LineStart } else { Assert::Start }),
            '$' => Node::Assert(if flags.multiline { Assert::LineEnd } else { Assert::Dollar }),
            '.' => Node::Set(if flags.dotall { ANY.clone() } else { NOT_NEWLINE.clone() }),
            '[' => self.set(*flags)?,
            '(' => return self.group(flags, depth),
            '\\' => self.escape(*flags)?,
            c => literal(c, *flags),
        }))
    }
}

impl Flags {
    const fn set(&mut self, letter: char, on: bool) -> bool {
        match letter {
            'i' => self.fold = on,
            'm' => self.multiline = on,
            's' => self.dotall = on,
            'x' => self.verbose = on,
            'a' => self.ascii = on,
            'u' => self.ascii = false,
            _ => return false,
        }
        true
    }

    const fn with(self, other: Self) -> Self {
        Self {
            fold: self.fold || other.fold,
            multiline: self.multiline || other.multiline,
            dotall: self.dotall || other.dotall,
            verbose: self.verbose || other.verbose,
            ascii: self.ascii || other.ascii,
        }
    }
}

fn literal(c: char, flags: Flags) -> Node {
    if flags.fold { folded(c) } else { Node::Char(c) }
}
