//! Hosts with several uplinks, and the providers they lead to.

use serde_json::Value;

use super::Lab;
use super::house::House;
use super::space::Space;

/// A host with a default uplink and two IPv6 tunnels, as the notes have it.
///
/// ```text
///                 net0 2001::1 ── isp ── out 2001:db8:1::1
///   victim        sixxs0 2a02::1 ┐        │
///                 sixxs1 2a02::2 ┴─ pop ──┘
/// ```
/// The provider of net0 drops (and counts) what has a source that is not its own; the other one drops what comes out
/// of a tunnel with another source than that tunnel's. The tunnels are virtual cables without neighbour discovery, so
/// that like a tunnel they take whatever is sent.
pub struct Tunnelled {
    /// The guarded host is [`Lab::victim`].
    pub lab: Lab,
    pub isp: Space,
    pub pop: Space,
    pub out: Space,
}

/// The addresses of the guarded host: the default uplink's, the tunnels'.
pub const NET0: &str = "2001::1";
pub const SIXXS: [&str; 2] = ["2a02::1", "2a02::2"];
/// Somebody outside.
pub const OUT: &str = "2001:db8:1::1";

/// The config of it, without tunnels that are supervised.
pub const TUNNELLED: &str = r#"
[ban]
backend = "memory"

[uplink.net0]
interface = "net0"
table = "main"
source = ["2001::1"]

[uplink.sixxs0]
interface = "sixxs0"
table = { name = "sixxs0", id = 200 }
source = ["2a02::1"]
gateway = "none"

[uplink.sixxs1]
interface = "sixxs1"
table = { name = "sixxs1", id = 201 }
source = ["2a02::2"]
gateway = "none"
"#;

impl Tunnelled {
    /// Makes it; `None`, loudly, where the test may not make namespaces.
    pub fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let (isp, pop, out) = (Space::new("isp"), Space::new("pop"), Space::new("out"));
        // The laboratory's usual wire is none of this.
        lab.victim.sh("ip link del wire");
        cable(&lab.victim, "net0", &isp, "customer");
        lab.victim.sh("ip addr add 2001::1/64 dev net0 nodad; ip link set net0 up; ip -6 route add default via 2001::ff dev net0");
        isp.sh("ip addr add 2001::ff/64 dev customer nodad; ip link set customer up");
        cable(&isp, "world", &out, "isp");
        isp.sh("ip addr add 2001:db8:2::1/64 dev world nodad; ip link set world up; ip -6 route add default via 2001:db8:2::2");
        out.sh("ip addr add 2001:db8:2::2/64 dev isp nodad; ip link set isp up; ip addr add 2001:db8:1::1/128 dev lo; ip -6 route add 2001::/64 via 2001:db8:2::1");
        cable(&pop, "world", &out, "pop");
        pop.sh("ip addr add 2001:db8:3::1/64 dev world nodad; ip link set world up; ip -6 route add default via 2001:db8:3::2");
        out.sh("ip addr add 2001:db8:3::2/64 dev pop nodad; ip link set pop up; ip -6 route add 2a02::/64 via 2001:db8:3::1");
        isp.sh(
            "sysctl -qw net.ipv6.conf.all.forwarding=1; nft add table inet f; nft add chain inet f out '{ type filter hook forward priority 0; }'; \
             nft add rule inet f out iifname customer ip6 saddr != 2001::/64 counter drop",
        );
        pop.sh(
            "sysctl -qw net.ipv6.conf.all.forwarding=1; nft add table inet f; nft add chain inet f out '{ type filter hook forward priority 0; }'; \
             nft add rule inet f out iifname t0 ip6 saddr != 2a02::1 counter drop; nft add rule inet f out iifname t1 ip6 saddr != 2a02::2 counter drop",
        );
        let world = Self { lab, isp, pop, out };
        (0..2).for_each(|n| world.connect(n));
        Some(world)
    }

    /// Brings a tunnel up, as its client would.
    pub fn connect(&self, n: usize) {
        let (ours, theirs) = (format!("sixxs{n}"), format!("t{n}"));
        self.lab.victim.sh(&format!(
            "ip link add {ours} address 02:00:00:00:01:00 type veth peer name {theirs} address 02:00:00:00:01:00 netns {}; \
             ip link set {ours} arp off; ip addr add {}/128 dev {ours} nodad; ip link set {ours} up",
            self.pop.pid(),
            SIXXS[n]
        ));
        self.pop.sh(&format!("ip link set {theirs} arp off up; ip -6 route replace {} dev {theirs}", SIXXS[n]));
    }

    /// The tunnel's client dies: its interface is gone.
    pub fn disconnect(&self, n: usize) {
        self.lab.victim.sh(&format!("ip link del sixxs{n}"));
    }

    /// How many of two pings from outside are answered.
    pub fn answered(&self, addr: &str) -> u32 {
        pings(&self.out, OUT, addr)
    }

    /// How many packets with a foreign source reached the provider of net0.
    pub fn leaked(&self) -> u64 {
        drops(&self.isp)
    }
}

/// Lays a cable; both ends stay down.
pub fn cable(here: &Space, name: &str, there: &Space, name_there: &str) {
    here.sh(&format!("ip link add {name} type veth peer name {name_there} netns {}", there.pid()));
}

/// How many of two pings are answered, one after the other.
pub fn pings(space: &Space, from: &str, to: &str) -> u32 {
    let output = space.try_sh(&format!("ping -n -c 2 -i 0.2 -W 1 -I {from} {to} || true"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let received = text.split(", ").find_map(|part| part.strip_suffix(" received"));
    received.and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("ping said: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// How many packets a provider's rules dropped.
pub fn drops(provider: &Space) -> u64 {
    let all: Value = serde_json::from_str(&provider.sh("nft -j list table inet f")).unwrap();
    let rules = all["nftables"].as_array().unwrap().iter().filter_map(|object| object.get("rule"));
    let counters = rules.flat_map(|rule| rule["expr"].as_array().unwrap()).filter_map(|expr| expr.get("counter"));
    counters.map(|counter| counter["packets"].as_u64().unwrap()).sum()
}

/// Rules and routes of all tables and both families, as the ip program tells, in its order.
pub fn policy(space: &Space) -> String {
    let rules = "ip -4 -N rule; ip -6 -N rule; ip -4 -N -d route show table all; ip -6 -N -d route show table all";
    // How long a route learnt still lives is another number each second.
    space.sh(&format!("({rules}) | sed -E 's/ expires [0-9]+sec//'"))
}

/// Rules of ours, as the ip program tells: `4200: from 2a02::1 lookup 200`.
pub fn rules(space: &Space, family: u8) -> Vec<String> {
    let all = space.sh(&format!("ip -{family} -N rule"));
    let ours = all.lines().filter(|line| line.contains("proto 80"));
    ours.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").replace(" proto 80", "").replace(" [detached]", "")).collect()
}

/// How many changes the program would make.
pub fn changes(house: &House<'_>) -> u64 {
    let answer = house.ask(["--json", "route", "plan"]);
    assert!(answer.code == 0 || answer.code == 1, "{answer:?}");
    let changes = answer.json()["changes"].as_u64().unwrap();
    assert_eq!(answer.code, i32::from(changes > 0), "{answer:?}");
    changes
}
