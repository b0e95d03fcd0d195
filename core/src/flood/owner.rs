//! Who is behind an address.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process, as far as it can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its number, 0 where only its user is known.
    pub pid: u32,
    /// Its name (`comm`, at most 15 bytes), empty where unknown.
    pub comm: String,
    /// Whose it is.
    pub uid: u32,
    /// That user's name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The unit, container or other control group it runs in: `nginx.service`, `docker-3f2a...`; the path where it is none of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl fmt::Display for Process {
    /// `firefox (pid 4211, user anna)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.clone().unwrap_or_else(|| self.uid.to_string());
        match (self.pid, self.comm.is_empty()) {
            (0, _) => write!(f, "a process of user {user}")?,
            (pid, true) => write!(f, "pid {pid}, user {user}")?,
            (pid, false) => write!(f, "{} (pid {pid}, user {user})", self.comm)?,
        }
        self.unit.as_ref().map_or(Ok(()), |unit| write!(f, " of {unit}"))
    }
}

/// What is known of an address beside its flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Its link-layer address, where it is a neighbour: `52:54:00:12:34:56`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The interface it is a neighbour on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// What it called itself when it asked for its address, where a lease tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Processes that hold sockets from or to it, most first: of this host, or of a container that has the address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<(Process, u32)>,
}

impl fmt::Display for Behind {
    /// `annas-laptop, 52:54:00:12:34:56 on lan0`; empty where nothing is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.host.iter().cloned().collect();
        let on = |mac: &String| self.interface.as_ref().map_or_else(|| mac.clone(), |interface| format!("{mac} on {interface}"));
        parts.extend(self.mac.as_ref().map(on));
        parts.extend(self.processes.first().map(|(process, _)| process.to_string()));
        f.write_str(&parts.join(", "))
    }
}
