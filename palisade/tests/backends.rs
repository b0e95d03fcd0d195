//! One test body for every firewall that this kernel can run: what a ban does, whatever carries it out.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and what was measured is printed")]

mod lab;

use lab::house::House;
use lab::space::Space;
use lab::traffic::{Counter, Flood, Stream, listen, tcp};
use lab::{ATTACKER, ATTACKERS6, BYSTANDER, BYSTANDER6, Lab, until};

/// One firewall.
#[derive(Clone, Copy)]
struct Wall {
    /// The config that chooses it; `{dir}` is the test's folder.
    config: &'static str,
    /// What the administrator has to do first, by hand.
    prepare: &'static str,
    /// Whether it shuts out of what is behind the host, too.
    forwards: bool,
    /// The iptables of the host's own rules.
    host: &'static str,
    /// Shell scripts by which somebody else breaks what is ours, each alone letting the banned pass.
    breaks: &'static [&'static str],
    /// Whether a ban ends by itself where no daemon runs.
    times_out: bool,
}

const FLUSH_NFT: &str = "nft flush ruleset";
const FLUSH_XTABLES_NFT: &str = "for p in iptables-nft ip6tables-nft; do $p -F; done";
const FLUSH_XTABLES_LEGACY: &str = "for p in iptables-legacy ip6tables-legacy; do $p -F; done";
const BEFORE_NFT: &str = "for p in iptables-nft ip6tables-nft; do $p -I INPUT -j ACCEPT; $p -I FORWARD -j ACCEPT; done";
const BEFORE_LEGACY: &str = "for p in iptables-legacy ip6tables-legacy; do $p -I INPUT -j ACCEPT; $p -I FORWARD -j ACCEPT; done";
/// A whole other rule set is loaded, as firewalld, ufw and `netfilter-persistent reload` do.
const RELOAD_NFT: &str = "printf '*filter\\n:INPUT ACCEPT [0:0]\\n:FORWARD ACCEPT [0:0]\\n:OUTPUT ACCEPT [0:0]\\n-A INPUT -p tcp --dport 22 -j ACCEPT\\nCOMMIT\\n' \
    | tee /dev/stderr 2>/dev/null | iptables-nft-restore; ip6tables-nft -F";
const RELOAD_LEGACY: &str = "printf '*filter\\n:INPUT ACCEPT [0:0]\\n:FORWARD ACCEPT [0:0]\\n:OUTPUT ACCEPT [0:0]\\n-A INPUT -p tcp --dport 22 -j ACCEPT\\nCOMMIT\\n' \
    | iptables-legacy-restore; ip6tables-legacy -F";
const FLUSH_SETS: &str = "for s in $(ipset list -n); do ipset flush $s; done";

const NFTABLES: Wall = Wall {
    config: "[ban]\nbackend = \"nftables\"\n",
    prepare: "",
    forwards: true,
    host: "iptables-nft",
    breaks: &[FLUSH_NFT, "nft flush chain inet palisade pre"],
    times_out: true,
};
const IPSET_NFT: Wall = Wall {
    config: "[ban]\nbackend = \"ipset\"\n[backend.ipset]\nvariant = \"nft\"\n",
    prepare: "",
    forwards: true,
    host: "iptables-nft",
    breaks: &[FLUSH_XTABLES_NFT, BEFORE_NFT, FLUSH_SETS, RELOAD_NFT],
    times_out: true,
};
const IPSET_LEGACY: Wall = Wall {
    config: "[ban]\nbackend = \"ipset\"\n[backend.ipset]\nvariant = \"legacy\"\n",
    prepare: "",
    forwards: true,
    host: "iptables-legacy",
    breaks: &[FLUSH_XTABLES_LEGACY, BEFORE_LEGACY, FLUSH_SETS, RELOAD_LEGACY],
    times_out: true,
};
const IPTABLES_NFT: Wall = Wall {
    config: "[ban]\nbackend = \"iptables\"\n[backend.iptables]\nvariant = \"nft\"\n",
    prepare: "",
    forwards: true,
    host: "iptables-nft",
    breaks: &[FLUSH_XTABLES_NFT, BEFORE_NFT, RELOAD_NFT, "iptables-nft -F IP4BAN; ip6tables-nft -F IP6BAN"],
    times_out: false,
};
const IPTABLES_LEGACY: Wall = Wall {
    config: "[ban]\nbackend = \"iptables\"\n[backend.iptables]\nvariant = \"legacy\"\n",
    prepare: "",
    forwards: true,
    host: "iptables-legacy",
    breaks: &[FLUSH_XTABLES_LEGACY, BEFORE_LEGACY, RELOAD_LEGACY, "iptables-legacy -F IP4BAN; ip6tables-legacy -F IP6BAN"],
    times_out: false,
};

/// sshguard's own programs, as Debian has them. What each wants done beforehand is in its manual, sshguard-setup(7).
const SSHG_NFT_SETS: Wall = Wall {
    config: "[ban]\nbackend = \"command\"\n[backend.command]\nrun = [\"/usr/libexec/sshguard/sshg-fw-nft-sets\"]\n",
    prepare: "",
    forwards: false,
    host: "iptables-nft",
    breaks: &[KILL_PROGRAM],
    times_out: false,
};
const SSHG_IPSET: Wall = Wall {
    config: "[ban]\nbackend = \"command\"\n[backend.command]\nrun = [\"/usr/libexec/sshguard/sshg-fw-ipset\"]\n",
    prepare: "ipset create sshguard4 hash:net family inet; ipset create sshguard6 hash:net family inet6; \
        iptables -w -I INPUT -m set --match-set sshguard4 src -j DROP; ip6tables -w -I INPUT -m set --match-set sshguard6 src -j DROP",
    forwards: false,
    host: "iptables-nft",
    breaks: &[KILL_PROGRAM],
    times_out: false,
};
const SSHG_IPTABLES_NFT: Wall = Wall {
    config: "[ban]\nbackend = \"command\"\n[backend.command]\nrun = [\"/usr/libexec/sshguard/sshg-fw-iptables\"]\n",
    prepare: "for p in iptables-nft ip6tables-nft; do $p -w -N sshguard; $p -w -I INPUT -j sshguard; done",
    forwards: false,
    host: "iptables-nft",
    breaks: &[KILL_PROGRAM],
    times_out: false,
};
const SSHG_IPTABLES_LEGACY: Wall = Wall {
    config: "[ban]\nbackend = \"command\"\n[backend.command]\n\
        run = [\"/usr/bin/env\", \"PATH={dir}:/usr/sbin:/usr/bin:/sbin:/bin\", \"/usr/libexec/sshguard/sshg-fw-iptables\"]\n",
    prepare: "for p in iptables ip6tables; do ln -s /usr/sbin/$p-legacy {dir}/$p; $p-legacy -w -N sshguard; $p-legacy -w -I INPUT -j sshguard; done",
    forwards: false,
    host: "iptables-legacy",
    breaks: &[KILL_PROGRAM],
    times_out: false,
};
/// The program dies; its rules stand, and the next one is told everything.
const KILL_PROGRAM: &str = "pkill -KILL -P {daemon}";

/// A host behind the guarded one, as a container is: on a bridge, with a port of the host's that is its own.
struct Container {
    space: Space,
}

impl Wall {
    /// A palisade with it, on a host that is ready for it.
    fn house<'a>(&self, lab: &'a Lab) -> House<'a> {
        let here = |text: &str| text.replace("{dir}", &lab.dir.path().display().to_string());
        lab.victim.sh(&here(self.prepare));
        House::new(lab, &here(self.config))
    }

    /// The ports of [`Container::start`] that it keeps the banned out of.
    fn ports(&self) -> &'static [u16] {
        if self.forwards { &[7000, 8080] } else { &[7000] }
    }
}

impl Container {
    fn start(lab: &Lab, wall: &Wall) -> Self {
        let space = Space::new("container");
        lab.victim.sh(
            "ip link add br0 type bridge; ip link set br0 up; ip addr add 192.0.2.1/24 dev br0; ip addr add 2001:db8:1::1/64 dev br0 nodad",
        );
        lab.victim.sh(&format!("ip link add veth0 type veth peer name eth0 netns {}; ip link set veth0 master br0 up", space.pid()));
        space.sh("ip link set eth0 up; ip addr add 192.0.2.80/24 dev eth0; ip addr add 2001:db8:1::80/64 dev eth0 nodad");
        space.sh("ip route add default via 192.0.2.1; ip route add default via 2001:db8:1::1");
        lab.victim.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        // As Docker writes them: the port is translated, and what is established is let through first of all.
        let v4 = wall.host;
        let v6 = v4.replace("ip", "ip6");
        for (program, to) in [(v4, "192.0.2.80:80"), (v6.as_str(), "[2001:db8:1::80]:80")] {
            lab.victim.sh(&format!(
                "{program} -t nat -A PREROUTING -i wire -p tcp --dport 8080 -j DNAT --to-destination {to}; \
                 {program} -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; {program} -A FORWARD -o br0 -j ACCEPT; \
                 {program} -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
            ));
        }
        Self { space }
    }
}

fn to(who: &str, port: u16) -> String {
    if who.contains(':') { format!("[2001:db8:0:1::1]:{port}") } else { format!("198.51.100.1:{port}") }
}

/// Streams to the host and to the container die with the ban, new ones do not come up, and with the unban they do.
fn a_ban_ends_and_keeps_out(wall: Wall) {
    let Some(lab) = Lab::new() else { return };
    let container = Container::start(&lab, &wall);
    let (here, behind) = (listen(&lab.victim, "[::]:7000"), listen(&container.space, "[::]:80"));
    let mut house = wall.house(&lab);
    house.start();
    let listener = |port| if port == 7000 { &here } else { &behind };
    let open = |who: &str| {
        let streams = wall.ports().iter().map(|port| Stream::open(&lab.outside, who, listener(*port), &to(who, *port)));
        streams.collect::<Vec<_>>()
    };
    let mut kept: Vec<Stream> = [BYSTANDER, BYSTANDER6].into_iter().flat_map(open).collect();
    for (who, prefix) in [
        (ATTACKER, "198.51.100.66"),
        (ATTACKERS6[0], "2001:db8:0:66::1"),
        (ATTACKER, "198.51.100.64/30"),
        (ATTACKERS6[1], "2001:db8:0:66::/64"),
    ] {
        let mut cut = open(who);
        house.expect(0, &format!("ban {prefix} --for 1h"));
        // All at once, as each of them waits for what must not come.
        std::thread::scope(|scope| {
            for (stream, what) in cut.iter_mut().zip(["to the host", "to the container"]) {
                scope.spawn(move || assert!(!stream.echoes(), "{prefix}: the stream {what} lives"));
            }
            for port in wall.ports().iter().copied() {
                let lab = &lab;
                scope.spawn(move || {
                    assert!(tcp(&lab.outside, who, &to(who, port)).is_err(), "{prefix}: a new stream to port {port} comes up")
                });
            }
        });
        house.expect(0, &format!("unban {prefix}"));
        for port in wall.ports().iter().copied() {
            assert!(tcp(&lab.outside, who, &to(who, port)).is_ok(), "{prefix}: no stream to port {port} after the unban");
            let _ = listener(port).accept();
        }
    }
    for (n, stream) in kept.iter_mut().enumerate() {
        assert!(stream.echoes() && stream.broke().is_none(), "stream {n} of the bystanders was cut");
    }
}

/// A ban ends by itself, and what stands stays over a stop, a kill and a start, without a packet let through.
fn it_ends_by_itself_and_outlives_the_daemon(wall: Wall) {
    let Some(lab) = Lab::new() else { return };
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    let mut house = wall.house(&lab);
    house.start();
    until("the flood arrives", || counter.of(ATTACKER) > 100);
    house.expect(0, &format!("ban {ATTACKER} --for 4s"));
    let banned = counter.of(ATTACKER);
    if wall.times_out {
        house.kill();
    }
    until("the ban ends by itself", || counter.of(ATTACKER) > banned);
    if wall.times_out {
        house.start();
    }

    house.expect(0, &format!("ban {ATTACKER} --for 1h"));
    flood.go_on(50);
    let before = counter.of(ATTACKER);
    for n in 0..3 {
        if n == 1 {
            house.kill()
        } else {
            house.stop()
        }
        flood.go_on(100);
        house.start();
        flood.go_on(100);
    }
    assert_eq!(counter.of(ATTACKER), before, "packets passed while the daemon was restarted");
    assert!(house.banned(ATTACKER));
    // Down, up again without the daemon, and all of it.
    house.stop();
    house.expect(0, "flush");
    until("the wall is down", || counter.of(ATTACKER) > before);
    house.expect(0, "restore");
    flood.go_on(50);
    let before = counter.of(ATTACKER);
    flood.go_on(200);
    assert_eq!(counter.of(ATTACKER), before, "restored, and packets pass");
}

/// What others do to ours is noticed, told and put right, and theirs is left alone.
fn what_others_break_is_put_right(wall: Wall) {
    let Some(lab) = Lab::new() else { return };
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    let mut house = wall.house(&lab);
    house.start();
    let proof = house.status()["proof"].clone();
    assert_eq!(proof["proof"], "proven", "{proof}");
    house.expect(0, &format!("ban {ATTACKER} --for 1h"));
    for (n, script) in wall.breaks.iter().enumerate() {
        flood.go_on(50);
        lab.victim.sh(&script.replace("{daemon}", &house.daemon().0.id().to_string()));
        until(&format!("it is noticed: {script}"), || house.events("drift").len() > n);
        let before = counter.of(ATTACKER);
        flood.go_on(200);
        assert_eq!(counter.of(ATTACKER), before, "it was not put right: {script}");
        assert_eq!(house.status()["state"], "enforcing", "{script}");
    }
    let drift = house.events("drift");
    assert_eq!(drift.len(), wall.breaks.len(), "our own doing was taken for somebody else's: {drift:?}");
}

/// Ten thousand bans stand, somebody reloads the rules, and all of them stand again.
fn ten_thousand_come_back(wall: Wall) {
    let Some(lab) = Lab::new() else { return };
    let mut house = wall.house(&lab);
    house.start();
    for chunk in 0..2u32 {
        let bans = (1..=5000u32).map(|n| std::net::Ipv4Addr::from_bits(0x0a00_0000 + chunk * 5000 + n).to_string());
        house.ask(["ban".to_owned(), "--for".to_owned(), "1h".to_owned()].into_iter().chain(bans)).code(0);
    }
    house.expect(0, &format!("ban {ATTACKER} --for 1h"));
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    flood.go_on(50);
    assert_eq!(counter.of(ATTACKER), 0);
    lab.victim.sh(wall.breaks[0]);
    until("the reload is noticed", || !house.events("drift").is_empty());
    let drift = house.events("drift");
    println!("10,001 bans stand again {} ms after the reload was seen", drift[0]["millis"]);
    let before = counter.of(ATTACKER);
    flood.go_on(200);
    assert_eq!(counter.of(ATTACKER), before);
    assert_eq!(house.list().len(), 10_001);
}

/// What fails later degrades: what stood stands, and it is tried until it works again.
#[test]
fn a_firewall_whose_program_is_gone_degrades_and_comes_back() {
    let Some(lab) = Lab::new() else { return };
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    let tools = lab.path("tools");
    std::fs::create_dir(&tools).unwrap();
    lab.victim.sh(&format!("ln -s /usr/sbin/*tables* /usr/sbin/ipset {}", tools.display()));
    let mut house = House::new(&lab, &format!("{}[backend]\npath = [\"{}\"]\n", IPSET_NFT.config, tools.display()));
    house.start();
    house.expect(0, &format!("ban {ATTACKER} --for 1h"));
    flood.go_on(50);
    let before = counter.of(ATTACKER);
    std::fs::remove_file(tools.join("ipset")).unwrap();
    let failed = house.ask(["ban", "203.0.113.9", "--for", "1h"]);
    assert!(failed.code == 6 && (failed.out + &failed.err).contains("it is kept and tried again"), "{}", failed.code);
    let status = house.ask(["status"]).code(6);
    assert!(status.out.contains("degraded") && status.out.contains("what stood still stands"), "{status:?}");
    flood.go_on(100);
    assert_eq!(counter.of(ATTACKER), before, "what stood does not stand");
    std::os::unix::fs::symlink("/usr/sbin/ipset", tools.join("ipset")).unwrap();
    until("it works again", || house.ask(["status"]).code == 0);
    let standing = house.json("why 203.0.113.9");
    assert!(standing["bans"][0]["kernel"].is_object(), "{standing}");
    assert_eq!(counter.of(ATTACKER), before);
}

/// The chains of a script that did by hand what we do: whoever is shut out there stays so, and is ours from then on.
#[test]
fn chains_filled_by_hand_are_taken_over_without_letting_anybody_in() {
    let Some(lab) = Lab::new() else { return };
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    lab.victim.sh("iptables-nft -N IP4BAN; iptables-nft -I INPUT -j IP4BAN; for n in 9 66 200; do iptables-nft -A IP4BAN -s 198.51.100.$n -j DROP; done");
    lab.victim.sh("ip6tables-nft -N IP6BAN; ip6tables-nft -I INPUT -j IP6BAN; ip6tables-nft -A IP6BAN -s 2001:db8:0:66::/64 -j DROP");
    flood.go_on(50);
    let before = counter.of(ATTACKER);
    let mut house = IPTABLES_NFT.house(&lab);
    house.start();
    flood.go_on(200);
    assert_eq!(counter.of(ATTACKER), before, "the start let him in");
    let names: Vec<String> = house.list().into_keys().collect();
    assert_eq!(names, ["198.51.100.200/32", "198.51.100.66/32", "198.51.100.9/32", "2001:db8:0:66::/64"]);
    assert!(house.json("list")["bans"][0]["until"].is_string(), "for as long as a ban by hand");
    house.expect(0, "unban 198.51.100.66");
    until("he is let in", || counter.of(ATTACKER) > before);
    house.stop();
    house.start();
    assert_eq!(house.list().len(), 3, "what is ours by now is not taken over again");
}

/// Another firewall in the config: the bans move there without a gap, and nothing of them stays behind.
#[test]
fn another_firewall_takes_the_bans_over_and_the_old_one_is_left_clean() {
    let Some(lab) = Lab::new() else { return };
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    let mut house = NFTABLES.house(&lab);
    house.start();
    house.expect(0, &format!("ban {ATTACKER} --permanent"));
    flood.go_on(50);
    let before = counter.of(ATTACKER);
    let traces = "nft list tables | grep palisade || true; for p in iptables-nft iptables-legacy; do $p -S | grep -m 1 -e palisade -e IP4BAN || true; done; \
        ipset list -n | grep -m 1 palisade || true";
    for (wall, own) in [
        (IPSET_NFT, "palisade"),
        (IPTABLES_LEGACY, "IP4BAN"),
        (IPSET_LEGACY, "palisade"),
        (IPTABLES_NFT, "IP4BAN"),
        (NFTABLES, "inet palisade"),
    ] {
        house.stop();
        house.configure(wall.config);
        house.start();
        flood.go_on(100);
        assert_eq!(counter.of(ATTACKER), before, "packets passed on the way to {}", wall.config);
        let left = lab.victim.sh(traces);
        let foreign: Vec<&str> = left.lines().filter(|line| !line.contains(own) || (own == "palisade" && line.contains("inet"))).collect();
        assert!(foreign.is_empty() && !left.is_empty(), "{}: {left}", wall.config);
        assert_eq!(house.status()["problems"], serde_json::json!([]));
    }
    house.expect(0, &format!("unban {ATTACKER}"));
    until("nothing is left that shuts out", || counter.of(ATTACKER) > before);
}

macro_rules! every_wall {
    ($($name:ident: $wall:expr),+ $(,)?; those that take thousands: $($bulk:ident: $long:expr),+ $(,)?) => {
        every_wall!($($name: $wall),+, $($bulk: $long),+);
        mod ten_thousand_come_back {
            $(#[test]
            fn $bulk() {
                super::ten_thousand_come_back($long);
            })+
        }
    };
    ($($name:ident: $wall:expr),+ $(,)?) => {
        $(mod $name {
            #[test]
            fn a_ban_ends_and_keeps_out() {
                super::a_ban_ends_and_keeps_out($wall);
            }

            #[test]
            fn it_ends_by_itself_and_outlives_the_daemon() {
                super::it_ends_by_itself_and_outlives_the_daemon($wall);
            }

            #[test]
            fn what_others_break_is_put_right() {
                super::what_others_break_is_put_right($wall);
            }
        })+
    };
}

every_wall! {
    sshguards_nft_sets: super::SSHG_NFT_SETS,
    sshguards_ipset: super::SSHG_IPSET,
    sshguards_iptables_nft: super::SSHG_IPTABLES_NFT,
    sshguards_iptables_legacy: super::SSHG_IPTABLES_LEGACY,
    ;
    those that take thousands:
    nftables: super::NFTABLES,
    ipset_nft: super::IPSET_NFT,
    ipset_legacy: super::IPSET_LEGACY,
    iptables_nft: super::IPTABLES_NFT,
    iptables_legacy: super::IPTABLES_LEGACY,
}
