//! Filters of fail2ban and signatures of one's own, from the disk to bans.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::fs;
use std::path::Path;

use lab::house::House;
use lab::{ATTACKER, BYSTANDER, Lab, append, until};
use serde_json::Value;

const FILTER: &str = "[INCLUDES]\nbefore = common.conf\n[Definition]\nfailregex = ^%(prefix)s <why-<mode>> from <HOST>$\nwhy-normal = wrong key\nwhy-strict = (?:<why-normal>|no key)\n[Init]\nmode = normal\n";

/// A filter of our own and a jail that holds a log against it.
fn filtered(lab: &Lab, options: &str) -> String {
    let folder = lab.path("filter.d");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("common.conf"), "[DEFAULT]\nprefix = \\s*\\S+ doord:\n").unwrap();
    fs::write(folder.join("door.conf"), FILTER).unwrap();
    let (filter, log) = (folder.join("door.conf"), lab.path("door.log"));
    fs::write(&log, "").unwrap();
    format!("[jail.door]\nfail2ban = \"{}\"\n{options}files = [\"{}\"]\nmax_retry = 2\n", filter.display(), log.display())
}

fn knock(log: &Path, addr: &str, why: &str) {
    let now = jiff::Zoned::now().strftime("%b %d %H:%M:%S").to_string();
    append(log, format!("{now} host doord: {why} from {addr}\n"));
}

fn problem(house: &House<'_>, about: &str) -> Option<String> {
    let status = house.status();
    let problems = status["problems"].as_array().unwrap();
    problems.iter().find(|problem| problem["about"] == about).map(|problem| problem["what"].as_str().unwrap().to_owned())
}

#[test]
fn a_filter_bans_and_is_read_anew_at_a_reload() {
    let Some(lab) = Lab::new() else { return };
    let config = filtered(&lab, "");
    let (log, filter) = (lab.path("door.log"), lab.path("filter.d/door.conf"));
    let mut house = House::new(&lab, &config);
    house.expect(0, "config check");
    house.start();
    for _ in 0..2 {
        knock(&log, ATTACKER, "wrong key");
        knock(&log, BYSTANDER, "no key");
    }
    house.until_banned(ATTACKER);
    until("all lines are read", || house.lines() == 4);
    assert!(!house.banned(BYSTANDER), "`no key` is for the strict mode");
    let why = house.expect(0, &format!("--json why {ATTACKER}")).json();
    assert!(why.to_string().contains("fail2ban/door"), "{why}");

    // Options are the jail's, and take effect at a reload.
    house.configure(&filtered(&lab, "options = { mode = \"strict\" }\n"));
    house.reload();
    until("the filter is strict", || {
        knock(&log, BYSTANDER, "no key");
        house.banned(BYSTANDER)
    });

    // A filter that is broken keeps its jail from running, and tells where.
    fs::write(&filter, "[Definition]\nfailregex = ^( from <HOST>$\n").unwrap();
    house.reload();
    until("it is told", || problem(&house, "jail door").is_some());
    let told = problem(&house, "jail door").unwrap();
    assert!(told.contains("door.conf:2: ") && told.contains("failregex 1"), "{told}");
    assert!(house.expect(4, "config check").err.contains("door.conf:2: "));
    let invalid = house.expect(4, "--json config check").json();
    assert_eq!((&invalid["errors"][0]["line"], &invalid["errors"][0]["kind"]), (&2.into(), &"filter".into()), "{invalid}");
    let found = house.expect(1, "doctor").out;
    assert!(found.contains("door does not run") && found.contains("door.conf:2: "), "{found}");
    fs::write(&filter, FILTER).unwrap();
    house.reload();
    until("it is well again", || problem(&house, "jail door").is_none());
    let found = house.ask(["doctor"]).out;
    assert!(found.contains("door runs fail2ban/door: 1 expressions in linear time, 0 under a step limit"), "{found}");
}

#[test]
fn a_match_that_names_a_host_bans_nobody_and_is_counted() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, &filtered(&lab, ""));
    house.start();
    for _ in 0..3 {
        knock(&lab.path("door.log"), "host.example", "wrong key");
    }
    until("all are counted", || house.status()["shortfalls"][0][1]["nameless"] == 3);
    assert!(house.kernel().is_empty());
    let found = house.ask(["doctor"]).out;
    assert!(found.contains("door: 3 matches named a host instead of an address"), "{found}");
}

#[test]
fn one_broken_filter_does_not_stop_the_other_jails() {
    let Some(lab) = Lab::new() else { return };
    let config = filtered(&lab, "");
    let broken = config.replace("[jail.door]", "[jail.gate]").replace("door.conf", "gate.conf");
    let mut house = House::new(&lab, &format!("{config}{broken}"));
    house.expect(4, "config check");
    house.start();
    assert!(problem(&house, "jail gate").unwrap().contains("there is no such filter"));
    for _ in 0..2 {
        knock(&lab.path("door.log"), ATTACKER, "wrong key");
    }
    house.until_banned(ATTACKER);
    // A jail that is gone has no trouble either.
    house.configure(&config);
    house.reload();
    until("it is forgotten", || problem(&house, "jail gate").is_none());
}

const SIGNATURE: &str = r#"
name = "door"
service = "door"
summary = "A door of our own"
kind = "syslog"
programs = ["doord"]

[[rule]]
id = "wrong-key"
score = 10
pattern = '^wrong key from <addr>$'
hits = [{ line = 'Nov 22 17:00:00 host doord: wrong key from 192.0.2.7', addr = '192.0.2.7' }]
"#;

#[test]
fn signatures_of_ones_own_are_proven_listed_and_used() {
    let Some(lab) = Lab::new() else { return };
    let folder = lab.path("signatures");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("door.toml"), SIGNATURE).unwrap();
    let log = lab.path("door.log");
    fs::write(&log, "").unwrap();
    let mut house = House::new(&lab, &format!("[jail.door]\nsignatures = [\"door\"]\nfiles = [\"{}\"]\nmax_retry = 2\n", log.display()));
    house.expect(0, "config check");
    assert!(house.expect(0, "signatures").out.contains("A door of our own (your own)"));
    assert!(house.expect(0, "signatures door").out.contains("wrong key from <addr>"));
    let listed = house.expect(0, "--json signatures").json();
    let own = |name: &str| listed["signatures"].as_array().unwrap().iter().find(|s| s["name"] == name).map(|s| s["own"].clone());
    assert_eq!((own("door"), own("sshd")), (Some(Value::Bool(true)), Some(Value::Bool(false))));
    house.start();
    for _ in 0..2 {
        knock(&log, ATTACKER, "wrong key");
    }
    house.until_banned(ATTACKER);

    // One of the same name comes before the one that ships.
    fs::write(folder.join("sshd.toml"), SIGNATURE.replace("name = \"door\"", "name = \"sshd\"")).unwrap();
    assert!(house.expect(0, "signatures sshd").out.contains("A door of our own"));
    // One that does not do what it says is an error of the config, which is not used.
    for (text, told) in [
        (SIGNATURE.replace("wrong key from 192.0.2.7'", "no key from 192.0.2.7'"), "expected wrong-key"),
        (SIGNATURE.replace("name = \"door\"", "name = \"gate\""), "call the file gate.toml"),
        (SIGNATURE.replace("score", "scor"), "did you mean `score`"),
    ] {
        fs::write(folder.join("door.toml"), text).unwrap();
        assert!(house.expect(4, "config check").err.contains(told), "{told}");
        let invalid = house.expect(4, "--json config check").json();
        assert_eq!(invalid["errors"][0]["kind"], "signature", "{invalid}");
    }
    house.reload();
    until("it is told", || problem(&house, "config").is_some());
    assert_eq!(problem(&house, "jail door"), None);
}
