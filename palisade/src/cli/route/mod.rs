//! `palisade route`.

mod check;
mod explain;
mod show;

use std::collections::BTreeSet;

use anyhow::Result;
use clap::{Args, Subcommand};
use palisade_core::config::{Config, show_routing};
use palisade_core::control::route::{PlanReply, RouteReply, RouteRequest};
use palisade_core::control::{Reply, Request};
use palisade_core::net::Addr;
use palisade_core::route::Spec;
use palisade_core::time::Span;
use palisade_os::{links, privileges};
use serde_json::json;

use super::ask::{Refused, Unreachable, answered, served, unexpected, without_rights};
use super::print;
use super::{Exit, Global};
use crate::routing::Alone;

/// Which uplink packets leave by.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade route plan                       what the config would change\n  palisade route apply --confirm 60s        try it; taken back unless confirmed in time\n  palisade route confirm                    keep it\n  palisade route check                      prove each uplink\n  palisade route explain 2a02::1 2001:db8::1   which rule and route such a packet takes\n  palisade route release                    take everything of ours away\n\nUplinks, rules and policies are written in the config; see palisade.toml(5). The daemon keeps the applied set standing,\nnot the config: a changed config changes nothing until it is applied."
)]
pub struct RouteArgs {
    #[command(subcommand)]
    verb: RouteVerb,
}

#[derive(Debug, Subcommand)]
enum RouteVerb {
    /// What applying the config would change. Exit code 0: nothing, 1: something
    #[command(after_help = "Examples:\n  palisade route plan\n  palisade --json route plan | jq -r '.steps[].text'")]
    Plan,
    /// Make what the config says stand, now and after each boot
    #[command(
        after_help = "Examples:\n  palisade route apply --confirm 60s        try it; taken back unless confirmed in time\n  palisade route apply"
    )]
    Apply {
        /// Take it back after this time unless `palisade route confirm` is said (60s when no time is)
        #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "60s")]
        confirm: Option<Span>,
        /// Over ssh: apply for good all the same, without a way back
        #[arg(long, conflicts_with = "confirm")]
        now: bool,
    },
    /// Keep what is on trial
    #[command(after_help = "Examples:\n  palisade route apply --confirm 60s\n  palisade route confirm")]
    Confirm,
    /// Take back what is on trial, or go back to the set before
    #[command(after_help = "Example:\n  palisade route revert")]
    Revert,
    /// Each uplink: whether it is up, its sources, its answers, what is pending. Exit code 6: something of ours does not stand
    #[command(after_help = "Example:\n  palisade route status")]
    Status,
    /// Prove each uplink: rules, routes, answers from its own source, what would answer from a wrong one. Exit code 1: something fails
    Check(check::Check),
    /// Trace a packet through all rules, ours and others'. Exit code 1: there is no way
    Explain(explain::Explain),
    /// Take every rule and route of ours away. The journal keeps what was applied: `revert` is a way back
    #[command(after_help = "Examples:\n  palisade route release --dry-run\n  palisade route release")]
    Release {
        /// Only show what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

impl RouteArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        match self.verb {
            RouteVerb::Plan => plan(global, RouteRequest::Plan { text: declared(global)?.1 }),
            RouteVerb::Apply { confirm, now } => apply(global, confirm, now),
            RouteVerb::Confirm => done(global, RouteRequest::Confirm, "confirmed"),
            RouteVerb::Revert => done(global, RouteRequest::Revert, "taken back"),
            RouteVerb::Status => show::status(global),
            RouteVerb::Check(check) => check.run(global),
            RouteVerb::Explain(explain) => explain.run(global),
            RouteVerb::Release { dry_run: true } => plan(global, RouteRequest::Plan { text: show_routing(&Config::builtin()) }),
            RouteVerb::Release { dry_run: false } => done(global, RouteRequest::Release, "released"),
        }
    }
}

/// What the config declares, users' names resolved, and its text as the daemon takes it.
pub(super) fn declared(global: &Global) -> Result<(Spec, String)> {
    let mut config = global.places().config()?;
    let unknown: BTreeSet<String> = config.resolve_users(|name| privileges::user(name).ok().flatten().map(|account| account.uid));
    if let Some(name) = unknown.first() {
        let message = format!("palisade: `{name}` is no user of this host (uid of a [[rule]]); write its number, or mend the name");
        return Err(anyhow::Error::new(Refused { exit: Exit::Config, message }));
    }
    let text = show_routing(&config);
    Ok((config.routing().clone(), text))
}

/// Asks the daemon, or does it alone.
pub(super) fn ask(global: &Global, request: RouteRequest) -> Result<RouteReply> {
    let places = global.places();
    let asked = Request::Route(request.clone());
    if let Some(reply) = served(&places, &asked)? {
        return match answered(reply)? {
            Reply::Route(reply) => Ok(reply),
            other => Err(unexpected(&other)),
        };
    }
    let alone = if request.only_reads() { Alone::looking(&places) } else { Alone::open(&places) };
    let mut alone = match alone {
        Ok(alone) => alone,
        // Whoever held the lock may have been a daemon on its way up.
        Err(error) => match served(&places, &asked)?.map(answered).transpose()? {
            Some(Reply::Route(reply)) => return Ok(reply),
            _ => return Err(without_rights(&places, error)),
        },
    };
    match alone.ask(request)? {
        Ok(reply) => Ok(reply),
        Err((exit, message)) => Err(anyhow::Error::new(Refused { exit: Exit::from_code(exit), message: format!("palisade: {message}") })),
    }
}

fn plan(global: &Global, request: RouteRequest) -> Result<Exit> {
    let RouteReply::Plan(plan) = ask(global, request)? else { return Err(anyhow::anyhow!("no plan came back; this is a bug")) };
    if global.json {
        print::json(&plan_json(&plan))?;
    } else {
        show::steps(&plan)?;
        print::line(show::summary(&plan))?;
        show::notes(&plan);
    }
    Ok(if plan.changes() == 0 { Exit::Done } else { Exit::No })
}

fn plan_json(plan: &PlanReply) -> serde_json::Value {
    json!({
        "v": 1,
        "changes": plan.changes(),
        "unchanged": plan.unchanged,
        "steps": plan.steps,
        "conflicts": plan.conflicts,
        "shadows": plan.shadows,
        "failed": plan.failed,
        "confirm_within": plan.confirm_within.map(Span::as_secs_ceil),
    })
}

/// The peer of this ssh session, and our address in it (sshd(8), `SSH_CONNECTION`: peer, its port, own, its port).
fn session() -> Option<(Addr, Addr)> {
    let words = std::env::var("SSH_CONNECTION").ok()?;
    let own = words.split(' ').nth(2)?.split('%').next()?.parse().ok()?;
    Some((links::ssh_connection_peer(&words)?, own))
}

fn apply(global: &Global, confirm: Option<Span>, now: bool) -> Result<Exit> {
    let (spec, text) = declared(global)?;
    let session = session();
    if session.is_some() && confirm.is_none() && !now {
        let message = "palisade: over ssh a wrong route locks you out: say `palisade route apply --confirm 60s` and then `palisade route confirm`\n(or `--now`, to apply it for good without a way back)";
        return Err(anyhow::Error::new(Refused { exit: Exit::Refused, message: message.to_owned() }));
    }
    if confirm.is_some() && served(&global.places(), &Request::Route(RouteRequest::Status))?.is_none() {
        let message = "the daemon takes back what is not confirmed, and none runs: start it, or apply without --confirm".to_owned();
        return Err(anyhow::Error::new(Unreachable(message)));
    }
    if spec.is_empty() && !global.json {
        print::say("palisade: the config declares no uplink, rule or policy: what was applied is removed");
    }
    let RouteReply::Plan(plan) = ask(global, RouteRequest::Apply { text, confirm, peer: session })? else {
        return Err(anyhow::anyhow!("no answer to `apply` came back; this is a bug"));
    };
    told(global, &plan, "applied")
}

fn done(global: &Global, request: RouteRequest, word: &str) -> Result<Exit> {
    let RouteReply::Plan(plan) = ask(global, request)? else { return Err(anyhow::anyhow!("no answer came back; this is a bug")) };
    told(global, &plan, word)
}

fn told(global: &Global, plan: &PlanReply, word: &str) -> Result<Exit> {
    if global.json {
        print::json(&plan_json(plan))?;
    } else {
        show::steps(plan)?;
        print::line(format_args!("{word}: {}", show::summary(plan)))?;
        show::notes(plan);
        if let Some(left) = plan.confirm_within {
            print::line(format_args!("taken back in {} unless you say: palisade route confirm", print::rough(left)))?;
        }
    }
    Ok(if plan.failed.is_empty() && plan.conflicts.is_empty() { Exit::Done } else { Exit::Degraded })
}
