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
//!
//! What a filter remembers of a line that none of its expressions can match is its date alone. So such a line may be
//! passed by: see [`Filter::pass`].

use std::sync::Arc;

use super::super::line::Line;
use super::super::times::LogClock;
use super::dates::{DateError, DateMemory, Detector};
use super::expression::{Expression, ExpressionError, Scratch};
use super::lines::Lines;
use super::rule::Rule;
use super::session::Sessions;
use super::sieve::Sieve;
use super::{Definition, Failure, FilterError};

/// A longer line is not looked at: nothing that names an attacker is as long, and what runs in linear
/// time still runs twenty times for it.
const LONGEST: usize = 64 * 1024;

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
    pub(super) dates: Detector,
    pub(super) pref: Option<Rule>,
    pub(super) fails: Vec<Rule>,
    pub(super) ignores: Vec<Expression>,
    pub(super) sieve: Sieve,
    pub(super) lines: usize,
    /// Whether a name that is no address names nobody.
    pub(super) addresses_only: bool,
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
    pub(super) dates: DateMemory,
    pub(super) lines: Lines,
    pub(super) sessions: Sessions,
    room: Room,
    limits: u64,
    /// Whether an expression did not come to an end with the line at hand.
    pub(super) undecided: bool,
    /// Why the line at hand came to nothing.
    pub(super) miss: Option<Miss>,
    /// Whether no date was found in it, and it should have one.
    pub(super) dateless: bool,
    nameless: u64,
}

/// Why a line comes to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    TooLong,
    Undecided,
    Prefix,
    NoMatch,
    Ignored,
    /// By this failregex it is no failure of its own.
    NoFailure(usize),
    /// Who failed is not said.
    Nobody(usize),
    /// Who failed is said, by a name.
    NoAddress(usize),
}

/// Room to work in, kept so that a line costs no allocation.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) text: String,
    pub(super) content: String,
    pub(super) possible: Vec<bool>,
    pub(super) scratch: Scratch,
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

    /// Why nobody can be banned by the last line that was looked at; `None` where somebody can.
    pub fn missed(&self) -> Option<String> {
        let matches = |regex: usize, but: &str| format!("failregex {} matches, but {but}", regex + 1);
        let why = match self.miss? {
            Miss::TooLong => format!("longer than {LONGEST} bytes, not looked at"),
            Miss::Undecided => "not decided: an expression took too many steps".to_owned(),
            Miss::Prefix => "prefregex does not match".to_owned(),
            Miss::NoMatch => "no failregex matches".to_owned(),
            Miss::Ignored => "an ignoreregex matches".to_owned(),
            Miss::NoFailure(regex) => matches(regex, "has it as no failure by itself"),
            Miss::Nobody(regex) => matches(regex, "names nobody"),
            Miss::NoAddress(regex) => matches(regex, "names nobody by an address"),
        };
        Some(if self.dateless { format!("{why}; no date was found in the line") } else { why })
    }

    /// Notes why a line comes to nothing.
    pub(super) const fn nothing(&mut self, why: Miss) -> Option<Failure> {
        self.miss = Some(why);
        None
    }
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
            sieve: Sieve::new(fails.iter().map(|rule| &rule.expression), pref.as_ref().map(|rule| &rule.expression)),
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

    /// Texts in small letters of which each line that matters to this filter holds one, in any case; none where
    /// each line may matter.
    pub fn needles(&self) -> &[String] {
        // Of several lines together each may be the first.
        if self.lines > 1 { &[] } else { self.sieve.needles() }
    }

    /// Passes the next line of a source by, which is no record of the journal and holds none of [`Self::needles`].
    /// All that is remembered of it is its date. `false`, and nothing remembered: it must be looked at.
    pub fn pass(&self, session: &mut Session, text: &[u8], clock: &LogClock) -> bool {
        // Where a date is cut out, what stood around it stands together: a needle may be there now.
        let fine = |start: usize, end: usize| {
            let (before, after) = (text.get(..start).unwrap_or_default(), text.get(end..).unwrap_or_default());
            start == end || !self.sieve.joins(before, after)
        };
        self.lines <= 1 && text.len() <= LONGEST && self.dates.pass(&mut session.dates, text, clock, fine)
    }

    /// Looks at the next line of a source.
    pub fn look(&self, session: &mut Session, line: Line<'_>, clock: &LogClock) -> Option<Failure> {
        (session.miss, session.dateless) = (None, false);
        if line.text().len() > LONGEST {
            session.limits = session.limits.saturating_add(1);
            return session.nothing(Miss::TooLong);
        }
        let mut room = std::mem::take(&mut session.room);
        let at = self.undated(session, line, clock, &mut room.text);
        let failure = self.find(session, &mut room, at, clock);
        session.room = room;
        let undecided = std::mem::take(&mut session.undecided);
        session.limits = session.limits.saturating_add(u64::from(undecided));
        match &failure {
            None if undecided => session.miss = Some(Miss::Undecided),
            Some(failure) if failure.addr.is_none() => {
                session.miss = Some(Miss::NoAddress(failure.regex));
                session.nameless = session.nameless.saturating_add(1);
            }
            _ => {}
        }
        failure
    }
}
