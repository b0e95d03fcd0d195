//! A line through a whole filter.
//!
//! A port of fail2ban's `Filter.processLine` and `findFailure` (`server/filter.py`):
//!
//! 1. The date is found and cut out. What has none counts at the last date of less than a minute ago.
//! 2. A [`Sieve`] tells which expressions the line can match at all; most lines end here.
//! 3. `ignoreregex`, where there are few of them; `prefregex`, whose `<F-CONTENT>` is looked at instead of
//!    the line; then the first `failregex` that matches; `ignoreregex` of what is looked at.
//! 4. What it says goes together with what its session said before ([`super::session`]).
//! 5. Who it was: `fid`, else `ip4`, `ip6`, `dns`.

use std::fmt::Write;
use std::sync::Arc;

use super::super::scanner::Line;
use super::super::times::LogClock;
use super::dates::{DateError, DateFound, DateMemory, Detector};
use super::expression::{Expression, ExpressionError, Scratch, Text, Verdict};
use super::lines::Lines;
use super::session::{Field, Merged, Record, Sessions};
use super::sieve::Sieve;
use super::{Definition, Failure, FilterError};
use crate::attack::excerpt;
use crate::net::Addr;
use crate::time::Stamp;

/// A longer line is not looked at: nothing that names an attacker is as long, and what runs in linear
/// time still runs twenty times for it.
const LONGEST: usize = 64 * 1024;

/// For how long the date of a line holds for those after it that have none (fail2ban's 60 s).
const DATE_HOLDS: i64 = 60_000;

/// What a journal record is told to come from; filters pass over it.
const HOST: &str = "localhost";

/// Why a filter cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// One of its regexes.
    #[error("filter {filter}: {option} {number}: {why}")]
    Expression {
        /// The filter.
        filter: String,
        /// Which option.
        option: &'static str,
        /// Which of its lines, from 1.
        number: usize,
        /// What is wrong.
        why: ExpressionError,
    },
    /// Its date pattern.
    #[error("filter {filter}: {why}")]
    Date {
        /// The filter.
        filter: String,
        /// What is wrong.
        why: DateError,
    },
}

impl From<CompileError> for FilterError {
    fn from(error: CompileError) -> Self {
        let (CompileError::Expression { filter, .. } | CompileError::Date { filter, .. }) = &error;
        Self { file: format!("{filter}.conf"), line: 0, what: error.to_string() }
    }
}

/// A compiled filter. Immutable: share it in an `Arc`.
#[derive(Debug)]
pub struct Filter {
    full: Arc<str>,
    service: Arc<str>,
    dates: Detector,
    pref: Option<Rule>,
    fails: Vec<Rule>,
    ignores: Vec<Expression>,
    sieve: Sieve,
    lines: usize,
    /// Whether a name that is no address names nobody.
    addresses_only: bool,
}

/// An expression and what its groups say.
#[derive(Debug)]
struct Rule {
    expression: Expression,
    /// Groups that fill a field.
    fields: Vec<(Field, usize)>,
    /// Groups that fill it where nothing else has, in order.
    instead: Vec<(Field, usize)>,
    /// Groups that are added to it.
    parts: Vec<(Field, usize)>,
    content: Option<usize>,
    skips: Vec<usize>,
}

/// How a filter's expressions run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Those that never take more than linear time.
    pub linear: usize,
    /// Those that for some lines must try, up to a step limit.
    pub stepped: usize,
}

/// What a filter remembers from one line to the next. Bounded: 100 sessions, the last lines, and room
/// to work in.
#[derive(Debug, Default)]
pub struct Session {
    dates: DateMemory,
    last_date: Option<Stamp>,
    lines: Lines,
    sessions: Sessions,
    room: Room,
    limits: u64,
    nameless: u64,
}

/// Room to work in, kept so that a line costs no allocation.
#[derive(Debug, Default)]
struct Room {
    text: String,
    content: String,
    possible: Vec<bool>,
    scratch: Scratch,
}

impl Session {
    /// How many lines were not decided, for an expression's step limit or their own length.
    pub const fn limits(&self) -> u64 {
        self.limits
    }

    /// How many failures named somebody by what is no address.
    pub const fn nameless(&self) -> u64 {
        self.nameless
    }
}

impl Rule {
    fn compile(text: &str, names_too: bool, multiline: bool) -> Result<Self, ExpressionError> {
        let expression = Expression::compile(text, names_too, multiline)?;
        let (mut fields, mut instead, mut parts, mut skips) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (name, group) in expression.names() {
            if let Some(field) = Field::of(name) {
                fields.push((field, *group));
            } else if let Some(field) = stands_for(name, "alt_") {
                instead.push((field, *group));
            } else if let Some(field) = stands_for(name, "tuple_") {
                parts.push((field, *group));
            } else if name.starts_with("skiplines") {
                skips.push(*group);
            }
        }
        let content = expression.names().iter().find(|(name, _)| name == "content").map(|(_, group)| *group);
        Ok(Self { expression, fields, instead, parts, content, skips })
    }

    fn names_somebody(&self) -> bool {
        ["fid", "ip4", "ip6", "dns", "mlfid"].iter().any(|name| self.expression.has(name))
    }

    /// What its groups say, put over what is said already. A group that took no part says nothing, as since
    /// fail2ban 1.1.1: Dovecot's `prefregex` names who it was, and a `failregex` may name them once more.
    fn said(&self, text: &Text<'_>, scratch: &Scratch, record: &mut Record) {
        let mut own = Record::default();
        for (field, group) in &self.fields {
            own.set(*field, scratch.group(text, *group));
        }
        for (field, group) in &self.instead {
            let value = scratch.group(text, *group).filter(|value| !value.is_empty());
            if value.is_some() && !own.says(*field) {
                own.set(*field, value);
            }
        }
        for (field, group) in &self.parts {
            if let Some(part) = scratch.group(text, *group) {
                let joined = own.get(*field).map_or_else(|| part.to_owned(), |before| format!("{before}, {part}"));
                own.set(*field, Some(&joined));
            }
        }
        record.take_over(own);
    }
}

/// `alt_user_1` stands for `user`.
fn stands_for(name: &str, prefix: &str) -> Option<Field> {
    let rest = name.strip_prefix(prefix)?;
    let base = rest.rsplit_once('_').filter(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    Field::of(match base.map_or(rest, |(base, _)| base) {
        "id" => "fid",
        name => name,
    })
}

impl Filter {
    /// Compiles what was read.
    ///
    /// # Errors
    /// Which regex, or which date pattern, is none.
    pub fn compile(definition: &Definition) -> Result<Self, CompileError> {
        let usedns = definition.usedns.as_deref().unwrap_or_default().to_lowercase();
        let names_too = usedns != "no";
        let multiline = definition.maxlines > 1;
        let wrong = |option, number: usize| {
            let filter = definition.name.clone();
            move |why| CompileError::Expression { filter, option, number: number + 1, why }
        };
        let pref = definition.prefregex.as_deref().map(|text| Rule::compile(text, names_too, false).map_err(wrong("prefregex", 0)));
        let pref = pref.transpose()?;
        let mut fails = Vec::new();
        for (i, text) in definition.failregex.iter().enumerate() {
            let rule = Rule::compile(text, names_too, multiline).map_err(wrong("failregex", i))?;
            if !rule.names_somebody() && !pref.as_ref().is_some_and(Rule::names_somebody) {
                return Err(wrong("failregex", i)(ExpressionError::Nobody));
            }
            fails.push(rule);
        }
        let mut ignores = Vec::new();
        for (i, text) in definition.ignoreregex.iter().enumerate() {
            ignores.push(Expression::compile(text, names_too, false).map_err(wrong("ignoreregex", i))?);
        }
        let dates = Detector::compile(definition.datepattern.as_deref());
        Ok(Self {
            full: format!("fail2ban/{}", definition.name).into(),
            service: definition.name.as_str().into(),
            dates: dates.map_err(|why| CompileError::Date { filter: definition.name.clone(), why })?,
            sieve: Sieve::new(fails.iter().chain(&pref).map(|rule| &rule.expression)),
            pref,
            fails,
            ignores,
            lines: usize::try_from(definition.maxlines).unwrap_or(usize::MAX).max(1),
            addresses_only: !names_too,
        })
    }

    /// `fail2ban/sshd`, as attacks name it.
    pub fn full_name(&self) -> &Arc<str> {
        &self.full
    }

    /// The filter's own name.
    pub fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// How its expressions run.
    pub fn summary(&self) -> Summary {
        let all = self.fails.iter().chain(&self.pref).map(|rule| &rule.expression).chain(&self.ignores);
        let linear = all.clone().filter(|expression| expression.is_linear()).count();
        Summary { linear, stepped: all.count().saturating_sub(linear) }
    }

    /// What to begin with.
    pub fn session(&self) -> Session {
        Session::default()
    }

    /// Looks at the next line of a source.
    pub fn look(&self, session: &mut Session, line: Line<'_>, clock: &LogClock) -> Option<Failure> {
        if line.text().len() > LONGEST {
            session.limits = session.limits.saturating_add(1);
            return None;
        }
        let mut room = std::mem::take(&mut session.room);
        let at = self.undated(session, line, clock, &mut room.text);
        let failure = self.find(session, &mut room, at, clock);
        session.room = room;
        if failure.as_ref().is_some_and(|failure| failure.addr.is_none()) {
            session.nameless = session.nameless.saturating_add(1);
        }
        failure
    }

    /// The line without its date, and the date.
    fn undated(&self, session: &mut Session, line: Line<'_>, clock: &LogClock, out: &mut String) -> Option<Stamp> {
        out.clear();
        let text = String::from_utf8_lossy(line.text());
        if let Some((program, pid)) = line.record() {
            record_text(program, pid, &text, out);
        } else if line.at().is_some() {
            out.push_str(text.trim_end_matches(['\r', '\n']));
        } else {
            return self.cut(session, &text, clock, out);
        }
        session.last_date = line.at();
        Some(line.at().unwrap_or(clock.now))
    }

    fn cut(&self, session: &mut Session, text: &str, clock: &LogClock, out: &mut String) -> Option<Stamp> {
        let text = text.trim_end_matches(['\r', '\n']);
        let recent = session.last_date.filter(|last| last.0 > clock.now.0.saturating_sub(DATE_HOLDS));
        match self.dates.find(&mut session.dates, text, clock) {
            Some(DateFound { start, end, at }) if start < end => {
                // A date that is none: the line counts at the last one, if that holds, as it stands.
                if at.is_none() && recent.is_some() {
                    out.push_str(text);
                    return recent;
                }
                out.push_str(text.get(..start).unwrap_or_default());
                out.push_str(text.get(end..).unwrap_or_default());
                session.last_date = at.or(session.last_date);
                at
            }
            Some(_) => {
                out.push_str(text);
                recent.or(Some(clock.now))
            }
            None => {
                out.push_str(text);
                recent
            }
        }
    }

    fn find(&self, session: &mut Session, room: &mut Room, at: Option<Stamp>, clock: &LogClock) -> Option<Failure> {
        if self.lines > 1 {
            session.lines.push(&room.text, self.lines);
            session.lines.join(&mut room.text);
        } else {
            room.text.push('\n');
        }
        self.sieve.sift(&room.text, &mut room.possible);
        let (fails, pref) = room.possible.split_at_checked(self.fails.len())?;
        if !fails.contains(&true) || pref.contains(&false) {
            return None;
        }
        let Room { text, content, possible, scratch } = room;
        let whole = Text::new(text);
        let few = !self.ignores.is_empty() && self.ignores.len() + 2 < self.fails.len();
        if few && self.ignored(session, &whole, scratch) {
            return None;
        }
        let mut before = Record::default();
        let mut looked_at = whole;
        // What the expressions see is one line even where the buffer has more.
        let mut replaced = None;
        if let Some(pref) = &self.pref {
            if !matches(session, &pref.expression, &whole, scratch) {
                return None;
            }
            pref.said(&whole, scratch, &mut before);
            if let Some(span) = pref.content.and_then(|group| scratch.span(group)).filter(|(start, end)| start < end) {
                replaced = Some(session.lines.clone()).filter(|_| self.lines > 1);
                looked_at = content_text(&whole, span, content);
                if self.lines > 1 {
                    session.lines.replace(looked_at.as_str().strip_suffix('\n').unwrap_or_default());
                }
            }
        }
        let candidates = self.fails.iter().enumerate().zip(possible.iter());
        for ((index, rule), _) in candidates.filter(|(_, possible)| **possible) {
            if !matches(session, &rule.expression, &looked_at, scratch) {
                continue;
            }
            let mut said = before;
            rule.said(&looked_at, scratch, &mut said);
            let lines = self.matched_lines(session, rule, &looked_at, scratch, replaced.as_ref())?;
            return self.told(session, said, lines, index, at, clock);
        }
        None
    }

    /// How many lines matched; `None` where they are to be ignored. They are gone from the buffer.
    fn matched_lines(
        &self,
        session: &mut Session,
        rule: &Rule,
        text: &Text<'_>,
        scratch: &mut Scratch,
        replaced: Option<&Lines>,
    ) -> Option<u32> {
        if self.lines <= 1 {
            return (!self.ignored(session, text, scratch)).then_some(1);
        }
        let span = scratch.span(0).unwrap_or_default();
        let skipped: String = rule.skips.iter().filter_map(|group| scratch.group(text, *group)).collect();
        let (matched, others) = replaced.unwrap_or(&session.lines).matched(text.as_str(), span, &skipped);
        session.lines = others;
        let mut joined = String::new();
        matched.join(&mut joined);
        let ignored = self.ignored(session, &Text::new(&joined), scratch);
        (!ignored).then(|| u32::try_from(matched.len()).unwrap_or(u32::MAX))
    }

    fn ignored(&self, session: &mut Session, text: &Text<'_>, scratch: &mut Scratch) -> bool {
        self.ignores.iter().any(|ignore| matches(session, ignore, text, scratch))
    }

    /// What a match, together with its session, amounts to.
    fn told(&self, session: &mut Session, said: Record, lines: u32, regex: usize, at: Option<Stamp>, clock: &LogClock) -> Option<Failure> {
        let Some(id) = said.get(Field::Id).map(str::to_owned) else {
            let mut said = said;
            said.matches = lines;
            // Without a session there is no failure that it could wait for.
            return if said.says(Field::NoFail) { None } else { self.failure(&said, regex, at) };
        };
        let mut merged = session.sessions.merge(&id, said, lines, clock.now);
        let failure = if merged.record.says(Field::NoFail) {
            None
        } else {
            let Merged { record, .. } = &mut merged;
            let nobody = [Field::Fid, Field::Ip4, Field::Ip6, Field::Dns].iter().all(|field| record.get(*field).is_none());
            if nobody {
                record.set(Field::Pending, Some("1"));
            }
            self.failure(record, regex, at)
        };
        session.sessions.keep(&id, &merged);
        failure
    }

    fn failure(&self, record: &Record, regex: usize, at: Option<Stamp>) -> Option<Failure> {
        let fid = record.get(Field::Fid);
        let ip = record.get(Field::Ip4).or_else(|| record.get(Field::Ip6));
        let name = record.get(Field::Dns).filter(|_| ip.is_none());
        // As fail2ban does with `usedns = no`: a name that is no address is nobody.
        if self.addresses_only && fid.is_none() && name.is_some_and(|name| name.parse::<Addr>().is_err()) {
            return None;
        }
        let who = ip.or(name);
        let mut host = fid.or(who)?.to_owned();
        if let Some(cidr) = record.get(Field::Cidr).filter(|_| fid.is_none() && ip.is_some()) {
            let _ = write!(host, "/{cidr}");
        }
        let addr = fid.and_then(addr).or_else(|| who.and_then(addr));
        let user = record.get(Field::User).map(|user| excerpt(user.as_bytes()));
        let mut users: Vec<String> = record.users.iter().map(|user| excerpt(user.as_bytes())).collect();
        if users.is_empty() {
            users.extend(user.clone());
        }
        Some(Failure { host, addr, at, user, users, attempts: record.matches, regex })
    }
}

fn addr(text: &str) -> Option<Addr> {
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether an expression matches; a step limit that was hit is counted, and is no match.
fn matches(session: &mut Session, expression: &Expression, text: &Text<'_>, scratch: &mut Scratch) -> bool {
    match expression.search(text, scratch) {
        Verdict::Match => true,
        Verdict::No => false,
        Verdict::Limit => {
            session.limits = session.limits.saturating_add(1);
            false
        }
    }
}

/// The content of a line and a newline; copied only where that is not the end of the line.
fn content_text<'a>(whole: &Text<'a>, (start, end): (usize, usize), room: &'a mut String) -> Text<'a> {
    let text = whole.as_str();
    if end + 1 == text.len() && text.ends_with('\n') {
        return Text::new(text.get(start..).unwrap_or_default());
    }
    room.clear();
    room.push_str(text.get(start..end).unwrap_or_default());
    room.push('\n');
    Text::new(room)
}

/// `HOST IDENT[PID]: MESSAGE`, as fail2ban makes of a journal record (`server/filtersystemd.py`).
fn record_text(program: Option<&[u8]>, pid: Option<u32>, message: &str, out: &mut String) {
    out.push_str(HOST);
    out.push(' ');
    if let Some(program) = program.filter(|program| !program.is_empty()) {
        out.push_str(&String::from_utf8_lossy(program));
        if let Some(pid) = pid {
            let _ = write!(out, "[{pid}]");
        }
        out.push_str(": ");
        // The kernel's lines begin with the time since boot, which nothing here needs to know.
        if out.ends_with(" kernel: ") {
            out.push_str("[    0.000000] ");
        }
    }
    for (i, line) in message.split('\n').enumerate() {
        out.push_str(if i > 0 { "\\n" } else { "" });
        out.push_str(line);
    }
}
