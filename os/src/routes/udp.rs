//! UDP sockets that are bound to no address: with several uplinks they answer from the wrong one.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use palisade_core::net::Family;
use palisade_core::route::check::Listener;

use crate::links::sessions;
use crate::netlink::sock_diag::{self, Protocol, state};
use crate::netlink::socket::{SOCK_DIAG, Socket};

/// So many processes are looked at for whose socket it is; on a larger host some stay unknown.
const PROCESSES: usize = 65_536;

/// Every one of them in the calling thread's network namespace, each port of a program once.
///
/// # Errors
/// Where the kernel cannot list its sockets.
pub fn wildcard() -> io::Result<Vec<Listener>> {
    let mut socket = Socket::open(SOCK_DIAG)?;
    let mut found: BTreeMap<u32, (Family, u16)> = BTreeMap::new();
    for family in [Family::V4, Family::V6] {
        // An unconnected UDP socket is in the state that TCP calls closed.
        let listed = sock_diag::list(&mut socket, family, Protocol::Udp, 1 << state::CLOSE, |sock| {
            sock.local.ip().is_unspecified() && sock.local_port != 0
        });
        match listed {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {}
            listed => found.extend(listed?.into_iter().map(|sock| (sock.inode, (family, sock.local_port)))),
        }
    }
    let owners = owners(&found);
    let mut all: Vec<Listener> = found
        .iter()
        .map(|(inode, (family, port))| Listener { family: *family, port: *port, program: owners.get(inode).cloned() })
        .collect();
    all.sort_by(|a, b| (a.port, a.family, &a.program).cmp(&(b.port, b.family, &b.program)));
    all.dedup();
    Ok(all)
}

/// The programs that hold these sockets, as far as we may see.
fn owners(inodes: &BTreeMap<u32, (Family, u16)>) -> BTreeMap<u32, String> {
    let mut owners = BTreeMap::new();
    if inodes.is_empty() {
        return owners;
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    for process in numbered.take(PROCESSES) {
        let Some(inode) = sessions::sockets(&process.path()).find(|inode| inodes.contains_key(inode)) else { continue };
        if let Ok(name) = fs::read_to_string(process.path().join("comm")) {
            let held = sessions::sockets(&process.path()).filter(|inode| inodes.contains_key(inode)).chain([inode]).collect::<Vec<u32>>();
            owners.extend(held.into_iter().map(|inode| (inode, name.trim_end().to_owned())));
        }
    }
    owners
}
