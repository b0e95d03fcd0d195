//! A large feed: followed for the first time, looked at again, and a hundredth of it changed; beside the way without
//! us, a set that is filled anew and swapped in each time.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::guards::Place;
use crate::lab::{Netns, scattered};
use crate::process::measure;
use crate::report::{Line, Table};
use crate::stats::{Samples, grouped, mib, ratio, time};

const MEMBERS: u32 = 500_000;
/// How many are others after a day.
const CHANGED: u32 = MEMBERS / 100;

const WAYS: [&str; 6] = [
    "`palisade feed refresh`, into an empty kernel",
    "`palisade feed refresh`, nothing new",
    "`palisade feed refresh`, 1 % new and 1 % gone",
    "`ipset restore`, into an empty kernel",
    "`ipset restore` beside the former and swapped, 1 % new and 1 % gone",
    "`palisade feed list`",
];

pub(crate) fn run(bench: &Bench) -> Result<Table> {
    let dir = bench.scratch.join("feed");
    let mut outcomes = WAYS.map(|_| (Samples::default(), 0));
    for round in 0..bench.rounds {
        let home = dir.join(round.to_string());
        let list = home.join("list");
        let config = format!("[ban]\nbackend = \"nftables\"\n[feed.bench]\npath = \"{}\"\n", list.display());
        let place = Place::new(&bench.palisade, &home, &config)?;
        let [first, second] = ["first", "second"].map(|name| home.join(name));
        plain(&first, 0)?;
        plain(&second, CHANGED)?;
        let (filled, swapped) = (home.join("filled"), home.join("swapped"));
        ipset(&filled, 0, false)?;
        ipset(&swapped, CHANGED, true)?;
        let (ours, theirs) = (Netns::fresh()?, Netns::fresh()?);
        let refresh = place.args(&["feed", "refresh"]);
        let restore = |file: &Path| ["ipset", "restore", "-file", &file.display().to_string()].map(str::to_owned).to_vec();
        fs::copy(&first, &list)?;
        one(bench, &mut outcomes, 0, &ours, &refresh, &format!("bench: {MEMBERS} members, {MEMBERS} new"))?;
        one(bench, &mut outcomes, 1, &ours, &refresh, "unchanged")?;
        fs::rename(&second, &list)?;
        one(bench, &mut outcomes, 2, &ours, &refresh, &format!("{CHANGED} new, {CHANGED} gone"))?;
        one(bench, &mut outcomes, 5, &ours, &place.args(&["feed", "list"]), "bench")?;
        one(bench, &mut outcomes, 3, &theirs, &restore(&filled), "")?;
        one(bench, &mut outcomes, 4, &theirs, &restore(&swapped), "")?;
        fs::remove_dir_all(&home)?;
    }
    let at = |way: usize| outcomes[way].0.at(0.0);
    let rows = WAYS.iter().zip(&outcomes).map(|(way, (samples, peak))| {
        let rival = if way.starts_with("`ipset") {
            ratio(samples.at(0.0), at(if way.contains("swapped") { 2 } else { 0 }))
        } else {
            "-".to_owned()
        };
        vec![(*way).to_owned(), time(samples.at(0.0)), time(samples.median()), time(samples.max()), rival, mib(*peak)]
    });
    let aims = vec![
        Line::aim("a look that finds nothing new within a second", &time(at(1)), at(1) < 1.0),
        Line::aim("a day's changes within two seconds", &time(at(2)), at(2) < 2.0),
    ];
    Ok(Table {
        id: "feed",
        head: &["500,000 members", "fastest", "median", "slowest", "fastest to ours", "peak memory"],
        rows: rows.collect(),
        aims,
    })
}

fn one(bench: &Bench, outcomes: &mut [(Samples, u64); 6], way: usize, ns: &Netns, args: &[String], must: &str) -> Result<()> {
    let told = bench.scratch.join("feed/told");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = File::create(&told)?;
    let cost = ns.within(|| measure(&args, Stdio::from(output)))?;
    bench.say(&format!("{}: {}, {}", WAYS[way], time(cost.wall.as_secs_f64()), mib(cost.peak_kib)));
    let said = fs::read_to_string(&told)?;
    ensure!(said.contains(must), "{}: it said {said}", WAYS[way]);
    outcomes[way].0.push(cost.wall);
    outcomes[way].1 = outcomes[way].1.max(cost.peak_kib);
    Ok(())
}

/// A list of hosts, from the `skip`-th of our addresses on.
fn plain(file: &Path, skip: u32) -> Result<()> {
    let mut out = BufWriter::new(File::create(file).with_context(|| file.display().to_string())?);
    writeln!(out, "# {} hosts", grouped(MEMBERS.into()))?;
    for n in skip..skip + MEMBERS {
        writeln!(out, "{}", scattered(n))?;
    }
    Ok(out.flush()?)
}

/// The same for `ipset restore`: a set, or one that is swapped with that.
fn ipset(file: &Path, skip: u32, swap: bool) -> Result<()> {
    let name = if swap { "fresh" } else { "banned" };
    let mut out = BufWriter::new(File::create(file)?);
    writeln!(out, "create {name} hash:net family inet hashsize 262144 maxelem {}", MEMBERS * 2)?;
    for n in skip..skip + MEMBERS {
        writeln!(out, "add {name} {}", scattered(n))?;
    }
    if swap {
        writeln!(out, "swap fresh banned\ndestroy fresh")?;
    }
    Ok(out.flush()?)
}
