//! Everybody's tables, chains and timeouts: whom we share the namespace with.

use std::io;

use super::batch::list_all;
use super::{Chain, Held, Policy, named_table, op, parse_chain, parse_object};
use crate::netlink::socket::{NETFILTER, Next, Socket};

/// How many chains are taken in: a host of many containers has some thousands.
const MOST: usize = 65_536;

/// How often a listing that changed while it was read is begun anew.
const LISTINGS: u32 = 16;

/// A chain and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// `NFPROTO_*`: 1 inet, 2 ip, 5 netdev, 7 bridge, 10 ip6.
    pub family: u8,
    /// Its table.
    pub table: String,
    /// It.
    pub chain: Chain,
}

/// The name nft(8) has for a family (linux/netfilter.h).
pub const fn family_name(family: u8) -> &'static str {
    match family {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "?",
    }
}

/// Every chain of the calling thread's network namespace.
pub fn chains() -> io::Result<Vec<Placed>> {
    survey(op::GET_CHAIN, |payload| {
        let (family, table) = named_table(payload)?;
        Some(Placed { family, table: table.to_owned(), chain: parse_chain(payload)? })
    })
}

/// Every table, as family and name.
pub fn tables() -> io::Result<Vec<(u8, String)>> {
    survey(op::GET_TABLE, |payload| named_table(payload).map(|(family, table)| (family, table.to_owned())))
}

/// Every table's timeouts of connections.
pub fn policies() -> io::Result<Vec<Policy>> {
    survey(op::GET_OBJECT, |payload| match parse_object(payload)?.held {
        Held::Timeouts(policy) => Some(policy),
        _ => None,
    })
}

fn survey<T>(operation: u16, read: impl Fn(&[u8]) -> Option<T>) -> io::Result<Vec<T>> {
    let mut socket = Socket::open(NETFILTER)?;
    for _ in 0..LISTINGS {
        let mut all = Vec::new();
        let seq = socket.next_seq();
        let request = list_all(seq, operation);
        let changed = socket.dump(request.bytes(), seq, |message| {
            all.extend(read(message.payload));
            if all.len() < MOST { Next::More } else { Next::Enough }
        })?;
        if !changed {
            return Ok(all);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "others changed nf_tables during each of 16 listings"))
}
