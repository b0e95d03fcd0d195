//! Real ufw and real firewalld beside us, reloaded while ten thousand bans stand.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and what was measured is printed")]

mod lab;

use std::process::{Command, Stdio};

use lab::house::House;
use lab::service::Running;
use lab::traffic::{Counter, Flood};
use lab::{ATTACKER, Lab, until};

/// The firewalls of ours that share tables with theirs, and the one that does not.
const OURS: [&str; 3] = [
    "[ban]\nbackend = \"nftables\"\n",
    "[ban]\nbackend = \"ipset\"\n[backend.ipset]\nvariant = \"nft\"\n",
    "[ban]\nbackend = \"iptables\"\n[backend.iptables]\nvariant = \"nft\"\n",
];

/// Ten thousand and one bans stand; then somebody's firewall is told to do each of these. What stood stands again, and theirs goes on working.
fn beside(lab: &Lab, what: &str, reloads: &[&str]) {
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    until("the other firewall lets the flood in", || counter.of(ATTACKER) > 100);
    for config in OURS {
        let mut house = House::new(lab, config);
        house.start();
        for chunk in 0..2u32 {
            let bans = (1..=5000u32).map(|n| std::net::Ipv4Addr::from_bits(0x0a00_0000 + chunk * 5000 + n).to_string());
            house.ask(["ban".to_owned(), "--for".to_owned(), "1h".to_owned()].into_iter().chain(bans)).code(0);
        }
        house.expect(0, &format!("ban {ATTACKER} --for 1h"));
        for reload in reloads {
            let seen = house.events("drift").len();
            lab.victim.sh(reload);
            // It may need no repair; what is to be seen is that he is out, and stays out.
            let mut passed = counter.of(ATTACKER);
            until("he is shut out again", || {
                flood.go_on(300);
                passed == std::mem::replace(&mut passed, counter.of(ATTACKER))
            });
            let millis: Vec<u64> = house.events("drift").iter().skip(seen).map(|event| event["millis"].as_u64().unwrap()).collect();
            println!("{what}, {reload}: repairs after {millis:?} ms");
            assert_eq!(house.status()["state"], "enforcing", "{reload}");
        }
        assert_eq!(house.list().len(), 10_001);
        house.expect(0, "unban --all");
        let before = counter.of(ATTACKER);
        until("who is let go gets in, by their leave", || counter.of(ATTACKER) > before);
        house.stop();
        house.expect(0, "flush");
    }
}

/// A copy of a folder of /etc, for this host of the laboratory alone.
fn own_copy(lab: &Lab, folder: &str) {
    let copy = lab.path(folder);
    lab.victim.sh(&format!("cp -a /etc/{folder} {0}; mount --bind {0} /etc/{folder}", copy.display()));
}

#[test]
fn ufw_is_enabled_reloaded_and_disabled() {
    let Some(lab) = Lab::new() else { return };
    own_copy(&lab, "ufw");
    lab.victim.sh("ufw allow 9/udp >/dev/null; ufw --force enable >/dev/null");
    beside(&lab, "ufw", &["ufw reload >/dev/null", "ufw --force disable >/dev/null", "ufw --force enable >/dev/null"]);
    assert!(lab.victim.sh("ufw status").contains("9/udp"), "ufw lost its own rules");
}

#[test]
fn firewalld_is_reloaded() {
    let Some(lab) = Lab::new() else { return };
    own_copy(&lab, "firewalld");
    lab.victim.sh("mkdir -p /run/dbus");
    let quiet = |mut command: Command| Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let mut bus = lab.victim.command("dbus-daemon");
    bus.args(["--system", "--nofork", "--nopidfile"]);
    let _bus = quiet(bus);
    until("the bus is there", || lab.victim.try_sh("test -S /run/dbus/system_bus_socket").status.success());
    let mut firewalld = lab.victim.command("firewalld");
    firewalld.args(["--nofork", "--nopid"]);
    let _firewalld = quiet(firewalld);
    until("firewalld runs", || lab.victim.try_sh("firewall-cmd --state").status.success());
    lab.victim.sh("firewall-cmd -q --set-default-zone=trusted");
    beside(&lab, "firewalld", &["firewall-cmd -q --reload", "firewall-cmd -q --complete-reload"]);
    assert!(lab.victim.sh("firewall-cmd --get-default-zone").contains("trusted"), "firewalld lost its own setting");
}
