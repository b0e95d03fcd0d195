//! From fail2ban and sshguard in an hour: their own configs, read by the real program, and what they guard.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::fs;
use std::io::Write;
use std::path::Path;

use lab::house::House;
use lab::{ATTACKER, BYSTANDER, Lab, until};

/// Where Debian's package puts its config.
const DEBIAN: &str = "/etc/fail2ban";

/// A copy of fail2ban's own config with an administrator's changes.
fn debian(lab: &Lab, local: &str) -> Option<String> {
    if !Path::new(DEBIAN).join("jail.conf").is_file() {
        eprintln!("SKIPPED: no {DEBIAN}/jail.conf; tests/deps installs fail2ban");
        return None;
    }
    let dir = lab.path("etc-fail2ban");
    lab.victim.sh(&format!("cp -r {DEBIAN} {0}; rm -f {0}/jail.d/*; chmod -R u+w {0}", dir.display()));
    fs::write(dir.join("jail.local"), local).unwrap();
    Some(dir.display().to_string())
}

#[test]
fn debians_jails_run_on_with_their_own_filters() {
    let Some(lab) = Lab::new() else { return };
    let (auth, web) = (lab.path("auth.log"), lab.path("error.log"));
    let (shown_auth, shown_web) = (auth.display(), web.display());
    for log in [&auth, &web] {
        fs::write(log, "").unwrap();
    }
    let local = format!(
        "[DEFAULT]\nbantime = 1h\nignoreip = 127.0.0.1/8 {BYSTANDER}\ndestemail = root@example.org\naction = %(action_mwl)s\n\
         [sshd]\nenabled = true\nmode = aggressive\nbackend = auto\nlogpath = {shown_auth}\nmaxretry = 3\n\
         [nginx-http-auth]\nenabled = true\nlogpath = {shown_web}\n\
         [vsftpd]\nenabled = true\nlogpath = {shown_web}.none\n[recidive]\nenabled = true\n"
    );
    let Some(dir) = debian(&lab, &local) else { return };
    let mut house = House::new(&lab, "");
    let made = lab.path("made.toml");
    let answer = house.ask(["import", "fail2ban", "--config", &dir, "--write", made.to_str().unwrap()]);
    assert_eq!(answer.code, 1, "some of it is not taken over: {answer:?}");
    for told in [
        "[sshd] maxretry = 3: max_retry = 3",
        "jail.local:19: [recidive]",
        "[jail.vsftpd]: none of its files is here",
        "go on beside the new ones: dropbear, web-auth",
        "no mail is sent",
        "not taken over: repeat offenders",
        "settings taken over",
    ] {
        assert!(answer.err.contains(told), "{told}: {}", answer.err);
    }
    let config = fs::read_to_string(&made).unwrap();
    assert!(
        house.ask(["import", "fail2ban", "--config", &dir, "--write", made.to_str().unwrap()]).code(2).err.contains("is there already")
    );
    house.configure(&config);
    house.expect(0, "config check");
    house.start();
    let mut log = fs::OpenOptions::new().append(true).open(&auth).unwrap();
    let now = lab.victim.sh("LC_ALL=C date '+%b %e %H:%M:%S'");
    let now = now.trim();
    for n in 0..3 {
        for who in [ATTACKER, BYSTANDER] {
            writeln!(log, "{now} host sshd[{n}]: Invalid user admin from {who} port 5002{n}").unwrap();
        }
    }
    house.until_banned(ATTACKER);
    assert!(!house.banned(BYSTANDER), "ignoreip is the allow list");
    let ban = house.json("list")["bans"][0].clone();
    assert_eq!(ban["origin"], "jail:sshd", "{ban}");
    let day = lab.victim.sh("date '+%Y/%m/%d %H:%M:%S'");
    let mut log = fs::OpenOptions::new().append(true).open(&web).unwrap();
    for n in 0..5 {
        writeln!(
            log,
            "{} [error] 7#7: *{n} user \"x\": password mismatch, client: 203.0.113.99, server: s, request: \"GET / HTTP/1.1\", host: \"s\"",
            day.trim()
        )
        .unwrap();
    }
    house.until_banned("203.0.113.99");
}

#[test]
fn sshguards_config_guards_on() {
    let Some(lab) = Lab::new() else { return };
    let (auth, white, conf) = (lab.path("auth.log"), lab.path("whitelist"), lab.path("sshguard.conf"));
    fs::write(&auth, "").unwrap();
    fs::write(&white, format!("{BYSTANDER}\n")).unwrap();
    fs::write(
        &conf,
        format!(
            "BACKEND=\"/usr/libexec/sshguard/sshg-fw-nft-sets\"\nFILES=\"{}\"\nTHRESHOLD=20\nWHITELIST_FILE={}\n",
            auth.display(),
            white.display()
        ),
    )
    .unwrap();
    let mut house = House::new(&lab, "");
    let answer = house.ask(["import", "sshguard", "--config", conf.to_str().unwrap()]).code(0);
    house.configure(&answer.out);
    house.start();
    let mut log = fs::OpenOptions::new().append(true).open(&auth).unwrap();
    for n in 0..2 {
        for who in [ATTACKER, BYSTANDER] {
            writeln!(log, "Nov 22 17:00:0{n} host dropbear[{n}]: Login attempt for nonexistent user from {who}:5000{n}").unwrap();
        }
    }
    house.until_banned(ATTACKER);
    until("all is read", || house.lines() == 4);
    assert!(!house.banned(BYSTANDER));
}

#[test]
fn what_is_no_config_of_theirs_is_told() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    let at = lab.path("nothing");
    let at = at.to_str().unwrap();
    assert!(house.ask(["import", "fail2ban", "--config", at]).code(2).err.contains("no jail.conf"));
    assert!(house.ask(["import", "sshguard", "--config", at]).code(2).err.contains("no such file"));
    assert!(house.ask(["import", "plain", "--config", at]).code(2).err.contains("a FILE is needed"));
    let json = house.ask(["--json", "import", "fail2ban", "--config", at]);
    assert_eq!(json.code, 2);
}

/// A folder of fail2ban's with one jail, in the laboratory.
fn small(lab: &Lab) -> std::path::PathBuf {
    let dir = lab.path("theirs");
    fs::create_dir_all(dir.join("filter.d")).unwrap();
    fs::write(dir.join("filter.d/web.conf"), "[Definition]\nfailregex = ^failure from <HOST>$\n").unwrap();
    let jail = format!(
        "[web]\nenabled = true\nfilter = web\naction = iptables-multiport[name=web]\nlogpath = {}\n",
        lab.path("web.log").display()
    );
    fs::write(dir.join("jail.conf"), jail).unwrap();
    dir
}

#[test]
fn a_dry_run_writes_nothing_and_the_next_step_checks_what_was_written() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    let dir = small(&lab);
    let made = lab.path("made by hand.toml");
    let (theirs, path) = (dir.to_str().unwrap(), made.to_str().unwrap());
    let said = house.ask(["import", "fail2ban", "--config", theirs, "--dry-run", "--write", path]);
    assert!(said.err.contains("nothing is written") && said.out.contains("[jail.web]"), "{said:?}");
    assert!(!said.err.contains("config check"), "{said:?}");
    assert!(!made.exists());
    let said = house.ask(["import", "fail2ban", "--config", theirs, "--write", path]);
    let next = said.err.lines().find(|line| line.contains("config check")).unwrap();
    assert!(next.contains("/etc/palisade/conf.d/made by hand.toml"), "{next}");
    let command = next.split('`').nth(1).unwrap();
    let program = env!("CARGO_BIN_EXE_palisade");
    let check = || lab.victim.try_sh(&command.replacen("palisade", program, 1)).status.code();
    assert_eq!(check(), Some(0), "{command}");
    fs::write(&made, "[jail.web]\nreprts = true\n").unwrap();
    assert_eq!(check(), Some(4), "{command}");
    let again = house.ask(["import", "fail2ban", "--config", theirs, "--dry-run", "--write", path]).code(2);
    assert!(again.err.contains("is there already") && again.out.is_empty(), "{again:?}");
    // In the folder that is read anyway it is checked with all the rest.
    let parts = lab.path("conf.d");
    fs::create_dir_all(&parts).unwrap();
    let said = lab.victim.try_sh(&format!(
        "PALISADE_CONFIG={} {program} import fail2ban --config {theirs} --write {}/web.toml",
        house.config.display(),
        parts.display()
    ));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("conf.d/web.toml in it: `palisade config check`"), "{said}");
}

#[test]
fn a_config_is_found_from_any_folder_and_never_by_the_name_of_ours() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    let dir = small(&lab);
    let (above, program) = (dir.parent().unwrap().display(), env!("CARGO_BIN_EXE_palisade"));
    let run = |words: &str| {
        let output = lab.victim.try_sh(&format!("cd {above} && PALISADE_CONFIG={} {program} {words}", house.config.display()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (_, config, said) = run("import fail2ban --config theirs");
    assert!(config.contains(&format!("\nfail2ban = \"{}/filter.d/web.conf\"\n", dir.display())), "{config}{said}");
    assert!(said.contains(&format!("keep {}/filter.d", dir.display())) && !said.contains("not absolute"), "{said}");
    fs::write(lab.path("sshguard.conf"), "THRESHOLD=20\n").unwrap();
    let (_, _, said) = run("import sshguard --config sshguard.conf");
    assert!(said.contains(&lab.path("sshguard.conf").display().to_string()), "{said}");
    for format in ["fail2ban", "sshguard"] {
        let (code, _, said) = run(&format!("import {format}"));
        assert!(code == Some(2) && said.contains("`--config PATH` to take over the config"), "{format}: {said}");
    }
    let (code, _, said) = run("import fail2ban theirs");
    assert!(code == Some(2) && said.contains("theirs is a folder") && said.contains("--config theirs`"), "{said}");
    // Elsewhere the variable is ours as ever.
    assert_eq!(run("config check").0, Some(0));
    house.configure("[jail.web]\nreprts = true\n");
    assert_eq!(run("config check").0, Some(4));
}

/// Configs of others, such as lie around: none is part of this repository.
#[test]
fn every_config_that_is_named_becomes_one_that_is_good() {
    let named = std::env::var_os("PALISADE_JAILS").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&named).filter(|folder| folder.is_dir()).collect();
    if folders.is_empty() {
        eprintln!("SKIPPED: PALISADE_JAILS names no folders like /etc/fail2ban (separated by `:`)");
    }
    let made = std::env::temp_dir().join(format!("palisade-migrated-{}.toml", std::process::id()));
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_palisade")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for folder in folders {
        let (config, made) = (folder.as_os_str(), made.as_os_str());
        let (code, told) = run(&["import".as_ref(), "fail2ban".as_ref(), "--config".as_ref(), config, "--write".as_ref(), made]);
        // 2: a file there that fail2ban refuses too, such as one that says an option twice.
        if code == Some(2) && told.contains("twice") {
            eprintln!("SKIPPED: {}: {told}", folder.display());
            continue;
        }
        assert!(matches!(code, Some(0 | 1)), "{}: {told}", folder.display());
        let (code, told) = run(&["--config".as_ref(), made, "config".as_ref(), "check".as_ref()]);
        fs::remove_file(made).unwrap();
        assert_eq!(code, Some(0), "{}: {told}", folder.display());
    }
}
