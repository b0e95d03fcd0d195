//! What only PF has: states, ports, an anchor, limits.

use palisade_core::bans::backend::Backend;
use palisade_core::bans::wall::{Entry, Frame, Key, Step};
use palisade_os::block::{self, Read};
use palisade_os::flows::{self, Killed, Target};

use crate::body::{House, IT, PF_CONF, US};
use crate::world::{Packet, World, block, frame, hour, key, now, port_key};

/// `pfctl -ss`.
fn states(house: &House) -> Vec<String> {
    house.world.run("pfctl", &["-ss"]).lines().map(str::to_owned).collect()
}

/// A connection of theirs and one of ours with the attacker; the bystander's.
fn three(house: &House) -> [Packet<'static>; 3] {
    let all = [Packet::syn(IT, US), Packet::syn((US.0, 40_000), (IT.0, 25)).out(), Packet::syn(("198.51.100.7", 50_000), US)];
    all.iter().for_each(|packet| house.connect(*packet));
    assert_eq!(states(house).len(), 3);
    all
}

#[test]
fn an_entry_alone_ends_no_state() {
    let mut house = House::new(Backend::Pf);
    let [theirs, ours, _] = three(&house);
    house.apply(&[block(&key(IT.0))]);
    assert!(house.alive(theirs) && house.alive(ours), "PF looks at states before it looks at rules");
    assert_eq!(house.kill(&key(IT.0)), Killed { sockets: 0, states: 2 });
    assert!(!house.alive(theirs) && !house.alive(ours));
    assert_eq!(states(&house).len(), 1);
}

#[test]
fn one_kill_leaves_what_was_begun_the_other_way() {
    let house = House::new(Backend::Pf);
    let _ = three(&house);
    house.world.run("pfctl", &["-k", IT.0]);
    assert!(states(&house).iter().any(|state| state.contains("-> 203.0.113.7")), "the stand-in models it");
    assert_eq!(house.kill(&key(IT.0)), Killed { sockets: 0, states: 1 });
    assert_eq!(states(&house).len(), 1);
    assert_eq!(house.kill(&key(IT.0)), Killed::default(), "nothing to end is success");
}

#[test]
fn a_pfctl_that_loses_the_second_address_is_made_good() {
    let mut house = House::new(Backend::Pf);
    let [theirs, ours, bystander] = three(&house);
    house.world.set("pf.second_k_is_lost", "true");
    house.ban(&key(IT.0));
    assert!(!house.alive(theirs) && !house.alive(ours) && house.alive(bystander));
    assert_eq!(states(&house).len(), 1);
}

#[test]
fn translated_states_are_found_on_either_side() {
    let mut house = House::new(Backend::Pf);
    let it = ["203.0.113.7", "50000"];
    // rdr: the attacker to a host behind us.
    house.world.run("world", &["pf-state", "in", "tcp", it[0], it[1], "192.0.2.1", "80", it[0], it[1], "10.0.0.5", "80"]);
    // nat towards that host, as for reflection: on the wire the attacker's address is not to be seen.
    house.world.run("world", &["pf-state", "out", "tcp", "10.0.0.5", "80", "10.0.0.1", "6000", "10.0.0.5", "80", it[0], it[1]]);
    // nat of a host behind us to the attacker.
    house.world.run("world", &["pf-state", "out", "tcp", it[0], "25", "192.0.2.1", "7000", it[0], "25", "10.0.0.6", "4000"]);
    house
        .world
        .run("world", &["pf-state", "out", "tcp", "198.51.100.9", "25", "192.0.2.1", "7001", "198.51.100.9", "25", "10.0.0.6", "4001"]);
    assert_eq!(states(&house).len(), 4);
    house.ban(&key("203.0.113.0/24"));
    assert_eq!(states(&house).len(), 1, "{:?}", states(&house));
    assert!(states(&house)[0].contains("198.51.100.9"));
}

#[test]
fn source_tracking_ends_both_ways() {
    let mut house = House::new(Backend::Pf);
    let nodes = r#"[{"addr":"203.0.113.7","raddr":"10.0.0.5"},{"addr":"10.0.0.6","raddr":"203.0.113.7"},{"addr":"198.51.100.7","raddr":"10.0.0.5"}]"#;
    house.world.set("pf.nodes", nodes);
    house.ban(&key(IT.0));
    assert_eq!(house.world.get("pf.nodes"), serde_json::json!([{"addr": "198.51.100.7", "raddr": "10.0.0.5"}]));
}

#[test]
fn many_targets_are_killed_by_what_is_really_there() {
    let house = House::new(Backend::Pf);
    let [.., bystander] = three(&house);
    let mut targets: Vec<Target> =
        (0..200).map(|n| Target { prefix: format!("10.0.0.{n}").parse().unwrap(), ports: Default::default() }).collect();
    targets.push(Target { prefix: "203.0.113.0/24".parse().unwrap(), ports: Default::default() });
    let killed = flows::open(Backend::Pf, &house.world.section()).unwrap().kill(&targets).unwrap();
    assert_eq!(killed, Killed { sockets: 0, states: 2 });
    assert!(house.alive(bystander) && states(&house).len() == 1);
}

#[test]
fn states_that_cannot_be_listed_are_ended_all_the_same_and_it_is_told() {
    let house = House::new(Backend::Pf);
    let [.., bystander] = three(&house);
    let before = states(&house).len();
    house.world.refuse("pfctl", "-vvss");
    let mut targets: Vec<Target> =
        (0..20).map(|n| Target { prefix: format!("10.0.0.{n}").parse().unwrap(), ports: Default::default() }).collect();
    targets.push(Target { prefix: "203.0.113.0/24".parse().unwrap(), ports: Default::default() });
    let error = flows::open(Backend::Pf, &house.world.section()).unwrap().kill(&targets).unwrap_err();
    assert!(error.to_string().contains("ended unseen"), "{error}");
    assert!(error.killed.states > 0 && house.world.get("pf.states").as_array().unwrap().len() < before);
    assert!(house.alive(bystander));
}

#[test]
fn a_ban_from_some_ports_leaves_the_others() {
    let mut house = House::new(Backend::Pf);
    let (ssh, http) = (Packet::syn(IT, US), Packet::syn((IT.0, 50_001), (US.0, 80)));
    house.connect(ssh);
    house.connect(http);
    let ban = port_key(IT.0, &[22, 2222]);
    house.apply(&[block(&ban)]);
    assert_eq!(house.kill(&ban), Killed { sockets: 0, states: 1 });
    assert!(!house.alive(ssh) && !house.passes(ssh), "from ssh it is shut out");
    assert!(house.alive(http) && house.passes(Packet::syn((IT.0, 50_002), (US.0, 80))), "from http it is not");
    house.restart();
    assert_eq!(house.standing(), [ban.clone()].into(), "a new process knows the ports");
    let forced = Key { forced: true, ..ban.clone() };
    let more = port_key("203.0.113.8", &[443]);
    house.apply(&[block(&forced), block(&more), Step::Release(ban)]);
    assert!(!house.passes(ssh));
    assert_eq!(house.standing(), [forced.clone(), more].into());
    house.build(&frame(&[]), std::slice::from_ref(&forced));
    assert_eq!(house.standing(), [forced].into());
    let tables = house.world.run("pfctl", &["-a", "palisade", "-sT"]);
    assert_eq!(tables.lines().collect::<Vec<_>>(), ["palisade", "palisade_f", "palisade_f1"], "unused tables are gone");
}

#[test]
fn what_a_ban_blocked_is_counted() {
    let mut house = House::new(Backend::Pf);
    house.ban(&key(IT.0));
    for _ in 0..3 {
        assert!(!house.passes(Packet::syn(IT, US)));
    }
    assert!(!house.passes(Packet::syn((US.0, 9), IT).out()));
    let found = house.wall.read(Read::Keys(&[key(IT.0)])).unwrap();
    assert_eq!((found.bans[&key(IT.0)].packets, found.bans[&key(IT.0)].bytes), (Some(4), Some(240)));
}

#[test]
fn sockets_of_the_host_are_dropped() {
    let mut house = House::new(Backend::Pf);
    for (port, remote) in [("22", IT.0), ("80", IT.0), ("22", "198.51.100.7")] {
        house.world.run("world", &["socket", US.0, port, remote, "50000"]);
    }
    let ban = port_key(IT.0, &[22]);
    house.apply(&[block(&ban)]);
    assert_eq!(house.kill(&ban), Killed { sockets: 1, states: 0 });
    assert_eq!(house.kill(&key(IT.0)), Killed { sockets: 1, states: 0 });
    assert_eq!(house.world.get("sockets").as_array().unwrap().len(), 1);
    house.world.without("tcpdrop");
    assert_eq!(house.kill(&key("198.51.100.7")), Killed::default(), "OpenBSD's cannot list, and need not be there");
}

#[test]
fn a_full_table_fails_what_does_not_fit_and_keeps_what_does() {
    let mut house = House::new(Backend::Pf);
    house.world.set("pf.table_entries", "100");
    let keys: Vec<Key> = (0..130).map(|n| key(&format!("10.0.0.{n}"))).collect();
    let steps: Vec<Step> = keys.iter().map(block).collect();
    let report = house.wall.apply(&steps, now());
    assert_eq!((report.done, report.failed.len()), (100, 30), "{report:?}");
    assert!(report.failed[0].1.contains("set limit table-entries"), "{report:?}");
    assert_eq!(house.standing(), keys[..100].iter().cloned().collect());
    house.restart();
    assert_eq!(house.wall.limits().bans, 94, "a sixteenth is for the allow list");
    let mut entries = keys.iter().map(|key| Entry { key: key.clone(), until: hour() });
    let report = house.wall.replace(&Frame::default(), &mut entries, now()).unwrap();
    assert_eq!((report.done, report.failed.len()), (94, 36));
}

#[test]
fn what_the_kernel_takes_at_once_is_the_limit() {
    // Less a sixteenth.
    let world = World::new();
    world.feed("world", &["pf-main"], PF_CONF);
    assert_eq!(block::open(Backend::Pf, &world.section()).unwrap().limits().bans, 61_440);
    world.set("pf.request_maxcount", "400000");
    assert_eq!(block::open(Backend::Pf, &world.section()).unwrap().limits().bans, 187_500);
    world.without("sysctl");
    assert_eq!(block::open(Backend::Pf, &world.section()).unwrap().limits().bans, 61_440);
}

#[test]
fn a_ban_inside_the_allow_list_is_refused() {
    let mut house = House::new(Backend::Pf);
    house.build(&frame(&["198.51.100.0/24"]), &[]);
    let report = house.wall.apply(&[block(&key("198.51.100.7")), block(&key(IT.0))], now());
    assert_eq!((report.done, report.failed.len()), (1, 1));
    assert!(report.failed[0].1.contains("on the allow list"), "{report:?}");
    assert!(house.passes(Packet::syn(("198.51.100.7", 1), US)));
}

/// What is told where PF cannot be used.
fn refusal(world: &World) -> String {
    match block::open(Backend::Pf, &world.section()) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn whatever_keeps_it_from_blocking_is_an_error_with_the_fix() {
    for (path, value, said, fix) in [
        ("pf.device", "\"missing\"", "/dev/pf", "kldload pf"),
        ("pf.device", "\"denied\"", "PF cannot be used", "as root"),
        ("pf.enabled", "false", "not enabled", "pfctl -e"),
        ("pf.main", "[\"pass all flags S/SA keep state\"]", "does not lead to the anchor", "`anchor \"palisade\"`"),
        (
            "pf.main",
            "[\"pass in quick all no state\", \"anchor \\\"palisade\\\" all\"]",
            "lets anybody pass: `pass in quick all no state`",
            "before its first",
        ),
    ] {
        let world = World::new();
        world.feed("world", &["pf-main"], PF_CONF);
        world.set(path, value);
        let error = refusal(&world);
        assert!(error.contains(said) && error.contains(fix), "{path} {value}: {error}");
    }
    let world = World::new();
    world.without("pfctl");
    assert!(refusal(&world).contains("choose another `backend`"), "{}", refusal(&world));
}

#[test]
fn a_wall_that_is_not_asked_any_more_is_trouble_and_not_built_in_vain() {
    let mut house = House::new(Backend::Pf);
    house.ban(&key(IT.0));
    // Somebody loads a pf.conf without our line.
    house.world.feed("world", &["pf-main"], "pass all\n");
    house.restart_unchecked(|wall| {
        let error = wall.drift().unwrap_err().to_string();
        assert!(error.contains("does not lead to the anchor"), "{error}");
        let error = wall.replace(&Frame::default(), &mut std::iter::empty(), now()).unwrap_err().to_string();
        assert!(error.contains("does not lead to the anchor"), "{error}");
        assert!(!wall.read(Read::Frame).unwrap().whole);
    });
    // And with it again: what is in the anchor was never lost.
    house.world.feed("world", &["pf-main"], PF_CONF);
    assert_eq!(house.standing(), [key(IT.0)].into());
    assert!(!house.passes(Packet::syn(IT, US)));
}

impl House {
    /// The wall as it is, for what [`House::restart`] would refuse to open.
    fn restart_unchecked(&mut self, look: impl FnOnce(&mut dyn block::Blocker)) {
        look(self.wall.as_mut());
    }
}

#[test]
fn states_made_while_a_wall_was_gone_end_with_a_kill_after_its_repair() {
    let mut house = House::new(Backend::Pf);
    house.ban(&key(IT.0));
    house.world.run("pfctl", &["-a", "palisade", "-t", "palisade", "-T", "flush"]);
    let ssh = Packet::syn(IT, US);
    house.connect(ssh);
    house.build(&Frame::default(), &[key(IT.0)]);
    assert!(house.alive(ssh), "the state is older than the entry");
    assert_eq!(house.kill(&key(IT.0)).states, 1);
    assert!(!house.alive(ssh));
}

#[test]
fn doctor_gets_its_lines_and_notes() {
    let world = World::new();
    world.feed("world", &["pf-main"], "pass in quick from 198.51.100.0/24 to any\nanchor \"palisade\"\n");
    world.set("pf.skip", "[\"lo0\", \"em0\"]");
    let notes = block::pf::look(&world.section()).unwrap();
    assert!(notes.len() == 2 && notes[0].contains("198.51.100.0/24") && notes[1].contains("set skip on em0"), "{notes:?}");
    assert!(block::pf::lines(&world.section().pf).contains("anchor \"palisade\"\n"));
}
