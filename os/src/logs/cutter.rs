//! Cuts a stream of bytes into lines, in bounded memory.

/// What the cutter found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut<'a> {
    /// A whole line, without `\n` or `\r\n`.
    Line(&'a [u8]),
    /// The end of a line over the cap, and how long it was, without `\n`.
    Oversize(u64),
}

/// What the cutter found, lines together where they stood together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Whole lines, each with its `\n` or `\r\n`, none of them over the cap.
    Block(&'a [u8]),
    /// One by itself.
    One(Cut<'a>),
}

/// A partial line is given back to the system when it held more than this; ordinary log lines
/// are shorter, so ordinary logs do not allocate.
const KEEP: usize = 4096;

/// The state between two pieces of the stream: the line begun, or how much of it was dropped.
#[derive(Clone, Debug)]
pub(super) struct Cutter {
    partial: Vec<u8>,
    /// Bytes of the current line that were dropped because it is too long; 0 when it is not.
    dropped: u64,
    max: usize,
}

impl Cutter {
    /// Lines of up to `max` bytes, line end not counted.
    pub(super) const fn new(max: usize) -> Self {
        Self { partial: Vec::new(), dropped: 0, max }
    }

    /// How many bytes of the current, unfinished line went by.
    pub(super) fn pending(&self) -> u64 {
        self.dropped + self.partial.len() as u64
    }

    /// Forgets the unfinished line.
    pub(super) fn reset(&mut self) {
        self.partial = Vec::new();
        self.dropped = 0;
    }

    /// The same as [`Self::blocks`], each line alone.
    pub(super) fn feed(&mut self, bytes: &[u8], take: &mut dyn FnMut(Cut<'_>)) {
        self.blocks(bytes, &mut |piece| match piece {
            Piece::Block(block) => lines_of(block).for_each(|line| take(Cut::Line(line))),
            Piece::One(cut) => take(cut),
        });
    }

    /// Takes the next piece of the stream; hands out each line that ends in it, alone or in a block.
    pub(super) fn blocks(&mut self, mut bytes: &[u8], take: &mut dyn FnMut(Piece<'_>)) {
        if self.pending() > 0 {
            let Some(end) = memchr::memchr(b'\n', bytes) else { return self.hold(bytes) };
            self.hold(&bytes[..end]);
            self.finish(&mut |cut| take(Piece::One(cut)));
            bytes = &bytes[end + 1..];
        }
        let whole = memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
        let (lines, rest) = bytes.split_at(whole);
        if self.fits(lines) {
            if !lines.is_empty() {
                take(Piece::Block(lines));
            }
        } else {
            lines
                .split_inclusive(|byte| *byte == b'\n')
                .for_each(|line| take(Piece::One(self.cut(line.strip_suffix(b"\n").unwrap_or(line)))));
        }
        if !rest.is_empty() {
            self.hold(rest);
        }
    }

    /// Whether surely no line is over the cap: it leaps from newline to newline, as far as the cap allows.
    fn fits(&self, mut lines: &[u8]) -> bool {
        while lines.len() > self.max {
            match memchr::memrchr(b'\n', &lines[..=self.max.min(lines.len() - 1)]) {
                Some(at) => lines = &lines[at + 1..],
                None => return false,
            }
        }
        true
    }

    /// The stream is over: hands out the line that has no end, if there is one.
    pub(super) fn finish(&mut self, take: &mut dyn FnMut(Cut<'_>)) {
        if self.dropped > 0 {
            take(Cut::Oversize(self.dropped));
            self.dropped = 0;
        } else if !self.partial.is_empty() {
            take(self.cut(&self.partial));
            self.partial.clear();
            self.partial.shrink_to(KEEP);
        }
    }

    fn cut<'a>(&self, line: &'a [u8]) -> Cut<'a> {
        let bare = line.strip_suffix(b"\r").unwrap_or(line);
        if bare.len() > self.max { Cut::Oversize(line.len() as u64) } else { Cut::Line(bare) }
    }

    fn hold(&mut self, bytes: &[u8]) {
        // One more than the cap, for the `\r` that may turn out to belong to the line end.
        if self.dropped > 0 || self.partial.len() + bytes.len() > self.max + 1 {
            self.dropped += self.partial.len() as u64 + bytes.len() as u64;
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }
}

/// The lines of a block, without their ends.
pub(super) fn lines_of(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    block.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(pieces: &[&[u8]], max: usize) -> (Vec<Result<Vec<u8>, u64>>, u64) {
        let mut cutter = Cutter::new(max);
        let mut out = Vec::new();
        for piece in pieces {
            cutter.blocks(piece, &mut |piece| match piece {
                Piece::One(Cut::Line(line)) => out.push(Ok(line.to_vec())),
                Piece::Block(lines) => out.extend(lines_of(lines).map(|line| Ok(line.to_vec()))),
                Piece::One(Cut::Oversize(n)) => out.push(Err(n)),
            });
        }
        (out, cutter.pending())
    }

    #[test]
    fn lines_are_cut_whole() {
        let (lines, pending) = all(&[b"one\r\ntw", b"o\n\n\0\xff\nrest"], 16);
        let expect: Vec<Result<Vec<u8>, u64>> = vec![Ok(b"one".into()), Ok(b"two".into()), Ok(vec![]), Ok(b"\0\xff".into())];
        assert_eq!((lines, pending), (expect, 4));
    }

    #[test]
    fn a_line_over_the_cap_never_becomes_another_line() {
        let (lines, _) = all(&[b"12345", b"678", b"9 Failed password\nok\n"], 4);
        assert_eq!(lines, [Err(25), Ok(b"ok".to_vec())]);
        let (lines, _) = all(&[b"1234\r", b"\n12345\n1234\r\n"], 4);
        assert_eq!(lines, [Ok(b"1234".to_vec()), Err(5), Ok(b"1234".to_vec())]);
    }

    #[test]
    fn whole_lines_come_in_one_block_unless_one_is_over_the_cap() {
        let blocks = |piece: &[u8]| {
            let mut blocks = Vec::new();
            Cutter::new(4).blocks(piece, &mut |piece| match piece {
                Piece::Block(block) => blocks.push(block.to_vec()),
                Piece::One(_) => blocks.push(Vec::new()),
            });
            blocks
        };
        assert_eq!(blocks(b"1234\n\n1\r\n1234\nrest"), [b"1234\n\n1\r\n1234\n".to_vec()]);
        assert_eq!(blocks(b"1234\n12345\n1\n").len(), 3);
        assert_eq!(blocks(b"rest").len(), 0);
    }

    #[test]
    fn a_huge_line_takes_no_memory() {
        let mut cutter = Cutter::new(100);
        for _ in 0..1000 {
            cutter.feed(&[b'x'; 4096], &mut |_| panic!("not over yet"));
            assert!(cutter.partial.capacity() <= 200);
        }
        assert_eq!(cutter.pending(), 4_096_000);
    }

    proptest! {
        /// However the stream falls into pieces, the lines are the same.
        #[test]
        fn pieces_do_not_matter(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a')], 0..200), cuts in proptest::collection::vec(0usize..200, 0..8)) {
            let whole = all(&[&bytes], 5);
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|c| *c <= bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(all(&pieces, 5), whole);
        }
    }
}
