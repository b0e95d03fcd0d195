//! kqueue(2): one descriptor that becomes readable when any of many things has happened.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// What happened: on what (a descriptor, a signal, a process), and the filter's own flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) ident: usize,
    pub(crate) flags: u32,
}

/// A queue. Children do not inherit it (kqueue(2)).
#[derive(Debug)]
pub(crate) struct Queue(OwnedFd);

impl Queue {
    /// An empty one.
    pub(crate) fn open() -> io::Result<Self> {
        // SAFETY: plain system call without pointers; the result is checked.
        let fd = unsafe { libc::kqueue() };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, is open and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches something. What happens often before it is read counts as once (`EV_CLEAR`).
    pub(crate) fn watch(&self, ident: usize, filter: i16, what: u32) -> io::Result<()> {
        self.change(ident, filter, libc::EV_ADD | libc::EV_CLEAR, what)
    }

    /// Ends that. What is not watched is no error.
    pub(crate) fn forget(&self, ident: usize, filter: i16) {
        let _ = self.change(ident, filter, libc::EV_DELETE, 0);
    }

    fn change(&self, ident: usize, filter: i16, flags: u16, what: u32) -> io::Result<()> {
        let change = event(ident, filter, flags, what);
        loop {
            // SAFETY: one live kevent is read; no room is offered, so none is written and nothing is waited for.
            let rc = unsafe { libc::kevent(self.0.as_raw_fd(), &raw const change, 1, ptr::null_mut(), 0, ptr::null()) };
            if rc >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// The next thing that happened, if one did. Never blocks.
    pub(crate) fn next(&self) -> io::Result<Option<Happened>> {
        let mut got = event(0, 0, 0, 0);
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            // SAFETY: `got` is one live kevent of ours, which the kernel fills; no change is given; the time is live.
            let rc = unsafe { libc::kevent(self.0.as_raw_fd(), ptr::null(), 0, &raw mut got, 1, &raw const at_once) };
            match rc {
                0 => return Ok(None),
                1.. => return Ok(Some(Happened { ident: got.ident, flags: got.fflags })),
                _ => {}
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Queue> for OwnedFd {
    fn from(queue: Queue) -> Self {
        queue.0
    }
}

fn event(ident: usize, filter: i16, flags: u16, what: u32) -> libc::kevent {
    // SAFETY: a kevent is integers and a pointer that we never follow; all zero is a valid value of it.
    let mut event: libc::kevent = unsafe { std::mem::zeroed() };
    (event.ident, event.filter, event.flags, event.fflags) = (ident, filter, flags, what);
    event
}
