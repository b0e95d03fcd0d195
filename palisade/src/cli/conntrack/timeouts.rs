//! `palisade conntrack timeouts`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use palisade_core::flood::settings::Settings;
use palisade_core::flood::timeouts::catalogue::{PREFIX, Scope, switch};
use palisade_core::flood::timeouts::plan::{Change, settable, told};
use palisade_os::privileges;
use serde_json::{Value, json};

use crate::cli::ask::Refused;
use crate::cli::print::{self, Painted};
use crate::cli::{Exit, Global};
use crate::timeouts::{Applied, Desk, Shown};

/// The kernel's timeouts and sizes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade conntrack timeouts show          every switch: what it holds, the kernel's own value, what is proposed, what it is for\n  palisade conntrack timeouts plan          what would change, and why\n  palisade conntrack timeouts apply         change it, now and for each boot (/etc/sysctl.d/60-palisade-conntrack.conf)\n  palisade conntrack timeouts revert        put every former value back, and take the file away\n\nTimeouts that are to hold whatever is proposed are written in the config, as timeouts of [conntrack]. All of it works with and without the daemon. Exit codes: `plan` 0 nothing to change, 1 something; `apply` and `revert` 3 without root's rights, 6 where not all could be set; what only the initial network namespace may set, the sizes nf_conntrack_max and nf_conntrack_buckets, is told elsewhere, and the rest is done."
)]
pub(super) struct TimeoutsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Every switch of connection tracking this kernel has
    #[command(after_help = "Example:\n  palisade conntrack timeouts show")]
    Show,
    /// What should change on this machine, and why. Exit code 0: nothing, 1: something
    #[command(after_help = "Example:\n  palisade conntrack timeouts plan")]
    Plan,
    /// Make it so, now and after each boot; the former values are kept
    #[command(after_help = "Example:\n  palisade conntrack timeouts apply")]
    Apply {
        /// Write the file that sets it at boot here, not in /etc/sysctl.d
        #[arg(long, value_name = "DIR")]
        sysctl_dir: Option<PathBuf>,
    },
    /// Put every former value back. What somebody has set since is left, and told
    #[command(after_help = "Example:\n  palisade conntrack timeouts revert")]
    Revert {
        /// Take the file that sets it at boot away from here: where `apply` was told to write it
        #[arg(long, value_name = "DIR")]
        sysctl_dir: Option<PathBuf>,
    },
}

impl TimeoutsArgs {
    /// Does it.
    pub(super) fn run(self, global: &Global) -> Result<Exit> {
        if matches!(self.verb, Verb::Apply { .. } | Verb::Revert { .. }) && !privileges::is_root() && !privileges::have_net_admin() {
            let message = "palisade: whoever changes the kernel's timeouts must be root: run this as root".to_owned();
            return Err(anyhow::Error::new(Refused { exit: Exit::NoDaemon, message }));
        }
        let dir = match &self.verb {
            Verb::Apply { sysctl_dir } | Verb::Revert { sysctl_dir } => sysctl_dir.clone(),
            Verb::Show | Verb::Plan => None,
        };
        let mut desk = Desk::open(&global.places().state, settings(global)?, dir.as_deref());
        match self.verb {
            Verb::Show => show(global, &desk.show()?),
            Verb::Plan => plan(global, &desk.show()?),
            Verb::Apply { .. } => done(global, &desk.apply()?, "applied"),
            Verb::Revert { .. } => done(global, &desk.revert()?, "reverted"),
        }
    }
}

/// What the config sets.
fn settings(global: &Global) -> Result<Settings> {
    Ok(global.places().config()?.conntrack().clone())
}

fn show(global: &Global, shown: &Shown) -> Result<Exit> {
    if global.json {
        let switches: Vec<Value> = shown.found.iter().map(|(name, value)| switch_json(shown, name, value)).collect();
        print::json(&json!({
            "v": 1,
            "switches": switches,
            "profile": shown.profile.map(|profile| profile.word()),
            "facts": shown.facts,
            "advice": shown.advice,
        }))?;
        return Ok(Exit::Done);
    }
    let mut rows = vec![["SWITCH", "NOW", "KERNEL'S", "PROPOSED", ""].map(str::to_owned).to_vec()];
    for (name, value) in &shown.found {
        let known = switch(name);
        let change = proposal(shown, name);
        let what = known.map_or("not known to this palisade; left alone", |known| known.what);
        let fixed = known.is_some_and(|known| known.scope == Scope::Initial && !settable(known, &shown.facts));
        rows.push(vec![
            name.strip_prefix(PREFIX).unwrap_or(name).to_owned(),
            told(known, value),
            known.map_or("?", |known| known.default).to_owned(),
            change.map_or_else(|| "-".to_owned(), |change| told(known, &change.to)),
            format!("{what}{}", if fixed { " (set in the initial network namespace)" } else { "" }),
        ]);
    }
    print::table(&rows)?;
    if let Some(profile) = shown.profile {
        print::line(format_args!("timeouts are shortened for {} now, and put back after; proposals are for after", profile.word()))?;
    }
    advice(shown);
    Ok(Exit::Done)
}

fn proposal<'a>(shown: &'a Shown, name: &str) -> Option<&'a Change> {
    shown.changes.iter().find(|change| change.name == name)
}

fn switch_json(shown: &Shown, name: &str, value: &str) -> Value {
    let known = switch(name);
    let change = proposal(shown, name);
    json!({
        "name": name,
        "value": value,
        "unit": known.map(|known| known.unit.word()),
        "default": known.map(|known| known.default),
        "proposal": change.map(|change| &change.to),
        "why": change.map(|change| &change.why),
        "what": known.map(|known| known.what),
        "scope": known.map(|known| match known.scope {
            Scope::Namespace => "namespace",
            Scope::Initial => "initial",
            Scope::ReadOnly => "read-only",
        }),
        "settable": known.is_some_and(|known| settable(known, &shown.facts)),
        "beneath": shown.base.get(name).filter(|base| *base != value),
        "former": shown.former.get(name),
    })
}

fn advice(shown: &Shown) {
    shown.advice.iter().for_each(|what| print::say(format_args!("palisade: {what}")));
}

fn plan(global: &Global, shown: &Shown) -> Result<Exit> {
    if global.json {
        print::json(&json!({ "v": 1, "changes": shown.changes.len(), "steps": shown.changes, "advice": shown.advice }))?;
    } else {
        lines(&shown.changes)?;
        let plural = if shown.changes.len() == 1 { "" } else { "s" };
        let unchanged = shown.found.len().saturating_sub(shown.changes.len());
        print::line(format_args!("{} change{plural}, {unchanged} unchanged", shown.changes.len()))?;
        advice(shown);
    }
    Ok(if shown.changes.is_empty() { Exit::Done } else { Exit::No })
}

/// `~ tcp_timeout_established  432000 (5d) -> 86400 (1d)   why`, a line a change.
fn lines(changes: &[Change]) -> Result<()> {
    let width = changes.iter().map(|change| change.name.len()).max().unwrap_or(0);
    changes.iter().try_for_each(|change| {
        let known = switch(&change.name);
        let (from, to) = (told(known, &change.from), told(known, &change.to));
        print::line(format_args!("{} {:<width$}  {from} -> {to}   {}", Painted(33, '~'), change.name, Painted(2, &change.why)))
    })
}

fn done(global: &Global, applied: &Applied, word: &str) -> Result<Exit> {
    if global.json {
        print::json(&json!({
            "v": 1,
            "changes": applied.done.len(),
            "steps": applied.done,
            "failed": applied.failed,
            "told": applied.told,
            "file": applied.file,
        }))?;
    } else {
        lines(&applied.done)?;
        let plural = if applied.done.len() == 1 { "" } else { "s" };
        let file = match (&applied.file, word) {
            (None, _) => String::new(),
            (Some(path), "applied") => format!("; {} sets it at each boot", path.display()),
            (Some(path), _) => format!("; {} is taken away", path.display()),
        };
        print::line(format_args!("{word}: {} change{plural}{file}", applied.done.len()))?;
        applied.told.iter().for_each(|what| print::say(format_args!("palisade: {what}")));
        applied.failed.iter().for_each(|what| print::say(format_args!("palisade: not done: {what}")));
    }
    Ok(if applied.failed.is_empty() { Exit::Done } else { Exit::Degraded })
}
