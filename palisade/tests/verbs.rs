//! The verbs as scripts meet them: exit codes and JSON, the same with the daemon and without it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use lab::house::{House, fail, sshd_jail};
use lab::{Lab, until};
use palisade_os::clock;
use serde_json::{Value, json};

/// A document with moments and what runs on replaced by a word, so that two runs can be compared.
fn still(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), &value) {
                        ("since" | "until" | "at", Value::String(text)) => {
                            assert!(text.ends_with('Z') && text.contains('T'), "no RFC 3339 time in UTC: {text}");
                            *value = json!("TIME");
                        }
                        ("left" | "packets" | "bytes", Value::Number(_)) => *value = json!("NUMBER"),
                        ("by", Value::String(_)) => *value = json!("WHO"),
                        _ => walk(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

/// What is done, and the exit code it must have.
const SESSION: &[(i32, &str)] = &[
    (0, "--json list"),
    (1, "check 203.0.113.7"),
    (0, "--json ban 203.0.113.7 --for 1h --reason told"),
    (0, "--json ban 203.0.113.9/28 --permanent"),
    (0, "--json ban 2001:db8:5::1 192.0.2.9"),
    (0, "--json list"),
    (0, "--json check 203.0.113.7"),
    (0, "check ::ffff:203.0.113.7"),
    (0, "check 203.0.113.5"),
    (1, "--json check 203.0.113.200"),
    // The longest wins, and for ever absorbs all.
    (0, "ban 203.0.113.7 --for 1m"),
    (0, "ban 203.0.113.0/28 --for 1m"),
    (0, "--json list"),
    (0, "--json why 203.0.113.7"),
    (1, "--json why 203.0.113.200"),
    (0, "--json unban 203.0.113.7"),
    (1, "--json unban 203.0.113.7"),
    (0, "--json allow add 198.51.100.128/25 --comment office --for 30d"),
    (5, "ban 198.51.100.200"),
    (0, "--json allow list"),
    (0, "--json allow del 198.51.100.128/25"),
    (1, "--json allow del 198.51.100.128/25"),
    (0, "ban 198.51.100.200"),
    (0, "--json allow add 198.51.100.200"),
    (1, "check 198.51.100.200"),
    (0, "--json kill 203.0.113.0/28"),
    (1, "--json unban --jail sshd"),
    (0, "--json flush"),
    (0, "--json list"),
    (0, "--json ban 192.0.2.10"),
    (0, "--json list"),
    (0, "--json unban --all"),
    (0, "--json list"),
    // Wrong words.
    (2, "ban 203.0.113.256"),
    (2, "ban 203.0.113.0/33"),
    (2, "ban 203.0.113.7 --for never"),
    (2, "ban 203.0.113.7 --for 0"),
    (2, "ban 203.0.113.7 --for 999ms"),
    (2, "allow add 203.0.113.7 --for 0"),
    (2, "test /nosuch"),
    (2, "test --signature nosuch"),
    (2, "test --jail nosuch"),
    (2, "signatures nosuch"),
    (2, "fl"),
    (2, "ban"),
    (2, "frobnicate"),
];

fn session(house: &House<'_>) -> Vec<(String, Value)> {
    let mut answers = Vec::new();
    for (code, words) in SESSION {
        let answer = house.ask(words.split_whitespace());
        assert_eq!(answer.code, *code, "{words}: {answer:?}");
        if *code == 2 || *code == 5 {
            assert!(answer.out.is_empty() && !answer.err.is_empty(), "{words}: {answer:?}");
        }
        let json = if words.starts_with("--json") { still(answer.json()) } else { Value::Null };
        answers.push(((*words).to_owned(), json));
        if words.contains("flush") {
            assert!(house.kernel().is_empty(), "the wall is not down");
        }
        if *words == "--json ban 192.0.2.10" {
            // Done means that it stands; and what was flushed stands again with it.
            assert!(house.kernel().contains_key("192.0.2.10/32"), "{:?}", house.kernel());
        }
    }
    answers
}

#[test]
fn the_same_answers_with_the_daemon_and_without() {
    let Some(lab) = Lab::new() else { return };
    let Some(other) = Lab::new() else { return };
    let alone = House::new(&lab, "");
    let mut served = House::new(&other, "");
    served.start();
    for ((words, without), (_, with)) in session(&alone).into_iter().zip(session(&served)) {
        assert_eq!(without, with, "{words}");
    }
}

#[test]
fn documents_have_the_shapes_others_build_on() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.path("auth.log");
    fs::write(&log, "").unwrap();
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 3"));
    house.start();
    house.expect(0, "ban 203.0.113.7 --for 1h --reason told");
    house.expect(0, "ban 2001:db8:5::/64 --permanent");
    house.expect(0, "ban 192.0.2.128/25 --for 90s");
    fail(&log, "198.51.100.66", 3);
    house.until_banned("198.51.100.66");
    let ban = |prefix: &str, until: Value, origin: &str, reason: &str| json!({ "prefix": prefix, "since": "TIME", "until": until, "origin": origin, "reason": reason, "offences": 1 });
    let mut list = house.json("list");
    let by_log = list["bans"][1]["reason"].take();
    assert!(by_log.as_str().unwrap().contains("3 failures"), "{by_log}");
    list["bans"][1]["reason"] = json!("");
    let expected = [
        ban("192.0.2.128/25", json!("TIME"), "manual", ""),
        ban("198.51.100.66/32", json!("TIME"), "jail:sshd", ""),
        ban("203.0.113.7/32", json!("TIME"), "manual", "told"),
        ban("2001:db8:5::/64", Value::Null, "manual", ""),
    ];
    assert_eq!(still(list), json!({ "v": 1, "bans": expected }), "sorted by prefix, IPv4 first");

    let status = house.json("status");
    assert_eq!(
        (&status["v"], &status["state"], &status["backend"], &status["bans"], &status["drift"]),
        (&json!(1), &json!("enforcing"), &json!("nftables"), &json!(4), &json!(0)),
        "{status}"
    );
    assert!(status["sources"].is_array() && status["problems"].as_array().unwrap().is_empty(), "{status}");

    for line in house.expect(0, "--json events").out.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["v"] == 1 && event["event"].is_string() && event["at"].as_str().unwrap().ends_with('Z'), "{event}");
    }
    until("the log's ban is told", || !house.expect(0, "--json events --addr 198.51.100.66").out.is_empty());
    let about = house.expect(0, "--json events --addr 198.51.100.66").out;
    assert!(about.lines().count() >= 1 && about.lines().all(|line| line.contains("198.51.100.66")), "{about}");

    let lines = lab.path("lines");
    fs::write(&lines, "Nov 22 17:00:00 h sshd[1]: Failed password for invalid user a b from 203.0.113.7 port 1 ssh2\nnothing\n").unwrap();
    let answer = house.ask(["--json", "test", "--signature", "sshd", &lines.display().to_string()]).code(0);
    let answers: Vec<Value> = answer.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for answer in &answers {
        let mut names: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["addr", "line", "match", "score", "service", "signature", "time", "user"]);
    }
    let first = &answers[0];
    assert_eq!(
        (&first["line"], &first["match"], &first["addr"], &first["score"], &first["user"], &first["service"]),
        (&json!(1), &json!(true), &json!("203.0.113.7"), &json!(10), &json!("a b"), &json!("sshd"))
    );
    assert_eq!((&answers[1]["line"], &answers[1]["match"], &answers[1]["addr"]), (&json!(2), &json!(false), &Value::Null));
    assert_eq!(answers.len(), 2);
    fs::write(&lines, "nothing\n").unwrap();
    house.ask(["test", &lines.display().to_string()]).code(1);
}

#[test]
fn each_follower_is_told_each_event_once_and_in_order_however_late_he_comes() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    house.start();
    let since = clock::now().stamp;
    let addrs: Vec<String> = (1..=200).map(|n| format!("203.0.113.{n}")).collect();
    let followers: Vec<_> = addrs
        .chunks(10)
        .map(|addrs| {
            let follower = house.follow_since(since);
            house.expect(0, &format!("ban {} --for 1h", addrs.join(" ")));
            follower
        })
        .collect();
    for (n, follower) in followers.iter().enumerate() {
        let told: Vec<Value> = addrs.iter().map(|_| follower.next("ban").1["prefix"].clone()).collect();
        assert_eq!(told, addrs.iter().map(|addr| format!("{addr}/32")).collect::<Vec<_>>(), "follower {n}");
    }
}

#[test]
fn the_socket_is_for_root_and_a_group_and_goes_with_the_daemon() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    house.expect(3, "status");
    house.expect(3, "events -f");
    house.start();
    let socket = fs::metadata(house.run.join("control.sock")).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.mode() & 0o777, 0o660);
    house.expect(0, "status");
    house.expect(0, "ban 203.0.113.7");
    house.expect(0, "flush");
    assert_eq!(lab.victim.sh("nft list tables"), "");
    house.expect(6, "status");
    house.expect(0, "restore");
    house.expect(0, "status");
    assert_eq!(house.kernel().keys().collect::<Vec<_>>(), ["203.0.113.7/32"], "what was flushed is back, though a daemon runs");
    house.stop();
    house.expect(3, "status");
    // A daemon that was killed leaves its socket; nobody mistakes that for a daemon.
    house.start();
    house.kill();
    house.expect(3, "status");
    house.expect(0, "ban 203.0.113.7");
    house.start();
    assert!(house.banned("203.0.113.7"));
}

#[test]
fn a_bad_config_changes_nothing_and_a_good_one_everything() {
    let Some(lab) = Lab::new() else { return };
    let (log, other) = (lab.path("auth.log"), lab.path("other.log"));
    fs::write(&log, "").unwrap();
    fs::write(&other, "").unwrap();
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 3"));
    house.start();
    fail(&log, "203.0.113.1", 2);
    until("two are counted", || house.score("203.0.113.1") == 20);

    fs::write(&house.config, "[jail.sshd]\nmax_retri = 2\n").unwrap();
    house.reload();
    until("it says so", || house.ask(["status"]).code == 6);
    let status = house.status();
    let what = status["problems"][0]["what"].as_str().unwrap();
    assert!(status["problems"][0]["about"] == "config" && what.contains(":2:1") && what.contains("max_retry"), "{status}");
    fail(&log, "203.0.113.1", 1);
    house.until_banned("203.0.113.1");

    house.configure(&(sshd_jail(&other, "max_retry = 2") + "[allow]\nprefixes = [\"203.0.113.1\"]\n"));
    house.reload();
    until("all is well again", || house.ask(["status"]).code == 0);
    until("who is allowed now is let in", || !house.banned("203.0.113.1") && house.kernel().is_empty());
    fail(&log, "203.0.113.2", 9);
    fail(&other, "203.0.113.3", 2);
    house.until_banned("203.0.113.3");
    assert!(!house.banned("203.0.113.2"), "a log that is no longer named is read");
    house.expect(0, "config check");
    assert!(house.expect(0, "config show").out.contains("max_retry = 2"));
}
