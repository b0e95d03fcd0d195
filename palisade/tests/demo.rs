//! `palisade demo` as its users run it: as root, as nobody, where it is forbidden, and killed halfway.
//!
//! Each runs in namespaces of the test's own that stand for the host, so that what is compared before and
//! after is not changed by anybody else meanwhile. Needs root, util-linux, iproute2 and nftables.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

static RUNS: AtomicU32 = AtomicU32::new(0);

const AS_NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

/// A name that no other process on this machine has.
fn name() -> String {
    format!("paldemo{}x{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed))
}

/// Runs a script where `/tmp` holds nothing but the program, called `name`, and the only link is a loopback.
fn on_a_host(name: &str, script: &str) -> Command {
    let program = env!("CARGO_BIN_EXE_palisade");
    let script = format!(
        "exec 9<{program}; mount -t tmpfs -o mode=1777 none /tmp; cat <&9 >/tmp/{name}; exec 9<&-; chmod 755 /tmp/{name}
         nft add table inet somebodys
         host() {{ ip -o link; ip -o addr; nft list ruleset; ls -la --time-style=full-iso /tmp; ls -d /run/palisade /var/lib/palisade /run/netns/* || :; mount; }} 2>&1
         {script}"
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-ec", &script]).current_dir("/").stdin(Stdio::null());
    command
}

/// The programs of this name that run.
fn running(name: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let programs = processes.filter_map(|process| std::fs::read_link(process.path().join("exe")).ok());
    programs.map(|program| program.display().to_string()).filter(|program| program.contains(name)).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn told(output: &Output) -> String {
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Whether this kernel lets nobody make user namespaces; says so where not.
fn nobody_may() -> bool {
    let tried = Command::new("sh").args(["-c", &format!("{AS_NOBODY} unshare --user --map-root-user --net true")]).status().unwrap();
    if !tried.success() {
        eprintln!("SKIPPED: this kernel does not let an ordinary user make user namespaces");
    }
    tried.success()
}

/// Runs the demo, and checks that the host is the same before and after, and every fact of the story.
fn the_whole_story(run_as: &str) {
    let name = name();
    let changed = r#"[ "$before" = "$after" ] || { echo "was: $before"; echo "is: $after"; exit 9; } >&2"#;
    let script = format!("before=$(host); {run_as} /tmp/{name} demo --json; after=$(host); {changed}");
    let output = on_a_host(&name, &script).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(running(&name), Vec::<String>::new(), "nothing of it still runs");

    let steps: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (end, steps) = steps.split_last().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    let story = [
        "network",
        "connections",
        "wrong passwords",
        "ban",
        "cut off",
        "bystander",
        "hopping",
        "repair",
        "bystander again",
        "unban",
        "cleaned up",
    ];
    assert_eq!(names, story);
    assert!(steps.iter().all(|step| step["seen"] == true && step["v"] == 1), "{}", told(&output));
    assert!(end["not_seen"] == Value::Array(vec![]) && end["steps"] == story.len(), "{end}");
    assert!(end["seconds"].as_f64().unwrap() < 30.0, "{end}");

    let fact = |step: &str, fact: &str| steps[story.iter().position(|name| *name == step).unwrap()]["facts"][fact].clone();
    let lines = fact("wrong passwords", "lines");
    assert_eq!(lines.as_array().unwrap().len(), 3);
    assert!(
        lines.as_array().unwrap().iter().all(|line| line.as_str().unwrap().contains("Failed password for root from 198.51.100.66 port "))
    );
    assert_eq!(fact("ban", "prefix"), "198.51.100.66/32");
    assert_eq!(fact("hopping", "prefix"), "2001:db8:66::/64");
    assert!((1..=600).contains(&fact("ban", "left").as_u64().unwrap()), "seconds of the default ban_time");
    let (stood, dead) = (fact("ban", "line_to_kernel_ms").as_f64().unwrap(), fact("ban", "line_to_dead_ms").as_f64().unwrap());
    assert!(0.0 < stood && 0.0 < dead && stood < 5000.0 && dead < 5000.0, "{stood} {dead}");
    assert!(fact("cut off", "dropped_packets").as_u64().unwrap() > 0);
    assert!(fact("repair", "repaired_ms").as_f64().unwrap() > 0.0);
}

#[test]
fn root_sees_every_step_and_the_host_nothing() {
    the_whole_story("");
}

#[test]
fn nobody_sees_every_step_and_the_host_nothing() {
    if nobody_may() {
        the_whole_story(AS_NOBODY);
    }
}

#[test]
fn people_read_a_story() {
    let name = name();
    let output = on_a_host(&name, &format!("/tmp/{name} demo")).output().unwrap();
    let story = text(&output.stdout);
    assert!(output.status.success(), "{}", told(&output));
    for words in [
        "attacker 198.51.100.66",
        "Failed password for root from 198.51.100.66 port",
        "198.51.100.66/32 is banned",
        " ms\n",
        "2001:db8:66::/64",
        "All 11 steps were seen",
    ] {
        assert!(story.contains(words), "{words} is missing in\n{story}");
    }
    assert!(!story.contains("NOT SEEN") && output.stderr.is_empty(), "{}", told(&output));
}

#[test]
fn where_it_is_forbidden_it_says_what_to_allow() {
    let name = name();
    // The limit counts in the user namespace that is made for this only; without capabilities its root has no other way.
    let script = format!(
        "unshare --user --map-root-user sh -ec 'echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all /tmp/{name} demo'"
    );
    let output = on_a_host(&name, &script).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("sysctl user.max_user_namespaces="), "{}", told(&output));
}

#[test]
fn killed_halfway_it_leaves_nothing() {
    let name = name();
    let mut sandbox = on_a_host(&name, &format!("exec /tmp/{name} demo")).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(sandbox.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("is banned")));
    assert_eq!(running(&name).len(), 2, "the demo and its guard");
    sandbox.kill().unwrap(); // every program of the chain became the next one: this is the demo itself
    sandbox.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while !running(&name).is_empty() {
        assert!(Instant::now() < until, "the guard outlives the demo");
        std::thread::sleep(Duration::from_millis(20));
    }
}
