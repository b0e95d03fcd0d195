//! How much of a peer's sample logs the shipped signatures understand, and whom they blame.
//!
//! The samples are fail2ban's, read where they lie; none is part of this repository. `$PALISADE_CORPORA` has some,
//! fail2ban's package has more, and each folder of `$PALISADE_FAIL2BAN_SOURCE` is a release's source. Each line is
//! told by a comment before it whether a failure is to be found in it, and whose. All shipped
//! signatures look at each line at once, as a jail that names them all would.
//!
//! A file of samples counts once its signature ships; `coverage/files.txt` says which signature
//! that is. What cannot come out as the samples say is in `coverage/decided.txt`, with the reason.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads the corpus, which is no part of the repository")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use palisade_core::attack::Sign;
use palisade_core::net::Addr;
use palisade_core::scan::{JailScan, Line, LogClock, Scanner, builtin, load};
use palisade_core::time::Stamp;
use serde_json::Value;

/// `file signature`: which signature a file of samples is for; `-` and a reason where none ships.
const FILES: &str = include_str!("coverage/files.txt");
/// `file | part of the line | reason`: lines decided otherwise than the samples say.
const DECIDED: &str = include_str!("coverage/decided.txt");
/// Where fail2ban's own package puts its samples: more of them than the corpus has.
const INSTALLED: &str = "/usr/lib/python3/dist-packages/fail2ban/tests/files/logs";
/// How many of a hundred matching lines of a shipped service must be found.
const FOUND: usize = 95;

/// One line of a file of samples.
struct Sample {
    /// What the samples say: whether there is a failure, and whose.
    expected: Option<(bool, Option<String>)>,
    line: String,
    journal: bool,
}

/// Reads the format of fail2ban's samples: `# failJSON:` tells of the next line, `# filterOptions:`
/// of all that follow.
fn samples(text: &str) -> Vec<Sample> {
    let (mut all, mut expected) = (Vec::new(), None);
    let (mut of_file, mut journal, mut prefix) = (false, false, String::new());
    for line in text.lines() {
        let Some(comment) = line.strip_prefix('#') else {
            if !line.trim().is_empty() {
                all.push(Sample { expected: expected.take(), line: format!("{prefix}{line}"), journal });
            }
            continue;
        };
        let comment = comment.trim_start_matches(['#', ' ']);
        if let Some(json) = comment.strip_prefix("failJSON:") {
            let json: Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"));
            expected = Some((json["match"] == true, json["host"].as_str().map(str::to_owned)));
        } else if let Some((name, json)) = comment.split_once("Options:").filter(|(name, _)| matches!(*name, "filter" | "file")) {
            let json: Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"));
            let first = json.get(0).unwrap_or(&json);
            let is = first["logtype"] == "journal";
            of_file |= is && name == "file";
            journal = is || of_file;
            prefix = first["test.prefix-line"].as_str().unwrap_or_default().to_owned();
        }
    }
    all
}

/// `host prog[pid]: message`, as the samples write a journal record.
fn record(line: &str) -> Line<'_> {
    let taken = line.split_once(' ').and_then(|(_, rest)| rest.split_once("]: ")).and_then(|(tag, message)| {
        let (program, pid) = tag.split_once('[')?;
        Some(Line::journal(Some(program.as_bytes()), pid.parse().ok(), message.as_bytes(), None))
    });
    taken.unwrap_or_else(|| Line::raw(line.as_bytes()))
}

/// What came out of a file.
#[derive(Default)]
struct Score {
    /// Failures whose address stands in an earlier line only.
    elsewhere: usize,
    /// Lines of `decided.txt`.
    decided: usize,
    wanted: usize,
    found: usize,
    missed: Vec<String>,
    innocent: Vec<String>,
    wrong: Vec<String>,
}

fn judge(scanner: &Scanner, file: &str, text: &str) -> Score {
    let decided: Vec<&str> = rows(DECIDED, '|').filter(|row| row[0] == file).map(|row| row[1]).collect();
    let (mut score, mut state) = (Score::default(), scanner.state(LogClock::utc(Stamp(0))));
    let samples = samples(text);
    // What is innocent in one mode of a filter and a failure in another is a failure.
    let failures: BTreeSet<String> =
        samples.iter().filter(|s| s.expected.as_ref().is_some_and(|(failure, _)| *failure)).map(|s| s.line.clone()).collect();
    for Sample { expected, line, journal } in samples {
        if decided.iter().any(|part| line.contains(part)) {
            score.decided += 1;
            continue;
        }
        let mut blamed: Option<(String, Addr)> = None;
        let read = if journal { record(&line) } else { Line::raw(line.as_bytes()) };
        scanner.scan(&mut state, read, &mut |sign| {
            if let Sign::Attack(attack) = sign {
                blamed = Some((attack.signature.to_string(), attack.addr));
            }
        });
        let (failure, host) = expected.unwrap_or((false, None));
        if failure && host.as_ref().is_some_and(|host| !line.contains(host.as_str())) {
            score.elsewhere += 1;
            continue;
        }
        let host: Option<Addr> = host.and_then(|h| h.parse().ok());
        match (failure, host, blamed) {
            (true, Some(host), blamed) => {
                score.wanted += 1;
                match blamed {
                    Some((_, addr)) if addr == host => score.found += 1,
                    Some((rule, addr)) => score.wrong.push(format!("{rule} blamed {addr}: {line}")),
                    None => score.missed.push(line),
                }
            }
            // The failure is there, the peer just names it by host name, or by none.
            (true, None, _) => {}
            (false, _, Some((rule, addr))) if !failures.contains(&line) => score.innocent.push(format!("{rule} blamed {addr}: {line}")),
            (false, ..) => {}
        }
    }
    score
}

/// The rows of a table: comments and empty lines are left out, the columns trimmed.
fn rows(table: &'static str, between: char) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(move |line| line.splitn(3, between).map(str::trim).collect())
}

fn folders() -> Vec<PathBuf> {
    let corpora = std::env::var_os("PALISADE_CORPORA").map_or_else(|| PathBuf::from("../../../shared/corpora"), PathBuf::from);
    let sources = std::env::var_os("PALISADE_FAIL2BAN_SOURCE").unwrap_or_default();
    let sources = std::env::split_paths(&sources).map(|tree| tree.join("fail2ban/tests/files/logs"));
    let all = [corpora.join("fail2ban/logs"), PathBuf::from(INSTALLED)].into_iter().chain(sources);
    let all: Vec<PathBuf> = all.filter(|folder| folder.is_dir()).collect();
    if all.is_empty() {
        eprintln!("SKIPPED: no fail2ban/logs under $PALISADE_CORPORA or beside the workspace, and no {INSTALLED}");
    }
    all
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap());
    entries.filter(|e| e.file_type().unwrap().is_file()).map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn shipped_services_are_understood_and_no_innocent_is_blamed() {
    let scanner = Scanner::new(&[JailScan::of("test".into(), builtin().to_vec())]);
    let mut failed = Vec::new();
    for folder in folders() {
        let (mut wanted, mut found, mut files) = (0, 0, 0);
        for name in names(&folder) {
            let text = String::from_utf8_lossy(&std::fs::read(folder.join(&name)).unwrap()).into_owned();
            let score = judge(&scanner, &name, &text);
            let signature = rows(FILES, ' ').find(|row| row[0] == name).map(|row| row[1]);
            let shipped = signature.is_some_and(|s| load(s).is_some());
            let mark = if shipped { "" } else { " (not shipped)" };
            let Score { found: here, wanted: all, elsewhere, decided: left, .. } = &score;
            eprintln!("{name}: {here} of {all}; {elsewhere} told by an earlier line only, {left} decided otherwise{mark}");
            let told = |kind: &str, lines: &[String]| lines.iter().for_each(|line| eprintln!("    {kind}: {line}"));
            told("innocent", &score.innocent);
            told("wrong", &score.wrong);
            if shipped {
                told("missed", &score.missed);
                (wanted, found, files) = (wanted + score.wanted, found + score.found, files + 1);
            }
            if shipped && score.found * 100 < score.wanted * FOUND {
                failed.push(format!("{name}: {} of {} found", score.found, score.wanted));
            }
            failed.extend(score.wrong.iter().chain(&score.innocent).map(|line| format!("{name}: {line}")));
        }
        eprintln!("{}: {found} of {wanted} failures in {files} files of shipped services", folder.display());
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_tables_are_read_and_say_why() {
    for row in rows(FILES, ' ') {
        assert!(row.len() == 2 || (row.len() == 3 && row[1] == "-"), "{row:?}: a file and its signature, or `-` and why none ships");
    }
    for row in rows(DECIDED, '|') {
        assert!(row.len() == 3 && row.iter().all(|column| !column.is_empty()), "{row:?}: file | part of the line | reason");
    }
}

#[test]
fn samples_are_read_as_they_are_written() {
    let text = "# failJSON: { \"match\": true , \"host\": \"192.0.2.7\" }\na line\nanother\n\n# filterOptions: [{\"logtype\": \"journal\", \"test.prefix-line\": \"host x[1]: \"}]\n# a comment\nthird\n";
    let all = samples(text);
    let read: Vec<_> = all.iter().map(|s| (s.expected.clone(), s.line.as_str(), s.journal)).collect();
    assert_eq!(
        read,
        [(Some((true, Some("192.0.2.7".to_owned()))), "a line", false), (None, "another", false), (None, "host x[1]: third", true)]
    );
}
