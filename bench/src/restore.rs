//! All bans back into an empty kernel, as at boot: the whole process, and its peak memory.

use std::fs::{self, File};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guards::Place;
use crate::lab::Netns;
use crate::process::measure;
use crate::report::{Line, Table};
use crate::stats::{Samples, grouped, mib, ratio, time};
use crate::{Bench, bans};

const SIZES: [u32; 2] = [20_000, 1_000_000];
const WAYS: [&str; 3] = ["palisade restore", "nft -f", "ipset restore"];

/// Time and peak of one way with one number of bans.
#[derive(Clone, Debug, Default)]
struct Outcome {
    wall: Samples,
    cpu: Samples,
    peak_kib: u64,
}

pub(crate) fn run(bench: &Bench) -> Result<Table> {
    let mut rows = Vec::new();
    let mut aims = Vec::new();
    for count in SIZES {
        let outcomes = of(bench, count)?;
        let ours = outcomes[0].wall.at(0.0);
        for (way, outcome) in WAYS.iter().zip(&outcomes) {
            let wall = &outcome.wall;
            let times = [wall.at(0.0), wall.median(), wall.max()].map(time);
            let mut row = vec![grouped(count.into()), format!("`{way}`")];
            row.extend(times);
            row.extend([
                ratio(wall.at(0.0), ours),
                time(outcome.cpu.at(0.0)),
                ratio(outcome.cpu.at(0.0), outcomes[0].cpu.at(0.0)),
                mib(outcome.peak_kib),
            ]);
            rows.push(row);
        }
        let [palisade, nft, ipset] = &outcomes;
        let told = grouped(count.into());
        let times = |rival: &Outcome, factor: f64| (ratio(rival.wall.at(0.0), ours), rival.wall.at(0.0) >= factor * ours);
        let (by, met) = times(ipset, 3.0);
        aims.push(Line::aim(&format!("{told}: 3 times faster than ipset restore"), &by, met));
        let (by, met) = times(nft, 5.0);
        aims.push(Line::aim(&format!("{told}: 5 times faster than nft -f"), &by, met));
        aims.push(Line::aim(&format!("{told}: peak under 64 MiB"), &mib(palisade.peak_kib), palisade.peak_kib < 64 * 1024));
    }
    Ok(Table {
        id: "restore",
        head: &["bans", "", "fastest", "median", "slowest", "fastest to ours", "least CPU", "CPU to ours", "peak memory"],
        rows,
        aims,
    })
}

fn of(bench: &Bench, count: u32) -> Result<[Outcome; 3]> {
    let dir = bench.scratch.join(format!("restore-{count}"));
    let place = Place::new(&bench.palisade, &dir, "")?;
    let (nft, ipset, told) = (dir.join("bans.nft"), dir.join("bans.ipset"), dir.join("told"));
    bans::store(&place.state(), count)?;
    bans::nft(&nft, count)?;
    bans::ipset(&ipset, count)?;
    let text = |path: &std::path::Path| path.display().to_string();
    let commands = [
        place.args(&["restore"]),
        ["nft", "-f", &text(&nft)].map(str::to_owned).to_vec(),
        ["ipset", "restore", "-file", &text(&ipset)].map(str::to_owned).to_vec(),
    ];
    let mut outcomes = WAYS.map(|_| Outcome::default());
    for _ in 0..bench.rounds {
        for (at, (command, outcome)) in commands.iter().zip(&mut outcomes).enumerate() {
            let args: Vec<&str> = command.iter().map(String::as_str).collect();
            let before = kernel_kib()?;
            let ns = Netns::fresh()?;
            let output = File::create(&told)?;
            let cost = ns.within(|| measure(&args, Stdio::from(output)))?;
            outcome.wall.push(cost.wall);
            outcome.cpu.push(cost.cpu);
            outcome.peak_kib = outcome.peak_kib.max(cost.peak_kib);
            bench.say(&format!(
                "{} {}: {} (CPU {}), {}",
                grouped(count.into()),
                WAYS[at],
                time(cost.wall.as_secs_f64()),
                time(cost.cpu.as_secs_f64()),
                mib(cost.peak_kib)
            ));
            all_there(&ns, at, count, &fs::read_to_string(&told)?).with_context(|| WAYS[at])?;
            drop(ns);
            settle(before)?;
        }
    }
    fs::remove_dir_all(&dir)?;
    Ok(outcomes)
}

/// The kernel frees a namespace's sets behind our back, for seconds; the next way shall not pay for
/// it. Waits until the kernel's memory is nearly what it was, or a minute: others' work moves it too.
fn settle(before: u64) -> Result<()> {
    let began = Instant::now();
    while kernel_kib()? > before + 16 * 1024 && began.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(100));
    }
    thread::sleep(Duration::from_millis(500));
    Ok(())
}

/// What the kernel holds in slabs that cannot be reclaimed and in per-CPU memory (where nftables keeps counters), in KiB.
fn kernel_kib() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let field =
        |line: &str| line.strip_prefix("SUnreclaim:").or(line.strip_prefix("Percpu:"))?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
    Ok(text.lines().filter_map(field).sum())
}

/// Asks the kernel how many bans stand, where it answers soon: nft needs half a minute to list a million.
fn all_there(ns: &Netns, way: usize, count: u32, told: &str) -> Result<()> {
    let found = match way {
        2 => {
            let list = ns.ask("ipset", &["list", "-terse"])?;
            list.lines().find_map(|line| line.strip_prefix("Number of entries: ")).context("no set")?.trim().parse()?
        }
        _ if count <= 20_000 => ns.ask("nft", &["list", "ruleset"])?.matches(" expires ").count(),
        0 => told.split(' ').next().unwrap_or_default().parse()?,
        _ => return Ok(()),
    };
    ensure!(found == count as usize, "{found} of {count} bans stand");
    Ok(())
}
