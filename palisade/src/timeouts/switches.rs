//! The kernel's switches, and what else of the machine a plan must know.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use palisade_core::flood::timeouts::catalogue::{FOLDER, PREFIX};
use palisade_core::flood::timeouts::{Facts, Values};
use palisade_os::{ram, sysctl};

/// What holds switches.
pub trait Switches {
    /// All of connection tracking, and what each holds.
    ///
    /// # Errors
    /// What the kernel said.
    fn list(&self) -> io::Result<Values>;

    /// Makes one hold this.
    ///
    /// # Errors
    /// What the kernel said, the switch named.
    fn set(&mut self, name: &str, value: &str) -> io::Result<()>;
}

/// The kernel, as the calling thread's network namespace has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Proc;

impl Switches for Proc {
    fn list(&self) -> io::Result<Values> {
        sysctl::list(FOLDER, PREFIX)
    }

    fn set(&mut self, name: &str, value: &str) -> io::Result<()> {
        sysctl::set(&format!("{FOLDER}/{name}"), value)
    }
}

/// What a plan must know of this machine. What cannot be read is taken for what proposes less.
pub fn facts() -> Facts {
    let on = |path: &str| sysctl::get(path).ok().flatten().is_some_and(|value| value != "0");
    Facts {
        ram: ram::total().unwrap_or(0),
        initial: sysctl::fixed(&format!("{FOLDER}/{PREFIX}max")).is_ok_and(|fixed| !fixed),
        forwards: on("net/ipv4/ip_forward") || on("net/ipv6/conf/all/forwarding"),
    }
}

/// Failures that came together, each kind told once: a read-only /proc/sys refuses every switch for the same reason.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<ErrorKind, (String, Vec<String>)>);

impl Failures {
    /// One more.
    pub(super) fn add(&mut self, name: &str, error: &io::Error) {
        self.0.entry(error.kind()).or_insert_with(|| (error.to_string(), Vec::new())).1.push(name.to_owned());
    }

    /// Each reason with whom it befell.
    pub(super) fn told(self) -> Vec<String> {
        let one = |(text, names): (String, Vec<String>)| match names.as_slice() {
            [] | [_] => text,
            [_, more @ ..] => format!("{text}; and so for {} more: {}", more.len(), more.join(", ")),
        };
        self.0.into_values().map(one).collect()
    }
}
