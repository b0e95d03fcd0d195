//! `palisade doctor`: everything that could keep a ban from working, each with its fix.

#[cfg(target_os = "linux")]
mod flows;
mod reading;

use anyhow::Result;
use clap::Args;
use palisade_core::bans::backend::Backend;
use palisade_core::bans::proof::Proof;
use palisade_core::brain::Mode;
use palisade_core::config::Config;
use palisade_core::control::{Reply, Request, State};
use palisade_core::net::Prefix;
use palisade_os::block::detect::Look;
use palisade_os::block::{self, Read};
use palisade_os::errors::chain;
use palisade_os::{clock, privileges};
use serde::Serialize;

use super::ask::{answered, asker, nobody_listens};
use super::print::{self, Painted};
use super::{Exit, Global};
use crate::serve::client::Client;
use crate::serve::open;
use crate::serve::proof::{self, Proven};
use crate::settings::{Places, system};
use crate::store::Store;

/// Check everything.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade doctor\n  palisade --json doctor | jq '.findings[] | select(.grade != \"ok\")'\n\nExit code 0: all well. 1: something should be mended (the fix is printed). 4: the config is invalid."
)]
pub struct Doctor {}

/// What one check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Ok,
    Note,
    Bad,
}

#[derive(Debug, Serialize)]
struct Finding {
    grade: Grade,
    about: &'static str,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

fn ok(about: &'static str, what: impl Into<String>) -> Finding {
    Finding { grade: Grade::Ok, about, what: what.into(), fix: None }
}

fn note(about: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { grade: Grade::Note, about, what: what.into(), fix: Some(fix.into()) }
}

fn bad(about: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { grade: Grade::Bad, about, what: what.into(), fix: Some(fix.into()) }
}

impl Doctor {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let places = global.places();
        let (config, library) = places.config_and_library()?;
        let mut findings = vec![ok("config", "valid")];
        findings.push(rights());
        findings.extend(enforcement(&places, &config));
        findings.extend(config.jails().values().filter(|jail| jail.enabled).flat_map(|jail| reading::jail(jail, &library)));
        #[cfg(target_os = "linux")]
        findings.extend(flows::flows(&places, &config));
        findings.extend(clock_of(&places));
        findings.extend(lockout(&config));
        let worst_is_bad = findings.iter().any(|f| f.grade == Grade::Bad);
        if global.json {
            print::json(&serde_json::json!({ "v": 1, "findings": findings }))?;
        } else {
            findings.iter().try_for_each(show)?;
        }
        Ok(if worst_is_bad { Exit::No } else { Exit::Done })
    }
}

fn show(finding: &Finding) -> Result<()> {
    let mark = match finding.grade {
        Grade::Ok => Painted(32, "ok  "),
        Grade::Note => Painted(33, "note"),
        Grade::Bad => Painted(31, "BAD "),
    };
    print::line(format_args!("{mark} {}: {}", finding.about, finding.what))?;
    if let Some(fix) = &finding.fix {
        print::line(format_args!("     fix: {fix}"))?;
    }
    Ok(())
}

fn rights() -> Finding {
    if privileges::have_net_admin() {
        ok("rights", format!("may change the firewall ({})", system::RIGHTS))
    } else {
        note("rights", "this command may not look into the firewall", "run doctor as root")
    }
}

/// The daemon's own word where one runs; else the firewall itself.
fn enforcement(places: &Places, config: &Config) -> Vec<Finding> {
    match Client::connect(&places.socket()) {
        Ok(mut client) => match client.ask(&Request::Status).and_then(answered) {
            Ok(Reply::Status(status)) => {
                let what = format!(
                    "the daemon is {}: {} bans stand in {}, {} changes by others repaired",
                    status.state, status.bans, status.backend, status.drift
                );
                let mut findings = vec![match status.state {
                    State::Enforcing => ok("enforcement", what),
                    State::Observing => note("enforcement", what, "start it without --observe to enforce"),
                    State::Degraded => bad("enforcement", what, "see the problems below"),
                }];
                findings.extend(status.chosen.map(|chosen| ok("choice", chosen)));
                if let Some(backend) = Backend::of_word(&status.backend).filter(|_| privileges::have_net_admin()) {
                    findings.extend(proof_of(places, backend));
                    findings.extend(by_hand(backend, config));
                }
                findings.extend(Backend::of_word(&status.backend).and_then(|backend| linear(backend, status.bans)));
                findings.extend(status.shortfalls.iter().flat_map(|(jail, shortfall)| reading::undone(jail, *shortfall)));
                findings.extend(status.problems.into_iter().map(|p| as_told("problem", format!("{}: {}", p.about, p.what))));
                findings
            }
            Ok(_) => vec![bad(
                "enforcement",
                "the daemon gives answers that are not understood",
                "restart it: it is of another version than this command",
            )],
            Err(error) => vec![bad("enforcement", format!("{error:#}"), "look at its log, then restart it")],
        },
        Err(error) if nobody_listens(&error) => {
            let mut findings = vec![note(
                "daemon",
                "none runs: nothing is read, only bans made before stand",
                format!("{}, or palisade run", system::START),
            )];
            findings.extend(firewall(places, config));
            findings
        }
        Err(error) => vec![note("daemon", format!("cannot be asked: {error}"), "run doctor as root or as a member of the group palisade")],
    }
}

/// Which firewall and why, whether ours stands whole, and whether it blocks.
fn firewall(places: &Places, config: &Config) -> Vec<Finding> {
    if !privileges::have_net_admin() {
        return vec![note("firewall", "not looked at", "run doctor as root")];
    }
    let opened = open::firewall(config, Mode::Enforce, Look::All)
        .and_then(|mut wall| Ok((wall.backend, wall.chosen, wall.blocker.read(Read::Frame)?.whole)));
    match opened {
        Ok((backend, chosen, whole)) => {
            let stands = if whole {
                ok("firewall", format!("{backend} works, and what is ours stands whole"))
            } else {
                note("firewall", format!("{backend} works, but what is ours does not stand"), "palisade restore")
            };
            let mut findings = vec![ok("choice", chosen), stands];
            findings.extend(proof_of(places, backend));
            findings.extend(by_hand(backend, config));
            let bans = Store::open_read_only(&places.state).and_then(|store| store.ban_count()).unwrap_or_default();
            findings.extend(linear(backend, usize::try_from(bans).unwrap_or(usize::MAX)));
            findings
        }
        Err(error) => {
            let mut findings = vec![as_told("firewall", format!("{error:#}"))];
            findings.extend(config.ban().backend.into_iter().flat_map(|backend| by_hand(backend, config)));
            findings
        }
    }
}

/// What only the administrator can set right in a firewall whose rules are his: whether ours are asked, and first.
fn by_hand(backend: Backend, config: &Config) -> Vec<Finding> {
    let section = config.backends();
    let (looked, lines, at) = match backend {
        Backend::Pf => (block::pf::look(section), block::pf::lines(&section.pf), "in /etc/pf.conf, then `pfctl -f /etc/pf.conf`"),
        Backend::Ipfw => (block::ipfw::look(section), block::ipfw::lines(&section.ipfw), "in rc.conf and the rules"),
        _ => return Vec::new(),
    };
    match looked {
        Ok(notes) if notes.is_empty() => vec![ok("rules", format!("{backend} asks ours first"))],
        Ok(notes) => notes.into_iter().map(|what| note("rules", what, "your choice, if you know of it")).collect(),
        Err(error) => vec![bad("rules", chain(&error), format!("{at}:\n{}", lines.trim_end()))],
    }
}

/// From so many rules on each packet is held up by more than a microsecond or two.
const LONG_CHAIN: usize = 500;

/// What each rule of a chain costs a packet that passes it, in nanoseconds, as measured with ten thousand
/// (docs/benchmarks.md, "What a packet pays").
const PER_RULE: [(&str, f64); 2] = [("iptables-legacy", 4.6), ("iptables-nft", 9.5)];

/// A rule for each ban is walked by each packet: that is told with its price.
fn linear(backend: Backend, bans: usize) -> Option<Finding> {
    if backend != Backend::Iptables || bans < LONG_CHAIN {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a price in words")]
    let price = |(program, nanos): &(&str, f64)| format!("{:.1} µs with {program}", nanos * bans as f64 / 1000.0);
    let prices = PER_RULE.iter().map(price).collect::<Vec<_>>().join(", ");
    let what = format!("iptables holds each packet against {bans} rules, which costs it about {prices}");
    Some(note("chain", what, "`backend = \"nftables\"` or `\"ipset\"` in [ban]: their price does not grow with the bans"))
}

/// What packets of a banned address meet, now.
fn proof_of(places: &Places, backend: Backend) -> Vec<Finding> {
    let Proven { proof, notes, .. } = proof::ask(places, backend);
    let fix = "look at the rules that stand before ours (`nft list ruleset`, `iptables-save`), or choose another backend in [ban]";
    let mut findings = vec![match &proof {
        Proof::Proven { .. } => ok("proof", format!("{backend} {proof}")),
        Proof::Failed { .. } => bad("proof", format!("{backend} {proof}"), fix),
        Proof::Untried { .. } if !backend.filters_packets() || matches!(backend, Backend::Pf | Backend::Ipfw) => {
            Finding { grade: Grade::Note, about: "proof", what: format!("{backend} {proof}"), fix: None }
        }
        Proof::Untried { .. } => note("proof", format!("{backend} {proof}"), "run doctor as root, outside a container"),
    }];
    findings.extend(notes.into_iter().map(|what| Finding { grade: Grade::Note, about: "neighbour", what, fix: None }));
    findings
}

/// Bad, and the words for it already say what to do.
fn as_told(about: &'static str, what: impl Into<String>) -> Finding {
    Finding { grade: Grade::Bad, about, what: what.into(), fix: None }
}

fn clock_of(places: &Places) -> Option<Finding> {
    let store = Store::open_read_only(&places.state).ok()?;
    let last = store.last_moment().ok()??;
    let now = clock::now().stamp;
    Some(if last.since(now) > palisade_core::time::Span::secs(60) {
        bad(
            "clock",
            format!("it says {now}, but the store was written at {last}"),
            "set the clock (chronyc makestep, timedatectl set-ntp true); bans keep what was left of them",
        )
    } else {
        ok("clock", format!("it says {now}"))
    })
}

/// Whether whoever asks could shut himself out.
fn lockout(config: &Config) -> Option<Finding> {
    let peer = asker()?;
    let safe = config.allow().auto.admin_sessions || config.allow().prefixes.iter().any(|p| p.covers(&Prefix::host(peer)));
    Some(if safe {
        ok("lockout", format!("your own ssh session from {peer} is protected"))
    } else {
        bad(
            "lockout",
            format!("your own ssh session comes from {peer}, which may be banned"),
            format!("palisade allow add {peer}, or \"admin-sessions\" in [allow] auto"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_chain_is_told_with_its_price() {
        assert!(linear(Backend::Ipset, 1_000_000).is_none() && linear(Backend::Iptables, LONG_CHAIN - 1).is_none());
        let finding = linear(Backend::Iptables, 10_000).unwrap();
        assert!(finding.what.contains("10000 rules") && finding.what.contains("46.0 µs with iptables-legacy"), "{}", finding.what);
    }
}
