//! `palisade allow`.

use anyhow::Result;
use clap::{Args, Subcommand};
use palisade_core::control::{Reply, Request};
use palisade_core::net::Prefix;
use palisade_core::time::{Stamp, Term};
use palisade_os::clock;
use serde_json::json;

use super::ask::{ask, unexpected};
use super::ban::term;
use super::print;
use super::{Exit, Global};

/// Who can never be banned.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade allow list\n  palisade allow add 198.51.100.0/24 --comment office\n  palisade allow add 192.0.2.9 --for 30d --comment \"auditor\"\n\nA member passes before any ban is looked at; a ban that would cover one is not made."
)]
pub struct AllowArgs {
    #[command(subcommand)]
    verb: AllowVerb,
}

#[derive(Debug, Subcommand)]
enum AllowVerb {
    /// Protect addresses; lifts bans that are about them
    #[command(
        after_help = "Examples:\n  palisade allow add 198.51.100.0/24 --comment office\n  palisade allow add 192.0.2.9 --for 30d --comment \"auditor\""
    )]
    Add {
        /// Addresses or prefixes
        #[arg(required = true, value_name = "ADDR|CIDR")]
        prefixes: Vec<Prefix>,
        /// How long: 30d, permanent
        #[arg(long = "for", value_name = "DURATION", default_value = "permanent", value_parser = term)]
        term: Term,
        /// Why
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        comment: String,
    },
    /// Protect them no longer
    #[command(visible_alias = "delete")]
    #[command(after_help = "Example:\n  palisade allow del 198.51.100.0/24")]
    Del {
        /// Addresses or prefixes, as `allow list` shows them
        #[arg(required = true, value_name = "ADDR|CIDR")]
        prefixes: Vec<Prefix>,
    },
    /// Every member, and why it is one
    #[command(after_help = "Examples:\n  palisade allow list\n  palisade --json allow list | jq -r '.members[].prefix'")]
    List,
}

impl AllowArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let how = match &self.verb {
            AllowVerb::Add { term: Term::For(span), .. } => format!("allowed, {} left", print::rough(*span)),
            AllowVerb::Add { term: Term::Forever, .. } => "allowed, for ever".to_owned(),
            _ => "allowed no longer".to_owned(),
        };
        let request = match self.verb {
            AllowVerb::Add { prefixes, term, comment } => Request::AllowAdd { prefixes, term, comment },
            AllowVerb::Del { prefixes } => Request::AllowDel { prefixes },
            AllowVerb::List => Request::AllowList,
        };
        match ask(global, request)? {
            Reply::Allow { members } if global.json => print::json(&json!({ "v": 1, "members": members })).map(|()| Exit::Done),
            Reply::Allow { members } => {
                let now = clock::now().stamp;
                let mut rows = vec![["PREFIX", "LEFT", "WHY"].map(str::to_owned).to_vec()];
                rows.extend(members.iter().map(|m| vec![m.prefix.to_string(), left(m.until, now), m.why.clone()]));
                print::table(&rows).map(|()| Exit::Done)
            }
            Reply::Allowed { changed, missing, lifted } => {
                if global.json {
                    let lifted: Vec<Prefix> = lifted.iter().map(|b| b.key.prefix).collect();
                    print::json(&json!({ "v": 1, "changed": changed, "missing": missing, "lifted": lifted }))?;
                } else {
                    for prefix in &changed {
                        print::line(format_args!("{prefix}  {how}"))?;
                    }
                    for prefix in &missing {
                        print::say(format_args!(
                            "{prefix} is not on the list by hand; what the config or the host itself puts there stays"
                        ));
                    }
                    for ban in &lifted {
                        print::say(format_args!("lifted the ban of {} ({})", ban.key.prefix, ban.origin));
                    }
                }
                Ok(if missing.is_empty() { Exit::Done } else { Exit::No })
            }
            other => Err(unexpected(&other)),
        }
    }
}

fn left(until: palisade_core::time::Until, now: Stamp) -> String {
    until.left(now).map_or_else(|| "for ever".to_owned(), print::rough)
}
