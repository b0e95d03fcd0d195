//! Where a 6in4 or GRE tunnel begins and ends, as its `IFLA_INFO_DATA` says it.
//!
//! ```text
//!             sit (IFLA_IPTUN_*)   gre (IFLA_GRE_*)
//!  local              2                   6          4 bytes; 0.0.0.0 leaves it open
//!  remote             3                   7          4 bytes; 0.0.0.0 of what is no point-to-point tunnel
//!  ttl                4                   8          u8; 0 takes the inner packet's
//!  proto              9                   -          u8; 41: IPv6 within, and nothing else
//!  pmtudisc          10                  10          u8; 1: outer packets are not to be fragmented
//! ```
//! A change that leaves an attribute out sets it back to nothing: whatever the interface has is sent along.
//! Source: linux/if_tunnel.h; RFC 4213 for the 41.

use std::net::{IpAddr, Ipv4Addr};

use palisade_core::net::Addr;
use palisade_core::route::tunnels::LinkKind;

use crate::netlink::wire::{Attrs, Builder};

/// `IPPROTO_IPV6`.
const IPV6: u8 = 41;
const IPTUN_PROTO: u16 = 9;

/// How a kind of tunnel says it.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// `IFLA_INFO_KIND`, which is what `ip link` calls it too.
    pub kind: &'static str,
    local: u16,
    remote: u16,
    ttl: u16,
    pmtudisc: u16,
    proto: Option<u16>,
}

const SIT: Dialect = Dialect { kind: "sit", local: 2, remote: 3, ttl: 4, pmtudisc: 10, proto: Some(IPTUN_PROTO) };
const GRE: Dialect = Dialect { kind: "gre", local: 6, remote: 7, ttl: 8, pmtudisc: 10, proto: None };

/// The two ends of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Ours; none is left open.
    pub local: Option<Addr>,
    /// The far one.
    pub remote: Option<Addr>,
    /// Hop limit of the outer packets.
    pub ttl: u8,
}

impl Dialect {
    /// Of what is declared.
    pub const fn of(kind: LinkKind) -> Self {
        match kind {
            LinkKind::Sit => SIT,
            LinkKind::Gre => GRE,
        }
    }

    /// Of what is found; none of other kinds of interface.
    pub fn named(kind: &str) -> Option<Self> {
        [SIT, GRE].into_iter().find(|dialect| dialect.kind == kind)
    }

    /// Reads the ends.
    pub fn read(self, data: &[u8]) -> Ends {
        let attrs = Attrs(data);
        let end = |kind| attrs.find(kind).and_then(|attr| open(attr.payload));
        let ttl = attrs.find(self.ttl).and_then(|attr| attr.payload.first().copied()).unwrap_or_default();
        Ends { local: end(self.local), remote: end(self.remote), ttl }
    }

    /// Writes a new tunnel.
    pub fn write(self, out: &mut Builder, local: Ipv4Addr, remote: Ipv4Addr, ttl: u8) {
        out.attr(self.local, &local.octets()).attr(self.remote, &remote.octets()).attr(self.ttl, &[ttl]).attr(self.pmtudisc, &[1]);
        if let Some(proto) = self.proto {
            out.attr(proto, &[IPV6]);
        }
    }

    /// Writes what was found, with another near end and hop limit.
    pub fn rewrite(self, out: &mut Builder, found: &[u8], local: Ipv4Addr, ttl: u8) {
        for attr in Attrs(found).filter(|attr| attr.kind != self.local && attr.kind != self.ttl) {
            out.attr(attr.kind, attr.payload);
        }
        out.attr(self.local, &local.octets()).attr(self.ttl, &[ttl]);
    }
}

/// An end that says something.
fn open(payload: &[u8]) -> Option<Addr> {
    let four = <[u8; 4]>::try_from(payload).ok()?;
    (four != [0; 4]).then(|| Addr::from(IpAddr::from(four)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::wire::{HEADER, Messages};
    use proptest::prelude::*;

    const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

    fn addr(v4: Ipv4Addr) -> Addr {
        Addr::from(IpAddr::V4(v4))
    }

    fn written(write: impl FnOnce(&mut Builder)) -> Vec<u8> {
        let mut out = Builder::new();
        write(out.message(0, 0, 0, &[]));
        out.bytes()[HEADER..].to_vec()
    }

    #[test]
    fn a_sit_tunnel_is_the_bytes_of_if_tunnel_h() {
        let bytes = written(|out| SIT.write(out, NEAR, FAR, 64));
        let attrs: Vec<_> = Attrs(&bytes).map(|attr| (attr.kind, attr.payload.to_vec())).collect();
        let wanted = [(2, vec![192, 0, 2, 1]), (3, vec![198, 51, 100, 9]), (4, vec![64]), (10, vec![1]), (9, vec![41])];
        assert_eq!(attrs, wanted);
    }

    #[test]
    fn what_is_written_is_read_and_an_end_of_zeros_is_none() {
        for dialect in [SIT, GRE] {
            let bytes = written(|out| dialect.write(out, NEAR, FAR, 7));
            assert_eq!(dialect.read(&bytes), Ends { local: Some(addr(NEAR)), remote: Some(addr(FAR)), ttl: 7 });
            let bytes = written(|out| dialect.write(out, Ipv4Addr::UNSPECIFIED, FAR, 7));
            assert_eq!(dialect.read(&bytes).local, None);
        }
    }

    #[test]
    fn a_new_near_end_changes_nothing_else() {
        /// `IFLA_GRE_IKEY`.
        const IKEY: u16 = 4;
        let found = written(|out| {
            GRE.write(out.attr(IKEY, &[0, 0, 0, 5]), NEAR, FAR, 64);
        });
        let moved = Ipv4Addr::new(192, 0, 2, 77);
        let changed = written(|out| GRE.rewrite(out, &found, moved, 64));
        assert_eq!(GRE.read(&changed), Ends { local: Some(addr(moved)), remote: Some(addr(FAR)), ttl: 64 });
        let kinds = |bytes: &[u8]| {
            let mut kinds: Vec<u16> = Attrs(bytes).map(|attr| attr.kind).collect();
            kinds.sort_unstable();
            kinds
        };
        assert_eq!(kinds(&changed), kinds(&found), "nothing is left out, nothing said twice");
        assert_eq!(Attrs(&changed).find(IKEY).map(|attr| attr.payload), Some(&[0, 0, 0, 5][..]));
    }

    proptest! {
        #[test]
        fn reading_and_rewriting_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            for dialect in [SIT, GRE] {
                let _ = dialect.read(&bytes);
                let mut out = Builder::new();
                dialect.rewrite(out.message(0, 0, 0, &[]), &bytes, NEAR, 1);
                prop_assert_eq!(Messages(out.bytes()).count(), 1);
            }
        }
    }
}
