//! A line to the kernel for one table of ours: transactions out, listings and single elements back.

use std::io;
use std::time::Duration;

use super::batch::{get_element, get_generation, get_table, list};
use super::{Batch, StoredElement, Table, operation, parse_elements, parse_generation, parse_table, table_of};
use crate::netlink::socket::{NETFILTER, Next, Socket};
use crate::netlink::wire::{self, Builder};

/// Room for a transaction: 65,536 IPv6 elements with both times are 3.4 MB, and a million
/// allow-list members 40 MB, which is more than anybody lists by hand. Only a limit: the kernel takes
/// memory for what is sent.
const SEND_BUFFER: i32 = 64 << 20;
/// Room for answers: each refused message of a transaction is answered, with under 1 KiB.
const RECEIVE_BUFFER: i32 = 4 << 20;

/// How often something that passes by itself is tried: memory short, a signal.
const TRIES: u32 = 6;
/// What is waited before the first next try; doubles each time, so 31 ms in all.
const PAUSE: Duration = Duration::from_millis(1);

/// How often a listing that changed while it was read is begun anew.
const LISTINGS: u32 = 16;

/// How many elements are asked for in one send: about 20 KiB of requests, and their answers fit
/// the receive buffer many times.
const ASKED_AT_ONCE: usize = 256;

/// The command socket, and the transaction being written.
#[derive(Debug)]
pub(crate) struct Port {
    socket: Socket,
    table: &'static str,
    batch: Batch,
    request: Builder,
    commits: u32,
}

impl Port {
    /// Opens it in the calling thread's network namespace, for the `inet` table of this name.
    pub(crate) fn open(table: &'static str) -> io::Result<Self> {
        let socket = Socket::open(NETFILTER)?;
        socket.buffers(SEND_BUFFER, RECEIVE_BUFFER)?;
        Ok(Self { socket, table, batch: Batch::new(table), request: Builder::new(), commits: 0 })
    }

    /// What notifications of our own doing carry.
    pub(crate) const fn id(&self) -> u32 {
        self.socket.port()
    }

    /// How many transactions were committed; wraps.
    pub(crate) const fn commits(&self) -> u32 {
        self.commits
    }

    /// Begins a transaction.
    pub(crate) fn begin(&mut self) -> &mut Batch {
        let seq = self.socket.next_seq();
        self.batch.begin(seq)
    }

    /// Commits it: all or nothing. An error is that of the first operation refused.
    pub(crate) fn commit(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let seq = self.batch.seq();
        let bytes = self.batch.finish();
        let mut tried = 0;
        loop {
            tried += 1;
            match self.socket.send(bytes).and_then(|()| answer(&mut self.socket, seq)) {
                Err(error) if passes(&error) && tried < TRIES => std::thread::sleep(PAUSE * (1 << (tried - 1))),
                Err(error) => return Err(error),
                Ok(()) => {
                    self.commits = self.commits.wrapping_add(1);
                    return Ok(());
                }
            }
        }
    }

    /// The generation number.
    pub(crate) fn generation(&mut self) -> io::Result<u32> {
        let seq = self.socket.next_seq();
        self.request.clear();
        get_generation(&mut self.request, seq);
        let mut found = None;
        self.socket.request(self.request.bytes(), seq, |message| found = found.or(parse_generation(message.payload)))?;
        found.map(|generation| generation.0).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Our table, where it exists.
    pub(crate) fn table(&mut self) -> io::Result<Option<Table>> {
        let seq = self.socket.next_seq();
        self.request.clear();
        get_table(&mut self.request, seq, self.table);
        let mut found = None;
        let answer =
            self.socket.request(self.request.bytes(), seq, |message| found = found.take().or_else(|| parse_table(message.payload)));
        missing_is(answer, ()).map(|()| found)
    }

    /// Lists objects of our table: `operation` of the `GET_*`, of one set for elements. Nothing where
    /// table or set do not exist.
    pub(crate) fn list<T>(&mut self, operation: u16, set: Option<&str>, mut take: impl FnMut(&[u8], &mut Vec<T>)) -> io::Result<Vec<T>> {
        let mut all = Vec::new();
        for _ in 0..LISTINGS {
            all.clear();
            let seq = self.socket.next_seq();
            self.request.clear();
            list(&mut self.request, seq, operation, self.table, set);
            let changed = self.socket.dump(self.request.bytes(), seq, |message| {
                // Kernels differ in whether they list only the table asked for.
                if table_of(message.payload) == Some(self.table) {
                    take(message.payload, &mut all);
                }
                Next::More
            });
            if !missing_is(changed, false)? {
                return Ok(all);
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the table changed during each of 16 listings"))
    }

    /// Asks for single elements, given as set name and key, and tells which stand. `found` gets the
    /// question's place among `asked`.
    pub(crate) fn elements<'a>(
        &mut self,
        asked: &'a [(usize, &'a str, &'a [u8])],
        mut found: impl FnMut(usize, StoredElement<'_>),
    ) -> io::Result<()> {
        for some in asked.chunks(ASKED_AT_ONCE) {
            self.request.clear();
            let mut seqs = Vec::with_capacity(some.len());
            for (_, set, key) in some {
                let seq = self.socket.next_seq();
                get_element(&mut self.request, seq, self.table, set, key);
                seqs.push(seq);
            }
            self.socket.send(self.request.bytes())?;
            let mut open = seqs.len();
            while open > 0 {
                for message in self.socket.receive(true)? {
                    let Some(at) = seqs.iter().position(|seq| *seq == message.seq) else { continue };
                    open -= 1;
                    if message.kind == wire::ERROR {
                        match message.errno() {
                            Some(libc::ENOENT) => {}
                            Some(errno) => return Err(io::Error::from_raw_os_error(errno)),
                            None => return Err(io::ErrorKind::InvalidData.into()),
                        }
                    } else if operation(message.kind).is_some() {
                        parse_elements(message.payload).into_iter().flat_map(|list| list.elements).for_each(|e| found(some[at].0, e));
                    }
                    if open == 0 {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Reads the answers to a transaction. The kernel queues all of them before `send` returns: on
/// success only the acknowledgement asked for, else the errors in the order of the operations.
fn answer(socket: &mut Socket, seq: u32) -> io::Result<()> {
    let mut refused = None;
    loop {
        let messages = match socket.receive(refused.is_none()) {
            Ok(messages) => messages,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        for message in messages {
            if message.kind != wire::ERROR || message.seq != seq {
                continue;
            }
            match message.errno() {
                Some(0) if refused.is_none() => return Ok(()),
                Some(0) => {}
                Some(errno) => refused = refused.or(Some(errno)),
                None => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
    Err(refused.map_or_else(|| io::ErrorKind::InvalidData.into(), io::Error::from_raw_os_error))
}

/// Whether it may work if tried again: nothing is wrong with what was asked.
fn passes(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::ENOBUFS))
}

/// What does not exist is not an error but `otherwise`.
pub(crate) fn missing_is<T>(result: io::Result<T>, otherwise: T) -> io::Result<T> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(otherwise),
        other => other,
    }
}
