//! The ears: the threads that read logs, scan the lines, and send what they mean to the brain.
//!
//! A line is scanned in the thread that read it, so that the brain sees attacks only. Both inputs
//! can wait: when the brain's inbox is full they stop reading, and nothing is lost.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use jiff::tz::TimeZone;
use palisade_core::attack::{JailName, Sign};
use palisade_core::brain::{Batch, Event};
use palisade_core::config::Config;
use palisade_core::scan::{JailScan, Line, LogClock, ScanState, Scanner};
use palisade_core::time::{Span, Stamp, Tick};
use palisade_os::clock;
use palisade_os::logs::journal::{self, Options};
use palisade_os::logs::stdin::Progress;
use palisade_os::logs::{FileSpec, Files, Journal, Stdin, Take};
use palisade_os::wake::{Waker, poll};

use super::errors::chain;
use super::lags::Lags;
use super::{Input, reports};
use crate::library::{Library, Listening, Source};
use crate::zone;

/// What one pump reads at most before it hands out what it has: small enough that a ban does not
/// wait long behind a backlog.
const BUDGET: usize = 1 << 20;

/// Times of live lines that are farther off are of another zone or of a wrong clock; fail2ban draws the line
/// at a minute too.
const ODD: Span = Span::secs(60);

/// What the store calls the journal's position.
pub(super) const JOURNAL: &str = "journal";

/// Which scanner listens to what.
#[derive(Default)]
struct Wiring {
    scanners: Vec<Heard>,
    files: Vec<FileSpec>,
    journal: Vec<(usize, String)>,
    /// Of each jail with a filter why it does not run, or that it does.
    troubles: Vec<(String, Option<String>)>,
}

/// A scanner and the zone of the lines it sees.
struct Heard {
    scanner: Scanner,
    zone: TimeZone,
}

impl Heard {
    /// Jails of one zone.
    fn of(scanner: Scanner, zone: Option<&str>) -> Self {
        Self { scanner, zone: zone::of(zone) }
    }
}

impl Wiring {
    /// Jails that read the same files by the same zone share a scanner, so that a line is taken apart once.
    fn new(config: &Config, library: &Library, journal_available: bool) -> Self {
        let mut wiring = Self::default();
        let mut by_files: BTreeMap<(Vec<String>, Option<&str>), Vec<JailScan>> = BTreeMap::new();
        for jail in config.jails().values().filter(|jail| jail.enabled) {
            let zone = jail.timezone.as_deref();
            let listening = library.listening(jail, journal_available);
            if jail.fail2ban.is_some() {
                let what = listening.as_ref().err().map(|fault| format!("does not run: {fault}; mend that and reload"));
                wiring.troubles.push((format!("jail {}", jail.name), what));
            }
            let Ok(Listening { scan, source }) = listening else { continue };
            match source {
                Source::Nothing => {}
                Source::Files(patterns) => by_files.entry((patterns, zone)).or_default().push(scan),
                Source::Journal(matches) => {
                    let source = wiring.scanners.len();
                    wiring.scanners.push(Heard::of(Scanner::new(&[scan]), zone));
                    wiring.journal.extend(matches.into_iter().map(|text| (source, text)));
                }
            }
        }
        for ((patterns, zone), scans) in by_files {
            let source = wiring.scanners.len();
            wiring.scanners.push(Heard::of(Scanner::new(&scans), zone));
            wiring.files.extend(patterns.iter().map(|pattern| FileSpec { source, pattern: pattern.clone() }));
        }
        wiring
    }
}

/// Reads standard input for one jail until it ends. Not one of [`Sources`]: it cannot be opened
/// anew, so it goes on through a new config with the signatures it started with.
pub(super) fn stdin(config: &Config, library: &Library, jail: &JailName, stop: &Waker, brain: &SyncSender<Input>) -> Result<()> {
    let jail = config.jail(jail).with_context(|| format!("there is no jail `{jail}` to read standard input for"))?;
    let scanner = library.scanner([jail]).with_context(|| format!("jail `{}` cannot be used", jail.name))?;
    let mut ears = Ears::new(&Arc::new(vec![Heard::of(scanner, jail.timezone.as_deref())]), config, brain);
    let mut stdin = Stdin::open(0, config.limits().line)?;
    loop {
        let progress = stdin.pump(BUDGET, &mut |take| ears.take(take))?;
        ears.hand_over(false);
        match progress {
            Progress::Ended => return Ok(()),
            Progress::More => {}
            Progress::Wait => {
                if poll(&[stdin.as_fd()], Some(stop), None)?.woken() {
                    return Ok(());
                }
            }
        }
    }
}

/// The reading threads of one config.
pub(super) struct Sources {
    generation: u64,
    threads: Vec<(Waker, JoinHandle<()>)>,
    troubles: Vec<(String, Option<String>)>,
}

impl Sources {
    /// Nothing that reads.
    pub(super) const fn none() -> Self {
        Self { generation: 0, threads: Vec::new(), troubles: Vec::new() }
    }

    /// Starts reading where the positions say: all of it, or nothing. Each thread says
    /// [`Input::SourceStopped`] with the generation when it ends, for whatever reason.
    pub(super) fn start(
        generation: u64,
        (config, library): (&Config, &Library),
        positions: &HashMap<String, String>,
        brain: &SyncSender<Input>,
    ) -> Result<Self> {
        let wiring = Wiring::new(config, library, journal::available());
        let scanners = Arc::new(wiring.scanners);
        let kept: HashMap<PathBuf, String> =
            positions.iter().filter(|(name, _)| name.starts_with('/')).map(|(path, text)| (PathBuf::from(path), text.clone())).collect();
        let files = match wiring.files.is_empty() {
            true => Vec::new(),
            false => Files::open_shared(cores(), &wiring.files, &kept, config.limits().line)?,
        };
        let options = Options { message_max: config.limits().line, ..Options::default() };
        let cursor = positions.get(JOURNAL).cloned();
        let journal = (!wiring.journal.is_empty()).then(|| Journal::open_with(wiring.journal, cursor, options)).transpose()?;
        let mut sources = Self { generation, threads: Vec::new(), troubles: wiring.troubles };
        // A reload leaves a gap of moments: what is written in it is as good as live.
        let (behind, behind_journal) = (generation == 1 && !kept.is_empty(), generation == 1 && positions.contains_key(JOURNAL));
        for files in files {
            sources.spawn("files", brain, Ears::new(&scanners, config, brain), move |ears, waker| ears.files(files, behind, waker))?;
        }
        if let Some(journal) = journal {
            sources.spawn("journal", brain, Ears::new(&scanners, config, brain), move |ears, waker| {
                ears.journal(journal, behind_journal, waker)
            })?;
        }
        if config.blocklistd().socket.is_some() {
            let (ears, config) = (Ears::new(&scanners, config, brain), config.clone());
            sources.spawn(reports::NAME, brain, ears, move |ears, waker| ears.reports(&config, waker))?;
        }
        Ok(sources)
    }

    fn spawn(
        &mut self,
        name: &str,
        brain: &SyncSender<Input>,
        mut ears: Ears,
        listen: impl FnOnce(&mut Ears, &Waker) -> io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let waker = Waker::new().context("making an eventfd")?;
        let (stop, brain, about, generation) = (waker.clone(), brain.clone(), name.to_owned(), self.generation);
        let body = move || {
            if let Err(error) = listen(&mut ears, &stop) {
                let what = Some(format!("reading stopped: {}; reload or restart palisade", chain(&error)));
                let _ = brain.send(Input::Event(Event::Trouble { about, what }));
            }
            let _ = brain.send(Input::SourceStopped(generation));
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body).context("starting a thread")?;
        self.threads.push((waker, thread));
        Ok(())
    }

    /// Which they are: counts up with each config.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Of each jail with a filter why it does not run, or that it does.
    pub(super) fn troubles(&self) -> &[(String, Option<String>)] {
        &self.troubles
    }

    /// How many threads there were at the start.
    pub(super) const fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Tells them to stop. They hand over what they have read first, so keep taking their input.
    pub(super) fn stop(&self) {
        self.threads.iter().for_each(|(waker, _)| waker.wake());
    }
}

impl Drop for Sources {
    /// Nobody reads on unheeded.
    fn drop(&mut self) {
        self.stop();
    }
}

/// One reading thread.
struct Ears {
    scanners: Arc<Vec<Heard>>,
    /// One for each scanner.
    states: Vec<ScanState>,
    brain: SyncSender<Input>,
    batches: HashMap<String, Batch>,
    /// Sources whose live lines are not written when they come.
    odd: HashSet<String>,
    troubles: Vec<(String, Option<String>)>,
    lags: Lags,
    /// When the journal got the last record that was read.
    newest: Option<Stamp>,
}

impl Ears {
    fn new(scanners: &Arc<Vec<Heard>>, config: &Config, brain: &SyncSender<Input>) -> Self {
        let now = clock::now().stamp;
        let state = |heard: &Heard| {
            let mut state = heard.scanner.state(LogClock::new(heard.zone.clone(), now));
            // What a container's engine wrote in pieces may be as long as any line.
            state.set_line_cap(config.limits().line);
            state
        };
        let states = scanners.iter().map(state).collect();
        Self {
            scanners: Arc::clone(scanners),
            states,
            brain: brain.clone(),
            batches: HashMap::new(),
            odd: HashSet::new(),
            troubles: Vec::new(),
            lags: Lags::default(),
            newest: None,
        }
    }

    /// `behind`: somebody read here before, and what is there now was written while nobody did.
    fn files(&mut self, mut files: Files, mut behind: bool, stop: &Waker) -> io::Result<()> {
        loop {
            self.set_now();
            let more = files.pump(clock::now().tick, BUDGET, &mut |take| self.take(take));
            self.hand_over(behind);
            // Once caught up, what comes is live, however much it is.
            behind &= more;
            let now = clock::now().tick;
            if self.lags.due(now, more) {
                files.lags(now, &mut |lag| self.lags.note(&lag.path.to_string_lossy(), lag.bytes, lag.since));
                self.lags.tell(&self.brain);
            }
            let wait = wait(more, files.next_deadline());
            let fds: Vec<_> = files.fd().into_iter().collect();
            if poll(&fds, Some(stop), wait)?.woken() {
                return Ok(());
            }
        }
    }

    fn journal(&mut self, mut journal: Journal, mut behind: bool, stop: &Waker) -> io::Result<()> {
        loop {
            self.set_now();
            let more = journal.pump(clock::now().tick, BUDGET, &mut |take| self.record(take));
            self.hand_over(behind);
            behind &= more;
            let now = clock::now();
            if self.lags.due(now.tick, more) {
                // How much there is, nobody tells; how old what was read last is, the records do.
                let since = self.newest.filter(|_| more).map_or(Span::ZERO, |at| now.stamp.since(at));
                self.lags.note(JOURNAL, 0, since);
                self.lags.tell(&self.brain);
            }
            let wait = wait(more, journal.next_deadline());
            let fds: Vec<_> = journal.fd().into_iter().collect();
            if poll(&fds, Some(stop), wait)?.woken() {
                return Ok(());
            }
        }
    }

    fn reports(&mut self, config: &Config, stop: &Waker) -> io::Result<()> {
        reports::run(config, stop, &mut |told| {
            match told {
                reports::Told::Heard(batch) => drop(self.batches.insert(reports::NAME.to_owned(), batch)),
                reports::Told::Trouble(what) => self.troubles.push((reports::NAME.to_owned(), what)),
            }
            self.hand_over(false);
        })
    }

    fn set_now(&mut self) {
        let now = clock::now().stamp;
        self.states.iter_mut().for_each(|state| state.set_now(now));
    }

    fn record(&mut self, take: journal::Take<'_>) {
        match take {
            journal::Take::Record { source, record } => {
                let batch = batch(&mut self.batches, JOURNAL);
                batch.lines += 1;
                self.newest = record.realtime.or(self.newest);
                let line = Line::journal(Some(record.ident), record.pid, record.message, record.realtime);
                if let (Some(heard), Some(state)) = (self.scanners.get(source), self.states.get_mut(source)) {
                    heard.scanner.scan(state, line, &mut |sign| batch.signs.push(sign));
                }
            }
            journal::Take::Oversize { .. } => batch(&mut self.batches, JOURNAL).oversize += 1,
            journal::Take::Position { cursor } => batch(&mut self.batches, JOURNAL).position = Some(cursor.to_owned()),
            journal::Take::Problem { what } => self.troubles.push((JOURNAL.to_owned(), Some(what.to_owned()))),
            journal::Take::Solved => self.troubles.push((JOURNAL.to_owned(), None)),
        }
    }

    fn take(&mut self, take: Take<'_>) {
        match take {
            Take::Line { source, path, bytes } => {
                let batch = batch(&mut self.batches, &path.to_string_lossy());
                batch.lines += 1;
                if let (Some(heard), Some(state)) = (self.scanners.get(source), self.states.get_mut(source)) {
                    let line = Line::raw(bytes).of_file(path.as_os_str().as_encoded_bytes());
                    heard.scanner.scan(state, line, &mut |sign| batch.signs.push(sign));
                }
            }
            Take::Block { source, path, bytes } => {
                let batch = batch(&mut self.batches, &path.to_string_lossy());
                if let (Some(heard), Some(state)) = (self.scanners.get(source), self.states.get_mut(source)) {
                    batch.lines += heard
                        .scanner
                        .scan_block(state, (path.as_os_str().as_encoded_bytes(), bytes), &mut |_, sign| batch.signs.push(sign));
                }
            }
            Take::Oversize { source, path, .. } => {
                if let Some(state) = self.states.get_mut(source) {
                    state.dropped(path.as_os_str().as_encoded_bytes());
                }
                batch(&mut self.batches, &path.to_string_lossy()).oversize += 1;
            }
            Take::Position { path, position, .. } => batch(&mut self.batches, &path.to_string_lossy()).position = Some(position.to_owned()),
            Take::Problem { soft: true, about, what, .. } => tracing::debug!("{about}: {what}"),
            Take::Problem { about, what, .. } => self.troubles.push((about.to_owned(), Some(what.to_owned()))),
            Take::Solved { about, .. } => self.troubles.push((about.to_owned(), None)),
        }
    }

    /// Sends what was read; with `catching_up`, it was written while nobody read. A full inbox makes this wait.
    fn hand_over(&mut self, catching_up: bool) {
        let batches: Vec<_> = self.batches.drain().collect();
        for (source, batch) in batches.iter().filter(|_| !catching_up) {
            self.compare(source, batch);
        }
        for (about, what) in self.troubles.drain(..) {
            let _ = self.brain.send(Input::Event(Event::Trouble { about, what }));
        }
        let mut shortfalls = Vec::new();
        for (heard, state) in self.scanners.iter().zip(&mut self.states) {
            heard.scanner.shortfalls(state, &mut |jail, shortfall| shortfalls.push((jail.clone(), shortfall)));
        }
        for (source, mut batch) in batches {
            batch.catching_up = catching_up && !self.odd.contains(&source);
            batch.shortfalls.append(&mut shortfalls);
            batch.source = source;
            let _ = self.brain.send(Input::Event(Event::Heard(batch)));
        }
    }

    /// Compares when live lines were written with now. By times that are off, a backlog would count for
    /// nothing, or too early: it then counts as it comes.
    fn compare(&mut self, source: &str, batch: &Batch) {
        let now = clock::now().stamp;
        let written = |sign: &Sign| match sign {
            Sign::Attack(attack) => attack.at,
            Sign::Login(login) => login.at,
        };
        let Some(at) = batch.signs.iter().filter_map(written).next_back() else { return };
        let (early, late) = (now.since(at), at.since(now));
        let off = early.max(late);
        if off <= ODD && self.odd.remove(source) {
            tracing::info!("the times in {source} are right again");
        } else if off > ODD && self.odd.insert(source.to_owned()) {
            let (off, way) = (Span::secs(off.as_secs_ceil()), if early > late { "before" } else { "after" });
            tracing::warn!(
                "a line that just came to {source} says it was written {off} {way} now: set `timezone` of the jails that read it, or the clock that writes it"
            );
        }
    }
}

/// How many threads can run at once.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// How long to wait for more: not at all while there is more to read right now.
fn wait(more: bool, deadline: Option<Tick>) -> Option<Span> {
    if more { Some(Span::ZERO) } else { deadline.map(|at| at.since(clock::now().tick)) }
}

fn batch<'a>(batches: &'a mut HashMap<String, Batch>, name: &str) -> &'a mut Batch {
    if !batches.contains_key(name) {
        batches.insert(name.to_owned(), Batch::default());
    }
    batches.get_mut(name).expect("it was just put there")
}
