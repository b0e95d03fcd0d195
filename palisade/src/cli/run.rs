//! `palisade run`, `demo`.

use anyhow::Result;
use clap::Args;
use palisade_core::brain::Mode;

#[cfg(target_os = "linux")]
use super::demo;
use super::{Exit, Global};
use crate::serve;

/// Guard this host.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade run\n  palisade run --observe        see what it would do, change nothing\n  ssh host tail -F auth.log | palisade run --stdin sshd\n\nStop it with Ctrl-C or SIGTERM: the wall stays up, bans end by themselves. SIGHUP reads the config anew.\nPALISADE_LOG=debug says more."
)]
pub struct Run {
    /// Decide and log only: nothing is put into the kernel
    #[arg(long)]
    observe: bool,
    /// Read standard input for this jail too, until it ends
    #[arg(long, value_name = "JAIL")]
    stdin: Option<String>,
}

impl Run {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let mode = if self.observe { Mode::Observe } else { Mode::Enforce };
        serve::run(&global.places(), mode, self.stdin.as_deref())?;
        Ok(Exit::Done)
    }
}

/// See it all happen.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  palisade demo\n\nA victim, an attacker and a bystander, each in a network namespace of its own, made for this and gone\nafterwards. Needs no root where user namespaces are allowed."
)]
pub struct Demo {}

impl Demo {
    /// Does it.
    #[cfg(target_os = "linux")]
    pub fn run(self, global: &Global) -> Result<Exit> {
        demo::run(global.json)
    }

    /// Says why not.
    #[cfg(not(target_os = "linux"))]
    pub fn run(self, _: &Global) -> Result<Exit> {
        super::print::say("palisade: the demo's network is made of Linux's namespaces, which this system has not; it is for Linux only");
        Ok(Exit::No)
    }
}
