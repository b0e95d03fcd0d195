//! The host at one moment: links, addresses, rules, routes.

use std::collections::BTreeMap;

use super::routes::Route;
use super::rule::Rule;
use crate::net::{Addr, Family, Prefix};

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, another one each time it is made.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Switched on (`IFF_UP`).
    pub up: bool,
    /// Something at the other end (`IFF_LOWER_UP`). Tunnels never say `UP` in operstate; this they do say.
    pub carrier: bool,
    /// What it is: `sit`, `wireguard`, `tun`, ...; none of hardware.
    pub kind: Option<String>,
}

impl Link {
    /// Whether packets can leave by it.
    pub const fn works(&self) -> bool {
        self.up && self.carrier
    }
}

/// One address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The interface's index.
    pub link: u32,
    /// The address itself.
    pub addr: Addr,
    /// The network that it says is on the link.
    pub network: Prefix,
    /// Good beyond the link (`RT_SCOPE_UNIVERSE`).
    pub global: bool,
    /// Not known yet to be nobody else's: it cannot be used.
    pub tentative: bool,
    /// Somebody else has it: it never can be.
    pub dad_failed: bool,
    /// Not to be chosen any more for what is new, but still valid.
    pub deprecated: bool,
    /// A privacy address (RFC 8981).
    pub temporary: bool,
}

impl Address {
    /// Whether packets can have it as their source.
    pub const fn usable(&self) -> bool {
        !self.tentative && !self.dad_failed
    }
}

/// The host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// By index.
    pub links: BTreeMap<u32, Link>,
    /// Of all links.
    pub addresses: Vec<Address>,
    /// All rules of both families, in the kernel's order.
    pub rules: Vec<Rule>,
    /// Of the tables that were asked for.
    pub routes: Vec<Route>,
    /// Families that the kernel does not have (`ipv6.disable=1`).
    pub missing: Vec<Family>,
}

impl World {
    /// The interface of that name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The name of the interface with that index.
    pub fn name_of(&self, index: u32) -> Option<&str> {
        self.links.get(&index).map(|link| link.name.as_str())
    }

    /// The addresses of an interface.
    pub fn addresses_of(&self, link: u32) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |address| address.link == link)
    }

    /// Whether the kernel has that family.
    pub fn has(&self, family: Family) -> bool {
        !self.missing.contains(&family)
    }
}

/// What was seen to change in the kernel, by whoever's hand but ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Links or addresses changed.
    pub links: bool,
    /// Rules that somebody removed.
    pub rules: Vec<Rule>,
    /// Routes of ours are gone, or others are in our tables, and no link went with them.
    pub routes: bool,
    /// Somebody else's rules or default routes came or went.
    pub others: bool,
    /// Some of what happened was not seen.
    pub lost: bool,
}

impl Changes {
    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
