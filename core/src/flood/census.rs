//! Flows folded to who holds how many.
//!
//! | file | what |
//! |---|---|
//! | `fold` | [`Fold`]: one pass over the table makes a [`Census`] |
//! | `opened` | [`Opened`]: who opens flows how fast, from events |
//! | `sample` | [`Sample`]: a few flows that stand fairly for all |
//! | `heavy` | the rule by which the largest are kept where there is no room for all |

mod fold;
mod heavy;
mod opened;
mod sample;

pub use fold::{Fold, LISTED};
pub use opened::{HALF, Opened};
pub use sample::Sample;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::flow::Endpoint;
use super::owner::Process;
use crate::net::Prefix;

/// Who holds how many flows at one instant. Bounded: only the largest of each kind are named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Census {
    /// How many flows were counted.
    pub flows: u64,
    /// How many sources hold them; at least so many, where `error` is not 0.
    pub sources: u64,
    /// The sources with the most flows, single addresses, largest first.
    pub top: Vec<Row>,
    /// The same of /64 prefixes of IPv6.
    pub nets: Vec<Row>,
    /// What sources hold that are like most: the median and the 90th percentile of flows a source (by nearest rank, over all
    /// sources and not only those named; where there was no room for all, those given up count with what they had by then).
    pub typical: (u32, u32),
    /// Each row's count may be too small by so much: 0 where every source had room.
    pub error: u32,
    /// Where most go: endpoints with the most flows, largest first. Each may be too small by a `room`th of `flows` where there are
    /// more endpoints than the fold had room for.
    pub endpoints: Vec<(Endpoint, u32)>,
    /// Destination ports by protocol, most flows first.
    pub ports: Vec<(u8, u16, u32)>,
    /// By protocol number.
    pub protocols: Vec<(u8, u32)>,
    /// TCP flows by state, in the kernel's order.
    pub tcp: [u32; 10],
    /// Flows that were never answered.
    pub unreplied: u32,
    /// Flows the kernel may drop early when the table is full.
    pub unassured: u32,
    /// Flows whose source is translated, and whose destination is.
    pub nat: (u32, u32),
    /// Which local processes hold them, most flows first; empty where none was looked for, or none holds any.
    pub processes: Vec<Held>,
    /// Whether local processes were looked for, and could be. Whoever looks sets it.
    #[serde(default)]
    pub looked: bool,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Who: a host, or a /64.
    pub prefix: Prefix,
    /// How many flows it opened that are still tracked.
    pub flows: u32,
    /// Of which were never answered.
    pub unreplied: u32,
    /// Of which the kernel may drop early.
    pub unassured: u32,
    /// How many it opens a second, where that was listened to.
    pub opened: Option<f32>,
    /// Where most of them go, and how many at least: what more than a third of them go to is never missed.
    pub top: Option<(Endpoint, u32)>,
    /// For a /64: how many of its addresses have flows. 1 for a host.
    pub hosts: u32,
}

/// A local process and what it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Which.
    pub process: Process,
    /// How many flows.
    pub flows: u32,
    /// How many it opens a second, where that was listened to.
    pub opened: Option<f32>,
    /// Where most of them go, and how many.
    pub top: Option<(Endpoint, u32)>,
    /// The protocol and port most of them go to, whatever the address, and how many.
    #[serde(default)]
    pub port: Option<(u8, u16, u32)>,
}

impl Census {
    /// Who holds the most, hosts and /64s together, largest first, nobody twice: a /64 stands for its hosts where no single one of
    /// them holds half of it, else its hosts stand for themselves.
    pub fn largest(&self, most: usize) -> Vec<&Row> {
        let mut most_of: HashMap<Prefix, u32> = HashMap::new();
        for host in &self.top {
            let held = most_of.entry(host.prefix.widen(NET)).or_default();
            *held = host.flows.max(*held);
        }
        // How many hosts a /64 has says little here: where there was no room for all, they may be gone.
        let joint = |net: &&Row| most_of.get(&net.prefix).is_none_or(|host| u64::from(*host) * 2 < u64::from(net.flows));
        let mut all: Vec<&Row> = self.nets.iter().filter(joint).collect();
        let nets: HashSet<Prefix> = all.iter().map(|net| net.prefix).collect();
        all.extend(self.top.iter().filter(|host| !nets.contains(&host.prefix.widen(NET))));
        all.sort_by(|a, b| b.flows.cmp(&a.flows).then(a.prefix.cmp(&b.prefix)));
        all.truncate(most);
        all
    }
}

/// How long the prefixes of [`Census::nets`] are: what one site's link has, and one machine may number itself in at will
/// (RFC 4291 2.5.4, RFC 8981).
pub const NET: u8 = 64;
