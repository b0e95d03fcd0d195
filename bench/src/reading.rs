//! How fast lines are held against signatures and filters: whole processes over the same logs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use palisade_core::scan::{builtin, shipped};

use crate::Bench;
use crate::logs::{self, Kind};
use crate::process::measure;
use crate::report::{Line, Table};
use crate::stats::{Samples, grouped, mib, ratio, time};

/// fail2ban-regex would need minutes for all; it gets so many lines: its start is about a seventh of their time.
const FIRST: u32 = 200_000;
/// The same where both run fail2ban's own filter.
const FEW: u32 = 20_000;
/// Palisade gets so many lines for fail2ban's own filter: fewer are over before the processor time can be read well.
const FILTERED: u32 = 500_000;
/// That is about so many MiB.
const FILTERED_MIB: u64 = 60;
/// Lines enough for a ban, and next to nothing to read: what it takes to start.
const START: u32 = 10;

/// One program over one log.
struct Way<'a> {
    name: &'a str,
    lines: u32,
    args: Vec<String>,
    cost: Samples,
    peak: u64,
}

impl<'a> Way<'a> {
    fn new(name: &'a str, lines: u32, args: &[&str]) -> Self {
        Self { name, lines, args: args.iter().map(|arg| (*arg).to_owned()).collect(), cost: Samples::default(), peak: 0 }
    }

    fn measure(&mut self, bench: &Bench) -> Result<()> {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let cost = measure(&args, Stdio::null()).with_context(|| self.name.to_owned())?;
        bench.say(&format!(
            "{}: {} (CPU {}) for {} lines",
            self.name,
            time(cost.wall.as_secs_f64()),
            time(cost.cpu.as_secs_f64()),
            self.lines
        ));
        self.cost.push(cost.cpu);
        self.peak = cost.peak_kib.max(self.peak);
        Ok(())
    }

    /// Lines a second of processor time.
    fn rate(&self) -> f64 {
        f64::from(self.lines) / self.cost.median()
    }

    /// The same, less what `start` takes, which reads next to nothing.
    fn rate_without(&self, start: &Self) -> f64 {
        f64::from(self.lines) / (self.cost.median() - start.cost.median()).max(f64::EPSILON)
    }

    fn row(&self, what: &str, first: f64) -> Vec<String> {
        if self.lines == START {
            let [rate, to] = ["-", "-"].map(str::to_owned);
            return vec![what.to_owned(), self.name.to_owned(), self.lines.to_string(), time(self.cost.median()), rate, to, mib(self.peak)];
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "lines a second")]
        let rounded = self.rate() as u64;
        let (lines, cost) = (grouped(self.lines.into()), time(self.cost.median()));
        vec![what.to_owned(), self.name.to_owned(), lines, cost, grouped(rounded), ratio(first, self.rate()), mib(self.peak)]
    }
}

const HEAD: &[&str] = &["log", "", "lines", "CPU, median", "lines a CPU second", "first to it", "peak memory"];

fn turns(bench: &Bench, ways: &mut [Way<'_>]) -> Result<()> {
    (0..bench.rounds).try_for_each(|_| ways.iter_mut().try_for_each(|way| way.measure(bench)))
}

/// Every signature, and one, over a large auth.log and a large access log.
pub(crate) fn run(bench: &Bench) -> Result<Table> {
    let dir = bench.scratch.join("reading");
    fs::create_dir_all(&dir)?;
    let needles = dir.join("needles");
    fs::write(&needles, all_needles())?;
    let every: Vec<&str> = shipped().iter().map(|(name, _)| *name).collect();
    let config = jail(&dir, "every", &every)?;
    let mut table = Table { id: "reading", head: HEAD, rows: Vec::new(), aims: Vec::new() };
    // The filter of fail2ban, and the signature that is for the same.
    for (what, kind, filter, signature) in
        [("auth.log", Kind::Auth, "sshd", "sshd"), ("access.log", Kind::Access, "nginx-botsearch", "access-probes")]
    {
        let (many, few) = (dir.join(what), dir.join(format!("few-{what}")));
        let lines = logs::write(&many, kind, bench.mib)?;
        head(&many, &few, FIRST)?;
        let own = jail(&dir, signature, &[signature])?.display().to_string();
        let palisade = bench.palisade.display().to_string();
        let [many, few, config, needles] = [&many, &few, &config, &needles].map(|path| path.display().to_string());
        let parser = format!("exec /usr/libexec/sshguard/sshg-parser < {many}");
        let by_filter = format!("`fail2ban-regex`, filter {filter}");
        let by_signature = format!("`palisade replay --threads 1`, signature {signature} alone");
        let mut ways = [
            Way::new(
                "`palisade replay --threads 1`, every signature",
                lines,
                &[&palisade, "--config", &config, "replay", "--threads", "1", "--jail", "every", &many],
            ),
            Way::new(&by_signature, lines, &[&palisade, "--config", &own, "replay", "--threads", "1", "--jail", signature, &many]),
            Way::new("`sshg-parser`", lines, &["sh", "-c", &parser]),
            Way::new(&by_filter, FIRST, &["fail2ban-regex", &few, filter]),
            Way::new("`rg -c -F`, the same texts", lines, &["rg", "-j1", "-c", "-F", "-f", &needles, &many]),
        ];
        turns(bench, &mut ways)?;
        let [ours, alone, parser, regex, limit] = ways.each_ref().map(Way::rate);
        table.rows.extend(ways.iter().map(|way| way.row(what, ours)));
        table.aims.extend([
            Line::aim(&format!("{what}: 10x sshg-parser"), &ratio(ours, parser), ours >= 10.0 * parser),
            Line::aim(
                &format!("{what}: 500x fail2ban-regex, one signature against one filter"),
                &format!("{} (every signature against one filter: {})", ratio(alone, regex), ratio(ours, regex)),
                alone >= 500.0 * regex,
            ),
            Line::aim(&format!("{what}: within 3x of ripgrep"), &ratio(limit, ours), limit <= 3.0 * ours),
        ]);
    }
    fs::remove_dir_all(&dir)?;
    Ok(table)
}

/// A config with one jail of that name, which uses these signatures.
fn jail(dir: &Path, name: &str, signatures: &[&str]) -> Result<PathBuf> {
    let file = dir.join(format!("{name}.toml"));
    fs::write(&file, format!("[jail.{name}]\nenabled = true\nfiles = [\"/none\"]\nsignatures = {signatures:?}\n"))?;
    Ok(file)
}

/// What every rule looks for first, a line each.
fn all_needles() -> String {
    let mut all: Vec<String> = builtin()
        .iter()
        .flat_map(|signature| signature.rules())
        .flat_map(|rule| &rule.needles().texts)
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect();
    all.sort_unstable();
    all.dedup();
    all.iter().map(|text| format!("{text}\n")).collect()
}

/// fail2ban's own filter for sshd, run by both.
pub(crate) fn filter(bench: &Bench) -> Result<Table> {
    let dir = bench.scratch.join("filter");
    fs::create_dir_all(&dir)?;
    let [whole, many, few, one, config] = ["whole", "auth.log", "few", "one", "palisade.toml"].map(|name| dir.join(name));
    logs::write(&whole, Kind::Auth, FILTERED_MIB)?;
    head(&whole, &many, FILTERED)?;
    head(&whole, &few, FEW)?;
    fs::write(&one, "Nov 22 17:00:00 victim sshd[7]: Failed password for root from 192.0.2.7 port 7 ssh2\n".repeat(START as usize))?;
    let text = "[jail.sshd]\nenabled = true\nfiles = [\"/none\"]\nsignatures = []\nfail2ban = \"/etc/fail2ban/filter.d/sshd.conf\"\n";
    fs::write(&config, text)?;
    let [palisade, many, few, one, config] = [&bench.palisade, &many, &few, &one, &config].map(|path| path.display().to_string());
    let ours = |log| ["--config", &config, "replay", "--threads", "1", "--jail", "sshd", log];
    let mut ways = [
        Way::new("`palisade replay --threads 1`", FILTERED, &[&[palisade.as_str()][..], &ours(&many)].concat()),
        Way::new("`fail2ban-regex`", FEW, &["fail2ban-regex", &few, "sshd"]),
        Way::new("`palisade replay`, to start", START, &[&[palisade.as_str()][..], &ours(&one)].concat()),
        Way::new("`fail2ban-regex`, to start", START, &["fail2ban-regex", &one, "sshd"]),
    ];
    turns(bench, &mut ways)?;
    let [ours, theirs, start, their_start] = ways.each_ref();
    let rows = ways.iter().map(|way| way.row("auth.log, filter.d/sshd.conf", ours.rate())).collect();
    fs::remove_dir_all(&dir)?;
    let (alone, theirs_alone) = (ours.rate_without(start), theirs.rate_without(their_start));
    let aims = vec![
        Line::aim("50x fail2ban-regex, whole processes", &ratio(ours.rate(), theirs.rate()), ours.rate() >= 50.0 * theirs.rate()),
        Line::aim("50x fail2ban-regex, without what each needs to start", &ratio(alone, theirs_alone), alone >= 50.0 * theirs_alone),
    ];
    Ok(Table { id: "filter", head: HEAD, rows, aims })
}

/// The first lines of a file.
fn head(from: &Path, to: &Path, lines: u32) -> Result<()> {
    let mut out = BufWriter::new(File::create(to)?);
    for line in BufReader::new(File::open(from)?).lines().take(lines as usize) {
        writeln!(out, "{}", line?)?;
    }
    Ok(out.flush()?)
}
