//! Answers in the shapes of fail2ban's client (`client/beautifier.py` of 1.0.2): trees with tabs, and
//! what Python prints of its lists.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::tz::TimeZone;
use palisade_core::attack::JailName;
use palisade_core::bans::ban::Ban;
use palisade_core::config::{Config, Jail, Reads};
use palisade_core::control::Tally;
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp, Term, Until};
use palisade_os::logs::journal;

/// A prefix as fail2ban shows it: a host is its address alone.
pub(super) fn shown(prefix: Prefix) -> String {
    if prefix == Prefix::host(prefix.addr()) { prefix.addr().to_string() } else { prefix.to_string() }
}

/// What Python prints of a list of texts.
pub(super) fn list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("'{item}'")).collect();
    format!("[{}]", quoted.join(", "))
}

/// `fail2ban-client status`.
pub(super) fn jails(names: &[&str]) -> String {
    format!("Status\n|- Number of jail:\t{}\n`- Jail list:\t{}", names.len(), names.join(", "))
}

/// `fail2ban-client status JAIL`; `long` lists the addresses.
pub(super) fn status(jail: &Jail, tally: &Tally, bans: &[Ban], long: bool) -> String {
    let source = match jail.reads(journal::available()) {
        Reads::Journal(matches) => format!("Journal matches:\t{}", matches.join(" + ")),
        Reads::Files(files) => format!("File list:\t{}", files.join(" ")),
        Reads::Nothing => "File list:\t".to_owned(),
    };
    // Those that stood when the daemon started count, as there. A daemon of before an upgrade does not tell them.
    let total = tally.bans.saturating_add(tally.restored).max(bans.len() as u64);
    let mut out = format!(
        "Status for the jail: {}\n|- Filter\n|  |- Currently failed:\t{}\n|  |- Total failed:\t{}\n|  `- {source}\n`- Actions\n   |- Currently banned:\t{}\n",
        jail.name,
        tally.failing,
        tally.failures,
        bans.len()
    );
    if long {
        let _ = write!(out, "   |- Total banned:\t{total}\n   `- Banned IP list:\t{}", joined(bans, " "));
    } else {
        let _ = write!(out, "   `- Total banned:\t{total}");
    }
    out
}

/// `fail2ban-client banned`.
pub(super) fn by_jail(bans: &BTreeMap<JailName, Vec<Prefix>>) -> String {
    let one = |(name, prefixes): (&JailName, &Vec<Prefix>)| {
        let shown: Vec<String> = prefixes.iter().map(|prefix| shown(*prefix)).collect();
        format!("{{'{name}': {}}}", list(&shown))
    };
    format!("[{}]", bans.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// `fail2ban-client banned IP...`: each one's jails.
pub(super) fn jails_of(found: &[Vec<JailName>]) -> String {
    let each: Vec<String> = found.iter().map(|jails| list(&jails.iter().map(|name| name.0.to_string()).collect::<Vec<_>>())).collect();
    format!("[{}]", each.join(", "))
}

/// The addresses with something between them.
pub(super) fn joined(bans: &[Ban], separator: &str) -> String {
    bans.iter().map(|ban| shown(ban.key.prefix)).collect::<Vec<_>>().join(separator)
}

/// `get JAIL banip --with-time`: `192.0.2.7 \t2026-11-22 17:00:00 + 600 = 2026-11-22 17:10:00`, local
/// time; a ban for ever has a length of -1 and ends in the year 9999.
pub(super) fn with_time(bans: &[Ban], zone: &TimeZone) -> String {
    let line = |ban: &Ban| {
        let (length, end) = match ban.until {
            Until::At(at) => (at.since(ban.since).as_secs_ceil().to_string(), local(at, zone)),
            Until::Forever => ("-1".to_owned(), "9999-12-31 23:59:59".to_owned()),
        };
        format!("{} \t{} + {length} = {end}", shown(ban.key.prefix), local(ban.since, zone))
    };
    bans.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn local(at: Stamp, zone: &TimeZone) -> String {
    let Ok(at) = jiff::Timestamp::from_millisecond(at.0) else { return "9999-12-31 23:59:59".to_owned() };
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `get JAIL SETTING`; `None` for what is not known.
pub(super) fn setting(jail: &Jail, config: &Config, what: &str) -> Option<String> {
    let seconds = |span: Span| span.as_secs_ceil().to_string();
    Some(match what {
        "bantime" => match jail.policy.ban_time {
            Term::For(span) => seconds(span),
            Term::Forever => "-1".to_owned(),
        },
        "findtime" => seconds(jail.policy.find_time),
        "maxretry" => jail.policy.max_retry.to_string(),
        "logpath" => tree("Current monitored log file(s):", "No file is currently monitored", &jail.files),
        "journalmatch" if jail.journal.is_empty() => "No journal match filter set".to_owned(),
        "journalmatch" => format!("Current match filter:\n{}", jail.journal.join(" + ")),
        "ignoreip" => {
            let prefixes: Vec<String> = config.allow().prefixes.iter().map(|prefix| shown(*prefix)).collect();
            tree("These IP addresses/networks are ignored:", "No IP address/network is ignored", &prefixes)
        }
        _ => return None,
    })
}

/// A heading and its branches, the last with a corner.
fn tree(heading: &str, none: &str, items: &[String]) -> String {
    let Some((last, rest)) = items.split_last() else { return none.to_owned() };
    let mut out = heading.to_owned();
    rest.iter().for_each(|item| {
        let _ = write!(out, "\n|- {item}");
    });
    let _ = write!(out, "\n`- {last}");
    out
}
