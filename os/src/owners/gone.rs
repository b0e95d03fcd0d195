//! Flows whose sockets are gone: told by who opens such sockets now.
//!
//! Whoever opens connections in a loop holds few of them at any moment, and what it has closed nobody owns. But it goes
//! on: of the sockets that appear between two listings, most are its. What is looked at is the port they go to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use palisade_core::flood::flow::{self, Endpoint, Flow};

/// Most sockets kept of those that appear.
const MOST: usize = 16_384;

/// Protocol and port of the other end; 0 for a socket that sends to anybody.
pub(super) type To = (u8, u16);

/// Sockets that appear from listing to listing, to ports that are looked for.
#[derive(Debug)]
pub(super) struct Newcomers<H> {
    ports: HashSet<To>,
    known: HashSet<u32>,
    /// The first listing is over.
    begun: bool,
    pub(super) seen: Vec<(To, H)>,
}

impl<H> Newcomers<H> {
    /// To the ports of these flows.
    pub(super) fn to(flows: &[&Flow]) -> Self {
        let mut ports: HashSet<To> = flows.iter().filter(|flow| has_sockets(flow)).map(|flow| (flow.protocol, flow.port)).collect();
        ports.insert((flow::UDP, 0));
        Self { ports, known: HashSet::new(), begun: false, seen: Vec::new() }
    }

    /// A socket of a listing.
    pub(super) fn offer(&mut self, to: To, inode: u32, holder: H) {
        if self.ports.contains(&to) && self.known.len() < MOST && self.known.insert(inode) && self.begun {
            self.seen.push((to, holder));
        }
    }

    /// What is offered from now on and was not before is new.
    pub(super) const fn begin(&mut self) {
        self.begun = true;
    }
}

/// Whether flows of its protocol have sockets.
pub(super) const fn has_sockets(flow: &Flow) -> bool {
    matches!(flow.protocol, flow::TCP | flow::UDP)
}

/// Gives the flows whose socket is gone to whoever holds most to the same endpoint; else to whoever opened most to the
/// same port lately; else to whoever holds most to the same port.
pub(super) fn adopt<W: Copy + Ord + Hash>(flows: &[&Flow], who: &mut [Option<W>], opened: &[(To, W)]) {
    let (mut endpoints, mut ports, mut lately) = (Tally::default(), Tally::default(), Tally::default());
    for (flow, who) in flows.iter().zip(who.iter()) {
        if let Some(who) = who {
            endpoints.add(endpoint(flow), *who);
            ports.add((flow.protocol, flow.port), *who);
        }
    }
    opened.iter().for_each(|(to, who)| lately.add(*to, *who));
    for (flow, who) in flows.iter().zip(who).filter(|(flow, who)| who.is_none() && has_sockets(flow)) {
        let to = (flow.protocol, flow.port);
        let anywhere = (flow.protocol, 0);
        *who = endpoints.most(&endpoint(flow)).or_else(|| lately.most(&to)).or_else(|| lately.most(&anywhere)).or_else(|| ports.most(&to));
    }
}

pub(super) const fn endpoint(flow: &Flow) -> Endpoint {
    Endpoint { addr: flow.destination, port: flow.port, protocol: flow.protocol }
}

/// How many of each thing are whose.
struct Tally<T, W>(HashMap<T, BTreeMap<W, u32>>);

impl<T, W> Default for Tally<T, W> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash, W: Copy + Ord> Tally<T, W> {
    fn add(&mut self, to: T, who: W) {
        *self.0.entry(to).or_default().entry(who).or_default() += 1;
    }

    fn most(&self, to: &T) -> Option<W> {
        self.0.get(to)?.iter().max_by_key(|(_, count)| **count).map(|(who, _)| *who)
    }
}

#[cfg(test)]
mod tests {
    use palisade_core::time::Span;

    use super::*;

    fn flow(source_port: u16, to: &str, port: u16, protocol: u8) -> Flow {
        Flow {
            source: "192.0.2.1".parse().unwrap(),
            destination: to.parse().unwrap(),
            protocol,
            source_port,
            port,
            tcp: None,
            replied: false,
            assured: false,
            source_nat: false,
            destination_nat: false,
            left: Span::secs(1),
        }
    }

    #[test]
    fn the_same_endpoint_counts_first_then_who_opens_now_then_who_holds() {
        let tcp = |n, to, port| flow(n, to, port, flow::TCP);
        let flows = [
            tcp(1, "198.51.100.1", 80),
            tcp(2, "198.51.100.1", 80),
            tcp(3, "198.51.100.1", 80),
            tcp(4, "198.51.100.1", 80),
            tcp(5, "198.51.100.2", 80),
            tcp(6, "198.51.100.3", 443),
            tcp(7, "198.51.100.3", 25),
            flow(8, "198.51.100.3", 53, flow::UDP),
            flow(9, "198.51.100.3", 0, flow::ICMP),
        ];
        let flows: Vec<&Flow> = flows.iter().collect();
        let mut who = [Some('a'), Some('b'), Some('b'), None, None, None, None, None, None];
        adopt(&flows, &mut who, &[((flow::TCP, 443), 'c'), ((flow::UDP, 0), 'd')]);
        assert_eq!(who, [Some('a'), Some('b'), Some('b'), Some('b'), Some('b'), Some('c'), None, Some('d'), None]);
        let mut who = [Some('a'), None, None, None, None, None, None, None, None];
        adopt(&flows, &mut who, &[((flow::TCP, 80), 'e')]);
        assert_eq!(who[..5], [Some('a'), Some('a'), Some('a'), Some('a'), Some('e')]);
    }

    #[test]
    fn who_was_there_before_is_not_new() {
        let one = flow(1, "198.51.100.1", 80, flow::TCP);
        let mut newcomers = Newcomers::to(&[&one]);
        newcomers.offer((flow::TCP, 80), 7, 'a');
        newcomers.begin();
        newcomers.offer((flow::TCP, 80), 7, 'a');
        newcomers.offer((flow::TCP, 81), 8, 'b');
        newcomers.offer((flow::TCP, 80), 9, 'c');
        newcomers.offer((flow::UDP, 0), 10, 'd');
        assert_eq!(newcomers.seen, [((flow::TCP, 80), 'c'), ((flow::UDP, 0), 'd')]);
    }
}
