//! `palisade test`, `signatures`.
//!
//! | file | what |
//! |---|---|
//! | `test` | the verbs |
//! | `test/show` | one line's answer |
//! | `test/profile` | what each rule costs |

mod filter;
mod profile;
mod show;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use palisade_core::attack::{Sign, excerpt};
use palisade_core::config::Config;
use palisade_core::scan::{JailScan, Line, LogClock, ScanState, Scanner, Signature};
use palisade_os::logs::journal::past;
use serde_json::json;

use super::ask::usage;
use super::past::{Blocks, Kind, Opened, Several, When, each_line, journal, unread};
use super::print::{self, Painted};
use super::replay::listen::scan_block;
use super::{Exit, Global};
use crate::library::Library;
use filter::Filtering;
use show::{Show, Told};

const EXAMPLES: &str = "\
Examples:
  palisade test /var/log/auth.log                         the lines that match, and what was found in them
  palisade test --signature sshd --explain auth.log       why each other line does not
  palisade test --profile auth.log.2.gz access.log        what each rule costs over these lines
  journalctl -u ssh -o short | palisade test --signature sshd -
  palisade test --fail2ban-filter /etc/fail2ban/filter.d/sshd.conf --set mode=aggressive auth.log
  palisade test --now 2024-03-01 --zone Europe/Berlin old.log
  palisade --json test --jail sshd access.log | jq 'select(.match)'

Plain, gzip, xz, zstd and journal files are told by their content. A line that tells of a login matches nothing: it is shown,
with \"login\": true in JSON, and has no part in the exit code.

Exit code 0: something matched. 1: nothing did. 6: either, but a file could not be read, or not to its end.";

/// Hold lines against signatures.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Test {
    /// Only this signature (see `palisade signatures`); may be given again
    #[arg(long = "signature", value_name = "NAME", conflicts_with = "jail")]
    signatures: Vec<String>,
    /// Only what this jail uses
    #[arg(long, value_name = "NAME")]
    jail: Option<String>,
    /// Why each line that does not match does not
    #[arg(long)]
    explain: bool,
    /// What each rule costs over these lines, in the place of the lines
    #[arg(long, conflicts_with = "explain")]
    profile: bool,
    #[command(flatten)]
    filtering: Filtering,
    #[command(flatten)]
    when: When,
    /// Files, rotated and packed ones too, journal files, or - for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    files: Vec<PathBuf>,
}

impl Test {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let (config, library) = global.places().config_and_library()?;
        let line_max = config.limits().line;
        if let Some(filtered) = self.filtering.open(global.json)? {
            return filtered.run(&self.files, &self.when, line_max);
        }
        let scanner = self.scanner(&config, &library)?;
        if self.profile {
            return profile::run(&self.files, &self.when, &scanner, line_max, global.json);
        }
        let jail = self.jail.as_deref().and_then(|name| config.jail(&name.into()));
        let zone = jail.and_then(|jail| jail.timezone.as_deref());
        let mut held = Held { scanner: &scanner, line_max, show: Show::new(self.explain, global.json, self.files.len() > 1) };
        let mut several = Several::new(&self.files);
        for path in &self.files {
            let Some(opened) = several.open(path)? else { continue };
            let clock = self.when.clock(&opened, zone)?;
            held.show.begin(path, &scanner, &clock);
            if opened.kind == Kind::Journal {
                held.journal(path, jail.map(|jail| jail.journal.clone()).unwrap_or_default(), clock)?;
            } else {
                held.lines(path, opened, clock)?;
            }
            held.show.flush()?;
        }
        Ok(several.exit(if held.show.end()? { Exit::Done } else { Exit::No }))
    }

    fn scanner(&self, config: &Config, library: &Library) -> Result<Scanner> {
        if let Some(name) = &self.jail {
            let Some(jail) = config.jail(&name.as_str().into()) else {
                let names: Vec<&str> = config.jails().keys().map(|n| n.0.as_ref()).collect();
                return Err(usage(format_args!("there is no jail `{name}`; there are {}", names.join(", "))));
            };
            return library.scanner([jail]).map_err(|fault| usage(format_args!("jail `{name}`: {fault}")));
        }
        if self.signatures.is_empty() {
            return Ok(Scanner::new(&[JailScan::of("test".into(), library.all())]));
        }
        let signatures: Result<Vec<Arc<Signature>>> = self.signatures.iter().map(|name| find(library, name)).collect();
        Ok(Scanner::new(&[JailScan::of("test".into(), signatures?)]))
    }
}

/// Lines, held against a scanner.
struct Held<'a> {
    scanner: &'a Scanner,
    line_max: usize,
    show: Show,
}

impl Held<'_> {
    fn lines(&mut self, path: &Path, opened: Opened, clock: LogClock) -> Result<()> {
        let pipe = opened.is_pipe();
        let mut blocks = Blocks::new(opened.reader(Arc::default()).map_err(unread(path))?, self.line_max, pipe);
        let mut state = self.scanner.state(clock);
        state.set_line_cap(self.line_max);
        let mut number = 0;
        while let Some(block) = blocks.next().map_err(unread(path))? {
            for _ in 0..block.dropped {
                number += 1;
                state.dropped(b"");
                self.show.line(number, None, Told::Nothing, self.scanner)?;
            }
            number += self.block(block.lines, number, &mut state)?;
            if pipe {
                self.show.flush()?;
            }
        }
        Ok(())
    }

    /// All lines of a block; how many they are.
    fn block(&mut self, lines: &[u8], before: u64, state: &mut ScanState) -> Result<u64> {
        let mut signs: Vec<(u64, Sign)> = Vec::new();
        let counted = scan_block(self.scanner, state, lines, self.line_max, &mut |line, sign| signs.push((line, sign)));
        if signs.is_empty() && counted.oversize == 0 && !self.show.tells_of_all() {
            self.show.pass(counted.lines);
            return Ok(counted.lines);
        }
        let mut signs = signs.into_iter().peekable();
        let (mut number, mut done) = (0, Ok(()));
        each_line(lines, self.line_max, |line| {
            number += 1;
            if done.is_ok() {
                let mut told = Told::Nothing;
                while let Some((_, sign)) = signs.next_if(|(at, _)| *at == number) {
                    told.or(sign);
                }
                done = self.show.line(before + number, line.map(Line::raw), told, self.scanner);
            }
        });
        done.map(|()| number)
    }

    fn journal(&mut self, path: &Path, matches: Vec<String>, clock: LogClock) -> Result<()> {
        let mut wants: Vec<(usize, Option<String>)> = matches.into_iter().map(|text| (0, Some(text))).collect();
        if wants.is_empty() {
            wants.push((0, None));
        }
        let mut state = self.scanner.state(clock);
        let (mut number, mut done) = (0, Ok(()));
        journal(path, &wants, self.line_max, &mut |take| {
            number += 1;
            let mut told = Told::Nothing;
            done = match take {
                past::Take::Oversize => self.show.line(number, None, told, self.scanner),
                past::Take::Record { sources, record } => {
                    let line = Line::journal(Some(record.ident), record.pid, record.message, record.realtime);
                    if !sources.is_empty() {
                        self.scanner.scan(&mut state, line, &mut |sign| told.or(sign));
                    }
                    self.show.line(number, Some(line), told, self.scanner)
                }
            };
            done.is_ok()
        })
        .map_err(unread(path))?;
        done
    }
}

fn find(library: &Library, name: &str) -> Result<Arc<Signature>> {
    library.signature(name).ok_or_else(|| usage(format_args!("there is no signature `{name}`; `palisade signatures` lists them")))
}

/// What ships.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  palisade signatures\n  palisade signatures sshd")]
pub struct Signatures {
    /// One of them, with its rules and examples
    name: Option<String>,
}

impl Signatures {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let library = Library::open(&global.places().config)?;
        match self.name {
            Some(name) => one(find(&library, &name)?.as_ref(), global.json)?,
            None if global.json => {
                let all: Vec<_> = library
                    .all()
                    .iter()
                    .map(|s| {
                        let own = library.is_own(s.name());
                        json!({ "name": s.name(), "service": s.service(), "summary": s.summary(), "rules": s.rules().len(), "own": own })
                    })
                    .collect();
                print::json(&json!({ "v": 1, "signatures": all }))?;
            }
            None => {
                let mine = |name: &str| if library.is_own(name) { " (your own)" } else { "" };
                let row =
                    |s: &Arc<Signature>| vec![s.name().to_owned(), count(s.rules().len()), format!("{}{}", s.summary(), mine(s.name()))];
                let rows: Vec<_> = library.all().iter().map(row).collect();
                print::table(&rows)?;
            }
        }
        Ok(Exit::Done)
    }
}

fn count(rules: usize) -> String {
    if rules == 1 { "1 rule".to_owned() } else { format!("{rules} rules") }
}

fn one(signature: &Signature, as_json: bool) -> Result<()> {
    if as_json {
        let rules: Vec<_> = signature
            .rules()
            .iter()
            .map(|r| json!({ "rule": r.id(), "outcome": if r.is_login() { "login" } else { "failure" }, "score": r.score(), "test": r.text(), "hits": r.hits().iter().map(|h| &h.line).collect::<Vec<_>>(), "misses": r.misses() }))
            .collect();
        return print::json(
            &json!({ "v": 1, "name": signature.name(), "service": signature.service(), "summary": signature.summary(), "files": signature.places().files,
                "journal": signature.places().journal, "ports": signature.places().ports, "rules": rules }),
        );
    }
    print::line(format_args!("{}: {}", Painted(1, signature.name()), signature.summary()))?;
    if !signature.programs().is_empty() {
        print::line(format_args!("listens to {}", signature.programs().join(", ")))?;
    }
    let places = signature.places();
    for (what, list) in [("files", &places.files), ("journal", &places.journal), ("ports", &places.ports)] {
        if !list.is_empty() {
            print::line(format_args!("{what}: {}", list.join(", ")))?;
        }
    }
    for rule in signature.rules() {
        let weight = if rule.is_login() { "a login".to_owned() } else { format!("score {}", rule.score()) };
        print::line(format_args!("\n{} ({weight})\n  {}", Painted(1, rule.full_name()), rule.text()))?;
        for hit in rule.hits() {
            print::line(format_args!("  {} {}", Painted(31, "hit "), excerpt(hit.line.as_bytes())))?;
        }
        for miss in rule.misses() {
            print::line(format_args!("  {} {}", Painted(32, "miss"), excerpt(miss.as_bytes())))?;
        }
    }
    Ok(())
}
