//! The lines of one source against the signatures of the jails that read it.

use std::sync::Arc;

use super::fail2ban::{self, Filter, Shortfall};
use super::filters::{Filters, failure, failure_attack};
use super::line::Line;
use super::needles::Needles;
use super::prefilter::{self, Prefilter, Slot};
use super::signature::{Found, Kind, Signature};
use super::times::LogClock;
use super::unwrap::{self, Opened, Unwrapper};
use super::view::{Scratch, View};
use crate::attack::{Attack, JailName, Login, Sign, excerpt};
use crate::time::Stamp;

/// A jail's part in one source.
#[derive(Clone, Debug)]
pub struct JailScan {
    /// The jail.
    pub jail: JailName,
    /// What its lines are held against.
    pub signatures: Vec<Arc<Signature>>,
    /// fail2ban filters its lines are held against too.
    pub filters: Vec<Arc<Filter>>,
}

impl JailScan {
    /// A jail that uses signatures only.
    pub fn of(jail: JailName, signatures: Vec<Arc<Signature>>) -> Self {
        Self { jail, signatures, filters: Vec::new() }
    }
}

/// All jails of one source. Immutable: share it in an `Arc`.
#[derive(Clone, Debug)]
pub struct Scanner {
    pub(super) jails: Vec<JailScan>,
    /// A slot for each rule, one for what may hide needles, and those of the filters.
    pub(super) prefilter: Prefilter,
    /// All rules, in the order of the jails, their signatures and the weight of rules.
    rules: Vec<Entry>,
    pub(super) filters: Filters,
}

/// Where a rule is: which jail's, which signature of that, which rule of that.
#[derive(Clone, Copy, Debug)]
struct Entry {
    jail: usize,
    signature: usize,
    rule: usize,
}

/// What scanning remembers from one line to the next: each thread that reads a source has its own.
#[derive(Debug)]
pub struct ScanState {
    pub(super) clock: LogClock,
    /// One for each filter, in the order of the jails.
    pub(super) sessions: Vec<fail2ban::Session>,
    /// Which slots of the prefilter the line at hand can be of, in their order.
    pub(super) marks: Vec<u32>,
    /// The needles in the text at hand, and those within one of its lines; kept for their memory only.
    pub(super) found: Vec<prefilter::Found>,
    within: Vec<prefilter::Found>,
    /// What was told of each by [`Scanner::shortfalls`].
    told: Vec<Shortfall>,
    /// Memory that taking lines apart uses again.
    scratch: Scratch,
    /// The pieces of a line that are there so far.
    unwrapper: Unwrapper,
}

impl ScanState {
    /// Moves the clock on: lines without a year, or with a time of day only, are read by it.
    pub fn set_now(&mut self, now: Stamp) {
        self.clock.now = now;
    }

    /// To be told of each line of a file that was dropped for its length: see [`Line::of_file`].
    pub fn dropped(&mut self, file: &[u8]) {
        self.unwrapper.dropped(file);
    }

    /// How long a line may be that a container's engine wrote in pieces: as long as any.
    pub fn set_line_cap(&mut self, cap: usize) {
        self.unwrapper.set_cap(cap);
    }
}

impl Scanner {
    /// A scanner for a source that these jails read.
    pub fn new(jails: &[JailScan]) -> Self {
        let mut rules = Vec::new();
        let mut slots = Vec::new();
        for (at, jail) in jails.iter().enumerate() {
            for (index, signature) in jail.signatures.iter().enumerate() {
                rules.extend((0..signature.rules().len()).map(|rule| Entry { jail: at, signature: index, rule }));
                let request = signature.kind() == Kind::AccessLog;
                slots.extend(signature.rules().iter().map(|rule| Slot { needles: rule.needles(), request }));
            }
        }
        let marks = Needles::exactly(unwrap::MARKS);
        slots.push(Slot { needles: &marks, request: false });
        let (filters, texts) = Filters::of(jails, slots.len());
        slots.extend(texts.iter().map(|needles| Slot { needles, request: false }));
        let prefilter = Prefilter::new(slots.into_iter());
        Self { jails: jails.to_vec(), prefilter, rules, filters }
    }

    /// The jails and their signatures.
    pub fn jails(&self) -> &[JailScan] {
        &self.jails
    }

    /// What to begin with.
    pub fn state(&self, clock: LogClock) -> ScanState {
        let sessions: Vec<_> = self.jails.iter().flat_map(|jail| &jail.filters).map(|filter| filter.session()).collect();
        let told = vec![Shortfall::default(); sessions.len()];
        ScanState {
            clock,
            sessions,
            told,
            scratch: Scratch::default(),
            unwrapper: Unwrapper::default(),
            marks: Vec::new(),
            found: Vec::new(),
            within: Vec::new(),
        }
    }

    /// Tells `sink` of each filter that left something undone since it was last asked.
    pub fn shortfalls(&self, state: &mut ScanState, sink: &mut dyn FnMut(&JailName, Shortfall)) {
        let jails = self.jails.iter().flat_map(|jail| jail.filters.iter().map(|_| &jail.jail));
        for (jail, (session, told)) in jails.zip(state.sessions.iter().zip(&mut state.told)) {
            let now = Shortfall { undecided: session.limits(), nameless: session.nameless() };
            if now != *told {
                sink(jail, now.since(*told));
                *told = now;
            }
        }
    }

    /// Tells `sink` what one line means, at most one sign a jail: the heaviest attack, else a login.
    /// A line that matches nothing costs no allocation.
    pub fn scan(&self, state: &mut ScanState, line: Line<'_>, sink: &mut dyn FnMut(Sign)) {
        state.marks.clear();
        self.prefilter.find(line.text, &mut state.within);
        self.prefilter.mark(line.text, &state.within, &mut state.marks);
        self.scan_marked(state, line, sink);
    }

    /// Scans a line that can be of these rules and filters.
    pub(super) fn scan_marked(&self, state: &mut ScanState, line: Line<'_>, sink: &mut dyn FnMut(Sign)) {
        if state.marks.is_empty() && self.filters != Filters::All {
            return self.pass(state, line, sink);
        }
        let ScanState { clock, sessions, scratch, unwrapper, marks, within, .. } = state;
        let is_rule = |mark: &u32| self.rules.get(*mark as usize);
        let wraps = self.rules.len();
        let wrapped = marks.iter().any(|mark| *mark as usize == wraps);
        let opened = if wrapped { unwrapper.open(line) } else { Opened::AsIs(line) };
        let hidden = !matches!(opened, Opened::AsIs(_));
        // Filters look at lines as they are.
        let ours = marks.first().is_some_and(|first| *first as usize <= wraps);
        let mut view = if ours { View::opened(opened, scratch) } else { None };
        // What is around a line, or painted within it, may hide what it holds: now it can be seen.
        if let Some(view) = view.as_mut().filter(|_| hidden) {
            for text in view.texts() {
                self.prefilter.find(text, within);
                self.prefilter.mark(text, within, marks);
            }
        }
        let mut sessions = sessions.iter_mut();
        let mut marked = marks.iter().filter_map(is_rule).peekable();
        let mut own = self.filters.slots(line);
        for (at, JailScan { jail, signatures, filters }) in self.jails.iter().enumerate() {
            let mut best: Option<(&Signature, Found<'_, '_>)> = None;
            let mut matched = None;
            while let Some(entry) = marked.next_if(|entry| entry.jail == at) {
                // The heaviest rule that matches stands for its signature.
                if matched == Some(entry.signature) {
                    continue;
                }
                let Some(signature) = signatures.get(entry.signature) else { continue };
                let rule = signature.rules().get(entry.rule);
                let Some(found) = view.as_mut().zip(rule).and_then(|(view, rule)| view.look_by(signature, rule)) else { continue };
                matched = Some(entry.signature);
                if best.as_ref().is_none_or(|(_, b)| found.rule.score() > b.rule.score()) {
                    best = Some((signature, found));
                }
            }
            let failure = failure(filters, &mut sessions, line, clock, &mut || own.next().is_none_or(|slot| marks.contains(&slot)));
            match (best, failure) {
                (Some((signature, found)), None) => {
                    if let Some(view) = &mut view {
                        sink(sign(jail, signature, &found, view, line, clock));
                    }
                }
                (_, Some((filter, failure))) => {
                    if let Some(attack) = failure_attack(jail, filter, failure, line) {
                        sink(Sign::Attack(attack));
                    }
                }
                (None, None) => {}
            }
        }
        if let Some(view) = view {
            *scratch = view.scratch();
        }
    }
}

fn sign(jail: &JailName, signature: &Signature, found: &Found<'_, '_>, view: &mut View<'_>, line: Line<'_>, clock: &LogClock) -> Sign {
    let (addr, jail) = (found.addr, jail.clone());
    let (rule, service) = (found.rule.full_name().clone(), signature.service().clone());
    let (at, user, line) = (view.at(found.time.as_deref(), clock), found.user.as_deref().map(excerpt), excerpt(line.text));
    if found.rule.is_login() {
        return Sign::Login(Login { addr, jail, signature: rule, service, at, user, line });
    }
    let score = view.weight(signature, found);
    Sign::Attack(Attack { addr, jail, signature: rule, service, score, at, user, line })
}
