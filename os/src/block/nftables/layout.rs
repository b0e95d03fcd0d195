//! What our table looks like for the sets in use. Pure: names, chains and rules, no kernel.
//!
//! ```text
//!  table inet palisade {
//!    set ban4_32      { type ipv4_addr; flags timeout; [counter;] }    one for each kind of ban, family and
//!    set ban4_24      { ... }    set ban6_64_p22_80 { ... }            prefix length in use; `forced4_32`
//!    set allow4_24    { type ipv4_addr; }
//!    set ports_22_80  { type inet_service; flags constant; }
//!    set tcp_udp      { type inet_proto; flags constant; }
//!    chain pre  { filter hook prerouting -310: iif lo accept; ipv4 goto v4; ipv6 goto v6 }
//!    chain out  { filter hook output -310:     oif lo accept; ipv4 goto v4dst; ipv6 goto v6dst }
//!    chain v4   { forced saddr refuse; allow saddr goto v4dst; banned saddr refuse; goto v4dst }
//!    chain v4dst{ forced daddr refuse; allow daddr accept; banned daddr refuse }        v6 likewise
//!    chain refuse { tcp reject with reset; reject with icmpx admin-prohibited }         only to reject
//!  }
//! ```
//! An allow-listed source passes though its whole /24 is banned, and a banned source does not
//! reach an allow-listed destination. Bans limited to ports ask for the port first, so that an
//! element counts only what was refused. To reject, `out` first lets our own answers pass.
//!
//! Whether the elements of a set of bans count is a property of that set, kept while it stands: a
//! wall put up with at most [`COUNTED`] bans counts, a larger one does not, and a set made later for
//! a kind of ban that was not there yet does.
//!
//! Names of a second *generation* end in `.2`, of a third in `.3`: [`super::Nftables`] fills a
//! fresh generation beside the standing one and exchanges them in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use palisade_core::bans::wall::{Key, Ports, Refusal};
use palisade_core::net::{Addr, Family, Prefix};
use palisade_core::ours::NFT_PRIORITY;

use crate::netlink::nft::expr::{Header, Meta};
use crate::netlink::nft::{Base, Chain, Expr, Rule, Set, Verdict, key_type, set_flag};

/// `NF_INET_PRE_ROUTING`, `NF_INET_LOCAL_OUT`, `NF_ACCEPT` (linux/netfilter.h).
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const ACCEPT: u32 = 1;
/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const NFPROTO: [(Family, u8); 2] = [(Family::V4, 2), (Family::V6, 10)];
/// Loopback is device 1 in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
/// IP protocol numbers (IANA).
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// The chain that rejects.
const REFUSE: &str = "refuse";

/// Up to so many bans a wall that is put up counts what each of them refuses. Counting costs 2.5 us
/// of kernel time an element (a per-CPU allocation), two thirds of all a load costs: for so many
/// 40 ms, which nobody notices at a start; for a million 2.5 s without a wall. A list so long comes
/// from a feed, and nobody looks up its members one by one.
pub const COUNTED: usize = 16_384;

/// What a set of ours is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Members of the allow list.
    Allow,
    /// Bans.
    Ban {
        /// Before the allow list.
        forced: bool,
        /// From what.
        ports: Ports,
    },
}

/// Which set an allow-list member or a ban is an element of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// What for.
    pub class: Class,
    /// Of which addresses.
    pub family: Family,
    /// Of which prefix length, at most the family's bits.
    pub len: u8,
}

impl Kind {
    /// The set that holds the ban of `key`.
    pub fn of(key: &Key) -> Self {
        let class = Class::Ban { forced: key.forced, ports: key.ports.clone() };
        Self { class, family: key.prefix.family(), len: key.prefix.len() }
    }

    /// The set that lets `prefix` pass.
    pub const fn allow(prefix: &Prefix) -> Self {
        Self { class: Class::Allow, family: prefix.family(), len: prefix.len() }
    }

    /// The set's name: `ban4_32`, `forced6_64_p22_80`, `allow4_24`, `ban4_32.2`. At most 215 bytes
    /// of the kernel's 255 with [`Ports::MOST`] ports.
    pub fn name(&self, generation: u32) -> String {
        let word = match self.class {
            Class::Allow => "allow",
            Class::Ban { forced: true, .. } => "forced",
            Class::Ban { forced: false, .. } => "ban",
        };
        let family = if self.family == Family::V4 { 4 } else { 6 };
        let mut name = format!("{word}{family}_{}", self.len);
        if let Some(ports) = self.ports() {
            push_ports(&mut name, "_p", ports);
        }
        push_generation(&mut name, generation);
        name
    }

    /// Reads what [`Kind::name`] wrote: the kind and its generation. `None` for any other name.
    pub fn parse(name: &str) -> Option<(Self, u32)> {
        let (stem, generation) = split_generation(name)?;
        let (word, rest) = stem.split_at(stem.find(['4', '6'])?);
        let (family, rest) = match rest.strip_prefix("4_") {
            Some(rest) => (Family::V4, rest),
            None => (Family::V6, rest.strip_prefix("6_")?),
        };
        let (len, ports) = match rest.split_once("_p") {
            Some((len, ports)) => {
                let ports: Option<Vec<u16>> = ports.split('_').map(|port| port.parse().ok()).collect();
                (len, Ports::only(ports?)?)
            }
            None => (rest, Ports::All),
        };
        let class = match word {
            "allow" => Class::Allow,
            "ban" => Class::Ban { forced: false, ports },
            "forced" => Class::Ban { forced: true, ports },
            _ => return None,
        };
        let kind = Self { class, family, len: len.parse().ok().filter(|len| *len <= family.bits())? };
        (kind.name(generation) == name).then_some((kind, generation))
    }

    /// What an element with this key stands for; `None` where the key is no address of the family.
    pub fn prefix(&self, key: &[u8]) -> Option<Prefix> {
        Prefix::new(Addr::from_octets(key).filter(|addr| addr.family() == self.family)?, self.len)
    }

    /// The ban an element with this key is; `None` for the allow list's sets too.
    pub fn key(&self, key: &[u8]) -> Option<Key> {
        match &self.class {
            Class::Allow => None,
            Class::Ban { forced, ports } => Some(Key { prefix: self.prefix(key)?, ports: ports.clone(), forced: *forced }),
        }
    }

    const fn ports(&self) -> Option<&Arc<[u16]>> {
        match &self.class {
            Class::Ban { ports: Ports::Only(ports), .. } => Some(ports),
            Class::Ban { ports: Ports::All, .. } | Class::Allow => None,
        }
    }

    /// The set itself, its elements `counted` or not; those of the allow list never are.
    pub fn set(&self, generation: u32, counted: bool) -> Set {
        let ban = self.class != Class::Allow;
        let (key_type, key_len) = match self.family {
            Family::V4 => (key_type::IPV4, 4),
            Family::V6 => (key_type::IPV6, 16),
        };
        let flags = if ban { set_flag::TIMEOUT } else { 0 };
        Set { name: self.name(generation), flags, key_type, key_len, counter: ban && counted, size: None, timeout: None }
    }
}

fn push_ports(name: &mut String, before: &str, ports: &[u16]) {
    name.push_str(before);
    for (i, port) in ports.iter().enumerate() {
        let _ = write!(name, "{}{port}", if i == 0 { "" } else { "_" });
    }
}

fn push_generation(name: &mut String, generation: u32) {
    if generation > 1 {
        let _ = write!(name, ".{generation}");
    }
}

fn split_generation(name: &str) -> Option<(&str, u32)> {
    match name.split_once('.') {
        None => Some((name, 1)),
        Some((stem, generation)) => Some((stem, generation.parse().ok().filter(|generation| *generation > 1)?)),
    }
}

/// The generation in a set's name, whatever the set is.
pub fn generation_of(name: &str) -> u32 {
    split_generation(name).map_or(1, |(_, generation)| generation)
}

/// The whole table: what decides about its chains, rules and sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Which generation of sets.
    pub generation: u32,
    /// What a banned packet meets.
    pub refusal: Refusal,
    /// The sets in use, and whether the elements of each count.
    pub kinds: BTreeMap<Kind, bool>,
}

impl Default for Layout {
    fn default() -> Self {
        Self { generation: 1, refusal: Refusal::default(), kinds: BTreeMap::new() }
    }
}

/// Which address of a packet is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

impl Layout {
    fn ports_in_use(&self) -> BTreeSet<&Arc<[u16]>> {
        self.kinds.keys().filter_map(Kind::ports).collect()
    }

    fn tcp_udp(&self) -> String {
        let mut name = "tcp_udp".to_owned();
        push_generation(&mut name, self.generation);
        name
    }

    fn ports_name(&self, ports: &[u16]) -> String {
        let mut name = String::new();
        push_ports(&mut name, "ports_", ports);
        push_generation(&mut name, self.generation);
        name
    }

    /// The sets whose elements never change, with them. The kernel keeps them so while a rule uses them.
    pub fn constants(&self) -> Vec<(Set, Vec<Vec<u8>>)> {
        let set =
            |name, key_type, key_len| Set { name, flags: set_flag::CONSTANT, key_type, key_len, counter: false, size: None, timeout: None };
        let ports = self.ports_in_use();
        let mut all = Vec::new();
        if !ports.is_empty() {
            all.push((set(self.tcp_udp(), key_type::PROTOCOL, 1), vec![vec![TCP], vec![UDP]]));
        }
        for list in ports {
            let keys = list.iter().map(|port| port.to_be_bytes().to_vec()).collect();
            all.push((set(self.ports_name(list), key_type::PORT, 2), keys));
        }
        all
    }

    /// Every set, the constant ones too.
    pub fn sets(&self) -> Vec<Set> {
        let constants = self.constants().into_iter().map(|(set, _)| set);
        constants.chain(self.kinds.iter().map(|(kind, counted)| kind.set(self.generation, *counted))).collect()
    }

    /// The kinds of the allow list.
    pub fn allowing(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.keys().filter(|kind| kind.class == Class::Allow)
    }

    /// The kinds of bans.
    pub fn banning(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.keys().filter(|kind| kind.class != Class::Allow)
    }

    fn uses(&self, family: Family) -> bool {
        self.kinds.keys().any(|kind| kind.family == family)
    }

    /// Every chain.
    pub fn chains(&self) -> Vec<Chain> {
        let base = |name: &str, hook| Chain {
            name: name.to_owned(),
            base: Some(Base { hook, priority: NFT_PRIORITY, policy: ACCEPT, kind: "filter".to_owned() }),
        };
        let mut all = vec![base("pre", PREROUTING), base("out", OUTPUT)];
        let families = NFPROTO.iter().filter(|(family, _)| self.uses(*family));
        let names = families.flat_map(|(family, _)| [source_chain(*family), destination_chain(*family)]);
        all.extend(names.map(|name| Chain { name: name.to_owned(), base: None }));
        if self.refusal == Refusal::Reject {
            all.push(Chain { name: REFUSE.to_owned(), base: None });
        }
        all
    }

    /// Every rule, each chain's in order.
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules = vec![
            rule("pre", vec![Expr::Meta(Meta::InDevice), Expr::Equal(LOOPBACK.to_ne_bytes().to_vec()), accept()]),
            rule("out", vec![Expr::Meta(Meta::OutDevice), Expr::Equal(LOOPBACK.to_ne_bytes().to_vec()), accept()]),
        ];
        if self.refusal == Refusal::Reject {
            rules.extend(refuse_rules());
            rules.extend(answers_pass());
        }
        for (family, number) in NFPROTO.into_iter().filter(|(family, _)| self.uses(*family)) {
            let family_is = || [Expr::Meta(Meta::Family), Expr::Equal(vec![number])];
            let to = |chain: &str, target: &str| rule(chain, family_is().into_iter().chain([goto(target)]).collect());
            rules.push(to("pre", source_chain(family)));
            rules.push(to("out", destination_chain(family)));
            self.family_rules(family, Side::Source, &mut rules);
            rules.push(rule(source_chain(family), vec![goto(destination_chain(family))]));
            self.family_rules(family, Side::Destination, &mut rules);
        }
        rules
    }

    /// Forced bans, then the allow list, then bans; in each the longest prefixes first.
    fn family_rules(&self, family: Family, side: Side, rules: &mut Vec<Rule>) {
        let rank = |class: &Class| match class {
            Class::Ban { forced: true, .. } => 0,
            Class::Allow => 1,
            Class::Ban { forced: false, .. } => 2,
        };
        let mut kinds: Vec<&Kind> = self.kinds.keys().filter(|kind| kind.family == family).collect();
        kinds.sort_by_key(|kind| (rank(&kind.class), std::cmp::Reverse(kind.len)));
        let refuse = match self.refusal {
            Refusal::Drop => Expr::Verdict(Verdict::Drop),
            Refusal::Reject => goto(REFUSE),
        };
        let chain = if side == Side::Source { source_chain(family) } else { destination_chain(family) };
        for kind in kinds {
            let mut exprs = self.matching(kind, side);
            exprs.push(match (&kind.class, side) {
                (Class::Allow, Side::Source) => goto(destination_chain(family)),
                (Class::Allow, Side::Destination) => accept(),
                (Class::Ban { .. }, _) => refuse.clone(),
            });
            rules.push(rule(chain, exprs));
        }
    }

    /// The expressions that let only a packet of `kind` go on. The family is asked for again though
    /// the chain is the family's: nft(8) needs it to print, and read back, an address as one.
    fn matching(&self, kind: &Kind, side: Side) -> Vec<Expr> {
        let mut exprs = Vec::new();
        if let Some(ports) = kind.ports() {
            let offset = if side == Side::Source { 2 } else { 0 }; // to our port; from it
            exprs.extend([Expr::Meta(Meta::Transport), Expr::In(self.tcp_udp())]);
            exprs.extend([Expr::Payload { header: Header::Transport, offset, len: 2 }, Expr::In(self.ports_name(ports))]);
        }
        // RFC 791 and RFC 8200: where the two addresses are.
        let (number, source, len) = match kind.family {
            Family::V4 => (NFPROTO[0].1, 12, 4),
            Family::V6 => (NFPROTO[1].1, 8, 16),
        };
        let offset = if side == Side::Source { source } else { source + len };
        exprs.extend([Expr::Meta(Meta::Family), Expr::Equal(vec![number])]);
        exprs.push(Expr::Payload { header: Header::Network, offset, len });
        if kind.len < kind.family.bits() {
            exprs.push(Expr::Mask(netmask(kind)));
        }
        exprs.push(Expr::In(kind.name(self.generation)));
        exprs
    }
}

fn netmask(kind: &Kind) -> Vec<u8> {
    let bits = usize::from(kind.len);
    let byte = |i: usize| match bits.saturating_sub(i * 8) {
        0 => 0,
        n if n >= 8 => 0xff,
        n => !(0xffu8 >> n),
    };
    (0..usize::from(kind.family.bits()) / 8).map(byte).collect()
}

const fn source_chain(family: Family) -> &'static str {
    match family {
        Family::V4 => "v4",
        Family::V6 => "v6",
    }
}

const fn destination_chain(family: Family) -> &'static str {
    match family {
        Family::V4 => "v4dst",
        Family::V6 => "v6dst",
    }
}

fn rule(chain: &str, exprs: Vec<Expr>) -> Rule {
    Rule { chain: chain.to_owned(), exprs }
}

const fn accept() -> Expr {
    Expr::Verdict(Verdict::Accept)
}

fn goto(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Goto(chain.to_owned()))
}

fn refuse_rules() -> [Rule; 2] {
    let tcp = vec![Expr::Meta(Meta::Transport), Expr::Equal(vec![TCP]), Expr::RejectReset];
    [rule(REFUSE, tcp), rule(REFUSE, vec![Expr::RejectProhibited])]
}

/// Lets out what [`refuse_rules`] answers to a banned address: resets, ICMP 3/13 and ICMPv6 1/1
/// (RFC 792, RFC 1812, RFC 4443). Byte 13 of a TCP header holds its flags, bit 2 of it is RST (RFC 9293).
fn answers_pass() -> [Rule; 3] {
    let transport = |protocol| [Expr::Meta(Meta::Transport), Expr::Equal(vec![protocol])];
    let load = |offset, len| Expr::Payload { header: Header::Transport, offset, len };
    let reset = [load(13, 1), Expr::Mask(vec![4]), Expr::Equal(vec![4]), accept()];
    let icmp = |kind, code| [load(0, 2), Expr::Equal(vec![kind, code]), accept()];
    [
        rule("out", transport(TCP).into_iter().chain(reset).collect()),
        rule("out", transport(ICMP).into_iter().chain(icmp(3, 13)).collect()),
        rule("out", transport(ICMPV6).into_iter().chain(icmp(1, 1)).collect()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_kind() -> impl Strategy<Value = Kind> {
        let ports = prop_oneof![
            Just(Ports::All),
            proptest::collection::btree_set(any::<u16>(), 1..=Ports::MOST).prop_map(|set| Ports::only(set).unwrap())
        ];
        let class = prop_oneof![Just(Class::Allow), (any::<bool>(), ports).prop_map(|(forced, ports)| Class::Ban { forced, ports })];
        (class, any::<bool>(), 0u8..=128).prop_map(|(class, v4, len)| {
            let family = if v4 { Family::V4 } else { Family::V6 };
            Kind { class, family, len: len.min(family.bits()) }
        })
    }

    proptest! {
        #[test]
        fn names_say_all_of_a_set(kind in any_kind(), generation in 1u32..1000) {
            let name = kind.name(generation);
            prop_assert!(name.len() < 256, "the kernel's limit");
            prop_assert_eq!(Kind::parse(&name), Some((kind, generation)));
        }

        #[test]
        fn parsing_names_is_total(name in "(ban|forced|allow)?[46]?_?[0-9]{0,3}(_p)?[0-9_.]{0,9}") {
            if let Some((kind, generation)) = Kind::parse(&name) {
                prop_assert_eq!(kind.name(generation), name);
            }
        }

        #[test]
        fn every_rule_uses_only_what_is_there(kinds in proptest::collection::btree_map(any_kind(), any::<bool>(), 0..8), reject: bool) {
            let refusal = if reject { Refusal::Reject } else { Refusal::Drop };
            let layout = Layout { generation: 3, refusal, kinds };
            let sets: BTreeSet<String> = layout.sets().into_iter().map(|set| set.name).collect();
            let chains: BTreeSet<String> = layout.chains().into_iter().map(|chain| chain.name).collect();
            let mut used = BTreeSet::new();
            for rule in layout.rules() {
                prop_assert!(chains.contains(&rule.chain));
                for expr in rule.exprs {
                    match expr {
                        Expr::In(set) => {
                            prop_assert!(sets.contains(&set));
                            used.insert(set);
                        }
                        Expr::Verdict(Verdict::Goto(chain)) => prop_assert!(chains.contains(&chain)),
                        _ => {}
                    }
                }
            }
            prop_assert_eq!(used, sets, "a set no rule asks shuts nobody out");
        }
    }

    #[test]
    fn forced_before_allowed_before_banned() {
        let kinds = ["ban4_24", "allow4_32", "forced4_16", "ban4_32", "ban4_32_p22"].map(|name| (Kind::parse(name).unwrap().0, true));
        let layout = Layout { kinds: kinds.into(), ..Layout::default() };
        let asked = |chain: &str| -> Vec<String> {
            let in_chain = layout.rules().into_iter().filter(|rule| rule.chain == chain);
            in_chain
                .filter_map(|rule| rule.exprs.into_iter().rev().find_map(|e| if let Expr::In(set) = e { Some(set) } else { None }))
                .collect()
        };
        assert_eq!(asked("v4"), ["forced4_16", "allow4_32", "ban4_32", "ban4_32_p22", "ban4_24"]);
        assert_eq!(asked("v4dst"), asked("v4"));
        assert!(asked("v6").is_empty());
    }

    #[test]
    fn masks_are_the_prefixs_own() {
        for text in ["0.0.0.0/0", "198.51.100.0/22", "192.0.2.1/32", "2001:db8::/33", "2001:db8::/64"] {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!(netmask(&Kind::allow(&prefix)), &*prefix.netmask(), "{text}");
        }
    }
}
