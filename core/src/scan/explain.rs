//! Why a line matched, or why not: for `palisade test`.

use super::formats::access::Request;
use super::line::Line;
use super::scanner::Scanner;
use super::signature::{Kind, Rule, Signature, Test};
use super::unwrap::{Opened, Unwrapper};
use super::view::{Scratch, View};
use crate::attack::{JailName, excerpt};
use crate::net::Addr;

/// What became of one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The program the syslog prefix or the journal names; `None` where there is no prefix.
    pub program: Option<String>,
    /// What is left without the prefix, printable.
    pub message: String,
    /// Where its time stands in the line's text, first byte and end.
    pub time: Option<(usize, usize)>,
    /// One for each signature of each jail.
    pub trials: Vec<Trial>,
}

/// One signature's look at the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The jail.
    pub jail: JailName,
    /// The signature's name.
    pub signature: String,
    /// What came of it.
    pub reason: Reason,
}

/// Why a signature did or did not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It matched.
    Match {
        /// Which rule.
        rule: String,
        /// How heavy.
        score: u16,
        /// Whether somebody got in, rather than failed.
        login: bool,
        /// Whom it blames.
        addr: Addr,
        /// What was found where: group name, first byte and end in the line's text. Nothing for
        /// access logs, whose fields have fixed places.
        spans: Vec<(String, usize, usize)>,
    },
    /// The line is of a program that the signature does not listen to.
    Program {
        /// The programs it listens to.
        listens_to: Vec<String>,
    },
    /// The line is not of the common or combined log format.
    NoAccessLog,
    /// The line is neither a JSON object nor `key=value` words.
    NoFields,
    /// A pattern matched, but what stands in the address's place is none.
    NoAddress {
        /// Which rule.
        rule: String,
        /// What stands there, printable.
        text: String,
    },
    /// No rule matched; this one is the nearest.
    Nearest {
        /// Which rule.
        rule: String,
        /// What it wants.
        wants: String,
    },
    /// No rule comes near.
    Nothing,
}

impl Scanner {
    /// Why a line matches, or why not.
    pub fn explain(&self, line: Line<'_>) -> Explanation {
        let mut unwrapper = Unwrapper::default();
        // A piece of a line is looked at as it is.
        let opened = match unwrapper.open(line) {
            Opened::Pending => Opened::AsIs(line),
            opened => opened,
        };
        let Some(mut view) = View::opened(opened, &mut Scratch::default()) else { return Explanation::default() };
        let frame = view.frame();
        let mut trials = Vec::new();
        for part in self.jails() {
            for signature in &part.signatures {
                let reason = reason(signature, line, &mut view);
                trials.push(Trial { jail: part.jail.clone(), signature: signature.name().to_owned(), reason });
            }
        }
        let time = frame.time.map(|time| {
            let start = time.as_ptr().addr().saturating_sub(line.text().as_ptr().addr());
            (start, start + time.len())
        });
        Explanation { program: frame.program.map(excerpt), message: excerpt(frame.message), time, trials }
    }
}

fn reason(signature: &Signature, line: Line<'_>, view: &mut View<'_>) -> Reason {
    let message = if signature.kind() == Kind::Plain { view.text().trim_ascii_end() } else { view.frame().message };
    if let Some(found) = view.look(signature) {
        let (rule, score) = (found.rule.full_name().to_string(), view.weight(signature, &found));
        let login = found.rule.is_login();
        return Reason::Match { rule, score, login, addr: found.addr, spans: spans(found.rule, line.text(), message) };
    }
    match signature.kind() {
        Kind::AccessLog => view.request().map_or(Reason::NoAccessLog, |request| nearest_request(signature, &request)),
        Kind::Fields if !view.has_record() => Reason::NoFields,
        Kind::Syslog | Kind::Fields if !signature.listens_to(view.frame().program) => {
            Reason::Program { listens_to: signature.programs().to_vec() }
        }
        Kind::Fields => nearest_record(signature, view),
        Kind::Syslog | Kind::Plain => nearest_message(signature, message),
    }
}

fn spans(rule: &Rule, text: &[u8], message: &[u8]) -> Vec<(String, usize, usize)> {
    let Test::Message(pattern) = &rule.test else { return Vec::new() };
    let Some(groups) = pattern.regex().captures(message) else { return Vec::new() };
    // The message is a part of the text, unless it was unwrapped or unescaped: then it has no place in it.
    let offset = message.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
    if offset.checked_add(message.len()).is_none_or(|end| end > text.len()) {
        return Vec::new();
    }
    let named = pattern.regex().capture_names().flatten();
    named.filter_map(|name| groups.name(name).map(|m| (name.to_owned(), offset + m.start(), offset + m.end()))).collect()
}

fn near(rule: &Rule) -> Reason {
    Reason::Nearest { rule: rule.full_name().to_string(), wants: rule.text().to_owned() }
}

/// The rule whose fixed beginning the message follows longest.
fn nearest_message(signature: &Signature, message: &[u8]) -> Reason {
    let mut best: Option<(usize, &Rule)> = None;
    for rule in signature.rules() {
        let Test::Message(pattern) = &rule.test else { continue };
        if let Some(groups) = pattern.regex().captures(message) {
            let text = groups.name("addr").map(|m| excerpt(m.as_bytes())).unwrap_or_default();
            return Reason::NoAddress { rule: rule.full_name().to_string(), text };
        }
        let common = pattern.lead.iter().zip(message).take_while(|(a, b)| a == b).count();
        // Fewer than four bytes in common is chance.
        if common >= 4 && best.is_none_or(|(length, _)| common > length) {
            best = Some((common, rule));
        }
    }
    best.map_or(Reason::Nothing, |(_, rule)| near(rule))
}

/// The rule with the most of method, texts and status right, and a text or two of them at least.
fn nearest_request(signature: &Signature, request: &Request<'_>) -> Reason {
    let right = |rule: &Rule| match &rule.test {
        Test::Access(test) => test.right(request),
        Test::Message(_) | Test::Fields(_) => 0,
    };
    let best = signature.rules().iter().map(|rule| (right(rule), rule)).max_by_key(|(n, _)| *n);
    best.filter(|(n, _)| *n >= 2).map_or(Reason::Nothing, |(_, rule)| near(rule))
}

/// The rule of whose conditions all but one hold, and one at least.
fn nearest_record(signature: &Signature, view: &View<'_>) -> Reason {
    let Some((record, text)) = view.record() else { return Reason::NoFields };
    let best = signature.rules().iter().filter_map(|rule| match &rule.test {
        Test::Fields(test) => Some((test.holding(record, text), test.len(), rule)),
        Test::Message(_) | Test::Access(_) => None,
    });
    let best = best.filter(|(holding, all, _)| *holding > 0 && holding + 1 >= *all).max_by_key(|(holding, ..)| *holding);
    best.map_or(Reason::Nothing, |(_, _, rule)| near(rule))
}
