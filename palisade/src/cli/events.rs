//! `palisade events`.

use anyhow::Result;
use clap::Args;
use palisade_core::control::{Reply, Request};
use palisade_core::event::Notice;
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp};
use palisade_os::clock;
use serde::Serialize;

use super::ask::{answered, ask, unexpected, unreachable};
use super::{Exit, Global, print};
use crate::serve::client::Client;
use crate::tell::describe;

/// What happened.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade events --since 1h\n  palisade events -f --addr 203.0.113.7\n  palisade --json events -f | jq ."
)]
pub struct Events {
    /// Go on with what happens from now on; needs the daemon
    #[arg(short, long)]
    follow: bool,
    /// Only what is about this address or prefix
    #[arg(long, value_name = "ADDR|CIDR")]
    addr: Option<Prefix>,
    /// Only the last so much time (1h), or since a time (RFC 3339)
    #[arg(long, value_name = "DURATION|TIME", value_parser = since)]
    since: Option<Since>,
}

#[derive(Clone, Copy, Debug)]
enum Since {
    Ago(Span),
    At(Stamp),
}

fn since(text: &str) -> Result<Since, String> {
    if let Some(at) = Stamp::parse(text) {
        return Ok(Since::At(at));
    }
    text.parse().map(Since::Ago).map_err(|e| format!("{e}, or a time like 2026-11-22T17:00:00Z"))
}

#[derive(Serialize)]
struct EventDoc<'a> {
    v: u8,
    #[serde(flatten)]
    notice: &'a Notice,
}

impl Events {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let since = self.since.map(|since| match since {
            Since::Ago(span) => clock::now().stamp.minus(span),
            Since::At(at) => at,
        });
        let request = Request::Events { follow: self.follow, since, about: self.addr };
        let show = |notice: &Notice| if global.json { print::json(&EventDoc { v: 1, notice }) } else { print::line(describe(notice)) };
        if self.follow {
            let socket = global.places().socket();
            let mut client = Client::connect(&socket).map_err(|error| unreachable(&socket, &error))?;
            let reply = answered(client.ask(&request)?)?;
            show_all(reply, show)?;
            while let Some(notice) = client.next_notice()? {
                show(&notice)?;
            }
            print::say("palisade: the daemon stopped");
            return Ok(Exit::NoDaemon);
        }
        show_all(ask(global, request)?, show)?;
        Ok(Exit::Done)
    }
}

fn show_all(reply: Reply, show: impl Fn(&Notice) -> Result<()>) -> Result<()> {
    match reply {
        Reply::Events { notices } => notices.iter().try_for_each(show),
        other => Err(unexpected(&other)),
    }
}
