//! Lines a second on one core: `cargo run --release -p palisade-core --example scan_speed`.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock; the crate itself never does")]
#![expect(clippy::print_stdout, reason = "the numbers are what it is for")]

use std::time::Instant;

use palisade_core::scan::{JailScan, Line, LogClock, Scanner, load};
use palisade_core::time::Stamp;

/// Lines a scanner is fed in one go; enough for about a second.
const LINES: usize = 2_000_000;

const AUTH: &[&str] = &[
    "Nov 22 17:00:00 host CRON[811]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)",
    "Nov 22 17:00:01 host sshd[812]: Accepted publickey for deploy from 198.51.100.7 port 50022 ssh2: ED25519 SHA256:0123456789",
    "Nov 22 17:00:02 host sshd[812]: pam_unix(sshd:session): session opened for user deploy(uid=1000) by (uid=0)",
    "2026-11-22T17:00:03.123456+01:00 host systemd-logind[400]: New session 7 of user deploy.",
    "Nov 22 17:00:04 host sudo:   deploy : TTY=pts/0 ; PWD=/home/deploy ; USER=root ; COMMAND=/usr/bin/apt update",
];
const FAILED: &str = "Nov 22 17:00:05 host sshd[900]: Failed password for root from 192.0.2.7 port 50022 ssh2";
const ACCESS: &[&str] = &[
    r#"198.51.100.7 - - [22/Nov/2026:17:00:00 +0100] "GET /index.html HTTP/1.1" 200 5120 "https://www.example.org/" "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0""#,
    r#"198.51.100.8 - - [22/Nov/2026:17:00:00 +0100] "POST /api/v1/items?page=3 HTTP/2.0" 201 77 "-" "okhttp/4.12.0""#,
    r#"2001:db8::8 - - [22/Nov/2026:17:00:00 +0100] "GET /favicon.ico HTTP/1.1" 404 153 "-" "Mozilla/5.0""#,
];

fn run(name: &str, signatures: &[&str], lines: &[&str]) {
    let jails: Vec<JailScan> = signatures.iter().map(|s| JailScan::of((*s).into(), vec![load(s).expect("a shipped signature")])).collect();
    let scanner = Scanner::new(&jails);
    let mut found = 0_u64;
    let mut state = scanner.state(LogClock::utc(Stamp(0)));
    let started = Instant::now();
    for line in lines.iter().cycle().take(LINES) {
        scanner.scan(&mut state, Line::raw(line.as_bytes()), &mut |_| found += 1);
    }
    #[expect(clippy::cast_precision_loss, reason = "a benchmark's rate")]
    let rate = LINES as f64 / started.elapsed().as_secs_f64();
    println!("{name:<44} {:>6.2} M lines/s  {found} attacks", rate / 1e6);
}

fn main() {
    let auth = ["sshd", "dropbear"];
    let access = ["access-auth", "access-probes", "access-cms"];
    run("auth.log, nothing matches", &auth, AUTH);
    let mixed: Vec<&str> = AUTH.iter().copied().chain([FAILED]).collect();
    run("auth.log, one line in six is an attack", &auth, &mixed);
    run("auth.log, only attacks", &auth, &[FAILED]);
    run("access.log, nothing matches", &access, ACCESS);
}
