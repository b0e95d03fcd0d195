//! Block lists of others, followed: over real HTTPS and in files, what they may do and what they may not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::collections::BTreeMap;
use std::fs;

use lab::house::{House, fail, sshd_jail};
use lab::lists::Lists;
use lab::traffic::{Counter, Flood, Stream, listen, tcp};
use lab::{ATTACKER, BYSTANDER, Lab, until};

const TO: &str = "198.51.100.1:7000";

/// So many hosts that do not exist, one a line.
fn others(count: u8) -> String {
    (1..=count).map(|n| format!("192.0.2.{n}\n")).collect()
}

/// Whose each ban is.
fn owners(house: &House<'_>) -> BTreeMap<String, String> {
    let bans = house.json("list")["bans"].as_array().unwrap().clone();
    bans.into_iter().map(|ban| (ban["prefix"].as_str().unwrap().to_owned(), ban["origin"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_list_over_https_is_followed_as_it_changes() {
    let Some(lab) = Lab::new() else { return };
    let lists = Lists::start(&lab);
    lists.put("list", format!("# listed\n{ATTACKER} ; why\n0.0.0.0/0\n{}", others(9)));
    let listener = listen(&lab.victim, TO);
    let mut stream = Stream::open(&lab.outside, ATTACKER, &listener, TO);
    let mut house = House::new(&lab, &lists.feed("list", ""));
    house.start();
    house.until_banned(ATTACKER);
    until("his stream breaks", || stream.broke().is_some());
    assert!(!stream.echoes() && tcp(&lab.outside, ATTACKER, TO).is_err() && tcp(&lab.outside, BYSTANDER, TO).is_ok());
    until("all are banned", || house.kernel().len() == 10);
    assert!(owners(&house).values().all(|owner| owner == "feed:drop"));
    assert!(house.expect(0, &format!("why {ATTACKER}")).out.contains("listed by drop"));
    let feed = house.json("feed list")["feeds"][0].clone();
    assert_eq!((feed["members"].as_u64(), feed["left_out"]["wide"].as_u64(), feed["error"].is_null()), (Some(10), Some(1), true), "{feed}");
    assert!(!feed.to_string().contains("secret") && !house.log().contains("secret"), "a key in a URL is told");
    let listing = house.expect(0, "feed list").out;
    assert!(listing.contains("too wide") && listing.contains("in 6h"), "{listing}");
    assert_eq!(lists.log(), [format!("200 /list?key=secret palisade/{}", env!("CARGO_PKG_VERSION"))]);

    // Unchanged: nothing is sent, nothing changes.
    let kernel = house.kernel();
    assert!(house.expect(0, "feed refresh").out.contains("10 members, unchanged"));
    assert!(lists.log()[1].starts_with("304 ") && house.kernel().keys().eq(kernel.keys()));

    // He is dropped, somebody else taken up.
    lists.put("list", format!("203.0.113.9\n{}", others(9)));
    assert!(house.expect(0, "feed refresh drop").out.contains("10 members, 1 new, 1 gone"));
    assert!(tcp(&lab.outside, ATTACKER, TO).is_ok() && house.kernel().contains_key("203.0.113.9/32"));

    // Half of it gone is too much without a word.
    lists.put("list", format!("{ATTACKER}\n{}", others(2)));
    let answer = house.expect(6, "feed refresh");
    assert!(answer.err.contains("8 are gone") && answer.err.contains("`palisade feed refresh drop --accept`"), "{answer:?}");
    assert!(house.kernel().len() == 10 && tcp(&lab.outside, ATTACKER, TO).is_ok());
    assert!(house.expect(0, "feed refresh drop --accept").out.contains("3 members"));
    assert!(house.kernel().len() == 3 && tcp(&lab.outside, ATTACKER, TO).is_err());
    assert!(house.status()["problems"].as_array().unwrap().is_empty());
    house.expect(2, "feed refresh nobody");
}

#[test]
fn what_is_no_list_changes_nothing_and_is_told() {
    let Some(lab) = Lab::new() else { return };
    let lists = Lists::start(&lab);
    lists.put("list", others(9));
    lists.put("empty", "# nothing today\n");
    lists.put("page", "<!DOCTYPE html>\n<html>\n<p>Be right back\n</html>\n");
    lists.put("huge", (0..3000u32).map(|n| format!("10.0.{}.{}\n", n / 250, n % 250)).collect::<String>());
    lists.put("wide", "0.0.0.0/0\n::/0\n");
    let mut house = House::new(&lab, &lists.feed("list", ""));
    house.start();
    until("all are banned", || house.kernel().len() == 9);
    let stranger = format!("ca = \"{}\"\n", lab.path("stranger.pem").display());
    let elsewhere = |name: &str| lists.feed(name, "most = 2000\n");
    for (config, why) in [
        (elsewhere("empty"), "the list is empty"),
        (elsewhere("page"), "`<!DOCTYPE html>`"),
        (elsewhere("huge"), "more than 2000 entries"),
        (elsewhere("wide"), "narrow enough"),
        (elsewhere("bomb"), "longer than 64 MiB"),
        (elsewhere("missing"), "answered 404"),
        (elsewhere("busy"), "answered 429"),
        (elsewhere("to-http"), "sends us on to http://198.51.100.77:8080/list, where"),
        (elsewhere("round"), "sends us on more than 5 times"),
        (elsewhere("list").replace(&format!("ca = \"{}\"\n", lists.ca.display()), &stranger), "ertificate"),
        (elsewhere("list").replace(&format!("ca = \"{}\"\n", lists.ca.display()), ""), "name the file of its certificate in `ca`"),
        (elsewhere("list").replace(":8443", ":8444"), "efused"),
    ] {
        house.configure(&config);
        house.reload();
        until(&format!("the reason is told: {why}"), || {
            let status = house.status();
            let problems = status["problems"].as_array().unwrap();
            problems.iter().any(|problem| problem["about"] == "feed drop" && problem["what"].as_str().unwrap().contains(why))
        });
        let status = house.status();
        assert_eq!(status["state"], "enforcing", "the last good list stands: {status}");
        assert_eq!(house.kernel().len(), 9, "{why}");
        let answer = house.expect(6, "feed refresh --accept");
        assert!(answer.err.contains(why), "{answer:?}");
        assert_eq!(owners(&house).len(), 9, "{why}");
    }
    let told = house.events("problem").len();
    house.expect(6, "feed refresh");
    assert_eq!(house.events("problem").len(), told, "the same is told twice");
    // Sent on to where it may be, and from where it was.
    house.configure(&elsewhere("to-list"));
    house.reload();
    until("it is solved", || house.status()["problems"].as_array().unwrap().is_empty());
    assert!(owners(&house).len() == 9 && !house.events("solved").is_empty());
    assert!(!house.log().contains("secret"));
}

#[test]
fn a_feed_that_never_was_good_degrades() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, &format!("[feed.own]\npath = \"{}\"\n", lab.path("own").display()));
    house.start();
    until("it is told", || house.status()["state"] == "degraded");
    assert!(house.expect(6, "status").out.contains("nothing of it stands yet"));
    fs::write(lab.path("own"), others(2)).unwrap();
    house.expect(0, "feed refresh own");
    house.expect(0, "status");
}

#[test]
fn a_file_is_followed_beside_jails_and_the_allow_list() {
    let Some(lab) = Lab::new() else { return };
    let (log, own, fresh) = (lab.path("auth.log"), lab.path("own"), lab.path("fresh"));
    fs::write(&log, "").unwrap();
    fs::write(&own, format!("{ATTACKER}\n{BYSTANDER}\n198.51.100.1\n203.0.113.0/24\n127.0.0.0/8\n")).unwrap();
    let jail = sshd_jail(&log, "max_retry = 2\nban_time = \"3s\"\nescalate = { factor = 1 }\n");
    let allow = format!("[allow]\nprefixes = [\"{BYSTANDER}\"]\n");
    let feed = format!("[feed.own]\npath = \"{}\"\nchange = 9\n", own.display());
    let listener = listen(&lab.victim, TO);
    let mut house = House::new(&lab, &format!("{jail}{allow}{feed}"));
    house.start();
    house.until_banned(ATTACKER);
    until("both stand", || house.kernel().len() == 2);
    let feed_now = house.json("feed list")["feeds"][0].clone();
    assert_eq!((feed_now["members"].as_u64(), feed_now["protected"].as_u64()), (Some(5), Some(3)), "{feed_now}");
    assert!(Stream::open(&lab.outside, BYSTANDER, &listener, TO).echoes());

    // Unbanned by hand, he is in until the list is looked at, and it is said.
    let answer = house.expect(0, &format!("unban {ATTACKER}"));
    assert!(answer.err.contains("listed by feed own") && answer.err.contains("palisade allow add"), "{answer:?}");
    assert!(Stream::open(&lab.outside, ATTACKER, &listener, TO).echoes());
    // The jail bans him for its own reasons; when that is over the feed's ban stands, if the list still has him.
    fail(&log, ATTACKER, 2);
    until("the jail has banned him", || owners(&house).get("198.51.100.66/32").is_some_and(|owner| owner == "jail:sshd"));
    house.expect(0, "feed refresh own");
    assert_eq!(owners(&house)["198.51.100.66/32"], "jail:sshd");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    until("the feed's ban stands", || owners(&house).get("198.51.100.66/32").is_some_and(|owner| owner == "feed:own"));
    flood.go_on(200);
    assert!(house.kernel()["198.51.100.66/32"].left.is_none());
    assert!(tcp(&lab.outside, ATTACKER, TO).is_err());
    let passed = counter.of(ATTACKER);
    flood.go_on(200);
    assert_eq!(counter.of(ATTACKER), passed, "he goes on passing");
    drop(flood);

    // By hand, for a while: that is his ban now, and it goes on when the list drops him.
    house.expect(0, &format!("ban {ATTACKER} --for 1h"));
    assert_eq!(owners(&house)["198.51.100.66/32"], "manual");
    fs::write(&fresh, "203.0.113.0/24\n192.0.2.1\n").unwrap();
    fs::rename(&fresh, &own).unwrap();
    house.reload();
    until("the new file is followed", || owners(&house).contains_key("192.0.2.1/32"));
    assert!(house.banned(ATTACKER) && house.kernel()["198.51.100.66/32"].left.is_some());
    house.expect(0, &format!("unban {ATTACKER}"));
    assert!(Stream::open(&lab.outside, ATTACKER, &listener, TO).echoes());

    // The allow list takes out, and gives back.
    house.expect(0, "allow add 192.0.2.1");
    assert!(!house.banned("192.0.2.1"));
    house.expect(0, "feed refresh");
    assert!(!house.banned("192.0.2.1"));
    house.expect(0, "allow del 192.0.2.1");
    house.until_banned("192.0.2.1");

    // Followed no longer: all of it goes, and nothing else.
    house.expect(0, "ban 203.0.113.200 --for 1h");
    house.configure(&format!("{jail}{allow}"));
    house.reload();
    until("its bans are gone", || house.kernel().keys().eq(["203.0.113.200/32"]));
    assert!(house.list().keys().eq(["203.0.113.200/32"]));
}

#[test]
fn a_restart_without_a_network_keeps_the_members_and_without_a_daemon_lists_are_looked_at_too() {
    let Some(lab) = Lab::new() else { return };
    let lists = Lists::start(&lab);
    lists.put("list", format!("{ATTACKER}\n{}", others(9)));
    let config = lists.feed("list", "");
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let mut house = House::new(&lab, &config);
    // Before any daemon ever ran.
    assert!(house.expect(0, "feed list").out.contains("none yet"));
    assert!(house.expect(0, "feed refresh").out.contains("10 members, 10 new"));
    assert_eq!((house.kernel().len(), lists.log().len()), (10, 1));
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    flood.go_on(50);
    let feed = house.json("feed list")["feeds"][0].clone();
    assert_eq!((feed["members"].as_u64(), feed["error"].is_null()), (Some(10), true), "{feed}");

    house.start();
    assert_eq!(house.kernel().len(), 10);
    // The list is fresh: nobody is asked again for a restart.
    assert_eq!(lists.log().len(), 1);
    house.kill();
    drop(lists);
    house.start();
    assert_eq!(house.kernel().len(), 10);
    house.expect(6, "feed refresh");
    assert_eq!(house.kernel().len(), 10);
    house.stop();
    // At boot: an empty kernel, no network, the store alone.
    lab.victim.sh("ip link set wire down; nft flush ruleset");
    house.expect(0, "restore");
    lab.victim.sh("ip link set wire up");
    assert_eq!(house.kernel().len(), 10);
    house.start();
    flood.go_on(200);
    assert_eq!(counter.of(ATTACKER), 0, "packets passed, of {}", flood.sent());
    // A store that is lost loses no member, and none stays for ever.
    house.stop();
    fs::remove_file(house.state.join("palisade.db")).unwrap();
    house.start();
    until("all of it is known again", || owners(&house).values().filter(|owner| *owner == "feed:drop").count() == 10);
    // The wall follows what is known a moment later.
    until("all of it stands again", || house.kernel().len() == 10);
    // Taken out of the config while nothing ran.
    house.stop();
    house.configure("");
    house.start();
    until("its bans are gone", || house.kernel().is_empty());
    assert!(house.list().is_empty() && !house.state.join("feeds/drop").exists());
}
