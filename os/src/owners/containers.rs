//! Containers: the network namespaces of this machine that are not ours, by the processes in them.
//!
//! | file in `/proc/PID/net` | what is read |
//! |---|---|
//! | `fib_trie` | under `\|-- 192.0.2.1` a line `/32 host LOCAL`: an address of that namespace |
//! | `if_inet6` | the same of IPv6, in 32 digits at the beginning of the line |
//! | `tcp`, `tcp6`, `udp`, `udp6` | `sl local:port remote:port state queues timer retransmits uid timeout inode ...`, addresses as words of 32 bits in host order |
//!
//! Source: proc_pid_net(5), net/ipv4/fib_trie.c, net/ipv6/addrconf.c, net/ipv4/tcp_ipv4.c.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};

use palisade_core::flood::owner::Process;
use palisade_core::net::{Addr, Family};

use super::processes::{self, Entry, Names};

/// Most namespaces looked at, and most processes remembered of each.
const MOST_NAMESPACES: usize = 4096;
const MOST_PROCESSES: usize = 4096;

/// Most bytes read of one of these files: about 100,000 sockets or routes.
const MOST_BYTES: u64 = 16 << 20;

/// The processes of the namespaces that have this address, with the sockets each holds that are not of loopback, most first; where nobody holds
/// one, the first process there. Also whether some processes could not be looked into.
pub(super) fn processes(addr: Addr, names: &mut Names) -> io::Result<(Vec<(Process, u32)>, bool)> {
    let (spaces, mut barred) = others()?;
    let mut told = Vec::new();
    for entries in spaces.into_values() {
        let Some(first) = entries.iter().map(|entry| entry.pid).min() else { continue };
        if !has(&entries, addr) {
            continue;
        }
        let sockets = sockets(&entries, addr);
        let found = processes::holding(&sockets, entries);
        barred |= found.barred && found.pids.len() < sockets.len();
        let mut counts = BTreeMap::<u32, (u32, u32)>::new();
        for (inode, pid) in found.pids {
            let count = counts.entry(pid).or_insert((sockets.get(&inode).copied().unwrap_or_default(), 0));
            count.1 += 1;
        }
        if counts.is_empty() {
            counts.insert(first, (processes::user_of(first).unwrap_or_default(), 0));
        }
        told.extend(counts.into_iter().map(|(pid, (uid, count))| (names.process(pid, uid), count)));
    }
    told.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok((told, barred))
}

/// The processes of every network namespace but ours, and whether there are some of which it cannot be told.
fn others() -> io::Result<(HashMap<String, Vec<Entry>>, bool)> {
    let ours = fs::read_link("/proc/thread-self/ns/net")?;
    let (mut spaces, mut barred) = (HashMap::<String, Vec<Entry>>::new(), false);
    for entry in processes::all()? {
        match fs::read_link(format!("/proc/{}/ns/net", entry.pid)) {
            Ok(space) if space == ours => {}
            Ok(space) => {
                let (room, space) = (spaces.len() < MOST_NAMESPACES, space.to_string_lossy().into_owned());
                match spaces.get_mut(&space) {
                    Some(entries) if entries.len() < MOST_PROCESSES => entries.push(entry),
                    None if room => _ = spaces.insert(space, vec![entry]),
                    _ => {}
                }
            }
            Err(error) => barred |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    Ok((spaces, barred))
}

/// Lines of a file of the first of these processes that is still there.
fn lines(entries: &[Entry], name: &str) -> impl Iterator<Item = String> + use<> {
    let file = entries.iter().find_map(|entry| File::open(format!("/proc/{}/net/{name}", entry.pid)).ok());
    file.into_iter().flat_map(|file| BufReader::new(file.take(MOST_BYTES)).lines().map_while(Result::ok))
}

fn has(entries: &[Entry], addr: Addr) -> bool {
    match addr.family() {
        Family::V4 => in_fib(lines(entries, "fib_trie"), addr),
        Family::V6 => lines(entries, "if_inet6").any(|line| line.get(..32).and_then(plain) == Some(addr)),
    }
}

fn in_fib(lines: impl Iterator<Item = String>, addr: Addr) -> bool {
    let mut leaf = None;
    for line in lines {
        let line = line.trim();
        if let Some(found) = line.strip_prefix("|-- ") {
            leaf = found.parse().ok();
        } else if leaf == Some(addr) && line.starts_with("/32 ") && line.ends_with(" LOCAL") {
            return true;
        }
    }
    false
}

/// 32 digits, byte after byte.
fn plain(digits: &str) -> Option<Addr> {
    Some(u128::from_str_radix(digits, 16).ok()?.to_be_bytes()).and_then(|bytes| Addr::from_octets(&bytes))
}

/// The sockets of a namespace that may send from this address: inode, and whose.
fn sockets(entries: &[Entry], addr: Addr) -> HashMap<u32, u32> {
    let all = ["tcp", "tcp6", "udp", "udp6"].into_iter().flat_map(|name| lines(entries, name));
    all.filter_map(|line| row(&line))
        .filter(|row| row.local == addr || row.local.ip().is_unspecified())
        .map(|row| (row.inode, row.uid))
        .collect()
}

/// A line of `tcp`, `tcp6`, `udp` or `udp6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    local: Addr,
    uid: u32,
    inode: u32,
}

fn row(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace();
    let local = words(fields.nth(1)?.split_once(':')?.0)?;
    let uid = fields.nth(5)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok().filter(|inode| *inode != 0)?;
    Some(Row { local, uid, inode })
}

/// 8 or 32 digits, as words of 32 bits in host order.
fn words(digits: &str) -> Option<Addr> {
    let words = digits.as_bytes().chunks(8).take(5).map(|chunk| u32::from_str_radix(std::str::from_utf8(chunk).ok()?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    Addr::from_octets(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_and_sockets_are_read_as_the_kernel_writes_them() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.7\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\nLocal:\n";
        let has = |addr: &str| in_fib(trie.lines().map(str::to_owned), addr.parse().unwrap());
        assert!(has("192.0.2.7") && !has("192.0.2.0") && !has("192.0.2.255") && !has("192.0.2.8"));
        assert_eq!(plain("20010db8000000000000000000000001").map(|addr| addr.to_string()).as_deref(), Some("2001:db8::1"));

        let local = u32::from_ne_bytes([192, 0, 2, 7]);
        let line =
            format!("   0: {local:08X}:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 12345 1 0 100 0 0 10 0");
        assert_eq!(row(&line), Some(Row { local: "192.0.2.7".parse().unwrap(), uid: 33, inode: 12345 }));
        let six: String =
            [[0x20, 1, 0x0d, 0xb8], [0; 4], [0; 4], [0, 0, 0, 7]].map(|word| format!("{:08X}", u32::from_ne_bytes(word))).concat();
        assert_eq!(words(&six).map(|addr| addr.to_string()).as_deref(), Some("2001:db8::7"));
        for none in [
            "",
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            "0: x:1 y:1 0 0 0 0 0 0 0",
        ] {
            assert_eq!(row(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(line in "([0-9a-fA-F: ]{0,60}|\\PC{0,60}|\\|-- [0-9.]{0,15})") {
            let _ = (row(&line), words(&line), plain(&line), in_fib([line.clone(), line.clone()].into_iter(), "192.0.2.1".parse().unwrap()));
        }
    }
}
