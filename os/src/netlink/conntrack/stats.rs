//! The table as a whole: how many states there are, how many there can be, and what became of packets.
//!
//! ```text
//!  type 0x0105 IPCTNL_MSG_CT_GET_STATS       1 CTA_STATS_GLOBAL_ENTRIES be32   2 CTA_STATS_GLOBAL_MAX_ENTRIES be32 (Linux 4.18)
//!  type 0x0104 IPCTNL_MSG_CT_GET_STATS_CPU   a listing, one message a processor, in each be32 since boot:
//!       4 CTA_STATS_INVALID   9 CTA_STATS_INSERT_FAILED   10 CTA_STATS_DROP   11 CTA_STATS_EARLY_DROP
//!      13 CTA_STATS_SEARCH_RESTART   15 CTA_STATS_CHAIN_TOOLONG (Linux 5.15)
//! ```
//! Source: linux/netfilter/nfnetlink_conntrack.h. All of it is of one network namespace. It costs a few microseconds,
//! where a listing walks the whole hash table, whatever is in it.

use std::fs;
use std::io;

use palisade_core::flood::gauge::Gauge;

use super::{HEAD, head};
use crate::netlink::socket::{Next, Socket};
use crate::netlink::wire::{Attrs, Builder, flag};

const STATS_CPU: u16 = (1 << 8) | 4;
const STATS: u16 = (1 << 8) | 5;
const STATS_ENTRIES: u16 = 1;
const STATS_MAX: u16 = 2;

const INVALID: u16 = 4;
const INSERT_FAILED: u16 = 9;
const DROP: u16 = 10;
const EARLY_DROP: u16 = 11;
const SEARCH_RESTART: u16 = 13;
const CHAIN_TOO_LONG: u16 = 15;

/// Where the bound stands for kernels that do not tell it over netlink.
const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// How many states this network namespace has.
pub fn count(socket: &mut Socket) -> io::Result<u32> {
    totals(socket).map(|(entries, _)| entries)
}

/// How many states this network namespace has, and how many it can have where the kernel tells that here.
fn totals(socket: &mut Socket) -> io::Result<(u32, Option<u32>)> {
    let seq = socket.next_seq();
    let mut request = Builder::new();
    request.message(STATS, flag::REQUEST | flag::ACK, seq, &head(None));
    let mut told = (None, None);
    socket.request(request.bytes(), seq, |message| {
        let number = |kind| message.attrs(HEAD).find(kind).and_then(|attr| attr.be32());
        told = (number(STATS_ENTRIES), number(STATS_MAX));
    })?;
    Ok((told.0.ok_or(io::ErrorKind::InvalidData)?, told.1))
}

/// All that can be had without a listing.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN; `EINVAL` where the kernel has no nf_conntrack_netlink.
pub fn gauge(socket: &mut Socket) -> io::Result<Gauge> {
    let (count, max) = totals(socket)?;
    let mut gauge = Gauge { count, max: max.or_else(max_of_proc).unwrap_or(0), ..Gauge::default() };
    let seq = socket.next_seq();
    let mut request = Builder::new();
    request.message(STATS_CPU, flag::REQUEST | flag::DUMP, seq, &head(None));
    socket.dump(request.bytes(), seq, |message| {
        if message.kind == STATS_CPU {
            add(&mut gauge, message.attrs(HEAD));
        }
        Next::More
    })?;
    Ok(gauge)
}

fn max_of_proc() -> Option<u32> {
    fs::read_to_string(MAX).ok()?.trim().parse().ok()
}

/// Adds what one processor counted.
fn add(gauge: &mut Gauge, attrs: Attrs<'_>) {
    for attr in attrs {
        let sum = match attr.kind {
            INVALID => &mut gauge.invalid,
            INSERT_FAILED => &mut gauge.insert_failed,
            DROP => &mut gauge.drop,
            EARLY_DROP => &mut gauge.early_drop,
            SEARCH_RESTART => &mut gauge.search_restart,
            CHAIN_TOO_LONG => &mut gauge.chain_too_long,
            _ => continue,
        };
        *sum = sum.saturating_add(attr.be32().unwrap_or(0).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn processors_are_added_up() {
        let mut gauge = Gauge::default();
        for n in [1, u32::MAX] {
            let mut b = Builder::new();
            b.message(STATS_CPU, 0, 1, &[0; HEAD]);
            (1..=15).for_each(|kind| _ = b.attr_be32(kind, n.saturating_sub(kind.into())));
            let bytes = b.bytes().to_vec();
            add(&mut gauge, crate::netlink::wire::Messages(&bytes).next().unwrap().attrs(HEAD));
        }
        let all = u64::from(u32::MAX);
        assert_eq!((gauge.invalid, gauge.insert_failed, gauge.drop), (all - 4, all - 9, all - 10));
        assert_eq!((gauge.early_drop, gauge.search_restart, gauge.chain_too_long), (all - 11, all - 13, all - 15));
        assert_eq!((gauge.count, gauge.max), (0, 0));
    }

    proptest! {
        #[test]
        fn adding_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            add(&mut Gauge { drop: u64::MAX, ..Gauge::default() }, Attrs(&bytes));
        }
    }
}
