//! `palisade ban`, `unban`, `kill`.

use anyhow::{Result, bail};
use clap::Args;
use palisade_core::bans::ban::{Ban, Origin};
use palisade_core::control::{BanOutcome, BanResult, KillCount, PREFIXES_A_REQUEST, Reply, Request, Whom};
use palisade_core::net::Prefix;
use palisade_core::time::Term;
use palisade_os::clock;
use serde::Serialize;

use super::ask::{ask, asker, unexpected};
use super::print::{self, Painted};
use super::{Exit, Global};

/// Shut addresses out.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade ban 203.0.113.7                      for the config's manual_time (a day)\n  palisade ban 203.0.113.0/24 --for 1w --reason \"scanners\"\n  palisade ban 2001:db8:bad::/64 --permanent\n\nExit code 5: protected by the allow list (see `palisade allow list`); nothing of it was banned."
)]
pub struct BanArgs {
    /// Addresses or prefixes
    #[arg(required = true, value_name = "ADDR|CIDR")]
    prefixes: Vec<Prefix>,
    /// How long: 90s, 10m, 1h30m, 2d, 1w
    #[arg(long = "for", short = 'd', value_name = "DURATION", visible_alias = "duration", conflicts_with = "permanent")]
    term: Option<Term>,
    /// Until it is taken back
    #[arg(long)]
    permanent: bool,
    /// Why, for whoever asks `palisade why`
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Even if the allow list protects it (never loopback or an own address)
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct BanDoc<'a> {
    v: u8,
    results: &'a [BanResult],
    killed: KillCount,
}

impl BanArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let term = if self.permanent { Some(Term::Forever) } else { self.term };
        let mut results = Vec::new();
        let mut killed = KillCount::default();
        for chunk in self.prefixes.chunks(PREFIXES_A_REQUEST) {
            let request = Request::Ban {
                prefixes: chunk.to_vec(),
                term,
                reason: self.reason.clone(),
                force: self.force,
                origin: Origin::Manual,
                asker: asker(),
            };
            match ask(global, request)? {
                Reply::Bans { results: more, killed: count } => {
                    results.extend(more);
                    killed.sockets += count.sockets;
                    killed.states += count.states;
                }
                other => return Err(unexpected(&other)),
            }
        }
        if global.json {
            print::json(&BanDoc { v: 1, results: &results, killed })?;
        } else {
            show_bans(&results, killed)?;
        }
        Ok(exit_of(&results))
    }
}

fn show_bans(results: &[BanResult], killed: KillCount) -> Result<()> {
    let now = clock::now().stamp;
    for result in results {
        match &result.what {
            BanOutcome::Banned { until } => {
                print::line(format_args!("{}  {}, {}", result.prefix, Painted(31, "banned"), print::left(*until, now)))?
            }
            BanOutcome::Refused { protected_by } => print::say(format_args!("refused: {}: {protected_by}", result.prefix)),
            BanOutcome::Failed { error } => {
                print::say(format_args!("{}: not enforced: {error}; it is kept and tried again", result.prefix))
            }
        }
    }
    if results.iter().any(|r| matches!(r.what, BanOutcome::Banned { .. })) {
        print::line(ended(killed))?;
    }
    Ok(())
}

fn ended(killed: KillCount) -> String {
    format!("ended {} local sockets and {} connection states", killed.sockets, killed.states)
}

fn exit_of(results: &[BanResult]) -> Exit {
    if results.iter().any(|r| matches!(r.what, BanOutcome::Failed { .. })) {
        Exit::Degraded
    } else if results.iter().any(|r| matches!(r.what, BanOutcome::Refused { .. })) {
        Exit::Refused
    } else {
        Exit::Done
    }
}

/// Let addresses in again.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade unban 203.0.113.7\n  palisade unban --jail sshd\n\nExit code 1: it was not banned. A wider ban that still covers it is named."
)]
pub struct UnbanArgs {
    /// Addresses or prefixes, as `palisade list` shows them
    #[arg(value_name = "ADDR|CIDR", required_unless_present_any = ["all", "jail"], conflicts_with_all = ["all", "jail"])]
    prefixes: Vec<Prefix>,
    /// Everybody
    #[arg(long, conflicts_with = "jail")]
    all: bool,
    /// Everybody this jail banned
    #[arg(long, value_name = "NAME")]
    jail: Option<String>,
}

#[derive(Serialize)]
struct UnbanDoc<'a> {
    v: u8,
    removed: Vec<Prefix>,
    missing: &'a [Prefix],
    still: Vec<Prefix>,
}

impl UnbanArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let whoms: Vec<Whom> = match (self.all, self.jail) {
            (true, _) => vec![Whom::All],
            (false, Some(jail)) => vec![Whom::Jail(jail.as_str().into())],
            (false, None) => self.prefixes.chunks(PREFIXES_A_REQUEST).map(|c| Whom::Prefixes(c.to_vec())).collect(),
        };
        let (mut removed, mut missing, mut still) = (Vec::new(), Vec::new(), Vec::new());
        for whom in whoms {
            match ask(global, Request::Unban { whom })? {
                Reply::Unbans { removed: r, missing: m, still: s } => {
                    removed.extend(r);
                    missing.extend(m);
                    still.extend(s);
                }
                other => return Err(unexpected(&other)),
            }
        }
        if global.json {
            let prefixes = |bans: &[Ban]| bans.iter().map(|b| b.key.prefix).collect();
            print::json(&UnbanDoc { v: 1, removed: prefixes(&removed), missing: &missing, still: prefixes(&still) })?;
        } else {
            show_unbans(&removed, &missing, &still)?;
        }
        Ok(if missing.is_empty() { Exit::Done } else { Exit::No })
    }
}

fn show_unbans(removed: &[Ban], missing: &[Prefix], still: &[Ban]) -> Result<()> {
    let now = clock::now().stamp;
    for ban in removed {
        print::line(format_args!("{}  {}", ban.key.prefix, Painted(32, "unbanned")))?;
    }
    for prefix in missing {
        print::say(format_args!("{prefix} is not banned"));
    }
    for ban in still {
        print::say(format_args!(
            "still shut out by {} ({}, {}); `palisade unban {}` ends that",
            ban.key.prefix,
            ban.origin,
            print::left(ban.until, now),
            ban.key.prefix
        ));
    }
    Ok(())
}

/// End connections without banning.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  palisade kill 203.0.113.0/24\n\nWhoever is not banned may connect again at once.")]
pub struct KillArgs {
    /// Addresses or prefixes
    #[arg(required = true, value_name = "ADDR|CIDR")]
    prefixes: Vec<Prefix>,
}

#[derive(Serialize)]
struct KillDoc {
    v: u8,
    #[serde(flatten)]
    killed: KillCount,
}

impl KillArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        if self.prefixes.len() > PREFIXES_A_REQUEST {
            bail!("at most {PREFIXES_A_REQUEST} prefixes at once");
        }
        match ask(global, Request::Kill { prefixes: self.prefixes })? {
            Reply::Killed(killed) if global.json => print::json(&KillDoc { v: 1, killed })?,
            Reply::Killed(killed) => print::line(ended(killed))?,
            other => return Err(unexpected(&other)),
        }
        Ok(Exit::Done)
    }
}
