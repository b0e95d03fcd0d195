//! `palisade report`.

use std::io::{self, BufRead};

use anyhow::{Context, Result};
use clap::Args;
use palisade_core::attack::FULL_FAILURE;
use palisade_core::control::report::{ReportOutcome, ReportResult, Reported, ReportedAs};
use palisade_core::control::{PREFIXES_A_REQUEST, Reply, Request};
use palisade_core::net::Addr;
use palisade_os::clock;
use serde::Serialize;

use super::ask::{answered, served, unexpected, unreachable, usage};
use super::print::{self, Painted};
use super::{Exit, Global};

/// Tell the daemon of attackers that a program knows itself.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade report 203.0.113.7 --jail sshd                   one full failure\n  palisade report 203.0.113.7 --jail web --score 2          a weak sign\n  palisade report 203.0.113.7 --jail web --abuse            banned at once\n  palisade report 198.51.100.4 --jail web --login           forgives its failures\n  my-honeypot | palisade report - --jail honeypot           an address a line\n\nIt counts as a line in the jail's log would: within its find_time, against its max_retry, never against\nwhom the allow list protects. A jail without a log of its own is written with `reports = true`.\n\nExit code 0: all of them were counted or are banned. 5: a safety rule protects one. 3: no daemon."
)]
pub struct ReportArgs {
    /// Addresses; - reads them from standard input, one a line
    #[arg(required = true, value_name = "ADDR")]
    addrs: Vec<String>,
    /// The jail whose policy judges
    #[arg(long, value_name = "NAME")]
    jail: String,
    /// How heavy: 10 is one full failure, 2 and 1 are weak signs
    #[arg(long, value_name = "N", default_value_t = FULL_FAILURE, value_parser = clap::value_parser!(u16).range(1..=1000))]
    score: u16,
    /// What nobody honest does: as heavy as the jail's max_retry
    #[arg(long, conflicts_with_all = ["score", "login"])]
    abuse: bool,
    /// It has logged in: its failures are forgiven
    #[arg(long, conflicts_with = "score")]
    login: bool,
    /// The user name tried
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// What is kept as evidence, for whoever asks `palisade why`
    #[arg(long, short, value_name = "TEXT", default_value = "reported")]
    reason: String,
}

#[derive(Serialize)]
struct Doc<'a> {
    v: u8,
    results: &'a [ReportResult],
}

impl ReportArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let what = match (self.abuse, self.login) {
            (true, _) => ReportedAs::Abuse,
            (_, true) => ReportedAs::Login,
            _ => ReportedAs::Failure(self.score),
        };
        let mut exit = Exit::Done;
        if self.addrs == ["-"] {
            for line in io::stdin().lock().lines() {
                let line = line.context("reading standard input")?;
                if !line.trim().is_empty() {
                    exit = worse(exit, self.tell(global, vec![address(line.trim())?], what)?);
                }
            }
            return Ok(exit);
        }
        let addrs: Result<Vec<Addr>> = self.addrs.iter().map(|text| address(text)).collect();
        for chunk in addrs?.chunks(PREFIXES_A_REQUEST) {
            exit = worse(exit, self.tell(global, chunk.to_vec(), what)?);
        }
        Ok(exit)
    }

    fn tell(&self, global: &Global, addrs: Vec<Addr>, what: ReportedAs) -> Result<Exit> {
        let report = Reported { addrs, jail: self.jail.as_str().into(), what, user: self.user.clone(), reason: self.reason.clone() };
        let places = global.places();
        let reply =
            served(&places, &Request::Report(report))?.ok_or_else(|| unreachable(&places.socket(), &io::ErrorKind::NotFound.into()))?;
        let results = match answered(reply)? {
            Reply::Reported { results } => results,
            other => return Err(unexpected(&other)),
        };
        if global.json {
            print::json(&Doc { v: 1, results: &results })?;
        } else {
            results.iter().try_for_each(show)?;
        }
        let refused = results.iter().any(|result| matches!(result.what, ReportOutcome::Refused { .. }));
        Ok(if refused { Exit::Refused } else { Exit::Done })
    }
}

const fn worse(a: Exit, b: Exit) -> Exit {
    if matches!(a, Exit::Done) { b } else { a }
}

fn address(text: &str) -> Result<Addr> {
    text.parse().map_err(|error| usage(format_args!("{error}")))
}

fn show(result: &ReportResult) -> Result<()> {
    let addr = result.addr;
    match &result.what {
        ReportOutcome::Counted { score, needed } => print::line(format_args!("{addr}  counted: {score} of {needed}")),
        ReportOutcome::Banned { until } => {
            print::line(format_args!("{addr}  {}, {}", Painted(31, "banned"), print::left(*until, clock::now().stamp)))
        }
        ReportOutcome::Refused { protected_by } => {
            print::line(format_args!("{addr}  {}: protected by {protected_by}", Painted(33, "not counted")))
        }
    }
}
