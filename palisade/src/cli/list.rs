//! `palisade list`, `check`.

use anyhow::Result;
use clap::Args;
use palisade_core::bans::ban::Ban;
use palisade_core::bans::wall::Ports;
use palisade_core::control::{Reply, Request};
use palisade_core::net::Addr;
use palisade_core::tables::write::{Form, Sizes};
use palisade_core::time::Stamp;
use palisade_os::clock;
use serde::Serialize;
use serde_json::{Value, json};

use super::ask::{ask, unexpected};
use super::export::Table;
use super::print;
use super::{Exit, Global};

/// Who is shut out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  palisade list\n  palisade --json list | jq -r '.bans[].prefix'")]
pub struct List {}

impl List {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let bans = match ask(global, Request::List)? {
            Reply::List { bans } => bans,
            other => return Err(unexpected(&other)),
        };
        if global.json {
            write_json(&bans)?;
        } else if bans.is_empty() {
            print::say("nobody is shut out");
        } else {
            print::table(&rows(&bans, clock::now().stamp))?;
        }
        Ok(Exit::Done)
    }
}

/// The document other programs build on, which is also what `palisade export json` writes.
fn write_json(bans: &[Ban]) -> Result<()> {
    let mut table = Table::new(Form::Json, Sizes::default(), clock::now().stamp);
    print::out(|out| {
        table.begin(out)?;
        bans.iter().try_for_each(|ban| table.write(ban, out))?;
        table.finish(out)
    })
}

/// One ban in the shape other programs build on.
pub fn ban_json(ban: &Ban) -> Value {
    let mut value = json!({
        "prefix": ban.key.prefix,
        "since": ban.since,
        "until": ban.until,
        "origin": ban.origin,
        "reason": ban.reason,
        "offences": ban.offences,
    });
    if let Ports::Only(ports) = &ban.key.ports {
        value["ports"] = json!(ports);
    }
    if ban.key.forced {
        value["forced"] = json!(true);
    }
    value
}

/// The bans as rows for people, with a heading.
pub fn rows(bans: &[Ban], now: Stamp) -> Vec<Vec<String>> {
    let mut rows = vec![["PREFIX", "LEFT", "ORIGIN", "N", "REASON"].map(str::to_owned).to_vec()];
    for ban in bans {
        let mut reason = ban.reason.clone();
        if let Ports::Only(ports) = &ban.key.ports {
            reason = format!("ports {ports:?}: {reason}");
        }
        let left = ban.until.left(now).map_or_else(|| "for ever".to_owned(), print::rough);
        rows.push(vec![ban.key.prefix.to_string(), left, ban.origin.to_string(), ban.offences.to_string(), reason]);
    }
    rows
}

/// Whether an address is shut out.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  palisade check 203.0.113.7 && echo shut out\n\nExit code 0: banned. 1: not banned.")]
pub struct Check {
    /// The address
    addr: Addr,
}

#[derive(Serialize)]
struct CheckDoc {
    v: u8,
    addr: Addr,
    banned: bool,
    bans: Vec<Value>,
}

impl Check {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let bans = match ask(global, Request::Check { addr: self.addr })? {
            Reply::Check { bans } => bans,
            other => return Err(unexpected(&other)),
        };
        let banned = !bans.is_empty();
        if global.json {
            print::json(&CheckDoc { v: 1, addr: self.addr, banned, bans: bans.iter().map(ban_json).collect() })?;
        } else if let Some(ban) = bans.iter().max_by_key(|ban| ban.until) {
            print::line(format_args!(
                "{} is banned by {}: {}, {}",
                self.addr,
                ban.key.prefix,
                ban.origin,
                print::left(ban.until, clock::now().stamp)
            ))?;
        } else {
            print::line(format_args!("{} is not banned", self.addr))?;
        }
        Ok(if banned { Exit::Done } else { Exit::No })
    }
}
