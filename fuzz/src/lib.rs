//! What is fuzzed, for libFuzzer (`fuzz_targets`) and for the driver (`main.rs`).

pub mod seeds;
pub mod targets;

use targets::{access_log, config, control, expression, filter, jail, json, line, netlink, signature, tables};

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    /// As `make fuzz` and cargo-fuzz call it.
    pub name: &'static str,
    /// Tries one input.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them. A new one is a line here.
pub const TARGETS: &[Target] = &[
    Target { name: "line", run: line::run, seeds: seeds::wrapped },
    Target { name: "json", run: json::run, seeds: seeds::records },
    Target { name: "access_log", run: access_log::run, seeds: seeds::lines },
    Target { name: "signature", run: signature::run, seeds: seeds::signatures },
    Target { name: "filter", run: filter::run, seeds: seeds::filters },
    Target { name: "expression", run: expression::run, seeds: seeds::expressions },
    Target { name: "jail", run: jail::run, seeds: seeds::jails },
    Target { name: "config", run: config::run, seeds: seeds::configs },
    Target { name: "control", run: control::run, seeds: seeds::requests },
    Target { name: "tables", run: tables::run, seeds: seeds::tables },
    Target { name: "netlink", run: netlink::run, seeds: seeds::nothing },
];
