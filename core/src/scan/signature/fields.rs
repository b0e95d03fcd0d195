//! Rules over named fields: what each must hold, and which of them names the address.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str;

use super::super::formats::record::{Got, Record, Unescaped, Value};
use super::super::needles::Needles;
use super::super::pattern::{Memory, Owned, Pattern, PatternError};
use super::raw::{Names, RawFields};
use crate::net::Addr;

/// Which fields a rule looks at.
#[derive(Debug)]
pub(in super::super) struct FieldTest {
    conditions: Vec<(String, Condition)>,
    addr: Vec<String>,
    user: Vec<String>,
    time: Vec<String>,
}

/// What a field must hold.
#[derive(Debug)]
enum Condition {
    /// One of these texts.
    OneOf(Vec<String>),
    /// A text that this matches.
    Text(Pattern),
    /// The same, and the address stands in it.
    Names(Pattern),
}

impl Condition {
    fn has_groups(&self) -> bool {
        matches!(self, Self::Text(pattern) | Self::Names(pattern) if pattern.has_groups())
    }

    fn holds(&self, record: &Record, text: &[u8], name: &str, memory: &mut Memory) -> bool {
        let Some(value) = one(record, text, name) else { return false };
        let Memory { unescaped, together, .. } = memory;
        let text = value.text(unescaped);
        match self {
            Self::OneOf(all) => all.iter().any(|one| one.as_bytes() == text),
            Self::Text(pattern) | Self::Names(pattern) => together.matches(pattern, text, value.raw()),
        }
    }
}

/// What a record says to a rule.
pub(super) struct InRecord<'t> {
    pub(super) addr: Addr,
    pub(super) user: Option<Cow<'t, [u8]>>,
    pub(super) time: Option<Cow<'t, [u8]>>,
}

/// Parts of field names that stand for what a client sends, without `-` and `_`, in small letters.
/// `client_ip` of a server that was told which proxies to trust is none of them.
const OF_THE_CLIENT: &[&str] = &[
    "header",
    "headers",
    "query",
    "params",
    "param",
    "body",
    "form",
    "cookie",
    "cookies",
    "args",
    "useragent",
    "referer",
    "referrer",
    "uri",
    "url",
    "path",
    "forwarded",
    "forwardedfor",
    "xforwardedfor",
    "realip",
    "xrealip",
    "cfconnectingip",
    "trueclientip",
    "xclientip",
    "xclusterclientip",
];

impl FieldTest {
    /// The fields of a rule over those of its signature.
    pub(super) fn compile(
        conditions: &BTreeMap<String, toml::Value>,
        own: &RawFields,
        all: &RawFields,
        open_end: bool,
        owned: &Owned<'_>,
    ) -> Result<Self, Refused> {
        let list = |own: &Names, all: &Names| if own.0.is_empty() { all.0.clone() } else { own.0.clone() };
        let mut test = Self {
            conditions: Vec::new(),
            addr: list(&own.addr, &all.addr),
            user: list(&own.user, &all.user),
            time: list(&own.time, &all.time),
        };
        for (name, value) in conditions {
            test.condition(name, value, open_end, owned)?;
        }
        // What costs least first: values, then texts, then what must be taken apart.
        test.conditions.sort_by_key(|(_, condition)| match condition {
            Condition::OneOf(_) => 0,
            condition => 1 + u8::from(condition.has_groups()),
        });
        if test.conditions.is_empty() {
            return Err(Refused::Rule("a rule of fields needs `where = { ... }`: without it each line would match".into()));
        }
        let named = test.conditions.iter().filter(|(_, c)| matches!(c, Condition::Names(_))).count();
        if named + usize::from(!test.addr.is_empty()) != 1 {
            let what = "one thing names the address: `addr = \"field\"`, or `<addr>` in one of the texts of `where`";
            return Err(Refused::Rule(what.into()));
        }
        if let Some(name) = test.addr.iter().find(|name| is_of_the_client(name)) {
            return Err(Refused::Rule(format!("`{name}` is what a client sends: it can name any address there; take the connection's")));
        }
        let told = own.addr_from.as_ref().or(all.addr_from.as_ref());
        if !test.addr.is_empty() && told.is_none_or(|who| who.trim().is_empty()) {
            return Err(Refused::Rule("`addr_from` must say who writes the field of the address, and from what".into()));
        }
        Ok(test)
    }

    /// One entry of `where`; a table stands for dotted names.
    fn condition(&mut self, name: &str, value: &toml::Value, open_end: bool, owned: &Owned<'_>) -> Result<(), Refused> {
        let condition = match value {
            toml::Value::Table(inner) => {
                return inner.iter().try_for_each(|(key, value)| self.condition(&format!("{name}.{key}"), value, open_end, owned));
            }
            toml::Value::Array(all) => Condition::OneOf(all.iter().map(|one| plain(name, one)).collect::<Result<_, _>>()?),
            toml::Value::String(text) if text.contains("<addr>") => {
                Condition::Names(Pattern::message(text, open_end, owned).map_err(Refused::Pattern)?)
            }
            toml::Value::String(text) => Condition::Text(Pattern::field(text, open_end, owned.proven).map_err(Refused::Pattern)?),
            one => Condition::OneOf(vec![plain(name, one)?]),
        };
        self.conditions.push((name.to_owned(), condition));
        Ok(())
    }

    /// What the record says, if all conditions hold and it names an address.
    pub(super) fn look<'t>(&self, record: &Record, text: &'t [u8], memory: &mut Memory) -> Option<InRecord<'t>> {
        // Those with groups are looked at once, below.
        if !self.conditions.iter().all(|(name, condition)| condition.has_groups() || condition.holds(record, text, name, memory)) {
            return None;
        }
        // Looking for groups uses the memory too.
        let mut unescaped = std::mem::take(&mut memory.unescaped);
        let found = self.says(record, text, memory, &mut unescaped);
        memory.unescaped = unescaped;
        found
    }

    fn says<'t>(&self, record: &Record, text: &'t [u8], memory: &mut Memory, unescaped: &mut Unescaped) -> Option<InRecord<'t>> {
        let (mut addr, mut user) = (None, None);
        for (name, condition) in &self.conditions {
            let (Condition::Text(pattern) | Condition::Names(pattern)) = condition else { continue };
            if !condition.has_groups() {
                continue;
            }
            let value = one(record, text, name)?.text(unescaped);
            let groups = pattern.groups(value, memory)?;
            let part = |(from, to)| value.get(from..to);
            if let Some(group) = groups.addr.and_then(part).filter(|_| matches!(condition, Condition::Names(_))) {
                addr = str::from_utf8(group).ok()?.parse().ok();
            }
            user = groups.user.and_then(part).map(|group| Cow::Owned(group.to_vec())).or(user);
        }
        let addr = addr.or_else(|| self.addr.iter().find_map(|name| address(one(record, text, name)?.text(unescaped))))?;
        let first = |names: &[String]| names.iter().find_map(|name| one(record, text, name)).map(Value::into_text);
        Some(InRecord { addr, user: user.or_else(|| first(&self.user)), time: first(&self.time) })
    }

    /// How many of the conditions hold.
    pub(in super::super) fn holding(&self, record: &Record, text: &[u8]) -> usize {
        let mut memory = Memory::default();
        self.conditions.iter().filter(|(name, condition)| condition.holds(record, text, name, &mut memory)).count()
    }

    /// How many conditions there are.
    pub(in super::super) fn len(&self) -> usize {
        self.conditions.len()
    }

    /// Texts one of which each line that it takes holds: what the values must be, or else what the
    /// fields are called, which stands in every line of the program.
    pub(super) fn needles(&self) -> Needles {
        let values = Needles::rarest(self.conditions.iter().map(|(_, condition)| match condition {
            Condition::OneOf(all) => Needles::any(all),
            Condition::Text(pattern) | Condition::Names(pattern) => pattern.field_needles(),
        }));
        if values.is_worth_it() {
            return values;
        }
        // Of a dotted name the last part stands in the line by itself.
        let last = |name: &str| name.rsplit_once('.').map_or(name, |(_, last)| last).to_owned();
        let names = Needles::rarest(self.conditions.iter().map(|(name, _)| Needles::any([last(name)])));
        if values.is_empty() || names.is_worth_it() { names.besides(values) } else { values }
    }

    /// The conditions, as a reader would say them.
    pub(super) fn describe(&self) -> String {
        let one = |(name, condition): &(String, Condition)| match condition {
            Condition::OneOf(all) => format!("{name} {}", all.join(" or ")),
            Condition::Text(pattern) | Condition::Names(pattern) => format!("{name} {}", pattern.text),
        };
        self.conditions.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Why a rule of fields is refused.
pub(super) enum Refused {
    Rule(String),
    Pattern(PatternError),
}

fn one<'t>(record: &Record, text: &'t [u8], name: &str) -> Option<Value<'t>> {
    match record.get(text, name) {
        Got::One(value) => Some(value),
        _ => None,
    }
}

/// A value as the text that a field must hold.
fn plain(name: &str, value: &toml::Value) -> Result<String, Refused> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(truth) => Ok(truth.to_string()),
        _ => Err(Refused::Rule(format!("`{name}` in `where` is held against texts, numbers, true or false"))),
    }
}

fn is_of_the_client(name: &str) -> bool {
    name.split('.').any(|part| {
        let part: String = part.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
        OF_THE_CLIENT.contains(&part.as_str()) || part.ends_with("forwardedfor")
    })
}

/// `192.0.2.7`, `192.0.2.7:50022`, `2001:db8::7`, `[2001:db8::7]:50022`, with a zone id that is dropped.
/// A list of addresses is none: its beginning is what a client sent.
pub(super) fn address(text: &[u8]) -> Option<Addr> {
    // An IPv6 address of 45 bytes, a zone of 32, brackets and a port.
    let text = str::from_utf8(text).ok().filter(|text| text.len() <= 90)?;
    let port = |rest: &str| rest.strip_prefix(':').is_some_and(|p| (1..=5).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()));
    let bare = match text.strip_prefix('[') {
        Some(inner) => {
            let (inner, rest) = inner.split_once(']')?;
            (rest.is_empty() || port(rest)).then_some(inner)?
        }
        None => match text.find(':') {
            Some(colon) if text.contains('.') && port(&text[colon..]) => &text[..colon],
            _ => text,
        },
    };
    let bare = bare.split_once('%').map_or(bare, |(addr, _)| addr);
    // Looked at before it is read, as a refusal in words costs memory.
    let good = bare.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
    good.then(|| bare.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_ports() {
        for (text, addr) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.7:50022", Some("192.0.2.7")),
            ("2001:db8::7", Some("2001:db8::7")),
            ("[2001:db8::7]:50022", Some("2001:db8::7")),
            ("[2001:db8::7]", Some("2001:db8::7")),
            ("fe80::7%eth0", Some("fe80::7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.7, 203.0.113.9", None),
            ("192.0.2.7:x", None),
            ("192.0.2.7:", None),
            ("192.0.2.7:1:2", None),
            ("[2001:db8::7", None),
            ("[2001:db8::7]x", None),
            (" 192.0.2.7", None),
            ("host.example.org", None),
            ("", None),
        ] {
            assert_eq!(address(text.as_bytes()).map(|a| a.to_string()).as_deref(), addr, "{text}");
        }
    }

    #[test]
    fn a_header_names_nobody() {
        for name in
            ["request.headers.X-Forwarded-For", "request_X-Forwarded-For", "X-Real-IP", "http_x_forwarded_for", "forwarded", "headers.host"]
        {
            assert!(is_of_the_client(name), "{name}");
        }
        for name in ["request.remote_ip", "request.client_ip", "ClientHost", "src_ip", "remote_addr"] {
            assert!(!is_of_the_client(name), "{name}");
        }
    }
}
