//! Real packets over a cable between two namespaces, and through a gateway.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use palisade_core::bans::wall::{Entry, Frame, Key, Refusal, Step};
use palisade_core::time::{Span, Until};

use super::{Which, block, did, frame, key, many, now, over_all, port_key, replaced};
use crate::block::Read;
use crate::block::nftables::tests::namespace::{
    BAD4, BAD6, GOOD4, GOOD6, INNER4, INNER6, SERVER4, SERVER6, WALL4, WALL6, alone, cable, connect, gateway, ping, sh,
};
use crate::block::nftables::tests::packets::{SOON, Talk, says};

impl Which {
    /// Whether this is what gets through of TCP in, TCP out, UDP in, UDP out. iptables alone asks where packets
    /// come from only: what goes out goes out, TCP until it misses an answer.
    const fn is_cut(self, carries: [bool; 4]) -> bool {
        !carries[0] && !carries[2] && if self.is_ipset() { !carries[1] && !carries[3] } else { carries[3] }
    }
}

fn a_ban_cuts_what_is_open_and_a_release_gives_it_back(which: Which) {
    alone(move || {
        let peer = cable();
        let mut wall = which.open();
        did(wall.as_mut(), &[Step::Frame(Frame::default())]);
        for (bad, good, to, bans) in
            [(BAD4, GOOD4, WALL4, ["192.0.2.10/32", "192.0.2.8/29"]), (BAD6, GOOD6, WALL6, ["2001:db8:0:1::10/128", "2001:db8:0:1::/123"])]
        {
            // Other ports each time: what another thread starts may hold the closed ones open for a moment.
            for (ban, port) in bans.into_iter().zip([7000, 7100]) {
                let (mut talk, mut other) = (Talk::open(&peer, bad, to, port), Talk::open(&peer, good, to, port + 1));
                assert_eq!((talk.carries(), other.carries()), ([true; 4], [true; 4]));
                did(wall.as_mut(), &[block(key(ban), Some(600))]);
                assert!(which.is_cut(talk.carries()) && other.carries() == [true; 4], "{ban}");
                assert!(!peer.run(move || ping(bad, to)) && !ping(to, bad));
                assert!(peer.run(move || ping(good, to)) && ping(to, good));
                assert!(peer.run(move || connect(bad, to, port)).is_err());
                let standing = wall.read(Read::All).unwrap().bans[&key(ban)];
                assert!(!which.is_ipset() || standing.packets.unwrap() >= 6 && standing.bytes.unwrap() > 200, "{standing:?}");
                did(wall.as_mut(), &[Step::Release(key(ban))]);
                assert!(peer.run(move || ping(bad, to)));
                let asked = Instant::now();
                while talk.carries() != [true; 4] {
                    assert!(asked.elapsed() < Duration::from_secs(20), "what was open does not go on");
                }
            }
        }
        assert!(ping("127.0.0.1", "127.0.0.1"));
        did(wall.as_mut(), &[block(key("0.0.0.0/0"), None), block(Key { forced: true, ..key("127.0.0.0/8") }, None)]);
        assert!(ping("127.0.0.1", "127.0.0.1"), "loopback passes whatever is banned");
        assert!(!peer.run(|| ping(GOOD4, WALL4)) && peer.run(|| ping(GOOD6, WALL6)));
    });
}

/// As Docker has it: a bridge, behind it a server, to which a port of ours is passed on.
fn what_a_gateway_passes_on_is_cut_too(which: Which) {
    alone(move || {
        let (outside, server) = gateway();
        sh("ip link add br0 type bridge; ip addr flush dev w1; ip link set w1 master br0; ip link set br0 up");
        sh(&format!("ip addr add {INNER4}/24 dev br0; ip addr add {INNER6}/48 dev br0 nodad"));
        let mut wall = which.open();
        did(wall.as_mut(), &[Step::Frame(Frame::default())]);
        for (bad, good, to, behind, ban) in
            [(BAD4, GOOD4, WALL4, SERVER4, "192.0.2.10/32"), (BAD6, GOOD6, WALL6, SERVER6, "2001:db8:0:1::10/128")]
        {
            let listener = server.run(move || TcpListener::bind((behind, 8080)).unwrap());
            let mut open = Vec::new();
            for from in [bad, good] {
                // To the gateway's own address, which is turned to the server; and straight to the server.
                for (to, port) in [(to, 80), (behind, 8080)] {
                    let there = outside.run(move || connect(from, to, port).unwrap());
                    let here = listener.accept().unwrap().0;
                    here.set_read_timeout(Some(SOON)).unwrap();
                    there.set_read_timeout(Some(SOON)).unwrap();
                    open.push((there, here));
                }
            }
            let mut round = 0;
            let mut arrives = |open: &mut Vec<(TcpStream, TcpStream)>| -> Vec<bool> {
                round += 1;
                open.iter_mut().map(|(there, here)| says(there, here, round)).collect()
            };
            assert_eq!(arrives(&mut open), [true; 4]);
            did(wall.as_mut(), &[block(key(ban), Some(600))]);
            assert_eq!(arrives(&mut open), [false, false, true, true]);
            assert!(!outside.run(move || ping(bad, behind)) && !server.run(move || ping(behind, bad)));
            assert!(outside.run(move || connect(bad, to, 80)).is_err() && outside.run(move || connect(bad, behind, 8080)).is_err());
            assert!(outside.run(move || connect(good, to, 80)).is_ok() && outside.run(move || ping(good, behind)));
            if which.is_ipset() {
                let (there, here) = &mut open[0];
                assert!(!says(here, there, 77), "nor is it answered");
            }
            did(wall.as_mut(), &[Step::Release(key(ban))]);
            assert!(outside.run(move || connect(bad, to, 80)).is_ok());
        }
    });
}

fn an_allowed_host_in_a_banned_network_is_never_cut_off(which: Which) {
    alone(move || {
        let peer = cable();
        let mut wall = which.open();
        let allowed = frame(&["192.0.2.20/32", "192.0.2.1/32", "2001:db8:0:1::20/128", "2001:db8::1/128"]);
        did(wall.as_mut(), &[Step::Frame(allowed.clone())]);
        for (bad, good, to, ban) in [(BAD4, GOOD4, WALL4, key("192.0.2.0/24")), (BAD6, GOOD6, WALL6, key("2001:db8::/32"))] {
            let (mut talk, mut other) = (Talk::open(&peer, bad, to, 7000), Talk::open(&peer, good, to, 7001));
            assert_eq!((talk.carries(), other.carries()), ([true; 4], [true; 4]));
            did(wall.as_mut(), &[block(ban.clone(), None)]);
            assert!(which.is_cut(talk.carries()) && other.carries() == [true; 4]);
            // By force it is.
            let forced = Key { forced: true, ..key(&format!("{good}/{}", if to == WALL4 { 32 } else { 128 })) };
            did(wall.as_mut(), &[block(forced.clone(), None)]);
            assert!(which.is_cut(other.carries()));
            did(wall.as_mut(), &[Step::Release(forced), Step::Release(ban.clone())]);
            assert!(peer.run(move || ping(bad, to)) && peer.run(move || ping(good, to)));
            did(wall.as_mut(), &[block(ban.clone(), None), Step::Frame(frame(&["192.0.2.1/32"]))]);
            assert!(!peer.run(move || ping(good, to)), "no longer on the list");
            did(wall.as_mut(), &[Step::Release(ban), Step::Frame(allowed.clone())]);
        }
    });
}

fn a_ban_from_ports_leaves_the_others_open(which: Which) {
    alone(move || {
        let peer = cable();
        let mut wall = which.open();
        let mut talks = [22, 80, 7000].map(|port| Talk::open(&peer, BAD4, WALL4, port));
        let some: Vec<u16> = [22, 80].into_iter().chain(1000..1020).collect();
        for ban in [port_key("192.0.2.10/32", &[22, 80]), port_key("192.0.2.0/28", &some)] {
            did(wall.as_mut(), &[block(ban.clone(), None)]);
            let carries = talks.each_mut().map(Talk::carries);
            assert!(which.is_cut(carries[0]) && which.is_cut(carries[1]) && carries[2] == [true; 4], "{carries:?}");
            assert!(peer.run(|| ping(BAD4, WALL4)));
            did(wall.as_mut(), &[Step::Release(ban)]);
            let asked = Instant::now();
            while talks.each_mut().map(Talk::carries) != [[true; 4]; 3] {
                assert!(asked.elapsed() < Duration::from_secs(20), "what was open does not go on");
            }
        }
    });
}

fn refused_sources_are_told_so(which: Which) {
    alone(move || {
        let peer = cable();
        let mut wall = which.open();
        did(wall.as_mut(), &[Step::Frame(Frame { refusal: Refusal::Reject, ..Frame::default() })]);
        for (bad, to, ban) in [(BAD4, WALL4, "192.0.2.10/32"), (BAD6, WALL6, "2001:db8:0:1::/64")] {
            let mut talk = Talk::open(&peer, bad, to, 7000);
            did(wall.as_mut(), &[block(key(ban), None)]);
            let _listener = TcpListener::bind((to, 7002)).unwrap();
            let error = peer.run(move || connect(bad, to, 7002)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            talk.there.0.write_all(b"t").unwrap();
            let error = talk.there.0.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "an open connection is reset");
            talk.there.1.send(b"u").unwrap();
            let error = talk.there.1.recv(&mut [0; 9]).unwrap_err();
            // ICMP 3/13 and ICMPv6 1/1, as Linux tells them to a UDP socket.
            assert!([libc::EHOSTUNREACH, libc::EACCES].contains(&error.raw_os_error().unwrap_or(0)), "{error}");
            assert!(!ping(to, bad));
            did(wall.as_mut(), &[Step::Frame(Frame::default())]);
            let error = peer.run(move || connect(bad, to, 7002)).unwrap_err();
            assert_ne!(error.kind(), ErrorKind::ConnectionRefused, "now it is silent");
            did(wall.as_mut(), &[Step::Release(key(ban)), Step::Frame(Frame { refusal: Refusal::Reject, ..Frame::default() })]);
        }
    });
}

fn no_packet_gets_through_while_the_wall_is_replaced(which: Which) {
    alone(move || {
        let peer = cable();
        let mut wall = which.open();
        let socket = UdpSocket::bind((WALL4, 7000)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        peer.start(move || {
            let flood = UdpSocket::bind((BAD4, 0)).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                if flood.send_to(b"x", (WALL4, 7000)).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        assert!(socket.recv(&mut [0; 9]).is_ok(), "it comes in before");
        let until = Until::At(now().plus(Span::secs(600)));
        let with = |text: &str| many(200).chain([Entry { key: key(text), until }]).collect::<Vec<_>>();
        replaced(wall.as_mut(), &Frame::default(), &mut with("192.0.2.10/32").into_iter());
        while socket.recv(&mut [0; 9]).is_ok() {}
        let before = sent.load(Ordering::Relaxed);
        for round in 0..8 {
            // Banned by its own address and by its network, dropped and rejected, with many and with few: always banned.
            let ban = ["192.0.2.10/32", "192.0.2.8/29"][round % 2];
            let refusal = if round % 3 == 0 { Refusal::Reject } else { Refusal::Drop };
            let frame = Frame { refusal, ..frame(&["192.0.2.1/32", "198.51.100.0/24"]) };
            replaced(wall.as_mut(), &frame, &mut with(ban).into_iter());
            did(wall.as_mut(), &[block(key(ban), Some(500)), block(key("198.51.100.0/25"), None), Step::Frame(Frame::default())]);
            which.sh("t4 -I INPUT -p tcp -j ACCEPT");
            replaced(wall.as_mut(), &Frame::default(), &mut with("192.0.2.0/24").into_iter());
            which.sh("t4 -D INPUT -p tcp -j ACCEPT");
        }
        let during = sent.load(Ordering::Relaxed) - before;
        socket.set_nonblocking(true).unwrap();
        let got = socket.recv(&mut [0; 9]).is_ok();
        stop.store(true, Ordering::Relaxed);
        assert!(during > 1000, "a flood of only {during}");
        assert!(!got, "of {during} packets at least one got through");
    });
}

over_all!(
    a_ban_cuts_what_is_open_and_a_release_gives_it_back,
    what_a_gateway_passes_on_is_cut_too,
    an_allowed_host_in_a_banned_network_is_never_cut_off,
    a_ban_from_ports_leaves_the_others_open,
    refused_sources_are_told_so,
    no_packet_gets_through_while_the_wall_is_replaced,
);
