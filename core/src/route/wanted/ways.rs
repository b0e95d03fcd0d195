//! The routes that should stand, the marks and the kernel's switches.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::routes::{Hop, Kind, LAST, Route};
use super::super::spec::{Guard, LastResort, Member, OnDown, Policy, RpFilter, Spec, Sticky};
use super::super::words::{Mark, Names, Protocol, TableId};
use super::super::world::World;
use super::way::{Way, everywhere, usual_metric};
use super::{Chosen, Health, Healths, Marked, Marks, Pending, Sysctl, Wanted, layout};
use crate::net::Family;

/// What stands beneath everything else in a table: without it an empty table lets packets through to main, and they
/// leave with a source that is not theirs to use there.
fn guard(table: TableId, family: Family, protocol: Protocol) -> Route {
    let kind = Kind::Unreachable;
    Route { table, to: everywhere(family), from: None, metric: LAST, tos: 0, kind, hops: Vec::new(), prefsrc: None, protocol }
}

/// The tables of uplinks, and what is pending of them.
pub(super) fn uplinks(spec: &Spec, world: &World, ways: &[Way<'_>], wanted: &mut Wanted) {
    let (names, protocol) = (spec.names(), spec.settings.protocol);
    for way in ways {
        for family in [Family::V4, Family::V6].into_iter().filter(|family| way.uses(*family)) {
            let mut note = |route, why| {
                let (uplink, family) = (Arc::clone(&way.uplink.name), Some(family));
                wanted.pending.push(Pending { uplink, family, route, why });
            };
            if !world.has(family) {
                note(None, format!("this kernel has no {}", called(family)));
                continue;
            }
            if let Some(table) = way.uplink.table.as_ref().map(|table| table.id) {
                match way.hop(family) {
                    Ok(hop) => wanted.routes.push(way.default_route(family, table, hop, protocol)),
                    Err(why) => note(Some(way.future(family, table, &names, protocol)), why),
                }
                if way.uplink.on_down == OnDown::Unreachable {
                    wanted.routes.push(guard(table, family, protocol));
                }
            } else if let Some(why) = way.obstacle() {
                note(None, why.to_owned());
            }
            // A link that is away takes its addresses along: that is said already.
            if way.obstacle().is_none() {
                way.troubles(family).into_iter().for_each(|why| note(None, why));
            }
        }
    }
    wanted.routes.sort_by(|a, b| (a.kind == Kind::Unicast).cmp(&(b.kind == Kind::Unicast)).then_with(|| a.cmp(b)));
}

const fn called(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// The tables of policies.
pub(super) fn policies(spec: &Spec, world: &World, ways: &[Way<'_>], healths: &Healths, chosen: &Chosen, wanted: &mut Wanted) {
    for policy in &spec.policies {
        let of = |member: &Member| ways.iter().find(|way| way.uplink.name == member.uplink);
        for family in [Family::V4, Family::V6].into_iter().filter(|family| world.has(*family)) {
            if !policy.members.iter().filter_map(of).any(|way| way.uses(family)) {
                continue;
            }
            let taken: &[Member] = chosen.get(&policy.name).map_or(&[], Vec::as_slice);
            let taken = by_family(policy, taken, family, healths, &of);
            let hops: Vec<(&Way<'_>, Hop)> = taken
                .iter()
                .filter_map(|member| of(member).map(|way| (way, member.weight)))
                .filter_map(|(way, weight)| Some((way, Hop { weight: weight.max(1), ..way.hop(family).ok()? })))
                .collect();
            wanted.routes.extend(share(family, policy.table.id, &hops, spec.settings.protocol));
            if policy.last_resort == LastResort::Unreachable {
                wanted.routes.insert(0, guard(policy.table.id, family, spec.settings.protocol));
            }
            if hops.is_empty() {
                let names = spec.names();
                wanted
                    .pending
                    .extend(taken.first().copied().or(policy.members.first()).map(|member| nothing(policy, member, family, &names)));
            }
        }
    }
}

/// What was chosen, or where none of that is for the family at all: the best of the others. An IPv6 tunnel as second tier
/// is still the only way for IPv6.
fn by_family<'a, 'w>(
    policy: &'a Policy,
    chosen: &'a [Member],
    family: Family,
    healths: &Healths,
    of: &impl Fn(&Member) -> Option<&'w Way<'w>>,
) -> Vec<&'a Member> {
    let used = |member: &&Member| of(member).is_some_and(|way| way.uses(family));
    let of_family: Vec<&Member> = chosen.iter().filter(used).collect();
    if !of_family.is_empty() || chosen.is_empty() {
        return of_family;
    }
    let works = |member: &&Member| healths.get(&member.uplink) == Some(&Health::Up);
    let others: Vec<&Member> = policy.members.iter().filter(used).filter(works).collect();
    let best = others.iter().map(|member| member.tier).min();
    others.into_iter().filter(|member| Some(member.tier) == best).collect()
}

/// One default route by all of these.
fn share(family: Family, table: TableId, hops: &[(&Way<'_>, Hop)], protocol: Protocol) -> Option<Route> {
    match hops {
        [] => None,
        // The kernel keeps no weight of a single hop.
        [(way, hop)] => Some(way.default_route(family, table, Hop { weight: 1, ..hop.clone() }, protocol)),
        several => {
            let hops = several.iter().map(|(_, hop)| hop.clone()).collect();
            let (to, metric) = (everywhere(family), usual_metric(family));
            Some(Route { table, to, from: None, metric, tos: 0, kind: Kind::Unicast, hops, prefsrc: None, protocol })
        }
    }
}

fn nothing(policy: &Policy, member: &Member, family: Family, names: &Names) -> Pending {
    let why = format!("policy {}: none of its chosen uplinks has a way (table {})", policy.name, names.of(policy.table.id));
    Pending { uplink: Arc::clone(&member.uplink), family: Some(family), route: None, why }
}

/// Connection marks for policies' uplinks, counters of leaks for those that want them.
pub(super) fn marks(spec: &Spec, ways: &[Way<'_>]) -> Option<Marks> {
    let connections: BTreeMap<&str, Mark> =
        layout::marked(spec).filter_map(|(_, uplink, marks)| Some((&*uplink.name, marks.connection?))).collect();
    let marked = |way: &Way<'_>| {
        let connection = connections.get(&*way.uplink.name).copied();
        let guard = way.uplink.guard;
        let sources = match guard {
            Guard::Off => Vec::new(),
            Guard::Count | Guard::Drop => way.families().flat_map(|family| way.sources(family)).collect(),
        };
        let (name, interface) = (Arc::clone(&way.uplink.name), way.uplink.interface.clone());
        Marked { name, interface, connection, sources, guard }
    };
    // All of them: what leaves by the interface of one may be a leak of another.
    let uplinks: Vec<Marked> = ways.iter().map(marked).collect();
    uplinks
        .iter()
        .any(|uplink| uplink.connection.is_some() || uplink.guard != Guard::Off)
        .then_some(Marks { mask: spec.settings.mark_mask, uplinks })
}

/// The kernel's switches that the spec needs otherwise than they come.
pub(super) fn sysctls(spec: &Spec, world: &World) -> Vec<Sysctl> {
    let mut all = Vec::new();
    let mut set = |path: String, value: &str| all.push(Sysctl { path, value: value.to_owned() });
    if spec.settings.rp_filter == RpFilter::Set && !spec.is_empty() && world.has(Family::V4) {
        set("net/ipv4/conf/all/src_valid_mark".to_owned(), "1");
    }
    let shared: Vec<&Policy> = spec.policies.iter().filter(|policy| shares(policy)).collect();
    let by_source = shared.iter().any(|policy| policy.sticky == Sticky::Source);
    for (family, dir) in [(Family::V4, "net/ipv4"), (Family::V6, "net/ipv6")] {
        if shared.is_empty() || !world.has(family) {
            continue;
        }
        // 1: by addresses and ports; 3: by the fields named, of which bit 0 is the source (ip-sysctl.rst). The switch is
        // one for the whole host: a policy that shares by source settles it, for connections stay by their marks.
        set(format!("{dir}/fib_multipath_hash_policy"), if by_source { "3" } else { "1" });
        if by_source {
            set(format!("{dir}/fib_multipath_hash_fields"), "1");
        }
    }
    all
}

/// Whether any tier of it has several uplinks.
fn shares(policy: &Policy) -> bool {
    let of = |tier: u16| policy.members.iter().filter(|member| member.tier == tier).count();
    policy.members.iter().any(|member| of(member.tier) > 1)
}
