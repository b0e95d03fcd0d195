//! JSON: the document of `palisade list --json` and `palisade export json`, or one such row a line.
//!
//! | field | also called | means |
//! |---|---|---|
//! | `prefix` | `addr`, `address`, `cidr`, `ip`, `value` | who; the only one that must be there |
//! | `until` | `end`, `expires`, `expiration` | a text or a number, see [`super::moment`]; null: for ever |
//! | `duration` | `bantime`, `ttl` | the same, where there is no `until` |
//! | `since` | | when it began, RFC 3339 |
//! | `reason` | `comment` | why |
//! | `offences` | | the how manieth |
//! | `ports` | | of which ports alone; not there: all |
//!
//! The rest is passed over: whose ban it was (`origin`) is `import:json` from now on, and `forced` is
//! nothing that a table may ask for. Where the rows stand is told in [`super::objects`].
//!
//! Spamhaus' DROP lists (drop_v4.json, drop_v6.json) are one object a line, `{"cidr":..,"sblid":..,"rir":..}`,
//! and one with `"type":"metadata"` at the end (www.spamhaus.org/blocklists/do-not-route-or-peer).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, Visitor};
use serde::{Deserialize, Serialize};

use super::words::{blank, prefixes, reason, shown};
use super::write::{Out, put};
use super::{End, Item, Row, moment, objects};
use crate::net::Prefix;
use crate::ports::Ports;
use crate::time::{Stamp, Until};

/// A row as it comes.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, alias = "addr", alias = "address", alias = "cidr", alias = "ip", alias = "value")]
    prefix: Text<'a>,
    #[serde(borrow, default, alias = "end", alias = "expires", alias = "expiration")]
    until: When<'a>,
    #[serde(borrow, default, alias = "bantime", alias = "ttl")]
    duration: When<'a>,
    #[serde(borrow, default)]
    since: Text<'a>,
    #[serde(borrow, default, alias = "comment")]
    reason: Text<'a>,
    #[serde(default)]
    offences: Option<u32>,
    #[serde(default)]
    ports: Option<Vec<u16>>,
    /// Rows may stand in here, and then this is none.
    #[serde(default)]
    bans: Option<IgnoredAny>,
    #[serde(default)]
    decisions: Option<IgnoredAny>,
}

/// A text that is not copied where it has no escapes (which `Option<Cow<str>>` would be); null is empty.
#[derive(Default)]
pub(super) struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or null")
            }
            fn visit_unit<E>(self) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(text.into()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(text.to_owned().into()))
            }
        }
        d.deserialize_any(Any)
    }
}

/// A time in whatever shape.
#[derive(Default)]
enum When<'a> {
    #[default]
    Untold,
    Null,
    Text(Cow<'a, str>),
    Number(u64),
}

impl<'de: 'a, 'a> Deserialize<'de> for When<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = When<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time: a text, a number of seconds or null")
            }
            fn visit_unit<E>(self) -> Result<When<'de>, E> {
                Ok(When::Null)
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<When<'de>, E> {
                Ok(When::Text(text.into()))
            }
            fn visit_str<E>(self, text: &str) -> Result<When<'de>, E> {
                Ok(When::Text(text.to_owned().into()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<When<'de>, E> {
                Ok(When::Number(number))
            }
            fn visit_i64<E>(self, number: i64) -> Result<When<'de>, E> {
                // -1 is for ever, as in fail2ban; other negative numbers are no times.
                Ok(if number == -1 { When::Null } else { When::Number(0) })
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float to int saturates, NaN is 0")]
            fn visit_f64<E>(self, number: f64) -> Result<When<'de>, E> {
                Ok(When::Number(number as u64))
            }
        }
        d.deserialize_any(Any)
    }
}

impl When<'_> {
    fn end(&self, now: Stamp) -> Result<Option<End>, Item> {
        match self {
            Self::Untold => Ok(None),
            Self::Null => Ok(Some(End::Forever)),
            Self::Text(text) => moment::read(text.as_bytes(), now).map(Some).ok_or_else(|| moment::none(text.as_bytes())),
            Self::Number(number) => moment::of_number(*number, now).map(Some).ok_or_else(|| moment::none(number.to_string().as_bytes())),
        }
    }
}

/// Reads rows, counting durations from this moment.
pub(super) struct Rows(pub(super) Stamp);

impl objects::Rows for Rows {
    fn read(&mut self, object: &[u8], say: &mut dyn FnMut(Item)) {
        match serde_json::from_slice(object) {
            Ok(said) => self.say(&said, say),
            Err(error) => say(Item::Bad(format!("expected a row with `prefix`, and `until` if it has an end: {error}"))),
        }
    }

    fn read_first(&mut self, bytes: &[u8], say: &mut dyn FnMut(Item)) -> Option<usize> {
        let (said, len) = objects::first::<Said<'_>>(bytes)?;
        if said.bans.is_some() || said.decisions.is_some() {
            return None;
        }
        self.say(&said, say);
        Some(len)
    }
}

impl Rows {
    fn say(&self, said: &Said<'_>, say: &mut dyn FnMut(Item)) {
        match row(said, self.0) {
            Ok(row) => prefixes(said.prefix.bytes(), row, say),
            Err(bad) => say(bad),
        }
    }
}

fn row(said: &Said<'_>, now: Stamp) -> Result<Row, Item> {
    let end = match said.until.end(now)? {
        None => said.duration.end(now)?,
        end => end,
    };
    let ports = match &said.ports {
        Some(ports) => Ports::only(ports.iter().copied()).ok_or_else(|| Item::Bad(format!("expected at most {} ports", Ports::MOST)))?,
        None => Ports::All,
    };
    let since = moment::at(&said.since.0);
    Ok(Row { end, since, ports, offences: said.offences.unwrap_or(1).max(1), reason: reason(said.reason.bytes()), ..blank() })
}

/// A line of a DROP list.
#[derive(Deserialize)]
struct Drop<'a> {
    #[serde(borrow, default)]
    cidr: Text<'a>,
    #[serde(borrow, default)]
    sblid: Text<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
}

/// Reads one line of a DROP list.
pub(super) fn drop(line: &[u8], say: &mut dyn FnMut(Item)) {
    if line.is_empty() {
        return;
    }
    let said: Drop<'_> = match serde_json::from_slice(line) {
        Ok(said) => said,
        Err(error) => return say(Item::Bad(format!("expected an object like {{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\"}}: {error}"))),
    };
    match (said.cidr.bytes(), said.kind.bytes()) {
        ([], b"metadata") => {}
        ([], _) => say(Item::Bad(format!("expected an object with `cidr`, found {}", shown(line)))),
        (cidr, _) => {
            let mut why = b"Spamhaus DROP ".to_vec();
            why.extend_from_slice(said.sblid.bytes());
            prefixes(cidr, Row { reason: reason(&why), ..blank() }, say);
        }
    }
}

/// A row as it goes out: the shape of `palisade list`.
#[derive(Serialize)]
struct Written<'a> {
    prefix: Prefix,
    since: Stamp,
    until: Until,
    origin: &'a str,
    reason: &'a str,
    offences: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<&'a [u16]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    forced: bool,
}

/// What stands before the rows.
pub(super) fn head(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"v":1,"bans":["#);
}

/// Writes one row.
pub(super) fn write(ban: &Out<'_>, first: bool, out: &mut Vec<u8>) {
    if !first {
        out.push(b',');
    }
    let ports = if let Ports::Only(ports) = ban.ports { Some(&**ports) } else { None };
    let Out { prefix, since, until, origin, reason, offences, forced, .. } = *ban;
    let row = Written { prefix, since, until, origin, reason, offences, ports, forced };
    if serde_json::to_writer(&mut *out, &row).is_err() {
        // Only a writer that fails can make it fail, and a vector does not.
        put(out, format_args!("{{}}"));
    }
}

/// What stands after them.
pub(super) fn tail(out: &mut Vec<u8>) {
    out.extend_from_slice(b"]}\n");
}
