//! Real packets over a cable between two namespaces.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use palisade_core::bans::wall::{Entry, Frame, Key, Refusal, Step};
use palisade_core::time::{Span, Until};

use super::namespace::{BAD4, BAD6, GOOD4, GOOD6, Peer, SERVER4, SERVER6, WALL4, WALL6, alone, cable, connect, gateway, ping, sh};
use super::{block, did, frame, key, many, now, port_key, replaced};
use crate::block::nftables::Nftables;
use crate::block::{Blocker, Read};

/// How long a packet that does come takes at most; one that does not is waited for as long.
pub(in crate::block) const SOON: Duration = Duration::from_millis(300);

/// An open TCP connection and a UDP pair, from `from` over there to `to` here.
pub(in crate::block) struct Talk {
    pub(in crate::block) here: (TcpStream, UdpSocket),
    pub(in crate::block) there: (TcpStream, UdpSocket),
    round: u8,
}

impl Talk {
    pub(in crate::block) fn open(peer: &Peer, from: &'static str, to: &'static str, port: u16) -> Self {
        let listener = TcpListener::bind((to, port)).unwrap();
        let udp = UdpSocket::bind((to, port)).unwrap();
        let there = peer.run(move || {
            let udp = UdpSocket::bind((from, 0)).unwrap();
            udp.connect((to, port)).unwrap();
            udp.set_read_timeout(Some(SOON)).unwrap();
            (connect(from, to, port).unwrap(), udp)
        });
        let stream = listener.accept().unwrap().0;
        udp.connect(there.1.local_addr().unwrap()).unwrap();
        for (tcp, udp) in [(&stream, &udp), (&there.0, &there.1)] {
            tcp.set_read_timeout(Some(SOON)).unwrap();
            udp.set_read_timeout(Some(SOON)).unwrap();
        }
        Self { here: (stream, udp), there, round: 0 }
    }

    /// What gets through of a byte sent each way: TCP in, TCP out, UDP in, UDP out. Each time another
    /// byte: TCP may deliver an older one late.
    pub(in crate::block) fn carries(&mut self) -> [bool; 4] {
        self.round += 1;
        let round = self.round;
        let udp = |from: &UdpSocket, to: &UdpSocket| from.send(b"u").is_ok() && to.recv(&mut [0; 9]).is_ok();
        let tcp = |from: &mut TcpStream, to: &mut TcpStream| says(from, to, round);
        let (here, there) = (&mut self.here, &mut self.there);
        [tcp(&mut there.0, &mut here.0), tcp(&mut here.0, &mut there.0), udp(&there.1, &here.1), udp(&here.1, &there.1)]
    }
}

#[test]
fn a_ban_cuts_what_is_open_and_a_release_gives_it_back() {
    alone(|| {
        let peer = cable();
        let mut wall = Nftables::open().unwrap();
        did(&mut wall, &[Step::Frame(Frame::default())]);
        for (bad, good, to, ban) in [(BAD4, GOOD4, WALL4, "192.0.2.10/32"), (BAD6, GOOD6, WALL6, "2001:db8:0:1::10/128")] {
            let (mut talk, mut other) = (Talk::open(&peer, bad, to, 7000), Talk::open(&peer, good, to, 7001));
            assert_eq!((talk.carries(), other.carries()), ([true; 4], [true; 4]));
            did(&mut wall, &[block(key(ban), Some(600))]);
            assert_eq!((talk.carries(), other.carries()), ([false; 4], [true; 4]));
            assert!(!peer.run(move || ping(bad, to)) && !ping(to, bad));
            assert!(peer.run(move || ping(good, to)) && ping(to, good));
            assert!(peer.run(move || connect(bad, to, 7000)).is_err());
            let standing = wall.read(Read::All).unwrap().bans[&key(ban)];
            assert!(standing.packets.unwrap() >= 6 && standing.bytes.unwrap() > 200, "{standing:?}");
            did(&mut wall, &[Step::Release(key(ban))]);
            assert!(peer.run(move || ping(bad, to)));
            let asked = Instant::now();
            while talk.carries() != [true; 4] {
                assert!(asked.elapsed() < Duration::from_secs(20), "what was open does not go on");
            }
        }
    });
}

/// How many connections from this address are tracked.
fn tracked(from: &str) -> usize {
    let all = sh("conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
    all.lines().filter(|line| line.contains(&format!("src={from} "))).count()
}

#[test]
fn what_a_gateway_passes_on_is_cut_too() {
    alone(|| {
        let (outside, server) = gateway();
        let mut wall = Nftables::open().unwrap();
        did(&mut wall, &[Step::Frame(Frame::default())]);
        for (bad, good, to, behind, ban) in
            [(BAD4, GOOD4, WALL4, SERVER4, "192.0.2.10/32"), (BAD6, GOOD6, WALL6, SERVER6, "2001:db8:0:1::10/128")]
        {
            let listener = server.run(move || TcpListener::bind((behind, 8080)).unwrap());
            // To the gateway's own address, which is turned to the server; and straight to the server.
            let mut open: Vec<Vec<_>> = Vec::new();
            for from in [bad, good] {
                let reach = |to: &'static str, port| {
                    let there = outside.run(move || connect(from, to, port).unwrap());
                    let here = listener.accept().unwrap().0;
                    here.set_read_timeout(Some(SOON)).unwrap();
                    there.set_read_timeout(Some(SOON)).unwrap();
                    (there, here)
                };
                open.push(vec![reach(to, 80), reach(behind, 8080)]);
            }
            let mut round = 0;
            let mut carries = |open: &mut Vec<Vec<(TcpStream, TcpStream)>>| -> Vec<bool> {
                round += 1;
                open.iter_mut().flatten().flat_map(|(there, here)| [says(there, here, round), says(here, there, round)]).collect()
            };
            assert_eq!(carries(&mut open), [true; 8]);
            assert!(outside.run(move || ping(bad, behind)));
            did(&mut wall, &[block(key(ban), Some(600))]);
            assert_eq!(carries(&mut open), [[false; 4], [true; 4]].concat(), "what was open");
            assert!(tracked(bad) > 0);
            sh(&format!("conntrack -D -f {} -s {bad} 2>/dev/null", if bad.contains(':') { "ipv6" } else { "ipv4" }));
            assert_eq!(carries(&mut open), [[false; 4], [true; 4]].concat(), "and forgotten");
            assert!(!outside.run(move || ping(bad, behind)) && !server.run(move || ping(behind, bad)));
            assert!(outside.run(move || connect(bad, to, 80)).is_err() && outside.run(move || connect(bad, behind, 8080)).is_err());
            assert_eq!(tracked(bad), 0, "nothing of it is tracked");
            let reached = outside.run(move || connect(good, to, 80)).unwrap();
            assert!(outside.run(move || ping(good, behind)) && tracked(good) > 0);
            drop(reached);
            did(&mut wall, &[Step::Release(key(ban))]);
            assert!(outside.run(move || connect(bad, to, 80)).is_ok() && tracked(bad) > 0);
        }
    });
}

/// Whether a byte said on one end of a connection comes out of the other, behind what came late.
pub(in crate::block) fn says(from: &mut TcpStream, to: &mut TcpStream, byte: u8) -> bool {
    let mut got = [0];
    from.write_all(&[byte]).is_ok()
        && std::iter::repeat_with(|| to.read_exact(&mut got).map(|()| got)).map_while(Result::ok).any(|got| got == [byte])
}

#[test]
fn an_allowed_host_in_a_banned_network_is_never_cut_off() {
    alone(|| {
        let peer = cable();
        let mut wall = Nftables::open().unwrap();
        let allowed = frame(&["192.0.2.20/32", "2001:db8:0:1::20/128"]);
        did(&mut wall, &[Step::Frame(allowed.clone())]);
        let cases = [(BAD4, GOOD4, WALL4, key("192.0.2.0/24")), (BAD6, GOOD6, WALL6, key("2001:db8:0:1::/64"))];
        for (bad, good, to, ban) in cases {
            let (mut talk, mut other) = (Talk::open(&peer, bad, to, 7000), Talk::open(&peer, good, to, 7001));
            assert_eq!((talk.carries(), other.carries()), ([true; 4], [true; 4]));
            did(&mut wall, &[block(ban.clone(), None)]);
            // In 192.0.2.0/24 the wall's own address lies too: only what comes from or goes to the far side counts.
            assert_eq!((talk.carries(), other.carries()[0] || to == WALL4, other.carries()[2] || to == WALL4), ([false; 4], true, true));
            let own = Step::Frame(Frame {
                allow: allowed.allow.iter().copied().chain([to.parse::<palisade_core::net::Addr>().unwrap().into()]).collect(),
                ..Frame::default()
            });
            did(&mut wall, &[own]);
            assert_eq!((talk.carries()[2], other.carries()), (false, [true; 4]), "allowed, own address too");
            assert!(!peer.run(move || ping(bad, to)) && peer.run(move || ping(good, to)));
            // By force it is.
            let forced = Key { forced: true, ..key(&format!("{good}/{}", if to == WALL4 { 32 } else { 128 })) };
            did(&mut wall, &[block(forced.clone(), None)]);
            assert_eq!(other.carries(), [false; 4]);
            did(&mut wall, &[Step::Release(forced), Step::Release(ban), Step::Frame(allowed.clone())]);
        }
    });
}

#[test]
fn a_ban_from_ports_leaves_the_others_open() {
    alone(|| {
        let peer = cable();
        let mut wall = Nftables::open().unwrap();
        let mut talks = [22, 80, 7000].map(|port| Talk::open(&peer, BAD4, WALL4, port));
        let ban = port_key("192.0.2.10/32", &[22, 80]);
        did(&mut wall, &[block(ban.clone(), None)]);
        assert_eq!(talks.each_mut().map(Talk::carries), [[false; 4], [false; 4], [true; 4]]);
        assert!(peer.run(|| ping(BAD4, WALL4)));
        let counted = |wall: &mut Nftables| wall.read(Read::All).unwrap().bans[&ban].packets.unwrap();
        let before = counted(&mut wall);
        assert!(before > 0);
        assert!(peer.run(|| ping(BAD4, WALL4)));
        let after = counted(&mut wall);
        // TCP tries again by itself; an echo would add one more.
        assert!(talks[2].carries() == [true; 4] && after < before + 20);
    });
}

#[test]
fn refused_sources_are_told_so() {
    alone(|| {
        let peer = cable();
        let mut wall = Nftables::open().unwrap();
        did(&mut wall, &[Step::Frame(Frame { refusal: Refusal::Reject, ..Frame::default() })]);
        for (bad, to, ban) in [(BAD4, WALL4, "192.0.2.10/32"), (BAD6, WALL6, "2001:db8:0:1::/64")] {
            let mut talk = Talk::open(&peer, bad, to, 7000);
            did(&mut wall, &[block(key(ban), None)]);
            let _listener = TcpListener::bind((to, 7002)).unwrap();
            let error = peer.run(move || connect(bad, to, 7002)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            talk.there.0.write_all(b"t").unwrap();
            let error = talk.there.0.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "an open connection is reset");
            talk.there.1.send(b"u").unwrap();
            let error = talk.there.1.recv(&mut [0; 9]).unwrap_err();
            // ICMP 3/13 and ICMPv6 1/1, as Linux tells them to a UDP socket.
            let prohibited = [libc::EHOSTUNREACH, libc::EACCES];
            assert!(prohibited.contains(&error.raw_os_error().unwrap_or(0)), "{error}");
            assert!(!ping(to, bad));
            did(&mut wall, &[Step::Frame(Frame::default())]);
            let error = peer.run(move || connect(bad, to, 7002)).unwrap_err();
            assert_ne!(error.kind(), ErrorKind::ConnectionRefused, "now it is silent");
            did(&mut wall, &[Step::Release(key(ban)), Step::Frame(Frame { refusal: Refusal::Reject, ..Frame::default() })]);
        }
    });
}

#[test]
fn a_ban_ends_by_itself_and_a_permanent_one_does_not() {
    alone(|| {
        let peer = cable();
        let mut wall = Nftables::open().unwrap();
        did(&mut wall, &[block(key("192.0.2.10/32"), Some(3)), block(key("192.0.2.20/32"), None)]);
        let began = Instant::now();
        assert!(!peer.run(|| ping(BAD4, WALL4)) && !peer.run(|| ping(GOOD4, WALL4)));
        while !peer.run(|| ping(BAD4, WALL4)) {
            assert!(began.elapsed() < Duration::from_secs(20));
        }
        assert!(began.elapsed() >= Duration::from_millis(2900), "it ended early");
        assert!(!peer.run(|| ping(GOOD4, WALL4)));
    });
}

#[test]
fn no_packet_gets_through_while_the_table_is_replaced() {
    alone(|| {
        let peer = cable();
        let mut wall = Nftables::open().unwrap();
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
        let with = |text: &str| many(3000).chain([Entry { key: key(text), until }]).collect::<Vec<_>>();
        replaced(&mut wall, &Frame::default(), &mut with("192.0.2.10/32").into_iter());
        while socket.recv(&mut [0; 9]).is_ok() {}
        let before = sent.load(Ordering::Relaxed);
        for round in 0..60 {
            // Banned by its own address, by its network, by force; dropped and rejected; always banned.
            let ban = ["192.0.2.10/32", "192.0.2.8/29"][round % 2];
            let refusal = if round % 3 == 0 { Refusal::Reject } else { Refusal::Drop };
            let frame = Frame { refusal, ..frame(&["192.0.2.1/32", "198.51.100.0/24"]) };
            replaced(&mut wall, &frame, &mut with(ban).into_iter());
            did(&mut wall, &[block(key(ban), Some(500)), block(key("198.51.100.0/25"), None), Step::Frame(Frame::default())]);
        }
        let during = sent.load(Ordering::Relaxed) - before;
        socket.set_nonblocking(true).unwrap();
        let got = socket.recv(&mut [0; 9]).is_ok();
        stop.store(true, Ordering::Relaxed);
        assert!(during > 1000, "a flood of only {during}");
        assert!(!got, "of {during} packets at least one got through");
    });
}
