//! kqueue(2), `EVFILT_SIGNAL`: tells of every signal sent to the process, whether it is blocked or not.
//! The blocked ones stay pending; nobody takes them there, and nothing follows from it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::TAKEN;
use crate::bsd::kqueue::Queue;

/// Where signals are read.
#[derive(Debug)]
pub(super) struct Source(Queue);

impl Source {
    /// For the signals of [`TAKEN`], which are blocked.
    pub(super) fn open(_: &libc::sigset_t) -> io::Result<Self> {
        let queue = Queue::open()?;
        for (number, _) in TAKEN {
            let number = usize::try_from(number).map_err(io::Error::other)?;
            queue.watch(number, libc::EVFILT_SIGNAL, 0)?;
        }
        Ok(Self(queue))
    }

    /// The number of the next one that came. Never blocks.
    pub(super) fn next(&self) -> io::Result<Option<i32>> {
        Ok(self.0.next()?.and_then(|happened| i32::try_from(happened.ident).ok()))
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
