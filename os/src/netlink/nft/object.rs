//! Objects with a name that stand beside the rules which use them, and keep what they hold when rules are rewritten.
//!
//! ```text
//!  object     TABLE=1  NAME=2  TYPE=3  DATA=4 {...}                      all numbers big endian
//!   1 counter   BYTES=1 u64  PACKETS=2 u64
//!   4 limit     RATE=1 u64  UNIT=2 u64 (seconds)  BURST=3 u32  TYPE=4 u32 (0: packets)  FLAGS=5 u32 (1: over)
//!   7 timeouts  L3PROTO=1 u16  L4PROTO=2 u8  DATA=3 { a state's number: u32 seconds }
//! ```
//! Source: linux/netfilter/nf_tables.h; the states' numbers: `enum ctattr_timeout_*` of
//! linux/netfilter/nfnetlink_cttimeout.h.

use std::collections::BTreeMap;

use palisade_core::net::Family;

use super::nfta::{COUNTER_BYTES, COUNTER_PACKETS, OBJECT_DATA, OBJECT_NAME, OBJECT_TYPE};
use super::reply::{attrs, text};
use crate::netlink::wire::{Attrs, Builder};

/// `NFT_OBJECT_COUNTER`.
pub const OBJECT_COUNTER: u32 = 1;
/// `NFT_OBJECT_LIMIT`.
pub const OBJECT_LIMIT: u32 = 4;
/// `NFT_OBJECT_CT_TIMEOUT`.
pub const OBJECT_TIMEOUTS: u32 = 7;

/// `NFT_LIMIT_PKTS`, `NFT_LIMIT_F_INV`; and the unit that rates are told by.
const PACKETS: u32 = 0;
const OVER: u32 = 1;
const SECOND: u64 = 1;
/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const IPV4: u16 = 2;
const IPV6: u16 = 10;

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name, unique among those of its kind in the table.
    pub name: String,
    /// What it is.
    pub held: Held,
}

/// What an object is, and holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A counter.
    Counter {
        /// Packets it has seen.
        packets: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A limit that matches packets over its rate.
    Limit(Rate),
    /// Timeouts of connections.
    Timeouts(Policy),
    /// Anything else, by its `NFT_OBJECT_*`. Never written.
    Other(u32),
}

/// How many packets pass below a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many a second; 0 is refused by the kernel.
    pub per_second: u64,
    /// So many at once, after a quiet while.
    pub burst: u32,
}

/// Timeouts of connections of one family and one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Of the addresses.
    pub family: Family,
    /// IP protocol number.
    pub protocol: u8,
    /// Seconds by the state's number. What is not written here the kernel fills up with what its own switches hold
    /// at that moment, and tells when it is read.
    pub seconds: BTreeMap<u16, u32>,
}

impl Object {
    /// A new counter.
    pub const fn counter(name: String) -> Self {
        Self { name, held: Held::Counter { packets: 0, bytes: 0 } }
    }

    /// `NFT_OBJECT_*`.
    pub const fn kind(&self) -> u32 {
        match self.held {
            Held::Counter { .. } => OBJECT_COUNTER,
            Held::Limit(_) => OBJECT_LIMIT,
            Held::Timeouts(_) => OBJECT_TIMEOUTS,
            Held::Other(kind) => kind,
        }
    }

    /// Whether this one, as it was read, is what `wanted` made, whatever it has counted since.
    pub fn is(&self, wanted: &Self) -> bool {
        self.name == wanted.name
            && match (&self.held, &wanted.held) {
                (Held::Counter { .. }, Held::Counter { .. }) => true,
                (Held::Limit(is), Held::Limit(wanted)) => is == wanted,
                (Held::Timeouts(is), Held::Timeouts(wanted)) => is.holds(wanted),
                _ => false,
            }
    }
}

impl Policy {
    /// Whether all that is `wanted` stands here: the kernel has filled up the rest.
    fn holds(&self, wanted: &Self) -> bool {
        (self.family, self.protocol) == (wanted.family, wanted.protocol)
            && wanted.seconds.iter().all(|(state, seconds)| self.seconds.get(state) == Some(seconds))
    }
}

impl Held {
    /// Writes what makes it, into its nest.
    pub(super) fn write(&self, b: &mut Builder) {
        match self {
            Self::Counter { .. } | Self::Other(_) => {}
            Self::Limit(rate) => {
                b.attr_be64(1, rate.per_second).attr_be64(2, SECOND).attr_be32(3, rate.burst).attr_be32(4, PACKETS).attr_be32(5, OVER);
            }
            Self::Timeouts(policy) => {
                let family = if policy.family == Family::V4 { IPV4 } else { IPV6 };
                b.attr(1, &family.to_be_bytes()).attr(2, &[policy.protocol]);
                let states = b.nest(3);
                policy.seconds.iter().for_each(|(state, seconds)| _ = b.attr_be32(*state, *seconds));
                b.end(states);
            }
        }
    }

    fn read(kind: u32, data: Attrs<'_>) -> Self {
        let count = |kind| data.find(kind).and_then(|a| a.be64()).unwrap_or(0);
        let known = match kind {
            OBJECT_COUNTER => Some(Self::Counter { packets: count(COUNTER_PACKETS), bytes: count(COUNTER_BYTES) }),
            OBJECT_LIMIT => rate(data).map(Self::Limit),
            OBJECT_TIMEOUTS => policy(data).map(Self::Timeouts),
            _ => None,
        };
        known.unwrap_or(Self::Other(kind))
    }
}

/// A limit such as we write: packets over so many a second.
fn rate(data: Attrs<'_>) -> Option<Rate> {
    let number = |kind| data.find(kind).and_then(|a| a.be32()).unwrap_or(0);
    let long = |kind| data.find(kind)?.be64();
    let ours = long(2)? == SECOND && number(4) == PACKETS && number(5) == OVER;
    ours.then_some(Rate { per_second: long(1)?, burst: number(3) })
}

fn policy(data: Attrs<'_>) -> Option<Policy> {
    let family = match data.find(1)?.be16()? {
        IPV4 => Family::V4,
        IPV6 => Family::V6,
        _ => return None,
    };
    let seconds = data.find(3).map_or(Attrs(&[]), |a| a.nested()).filter_map(|a| Some((a.kind, a.be32()?))).collect();
    Some(Policy { family, protocol: *data.find(2)?.payload.first()?, seconds })
}

/// Reads `NEWOBJ`.
pub fn parse_object(payload: &[u8]) -> Option<Object> {
    let attrs = attrs(payload);
    let data = attrs.find(OBJECT_DATA).map_or(Attrs(&[]), |a| a.nested());
    Some(Object { name: text(attrs, OBJECT_NAME)?.to_owned(), held: Held::read(attrs.find(OBJECT_TYPE)?.be32()?, data) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::nft::Batch;
    use crate::netlink::wire::Messages;
    use proptest::prelude::*;

    fn any_object() -> impl Strategy<Value = Object> {
        let policy = (any::<bool>(), any::<u8>(), proptest::collection::btree_map(1u16..12, any::<u32>(), 0..12));
        let held = prop_oneof![
            Just(Held::Counter { packets: 0, bytes: 0 }),
            (any::<u64>(), any::<u32>()).prop_map(|(per_second, burst)| Held::Limit(Rate { per_second, burst })),
            policy.prop_map(|(v4, protocol, seconds)| {
                Held::Timeouts(Policy { family: if v4 { Family::V4 } else { Family::V6 }, protocol, seconds })
            }),
        ];
        ("[a-z][a-z0-9_./]{0,40}", held).prop_map(|(name, held)| Object { name, held })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(object in any_object()) {
            let mut batch = Batch::new("t");
            let bytes = batch.begin(1).add_object(&object).finish();
            let message = Messages(bytes).nth(1).unwrap();
            prop_assert_eq!(parse_object(message.payload), Some(object.clone()));
            prop_assert!(object.is(&object));
        }

        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_object(&bytes);
        }
    }

    #[test]
    fn what_the_kernel_fills_up_is_no_difference() {
        let policy = |seconds: &[(u16, u32)]| {
            let seconds = seconds.iter().copied().collect();
            Object { name: "p".to_owned(), held: Held::Timeouts(Policy { family: Family::V4, protocol: 6, seconds }) }
        };
        assert!(policy(&[(1, 5), (3, 60)]).is(&policy(&[(3, 60)])));
        assert!(!policy(&[(1, 5), (3, 61)]).is(&policy(&[(3, 60)])));
        assert!(!policy(&[(1, 5)]).is(&policy(&[(3, 60)])));
        assert!(!policy(&[(1, 5)]).is(&Object::counter("p".to_owned())));
    }
}
