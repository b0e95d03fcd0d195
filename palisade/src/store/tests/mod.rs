//! The store against real files, real kills and a really full disk.

mod damage;
mod failing;
mod killed;
mod many;
mod overlap;
mod records;
mod upkeep;

use std::ops::ControlFlow;
use std::sync::Arc;

use palisade_core::attack::Attack;
use palisade_core::bans::ban::{Ban, Origin};
use palisade_core::bans::wall::{Key, Ports};
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::{Stamp, Until};
use tempfile::TempDir;

use super::{Opening, Store};

fn p(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn a(text: &str) -> Addr {
    text.parse().unwrap()
}

/// A new directory and a new store in it.
fn fresh() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let (store, opening) = Store::open(dir.path()).unwrap();
    assert_eq!(opening, Opening::New);
    (dir, store)
}

fn ban(prefix: &str, until: i64) -> Ban {
    Ban {
        key: Key::all(p(prefix)),
        since: Stamp(1000),
        until: Until::At(Stamp(until)),
        origin: Origin::Jail("sshd".into()),
        reason: "5 failures".to_owned(),
        offences: 1,
    }
}

fn attack(addr: &str, jail: &str) -> Attack {
    Attack {
        addr: a(addr),
        jail: jail.into(),
        signature: "sshd/failed-password".into(),
        service: "sshd".into(),
        score: 10,
        at: Some(Stamp(900)),
        user: Some("root\0\u{7f}é".to_owned()),
        line: format!("Failed password for root from {addr}"),
    }
}

fn only(ports: &[u16]) -> Ports {
    Ports::Only(Arc::from(ports))
}

fn bans(store: &Store) -> Vec<Ban> {
    let mut all = Vec::new();
    store
        .each_ban(&mut |ban| {
            all.push(ban);
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

/// Whether this process may mount, give files away and the like.
fn root() -> bool {
    use std::os::unix::fs::MetadataExt;
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}
