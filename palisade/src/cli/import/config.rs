//! `palisade import fail2ban|sshguard --config`: their config as ours, and what became of each line.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use palisade_core::config::{Config, Jail};
use palisade_core::migrate::{self, Line, Migration, Outcome};
use palisade_core::scan;
use palisade_os::logs::files::{is_glob, means};
use serde::Serialize;

use super::super::ask::usage;
use super::super::print::{self, Painted};
use super::super::{Exit, Global};
use crate::library::Disk;
use crate::settings::system;

/// Whose config it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Fail2ban,
    Sshguard,
}

#[derive(Serialize)]
struct Doc<'a> {
    v: u8,
    #[serde(flatten)]
    migration: &'a Migration,
    /// What our own reader says against it.
    errors: Vec<String>,
    /// What it comes to on this host.
    notes: Vec<String>,
}

/// Reads theirs, tells ours: to standard output, or into a new file.
pub(super) fn run(whose: Whose, from: &Path, write: Option<&Path>, dry_run: bool, global: &Global) -> Result<Exit> {
    // Paths of theirs get into our config, where the daemon's working folder means nothing.
    let from = absolute(from)?;
    let write = write.map(absolute).transpose()?;
    let name = from.to_str().ok_or_else(|| usage(format_args!("{} is no UTF-8 path", from.display())))?;
    let migration = match whose {
        Whose::Fail2ban => migrate::fail2ban(&Disk, name),
        Whose::Sshguard => migrate::sshguard(&Disk, name),
    };
    let mut migration = migration.map_err(usage)?;
    let first = match &write {
        None => Some(CHECK.to_owned()),
        Some(path) if dry_run && path.exists() => return Err(there_already(path)),
        Some(path) => (!dry_run).then(|| check(path)),
    };
    migration.next.splice(..0, first);
    let (errors, notes) = match read(&migration.config) {
        Ok(config) => (Vec::new(), notes(&config)),
        Err(errors) => (errors, Vec::new()),
    };
    if global.json {
        print::json(&Doc { v: 1, migration: &migration, errors: errors.clone(), notes })?;
    } else {
        account(&migration, &errors);
        notes.iter().for_each(|note| print::say(format_args!("note: {note}")));
        if write.is_none() || dry_run {
            print::line(migration.config.trim_end())?;
        }
    }
    match &write {
        Some(path) if dry_run => print::say(format_args!("nothing is written; without --dry-run it would be, to {}", path.display())),
        Some(path) => {
            keep(path, &migration.config)?;
            print::say(format_args!("written to {}", path.display()));
        }
        None => {}
    }
    if !global.json {
        migration.next.iter().for_each(|next| print::say(format_args!("next: {next}")));
    }
    Ok(if errors.is_empty() && migration.left() == 0 { Exit::Done } else { Exit::No })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| usage(format_args!("cannot tell where {} is: {error}", path.display())))
}

/// The first step where the config was only shown.
const CHECK: &str = "check the config in /etc/palisade/conf.d: `palisade config check`";

/// How a file that was written is checked: with all the rest where it is read anyway, else by its name.
fn check(written: &Path) -> String {
    let ours = std::env::var_os("PALISADE_CONFIG").map_or_else(|| PathBuf::from(system::CONFIG), PathBuf::from);
    let folder = ours.parent().unwrap_or(Path::new(".")).join("conf.d");
    if written.parent() == Some(&folder) && written.extension().is_some_and(|ext| ext == "toml") {
        return format!("check the config with {} in it: `palisade config check`", written.display());
    }
    let place = folder.join(format!("{}.toml", written.file_stem().unwrap_or_default().display()));
    let named = shell_word(&written.display().to_string());
    format!("check what was written: `palisade --config {named} config check`; the daemon reads it as {}", place.display())
}

/// A path as a shell takes it.
fn shell_word(path: &str) -> String {
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c));
    if plain { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

/// What our own reader says: bounds, names of ports, clashes.
fn read(config: &str) -> Result<Config, Vec<String>> {
    let known: Vec<&str> = scan::shipped().iter().map(|(name, _)| *name).collect();
    let told = Config::read(&[("the new config".to_owned(), config.to_owned())], &known);
    told.map_err(|errors| errors.errors.iter().map(ToString::to_string).collect())
}

/// What the config comes to on this host and nobody would look for in it.
fn notes(config: &Config) -> Vec<String> {
    let (built_in, none) = (Config::builtin(), |jail: &Jail| !jail.files.is_empty() && !jail.files.iter().any(|file| stands(file)));
    let written =
        |jail: &&Jail| built_in.jail(&jail.name).is_none_or(|own| own.fail2ban != jail.fail2ban || own.signatures != jail.signatures);
    let (mut notes, mut beside) = (Vec::new(), Vec::new());
    for jail in config.jails().values() {
        if !written(&jail) {
            beside.push(jail.name.0.as_ref());
        } else if jail.journal.is_empty() && none(jail) {
            let remedy = match jail.fail2ban.is_some() {
                true => "take `files` out, and it reads what its filter's journalmatch says",
                false => "write `journal` in their place",
            };
            notes.push(format!(
                "[jail.{}]: none of its files is here ({}), so it hears nothing until one is; if its service logs to the journal, {remedy}",
                jail.name,
                jail.files.join(", ")
            ));
        }
    }
    if let Some(first) = beside.first() {
        notes.push(format!(
            "these jails are built in and go on beside the new ones: {}; `enabled = false` in [jail.{first}] switches that one off",
            beside.join(", ")
        ));
    }
    notes
}

/// Whether there is a file of this path or pattern. A pattern of folders is taken to have one.
fn stands(pattern: &str) -> bool {
    let Some(folder) = Path::new(pattern).parent().filter(|_| is_glob(pattern)) else { return Path::new(pattern).exists() };
    if folder.to_str().is_none_or(is_glob) {
        return true;
    }
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| means(pattern, &entry.path()))
}

/// What became of each line, to standard error: standard output is the config.
fn account(migration: &Migration, errors: &[String]) {
    for line in &migration.lines {
        let Line { file, setting, outcome, .. } = line;
        let place = if line.line == 0 { file.clone() } else { format!("{file}:{}", line.line) };
        match outcome {
            Outcome::Became(what) => print::say(format_args!("{} {place}: {setting}: {what}", Painted(32, "+"))),
            Outcome::Left(why) => print::say(format_args!("{} {place}: {setting}: not taken over: {why}", Painted(33, "-"))),
        }
    }
    for error in errors {
        print::say(format_args!("{} the new config is not good as it is: {error}", Painted(31, "!")));
    }
    let (all, left) = (migration.lines.len(), migration.left());
    print::say(format_args!("{} settings taken over, {left} not", all - left));
}

fn there_already(path: &Path) -> anyhow::Error {
    usage(format_args!("{} is there already; move it away, or write elsewhere", path.display()))
}

/// Writes a file that is not there yet: what an administrator wrote is not overwritten.
fn keep(path: &Path, text: &str) -> Result<()> {
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(there_already(path));
        }
        Err(error) => return Err(usage(format_args!("cannot write {}: {error}", path.display()))),
    };
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}
