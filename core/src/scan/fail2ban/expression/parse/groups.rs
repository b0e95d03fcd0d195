//! What an opening parenthesis begins.

use super::super::syntax::{Look, Node};
use super::{DEPTH, ExpressionError, Flags, GROUPS, Parsed, Parser};

impl<'a> Parser<'a> {
    /// What stands after `(`; `None` for a comment or flags of the whole text.
    pub(super) fn group(&mut self, flags: &mut Flags, depth: u32) -> Parsed<Option<Node>> {
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
