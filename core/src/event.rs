//! What leaves the brain to be kept ([`Record`]) and to be told ([`Notice`]).

use serde::{Deserialize, Serialize};

use crate::attack::{Attack, JailName};
use crate::bans::ban::{Ban, Origin};
use crate::bans::wall::Key;
use crate::flood::guard::State;
use crate::flood::history::Point;
use crate::flood::settings::Action;
pub use crate::judge::sentence::Sentence;
use crate::net::Prefix;
use crate::time::{Stamp, Until};

/// One thing to keep. Records of one decision are kept in one transaction with the position of the
/// input that led to it, so that after a restart no line counts twice and none is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// This ban stands; replaces the one of the same key.
    Ban(Ban),
    /// No ban of this key stands any more.
    Unban(Key),
    /// A failure was counted for `unit`.
    Failure {
        /// What is counted together with the attacker.
        unit: Prefix,
        /// When it was counted.
        counted: Stamp,
        /// The failure itself.
        attack: Attack,
    },
    /// The counted failures of `unit` in this jail led to a ban and count no more.
    Spent {
        /// Which jail.
        jail: JailName,
        /// Which source.
        unit: Prefix,
    },
    /// A sentence began: what makes a repeat offender.
    Sentence(Sentence),
    /// An allow-list member set by hand; replaces the one of the same prefix.
    Allow(Allowed),
    /// That member is gone.
    Disallow(Prefix),
    /// How far an input has been read: an opaque text that only its reader understands.
    Position {
        /// Which input: a file's path, `journal`.
        source: String,
        /// Where in it.
        position: String,
    },
    /// Something to remember in the event log.
    Notice(Notice),
    /// How the connection table was in one grain of time.
    History(Point),
    /// The wall clock stepped by so many milliseconds: every kept moment moves along, so that what
    /// is left of each ban stays what it was.
    Shift(i64),
}

/// An allow-list member set by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// Who.
    pub prefix: Prefix,
    /// Since when.
    pub since: Stamp,
    /// Until when.
    pub until: Until,
    /// Why, in a few words.
    pub comment: String,
}

/// Something an operator would tell a colleague. `palisade events` prints these as JSON lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When.
    pub at: Stamp,
    /// Whom it is about.
    pub prefix: Option<Prefix>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// How many connections were ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillCount {
    /// Local sockets.
    pub sockets: u64,
    /// Connection-tracking states.
    pub states: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// A ban began or grew longer.
    Ban {
        /// When it ends.
        until: Until,
        /// Who asked.
        origin: Origin,
        /// Why.
        reason: String,
        /// The how manieth.
        offences: u32,
        /// The connections it ended; of several bans made at once, all are told with the first.
        killed: KillCount,
    },
    /// Part of a table was imported. Not a ban each: a million events would tell nobody anything.
    Imported {
        /// From which format.
        origin: Origin,
        /// How many bans began or grew longer.
        bans: usize,
        /// How many bans of others had to leave a table that is full.
        displaced: usize,
        /// The connections they ended.
        killed: KillCount,
    },
    /// A feed's list has changed. Not a ban each, as with a table.
    Fed {
        /// Which feed.
        feed: String,
        /// How many members it has now.
        members: usize,
        /// How many of them are new.
        added: usize,
        /// How many of the former are gone.
        removed: usize,
    },
    /// Connections were ended by hand, without a ban.
    Killed(KillCount),
    /// A ban was taken back by hand.
    Unban {
        /// By whom or what.
        by: String,
    },
    /// A ban ended by itself.
    Expired,
    /// A ban was not made, and what protects the prefix.
    Refused {
        /// Who asked.
        origin: Origin,
        /// What protects it.
        protected_by: String,
    },
    /// A ban that would have been made (`--observe`).
    WouldBan {
        /// When it would end.
        until: Until,
        /// Who asked.
        origin: Origin,
        /// Why.
        reason: String,
    },
    /// Somebody else changed our objects in the kernel; how many bans were put back, and how soon.
    Drift {
        /// What was seen.
        what: String,
        /// How many bans were put back.
        repaired: u64,
        /// Within how many milliseconds of being seen.
        millis: u64,
    },
    /// Something does not work as it should, and what to do.
    Problem {
        /// What it is about: `journal`, a path, `store`, `nftables`.
        about: String,
        /// What happened and what to do next.
        what: String,
    },
    /// A problem is over.
    Solved {
        /// What it was about.
        about: String,
    },
    /// The allow list was changed by hand.
    Allow {
        /// Added, or taken away.
        added: bool,
        /// Why.
        comment: String,
    },
    /// What happened to uplinks, tunnels, our rules and routes.
    Route {
        /// What.
        what: String,
    },
    /// It stands differently with the connection table.
    Table {
        /// How.
        state: State,
        /// How many flows there are.
        count: u32,
        /// How many there can be.
        max: u32,
        /// Why.
        what: String,
    },
    /// Somebody fills the connection table.
    Culprit {
        /// Who, in words: an address, a process, many to one endpoint.
        who: String,
        /// How many flows are theirs.
        flows: u32,
        /// How many they open a second.
        new_per_second: u32,
        /// What is done about it.
        action: Action,
        /// What it is measured by, and what is known of them.
        what: String,
    },
    /// Somebody no longer does, and is free of what was done.
    CulpritOver {
        /// Who.
        who: String,
        /// For how long they were held, in seconds.
        seconds: u64,
        /// How many of their packets were dropped meanwhile.
        dropped: u64,
    },
    /// Connection-tracking states that were of no use any more were ended.
    Purged {
        /// Whose, and why.
        whose: String,
        /// How many.
        states: u64,
    },
    /// The daemon started, stopped, read its config anew, and the like.
    Daemon {
        /// What.
        what: String,
    },
}
