//! Which way packets take: what is wanted of rules and routes, and the steps there from what is found.
//!
//! ```text
//!   Spec (config) + World (links, addresses, default routes) + Health (probes)  -> Wanted
//!   Wanted - World (our rules and routes in it)                                 -> Plan: Steps in safe order
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | [`words`] | marks, tables, priorities, protocol numbers |
//! | [`spec`] | what the config declares: uplinks, free rules, policies |
//! | [`tunnels`] | what the config declares of tunnels and connect budgets |
//! | [`budget`] | how often a provider may be connected to, and when next |
//! | [`tunnel`] | one supervised tunnel: when it is started, stopped, given up |
//! | [`rule`], [`routes`] | one rule, one route, as the kernel holds them and `ip` writes them |
//! | [`world`] | links, addresses, rules and routes of the host at one moment |
//! | [`wanted`] | what should stand |
//! | [`plan`] | the steps from what is found to what is wanted |
//! | [`shadow`] | rules of others that take our packets first |
//! | [`explain`] | which way a packet takes, rule by rule |
//! | [`policy`], [`track`] | which uplinks a policy uses; whether an uplink answers |
//! | [`heal`] | when drift is acted on |
//! | [`check`] | what was found about each uplink, and what to do about it |
//! | [`handshakes`] | whether somebody is at the other end of a WireGuard interface |
//! | [`lookup`] | a question to the kernel: which way would this packet take? |

pub mod budget;
pub mod check;
pub mod explain;
pub mod handshakes;
pub mod heal;
pub mod lookup;
pub mod plan;
pub mod policy;
pub mod routes;
pub mod rule;
pub mod shadow;
pub mod spec;
pub mod track;
pub mod tunnel;
pub mod tunnels;
pub mod wanted;
pub mod words;
pub mod world;

pub use routes::{Hop, Kind, Route};
pub use rule::{Action, Rule, Selector};
pub use spec::Spec;
pub use wanted::Wanted;
pub use words::{Mark, Mask, Names, Priority, Protocol, Table, TableId};
pub use world::World;
