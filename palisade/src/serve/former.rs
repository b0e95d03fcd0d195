//! The wall before this one: a config that names another firewall leaves nobody's bans behind in the old one.
//!
//! Which firewall held the wall is kept in the state folder, by its word alone: what the daemon's user may write there
//! names no program and no object. Once the new wall is up and proven the old one is taken down, under the names that
//! the config has for it, and only then is the new word kept: whatever happens in between, the next start does it again.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use palisade_core::bans::backend::Backend;
use palisade_core::bans::ban::Ban;
use palisade_core::bans::wall::Key;
use palisade_core::config::Config;
use palisade_core::time::Stamp;
use palisade_os::block::{self, Blocker};
use palisade_os::errors::chain;
use palisade_os::files;

use super::open::recovered;

/// The file in the state folder.
const KEPT: &str = "firewall";

/// Takes the wall down that stands in another firewall than this one, and keeps which one this is. What could not be
/// done is told, with what to do; the new wall stands whatever comes of it.
pub(crate) fn retire(state: &Path, backend: Backend, config: &Config) -> Option<String> {
    // A trial enforces nothing and is over soon: what stood is not its own to take down.
    if backend == Backend::Memory {
        return None;
    }
    let path = state.join(KEPT);
    let before = match fs::read_to_string(&path) {
        Ok(word) => Backend::of_word(word.trim()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Some(format!("{} cannot be read: {error}", path.display())),
    };
    if before == Some(backend) {
        return None;
    }
    let done = before.map_or(Ok(()), |before| take_down(before, config)).and_then(|()| keep(&path, backend));
    done.err().map(|error| {
        format!(
            "bans may still stand in the firewall that was used before: {error:#}; take them out by hand, or start once more \
             with that one and run `palisade flush`, then remove {}",
            path.display()
        )
    })
}

/// The bans that stand in chains of our names which somebody filled by hand before us: the first start with iptables alone takes
/// them over instead of emptying the chains, each for as long as a ban by hand. Those that the store knows are not among them.
pub(crate) fn adopt(state: &Path, backend: Backend, config: &Config, wall: &mut dyn Blocker, known: &[Ban], now: Stamp) -> Vec<Ban> {
    let ours = fs::read_to_string(state.join(KEPT)).is_ok_and(|word| Backend::of_word(word.trim()) == Some(backend));
    if backend != Backend::Iptables || ours {
        return Vec::new();
    }
    let known: HashSet<&Key> = known.iter().map(|ban| &ban.key).collect();
    let mut found = recovered(wall, config.ban().manual_time, now, "stood in the chain before palisade took it over");
    found.retain(|ban| !known.contains(&ban.key));
    if !found.is_empty() {
        eprintln!("palisade: {} bans stood in our chains already and are taken over, each for {}", found.len(), config.ban().manual_time);
    }
    found
}

/// Keeps which firewall holds the wall where none ever did.
pub(crate) fn first(state: &Path, backend: Backend) {
    let path = state.join(KEPT);
    if backend != Backend::Memory && matches!(path.try_exists(), Ok(false)) {
        // At worst the next start looks again.
        let _ = keep(&path, backend);
    }
}

fn keep(path: &Path, backend: Backend) -> Result<()> {
    files::replace(path, format!("{backend}\n").as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

fn take_down(before: Backend, config: &Config) -> Result<()> {
    if before == Backend::Command {
        // It may drive what another backend of ours fills now: who knows what it does flushes it.
        bail!("a program held it, and what that does is not known here");
    }
    let removed = block::open(before, config.backends()).and_then(|mut wall| wall.remove());
    removed.map_err(|error| anyhow::anyhow!("{before}: {}", chain(&error)))
}
