//! Says what dates fail2ban's `datepattern` finds, for comparing with fail2ban itself.
//!
//! `dates ZONE NOW < INPUT`: ZONE is a POSIX rule, NOW seconds since 1970, INPUT one JSON value a line:
//! `[null]` or `["PATTERN"]` begins anew with this `datepattern`, a text is a line of a log. Says for each text
//! `null`, or where the date is (in characters) and what moment, in milliseconds.
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use std::error::Error;
use std::io::{BufRead, stdin};

use jiff::tz::TimeZone;
use palisade_core::scan::LogClock;
use palisade_core::scan::fail2ban::dates::{DateMemory, Detector};
use palisade_core::time::Stamp;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(zone), Some(now)) = (words.next(), words.next()) else { return Err("dates ZONE NOW < INPUT".into()) };
    let clock = LogClock::new(TimeZone::posix(&zone)?, Stamp(now.parse::<i64>()?.saturating_mul(1000)));
    let mut detector = Detector::compile(None);
    let mut memory = DateMemory::default();
    for input in stdin().lock().lines() {
        let value: serde_json::Value = serde_json::from_str(&input?)?;
        match value {
            serde_json::Value::Array(pattern) => {
                detector = Detector::compile(pattern.first().and_then(|pattern| pattern.as_str()));
                memory = DateMemory::default();
                println!("{}", detector.as_ref().map_or_else(ToString::to_string, |_| "ok".to_owned()).replace('\n', " "));
            }
            serde_json::Value::String(line) => {
                let found = detector.as_ref().ok().and_then(|detector| detector.find(&mut memory, &line, &clock));
                let chars = |at: usize| line.get(..at).map(|before| before.chars().count());
                match found {
                    None => println!("null"),
                    Some(found) => println!("{}", serde_json::json!([chars(found.start), chars(found.end), found.at.map(|at| at.0)])),
                }
            }
            _ => return Err("neither a text nor a list".into()),
        }
    }
    Ok(())
}
