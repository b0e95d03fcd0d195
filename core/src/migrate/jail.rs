//! One jail of fail2ban's becomes one of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::accept::takes;
use super::fail2ban::Job;
use super::values::{self, Call, Reach};
use super::{Outcome, key, list, quoted};
use crate::config::{Bounds, FIND_TIME, MAX_RETRY, journal_match, log_path};
use crate::ini;
use crate::scan::fail2ban;

/// Jails of fail2ban's that are built in here too, with what they read.
const BUILT_IN: [&str; 2] = ["sshd", "dropbear"];

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

/// One of fail2ban's numbers in our words.
pub(super) struct Policy {
    pub(super) key: &'static str,
    pub(super) value: String,
    /// That it is less than was asked for.
    less: bool,
}

impl Policy {
    pub(super) fn outcome(&self, place: &str) -> Outcome {
        let Self { key, value, less } = self;
        if *less {
            return Outcome::Left(format!("{place}{key} = {value} is the most there is"));
        }
        Outcome::Became(format!("{place}{key} = {value}"))
    }
}

/// One of fail2ban's numbers in our words.
pub(super) fn policy(option: &str, text: &str) -> Option<Policy> {
    match option {
        "bantime" => {
            let value = quoted(&values::term(text)?.to_string());
            Some(Policy { key: "ban_time", value, less: false })
        }
        "findtime" => {
            let span = values::span(text)?;
            let most = FIND_TIME.high;
            Some(Policy { key: "find_time", value: quoted(&span.min(most).to_string()), less: span > most })
        }
        "maxretry" => {
            let count: u32 = values::uncommented(text).parse().ok()?;
            let (count, Bounds { low, high, .. }) = (u64::from(count), MAX_RETRY);
            Some(Policy { key: "max_retry", value: count.clamp(low, high).to_string(), less: count > high })
        }
        _ => None,
    }
}

/// Why a number could not be read.
pub(super) fn not_a_value(option: &str, text: &str) -> String {
    format!("`{}` cannot be read as {option} without Python; write it yourself", crate::attack::excerpt(text.as_bytes()))
}

/// Reads an enabled jail, which gets a name that is not among those `taken`. `None`, told, where it cannot be one of ours.
pub(super) fn read(job: &mut Job<'_>, section: &str) -> Option<Jail> {
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
    if job.has_own(section, "ignorecommand") && job.get(section, "ignorecommand").is_some_and(|text| !text.trim().is_empty()) {
        let why = "a program decides there who is not banned, which none does here: without it the jail would ban others too, and is not taken over";
        job.tell(section, "ignorecommand", Outcome::Left(why.to_owned()));
        return None;
    }
    let ignored = job.get(section, "ignoreip").unwrap_or_default();
    if let Some(all) = values::items(&ignored).find(|item| values::prefix(item).is_some_and(|prefix| prefix.len() == 0)) {
        job.tell(section, "ignoreip", Outcome::Left(format!("it ignores everybody ({all}) and bans nobody: the jail is not taken over")));
        return None;
    }
    let actions = job.get(section, "action").map(|text| values::actions(&text));
    if actions.as_ref().is_none_or(Vec::is_empty) {
        let why = "it has no action, so that fail2ban bans nobody with it: the jail is not taken over";
        let line = if job.ini.raw(section, "action").is_some() { "action" } else { "enabled" };
        job.tell(section, line, Outcome::Left(why.to_owned()));
        return None;
    }
    let actions = actions.unwrap_or_default();
    if actions.iter().all(|call| values::action(&call.name) == values::Action::Tells) {
        let why =
            "its actions tell somebody and shut nobody out: the jail is not taken over; `palisade run --observe` decides and only logs";
        job.tell(section, "action", Outcome::Left(why.to_owned()));
        return None;
    }
    let (filter, options) = filter(job, section)?;
    let (files, journal) = sources(job, section, &filter)?;
    if let Err(why) = runs(job, section, &filter, &options, (&files, &journal)) {
        job.tell(section, "enabled", Outcome::Left(format!("{why}; the jail is not taken over")));
        return None;
    }
    let (ports, why) = ports(job, section, &actions);
    let name = own_name(job, section);
    let jail = Jail { name, filter, options, files, journal, ports, policy: numbers(job, section) };
    job.tell(section, "enabled", Outcome::Became(format!("[jail.{}]", key(&jail.name))));
    let own: Vec<String> = job.ini.options(section).map(|(name, _)| name.to_owned()).collect();
    for option in own {
        match option.as_str() {
            "port" => {
                let became = jail.ports.clone().unwrap_or_else(|| "\"all\"".to_owned());
                job.tell(section, "port", Outcome::Became(format!("ports = {became}{why}")));
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

/// Whether the filter runs here, and says what to read where the jail does not.
fn runs(
    job: &Job<'_>,
    section: &str,
    filter: &str,
    options: &BTreeMap<String, String>,
    (files, journal): (&[String], &[String]),
) -> Result<(), String> {
    let (definition, _) = fail2ban::load(job.files, filter, options, files.is_empty()).map_err(|error| error.to_string())?;
    let told = !files.is_empty() || !journal.is_empty() || BUILT_IN.contains(&section) || !definition.journalmatch.is_empty();
    if told { Ok(()) } else { Err("its filter does not say what to read of the journal".to_owned()) }
}

/// The ports that its actions close, as our reader takes them, and why these where the jail says others; what is none is told.
fn ports(job: &mut Job<'_>, section: &str, actions: &[Call]) -> (Option<String>, &'static str) {
    let own = job.get(section, "port").unwrap_or_default();
    let reaches: Vec<Reach> = actions.iter().filter_map(Call::reach).collect();
    if reaches.contains(&Reach::All) {
        return (None, ", as its action shuts out of all");
    }
    let texts: BTreeSet<&str> = reaches.iter().map(|reach| if let Reach::Ports(text) = reach { text.as_str() } else { &own }).collect();
    // The jail's own first, as somebody wrote them.
    let (text, why) = match texts.len() {
        0 => (own.clone(), ""),
        1 if texts.contains(own.as_str()) => (own.clone(), ""),
        _ => (texts.into_iter().collect::<Vec<_>>().join(","), ", as its action has it"),
    };
    let Some(items) = values::ports(&text) else { return (None, why) };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for item in items {
        match takes(&format!("ports = [{item}]")) {
            Ok(()) => good.push(item),
            // A range it is, and a wide one.
            Err(refused) if values::is_range(&item) => {
                job.tell(section, "port", Outcome::Left(format!("{refused}; so all ports are closed")));
                return (None, why);
            }
            Err(_) => bad.push(item),
        }
    }
    if !bad.is_empty() {
        let what = if good.is_empty() { "all ports are closed" } else { "the others are" };
        job.tell(section, "port", Outcome::Left(format!("{}: no port; {what}", bad.join(", "))));
    }
    let all = format!("[{}]", good.join(", "));
    match takes(&format!("ports = {all}")) {
        Ok(()) => ((!good.is_empty()).then_some(all), why),
        Err(refused) => {
            job.tell(section, "port", Outcome::Left(format!("{refused}; all ports are closed")));
            (None, why)
        }
    }
}

/// A name that no other jail has: `[SSH]` and `[ssh]` are two there.
fn own_name(job: &mut Job<'_>, section: &str) -> String {
    let name = name(section);
    let numbered = (2..).map(|number| format!("{}-{number}", name.get(..60.min(name.len())).unwrap_or(&name)));
    let free = std::iter::once(name.clone()).chain(numbered).find(|name| !job.taken.contains(name)).unwrap_or_default();
    job.taken.insert(free.clone());
    free
}

/// `a-z0-9._-`, as our jails are called.
fn name(section: &str) -> String {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let name: String = section.to_lowercase().chars().map(|c| if good(c) { c } else { '-' }).take(64).collect();
    if name.is_empty() { "jail".to_owned() } else { name }
}

/// The filter's file and its options.
fn filter(job: &mut Job<'_>, section: &str) -> Option<(String, BTreeMap<String, String>)> {
    let text = job.get(section, "filter").filter(|text| !text.trim().is_empty());
    // Not filled in yet: what it takes over from its filter can be read only with that.
    let regexes = job.ini.raw(section, "failregex").filter(|value| !value.text.trim().is_empty());
    let text = match (text, regexes) {
        (Some(text), _) => text,
        (None, Some(_)) => {
            let why = format!(
                "a jail here has a filter's file: write {}/filter.d/{section}.conf with [Definition] and this, and `filter = {section}`; \
                 the jail is not taken over",
                job.dir
            );
            job.tell(section, "failregex", Outcome::Left(why));
            return None;
        }
        (None, None) => section.to_owned(),
    };
    let (name, options) = match ini::call(&text) {
        Ok(read) => read,
        Err(why) => {
            job.tell(section, "filter", Outcome::Left(format!("{why}; the jail is not taken over")));
            return None;
        }
    };
    let base = format!("{}/filter.d/{name}", job.dir);
    // Of a filter that an administrator wrote there may be a .local only: it is named, and read, by its .conf.
    let path = format!("{base}.conf");
    let found: Result<Vec<_>, String> = [".conf", ".local"].iter().map(|ending| job.files.read(&format!("{base}{ending}"))).collect();
    let wrong = match found {
        Ok(found) if found.iter().any(Option::is_some) => None,
        Ok(_) => Some(format!("there is no {path}")),
        Err(why) => Some(why),
    };
    if let Some(wrong) = wrong {
        job.tell(section, "filter", Outcome::Left(format!("{wrong}; the jail is not taken over")));
        return None;
    }
    let mut options: BTreeMap<String, String> = options.into_iter().collect();
    // The default says it too, and needs no word.
    if options.get("mode").is_some_and(|mode| mode == "normal") {
        options.remove("mode");
    }
    if job.has_own(section, "filter") {
        job.tell(section, "filter", Outcome::Became(format!("fail2ban = {}", quoted(&path))));
    }
    if let Some(mode) = options.get("mode").filter(|_| job.has_own(section, "mode")) {
        let became = format!("options = {{ mode = {} }}", quoted(mode));
        job.tell(section, "mode", Outcome::Became(became));
    }
    for option in OF_FILTERS {
        if job.has_own(section, option)
            && let Some(text) = of_filter(job, section, option, &base)
        {
            job.tell(section, option, Outcome::Became(format!("options = {{ {option} = ... }}")));
            options.insert(option.to_owned(), text);
        }
    }
    Some((path, options))
}

/// What a filter says and its jail may say otherwise.
const OF_FILTERS: [&str; 5] = ["failregex", "ignoreregex", "prefregex", "maxlines", "datepattern"];

/// What a jail says of that; `%(known/failregex)s` is what the filter itself says.
fn of_filter(job: &mut Job<'_>, section: &str, option: &str, base: &str) -> Option<String> {
    let mut vars = BTreeMap::new();
    if let Ok(filter) = ini::Ini::load(job.files, base) {
        for name in OF_FILTERS {
            if let Ok(Some(text)) = filter.get("Definition", name, &BTreeMap::new()) {
                vars.insert(format!("known/{name}"), text.replace('%', "%%"));
            }
        }
    }
    match job.ini.get(section, option, &vars) {
        Ok(text) => text,
        Err(fault) => {
            job.tell(section, option, Outcome::Left(fault.what));
            None
        }
    }
}

/// Files or journal matches. `None`, told, where there is neither.
fn sources(job: &mut Job<'_>, section: &str, filter: &str) -> Option<(Vec<String>, Vec<String>)> {
    let backend = job.get(section, "backend").unwrap_or_default();
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
        if job.has_own(section, "journalmatch") && !journal.is_empty() {
            job.tell(section, "journalmatch", Outcome::Became(format!("journal = {}", list(&journal))));
        }
        if job.has_own(section, "backend") {
            let became = match (journal.is_empty(), BUILT_IN.contains(&section)) {
                (false, _) => "journal".to_owned(),
                (true, true) => format!("the journal matches that [jail.{section}] has built in, or its files where there is no journal"),
                (true, false) => format!("the journal matches of {filter}"),
            };
            job.tell(section, "backend", Outcome::Became(became));
        }
        if job.has_own(section, "logpath") {
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
    if job.has_own(section, "logpath") {
        job.tell(section, "logpath", Outcome::Became(format!("files = {}", list(&files))));
    }
    if job.has_own(section, "backend") {
        job.tell(section, "backend", Outcome::Became("files are followed by the kernel's notices".to_owned()));
    }
    Some((files, Vec::new()))
}

/// The jail's own numbers.
fn numbers(job: &mut Job<'_>, section: &str) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for option in ["bantime", "findtime", "maxretry"] {
        let Some(text) = job.get(section, option) else { continue };
        let own = job.has_own(section, option);
        match policy(option, &text) {
            Some(policy) => {
                if own {
                    job.tell(section, option, policy.outcome(""));
                }
                all.push((policy.key, policy.value));
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
