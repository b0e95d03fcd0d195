//! Tables in: how fast each format is read, and how long it takes until a million rows stand.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::Bench;
use crate::guards::Place;
use crate::lab::{Netns, scattered};
use crate::process::measure;
use crate::report::{Line, Table};
use crate::stats::{Samples, grouped, mib, ratio, time};

/// So many rows each table has.
const ROWS: u32 = 1_000_000;

/// So many lines a second each format is to be read at.
const AIM: f64 = 500_000.0;

/// What a table is like: the format, what its rows are, and how one is written.
type Shape = (&'static str, &'static str, fn(&mut BufWriter<File>, u32) -> Result<()>);

const SHAPES: [Shape; 9] = [
    ("ban-hammer", "`ADDR=SECONDS`", |out, n| Ok(writeln!(out, "{}={END}", scattered(n))?)),
    ("plain", "`ADDR`", |out, n| Ok(writeln!(out, "{}", scattered(n))?)),
    ("netset", "`ADDR` and `ADDR/LEN`", |out, n| match n % 4 {
        0 => Ok(writeln!(out, "{}/30", scattered(n))?),
        _ => Ok(writeln!(out, "{}", scattered(n))?),
    }),
    ("csv", "seven columns", |out, n| {
        if n == 0 {
            writeln!(out, "prefix,since,until,origin,reason,offences,ports")?;
        }
        Ok(writeln!(out, "{}/32,2026-11-22T17:00:00Z,2096-11-22T17:00:00Z,jail:sshd,\"5 failures of sshd in 10s\",1,", scattered(n))?)
    }),
    ("json", "an object a line", |out, n| {
        let rest = r#""since":"2026-11-22T17:00:00Z","until":"2096-11-22T17:00:00Z","origin":"jail:sshd","reason":"5 failures of sshd in 10s","offences":1"#;
        Ok(writeln!(out, "{{\"prefix\":\"{}/32\",{rest}}}", scattered(n))?)
    }),
    ("sshguard", "`TIME\\|SERVICE\\|4\\|ADDR`", |out, n| Ok(writeln!(out, "1795366800|100|4|{}", scattered(n))?)),
    ("crowdsec", "JSON, a decision an object", |out, n| {
        let first = if n == 0 { "[" } else { "," };
        let rest = r#""duration":"167h59m12.5s","origin":"crowdsec","scenario":"crowdsecurity/ssh-bf","scope":"Ip","simulated":false,"type":"ban""#;
        writeln!(out, "{first}{{\"id\":{n},{rest},\"value\":\"{}\"}}", scattered(n))?;
        if n + 1 == ROWS { Ok(writeln!(out, "]")?) } else { Ok(()) }
    }),
    ("crowdsec", "CSV", |out, n| {
        if n == 0 {
            writeln!(out, "duration,reason,scope,type,value")?;
        }
        Ok(writeln!(out, "167h,crowdsecurity/ssh-bf,ip,ban,{}", scattered(n))?)
    }),
    ("drop-json", "an object a line", |out, n| {
        Ok(writeln!(out, "{{\"cidr\":\"{}/32\",\"sblid\":\"SBL{n}\",\"rir\":\"arin\"}}", scattered(n))?)
    }),
];

/// An end that no run of this will see.
const END: u64 = 4_000_000_000;

pub(crate) fn run(bench: &Bench) -> Result<Table> {
    let dir = bench.scratch.join("tables");
    fs::create_dir_all(&dir)?;
    let mut rows = Vec::new();
    let mut aims = Vec::new();
    for (format, what, line) in SHAPES {
        let file = dir.join("table");
        write(&file, line)?;
        let (wall, cpu, peak) = read(bench, &dir, format, &file)?;
        let speed = f64::from(ROWS) / wall.median();
        aims.push(Line::aim(&format!("{format}, {what}: 500,000 lines a second"), &rounded(speed), speed >= AIM));
        rows.push(row(&format!("`import {format} --dry-run`, {what}"), &wall, &cpu, peak));
    }
    write(&dir.join("table"), SHAPES[0].2)?;
    for (name, served) in [("`import ban-hammer`, no daemon", false), ("`import ban-hammer`, through the daemon", true)] {
        let (wall, cpu, peak) = whole(bench, &dir, served)?;
        rows.push(row(name, &wall, &cpu, peak));
    }
    fs::remove_dir_all(&dir)?;
    Ok(Table { id: "tables", head: &["1,000,000 rows", "wall, median", "CPU, median", "rows a second", "peak memory"], rows, aims })
}

fn row(name: &str, wall: &Samples, cpu: &Samples, peak: u64) -> Vec<String> {
    vec![name.to_owned(), time(wall.median()), time(cpu.median()), rounded(f64::from(ROWS) / wall.median()), mib(peak)]
}

fn rounded(speed: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "lines a second")]
    grouped(speed as u64)
}

fn write(file: &Path, line: fn(&mut BufWriter<File>, u32) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    (0..ROWS).try_for_each(|n| line(&mut out, n))?;
    Ok(out.flush()?)
}

/// Whole processes that read a table and change nothing.
fn read(bench: &Bench, dir: &Path, format: &str, file: &Path) -> Result<(Samples, Samples, u64)> {
    let place = Place::new(&bench.palisade, &dir.join("dry"), "[limits]\nbans = 2000000\n")?;
    let args = place.args(&["import", format, "--dry-run", &file.display().to_string()]);
    let ns = Netns::fresh()?;
    many(bench, format, || ns.within(|| cost(&args)))
}

/// Whole processes after which all rows stand and are kept, in a fresh namespace and store each.
fn whole(bench: &Bench, dir: &Path, served: bool) -> Result<(Samples, Samples, u64)> {
    let name = if served { "served" } else { "alone" };
    let file = dir.join("table").display().to_string();
    many(bench, name, || {
        let at: PathBuf = dir.join(name);
        let place = Place::new(&bench.palisade, &at, "[limits]\nbans = 2000000\n")?;
        let ns = Netns::fresh()?;
        let mut running = if served { Some(place.run(&ns)?) } else { None };
        if let Some(running) = &mut running {
            place.wait(running)?;
        }
        let args = place.args(&["import", "ban-hammer", &file]);
        let cost = ns.within(|| cost(&args))?;
        drop(running);
        fs::remove_dir_all(&at)?;
        Ok(cost)
    })
}

type Cost = crate::process::Cost;

fn cost(args: &[String]) -> Result<Cost> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    measure(&args, Stdio::null())
}

fn many(bench: &Bench, what: &str, mut once: impl FnMut() -> Result<Cost>) -> Result<(Samples, Samples, u64)> {
    let (mut wall, mut cpu, mut peak) = (Samples::default(), Samples::default(), 0);
    for _ in 0..bench.rounds {
        let cost = once().with_context(|| what.to_owned())?;
        let (took, used) = (cost.wall.as_secs_f64(), cost.cpu.as_secs_f64());
        bench.say(&format!("{what}: {} (CPU {}), {} of the wall", time(took), time(used), ratio(used, took)));
        wall.push(cost.wall);
        cpu.push(cost.cpu);
        peak = cost.peak_kib.max(peak);
    }
    Ok((wall, cpu, peak))
}
