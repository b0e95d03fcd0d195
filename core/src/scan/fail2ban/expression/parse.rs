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

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::ExpressionError;
use super::syntax::{ANY, Assert, Greed, Look, NOT_NEWLINE, Node, SHORTHANDS, Times, Tree, fold, folded};

/// How deep groups may stand in each other: what walks the tree calls itself once a level.
const DEPTH: u32 = 100;

/// How long an expression may be; the longest that fail2ban ships, put together, has 4,000 bytes.
const LONGEST: usize = 16 * 1024;

/// Python's own largest group number is far above; no filter has this many.
const GROUPS: u32 = 1000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a letter of the syntax")]
struct Flags {
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
    const fn wrong(&self, what: &'static str) -> ExpressionError {
        ExpressionError::Syntax { at: self.at, what }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let here = self.rest().starts_with(text);
        if here {
            self.at += text.len();
        }
        here
    }

    fn alternation(&mut self, mut flags: Flags, depth: u32) -> Parsed<Node> {
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

    fn sequence(&mut self, flags: &mut Flags, depth: u32) -> Parsed<Node> {
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

    fn escape(&mut self, flags: Flags) -> Parsed<Node> {
        let Some(c) = self.peek() else { return Err(self.wrong("a backslash at the end")) };
        let ascii = flags.ascii;
        let place = match c {
            'A' => Some(Assert::Start),
            'Z' => Some(Assert::End),
            'b' => Some(Assert::Word { ascii }),
            'B' => Some(Assert::NotWord { ascii }),
            _ => None,
        };
        if let Some(place) = place {
            self.next();
            return Ok(Node::Assert(place));
        }
        if let Some(class) = shorthand(c, ascii) {
            self.next();
            return Ok(Node::Set(class));
        }
        if matches!(c, '1'..='9') {
            return self.numbered(flags);
        }
        Ok(literal(self.escaped_char()?, flags))
    }

    /// `\1`, `\12`, or three octal digits.
    fn numbered(&mut self, flags: Flags) -> Parsed<Node> {
        let rest = self.rest();
        let digits = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
        let octal = rest.get(..3).filter(|three| three.bytes().all(|b| matches!(b, b'0'..=b'7')));
        if let Some(value) = octal.and_then(|three| u32::from_str_radix(three, 8).ok()) {
            self.at += 3;
            let c = char::from_u32(value).filter(|_| value <= 0o377).ok_or_else(|| self.wrong("an octal escape above \\377"))?;
            return Ok(literal(c, flags));
        }
        let group = rest.get(..digits).and_then(|digits| digits.parse().ok()).unwrap_or(0);
        self.at += digits;
        self.again(group, flags)
    }

    fn again(&self, group: u32, flags: Flags) -> Parsed<Node> {
        if group == 0 || group > self.groups {
            return Err(self.wrong("a back reference to a group that is not there"));
        }
        if self.open.contains(&group) {
            return Err(self.wrong("a back reference to a group that is still open"));
        }
        Ok(Node::Again { group, fold: flags.fold })
    }

    /// The one character that an escape, whose backslash has been read, stands for.
    fn escaped_char(&mut self) -> Parsed<char> {
        let Some(c) = self.next() else { return Err(self.wrong("a backslash at the end")) };
        Ok(match c {
            'a' => '\u{7}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => self.hex(2)?,
            'u' => self.hex(4)?,
            'U' => self.hex(8)?,
            '0'..='7' => self.octal(c),
            c if c.is_ascii_alphanumeric() => return Err(self.wrong("an escape that Python does not know")),
            c => c,
        })
    }

    fn octal(&mut self, first: char) -> char {
        let mut value = first.to_digit(8).unwrap_or(0);
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
            self.next();
            value = value * 8 + digit;
        }
        char::from_u32(value).unwrap_or('\0')
    }

    fn hex(&mut self, digits: usize) -> Parsed<char> {
        let text = self.rest().get(..digits).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let c = text.and_then(|text| u32::from_str_radix(text, 16).ok()).and_then(char::from_u32);
        self.at += text.map_or(0, str::len);
        c.ok_or_else(|| self.wrong("an escape that is no character"))
    }

    fn set(&mut self, flags: Flags) -> Parsed<Node> {
        let negated = self.eat("^");
        let mut class = ClassUnicode::empty();
        let mut first = true;
        loop {
            let Some(c) = self.peek() else { return Err(self.wrong("a `[` that is not closed")) };
            if c == ']' && !first {
                self.next();
                break;
            }
            first = false;
            let low = self.member(flags)?;
            // `-` before the closing bracket, or after a shorthand, is itself.
            let ranged = self.rest().starts_with('-') && !self.rest().starts_with("-]") && self.rest().len() > 1;
            match (low, ranged) {
                (Member::Class(set), false) => class.union(&set),
                (Member::Char(c), false) => class.push(ClassUnicodeRange::new(c, c)),
                (Member::Class(_), true) => return Err(self.wrong("a range that begins with a set")),
                (Member::Char(low), true) => {
                    self.next();
                    let Member::Char(high) = self.member(flags)? else { return Err(self.wrong("a range that ends in a set")) };
                    if high < low {
                        return Err(self.wrong("a range that ends before it begins"));
                    }
                    class.push(ClassUnicodeRange::new(low, high));
                }
            }
        }
        if flags.fold {
            fold(&mut class);
        }
        if negated {
            class.negate();
        }
        Ok(match class.ranges() {
            [one] if one.start() == one.end() => Node::Char(one.start()),
            _ => Node::Set(Arc::new(class)),
        })
    }

    fn member(&mut self, flags: Flags) -> Parsed<Member> {
        let Some(c) = self.next() else { return Err(self.wrong("a `[` that is not closed")) };
        if c != '\\' {
            return Ok(Member::Char(c));
        }
        match self.peek() {
            Some('b') => {
                self.next();
                Ok(Member::Char('\u{8}'))
            }
            Some(c) => match shorthand(c, flags.ascii) {
                Some(class) => {
                    self.next();
                    Ok(Member::Class(class))
                }
                None => Ok(Member::Char(self.escaped_char()?)),
            },
            None => Err(self.wrong("a backslash at the end")),
        }
    }

    /// What stands after `(`; `None` for a comment or flags of the whole text.
    fn group(&mut self, flags: &mut Flags, depth: u32) -> Parsed<Option<Node>> {
        if !self.eat("?") {
            return self.capture(None, *flags, depth).map(Some);
        }
        if self.eat("P<") {
            let name = self.name('>')?;
            return self.capture(Some(name), *flags, depth).map(Some);
        }
        if self.eat("P=") {
            let name = self.name(')')?;
            let group = self.names.get(name).copied().unwrap_or(0);
            return self.again(group, *flags).map(Some);
        }
        if self.eat("#") {
            let length = self.rest().find(')').ok_or_else(|| self.wrong("a comment that is not closed"))?;
            self.at += length + 1;
            return Ok(None);
        }
        if self.eat("(") {
            return self.condition(*flags, depth).map(Some);
        }
        let looks = [("=", false, false), ("!", true, false), ("<=", false, true), ("<!", true, true)];
        for (mark, negated, behind) in looks {
            if self.eat(mark) {
                return self.look(negated, behind, *flags, depth).map(Some);
            }
        }
        if self.eat(">") {
            let node = self.closed(*flags, depth)?;
            return Ok(Some(Node::Atomic(Box::new(node))));
        }
        if self.eat(":") {
            return self.closed(*flags, depth).map(Some);
        }
        self.flagged(flags, depth)
    }

    /// A group's body up to its `)`.
    fn closed(&mut self, flags: Flags, depth: u32) -> Parsed<Node> {
        let node = self.alternation(flags, depth + 1)?;
        if self.eat(")") { Ok(node) } else { Err(self.wrong("a `(` that is not closed")) }
    }

    fn capture(&mut self, name: Option<&str>, flags: Flags, depth: u32) -> Parsed<Node> {
        if self.groups >= GROUPS {
            return Err(self.wrong("too many groups"));
        }
        self.groups += 1;
        let index = self.groups;
        if let Some(name) = name
            && self.names.insert(name.to_owned(), index).is_some()
        {
            return Err(ExpressionError::Twice(name.to_owned()));
        }
        self.open.insert(index);
        let node = self.closed(flags, depth)?;
        self.open.remove(&index);
        Ok(Node::Group(index, Box::new(node)))
    }

    /// A group's name up to `end`, as Python's identifiers are.
    fn name(&mut self, end: char) -> Parsed<&'a str> {
        let length = self.rest().find(end).ok_or_else(|| self.wrong("a group name that does not end"))?;
        let name = self.rest().get(..length).unwrap_or_default();
        let begins = name.chars().next().is_some_and(|c| c == '_' || c.is_alphabetic());
        if !begins || !name.chars().all(|c| c == '_' || c.is_alphanumeric()) {
            return Err(self.wrong("a group name that is no name"));
        }
        self.at += length + end.len_utf8();
        Ok(name)
    }

    fn condition(&mut self, flags: Flags, depth: u32) -> Parsed<Node> {
        let length = self.rest().find(')').ok_or_else(|| self.wrong("a condition that is not closed"))?;
        let name = self.rest().get(..length).unwrap_or_default();
        let group = match self.names.get(name) {
            Some(&group) => group,
            None => {
                let group = name.parse().ok().filter(|group| *group > 0);
                let group = group.ok_or_else(|| self.wrong("a condition on a group that is not there"))?;
                self.awaited.push((group, self.at));
                group
            }
        };
        self.at += length + 1;
        if depth >= DEPTH {
            return Err(self.wrong("too many groups in each other"));
        }
        let mut inner = flags;
        let yes = self.sequence(&mut inner, depth + 1)?;
        let no = if self.eat("|") { self.sequence(&mut inner, depth + 1)? } else { Node::Empty };
        if self.eat("|") {
            return Err(self.wrong("a condition with more than two branches"));
        }
        if !self.eat(")") {
            return Err(self.wrong("a `(` that is not closed"));
        }
        Ok(Node::Cond { group, yes: Box::new(yes), no: Box::new(no) })
    }

    fn look(&mut self, negated: bool, behind: bool, flags: Flags, depth: u32) -> Parsed<Node> {
        let node = self.closed(flags, depth)?;
        let back = if behind {
            let width = node.width();
            Some(width.ok_or_else(|| self.wrong("a look-behind whose width is not fixed"))?)
        } else {
            None
        };
        Ok(Node::Look(Box::new(Look { negated, back, node })))
    }

    /// `(?i)`, `(?i:...)`, `(?-i:...)`.
    fn flagged(&mut self, flags: &mut Flags, depth: u32) -> Parsed<Option<Node>> {
        let mut inner = *flags;
        let mut off = false;
        loop {
            match self.next() {
                Some('-') if !off => off = true,
                Some(':') => return self.closed(inner, depth).map(Some),
                // It holds for the whole text, what stands before included.
                Some(')') if !off => {
                    self.global = self.global.with(inner);
                    *flags = inner;
                    return Ok(None);
                }
                Some(c) => {
                    let known = inner.set(c, !off);
                    if !known {
                        return Err(self.wrong("a group that Python does not know"));
                    }
                }
                None => return Err(self.wrong("flags that do not end")),
            }
        }
    }
}

enum Member {
    Char(char),
    Class(Arc<ClassUnicode>),
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

/// `\d` and the like: by Unicode, or by ASCII.
fn shorthand(c: char, ascii: bool) -> Option<Arc<ClassUnicode>> {
    let set = SHORTHANDS.get("dDsSwW".find(c)?)?;
    Some(if ascii { set.1.clone() } else { set.0.clone() })
}
