//! Tunnels kept up by the daemon: real clients, real tun devices, and a provider who locks out whoever connects too often.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and what was measured is printed")]

mod lab;

use std::time::Duration;

use lab::house::House;
use lab::provider::{Client, Provider, Verdict};
use lab::{Lab, SOON, until, until_within};
use serde_json::Value;

/// Where the provider listens.
const TIC: &str = "198.51.100.66:3874";

/// How many of his seconds pass in one of ours: his minute is three of our seconds.
const SCALE: f64 = 20.0;

const CRASHES: usize = 50;

/// Two tunnels of one account, as routing's first worked example has them, in the time of the provider.
fn config(provider: &Provider, clients: &[Client]) -> String {
    let mut text = format!(
        "[ban]\nbackend = \"memory\"\n[budget.sixxs]\nlimit = {{ connects = 4, within = \"{}\" }}\npenalty = \"{}\"\n\
         lockout = {{ breaches = 2, within = \"{}\", for = \"{}\" }}\nreserve = 1\nmargin = \"{}\"\n",
        provider.ours(60.0),
        provider.ours(300.0),
        provider.ours(86_400.0),
        provider.ours(604_800.0),
        provider.ours(5.0),
    );
    for (n, client) in clients.iter().enumerate() {
        text.push_str(&format!(
            "[uplink.sixxs{n}]\ninterface = \"sixxs{n}\"\ntable = {{ name = \"sixxs{n}\", id = 20{n} }}\nsource = [\"2a02::{}\"]\ngateway = \"none\"\ntunnel = \"sixxs{n}\"\n\
             [tunnel.sixxs{n}]\nkind = \"exec\"\nstart = {}\nstop = {}\ntype = \"forking\"\npidfile = \"{}\"\nmin_uptime = \"1s\"\n\
             ready = {{ interface = \"sixxs{n}\", address = \"2a02::{}\", within = \"10s\" }}\n\
             backoff = {{ min = \"1s\", max = \"1s\", factor = 1.0, jitter = 0 }}\nbudget = \"sixxs\"\nfatal = {{ output = [\"Login failed\"] }}\n",
            n + 1,
            client.call("start"),
            client.call("stop"),
            client.pidfile.display(),
            n + 1
        ));
    }
    text
}

fn tunnels(house: &House<'_>) -> Value {
    house.ask(["--json", "tunnel", "status"]).json()["tunnels"].clone()
}

fn state(house: &House<'_>, n: usize) -> String {
    tunnels(house)[n]["state"].as_str().unwrap().to_owned()
}

fn two(lab: &Lab, provider: &Provider, delay: Duration) -> [Client; 2] {
    [0, 1].map(|n| Client::new(lab, provider, &format!("sixxs{n}"), &format!("2a02::{}/64", n + 1), delay))
}

#[test]
fn through_fifty_crashes_and_restarts_never_locked_out() {
    let Some(lab) = Lab::new() else { return };
    let provider = Provider::start(&lab.outside, TIC, SCALE);
    let clients = two(&lab, &provider, Duration::from_millis(300));
    let mut house = House::new(&lab, &config(&provider, &clients));
    house.start();
    let up = |house: &House<'_>, n: usize| {
        until_within(2 * SOON, &format!("sixxs{n} is up"), || state(house, n) == "up");
    };
    (0..2).for_each(|n| up(&house, n));
    assert_eq!(provider.log().len(), 2);
    for crash in 0..CRASHES {
        let n = crash % 2;
        assert!(clients[n].crash());
        until("it is noticed", || state(&house, n) != "up");
        match crash % 10 {
            3 => house.kill(),
            7 => house.stop(),
            _ => {}
        }
        if matches!(crash % 10, 3 | 7) {
            house.start();
        }
        up(&house, n);
        up(&house, 1 - n);
        let connects = provider.log().len();
        assert_eq!(connects, crash + 3, "one connect for each crash, none for a daemon that finds its tunnels running");
        assert_eq!(provider.count(Verdict::Taken), connects, "{:?}", provider.log());
    }
    assert!(!provider.locked() && provider.count(Verdict::Breach) == 0);
    let status = house.json("budget")["budgets"][0].clone();
    assert_eq!((status["of"].as_u64(), status["breaches"].as_array().map(Vec::len)), (Some(4), Some(0)), "{status}");
    // As soon as the rule allows: never more than three in a window, and where there was more to do than that, no fewer.
    let log: Vec<f64> = provider.log().iter().map(|attempt| attempt.at).collect();
    let spans: Vec<f64> = log.windows(4).map(|four| four[3] - four[0]).collect();
    assert!(spans.iter().all(|span| *span > 60.0), "{spans:?}");
    let mut sorted = spans;
    sorted.sort_by(f64::total_cmp);
    println!(
        "three connects took {:.1} of the provider's seconds at least, {:.1} in the median; his rule and the margin say 65",
        sorted[0],
        sorted[sorted.len() / 2]
    );
    let stopped = house.expect(0, "tunnel stop sixxs0");
    assert!(stopped.out.contains("sixxs0"), "{stopped:?}");
    until("it is down", || state(&house, 0) == "down" && clients[0].pid().is_none());
    house.stop();
    assert!(clients[1].pid().is_some(), "tunnels outlive the daemon");
}

#[test]
fn an_uplink_lives_and_dies_with_its_tunnel() {
    let Some(lab) = Lab::new() else { return };
    let provider = Provider::start(&lab.outside, TIC, SCALE);
    let clients = two(&lab, &provider, Duration::from_secs(2));
    let mut house = House::new(&lab, &config(&provider, &clients));
    house.start();
    let applied = house.expect(0, "route apply");
    assert!(applied.out.contains("(pending: interface absent)"), "{applied:?}");
    let uplinks = || house.ask(["--json", "route", "status"]).json()["uplinks"].clone();
    until("both uplinks are up, seconds after `start` returned", || {
        uplinks().as_array().unwrap().iter().all(|uplink| uplink["state"] == "up")
    });
    assert!(lab.victim.sh("ip -6 route show table 200").contains("default dev sixxs0"));
    assert!(clients[0].crash());
    until("its uplink is pending", || uplinks()[0]["state"] == "pending");
    assert_eq!(uplinks()[1]["state"], "up");
    assert_eq!(lab.victim.sh("ip -6 route show table 200 | cut -d' ' -f1-2").trim(), "unreachable default", "nothing leaks meanwhile");
    until_within(2 * SOON, "both are up again", || uplinks().as_array().unwrap().iter().all(|uplink| uplink["state"] == "up"));
    assert_eq!(provider.log().len(), 3);
}

#[test]
fn what_is_no_use_waits_for_a_human_and_the_rest_goes_on() {
    let Some(lab) = Lab::new() else { return };
    let provider = Provider::start(&lab.outside, TIC, SCALE);
    let clients = two(&lab, &provider, Duration::from_millis(100));
    let good = config(&provider, &clients);
    let bad = format!(
        "{good}\n[tunnel.absent]\nkind = \"exec\"\nstart = [\"/no/such/client\"]\n\
         [tunnel.refused]\nkind = \"exec\"\nstart = [\"/bin/echo\", \"Login failed\"]\nfatal = {{ output = [\"Login failed\"] }}\n"
    );
    let mut house = House::new(&lab, &bad);
    house.start();
    let named = |name: &str| tunnels(&house).as_array().unwrap().iter().find(|tunnel| tunnel["name"] == name).unwrap().clone();
    until("the good ones are up", || named("sixxs0")["state"] == "up" && named("sixxs1")["state"] == "up");
    for (name, why) in [("absent", "/no/such/client"), ("refused", "Login failed")] {
        until(&format!("{name} is given up"), || named(name)["state"] == "failed");
        assert!(named(name)["detail"].as_str().unwrap().contains(why), "{}", named(name));
    }
    assert_eq!(house.ask(["tunnel", "status"]).code, 6);
    assert_eq!(house.ask(["tunnel", "start", "nobody"]).code, 2);
    // A human has a connect that is kept for him, and is told when there is none.
    let budget = || house.json("budget sixxs")["budgets"][0].clone();
    assert_eq!((budget()["used"].as_u64(), budget()["reserved"].as_u64()), (Some(2), Some(1)), "{}", budget());
    let told = house.expect(0, "budget");
    assert!(told.out.starts_with("budget sixxs: 2 of 4 in "), "{told:?}");
    house.expect(0, "tunnel restart sixxs0");
    until("it is up again", || named("sixxs0")["state"] == "up");
    assert_eq!(provider.count(Verdict::Taken), provider.log().len());
    house.stop();
    house.expect(3, "tunnel status");
    let alone = house.expect(0, "budget sixxs");
    assert!(alone.out.starts_with("budget sixxs: "), "{alone:?}");
}
