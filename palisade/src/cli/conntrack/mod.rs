//! `palisade conntrack`.

mod app;
mod draw;
mod feed;
mod look;
mod plot;
mod rows;
mod screen;
mod status;
mod timeouts;
mod top;
mod who;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::ban::KillArgs;
use super::{Exit, Global};

/// The connection table.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade conntrack top                            who fills the table, live\n  palisade conntrack top --once --by destination    where the flows go, once\n  palisade conntrack status --month                 how full it is and was, and what is done about whom\n  palisade conntrack kill 203.0.113.7               end its flows, without banning it\n  palisade conntrack timeouts plan                  which timeouts do not fit this machine, and why"
)]
pub struct ConntrackArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Who fills the table, live: sources, networks, destinations, ports, processes
    Top(top::TopArgs),
    /// How full the table is and was, who floods, and what is done about it. Exit code 3: no daemon runs
    Status(status::StatusArgs),
    /// End the connections of an address or prefix, without banning it: `palisade kill` by another name
    Kill(KillArgs),
    /// The kernel's timeouts and sizes: what each is for, what it should be, set and put back
    Timeouts(timeouts::TimeoutsArgs),
}

impl ConntrackArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        match self.verb {
            Verb::Top(args) => args.run(global),
            Verb::Status(args) => args.run(global),
            Verb::Kill(args) => args.run(global),
            Verb::Timeouts(args) => args.run(global),
        }
    }
}
