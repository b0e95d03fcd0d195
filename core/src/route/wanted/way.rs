//! One uplink on this host: its families, its sources, its next hop or why it has none.

use super::super::routes::{Hop, Kind, Route};
use super::super::spec::{Gateway, Sources, Uplink};
use super::super::words::{Names, Protocol, TableId};
use super::super::world::{Address, Link, World};
use crate::net::{Addr, Family, Prefix};

/// `RTPROT_BOOT`: what `ip route add` and dhclient leave.
const BOOT: Protocol = Protocol(3);

/// The default route's prefix.
pub(in super::super) fn everywhere(family: Family) -> Prefix {
    match family {
        Family::V4 => Prefix::host(Addr::UNSPECIFIED).widen(0),
        Family::V6 => Prefix::host(Addr::from(std::net::Ipv6Addr::UNSPECIFIED)).widen(0),
    }
}

/// The metric of a route that names none, as the kernel keeps it.
pub(in super::super) const fn usual_metric(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => 1024,
    }
}

/// One uplink as it is now.
pub(in super::super) struct Way<'a> {
    pub(in super::super) uplink: &'a Uplink,
    world: &'a World,
    link: Option<&'a Link>,
}

impl<'a> Way<'a> {
    pub(in super::super) fn of(uplink: &'a Uplink, world: &'a World) -> Self {
        Self { uplink, world, link: world.link(&uplink.interface) }
    }

    const fn gateway(&self, family: Family) -> Gateway {
        match family {
            Family::V4 => self.uplink.gateway4,
            Family::V6 => self.uplink.gateway6,
        }
    }

    fn fixed(&self) -> &'a [Prefix] {
        match &self.uplink.source {
            Sources::Auto => &[],
            Sources::Fixed(prefixes) => prefixes,
        }
    }

    /// Whether the uplink is for that family: it has a source or a network of it, or a next hop for it is declared. A
    /// point-to-point link alone says nothing of families, unless its addresses are followed.
    pub(in super::super) fn uses(&self, family: Family) -> bool {
        let named = self.fixed().iter().chain(&self.uplink.subnets).any(|prefix| prefix.family() == family);
        named
            || match self.gateway(family) {
                Gateway::Unused => false,
                Gateway::None => self.uplink.source == Sources::Auto,
                Gateway::Addr(_) | Gateway::Dhcp | Gateway::Ra => true,
            }
    }

    /// The families it is for that this kernel has.
    pub(in super::super) fn families(&self) -> impl Iterator<Item = Family> {
        [Family::V4, Family::V6].into_iter().filter(|family| self.uses(*family) && self.world.has(*family))
    }

    /// Whose packets are its own, sorted.
    pub(in super::super) fn sources(&self, family: Family) -> Vec<Prefix> {
        let own = self.fixed().iter().chain(&self.uplink.subnets).copied();
        let mut all: Vec<Prefix> = own.chain(self.followed().map(|address| Prefix::host(address.addr))).collect();
        all.retain(|prefix| prefix.family() == family && prefix.len() > 0);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The addresses that `source = "auto"` follows: also tentative ones, for their rule is there when they can be used, and
    /// deprecated ones, for connections live on them.
    fn followed(&self) -> impl Iterator<Item = &'a Address> + use<'a> {
        let link = self.link.filter(|_| self.uplink.source == Sources::Auto).map(|link| link.index);
        self.world.addresses.iter().filter(move |address| Some(address.link) == link && address.global && !address.dad_failed)
    }

    /// Why nothing can leave by its link now.
    pub(in super::super) fn obstacle(&self) -> Option<&'static str> {
        match self.link {
            None => Some("interface absent"),
            Some(link) if !link.up => Some("interface down"),
            Some(link) if !link.carrier => Some("no carrier"),
            Some(_) => None,
        }
    }

    /// Its way out, or why it has none now.
    pub(in super::super) fn hop(&self, family: Family) -> Result<Hop, String> {
        let (None, Some(link)) = (self.obstacle(), self.link) else {
            return Err(self.obstacle().unwrap_or("interface absent").to_owned());
        };
        let hop = |gateway, onlink| Hop { link: link.index, gateway, onlink, weight: 1 };
        let found = match self.gateway(family) {
            Gateway::None => return Ok(hop(None, false)),
            Gateway::Unused => return Err(format!("no gateway{} is declared", digit(family))),
            Gateway::Addr(gateway) => hop(Some(gateway), false),
            Gateway::Dhcp => self.learned(family, &[Protocol::DHCP, Protocol::STATIC, BOOT], "DHCP")?,
            Gateway::Ra => self.learned(family, &[Protocol::RA, Protocol::KERNEL], "a router advertisement")?,
        };
        match found.gateway {
            Some(gateway) if !found.onlink => self.reachable(link, gateway).map(|()| found),
            _ => Ok(found),
        }
    }

    /// The next hop of main's best default route by this interface that one of these made.
    fn learned(&self, family: Family, by: &[Protocol], who: &str) -> Result<Hop, String> {
        let index = self.link.map(|link| link.index);
        let defaults = self.world.routes.iter().filter(|route| {
            route.table == TableId::MAIN
                && route.is_default()
                && route.family() == family
                && route.from.is_none()
                && route.kind == Kind::Unicast
                && by.contains(&route.protocol)
        });
        let hops = defaults.flat_map(|route| route.hops.iter().map(move |hop| (route.metric, hop)));
        let best = hops.filter(|(_, hop)| Some(hop.link) == index).min_by_key(|(metric, _)| *metric);
        let unknown = || format!("gateway unknown: main has no default route by {} from {who} yet", self.uplink.interface);
        best.map(|(_, hop)| Hop { weight: 1, ..hop.clone() }).ok_or_else(unknown)
    }

    /// Whether the kernel would find the gateway on the link.
    fn reachable(&self, link: &Link, gateway: Addr) -> Result<(), String> {
        if self.world.addresses.iter().any(|address| address.addr == gateway) {
            return Err(format!("gateway {gateway} is an address of this host"));
        }
        let near = self.world.addresses_of(link.index).any(|address| address.network.contains(gateway));
        let routed = self.world.routes.iter().any(|route| {
            route.table == TableId::MAIN
                && route.to.len() > 0
                && route.to.contains(gateway)
                && route.hops.iter().any(|hop| hop.link == link.index && hop.gateway.is_none())
        });
        let off = || format!("gateway {gateway} is not on a network of {}", self.uplink.interface);
        (near || routed || is_link_local(gateway)).then_some(()).ok_or_else(off)
    }

    /// The source of what leaves by its default route without one: its only address wherever on this host it is, or the
    /// first of several on the interface. Only one that the kernel would take.
    pub(in super::super) fn prefsrc(&self, family: Family) -> Option<Addr> {
        let index = self.link.map(|link| link.index);
        if self.uplink.source == Sources::Auto {
            let usable = || self.followed().filter(|address| address.usable() && address.addr.family() == family);
            let lasting = usable().find(|address| !address.deprecated && !address.temporary);
            return lasting.or_else(|| usable().next()).map(|address| address.addr);
        }
        let hosts: Vec<Addr> =
            self.fixed().iter().filter(|prefix| prefix.is_host() && prefix.family() == family).map(Prefix::addr).collect();
        let only = hosts.len() == 1;
        let there = |addr: &Addr| {
            let mut all = self.world.addresses.iter().filter(|address| address.addr == *addr && address.usable());
            all.any(|address| only || Some(address.link) == index)
        };
        hosts.iter().copied().find(there)
    }

    /// What is amiss with its own addresses. Their rules stand all the same.
    pub(in super::super) fn troubles(&self, family: Family) -> Vec<String> {
        let mut troubles: Vec<String> = Vec::new();
        for source in self.fixed().iter().filter(|prefix| prefix.is_host() && prefix.family() == family).map(Prefix::addr) {
            let there: Vec<&Address> = self.world.addresses.iter().filter(|address| address.addr == source).collect();
            let trouble = match there.first() {
                None => Some(format!("source {source} is not on this host")),
                Some(_) if there.iter().any(|address| address.usable()) => None,
                Some(first) => Some(awaited(first)),
            };
            troubles.extend(trouble);
        }
        let unusable = self.followed().filter(|address| !address.usable() && address.addr.family() == family);
        troubles.extend(unusable.map(awaited));
        troubles
    }

    /// Its default route in a table, by that hop.
    pub(in super::super) fn default_route(&self, family: Family, table: TableId, hop: Hop, protocol: Protocol) -> Route {
        let prefsrc = self.prefsrc(family);
        let (to, metric) = (everywhere(family), usual_metric(family));
        Route { table, to, from: None, metric, tos: 0, kind: Kind::Unicast, hops: vec![hop], prefsrc, protocol }
    }

    /// What its default route will look like, as far as it is known.
    pub(in super::super) fn future(&self, family: Family, table: TableId, names: &Names, protocol: Protocol) -> String {
        let gateway = match self.gateway(family) {
            Gateway::Addr(gateway) => Some(gateway),
            _ => None,
        };
        let hop = Hop { link: self.link.map_or(0, |link| link.index), gateway, onlink: false, weight: 1 };
        self.default_route(family, table, hop, protocol).text(names, |_| Some(&self.uplink.interface))
    }
}

fn awaited(address: &Address) -> String {
    let source = address.addr;
    if address.dad_failed { format!("source {source}: duplicate address detected") } else { format!("source {source} is tentative") }
}

const fn digit(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

/// fe80::/10 (RFC 4291 2.5.6): on every link.
fn is_link_local(addr: Addr) -> bool {
    matches!(addr.ip(), std::net::IpAddr::V6(v6) if v6.is_unicast_link_local())
}
