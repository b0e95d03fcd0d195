//! What should stand, and what keeps some of it from standing now.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::routes::Route;
use super::rule::Rule;
use super::spec::Guard;
use super::words::{Mark, Mask};
use crate::net::{Family, Prefix};

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
    /// Every uplink of the host, those of table main too: what leaves by the interface of one may be a leak of another.
    /// One that needs nothing else has no mark, no sources and [`Guard::Off`].
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
    /// Packets from there that leave by the interface of another uplink of these are leaks.
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
