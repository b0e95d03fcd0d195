//! What this system has to block with.

use palisade_core::bans::backend::{Backend, CANDIDATES, Facts, Seen};
use palisade_core::config::BackendSection;

use super::{BlockError, open};
use crate::errors::chain;

/// How much to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The candidates in their order, up to the first that can be used: for a choice in a hurry.
    First,
    /// All of them, and who else filters here: for a choice that is to be explained.
    All,
}

/// Whether this system can have it at all. What it cannot have is not worth a word.
const fn here(backend: Backend) -> bool {
    match backend {
        Backend::Nftables | Backend::Ipset | Backend::Iptables => cfg!(target_os = "linux"),
        Backend::Pf | Backend::Ipfw => cfg!(not(target_os = "linux")),
        _ => true,
    }
}

/// Looks, by opening each: what opens has found all it needs. Nothing is changed.
pub fn look(section: &BackendSection, how: Look) -> Facts {
    let mut facts = Facts::default();
    for backend in CANDIDATES.into_iter().filter(|backend| here(*backend)) {
        let seen = match open(backend, section) {
            Ok(_) => Seen::Usable(words(backend).to_owned()),
            Err(BlockError::Unusable { what, hint }) => Seen::Unusable { why: unnamed(backend, &what), fix: hint },
            Err(error) => Seen::Unusable { why: unnamed(backend, &chain(&error)), fix: String::new() },
        };
        let usable = matches!(seen, Seen::Usable(_));
        facts.seen.push((backend, seen));
        if usable && how == Look::First {
            return facts;
        }
    }
    #[cfg(target_os = "linux")]
    {
        facts.beside = super::neighbours::look(palisade_core::ours::NFT_TABLE, palisade_core::ours::NFT_PRIORITY).names;
    }
    facts
}

/// An error's words without the firewall's name before them, which is told anyhow.
fn unnamed(backend: Backend, what: &str) -> String {
    what.strip_prefix(backend.word()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(what).to_owned()
}

/// By what it is known that one can be used.
const fn words(backend: Backend) -> &'static str {
    match backend {
        Backend::Nftables => "the kernel's nf_tables answers",
        Backend::Ipset => "ipset and iptables answer",
        Backend::Iptables => "iptables answers",
        Backend::Pf => "PF is enabled and has our anchor",
        Backend::Ipfw => "ipfw answers",
        Backend::Hosts => "the file can be written",
        Backend::Nginx => "the file can be written",
        Backend::Command => "the program is there",
        Backend::Memory => "it needs nothing",
    }
}
