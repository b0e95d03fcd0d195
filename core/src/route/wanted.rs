//! What should stand, and what keeps some of it from standing now.
//!
//! | file | what it holds |
//! |---|---|
//! | [`layout`] | which priority and which mark each uplink and rule has |
//! | `way` | one uplink on this host: its sources, its next hop, why it has none |
//! | `rules`, `ways` | the rules; the routes, marks and switches |

use std::collections::BTreeMap;
use std::sync::Arc;

use super::routes::Route;
use super::rule::Rule;
use super::spec::{Guard, Member, Spec, Uplink};
use super::words::{Mark, Mask};
use super::world::{Address, Link, World};
use crate::net::{Addr, Family, Prefix};

pub mod layout;
mod rules;
pub(super) mod way;
mod ways;

#[cfg(test)]
pub(crate) mod made;
#[cfg(test)]
mod tests;

pub use layout::{connection_mark, priorities_needed, probe_mark, twin, unmarkable};

/// How an uplink is, as its probes and its link say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers; or nobody asks it and its link is up.
    Up,
    /// It does not.
    Down,
}

/// Which uplinks are how, by name. One that is not in it counts by its link alone.
pub type Healths = BTreeMap<Arc<str>, Health>;

/// What should stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Our rules, ascending.
    pub rules: Vec<Rule>,
    /// Our routes that can stand now.
    pub routes: Vec<Route>,
    /// Our nftables table, if one is needed.
    pub marks: Option<Marks>,
    /// Switches of the kernel.
    pub sysctls: Vec<Sysctl>,
    /// What is declared but cannot stand now.
    pub pending: Vec<Pending>,
}

/// Something declared that cannot stand yet. No error: it stands once the reason is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Whose.
    pub uplink: Arc<str>,
    /// Of which family, if of one.
    pub family: Option<Family>,
    /// What would stand: `default dev sixxs0 table sixxs0 proto palisade`; none where it stands but is of no use yet.
    pub route: Option<String>,
    /// Why not: `interface absent`.
    pub why: String,
}

/// What our nftables table holds: connection marks and leak counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The bits that are ours.
    pub mask: Mask,
    /// Each uplink that needs any of it.
    pub uplinks: Vec<Marked>,
}

/// One uplink of [`Marks`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Its name: the counter is called after it.
    pub name: Arc<str>,
    /// Its interface.
    pub interface: String,
    /// What connections that came in or went out by it are marked with, so that they stay; none: they are not marked.
    pub connection: Option<Mark>,
    /// Packets from there that leave by another interface than this one (and not by the loopback) are leaks.
    pub sources: Vec<Prefix>,
    /// What is done about leaks.
    pub guard: Guard,
}

/// A switch below /proc/sys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl {
    /// `net/ipv4/conf/all/src_valid_mark`
    pub path: String,
    /// What it should hold.
    pub value: String,
}

/// Which uplinks each policy has chosen, by the policy's name.
pub type Chosen = BTreeMap<Arc<str>, Vec<Member>>;

/// The health of every uplink: its link must work, and its probes (if it has any) must not say that it is down.
pub fn healths(spec: &Spec, world: &World, probes: &Healths) -> Healths {
    let of = |name: &Arc<str>, interface: &str| {
        let works = world.link(interface).is_some_and(Link::works);
        let up = works && probes.get(name) != Some(&Health::Down);
        (Arc::clone(name), if up { Health::Up } else { Health::Down })
    };
    spec.uplinks.iter().map(|uplink| of(&uplink.name, &uplink.interface)).collect()
}

/// Who leaves by an uplink now: its declared sources and subnets, or the addresses that `source = "auto"` follows.
pub fn sources(uplink: &Uplink, world: &World) -> Vec<Prefix> {
    let way = way::Way::of(uplink, world);
    way.families().flat_map(|family| way.sources(family)).collect()
}

/// The address that what it asks a target of this family has: stable ones first.
pub fn source_of(uplink: &Uplink, world: &World, family: Family) -> Option<Addr> {
    let link = world.link(&uplink.interface)?;
    let sources = sources(uplink, world);
    let good = |address: &&Address| {
        address.usable() && address.addr.family() == family && sources.iter().any(|source| source.contains(address.addr))
    };
    let mut all: Vec<_> = world.addresses_of(link.index).filter(good).collect();
    // Stable ones first: a privacy address is another one tomorrow.
    all.sort_by_key(|address| (address.temporary, address.deprecated));
    all.first().map(|address| address.addr)
}

/// What should stand on this host, as it is now.
///
/// Rules depend on the spec alone (and on `when` and on the addresses that `source = "auto"` follows): they stand before
/// their interfaces do. Routes stand as soon as the kernel would take them; until then they are pending.
pub fn wanted(spec: &Spec, world: &World, probes: &Healths, chosen: &Chosen) -> Wanted {
    let healths = healths(spec, world, probes);
    let ways: Vec<way::Way<'_>> = spec.uplinks.iter().map(|uplink| way::Way::of(uplink, world)).collect();
    let mut wanted = Wanted { rules: rules::rules(spec, world, &ways, &healths), ..Wanted::default() };
    ways::uplinks(spec, world, &ways, &mut wanted);
    ways::policies(spec, world, &ways, &healths, chosen, &mut wanted);
    wanted.marks = ways::marks(spec, &ways);
    wanted.sysctls = ways::sysctls(spec, world);
    wanted
}
