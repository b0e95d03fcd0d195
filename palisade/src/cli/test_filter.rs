//! `palisade test --fail2ban-filter`: lines against one filter of fail2ban's, as fail2ban-regex has it.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use palisade_core::attack::{FULL_FAILURE, excerpt};
use palisade_core::scan::fail2ban::{Failure, Filter, load};
use palisade_core::scan::{Line, LogClock};
use palisade_core::time::Stamp;
use serde::Serialize;

use super::Exit;
use super::ask::usage;
use super::print::{self, Painted};
use crate::library::Disk;

/// Which filter.
#[derive(Debug, Args)]
pub(super) struct Filtering {
    /// A filter file of fail2ban's, in the place of signatures
    #[arg(long, value_name = "FILE", conflicts_with_all = ["signatures", "jail", "explain"])]
    fail2ban_filter: Option<String>,
    /// An option of the filter, as a jail would set it: mode=aggressive; logtype=journal for lines without a date
    #[arg(long = "set", value_name = "NAME=VALUE", requires = "fail2ban_filter")]
    set: Vec<String>,
}

#[derive(Serialize)]
struct LineDoc<'a> {
    line: u64,
    #[serde(rename = "match")]
    matched: bool,
    signature: Option<&'a str>,
    service: Option<&'a str>,
    addr: Option<String>,
    score: Option<u16>,
    time: Option<Stamp>,
    user: Option<&'a str>,
    host: Option<&'a str>,
    attempts: Option<u32>,
}

impl Filtering {
    /// Whether there is a filter to hold lines against.
    pub(super) const fn is_wanted(&self) -> bool {
        self.fail2ban_filter.is_some()
    }

    /// Holds each line that `next` hands out against the filter; one that is too long comes as `None`.
    pub(super) fn run(&self, clock: &LogClock, json: bool, mut next: impl FnMut() -> Result<Option<Option<Vec<u8>>>>) -> Result<Exit> {
        let options = self.options()?;
        let path = self.fail2ban_filter.as_deref().unwrap_or_default();
        let (_, filter) = load(&Disk, path, &options, false).map_err(|error| usage(error.to_string()))?;
        let journal = options.get("logtype").is_some_and(|kind| kind == "journal");
        let mut session = filter.session();
        let (mut number, mut matched) = (0, 0);
        while let Some(line) = next()? {
            number += 1;
            let failure = line.as_deref().and_then(|bytes| {
                // The date of a journal record is not in its text.
                let line = if journal { Line::dated(bytes, clock.now) } else { Line::raw(bytes) };
                filter.look(&mut session, line, clock)
            });
            matched += u64::from(failure.is_some());
            if json {
                print::json(&document(number, &filter, failure.as_ref()))?;
            } else if let (Some(failure), Some(line)) = (&failure, &line) {
                show(number, failure, line)?;
            }
        }
        if session.limits() > 0 {
            print::say(format_args!("{} lines were not decided: they are too long, or took too many steps", session.limits()));
        }
        if !json {
            print::say(format_args!("{matched} of {number} lines matched"));
        }
        Ok(if matched > 0 { Exit::Done } else { Exit::No })
    }

    fn options(&self) -> Result<BTreeMap<String, String>> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
            _ => Err(usage(format_args!("`{text}` sets nothing; write it like mode=aggressive"))),
        };
        self.set.iter().map(pair).collect()
    }
}

fn document<'a>(line: u64, filter: &'a Filter, failure: Option<&'a Failure>) -> LineDoc<'a> {
    LineDoc {
        line,
        matched: failure.is_some(),
        signature: failure.map(|_| filter.full_name().as_ref()),
        service: failure.map(|_| filter.service().as_ref()),
        addr: failure.and_then(|failure| failure.addr).map(|addr| addr.to_string()),
        score: failure.map(|_| FULL_FAILURE),
        time: failure.and_then(|failure| failure.at),
        user: failure.and_then(|failure| failure.user.as_deref()),
        host: failure.map(|failure| failure.host.as_str()),
        attempts: failure.map(|failure| failure.attempts),
    }
}

fn show(number: u64, failure: &Failure, line: &[u8]) -> Result<()> {
    let host = excerpt(failure.host.as_bytes());
    let no_address = if failure.addr.is_none() { " (no address: nobody can be banned by it)" } else { "" };
    let user = failure.user.as_ref().map(|user| format!(" user {user:?}")).unwrap_or_default();
    let lines = if failure.attempts == 1 { String::new() } else { format!(" {} lines", failure.attempts) };
    print::line(format_args!("{number}: {}{no_address} failregex {}{user}{lines}", Painted(31, &host), failure.regex + 1))?;
    print::line(format_args!("   {}", excerpt(line)))
}

/// What `--now` says: RFC 3339, or seconds since 1970.
pub(super) fn moment(text: &str) -> Result<Stamp> {
    let seconds = || text.strip_prefix('@').unwrap_or(text).parse::<i64>().ok().map(|seconds| Stamp(seconds.saturating_mul(1000)));
    let wrong = || usage(format_args!("`{text}` is no time; write it like 2026-11-22T17:00:00Z, or in seconds since 1970"));
    Stamp::parse(text).or_else(seconds).ok_or_else(wrong)
}
