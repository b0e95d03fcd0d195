//! Against the real kernel, each test in network namespaces of its own. They need root, `ip` and `wg`; where the kernel
//! has not the module a test is about, it says SKIPPED and checks nothing (`make vm-test` sees that none is, there).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use palisade_core::net::Addr;
use palisade_core::route::tunnels::{LinkKind, LinkTunnel};

use super::{LinkState, local_for, make, remove, set_local, state, wireguard};
use crate::netns::Netns;

const NEAR: &str = "192.0.2.1";
const MOVED: &str = "192.0.2.77";
const FAR: &str = "192.0.2.2";

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

/// Runs a shell script here, which must succeed; its output.
#[track_caller]
fn sh(script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Whether this kernel can make such interfaces.
fn has(kind: &str, more: &str) -> bool {
    let script = format!("ip link add try0 type {kind} {more}");
    let can = Netns::new().unwrap().within(|| Command::new("sh").args(["-ec", &script]).output().unwrap().status.success()).unwrap();
    if !can {
        eprintln!("SKIPPED: this kernel has no interfaces of type {kind}, this test checked nothing");
    }
    can
}

fn sit() -> bool {
    has("sit", "remote 192.0.2.9")
}

fn gre() -> bool {
    has("gre", "remote 192.0.2.9")
}

fn tunnel(kind: LinkKind, remote: &str, addresses: &[(&str, u8)]) -> LinkTunnel {
    LinkTunnel {
        kind,
        interface: "sixxs0".to_owned(),
        local: None,
        remote: addr(remote),
        ttl: 33,
        mtu: 1400,
        addresses: addresses.iter().map(|(text, len)| (addr(text), *len)).collect(),
        update: None,
        budget: None,
    }
}

/// Two hosts on one cable, the near one with a second address to move to.
fn pair() -> (Netns, Netns) {
    let (near, far) = (Netns::new().unwrap(), Netns::new().unwrap());
    near.wiring().unwrap().cable("net0", &far, "net0").unwrap();
    near.within(|| sh(&format!("ip link set lo up; ip link set net0 up; ip addr add {NEAR}/24 dev net0; ip addr add {MOVED}/24 dev net0")))
        .unwrap();
    far.within(|| sh(&format!("ip link set lo up; ip link set net0 up; ip addr add {FAR}/24 dev net0"))).unwrap();
    (near, far)
}

/// Something said over there is heard here and answered.
#[track_caller]
fn talk(near: &Netns, far: &Netns, to: &str) {
    let at = SocketAddr::new(addr(to).ip(), 7);
    let listener = far.within(|| TcpListener::bind(at).unwrap()).unwrap();
    let mut client = near.within(|| TcpStream::connect_timeout(&at, Duration::from_secs(10)).unwrap()).unwrap();
    client.write_all(b"ping").unwrap();
    let mut got = [0; 4];
    listener.accept().unwrap().0.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"ping");
}

/// Addresses and routes of the interface, without the near end that `ip` shows as its address.
fn standing() -> String {
    sh("ip -o addr show dev sixxs0; ip route show table all dev sixxs0; ip -6 route show table all dev sixxs0")
}

#[test]
fn a_sit_tunnel_is_made_as_declared_and_carries_packets() {
    if !sit() {
        return;
    }
    let (near, far) = pair();
    let (here, there) = (tunnel(LinkKind::Sit, FAR, &[("2001:db8:a::1", 64)]), tunnel(LinkKind::Sit, NEAR, &[("2001:db8:a::2", 64)]));
    let index = near.within(|| make(&here, addr(NEAR)).unwrap()).unwrap();
    far.within(|| make(&there, addr(FAR)).unwrap()).unwrap();
    let found = near.within(|| state(&here).unwrap()).unwrap();
    let (local, remote) = (Some(addr(NEAR)), Some(addr(FAR)));
    assert_eq!(found, Some(LinkState { index, kind: Some("sit".to_owned()), local, remote, up: true, carrier: true, ours: true }));
    let shown = near.within(|| sh("ip -d link show sixxs0")).unwrap();
    for word in ["mtu 1400", "ttl 33", "alias palisade: tunnel sixxs0", "sit ip6ip remote 192.0.2.2 local 192.0.2.1"] {
        assert!(shown.contains(word), "no {word:?} in {shown}");
    }
    assert!(!shown.contains("nopmtudisc"), "{shown}");
    talk(&near, &far, "2001:db8:a::2");
}

#[test]
fn the_near_end_moves_and_everything_else_stays() {
    if !sit() {
        return;
    }
    let (near, far) = pair();
    let (here, there) = (tunnel(LinkKind::Sit, FAR, &[("2001:db8:a::1", 64)]), tunnel(LinkKind::Sit, MOVED, &[("2001:db8:a::2", 64)]));
    let (before, after) = near
        .within(|| {
            let index = make(&here, addr(NEAR)).unwrap();
            sh("ip -6 route add default dev sixxs0 table 200 proto 80");
            let before = (index, standing());
            set_local(&here, addr(MOVED)).unwrap();
            let found = state(&here).unwrap().unwrap();
            assert_eq!((found.local, found.remote, found.ours, found.up), (Some(addr(MOVED)), Some(addr(FAR)), true, true));
            let shown = sh("ip -d link show sixxs0");
            assert!(shown.contains("ttl 33") && shown.contains("mtu 1400") && shown.contains("sit ip6ip"), "{shown}");
            (before, (found.index, standing()))
        })
        .unwrap();
    assert!(before.1.contains("2001:db8:a::1/64") && before.1.contains("table 200"), "{before:?}");
    assert_eq!(before, after);
    far.within(|| make(&there, addr(FAR)).unwrap()).unwrap();
    talk(&near, &far, "2001:db8:a::2");
}

#[test]
fn making_it_again_changes_nothing_and_a_changed_declaration_what_it_says() {
    if !sit() {
        return;
    }
    let (near, _far) = pair();
    let mut here = tunnel(LinkKind::Sit, FAR, &[("2001:db8:a::1", 64)]);
    near.within(|| {
        let index = make(&here, addr(NEAR)).unwrap();
        let before = (standing(), sh("ip -d link show sixxs0"));
        assert_eq!(make(&here, addr(NEAR)).unwrap(), index);
        assert_eq!((standing(), sh("ip -d link show sixxs0")), before);
        (here.ttl, here.mtu) = (44, 1300);
        here.addresses.push((addr("2001:db8:b::1"), 64));
        assert_eq!(make(&here, addr(MOVED)).unwrap(), index);
        let shown = sh("ip -d link show sixxs0; ip addr show dev sixxs0");
        for word in ["ttl 44", "mtu 1300", "local 192.0.2.77", "2001:db8:a::1/64", "2001:db8:b::1/64"] {
            assert!(shown.contains(word), "no {word:?} in {shown}");
        }
        assert!(remove(&here).unwrap());
        assert_eq!(state(&here).unwrap(), None);
        assert!(!remove(&here).unwrap(), "there is nothing any more");
        assert_eq!(set_local(&here, addr(NEAR)).unwrap_err().kind(), ErrorKind::NotFound);
    })
    .unwrap();
}

#[test]
fn somebody_elses_tunnel_to_the_same_end_is_adopted_and_never_removed() {
    if !sit() {
        return;
    }
    let (near, _far) = pair();
    let here = tunnel(LinkKind::Sit, FAR, &[("2001:db8:a::1", 64)]);
    near.within(|| {
        sh(&format!("ip link add sixxs0 mtu 1444 type sit local {MOVED} remote {FAR} ttl 55; ip addr add 2001:db8:c::1/64 dev sixxs0"));
        let index = make(&here, addr(NEAR)).unwrap();
        let found = state(&here).unwrap().unwrap();
        assert_eq!((found.index, found.local, found.up, found.ours), (index, Some(addr(NEAR)), true, false));
        let shown = sh("ip -d link show sixxs0; ip addr show dev sixxs0");
        for word in ["mtu 1444", "ttl 55", "2001:db8:a::1/64", "2001:db8:c::1/64"] {
            assert!(shown.contains(word), "no {word:?} in {shown}");
        }
        assert!(!remove(&here).unwrap());
        assert!(state(&here).unwrap().is_some());
    })
    .unwrap();
}

#[test]
fn a_tunnel_to_somewhere_else_is_left_alone() {
    if !sit() {
        return;
    }
    let (near, _far) = pair();
    let here = tunnel(LinkKind::Sit, FAR, &[("2001:db8:a::1", 64)]);
    near.within(|| {
        sh("ip link add sixxs0 type sit local 192.0.2.1 remote 192.0.2.66");
        let before = sh("ip -d link show sixxs0; ip addr show dev sixxs0");
        for error in [make(&here, addr(NEAR)).unwrap_err(), set_local(&here, addr(MOVED)).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert!(error.to_string().contains("it is a sit tunnel to 192.0.2.66 and is left alone"), "{error}");
        }
        assert!(!remove(&here).unwrap());
        assert_eq!(sh("ip -d link show sixxs0; ip addr show dev sixxs0"), before);
    })
    .unwrap();
}

#[test]
fn two_interfaces_cannot_have_the_same_ends_and_the_error_names_the_other() {
    if !sit() {
        return;
    }
    let (near, _far) = pair();
    let here = tunnel(LinkKind::Sit, FAR, &[]);
    near.within(|| {
        sh(&format!("ip link add he6 type sit local {NEAR} remote {FAR}"));
        let error = make(&here, addr(NEAR)).unwrap_err();
        assert!(error.to_string().contains("he6 has the same two ends"), "{error}");
        make(&here, addr(MOVED)).unwrap();
        let error = set_local(&here, addr(NEAR)).unwrap_err();
        assert!(error.to_string().contains("he6 has the same two ends"), "{error}");
        assert_eq!(state(&here).unwrap().unwrap().local, Some(addr(MOVED)));
    })
    .unwrap();
}

#[test]
fn a_gre_tunnel_carries_both_families_and_keeps_its_key_when_it_moves() {
    if !gre() {
        return;
    }
    let (near, far) = pair();
    let here = tunnel(LinkKind::Gre, FAR, &[("198.51.100.1", 24), ("2001:db8:a::1", 64)]);
    let there = tunnel(LinkKind::Gre, NEAR, &[("198.51.100.2", 24), ("2001:db8:a::2", 64)]);
    near.within(|| make(&here, addr(NEAR)).unwrap()).unwrap();
    far.within(|| make(&there, addr(FAR)).unwrap()).unwrap();
    talk(&near, &far, "198.51.100.2");
    talk(&near, &far, "2001:db8:a::2");
    near.within(|| {
        assert!(remove(&here).unwrap());
        sh(&format!("ip link add sixxs0 type gre local {NEAR} remote {FAR} ttl 9 key 7"));
        make(&here, addr(MOVED)).unwrap();
        let shown = sh("ip -d link show sixxs0");
        for word in ["gre remote 192.0.2.2 local 192.0.2.77", "ttl 9", "ikey 0.0.0.7", "okey 0.0.0.7"] {
            assert!(shown.contains(word), "no {word:?} in {shown}");
        }
    })
    .unwrap();
}

#[test]
fn what_is_no_tunnel_is_left_alone() {
    let (near, _far) = pair();
    let mut here = tunnel(LinkKind::Sit, FAR, &[("2001:db8:a::1", 64)]);
    here.interface = "net0".to_owned();
    near.within(|| {
        let before = sh("ip -d link show net0; ip addr show dev net0");
        let error = make(&here, addr(NEAR)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("it is a veth interface and is left alone"), "{error}");
        assert!(set_local(&here, addr(NEAR)).is_err());
        assert!(!remove(&here).unwrap());
        let found = state(&here).unwrap().unwrap();
        assert_eq!((found.kind.as_deref(), found.local, found.remote, found.ours), (Some("veth"), None, None, false));
        assert_eq!(sh("ip -d link show net0; ip addr show dev net0"), before);
        // Somebody may have given it our words; of that name and with those, it is ours to remove. Of another it is not.
        sh("ip link add named0 type veth peer name named1; ip link set named0 alias 'palisade: tunnel sixxs0'");
        here.interface = "named0".to_owned();
        assert!(!remove(&here).unwrap());
    })
    .unwrap();
}

#[test]
fn a_kernel_without_the_module_says_which_to_load() {
    if has("sit", "remote 192.0.2.9") {
        return;
    }
    let (near, _far) = pair();
    let here = tunnel(LinkKind::Sit, FAR, &[]);
    let error = near.within(|| make(&here, addr(NEAR)).unwrap_err()).unwrap();
    assert!(error.to_string().contains("modprobe sit"), "{error}");
    let six = near.within(|| make(&here, addr("2001:db8::1")).unwrap_err()).unwrap();
    assert_eq!(six.kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_way_to_the_far_end_names_our_address() {
    let (near, _far) = pair();
    near.within(|| {
        assert_eq!(local_for(addr(FAR)).unwrap(), Some(addr(NEAR)));
        assert_eq!(local_for(addr("203.0.113.9")).unwrap(), None, "no route");
        assert_eq!(local_for(addr("2001:db8::9")).unwrap(), None, "no route in IPv6 either");
        for kind in ["unreachable", "prohibit", "blackhole"] {
            sh(&format!("ip route replace {kind} 203.0.113.9"));
            assert_eq!(local_for(addr("203.0.113.9")).unwrap(), None, "{kind}");
        }
        sh(&format!("ip route replace 203.0.113.9 via {FAR} src {MOVED}"));
        assert_eq!(local_for(addr("203.0.113.9")).unwrap(), Some(addr(MOVED)));
        // With the first address of a network its others go too.
        sh(&format!("ip addr del {NEAR}/24 dev net0; ip addr add {MOVED}/24 dev net0"));
        assert_eq!(local_for(addr(FAR)).unwrap(), Some(addr(MOVED)), "the only one now");
    })
    .unwrap();
}

#[test]
fn what_is_no_wireguard_has_no_peers() {
    let (near, _far) = pair();
    near.within(|| {
        assert_eq!(wireguard("net0").unwrap(), None);
        assert_eq!(wireguard("nowhere0").unwrap(), None);
    })
    .unwrap();
}

#[test]
fn wireguards_handshakes_are_seen_and_its_secrets_are_not() {
    if !has("wireguard", "") {
        return;
    }
    let (near, far) = pair();
    let keys = || (sh("wg genkey").trim().to_owned(), sh("wg genpsk").trim().to_owned());
    let ((here, shared), (there, _)) = (keys(), keys());
    let public = |key: &str| sh(&format!("echo {key} | wg pubkey")).trim().to_owned();
    let setup = |own: &str, other: &str, address: &str, more: &str| {
        sh(&format!(
            "umask 077; dir=$(mktemp -d); echo {own} >$dir/own; echo {shared} >$dir/shared; ip link add wg0 type wireguard
             wg set wg0 private-key $dir/own listen-port 51820 peer {other} preshared-key $dir/shared allowed-ips 2001:db8:a::/64 {more}
             rm -r $dir; ip addr add {address}/64 dev wg0; ip link set wg0 up"
        ))
    };
    let (public_here, public_there) = (public(&here), public(&there));
    near.within(|| setup(&here, &public_there, "2001:db8:a::1", &format!("endpoint {FAR}:51820 persistent-keepalive 0"))).unwrap();
    let before = near.within(|| wireguard("wg0").unwrap().unwrap()).unwrap();
    assert_eq!((before.0.len(), before.handshake(), before.sent()), (1, None, 0));
    assert_eq!(before.0[0].key.to_string(), public_there);
    assert_eq!(before.0[0].endpoint, Some(format!("{FAR}:51820").parse().unwrap()));

    far.within(|| setup(&there, &public_here, "2001:db8:a::2", "")).unwrap();
    talk(&near, &far, "2001:db8:a::2");
    let until = Instant::now() + Duration::from_secs(20);
    let seen = loop {
        let seen = near.within(|| wireguard("wg0").unwrap().unwrap()).unwrap();
        if seen.handshake().is_some() || Instant::now() > until {
            break seen;
        }
    };
    assert!(seen.handshake().is_some() && seen.sent() > 0 && seen.0[0].rx > 0, "{seen:?}");
    let told: i64 = near.within(|| sh("wg show wg0 latest-handshakes | cut -f2")).unwrap().trim().parse().unwrap();
    assert_eq!(seen.handshake().unwrap().0 / 1000, told);
}

#[test]
fn many_peers_with_many_networks_come_in_pieces_and_are_each_read_once() {
    if !has("wireguard", "") {
        return;
    }
    let near = Netns::new().unwrap();
    near.within(|| {
        // 40 networks to each of 100 peers: more than one message holds, whatever its size.
        sh("ip link add wg0 type wireguard
            for p in $(seq 100); do
                echo '[Peer]'; printf 'PublicKey = '; printf '%032d' $p | base64
                printf 'PersistentKeepalive = %d\n' $p
                printf 'AllowedIPs = '; for n in $(seq 40); do printf '2001:db8:%x:%x::/64,' $p $n; done; echo 2001:db8:$p::/126
            done >/tmp/wg-many.$$; wg addconf wg0 /tmp/wg-many.$$; rm /tmp/wg-many.$$");
        let peers = wireguard("wg0").unwrap().unwrap();
        let mut keepalives: Vec<u64> = peers.0.iter().map(|peer| peer.keepalive.unwrap().as_secs_ceil()).collect();
        keepalives.sort_unstable();
        assert_eq!(keepalives, (1..=100).collect::<Vec<_>>());
    })
    .unwrap();
}
