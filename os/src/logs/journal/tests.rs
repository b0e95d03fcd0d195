//! A stand-in child for the handling, the real `journalctl` on a real journal file for the rest.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::wake;

/// Pumps in real time until `done`, or fails after half a minute.
fn pump_until(journal: &mut Journal, out: &mut Vec<String>, now: &mut Tick, done: impl Fn(&[String]) -> bool) {
    let start = Instant::now();
    while !done(out) {
        assert!(start.elapsed() < Duration::from_secs(30), "{out:?}");
        journal.pump(*now, usize::MAX, &mut |take| {
            out.push(match take {
                Take::Record { source, record } => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    format!("{source} {} {:?} {}", text(record.ident), record.pid, text(record.message))
                }
                Take::Oversize { source, bytes } => format!("over {source:?} {bytes}"),
                Take::Position { cursor } => format!("at {cursor}"),
                Take::Problem { what } => format!("problem {what}"),
                Take::Solved => "solved".to_owned(),
            });
        });
        let fds: Vec<_> = journal.fd().into_iter().collect();
        let _ = wake::poll(&fds, None, Some(Span::millis(5))).unwrap();
        *now = now.plus(Span::millis(100));
    }
}

/// A script in place of journalctl: logs its arguments, then does what `body` says.
fn stand_in(dir: &Path, body: &str) -> Options {
    let program = dir.join("journalctl");
    fs::write(&program, format!("#!/bin/sh\necho \"$@\" >> {}/args\n{body}\n", dir.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    Options { program: Some(program), extra: vec!["--extra".into()], message_max: 100 }
}

fn wants() -> Vec<(usize, String)> {
    vec![(1, "_SYSTEMD_UNIT=ssh.service".into()), (2, "_COMM=sshd _UID=0".into()), (3, "_SYSTEMD_UNIT=cron.service".into())]
}

#[test]
fn records_reach_the_sources_that_want_them_and_deaths_are_survived() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(101);
    let huge = "y".repeat(2_000_000);
    fs::write(
        dir.path().join("out"),
        format!(
            "{}\n{}\n{}\n{}\nno record\n{}\n",
            r#"{"__CURSOR":"s=a;i=1","__REALTIME_TIMESTAMP":"1795366800000001","_SYSTEMD_UNIT":"ssh.service","_COMM":"sshd","_UID":"0","_PID":"7","MESSAGE":"a\nb"}"#,
            r#"{"__CURSOR":"s=a;i=2","_SYSTEMD_UNIT":"other.service","MESSAGE":"nobody wants it"}"#,
            format_args!(r#"{{"__CURSOR":"s=a;i=3","_SYSTEMD_UNIT":"cron.service","MESSAGE":"{long}"}}"#),
            format_args!(r#"{{"__CURSOR":"s=a;i=4","MESSAGE":"{huge}"}}"#),
            r#"{"__CURSOR":"s=a;i=5","_SYSTEMD_UNIT":"cron.service","SYSLOG_IDENTIFIER":"CRON","MESSAGE":[255,10]}"#,
        ),
    )
    .unwrap();
    let options = stand_in(dir.path(), &format!("cat {}/out; echo dying >&2; exit 3", dir.path().display()));
    let mut journal = Journal::open_with(wants(), None, options).unwrap();
    let (mut out, mut now) = (Vec::new(), Tick(0));
    let ended = |out: &[String]| out.iter().filter(|o| o.contains("dying")).count() >= 1;
    pump_until(&mut journal, &mut out, &mut now, ended);
    let records: Vec<&String> = out.iter().filter(|o| !o.starts_with("at ") && !o.starts_with("problem") && *o != "solved").collect();
    let oversize = format!("over None {}", huge.len() + 35);
    assert_eq!(records, ["1 sshd Some(7) a\nb", "2 sshd Some(7) a\nb", "over Some(3) 101", &oversize, "3 CRON None \u{fffd}\n"]);
    assert!(out.iter().any(|o| o.contains("no record")));
    let last = out.iter().rposition(|o| o.starts_with("at ")).unwrap();
    assert_eq!(out[last], "at s=a;i=5");
    // The next child goes on after it; then the problem is over.
    stand_in(dir.path(), "exec sleep 600");
    pump_until(&mut journal, &mut out, &mut now, |out| out.last().is_some_and(|o| o == "solved"));
    let args = fs::read_to_string(dir.path().join("args")).unwrap();
    let args: Vec<&str> = args.lines().collect();
    let matches = "_SYSTEMD_UNIT=ssh.service + _COMM=sshd _UID=0 + _SYSTEMD_UNIT=cron.service";
    assert!(args[0].starts_with("--extra --output=json --all --follow --no-tail") && args[0].contains("--since=@"), "{}", args[0]);
    assert!(args[0].ends_with(matches), "{}", args[0]);
    assert!(args.last().unwrap().contains("--after-cursor=s=a;i=5"), "{args:?}");
    let pid = journal.child.as_ref().unwrap().pid();
    drop(journal);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_lost_cursor_is_told_and_reading_goes_on_from_now() {
    let dir = tempfile::tempdir().unwrap();
    let body = "case \"$*\" in *after-cursor*) echo 'Failed to seek to cursor: Invalid argument' >&2; exit 1;; esac; exec sleep 600";
    let mut journal = Journal::open_with(wants(), Some("s=gone".into()), stand_in(dir.path(), body)).unwrap();
    let (mut out, mut now) = (Vec::new(), Tick(0));
    pump_until(&mut journal, &mut out, &mut now, |out| out.last().is_some_and(|o| o == "solved"));
    assert!(out.iter().any(|o| o.contains("does not know the kept position")), "{out:?}");
    assert!(out.iter().any(|o| o.starts_with("at @")), "{out:?}");
}

#[test]
fn positions_are_checked() {
    assert_eq!(position(Some("@17")), (None, Some(Stamp(17))));
    assert_eq!(position(Some("s=0f;i=1")), (Some("s=0f;i=1".to_owned()), None));
    for wrong in ["", "@x", "s=1 --file=/etc/passwd", "S", &"a".repeat(600)] {
        assert_eq!(position(Some(wrong)), (None, None), "{wrong}");
    }
}

#[test]
fn a_missing_program_is_a_problem_not_an_end() {
    let options = Options { program: Some("/nonexistent/journalctl".into()), ..Options::default() };
    let mut journal = Journal::open_with(wants(), None, options).unwrap();
    let mut out = Vec::new();
    pump_until(&mut journal, &mut out, &mut Tick(0), |out| out.iter().any(|o| o.contains("cannot be started")));
    assert!(journal.fd().is_none() && journal.next_deadline().is_some());
}

/// An entry in the journal export format.
fn entry(n: u64, unit: &str, message: &[u8]) -> Vec<u8> {
    let boot = "00000000000000000000000000000002";
    let stamp = 1_795_366_800_000_000 + n;
    let mut out = format!(
        "__CURSOR=s=00000000000000000000000000000001;i={n:x};b={boot};m={n:x};t={stamp:x};x={n:x}\n__REALTIME_TIMESTAMP={stamp}\n\
         __MONOTONIC_TIMESTAMP={n}\n_BOOT_ID={boot}\n_SYSTEMD_UNIT={unit}\n_PID=42\nSYSLOG_IDENTIFIER=sshd\nMESSAGE\n"
    )
    .into_bytes();
    out.extend((message.len() as u64).to_le_bytes());
    out.extend(message);
    out.extend(b"\n\n");
    out
}

#[test]
fn the_real_journalctl_reads_a_real_journal() {
    let remote = Path::new("/lib/systemd/systemd-journal-remote");
    if !remote.exists() || program().is_none() {
        eprintln!("SKIPPED: systemd-journal-remote and journalctl are needed to try a real journal");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(remote)
        .arg("-o")
        .arg(dir.path().join("x.journal"))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let big = "x".repeat(5000);
    let entries = [
        entry(1, "ssh.service", b"one"),
        entry(2, "ssh.service", big.as_bytes()),
        entry(3, "ssh.service", b"bro\xffken"),
        entry(4, "other.service", b"not ours"),
        entry(5, "cron.service", b"two\nlines"),
    ];
    child.stdin.take().unwrap().write_all(&entries.concat()).unwrap();
    assert!(child.wait().unwrap().success());
    let options = || Options { extra: vec![format!("--directory={}", dir.path().display()).into()], ..Options::default() };
    let mut journal = Journal::open_with(wants(), Some("@0".into()), options()).unwrap();
    let (mut out, mut now) = (Vec::new(), Tick(0));
    let count = |out: &[String]| out.iter().filter(|o| !o.starts_with("at ")).count();
    pump_until(&mut journal, &mut out, &mut now, |out| count(out) >= 4);
    let records: Vec<String> = out.iter().filter(|o| !o.starts_with("at ")).cloned().collect();
    let expect = ["one", &big, "bro\u{fffd}ken"].map(|m| format!("1 sshd Some(42) {m}"));
    assert_eq!(records[..3], expect);
    assert_eq!(records[3..], ["3 sshd Some(42) two\nlines"]);
    // From the cursor of the first record on: neither it again, nor one less.
    let cursor = {
        let mut first = None;
        let mut journal = Journal::open_with(wants(), Some("@0".into()), options()).unwrap();
        while first.is_none() {
            journal.pump(Tick(0), usize::MAX, &mut |take| {
                if let Take::Record { record, .. } = take {
                    first.get_or_insert(record.cursor.to_owned());
                }
            });
            let _ = wake::poll(&[journal.fd().unwrap()], None, Some(Span::secs(1))).unwrap();
        }
        first
    };
    let mut journal = Journal::open_with(wants(), cursor, options()).unwrap();
    let (mut again, mut now) = (Vec::new(), Tick(0));
    pump_until(&mut journal, &mut again, &mut now, |out| count(out) >= 3);
    let again: Vec<String> = again.into_iter().filter(|o| !o.starts_with("at ")).collect();
    assert_eq!(again, records[1..]);
}

/// A journal that is rotated (archived under another name, a new file in its place, as journald does it)
/// and vacuumed while it is followed, with restarts from the kept position between: numbered records,
/// each once. What vacuuming removes had been read.
#[test]
fn rotation_and_vacuum_lose_nothing_and_double_nothing() {
    let remote = Path::new("/lib/systemd/systemd-journal-remote");
    let Some(journalctl) = program().filter(|_| remote.exists()) else {
        eprintln!("SKIPPED: systemd-journal-remote and journalctl are needed to try a real journal");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (active, archived) = (dir.path().join("remote.journal"), |n: u64| {
        // As archives are called: sequence, first number and first time.
        dir.path().join(format!("remote@0000000000000000000000000000000{n:x}-{n:016x}-{n:016x}.journal"))
    });
    let write = |numbers: std::ops::Range<u64>| {
        let mut child = Command::new(remote).arg("-o").arg(&active).arg("-").stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let entries: Vec<u8> = numbers.flat_map(|n| entry(n, "ssh.service", n.to_string().as_bytes())).collect();
        child.stdin.take().unwrap().write_all(&entries).unwrap();
        assert!(child.wait().unwrap().success());
    };
    let options = || Options { extra: vec![format!("--directory={}", dir.path().display()).into()], ..Options::default() };
    write(1..101);
    let mut journal = Journal::open_with(wants(), Some("@0".into()), options()).unwrap();
    let (mut out, mut now) = (Vec::new(), Tick(0));
    let records = |out: &[String]| out.iter().filter(|o| o.starts_with("1 sshd")).count();
    for round in 1..6 {
        let from = round * 100 + 1;
        fs::rename(&active, archived(round)).unwrap();
        write(from..from + 100);
        if round % 2 == 0 {
            // Rotated while nobody reads.
            let cursor = out.iter().rev().find_map(|o: &String| o.strip_prefix("at ")).unwrap().to_owned();
            drop(journal);
            journal = Journal::open_with(wants(), Some(cursor), options()).unwrap();
        }
        let wanted = usize::try_from(from).unwrap() + 99;
        pump_until(&mut journal, &mut out, &mut now, |out| records(out) >= wanted);
        let vacuum = Command::new(&journalctl).arg("--directory").arg(dir.path()).arg("--vacuum-files=2").output().unwrap();
        assert!(vacuum.status.success(), "{}", String::from_utf8_lossy(&vacuum.stderr));
    }
    assert!(!archived(1).exists(), "vacuuming removed the oldest");
    let read: Vec<String> = out.into_iter().filter(|o| o.starts_with("1 sshd")).collect();
    let expect: Vec<String> = (1..601).map(|n| format!("1 sshd Some(42) {n}")).collect();
    assert_eq!(read, expect);
}
