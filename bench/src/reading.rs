//! How fast lines are held against signatures and filters: whole processes over the same logs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_core::scan::{JailScan, Line as LogLine, LogClock, Scanner, builtin, shipped};
use palisade_core::time::Stamp;

use crate::Bench;
use crate::logs::{self, Kind};
use crate::process::measure;
use crate::report::{Line, Table};
use crate::stats::{Samples, grouped, mib, ratio, time};

/// fail2ban-regex would need minutes for all; it gets so many lines: its start is about a seventh of their time.
const FIRST: u32 = 200_000;
/// The same where both run fail2ban's own filter.
const FEW: u32 = 20_000;
/// Both get so many lines for fail2ban's own filter.
const FILTERED: u32 = 100_000;

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

    fn row(&self, what: &str, first: f64) -> Vec<String> {
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
    let (whole, many, few, config) = (dir.join("whole"), dir.join("auth.log"), dir.join("few"), dir.join("palisade.toml"));
    logs::write(&whole, Kind::Auth, 16)?;
    head(&whole, &many, FILTERED)?;
    head(&whole, &few, FEW)?;
    let text = "[jail.sshd]\nenabled = true\nfiles = [\"/none\"]\nsignatures = []\nfail2ban = \"/etc/fail2ban/filter.d/sshd.conf\"\n";
    fs::write(&config, text)?;
    let [palisade, many, few, config] = [&bench.palisade, &many, &few, &config].map(|path| path.display().to_string());
    let mut ways = [
        Way::new(
            "`palisade replay --threads 1`",
            FILTERED,
            &[&palisade, "--config", &config, "replay", "--threads", "1", "--jail", "sshd", &many],
        ),
        Way::new("`fail2ban-regex`", FEW, &["fail2ban-regex", &few, "sshd"]),
    ];
    turns(bench, &mut ways)?;
    let [ours, theirs] = ways.each_ref().map(Way::rate);
    let rows = ways.iter().map(|way| way.row("auth.log, filter.d/sshd.conf", ours)).collect();
    fs::remove_dir_all(&dir)?;
    Ok(Table { id: "filter", head: HEAD, rows, aims: vec![Line::aim("50x fail2ban-regex", &ratio(ours, theirs), ours >= 50.0 * theirs)] })
}

/// A line of a MiB.
const LONG: usize = 1 << 20;
/// What each of them may take.
const WITHIN: Duration = Duration::from_millis(5);

/// Lines of a MiB of what is known to hurt regexes, each held against every signature in this process.
pub(crate) fn long_lines(bench: &Bench) -> Result<Table> {
    let scanner = Scanner::new(&[JailScan::of("all".into(), builtin().to_vec())]);
    let mut state = scanner.state(LogClock::utc(Stamp(0)));
    let mut worst = 0.0_f64;
    let mut rows = Vec::new();
    for (name, line) in kinds() {
        let mut samples = Samples::default();
        // The first time regexes build what they keep.
        for round in 0..=bench.rounds.max(3) {
            let before = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?;
            scanner.scan(&mut state, LogLine::raw(&line), &mut |_| {});
            let used = Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)? - before);
            if round > 0 {
                samples.push(used);
            }
        }
        worst = worst.max(samples.median());
        rows.push(vec![name.to_owned(), time(samples.median()), time(samples.max())]);
    }
    let aims = vec![Line::aim("each under 5 ms", &time(worst), worst < WITHIN.as_secs_f64())];
    Ok(Table { id: "long-lines", head: &["a line of 1 MiB", "CPU, median", "slowest"], rows, aims })
}

fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let fill = |head: &str, piece: &str, tail: &str| {
        let mut line = head.as_bytes().to_vec();
        while line.len() + piece.len() + tail.len() <= LONG {
            line.extend(piece.as_bytes());
        }
        line.extend(tail.as_bytes());
        line
    };
    let sshd = "Nov 22 17:00:00 host sshd[7]: Failed password for ";
    let web = "192.0.2.7 - - [22/Nov/2026:17:00:00 +0000] \"GET /";
    vec![
        ("`a` and nothing else", fill("", "a", "")),
        ("blanks", fill(sshd, " ", "x")),
        ("`from ` over and over", fill(sshd, "from ", "")),
        ("addresses over and over, and a match", fill(sshd, "x from 203.0.113.9 port 1 ", "")),
        ("a user name of a MiB, and a match", fill(sshd, "x", " from 192.0.2.7 port 1 ssh2")),
        ("digits", fill("Nov 22 17:00:00 host sshd[7]: Invalid user ", "7", "")),
        ("dates over and over", fill("", "Nov 22 17:00:00 ", "")),
        ("quotes in quotes", fill(web, "\\\"", "wp-login.php HTTP/1.1\" 404 1")),
        ("backslashes", fill(web, "\\\\", ".env HTTP/1.1\" 404 1 \"-\" \"-\"")),
        ("path parts", fill(web, "a/", "wp-login.php HTTP/1.1\" 404 1 \"-\" \"-\"")),
        ("structured data without an end", fill("<34>1 - - a - - ", "[a b=\"", " Failed password")),
        ("JSON, deep", fill("{\"msg\":\"Failed \",\"a\":", "{\"a\":", "")),
        ("JSON, wide", fill("{\"msg\":\"Failed password\"", ",\"a\":1", "}")),
        ("zero bytes", fill("", "\0", "")),
    ]
}

/// The first lines of a file.
fn head(from: &Path, to: &Path, lines: u32) -> Result<()> {
    let mut out = BufWriter::new(File::create(to)?);
    for line in BufReader::new(File::open(from)?).lines().take(lines as usize) {
        writeln!(out, "{}", line?)?;
    }
    Ok(out.flush()?)
}
