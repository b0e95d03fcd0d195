//! What attackers write into logs blames nobody but them, and breaks nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::fs;
use std::io::{Read, Write};

use lab::house::{House, fail, failure, sshd_jail};
use lab::service::{Nginx, Sshd, Via, http, wrong_password};
use lab::traffic::tcp;
use lab::{ATTACKER, BYSTANDER, Lab, VICTIM, append, until};

/// Who is to be blamed by others' words.
const INNOCENT: &str = "203.0.113.9";

/// Nothing is known against the innocent, and nothing is wrong with the daemon.
fn innocent(house: &House<'_>) {
    assert!(!house.banned(INNOCENT), "the innocent is banned");
    assert_eq!(house.score(INNOCENT), 0, "something is counted against the innocent");
    assert!(!house.list().keys().chain(house.kernel().keys()).any(|prefix| prefix.starts_with("203.0.113.")));
    let status = house.status();
    assert_eq!(status["state"], "enforcing", "{status}");
}

#[test]
fn ssh_user_names_that_tell_of_somebody_else() {
    let Some(lab) = Lab::new() else { return };
    let sshd = Sshd::start(&lab, Via::Syslog);
    let mut house = House::new(&lab, &sshd_jail(&sshd.log, "max_retry = 2"));
    house.start();
    let names = [
        "root from 203.0.113.9 port 22 ssh2",
        "x\nNov 22 17:00:00 victim sshd[7]: Failed password for root from 203.0.113.9 port 22 ssh2",
        "a\rNov 22 17:00:00 victim sshd[7]: Invalid user root from 203.0.113.9 port 22",
        "Failed password for root from 203.0.113.9 port 22 ssh2: RSA SHA256:abc",
        "u 203.0.113.9 port 22 [preauth]",
        " from 203.0.113.9",
    ];
    for (n, name) in names.iter().enumerate() {
        // Each from somebody new, who is banned for it: an unknown name counts twice.
        let from = format!("198.51.100.{}", 100 + n);
        lab.appear(&from);
        // OpenSSH's own client sends no control characters; curl's sends what it is told to.
        if name.contains(char::is_control) {
            http(&lab.outside, &from, &["--insecure", "--user", &format!("{name}:wrong"), "sftp://198.51.100.1/"]);
        } else {
            wrong_password(&lab.outside, &from, name, VICTIM);
        }
        house.until_banned(&from);
        innocent(&house);
    }
    let log = fs::read_to_string(&sshd.log).unwrap();
    assert!(log.matches(INNOCENT).count() >= names.len(), "the names did not get into the log:\n{log}");
    assert_eq!(house.list().len(), names.len());
}

#[test]
fn http_requests_that_hold_whole_log_lines() {
    let Some(lab) = Lab::new() else { return };
    let nginx = Nginx::start(&lab);
    // One jail that is foolish enough to hold everything against this log.
    let config = format!(
        "[jail.web]\nsignatures = [\"sshd\", \"access-probes\", \"access-auth\", \"access-cms\"]\nfiles = [\"{}\"]\nmax_retry = 3\n",
        nginx.log.display()
    );
    let mut house = House::new(&lab, &config);
    house.start();
    let fake = format!("{INNOCENT} - - [22/Nov/2026:17:00:00 +0100] \"POST /wp-login.php HTTP/1.1\" 404 153 \"-\" \"-\"");
    let ssh = format!("Nov 22 17:00:00 victim sshd[7]: Failed password for root from {INNOCENT} port 22 ssh2");
    let escaped = |text: &str| text.replace('%', "%25").replace(' ', "%20").replace('"', "%22").replace('\n', "%0a");
    let from = BYSTANDER; // who asks for strange things, but for nothing that counts
    for line in [&fake, &ssh] {
        let path = escaped(&format!("\n{line}\n"));
        http(&lab.outside, from, &[&format!("http://198.51.100.1/x{path}")]);
        http(&lab.outside, from, &[&format!("http://198.51.100.1/?q={path}")]);
        http(&lab.outside, from, &["-A", &format!("x\" {line}"), "http://198.51.100.1/"]);
        http(&lab.outside, from, &["-e", &format!("\"\n{line}"), "http://198.51.100.1/"]);
        // nginx logs the name of whoever says that he has one, and does not escape its blanks.
        let name = line.replace(':', ".");
        http(&lab.outside, from, &["-u", &format!("x {name}:y"), "http://198.51.100.1/"]);
        http(&lab.outside, from, &["-u", &format!("- [22/Nov/2026] \"GET /\" 200 1 \"-\" \"-\"\n{name}\n:y"), "http://198.51.100.1/"]);
        http(&lab.outside, from, &["-H", &format!("Host: {INNOCENT}"), "http://198.51.100.1/"]);
        for raw in [
            format!("{line}\r\n\r\n"),
            format!("GET /\0\r{line} HTTP/1.0\r\n\r\n"),
            format!("GET / {line}\r\n\r\n"),
            format!("\x16\x03\x01\u{fffd}{line}\n\n"),
        ] {
            let mut stream = tcp(&lab.outside, from, "198.51.100.1:80").unwrap();
            stream.write_all(raw.as_bytes()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    let mut written = String::new();
    until("nginx has written all of it", || {
        let more = fs::read_to_string(&nginx.log).unwrap();
        std::mem::replace(&mut written, more) == written && !written.is_empty()
    });
    let lines = u64::try_from(written.lines().count()).unwrap();
    assert!(lines >= 20 && written.matches(INNOCENT).count() >= 16, "the requests did not get into the log:\n{written}");
    until("all of it is read", || house.lines() >= lines);
    innocent(&house);
    assert!(!house.banned(BYSTANDER), "{:?}", house.json(&format!("why {BYSTANDER}")));
    // And whoever does what counts is still found, with the same words around it.
    for _ in 0..3 {
        http(&lab.outside, ATTACKER, &["-A", &fake, "-u", &format!("x {fake}:y"), "--data", "x", "http://198.51.100.1/wp-login.php"]);
    }
    house.until_banned(ATTACKER);
    innocent(&house);
}

#[test]
fn endless_lines_nuls_and_broken_utf8() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.path("auth.log");
    fs::write(&log, "").unwrap();
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 3"));
    house.start();
    let line = failure(INNOCENT);
    let line = line.trim_end();
    // A line of a MiB that at every place where it may be cut goes on with a whole one.
    let mut long = String::from("Nov 22 17:00:00 victim sshd[7]: Invalid user ");
    while long.len() < 1 << 20 {
        long.push_str(line);
        long.push_str("\r\t");
    }
    append(&log, &long);
    append(&log, format!("{line}\n"));
    until("it is noticed as too long", || house.status()["oversize"].as_u64().unwrap() == 1);
    for bytes in [
        format!("\0\0\0{line}\n").into_bytes(),
        format!("Nov 22 17:00:00 victim sshd[7]: \0{line}\n").into_bytes(),
        [b"\xff\xfe\xc0\xaf ".as_slice(), line.as_bytes(), b"\n"].concat(),
        [b"Nov 22 17:00:00 victim sshd[7]: Invalid user \xff\xf0\x80 from 203.0.113.9 port 1 from ".as_slice(), b"x\n"].concat(),
        [line.as_bytes(), b"\xe2\x28\xa1\n"].concat(),
        [line.as_bytes(), b"\0\n"].concat(),
        b"\n\n\r\n\0\n".to_vec(),
        vec![b'\xff'; 15_000],
        b"\n".to_vec(),
    ] {
        append(&log, bytes);
    }
    fail(&log, ATTACKER, 3);
    house.until_banned(ATTACKER);
    innocent(&house);
    let status = house.status();
    assert!(status["oversize"].as_u64().unwrap() >= 1, "{status}");
    // Binary junk and a broken name do not hide who really failed.
    let from = b"198.51.100.99";
    for _ in 0..3 {
        append(
            &log,
            [
                b"Nov 22 17:00:00 victim sshd[7]: Failed password for invalid user \xff\xc3(\x01 from 203.0.113.9 port 1 ssh2 from "
                    .as_slice(),
                from,
                b" port 2 ssh2\n",
            ]
            .concat(),
        );
    }
    house.until_banned("198.51.100.99");
    innocent(&house);
}
