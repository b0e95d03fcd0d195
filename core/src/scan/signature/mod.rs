//! A signature: what one service's failures look like, as data, with the lines that prove it.
//!
//! ```toml
//! name = "example"                    # as jails call it
//! service = "example"
//! summary = "Logins to example"
//! kind = "syslog"                     # or "plain", "access-log", "fields"
//! programs = ["example", "example/*"] # a trailing * takes any rest; empty: any program
//! files = ["/var/log/example/*.log"]  # where the service usually logs ...
//! journal = ["_SYSTEMD_UNIT=example.service"]
//! ports = [8443, "https"]             # ... and listens
//!
//! [[rule]]
//! id = "failed-login"
//! score = 10                          # 10 a full failure, 2 and 1 weak signs
//! pattern = '^login failed for <user> from <addr>$'
//! hits = [{ line = 'Nov 22 17:00:00 host example[7]: login failed for bob from 192.0.2.7', addr = '192.0.2.7', user = 'bob' }]
//! misses = ['Nov 22 17:00:00 host example[7]: login of bob from 192.0.2.7']
//! ```
//!
//! | kind | what is looked at | a rule has |
//! |---|---|---|
//! | `syslog` | the message behind a syslog prefix, of one of `programs`; or a journal record's | `pattern` |
//! | `plain` | the whole line | `pattern`, usually from `^<time> ` on |
//! | `access-log` | the common or combined log format of web servers | `methods`, `path`, `agent`, `referer`, `status`; what is not given is not looked at |
//! | `fields` | a JSON object or `key=value` words, alone or as a syslog message | `where` |
//!
//! The placeholders of a pattern are those of [`super::pattern`]. `open_end` says why a pattern need
//! not match to the end. `owned = { GROUP = "why" }` says of a named group that no client can write
//! past it (a local account's name, a key's fingerprint): where a field is not owned, it is taken to
//! hold anything at all, and a rule whose address could then be another one is refused.
//!
//! A rule with `outcome = "login"` knows who got in; it has no score. `note` says what a reader
//! should know about a rule. A signature whose own hits and misses do not come out as written does
//! not load.
//!
//! Of `kind = "fields"`, above the rules or in one:
//!
//! ```toml
//! addr = ["request.remote_ip", "request.remote_addr"]  # or one name: the first that holds an address
//! addr_from = "the server, from the connection"        # who writes that field: no header, no query
//! user = "user_id"
//! time = "ts"                                          # a date, or seconds, milli-, micro- or nanoseconds since 1970
//!
//! [[rule]]
//! id = "unauthorized"
//! score = 10
//! where = { status = [401, 403], "request.uri" = '^/login(?:\?.*)?$', msg = '^handled request$' }
//! ```
//!
//! Names are dotted: `request.uri` is `uri` within `request`, or a field that is called `request.uri`.
//! In `where` a text is a pattern, anchored at both ends, over the field's text without escapes; a
//! list holds the exact values that do; a number or truth value is one. A field that is not there, is
//! `null`, or stands there twice with different values, is no match. With `<addr>` in one of the
//! patterns (`msg = '^login of <user> from <addr> failed$'`) the address is taken from there, and
//! there is no `addr`.

mod error;
mod fields;
mod keys;
mod places;
mod prove;
mod raw;
mod rule;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;

use super::line::Line;
use super::pattern;
use super::unwrap::Unwrapper;
use super::view::{Scratch, View};
use crate::net::Addr;

pub use error::SignatureError;
pub use places::Places;
pub use rule::Rule;
pub(super) use rule::Test;

/// What the lines of a signature look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A syslog prefix, then the message; or a journal record.
    Syslog,
    /// The common or combined log format of web servers.
    AccessLog,
    /// The whole line is the message.
    Plain,
    /// Named fields: JSON or `key=value`.
    Fields,
}

/// A compiled, proven signature.
#[derive(Debug)]
pub struct Signature {
    name: Arc<str>,
    service: Arc<str>,
    summary: String,
    kind: Kind,
    programs: Vec<String>,
    places: Places,
    /// Heaviest first.
    rules: Vec<Rule>,
}

/// A line that must match, and what must be found in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Hit {
    /// The line.
    pub line: String,
    /// Whose address.
    pub addr: Addr,
    /// How heavy; the rule's own score if not given.
    pub score: Option<u16>,
    /// Which user name, where the rule knows it.
    pub user: Option<String>,
}

/// What a signature found in a line.
#[derive(Clone, Debug)]
pub struct Found<'s, 'l> {
    /// The rule that matched.
    pub rule: &'s Rule,
    /// The attacker.
    pub addr: Addr,
    /// The user name tried.
    pub user: Option<Cow<'l, [u8]>>,
    /// When, as it stands in the line; `None` where the line's prefix says so.
    pub time: Option<Cow<'l, [u8]>>,
}

/// Most rules one signature may have; sshd, the longest shipped, has about 30.
const RULES: usize = 200;

impl Signature {
    /// Reads, compiles and proves a signature. `file` is what errors call it.
    pub fn compile(file: &str, text: &str) -> Result<Self, SignatureError> {
        let signature = Self::read(file, text, false)?;
        prove::prove(&signature, file)?;
        Ok(signature)
    }

    /// The same for a text that was proven before: proving takes most of the time of a start.
    pub(super) fn proven(file: &str, text: &str) -> Result<Self, SignatureError> {
        Self::read(file, text, true)
    }

    fn read(file: &str, text: &str, proven: bool) -> Result<Self, SignatureError> {
        if let Some(keys::Unknown { line, key, nearest }) = keys::unknown(text) {
            return Err(SignatureError::UnknownKey { file: file.to_owned(), line, key, nearest });
        }
        let raw: raw::RawSignature =
            toml::from_str(text).map_err(|e| SignatureError::Toml { file: file.to_owned(), what: e.to_string() })?;
        Self::of(file, raw, proven)
    }

    fn of(file: &str, mut raw: raw::RawSignature, proven: bool) -> Result<Self, SignatureError> {
        let whole = |what: String| SignatureError::Rule { file: file.to_owned(), rule: String::new(), what };
        let good =
            |name: &str| !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if let Some(bad) = [&raw.name, &raw.service].into_iter().chain(raw.rule.iter().map(|r| &r.id)).find(|n| !good(n)) {
            return Err(whole(format!("`{bad}` is no name: use letters, digits and `._-`, at most 64")));
        }
        if raw.rule.is_empty() || raw.rule.len() > RULES {
            return Err(whole(format!("{} rules; 1 to {RULES} are allowed", raw.rule.len())));
        }
        if raw.kind != Kind::Fields && !raw.fields.is_empty() {
            return Err(whole("`addr`, `addr_from`, `user` and `time` are of `kind = \"fields\"`".to_owned()));
        }
        // Logins last: they have no score.
        raw.rule.sort_by_key(|rule| std::cmp::Reverse(rule.score));
        let shared = rule::Shared { file, name: &raw.name, kind: raw.kind, fields: &raw.fields, proven };
        let mut rules: Vec<Rule> = raw.rule.into_iter().map(|r| r.compile(&shared)).collect::<Result<_, _>>()?;
        rule::hold_apart(file, &mut rules)?;
        let mut ids = BTreeSet::new();
        if let Some(twice) = rules.iter().find(|r| !ids.insert(r.id())) {
            return Err(whole(format!("two rules are called `{}`", twice.id)));
        }
        if !proven {
            let patterns = rules.iter().filter_map(|rule| match &rule.test {
                Test::Message(pattern) => Some(pattern.expanded.as_str()),
                Test::Access(_) | Test::Fields(_) => None,
            });
            pattern::fit(patterns).map_err(|e| whole(format!("all patterns together: {e}")))?;
        }
        let places = Places::new(raw.files, raw.journal, raw.ports);
        let (name, service) = (raw.name.into(), raw.service.into());
        Ok(Self { name, service, summary: raw.summary, kind: raw.kind, programs: raw.programs, places, rules })
    }

    /// As jails call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The service it guards.
    pub fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// What it is about, in a sentence.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// What its lines look like.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The syslog programs it listens to; a trailing `*` takes any rest. Empty: any.
    pub fn programs(&self) -> &[String] {
        &self.programs
    }

    /// Where its service usually logs and listens.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Its rules, heaviest first, logins last.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a line of this program is for this signature. A line that names no program is: which
    /// signatures see a source at all, its jail says.
    pub fn listens_to(&self, program: Option<&[u8]>) -> bool {
        let Some(program) = program else { return true };
        self.programs.is_empty()
            || self.programs.iter().any(|p| match p.strip_suffix('*') {
                Some(start) => program.starts_with(start.as_bytes()),
                None => program == p.as_bytes(),
            })
    }

    /// Looks at one line all by itself.
    pub fn find(&self, line: Line<'_>) -> Option<Found<'_, 'static>> {
        let mut unwrapper = Unwrapper::default();
        let found = View::opened(unwrapper.open(line), &mut Scratch::default())?.look(self)?;
        let owned = |text: Option<Cow<'_, [u8]>>| text.map(|text| Cow::Owned(text.into_owned()));
        Some(Found { rule: found.rule, addr: found.addr, user: owned(found.user), time: owned(found.time) })
    }
}
