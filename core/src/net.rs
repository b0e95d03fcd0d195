//! Addresses and prefixes that cannot be malformed.
//!
//! An [`Addr`] is never an IPv4 address hidden in an IPv6 one (RFC 4291 2.5.5.2): making one
//! unmaps it, so `::ffff:192.0.2.7` and `192.0.2.7` are the same attacker. A [`Prefix`] never has
//! host bits set: making one masks it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4: 32 bits.
    V4,
    /// IPv6: 128 bits.
    V6,
}

impl Family {
    /// How many bits an address of this family has: 32 or 128.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// One address, IPv4-mapped IPv6 unmapped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "IpAddr", into = "IpAddr")]
pub struct Addr(IpAddr);

impl Addr {
    /// 0.0.0.0.
    pub const UNSPECIFIED: Self = Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    /// The family the address belongs to after unmapping.
    pub const fn family(self) -> Family {
        match self.0 {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The address as the standard library knows it; never an IPv4-mapped one.
    pub const fn ip(self) -> IpAddr {
        self.0
    }

    /// The address in the upper bits' order as an integer; an IPv4 address fills the low 32 bits.
    const fn bits(self) -> u128 {
        match self.0 {
            IpAddr::V4(a) => a.to_bits() as u128,
            IpAddr::V6(a) => a.to_bits(),
        }
    }

    fn from_bits(family: Family, bits: u128) -> Self {
        match family {
            #[expect(clippy::cast_possible_truncation, reason = "an IPv4 address fills the low 32 bits only")]
            Family::V4 => Self(IpAddr::V4(Ipv4Addr::from_bits(bits as u32))),
            Family::V6 => Self(IpAddr::V6(Ipv6Addr::from_bits(bits))),
        }
    }

    /// The bytes as they stand in a packet: 4 or 16.
    pub fn octets(self) -> Octets {
        let mut bytes = [0; 16];
        let len = match self.0 {
            IpAddr::V4(a) => {
                bytes[..4].copy_from_slice(&a.octets());
                4
            }
            IpAddr::V6(a) => {
                bytes = a.octets();
                16
            }
        };
        Octets { bytes, len }
    }

    /// Reads 4 or 16 packet bytes; any other length is no address.
    pub fn from_octets(bytes: &[u8]) -> Option<Self> {
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            return Some(Self(IpAddr::V4(v4.into())));
        }
        let v6 = <[u8; 16]>::try_from(bytes).ok()?;
        Some(Self::from(IpAddr::V6(v6.into())))
    }
}

/// The packet bytes of an [`Addr`], without an allocation.
#[derive(Clone, Copy)]
pub struct Octets {
    bytes: [u8; 16],
    len: usize,
}

impl std::ops::Deref for Octets {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(ip: Ipv4Addr) -> Self {
        Self(IpAddr::V4(ip))
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(ip: Ipv6Addr) -> Self {
        Self::from(IpAddr::V6(ip))
    }
}

impl From<Addr> for IpAddr {
    fn from(addr: Addr) -> Self {
        addr.0
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is no address or prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// The address part did not parse. Leading zeros (`010.0.0.1`) and zone ids are refused, not guessed at.
    #[error("`{0}` is not an IPv4 or IPv6 address")]
    Address(String),
    /// The length part is no number or too large for the family.
    #[error("`{text}`: a prefix length of {family:?} is 0 to {}", family.bits())]
    Length {
        /// What was given.
        text: String,
        /// The family of the address before the slash.
        family: Family,
    },
}

impl FromStr for Addr {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        text.parse::<IpAddr>().map(Self::from).map_err(|_| NetError::Address(text.to_owned()))
    }
}

/// An address prefix, masked: no host bits are ever set.
///
/// Ordered by family, then address, then length, so that a covering prefix sorts directly before
/// what it covers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    addr: Addr,
    len: u8,
}

impl Prefix {
    /// Masks `addr` to `len` bits. `None` where `len` is more than the family has.
    pub fn new(addr: Addr, len: u8) -> Option<Self> {
        let family = addr.family();
        (len <= family.bits()).then(|| Self { addr: Addr::from_bits(family, addr.bits() & mask(family, len)), len })
    }

    /// The prefix that is just this address: /32 or /128.
    pub const fn host(addr: Addr) -> Self {
        Self { addr, len: addr.family().bits() }
    }

    /// The first address, which is also the prefix's name.
    pub const fn addr(&self) -> Addr {
        self.addr
    }

    /// How many leading bits are fixed.
    #[expect(clippy::len_without_is_empty, reason = "the field's word for a prefix's length; no container")]
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// The family of its addresses.
    pub const fn family(&self) -> Family {
        self.addr.family()
    }

    /// Whether it is one single address.
    pub const fn is_host(&self) -> bool {
        self.len == self.family().bits()
    }

    /// The last address in it.
    pub fn last(&self) -> Addr {
        let family = self.family();
        let all = mask(family, family.bits());
        Addr::from_bits(family, self.addr.bits() | (all & !mask(family, self.len)))
    }

    /// Whether the address lies in it. Addresses of the other family never do.
    pub fn contains(&self, addr: Addr) -> bool {
        self.covers(&Self::host(addr))
    }

    /// Whether all of `other` lies in it; a prefix covers itself.
    pub fn covers(&self, other: &Self) -> bool {
        self.family() == other.family() && self.len <= other.len && other.addr.bits() & mask(self.family(), self.len) == self.addr.bits()
    }

    /// Whether the two share an address: one of them covers the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// This prefix cut to at most `len` bits; one that is already wider stays as it is.
    pub fn widen(&self, len: u8) -> Self {
        let len = len.min(self.len);
        Self { addr: Addr::from_bits(self.family(), self.addr.bits() & mask(self.family(), len)), len }
    }

    /// The netmask's packet bytes, as many as the address has.
    pub fn netmask(&self) -> Octets {
        Addr::from_bits(self.family(), mask(self.family(), self.len)).octets()
    }
}

/// The mask of a family's first `len` bits, in the family's own low bits.
const fn mask(family: Family, len: u8) -> u128 {
    let bits = family.bits();
    let all = u128::MAX >> (128 - bits as u32);
    if len == 0 { 0 } else { all & (all << (bits - len)) }
}

impl From<Addr> for Prefix {
    fn from(addr: Addr) -> Self {
        Self::host(addr)
    }
}

/// The fewest prefixes that hold exactly the addresses from `first` to `last`, in order: at most 62 of
/// IPv4, 254 of IPv6. `None` where they are of two families or the wrong way round.
pub fn range(first: Addr, last: Addr) -> Option<impl Iterator<Item = Prefix>> {
    let family = first.family();
    if family != last.family() || first > last {
        return None;
    }
    let (mut at, end) = (Some(first.bits()), last.bits());
    Some(std::iter::from_fn(move || {
        let start = at.filter(|start| *start <= end)?;
        // As wide as the start's own zeros allow, then as the end does.
        let mut host = start.trailing_zeros().min(u32::from(family.bits()));
        while host > 0 && start | (u128::MAX >> (128 - host)) > end {
            host -= 1;
        }
        at = 1u128.checked_shl(host).and_then(|size| start.checked_add(size));
        #[expect(clippy::cast_possible_truncation, reason = "at most 128")]
        let len = family.bits() - host as u8;
        Some(Prefix { addr: Addr::from_bits(family, start), len })
    }))
}

impl FromStr for Prefix {
    type Err = NetError;

    /// Reads `ADDR` or `ADDR/LEN` and masks it. `::ffff:192.0.2.0/120` is the IPv4 prefix /24.
    fn from_str(text: &str) -> Result<Self, NetError> {
        let Some((addr_text, len_text)) = text.split_once('/') else {
            return text.parse().map(Self::host);
        };
        let ip: IpAddr = addr_text.parse().map_err(|_| NetError::Address(text.to_owned()))?;
        let addr = Addr::from(ip);
        let bad = || NetError::Length { text: text.to_owned(), family: addr.family() };
        if len_text.len() > 3 || !len_text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let typed: u8 = len_text.parse().map_err(|_| bad())?;
        let mapped = ip.is_ipv6() && addr.family() == Family::V4;
        let len = if mapped { typed.checked_sub(96).ok_or_else(bad)? } else { typed };
        Self::new(addr, len).ok_or_else(bad)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn p(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn mapped_addresses_are_the_ipv4_address() {
        assert_eq!("::ffff:192.0.2.7".parse::<Addr>().unwrap(), "192.0.2.7".parse().unwrap());
        assert_eq!(p("::ffff:192.0.2.7/120"), p("192.0.2.0/24"));
        assert!("::ffff:192.0.2.7/64".parse::<Prefix>().is_err());
    }

    #[test]
    fn host_bits_are_masked_and_text_is_strict() {
        assert_eq!(p("203.0.113.77/24").to_string(), "203.0.113.0/24");
        assert_eq!(p("2001:db8:1:2:3::9/64").to_string(), "2001:db8:1:2::/64");
        assert_eq!(p("0.0.0.0/0").last().to_string(), "255.255.255.255");
        assert_eq!(p("2001:db8::/32").netmask()[..5], [255, 255, 255, 255, 0]);
        for wrong in ["010.0.0.1", "192.0.2.1/33", "192.0.2.1/", "192.0.2.1/+3", "fe80::1%eth0", "192.0.2.1:22", "", "/8", "::/129"] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cover_sorts_before_what_it_covers() {
        let mut all = vec![p("203.0.113.7/32"), p("203.0.113.0/24"), p("203.0.113.0/32"), p("198.51.100.0/24")];
        all.sort();
        assert_eq!(all, [p("198.51.100.0/24"), p("203.0.113.0/24"), p("203.0.113.0/32"), p("203.0.113.7/32")]);
    }

    #[test]
    fn ranges_become_prefixes() {
        let of = |first: &str, last: &str| -> Option<Vec<String>> {
            Some(range(first.parse().unwrap(), last.parse().unwrap())?.map(|p| p.to_string()).collect())
        };
        assert_eq!(of("192.0.2.0", "192.0.2.255").unwrap(), ["192.0.2.0/24"]);
        assert_eq!(of("192.0.2.1", "192.0.2.4").unwrap(), ["192.0.2.1/32", "192.0.2.2/31", "192.0.2.4/32"]);
        assert_eq!(of("0.0.0.0", "255.255.255.255").unwrap(), ["0.0.0.0/0"]);
        assert_eq!(of("0.0.0.1", "255.255.255.254").unwrap().len(), 62);
        assert_eq!(of("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").unwrap(), ["::/0"]);
        assert_eq!(of("255.255.255.255", "255.255.255.255").unwrap(), ["255.255.255.255/32"]);
        assert_eq!((of("192.0.2.2", "192.0.2.1"), of("192.0.2.2", "2001:db8::")), (None, None));
    }

    proptest! {
        #[test]
        fn a_range_is_covered_without_gap_or_overlap(a: u128, b: u128) {
            let (first, last) = (Addr::from(Ipv6Addr::from_bits(a.min(b))), Addr::from(Ipv6Addr::from_bits(a.max(b))));
            prop_assume!(first.family() == last.family());
            let all: Vec<Prefix> = range(first, last).unwrap().collect();
            prop_assert!(all.len() <= 254 && all[0].addr() == first && all.last().unwrap().last() == last);
            prop_assert!(all.windows(2).all(|two| two[0].last().bits() + 1 == two[1].addr().bits()));
        }

        #[test]
        fn prefix_algebra(bits: u128, len in 0u8..=128, other: u128) {
            let addr = Addr::from(Ipv6Addr::from_bits(bits));
            let prefix = Prefix::new(addr, len.min(addr.family().bits())).unwrap();
            prop_assert!(prefix.contains(addr) && prefix.contains(prefix.last()));
            prop_assert!(prefix.widen(prefix.len() / 2).covers(&prefix));
            prop_assert_eq!(prefix.to_string().parse::<Prefix>().unwrap(), prefix);
            let other = Addr::from(Ipv6Addr::from_bits(other));
            prop_assert_eq!(prefix.contains(other), prefix.addr() <= other && other <= prefix.last() && other.family() == prefix.family());
        }
    }
}
