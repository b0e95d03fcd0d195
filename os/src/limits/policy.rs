//! Timeouts by state, in the words of each side: the kernel's numbers, the names of states, the names of switches.
//!
//! Only of TCP and UDP. The kernel takes policies of ICMP too, but nft(8) cannot read back what it prints of them
//! (libnftables, parser_bison.y: `timeout_l4proto`): who saved the rules meanwhile could not load them again.

use std::collections::BTreeMap;

use palisade_core::flood::flow::{TCP, UDP};
use palisade_core::flood::timeouts::Timeouts;
use palisade_core::time::Span;

use crate::sysctl;

/// The longest time a policy is given, in seconds: the kernel counts in up to 1000 ticks a second, in 31 bits.
pub const LONGEST: u32 = 2_147_483;

/// A state that has a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// IP protocol number.
    pub protocol: u8,
    /// The kernel's number in a policy. Of TCP, 1 to 9 are those of the states that a flow can be in.
    pub number: u16,
    /// As nft(8) and services call it.
    pub name: &'static str,
    /// The short name of the switch that holds its default; `None`: the kernel has none.
    pub switch: Option<&'static str>,
}

/// `CTA_TIMEOUT_TCP_RETRANS`: how long a connection lasts that repeats itself, or whose receiver takes no more.
pub const TCP_RETRANS: u16 = 10;
/// `CTA_TIMEOUT_TCP_UNACK`: how long one lasts whose last packet is not acknowledged.
pub const TCP_UNACK: u16 = 11;
/// `CTA_TIMEOUT_TCP_CLOSE`.
pub const TCP_CLOSE: u16 = 8;
/// `CTA_TIMEOUT_UDP_UNREPLIED`, `CTA_TIMEOUT_UDP_REPLIED`.
pub const UDP_UNREPLIED: u16 = 1;
/// A stream of packets in both directions.
pub const UDP_REPLIED: u16 = 2;

const fn state(protocol: u8, number: u16, name: &'static str, switch: &'static str) -> State {
    State { protocol, number, name, switch: Some(switch) }
}

/// All (linux/netfilter/nfnetlink_cttimeout.h; the switches: kernel documentation, networking/nf_conntrack-sysctl).
pub const STATES: [State; 13] = [
    state(TCP, 1, "syn_sent", "tcp_syn_sent"),
    state(TCP, 2, "syn_recv", "tcp_syn_recv"),
    state(TCP, 3, "established", "tcp_established"),
    state(TCP, 4, "fin_wait", "tcp_fin_wait"),
    state(TCP, 5, "close_wait", "tcp_close_wait"),
    state(TCP, 6, "last_ack", "tcp_last_ack"),
    state(TCP, 7, "time_wait", "tcp_time_wait"),
    state(TCP, TCP_CLOSE, "close", "tcp_close"),
    State { protocol: TCP, number: 9, name: "syn_sent2", switch: None },
    state(TCP, TCP_RETRANS, "retrans", "tcp_max_retrans"),
    state(TCP, TCP_UNACK, "unack", "tcp_unacknowledged"),
    state(UDP, UDP_UNREPLIED, "unreplied", "udp"),
    state(UDP, UDP_REPLIED, "replied", "udp_stream"),
];

impl State {
    /// The file of its switch, below `/proc/sys`.
    pub fn path(&self) -> Option<String> {
        let switch = self.switch?;
        let (first, rest) = switch.split_once('_').map_or((switch, String::new()), |(first, rest)| (first, format!("_{rest}")));
        Some(format!("net/netfilter/nf_conntrack_{first}_timeout{rest}"))
    }

    /// Services may use the switch's word too: `max_retrans`, `unacknowledged`.
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.switch.and_then(|switch| switch.strip_prefix("tcp_")) == Some(name)
    }
}

/// The states of a protocol, none where it has no policy.
pub fn states(protocol: u8) -> impl Iterator<Item = &'static State> {
    STATES.iter().filter(move |state| state.protocol == protocol)
}

/// A policy of one protocol from timeouts by the switches' short names (`tcp_established`, `udp_stream`). Names of
/// other protocols say nothing here, those that no policy can hold (`icmp`, `generic`) nowhere.
pub fn by_switch(timeouts: &Timeouts, protocol: u8) -> BTreeMap<u16, u32> {
    let held = states(protocol).filter_map(|state| Some((state.number, seconds(*timeouts.get(state.switch?)?))));
    held.collect()
}

/// A policy of one protocol from timeouts by the states' names.
///
/// # Errors
/// The name that is no state's of this protocol.
pub fn by_state(timeouts: &Timeouts, protocol: u8) -> Result<BTreeMap<u16, u32>, &str> {
    let number = |name: &str| states(protocol).find(|state| state.is_called(name)).map(|state| state.number);
    timeouts.iter().map(|(name, span)| Ok((number(name).ok_or(name.as_str())?, seconds(*span)))).collect()
}

/// What the states last that a policy does not name, so that it never takes them from switches that are shortened for a while.
/// The kernel fills up what is not written from the switches as they are at that moment, and keeps it
/// (net/netfilter/nf_conntrack_proto_tcp.c, `tcp_timeout_nlattr_to_obj`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beneath(BTreeMap<(u8, u16), u32>);

impl Beneath {
    /// As `base` says by the switches' short names; what is not in it, as its switch says now. A state whose switch cannot be
    /// read, and the one that has none, is left to the kernel.
    pub fn new(base: &Timeouts) -> Self {
        let now = |state: &State| sysctl::get(&state.path()?).ok()??.parse().ok().map(|secs: u32| secs.clamp(1, LONGEST));
        let held = |state: &State| base.get(state.switch?).map(|span| seconds(*span)).or_else(|| now(state));
        Self(STATES.iter().filter_map(|state| Some(((state.protocol, state.number), held(state)?))).collect())
    }

    /// A policy of this protocol with all its states.
    pub fn fill(&self, protocol: u8, mut policy: BTreeMap<u16, u32>) -> BTreeMap<u16, u32> {
        for ((_, number), seconds) in self.0.iter().filter(|((of, _), _)| *of == protocol) {
            policy.entry(*number).or_insert(*seconds);
        }
        policy
    }
}

/// At least one: the kernel would end a connection with 0 before its second packet.
fn seconds(span: Span) -> u32 {
    u32::try_from(span.as_secs_ceil()).unwrap_or(LONGEST).clamp(1, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeouts(all: &[(&str, u64)]) -> Timeouts {
        all.iter().map(|(name, secs)| ((*name).to_owned(), Span::secs(*secs))).collect()
    }

    #[test]
    fn every_switch_is_there() {
        let switches: Vec<_> = STATES.iter().filter_map(State::path).collect();
        assert_eq!(switches.len(), 12);
        for path in switches {
            let value = sysctl::get(&path).unwrap();
            assert!(value.is_some_and(|value| value.parse::<u32>().is_ok()), "{path}");
        }
    }

    #[test]
    fn each_protocol_takes_what_is_its_own() {
        let all = timeouts(&[("tcp_established", 60), ("tcp_syn_sent", 5), ("udp", 10), ("udp_stream", 20), ("icmp", 3), ("generic", 9)]);
        assert_eq!(by_switch(&all, TCP), BTreeMap::from([(1, 5), (3, 60)]));
        assert_eq!(by_switch(&all, UDP), BTreeMap::from([(1, 10), (2, 20)]));
        assert_eq!(by_switch(&all, palisade_core::flood::flow::ICMP), BTreeMap::new());
        assert_eq!(by_switch(&all, 47), BTreeMap::new());
    }

    #[test]
    fn what_a_policy_does_not_name_is_as_beneath_it() {
        let base = timeouts(&[("tcp_established", 7440), ("tcp_close", 0), ("udp", 33), ("icmp", 5)]);
        let beneath = Beneath::new(&base);
        let policy = beneath.fill(TCP, BTreeMap::from([(1, 5), (9, 6)]));
        let switch: u32 = sysctl::get("net/netfilter/nf_conntrack_tcp_timeout_last_ack").unwrap().unwrap().parse().unwrap();
        assert_eq!((policy.len(), policy[&1], policy[&3], policy[&6], policy[&8], policy[&9]), (11, 5, 7440, switch, 1, 6));
        assert_eq!(beneath.fill(UDP, BTreeMap::from([(2, 20)])), BTreeMap::from([(1, 33), (2, 20)]));
        assert_eq!(beneath.fill(palisade_core::flood::flow::ICMP, BTreeMap::new()), BTreeMap::new());
        assert_eq!(Beneath::default().fill(TCP, BTreeMap::from([(1, 5)])), BTreeMap::from([(1, 5)]));
    }

    #[test]
    fn states_have_two_names_and_wrong_ones_are_named() {
        let all = timeouts(&[("max_retrans", 7), ("unack", 8), ("established", u64::MAX / 1000), ("close", 0)]);
        assert_eq!(by_state(&all, TCP), Ok(BTreeMap::from([(10, 7), (11, 8), (3, LONGEST), (8, 1)])));
        assert_eq!(by_state(&timeouts(&[("established", 7)]), UDP), Err("established"));
        assert_eq!(by_state(&timeouts(&[("unreplied", 7), ("replied", 8)]), UDP), Ok(BTreeMap::from([(1, 7), (2, 8)])));
    }
}
