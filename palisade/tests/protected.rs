//! Who is on the allow list is never cut off, whatever happens around him.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use lab::house::{House, fail, sshd_jail};
use lab::traffic::{Stream, listen, tcp};
use lab::{Lab, until};

const TO: &str = "198.51.100.1:7000";
const TO6: &str = "[2001:db8:0:1::1]:7000";

#[test]
fn an_allowed_host_in_a_network_that_would_be_banned_is_not_cut_off() {
    let Some(lab) = Lab::new() else { return };
    let (log, friend, friend6) = (lab.path("auth.log"), "203.0.113.77", "2001:db8:0:66::77");
    std::fs::write(&log, "").unwrap();
    for addr in [friend, friend6, "203.0.113.66", "203.0.113.67"] {
        lab.appear(addr);
    }
    let listener = listen(&lab.victim, "[::]:7000");
    let mut friends = [(friend, TO), (friend6, TO6)].map(|(from, to)| Stream::open(&lab.outside, from, &listener, to));
    let mut attackers = [("203.0.113.66", TO), ("2001:db8:0:66::1", TO6)].map(|(from, to)| Stream::open(&lab.outside, from, &listener, to));
    let config = sshd_jail(&log, "max_retry = 3\nipv4_prefix = 24\nipv6_prefix = 64")
        + &format!("[allow]\nprefixes = [\"{friend}\", \"{friend6}/128\"]\n");
    let mut house = House::new(&lab, &config);
    house.start();
    for attacker in ["203.0.113.66", "2001:db8:0:66::1"] {
        fail(&log, attacker, 3);
        house.until_banned(attacker);
    }
    // Where nobody is protected, the whole network goes.
    fail(&log, "192.0.2.7", 3);
    house.until_banned("192.0.2.200");
    assert_eq!(house.list().into_keys().collect::<Vec<_>>(), ["192.0.2.0/24", "2001:db8:0:66::1/128", "203.0.113.66/32"]);
    assert!(house.kernel().keys().eq(house.list().keys()));
    for (stream, who) in attackers.iter_mut().zip(["203.0.113.66", "2001:db8:0:66::1"]) {
        until(&format!("{who} loses his stream"), || stream.broke().is_some());
        assert!(!stream.echoes());
    }
    // Even his own failures do not ban him.
    fail(&log, friend, 30);
    fail(&log, friend6, 30);
    let read = house.lines();
    fail(&log, "198.51.100.200", 1);
    until("all of it is read", || house.lines() > read && house.score("198.51.100.200") > 0);
    for (stream, (who, to)) in friends.iter_mut().zip([(friend, TO), (friend6, TO6)]) {
        assert!(!house.banned(who) && stream.echoes() && stream.broke().is_none(), "{who} was cut off");
        assert!(tcp(&lab.outside, who, to).is_ok());
    }
    assert!(!house.events("refused").is_empty(), "nobody was told");
}

#[test]
fn by_hand_only_with_force_and_never_the_host_itself() {
    let Some(lab) = Lab::new() else { return };
    lab.appear("203.0.113.77");
    lab.victim.sh("ip route add default via 198.51.100.254");
    let listener = listen(&lab.victim, TO);
    let mut friend = Stream::open(&lab.outside, "203.0.113.77", &listener, TO);
    let mut house = House::new(&lab, "[allow]\nprefixes = [\"203.0.113.77\"]\n");
    for daemon in [false, true] {
        if daemon {
            house.start();
        }
        for refused in [
            "203.0.113.0/24",
            "203.0.113.77",
            "198.51.100.254",
            "198.51.100.1",
            "198.51.100.0/24",
            "127.0.0.1",
            "127.5.5.5",
            "127.0.0.0/8",
            "0.0.0.0/0",
            "::1",
            "::/0",
            "2001:db8:0:1::1",
            "2001:db8:0:1::/64",
            "::ffff:127.0.0.1",
        ] {
            let answer = house.expect(5, &format!("ban {refused}"));
            assert!(!answer.err.is_empty(), "it does not say why {refused} is refused");
        }
        for never in ["127.0.0.1", "::1", "198.51.100.1", "0.0.0.0/0", "::/0", "2001:db8:0:1::1"] {
            house.expect(5, &format!("ban {never} --force"));
        }
        assert!(house.list().is_empty() && house.kernel().is_empty(), "{:?}", house.list());
        // One that is refused does not keep the others from being banned, and is still told.
        house.expect(5, "ban 203.0.113.77 192.0.2.9");
        assert_eq!(house.list().into_keys().collect::<Vec<_>>(), ["192.0.2.9/32"]);
        house.expect(0, "unban 192.0.2.9");
        assert!(friend.echoes());
    }
    house.expect(0, "ban 198.51.100.254 --force");
    house.expect(0, "ban 203.0.113.0/24 --force");
    until("with --force the host in it is cut off too", || friend.broke().is_some());
    assert!(!friend.echoes());
    house.expect(0, "unban 203.0.113.0/24");
    assert!(tcp(&lab.outside, "203.0.113.77", TO).is_ok(), "unbanned, and still shut out");
}

#[test]
fn an_own_address_that_appears_lifts_the_ban_of_it() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    house.start();
    house.expect(0, "ban 198.51.100.5 --for 1h");
    house.expect(0, "ban 198.51.100.6 --for 1h");
    lab.victim.sh("ip addr add 198.51.100.5/24 dev wire");
    until("the ban of what is now the host's own is lifted", || !house.banned("198.51.100.5"));
    assert!(house.kernel().keys().eq(["198.51.100.6/32"]));
    house.expect(5, "ban 198.51.100.5");
    lab.victim.sh("ip addr del 198.51.100.5/24 dev wire");
    until("it may be banned again", || house.ask(["ban", "198.51.100.5"]).code == 0);
}
