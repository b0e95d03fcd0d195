//! `palisade restore`, `flush`.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

use anyhow::{Context, Result};
use clap::Args;
use palisade_core::allow::AllowList;
use palisade_core::bans::backend::Backend;
use palisade_core::bans::wall::Frame;
use palisade_core::brain::Mode;
use palisade_core::config::Config;
use palisade_core::control::{Reply, Request};
use palisade_core::time::Stamp;
use palisade_os::block::detect::Look;
use palisade_os::clock;
use palisade_os::flows;
use palisade_os::links::{Links, Paths};
use serde_json::json;

use super::ask::{ask, unexpected};
use super::print;
use super::{Exit, Global};
use crate::serve::client::Client;
use crate::serve::{former, killing, open};
use crate::store::{Store, StoreError};

/// How many bans are read ahead of the kernel at a time: enough to keep both busy, few enough to
/// weigh nothing (about 64 bytes each).
const AHEAD: usize = 4096;

/// Put the stored bans into the kernel.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  palisade restore\n\nRun at boot by palisade-restore.service. Bans that ended while the host was down are left out; the others\nkeep their ends. What stood before is replaced without a gap."
)]
pub struct Restore {}

impl Restore {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let places = global.places();
        if Client::connect(&places.socket()).is_ok() {
            return beside_a_daemon(global);
        }
        let _lock = open::lock(&places)?;
        let config = places.config()?;
        let store = kept(&places.state)?;
        let open::Wall { mut blocker, backend, .. } = open::firewall(&config, Mode::Enforce, Look::First)?;
        let now = effective(&store)?;
        let frame = frame(&config, &store, now)?;
        drop(store);
        let (sender, receiver) = sync_channel(2);
        let state = places.state.clone();
        let reader = thread::spawn(move || -> Result<(), StoreError> {
            let store = Store::open_read_only(&state)?;
            store.entries(now, AHEAD, &mut |entries| {
                if sender.send(entries).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
        });
        // The kernel counts from its own now; a clock that is behind must not lengthen nor shorten what is left.
        let report = blocker.replace(&frame, &mut receiver.into_iter().flatten(), now).context("the wall could not be put up")?;
        match reader.join() {
            Ok(result) => result.context("reading the store")?,
            Err(_) => anyhow::bail!("reading the store panicked; this is a bug"),
        }
        if blocker.limits().lasting && config.ban().policy.kill_states {
            end_what_came_in(backend, &config, &places.state, now)?;
        }
        if let Some(what) = former::retire(&places.state, backend, &config) {
            print::say(format_args!("palisade: {what}"));
        }
        if global.json {
            print::json(&json!({ "v": 1, "restored": report.done, "failed": report.failed.len() }))?;
        } else {
            print::line(format_args!("{} bans stand in {}", report.done, blocker.name()))?;
        }
        if let Some((_, why)) = report.failed.first() {
            print::say(format_args!("palisade: {} bans could not be put up, the first because: {why}", report.failed.len()));
            return Ok(Exit::Degraded);
        }
        Ok(Exit::Done)
    }
}

/// Where open connections go on past a ban, those of everybody who is banned are ended: whoever came in while the
/// wall was down would stay. At boot there are none, and that is soon seen.
fn end_what_came_in(backend: Backend, config: &Config, state: &Path, now: Stamp) -> Result<()> {
    let mut targets = Vec::new();
    Store::open_read_only(state)?.entries(now, AHEAD, &mut |entries| {
        targets.extend(entries.into_iter().map(|entry| (entry.key.prefix, entry.key.ports)));
        ControlFlow::Continue(())
    })?;
    let mut flows = flows::open(backend, config.backends()).context("connections could not be ended")?;
    if let (_, Some(error)) = killing::kill(flows.as_mut(), &killing::targets(targets)) {
        print::say(format_args!("palisade: some connections of the banned could not be ended: {error}"));
    }
    Ok(())
}

/// A daemon holds the wall: it is asked to put it up anew.
fn beside_a_daemon(global: &Global) -> Result<Exit> {
    match ask(global, Request::Restore)? {
        Reply::Restored { bans } if global.json => print::json(&json!({ "v": 1, "restored": bans, "failed": 0 }))?,
        Reply::Restored { bans } => print::line(format_args!("{bans} bans stand; the daemon put them up"))?,
        other => return Err(unexpected(&other)),
    }
    Ok(Exit::Done)
}

/// The store, looked at no closer than reading it needs: at boot each moment counts, and the daemon
/// proves it page by page a little later.
fn kept(state: &Path) -> Result<Store> {
    match Store::open_read_only(state) {
        Ok(store) => Ok(store),
        // None yet, or of an earlier version: opening it for writing makes it what it should be.
        Err(StoreError::Missing(_) | StoreError::Older { .. }) => Ok(Store::open(state)?.0),
        Err(error @ StoreError::Corrupt { .. }) => Err(anyhow::Error::new(error)
            .context("nothing was restored; what stands in the kernel stands on, and `palisade run` takes it over")),
        Err(error) => Err(error.into()),
    }
}

/// Now, or the latest moment the store knows of where the clock is behind that: then no time has
/// gone by for the bans. (A host without a battery for its clock boots in the past.)
fn effective(store: &Store) -> Result<Stamp> {
    let now = clock::now().stamp;
    Ok(store.last_moment()?.map_or(now, |last| last.max(now)))
}

/// The allow list as far as it is known before the network is up.
fn frame(config: &Config, store: &Store, now: Stamp) -> Result<Frame> {
    let mut allow = AllowList::new();
    let _ = allow.set_config(config.allow().prefixes.iter().copied());
    for member in store.allowed()?.into_iter().filter(|member| !member.until.over(now)) {
        let _ = allow.add_by_hand(member.prefix, member.until, &member.comment);
    }
    if let Ok(found) = Links::open(Paths::default()).and_then(|mut links| links.snapshot()) {
        let auto = config.allow().auto;
        let _ = auto.own.then(|| allow.set_own(found.own));
        let _ = auto.gateways.then(|| allow.set_gateways(found.gateways));
        let _ = auto.resolvers.then(|| allow.set_resolvers(found.resolvers));
    }
    Ok(Frame { allow: allow.prefixes(now), refusal: config.ban().refusal })
}

/// Take the wall down.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  palisade flush\n\nEverything of ours leaves the kernel and nobody is shut out. The store keeps the bans: `palisade restore`,\na restart of the daemon, or the next ban made without a daemon puts them up again."
)]
pub struct Flush {}

impl Flush {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        match ask(global, Request::Flush)? {
            Reply::Flushed if global.json => print::json(&json!({ "v": 1, "flushed": true }))?,
            Reply::Flushed => print::line("the wall is down; the store keeps the bans")?,
            other => return Err(unexpected(&other)),
        }
        Ok(Exit::Done)
    }
}
