//! A line of named fields: a JSON object or `key=value` words.
//!
//! All fields are found in one walk and kept as places in the line; their texts are looked at only
//! when a rule asks. The memory is used again for the next line.
//!
//! **A field that stands twice with different values has none.** Which of the two another reader
//! would take differs (RFC 8259 4), and where the name of a field can come from a client (a header,
//! a form) the second may be its: so neither is believed, and the line blames nobody.

use std::borrow::Cow;

use super::unescape::unescape;
use super::{json, logfmt};

/// A place in the line, and whether there are escapes in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    from: u32,
    to: u32,
    escaped: bool,
}

impl Span {
    /// `None` for a line of 4 GiB.
    pub(super) fn new(from: usize, to: usize, escaped: bool) -> Option<Self> {
        Some(Self { from: u32::try_from(from).ok()?, to: u32::try_from(to).ok()?, escaped })
    }

    pub(super) fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.from as usize..self.to as usize).unwrap_or_default()
    }
}

/// The object that a field stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent(u32);

impl Parent {
    /// The line itself.
    pub(super) const NONE: Self = Self(u32::MAX);
}

#[derive(Clone, Copy, Debug)]
struct Field {
    parent: Parent,
    key: Span,
    /// `None` for an object.
    value: Option<Span>,
}

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<Field>);

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn leaf(&mut self, parent: Parent, key: Span, value: Span) -> Option<()> {
        self.push(Field { parent, key, value: Some(value) }).map(drop)
    }

    pub(super) fn branch(&mut self, parent: Parent, key: Span) -> Option<Parent> {
        self.push(Field { parent, key, value: None })
    }

    fn push(&mut self, field: Field) -> Option<Parent> {
        let at = u32::try_from(self.0.len()).ok().filter(|at| *at != u32::MAX)?;
        self.0.push(field);
        Some(Parent(at))
    }
}

/// Most fields whose memory is kept for the next line: ten times what a talkative logger writes.
const KEPT: usize = 1024;

/// The fields of one line, and memory for those of the next.
#[derive(Debug, Default)]
pub struct Record {
    fields: Fields,
}

/// The text of one field.
#[derive(Clone, Copy, Debug)]
pub struct Value<'t> {
    raw: &'t [u8],
    escaped: bool,
}

impl<'t> Value<'t> {
    /// A text that has no escapes.
    pub(super) const fn plain(raw: &'t [u8]) -> Self {
        Self { raw, escaped: false }
    }

    /// As it stands in the line.
    pub(super) const fn raw(self) -> &'t [u8] {
        self.raw
    }

    /// Appends it without escapes.
    pub fn append(self, out: &mut Vec<u8>) {
        if self.escaped {
            unescape(self.raw, out);
        } else {
            out.extend_from_slice(self.raw);
        }
    }

    /// Without escapes; `buffer` is used only where there were some.
    pub fn text<'b>(self, buffer: &'b mut Vec<u8>) -> &'b [u8]
    where
        't: 'b,
    {
        if !self.escaped {
            return self.raw;
        }
        buffer.clear();
        unescape(self.raw, buffer);
        buffer
    }

    /// Without escapes.
    pub fn into_text(self) -> Cow<'t, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut text = Vec::new();
        unescape(self.raw, &mut text);
        Cow::Owned(text)
    }
}

/// What a line says in a field.
#[derive(Clone, Copy, Debug)]
pub enum Got<'t> {
    /// There is no such field, or it is no text, number or truth value.
    Nothing,
    /// Two different values.
    Twice,
    /// This.
    One(Value<'t>),
}

impl Record {
    /// Finds the fields of a line; false where it has none.
    pub fn read(&mut self, text: &[u8]) -> bool {
        self.fields.0.clear();
        self.fields.0.shrink_to(KEPT);
        let json = text.trim_ascii_start().starts_with(b"{");
        let read = if json { json::read(text, &mut self.fields) } else { logfmt::read(text.trim_ascii_end(), &mut self.fields) };
        if read.is_none() {
            self.fields.0.clear();
        }
        read.is_some()
    }

    /// The field of this dotted name, of the text that was read.
    pub fn get<'t>(&self, text: &'t [u8], path: &str) -> Got<'t> {
        let mut got = Got::Nothing;
        for field in &self.fields.0 {
            let Some(span) = field.value.filter(|_| self.is_at(field, text, path.as_bytes())) else { continue };
            let value = Value { raw: span.of(text), escaped: span.escaped };
            got = match got {
                Got::Nothing => Got::One(value),
                Got::One(first) if first.raw == value.raw => got,
                _ => Got::Twice,
            };
        }
        got
    }

    /// Whether the field's name, and the names of the objects around it, are this path. Walked from
    /// the field outwards; each step takes a part off the path.
    fn is_at(&self, field: &Field, text: &[u8], path: &[u8]) -> bool {
        let Some(mut rest) = path.strip_suffix(field.key.of(text)) else { return false };
        let mut parent = field.parent;
        while parent != Parent::NONE {
            let Some(outer) = self.fields.0.get(parent.0 as usize) else { return false };
            let Some(left) = rest.strip_suffix(b".").and_then(|rest| rest.strip_suffix(outer.key.of(text))) else { return false };
            (rest, parent) = (left, outer.parent);
        }
        rest.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The text of a field, for the tests of both kinds of lines.
    pub(in super::super) fn get(text: &str, path: &str) -> Option<String> {
        let mut record = Record::default();
        if !record.read(text.as_bytes()) {
            return None;
        }
        match record.get(text.as_bytes(), path) {
            Got::One(value) => Some(String::from_utf8_lossy(&value.into_text()).into_owned()),
            _ => None,
        }
    }
}
