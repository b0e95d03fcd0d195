//! What a million bans cost. Run alone: `cargo test -p palisade --release --lib store::tests::many -- --ignored --nocapture`.

use std::fs;
use std::time::Instant;

use palisade_core::event::Record;
use palisade_core::time::Span;

use super::super::Keep;
use super::*;

/// The most memory this process had since the last reset, in KiB (proc_pid_status(5), VmHWM).
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[ignore = "a measurement: some 100 MiB of disk and a minute in a debug build"]
fn a_million_bans() {
    let (dir, mut store) = fresh();
    let start = Instant::now();
    for batch in 0..100u32 {
        let records: Vec<Record> = (0..10_000u32)
            .map(|n| {
                // Spread over the address space, as attackers are.
                let mut one = ban("::/0", i64::MAX);
                one.key.prefix = Prefix::host(Addr::from(std::net::Ipv4Addr::from_bits((batch * 10_000 + n).wrapping_mul(2_654_435_761))));
                Record::Ban(one)
            })
            .collect();
        store.write(&records).unwrap();
    }
    eprintln!("written in {:?}, peak {} KiB", start.elapsed(), peak());
    drop(store);
    eprintln!("file: {} MiB", fs::metadata(dir.path().join(super::super::FILE)).unwrap().len() >> 20);

    let start = Instant::now();
    let (store, opening) = Store::open(dir.path()).unwrap();
    assert_eq!(opening, Opening::Known);
    eprintln!("opened and checked in {:?}", start.elapsed());

    // "5" resets the peak (proc_pid_clear_refs(5)).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let start = Instant::now();
    let mut entries = 0;
    let mut take = |batch: Vec<_>| {
        entries += batch.len();
        ControlFlow::Continue(())
    };
    store.entries(Stamp(0), 65_536, &mut take).unwrap();
    eprintln!("{entries} entries streamed in {:?}, peak {} KiB", start.elapsed(), peak());
    assert_eq!(entries, 1_000_000);
    assert!(peak() < 20 << 10, "{} KiB", peak());

    let start = Instant::now();
    let found = store.overlapping(&p("2001:db8::/64")).unwrap().len() + store.overlapping(&p("198.51.100.0/24")).unwrap().len();
    eprintln!("two overlaps ({found} bans) in {:?}", start.elapsed());
    drop(store);

    fs::write("/proc/self/clear_refs", "5").unwrap();
    let (mut store, _) = Store::open(dir.path()).unwrap();
    let start = Instant::now();
    store.write(&[Record::Shift(1000)]).unwrap();
    eprintln!("shifted in {:?}, peak {} KiB", start.elapsed(), peak());
    assert!(peak() < 40 << 10, "{} KiB", peak());
    let mut times: Vec<_> = (0..200u32)
        .map(|n| {
            let start = Instant::now();
            store.write(&[Record::Ban(ban(&format!("2001:db8:{n:x}::/64"), 1))]).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    eprintln!("one ban more: p50 {:?}, p99 {:?}", times[100], times[198]);
    let start = Instant::now();
    let tidied = store.tidy(Stamp(2000), Keep { failures: Span::ZERO, sentences: Span::ZERO }).unwrap();
    eprintln!("{tidied:?} in {:?}", start.elapsed());
}
