//! A rule's pattern: from the text in a signature file to a regex that cannot be led astray.
//!
//! | placeholder | becomes |
//! |---|---|
//! | `<addr>` | one address token, with a zone id that is dropped; read strictly by [`crate::net`] afterwards |
//! | `<port>` | one to five digits |
//! | `<user>` | any text at all, greedy, captured as `user` |
//! | `<host>` | a host's name, or nothing: letters, digits and `._:-`, which daemons and resolvers hold names to; owned |
//! | `<time>` | a date with its time, in one of the shapes of [`placeholders::TIME`], captured as `time`; owned |
//!
//! What is refused, and why:
//!
//! * a pattern not anchored at both ends: part of a line may be the attacker's own text;
//! * a pattern that what a client writes can lead to another address: see [`shift`];
//! * a lazy field before the address: it would take the first thing that looks like an address, and
//!   that is the attacker's (`ssh -l 'x from 203.0.113.9'`). Greedy takes the last, the daemon's own;
//! * anything that compiles to more than [`SIZE`] bytes.
//!
//! The regex engine is linear in the line by construction; bytes, not Unicode, so it is small too. Where
//! the groups of a match are is found in two passes ([`groups`]), and what many patterns say of one long
//! text in one ([`together`]).

mod bytes;
mod free;
mod groups;
mod placeholders;
mod shift;
mod together;

use std::collections::BTreeSet;
use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder, RegexSetBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind, Look};

use super::formats::record::Unescaped;
use super::needles::Needles;
use placeholders::{OWN, expand};

pub(super) use groups::Groups;
pub(super) use together::Together;

/// Longest pattern text: ten times the longest shipped one.
const TEXT: usize = 4096;
/// Most memory one compiled pattern may take: four times the largest shipped one. Stops `(a{999}){999}`.
const SIZE: usize = 1 << 20;
/// Most memory all patterns of one signature, or one's lazy automaton, may take.
const SET_SIZE: usize = 8 << 20;
/// Deepest nesting of groups.
const NEST: u32 = 32;

/// The named groups of a pattern that no client can write past.
pub(super) struct Owned<'a> {
    pub(super) groups: BTreeSet<&'a str>,
    /// That nobody can be blamed by them was proven before.
    pub(super) proven: bool,
}

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
        "what a client writes can lead to another address than the one in <> here: `{line}`{}; end the pattern closer behind \
         `<addr>`, or name the field that cannot hold this (`(?P<account>\\S+)`) and say why: `owned = {{ account = \"...\" }}`",
        reader.as_ref().map(|rule| format!(", which rule `{rule}` reads")).unwrap_or_default()
    )]
    Shift {
        /// Such a line.
        line: String,
        /// Which other rule would take it.
        reader: Option<String>,
    },
    /// Too large to decide whether it could.
    #[error("the pattern is too large to decide whether what a client writes can lead to another address: make two rules of it")]
    Unproven,
}

/// A pattern that passed.
#[derive(Debug)]
pub(super) struct Pattern {
    /// Made when it is first asked, where it is known to be good: of most signatures no line is ever seen.
    regex: OnceLock<Regex>,
    /// What finds groups fast, if it can; made when it is first asked.
    finder: OnceLock<Option<Box<groups::Finder>>>,
    has_groups: bool,
    /// The regex's own text.
    pub(super) expanded: String,
    /// The pattern as written.
    pub(super) text: String,
    /// The bytes each match starts with.
    pub(super) lead: Vec<u8>,
    /// What the lint needs; taken out once all rules of a signature are there.
    proof: Option<Box<Proof>>,
}

/// The lines a service writes of one rule, and those that its pattern matches.
#[derive(Debug)]
pub(super) struct Proof {
    written: shift::Lines,
    matched: shift::Lines,
}

impl Proof {
    /// Whether a line that the service writes of this rule could be read by that one with another address.
    pub(super) fn against(&self, other: &Self, reader: Option<&str>) -> Result<(), PatternError> {
        match shift::shifted(&self.written, &other.matched) {
            Ok(None) => Ok(()),
            Ok(Some(line)) => Err(PatternError::Shift { line, reader: reader.map(str::to_owned) }),
            Err(shift::TooLarge) => Err(PatternError::Unproven),
        }
    }
}

impl Pattern {
    /// Compiles a pattern over messages, which names an address.
    pub(super) fn message(text: &str, open_end: bool, owned: &Owned<'_>) -> Result<Self, PatternError> {
        let mut pattern = Self::anchored(text, open_end, owned.proven)?;
        if owned.proven {
            return Ok(pattern);
        }
        if let Some(group) = owned.groups.iter().find(|group| pattern.regex().capture_names().flatten().all(|name| name != **group)) {
            return Err(PatternError::NoGroup((*group).to_owned()));
        }
        let hir = parse(&expand(text, true))?;
        address_stands(&hir)?;
        let is_owned = |name: &str| name == "time" || name.starts_with(OWN) || owned.groups.contains(name);
        let proof =
            || Ok(Proof { written: shift::Lines::written(&hir, open_end, &is_owned)?, matched: shift::Lines::matched(&hir, open_end)? });
        let proof = proof().map_err(|shift::TooLarge| PatternError::Unproven)?;
        proof.against(&proof, None)?;
        pattern.proof = Some(Box::new(proof));
        Ok(pattern)
    }

    /// What the lint needs to hold one rule against another; once.
    pub(super) fn take_proof(&mut self) -> Option<Box<Proof>> {
        self.proof.take()
    }

    /// The parts of a matching text that a client may fill: what the lint takes to hold anything.
    pub(super) fn free(&self, text: &[u8], is_owned: &dyn Fn(&str) -> bool) -> Vec<(usize, usize)> {
        let owned = |name: &str| name == "time" || name.starts_with(OWN) || is_owned(name);
        let marked = parse(&expand(&self.text, true)).ok().and_then(|hir| free::marked(&hir, &owned));
        let Some(groups) = marked.as_ref().and_then(|regex| regex.captures(text)) else { return Vec::new() };
        groups.iter().skip(1).flatten().map(|group| (group.start(), group.end())).collect()
    }

    /// Compiles a pattern over one field, which names no address.
    pub(super) fn field(text: &str, open_end: bool, proven: bool) -> Result<Self, PatternError> {
        Self::anchored(text, open_end, proven)
    }

    /// What each match holds.
    pub(super) fn needles(&self) -> Needles {
        parse(&self.expanded).map(|hir| Needles::of(&hir)).unwrap_or_default()
    }

    /// What each match holds where it is a field, whose text may stand in the line with escapes.
    pub(super) fn field_needles(&self) -> Needles {
        parse(&self.expanded).map(|hir| Needles::of_field(&hir)).unwrap_or_default()
    }

    /// What each match holds where it is a part of the line before which one of these stands.
    pub(super) fn needles_behind(&self, before: &[&[u8]]) -> Needles {
        parse(&self.expanded).map(|hir| Needles::of_behind(&hir, before)).unwrap_or_default()
    }

    /// The regex itself.
    pub(super) fn regex(&self) -> &Regex {
        self.regex.get_or_init(|| build(&self.expanded).expect("made at once, unless the tests have made this very text"))
    }

    /// Where the groups of a match are; `None` where the text does not match.
    pub(super) fn groups(&self, text: &[u8], memory: &mut Memory) -> Option<Groups> {
        // A long text is not run through once more only to see that it matches: its beginning says most.
        let long = text.len() >= together::LONG_TEXT;
        if !long && !self.regex().is_match(text) {
            return None;
        }
        let finder = self.finder.get_or_init(|| groups::Finder::new(&self.expanded).map(Box::new));
        let Some(finder) = finder else { return self.captured(text) };
        if long && !(finder.begins(text) && memory.together.allows(self, text)) {
            return None;
        }
        let found = finder.find(text, &mut memory.trail).unwrap_or_else(|groups::Undecided| self.captured(text));
        if long && found.is_none() {
            memory.together.add(self);
        }
        found
    }

    /// The same by the regex crate: for the patterns and texts that the fast way cannot do.
    fn captured(&self, text: &[u8]) -> Option<Groups> {
        let groups = self.regex().captures(text)?;
        let span = |name| groups.name(name).map(|group| (group.start(), group.end()));
        Some(Groups { addr: span("addr"), user: span("user"), time: span("time") })
    }

    /// Whether a match says more than that it matches.
    pub(super) const fn has_groups(&self) -> bool {
        self.has_groups
    }

    fn anchored(text: &str, open_end: bool, proven: bool) -> Result<Self, PatternError> {
        if text.len() > TEXT {
            return Err(PatternError::Long(text.len()));
        }
        let expanded = expand(text, false);
        let hir = parse(&expanded)?;
        let regex = OnceLock::new();
        if !proven {
            let _ = regex.set(build(&expanded)?);
        }
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
        let named = |name: &&str| expanded.contains(&format!("P<{name}>")) || expanded.contains(&format!("(?<{name}>"));
        let has_groups = groups::NAMES.iter().any(named);
        Ok(Self { regex, has_groups, finder: OnceLock::new(), expanded, text: text.to_owned(), lead, proof: None })
    }
}

/// Memory that looking at one text after another uses again.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What many patterns say of a long text.
    pub(super) together: Together,
    /// The text of a field.
    pub(super) unescaped: Unescaped,
    trail: groups::Trail,
}

impl Memory {
    /// To be told when another line is looked at.
    pub(super) fn forget(&mut self) {
        self.together.forget();
        self.unescaped.forget();
    }
}

fn build(expanded: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(expanded)
        .unicode(false)
        .nest_limit(NEST)
        .size_limit(SIZE)
        .dfa_size_limit(SET_SIZE)
        .build()
        .map_err(|e| PatternError::Regex(e.to_string()))
}

/// Whether all patterns of one signature together stay within what they may take.
pub(super) fn fit<'a>(patterns: impl Iterator<Item = &'a str>) -> Result<(), PatternError> {
    let all = RegexSetBuilder::new(patterns).unicode(false).nest_limit(NEST).size_limit(SET_SIZE).build();
    all.map(drop).map_err(|e| PatternError::Regex(e.to_string()))
}

fn parse(expanded: &str) -> Result<Hir, PatternError> {
    let mut parser = ParserBuilder::new().unicode(false).utf8(false).nest_limit(NEST).build();
    parser.parse(expanded).map_err(|e| PatternError::Regex(e.to_string()))
}

fn parts(hir: &Hir) -> &[Hir] {
    match hir.kind() {
        HirKind::Concat(parts) => parts,
        _ => std::slice::from_ref(hir),
    }
}

fn is_address(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Capture(c) if c.name.as_deref() == Some("addr"))
}

/// The address is one part of the whole pattern, and no lazy field stands before it.
fn address_stands(hir: &Hir) -> Result<(), PatternError> {
    let parts = parts(hir);
    let at = parts.iter().position(is_address).ok_or(PatternError::Address)?;
    if parts[..at].iter().any(is_lazy) { Err(PatternError::Lazy) } else { Ok(()) }
}

/// Whether a repetition in here takes as little as it can, and may take an address.
fn is_lazy(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Repetition(r) => (!r.greedy && r.max.is_none_or(|max| max >= shift::LONG)) || is_lazy(&r.sub),
        HirKind::Capture(c) => is_lazy(&c.sub),
        HirKind::Alternation(all) | HirKind::Concat(all) => all.iter().any(is_lazy),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned<'a>(groups: &[&'a str]) -> Owned<'a> {
        Owned { groups: groups.iter().copied().collect(), proven: false }
    }

    #[test]
    fn many_large_patterns_are_too_much_together() {
        let large: Vec<String> = (0..40).map(|n| format!("^{n}(?:[a-y]{{99}}z){{90}}$")).collect();
        assert!(large.iter().all(|text| Pattern::field(text, false, false).is_ok()), "each is one that is taken");
        assert_eq!(fit(large.iter().take(4).map(String::as_str)), Ok(()));
        assert!(matches!(fit(large.iter().map(String::as_str)), Err(PatternError::Regex(_))));
    }

    fn refused(text: &str) -> Option<PatternError> {
        Pattern::message(text, false, &owned(&[])).err()
    }

    fn open_ended(text: &str) -> Result<Pattern, PatternError> {
        Pattern::message(text, true, &owned(&[]))
    }

    #[test]
    fn sound_patterns_pass() {
        for text in [
            "^Invalid user <user> from <addr>(?: port <port>)?$",
            "^Failed password for <user> from <addr> port <port> ssh2$",
            "^Received disconnect from <addr> port <port>:11: .*$",
            "^x <addr> port <port>: <user>$",
            "^from <host>\\[<addr>\\]: .*$",
            "^<time> \\[[0-9]+\\] <addr> .*$",
            // Behind a false address would have to come a narrow end, and there is the true one.
            "^user (?P<user>\\S*) <addr> port <port>: changed: \\([^ ,]*,[^ ,]*\\)$",
            "^from <<addr>:<port>>: .*$",
        ] {
            assert_eq!(refused(text), None, "{text}");
        }
        assert!(open_ended("^from <addr> ").is_ok());
    }

    #[test]
    fn patterns_that_could_be_led_astray_are_refused() {
        for (text, error) in [
            ("Invalid user <user> from <addr>$", PatternError::Start),
            ("^a <addr>$|^b$", PatternError::End),
            ("(?m)^a <addr>$", PatternError::Start),
            ("^Invalid user <user> from <addr>", PatternError::End),
            ("^Invalid user .*? from <addr>$", PatternError::Lazy),
            ("^nothing$", PatternError::Address),
            ("^(?:from <addr>)?$", PatternError::Address),
        ] {
            assert_eq!(refused(text), Some(error), "{text}");
        }
        for text in [
            "^Failed .* from <addr> port .*$",
            "^User .* from <addr> not allowed because [a-z ]+$",
            "^User \\S+ from <addr> not allowed because .*$",
            "^user (?:.*)+ from <addr>: \"[^\"]*\"$",
            "^Failed \\S+ for <user> from <addr> port <port> ssh2(?:: \\S+ \\S+)?$",
            "^x (?P<user>\\S*) <addr> port <port>: .*$",
            "^from [^\\[]*\\[<addr>\\]: .*$",
            "^.*<addr>.*$",
            // However short the words are that it takes.
            "^login failed for (?P<user>[a-z0-9]{1,6}) from <addr>(?: .*)?$",
            "^login failed for [a-z0-9]{1,6}[a-z0-9]{0,6} from <addr>(?: .*)?$",
            "^login failed for [a-z]{1,2} from <addr>(?: .*)?$",
        ] {
            assert!(matches!(refused(text), Some(PatternError::Shift { .. })), "{text}: {:?}", refused(text));
        }
        assert!(matches!(open_ended("^user .* from <addr> "), Err(PatternError::Shift { .. })));
        assert_eq!(refused("^[A-Z][a-z]{2} [ 0-9]{2} login failed from <addr>(?: .*)?$"), None, "a date is no field");
    }

    #[test]
    fn a_field_that_is_owned_is_held_to_its_class() {
        let text = "^User (?P<account>\\S+) from <addr> not allowed because .*$";
        assert!(matches!(Pattern::message(text, false, &owned(&[])), Err(PatternError::Shift { .. })));
        assert!(Pattern::message(text, false, &owned(&["account"])).is_ok());
        assert_eq!(Pattern::message(text, false, &owned(&["acount"])).err(), Some(PatternError::NoGroup("acount".into())));
    }

    #[test]
    fn a_refused_pattern_shows_a_line() {
        let Some(PatternError::Shift { line, .. }) = refused("^a .* from <addr> b .*$") else { panic!("it is refused") };
        assert!(line.starts_with("a ") && line.matches(" from ").count() == 2, "{line}");
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
