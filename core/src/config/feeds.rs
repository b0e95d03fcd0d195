//! `[feed.NAME]`: block lists of others that are followed. Section type, keys, reader and writer in one place, as a
//! key of a feed concerns nothing else.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

use toml::de::DeTable;

use super::error::{At, Gather, Place, Problem};
use super::nearest::{hint, shown};
use super::raw::Raw;
use super::show::{line, quoted};
use super::values::{Bounds, Reading, TimeBounds, Value};
use super::walk::Key;
use super::words::{self, Wrong};
use crate::feeds::Guard;
use crate::tables::Format;
use crate::time::Span;

/// Keys of `[feed.NAME]`.
pub(super) const FEED_KEYS: &[&str] = &["enabled", "path", "url", "format", "every", "most", "change", "ca"];

/// Words of `format`: those of the tables that are lists of who is shut out. The others are some program's own state.
pub(super) const FORMATS: &[(&str, Format)] = &[
    ("plain", Format::Plain),
    ("netset", Format::Netset),
    ("csv", Format::Csv),
    ("json", Format::Json),
    ("crowdsec", Format::Crowdsec),
    ("drop-json", Format::DropJson),
];

/// More feeds than this are a generator's mistake: each is asked for one after the other.
const FEEDS_MAX: usize = 64;
/// A URL is at most this long: what servers take at least (RFC 9110 4.1 asks for 8000), and no list's is longer.
const URL_MAX: usize = 2048;

const DAY: u64 = 86_400;
const EVERY: TimeBounds = TimeBounds {
    low: Span::secs(60),
    high: Span::secs(28 * DAY),
    permanent: false,
    why: "a list that is looked at more seldom is no longer true",
};
/// The shortest time between two askings of somebody else's server.
const EVERY_URL: Span = Span::secs(600);
/// Spamhaus and others throw out who asks more than once an hour; most lists change once to four times a day.
const EVERY_URL_DEFAULT: Span = Span::secs(6 * 3600);
/// Looking whether a file has changed costs nothing.
const EVERY_PATH_DEFAULT: Span = Span::secs(300);
const MOST: Bounds = Bounds { low: 1, high: 4_000_000, why: "each entry takes memory here and in the kernel" };
/// Above all lists that are in use (FireHOL's largest have some 100,000), below what a ban table holds.
const MOST_DEFAULT: usize = 500_000;
const CHANGE: Bounds = Bounds { low: 0, high: 1000, why: "it is a share: 0.5 is half of the members" };
/// Between two looks hourly lists of single hosts change by a tenth or two.
const CHANGE_DEFAULT: f64 = 0.5;

/// One `[feed.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is followed.
    pub enabled: bool,
    /// Where its list is.
    pub source: FeedSource,
    /// In which form.
    pub format: Format,
    /// How often its list is looked at.
    pub every: Span,
    /// What of a list is taken.
    pub guard: Guard,
    /// A file with the certificates of who may vouch for the server, in place of the system's.
    pub ca: Option<String>,
}

/// Where a feed's list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedSource {
    /// A file.
    Path(String),
    /// `https://...`, or `http://` on this host.
    Url(String),
}

impl fmt::Display for FeedSource {
    /// Without a URL's query, which may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Url(url) => f.write_str(url.split('?').next().unwrap_or(url)),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct RawFeed {
    /// Its name in the file that wrote of it last.
    at: Place,
    enabled: Option<At<bool>>,
    source: Option<At<FeedSource>>,
    /// Where the other kind of source was typed in the same table.
    other: Option<Place>,
    format: Option<At<&'static str>>,
    every: Option<At<Span>>,
    most: Option<At<usize>>,
    change: Option<f64>,
    ca: Option<String>,
}

impl RawFeed {
    /// Adds what a later file wrote. A source replaces a source, of whichever kind.
    pub(super) fn merge(&mut self, later: Self) {
        self.at = later.at;
        self.other = self.other.or(later.other);
        self.enabled = later.enabled.or(self.enabled.take());
        self.source = later.source.or(self.source.take());
        self.format = later.format.or(self.format.take());
        self.every = later.every.or(self.every.take());
        self.most = later.most.or(self.most.take());
        self.change = later.change.or(self.change);
        self.ca = later.ca.or(self.ca.take());
    }
}

impl Reading<'_> {
    /// Reads the table of feeds.
    pub(super) fn feeds(&mut self, value: &Value<'_>, raw: &mut Raw) {
        let Some(table) = self.table("feed", value, "a table of feeds, each written [feed.NAME]") else { return };
        if table.len() > FEEDS_MAX {
            let message = format!("{} feeds are more than the {FEEDS_MAX} that are followed", table.len());
            self.tell(&value.span(), Problem::TooLarge(message), None);
            return;
        }
        for (key, value) in table {
            let name: &str = key.get_ref();
            let Some(table) = value.get_ref().as_table() else {
                self.unknown(key, "in [feed]", &[]);
                continue;
            };
            if is_feed_name(name) {
                let feed = self.feed(key, table);
                raw.feeds.insert(name.to_owned(), feed);
            } else {
                let message =
                    format!("`{}` cannot be a feed's name: a letter or digit, then a-z, 0-9, `.`, `_` and `-`, 64 at most", shown(name));
                let lower = name.to_lowercase();
                let hint = is_feed_name(&lower).then(|| format!("did you mean `{lower}`?"));
                self.tell(&key.span(), Problem::Value(message), hint);
            }
        }
    }

    fn feed(&mut self, key: &Key<'_>, table: &DeTable<'_>) -> RawFeed {
        let mut raw = RawFeed { at: self.place(&key.span()), ..RawFeed::default() };
        for (setting, value) in table {
            let name: &str = setting.get_ref();
            match name {
                "enabled" => raw.enabled = self.boolean(name, value),
                "path" | "url" => {
                    let read = if name == "path" { path } else { url };
                    let source = self.parsed(name, value, read);
                    raw.other = raw.source.as_ref().map(|_| self.place(&setting.span()));
                    raw.source = source.map(|value| At { value, at: self.place(&setting.span()) }).or(raw.source);
                }
                "format" => {
                    let known: Vec<&'static str> = FORMATS.iter().map(|(word, _)| *word).collect();
                    raw.format = self.word(name, value, &known, &[]);
                }
                "every" => raw.every = self.span(name, value, EVERY),
                "most" => raw.most = self.number(name, value, MOST),
                "change" => raw.change = self.fraction(name, value, CHANGE),
                "ca" => raw.ca = self.parsed(name, value, words::file),
                _ => self.unknown(setting, &format!("in [feed.{}]", key.get_ref()), FEED_KEYS),
            }
        }
        raw
    }
}

/// The feeds that were typed. Here is told what is missing and what does not go together.
pub(super) fn mean(raw: BTreeMap<String, RawFeed>, errors: &mut Gather) -> BTreeMap<Arc<str>, Feed> {
    if let Some((_, feed)) = raw.iter().nth(FEEDS_MAX) {
        let message = format!("{} feeds in all files are more than the {FEEDS_MAX} that are followed", raw.len());
        errors.tell(feed.at, Problem::TooLarge(message), None);
        return BTreeMap::new();
    }
    let feeds = raw.into_iter().filter_map(|(name, raw)| Some((Arc::from(name.as_str()), one(&name, raw, errors)?)));
    feeds.collect()
}

fn one(name: &str, raw: RawFeed, errors: &mut Gather) -> Option<Feed> {
    if let Some(at) = raw.other {
        errors.tell(at, Problem::Clash(format!("feed `{name}` has both a `path` and a `url`: write one")), None);
        return None;
    }
    let Some(At { value: source, .. }) = raw.source else {
        let message = format!("feed `{name}` has no list: write `url = \"https://...\"` or `path = \"/...\"`");
        errors.tell(raw.at, Problem::Missing(message), None);
        return None;
    };
    let remote = matches!(source, FeedSource::Url(_));
    let every = raw.every.as_ref().map_or(if remote { EVERY_URL_DEFAULT } else { EVERY_PATH_DEFAULT }, |typed| typed.value);
    if let Some(typed) = raw.every.filter(|_| remote && every < EVERY_URL) {
        let (key, got, range) = ("every".to_owned(), every.to_string(), format!("{EVERY_URL} to {}", EVERY.high));
        let why = "of a `url`: the server is somebody else's, and throws out who asks too often";
        errors.tell(typed.at, Problem::Range { key, got, range, why }, None);
        return None;
    }
    let word = raw.format.map_or("plain", |typed| typed.value);
    Some(Feed {
        name: name.into(),
        enabled: raw.enabled.is_none_or(|typed| typed.value),
        source,
        format: FORMATS.iter().find(|(known, _)| *known == word).map_or(Format::Plain, |(_, format)| *format),
        every,
        guard: Guard { most: raw.most.map_or(MOST_DEFAULT, |typed| typed.value), change: raw.change.unwrap_or(CHANGE_DEFAULT) },
        ca: raw.ca,
    })
}

/// Whether a feed may be called that: it is a file's name too.
fn is_feed_name(text: &str) -> bool {
    words::is_jail_name(text) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn path(text: &str) -> Result<FeedSource, Wrong> {
    words::file(text).map(FeedSource::Path).map_err(|(message, hint)| {
        let web = text.starts_with("http:") || text.starts_with("https:");
        (message, if web { Some("write it as `url`".to_owned()) } else { hint })
    })
}

/// `https://HOST[:PORT]/...`. Without TLS anybody on the way could shut out whom he likes, so `http://` is for
/// servers on this host only.
fn url(text: &str) -> Result<FeedSource, Wrong> {
    let wrong = |why: &str, hint: Option<&str>| Err((format!("`{}` {why}", shown(text)), hint.map(str::to_owned)));
    if text.len() > URL_MAX {
        return wrong("is longer than a URL may be", None);
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return wrong("holds what no URL holds: write such bytes as %XX", None);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        let schemes = text.starts_with('/').then_some("a file is written as `path`");
        return wrong("is no URL: it begins with https://", schemes);
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if rest.contains('#') {
        return wrong("names a part of a page (`#`); a list is the whole", None);
    }
    if host.contains('@') {
        return wrong("holds a user name or password", Some("lists that want one are not followed yet"));
    }
    let Some((name, ip)) = host_of(host) else {
        return wrong("has no host name that can be asked", None);
    };
    let here = name == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
    match scheme {
        "https" => Ok(FeedSource::Url(text.to_owned())),
        "http" if here => Ok(FeedSource::Url(text.to_owned())),
        "http" => wrong("is not encrypted: anybody on the way could shut out whom he likes", Some("write https://")),
        other => wrong("begins with no scheme that is followed", hint(other, &["https"]).as_deref()),
    }
}

/// The host of `HOST[:PORT]`, and its address where it is written as one.
fn host_of(text: &str) -> Option<(&str, Option<IpAddr>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port)
        }
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    let numbered = |port: &str| port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    if !(port.is_empty() || numbered(port)) {
        return None;
    }
    let ip = host.parse().ok();
    if text.starts_with('[') && !matches!(ip, Some(IpAddr::V6(_))) {
        return None;
    }
    (ip.is_some() || words::host_name(host).is_ok()).then_some((host, ip))
}

/// The sections as TOML again.
pub(super) fn show(out: &mut String, feeds: &BTreeMap<Arc<str>, Feed>) {
    for feed in feeds.values() {
        // A dot would begin a table within: such a name goes in quotes.
        let name = if feed.name.contains('.') { quoted(&feed.name) } else { feed.name.to_string() };
        let _ = write!(out, "\n[feed.{name}]\n");
        line(out, "enabled", feed.enabled);
        match &feed.source {
            FeedSource::Path(path) => line(out, "path", quoted(path)),
            FeedSource::Url(url) => line(out, "url", quoted(url)),
        }
        line(out, "format", quoted(&feed.format));
        line(out, "every", quoted(&feed.every));
        line(out, "most", feed.guard.most);
        line(out, "change", toml::Value::Float(feed.guard.change));
        if let Some(ca) = &feed.ca {
            line(out, "ca", quoted(ca));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_encrypted_or_this_hosts_own() {
        for right in [
            "https://www.example.org/drop.txt",
            "https://lists.example.org:8443/a?key=x&n=1",
            "https://192.0.2.7/x",
            "https://[2001:db8::7]:444/x",
            "http://127.0.0.1:8080/x",
            "http://localhost/x",
            "http://[::1]/x",
        ] {
            assert_eq!(url(right), Ok(FeedSource::Url(right.to_owned())));
        }
        for wrong in [
            "",
            "www.example.org/x",
            "/etc/list",
            "ftp://example.org/x",
            "http://example.org/x",
            "http://192.0.2.7/x",
            "http://localhost.example.org/x",
            "https://",
            "https:///x",
            "https://user:secret@example.org/x",
            "https://example.org:0/x",
            "https://example.org:99999/x",
            "https://[192.0.2.7]/x",
            "https://[2001:db8::7/x",
            "https://example.org/a b",
            "https://example.org/ä",
            "https://example.org/a\nb",
            "https://example.org/#x",
        ] {
            assert!(url(wrong).is_err(), "{wrong:?}");
        }
        assert!(url(&format!("https://example.org/{}", "a".repeat(URL_MAX))).is_err());
    }

    #[test]
    fn a_key_in_a_url_is_not_shown() {
        let url = FeedSource::Url("https://example.org/list?key=secret".to_owned());
        assert_eq!(url.to_string(), "https://example.org/list");
    }

    #[test]
    fn names_are_file_names() {
        assert!(["drop", "a.b", "0x", "a-b_c"].into_iter().all(is_feed_name));
        assert!(!["", ".", "..", ".hidden", "-x", "_x", "a/b", "A", "ä"].into_iter().any(is_feed_name));
    }
}
