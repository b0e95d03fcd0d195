//! Timeouts shortened while the table fills, put back after.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use palisade_core::flood::settings::Settings;
use palisade_core::flood::timeouts::profile::values;
use palisade_core::flood::timeouts::{Facts, Profile, Values};

use super::disk::{Journal, JournalError, Kept, Which, here, lock};
use super::switches::{Failures, Proc, Switches, facts};

/// A hold on the timeouts. What it holds is on the disk and not in here: a daemon that died left it there.
#[derive(Debug)]
pub struct Hold<S = Proc> {
    state: PathBuf,
    switches: S,
    facts: fn() -> Facts,
}

impl Hold {
    /// On the timeouts of the calling thread's network namespace; nothing is read or changed yet. Whoever starts says
    /// [`Hold::set`] with [`Profile::Calm`] first: that puts back what a daemon that died has left.
    pub fn open(state: &Path) -> Self {
        Self::on(state, Proc, facts)
    }
}

/// What is to be done, found out before anything is.
struct Turn {
    /// What the disk says while it is done.
    journal: Journal,
    /// What is to be set.
    sets: Values,
    /// What somebody else set meanwhile.
    told: Vec<String>,
}

impl<S: Switches> Hold<S> {
    /// On these switches.
    pub(super) fn on(state: &Path, switches: S, facts: fn() -> Facts) -> Self {
        Self { state: state.to_owned(), switches, facts }
    }

    /// Makes this profile hold, and says what is worth telling. The values that stand before the first change are on the
    /// disk before it, and [`Profile::Calm`] puts back just those; what somebody else has set meanwhile is left.
    ///
    /// # Errors
    /// Where the disk cannot be written: then nothing is changed. Where no switch could be set, and with [`Profile::Calm`]
    /// where one could not be put back: told once, and what is left stays on the disk for the next try.
    pub fn set(&mut self, profile: Profile, settings: &Settings) -> Result<Option<String>> {
        if profile == Profile::Calm && !Which::Profile.path(&self.state).exists() {
            return Ok(None);
        }
        let _lock = lock(&self.state)?;
        let found = self.switches.list().context("the timeouts cannot be read")?;
        let (old, mut told) = self.held()?;
        let turn = turn(old, &found, profile, &(self.facts)(), settings)?;
        told.extend(turn.told);
        Which::Profile.write(&self.state, &turn.journal)?;
        let mut journal = turn.journal;
        let mut failures = Failures::default();
        let mut done = 0;
        for (name, value) in &turn.sets {
            let set = self.switches.set(name, value);
            done += usize::from(set.is_ok());
            settle(&mut journal, name, value, set.is_ok(), found.get(name));
            if let Err(error) = set {
                failures.add(name, &error);
            }
        }
        Which::Profile.write(&self.state, &journal)?;
        let failed = failures.told();
        if done == 0 && !failed.is_empty() {
            bail!("the timeouts of connection tracking stay as they are: {}", failed.join("; "));
        }
        told.extend(failed);
        if done > 0 {
            told.insert(0, summary(profile, done));
        }
        let left = journal.values.len();
        if profile == Profile::Calm && left > 0 {
            bail!("{left} of {} timeouts of connection tracking stay shortened: {}", left.saturating_add(done), told.join("; "));
        }
        Ok((!told.is_empty()).then(|| told.join("; ")))
    }

    /// What is held, where it is of this boot and namespace; that of another is gone with it.
    fn held(&self) -> Result<(Option<Journal>, Vec<String>)> {
        let path = Which::Profile.path(&self.state);
        match read_held(&self.state) {
            Ok(held) => Ok((held, Vec::new())),
            Err(error @ JournalError::Damaged { .. }) => {
                let aside = path.with_extension("json.damaged");
                std::fs::rename(&path, &aside).with_context(|| format!("cannot move {} away", path.display()))?;
                Ok((None, vec![format!("{error}; it is kept as {}", aside.display())]))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What a profile holds now; `None` for nothing, also where what is on the disk is of another boot or namespace: those
/// values are gone, or not here.
pub(super) fn read_held(state: &Path) -> Result<Option<Journal>, JournalError> {
    let held = Which::Profile.read(state)?;
    let Ok((boot, net)) = here() else { return Ok(held) };
    Ok(held.filter(|held| held.boot == boot && held.net == net))
}

fn turn(old: Option<Journal>, found: &Values, profile: Profile, facts: &Facts, settings: &Settings) -> Result<Turn> {
    let mut journal = Journal::new()?;
    journal.profile = Some(profile);
    let old = old.unwrap_or_else(|| journal.clone());
    let base = old.beneath(found);
    journal.left.clone_from(&old.left);
    let mut told = Vec::new();
    for (name, kept) in &old.values {
        match found.get(name) {
            Some(value) if !kept.is_ours(value) && *value != kept.former => {
                told.push(format!("somebody set {name} to {value} meanwhile: it is left so"));
                journal.left.insert(name.clone());
            }
            _ => {}
        }
    }
    let mut sets = values(profile, &base, facts, settings);
    sets.retain(|name, _| !journal.left.contains(name));
    for (name, value) in &sets {
        let former = base.get(name).cloned().unwrap_or_default();
        let stood = old.values.get(name).map(|kept| kept.ours.clone()).unwrap_or_default();
        let stood = stood.into_iter().filter(|ours| ours != value);
        let ours = std::iter::once(value.clone()).chain(stood).collect();
        journal.values.insert(name.clone(), Kept { former, ours, why: String::new() });
    }
    for (name, kept) in old.values {
        if found.get(&name).is_some_and(|value| kept.is_ours(value) && *value != kept.former) && !journal.values.contains_key(&name) {
            sets.insert(name.clone(), kept.former.clone());
            journal.values.insert(name, kept);
        }
    }
    if profile == Profile::Calm {
        journal.left.clear();
    }
    // What holds already needs no hand, but stays on the disk as ours.
    sets.retain(|name, value| found.get(name) != Some(value));
    Ok(Turn { journal, sets, told })
}

/// After one was set, or not: what is ours now.
fn settle(journal: &mut Journal, name: &str, value: &str, set: bool, stands: Option<&String>) {
    let Some(kept) = journal.values.get_mut(name) else { return };
    if set && kept.former == value {
        journal.values.remove(name);
    } else if set {
        kept.ours = vec![value.to_owned()];
    } else if stands == Some(&kept.former) {
        journal.values.remove(name);
    }
}

fn summary(profile: Profile, done: usize) -> String {
    let plural = |n: usize| if n == 1 { "timeout" } else { "timeouts" };
    match profile {
        Profile::Calm => format!("{done} {} of connection tracking put back as before", plural(done)),
        _ => format!("{} {} of connection tracking set for {}", done, plural(done), profile.word()),
    }
}
