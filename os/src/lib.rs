//! The hands of Palisade: everything that touches the machine, and nothing that decides.
//!
//! The only crate with `unsafe`; each block argues its case.
//!
//! | room | what it holds |
//! |---|---|
//! | [`netlink`] | Linux: one socket, one codec; nf_tables, conntrack, sock_diag and rtnetlink on top |
//! | `bsd` | FreeBSD: kqueue and sysctl |
//! | [`block`] | `trait Blocker`, one file a firewall |
//! | [`flows`] | ending a prefix's connections; Linux: a census of all |
//! | [`limits`] | Linux: limits of who floods and timeouts of services, in a table of nftables of our own |
//! | [`links`] | own addresses, gateways, resolvers, admin sessions |
//! | [`netns`] | Linux: a small network of our own, for `palisade demo` and for tests |
//! | [`logs`] | files, journal, standard input |
//! | [`owners`] | who is behind an address: processes, containers, neighbours, leases |
//! | [`reports`] | the socket of programs that report attackers themselves (blocklistd) |
//! | [`routes`] | rules and routes: read, changed, watched, asked; Linux: connection marks |
//! | [`sysctl`] | Linux: switches below /proc/sys/net |
//! | [`tunnels`] | Linux: 6in4 and GRE interfaces; WireGuard's handshakes |
//! | [`wake`] | the only ways a thread may block |
//! | [`clock`] | both clocks at once |
//! | [`files`] | files in folders of others, opened and replaced |
//! | [`ram`] | Linux: how much memory there is |
//! | [`errors`] | an error with its causes, on one line |
//! | [`privileges`] | who we are, what we may, who else is there |
//! | [`probe`] | Linux: echo requests from an uplink's own source |
//! | [`process`] | children, and what the service manager is told |
//!
//! A room that needs the kernel's own ways has them in files named after the system or its interface
//! (`linux`, `inotify`, `freebsd`, `kqueue`), of which it takes one, in one place: its first file, or
//! `logs/files/watcher.rs`. What crosses to the other rooms is the same on every system.
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
compile_error!("Palisade's hands know Linux and FreeBSD; for another system, give each room that has a file for these one for it too");

pub mod block;
#[cfg(target_os = "freebsd")]
pub(crate) mod bsd;
pub mod clock;
pub mod errors;
pub mod files;
pub mod flows;
#[cfg(target_os = "linux")]
pub mod limits;
pub mod links;
pub mod logs;
#[cfg(target_os = "linux")]
pub mod netlink;
#[cfg(target_os = "linux")]
pub mod netns;
pub mod owners;
pub mod privileges;
#[cfg(target_os = "linux")]
pub mod probe;
pub mod process;
#[cfg(target_os = "linux")]
pub mod ram;
pub mod reports;
pub mod routes;
#[cfg(target_os = "linux")]
pub mod sysctl;
pub mod tunnels;
pub mod wake;
