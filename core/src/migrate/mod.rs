//! The configs of others become ours: fail2ban's jails and sshguard's settings, line by line.
//!
//! | part | what it does |
//! |---|---|
//! | `fail2ban` | `jail.conf`, `jail.local`, `jail.d` with all they include |
//! | `jail` | one jail of it |
//! | `values` | fail2ban's times, ports and actions |
//! | `sshguard` | `sshguard.conf` |
//! | `accept` | what our own reader would not take is taken out again |
//!
//! What comes out is a config as text, for somebody to read, and the account of what became of every
//! line: nothing is left out silently. Our own reader, which knows every bound, takes what comes out, and its
//! filters run.

mod accept;
mod fail2ban;
mod jail;
mod sshguard;
#[cfg(test)]
mod tests;
mod values;

use std::fmt::Write;

use serde::Serialize;

pub use fail2ban::fail2ban;
pub use sshguard::sshguard;

/// What a config became.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// Our config, as TOML.
    pub config: String,
    /// What became of each line that means something, in the order of the files.
    pub lines: Vec<Line>,
    /// What to do once the config is checked, a sentence each.
    pub next: Vec<String>,
}

/// One setting of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The file.
    pub file: String,
    /// Its line, from 1; 0 where none is known.
    pub line: u32,
    /// The setting: `[sshd] bantime = 1h`.
    pub setting: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is now this.
    Became(String),
    /// It is not taken over; why, and what to do instead.
    Left(String),
}

impl Migration {
    /// How many settings were not taken over.
    pub fn left(&self) -> usize {
        self.lines.iter().filter(|line| matches!(line.outcome, Outcome::Left(_))).count()
    }
}

/// A text as TOML's basic string.
fn quoted(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return toml::Value::String(text.to_owned()).to_string();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Texts as TOML's list.
fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A key of a table, bare where TOML allows it.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { name.to_owned() } else { quoted(name) }
}

/// A setting on one line, not too long for a screen.
fn shown(section: &str, option: &str, text: &str) -> String {
    const LONGEST: usize = 120;
    let mut out = String::new();
    if !section.is_empty() {
        let _ = write!(out, "[{section}] ");
    }
    let text: Vec<&str> = text.split_whitespace().collect();
    let _ = write!(out, "{option} = {}", text.join(" "));
    let printable = crate::attack::excerpt(out.as_bytes());
    match printable.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &printable[..end]),
        None => printable,
    }
}
