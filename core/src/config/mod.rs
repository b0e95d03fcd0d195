//! What was typed becomes what is meant ([`Config`]), or errors with their places in the files.
//!
//! | part | what it does |
//! |---|---|
//! | `raw` | the keys there are, and what was typed for them, each with its place |
//! | `walk` | one file's TOML to `raw`: collects every wrong key, type and value |
//! | `values`, `words` | single values: types and ranges; ports, globs, journal matches |
//! | `mean` | `raw` and the built-in defaults to [`Config`]: what can only be checked together |
//! | `backends` | all of `[backend]`: what single firewalls are told |
//! | `filter` | `fail2ban` and `options` of a jail |
//! | `feeds` | all of `[feed.NAME]`: block lists that are followed |
//! | `blocklistd` | all of `[blocklistd]`: the socket of programs that know the address themselves |
//! | `conntrack` | all of `[conntrack]`: the flood guard |
//! | `routing` | uplinks, rules, policies, tunnels and budgets |
//! | `show` | [`Config`] back to TOML |

mod backends;
mod blocklistd;
mod conntrack;
mod defaults;
mod error;
mod feeds;
mod filter;
mod mean;
mod nearest;
mod raw;
mod routing;
mod show;
mod values;
mod walk;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use backends::{
    BackendSection, CommandSection, HostsSection, IpfwSection, IpsetSection, IptablesSection, NginxSection, PfSection, Variant,
};
pub use blocklistd::Blocklistd;
pub use defaults::signature;
pub use error::{ConfigError, ConfigErrors, MOST_TOLD, Problem};
pub use feeds::{Feed, FeedSource};
pub use filter::Fail2banFilter;
pub use show::{show, show_routing};
pub(crate) use values::{Bounds, TimeBounds};
pub(crate) use walk::{BAN, FACTOR, FIND_TIME, IPV4_PREFIX, IPV6_PREFIX, MAX_RETRY};

use crate::attack::JailName;
use crate::bans::backend::Backend;
use crate::bans::wall::{Ports, Refusal};
use crate::flood::settings::Settings;
use crate::judge::policy::Policy;
use crate::net::Prefix;
use crate::route::Spec;
use crate::route::tunnels::{Budget, Tunnel};
use crate::time::Term;

/// A valid configuration. There is no other way to one than through the reader in this module.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    ban: BanSection,
    backends: BackendSection,
    allow: AllowSection,
    limits: LimitsSection,
    jails: BTreeMap<JailName, Jail>,
    feeds: BTreeMap<Arc<str>, Feed>,
    conntrack: Settings,
    blocklistd: Blocklistd,
    routing: routing::Routing,
}

impl Config {
    /// Reads the main file and the `conf.d` files in the given order, each as its name (for
    /// messages) and its text. Tables merge by name; of a key that is written twice the later
    /// file's value counts. Every jail that is written must use `known_signatures`.
    ///
    /// # Errors
    /// All that is wrong, up to [`MOST_TOLD`] told in full.
    pub fn read(files: &[(String, String)], known_signatures: &[&str]) -> Result<Self, ConfigErrors> {
        let mut errors = error::Gather::default();
        let mut raw = raw::Raw::default();
        for (index, (_, text)) in files.iter().enumerate() {
            raw.merge(walk::file(index, text, known_signatures, &mut errors));
        }
        // What is missing or clashes can only be told of what was understood whole.
        let config = if errors.is_empty() { Some(mean::config(raw, &mut errors)) } else { None };
        match config {
            Some(config) if errors.is_empty() => Ok(config),
            _ => Err(errors.finish(files)),
        }
    }

    /// Reads the text that [`show_routing`] writes: what is applied of routing is kept so.
    ///
    /// # Errors
    /// As [`Config::read`]; other sections than those are not looked at.
    pub fn read_routing(text: &str, name: &str) -> Result<Spec, ConfigErrors> {
        let mut errors = error::Gather::default();
        let raw = walk::file(0, text, &[], &mut errors);
        let read = if errors.is_empty() { Some(routing::mean(raw.routing, false, &mut errors)) } else { None };
        match read {
            Some(read) if errors.is_empty() => Ok(read.spec),
            _ => Err(errors.finish(&[(name.to_owned(), text.to_owned())])),
        }
    }

    /// `[routing]`, `[uplink]`, `[[rule]]`, `[policy]`.
    pub const fn routing(&self) -> &Spec {
        &self.routing.spec
    }

    /// Every `[tunnel.NAME]`.
    pub const fn tunnels(&self) -> &BTreeMap<Arc<str>, Tunnel> {
        &self.routing.tunnels
    }

    /// Every `[budget.NAME]`.
    pub const fn budgets(&self) -> &BTreeMap<Arc<str>, Budget> {
        &self.routing.budgets
    }

    /// Puts the numbers of users in the place of their names in `[[rule]]`, and tells which names have none.
    pub fn resolve_users(&mut self, number: impl Fn(&str) -> Option<u32>) -> BTreeSet<String> {
        self.routing.spec.resolve_users(number)
    }

    /// What holds with no file at all.
    pub fn builtin() -> Self {
        // Without typed values there is nothing to be wrong: the tests hold the defaults to that.
        mean::config(raw::Raw::default(), &mut error::Gather::default())
    }

    /// `[ban]`.
    pub const fn ban(&self) -> &BanSection {
        &self.ban
    }

    /// `[backend]` and `[backend.NAME]`.
    pub const fn backends(&self) -> &BackendSection {
        &self.backends
    }

    /// `[allow]`.
    pub const fn allow(&self) -> &AllowSection {
        &self.allow
    }

    /// `[limits]`.
    pub const fn limits(&self) -> &LimitsSection {
        &self.limits
    }

    /// Every jail, built-in and written, enabled or not.
    pub const fn jails(&self) -> &BTreeMap<JailName, Jail> {
        &self.jails
    }

    /// Every feed, followed or not.
    pub const fn feeds(&self) -> &BTreeMap<Arc<str>, Feed> {
        &self.feeds
    }

    /// The feed of that name, if it is followed.
    pub fn feed(&self, name: &str) -> Option<&Feed> {
        self.feeds.get(name).filter(|feed| feed.enabled)
    }

    /// `[conntrack]`.
    pub const fn conntrack(&self) -> &Settings {
        &self.conntrack
    }

    /// `[blocklistd]`.
    pub const fn blocklistd(&self) -> &Blocklistd {
        &self.blocklistd
    }

    /// For a firewall that knows no ports: a ban of any jail shuts out of all of them. Whether that
    /// changes anything.
    pub fn forget_ports(&mut self) -> bool {
        let limited = |jail: &&mut Jail| jail.enabled && jail.policy.ports != Ports::All;
        self.jails.values_mut().filter(limited).map(|jail| jail.policy.ports = Ports::All).count() > 0
    }

    /// The jail of that name.
    pub fn jail(&self, name: &JailName) -> Option<&Jail> {
        self.jails.get(name)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::builtin()
    }
}

/// `[ban]`, less what every jail has its own copy of ([`Jail::policy`]).
#[derive(Clone, Debug, PartialEq)]
pub struct BanSection {
    /// Which firewall; `None` for `"auto"`, the best one that is proven to work here.
    pub backend: Option<Backend>,
    /// How long a ban by hand lasts when it does not say.
    pub manual_time: Term,
    /// What a banned packet meets (`action = "drop"` or `"reject"`).
    pub refusal: Refusal,
    /// What jails and bans by hand start from.
    pub policy: Policy,
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
///
/// A jail reads either its journal matches or its files, never both, so that a line which is in
/// both is counted once: see [`Jail::reads`].
#[derive(Clone, Debug, PartialEq)]
pub struct Jail {
    /// Its name.
    pub name: JailName,
    /// Whether it runs. One that is enabled but finds none of its sources on the host is idle; that is no error.
    pub enabled: bool,
    /// The signatures its lines are held against, by name. At least one, if there is no filter.
    pub signatures: Vec<String>,
    /// The filter of fail2ban its lines are held against too.
    pub fail2ban: Option<Fail2banFilter>,
    /// Files it reads, absolute glob patterns. Where there are neither files nor matches, the filter says what to read.
    pub files: Vec<String>,
    /// Journal matches it reads: each `FIELD=VALUE [FIELD=VALUE...]` (all of them), any of the entries.
    pub journal: Vec<String>,
    /// The zone of the times in its lines that name none, by its IANA name; the host's where none is written.
    pub timezone: Option<String>,
    /// Whether programs report to it (`palisade report`, blocklistd): then it needs no signatures and no source.
    pub reports: bool,
    /// How it judges.
    pub policy: Policy,
}

/// Which of its sources a jail reads on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads<'a> {
    /// These journal matches.
    Journal(&'a [String]),
    /// These files, as they appear.
    Files(&'a [String]),
    /// It has nothing to read here.
    Nothing,
}

/// A host name as `[allow] names` has it, in lower case.
///
/// # Errors
/// Why it is none.
pub fn host_name(text: &str) -> Result<String, String> {
    words::host_name(text).map_err(|(why, _)| why)
}

/// An entry of a jail's `files`: an absolute path, with or without wildcards.
///
/// # Errors
/// Why it is none.
pub fn log_path(text: &str) -> Result<String, String> {
    words::glob(text).map_err(|(why, _)| why)
}

/// A journal match as the config has it: `FIELD=VALUE [FIELD=VALUE...]`.
///
/// # Errors
/// Why it is none.
pub fn journal_match(text: &str) -> Result<String, String> {
    words::journal(text).map_err(|(why, _)| why)
}

/// Whether any local user can write records that this journal match takes.
///
/// Of the fields that journald fills in itself (systemd.journal-fields(7)), a process chooses its own name, command line
/// and program; only who it belongs to is not its choice: the user, and the unit that systemd runs it in. A unit of a
/// user's own session is his.
pub fn forgeable(text: &str) -> bool {
    let terms = || text.split_ascii_whitespace().filter_map(|term| term.split_once('='));
    let whose = |(field, value): (&str, &str)| match field {
        "_UID" | "_GID" | "_SELINUX_CONTEXT" | "_AUDIT_LOGINUID" => true,
        "_SYSTEMD_UNIT" => !value.starts_with("user@") && !value.starts_with("session-"),
        "_SYSTEMD_SLICE" => !value.starts_with("user"),
        "_TRANSPORT" => matches!(value, "audit" | "kernel" | "driver"),
        _ => false,
    };
    // Of a field with several values one is enough for the journal: so each has to say whose it is.
    !terms().any(|(field, _)| terms().filter(|(other, _)| *other == field).all(whose))
}

impl Jail {
    /// What to read where the journal can be read (`journal_available`) or cannot: the journal
    /// matches if there are any and the journal can be read, otherwise the files. The rule is the
    /// same for built-in and for written sources.
    pub fn reads(&self, journal_available: bool) -> Reads<'_> {
        if journal_available && !self.journal.is_empty() {
            Reads::Journal(&self.journal)
        } else if !self.files.is_empty() {
            Reads::Files(&self.files)
        } else {
            Reads::Nothing
        }
    }
}
