//! Bytes in, whole blocks of whole lines out.
//!
//! A line that does not fit into a block is longer than any line may be: it is dropped whole and counted, and
//! never becomes the begin of another line.

use std::io::{self, ErrorKind, Read};

/// One read: large enough that system calls and searches for the last newline do not count, small enough that it
/// stays in a core's second cache while it is scanned.
const BLOCK: usize = 1 << 20;

/// Whole lines of an input.
pub(in crate::cli) struct Blocks<R> {
    input: R,
    buffer: Vec<u8>,
    /// What of the buffer was handed out, and how far it is filled.
    used: usize,
    filled: usize,
    /// Hands out what there is instead of waiting for more.
    at_once: bool,
    /// Inside a line that is dropped.
    dropping: bool,
    ended: bool,
    /// What is to be told once all that came before it was handed out.
    error: Option<io::Error>,
}

/// Some lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Block<'a> {
    /// How many lines before these were dropped, as they did not even fit into a block.
    pub(in crate::cli) dropped: u64,
    /// The lines, each with its newline; the last of the input may have none.
    pub(in crate::cli) lines: &'a [u8],
}

impl<R: Read> Blocks<R> {
    /// Of an input whose lines may have `line_max` bytes. `at_once`: it is a pipe, and each line that has come is
    /// handed out before more is waited for.
    pub(in crate::cli) fn new(input: R, line_max: usize, at_once: bool) -> Self {
        // Room for a line, its end, and what comes with it.
        let room = BLOCK.max(line_max.saturating_mul(2).saturating_add(2));
        Self { input, buffer: vec![0; room], used: 0, filled: 0, at_once, dropping: false, ended: false, error: None }
    }

    /// The next lines; `None` at the end.
    ///
    /// # Errors
    /// What went wrong with reading, when all whole lines before it were handed out.
    pub(in crate::cli) fn next(&mut self) -> io::Result<Option<Block<'_>>> {
        let mut dropped = 0;
        self.buffer.copy_within(self.used..self.filled, 0);
        self.filled -= self.used;
        self.used = 0;
        // Where a newline is looked for from; what is before was looked through.
        let mut from = 0;
        loop {
            if self.dropping {
                // At most the rest of the line is here.
                match memchr::memchr(b'\n', self.new_bytes(0)) {
                    Some(end) => {
                        self.buffer.copy_within(end + 1..self.filled, 0);
                        self.filled -= end + 1;
                        self.dropping = false;
                        dropped += 1;
                    }
                    None => self.filled = 0,
                }
                from = 0;
            }
            let last = memchr::memrchr(b'\n', self.new_bytes(from)).map(|at| from + at + 1);
            let full = self.filled == self.buffer.len();
            if let Some(end) = last
                && (self.at_once || full || self.ended)
            {
                // The begin of a line whose rest could not be read is no line.
                self.used = if self.ended && self.error.is_none() { self.filled } else { end };
                return Ok(Some(self.block(dropped)));
            }
            if self.ended {
                if let Some(error) = self.error.take() {
                    self.filled = 0;
                    return Err(error);
                }
                dropped += u64::from(std::mem::take(&mut self.dropping));
                self.used = self.filled;
                let nothing = self.filled == 0 && dropped == 0;
                return Ok((!nothing).then(|| self.block(dropped)));
            }
            if full {
                self.filled = 0;
                self.dropping = true;
            }
            // With a newline found and room left, reading goes on: then it is searched for behind that one.
            from = if last.is_some() { 0 } else { self.filled };
            self.fill();
        }
    }

    fn block(&self, dropped: u64) -> Block<'_> {
        Block { dropped, lines: self.buffer.get(..self.used).unwrap_or_default() }
    }

    fn new_bytes(&self, from: usize) -> &[u8] {
        self.buffer.get(from..self.filled).unwrap_or_default()
    }

    fn fill(&mut self) {
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        match self.input.read(room) {
            Ok(0) => self.ended = true,
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => (self.ended, self.error) = (true, Some(error)),
        }
    }
}

/// Each line of a block, without its end; `None` for one of more than `line_max` bytes.
pub(in crate::cli) fn each_line<'a>(block: &'a [u8], line_max: usize, mut take: impl FnMut(Option<&'a [u8]>)) {
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', block).chain((block.last() != Some(&b'\n')).then_some(block.len()));
    for end in ends {
        let line = block.get(start..end).unwrap_or_default();
        start = end + 1;
        if end == block.len() && line.is_empty() {
            return;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        take((line.len() <= line_max).then_some(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives a few bytes each time.
    struct Dribble<'a>(&'a [u8], Vec<usize>);

    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.pop().unwrap_or(7).clamp(1, 1000).min(self.0.len()).min(out.len());
            let (now, rest) = self.0.split_at(count);
            out[..count].copy_from_slice(now);
            self.0 = rest;
            Ok(count)
        }
    }

    /// Lines by the rule itself: `None` for one that is too long.
    fn plainly(text: &[u8], max: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        if lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        let bare = lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        bare.map(|line| (line.len() <= max).then(|| line.to_vec())).collect()
    }

    fn read(input: impl Read, room: usize, max: usize, at_once: bool) -> Vec<Option<Vec<u8>>> {
        let mut blocks = Blocks::new(input, max, at_once);
        blocks.buffer = vec![0; room];
        let mut all = Vec::new();
        while let Some(block) = blocks.next().unwrap() {
            (0..block.dropped).for_each(|_| all.push(None));
            each_line(block.lines, max, |line| all.push(line.map(<[u8]>::to_vec)));
        }
        all
    }

    #[test]
    fn a_line_over_the_cap_never_becomes_another_line() {
        let text = b"short\n0123456789012345678901234567890123456789 Failed password\nok\r\nlast";
        let expected = [Some(b"short".to_vec()), None, Some(b"ok".to_vec()), Some(b"last".to_vec())];
        assert_eq!(read(&text[..], 16, 6, false), expected);
        assert_eq!(read(&text[..], 1024, 6, false), expected);
    }

    #[test]
    fn a_pipe_gives_each_line_when_it_comes() {
        let text = b"one\ntwo\nthr";
        let mut blocks = Blocks::new(Dribble(text, vec![7, 4]), 100, true);
        assert_eq!(blocks.next().unwrap().unwrap().lines, b"one\n");
        assert_eq!(blocks.next().unwrap().unwrap().lines, b"two\n");
        assert_eq!(blocks.next().unwrap().unwrap().lines, b"thr");
        assert_eq!(blocks.next().unwrap(), None);
    }

    /// Breaks after these bytes.
    struct Broken<'a>(&'a [u8]);

    impl Read for Broken<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            match self.0.read(out)? {
                0 => Err(io::Error::other("broken")),
                count => Ok(count),
            }
        }
    }

    #[test]
    fn what_came_before_an_error_is_handed_out_and_half_a_line_is_not() {
        for at_once in [true, false] {
            let mut blocks = Blocks::new(Broken(b"one\ntwo\nhal"), 100, at_once);
            assert_eq!(blocks.next().unwrap().unwrap().lines, b"one\ntwo\n");
            assert!(blocks.next().is_err());
        }
    }

    proptest! {
        /// However the input falls into pieces and however large blocks are, the lines are the same.
        #[test]
        fn pieces_do_not_matter(
            text in proptest::collection::vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n'), 1 => Just(b'\r')], 0..300),
            pieces in proptest::collection::vec(1usize..40, 0..60),
            room in 12usize..64,
            at_once: bool,
        ) {
            prop_assert_eq!(read(Dribble(&text, pieces), room, 5, at_once), plainly(&text, 5));
        }
    }
}
