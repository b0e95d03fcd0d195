//! Sets of characters, as `[...]`, `\d`, `\w` and `\s` name them.
//!
//! ASCII is told apart character by character, all other characters by three kinds.

/// Characters outside ASCII, as far as classes tell them apart.
pub(super) const WORDS: u8 = 1;
pub(super) const SPACES: u8 = 2;
pub(super) const REST: u8 = 4;

/// A set of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    ascii: u128,
    other: u8,
}

impl Class {
    pub(super) const NONE: Self = Self { ascii: 0, other: 0 };
    pub(super) const ALL: Self = Self { ascii: u128::MAX, other: WORDS | SPACES | REST };

    pub(super) fn of(inside: impl Fn(u8) -> bool, other: u8) -> Self {
        let ascii = (0..128u8).filter(|b| inside(*b)).fold(0, |set, b| set | 1 << b);
        Self { ascii, other }
    }

    pub(super) fn digits() -> Self {
        Self::of(|b| b.is_ascii_digit(), 0)
    }

    pub(super) fn words() -> Self {
        Self::of(|b| b.is_ascii_alphanumeric() || b == b'_', WORDS)
    }

    /// Python's, which has the four separators of ASCII.
    pub(super) fn spaces() -> Self {
        Self::of(|b| matches!(b, b' ' | 9..=13 | 28..=31), SPACES)
    }

    pub(super) const fn not(self) -> Self {
        Self { ascii: !self.ascii, other: !self.other & (WORDS | SPACES | REST) }
    }

    pub(super) const fn with(self, more: Self) -> Self {
        Self { ascii: self.ascii | more.ascii, other: self.other | more.other }
    }

    pub(super) const fn byte(b: u8) -> Self {
        Self { ascii: if b < 128 { 1 << b } else { 0 }, other: 0 }
    }

    /// Those of ASCII, a bit each.
    pub(super) const fn ascii(self) -> u128 {
        self.ascii
    }

    pub(super) fn any_case(self) -> Self {
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
