//! `palisade list`, `check`.

use std::io::{BufWriter, Write};

use anyhow::Result;
use clap::Args;
use palisade_core::bans::ban::Ban;
use palisade_core::bans::wall::Ports;
use palisade_core::control::{Reply, Request};
use palisade_core::net::Addr;
use palisade_core::time::Stamp;
use palisade_os::clock;
use serde::Serialize;
use serde_json::{Value, json};

use super::ask::{ask, unexpected};
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

/// The document other programs build on, written as a stream so that a million bans need no second copy.
fn write_json(bans: &[Ban]) -> Result<()> {
    print::out(|out| {
        let mut out = BufWriter::new(out);
        out.write_all(br#"{"v":1,"bans":["#)?;
        for (n, ban) in bans.iter().enumerate() {
            if n > 0 {
                out.write_all(b",")?;
            }
            serde_json::to_writer(&mut out, &ban_json(ban))?;
        }
        out.write_all(b"]}\n")?;
        out.flush()
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
