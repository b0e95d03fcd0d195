//! A file for `nft -f`: a table of its own that shuts out whom it lists, until their bans end.
//!
//! ```text
//!   add table inet palisade_export                     so that there is one to delete
//!   delete table inet palisade_export                  what an earlier file loaded
//!   add table inet palisade_export
//!   add chain inet palisade_export banned { type filter hook prerouting priority -300; policy accept; }
//!   add set inet palisade_export v4_24 { type ipv4_addr; flags timeout; }
//!   add rule inet palisade_export banned ip saddr & 255.255.255.0 @v4_24 drop
//!   add element inet palisade_export v4_24 { 203.0.113.0 timeout 3600s, 198.51.100.0 }
//! ```
//! One hash set for each prefix length in use: a set of intervals takes no two prefixes that overlap,
//! and ours may. `nft -f` takes a file as one transaction, so loading a newer one leaves no gap.

use std::collections::BTreeMap;

use super::write::{Out, put};
use crate::net::{Addr, Family};
use crate::time::{Span, Stamp};

/// The table. Not ours, which the daemon takes for its own.
const TABLE: &str = "inet palisade_export";

/// How many bytes of elements stand in one statement: a statement for each takes nft twice as long.
const STATEMENT: usize = 32 * 1024;

/// The longest timeout in seconds: the kernel's, 2^63 jiffies, is more on any machine.
const LONGEST: u64 = u32::MAX as u64;

/// nft(8) takes at most eight digits before a unit (libnftables: the scanner's `timestring`, datatype.c).
const EIGHT_DIGITS: u64 = 99_999_999;

/// Writes a timeout, in days and seconds where there are too many seconds.
fn put_timeout(out: &mut Vec<u8>, seconds: u64) {
    if seconds <= EIGHT_DIGITS {
        put(out, format_args!(" timeout {seconds}s"));
    } else {
        put(out, format_args!(" timeout {}d{}s", seconds / 86_400, seconds % 86_400));
    }
}

/// What stands before the bans.
pub(super) fn head(out: &mut Vec<u8>) {
    put(out, format_args!("#!/usr/sbin/nft -f\nadd table {TABLE}\ndelete table {TABLE}\nadd table {TABLE}\n"));
    put(out, format_args!("add chain {TABLE} banned {{ type filter hook prerouting priority -300; policy accept; }}\n"));
}

/// The elements that wait, of each set in use.
#[derive(Debug, Default)]
pub(super) struct Sets(BTreeMap<(Family, u8), Vec<u8>>);

impl Sets {
    /// Writes one element, with the set before its first.
    pub(super) fn write(&mut self, ban: &Out<'_>, now: Stamp, out: &mut Vec<u8>) {
        let (family, len) = (ban.prefix.family(), ban.prefix.len());
        let elements = self.0.entry((family, len)).or_insert_with(|| {
            declare(ban, out);
            Vec::new()
        });
        if !elements.is_empty() {
            elements.extend_from_slice(b", ");
        }
        put(elements, format_args!("{}", ban.prefix.addr()));
        if let Some(left) = ban.until.left(now) {
            put_timeout(elements, seconds(left).min(LONGEST));
        }
        if elements.len() >= STATEMENT {
            flush(family, len, elements, out);
        }
    }

    /// Writes what waits.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        for ((family, len), elements) in &mut self.0 {
            flush(*family, *len, elements, out);
        }
    }
}

/// The set and the rule that looks into it.
fn declare(ban: &Out<'_>, out: &mut Vec<u8>) {
    let (kind, word, v) = match ban.prefix.family() {
        Family::V4 => ("ipv4_addr", "ip", 4),
        Family::V6 => ("ipv6_addr", "ip6", 6),
    };
    let len = ban.prefix.len();
    put(out, format_args!("add set {TABLE} v{v}_{len} {{ type {kind}; flags timeout; }}\nadd rule {TABLE} banned {word} saddr "));
    if !ban.prefix.is_host()
        && let Some(mask) = Addr::from_octets(&ban.prefix.netmask())
    {
        put(out, format_args!("& {mask} "));
    }
    put(out, format_args!("@v{v}_{len} drop\n"));
}

fn flush(family: Family, len: u8, elements: &mut Vec<u8>, out: &mut Vec<u8>) {
    if elements.is_empty() {
        return;
    }
    let v = if family == Family::V4 { 4 } else { 6 };
    put(out, format_args!("add element {TABLE} v{v}_{len} {{ "));
    out.append(elements);
    out.extend_from_slice(b" }\n");
}

/// Rounded up, and at least one: a timeout of none is for ever.
fn seconds(left: Span) -> u64 {
    left.as_secs_ceil().max(1)
}
