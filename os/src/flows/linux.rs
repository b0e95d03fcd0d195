//! Linux: sockets by `SOCK_DESTROY`, states by ctnetlink.
//!
//! A target's states are those with its address in any of four places: a state translated on its
//! way in (DNAT) has it as source of the first packet and destination of the answers, one of our
//! own network's connections to it (SNAT) the other way round. One listing serves all targets; the
//! kernel's filter is used only where it pays and is right (see [`crate::netlink::conntrack`]).

use std::io;
use std::net::IpAddr;
use std::path::Path;

use palisade_core::net::{Addr, Family, Prefix};
use palisade_core::time::Span;
use serde::Serialize;

use super::targets::Targets;
use super::{FlowError, Flows, Killed, Target};
use crate::netlink::conntrack::{self, Entry, Filter, Place, Tuple};
use crate::netlink::pipeline::Pipeline;
use crate::netlink::sock_diag::{self, Protocol, Sock, state};
use crate::netlink::socket::{NETFILTER, Next, SOCK_DIAG, Socket};

/// Up to so many single IPv4 addresses the kernel filters, four listings each. At 500,000 states a
/// filtered listing takes a tenth of a plain one (0.07 to 0.11 s against 0.75 s): two addresses still gain.
const FILTERED: usize = 2;

/// How often sockets are listed again after some were ended: a handshake that completed in between
/// is a new socket. The block stands, so nothing new can begin and twice is nearly always enough.
const PASSES: usize = 4;

/// There while connections are tracked in this network namespace.
const TRACKING: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// The connections of the network namespace it was opened in.
#[derive(Debug)]
pub struct Linux {
    diag: Socket,
    /// `None`: a kernel without netfilter, so without states.
    states: Option<States>,
    few: u32,
}

/// Two sockets: one lists while the other deletes, so that nothing has to be kept in memory.
#[derive(Debug)]
struct States {
    list: Socket,
    delete: Socket,
}

/// One connection, to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// IP protocol number: 6 TCP, 17 UDP, 1 ICMP, 58 ICMPv6.
    pub protocol: u8,
    /// Of a local socket ours; of a state that of its first packet.
    pub source: Addr,
    /// Its port, where the protocol has ports.
    pub source_port: Option<u16>,
    /// Where it leads to, as the one who began it sees it.
    pub destination: Addr,
    /// Its port.
    pub destination_port: Option<u16>,
    /// Where it leads to in truth, where that is translated (DNAT).
    pub behind: Option<Addr>,
    /// The connection-tracking zone; `None` for a local socket.
    pub zone: Option<u16>,
    /// How long a state lasts without another packet.
    pub left: Option<Span>,
}

/// The connections of a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// How many local sockets.
    pub sockets: u64,
    /// How many connection-tracking states.
    pub states: u64,
    /// The first of them, as many as were asked for.
    pub flows: Vec<Flow>,
}

/// With up to so many states one plain listing is cheaper than four filtered ones: each walks the hash
/// table (about 7 ms at 262,144 buckets), and a state listed costs 1.4 us.
pub(super) const FEW_STATES: u32 = 16_384;

impl Linux {
    /// Opens its sockets in the calling thread's network namespace.
    pub fn open() -> Result<Self, FlowError> {
        let fail = |what: &str, source| FlowError { what: what.to_owned(), killed: Killed::default(), source };
        let diag = Socket::open(SOCK_DIAG).map_err(|e| fail("cannot list local sockets: the kernel needs CONFIG_INET_DIAG", e))?;
        let states = Socket::open(NETFILTER).and_then(|list| Ok(States { list, delete: Socket::open(NETFILTER)? }));
        let states = match states {
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) && !tracking() => None,
            other => Some(other.map_err(|e| fail("cannot open netlink to connection tracking", e))?),
        };
        Ok(Self { diag, states, few: FEW_STATES })
    }

    /// Lists plainly up to so many states, instead of asking the kernel to filter: 0 always filters
    /// where it can. The default is what was measured to be fastest.
    #[must_use]
    pub const fn listing_plainly_up_to(mut self, few: u32) -> Self {
        self.few = few;
        self
    }

    /// The connections of `prefix`, the first `most` of them in full.
    pub fn list(&mut self, prefix: Prefix, most: usize) -> Result<Listing, FlowError> {
        let targets = Targets::new(&[Target { prefix, ports: palisade_core::bans::wall::Ports::All }]);
        let mut listing = Listing::default();
        let mut failure = Failure::default();
        for (family, protocol) in listings(&targets) {
            match find(&mut self.diag, family, protocol, &targets) {
                Ok(socks) => {
                    listing.sockets += socks.len() as u64;
                    let room = most.saturating_sub(listing.flows.len());
                    listing.flows.extend(socks.iter().take(room).map(socket_flow));
                }
                Err(error) => failure.listing(protocol, error),
            }
        }
        if let Some(states) = &mut self.states {
            let result = each_state(&mut states.list, &targets, self.few, |entry| {
                listing.states += 1;
                if listing.flows.len() < most {
                    listing.flows.push(state_flow(entry));
                }
                Next::More
            });
            result.unwrap_or_else(|error| failure.tracking(error));
        }
        failure.or(Killed::default()).map(|_| listing)
    }

    fn kill_sockets(&mut self, targets: &Targets, killed: &mut Killed, failure: &mut Failure) {
        for (family, protocol) in listings(targets) {
            for pass in 0..PASSES {
                let socks = match find(&mut self.diag, family, protocol, targets) {
                    Ok(socks) => socks,
                    Err(error) => {
                        failure.listing(protocol, error);
                        break;
                    }
                };
                let before = killed.sockets;
                let result = sock_diag::destroy(&mut self.diag, &socks, |sock, errno| match errno {
                    0 => killed.sockets += 1,
                    // Gone, or replaced, since it was listed.
                    libc::ENOENT | libc::ESTALE => {}
                    // Older kernels cannot end a socket that only waits for late packets; nobody uses it any more.
                    libc::EOPNOTSUPP if matches!(sock.state, state::TIME_WAIT | state::SYN_RECV) => {}
                    errno => failure.destroy(errno),
                });
                if let Err(error) = result {
                    failure.add("could not end local sockets", error);
                    break;
                }
                if killed.sockets == before || pass + 1 == PASSES {
                    break;
                }
            }
        }
    }

    fn kill_states(&mut self, targets: &Targets, killed: &mut Killed, failure: &mut Failure) {
        let Some(states) = &mut self.states else { return };
        let mut deletion = Deletion::new(&mut states.delete);
        let listed = each_state(&mut states.list, targets, self.few, |entry| deletion.add(entry));
        deletion.flush();
        killed.states += deletion.deleted;
        if let Some(error) = deletion.error {
            failure.add("could not delete connection-tracking states (CAP_NET_ADMIN is needed)", error);
        }
        if let Err(error) = listed {
            failure.tracking(error);
        }
    }
}

impl Flows for Linux {
    fn kill(&mut self, targets: &[Target]) -> Result<Killed, FlowError> {
        let targets = Targets::new(targets);
        let (mut killed, mut failure) = (Killed::default(), Failure::default());
        if !targets.is_empty() {
            // Sockets first: one that still sends would bring a state back where the wall is open for its answers.
            self.kill_sockets(&targets, &mut killed, &mut failure);
            self.kill_states(&targets, &mut killed, &mut failure);
        }
        failure.or(killed)
    }
}

/// Deletions on their way.
pub(super) struct Deletion<'s> {
    pipeline: Pipeline<'s>,
    pub(super) deleted: u64,
    pub(super) error: Option<io::Error>,
    /// The socket does not work any more.
    broken: bool,
}

impl<'s> Deletion<'s> {
    pub(super) const fn new(socket: &'s mut Socket) -> Self {
        Self { pipeline: Pipeline::new(socket), deleted: 0, error: None, broken: false }
    }

    /// Deletes this state, some time until the last [`Deletion::flush`].
    pub(super) fn add(&mut self, entry: &Entry<'_>) -> Next {
        if self.broken {
            return Next::Enough;
        }
        entry.delete(&mut self.pipeline);
        if self.pipeline.full() { self.flush() } else { Next::More }
    }

    /// One state that cannot be deleted does not stop the rest; a broken socket does.
    pub(super) fn flush(&mut self) -> Next {
        let (deleted, error) = (&mut self.deleted, &mut self.error);
        let result = self.pipeline.flush(|errno| match errno {
            0 => *deleted += 1,
            // It ended by itself, or was deleted when it was listed before.
            libc::ENOENT => {}
            errno => *error = Some(io::Error::from_raw_os_error(errno)),
        });
        match result {
            Ok(()) => Next::More,
            Err(broken) => {
                self.error = Some(broken);
                self.broken = true;
                Next::Enough
            }
        }
    }
}

/// The socket listings in which peers of the targets can be. IPv4 peers of dual-stack sockets are
/// in those of IPv6.
fn listings(targets: &Targets) -> impl Iterator<Item = (Family, Protocol)> + use<> {
    let only_v6 = targets.family() == Some(Family::V6);
    let all = [(Family::V4, Protocol::Tcp), (Family::V4, Protocol::Udp), (Family::V6, Protocol::Tcp), (Family::V6, Protocol::Udp)];
    all.into_iter().filter(move |(family, _)| !(only_v6 && *family == Family::V4))
}

fn find(diag: &mut Socket, family: Family, protocol: Protocol, targets: &Targets) -> io::Result<Vec<Sock>> {
    let states = match protocol {
        Protocol::Tcp => state::WITH_PEER,
        Protocol::Udp => 1 << state::ESTABLISHED,
    };
    match sock_diag::list(diag, family, protocol, states, |sock| sock.has_peer() && targets.take(sock.remote, Some(sock.local_port))) {
        // A kernel without IPv6 has no such sockets.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) && family == Family::V6 && !ipv6() => Ok(Vec::new()),
        other => other,
    }
}

/// Hands every state of the targets to `take`, some perhaps more than once.
pub(super) fn each_state(list: &mut Socket, targets: &Targets, few: u32, mut take: impl FnMut(&Entry<'_>) -> Next) -> io::Result<()> {
    let mut take = |entry: &Entry<'_>| {
        if targets.take_tuple(&entry.orig) || targets.take_tuple(&entry.reply) { take(entry) } else { Next::More }
    };
    let plain = |list: &mut Socket, take: &mut dyn FnMut(&Entry<'_>) -> Next| conntrack::dump(list, targets.family(), None, take);
    // A count that cannot be had decides nothing.
    let count = conntrack::stats::count(list).unwrap_or(u32::MAX);
    if count == 0 {
        return Ok(());
    }
    let result = match single_ipv4(targets).filter(|_| count > few) {
        None => plain(list, &mut take),
        Some(filters) => filters.iter().enumerate().try_for_each(|(i, filter)| {
            // A state is in up to four listings and counts in the first. A kernel that ignores the filter lists all in each.
            let first = |entry: &Entry<'_>| filter.matches(entry) && !filters[..i].iter().any(|earlier| earlier.matches(entry));
            conntrack::dump(list, None, Some(*filter), |entry| if first(entry) { take(entry) } else { Next::More })
        }),
    };
    let result = match result {
        // A kernel that does not know the filter and says so.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => plain(list, &mut take),
        other => other,
    };
    match result {
        // The kernel knows the messages only with connection tracking; without it there are no states.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) && !tracking() => Ok(()),
        other => other,
    }
}

/// The filters that together find all states of the targets, where they are few single IPv4 addresses.
fn single_ipv4(targets: &Targets) -> Option<Vec<Filter>> {
    let mut filters = Vec::new();
    for prefix in targets.few(FILTERED)? {
        match prefix.addr().ip() {
            IpAddr::V4(addr) if prefix.is_host() => filters.extend(Place::ALL.map(|place| Filter { place, addr })),
            _ => return None,
        }
    }
    Some(filters)
}

pub(super) fn tracking() -> bool {
    Path::new(TRACKING).exists()
}

fn ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

const fn socket_flow(sock: &Sock) -> Flow {
    Flow {
        protocol: sock.protocol.number(),
        source: sock.local,
        source_port: Some(sock.local_port),
        destination: sock.remote,
        destination_port: Some(sock.remote_port),
        behind: None,
        zone: None,
        left: None,
    }
}

fn state_flow(entry: &Entry<'_>) -> Flow {
    let Tuple { source, destination, protocol, .. } = entry.orig;
    let (source_port, destination_port) = entry.orig.ports().unzip();
    Flow {
        protocol,
        source,
        source_port,
        destination,
        destination_port,
        behind: (entry.reply.source != destination).then_some(entry.reply.source),
        zone: Some(entry.zone),
        left: entry.timeout,
    }
}

/// What went wrong so far: every distinct thing in words, the first cause as the source.
#[derive(Debug, Default)]
struct Failure {
    what: Vec<String>,
    source: Option<io::Error>,
}

impl Failure {
    fn add(&mut self, what: &str, source: io::Error) {
        if !self.what.iter().any(|known| known == what) {
            self.what.push(what.to_owned());
        }
        self.source.get_or_insert(source);
    }

    fn listing(&mut self, protocol: Protocol, error: io::Error) {
        let (name, module) = match protocol {
            Protocol::Tcp => ("TCP", "tcp_diag"),
            Protocol::Udp => ("UDP", "udp_diag"),
        };
        match error.raw_os_error() {
            Some(libc::ENOENT) => self.add(&format!("cannot list local {name} sockets: load the kernel module {module}"), error),
            _ => self.add(&format!("cannot list local {name} sockets"), error),
        }
    }

    fn destroy(&mut self, errno: i32) {
        let what = match errno {
            libc::EOPNOTSUPP => {
                "this kernel cannot end local sockets (it lacks CONFIG_INET_DIAG_DESTROY): they hang, cut off by the block, until they time out"
            }
            libc::EPERM | libc::EACCES => "not allowed to end local sockets: CAP_NET_ADMIN is needed",
            _ => "could not end a local socket",
        };
        self.add(what, io::Error::from_raw_os_error(errno));
    }

    fn tracking(&mut self, error: io::Error) {
        match error.raw_os_error() {
            Some(libc::EINVAL | libc::EOPNOTSUPP) => {
                self.add("connections are tracked but cannot be listed: load the kernel module nf_conntrack_netlink", error);
            }
            Some(libc::EPERM | libc::EACCES) => self.add("not allowed to list connection-tracking states: CAP_NET_ADMIN is needed", error),
            _ => self.add("cannot list connection-tracking states", error),
        }
    }

    fn or(self, killed: Killed) -> Result<Killed, FlowError> {
        match self.source {
            None => Ok(killed),
            Some(source) => Err(FlowError { what: self.what.join("; "), killed, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_everything_once_and_keeps_what_was_done() {
        let mut failure = Failure::default();
        failure.destroy(libc::EOPNOTSUPP);
        failure.destroy(libc::EOPNOTSUPP);
        failure.tracking(io::Error::from_raw_os_error(libc::EINVAL));
        let error = failure.or(Killed { sockets: 3, states: 4 }).unwrap_err();
        assert_eq!((error.killed.sockets, error.source.raw_os_error()), (3, Some(libc::EOPNOTSUPP)));
        assert_eq!(error.to_string().matches("CONFIG_INET_DIAG_DESTROY").count(), 1);
        assert!(error.to_string().contains("nf_conntrack_netlink") && error.to_string().contains("3 sockets, 4 states"));
    }

    #[test]
    fn the_kernel_filters_only_few_single_ipv4_addresses() {
        let filters = |prefixes: &[&str]| {
            let all: Vec<_> =
                prefixes.iter().map(|p| Target { prefix: p.parse().unwrap(), ports: palisade_core::bans::wall::Ports::All }).collect();
            single_ipv4(&Targets::new(&all)).map(|filters| filters.len())
        };
        assert_eq!(filters(&["192.0.2.1/32"]), Some(4));
        assert_eq!(filters(&["192.0.2.1/32", "192.0.2.2/32"]), Some(8));
        for plain in
            [&["192.0.2.0/31"][..], &["2001:db8::1/128"], &["192.0.2.1/32", "2001:db8::1/128"], &["192.0.2.1", "192.0.2.2", "192.0.2.3"]]
        {
            assert_eq!(filters(plain), None, "{plain:?}");
        }
    }
}
