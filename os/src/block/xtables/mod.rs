//! What ipset + iptables and iptables alone share: the two iptables programs, and the way into the
//! filter tables.
//!
//! | file | what is in it |
//! |---|---|
//! | `programs` | which programs there are, the kind to use, running them |
//! | `save` | the filter table as text: what stands, what should, the way between; pure |
//! | `watch` | whether others may have changed it |
//!
//! A host without IPv6 needs no IPv6 tables: bans of IPv6 are done there as nothing can come. Where
//! it has IPv6, a filter that cannot filter it is an error.

pub mod programs;
pub mod save;
#[cfg(test)]
mod tests;
mod watch;

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use palisade_core::config::Variant;
use palisade_core::net::Family;

pub use self::programs::{Kind, hint};
use self::programs::{Programs, choose, usable};
use self::save::{Shape, Snapshot};
use self::watch::Watch;
use super::BlockError;
use crate::clock;
use crate::process::ToolError;

/// How often a change is tried when somebody else changed the table in between.
const TRIES: usize = 5;

/// The most ports a rule takes (`XT_MULTI_PORTS`, linux/netfilter/xt_multiport.h).
const PORTS_A_RULE: usize = 15;

/// The filter tables of both families.
#[derive(Debug)]
pub struct Xtables {
    who: &'static str,
    kind: Kind,
    v4: Programs,
    v6: Option<Programs>,
    watch: Watch,
}

impl Xtables {
    /// Finds the programs and sees whether they work, for `who`, whose chains `ours` knows by name.
    ///
    /// # Errors
    /// Where they are missing or do not work, with what to do about it.
    pub fn open(who: &'static str, variant: Variant, path: &[String], ours: &dyn Fn(&str) -> bool) -> Result<Self, BlockError> {
        let kind = choose(who, variant, path, ours)?;
        let v4 = usable(who, Family::V4, kind, path)?;
        let v6 = match usable(who, Family::V6, kind, path) {
            Ok(programs) => Some(programs),
            Err(_) if !has_ipv6() => None,
            Err(BlockError::Tool { what, hint, source }) => {
                let what = format!("{what}, and this host has IPv6, which would stay open");
                let or = "or turn IPv6 off: sysctl net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1";
                return Err(BlockError::Tool { what, hint: if hint.is_empty() { or.to_owned() } else { format!("{hint}, {or}") }, source });
            }
            Err(other) => return Err(other),
        };
        let watch =
            Watch::open(kind).map_err(|source| BlockError::Kernel { what: format!("{who}: watching the filter tables"), source })?;
        Ok(Self { who, kind, v4, v6, watch })
    }

    /// Which of the two kinds is used.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The families that are filtered.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<> {
        [Some(Family::V4), self.v6.is_some().then_some(Family::V6)].into_iter().flatten()
    }

    /// Whether this family is filtered.
    pub const fn filters(&self, family: Family) -> bool {
        matches!(family, Family::V4) || self.v6.is_some()
    }

    fn programs(&self, family: Family) -> Option<&Programs> {
        match family {
            Family::V4 => Some(&self.v4),
            Family::V6 => self.v6.as_ref(),
        }
    }

    /// What of ours stands.
    pub fn snapshot(&mut self, family: Family, ours: impl Fn(&str) -> bool) -> Result<Snapshot, ToolError> {
        let began = clock::now().tick;
        let snapshot = self.programs(family).map_or_else(|| Ok(Snapshot::default()), |programs| programs.snapshot(ours))?;
        self.watch.looked(clock::now().tick.since(began));
        Ok(snapshot)
    }

    /// Makes this stand, and nothing else of ours.
    pub fn set(&mut self, family: Family, shape: &Shape, ours: impl Fn(&str) -> bool) -> Result<(), ToolError> {
        self.change(family, |programs| programs.set(shape, ours))
    }

    /// Changes the table as the script says: all of it or nothing.
    pub fn restore(&mut self, family: Family, script: &str) -> Result<(), ToolError> {
        self.change(family, |programs| programs.restore(script).map(|()| 1))
    }

    fn change(&mut self, family: Family, work: impl FnOnce(&Programs) -> Result<u32, ToolError>) -> Result<(), ToolError> {
        let Some(programs) = self.programs(family).cloned() else { return Ok(()) };
        let watching = |source| ToolError::Run { call: "watching the filter tables".to_owned(), source };
        self.watch.pause().map_err(watching)?;
        let done = work(&programs);
        self.watch.resume(done.as_ref().copied().unwrap_or(0)).map_err(watching)?;
        done.map(|_| ())
    }

    /// Becomes readable when somebody may have changed the tables.
    pub fn notices(&self) -> Option<BorrowedFd<'_>> {
        self.watch.fd()
    }

    /// Whether somebody may have changed the tables since this was asked before.
    pub fn due(&mut self) -> io::Result<bool> {
        self.watch.due()
    }

    /// IPv6 came to a host that had none when this was opened: it is not filtered.
    ///
    /// # Errors
    /// Then.
    pub fn still_all(&self) -> Result<(), BlockError> {
        if self.v6.is_some() || !has_ipv6() {
            return Ok(());
        }
        Err(BlockError::Unusable {
            what: format!("{}: this host has IPv6 now, and had none at the start; it is not filtered", self.who),
            hint: "restart palisade, or turn IPv6 off".to_owned(),
        })
    }

    /// A program's error as the backend's.
    pub fn failed(&self, what: &str, family: Family, source: ToolError) -> BlockError {
        BlockError::Tool { what: format!("{}: {what}", self.who), hint: hint(family, self.kind, &source), source }
    }
}

/// Whether IPv6 packets can come here: the kernel has it, and it is not turned off for all devices.
/// Both files are of the calling thread's namespace.
fn has_ipv6() -> bool {
    let off = |what| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{what}/disable_ipv6")).is_ok_and(|text| text.trim() == "1");
    let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    fs::exists("/proc/sys/net/ipv6/conf/all").unwrap_or(false) && !(off("all") && off("default") && addresses.is_empty())
}

/// Ports as lists that rules take: `22,80`.
pub fn port_lists(ports: &[u16]) -> impl Iterator<Item = String> + '_ {
    ports.chunks(PORTS_A_RULE).map(|some| some.iter().map(u16::to_string).collect::<Vec<_>>().join(","))
}

/// The value of an option of a rule as iptables-save prints it: the word behind it.
pub fn option<'a>(rule: &'a str, name: &str) -> Option<&'a str> {
    let mut words = rule.split(' ');
    words.find(|word| *word == name)?;
    words.next()
}

/// The rules that refuse with an answer: a reset, or ICMP 3/13 and ICMPv6 1/1 (RFC 792, RFC 1812, RFC 4443).
pub fn reject_rules(family: Family) -> Vec<String> {
    let prohibited = match family {
        Family::V4 => "icmp-admin-prohibited",
        Family::V6 => "icmp6-adm-prohibited",
    };
    vec!["-p tcp -j REJECT --reject-with tcp-reset".to_owned(), format!("-j REJECT --reject-with {prohibited}")]
}

/// The rules that let out what [`reject_rules`] answer.
pub fn answers_pass(family: Family) -> [String; 2] {
    let icmp = match family {
        Family::V4 => "-p icmp -m icmp --icmp-type 3/13 -j RETURN",
        Family::V6 => "-p ipv6-icmp -m icmp6 --icmpv6-type 1/1 -j RETURN",
    };
    ["-p tcp -m tcp --tcp-flags RST RST -j RETURN".to_owned(), icmp.to_owned()]
}
