//! Lines of a MiB of what is known to hurt regexes, each held against every signature in this process.
//!
//! Each kind once so that nothing matches and once so that a signature does; then every rule's own
//! line with a MiB in each field that its client may fill.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use palisade_core::scan::formats::syslog;
use palisade_core::scan::{JailScan, Kind, Line as LogLine, LogClock, Rule, ScanState, Scanner, Signature, builtin};
use palisade_core::time::Stamp;

use crate::Bench;
use crate::report::{Line, Table};
use crate::stats::{Samples, time};

/// A line of a MiB.
const LONG: usize = 1 << 20;
/// What each of them may take.
const WITHIN: Duration = Duration::from_millis(5);
/// Least rounds: the first time automata make what they keep.
const ROUNDS: usize = 3;

/// One kind of line: a piece over and over between a beginning and an end.
struct Repeated {
    name: &'static str,
    head: &'static str,
    piece: &'static str,
    /// The end with which nothing matches, where there is one.
    miss: Option<&'static str>,
    /// The end with which a signature does, where there is one.
    hit: Option<&'static str>,
}

impl Repeated {
    fn line(&self, tail: &str) -> Vec<u8> {
        let left = LONG.saturating_sub(self.head.len() + tail.len());
        let mut line = self.head.as_bytes().to_vec();
        line.extend(self.piece.bytes().cycle().take(left / self.piece.len() * self.piece.len()));
        line.extend(tail.bytes());
        line
    }
}

const SSHD: &str = "Nov 22 17:00:00 host sshd[7]: Failed password for ";
const FROM: &str = " from 192.0.2.7 port 1 ssh2";
const WEB: &str = "192.0.2.7 - - [22/Nov/2026:17:00:00 +0000] \"GET /";
const PROBE: &str = "/wp-login.php HTTP/1.1\" 404 1 \"-\" \"-\"";
const NO_PROBE: &str = "/wp-login.phpx HTTP/1.1\" 404 1 \"-\" \"-\"";
const CADDY: &str = concat!(
    "{\"level\":\"info\",\"ts\":1795366800.1,\"logger\":\"http.log.access\",\"msg\":\"handled request\",\"status\":404,\"request\":{",
    "\"remote_ip\":\"192.0.2.7\",\"client_ip\":\"192.0.2.7\",\"proto\":\"HTTP/1.1\",\"method\":\"GET\",\"host\":\"x\",\"uri\":\"/"
);
const WIDE: &str = concat!(
    "{\"level\":\"info\",\"ts\":1795366800.1,\"logger\":\"http.log.access\",\"msg\":\"handled request\",\"status\":404,\"request\":{",
    "\"remote_ip\":\"192.0.2.7\",\"client_ip\":\"192.0.2.7\",\"method\":\"GET\",\"uri\":\"/wp-login.php\"}"
);
const AUTHELIA: &str = "time=\"2026-11-22T17:00:00Z\" level=error msg=\"Unsuccessful 1FA authentication attempt by user 'x";
const DOCKER: &str = "{\"log\":\"Nov 22 17:00:00 host sshd[7]: Failed password for ";

/// What may be a user's name, to sshd.
const NAMES: [(&str, &str); 14] = [
    ("`a` and nothing else", "a"),
    ("blanks", " "),
    ("zero bytes", "\0"),
    ("digits", "7"),
    ("`from ` over and over", "from "),
    ("addresses over and over", "x from 203.0.113.9 port 1 "),
    ("what a rule looks for, over and over", "Failed password for "),
    ("dates over and over", "Nov 22 17:00:00 "),
    ("colons, as of IPv6", "2001:db8:"),
    ("brackets in brackets", "[(<{"),
    ("`key=value` words", "user=x rhost=203.0.113.9 "),
    ("quotes and backslashes", "\\\"x\\\\ "),
    ("colours", "\x1b[1mx\x1b[0m"),
    ("beginnings of colours", "\x1b["),
];

/// What may be elsewhere.
const OTHERS: [Repeated; 16] = [
    Repeated { name: "path: parts", head: WEB, piece: "a/", miss: Some(NO_PROBE), hit: Some(PROBE) },
    Repeated { name: "path: `%2e%2f`", head: WEB, piece: "%2e%2f", miss: Some(NO_PROBE), hit: Some(PROBE) },
    Repeated { name: "path: quotes as `\\\"`", head: WEB, piece: "\\\"", miss: Some(NO_PROBE), hit: Some(PROBE) },
    Repeated { name: "path: backslashes", head: WEB, piece: "\\\\", miss: Some(NO_PROBE), hit: Some(PROBE) },
    Repeated { name: "path: beginnings of attacks", head: WEB, piece: "%24{;cd<=or ", miss: Some(NO_PROBE), hit: Some(PROBE) },
    Repeated {
        name: "user agent",
        head: "192.0.2.7 - - [22/Nov/2026:17:00:00 +0000] \"GET / HTTP/1.1\" 200 1 \"-\" \"",
        piece: "Mozilla ${ (",
        miss: Some(" sqlma\""),
        hit: Some(" sqlmap\""),
    },
    Repeated {
        name: "`X-Forwarded-For` of many addresses",
        head: "192.0.2.7 - - [22/Nov/2026:17:00:00 +0000] \"GET /wp-login.php HTTP/1.1\" 404 1 \"-\" \"-\" \"",
        piece: "203.0.113.9, ",
        miss: None,
        hit: Some("203.0.113.9\""),
    },
    Repeated {
        name: "structured data without an end",
        head: "<34>1 - - sshd - - ",
        piece: "[a b=\"",
        miss: Some(" Failed password"),
        hit: None,
    },
    Repeated {
        name: "structured data with escapes",
        head: "<34>1 - - sshd - - [a b=\"",
        piece: "\\\"\\]",
        miss: Some(" Failed password"),
        hit: Some("\"] Failed password for x from 192.0.2.7 port 1 ssh2"),
    },
    Repeated { name: "JSON: deep", head: "{\"msg\":\"Failed password\",\"a\":", piece: "{\"a\":", miss: Some(""), hit: None },
    Repeated { name: "JSON: wide", head: WIDE, piece: ",\"a\":1", miss: Some(""), hit: Some("}") },
    Repeated { name: "JSON: path", head: CADDY, piece: "a/", miss: Some("/wp-login.phpx\"}}"), hit: Some("/wp-login.php\"}}") },
    Repeated { name: "JSON: backslashes", head: CADDY, piece: "\\\\/", miss: Some("/wp-login.phpx\"}}"), hit: Some("/wp-login.php\"}}") },
    Repeated { name: "JSON: `\\u0026`", head: CADDY, piece: "\\u0026", miss: Some("/wp-login.phpx\"}}"), hit: Some("/wp-login.php\"}}") },
    Repeated {
        name: "`key=value`: quotes as `\\\"`",
        head: AUTHELIA,
        piece: "\\\"",
        miss: Some(""),
        hit: Some("'\" path=/ remote_ip=192.0.2.7"),
    },
    Repeated {
        name: "Docker's wrapping: quotes as `\\\"`",
        head: DOCKER,
        piece: "\\\"",
        miss: Some(""),
        hit: Some(" from 192.0.2.7 port 1 ssh2\\n\",\"stream\":\"stderr\",\"time\":\"2026-11-22T17:00:00Z\"}"),
    },
];

/// Every kind.
fn kinds() -> impl Iterator<Item = Repeated> {
    let names = NAMES.map(|(name, piece)| Repeated { name, head: SSHD, piece, miss: Some(" from"), hit: Some(FROM) });
    names.into_iter().chain(OTHERS)
}

/// Lines that are one to whoever logs them: the pieces of a container's engine, or one line alone.
type Pieces = Vec<Vec<u8>>;

/// A line of a MiB in pieces of a container's engine.
fn pieces() -> [Pieces; 2] {
    let piece = |tag: &str, text: &str| format!("2026-11-22T17:00:00Z stderr {tag} {text}").into_bytes();
    let names = vec![piece("P", &"x from ".repeat(1170)); 127];
    let begin = vec![piece("P", "sshd[7]: Failed password for ")];
    let end = |text: &str| [begin.clone(), names.clone(), vec![piece("F", text)]].concat();
    [end(" from"), end(FROM)]
}

/// The scanner of every signature, and what it keeps.
struct Held {
    scanner: Scanner,
    state: ScanState,
    rounds: usize,
}

impl Held {
    /// What lines cost, and whether a signature matched.
    fn measure(&mut self, lines: &[Vec<u8>]) -> Result<(Samples, bool)> {
        let mut samples = Samples::default();
        let mut found = false;
        for round in 0..=self.rounds {
            let before = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
            for line in lines {
                self.scanner.scan(&mut self.state, LogLine::raw(line), &mut |_| found = true);
            }
            let used = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)? - before);
            if round > 0 {
                samples.push(used);
            }
        }
        Ok((samples, found))
    }
}

/// The measurement.
pub(crate) fn run(bench: &Bench) -> Result<Table> {
    let scanner = Scanner::new(&[JailScan::of("all".into(), builtin().to_vec())]);
    let mut state = scanner.state(LogClock::utc(Stamp(0)));
    state.set_line_cap(2 * LONG);
    let mut held = Held { scanner, state, rounds: bench.rounds.max(ROUNDS) };
    let line = |kind: &Repeated, tail: Option<&str>| tail.map(|tail| vec![kind.line(tail)]);
    let mut kinds: Vec<(&str, [Option<Pieces>; 2])> =
        kinds().map(|kind| (kind.name, [line(&kind, kind.miss), line(&kind, kind.hit)])).collect();
    kinds.push(("128 pieces of CRI", pieces().map(Some)));
    let (mut worst, mut rows) = (0.0_f64, Vec::new());
    for (name, lines) in kinds {
        let mut row = vec![name.to_owned()];
        let mut slowest = 0.0_f64;
        for (lines, hit) in lines.iter().zip([false, true]) {
            let Some(lines) = lines else {
                row.push("-".to_owned());
                continue;
            };
            let (samples, found) = held.measure(lines)?;
            ensure!(found == hit, "{name}: a signature matches where none should, or none where one should");
            row.push(time(samples.median()));
            slowest = slowest.max(samples.max());
            worst = worst.max(samples.median());
        }
        row.push(time(slowest));
        rows.push(row);
    }
    let (own, row) = own_lines(&mut held, bench)?;
    rows.push(row);
    worst = worst.max(own);
    let aims = vec![Line::aim("each under 5 ms", &time(worst), worst < WITHIN.as_secs_f64())];
    Ok(Table { id: "long-lines", head: &["a line of 1 MiB", "no match: CPU, median", "a match: CPU, median", "slowest"], rows, aims })
}

/// What is put into fields; whether a rule still matches, a short line tells first.
const FILLING: [&str; 13] =
    ["x", "a b", "/a", "from 203.0.113.9 port 1 ", "a=1 ", "1.1", "7", "x.y:", "<a> ", "(a) [b] ", "\\\"", "%2e/", ";a=\"b\" "];
/// How often it stands in the short line.
const SHORT: usize = 3;

/// Each rule's own line, a MiB in its free field: the slowest of all.
fn own_lines(held: &mut Held, bench: &Bench) -> Result<(f64, Vec<String>)> {
    let (mut slowest, mut tried, mut rules) = (None::<(Samples, String)>, 0u32, 0u32);
    for signature in builtin() {
        for rule in signature.rules() {
            let before = tried;
            for hit in rule.hits() {
                for (from, to) in free(signature, rule, &hit.line) {
                    let (head, tail) = (&hit.line[..to], &hit.line[to..]);
                    for piece in FILLING {
                        let line = |times: usize| vec![format!("{head}{}{tail}", piece.repeat(times)).into_bytes()];
                        if from > to || !held.once(&line(SHORT)) {
                            continue;
                        }
                        let (samples, _) = held.measure(&line((LONG - hit.line.len()) / piece.len()))?;
                        tried += 1;
                        if slowest.as_ref().is_none_or(|(slowest, _)| samples.median() > slowest.median()) {
                            let name = format!("{}, `{}`", rule.full_name(), piece.trim());
                            bench.say(&format!("{name}: {}", time(samples.median())));
                            slowest = Some((samples, name));
                        }
                    }
                }
            }
            rules += u32::from(tried > before);
        }
    }
    let (samples, name) = slowest.context("no rule has a free field")?;
    let what = format!("the slowest of {tried} own lines of {rules} rules, a MiB in a free field: {name}");
    Ok((samples.median(), vec![what, "-".to_owned(), time(samples.median()), time(samples.max())]))
}

impl Held {
    /// Whether a signature matches a line.
    fn once(&mut self, line: &[Vec<u8>]) -> bool {
        let mut found = false;
        line.iter().for_each(|line| self.scanner.scan(&mut self.state, LogLine::raw(line), &mut |_| found = true));
        found
    }
}

/// The places of a rule's own line that a client fills.
fn free(signature: &Signature, rule: &Rule, line: &str) -> Vec<(usize, usize)> {
    match signature.kind() {
        Kind::Plain | Kind::AccessLog | Kind::Fields => rule.free(line.trim_end().as_bytes()),
        Kind::Syslog => {
            let text = syslog::frame(line.as_bytes()).message;
            let start = text.as_ptr().addr() - line.as_ptr().addr();
            rule.free(text).into_iter().map(|(from, to)| (start + from, start + to)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_matches_with_its_end_only() {
        let scanner = Scanner::new(&[JailScan::of("all".into(), builtin().to_vec())]);
        let mut held = Held { state: scanner.state(LogClock::utc(Stamp(0))), scanner, rounds: 0 };
        for kind in kinds() {
            for (tail, hit) in [(kind.miss, false), (kind.hit, true)] {
                assert!(tail.is_none_or(|tail| held.once(&[kind.line(tail)]) == hit), "{}: {hit}", kind.name);
            }
        }
    }
}
