//! What our sets and our chains look like for the bans in use. Pure: names and rules, no program is run.
//!
//! ```text
//!  -A INPUT   -j palisade-src           the first rule of each, and the only one there that is ours
//!  -A FORWARD -j palisade-fwd
//!  -A OUTPUT  -j palisade-out
//!  palisade-fwd   -j palisade-src;  -j palisade-dst
//!  palisade-out   -o lo -j RETURN;  [our own answers -j RETURN;]  -j palisade-dst
//!  palisade-src   -i lo -j RETURN;  forced sets src refuse;  allow set src -j RETURN;  sets src refuse
//!  palisade-dst                     forced sets dst refuse;  allow set dst -j RETURN;  sets dst refuse
//!  palisade-ref   answers with a reset or ICMP "administratively prohibited"; only to reject
//! ```
//! A banned source is met on its way to us and through us, and a banned destination on the way through
//! and from us, so that our own answers cannot bring back a connection that was ended.
//!
//! A set is named after `name` of the config, then what it holds: `palisade-b4` (`b` bans, `f` forced
//! ones, `a` the allow list), `w` behind it where that is the whole address space, which hash:net
//! cannot hold but as two halves, `p1` for the first of the port lists in use, and `.2` for the second
//! *generation* of sets, which is filled beside the first one and takes its place in one transaction.
//! Which ports `p1` are, the rules tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use palisade_core::bans::wall::{Key, Ports, Refusal};
use palisade_core::net::{Family, Prefix};

use crate::block::xtables::save::{Chains, Shape};
use crate::block::xtables::{answers_pass, option, port_lists, reject_rules};

/// A name is at most 31 bytes (`IPSET_MAXNAMELEN`, linux/netfilter/ipset/ip_set.h, with its NUL). Ours
/// without generation takes 20 of them: 12 of the config's, `-b4wp9999`.
const GENERATIONS: u32 = 99_999_999;
/// So many port lists have a number of four digits.
const LISTS: usize = 9_999;

/// What a set of ours is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// Which set a member of the allow list or a ban is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// What for.
    pub class: Class,
    /// Of which addresses.
    pub family: Family,
    /// Whether it is the whole family at once.
    pub everybody: bool,
}

impl Kind {
    /// The set that holds the ban of `key`.
    pub fn of(key: &Key) -> Self {
        let class = Class::Ban { forced: key.forced, ports: key.ports.clone() };
        Self { class, family: key.prefix.family(), everybody: key.prefix.len() == 0 }
    }

    /// The set that lets `prefix` pass.
    pub const fn allow(prefix: &Prefix) -> Self {
        Self { class: Class::Allow, family: prefix.family(), everybody: prefix.len() == 0 }
    }

    /// The members that stand for `prefix`: itself, or its halves.
    pub fn members(prefix: Prefix) -> impl Iterator<Item = Prefix> {
        let halves = (prefix.len() == 0).then(|| [prefix.addr(), prefix.last()].map(|addr| Prefix::new(addr, 1)));
        halves.unwrap_or([Some(prefix), None]).into_iter().flatten()
    }

    /// What a member stands for.
    pub fn prefix(&self, member: Prefix) -> Option<Prefix> {
        (member.family() == self.family).then_some(if self.everybody { member.widen(0) } else { member })
    }

    /// The ban a member is; `None` for the allow list's.
    pub fn key(&self, member: Prefix) -> Option<Key> {
        match &self.class {
            Class::Allow => None,
            Class::Ban { forced, ports } => Some(Key { prefix: self.prefix(member)?, ports: ports.clone(), forced: *forced }),
        }
    }

    /// Whether it holds bans.
    pub fn bans(&self) -> bool {
        self.class != Class::Allow
    }

    const fn ports(&self) -> Option<&Arc<[u16]>> {
        match &self.class {
            Class::Ban { ports: Ports::Only(ports), .. } => Some(ports),
            Class::Ban { ports: Ports::All, .. } | Class::Allow => None,
        }
    }

    /// Forced bans stand first, then the allow list, then bans.
    const fn rank(&self) -> u8 {
        match self.class {
            Class::Ban { forced: true, .. } => 0,
            Class::Allow => 1,
            Class::Ban { forced: false, .. } => 2,
        }
    }
}

/// The names of what is ours.
#[derive(Clone, Debug)]
pub struct Names(String);

/// What a set's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    letter: char,
    family: Family,
    everybody: bool,
    list: Option<usize>,
    generation: u32,
}

impl Names {
    /// Beginning with this.
    pub fn new(prefix: &str) -> Self {
        Self(prefix.to_owned())
    }

    /// `palisade-src`.
    pub fn chain(&self, end: &str) -> String {
        format!("{}-{end}", self.0)
    }

    /// The chain and the set in which a kernel is tried out. Another of us may do so at any moment, so it is
    /// no part of the wall; what is left of it whoever is opened next takes away.
    pub fn probe(&self) -> String {
        self.chain("probe")
    }

    /// Whether a chain is one of our wall.
    pub fn chain_is_ours(&self, chain: &str) -> bool {
        let end = chain.strip_prefix(self.0.as_str()).and_then(|rest| rest.strip_prefix('-'));
        matches!(end, Some("src" | "dst" | "fwd" | "out" | "ref"))
    }

    /// Whether a set is ours.
    pub fn set_is_ours(&self, set: &str) -> bool {
        self.told(set).is_some()
    }

    /// The generation of a set of ours.
    pub fn generation(&self, set: &str) -> Option<u32> {
        self.told(set).map(|told| told.generation)
    }

    fn name(&self, told: Told) -> String {
        let Told { letter, family, everybody, list, generation } = told;
        let mut name = format!("{}-{letter}{}{}", self.0, if family == Family::V4 { 4 } else { 6 }, if everybody { "w" } else { "" });
        if let Some(list) = list {
            let _ = write!(name, "p{list}");
        }
        if generation > 1 {
            let _ = write!(name, ".{generation}");
        }
        name
    }

    fn told(&self, set: &str) -> Option<Told> {
        let rest = set.strip_prefix(self.0.as_str())?.strip_prefix('-')?;
        let (rest, generation) = match rest.split_once('.') {
            Some((rest, generation)) => (rest, generation.parse().ok()?),
            None => (rest, 1),
        };
        let (rest, list) = match rest.split_once('p') {
            Some((rest, list)) => (rest, Some(list.parse().ok().filter(|list| *list <= LISTS)?)),
            None => (rest, None),
        };
        let (rest, everybody) = rest.strip_suffix('w').map_or((rest, false), |rest| (rest, true));
        let (letter, family) = match rest.as_bytes() {
            [letter @ (b'a' | b'b' | b'f'), digit @ (b'4' | b'6')] => {
                (char::from(*letter), if *digit == b'4' { Family::V4 } else { Family::V6 })
            }
            _ => return None,
        };
        let told = Told { letter, family, everybody, list, generation };
        (generation <= GENERATIONS && self.name(told) == set).then_some(told)
    }
}

/// The next generation after these.
pub fn next_generation(taken: &BTreeSet<u32>) -> u32 {
    let next = taken.last().map_or(1, |last| last % GENERATIONS + 1);
    (next..=GENERATIONS).chain(1..next).find(|generation| !taken.contains(generation)).unwrap_or(1)
}

/// What of ours is in the filter table of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Which.
    pub family: Family,
    /// Which generation of sets.
    pub generation: u32,
    /// What a banned packet meets.
    pub refusal: Refusal,
    /// The sets in use.
    pub kinds: BTreeSet<Kind>,
    /// The port lists in use, by number.
    lists: BTreeMap<usize, Arc<[u16]>>,
}

/// More port lists than can be told apart.
#[derive(Debug)]
pub struct TooManyLists;

impl Layout {
    /// Nothing banned.
    pub fn new(family: Family, generation: u32, refusal: Refusal) -> Self {
        Self { family, generation, refusal, kinds: BTreeSet::new(), lists: BTreeMap::new() }
    }

    /// With this set in use.
    pub fn add(&mut self, kind: Kind) -> Result<(), TooManyLists> {
        if let Some(ports) = kind.ports()
            && !self.lists.values().any(|list| list == ports)
        {
            let free = (1..=LISTS).find(|number| !self.lists.contains_key(number)).ok_or(TooManyLists)?;
            self.lists.insert(free, Arc::clone(ports));
        }
        self.kinds.insert(kind);
        Ok(())
    }

    /// The same, its sets of another generation.
    #[must_use]
    pub fn named(&self, generation: u32) -> Self {
        Self { generation, ..self.clone() }
    }

    /// The name of a set in use.
    pub fn name(&self, names: &Names, kind: &Kind) -> String {
        let letter = match kind.class {
            Class::Allow => 'a',
            Class::Ban { forced: true, .. } => 'f',
            Class::Ban { forced: false, .. } => 'b',
        };
        let list = kind.ports().and_then(|ports| self.lists.iter().find(|(_, list)| *list == ports).map(|(number, _)| *number));
        names.name(Told { letter, family: kind.family, everybody: kind.everybody, list, generation: self.generation })
    }

    /// The chains and jumps for it.
    pub fn shape(&self, names: &Names) -> Shape {
        let chain = |end| names.chain(end);
        let to = |end| format!("-j {}", names.chain(end));
        let mut out = vec!["-o lo -j RETURN".to_owned()];
        let mut chains = Chains::new();
        if self.refusal == Refusal::Reject {
            out.extend(answers_pass(self.family));
            chains.insert(chain("ref"), reject_rules(self.family));
        }
        out.push(to("dst"));
        let mut src = vec!["-i lo -j RETURN".to_owned()];
        src.extend(self.rules(names, "src"));
        chains.extend([(chain("src"), src), (chain("dst"), self.rules(names, "dst")), (chain("out"), out)]);
        chains.insert(chain("fwd"), vec![to("src"), to("dst")]);
        Shape { chains, jumps: vec![("INPUT", chain("src")), ("FORWARD", chain("fwd")), ("OUTPUT", chain("out"))] }
    }

    fn rules(&self, names: &Names, side: &str) -> Vec<String> {
        let refuse = match self.refusal {
            Refusal::Drop => "DROP".to_owned(),
            Refusal::Reject => names.chain("ref"),
        };
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|kind| kind.rank());
        let mut rules = Vec::new();
        for kind in kinds {
            let set = format!("-m set --match-set {} {side}", self.name(names, kind));
            match kind.ports() {
                None => rules.push(format!("{set} -j {}", if kind.bans() { &refuse } else { "RETURN" })),
                // Our port is where a packet goes to, or where its answer comes from.
                Some(ports) => {
                    let option = if side == "src" { "--dports" } else { "--sports" };
                    for protocol in ["tcp", "udp"] {
                        rules.extend(port_lists(ports).map(|list| format!("-p {protocol} -m multiport {option} {list} {set} -j {refuse}")));
                    }
                }
            }
        }
        rules
    }

    /// Reads out of standing chains which sets are in use. Whether all rules are as they should be, the
    /// [`Layout::shape`] of what is read tells.
    pub fn of(names: &Names, family: Family, chains: &Chains) -> Self {
        let refusal = if chains.contains_key(&names.chain("ref")) { Refusal::Reject } else { Refusal::Drop };
        let rules = chains.get(&names.chain("src")).map_or(&[][..], Vec::as_slice);
        let told: Vec<_> = rules.iter().filter_map(|rule| Some((names.told(option(rule, "--match-set")?)?, rule))).collect();
        let generation = told.first().map_or(1, |(told, _)| told.generation);
        let mut layout = Self::new(family, generation, refusal);
        let mut lists: BTreeMap<usize, Vec<u16>> = BTreeMap::new();
        for (told, rule) in &told {
            if let (Some(number), Some(ports)) = (told.list, option(rule, "--dports")) {
                lists.entry(number).or_default().extend(ports.split(',').filter_map(|port| port.parse::<u16>().ok()));
            }
        }
        for (number, ports) in lists {
            if let Some(Ports::Only(ports)) = Ports::only(ports) {
                layout.lists.insert(number, ports);
            }
        }
        for (told, _) in told {
            let ports = match told.list {
                None => Ports::All,
                Some(number) => match layout.lists.get(&number) {
                    Some(list) => Ports::Only(Arc::clone(list)),
                    None => continue,
                },
            };
            let class = match told.letter {
                'a' => Class::Allow,
                letter => Class::Ban { forced: letter == 'f', ports },
            };
            layout.kinds.insert(Kind { class, family: told.family, everybody: told.everybody });
        }
        layout.kinds.retain(|kind| kind.family == family);
        layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let mut layout = Layout::new(Family::V4, 3, Refusal::Drop);
        let key = |text: &str, ports: &[u16], forced| Key {
            prefix: text.parse().unwrap(),
            ports: Ports::only(ports.iter().copied()).unwrap(),
            forced,
        };
        let many: Vec<u16> = (1..=20).collect();
        for key in [key("192.0.2.1/32", &[], false), key("192.0.2.0/24", &many, false), key("0.0.0.0/0", &[22], true)] {
            layout.add(Kind::of(&key)).unwrap();
        }
        layout.add(Kind::allow(&"198.51.100.0/24".parse().unwrap())).unwrap();
        layout
    }

    #[test]
    fn the_order_is_forced_allowed_banned() {
        let shape = layout().shape(&Names::new("pal"));
        assert_eq!(
            shape.chains["pal-src"],
            [
                "-i lo -j RETURN",
                "-p tcp -m multiport --dports 22 -m set --match-set pal-f4wp2.3 src -j DROP",
                "-p udp -m multiport --dports 22 -m set --match-set pal-f4wp2.3 src -j DROP",
                "-m set --match-set pal-a4.3 src -j RETURN",
                "-m set --match-set pal-b4.3 src -j DROP",
                "-p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 -m set --match-set pal-b4p1.3 src -j DROP",
                "-p tcp -m multiport --dports 16,17,18,19,20 -m set --match-set pal-b4p1.3 src -j DROP",
                "-p udp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 -m set --match-set pal-b4p1.3 src -j DROP",
                "-p udp -m multiport --dports 16,17,18,19,20 -m set --match-set pal-b4p1.3 src -j DROP",
            ]
        );
        assert_eq!(shape.chains["pal-dst"][2], "-m set --match-set pal-a4.3 dst -j RETURN");
        assert_eq!(shape.chains["pal-dst"][0], "-p tcp -m multiport --sports 22 -m set --match-set pal-f4wp2.3 dst -j DROP");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let names = Names::new("pal");
        for refusal in [Refusal::Drop, Refusal::Reject] {
            let layout = Layout { refusal, ..layout() };
            assert_eq!(Layout::of(&names, Family::V4, &layout.shape(&names).chains), layout);
        }
        let torn: Chains =
            [("pal-src".to_owned(), vec!["-m set --match-set pal-b4p7 src -j DROP".to_owned(), "--match-set".to_owned()])].into();
        assert_eq!(Layout::of(&names, Family::V4, &torn).kinds, BTreeSet::new());
    }

    #[test]
    fn only_names_of_ours_are_ours() {
        let names = Names::new("pal");
        assert!(["pal-b4", "pal-f6wp12.99", "pal-a4.2"].iter().all(|name| names.set_is_ours(name)));
        for other in ["pal", "pal-b", "pal-b5", "pal-b4.1", "pal-b4.02", "pal-b4p", "pal-c4", "palb4", "pal-b4wx", "pal-b4.999999999"] {
            assert!(!names.set_is_ours(other), "{other}");
        }
        assert!(names.chain_is_ours("pal-src") && !names.chain_is_ours("pal-srcs") && !names.chain_is_ours("pal-src-x"));
        assert_eq!(next_generation(&[1, 2, 7].into()), 8);
        assert_eq!(next_generation(&[GENERATIONS].into()), 1);
        assert_eq!(next_generation(&BTreeSet::new()), 1);
    }

    #[test]
    fn the_whole_space_is_two_halves() {
        for (whole, halves) in [("0.0.0.0/0", ["0.0.0.0/1", "128.0.0.0/1"]), ("::/0", ["::/1", "8000::/1"])] {
            let key = Key::all(whole.parse().unwrap());
            let members: Vec<_> = Kind::members(key.prefix).collect();
            assert_eq!(members.iter().map(Prefix::to_string).collect::<Vec<_>>(), halves);
            assert!(members.iter().all(|member| Kind::of(&key).key(*member) == Some(key.clone())));
        }
    }
}
