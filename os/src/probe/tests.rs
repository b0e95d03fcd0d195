//! Against the real kernel: a host with two uplinks to one far end, in namespaces of their own. Needs root, iproute2
//! and nftables.

use std::process::Command;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::netns::Netns;

/// The far end behind both uplinks, and the host's source on each.
const FAR: [&str; 2] = ["192.0.2.200", "2001:db8:ff::1"];
const NEAR: [[&str; 2]; 2] = [["198.51.100.2", "203.0.113.2"], ["2001:db8:1::2", "2001:db8:2::2"]];

struct Lab {
    host: Netns,
    far: Netns,
}

#[track_caller]
fn sh(netns: &Netns, script: &str) -> String {
    let out = netns.within(|| Command::new("sh").args(["-ec", script]).output().unwrap()).unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

impl Lab {
    fn new() -> Self {
        let lab = Self { host: Netns::new().unwrap(), far: Netns::new().unwrap() };
        let mut wiring = lab.host.wiring().unwrap();
        wiring.cable("wan1", &lab.far, "far1").unwrap();
        wiring.cable("wan2", &lab.far, "far2").unwrap();
        sh(
            &lab.far,
            "ip link set lo up; ip addr add 192.0.2.200/32 dev lo; ip addr add 2001:db8:ff::1/128 dev lo
             ip addr add 198.51.100.1/24 dev far1; ip addr add 203.0.113.1/24 dev far2
             ip addr add 2001:db8:1::1/64 dev far1 nodad; ip addr add 2001:db8:2::1/64 dev far2 nodad
             ip link set far1 up; ip link set far2 up
             nft 'table inet far { counter by1 { }; counter by2 { };
               chain pre { type filter hook prerouting priority 0;
                 iifname far1 ip saddr 198.51.100.2 icmp type echo-request counter name by1
                 iifname far2 ip saddr 203.0.113.2 icmp type echo-request counter name by2
                 iifname far1 ip6 saddr 2001:db8:1::2 icmpv6 type echo-request counter name by1
                 iifname far2 ip6 saddr 2001:db8:2::2 icmpv6 type echo-request counter name by2
               };
             }'",
        );
        // Main knows the first uplink; the second is reached by mark alone.
        sh(
            &lab.host,
            "ip link set lo up; ip addr add 198.51.100.2/24 dev wan1; ip addr add 203.0.113.2/24 dev wan2
             ip addr add 2001:db8:1::2/64 dev wan1 nodad; ip addr add 2001:db8:2::2/64 dev wan2 nodad
             ip link set wan1 up; ip link set wan2 up
             ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:1::1
             ip route add default via 203.0.113.1 table 202; ip -6 route add default via 2001:db8:2::1 table 202
             ip rule add pref 4000 fwmark 0x2000000/0x7f000000 lookup 202
             ip -6 rule add pref 4000 fwmark 0x2000000/0x7f000000 lookup 202",
        );
        lab
    }

    fn prober(&self, from: &str, mark: Option<u32>, interface: Option<&str>) -> io::Result<Prober> {
        self.host.within(|| Prober::open(addr(from), mark.map(Mark), interface)).unwrap()
    }

    /// How many requests came to the far end by each uplink with its own source.
    fn seen(&self) -> [u64; 2] {
        [1, 2].map(|by| {
            let text = sh(&self.far, &format!("nft list counter inet far by{by}"));
            text.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse().unwrap()
        })
    }
}

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

fn readable(prober: &Prober, milliseconds: i32) -> bool {
    let mut fd = libc::pollfd { fd: prober.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd is given; the kernel writes only its `revents`.
    unsafe { libc::poll(&raw mut fd, 1, milliseconds) == 1 }
}

/// The answers that come until there are so many.
#[track_caller]
fn answers(prober: &mut Prober, count: usize) -> Vec<Answer> {
    let begin = Instant::now();
    let mut all = Vec::new();
    while all.len() < count {
        assert!(begin.elapsed() < Duration::from_secs(20), "only {all:?}");
        if readable(prober, 1000) {
            all.extend(prober.receive().unwrap());
        }
    }
    all
}

#[test]
fn each_uplink_is_asked_from_its_source_and_answers_by_itself() {
    let lab = Lab::new();
    let before = clock::now().tick;
    for (family, far) in FAR.iter().enumerate() {
        let mut first = lab.prober(NEAR[family][0], None, Some("wan1")).unwrap();
        let mut second = lab.prober(NEAR[family][1], Some(0x0200_0000), None).unwrap();
        for (prober, seq, size) in [(&mut first, 7, 0), (&mut second, 0xffff, 1 << 20)] {
            let seen = lab.seen();
            prober.send(addr(far), seq, size).unwrap();
            let [answer] = answers(prober, 1).try_into().unwrap();
            assert_eq!((answer.from, answer.seq), (addr(far), seq));
            assert!(answer.at >= before && answer.at <= clock::now().tick);
            let by: Vec<u64> = lab.seen().iter().zip(seen).map(|(now, before)| now - before).collect();
            assert_eq!(by, if seq == 7 { [1, 0] } else { [0, 1] });
        }
        // Without its mark, a request with the second's source goes by the first: that it does not count here is the mark's doing.
        let seen = lab.seen();
        let mut astray = lab.prober(NEAR[family][1], None, None).unwrap();
        astray.send(addr(far), 1, 8).unwrap();
        answers(&mut astray, 1);
        assert_eq!(lab.seen(), seen);
    }
}

#[test]
fn who_drops_does_not_answer_and_several_are_told_apart() {
    let lab = Lab::new();
    for (family, far) in FAR.iter().enumerate() {
        let near = if family == 0 { "198.51.100.1" } else { "2001:db8:1::1" };
        let mut prober = lab.prober(NEAR[family][0], None, None).unwrap();
        let [ip, icmp] = [["ip", "icmp"], ["ip6", "icmpv6"]][family];
        sh(
            &lab.far,
            &format!(
                "nft add chain inet far in {{ type filter hook input priority 0\\; }}; nft add rule inet far in {ip} daddr {far} {icmp} type echo-request drop"
            ),
        );
        let seen = lab.seen()[0];
        for seq in 0..3 {
            prober.send(addr(far), seq, 8).unwrap();
            prober.send(addr(near), seq, 8).unwrap();
        }
        let got = answers(&mut prober, 3);
        assert!(got.iter().all(|answer| answer.from == addr(near)), "{got:?}");
        assert_eq!(got.iter().map(|answer| answer.seq).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(lab.seen()[0], seen + 6, "all were asked");
        assert_eq!(prober.open.len(), 3);
    }
}

/// Sends an echo reply that somebody at the far end made up.
fn forge(lab: &Lab, from: &str, to: &str, id: u16, seq: u16, nonce: [u8; NONCE]) {
    let family = addr(from).family();
    let mut message = request(family, id, seq, nonce, 8);
    message[0] = types(family).answers;
    if family == Family::V4 {
        message[2..4].fill(0);
        let sum = !sum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    lab.far
        .within(|| {
            let fd = raw(family).unwrap();
            let (storage, len) = address(addr(from));
            // SAFETY: the storage is live for the call and holds an address of `len` bytes.
            assert_eq!(unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), len) }, 0);
            let (storage, len) = address(addr(to));
            let (data, size) = (message.as_ptr().cast(), message.len());
            // SAFETY: message and address are live for the call, with their own lengths.
            let sent = unsafe { libc::sendto(fd.as_raw_fd(), data, size, 0, (&raw const storage).cast(), len) };
            assert_eq!(usize::try_from(sent).unwrap(), size, "{}", io::Error::last_os_error());
        })
        .unwrap();
}

#[test]
fn a_forged_reply_is_ignored_and_a_true_one_told_once() {
    let lab = Lab::new();
    for (family, far) in FAR.iter().enumerate() {
        let ip = ["ip", "ip6"][family];
        sh(
            &lab.far,
            &format!(
                "nft add chain inet far in {{ type filter hook input priority 0\\; }}; nft add rule inet far in {ip} daddr {far} meta l4proto {{ icmp, icmpv6 }} drop"
            ),
        );
        let near = NEAR[family][0];
        let mut prober = lab.prober(near, None, None).unwrap();
        prober.send(addr(far), 5, 8).unwrap();
        let Asked { nonce, .. } = prober.open[0];
        let id = prober.id;
        let other = if family == 0 { "198.51.100.1" } else { "2001:db8:1::1" };
        let mut wrong = nonce;
        wrong[7] ^= 1;
        forge(&lab, far, near, id, 5, wrong); // off the way: has not seen the request
        forge(&lab, far, near, id, 5, [0; 8]);
        forge(&lab, far, near, id, 6, nonce);
        forge(&lab, far, near, id ^ 1, 5, nonce); // an answer to somebody else
        forge(&lab, other, near, id, 5, nonce); // another one's answer
        forge(&lab, far, near, id, 5, nonce);
        forge(&lab, far, near, id, 5, nonce); // a copy
        let [answer] = answers(&mut prober, 1).try_into().unwrap();
        assert_eq!((answer.from, answer.seq), (addr(far), 5));
        assert!(prober.open.is_empty());
        // What is left in the queue says nothing more.
        prober.send(addr(other), 9, 8).unwrap();
        assert_eq!(answers(&mut prober, 1)[0].seq, 9);
        assert_eq!(prober.receive().unwrap(), []);
    }
}

#[test]
fn only_answers_wake_us() {
    let lab = Lab::new();
    for (family, near) in NEAR.iter().map(|near| near[0]).enumerate() {
        let quiet = lab.prober(near, None, None).unwrap();
        // Asked itself, the host answers; the same socket is told nothing of that.
        let mut asking = lab.far.within(|| Prober::open(addr(FAR[family]), None, None).unwrap()).unwrap();
        asking.send(addr(near), 1, 8).unwrap();
        assert_eq!(answers(&mut asking, 1)[0].from, addr(near));
        assert!(!readable(&quiet, 0));
        drop(quiet);
    }
}

#[test]
fn what_passes_is_told_from_what_stays() {
    let lab = Lab::new();
    let passing = |error: io::Error, errno: i32| assert!(passes(&error) && error.raw_os_error() == Some(errno), "{error:?}");
    for (family, near) in NEAR.iter().enumerate() {
        let absent = ["198.51.100.77", "2001:db8:1::77"][family];
        passing(lab.prober(absent, None, None).unwrap_err(), libc::EADDRNOTAVAIL);
        passing(lab.prober(near[0], None, Some("tun7")).unwrap_err(), libc::ENODEV);
        let mut prober = lab.prober(near[0], None, None).unwrap();
        assert!(!passes(&prober.send(addr(FAR[1 - family]), 1, 8).unwrap_err()), "the other family never works");
        let ip = ["ip", "ip -6"][family];
        for (kind, errno) in [("unreachable", libc::EHOSTUNREACH), ("prohibit", libc::EACCES), ("blackhole", libc::EINVAL)] {
            sh(&lab.host, &format!("{ip} route add {kind} {}", FAR[family]));
            passing(prober.send(addr(FAR[family]), 1, 8).unwrap_err(), errno);
            sh(&lab.host, &format!("{ip} route del {kind} {}", FAR[family]));
        }
        sh(&lab.host, &format!("{ip} route del default"));
        passing(prober.send(addr(FAR[family]), 1, 8).unwrap_err(), libc::ENETUNREACH);
        assert!(prober.open.is_empty(), "nothing is waited for");
    }
    for wrong in ["", "a-name-of-sixteen"] {
        let error = lab.prober(NEAR[0][0], None, Some(wrong)).unwrap_err();
        assert!(!passes(&error) && error.kind() == io::ErrorKind::InvalidInput);
    }
    sh(&lab.host, "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
    passing(lab.prober(NEAR[1][0], None, None).unwrap_err(), libc::EADDRNOTAVAIL);
}

#[test]
fn an_interface_that_goes_is_no_end() {
    let lab = Lab::new();
    // Else its IPv6 address would go with it.
    sh(&lab.host, "echo 1 > /proc/sys/net/ipv6/conf/all/keep_addr_on_down; echo 1 > /proc/sys/net/ipv6/conf/wan2/keep_addr_on_down");
    for (near, far) in NEAR.iter().map(|near| near[1]).zip(FAR) {
        sh(&lab.host, "ip link set wan2 up");
        let mut prober = lab.prober(near, Some(0x0200_0000), Some("wan2")).unwrap();
        sh(&lab.host, "ip link set wan2 down");
        let error = prober.send(addr(far), 1, 8).unwrap_err();
        assert!(passes(&error), "{error:?}");
        match prober.receive() {
            Ok(none) => assert_eq!(none, []),
            Err(error) => assert!(passes(&error), "{error:?}"),
        }
    }
}

#[test]
fn without_the_right_it_says_so() {
    let lab = Lab::new();
    let error = lab.host.within(|| {
        // SAFETY: plain system call; as such, other than through libc, it changes the calling thread alone.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        Prober::open(addr(NEAR[0][0]), None, None).unwrap_err()
    });
    let error = error.unwrap();
    assert!(!passes(&error) && error.kind() == io::ErrorKind::PermissionDenied && error.to_string().contains("CAP_NET_RAW"), "{error}");
}

#[test]
fn the_oldest_open_request_is_given_up() {
    let lab = Lab::new();
    let mut prober = lab.prober(NEAR[0][0], None, Some("wan1")).unwrap();
    sh(&lab.far, "nft 'add chain inet far in { type filter hook input priority 0; policy drop; }'");
    for seq in 0..u16::try_from(OPEN).unwrap() + 10 {
        prober.send(addr(FAR[0]), seq, 8).or_else(|error| if passes(&error) { Ok(()) } else { Err(error) }).unwrap();
    }
    assert!(prober.open.len() <= OPEN);
}

#[test]
fn the_sum_is_that_of_rfc_1071() {
    assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    assert_eq!(sum(&[0xff; 64]), 0xffff);
    assert_eq!(sum(&request(Family::V4, 7, 9, [3; 8], 33)), 0xffff);
}

proptest! {
    #[test]
    fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..120), v6: bool) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let _ = Reply::parse(family, addr(FAR[usize::from(v6)]), &bytes);
    }

    #[test]
    fn only_whole_and_right_replies_are_read(id: u16, seq: u16, nonce: [u8; 8], cut in 0usize..44, options in 5u8..16) {
        let from = addr(FAR[0]);
        let mut message = request(Family::V4, id, seq, nonce, 16);
        message[0] = 0;
        message[2..4].fill(0);
        let right = !sum(&message);
        message[2..4].copy_from_slice(&right.to_be_bytes());
        let mut datagram = vec![0; usize::from(options) * 4];
        datagram[0] = 0x40 | options;
        datagram.extend(&message);
        prop_assert_eq!(Reply::parse(Family::V4, from, &datagram), Some(Reply { from, id, seq, nonce }));
        prop_assert_eq!(Reply::parse(Family::V4, addr(FAR[1]), &datagram), None);
        let last = datagram.len() - 1;
        datagram[last] ^= 1;
        prop_assert_eq!(Reply::parse(Family::V4, from, &datagram), None, "a wrong sum");
        datagram[last] ^= 1;
        let header = usize::from(options) * 4;
        datagram.truncate(cut.min(header + 15));
        prop_assert_eq!(Reply::parse(Family::V4, from, &datagram), None, "cut short");
    }
}
