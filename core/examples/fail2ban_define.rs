//! Reads lines `{"path", "options", "journal"}` and writes what each filter says, a JSON line each:
//! for holding the reader against fail2ban's own.
#![expect(clippy::disallowed_methods, reason = "a program of its own: it reads files")]

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use palisade_core::scan::fail2ban::define;
use serde_json::{Value, json};

#[path = "../tests/disk/mod.rs"]
mod disk;

use disk::Disk;

fn main() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let path = asked.get("path").and_then(Value::as_str).unwrap_or_default();
        let given = asked.get("options").and_then(Value::as_object).into_iter().flatten();
        let options: BTreeMap<String, String> =
            given.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
        let journal = asked.get("journal").and_then(Value::as_bool).unwrap_or_default();
        let answer = match define(&Disk, path, &options, journal) {
            Ok(is) => json!({
                "failregex": is.failregex, "ignoreregex": is.ignoreregex, "prefregex": is.prefregex, "maxlines": is.maxlines,
                "datepattern": is.datepattern, "journalmatch": is.journalmatch, "usedns": is.usedns,
            }),
            Err(fault) => json!({ "error": fault.to_string() }),
        };
        writeln!(io::stdout(), "{answer}")?;
    }
    Ok(())
}
