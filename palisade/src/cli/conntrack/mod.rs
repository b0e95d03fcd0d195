//! `palisade conntrack`.

mod timeouts;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{Exit, Global};

/// The table of tracked connections.
#[derive(Debug, Args)]
pub struct ConntrackArgs {
    #[command(subcommand)]
    verb: ConntrackVerb,
}

#[derive(Debug, Subcommand)]
enum ConntrackVerb {
    /// The kernel's timeouts and sizes: what each is for, what it should be, set and put back
    Timeouts(timeouts::TimeoutsArgs),
}

impl ConntrackArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        match self.verb {
            ConntrackVerb::Timeouts(args) => args.run(global),
        }
    }
}
