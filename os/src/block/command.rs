//! Any program that speaks sshguard's backend protocol: told what to block, line by line, on its
//! standard input.
//!
//! | line | meaning |
//! |---|---|
//! | `block ADDR 4\|6 LEN` | shut this prefix out |
//! | `release ADDR 4\|6 LEN` | let it in again |
//! | `flush` | let everybody in again |
//! | `flushonexit` | flush when the input ends. Never sent: bans outlive us |
//!
//! Exit code 69: it could not set its firewall up; 65: it was told something it does not know.
//! Source: sshguard's src/fw/sshg-fw.in, src/blocker/blocker.c.
//!
//! **Its life.** It is kept running. It never sees its input end, for at that `sshg-fw-nft-sets` takes
//! its table away ([`crate::process::Fed`]): it is killed, and what it made of what it was told stays
//! and is known to whoever comes after us ([`ledger`]). One that ends by itself is started again and
//! told everything again; one that often does, less and less often.
//!
//! **What is told.** A restart must not open the wall, so `flush` is told only where nothing is known
//! (first start after boot). A program just started is told every ban again, as what stood may be gone:
//! to sets that is nothing new, `sshg-fw-iptables` adds a second rule. So it is counted how often a
//! ban was told, and it is released as often. Prefixes that lie in others are not told, as
//! `sshg-fw-nft-sets` refuses, silently, what overlaps; where a wider one comes or goes, the new ones are
//! told, the old released, the new told once more: only there the wall is open between two of its steps.
//!
//! **What is known.** A line counts as carried out when the program waits for the next, and as
//! refused when it wrote to standard error meanwhile. More cannot be known: the protocol has no answer
//! and nothing to read back by. [`Blocker::read`] answers from what was told, and what others do to
//! the program's rules is not seen. There are no ports, no ends and no counts in it, and no allow list;
//! the sets and rules of `sshg-fw-*` see what comes to this host, not what it forwards.
//!
//! `sshg-fw-nft-sets` adds its rule each time it starts. `sshg-fw-hosts` empties its block when it starts:
//! there alone a restart opens the wall, until all is told again (the backend `hosts` has no such moment).
//! `sshg-fw-iptables` and `sshg-fw-ipset` need a chain or rules that somebody else made. A program run for
//! each ban takes milliseconds for each.

mod ledger;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use palisade_core::bans::wall::{Entry, Found, Frame, Key, Limits, Report, Standing, Step};
use palisade_core::config::CommandSection;
use palisade_core::cover::end_of;
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp, Tick};

use self::ledger::{Ledger, words};
use super::{BlockError, Blocker, Drift, Read};
use crate::clock;
use crate::errors::chain;
use crate::process::{Fed, LONG, SOON, Told, Tool, ToolError};

/// How many bans fit. All are told one by one after each start: measured at 3 ms each with
/// `sshg-fw-ipset` and 5 with `sshg-fw-iptables`; `sshg-fw-nft-sets` reads its whole set for each, 11 ms with a
/// thousand and 23 with three thousand.
const MOST_BANS: usize = 10_000;

/// The wait before a program that ended soon is started again; doubles up to [`WAIT_MOST`].
const WAIT_FIRST: Span = Span::secs(1);
/// The longest wait.
const WAIT_MOST: Span = Span::secs(60);
/// One that ran so long is started again at once.
const STEADY: Span = Span::secs(60);

/// `EX_DATAERR`, `EX_UNAVAILABLE` (sysexits.h).
const EX_DATAERR: i32 = 65;
const EX_UNAVAILABLE: i32 = 69;

/// The program of the config.
#[derive(Debug)]
pub struct Command {
    tool: Tool,
    arguments: Vec<String>,
    ledger: Ledger,
    running: Option<Fed>,
    /// What should stand.
    wanted: BTreeSet<Key>,
    /// Those of `wanted` that the ledger told of, which does not know what was forced.
    loaded: BTreeSet<Prefix>,
    /// What the program that runs now was told, and did not complain of.
    sure: BTreeSet<Prefix>,
    /// What it complained of when it was last told.
    refused: BTreeSet<Prefix>,
    end: Option<End>,
    started: Tick,
    wait: Span,
    /// How long a line may take; shorter in tests.
    within: Span,
}

/// The end of a program.
#[derive(Debug)]
struct End {
    what: String,
    /// When to start it again.
    due: Tick,
    /// Whether the end was reported as drift.
    told: bool,
}

impl Command {
    /// Opens it. Starts nothing yet: what stands goes on standing.
    ///
    /// # Errors
    /// [`BlockError::Unusable`] where there is no such program, or what it is told cannot be kept.
    pub fn open(section: &CommandSection) -> Result<Self, BlockError> {
        let Some((program, arguments)) = section.run.split_first() else {
            return Err(BlockError::Unusable {
                what: "command: no program is named".to_owned(),
                hint: "set `run` in [backend.command]".to_owned(),
            });
        };
        if !Path::new(program).metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0) {
            return Err(BlockError::Unusable {
                what: format!("command: {program} is no program that can be run"),
                hint: "set `run` in [backend.command]; sshguard's are in /usr/libexec/sshguard, as sshg-fw-NAME".to_owned(),
            });
        }
        let ledger = Ledger::open(Path::new(&section.record)).map_err(|error| BlockError::Unusable {
            what: format!("command: what the program is told cannot be kept in {}: {error}", section.record),
            hint: "make its folder, writable to us, or name another file as `record` in [backend.command]".to_owned(),
        })?;
        Ok(Self {
            tool: Tool::at(program),
            arguments: arguments.to_vec(),
            running: None,
            wanted: ledger.told().copied().map(Key::all).collect(),
            loaded: ledger.told().copied().collect(),
            ledger,
            sure: BTreeSet::new(),
            refused: BTreeSet::new(),
            end: None,
            started: Tick(0),
            wait: Span::ZERO,
            within: SOON,
        })
    }

    /// Starts it where it does not run.
    fn start(&mut self) -> Result<(), BlockError> {
        if let Some(status) = self.running.as_mut().map(Fed::ended).transpose().map_err(failed("looking at the program"))?.flatten() {
            let complaint = self.running.as_mut().and_then(|fed| fed.complaint().ok()).unwrap_or_default();
            return Err(self.ended(self.failure(status, complaint)));
        }
        if self.running.is_some() {
            return Ok(());
        }
        let now = clock::now().tick;
        if let Some(end) = self.end.as_ref().filter(|end| end.due > now) {
            let what = format!("{}; it is started again in {}", end.what, end.due.since(now));
            return Err(BlockError::Unusable { what, hint: "what stood still stands".to_owned() });
        }
        let spawned = Fed::spawn(self.tool.path(), &self.arguments);
        let fed = spawned.map_err(|source| self.tool_error(ToolError::Run { call: self.tool.call(&self.arguments), source }))?;
        (self.running, self.started) = (Some(fed), now);
        self.sure.clear();
        // It is ready when it waits for its first line.
        let _grumble = self.tell("")?;
        self.end = None;
        Ok(())
    }

    /// Tells it a line. What it complained of it.
    ///
    /// # Errors
    /// Where it ended, or did not take the line; it does not run any more then.
    fn tell(&mut self, line: &str) -> Result<Option<String>, BlockError> {
        let gone = || BlockError::Unusable { what: "command: the program does not run".to_owned(), hint: "it is started again".to_owned() };
        let fed = self.running.as_mut().ok_or_else(gone)?;
        match fed.tell(line.as_bytes(), self.within).map_err(failed("speaking to the program"))? {
            Told::Taken(complaint) => Ok((!complaint.is_empty()).then_some(complaint)),
            Told::Ended(status, complaint) => {
                let error = self.failure(status, complaint);
                Err(self.ended(error))
            }
            Told::Stuck => {
                let call = self.tool.call(&self.arguments);
                let error = self.tool_error(ToolError::Stuck { call, within: self.within });
                Err(self.ended(error))
            }
        }
    }

    fn failure(&self, status: std::process::ExitStatus, complaint: String) -> BlockError {
        self.tool_error(ToolError::Failed { call: self.tool.call(&self.arguments), status, complaint })
    }

    fn tool_error(&self, source: ToolError) -> BlockError {
        let hint = match source.code() {
            Some(EX_UNAVAILABLE) => {
                "it says that it cannot set its firewall up: the tool or the part of the kernel it needs is missing, or we lack the right"
            }
            Some(EX_DATAERR) => "it says that it does not know what it was told: is it one for sshguard's backend protocol?",
            _ if matches!(source, ToolError::Stuck { .. }) => "it does not carry out what it is told; run it by hand and type a line at it",
            _ => "",
        };
        BlockError::Tool { what: "the program that bans are told to does not go on".to_owned(), hint: hint.to_owned(), source }
    }

    /// Takes note that it runs no more, and says until when.
    fn ended(&mut self, why: BlockError) -> BlockError {
        let now = clock::now().tick;
        self.running = None;
        self.sure.clear();
        let steady = now.since(self.started) >= STEADY;
        self.wait = if steady { Span::ZERO } else { self.wait.times(2.0).clamp(WAIT_FIRST, WAIT_MOST) };
        self.end = Some(End { what: chain(&why), due: now.plus(self.wait), told: false });
        why
    }

    /// Tells it to block `new` and to release `old`, in an order that never opens what stays shut. What
    /// it complained of each of `new`.
    fn exchange(&mut self, new: &[Prefix], old: &BTreeSet<Prefix>) -> Result<BTreeMap<Prefix, String>, BlockError> {
        let mut refused = BTreeMap::new();
        for prefix in new {
            self.block(prefix, &mut refused)?;
        }
        for prefix in old {
            for _ in 0..self.ledger.times(prefix) {
                // Of one that stood less often, or not at all, it may complain.
                let _ = self.tell(&format!("release {}\n", words(prefix)))?;
            }
            self.sure.remove(prefix);
            self.refused.remove(prefix);
            self.ledger.released(prefix).map_err(failed("writing down what was told"))?;
        }
        for prefix in new.iter().filter(|prefix| overlaps(old, prefix)) {
            refused.remove(prefix);
            self.block(prefix, &mut refused)?;
        }
        Ok(refused)
    }

    fn block(&mut self, prefix: &Prefix, refused: &mut BTreeMap<Prefix, String>) -> Result<(), BlockError> {
        self.ledger.blocks(prefix).map_err(failed("writing down what is told"))?;
        match self.tell(&format!("block {}\n", words(prefix)))? {
            None => {
                self.sure.insert(*prefix);
                self.refused.remove(prefix);
            }
            Some(complaint) => {
                self.ledger.refused(prefix);
                self.sure.remove(prefix);
                self.refused.insert(*prefix);
                refused.insert(*prefix, format!("{} says to `block {}`: {complaint}", self.tool, words(prefix)));
            }
        }
        Ok(())
    }

    /// Makes what it was told what is wanted. `again`: what to tell even if it was told before.
    fn settle(&mut self, again: impl Fn(&Self, &Prefix) -> bool) -> Result<BTreeMap<Prefix, String>, BlockError> {
        self.start()?;
        if !self.ledger.known() {
            let _ = self.tell("flush\n")?;
            self.refused.clear();
            self.ledger.start().map_err(failed("writing down what is told"))?;
        }
        let target = outermost(&self.wanted);
        let new: Vec<Prefix> = target.iter().filter(|prefix| self.ledger.times(prefix) == 0 || again(self, prefix)).copied().collect();
        let old = self.ledger.told().filter(|prefix| !target.contains(prefix)).copied().collect();
        self.exchange(&new, &old)
    }

    /// Whether a ban is wanted and it, or one that it lies in, was told and not refused.
    fn stands(&self, key: &Key) -> bool {
        let told = |prefix: &Prefix| self.ledger.times(prefix) > 0 && !self.refused.contains(prefix);
        self.wanted.contains(key) && (0..=key.prefix.len()).any(|len| told(&key.prefix.widen(len)))
    }
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> BlockError {
    move |source| BlockError::Kernel { what: format!("command: {doing}"), source }
}

/// The prefixes that do not lie in another.
fn outermost(keys: &BTreeSet<Key>) -> BTreeSet<Prefix> {
    let mut last: Option<Prefix> = None;
    // In their order one that covers others stands before them.
    let mut outer = |prefix: &Prefix| {
        let covered = last.is_some_and(|last| last.covers(prefix));
        last = if covered { last } else { Some(*prefix) };
        !covered
    };
    keys.iter().map(|key| key.prefix).filter(|prefix| outer(prefix)).collect()
}

fn overlaps(set: &BTreeSet<Prefix>, prefix: &Prefix) -> bool {
    set.range(*prefix..=end_of(*prefix)).next().is_some() || (0..prefix.len()).any(|len| set.contains(&prefix.widen(len)))
}

/// Why a ban does not stand: its prefix, or the one told for it, was refused.
fn why<'a>(refused: &'a BTreeMap<Prefix, String>, prefix: &Prefix) -> Option<&'a String> {
    refused.iter().find(|(told, _)| told.covers(prefix)).map(|(_, why)| why)
}

impl Blocker for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn limits(&self) -> Limits {
        Limits { bans: MOST_BANS, ports: false, timeouts: false, counters: false, lasting: true }
    }

    /// Answers from what the program was told, see above.
    fn read(&mut self, what: Read<'_>) -> Result<Found, BlockError> {
        let mut found = Found { whole: self.ledger.known() && self.end.is_none(), ..Found::default() };
        let standing = |key: &Key| (key.clone(), Standing::default());
        match what {
            Read::Frame => {}
            Read::Keys(keys) => found.bans.extend(keys.iter().filter(|key| self.stands(key)).map(standing)),
            Read::All => found.bans.extend(self.wanted.iter().filter(|key| self.stands(key)).map(standing)),
        }
        Ok(found)
    }

    fn apply(&mut self, steps: &[Step], now: Stamp) -> Report {
        let mut named = BTreeSet::new();
        for step in steps {
            match step {
                Step::Frame(_) => {} // the protocol has no word for it
                Step::Block(entry) if !entry.until.over(now) => {
                    self.wanted.insert(entry.key.clone());
                    named.insert(entry.key.prefix);
                }
                Step::Block(Entry { key, .. }) | Step::Release(key) => {
                    self.wanted.remove(key);
                    if self.loaded.remove(&key.prefix) {
                        self.wanted.remove(&Key::all(key.prefix));
                    }
                }
            }
        }
        if let Some(end) = &self.end {
            // Everything must be told again, which is asked for as soon as it may be started.
            return BlockError::Unusable { what: end.what.clone(), hint: "it is started again".to_owned() }.all_failed(steps.len());
        }
        let refused = match self.settle(|this, prefix| !this.sure.contains(prefix) && overlaps(&named, prefix)) {
            Ok(refused) => refused,
            Err(error) => return error.all_failed(steps.len()),
        };
        let blocked = steps.iter().enumerate().filter_map(|(index, step)| match step {
            Step::Block(entry) if self.wanted.contains(&entry.key) => Some((index, why(&refused, &entry.key.prefix)?.clone())),
            _ => None,
        });
        let failed: Vec<_> = blocked.collect();
        Report { done: steps.len() - failed.len(), failed }
    }

    fn replace(&mut self, _: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<Report, BlockError> {
        let entries: Vec<Entry> = entries.collect();
        self.wanted = entries.iter().filter(|entry| !entry.until.over(now)).map(|entry| entry.key.clone()).collect();
        self.loaded.clear();
        let refused = self.settle(|this, prefix| !this.sure.contains(prefix))?;
        let blocked = entries.iter().enumerate().filter(|(_, entry)| !entry.until.over(now));
        let failed: Vec<_> = blocked.filter_map(|(index, entry)| Some((index, why(&refused, &entry.key.prefix)?.clone()))).collect();
        Ok(Report { done: entries.len() - failed.len(), failed })
    }

    /// By a program of its own, which is told `flush` and then sees its input end, so that it can clean up.
    fn remove(&mut self) -> Result<(), BlockError> {
        (self.running, self.end) = (None, None);
        for set in [&mut self.loaded, &mut self.sure, &mut self.refused] {
            set.clear();
        }
        self.wanted.clear();
        let flushed = self.tool.clone().within(LONG).feed(&self.arguments, |input| input.write_all(b"flush\n"));
        flushed.map_err(|source| self.tool_error(source))?;
        self.ledger.forget().map_err(failed("forgetting what was told"))
    }

    fn notices(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Sees whether the program still runs; more cannot be seen.
    fn drift(&mut self) -> Result<Drift, BlockError> {
        if let Some(fed) = &mut self.running {
            // Also so that it never waits for room to complain.
            let complaint = fed.complaint().map_err(failed("listening to the program"))?;
            if let Some(status) = fed.ended().map_err(failed("looking at the program"))? {
                let error = self.failure(status, complaint);
                let _ = self.ended(error);
            }
        }
        let now = clock::now().tick;
        match &mut self.end {
            None => Ok(Drift::None),
            Some(end) if !end.told && end.due <= now => {
                end.told = true;
                Ok(Drift::Everything(end.what.clone()))
            }
            Some(end) => Err(BlockError::Unusable { what: end.what.clone(), hint: "it is started again soon".to_owned() }),
        }
    }
}
