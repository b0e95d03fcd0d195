//! What a config would have banned over logs of the past: packed by the real tools, in journals made by the real
//! journald's tool, over the turn of a year and the end of summer time, and as the daemon does with the same lines.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use lab::house::{House, sshd_jail};
use lab::{Lab, append, program};
use palisade_core::time::Stamp;
use serde_json::Value;
use tempfile::TempDir;

/// Files of a test, and the program over them. The built-in jails are there.
struct Desk {
    dir: TempDir,
}

/// What the program answered.
struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {} {}", self.out, self.err))
    }
}

impl Desk {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("palisade.toml"), config).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Runs a verb in the folder, with this on its standard input.
    fn fed(&self, words: &str, input: &[u8]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
        command.arg("--config").arg(self.path("palisade.toml")).args(words.split_whitespace()).current_dir(self.dir.path());
        command.env_remove("LANG").env_remove("LC_ALL").env("TZ", "UTC");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // Nobody reads it where the arguments are wrong.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Answer { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    fn run(&self, words: &str) -> Answer {
        self.fed(words, b"")
    }

    /// `replay --json`, which must end with this exit code.
    #[track_caller]
    fn replay(&self, code: i32, words: &str) -> Value {
        let answer = self.run(&format!("--json replay {words}"));
        assert_eq!(answer.code, code, "{words}: {} {}", answer.out, answer.err);
        answer.json()
    }
}

/// Prefix, begin, offence.
fn bans(answer: &Value) -> Vec<(&str, &str, u64)> {
    let all = answer["bans"].as_array().unwrap().iter();
    all.map(|ban| (ban["prefix"].as_str().unwrap(), ban["at"].as_str().unwrap(), ban["offence"].as_u64().unwrap())).collect()
}

/// A line of sshd, written at this time as the syslog daemon spells it.
fn failed(time: &str, addr: &str) -> String {
    format!("{time} host sshd[7]: Failed password for root from {addr} port 50022 ssh2\n")
}

fn accepted(time: &str, addr: &str) -> String {
    format!("{time} host sshd[7]: Accepted password for ann from {addr} port 50022 ssh2\n")
}

fn iso(day: u32, hour: u32, minute: u32, second: u32) -> String {
    format!("2026-10-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Has a program of the machine pack a file beside it.
fn pack(tool: &str, file: &Path, to: &Path) {
    let output = Command::new(program(tool)).arg("-c").arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::write(to, output.stdout).unwrap();
}

fn written(path: &Path, unix: u64) {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(unix);
    File::options().append(true).open(path).unwrap().set_times(FileTimes::new().set_modified(at)).unwrap();
}

const THREE: &str = "[jail.sshd]\nmax_retry = 3\n";

#[test]
fn rotated_and_packed_logs_are_one_log() {
    let desk = Desk::new(THREE);
    // One attacker, whose three failures are in three files; another with all in one; names lie about the order.
    let parts = [
        ("gzip", "auth.log.3.gz", failed(&iso(1, 9, 0, 0), "203.0.113.1")),
        ("xz", "auth.log.2.xz", failed(&iso(1, 9, 3, 0), "203.0.113.1") + &failed(&iso(1, 9, 3, 1), "203.0.113.2").repeat(4)),
        ("zstd", "auth.log.1.zst", failed(&iso(1, 9, 6, 0), "203.0.113.1") + &failed(&iso(1, 9, 6, 5), "203.0.113.1").repeat(2)),
    ];
    for (tool, name, text) in &parts {
        pack(tool, &desk.write("plain", text), &desk.path(name));
    }
    desk.write("auth.log", &(accepted(&iso(1, 10, 0, 0), "198.51.100.7") + "nothing\n"));
    let answer = desk.replay(0, "auth.log.1.zst auth.log auth.log.3.gz auth.log.2.xz --threads 2");
    let expected = [("203.0.113.2/32", "2026-10-01T09:03:01Z", 1), ("203.0.113.1/32", "2026-10-01T09:06:00Z", 1)];
    assert_eq!(bans(&answer), expected);
    assert_eq!((answer["lines"].as_u64(), answer["attacks"].as_u64()), (Some(11), Some(9)));
    assert_eq!((answer["logins"].as_u64(), answer["kept_out"].as_u64()), (Some(1), Some(3)));
    assert!(answer["seconds"].as_f64().unwrap() > 0.0 && answer["lines_per_second"].as_f64().unwrap() > 0.0);
    let ban = &answer["bans"][0];
    assert_eq!((&ban["until"], &ban["jail"]), (&"2026-10-01T09:13:01Z".into(), &"sshd".into()));
    let formats: Vec<&str> = answer["files"].as_array().unwrap().iter().map(|file| file["format"].as_str().unwrap()).collect();
    assert_eq!(formats, ["zstd", "plain", "gzip", "xz"]);
    // However many threads there are, and whatever the files are called.
    fs::rename(desk.path("auth.log.3.gz"), desk.path("strange.txt")).unwrap();
    for threads in [1, 9] {
        let words = format!("auth.log.2.xz strange.txt auth.log auth.log.1.zst --threads {threads} --jail sshd");
        assert_eq!(bans(&desk.replay(0, &words)), expected, "{threads} threads");
    }
}

#[test]
fn files_of_many_frames_are_read_whole_and_damaged_ones_are_told() {
    let desk = Desk::new(THREE);
    let (first, second) = (failed(&iso(1, 9, 0, 0), "203.0.113.1").repeat(2), failed(&iso(1, 9, 0, 9), "203.0.113.1"));
    for tool in ["gzip", "xz", "zstd"] {
        pack(tool, &desk.write("plain", &first), &desk.path("one"));
        pack(tool, &desk.write("plain", &second), &desk.path("two"));
        let both = [fs::read(desk.path("one")).unwrap(), fs::read(desk.path("two")).unwrap()].concat();
        fs::write(desk.path("auth.log.9"), &both).unwrap();
        assert_eq!(bans(&desk.replay(0, "auth.log.9")).len(), 1, "{tool}");
        let piped = desk.fed("--json replay - --jail sshd", &both);
        assert_eq!((piped.code, bans(&piped.json()).len()), (0, 1), "{tool}: {}", piped.err);
        // Cut within the second part: what is before it counts.
        fs::write(desk.path("auth.log.9"), &both[..both.len() - 10]).unwrap();
        let answer = desk.run("--json replay auth.log.9");
        assert!(answer.code == 6 && answer.err.contains("auth.log.9"), "{tool}: {}", answer.err);
        assert!(answer.json()["attacks"].as_u64().unwrap() >= 2, "{tool}: {}", answer.out);
    }
    desk.write("auth.log", "BZh91AY");
    let answer = desk.run("replay auth.log");
    assert!(answer.code == 2 && answer.err.contains("bzcat"), "{}", answer.err);
}

#[test]
fn years_are_counted_back_from_when_a_log_was_last_written_to() {
    let desk = Desk::new(THREE);
    let old = desk.write("auth.log.1", &["Dec 31 23:58:00", "Dec 31 23:59:30"].map(|time| failed(time, "203.0.113.1")).concat());
    let new =
        desk.write("auth.log", &["Jan  1 00:00:10", "Jan  1 00:00:11", "Feb 20 08:00:00"].map(|time| failed(time, "203.0.113.1")).concat());
    written(&old, 1_735_689_600); // 2025-01-01T00:00:00Z
    written(&new, 1_740_038_400); // 2025-02-20T08:00:00Z
    let answer = desk.replay(0, "auth.log auth.log.1");
    assert_eq!(bans(&answer), [("203.0.113.1/32", "2025-01-01T00:00:10Z", 1)]);
    assert_eq!((answer["from"].as_str(), answer["until"].as_str()), (Some("2024-12-31T23:58:00Z"), Some("2025-02-20T08:00:00Z")));
    let answer = desk.replay(0, "auth.log auth.log.1 --now 2021-03-01");
    assert_eq!(bans(&answer), [("203.0.113.1/32", "2021-01-01T00:00:10Z", 1)]);
    let answer = desk.replay(0, "auth.log auth.log.1 --zone +02:00 --now 2021-03-01T12:00:00Z");
    assert_eq!(bans(&answer), [("203.0.113.1/32", "2020-12-31T22:00:10Z", 1)]);
    for wrong in ["--now yesterday", "--zone Nowhere/Land", "--jail nosuch", "--threads 0"] {
        assert_eq!(desk.run(&format!("replay auth.log {wrong}")).code, 2, "{wrong}");
    }
}

#[test]
fn the_hours_that_summer_time_repeats_and_leaves_out_are_as_long_as_they_were() {
    let desk = Desk::new(THREE);
    // Every twenty minutes through the end of summer time in Berlin: never three within ten minutes, though 02:00 to
    // 03:00 comes twice.
    let hour = |hour| [0, 20, 40].map(|minute| failed(&format!("Oct 25 {hour:02}:{minute:02}:07"), "203.0.113.1")).concat();
    desk.write("auth.log", &[hour(1), hour(2), hour(2), hour(3)].concat());
    let zone = "--zone CET-1CEST,M3.5.0,M10.5.0/3 --now 2026-11-01";
    let answer = desk.replay(1, &format!("auth.log {zone}"));
    assert_eq!((answer["from"].as_str(), answer["until"].as_str()), (Some("2026-10-24T23:00:07Z"), Some("2026-10-25T02:40:07Z")));
    // 01:59 and 03:01 are two minutes apart when summer time begins.
    desk.write("auth.log", &["01:58:00", "01:59:00", "03:01:00"].map(|time| failed(&format!("Mar 29 {time}"), "203.0.113.1")).concat());
    assert_eq!(bans(&desk.replay(0, &format!("auth.log {zone}"))), [("203.0.113.1/32", "2026-03-29T01:01:00Z", 1)]);
}

#[test]
fn bans_grow_as_they_would_have_and_two_configs_are_compared_in_one_reading() {
    let desk =
        Desk::new("[ban]\nban_time = \"10m\"\nescalate = { factor = 2, max = \"1w\", forget = \"30d\" }\n[jail.sshd]\nmax_retry = 3\n");
    // Six tries each hour of two days; and one who tries twice only, and logs in.
    let mut text = String::new();
    for day in [1, 2] {
        for hour in 0..24 {
            (0..6).for_each(|minute| text += &failed(&iso(day, hour, minute, 0), "203.0.113.1"));
        }
    }
    text += &failed(&iso(3, 0, 0, 0), "203.0.113.9").repeat(2);
    text += &accepted(&iso(3, 0, 0, 1), "203.0.113.9");
    desk.write("auth.log", &text);
    desk.write("harder.toml", "[jail.sshd]\nmax_retry = 2\nban_time = \"permanent\"\n");
    let answer = desk.replay(0, "auth.log --against harder.toml");
    let mine = bans(&answer);
    // 10, 20, 40 and 80 minutes, then 160: each begins with the third failure after the one before is over.
    let hours = ["00:02", "01:02", "02:02", "03:02", "05:02", "08:02"];
    let expected: Vec<String> = hours.iter().map(|time| format!("2026-10-01T{time}:00Z")).collect();
    let begins: Vec<&str> = mine.iter().map(|(_, at, _)| *at).take(6).collect();
    assert_eq!(begins, expected);
    assert_eq!(mine.iter().map(|(.., offence)| *offence).take(6).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let other = &answer["against"];
    assert_eq!(bans(other), [("203.0.113.1/32", "2026-10-01T00:01:00Z", 1), ("203.0.113.9/32", "2026-10-03T00:00:00Z", 1)]);
    assert_eq!((other["kept_out"].as_u64(), other["logins_kept_out"].as_u64()), (Some(287), Some(1)));
    assert!(other["bans"][0]["until"].is_null());
    assert_eq!(answer["only_against"], serde_json::json!(["203.0.113.9/32"]));
    assert_eq!(answer["only_this"], serde_json::json!([]));
    let people = desk.run("replay auth.log --against harder.toml --top 3");
    assert_eq!(people.code, 0);
    for words in ["banned by harder.toml only: 203.0.113.9/32", "lines a second", "attacks", "3 of "] {
        assert!(people.out.contains(words), "no `{words}` in {}", people.out);
    }
    assert!(people.out.is_ascii(), "no UTF-8 where the locale has none");
    fs::write(desk.path("harder.toml"), "[jail.sshd]\nmax_retri = 2\n").unwrap();
    assert_eq!(desk.run("replay auth.log --against harder.toml").code, 4);
}

#[test]
fn a_log_goes_to_the_jails_that_read_it_and_one_of_no_name_to_all() {
    let desk = Desk::new(THREE);
    let probe = |second| format!("203.0.113.5 - - [01/Oct/2026:09:00:0{second} +0000] \"GET /.env HTTP/1.1\" 404 12 \"-\" \"-\"\n");
    let text = (0..9).map(probe).collect::<String>() + &failed(&iso(1, 9, 1, 0), "203.0.113.1").repeat(3);
    desk.write("auth.log.4", &text);
    desk.write("mixed", &text);
    let only = desk.run("--json replay auth.log.4");
    assert!(only.err.is_empty(), "{}", only.err);
    assert_eq!(bans(&only.json()).iter().map(|ban| ban.0).collect::<Vec<_>>(), ["203.0.113.1/32"]);
    let all = desk.run("--json replay mixed");
    assert!(all.err.contains("mixed: no jail") && all.err.contains("web-probes"), "{}", all.err);
    assert_eq!(bans(&all.json()).iter().map(|ban| ban.0).collect::<Vec<_>>(), ["203.0.113.5/32", "203.0.113.1/32"]);
    let web = desk.replay(0, "auth.log.4 --jail web-probes");
    assert_eq!(bans(&web).iter().map(|ban| ban.0).collect::<Vec<_>>(), ["203.0.113.5/32"]);
}

#[test]
fn of_several_files_those_that_can_be_read_are_read() {
    let desk = Desk::new("");
    desk.write("auth.log", &(1..=6).map(|n| failed(&iso(1, 2, n, 0), "192.0.2.7")).collect::<String>());
    desk.write("auth.log.2.bz2", "BZh91AY&SY");
    let answer = desk.run("--json replay --jail sshd auth.log.2.bz2 none auth.log");
    assert_eq!((answer.code, bans(&answer.json()).len()), (6, 1), "{}", answer.err);
    assert!(
        answer.err.contains("auth.log.2.bz2: it is packed with bzip2") && answer.err.contains("cannot read none: No such file"),
        "{}",
        answer.err
    );
    for (code, words) in
        [(6, "test --signature sshd none auth.log"), (2, "test --signature sshd none none"), (2, "replay --jail sshd none")]
    {
        let answer = desk.run(words);
        assert_eq!(answer.code, code, "{words}: {} {}", answer.out, answer.err);
        assert_eq!(answer.out.contains("192.0.2.7"), code == 6, "{words}: {}", answer.out);
    }
}

#[test]
fn what_a_jail_that_is_left_out_would_have_heard_is_not_answered_for() {
    let desk = Desk::new("");
    let (log, other) = (desk.write("web.log", &failed(&iso(1, 0, 0, 0), "203.0.113.7").repeat(9)), desk.path("other.log"));
    fs::copy(&log, &other).unwrap();
    let gone = desk.path("gone.conf");
    let jail = |name: &str, file: &Path| format!("[jail.{name}]\nfail2ban = \"{}\"\nfiles = [\"{}\"]\n", gone.display(), file.display());
    let both = format!("[jail.more]\nsignatures = [\"sshd\"]\nfiles = [\"{}\"]\n", other.display());
    desk.write("palisade.toml", &format!("{}{}{both}", jail("web", &log), jail("beside", &other)));
    let answer = desk.replay(6, "web.log");
    assert_eq!((&answer["lines"], &answer["left_out"][0]["jail"]), (&Value::from(0), &Value::from("web")), "{answer}");
    assert!(answer["left_out"][0]["why"].as_str().unwrap().contains("gone.conf"), "{answer}");
    assert_eq!(answer["files"][0]["jails"], serde_json::json!([]));
    let told = desk.run("replay web.log");
    assert!(told.code == 6 && told.err.contains("web.log is not read"), "{}", told.err);
    assert!(told.out.contains("nobody would have been banned by the jails that can be used"), "{}", told.out);
    // Of two jails one hears it.
    let answer = desk.replay(6, "other.log");
    assert_eq!((bans(&answer).len(), &answer["left_out"][0]["jail"]), (1, &Value::from("beside")), "{answer}");
    // Of two configs one.
    desk.write("fine.toml", &format!("[jail.web]\nsignatures = [\"sshd\"]\nfiles = [\"{}\"]\n", log.display()));
    let answer = desk.replay(6, "web.log --against fine.toml");
    assert_eq!((&answer["left_out"][0]["jail"], &answer["against"]["left_out"]), (&Value::from("web"), &serde_json::json!([])));
    assert_eq!(answer["only_against"], serde_json::json!(["203.0.113.7/32"]));
    desk.write("palisade.toml", "");
    assert_eq!(desk.replay(0, "web.log --jail sshd")["left_out"], serde_json::json!([]));
}

#[test]
fn a_filter_says_why_it_finds_nobody_in_a_line() {
    let desk = Desk::new("");
    let filter = desk.write(
        "door.conf",
        "[Definition]\nprefregex = ^\\s*door: <F-CONTENT>.+</F-CONTENT>$\nfailregex = ^bad key from <HOST>$\n            ^<F-NOFAIL>bell</F-NOFAIL> by <HOST>$\n\
         ignoreregex = 192\\.0\\.2\\.9$\n",
    );
    desk.write(
        "palisade.toml",
        &format!("[jail.door]\nfail2ban = \"{}\"\nfiles = [\"{}\"]\n", filter.display(), desk.path("door.log").display()),
    );
    let said = ["door: bad key from 192.0.2.7", "hall: bad key from 192.0.2.7", "door: good key", "door: bad key from 192.0.2.9"];
    let said = said.iter().chain(&["door: bell by 192.0.2.7", "door: bad key from nobody.example"]);
    let mut log: String = (0u32..).zip(said).map(|(n, line)| format!("{} {line}\n", iso(1, 0, 0, n))).collect();
    log.push_str("the door was painted\n");
    desk.write("door.log", &log);
    let whys = [
        None,
        Some("prefregex does not match"),
        Some("no failregex matches"),
        Some("an ignoreregex matches"),
        Some("failregex 2 matches, but has it as no failure by itself"),
        Some("failregex 1 matches, but names nobody by an address"),
        Some("prefregex does not match; no date was found in the line"),
    ];
    let answer = desk.run("--json test --jail door --explain door.log");
    assert_eq!(answer.code, 0, "{}", answer.err);
    let lines: Vec<Value> = answer.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), whys.len(), "{}", answer.out);
    for (line, why) in lines.iter().zip(whys) {
        assert_eq!(line["why"]["fail2ban/door"].as_str(), why, "{line}");
    }
    let told = desk.run("test --jail door --explain door.log").out;
    assert!(told.contains("7: no match; line: the door was painted\n   fail2ban/door: prefregex does not match; no date"), "{told}");
    assert!(!told.contains("program:"), "{told}");
}

#[test]
fn over_long_lines_are_dropped_whole_in_every_place() {
    let desk = Desk::new(&format!("[limits]\nline = 1000\n{THREE}"));
    let line = failed(&iso(1, 9, 0, 0), "203.0.113.1");
    // As the last part of a long line it would be one of its own if lines were cut.
    for long in [1001, 999_999, 3 << 20] {
        desk.write("auth.log", &format!("{}{}", "x".repeat(long), line.repeat(2)));
        let answer = desk.replay(1, "auth.log");
        assert_eq!(
            (answer["lines"].as_u64(), answer["oversize"].as_u64(), answer["attacks"].as_u64()),
            (Some(2), Some(1), Some(1)),
            "{long}"
        );
    }
}

/// A journal file, made by systemd's own tool from what `journalctl -o export` would give.
fn journal(path: &Path, records: &[(u64, &str, &str)]) {
    let mut export = String::new();
    for (second, unit, message) in records {
        let micros = (1_790_845_200 + second) * 1_000_000;
        export += &format!(
            "__REALTIME_TIMESTAMP={micros}\n__MONOTONIC_TIMESTAMP={micros}\n_BOOT_ID=0123456789abcdef0123456789abcdef\n_SYSTEMD_UNIT={unit}\n_PID=7\n_UID=0\n\
             SYSLOG_IDENTIFIER=sshd\nMESSAGE={message}\n\n"
        );
    }
    let tool = Path::new("/lib/systemd/systemd-journal-remote");
    assert!(tool.is_file(), "systemd-journal-remote is not installed, and this test needs it: run `make deps`");
    let mut child = Command::new(tool).arg("-o").arg(path).arg("-").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(export.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn journal_files_are_read_by_the_matches_of_the_jails() {
    let desk = Desk::new(THREE);
    let message = "Failed password for root from 203.0.113.1 port 22 ssh2";
    let planted = "Failed password for root from 203.0.113.2 port 22 ssh2";
    let (ssh, cron) = ("ssh.service", "cron.service");
    let records = [(0, ssh, message), (1, cron, planted), (2, cron, planted), (3, cron, planted), (4, ssh, message)];
    journal(&desk.path("system.journal"), &records);
    // The third is in a log file.
    desk.write("auth.log", &failed("2026-10-01T09:00:03Z", "203.0.113.1"));
    let answer = desk.replay(0, "system.journal auth.log");
    assert_eq!(bans(&answer), [("203.0.113.1/32", "2026-10-01T09:00:04Z", 1)], "{answer}");
    assert_eq!(answer["lines"], 6);
    let tested = desk.run("test --jail sshd system.journal");
    assert!(tested.code == 0 && tested.err.contains("2 of 5 lines matched"), "{} {}", tested.out, tested.err);
    let all = desk.run("test --signature sshd system.journal");
    assert!(all.err.contains("5 of 5 lines matched"), "{} {}", all.out, all.err);
    fs::write(desk.path("broken.journal"), b"LPKSHHRH and then nothing").unwrap();
    let broken = desk.run("replay broken.journal");
    assert!(broken.code == 6 && broken.err.contains("broken.journal"), "{}", broken.err);
}

#[test]
fn lines_are_tested_over_many_files_with_logins_and_costs() {
    let desk = Desk::new(THREE);
    let text = failed("Oct  1 09:00:00", "203.0.113.1") + &accepted("Oct  1 09:00:05", "198.51.100.7") + "nothing\n";
    pack("gzip", &desk.write("one", &text), &desk.path("two"));
    let answer = desk.run("--json test --signature sshd --now 2026-11-01 one two");
    assert_eq!(answer.code, 0, "{}", answer.err);
    let lines: Vec<Value> = answer.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        lines.iter().map(|line| (line["file"].as_str(), line["line"].as_u64(), line["match"].as_bool(), line["login"].as_bool())).collect();
    let of = |file, line, matched, login| (Some(file), Some(line), Some(matched), login);
    let file = |name| [of(name, 1, true, None), of(name, 2, false, Some(true)), of(name, 3, false, None)];
    assert_eq!(told, [file("one"), file("two")].concat());
    assert_eq!(
        (&lines[0]["time"], &lines[1]["addr"], &lines[1]["user"]),
        (&"2026-10-01T09:00:00Z".into(), &"198.51.100.7".into(), &"ann".into())
    );
    let login = desk.fed("test --signature sshd -", accepted("Oct  1 09:00:05", "198.51.100.7").as_bytes());
    assert!(login.code == 1 && login.out.contains("login"), "a login is no match: {}", login.out);
    fs::write(desk.path("torn.gz"), b"\x1f\x8bno gzip").unwrap();
    let torn = desk.run("test --signature sshd one torn.gz");
    assert!(torn.code == 6 && torn.out.contains("203.0.113.1") && torn.err.contains("torn.gz: "), "{}{}", torn.out, torn.err);
    let why = desk.run("--json test --signature sshd --explain one");
    let why: Value = serde_json::from_str(why.out.lines().nth(2).unwrap()).unwrap();
    assert!(why["match"] == false && why["why"]["sshd"].is_string(), "{why}");
    let filter = desk.run("test --fail2ban-filter one one");
    assert!(filter.code == 2 && filter.err.contains("a file called NAME.conf"), "{}", filter.err);
    let coloured = desk.run("--color always test --signature sshd one");
    assert!(
        coloured.out.contains("\x1b[2mOct  1 09:00:00\x1b[0m") && coloured.out.contains("from \x1b[31m203.0.113.1\x1b[0m port"),
        "{}",
        coloured.out
    );
    let profile = desk.run("--json test --signature sshd --profile one two");
    let profile = profile.json();
    assert_eq!((&profile["lines"], &profile["matches"]), (&6.into(), &4.into()), "{profile}");
    let costs = profile["costs"].as_array().unwrap();
    let ms: Vec<f64> = costs.iter().map(|cost| cost["ms"].as_f64().unwrap()).collect();
    assert!(
        ms.iter().rev().is_sorted() && costs.iter().any(|cost| cost["name"] == "sshd/failed-password" && cost["matches"] == 2),
        "{profile}"
    );
}

#[test]
fn the_daemon_bans_whom_a_replay_of_its_log_says() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.path("auth.log");
    fs::write(&log, "").unwrap();
    let config = "max_retry = 3\n[ban]\nspread = { ipv4 = 28, hosts = 3 }\n[allow]\nprefixes = [\"203.0.113.64/28\"]\n";
    let mut house = House::new(&lab, &sshd_jail(&log, config));
    house.start();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = Stamp(i64::try_from(now.as_millis()).unwrap()).to_string();
    // Some fail twice, some three times, three of them neighbours; one is allowed, and two share a /64.
    let mut text = String::new();
    for host in 1..=40 {
        let times = if host % 5 == 0 || (1..=3).contains(&host) { 3 } else { 2 };
        text += &failed(&now, &format!("203.0.113.{host}")).repeat(times);
    }
    text += &failed(&now, "203.0.113.70").repeat(9);
    text += &failed(&now, "2001:db8::1").repeat(2);
    text += &failed(&now, "2001:db8::2");
    append(&log, &text);
    lab::until("all is read", || house.lines() == u64::try_from(text.lines().count()).unwrap());
    lab::until("somebody is banned", || !house.list().is_empty());
    let live: Vec<String> = house.list().into_keys().collect();
    let answer = house.json(&format!("replay {}", log.display()));
    let mut replayed: Vec<String> = bans(&answer).into_iter().map(|ban| ban.0.to_owned()).collect();
    replayed.sort();
    assert!(live.len() > 8 && live.iter().any(|prefix| prefix.ends_with("/28")), "{live:?}");
    assert_eq!(replayed, live);
}
