//! Palisade: the house and its door.
//!
//! | floor | rooms |
//! |---|---|
//! | 6 door | [`cli`]: one file a verb, one table of verbs |
//! | 5 house | [`serve`]: start order and threads; [`direct`]: the same without a daemon; `feeds`: block lists followed; `routing`: the steering and its hands; [`tunnels`]: clients and connect budgets; `timeouts`: switches of connection tracking; [`store`]; [`settings`]; [`library`]: signatures and filters from the disk; [`fail2ban`]: its database |
#![forbid(unsafe_code)]

pub mod cli;
pub mod direct;
pub mod fail2ban;
mod feeds;
pub mod library;
#[cfg(target_os = "linux")]
mod routing;
pub mod serve;
pub mod settings;
pub mod store;
mod tell;
#[cfg(target_os = "linux")]
pub mod timeouts;
pub mod tunnels;
mod zone;
