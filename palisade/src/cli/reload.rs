//! `palisade reload`.

use std::io;

use anyhow::Result;
use clap::Args;
use palisade_core::control::{Reply, Request};

use super::ask::{answered, served, unexpected, unreachable};
use super::{Exit, Global, print};

/// Have the daemon read its config anew.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade reload\n\nThe config is checked first, as `palisade config check` does: a bad one (exit code 4) changes nothing.\nBans, counts and reading positions go on. The same as `systemctl reload palisade`."
)]
pub struct Reload {}

impl Reload {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        reload(global)?;
        if !global.json {
            print::say("the config is good and is being read anew");
        }
        Ok(Exit::Done)
    }
}

/// Checks the config and has it read.
pub(super) fn reload(global: &Global) -> Result<()> {
    let places = global.places();
    places.config()?;
    let reply = served(&places, &Request::Reload)?.ok_or_else(|| unreachable(&places.socket(), &io::ErrorKind::NotFound.into()))?;
    match answered(reply)? {
        Reply::Reloading => Ok(()),
        other => Err(unexpected(&other)),
    }
}
