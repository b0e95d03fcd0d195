//! The laboratory itself: its services answer, its clients reach them, its counters count. When one
//! of these fails, what the other tests say about palisade means nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use lab::service::{Nginx, Sshd, Via, http, wrong_password};
use lab::traffic::{Counter, Flood, Stream, listen};
use lab::{ATTACKER, ATTACKERS6, BYSTANDER, BYSTANDER6, Lab, VICTIM, VICTIM6, until};

#[test]
fn sshd_tells_of_each_wrong_password_once() {
    let Some(lab) = Lab::new() else { return };
    let sshd = Sshd::start(&lab, Via::Syslog);
    for (from, host) in [(ATTACKER, VICTIM), (ATTACKERS6[0], VICTIM6), (BYSTANDER, VICTIM), (BYSTANDER6, VICTIM6)] {
        wrong_password(&lab.outside, from, "root", host);
        let text = format!("Failed password for root from {from} port");
        until("sshd tells", || std::fs::read_to_string(&sshd.log).unwrap().matches(&text).count() == 1);
    }
}

#[test]
fn nginx_answers_404_to_a_login_that_is_not_there() {
    let Some(lab) = Lab::new() else { return };
    let nginx = Nginx::start(&lab);
    assert_eq!(http(&lab.outside, ATTACKER, &["-X", "POST", "-d", "log=admin", "http://198.51.100.1/wp-login.php"]), 404);
    assert_eq!(http(&lab.outside, BYSTANDER, &["http://198.51.100.1/"]), 200);
    let log = std::fs::read_to_string(&nginx.log).unwrap();
    assert!(log.contains(&format!("{ATTACKER} - - [")) && log.contains("\"POST /wp-login.php HTTP/1.1\" 404 "), "{log}");
}

#[test]
fn streams_echo_and_floods_are_counted_until_they_are_dropped() {
    let Some(lab) = Lab::new() else { return };
    let listener = listen(&lab.victim, "[::]:7000");
    let mut streams = [(ATTACKER, "198.51.100.1:7000"), (BYSTANDER6, "[2001:db8:0:1::1]:7000")]
        .map(|(from, to)| Stream::open(&lab.outside, from, &listener, to));
    assert!(streams.iter_mut().all(Stream::echoes));
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    until("datagrams arrive", || counter.of(ATTACKER) > 100);
    lab.victim.sh("nft 'table inet t { chain c { type filter hook prerouting priority -300; ip saddr 198.51.100.66 drop; }; }'");
    flood.go_on(50);
    let before = counter.of(ATTACKER);
    flood.go_on(500);
    assert_eq!(counter.of(ATTACKER), before, "dropped datagrams are counted");
    assert!(!streams[0].echoes() && streams[1].echoes());
    assert_eq!(counter.of(BYSTANDER), 0);
}
