//! The lines of one source against the signatures of the jails that read it.

use std::ops::Range;
use std::sync::Arc;

use super::fail2ban::{self, Filter, Shortfall};
use super::filters::{Filters, failure, failure_attack};
use super::needles::Needles;
use super::prefilter::{Prefilter, Seen};
use super::signature::{Found, Rule, Signature};
use super::times::LogClock;
use super::unwrap::{self, Unwrapper};
use super::view::{Scratch, View};
use crate::attack::{Attack, JailName, Login, Sign, excerpt};
use crate::time::Stamp;

/// One line, as a source delivers it.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub(super) text: &'a [u8],
    /// `None`: not taken apart yet.
    pub(super) split: Option<Option<&'a [u8]>>,
    pid: Option<u32>,
    at: Option<Stamp>,
    file: &'a [u8],
}

impl<'a> Line<'a> {
    /// A line of a file or of standard input, without its newline.
    pub const fn raw(text: &'a [u8]) -> Self {
        Self { text, split: None, pid: None, at: None, file: b"" }
    }

    /// A journal record: `SYSLOG_IDENTIFIER`, `_PID`, `MESSAGE` and the record's time. Nothing in the
    /// message is taken for a syslog prefix.
    pub const fn journal(program: Option<&'a [u8]>, pid: Option<u32>, message: &'a [u8], at: Option<Stamp>) -> Self {
        Self { text: message, split: Some(program), pid, at, file: b"" }
    }

    /// The same line, with the name of its file: pieces of one line are joined within a file only. To
    /// be told wherever one state sees lines of several.
    pub const fn of_file(self, file: &'a [u8]) -> Self {
        Self { file, ..self }
    }

    /// The name of its file, if it was told.
    pub(super) const fn file(&self) -> &'a [u8] {
        self.file
    }

    /// A line without a date whose time is known otherwise.
    pub const fn dated(text: &'a [u8], at: Stamp) -> Self {
        Self { text, split: None, pid: None, at: Some(at), file: b"" }
    }

    /// The program and the process of a journal record; `None` for a line.
    pub(super) const fn record(&self) -> Option<(Option<&'a [u8]>, Option<u32>)> {
        match self.split {
            Some(program) => Some((program, self.pid)),
            None => None,
        }
    }

    /// When the journal got it.
    pub(super) const fn at(&self) -> Option<Stamp> {
        self.at
    }

    /// The bytes as delivered.
    pub const fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The same with what was found in its text.
    pub(super) const fn within<'b>(self, text: &'b [u8]) -> Line<'b>
    where
        'a: 'b,
    {
        Line { text, ..self }
    }

    /// Whether it comes from the journal.
    pub(super) const fn is_record(&self) -> bool {
        self.split.is_some()
    }

    /// When it was written, as far as it says.
    pub fn when(self, clock: &LogClock) -> Option<Stamp> {
        let (mut unwrapper, mut scratch) = (Unwrapper::default(), Scratch::default());
        let own = View::opened(unwrapper.open(self), &mut scratch).and_then(|mut view| {
            let _ = view.request();
            view.at(None, clock)
        });
        own.or_else(|| clock.find(self.text)?.1)
    }
}

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
    /// A slot for each signature of each jail, in their order.
    prefilter: Prefilter,
    /// The slot of what may hide needles.
    wrapped: usize,
    pub(super) filters: Filters,
}

/// Where in a block a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How many lines of the block are before it.
    pub line: u64,
    /// Its bytes, without the line end.
    pub bytes: Range<usize>,
}

/// What scanning remembers from one line to the next: each thread that reads a source has its own.
#[derive(Debug)]
pub struct ScanState {
    pub(super) clock: LogClock,
    /// One for each filter, in the order of the jails.
    pub(super) sessions: Vec<fail2ban::Session>,
    /// Which signatures the line at hand can be of.
    seen: Seen,
    /// Where in the block at hand needles are; kept for its memory only.
    hits: Vec<usize>,
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
        let signatures = jails.iter().flat_map(|jail| &jail.signatures);
        let mut needles: Vec<Vec<Needles>> = signatures.map(|s| s.rules().iter().map(Rule::needles).collect()).collect();
        let wrapped = needles.len();
        needles.push(vec![Needles::exactly(unwrap::MARKS)]);
        let filters = Filters::of(jails, &mut needles);
        let prefilter = Prefilter::new(needles.iter().map(|rules| rules.iter().collect()));
        Self { jails: jails.to_vec(), prefilter, wrapped, filters }
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
            seen: self.prefilter.seen(),
            hits: Vec::new(),
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
        if !self.prefilter.mark(line.text, &mut state.seen) && self.filters != Filters::All {
            return self.pass(state, line, sink);
        }
        let ScanState { clock, sessions, scratch, unwrapper, seen, .. } = state;
        // Filters look at lines as they are.
        let mut view = if seen.any_up_to(self.wrapped) { View::opened(unwrapper.open(line), scratch) } else { None };
        // What is around a line, or painted within it, may hide what it holds: now it can be seen.
        if let Some(view) = view.as_mut().filter(|_| seen.has(self.wrapped)) {
            self.prefilter.mark(view.text(), seen);
            self.prefilter.mark_more(view.frame().message, seen);
        }
        let mut sessions = sessions.iter_mut();
        let mut slots = 0..;
        let mut own = self.filters.slots(line);
        for JailScan { jail, signatures, filters } in &self.jails {
            let mut best: Option<(&Signature, Found<'_, '_>)> = None;
            for (signature, slot) in signatures.iter().zip(&mut slots) {
                if !seen.has(slot) {
                    continue;
                }
                let Some(found) = view.as_mut().and_then(|view| view.look(signature)) else { continue };
                if best.as_ref().is_none_or(|(_, b)| found.rule.score() > b.rule.score()) {
                    best = Some((signature, found));
                }
            }
            let failure = failure(filters, &mut sessions, line, clock, &mut || own.next().is_none_or(|slot| seen.has(slot)));
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

    /// Scans lines that each end with a newline (the last one need not), as [`Self::scan`] would one
    /// by one, and tells how many they are. Lines that nothing can match are only counted. `file` is
    /// what [`Line::of_file`] would be told.
    pub fn scan_block(&self, state: &mut ScanState, (file, block): (&[u8], &[u8]), sink: &mut dyn FnMut(Place, Sign)) -> u64 {
        let mut place = Place { line: 0, bytes: 0..0 };
        let mut from = 0;
        if self.filters == Filters::All || !self.prefilter.skips() {
            while from < block.len() {
                from = self.scan_at(state, (file, block), &mut place, from, sink);
            }
            return place.line;
        }
        let mut hits = std::mem::take(&mut state.hits);
        self.prefilter.hits(block, &mut hits);
        for hit in &hits {
            let start = memchr::memrchr(b'\n', part(block, from, *hit)).map_or(from, |at| from + at + 1);
            self.pass_over(state, (file, block), &mut place, from..start, sink);
            from = self.scan_at(state, (file, block), &mut place, start, sink);
        }
        state.hits = hits;
        self.pass_over(state, (file, block), &mut place, from..block.len(), sink);
        place.line
    }

    /// Scans the line that starts here. Where the next one does.
    fn scan_at(
        &self,
        state: &mut ScanState,
        (file, block): (&[u8], &[u8]),
        place: &mut Place,
        start: usize,
        sink: &mut dyn FnMut(Place, Sign),
    ) -> usize {
        let next = take_line(block, start, place);
        let text = part(block, place.bytes.start, place.bytes.end);
        self.scan(state, Line::raw(text).of_file(file), &mut |sign| sink(place.clone(), sign));
        place.line += 1;
        next
    }
}

/// Notes where the line is that starts here, without its line end. Where the next one starts.
pub(super) fn take_line(block: &[u8], start: usize, place: &mut Place) -> usize {
    let end = memchr::memchr(b'\n', part(block, start, block.len())).map_or(block.len(), |at| start + at);
    let text = part(block, start, end);
    place.bytes = start..start + text.strip_suffix(b"\r").unwrap_or(text).len();
    end + 1
}

pub(super) fn part(block: &[u8], from: usize, to: usize) -> &[u8] {
    block.get(from..to).unwrap_or_default()
}

pub(super) fn newlines(block: &[u8], from: usize, to: usize) -> u64 {
    memchr::memchr_iter(b'\n', part(block, from, to)).count() as u64
}

fn sign(jail: &JailName, signature: &Signature, found: &Found<'_, '_>, view: &mut View<'_>, line: Line<'_>, clock: &LogClock) -> Sign {
    let (addr, jail) = (found.addr, jail.clone());
    let (rule, service) = (found.rule.full_name().clone(), signature.service().clone());
    let (at, user, line) = (view.at(found.time.as_deref(), clock), found.user.as_deref().map(excerpt), excerpt(line.text));
    if found.rule.is_login() {
        return Sign::Login(Login { addr, jail, signature: rule, service, at, user, line });
    }
    Sign::Attack(Attack { addr, jail, signature: rule, service, score: found.rule.score(), at, user, line })
}
