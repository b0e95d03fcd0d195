//! signalfd(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Where blocked signals are read.
#[derive(Debug)]
pub(super) struct Source(OwnedFd);

impl Source {
    /// For these signals, which are blocked.
    pub(super) fn open(set: &libc::sigset_t) -> io::Result<Self> {
        // SAFETY: `set` is live and only read; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, is open and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The number of the next one that came. Never blocks.
    pub(super) fn next(&self) -> io::Result<Option<i32>> {
        loop {
            // SAFETY: signalfd_siginfo is plain integers, all zero is a valid value of it.
            let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
            // SAFETY: `info` is live, ours and of the size given; the kernel fills it.
            let got = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size_of_val(&info)) };
            if got >= 0 {
                return Ok(i32::try_from(info.ssi_signo).ok());
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(None),
                io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            }
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
