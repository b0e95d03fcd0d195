//! `[[rule]]`: in the words of `ip rule`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use toml::de::DeTable;

use super::super::error::{At, Gather, Place, Problem};
use super::super::nearest::{hint, shown};
use super::super::show::{line, quoted};
use super::super::values::{Bounds, Reading, Value};
use super::super::words;
use super::{MOST, hex, host, interface, optional, place, prefix};
use crate::net::{Family, Prefix};
use crate::route::rule::{IPPROTOS, Selector};
use crate::route::spec::{Condition, Families, FreeAction, FreeRule, Settings, Spec};
use crate::route::wanted::twin;
use crate::route::words::{Mark, Mask, Priority, TableId};

/// Keys of `[[rule]]`.
pub(in super::super) const RULE_KEYS: &[&str] = &[
    "name",
    "family",
    "not",
    "from",
    "to",
    "iif",
    "oif",
    "fwmark",
    "uid",
    "ipproto",
    "sport",
    "dport",
    "tos",
    "dscp",
    "tun_id",
    "l3mdev",
    "lookup",
    "policy",
    "action",
    "goto",
    "when",
    "priority",
    "suppress_prefixlength",
    "suppress_ifgroup",
];

const ACTIONS: &[&str] = &["unreachable", "prohibit", "blackhole", "goto", "nop"];
const PRIORITY: Bounds = Bounds { low: 1, high: 32_765, why: "rule 0 is the kernel's, and 32766 looks up main" };
const TOS: Bounds = Bounds { low: 0, high: 255, why: "it is a byte" };
const DSCP: Bounds = Bounds { low: 0, high: 63, why: "it has 6 bits (RFC 2474)" };
const TUN_ID: Bounds = Bounds { low: 0, high: i64::MAX as u64, why: "TOML has no larger numbers" };
const LENGTH: Bounds = Bounds { low: 0, high: 128, why: "that is the longest prefix" };
const GROUP: Bounds = Bounds { low: 0, high: i32::MAX as u64, why: "interface groups are such numbers" };
const PROTOCOL: Bounds = Bounds { low: 1, high: 255, why: "it is a byte" };
const PORT: Bounds = Bounds { low: 1, high: 65_535, why: "that is what TCP and UDP have" };
const UID: Bounds = Bounds { low: 0, high: u32::MAX as u64 - 1, why: "that is what users have" };

#[derive(Debug, Default)]
pub(super) struct RawRule {
    pub(super) at: Place,
    name: Option<String>,
    family: Option<At<&'static str>>,
    selector: Selector,
    user: Option<String>,
    lookup: Option<At<String>>,
    policy: Option<At<String>>,
    action: Option<At<&'static str>>,
    goto: Option<At<u32>>,
    when: Vec<(At<String>, Condition)>,
    priority: Option<At<u32>>,
    suppress_prefixlength: Option<At<u32>>,
    suppress_ifgroup: Option<At<u32>>,
    tos: Option<Place>,
    /// Something in it was wrong, and was told.
    wrong: bool,
}

impl RawRule {
    /// Where its place was typed.
    pub(super) fn priority_at(&self) -> Place {
        place(self.priority.as_ref(), self.at)
    }
}

impl Reading<'_> {
    pub(super) fn rules(&mut self, value: &Value<'_>) -> Vec<RawRule> {
        let Some(array) = value.get_ref().as_array() else {
            let _: Option<()> = self.wrong_type("rule", value, "a list of rules, each written [[rule]]");
            return Vec::new();
        };
        if array.len() > MOST {
            self.tell(&value.span(), Problem::TooLarge(format!("{} rules are more than the {MOST} that are read", array.len())), None);
            return Vec::new();
        }
        let one = |element: &Value<'_>| {
            let table = self.table("rule", element, "a table, written [[rule]]")?;
            Some(self.rule(element, table))
        };
        array.iter().filter_map(one).collect()
    }

    fn rule(&mut self, element: &Value<'_>, table: &DeTable<'_>) -> RawRule {
        let mut raw = RawRule { at: self.place(&element.span()), ..RawRule::default() };
        for (key, value) in table {
            let name: &str = key.get_ref();
            // What was told wrong must not be left out as if it had not been asked: the rule would be for more packets.
            let mut taken = true;
            let s = &mut raw.selector;
            match name {
                "name" => raw.name = self.text(name, value, "a name").map(str::to_owned),
                "family" => raw.family = self.word(name, value, &["ipv4", "ipv6", "both"], &[]),
                "not" => taken = self.boolean(name, value).map(|typed| s.not = typed.value).is_some(),
                "from" => taken = self.parsed(name, value, prefix).map(|typed| s.from = Some(typed)).is_some(),
                "to" => taken = self.parsed(name, value, prefix).map(|typed| s.to = Some(typed)).is_some(),
                "iif" => taken = self.parsed(name, value, interface).map(|typed| s.iif = Some(typed)).is_some(),
                "oif" => taken = self.parsed(name, value, interface).map(|typed| s.oif = Some(typed)).is_some(),
                "fwmark" => taken = self.fwmark(value).map(|typed| s.fwmark = Some(typed)).is_some(),
                "uid" => taken = self.uid(value, &mut raw),
                "ipproto" => taken = self.ipproto(value).map(|typed| s.ipproto = Some(typed)).is_some(),
                "sport" => taken = self.ports_of(name, value).map(|typed| s.sport = Some(typed)).is_some(),
                "dport" => taken = self.ports_of(name, value).map(|typed| s.dport = Some(typed)).is_some(),
                "tos" => {
                    taken = self.number(name, value, TOS).map(|typed: At<u8>| (s.tos, raw.tos) = (typed.value, Some(typed.at))).is_some()
                }
                "dscp" => taken = self.number(name, value, DSCP).map(|typed: At<u8>| s.dscp = Some(typed.value)).is_some(),
                "tun_id" => taken = self.number(name, value, TUN_ID).map(|typed: At<u64>| s.tun_id = Some(typed.value)).is_some(),
                "l3mdev" => taken = self.boolean(name, value).map(|typed| s.l3mdev = typed.value).is_some(),
                "lookup" => raw.lookup = self.lookup(value),
                "policy" => {
                    let typed = self.text(name, value, "the name of a policy").map(str::to_owned);
                    raw.policy = self.at_of(value, typed);
                }
                "action" => raw.action = self.word(name, value, ACTIONS, &[]),
                "goto" => raw.goto = self.number(name, value, PRIORITY),
                "when" => taken = self.when(value, &mut raw),
                "priority" => raw.priority = self.number(name, value, PRIORITY),
                "suppress_prefixlength" => raw.suppress_prefixlength = self.number(name, value, LENGTH),
                "suppress_ifgroup" => raw.suppress_ifgroup = self.number(name, value, GROUP),
                _ => self.unknown(key, "in [[rule]]", RULE_KEYS),
            }
            raw.wrong |= !taken;
        }
        raw
    }

    /// `7`, `"0x5"`, `"0x5/0xf"`.
    fn fwmark(&mut self, value: &Value<'_>) -> Option<(Mark, Mask)> {
        if value.get_ref().is_integer() {
            return self.hex("fwmark", value).map(|mark| (Mark(mark.value), Mask::ALL));
        }
        self.parsed("fwmark", value, |text| {
            let (mark, mask) = text.split_once('/').map_or((text, None), |(mark, mask)| (mark, Some(mask)));
            let parts = (hex(mark), mask.map_or(Some(u32::MAX), hex));
            match parts {
                (Some(mark), Some(mask)) if mark & !mask == 0 => Ok((Mark(mark), Mask(mask))),
                (Some(mark), Some(mask)) => {
                    Err((format!("`{}` can never match: {mark:#x} has bits outside of {mask:#x}", shown(text)), None))
                }
                _ => Err((format!("`{}` is no mark: write it like 0x5 or 0x5/0xf", shown(text)), None)),
            }
        })
    }

    /// A number, `"1000-1999"`, or a user's name.
    fn uid(&mut self, value: &Value<'_>, raw: &mut RawRule) -> bool {
        if value.get_ref().is_integer() {
            let typed: Option<At<u32>> = self.number("uid", value, UID);
            raw.selector.uid = typed.map(|uid| (uid.value, uid.value));
            return raw.selector.uid.is_some();
        }
        let read = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
            match (number(first), number(last)) {
                // The last number stands for no user.
                (Some(first), Some(last)) if first <= last && u64::from(last) <= UID.high => Ok(Ok((first, last))),
                _ if is_user_name(text) => Ok(Err(text.to_owned())),
                _ => Err((format!("`{}` is no user: write a name, a number, or a range like 1000-1999", shown(text)), None)),
            }
        };
        match self.parsed("uid", value, read) {
            Some(Ok(range)) => raw.selector.uid = Some(range),
            Some(Err(name)) => raw.user = Some(name),
            None => return false,
        }
        true
    }

    fn ipproto(&mut self, value: &Value<'_>) -> Option<u8> {
        if value.get_ref().is_integer() {
            return self.number("ipproto", value, PROTOCOL).map(|number| number.value);
        }
        self.parsed("ipproto", value, |text| {
            let known = IPPROTOS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
            let names: Vec<&str> = IPPROTOS.iter().map(|(name, _)| *name).collect();
            known.ok_or_else(|| {
                (format!("`{}` is no protocol: write its number, or one of {}", shown(text), names.join(", ")), hint(text, &names))
            })
        })
    }

    /// A port, `"6000-6007"`, or a service with one port.
    fn ports_of(&mut self, key: &str, value: &Value<'_>) -> Option<(u16, u16)> {
        if value.get_ref().is_integer() {
            return self.number(key, value, PORT).map(|port: At<u16>| (port.value, port.value));
        }
        self.parsed(key, value, |text| {
            // A rule takes any range; a jail's `ports` are counted one by one.
            let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten();
            let range = text.split_once('-').and_then(|(first, last)| Some((number(first)?, number(last)?)));
            match range {
                Some((first, last)) if first > 0 && first <= last => Ok((first, last)),
                _ => match words::ports(text)?.as_slice() {
                    [port] => Ok((*port, *port)),
                    several => Err((format!("`{}` is {} ports: a rule takes one, or a range", shown(text), several.len()), None)),
                },
            }
        })
    }

    fn lookup(&mut self, value: &Value<'_>) -> Option<At<String>> {
        if value.get_ref().is_integer() {
            let number: Option<At<u32>> = self.number("lookup", value, Bounds { low: 1, high: u32::MAX.into(), why: "0 is no table" });
            return number.map(|number| At { value: number.value.to_string(), at: number.at });
        }
        let typed = self.text("lookup", value, "an uplink, or a table's name or number").map(str::to_owned);
        self.at_of(value, typed)
    }

    /// `{ fibre = "down" }`.
    fn when(&mut self, value: &Value<'_>, raw: &mut RawRule) -> bool {
        let Some(table) = self.table("when", value, "a table like { fibre = \"down\" }") else { return false };
        for (key, value) in table {
            let Some(word) = self.word("when", value, &["up", "down"], &[]) else { return false };
            let condition = if word.value == "up" { Condition::Up } else { Condition::Down };
            raw.when.push((At { value: key.get_ref().to_string(), at: self.place(&key.span()) }, condition));
        }
        true
    }
}

/// What useradd makes, and what packages do in spite of it: `Debian-exim`.
fn is_user_name(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'$');
    !text.is_empty() && text.len() <= 64 && !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') && text.bytes().all(letter)
}

/// The rule that was typed.
pub(super) fn mean(raw: RawRule, spec: &Spec, errors: &mut Gather) -> Option<FreeRule> {
    if raw.wrong {
        return None;
    }
    let at = raw.at;
    let called = raw.name.as_deref().map(|name| format!("rule `{}`", shown(name))).unwrap_or_else(|| "this rule".to_owned());
    let action = action(&raw, &called, spec, errors)?;
    let families = families(&raw, &called, errors)?;
    let uplinks: Vec<&str> = spec.uplinks.iter().map(|uplink| &*uplink.name).collect();
    for (name, _) in raw.when.iter().filter(|(name, _)| spec.uplink(&name.value).is_none()) {
        errors.tell(name.at, Problem::Missing(format!("there is no [uplink.{}]", shown(&name.value))), hint(&name.value, &uplinks));
    }
    combined(&raw, &action, &called, &spec.settings, errors);
    let everything = Selector { not: false, ..raw.selector.clone() } == Selector::default() && raw.user.is_none();
    if everything && raw.selector.not {
        errors.tell(at, Problem::Value(format!("{called} is for `not` everything: it never matches")), None);
    }
    Some(FreeRule {
        name: raw.name.map(Arc::from),
        families,
        selector: raw.selector,
        user: raw.user.map(Arc::from),
        action,
        when: raw.when.into_iter().map(|(name, condition)| (Arc::from(name.value), condition)).collect(),
        priority: raw.priority.map(|typed| Priority(typed.value)),
        suppress_prefixlength: raw.suppress_prefixlength.map(|typed| typed.value),
        suppress_ifgroup: raw.suppress_ifgroup.map(|typed| typed.value),
    })
}

/// What the kernel takes no rule for (fib_nl2rule in net/core/fib_rules.c, fib4_rule_configure in net/ipv4/fib_rules.c).
fn combined(raw: &RawRule, action: &FreeAction, called: &str, settings: &Settings, errors: &mut Gather) {
    let s = &raw.selector;
    if s.tos & 3 != 0 {
        let message = format!("{called} asks for `tos` {:#x}: its low two bits tell of congestion, and no rule can ask for them", s.tos);
        errors.tell(raw.tos.unwrap_or(raw.at), Problem::Value(message), None);
    }
    if s.tos != 0 && s.dscp.is_some() {
        errors.tell(raw.at, Problem::Clash(format!("{called} has both `tos` and `dscp`: they are the same byte")), None);
    }
    if s.l3mdev && matches!(action, FreeAction::Uplink(_) | FreeAction::Policy(_) | FreeAction::Table(TableId(1..))) {
        errors.tell(raw.at, Problem::Clash(format!("{called} has `l3mdev`: that looks up the VRF's own table, and no other")), None);
    }
    let looks = matches!(action, FreeAction::Uplink(_) | FreeAction::Policy(_) | FreeAction::Table(_));
    for (key, typed) in [("suppress_prefixlength", &raw.suppress_prefixlength), ("suppress_ifgroup", &raw.suppress_ifgroup)] {
        if let Some(typed) = typed.as_ref().filter(|_| !looks) {
            errors.tell(typed.at, Problem::Clash(format!("`{key}` leaves out routes that are found, and {called} looks up none")), None);
        }
    }
    if let Some(goto) = &raw.goto {
        let last = settings.priority_base.0.saturating_add(settings.priority_range - 1);
        let own = raw.priority.as_ref().map_or(last, |typed| typed.value);
        if goto.value <= own {
            errors.tell(
                goto.at,
                Problem::Clash(format!("`goto` {} leads back: it must be more than {own}, for lookups go forwards only", goto.value)),
                None,
            );
        }
    }
}

fn action(raw: &RawRule, called: &str, spec: &Spec, errors: &mut Gather) -> Option<FreeAction> {
    let said = [raw.lookup.as_ref().map(|l| l.at), raw.policy.as_ref().map(|p| p.at), raw.action.as_ref().map(|a| a.at)];
    let mut said = said.into_iter().flatten();
    if let (Some(_), Some(second)) = (said.next(), said.next()) {
        errors.tell(second, Problem::Clash(format!("{called} does one thing: write one of `lookup`, `policy` and `action`")), None);
        return None;
    }
    if let Some(goto) = raw.goto.as_ref().filter(|_| raw.lookup.is_some() || raw.policy.is_some()) {
        errors.tell(goto.at, Problem::Clash(format!("{called} has `goto` beside another action")), None);
        return None;
    }
    if let Some(lookup) = &raw.lookup {
        return target(lookup, spec, errors);
    }
    if let Some(policy) = &raw.policy {
        if spec.policy(&policy.value).is_none() {
            let names: Vec<&str> = spec.policies.iter().map(|policy| &*policy.name).collect();
            errors.tell(policy.at, Problem::Missing(format!("there is no [policy.{}]", shown(&policy.value))), hint(&policy.value, &names));
        }
        return Some(FreeAction::Policy(Arc::from(policy.value.as_str())));
    }
    match (raw.action.as_ref().map(|action| action.value), &raw.goto) {
        (None | Some("goto"), Some(goto)) => Some(FreeAction::Goto(Priority(goto.value))),
        (Some("goto"), None) => {
            errors.tell(raw.at, Problem::Missing(format!("{called} needs to know where to: `goto = 4500`")), None);
            None
        }
        (Some(_), Some(goto)) => {
            errors.tell(goto.at, Problem::Clash(format!("{called} has `goto` beside another action")), None);
            None
        }
        (Some("unreachable"), None) => Some(FreeAction::Unreachable),
        (Some("prohibit"), None) => Some(FreeAction::Prohibit),
        (Some("blackhole"), None) => Some(FreeAction::Blackhole),
        (Some(_), None) => Some(FreeAction::Nop),
        // What a VRF's interface is bound to is its table.
        (None, None) if raw.selector.l3mdev => Some(FreeAction::Table(TableId(0))),
        (None, None) => {
            errors.tell(raw.at, Problem::Missing(format!("{called} does nothing: write `lookup`, `policy` or `action`")), None);
            None
        }
    }
}

fn target(lookup: &At<String>, spec: &Spec, errors: &mut Gather) -> Option<FreeAction> {
    let text = lookup.value.as_str();
    let table = match text {
        "main" => Some(TableId::MAIN),
        "local" => Some(TableId::LOCAL),
        "default" => Some(TableId::DEFAULT),
        text => text.parse().ok().filter(|id| *id != 0).map(TableId),
    };
    if let Some(uplink) = spec.uplink(text) {
        return Some(FreeAction::Uplink(Arc::clone(&uplink.name)));
    }
    let named = spec.tables().find(|table| &*table.name == text).map(|table| table.id);
    if let Some(table) = table.or(named) {
        return Some(FreeAction::Table(table));
    }
    let names: Vec<&str> = spec.uplinks.iter().map(|uplink| &*uplink.name).chain(["main", "default"]).collect();
    let message = format!("`{}` is neither an uplink nor a table that is known: write a table's number", shown(text));
    errors.tell(lookup.at, Problem::Missing(message), hint(text, &names));
    None
}

fn families(raw: &RawRule, called: &str, errors: &mut Gather) -> Option<Families> {
    let mut addressed = raw.selector.from.iter().chain(&raw.selector.to).map(Prefix::family);
    let (first, second) = (addressed.next(), addressed.next());
    if first.is_some() && second.is_some() && first != second {
        errors.tell(raw.at, Problem::Clash(format!("{called} is from one family to another")), None);
        return None;
    }
    let said = raw.family.as_ref().map(|word| word.value);
    match (first, said) {
        (None, None | Some("both")) => Some(Families::Both),
        (None, Some("ipv4")) => Some(Families::Only(Family::V4)),
        (None, Some(_)) => Some(Families::Only(Family::V6)),
        (Some(family), None) => Some(Families::Only(family)),
        (Some(family), Some(word)) if word == if family == Family::V4 { "ipv4" } else { "ipv6" } => Some(Families::Only(family)),
        (Some(_), Some(word)) => {
            errors.tell(place(raw.family.as_ref(), raw.at), Problem::Clash(format!("{called} has addresses that are not {word}")), None);
            None
        }
    }
}

/// Two rules that named a place must not want the same, nor one of ours.
pub(super) fn places(spec: &Spec, places: Vec<Place>, errors: &mut Gather) {
    let mut wanted: BTreeMap<Priority, &FreeRule> = BTreeMap::new();
    let (base, range) = (spec.settings.priority_base.0, spec.settings.priority_range);
    for (rule, at) in spec.rules.iter().zip(places) {
        let Some(own) = rule.priority else { continue };
        let called = rule.name.as_deref().unwrap_or("a rule");
        if (base..base.saturating_add(range)).contains(&own.0) {
            let message = format!("`{called}` wants priority {}, which is among ours ({base} to {})", own.0, base + range - 1);
            errors.tell(at, Problem::Clash(message), Some("leave `priority` out, or move `priority_base`".to_owned()));
        }
        let twins = matches!(rule.action, FreeAction::Uplink(_) | FreeAction::Policy(_)).then(|| twin(own)).flatten();
        for place in [own].into_iter().chain(twins) {
            if let Some(other) = wanted.insert(place, rule) {
                let other = other.name.as_deref().unwrap_or("a rule");
                let message = format!("`{called}` and `{other}` both want priority {}", place.0);
                errors.tell(at, Problem::Clash(message), Some("a rule to an uplink takes the priority before its own too".to_owned()));
                break;
            }
        }
    }
}

pub(super) fn show(out: &mut String, rule: &FreeRule) {
    let s = &rule.selector;
    out.push_str("\n[[rule]]\n");
    optional(out, "name", rule.name.as_deref().map(quoted));
    let family = match rule.families {
        Families::Both => "both",
        Families::Only(Family::V4) => "ipv4",
        Families::Only(Family::V6) => "ipv6",
    };
    line(out, "family", quoted(family));
    if s.not {
        line(out, "not", true);
    }
    let range = |first: u64, last: u64| if first == last { first.to_string() } else { quoted(&format!("{first}-{last}")) };
    optional(out, "from", s.from.as_ref().map(|prefix| quoted(&host(prefix))));
    optional(out, "to", s.to.as_ref().map(|prefix| quoted(&host(prefix))));
    optional(out, "iif", s.iif.as_ref().map(quoted));
    optional(out, "oif", s.oif.as_ref().map(quoted));
    optional(out, "fwmark", s.fwmark.map(|(mark, mask)| quoted(&format!("{mark}/{mask}"))));
    optional(out, "uid", s.uid.map(|(first, last)| range(first.into(), last.into())).or_else(|| rule.user.as_deref().map(quoted)));
    optional(out, "ipproto", s.ipproto);
    optional(out, "sport", s.sport.map(|(first, last)| range(first.into(), last.into())));
    optional(out, "dport", s.dport.map(|(first, last)| range(first.into(), last.into())));
    optional(out, "tos", Some(s.tos).filter(|tos| *tos != 0));
    optional(out, "dscp", s.dscp);
    optional(out, "tun_id", s.tun_id);
    optional(out, "l3mdev", Some(true).filter(|_| s.l3mdev));
    match &rule.action {
        FreeAction::Uplink(name) => line(out, "lookup", quoted(name)),
        FreeAction::Table(TableId(0)) => {}
        FreeAction::Table(table) => line(out, "lookup", table.0),
        FreeAction::Policy(name) => line(out, "policy", quoted(name)),
        FreeAction::Goto(to) => line(out, "goto", to.0),
        FreeAction::Unreachable => line(out, "action", quoted("unreachable")),
        FreeAction::Prohibit => line(out, "action", quoted("prohibit")),
        FreeAction::Blackhole => line(out, "action", quoted("blackhole")),
        FreeAction::Nop => line(out, "action", quoted("nop")),
    }
    if !rule.when.is_empty() {
        let mut all = String::new();
        for (name, condition) in &rule.when {
            let word = if *condition == Condition::Up { "up" } else { "down" };
            let _ = write!(all, "{}{} = {}", if all.is_empty() { "" } else { ", " }, quoted(name), quoted(word));
        }
        line(out, "when", format!("{{ {all} }}"));
    }
    optional(out, "priority", rule.priority.map(|priority| priority.0));
    optional(out, "suppress_prefixlength", rule.suppress_prefixlength);
    optional(out, "suppress_ifgroup", rule.suppress_ifgroup);
}
