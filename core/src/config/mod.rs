//! What was typed becomes what is meant ([`Config`]), or an error with a place in the file.

use std::collections::BTreeMap;

use crate::attack::JailName;
use crate::bans::wall::Refusal;
use crate::judge::policy::Policy;
use crate::net::Prefix;
use crate::time::Term;

/// A valid configuration. There is no other way to one than through the reader in this module.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    ban: BanSection,
    allow: AllowSection,
    limits: LimitsSection,
    jails: BTreeMap<JailName, Jail>,
}

/// `[ban]`, less what every jail has its own copy of ([`Jail::policy`]).
#[derive(Clone, Debug, PartialEq)]
pub struct BanSection {
    /// Which firewall.
    pub backend: Backend,
    /// How long a ban by hand lasts when it does not say.
    pub manual_time: Term,
    /// What a banned packet meets (`action = "drop"` or `"reject"`).
    pub refusal: Refusal,
    /// What jails and bans by hand start from.
    pub policy: Policy,
}

/// Which firewall enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The best one that is proven to work here.
    Auto,
    /// nf_tables over netlink.
    Nftables,
    /// None: bans are kept and shown, nothing is enforced. For tests and trials.
    Memory,
}

/// `[allow]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowSection {
    /// Written in the config.
    pub prefixes: Vec<Prefix>,
    /// Host names, resolved at start and again each 5 minutes; the last good answer is kept.
    pub names: Vec<String>,
    /// Automatic members.
    pub auto: AutoAllow,
}

/// Which automatic members the allow list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "five independent switches, each a word of the config")]
pub struct AutoAllow {
    /// 127.0.0.0/8 and ::1.
    pub loopback: bool,
    /// The host's own addresses, followed live.
    pub own: bool,
    /// Next hops of default routes.
    pub gateways: bool,
    /// Name servers of resolv.conf.
    pub resolvers: bool,
    /// Peers of established connections to sshd.
    pub admin_sessions: bool,
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsSection {
    /// How many sources are tracked at once.
    pub tracked_sources: usize,
    /// How many bans stand at once.
    pub bans: usize,
    /// Longer lines are dropped whole; in bytes.
    pub line: usize,
}

/// One `[jail.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Jail {
    /// Its name.
    pub name: JailName,
    /// Whether it runs.
    pub enabled: bool,
    /// The signatures its lines are held against, by name.
    pub signatures: Vec<String>,
    /// Files it reads, glob patterns.
    pub files: Vec<String>,
    /// Journal matches it reads: each `FIELD=VALUE [FIELD=VALUE...]`, any of them.
    pub journal: Vec<String>,
    /// How it judges.
    pub policy: Policy,
}
