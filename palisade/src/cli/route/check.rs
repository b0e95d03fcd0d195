//! `palisade route check`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use palisade_core::config::Config;
use palisade_core::control::Reply;
use palisade_core::control::Request;
use palisade_core::control::route::{RouteReply, RouteRequest};
use palisade_core::net::{Addr, Family};
use palisade_core::route::check::{Asked, Facts, Finding, Listener, Probe, RpFilters, Subject, Verdict, check, questions};
use palisade_core::route::lookup::Answer;
use palisade_core::route::plan::Ours;
use palisade_core::route::policy::Chooser;
use palisade_core::route::shadow::shadows;
use palisade_core::route::spec::Uplink;
use palisade_core::route::wanted::{Chosen, Health, Healths, healths, probe_mark, source_of, wanted};
use palisade_core::route::{Spec, World};
use palisade_core::time::Tick;
use palisade_os::clock;
use palisade_os::probe::Prober;
use palisade_os::routes::{self, Read, Router, marks, udp};
use palisade_os::sysctl;
use palisade_os::wake::poll;
use serde_json::json;

use crate::cli::ask::{served, usage};
use crate::cli::print::{self, Painted};
use crate::cli::{Exit, Global};
use crate::routing::disk;

/// Asked for its route only, nothing is sent there: addresses that are surely beyond every uplink (Quad9).
const ELSEWHERE: [&str; 2] = ["9.9.9.9", "2620:fe::fe"];

/// How many bytes each probe carries, as ping(8) has it.
const SIZE: usize = 56;

/// Prove each uplink.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade route check\n  palisade route check sixxs0\n\nLooks at what is applied, or where nothing is, at what the config declares. Probes are sent to the targets of [uplink.NAME.track],\neach from the uplink's own source. Exit code 1: something fails; what to do stands below it."
)]
pub(super) struct Check {
    /// One uplink; all, and the host, when none is named
    #[arg(value_name = "UPLINK")]
    uplink: Option<String>,
}

impl Check {
    /// Does it.
    pub(super) fn run(self, global: &Global) -> Result<Exit> {
        let spec = subject(global)?;
        if let Some(name) = self.uplink.as_deref().filter(|name| spec.uplink(name).is_none()) {
            return Err(usage(format_args!("there is no uplink `{name}`; `palisade route status` lists them")));
        }
        let mut router = routes::open()?;
        let world = router.read(&Read::All).context("reading rules and routes")?;
        let probes = probes(&spec, &world, self.uplink.as_deref());
        let probed = probed(&probes);
        let chosen = chosen(global, &spec, &world, &probed);
        let wanted = wanted(&spec, &world, &probed, &chosen);
        let facts = Facts {
            answers: answers(&spec, &world, router.as_mut()),
            probes,
            leaks: marks::leaks().unwrap_or_default().into_iter().map(|(name, leak)| (name.into(), leak.packets)).collect(),
            shadows: shadows(&wanted.rules, &world.rules, &Ours::of(&spec), &spec.names()),
            rp: rp_filters(&spec),
            listeners: listeners(),
        };
        let subject = Subject { spec: &spec, world: &world, wanted: &wanted, chosen: &chosen };
        let findings = check(&subject, &facts, self.uplink.as_deref());
        if global.json {
            print::json(&as_json(&findings))?;
        } else {
            show(&findings)?;
        }
        Ok(if findings.iter().any(|finding| finding.ok == Verdict::Fail) { Exit::No } else { Exit::Done })
    }
}

/// What is applied; else what the config declares.
fn subject(global: &Global) -> Result<Spec> {
    let journal = disk::read(&global.places().state)?;
    let spec = match journal.standing() {
        Some(set) => Config::read_routing(&set.text, "the applied set")
            .map_err(|errors| anyhow::anyhow!("what is applied cannot be read: {errors}"))?,
        None => super::declared(global)?.0,
    };
    if spec.uplinks.is_empty() {
        return Err(usage("no uplink is applied or declared; write [uplink.NAME] in the config"));
    }
    Ok(spec)
}

/// One echo request to each target of each uplink, from the uplink's own source.
fn probes(spec: &Spec, world: &World, only: Option<&str>) -> BTreeMap<(Arc<str>, Family), Probe> {
    let mut all = BTreeMap::new();
    for uplink in spec.uplinks.iter().filter(|uplink| only.is_none_or(|name| name == &*uplink.name)) {
        for family in [Family::V4, Family::V6] {
            let targets: Vec<Addr> =
                uplink.track.iter().flat_map(|track| &track.targets).copied().filter(|to| to.family() == family).collect();
            if !targets.is_empty() {
                all.insert((Arc::clone(&uplink.name), family), probe(spec, uplink, world, family, targets));
            }
        }
    }
    all
}

fn probe(spec: &Spec, uplink: &Uplink, world: &World, family: Family, targets: Vec<Addr>) -> Probe {
    let Some(from) = source_of(uplink, world, family) else { return Probe::NotSent("it has no usable source of this family".to_owned()) };
    let mut prober = match Prober::open(from, probe_mark(spec, &uplink.name), None) {
        Ok(prober) => prober,
        Err(error) => return Probe::NotSent(error.to_string()),
    };
    let (began, mut sent, mut refused) = (clock::now().tick, BTreeMap::<Addr, Tick>::new(), None);
    for to in &targets {
        match prober.send(*to, 1, SIZE) {
            Ok(()) => _ = sent.insert(*to, clock::now().tick),
            Err(error) => refused = Some(error.to_string()),
        }
    }
    if let Some(why) = refused.filter(|_| sent.is_empty()) {
        return Probe::NotSent(why);
    }
    let until = began.plus(uplink.track.as_ref().map(|track| track.timeout).unwrap_or_default());
    loop {
        let now = clock::now().tick;
        if now >= until || poll(&[prober.as_fd()], None, Some(until.since(now))).is_err() {
            return Probe::Silent(targets);
        }
        if let Some(answer) = prober.receive().ok().and_then(|answers| answers.into_iter().next()) {
            let took = sent.get(&answer.from).map(|at| answer.at.since(*at)).unwrap_or_default();
            return Probe::Answered(answer.from, took);
        }
    }
}

/// What the probes say of each uplink.
fn probed(probes: &BTreeMap<(Arc<str>, Family), Probe>) -> Healths {
    let mut all = Healths::new();
    for ((name, _), probe) in probes {
        let health = if matches!(probe, Probe::Answered(..)) { Health::Up } else { Health::Down };
        all.entry(Arc::clone(name))
            .and_modify(|old| {
                if health == Health::Up {
                    *old = health
                }
            })
            .or_insert(health);
    }
    all
}

/// What the policies use: the daemon knows; without one, what they would choose.
fn chosen(global: &Global, spec: &Spec, world: &World, probed: &Healths) -> Chosen {
    if let Ok(Some(Reply::Route(RouteReply::Status(status)))) = served(&global.places(), &Request::Route(RouteRequest::Status)) {
        let uses =
            |name: &str| status.policies.iter().find(|policy| policy.name == name).map(|policy| policy.uses.clone()).unwrap_or_default();
        let of = |policy: &palisade_core::route::spec::Policy| {
            let uses = uses(&policy.name);
            let members = policy.members.iter().filter(|member| uses.iter().any(|used| **used == *member.uplink));
            (Arc::clone(&policy.name), members.cloned().collect())
        };
        return spec.policies.iter().map(of).collect();
    }
    let mut chooser = Chooser::default();
    let _ = chooser.update(spec, &healths(spec, world, probed), clock::now());
    chooser.chosen().clone()
}

fn answers(spec: &Spec, world: &World, router: &mut dyn Router) -> Vec<(Asked, Answer)> {
    let [v4, v6] = ELSEWHERE.map(|text| text.parse::<IpAddr>().map_or(Addr::UNSPECIFIED, Addr::from));
    let elsewhere = |family| if family == Family::V4 { v4 } else { v6 };
    let asked = questions(spec, world, &elsewhere);
    asked.into_iter().filter_map(|asked| router.lookup(&asked.question).ok().map(|answer| (asked, answer))).collect()
}

fn listeners() -> Vec<Listener> {
    let sockets = udp::wildcard_udp().unwrap_or_default();
    let mut all: Vec<Listener> =
        sockets.into_iter().map(|socket| Listener { family: socket.family, port: socket.port, program: socket.comm }).collect();
    // A program that has several sockets on a port is one server.
    all.sort_by(|a, b| (a.port, a.family, &a.program).cmp(&(b.port, b.family, &b.program)));
    all.dedup();
    all
}

/// `None` where there is no such filter: no IPv4.
fn rp_filters(spec: &Spec) -> Option<RpFilters> {
    let number = |path: &str| sysctl::get(path).ok().flatten().and_then(|text| text.trim().parse::<u8>().ok());
    let all = number("net/ipv4/conf/all/rp_filter")?;
    let of = |uplink: &Uplink| Some((uplink.interface.clone(), sysctl::rp_filter(&uplink.interface).ok()?.1));
    Some(RpFilters {
        all,
        interfaces: spec.uplinks.iter().filter_map(of).collect(),
        src_valid_mark: number("net/ipv4/conf/all/src_valid_mark") == Some(1),
        forwards: number("net/ipv4/ip_forward") == Some(1),
    })
}

const fn word(verdict: Verdict) -> (&'static str, u8) {
    match verdict {
        Verdict::Ok => ("ok", 32),
        Verdict::Skipped => ("skipped", 2),
        Verdict::Warn => ("warn", 33),
        Verdict::Fail => ("FAIL", 31),
    }
}

fn subject_of(finding: &Finding) -> String {
    let family = match finding.family {
        Some(Family::V4) => " IPv4",
        Some(Family::V6) => " IPv6",
        None => "",
    };
    format!("{}{family}", finding.uplink.as_deref().unwrap_or("host"))
}

fn show(findings: &[Finding]) -> Result<()> {
    for finding in findings {
        let (word, color) = word(finding.ok);
        let line = format!("{:<14} {:<16} {}", subject_of(finding), finding.what, finding.detail);
        print::line(format_args!("{} {line}", Painted(color, format_args!("{word:<7}"))))?;
        if let Some(fix) = finding.fix.as_ref().filter(|_| finding.ok >= Verdict::Warn) {
            print::line(format_args!("{:<8}{}", "", Painted(36, format_args!("-> {fix}"))))?;
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.ok == verdict).count();
    print::line(format_args!(
        "{} ok, {} failed, {} warnings, {} skipped",
        count(Verdict::Ok),
        count(Verdict::Fail),
        count(Verdict::Warn),
        count(Verdict::Skipped)
    ))
}

fn as_json(findings: &[Finding]) -> serde_json::Value {
    let one = |finding: &Finding| {
        json!({
            "uplink": finding.uplink,
            "family": finding.family.map(|family| if family == Family::V4 { 4 } else { 6 }),
            "what": finding.what,
            "verdict": word(finding.ok).0.to_lowercase(),
            "detail": finding.detail,
            "fix": finding.fix,
        })
    };
    let failed = findings.iter().filter(|finding| finding.ok == Verdict::Fail).count();
    json!({ "v": 1, "failed": failed, "findings": findings.iter().map(one).collect::<Vec<_>>() })
}
