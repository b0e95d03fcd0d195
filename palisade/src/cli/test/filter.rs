//! `palisade test --fail2ban-filter`: lines against one filter of fail2ban's, as fail2ban-regex has it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use palisade_core::attack::{FULL_FAILURE, excerpt};
use palisade_core::scan::fail2ban::{Failure, Filter, FilterError, Session, load};
use palisade_core::scan::{Line, LogClock};
use palisade_os::logs::journal::past;
use serde::Serialize;

use super::super::Exit;
use super::super::ask::usage;
use super::super::past::{Blocks, Kind, Several, When, each_line, journal, unread};
use super::super::print::{self, Buffered, Painted};
use super::show::LineDoc;
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

/// What is told of any line, and what fail2ban tells besides.
#[derive(Serialize)]
struct FilterDoc<'a> {
    #[serde(flatten)]
    line: LineDoc<'a>,
    host: Option<&'a str>,
    attempts: Option<u32>,
}

/// Lines, held against one filter.
pub(super) struct Filtered {
    filter: Filter,
    session: Session,
    /// Lines have no date: they are of the journal.
    journal: bool,
    out: Buffered,
    json: bool,
    number: u64,
    matched: u64,
}

impl Filtering {
    /// Reads the filter; `None` where none is named.
    pub(super) fn open(&self, json: bool) -> Result<Option<Filtered>> {
        let Some(path) = &self.fail2ban_filter else { return Ok(None) };
        let options = self.options()?;
        let (_, filter) = load(&Disk, path, &options, false).map_err(|error| no_filter(path, &error))?;
        let journal = options.get("logtype").is_some_and(|kind| kind == "journal");
        let session = filter.session();
        Ok(Some(Filtered { filter, session, journal, out: Buffered::new(), json, number: 0, matched: 0 }))
    }

    fn options(&self) -> Result<BTreeMap<String, String>> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
            _ => Err(usage(format_args!("`{text}` sets nothing; write it like mode=aggressive"))),
        };
        self.set.iter().map(pair).collect()
    }
}

/// Why it cannot be used. A filter is named by its `.conf`: another file is one that is not seen.
fn no_filter(path: &str, error: &FilterError) -> anyhow::Error {
    match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => usage(format_args!("{path} is a folder; name a filter in it, a file called NAME.conf")),
        Ok(_) if !path.ends_with(".conf") && !path.ends_with(".local") => {
            usage(format_args!("{path}: a filter of fail2ban's is a file called NAME.conf"))
        }
        _ => usage(error),
    }
}

impl Filtered {
    /// All lines of these files, one after the other.
    pub(super) fn run(mut self, files: &[PathBuf], when: &When, line_max: usize) -> Result<Exit> {
        let mut several = Several::new(files);
        for path in files {
            let Some(opened) = several.open(path)? else { continue };
            let clock = when.clock(&opened, None)?;
            if opened.kind == Kind::Journal {
                self.records(path, line_max, &clock)?;
                continue;
            }
            let pipe = opened.is_pipe();
            let mut blocks = Blocks::new(opened.reader(Arc::default()).map_err(unread(path))?, line_max, pipe);
            while let Some(block) = blocks.next().map_err(unread(path))? {
                for _ in 0..block.dropped {
                    self.line(None, &clock)?;
                }
                let mut done = Ok(());
                each_line(block.lines, line_max, |line| {
                    if done.is_ok() {
                        done = self.line(line, &clock);
                    }
                });
                done?;
                if pipe {
                    self.out.flush()?;
                }
            }
        }
        self.end().map(|exit| several.exit(exit))
    }

    fn records(&mut self, path: &Path, line_max: usize, clock: &LogClock) -> Result<()> {
        let mut done = Ok(());
        journal(path, &[(0, None)], line_max, &mut |take| {
            done = match take {
                past::Take::Oversize => self.line(None, clock),
                past::Take::Record { record, .. } => {
                    let line = Line::journal(Some(record.ident), record.pid, record.message, record.realtime);
                    self.look(Some(line), Some(record.message), clock)
                }
            };
            done.is_ok()
        })
        .map_err(unread(path))?;
        done
    }

    fn line(&mut self, bytes: Option<&[u8]>, clock: &LogClock) -> Result<()> {
        // The date of a journal record is not in its text.
        let line = bytes.map(|bytes| if self.journal { Line::dated(bytes, clock.now) } else { Line::raw(bytes) });
        self.look(line, bytes, clock)
    }

    fn look(&mut self, line: Option<Line<'_>>, bytes: Option<&[u8]>, clock: &LogClock) -> Result<()> {
        self.number += 1;
        let failure = line.and_then(|line| self.filter.look(&mut self.session, line, clock));
        self.matched += u64::from(failure.is_some());
        if self.json {
            return self.out.json(&document(self.number, &self.filter, failure.as_ref()));
        }
        match (&failure, bytes) {
            (Some(failure), Some(bytes)) => self.show(failure, bytes),
            _ => Ok(()),
        }
    }

    fn show(&mut self, failure: &Failure, line: &[u8]) -> Result<()> {
        let host = excerpt(failure.host.as_bytes());
        let no_address = if failure.addr.is_none() { " (no address: nobody can be banned by it)" } else { "" };
        let user = failure.user.as_ref().map(|user| format!(" user {user:?}")).unwrap_or_default();
        let lines = if failure.attempts == 1 { String::new() } else { format!(" {} lines", failure.attempts) };
        let (number, regex) = (self.number, failure.regex + 1);
        self.out.line(format_args!("{number}: {}{no_address} failregex {regex}{user}{lines}", Painted(31, &host)))?;
        self.out.line(format_args!("   {}", excerpt(line)))
    }

    fn end(mut self) -> Result<Exit> {
        self.out.flush()?;
        if self.session.limits() > 0 {
            print::say(format_args!("{} lines were not decided: they are too long, or took too many steps", self.session.limits()));
        }
        if !self.json {
            print::say(format_args!("{} of {} lines matched", self.matched, self.number));
        }
        Ok(if self.matched > 0 { Exit::Done } else { Exit::No })
    }
}

fn document<'a>(number: u64, filter: &'a Filter, failure: Option<&'a Failure>) -> FilterDoc<'a> {
    let line = LineDoc::nothing(number, None);
    let Some(failure) = failure else { return FilterDoc { line, host: None, attempts: None } };
    let line = LineDoc {
        matched: true,
        signature: Some(filter.full_name()),
        service: Some(filter.service()),
        addr: failure.addr.map(|addr| addr.to_string()),
        score: Some(FULL_FAILURE),
        time: failure.at,
        user: failure.user.as_deref(),
        ..line
    };
    FilterDoc { line, host: Some(&failure.host), attempts: Some(failure.attempts) }
}
