//! The only ways a thread may block: [`poll`], with a [`Waker`] to end it from another thread, a
//! [`Mailbox`] that wakes its reader, and [`Signals`] as a descriptor among the others.

mod mailbox;
mod signals;

pub use mailbox::Mailbox;
pub use signals::{Signal, Signals};

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use palisade_core::time::{Span, Tick};

use crate::clock;

/// Ends another thread's [`poll`]. Clones wake the same thread. Waking often before it is seen
/// counts as once.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A new one, not yet woken.
    pub fn new() -> io::Result<Self> {
        // SAFETY: plain system call without pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, is open and nobody else owns it.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Wakes: the poll now running or the next one returns at once. Never blocks.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the pointer is to eight live bytes, the size an eventfd takes. The one failure
        // possible (the counter is full) means it is already woken.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes the wake-up back; whether there was one. [`poll`] does it for the waker it is given.
    pub fn clear(&self) -> bool {
        let mut count = [0u8; 8];
        // SAFETY: the pointer is to eight live bytes of ours, which the kernel fills.
        let got = unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        got == 8
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Something to read, or the other end is gone.
    Read,
    /// Room to write, or the other end is gone.
    Write,
    /// Either.
    Both,
}

/// What a poll found.
#[derive(Clone, Debug)]
#[must_use]
pub struct Ready {
    polled: Vec<libc::pollfd>,
    woken: bool,
}

impl Ready {
    /// Whether the descriptor at this place has something for us: data, room, an error or an end. A
    /// read or write of it does not block now.
    pub fn at(&self, index: usize) -> bool {
        self.polled.get(index).is_some_and(|p| p.revents != 0)
    }

    /// Whether the descriptor at this place may be read.
    pub fn readable(&self, index: usize) -> bool {
        self.polled.get(index).is_some_and(|p| p.revents & !libc::POLLOUT != 0)
    }

    /// Whether the descriptor at this place may be written.
    pub fn writable(&self, index: usize) -> bool {
        self.polled.get(index).is_some_and(|p| p.revents & !libc::POLLIN != 0)
    }

    /// Whether the waker ended it. The wake-up is taken back already.
    pub const fn woken(&self) -> bool {
        self.woken
    }

    /// Whether nothing happened before the timeout.
    pub fn timed_out(&self) -> bool {
        !self.woken && self.polled.iter().all(|p| p.revents == 0)
    }
}

/// Waits until a descriptor can be read, the waker wakes or the time is over. `None` waits for
/// ever, zero looks only. Signals that interrupt it do not end it.
pub fn poll(fds: &[BorrowedFd<'_>], waker: Option<&Waker>, timeout: Option<Span>) -> io::Result<Ready> {
    wait(fds.iter().map(|fd| (*fd, Want::Read)), waker, timeout)
}

/// Like [`poll`], for writing too.
pub fn poll_for(fds: &[(BorrowedFd<'_>, Want)], waker: Option<&Waker>, timeout: Option<Span>) -> io::Result<Ready> {
    wait(fds.iter().copied(), waker, timeout)
}

fn wait<'a>(fds: impl Iterator<Item = (BorrowedFd<'a>, Want)>, waker: Option<&Waker>, timeout: Option<Span>) -> io::Result<Ready> {
    let mut polled: Vec<libc::pollfd> = fds
        .map(|(fd, want)| {
            let events = match want {
                Want::Read => libc::POLLIN,
                Want::Write => libc::POLLOUT,
                Want::Both => libc::POLLIN | libc::POLLOUT,
            };
            libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }
        })
        .collect();
    if let Some(waker) = waker {
        polled.push(libc::pollfd { fd: waker.0.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    }
    // A started millisecond counts whole, so that it never returns early.
    let end: Option<Tick> = timeout.map(|span| clock::now().tick.plus(span).plus(Span::millis(1)));
    let mut left = timeout;
    loop {
        let time = left.map(timespec);
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let count = libc::nfds_t::try_from(polled.len()).expect("fewer descriptors than a process can have");
        // SAFETY: `polled` is a live array of `count` pollfd that the kernel fills; `time` is null or
        // points to a timespec that lives until after the call; a null mask leaves signals as they are.
        let rc = unsafe { libc::ppoll(polled.as_mut_ptr(), count, time, std::ptr::null()) };
        if rc >= 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        left = end.map(|end| end.since(clock::now().tick));
    }
    let woken = waker.is_some_and(|waker| {
        let seen = polled.pop().is_some_and(|p| p.revents != 0);
        seen && waker.clear()
    });
    Ok(Ready { polled, woken })
}

fn timespec(span: Span) -> libc::timespec {
    let ms = span.as_millis();
    libc::timespec {
        // A year is as good as for ever, and fits every system's time_t.
        tv_sec: libc::time_t::try_from((ms / 1000).min(31_536_000)).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn tells_which_descriptor_is_ready() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let (_still, quiet) = UnixStream::pair().unwrap();
        let fds = [quiet.as_fd(), other.as_fd()];
        let ready = poll(&fds, None, Some(Span::ZERO)).unwrap();
        assert!(ready.timed_out() && !ready.at(0) && !ready.at(1) && !ready.at(9));
        one.write_all(b"x").unwrap();
        let ready = poll(&fds, None, None).unwrap();
        assert!(!ready.at(0) && ready.at(1) && ready.readable(1) && !ready.woken() && !ready.timed_out());
        let ready = poll_for(&[(quiet.as_fd(), Want::Write), (other.as_fd(), Want::Both)], None, None).unwrap();
        assert!(ready.writable(0) && !ready.readable(0) && ready.writable(1) && ready.readable(1));
    }

    #[test]
    fn a_hung_up_peer_is_ready() {
        let (one, other) = UnixStream::pair().unwrap();
        drop(one);
        assert!(poll(&[other.as_fd()], None, None).unwrap().readable(0));
    }

    #[test]
    fn waits_as_long_as_told() {
        let start = Instant::now();
        assert!(poll(&[], None, Some(Span::millis(50))).unwrap().timed_out());
        assert!(start.elapsed() >= Duration::from_millis(50));
    }

    #[test]
    fn a_waker_wakes_once_however_often_it_is_called() {
        let waker = Waker::new().unwrap();
        let far = waker.clone();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            far.wake();
            far.wake();
        });
        assert!(poll(&[], Some(&waker), None).unwrap().woken());
        thread.join().unwrap();
        waker.wake();
        assert!(poll(&[], Some(&waker), None).unwrap().woken());
        assert!(poll(&[], Some(&waker), Some(Span::ZERO)).unwrap().timed_out());
    }

    #[test]
    fn an_interrupting_signal_does_not_end_it() {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: installs a handler that does nothing for a signal no other test uses; the thread id
        // is that of a thread which still runs, as it is joined below.
        unsafe { libc::signal(libc::SIGWINCH, nothing as *const () as libc::sighandler_t) };
        let start = Instant::now();
        let thread = thread::spawn(|| poll(&[], None, Some(Span::millis(100))).unwrap().timed_out());
        let id = std::os::unix::thread::JoinHandleExt::as_pthread_t(&thread);
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(20));
            // SAFETY: as above.
            unsafe { libc::pthread_kill(id, libc::SIGWINCH) };
        }
        assert!(thread.join().unwrap());
        assert!(start.elapsed() >= Duration::from_millis(100));
    }
}
