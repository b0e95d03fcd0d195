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
    /// How its name ends.
    ending: u16,
    /// The field before it whose name ends alike; [`NO_FIELD`] if there is none.
    alike: u32,
}

/// No field has this number.
const NO_FIELD: u32 = u32::MAX;

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct Fields {
    all: Vec<Field>,
    /// For each [`ending`] the last field whose name has it; empty until there is a field. So a rule's
    /// name is not held against each of a hundred thousand fields.
    last: Vec<u32>,
}

/// Bits of an [`ending`]: with so many it is a rare chance that two names have one.
const ENDINGS: u32 = 12;

/// A number for a name by its last four bytes, or all it has.
fn ending(name: &[u8]) -> u16 {
    let last = name
        .last_chunk::<4>()
        .map_or_else(|| name.iter().fold(1, |all, byte| all << 8 | u32::from(*byte)), |last| u32::from_le_bytes(*last));
    u16::try_from(last.wrapping_mul(0x9e37_79b1) >> (32 - ENDINGS)).unwrap_or(0)
}

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn clear(&mut self) {
        for field in self.all.drain(..) {
            if let Some(last) = self.last.get_mut(usize::from(field.ending)) {
                *last = NO_FIELD;
            }
        }
        self.all.shrink_to(KEPT);
    }

    /// Those whose name ends as this one does, which the last bytes of a path may be.
    fn ending(&self, name: &[u8]) -> impl Iterator<Item = &Field> {
        let field = |number: u32| self.all.get(number as usize);
        std::iter::successors(self.last.get(usize::from(ending(name))).and_then(|last| field(*last)), move |before| field(before.alike))
    }

    pub(super) fn leaf(&mut self, text: &[u8], parent: Parent, key: Span, value: Span) -> Option<()> {
        self.push(text, parent, key, Some(value)).map(drop)
    }

    pub(super) fn branch(&mut self, text: &[u8], parent: Parent, key: Span) -> Option<Parent> {
        self.push(text, parent, key, None)
    }

    fn push(&mut self, text: &[u8], parent: Parent, key: Span, value: Option<Span>) -> Option<Parent> {
        let at = u32::try_from(self.all.len()).ok().filter(|at| *at != NO_FIELD)?;
        if self.last.is_empty() {
            self.last.resize(1 << ENDINGS, NO_FIELD);
        }
        let ending = ending(key.of(text));
        let alike = std::mem::replace(self.last.get_mut(usize::from(ending))?, at);
        self.all.push(Field { parent, key, value, ending, alike });
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
    pub(in super::super) const fn raw(self) -> &'t [u8] {
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

    /// Without escapes; the memory is used only where there were some.
    pub fn text<'b>(self, memory: &'b mut Unescaped) -> &'b [u8]
    where
        't: 'b,
    {
        if !self.escaped {
            return self.raw;
        }
        let of = (self.raw.as_ptr().addr(), self.raw.len());
        if memory.of != Some(of) {
            memory.text.clear();
            unescape(self.raw, &mut memory.text);
            memory.of = Some(of);
        }
        &memory.text
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

/// The last text that was looked at without its escapes: rule after rule asks for the same.
#[derive(Debug, Default)]
pub struct Unescaped {
    /// Where in memory it stands, which holds for one line only.
    of: Option<(usize, usize)>,
    text: Vec<u8>,
}

impl Unescaped {
    /// To be told when another line is looked at.
    pub fn forget(&mut self) {
        self.of = None;
        self.text.clear();
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
        self.fields.clear();
        let json = text.trim_ascii_start().starts_with(b"{");
        let read = if json { json::read(text, &mut self.fields) } else { logfmt::read(text.trim_ascii_end(), &mut self.fields) };
        if read.is_none() {
            self.fields.clear();
        }
        read.is_some()
    }

    /// The field of this dotted name, of the text that was read.
    pub fn get<'t>(&self, text: &'t [u8], path: &str) -> Got<'t> {
        let mut got = Got::Nothing;
        let path = path.as_bytes();
        // Its last part may be of any length.
        let ends = (1..=4).filter_map(|length| path.get(path.len().checked_sub(length)?..));
        for field in ends.flat_map(|end| self.fields.ending(end)) {
            let Some(span) = field.value.filter(|_| self.is_at(field, text, path)) else { continue };
            let value = Value { raw: span.of(text), escaped: span.escaped };
            got = match got {
                Got::Nothing => Got::One(value),
                Got::One(first) if first.raw == value.raw => got,
                _ => return Got::Twice,
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
            let Some(outer) = self.fields.all.get(parent.0 as usize) else { return false };
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
