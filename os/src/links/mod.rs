//! What the allow list's automatic members need, as plain data: our own addresses, the gateways,
//! the resolvers, and the peers of live administration sessions.
//!
//! | file | what it reads |
//! |---|---|
//! | [`resolv`] | resolv.conf(5) |
//! | `sshd`, `sshd_ports` | what an ssh server's processes look like, and where it listens |
//! | `linux` | how the kernel is asked on Linux, with the next three |
//! | [`route`] | rtnetlink: addresses, default routes, what changed |
//! | [`utmp`] | utmp(5) |
//! | [`sessions`] | who is logged in over ssh, and what counts as proof of it |
//! | `freebsd` | the same on FreeBSD, with the next two |
//! | `rtsock` | route(4) |
//! | `processes` | processes and their sockets by sysctl(3) |

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(target_os = "freebsd", test))]
mod processes;
pub mod resolv;
#[cfg(target_os = "linux")]
pub mod route;
#[cfg(any(target_os = "freebsd", test))]
mod rtsock;
#[cfg(target_os = "linux")]
pub mod sessions;
mod sshd;
mod sshd_ports;
#[cfg(target_os = "linux")]
pub mod utmp;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use palisade_core::net::Addr;

#[cfg(target_os = "freebsd")]
use freebsd::{Kernel, default_paths};
#[cfg(target_os = "linux")]
use linux::{Kernel, default_paths};

/// Where this host keeps what is read; tests put their own there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Files in the format of resolv.conf(5). The second by default: behind the stub resolver
    /// 127.0.0.53 of the first, systemd-resolved asks the servers named there.
    pub resolv_conf: Vec<PathBuf>,
    /// procfs; not read on FreeBSD.
    pub proc: PathBuf,
    /// The database of logins; on FreeBSD only when it changed is looked at.
    pub utmp: PathBuf,
    /// logind's session files; not read on FreeBSD.
    pub sessions: PathBuf,
    /// Where the user id of sshd's unprivileged process is looked up.
    pub passwd: PathBuf,
    /// sshd's configuration, for the ports it listens on.
    pub sshd_config: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        default_paths()
    }
}

/// What surrounds this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbourhood {
    /// All addresses of all interfaces, loopback included.
    pub own: BTreeSet<Addr>,
    /// The next hops of default routes in all tables. Of link-local ones the link is not kept.
    pub gateways: BTreeSet<Addr>,
    /// The name servers asked.
    pub resolvers: BTreeSet<Addr>,
}

/// What could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct LinkError {
    /// What was tried.
    what: String,
    /// What the system said.
    #[source]
    source: io::Error,
}

impl LinkError {
    fn new(what: impl Into<String>, source: io::Error) -> Self {
        Self { what: what.into(), source }
    }
}

/// The links, routes and sessions of the network namespace it was opened in.
///
/// Its descriptor becomes readable when links, addresses or routes may have changed; see
/// [`Links::drain`]. Files (resolvers, sessions) do not wake it: look again on a timer.
#[derive(Debug)]
pub struct Links {
    paths: Paths,
    kernel: Kernel,
}

impl Links {
    /// Opens its sockets in the calling thread's network namespace and begins to watch.
    pub fn open(paths: Paths) -> Result<Self, LinkError> {
        Ok(Self { paths, kernel: Kernel::open()? })
    }

    /// What surrounds us now. A resolver file that is not there has no resolvers.
    pub fn snapshot(&mut self) -> Result<Neighbourhood, LinkError> {
        let own = self.kernel.own().map_err(|e| LinkError::new("list own addresses", e))?;
        let gateways = self.kernel.gateways().map_err(|e| LinkError::new("list default routes", e))?;
        let mut resolvers = BTreeSet::new();
        for path in &self.paths.resolv_conf {
            resolvers.extend(resolv::nameservers(&read_some(path, resolv::MOST_BYTES)?));
        }
        Ok(Neighbourhood { own, gateways, resolvers })
    }

    /// Reads all waiting notifications: whether a new snapshot may differ. Never blocks.
    pub fn drain(&mut self) -> Result<bool, LinkError> {
        self.kernel.changed().map_err(|e| LinkError::new("read notifications of links and routes", e))
    }

    /// When the databases of logins last changed (utmp, logind's sessions). Two `stat`s, where looking
    /// for sessions lists every TCP connection: cheap enough to ask each second whether to look.
    pub fn logins_changed(&self) -> [Option<SystemTime>; 2] {
        [&self.paths.utmp, &self.paths.sessions].map(|path| path.metadata().and_then(|meta| meta.modified()).ok())
    }

    /// The peers of live, *authenticated* ssh sessions on the ports that sshd's configuration names.
    /// The system's own file (`sessions`, `freebsd`) says what counts.
    pub fn admin_sessions(&mut self) -> Result<BTreeSet<Addr>, LinkError> {
        let ports: Vec<u16> = sshd_ports::configured(&self.paths.sshd_config).into_iter().collect();
        self.admin_sessions_on(&ports)
    }

    /// The same on these ports, and no others.
    pub fn admin_sessions_on(&mut self, ports: &[u16]) -> Result<BTreeSet<Addr>, LinkError> {
        self.kernel.admins(&self.paths, ports)
    }
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kernel.as_fd()
    }
}

/// At most `most` bytes of a file; nothing where there is none.
fn read_some(path: &Path, most: u64) -> Result<Vec<u8>, LinkError> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(LinkError::new(format!("read {}", path.display()), error)),
    }
}

/// An address with or without zone (`fe80::1%eth0`) and brackets. The zone is dropped: prefixes have none.
fn lenient_addr(text: &str) -> Option<Addr> {
    let text = text.trim();
    let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    text.split_once('%').map_or(text, |(addr, _)| addr).parse().ok()
}

/// The client in the value of `SSH_CONNECTION`, which sshd gives to what it starts (ssh(1)):
/// client address, client port, server address, server port. `None` for anything else.
pub fn ssh_connection_peer(value: &str) -> Option<Addr> {
    let fields: Vec<&str> = value.split_ascii_whitespace().collect();
    let [client, client_port, server, server_port] = fields[..] else { return None };
    let port = |text: &str| text.parse::<u16>().is_ok_and(|port| port != 0);
    lenient_addr(server)?;
    lenient_addr(client).filter(|_| port(client_port) && port(server_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_ssh_connection() {
        let peer = |text| ssh_connection_peer(text).map(|addr| addr.to_string());
        assert_eq!(peer("198.51.100.20 55122 192.0.2.1 22").as_deref(), Some("198.51.100.20"));
        assert_eq!(peer("2001:db8::5 55122 2001:db8::1 22").as_deref(), Some("2001:db8::5"));
        assert_eq!(peer("fe80::5%eth0 55122 fe80::1%eth0 22").as_deref(), Some("fe80::5"));
        assert_eq!(peer("::ffff:198.51.100.20 55122 ::ffff:192.0.2.1 22").as_deref(), Some("198.51.100.20"));
        for wrong in ["", "198.51.100.20", "198.51.100.20 x 192.0.2.1 22", "198.51.100.20 1 192.0.2.1 22 9", "UNKNOWN 65535 UNKNOWN 65535"]
        {
            assert_eq!(peer(wrong), None, "{wrong}");
        }
    }
}
