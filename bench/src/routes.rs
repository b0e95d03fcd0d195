//! Uplinks: many of them applied beside `ip -batch`, how soon a flush is healed, what a flapping link costs.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use palisade_core::control::route::{RouteReply, RouteRequest};
use palisade_core::control::{Reply, Request};

use crate::Bench;
use crate::guards::Place;
use crate::lab::Netns;
use crate::process::{Running, measure};
use crate::report::{Line, Table};
use crate::stats::{Samples, ratio, time};

/// Each has four rules and two routes: 1,000 rules, 500 routes.
const UPLINKS: u32 = 250;
/// How often the rules are flushed.
const FLUSHES: usize = 8;
const HEALED_WITHIN: Duration = Duration::from_secs(20);
/// How long the link flaps, and how long it is up and down.
const FLAPPING: Duration = Duration::from_secs(6);
const HALF: Duration = Duration::from_millis(50);

/// The interfaces, each with its address.
fn links(count: u32) -> String {
    let mut text = String::new();
    for n in 0..count {
        let _ = writeln!(
            text,
            "link add d{n} type veth peer name p{n}\nlink set p{n} up\nlink set d{n} up\naddr add 2001:db8:{n:x}::1/128 dev d{n} nodad"
        );
    }
    text
}

fn config(count: u32) -> String {
    let mut text = "[ban]\nbackend = \"memory\"\n[routing]\npriority_base = 10000\npriority_range = 5000\ntable_names = false\n".to_owned();
    for jail in ["sshd", "dropbear", "web-auth", "web-probes", "web-cms"] {
        let _ = writeln!(text, "[jail.{jail}]\nenabled = false");
    }
    for n in 0..count {
        let _ = writeln!(
            text,
            "[uplink.u{n:03}]\ninterface = \"d{n}\"\ntable = {{ name = \"u{n:03}\", id = {} }}\nsource = [\"2001:db8:{n:x}::1\"]\ngateway = \"none\"\nguard = \"off\"",
            1000 + n
        );
    }
    text
}

/// The same rules and routes, for `ip -6 -batch`.
fn batch(count: u32) -> String {
    let mut text = String::new();
    for n in 0..count {
        let table = 1000 + n;
        let _ = writeln!(
            text,
            "route add unreachable default table {table} metric 4294967295 proto 80\nroute add default dev d{n} table {table} proto 80"
        );
    }
    for n in 0..count {
        let (table, from) = (1000 + n, format!("2001:db8:{n:x}::1"));
        let _ = writeln!(text, "rule add from {from} lookup main suppress_prefixlength 3 pref {} proto 80", 10_100 + n);
        let _ = writeln!(text, "rule add oif d{n} lookup main suppress_prefixlength 3 pref {} proto 80", 10_400 + n);
        let _ = writeln!(text, "rule add from {from} lookup {table} pref {} proto 80", 10_700 + n);
        let _ = writeln!(text, "rule add oif d{n} lookup {table} pref {} proto 80", 11_000 + n);
    }
    text
}

/// A network with so many uplinks and nothing of routing yet.
fn ground(count: u32) -> Result<Netns> {
    let ns = Netns::fresh()?;
    ns.feed("ip", &["-batch", "-"], &links(count))?;
    Ok(ns)
}

fn rules(ns: &Netns) -> Result<usize> {
    Ok(ns.ask("ip", &["-6", "-N", "rule"])?.lines().filter(|line| line.contains("proto 80")).count())
}

/// Many uplinks, from nothing.
pub(crate) fn apply(bench: &Bench) -> Result<Table> {
    let dir = bench.scratch.join("routes");
    let place = Place::new(&bench.palisade, &dir, &config(UPLINKS))?;
    let file = dir.join("batch");
    fs::write(&file, batch(UPLINKS))?;
    let native = ["ip", "-6", "-batch", &file.display().to_string()].map(str::to_owned).to_vec();
    let (mut ours, mut theirs, mut again) = (Samples::default(), Samples::default(), Samples::default());
    let run = |ns: &Netns, args: &[String]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let told = File::create(dir.join("told"))?;
        ns.within(|| measure(&args, Stdio::from(told))).map(|cost| cost.wall)
    };
    for _ in 0..bench.rounds.max(1) * 3 {
        let _ = fs::remove_dir_all(place.state());
        let ns = ground(UPLINKS)?;
        ours.push(run(&ns, &place.args(&["route", "apply"]))?);
        ensure!(rules(&ns)? == 4 * UPLINKS as usize, "{} rules stand", rules(&ns)?);
        again.push(run(&ns, &place.args(&["route", "plan"]))?);
        let ns = ground(UPLINKS)?;
        theirs.push(run(&ns, &native)?);
        ensure!(rules(&ns)? == 4 * UPLINKS as usize, "{} rules stand", rules(&ns)?);
    }
    bench.say(&format!("{UPLINKS} uplinks: {} and {}", time(ours.median()), time(theirs.median())));
    let row = |what: &str, samples: &Samples| {
        let times = [samples.at(0.0), samples.median(), samples.max()].map(time);
        [vec![what.to_owned()], times.to_vec(), vec![ratio(samples.median(), ours.median())]].concat()
    };
    let rows = vec![
        row("`palisade route apply`: plan, journal, apply, read back", &ours),
        row("`ip -6 -batch FILE`", &theirs),
        row("`palisade route plan`, nothing to do", &again),
    ];
    let aims = vec![Line::aim("not slower than `ip -batch`", &ratio(theirs.median(), ours.median()), ours.median() <= theirs.median())];
    Ok(Table { id: "routes", head: &["1,000 rules, 500 routes", "fastest", "median", "slowest", "median to ours"], rows, aims })
}

/// How soon a flush is healed, and what a flapping link costs.
pub(crate) fn heal(bench: &Bench) -> Result<Table> {
    let dir = bench.scratch.join("heal");
    let place = Place::new(&bench.palisade, &dir, &config(4))?;
    let ns = ground(4)?;
    let mut running = place.run(&ns)?;
    place.wait(&mut running)?;
    let text = palisade_core::config::show_routing(&palisade_core::config::Config::read(&[("bench".to_owned(), config(4))], &[])?);
    let request = Request::Route(RouteRequest::Apply { text, confirm: None, peer: None });
    let Reply::Route(RouteReply::Plan(_)) = place.client()?.ask(&request)? else { bail!("not applied") };
    let healed = || Ok::<_, anyhow::Error>(rules(&ns)? == 16);
    ensure!(healed()?, "{} rules stand", rules(&ns)?);
    let mut times = Samples::default();
    for _ in 0..FLUSHES {
        // Longer apart than what counts as a contest with somebody who removes the same five times in 30 s.
        thread::sleep(Duration::from_secs(8));
        ns.feed("ip", &["-6", "-batch", "-"], "rule flush\nrule add pref 32766 lookup main\n")?;
        let began = Instant::now();
        while !healed()? {
            running.must_live()?;
            ensure!(began.elapsed() < HEALED_WITHIN, "not healed");
        }
        times.push(began.elapsed());
    }
    let share = flap(&ns, &running)?;
    bench.say(&format!("healed in {}, {share:.2} % of a core while flapping", time(times.median())));
    let rows = vec![
        [vec!["`ip -6 rule flush` to healed".to_owned()], [times.at(0.0), times.median(), times.max()].map(time).to_vec()].concat(),
        vec!["a link that flaps 10 times a second, of a core".to_owned(), "-".to_owned(), format!("{share:.2} %"), "-".to_owned()],
    ];
    let aims = vec![
        Line::aim("healed under 500 ms", &time(times.median()), times.median() < 0.5),
        Line::aim("under 5 % of a core", &format!("{share:.2} %"), share < 5.0),
    ];
    Ok(Table { id: "heal", head: &["", "fastest", "median", "slowest"], rows, aims })
}

/// Processor time of the daemon while a link goes down and up, in percent of one core.
fn flap(ns: &Netns, running: &Running) -> Result<f64> {
    let (before, began) = (running.used()?, Instant::now());
    while began.elapsed() < FLAPPING {
        for state in ["down", "up"] {
            ns.ask("ip", &["link", "set", "d0", state])?;
            thread::sleep(HALF);
        }
    }
    Ok((running.used()? - before) / began.elapsed().as_secs_f64() * 100.0)
}
