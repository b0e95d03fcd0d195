//! `palisade tunnel`, `palisade budget`.

use anyhow::Result;
use clap::{Args, Subcommand};
use palisade_core::control::route::{BudgetStatus, RouteReply, RouteRequest, State, TunnelStatus, TunnelVerb};
use palisade_core::control::{Reply, Request};
use palisade_core::route::tunnel::Waits;
use palisade_core::time::{Now, Tick};
use palisade_os::clock;
use serde_json::json;

use super::ask::{Unreachable, answered, served, unexpected};
use super::print::{self, Painted};
use super::{Exit, Global};
use crate::serve::{open, routing};
use crate::tunnels::Supervisor;

/// Tunnels that are kept up.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade tunnel status\n  palisade tunnel restart sixxs0\n  palisade tunnel start sixxs0 --spend-last\n\nTunnels are written in the config, as [tunnel.NAME]; the daemon keeps them up, and takes each start of a client from the\nprovider's budget (`palisade budget`)."
)]
pub struct TunnelArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Each tunnel: how it is, its process, what it waits for. Exit code 6: one is lost, failed or tried again later
    #[command(after_help = "Examples:\n  palisade tunnel status\n  palisade tunnel status sixxs0")]
    Status {
        /// Which; all when none is named
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Start it, and keep it up
    #[command(after_help = "Example:\n  palisade tunnel start sixxs0")]
    Start(Named),
    /// Stop it, and leave it down until it is started. A 6in4 or GRE interface is made again when the daemon starts
    #[command(after_help = "Example:\n  palisade tunnel stop sixxs0")]
    Stop(Named),
    /// Stop it and start it
    #[command(after_help = "Example:\n  palisade tunnel restart sixxs0")]
    Restart(Named),
}

#[derive(Debug, Args)]
struct Named {
    /// Which
    #[arg(value_name = "NAME")]
    name: String,
    /// Connect even if that may be the breach that locks the account out
    #[arg(long)]
    spend_last: bool,
}

impl TunnelArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let (named, order) = match self.verb {
            Verb::Status { name } => return status(global, name.as_deref()),
            Verb::Start(named) => (named, TunnelVerb::Start),
            Verb::Stop(named) => (named, TunnelVerb::Stop),
            Verb::Restart(named) => (named, TunnelVerb::Restart),
        };
        let request = RouteRequest::Tunnel { name: named.name, order, spend_last: named.spend_last };
        said(global, ask(global, request)?.ok_or_else(nobody)?)
    }
}

/// Asks the daemon; `None` where none runs.
fn ask(global: &Global, request: RouteRequest) -> Result<Option<RouteReply>> {
    match served(&global.places(), &Request::Route(request))?.map(answered).transpose()? {
        None => Ok(None),
        Some(Reply::Route(reply)) => Ok(Some(reply)),
        Some(other) => Err(unexpected(&other)),
    }
}

fn nobody() -> anyhow::Error {
    anyhow::Error::new(Unreachable("the daemon keeps the tunnels up, and none runs: start it".to_owned()))
}

fn said(global: &Global, reply: RouteReply) -> Result<Exit> {
    let RouteReply::Said { text } = reply else { return Err(anyhow::anyhow!("no answer came back; this is a bug")) };
    if global.json {
        print::json(&json!({ "v": 1, "done": true, "text": text }))?
    } else {
        print::line(text)?
    }
    Ok(Exit::Done)
}

fn status(global: &Global, name: Option<&str>) -> Result<Exit> {
    let Some(RouteReply::Tunnels { mut tunnels }) = ask(global, RouteRequest::Tunnels)? else { return Err(nobody()) };
    if let Some(name) = name {
        let known: Vec<String> = tunnels.iter().map(|tunnel| tunnel.name.to_string()).collect();
        tunnels.retain(|tunnel| &*tunnel.name == name);
        if tunnels.is_empty() {
            return Err(super::ask::usage(format_args!("there is no tunnel `{name}`; there are: {}", known.join(", "))));
        }
    }
    let now = clock::now();
    let bad = tunnels.iter().any(|tunnel| matches!(tunnel.state, State::Failed { .. } | State::Lost { .. } | State::Backoff { .. }));
    if global.json {
        print::json(&json!({ "v": 1, "tunnels": tunnels.iter().map(|tunnel| as_json(tunnel, now)).collect::<Vec<_>>() }))?;
    } else if tunnels.is_empty() {
        print::say("no tunnel is kept up; write one in [tunnel.NAME] of the config");
    } else {
        let mut rows = vec![["TUNNEL", "KIND", "STATE", "PID", "FAILURES", "BUDGET", ""].map(str::to_owned).to_vec()];
        for tunnel in &tunnels {
            let dash = || "-".to_owned();
            let (word, more) = words(&tunnel.state, now.tick);
            let more = if more.is_empty() { tunnel.last_line.clone().unwrap_or_default() } else { more };
            rows.push(vec![
                tunnel.name.to_string(),
                tunnel.kind.clone(),
                word.to_owned(),
                tunnel.pid.map_or_else(dash, |pid| pid.to_string()),
                tunnel.failures.to_string(),
                tunnel.budget.as_ref().map_or_else(dash, ToString::to_string),
                more,
            ]);
        }
        print::table(&rows)?;
    }
    Ok(if bad { Exit::Degraded } else { Exit::Done })
}

/// A state's word, and what more there is to it.
fn words(state: &State, now: Tick) -> (&'static str, String) {
    let ago = |since: &Tick| format!("for {}", print::rough(now.since(*since)));
    let left = |until: &Tick| format!("in {}", print::rough(until.since(now)));
    match state {
        State::Down => ("down", String::new()),
        State::Waiting { until, why } => {
            let why = match why {
                Waits::Budget(why) => why.text(),
                Waits::Underlay => "there is no way to its far end",
                Waits::Disk => "its budget cannot be written to the disk",
            };
            ("waiting", until.as_ref().map_or_else(|| why.to_owned(), |until| format!("{why}; tried {}", left(until))))
        }
        State::Starting { since } => ("starting", ago(since)),
        State::Up { since, proof } => ("up", format!("{}: {proof}", ago(since))),
        State::Lost { since } => ("lost", format!("{}: it runs, but carries nothing", ago(since))),
        State::Stopping { since } => ("stopping", ago(since)),
        State::Backoff { until } => ("backoff", format!("tried {}", left(until))),
        State::Failed { why } => ("failed", why.clone()),
    }
}

fn as_json(tunnel: &TunnelStatus, now: Now) -> serde_json::Value {
    let (word, more) = words(&tunnel.state, now.tick);
    let wall = |tick: Tick| if tick > now.tick { now.stamp.plus(tick.since(now.tick)) } else { now.stamp.minus(now.tick.since(tick)) };
    let (since, until) = match &tunnel.state {
        State::Starting { since } | State::Up { since, .. } | State::Lost { since } | State::Stopping { since } => {
            (Some(wall(*since)), None)
        }
        State::Backoff { until } => (None, Some(wall(*until))),
        State::Waiting { until, .. } => (None, until.map(wall)),
        State::Down | State::Failed { .. } => (None, None),
    };
    json!({
        "name": tunnel.name,
        "kind": tunnel.kind,
        "state": word,
        "detail": more,
        "since": since,
        "until": until,
        "pid": tunnel.pid,
        "failures": tunnel.failures,
        "budget": tunnel.budget,
        "last_line": tunnel.last_line,
    })
}

/// What providers allow, and when the next connect is.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade budget\n  palisade budget sixxs\n  palisade budget sixxs --reset --i-know\n\nBudgets are written in the config, as [budget.NAME]. What was spent is on the disk before each connect, so it counts\nacross restarts and reboots. Exit code 6: a provider has locked us out, or a budget's file is of no use."
)]
pub struct BudgetArgs {
    /// Which; all when none is named
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Forget all connects, breaches and lockouts of it: only where the provider has done so too
    #[arg(long, requires = "name", requires = "i_know")]
    reset: bool,
    /// That the provider counts on, whatever is forgotten here
    #[arg(long)]
    i_know: bool,
}

impl BudgetArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        if let (true, Some(name)) = (self.reset, &self.name) {
            return reset(global, name);
        }
        let reply = match ask(global, RouteRequest::Budgets)? {
            Some(reply) => reply,
            None => routing::budgets(&mut alone(global)?),
        };
        let RouteReply::Budgets { budgets, broken } = reply else { return Err(anyhow::anyhow!("no budgets came back; this is a bug")) };
        let all: Vec<&BudgetStatus> =
            budgets.iter().filter(|budget| self.name.as_ref().is_none_or(|name| **name == *budget.name)).collect();
        if let Some(name) = self.name.as_ref().filter(|_| all.is_empty() && broken.is_empty()) {
            return Err(super::ask::usage(format_args!("there is no [budget.{name}] in the config")));
        }
        if global.json {
            print::json(&json!({ "v": 1, "budgets": all.iter().map(|budget| budget_json(budget)).collect::<Vec<_>>(), "broken": broken }))?;
        } else {
            all.iter().try_for_each(print::line)?;
            broken.iter().for_each(|what| print::say(format_args!("{} {what}", Painted(31, "!"))));
            if all.is_empty() && broken.is_empty() {
                print::say("no budget is kept; write one in [budget.NAME] of the config");
            }
        }
        let now = clock::now().stamp;
        let shut = all.iter().any(|budget| budget.locked.is_some_and(|until| until > now));
        Ok(if !broken.is_empty() || shut { Exit::Degraded } else { Exit::Done })
    }
}

/// The budgets without a daemon.
fn alone(global: &Global) -> Result<Supervisor> {
    let places = global.places();
    let config = places.config()?;
    let budgets: Vec<_> = config.budgets().values().cloned().collect();
    Ok(Supervisor::new(&[], &budgets, &places.state, &clock::boot_id()?, clock::now()))
}

fn reset(global: &Global, name: &str) -> Result<Exit> {
    if let Some(reply) = ask(global, RouteRequest::BudgetReset { name: name.to_owned() })? {
        return said(global, reply);
    }
    let _lock = open::lock(&global.places())?;
    match alone(global)?.reset(name, clock::now()) {
        Some(result) => result?,
        None => return Err(super::ask::usage(format_args!("there is no [budget.{name}] in the config"))),
    }
    said(global, RouteReply::Said { text: format!("budget {name} has forgotten all connects and breaches") })
}

fn budget_json(budget: &BudgetStatus) -> serde_json::Value {
    json!({
        "name": budget.name,
        "used": budget.used,
        "of": budget.of,
        "within": budget.within.as_secs_ceil(),
        "reserved": budget.reserved,
        "next_automatic": budget.next_automatic,
        "next_manual": budget.next_manual,
        "why": budget.why.map(palisade_core::route::budget::Why::text),
        "breaches": budget.breaches.iter().map(|breach| json!({ "at": breach.at, "until": breach.until })).collect::<Vec<_>>(),
        "lockout_at": budget.lockout_at,
        "lockout": budget.lockout.as_secs_ceil(),
        "hold": budget.hold,
        "locked": budget.locked,
        "waiting": budget.waiting,
    })
}
