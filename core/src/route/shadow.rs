//! Rules of others that stand before ours and take packets that ours are for.
//!
//! It cannot be prevented: a rule that is added without a priority lands before everybody's. It can only be told. What is
//! told is possible, not certain: whether a table has a route for a packet is not looked at here ([`super::explain`] does).

use super::plan::Ours;
use super::rule::{Action, Rule, Selector};
use super::words::{Mask, Names, Priority, TableId};
use crate::net::{Family, Prefix};

/// A rule of ours that packets may never reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Of which family.
    pub family: Family,
    /// Ours.
    pub rule: String,
    /// The one before it.
    pub by: String,
    /// What that does, and whose it may be.
    pub why: String,
}

/// The rules of `wanted` that others in `found` (all rules, in the kernel's order) take packets from.
///
/// Suppress rules are left out, for the lookup behind each tells the same. Rules for everything (the default policy's) are
/// taken to stand behind narrower ones on purpose: only what is for everything too shadows them.
pub fn shadows(wanted: &[Rule], found: &[Rule], ours: &Ours, names: &Names) -> Vec<Shadow> {
    let others: Vec<(usize, &Rule)> = found.iter().enumerate().filter(|(_, rule)| !ours.is_rule(rule) && takes(rule)).collect();
    let sources: Vec<(Action, Prefix)> = wanted.iter().filter_map(|rule| Some((rule.action, rule.selector.from?))).collect();
    let mut all = Vec::new();
    for rule in wanted.iter().filter(|rule| rule.suppress_prefixlength.is_none() && rule.action != Action::Nop) {
        let place = found.iter().position(|other| other == rule);
        for (other_place, other) in &others {
            let before = other.priority < rule.priority || (other.priority == rule.priority && place.is_none_or(|own| *other_place < own));
            if other.family == rule.family && before && jumps_over(other, rule) && meets(other, rule) && concerns(other, rule, &sources) {
                let why = format!("{}; {}", effect(other, names), author(other, *other_place, found));
                all.push(Shadow { family: rule.family, rule: rule.text(names), by: other.text(names), why });
            }
        }
    }
    all
}

/// Whether packets may end with it.
fn takes(rule: &Rule) -> bool {
    match rule.action {
        Action::Nop => false,
        // Local addresses are everybody's first table; `default` is empty unless somebody fills it.
        Action::Lookup(TableId::LOCAL) => false,
        // Sees no default routes: only what is known better, as our own suppress rules do.
        Action::Lookup(_) => rule.suppress_prefixlength.is_none() && !rule.selector.l3mdev,
        Action::Goto(_) | Action::Blackhole | Action::Unreachable | Action::Prohibit | Action::Other(_) => true,
    }
}

/// A goto to a place before ours changes nothing for it.
fn jumps_over(other: &Rule, rule: &Rule) -> bool {
    match other.action {
        Action::Goto(to) => to > rule.priority,
        _ => true,
    }
}

fn meets(other: &Rule, rule: &Rule) -> bool {
    if rule.selector == Selector::default() {
        let positive = Selector { not: false, ..other.selector.clone() };
        return other.selector.not || positive == Selector::default();
    }
    match (other.selector.not, rule.selector.not) {
        (false, false) => overlap(&other.selector, &rule.selector),
        // `not X` misses ours only where ours asks for X and more.
        (true, false) => !implies(&rule.selector, &other.selector),
        (false, true) => !implies(&other.selector, &rule.selector),
        (true, true) => true,
    }
}

/// A rule for another source is none for packets of an uplink that has sources of its own, whatever interface or mark ours
/// knows them by.
fn concerns(other: &Rule, rule: &Rule, sources: &[(Action, Prefix)]) -> bool {
    let Some(from) = other.selector.from.filter(|_| rule.selector.from.is_none() && !other.selector.not) else { return true };
    let mut own = sources.iter().filter(|(action, _)| *action == rule.action).peekable();
    own.peek().is_none() || own.any(|(_, source)| source.overlaps(&from))
}

/// Two of the same kind, where both ask for something: whether one packet can fit both.
fn both<T>(a: Option<T>, b: Option<T>, fit: impl Fn(T, T) -> bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => fit(a, b),
        _ => true,
    }
}

fn touch<T: PartialOrd>(a: (T, T), b: (T, T)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

fn overlap(other: &Selector, own: &Selector) -> bool {
    // A packet with an address of this host as its source, or of a socket bound to an interface, comes in by none.
    let local = own.oif.is_some() || own.from.is_some_and(|from| from.is_host());
    let arrives = |selector: &Selector| selector.iif.as_deref().is_some_and(|iif| iif != "lo");
    !(local && own.iif.is_none() && arrives(other))
        && both(other.from, own.from, |a, b| a.overlaps(&b))
        && both(other.to, own.to, |a, b| a.overlaps(&b))
        && both(other.iif.as_ref(), own.iif.as_ref(), |a, b| a == b)
        && both(other.oif.as_ref(), own.oif.as_ref(), |a, b| a == b)
        && both(other.fwmark, own.fwmark, |a, b| (a.0.0 ^ b.0.0) & a.1.0 & b.1.0 == 0)
        && both(other.uid, own.uid, touch)
        && both(other.ipproto, own.ipproto, |a, b| a == b)
        && both(other.sport, own.sport, touch)
        && both(other.dport, own.dport, touch)
        && both(other.dscp, own.dscp, |a, b| a == b)
        && (other.tos == 0 || own.tos == 0 || other.tos == own.tos)
}

/// Whether all that fits `narrow` fits `wide` too, `not` left aside.
fn implies(narrow: &Selector, wide: &Selector) -> bool {
    let within = |narrow: Option<Prefix>, wide: Option<Prefix>| wide.is_none_or(|wide| narrow.is_some_and(|narrow| wide.covers(&narrow)));
    let spans = |narrow: Option<(u32, u32)>, wide: Option<(u32, u32)>| {
        wide.is_none_or(|wide| narrow.is_some_and(|narrow| wide.0 <= narrow.0 && narrow.1 <= wide.1))
    };
    let ports = |span: Option<(u16, u16)>| span.map(|(first, last)| (u32::from(first), u32::from(last)));
    let marks = wide.fwmark.is_none_or(|(mark, mask)| {
        narrow.fwmark.is_some_and(|(own, own_mask)| mask.0 & !own_mask.0 == 0 && (mark.0 ^ own.0) & mask.0 == 0)
    });
    within(narrow.from, wide.from)
        && within(narrow.to, wide.to)
        && (wide.iif.is_none() || wide.iif == narrow.iif)
        && (wide.oif.is_none() || wide.oif == narrow.oif)
        && marks
        && spans(narrow.uid, wide.uid)
        && (wide.ipproto.is_none() || wide.ipproto == narrow.ipproto)
        && spans(ports(narrow.sport), ports(wide.sport))
        && spans(ports(narrow.dport), ports(wide.dport))
        && (wide.tos == 0 || wide.tos == narrow.tos)
        && (wide.dscp.is_none() || wide.dscp == narrow.dscp)
        && (wide.tun_id.is_none() || wide.tun_id == narrow.tun_id)
        && (!wide.l3mdev || narrow.l3mdev)
}

fn effect(rule: &Rule, names: &Names) -> String {
    match rule.action {
        Action::Lookup(table) => format!("takes what table {} has a route for, default routes too", names.of(table)),
        Action::Goto(Priority(to)) => format!("goes on at {to}, behind ours"),
        Action::Blackhole | Action::Unreachable | Action::Prohibit => "drops it".to_owned(),
        Action::Nop | Action::Other(_) => "is not understood".to_owned(),
    }
}

/// Whose it may be, and what to do.
fn author(rule: &Rule, place: usize, found: &[Rule]) -> String {
    let Priority(at) = rule.priority;
    let within = |ranges: &[(u32, u32)]| ranges.iter().any(|(first, last)| (*first..=*last).contains(&at));
    let whole_mark = rule.selector.fwmark.is_some_and(|(_, mask)| mask == Mask::ALL);
    // wg-quick: everything but its own packets, `not fwmark PORT lookup PORT`.
    if rule.selector.not && whole_mark {
        return "looks like wg-quick's: set `Table = off` in its configuration and declare the interface as an uplink".to_owned();
    }
    if within(&[(5210, 5270), (1310, 1370)]) {
        return "in Tailscale's range: set priority_base below it".to_owned();
    }
    // Those of mwan3: by interface, by mark, unreachable; each with 250 of them.
    if within(&[(1001, 1250), (2001, 2250), (3001, 3250)]) {
        return "in mwan3's range: set priority_base below it, or leave these uplinks to mwan3".to_owned();
    }
    if found.get(place + 1).is_some_and(|next| next.family == rule.family && next.priority.0 == at.saturating_add(1)) {
        return "seems to have been added without a priority, which lands before everybody's: name one behind ours where it is made"
            .to_owned();
    }
    format!("made by protocol {}: move it behind ours, or set priority_base before it", rule.protocol)
}

#[cfg(test)]
mod tests {
    use super::super::wanted::made::{all_chosen, isps_world, prefix, seed, two_isps};
    use super::super::wanted::{Healths, wanted};
    use super::super::words::{Mark, Protocol};
    use super::super::world::World;
    use super::*;

    fn other(family: Family, priority: u32, table: u32, selector: Selector) -> Rule {
        Rule::new(family, Priority(priority), selector, Action::Lookup(TableId(table)), Protocol::UNSPEC)
    }

    fn marked(not: bool, mark: u32, mask: u32) -> Selector {
        Selector { not, fwmark: Some((Mark(mark), Mask(mask))), ..Selector::default() }
    }

    fn from(text: &str) -> Selector {
        Selector { from: Some(prefix(text)), ..Selector::default() }
    }

    /// What the seed's rules are shadowed by, with these before them.
    fn seen(before: Vec<Rule>) -> Vec<Shadow> {
        let spec = seed();
        let own = wanted(&spec, &World::default(), &Healths::new(), &all_chosen(&spec)).rules;
        let mut found = before;
        found.extend(own.clone());
        found.sort_by_key(|rule| rule.priority);
        shadows(&own, &found, &Ours::of(&spec), &spec.names())
    }

    #[test]
    fn wg_quick_in_front_is_named() {
        let local = other(Family::V6, 0, 255, Selector::default());
        let mut suppress = other(Family::V6, 3998, 254, Selector::default());
        suppress.suppress_prefixlength = Some(0);
        let all = seen(vec![local, suppress, other(Family::V6, 3999, 51820, marked(true, 0xca6c, u32::MAX))]);
        assert_eq!(all.len(), 5, "every lookup of ours: {all:#?}");
        assert_eq!(all[1].rule, "4200: from 2a02::1 lookup sixxs0");
        assert_eq!(all[1].by, "3999: not fwmark 0xca6c lookup 51820");
        assert!(all[1].why.contains("wg-quick") && all[1].why.contains("Table = off"));
    }

    #[test]
    fn harmless_ones_are_not() {
        let mut vrf = other(Family::V6, 1000, 0, Selector { l3mdev: true, ..Selector::default() });
        vrf.protocol = Protocol::KERNEL;
        let mut nop = other(Family::V6, 1001, 0, Selector::default());
        nop.action = Action::Nop;
        let mut back = nop.clone();
        back.action = Action::Goto(Priority(4000));
        let iif = Selector { iif: Some("wan".to_owned()), ..Selector::default() };
        let elsewhere = [from("2001:db8::/32"), marked(false, 0x200_0000, 0xff00_0000), iif];
        let narrow = Selector { to: Some(prefix("2001:db8::/32")), ..from("2001:db8::/32") };
        let mut all = vec![vrf, nop, back, other(Family::V4, 5, 7, Selector::default()), other(Family::V6, 5270, 52, Selector::default())];
        all.extend(elsewhere.into_iter().chain([narrow]).map(|selector| other(Family::V6, 100, 7, selector)));
        let shadows = seen(all);
        // A mark can be on any packet, and marked packets can come in by any interface.
        let told: Vec<(&str, &str)> = shadows.iter().map(|shadow| (&shadow.rule[..4], &shadow.by[..8])).collect();
        let marked = ["4200", "4201", "4300", "4301"].map(|rule| (rule, "100: fwm"));
        assert_eq!(told, [&[("4000", "100: iif")][..], &marked[..]].concat(), "{shadows:#?}");
    }

    #[test]
    fn whoever_else_is_told_with_what_it_does() {
        let mut goto = other(Family::V6, 50, 0, from("2a02::/16"));
        goto.action = Action::Goto(Priority(30_000));
        let mut drop = other(Family::V6, 2100, 0, from("2a02::2"));
        drop.action = Action::Unreachable;
        let all = seen(vec![goto, drop, other(Family::V6, 3999, 254, from("2a02::1")), other(Family::V6, 5230, 52, from("2a02::1"))]);
        let whys: Vec<&str> = all.iter().map(|shadow| shadow.why.as_str()).collect();
        assert!(whys.iter().any(|why| why.starts_with("goes on at 30000")));
        assert!(whys.iter().any(|why| why.starts_with("drops it; in mwan3's range")));
        assert!(whys.iter().any(|why| why.contains("table main") && why.contains("without a priority")));
        assert!(!all.iter().any(|shadow| shadow.by.starts_with("5230")));
    }

    #[test]
    fn narrower_rules_before_the_default_policy_are_meant_so() {
        let (spec, world) = (two_isps(), isps_world());
        let own = wanted(&spec, &world, &Healths::new(), &all_chosen(&spec)).rules;
        let policy = |before: Rule| {
            let mut found = vec![before];
            found.extend(own.clone());
            shadows(&own, &found, &Ours::of(&spec), &spec.names()).iter().any(|shadow| shadow.rule.starts_with("4401"))
        };
        assert!(!policy(other(Family::V4, 100, 7, from("192.168.0.0/16"))));
        assert!(policy(other(Family::V4, 100, 7, Selector::default())));
        assert!(policy(other(Family::V4, 100, 7, marked(true, 1, u32::MAX))));
    }
}
