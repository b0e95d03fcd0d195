//! Which connections a set of targets takes, whatever their number.

use std::collections::{BTreeSet, HashMap};

use palisade_core::bans::wall::Ports;
use palisade_core::net::{Addr, Family, Prefix};

use super::Target;
#[cfg(target_os = "linux")]
use crate::netlink::conntrack::Tuple;

/// Targets sorted for matching: the cost of one look grows with the number of distinct prefix
/// lengths, not of targets.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// `None`: all ports.
    ports: HashMap<Prefix, Option<BTreeSet<u16>>>,
    ipv4: BTreeSet<u8>,
    ipv6: BTreeSet<u8>,
}

impl Targets {
    pub(super) fn new(targets: &[Target]) -> Self {
        let mut all = Self::default();
        for Target { prefix, ports } in targets {
            match prefix.family() {
                Family::V4 => all.ipv4.insert(prefix.len()),
                Family::V6 => all.ipv6.insert(prefix.len()),
            };
            let known = all.ports.entry(*prefix).or_insert_with(|| Some(BTreeSet::new()));
            match (ports, known.as_mut()) {
                (Ports::All, _) => *known = None,
                (Ports::Only(more), Some(ports)) => ports.extend(more.iter()),
                (Ports::Only(_), None) => {}
            }
        }
        all
    }

    /// Whether a connection with `remote` is meant. `port` is that of the other end, ours; `None` for
    /// protocols other than TCP and UDP, which only a target of all ports takes.
    pub(super) fn take(&self, remote: Addr, port: Option<u16>) -> bool {
        let lens = match remote.family() {
            Family::V4 => &self.ipv4,
            Family::V6 => &self.ipv6,
        };
        lens.iter().filter_map(|len| self.ports.get(&Prefix::new(remote, *len)?)).any(|ports| match ports {
            None => true,
            Some(ports) => port.is_some_and(|port| ports.contains(&port)),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }
}

/// For listing the kernel's own connections and states.
#[cfg(target_os = "linux")]
impl Targets {
    /// The only family among them; `None` where there are both.
    pub(super) fn family(&self) -> Option<Family> {
        match (self.ipv4.is_empty(), self.ipv6.is_empty()) {
            (false, true) => Some(Family::V4),
            (true, false) => Some(Family::V6),
            _ => None,
        }
    }

    /// The prefixes, where there are at most `most`.
    pub(super) fn few(&self, most: usize) -> Option<impl Iterator<Item = Prefix>> {
        (self.ports.len() <= most).then(|| self.ports.keys().copied())
    }

    /// Whether packets of this direction come from a target or go to one. As at the wall, ours is
    /// the port at the end that is not the target's.
    pub(super) fn take_tuple(&self, tuple: &Tuple) -> bool {
        let (source_port, destination_port) = tuple.ports().unzip();
        self.take(tuple.source, destination_port) || self.take(tuple.destination, source_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::conntrack::L4;

    fn target(prefix: &str, ports: &[u16]) -> Target {
        Target { prefix: prefix.parse().unwrap(), ports: Ports::only(ports.iter().copied()).unwrap() }
    }

    fn tuple(source: &str, destination: &str, protocol: u8, ports: (u16, u16)) -> Tuple {
        let l4 = if protocol == 1 { L4::Icmp { id: 1, kind: 8, code: 0 } } else { L4::Ports { source: ports.0, destination: ports.1 } };
        Tuple { source: source.parse().unwrap(), destination: destination.parse().unwrap(), protocol, l4 }
    }

    #[test]
    fn any_length_and_family_is_matched() {
        let targets = Targets::new(&[target("203.0.113.0/24", &[]), target("198.51.100.7/32", &[]), target("2001:db8:1::/48", &[])]);
        for (addr, taken) in
            [("203.0.113.9", true), ("198.51.100.7", true), ("198.51.100.8", false), ("2001:db8:1:2::3", true), ("2001:db8:2::", false)]
        {
            assert_eq!(targets.take(addr.parse().unwrap(), None), taken, "{addr}");
        }
        assert_eq!(targets.family(), None);
        assert!(targets.few(2).is_none() && targets.few(3).is_some());
    }

    #[test]
    fn only_our_ports_count_in_either_direction() {
        let targets = Targets::new(&[target("203.0.113.9/32", &[22]), target("203.0.113.9/32", &[80])]);
        let (it, us) = ("203.0.113.9", "192.0.2.1");
        assert!(targets.take_tuple(&tuple(it, us, 6, (999, 22))) && targets.take_tuple(&tuple(it, us, 17, (999, 80))));
        assert!(targets.take_tuple(&tuple(us, it, 6, (22, 999))), "picked up in the middle: the server's packet came first");
        assert!(!targets.take_tuple(&tuple(us, it, 6, (999, 22))), "our own connection to its port 22");
        assert!(!targets.take_tuple(&tuple(it, us, 6, (22, 443))));
        assert!(!targets.take_tuple(&tuple(it, us, 132, (999, 22))), "SCTP is not TCP");
        assert!(!targets.take_tuple(&tuple(it, us, 1, (0, 0))));
    }

    #[test]
    fn all_ports_absorb_some() {
        let targets = Targets::new(&[target("203.0.113.9/32", &[]), target("203.0.113.9/32", &[80])]);
        assert!(targets.take("203.0.113.9".parse().unwrap(), Some(443)));
        assert!(Targets::new(&[]).is_empty());
    }
}
