//! ipset and iptables, each over iptables-nft and iptables-legacy: one body for the four of them, against
//! the real kernel, each in network namespaces of its own. They need root.

mod drift;
mod idempotence;
mod opening;
mod packets;
mod standing;

use std::collections::BTreeMap;
use std::time::SystemTime;

use palisade_core::bans::backend::Backend;
use palisade_core::bans::plan::plan;
use palisade_core::bans::wall::{Entry, Frame, Key, Ports, Step, Wanted};
use palisade_core::config::{BackendSection, Variant};
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp, Until};

use super::Kind;
use crate::block::nftables::tests::namespace::sh;
use crate::block::{Blocker, Read, open};

/// One of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Which {
    backend: Backend,
    kind: Kind,
}

impl Which {
    fn section(self) -> BackendSection {
        let mut section = BackendSection::default();
        let variant = if self.kind == Kind::Nft { Variant::Nft } else { Variant::Legacy };
        (section.ipset.variant, section.iptables.variant) = (variant, variant);
        section
    }

    fn open(self) -> Box<dyn Blocker> {
        open(self.backend, &self.section()).unwrap()
    }

    /// Runs a shell script in which `4` and `6` are the two iptables programs; its output.
    #[track_caller]
    fn sh(self, script: &str) -> String {
        let word = if self.kind == Kind::Nft { "nft" } else { "legacy" };
        let programs = format!(
            "t4() {{ iptables-{word} -w 20 \"$@\"; }}; t6() {{ ip6tables-{word} -w 20 \"$@\"; }}; save4() {{ iptables-{word}-save; }}; \
             save6() {{ ip6tables-{word}-save; }}; restore4() {{ iptables-{word}-restore -w 20 \"$@\"; }};\n"
        );
        sh(&(programs + script))
    }

    /// All rules of the host without their counters.
    fn rules(self) -> String {
        self.sh("(save4; save6) | grep -v '^#' | sed 's/\\[[0-9]*:[0-9]*\\]//'")
    }

    /// The chain that INPUT jumps to.
    fn chain(self) -> &'static str {
        if self.backend == Backend::Ipset { "palisade-src" } else { "IP4BAN" }
    }

    const fn is_ipset(self) -> bool {
        matches!(self.backend, Backend::Ipset)
    }
}

/// One test for each of the four.
macro_rules! over_all {
    ($($body:ident),* $(,)?) => {
        over_all!(@ ipset_nft Ipset Nft $($body)*);
        over_all!(@ ipset_legacy Ipset Legacy $($body)*);
        over_all!(@ iptables_nft Iptables Nft $($body)*);
        over_all!(@ iptables_legacy Iptables Legacy $($body)*);
    };
    (@ $name:ident $backend:ident $kind:ident $($body:ident)*) => {
        mod $name {
            use palisade_core::bans::backend::Backend;
            $(
                #[test]
                fn $body() {
                    super::$body(super::Which { backend: Backend::$backend, kind: crate::block::xtables::Kind::$kind });
                }
            )*
        }
    };
}
use over_all;

fn now() -> Stamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Stamp(since.as_millis().try_into().unwrap())
}

fn key(text: &str) -> Key {
    Key::all(text.parse().unwrap())
}

fn port_key(text: &str, ports: &[u16]) -> Key {
    Key { ports: Ports::only(ports.iter().copied()).unwrap(), ..key(text) }
}

fn block(key: Key, seconds: Option<u64>) -> Step {
    Step::Block(Entry { key, until: seconds.map_or(Until::Forever, |s| Until::At(now().plus(Span::secs(s)))) })
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

fn wanted(frame: Frame, keys: &[Key]) -> Wanted {
    let bans: BTreeMap<_, _> = keys.iter().map(|key| (key.clone(), Until::Forever)).collect();
    Wanted { frame, bans }
}

#[track_caller]
fn did(wall: &mut dyn Blocker, steps: &[Step]) {
    let report = wall.apply(steps, now());
    assert!(report.ok() && report.done == steps.len(), "{report:?}");
}

#[track_caller]
fn replaced(wall: &mut dyn Blocker, frame: &Frame, entries: &mut dyn Iterator<Item = Entry>) {
    let report = wall.replace(frame, entries, now()).unwrap();
    assert!(report.ok(), "{report:?}");
}

/// A full reading is exactly this: the next plan is empty.
#[track_caller]
fn holds(wall: &mut dyn Blocker, wanted: &Wanted) {
    let found = wall.read(Read::All).unwrap();
    let next = plan(&found, wanted, &wall.limits(), now());
    assert_eq!(next.steps, [], "found {found:?}");
    assert_eq!(next.unchanged, wanted.bans.len());
    let asked: Vec<Key> = wanted.bans.keys().cloned().collect();
    let by_key = wall.read(Read::Keys(&asked)).unwrap();
    assert_eq!(by_key.bans.into_keys().collect::<Vec<_>>(), asked, "by key");
    assert_eq!(wall.read(Read::Frame).unwrap().frame.as_ref(), Some(&wanted.frame));
}
