//! A rule's pattern: from the text in a signature file to a regex that cannot be led astray.
//!
//! | placeholder | becomes |
//! |---|---|
//! | `<addr>` | one address token, with a zone id that is dropped; read strictly by [`crate::net`] afterwards |
//! | `<port>` | one to five digits |
//! | `<user>` | any text at all, greedy, captured as `user` |
//! | `<host>` | a host's name, or nothing: letters, digits and `._:-`, which daemons and resolvers hold names to; owned |
//! | `<time>` | a date with its time, in one of the shapes of [`TIME`], captured as `time`; owned |
//!
//! What is refused, and why:
//!
//! * a pattern not anchored at both ends: part of a line may be the attacker's own text;
//! * a pattern where a field before the address may run over its own end *and* a field after the
//!   address may hold what introduces the address: then the attacker chooses which address it is;
//! * a lazy field before the address: it would take the first thing that looks like an address, and
//!   that is the attacker's (`ssh -l 'x from 203.0.113.9'`). Greedy takes the last, the daemon's own;
//! * anything that compiles to more than [`SIZE`] bytes.
//!
//! The regex engine is linear in the line by construction; bytes, not Unicode, so it is small too.

use std::collections::BTreeSet;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Longest pattern text: ten times the longest shipped one.
const TEXT: usize = 4096;
/// Most memory one compiled pattern may take: four times the largest shipped one. Stops `(a{999}){999}`.
const SIZE: usize = 1 << 20;
/// Most memory all patterns of one signature, or one's lazy automaton, may take.
const SET_SIZE: usize = 8 << 20;
/// Deepest nesting of groups.
const NEST: u32 = 32;
/// A repetition that may be this long or longer can hold an address: `0.0.0.0` is 7, `::` needs context.
const LONG: u32 = 7;

/// Dates as log lines begin with them. Numbers of fixed lengths, so that none runs into what follows.
///
/// | shape | who writes it |
/// |---|---|
/// | `2026-11-22T17:00:00.5+01:00`, also with blank, `/` or `.`, `,` before the fraction, and a zone's name | RFC 3339 and its relatives |
/// | `Sun Nov 22 17:00:00.5 2026`, `Nov 22 17:00:00`, `Nov 22 2026 17:00:00` | asctime(3), RFC 3164 |
/// | `22/Nov/2026:17:00:00 +0100`, `22-Nov-2026 17:00:00.5`, `22 Nov 2026 17:00:00` | web servers, BIND |
/// | `22.11.2026 17:00:00`, `11/22/2026 17:00:00`, `11/22/26 17:00:00` | by region |
/// | `261122 17:00:00`, `20261122 17:00:00` | old MySQL |
/// | `1795366800.123` | seconds since 1970 |
const TIME: &str = concat!(
    "(?P<time>",
    "[0-9]{4}[-/.][0-9]{2}[-/.][0-9]{2}(?:[T_ -]|, | - )[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?:Z| ?[+-][0-9]{2}:?[0-9]{2}| [A-Z]{3,4})?",
    "|(?:[A-Z][a-z]{2},? )?[A-Z][a-z]{2} {1,2}[0-9]{1,2} (?:[0-9]{4},? )?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?: [A-Z]{3,4})?(?: [0-9]{4})?",
    "|[0-9]{2}[-/ ][A-Z][a-z]{2}[-/ ][0-9]{4}[: ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?: [+-][0-9]{4})?",
    "|[0-9]{1,2}[./-][0-9]{1,2}[./-](?:[0-9]{2}){1,2},? [0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?: [AP]M)?",
    "|[0-9]{6}(?:[0-9]{2})? {1,2}[0-9]{1,2}:[0-9]{2}:[0-9]{2}",
    "|[0-9]{10}(?:\\.[0-9]{1,9})?",
    ")"
);

const PLACEHOLDERS: [(&str, &str); 5] = [
    ("<addr>", "(?P<addr>[0-9A-Fa-f:.]{2,45})(?:%[0-9A-Za-z_.-]{1,32})?"),
    ("<port>", "[0-9]{1,5}"),
    ("<user>", "(?P<user>.*)"),
    ("<host>", "[0-9A-Za-z._:-]{0,255}"),
    ("<time>", TIME),
];

/// The named groups of a pattern that no client can write past.
pub(super) struct Owned<'a>(pub(super) BTreeSet<&'a str>);

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not parse or is too large.
    #[error("{0}")]
    Regex(String),
    /// Longer than any sensible pattern.
    #[error("the pattern is {0} bytes long; at most {TEXT} are allowed: make two rules of it")]
    Long(usize),
    /// No `^`.
    #[error("the pattern does not start with `^`: without it the attacker's own text can match; put alternatives in a group `^(?:a|b)...`")]
    Start,
    /// No `$`.
    #[error("the pattern does not end with `$`: end it there, or say with `open_end = \"why\"` why its end may be anything")]
    End,
    /// Not exactly one address.
    #[error("the pattern needs exactly one `<addr>`, outside of any group")]
    Address,
    /// `owned` speaks of a group that is not there.
    #[error("`owned` speaks of a group `{0}` that the pattern does not have: name it `(?P<{0}>...)`")]
    NoGroup(String),
    /// A lazy field before the address.
    #[error("a lazy field (`.*?`) stands before `<addr>`: it takes the first address-like text, which is the attacker's; make it greedy")]
    Lazy,
    /// The attacker could choose the address.
    #[error(
        "a field before `<addr>` can hold anything and what follows `<addr>` can too, so the attacker can choose the address; \
         narrow one of them (such as `\\S+`), or end the pattern behind the address"
    )]
    Shift,
}

/// A pattern that passed.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) regex: Regex,
    /// The regex's own text, to build a set of.
    pub(super) expanded: String,
    /// The pattern as written.
    pub(super) text: String,
    /// The bytes each match starts with.
    pub(super) lead: Vec<u8>,
}

impl Pattern {
    /// Compiles a pattern over messages, which names an address.
    pub(super) fn message(text: &str, open_end: bool, owned: &Owned<'_>) -> Result<Self, PatternError> {
        let (pattern, hir) = Self::anchored(text, open_end)?;
        if let Some(group) = owned.0.iter().find(|group| pattern.regex.capture_names().flatten().all(|name| name != **group)) {
            return Err(PatternError::NoGroup((*group).to_owned()));
        }
        address_stands(&hir, open_end)?;
        Ok(pattern)
    }

    /// Compiles a pattern over one field, which names no address.
    pub(super) fn field(text: &str, open_end: bool) -> Result<Self, PatternError> {
        Ok(Self::anchored(text, open_end)?.0)
    }

    fn anchored(text: &str, open_end: bool) -> Result<(Self, Hir), PatternError> {
        if text.len() > TEXT {
            return Err(PatternError::Long(text.len()));
        }
        let expanded = expand(text);
        let bad = |e: &dyn std::fmt::Display| PatternError::Regex(e.to_string());
        let hir = ParserBuilder::new().unicode(false).utf8(false).nest_limit(NEST).build().parse(&expanded).map_err(|e| bad(&e))?;
        let regex = RegexBuilder::new(&expanded)
            .unicode(false)
            .nest_limit(NEST)
            .size_limit(SIZE)
            .dfa_size_limit(SET_SIZE)
            .build()
            .map_err(|e| bad(&e))?;
        let parts = parts(&hir);
        if !matches!(parts.first().map(Hir::kind), Some(HirKind::Look(Look::Start))) {
            return Err(PatternError::Start);
        }
        if !open_end && !matches!(parts.last().map(Hir::kind), Some(HirKind::Look(Look::End))) {
            return Err(PatternError::End);
        }
        let lead = match parts.get(1).map(Hir::kind) {
            Some(HirKind::Literal(literal)) => literal.0.to_vec(),
            _ => Vec::new(),
        };
        Ok((Self { regex, expanded, text: text.to_owned(), lead }, hir))
    }
}

/// All patterns as one automaton, which says in one pass whether any matches.
pub(super) fn set<'a>(patterns: impl Iterator<Item = &'a str>) -> Result<RegexSet, PatternError> {
    RegexSetBuilder::new(patterns)
        .unicode(false)
        .nest_limit(NEST)
        .size_limit(SET_SIZE)
        .dfa_size_limit(SET_SIZE)
        .build()
        .map_err(|e| PatternError::Regex(e.to_string()))
}

/// Puts the placeholders' regexes in; `(?P<addr>` and other `<` stay as they are.
fn expand(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (head, tail) = rest.split_at(at);
        out.push_str(head);
        let named = out.ends_with("(?P") || out.ends_with("(?");
        match PLACEHOLDERS.iter().find(|(name, _)| !named && tail.starts_with(name)) {
            Some((name, regex)) => {
                out.push_str(regex);
                rest = &tail[name.len()..];
            }
            None => {
                out.push('<');
                rest = &tail[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn parts(hir: &Hir) -> &[Hir] {
    match hir.kind() {
        HirKind::Concat(parts) => parts,
        _ => std::slice::from_ref(hir),
    }
}

/// A set of bytes.
#[derive(Clone, Copy)]
struct Bytes([bool; 256]);

impl Bytes {
    const NONE: Self = Self([false; 256]);

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| *a && b)
    }

    fn holds(&self, text: &[u8]) -> bool {
        text.iter().all(|b| self.0[usize::from(*b)])
    }

    fn of_class(class: &Class) -> Self {
        let mut set = Self::NONE;
        match class {
            Class::Bytes(class) => {
                class.ranges().iter().for_each(|r| set.0[usize::from(r.start())..=usize::from(r.end())].fill(true));
            }
            // Not made with Unicode off; taken as everything, which can only refuse more.
            Class::Unicode(_) => set.0.fill(true),
        }
        set
    }
}

/// Every byte that can occur in a match.
fn bytes(hir: &Hir) -> Bytes {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Bytes::NONE,
        HirKind::Literal(l) => {
            let mut set = Bytes::NONE;
            l.0.iter().for_each(|b| set.0[usize::from(*b)] = true);
            set
        }
        HirKind::Class(class) => Bytes::of_class(class),
        HirKind::Repetition(r) => bytes(&r.sub),
        HirKind::Capture(c) => bytes(&c.sub),
        HirKind::Concat(all) | HirKind::Alternation(all) => all.iter().fold(Bytes::NONE, |mut set, one| {
            set.add(&bytes(one));
            set
        }),
    }
}

/// Every byte a match can start with, given what comes after an empty match.
fn first(hir: &Hir, follow: &Bytes) -> Bytes {
    let mut set = Bytes::NONE;
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => set = *follow,
        HirKind::Literal(l) => set.0[usize::from(l.0[0])] = true,
        HirKind::Class(class) => set = Bytes::of_class(class),
        HirKind::Repetition(r) => {
            set = first(&r.sub, follow);
            if r.min == 0 {
                set.add(follow);
            }
        }
        HirKind::Capture(c) => set = first(&c.sub, follow),
        HirKind::Concat(all) => set = all.iter().rev().fold(*follow, |after, one| first(one, &after)),
        HirKind::Alternation(all) => all.iter().for_each(|one| set.add(&first(one, follow))),
    }
    set
}

/// How the fields before the address behave: whether one may run over its own end, and whether lazily.
#[derive(Clone, Copy, Default)]
struct Running {
    wild: bool,
    lazy: bool,
}

fn running(hir: &Hir, follow: &Bytes, out: &mut Running) {
    match hir.kind() {
        HirKind::Repetition(r) => {
            if r.max.is_none_or(|max| max >= LONG) && bytes(&r.sub).meets(follow) {
                out.wild = true;
                out.lazy |= !r.greedy;
            }
            let mut inner = first(&r.sub, follow);
            inner.add(follow);
            running(&r.sub, &inner, out);
        }
        HirKind::Capture(c) => running(&c.sub, follow, out),
        HirKind::Alternation(all) => all.iter().for_each(|one| running(one, follow, out)),
        HirKind::Concat(all) => running_all(all, follow, out),
        _ => {}
    }
}

fn running_all(all: &[Hir], follow: &Bytes, out: &mut Running) {
    all.iter().rev().fold(*follow, |after, one| {
        running(one, &after, out);
        first(one, &after)
    });
}

/// Whether a repetition in here may hold all of `lead`, what introduces the address.
fn may_hold(hir: &Hir, lead: &[u8]) -> bool {
    match hir.kind() {
        HirKind::Repetition(r) => (r.max.is_none_or(|max| max >= LONG) && bytes(&r.sub).holds(lead)) || may_hold(&r.sub, lead),
        HirKind::Capture(c) => may_hold(&c.sub, lead),
        HirKind::Alternation(all) | HirKind::Concat(all) => all.iter().any(|one| may_hold(one, lead)),
        _ => false,
    }
}

fn is_address(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Capture(c) if c.name.as_deref() == Some("addr"))
}

fn address_stands(hir: &Hir, open_end: bool) -> Result<(), PatternError> {
    let parts = parts(hir);
    let at = parts.iter().position(is_address).ok_or(PatternError::Address)?;
    let (head, tail) = (&parts[..at], &parts[at + 1..]);
    let mut run = Running::default();
    running_all(head, &first(&parts[at], &Bytes::NONE), &mut run);
    if run.lazy {
        return Err(PatternError::Lazy);
    }
    let lead = match head.last().map(Hir::kind) {
        Some(HirKind::Literal(l)) => &l.0[..],
        _ => &[],
    };
    if run.wild && (open_end || tail.iter().any(|one| may_hold(one, lead))) {
        return Err(PatternError::Shift);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<PatternError> {
        Pattern::message(text, false, &Owned(BTreeSet::new())).err()
    }

    #[test]
    fn sound_patterns_pass() {
        for text in [
            "^Invalid user <user> from <addr>(?: port <port>)?$",
            "^Failed \\S+ for <user> from <addr> port <port> ssh2(?:: \\S+ \\S+)?$",
            "^Received disconnect from <addr> port <port>:11: .*$",
            "^x (?P<user>\\S*) <addr> port <port>: .*$",
            "^from <<addr>:<port>>: .*$",
        ] {
            assert_eq!(refused(text), None, "{text}");
        }
        assert!(Pattern::message("^from <addr> ", true, &Owned(BTreeSet::new())).is_ok());
    }

    #[test]
    fn patterns_that_could_be_led_astray_are_refused() {
        for (text, error) in [
            ("Invalid user <user> from <addr>$", PatternError::Start),
            ("^a <addr>$|^b$", PatternError::End),
            ("(?m)^a <addr>$", PatternError::Start),
            ("^Invalid user <user> from <addr>", PatternError::End),
            ("^Invalid user .*? from <addr>$", PatternError::Lazy),
            ("^Failed .* from <addr> port .*$", PatternError::Shift),
            ("^User .* from <addr> not allowed because [a-z ]+$", PatternError::Shift),
            ("^user (?:.*)+ from <addr>: \"[^\"]*\"$", PatternError::Shift),
            ("^nothing$", PatternError::Address),
            ("^(?:from <addr>)?$", PatternError::Address),
        ] {
            assert_eq!(refused(text), Some(error), "{text}");
        }
        assert_eq!(Pattern::message("^user .* from <addr> ", true, &Owned(BTreeSet::new())).err(), Some(PatternError::Shift));
    }

    #[test]
    fn oversized_patterns_are_refused() {
        for text in [
            "^(?:a{1000}){1000}<addr>$",
            "^(?:(?:[a-z]{99}){99}){9} <addr>$",
            "^(((((((((((((((((((((((((((((((((((a)))))))))))))))))))))))))))))))))))<addr>$",
        ] {
            assert!(matches!(refused(text), Some(PatternError::Regex(_))), "{text}");
        }
        assert!(matches!(refused(&"a".repeat(TEXT + 1)), Some(PatternError::Long(_))));
        assert!(matches!(refused("^(a+$"), Some(PatternError::Regex(_))));
    }
}
