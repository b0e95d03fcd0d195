//! What the config declares of routing: `[routing]`, `[uplink.NAME]`, `[[rule]]`, `[policy.NAME]`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rule::Selector;
use super::words::{Mask, Names, Priority, Protocol, Table, TableId};
use crate::net::{Addr, Family, Prefix};
use crate::time::Span;

/// All of it. Only `config` makes one that is not empty, and what goes together is checked there: names are known, tables
/// and sources have one owner.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    /// `[routing]`.
    pub settings: Settings,
    /// By name.
    pub uplinks: Vec<Uplink>,
    /// In the order of the config.
    pub rules: Vec<FreeRule>,
    /// By name.
    pub policies: Vec<Policy>,
}

impl Spec {
    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.uplinks.is_empty() && self.rules.is_empty() && self.policies.is_empty()
    }

    /// The uplink of that name.
    pub fn uplink(&self, name: &str) -> Option<&Uplink> {
        self.uplinks.iter().find(|uplink| &*uplink.name == name)
    }

    /// The policy of that name.
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies.iter().find(|policy| &*policy.name == name)
    }

    /// The tables that are ours.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.uplinks.iter().filter_map(|uplink| uplink.table.as_ref()).chain(self.policies.iter().map(|policy| &policy.table))
    }

    /// Puts the numbers of users in the place of their names, and tells which names have none.
    pub fn resolve_users(&mut self, number: impl Fn(&str) -> Option<u32>) -> BTreeSet<String> {
        let mut unknown = BTreeSet::new();
        for rule in &mut self.rules {
            let Some(name) = &rule.user else { continue };
            match number(name) {
                Some(uid) => (rule.selector.uid, rule.user) = (Some((uid, uid)), None),
                None => _ = unknown.insert(name.to_string()),
            }
        }
        unknown
    }

    /// What they are called.
    pub fn names(&self) -> Names {
        Names(self.tables().map(|table| (table.id, Arc::clone(&table.name))).collect())
    }
}

/// `[routing]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where our rules begin.
    pub priority_base: Priority,
    /// How many priorities from there are ours.
    pub priority_range: u32,
    /// What our rules and routes carry.
    pub protocol: Protocol,
    /// Whether `ip` may learn our tables' names (rt_tables.d).
    pub table_names: bool,
    /// The bits of marks that are ours.
    pub mark_mask: Mask,
    /// Whether what the kernel's reverse path filter would drop is told or mended.
    pub rp_filter: RpFilter,
    /// Whom a change must not cut off: they are asked for within an `apply --confirm`.
    pub control_peers: Vec<Addr>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Between mwan3 (to 3250) and Tailscale (from 5210).
            priority_base: Priority(4000),
            priority_range: 1000,
            protocol: Protocol::OURS,
            table_names: true,
            mark_mask: Mask::OURS,
            rp_filter: RpFilter::Advise,
            control_peers: Vec::new(),
        }
    }
}

/// `rp_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpFilter {
    /// Only told by `route check`.
    Advise,
    /// `src_valid_mark = 1`.
    Set,
}

/// One `[uplink.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Uplink {
    /// Its name.
    pub name: Arc<str>,
    /// Its interface; may be absent now.
    pub interface: String,
    /// Its own table; none for an uplink whose routes stand in main and are only watched.
    pub table: Option<Table>,
    /// Who leaves by it.
    pub source: Sources,
    /// Networks behind this host that are routed to us by it: they leave by it too.
    pub subnets: Vec<Prefix>,
    /// Its next hop for IPv4.
    pub gateway4: Gateway,
    /// Its next hop for IPv6.
    pub gateway6: Gateway,
    /// What becomes of its packets while it has no way.
    pub on_down: OnDown,
    /// What is done about its packets that leave elsewhere all the same.
    pub guard: Guard,
    /// How it is watched.
    pub track: Option<Track>,
    /// The tunnel that makes its interface.
    pub tunnel: Option<Arc<str>>,
    /// Its share where a policy's member does not say.
    pub weight: u16,
    /// What is sent costs money: it is asked ten times more seldom.
    pub metered: bool,
}

/// `source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sources {
    /// Every global address of the interface, followed.
    Auto,
    /// These. At least one.
    Fixed(Vec<Prefix>),
}

/// `gateway`, `gateway4`, `gateway6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Not for this family.
    Unused,
    /// Point to point: the link itself is the way.
    None,
    /// This one.
    Addr(Addr),
    /// That of main's default route by this interface that DHCP (or a hand) set.
    Dhcp,
    /// That of main's default route by this interface that a router advertisement set.
    Ra,
}

/// `on_down`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// The sender is told that the host is unreachable; nothing leaves elsewhere.
    Unreachable,
    /// They take the way of everybody else.
    Fallthrough,
}

/// `guard`: packets with its source that leave elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing.
    Off,
    /// They are counted.
    Count,
    /// They are counted and dropped.
    Drop,
}

/// `track`: echo requests from the uplink's own source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Whom to ask. At least one.
    pub targets: Vec<Addr>,
    /// How often.
    pub interval: Span,
    /// How long an answer may take.
    pub timeout: Span,
    /// So many failed rounds in a row, and it is down.
    pub down: u32,
    /// So many good ones in a row, and it is up.
    pub up: u32,
    /// How many targets must answer for a round to be good.
    pub quorum: usize,
    /// Lost answers over the window: percent that warns, percent that is down.
    pub loss: Option<(u8, u8)>,
    /// Mean time of answers over the window: what warns, what is down.
    pub latency: Option<(Span, Span)>,
    /// The window of both.
    pub window: Span,
}

/// Which families something is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// One.
    Only(Family),
    /// Both.
    Both,
}

impl Families {
    /// Each of them.
    pub fn each(self) -> impl Iterator<Item = Family> {
        [Family::V4, Family::V6].into_iter().filter(move |family| matches!(self, Self::Both) || self == Self::Only(*family))
    }
}

/// One `[[rule]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct FreeRule {
    /// Its name, for messages.
    pub name: Option<Arc<str>>,
    /// Its families: of its addresses, else as said, else both.
    pub families: Families,
    /// Which packets.
    pub selector: Selector,
    /// A user's name whose number is not known yet: until it is, the rule is for nobody.
    pub user: Option<Arc<str>>,
    /// What is done with them.
    pub action: FreeAction,
    /// Only while these uplinks are so.
    pub when: Vec<(Arc<str>, Condition)>,
    /// Its own place; else one of ours, by its order.
    pub priority: Option<Priority>,
    /// As of [`super::Rule`].
    pub suppress_prefixlength: Option<u32>,
    /// As of [`super::Rule`].
    pub suppress_ifgroup: Option<u32>,
}

/// What a free rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FreeAction {
    /// Take that uplink. What main knows better than by a default route (this host's own networks) stays there.
    Uplink(Arc<str>),
    /// Look it up in that table, plainly.
    Table(TableId),
    /// Take the uplink that this policy chooses.
    Policy(Arc<str>),
    /// Go on there.
    Goto(Priority),
    /// Drop it, and say so.
    Unreachable,
    /// Drop it, and say that it is forbidden.
    Prohibit,
    /// Drop it.
    Blackhole,
    /// Nothing.
    Nop,
}

/// What `when` asks of an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is up.
    Up,
    /// It is not.
    Down,
}

/// One `[policy.NAME]`. The one called `default` is for everything without a way of its own; others are for rules that name them.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: Arc<str>,
    /// Its table: the default routes by the uplinks it chose.
    pub table: Table,
    /// Its uplinks. At least one.
    pub members: Vec<Member>,
    /// What stays where it was.
    pub sticky: Sticky,
    /// When an uplink fails that was in use.
    pub on_failover: Purge,
    /// When a better one is back.
    pub on_failback: Purge,
    /// How long a better one must have been up before it is taken again.
    pub failback_after: Span,
    /// When none of its uplinks works.
    pub last_resort: LastResort,
}

impl Policy {
    /// The name of the policy for everything.
    pub const DEFAULT: &'static str = "default";
}

/// One member of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which uplink.
    pub uplink: Arc<str>,
    /// The lowest tier with a working uplink is used; those of one tier share.
    pub tier: u16,
    /// Its share there, from 1 to 256.
    pub weight: u16,
}

/// `sticky`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// A connection stays on the uplink it began on (connection marks).
    Connection,
    /// And all connections of a source take the same.
    Source,
}

/// What is forgotten of connections when the uplink changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// Nothing.
    None,
    /// Those of the uplink that is left, and no others.
    Uplink,
}

/// `last_resort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastResort {
    /// Senders are told that there is no way.
    Unreachable,
    /// Main's own default route.
    Main,
}
