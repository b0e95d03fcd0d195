//! The brain of Palisade and everything it thinks with.
//!
//! Nothing in this crate reads a clock, a file or a socket: time and bytes are passed in, and what
//! should happen in the world comes out as a value. The floors, from the bottom up; imports go
//! down only, and `tests/floors.rs` holds them to it:
//!
//! | floor | rooms | what lives there |
//! |---|---|---|
//! | 0 words | [`net`], [`cover`], [`time`], [`ports`], [`attack`], [`allow`], [`ours`], [`ini`] | addresses, moments, one hostile line, who can never be banned, what carries our mark, fail2ban's files |
//! | 1 organs | [`scan`], [`judge`], [`bans`], [`tables`], [`feeds`], [`route`], [`flood`] | line to attack; attack to verdict; verdicts to what the kernel should hold; tables of others in and out; block lists that are followed; which way packets take; who fills the connection table |
//! | 2 papers | [`config`], [`migrate`], [`event`], [`control`] | the config made valid, others' configs made ours, what enters and leaves the brain, the CLI's requests |
//! | 3 brain | [`brain`], [`replay`] | event in, actions out; the same over logs of the past |
#![forbid(unsafe_code)]

pub mod allow;
pub mod attack;
pub mod bans;
pub mod brain;
pub mod config;
pub mod control;
pub mod cover;
pub mod event;
pub mod feeds;
pub mod flood;
pub mod ini;
pub mod judge;
pub mod migrate;
pub mod net;
pub mod ours;
pub mod ports;
pub mod replay;
pub mod route;
pub mod scan;
pub mod steering;
pub mod tables;
pub mod time;
