//! fail2ban's own samples through its own filters: each line decided as its failJSON says.
//!
//! Neither is part of this repository. The samples are `$PALISADE_CORPORA/fail2ban/logs`, beside the
//! workspace where that is not set; the filters are `$PALISADE_FAIL2BAN`, or /etc/fail2ban. Each folder of
//! `$PALISADE_FAIL2BAN_SOURCE` is a release's source, with filters and samples of its own. What is not there is
//! skipped, and said loudly.
//!
//! | line (fail2ban's `tests/samplestestcase.py`) | meaning |
//! |---|---|
//! | `# failJSON: {...}` | what the next line is; a line without is no match |
//! | `# filterOptions: {...}` or `[{...}, ...]` | the lines after it are tried with each of these options |
//! | `# fileOptions: {...}` | options beneath those |
//! | `# addFILE: "name"` | one more file, after this; left out where it is not there |
#![expect(clippy::disallowed_methods, reason = "a test reads the corpus, which is no part of the repository")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use palisade_core::ini::Files;
use palisade_core::scan::fail2ban::{Failure, Filter, Session, define};
use palisade_core::scan::{Line, LogClock};
use palisade_core::time::Stamp;
use serde_json::{Map, Value};

/// 2005-08-14 12:00 in Central Europe, when all samples were written.
const NOW: Stamp = Stamp(1_124_013_600_000);

/// The zone all samples were written in.
const ZONE: &str = "CET-01CEST-02,M3.5.0,M10.5.0";

/// Samples that are decided otherwise, by file and line, and why.
const OTHERWISE: &[(&str, usize, &str)] = &[];

type Options = BTreeMap<String, String>;

struct Disk {
    filters: PathBuf,
}

impl Files for Disk {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        // The filters for tests name common.conf by its place in fail2ban's source.
        let place = path.rsplit_once("/../config/").map(|(_, below)| self.filters.join(below));
        Ok(std::fs::read(place.unwrap_or_else(|| path.into())).ok())
    }

    fn list(&self, dir: &str, ending: &str) -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut paths: Vec<String> =
            entries.map(|entry| entry.path().display().to_string()).filter(|path| path.ends_with(ending)).collect();
        paths.sort();
        paths
    }
}

fn folder(variable: &str, default: &str, below: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from).join(below);
    if !path.is_dir() {
        eprintln!("SKIPPED: no {} (set {variable})", path.display());
        return None;
    }
    Some(path)
}

/// Where the filters are: fail2ban's, and those it has for its tests only, as a package or as its source has them.
fn filter_path(filters: &Path, name: &str) -> Option<PathBuf> {
    let tests = "usr/lib/python3/dist-packages/fail2ban/tests/config";
    let source = filters.join("../fail2ban/tests/config");
    let folders = [filters.to_path_buf(), source, filters.join("../..").join(tests), Path::new("/").join(tests)];
    folders.iter().map(|folder| folder.join("filter.d").join(format!("{name}.conf"))).find(|path| path.is_file())
}

/// One filter with one set of options, and what it remembers.
struct Trial {
    filter: Filter,
    session: Session,
    journal: bool,
    prefix: String,
    options: Options,
}

/// One file of samples as it is gone through.
struct Run<'a> {
    disk: &'a Disk,
    name: &'a str,
    path: PathBuf,
    /// Compiled once for each set of options, with what they remember.
    trials: Vec<Trial>,
    /// Which of them the next lines are tried with.
    active: Vec<usize>,
    below: Options,
    clock: LogClock,
    checked: usize,
    wrong: String,
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn options(value: &Value) -> Options {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// The few Python expressions that occur: `name == 'sshd'`, `opts.get('mode') != 'aggressive'`.
fn holds(condition: &str, name: &str, options: &Options) -> bool {
    let (left, right, equal) = match (condition.split_once("=="), condition.split_once("!=")) {
        (Some((left, right)), _) => (left, right, true),
        (None, Some((left, right))) => (left, right, false),
        (None, None) => panic!("an expression of another shape: {condition}"),
    };
    let quoted = |text: &str| text.split('\'').nth(1).map(str::to_owned);
    let value = match left.trim() {
        "name" => Some(name.to_owned()),
        left if left.starts_with("opts.get(") => quoted(left).and_then(|name| options.get(&name).cloned()),
        _ => panic!("an expression of another shape: {condition}"),
    };
    (value == quoted(right)) == equal
}

impl Run<'_> {
    fn open(&mut self, sets: &[Options]) -> bool {
        self.active.clear();
        let mut ignored = false;
        for set in sets {
            let mut all = self.below.clone();
            all.extend(set.clone());
            if let Some(condition) = all.get("test.condition") {
                ignored = !holds(condition, self.name, &all);
            }
            if !ignored {
                let index = self.trial(all);
                self.active.push(index);
            }
        }
        !ignored
    }

    fn trial(&mut self, all: Options) -> usize {
        let plain: Options = all.iter().filter(|(name, _)| !name.starts_with("test.")).map(|(n, v)| (n.clone(), v.clone())).collect();
        let same = |options: &Options| options.iter().filter(|(name, _)| !name.starts_with("test.")).eq(plain.iter());
        if let Some(at) = self.trials.iter().position(|trial| same(&trial.options)) {
            return at;
        }
        let definition = define(self.disk, &self.path.display().to_string(), &plain, false).unwrap_or_else(|error| panic!("{error}"));
        let filter = Filter::compile(&definition).unwrap_or_else(|error| panic!("{error}"));
        let journal = all.get("logtype").is_some_and(|kind| kind == "journal");
        let prefix = all.get("test.prefix-line").cloned().unwrap_or_default();
        self.trials.push(Trial { session: filter.session(), filter, journal, prefix, options: all });
        self.trials.len() - 1
    }

    /// The names of further files.
    fn file(&mut self, file: &str, bytes: &[u8]) -> Vec<String> {
        let mut more = Vec::new();
        let mut ignored = false;
        let mut said: Option<Map<String, Value>> = None;
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if said.is_none() {
                match directive(line) {
                    Some(("failJSON", value)) => {
                        said = value.as_object().cloned();
                        continue;
                    }
                    Some(("fileOptions", value)) => {
                        self.below = options(&value);
                        continue;
                    }
                    Some(("filterOptions", value)) => {
                        let sets: Vec<Options> =
                            value.as_array().map_or_else(|| vec![options(&value)], |sets| sets.iter().map(options).collect());
                        ignored = !self.open(&sets);
                        continue;
                    }
                    Some((_, value)) => {
                        more.push(text(&value));
                        continue;
                    }
                    None if ignored || line.starts_with(b"#") || line.trim_ascii().is_empty() => continue,
                    None => {}
                }
            }
            let said = said.take().unwrap_or_default();
            if ignored {
                continue;
            }
            if self.active.is_empty() {
                self.active = vec![self.trial(Options::new())];
            }
            self.line(file, number + 1, line, &said);
        }
        more
    }

    fn line(&mut self, file: &str, number: usize, line: &[u8], said: &Map<String, Value>) {
        let mut line = line.to_vec();
        for index in self.active.clone() {
            let trial = &mut self.trials[index];
            if said.get("constraint").is_some_and(|condition| !holds(&text(condition), self.name, &trial.options)) {
                continue;
            }
            let failure = if trial.journal {
                line = [trial.prefix.as_bytes(), &line].concat();
                trial.filter.look(&mut trial.session, Line::dated(&line, NOW), &self.clock)
            } else {
                trial.filter.look(&mut trial.session, Line::raw(&line), &self.clock)
            };
            self.checked += 1;
            let otherwise = OTHERWISE.iter().any(|(f, n, _)| (*f, *n) == (file, number));
            let fault = fault(failure.as_ref(), said, &self.clock.zone);
            if fault.is_some() != otherwise {
                let why = fault.unwrap_or_else(|| "is as it should be, though it is listed".to_owned());
                let _ = writeln!(self.wrong, "{file}:{number} {:?}: {why}\n    {}", trial.options, String::from_utf8_lossy(&line));
            }
        }
    }
}

/// `# failJSON: {...}` and its like.
fn directive(line: &[u8]) -> Option<(&str, Value)> {
    let line = str::from_utf8(line).ok()?.strip_prefix('#')?.trim_start_matches('#');
    let line = line.strip_prefix(' ').unwrap_or(line);
    let (name, value) = line.split_once(':')?;
    if !["failJSON", "fileOptions", "filterOptions", "addFILE"].contains(&name) {
        return None;
    }
    Some((name, serde_json::from_str(value).unwrap_or_else(|error| panic!("{line}: {error}"))))
}

/// What is not as the sample says.
fn fault(failure: Option<&Failure>, said: &Map<String, Value>, zone: &TimeZone) -> Option<String> {
    let wanted = said.get("match").and_then(Value::as_bool).unwrap_or(false);
    let Some(failure) = failure else { return wanted.then(|| "no match, though it should".to_owned()) };
    if !wanted {
        return Some(format!("matches, though it should not: {failure:?}"));
    }
    for (name, wanted) in said {
        let found = match name.as_str() {
            "match" | "desc" | "constraint" => continue,
            "host" | "ip4" | "ip6" => same_host(&failure.host, &text(wanted)),
            "dns" => wanted.is_null() == failure.addr.is_some(),
            "user" => failure.user.as_deref() == wanted.as_str(),
            "users" => Some(failure.users.iter().map(String::as_str).collect()) == sorted(wanted),
            "attempts" => Some(u64::from(failure.attempts)) == wanted.as_u64(),
            "time" if wanted.is_null() => true,
            "time" => failure.at == Some(moment(&text(wanted), zone)),
            name => panic!("a key of another kind: {name}"),
        };
        if !found {
            return Some(format!("{name} should be {wanted}: {failure:?}"));
        }
    }
    None
}

fn same_host(found: &str, wanted: &str) -> bool {
    let addr = |text: &str| text.parse::<std::net::IpAddr>().ok();
    found == wanted || (addr(found).is_some() && addr(found) == addr(wanted))
}

fn sorted(value: &Value) -> Option<Vec<&str>> {
    let mut all: Vec<&str> = value.as_array()?.iter().filter_map(Value::as_str).collect();
    all.sort_unstable();
    Some(all)
}

fn moment(text: &str, zone: &TimeZone) -> Stamp {
    let time = DateTime::strptime("%Y-%m-%dT%H:%M:%S%.f", text).unwrap_or_else(|error| panic!("{text}: {error}"));
    Stamp(zone.to_timestamp(time).unwrap_or_else(|error| panic!("{text}: {error}")).as_millisecond())
}

/// What is wrong with some samples; nothing, it is hoped.
fn check(logs: &Path, filters: &Path) -> String {
    let zone = TimeZone::posix(ZONE).unwrap_or_else(|error| panic!("{error}"));
    let (mut checked, mut wrong) = (0, String::new());
    let disk = Disk { filters: filters.to_path_buf() };
    for path in disk.list(&logs.display().to_string(), "") {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        if Path::new(&path).is_dir() {
            continue;
        }
        let Some(filter) = filter_path(filters, &name) else {
            eprintln!("SKIPPED: no filter for the samples of {name}");
            continue;
        };
        let clock = LogClock::new(zone.clone(), NOW);
        let mut run = Run {
            disk: &disk,
            name: &name,
            path: filter,
            trials: Vec::new(),
            active: Vec::new(),
            below: Options::new(),
            clock,
            checked: 0,
            wrong: String::new(),
        };
        let mut files = vec![name.clone()];
        while let Some(file) = files.first().cloned() {
            files.remove(0);
            match std::fs::read(logs.join(&file)) {
                Ok(bytes) => {
                    let more = run.file(&file, &bytes);
                    files.extend(more);
                }
                Err(error) => eprintln!("SKIPPED: {file}: {error}"),
            }
        }
        checked += run.checked;
        wrong.push_str(&run.wrong);
    }
    eprintln!("{checked} samples checked in {}", logs.display());
    assert!(checked > 500, "there are few samples in {}: {checked}", logs.display());
    wrong
}

#[test]
fn every_sample_of_fail2ban_is_decided_as_it_says() {
    let Some(logs) = folder("PALISADE_CORPORA", "../../../shared/corpora", "fail2ban/logs") else { return };
    let Some(filters) = folder("PALISADE_FAIL2BAN", "/etc/fail2ban", "") else { return };
    let wrong = check(&logs, &filters);
    assert!(wrong.is_empty(), "{wrong}");
}

/// Other releases, from 1.0.2 on: 0.11 has the same samples, but did not believe the zone `PDT` in two of them.
#[test]
fn every_sample_of_other_releases_is_decided_as_it_says() {
    let Some(trees) = std::env::var_os("PALISADE_FAIL2BAN_SOURCE") else {
        eprintln!("SKIPPED: PALISADE_FAIL2BAN_SOURCE names no folders with fail2ban's source (separated by `:`)");
        return;
    };
    for tree in std::env::split_paths(&trees) {
        let wrong = check(&tree.join("fail2ban/tests/files/logs"), &tree.join("config"));
        assert!(wrong.is_empty(), "{}: {wrong}", tree.display());
    }
}
