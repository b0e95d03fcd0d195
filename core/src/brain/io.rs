//! What enters and what leaves the brain.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::feeding::Fed;
use crate::attack::{JailName, Sign};
use crate::bans::ban::Ban;
use crate::bans::order::Order;
use crate::bans::wall::{Entry, Frame, Key, Report};
use crate::config::Config;
use crate::control::{Reply, Request, Why};
use crate::event::{Allowed, KillCount, Notice, Record, Sentence, What};
use crate::flood::census::Census;
use crate::flood::gauge::Gauge;
use crate::flood::wanted::{Culprit, Wanted};
use crate::net::{Addr, Prefix};
use crate::ports::Ports;
use crate::scan::fail2ban::Shortfall;
use crate::time::{Stamp, Tick};

/// What an input gave since it was last heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The input: a file's path, `journal`, `stdin`.
    pub source: String,
    /// Whole lines.
    pub lines: u64,
    /// Lines dropped because they were too long.
    pub oversize: u64,
    /// What the lines meant, in their order.
    pub signs: Vec<Sign>,
    /// Whether the lines are of a backlog: then they count when they were written, not when they came
    /// ([`crate::scan::counts_at`]).
    #[serde(default)]
    pub catching_up: bool,
    /// What the filters of these jails left undone.
    #[serde(default)]
    pub shortfalls: Vec<(JailName, Shortfall)>,
    /// How far the input is read with this batch, to be kept with what it led to.
    pub position: Option<String>,
}

/// Everything that enters the brain.
#[derive(Clone, Debug)]
pub enum Event {
    /// Lines were read.
    Heard(Batch),
    /// Somebody asks; the answer carries the id.
    Asked {
        /// The asker's.
        id: u64,
        /// Who, for the event log: `uid 0`.
        who: String,
        /// What.
        request: Request,
    },
    /// An order was carried out.
    Applied {
        /// Which.
        ticket: u64,
        /// What of it does not stand, and why. No key: the frame, or all of it.
        failed: Vec<(Option<Key>, String)>,
    },
    /// The connections of an order were ended.
    Ended {
        /// Which order.
        ticket: u64,
        /// How many.
        killed: KillCount,
        /// What could not be done.
        error: Option<String>,
    },
    /// The wall was built anew.
    Rebuilt {
        /// Which order.
        ticket: u64,
        /// With what success.
        result: Result<Report, String>,
    },
    /// The wall could not be taken down, and why.
    StillUp(String),
    /// Somebody else changed our objects.
    Drifted {
        /// The bans it was about; `None`: more than bans, the wall must be built anew.
        keys: Option<Vec<Key>>,
        /// What was seen.
        what: String,
        /// When.
        seen: Tick,
    },
    /// The host's own addresses, gateways and resolvers are these.
    Host {
        /// Of all interfaces.
        own: BTreeSet<Addr>,
        /// Next hops of default routes.
        gateways: BTreeSet<Addr>,
        /// Name servers.
        resolvers: BTreeSet<Addr>,
    },
    /// Peers of live, authenticated admin sessions.
    Sessions(BTreeSet<Addr>),
    /// The names of the allow list resolve to these.
    Names(Vec<(String, Addr)>),
    /// Something does not work, or (`None`) works again.
    Trouble {
        /// What it is about.
        about: String,
        /// What happened and what to do next.
        what: Option<String>,
    },
    /// Something happened that others decided, for the event log.
    Noted(What),
    /// The connection table's gauge.
    Gauged(Gauge),
    /// The connection table cannot be read any more, or is not watched any more.
    Uncounted,
    /// Who holds how many flows.
    Counted(Box<Census>),
    /// How many packets each limit of [`Action::Hold`] has dropped since it was made.
    Limited(Vec<(Culprit, u64)>),
    /// A feed's list was looked at.
    Fed(Box<Fed>),
    /// All that was asked for with [`Action::Fetch`] was looked at, and told with [`Event::Fed`].
    Fetched {
        /// The asker's.
        id: u64,
        /// Which feeds.
        names: Vec<Arc<str>>,
    },
    /// The store lost what it held: tell it everything anew.
    Forgotten,
    /// A new config took effect.
    Configured(Box<Config>),
    /// A deadline may have passed.
    Idle,
}

/// Everything that leaves it. To be carried out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Change the wall, and once its bans stand, end the connections that are to end with them.
    /// Answered by [`Event::Applied`] and then by [`Event::Ended`].
    Order {
        /// To be named in the answers.
        ticket: u64,
        /// What to change.
        order: Order,
    },
    /// End connections without a ban. Answered by [`Event::Ended`].
    Kill {
        /// To be named in the answer.
        ticket: u64,
        /// Whose.
        targets: Vec<(Prefix, Ports)>,
    },
    /// Make exactly this stand. Answered by [`Event::Rebuilt`].
    Rebuild {
        /// To be named in the answer.
        ticket: u64,
        /// Allow list and manner.
        frame: Frame,
        /// Every ban.
        entries: Vec<Entry>,
    },
    /// Keep these, in one transaction.
    Keep(Vec<Record>),
    /// Answer.
    Answer {
        /// Whom.
        id: u64,
        /// What.
        reply: Reply,
    },
    /// Add what kernel and store know, then answer.
    Look {
        /// Whom to answer.
        id: u64,
        /// What the brain knows.
        why: Box<Why>,
        /// What to look up in the kernel: the bans of `why`, in their order.
        keys: Vec<Key>,
    },
    /// Look at these feeds' lists now. Answered by [`Event::Fed`] for each and then by [`Event::Fetched`].
    Fetch {
        /// Whom to answer in the end.
        id: u64,
        /// Which feeds.
        names: Vec<Arc<str>>,
        /// However much they changed.
        accept: bool,
    },
    /// Make this hold in the kernel because of floods, from now on. Replaces the one before.
    Hold {
        /// What.
        wanted: Box<Wanted>,
        /// Whether censuses should come quickly.
        alarmed: bool,
        /// This host's own addresses.
        own: Vec<Addr>,
    },
    /// End what of culprits' flows is of no use.
    Purge {
        /// Whose.
        culprits: Vec<Culprit>,
        /// This host's own addresses.
        own: Vec<Addr>,
        /// Administrators, whose flows stay.
        spare: Vec<Addr>,
    },
    /// End the states that are bound to addresses this host has lost.
    Forget {
        /// Which.
        addrs: Vec<Addr>,
    },
    /// Take the wall down, then answer.
    TakeDown {
        /// Whom to answer.
        id: u64,
    },
    /// Tell the operator: log and followers.
    Tell(Notice),
}

/// What the store kept from before.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Every ban.
    pub bans: Vec<Ban>,
    /// Counted failures: jail, unit, when, how heavy.
    pub failures: Vec<(JailName, Prefix, Stamp, u16)>,
    /// Sentences.
    pub sentences: Vec<Sentence>,
    /// Allow-list members set by hand.
    pub allowed: Vec<Allowed>,
    /// The latest moment the store knows of. A wall clock behind it was wrong then or is now.
    pub last_moment: Option<Stamp>,
}
