//! Signals as something to poll, not as something that interrupts.

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

#[cfg(target_os = "freebsd")]
use freebsd::Source;
#[cfg(target_os = "linux")]
use linux::Source;

/// What we were told by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: stop.
    Terminate,
    /// SIGINT: stop, from the terminal.
    Interrupt,
    /// SIGHUP: read the configuration anew.
    Hangup,
    /// SIGUSR1.
    User1,
}

/// The signals we take, and their numbers.
const TAKEN: [(i32, Signal); 4] =
    [(libc::SIGTERM, Signal::Terminate), (libc::SIGINT, Signal::Interrupt), (libc::SIGHUP, Signal::Hangup), (libc::SIGUSR1, Signal::User1)];

/// The signals of the process, as a descriptor that is readable when one came.
///
/// The mask belongs to the process for good: dropping this leaves the signals blocked, so that
/// none of them can end it half-way through an orderly stop.
#[derive(Debug)]
pub struct Signals(Source);

impl Signals {
    /// Blocks the signals in the calling thread and in all threads it starts from now on. Must
    /// be called before the first thread is started: a thread that does not block them would be
    /// ended by them, and the process with it.
    pub fn take_over() -> io::Result<Self> {
        // SAFETY: sigset_t is plain data which sigemptyset then fills.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is live and ours.
        unsafe { libc::sigemptyset(&raw mut set) };
        for (number, _) in TAKEN {
            // SAFETY: `set` is live, ours and initialised; the numbers are valid signals.
            unsafe { libc::sigaddset(&raw mut set, number) };
        }
        // SAFETY: `set` is live and only read; no old mask is asked for.
        let rc = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if rc != 0 {
            return Err(io::Error::from_raw_os_error(rc));
        }
        Source::open(&set).map(Self)
    }

    /// The next signal that came, if one did. Never blocks.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        while let Some(number) = self.0.next()? {
            let known = TAKEN.iter().find(|(taken, _)| *taken == number);
            if let Some((_, signal)) = known {
                return Ok(Some(*signal));
            }
        }
        Ok(None)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::poll;
    use super::*;
    use palisade_core::time::Span;

    /// Sent to the own thread only: the other tests' threads do not block them.
    #[test]
    fn signals_are_read_not_suffered() {
        let signals = Signals::take_over().unwrap();
        assert_eq!(signals.next().unwrap(), None);
        for (number, signal) in TAKEN {
            // SAFETY: the thread is the calling one, which blocks the signal.
            unsafe { libc::pthread_kill(libc::pthread_self(), number) };
            assert!(poll(&[signals.as_fd()], None, Some(Span::secs(10))).unwrap().at(0));
            assert_eq!(signals.next().unwrap(), Some(signal));
        }
        assert_eq!(signals.next().unwrap(), None);
    }
}
