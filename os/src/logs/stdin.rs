//! Lines of standard input, or of any descriptor, until it ends.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use palisade_core::time::Span;

use super::cutter::{Cut, Cutter, Piece};
use super::{LogError, Take};
use crate::wake;

/// What a pipe holds, so that one read empties it.
const CHUNK: usize = 64 * 1024;

/// Stands in for a path.
const PLACE: &str = "-";

/// How things stand after a pump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// There is more to read right now.
    More,
    /// Poll.
    Wait,
    /// The input is over; all of it was handed out.
    Ended,
}

/// A stream of lines without positions: what was read cannot be read again.
#[derive(Debug)]
pub struct Stdin {
    source: usize,
    file: File,
    cutter: Cutter,
    buffer: Box<[u8]>,
    ended: bool,
}

impl Stdin {
    /// The process's standard input. Lines over `line_max` bytes are dropped whole.
    pub fn open(source: usize, line_max: usize) -> Result<Self, LogError> {
        let fd = io::stdin().as_fd().try_clone_to_owned();
        let fd = fd.map_err(|source| LogError::System { what: "opening standard input", source })?;
        Ok(Self::of(fd, source, line_max))
    }

    /// Any descriptor. It stays in the mode it is in, as other processes may share it.
    pub fn of(fd: OwnedFd, source: usize, line_max: usize) -> Self {
        Self { source, file: fd.into(), cutter: Cutter::new(line_max), buffer: vec![0; CHUNK].into(), ended: false }
    }

    /// Reads up to about `budget_bytes`. Never blocks.
    pub fn pump(&mut self, budget_bytes: usize, take: &mut dyn FnMut(Take<'_>)) -> io::Result<Progress> {
        let (source, path) = (self.source, Path::new(PLACE));
        let mut emit = |piece: Piece<'_>| match piece {
            Piece::One(Cut::Line(bytes)) => take(Take::Line { source, path, bytes }),
            Piece::Block(bytes) => take(Take::Block { source, path, bytes }),
            Piece::One(Cut::Oversize(bytes)) => take(Take::Oversize { source, path, bytes }),
        };
        let mut left = budget_bytes.max(1);
        while !self.ended && left > 0 {
            // Looked at before each read, as the descriptor may be a blocking one.
            if !wake::poll(&[self.file.as_fd()], None, Some(Span::ZERO))?.at(0) {
                return Ok(Progress::Wait);
            }
            let room = left.min(CHUNK);
            match self.file.read(&mut self.buffer[..room]) {
                Ok(0) => {
                    self.cutter.finish(&mut |cut| emit(Piece::One(cut)));
                    self.ended = true;
                }
                Ok(count) => {
                    self.cutter.blocks(&self.buffer[..count], &mut emit);
                    left -= count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Wait),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(if self.ended { Progress::Ended } else { Progress::More })
    }
}

impl AsFd for Stdin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::cutter::lines_of;
    use super::*;
    use std::io::Write;

    fn read(stdin: &mut Stdin, budget: usize) -> (Progress, Vec<String>) {
        let mut out = Vec::new();
        let progress = stdin
            .pump(budget, &mut |take| match take {
                Take::Line { source: 3, bytes, .. } => out.push(String::from_utf8_lossy(bytes).into_owned()),
                Take::Block { source: 3, bytes, .. } => {
                    out.extend(lines_of(bytes).map(|line| String::from_utf8_lossy(line).into_owned()));
                }
                Take::Oversize { bytes, .. } => out.push(format!("over {bytes}")),
                other => panic!("{other:?}"),
            })
            .unwrap();
        (progress, out)
    }

    #[test]
    fn a_blocking_pipe_is_read_to_its_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut stdin = Stdin::of(reader.into(), 3, 10);
        assert_eq!(read(&mut stdin, 1000), (Progress::Wait, vec![]));
        writer.write_all(b"one\ntwo\r\nthis is too long\nhal").unwrap();
        assert_eq!(read(&mut stdin, 1000), (Progress::Wait, vec!["one".into(), "two".into(), "over 16".into()]));
        writer.write_all(b"f\nlast").unwrap();
        drop(writer);
        assert_eq!(read(&mut stdin, 2), (Progress::More, vec!["half".into()]));
        assert_eq!(read(&mut stdin, 1000), (Progress::Ended, vec!["last".into()]));
        assert_eq!(read(&mut stdin, 1000), (Progress::Ended, vec![]));
    }
}
