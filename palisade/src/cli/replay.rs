//! `palisade replay`: what a config would have banned over logs of the past, in log time.
//!
//! | file | what |
//! |---|---|
//! | `replay` | the verb, from its arguments to its answer |
//! | `which` | which jail hears which log |
//! | `streams` | many logs at once, merged by time |
//! | `listen` | one log, read and scanned |
//! | `show` | tables and totals, or JSON |
//! | `plot` | attacks and bans over time |

pub(in crate::cli) mod listen;
mod plot;
mod show;
mod streams;
mod which;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use palisade_core::config::Config;
use palisade_core::replay::Replay;

use super::past::{Kind, Several, When};
use super::progress::Progress;
use super::{Exit, Global, print};
use crate::library::Library;
use crate::settings::Places;
use show::{Answer, File};
use streams::{Log, Shared};
use which::{Ear, LeftOut, Wiring};

const EXAMPLES: &str = "\
Examples:
  palisade replay /var/log/auth.log*                       this config over all of a log's past, rotated and packed
  palisade replay access.log --jail web-probes             one jail, whatever the file is called
  palisade replay /var/log/auth.log* --against harder.toml who is banned by one config only, and what each keeps out
  palisade replay /var/log/journal/*/*.journal             journal files, by the jails' journal matches
  zcat old.gz | palisade replay - --jail sshd --now 2024-03-01
  palisade --json replay /var/log/auth.log* | jq '.bans[] | select(.offence > 3)'

Each file goes to the jails whose `files` name it, also by the name it had before it was rotated (auth.log.2.gz); one that
no jail names is held against all of them. Plain, gzip, xz, zstd and journal files are told by their content. Lines count
when they were written, over all files together. The allow list is the config's and loopback: what this host is like
now says nothing about then.

Exit code 0: something would have been banned. 1: nothing. 6: either, but not all files could be read, to their end, or a jail
was left out, as its fail2ban filter cannot be used (`left_out` in JSON).";

/// What a config would have banned.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    /// Log files, rotated and packed ones too, journal files, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only this jail, for all files
    #[arg(long, value_name = "NAME")]
    jail: Option<String>,
    /// Compare with what another config would have banned
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    #[command(flatten)]
    when: When,
    /// How many files to work at at once [default: as many as there are cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// How many bans to list: those that would have kept out most lines
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
}

impl ReplayArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let mine = global.places().config_and_library()?;
        let other = self.against.as_ref().map(|path| other(global, path)).transpose()?;
        let configs: Vec<&(Config, Library)> = std::iter::once(&mine).chain(&other).collect();
        let Heard { logs, files, bytes, left_out, all } = self.logs(configs)?;
        let line_max = mine.0.limits().line;
        let threads = self.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get), usize::from);
        let mut replays = vec![Replay::new(mine.0)];
        replays.extend(other.map(|(config, _)| Replay::new(config)));
        let shared = Shared::new(threads, line_max);
        let mut progress = Progress::begin(bytes).of("lines");
        let start = Instant::now();
        let troubles = streams::play(logs, threads, &shared, &mut progress, &mut |line, entry| {
            let mut theirs =
                replays.iter_mut().enumerate().filter(|(at, _)| entry.whose & (1 << at) != 0).map(|(_, replay)| replay).peekable();
            while let Some(replay) = theirs.next() {
                if theirs.peek().is_none() {
                    return replay.hear(entry.at, line, entry.sign);
                }
                replay.hear(entry.at, line, entry.sign.clone());
            }
        })?;
        progress.end();
        troubles.iter().for_each(|what| print::say(format_args!("palisade: {what}")));
        let answer = Answer {
            lines: shared.lines.load(Ordering::Relaxed),
            oversize: shared.oversize.load(Ordering::Relaxed),
            seconds: start.elapsed().as_secs_f64(),
            replays,
            against: self.against.as_ref().map(|path| path.display().to_string()),
            files,
            left_out,
            top: self.top,
        };
        if global.json { answer.json() } else { answer.show() }?;
        Ok(match (all && troubles.is_empty() && answer.left_out.is_empty(), answer.banned()) {
            (false, _) => Exit::Degraded,
            (true, true) => Exit::Done,
            (true, false) => Exit::No,
        })
    }

    /// The logs, ready to be read, and who hears them.
    fn logs(&self, configs: Vec<&(Config, Library)>) -> Result<Heard> {
        let mut wiring = Wiring::new(configs, self.jail.as_deref())?;
        let (mut logs, mut files, mut bytes) = (Vec::new(), Vec::new(), Some(0u64));
        let mut several = Several::new(&self.files);
        for path in &self.files {
            let Some(opened) = several.open(path)? else { continue };
            let (kind, clock) = (opened.kind, self.when.clock(&opened, None)?);
            let listeners = wiring.listeners(path, kind)?;
            if let Some(names) = &listeners.guessed {
                print::say(format_args!(
                    "{}: no jail reads a log of this name, so it is held against {names}; --jail NAME chooses one",
                    path.display()
                ));
            }
            // A journal's bytes do not go through our hands.
            bytes = bytes.zip(opened.size.filter(|_| kind != Kind::Journal)).map(|(sum, size)| sum.saturating_add(size));
            files.push(File::new(path, kind, &listeners.ears));
            let by_clock = |ear: Ear| self.when.clock(&opened, ear.zone.as_deref()).map(|clock| (ear, clock));
            let ears = listeners.ears.into_iter().map(by_clock).collect::<Result<Vec<_>>>()?;
            let clock = ears.first().map_or(clock, |(_, clock)| clock.clone());
            if ears.is_empty() {
                print::say(format_args!("palisade: {} is not read: no jail that would hear it can be used", path.display()));
                continue;
            }
            let pipe = opened.is_pipe().then_some(opened);
            let begin = if pipe.is_some() { None } else { listen::begin(path, kind, &clock) };
            logs.push(Log { path: path.clone(), kind, pipe, clock, begin, ears });
        }
        Ok(Heard { logs, files, bytes, left_out: wiring.left_out(), all: several.all() })
    }
}

/// What is to be read.
struct Heard {
    logs: Vec<Log>,
    /// What is told of each.
    files: Vec<File>,
    /// How many bytes they are, packed.
    bytes: Option<u64>,
    /// Who does not hear them.
    left_out: Vec<LeftOut>,
    /// Whether all of the files could be opened.
    all: bool,
}

/// The config to compare with, with what is in `conf.d` and `signatures` beside it.
fn other(global: &Global, path: &Path) -> Result<(Config, Library)> {
    Places { config: path.to_owned(), config_named: true, ..global.places() }.config_and_library()
}
