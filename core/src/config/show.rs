//! The config as text again.

use std::fmt::{Display, Write};

use super::raw::AUTO_WORDS;
use super::{AutoAllow, Config, Jail, backends, blocklistd, conntrack, feeds, routing};
use crate::bans::backend::Backend;
use crate::bans::wall::{Ports, Refusal};
use crate::judge::policy::{Escalate, Policy, Spread};

/// The effective config as TOML, defaults included; [`Config::read`] makes the same [`Config`] of it.
pub fn show(config: &Config) -> String {
    let mut out = String::new();
    let ban = config.ban();
    let backend = ban.backend.map_or("auto", Backend::word);
    let action = match ban.refusal {
        Refusal::Drop => "drop",
        Refusal::Reject => "reject",
    };
    out.push_str("[ban]\n");
    line(&mut out, "backend", quoted(backend));
    line(&mut out, "action", quoted(action));
    line(&mut out, "manual_time", quoted(&ban.manual_time));
    policy(&mut out, &ban.policy);

    backends::show(&mut out, config.backends());
    let allow = config.allow();
    out.push_str("\n[allow]\n");
    line(&mut out, "prefixes", list(&allow.prefixes));
    line(&mut out, "names", list(&allow.names));
    line(&mut out, "auto", list(auto(allow.auto)));

    let limits = config.limits();
    out.push_str("\n[limits]\n");
    line(&mut out, "tracked_sources", limits.tracked_sources);
    line(&mut out, "bans", limits.bans);
    let whole = limits.line.is_multiple_of(1024);
    line(&mut out, "line", if whole { quoted(&format!("{}KiB", limits.line / 1024)) } else { limits.line.to_string() });

    for one in config.jails().values() {
        jail(&mut out, one);
    }
    feeds::show(&mut out, config.feeds());
    conntrack::show(&mut out, config.conntrack());
    blocklistd::show(&mut out, config.blocklistd());
    routing::show(&mut out, config.routing());
    routing::show_tunnels(&mut out, &config.routing);
    out
}

/// What of it is applied by `palisade route apply`: `[routing]`, `[uplink]`, `[policy]` and `[[rule]]`.
pub fn show_routing(config: &Config) -> String {
    let mut out = String::new();
    routing::show(&mut out, config.routing());
    out
}

fn jail(out: &mut String, jail: &Jail) {
    // A dot would begin a table within: such a name goes in quotes.
    let name = if jail.name.0.contains('.') { quoted(&jail.name) } else { jail.name.to_string() };
    let _ = write!(out, "\n[jail.{name}]\n");
    line(out, "enabled", jail.enabled);
    line(out, "signatures", list(&jail.signatures));
    if let Some(filter) = &jail.fail2ban {
        super::filter::show(out, filter);
    }
    line(out, "files", list(&jail.files));
    line(out, "journal", list(&jail.journal));
    let ports = match &jail.policy.ports {
        Ports::All => quoted("all"),
        Ports::Only(ports) => format!("{ports:?}"),
    };
    line(out, "ports", ports);
    if let Some(zone) = &jail.timezone {
        line(out, "timezone", quoted(zone));
    }
    line(out, "reports", jail.reports);
    policy(out, &jail.policy);
}

fn policy(out: &mut String, policy: &Policy) {
    line(out, "ban_time", quoted(&policy.ban_time));
    line(out, "find_time", quoted(&policy.find_time));
    line(out, "max_retry", policy.max_retry);
    let escalate = match &policy.escalate {
        Escalate::Factor { factor, max, forget } => {
            format!("{{ factor = {}, max = {}, forget = {} }}", factor.0, quoted(max), quoted(forget))
        }
        Escalate::Ladder { steps, within } => format!("{{ steps = {}, within = {} }}", list(steps), quoted(within)),
    };
    line(out, "escalate", escalate);
    line(out, "ipv4_prefix", policy.ipv4_prefix);
    line(out, "ipv6_prefix", policy.ipv6_prefix);
    line(out, "spread", spread(policy.spread));
    line(out, "kill_states", policy.kill_states);
    line(out, "forgive", policy.forgive);
}

fn spread(spread: Spread) -> String {
    let prefixes = [("ipv4", spread.ipv4), ("ipv6", spread.ipv6)];
    let mut parts: Vec<String> = prefixes.iter().filter_map(|(name, of)| of.map(|(len, _)| format!("{name} = {len}"))).collect();
    // The reader gives both families the same count.
    parts.extend(spread.ipv4.or(spread.ipv6).map(|(_, hosts)| format!("hosts = {hosts}")));
    if parts.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", parts.join(", ")) }
}

fn auto(auto: AutoAllow) -> Vec<&'static str> {
    let on = [auto.loopback, auto.own, auto.gateways, auto.resolvers, auto.admin_sessions];
    AUTO_WORDS.iter().zip(on).filter(|(_, on)| *on).map(|(word, _)| *word).collect()
}

pub(super) fn line(out: &mut String, key: &str, value: impl Display) {
    let _ = writeln!(out, "{key} = {value}");
}

pub(super) fn quoted(text: &(impl Display + ?Sized)) -> String {
    toml::Value::String(text.to_string()).to_string()
}

pub(super) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = items.into_iter().map(|item| quoted(&item)).collect();
    format!("[{}]", quoted.join(", "))
}
