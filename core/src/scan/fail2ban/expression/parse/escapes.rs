//! What a backslash begins, and what stands in brackets.

use std::sync::Arc;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::super::syntax::{Assert, Node, SHORTHANDS, fold};
use super::{Flags, Parsed, Parser, literal};

impl<'a> Parser<'a> {
    pub(super) fn escape(&mut self, flags: Flags) -> Parsed<Node> {
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

    pub(super) fn again(&self, group: u32, flags: Flags) -> Parsed<Node> {
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

    pub(super) fn set(&mut self, flags: Flags) -> Parsed<Node> {
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
}

enum Member {
    Char(char),
    Class(Arc<ClassUnicode>),
}

/// `\d` and the like: by Unicode, or by ASCII.
fn shorthand(c: char, ascii: bool) -> Option<Arc<ClassUnicode>> {
    let set = SHORTHANDS.get("dDsSwW".find(c)?)?;
    Some(if ascii { set.1.clone() } else { set.0.clone() })
}
