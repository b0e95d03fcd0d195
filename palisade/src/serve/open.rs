//! Everything the house stands on, opened in the one right order; shared by the daemon and by the
//! verbs that work without it.

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
use palisade_core::bans::backend::{self, Backend};
use palisade_core::bans::ban::{Ban, Origin};
use palisade_core::brain::{Action, Brain, Event, Kept, Mode};
use palisade_core::config::Config;
use palisade_core::event::{KillCount, Record};
use palisade_core::judge::policy::Escalate;
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp, Term, Until};
use palisade_os::block::detect::{self, Look};
use palisade_os::block::memory::Memory;
use palisade_os::block::{self, Blocker, Read};
use palisade_os::clock;
use palisade_os::flows::{self, Flows};
use palisade_os::links::{Links, Paths};
use palisade_os::privileges::{self, Lock, LockError};
use palisade_os::wake::poll;

use super::errors::chain;
use super::{former, proof};
use crate::library::Library;
use crate::settings::Places;
use crate::store::{Keep, Opening, Store};

/// How much evidence is kept at least, so that `why` can tell yesterday's lines.
const EVIDENCE: Span = Span::secs(7 * 86_400);

/// How long the lock is waited for: longer than a daemon takes to put a million bans up, or to stop.
const LOCK_WITHIN: Span = Span::secs(10);

/// How often a held lock is tried again: nobody notices so short a wait.
const LOCK_AGAIN: Span = Span::millis(20);

/// Everything, open.
pub(crate) struct Opened {
    pub(crate) lock: Lock,
    pub(crate) config: Config,
    pub(crate) library: Library,
    pub(crate) store: Store,
    pub(crate) blocker: Box<dyn Blocker>,
    pub(crate) backend: Backend,
    /// Why that firewall, and what was passed over.
    pub(crate) chosen: String,
    /// Why the firewall cannot be used, where the question did not need it.
    pub(crate) broken: Option<String>,
    pub(crate) flows: Box<dyn Flows>,
    pub(crate) links: Links,
    pub(crate) brain: Brain,
    pub(crate) positions: HashMap<String, String>,
}

/// Opens everything for a brain that is to decide.
pub(crate) fn all(places: &Places, mode: Mode) -> Result<Opened> {
    house(places, mode, None, Look::All, Need::Firewall)
}

/// Opens what a question needs that changes nothing: what the store knows is told though the firewall cannot be used.
pub(crate) fn reading(places: &Places, about: Option<&[Prefix]>) -> Result<Opened> {
    house(places, Mode::Enforce, about, Look::First, Need::Store)
}

/// The same for one question about these prefixes: of the store only what overlaps them is read,
/// unless the wall does not stand and all of it must be put up.
pub(crate) fn around(places: &Places, prefixes: &[Prefix]) -> Result<Opened> {
    house(places, Mode::Enforce, Some(prefixes), Look::First, Need::Firewall)
}

/// Without what there is no answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Firewall,
    Store,
}

fn house(places: &Places, mode: Mode, about: Option<&[Prefix]>, how: Look, need: Need) -> Result<Opened> {
    let lock = lock(places)?;
    let (config, library) = places.config_and_library()?;
    let (wall, broken) = match firewall(&config, mode, how) {
        Err(error) if need == Need::Store => {
            (Wall { blocker: Box::new(Memory::new()), backend: Backend::Memory, chosen: "none".to_owned() }, Some(format!("{error:#}")))
        }
        opened => (opened?, None),
    };
    let Wall { mut blocker, backend, chosen } = wall;
    let about = match about {
        Some(prefixes) if blocker.read(Read::Frame)?.whole => Some(prefixes),
        _ => None,
    };
    let opened = if about.is_some() { Store::open_briefly(&places.state) } else { Store::open(&places.state) };
    let (store, opening) = opened.with_context(|| format!("the store in {}", places.state.display()))?;
    let flows = flows::open(backend, config.backends()).context("connections could not be ended")?;
    let links = Links::open(Paths::default()).context("cannot read this host's addresses")?;
    let now = clock::now();
    let mut kept = match about {
        Some(prefixes) => near(&store, prefixes)?,
        None => kept(&store, &config, now.stamp)?,
    };
    if let Opening::SetAside { to, why } = &opening {
        eprintln!("palisade: the store was damaged ({why}); it is kept as {}, and the bans are taken from the kernel", to.display());
        kept.bans = recovered(blocker.as_mut(), config.ban().manual_time, now.stamp, "stood in the kernel when the store was lost");
    }
    let found = if about.is_none() && need == Need::Firewall && mode == Mode::Enforce {
        former::adopt(&places.state, backend, &config, blocker.as_mut(), &kept.bans, now.stamp)
    } else {
        Vec::new()
    };
    let news = !found.is_empty() || matches!(opening, Opening::SetAside { .. });
    kept.bans.extend(found);
    let positions = store.positions()?;
    let brain = Brain::new(config.clone(), mode, blocker.name(), blocker.limits(), kept, now);
    let mut opened = Opened { lock, config, library, store, blocker, backend, chosen, broken, flows, links, brain, positions };
    if news {
        let mut actions = Vec::new();
        opened.brain.handle(Event::Forgotten, now, &mut actions);
        // The wall is not built by this, so there is nobody to end.
        let _ = carry_out(actions, &mut opened.brain, opened.blocker.as_mut(), &mut opened.store)?;
    }
    if need == Need::Firewall && mode == Mode::Enforce {
        former::first(&places.state, backend);
    }
    Ok(opened)
}

/// The lock that keeps two of us apart. A verb holds it for moments and a daemon while it starts and
/// stops, so whoever finds it held waits; but not for a daemon that runs, which is known by its socket.
pub(crate) fn lock(places: &Places) -> Result<Lock> {
    make_dir(&places.run)?;
    let until = clock::now().tick.plus(LOCK_WITHIN);
    loop {
        let error = match privileges::lock_file(&places.lock()) {
            Ok(lock) => return Ok(lock),
            Err(error) => error,
        };
        let runs = || UnixStream::connect(places.socket()).is_ok();
        if !matches!(error, LockError::Held { .. }) || clock::now().tick >= until || runs() {
            bail!("{} ({})", chain(&error), places.lock().display());
        }
        let _ = poll(&[], None, Some(LOCK_AGAIN)).context("waiting for the lock")?;
    }
}

/// Makes a folder that only we and our group may enter, where there is none.
fn make_dir(dir: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(dir);
    made.with_context(|| format!("cannot make {}; make it yourself or name another with --run-dir", dir.display()))?;
    let meta = fs::metadata(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    if meta.mode() & 0o002 != 0 && meta.mode() & 0o1000 == 0 {
        bail!("{} may be written by everybody; make it 0750", dir.display());
    }
    Ok(())
}

/// A firewall, open.
pub(crate) struct Wall {
    pub(crate) blocker: Box<dyn Blocker>,
    pub(crate) backend: Backend,
    pub(crate) chosen: String,
}

/// The firewall the config names, or the best there is; never another one instead. Observing needs none.
pub(crate) fn firewall(config: &Config, mode: Mode, how: Look) -> Result<Wall> {
    let section = config.backends();
    if mode == Mode::Observe {
        return Ok(Wall { blocker: Box::new(Memory::new()), backend: Backend::Memory, chosen: "none: only observing".to_owned() });
    }
    let (backend, chosen) = match config.ban().backend {
        Some(named) => (named, format!("{named}: named in the config")),
        None => {
            let pick = backend::pick(&detect::look(section, how)).map_err(|error| proof::CannotEnforce(error.to_string()))?;
            (pick.backend, pick.to_string())
        }
    };
    let blocker =
        block::open(backend, section).map_err(|error| proof::advise(error, detect::look(section, Look::First).next_best(backend)))?;
    Ok(Wall { blocker, backend, chosen })
}

/// What the store kept about these prefixes.
fn near(store: &Store, prefixes: &[Prefix]) -> Result<Kept> {
    let mut kept = Kept { allowed: store.allowed()?, last_moment: store.last_moment()?, ..Kept::default() };
    for prefix in prefixes {
        kept.bans.extend(store.overlapping(prefix)?);
    }
    Ok(kept)
}

/// What the store kept that still matters.
fn kept(store: &Store, config: &Config, now: Stamp) -> Result<Kept> {
    let mut kept = Kept { allowed: store.allowed()?, last_moment: store.last_moment()?, ..Kept::default() };
    store.each_ban(&mut |ban| {
        kept.bans.push(ban);
        ControlFlow::Continue(())
    })?;
    let window = config.jails().values().map(|jail| jail.policy.find_time).max().unwrap_or_default();
    store.failures(now.minus(window), &mut |f| {
        kept.failures.push((f.jail, f.unit, f.counted, f.score));
        ControlFlow::Continue(())
    })?;
    store.sentences(&mut |sentence| {
        kept.sentences.push(sentence);
        ControlFlow::Continue(())
    })?;
    Ok(kept)
}

/// How long the store is to keep what is over, by the config's longest memory.
pub(crate) fn keep_of(config: &Config) -> Keep {
    let policies = || config.jails().values().map(|jail| &jail.policy);
    let sentences = policies().map(|p| match &p.escalate {
        Escalate::Factor { forget, .. } => *forget,
        Escalate::Ladder { within, .. } => *within,
    });
    Keep {
        failures: policies().map(|p| p.find_time).max().unwrap_or_default().max(EVIDENCE),
        sentences: sentences.max().unwrap_or_default(),
    }
}

/// The bans that stand in the kernel, when the store is lost.
pub(crate) fn recovered(blocker: &mut dyn Blocker, lasting: Term, now: Stamp, why: &str) -> Vec<Ban> {
    let keeps_time = blocker.limits().timeouts;
    let Ok(found) = blocker.read(Read::All) else { return Vec::new() };
    let ban = |(key, standing): (_, palisade_core::bans::wall::Standing)| Ban {
        key,
        since: now,
        until: match standing.left {
            Some(left) => Until::At(now.plus(left)),
            // A wall that keeps no time says nothing of how long: as long as a ban by hand, rather than for ever.
            None if !keeps_time => lasting.from(now),
            None => Until::Forever,
        },
        origin: Origin::Recovered,
        reason: why.to_owned(),
        offences: 1,
    };
    found.bans.into_iter().map(ban).collect()
}

/// Carries actions out right here, one after another, until nothing follows from them: for the
/// start of the daemon and for the verbs without one. Answers are left out; connections that are to be ended are
/// handed back, for whoever can do that.
pub(crate) fn carry_out(actions: Vec<Action>, brain: &mut Brain, blocker: &mut dyn Blocker, store: &mut Store) -> Result<Vec<Action>> {
    let mut todo = std::collections::VecDeque::from(actions);
    let mut kills = Vec::new();
    while let Some(action) = todo.pop_front() {
        let event = match action {
            Action::Rebuild { ticket, frame, entries } => {
                let result = blocker.replace(&frame, &mut entries.into_iter(), clock::now().stamp);
                let report = result.context("the wall could not be put up; nothing would be blocked")?;
                Event::Rebuilt { ticket, result: Ok(report) }
            }
            Action::Order { ticket, order } => {
                let steps = order.steps();
                let report = blocker.apply(&steps, clock::now().stamp);
                let mut more = Vec::new();
                brain.handle(
                    Event::Applied { ticket, failed: super::wall::failures(&steps, &report).into_iter().collect() },
                    clock::now(),
                    &mut more,
                );
                todo.extend(more);
                Event::Ended { ticket, killed: KillCount::default(), error: None }
            }
            Action::Keep(records) => {
                keep(store, &records)?;
                continue;
            }
            kill @ Action::Kill { .. } => {
                kills.push(kill);
                continue;
            }
            _ => continue,
        };
        let mut more = Vec::new();
        brain.handle(event, clock::now(), &mut more);
        todo.extend(more);
    }
    Ok(kills)
}

/// Writes records; a store that cannot be written does not keep the wall from standing.
pub(crate) fn keep(store: &mut Store, records: &[Record]) -> Result<()> {
    if let Err(error) = store.write(records) {
        eprintln!("palisade: {}", chain(&error));
    }
    Ok(())
}
