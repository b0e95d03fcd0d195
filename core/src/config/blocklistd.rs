//! `[blocklistd]`: the socket on which programs that know the address themselves report it, as
//! NetBSD's and FreeBSD's sshd, ftpd, named and others do. Section type, keys, reader and writer in one place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use toml::de::DeTable;

use super::Jail;
use super::error::{At, Gather, Problem};
use super::nearest::{hint, shown};
use super::show::{line, list, quoted};
use super::values::Reading;
use super::words::{self, Wrong};
use crate::attack::JailName;
use crate::bans::wall::Ports;

/// Keys of `[blocklistd]`.
pub(super) const BLOCKLISTD_KEYS: &[&str] = &["socket", "users", "jail"];

/// More users than this that run servers are a mistake.
const USERS_MAX: usize = 64;

/// `[blocklistd]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocklistd {
    /// Where the socket is; `None`: there is none.
    pub socket: Option<String>,
    /// Whose reports are believed, by name.
    pub users: BTreeSet<String>,
    /// The jail of what is reported for a port that no jail with `reports = true` names.
    pub jail: Option<JailName>,
}

impl Default for Blocklistd {
    fn default() -> Self {
        Self { socket: None, users: BTreeSet::from(["root".to_owned()]), jail: None }
    }
}

impl Blocklistd {
    /// The jail that a report about this local port is for: the first enabled one with
    /// `reports = true` whose `ports` hold it, else the section's.
    pub fn jail_for<'a>(&'a self, jails: &'a BTreeMap<JailName, Jail>, port: Option<u16>) -> Option<&'a JailName> {
        let names = |jail: &&Jail| match (&jail.policy.ports, port) {
            (Ports::Only(ports), Some(port)) => ports.contains(&port),
            _ => false,
        };
        let own = jails.values().filter(|jail| jail.enabled && jail.reports).find(names).map(|jail| &jail.name);
        own.or(self.jail.as_ref())
    }
}

#[derive(Debug, Default)]
pub(super) struct RawBlocklistd {
    socket: Option<At<String>>,
    users: Option<At<Vec<String>>>,
    jail: Option<At<String>>,
}

impl RawBlocklistd {
    /// Adds what a later file wrote.
    pub(super) fn merge(&mut self, later: Self) {
        self.socket = later.socket.or(self.socket.take());
        self.users = later.users.or(self.users.take());
        self.jail = later.jail.or(self.jail.take());
    }
}

impl Reading<'_> {
    /// Reads the section.
    pub(super) fn blocklistd(&mut self, table: &DeTable<'_>) -> RawBlocklistd {
        let mut raw = RawBlocklistd::default();
        for (key, value) in table {
            let name: &str = key.get_ref();
            match name {
                "socket" => raw.socket = self.parsed(name, value, words::file).map(|typed| self.at(value, typed)),
                "users" => raw.users = self.texts(name, value, ("a list of user names like \"root\"", USERS_MAX), user),
                "jail" => raw.jail = self.parsed(name, value, jail).map(|typed| self.at(value, typed)),
                _ => self.unknown(key, "in [blocklistd]", BLOCKLISTD_KEYS),
            }
        }
        raw
    }
}

fn jail(text: &str) -> Result<String, Wrong> {
    if words::is_jail_name(text) { Ok(text.to_owned()) } else { Err((format!("`{}` cannot be a jail's name", shown(text)), None)) }
}

/// A user's name as useradd(8) has it, with a margin for directories of users elsewhere.
fn user(text: &str) -> Result<String, Wrong> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-@+$".contains(&b);
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(good) && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err((format!("`{}` cannot be a user's name", shown(text)), None))
    }
}

/// What was typed, over the defaults. Told: a jail that does not exist or takes no reports.
pub(super) fn mean(raw: RawBlocklistd, jails: &BTreeMap<JailName, Jail>, errors: &mut Gather) -> Blocklistd {
    let default = Blocklistd::default();
    let jail = raw.jail.map(|typed| {
        let name = JailName::from(typed.value.as_str());
        if !jails.contains_key(&name) {
            let known: Vec<&str> = jails.keys().map(|name| name.0.as_ref()).collect();
            errors.tell(typed.at, Problem::Missing(format!("there is no jail `{name}` for the reports")), hint(&name.0, &known));
        }
        name
    });
    if let Some(typed) = raw.socket.as_ref().filter(|_| jail.is_none() && !jails.values().any(|jail| jail.reports)) {
        let message = "nobody takes what is reported on this socket".to_owned();
        let hint = "write `reports = true` and `ports` in the jails that take it, or `jail = \"NAME\"` here for all of it".to_owned();
        errors.tell(typed.at, Problem::Missing(message), Some(hint));
    }
    Blocklistd {
        socket: raw.socket.map(|typed| typed.value),
        users: raw.users.map_or(default.users, |typed| typed.value.into_iter().collect()),
        jail,
    }
}

/// The section as TOML again; nothing where there is no socket.
pub(super) fn show(out: &mut String, section: &Blocklistd) {
    if *section == Blocklistd::default() {
        return;
    }
    let _ = write!(out, "\n[blocklistd]\n");
    if let Some(socket) = &section.socket {
        line(out, "socket", quoted(socket));
    }
    line(out, "users", list(&section.users));
    if let Some(jail) = &section.jail {
        line(out, "jail", quoted(jail));
    }
}
