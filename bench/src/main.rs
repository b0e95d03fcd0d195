//! Measures Palisade beside its rivals, alternating, in the same run. See docs/benchmarks.md.
//!
//! | file | what it holds |
//! |---|---|
//! | `main` | the command line; its own world, gone with it |
//! | `line_to_drop`, `restore`, `footprint`, `one_more`, `reading`, `long_lines`, `tables`, `walls`, `feed`, `routes`, `conntrack` | a measurement each |
//! | `guards` | the rivals and how each is set up |
//! | `lab`, `process`, `bans`, `logs` | namespaces, other programs, many bans, large logs |
//! | `stats`, `report` | samples into tables, tables into the document |
#![forbid(unsafe_code)]

mod bans;
mod conntrack;
mod feed;
mod footprint;
mod guards;
mod lab;
mod line_to_drop;
mod logs;
mod long_lines;
mod one_more;
mod process;
mod reading;
mod report;
mod restore;
mod routes;
mod stats;
mod tables;
mod walls;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use report::Table;

/// Set in the copy of this program that runs in its own namespaces: the folder for its files.
const INSIDE: &str = "PALISADE_BENCH_INSIDE";

/// Measures Palisade beside its rivals. Root is needed.
#[derive(Debug, Parser)]
struct Args {
    /// Which measurements; all when none is named
    #[arg(value_parser = ALL.map(|(name, _)| name))]
    only: Vec<String>,
    /// How often the programs take turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The program; the one beside this one when it is not named
    #[arg(long)]
    palisade: Option<PathBuf>,
    /// Where files are kept meanwhile; on a real disk, or the store is flattered
    #[arg(long, default_value = "target/bench")]
    scratch: PathBuf,
    /// How large the logs of `reading` are, in MiB
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=4096))]
    mib: u64,
    /// Write the numbers into docs/benchmarks.md
    #[arg(long)]
    write: bool,
}

/// What every measurement is given.
struct Bench {
    rounds: usize,
    palisade: PathBuf,
    scratch: PathBuf,
    /// How large a log of `reading` is.
    mib: u64,
}

impl Bench {
    /// Tells how it goes on.
    fn say(&self, what: &str) {
        let _ = writeln!(std::io::stderr(), "  {what}");
    }
}

type Measurement = fn(&Bench) -> Result<Table>;

const ALL: [(&str, Measurement); 16] = [
    ("line-to-drop", line_to_drop::run),
    ("restore", restore::run),
    ("footprint", footprint::run),
    ("one-more", one_more::run),
    ("reading", reading::run),
    ("filter", reading::filter),
    ("long-lines", long_lines::run),
    ("tables", tables::run),
    ("walls", walls::loads),
    ("packets", walls::packets),
    ("feed", feed::run),
    ("routes", routes::apply),
    ("heal", routes::heal),
    ("census", conntrack::census),
    ("kill", conntrack::kill),
    ("guard", conntrack::guard),
];

const DOCUMENT: &str = "docs/benchmarks.md";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    let done = if args.next_if(|arg| arg == process::MEASURE).is_some() {
        process::measure_here(args)
    } else if let Some(scratch) = std::env::var_os(INSIDE) {
        inside(Args::parse(), Path::new(&scratch))
    } else {
        outside(args)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "palisade-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs itself in network, mount and process namespaces of its own: whatever happens to this
/// process, everything that was started ends and everything that was set up is gone.
fn outside(args: impl Iterator<Item = String>) -> Result<()> {
    // Help and mistakes are told without any of that.
    let known = Args::parse();
    sweep(&known.scratch);
    let scratch = known.scratch.join(std::process::id().to_string());
    fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    let me = std::env::current_exe()?;
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(me)
        .args(args)
        .env(INSIDE, &scratch)
        .env("TZ", "UTC")
        .status()
        .context("setpriv and unshare of util-linux are needed")?;
    let _ = fs::remove_dir_all(&scratch);
    ensure!(status.success(), "not everything could be measured");
    Ok(())
}

/// Removes what killed runs left: folders named after processes that are no more.
fn sweep(scratch: &Path) {
    let folders = fs::read_dir(scratch).into_iter().flatten().flatten();
    let over = |name: &str| name.parse::<u32>().is_ok() && !Path::new("/proc").join(name).exists();
    for folder in folders.filter(|folder| folder.file_name().to_str().is_some_and(over)) {
        let _ = fs::remove_dir_all(folder.path());
    }
}

fn inside(args: Args, scratch: &Path) -> Result<()> {
    let palisade = match args.palisade {
        Some(named) => named,
        None => std::env::current_exe()?.with_file_name("palisade"),
    };
    let palisade = palisade.canonicalize().with_context(|| format!("{}: build it first", palisade.display()))?;
    // What a guard would leave in /run (fail2ban, ipset's lock) stays here.
    let status = Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]).status()?;
    ensure!(status.success(), "mounting /run: {status}; root is needed");
    let bench = Bench { rounds: args.rounds, palisade, scratch: scratch.canonicalize()?, mib: args.mib };
    let document = Path::new(DOCUMENT);
    if args.write {
        report::write(document, "machine", &machine(&bench)?)?;
    }
    let mut failed = Vec::new();
    for (name, measurement) in ALL.iter().filter(|(name, _)| args.only.is_empty() || args.only.iter().any(|only| only == name)) {
        bench.say(&format!("{name}:"));
        match measurement(&bench) {
            Ok(table) => {
                let text = table.markdown();
                write!(std::io::stdout(), "\n## {name}\n\n{text}\n")?;
                if args.write {
                    report::write(document, table.id, &text)?;
                }
            }
            // One that fails does not take the others with it.
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// The machine and every version, as lines of the document.
fn machine(bench: &Bench) -> Result<String> {
    let first = |program: &str, args: &[&str]| -> String {
        let output = Command::new(program).args(args).output();
        let text = output
            .map(|output| String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout }).into_owned());
        text.ok().and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_else(|| format!("{program}: not there"))
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().next().unwrap_or_default().trim_start_matches("MemTotal:").trim().to_owned();
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let palisade = bench.palisade.display().to_string();
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let rows = [
        ("day", today.to_string()),
        ("machine", format!("a virtual machine, {cores} CPUs ({cpu}), {memory}")),
        ("load before the run", load),
        ("kernel", first("uname", &["-r"])),
        ("palisade", first(&palisade, &["--version"])),
        ("fail2ban", first("fail2ban-client", &["--version"])),
        ("sshguard", first("sshguard", &["-v"])),
        ("ripgrep", first("rg", &["--version"])),
        ("nft", first("nft", &["--version"])),
        ("ipset", first("ipset", &["--version"])),
    ];
    let rows: String = rows.iter().map(|(what, value)| format!("| {what} | {value} |\n")).collect();
    Ok(format!("| | |\n|---|---|\n{rows}"))
}
