//! Switches shown, planned, applied for good, reverted.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use palisade_core::attack::excerpt;
use palisade_core::flood::settings::Settings;
use palisade_core::flood::timeouts::plan::{self, Change};
use palisade_core::flood::timeouts::{Facts, Profile, Values, persist};
use palisade_os::netns::Netns;
use palisade_os::{errors, files};

use super::disk::{Journal, JournalError, Kept, Which, gone, here, lock, open_unlinked};
use super::hold::read_held;
use super::switches::{Failures, Proc, Switches, facts};

/// Where files of sysctl.d(5) are that administrators and programs put there.
const SYSCTL_DIR: &str = "/etc/sysctl.d";

/// A file of sysctl.d that is larger is none of ours.
const MOST: u64 = 1 << 20;

/// Everybody may read what is set at boot, as of the other files there.
const MODE: u32 = 0o644;

/// Switches, what is planned for them, and what there was.
#[derive(Debug)]
pub struct Desk<S = Proc> {
    state: PathBuf,
    switches: S,
    facts: Facts,
    settings: Settings,
    file: Option<PathBuf>,
}

/// Everything there is to show.
#[derive(Debug)]
pub struct Shown {
    /// What each switch holds.
    pub found: Values,
    /// What is held beneath a profile: the same, without one.
    pub base: Values,
    /// Which profile holds.
    pub profile: Option<Profile>,
    /// What there was before `apply`, by switch that was changed.
    pub former: Values,
    /// What should change.
    pub changes: Vec<Change>,
    /// What else is to be said.
    pub advice: Vec<String>,
    /// What the machine is like.
    pub facts: Facts,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Applied {
    /// What was changed.
    pub done: Vec<Change>,
    /// What could not be, each reason once.
    pub failed: Vec<String>,
    /// What is worth telling.
    pub told: Vec<String>,
    /// The file that was written, or taken away.
    pub file: Option<PathBuf>,
}

impl Desk {
    /// Of the calling thread's network namespace. `sysctl_dir`: where what is to hold after a reboot is written, and taken
    /// away from, in place of `/etc/sysctl.d`, which is not written from a namespace that nothing boots in: it is the machine's.
    pub fn open(state: &Path, settings: Settings, sysctl_dir: Option<&Path>) -> Self {
        let usual = || Netns::is_booted().then(|| PathBuf::from(SYSCTL_DIR));
        let whole = |dir: &Path| std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let dir = sysctl_dir.map(whole).or_else(usual);
        Self::on(state, Proc, facts(), settings, dir)
    }
}

impl<S: Switches> Desk<S> {
    /// On these switches.
    pub(super) fn on(state: &Path, switches: S, facts: Facts, settings: Settings, dir: Option<PathBuf>) -> Self {
        let file = dir.map(|dir| dir.join(persist::FILE));
        Self { state: state.to_owned(), switches, facts, settings, file }
    }

    /// What there is, and what should change. Nothing is written; what cannot be read on the disk is told with the advice.
    ///
    /// # Errors
    /// Where the kernel cannot be asked, or tracks no connections.
    pub fn show(&self) -> Result<Shown> {
        let found = self.found()?;
        let mut advice = plan::advice(&found, &self.facts, &self.settings);
        let mut quiet = |read: Result<Option<Journal>, JournalError>| {
            read.unwrap_or_else(|error| {
                advice.push(error.to_string());
                None
            })
        };
        let (held, kept) = (quiet(read_held(&self.state)), quiet(Which::Applied.read(&self.state)));
        let base = held.as_ref().map_or_else(|| found.clone(), |held| held.beneath(&found));
        let changes = plan::plan(&base, &self.facts, &self.settings);
        let former = kept.map(|kept| kept.values.into_iter().map(|(name, kept)| (name, kept.former)).collect());
        let profile = held.and_then(|held| held.profile);
        Ok(Shown { found, base, profile, former: former.unwrap_or_default(), changes, advice, facts: self.facts })
    }

    fn found(&self) -> Result<Values> {
        let found = self.switches.list().context("the switches of connection tracking cannot be read")?;
        if found.is_empty() {
            bail!("this kernel tracks no connections: /proc/sys/net/netfilter has no nf_conntrack_*; load it with `modprobe nf_conntrack`");
        }
        Ok(found)
    }

    /// Makes what is planned hold, now and after each boot. The former values are on the disk before the first is changed;
    /// those of a first `apply` stay the former ones, however often it is said. One that cannot be set does not keep the
    /// rest from it.
    ///
    /// # Errors
    /// Where the former values cannot be kept: then nothing is changed.
    pub fn apply(&mut self) -> Result<Applied> {
        let _lock = lock(&self.state)?;
        let found = self.found()?;
        let mut held = read_held(&self.state)?;
        let base = held.as_ref().map_or_else(|| found.clone(), |held| held.beneath(&found));
        let changes = plan::plan(&base, &self.facts, &self.settings);
        let before = self.kept("applied")?.unwrap_or(Journal::new()?);
        let mut applied = Applied { told: stale(&before, &base, &changes), ..Applied::default() };
        let mut journal = before.clone();
        (journal.boot, journal.net) = here()?;
        changes.iter().for_each(|change| keep(&mut journal, change));
        let file = self.file.clone();
        journal.file = file.clone().or(journal.file);
        Which::Applied.write(&self.state, &journal)?;

        let mut failures = Failures::default();
        for change in changes {
            match self.set(&change.name, &change.to, &found, held.as_mut()) {
                Ok(stands) => {
                    settle(&mut journal, &change.name, &change.to, &stands);
                    applied.done.push(change);
                }
                Err(error) => {
                    failures.add(&change.name, &error);
                    match before.values.get(&change.name) {
                        Some(kept) => drop(journal.values.insert(change.name, kept.clone())),
                        None => drop(journal.values.remove(&change.name)),
                    }
                }
            }
        }
        applied.failed = failures.told();
        self.rebased(held.as_ref())?;
        self.persist(&journal, file, &found, &mut applied);
        Which::Applied.write(&self.state, &journal)?;
        Ok(applied)
    }

    /// Puts every former value back, and takes the file and the journal away. What somebody has set since is left.
    ///
    /// # Errors
    /// Where it is not known what there was, or what was applied is another network namespace's, or written into another
    /// folder than this one's: then nothing is changed.
    pub fn revert(&mut self) -> Result<Applied> {
        let _lock = lock(&self.state)?;
        let Some(mut journal) = self.kept("reverted")? else {
            return Ok(Applied { told: vec!["nothing is applied: there is nothing to put back".to_owned()], ..Applied::default() });
        };
        self.same_file(&journal)?;
        let found = self.found()?;
        let mut held = read_held(&self.state)?;
        let base = held.as_ref().map_or_else(|| found.clone(), |held| held.beneath(&found));
        let mut applied = Applied::default();
        self.withdraw(&journal, &mut applied);
        let mut failures = Failures::default();
        for (name, kept) in std::mem::take(&mut journal.values) {
            let Some(stands) = base.get(&name) else {
                applied.told.push(format!("this kernel has no {name} any more; it held {}", kept.former));
                continue;
            };
            if *stands == kept.former {
                continue;
            }
            if !kept.is_ours(stands) {
                applied.told.push(format!("somebody set {name} to {stands} since: it is left so; before us it held {}", kept.former));
                continue;
            }
            match self.set(&name, &kept.former, &found, held.as_mut()) {
                Ok(_) => {
                    let why = "as it was before".to_owned();
                    applied.done.push(Change { from: stands.clone(), to: kept.former, name, why });
                }
                Err(error) => {
                    failures.add(&name, &error);
                    journal.values.insert(name, kept);
                }
            }
        }
        applied.failed.extend(failures.told());
        self.rebased(held.as_ref())?;
        Which::Applied.write(&self.state, &journal)?;
        Ok(applied)
    }

    /// Once a boot: sets what was applied and does not stand, as where the file was read before connection tracking was
    /// loaded. Says what was done. Only what holds its former value is touched, and only in the namespace in which it was
    /// applied: that of the same name, or, since kernels name them anew, the one that is set up at boot.
    ///
    /// # Errors
    /// As of [`Desk::apply`].
    pub fn booted(&mut self) -> Result<Option<String>> {
        if !Which::Applied.path(&self.state).exists() {
            return Ok(None);
        }
        let (boot, net) = here()?;
        let _lock = lock(&self.state)?;
        let Some(mut journal) = Which::Applied.read(&self.state)?.filter(|journal| journal.boot != boot) else { return Ok(None) };
        if journal.net != net && self.file.is_none() {
            return Ok(Some(format!(
                "what `palisade conntrack timeouts apply` set before this boot was set in another network namespace, {}: it is not set here, {net}",
                journal.net
            )));
        }
        let found = self.found()?;
        let mut failures = Failures::default();
        let mut done = 0;
        for (name, kept) in &journal.values {
            let Some(wanted) = kept.ours.first().filter(|_| found.get(name) == Some(&kept.former)) else { continue };
            match self.switches.set(name, wanted) {
                Ok(()) => done += 1,
                Err(error) => failures.add(name, &error),
            }
        }
        (journal.boot, journal.net) = (boot, net);
        Which::Applied.write(&self.state, &journal)?;
        let set = (done > 0).then(|| format!("{done} switches of connection tracking set as applied before this boot"));
        let told: Vec<String> = set.into_iter().chain(failures.told()).collect();
        Ok((!told.is_empty()).then(|| told.join("; ")))
    }

    /// What is applied, where it is this network namespace's.
    fn kept(&self, what: &str) -> Result<Option<Journal>> {
        let Some(journal) = Which::Applied.read(&self.state)? else { return Ok(None) };
        let (boot, net) = here()?;
        if journal.boot == boot && journal.net != net {
            bail!(
                "what is kept in {} was applied in another network namespace, {}, and this is {net}: nothing is {what}; do it there, or name another --state-dir",
                Which::Applied.path(&self.state).display(),
                journal.net
            );
        }
        Ok(Some(journal))
    }

    /// Whether the file that is taken away is the one that was written. The journal is not taken at its word: whoever may
    /// write it would have root remove files of his choice.
    fn same_file(&self, journal: &Journal) -> Result<()> {
        let Some(file) = journal.file.as_ref().filter(|file| self.file.as_ref() != Some(*file)) else { return Ok(()) };
        let dir = file.parent().unwrap_or(file);
        bail!(
            "what was applied is also written into another folder, says {}: nothing is reverted; say `palisade conntrack timeouts revert --sysctl-dir {}` if that is so",
            Which::Applied.path(&self.state).display(),
            excerpt(dir.as_os_str().as_encoded_bytes())
        )
    }

    /// Sets one, and says what it holds then: the kernel rounds the number of buckets. Where a profile holds it, the value
    /// waits beneath, unless it is shorter still.
    fn set(&mut self, name: &str, value: &str, found: &Values, held: Option<&mut Journal>) -> std::io::Result<String> {
        if let Some(held) = held
            && let Some(stands) = found.get(name)
            && let Some(kept) = held.values.get_mut(name).filter(|kept| kept.is_ours(stands))
        {
            let shorter = value.parse::<u64>().ok().zip(stands.parse::<u64>().ok()).is_some_and(|(to, tight)| to <= tight);
            if !shorter {
                value.clone_into(&mut kept.former);
                return Ok(value.to_owned());
            }
            self.switches.set(name, value)?;
            held.values.remove(name);
            return Ok(value.to_owned());
        }
        self.switches.set(name, value)?;
        Ok(self.switches.list().ok().and_then(|now| now.get(name).cloned()).unwrap_or_else(|| value.to_owned()))
    }

    /// What is to hold once the profile is over.
    fn rebased(&self, held: Option<&Journal>) -> Result<()> {
        held.map_or(Ok(()), |held| Which::Profile.write(&self.state, held))
    }

    /// Writes the file that sets all of it at boot, and tells where it could not. The journal alone has nothing written
    /// there: what it names was changed just now, or stands, or is in the file already.
    fn persist(&self, journal: &Journal, file: Option<PathBuf>, found: &Values, applied: &mut Applied) {
        if journal.values.is_empty() {
            return;
        }
        let Some(path) = file else {
            let what = "this network namespace is not one that is set up at boot: the values are not written to /etc/sysctl.d (--sysctl-dir writes them elsewhere)";
            applied.told.push(what.to_owned());
            return;
        };
        let there = open_unlinked(&path).and_then(read).ok().filter(|text| persist::is_ours(text));
        let there = there.map(|text| persist::read(&text)).unwrap_or_default();
        let mut lines = Vec::new();
        for (name, kept) in &journal.values {
            let first = kept.ours.first();
            let now = applied.done.iter().find(|change| change.name == *name).map(|change| &change.to);
            let written = || first.filter(|ours| there.get(name) == Some(ours));
            let stands = || found.get(name).filter(|value| kept.is_ours(value));
            if let Some(value) = now.or_else(written).or_else(stands) {
                lines.push((name.as_str(), value.as_str(), kept.why.as_str()));
            } else {
                applied.told.push(format!("{name} does not hold what was applied: no boot sets it; `apply` again once it does"));
            }
        }
        if lines.is_empty() {
            return;
        }
        match put(&path, &persist::text(lines)) {
            Ok(()) => applied.file = Some(path),
            Err(error) => {
                let why = errors::chain(&error);
                applied.failed.push(format!("{} cannot be written: {why}; the values hold until the next boot only", path.display()));
            }
        }
    }

    /// Takes the file away, unless somebody has made it theirs. Which file: that of this desk, whatever the journal says.
    fn withdraw(&self, journal: &Journal, applied: &mut Applied) {
        let Some(path) = &self.file else { return };
        let text = match open_unlinked(path).and_then(read) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return applied.failed.push(format!("{} cannot be read: {error}; it sets values at boot", path.display())),
        };
        let ours = |(name, value): (&String, &String)| journal.values.get(name).is_some_and(|kept| kept.is_ours(value));
        if !persist::is_ours(&text) || !persist::read(&text).iter().all(ours) {
            applied.told.push(format!("somebody has changed {}: it is left, and sets values at boot; remove it by hand", path.display()));
        } else if let Err(error) = gone(path) {
            applied.failed.push(format!("{} cannot be removed: {error}; it sets values at boot", path.display()));
        } else {
            applied.file = Some(path.clone());
        }
    }
}

/// Puts the file there whole, a link in its place replaced and not followed, and lets everybody read it.
fn put(path: &Path, text: &str) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    files::replace(path, text.as_bytes())?;
    open_unlinked(path)?.set_permissions(Permissions::from_mode(MODE))
}

fn read(file: std::fs::File) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

/// Remembers a change before it is made.
fn keep(journal: &mut Journal, change: &Change) {
    let kept = journal.values.entry(change.name.clone());
    let kept = kept.or_insert_with(|| Kept { former: change.from.clone(), ours: Vec::new(), why: String::new() });
    kept.ours.retain(|ours| *ours != change.to);
    kept.ours.insert(0, change.to.clone());
    kept.why.clone_from(&change.why);
}

/// And after: what the kernel made of it is ours too.
fn settle(journal: &mut Journal, name: &str, to: &str, stands: &str) {
    if let Some(kept) = journal.values.get_mut(name) {
        kept.ours = vec![to.to_owned()];
        if stands != to {
            kept.ours.push(stands.to_owned());
        }
    }
}

/// What was applied and is not what stands, and what comes of it.
fn stale(journal: &Journal, base: &Values, changes: &[Change]) -> Vec<String> {
    let planned: BTreeMap<&str, &str> = changes.iter().map(|change| (change.name.as_str(), change.to.as_str())).collect();
    let mut told = Vec::new();
    for (name, kept) in &journal.values {
        let Some(stands) = base.get(name).filter(|value| !kept.is_ours(value) && **value != kept.former) else { continue };
        told.push(match (planned.get(name.as_str()), kept.ours.first()) {
            (Some(to), _) => format!("somebody set {name} to {stands} since; it is set to {to} again"),
            (None, Some(ours)) => format!("somebody set {name} to {stands} since: it is left so now; a boot sets it to {ours}"),
            (None, None) => format!("somebody set {name} to {stands} since: it is left so"),
        });
    }
    told
}
