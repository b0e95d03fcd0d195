//! What the command line asks of the daemon, and what it is told.
//!
//! On the control socket each request is one JSON object on one line of at most [`REQUEST_MAX`]
//! bytes, and each answer one JSON object on one line; `events` with `follow` is a stream of
//! [`crate::event::Notice`] lines. The same two types serve the verbs that work without a daemon.

pub mod conntrack;
pub mod report;
pub mod route;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::attack::JailName;
use crate::bans::ban::{Ban, Origin};
use crate::bans::proof::Proof;
use crate::bans::wall::Standing;
pub use crate::event::KillCount;
use crate::event::{Allowed, Notice};
use crate::feeds::Report;
use crate::flood::gauge::Gauge;
use crate::flood::guard;
use crate::net::{Addr, Prefix};
use crate::scan::fail2ban::Shortfall;
use crate::tables::Row;
use crate::time::{Span, Stamp, Term, Until};
use conntrack::{ConntrackReply, ConntrackRequest};
use report::{ReportResult, Reported};
use route::{RouteReply, RouteRequest};

/// The longest request in bytes. Ten thousand prefixes fit; the command line cuts longer lists.
pub const REQUEST_MAX: usize = 1 << 20;

/// How many prefixes the command line puts into one request.
pub const PREFIXES_A_REQUEST: usize = 5000;

/// How many bytes of rows, by [`Row::bytes`], the command line puts into one request: the rest is for what stands around them.
pub const ROWS_A_REQUEST: usize = REQUEST_MAX - 16 * 1024;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// `palisade status`.
    Status,
    /// `palisade ban`.
    Ban {
        /// Whom.
        prefixes: Vec<Prefix>,
        /// How long; the config's `manual_time` when it does not say.
        term: Option<Term>,
        /// Why.
        reason: String,
        /// Even if the allow list protects it.
        force: bool,
        /// Who asks: by hand, or an import.
        origin: Origin,
        /// The peer of the asker's own ssh session, protected like any other admin session.
        asker: Option<Addr>,
    },
    /// `palisade import`: part of a table.
    Import {
        /// The bans, as far as the table tells.
        rows: Vec<Row>,
        /// How long those last whose end it does not tell; the config's `manual_time` when this does not say.
        term: Option<Term>,
        /// Why those are banned of which it does not tell.
        reason: String,
        /// From which format.
        origin: Origin,
        /// The peer of the asker's own ssh session.
        asker: Option<Addr>,
    },
    /// `palisade unban`.
    Unban {
        /// Whom.
        whom: Whom,
    },
    /// `palisade list`.
    List,
    /// `palisade check`.
    Check {
        /// Whom.
        addr: Addr,
    },
    /// `palisade why`.
    Why {
        /// Whom.
        prefix: Prefix,
    },
    /// `palisade allow add`.
    AllowAdd {
        /// Whom.
        prefixes: Vec<Prefix>,
        /// How long.
        term: Term,
        /// Why.
        comment: String,
    },
    /// `palisade allow del`.
    AllowDel {
        /// Whom.
        prefixes: Vec<Prefix>,
    },
    /// `palisade allow list`.
    AllowList,
    /// `palisade kill`.
    Kill {
        /// Whose connections.
        prefixes: Vec<Prefix>,
    },
    /// `palisade report`: a program knows an attacker itself.
    Report(Reported),
    /// `palisade feed list`.
    Feeds,
    /// `palisade feed refresh`.
    FeedRefresh {
        /// Which; all when none is named.
        names: Vec<String>,
        /// However much they changed.
        accept: bool,
    },
    /// `palisade route`, `tunnel`, `budget`.
    Route(RouteRequest),
    /// `palisade conntrack`.
    Conntrack(ConntrackRequest),
    /// `palisade reload`: the config is read anew, as after SIGHUP.
    Reload,
    /// `palisade flush`: the wall is taken down, the store keeps the bans.
    Flush,
    /// `palisade restore` beside a daemon: the wall is put up anew.
    Restore,
    /// `palisade events`: what happened, oldest first. Answered from the store.
    Events {
        /// Go on with what happens from now.
        follow: bool,
        /// Only what happened after this.
        since: Option<Stamp>,
        /// Only what is about this prefix or something in it.
        about: Option<Prefix>,
    },
}

/// Whom `unban` is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whom {
    /// These.
    Prefixes(Vec<Prefix>),
    /// Everybody.
    All,
    /// Whom this jail banned.
    Jail(JailName),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Reply {
    /// To `status`.
    Status(Box<Status>),
    /// To `ban`, one for each prefix asked for.
    Bans {
        /// In the order asked.
        results: Vec<BanResult>,
        /// What was ended for all of them together.
        killed: KillCount,
    },
    /// To `import`.
    Imported(Imported),
    /// To `unban`.
    Unbans {
        /// The bans that are no more.
        removed: Vec<Ban>,
        /// Prefixes asked for that were not banned as such.
        missing: Vec<Prefix>,
        /// Bans that still shut out (part of) what was asked for.
        still: Vec<Ban>,
        /// Feeds that list some of them and ban them again when they are next looked at, and how many.
        #[serde(default)]
        listed: Vec<(String, usize)>,
    },
    /// To `list`.
    List {
        /// Sorted by prefix.
        bans: Vec<Ban>,
    },
    /// To `check`.
    Check {
        /// Every ban that shuts the address out.
        bans: Vec<Ban>,
    },
    /// To `why`.
    Why(Box<Why>),
    /// To `allow list`.
    Allow {
        /// Every member.
        members: Vec<Member>,
    },
    /// To `allow add` and `allow del`.
    Allowed {
        /// What was added or removed.
        changed: Vec<Prefix>,
        /// What could not be removed, because it is not there by hand.
        missing: Vec<Prefix>,
        /// Bans that were lifted because the new member would have been behind them.
        lifted: Vec<Ban>,
    },
    /// To `kill`.
    Killed(KillCount),
    /// To `report`, one for each address.
    Reported {
        /// In the order told.
        results: Vec<ReportResult>,
    },
    /// To `feed list`.
    Feeds {
        /// Every feed of the config.
        feeds: Vec<FeedStatus>,
    },
    /// To `feed refresh`.
    Refreshed {
        /// Those that were looked at.
        feeds: Vec<FeedStatus>,
    },
    /// To `route`, `tunnel`, `budget`.
    Route(RouteReply),
    /// To `conntrack`.
    Conntrack(ConntrackReply),
    /// To `reload`: it was passed on. What came of it is in the events and the status.
    Reloading,
    /// To `flush`.
    Flushed,
    /// To `restore`.
    Restored {
        /// How many bans there are.
        bans: usize,
    },
    /// To `events`, the kept ones.
    Events {
        /// Oldest first.
        notices: Vec<Notice>,
    },
    /// It could not be done.
    Failed {
        /// The exit code for it.
        exit: u8,
        /// What happened and what to do next.
        message: String,
    },
}

/// What became of the rows of an `import`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// How many bans stand that did not before.
    pub new: usize,
    /// How many stood and end later now.
    pub longer: usize,
    /// How many stood as long or longer.
    pub unchanged: usize,
    /// How many were over already.
    pub over: usize,
    /// Which rows a safety rule forbids, by their place in the request from 0, and what protects whom.
    pub refused: Vec<(usize, String)>,
    /// How many do not stand: no room for them, or the kernel refused them.
    pub failed: usize,
    /// Why the first of those does not.
    pub error: Option<String>,
    /// How many bans of others had to leave a table that is full.
    pub displaced: usize,
    /// What was ended for all of them together.
    pub killed: KillCount,
}

impl Imported {
    /// So many more that do not stand.
    pub fn fail(&mut self, count: usize, error: impl std::fmt::Display) {
        self.failed += count;
        self.error.get_or_insert_with(|| error.to_string());
    }
}

/// What became of one prefix of a `ban`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanResult {
    /// Which.
    pub prefix: Prefix,
    /// What.
    #[serde(flatten)]
    pub what: BanOutcome,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum BanOutcome {
    /// It stands in the kernel, until then.
    Banned {
        /// Its end; later than asked for where a longer ban stood.
        until: Until,
    },
    /// A safety rule forbids it.
    Refused {
        /// What protects it, and how to do it anyway where that is possible.
        protected_by: String,
    },
    /// The kernel refused it; it is kept and tried again.
    Failed {
        /// What it said.
        error: String,
    },
}

/// What state everything is in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `enforcing`, `observing` or `degraded`.
    pub state: State,
    /// Which firewall enforces.
    pub backend: String,
    /// Why that one, and what was passed over; `None` without a daemon.
    #[serde(default)]
    pub chosen: Option<String>,
    /// What was proven of it at the start; `None` without a daemon.
    #[serde(default)]
    pub proof: Option<Proof>,
    /// How many bans stand.
    pub bans: usize,
    /// Of which are for ever.
    pub permanent: usize,
    /// How often somebody else's change to our objects was repaired since start.
    pub drift: u64,
    /// Since when the daemon runs; `None` without one.
    pub since: Option<Stamp>,
    /// Inputs.
    pub sources: Vec<Source>,
    /// How many sources are being counted.
    pub tracked: usize,
    /// How many were forgotten because the memory for them was full.
    pub evicted: u64,
    /// Lines read since start.
    pub lines: u64,
    /// Lines dropped whole because they were too long.
    pub oversize: u64,
    /// Attacks seen since start.
    pub attacks: u64,
    /// What each enabled jail has done since start.
    #[serde(default)]
    pub tallies: BTreeMap<JailName, Tally>,
    /// Jails and how many bans of theirs stand.
    pub jails: Vec<(JailName, usize)>,
    /// Jails whose filters left something undone since start.
    #[serde(default)]
    pub shortfalls: Vec<(JailName, Shortfall)>,
    /// Feeds.
    #[serde(default)]
    pub feeds: Vec<FeedStatus>,
    /// The connection table; `None` where it is not watched.
    #[serde(default)]
    pub conntrack: Option<FloodStatus>,
    /// What does not work, and what to do.
    pub problems: Vec<Problem>,
}

/// The connection table in a few numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloodStatus {
    /// How many flows there are.
    pub count: u32,
    /// How many there can be; 0: no bound is known.
    pub max: u32,
    /// How it stands.
    pub state: guard::State,
    /// How many culprits are limited.
    pub limited: usize,
    /// Packets the kernel dropped since it booted, because the table was full or memory was short.
    pub drops: u64,
}

impl FloodStatus {
    /// How full the table is, 0 to 1.
    pub fn fill(&self) -> f64 {
        Gauge { count: self.count, max: self.max, ..Gauge::default() }.fill()
    }
}

/// How it stands with one feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedStatus {
    /// Its name.
    pub name: String,
    /// Whether it is followed.
    pub enabled: bool,
    /// Where its list is.
    pub source: String,
    /// How many members its list has.
    pub members: usize,
    /// How many of them the allow list keeps from being banned.
    pub protected: usize,
    /// For how many there is no room in the ban table.
    pub no_room: usize,
    /// How many were unbanned by hand, until the next look.
    pub unbanned: usize,
    /// How it goes with following it.
    #[serde(flatten)]
    pub report: Report,
}

/// The one word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// What should stand stands.
    Enforcing,
    /// Decides and tells only.
    Observing,
    /// Something does not work; see the problems.
    Degraded,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Enforcing => "enforcing",
            Self::Observing => "observing",
            Self::Degraded => "degraded",
        })
    }
}

/// What one jail has done since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many sources have failures that still count.
    pub failing: usize,
    /// How many failures were heard.
    pub failures: u64,
    /// How many bans it came to.
    pub bans: u64,
    /// How many bans of its stood when the daemon started.
    #[serde(default)]
    pub restored: u64,
}

/// One input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// A file's path, `journal`.
    pub name: String,
    /// How many lines it gave since start.
    pub lines: u64,
    /// How many bytes are there that are not read yet.
    #[serde(default)]
    pub behind_bytes: u64,
    /// How many milliseconds ago all of it had been read; 0 where all of it is.
    #[serde(default)]
    pub behind_ms: u64,
}

impl Source {
    /// One that gave nothing yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), lines: 0, behind_bytes: 0, behind_ms: 0 }
    }
}

/// One thing that does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What it is about.
    pub about: String,
    /// What happened and what to do next.
    pub what: String,
    /// Since when.
    pub since: Stamp,
}

/// Every fact known about a prefix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// Whom it was asked about.
    pub prefix: Option<Prefix>,
    /// The bans that shut it or part of it out, each with what the kernel holds for it.
    pub bans: Vec<(Ban, Option<Standing>)>,
    /// What is being counted: jail, unit, weight within its window, weight that bans.
    pub windows: Vec<(JailName, Prefix, u32, u32)>,
    /// How many bans it has had that are not forgotten.
    pub offences: u32,
    /// The last logins of its sources since the daemon started: jail, unit, when.
    #[serde(default)]
    pub logins: Vec<(JailName, Prefix, Stamp)>,
    /// What protects it.
    pub protected_by: Option<String>,
    /// The lines that led to it, newest first.
    pub lines: Vec<Evidence>,
    /// What happened to it, newest first.
    pub notices: Vec<Notice>,
    /// What the flood guard holds against it, in words.
    #[serde(default)]
    pub floods: Option<String>,
}

/// One line that counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When.
    pub at: Stamp,
    /// In which jail.
    pub jail: JailName,
    /// By which signature.
    pub signature: String,
    /// The line, printable.
    pub line: String,
}

/// One member of the allow list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub prefix: Prefix,
    /// Why: `config`, `by hand: COMMENT`, `own address`, `gateway`, ...
    pub why: String,
    /// Until when.
    pub until: Until,
}

impl Reply {
    /// Whether it confirms something that is kept: it may only be said once that is on the disk.
    pub const fn confirms(&self) -> bool {
        matches!(self, Self::Bans { .. } | Self::Imported(_) | Self::Unbans { .. } | Self::Allowed { .. } | Self::Refreshed { .. })
    }
}

impl Request {
    /// Whether it changes nothing.
    pub const fn only_reads(&self) -> bool {
        match self {
            Self::Route(request) => request.only_reads(),
            Self::Conntrack(request) => request.only_reads(),
            Self::Status | Self::List | Self::Check { .. } | Self::Why { .. } | Self::AllowList | Self::Feeds | Self::Events { .. } => true,
            _ => false,
        }
    }
}

impl Request {
    /// How long the asker waits for the answer.
    pub const fn answer_within(&self) -> Span {
        // Whoever has lists fetched waits for other people's servers, one after the other.
        if matches!(self, Self::FeedRefresh { .. }) { FETCHED_WITHIN } else { ANSWER_WITHIN }
    }
}

impl From<&Allowed> for Member {
    fn from(allowed: &Allowed) -> Self {
        let why = if allowed.comment.is_empty() { "by hand".to_owned() } else { format!("by hand: {}", allowed.comment) };
        Self { prefix: allowed.prefix, why, until: allowed.until }
    }
}

/// How long the asker waits for an answer. Longer than a kernel transaction of a large ban list.
pub const ANSWER_WITHIN: Span = Span::secs(60);

/// The same of an answer for which lists are fetched: five of the slowest.
pub const FETCHED_WITHIN: Span = Span::secs(600);
