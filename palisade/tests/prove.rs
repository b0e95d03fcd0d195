//! `palisade prove`: a copy of the host's rules, packets of a banned address, and what is said of both.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::time::{Duration, Instant};

use lab::Lab;
use lab::house::House;

const WAYS: [&str; 4] = ["to this host by IPv4", "to this host by IPv6", "through this host by IPv4", "through this host by IPv6"];

/// A chain before ours that makes packets of the probe look like somebody else's: they pass ours unseen.
const MASK: &str = "table inet mask { chain early { type filter hook prerouting priority -400; \
    ip saddr 192.0.2.66 ip saddr set 192.0.2.99; ip6 saddr 2001:db8:66::66 ip6 saddr set 2001:db8:66::99; }; }";
const ACCEPT: &str = "table inet early { chain each { type filter hook prerouting priority -400; accept; }; }";

#[test]
fn a_ban_is_seen_to_block_on_every_way_and_nothing_is_left() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    lab.victim.sh(
        "nft 'table inet mine { set s { type ipv4_addr; }; chain c { type filter hook input priority 0; ct state established accept; }; }'",
    );
    let before = lab.victim.sh("nft list ruleset; ip -o link; ip -o addr");
    let proven = house.json("prove");
    assert_eq!((proven["v"].as_u64(), proven["backend"].as_str(), proven["proof"].as_str()), (Some(1), Some("nftables"), Some("proven")));
    for way in WAYS {
        assert!(proven["how"].as_str().unwrap().contains(way), "{proven}");
    }
    assert_eq!(proven["notes"].as_array().unwrap().len(), 0, "{proven}");
    assert_eq!(lab.victim.sh("nft list ruleset; ip -o link; ip -o addr"), before);
}

#[test]
fn a_chain_before_ours_is_named_and_one_that_lets_the_banned_pass_fails_the_proof() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    lab.victim.sh(&format!("nft '{ACCEPT}'"));
    let proven = house.json("prove");
    assert_eq!(proven["proof"], "proven");
    let notes = proven["notes"].to_string();
    assert!(notes.contains("table inet early, chain each (prerouting, priority -400)"), "{notes}");

    lab.victim.sh(&format!("nft '{MASK}'"));
    let failed = house.ask(["--json", "prove"]).code(1).json();
    assert_eq!(failed["proof"], "failed");
    assert!(failed["what"].as_str().unwrap().contains("packets of a banned address still arrive to this host by IPv4"), "{failed}");
    let told = house.expect(1, "doctor").out;
    assert!(told.contains("BAD  proof: nftables failed its proof") && told.contains("table inet mask, chain early"), "{told}");
}

#[test]
fn a_leak_on_one_way_alone_is_found() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    // What goes through the host by IPv6, and nothing else, is made to look like somebody else's.
    lab.victim.sh("nft 'table ip6 mask { chain early { type filter hook prerouting priority -400; \
         meta l4proto udp ip6 daddr 2001:db8:1::81 ip6 saddr set 2001:db8:66::99; }; }'");
    let failed = house.ask(["--json", "prove"]).code(1).json();
    assert_eq!(failed["what"], "packets of a banned address still arrive through this host by IPv6", "{failed}");
}

#[test]
fn a_daemon_whose_bans_would_not_block_does_not_start_and_names_the_next_best() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    house.expect(0, "ban 203.0.113.9 --for 1h");
    lab.victim.sh(&format!("nft '{MASK}'"));
    let start = Instant::now();
    let (mut daemon, _ready) = house.launch(&["run"]);
    let status = daemon.0.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(!status.success(), "{status:?}");
    let log = house.log();
    assert!(log.contains("nftables failed its proof") && log.contains("nothing falls back by itself"), "{log}");
    // What stood stands: known good, as far as it goes.
    assert!(house.kernel().contains_key("203.0.113.9/32"));
}

#[test]
fn what_others_drop_anyhow_is_proven_by_the_bans_own_counter() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    lab.victim
        .sh("iptables-legacy -P INPUT DROP; iptables-legacy -A INPUT -m state --state ESTABLISHED -j ACCEPT; ip6tables-nft -A INPUT -p icmpv6 -j ACCEPT; ip6tables-nft -P INPUT DROP");
    let proven = house.json("prove");
    for way in WAYS {
        assert!(proven["how"].as_str().unwrap().contains(way), "{proven}");
    }
    assert!(!proven["how"].as_str().unwrap().contains("other rules"), "{proven}");
    house.start();
    let status = house.status();
    assert_eq!(status["proof"]["proof"], "proven", "{status}");
    assert!(status["chosen"].as_str().unwrap().starts_with("nftables: "), "{status}");
    assert!(status["chosen"].as_str().unwrap().contains("beside it filter iptables-legacy (filter)"), "{status}");
    assert!(house.expect(0, "status").out.contains("proven: packets of a banned address were dropped"));
}

#[test]
fn what_was_proven_with_more_rights_counts_for_a_daemon_that_may_not() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    house.expect(0, "prove --keep");
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(house.run.join("proof.json")).unwrap()).unwrap();
    assert_eq!((kept["backend"].as_str(), kept["proof"].as_str()), (Some("nftables"), Some("proven")));
    assert!(house.expect(2, "prove --backend nftable").err.contains("it is one of nftables, ipset"));
    let memory = house.json("prove --backend memory");
    assert_eq!(memory["proof"], "untried");
}
