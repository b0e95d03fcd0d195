//! A host with a default uplink and two IPv6 tunnels, as the notes have it: replies leave by whose source they have.
#![cfg(target_os = "linux")]

mod lab;

use std::time::Duration;

use lab::house::House;
use lab::uplinks::{NET0, SIXXS, TUNNELLED, Tunnelled, changes, policy, rules};
use lab::{until, until_within};

/// What stands for two tunnels: routing of sources, then of sockets bound to the interface.
const STANDING: [&str; 8] = [
    "4100: from 2a02::1 lookup 254 suppress_prefixlength 3",
    "4101: from 2a02::2 lookup 254 suppress_prefixlength 3",
    "4110: from all oif sixxs0 lookup 254 suppress_prefixlength 3",
    "4111: from all oif sixxs1 lookup 254 suppress_prefixlength 3",
    "4200: from 2a02::1 lookup 200",
    "4201: from 2a02::2 lookup 201",
    "4300: from all oif sixxs0 lookup 200",
    "4301: from all oif sixxs1 lookup 201",
];

fn answered(world: &Tunnelled) -> [u32; 3] {
    [NET0, SIXXS[0], SIXXS[1]].map(|addr| world.answered(addr))
}

#[test]
fn the_notes_case() {
    let Some(world) = Tunnelled::new() else { return };
    let mut house = House::new(&world.lab, TUNNELLED);
    let before = policy(&world.lab.victim);
    house.start();
    assert_eq!(answered(&world), [2, 0, 0], "the notes' trouble: replies of both tunnels leave by net0, and are dropped");
    assert!(world.leaked() >= 4);
    let plan = house.expect(1, "route plan");
    assert!(plan.out.contains("+ rule6  4200: from 2a02::1 lookup sixxs0\n"), "{plan:?}");
    assert_eq!(policy(&world.lab.victim), before, "planning changes nothing");
    house.expect(0, "route apply");
    assert_eq!(answered(&world), [2, 2, 2]);
    assert_eq!(rules(&world.lab.victim, 6), STANDING);
    assert_eq!((changes(&house), house.status()["state"].as_str()), (0, Some("enforcing")));

    // A tunnel dies. What has its source goes nowhere, above all not to the provider of net0.
    let leaked = world.leaked();
    world.disconnect(0);
    let tried = world.lab.victim.try_sh("ping -n -c 3 -i 0.2 -W 1 -I 2a02::1 2001:db8:1::1; true");
    let _ = tried;
    // The address went with the interface: whoever holds it elsewhere must not leak either.
    world.lab.victim.sh("ip addr add 2a02::1/128 dev lo");
    let ping = world.lab.victim.try_sh("ping -n -c 3 -i 0.2 -W 1 -I 2a02::1 2001:db8:1::1");
    assert!(!ping.status.success(), "{ping:?}");
    assert_eq!(world.leaked(), leaked, "no packet with the dead tunnel's source leaves by net0");
    assert_eq!(answered(&world)[2], 2, "the other tunnel goes on");
    // And it comes back.
    world.lab.victim.sh("ip addr del 2a02::1/128 dev lo");
    world.connect(0);
    until("both tunnels answer", || answered(&world) == [2, 2, 2]);
    assert_eq!(world.leaked(), leaked);

    house.expect(0, "route release");
    assert_eq!(rules(&world.lab.victim, 6), [""; 0]);
    house.stop();
}

#[test]
fn released_the_host_is_as_it_was() {
    let Some(world) = Tunnelled::new() else { return };
    world.lab.victim.sh("ip -6 rule add from 2001:db8:77::1 lookup 77 pref 4150; ip -6 route add 2001:db8:78::/64 dev net0 table 200 proto 99; ip rule add fwmark 7 lookup 77");
    let house = House::new(&world.lab, TUNNELLED);
    let (before, tables) = (policy(&world.lab.victim), world.lab.victim.sh("nft list ruleset"));
    house.expect(0, "route apply");
    assert_ne!(policy(&world.lab.victim), before);
    assert_eq!(answered(&world), [2, 2, 2]);
    house.expect(0, "route release");
    assert_eq!(policy(&world.lab.victim), before);
    assert_eq!(world.lab.victim.sh("nft list ruleset"), tables);
}

#[test]
fn an_interface_may_come_late_and_come_again() {
    let Some(world) = Tunnelled::new() else { return };
    (0..2).for_each(|n| world.disconnect(n));
    let mut house = House::new(&world.lab, TUNNELLED);
    house.start();
    let applied = house.expect(0, "route apply");
    assert!(applied.out.contains("default dev sixxs0 table sixxs0 proto palisade   (pending: interface absent)"), "{applied:?}");
    assert_eq!(rules(&world.lab.victim, 6), STANDING, "the rules wait for the interfaces, not the other way round");
    let index = || world.lab.victim.sh("ip -o link show sixxs0 | cut -d: -f1");
    let mut indexes = Vec::new();
    for _ in 0..5 {
        (0..2).for_each(|n| world.connect(n));
        indexes.push(index());
        until("both tunnels answer", || answered(&world) == [2, 2, 2]);
        (0..2).for_each(|n| world.disconnect(n));
    }
    indexes.dedup();
    assert_eq!(indexes.len(), 5, "each time it is another interface of the same name");
    assert_eq!(world.leaked(), 0);
}

#[test]
fn flapping_and_lost_addresses_heal() {
    let Some(world) = Tunnelled::new() else { return };
    let mut house = House::new(&world.lab, TUNNELLED);
    house.start();
    house.expect(0, "route apply");
    for _ in 0..20 {
        world.lab.victim.sh("ip link set sixxs0 down; ip link set sixxs0 up; ip addr replace 2a02::1/128 dev sixxs0 nodad");
    }
    until("it answers again", || answered(&world) == [2, 2, 2] && changes(&house) == 0);
    world.lab.victim.sh("ip addr del 2a02::2/128 dev sixxs1");
    until("the missing source is told", || {
        house.expect(0, "route status").out.contains("2a02::2 is not on this host")
            || house.expect(0, "route status").out.contains("no address")
    });
    world.lab.victim.sh("ip addr add 2a02::2/128 dev sixxs1 nodad");
    until("it answers again", || answered(&world) == [2, 2, 2]);
}

#[test]
fn what_others_remove_is_put_back() {
    let Some(world) = Tunnelled::new() else { return };
    let mut house = House::new(&world.lab, TUNNELLED);
    house.start();
    house.expect(0, "route apply");
    let victim = &world.lab.victim;
    for (what, script) in [
        ("all rules are flushed", "ip -6 rule flush; ip -6 rule add pref 32766 lookup main"),
        ("a table is flushed", "ip -6 route flush table 200"),
        (
            "rules not the kernel's are purged",
            "ip -6 -N rule | grep -v 'proto 2' | grep -v 'lookup 25[45]$' | cut -d: -f1 | while read p; do ip -6 rule del pref $p; done",
        ),
        ("one rule goes", "ip -6 rule del pref 4200"),
        ("the guard goes", "ip -6 route del unreachable default table 201 metric 4294967295"),
    ] {
        victim.sh(script);
        until(&format!("healed: {what}"), || rules(victim, 6) == STANDING && changes(&house) == 0);
        assert_eq!(answered(&world), [2, 2, 2], "{what}");
    }
    assert!(house.events("route").iter().any(|event| event["what"].as_str().unwrap().contains("somebody else removed")));
}

#[test]
fn wg_quick_comes_and_goes_around_us_in_both_orders() {
    // What wg-quick runs (wg-quick(8), linux.bash): a catch-all without priorities, and away with it, in a loop that
    // asks `ip` whether there still is a rule like its own.
    let up = "ip link add wg0 type veth peer name wg0-far; ip link set wg0-far up; ip link set wg0 up; ip -6 route add ::/0 dev wg0 table 51820; \
              ip -6 rule add not fwmark 51820 table 51820; ip -6 rule add table main suppress_prefixlength 0";
    let down = "while ip -6 rule show | grep -q 'lookup 51820'; do ip -6 rule delete table 51820; done; \
                while ip -6 rule show | grep -q 'from all lookup main suppress_prefixlength 0'; do ip -6 rule delete table main suppress_prefixlength 0; done; \
                ip link del wg0";
    let Some(world) = Tunnelled::new() else { return };
    let mut house = House::new(&world.lab, TUNNELLED);
    let victim = &world.lab.victim;
    house.start();
    // Ours first: its catch-all lands before ours, which is told.
    house.expect(0, "route apply");
    victim.sh(up);
    until("who is in front is told", || house.ask(["route", "status"]).out.contains("51820"));
    victim.sh(&format!("timeout 20 sh -ec {:?}", down.replace('$', "\\$")));
    until("nothing is left to do", || rules(victim, 6) == STANDING && changes(&house) == 0);
    assert_eq!(answered(&world), [2, 2, 2]);
    // Its first.
    house.expect(0, "route release");
    victim.sh(up);
    house.expect(0, "route apply");
    victim.sh(&format!("timeout 20 sh -ec {:?}", down.replace('$', "\\$")));
    until("nothing is left to do", || rules(victim, 6) == STANDING && changes(&house) == 0);
    assert_eq!(answered(&world), [2, 2, 2]);
}

#[test]
fn a_contest_ends_in_patience_and_one_alert() {
    let Some(world) = Tunnelled::new() else { return };
    let mut house = House::new(&world.lab, TUNNELLED);
    house.start();
    house.expect(0, "route apply");
    let victim = &world.lab.victim;
    for _ in 0..7 {
        victim.sh("ip -6 rule del pref 4200 2>/dev/null || true");
        until("it is put back, or given a rest", || {
            rules(victim, 6) == STANDING || house.ask(["--json", "route", "status"]).json()["contested"].is_string()
        });
    }
    let alerts = house.events("problem").iter().filter(|event| event["about"] == "routing").count();
    assert_eq!(alerts, 1, "one clear alert");
    assert_eq!(house.status()["state"], "degraded");
    until_within(Duration::from_secs(60), "it is put back all the same", || rules(victim, 6) == STANDING);
}

#[test]
fn others_objects_in_our_place_are_told_and_left() {
    let Some(world) = Tunnelled::new() else { return };
    let victim = &world.lab.victim;
    victim.sh("ip -6 route add default dev net0 via 2001::ff table 200 proto 99");
    let mut house = House::new(&world.lab, TUNNELLED);
    house.start();
    let applied = house.expect(6, "route apply");
    assert!(applied.err.contains("conflict:") && applied.err.contains("99"), "{applied:?}");
    let table = victim.sh("ip -6 -N route show table 200");
    assert!(table.contains("default via 2001::ff dev net0 proto 99") && !table.contains("dev sixxs0"), "{table}");
    assert_eq!(answered(&world)[2], 2, "the other uplink stands all the same");
    victim.sh("ip -6 route del default dev net0 table 200");
    until("its place is taken once it is free", || answered(&world) == [2, 2, 2]);
}

#[test]
fn a_trial_is_taken_back() {
    let Some(world) = Tunnelled::new() else { return };
    let victim = &world.lab.victim;
    let mut house = House::new(&world.lab, TUNNELLED);
    let before = policy(victim);
    house.expect(3, "route apply --confirm 10s");
    house.start();
    // Not confirmed.
    let applied = house.expect(0, "route apply --confirm 10s");
    assert!(applied.out.contains("palisade route confirm"), "{applied:?}");
    assert_eq!(rules(victim, 6), STANDING);
    until_within(Duration::from_secs(30), "it is taken back", || policy(victim) == before);
    house.expect(1, "route confirm");
    // The daemon is stopped within the window.
    house.expect(0, "route apply --confirm 60s");
    house.stop();
    assert_eq!(policy(victim), before, "nobody else would take it back");
    house.start();
    // The daemon is killed within the window, and comes back after it.
    house.expect(0, "route apply --confirm 10s");
    house.kill();
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(rules(victim, 6), STANDING, "nobody is there to take it back");
    house.start();
    until("it is taken back", || policy(victim) == before);
    // It comes back within the window.
    house.expect(0, "route apply --confirm 10s");
    house.kill();
    house.start();
    assert_eq!(house.ask(["--json", "route", "status"]).json()["state"], "trial");
    until_within(Duration::from_secs(30), "it is taken back", || policy(victim) == before);
    // Confirmed, it stays, also over a restart; and the way back is there.
    house.expect(0, "route apply --confirm 10s");
    house.expect(0, "route confirm");
    house.stop();
    assert_eq!(rules(victim, 6), STANDING, "what is confirmed outlives the daemon");
    victim.sh("ip -6 rule flush; ip -6 rule add pref 32766 lookup main");
    house.start();
    until("it is put up at the start", || rules(victim, 6) == STANDING);
    house.expect(0, "route revert");
    until("it is taken back", || policy(victim) == before);
}

#[test]
fn a_daemon_killed_while_it_applies_comes_to_the_same() {
    let Some(world) = Tunnelled::new() else { return };
    let mut house = House::new(&world.lab, TUNNELLED);
    house.start();
    for delay in [0, 2, 4, 8, 16, 32] {
        let mut apply = house.command(["route", "apply"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        house.kill();
        let _ = apply.wait();
        house.start();
        house.expect(0, "route apply");
        assert_eq!((rules(&world.lab.victim, 6), changes(&house)), (STANDING.map(str::to_owned).to_vec(), 0));
        house.expect(0, "route release");
    }
}

#[test]
fn over_ssh_a_way_back_is_asked_for() {
    let Some(world) = Tunnelled::new() else { return };
    let mut house = House::new(&world.lab, TUNNELLED);
    house.start();
    house.env.push(("SSH_CONNECTION".to_owned(), "2001:db8:1::1 50022 2001::1 22".to_owned()));
    let refused = house.expect(5, "route apply");
    assert!(refused.err.contains("--confirm 60s"), "{refused:?}");
    assert_eq!(rules(&world.lab.victim, 6), [""; 0]);
    house.expect(0, "route apply --confirm 60s");
    house.expect(0, "route confirm");
    house.expect(0, "route release");
    // A set that would cut this session off is taken back at once.
    house.configure(&format!("{TUNNELLED}\n[[rule]]\nname = \"wrong\"\nfrom = \"2001::1\"\nlookup = \"sixxs0\"\n"));
    let refused = house.expect(5, "route apply --confirm 60s");
    assert!(refused.err.contains("taken back"), "{refused:?}");
    assert_eq!(rules(&world.lab.victim, 6), [""; 0]);
    let told: Vec<String> = house.events("route").iter().map(|event| event["what"].as_str().unwrap().to_owned()).collect();
    assert!(told.iter().any(|what| what.contains("2001:db8:1::1 would be reached by another way")), "{told:?}");
}
