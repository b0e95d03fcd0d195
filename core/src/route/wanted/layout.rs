//! Where our rules stand, and which mark is whose.
//!
//! Offsets from the base, for the seed's two uplinks on the right:
//!
//! ```text
//!   probes            fwmark N/mask lookup T                                     0
//!   kept connections  fwmark CONN/CONN lookup main suppress_prefixlength 1|3     32, or as many as there are marks
//!                     fwmark CONN|N/mask lookup T                                the next
//!   free rules        each two: suppress twin, rule                              the next hundred, if there are any
//!   sources           from S lookup main suppress_prefixlength 1|3               the next hundred  (100)
//!   interfaces        oif IF lookup main suppress_prefixlength 1|3               the next ten      (110)
//!   sources           from S lookup T                                            the next hundred  (200)
//!   interfaces        oif IF lookup T                                            the next hundred  (300)
//!   default policy    lookup main suppress_prefixlength 1|3, lookup P            the next hundred  (400)
//! ```
//!
//! Each uplink with a table of its own has a slot, in the order of the spec, and one priority in each block; all its
//! sources share it. The blocks depend on how many uplinks and rules the spec has, never on the host: nothing is
//! renumbered when an address comes or goes.

use std::collections::BTreeSet;

use super::super::spec::{Policy, Spec, Uplink};
use super::super::words::{Mark, Mask, Priority};
use crate::net::Family;

/// Routes no longer than this are taken for defaults. Never 0: `ip rule del table main suppress_prefixlength 0`, which
/// wg-quick runs in a loop, would hit our rules; and a VPN's half defaults (0.0.0.0/1, 2000::/3) are defaults too.
pub const fn suppressed(family: Family) -> u32 {
    match family {
        Family::V4 => 1,
        Family::V6 => 3,
    }
}

/// Room for the probes where there are few uplinks.
const PROBES: u32 = 32;

/// Where each block begins: offsets from the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    base: u32,
    connections: u32,
    free: u32,
    sources_main: u32,
    interfaces_main: u32,
    sources: u32,
    interfaces: u32,
    policy: u32,
    end: u32,
}

/// A count as a number of priorities; more than there are priorities fits no range anyway.
fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

/// The next multiple of `step`, or this one.
const fn up(offset: u32, step: u32) -> u32 {
    match offset.checked_next_multiple_of(step) {
        Some(next) => next,
        None => u32::MAX,
    }
}

impl Layout {
    pub(super) fn of(spec: &Spec) -> Self {
        let uplinks = count(slots(spec).count());
        let free_rules = count(spec.rules.iter().filter(|rule| rule.priority.is_none()).count());
        let marked = uplinks.min(Bits::of(spec.settings.mark_mask).most());
        let connections = marked.max(PROBES);
        let free = up(connections.saturating_add(1).saturating_add(marked), 100);
        let sources_main = up(free.saturating_add(free_rules.saturating_mul(2)), 100);
        let interfaces_main = up(sources_main.saturating_add(uplinks), 10);
        let sources = up(interfaces_main.saturating_add(uplinks), 100);
        let interfaces = up(sources.saturating_add(uplinks), 100);
        let last = interfaces.saturating_add(uplinks);
        let policy = up(last, 100);
        let end = if spec.policy(Policy::DEFAULT).is_some() { policy.saturating_add(2) } else { last };
        Self { base: spec.settings.priority_base.0, connections, free, sources_main, interfaces_main, sources, interfaces, policy, end }
    }

    const fn at(&self, block: u32, place: u32) -> Priority {
        Priority(self.base.saturating_add(block).saturating_add(place))
    }

    pub(super) const fn probe(&self, slot: u32) -> Priority {
        self.at(0, slot)
    }

    pub(super) const fn connections_main(&self) -> Priority {
        self.at(self.connections, 0)
    }

    pub(super) const fn connection(&self, slot: u32) -> Priority {
        self.at(self.connections, slot.saturating_add(1))
    }

    /// The place of a free rule itself; its suppress twin has the one before.
    pub(super) const fn free(&self, place: u32) -> Priority {
        self.at(self.free, place.saturating_mul(2).saturating_add(1))
    }

    pub(super) const fn sources_main(&self, slot: u32) -> Priority {
        self.at(self.sources_main, slot)
    }

    pub(super) const fn interfaces_main(&self, slot: u32) -> Priority {
        self.at(self.interfaces_main, slot)
    }

    pub(super) const fn sources(&self, slot: u32) -> Priority {
        self.at(self.sources, slot)
    }

    pub(super) const fn interfaces(&self, slot: u32) -> Priority {
        self.at(self.interfaces, slot)
    }

    pub(super) const fn policy_main(&self) -> Priority {
        self.at(self.policy, 0)
    }

    pub(super) const fn policy(&self) -> Priority {
        self.at(self.policy, 1)
    }
}

/// How many priorities from the base the spec's rules need; `priority_range` must be no less, and base and range
/// together stay below the kernel's own rules.
pub fn priorities_needed(spec: &Spec) -> u32 {
    Layout::of(spec).end
}

/// The uplinks that have a slot: those with a table of their own, with its number.
pub(super) fn slots(spec: &Spec) -> impl Iterator<Item = (u32, &Uplink)> {
    (0..).zip(spec.uplinks.iter().filter(|uplink| uplink.table.is_some()))
}

/// How a mark is split: the mask's highest bit tells connections from probes, the others are the uplink's number from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    mask: Mask,
    connection: u32,
    shift: u32,
}

impl Bits {
    pub(super) const fn of(mask: Mask) -> Self {
        let connection = match mask.0.checked_ilog2() {
            Some(highest) => 1 << highest,
            None => 0,
        };
        Self { mask, connection, shift: if mask.0 == 0 { 0 } else { mask.0.trailing_zeros() } }
    }

    /// The largest number: of a mask with holes, only the bits below the first hole are counted with.
    const fn most(self) -> u32 {
        let bits = ((self.mask.0 ^ self.connection) >> self.shift).trailing_ones();
        (1u32 << if bits > 30 { 30 } else { bits }) - 1
    }

    /// The bit of all connections' marks, as a mark and its mask.
    pub(super) const fn connections(self) -> (Mark, Mask) {
        (Mark(self.connection), Mask(self.connection))
    }

    pub(super) const fn probe(self, slot: u32) -> Option<Mark> {
        if slot < self.most() { Some(Mark((slot + 1) << self.shift)) } else { None }
    }

    pub(super) fn connection(self, slot: u32) -> Option<Mark> {
        self.probe(slot).map(|Mark(number)| Mark(number | self.connection))
    }
}

/// The two marks of one uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Two {
    /// Of its probes.
    pub(super) probe: Option<Mark>,
    /// Of its connections.
    pub(super) connection: Option<Mark>,
}

/// The uplinks that have a slot, with their marks. Probes need one if the uplink is tracked, connections if a policy has it.
pub(super) fn marked(spec: &Spec) -> impl Iterator<Item = (u32, &Uplink, Two)> {
    let members: BTreeSet<&str> = spec.policies.iter().flat_map(|policy| &policy.members).map(|member| &*member.uplink).collect();
    let bits = Bits::of(spec.settings.mark_mask);
    slots(spec).map(move |(slot, uplink)| {
        let probe = uplink.track.as_ref().and_then(|_| bits.probe(slot));
        let connection = members.contains(&*uplink.name).then(|| bits.connection(slot)).flatten();
        (slot, uplink, Two { probe, connection })
    })
}

/// The mark that an uplink's probes carry; none if it has no table of its own or is not tracked.
pub fn probe_mark(spec: &Spec, uplink: &str) -> Option<Mark> {
    marked(spec).find(|(_, own, _)| &*own.name == uplink)?.2.probe
}

/// The mark of connections by an uplink; none if no policy has it or it has no table of its own.
pub fn connection_mark(spec: &Spec, uplink: &str) -> Option<Mark> {
    marked(spec).find(|(_, own, _)| &*own.name == uplink)?.2.connection
}

/// Uplinks that need a mark and get none, since `mark_mask` has too few bits. The config refuses them.
pub fn unmarkable(spec: &Spec) -> impl Iterator<Item = &Uplink> {
    let most = Bits::of(spec.settings.mark_mask).most();
    let is_member = |name: &str| spec.policies.iter().flat_map(|policy| &policy.members).any(|member| &*member.uplink == name);
    slots(spec)
        .filter(move |(slot, _)| *slot >= most)
        .map(|(_, uplink)| uplink)
        .filter(move |uplink| uplink.track.is_some() || is_member(&uplink.name))
}

/// The place before a free rule that named its own: there stands what keeps this host's own networks with main. It is
/// always that place, whoever else is there: two rules at one priority have the order in which they were added, and a
/// twin that was lost and healed would come too late. The config sees that no two free rules want the same place.
pub const fn twin(own: Priority) -> Option<Priority> {
    // 0 is the kernel's own rule for local addresses: nothing of ours goes there.
    if own.0 > 1 { Some(Priority(own.0 - 1)) } else { None }
}
