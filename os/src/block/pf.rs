//! PF of FreeBSD and OpenBSD: tables and rules in an anchor of our own, by pfctl(8).
//!
//! | file | what is in it |
//! |---|---|
//! | `rules` | the anchor's rules for the tables in use; pure |
//! | `pfctl` | pfctl called and understood |
//! | `standing` | whether PF filters and asks our anchor, and what to do if not |
//!
//! * **The kernel does not time entries out.** `pfctl -T expire` takes out what is older than a number of seconds,
//!   counted from when the entry's statistics were last cleared (`pfctl_table.c`: `pfctl_table`, `pfras_tzero`): one age
//!   for the whole table, whatever end each ban has. So the daemon alone lets go, and while it is down bans last.
//! * **A table entry ends no connection.** PF looks for a state before it looks at a rule (`pf.c`: `pf_test`), so what is
//!   established goes on. [`crate::flows`] kills the states once the entry stands; killed before, the next packet
//!   would make them anew.
//! * **Loading is whole or not at all.** Rules are loaded in one transaction that leaves the tables' entries alone;
//!   `-T replace` makes a table hold exactly what it is given in one ioctl (`pf_table.c`: `pfr_set_addrs`).
//! * The allow list stands as negated entries in every table of bans that are not forced; see `rules`.
//!   A ban *inside* an allow-listed prefix would win over it there, so it is refused. Core makes none.

mod pfctl;
mod rules;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;

use palisade_core::bans::wall::{Entry, Found, Frame, Key, Limits, Ports, Report, Standing, Step};
use palisade_core::config::BackendSection;
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp, Tick};

use self::pfctl::explained;
pub(crate) use self::pfctl::{Pfctl, count_before};
use self::rules::{Kind, Layout};
pub use self::standing::{lines, look};
use super::{BlockError, Blocker, Drift, Read, runs};
use crate::clock;
use crate::process::{Tool, ToolError};

/// Entries a call of `-T add` and `-T delete`. FreeBSD takes 65,535 at once (`pf_ioctl.c`: `pf_ioctl_maxcount`).
const BATCH: usize = 16_384;

/// How many entries FreeBSD takes or gives in one call where it does not say (`net.pf.request_maxcount`).
const REQUEST_MAX: usize = 65_535;

/// How many entries fit where pfctl does not say (`pfvar.h`: `PFR_KENTRY_HIWAT`).
const ENTRIES_MAX: usize = 200_000;

/// How often somebody else's hand is looked for: PF tells nobody of changes, and a look is four short programs.
const LOOK_EVERY: Span = Span::secs(5);

/// Our anchor.
#[derive(Debug)]
pub struct Pf {
    pfctl: Pfctl,
    base: String,
    /// How many bans fit.
    most: usize,
    known: Option<Known>,
    look_at: Tick,
    /// Whether the last look found that our rules are not asked: then nothing is done until they are.
    unasked: bool,
}

/// The anchor as we last left or saw it.
#[derive(Debug)]
struct Known {
    layout: Layout,
    /// Its rules as pfctl prints them.
    printed: Vec<String>,
    allow: BTreeSet<Prefix>,
    /// How many entries each table has.
    counts: BTreeMap<String, u64>,
    /// Whether the rules and tables are all there.
    whole: bool,
}

impl Pf {
    /// Opens it as the config has it. What stands goes on standing.
    ///
    /// # Errors
    /// [`BlockError::Unusable`] where PF is not there, not enabled, or does not ask our anchor, with what to do.
    pub fn open(section: &BackendSection) -> Result<Self, BlockError> {
        let pfctl = Pfctl::find(section)?;
        let _ = standing::stands(&pfctl)?;
        let most = room(&pfctl, section)?;
        Ok(Self { pfctl, base: section.pf.table.clone(), most, known: None, look_at: Tick(0), unasked: false })
    }

    /// Reads what stands, unless it is known.
    fn know(&mut self) -> Result<&mut Known, ToolError> {
        let known = match self.known.take() {
            Some(known) => known,
            None => self.read_anchor()?,
        };
        Ok(self.known.insert(known))
    }

    fn read_anchor(&self) -> Result<Known, ToolError> {
        let printed = self.pfctl.rules()?;
        let (layout, whole) = Layout::read(&self.base, &printed);
        let counts = self.pfctl.tables()?;
        let whole = whole && layout.tables.values().all(|table| counts.contains_key(table));
        let mut allow = BTreeSet::new();
        if counts.contains_key(&self.base) {
            self.pfctl.show(&self.base, |entry| allow.extend(entry.negated.then_some(entry.prefix)))?;
        }
        Ok(Known { layout, printed, allow, counts, whole })
    }

    /// Loads the rules of `layout` and remembers how they are printed. A table that had no rules begins with the allow
    /// list and nothing else, whatever was left in one of its name.
    fn load(&mut self, layout: &Layout) -> Result<(), ToolError> {
        let known = self.know()?;
        let (old, allow) = (known.layout.tables.clone(), known.allow.clone());
        for (kind, table) in layout.tables.iter().filter(|(kind, _)| !old.contains_key(kind)) {
            let allow = allow.iter().filter(|_| kind.plain).map(|prefix| (prefix, true));
            self.pfctl.change(table, "replace", allow)?;
        }
        self.pfctl.load(&layout.text())?;
        let mut counts = self.pfctl.tables()?;
        counts.retain(|table, _| layout.tables.values().any(|wanted| wanted == table));
        let printed = self.pfctl.rules()?;
        self.known = Some(Known { layout: layout.clone(), printed, allow, counts, whole: true });
        Ok(())
    }

    /// Makes sure that there are rules and tables for bans of these kinds.
    fn ensure(&mut self, kinds: &BTreeSet<Kind>) -> Result<&mut Known, ToolError> {
        let known = self.know()?;
        let mut layout = known.layout.clone();
        kinds.iter().for_each(|kind| _ = layout.table(kind.clone()));
        if layout != known.layout || !known.whole {
            self.load(&layout)?;
        }
        self.know()
    }

    /// Makes the frame stand. A prefix that becomes allowed loses its own ban first: a table cannot hold both.
    fn set_frame(&mut self, frame: &Frame) -> Result<(), BlockError> {
        let failed = |source| explained("PF: the allow list could not be changed", source);
        let known = self.ensure(&BTreeSet::new()).map_err(failed)?;
        let (old, mut layout) = (known.allow.clone(), known.layout.clone());
        let new: Vec<&Prefix> = frame.allow.difference(&old).collect();
        let gone: Vec<&Prefix> = old.difference(&frame.allow).collect();
        let tables: Vec<String> = layout.tables.iter().filter(|(kind, _)| kind.plain).map(|(_, table)| table.clone()).collect();
        for table in tables {
            for (command, prefixes, negated) in [("delete", &new, false), ("add", &new, true), ("delete", &gone, true)] {
                if !prefixes.is_empty() {
                    self.change(&table, command, prefixes, negated).map_err(failed)?;
                }
            }
        }
        if let Some(known) = &mut self.known {
            known.allow.clone_from(&frame.allow);
        }
        if layout.refusal != frame.refusal {
            layout.refusal = frame.refusal;
            self.load(&layout).map_err(failed)?;
        }
        Ok(())
    }

    /// One call, and what it does to the count of the table.
    fn change(&mut self, table: &str, command: &str, prefixes: &[&Prefix], negated: bool) -> Result<(), ToolError> {
        let changed = self.pfctl.change(table, command, prefixes.iter().map(|prefix| (*prefix, negated)))?;
        if let Some(count) = self.known.as_mut().and_then(|known| known.counts.get_mut(table)) {
            *count = if command == "add" { count.saturating_add(changed) } else { count.saturating_sub(changed) };
        }
        Ok(())
    }

    /// Takes Block and Release steps, each key's last word only.
    fn take(&mut self, steps: &[Step], base: usize, now: Stamp, failed: &mut Vec<(usize, String)>) {
        let mut last: BTreeMap<&Key, (bool, usize)> = BTreeMap::new();
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Block(entry) => _ = last.insert(&entry.key, (!entry.until.over(now), base + at)),
                Step::Release(key) => _ = last.insert(key, (false, base + at)),
                Step::Frame(_) => {}
            }
        }
        let kinds: BTreeSet<Kind> = last.iter().filter(|(_, (block, _))| *block).map(|(key, _)| Kind::of(key)).collect();
        // To let go takes no rules: where there is no wall none is put up for it.
        let known = if kinds.is_empty() { self.know() } else { self.ensure(&kinds) };
        let known = match known {
            Ok(known) => known,
            Err(error) => {
                let why = told(&explained("PF: the rules could not be loaded", error));
                return failed.extend(last.values().map(|(_, at)| (*at, why.clone())));
            }
        };
        let mut work: BTreeMap<(bool, String), Vec<(usize, &Prefix)>> = BTreeMap::new();
        for (key, (block, at)) in last {
            if block && let Some(allowed) = covering(&known.allow, key) {
                failed.push((at, on_the_list(key, &allowed)));
            } else if let Some(table) = known.layout.tables.get(&Kind::of(key)).filter(|table| known.counts.contains_key(*table)) {
                // Where no table is for such bans there is none to release.
                work.entry((!block, table.clone())).or_default().push((at, &key.prefix));
            }
        }
        // All blocks come first: a wider ban stands before a narrower one is let go.
        for ((release, table), entries) in work {
            for batch in entries.chunks(BATCH) {
                self.take_batch(&table, !release, batch, failed);
            }
        }
    }

    /// Refused as a whole, halves are tried down to the first that is to blame; behind it all is given up, because
    /// what a table refuses is for want of room.
    fn take_batch(&mut self, table: &str, block: bool, entries: &[(usize, &Prefix)], failed: &mut Vec<(usize, String)>) -> bool {
        let prefixes: Vec<&Prefix> = entries.iter().map(|(_, prefix)| *prefix).collect();
        let Err(error) = self.change(table, if block { "add" } else { "delete" }, &prefixes, false) else { return true };
        let full = error.complaint().contains("Cannot allocate memory");
        if !full || entries.len() == 1 {
            let why = told(&explained("PF refused it", error));
            failed.extend(entries.iter().map(|(at, _)| (*at, why.clone())));
            self.known = None;
            return false;
        }
        let (first, second) = entries.split_at(entries.len() / 2);
        if self.take_batch(table, block, first, failed) {
            return self.take_batch(table, block, second, failed);
        }
        let why = failed.last().map(|(_, why)| why.clone()).unwrap_or_default();
        failed.extend(second.iter().map(|(at, _)| (*at, why.clone())));
        false
    }

    /// Draws the entries, each kind's together. Those that cannot stand are told of.
    fn draw(&self, frame: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> (BTreeMap<Kind, BTreeSet<Prefix>>, Report) {
        let (mut kinds, mut report): (BTreeMap<Kind, BTreeSet<Prefix>>, _) = (BTreeMap::new(), Report::default());
        let mut count = 0;
        for (at, entry) in entries.enumerate() {
            if count >= self.most {
                report.failed.push((at, format!("PF holds no more than {} bans here", self.most)));
            } else if let Some(allowed) = covering(&frame.allow, &entry.key) {
                report.failed.push((at, on_the_list(&entry.key, &allowed)));
            } else {
                report.done += 1;
                if !entry.until.over(now) && kinds.entry(Kind::of(&entry.key)).or_default().insert(entry.key.prefix) {
                    count += 1;
                }
            }
        }
        (kinds, report)
    }

    /// Fills the tables of these kinds, each in one call that leaves no moment without what stays in it.
    fn exchange(&mut self, frame: &Frame, kinds: &BTreeMap<Kind, BTreeSet<Prefix>>) -> Result<(), ToolError> {
        self.known = None;
        let mut layout = self.know()?.layout.clone();
        let old: Vec<Kind> = layout.tables.keys().cloned().collect();
        layout.refusal = frame.refusal;
        kinds.keys().for_each(|kind| _ = layout.table(kind.clone()));
        // With the tables of old: their bans stand until the new ones do.
        self.load(&layout)?;
        let empty = BTreeSet::new();
        for (kind, table) in &layout.tables {
            let allow = if kind.plain { &frame.allow } else { &empty };
            let bans = kinds.get(kind).unwrap_or(&empty);
            let entries = bans.iter().map(|prefix| (prefix, false)).chain(allow.iter().map(|prefix| (prefix, true)));
            self.pfctl.change(table, "replace", entries)?;
            if let Some(known) = &mut self.known {
                known.counts.insert(table.clone(), (bans.len() + allow.len()) as u64);
            }
        }
        self.know()?.allow.clone_from(&frame.allow);
        let idle: Vec<Kind> = old.into_iter().filter(|kind| kind.ports != Ports::All && !kinds.contains_key(kind)).collect();
        if !idle.is_empty() {
            idle.iter().for_each(|kind| _ = layout.tables.remove(kind));
            self.load(&layout)?;
        }
        // Tables without rules: of the kinds no longer in use, or left by somebody's flush of the rules.
        let tables = self.pfctl.tables()?;
        for table in tables.keys().filter(|table| layout.owns(table).is_some() && !layout.tables.values().any(|wanted| wanted == *table)) {
            self.pfctl.drop_table(table)?;
        }
        Ok(())
    }
}

/// What a failed step is told as.
fn told(error: &BlockError) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// The allow-listed prefix that a ban lies in, unless it is forced.
fn covering(allow: &BTreeSet<Prefix>, key: &Key) -> Option<Prefix> {
    (0..=key.prefix.len()).map(|len| key.prefix.widen(len)).find(|wide| !key.forced && allow.contains(wide))
}

fn on_the_list(key: &Key, allowed: &Prefix) -> String {
    format!("{} lies in {allowed}, which is on the allow list", key.prefix)
}

/// How many bans fit: what the tables of all of PF may hold, or what FreeBSD takes in one call, as a table is
/// replaced in one; less a sixteenth, for the allow list that stands in each table beside them.
fn room(pfctl: &Pfctl, section: &BackendSection) -> Result<usize, BlockError> {
    let mut entries = ENTRIES_MAX;
    pfctl
        .call(&["-sm"], |line| {
            if let ["table-entries", "hard", "limit", limit] = line.split_whitespace().collect::<Vec<_>>()[..] {
                entries = limit.parse().unwrap_or(entries);
            }
        })
        .map_err(|source| explained("PF cannot be asked for its limits", source))?;
    // Without sysctl, and where it does not know the name (OpenBSD has no such limit), the default is safe.
    let asked = Tool::find("sysctl", &section.path).and_then(|sysctl| sysctl.run(&["-n", "net.pf.request_maxcount"]));
    let request = asked.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(REQUEST_MAX);
    let least = entries.min(request);
    Ok(least - least / 16)
}

impl Blocker for Pf {
    fn name(&self) -> &'static str {
        "pf"
    }

    fn limits(&self) -> Limits {
        Limits { bans: self.most, ports: true, timeouts: false, counters: true, lasting: true }
    }

    fn read(&mut self, what: Read<'_>) -> Result<Found, BlockError> {
        let failed = |source| explained("PF: what stands could not be read", source);
        let filters = standing::stands(&self.pfctl).is_ok();
        let known = self.read_anchor().map_err(failed)?;
        let frame = Frame { allow: known.allow, refusal: known.layout.refusal };
        let mut found = Found { whole: known.whole && filters, frame: Some(frame), bans: BTreeMap::new() };
        let asked: Option<BTreeSet<&Key>> = match what {
            Read::Frame => return Ok(found),
            Read::Keys(keys) => Some(keys.iter().collect()),
            Read::All => None,
        };
        for (kind, table) in known.layout.tables.iter().filter(|(_, table)| known.counts.contains_key(*table)) {
            let wanted = asked.as_ref().is_none_or(|keys| keys.iter().any(|key| Kind::of(key) == *kind));
            if !wanted {
                continue;
            }
            let listed = |entry: pfctl::Listed| {
                let key = Key { prefix: entry.prefix, ports: kind.ports.clone(), forced: !kind.plain };
                if !entry.negated && asked.as_ref().is_none_or(|keys| keys.contains(&key)) {
                    let (packets, bytes) = entry.blocked.unzip();
                    found.bans.insert(key, Standing { left: None, packets, bytes });
                }
            };
            self.pfctl.show(table, listed).map_err(failed)?;
        }
        Ok(found)
    }

    fn apply(&mut self, steps: &[Step], now: Stamp) -> Report {
        if self.unasked
            && let Err(error) = standing::stands(&self.pfctl)
        {
            return error.all_failed(steps.len());
        }
        let mut failed = Vec::new();
        for (base, run) in runs(steps) {
            let [Step::Frame(frame)] = run else {
                self.take(run, base, now, &mut failed);
                continue;
            };
            if let Err(error) = self.set_frame(frame) {
                self.known = None;
                failed.push((base, told(&error)));
            }
        }
        failed.sort();
        Report { done: steps.len() - failed.len(), failed }
    }

    fn replace(&mut self, frame: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<Report, BlockError> {
        let (kinds, report) = self.draw(frame, entries, now);
        let _ = standing::stands(&self.pfctl)?;
        self.unasked = false;
        self.exchange(frame, &kinds).map_err(|source| {
            self.known = None;
            explained("PF: the wall could not be built", source)
        })?;
        // Read back: what pfctl says it did is not yet what stands.
        match self.changed().map_err(|source| explained("PF: what was built could not be read", source))? {
            Some(what) => Err(BlockError::Unusable { what, hint: "somebody else changed the anchor meanwhile; build it anew".to_owned() }),
            None => Ok(report),
        }
    }

    fn remove(&mut self) -> Result<(), BlockError> {
        self.known = None;
        self.pfctl.flush().map_err(|source| explained("PF: our anchor could not be emptied", source))
    }

    fn notices(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// PF disabled and an anchor that is not asked any more are errors: building the wall anew would not help.
    fn drift(&mut self) -> Result<Drift, BlockError> {
        let now = clock::now().tick;
        if now < self.look_at {
            return Ok(Drift::None);
        }
        self.look_at = now.plus(LOOK_EVERY);
        if let Err(error) = standing::stands(&self.pfctl) {
            (self.unasked, self.known) = (true, None);
            return Err(error);
        }
        if std::mem::take(&mut self.unasked) {
            return Ok(Drift::Everything("our anchor was not asked for a while".to_owned()));
        }
        let changed = self.changed().map_err(|source| explained("PF: our anchor could not be read", source))?;
        if changed.is_some() {
            self.known = None;
        }
        Ok(changed.map_or(Drift::None, Drift::Everything))
    }
}

impl Pf {
    /// What of our anchor is not as we left it.
    fn changed(&self) -> Result<Option<String>, ToolError> {
        let Some(known) = &self.known else { return Ok(None) };
        let anchor = self.pfctl.anchor();
        if self.pfctl.rules()? != known.printed {
            return Ok(Some(format!("the rules of the anchor `{anchor}` were changed")));
        }
        let counts = self.pfctl.tables()?;
        let gone = known.counts.iter().find(|(table, count)| counts.get(*table) != Some(count));
        Ok(gone.map(|(table, count)| match counts.get(table) {
            None => format!("the table <{table}> of the anchor `{anchor}` is gone"),
            Some(now) => format!("the table <{table}> of the anchor `{anchor}` holds {now} entries instead of {count}"),
        }))
    }

    /// The next [`Blocker::drift`] looks, however short ago the last look was. For tests.
    pub fn look_now(&mut self) {
        self.look_at = Tick(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_inside_the_allow_list_is_found_out() {
        let allow: BTreeSet<Prefix> = ["198.51.100.0/24", "2001:db8::/32"].iter().map(|text| text.parse().unwrap()).collect();
        let key = |text: &str| Key::all(text.parse().unwrap());
        assert_eq!(covering(&allow, &key("198.51.100.7")).unwrap().to_string(), "198.51.100.0/24");
        assert!(covering(&allow, &key("198.51.100.0/24")).is_some() && covering(&allow, &key("2001:db8:1::/48")).is_some());
        assert!(covering(&allow, &key("198.51.0.0/16")).is_none(), "a wider ban has it as an exception");
        assert!(covering(&allow, &Key { forced: true, ..key("198.51.100.7") }).is_none());
    }
}
