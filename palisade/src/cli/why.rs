//! `palisade why`.

use anyhow::Result;
use clap::Args;
use palisade_core::bans::ban::{Ban, Origin};
use palisade_core::bans::wall::Standing;
use palisade_core::control::{Reply, Request, Why};
use palisade_core::net::Prefix;
use palisade_os::clock;
use serde_json::{Value, json};

use super::ask::{ask, unexpected};
use super::facts::{self, Facts};
use super::list::ban_json;
use super::print::{self, Painted};
use super::{Exit, Global};
use crate::tell::describe;

/// Every fact known.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  palisade why 203.0.113.7\n\nExit code 0: something is known about it. 1: nothing is.")]
pub struct WhyArgs {
    /// Address or prefix
    #[arg(value_name = "ADDR|CIDR")]
    prefix: Prefix,
}

impl WhyArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let why = match ask(global, Request::Why { prefix: self.prefix })? {
            Reply::Why(why) => why,
            other => return Err(unexpected(&other)),
        };
        let facts = Facts::of(self.prefix, &facts::leases(global));
        if global.json {
            let mut document = document(self.prefix, &why);
            facts.add_to(&mut document);
            print::json(&document)?;
        } else {
            show(self.prefix, &why, &facts)?;
        }
        let known = !why.bans.is_empty()
            || !why.windows.is_empty()
            || !why.lines.is_empty()
            || why.protected_by.is_some()
            || !why.notices.is_empty()
            || facts.any();
        Ok(if known { Exit::Done } else { Exit::No })
    }
}

fn document(prefix: Prefix, why: &Why) -> Value {
    let bans: Vec<Value> = why
        .bans
        .iter()
        .map(|(ban, standing)| {
            let mut value = ban_json(ban);
            value["kernel"] = match standing {
                Some(s) => json!({ "left": s.left.map(|l| l.as_secs_ceil()), "packets": s.packets, "bytes": s.bytes }),
                None => Value::Null,
            };
            value
        })
        .collect();
    let windows: Vec<Value> = why
        .windows
        .iter()
        .map(|(jail, unit, score, needed)| json!({ "jail": jail, "unit": unit, "score": score, "needed": needed }))
        .collect();
    json!({
        "v": 1,
        "prefix": prefix,
        "banned": !why.bans.is_empty(),
        "bans": bans,
        "windows": windows,
        "offences": why.offences,
        "logins": why.logins.iter().map(|(jail, unit, at)| json!({ "jail": jail, "unit": unit, "at": at })).collect::<Vec<_>>(),
        "protected_by": why.protected_by,
        "floods": why.floods,
        "lines": why.lines,
        "events": why.notices,
    })
}

fn show(prefix: Prefix, why: &Why, facts: &Facts) -> Result<()> {
    let now = clock::now().stamp;
    if why.bans.is_empty() {
        print::line(format_args!("{prefix}  {}", Painted(32, "not banned")))?;
    }
    for (ban, standing) in &why.bans {
        print::line(format_args!("{}  {}, {}", ban.key.prefix, Painted(31, "BANNED"), print::left(ban.until, now)))?;
        let mut rows = vec![vec!["  by".to_owned(), by(ban)], vec!["  kernel".to_owned(), kernel(standing.as_ref())]];
        rows.push(vec!["  undo".to_owned(), format!("palisade unban {}", ban.key.prefix)]);
        print::table(&rows)?;
    }
    let mut rows = Vec::new();
    for (jail, unit, score, needed) in &why.windows {
        rows.push(vec!["  counted".to_owned(), format!("{score} of {needed} in jail {jail} for {unit}")]);
    }
    if let Some(member) = &why.protected_by {
        rows.push(vec!["  protected".to_owned(), member.clone()]);
    }
    if let Some(floods) = &why.floods {
        rows.push(vec!["  floods".to_owned(), floods.clone()]);
    }
    for (jail, unit, at) in &why.logins {
        rows.push(vec!["  login".to_owned(), format!("{unit} logged in at {at}, in jail {jail}")]);
    }
    rows.push(vec!["  offences".to_owned(), why.offences.to_string()]);
    for evidence in &why.lines {
        rows.push(vec!["  line".to_owned(), format!("{} {} ({}) {}", evidence.at, evidence.jail, evidence.signature, evidence.line)]);
    }
    for notice in &why.notices {
        rows.push(vec!["  event".to_owned(), describe(notice)]);
    }
    facts.rows(&mut rows);
    print::table(&rows)
}

/// Who asked for it and why; the how manieth it is only where bans are counted.
fn by(ban: &Ban) -> String {
    let reason = if ban.reason.is_empty() { String::new() } else { format!(": {}", ban.reason) };
    let nth = if ban.origin == Origin::Manual { String::new() } else { format!(" (ban {} of this source)", ban.offences) };
    format!("{}{reason}{nth}, since {}", ban.origin, ban.since)
}

fn kernel(standing: Option<&Standing>) -> String {
    let Some(standing) = standing else { return "not in the kernel".to_owned() };
    let left = standing.left.map_or_else(|| "no timeout".to_owned(), |l| format!("{} left", print::rough(l)));
    match (standing.packets, standing.bytes) {
        (Some(packets), Some(bytes)) => format!("stands, {left}, {packets} packets ({bytes} bytes) dropped"),
        _ => format!("stands, {left}"),
    }
}
