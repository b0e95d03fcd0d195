//! One route (`ip route`).

use std::fmt::Write;

use super::words::{Names, Protocol, TableId};
use crate::net::{Addr, Family, Prefix};

/// What becomes of a packet that the route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It goes to one of the next hops.
    Unicast,
    /// Dropped, and the sender is told that the host is unreachable.
    Unreachable,
    /// Dropped, silently.
    Blackhole,
    /// Dropped, and the sender is told that it is forbidden.
    Prohibit,
    /// The lookup goes on with the next rule.
    Throw,
    /// Any other: local, broadcast, multicast, ..., by its number in linux/rtnetlink.h.
    Other(u8),
}

/// One way on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// The interface's index.
    pub link: u32,
    /// Whom to hand it to; none on a point-to-point link.
    pub gateway: Option<Addr>,
    /// The gateway is on the link whatever the other routes say (`onlink`).
    pub onlink: bool,
    /// Its share among several, from 1.
    pub weight: u16,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Where it stands.
    pub table: TableId,
    /// For whom; length 0 is the default route.
    pub to: Prefix,
    /// Only for packets from there (IPv6, `CONFIG_IPV6_SUBTREES`). Never ours.
    pub from: Option<Prefix>,
    /// Smaller is better. As the kernel keeps it: IPv6's 0 is 1024.
    pub metric: u32,
    /// Type of service; 0 is none.
    pub tos: u8,
    /// What becomes of the packet.
    pub kind: Kind,
    /// The ways on, at least one of a unicast route, none of others.
    pub hops: Vec<Hop>,
    /// The source of what this host sends by it.
    pub prefsrc: Option<Addr>,
    /// Who made it.
    pub protocol: Protocol,
}

/// The last metric there is: whatever else stands in the table comes first.
pub const LAST: u32 = u32::MAX;

impl Route {
    /// Whether it is a default route.
    pub const fn is_default(&self) -> bool {
        self.to.len() == 0
    }

    /// Of which family.
    pub const fn family(&self) -> Family {
        self.to.family()
    }

    /// As `ip route` writes it: `unreachable default table sixxs0 metric 4294967295 proto palisade`.
    /// `links` tells an interface's name.
    pub fn text<'a>(&self, names: &Names, links: impl Fn(u32) -> Option<&'a str>) -> String {
        let link = |index: u32| links(index).map_or_else(|| format!("if{index}"), str::to_owned);
        let mut out = String::new();
        let kind = match self.kind {
            Kind::Unicast => "",
            Kind::Unreachable => "unreachable ",
            Kind::Blackhole => "blackhole ",
            Kind::Prohibit => "prohibit ",
            Kind::Throw => "throw ",
            Kind::Other(2) => "local ",
            Kind::Other(3) => "broadcast ",
            Kind::Other(4) => "anycast ",
            Kind::Other(5) => "multicast ",
            Kind::Other(_) => "other ",
        };
        out.push_str(kind);
        if self.is_default() {
            out.push_str("default");
        } else if self.to.is_host() {
            let _ = write!(out, "{}", self.to.addr());
        } else {
            let _ = write!(out, "{}", self.to);
        }
        if let Some(from) = &self.from {
            let _ = write!(out, " from {from}");
        }
        let several = self.hops.len() > 1;
        let hop = |out: &mut String, hop: &Hop| {
            if let Some(gateway) = hop.gateway {
                let _ = write!(out, " via {gateway}");
            }
            let _ = write!(out, " dev {}", link(hop.link));
            if hop.onlink {
                out.push_str(" onlink");
            }
        };
        if let [only] = self.hops.as_slice() {
            hop(&mut out, only);
        }
        let _ = write!(out, " table {}", names.of(self.table));
        let usual = if self.family() == Family::V6 { 1024 } else { 0 };
        if self.metric != usual {
            let _ = write!(out, " metric {}", self.metric);
        }
        let _ = write!(out, " proto {}", self.protocol);
        if let Some(source) = self.prefsrc {
            let _ = write!(out, " src {source}");
        }
        if several {
            for one in &self.hops {
                out.push_str(" nexthop");
                hop(&mut out, one);
                let _ = write!(out, " weight {}", one.weight);
            }
        }
        out
    }
}
