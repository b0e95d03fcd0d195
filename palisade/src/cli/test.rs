//! `palisade test`, `signatures`.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use palisade_core::attack::{Attack, Sign, excerpt};
use palisade_core::scan::{Explanation, JailScan, Line, LogClock, Reason, Scanner, Signature};
use palisade_core::time::Stamp;
use palisade_os::clock;
use serde::Serialize;
use serde_json::json;

use super::ask::usage;
use super::print::{self, Painted};
use super::{Exit, Global};
use crate::library::Library;
use crate::zone;

/// Hold lines against signatures.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade test /var/log/auth.log\n  journalctl -u ssh -o short | palisade test --signature sshd -\n  palisade --json test --jail sshd access.log | jq 'select(.match)'\n\nExit code 0: something matched. 1: nothing did."
)]
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
    /// A file, or - for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
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
}

impl Test {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let (config, library) = global.places().config_and_library()?;
        let scanner = self.scanner(&config, &library)?;
        let input: Box<dyn Read> = if self.file.as_os_str() == "-" { Box::new(io::stdin().lock()) } else { Box::new(open(&self.file)?) };
        let mut lines = Lines { input: BufReader::new(input), cap: config.limits().line };
        let zone = self.jail.as_ref().and_then(|name| config.jail(&name.as_str().into())?.timezone.as_deref());
        let mut state = scanner.state(LogClock::new(zone::of(zone), clock::now().stamp));
        let (mut number, mut matched) = (0, 0);
        while let Some(line) = lines.next()? {
            number += 1;
            let mut best: Option<Attack> = None;
            if let Some(bytes) = &line {
                scanner.scan(&mut state, Line::raw(bytes), &mut |sign| match sign {
                    Sign::Attack(attack) if best.as_ref().is_none_or(|b| attack.score > b.score) => best = Some(attack),
                    _ => {}
                });
            }
            matched += u64::from(best.is_some());
            if global.json {
                print::json(&document(number, best.as_ref()))?;
            } else {
                self.show(number, line.as_deref(), best.as_ref(), &scanner)?;
            }
        }
        if !global.json {
            print::say(format_args!("{matched} of {number} lines matched"));
        }
        Ok(if matched > 0 { Exit::Done } else { Exit::No })
    }

    fn scanner(&self, config: &palisade_core::config::Config, library: &Library) -> Result<Scanner> {
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

    fn show(&self, number: u64, line: Option<&[u8]>, best: Option<&Attack>, scanner: &Scanner) -> Result<()> {
        let Some(bytes) = line else {
            return print::line(format_args!("{number}: {}", Painted(33, "too long, dropped whole")));
        };
        match best {
            Some(attack) => {
                let user = attack.user.as_ref().map(|u| format!(" user {u:?}")).unwrap_or_default();
                print::line(format_args!("{number}: {} {} score {}{user}", Painted(31, attack.addr), attack.signature, attack.score))?;
                print::line(format_args!("   {}", coloured(bytes, &attack.addr.to_string())))
            }
            None if self.explain => explain(number, &scanner.explain(Line::raw(bytes))),
            None => Ok(()),
        }
    }
}

/// The line with the blamed address in colour.
fn coloured(line: &[u8], addr: &str) -> String {
    let text = excerpt(line);
    match text.rfind(addr) {
        Some(at) => format!("{}{}{}", &text[..at], Painted(31, addr), &text[at + addr.len()..]),
        None => text,
    }
}

fn explain(number: u64, explanation: &Explanation) -> Result<()> {
    let program = explanation.program.as_deref().unwrap_or("none recognised");
    print::line(format_args!("{number}: no match; program: {program}; message: {}", explanation.message))?;
    for trial in &explanation.trials {
        let why = match &trial.reason {
            Reason::Match { .. } | Reason::Nothing => continue,
            Reason::Program { listens_to } => format!("listens to {}", listens_to.join(", ")),
            Reason::NoAccessLog => "not of the common or combined log format".to_owned(),
            Reason::NoFields => "neither a JSON object nor key=value words".to_owned(),
            Reason::NoAddress { rule, text } => format!("{rule}: `{text}` is no address"),
            Reason::Nearest { rule, wants } => format!("nearest is {rule}: {wants}"),
        };
        print::line(format_args!("   {}: {why}", trial.signature))?;
    }
    Ok(())
}

fn document(line: u64, attack: Option<&Attack>) -> LineDoc<'_> {
    LineDoc {
        line,
        matched: attack.is_some(),
        signature: attack.map(|a| a.signature.as_ref()),
        service: attack.map(|a| a.service.as_ref()),
        addr: attack.map(|a| a.addr.to_string()),
        score: attack.map(|a| a.score),
        time: attack.and_then(|a| a.at),
        user: attack.and_then(|a| a.user.as_deref()),
    }
}

fn find(library: &Library, name: &str) -> Result<Arc<Signature>> {
    library.signature(name).ok_or_else(|| usage(format_args!("there is no signature `{name}`; `palisade signatures` lists them")))
}

fn open(path: &Path) -> Result<File> {
    let wrong = |why: &dyn Display| usage(format_args!("cannot read {}: {why}", path.display()));
    let file = File::open(path).map_err(|error| wrong(&error))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(wrong(&"it is a directory"));
    }
    Ok(file)
}

/// Lines as bytes; one over the cap is `None`, as the daemon drops it whole.
struct Lines<R> {
    input: BufReader<R>,
    cap: usize,
}

impl<R: Read> Lines<R> {
    fn next(&mut self) -> Result<Option<Option<Vec<u8>>>> {
        let mut line = Vec::new();
        let cap = self.cap as u64 + 1;
        (&mut self.input).take(cap).read_until(b'\n', &mut line).context("reading the lines")?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        } else if line.len() as u64 == cap {
            self.skip()?;
            return Ok(Some(None));
        }
        Ok(Some(Some(line)))
    }

    /// Throws the rest of the line away.
    fn skip(&mut self) -> Result<()> {
        loop {
            let buffer = self.input.fill_buf().context("reading the lines")?;
            let (used, end) = match buffer.iter().position(|b| *b == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.input.consume(used);
            if end {
                return Ok(());
            }
        }
    }
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
