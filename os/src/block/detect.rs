//! What this system has to block with.

use palisade_core::bans::backend::{Backend, CANDIDATES, Facts, Seen};
use palisade_core::config::BackendSection;

use super::{BlockError, open};
use crate::errors::chain;
use crate::process::Tool;

/// How much to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The candidates in their order, up to the first that can be used: for a choice in a hurry.
    First,
    /// All of them, those behind the best from afar, and who else filters here: for a choice that is to be explained.
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

/// Looks. The candidates are opened in their order, up to the first that opens: that has found all it needs. Those
/// behind it are not opened, as looking shall change nothing, and asking iptables makes its tables: of them it is told
/// whether their programs are there.
pub fn look(section: &BackendSection, how: Look) -> Facts {
    let mut facts = Facts::default();
    let mut candidates = CANDIDATES.into_iter().filter(|backend| here(*backend));
    for backend in candidates.by_ref() {
        let seen = match open(backend, section) {
            Ok(_) => Seen::Usable(words(backend).to_owned()),
            Err(BlockError::Unusable { what, hint }) => Seen::Unusable { why: unnamed(backend, &what), fix: hint },
            Err(error) => Seen::Unusable { why: unnamed(backend, &chain(&error)), fix: String::new() },
        };
        let usable = matches!(seen, Seen::Usable(_));
        facts.seen.push((backend, seen));
        if usable {
            break;
        }
    }
    if how == Look::First {
        return facts;
    }
    facts.seen.extend(candidates.map(|backend| (backend, from_afar(backend, section))));
    #[cfg(target_os = "linux")]
    {
        facts.beside = super::neighbours::look(palisade_core::ours::NFT_TABLE, palisade_core::ours::NFT_PRIORITY).names;
    }
    facts
}

/// Whether its programs are there.
fn from_afar(backend: Backend, section: &BackendSection) -> Seen {
    let programs: &[&str] = match backend {
        Backend::Ipset => &["ipset", "iptables"],
        Backend::Iptables => &["iptables"],
        Backend::Pf => &["pfctl"],
        Backend::Ipfw => &["ipfw"],
        Backend::Nftables | Backend::Hosts | Backend::Nginx | Backend::Command | Backend::Memory => &[],
    };
    let missing = programs.iter().find(|program| Tool::find(program, &section.path).is_err());
    missing.map_or_else(
        || Seen::Usable("its programs are there".to_owned()),
        |program| Seen::Unusable { why: format!("there is no program `{program}`"), fix: "install it".to_owned() },
    )
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
