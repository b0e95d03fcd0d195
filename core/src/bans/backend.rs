//! Which firewalls there are, and which of them to use on a host that looks like this.
//!
//! Looking is the hands' work ([`Facts`]); choosing is done here, so that a test can say what is
//! chosen where, and the operator is told why and what was passed over.

use std::fmt;

/// A firewall that bans can be put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// nf_tables over netlink.
    Nftables,
    /// ipset sets, matched by iptables rules.
    Ipset,
    /// iptables alone: a rule for each ban.
    Iptables,
    /// PF of FreeBSD and OpenBSD: a table in an anchor.
    Pf,
    /// ipfw of FreeBSD: a table and two rules.
    Ipfw,
    /// TCP wrappers: hosts.deny.
    Hosts,
    /// A file of `deny` lines for nginx.
    Nginx,
    /// A program that speaks sshguard's backend protocol.
    Command,
    /// None: bans are kept and shown, nothing is enforced. For tests and trials.
    Memory,
}

/// Those that `auto` may choose, the best first. The others shut out of some services only
/// (TCP wrappers, nginx) or are whatever a program makes of them: who wants them names them.
pub const CANDIDATES: [Backend; 5] = [Backend::Nftables, Backend::Pf, Backend::Ipfw, Backend::Ipset, Backend::Iptables];

impl Backend {
    /// All of them.
    pub const ALL: [Self; 9] =
        [Self::Nftables, Self::Ipset, Self::Iptables, Self::Pf, Self::Ipfw, Self::Hosts, Self::Nginx, Self::Command, Self::Memory];

    /// Its word in the config.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Ipset => "ipset",
            Self::Iptables => "iptables",
            Self::Pf => "pf",
            Self::Ipfw => "ipfw",
            Self::Hosts => "hosts",
            Self::Nginx => "nginx",
            Self::Command => "command",
            Self::Memory => "memory",
        }
    }

    /// The one of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.word() == word)
    }

    /// Whether it is a packet filter: shuts out of everything, and its states can be ended.
    pub const fn filters_packets(self) -> bool {
        !matches!(self, Self::Hosts | Self::Nginx | Self::Memory)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a look at one firewall found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It can be used; says by what that is known: `nf_tables answers`.
    Usable(String),
    /// It cannot; why, and what would make it usable (empty: nothing would on this system).
    Unusable {
        /// `there is no ipset program`.
        why: String,
        /// `apt-get install ipset`.
        fix: String,
    },
}

/// What a host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Every firewall that was looked at.
    pub seen: Vec<(Backend, Seen)>,
    /// What else filters here, for the operator to know: `ufw`, `docker`.
    pub beside: Vec<String>,
}

impl Facts {
    /// What was seen of one.
    pub fn of(&self, backend: Backend) -> Option<&Seen> {
        self.seen.iter().find(|(one, _)| *one == backend).map(|(_, seen)| seen)
    }

    fn usable(&self, backend: Backend) -> Option<&str> {
        match self.of(backend)? {
            Seen::Usable(how) => Some(how),
            Seen::Unusable { .. } => None,
        }
    }

    /// The best usable candidate other than `not`: what to name in an error about that one.
    pub fn next_best(&self, not: Backend) -> Option<Backend> {
        CANDIDATES.into_iter().find(|backend| *backend != not && self.usable(*backend).is_some())
    }
}

/// Names by which other tools' tables and chains are known, the beginning of each, and whose they are.
const OWNERS: [(&str, &str); 16] = [
    ("f2b-", "fail2ban"),
    ("ufw-", "ufw"),
    ("ufw6-", "ufw"),
    ("firewalld", "firewalld"),
    ("DOCKER", "docker"),
    ("docker-bridges", "docker"),
    ("LIBVIRT_", "libvirt"),
    ("libvirt_network", "libvirt"),
    ("sshguard", "sshguard"),
    ("crowdsec", "crowdsec"),
    ("KUBE-", "kubernetes"),
    ("kube-proxy", "kubernetes"),
    ("CNI-", "a container network (CNI)"),
    ("netavark", "podman"),
    ("nixos-fw", "the NixOS firewall"),
    ("shorewall", "shorewall"),
];

/// Who makes tables and chains of such names, where it is known.
pub fn owner_of(name: &str) -> Option<&'static str> {
    OWNERS.iter().find(|(start, _)| name.starts_with(start)).map(|(_, owner)| *owner)
}

/// What was chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Which.
    pub backend: Backend,
    /// Why it: `nf_tables answers`.
    pub why: String,
    /// The candidates that are not used, each with why not, the best first.
    pub passed_over: Vec<(Backend, String)>,
    /// What else filters here.
    pub beside: Vec<String>,
}

impl fmt::Display for Pick {
    /// `nftables: nf_tables answers (passed over: ipset, which nftables makes needless; ...)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.backend, self.why)?;
        for (n, (backend, why)) in self.passed_over.iter().enumerate() {
            write!(f, "{}{backend}, {why}", if n == 0 { "; passed over: " } else { "; " })?;
        }
        if self.beside.is_empty() { Ok(()) } else { write!(f, "; beside it filter {}", self.beside.join(", ")) }
    }
}

/// Nothing here can block. Says what was looked for and what would help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no firewall of this host can be used, and nothing would be blocked: {0}")]
pub struct NothingWorks(String);

/// Chooses the best candidate that can be used.
///
/// # Errors
/// Where there is none.
pub fn pick(facts: &Facts) -> Result<Pick, NothingWorks> {
    let Some((backend, why)) = CANDIDATES.into_iter().find_map(|backend| Some((backend, facts.usable(backend)?.to_owned()))) else {
        let all = facts.seen.iter().filter_map(|(backend, seen)| match seen {
            Seen::Unusable { why, fix } if fix.is_empty() => Some(format!("{backend}: {why}")),
            Seen::Unusable { why, fix } => Some(format!("{backend}: {why} ({fix})")),
            Seen::Usable(_) => None,
        });
        return Err(NothingWorks(all.collect::<Vec<_>>().join("; ")));
    };
    let others = CANDIDATES.into_iter().filter(|other| *other != backend);
    let passed_over = others.filter_map(|other| {
        let why = match facts.of(other)? {
            Seen::Usable(_) => format!("which {backend} makes needless"),
            Seen::Unusable { why, .. } => why.clone(),
        };
        Some((other, why))
    });
    Ok(Pick { backend, why, passed_over: passed_over.collect(), beside: facts.beside.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unusable(why: &str, fix: &str) -> Seen {
        Seen::Unusable { why: why.into(), fix: fix.into() }
    }

    fn facts(seen: &[(Backend, Seen)]) -> Facts {
        Facts { seen: seen.to_vec(), beside: vec!["docker".into()] }
    }

    #[test]
    fn words_are_read_back() {
        for backend in Backend::ALL {
            assert_eq!(Backend::of_word(backend.word()), Some(backend));
        }
        assert_eq!(Backend::of_word("auto"), None);
    }

    #[test]
    fn the_best_usable_one_is_picked_and_the_rest_is_accounted_for() {
        let host = facts(&[
            (Backend::Nftables, Seen::Usable("nf_tables answers".into())),
            (Backend::Ipset, Seen::Usable("ipset v7.17".into())),
            (Backend::Iptables, unusable("there is no iptables program", "apt-get install iptables")),
        ]);
        assert_eq!(
            pick(&host).unwrap().to_string(),
            "nftables: nf_tables answers; passed over: ipset, which nftables makes needless; \
             iptables, there is no iptables program; beside it filter docker"
        );
        assert_eq!(host.next_best(Backend::Nftables), Some(Backend::Ipset));
        assert_eq!(host.next_best(Backend::Ipset), Some(Backend::Nftables));
    }

    #[test]
    fn neighbours_are_known_by_their_names() {
        assert_eq!(owner_of("DOCKER-USER"), Some("docker"));
        assert_eq!(owner_of("f2b-sshd"), Some("fail2ban"));
        assert_eq!(owner_of("INPUT"), None);
    }

    #[test]
    fn what_covers_some_services_only_is_never_picked_by_itself() {
        let host = facts(&[
            (Backend::Hosts, Seen::Usable("/etc/hosts.deny".into())),
            (Backend::Nginx, Seen::Usable("nginx".into())),
            (Backend::Nftables, unusable("this kernel has no nf_tables", "modprobe nf_tables")),
            (Backend::Pf, unusable("this is not a BSD", "")),
        ]);
        let error = pick(&host).unwrap_err().to_string();
        assert_eq!(
            error,
            "no firewall of this host can be used, and nothing would be blocked: \
             nftables: this kernel has no nf_tables (modprobe nf_tables); pf: this is not a BSD"
        );
        assert_eq!(host.next_best(Backend::Nftables), None);
    }
}
