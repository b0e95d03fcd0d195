//! One pass over the table.

use std::collections::HashMap;

use super::heavy::{Goal, Heavy, Host, Kept, Net};
use super::opened::Opened;
use super::{Census, Row};
use crate::flood::flow::{Endpoint, Flow, WITH_PORTS};
use crate::net::Prefix;

/// How many endpoints and ports a census lists at most.
pub const LISTED: usize = 64;

/// Counts flows as they come, in bounded memory.
///
/// Exact for up to `room` sources, `room` /64s and `room` endpoints. Beyond, the largest of each are kept by Misra and Gries' rule:
/// each count is too small by at most [`Census::error`] and never too large, whoever holds more flows than that is there, and the
/// error is at most the flows / (`room` + 1).
///
/// Memory: at most 7/4 `room` rows of each kind, in hash maps of twice `room` places where `room` is a power of two; a place takes 97
/// bytes of a source, 89 of a /64, 29 of an endpoint. With 65,536: 13 + 12 + 4 MB (half as much again while a map grows), and 0.5 MB
/// of ports, or 1.3 where somebody uses all five protocols that have them.
#[derive(Clone, Debug)]
pub struct Fold {
    sources: Heavy<Host, Tally>,
    nets: Heavy<Net, Tally>,
    endpoints: Heavy<Goal, ()>,
    ports: [Vec<u32>; WITH_PORTS.len()],
    protocols: [u32; 256],
    tcp: [u32; 10],
    flows: u64,
    unreplied: u32,
    unassured: u32,
    nat: (u32, u32),
}

/// What is counted of a source beside its flows.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    unreplied: u32,
    unassured: u32,
    error: u32,
    goals: [Slot; 2],
}

/// One of the endpoints that most flows of a source go to; free where it counts 0.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    goal: Goal,
    count: u32,
    born: u32,
}

impl Tally {
    /// Misra and Gries in the small, with the same book-keeping as [`Heavy`]: what more than a third go to keeps its slot.
    fn add(&mut self, flow: &Flow, goal: Goal) {
        self.unreplied += u32::from(!flow.replied);
        self.unassured += u32::from(!flow.assured);
        if let Some(slot) = self.goals.iter_mut().find(|slot| slot.goal == goal && slot.count > 0) {
            slot.count = slot.count.saturating_add(1);
        } else if let Some(slot) = self.goals.iter_mut().find(|slot| slot.count == 0) {
            *slot = Slot { goal, count: 1, born: self.error };
        } else {
            self.error = self.error.saturating_add(1);
            for slot in &mut self.goals {
                if slot.count.saturating_add(slot.born) <= self.error {
                    slot.count = 0;
                }
            }
        }
    }

    /// Where most go.
    fn top(&self) -> Option<(Endpoint, u32)> {
        let most = self.goals.iter().filter(|slot| slot.count > 0).max_by(|a, b| a.count.cmp(&b.count).then(b.goal.cmp(&a.goal)));
        most.map(|slot| (slot.goal.endpoint(), slot.count))
    }
}

impl Fold {
    /// An empty one. `room`: how many sources, /64s and endpoints are counted exactly; 65,536 is usual.
    pub fn new(room: usize) -> Self {
        Self {
            sources: Heavy::new(room),
            nets: Heavy::new(room),
            endpoints: Heavy::new(room),
            ports: Default::default(),
            protocols: [0; 256],
            tcp: [0; 10],
            flows: 0,
            unreplied: 0,
            unassured: 0,
            nat: (0, 0),
        }
    }

    /// One flow of the table.
    pub fn add(&mut self, flow: &Flow) {
        let (host, goal) = (Host::of(flow.source), Goal::of(flow));
        self.flows += 1;
        self.sources.add(host, 1).add(flow, goal);
        if let Some(net) = host.net() {
            self.nets.add(net, 1).add(flow, goal);
        }
        self.endpoints.add(goal, 1);
        self.port(flow);
        self.protocols[usize::from(flow.protocol)] += 1;
        if let Some(state) = flow.tcp {
            self.tcp[state as usize] += 1;
        }
        self.unreplied += u32::from(!flow.replied);
        self.unassured += u32::from(!flow.assured);
        self.nat.0 += u32::from(flow.source_nat);
        self.nat.1 += u32::from(flow.destination_nat);
    }

    fn port(&mut self, flow: &Flow) {
        let Some(at) = WITH_PORTS.iter().position(|protocol| *protocol == flow.protocol) else { return };
        let ports = &mut self.ports[at];
        if ports.is_empty() {
            ports.resize(1 << 16, 0);
        }
        ports[usize::from(flow.port)] += 1;
    }

    /// What was counted: the `rows` largest sources and /64s, [`LISTED`] endpoints and ports. `opened`: who opens how fast, where that
    /// was listened to.
    pub fn finish(self, rows: usize, opened: Option<&Opened>) -> Census {
        Census {
            flows: self.flows,
            sources: self.sources.keys(),
            top: listed(&self.sources, rows, Host::prefix, opened),
            nets: self.nets(rows, opened),
            typical: self.sources.typical(),
            error: self.sources.error().max(self.nets.error()),
            endpoints: self.endpoints.largest(LISTED).into_iter().map(|(goal, flows)| (goal.endpoint(), flows)).collect(),
            ports: self.largest_ports(),
            protocols: self.protocols_used(),
            tcp: self.tcp,
            unreplied: self.unreplied,
            unassured: self.unassured,
            nat: self.nat,
            processes: Vec::new(),
            looked: false,
        }
    }

    fn nets(&self, rows: usize, opened: Option<&Opened>) -> Vec<Row> {
        let mut nets = listed(&self.nets, rows, Net::prefix, opened);
        let mut hosts: HashMap<Prefix, u32> = nets.iter().map(|net| (net.prefix, 0)).collect();
        if !hosts.is_empty() {
            for net in self.sources.iter().filter_map(|(host, _)| host.net()) {
                if let Some(hosts) = hosts.get_mut(&net.prefix()) {
                    *hosts += 1;
                }
            }
        }
        // Whose only hosts were given up has at least one.
        nets.iter_mut().for_each(|net| net.hosts = hosts.get(&net.prefix).copied().unwrap_or(0).max(1));
        nets
    }

    fn largest_ports(&self) -> Vec<(u8, u16, u32)> {
        let of = |(protocol, ports): (u8, &Vec<u32>)| {
            let used = (0..=u16::MAX).zip(ports.clone()).filter(|(_, flows)| *flows > 0);
            used.map(move |(port, flows)| (protocol, port, flows)).collect::<Vec<_>>()
        };
        let all = WITH_PORTS.into_iter().zip(&self.ports).flat_map(of).collect();
        super::heavy::largest(all, LISTED, |a: &(u8, u16, u32), b| b.2.cmp(&a.2).then((a.0, a.1).cmp(&(b.0, b.1))))
    }

    /// By protocol number, most flows first.
    fn protocols_used(&self) -> Vec<(u8, u32)> {
        let mut used: Vec<(u8, u32)> = (0..=u8::MAX).zip(self.protocols).filter(|(_, flows)| *flows > 0).collect();
        used.sort_by_key(|(protocol, flows)| (std::cmp::Reverse(*flows), *protocol));
        used
    }
}

/// The rows with the most flows.
fn listed<K: Copy + Ord + std::hash::Hash>(
    heavy: &Heavy<K, Tally>,
    rows: usize,
    prefix: impl Fn(K) -> Prefix,
    opened: Option<&Opened>,
) -> Vec<Row> {
    let row = |(key, flows): (K, u32)| {
        let tally = heavy.get(&key).map_or_else(Tally::default, |Kept { row, .. }| *row);
        let prefix = prefix(key);
        Row {
            prefix,
            flows,
            unreplied: tally.unreplied,
            unassured: tally.unassured,
            opened: opened.and_then(|opened| opened.per_second(prefix)),
            top: tally.top(),
            hosts: 1,
        }
    };
    heavy.largest(rows).into_iter().map(row).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::flood::flow::{ICMP, TCP, TcpState};
    use crate::time::Span;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// An established TCP flow.
    pub(crate) fn flow(from: &str, to: &str, port: u16) -> Flow {
        Flow {
            source: from.parse().unwrap(),
            destination: to.parse().unwrap(),
            protocol: TCP,
            source_port: 50_000,
            port,
            tcp: Some(TcpState::Established),
            replied: true,
            assured: true,
            source_nat: false,
            destination_nat: false,
            left: Span::secs(60),
        }
    }

    fn text(rows: &[Row]) -> Vec<(String, u32, u32)> {
        rows.iter().map(|row| (row.prefix.to_string(), row.flows, row.hosts)).collect()
    }

    #[test]
    fn figures_by_hand() {
        let mut fold = Fold::new(64);
        (0..5).for_each(|_| fold.add(&flow("192.0.2.1", "198.51.100.1", 443)));
        let syn = Flow { replied: false, assured: false, tcp: Some(TcpState::SynSent), ..flow("192.0.2.1", "198.51.100.2", 80) };
        (0..2).for_each(|_| fold.add(&syn));
        let ping = Flow { protocol: ICMP, port: 0, tcp: None, assured: false, source_nat: true, ..syn };
        fold.add(&Flow { source: "192.0.2.9".parse().unwrap(), replied: true, ..ping });
        let six = |host: &str, n| (0..n).map(|_| flow(host, "2001:db8:f::1", 443)).collect::<Vec<_>>();
        for flow in [six("2001:db8::1", 3), six("2001:db8::2", 1), six("2001:db8:0:1::1", 1)].concat() {
            fold.add(&flow);
        }
        let census = fold.finish(3, None);
        assert_eq!((census.flows, census.sources, census.error), (13, 5, 0));
        let host = |text: &str, n| (text.to_owned(), n, 1);
        assert_eq!(text(&census.top), [host("192.0.2.1/32", 7), host("2001:db8::1/128", 3), host("192.0.2.9/32", 1)]);
        assert_eq!(text(&census.nets), [("2001:db8::/64".to_owned(), 4, 2), ("2001:db8:0:1::/64".to_owned(), 1, 1)]);
        // 1 1 1 3 7: the third of five, and the fifth (4.5, rounded up).
        assert_eq!(census.typical, (1, 7));
        let first = &census.top[0];
        assert_eq!((first.unreplied, first.unassured, first.opened), (2, 2, None));
        assert_eq!(first.top, Some(("198.51.100.1:443/tcp".parse().unwrap(), 5)));
        assert_eq!(
            census.endpoints[..2].iter().map(|(to, n)| (to.to_string(), *n)).collect::<Vec<_>>(),
            [("198.51.100.1:443/tcp".to_owned(), 5), ("[2001:db8:f::1]:443/tcp".to_owned(), 5)]
        );
        assert_eq!(census.ports, [(TCP, 443, 10), (TCP, 80, 2)]);
        assert_eq!(census.protocols, [(TCP, 12), (ICMP, 1)]);
        assert_eq!((census.tcp[TcpState::Established as usize], census.tcp[TcpState::SynSent as usize]), (10, 2));
        assert_eq!((census.unreplied, census.unassured, census.nat), (2, 3, (1, 0)));
        assert_eq!(census.largest(2).iter().map(|row| row.flows).collect::<Vec<_>>(), [7, 3]);
    }

    #[test]
    fn a_net_whose_hosts_are_many_is_there_though_its_hosts_are_not() {
        let mut fold = Fold::new(16);
        for n in 0..1000 {
            fold.add(&flow(&format!("2001:db8::{n:x}"), "2001:db8:f::1", 443));
            fold.add(&flow(&format!("192.0.2.{}", n % 3), "198.51.100.1", 443));
        }
        let census = fold.finish(4, None);
        assert!(census.error <= 2000 / 17 && census.error > 0, "{}", census.error);
        assert_eq!((census.nets[0].flows, census.nets[0].prefix.to_string().as_str()), (1000, "2001:db8::/64"));
        assert!(census.nets[0].hosts >= 1 && census.sources >= 16 && census.sources <= 1003);
        assert!(census.top[..3].iter().all(|row| row.flows >= 333 - census.error), "{:?}", census.top);
        assert_eq!(census.typical.0, 1);
        assert_eq!(census.largest(1)[0].prefix, census.nets[0].prefix);
    }

    #[test]
    fn a_net_stands_for_its_hosts_unless_one_of_them_holds_half_of_it() {
        let named = |first: u32| {
            let mut fold = Fold::new(64);
            (0..first).for_each(|_| fold.add(&flow("2001:db8::1", "2001:db8:f::1", 443)));
            (2..7).for_each(|n| fold.add(&flow(&format!("2001:db8::{n}"), "2001:db8:f::1", 443)));
            fold.finish(64, None).largest(1)[0].prefix.to_string()
        };
        assert_eq!((named(4).as_str(), named(5).as_str()), ("2001:db8::/64", "2001:db8::1/128"));
    }

    #[test]
    fn rows_are_as_small_as_is_said() {
        assert_eq!(size_of::<(Host, Kept<Tally>)>() + 1, 97);
        assert_eq!(size_of::<(Net, Kept<Tally>)>() + 1, 89);
        assert_eq!(size_of::<(Goal, Kept<()>)>() + 1, 29);
    }

    /// Sources of both families, some far busier than others, few endpoints.
    fn flows() -> impl Strategy<Value = Vec<Flow>> {
        let one = (0_u16..120, 0_u8..4, 0_u8..9, any::<(bool, bool)>()).prop_map(|(host, busy, to, (replied, assured))| {
            let host = if busy == 0 { host } else { host % 5 };
            let six = format!("2001:db8:0:{}::{}", host % 7, host);
            let from = if host % 2 == 0 { six } else { format!("192.0.2.{host}") };
            Flow { replied, assured, ..flow(&from, "198.51.100.1", u16::from(to)) }
        });
        proptest::collection::vec(one, 0..1500)
    }

    proptest! {
        #[test]
        fn bounds_hold_against_an_exact_count(room in 1_usize..60, flows in flows()) {
            let mut fold = Fold::new(room);
            flows.iter().for_each(|flow| fold.add(flow));
            let census = fold.finish(1000, None);
            let mut exact: BTreeMap<Prefix, Vec<&Flow>> = BTreeMap::new();
            for flow in &flows {
                exact.entry(Prefix::host(flow.source)).or_default().push(flow);
                if flow.source.ip().is_ipv6() {
                    exact.entry(Prefix::host(flow.source).widen(64)).or_default().push(flow);
                }
            }
            let named: BTreeMap<Prefix, &Row> = census.top.iter().chain(&census.nets).map(|row| (row.prefix, row)).collect();
            prop_assert!(u64::from(census.error) * (room as u64 + 1) <= census.flows);
            for (prefix, held) in &exact {
                let all = u32::try_from(held.len()).unwrap();
                let Some(row) = named.get(prefix) else {
                    prop_assert!(all <= census.error);
                    continue;
                };
                prop_assert!(row.flows <= all && all - row.flows <= census.error);
                prop_assert!(row.unreplied <= row.flows && row.unassured <= row.flows);
                let to = |port| u32::try_from(held.iter().filter(|flow| flow.port == port).count()).unwrap();
                if let Some((endpoint, most)) = row.top {
                    prop_assert!(most <= to(endpoint.port));
                }
                let third = (0..9).find(|port| u64::from(to(*port)) * 3 > u64::from(all) * 2);
                prop_assert!(census.error > 0 || third.is_none_or(|port| row.top.is_some_and(|(endpoint, _)| endpoint.port == port)));
                let hosts = held.iter().map(|flow| flow.source).collect::<BTreeSet<_>>().len() as u64;
                prop_assert!(u64::from(row.hosts) <= hosts && (census.error > 0 || u64::from(row.hosts) == hosts));
            }
            let sources = exact.keys().filter(|prefix| prefix.is_host()).count() as u64;
            prop_assert!(census.sources <= sources && (census.error > 0 || census.sources == sources));
            prop_assert_eq!(census.ports.iter().map(|(.., n)| u64::from(*n)).sum::<u64>(), flows.len() as u64);
            prop_assert!(census.top.is_sorted_by(|a, b| a.flows >= b.flows));
        }
    }
}
