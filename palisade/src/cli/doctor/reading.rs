//! What jails read: whether there is something, whether it may be read, and who else can write it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use palisade_core::attack::JailName;
use palisade_core::config::{Jail, forgeable};
use palisade_core::scan::fail2ban::{Shortfall, Summary};
use palisade_core::scan::formats::syslog;
use palisade_core::scan::places;
use palisade_os::logs;
use palisade_os::logs::files::is_glob;

use super::{Finding, bad, note, ok};
use crate::library::{Library, Listening, Source};

/// So much of a log is looked at to see whose it is.
const LOOK: u64 = 4096;

/// Whether a jail hears anything, who can have it hear what, and what its filter is like.
pub(super) fn jail(jail: &Jail, library: &Library) -> Vec<Finding> {
    let name = &jail.name;
    let missing: Vec<&str> = jail.signatures.iter().map(String::as_str).filter(|s| library.signature(s).is_none()).collect();
    if !missing.is_empty() {
        return vec![bad("jail", format!("{name} names signatures that do not exist: {}", missing.join(", ")), "palisade signatures")];
    }
    let Listening { scan, source } = match library.listening(jail, logs::journal::available()) {
        Ok(listening) => listening,
        Err(fault) => {
            return vec![bad("jail", format!("{name} does not run: {fault}"), "mend that file or the jail, then reload palisade")];
        }
    };
    let mut findings = match source {
        Source::Journal(matches) => vec![journal(jail, &matches)],
        Source::Nothing => {
            let fix = format!("set files or journal in [jail.{name}], or enabled = false");
            vec![note("jail", format!("{name} has nothing to read on this host"), fix)]
        }
        Source::Files(patterns) => files(jail, &patterns),
    };
    findings.extend(scan.filters.iter().map(|filter| {
        let Summary { linear, stepped } = filter.summary();
        ok("filter", format!("{name} runs {}: {linear} expressions in linear time, {stepped} under a step limit", filter.full_name()))
    }));
    findings
}

/// What a jail's filter left undone since the daemon started.
pub(super) fn undone(jail: &JailName, shortfall: Shortfall) -> Vec<Finding> {
    let Shortfall { undecided, nameless } = shortfall;
    let mut findings = Vec::new();
    if undecided > 0 {
        let what = format!("{jail}: its filter left {undecided} lines undecided, as they were too long or hit the step limit");
        findings.push(note("filter", what, format!("give [jail.{jail}] a signature besides the filter (`palisade signatures`)")));
    }
    if nameless > 0 {
        let what = format!("{jail}: {nameless} matches named a host instead of an address, and banned nobody");
        findings.push(note("filter", what, "have the service log addresses (sshd: `UseDNS no`; Apache: `HostnameLookups Off`)"));
    }
    findings
}

/// Whether each match says who wrote a record, by a field that only journald and the kernel fill in.
fn journal(jail: &Jail, matches: &[String]) -> Finding {
    let name = &jail.name;
    let open: Vec<&str> = matches.iter().map(String::as_str).filter(|text| forgeable(text)).collect();
    if open.is_empty() {
        return ok("jail", format!("{name} reads the journal"));
    }
    let closed: Vec<String> =
        matches.iter().map(|text| format!("\"{}\"", if forgeable(text) { closed(text) } else { text.clone() })).collect();
    note(
        "jail",
        format!(
            "{name} reads the journal by {}; any local user may write such records, as these fields are the writer's own",
            open.join(", ")
        ),
        format!("in [jail.{name}], name the unit or the user that writes them: `journal = [{}]`, if that is root", closed.join(", ")),
    )
}

/// The same match, where root's records alone count.
fn closed(text: &str) -> String {
    format!("{text} _UID=0")
}

/// What of a jail's files is there, may be read, and may be written by whom.
fn files(jail: &Jail, patterns: &[String]) -> Vec<Finding> {
    let name = &jail.name;
    let (mut findings, mut read, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for pattern in patterns {
        if is_glob(pattern) {
            if Path::new(pattern).parent().is_some_and(Path::is_dir) {
                read.push(pattern.as_str());
            }
            continue;
        }
        match File::open(pattern) {
            Ok(file) if by_syslog(pattern, &file) => open.push(pattern.as_str()),
            Ok(_) => read.push(pattern),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                findings.push(bad("jail", format!("{name} may not read {pattern}"), format!("setfacl -m u:palisade:r {pattern}")));
            }
            Err(_) => {}
        }
    }
    if !read.is_empty() {
        findings.push(ok("jail", format!("{name} reads {}", read.join(", "))));
    }
    if !open.is_empty() {
        let what = format!("{name} reads {}; any local user may write such lines by way of syslog (/dev/log, logger)", open.join(", "));
        findings.push(note("jail", what, instead(jail)));
    }
    if findings.is_empty() {
        findings.push(note(
            "jail",
            format!("{name}: none of its files is there yet ({})", patterns.join(", ")),
            "nothing, if this host has no such service; a file that appears is read from its start",
        ));
    }
    findings
}

/// What to do about a log that anybody may write: to read the journal, where there is one.
fn instead(jail: &Jail) -> String {
    let name = &jail.name;
    let usual: Vec<String> = jail.signatures.iter().filter_map(|signature| places(signature)).flat_map(|places| places.journal).collect();
    let matches = if usual.is_empty() { "_SYSTEMD_UNIT=NAME.service".to_owned() } else { usual.join("\", \"") };
    let fix = format!("in [jail.{name}], write `journal = [\"{matches}\"]` in the place of `files`: its records say who wrote them");
    if logs::journal::available() { fix } else { format!("have systemd-journald run and, {fix}; without it, trust the local users") }
}

/// Whether a syslog daemon writes a file: its lines say so, or it is one that is empty yet and stands where those are.
fn by_syslog(path: &str, file: &File) -> bool {
    let mut head = Vec::new();
    let _ = file.take(LOOK).read_to_end(&mut head);
    match head.split(|b| *b == b'\n').find(|line| !line.is_empty()) {
        Some(line) => of_syslog(line),
        None => Path::new(path).parent() == Some(Path::new("/var/log")),
    }
}

/// Time, host and program, as syslog daemons put them before what they are handed. The dates of services with logs of
/// their own have other shapes.
fn of_syslog(line: &[u8]) -> bool {
    let frame = syslog::frame(line);
    let usual = |time: &[u8]| time.first().is_some_and(u8::is_ascii_alphabetic) || time.get(10) == Some(&b'T');
    frame.program.is_some() && frame.time.is_some_and(usual)
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::config::Config;

    fn jail_of(text: &str) -> Jail {
        let config = Config::read(&[("x".to_owned(), text.to_owned())], &["sshd", "nginx"]).unwrap();
        config.jail(&"sshd".into()).unwrap().clone()
    }

    #[test]
    fn a_log_of_syslog_is_told_with_the_journal_to_read_instead() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("auth"), "Nov 22 17:00:00 host sshd[7]: Server listening on :: port 22.\n").unwrap();
        std::fs::write(path("own"), "2026/11/22 17:00:00 [error] 7#7: *1 x\n").unwrap();
        let jail = jail_of(&format!("[jail.sshd]\nfiles = [\"{}\", \"{}\", \"{}\"]\n", path("own"), path("auth"), path("none")));
        let found = files(&jail, &jail.files);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].fix.is_none() && found[0].what.contains("own") && !found[0].what.contains("auth"), "{found:?}");
        assert!(found[1].what.contains("auth") && found[1].what.contains("any local user"), "{found:?}");
        assert!(found[1].fix.as_ref().unwrap().contains("_SYSTEMD_UNIT=ssh.service _UID=0"), "{found:?}");
    }

    #[test]
    fn lines_of_syslog_daemons_are_told_from_those_of_services() {
        for line in [
            "Nov 22 17:00:00 host sshd[7]: x",
            "2026-11-22T17:00:00.123456+01:00 host sshd[7]: x",
            "<34>1 2026-11-22T17:00:00Z host sshd 7 - - x",
        ] {
            assert!(of_syslog(line.as_bytes()), "{line}");
        }
        for line in [
            "2026/11/22 17:00:00 [error] 7#7: *1 x",
            "192.0.2.7 - - [22/Nov/2026:17:00:00 +0100] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"",
            "2026-11-22 17:00:00,123 fail2ban.filter [7]: INFO x",
            "Sun Nov 22 17:00:00 2026 [pid 7] CONNECT: Client \"192.0.2.7\"",
            "{\"level\":\"info\"}",
        ] {
            assert!(!of_syslog(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn a_match_on_what_the_writer_says_of_himself_is_told() {
        let jail = jail_of("[jail.sshd]\n");
        let told = |matches: &[&str]| journal(&jail, &matches.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert!(told(&["_SYSTEMD_UNIT=ssh.service _UID=0", "_COMM=sshd _UID=0"]).fix.is_none());
        let found = told(&["_SYSTEMD_UNIT=sshd.service", "_COMM=sshd"]);
        assert!(found.what.contains("_COMM=sshd") && !found.what.contains("_SYSTEMD_UNIT"), "{found:?}");
        assert!(found.fix.unwrap().contains("[\"_SYSTEMD_UNIT=sshd.service\", \"_COMM=sshd _UID=0\"]"));
    }
}
