//! One kind of line: how a rule is made from what was written, and how it looks.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use super::super::formats::access::{self, Request};
use super::super::formats::quote;
use super::super::formats::record::Record;
use super::super::needles::Needles;
use super::super::pattern::{Memory, Owned, Pattern};
use super::fields::{FieldTest, Refused, address};
use super::raw::{Outcome, RawFields, RawRule};
use super::{Found, Hit, Kind, SignatureError};

/// One kind of line.
#[derive(Debug)]
pub struct Rule {
    pub(super) id: Arc<str>,
    full: Arc<str>,
    score: u16,
    login: bool,
    note: Option<String>,
    text: String,
    pub(in super::super) test: Test,
    hits: Vec<Hit>,
    misses: Vec<String>,
    owned: BTreeMap<String, String>,
    /// Found when they are first asked for: most signatures are never looked for.
    needles: OnceLock<Needles>,
}

/// How a rule looks at a line.
#[derive(Debug)]
pub(in super::super) enum Test {
    Message(Pattern),
    Access(Box<RequestTest>),
    Fields(FieldTest),
}

/// What a request must be; what is not given is not looked at.
#[derive(Debug)]
pub(in super::super) struct RequestTest {
    methods: Vec<String>,
    path: Option<Pattern>,
    agent: Option<Pattern>,
    referer: Option<Pattern>,
    status: BTreeSet<u16>,
}

impl RequestTest {
    fn texts<'r>(&self, request: &Request<'r>) -> [(Option<&Pattern>, Option<&'r [u8]>); 3] {
        [(self.path.as_ref(), Some(request.path)), (self.agent.as_ref(), request.agent), (self.referer.as_ref(), request.referer)]
    }

    fn holds(&self, request: &Request<'_>, memory: &mut Memory) -> bool {
        let mut matches = |pattern: &Pattern, text: &[u8]| memory.together.matches(pattern, text, text);
        (self.status.is_empty() || self.status.contains(&request.status))
            && (self.methods.is_empty() || self.methods.iter().any(|m| m.as_bytes() == request.method))
            && self.texts(request).iter().all(|(test, text)| test.is_none_or(|test| text.is_some_and(|text| matches(test, text))))
    }

    fn needles(&self) -> Needles {
        let behind = |text: &Option<Pattern>, before: &[&[u8]]| text.as_ref().map(|text| text.needles_behind(before)).unwrap_or_default();
        let texts = [behind(&self.path, access::BEFORE_PATH), behind(&self.agent, &[b"\""]), behind(&self.referer, &[b"\""])];
        let texts = Needles::rarest(texts);
        if texts.is_help() {
            return texts;
        }
        // Nearly each line has a status that somebody asks for.
        Needles::rarest([
            texts,
            Needles::texts(self.status.iter().map(|status| format!("\" {status} "))),
            Needles::texts(self.methods.iter().map(|method| format!("\"{method} "))),
        ])
    }

    /// How much of it is right: a method or a status counts one, a text two.
    pub(in super::super) fn right(&self, request: &Request<'_>) -> usize {
        let method = self.methods.iter().any(|m| m.as_bytes() == request.method);
        let texts = self
            .texts(request)
            .iter()
            .filter(|(test, text)| test.is_some_and(|p| text.is_some_and(|text| p.regex().is_match(text))))
            .count();
        usize::from(method) + usize::from(self.status.contains(&request.status)) + 2 * texts
    }
}

/// What the rules of one signature share.
pub(super) struct Shared<'a> {
    pub(super) file: &'a str,
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    pub(super) fields: &'a RawFields,
    /// Whether its patterns need no proof any more.
    pub(super) proven: bool,
}

impl RawRule {
    pub(super) fn compile(self, of: &Shared<'_>) -> Result<Rule, SignatureError> {
        let wrong = |what: &str| SignatureError::Rule { file: of.file.to_owned(), rule: self.id.clone(), what: what.to_owned() };
        let login = self.outcome == Outcome::Login;
        let score = match self.score {
            None if login => 0,
            Some(score) if !login && (1..=1000).contains(&score) => score,
            _ if login => return Err(wrong("a rule with `outcome = \"login\"` has no `score`")),
            _ => return Err(wrong("it needs a `score` of 1 to 1000; 10 is one full failure")),
        };
        if self.open_end.as_ref().is_some_and(|why| why.trim().is_empty()) {
            return Err(wrong("`open_end` must say why the end of the line may be anything"));
        }
        if self.owned.values().any(|why| why.trim().is_empty()) {
            return Err(wrong("`owned` must say of each group why no client can write past it"));
        }
        let (test, text) = self.test(of).map_err(|refused| match refused {
            Refused::Rule(what) => wrong(&what),
            Refused::Pattern(error) => SignatureError::Pattern { file: of.file.to_owned(), rule: self.id.clone(), error },
        })?;
        Ok(Rule {
            full: format!("{}/{}", of.name, self.id).into(),
            id: self.id.into(),
            score,
            login,
            note: self.note,
            text,
            test,
            hits: self.hits,
            misses: self.misses,
            owned: self.owned,
            needles: OnceLock::new(),
        })
    }

    fn test(&self, of: &Shared<'_>) -> Result<(Test, String), Refused> {
        let open = self.open_end.is_some();
        let owned = Owned { groups: self.owned.keys().map(String::as_str).collect(), proven: of.proven };
        let texts = [&self.path, &self.agent, &self.referer];
        let request = !self.methods.is_empty() || texts.iter().any(|text| text.is_some()) || !self.status.is_empty();
        let fields = !self.conditions.is_empty() || !self.fields.is_empty();
        match (of.kind, &self.pattern) {
            (Kind::Syslog | Kind::Plain, Some(text)) if !request && !fields => {
                Ok((Test::Message(Pattern::message(text, open, &owned).map_err(Refused::Pattern)?), text.clone()))
            }
            (Kind::AccessLog, None) if request && !fields => {
                let field = |text: &Option<String>| {
                    text.as_deref().map(|t| Pattern::field(t, open, of.proven)).transpose().map_err(Refused::Pattern)
                };
                let (path, agent, referer) = (field(&self.path)?, field(&self.agent)?, field(&self.referer)?);
                let test = RequestTest { methods: self.methods.clone(), path, agent, referer, status: self.status.clone() };
                Ok((Test::Access(Box::new(test)), self.describe_request()))
            }
            (Kind::Fields, None) if !request => {
                let test = FieldTest::compile(&self.conditions, &self.fields, of.fields, open, &owned)?;
                let text = test.describe();
                Ok((Test::Fields(test), text))
            }
            (Kind::AccessLog, _) => Err(Refused::Rule(
                "an access-log rule has `methods`, `path`, `agent`, `referer` or `status`, and nothing of other kinds".into(),
            )),
            (Kind::Fields, _) => {
                Err(Refused::Rule("a rule of fields has `where = { ... }`, and no `pattern`, `methods`, `path` or `status`".into()))
            }
            _ => Err(Refused::Rule("a rule of this kind has a `pattern`, and no `methods`, `path`, `status` or `where`".into())),
        }
    }
}

/// Refuses a signature in which a line of one rule, filled by a client, is read by another with
/// another address.
pub(super) fn hold_apart(file: &str, rules: &mut [Rule]) -> Result<(), SignatureError> {
    let taken = rules.iter_mut().filter_map(|rule| match &mut rule.test {
        Test::Message(pattern) => Some((rule.id.clone(), pattern.take_proof()?)),
        Test::Access(_) | Test::Fields(_) => None,
    });
    let proofs: Vec<_> = taken.collect();
    for (id, proof) in &proofs {
        for (reader, other) in proofs.iter().filter(|(reader, _)| reader != id) {
            let refused = |error| SignatureError::Pattern { file: file.to_owned(), rule: id.to_string(), error };
            proof.against(other, Some(reader)).map_err(refused)?;
        }
    }
    Ok(())
}

impl RawRule {
    fn describe_request(&self) -> String {
        let mut parts = Vec::new();
        if !self.methods.is_empty() {
            parts.push(format!("methods {}", self.methods.join(" ")));
        }
        for (name, text) in [("path", &self.path), ("agent", &self.agent), ("referer", &self.referer)] {
            parts.extend(text.as_ref().map(|text| format!("{name} {text}")));
        }
        if !self.status.is_empty() {
            parts.push(format!("status {}", self.status.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")));
        }
        parts.join(", ")
    }
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

    /// How heavy a match is: 10 is one full failure; 0 for a login.
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

    /// Texts one of which each of its lines holds.
    pub fn needles(&self) -> &Needles {
        self.needles.get_or_init(|| match &self.test {
            Test::Message(pattern) => pattern.needles(),
            Test::Access(test) => test.needles(),
            Test::Fields(test) => test.needles(),
        })
    }

    /// The pattern or the fields, as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The parts of a text, which its pattern matches, that a client may fill with anything; for rules
    /// of other kinds all that stands between quotes. For a syslog line the text is the message.
    pub fn free(&self, text: &[u8]) -> Vec<(usize, usize)> {
        match &self.test {
            Test::Message(pattern) => pattern.free(text, &|name| self.owned.contains_key(name)),
            Test::Access(_) | Test::Fields(_) => quote::spans(text),
        }
    }

    /// Which groups no client can write past, and why.
    pub fn owned(&self) -> &BTreeMap<String, String> {
        &self.owned
    }

    /// Lines that match.
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// Lines that the signature must not match.
    pub fn misses(&self) -> &[String] {
        &self.misses
    }

    /// What it says of a message.
    pub(in super::super) fn in_message<'s, 'l>(&'s self, message: &'l [u8], memory: &mut Memory) -> Option<Found<'s, 'l>> {
        let Test::Message(pattern) = &self.test else { return None };
        let groups = pattern.groups(message, memory)?;
        let text = |group: Option<(usize, usize)>| group.and_then(|(from, to)| message.get(from..to));
        // Greedy, it may have taken a port that stands behind it: `192.0.2.7:50022`.
        let addr = address(text(groups.addr)?)?;
        let [user, time] = [groups.user, groups.time].map(|group| text(group).map(Cow::Borrowed));
        Some(Found { rule: self, addr, user, time })
    }

    /// What it says of a request.
    pub(in super::super) fn in_request<'s, 'l>(&'s self, request: &Request<'l>, memory: &mut Memory) -> Option<Found<'s, 'l>> {
        let Test::Access(test) = &self.test else { return None };
        let found = || Found { rule: self, addr: request.addr, user: request.user.map(Cow::Borrowed), time: None };
        test.holds(request, memory).then(found)
    }

    /// What it says of the fields of `text`.
    pub(in super::super) fn in_record<'s, 'l>(&'s self, record: &Record, text: &'l [u8], memory: &mut Memory) -> Option<Found<'s, 'l>> {
        let Test::Fields(test) = &self.test else { return None };
        let found = test.look(record, text, memory)?;
        Some(Found { rule: self, addr: found.addr, user: found.user, time: found.time })
    }
}
