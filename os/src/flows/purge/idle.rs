//! A culprit's flows that are of no use: nobody answered them, or nothing has passed for a while.
//!
//! The kernel tells of a flow only how long it still lasts. Each packet sets that to the full timeout of its state: the
//! switch's, a policy's (`ct timeout` of nftables), or a shorter one that TCP has for connections in trouble
//! (net/netfilter/nf_conntrack_proto_tcp.c, `nf_conntrack_tcp_packet`). Which one it was cannot be seen. But it was
//! not less than what is left, so the smallest timeout that is not less says how long the flow has been idle at least.
//! A flow that lasts longer than any timeout known is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use palisade_core::flood::flow::{Endpoint, TCP, TcpState, UDP};
use palisade_core::flood::timeouts::Timeouts;
use palisade_core::flood::wanted::Culprit;
use palisade_core::net::{Addr, Family, Prefix};

use super::{end, told};
use crate::limits::policy::{self, STATES, TCP_CLOSE, TCP_RETRANS, TCP_UNACK, UDP_REPLIED, UDP_UNREPLIED};
use crate::netlink::conntrack::{self, Entry, status};
use crate::netlink::nft::{Policy, survey};
use crate::sysctl;

/// A flow is idle when nothing has passed for longer than so many seconds.
const IDLE: u64 = 60;

/// Ends the culprit's flows that are of no use: those that were never answered, and of a source those of TCP that stand or
/// close and those of UDP that are idle too. How many were ended. Never one with a peer of `spare` at either end, never
/// another's.
///
/// A local culprit's flows are those from one of `own` by its protocol to its port: whose process has one the kernel
/// does not tell. They and a crowd's may be anybody's, so of these only those go that were never answered; and none where
/// the local culprit's port is 0, which all flows of this host by that protocol would match.
///
/// # Errors
/// What the kernel said, after as many were ended as could be.
pub fn idle(culprit: &Culprit, own: &[Addr], spare: &[Addr]) -> io::Result<u64> {
    idle_since(std::slice::from_ref(culprit), own, spare, &[])
}

/// The same of several in one pass over the table, where the switches may have been changed lately: `held` is what they
/// held before, as far as flows may still last by it. Without it, a flow that lasts as a shorter timeout said looks longer
/// idle than it is.
///
/// # Errors
/// As of [`idle`].
pub fn idle_since(culprits: &[Culprit], own: &[Addr], spare: &[Addr], held: &[Timeouts]) -> io::Result<u64> {
    let culprits = Culprits::new(culprits, own);
    if culprits.is_nobody() {
        return Ok(0);
    }
    let spare: BTreeSet<Addr> = spare.iter().copied().collect();
    let fulls = Fulls::new(&switches(), &policies()?, held);
    let matches = |entry: &Entry<'_>| {
        let unanswered = entry.status & status::SEEN_REPLY == 0;
        let theirs = culprits.began(entry) && (unanswered || fulls.idle(entry)) || unanswered && culprits.may_have(entry);
        theirs && !ends(entry).iter().any(|addr| spare.contains(addr))
    };
    end(matches, |list, take| conntrack::dump(list, culprits.family, None, take))
}

/// Whose flows are looked for, so that each flow costs few comparisons however many they are.
#[derive(Debug, Default)]
struct Culprits {
    /// Sources, and how long their prefixes are.
    sources: BTreeSet<Prefix>,
    lengths: BTreeSet<u8>,
    /// Protocol and port of this host's.
    locals: BTreeSet<(u8, u16)>,
    own: BTreeSet<Addr>,
    crowds: BTreeSet<Endpoint>,
    /// The only one in which they have flows; `None`: in both.
    family: Option<Family>,
}

impl Culprits {
    fn new(culprits: &[Culprit], own: &[Addr]) -> Self {
        let mut all = Self::default();
        let mut families = BTreeSet::new();
        for culprit in culprits {
            match culprit {
                Culprit::Source { prefix } => {
                    families.insert(prefix.family());
                    all.lengths.insert(prefix.len());
                    all.sources.insert(*prefix);
                }
                Culprit::Local { port: 0, .. } => {}
                Culprit::Local { protocol, port, .. } => {
                    families.extend(own.iter().map(|addr| addr.family()));
                    all.locals.insert((*protocol, *port));
                }
                Culprit::Crowd { to } => {
                    families.insert(to.addr.family());
                    all.crowds.insert(*to);
                }
            }
        }
        if !all.locals.is_empty() {
            all.own = own.iter().copied().collect();
        }
        all.family = families.pop_first().filter(|_| families.is_empty());
        all
    }

    fn is_nobody(&self) -> bool {
        self.sources.is_empty() && self.crowds.is_empty() && (self.locals.is_empty() || self.own.is_empty())
    }

    /// Whether one of the sources began it.
    fn began(&self, entry: &Entry<'_>) -> bool {
        let source = entry.orig.source;
        self.lengths.iter().filter_map(|len| Prefix::new(source, *len)).any(|prefix| self.sources.contains(&prefix))
    }

    /// Whether it goes where a process of this host floods, or a crowd.
    fn may_have(&self, entry: &Entry<'_>) -> bool {
        let tuple = &entry.orig;
        let port = tuple.ports().map_or(0, |(_, destination)| destination);
        self.own.contains(&tuple.source) && self.locals.contains(&(tuple.protocol, port))
            || self.crowds.contains(&Endpoint { addr: tuple.destination, port, protocol: tuple.protocol })
    }
}

/// All addresses of its packets, before and behind translation.
const fn ends(entry: &Entry<'_>) -> [Addr; 4] {
    [entry.orig.source, entry.orig.destination, entry.reply.source, entry.reply.destination]
}

/// What the switches hold, by protocol and state. One that cannot be read is missing.
fn switches() -> BTreeMap<(u8, u16), u32> {
    let read = |state: &policy::State| sysctl::get(&state.path()?).ok()??.parse().ok();
    STATES.iter().filter_map(|state| Some(((state.protocol, state.number), read(state)?))).collect()
}

/// Everybody's policies: without them, a flow that has one would look idle.
fn policies() -> io::Result<Vec<Policy>> {
    survey::policies().or_else(|error| match error.raw_os_error() {
        // A kernel without nf_tables has none.
        Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL | libc::ECONNREFUSED) => Ok(Vec::new()),
        _ => Err(told("listing nftables' timeouts of connections", &error)),
    })
}

/// The full timeouts that flows may have been given, in seconds.
#[derive(Debug)]
struct Fulls {
    /// By protocol and state.
    by_state: BTreeMap<(u8, u16), BTreeSet<u32>>,
    /// The states of which the switch is known.
    known: BTreeSet<(u8, u16)>,
}

impl Fulls {
    fn new(switches: &BTreeMap<(u8, u16), u32>, policies: &[Policy], held: &[Timeouts]) -> Self {
        let mut by_state: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
        let mut add = |protocol: u8, number: u16, seconds: u32| _ = by_state.entry((protocol, number)).or_default().insert(seconds);
        switches.iter().for_each(|(&(protocol, number), seconds)| add(protocol, number, *seconds));
        for policy in policies {
            policy.seconds.iter().for_each(|(number, seconds)| add(policy.protocol, *number, *seconds));
        }
        for (timeouts, protocol) in held.iter().flat_map(|timeouts| [(timeouts, TCP), (timeouts, UDP)]) {
            policy::by_switch(timeouts, protocol).into_iter().for_each(|(number, seconds)| add(protocol, number, seconds));
        }
        Self { by_state, known: switches.keys().copied().collect() }
    }

    /// Whether nothing has passed for longer than [`IDLE`] for sure.
    fn idle(&self, entry: &Entry<'_>) -> bool {
        if entry.status & (status::OFFLOADED | status::FIXED_TIMEOUT) != 0 {
            return false;
        }
        let states = match (entry.orig.protocol, entry.tcp) {
            (TCP, Some(state)) if (TcpState::Established..=TcpState::Close).contains(&state) => {
                // By the connection's state; by its last packet, where that was a reset; by what it waits for.
                vec![state as u16, TCP_CLOSE, TCP_RETRANS, TCP_UNACK]
            }
            // Once assured, each packet of a stream counts as one.
            (UDP, _) if entry.status & status::ASSURED != 0 => vec![UDP_REPLIED],
            (UDP, _) => vec![UDP_REPLIED, UDP_UNREPLIED],
            _ => return false,
        };
        let Some(left) = entry.timeout.map(|left| left.as_secs_ceil()) else { return false };
        self.known.contains(&(entry.orig.protocol, states[0]))
            && states
                .iter()
                .filter_map(|state| self.by_state.get(&(entry.orig.protocol, *state)))
                .filter_map(|fulls| fulls.iter().copied().map(u64::from).find(|full| *full >= left))
                .min()
                .is_some_and(|full| full - left > IDLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;
    use palisade_core::time::Span;
    use std::process::Command;

    #[track_caller]
    fn sh(netns: &Netns, script: &str) -> String {
        let out = netns.within(|| Command::new("sh").args(["-ec", script]).output().unwrap()).unwrap();
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// A namespace that tracks connections.
    fn tracking() -> Netns {
        let netns = Netns::new().unwrap();
        sh(&netns, "ip link set lo up; nft 'table inet other { chain c { type filter hook input priority 0; ct state new; }; }'");
        netns
    }

    struct State<'a> {
        from: &'a str,
        to: &'a str,
        left: u32,
        more: &'a str,
    }

    /// Puts a state there; its sender's port tells which it is.
    fn put(netns: &Netns, port: u16, protocol: &str, dport: u16, state: &State<'_>) {
        let State { from, to, left, more } = state;
        sh(
            netns,
            &format!("conntrack -I -s {from} -d {to} -p {protocol} --sport {port} --dport {dport} --timeout {left} {more} 2>/dev/null"),
        );
    }

    /// The senders' ports of the states that stand.
    fn standing(netns: &Netns) -> Vec<u16> {
        let all = sh(netns, "conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
        let port = |line: &str| line.split_once("sport=")?.1.split(' ').next()?.parse().ok();
        let mut ports: Vec<u16> = all.lines().filter_map(port).collect();
        ports.sort_unstable();
        ports
    }

    const OPEN: &str = "--state ESTABLISHED -u SEEN_REPLY,ASSURED";
    const STREAM: &str = "-u SEEN_REPLY,ASSURED";

    fn source(prefix: &str) -> Culprit {
        Culprit::Source { prefix: prefix.parse().unwrap() }
    }

    #[test]
    fn only_the_sources_useless_flows_end() {
        let netns = tracking();
        let mut next = 1000;
        let mut tcp = |from: &str, to: &str, left: u32, more: &str| {
            put(&netns, next, "tcp", 443, &State { from, to, left, more });
            next += 1;
        };
        let (bad, good, to, admin) = ("192.0.2.7", "192.0.2.8", "198.51.100.1", "203.0.113.9");
        tcp(bad, to, 431_000, OPEN); // 1000: idle for 1000 s
        tcp(bad, to, 431_990, OPEN); // 1001: busy
        tcp(bad, to, 295, OPEN); // 1002: its last packet waits to be acknowledged
        tcp(bad, to, 100, OPEN); // 1003: has waited for 200 s
        tcp(bad, to, 100, "--state SYN_SENT"); // 1004: never answered
        tcp(bad, to, 50, "--state TIME_WAIT -u SEEN_REPLY,ASSURED"); // 1005: closed 70 s ago
        tcp(bad, to, 59, "--state SYN_RECV -u SEEN_REPLY"); // 1006: being answered
        tcp(bad, to, 500_000, OPEN); // 1007: longer than any timeout
        tcp(bad, admin, 431_000, OPEN); // 1008: the administrator's
        tcp(admin, bad, 431_000, OPEN); // 1009: to it, not from it
        tcp(good, to, 431_000, OPEN); // 1010
        tcp(good, to, 100, "--state SYN_SENT"); // 1011
        tcp(bad, admin, 100, "--state SYN_SENT"); // 1012
        let mut udp = |left: u32, more: &str| {
            put(&netns, next, "udp", 53, &State { from: bad, to, left, more });
            next += 1;
        };
        udp(30, ""); // 1013: never answered
        udp(110, STREAM); // 1014: busy
        udp(40, STREAM); // 1015: idle for 80 s
        udp(25, "-u SEEN_REPLY"); // 1016: no stream, answered 5 s ago
        let ended = netns.within(|| idle(&source("192.0.2.7/32"), &[], &[admin.parse().unwrap()])).unwrap().unwrap();
        assert_eq!(standing(&netns), [1001, 1002, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1014, 1016]);
        assert_eq!(ended, 6);
    }

    #[test]
    fn policies_and_what_held_before_are_known() {
        let netns = tracking();
        sh(&netns, "nft 'add ct timeout inet other short { protocol tcp; l3proto ip; policy = { established: 90 }; }'");
        let put = |port, left| put(&netns, port, "tcp", 443, &State { from: "192.0.2.7", to: "198.51.100.1", left, more: OPEN });
        [(1, 85), (2, 20), (3, 7430), (4, 7100), (5, 431_000)].into_iter().for_each(|(port, left)| put(port, left));
        let held = Timeouts::from([("tcp_established".to_owned(), Span::secs(7440))]);
        let ended = netns.within(|| idle_since(&[source("192.0.2.7/32")], &[], &[], &[held])).unwrap().unwrap();
        assert_eq!((standing(&netns), ended), (vec![1, 3], 3));
    }

    #[test]
    fn a_local_culprits_flows_are_ours_to_its_port() {
        let netns = tracking();
        let udp = |port, from, dport| put(&netns, port, "udp", dport, &State { from, to: "203.0.113.1", left: 20, more: "" });
        udp(1, "198.51.100.2", 53);
        udp(2, "198.51.100.2", 123);
        udp(3, "192.0.2.7", 53);
        put(&netns, 4, "tcp", 53, &State { from: "198.51.100.2", to: "203.0.113.1", left: 20, more: "--state SYN_SENT" });
        put(&netns, 5, "udp", 53, &State { from: "2001:db8::2", to: "2001:db8::1", left: 20, more: "" });
        let own: Vec<Addr> = ["198.51.100.2", "2001:db8::2"].iter().map(|text| text.parse().unwrap()).collect();
        let run = |port, own: &[Addr]| {
            let culprit = Culprit::Local { uid: 1000, protocol: UDP, port };
            netns.within(|| idle(&culprit, own, &[])).unwrap().unwrap()
        };
        assert_eq!((run(53, &[]), run(53, &own), standing(&netns)), (0, 2, vec![2, 3, 4]));
        assert_eq!((run(0, &own), standing(&netns)), (0, vec![2, 3, 4]), "anybody's of this host");
    }

    #[test]
    fn what_another_of_this_host_has_open_stays() {
        let netns = tracking();
        let to =
            |port, protocol, left, more| put(&netns, port, protocol, 5432, &State { from: "198.51.100.2", to: "203.0.113.1", left, more });
        to(1, "tcp", 431_000, OPEN);
        to(2, "tcp", 100, "--state SYN_SENT");
        to(3, "udp", 40, STREAM);
        let culprit = |protocol| Culprit::Local { uid: 1000, protocol, port: 5432 };
        let own = ["198.51.100.2".parse().unwrap()];
        let ended = netns.within(|| idle_since(&[culprit(TCP), culprit(UDP)], &own, &[], &[])).unwrap().unwrap();
        assert_eq!((standing(&netns), ended), (vec![1, 3], 1));
    }

    #[test]
    fn all_culprits_in_one_pass_each_by_its_own_rule() {
        let netns = tracking();
        let tcp = |port, from, to, left, more| put(&netns, port, "tcp", 443, &State { from, to, left, more });
        let (own, there) = ("198.51.100.2", "203.0.113.1");
        tcp(1, "192.0.2.7", there, 431_000, OPEN);
        tcp(2, "192.0.2.130", there, 100, "--state SYN_SENT"); // of 192.0.2.128/25
        tcp(3, "192.0.2.8", there, 100, "--state SYN_SENT");
        tcp(4, "2001:db8:1::8", "2001:db8:5::1", 431_000, OPEN);
        tcp(5, own, there, 100, "--state SYN_SENT");
        tcp(6, own, there, 431_000, OPEN);
        tcp(7, "192.0.2.9", "198.51.100.1", 100, "--state SYN_SENT"); // to the crowd's
        tcp(8, "192.0.2.9", "198.51.100.1", 431_000, OPEN);
        tcp(9, "2001:db8:2::8", "2001:db8:5::1", 100, "--state SYN_SENT");
        let local = Culprit::Local { uid: 1000, protocol: TCP, port: 443 };
        let crowd = Culprit::Crowd { to: "198.51.100.1:443/tcp".parse().unwrap() };
        let all = [source("192.0.2.7/32"), source("192.0.2.128/25"), source("2001:db8:1::/64"), local, crowd];
        let ended = netns.within(|| idle_since(&all, &[own.parse().unwrap()], &[], &[])).unwrap().unwrap();
        assert_eq!((standing(&netns), ended), (vec![3, 6, 8, 9], 5));
    }

    #[test]
    fn one_family_is_asked_for_where_all_are_of_one() {
        let family = |culprits: &[Culprit], own: &[Addr]| Culprits::new(culprits, own).family;
        let (four, six) = (source("192.0.2.7/32"), source("2001:db8::/64"));
        let local = Culprit::Local { uid: 1000, protocol: TCP, port: 443 };
        let own: [Addr; 2] = ["198.51.100.2".parse().unwrap(), "2001:db8::2".parse().unwrap()];
        assert_eq!(
            (family(&[four, four], &own), family(&[six], &own), family(&[four, six], &own)),
            (Some(Family::V4), Some(Family::V6), None)
        );
        assert_eq!((family(&[four, local], &own), family(&[four, local], &own[..1])), (None, Some(Family::V4)));
        let anywhere = Culprit::Local { uid: 1000, protocol: TCP, port: 0 };
        assert!(
            Culprits::new(&[anywhere], &own).is_nobody()
                && Culprits::new(&[local], &[]).is_nobody()
                && Culprits::new(&[], &own).is_nobody()
        );
        assert!(!Culprits::new(&[local], &own).is_nobody());
    }

    #[test]
    fn of_a_crowd_only_what_was_never_answered() {
        let netns = tracking();
        let to = |port, from, to, dport, more| put(&netns, port, "tcp", dport, &State { from, to, left: 100, more });
        let there = "198.51.100.1";
        to(1, "192.0.2.7", there, 443, "--state SYN_SENT");
        to(2, "192.0.2.8", there, 443, "--state SYN_RECV");
        to(3, "192.0.2.7", there, 443, OPEN);
        to(4, "192.0.2.7", there, 80, "--state SYN_SENT");
        to(5, "192.0.2.7", "198.51.100.3", 443, "--state SYN_SENT");
        to(6, "203.0.113.9", there, 443, "--state SYN_SENT");
        let culprit = Culprit::Crowd { to: "198.51.100.1:443/tcp".parse().unwrap() };
        let spare = ["203.0.113.9".parse().unwrap()];
        let ended = netns.within(|| idle(&culprit, &[], &spare)).unwrap().unwrap();
        assert_eq!((standing(&netns), ended), (vec![3, 4, 5, 6], 2));
    }

    #[test]
    fn a_prefix_of_ipv6_and_no_other() {
        let netns = tracking();
        for (port, from) in [(1, "2001:db8:1::7"), (2, "2001:db8:1::8"), (3, "2001:db8:2::7")] {
            put(&netns, port, "udp", 53, &State { from, to: "2001:db8:5::1", left: 20, more: "" });
        }
        let ended = netns.within(|| idle(&source("2001:db8:1::/64"), &[], &[])).unwrap().unwrap();
        assert_eq!((standing(&netns), ended), (vec![3], 2));
    }

    #[test]
    fn what_is_not_known_is_not_idle() {
        let fulls = Fulls::new(&BTreeMap::new(), &[Policy { family: Family::V4, protocol: TCP, seconds: [(3, 400)].into() }], &[]);
        assert!(fulls.known.is_empty());
        assert_eq!(fulls.by_state[&(TCP, 3)], [400].into());
        let switches = tracking().within(switches).unwrap();
        assert_eq!((switches.len(), switches[&(TCP, 3)]), (12, 432_000));
    }
}
