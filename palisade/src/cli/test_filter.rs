//! `palisade test --fail2ban-filter`: lines against one filter of fail2ban's, as fail2ban-regex has it.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use palisade_core::attack::{FULL_FAILURE, excerpt};
use palisade_core::scan::fail2ban::{Failure, Filter, Session, load};
use palisade_core::scan::{Line, LogClock};
use palisade_core::time::Stamp;
use palisade_os::logs::journal::past;
use serde::Serialize;

use super::Exit;
use super::ask::usage;
use super::past::{Blocks, Kind, Opened, When, each_line, journal};
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

/// Lines, held against one filter.
pub(super) struct Filtered {
    filter: Filter,
    session: Session,
    /// Lines have no date: they are of the journal.
    journal: bool,
    json: bool,
    number: u64,
    matched: u64,
}

impl Filtering {
    /// Reads the filter; `None` where none is named.
    pub(super) fn open(&self, json: bool) -> Result<Option<Filtered>> {
        let Some(path) = &self.fail2ban_filter else { return Ok(None) };
        let options = self.options()?;
        let (_, filter) = load(&Disk, path, &options, false).map_err(|error| usage(error.to_string()))?;
        let journal = options.get("logtype").is_some_and(|kind| kind == "journal");
        let session = filter.session();
        Ok(Some(Filtered { filter, session, journal, json, number: 0, matched: 0 }))
    }

    fn options(&self) -> Result<BTreeMap<String, String>> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
            _ => Err(usage(format_args!("`{text}` sets nothing; write it like mode=aggressive"))),
        };
        self.set.iter().map(pair).collect()
    }
}

impl Filtered {
    /// All lines of these files, one after the other.
    pub(super) fn run(mut self, files: &[PathBuf], when: &When, line_max: usize) -> Result<Exit> {
        let mut out = BufWriter::new(io::stdout().lock());
        for path in files {
            let opened = Opened::open(path)?;
            let clock = when.clock(&opened, None)?;
            if opened.kind == Kind::Journal {
                self.records(path, line_max, &clock, &mut out)?;
                continue;
            }
            let pipe = opened.is_pipe();
            let mut blocks = Blocks::new(opened.reader(Arc::default()).context("reading the lines")?, line_max, pipe);
            while let Some(block) = blocks.next().context("reading the lines")? {
                for _ in 0..block.dropped {
                    self.line(None, &clock, &mut out)?;
                }
                let mut done = Ok(());
                each_line(block.lines, line_max, |line| {
                    if done.is_ok() {
                        done = self.line(line, &clock, &mut out);
                    }
                });
                done?;
                if pipe {
                    print::told(out.flush())?;
                }
            }
        }
        print::told(out.flush())?;
        drop(out);
        self.end()
    }

    fn records(&mut self, path: &Path, line_max: usize, clock: &LogClock, out: &mut impl Write) -> Result<()> {
        let mut done = Ok(());
        journal(path, &[(0, None)], line_max, &mut |take| {
            done = match take {
                past::Take::Oversize => self.line(None, clock, out),
                past::Take::Record { record, .. } => {
                    let line = Line::journal(Some(record.ident), record.pid, record.message, record.realtime);
                    self.look(Some(line), Some(record.message), clock, out)
                }
            };
            done.is_ok()
        })
        .context("reading the journal")?;
        done
    }

    fn line(&mut self, bytes: Option<&[u8]>, clock: &LogClock, out: &mut impl Write) -> Result<()> {
        // The date of a journal record is not in its text.
        let line = bytes.map(|bytes| if self.journal { Line::dated(bytes, clock.now) } else { Line::raw(bytes) });
        self.look(line, bytes, clock, out)
    }

    fn look(&mut self, line: Option<Line<'_>>, bytes: Option<&[u8]>, clock: &LogClock, out: &mut impl Write) -> Result<()> {
        self.number += 1;
        let failure = line.and_then(|line| self.filter.look(&mut self.session, line, clock));
        self.matched += u64::from(failure.is_some());
        if self.json {
            serde_json::to_writer(&mut *out, &document(self.number, &self.filter, failure.as_ref()))?;
            return print::told(out.write_all(b"\n"));
        }
        match (&failure, bytes) {
            (Some(failure), Some(bytes)) => show(self.number, failure, bytes, out),
            _ => Ok(()),
        }
    }

    fn end(self) -> Result<Exit> {
        if self.session.limits() > 0 {
            print::say(format_args!("{} lines were not decided: they are too long, or took too many steps", self.session.limits()));
        }
        if !self.json {
            print::say(format_args!("{} of {} lines matched", self.matched, self.number));
        }
        Ok(if self.matched > 0 { Exit::Done } else { Exit::No })
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

fn show(number: u64, failure: &Failure, line: &[u8], out: &mut impl Write) -> Result<()> {
    let host = excerpt(failure.host.as_bytes());
    let no_address = if failure.addr.is_none() { " (no address: nobody can be banned by it)" } else { "" };
    let user = failure.user.as_ref().map(|user| format!(" user {user:?}")).unwrap_or_default();
    let lines = if failure.attempts == 1 { String::new() } else { format!(" {} lines", failure.attempts) };
    let head = writeln!(out, "{number}: {}{no_address} failregex {}{user}{lines}", Painted(31, &host), failure.regex + 1);
    print::told(head.and_then(|()| writeln!(out, "   {}", excerpt(line))))
}
