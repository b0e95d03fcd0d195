//! The largest of more than there is room for: Misra and Gries' summary, pruned in batches.
//!
//! J. Misra, D. Gries, "Finding repeated elements", Science of Computer Programming 2 (1982). Each row weighs its count less what
//! was taken from all rows since it was made. When too many rows stand, the weight of the (`room` + 1)th largest is taken from all,
//! and those that weigh nothing any more are given up. What is taken adds up to [`Heavy::error`]:
//!
//! * each taking of `w` is of at least `room + 1` rows, so `error` is at most the sum of all counts / (`room` + 1);
//! * a key's true count is at most its weight + `error`, so whoever counts more than `error` has a row;
//! * a row counts exactly what came since it was made, so it is too small by at most what `error` was then, and never too large.
//!
//! Counts are never lowered, as in lossy counting (G. Manku, R. Motwani, VLDB 2002): a row remembers what `error` was when it was
//! made, and its weight follows. What is counted beside (unreplied, ...) so stays in proportion.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;

use crate::flood::flow::{Endpoint, Flow};
use crate::net::{Addr, Prefix};

/// Rows by key. The keys come from whoever sends packets: the hash is keyed by the process's own secret (SipHash), so nobody can
/// choose addresses that collide.
#[derive(Clone, Debug)]
pub(super) struct Heavy<K, R> {
    rows: HashMap<K, Kept<R>, RandomState>,
    room: usize,
    error: u32,
    most: usize,
    gone: [u64; GONE],
}

/// Given-up rows are remembered by their count up to this.
const GONE: usize = 64;

/// One row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept<R> {
    /// What came since it was made.
    pub(super) count: u32,
    /// What [`Heavy::error`] was then.
    born: u32,
    /// What else is counted of it.
    pub(super) row: R,
}

impl<R> Kept<R> {
    fn ends(&self) -> u32 {
        self.count.saturating_add(self.born)
    }
}

impl<K: Copy + Eq + Hash, R: Copy + Default> Heavy<K, R> {
    /// Exact for up to `room` keys. Never holds more than 7/4 of that: what a hash map of std takes in its next power of two where
    /// `room` is one.
    pub(super) fn new(room: usize) -> Self {
        Self { rows: HashMap::default(), room: room.max(1), error: 0, most: 0, gone: [0; GONE] }
    }

    /// Counts `by` more of `key`; the row, to count what else there is.
    pub(super) fn add(&mut self, key: K, by: u32) -> &mut R {
        if self.rows.len() > self.room && self.rows.len() >= self.room.saturating_add(self.room / 4 * 3) {
            self.prune();
        }
        let born = self.error;
        let kept = self.rows.entry(key).or_insert_with(|| Kept { born, ..Kept::default() });
        kept.count = kept.count.saturating_add(by);
        &mut kept.row
    }

    /// Gives up all that weigh no more than the (`room` + 1)th largest.
    fn prune(&mut self) {
        self.most = self.most.max(self.rows.len());
        let mut ends: Vec<u32> = self.rows.values().map(Kept::ends).collect();
        if ends.len() <= self.room {
            return;
        }
        // Who weighs more ends later: nothing need be taken from anybody, only the end moves.
        let (_, end, _) = ends.select_nth_unstable_by(self.room, |a, b| b.cmp(a));
        self.error = *end;
        let Self { rows, error, gone, .. } = self;
        rows.retain(|_, kept| {
            let stays = kept.ends() > *error;
            if !stays {
                let count = usize::try_from(kept.count).unwrap_or(usize::MAX);
                gone[count.min(GONE - 1)] += 1;
            }
            stays
        });
    }

    /// By how much each count may be too small.
    pub(super) const fn error(&self) -> u32 {
        self.error
    }

    /// How many keys there are; at least so many, where [`Heavy::error`] is not 0.
    pub(super) fn keys(&self) -> u64 {
        u64::try_from(self.most.max(self.rows.len())).unwrap_or(u64::MAX)
    }

    /// All rows that stand, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &Kept<R>)> {
        self.rows.iter()
    }

    /// One key's row.
    pub(super) fn get(&self, key: &K) -> Option<&Kept<R>> {
        self.rows.get(key)
    }

    /// Takes all rows out and begins anew, with the room it had.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (K, u32)> {
        (self.error, self.most, self.gone) = (0, 0, [0; GONE]);
        self.rows.drain().map(|(key, kept)| (key, kept.count))
    }

    /// The rows with the highest counts, at most `most`, highest first; of equals the lower key.
    pub(super) fn largest(&self, most: usize) -> Vec<(K, u32)>
    where
        K: Ord,
    {
        let all = self.rows.iter().map(|(key, kept)| (*key, kept.count)).collect();
        largest(all, most, |a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)))
    }

    /// The median and the 90th percentile of the counts, by nearest rank; rows given up count with what they had.
    pub(super) fn typical(&self) -> (u32, u32) {
        let mut counts: Vec<(u32, u64)> = self.rows.values().map(|kept| (kept.count, 1)).collect();
        counts.extend((0..).zip(self.gone).filter(|(_, rows)| *rows > 0));
        counts.sort_unstable();
        let all: u64 = counts.iter().map(|(_, rows)| rows).sum();
        let at = |rank: u64| {
            let mut passed = 0;
            let reaches = |(_, rows): &&(u32, u64)| {
                passed += rows;
                passed >= rank
            };
            counts.iter().find(reaches).map_or(0, |(count, _)| *count)
        };
        (at(all.div_ceil(2)), at((all * 9).div_ceil(10)))
    }
}

/// The first `most` of an order, in order, without sorting the rest.
pub(super) fn largest<T>(mut all: Vec<T>, most: usize, order: impl Fn(&T, &T) -> std::cmp::Ordering) -> Vec<T> {
    if most == 0 {
        return Vec::new();
    }
    if all.len() > most {
        all.select_nth_unstable_by(most - 1, &order);
        all.truncate(most);
    }
    all.sort_unstable_by(order);
    all
}

/// An address in 16 bytes: IPv4 as it is mapped into IPv6, which no [`Addr`] of IPv6 ever is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Host([u64; 2]);

/// A /64 of IPv6 in 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Net(u64);

/// An [`Endpoint`] in 20.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Goal([u32; 5]);

/// The upper and the lower half.
#[expect(clippy::cast_possible_truncation, reason = "each half is cut out")]
const fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

const fn bits(addr: Addr) -> u128 {
    match addr.ip() {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        std::net::IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Host {
    pub(super) const fn of(addr: Addr) -> Self {
        Self(halves(bits(addr)))
    }

    const fn whole(self) -> u128 {
        (self.0[0] as u128) << 64 | self.0[1] as u128
    }

    pub(super) fn prefix(self) -> Prefix {
        Prefix::host(Ipv6Addr::from_bits(self.whole()).into())
    }

    /// Its /64; `None` of IPv4.
    pub(super) const fn net(self) -> Option<Net> {
        let mapped = self.0[0] == 0 && self.0[1] >> 32 == 0xffff;
        if mapped { None } else { Some(Net(self.0[0])) }
    }
}

impl Hash for Host {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // One write: SipHash pays for each.
        state.write_u128(self.whole());
    }
}

impl Net {
    pub(super) fn prefix(self) -> Prefix {
        Prefix::host(Ipv6Addr::from_bits(u128::from(self.0) << 64).into()).widen(super::NET)
    }
}

impl Goal {
    #[expect(clippy::cast_possible_truncation, reason = "each quarter is cut out")]
    fn new(addr: Addr, port: u16, protocol: u8) -> Self {
        let bits = bits(addr);
        let tail = u32::from(port) << 8 | u32::from(protocol);
        Self([(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32, tail])
    }

    pub(super) fn of(flow: &Flow) -> Self {
        Self::new(flow.destination, flow.port, flow.protocol)
    }

    fn whole(self) -> u128 {
        self.0[..4].iter().fold(0, |all, part| all << 32 | u128::from(*part))
    }

    pub(super) fn endpoint(self) -> Endpoint {
        let [.., tail] = self.0;
        let [_, high, low, protocol] = tail.to_be_bytes();
        Endpoint { addr: Ipv6Addr::from_bits(self.whole()).into(), port: u16::from_be_bytes([high, low]), protocol }
    }
}

impl From<Endpoint> for Goal {
    fn from(endpoint: Endpoint) -> Self {
        Self::new(endpoint.addr, endpoint.port, endpoint.protocol)
    }
}

impl Hash for Goal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.whole());
        state.write_u32(self.0[4]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_by_hand() {
        // Room for 4 means at most 7 rows. Counts 5 3 2 1 1 1 1, then an eighth key: the fifth largest, 1, is taken from all.
        let mut heavy: Heavy<u8, ()> = Heavy::new(4);
        for (key, count) in [(1, 5), (2, 3), (3, 2), (4, 1), (5, 1), (6, 1), (7, 1)] {
            heavy.add(key, count);
        }
        assert_eq!((heavy.error(), heavy.keys(), heavy.typical()), (0, 7, (1, 5)));
        heavy.add(8, 1);
        assert_eq!((heavy.error(), heavy.keys()), (1, 7));
        assert_eq!(heavy.largest(9), [(1, 5), (2, 3), (3, 2), (8, 1)]);
        // Four were given up with 1 each: 1 1 1 1 1 2 3 5.
        assert_eq!(heavy.typical(), (1, 5));
        // 8 was made when 1 had been taken: it ends at 2, as 3 does that had 2 from the start.
        for key in [9, 10, 11] {
            heavy.add(key, 1);
        }
        heavy.add(1, 1);
        assert_eq!((heavy.error(), heavy.largest(9)), (2, vec![(1, 6), (2, 3)]));
    }

    #[test]
    fn keys_are_what_they_were_made_of() {
        for text in ["192.0.2.7:53/udp", "[2001:db8::1]:443/tcp", "203.0.113.1/icmp", "2001:db8::/icmpv6"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(Goal::from(endpoint).endpoint(), endpoint);
            let host = Host::of(endpoint.addr);
            assert_eq!(host.prefix(), Prefix::host(endpoint.addr));
            let net = Prefix::host(endpoint.addr).widen(64);
            assert_eq!(host.net().map(Net::prefix), text.contains("db8").then_some(net));
        }
    }

    proptest! {
        #[test]
        fn bounds_hold_against_an_exact_count(room in 1_usize..40, keys in proptest::collection::vec((0_u32..200, 1_u32..20, 0_u32..4), 0..2000)) {
            let (mut heavy, mut exact) = (Heavy::<u32, u32>::new(room), HashMap::<u32, u32>::new());
            for (key, by, skew) in keys {
                // Some keys come far more often than others.
                let key = if skew == 0 { key } else { key % 7 };
                *heavy.add(key, by) += by;
                *exact.entry(key).or_default() += by;
                prop_assert!(heavy.rows.len() <= room + 1 + room / 4 * 3);
            }
            let (all, error) = (exact.values().sum::<u32>(), heavy.error());
            prop_assert!(u64::from(error) * (room as u64 + 1) <= u64::from(all));
            prop_assert!(heavy.keys() <= exact.len() as u64);
            prop_assert!(exact.len() > room || (error == 0 && heavy.keys() == exact.len() as u64));
            for (key, count) in &exact {
                let kept = heavy.get(key);
                prop_assert!(kept.is_some() || *count <= error, "{key} had {count} and is gone, error {error}");
                if let Some(kept) = kept {
                    prop_assert!(kept.count <= *count && *count - kept.count <= kept.born && kept.born <= error);
                    prop_assert_eq!(kept.row, kept.count);
                }
            }
        }
    }
}
