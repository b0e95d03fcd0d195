//! A large feed, as a running daemon follows it: for the first time, looked at again, and a hundredth of it changed;
//! beside the way without us, a set that is filled anew and swapped in each time.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::guards::{Place, jail};
use crate::lab::{Netns, scattered};
use crate::process::{measure, memory};
use crate::report::{Line, Table};
use crate::stats::{Samples, grouped, mib, ratio, time};

const MEMBERS: u32 = 500_000;
/// How many are others after a day.
const CHANGED: u32 = MEMBERS / 100;

const WAYS: [&str; 5] = [
    "`palisade feed refresh`, none of them known",
    "`palisade feed refresh`, a new file with the same",
    "`palisade feed refresh`, 1 % new and 1 % gone",
    "`ipset restore`, into an empty kernel",
    "`ipset restore` beside the former and swapped, 1 % new and 1 % gone",
];

pub(crate) fn run(bench: &Bench) -> Result<Table> {
    let dir = bench.scratch.join("feed");
    let mut outcomes = WAYS.map(|_| Samples::default());
    let (mut resident, mut peak) = (0, 0);
    for round in 0..bench.rounds {
        let home = dir.join(round.to_string());
        let list = home.join("list");
        let config =
            format!("{}[ban]\nbackend = \"nftables\"\n[feed.bench]\npath = \"{}\"\n", jail(&home.join("auth.log"), 5), list.display());
        let place = Place::new(&bench.palisade, &home, &config)?;
        let names = ["first", "again", "changed", "filled", "swapped"].map(|name| home.join(name));
        let [first, again, changed, filled, swapped] = &names;
        plain(first, 0)?;
        plain(again, 0)?;
        plain(changed, CHANGED)?;
        ipset(filled, 0, false)?;
        ipset(swapped, CHANGED, true)?;
        let (ours, theirs) = (Netns::fresh()?, Netns::fresh()?);
        let mut daemon = place.run(&ours)?;
        place.wait(&mut daemon)?;
        let refresh = place.args(&["feed", "refresh"]);
        let told = [format!("{MEMBERS} members, {MEMBERS} new"), "unchanged".to_owned(), format!("{CHANGED} new, {CHANGED} gone")];
        for (way, (file, told)) in [first, again, changed].into_iter().zip(&told).enumerate() {
            fs::rename(file, &list)?;
            one(bench, &mut outcomes, way, &ours, &refresh, told)?;
        }
        daemon.must_live()?;
        let (now, most) = memory(daemon.id())?;
        (resident, peak) = (now.max(resident), most.max(peak));
        drop(daemon);
        for (way, file) in [(3, filled), (4, swapped)] {
            let restore = ["ipset", "restore", "-file", &file.display().to_string()].map(str::to_owned);
            one(bench, &mut outcomes, way, &theirs, &restore, "")?;
        }
        fs::remove_dir_all(&home)?;
    }
    let at = |way: usize| outcomes[way].at(0.0);
    let rows = WAYS.iter().zip(&outcomes).map(|(way, samples)| {
        let rival = if way.starts_with("`ipset") {
            ratio(samples.at(0.0), at(if way.contains("swapped") { 2 } else { 0 }))
        } else {
            "-".to_owned()
        };
        vec![(*way).to_owned(), time(samples.at(0.0)), time(samples.median()), time(samples.max()), rival]
    });
    let aims = vec![
        Line::aim("a look that finds nothing new within a second", &time(at(1)), at(1) < 1.0),
        Line::aim("a day's changes within two seconds", &time(at(2)), at(2) < 2.0),
        Line::aim(
            "the daemon's peak under half of what its unit allows, 256 MiB",
            &format!("{} (then {})", mib(peak), mib(resident)),
            peak < 256 * 1024,
        ),
    ];
    Ok(Table { id: "feed", head: &["500,000 members", "fastest", "median", "slowest", "fastest to ours"], rows: rows.collect(), aims })
}

fn one(bench: &Bench, outcomes: &mut [Samples; 5], way: usize, ns: &Netns, args: &[String], must: &str) -> Result<()> {
    let told = bench.scratch.join("feed/told");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = File::create(&told)?;
    let cost = ns.within(|| measure(&args, Stdio::from(output)))?;
    bench.say(&format!("{}: {}", WAYS[way], time(cost.wall.as_secs_f64())));
    let said = fs::read_to_string(&told)?;
    ensure!(said.contains(must), "{}: it said {said}", WAYS[way]);
    outcomes[way].push(cost.wall);
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
