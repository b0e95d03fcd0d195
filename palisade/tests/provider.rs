//! The tunnel provider of the laboratory: he does lock out who does not keep to his rule. When one of these fails, what the
//! other tests say about budgets means nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use lab::provider::{Client, Provider, Verdict};
use lab::traffic::tcp;
use lab::{ATTACKER, Lab, VICTIM, until};

/// Where he listens.
const TIC: &str = "198.51.100.66:3874";

/// Connects and says nothing but hello; whether that was welcome.
fn hello(lab: &Lab) -> bool {
    let mut stream = tcp(&lab.victim, VICTIM, TIC).unwrap();
    stream.write_all(b"login\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.starts_with("200")
}

#[test]
fn who_restarts_without_counting_is_locked_out() {
    let Some(lab) = Lab::new() else { return };
    assert!(TIC.starts_with(ATTACKER));
    // His five minutes are one and a half of our seconds, his day seven minutes.
    let provider = Provider::start(&lab.outside, TIC, 200.0);
    while !provider.locked() {
        if !hello(&lab) && !provider.locked() {
            // As long as he is asked he does not stop refusing: even this one waits between two rounds.
            std::thread::sleep(provider.refuses_for() + Duration::from_millis(10));
        }
        assert!(provider.log().len() < 100, "{:?}", provider.log());
    }
    let verdicts: Vec<Verdict> = provider.log().iter().map(|attempt| attempt.verdict).collect();
    assert_eq!((provider.count(Verdict::Breach), provider.count(Verdict::Lockout)), (1, 1), "{verdicts:?}");
    assert!(!hello(&lab));
    assert!(provider.refuses_for() > Duration::from_secs(3000), "a week of his: {:?}", provider.refuses_for());
    assert_eq!(provider.ours(60.0), "300ms");
}

#[test]
fn the_client_makes_its_device_late_and_it_dies_with_it() {
    let Some(lab) = Lab::new() else { return };
    let provider = Provider::start(&lab.outside, TIC, 1.0);
    let client = Client::new(&lab, &provider, "sixxs0", "2a02::1/64", Duration::from_millis(500));
    let run = |word: &str| {
        let mut command: Command = lab.victim.command(&client.program);
        command.args([word, client.config.to_str().unwrap()]).output().unwrap()
    };
    let there = || lab.victim.try_sh("ip -6 addr show dev sixxs0 | grep -q 2a02::1").status.success();
    assert!(run("start").status.success());
    assert!(!there(), "its start returns before its device is there");
    until("its device is there", there);
    let pid = client.pid().unwrap();
    assert!(client.crash());
    until("its device is gone", || !there());
    assert!(run("start").status.success());
    until("its device is there", there);
    assert_ne!(client.pid(), Some(pid));
    assert!(run("stop").status.success());
    until("its device is gone", || !there());
    assert_eq!(provider.log().len(), 2);
    until("its process is gone", || client.pid().is_none());
    assert!(run("stop").status.success());
    assert_eq!(provider.log().len(), 3, "with none running its stop logs in too");
    assert!(run("start").status.success());
    let fifth = run("start");
    let said = String::from_utf8_lossy(&fifth.stdout).into_owned();
    assert!(fifth.status.code() == Some(1) && said.contains("Login failed"), "{said}");
    assert_eq!(provider.log().last().unwrap().verdict, Verdict::Breach);
}
