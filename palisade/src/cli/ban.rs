//! `palisade ban`, `unban`, `kill`.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use palisade_core::bans::ban::{Ban, Origin};
use palisade_core::control::{BanOutcome, BanResult, KillCount, PREFIXES_A_REQUEST, Reply, Request, Whom};
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::{Span, Term};
use palisade_os::clock;
use serde::Serialize;

use super::ask::{ask, asker, unexpected};
use super::print::{self, Painted};
use super::{Exit, Global};

/// Reads how long something is to last.
pub(super) fn term(text: &str) -> Result<Term, String> {
    match text.parse().map_err(|e| format!("{e}"))? {
        Term::For(span) if span < SHORTEST => Err(format!("it must last at least {SHORTEST}")),
        term => Ok(term),
    }
}

/// What ends sooner is over before anybody could see it; the config has the same bound.
const SHORTEST: Span = Span::secs(1);

/// A prefix and how it was typed.
#[derive(Clone, Debug)]
struct Typed {
    prefix: Prefix,
    text: String,
}

fn typed(text: &str) -> Result<Typed, String> {
    let prefix = text.parse().map_err(|e| format!("{e}"))?;
    Ok(Typed { prefix, text: text.to_owned() })
}

impl Typed {
    /// Says so where the address has bits that the prefix has not: perhaps only the host was meant.
    fn tell_host_bits(&self) {
        let addr = self.text.split('/').next().and_then(|addr| addr.trim().parse::<Addr>().ok());
        if addr.is_some_and(|addr| addr != self.prefix.addr()) {
            print::say(format_args!("{} is the prefix {}", self.text, self.prefix));
        }
    }
}

/// Shut addresses out.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade ban 203.0.113.7                      for the config's manual_time (a day)\n  palisade ban 203.0.113.0/24 --for 1w --reason \"scanners\"\n  palisade ban 2001:db8:bad::/64 --permanent\n\nA bare address is that host alone, also in IPv6 (a /128): write the /64 where its network is meant.\n\nExit code 5: protected by the allow list (see `palisade allow list`); nothing of it was banned."
)]
pub struct BanArgs {
    /// Addresses or prefixes
    #[arg(required = true, value_name = "ADDR|CIDR", value_parser = typed)]
    prefixes: Vec<Typed>,
    /// How long: 90s, 10m, 1h30m, 2d, 1w
    #[arg(long = "for", short = 'd', value_name = "DURATION", visible_alias = "duration", conflicts_with = "permanent", value_parser = term)]
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
        self.prefixes.iter().for_each(Typed::tell_host_bits);
        for chunk in self.prefixes.chunks(PREFIXES_A_REQUEST) {
            let request = Request::Ban {
                prefixes: chunk.iter().map(|typed| typed.prefix).collect(),
                term,
                reason: self.reason.clone(),
                force: self.force,
                origin: Origin::Manual,
                asker: asker(),
            };
            match ask(global, request)? {
                Reply::Bans { results: more, killed: count } => {
                    results.extend(more);
                    add(&mut killed, count);
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
            BanOutcome::Failed { error } => print::say(format_args!("{}: not enforced: {error}", result.prefix)),
        }
    }
    if results.iter().any(|r| matches!(r.what, BanOutcome::Banned { .. })) {
        print::line(ended(killed))?;
    }
    Ok(())
}

fn add(sum: &mut KillCount, more: KillCount) {
    sum.sockets += more.sockets;
    sum.states += more.states;
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
    after_help = "Examples:\n  palisade unban 203.0.113.7\n  palisade unban --jail sshd\n\nExit code 1: it was not banned, or the jail has banned nobody. A wider ban that still covers it is named."
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
    /// Feeds that will ban some of them again, and how many.
    listed: &'a BTreeMap<String, usize>,
}

impl UnbanArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let whoms: Vec<Whom> = match (self.all, &self.jail) {
            (true, _) => vec![Whom::All],
            (false, Some(jail)) => vec![Whom::Jail(jail.as_str().into())],
            (false, None) => self.prefixes.chunks(PREFIXES_A_REQUEST).map(|c| Whom::Prefixes(c.to_vec())).collect(),
        };
        let (mut removed, mut missing, mut still) = (Vec::new(), Vec::new(), Vec::new());
        let mut listed = BTreeMap::new();
        for whom in whoms {
            match ask(global, Request::Unban { whom })? {
                Reply::Unbans { removed: r, missing: m, still: s, listed: l } => {
                    l.into_iter().for_each(|(feed, count)| *listed.entry(feed).or_insert(0) += count);
                    removed.extend(r);
                    missing.extend(m);
                    still.extend(s);
                }
                other => return Err(unexpected(&other)),
            }
        }
        if global.json {
            let prefixes = |bans: &[Ban]| bans.iter().map(|b| b.key.prefix).collect();
            print::json(&UnbanDoc { v: 1, removed: prefixes(&removed), missing: &missing, still: prefixes(&still), listed: &listed })?;
        } else {
            show_unbans(&removed, &missing, &still)?;
            for (feed, count) in &listed {
                let who = if *count == 1 { "one of these is".to_owned() } else { format!("{count} of these are") };
                print::say(format_args!(
                    "{who} listed by feed {feed} and banned again when its list is next looked at; `palisade allow add` prevents that"
                ));
            }
        }
        // A jail's name is not checked against the config: its bans may outlive it there.
        if let (Some(jail), true) = (&self.jail, removed.is_empty()) {
            print::say(format_args!("no bans by jail {jail}"));
            return Ok(Exit::No);
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
#[command(after_help = "Examples:\n  palisade kill 203.0.113.0/24\n  palisade conntrack kill 192.0.2.77      the same, by another name\n\nWhoever is not banned may connect again at once.")]
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
        let mut killed = KillCount::default();
        for chunk in self.prefixes.chunks(PREFIXES_A_REQUEST) {
            match ask(global, Request::Kill { prefixes: chunk.to_vec() })? {
                Reply::Killed(count) => add(&mut killed, count),
                other => return Err(unexpected(&other)),
            }
        }
        if global.json {
            print::json(&KillDoc { v: 1, killed })?;
        } else {
            print::line(ended(killed))?;
        }
        Ok(Exit::Done)
    }
}
