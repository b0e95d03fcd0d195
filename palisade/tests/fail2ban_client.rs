//! Scripts that call fail2ban-client go on: the same commands to a real fail2ban and to the shim, the same answers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::os::unix::fs::symlink;

use lab::fail2ban::Fail2ban;
use lab::house::House;
use lab::{Lab, until};

/// Commands that change something and that ask, in an order in which the answers differ.
const COMMANDS: &[&str] = &[
    "ping",
    "status",
    "status web",
    "set web banip 203.0.113.7 203.0.113.8",
    "set web banip 203.0.113.7",
    "set ssh banip 203.0.113.9",
    "status web",
    "status web short",
    "status ssh",
    "get web banned",
    "get web banned 203.0.113.7 203.0.113.9",
    "get web banned 203.0.113.7",
    "get web banned 203.0.113.99",
    "status web whatever",
    "-t",
    "-q ping",
    "banned 203.0.113.7 203.0.113.99",
    "get web bantime",
    "get web findtime",
    "get web maxretry",
    "get web logpath",
    "get web journalmatch",
    "get web ignoreip",
    "set web unbanip 203.0.113.7",
    "set web unbanip 203.0.113.99",
    "get ssh banip",
    "get ssh banip ,",
    "unban 203.0.113.8 203.0.113.99",
    "unban --all",
    "status web",
    "set web attempt 203.0.113.50",
    ENOUGH,
    "get web banip",
    "reload web",
    "reload",
];

/// As many failures as the jail allows.
const ENOUGH: &str = "set web attempt 203.0.113.51 one two three";

/// Commands that both refuse, in the same words: scripts look for them on standard output.
const REFUSED: &[&str] = &[
    "status nowhere",
    "status --all",
    "get nowhere bantime",
    "get web nonsense",
    "set nowhere banip 203.0.113.7",
    "set web unbanip --report-absent 203.0.113.99",
    "unban",
    "nonsense",
    "reload nowhere",
    "restart nowhere",
    "reload --if-exists nowhere",
    "reload web ssh",
];

/// Commands that nobody answers without a server: with nothing on standard output, by which scripts see that it is down.
const NOBODY_ANSWERS: &[&str] =
    &["ping", "status", "status web", "banned", "get web bantime", "get web banip", "reload", "unban 203.0.113.7"];

/// What monitoring and scripts of administrators make of the answers: shell, with the client in `$C`.
const SCRIPTS: &[&str] = &[
    // The jails, as plugins of check_mk, collectd and munin take them, and how many each has banned.
    r#"$C status | grep "Jail list" | tr -s '[:blank:]' | cut -f2- -d: | sed -e 's/,/ /g'"#,
    r#"$C status | awk '/Jail list/{print}' | sed -r -e 's/^.*Jail list:[\t ]+//' -e 's/, ?/ /g'"#,
    r#"$C status | sed -n 's/^[^:]*Jail list:[[:space:]]*//p' | tr -d ' ' | tr , '\n' | sort"#,
    r#"$C status web | grep 'Currently banned' | sed -r -e 's/^[^:]+:[ \t]*//'"#,
    r#"$C status web | awk '/Currently banned:/ {print $4} /Total banned:/ {print $NF} /Total failed:/ {print $5}'"#,
    r#"$C status web | grep -oE 'Currently banned:[[:space:]]*[0-9]+' | grep -oE '[0-9]+$'"#,
    r#"$C status web | sed -n 's/.*Banned IP list:[[:space:]]*//p' | tr ' ' '\n' | sort | uniq -c"#,
    r#"$C ping | grep -c 'pong$'"#,
    r#"if $C status nowhere 2>&1 | grep -q 'does not exist'; then echo no such jail; fi"#,
    r#"$C status nowhere >/dev/null 2>&1 || echo down"#,
    // Who is banned, as web interfaces and hooks ask.
    r#"[ "$($C get web banned 203.0.113.7)" = 0 ] || echo banned"#,
    r#"$C banned | python3 -c 'import ast, sys; print(sorted(ip for jail in ast.literal_eval(sys.stdin.read()) for ips in jail.values() for ip in ips))'"#,
    r#"$C get web banip --with-time | awk '{print $1, $4, NF}'"#,
    r#"for ip in $($C get web banip); do $C set web unbanip "$ip"; done; $C -t && $C reload >/dev/null && echo reloaded"#,
];

#[test]
fn the_answers_are_fail2bans_own() {
    let Some(lab) = Lab::new() else { return };
    let fail2ban = Fail2ban::start(&lab, &[("web", "1h"), ("ssh", "1h")]);
    let jail = |name: &str| {
        let watched = fail2ban.watched();
        format!(
            "[jail.{name}]\nsignatures = [\"sshd\"]\nfiles = [\"{}\"]\nban_time = \"1h\"\nfind_time = \"10m\"\nmax_retry = 3\n",
            watched.display()
        )
    };
    let mut house = House::new(&lab, &format!("{}{}", jail("web"), jail("ssh")));
    house.start();
    for command in COMMANDS {
        let theirs = fail2ban.expect(command);
        let ours = house.expect(0, &format!("fail2ban-client {command}")).out;
        assert_eq!(ours, theirs, "{command}");
        if *command == ENOUGH {
            // fail2ban bans in a thread of its own, a moment after it has answered.
            until("fail2ban bans who has failed often enough", || fail2ban.expect("get web banip").contains("203.0.113.51"));
        }
    }
    for command in REFUSED {
        let (code, theirs) = fail2ban.answer(command);
        assert_eq!(code, 255, "{command}");
        assert_eq!(house.expect(255, &format!("fail2ban-client {command}")).out, theirs, "{command}");
    }
    // The same pipes over both.
    let ours = lab.path("client");
    let link = format!("#!/bin/sh\nexec {} {} \"$@\"\n", env!("CARGO_BIN_EXE_palisade"), "fail2ban-client");
    std::fs::write(&ours, link).unwrap();
    std::fs::set_permissions(&ours, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for script in SCRIPTS {
        let answer = |client: &str| {
            let mut command = lab.victim.command("/bin/bash");
            command.env("C", client).args(["-c", script]);
            command.env("PALISADE_RUN_DIR", &house.run).env("PALISADE_STATE_DIR", &house.state).env("PALISADE_CONFIG", &house.config);
            let output = command.output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        fail2ban.expect("set web banip 203.0.113.7 203.0.113.8");
        house.expect(0, "fail2ban-client set web banip 203.0.113.7 203.0.113.8");
        let theirs = answer(&fail2ban.client());
        assert!(!theirs.1.trim().is_empty(), "{script} finds nothing with fail2ban itself");
        assert_eq!(answer(&ours.display().to_string()), theirs, "{script}");
    }
}

#[test]
fn without_a_daemon_everything_ends_as_there_without_a_server() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "[jail.web]\nreports = true\n");
    for command in NOBODY_ANSWERS {
        let answer = house.expect(255, &format!("fail2ban-client {command}"));
        assert_eq!(answer.out, "", "{command}");
        assert!(answer.err.contains("is palisade running?"), "{command}: {}", answer.err);
    }
    assert!(house.expect(255, "fail2ban-client start").err.contains("systemctl start palisade"));
    house.expect(0, "fail2ban-client -t");
    house.expect(0, "fail2ban-client -V");
}

#[test]
fn its_test_finds_what_a_check_of_the_config_finds() {
    let Some(lab) = Lab::new() else { return };
    let (gone, nobody) = (lab.path("gone.conf"), lab.path("nobody.conf"));
    std::fs::write(&nobody, "[Definition]\nfailregex = ^failure$\n").unwrap();
    let jail = |name: &str, filter: &std::path::Path| {
        format!("[jail.{name}]\nfail2ban = \"{}\"\nfiles = [\"/var/log/nothing\"]\n", filter.display())
    };
    let house = House::new(&lab, &format!("{}{}", jail("one", &gone), jail("two", &nobody)));
    let checked = house.expect(4, "config check").err;
    let tested = house.expect(255, "fail2ban-client -t");
    assert_eq!(tested.out, "");
    assert_eq!(tested.err, format!("{checked}ERROR: test configuration failed\n"));
    assert!(checked.contains("(jail `one`)") && checked.contains("(jail `two`)"), "{checked}");
    house.configure("[jail.web]\nreprts = true\n");
    assert!(house.expect(255, "fail2ban-client -t").err.contains("reprts"));
}

#[test]
fn a_total_of_bans_never_falls_while_the_daemon_runs() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "[jail.web]\nreports = true\nban_time = \"1h\"\n");
    house.start();
    house.expect(0, "fail2ban-client set web banip 203.0.113.7 203.0.113.8");
    house.stop();
    house.start();
    let is_total = |bans: u32| {
        let status = house.expect(0, "fail2ban-client status web").out;
        assert!(status.contains(&format!("Total banned:\t{bans}\n")), "{status}");
    };
    is_total(2);
    house.expect(0, "fail2ban-client set web banip 203.0.113.9");
    // Whom somebody else banned for a shorter time is the jail's from now on.
    house.expect(0, "ban 203.0.113.10 --for 5m");
    house.expect(0, "fail2ban-client set web banip 203.0.113.10");
    is_total(4);
    house.expect(0, "fail2ban-client set web banip 203.0.113.10");
    house.expect(0, "fail2ban-client set web unbanip 203.0.113.7 203.0.113.9 203.0.113.10");
    is_total(4);
    house.expect(0, "fail2ban-client unban --all");
    is_total(4);
}

#[test]
fn what_was_done_is_told_beside_what_was_refused_and_the_advice_works() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "[allow]\nprefixes = [\"203.0.113.128/25\"]\n[jail.web]\nreports = true\n");
    house.start();
    let said = house.expect(255, "fail2ban-client set web banip 203.0.113.130 203.0.113.7 203.0.113.8").out;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "2"), "{said}");
    assert!(house.banned("203.0.113.7") && house.banned("203.0.113.8") && !house.banned("203.0.113.130"));
    let (_, advice) = lines[1].split_once('`').unwrap();
    let (advice, _) = advice.split_once('`').unwrap();
    house.expect(0, advice.strip_prefix("palisade ").unwrap());
    assert!(house.banned("203.0.113.130"), "{advice}");
    let said = house.expect(255, "fail2ban-client set web banip 203.0.113.131").out;
    assert!(said.starts_with("203.0.113.131 is not banned: it is protected by"), "{said}");
}

#[test]
fn what_it_does_stands_in_the_kernel_and_its_safety_rules_are_ours() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "[jail.web]\nreports = true\nban_time = \"1h\"\n");
    assert!(house.expect(255, "fail2ban-client ping").err.contains("is palisade running?"));
    house.start();
    assert_eq!(house.expect(0, "fail2ban-client set web banip 203.0.113.7 2001:db8:66::1").out, "2\n");
    let kernel = house.kernel();
    assert!(kernel.contains_key("203.0.113.7/32") && kernel.contains_key("2001:db8:66::/64"), "{kernel:?}");
    assert_eq!(house.expect(0, "fail2ban-client banned").out, "[{'web': ['203.0.113.7', '2001:db8:66::/64']}]\n");
    let with_time = house.expect(0, "fail2ban-client get web banip --with-time").out;
    assert!(with_time.lines().all(|line| line.contains(" \t") && line.contains(" + 3600 = ")), "{with_time}");
    assert!(house.expect(255, "fail2ban-client set web banip 198.51.100.1").out.contains("protected by"));
    house.expect(0, "ban 203.0.113.9");
    assert_eq!(house.expect(0, "fail2ban-client set web unbanip 2001:db8:66::2").out, "1\n");
    assert_eq!(house.expect(0, "fail2ban-client unban --all").out, "1\n");
    assert!(house.banned("203.0.113.9"), "what was banned by hand stays");
    let help = house.expect(255, "fail2ban-client set web addignoreip 192.0.2.1").err;
    assert!(help.contains("palisade allow add"), "{help}");
}

#[test]
fn a_link_of_its_name_is_the_shim() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "[jail.web]\nreports = true\n");
    house.start();
    let link = lab.path("fail2ban-client");
    symlink(env!("CARGO_BIN_EXE_palisade"), &link).unwrap();
    let run = |words: &str| {
        let mut command = lab.victim.command(&link);
        command.env("PALISADE_RUN_DIR", &house.run).env("PALISADE_STATE_DIR", &house.state).env("PALISADE_CONFIG", &house.config);
        let output = command.args(words.split_whitespace()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(run("-c /etc/fail2ban -s /run/nowhere ping"), "Server replied: pong\n");
    assert_eq!(run("status"), "Status\n|- Number of jail:\t1\n`- Jail list:\tweb\n");
    assert_eq!(run("-V"), format!("{}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run("--version"), format!("Palisade v{}\n", env!("CARGO_PKG_VERSION")));
    assert!(run("-h").contains("set JAIL banip|unbanip"), "help is to be had by the link too");
}

#[test]
fn a_reload_checks_the_config_first() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "[jail.web]\nreports = true\n");
    house.start();
    house.configure("[jail.web]\nreports = true\n[jail.more]\nreports = true\n");
    house.expect(0, "reload");
    until("the new jail is there", || house.ask(["report", "203.0.113.7", "--jail", "more"]).code == 0);
    house.configure("[jail.web]\nreprts = true\n");
    house.expect(4, "reload");
    house.expect(255, "fail2ban-client reload");
    assert!(house.events("ban").is_empty());
}
