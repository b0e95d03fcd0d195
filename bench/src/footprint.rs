//! What the daemon weighs.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::guards::{Place, jail};
use crate::lab::{Lab, Netns, scattered};
use crate::line_to_drop::auth_line;
use crate::process::memory;
use crate::report::{Line, Table};
use crate::stats::{grouped, mib};
use crate::{Bench, bans};

const BANS: u32 = 100_000;
/// The default limit: more sources than that are not remembered at once.
const SOURCES: u32 = 262_144;
/// So long it is left alone before it is weighed.
const REST: Duration = Duration::from_secs(3);
/// Reading the lines takes seconds; this long means something is wrong.
const COUNTED_WITHIN: Duration = Duration::from_secs(240);

pub(crate) fn run(bench: &Bench) -> Result<Table> {
    let weights = [
        ("nothing".to_owned(), weigh(bench, "idle", 0, 0)?),
        (format!("{} bans", grouped(BANS.into())), weigh(bench, "bans", BANS, 0)?),
        (format!("{} tracked sources", grouped(SOURCES.into())), weigh(bench, "sources", 0, SOURCES)?),
        ("both".to_owned(), weigh(bench, "both", BANS, SOURCES)?),
    ];
    let aims = weights
        .iter()
        .skip(1)
        .flat_map(|(what, (_, peak))| {
            [64, 128].map(|limit| {
                Line::aim(
                    &format!("{what}: {limit} MiB{}", if limit == 64 { "" } else { " at the most" }),
                    &mib(*peak),
                    *peak < limit * 1024,
                )
            })
        })
        .collect();
    let rows = weights.iter().map(|(what, (now, peak))| vec![what.clone(), mib(*now), mib(*peak)]).collect();
    Ok(Table { id: "footprint", head: &["the daemon holds", "resident", "peak"], rows, aims })
}

/// Resident now and at the peak, in KiB.
fn weigh(bench: &Bench, name: &str, bans: u32, sources: u32) -> Result<(u64, u64)> {
    let dir = bench.scratch.join(format!("footprint-{name}"));
    fs::create_dir_all(&dir)?;
    let log = dir.join("auth.log");
    File::create(&log)?;
    let place = Place::new(&bench.palisade, &dir, &jail(&log, 5))?;
    bans::store(&place.state(), bans)?;
    let lab = Lab::build()?;
    let ns: &Netns = &lab.victim;
    let mut running = place.run(ns)?;
    place.wait(&mut running)?;
    let standing = place.status()?.bans;
    ensure!(standing == bans as usize, "{standing} bans stand");
    // Watching begins a moment after the daemon answers; one line shows it.
    let mut lines = BufWriter::new(File::options().append(true).open(&log)?);
    for n in 0..sources {
        // Beyond the banned ones: those are banned already.
        lines.write_all(auth_line(scattered(BANS + n))?.as_bytes())?;
    }
    lines.flush()?;
    let began = Instant::now();
    while place.status()?.tracked < sources as usize {
        running.must_live()?;
        if began.elapsed() > COUNTED_WITHIN {
            bail!("only {} of {sources} sources are tracked", place.status()?.tracked);
        }
        thread::sleep(Duration::from_millis(200));
    }
    thread::sleep(REST);
    let weight = memory(running.id())?;
    bench.say(&format!(
        "{name}: {} resident, {} at the peak, {:.1} s for the lines",
        mib(weight.0),
        mib(weight.1),
        began.elapsed().as_secs_f64()
    ));
    drop(running);
    fs::remove_dir_all(&dir)?;
    Ok(weight)
}
