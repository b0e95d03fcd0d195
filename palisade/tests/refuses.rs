//! What cannot work says so at once, in a line, and does not run.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and what was said is printed")]

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use lab::house::{House, fail, sshd_jail};
use lab::service::Running;
use lab::{Lab, program, until, until_within};

/// How a daemon that must not run ended, and what it said.
fn ends(mut daemon: Running) -> (Option<i32>, String) {
    let mut status = None;
    until_within(Duration::from_secs(5), "it gives up", || {
        status = daemon.0.try_wait().unwrap();
        status.is_some()
    });
    let mut said = String::new();
    std::io::Read::read_to_string(daemon.0.stderr.as_mut().unwrap(), &mut said).unwrap();
    (status.unwrap().code(), said)
}

fn run(house: &House<'_>, before: &[&str]) -> Running {
    let mut all = house.command(["run"]);
    if let Some((first, rest)) = before.split_first() {
        // The same program and arguments, with something before them.
        let words: Vec<_> = all.get_args().map(ToOwned::to_owned).collect();
        let at = words.iter().position(|word| word == "--").unwrap() + 1;
        let mut command = std::process::Command::new(all.get_program());
        command.args(&words[..at]).arg(program(first)).args(rest).args(&words[at..]);
        all = command;
    }
    Running(all.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap())
}

#[test]
fn a_second_daemon_names_the_first_and_goes() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    house.start();
    let pid = house.daemon().0.id();
    let (code, said) = ends(run(&house, &[]));
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert!(said.contains(&pid.to_string()) && said.trim_end().lines().count() == 1, "{said}");
    house.expect(0, "status");
    house.expect(0, "ban 203.0.113.7");
    house.kill();
    house.start();
}

#[test]
fn verbs_without_a_daemon_take_turns_and_a_starting_daemon_waits_for_them() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    let ban =
        |n: usize| house.command(["ban", "--for", "1h", &format!("203.0.113.{n}")]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let verbs: Vec<_> = (1..=8).map(ban).collect();
    for mut verb in verbs {
        assert!(verb.wait().unwrap().success());
    }
    assert_eq!(house.list().len(), 8);
    // Some meet the daemon on its way up: they or it wait, and nobody is turned away.
    let verbs: Vec<_> = (11..=14).map(ban).collect();
    let (daemon, ready) = house.launch(&["run"]);
    let late: Vec<_> = (15..=18).map(ban).collect();
    for mut verb in verbs.into_iter().chain(late) {
        assert!(verb.wait().unwrap().success());
    }
    house.wait_for(daemon, &ready);
    assert_eq!((house.list().len(), house.kernel().len()), (16, 16));
}

#[test]
fn without_the_right_to_enforce_nothing_runs() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    // Root without the one capability; and root of a user namespace, who holds it, but not over this network.
    for arguments in [["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"], ["unshare", "--user", "--map-root-user"]] {
        let (code, said) = ends(run(&house, &arguments));
        assert!(code.is_some_and(|code| code != 0), "{code:?}");
        assert!(said.trim_end().lines().count() == 1, "not one line: {said}");
        println!("{said}");
        assert!(said.contains("CAP_NET_ADMIN") || said.contains("root"), "it does not say what is missing: {said}");
        assert!(!house.run.join("control.sock").exists());
    }
    assert_eq!(lab.victim.sh("nft list tables"), "");
}

#[test]
fn the_memory_backend_needs_no_rights() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.path("auth.log");
    fs::write(&log, "").unwrap();
    let mut house = House::new(&lab, &(sshd_jail(&log, "max_retry = 3") + "[ban]\nbackend = \"memory\"\n"));
    // The program is copied to where anybody may run it.
    let copy = lab.path("palisade");
    fs::copy(env!("CARGO_BIN_EXE_palisade"), &copy).unwrap();
    fs::set_permissions(lab.dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let nobody = |verb: &[&str]| {
        let mut command = lab.victim.command(program("setpriv"));
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]).arg(&copy);
        house.dress(&mut command);
        command.args(verb);
        command
    };
    let mut daemon = Running(nobody(&["run"]).spawn().unwrap());
    until("it answers", || nobody(&["status"]).output().unwrap().status.success());
    fail(&log, "203.0.113.7", 3);
    until("it bans", || nobody(&["check", "203.0.113.7"]).output().unwrap().status.success());
    assert!(daemon.0.try_wait().unwrap().is_none());
    assert_eq!(lab.victim.sh("nft list tables"), "", "the memory backend wrote into the kernel");
    drop(daemon);
    house.env.clear();
}

#[test]
fn a_config_that_is_wrong_is_told_by_line_and_column() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    fs::write(&house.config, "[ban]\nban_tme = \"1h\"\nmax_retry = \"many\"\n").unwrap();
    for verb in ["config check", "run", "list", "restore"] {
        let answer = house.expect(4, verb);
        for place in [":2:1", ":3:13"] {
            assert!(answer.err.contains(&format!("{}{place}", house.config.display())), "{verb}: {answer:?}");
        }
        assert!(answer.err.contains("ban_time"), "no hint: {answer:?}");
    }
    assert_eq!(lab.victim.sh("nft list tables"), "");
}

#[test]
fn a_config_that_is_wrong_is_told_to_programs_too() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    fs::write(&house.config, "[ban]\nban_tme = \"1h\"\n").unwrap();
    let told = house.expect(4, "--json config check").json();
    let first = &told["errors"][0];
    assert_eq!((&told["v"], &told["valid"], &first["line"], &first["column"]), (&1.into(), &false.into(), &2.into(), &1.into()), "{told}");
    fs::remove_file(&house.config).unwrap();
    for verb in ["config check", "list", "run"] {
        let answer = house.expect(4, verb);
        assert!(answer.err.contains(&house.config.display().to_string()), "{verb}: {answer:?}");
    }
    assert_eq!(house.expect(4, "--json config check").json()["errors"][0]["kind"], "unreadable");
}

#[test]
fn a_zone_that_does_not_exist_is_no_zone_for_a_jail() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    fs::write(&house.config, "[jail.sshd]\ntimezone = \"Europe/Atlantis\"\n").unwrap();
    for verb in ["config check", "run"] {
        let answer = house.expect(4, verb);
        assert!(answer.err.contains("[jail.sshd]") && answer.err.contains("Europe/Atlantis"), "{verb}: {answer:?}");
    }
    let told = house.expect(4, "--json config check").json();
    assert!(told["errors"][0]["message"].as_str().unwrap().contains("Europe/Atlantis"), "{told}");
    fs::write(&house.config, "[jail.sshd]\ntimezone = \"UTC\"\n").unwrap();
    house.expect(0, "config check");
}

#[test]
fn a_daemon_that_hangs_up_has_done_nothing_as_far_as_a_script_is_told() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    fs::create_dir_all(&house.run).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(house.run.join("control.sock")).unwrap();
    // Whoever connects is hung up on at once, so that either writing or reading fails.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    for verb in ["ban 203.0.113.7", "unban 203.0.113.7", "list", "status", "kill 203.0.113.7", "events -f"] {
        let answer = house.expect(3, verb);
        assert!(answer.out.is_empty() && answer.err.contains("daemon"), "{verb}: {answer:?}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    for verb in ["completions zsh", "man", "--json signatures", "list", "config show"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let answer = house.command(verb.split(' ')).stdout(writer).stderr(std::process::Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&answer.stderr);
        assert!(answer.status.success() && !said.contains("panicked"), "{verb}: {:?} {said}", answer.status);
    }
}

#[test]
fn without_rights_and_without_a_daemon_it_says_who_may() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    let copy = lab.path("palisade");
    fs::copy(env!("CARGO_BIN_EXE_palisade"), &copy).unwrap();
    fs::set_permissions(lab.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for verb in ["list", "check 203.0.113.7", "ban 203.0.113.7", "status"] {
        let mut command = lab.victim.command(program("setpriv"));
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]).arg(&copy);
        house.dress(&mut command);
        let answer = command.args(verb.split(' ')).output().unwrap();
        let said = String::from_utf8_lossy(&answer.stderr);
        assert!(answer.status.code() == Some(3) && said.contains("group palisade"), "{verb}: {:?} {said}", answer.status);
    }
}

/// What an `ipset` says whose kernel has no sets (libipset/session.c: a message of the kernel's that is not understood).
const NO_SETS: &str = "#!/bin/sh\necho 'ipset v7.17: Cannot open session to kernel.' >&2\nexit 1\n";

/// sshguard's failure of old: after an upgrade the backend was not recognised, and nothing was blocked, silently.
#[test]
fn a_firewall_that_is_not_recognised_or_not_whole_is_an_error_that_says_what_to_do() {
    let Some(lab) = Lab::new() else { return };
    let empty = lab.path("no-tools");
    fs::create_dir(&empty).unwrap();
    let no_kernel = lab.path("no-kernel");
    fs::create_dir(&no_kernel).unwrap();
    fs::write(no_kernel.join("ipset"), NO_SETS).unwrap();
    fs::set_permissions(no_kernel.join("ipset"), fs::Permissions::from_mode(0o755)).unwrap();
    let cases = [
        // A name that is none: the config says where, and what was meant.
        (
            "[ban]\nbackend = \"nftable\"\n".to_owned(),
            Some(4),
            vec![":2:11: `nftable` is not a word for `backend`", "did you mean `nftables`?"],
        ),
        // The tool is not there.
        (
            format!("[ban]\nbackend = \"ipset\"\n[backend]\npath = [\"{}\"]\n", empty.display()),
            None,
            vec!["nothing would be blocked", "there is no program `ipset`", "`backend = \"nftables\"` in [ban] would work here"],
        ),
        (
            format!("[ban]\nbackend = \"iptables\"\n[backend]\npath = [\"{}\"]\n", empty.display()),
            None,
            vec!["nothing would be blocked", "install Debian's package `iptables`", "`backend = \"nftables\"` in [ban] would work here"],
        ),
        // The tool is, and the kernel has not what it needs.
        (
            format!("[ban]\nbackend = \"ipset\"\n[backend]\npath = [\"{}\", \"/usr/sbin\"]\n", no_kernel.display()),
            None,
            vec!["nothing would be blocked", "Cannot open session to kernel", "modprobe ip_set"],
        ),
        // A firewall of another system.
        (
            "[ban]\nbackend = \"pf\"\n".to_owned(),
            None,
            vec!["nothing would be blocked", "pfctl", "`backend = \"nftables\"` in [ban] would work here"],
        ),
        // A program that is not one.
        (
            "[ban]\nbackend = \"command\"\n[backend.command]\nrun = [\"/usr/libexec/sshguard/sshg-fw-nftables\"]\n".to_owned(),
            None,
            vec!["nothing would be blocked", "/usr/libexec/sshguard/sshg-fw-nftables is no program"],
        ),
    ];
    for (config, code, words) in cases {
        let house = House::new(&lab, &config);
        let (ended, said) = ends(run(&house, &[]));
        assert!(ended.is_some_and(|ended| ended != 0) && code.is_none_or(|code| ended == Some(code)), "{config}{ended:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{config}does not say {word:?}: {said}");
        }
        // Nor does anything else pretend.
        let verb = house.ask(["ban", "203.0.113.7"]);
        assert!(verb.code != 0 && !verb.err.is_empty(), "{verb:?}");
        let doctor = house.ask(["doctor"]);
        assert!(doctor.code != 0, "{doctor:?}");
    }
    assert_eq!(lab.victim.sh("nft list tables"), "", "it fell back to another");
}
