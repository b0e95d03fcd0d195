//! fail2ban's times, ports and actions in our words.

use std::collections::BTreeSet;

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
    ]) {
        Action::Tells
    } else {
        Action::Unknown
    }
}

/// The names of the actions in a value of `action`: one a line, each with its options in brackets.
pub(super) fn action_names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut depth, mut quote, mut name) = (0u32, None, String::new());
    for c in text.chars() {
        match (c, quote) {
            (_, Some(q)) => quote = (c != q).then_some(q),
            ('"' | '\'', None) if depth > 0 => quote = Some(c),
            ('[', None) => depth += 1,
            (']', None) => depth = depth.saturating_sub(1),
            ('\n' | ' ' | '\t' | ',', None) if depth == 0 => drop(names.insert(std::mem::take(&mut name))),
            _ if depth == 0 => name.push(c),
            _ => {}
        }
    }
    names.insert(name);
    names.remove("");
    names
}
