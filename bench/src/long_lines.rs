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

/// One kind of line: a piece over and over behind a beginning.
struct Repeated {
    name: &'static str,
    head: &'static str,
    piece: &'static str,
    /// What stands behind it so that nothing matches.
    miss: &'static str,
    /// What stands behind it so that a signature does.
    hit: &'static str,
}

const SSHD: &str = "Nov 22 17:00:00 host sshd[7]: Failed password for ";
const FROM: &str = " from 192.0.2.7 port 1 ssh2";
const WEB: &str = "192.0.2.7 - - [22/Nov/2026:17:00:00 +0000] \"GET /";
const PROBE: &str = "/wp-login.php HTTP/1.1\" 404 1 \"-\" \"-\"";
const AGENT: &str = "192.0.2.7 - - [22/Nov/2026:17:00:00 +0000] \"GET /wp-login.php HTTP/1.1\" 200 1 \"-\" \"";
const CADDY: &str = "{\"level\":\"info\",\"ts\":1795366800.1,\"logger\":\"http.log.access\",\"msg\":\"handled request\",\"request\":{\"remote_ip\":\"192.0.2.7\",\"remote_port\":\"1\",\"client_ip\":\"192.0.2.7\",\"proto\":\"HTTP/1.1\",\"method\":\"GET\",\"host\":\"x\",\"uri\":\"/";
const WIDE: &str = "{\"level\":\"info\",\"ts\":1795366800.1,\"logger\":\"http.log.access\",\"msg\":\"handled request\",\"request\":{\"remote_ip\":\"192.0.2.7\",\"client_ip\":\"192.0.2.7\",\"method\":\"GET\",\"uri\":\"/wp-login.php\"},\"x\":1";
const AUTHELIA: &str = "time=\"2026-11-22T17:00:00Z\" level=error msg=\"Unsuccessful 1FA authentication attempt by user 'x'";
const DOCKER: &str = "{\"log\":\"Nov 22 17:00:00 host sshd[7]: Failed password for ";
const DOCKER_END: &str = "\\n\",\"stream\":\"stderr\",\"time\":\"2026-11-22T17:00:00Z\"}";

/// Those of sshd: any text may be a user's name.
const NAMES: [(&str, &str); 14] = [
    ("`a` and nothing else", "a"),
    ("blanks", " "),
    ("zero bytes", "\0"),
    ("digits", "7"),
    ("`from ` over and over", "from "),
    ("addresses over and over", "x from 203.0.113.9 port 1 "),
    ("what a rule looks for over and over", "Failed password for "),
    ("dates over and over", "Nov 22 17:00:00 "),
    ("colons as of IPv6", "2001:db8:"),
    ("brackets in brackets", "[(<{"),
    ("`key=value` words", "user=x rhost=203.0.113.9 "),
    ("quotes and backslashes", "\\\"x\\\\ "),
    ("colours", "\x1b[1mx\x1b[0m"),
    ("beginnings of colours", "\x1b["),
];

const OTHERS: [Repeated; 18] = [
    Repeated { name: "a path: parts", head: WEB, piece: "a/", miss: PROBE_MISS, hit: PROBE },
    Repeated { name: "a path: `%2e%2e%2f`", head: WEB, piece: "%2e%2e%2f", miss: NO_STATUS, hit: "etc/passwd HTTP/1.1\" 404 1 \"-\" \"-\"" },
    Repeated { name: "a path: quotes as `\\\"`", head: WEB, piece: "\\\"", miss: PROBE_MISS, hit: PROBE },
    Repeated { name: "a path: backslashes", head: WEB, piece: "\\\\", miss: PROBE_MISS, hit: PROBE },
    Repeated { name: "a path: beginnings of attacks", head: WEB, piece: "%24{;cd<=or ", miss: PROBE_MISS, hit: PROBE },
    Repeated { name: "a user agent", head: AGENT, piece: "${Mozilla (", miss: "\"", hit: "sqlmap\"" },
    Repeated { name: "`X-Forwarded-For` of many addresses", head: XFF, piece: "203.0.113.9, ", miss: "wp-login.php", hit: "203.0.113.9\"" },
    Repeated { name: "structured data without an end", head: "<34>1 - - sshd - - ", piece: "[a b=\"", miss: " Failed password", hit: SD_END },
    Repeated { name: "structured data with escapes", head: "<34>1 - - sshd - - [a b=\"", piece: "\\\"\\]", miss: "Failed password", hit: SD_END },
    Repeated { name: "JSON: deep", head: "{\"msg\":\"handled request\",\"logger\":\"http.log.access\",\"a\":", piece: "{\"a\":", miss: "", hit: "" },
    Repeated { name: "JSON: wide", head: WIDE, piece: ",\"a\":1", miss: "", hit: ",\"status\":404}" },
    Repeated { name: "JSON: a list", head: WIDE, piece: "", miss: "", hit: ",\"status\":404}" },
    Repeated { name: "JSON: a path", head: CADDY, piece: "a/", miss: "wp-login.php\"},\"status\":200", hit: JSON_END },
    Repeated { name: "JSON: backslashes", head: CADDY, piece: "\\\\/", miss: "wp-login.php\"},\"status\":200", hit: JSON_END },
    Repeated { name: "JSON: `\\u0026`", head: CADDY, piece: "\\u0026", miss: "wp-login.php\"},\"status\":200", hit: JSON_END },
    Repeated { name: "`key=value`: wide", head: AUTHELIA, piece: "", miss: "", hit: "" },
    Repeated { name: "`key=value`: quotes as `\\\"`", head: AUTHELIA, piece: "\\\"", miss: "", hit: "\" path=/ remote_ip=192.0.2.7" },
    Repeated { name: "Docker's wrapping: quotes as `\\\"`", head: DOCKER, piece: "\\\"", miss: DOCKER_END, hit: "" },
];
