//! `palisade status`.

use anyhow::Result;
use clap::Args;
use palisade_core::control::{FloodStatus, Reply, Request, State, Status};
use palisade_core::time::Span;
use palisade_os::clock;
use serde::Serialize;

use super::ask::{ask, unexpected};
use super::print::{self, Painted};
use super::{Exit, Global};

/// What stands.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade status\n  palisade --json status | jq -r '.problems[]'\n\nExit code 0: all is as it should be. 3: no daemon runs (bans may stand all the same). 6: degraded, see the problems."
)]
pub struct StatusArgs {}

#[derive(Serialize)]
struct StatusDoc<'a> {
    v: u8,
    #[serde(flatten)]
    status: &'a Status,
}

impl StatusArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let status = match ask(global, Request::Status)? {
            Reply::Status(status) => status,
            other => return Err(unexpected(&other)),
        };
        if global.json {
            print::json(&StatusDoc { v: 1, status: &status })?;
        } else {
            show(&status)?;
        }
        Ok(match status.state {
            State::Degraded => Exit::Degraded,
            _ if status.since.is_none() => Exit::NoDaemon,
            _ => Exit::Done,
        })
    }
}

fn show(status: &Status) -> Result<()> {
    let now = clock::now().stamp;
    let word = match status.state {
        State::Enforcing => Painted(32, "enforcing"),
        State::Observing => Painted(33, "observing"),
        State::Degraded => Painted(31, "degraded"),
    };
    let up = status
        .since
        .map_or_else(|| "no daemon runs: nothing is read, bans stand".to_owned(), |since| format!("up {}", print::rough(now.since(since))));
    print::line(format_args!("palisade {}  {word}  {up}  {}", env!("CARGO_PKG_VERSION"), status.backend))?;
    let mut rows = vec![];
    rows.extend(status.proof.iter().map(|proof| vec!["proof".to_owned(), proof.to_string()]));
    rows.extend([
        vec!["bans".to_owned(), format!("{} active, {} permanent", status.bans, status.permanent)],
        vec!["drift".to_owned(), format!("{} repaired", status.drift)],
        vec!["lines".to_owned(), format!("{} read, {} attacks, {} too long", status.lines, status.attacks, status.oversize)],
        vec!["tracked".to_owned(), format!("{} sources, {} forgotten for room", status.tracked, status.evicted)],
    ]);
    if !status.jails.is_empty() {
        let jails: Vec<String> = status.jails.iter().map(|(name, bans)| format!("{name} {bans}")).collect();
        rows.push(vec!["jails".to_owned(), jails.join("  ")]);
    }
    for feed in status.feeds.iter().filter(|feed| feed.enabled) {
        rows.push(vec!["feed".to_owned(), format!("{} {}", feed.name, super::feed::standing(feed, now))]);
    }
    if let Some(table @ FloodStatus { count, max, state, limited, drops }) = status.conntrack {
        let fill = 100.0 * table.fill();
        let held = if limited > 0 { format!(", {limited} culprits limited") } else { String::new() };
        let lost = if drops > 0 { format!(", {drops} packets dropped since boot") } else { String::new() };
        rows.push(vec!["flows".to_owned(), format!("{count} of {max} ({fill:.0} %), {state}{held}{lost}")]);
    }
    for source in &status.sources {
        let behind = match (source.behind_bytes, Span::millis(source.behind_ms)) {
            (0, Span::ZERO) => String::new(),
            (0, since) => format!(", {} behind", print::rough(since)),
            (bytes, since) => format!(", {} KiB and {} behind", bytes.div_ceil(1024), print::rough(since)),
        };
        rows.push(vec!["reads".to_owned(), format!("{} ({} lines{behind})", source.name, source.lines)]);
    }
    print::table(&rows)?;
    for problem in &status.problems {
        print::line(format_args!("{} {}: {}", Painted(31, "!"), problem.about, problem.what))?;
    }
    Ok(())
}
