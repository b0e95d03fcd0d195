//! `sshguard.conf` becomes a config: all of its services' signatures over the files it read.
//!
//! The file is a piece of shell, `NAME=value` a line (sshguard(8), `examples/sshguard.conf.sample`).
//! Only plain assignments are read: nothing is run.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::accept::accept;
use super::{Line, Migration, Outcome, list, quoted, shown};
use crate::attack::excerpt;
use crate::config::{BAN, Bounds, FACTOR, FIND_TIME, IPV4_PREFIX, IPV6_PREFIX, MAX_RETRY, TimeBounds, host_name, log_path};
use crate::ini::{Fault, Files};
use crate::net::Prefix;
use crate::time::Span;

/// The signatures of the services that sshguard knows.
pub(super) const SIGNATURES: &[&str] = &[
    "sshd",
    "dropbear",
    "named",
    "uwimap",
    "dovecot",
    "cyrus",
    "cucipop",
    "exim",
    "sendmail",
    "postfix",
    "opensmtpd",
    "courier",
    "ftpd",
    "proftpd",
    "pure-ftpd",
    "vsftpd",
    "cockpit",
    "access-auth",
    "access-probes",
    "access-cms",
    "pfsense",
    "openvpn",
    "gitea",
    "mssql",
    "mysql",
    "proxmox",
];

/// What sshguard does where its config says nothing (`src/blocker/sshguard_options.c`).
const DEFAULTS: [(&str, u64); 5] =
    [("THRESHOLD", 30), ("BLOCK_TIME", 120), ("DETECTION_TIME", 1800), ("IPV4_SUBNET", 32), ("IPV6_SUBNET", 128)];

/// One assignment.
struct Setting {
    line: u32,
    name: String,
    value: String,
}

struct Job<'f> {
    file: &'f str,
    files: &'f dyn Files,
    settings: Vec<Setting>,
    out: Migration,
}

/// Reads the file.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn sshguard(files: &dyn Files, path: &str) -> Result<Migration, Fault> {
    let fault = |what: String| Fault { file: path.to_owned(), line: 0, what };
    let none = || fault("there is no such file; name sshguard.conf with --config".to_owned());
    let bytes = files.read(path).map_err(&fault)?.ok_or_else(none)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut job = Job { file: path, files, settings: settings(&text), out: Migration::default() };
    job.write();
    accept(&mut job.out);
    Ok(job.out)
}

fn settings(text: &str) -> Vec<Setting> {
    let assignment = |(line, text): (u32, String)| {
        let text = text.trim();
        let (name, value) = text.strip_prefix("export ").unwrap_or(text).trim_start().split_once('=')?;
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        named.then(|| Setting { line, name: name.to_owned(), value: unquoted(value.trim()) })
    };
    joined(text).into_iter().filter_map(assignment).collect()
}

/// Lines with their numbers; what ends in `\` goes on in the next.
fn joined(text: &str) -> Vec<(u32, String)> {
    let mut all: Vec<(u32, String)> = Vec::new();
    let mut open = false;
    for (number, line) in (1..).zip(text.lines()) {
        let (part, goes_on) = line.strip_suffix('\\').map_or((line, false), |part| (part, !line.trim_start().starts_with('#')));
        match all.last_mut().filter(|_| open) {
            Some((_, whole)) => whole.push_str(part),
            None => all.push((number, part.to_owned())),
        }
        open = goes_on;
    }
    all
}

fn default(name: &str) -> Option<u64> {
    DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// The value without its quotes and without a comment behind it.
fn unquoted(text: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(rest) = text.strip_prefix(quote) {
            return rest.split(quote).next().unwrap_or_default().to_owned();
        }
    }
    text.split('#').next().unwrap_or_default().trim().to_owned()
}

impl Job<'_> {
    fn write(&mut self) {
        let mut config = format!("# Made from {}. Read it before you use it.\n\n[ban]\n", excerpt(self.file.as_bytes()));
        let last = |name: &str| self.settings.iter().rev().find(|setting| setting.name == name).map(|setting| setting.value.as_str());
        let number = |name: &str| last(name).and_then(|value| value.parse().ok()).or_else(|| default(name)).unwrap_or_default();
        let (threshold, v6) = (number("THRESHOLD"), number("IPV6_SUBNET"));
        let within = |number: u64, bounds: Bounds| number.clamp(bounds.low, bounds.high);
        let seconds = |name: &str, bounds: TimeBounds| number(name).clamp(bounds.low.as_secs_ceil(), bounds.high.as_secs_ceil());
        let _ = writeln!(config, "max_retry = {}", within(threshold.div_ceil(10), MAX_RETRY));
        let _ = writeln!(config, "ban_time = \"{}s\"", seconds("BLOCK_TIME", BAN));
        let _ = writeln!(config, "find_time = \"{}s\"", seconds("DETECTION_TIME", FIND_TIME));
        // There bans double without an end; a week is where ours stop growing.
        let factor = last("BLOCK_TIME_MULTIPLIER").and_then(|value| value.parse::<f64>().ok()).filter(|factor| factor.is_finite());
        let factor = factor.map_or(2.0, |factor| factor.clamp(FACTOR.low as f64, FACTOR.high as f64));
        let _ = writeln!(config, "escalate = {{ factor = {factor}, max = \"1w\", forget = \"30d\" }}");
        let _ = writeln!(config, "ipv4_prefix = {}", within(number("IPV4_SUBNET"), IPV4_PREFIX));
        let _ = writeln!(config, "ipv6_prefix = {}", within(v6, IPV6_PREFIX));
        let (mut jail, mut allow) = (String::new(), Allow::default());
        for index in 0..self.settings.len() {
            self.setting(index, &mut jail, &mut allow);
        }
        if !allow.prefixes.is_empty() || !allow.names.is_empty() {
            let _ = write!(config, "\n[allow]\nprefixes = {}\n", list(allow.prefixes.iter().map(ToString::to_string)));
        }
        if !allow.names.is_empty() {
            let _ = writeln!(config, "names = {}", list(&allow.names));
        }
        if !jail.is_empty() {
            let _ = write!(config, "\n[jail.sshguard]\nsignatures = {}\n{jail}", list(SIGNATURES));
        }
        self.out.config = config;
        self.out.next = vec![
            "a jail for each service, with its own `ports` and times, says more than one for all: see `palisade signatures`".to_owned(),
        ];
        if let Some(kept) = self.settings.iter().rev().find(|setting| setting.name == "BLACKLIST_FILE") {
            self.out.next.push(format!("take over who is banned for ever: `palisade import sshguard {}`", blacklist(&kept.value)));
        }
        self.out.next.push("stop sshguard once palisade runs, so that both do not ban: `systemctl disable --now sshguard`".to_owned());
    }

    fn setting(&mut self, index: usize, jail: &mut String, allow: &mut Allow) {
        let Some(Setting { line, name, value }) = self.settings.get(index) else { return };
        let (line, name, value) = (*line, name.clone(), value.clone());
        let became = |text: &str| Outcome::Became(text.to_owned());
        let left = |text: &str| Outcome::Left(text.to_owned());
        let outcome = match name.as_str() {
            _ if self.settings.iter().skip(index + 1).any(|later| later.name == name) => left("a later line says it again"),
            _ if default(&name).is_some_and(|_| value.parse::<u64>().is_err()) => Outcome::Left(format!(
                "it is no plain number: {} is in its place, as sshguard's default is",
                default(&name).unwrap_or_default()
            )),
            "BLOCK_TIME_MULTIPLIER" if value.parse::<f64>().is_err() => {
                left("it is no plain number: 2 is in its place, as sshguard's default is")
            }
            "BLOCK_TIME_MULTIPLIER" => became("[ban] escalate.factor, 1 to 1000"),
            "MASK_SUBNET_BY" => left("attacks of one network are counted together by `spread` here; see palisade.toml(5)"),
            "SSHGUARD_USER" => left("the daemon gives up by itself what rights it does not need"),
            "STATS_DIR" => left("numbers are told by `palisade status --json`"),
            "BLACKLIST_THRESHOLD" => left("sshguard does not know it either: the threshold stands in BLACKLIST_FILE"),
            "DETECTION_TIME" if value.parse().is_ok_and(|seconds: u64| Span::secs(seconds) > FIND_TIME.high) => {
                left("[ban] find_time is a year at most")
            }
            "THRESHOLD" => became("[ban] max_retry: an attack of weight 10 is one failure"),
            "BLOCK_TIME" => became("[ban] ban_time, doubled for each further ban"),
            "DETECTION_TIME" => became("[ban] find_time: an exact window, not from the first attack on"),
            "IPV4_SUBNET" => became("[ban] ipv4_prefix"),
            "IPV6_SUBNET" => became("[ban] ipv6_prefix; 64 is what one host can choose its addresses from"),
            "BACKEND" => became("[ban] backend = \"auto\", which finds and proves the best firewall here"),
            "FILES" => {
                // A shell would take a pattern apart into files; ours is followed as it is.
                let (files, odd): (Vec<_>, Vec<_>) = value.split_whitespace().map(log_path).partition(Result::is_ok);
                let files: BTreeSet<String> = files.into_iter().flatten().collect();
                if !files.is_empty() {
                    let _ = writeln!(jail, "files = {}", list(&files));
                }
                match odd.into_iter().filter_map(Result::err).collect::<Vec<_>>().join("; ") {
                    odd if odd.is_empty() && !files.is_empty() => became("[jail.sshguard] files"),
                    odd if files.is_empty() => Outcome::Left(format!("there is no file in it that could be read; {odd}")),
                    odd => Outcome::Left(format!("the others are now in [jail.sshguard] files; {odd}")),
                }
            }
            "LOGREADER" if value.contains("journalctl") => {
                let units = journal_matches(&value);
                let _ = writeln!(jail, "journal = {}", list(&units));
                Outcome::Became(format!("[jail.sshguard] journal = {}", list(&units)))
            }
            "LOGREADER" => left("no shell command is run to read logs; write `files` or `journal` in a jail"),
            "WHITELIST_FILE" => self.whitelist(&value, allow),
            "BLACKLIST_FILE" => Outcome::Left(format!(
                "there is no blacklist beside the bans: bans grow by `escalate`; its addresses come over with `palisade import sshguard {}`",
                blacklist(&value)
            )),
            "PID_FILE" | "DETECTION_TOLERANCE" => left("not needed here"),
            "POST_PARSER" | "PARSER" => left("no program stands between; programs that know an attacker call `palisade report`"),
            _ => left("nobody here knows it"),
        };
        self.out.lines.push(Line { file: self.file.to_owned(), line, setting: shown("", &name, &value), outcome });
    }

    fn whitelist(&self, path: &str, allow: &mut Allow) -> Outcome {
        match self.files.read(path) {
            Ok(Some(bytes)) => {
                let text = String::from_utf8_lossy(&bytes);
                let items = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|item| !item.is_empty());
                let (mut taken, mut odd) = (0, Vec::new());
                for item in items {
                    match (item.parse(), host_name(item)) {
                        (Ok(prefix), _) => drop(allow.prefixes.insert(prefix)),
                        (_, Ok(name)) => drop(allow.names.insert(name)),
                        _ => {
                            odd.push(excerpt(item.as_bytes()));
                            continue;
                        }
                    }
                    taken += 1;
                }
                if odd.is_empty() {
                    Outcome::Became(format!("[allow] ({taken} members)"))
                } else {
                    let odd = odd.join(", ");
                    Outcome::Left(format!("{taken} members are now in [allow]; neither an address nor a name is {odd}"))
                }
            }
            Ok(None) => Outcome::Left(format!("there is no {}", quoted(path))),
            Err(why) => Outcome::Left(format!("{} cannot be read: {why}", quoted(path))),
        }
    }
}

/// Who is never banned.
#[derive(Default)]
struct Allow {
    prefixes: BTreeSet<Prefix>,
    names: BTreeSet<String>,
}

/// The file of `THRESHOLD:FILE`.
fn blacklist(value: &str) -> &str {
    value.split_once(':').map_or(value, |(_, file)| file)
}

/// What a journalctl command asks for, on fields that only the journal itself fills in: `-t NAME` and
/// `SYSLOG_IDENTIFIER` can be claimed by any process.
fn journal_matches(command: &str) -> Vec<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let mut matches = Vec::new();
    for pair in words.windows(2) {
        match pair {
            ["-u" | "--unit", unit] => {
                matches.push(format!("_SYSTEMD_UNIT={}", if unit.contains('.') { (*unit).to_owned() } else { format!("{unit}.service") }))
            }
            ["-t" | "--identifier", name] => {
                matches.push(format!("_COMM={name} _UID=0"));
                // Since OpenSSH 9.8 it is another program that tells of logins, under the same name.
                if *name == "sshd" {
                    matches.push("_COMM=sshd-session _UID=0".to_owned());
                }
            }
            _ => {}
        }
    }
    let units =
        words.iter().filter_map(|word| word.strip_prefix("--unit=").or_else(|| word.strip_prefix("-u")).filter(|unit| !unit.is_empty()));
    matches.extend(units.map(|unit| format!("_SYSTEMD_UNIT={unit}")));
    matches.extend(words.iter().filter(|word| word.starts_with('_') && word.contains('=')).map(|word| (*word).to_owned()));
    if matches.is_empty() {
        matches.extend(["_SYSTEMD_UNIT=ssh.service _UID=0".to_owned(), "_SYSTEMD_UNIT=sshd.service _UID=0".to_owned()]);
    }
    matches.sort();
    matches.dedup();
    matches
}
