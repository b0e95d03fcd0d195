//! Against the real kernel, each test in network namespaces of its own. They need root.

mod codec;
mod drift;
mod idempotence;
pub(in crate::block) mod namespace;
pub(in crate::block) mod packets;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use palisade_core::bans::wall::{Entry, Found, Frame, Key, Ports, Step, Wanted, keeps};
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp, Until};

use super::Nftables;
use crate::block::{Blocker, Read};

fn now() -> Stamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Stamp(since.as_millis().try_into().unwrap())
}

fn key(text: &str) -> Key {
    Key::all(text.parse().unwrap())
}

fn block(key: Key, seconds: Option<u64>) -> Step {
    Step::Block(Entry { key, until: seconds.map_or(Until::Forever, |s| Until::At(now().plus(Span::secs(s)))) })
}

fn port_key(text: &str, ports: &[u16]) -> Key {
    Key { ports: Ports::only(ports.iter().copied()).unwrap(), ..key(text) }
}

fn frame(allow: &[&str]) -> Frame {
    Frame { allow: allow.iter().map(|text| text.parse().unwrap()).collect(), ..Frame::default() }
}

/// So many hosts, one after another from 10.0.0.0 on.
fn many(n: u32) -> impl Iterator<Item = Entry> {
    let host = |i: u32| Prefix::host(std::net::Ipv4Addr::from_bits(0x0a00_0000 + i).into());
    let until = Until::At(now().plus(Span::secs(3600)));
    (0..n).map(move |i| Entry { key: Key::all(host(i)), until })
}

#[track_caller]
fn did(wall: &mut Nftables, steps: &[Step]) {
    let report = wall.apply(steps, now());
    assert!(report.ok() && report.done == steps.len(), "{report:?}");
}

#[track_caller]
fn replaced(wall: &mut Nftables, frame: &Frame, entries: &mut dyn Iterator<Item = Entry>) {
    let report = wall.replace(frame, entries, now()).unwrap();
    assert!(report.ok(), "{report:?}");
}

fn keys(found: &Found) -> BTreeSet<Key> {
    found.bans.keys().cloned().collect()
}

/// The steps from what was found to what is wanted.
fn diff(found: &Found, wanted: &Wanted, now: Stamp) -> Vec<Step> {
    let mut steps = Vec::new();
    if found.frame.as_ref() != Some(&wanted.frame) || !found.whole {
        steps.push(Step::Frame(wanted.frame.clone()));
    }
    let stands = |entry: &Entry| found.bans.get(&entry.key).is_some_and(|standing| keeps(standing.left, entry.until, now));
    steps.extend(wanted.entries().filter(|entry| !stands(entry)).map(Step::Block));
    steps.extend(found.bans.keys().filter(|key| !wanted.bans.contains_key(key)).cloned().map(Step::Release));
    steps
}

#[track_caller]
fn holds(wall: &mut Nftables, wanted: &Wanted) {
    let found = wall.read(Read::All).unwrap();
    assert_eq!(diff(&found, wanted, now()), [], "found {found:?}");
    let asked: Vec<Key> = wanted.bans.keys().cloned().collect();
    let by_key = wall.read(Read::Keys(&asked)).unwrap();
    assert_eq!(keys(&by_key), wanted.bans.keys().cloned().collect(), "by key");
}

fn wanted(frame: Frame, keys: &[Key]) -> Wanted {
    let bans: BTreeMap<_, _> = keys.iter().map(|key| (key.clone(), Until::Forever)).collect();
    Wanted { frame, bans }
}
