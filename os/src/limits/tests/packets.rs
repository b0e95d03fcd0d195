//! What limits do to packets.

use super::*;
use palisade_core::flood::flow::{TCP, UDP};

/// How many flows a limit may have let through since `begin`.
fn at_most(begin: Instant, rate: u64, burst: u64) -> u64 {
    burst + rate * (begin.elapsed().as_secs() + 1)
}

#[test]
fn a_source_is_held_to_its_rate_and_all_else_goes_on() {
    let lab = Lab::new();
    let server = listen(&lab.server, "198.51.100.2:80");
    let to = "198.51.100.2:80";
    let mut old = joined(&lab.client, "192.0.2.2", to, &server);
    echoes(&mut old);
    let bad = source("192.0.2.2/32");
    let begin = Instant::now();
    lab.set(&limits(vec![limit(bad, 1, 5)]));
    let opened = lab.client.within(|| (0..40).filter(|_| bound("192.0.2.2", to, Duration::from_millis(50)).is_ok()).count()).unwrap();
    let most = at_most(begin, 1, 5);
    assert!(opened as u64 <= most, "{opened} of at most {most}");
    assert!(lab.dropped()[&bad] > 0);
    // A first packet that is dropped leaves nothing.
    let states = lab.states(&["src=192.0.2.2 ", "dport=80 "]).len() as u64;
    assert!(states <= 1 + at_most(begin, 1, 5), "{states}");
    echoes(&mut old);
    while server.set_nonblocking(true).is_ok() && server.accept().is_ok() {}
    server.set_nonblocking(false).unwrap();
    for _ in 0..10 {
        echoes(&mut joined(&lab.client, "192.0.2.3", to, &server));
    }
    // From the server to the client, too: its flows are its own.
    let back = listen(&lab.client, "192.0.2.2:81");
    echoes(&mut joined(&lab.server, SERVER, "192.0.2.2:81", &back));
    lab.set(&Wanted::default());
    for _ in 0..20 {
        echoes(&mut joined(&lab.client, "192.0.2.2", to, &server));
    }
}

#[test]
fn datagrams_of_one_flow_are_no_new_flows() {
    let lab = Lab::new();
    let sink = sink(&lab.server, "198.51.100.2:9");
    let bad = source("192.0.2.2/32");
    let begin = Instant::now();
    lab.set(&limits(vec![limit(bad, 1, 3)]));
    // The first flow is let through, and what follows in it, though nobody ever answers.
    let stream = lab.client.within(|| UdpSocket::bind("192.0.2.2:0").unwrap()).unwrap();
    for _ in 0..30 {
        stream.send_to(b"?", "198.51.100.2:9").unwrap();
    }
    let mut came = 0;
    soon("all of the stream", || {
        came += arrived(&sink).len();
        came == 30
    });
    assert_eq!(lab.dropped()[&bad], 0);
    open(&lab.client, "192.0.2.2", "198.51.100.2:9", 40);
    soon("each passed or dropped", || lab.dropped()[&bad] + lab.states(&["src=192.0.2.2 "]).len() as u64 == 41);
    assert!(lab.dropped()[&bad] >= 41u64.saturating_sub(at_most(begin, 1, 3)));
    // Another source's are all there.
    open(&lab.client, "192.0.2.3", "198.51.100.2:9", 20);
    soon("another source's flows", || lab.states(&["src=192.0.2.3 "]).len() == 20);
}

#[test]
fn a_net_of_ipv6_shares_one_limit() {
    let lab = Lab::new();
    let net = source("2001:db8:1::/64");
    let to = format!("[{SERVER6}]:9");
    let begin = Instant::now();
    lab.set(&limits(vec![limit(net, 1, 4)]));
    for from in ["2001:db8:1::2", "2001:db8:1::3"] {
        open(&lab.client, from, &to, 20);
    }
    open(&lab.client, "2001:db8:2::2", &to, 20);
    let through = || lab.states(&["src=2001:db8:1::"]).len() as u64;
    soon("each passed or dropped", || lab.dropped()[&net] + through() == 40);
    soon("another net's flows", || lab.states(&["src=2001:db8:2::2 "]).len() == 20);
    let most = at_most(begin, 1, 4);
    assert!(through() <= most && through() > 0, "{} of at most {most}", through());
}

#[test]
fn local_processes_are_told_by_their_user() {
    let lab = Lab::new();
    let nobody = Culprit::Local { uid: 12345, protocol: UDP, port: 53 };
    let anywhere = Culprit::Local { uid: 12346, protocol: UDP, port: 0 };
    let other_protocol = Culprit::Local { uid: 12347, protocol: TCP, port: 0 };
    let begin = Instant::now();
    lab.set(&limits([nobody, anywhere, other_protocol].map(|whose| limit(whose, 1, 3)).into()));
    let run = |uid: u32, port: u16| {
        open_as(&lab.gateway, uid, "198.51.100.1", &format!("{SERVER}:{port}"), 20);
        open_as(&lab.gateway, uid, "2001:db8:5::1", &format!("[{SERVER6}]:{port}"), 20);
    };
    run(12345, 53);
    run(12345, 54);
    run(0, 55);
    run(12346, 56);
    run(12347, 57);
    let through = |port: u16| {
        lab.states(&[&format!("dport={port} "), "[UNREPLIED] src=198.51.100.2"]).len()
            + lab.states(&[&format!("dport={port} "), "[UNREPLIED] src=2001:db8:5::2"]).len()
    };
    // The server's own refusals (ICMP) make no flow replied: each flow is one line.
    let dropped = lab.dropped();
    for (culprit, port) in [(nobody, 53), (anywhere, 56)] {
        let most = at_most(begin, 1, 3);
        let passed = through(port) as u64;
        assert!(passed <= most && passed > 0, "{port}: {passed} of at most {most}");
        assert_eq!(dropped[&culprit] + passed, 40, "{port}");
    }
    assert_eq!(dropped[&other_protocol], 0);
    for port in [54, 55, 57] {
        assert_eq!(through(port), 40, "{port}");
    }
}

#[test]
fn this_hosts_own_address_is_a_source_and_counts_once() {
    let lab = Lab::new();
    let own = source("198.51.100.1/32");
    lab.set(&limits(vec![limit(own, 1, 12)]));
    // Through the loopback: seen on its way out and on its way in again.
    open(&lab.gateway, "198.51.100.1", "198.51.100.1:9", 10);
    assert_eq!(lab.dropped()[&own], 0);
    let begin = Instant::now();
    open(&lab.gateway, "198.51.100.1", "198.51.100.2:9", 40);
    let passed = lab.states(&["src=198.51.100.1 dst=198.51.100.2 "]).len() as u64;
    assert_eq!(lab.dropped()[&own] + passed, 40);
    assert!(passed <= at_most(begin, 1, 12), "{passed}");
}

#[test]
fn a_crowd_is_told_by_where_it_sends_to() {
    let lab = Lab::new();
    let crowd = Culprit::Crowd { to: "192.0.2.1:5300/udp".parse().unwrap() };
    let begin = Instant::now();
    lab.set(&limits(vec![limit(crowd, 1, 6)]));
    for from in ["192.0.2.2", "192.0.2.3"] {
        open(&lab.client, from, "192.0.2.1:5300", 20);
        open(&lab.client, from, "198.51.100.2:53", 20);
        open(&lab.client, from, "192.0.2.1:5301", 20);
    }
    let through = || lab.states(&["dst=192.0.2.1 ", "dport=5300 ", "src=198.51.100.2 "]).len() as u64;
    soon("each passed or dropped", || lab.dropped()[&crowd] + through() == 40);
    soon("what goes to the server itself", || lab.states(&["dport=53 "]).len() == 40);
    soon("what goes to another port", || lab.states(&["dport=5301 "]).len() == 40);
    let most = at_most(begin, 1, 6);
    assert!(through() <= most && through() > 0, "{} of at most {most}", through());
}

#[test]
fn a_limit_keeps_its_fill_and_its_count_when_others_come_and_go() {
    let lab = Lab::new();
    let (bad, other) = (source("192.0.2.2/32"), source("192.0.2.3/32"));
    let begin = Instant::now();
    let stays = limit(bad, 1, 30);
    let mut sent = 0u64;
    let mut wanted = vec![vec![stays.clone()]];
    wanted.push(vec![limit(other, 5, 20), stays.clone()]);
    wanted.push(vec![stays.clone(), limit(source("2001:db8:1::/64"), 5, 20)]);
    wanted.push(vec![stays]);
    for wanted in wanted {
        lab.set(&limits(wanted));
        open(&lab.client, "192.0.2.2", "198.51.100.2:9", 40);
        sent += 40;
        soon("each passed or dropped", || lab.dropped()[&bad] + lab.states(&["src=192.0.2.2 "]).len() as u64 == sent);
    }
    let (through, most) = (lab.states(&["src=192.0.2.2 "]).len() as u64, at_most(begin, 1, 30));
    assert!(through <= most, "{through} of at most {most}: four times the burst would be 120");
    // With another rate it begins anew and goes on counting.
    let before = lab.dropped()[&bad];
    lab.set(&limits(vec![limit(bad, 2, 30)]));
    assert_eq!(lab.dropped()[&bad], before);
    lab.set(&limits(vec![limit(other, 2, 30)]));
    assert_eq!(lab.dropped(), BTreeMap::from([(other, 0)]));
}
