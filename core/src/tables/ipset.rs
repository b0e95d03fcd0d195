//! A file for `ipset restore`: two sets, `palisade-export4` and `palisade-export6`.
//!
//! ```text
//!   create palisade-export4 hash:net family inet hashsize 1024 maxelem 65536 timeout 0
//!   add palisade-export4 203.0.113.0/24 timeout 3600
//!   add palisade-export4 198.51.100.7                      timeout 0: for ever
//! ```
//! They shut nobody out before a rule asks them (`iptables -I INPUT -m set --match-set palisade-export4
//! src -j DROP`). ipset(8): a timeout is at most 2147483 seconds, 24 days, and `hash:net` holds no /0.

use super::write::{Lost, Out, Sizes, put};
use crate::net::Family;
use crate::time::Stamp;

/// The longest timeout (ipset(8), "timeout").
const LONGEST: u64 = 2_147_483;

/// What a set can hold where fewer are to be in it: ipset's own default.
const MAXELEM: usize = 65_536;

/// What stands before the bans.
pub(super) fn head(sizes: Sizes, out: &mut Vec<u8>) {
    for (v, family, size) in [(4, "inet", sizes.v4), (6, "inet6", sizes.v6)] {
        let buckets = (size / 2).next_power_of_two().clamp(1024, 1 << 30);
        let most = size.saturating_mul(2).clamp(MAXELEM, u32::MAX as usize);
        put(out, format_args!("create palisade-export{v} hash:net family {family} hashsize {buckets} maxelem {most} timeout 0\n"));
    }
}

/// Writes one line.
pub(super) fn write(ban: &Out<'_>, now: Stamp, lost: &mut Lost, out: &mut Vec<u8>) {
    if ban.prefix.len() == 0 {
        lost.wide += 1;
        return;
    }
    let v = if ban.prefix.family() == Family::V4 { 4 } else { 6 };
    put(out, format_args!("add palisade-export{v} "));
    ban.put_bare(out);
    if let Some(left) = ban.until.left(now) {
        let seconds = left.as_secs_ceil().max(1);
        lost.long += u64::from(seconds > LONGEST);
        put(out, format_args!(" timeout {}", seconds.min(LONGEST)));
    }
    out.push(b'\n');
}
