//! A signature: what one service's failures look like, as data, with the lines that prove it.
//!
//! ```toml
//! name = "example"                    # as jails call it
//! service = "example"
//! summary = "Logins to example"
//! kind = "syslog"                     # "access-log": fields of a web server's log; "plain": whole lines
//! programs = ["example", "example/*"] # a trailing * takes any rest; empty: any program
//!
//! [[rule]]
//! id = "failed-login"
//! score = 10                          # 10 a full failure, 2 and 1 weak signs
//! pattern = '^login failed for <user> from <addr>$'
//! hits = [{ line = 'Nov 22 17:00:00 host example[7]: login failed for bob from 192.0.2.7', addr = '192.0.2.7', user = 'bob' }]
//! misses = ['Nov 22 17:00:00 host example[7]: login of bob from 192.0.2.7']
//! ```
//!
//! A rule with `outcome = "login"` knows who got in; it has no score.
//!
//! An access-log rule has `methods`, `path` and `status` in the place of `pattern`; what is not
//! given is not looked at. `note` says what a reader should know about a rule, `open_end` why a
//! pattern need not match to the end. A signature whose own hits and misses do not come out as
//! written does not load.

use std::collections::BTreeSet;
use std::str;
use std::sync::Arc;

use regex::bytes::RegexSet;
use serde::Deserialize;

use super::access::Request;
use super::pattern::{self, Pattern, PatternError};
use super::scanner::Line;
use super::toml_keys;
use crate::net::Addr;

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
}

/// A compiled, proven signature.
#[derive(Debug)]
pub struct Signature {
    name: Arc<str>,
    service: Arc<str>,
    summary: String,
    kind: Kind,
    programs: Vec<String>,
    /// Heaviest first.
    rules: Vec<Rule>,
    /// The patterns of `rules` in their order; empty for access logs.
    set: RegexSet,
}

/// One kind of line.
#[derive(Debug)]
pub struct Rule {
    id: Arc<str>,
    full: Arc<str>,
    score: u16,
    login: bool,
    note: Option<String>,
    text: String,
    pub(super) test: Test,
    hits: Vec<Hit>,
    misses: Vec<String>,
}

/// How a rule looks at a line.
#[derive(Debug)]
pub(super) enum Test {
    Message(Pattern),
    Access { methods: Vec<String>, path: Option<Pattern>, status: BTreeSet<u16> },
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
#[derive(Clone, Copy, Debug)]
pub struct Found<'s, 'l> {
    /// The rule that matched.
    pub rule: &'s Rule,
    /// The attacker.
    pub addr: Addr,
    /// The user name tried.
    pub user: Option<&'l [u8]>,
}

/// Why a signature does not load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not TOML, or a value of the wrong type.
    #[error("signature {file}: {what}")]
    Toml {
        /// Which file.
        file: String,
        /// The parser's words, with line and column.
        what: String,
    },
    /// A key nobody knows.
    #[error("signature {file}:{line}: unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// Which file.
        file: String,
        /// Which line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The known key that looks most like it.
        nearest: &'static str,
    },
    /// A pattern that is refused.
    #[error("signature {file}, rule `{rule}`: {error}")]
    Pattern {
        /// Which file.
        file: String,
        /// Which rule.
        rule: String,
        /// Why.
        error: PatternError,
    },
    /// Something that does not fit together.
    #[error("signature {file}, rule `{rule}`: {what}")]
    Rule {
        /// Which file.
        file: String,
        /// Which rule; empty for the file as a whole.
        rule: String,
        /// What, and what to do.
        what: String,
    },
    /// A hit or miss that does not come out as written.
    #[error("signature {file}, rule `{rule}`: expected {expected}, but {found}: {line}")]
    Example {
        /// Which file.
        file: String,
        /// Which rule.
        rule: String,
        /// What the file says.
        expected: String,
        /// What came out.
        found: String,
        /// The line.
        line: String,
    },
}

impl SignatureError {
    /// The file, and its line where that is known.
    pub fn place(&self) -> (&str, Option<usize>) {
        match self {
            Self::UnknownKey { file, line, .. } => (file, Some(*line)),
            Self::Toml { file, .. } | Self::Pattern { file, .. } | Self::Rule { file, .. } | Self::Example { file, .. } => (file, None),
        }
    }
}

#[derive(Deserialize)]
struct RawSignature {
    name: String,
    service: String,
    summary: String,
    kind: Kind,
    #[serde(default)]
    programs: Vec<String>,
    #[serde(default)]
    rule: Vec<RawRule>,
}

#[derive(Deserialize)]
struct RawRule {
    id: String,
    score: Option<u16>,
    #[serde(default)]
    outcome: Outcome,
    note: Option<String>,
    pattern: Option<String>,
    open_end: Option<String>,
    #[serde(default)]
    methods: Vec<String>,
    path: Option<String>,
    #[serde(default)]
    status: BTreeSet<u16>,
    #[serde(default)]
    hits: Vec<Hit>,
    #[serde(default)]
    misses: Vec<String>,
}

/// What a rule's lines tell of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// Somebody failed.
    #[default]
    Failure,
    /// Somebody got in.
    Login,
}

/// Most rules one signature may have; sshd, the longest shipped, has about 30.
const RULES: usize = 200;

impl Signature {
    /// Reads, compiles and proves a signature. `file` is what errors call it.
    pub fn compile(file: &str, text: &str) -> Result<Self, SignatureError> {
        if let Some(toml_keys::Unknown { line, key, nearest }) = toml_keys::unknown(text) {
            return Err(SignatureError::UnknownKey { file: file.to_owned(), line, key, nearest });
        }
        let mut raw: RawSignature =
            toml::from_str(text).map_err(|e| SignatureError::Toml { file: file.to_owned(), what: e.to_string() })?;
        let whole = |what: String| SignatureError::Rule { file: file.to_owned(), rule: String::new(), what };
        let good =
            |name: &str| !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if let Some(bad) = [&raw.name, &raw.service].into_iter().chain(raw.rule.iter().map(|r| &r.id)).find(|n| !good(n)) {
            return Err(whole(format!("`{bad}` is no name: use letters, digits and `._-`, at most 64")));
        }
        if raw.rule.is_empty() || raw.rule.len() > RULES {
            return Err(whole(format!("{} rules; 1 to {RULES} are allowed", raw.rule.len())));
        }
        // Logins last: they have no score.
        raw.rule.sort_by_key(|rule| std::cmp::Reverse(rule.score));
        let kind = raw.kind;
        let rules: Vec<Rule> = raw.rule.into_iter().map(|r| r.compile(file, &raw.name, kind)).collect::<Result<_, _>>()?;
        let mut ids = BTreeSet::new();
        if let Some(twice) = rules.iter().find(|r| !ids.insert(r.id())) {
            return Err(whole(format!("two rules are called `{}`", twice.id)));
        }
        let texts = rules.iter().filter_map(|r| match &r.test {
            Test::Message(p) => Some(p.expanded.as_str()),
            Test::Access { .. } => None,
        });
        let set = pattern::set(texts).map_err(|e| whole(format!("all patterns together: {e}")))?;
        let (name, service) = (raw.name.into(), raw.service.into());
        let signature = Self { name, service, summary: raw.summary, kind, programs: raw.programs, rules, set };
        signature.prove(file)?;
        Ok(signature)
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

    /// Its rules, heaviest first.
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

    /// The heaviest rule that matches this message.
    pub(super) fn in_message<'s, 'l>(&'s self, message: &'l [u8]) -> Option<Found<'s, 'l>> {
        // One pass of one automaton; it stops at the first byte that none of the patterns allows.
        if !self.set.is_match(message) {
            return None;
        }
        self.set.matches(message).into_iter().find_map(|index| self.rules.get(index)?.in_message(message))
    }

    /// The heaviest rule that matches this request.
    pub(super) fn in_request<'s, 'l>(&'s self, request: &Request<'l>) -> Option<Found<'s, 'l>> {
        let rule = self.rules.iter().find(|rule| rule.in_request(request))?;
        Some(Found { rule, addr: request.addr, user: request.user })
    }

    /// Looks at one line all by itself.
    pub fn find<'s, 'l>(&'s self, line: Line<'l>) -> Option<Found<'s, 'l>> {
        line.view().find(self)
    }

    fn prove(&self, file: &str) -> Result<(), SignatureError> {
        for rule in &self.rules {
            let wrong = |expected: String, found: String, line: &str| SignatureError::Example {
                file: file.to_owned(),
                rule: rule.id.to_string(),
                expected,
                found,
                line: line.to_owned(),
            };
            if rule.hits.is_empty() {
                let what = "it has no `hits`: a rule starts with a line that it matches".to_owned();
                return Err(SignatureError::Rule { file: file.to_owned(), rule: rule.id.to_string(), what });
            }
            for hit in &rule.hits {
                let expected = rule.expectation(hit);
                let found = self.find(Line::raw(hit.line.as_bytes())).map_or("nothing".to_owned(), |f| f.describe(hit.user.is_some()));
                if found != expected {
                    return Err(wrong(expected, format!("found {found}"), &hit.line));
                }
            }
            for miss in &rule.misses {
                if let Some(found) = self.find(Line::raw(miss.as_bytes())) {
                    return Err(wrong("a miss".to_owned(), format!("found {}", found.describe(true)), miss));
                }
            }
        }
        Ok(())
    }
}

impl Found<'_, '_> {
    fn describe(&self, with_user: bool) -> String {
        let user = self.user.filter(|_| with_user).map(|u| format!(" as `{}`", String::from_utf8_lossy(u))).unwrap_or_default();
        format!("{} ({}) from {}{user}", self.rule.id, self.rule.score, self.addr)
    }
}

impl RawRule {
    fn compile(self, file: &str, signature: &str, kind: Kind) -> Result<Rule, SignatureError> {
        let rule = |what: &str| SignatureError::Rule { file: file.to_owned(), rule: self.id.clone(), what: what.to_owned() };
        let refused = |error| SignatureError::Pattern { file: file.to_owned(), rule: self.id.clone(), error };
        let login = self.outcome == Outcome::Login;
        let score = match self.score {
            None if login => 0,
            Some(score) if !login && (1..=1000).contains(&score) => score,
            _ if login => return Err(rule("a rule with `outcome = \"login\"` has no `score`")),
            _ => return Err(rule("it needs a `score` of 1 to 1000; 10 is one full failure")),
        };
        if self.open_end.as_ref().is_some_and(|why| why.trim().is_empty()) {
            return Err(rule("`open_end` must say why the end of the line may be anything"));
        }
        let open = self.open_end.is_some();
        let fields = !self.methods.is_empty() || self.path.is_some() || !self.status.is_empty();
        let (test, text) = match (kind, &self.pattern) {
            (Kind::Syslog | Kind::Plain, Some(text)) if !fields => {
                (Test::Message(Pattern::message(text, open).map_err(refused)?), text.clone())
            }
            (Kind::AccessLog, None) if fields => {
                let path = self.path.as_deref().map(|text| Pattern::field(text, open)).transpose().map_err(refused)?;
                let text = describe_fields(&self.methods, self.path.as_deref(), &self.status);
                (Test::Access { methods: self.methods, path, status: self.status }, text)
            }
            (Kind::AccessLog, _) => return Err(rule("an access-log rule has `methods`, `path` or `status`, and no `pattern`")),
            _ => return Err(rule("a rule of this kind has a `pattern`, and no `methods`, `path` or `status`")),
        };
        Ok(Rule {
            full: format!("{signature}/{}", self.id).into(),
            id: self.id.into(),
            score,
            login,
            note: self.note,
            text,
            test,
            hits: self.hits,
            misses: self.misses,
        })
    }
}

fn describe_fields(methods: &[String], path: Option<&str>, status: &BTreeSet<u16>) -> String {
    let mut parts = Vec::new();
    if !methods.is_empty() {
        parts.push(format!("methods {}", methods.join(" ")));
    }
    parts.extend(path.map(|p| format!("path {p}")));
    if !status.is_empty() {
        parts.push(format!("status {}", status.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")));
    }
    parts.join(", ")
}

impl Rule {
    /// Its name within the signature.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `signature/rule`, as attacks name it.
    pub fn full_name(&self) -> &Arc<str> {
        &self.full
    }

    /// How heavy a match is: 10 is one full failure.
    pub fn score(&self) -> u16 {
        self.score
    }

    /// Whether its lines tell of somebody who got in.
    pub fn is_login(&self) -> bool {
        self.login
    }

    /// What a reader should know about it.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The pattern or the fields, as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Lines that match.
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// Lines that the signature must not match.
    pub fn misses(&self) -> &[String] {
        &self.misses
    }

    fn expectation(&self, hit: &Hit) -> String {
        let user = hit.user.as_ref().map(|u| format!(" as `{u}`")).unwrap_or_default();
        format!("{} ({}) from {}{user}", self.id, hit.score.unwrap_or(self.score), hit.addr)
    }

    fn in_message<'s, 'l>(&'s self, message: &'l [u8]) -> Option<Found<'s, 'l>> {
        let Test::Message(pattern) = &self.test else { return None };
        let groups = pattern.regex.captures(message)?;
        let addr = str::from_utf8(groups.name("addr")?.as_bytes()).ok()?.parse().ok()?;
        Some(Found { rule: self, addr, user: groups.name("user").map(|u| u.as_bytes()) })
    }

    pub(super) fn in_request(&self, request: &Request<'_>) -> bool {
        let Test::Access { methods, path, status } = &self.test else { return false };
        (status.is_empty() || status.contains(&request.status))
            && (methods.is_empty() || methods.iter().any(|m| m.as_bytes() == request.method))
            && path.as_ref().is_none_or(|p| p.regex.is_match(request.path))
    }
}
