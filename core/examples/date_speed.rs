//! Nanoseconds a line for finding dates: `cargo run --release -p palisade-core --example date_speed`.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock; the crate itself never does")]
#![expect(clippy::print_stdout, reason = "the numbers are what it is for")]

use std::hint::black_box;
use std::time::Instant;

use jiff::tz::TimeZone;
use palisade_core::scan::LogClock;
use palisade_core::scan::fail2ban::dates::{DateMemory, Detector};
use palisade_core::time::Stamp;

const ROUNDS: u32 = 300_000;

fn main() {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
    let clock = LogClock::new(zone, Stamp(1_795_366_800_000));
    for (name, pattern, line) in [
        ("syslog", None, "Nov 22 17:00:05 host sshd[900]: Failed password for root from 192.0.2.7 port 50022 ssh2"),
        ("iso", None, "2026-11-22T17:00:03.123456+01:00 host sshd[900]: Failed password for root from 192.0.2.7 port 50022 ssh2"),
        ("iso, no zone", None, "2026-11-22 17:00:03,123 host sshd[900]: Failed password for root from 192.0.2.7 port 50022 ssh2"),
        (
            "access",
            None,
            r#"192.0.2.7 - - [22/Nov/2026:17:00:00 +0100] "GET /index.html HTTP/1.1" 200 5120 "-" "Mozilla/5.0 (X11; Linux x86_64)""#,
        ),
        (
            "apache error",
            Some("^[^\\[]*\\[({DATE})\n{^LN-BEG}"),
            "[Sun Nov 22 17:00:00.123456 2026] [core:error] [pid 12:tid 13] [client 192.0.2.7:50022] AH00001: no",
        ),
        ("none", None, "host sshd[900]: Failed password for root from 192.0.2.7 port 50022 ssh2, which is a line without a date"),
    ] {
        let detector = Detector::compile(pattern).expect("a datepattern");
        let mut memory = DateMemory::default();
        let mut found = 0_u32;
        let started = Instant::now();
        for _ in 0..ROUNDS {
            found += u32::from(black_box(&detector).find(&mut memory, black_box(line), &clock).is_some());
        }
        println!("{name:<14} {:>7.0} ns a line, {found} found", started.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS));
    }
}
