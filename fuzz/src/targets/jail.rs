//! Any text as the configs of others: what becomes of them is a config that our own reader takes.
//!
//! The bytes are `jail.conf`, `jail.local`, `jail.d/own.conf`, `filter.d/door.conf` and `sshguard.conf`,
//! parted by NUL. A whitelist that the last one names has the bytes of `jail.local`.

use std::collections::BTreeMap;

use palisade_core::config::Config;
use palisade_core::ini::Files;
use palisade_core::migrate::{self, Migration};
use palisade_core::scan;

struct Fake<'a>(BTreeMap<&'static str, &'a [u8]>);

const CONF: &str = "/f/sshguard.conf";

impl Files for Fake<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        let named = |path: &str| self.0.get(path).map(|bytes| bytes.to_vec());
        Ok(named(path).or_else(|| path.ends_with("white").then(|| named("/f/jail.local")).flatten()))
    }

    fn list(&self, dir: &str, ending: &str) -> Vec<String> {
        self.0.keys().filter(|path| path.starts_with(dir) && path.ends_with(ending)).map(|path| (*path).to_owned()).collect()
    }
}

fn good(migration: &Migration) {
    let known: Vec<&str> = scan::shipped().iter().map(|(name, _)| *name).collect();
    let read = Config::read(&[("made.toml".to_owned(), migration.config.clone())], &known);
    assert!(read.is_ok(), "{}\n{}", migration.config, read.err().map(|errors| errors.to_string()).unwrap_or_default());
    // What is told is for a terminal.
    for line in &migration.lines {
        assert!(line.setting.len() < 1000 && !line.setting.chars().any(char::is_control), "{line:?}");
    }
}

/// Tries one input.
pub fn run(bytes: &[u8]) {
    let names = ["/f/jail.conf", "/f/jail.local", "/f/jail.d/own.conf", "/f/filter.d/door.conf", CONF];
    let files = Fake(names.into_iter().zip(bytes.splitn(names.len(), |byte| *byte == 0)).collect());
    match migrate::fail2ban(&files, "/f") {
        Ok(migration) => good(&migration),
        Err(fault) => assert!(!fault.what.is_empty(), "{fault}"),
    }
    if let Ok(migration) = migrate::sshguard(&files, CONF) {
        good(&migration);
    }
}
