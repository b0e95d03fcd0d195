//! `palisade conntrack timeouts` on a real kernel, in a network namespace: its own timeouts, and sizes it may not set.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::collections::BTreeMap;
use std::fs;

use lab::Lab;
use lab::house::{Answer, House};
use serde_json::Value;

const FOLDER: &str = "/proc/sys/net/netfilter";

/// Every switch of connection tracking that the host has, byte for byte; the count is nobody's to set.
fn switches(lab: &Lab) -> BTreeMap<String, String> {
    let listed = lab.victim.sh(&format!("cd {FOLDER}; for f in nf_conntrack_*; do echo \"$f=$(cat $f)\"; done"));
    let all = listed.lines().map(|line| line.split_once('=').unwrap()).filter(|(name, _)| *name != "nf_conntrack_count");
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// `apply`, its file in the folder of the test.
fn apply(house: &House<'_>, lab: &Lab) -> Answer {
    let dir = lab.path("sysctl.d");
    house.ask(["conntrack", "timeouts", "apply", "--sysctl-dir", dir.to_str().unwrap()])
}

/// `revert`, of the same file.
fn revert(house: &House<'_>, lab: &Lab) -> Answer {
    let dir = lab.path("sysctl.d");
    house.ask(["conntrack", "timeouts", "revert", "--sysctl-dir", dir.to_str().unwrap()]).code(0)
}

fn file(lab: &Lab) -> std::path::PathBuf {
    lab.path("sysctl.d").join("60-palisade-conntrack.conf")
}

#[test]
fn shown_planned_applied_reverted() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "[ban]\nbackend = \"memory\"");
    let before = switches(&lab);

    let shown = house.json("conntrack timeouts show");
    let listed: BTreeMap<&str, &Value> =
        shown["switches"].as_array().unwrap().iter().map(|switch| (switch["name"].as_str().unwrap(), switch)).collect();
    for (name, value) in &before {
        let switch = listed[name.as_str()];
        assert_eq!(switch["value"].as_str(), Some(value.as_str()), "{name}");
        assert!(switch["what"].is_string(), "the catalogue does not know {name}");
    }
    assert_eq!(listed["nf_conntrack_max"]["settable"], false, "only the initial namespace sets it");
    assert_eq!(listed["nf_conntrack_tcp_timeout_established"]["proposal"], "86400");
    let text = house.expect(0, "conntrack timeouts show").out;
    assert!(text.contains("udp_timeout_stream") && text.contains("432000 (5d)"), "{text}");

    let plan = house.ask(["--json", "conntrack", "timeouts", "plan"]).code(1).json();
    assert!(plan["changes"].as_u64().unwrap() > 0);
    assert!(plan["steps"].as_array().unwrap().iter().all(|step| !step["why"].as_str().unwrap().is_empty()));
    assert_eq!(switches(&lab), before, "a plan changes nothing");
    assert!(!house.state.join("conntrack-timeouts.json").exists());

    apply(&house, &lab).code(0);
    house.expect(0, "conntrack timeouts plan");
    let after = switches(&lab);
    for step in plan["steps"].as_array().unwrap() {
        assert_eq!(after[step["name"].as_str().unwrap()], step["to"].as_str().unwrap());
    }
    let written = fs::read_to_string(file(&lab)).unwrap();
    assert!(written.contains("palisade conntrack timeouts revert"), "{written}");
    // What the file sets at boot is what holds now.
    lab.victim.sh(&format!("sysctl -p {}", file(&lab).display()));
    assert_eq!(switches(&lab), after);

    apply(&house, &lab).code(0);
    let elsewhere = house.ask(["conntrack", "timeouts", "revert"]);
    assert!(elsewhere.err.contains("--sysctl-dir") && file(&lab).exists(), "what only the journal names is not removed: {elsewhere:?}");
    assert_eq!(switches(&lab), after);
    revert(&house, &lab);
    assert_eq!(switches(&lab), before);
    assert!(!file(&lab).exists() && !house.state.join("conntrack-timeouts.json").exists());
    house.expect(0, "conntrack timeouts revert");
}

#[test]
fn what_somebody_sets_in_between_is_left() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "[ban]\nbackend = \"memory\"");
    let before = switches(&lab);
    apply(&house, &lab).code(0);
    lab.victim.sh(&format!("echo 41 > {FOLDER}/nf_conntrack_tcp_timeout_syn_sent"));
    let reverted = revert(&house, &lab);
    assert!(reverted.err.contains("somebody set nf_conntrack_tcp_timeout_syn_sent to 41"), "{reverted:?}");
    let mut wanted = before;
    wanted.insert("nf_conntrack_tcp_timeout_syn_sent".to_owned(), "41".to_owned());
    assert_eq!(switches(&lab), wanted);
}

#[test]
fn switches_that_cannot_be_set_are_told_once() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "[ban]\nbackend = \"memory\"");
    let before = switches(&lab);
    lab.victim.sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
    let applied = apply(&house, &lab).code(6);
    assert_eq!(applied.err.matches("read-only").count(), 1, "{applied:?}");
    assert!(applied.err.contains("set it outside of the container") && applied.out.contains("applied: 0 changes"), "{applied:?}");
    assert!(!file(&lab).exists() && !house.state.join("conntrack-timeouts.json").exists());
    assert_eq!(switches(&lab), before);
}

#[test]
fn from_a_namespace_that_nothing_boots_in_the_machines_file_is_not_written() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "[ban]\nbackend = \"memory\"");
    // Were it written, it would be here.
    lab.victim.sh("mkdir -p /etc/sysctl.d; mount -t tmpfs tmpfs /etc/sysctl.d");
    let applied = house.expect(0, "conntrack timeouts apply");
    assert!(applied.err.contains("not one that is set up at boot"), "{applied:?}");
    assert_eq!(lab.victim.sh("ls /etc/sysctl.d"), "");
    house.expect(0, "conntrack timeouts revert");
}

#[test]
fn nobody_but_root_changes_anything_and_everybody_may_look() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "[ban]\nbackend = \"memory\"");
    lab.victim.sh(&format!("chmod 755 {}", lab.dir.path().display()));
    let (config, state) = (house.config.display(), house.state.display());
    // The program itself may lie where only root goes.
    let copy = lab.path("palisade");
    fs::copy(env!("CARGO_BIN_EXE_palisade"), &copy).unwrap();
    let run = |verb: &str| {
        let command = format!("setpriv --reuid=65534 --regid=65534 --clear-groups {}", copy.display());
        lab.victim.try_sh(&format!("{command} --config {config} --state-dir {state} conntrack timeouts {verb}"))
    };
    for verb in ["apply", "revert"] {
        let output = run(verb);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("run this as root"), "{output:?}");
    }
    assert_eq!(run("show").status.code(), Some(0));
    assert_eq!(run("plan").status.code(), Some(1), "there is something to change");
}

#[test]
fn it_works_beside_the_daemon() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "[ban]\nbackend = \"memory\"");
    house.start();
    let before = switches(&lab);
    apply(&house, &lab).code(0);
    house.expect(0, "conntrack timeouts plan");
    revert(&house, &lab);
    assert_eq!(switches(&lab), before);
    house.stop();
}
