//! A real nginx under a storm of logins to something that is not there.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use lab::house::House;
use lab::service::{Nginx, http};
use lab::traffic::{Stream, listen};
use lab::{ATTACKER, BYSTANDER, Lab, until};

/// The built-in jail for probes, told where this nginx logs.
fn config(nginx: &Nginx) -> String {
    format!("[jail.web-probes]\nfiles = [\"{}\"]\n", nginx.log.display())
}

fn login(lab: &Lab) -> u16 {
    http(&lab.outside, ATTACKER, &["--data", "log=admin&pwd=admin", "http://198.51.100.1/wp-login.php"])
}

#[test]
fn a_storm_of_wordpress_logins_answered_404_is_banned() {
    let Some(lab) = Lab::new() else { return };
    let nginx = Nginx::start(&lab);
    let listener = listen(&lab.victim, "198.51.100.1:7000");
    let mut attackers = Stream::open(&lab.outside, ATTACKER, &listener, "198.51.100.1:7000");
    let mut house = House::new(&lab, &config(&nginx));
    house.start();
    for n in 1..5 {
        assert_eq!(login(&lab), 404);
        until("the probe is counted", || house.score(ATTACKER) == 10 * n);
        assert!(!house.banned(ATTACKER), "banned after {n} of 5 probes");
    }
    // The storm proper: it goes on until nobody answers any more.
    let mut answered = 0;
    until("the storm gets no more answers", || {
        let status = login(&lab);
        answered += usize::from(status == 404);
        assert!(answered < 200, "200 probes were answered");
        status == 0
    });
    house.until_banned(ATTACKER);
    until("the attacker's other stream breaks", || attackers.broke().is_some());
    assert!(!attackers.echoes());
    assert_eq!(http(&lab.outside, BYSTANDER, &["http://198.51.100.1/"]), 200);
    assert_eq!(house.list().keys().collect::<Vec<_>>(), ["198.51.100.66/32"]);
    assert_eq!(house.json("list")["bans"][0]["origin"], "jail:web-probes");
    assert_eq!(house.kernel().len(), 1);
}

#[test]
fn observing_tells_whom_it_would_ban_and_puts_nothing_into_the_kernel() {
    let Some(lab) = Lab::new() else { return };
    let nginx = Nginx::start(&lab);
    let mut house = House::new(&lab, &config(&nginx));
    house.start_with(&["run", "--observe"]);
    for _ in 0..20 {
        assert_eq!(login(&lab), 404, "somebody is in the way");
    }
    until("the would-be ban is told", || !house.events("would-ban").is_empty());
    until("all lines are read", || house.lines() >= 20);
    let told = house.events("would-ban");
    assert_eq!((told[0]["prefix"].as_str(), told[0]["origin"].as_str()), (Some("198.51.100.66/32"), Some("jail:web-probes")), "{told:?}");
    assert!(house.events("ban").is_empty());
    assert_eq!(house.expect(0, "--json status").json()["state"], "observing");
    assert_eq!(lab.victim.sh("nft list ruleset"), "");
    assert_eq!(login(&lab), 404);
    house.stop();
    assert_eq!(house.json("list")["bans"].as_array().unwrap().len(), 0, "a ban that was never made was kept");
    house.start();
    assert!(!house.banned(ATTACKER) && house.kernel().is_empty());
}
