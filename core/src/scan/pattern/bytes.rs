//! A set of bytes.

use regex_syntax::hir::Class;

/// One bit a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes([u64; 4]);

impl Bytes {
    pub(super) const NONE: Self = Self([0; 4]);
    pub(super) const ALL: Self = Self([u64::MAX; 4]);

    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut set = Self::NONE;
        bytes.iter().for_each(|b| set.put(*b));
        set
    }

    pub(super) fn of_class(class: &Class) -> Self {
        let mut set = Self::NONE;
        match class {
            Class::Bytes(class) => class.ranges().iter().for_each(|r| (r.start()..=r.end()).for_each(|b| set.put(b))),
            // Not made with Unicode off; taken as everything, which can only refuse more.
            Class::Unicode(_) => set = Self::ALL,
        }
        set
    }

    fn put(&mut self, byte: u8) {
        self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| a & b != 0)
    }

    pub(super) fn holds_all(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(a, b)| b & !a == 0)
    }

    /// A byte of both sets, one that reads well where there is one.
    pub(super) fn example(&self, other: &Self) -> u8 {
        let well = b"1.:x X_-";
        let both = |b: &u8| self.has(*b) && other.has(*b);
        well.iter().copied().find(both).or_else(|| (b'!'..=b'~').find(both)).unwrap_or(b'?')
    }
}
