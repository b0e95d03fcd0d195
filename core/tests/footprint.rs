//! How much memory the big tables take, measured on the process itself. Ignored by default, for
//! they need a process of their own: `cargo test -p palisade-core --test footprint -- --ignored --test-threads 1`.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "reads its own memory's size")]
#![expect(clippy::print_stdout, reason = "the measurement is the result")]
#![expect(clippy::unwrap_used, reason = "a test: what is not there is a failure")]
#![expect(clippy::cast_possible_truncation, reason = "counts of a few hundred thousand")]

use std::net::{Ipv4Addr, Ipv6Addr};

use palisade_core::allow::AllowList;
use palisade_core::attack::JailName;
use palisade_core::bans::ban::Origin;
use palisade_core::bans::table::{BanTable, NewBan};
use palisade_core::judge::policy::Policy;
use palisade_core::judge::sentence::{Past, Sentence};
use palisade_core::judge::{Heard, Judge};
use palisade_core::net::{Addr, Prefix};
use palisade_core::ports::Ports;
use palisade_core::time::{Stamp, Until};

/// Resident bytes of this process (proc(5), `VmRSS` in kB).
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// The n-th of many sources, half of them IPv6, in no order.
fn source(n: u32) -> Prefix {
    let mixed = n.wrapping_mul(2_654_435_761);
    if n.is_multiple_of(2) {
        Prefix::host(Addr::from(Ipv4Addr::from_bits(mixed | 0x8000_0000)))
    } else {
        Prefix::host(Addr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(mixed) << 64))).widen(64)
    }
}

/// Runs `build` for `n` things and prints what each takes.
fn measure<T>(what: &str, n: usize, build: impl FnOnce() -> T) -> usize {
    let before = resident();
    let built = build();
    let each = resident().saturating_sub(before) / n;
    println!("{what}: {n} of them, {each} bytes each");
    drop(built);
    each
}

#[test]
#[ignore = "measures the whole process"]
fn a_tracked_source_is_small() {
    let (policy, jail) = (Policy::default(), JailName::from("sshd"));
    let n = 262_144;
    let each = measure("tracked source", n, || {
        let mut judge = Judge::new(n);
        for source in (0..n as u32).map(source) {
            let heard = judge.hear(&jail, &policy, source, 10, Stamp(1_795_366_800_000));
            assert!(matches!(heard, Heard::Watch { score: 10, .. }));
        }
        for twice in (0..n as u32 / 2).map(source) {
            let _ = judge.hear(&jail, &policy, twice, 10, Stamp(1_795_366_801_000));
        }
        assert_eq!((judge.len(), judge.evicted()), (n, 0));
        judge
    });
    assert!(each <= 136, "{each}");
}

#[test]
#[ignore = "measures the whole process"]
fn a_ban_is_small() {
    let allow = AllowList::new();
    let n = 100_000;
    let each = measure("ban", n, || {
        let mut table = BanTable::new(n);
        for at in 0..n as u32 {
            let since = Stamp(1_795_366_800_000 + i64::from(at));
            let new = NewBan {
                who: allow.bannable(source(at), since).unwrap(),
                ports: Ports::All,
                since,
                until: Until::At(Stamp(since.0 + 600_000)),
                origin: Origin::Jail("sshd".into()),
                reason: format!("5 failures of sshd in {}s", at % 600).into(),
                offences: 1,
            };
            let _ = table.ban(new).unwrap();
        }
        assert_eq!(table.len(), n);
        table
    });
    assert!(each <= 256, "{each}");
}

#[test]
#[ignore = "measures the whole process"]
fn a_sentence_is_small() {
    let n = 100_000;
    let each = measure("sentence", n, || {
        let mut past = Past::new(n);
        for at in 0..n as u32 {
            let started = Stamp(1_795_366_800_000 + i64::from(at));
            past.add(Sentence { prefix: source(at), started, ends: Until::At(Stamp(started.0 + 600_000)) });
        }
        past
    });
    assert!(each <= 192, "{each}");
}
