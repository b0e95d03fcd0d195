//! `sshguard.conf` becomes a config: all of its services' signatures over the files it read.
//!
//! The file is a piece of shell, `NAME=value` a line (sshguard(8), `examples/sshguard.conf.sample`).
//! Only plain assignments are read: nothing is run.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::accept::accept;
use super::{Line, Migration, Outcome, list, quoted, shown};
use crate::attack::excerpt;
use crate::config::log_path;
use crate::ini::{Fault, Files};
use crate::net::Prefix;

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
const DEFAULTS: [(&str, &str); 5] =
    [("THRESHOLD", "30"), ("BLOCK_TIME", "120"), ("DETECTION_TIME", "1800"), ("IPV4_SUBNET", "32"), ("IPV6_SUBNET", "128")];

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
    let bytes = files.read(path).map_err(&fault)?.ok_or_else(|| fault("there is no such file".to_owned()))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut job = Job { file: path, files, settings: settings(&text), out: Migration::default() };
    job.write();
    accept(&mut job.out);
    Ok(job.out)
}

fn settings(text: &str) -> Vec<Setting> {
    let assignment = |(index, line): (usize, &str)| {
        let (name, value) = line.trim().split_once('=')?;
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let line = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        named.then(|| Setting { line, name: name.to_owned(), value: unquoted(value.trim()) })
    };
    text.lines().enumerate().filter_map(assignment).collect()
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
        let number = |name: &str| {
            let set = self.settings.iter().rev().find(|setting| setting.name == name).map(|setting| setting.value.as_str());
            let default = DEFAULTS.iter().find(|(known, _)| *known == name).map_or("0", |(_, value)| value);
            set.unwrap_or(default).parse::<u64>().ok().or_else(|| default.parse().ok()).unwrap_or_default()
        };
        let (threshold, v6) = (number("THRESHOLD"), number("IPV6_SUBNET"));
        let _ = writeln!(config, "max_retry = {}", threshold.div_ceil(10).clamp(1, 1000));
        let _ = writeln!(config, "ban_time = \"{}s\"", number("BLOCK_TIME").max(1));
        let _ = writeln!(config, "find_time = \"{}s\"", number("DETECTION_TIME").max(1));
        // There bans double without an end; a week is where ours stop growing.
        config.push_str("escalate = { factor = 2, max = \"1w\", forget = \"30d\" }\n");
        let _ = writeln!(config, "ipv4_prefix = {}", number("IPV4_SUBNET").clamp(8, 32));
        let _ = writeln!(config, "ipv6_prefix = {}", v6.clamp(16, 128));
        let (mut jail, mut allow) = (String::new(), BTreeSet::new());
        for index in 0..self.settings.len() {
            self.setting(index, &mut jail, &mut allow);
        }
        if !allow.is_empty() {
            let _ = write!(config, "\n[allow]\nprefixes = {}\n", list(allow.iter().map(ToString::to_string)));
        }
        if !jail.is_empty() {
            let _ = write!(config, "\n[jail.sshguard]\nsignatures = {}\n{jail}", list(SIGNATURES));
        }
        self.out.config = config;
        self.out.next = vec![
            "put the config into /etc/palisade/conf.d and check it: `palisade config check`".to_owned(),
            "a jail for each service, with its own `ports` and times, says more than one for all: see `palisade signatures`".to_owned(),
            "take over the blacklist: `palisade import sshguard /var/db/sshguard/blacklist.db`".to_owned(),
        ];
    }

    fn setting(&mut self, index: usize, jail: &mut String, allow: &mut BTreeSet<Prefix>) {
        let Some(Setting { line, name, value }) = self.settings.get(index) else { return };
        let (line, name, value) = (*line, name.clone(), value.clone());
        let became = |text: &str| Outcome::Became(text.to_owned());
        let left = |text: &str| Outcome::Left(text.to_owned());
        let again = self.settings.iter().skip(index + 1).any(|later| later.name == name);
        let outcome = match name.as_str() {
            _ if again => left("it is written again further down, and the last one counts"),
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
                value.split_once(':').map_or(value.as_str(), |(_, file)| file)
            )),
            "PID_FILE" | "DETECTION_TOLERANCE" => left("not needed here"),
            "POST_PARSER" | "PARSER" => left("no program stands between; programs that know an attacker call `palisade report`"),
            _ => left("nobody here knows it"),
        };
        self.out.lines.push(Line { file: self.file.to_owned(), line, setting: shown("", &name, &value), outcome });
    }

    fn whitelist(&self, path: &str, allow: &mut BTreeSet<Prefix>) -> Outcome {
        match self.files.read(path) {
            Ok(Some(bytes)) => {
                let text = String::from_utf8_lossy(&bytes);
                let items = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|item| !item.is_empty());
                let (mut taken, mut names) = (0, 0);
                for item in items {
                    match item.parse::<Prefix>() {
                        Ok(prefix) => {
                            allow.insert(prefix);
                            taken += 1;
                        }
                        Err(_) => names += 1,
                    }
                }
                if names > 0 {
                    Outcome::Left(format!("{taken} addresses are now in [allow]; {names} lines are names: write them into [allow] names"))
                } else {
                    Outcome::Became(format!("[allow] ({taken} members)"))
                }
            }
            Ok(None) => Outcome::Left(format!("there is no {}", quoted(path))),
            Err(why) => Outcome::Left(format!("{} cannot be read: {why}", quoted(path))),
        }
    }
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
            ["-t" | "--identifier", name] => matches.push(format!("_COMM={name} _UID=0")),
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
