//! Hears from the kernel itself when its rule set changed, and once changes it behind the guard's back.
//!
//! nf_tables tells of a transaction right after it took effect, so that moment is never told too early.

use std::collections::HashSet;
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use palisade_core::net::Prefix;
use palisade_core::ours::NFT_TABLE;
use palisade_os::netlink::nft::{self, Batch, op};
use palisade_os::netlink::socket::{NETFILTER, Socket};
use palisade_os::netlink::wire::Message;

/// One thing that came to stand in our table.
enum New {
    /// An element with this key.
    Element(Vec<u8>),
    /// A rule.
    Rule,
}

/// The listening thread's end. The thread ends with the process.
pub(super) struct Witness(Receiver<(Instant, New)>);

impl Witness {
    /// Listens in the network namespace of the calling thread.
    pub(super) fn start() -> Result<Self> {
        let mut socket = Socket::open(NETFILTER).context("listening to the kernel")?;
        socket.join(nft::GROUP).context("listening to the kernel")?;
        let (tell, heard) = channel();
        let listen = move || {
            loop {
                match socket.receive(true) {
                    Ok(messages) => {
                        let at = Instant::now();
                        messages.flat_map(|message| news(&message)).for_each(|new| _ = tell.send((at, new)));
                    }
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {} // it was quiet
                    Err(_) => return,
                }
            }
        };
        thread::Builder::new().name("witness".to_owned()).spawn(listen)?;
        Ok(Self(heard))
    }

    /// When the last of these bans came to stand.
    pub(super) fn stands(&self, bans: &[Prefix], within: Duration) -> Option<Instant> {
        self.wait(bans, true, within)
    }

    /// When the last of these bans and the rules that ask for them came to stand anew.
    pub(super) fn rebuilt(&self, bans: &[Prefix], within: Duration) -> Option<Instant> {
        self.wait(bans, false, within)
    }

    fn wait(&self, bans: &[Prefix], mut rules: bool, within: Duration) -> Option<Instant> {
        let until = Instant::now() + within;
        let mut missing: HashSet<Vec<u8>> = bans.iter().map(|ban| ban.addr().octets().to_vec()).collect();
        loop {
            let (at, new) = self.0.recv_timeout(until.saturating_duration_since(Instant::now())).ok()?;
            match new {
                New::Element(key) => _ = missing.remove(&key),
                New::Rule => rules = true,
            }
            if missing.is_empty() && rules {
                return Some(at);
            }
        }
    }

    /// Deletes the guard's whole table, as an administrator or another program might. When it was asked for.
    pub(super) fn delete_table(&self) -> Result<Instant> {
        while self.0.try_recv().is_ok() {} // what stood before does not count as rebuilt
        let mut socket = Socket::open(NETFILTER).context("deleting the table")?;
        let mut batch = Batch::new(NFT_TABLE);
        let seq = socket.next_seq();
        let bytes = batch.begin(seq).delete_table().finish();
        let at = Instant::now();
        socket.request(bytes, seq, |_| {}).context("deleting the table")?;
        Ok(at)
    }
}

fn news(message: &Message<'_>) -> Vec<New> {
    if nft::table_of(message.payload) != Some(NFT_TABLE) {
        return Vec::new();
    }
    match nft::operation(message.kind) {
        Some(op::NEW_ELEMENTS) => {
            let list = nft::parse_elements(message.payload);
            list.into_iter().flat_map(|list| list.elements).map(|element| New::Element(element.key.to_vec())).collect()
        }
        Some(op::NEW_RULE) => vec![New::Rule],
        _ => Vec::new(),
    }
}
