//! The lines of one source against the signatures of the jails that read it.

use std::ops::Range;
use std::sync::Arc;

use super::fail2ban::{self, Failure, Filter, Shortfall};
use super::needles::Needles;
use super::prefilter::{self, Prefilter, Slot};
use super::signature::{Found, Kind, Signature};
use super::times::LogClock;
use super::unwrap::{self, Opened, Unwrapper};
use super::view::{Scratch, View};
use crate::attack::{Attack, FULL_FAILURE, JailName, Login, Sign, excerpt};
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
    jails: Vec<JailScan>,
    /// A slot for each rule, and a last one for what may hide needles.
    prefilter: Prefilter,
    /// All rules, in the order of the jails, their signatures and the weight of rules.
    rules: Vec<Entry>,
    /// There are filters that must see every line.
    filters: bool,
}

/// Where a rule is: which jail's, which signature of that, which rule of that.
#[derive(Clone, Copy, Debug)]
struct Entry {
    jail: usize,
    signature: usize,
    rule: usize,
}

/// Blocks are looked through in parts of so many bytes: what was found in one should still be in the
/// core's second cache when its lines are scanned.
const PART: usize = 128 * 1024;

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
    clock: LogClock,
    /// One for each filter, in the order of the jails.
    sessions: Vec<fail2ban::Session>,
    /// Which rules the line at hand can be of, in their order.
    marks: Vec<u32>,
    /// The needles in the text at hand, and those within one of its lines; kept for their memory only.
    found: Vec<prefilter::Found>,
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
        let mut needles: Vec<(Needles, bool)> = Vec::new();
        for (at, jail) in jails.iter().enumerate() {
            for (index, signature) in jail.signatures.iter().enumerate() {
                rules.extend((0..signature.rules().len()).map(|rule| Entry { jail: at, signature: index, rule }));
                needles.extend(signature.rules().iter().map(|rule| (rule.needles(), signature.kind() == Kind::AccessLog)));
            }
        }
        needles.push((Needles::exactly(unwrap::MARKS), false));
        let prefilter = Prefilter::new(needles.iter().map(|(needles, request)| Slot { needles, request: *request }));
        Self { jails: jails.to_vec(), prefilter, rules, filters: jails.iter().any(|jail| !jail.filters.is_empty()) }
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
        self.prefilter.mark(&state.within, &mut state.marks);
        self.scan_marked(state, line, sink);
    }

    /// Scans a line that can be of these rules.
    fn scan_marked(&self, state: &mut ScanState, line: Line<'_>, sink: &mut dyn FnMut(Sign)) {
        if state.marks.is_empty() && !self.filters {
            return;
        }
        let ScanState { clock, sessions, scratch, unwrapper, marks, within, .. } = state;
        let is_rule = |mark: &u32| self.rules.get(*mark as usize);
        let wrapped = marks.last().is_some_and(|last| is_rule(last).is_none());
        let opened = if wrapped { unwrapper.open(line) } else { Opened::AsIs(line) };
        let hidden = !matches!(opened, Opened::AsIs(_));
        let mut view = View::opened(opened, scratch);
        // What is around a line, or painted within it, may hide what it holds: now it can be seen.
        if let Some(view) = view.as_mut().filter(|_| hidden) {
            for text in view.texts() {
                self.prefilter.find(text, within);
                self.prefilter.mark(within, marks);
            }
        }
        let mut sessions = sessions.iter_mut();
        let mut marked = marks.iter().filter_map(is_rule).peekable();
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
            // Each filter sees each line, as what it remembers depends on all of them.
            let mut failure: Option<(&Filter, Failure)> = None;
            for (filter, session) in filters.iter().zip(&mut sessions) {
                let found = filter.look(session, line, clock);
                // Nobody can be banned by a name.
                let named = found.filter(|found| found.addr.is_some());
                failure = failure.or_else(|| named.map(|found| (filter.as_ref(), found)));
            }
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
        if self.filters || !self.prefilter.skips() {
            while from < block.len() {
                from = self.scan_at(state, (file, block), &mut place, from, sink);
            }
            return place.line;
        }
        let mut found = std::mem::take(&mut state.found);
        let mut part_from = 0;
        while part_from < block.len() {
            let part_end = cut(block, part_from);
            self.prefilter.find(part(block, part_from, part_end), &mut found);
            let mut found = &found[..];
            while let Some(first) = found.first() {
                let at = part_from + first.at;
                let start = memchr::memrchr(b'\n', part(block, from, at)).map_or(from, |newline| from + newline + 1);
                let end = memchr::memchr(b'\n', part(block, at, block.len())).map_or(block.len(), |newline| at + newline);
                let many = found.iter().take_while(|found| part_from + found.at < end).count();
                let (own, others) = found.split_at(many);
                state.marks.clear();
                self.prefilter.mark(own, &mut state.marks);
                place.line += newlines(block, from, start);
                let line = place.set(block, start..end).of_file(file);
                self.scan_marked(state, line, &mut |sign| sink(place.clone(), sign));
                place.line += 1;
                from = end + 1;
                found = others;
            }
            part_from = part_end;
        }
        state.found = found;
        place.line += newlines(block, from, block.len());
        // What follows the last newline is a line too.
        place.line + u64::from(from < block.len() && block.last() != Some(&b'\n'))
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
        let end = memchr::memchr(b'\n', part(block, start, block.len())).map_or(block.len(), |at| start + at);
        let line = place.set(block, start..end).of_file(file);
        self.scan(state, line, &mut |sign| sink(place.clone(), sign));
        place.line += 1;
        end + 1
    }
}

impl Place {
    /// Makes it that of the line there, and takes the line.
    fn set<'a>(&mut self, block: &'a [u8], bytes: Range<usize>) -> Line<'a> {
        let text = part(block, bytes.start, bytes.end);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.bytes = bytes.start..bytes.start + text.len();
        Line::raw(text)
    }
}

/// Where the part that begins here ends: behind a newline.
fn cut(block: &[u8], from: usize) -> usize {
    let goal = from.saturating_add(PART).min(block.len());
    memchr::memchr(b'\n', part(block, goal, block.len())).map_or(block.len(), |at| goal + at + 1)
}

fn part(block: &[u8], from: usize, to: usize) -> &[u8] {
    block.get(from..to).unwrap_or_default()
}

fn newlines(block: &[u8], from: usize, to: usize) -> u64 {
    memchr::memchr_iter(b'\n', part(block, from, to)).count() as u64
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

/// The attack a filter found; `None` where it names no address: nobody can be banned by a name.
fn failure_attack(jail: &JailName, filter: &Filter, failure: Failure, line: Line<'_>) -> Option<Attack> {
    Some(Attack {
        addr: failure.addr?,
        jail: jail.clone(),
        signature: filter.full_name().clone(),
        service: filter.service().clone(),
        score: FULL_FAILURE,
        at: failure.at,
        user: failure.user,
        line: excerpt(line.text),
    })
}
