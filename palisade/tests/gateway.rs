//! A gateway with two providers, address translation, a LAN, and failover between them.
//!
//! ```text
//!                        wan1 198.51.100.2 ── isp1 ┐
//!   lan 192.0.2.10 ── victim                       ├─ out 198.18.0.1
//!                        wan2 203.0.113.2 ── isp2 ─┘
//! ```
//! Each provider drops, and counts, what has a source that is not its own (BCP 38).
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use lab::house::House;
use lab::space::Space;
use lab::traffic::{Stream, listen, tcp};
use lab::uplinks::{cable, changes, drops, pings};
use lab::{Lab, until};

/// Somebody far away. The documentation prefixes are used up, so it is of 198.18.0.0/15 (RFC 2544, for tests within
/// one's own network).
const FAR: &str = "198.18.0.1";
const WAN: [&str; 2] = ["198.51.100.2", "203.0.113.2"];
const INSIDE: &str = "192.0.2.10";

/// The gateway's own rules: port 8080 is a server behind it, and what goes out has the address of where it goes out.
const NAT: &str = "table ip nat { chain pre { type nat hook prerouting priority dstnat; iifname { wan1, wan2 } tcp dport 8080 dnat to 192.0.2.10:80; }; \
    chain post { type nat hook postrouting priority srcnat; oifname wan1 snat to 198.51.100.2; oifname wan2 snat to 203.0.113.2; }; };";

const CONFIG: &str = r#"
[ban]
backend = "memory"

[routing]
rp_filter = "advise"

[uplink.fibre]
interface = "wan1"
gateway4 = "198.51.100.1"
source = ["198.51.100.2"]
[uplink.fibre.track]
targets = ["198.18.0.1"]
interval = "200ms"
timeout = "500ms"

[uplink.lte]
interface = "wan2"
gateway4 = "dhcp"
source = "auto"
[uplink.lte.track]
targets = ["198.18.0.1"]
interval = "200ms"
timeout = "500ms"

[policy.default]
members = [{ uplink = "fibre", tier = 1 }, { uplink = "lte", tier = 2 }]
sticky = "connection"
on_failover = { purge = "uplink" }
on_failback = { purge = "none", after = "1s" }
"#;

struct Gateway {
    lab: Lab,
    lan: Space,
    isps: [Space; 2],
    out: Space,
}

impl Gateway {
    fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let (lan, isps, out) = (Space::new("lan"), [Space::new("isp1"), Space::new("isp2")], Space::new("out"));
        let gw = &lab.victim;
        gw.sh("ip link del wire; sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0");
        cable(gw, "lan2", &lan, "gw");
        gw.sh("ip addr add 192.0.2.1/24 dev lan2; ip link set lan2 up");
        lan.sh("ip addr add 192.0.2.10/24 dev gw; ip link set gw up; ip route add default via 192.0.2.1");
        out.sh(&format!("ip addr add {FAR}/32 dev lo"));
        for (n, isp) in isps.iter().enumerate() {
            let (net, n) = (WAN[n].rsplit_once('.').unwrap().0, n + 1);
            cable(gw, &format!("wan{n}"), isp, "customer");
            gw.sh(&format!("ip addr add {net}.2/24 dev wan{n}; ip link set wan{n} up"));
            isp.sh(&format!("ip addr add {net}.1/24 dev customer; ip link set customer up; sysctl -qw net.ipv4.ip_forward=1"));
            cable(isp, "world", &out, &format!("isp{n}"));
            isp.sh(&format!("ip addr add 198.18.{n}.1/24 dev world; ip link set world up; ip route add default via 198.18.{n}.2"));
            out.sh(&format!("ip addr add 198.18.{n}.2/24 dev isp{n}; ip link set isp{n} up; ip route add {net}.0/24 via 198.18.{n}.1"));
            isp.sh(&format!(
                "nft add table inet f; nft add chain inet f out '{{ type filter hook forward priority 0; }}'; \
                 nft add rule inet f out iifname customer ip saddr != {net}.0/24 counter drop"
            ));
        }
        gw.sh(&format!("nft '{NAT}'; ip route add default via 198.51.100.1 dev wan1; ip route add default via 203.0.113.1 dev wan2 metric 200 proto dhcp"));
        Some(Self { lab, lan, isps, out })
    }

    /// Whether the gateway's own address answers pings and connections there, and whether the server behind it does.
    fn reached(&self, n: usize, here: &std::net::TcpListener, behind: &std::net::TcpListener) -> (bool, bool) {
        let (here, behind) = ((here, format!("{}:7", WAN[n])), (behind, format!("{}:8080", WAN[n])));
        let answers = |(listener, at): (&std::net::TcpListener, String)| {
            listener.set_nonblocking(true).unwrap();
            while listener.accept().is_ok() {}
            tcp(&self.out, FAR, &at).is_ok()
        };
        (pings(&self.out, FAR, WAN[n]) == 2 && answers(here), answers(behind))
    }

    /// The matrix: here and behind, by each provider.
    fn matrix(&self, here: &std::net::TcpListener, behind: &std::net::TcpListener) -> [(bool, bool); 2] {
        [0, 1].map(|n| self.reached(n, here, behind))
    }
}

#[test]
fn each_provider_gets_the_answers_to_what_came_by_it() {
    let Some(world) = Gateway::new() else { return };
    let gw = &world.lab.victim;
    let (here, behind) = (listen(gw, "0.0.0.0:7"), listen(&world.lan, "0.0.0.0:80"));
    assert_eq!(world.matrix(&here, &behind), [(true, true), (false, false)], "before: all answers leave by the first");
    let mut house = House::new(&world.lab, CONFIG);
    house.start();
    house.expect(0, "route apply");
    let strict = |value: u8, mark: u8| {
        gw.sh(&format!(
            "sysctl -qw net.ipv4.conf.all.rp_filter={value} net.ipv4.conf.wan1.rp_filter={value} net.ipv4.conf.wan2.rp_filter={value} net.ipv4.conf.all.src_valid_mark={mark}"
        ));
    };
    for (value, mark) in [(0, 0), (2, 0), (1, 1)] {
        strict(value, mark);
        assert_eq!(world.matrix(&here, &behind), [(true, true), (true, true)], "rp_filter = {value}, src_valid_mark = {mark}");
    }
    // The kernel's strict reverse path filter drops what is translated, which is told with what to do.
    strict(1, 0);
    assert_eq!(world.matrix(&here, &behind), [(true, true), (true, false)]);
    let check = house.ask(["route", "check"]);
    assert_eq!(check.code, 1, "{check:?}");
    assert!(check.out.contains("src_valid_mark"), "{check:?}");
    // Or it is mended, and put back on release.
    house.configure(&CONFIG.replace("advise", "set"));
    house.expect(0, "route apply");
    assert_eq!(world.matrix(&here, &behind), [(true, true), (true, true)]);
    house.expect(0, "route release");
    assert_eq!(gw.sh("sysctl -n net.ipv4.conf.all.src_valid_mark").trim(), "0");
    assert_eq!(world.matrix(&here, &behind)[1], (false, false));
}

#[test]
fn failover_ends_what_was_on_the_dead_uplink_and_nothing_else() {
    let Some(world) = Gateway::new() else { return };
    let gw = &world.lab.victim;
    let mut house = House::new(&world.lab, CONFIG);
    house.start();
    house.expect(0, "route apply");
    let uses = || house.ask(["--json", "route", "status"]).json()["policies"][0]["uses"].clone();
    until("the better uplink is used", || uses() == serde_json::json!(["fibre"]));

    let (far, ssh) = (listen(&world.out, "0.0.0.0:22"), listen(gw, "0.0.0.0:22"));
    let by_fibre: Vec<Stream> = (0..5).map(|_| Stream::open(&world.lan, INSIDE, &far, &format!("{FAR}:22"))).collect();
    let mut over_lte = Stream::open(&world.out, FAR, &ssh, &format!("{}:22", WAN[1]));
    let mut by_fibre = by_fibre;
    assert!(by_fibre.iter_mut().all(Stream::echoes) && over_lte.echoes());
    let of = |addr: &str| {
        let all = gw.sh("conntrack -L -p tcp 2>/dev/null");
        all.lines().filter(|line| line.contains(&format!("={addr} ")) && line.contains("dport=22 ")).count()
    };
    assert_eq!((of(WAN[0]), of(WAN[1])), (5, 1));

    // The provider still is there, but leads nowhere any more.
    world.isps[0].sh("ip link set world down");
    until("the other uplink is used", || uses() == serde_json::json!(["lte"]));
    until("what was on the dead one is ended", || of(WAN[0]) == 0);
    assert_eq!(of(WAN[1]), 1);
    assert!(over_lte.echoes(), "the session over the other uplink is untouched");
    let lost = drops(&world.isps[1]);
    let mut new = Stream::open(&world.lan, INSIDE, &far, &format!("{FAR}:22"));
    assert!(new.echoes());
    assert!(of(WAN[1]) >= 2, "what is new takes the other uplink");
    assert_eq!(drops(&world.isps[1]), lost, "with its address");

    // The better one is back: what is new takes it, what is not stays.
    world.isps[0].sh("ip link set world up; ip route replace default via 198.18.1.2");
    until("the better uplink is used again", || uses() == serde_json::json!(["fibre"]));
    assert!(new.echoes() && over_lte.echoes(), "connections stay on the uplink they began on");
    let mut newest = Stream::open(&world.lan, INSIDE, &far, &format!("{FAR}:22"));
    assert!(newest.echoes() && of(WAN[0]) >= 1);
    assert_eq!(changes(&house), 0);
}

#[test]
fn nothing_is_changed_when_everything_seems_to_fail() {
    let Some(world) = Gateway::new() else { return };
    let mut house = House::new(&world.lab, CONFIG);
    house.start();
    house.expect(0, "route apply");
    let status = || house.ask(["--json", "route", "status"]).json();
    until("both are up", || {
        status()["uplinks"].as_array().unwrap().iter().all(|uplink| uplink["state"] == "up" && uplink["loss"].is_number())
    });
    // Whoever is asked is gone, not the uplinks.
    world.out.sh(&format!("ip addr del {FAR}/32 dev lo"));
    until("both are down", || status()["uplinks"].as_array().unwrap().iter().all(|uplink| uplink["state"] == "down"));
    assert_eq!(status()["policies"][0]["uses"], serde_json::json!(["fibre"]));
}
