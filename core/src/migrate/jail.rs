//! One jail of fail2ban's becomes one of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::fail2ban::Job;
use super::values;
use super::{Outcome, key, list, quoted};
use crate::config::{journal_match, log_path};
use crate::ini;

/// A jail, ready to be written.
pub(super) struct Jail {
    name: String,
    filter: String,
    options: BTreeMap<String, String>,
    files: Vec<String>,
    journal: Vec<String>,
    ports: Option<String>,
    /// Keys of the policy as our config has them.
    policy: Vec<(&'static str, String)>,
}

/// One of fail2ban's numbers in our words: key and value.
pub(super) fn policy(option: &str, text: &str) -> Option<(&'static str, String)> {
    match option {
        "bantime" => values::term(text).map(|term| ("ban_time", quoted(&term.to_string()))),
        "findtime" => values::span(text).map(|span| ("find_time", quoted(&span.to_string()))),
        "maxretry" => text.trim().parse::<u16>().ok().map(|count| ("max_retry", count.max(1).to_string())),
        _ => None,
    }
}

/// Why a number could not be read.
pub(super) fn not_a_value(option: &str, text: &str) -> String {
    format!("`{}` cannot be read as {option} without Python; write it yourself", crate::attack::excerpt(text.as_bytes()))
}

/// Reads an enabled jail, which gets a name that is not among those `taken`. `None`, told, where it cannot be one of ours.
pub(super) fn read(job: &mut Job<'_>, section: &str, taken: &mut BTreeSet<String>) -> Option<Jail> {
    if section == "recidive" {
        let why = "repeat offenders are punished by `escalate` in every jail; its log is fail2ban's own, which ends with it";
        job.tell(section, "enabled", Outcome::Left(why.to_owned()));
        return None;
    }
    if job.get(section, "blocktype").is_some_and(|text| text.contains("RETURN") || text.contains("ACCEPT")) {
        let why =
            "it lets in whom it finds, and does not shut out: the jail is not taken over; `palisade allow add ADDR --for 1h` does that";
        job.tell(section, "blocktype", Outcome::Left(why.to_owned()));
        return None;
    }
    let actions = values::action_names(&job.get(section, "action").unwrap_or_default());
    if !actions.is_empty() && actions.iter().all(|name| values::action(name) == values::Action::Tells) {
        let why =
            "its actions tell somebody and shut nobody out: the jail is not taken over; `palisade run --observe` decides and only logs";
        job.tell(section, "action", Outcome::Left(why.to_owned()));
        return None;
    }
    let (filter, options) = filter(job, section)?;
    let (files, journal) = sources(job, section, &filter)?;
    let ports = job.get(section, "port").and_then(|text| values::ports(&text));
    let jail = Jail { name: name(section, taken), filter, options, files, journal, ports, policy: numbers(job, section) };
    job.tell(section, "enabled", Outcome::Became(format!("[jail.{}]", key(&jail.name))));
    let own: Vec<String> = job.ini.options(section).map(|(name, _)| name.to_owned()).collect();
    for option in own {
        match option.as_str() {
            "port" => {
                let became = jail.ports.clone().unwrap_or_else(|| "\"all\"".to_owned());
                job.tell(section, "port", Outcome::Became(format!("ports = {became}")));
            }
            "ignoreip" => job.ignored(section),
            "logtimezone" => {
                let why = "write it as `timezone`, by the zone's name, like \"Europe/Berlin\"";
                job.tell(section, "logtimezone", Outcome::Left(why.to_owned()));
            }
            _ => job.other(section, &option),
        }
    }
    Some(jail)
}

/// `a-z0-9._-`, as our jails are called: of sections whose names become the same, the later ones are numbered.
fn name(section: &str, taken: &mut BTreeSet<String>) -> String {
    const LONGEST: usize = 56;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let base: String = section.to_lowercase().chars().map(|c| if good(c) { c } else { '-' }).take(LONGEST).collect();
    let base = if base.is_empty() { "jail".to_owned() } else { base };
    let mut name = base.clone();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

/// The filter's file and its options.
fn filter(job: &mut Job<'_>, section: &str) -> Option<(String, BTreeMap<String, String>)> {
    let text = job.get(section, "filter").filter(|text| !text.trim().is_empty()).unwrap_or_else(|| section.to_owned());
    let (name, options) = match ini::call(&text) {
        Ok(read) => read,
        Err(why) => {
            job.tell(section, "filter", Outcome::Left(format!("{why}; the jail is not taken over")));
            return None;
        }
    };
    let base = format!("{}/filter.d/{name}", job.dir);
    let path = [".conf", ".local"].map(|ending| format!("{base}{ending}"));
    let Some(path) = path.into_iter().find(|path| matches!(job.files.read(path), Ok(Some(_)))) else {
        job.tell(section, "filter", Outcome::Left(format!("there is no {base}.conf; the jail is not taken over")));
        return None;
    };
    let mut options: BTreeMap<String, String> = options.into_iter().collect();
    // The default says it too, and needs no word.
    if options.get("mode").is_some_and(|mode| mode == "normal") {
        options.remove("mode");
    }
    if job.ini.options(section).any(|(name, _)| name == "filter") {
        job.tell(section, "filter", Outcome::Became(format!("fail2ban = {}", quoted(&path))));
    }
    if let Some(mode) = options.get("mode").filter(|_| job.ini.options(section).any(|(name, _)| name == "mode")) {
        let became = format!("options = {{ mode = {} }}", quoted(mode));
        job.tell(section, "mode", Outcome::Became(became));
    }
    Some((path, options))
}

/// Files or journal matches. `None`, told, where there is neither.
fn sources(job: &mut Job<'_>, section: &str, filter: &str) -> Option<(Vec<String>, Vec<String>)> {
    let backend = job.get(section, "backend").unwrap_or_default();
    let told = |job: &Job<'_>, option: &str| job.ini.options(section).any(|(name, _)| name == option);
    if backend.trim().starts_with("systemd") {
        let matches = job.get(section, "journalmatch").filter(|text| !text.trim().is_empty());
        let matches = matches.unwrap_or_default();
        let (mut journal, mut wrong) = (Vec::new(), Vec::new());
        for group in matches.split('\n').flat_map(|line| line.split(" + ")).filter(|group| !group.trim().is_empty()) {
            match journal_match(group) {
                Ok(group) if journal.contains(&group) => {}
                Ok(group) => journal.push(group),
                Err(why) => wrong.push(why),
            }
        }
        if !wrong.is_empty() {
            job.tell(section, "journalmatch", Outcome::Left(wrong.join("; ")));
        }
        if told(job, "journalmatch") && !journal.is_empty() {
            job.tell(section, "journalmatch", Outcome::Became(format!("journal = {}", list(&journal))));
        }
        if told(job, "backend") {
            let became = if journal.is_empty() { format!("the journal matches of {filter}") } else { "journal".to_owned() };
            job.tell(section, "backend", Outcome::Became(became));
        }
        if told(job, "logpath") {
            job.tell(section, "logpath", Outcome::Left("with the systemd backend fail2ban does not read it either".to_owned()));
        }
        return Some((Vec::new(), journal));
    }
    let text = job.get(section, "logpath").unwrap_or_default();
    let paths = text.split('\n').map(|line| line.trim().trim_end_matches(" tail").trim_end_matches(" head").trim());
    let (mut files, mut odd) = (Vec::new(), Vec::new());
    for path in paths.filter(|path| !path.is_empty()) {
        match log_path(path) {
            Ok(path) if files.contains(&path) => {}
            Ok(path) => files.push(path),
            Err(why) => odd.push(why),
        }
    }
    if !odd.is_empty() {
        job.tell(section, "logpath", Outcome::Left(odd.join("; ")));
    }
    if files.is_empty() {
        job.tell(
            section,
            "enabled",
            Outcome::Left("it has no logpath, and its backend is not systemd: the jail is not taken over".to_owned()),
        );
        return None;
    }
    if told(job, "logpath") {
        job.tell(section, "logpath", Outcome::Became(format!("files = {}", list(&files))));
    }
    if told(job, "backend") {
        job.tell(section, "backend", Outcome::Became("files are followed by the kernel's notices".to_owned()));
    }
    Some((files, Vec::new()))
}

/// The jail's own numbers.
fn numbers(job: &mut Job<'_>, section: &str) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for option in ["bantime", "findtime", "maxretry"] {
        let Some(text) = job.get(section, option) else { continue };
        let own = job.ini.options(section).any(|(name, _)| name == option);
        match policy(option, &text) {
            Some((key, value)) => {
                if own {
                    job.tell(section, option, Outcome::Became(format!("{key} = {value}")));
                }
                all.push((key, value));
            }
            None if own => job.tell(section, option, Outcome::Left(not_a_value(option, &text))),
            None => {}
        }
    }
    if job.ini.options(section).any(|(name, _)| name.starts_with("bantime."))
        && let Some(escalate) = job.escalate(section)
    {
        all.push(("escalate", escalate));
    }
    all
}

impl Jail {
    /// As TOML; what `[ban]` says already is left out.
    pub(super) fn write(&self, ban: &[(&'static str, String)], out: &mut String) {
        let _ = write!(out, "\n[jail.{}]\n", key(&self.name));
        let _ = writeln!(out, "fail2ban = {}", quoted(&self.filter));
        if !self.options.is_empty() {
            let options: Vec<String> = self.options.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect();
            let _ = writeln!(out, "options = {{ {} }}", options.join(", "));
        }
        for (key, items) in [("files", &self.files), ("journal", &self.journal)] {
            if !items.is_empty() {
                let _ = writeln!(out, "{key} = {}", list(items));
            }
        }
        if let Some(ports) = &self.ports {
            let _ = writeln!(out, "ports = {ports}");
        }
        for (key, value) in self.policy.iter().filter(|own| !ban.contains(own)) {
            let _ = writeln!(out, "{key} = {value}");
        }
    }
}
