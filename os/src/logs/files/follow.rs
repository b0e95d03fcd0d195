//! One path and the files that stand or stood there.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use palisade_core::time::Tick;

use super::super::Take;
use super::super::cutter::{Cut, Piece};
use super::position::{self, FileId};
use super::tail::Tail;

/// So many replaced files are read on beside the current one, oldest first.
pub(super) const OLD_MAX: usize = 16;

/// What is wrong with a path or pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) what: String,
    pub(super) soft: bool,
}

/// A path being followed.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) path: PathBuf,
    pub(super) sources: Vec<usize>,
    /// Named as it is, not found by a wildcard: stays when there is nothing at it.
    pub(super) literal: bool,
    /// Oldest first; the last one stands, or was the last to stand, at the path.
    pub(super) tails: VecDeque<Tail>,
    pub(super) trouble: Option<Trouble>,
    pub(super) missing_from: Option<Tick>,
    /// What stood there, unreadable, when we began, and its size: history to that point.
    pub(super) history: Option<(FileId, u64)>,
    /// The position changed since it was last told.
    pub(super) moved: bool,
    /// When all that was there had been read.
    pub(super) at_end: Tick,
}

impl Follow {
    pub(super) const fn new(path: PathBuf, sources: Vec<usize>, literal: bool) -> Self {
        Self {
            path,
            sources,
            literal,
            tails: VecDeque::new(),
            trouble: None,
            missing_from: None,
            history: None,
            moved: false,
            at_end: Tick(0),
        }
    }

    pub(super) fn has(&self, id: FileId) -> bool {
        self.tails.iter().any(|tail| tail.id == id)
    }

    pub(super) fn dirty(&self) -> bool {
        self.tails.iter().any(|tail| tail.dirty)
    }

    /// How much is there to read.
    pub(super) fn behind(&self) -> u64 {
        self.tails.iter().filter(|tail| tail.dirty).map(Tail::behind).sum()
    }

    /// One read of the oldest file that may have grown. How much was read.
    pub(super) fn step(&mut self, buffer: &mut [u8], now: Tick, take: &mut dyn FnMut(Take<'_>)) -> io::Result<usize> {
        let Some(tail) = self.tails.iter_mut().find(|tail| tail.dirty) else { return Ok(0) };
        let (path, sources) = (self.path.as_path(), &self.sources);
        let step = tail.step(buffer, &mut |piece| {
            for &source in sources {
                take(match piece {
                    Piece::One(Cut::Line(bytes)) => Take::Line { source, path, bytes },
                    Piece::Block(bytes) => Take::Block { source, path, bytes },
                    Piece::One(Cut::Oversize(bytes)) => Take::Oversize { source, path, bytes },
                });
            }
        });
        let step = step.inspect_err(|_| tail.dirty = false)?;
        if step.bytes > 0 {
            tail.quiet_from = now;
        }
        tail.dirty = !step.end;
        self.moved |= step.moved;
        if !self.dirty() {
            self.at_end = now;
        }
        Ok(step.bytes)
    }

    /// Tells the position, if it changed.
    pub(super) fn tell(&mut self, scratch: &mut String, take: &mut dyn FnMut(Take<'_>)) {
        let Some(&source) = self.sources.first() else { return };
        if std::mem::take(&mut self.moved) && !self.tails.is_empty() {
            position::write(self.tails.iter().map(Tail::mark), scratch);
            take(Take::Position { source, path: &self.path, position: scratch });
        }
    }
}
