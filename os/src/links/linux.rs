//! Linux: rtnetlink, sock_diag, procfs, logind.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use palisade_core::net::Addr;

use super::{LinkError, Paths, route, sessions};
use crate::netlink::socket::{ROUTE, SOCK_DIAG, Socket};

/// Where what is read is kept.
pub(super) fn default_paths() -> Paths {
    Paths {
        resolv_conf: vec!["/etc/resolv.conf".into(), "/run/systemd/resolve/resolv.conf".into()],
        proc: "/proc".into(),
        utmp: "/run/utmp".into(),
        sessions: "/run/systemd/sessions".into(),
        passwd: "/etc/passwd".into(),
        sshd_config: "/etc/ssh/sshd_config".into(),
    }
}

/// The sockets to the kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    watch: Socket,
    query: Socket,
    diag: Socket,
}

impl Kernel {
    /// Opens them in the calling thread's network namespace and begins to watch.
    pub(super) fn open() -> Result<Self, LinkError> {
        let fail = |error| LinkError::new("open netlink to links and routes", error);
        let watch = Socket::open(ROUTE).map_err(fail)?;
        for group in route::GROUPS {
            watch.join(group).map_err(fail)?;
        }
        Ok(Self {
            watch,
            query: Socket::open(ROUTE).map_err(fail)?,
            diag: Socket::open(SOCK_DIAG).map_err(|e| LinkError::new("open netlink to the sockets (CONFIG_INET_DIAG)", e))?,
        })
    }

    /// The addresses of all interfaces.
    pub(super) fn own(&mut self) -> io::Result<BTreeSet<Addr>> {
        route::addresses(&mut self.query)
    }

    /// The next hops of the default routes in all tables.
    pub(super) fn gateways(&mut self) -> io::Result<BTreeSet<Addr>> {
        route::gateways(&mut self.query)
    }

    /// Reads what waits: whether addresses or routes that lead out may have changed.
    pub(super) fn changed(&mut self) -> io::Result<bool> {
        route::drain(&mut self.watch)
    }

    /// The peers of authenticated ssh sessions on these ports.
    pub(super) fn admins(&mut self, paths: &Paths, ports: &[u16]) -> Result<BTreeSet<Addr>, LinkError> {
        sessions::admins(&mut self.diag, paths, ports)
    }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}
