//! Places in a text, and what stands there.

use super::program::Set;
use super::syntax::{Assert, is_word};

/// So many characters back from here; `None` where there are not as many.
pub(super) fn behind(text: &str, at: usize, back: Option<usize>) -> Option<usize> {
    let Some(back @ 1..) = back else { return Some(at) };
    text.get(..at)?.char_indices().rev().nth(back - 1).map(|(from, _)| from)
}

/// As many characters of a set as there are, up to `most`: where they end, and how many.
pub(super) fn forward(set: &Set, text: &str, mut at: usize, most: u32) -> (usize, u32) {
    let mut taken = 0;
    while taken < most
        && let Some(c) = char_at(text, at)
        && set.contains(c)
    {
        at += c.len_utf8();
        taken += 1;
    }
    (at, taken)
}

pub(super) fn char_at(text: &str, at: usize) -> Option<char> {
    match text.as_bytes().get(at) {
        Some(byte) if byte.is_ascii() => Some(char::from(*byte)),
        Some(_) => text.get(at..).and_then(|rest| rest.chars().next()),
        None => None,
    }
}

/// Whether this is such a place.
pub(super) fn holds(place: Assert, text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    match place {
        Assert::Start => at == 0,
        Assert::End => at == bytes.len(),
        Assert::Dollar => at == bytes.len() || (at + 1 == bytes.len() && bytes.last() == Some(&b'\n')),
        Assert::LineStart => at == 0 || before == Some(&b'\n'),
        Assert::LineEnd => bytes.get(at).is_none_or(|byte| *byte == b'\n'),
        Assert::Word { ascii } => at_word(text, at, ascii),
        Assert::NotWord { ascii } => !text.is_empty() && !at_word(text, at, ascii),
    }
}

/// Whether a word begins or ends here.
fn at_word(text: &str, at: usize, ascii: bool) -> bool {
    let word = |c: char| if c.is_ascii() { c == '_' || c.is_ascii_alphanumeric() } else { !ascii && is_word(c) };
    let before = text.get(..at).and_then(|before| before.chars().next_back()).is_some_and(word);
    before != char_at(text, at).is_some_and(word)
}
