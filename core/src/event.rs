//! What leaves the brain to be kept ([`Record`]) and to be told ([`Notice`]).

use serde::{Deserialize, Serialize};

use crate::attack::{Attack, JailName};
use crate::bans::ban::{Ban, Origin};
use crate::bans::wall::Key;
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
    /// The daemon started, stopped, read its config anew, and the like.
    Daemon {
        /// What.
        what: String,
    },
}
