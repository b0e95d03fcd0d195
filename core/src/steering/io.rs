//! What enters and what leaves the steering.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::journal::Journal;
use crate::control::route::{RouteReply, RouteRequest};
use crate::net::{Addr, Prefix};
use crate::route::lookup::{Answer, Question};
use crate::route::plan::{Report, Step};
use crate::route::wanted::Marks;
pub use crate::route::world::Changes;
use crate::route::{Mark, Mask, Protocol, Table, TableId, World};

/// An answer; or the exit code and why not.
pub type Answered = Result<RouteReply, (u8, String)>;

/// Everything that enters the steering.
#[derive(Clone, Debug)]
pub enum Event {
    /// Somebody asks; the answer carries the id.
    Asked {
        /// The asker's.
        id: u64,
        /// What.
        request: RouteRequest,
    },
    /// The host is like this: the answer to [`Action::Look`].
    Found(Box<World>),
    /// It could not be looked at, or compared.
    Blind(String),
    /// The answer to [`Action::Compare`].
    Compared {
        /// Whether our nftables table is as it should be.
        marks: bool,
        /// What the switches hold.
        switches: BTreeMap<String, String>,
    },
    /// The answer to [`Action::Apply`].
    Applied(Report),
    /// The journal could not be written: what was to follow was not done.
    NotKept(String),
    /// The kernel told of changes.
    Changed(Changes),
    /// A probe was answered.
    Echo {
        /// Of which uplink.
        uplink: Arc<str>,
        /// By whom.
        target: Addr,
        /// The probe's number.
        seq: u16,
    },
    /// The answers to [`Action::Ask`], in their order.
    Ways(Vec<Answer>),
    /// The daemon stops.
    Stop,
    /// A deadline may have passed.
    Idle,
}

/// Everything that leaves it. To be carried out in order; of what follows from an action that fails, nothing is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read links, addresses, rules and the routes of these tables. Answered by [`Event::Found`].
    Look(BTreeSet<TableId>),
    /// Compare our nftables table with this, and read these switches. Answered by [`Event::Compared`].
    Compare {
        /// What it should hold.
        marks: Option<Marks>,
        /// Their paths.
        switches: Vec<String>,
    },
    /// Do this. Answered by [`Event::Applied`].
    Apply(Vec<Step>),
    /// Write the journal, and go on only once it is on the disk.
    Keep(Box<Journal>),
    /// Let `ip` know the names of these tables and of our protocol; with none, forget them.
    Names {
        /// Our tables.
        tables: Vec<Table>,
        /// Our protocol.
        protocol: Protocol,
    },
    /// Ask the kernel for these ways. Answered by [`Event::Ways`].
    Ask(Vec<Question>),
    /// Send an echo request.
    Probe(Probe),
    /// Forget these probes' sockets: the uplink is no more, or its source is another.
    Unprobe(Arc<str>),
    /// End the connections of an uplink that is left, and of no other.
    Purge {
        /// Which uplink.
        uplink: Arc<str>,
        /// Its connections' mark.
        mark: Option<(Mark, Mask)>,
        /// Its sources.
        sources: Vec<Prefix>,
    },
    /// Answer.
    Answer {
        /// Whom.
        id: u64,
        /// What, or the exit code and why not.
        reply: Answered,
    },
    /// Tell the operator.
    Tell(String),
    /// Something does not work, or (`None`) works again.
    Trouble {
        /// What it is about.
        about: String,
        /// What happened and what to do next.
        what: Option<String>,
    },
}

/// One echo request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Of which uplink.
    pub uplink: Arc<str>,
    /// From its own source.
    pub from: Option<Addr>,
    /// With its mark, so that it leaves by it whatever main says.
    pub mark: Option<Mark>,
    /// To whom.
    pub to: Addr,
    /// Its number.
    pub seq: u16,
}
