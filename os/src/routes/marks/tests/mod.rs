//! Against the real kernel: a gateway with two providers and a network behind it, in namespaces of its own. Needs
//! root, iproute2, nftables and conntrack.
//!
//! ```text
//!  outside: 192.0.2.200 and 2001:db8:ff::1, behind two providers that drop sources they did not give
//!    isp1 198.51.100.1, 2001:db8:1::1         isp2 203.0.113.1, 2001:db8:2::1
//!      |                                        |
//!    wan1 198.51.100.2, 2001:db8:1::2         wan2 203.0.113.2, 2001:db8:2::2
//!  gateway: default by wan1; source NAT to each; port 8080 of each goes to the server's 80
//!    lan0 192.0.2.1/25
//!      |
//!  lan: eth0 192.0.2.2
//! ```

mod packets;
mod purge;
mod table;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use palisade_core::route::spec::Guard;
use palisade_core::route::wanted::{Marked, Marks};
use palisade_core::route::words::{Mark, Mask};

use crate::netns::Netns;
use crate::netns::trying::echoes;

/// What connections are marked with, and what probes are: the same without the highest bit.
const FIBRE: Mark = Mark(0x4100_0000);
const LTE: Mark = Mark(0x4200_0000);
const LTE_PROBE: Mark = Mark(0x0200_0000);

const OUTSIDE: &str = "192.0.2.200";
const WAN1: &str = "198.51.100.2";
const WAN2: &str = "203.0.113.2";

/// Runs a shell script in a namespace, which must succeed; its output.
#[track_caller]
fn sh(netns: &Netns, script: &str) -> String {
    let out = netns.within(|| Command::new("sh").args(["-ec", script]).output().unwrap()).unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn uplink(name: &str, interface: &str, connection: Option<Mark>, sources: &[&str], guard: Guard) -> Marked {
    Marked {
        name: name.into(),
        interface: interface.to_owned(),
        connection,
        sources: sources.iter().map(|text| text.parse().unwrap()).collect(),
        guard,
    }
}

/// Both uplinks with marks, the second guarded.
fn both(guard: Guard) -> Marks {
    let sources = ["203.0.113.2/32", "2001:db8:2::2/128"];
    let uplinks =
        vec![uplink("fibre", "wan1", Some(FIBRE), &["198.51.100.2/32"], Guard::Off), uplink("lte", "wan2", Some(LTE), &sources, guard)];
    Marks { mask: Mask::OURS, uplinks }
}

struct Lab {
    gateway: Netns,
    lan: Netns,
    outside: Netns,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { gateway: Netns::new().unwrap(), lan: Netns::new().unwrap(), outside: Netns::new().unwrap() };
        let mut wiring = lab.gateway.wiring().unwrap();
        wiring.cable("lan0", &lab.lan, "eth0").unwrap();
        wiring.cable("wan1", &lab.outside, "isp1").unwrap();
        wiring.cable("wan2", &lab.outside, "isp2").unwrap();
        // What begins here begins from the address that lies behind both providers.
        sh(
            &lab.outside,
            "echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce
             ip link set lo up; ip addr add 192.0.2.200/32 dev lo; ip addr add 2001:db8:ff::1/128 dev lo
             ip addr add 198.51.100.1/24 dev isp1; ip addr add 203.0.113.1/24 dev isp2
             ip addr add 2001:db8:1::1/64 dev isp1 nodad; ip addr add 2001:db8:2::1/64 dev isp2 nodad
             ip link set isp1 up; ip link set isp2 up
             ip route change 198.51.100.0/24 dev isp1 src 192.0.2.200; ip route change 203.0.113.0/24 dev isp2 src 192.0.2.200
             nft 'table inet providers {
               counter spoofed1 { }; counter spoofed2 { }
               chain pre { type filter hook prerouting priority -300;
                 iifname isp1 ip saddr != 198.51.100.0/24 counter name spoofed1 drop
                 iifname isp2 ip saddr != 203.0.113.0/24 counter name spoofed2 drop
                 iifname isp1 ip6 saddr 2001:db8:2::/64 counter name spoofed1 drop
                 iifname isp2 ip6 saddr 2001:db8:1::/64 counter name spoofed2 drop
               }
             }'",
        );
        sh(&lab.lan, "ip link set lo up; ip addr add 192.0.2.2/25 dev eth0; ip link set eth0 up; ip route add default via 192.0.2.1");
        sh(
            &lab.gateway,
            "ip link set lo up; for i in lan0 wan1 wan2; do ip link set $i up; done
             ip addr add 192.0.2.1/25 dev lan0; ip addr add 198.51.100.2/24 dev wan1; ip addr add 203.0.113.2/24 dev wan2
             ip addr add 2001:db8:1::2/64 dev wan1 nodad; ip addr add 2001:db8:2::2/64 dev wan2 nodad
             ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:1::1
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv4/conf/all/src_valid_mark
             nft 'table ip nat {
               chain pre { type nat hook prerouting priority dstnat; iifname { wan1, wan2 } tcp dport 8080 dnat to 192.0.2.2:80; }
               chain post { type nat hook postrouting priority srcnat;
                 ip saddr 192.0.2.0/25 oifname wan1 snat to 198.51.100.2; ip saddr 192.0.2.0/25 oifname wan2 snat to 203.0.113.2; }
             }'
             ip route add default via 198.51.100.1 table 201; ip route add default via 203.0.113.1 table 202
             ip -6 route add default via 2001:db8:1::1 table 201; ip -6 route add default via 2001:db8:2::1 table 202",
        );
        lab
    }

    /// The rules by mark and by source, as the daemon makes them, and a strict reverse path filter.
    fn rules(&self) {
        sh(
            &self.gateway,
            "for i in all wan1 wan2 lan0; do echo 1 > /proc/sys/net/ipv4/conf/$i/rp_filter; done
             ip rule add pref 4000 fwmark 0x2000000/0x7f000000 lookup 202
             ip rule add pref 4001 fwmark 0x41000000/0x7f000000 lookup main suppress_prefixlength 1
             ip rule add pref 4002 fwmark 0x42000000/0x7f000000 lookup main suppress_prefixlength 1
             ip rule add pref 4003 fwmark 0x41000000/0x7f000000 lookup 201
             ip rule add pref 4004 fwmark 0x42000000/0x7f000000 lookup 202
             for from in 198.51.100.2 203.0.113.2; do ip rule add pref 4100 from $from lookup main suppress_prefixlength 1; done
             ip rule add pref 4200 from 198.51.100.2 lookup 201; ip rule add pref 4200 from 203.0.113.2 lookup 202
             ip -6 rule add pref 4003 fwmark 0x41000000/0x7f000000 lookup 201; ip -6 rule add pref 4004 fwmark 0x42000000/0x7f000000 lookup 202",
        );
    }

    #[track_caller]
    fn set(&self, marks: Option<&Marks>) {
        self.gateway.within(|| super::set(marks)).unwrap().unwrap();
        assert!(self.stands(marks));
    }

    fn stands(&self, marks: Option<&Marks>) -> bool {
        self.gateway.within(|| super::stands(marks)).unwrap().unwrap()
    }

    /// How many packets leaked by that uplink's counter.
    fn leaked(&self, uplink: &str) -> u64 {
        self.gateway.within(super::leaks).unwrap().unwrap()[uplink].packets
    }

    /// How many packets a provider dropped for their source.
    fn spoofed(&self, provider: u8) -> u64 {
        let text = sh(&self.outside, &format!("nft list counter inet providers spoofed{provider}"));
        text.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse().unwrap()
    }

    /// The gateway's states with all of `texts` in them, as conntrack(8) tells.
    fn states(&self, texts: &[&str]) -> Vec<String> {
        let all = sh(&self.gateway, "conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
        all.lines().filter(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned).collect()
    }
}

fn listen(netns: &Netns, at: &str) -> TcpListener {
    netns.within(|| TcpListener::bind(at).unwrap()).unwrap()
}

/// Connects within so many seconds.
fn connect(netns: &Netns, to: &str, seconds: u64) -> std::io::Result<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    let stream = netns.within(|| TcpStream::connect_timeout(&to, Duration::from_secs(seconds))).unwrap()?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// Both ends of a connection that must come about.
#[track_caller]
fn joined(from: &Netns, to: &str, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect(from, to, 20).unwrap();
    let server = listener.accept().unwrap().0;
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (client, server)
}
