//! A search that looks at few places of a text only.
//!
//! Of each needle a few pieces of as many bytes in a row are kept, one beginning at each of [`Sieve`]'s
//! `stride` neighbouring bytes: wherever the needle stands in a text, one of them begins at a multiple
//! of the stride. So only there is anything looked at: whether the bytes are a piece, first by a hash
//! in a table of bits, then in earnest. No look waits for another, as the steps of an automaton do.
//!
//! Pieces are compared as if each byte had the bit that sets small letters apart: with and without it
//! is the same piece. That can only find too much, and what is found is compared with the needle.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::super::needles::weight;
use super::{Found, Text};

/// So many bytes are looked at before anything found in them is followed: a bit for each place.
const CHUNK: usize = 64;
/// A piece may reach past the last place of a chunk.
const REACH: usize = CHUNK + 8;
/// Words of the table of bits: half of the nearest cache. With three thousand pieces one look in a
/// hundred is for nothing.
const WORDS: usize = 4096;
/// The bit that sets small letters apart, in each byte.
const SMALL: u64 = 0x2020_2020_2020_2020;
/// Spreads bits upwards: 2^64 by the golden ratio (Knuth, The Art of Computer Programming 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Needles by pieces of theirs.
#[derive(Clone, Debug)]
pub(super) struct Sieve {
    stride: usize,
    /// Which bytes of eight are a piece.
    mask: u64,
    bits: Box<[u64; WORDS]>,
    pieces: HashMap<u64, Vec<(usize, usize)>, BuildHasherDefault<Spread>>,
    needles: Vec<Text>,
}

impl Sieve {
    /// For needles of at least `shortest` bytes, 3 or more.
    pub(super) fn new(needles: Vec<Text>, shortest: usize) -> Self {
        // As few looks as can be, and of what is left pieces as long as can be: short ones stand in many lines.
        let (stride, size) = match shortest {
            0..=3 => (2, 2),
            4 => (2, 3),
            5 => (2, 4),
            6 => (2, 5),
            7..=11 => (4, shortest - 3),
            12..=14 => (4, 8),
            _ => (8, 8),
        };
        let mask = u64::MAX >> (64 - 8 * size);
        let mut sieve = Self { stride, mask, bits: Box::new([0; WORDS]), pieces: HashMap::default(), needles };
        let span = stride + size - 1;
        for (index, text) in sieve.needles.iter().enumerate() {
            // The rarest.
            let from = (0..(text.bytes.len() + 1).saturating_sub(span))
                .max_by_key(|from| text.bytes.get(*from..from + span).map_or(0, weight))
                .unwrap_or(0);
            for offset in from..from + stride {
                let piece = (eight(&text.bytes, offset) | SMALL) & mask;
                let (word, bit) = place(piece);
                if let Some(word) = sieve.bits.get_mut(word) {
                    *word |= 1 << bit;
                }
                sieve.pieces.entry(piece).or_default().push((index, offset));
            }
        }
        sieve
    }

    /// All needles in a text.
    pub(super) fn find(&self, text: &[u8], found: &mut Vec<Found>) {
        match self.stride {
            2 => self.by::<2>(text, found),
            4 => self.by::<4>(text, found),
            _ => self.by::<8>(text, found),
        }
    }

    fn by<const STRIDE: usize>(&self, text: &[u8], found: &mut Vec<Found>) {
        let mut from = 0;
        while let Some(chunk) = text.get(from..from + REACH).and_then(|chunk| chunk.try_into().ok()) {
            self.follow::<STRIDE>(text, from, self.looks::<STRIDE>(chunk), found);
            from += CHUNK;
        }
        // The rest, with nothing behind it.
        while let Some(rest) = text.get(from..).filter(|rest| !rest.is_empty()) {
            let mut chunk = [0; REACH];
            chunk.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
            self.follow::<STRIDE>(text, from, self.looks::<STRIDE>(&chunk), found);
            from += CHUNK;
        }
    }

    /// A bit for each place at which there may be a piece.
    fn looks<const STRIDE: usize>(&self, chunk: &[u8; REACH]) -> u64 {
        let mut places = 0;
        for n in 0..CHUNK / STRIDE {
            let at = n * STRIDE;
            let eight = u64::from_le_bytes([
                chunk[at],
                chunk[at + 1],
                chunk[at + 2],
                chunk[at + 3],
                chunk[at + 4],
                chunk[at + 5],
                chunk[at + 6],
                chunk[at + 7],
            ]);
            let (word, bit) = place((eight | SMALL) & self.mask);
            places |= (self.bits[word % WORDS] >> bit & 1) << n;
        }
        places
    }

    /// Looks at these places of a chunk in earnest.
    #[inline]
    fn follow<const STRIDE: usize>(&self, text: &[u8], from: usize, mut places: u64, found: &mut Vec<Found>) {
        while places != 0 {
            self.compare(text, from + places.trailing_zeros() as usize * STRIDE, found);
            places &= places - 1;
        }
    }

    fn compare(&self, text: &[u8], at: usize, found: &mut Vec<Found>) {
        let Some(all) = self.pieces.get(&((eight(text, at) | SMALL) & self.mask)) else { return };
        for (index, offset) in all {
            let (Some(needle), Some(begin)) = (self.needles.get(*index), at.checked_sub(*offset)) else { continue };
            if text.get(begin..).is_some_and(|text| needle.begins(text)) {
                found.push(Found { at, needle: needle.number });
            }
        }
    }
}

/// Eight bytes from here; zeros past the end.
fn eight(text: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(text.get(at..).unwrap_or_default()).for_each(|(to, byte)| *to = *byte);
    u64::from_le_bytes(bytes)
}

/// Which bit of which word is a piece's.
#[inline]
const fn place(piece: u64) -> (usize, u64) {
    let hash = piece.wrapping_mul(SPREAD) >> (64 - 18);
    ((hash >> 6) as usize, hash % 64)
}

/// Hashes a piece; all of them come from signatures, so nobody chooses them to collide.
#[derive(Clone, Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, piece: u64) {
        self.0 = (self.0 ^ piece).wrapping_mul(SPREAD).rotate_left(32);
    }
}
