//! The gateway whose connection table was filled by a game: who it is, within a second; held, and nobody else with it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::process::Child;
use std::time::Duration;

use lab::house::House;
use lab::lan::{Forged, GAMER, GAMER6, Game, ILL, Lan, Neighbours, Opens, max};
use lab::traffic::{Stream, listen};
use lab::{Lab, until, until_within};
use serde_json::Value;

const CONFIG: &str = "[ban]\nbackend = \"nftables\"\n[conntrack]\naction = \"limit\"\nlimit = \"5/second\"\nhorizon = \"1h\"\n";

/// More than a machine needs that does other tests as well.
const MOST: Duration = Duration::from_secs(60);

/// What the guard knows, once it has counted.
fn status(house: &House<'_>) -> Value {
    until("the table is counted", || house.ask(["conntrack", "status", "--json"]).code == 0);
    house.ask(["conntrack", "status", "--json"]).code(0).json()
}

fn offender<'a>(status: &'a Value, addr: &str) -> Option<&'a Value> {
    status["offenders"].as_array().unwrap().iter().find(|one| one["addr"] == addr)
}

/// Waits until the guard names it and does something about it; what is known of it then.
fn held(house: &House<'_>, addr: &str) -> Value {
    until_within(MOST, "the culprit is held", || offender(&status(house), addr).is_some_and(|one| one["action"] == "limit"));
    offender(&status(house), addr).unwrap().clone()
}

/// A game of this kind is named and held, and not one connection of the others fails.
fn the_game(from: &str, opens: Opens) {
    let Some(lan) = Lan::new() else { return };
    let mut house = House::new(&lan.lab, CONFIG);
    house.start();
    let neighbours = Neighbours::start(&lan.lan, from.contains(':'));
    until("the neighbours have habits", || neighbours.fared().0 > 200);
    assert!(offender(&status(&house), from).is_none());
    let game = Game::start(&lan.lan, from, opens, 1000);
    let culprit = held(&house, from);
    until("its limit stands", || lan.lab.victim.sh("nft list tables").contains("palisade_flood"));
    let then = (game.opened(), lan.count());
    assert!(culprit["flows"].as_u64().unwrap() >= 512, "nobody is a culprit with less: {culprit}");
    // It goes on and on, and the table does not.
    until_within(MOST, "the game goes on", || game.opened() > then.0 + 8000);
    let flows = lan.count();
    assert!(flows < then.1 + 1500, "{} opened since, and {} tracked now of {} then", game.opened() - then.0, flows, then.1);
    let (good, bad) = neighbours.fared();
    assert_eq!(bad, 0, "of {good} connections of the others some failed");
    let status = status(&house);
    assert_eq!(status["offenders"].as_array().unwrap().len(), 1, "nobody else: {status}");
    let told = house.ask(["events", "--addr", from]).code(0).out;
    assert!(told.contains("fills the connection table") && told.contains("limited"), "{told}");
    let why = house.ask(["why", from]).code(0).out;
    assert!(why.contains("fills the connection table"), "{why}");
}

#[test]
fn a_game_that_opens_tcp_is_held_and_nobody_else() {
    the_game(GAMER, Opens::Tcp);
}

#[test]
fn a_game_that_opens_udp_is_held_and_nobody_else() {
    the_game(GAMER, Opens::Udp);
}

#[test]
fn a_game_by_ipv6_is_held_and_not_its_whole_network() {
    the_game(GAMER6, Opens::Tcp);
}

#[test]
fn without_a_guard_the_table_fills_and_others_fail() {
    let Some(lan) = Lan::new() else { return };
    let neighbours = Neighbours::start(&lan.lan, false);
    until("the neighbours fare well", || neighbours.fared().0 > 50);
    assert_eq!(neighbours.fared().1, 0);
    // What the game does in hours: all of the table, open and forgotten.
    lan.fill(GAMER);
    let failed = || neighbours.fared().1 > 10;
    until_within(MOST, "connections of others fail", failed);
    assert!(lan.lab.victim.sh("conntrack -S").split_whitespace().any(|word| word.starts_with("drop=") && word != "drop=0"));
}

#[test]
fn a_table_that_is_full_already_is_told_and_its_culprit_purged() {
    let Some(lan) = Lan::new() else { return };
    lan.fill(GAMER);
    let neighbours = Neighbours::start(&lan.lan, false);
    until_within(MOST, "connections of others fail", || neighbours.fared().1 > 5);
    let mut house = House::new(&lan.lab, CONFIG);
    house.start();
    let culprit = held(&house, GAMER);
    let most = max() * 3 / 4;
    assert!(culprit["flows"].as_u64().unwrap() > most, "{culprit}");
    until_within(MOST, "the table has room again", || lan.count() < most);
    let before = neighbours.fared();
    until_within(MOST, "connections of others go well again", || neighbours.fared().0 > before.0 + 100);
    until_within(MOST, "the drops are told", || house.ask(["events"]).out.contains("table is full"));
}

#[test]
fn a_process_of_the_gateway_is_named_by_name_pid_and_user_and_held() {
    let Some(lan) = Lan::new() else { return };
    let mut house = House::new(&lan.lab, CONFIG);
    house.start();
    let neighbours = Neighbours::start(&lan.lan, false);
    until("the neighbours have habits", || neighbours.fared().0 > 100);
    // A user of its own; the shell's own words open connections, and forget them.
    let script = format!("n=0; while :; do n=$((n % 250 + 1)); exec 3<>/dev/tcp/203.0.113.$n/{ILL}; done");
    let mut command = lan.lab.victim.command("setpriv");
    command.args(["--reuid=65533", "--clear-groups", "bash", "-c", &script]).stderr(std::process::Stdio::null());
    let runs = Ends(command.spawn().unwrap());
    let who = format!("user 65533 to port {ILL}/tcp");
    let culprit = held(&house, &who);
    let process = &culprit["process"];
    assert_eq!(
        (process["comm"].as_str(), process["uid"].as_u64(), process["pid"].as_u64()),
        (Some("bash"), Some(65533), Some(runs.0.id().into())),
        "{culprit}"
    );
    until("its limit stands", || lan.lab.victim.sh("nft list tables").contains("palisade_flood"));
    let then = lan.count();
    let good = neighbours.fared().0;
    until_within(MOST, "the others go on", || neighbours.fared().0 > good + 300);
    assert_eq!(neighbours.fared().1, 0);
    assert!(lan.count() < then + 1500, "{} tracked, {then} when it was held", lan.count());
}

#[test]
fn what_the_culprit_has_open_goes_on() {
    let Some(lan) = Lan::new() else { return };
    let mut house = House::new(&lan.lab, CONFIG);
    house.start();
    let listener = listen(&lan.lab.victim, "192.0.2.1:2222");
    let mut session = Stream::open(&lan.lan, GAMER, &listener, "192.0.2.1:2222");
    let _game = Game::start(&lan.lan, GAMER, Opens::Tcp, 1000);
    let _ = held(&house, GAMER);
    for _ in 0..5 {
        assert!(session.echoes(), "an established flow is untouched by the limit");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn who_is_exempt_is_named_and_let_be() {
    let Some(lan) = Lan::new() else { return };
    let mut house = House::new(&lan.lab, &format!("{CONFIG}exempt = [\"192.0.2.64/29\"]\n"));
    house.start();
    let game = Game::start(&lan.lan, GAMER, Opens::Tcp, 500);
    until_within(MOST, "it is named", || offender(&status(&house), GAMER).is_some());
    let then = lan.count();
    until_within(MOST, "it goes on", || game.opened() > 6000);
    assert_eq!(offender(&status(&house), GAMER).unwrap()["action"], "watch");
    assert!(lan.count() > then + 500, "nothing is done about it");
    assert!(lan.lab.victim.sh("nft list tables").lines().all(|table| !table.contains("palisade_flood")));
}

#[test]
fn action_ban_bans_through_the_one_table() {
    let Some(lan) = Lan::new() else { return };
    let mut house = House::new(&lan.lab, &CONFIG.replace("\"limit\"", "\"ban\""));
    house.start();
    let _game = Game::start(&lan.lan, GAMER, Opens::Tcp, 1000);
    until_within(MOST, "it is banned", || house.ask(["check", GAMER]).code == 0);
    let list = house.ask(["list", "--json"]).code(0).json();
    assert_eq!((&list["bans"][0]["prefix"], &list["bans"][0]["origin"]), (&Value::from("192.0.2.66/32"), &Value::from("flood")));
    // By hand it is let in again: it floods on, and is limited instead.
    house.ask(["unban", GAMER]).code(0);
    let _ = held(&house, GAMER);
    assert_eq!(house.ask(["check", GAMER]).code, 1);
}

#[test]
fn who_stops_is_let_go_and_a_stopped_daemon_holds_nobody() {
    let Some(lan) = Lan::new() else { return };
    let mut house = House::new(&lan.lab, &format!("{CONFIG}limit_time = \"10s\"\ncalm_after = \"5s\"\n"));
    house.start();
    let game = Game::start(&lan.lan, GAMER, Opens::Udp, 1000);
    let _ = held(&house, GAMER);
    let limited = || lan.lab.victim.sh("nft list tables").contains("palisade_flood");
    until("its limit stands", limited);
    drop(game);
    until_within(Duration::from_secs(180), "it is let go", || offender(&status(&house), GAMER).is_none());
    until("the limit is gone", || !limited());
    let game = Game::start(&lan.lan, GAMER, Opens::Udp, 1000);
    let _ = held(&house, GAMER);
    until("its limit stands again", limited);
    house.stop();
    assert!(!limited(), "nobody would ever let it go");
    drop(game);
}

#[test]
fn others_who_take_the_limit_away_find_it_put_back() {
    let Some(lan) = Lan::new() else { return };
    let mut house = House::new(&lan.lab, CONFIG);
    house.start();
    let _game = Game::start(&lan.lan, GAMER, Opens::Udp, 1000);
    let _ = held(&house, GAMER);
    let limited = || lan.lab.victim.sh("nft list tables").contains("palisade_flood");
    until("its limit stands", limited);
    lan.lab.victim.sh("nft delete table inet palisade_flood");
    until("it is put back", limited);
    until("and told", || house.ask(["events"]).out.contains("limits of floods were changed"));
}

#[test]
fn timeouts_are_shortened_under_pressure_and_put_back() {
    let Some(lan) = Lan::new() else { return };
    let established = || lan.lab.victim.sh("cat /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established").trim().to_owned();
    let before = established();
    lan.fill(GAMER);
    let mut house = House::new(&lan.lab, &format!("{CONFIG}calm_after = \"2s\"\n"));
    house.start();
    until_within(MOST, "timeouts are shorter", || established() != before);
    until_within(Duration::from_secs(120), "and put back once it is calm", || established() == before);
    assert_eq!(status(&house)["state"], "calm");
}

#[test]
fn switched_off_nothing_stays_shortened_or_limited() {
    let Some(lan) = Lan::new() else { return };
    let established = || lan.lab.victim.sh("cat /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established").trim().to_owned();
    let limited = || lan.lab.victim.sh("nft list tables").contains("palisade_flood");
    let before = established();
    lan.fill(GAMER);
    // What fills the table stays, so that nothing is over by itself.
    let mut house = House::new(&lan.lab, &format!("{CONFIG}purge = false\n"));
    house.start();
    until_within(MOST, "it is held", || limited() && established() != before);
    house.configure(&format!("{CONFIG}purge = false\nenabled = false\n"));
    house.reload();
    until("timeouts are put back", || established() == before);
    until("nobody is limited", || !limited());
    assert_eq!(house.ask(["conntrack", "status"]).code, 6);
    house.configure(&format!("{CONFIG}purge = false\n"));
    house.reload();
    until_within(MOST, "it is held again", || limited() && established() != before);
    house.kill();
    assert!(limited() && established() != before, "nobody could put them back");
    house.configure(&format!("{CONFIG}enabled = false\n"));
    house.start();
    until("the next daemon puts timeouts back", || established() == before);
    until("and takes the limits away", || !limited());
}

#[test]
fn states_of_an_address_that_left_are_ended() {
    let Some(lan) = Lan::new() else { return };
    lan.lab.victim.sh("ip addr add 198.51.100.9/24 dev wire");
    let mut house = House::new(&lan.lab, CONFIG);
    house.start();
    let listener = listen(&lan.lab.outside, "198.51.100.77:7777");
    let _bound = Stream::open(&lan.lab.victim, "198.51.100.9", &listener, "198.51.100.77:7777");
    let other = listen(&lan.lab.outside, "198.51.100.77:7778");
    let mut stays = Stream::open(&lan.lab.victim, "198.51.100.1", &other, "198.51.100.77:7778");
    let states = || lan.lab.victim.sh("conntrack -L -q 198.51.100.9 2>/dev/null || true").lines().count();
    until("it is tracked", || states() > 0);
    lan.lab.victim.sh("ip addr del 198.51.100.9/24 dev wire");
    until_within(MOST, "they are ended", || states() == 0);
    assert!(stays.echoes());
    until("and told", || house.ask(["events"]).out.contains("which this host has no longer"));
}

#[test]
fn forged_sources_are_held_at_the_endpoint_they_flood_and_cost_no_memory() {
    let Some(lan) = Lan::new() else { return };
    let mut house = House::new(&lan.lab, &format!("{CONFIG}engage = [\"5%\", \"50%\"]\n"));
    house.start();
    let neighbours = Neighbours::start(&lan.lan, false);
    until("the neighbours have habits", || neighbours.fared().0 > 100);
    let server = listen(&lan.lan, "[2001:db8:0:2::10]:80");
    let flood = Forged::start(&lan.lab.outside, "2001:db8:0:2::10", ILL, 5000);
    let crowd = format!("many sources to [2001:db8:0:2::10]:{ILL}/tcp");
    let _ = held(&house, &crowd);
    let memory = house.daemon().memory();
    let (sent, flows) = (flood.sent(), lan.count());
    until_within(MOST, "it goes on", || flood.sent() > sent + 60_000);
    // A fortieth of the table a second, for as long as the shortened timeouts last, and what was there.
    assert!(lan.count() < flows.max(40_000) + 60_000, "{} tracked, {flows} when it was held", lan.count());
    assert!(house.daemon().memory() < memory + 32 * 1024, "{} KiB, {memory} before", house.daemon().memory());
    assert_eq!(neighbours.fared().1, 0);
    drop(server);
}

#[test]
fn a_host_without_connection_tracking_is_no_trouble() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, CONFIG);
    house.start();
    let status = status(&house);
    assert_eq!((status["count"].as_u64(), status["state"].as_str()), (Some(0), Some("calm")));
    assert_eq!(house.ask(["status", "--json"]).code(0).json()["state"], "enforcing");
}

/// A process that is ended with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
