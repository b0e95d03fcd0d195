//! A gateway: what goes through it to hosts behind it is ended and shut out too.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use lab::house::{House, fail, sshd_jail};
use lab::space::Space;
use lab::traffic::{Stream, listen, tcp};
use lab::{ATTACKER, ATTACKERS6, BYSTANDER, BYSTANDER6, Lab, until};

/// The gateway's own rules: port 8080 is a server behind it, and that goes out with the gateway's address.
const NAT: &str = "table ip nat { chain pre { type nat hook prerouting priority dstnat; iifname wire tcp dport 8080 dnat to 192.0.2.80:80; }; \
    chain post { type nat hook postrouting priority srcnat; oifname wire masquerade; }; }; \
    table ip6 nat { chain pre { type nat hook prerouting priority dstnat; iifname wire tcp dport 8080 dnat to [2001:db8:1::80]:80; }; \
    chain post { type nat hook postrouting priority srcnat; oifname wire masquerade; }; };";

fn states(lab: &Lab, of: &str) -> Vec<String> {
    let all = lab.victim.sh("conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
    all.lines().filter(|line| line.contains(&format!("={of} ")) && !line.contains("icmp")).map(str::to_owned).collect()
}

#[test]
fn flows_through_the_gateway_die_with_their_states() {
    let Some(lab) = Lab::new() else { return };
    let inside = Space::new("inside");
    lab.victim.sh(&format!("ip link add lan type veth peer name lan netns {}", inside.pid()));
    lab.victim.sh("ip link set lan up; ip addr add 192.0.2.1/24 dev lan; ip addr add 2001:db8:1::1/64 dev lan nodad");
    lab.victim.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    inside.sh("ip link set lan up; ip addr add 192.0.2.80/24 dev lan; ip addr add 2001:db8:1::80/64 dev lan nodad");
    inside.sh("ip route add default via 192.0.2.1; ip route add default via 2001:db8:1::1");
    lab.victim.sh(&format!("nft '{NAT}'"));
    let theirs = lab.victim.sh("nft list table ip nat; nft list table ip6 nat");

    let (server, outside) = (listen(&inside, "[::]:80"), listen(&lab.outside, "[::]:7001"));
    let open = |who: &str| {
        let (gateway, behind, peer) = if who.contains(':') {
            ("[2001:db8:0:1::1]:8080", "2001:db8:1::80", format!("[{who}]:7001"))
        } else {
            ("198.51.100.1:8080", "192.0.2.80", format!("{who}:7001"))
        };
        [Stream::open(&lab.outside, who, &server, gateway), Stream::open(&inside, behind, &outside, &peer)]
    };
    let attackers = [ATTACKER, ATTACKERS6[0]];
    let bystanders = [BYSTANDER, BYSTANDER6];
    let mut cut: Vec<Stream> = attackers.iter().flat_map(|who| open(who)).collect();
    let mut kept: Vec<Stream> = bystanders.iter().flat_map(|who| open(who)).collect();
    for who in attackers.iter().chain(&bystanders) {
        assert_eq!(states(&lab, who).len(), 2, "one to the server, one from it");
    }

    let log = lab.path("auth.log");
    std::fs::write(&log, "").unwrap();
    let mut house = House::new(&lab, &sshd_jail(&log, "max_retry = 3"));
    house.start();
    assert!(cut.iter_mut().chain(&mut kept).all(Stream::echoes), "the start of the daemon cut somebody off");
    for who in attackers {
        fail(&log, who, 3);
        house.until_banned(who);
        until("the states are gone", || states(&lab, who).is_empty());
    }
    for (n, stream) in cut.iter_mut().enumerate() {
        assert!(!stream.echoes(), "flow {n} of the attackers lives");
    }
    // The other end still tries to send; that makes no new state either.
    for who in attackers {
        assert_eq!(states(&lab, who), Vec::<String>::new());
    }
    assert!(tcp(&lab.outside, ATTACKER, "198.51.100.1:8080").is_err());
    assert!(tcp(&inside, "192.0.2.80", &format!("{ATTACKER}:7001")).is_err());
    let killed: u64 =
        house.events("ban").iter().map(|event| event["states"].as_u64().or(event["killed"]["states"].as_u64()).unwrap()).sum();
    assert!(killed >= 4, "{killed} states were told as ended");

    for (n, stream) in kept.iter_mut().enumerate() {
        assert!(stream.echoes() && stream.broke().is_none(), "flow {n} of the bystanders was cut");
    }
    for who in bystanders {
        assert_eq!(states(&lab, who).len(), 2);
    }
    assert_eq!(lab.victim.sh("nft list table ip nat; nft list table ip6 nat"), theirs);
}
