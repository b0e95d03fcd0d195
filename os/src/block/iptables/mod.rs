//! iptables alone: a chain of ours in each family, in it a rule for each ban.
//!
//! For hosts that have nothing better: every packet that is not banned walks along all the rules. Of
//! each thousand of them it costs 2.7 us with iptables-legacy and 6.5 us with iptables-nft.
//!
//! Rules match where packets come from, in INPUT and FORWARD; what goes out to a banned address is not
//! met, so ending its connections is what ends our own side of them. A ban that is limited to ports is
//! met behind address translation: where a port is passed on to another one, it is the other one that counts.
//!
//! The kernel forgets nothing here by itself, so what stands is kept in memory (a rule must not be put
//! in twice), and bans end when they are released.

pub mod rules;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use palisade_core::bans::wall::{Entry, Found, Frame, Key, Limits, Refusal, Report, Standing, Step};
use palisade_core::config::BackendSection;
use palisade_core::net::Family;
use palisade_core::time::Stamp;

use self::rules::{Side, is_ours};
use super::xtables::Xtables;
use super::xtables::save::Shape;
use super::{BlockError, Blocker, Drift, Read, runs};
use crate::errors::chain;

/// How many bans fit. At so many each packet takes 0.2 to 0.4 ms of a processor, with which no host
/// answers an attack any more; and a change takes iptables-legacy 0.1 s, as it reads all and writes all, and
/// iptables-nft up to 0.7 s.
const MOST_BANS: usize = 65_536;

/// From so many rules to delete on the chain is written anew: for each, all of it is searched.
const DELETED: usize = 32;

/// So many single bans changed by others are named; more are everything.
const NAMED: usize = 10_000;

/// Our chains in the network namespace this was opened in.
#[derive(Debug)]
pub struct Iptables {
    tables: Xtables,
    chains: [String; 2],
    /// What stands, where that is known and whole.
    known: Option<Vec<Side>>,
}

impl Iptables {
    /// Opens it in the calling thread's network namespace. What stands there goes on standing.
    ///
    /// # Errors
    /// Where the programs, the right, or a part of the kernel is missing, with what to do about it.
    pub fn open(section: &BackendSection) -> Result<Self, BlockError> {
        let chains = [section.iptables.ipv4_chain.clone(), section.iptables.ipv6_chain.clone()];
        let ours = |name: &str| chains.iter().any(|chain| is_ours(name, chain));
        let tables = Xtables::open("iptables", section.iptables.variant, &section.path, &ours)?;
        Ok(Self { tables, chains, known: None })
    }

    /// What stands, and what of it is not as it should be: per family.
    fn learn(&mut self) -> Result<Vec<(Side, Option<String>)>, BlockError> {
        let mut sides = Vec::new();
        for family in self.tables.families() {
            let chain = self.chain(family).to_owned();
            let there = self.tables.snapshot(family, |name| is_ours(name, &chain));
            let there = there.map_err(|error| self.tables.failed("reading the rules", family, error))?;
            let (side, amiss) = Side::of(family, &chain, &there.chains);
            let amiss = amiss.or_else(|| there.jump_amiss(&side.jumps()));
            let amiss = amiss.map(|what| format!("{}: {what}", if family == Family::V4 { "IPv4" } else { "IPv6" }));
            sides.push((side, amiss));
        }
        Ok(sides)
    }

    fn chain(&self, family: Family) -> &str {
        let [v4, v6] = &self.chains;
        if family == Family::V4 { v4 } else { v6 }
    }

    /// Makes all of this stand, in one transaction.
    fn write(&mut self, side: &Side) -> Result<(), BlockError> {
        let chain = side.chain().to_owned();
        let set = self.tables.set(side.family, &side.shape(), |name| is_ours(name, &chain));
        set.map_err(|error| self.tables.failed("setting the rules", side.family, error))
    }

    /// What stands where it is whole; else whatever is left of it, and that it is to be written anew.
    fn standing(&mut self) -> Result<(Vec<Side>, bool), BlockError> {
        if let Some(sides) = self.known.take() {
            return Ok((sides, true));
        }
        let sides = self.learn()?;
        let rejects = sides.iter().any(|(side, _)| side.refusal == Refusal::Reject);
        let refusal = if rejects { Refusal::Reject } else { Refusal::Drop };
        let whole = sides.iter().all(|(side, amiss)| amiss.is_none() && side.refusal == refusal);
        let mut sides: Vec<Side> = sides.into_iter().map(|(side, _)| side).collect();
        sides.iter_mut().for_each(|side| side.refusal = refusal);
        Ok((sides, whole))
    }

    /// Takes Block and Release steps, for each family in one transaction. Which could not be taken, and why.
    ///
    /// # Errors
    /// Whatever goes wrong, unless this is the `last` try: then it is told of the steps it is about.
    fn take(&mut self, steps: &[Step], base: usize, now: Stamp, last: bool) -> Result<Vec<(usize, String)>, BlockError> {
        let (mut sides, whole) = self.standing()?;
        let (mut failed, mut done) = (Vec::new(), true);
        let mut count: usize = sides.iter().map(|side| side.bans.len()).sum();
        for side in &mut sides {
            let changes = changes(side, steps, base, now, &mut count, &mut failed);
            match self.change(side, &changes, whole) {
                Err(error) if last => {
                    let why = chain(&error);
                    let mine = steps.iter().enumerate().filter(|(_, step)| family(step) == Some(side.family));
                    failed.retain(|(index, _)| family(&steps[index - base]) != Some(side.family));
                    failed.extend(mine.map(|(at, _)| (base + at, why.clone())));
                    done = false;
                }
                result => result?,
            }
        }
        self.known = done.then_some(sides);
        Ok(failed)
    }

    fn change(&mut self, side: &mut Side, changes: &BTreeMap<Key, bool>, whole: bool) -> Result<(), BlockError> {
        let adds = || changes.iter().filter(|(_, stands)| **stands).map(|(key, _)| key);
        let deletes = || changes.iter().filter(|(_, stands)| !**stands).map(|(key, _)| key);
        if changes.is_empty() && whole || adds().next().is_none() && !whole && side.bans.is_empty() {
            return Ok(());
        }
        let few = deletes().count() < DELETED && deletes().all(|key| !side.has_like(key)) && adds().all(|key| side.can_take(key));
        let script = (whole && few).then(|| side.script(adds(), deletes()));
        for key in adds() {
            side.bans.insert(key.clone());
        }
        for key in deletes() {
            side.bans.remove(key);
        }
        match script {
            Some(script) => {
                let done = self.tables.restore(side.family, &script);
                done.map_err(|error| self.tables.failed("changing rules", side.family, error))
            }
            None => {
                side.number_lists();
                self.write(side)
            }
        }
    }

    fn set_frame(&mut self, frame: &Frame) -> Result<(), BlockError> {
        let (mut sides, _) = self.standing()?;
        for side in &mut sides {
            side.refusal = frame.refusal;
            side.allow = frame.allow.iter().filter(|prefix| prefix.family() == side.family).copied().collect();
            side.number_lists();
            self.write(side)?;
        }
        self.known = Some(sides);
        Ok(())
    }
}

fn family(step: &Step) -> Option<Family> {
    match step {
        Step::Block(entry) => Some(entry.key.prefix.family()),
        Step::Release(key) => Some(key.prefix.family()),
        Step::Frame(_) => None,
    }
}

/// Which bans of a family come to stand and which go, after all the steps.
fn changes(
    side: &Side,
    steps: &[Step],
    base: usize,
    now: Stamp,
    count: &mut usize,
    failed: &mut Vec<(usize, String)>,
) -> BTreeMap<Key, bool> {
    let mut changes: BTreeMap<Key, bool> = BTreeMap::new();
    for (at, step) in steps.iter().enumerate() {
        let (key, wanted) = match step {
            Step::Block(entry) => (&entry.key, !entry.until.over(now)),
            Step::Release(key) => (key, false),
            Step::Frame(_) => continue,
        };
        if key.prefix.family() != side.family {
            continue;
        }
        let stands = changes.get(key).copied().unwrap_or_else(|| side.bans.contains(key));
        match (stands, wanted) {
            (false, true) if *count >= MOST_BANS => failed.push((base + at, full())),
            (false, true) => {
                *count += 1;
                changes.insert(key.clone(), true);
            }
            (true, false) => {
                *count -= 1;
                changes.insert(key.clone(), false);
            }
            _ => {}
        }
    }
    changes.retain(|key, stands| *stands != side.bans.contains(key));
    changes
}

fn full() -> String {
    format!("iptables: there are {MOST_BANS} bans, and every packet walks along all of them; use backend = \"ipset\" or \"nftables\"")
}

impl Blocker for Iptables {
    fn name(&self) -> &'static str {
        "iptables"
    }

    fn limits(&self) -> Limits {
        Limits { bans: MOST_BANS, ports: true, timeouts: false, counters: false, lasting: false }
    }

    fn read(&mut self, what: Read<'_>) -> Result<Found, BlockError> {
        self.known = None;
        let sides = self.learn()?;
        let nothing = |side: &Side| side.bans.is_empty() && side.allow.is_empty();
        if sides.iter().all(|(side, amiss)| amiss.is_some() && nothing(side)) {
            return Ok(Found::default());
        }
        let refusal = sides.first().map_or(Refusal::Drop, |(side, _)| side.refusal);
        let allow = sides.iter().flat_map(|(side, _)| side.allow.iter().copied()).collect();
        let whole = sides.iter().all(|(side, amiss)| amiss.is_none() && side.refusal == refusal);
        let mut found = Found { whole, frame: Some(Frame { allow, refusal }), ..Found::default() };
        let stands = |key: &&Key| sides.iter().any(|(side, _)| side.bans.contains(*key));
        let with = |key: &Key| (key.clone(), Standing::default());
        match what {
            Read::Frame => {}
            Read::Keys(keys) => found.bans.extend(keys.iter().filter(stands).map(with)),
            Read::All => found.bans.extend(sides.iter().flat_map(|(side, _)| &side.bans).map(with)),
        }
        self.known = whole.then(|| sides.into_iter().map(|(side, _)| side).collect());
        Ok(found)
    }

    fn apply(&mut self, steps: &[Step], now: Stamp) -> Report {
        let mut failed = Vec::new();
        for (base, run) in runs(steps) {
            let work = |iptables: &mut Self, last| match run {
                [Step::Frame(frame)] => iptables.set_frame(frame).map(|()| Vec::new()),
                _ => iptables.take(run, base, now, last),
            };
            // Refused, it looks whether all still is as it was believed to be, and tries once more.
            match work(self, false).or_else(|_| work(self, true)) {
                Ok(bad) => failed.extend(bad),
                Err(error) => failed.extend((base..base + run.len()).map(|index| (index, chain(&error)))),
            }
        }
        Report { done: steps.len() - failed.len(), failed }
    }

    fn replace(&mut self, frame: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<Report, BlockError> {
        self.known = None;
        let side = |family| Side::new(family, self.chain(family), frame.refusal);
        let mut sides: Vec<Side> = self.tables.families().map(side).collect();
        let (mut report, mut steps, mut count) = (Report::default(), 0, 0);
        for entry in entries {
            let side = sides.iter_mut().find(|side| side.family == entry.key.prefix.family()).filter(|_| !entry.until.over(now));
            if count >= MOST_BANS && side.as_ref().is_some_and(|side| !side.bans.contains(&entry.key)) {
                report.failed.push((steps, full()));
            } else if let Some(side) = side {
                count += usize::from(side.bans.insert(entry.key));
            }
            steps += 1;
        }
        for side in &mut sides {
            side.allow = frame.allow.iter().filter(|prefix| prefix.family() == side.family).copied().collect();
            side.number_lists();
            self.write(side)?;
        }
        self.known = Some(sides);
        report.done = steps - report.failed.len();
        Ok(report)
    }

    fn remove(&mut self) -> Result<(), BlockError> {
        self.known = None;
        for family in self.tables.families() {
            let chain = self.chain(family).to_owned();
            let gone = self.tables.set(family, &Shape::default(), |name| is_ours(name, &chain));
            gone.map_err(|error| self.tables.failed("taking our rules away", family, error))?;
        }
        Ok(())
    }

    fn notices(&self) -> Option<BorrowedFd<'_>> {
        self.tables.notices()
    }

    fn drift(&mut self) -> Result<Drift, BlockError> {
        let listening = |source| BlockError::Kernel { what: "iptables: listening for what others do".to_owned(), source };
        if !self.tables.due().map_err(listening)? {
            return Ok(Drift::None);
        }
        self.tables.still_all()?;
        let Some(known) = self.known.take() else { return Ok(Drift::None) };
        let there = match self.learn() {
            Ok(there) => there,
            Err(error) => {
                self.known = Some(known);
                return Err(error);
            }
        };
        if let Some(what) = there.iter().find_map(|(_, amiss)| amiss.clone()) {
            return Ok(Drift::Everything(what));
        }
        let there: Vec<Side> = there.into_iter().map(|(side, _)| side).collect();
        let around = |side: &Side| (side.refusal, side.allow.clone());
        if !there.iter().map(around).eq(known.iter().map(around)) {
            return Ok(Drift::Everything("the allow list or the manner of refusing was changed".to_owned()));
        }
        let pairs = there.iter().zip(&known);
        let changed: Vec<Key> = pairs.flat_map(|(there, known)| there.bans.symmetric_difference(&known.bans)).cloned().collect();
        self.known = Some(there);
        match changed.len() {
            0 => Ok(Drift::None),
            1..=NAMED => Ok(Drift::Bans(changed)),
            more => Ok(Drift::Everything(format!("{more} bans were changed"))),
        }
    }
}
