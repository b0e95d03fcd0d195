//! One more ban when 100,000 stand.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use palisade::serve::client::Client;
use palisade_core::bans::ban::Origin;
use palisade_core::control::{BanOutcome, Reply, Request};

use crate::guards::{Place, jail};
use crate::lab::{Netns, scattered};
use crate::process::{Running, clock, measure};
use crate::report::{Line, Table};
use crate::stats::{Samples, ratio, time};
use crate::{Bench, bans};

const STANDING: u32 = 100_000;
/// How many bans are added in each way.
const MORE: u32 = 200;
/// A way that takes long takes part only in each tenth round.
const LONG: Duration = Duration::from_millis(100);

/// One way of banning one address more.
struct Way {
    name: &'static str,
    ban: Box<dyn FnMut(u32) -> Result<Duration>>,
    samples: Samples,
}

pub(crate) fn run(bench: &Bench) -> Result<Table> {
    let dir = bench.scratch.join("one-more");
    let daemon = Daemon::start(bench, &dir.join("daemon"), "")?;
    let quiet = Daemon::start(bench, &dir.join("quiet"), "[ban]\nkill_states = false\n")?;
    let mut ways = vec![
        asking("palisade, asked over its socket", &daemon)?,
        asking("the same with `kill_states = false`", &quiet)?,
        daemon.command("`palisade ban`, through the daemon"),
        alone(bench, &dir.join("alone"))?,
        nft(&dir)?,
        ipset(&dir)?,
    ];
    for n in 0..MORE {
        for (at, way) in ways.iter_mut().enumerate() {
            if n % 10 > 0 && way.samples.median() > LONG.as_secs_f64() {
                continue;
            }
            // Ways share a wall; no two may ban the same address.
            let took = (way.ban)(STANDING + n * 8 + u32::try_from(at)?).with_context(|| way.name)?;
            way.samples.push(took);
        }
    }
    let table = table(&ways);
    // Connections and namespaces first, then the daemons, then their files.
    drop(ways);
    drop((daemon, quiet));
    fs::remove_dir_all(&dir)?;
    Ok(table)
}

fn table(ways: &[Way]) -> Table {
    let ours = ways[0].samples.median();
    let row = |way: &Way| {
        let mut row = vec![way.name.to_owned(), way.samples.len().to_string()];
        row.extend([0.5, 0.99, 1.0].map(|share| time(way.samples.at(share))));
        row.push(ratio(way.samples.median(), ours));
        row
    };
    let nft = ways[4].samples.median();
    Table {
        id: "one-more",
        head: &["", "bans", "p50", "p99", "max", "p50 to the first"],
        rows: ways.iter().map(row).collect(),
        aims: vec![Line::aim("through the daemon 100 times faster than `nft add element` (p50)", &ratio(nft, ours), nft >= 100.0 * ours)],
    }
}

/// A daemon with so many bans.
struct Daemon {
    place: Place,
    ns: std::sync::Arc<Netns>,
    _running: Running,
}

impl Daemon {
    fn start(bench: &Bench, dir: &std::path::Path, config: &str) -> Result<Self> {
        let place = Place::new(&bench.palisade, dir, &format!("{config}{}", jail(&dir.join("auth.log"), 5)))?;
        bans::store(&place.state(), STANDING)?;
        let ns = Netns::fresh()?;
        let mut running = place.run(&ns)?;
        place.wait(&mut running)?;
        let standing = place.status()?.bans;
        ensure!(standing == STANDING as usize, "{standing} bans stand");
        Ok(Self { place, ns: ns.into(), _running: running })
    }

    fn command(&self, name: &'static str) -> Way {
        let (args, ns) = (self.place.args(&["ban"]), std::sync::Arc::clone(&self.ns));
        Way { name, ban: Box::new(move |n| command(&ns, &args, scattered(n))), samples: Samples::default() }
    }
}

fn asking(name: &'static str, daemon: &Daemon) -> Result<Way> {
    let mut client = daemon.place.client()?;
    Ok(Way { name, ban: Box::new(move |n| asked(&mut client, n)), samples: Samples::default() })
}

fn asked(client: &mut Client, n: u32) -> Result<Duration> {
    let request = Request::Ban {
        prefixes: vec![bans::host(n)],
        term: None,
        reason: "bench".to_owned(),
        force: false,
        origin: Origin::Manual,
        asker: None,
    };
    let began = Instant::now();
    let reply = client.ask(&request)?;
    let took = began.elapsed();
    match reply {
        Reply::Bans { results, .. } if results.iter().all(|result| matches!(result.what, BanOutcome::Banned { .. })) => Ok(took),
        other => bail!("it was answered: {other:?}"),
    }
}

fn alone(bench: &Bench, dir: &std::path::Path) -> Result<Way> {
    let place = Place::new(&bench.palisade, dir, "")?;
    bans::store(&place.state(), STANDING)?;
    let ns = Netns::fresh()?;
    let restore = place.args(&["restore"]);
    let restore: Vec<&str> = restore.iter().map(String::as_str).collect();
    ns.within(|| measure(&restore, Stdio::null()))?;
    let args = place.args(&["ban"]);
    Ok(Way {
        name: "`palisade ban` alone, no daemon",
        ban: Box::new(move |n| command(&ns, &args, scattered(n))),
        samples: Samples::default(),
    })
}

fn nft(dir: &std::path::Path) -> Result<Way> {
    let (ns, file) = (Netns::fresh()?, dir.join("bans.nft"));
    bans::nft(&file, STANDING)?;
    ns.feed("nft", &["-f", &file.display().to_string()], "")?;
    let args = ["nft", "add", "element", "inet", "bench", "banned"].map(str::to_owned).to_vec();
    let ban = move |n| {
        let mut args = args.clone();
        args.push(format!("{{ {} timeout 1d }}", scattered(n)));
        spawned(&ns, &args)
    };
    Ok(Way { name: "`nft add element`", ban: Box::new(ban), samples: Samples::default() })
}

fn ipset(dir: &std::path::Path) -> Result<Way> {
    let (ns, file) = (Netns::fresh()?, dir.join("bans.ipset"));
    bans::ipset(&file, STANDING)?;
    ns.feed("ipset", &["restore", "-file", &file.display().to_string()], "")?;
    let args = ["ipset", "add", "banned"].map(str::to_owned).to_vec();
    Ok(Way { name: "`ipset add`", ban: Box::new(move |n| command(&ns, &args, scattered(n))), samples: Samples::default() })
}

/// `args ADDR` as a process.
fn command(ns: &Netns, args: &[String], addr: Ipv4Addr) -> Result<Duration> {
    let mut args = args.to_vec();
    args.push(addr.to_string());
    spawned(ns, &args)
}

fn spawned(ns: &Netns, args: &[String]) -> Result<Duration> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (program, rest) = args.split_first().context("no program")?;
    let (took, status) = ns.within(|| clock(program, rest))?;
    ensure!(status.success(), "{}: {status}", args.join(" "));
    Ok(took)
}
