//! Sockets that rules of ours do not reach, or that tell that packets get no answer.
//!
//! A UDP server on all addresses has no source when it answers: the kernel asks for the route first and takes that
//! route's source, so the answer to a query that came by a tunnel leaves by the usual uplink from another address. No
//! rule on the source can help; only the server can, by binding to each address.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use palisade_core::net::{Family, Prefix};

use crate::netlink::FAMILIES;
use crate::netlink::sock_diag::{self, Protocol, Sock, state};
use crate::netlink::socket::{SOCK_DIAG, Socket};

/// Most descriptors of a process that are looked at: servers with so many have their sockets among the first.
const MOST_DESCRIPTORS: usize = 65_536;
/// Most sockets that are told.
const MOST_SOCKETS: usize = 4096;
/// `TASK_COMM_LEN`, and its line's end.
const MOST_NAME: u64 = 64;

/// A UDP socket on all addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WildcardUdp {
    /// `::` or `0.0.0.0`. One on `::` usually hears IPv4 too.
    pub family: Family,
    /// Where it listens.
    pub port: u16,
    /// What `/proc/PID/fd` calls it.
    pub inode: u32,
    /// A process that holds it; unknown without the right to look.
    pub pid: Option<u32>,
    /// What that process is called.
    pub comm: Option<String>,
}

/// The UDP sockets of the calling thread's network namespace that are bound to a port on all addresses and to no peer.
///
/// # Errors
/// `ENOENT` where the kernel cannot list them (CONFIG_INET_UDP_DIAG).
pub fn wildcard_udp() -> io::Result<Vec<WildcardUdp>> {
    let all = |sock: &Sock| sock.local_port != 0 && sock.local.ip().is_unspecified();
    let socks = listed(Protocol::Udp, 1 << state::CLOSE, all)?;
    let holders = holders(Path::new("/proc"), &socks);
    let mut found: Vec<WildcardUdp> = socks
        .iter()
        .map(|sock| {
            let (pid, comm) = holders.get(&sock.inode).cloned().unzip();
            WildcardUdp { family: sock.family, port: sock.local_port, inode: sock.inode, pid, comm }
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// The TCP connections from these sources, in the calling thread's network namespace, that wait for the first answer
/// (`SYN-SENT`).
pub fn connecting_from(sources: &[Prefix]) -> io::Result<Vec<Sock>> {
    listed(Protocol::Tcp, 1 << state::SYN_SENT, |sock| sources.iter().any(|source| source.contains(sock.local)))
}

fn listed(protocol: Protocol, states: u32, keep: impl Fn(&Sock) -> bool) -> io::Result<Vec<Sock>> {
    let mut diag = Socket::open(SOCK_DIAG)?;
    let mut socks = Vec::new();
    for family in FAMILIES {
        match sock_diag::list(&mut diag, family, protocol, states, &keep) {
            Ok(found) => socks.extend(found),
            // A kernel without IPv6.
            Err(error) if family == Family::V6 && error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    socks.truncate(MOST_SOCKETS);
    Ok(socks)
}

/// Who holds these sockets, by inode. Processes that we may not look into hold none.
fn holders(proc: &Path, socks: &[Sock]) -> HashMap<u32, (u32, String)> {
    let mut held = HashMap::new();
    let pids = fs::read_dir(proc).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        if held.len() == socks.len() {
            break;
        }
        let dir = proc.join(pid.to_string());
        for entry in fs::read_dir(dir.join("fd")).into_iter().flatten().flatten().take(MOST_DESCRIPTORS) {
            if let Some(inode) = inode(&entry.path())
                && socks.iter().any(|sock| sock.inode == inode)
            {
                held.entry(inode).or_insert_with(|| (pid, comm(&dir)));
            }
        }
    }
    held
}

fn inode(link: &Path) -> Option<u32> {
    fs::read_link(link).ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn comm(dir: &Path) -> String {
    let mut bytes = Vec::new();
    // A process that just ended has no name any more.
    let _ = File::open(dir.join("comm")).and_then(|file| file.take(MOST_NAME).read_to_end(&mut bytes));
    String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;
    use palisade_core::net::Addr;
    use std::net::{SocketAddr, TcpStream, UdpSocket};
    use std::time::Duration;

    #[test]
    fn servers_on_all_addresses_are_found_with_their_process() {
        let ns = Netns::new().unwrap();
        let found = ns.within(|| {
            let sh = |args: &[&str]| assert!(std::process::Command::new("ip").args(args).status().unwrap().success());
            sh(&["link", "set", "lo", "up"]);
            let open = [UdpSocket::bind("0.0.0.0:5353").unwrap(), UdpSocket::bind("[::]:53").unwrap()];
            let _others = [UdpSocket::bind("127.0.0.1:54").unwrap(), UdpSocket::bind("0.0.0.0:0").unwrap()];
            _others[1].connect("127.0.0.1:54").unwrap();
            let found = wildcard_udp().unwrap();
            drop(open);
            found
        });
        let found = found.unwrap();
        let told: Vec<_> = found.iter().map(|udp| (udp.family, udp.port, udp.pid)).collect();
        let me = Some(std::process::id());
        assert_eq!(told, [(Family::V4, 5353, me), (Family::V6, 53, me)]);
        assert!(found.iter().all(|udp| udp.comm.as_ref().is_some_and(|comm| !comm.is_empty())));
    }

    #[test]
    fn connections_that_wait_for_an_answer_are_found_by_source() {
        let ns = Netns::new().unwrap();
        let far = Netns::new().unwrap();
        let mut wiring = ns.wiring().unwrap();
        let own: Addr = "192.0.2.1".parse().unwrap();
        wiring.cable("out", &far, "in").unwrap();
        wiring.up("out").unwrap();
        far.wiring().unwrap().up("in").unwrap();
        wiring.add_address("out", own).unwrap();
        wiring.add_route("198.51.100.0/24".parse().unwrap(), "out").unwrap();
        let (mine, others) = ns
            .within(|| {
                let wait = std::thread::spawn(|| {
                    let at: SocketAddr = "198.51.100.9:7".parse().unwrap();
                    TcpStream::connect_timeout(&at, Duration::from_secs(2)).is_ok()
                });
                let mut mine = Vec::new();
                while mine.is_empty() && !wait.is_finished() {
                    mine = connecting_from(&["192.0.2.0/24".parse().unwrap()]).unwrap();
                }
                let others = connecting_from(&["203.0.113.0/24".parse().unwrap()]).unwrap();
                assert!(!wait.join().unwrap());
                (mine, others)
            })
            .unwrap();
        assert_eq!(mine.iter().map(|sock| (sock.local, sock.remote_port)).collect::<Vec<_>>(), [(own, 7)]);
        assert_eq!(others, []);
    }
}
