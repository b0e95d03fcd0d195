//! `palisade prove`.

use anyhow::Result;
use clap::Args;
use palisade_core::bans::backend::{self, Backend};
use palisade_core::bans::proof::Proof;
use palisade_os::block::detect::{self, Look};
use serde_json::json;

use super::{Exit, Global, print};
use crate::serve::proof::{self, Proven};

/// Prove that a ban blocks here.
#[derive(Debug, Args)]
#[command(
    after_help = "A copy of this host's rules is made in throw-away network namespaces, an address is banned there, and packets\nof it are sent: to the host and through it, by IPv4 and IPv6. Nothing of the host is touched. Root, or user\nnamespaces, are needed for the copy.\n\nExamples:\n  palisade prove\n  palisade prove --backend ipset      would that one block here?\n\nExit code 0: proven, or nothing could be tried (it says so). 1: a ban would not block here."
)]
pub struct Prove {
    /// Which firewall; default: the one the config says
    #[arg(long, value_name = "NAME", value_parser = backend)]
    backend: Option<Backend>,
    /// Keep the result in the run folder, for a daemon that may not prove it itself
    #[arg(long)]
    keep: bool,
}

fn backend(word: &str) -> Result<Backend, String> {
    let words = || Backend::ALL.map(Backend::word).join(", ");
    Backend::of_word(word).ok_or_else(|| format!("it is one of {}", words()))
}

impl Prove {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let places = global.places();
        let config = places.config()?;
        let backend = match self.backend.or(config.ban().backend) {
            Some(backend) => backend,
            None => backend::pick(&detect::look(config.backends(), Look::First))?.backend,
        };
        let proven = if self.keep {
            // By a child, as whoever proves can write no file afterwards.
            let proven = proof::ask(&places, backend);
            proof::keep(&places.run, &proven)?;
            proven
        } else {
            proof::here(backend, config.backends())
        };
        tell(&proven, global.json)?;
        Ok(if matches!(proven.proof, Proof::Failed { .. }) { Exit::No } else { Exit::Done })
    }
}

fn tell(proven: &Proven, json: bool) -> Result<()> {
    if json {
        let mut document = serde_json::to_value(proven)?;
        document["v"] = json!(1);
        return print::json(&document);
    }
    print::line(format_args!("{} {}", proven.backend, proven.proof))?;
    proven.notes.iter().try_for_each(|note| print::line(format_args!("note: {note}")))
}
