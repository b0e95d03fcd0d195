//! What others do to our table, heard and counted.
//!
//! Two witnesses: the notifications of the group `NFNLGRP_NFTABLES`, each with the port of who did
//! it, and the generation number, which every transaction in the namespace moves on by one. Each
//! transaction ends with a notification of the new number, so the two can be compared: a number
//! that nobody told of means that notifications were lost.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use palisade_core::bans::wall::Key;
use palisade_core::ours::NFT_TABLE;

use super::layout::Kind;
use super::read::Snapshot;
use crate::block::Drift;
use crate::netlink::nft::port::Port;
use crate::netlink::nft::{GROUP, op, operation, parse_elements, parse_generation, table_of};
use crate::netlink::socket::{NETFILTER, Socket};
use crate::netlink::wire::Message;

/// Room for notifications, so that a foreign load of 100,000 elements does not lose any
/// (measured: 13 losses with the system's 208 KiB). Only a limit.
const RECEIVE_BUFFER: i32 = 16 << 20;

/// So many single bans changed by others are named; more are everything.
const NAMED: usize = 10_000;

/// The second socket, which only listens.
#[derive(Debug)]
pub(super) struct Ears {
    socket: Socket,
    heard: u32,
    seen: Seen,
}

/// What was heard and not yet told.
#[derive(Debug, Default)]
struct Seen {
    bans: BTreeSet<Key>,
    everything: Option<String>,
}

/// The state of things when we stopped listening.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub(super) struct Paused {
    generation: u32,
    commits: u32,
}

impl Seen {
    fn all(&mut self, what: impl Into<String>) {
        self.everything.get_or_insert_with(|| what.into());
    }

    /// Takes in one notification of somebody else's doing.
    fn take(&mut self, operation: u16, payload: &[u8]) {
        if table_of(payload) != Some(NFT_TABLE) {
            return;
        }
        let what = match operation {
            op::NEW_ELEMENTS | op::DEL_ELEMENTS => return self.elements(payload),
            op::NEW_TABLE => "our table was changed",
            op::DEL_TABLE => "our table was deleted",
            op::NEW_CHAIN => "a chain was added to our table or changed",
            op::DEL_CHAIN => "a chain of ours was deleted",
            op::NEW_RULE => "a rule was added to our table",
            op::DEL_RULE => "a rule of ours was deleted",
            op::NEW_SET => "a set was added to our table",
            op::DEL_SET => "a set of ours was deleted",
            _ => return, // named counters, quotas, flow tables: no rule of ours asks for them
        };
        self.all(what);
    }

    fn elements(&mut self, payload: &[u8]) {
        let Some(list) = parse_elements(payload) else { return };
        let Some((kind, _)) = Kind::parse(list.set) else {
            return self.all(format!("elements of the set {} were changed", list.set));
        };
        for element in list.elements {
            match kind.key(element.key) {
                Some(key) if self.bans.len() < NAMED => _ = self.bans.insert(key),
                Some(_) => self.all(format!("more than {NAMED} bans were changed")),
                None => self.all("the allow list was changed"),
            }
        }
    }

    fn tell(&mut self) -> Drift {
        let bans = std::mem::take(&mut self.bans);
        match self.everything.take() {
            Some(what) => Drift::Everything(what),
            None if bans.is_empty() => Drift::None,
            None => Drift::Bans(bans.into_iter().collect()),
        }
    }
}

impl Ears {
    /// Opens the socket and listens.
    pub(super) fn open(port: &mut Port) -> io::Result<Self> {
        let socket = Socket::open(NETFILTER)?;
        socket.buffers(RECEIVE_BUFFER, RECEIVE_BUFFER)?;
        socket.join(GROUP)?;
        let heard = port.generation()?;
        Ok(Self { socket, heard, seen: Seen::default() })
    }

    /// Readable when something was told.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what was told, without waiting.
    fn drain(&mut self, own: u32) -> io::Result<()> {
        loop {
            match self.socket.receive(false) {
                Ok(messages) => {
                    for message in messages {
                        note(&mut self.seen, &mut self.heard, own, &message);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.seen.all("notifications were lost"),
                Err(error) => return Err(error),
            }
        }
    }

    /// What others did since the last call.
    pub(super) fn drift(&mut self, port: &mut Port) -> io::Result<Drift> {
        let generation = port.generation()?;
        self.drain(port.id())?;
        if self.behind(generation) {
            self.heard = generation;
            self.verify(port)?;
        }
        Ok(self.seen.tell())
    }

    /// Whether the kernel was at `generation` before the notifications now read were, and they do
    /// not reach it. The number wraps.
    const fn behind(&self, generation: u32) -> bool {
        generation.wrapping_sub(self.heard).cast_signed() > 0
    }

    /// Something happened that was not told: is our table still whole?
    fn verify(&mut self, port: &mut Port) -> io::Result<()> {
        if !Snapshot::take(port)?.whole() {
            self.seen.all("our table was changed and no notification came");
        }
        Ok(())
    }

    /// Stops listening, for a load: a listener makes it 2.5 to 3 times as slow.
    pub(super) fn pause(&mut self, port: &mut Port) -> io::Result<Paused> {
        let paused = Paused { generation: port.generation()?, commits: port.commits() };
        self.socket.leave(GROUP)?;
        Ok(paused)
    }

    /// Forgets all that was heard: what others did was done over.
    pub(super) fn forget(&mut self, port: &Port) -> io::Result<()> {
        self.drain(port.id())?;
        self.seen = Seen::default();
        Ok(())
    }

    /// Listens again. If others changed anything meanwhile, looks whether our table is whole, and
    /// if it is not says so now and at the next [`Ears::drift`]. Single elements taken out by others
    /// during a load are not noticed.
    pub(super) fn resume(&mut self, port: &mut Port, paused: Paused) -> io::Result<bool> {
        self.socket.join(GROUP)?;
        let generation = port.generation()?;
        let moved = generation.wrapping_sub(paused.generation);
        self.heard = generation;
        if moved == port.commits().wrapping_sub(paused.commits) {
            return Ok(true);
        }
        let before = self.seen.everything.is_some();
        self.verify(port)?;
        Ok(before || self.seen.everything.is_none())
    }
}

fn note(seen: &mut Seen, heard: &mut u32, own: u32, message: &Message<'_>) {
    match operation(message.kind) {
        Some(op::NEW_GENERATION) => {
            // What was told before a pause may be read after it.
            let newer = parse_generation(message.payload).filter(|told| told.0.wrapping_sub(*heard).cast_signed() > 0);
            *heard = newer.map_or(*heard, |told| told.0);
        }
        Some(operation) if message.port != own => seen.take(operation, message.payload),
        _ => {}
    }
}
