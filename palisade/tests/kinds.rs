//! Bans of some ports only, bans that answer, and connections ended without a ban.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use lab::house::{House, fail, sshd_jail};
use lab::traffic::{Stream, listen, tcp};
use lab::{ATTACKER, BYSTANDER, Lab, until};

#[test]
fn a_jails_ports_are_closed_to_the_attacker_and_no_others() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.path("auth.log");
    std::fs::write(&log, "").unwrap();
    let (ssh, web) = (listen(&lab.victim, "198.51.100.1:22"), listen(&lab.victim, "198.51.100.1:80"));
    let mut cut = Stream::open(&lab.outside, ATTACKER, &ssh, "198.51.100.1:22");
    let mut kept = Stream::open(&lab.outside, ATTACKER, &web, "198.51.100.1:80");
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 3\nports = [\"ssh\", 2222]"));
    house.start();
    fail(&log, ATTACKER, 3);
    until("his stream to the jail's port breaks", || cut.broke().is_some());
    assert!(!cut.echoes() && tcp(&lab.outside, ATTACKER, "198.51.100.1:22").is_err());
    assert!(kept.echoes() && kept.broke().is_none(), "a stream to another port was cut");
    assert!(tcp(&lab.outside, ATTACKER, "198.51.100.1:80").is_ok());
    assert!(tcp(&lab.outside, BYSTANDER, "198.51.100.1:22").is_ok());
    assert_eq!(house.json("list")["bans"][0]["ports"], serde_json::json!([22, 2222]));
}

#[test]
fn an_ipv4_address_within_ipv6_is_the_ipv4_address() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.path("auth.log");
    std::fs::write(&log, "").unwrap();
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 3"));
    house.start();
    // As a server that listens on both says it, and as one that does not.
    fail(&log, &format!("::ffff:{ATTACKER}"), 2);
    fail(&log, ATTACKER, 1);
    house.until_banned(ATTACKER);
    assert!(house.kernel().keys().eq(["198.51.100.66/32"]));
}

#[test]
fn to_reject_is_to_answer_at_once() {
    let Some(lab) = Lab::new() else { return };
    let listener = listen(&lab.victim, "198.51.100.1:7000");
    let mut stream = Stream::open(&lab.outside, ATTACKER, &listener, "198.51.100.1:7000");
    let mut house = House::new(&lab, "[ban]\naction = \"reject\"\n");
    house.start();
    house.expect(0, &format!("ban {ATTACKER}"));
    until("his stream breaks", || stream.broke().is_some());
    assert!(!stream.echoes());
    let start = Instant::now();
    let error = tcp(&lab.outside, ATTACKER, "198.51.100.1:7000").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(tcp(&lab.outside, BYSTANDER, "198.51.100.1:7000").is_ok());
}

#[test]
fn connections_ended_by_hand_may_come_again() {
    let Some(lab) = Lab::new() else { return };
    let listener = listen(&lab.victim, "198.51.100.1:7000");
    let mut house = House::new(&lab, "");
    for daemon in [false, true] {
        if daemon {
            house.start();
        }
        let streams = [ATTACKER, ATTACKER, BYSTANDER].map(|from| Stream::open(&lab.outside, from, &listener, "198.51.100.1:7000"));
        let [mut first, mut second, mut other] = streams;
        let killed = house.json(&format!("kill {ATTACKER}"));
        assert_eq!((killed["v"].as_u64(), killed["sockets"].as_u64()), (Some(1), Some(2)), "{killed}");
        until("both break", || first.broke().is_some() && second.broke().is_some());
        assert!(!first.echoes() && !second.echoes() && other.echoes());
        assert!(house.list().is_empty());
        assert!(Stream::open(&lab.outside, ATTACKER, &listener, "198.51.100.1:7000").echoes());
    }
}

#[test]
fn who_comes_back_is_banned_for_longer_and_a_bad_neighbourhood_as_a_whole() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.path("auth.log");
    std::fs::write(&log, "").unwrap();
    let policy = "max_retry = 2\nban_time = \"1h\"\nescalate = { factor = 2, max = \"3h\" }\nspread = { ipv4 = 24, hosts = 3 }";
    let mut house = House::new(&lab, &sshd_jail(&log, policy));
    house.start();
    let minutes = |addr: &str| {
        let why = house.json(&format!("why {addr}"));
        why["bans"][0]["kernel"]["left"].as_u64().unwrap().div_ceil(60)
    };
    for (offence, most) in [(1, 60), (2, 120), (3, 180), (4, 180)] {
        fail(&log, "192.0.2.7", 2);
        house.until_banned("192.0.2.7");
        let left = minutes("192.0.2.7");
        assert!(left <= most && left + 1 >= most, "offence {offence}: {left} minutes of {most}");
        assert_eq!(house.json("list")["bans"][0]["offences"], offence);
        house.expect(0, "unban 192.0.2.7");
    }
    for host in 1..=3 {
        assert!(!house.banned("203.0.113.200"), "the neighbourhood is banned for {} hosts", host - 1);
        fail(&log, &format!("203.0.113.{host}"), 2);
        house.until_banned(&format!("203.0.113.{host}"));
    }
    house.until_banned("203.0.113.200");
    assert!(house.kernel().contains_key("203.0.113.0/24"));
    assert!(house.json("list").to_string().contains("\"spread\""));
}
