//! Somebody else flushes or edits what is ours in the kernel: it is seen and put back, and what is
//! theirs is left alone.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and what was measured is printed")]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lab::house::{Element, House};
use lab::traffic::{Counter, Flood};
use lab::{ATTACKER, Lab, until};

const BANS: usize = 10_000;

/// A table beside ours, with a bit of everything in it.
const FOREIGN: &str = "table inet neighbour { \
    set s { type ipv4_addr; flags interval; elements = { 203.0.113.0/25 }; }; \
    map m { type inet_service : verdict; elements = { 22 : accept }; }; \
    chain palisade { type filter hook prerouting priority -310; policy accept; ip saddr @s tcp dport vmap @m; }; \
    chain pre { ct state established accept; }; }; \
    table ip palisade { chain pre { type filter hook input priority 0; ip saddr 192.0.2.1 drop; }; };";

/// Chains, rules and sets of ours as nft(8) prints them, without elements, counters, generations and
/// the sizes that sets filled in bulk are made with. In which order sets were made means nothing.
fn shape(lab: &Lab) -> (BTreeSet<String>, String) {
    let text = lab.victim.sh("nft -s -t list table inet palisade | grep -v '^[[:space:]]*size '");
    let words = text.split_whitespace().map(|word| match word.split_once('.') {
        Some((stem, generation)) if generation.chars().all(|c| c.is_ascii_digit()) && stem.contains('_') => stem,
        _ => word,
    });
    let text = words.collect::<Vec<_>>().join(" ");
    let (sets, chains) = text.split_at(text.find("chain pre").unwrap());
    (sets.split("set ").map(str::to_owned).collect(), chains.to_owned())
}

fn foreign(lab: &Lab) -> String {
    lab.victim.sh("nft list table inet neighbour; nft list table ip palisade")
}

/// The name that the set of bans of this kind has now.
fn set(lab: &Lab, kind: &str) -> String {
    let text = lab.victim.sh("nft -t list table inet palisade");
    text.split_whitespace().find(|word| word.split('.').next() == Some(kind)).unwrap().to_owned()
}

fn same(now: &BTreeMap<String, Element>, before: &BTreeMap<String, Element>) -> bool {
    // What is left of each may have run on, and nothing may have been given a longer time.
    now.len() == before.len()
        && now.iter().zip(before).all(|((prefix, element), (old_prefix, old))| {
            prefix == old_prefix && element.left.is_some() == old.left.is_some() && element.left <= old.left.map(|left| left + 1)
        })
}

struct Damage {
    what: &'static str,
    how: String,
    /// Whether it takes the neighbour's tables too.
    all: bool,
}

#[test]
fn whatever_others_do_to_ours_is_repaired_and_theirs_is_untouched() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "[allow]\nprefixes = [\"198.51.100.77/32\"]\n");
    house.start();
    let prefixes: Vec<String> = (0..BANS).map(|n| format!("2001:db8:7::{n:x}")).collect();
    house.ask(["ban", "--for", "1h"].into_iter().chain(prefixes.iter().map(String::as_str))).code(0);
    house.expect(0, "ban 2001:db8:5::/64 --permanent");
    lab.victim.sh(&format!("nft '{FOREIGN}'"));
    let (rules, theirs, bans) = (shape(&lab), foreign(&lab), house.kernel());
    assert_eq!(bans.len(), BANS + 1);
    let follower = house.follow();

    let damages = |set: &str| {
        let one = |what, how: &str| Damage { what, how: how.to_owned(), all: false };
        [
            one("one element deleted", &format!("nft delete element inet palisade {set} '{{ 2001:db8:7::5 }}'")),
            one("a set flushed", &format!("nft flush set inet palisade {set}")),
            one("a rule inserted", "nft insert rule inet palisade pre accept"),
            one("a rule inserted further down", "nft insert rule inet palisade v6 ip6 saddr 2001:db8:7::5 accept"),
            one("a chain flushed", "nft flush chain inet palisade v6"),
            one("a stranger's element added", &format!("nft add element inet palisade {set} '{{ 2001:db8:9::9 timeout 1h }}'")),
            one("the table deleted", "nft delete table inet palisade"),
            Damage { what: "everything flushed", how: "nft flush ruleset".to_owned(), all: true },
        ]
    };
    for n in 0..damages("").len() {
        let damage = damages(&set(&lab, "ban6_128")).into_iter().nth(n).unwrap();
        let drift = house.status()["drift"].as_u64().unwrap();
        lab.victim.sh(&damage.how);
        let done = Instant::now();
        let (at, told) = follower.next("drift");
        // nft itself takes a while to end once the kernel has done what it asked for, so this is the least of it.
        let took = at.saturating_duration_since(done);
        println!(
            "{}: {} bans put back within {} ms of being seen, told {took:?} after nft(8) was done",
            damage.what, told["repaired"], told["millis"]
        );
        assert!(took < Duration::from_secs(2), "{}: {took:?}", damage.what);
        until(damage.what, || shape(&lab) == rules && same(&house.kernel(), &bans));
        assert!(house.status()["drift"].as_u64().unwrap() > drift, "{} was not counted as drift", damage.what);
        if damage.all {
            assert_eq!(lab.victim.sh("nft list tables"), "table inet palisade\n", "only ours comes back");
        } else {
            assert_eq!(foreign(&lab), theirs, "{}: the neighbour's table was touched", damage.what);
        }
    }
    let status = house.expect(0, "--json status").json();
    assert_eq!((status["state"].as_str(), status["bans"].as_u64()), (Some("enforcing"), Some(BANS as u64 + 1)), "{status}");
}

#[test]
fn putting_right_what_does_no_harm_opens_no_gap() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    house.start();
    house.expect(0, &format!("ban {ATTACKER} 203.0.113.9 --for 1h"));
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    let follower = house.follow();
    for _ in 0..5 {
        for how in [
            "nft add rule inet palisade out counter".to_owned(),
            "nft add chain inet palisade theirs".to_owned(),
            "nft add set inet palisade theirs '{ type ipv4_addr; }'".to_owned(),
            "nft delete element inet palisade SET '{ 203.0.113.9 }'".to_owned(),
        ] {
            lab.victim.sh(&how.replace("SET", &set(&lab, "ban4_32")));
            follower.next("drift");
            flood.go_on(50);
        }
    }
    until("nothing of theirs is left", || !lab.victim.sh("nft list table inet palisade").contains("theirs") && house.kernel().len() == 2);
    assert_eq!(counter.of(ATTACKER), 0, "packets passed, of {}", flood.sent());
}
