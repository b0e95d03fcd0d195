//! Many small requests in one send, their acknowledgements counted.
//!
//! One round trip a request costs more than the deletion it asks for; this pays one for many.

use std::collections::VecDeque;
use std::io;

use super::socket::Socket;
use super::wire::{self, Builder, flag};

/// How many requests go out together. An acknowledgement takes about 1 KiB of the receive buffer,
/// which is 208 KiB by default: 128 cannot overflow it, and more were not faster.
const DEPTH: usize = 128;

/// Requests on their way.
#[derive(Debug)]
pub struct Pipeline<'s> {
    socket: &'s mut Socket,
    builder: Builder,
    waiting: VecDeque<u32>,
}

impl<'s> Pipeline<'s> {
    /// An empty one. The socket must not be used for a dump at the same time.
    pub const fn new(socket: &'s mut Socket) -> Self {
        Self { socket, builder: Builder::new(), waiting: VecDeque::new() }
    }

    /// Begins a request; its attributes are added to the builder.
    pub fn push(&mut self, kind: u16, fixed: &[u8]) -> &mut Builder {
        let seq = self.socket.next_seq();
        self.waiting.push_back(seq);
        self.builder.message(kind, flag::REQUEST | flag::ACK, seq, fixed)
    }

    /// Whether [`Pipeline::flush`] is due.
    pub fn full(&self) -> bool {
        self.waiting.len() >= DEPTH
    }

    /// Sends what was pushed and waits for all its answers. `ended` gets each request's errno in
    /// the order pushed, 0 for success.
    pub fn flush(&mut self, mut ended: impl FnMut(i32)) -> io::Result<()> {
        self.flush_told(|errno, _| ended(errno))
    }

    /// The same, with the kernel's words about each where it has any.
    pub fn flush_told(&mut self, mut ended: impl FnMut(i32, Option<&str>)) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let sent = self.socket.send(self.builder.bytes());
        self.builder.clear();
        if let Err(error) = sent {
            self.waiting.clear();
            return Err(error);
        }
        while !self.waiting.is_empty() {
            let answers = match self.socket.receive(true) {
                Ok(answers) => answers,
                Err(error) => {
                    self.waiting.clear();
                    return Err(error);
                }
            };
            // The kernel works on a datagram's requests one after another, so its answers come in order.
            for answer in answers {
                if answer.kind == wire::ERROR && self.waiting.front() == Some(&answer.seq) {
                    self.waiting.pop_front();
                    ended(answer.errno().unwrap_or(libc::EBADMSG), answer.words());
                }
            }
        }
        Ok(())
    }
}
