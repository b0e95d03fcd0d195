//! Many lines at once: those that nothing can match are never taken out of their block.

use std::ops::Range;

use super::filters::Filters;
use super::line::Line;
use super::scanner::{ScanState, Scanner};
use crate::attack::Sign;

/// Blocks are looked through in parts of so many bytes: what was found in one should still be in the
/// core's second cache when its lines are scanned.
const PART: usize = 128 * 1024;

/// Where in a block a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How many lines of the block are before it.
    pub line: u64,
    /// Its bytes, without the line end.
    pub bytes: Range<usize>,
}

impl Scanner {
    /// Scans lines that each end with a newline (the last one need not), as [`Self::scan`] would one
    /// by one, and tells how many they are. Lines that nothing can match are only counted. `file` is
    /// what [`Line::of_file`] would be told.
    pub fn scan_block(&self, state: &mut ScanState, (file, block): (&[u8], &[u8]), sink: &mut dyn FnMut(Place, Sign)) -> u64 {
        let mut place = Place { line: 0, bytes: 0..0 };
        let mut from = 0;
        if self.filters == Filters::All || !self.prefilter.skips() {
            while from < block.len() {
                from = self.scan_at(state, (file, block), &mut place, from, sink);
            }
            return place.line;
        }
        let mut found = std::mem::take(&mut state.found);
        let mut part_from = 0;
        while part_from < block.len() {
            let part_end = cut(block, part_from);
            self.prefilter.find(part(block, part_from, part_end), &mut found);
            let mut found = &found[..];
            while let Some(first) = found.first() {
                let at = part_from + first.at;
                let start = memchr::memrchr(b'\n', part(block, from, at)).map_or(from, |newline| from + newline + 1);
                let end = line_end(block, at);
                let many = found.iter().take_while(|found| part_from + found.at < end).count();
                let (own, others) = found.split_at(many);
                self.pass_over(state, (file, block), &mut place, from..start, sink);
                let line = place.set(block, start..end).of_file(file);
                state.marks.clear();
                self.prefilter.mark(line.text, own, &mut state.marks);
                self.scan_marked(state, line, &mut |sign| sink(place.clone(), sign));
                place.line += 1;
                from = end + 1;
                found = others;
            }
            part_from = part_end;
        }
        state.found = found;
        self.pass_over(state, (file, block), &mut place, from..block.len(), sink);
        place.line
    }

    /// Scans the line that starts here. Where the next one does.
    fn scan_at(
        &self,
        state: &mut ScanState,
        (file, block): (&[u8], &[u8]),
        place: &mut Place,
        start: usize,
        sink: &mut dyn FnMut(Place, Sign),
    ) -> usize {
        let end = line_end(block, start);
        let line = place.set(block, start..end).of_file(file);
        self.scan(state, line, &mut |sign| sink(place.clone(), sign));
        place.line += 1;
        end + 1
    }
}

impl Place {
    /// Makes it that of the line there, and takes the line.
    pub(super) fn set<'a>(&mut self, block: &'a [u8], bytes: Range<usize>) -> Line<'a> {
        let text = part(block, bytes.start, bytes.end);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.bytes = bytes.start..bytes.start + text.len();
        Line::raw(text)
    }
}

/// Where the part that begins here ends: behind a newline.
fn cut(block: &[u8], from: usize) -> usize {
    let goal = from.saturating_add(PART).min(block.len());
    memchr::memchr(b'\n', part(block, goal, block.len())).map_or(block.len(), |at| goal + at + 1)
}

/// Where the line ends that this byte is of.
pub(super) fn line_end(block: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', part(block, at, block.len())).map_or(block.len(), |newline| at + newline)
}

pub(super) fn part(block: &[u8], from: usize, to: usize) -> &[u8] {
    block.get(from..to).unwrap_or_default()
}

pub(super) fn newlines(block: &[u8], from: usize, to: usize) -> u64 {
    memchr::memchr_iter(b'\n', part(block, from, to)).count() as u64
}
