//! Flows folded to who holds how many.

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
    /// What sources hold that are like most: the median and the 90th percentile of flows a source.
    pub typical: (u32, u32),
    /// Each row's count may be too small by so much: 0 where every source had room.
    pub error: u32,
    /// Where most go: endpoints with the most flows, largest first.
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
    /// Which local processes hold them, most flows first; empty where none was looked for.
    pub processes: Vec<Held>,
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
    /// Where most of them go, and how many.
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
}
