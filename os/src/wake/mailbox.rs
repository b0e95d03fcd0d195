//! A letter box that never overflows, because what comes in is merged into what lies there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::Waker;

/// One slot between threads. Senders change what is in it, the reader takes it all and leaves the
/// empty value; how much it may hold is the rule of the merging function. A sender never waits
/// longer than another merge takes.
#[derive(Debug)]
pub struct Mailbox<T> {
    slot: Arc<Mutex<T>>,
    waker: Waker,
}

impl<T: Default> Mailbox<T> {
    /// An empty one.
    pub fn new() -> io::Result<Self> {
        Ok(Self { slot: Arc::default(), waker: Waker::new()? })
    }

    /// Changes what is in it and wakes the reader.
    pub fn put(&self, merge: impl FnOnce(&mut T)) {
        // A sender that panicked half-way leaves a value that is still a T: rather deliver it than
        // take the reader down too.
        merge(&mut self.slot.lock().unwrap_or_else(PoisonError::into_inner));
        self.waker.wake();
    }

    /// Takes out what is in it, and the wake-up with it. Never waits.
    pub fn take(&self) -> T {
        // First the wake-up: what is put after this wakes again.
        self.waker.clear();
        std::mem::take(&mut *self.slot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// To give to [`super::poll`], or to wake the reader without a letter.
    pub const fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self { slot: Arc::clone(&self.slot), waker: self.waker.clone() }
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::poll;
    use super::*;
    use std::thread;

    #[test]
    fn nothing_put_is_lost_between_threads() {
        let inbox: Mailbox<Vec<u32>> = Mailbox::new().unwrap();
        let senders: Vec<_> = (0..4)
            .map(|s| {
                let outbox = inbox.clone();
                thread::spawn(move || (0..1000).for_each(|n| outbox.put(|v| v.push(s * 1000 + n))))
            })
            .collect();
        let mut got = Vec::new();
        while got.len() < 4000 {
            assert!(poll(&[], Some(inbox.waker()), None).unwrap().woken());
            got.extend(inbox.take());
        }
        senders.into_iter().for_each(|s| s.join().unwrap());
        got.sort_unstable();
        assert!(got.iter().copied().eq(0..4000));
        assert!(inbox.take().is_empty());
    }

    #[test]
    fn a_panicking_sender_does_not_take_the_reader_down() {
        let inbox: Mailbox<u32> = Mailbox::new().unwrap();
        let outbox = inbox.clone();
        let sender = thread::spawn(move || {
            outbox.put(|n| {
                *n = 7;
                panic!("on purpose");
            });
        });
        assert!(sender.join().is_err());
        inbox.put(|n| *n += 1);
        assert_eq!(inbox.take(), 8);
    }
}
