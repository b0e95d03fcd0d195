//! Flows whose sockets are gone: told by who opens such sockets now.
//!
//! Whoever opens connections in a loop holds few of them at any moment, and what it has closed nobody owns. But it goes
//! on: of the sockets that appear between two listings, most are its. What is looked at is the port they go to.
//!
//! Who merely has a few sockets to a port that a flood goes to as well is not taken for it: a guess by the port needs
//! several of them, and no less than half of those seen. Else whose the flows were is not known, and nobody is named.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use palisade_core::flood::flow::{self, Endpoint, Flow};

/// Most sockets kept of those that appear.
const MOST: usize = 16_384;

/// Fewest sockets to the same port that must be somebody's, for flows to anywhere to be taken for his: opened lately, and
/// held. Of those that send to anybody it is not even known that they went to that port, so as many as held ones.
const FEWEST_OPENED: u32 = 2;
const FEWEST: u32 = 8;

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
/// same port lately, or of UDP to anybody; else to whoever holds most to the same port: these three only where it is at
/// least half of all and [`FEWEST_OPENED`] or [`FEWEST`].
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
        *who = endpoints
            .most(&endpoint(flow))
            .or_else(|| lately.half(&to, FEWEST_OPENED))
            .or_else(|| lately.half(&anywhere, FEWEST))
            .or_else(|| ports.half(&to, FEWEST));
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

    /// Who has at least half of them, and no fewer than these.
    fn half(&self, to: &T, fewest: u32) -> Option<W> {
        let counts = self.0.get(to)?;
        let all: u64 = counts.values().copied().map(u64::from).sum();
        let (who, most) = counts.iter().max_by_key(|(_, count)| **count)?;
        (*most >= fewest && u64::from(*most) * 2 >= all).then_some(*who)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use palisade_core::time::Span;

    use super::*;

    /// A flow from a port to an endpoint.
    pub(in crate::owners) fn flow(source_port: u16, to: &str, port: u16, protocol: u8) -> Flow {
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
        let opened: Vec<_> = [((flow::TCP, 443), 'c'); 2].into_iter().chain([((flow::UDP, 0), 'd'); 8]).collect();
        adopt(&flows, &mut who, &opened);
        // Three sockets to the port are too few for the flow to another address.
        assert_eq!(who, [Some('a'), Some('b'), Some('b'), Some('b'), None, Some('c'), None, Some('d'), None]);
        let mut who = [Some('a'), None, None, None, None, None, None, None, None];
        adopt(&flows, &mut who, &[((flow::TCP, 80), 'e'); 2]);
        assert_eq!(who[..5], [Some('a'), Some('a'), Some('a'), Some('a'), Some('e')]);
    }

    #[test]
    fn who_has_a_few_sockets_to_the_port_is_not_taken_for_who_floods() {
        let held = |n: u16| (1..=n).map(|n| flow(n, "198.51.100.1", 443, flow::TCP));
        let gone = |protocol, port| (0..100).map(move |n| flow(1000 + n, "198.51.100.2", port, protocol));
        let run = |flows: Vec<Flow>, owners: &[(char, usize)], opened: &[(To, char)]| {
            let flows: Vec<&Flow> = flows.iter().collect();
            let mut who: Vec<Option<char>> = owners.iter().flat_map(|(who, count)| vec![Some(*who); *count]).collect();
            let known = who.len();
            who.resize(flows.len(), None);
            adopt(&flows, &mut who, opened);
            who.split_off(known).into_iter().collect::<HashSet<_>>()
        };
        let tcp = |owners: &[(char, usize)], opened: &[(To, char)]| {
            let count = owners.iter().map(|(_, count)| count).sum::<usize>();
            run(held(count.try_into().unwrap()).chain(gone(flow::TCP, 443)).collect(), owners, opened)
        };
        let one = |who: Option<char>| HashSet::from([who]);
        assert_eq!(tcp(&[('a', 1)], &[]), one(None));
        assert_eq!(tcp(&[('a', 7)], &[]), one(None));
        assert_eq!(tcp(&[('a', 8), ('b', 3)], &[]), one(Some('a')));
        assert_eq!(tcp(&[('a', 8), ('b', 8)], &[]).len(), 1);
        assert_eq!(tcp(&[('a', 8), ('b', 7), ('c', 7)], &[]), one(None), "less than half");
        let to = (flow::TCP, 443);
        assert_eq!(tcp(&[('a', 1)], &[(to, 'b')]), one(None), "one that happened to open a socket");
        assert_eq!(tcp(&[('a', 1)], &[(to, 'b'), (to, 'b'), (to, 'c')]), one(Some('b')));
        let udp = |opened: &[(To, char)]| run(gone(flow::UDP, 53).collect(), &[], opened);
        let anywhere = (flow::UDP, 0);
        assert_eq!(udp(&[(anywhere, 'a'); 7]), one(None));
        assert_eq!(udp(&[(anywhere, 'a'); 8]), one(Some('a')));
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
