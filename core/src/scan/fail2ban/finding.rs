//! What a line without its date says: fail2ban's `findFailure`.

use std::fmt::Write;

use super::super::times::LogClock;
use super::Failure;
use super::expression::{Expression, Scratch, Text, Verdict};
use super::filter::{Filter, Miss, Room, Session};
use super::lines::Lines;
use super::rule::Rule;
use super::session::{Field, Merged, Record};
use crate::attack::excerpt;
use crate::net::Addr;
use crate::time::Stamp;

impl Filter {
    pub(super) fn find(&self, session: &mut Session, room: &mut Room, at: Option<Stamp>, clock: &LogClock) -> Option<Failure> {
        if self.lines > 1 {
            session.lines.push(&room.text, self.lines);
            session.lines.join(&mut room.text);
        } else {
            room.text.push('\n');
        }
        self.sieve.sift(&room.text, &mut room.possible);
        let (fails, pref) = room.possible.split_at_checked(self.fails.len())?;
        if pref.contains(&false) {
            return session.nothing(Miss::Prefix);
        }
        if !fails.contains(&true) {
            return session.nothing(Miss::NoMatch);
        }
        let Room { text, content, possible, scratch } = room;
        scratch.begin();
        let whole = Text::new(text);
        let few = !self.ignores.is_empty() && self.ignores.len() + 2 < self.fails.len();
        if few && self.ignored(session, &whole, scratch) {
            return session.nothing(Miss::Ignored);
        }
        let mut before = Record::default();
        let mut looked_at = whole;
        // What the expressions see is one line even where the buffer has more.
        let mut replaced = None;
        if let Some(pref) = &self.pref {
            if !matches(session, &pref.expression, &whole, scratch) {
                return session.nothing(Miss::Prefix);
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
            let Some(lines) = self.matched_lines(session, rule, &looked_at, scratch, replaced.as_ref()) else {
                return session.nothing(Miss::Ignored);
            };
            return self.told(session, said, lines, index, at, clock);
        }
        session.nothing(Miss::NoMatch)
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
            if said.says(Field::NoFail) {
                return session.nothing(Miss::NoFailure(regex));
            }
            return self.failure(&said, regex, at).or_else(|| session.nothing(Miss::Nobody(regex)));
        };
        let mut merged = session.sessions.merge(&id, said, lines, clock.now);
        let failure = if merged.record.says(Field::NoFail) {
            session.nothing(Miss::NoFailure(regex))
        } else {
            let Merged { record, .. } = &mut merged;
            let nobody = [Field::Fid, Field::Ip4, Field::Ip6, Field::Dns].iter().all(|field| record.get(*field).is_none());
            if nobody {
                record.set(Field::Pending, Some("1"));
            }
            self.failure(record, regex, at).or_else(|| session.nothing(Miss::Nobody(regex)))
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

/// Whether an expression matches; a step limit that was hit is noted, and is no match.
fn matches(session: &mut Session, expression: &Expression, text: &Text<'_>, scratch: &mut Scratch) -> bool {
    match expression.search(text, scratch) {
        Verdict::Match => true,
        Verdict::No => false,
        Verdict::Limit => {
            session.undecided = true;
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
