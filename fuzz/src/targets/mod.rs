//! One module a target: `run` takes any bytes and must neither panic nor take long.

pub mod access_log;
pub mod config;
pub mod control;
pub mod expression;
pub mod filter;
pub mod jail;
pub mod json;
pub mod line;
pub mod netlink;
pub mod signature;
pub mod tables;
