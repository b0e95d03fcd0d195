//! The wall before this one: a config that names another firewall leaves nobody's bans behind in the old one.
//!
//! Where the wall stands is kept in the state folder, as the part of a config that says so. Once the new wall is up
//! the old one is taken down, and only then is the new place kept: whatever happens in between, the next start does
//! it again.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use palisade_core::bans::backend::Backend;
use palisade_core::config::{Config, show_wall};
use palisade_os::block;
use palisade_os::errors::chain;
use palisade_os::privileges::own_like_dir;

/// The file in the state folder.
const KEPT: &str = "wall.toml";

/// Takes down a wall that stands elsewhere than the one that stands now, and keeps where this one does. What could not
/// be done is told, with what to do; the new wall stands whatever comes of it.
pub(crate) fn retire(state: &Path, backend: Backend, config: &Config) -> Option<String> {
    // A trial enforces nothing and is over soon: what stood is not its own to take down.
    if backend == Backend::Memory {
        return None;
    }
    let now = show_wall(backend, config.backends());
    let path = state.join(KEPT);
    let before = match fs::read_to_string(&path) {
        Ok(before) if before == now => return None,
        Ok(before) => Some(before),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Some(format!("{} cannot be read: {error}", path.display())),
    };
    let done = before.map_or(Ok(()), |before| take_down(&before, backend, config)).and_then(|()| keep(&path, &now));
    done.err().map(|error| format!("bans may still stand in the firewall that was used before: {error:#}; take them out by hand, or start it once more with that one and run `palisade flush`"))
}

fn take_down(before: &str, backend: Backend, config: &Config) -> Result<()> {
    let old = Config::read(&[(KEPT.to_owned(), before.to_owned())], &[]).map_err(anyhow::Error::new)?;
    let Some(old_backend) = old.ban().backend else { return Ok(()) };
    if same_place(old_backend, &old, backend, config) {
        return Ok(());
    }
    let removed = block::open(old_backend, old.backends()).and_then(|mut wall| wall.remove());
    removed.map_err(|error| anyhow::anyhow!("{old_backend}: {}", chain(&error)))
}

/// Whether the old wall is where the new one is: then it was taken over, not left.
fn same_place(old: Backend, then: &Config, new: Backend, now: &Config) -> bool {
    let (then, now) = (then.backends(), now.backends());
    old == new
        && match new {
            Backend::Nftables | Backend::Memory => true,
            Backend::Ipset => then.ipset == now.ipset,
            Backend::Iptables => then.iptables == now.iptables,
            Backend::Pf => then.pf == now.pf,
            Backend::Ipfw => then.ipfw == now.ipfw,
            Backend::Hosts => then.hosts == now.hosts,
            Backend::Nginx => then.nginx.file == now.nginx.file,
            Backend::Command => then.command == now.command,
        }
}

fn keep(path: &Path, text: &str) -> Result<()> {
    let fresh = path.with_extension("new");
    let write = || fs::write(&fresh, text).and_then(|()| own_like_dir(&fresh)).and_then(|()| fs::rename(&fresh, path));
    write().with_context(|| format!("cannot write {}", path.display()))
}
