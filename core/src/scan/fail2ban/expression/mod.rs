//! One failregex, prefregex or ignoreregex: from its text to something that runs and cannot run away.
//!
//! | part | what it does |
//! |---|---|
//! | [`tags`] | fail2ban's tags to regex text |
//! | [`parse`], [`syntax`] | Python's regex syntax to a tree |
//! | [`cases`] | conditions taken apart into alternatives |
//! | [`lower`] | the tree to an expression that runs in linear time, and what to check afterwards |
//! | [`literals`] | what a line must hold for it to match |
//! | [`program`], [`machine`], [`places`] | by trying, with a step limit |
//! | [`trial`] | a regex without tags by trying alone |
//!
//! How a text is searched: what is bound to the start of the text is tried first, within few steps, which is the
//! fastest for ordinary lines. Else the linear expression decides, and where that cannot, trying does,
//! within more steps.

mod cases;
mod literals;
mod lower;
mod machine;
mod parse;
mod places;
mod program;
mod syntax;
mod tags;
#[cfg(test)]
mod tests;
mod trial;

use std::sync::OnceLock;

use regex_automata::Input;
use regex_automata::meta;
use regex_automata::util::primitives::NonMaxUsize;

use self::lower::{Check, Lowered, Peek};
use self::machine::{Machine, STEPS, TooMany};
use self::program::{Program, slot};
use self::syntax::{Assert, Node, Tree};
pub(super) use self::trial::Trial;

/// How much memory a linear expression may take before it is run: fail2ban's largest takes a tenth.
const AUTOMATON: usize = 10 << 20;

/// How many steps are tried before an automaton is asked: ordinary lines of logs take fewer, and so many take
/// less than ten microseconds.
const FEW_STEPS: u32 = 500;

/// One step more for so many bytes: to run over them takes that long.
const RUN: usize = 8;

/// An automaton passes over so many bytes while a step is made by trying; to take groups out of a match takes so many steps
/// for each of its bytes.
const PASSED: usize = 6;
const TAKEN: usize = 4;

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// There is nothing in it.
    #[error("it is empty; remove the line")]
    Empty,
    /// Too long.
    #[error("it has {0} bytes with all its tags put in, more than are ever needed")]
    TooLong(usize),
    /// What Python would not read either.
    #[error("{what} at byte {at} of the regex with its tags put in")]
    Syntax {
        /// Where.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// One name, two groups.
    #[error("the group `{0}` stands twice in it; name the second <F-ALT_...>")]
    Twice(String),
    /// It does not say who.
    #[error("it names nobody: it needs <HOST>, <ADDR>, <F-ID>, <F-MLFID> or the like")]
    Nobody,
}

/// A compiled expression. Immutable.
#[derive(Debug)]
pub(super) struct Expression {
    /// For texts of ASCII, which nearly all are: small and fast.
    narrow: Option<Engine>,
    /// For all others; made at the first of them.
    wide: OnceLock<Option<Engine>>,
    /// Whether it tells the end of a text from the end of a line.
    dollar: bool,
    program: Program,
    linear: Node,
    /// Groups, without those for checks.
    groups: u32,
    names: Vec<(String, usize)>,
    literals: Option<Vec<String>>,
}

/// The linear expression, and how far it goes.
#[derive(Debug)]
struct Engine {
    regex: meta::Regex,
    checks: Vec<Check>,
    /// Whether a match that passes the checks is the match.
    decides: bool,
}

/// A text to search, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    text: &'a str,
    ascii: bool,
    /// Whether its only newline is the last character.
    one_line: bool,
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It matches; the groups are in the scratch.
    Match,
    /// It does not.
    No,
    /// It would have taken too long to know.
    Limit,
}

/// What searching needs, kept from one search to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    slots: Vec<Option<NonMaxUsize>>,
    /// Where each group begins and ends; group 0 is the match.
    found: Vec<Option<usize>>,
    machine: Machine,
}

impl<'a> Text<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let one_line = memchr::memchr(b'\n', bytes).is_none_or(|at| at + 1 == bytes.len());
        Self { text, ascii: text.is_ascii(), one_line }
    }

    pub(super) const fn as_str(&self) -> &'a str {
        self.text
    }
}

impl Scratch {
    /// Begins a line: all expressions that look at it share what may be spent on one.
    pub(super) const fn begin(&mut self) {
        self.machine.begin();
    }

    /// Where a group begins and ends.
    pub(super) fn span(&self, group: usize) -> Option<(usize, usize)> {
        let at = group.checked_mul(2)?;
        Some(((*self.found.get(at)?)?, (*self.found.get(at + 1)?)?))
    }

    /// What a group matched.
    pub(super) fn group<'a>(&self, text: &Text<'a>, group: usize) -> Option<&'a str> {
        let (start, end) = self.span(group)?;
        text.text.get(start..end)
    }
}

impl Expression {
    /// Compiles an expression with fail2ban's tags in it.
    ///
    /// `names_too`: whether `<HOST>` takes names; `multiline`: whether `^` and `$` are those of lines.
    pub(super) fn compile(text: &str, names_too: bool, multiline: bool) -> Result<Self, ExpressionError> {
        let text = tags::expand(text, names_too);
        if text.trim_start().is_empty() {
            return Err(ExpressionError::Empty);
        }
        Ok(Self::new(parse::parse(&text, multiline)?))
    }

    fn new(tree: Tree) -> Self {
        let Tree { node, groups, names } = tree;
        let linear = cases::without_conditions(&node).unwrap_or_else(|| node.clone());
        let mut names: Vec<_> = names.into_iter().map(|(name, group)| (name, slot(group) / 2)).collect();
        names.sort();
        Self {
            narrow: Engine::new(&linear, groups, true),
            wide: OnceLock::new(),
            literals: literals::required(&node),
            dollar: node.any(&|node| matches!(node, Node::Assert(Assert::Dollar))),
            program: Program::new(&node),
            linear,
            groups,
            names,
        }
    }

    /// The names of its groups, in order.
    pub(super) fn names(&self) -> &[(String, usize)] {
        &self.names
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|(known, _)| known == name)
    }

    /// Texts, in lower case, of which each text that matches holds at least one, in any case.
    pub(super) fn literals(&self) -> Option<&[String]> {
        self.literals.as_deref()
    }

    /// Whether it never needs more than linear time.
    pub(super) fn is_linear(&self) -> bool {
        self.narrow.as_ref().is_some_and(|engine| engine.decides && engine.checks.is_empty())
    }

    fn engine(&self, ascii: bool) -> Option<&Engine> {
        if ascii {
            return self.narrow.as_ref();
        }
        self.wide.get_or_init(|| Engine::new(&self.linear, self.groups, false)).as_ref()
    }

    /// The first match, as Python's `search` finds it.
    pub(super) fn search(&self, text: &Text<'_>, scratch: &mut Scratch) -> Verdict {
        match self.try_search(text, scratch) {
            Ok(true) => Verdict::Match,
            Ok(false) => Verdict::No,
            Err(TooMany) => Verdict::Limit,
        }
    }

    /// The first match by trying, within so many steps.
    fn steps(&self, text: &Text<'_>, scratch: &mut Scratch, from: usize, most: u32) -> Result<bool, TooMany> {
        let slots = slot(self.groups).saturating_add(2);
        let Scratch { machine, found, .. } = scratch;
        machine.wind(most);
        let matched = machine.search(&self.program, text.text, from, slots)?;
        found.clear();
        found.extend_from_slice(machine.slots());
        Ok(matched)
    }

    fn try_search(&self, text: &Text<'_>, scratch: &mut Scratch) -> Result<bool, TooMany> {
        // What begins at the start of the text is mostly decided sooner than an automaton has begun.
        let few = FEW_STEPS.saturating_add(u32::try_from(text.text.len() / RUN).unwrap_or(u32::MAX));
        if self.program.anchored
            && let Ok(matched) = self.steps(text, scratch, 0, few)
        {
            return Ok(matched);
        }
        self.linear_first(text, scratch)
    }

    /// The first match by the linear expression, and by trying where that does not decide.
    fn linear_first(&self, text: &Text<'_>, scratch: &mut Scratch) -> Result<bool, TooMany> {
        let mut from = 0;
        if let Some(engine) = self.engine(text.ascii) {
            scratch.machine.charge(text.text.len() / PASSED);
            if scratch.machine.is_spent() {
                return Err(TooMany);
            }
            if !engine.search(text.text, scratch) {
                return Ok(false);
            }
            let length = scratch.span(0).map_or(0, |(start, end)| end - start);
            scratch.machine.charge(length.saturating_mul(TAKEN));
            scratch.machine.wind(STEPS);
            if engine.decides && (text.one_line || !self.dollar) && engine.passes(text.text, scratch)? {
                return Ok(true);
            }
            from = scratch.found.first().copied().flatten().unwrap_or(0);
        }
        self.steps(text, scratch, from, STEPS)
    }
}

impl Engine {
    fn new(node: &Node, groups: u32, ascii: bool) -> Option<Self> {
        let Lowered { hir, checks, decides } = lower::lower(node, groups, ascii);
        let config = meta::Config::new().nfa_size_limit(Some(AUTOMATON)).utf8_empty(true);
        let regex = meta::Builder::new().configure(config).build_from_hir(&hir).ok()?;
        Some(Self { regex, checks, decides })
    }

    fn search(&self, text: &str, scratch: &mut Scratch) -> bool {
        let Scratch { slots, found, .. } = scratch;
        slots.clear();
        slots.resize(self.regex.group_info().slot_len(), None);
        if self.regex.search_slots(&Input::new(text), slots).is_none() {
            return false;
        }
        found.clear();
        found.extend(slots.iter().map(|at| at.map(NonMaxUsize::get)));
        true
    }

    fn passes(&self, text: &str, scratch: &mut Scratch) -> Result<bool, TooMany> {
        let Scratch { machine, found, .. } = scratch;
        let get = |slot: usize| found.get(slot).copied().flatten();
        for check in &self.checks {
            let good = match check {
                Check::At { slot, peek } => match get(*slot) {
                    Some(at) => peek.holds(text, at, found, machine)?,
                    None => true,
                },
                Check::Place { slot, place } => get(*slot).is_none_or(|at| places::holds(*place, text, at)),
                Check::Each { slot, peek } => match (get(*slot), get(*slot + 1)) {
                    (Some(start), Some(end)) => peek.holds_in(text, start, end, found, machine)?,
                    _ => true,
                },
                Check::Same { slot, group, fold } => match (get(*slot), get(*slot + 1)) {
                    (Some(start), Some(end)) => match (get(*group), get(*group + 1)) {
                        (Some(first), Some(last)) => same(text.get(start..end), text.get(first..last), *fold),
                        _ => false,
                    },
                    _ => true,
                },
            };
            if !good {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn same(a: Option<&str>, b: Option<&str>, fold: bool) -> bool {
    // Where case does not count, who runs it decides.
    !fold && a == b
}

impl Peek {
    fn holds(&self, text: &str, at: usize, found: &[Option<usize>], machine: &mut Machine) -> Result<bool, TooMany> {
        let there = match (&self.text, places::behind(text, at, self.back)) {
            (Some(wanted), _) => text.get(at..).is_some_and(|rest| rest.starts_with(wanted)),
            (None, Some(at)) => machine.here(&self.program, text, at, found)?,
            (None, None) => false,
        };
        Ok(there != self.negated)
    }

    fn holds_in(&self, text: &str, start: usize, end: usize, found: &[Option<usize>], machine: &mut Machine) -> Result<bool, TooMany> {
        if let (Some(wanted), true) = (&self.text, self.negated) {
            // It begins before the end of the group, and may end after it.
            let last = end.saturating_add(wanted.len()).saturating_sub(1).min(text.len());
            let within = text.as_bytes().get(start..last).unwrap_or_default();
            return Ok(start == end || memchr::memmem::find(within, wanted.as_bytes()).is_none());
        }
        for (i, _) in text.get(start..end).unwrap_or_default().char_indices() {
            if !self.holds(text, start + i, found, machine)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
