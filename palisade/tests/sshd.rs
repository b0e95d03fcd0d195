//! A real sshd attacked by a real ssh client: banned at the last failure it was allowed, with
//! everything else it had open; and nobody else is.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and what was measured is printed")]

mod lab;

use std::time::Duration;

use lab::house::{House, sshd_jail};
use lab::service::{Sshd, Via, wrong_password};
use lab::traffic::{Stream, listen, tcp};
use lab::{ATTACKER, ATTACKERS6, BYSTANDER, BYSTANDER6, Lab, VICTIM, VICTIM6, until};

#[test]
fn the_last_wrong_password_ends_the_attackers_idle_connection_within_a_second() {
    let Some(lab) = Lab::new() else { return };
    let sshd = Sshd::start(&lab, Via::Syslog);
    let listener = listen(&lab.victim, "198.51.100.1:7000");
    let mut attackers = Stream::open(&lab.outside, ATTACKER, &listener, "198.51.100.1:7000");
    let mut bystanders = Stream::open(&lab.outside, BYSTANDER, &listener, "198.51.100.1:7000");
    let mut house = House::new(&lab, &sshd_jail(&sshd.log, "max_retry = 4"));
    house.start();

    for n in 1..4 {
        for from in [ATTACKER, BYSTANDER] {
            wrong_password(&lab.outside, from, "root", VICTIM);
            until("the failure is counted", || house.score(from) >= 10 * n);
        }
        assert!(!house.banned(ATTACKER) && house.kernel().is_empty(), "banned after {n} of 4 failures");
    }
    assert!(attackers.echoes() && attackers.broke().is_none(), "cut off before the ban");

    std::thread::scope(|scope| {
        scope.spawn(|| wrong_password(&lab.outside, ATTACKER, "root", VICTIM));
        house.until_banned(ATTACKER);
        until("the server's end of the idle stream breaks", || attackers.broke().is_some());
    });
    let failed = sshd.wrote(&format!("Failed password for root from {ATTACKER}")).unwrap();
    let (broke, how) = attackers.broke().unwrap();
    let took = broke.saturating_duration_since(failed);
    println!("from the log line to the dead connection: {took:?} ({how})");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!attackers.echoes(), "the attacker still gets answers on his old stream");
    assert!(tcp(&lab.outside, ATTACKER, "198.51.100.1:7000").is_err(), "the attacker gets a new stream");

    let list = house.json("list");
    let ban = &list["bans"][0];
    assert_eq!((ban["prefix"].as_str(), ban["origin"].as_str()), (Some("198.51.100.66/32"), Some("jail:sshd")), "{list}");
    let bans = house.events("ban");
    assert_eq!(bans.len(), 1, "{bans:?}");
    assert!(bans[0]["killed"]["sockets"].as_u64().unwrap() >= 1, "{bans:?}");
    let why = house.json("why 198.51.100.66");
    assert!(why["lines"].as_array().unwrap().len() >= 4 && why["bans"][0]["kernel"]["packets"].as_u64().unwrap() > 0, "{why}");

    assert!(bystanders.echoes() && bystanders.broke().is_none(), "the bystander was cut off");
    assert!(!house.banned(BYSTANDER), "three failures are not four");
    tcp(&lab.outside, BYSTANDER, "198.51.100.1:22").expect("the bystander may come back");
}

#[test]
fn addresses_of_one_64_are_counted_and_banned_together() {
    let Some(lab) = Lab::new() else { return };
    let sshd = Sshd::start(&lab, Via::File);
    let listener = listen(&lab.victim, "[::]:7000");
    let neighbour = "2001:db8:0:66::ffff";
    lab.appear(neighbour);
    let to = "[2001:db8:0:1::1]:7000";
    let mut neighbours = Stream::open(&lab.outside, neighbour, &listener, to);
    let mut bystanders = Stream::open(&lab.outside, BYSTANDER6, &listener, to);
    let mut house = House::new(&lab, &sshd_jail(&sshd.log, "max_retry = 4"));
    house.start();

    for (n, from) in [(1, ATTACKERS6[0]), (2, ATTACKERS6[1]), (3, ATTACKERS6[0])] {
        wrong_password(&lab.outside, from, "root", VICTIM6);
        wrong_password(&lab.outside, BYSTANDER6, "root", VICTIM6);
        for from in [from, BYSTANDER6] {
            until("the failure is counted", || house.score(from) >= 10 * n);
        }
        assert!(!house.banned(from), "banned after {n} of 4 failures");
    }
    assert!(neighbours.echoes());

    std::thread::scope(|scope| {
        scope.spawn(|| wrong_password(&lab.outside, ATTACKERS6[1], "root", VICTIM6));
        house.until_banned(ATTACKERS6[0]);
        until("the server's end of the neighbour's stream breaks", || neighbours.broke().is_some());
    });
    assert!(house.banned(ATTACKERS6[1]) && house.banned(neighbour));
    assert_eq!(house.list().keys().collect::<Vec<_>>(), ["2001:db8:0:66::/64"]);
    assert_eq!(house.kernel().keys().collect::<Vec<_>>(), ["2001:db8:0:66::/64"]);
    assert!(!neighbours.echoes());
    assert!(tcp(&lab.outside, neighbour, "[2001:db8:0:1::1]:22").is_err());
    assert!(!house.banned(BYSTANDER6) && bystanders.echoes() && bystanders.broke().is_none(), "another /64 was cut off");
}

#[test]
fn no_attempt_is_missing_at_a_ban_of_many() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.path("auth.log");
    std::fs::write(&log, "").unwrap();
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 10"));
    house.start();
    // What sshd writes for one client with one wrong password.
    let attempt = "Nov 22 17:00:00 victim sshd[77]: Failed password for root from 198.51.100.66 port 50022 ssh2\n\
        Nov 22 17:00:00 victim sshd[77]: Connection closed by authenticating user root 198.51.100.66 port 50022 [preauth]\n";
    for n in 1..10 {
        lab::append(&log, attempt);
        until("the attempt is read", || house.lines() == 2 * n);
        assert!(!house.banned(ATTACKER), "banned at attempt {n} of 10");
    }
    lab::append(&log, attempt);
    house.until_banned(ATTACKER);
}
