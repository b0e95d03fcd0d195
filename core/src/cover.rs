//! Which prefix lengths are in use: what makes "is anything here that covers this?" a handful of
//! exact look-ups in an ordered map instead of a walk through it.
//!
//! What lies *inside* a prefix needs no such help: [`Prefix`]'s order puts it directly behind the
//! prefix itself, up to [`end_of`].

use crate::net::{Family, Prefix};

/// How many entries there are of each prefix length.
#[derive(Clone, Debug)]
pub struct Lengths {
    v4: [u32; 33],
    v6: [u32; 129],
}

impl Default for Lengths {
    fn default() -> Self {
        Self { v4: [0; 33], v6: [0; 129] }
    }
}

impl Lengths {
    fn of(&self, family: Family) -> &[u32] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn slot(&mut self, prefix: Prefix) -> &mut u32 {
        match prefix.family() {
            Family::V4 => &mut self.v4[usize::from(prefix.len())],
            Family::V6 => &mut self.v6[usize::from(prefix.len())],
        }
    }

    /// One entry more with this prefix.
    pub fn add(&mut self, prefix: Prefix) {
        let slot = self.slot(prefix);
        *slot = slot.saturating_add(1);
    }

    /// One entry less with this prefix.
    pub fn remove(&mut self, prefix: Prefix) {
        let slot = self.slot(prefix);
        *slot = slot.saturating_sub(1);
    }

    /// The prefixes that could be entries and cover `prefix`, itself included where its length is
    /// in use; widest first.
    pub fn covers_of(&self, prefix: Prefix) -> impl DoubleEndedIterator<Item = Prefix> + '_ {
        (0..=prefix.len()).filter(move |len| self.of(prefix.family())[usize::from(*len)] > 0).map(move |len| prefix.widen(len))
    }
}

/// The last prefix in order that lies within `prefix`.
pub fn end_of(prefix: Prefix) -> Prefix {
    Prefix::host(prefix.last())
}
