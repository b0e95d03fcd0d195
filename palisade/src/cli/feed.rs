//! `palisade feed`.

use anyhow::Result;
use clap::{Args, Subcommand};
use palisade_core::control::{FeedStatus, Reply, Request};
use palisade_core::time::Stamp;
use palisade_os::clock;
use serde_json::json;

use super::ask::{ask, unexpected};
use super::print::{self, Painted};
use super::{Exit, Global};

/// Block lists that are followed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade feed list\n  palisade feed refresh\n  palisade feed refresh spamhaus-drop --accept\n\nFeeds are written in the config, as [feed.NAME]. Their members are bans: `palisade list` has them, and `palisade why`\nsays which feed lists whom."
)]
pub struct FeedArgs {
    #[command(subcommand)]
    verb: FeedVerb,
}

#[derive(Debug, Subcommand)]
enum FeedVerb {
    /// Every feed: its members, how old its list is, what is wrong with it
    #[command(after_help = "Example:\n  palisade feed list")]
    List,
    /// Look at lists now. Exit code 6: not all of them are followed as they are now
    #[command(after_help = "Examples:\n  palisade feed refresh\n  palisade feed refresh spamhaus-drop --accept")]
    Refresh {
        /// Which; all when none is named
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Follow the lists however much they changed
        #[arg(long)]
        accept: bool,
    },
}

impl FeedArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let request = match self.verb {
            FeedVerb::List => Request::Feeds,
            FeedVerb::Refresh { names, accept } => Request::FeedRefresh { names, accept },
        };
        let (feeds, looked) = match ask(global, request)? {
            Reply::Feeds { feeds } => (feeds, false),
            Reply::Refreshed { feeds } => (feeds, true),
            other => return Err(unexpected(&other)),
        };
        if global.json {
            print::json(&json!({ "v": 1, "feeds": feeds }))?;
        } else if looked {
            feeds.iter().try_for_each(show_looked)?;
        } else {
            show(&feeds, clock::now().stamp)?;
        }
        Ok(if looked && feeds.iter().any(|feed| feed.report.error.is_some()) { Exit::Degraded } else { Exit::Done })
    }
}

fn show(feeds: &[FeedStatus], now: Stamp) -> Result<()> {
    if feeds.is_empty() {
        print::say("no feed is followed; write one in [feed.NAME] of the config");
        return Ok(());
    }
    let mut rows = vec![["FEED", "MEMBERS", "ALLOWED", "LIST", "NEXT LOOK", "SOURCE"].map(str::to_owned).to_vec()];
    for feed in feeds {
        let next = if feed.enabled {
            feed.report.next.map_or_else(|| "-".to_owned(), |at| format!("in {}", print::rough(at.since(now))))
        } else {
            "off".to_owned()
        };
        let members = [feed.name.clone(), feed.members.to_string(), feed.protected.to_string()];
        rows.push(members.into_iter().chain([age(feed, now), next, feed.source.clone()]).collect());
    }
    print::table(&rows)?;
    for feed in feeds {
        for (what, count) in notes(feed).into_iter().filter(|(_, count)| *count > 0) {
            print::line(format_args!("{}: {count} {what}", feed.name))?;
        }
        if let Some(error) = &feed.report.error {
            print::line(format_args!("{} {}: {error}", Painted(31, "!"), feed.name))?;
        }
    }
    Ok(())
}

/// What of a list is not banned, and why.
const fn notes(feed: &FeedStatus) -> [(&'static str, usize); 5] {
    [
        ("members have no room in the ban table", feed.no_room),
        ("members were unbanned by hand, until the next look", feed.unbanned),
        ("entries are left out: they are too wide", feed.report.left_out.wide),
        ("lines are not understood", feed.report.left_out.bad),
        ("entries are left out: others cover them", feed.report.left_out.covered),
    ]
}

fn show_looked(feed: &FeedStatus) -> Result<()> {
    let report = &feed.report;
    match &report.error {
        Some(error) => {
            print::say(format_args!("{}: {error}", feed.name));
            Ok(())
        }
        None if report.added + report.removed == 0 => print::line(format_args!("{}: {} members, unchanged", feed.name, feed.members)),
        None => print::line(format_args!("{}: {} members, {} new, {} gone", feed.name, feed.members, report.added, report.removed)),
    }
}

fn age(feed: &FeedStatus, now: Stamp) -> String {
    feed.report.good.map_or_else(|| "none yet".to_owned(), |good| format!("{} old", print::rough(now.since(good))))
}

/// A feed in a few words.
pub(super) fn standing(feed: &FeedStatus, now: Stamp) -> String {
    format!("({} members, list {})", feed.members, age(feed, now))
}
