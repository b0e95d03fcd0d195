//! `palisade why` tells who is behind an address, with the daemon and without it: neighbour, container, process, tracked flows.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use lab::house::House;
use lab::{ATTACKER, BYSTANDER, Lab, traffic};
use serde_json::{Value, json};

/// Asks, checks what both ways of asking must tell, and gives the document.
fn told(house: &House<'_>, lab: &Lab) -> Value {
    let why = house.json(&format!("why {ATTACKER}"));
    assert_eq!((&why["behind"]["mac"], &why["behind"]["interface"]), (&json!("02:00:00:00:00:02"), &json!("wire")), "{why}");
    // The attacker's network is another namespace of this machine, as a container's is.
    let processes = why["behind"]["processes"].as_array().unwrap();
    let ours = |process: &&Value| process["pid"] == json!(std::process::id()) && process["sockets"] == json!(1);
    assert!(processes.iter().any(|process| ours(&process)), "who holds the victim's end of the connection: {why}");
    assert!(processes.iter().any(|process| process["pid"] == json!(lab.outside.pid())) || processes.len() > 1, "{why}");
    assert_eq!((&why["flows"], &why["began"], &why["unreplied"]), (&json!(1), &json!(1), &json!(0)), "{why}");
    assert_eq!((&why["top_dst"], &why["hidden"]), (&json!("198.51.100.1:7000/tcp"), &json!([])), "{why}");
    why
}

#[test]
fn why_tells_who_is_behind_with_the_daemon_and_without() {
    let Some(lab) = Lab::new() else { return };
    lab.victim.sh("nft 'table inet t { chain c { type filter hook input priority 0; ct state new counter; }; }'");
    let listener = traffic::listen(&lab.victim, "198.51.100.1:7000");
    let _client = traffic::tcp(&lab.outside, ATTACKER, "198.51.100.1:7000").unwrap();
    let (_server, _) = listener.accept().unwrap();
    let mut house = House::new(&lab, "");
    let alone = told(&house, &lab);
    house.start();
    let served = told(&house, &lab);
    assert_eq!(alone["behind"]["mac"], served["behind"]["mac"]);

    let text = house.expect(0, &format!("why {ATTACKER}")).out;
    assert!(text.contains("02:00:00:00:00:02 on wire") && text.contains("1 tracked, 1 begun by it, 0 never answered"), "{text}");
    // Of a prefix that is no host only its flows.
    let net = house.json("why 198.51.100.64/27");
    assert_eq!((&net["flows"], &net["behind"]), (&json!(1), &Value::Null), "{net}");
    // Nobody has this one, and nothing is known of it.
    let nobody = house.expect(1, "--json why 192.0.2.213").json();
    assert_eq!(
        (&nobody["flows"], &nobody["behind"]["processes"], &nobody["behind"]["mac"]),
        (&json!(0), &json!([]), &Value::Null),
        "{nobody}"
    );
    assert_eq!(house.json(&format!("why {BYSTANDER}"))["flows"], json!(0));
}
