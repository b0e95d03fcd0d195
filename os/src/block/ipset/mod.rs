//! ipset and iptables: bans in sets of the kernel, and a handful of rules that ask them.
//!
//! | file | what is in it |
//! |---|---|
//! | [`layout`] | the chains and sets for what is in use: names, rules; pure |
//! | [`sets`] | the program ipset: what goes in, what comes out |
//! | `known` | what stands, as we last saw or left it |
//! | `fill` | bans on their way into sets, and sets that grow |
//! | [`ends`] | how many members may have ended by themselves |
//!
//! A set of type hash:net holds prefixes of every length; each distinct length in it is one more
//! look-up a packet, so a wall of few lengths is the faster one. A ban that is limited to ports is met
//! in the filter table, behind address translation: where a port is passed on to another one, it is the
//! other one that counts.
//!
//! What others do to the rules is seen at once with iptables-nft and within seconds with
//! iptables-legacy; what they do to the sets, by the number of members: within seconds too, but who puts
//! as many in as he takes out goes unseen.

pub mod ends;
mod fill;
mod known;
pub mod layout;
pub mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use palisade_core::bans::wall::{Entry, Found, Frame, Key, Limits, Refusal, Report, Standing, Step};
use palisade_core::config::BackendSection;
use palisade_core::net::{Family, Prefix};
use palisade_core::time::{Span, Stamp, Tick};

use self::ends::Ends;
use self::known::{Known, Seen};
use self::layout::{Class, Kind, Layout, Names};
use self::sets::{Change, End, Sets, hint};
use super::xtables::Xtables;
use super::xtables::save::{Chains, Shape};
use super::{BlockError, Blocker, Drift, Read};
use crate::clock;
use crate::errors::chain;
use crate::process::ToolError;

/// How many bans fit. Each takes about 60 bytes of kernel memory: this is 1 GB.
pub const MOST_BANS: usize = 1 << 24;

/// How many members a new set takes at least; ipset's own default. One that gets full is replaced
/// by a larger one before it is.
const ROOM: usize = 65_536;

/// Members a run of ipset, so many that starting it costs nothing beside them: 3 MB of text, and as much memory
/// for a piece of a wall of any length (measured: 20 MB in all for a million bans).
const CHUNK: usize = 65_536;

/// Up to so many bans a wall that is put up counts what each of them refuses: as nftables does, so
/// that the same is told of the same wall. A member that counts takes 16 bytes more.
const COUNTED: usize = 16_384;

/// How often the sets' sizes are looked at. A look is a run of ipset (2 ms, and 30 ms with a million bans).
const LOOK_EVERY: Span = Span::secs(2);

/// A look that took so long is not repeated before this many times as long: at most 1 % of a processor.
const RARELY: u64 = 100;

/// Our sets and chains in the network namespace this was opened in.
#[derive(Debug)]
pub struct Ipset {
    tables: Xtables,
    sets: Sets,
    names: Names,
    known: Option<Known>,
    /// When the members of sets end, by set; of those that we made.
    ends: BTreeMap<String, Ends>,
    /// What others did, found on the way.
    seen: Option<String>,
    look_at: Tick,
    began: Instant,
    /// [`COUNTED`], smaller in tests.
    pub(super) counted: usize,
    /// [`ROOM`], smaller in tests.
    pub(super) room: usize,
}

fn failed(what: &'static str) -> impl FnOnce(ToolError) -> BlockError {
    move |source| BlockError::Tool { what: format!("ipset: {what}"), hint: hint(&source), source }
}

impl Ipset {
    /// Opens it in the calling thread's network namespace. What stands there goes on standing.
    ///
    /// # Errors
    /// Where a program, the right, or a part of the kernel is missing, with what to do about it.
    pub fn open(section: &BackendSection) -> Result<Self, BlockError> {
        let sets = Sets::find(&section.path).map_err(failed("the program is missing"))?;
        let names = Names::new(&section.ipset.name);
        let tables = Xtables::open("ipset", section.ipset.variant, &section.path, &|chain| names.chain_is_ours(chain))?;
        sets.headers(|_| false).map_err(failed("the sets of this host cannot be read"))?;
        let mut ipset = Self {
            tables,
            sets,
            names,
            known: None,
            ends: BTreeMap::new(),
            seen: None,
            look_at: Tick::default(),
            began: Instant::now(),
            counted: COUNTED,
            room: ROOM,
        };
        ipset.try_out()?;
        Ok(ipset)
    }

    /// Makes a set and a rule that asks it, in a chain that nothing jumps to, and takes them away: so a
    /// kernel that lacks the set's type or the rule's match is found out before anything depends on it.
    fn try_out(&mut self) -> Result<(), BlockError> {
        for family in self.tables.families() {
            let name = self.names.probe();
            let header = self.header(&Kind { class: Class::Allow, family, everybody: false }, 0);
            let made = self.sets.restore(&[header.create(&name)]).map_err(failed("a set cannot be made"));
            let script = |rules: &str| format!("*filter\n:{name} - [0:0]\n{rules}COMMIT\n");
            let tried = made.and_then(|()| {
                let rule = script(&format!("-A {name} -m set --match-set {name} src -j DROP\n"));
                let asked = self.tables.restore(family, &rule);
                asked.map_err(|error| self.tables.failed("a rule cannot ask a set", family, error))
            });
            // What was not made need not be taken away.
            let gone = self
                .tables
                .restore(family, &script(&format!("-X {name}\n")))
                .map_err(|error| self.tables.failed("cleaning up", family, error));
            let gone = gone.and(self.sets.destroy(&name).map_err(failed("cleaning up")));
            tried.and(gone)?;
        }
        Ok(())
    }

    /// Seconds on a clock that stands still while the machine sleeps, as the kernel's timers do.
    fn seconds(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    /// What the filter table of a family should be.
    fn raise(&mut self, layouts: &[Layout]) -> Result<(), BlockError> {
        for layout in layouts {
            let names = &self.names;
            let set = self.tables.set(layout.family, &layout.shape(names), |chain| names.chain_is_ours(chain));
            set.map_err(|error| self.tables.failed("setting the rules", layout.family, error))?;
        }
        Ok(())
    }

    /// Makes sure that the sets of `needed` stand, behind rules that are whole if there is anything to
    /// `block`. Reads nothing where that is known.
    fn ensure(&mut self, needed: &BTreeSet<Kind>, block: bool) -> Result<(), BlockError> {
        let enough = |known: &Known| (known.whole || !block) && needed.iter().all(|kind| known.places.contains_key(kind));
        if self.known.as_ref().is_some_and(enough) {
            return Ok(());
        }
        let Seen { known, .. } = self.learn()?;
        if block && !enough(&known) {
            let used = known.used();
            let mut layouts = known.layouts;
            for layout in &mut layouts {
                let family = layout.family;
                needed.iter().filter(|kind| kind.family == family).try_for_each(|kind| layout.add(kind.clone())).map_err(too_many)?;
            }
            self.make(&layouts, &used, |_| (0, true))?;
            self.raise(&layouts)?;
            self.settle(layouts)?;
        } else {
            self.known = Some(known);
        }
        Ok(())
    }

    /// Takes up to a chunk of Block and Release steps. Which could not be taken, and why.
    fn take(&mut self, steps: &[Step], base: usize, now: Stamp) -> Result<Vec<(usize, String)>, BlockError> {
        self.glance()?;
        let mut needed = BTreeSet::new();
        let mut wanted = Vec::with_capacity(steps.len());
        for (at, step) in steps.iter().enumerate() {
            let (key, end) = match step {
                Step::Block(entry) => (&entry.key, End::of(entry.until, now)),
                Step::Release(key) => (key, End::Release),
                Step::Frame(_) => continue,
            };
            if self.tables.filters(key.prefix.family()) {
                let kind = Kind::of(key);
                if end != End::Release && !needed.contains(&kind) {
                    needed.insert(kind.clone());
                }
                wanted.push((base + at, key.prefix, kind, end));
            }
        }
        self.ensure(&needed, !needed.is_empty())?;
        let Some(known) = &self.known else { return Ok(Vec::new()) };
        let mut changes = Vec::with_capacity(wanted.len());
        for (index, prefix, kind, end) in wanted {
            // No such set, no such ban.
            if let Some(set) = known.places.get(&kind) {
                changes.extend(Kind::members(prefix).map(|member| Change { set: *set, member, end, index }));
            }
        }
        let bad = self.write(&changes)?;
        self.measure()?;
        Ok(bad)
    }

    /// Makes the frame stand. Who is on both lists is on one at every moment.
    fn set_frame(&mut self, frame: &Frame) -> Result<(), BlockError> {
        let Seen { known, .. } = self.learn()?;
        let (old, used) = (self.allowed(&known)?, known.used());
        let mut layouts = known.layouts;
        for layout in &mut layouts {
            layout.refusal = frame.refusal;
            layout.kinds.retain(Kind::bans);
            let allowing = frame.allow.iter().map(Kind::allow).filter(|kind| kind.family == layout.family);
            layout.kinds.extend(allowing);
        }
        self.make(&layouts, &used, |kind| (frame.allow.iter().filter(|prefix| Kind::allow(prefix) == *kind).count(), false))?;
        self.settle(layouts.clone())?;
        self.admit(frame.allow.iter().copied(), End::Never)?;
        self.raise(&layouts)?;
        self.admit(old.into_iter().filter(|prefix| !frame.allow.contains(prefix)), End::Release)?;
        self.tidy()?;
        self.measure()
    }

    /// Puts prefixes onto the allow list or takes them off it.
    fn admit(&mut self, prefixes: impl Iterator<Item = Prefix>, end: End) -> Result<(), BlockError> {
        let Some(known) = &self.known else { return Ok(()) };
        let place = |prefix: Prefix| known.places.get(&Kind::allow(&prefix)).map(|set| (*set, prefix));
        let change = |(set, prefix)| Kind::members(prefix).map(move |member| Change { set, member, end, index: 0 });
        let changes: Vec<_> = prefixes.filter_map(place).flat_map(change).collect();
        match self.write(&changes)?.pop() {
            None => Ok(()),
            Some((_, why)) => Err(BlockError::Unusable { what: "ipset: setting the allow list".to_owned(), hint: why }),
        }
    }

    /// The allow list as it stands.
    fn allowed(&self, known: &Known) -> Result<BTreeSet<Prefix>, BlockError> {
        let mut allow = BTreeSet::new();
        for held in known.held.iter().filter(|held| !held.kind.bans()) {
            let read = self.sets.members(&held.name, |member, _| allow.extend(held.kind.prefix(member)));
            read.map_err(failed("reading the allow list"))?;
        }
        Ok(allow)
    }

    fn look(&mut self, what: Read<'_>) -> Result<Found, BlockError> {
        let Seen { known, nothing, .. } = self.learn()?;
        if nothing {
            self.known = None;
            return Ok(Found::default());
        }
        let refusal = known.layouts.first().map_or(Refusal::Drop, |layout| layout.refusal);
        let frame = Frame { allow: self.allowed(&known)?, refusal };
        let mut found = Found { whole: known.whole, frame: Some(frame), bans: BTreeMap::new() };
        let asked: Option<BTreeSet<&Key>> = match what {
            Read::Frame => Some(BTreeSet::new()),
            Read::Keys(keys) => Some(keys.iter().collect()),
            Read::All => None,
        };
        let kinds: Option<BTreeSet<Kind>> = asked.as_ref().map(|keys| keys.iter().map(|key| Kind::of(key)).collect());
        let held = known.held.iter().filter(|held| held.kind.bans() && kinds.as_ref().is_none_or(|kinds| kinds.contains(&held.kind)));
        for held in held {
            let read = self.sets.members(&held.name, |member, standing| {
                if let Some(key) = held.kind.key(member).filter(|key| asked.as_ref().is_none_or(|asked| asked.contains(key))) {
                    found.bans.entry(key).and_modify(|half| *half = both(half, &standing)).or_insert(standing);
                }
            });
            read.map_err(failed("reading a set"))?;
        }
        self.known = Some(known);
        Ok(found)
    }

    fn take_away(&mut self) -> Result<(), BlockError> {
        self.known = None;
        self.ends.clear();
        for family in self.tables.families() {
            let names = &self.names;
            let gone = self.tables.set(family, &Shape::default(), |chain| names.chain_is_ours(chain));
            gone.map_err(|error| self.tables.failed("taking our rules away", family, error))?;
        }
        let headers = self.sets.headers(|set| self.names.set_is_ours(set)).map_err(failed("reading our sets"))?;
        headers.keys().try_for_each(|set| self.sets.destroy(set)).map_err(failed("taking our sets away"))
    }
}

/// What the two halves of the whole address space have dropped.
fn both(one: &Standing, other: &Standing) -> Standing {
    let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
    Standing { left: one.left, packets: sum(one.packets, other.packets), bytes: sum(one.bytes, other.bytes) }
}

fn too_many(_: layout::TooManyLists) -> BlockError {
    BlockError::Unusable {
        what: "ipset: more than 9,999 different lists of ports".to_owned(),
        hint: "let jails share their ports".to_owned(),
    }
}

impl Blocker for Ipset {
    fn name(&self) -> &'static str {
        "ipset"
    }

    fn limits(&self) -> Limits {
        Limits { bans: MOST_BANS, ports: true, timeouts: true, counters: true, lasting: false }
    }

    fn read(&mut self, what: Read<'_>) -> Result<Found, BlockError> {
        self.look(what)
    }

    fn apply(&mut self, steps: &[Step], now: Stamp) -> Report {
        let mut failed = Vec::new();
        let mut base = 0;
        while let Some(step) = steps.get(base) {
            let rest = &steps[base..];
            let run = rest.iter().position(|step| matches!(step, Step::Frame(_))).unwrap_or(rest.len()).clamp(1, CHUNK);
            let work = |ipset: &mut Self| match step {
                Step::Frame(frame) => ipset.set_frame(frame).map(|()| Vec::new()),
                _ => ipset.take(&rest[..run], base, now),
            };
            // Refused, it looks whether all still is as it was believed to be, and tries once more.
            let done = work(self).or_else(|_| {
                self.known = None;
                work(self)
            });
            match done {
                Ok(bad) => failed.extend(bad),
                Err(error) => {
                    self.known = None;
                    failed.extend((base..base + run).map(|index| (index, chain(&error))));
                }
            }
            base += run;
        }
        Report { done: steps.len() - failed.len(), failed }
    }

    fn replace(&mut self, frame: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<Report, BlockError> {
        self.known = None;
        let replaced = self.exchange(frame, entries, now);
        if replaced.is_err() {
            self.known = None;
            // What was begun is cleared away here or by the next one; the first error is the one to tell.
            let _ = self.tidy();
        } else {
            self.seen = None;
        }
        replaced
    }

    fn remove(&mut self) -> Result<(), BlockError> {
        self.seen = None;
        self.take_away()
    }

    fn notices(&self) -> Option<BorrowedFd<'_>> {
        self.tables.notices()
    }

    fn drift(&mut self) -> Result<Drift, BlockError> {
        let due =
            self.tables.due().map_err(|source| BlockError::Kernel { what: "ipset: listening for what others do".to_owned(), source })?;
        if due && self.seen.is_none() {
            self.seen = self.rules_amiss()?;
        }
        if self.seen.is_none() && clock::now().tick >= self.look_at {
            self.glance()?;
            self.tables.still_all()?;
        }
        Ok(match self.seen.take() {
            None => Drift::None,
            Some(what) => {
                self.known = None;
                Drift::Everything(what)
            }
        })
    }
}

impl Ipset {
    /// What is not as we left it in the filter tables.
    fn rules_amiss(&mut self) -> Result<Option<String>, BlockError> {
        let Some(known) = self.known.as_ref().filter(|known| known.whole) else { return Ok(None) };
        for layout in &known.layouts {
            let there = self.tables.snapshot(layout.family, |chain| self.names.chain_is_ours(chain));
            let there = there.map_err(|error| self.tables.failed("reading the rules", layout.family, error))?;
            if let Some(what) = there.amiss(&layout.shape(&self.names)) {
                return Ok(Some(told(layout.family, &what)));
            }
        }
        Ok(None)
    }

    fn chains(&mut self, family: Family) -> Result<super::xtables::save::Snapshot, BlockError> {
        let there = self.tables.snapshot(family, |chain| self.names.chain_is_ours(chain));
        there.map_err(|error| self.tables.failed("reading the rules", family, error))
    }

    fn layout_of(&self, family: Family, chains: &Chains) -> Layout {
        Layout::of(&self.names, family, chains)
    }
}

fn told(family: Family, what: &str) -> String {
    format!("{}: {what}", if family == Family::V4 { "IPv4" } else { "IPv6" })
}
