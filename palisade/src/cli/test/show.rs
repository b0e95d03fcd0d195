//! One line's answer: for people, or an object of JSON.
//!
//! In JSON each line has an object, with nulls where nothing matched. A line that tells of a login has `"match":false`, as a
//! match is an attack, and `"login":true` with who got in. `file` is there where several were named; with `--explain`, a line
//! that means nothing has the `program` that wrote it and `why`: a reason for each signature, and for each filter of fail2ban's.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use palisade_core::attack::{Attack, EXCERPT, Login, Sign, excerpt};
use palisade_core::scan::fail2ban::{Filter, Session};
use palisade_core::scan::{Explanation, Line, LogClock, Reason, Scanner};
use palisade_core::time::Stamp;
use serde::Serialize;

use super::super::print::{self, Buffered, Painted};

/// What a line told.
pub(super) enum Told {
    Nothing,
    Attack(Attack),
    Login(Login),
}

impl Told {
    /// Of several signs of a line, the heaviest attack counts, else the first login.
    pub(super) fn or(&mut self, sign: Sign) {
        match (&*self, sign) {
            (Self::Attack(before), Sign::Attack(attack)) if attack.score <= before.score => {}
            (_, Sign::Attack(attack)) => *self = Self::Attack(attack),
            (Self::Nothing, Sign::Login(login)) => *self = Self::Login(login),
            (_, Sign::Login(_)) => {}
        }
    }
}

/// The colours (SGR) of what was found in a line.
const ADDR: u8 = 31;
const USER: u8 = 33;
const TIME: u8 = 2;
const LOGIN: u8 = 32;

/// What is told of a line in JSON.
#[derive(Serialize)]
pub(super) struct LineDoc<'a> {
    pub(super) line: u64,
    #[serde(rename = "match")]
    pub(super) matched: bool,
    pub(super) signature: Option<&'a str>,
    pub(super) service: Option<&'a str>,
    pub(super) addr: Option<String>,
    pub(super) score: Option<u16>,
    pub(super) time: Option<Stamp>,
    pub(super) user: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) login: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<&'a str>,
}

impl<'a> LineDoc<'a> {
    /// Of a line that means nothing; `file` where there are several.
    pub(super) const fn nothing(line: u64, file: Option<&'a str>) -> Self {
        Self { line, matched: false, signature: None, service: None, addr: None, score: None, time: None, user: None, login: false, file }
    }
}

/// Why a line means nothing, in JSON.
#[derive(Serialize)]
struct WhyDoc<'a> {
    #[serde(flatten)]
    line: LineDoc<'a>,
    program: Option<&'a str>,
    why: BTreeMap<&'a str, String>,
}

/// Where the answers go, and what is counted of them.
pub(super) struct Show {
    out: Buffered,
    explain: bool,
    json: bool,
    /// Of several, the one at hand.
    file: Option<String>,
    /// With `--explain`, the filters once more: what one finds in a line depends on those before it.
    filters: Vec<(Arc<Filter>, Session)>,
    /// By which they read dates.
    clock: Option<LogClock>,
    several: bool,
    lines: u64,
    matched: u64,
    logins: u64,
}

impl Show {
    pub(super) fn new(explain: bool, json: bool, several: bool) -> Self {
        let (out, filters) = (Buffered::new(), Vec::new());
        Self { out, explain, json, file: None, filters, clock: None, several, lines: 0, matched: 0, logins: 0 }
    }

    /// The lines of this file follow.
    pub(super) fn begin(&mut self, path: &Path, scanner: &Scanner, clock: &LogClock) {
        self.file = self.several.then(|| path.display().to_string());
        let filters = scanner.jails().iter().filter(|_| self.explain).flat_map(|jail| &jail.filters);
        self.filters = filters.map(|filter| (Arc::clone(filter), filter.session())).collect();
        self.clock = Some(clock.clone());
    }

    /// Whether something is told of lines that match nothing.
    pub(super) const fn tells_of_all(&self) -> bool {
        self.json || self.explain
    }

    /// So many lines matched nothing.
    pub(super) const fn pass(&mut self, lines: u64) {
        self.lines += lines;
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.out.flush()
    }

    /// The totals; whether something matched.
    pub(super) fn end(mut self) -> Result<bool> {
        self.out.flush()?;
        if !self.json {
            let logins = if self.logins > 0 { format!(", {} told of logins", self.logins) } else { String::new() };
            print::say(format_args!("{} of {} lines matched{logins}", self.matched, self.lines));
        }
        Ok(self.matched > 0)
    }

    /// One line; `None` for one that was too long to be looked at.
    pub(super) fn line(&mut self, number: u64, line: Option<Line<'_>>, told: Told, scanner: &Scanner) -> Result<()> {
        self.lines += 1;
        self.matched += u64::from(matches!(told, Told::Attack(_)));
        self.logins += u64::from(matches!(told, Told::Login(_)));
        let missed = line.map(|line| self.missed(line)).unwrap_or_default();
        if self.json {
            return match line.filter(|_| self.explain && matches!(told, Told::Nothing)) {
                Some(line) => self.why(number, &scanner.explain(line), missed),
                None => self.document(number, &told),
            };
        }
        let Some(line) = line else {
            let place = self.place(number);
            return self.out.line(format_args!("{place} {}", Painted(33, "too long, dropped whole")));
        };
        match &told {
            Told::Nothing if self.explain => self.explain(number, line, &scanner.explain(line), missed),
            Told::Nothing => Ok(()),
            Told::Attack(attack) => {
                let what =
                    format!("{} {} score {}{}", Painted(ADDR, attack.addr), attack.signature, attack.score, user(attack.user.as_deref()));
                self.found(number, line, &what, &attack.signature, &attack.addr.to_string(), scanner)
            }
            Told::Login(login) => {
                let what = format!("{} {} login{}", Painted(LOGIN, login.addr), login.signature, user(login.user.as_deref()));
                self.found(number, line, &what, &login.signature, &login.addr.to_string(), scanner)
            }
        }
    }

    fn place(&self, number: u64) -> String {
        self.file.as_ref().map_or_else(|| format!("{number}:"), |file| format!("{}:{number}:", excerpt(file.as_bytes())))
    }

    fn found(&mut self, number: u64, line: Line<'_>, what: &str, rule: &str, addr: &str, scanner: &Scanner) -> Result<()> {
        let place = self.place(number);
        self.out.line(format_args!("{place} {what}"))?;
        let text = if print::colored() { coloured(line, rule, addr, scanner) } else { excerpt(line.text()) };
        self.out.line(format_args!("   {text}"))
    }

    fn document(&mut self, line: u64, told: &Told) -> Result<()> {
        let empty = LineDoc::nothing(line, self.file.as_deref());
        let document = match told {
            // Nearly all lines, and always the same but for the number.
            Told::Nothing if self.file.is_none() => {
                return self.out.out(|out| {
                    writeln!(out, r#"{{"line":{line},"match":false,"signature":null,"service":null,"addr":null,"score":null,"time":null,"user":null}}"#)
                });
            }
            Told::Nothing => empty,
            Told::Attack(attack) => LineDoc {
                matched: true,
                signature: Some(&attack.signature),
                service: Some(&attack.service),
                addr: Some(attack.addr.to_string()),
                score: Some(attack.score),
                time: attack.at,
                user: attack.user.as_deref(),
                ..empty
            },
            Told::Login(login) => LineDoc {
                signature: Some(&login.signature),
                service: Some(&login.service),
                addr: Some(login.addr.to_string()),
                time: login.at,
                user: login.user.as_deref(),
                login: true,
                ..empty
            },
        };
        self.out.json(&document)
    }

    /// Has the filters look at a line: which do not find anybody in it, and why.
    fn missed(&mut self, line: Line<'_>) -> Vec<(Arc<str>, String)> {
        let Some(clock) = &self.clock else { return Vec::new() };
        let look = |(filter, session): &mut (Arc<Filter>, Session)| {
            filter.look(session, line, clock);
            session.missed().map(|why| (Arc::clone(filter.full_name()), why))
        };
        self.filters.iter_mut().filter_map(look).collect()
    }

    fn explain(&mut self, number: u64, line: Line<'_>, explanation: &Explanation, missed: Vec<(Arc<str>, String)>) -> Result<()> {
        let place = self.place(number);
        if explanation.trials.is_empty() && !missed.is_empty() {
            // Filters do not go by the program.
            self.out.line(format_args!("{place} no match; line: {}", excerpt(line.text())))?;
        } else {
            let program = explanation.program.as_deref().unwrap_or("none recognised");
            self.out.line(format_args!("{place} no match; program: {program}; message: {}", explanation.message))?;
        }
        let missed = missed.iter().map(|(filter, why)| (&**filter, why.clone()));
        for (signature, why) in reasons(explanation).chain(missed) {
            self.out.line(format_args!("   {signature}: {why}"))?;
        }
        Ok(())
    }

    fn why(&mut self, number: u64, explanation: &Explanation, missed: Vec<(Arc<str>, String)>) -> Result<()> {
        let line = LineDoc::nothing(number, self.file.as_deref());
        let missed = missed.iter().map(|(filter, why)| (&**filter, why.clone()));
        let why = reasons(explanation).chain(missed).collect();
        self.out.json(&WhyDoc { line, program: explanation.program.as_deref(), why })
    }
}

/// Of more signatures than these nobody wants to hear that a line has nothing to do with them.
const FEW: usize = 8;

/// Each signature that has something to say, and why it does not match.
fn reasons(explanation: &Explanation) -> impl Iterator<Item = (&str, String)> {
    explanation.trials.iter().filter_map(|trial| {
        let why = match &trial.reason {
            Reason::Match { .. } => return None,
            Reason::Nothing if explanation.trials.len() > FEW => return None,
            Reason::Nothing => "like none of the lines it knows".to_owned(),
            Reason::Program { listens_to } => format!("listens to {}", listens_to.join(", ")),
            Reason::NoAccessLog => "not of the common or combined log format".to_owned(),
            Reason::NoFields => "neither a JSON object nor key=value words".to_owned(),
            Reason::NoAddress { rule, text } => format!("{rule}: `{text}` is no address"),
            Reason::Nearest { rule, wants } => format!("nearest is {rule}: {wants}"),
        };
        Some((&*trial.signature, why))
    })
}

fn user(user: Option<&str>) -> String {
    // Quoted first: what a user calls himself cannot end the colour.
    user.map(|user| format!(" user {}", Painted(USER, format_args!("{user:?}")))).unwrap_or_default()
}

/// The line with what was found in it in colours: where it was found, or, of a line whose fields have fixed places, the
/// blamed address wherever it stands.
fn coloured(line: Line<'_>, rule: &str, addr: &str, scanner: &Scanner) -> String {
    let explanation = scanner.explain(line);
    let spans = explanation.trials.into_iter().find_map(|trial| match trial.reason {
        Reason::Match { rule: name, spans, .. } if name == rule => Some(spans),
        _ => None,
    });
    let paint = |name: &str| match name {
        "addr" => Some(ADDR),
        "user" => Some(USER),
        _ => None,
    };
    let found = spans.into_iter().flatten().filter_map(|(name, start, end)| Some((start, end, paint(&name)?)));
    let mut pieces: Vec<(usize, usize, u8)> = found.chain(explanation.time.map(|(start, end)| (start, end, TIME))).collect();
    if !pieces.iter().any(|(.., colour)| *colour == ADDR)
        && let Some(at) = memchr::memmem::rfind(line.text(), addr.as_bytes())
    {
        pieces.push((at, at + addr.len(), ADDR));
    }
    painted(line.text(), pieces)
}

fn painted(text: &[u8], mut pieces: Vec<(usize, usize, u8)>) -> String {
    pieces.sort_unstable();
    let (mut out, mut at, mut shown) = (String::new(), 0, 0);
    let mut add = |out: &mut String, piece: &[u8], colour: Option<u8>| {
        // An excerpt of the whole, not of each piece.
        if shown < EXCERPT && !piece.is_empty() {
            let piece = excerpt(piece);
            shown += piece.len();
            match colour {
                Some(colour) => out.push_str(&Painted(colour, piece).to_string()),
                None => out.push_str(&piece),
            }
        }
    };
    for (start, end, colour) in pieces {
        if start < at {
            continue;
        }
        let (Some(before), Some(piece)) = (text.get(at..start), text.get(start..end)) else { continue };
        add(&mut out, before, None);
        add(&mut out, piece, Some(colour));
        at = end;
    }
    add(&mut out, text.get(at..).unwrap_or_default(), None);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::scan::{JailScan, load};

    #[test]
    fn pieces_are_painted_where_they_were_found() {
        print::choose_color(clap::ColorChoice::Always);
        let scanner = Scanner::new(&[JailScan::of("test".into(), load("sshd").into_iter().collect())]);
        let line = b"Nov 22 17:00:00 host sshd[7]: Failed password for invalid user 192.0.2.7 from 192.0.2.7 port 22 ssh2";
        let text = coloured(Line::raw(line), "sshd/failed-password", "192.0.2.7", &scanner);
        assert!(text.starts_with("\x1b[2mNov 22 17:00:00\x1b[0m host"), "{text:?}");
        assert!(text.ends_with("from \x1b[31m192.0.2.7\x1b[0m port 22 ssh2"), "{text:?}");
        assert_eq!(
            painted(b"a\x1bb", vec![(0, 9, 1), (1, 2, 31), (1, 3, 33)]),
            "a\x1b[31m\\u{1b}\x1b[0mb",
            "places that are none are left out"
        );
        assert!(painted(&[b'x'; 100_000], vec![(5, 6, 31)]).len() < 2 * EXCERPT);
    }
}
