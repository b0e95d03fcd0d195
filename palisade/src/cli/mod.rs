//! The command line: one table of verbs, one file a verb.
//!
//! Help, man pages and completions are all made from [`Cli`].

pub mod allow;
pub mod ask;
pub mod ban;
mod chart;
pub mod config;
#[cfg(target_os = "linux")]
pub mod conntrack;
#[cfg(target_os = "linux")]
pub mod demo;
pub mod docs;
pub mod doctor;
pub mod events;
pub mod export;
mod facts;
pub mod fail2ban_client;
pub mod feed;
pub mod import;
pub mod list;
mod past;
pub mod print;
mod progress;
pub mod prove;
pub mod reload;
pub mod replay;
pub mod report;
#[cfg(target_os = "linux")]
pub mod route;
pub mod run;
pub mod status;
pub mod test;
#[cfg(target_os = "linux")]
pub mod tunnel;
pub mod wall;
pub mod why;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::settings::{Places, system};

/// How a verb ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Yes, or done.
    Done = 0,
    /// No: not banned, nothing matched, a check failed.
    No = 1,
    /// What was asked for makes no sense or does not exist.
    Usage = 2,
    /// The daemon is needed and not reachable.
    NoDaemon = 3,
    /// The config is invalid.
    Config = 4,
    /// A safety rule forbids it.
    Refused = 5,
    /// It works, but not all of it.
    Degraded = 6,
    /// A bug of ours, or the machine's.
    Internal = 70,
}

impl Exit {
    /// From the number the daemon sent.
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            1 => Self::No,
            2 => Self::Usage,
            3 => Self::NoDaemon,
            4 => Self::Config,
            5 => Self::Refused,
            6 => Self::Degraded,
            _ => Self::Internal,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  palisade run                          guard this host, in the foreground
  palisade status                       what stands, what is read, what does not work
  palisade ban 203.0.113.7 --for 1d     shut an address out for a day, by hand
  palisade why 203.0.113.7              everything known about it
  palisade unban 203.0.113.7            let it in again
  palisade demo                         see it all happen without touching this host

Exit codes: 0 yes/done, 1 no, 2 usage, 3 daemon not reachable, 4 config invalid,
5 refused by a safety rule, 6 degraded, 70 internal error.";

/// Guards the network edge of this host: attackers in the logs are banned in the real firewall,
/// their open connections ended, for a while, across restarts and reboots.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// Flags every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

impl Cli {
    /// Reads the command line; ends the process where there is nothing more to do.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Self {
        let matches = Self::command().get_matches_from(words);
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut Self::command()).exit());
        cli.global.config_typed = matches.value_source("config") == Some(ValueSource::CommandLine);
        cli
    }
}

/// Flags every verb takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Config file; conf.d/*.toml beside it is read after it
    #[arg(long, global = true, value_name = "FILE", env = "PALISADE_CONFIG", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Whether it was typed, rather than in the environment
    #[arg(skip)]
    pub config_typed: bool,
    /// Where bans, counts and reading positions are kept
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "PALISADE_STATE_DIR",
        default_value = system::STATE,
        help_heading = "Global options"
    )]
    pub state_dir: PathBuf,
    /// Where the control socket and the lock are
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "PALISADE_RUN_DIR",
        default_value = system::RUN,
        help_heading = "Global options"
    )]
    pub run_dir: PathBuf,
    /// Answer in JSON: one document, or one object a line for streams
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Colours: auto (on a terminal, unless NO_COLOR is set), always, never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Global options")]
    pub color: ColorChoice,
}

impl Global {
    /// Where things are.
    pub fn places(&self) -> Places {
        Places {
            config: self.config.clone().unwrap_or_else(|| PathBuf::from(system::CONFIG)),
            config_named: self.config.is_some(),
            state: self.state_dir.clone(),
            run: self.run_dir.clone(),
        }
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Guard this host: read its logs, ban attackers, keep the wall up. Runs in the foreground
    Run(run::Run),
    /// What stands, what is read, what does not work
    Status(status::StatusArgs),
    /// Check this host and this config for everything that could keep a ban from working, with the fix for each
    Doctor(doctor::Doctor),
    /// Prove that a ban blocks here: packets of a banned address, sent through a copy of this host's rules
    Prove(prove::Prove),
    /// Check or show the config
    Config(config::ConfigArgs),
    /// Shut addresses out, now, for a while, and end their connections
    Ban(ban::BanArgs),
    /// Let addresses in again
    Unban(ban::UnbanArgs),
    /// Who is shut out
    #[command(visible_alias = "show")]
    List(list::List),
    /// Whether an address is shut out: exit code 0 if so, 1 if not
    Check(list::Check),
    /// Every fact known about an address: bans, lines, counts, kernel, events
    Why(why::WhyArgs),
    /// Who can never be banned
    Allow(allow::AllowArgs),
    /// Block lists that are followed
    Feed(feed::FeedArgs),
    /// Tell the daemon of attackers that a program knows itself: they count as lines do
    Report(report::ReportArgs),
    /// End the connections of an address or prefix, without banning it
    Kill(ban::KillArgs),
    /// Have the daemon read its config anew, after checking it
    Reload(reload::Reload),
    /// Put the stored bans into the kernel: at boot, before the network, without the daemon
    Restore(wall::Restore),
    /// Take the wall down. The store keeps the bans; `palisade restore` or `run` puts them back
    Flush(wall::Flush),
    /// Ban whom a table of another tool lists
    Import(import::ImportArgs),
    /// The bans as a table for another tool, to standard output
    Export(export::ExportArgs),
    /// Which uplink packets leave by: plan it, apply it, prove it, take it back
    #[cfg(target_os = "linux")]
    Route(route::RouteArgs),
    /// Tunnels that are kept up
    #[cfg(target_os = "linux")]
    Tunnel(tunnel::TunnelArgs),
    /// What tunnel providers allow, and when the next connect is
    #[cfg(target_os = "linux")]
    Budget(tunnel::BudgetArgs),
    /// The connection table: who fills it, how full it is; ending flows; the kernel's timeouts
    #[cfg(target_os = "linux")]
    Conntrack(conntrack::ConntrackArgs),
    /// Hold lines against signatures and see which match
    Test(test::Test),
    /// What this config would have banned over logs of the past, in log time
    Replay(replay::ReplayArgs),
    /// Attack signatures that ship, with their examples
    Signatures(test::Signatures),
    /// What happened: bans, unbans, repairs, problems
    Events(events::Events),
    /// The whole thing live in throw-away namespaces: touches nothing of this host
    Demo(run::Demo),
    /// The commands of fail2ban's client, in its words: for scripts that use them
    #[command(name = "fail2ban-client")]
    Fail2banClient(fail2ban_client::Fail2banClient),
    /// Completions for a shell, to standard output
    Completions(docs::Completions),
    /// The man pages: palisade(1) to standard output, or all of them into a folder
    Man(docs::Man),
}

/// Does what was asked.
pub fn dispatch(cli: Cli) -> Result<Exit> {
    print::choose_color(cli.global.color);
    let global = &cli.global;
    match cli.verb {
        Verb::Run(args) => args.run(global),
        Verb::Status(args) => args.run(global),
        Verb::Doctor(args) => args.run(global),
        Verb::Prove(args) => args.run(global),
        Verb::Config(args) => args.run(global),
        Verb::Ban(args) => args.run(global),
        Verb::Unban(args) => args.run(global),
        Verb::List(args) => args.run(global),
        Verb::Check(args) => args.run(global),
        Verb::Why(args) => args.run(global),
        Verb::Allow(args) => args.run(global),
        Verb::Feed(args) => args.run(global),
        Verb::Report(args) => args.run(global),
        Verb::Kill(args) => args.run(global),
        Verb::Reload(args) => args.run(global),
        Verb::Restore(args) => args.run(global),
        Verb::Flush(args) => args.run(global),
        Verb::Import(args) => args.run(global),
        Verb::Export(args) => args.run(global),
        #[cfg(target_os = "linux")]
        Verb::Route(args) => args.run(global),
        #[cfg(target_os = "linux")]
        Verb::Tunnel(args) => args.run(global),
        #[cfg(target_os = "linux")]
        Verb::Budget(args) => args.run(global),
        #[cfg(target_os = "linux")]
        Verb::Conntrack(args) => args.run(global),
        Verb::Test(args) => args.run(global),
        Verb::Replay(args) => args.run(global),
        Verb::Signatures(args) => args.run(global),
        Verb::Events(args) => args.run(global),
        Verb::Demo(args) => args.run(global),
        Verb::Fail2banClient(args) => args.run(global),
        Verb::Completions(args) => args.run(),
        Verb::Man(args) => args.run(),
    }
}
