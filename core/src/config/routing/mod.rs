//! `[routing]`, `[uplink.NAME]`, `[[rule]]`, `[policy.NAME]`, `[tunnel.NAME]`, `[budget.NAME]`.
//!
//! Each has its keys, its reader, its meaning and its writer in a file of its own; here is what goes together.

mod budget;
mod policy;
mod rule;
mod settings;
mod tunnel;
mod uplink;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use toml::de::DeTable;

use super::error::{At, Gather, Place, Problem};
use super::nearest::shown;
use super::raw::Raw;
use super::show::{line, quoted};
use super::values::{Reading, Value};
use super::walk::Key;
use super::words::{self, Wrong};
use crate::net::{Addr, Prefix};
use crate::route::tunnels::{Budget, Tunnel};
use crate::route::wanted::{priorities_needed, unmarkable};
use crate::route::{Spec, TableId};

pub(super) use budget::BUDGET_KEYS;
#[cfg(test)]
pub(super) use budget::{LIMIT_KEYS, LOCKOUT_KEYS};
pub(super) use policy::POLICY_KEYS;
#[cfg(test)]
pub(super) use policy::{FAILBACK_KEYS, FAILOVER_KEYS, MEMBER_KEYS};
pub(super) use rule::RULE_KEYS;
pub(super) use settings::SETTINGS_KEYS;
pub(super) use tunnel::TUNNEL_KEYS;
#[cfg(test)]
pub(super) use tunnel::{BACKOFF_KEYS, FATAL_KEYS, READY_KEYS};
pub(super) use uplink::UPLINK_KEYS;
#[cfg(test)]
pub(super) use uplink::{LINES_KEYS, TABLE_KEYS, TRACK_KEYS};

/// More of any of these are a generator's mistake, and more rules than a kernel walks for each packet in good time.
const MOST: usize = 4096;

/// Interface names are shorter than this (`IFNAMSIZ`, linux/if.h).
const INTERFACE_MAX: usize = 16;

/// What every host's own tables are called: an uplink of that name could not be told from them.
const KERNELS: &[&str] = &["main", "default", "local", "unspec"];

/// All that was typed of routing.
#[derive(Debug, Default)]
pub(super) struct RawRouting {
    settings: settings::RawSettings,
    uplinks: BTreeMap<String, uplink::RawUplink>,
    rules: Vec<rule::RawRule>,
    policies: BTreeMap<String, policy::RawPolicy>,
    tunnels: BTreeMap<String, tunnel::RawTunnel>,
    budgets: BTreeMap<String, budget::RawBudget>,
}

impl RawRouting {
    /// Adds a later file: tables merge by name, keys of the later one win; rules are added behind the earlier ones.
    pub(super) fn merge(&mut self, later: Self) {
        self.settings.merge(later.settings);
        self.rules.extend(later.rules);
        for (name, uplink) in later.uplinks {
            self.uplinks.entry(name).or_default().merge(uplink);
        }
        for (name, policy) in later.policies {
            self.policies.entry(name).or_default().merge(policy);
        }
        for (name, tunnel) in later.tunnels {
            self.tunnels.entry(name).or_default().merge(tunnel);
        }
        for (name, budget) in later.budgets {
            self.budgets.entry(name).or_default().merge(budget);
        }
    }
}

/// What of the config is about routing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Routing {
    pub(super) spec: Spec,
    pub(super) tunnels: BTreeMap<Arc<str>, Tunnel>,
    pub(super) budgets: BTreeMap<Arc<str>, Budget>,
}

impl Reading<'_> {
    /// Reads one of the tables of routing; whether it was one.
    pub(super) fn routing(&mut self, key: &Key<'_>, value: &Value<'_>, raw: &mut Raw) -> bool {
        let routing = &mut raw.routing;
        match &**key.get_ref() {
            "routing" => {
                if let Some(table) = self.table("routing", value, "a table, written [routing]") {
                    routing.settings = self.settings(table);
                }
            }
            "uplink" => routing.uplinks = self.named("uplink", value, Self::uplink),
            "policy" => routing.policies = self.named("policy", value, Self::routing_policy),
            "tunnel" => routing.tunnels = self.named("tunnel", value, Self::tunnel),
            "budget" => routing.budgets = self.named("budget", value, Self::budget),
            "rule" => routing.rules = self.rules(value),
            _ => return false,
        }
        true
    }

    /// A table of tables, each with a name of its own.
    fn named<T>(
        &mut self,
        what: &str,
        value: &Value<'_>,
        mut read: impl FnMut(&mut Self, &Key<'_>, &DeTable<'_>) -> T,
    ) -> BTreeMap<String, T> {
        let mut all = BTreeMap::new();
        let Some(table) = self.table(what, value, &format!("a table of tables, each written [{what}.NAME]")) else { return all };
        if table.len() > MOST {
            let message = format!("{} tables [{what}.NAME] are more than the {MOST} that are read", table.len());
            self.tell(&value.span(), Problem::TooLarge(message), None);
            return all;
        }
        for (key, value) in table {
            let name: &str = key.get_ref();
            let Some(table) = value.get_ref().as_table() else {
                self.unknown(key, &format!("in [{what}]"), &[]);
                continue;
            };
            if is_name(name) && !(what == "uplink" && KERNELS.contains(&name)) {
                let one = read(self, key, table);
                all.insert(name.to_owned(), one);
            } else {
                let message = format!(
                    "`{}` cannot be the name of a {what}: a letter or digit, then a-z, 0-9, `.`, `_` and `-`, 64 at most, and no number or table of the kernel's own",
                    shown(name)
                );
                let lower = name.to_lowercase();
                let hint = (lower != name && is_name(&lower)).then(|| format!("did you mean `{lower}`?"));
                self.tell(&key.span(), Problem::Value(message), hint);
            }
        }
        all
    }

    /// A list of `program, argument, ...`.
    fn program(&mut self, key: &str, value: &Value<'_>) -> Option<At<Vec<String>>> {
        const SHAPE: &str = "a list of a program and its arguments, like [\"aiccu\", \"start\"]";
        let array = value.get_ref().as_array().or_else(|| self.wrong_type(key, value, SHAPE))?;
        let mut words = Vec::with_capacity(array.len());
        for element in array {
            let text = self.text(key, element, SHAPE)?;
            if text.contains('\0') || (words.is_empty() && text.is_empty()) {
                self.tell(&element.span(), Problem::Value(format!("`{}` can be no word of a command", shown(text))), None);
                return None;
            }
            if words.is_empty() && text.contains('/') && !text.starts_with('/') {
                let message =
                    format!("`{}` is no program: write its whole path, or its name alone to have it looked up in PATH", shown(text));
                self.tell(&element.span(), Problem::Value(message), None);
                return None;
            }
            words.push(text.to_owned());
        }
        if words.is_empty() || words.len() > 256 {
            self.tell(&value.span(), Problem::Value(format!("`{key}` needs a program, and at most 255 arguments")), None);
            return None;
        }
        Some(At { value: words, at: self.place(&value.span()) })
    }

    /// A whole number, written in decimal or as a text like "0x10".
    fn hex(&mut self, key: &str, value: &Value<'_>) -> Option<At<u32>> {
        if value.get_ref().is_integer() {
            return self.number(key, value, super::values::Bounds { low: 0, high: u32::MAX.into(), why: "it has 32 bits" });
        }
        let read =
            |text: &str| hex(text).ok_or_else(|| (format!("`{}` is no number of 32 bits: write it like 0x7f000000", shown(text)), None));
        self.parsed(key, value, read).map(|number| At { value: number, at: self.place(&value.span()) })
    }

    fn at_of<T>(&self, value: &Value<'_>, typed: Option<T>) -> Option<At<T>> {
        typed.map(|typed| At { value: typed, at: self.place(&value.span()) })
    }
}

fn hex(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None => text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten(),
    }
}

/// Names are names of files, tables and counters too; what `lookup` takes for a table's number is none.
fn is_name(text: &str) -> bool {
    words::is_jail_name(text) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && hex(text).is_none()
}

/// What a host can have as a source.
fn source(text: &str) -> Result<Prefix, Wrong> {
    let prefix = prefix(text)?;
    let ip = prefix.addr().ip();
    let broadcast = prefix.addr().octets().iter().all(|octet| *octet == u8::MAX);
    let why = if prefix.len() == 0 {
        "is everyone's source: no uplink owns that"
    } else if ip.is_unspecified() || broadcast {
        "is no host's address"
    } else if ip.is_loopback() {
        "never leaves this host"
    } else if ip.is_multicast() {
        "is for groups, and no packet's source"
    } else {
        return Ok(prefix);
    };
    Err((format!("`{}` {why}", shown(text)), None))
}

fn interface(text: &str) -> Result<String, Wrong> {
    let good = !text.is_empty()
        && text.len() < INTERFACE_MAX
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
    if good {
        Ok(text.to_owned())
    } else {
        Err((format!("`{}` cannot be an interface's name: 1 to 15 characters without `/`, `:` and blanks", shown(text)), None))
    }
}

fn addr(text: &str) -> Result<Addr, Wrong> {
    text.parse().map_err(|error| (format!("`{}`: {error}", shown(text)), None))
}

/// A prefix, or an address alone.
fn prefix(text: &str) -> Result<Prefix, Wrong> {
    text.parse().map_err(|error| (format!("`{}`: {error}", shown(text)), None))
}

/// The first of what was typed, or the default.
fn or<T>(typed: Option<At<T>>, default: T) -> T {
    typed.map_or(default, |typed| typed.value)
}

fn place<T>(typed: Option<&At<T>>, at: Place) -> Place {
    typed.map_or(at, |typed| typed.at)
}

/// What was typed becomes what is meant; of what is applied, which is not the `whole` config, the tunnels are not there. Here is told what is missing and what does not go together.
pub(super) fn mean(raw: RawRouting, whole: bool, errors: &mut Gather) -> Routing {
    for (what, count, at) in [
        ("uplinks", raw.uplinks.len(), raw.uplinks.values().last().map(|last| last.at)),
        ("policies", raw.policies.len(), raw.policies.values().last().map(|last| last.at)),
        ("rules", raw.rules.len(), raw.rules.last().map(|last| last.at)),
        ("tunnels", raw.tunnels.len(), raw.tunnels.values().last().map(|last| last.at)),
        ("budgets", raw.budgets.len(), raw.budgets.values().last().map(|last| last.at)),
    ] {
        if count > MOST {
            errors.tell(
                at.unwrap_or_default(),
                Problem::TooLarge(format!("{count} {what} in all files are more than the {MOST} that are read")),
                None,
            );
            return Routing::default();
        }
    }
    let at = raw.settings.at;
    let places: BTreeMap<String, Place> = raw.uplinks.iter().map(|(name, uplink)| (name.clone(), uplink.at)).collect();
    let tunnels: Option<BTreeSet<String>> = whole.then(|| raw.tunnels.keys().cloned().collect());
    let mut spec = Spec { settings: settings::mean(raw.settings, errors), ..Spec::default() };
    let mut taken = Taken::default();
    spec.uplinks = uplink::mean(raw.uplinks, tunnels.as_ref(), &mut taken, errors);
    spec.policies = policy::mean(raw.policies, &spec, &mut taken, errors);
    let (places_of, rules) = raw.rules.into_iter().filter_map(|rule| Some((rule.priority_at(), rule::mean(rule, &spec, errors)?))).unzip();
    spec.rules = rules;
    rule::places(&spec, places_of, errors);
    fits(&spec, at, &places, errors);
    let budgets = budget::mean(raw.budgets, errors);
    let tunnels = tunnel::mean(raw.tunnels, &spec, &budgets, errors);
    Routing { spec, tunnels, budgets }
}

/// Whether priorities and marks are enough.
fn fits(spec: &Spec, at: Place, places: &BTreeMap<String, Place>, errors: &mut Gather) {
    let (needed, settings) = (priorities_needed(spec), &spec.settings);
    if needed > settings.priority_range && !spec.is_empty() {
        let message =
            format!("these uplinks, rules and policies need {needed} priorities, and `priority_range` is {}", settings.priority_range);
        errors.tell(
            at,
            Problem::Clash(message),
            Some(format!("write `priority_range = {needed}` in [routing], and a `priority_base` with room for them")),
        );
    }
    if let Some(uplink) = unmarkable(spec).next() {
        let message = format!(
            "`mark_mask` = {} has no mark left for uplink `{}`: of its bits one tells connections from probes, the others count uplinks",
            settings.mark_mask, uplink.name
        );
        let hint = "write a wider `mark_mask` in [routing], or take `track` and policies from some uplinks";
        errors.tell(places.get(&*uplink.name).copied().unwrap_or(at), Problem::Clash(message), Some(hint.to_owned()));
    }
}

/// Tables that have an owner, by number and by name.
#[derive(Debug, Default)]
struct Taken {
    ids: BTreeMap<TableId, String>,
    names: BTreeMap<String, String>,
}

impl Taken {
    /// Claims a table. An error is who has it already.
    fn claim(&mut self, id: TableId, name: &str, owner: &str) -> Result<(), String> {
        if let Some(other) = self.ids.get(&id).or_else(|| self.names.get(name)) {
            return Err(other.clone());
        }
        self.ids.insert(id, owner.to_owned());
        self.names.insert(name.to_owned(), owner.to_owned());
        Ok(())
    }

    /// A number for a table of that name: always the same one, whichever other uplinks there are, unless two names fall
    /// on the same.
    fn choose(&self, name: &str) -> TableId {
        /// Where nobody else's are by custom: distributions number by hand below 1000, wg-quick from 51820, VRFs by their users.
        const FIRST: u32 = 20_000;
        const COUNT: u32 = 10_000;
        // FNV-1a, 32 bits: http://www.isthe.com/chongo/tech/comp/fnv/
        let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let ids = (0..COUNT).map(|step| TableId(FIRST + (hash % COUNT + step) % COUNT));
        ids.into_iter().find(|id| !self.ids.contains_key(id)).unwrap_or(TableId(FIRST))
    }
}

/// The sections as TOML again: those that are applied.
pub(super) fn show(out: &mut String, spec: &Spec) {
    settings::show(out, &spec.settings);
    spec.uplinks.iter().for_each(|uplink| uplink::show(out, uplink));
    spec.policies.iter().for_each(|policy| policy::show(out, policy));
    spec.rules.iter().for_each(|rule| rule::show(out, rule));
}

/// The sections of tunnels and budgets.
pub(super) fn show_tunnels(out: &mut String, routing: &Routing) {
    routing.tunnels.values().for_each(|one| tunnel::show(out, one));
    routing.budgets.values().for_each(|one| budget::show(out, one));
}

/// `[WHAT.NAME]`, the name in quotes where it has a dot.
fn head(out: &mut String, what: &str, name: &str) {
    let name = if name.contains('.') { quoted(name) } else { name.to_owned() };
    let _ = write!(out, "\n[{what}.{name}]\n");
}

fn optional(out: &mut String, key: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        line(out, key, value);
    }
}

fn host(prefix: &Prefix) -> String {
    if prefix.is_host() { prefix.addr().to_string() } else { prefix.to_string() }
}
