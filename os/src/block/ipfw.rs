//! ipfw of FreeBSD: three tables and the rules of two numbers, by ipfw(8).
//!
//! | number | rule |
//! |---|---|
//! | `rule` | `deny ip from table(palisade_f) to any`: forced bans |
//! | `rule` | `deny ip from any to table(palisade_f)` |
//! | `rule` | `skipto rule+1 ip from table(palisade_a) to any`: the allow list, as far as bans are concerned |
//! | `rule` | `deny ip from table(palisade) to any`: bans |
//! | `rule+1` | `skipto rule+2 ip from any to table(palisade_a)` |
//! | `rule+1` | `deny ip from any to table(palisade)` |
//!
//! Rules of one number are asked in the order in which they were added, and `skipto` goes on at the next number there is,
//! so an allow-listed host passes our rules and no others. A table holds IPv4 and IPv6 (`type addr`).
//!
//! * **It must stand before `check-state`.** ipfw looks at states where a rule says so: before that, `deny` stops packets
//!   of established connections too, and no state has to be killed. So open looks at all rules with lower numbers.
//! * **A table is replaced by `swap`**, one call that exchanges two tables' contents under the rules
//!   (`ip_fw_table.c`: `swap_tables`). ipfw says nothing when it fails because one of them is missing
//!   (`tables.c`: `table_swap`), so the counts are read back.
//! * **Rules cannot be exchanged at once.** When the manner changes (drop, reject) the old rules go and the new come in
//!   one run of ipfw; for that moment, well below a millisecond, bans do not hold.
//! * Entries do not time out, are not counted one by one, and are not limited to ports. `reject` answers TCP and IPv4;
//!   other IPv6 packets are dropped (`ip_fw2.c`: `O_REJECT` falls through to `O_DENY`).

mod program;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;

use palisade_core::bans::wall::{Entry, Found, Frame, Key, Limits, Refusal, Report, Standing, Step};
use palisade_core::config::BackendSection;
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp, Tick};

use self::program::{Program, explained};
pub use self::standing::{lines, look};
use super::{BlockError, Blocker, Drift, Read, runs};
use crate::clock;
use crate::process::ToolError;

/// How many bans fit: the kernel sets no limit, and this many are some 250 MB of its memory (a radix node and its
/// entry are about 250 bytes, `ip_fw_table_algo.c`: `struct radix_addr_xentry`).
const MOST_BANS: usize = 1 << 20;

/// How often somebody else's hand is looked for: ipfw tells nobody of changes, and a look is a few short programs.
const LOOK_EVERY: Span = Span::secs(5);

/// Up to so many hosts are looked up one by one instead of listing a table.
const LOOKUPS: usize = 8;

/// Our rules and tables.
#[derive(Debug)]
pub struct Ipfw {
    program: Program,
    base: String,
    rule: u16,
    known: Option<Known>,
    look_at: Tick,
    /// Whether the last look found that our rules are not asked: then nothing is done until they are.
    unasked: bool,
}

/// How we last left them.
#[derive(Debug)]
struct Known {
    refusal: Refusal,
    counts: BTreeMap<String, u64>,
}

/// What a table of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Allow,
    Forced,
    Bans,
}

const TABLES: [Table; 3] = [Table::Allow, Table::Forced, Table::Bans];

impl Table {
    const fn of(key: &Key) -> Self {
        if key.forced { Self::Forced } else { Self::Bans }
    }

    fn name(self, base: &str) -> String {
        match self {
            Self::Allow => format!("{base}_a"),
            Self::Forced => format!("{base}_f"),
            Self::Bans => base.to_owned(),
        }
    }
}

/// Our rules in their order, as ipfw lists them.
fn rules(base: &str, first: u16, refusal: Refusal) -> Vec<(u16, String)> {
    let (bans, forced, allow) = (Table::Bans.name(base), Table::Forced.name(base), Table::Allow.name(base));
    let second = first.saturating_add(1);
    let refuse = |number: u16, rest: String| {
        let actions: &[&str] = match refusal {
            Refusal::Drop => &["deny ip"],
            Refusal::Reject => &["reset tcp", "unreach filter-prohib ip"],
        };
        actions.iter().map(move |action| (number, format!("{action} {rest}"))).collect::<Vec<_>>()
    };
    [
        refuse(first, format!("from table({forced}) to any")),
        refuse(first, format!("from any to table({forced})")),
        vec![(first, format!("skipto {second} ip from table({allow}) to any"))],
        refuse(first, format!("from table({bans}) to any")),
        vec![(second, format!("skipto {} ip from any to table({allow})", second.saturating_add(1)))],
        refuse(second, format!("from any to table({bans})")),
    ]
    .concat()
}

impl Ipfw {
    /// Opens it as the config has it. What stands goes on standing.
    ///
    /// # Errors
    /// [`BlockError::Unusable`] where ipfw is not there, not enabled, our rule numbers are taken or come too late.
    pub fn open(section: &BackendSection) -> Result<Self, BlockError> {
        let program = Program::find(section)?;
        let _ = standing::stands(&program, &section.ipfw)?;
        Ok(Self { program, base: section.ipfw.table.clone(), rule: section.ipfw.rule, known: None, look_at: Tick(0), unasked: false })
    }

    fn stands(&self) -> Result<(), BlockError> {
        let section = palisade_core::config::IpfwSection { table: self.base.clone(), rule: self.rule };
        standing::stands(&self.program, &section).map(|_| ())
    }

    /// The rules that stand under our numbers.
    fn listed(&self) -> Result<Vec<(u16, String)>, ToolError> {
        self.program.rules(self.rule, self.rule.saturating_add(1))
    }

    /// The counts of those of our tables that are there.
    fn counts(&self) -> Result<BTreeMap<String, u64>, ToolError> {
        let ours: BTreeSet<String> = TABLES.iter().map(|table| table.name(&self.base)).collect();
        let mut counts = self.program.tables()?;
        counts.retain(|name, _| ours.contains(name));
        Ok(counts)
    }

    /// The manner of these rules, and whether they are exactly ours.
    fn manner(&self, listed: &[(u16, String)]) -> (Refusal, bool) {
        let rejects = listed.iter().any(|(_, rule)| rule.starts_with("reset "));
        let refusal = if rejects { Refusal::Reject } else { Refusal::Drop };
        (refusal, *listed == rules(&self.base, self.rule, refusal))
    }

    /// Makes the tables and the rules of this manner stand, where they do not.
    fn ensure(&mut self, refusal: Option<Refusal>) -> Result<(), ToolError> {
        if let Some(known) = &self.known
            && refusal.is_none_or(|refusal| refusal == known.refusal)
        {
            return Ok(());
        }
        let there = self.counts()?;
        let missing: Vec<String> = TABLES.iter().map(|table| table.name(&self.base)).filter(|name| !there.contains_key(name)).collect();
        let listed = self.listed()?;
        let (now, whole) = self.manner(&listed);
        let wanted = refusal.unwrap_or(now);
        let mut commands: Vec<String> = missing.iter().map(|name| format!("table {name} create type addr")).collect();
        if !whole || wanted != now {
            let numbers: BTreeSet<u16> = listed.iter().map(|(number, _)| *number).collect();
            commands.extend(numbers.iter().map(|number| format!("delete {number}")));
            commands.extend(rules(&self.base, self.rule, wanted).iter().map(|(number, rule)| format!("add {number} {rule}")));
        }
        if !commands.is_empty() {
            self.program.commands(&commands)?;
        }
        self.remember(wanted)
    }

    fn remember(&mut self, refusal: Refusal) -> Result<(), ToolError> {
        self.known = Some(Known { refusal, counts: self.counts()? });
        Ok(())
    }

    fn set_frame(&mut self, frame: &Frame) -> Result<(), ToolError> {
        self.ensure(Some(frame.refusal))?;
        let name = Table::Allow.name(&self.base);
        let mut old = BTreeSet::new();
        self.program.list(&name, |prefix| _ = old.insert(prefix))?;
        let new: Vec<&Prefix> = frame.allow.difference(&old).collect();
        let gone: Vec<&Prefix> = old.difference(&frame.allow).collect();
        self.program.change(&name, true, &new)?;
        self.program.change(&name, false, &gone)?;
        self.remember(frame.refusal)
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
        // To let go takes no rules: where there is no wall none is put up for it.
        let blocks = last.values().any(|(block, _)| *block);
        let ready = if blocks { self.ensure(None) } else { Ok(()) };
        let there = match ready.and_then(|()| self.counts()) {
            Ok(there) => there,
            Err(error) => {
                let why = told(&explained("ipfw: rules and tables could not be made", error));
                return failed.extend(last.values().map(|(_, at)| (*at, why.clone())));
            }
        };
        // All blocks come first: a wider ban stands before a narrower one is let go.
        let mut work: BTreeMap<(bool, Table), Vec<(usize, &Prefix)>> = BTreeMap::new();
        for (key, (block, at)) in last {
            if there.contains_key(&Table::of(key).name(&self.base)) {
                work.entry((!block, Table::of(key))).or_default().push((at, &key.prefix));
            }
        }
        for ((release, table), entries) in work {
            self.take_some(&table.name(&self.base), !release, &entries, failed);
        }
        if let Some(known) = self.known.take() {
            // What cannot be read back now is read before the next change.
            let _ = self.remember(known.refusal);
        }
    }

    /// Refused as a whole, halves are tried down to the first that is to blame; what is behind it is given up.
    fn take_some(&self, table: &str, block: bool, entries: &[(usize, &Prefix)], failed: &mut Vec<(usize, String)>) -> bool {
        let prefixes: Vec<&Prefix> = entries.iter().map(|(_, prefix)| *prefix).collect();
        let Err(error) = self.program.change(table, block, &prefixes) else { return true };
        if entries.len() == 1 || !matches!(error, ToolError::Failed { .. }) {
            let why = told(&explained("ipfw refused it", error));
            failed.extend(entries.iter().map(|(at, _)| (*at, why.clone())));
            return false;
        }
        let (first, second) = entries.split_at(entries.len() / 2);
        if self.take_some(table, block, first, failed) {
            return self.take_some(table, block, second, failed);
        }
        let why = failed.last().map(|(_, why)| why.clone()).unwrap_or_default();
        failed.extend(second.iter().map(|(at, _)| (*at, why.clone())));
        false
    }

    /// Fills the tables beside those that stand and swaps them in; then looks that they are.
    fn exchange(&mut self, refusal: Refusal, contents: &BTreeMap<Table, BTreeSet<Prefix>>) -> Result<Option<String>, ToolError> {
        self.known = None;
        let there = self.program.tables()?;
        let empty = BTreeSet::new();
        for table in TABLES {
            let name = table.name(&self.base);
            let wanted = contents.get(&table).unwrap_or(&empty);
            self.program.exchange(&name, wanted, there.contains_key(&name), there.contains_key(&program::spare(&name)))?;
        }
        self.ensure(Some(refusal))?;
        let counts = self.counts()?;
        let wrong = TABLES.iter().find_map(|table| {
            let (name, wanted) = (table.name(&self.base), contents.get(table).unwrap_or(&empty).len() as u64);
            (counts.get(&name) != Some(&wanted))
                .then(|| format!("the table {name} was given {wanted} entries and holds {:?}", counts.get(&name)))
        });
        Ok(wrong)
    }

    /// What is not as we left it.
    fn changed(&self) -> Result<Option<String>, ToolError> {
        let Some(known) = &self.known else { return Ok(None) };
        if self.listed()? != rules(&self.base, self.rule, known.refusal) {
            return Ok(Some(format!("our rules {} and {} were changed", self.rule, self.rule.saturating_add(1))));
        }
        let counts = self.counts()?;
        Ok(known.counts.iter().find(|(name, count)| counts.get(*name) != Some(count)).map(|(name, count)| match counts.get(name) {
            None => format!("the table {name} is gone"),
            Some(now) => format!("the table {name} holds {now} entries instead of {count}"),
        }))
    }

    /// The next [`Blocker::drift`] looks, however short ago the last look was. For tests.
    pub fn look_now(&mut self) {
        self.look_at = Tick(0);
    }
}

/// What a failed step is told as.
fn told(error: &BlockError) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

impl Blocker for Ipfw {
    fn name(&self) -> &'static str {
        "ipfw"
    }

    fn limits(&self) -> Limits {
        Limits { bans: MOST_BANS, ports: false, timeouts: false, counters: false, lasting: false }
    }

    fn read(&mut self, what: Read<'_>) -> Result<Found, BlockError> {
        let failed = |source| explained("ipfw: what stands could not be read", source);
        let counts = self.counts().map_err(failed)?;
        let (refusal, whole) = self.manner(&self.listed().map_err(failed)?);
        let whole = whole && counts.len() == TABLES.len() && self.stands().is_ok();
        let mut allow = BTreeSet::new();
        let name = Table::Allow.name(&self.base);
        if counts.contains_key(&name) {
            self.program.list(&name, |prefix| _ = allow.insert(prefix)).map_err(failed)?;
        }
        let mut found = Found { whole, frame: Some(Frame { allow, refusal }), bans: BTreeMap::new() };
        match what {
            Read::Frame => {}
            Read::Keys(keys) if keys.len() <= LOOKUPS && keys.iter().all(|key| key.prefix.is_host()) => {
                for key in keys.iter().filter(|key| counts.contains_key(&Table::of(key).name(&self.base))) {
                    if self.program.holds_host(&Table::of(key).name(&self.base), &key.prefix).map_err(failed)? {
                        found.bans.insert(key.clone(), Standing::default());
                    }
                }
            }
            Read::Keys(_) | Read::All => {
                let asked: Option<BTreeSet<&Key>> = if let Read::Keys(keys) = what { Some(keys.iter().collect()) } else { None };
                for table in [Table::Bans, Table::Forced] {
                    let name = table.name(&self.base);
                    let listed = |prefix| {
                        let key = Key { forced: table == Table::Forced, ..Key::all(prefix) };
                        if asked.as_ref().is_none_or(|keys| keys.contains(&key)) {
                            found.bans.insert(key, Standing::default());
                        }
                    };
                    if counts.contains_key(&name) {
                        self.program.list(&name, listed).map_err(failed)?;
                    }
                }
            }
        }
        Ok(found)
    }

    fn apply(&mut self, steps: &[Step], now: Stamp) -> Report {
        if self.unasked
            && let Err(error) = self.stands()
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
                failed.push((base, told(&explained("ipfw: the allow list could not be changed", error))));
            }
        }
        failed.sort();
        Report { done: steps.len() - failed.len(), failed }
    }

    fn replace(&mut self, frame: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<Report, BlockError> {
        let mut contents: BTreeMap<Table, BTreeSet<Prefix>> = [(Table::Allow, frame.allow.clone())].into();
        let (mut report, mut count) = (Report::default(), 0);
        for (at, entry) in entries.enumerate() {
            if count >= MOST_BANS {
                report.failed.push((at, format!("no more than {MOST_BANS} bans fit")));
                continue;
            }
            report.done += 1;
            if !entry.until.over(now) && contents.entry(Table::of(&entry.key)).or_default().insert(entry.key.prefix) {
                count += 1;
            }
        }
        self.stands()?;
        self.unasked = false;
        let wrong = self.exchange(frame.refusal, &contents).map_err(|source| {
            self.known = None;
            explained("ipfw: the wall could not be built", source)
        })?;
        match wrong {
            Some(what) => {
                self.known = None;
                Err(BlockError::Unusable { what, hint: "somebody else changed it meanwhile; build it anew".to_owned() })
            }
            None => Ok(report),
        }
    }

    fn remove(&mut self) -> Result<(), BlockError> {
        let failed = |source| explained("ipfw: our rules and tables could not be taken away", source);
        self.known = None;
        let ours: BTreeSet<u16> = self
            .listed()
            .map_err(failed)?
            .into_iter()
            .filter(|(_, rule)| standing::is_ours(rule, &self.base))
            .map(|(number, _)| number)
            .collect();
        let mut commands: Vec<String> = ours.iter().map(|number| format!("delete {number}")).collect();
        let tables = self.program.tables().map_err(failed)?;
        let names = TABLES.iter().map(|table| table.name(&self.base)).flat_map(|name| [program::spare(&name), name]);
        commands.extend(names.filter(|name| tables.contains_key(name)).map(|name| format!("table {name} destroy")));
        if commands.is_empty() { Ok(()) } else { self.program.commands(&commands).map_err(failed) }
    }

    fn notices(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// ipfw disabled and rules of others that come before ours are errors: building the wall anew would not help.
    fn drift(&mut self) -> Result<Drift, BlockError> {
        let now = clock::now().tick;
        if now < self.look_at {
            return Ok(Drift::None);
        }
        self.look_at = now.plus(LOOK_EVERY);
        if let Err(error) = self.stands() {
            (self.unasked, self.known) = (true, None);
            return Err(error);
        }
        if std::mem::take(&mut self.unasked) {
            return Ok(Drift::Everything("our rules were not asked for a while".to_owned()));
        }
        let changed = self.changed().map_err(|source| explained("ipfw: our rules could not be read", source))?;
        if changed.is_some() {
            self.known = None;
        }
        Ok(changed.map_or(Drift::None, Drift::Everything))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forced_bans_stand_before_the_allow_list_and_it_before_the_others() {
        let all = rules("palisade", 40, Refusal::Drop);
        let listed: Vec<String> = all.iter().map(|(number, rule)| format!("{number} {rule}")).collect();
        assert_eq!(
            listed,
            [
                "40 deny ip from table(palisade_f) to any",
                "40 deny ip from any to table(palisade_f)",
                "40 skipto 41 ip from table(palisade_a) to any",
                "40 deny ip from table(palisade) to any",
                "41 skipto 42 ip from any to table(palisade_a)",
                "41 deny ip from any to table(palisade)",
            ]
        );
        assert_eq!(rules("palisade", 40, Refusal::Reject).len(), 10);
    }
}
