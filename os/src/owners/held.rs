//! Processes by their sockets.
//!
//! A flow belongs to the socket with its addresses and ports; a flow of UDP else to the unconnected one of its source port, rather one
//! bound to its source than one bound to none.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use palisade_core::flood::census::Held;
use palisade_core::flood::flow::{self, Endpoint, Flow};
use palisade_core::flood::owner::{Behind, Process};
use palisade_core::net::{Addr, Family};
use palisade_core::time::Span;

use super::gone::{Newcomers, adopt, endpoint, has_sockets};
use super::processes::{self, Names};
use super::{MOST, containers, units};
use crate::links::route;
use crate::netlink::sock_diag::{self, Protocol, Sock};
use crate::netlink::socket::{ROUTE, SOCK_DIAG, Socket};
use crate::privileges::{self, Cap};
use crate::wake::poll;

/// Most sockets of one address that are looked at.
const MOST_SOCKETS: usize = 65_536;

/// Most sockets looked at of one family and protocol: about a microsecond each.
const MOST_LISTED: usize = 262_144;

/// Where there are more of one family and protocol than this, it is not looked again and again who opens some.
const MOST_WATCHED: usize = 65_536;

/// How often it is looked who opens sockets, and how long apart: a loop that opens a hundred a second is seen at it.
const LOOKS: usize = 4;
const BETWEEN: Span = Span::millis(15);

/// Of a socket what tells whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    inode: u32,
    uid: u32,
    cgroup: Option<u64>,
}

/// Who holds it, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Who {
    Process(u32),
    /// User and control group.
    Group(u32, Option<u64>),
}

/// See [`super::holders`].
pub(super) fn holders(sample: &[Flow], seen: u64) -> io::Result<Vec<Held>> {
    if sample.is_empty() {
        return Ok(Vec::new());
    }
    let own = route::addresses(&mut Socket::open(ROUTE)?)?;
    let local: Vec<&Flow> = sample.iter().filter(|flow| own.contains(&flow.source) || flow.source.ip().is_loopback()).collect();
    let mut wanted = Wanted::new(&local);
    let mut newcomers = Newcomers::to(&local);
    if !wanted.is_empty() {
        let most = each_socket(Family::V4, |sock| {
            wanted.offer(sock);
            newcomers.offer((sock.protocol.number(), sock.remote_port), sock.inode, holder(sock));
        })?;
        if most <= MOST_WATCHED {
            watch(&local, &wanted, &mut newcomers)?;
        }
    }
    let owned = wanted.found;
    let told = identify(owned.iter().flatten().chain(newcomers.seen.iter().map(|(_, holder)| holder)).copied())?;
    let mut who: Vec<Option<Who>> = owned.iter().map(|holder| holder.map(|holder| told.who(&holder))).collect();
    let opened: Vec<_> = newcomers.seen.iter().map(|(to, holder)| (*to, told.who(holder))).collect();
    adopt(&local, &mut who, &opened);
    Ok(rows(&local, &who, &told, &|count| scaled(count, seen, sample.len())))
}

/// Where most flows have no socket any more, looks a few times who opens some now.
fn watch(flows: &[&Flow], wanted: &Wanted<'_>, newcomers: &mut Newcomers<Holder>) -> io::Result<()> {
    let gone = flows.iter().zip(&wanted.found).filter(|(flow, found)| found.is_none() && has_sockets(flow)).count();
    if gone * 2 < flows.len() {
        return Ok(());
    }
    newcomers.begin();
    for _ in 0..LOOKS {
        let _ = poll(&[], None, Some(BETWEEN))?;
        each_socket(Family::V4, |sock| newcomers.offer((sock.protocol.number(), sock.remote_port), sock.inode, holder(sock)))?;
    }
    Ok(())
}

const fn holder(sock: &Sock) -> Holder {
    Holder { inode: sock.inode, uid: sock.uid, cgroup: sock.cgroup }
}

/// Flows that look for their sockets.
struct Wanted<'a> {
    flows: &'a [&'a Flow],
    exact: HashMap<(u8, Addr, u16, Addr, u16), usize>,
    by_port: HashMap<u16, Vec<usize>>,
    found: Vec<Option<Holder>>,
    rank: Vec<u8>,
}

impl<'a> Wanted<'a> {
    fn new(flows: &'a [&'a Flow]) -> Self {
        let (mut exact, mut by_port) = (HashMap::new(), HashMap::<u16, Vec<usize>>::new());
        for (i, flow) in flows.iter().enumerate() {
            if has_sockets(flow) {
                exact.insert((flow.protocol, flow.source, flow.source_port, flow.destination, flow.port), i);
            }
            if flow.protocol == flow::UDP {
                by_port.entry(flow.source_port).or_default().push(i);
            }
        }
        Self { flows, exact, by_port, found: vec![None; flows.len()], rank: vec![0; flows.len()] }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty()
    }

    /// Whether this socket is one of theirs.
    fn offer(&mut self, sock: &Sock) {
        let holder = holder(sock);
        if let Some(i) = self.exact.get(&(sock.protocol.number(), sock.local, sock.local_port, sock.remote, sock.remote_port)) {
            (self.found[*i], self.rank[*i]) = (Some(holder), u8::MAX);
        }
        if sock.protocol != Protocol::Udp || sock.remote_port != 0 {
            return;
        }
        for i in self.by_port.get(&sock.local_port).into_iter().flatten() {
            let source = self.flows[*i].source;
            let rank = match sock.local.ip().is_unspecified() {
                false if sock.local == source => 3,
                false => continue,
                true if sock.family == source.family() => 2,
                // A socket of IPv6 sends over IPv4 too; one of IPv4 does not over IPv6.
                true if source.family() == Family::V4 => 1,
                true => continue,
            };
            if rank > self.rank[*i] {
                (self.found[*i], self.rank[*i]) = (Some(holder), rank);
            }
        }
    }
}

/// Offers the sockets that somebody holds, of both protocols, of this family and those above it: IPv4 is also in the listings of IPv6.
/// At most [`MOST_LISTED`] of each; how many the longest listing had.
fn each_socket(least: Family, take: impl FnMut(&Sock)) -> io::Result<usize> {
    at_most(MOST_LISTED, least, take)
}

fn at_most(most: usize, least: Family, mut take: impl FnMut(&Sock)) -> io::Result<usize> {
    let (mut socket, mut longest) = (Socket::open(SOCK_DIAG)?, 0);
    for family in [Family::V4, Family::V6].into_iter().filter(|family| *family >= least) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let listed = sock_diag::first(&mut socket, family, protocol, sock_diag::state::HELD, most, |sock| {
                if sock.inode != 0 {
                    take(sock);
                }
            });
            match listed {
                // A kernel without IPv6 or without a module to list these has none to tell of.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                other => {
                    let (count, cut) = other?;
                    longest = longest.max(count);
                    if cut {
                        // Some of the listing is still to come on it.
                        socket = Socket::open(SOCK_DIAG)?;
                    }
                }
            }
        }
    }
    Ok(longest)
}

/// What was found out of holders.
#[derive(Debug, Default)]
struct Told {
    found: processes::Found,
    groups: HashMap<u64, units::Group>,
    users: HashMap<Who, u32>,
    /// Every process and whose it is.
    all: HashMap<u32, u32>,
}

impl Told {
    fn who(&self, holder: &Holder) -> Who {
        let by_group = || self.only(holder);
        self.found.pids.get(&holder.inode).copied().or_else(by_group).map_or(Who::Group(holder.uid, holder.cgroup), Who::Process)
    }

    /// The only process that it can be: alone in the socket's control group, or alone of its user in it.
    fn only(&self, holder: &Holder) -> Option<u32> {
        let group = self.groups.get(&holder.cgroup?)?;
        if let [pid] = group.processes[..] {
            return Some(pid);
        }
        let mut theirs = group.processes.iter().filter(|pid| self.all.get(pid) == Some(&holder.uid));
        theirs.next().filter(|_| theirs.next().is_none()).copied()
    }

    fn describe(&self, who: Who, names: &mut Names) -> Process {
        match who {
            Who::Process(pid) => names.process(pid, self.users.get(&who).copied().unwrap_or_default()),
            Who::Group(uid, group) => names.stranger(uid, group.and_then(|id| self.groups.get(&id)?.unit.clone())),
        }
    }
}

/// Looks for the processes of these sockets, and for the control groups of those whose process may not be seen.
fn identify(holders: impl Iterator<Item = Holder>) -> io::Result<Told> {
    let holders: Vec<Holder> = holders.collect();
    if holders.is_empty() {
        return Ok(Told::default());
    }
    let wanted: HashMap<u32, u32> = holders.iter().map(|holder| (holder.inode, holder.uid)).collect();
    let all = processes::all()?;
    let users = all.iter().map(|entry| (entry.pid, entry.uid)).collect();
    let mut told = Told { found: processes::holding(&wanted, all), all: users, ..Told::default() };
    let missing: HashSet<u64> =
        holders.iter().filter(|holder| !told.found.pids.contains_key(&holder.inode)).filter_map(|holder| holder.cgroup).collect();
    if !missing.is_empty() {
        told.groups = units::find(&missing);
    }
    for holder in &holders {
        let who = told.who(holder);
        told.users.entry(who).or_insert(holder.uid);
    }
    Ok(told)
}

fn rows(flows: &[&Flow], who: &[Option<Who>], told: &Told, scale: &dyn Fn(u32) -> u32) -> Vec<Held> {
    let mut counts = BTreeMap::<Who, (u32, HashMap<Endpoint, u32>)>::new();
    for (flow, who) in flows.iter().zip(who) {
        if let Some(who) = who {
            let (flows, to) = counts.entry(*who).or_default();
            *flows += 1;
            *to.entry(endpoint(flow)).or_default() += 1;
        }
    }
    let mut names = Names::default();
    let mut rows: Vec<Held> = counts
        .into_iter()
        .map(|(who, (flows, to))| {
            let mut ports = HashMap::<(u8, u16), u32>::new();
            to.iter().for_each(|(endpoint, count)| *ports.entry((endpoint.protocol, endpoint.port)).or_default() += count);
            let port = ports
                .into_iter()
                .max_by_key(|(port, count)| (*count, *port))
                .map(|((protocol, port), count)| (protocol, port, scale(count)));
            let top = to.into_iter().max_by_key(|(endpoint, count)| (*count, *endpoint)).map(|(endpoint, count)| (endpoint, scale(count)));
            Held { process: told.describe(who, &mut names), flows: scale(flows), opened: None, top, port }
        })
        .collect();
    rows.sort_by(|a, b| b.flows.cmp(&a.flows).then_with(|| a.process.cmp(&b.process)));
    rows
}

/// What `count` of a sample of `len` stands for, where there are `seen`.
fn scaled(count: u32, seen: u64, len: usize) -> u32 {
    let len = u128::try_from(len).unwrap_or(1).max(1);
    let seen = u128::from(seen).max(len);
    u32::try_from((u128::from(count) * seen + len / 2) / len).unwrap_or(u32::MAX)
}

/// The processes that hold sockets from or to an address, those of a container that has it first.
pub(super) fn talkers(addr: Addr) -> io::Result<Behind> {
    let own = route::addresses(&mut Socket::open(ROUTE)?)?;
    let mut holders = Vec::new();
    each_socket(addr.family(), |sock| {
        if (sock.local == addr || sock.remote == addr) && holders.len() < MOST_SOCKETS {
            holders.push(holder(sock));
        }
    })?;
    // A listing that changes while it is read may have one twice.
    holders.sort_unstable_by_key(|holder| holder.inode);
    holders.dedup_by_key(|holder| holder.inode);
    let told = identify(holders.iter().copied())?;
    let mut counts = BTreeMap::<Who, u32>::new();
    for holder in &holders {
        *counts.entry(told.who(holder)).or_default() += 1;
    }
    let mut names = Names::default();
    let mut here: Vec<(Process, u32)> = counts.into_iter().map(|(who, count)| (told.describe(who, &mut names), count)).collect();
    here.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut behind = Behind::default();
    let mut barred = told.found.barred && told.found.pids.len() < holders.len();
    if !own.contains(&addr) && !addr.ip().is_loopback() {
        let (processes, shut) = containers::processes(addr, &mut names)?;
        behind.processes = processes;
        barred |= shut;
    }
    behind.processes.extend(here);
    behind.processes.truncate(MOST);
    // Who has the right and is refused all the same (a security module, a namespace around us) cannot do more.
    let lacking = barred && !privileges::have(Cap::SysPtrace);
    behind.hidden = lacking.then(|| "processes of other users are not seen: run this as root (CAP_SYS_PTRACE)".to_owned());
    Ok(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(source_port: u16, to: &str, port: u16) -> Flow {
        crate::owners::gone::tests::flow(source_port, to, port, flow::TCP)
    }

    #[test]
    fn rows_are_by_process_the_most_first() {
        let flows =
            [(1, "198.51.100.1", 80), (2, "198.51.100.1", 80), (3, "198.51.100.1", 80), (4, "198.51.100.1", 80), (5, "198.51.100.2", 80)]
                .map(|(from, to, port)| flow(from, to, port));
        let flows: Vec<&Flow> = flows.iter().collect();
        let (one, two) = (Who::Process(1), Who::Group(7, None));
        let who = [Some(one), Some(two), Some(two), Some(two), None];
        let rows = rows(&flows, &who, &Told::default(), &|count| scaled(count, 50, 5));
        assert_eq!(rows.iter().map(|row| (row.process.uid, row.flows, row.top.unwrap().1)).collect::<Vec<_>>(), [(7, 30, 30), (0, 10, 10)]);
    }

    #[test]
    fn a_listing_ends_where_it_is_long_enough_and_the_next_is_read() {
        use std::net::UdpSocket;
        let netns = crate::netns::Netns::new().unwrap();
        netns
            .within(|| {
                let _held: Vec<UdpSocket> = ["0.0.0.0:0", "0.0.0.0:0", "0.0.0.0:0", "[::]:0"].map(|at| UdpSocket::bind(at).unwrap()).into();
                let listed = |most| {
                    let mut families = Vec::new();
                    let longest = at_most(most, Family::V4, |sock| families.push(sock.family)).unwrap();
                    (longest, families)
                };
                assert_eq!(listed(10), (3, vec![Family::V4, Family::V4, Family::V4, Family::V6]));
                assert_eq!(listed(3), (3, vec![Family::V4, Family::V4, Family::V4, Family::V6]));
                assert_eq!(listed(2), (2, vec![Family::V4, Family::V4, Family::V6]));
            })
            .unwrap();
    }

    #[test]
    fn a_sample_stands_for_all() {
        assert_eq!((scaled(1, 3, 2), scaled(5, 5, 5), scaled(5, 0, 5)), (2, 5, 5));
        assert_eq!(scaled(u32::MAX, u64::MAX, 1), u32::MAX);
    }
}
