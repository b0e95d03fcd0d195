//! Linux: sockets by `SOCK_DESTROY`, states by ctnetlink.
//!
//! A target's states are those with its address in any of four places: a state translated on its
//! way in (DNAT) has it as source of the first packet and destination of the answers, one of our
//! own network's connections to it (SNAT) the other way round. One listing serves all targets; the
//! kernel's filter is used only where it pays and is right (see [`crate::netlink::conntrack`]).

pub(super) mod states;

use std::io;
use std::path::Path;

use palisade_core::net::{Addr, Family, Prefix};
use palisade_core::time::Span;
use serde::Serialize;

use super::targets::Targets;
use super::{FlowError, Flows, Killed, Target};
use crate::netlink::conntrack::{Entry, Tuple};
use crate::netlink::sock_diag::{self, Protocol, Sock, state};
use crate::netlink::socket::{Next, SOCK_DIAG, Socket};

pub(super) use states::{Deletion, tracking};
use states::{FEW_STATES, States};

/// How often sockets are listed again after some were ended: a handshake that completed in between
/// is a new socket. The block stands, so nothing new can begin and twice is nearly always enough.
const PASSES: usize = 4;

/// The connections of the network namespace it was opened in.
#[derive(Debug)]
pub struct Linux {
    diag: Socket,
    /// `None`: a kernel without netfilter, so without states.
    states: Option<States>,
    few: u32,
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

impl Linux {
    /// Opens its sockets in the calling thread's network namespace.
    pub fn open() -> Result<Self, FlowError> {
        let fail = |what: &str, source| FlowError { what: what.to_owned(), killed: Killed::default(), source };
        let diag = Socket::open(SOCK_DIAG).map_err(|e| fail("cannot list local sockets: the kernel needs CONFIG_INET_DIAG", e))?;
        let states = match States::open() {
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
            let result = states.each(&targets, self.few, |entry| {
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
        let deleted = states.delete(targets, self.few);
        killed.states += deleted.states;
        if let Some(error) = deleted.refused {
            failure.add("could not delete connection-tracking states (CAP_NET_ADMIN is needed)", error);
        }
        if let Err(error) = deleted.listed {
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
}
