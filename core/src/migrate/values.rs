//! fail2ban's times, ports and actions in our words.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::ini;
use crate::net::Prefix;
use crate::time::{Span, Term};

/// Units of a time, in milliseconds, by how they begin (fail2ban `server/mytime.py`, `_str2sec_parts`):
/// its month has 30.4375 days and its year 365.25.
const UNITS: [(&[&str], u64); 7] = [
    (&["s", "ss", "sec", "secs", "second", "seconds"], 1000),
    (&["m", "mm", "min", "mins", "minute", "minutes"], 60_000),
    (&["h", "hh", "hou", "hour", "hours"], 3_600_000),
    (&["d", "dd", "da", "day", "days"], 86_400_000),
    (&["w", "ww", "wee", "week", "weeks"], 7 * 86_400_000),
    (&["mo", "mon", "month", "months"], 2_629_800_000),
    (&["y", "yy", "yea", "year", "years"], 31_557_600_000),
];

/// `10m`, `1d 2h`, `3600`, `60*60`, `-1`: a sum of products. `None` for anything else that Python would evaluate.
pub(super) fn term(text: &str) -> Option<Term> {
    let text = uncommented(text).to_lowercase();
    if let Some(rest) = text.strip_prefix('-') {
        return rest.trim().parse::<f64>().is_ok().then_some(Term::Forever);
    }
    let mut total: u64 = 0;
    for sum in text.split('+') {
        total = total.saturating_add(product(sum)?);
    }
    (!text.is_empty()).then_some(Term::For(Span::millis(total)))
}

/// Without a comment: fail2ban has Python evaluate numbers, and to Python `#` begins one.
pub(super) fn uncommented(text: &str) -> &str {
    text.split('#').next().unwrap_or_default().trim()
}

/// The same where "for ever" makes no sense.
pub(super) fn span(text: &str) -> Option<Span> {
    match term(text)? {
        Term::For(span) => Some(span),
        Term::Forever => None,
    }
}

/// `60*60`: the first factor may have units, the others are numbers.
fn product(text: &str) -> Option<u64> {
    let mut factors = text.split('*');
    let mut total = units(factors.next()?)?;
    for factor in factors {
        total = total.saturating_mul(factor.trim().parse().ok()?);
    }
    Some(total)
}

/// `1d 2h30m`; a number without a unit is seconds.
fn units(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match rest.get(..letters)? {
            "" if rest.is_empty() => 1000,
            name => UNITS.iter().find(|(names, _)| names.contains(&name)).map(|(_, ms)| *ms)?,
        };
        rest = rest[letters..].trim_start();
        total = total.saturating_add(count.saturating_mul(unit));
    }
    Some(total)
}

/// `ssh`, `http,https`, `0:65535`, `6000:6007` as items of `ports`; `None`: all of them.
pub(super) fn ports(text: &str) -> Option<Vec<String>> {
    let mut items: Vec<String> = Vec::new();
    for item in text.split([',', ' ', '\n']).map(str::trim).filter(|item| !item.is_empty()) {
        if matches!(item, "0:65535" | "1:65535" | "0-65535" | "any" | "all" | "anyport") {
            return None;
        }
        // Names of one and the same port: the config wants each port once.
        let item = match item {
            "imap2" => "imap",
            "ssmtp" | "smtps" | "submissions" | "urd" => "465",
            item => item,
        };
        let item = item.parse::<u16>().map_or_else(|_| super::quoted(&item.replace(':', "-")), |port| port.to_string());
        if !items.contains(&item) {
            items.push(item);
        }
    }
    (!items.is_empty()).then_some(items)
}

/// Whether such an item is a range: `"6000-6007"`.
pub(super) fn is_range(item: &str) -> bool {
    let range = item.trim_matches('"').split_once('-').map(|(first, last)| (first.parse::<u16>(), last.parse::<u16>()));
    matches!(range, Some((Ok(first), Ok(last))) if first <= last)
}

/// The members of a list of addresses.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\n', '\t']).filter(|item| !item.is_empty())
}

/// What an action of fail2ban's is for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It blocks, in this firewall; whether all ports.
    Blocks(&'static str, bool),
    /// It blocks somewhere we do not.
    BlocksElsewhere,
    /// It tells somebody.
    Tells,
    /// Nobody knows.
    Unknown,
}

/// By its name: the actions that fail2ban ships (`config/action.d`).
pub(super) fn action(name: &str) -> Action {
    let all = name.ends_with("allports");
    let starts = |heads: &[&str]| heads.iter().any(|head| name.starts_with(head));
    if starts(&["iptables-ipset", "firewallcmd-ipset"]) {
        Action::Blocks("ipset", all)
    } else if starts(&["iptables"]) {
        Action::Blocks("iptables", all)
    } else if starts(&["nftables", "firewallcmd"]) {
        Action::Blocks("nftables", all)
    } else if name == "pf" {
        Action::Blocks("pf", all)
    } else if starts(&["ipfw", "bsd-ipfw"]) {
        Action::Blocks("ipfw", all)
    } else if name == "hostsdeny" {
        Action::Blocks("hosts", true)
    } else if name == "nginx-block-map" {
        Action::Blocks("nginx", true)
    } else if starts(&[
        "ufw",
        "shorewall",
        "apf",
        "csf",
        "route",
        "cloudflare",
        "npf",
        "ipfilter",
        "mikrotik",
        "netscaler",
        "osx",
        "symbiosis",
    ]) {
        Action::BlocksElsewhere
    } else if starts(&[
        "mail",
        "sendmail",
        "abuseipdb",
        "blocklist_de",
        "dshield",
        "complain",
        "mynetwatchman",
        "xarf",
        "apprise",
        "ipthreat",
        "smtp",
        "badips",
        // For trying things out: it writes to a file; and names for banned addresses.
        "dummy",
        "nsupdate",
    ]) {
        Action::Tells
    } else {
        Action::Unknown
    }
}

/// What an action shuts out of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// All there is on this host.
    All,
    /// These ports, as it is told.
    Ports(String),
    /// What its jail names.
    OfJail,
}

/// One action of a jail, with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) options: BTreeMap<String, String>,
}

impl Call {
    /// How far it reaches; `None` where it blocks nothing, or nobody knows (`config/action.d`: `allports` and what has no
    /// `port` of its own).
    pub(super) fn reach(&self) -> Option<Reach> {
        let option = |name: &str| self.options.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
        let all = match action(&self.name) {
            Action::Blocks("nginx", _) => return Some(Reach::OfJail),
            Action::Blocks(_, all) => {
                let wide = ["type", "actiontype"].iter().any(|name| option(name).is_some_and(|text| text.contains("allports")));
                all || wide || self.name == "bsd-ipfw" && option("port").is_none() || self.name.starts_with("iptables-xt_recent")
            }
            Action::BlocksElsewhere => ALL_ELSEWHERE.iter().any(|head| self.name.starts_with(head)) && option("application").is_none(),
            Action::Tells | Action::Unknown => return None,
        };
        Some(if all { Reach::All } else { option("port").map_or(Reach::OfJail, |ports| Reach::Ports(ports.to_owned())) })
    }
}

/// Actions that block on this host in other ways, and have no ports.
const ALL_ELSEWHERE: &[&str] = &["ufw", "shorewall", "apf", "csf", "route", "npf", "ipfilter", "osx-afctl", "symbiosis"];

/// The actions in a value of `action`: one a line, each with its options in brackets.
pub(super) fn actions(text: &str) -> Vec<Call> {
    let mut all = vec![String::new()];
    let (mut depth, mut quote) = (0u32, None);
    for c in text.chars() {
        match (c, quote) {
            (_, Some(q)) => quote = (c != q).then_some(q),
            ('"' | '\'', None) if depth > 0 => quote = Some(c),
            ('[', None) => depth += 1,
            (']', None) => depth = depth.saturating_sub(1),
            ('\n' | ' ' | '\t' | ',', None) if depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = all.last_mut() {
            last.push(c);
        }
    }
    let read = |text: &String| match ini::call(text) {
        Ok((name, options)) => Call { name, options: options.into_iter().collect() },
        // What its options are, nobody can say; its name can be read all the same.
        Err(_) => Call { name: text.split('[').next().unwrap_or_default().to_owned(), options: BTreeMap::new() },
    };
    all.iter().filter(|text| !text.is_empty()).map(read).filter(|call| !call.name.is_empty()).collect()
}

/// `192.0.2.0/24`, `192.0.2.0/255.255.255.0`, `2001:db8::1`.
pub(super) fn prefix(text: &str) -> Option<Prefix> {
    if let Ok(prefix) = text.parse() {
        return Some(prefix);
    }
    let (addr, mask) = text.split_once('/')?;
    let mask = u32::from(mask.parse::<Ipv4Addr>().ok()?);
    // Ones, then nothing but zeros.
    (mask.leading_ones() + mask.trailing_zeros() >= 32).then(|| format!("{addr}/{}", mask.leading_ones()).parse().ok())?
}
