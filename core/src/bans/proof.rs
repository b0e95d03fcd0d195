//! Whether a ban was seen to block: packets of a banned address sent through a copy of the host's
//! rules, and what is to be concluded from which of them arrived.
//!
//! Sending is the hands' work ([`Trial`]); what it proves is said here.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::backend::Backend;

/// The way the probe's packets took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// To the host itself, IPv4.
    In4,
    /// To the host itself, IPv6.
    In6,
    /// Through the host to one behind it, IPv4.
    Through4,
    /// Through the host to one behind it, IPv6.
    Through6,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In4 => "to this host by IPv4",
            Self::In6 => "to this host by IPv6",
            Self::Through4 => "through this host by IPv4",
            Self::Through6 => "through this host by IPv6",
        })
    }
}

/// What was seen of one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub way: Way,
    /// Whether the probe's packets arrived before it was banned; `None` where nobody's did, so that it says nothing.
    pub before: Option<bool>,
    /// Whether the ban was read back.
    pub stands: bool,
    /// Whether they arrived while it was banned, and somebody else's did; `None` where nobody's did.
    pub banned: Option<bool>,
    /// How many packets the ban says it dropped; `None` where it does not count.
    pub counted: Option<u64>,
    /// Whether they arrived after it was released; `None` where nobody's did.
    pub after: Option<bool>,
}

/// What was proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "proof", rename_all = "kebab-case")]
pub enum Proof {
    /// A ban blocks here; says how that was seen.
    Proven {
        /// `packets of a banned address were dropped to this host by IPv4, ...`.
        how: String,
    },
    /// A ban does not block here.
    Failed {
        /// What was seen instead.
        what: String,
    },
    /// Nothing could be seen.
    Untried {
        /// Why not.
        why: String,
    },
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven { how } => write!(f, "proven: {how}"),
            Self::Failed { what } => write!(f, "failed its proof: {what}"),
            Self::Untried { why } => write!(f, "not proven by a packet: {why}"),
        }
    }
}

impl Trial {
    /// Whether packets went through the host, and the firewall is a program that shuts out of the host alone. Which
    /// of the two a program does is its own business (sshguard's do the host), and is told.
    fn excused(&self, backend: Backend) -> bool {
        backend == Backend::Command && matches!(self.way, Way::Through4 | Way::Through6) && self.stands && self.banned == Some(true)
    }

    /// What is wrong, if something is.
    fn failure(&self) -> Option<&'static str> {
        if !self.stands {
            return Some("a ban that was put up cannot be read back");
        }
        if self.banned == Some(true) {
            return Some("packets of a banned address still arrive");
        }
        (self.before == Some(true) && self.after == Some(false)).then_some("packets of an address that was let go again do not arrive")
    }

    /// Whether it shows that the ban, and not something else, kept the packets out.
    fn shows(&self) -> bool {
        (self.before == Some(true) && self.banned == Some(false)) || self.counted.is_some_and(|packets| packets > 0)
    }
}

/// What these trials prove. One way that leaks is a failure, whatever the others show.
pub fn judge(backend: Backend, trials: &[Trial]) -> Proof {
    let (open, trials): (Vec<Trial>, Vec<Trial>) = trials.iter().partition(|trial| trial.excused(backend));
    let failures: Vec<String> = trials.iter().filter_map(|trial| Some(format!("{} {}", trial.failure()?, trial.way))).collect();
    if !failures.is_empty() {
        return Proof::Failed { what: failures.join("; ") };
    }
    let list = |shown: bool| trials.iter().filter(|t| t.shows() == shown).map(|t| t.way.to_string()).collect::<Vec<_>>().join(", ");
    let (shown, not) = (list(true), list(false));
    if shown.is_empty() {
        let why = if not.is_empty() {
            "no way for a packet could be tried".to_owned()
        } else {
            format!("other rules of this host drop the probe {not}, banned or not")
        };
        return Proof::Untried { why };
    }
    let rest = if not.is_empty() { String::new() } else { format!(" (other rules drop it {not}, banned or not)") };
    let open: Vec<String> = open.iter().map(|trial| trial.way.to_string()).collect();
    let open =
        if open.is_empty() { String::new() } else { format!("; they still pass {}, which the program does not guard", open.join(", ")) };
    Proof::Proven { how: format!("packets of a banned address were dropped {shown}{rest}{open}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a firewall that is to keep out on every way.
    fn said(trials: &[Trial]) -> Proof {
        judge(Backend::Nftables, trials)
    }

    const GOOD: Trial = Trial { way: Way::In4, before: Some(true), stands: true, banned: Some(false), counted: Some(3), after: Some(true) };

    #[test]
    fn one_way_that_leaks_fails_the_whole() {
        let leak = Trial { way: Way::Through6, banned: Some(true), ..GOOD };
        assert_eq!(said(&[GOOD, leak]).to_string(), "failed its proof: packets of a banned address still arrive through this host by IPv6");
        let ghost = Trial { stands: false, ..GOOD };
        assert!(matches!(said(&[ghost]), Proof::Failed { what } if what.contains("cannot be read back")));
        let stuck = Trial { after: Some(false), ..GOOD };
        assert!(matches!(said(&[stuck]), Proof::Failed { what } if what.contains("let go again")));
    }

    #[test]
    fn a_program_may_guard_the_host_alone_and_that_is_told() {
        let leak = Trial { way: Way::Through4, banned: Some(true), ..GOOD };
        assert_eq!(
            judge(Backend::Command, &[GOOD, leak]).to_string(),
            "proven: packets of a banned address were dropped to this host by IPv4; they still pass through this host by IPv4, \
             which the program does not guard"
        );
        let open = Trial { way: Way::In6, ..leak };
        assert!(matches!(judge(Backend::Command, &[GOOD, open]), Proof::Failed { .. }));
    }

    #[test]
    fn a_round_in_which_nobody_was_heard_proves_nothing_and_fails_nothing() {
        let limited = Trial { banned: None, after: None, counted: Some(0), ..GOOD };
        assert!(matches!(said(&[limited]), Proof::Untried { .. }), "that nothing came was a limit's doing, as far as one can tell");
        assert!(matches!(said(&[Trial { after: None, ..GOOD }]), Proof::Proven { .. }));
    }

    #[test]
    fn packets_that_others_drop_prove_nothing_unless_the_ban_counted_them() {
        let silent = Trial { before: None, banned: None, after: None, counted: Some(0), ..GOOD };
        assert!(matches!(said(&[silent]), Proof::Untried { .. }));
        assert!(matches!(said(&[Trial { counted: None, ..silent }]), Proof::Untried { .. }));
        assert!(matches!(said(&[Trial { counted: Some(3), ..silent }]), Proof::Proven { .. }));
        assert_eq!(
            said(&[GOOD, Trial { way: Way::In6, ..silent }]).to_string(),
            "proven: packets of a banned address were dropped to this host by IPv4 (other rules drop it to this host by IPv6, banned or not)"
        );
        assert!(matches!(said(&[]), Proof::Untried { .. }));
    }
}
