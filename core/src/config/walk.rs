//! One file's TOML, walked by hand: every key is taken or told of, so that one run shows all that
//! is wrong, each with the bytes it stands on.

use toml::Spanned;
use toml::de::{DeString, DeTable};

use super::AutoAllow;
use super::blocklistd::BLOCKLISTD_KEYS;
use super::conntrack::{CONNTRACK_KEYS, SERVICE_KEYS};
use super::error::{At, Gather, Place, Problem};
use super::feeds::FEED_KEYS;
use super::nearest::{hint, key_hint, shown};
use super::raw::{
    ACTIONS, ALLOW_KEYS, AUTO_WORDS, BACKENDS, BAN_KEYS, ESCALATE_KEYS, JAIL_KEYS, LIMITS_KEYS, POLICY_KEYS, Raw, RawAllow, RawBan,
    RawEscalate, RawJail, RawLimits, RawPolicy, SPREAD_KEYS, TABLES,
};
use super::routing::{self, BUDGET_KEYS, RULE_KEYS, SETTINGS_KEYS, TUNNEL_KEYS, UPLINK_KEYS};
use super::values::{Bounds, Reading, TimeBounds, Value};
use super::words::{self, Wrong};
use crate::bans::backend::Backend;
use crate::bans::wall::{Ports, Refusal};
use crate::judge::policy::{Escalate, Policy, Spread, f64Eq};
use crate::net::{NetError, Prefix};
use crate::time::{Span, Term};

/// Larger files are refused: ten thousand jails fit in, and no mistaken path can fill the memory.
pub(super) const FILE_MAX: usize = 4 * 1024 * 1024;

/// All syntax errors are looked for up to this size, above it the first one only: each costs memory.
const RECOVER_MAX: usize = 64 * 1024;

/// More jails than this are a generator's mistake.
pub(super) const JAILS_MAX: usize = 10_000;

/// How many entries lists may have. Prefixes: what one nft transaction takes. Names: each is asked
/// for every 5 minutes. The others: far above what anyone writes by hand.
const PREFIXES_MAX: usize = 65_536;
const NAMES_MAX: usize = 256;
const LIST_MAX: usize = 1024;

const DAY: u64 = 86_400;
const YEAR: Span = Span::secs(365 * DAY);
const CENTURY: Span = Span::secs(36_500 * DAY);

pub(crate) const BAN: TimeBounds =
    TimeBounds { low: Span::secs(1), high: CENTURY, permanent: true, why: "the wall's timer counts seconds, and longer is `permanent`" };
pub(crate) const FIND_TIME: TimeBounds = TimeBounds {
    low: Span::secs(1),
    high: YEAR,
    permanent: false,
    why: "log lines are timed to the second, and every failure in the window is kept in memory",
};
const MEMORY: TimeBounds =
    TimeBounds { low: Span::secs(1), high: CENTURY, permanent: false, why: "this is how long past bans are remembered" };
pub(crate) const MAX_RETRY: Bounds = Bounds { low: 1, high: 1000, why: "so many failures are kept for each source" };
pub(crate) const IPV4_PREFIX: Bounds = Bounds { low: 8, high: 32, why: "a wider ban would shut out a large part of the Internet" };
pub(crate) const IPV6_PREFIX: Bounds = Bounds { low: 16, high: 128, why: "a wider ban would shut out a large part of the Internet" };
pub(crate) const FACTOR: Bounds = Bounds { low: 1, high: 1000, why: "bans cannot shrink, and 1000 reaches any `max` at once" };
const HOSTS: Bounds = Bounds { low: 2, high: 65_535, why: "one banned host says nothing of its neighbours" };
const SOURCES: Bounds = Bounds { low: 1, high: 16_777_216, why: "each tracked source takes memory" };
const BANS: Bounds = Bounds { low: 1, high: 16_777_216, why: "each ban takes memory here and in the kernel" };
const LINE: Bounds = Bounds { low: 256, high: 1024 * 1024, why: "log lines fit in, and a longer one costs memory for each source" };

/// How many banned hosts `spread` needs where it does not say.
const HOSTS_DEFAULT: u32 = 4;

/// Where keys belong that were written elsewhere.
const HOMES: [(&str, &[&str]); 15] = [
    ("[ban]", POLICY_KEYS),
    ("[ban]", BAN_KEYS),
    ("[allow]", ALLOW_KEYS),
    ("[limits]", LIMITS_KEYS),
    ("[jail.NAME]", JAIL_KEYS),
    ("[feed.NAME]", FEED_KEYS),
    ("[routing]", SETTINGS_KEYS),
    ("[uplink.NAME]", UPLINK_KEYS),
    ("[policy.NAME]", routing::POLICY_KEYS),
    ("[tunnel.NAME]", TUNNEL_KEYS),
    ("[budget.NAME]", BUDGET_KEYS),
    ("[[rule]]", RULE_KEYS),
    ("[conntrack]", CONNTRACK_KEYS),
    ("[blocklistd]", BLOCKLISTD_KEYS),
    ("[conntrack.service.NAME]", SERVICE_KEYS),
];

pub(super) type Key<'t> = Spanned<DeString<'t>>;

/// Reads the file with this index. Of a file that is no TOML only that is told.
pub(super) fn file(index: usize, text: &str, signatures: &[&str], errors: &mut Gather) -> Raw {
    let mut reading = Reading { file: index, signatures, errors };
    if text.len() > FILE_MAX {
        let message = format!("the file has {} bytes; a config has at most {FILE_MAX}", text.len());
        reading.tell(&(0..0), Problem::TooLarge(message), None);
        return Raw::default();
    }
    let (document, wrong) = if text.len() <= RECOVER_MAX {
        DeTable::parse_recoverable(text)
    } else {
        DeTable::parse(text).map_or_else(|error| (Spanned::new(0..0, DeTable::new()), vec![error]), |document| (document, Vec::new()))
    };
    if wrong.is_empty() {
        return reading.document(document.get_ref());
    }
    for error in wrong {
        let span = error.span().unwrap_or(0..0);
        reading.tell(&span, Problem::Syntax(shown_message(error.message())), None);
    }
    Raw::default()
}

/// The TOML reader's words, on one line.
fn shown_message(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl Reading<'_> {
    fn document(&mut self, document: &DeTable<'_>) -> Raw {
        let mut raw = Raw::default();
        for (key, value) in document {
            match &**key.get_ref() {
                "ban" => raw.ban = self.section(key, value).map(|table| self.ban(table)).unwrap_or_default(),
                "backend" => {
                    if let Some(table) = self.section(key, value) {
                        self.backends(table, &mut raw);
                    }
                }
                "allow" => raw.allow = self.section(key, value).map(|table| self.allow(table)).unwrap_or_default(),
                "limits" => raw.limits = self.section(key, value).map(|table| self.limits(table)).unwrap_or_default(),
                "jail" => self.jails(value, &mut raw),
                "feed" => self.feeds(value, &mut raw),
                "conntrack" => raw.conntrack = self.section(key, value).map(|table| self.conntrack(table)).unwrap_or_default(),
                "blocklistd" => raw.blocklistd = self.section(key, value).map(|table| self.blocklistd(table)).unwrap_or_default(),
                _ if self.routing(key, value, &mut raw) => {}
                _ => self.unknown_at_top(key, value),
            }
        }
        raw
    }

    fn section<'v, 't>(&mut self, key: &Key<'_>, value: &'v Value<'t>) -> Option<&'v DeTable<'t>> {
        let name = key.get_ref();
        self.table(name, value, &format!("a table, written [{name}]"))
    }

    fn unknown_at_top(&mut self, key: &Key<'_>, value: &Value<'_>) {
        let name = key.get_ref();
        if value.get_ref().is_table() || value.get_ref().is_array() {
            let hint = super::nearest::nearest(name, TABLES).map(|table| format!("did you mean [{table}]?"));
            self.tell(&key.span(), Problem::UnknownTable(shown(name)), hint);
        } else {
            self.unknown(key, "outside any table", TABLES);
        }
    }

    /// Tells of a key that is not one of this table's; says where it belongs if it is another's.
    pub(super) fn unknown(&mut self, key: &Key<'_>, table: &str, known: &[&str]) {
        let typed: &str = key.get_ref();
        self.errors.tell_with(self.place(&key.span()), || {
            let home = HOMES.iter().find(|(_, keys)| keys.contains(&typed)).map(|(home, _)| format!("it belongs in {home}"));
            let hint = home.or_else(|| key_hint(typed, known));
            (Problem::UnknownKey { key: shown(typed), table: table.to_owned() }, hint)
        });
    }

    fn ban(&mut self, table: &DeTable<'_>) -> RawBan {
        let mut raw = RawBan::default();
        for (key, value) in table {
            let name: &str = key.get_ref();
            match name {
                "backend" => {
                    raw.backend = self.word(name, value, BACKENDS, &[]).map(|word| word.map(Backend::of_word));
                }
                "manual_time" => raw.manual_time = self.term(name, value, BAN),
                "action" => raw.action = self.word(name, value, ACTIONS, &[]).map(|word| word.map(refusal)),
                _ if POLICY_KEYS.contains(&name) => self.policy(name, value, "[ban", &mut raw.policy),
                _ => self.unknown(key, "in [ban]", &[POLICY_KEYS, BAN_KEYS].concat()),
            }
        }
        raw
    }

    /// Reads one of [`POLICY_KEYS`]; `table` is the table's name without its `]`.
    fn policy(&mut self, name: &str, value: &Value<'_>, table: &str, raw: &mut RawPolicy) {
        match name {
            "ban_time" => raw.ban_time = self.term(name, value, BAN),
            "find_time" => raw.find_time = self.span(name, value, FIND_TIME),
            "max_retry" => raw.max_retry = self.number(name, value, MAX_RETRY),
            "ipv4_prefix" => raw.ipv4_prefix = self.number(name, value, IPV4_PREFIX),
            "ipv6_prefix" => raw.ipv6_prefix = self.number(name, value, IPV6_PREFIX),
            "kill_states" => raw.kill_states = self.boolean(name, value),
            "forgive" => raw.forgive = self.boolean(name, value),
            "escalate" => raw.escalate = self.escalate(value, table),
            _ => raw.spread = self.spread(value, table),
        }
    }

    /// `{ factor, max, forget }` or `{ steps, within }`.
    fn escalate(&mut self, value: &Value<'_>, table: &str) -> Option<At<RawEscalate>> {
        let fields = self.table("escalate", value, "a table like { factor = 2, max = \"1w\", forget = \"30d\" }")?;
        let at = self.place(&value.span());
        let (mut factor, mut max, mut forget, mut steps, mut within) = (None, None, None, None, None);
        for (key, value) in fields {
            let name: &str = key.get_ref();
            match name {
                "factor" => factor = self.fraction(name, value, FACTOR),
                "max" => max = self.term(name, value, BAN),
                "forget" => forget = self.span(name, value, MEMORY),
                "steps" => steps = self.steps(value),
                "within" => within = self.span(name, value, MEMORY),
                _ => self.unknown(key, &format!("in {table}.escalate]"), ESCALATE_KEYS),
            }
        }
        let typed = |names: &[&str]| names.iter().any(|name| fields.contains_key(*name));
        let (by_factor, by_steps) = (typed(&["factor", "max", "forget"]), typed(&["steps", "within"]));
        if by_factor && by_steps {
            let message = "`escalate` grows either by `factor`, `max` and `forget` or by `steps` and `within`, not by both";
            self.errors.tell(at, Problem::Clash(message.to_owned()), None);
            return None;
        }
        if by_steps {
            return self.ladder(fields, at, steps, within.map(|span| span.value));
        }
        let mut value = Policy::default().escalate;
        if let Escalate::Factor { factor: f, max: m, forget: o } = &mut value {
            *f = factor.map_or(*f, f64Eq);
            *m = max.as_ref().map_or(*m, |max| max.value);
            *o = forget.map_or(*o, |span| span.value);
        }
        Some(At { value: RawEscalate { value, max: max.map(|max| max.at) }, at })
    }

    fn ladder(&mut self, fields: &DeTable<'_>, at: Place, steps: Option<Vec<Term>>, within: Option<Span>) -> Option<At<RawEscalate>> {
        for (name, example) in [("steps", "[\"5m\", \"1w\"]"), ("within", "\"24h\"")] {
            if !fields.contains_key(name) {
                self.errors.tell(at, Problem::Missing(format!("a ladder of bans needs `{name}`, like {example}")), None);
            }
        }
        let value = Escalate::Ladder { steps: steps?, within: within? };
        Some(At { value: RawEscalate { value, max: None }, at })
    }

    /// The ladder's steps: at least one; equal ones are fine, shorter ones after longer ones are not.
    fn steps(&mut self, value: &Value<'_>) -> Option<Vec<Term>> {
        let Some(array) = value.get_ref().as_array() else {
            return self.wrong_type("steps", value, "a list of durations like [\"5m\", \"1w\"]");
        };
        if array.is_empty() || array.len() > LIST_MAX {
            let range = format!("1 to {LIST_MAX} durations");
            let got = format!("a list of {}", array.len());
            self.tell(&value.span(), Problem::Range { key: "steps".into(), got, range, why: "each ban takes one step" }, None);
            return None;
        }
        let mut steps = Vec::with_capacity(array.len());
        for element in array {
            let step = self.term("steps", element, BAN)?.value;
            if steps.last().is_some_and(|last| *last > step) {
                let message = "a later step cannot be shorter than the one before it".to_owned();
                self.tell(&element.span(), Problem::Clash(message), None);
                return None;
            }
            steps.push(step);
        }
        Some(steps)
    }

    /// `{ ipv4 = 24, ipv6 = 48, hosts = 4 }`; `{}` is off.
    fn spread(&mut self, value: &Value<'_>, table: &str) -> Option<At<Spread>> {
        let fields = self.table("spread", value, "a table like { ipv4 = 24, ipv6 = 48, hosts = 4 }")?;
        let (mut ipv4, mut ipv6, mut hosts) = (None, None, None);
        for (key, value) in fields {
            let name: &str = key.get_ref();
            match name {
                "ipv4" => ipv4 = self.number::<u8>(name, value, IPV4_PREFIX),
                "ipv6" => ipv6 = self.number::<u8>(name, value, IPV6_PREFIX),
                "hosts" => hosts = self.number::<u32>(name, value, HOSTS),
                _ => self.unknown(key, &format!("in {table}.spread]"), SPREAD_KEYS),
            }
        }
        let at = self.place(&value.span());
        if fields.contains_key("hosts") && !fields.contains_key("ipv4") && !fields.contains_key("ipv6") {
            let message = "`spread` has `hosts` but neither `ipv4` nor `ipv6`: hosts within what?".to_owned();
            self.errors.tell(at, Problem::Missing(message), Some("write it like { ipv4 = 24, hosts = 4 }".to_owned()));
        }
        let hosts = hosts.map_or(HOSTS_DEFAULT, |hosts| hosts.value);
        let wider = |len: Option<At<u8>>| len.map(|len| (len.value, hosts));
        Some(At { value: Spread { ipv4: wider(ipv4), ipv6: wider(ipv6) }, at })
    }

    fn allow(&mut self, table: &DeTable<'_>) -> RawAllow {
        let mut raw = RawAllow::default();
        for (key, value) in table {
            let name: &str = key.get_ref();
            match name {
                "prefixes" => {
                    raw.prefixes = self.texts(name, value, ("a list of texts like \"198.51.100.0/24\"", PREFIXES_MAX), allowed_prefix);
                }
                "names" => raw.names = self.texts(name, value, ("a list of host names", NAMES_MAX), words::host_name),
                "auto" => raw.auto = self.auto(name, value),
                _ => self.unknown(key, "in [allow]", ALLOW_KEYS),
            }
        }
        raw
    }

    fn auto(&mut self, name: &str, value: &Value<'_>) -> Option<At<AutoAllow>> {
        let want = format!("a list of {}", AUTO_WORDS.join(", "));
        let words = self.list(name, value, (&want, AUTO_WORDS.len()), |reading, element| {
            reading.word(name, element, AUTO_WORDS, &[]).map(|word| word.value)
        })?;
        let has = |word| words.value.contains(&word);
        let auto = AutoAllow {
            loopback: has("loopback"),
            own: has("self"),
            gateways: has("gateways"),
            resolvers: has("resolvers"),
            admin_sessions: has("admin-sessions"),
        };
        Some(At { value: auto, at: words.at })
    }

    fn limits(&mut self, table: &DeTable<'_>) -> RawLimits {
        let mut raw = RawLimits::default();
        for (key, value) in table {
            let name: &str = key.get_ref();
            match name {
                "tracked_sources" => raw.tracked_sources = self.number(name, value, SOURCES),
                "bans" => raw.bans = self.number(name, value, BANS),
                "line" => raw.line = self.size(name, value, LINE),
                _ => self.unknown(key, "in [limits]", LIMITS_KEYS),
            }
        }
        raw
    }

    fn jails(&mut self, value: &Value<'_>, raw: &mut Raw) {
        let Some(table) = self.table("jail", value, "a table of jails, each written [jail.NAME]") else { return };
        if table.len() > JAILS_MAX {
            let message = format!("{} jails are more than the {JAILS_MAX} that are read", table.len());
            self.tell(&value.span(), Problem::TooLarge(message), None);
            return;
        }
        for (key, value) in table {
            let name: &str = key.get_ref();
            if !value.get_ref().is_table() {
                self.unknown(key, "in [jail]", &[]);
            } else if words::is_jail_name(name) {
                let jail = self.jail(key, value);
                raw.jails.insert(name.to_owned(), jail);
            } else {
                let message = format!("`{}` cannot be a jail's name: 1 to 64 of a-z, 0-9, `.`, `_` and `-`", shown(name));
                let lower = name.to_lowercase();
                let hint = words::is_jail_name(&lower).then(|| format!("did you mean `{lower}`?"));
                self.tell(&key.span(), Problem::Value(message), hint);
            }
        }
    }

    fn jail(&mut self, key: &Key<'_>, value: &Value<'_>) -> RawJail {
        let mut raw = RawJail { at: self.place(&key.span()), ..RawJail::default() };
        let table = format!("[jail.{}", key.get_ref());
        for (key, value) in value.get_ref().as_table().into_iter().flatten() {
            let name: &str = key.get_ref();
            match name {
                "enabled" => raw.enabled = self.boolean(name, value),
                "signatures" => raw.signatures = self.signatures(name, value),
                "fail2ban" => raw.fail2ban = self.filter(name, value),
                "options" => raw.options = self.filter_options(name, value),
                "files" => raw.files = self.texts(name, value, ("a list of paths", LIST_MAX), words::glob),
                "journal" => {
                    raw.journal = self.texts(name, value, ("a list of texts like \"_SYSTEMD_UNIT=ssh.service\"", LIST_MAX), words::journal);
                }
                "ports" => raw.ports = self.ports(value),
                "timezone" => raw.timezone = self.timezone(name, value),
                "reports" => raw.reports = self.boolean(name, value),
                _ if POLICY_KEYS.contains(&name) => self.policy(name, value, &table, &mut raw.policy),
                _ => self.unknown(key, &format!("in {table}]"), &[POLICY_KEYS, JAIL_KEYS].concat()),
            }
        }
        raw
    }

    fn signatures(&mut self, name: &str, value: &Value<'_>) -> Option<At<Vec<String>>> {
        let known = self.signatures;
        self.texts(name, value, ("a list of signatures' names", LIST_MAX), |text| {
            if known.contains(&text) {
                return Ok(text.to_owned());
            }
            let hint = hint(text, known).unwrap_or_else(|| "`palisade signatures` lists what there is".to_owned());
            Err((format!("there is no signature `{}`", shown(text)), Some(hint)))
        })
    }

    /// The name of a zone. Whether there is such a zone is seen where the zones are.
    fn timezone(&mut self, name: &str, value: &Value<'_>) -> Option<At<String>> {
        let text = self.text(name, value, "a zone's name like \"Europe/Berlin\"")?;
        match words::zone(text) {
            Ok(zone) => Some(self.at(value, zone)),
            Err(wrong) => self.wrong_value(value, wrong),
        }
    }

    /// `"all"`, or a list of ports; an empty list is all of them.
    fn ports(&mut self, value: &Value<'_>) -> Option<At<Ports>> {
        if value.get_ref().as_str() == Some("all") {
            return Some(At { value: Ports::All, at: self.place(&value.span()) });
        }
        let want = "\"all\" or a list like [\"ssh\", 2222, \"6000-6007\"]";
        let ports = self.list("ports", value, (want, LIST_MAX), Self::port)?;
        let Some(set) = Ports::only(ports.value.into_iter().flatten()) else {
            let message = format!("these are more than {} ports: leave `ports` out to mean all of them", Ports::MOST);
            self.errors.tell(ports.at, Problem::TooLarge(message), None);
            return None;
        };
        Some(At { value: set, at: ports.at })
    }
}

impl<T> At<T> {
    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At { value: f(self.value), at: self.at }
    }
}

fn refusal(word: &str) -> Refusal {
    if word == "reject" { Refusal::Reject } else { Refusal::Drop }
}

fn allowed_prefix(text: &str) -> Result<Prefix, Wrong> {
    match text.parse::<Prefix>() {
        Ok(prefix) if prefix.len() > 0 => Ok(prefix),
        Ok(_) => Err((format!("`{}` is everyone: with it nobody could ever be banned", shown(text)), None)),
        Err(NetError::Address(_)) => {
            let hint = words::host_name(text).ok().map(|_| "host names belong in `names`".to_owned());
            Err((format!("`{}` is not an IPv4 or IPv6 address or prefix", shown(text)), hint))
        }
        Err(NetError::Length { family, .. }) => {
            Err((format!("`{}`: a prefix length of this family is 0 to {}", shown(text), family.bits()), None))
        }
    }
}
