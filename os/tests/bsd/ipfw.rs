//! What only ipfw has: rule numbers, dynamic states, swapped tables.

use palisade_core::bans::backend::Backend;
use palisade_core::bans::wall::{Frame, Refusal};
use palisade_os::block;
use palisade_os::flows::Killed;

use crate::body::{House, IPFW_RULES, IT, US};
use crate::world::{Packet, World, block, frame, key};

#[test]
fn states_stay_and_are_of_no_use() {
    let mut house = House::new(Backend::Ipfw);
    let ssh = Packet::syn(IT, US);
    house.connect(ssh);
    house.apply(&[block(&key(IT.0))]);
    assert!(!house.alive(ssh), "our rules come before check-state");
    assert_eq!(house.world.get("ipfw.states").as_array().unwrap().len(), 1, "nothing of ipfw ends the states of an address");
    house.world.run("world", &["socket", US.0, "22", IT.0, "50000"]);
    assert_eq!(house.kill(&key(IT.0)), Killed { sockets: 1, states: 0 });
}

#[test]
fn the_manner_changes_and_back() {
    let mut house = House::new(Backend::Ipfw);
    house.build(&Frame { refusal: Refusal::Reject, ..frame(&[]) }, &[key(IT.0)]);
    assert!(house.world.run("ipfw", &["list", "40"]).contains("00040 reset tcp from table(palisade) to any"));
    assert!(!house.passes(Packet::syn(IT, US)));
    house.build(&frame(&[]), &[key(IT.0)]);
    assert!(!house.world.run("ipfw", &["list", "40-41"]).contains("reset"));
    assert_eq!(house.standing(), [key(IT.0)].into());
}

#[test]
fn a_run_that_broke_off_is_in_nobodys_way() {
    let mut house = House::new(Backend::Ipfw);
    house.world.run("ipfw", &["-q", "table", "palisaden", "create", "type", "addr"]);
    house.world.run("ipfw", &["-q", "table", "palisaden", "add", "203.0.113.99"]);
    house.build(&frame(&[]), &[key(IT.0)]);
    assert_eq!(house.standing(), [key(IT.0)].into());
    assert!(house.world.get("ipfw.tables").get("palisaden").is_none());
}

/// What is told where ipfw cannot be used.
fn refusal(world: &World) -> String {
    match block::open(Backend::Ipfw, &world.section()) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn whatever_keeps_it_from_blocking_is_an_error_with_the_fix() {
    for (path, value, said, fix) in [
        ("ipfw.module", "\"missing\"", "not in the kernel", "kldload ipfw"),
        ("ipfw.module", "\"denied\"", "ipfw cannot be used", "as root"),
        ("ipfw.enable", "0", "not enabled", "sysctl net.inet.ip.fw.enable=1"),
        ("ipfw.rules", r#"[{"number": 10, "text": "check-state"}]"#, "decides first: `10 check-state`", "`[backend.ipfw] rule`"),
        ("ipfw.rules", r#"[{"number": 41, "text": "allow ip from any to any"}]"#, "41 is not ours", "choose two free numbers"),
    ] {
        let world = World::new();
        world.feed("ipfw", &["-q", "/dev/stdin"], &IPFW_RULES.join("\n"));
        world.set(path, value);
        let error = refusal(&world);
        assert!(error.contains(said) && error.contains(fix), "{path} {value}: {error}");
    }
    let world = World::new();
    world.without("ipfw");
    assert!(refusal(&world).contains("choose another `backend`"), "{}", refusal(&world));
}

#[test]
fn doctor_gets_its_lines_and_notes() {
    let world = World::new();
    world.run("ipfw", &["-q", "add", "10", "allow", "ip", "from", "198.51.100.0/24", "to", "any"]);
    let notes = block::ipfw::look(&world.section()).unwrap();
    assert!(notes.len() == 1 && notes[0].contains("198.51.100.0/24"), "{notes:?}");
    assert!(block::ipfw::lines(&world.section().ipfw).contains("up to 41"));
}
