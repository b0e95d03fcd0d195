//! What our chains look like for the bans that stand, and back. Pure: text, no program is run.
//!
//! ```text
//!  -A INPUT   -j IP4BAN              the first rule of each, and the only one there that is ours
//!  -A FORWARD -j IP4BAN
//!  IP4BAN     -i lo -j RETURN
//!             -j IP4BAN-f
//!             -s 198.51.100.0/24 -j RETURN        a rule for each member of the allow list
//!             -s 192.0.2.7/32 -j DROP             a rule for each ban; without -s it is everybody
//!             -s 192.0.2.8/32 -j IP4BAN-p1        one that is limited to ports
//!  IP4BAN-f   -s 192.0.2.9/32 -j DROP             a rule for each forced ban
//!  IP4BAN-p1  -p tcp -m multiport --dports 22,80 -j DROP        a chain for each list of ports in use
//!             -p udp -m multiport --dports 22,80 -j DROP
//!  IP4BAN-ref instead of DROP, to reject: a reset, or ICMP "administratively prohibited"
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use palisade_core::bans::wall::{Key, Ports, Refusal};
use palisade_core::net::{Addr, Family, Prefix};

use crate::block::xtables::save::{Chains, Shape};
use crate::block::xtables::{option, port_lists, reject_rules};

/// The chain of bans begins with these two.
const LOOPBACK: &str = "-i lo -j RETURN";

/// What stands in the filter table of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Which.
    pub family: Family,
    /// The name of the chain of bans.
    chain: String,
    /// What a banned packet meets.
    pub refusal: Refusal,
    /// Who passes.
    pub allow: BTreeSet<Prefix>,
    /// Who does not.
    pub bans: BTreeSet<Key>,
    /// The port lists in use, by number.
    lists: BTreeMap<usize, Arc<[u16]>>,
}

/// Whether a chain is ours, the chain of bans being named so.
pub fn is_ours(chain: &str, base: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match chain.strip_prefix(base) {
        Some("" | "-f" | "-ref") => true,
        Some(end) => end.strip_prefix("-p").is_some_and(number),
        None => false,
    }
}

impl Side {
    /// Nobody banned.
    pub fn new(family: Family, chain: &str, refusal: Refusal) -> Self {
        Self { family, chain: chain.to_owned(), refusal, allow: BTreeSet::new(), bans: BTreeSet::new(), lists: BTreeMap::new() }
    }

    /// The name of the chain of bans.
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// Which hooks jump to it.
    pub fn jumps(&self) -> Vec<(&'static str, String)> {
        ["INPUT", "FORWARD"].map(|hook| (hook, self.chain.clone())).to_vec()
    }

    /// Whether the ban's ports have a chain, if it is limited to ports.
    pub fn can_take(&self, key: &Key) -> bool {
        match &key.ports {
            Ports::All => true,
            Ports::Only(ports) => self.lists.values().any(|list| list == ports),
        }
    }

    /// Whether a ban stands that differs from this one by nothing but the prefix's length. ip6tables-nft
    /// takes one for the other when it is to delete a rule: up to 1.8.9 at least it compares addresses
    /// without their masks (`nft_ipv6_is_same`, iptables/nft-ipv6.c).
    pub fn has_like(&self, key: &Key) -> bool {
        let addr = key.prefix.addr();
        let likes = (0..=addr.family().bits()).filter_map(|len| Prefix::new(addr, len));
        let mut others = likes.filter(|prefix| prefix.addr() == addr && *prefix != key.prefix);
        others.any(|prefix| self.bans.contains(&Key { prefix, ..key.clone() }))
    }

    /// Numbers the port lists in use anew where one is missing; forgets those that are not in use.
    pub fn number_lists(&mut self) {
        let used: BTreeSet<&Arc<[u16]>> = self.bans.iter().filter_map(|key| list(&key.ports)).collect();
        self.lists.retain(|_, list| used.contains(list));
        let missing: Vec<_> = used.into_iter().filter(|list| !self.lists.values().any(|one| one == *list)).cloned().collect();
        let mut free = 1;
        for list in missing {
            while self.lists.contains_key(&free) {
                free += 1;
            }
            self.lists.insert(free, list);
        }
    }

    fn sub(&self, end: &str) -> String {
        format!("{}-{end}", self.chain)
    }

    fn refuse(&self) -> String {
        match self.refusal {
            Refusal::Drop => "DROP".to_owned(),
            Refusal::Reject => self.sub("ref"),
        }
    }

    /// The chain a ban's rule stands in, and the rule.
    fn rule(&self, key: &Key, numbers: &BTreeMap<&Arc<[u16]>, usize>) -> (String, String) {
        let number = list(&key.ports).and_then(|list| numbers.get(list));
        let target = number.map_or_else(|| self.refuse(), |number| self.sub(&format!("p{number}")));
        (if key.forced { self.sub("f") } else { self.chain.clone() }, sourced(key.prefix, &target))
    }

    fn numbers(&self) -> BTreeMap<&Arc<[u16]>, usize> {
        self.lists.iter().map(|(number, list)| (list, *number)).collect()
    }

    /// The lines that put some bans in and take others out, in one transaction.
    pub fn script<'a>(&self, adds: impl Iterator<Item = &'a Key>, deletes: impl Iterator<Item = &'a Key>) -> String {
        let numbers = self.numbers();
        let mut out = "*filter\n".to_owned();
        for (key, how) in adds.map(|key| (key, "-A")).chain(deletes.map(|key| (key, "-D"))) {
            let (chain, rule) = self.rule(key, &numbers);
            let _ = writeln!(out, "{how} {chain} {rule}");
        }
        out.push_str("COMMIT\n");
        out
    }

    /// All chains and the jumps.
    pub fn shape(&self) -> Shape {
        let numbers = self.numbers();
        let mut bans = vec![LOOPBACK.to_owned(), format!("-j {}", self.sub("f"))];
        bans.extend(self.allow.iter().map(|prefix| sourced(*prefix, "RETURN")));
        let mut forced = Vec::new();
        for key in &self.bans {
            let rule = self.rule(key, &numbers).1;
            if key.forced { forced.push(rule) } else { bans.push(rule) }
        }
        let mut chains: Chains = [(self.chain.clone(), bans), (self.sub("f"), forced)].into();
        for (number, list) in &self.lists {
            let rules = ["tcp", "udp"].into_iter().flat_map(|protocol| {
                port_lists(list).map(move |ports| format!("-p {protocol} -m multiport --dports {ports} -j {}", self.refuse()))
            });
            chains.insert(self.sub(&format!("p{number}")), rules.collect());
        }
        if self.refusal == Refusal::Reject {
            chains.insert(self.sub("ref"), reject_rules(self.family));
        }
        Shape { chains, jumps: self.jumps() }
    }

    /// Reads out of standing chains what stands, and what in them is not as we would have it.
    pub fn of(family: Family, chain: &str, chains: &Chains) -> (Self, Option<String>) {
        let refusal = if chains.contains_key(&format!("{chain}-ref")) { Refusal::Reject } else { Refusal::Drop };
        let mut side = Self::new(family, chain, refusal);
        let begin = format!("{chain}-p");
        for (name, rules) in chains {
            if let Some(number) = name.strip_prefix(&begin).and_then(|number| number.parse().ok()) {
                let ports = rules.iter().filter_map(|rule| option(rule, "--dports")).flat_map(|ports| ports.split(','));
                if let Some(Ports::Only(list)) = Ports::only(ports.filter_map(|port| port.parse().ok())) {
                    side.lists.insert(number, list);
                }
            }
        }
        let rules = |name: &str| chains.get(name).map_or(&[][..], Vec::as_slice);
        let mut amiss = None;
        let forced = side.sub("f");
        for (name, forced) in [(forced.as_str(), true), (chain, false)] {
            for rule in rules(name) {
                side.take(rule, forced, &mut amiss);
            }
        }
        // Bans stand in the order in which they came; all else has one order only.
        let shape = side.shape();
        for (name, wanted) in &shape.chains {
            let same = match chains.get(name) {
                None => false,
                Some(there) if name == chain => {
                    let fixed = 2 + side.allow.len();
                    let sorted: BTreeSet<&String> = there.iter().take(fixed).collect();
                    there.len() == wanted.len()
                        && wanted.iter().take(2).eq(there.iter().take(2))
                        && sorted == wanted.iter().take(fixed).collect()
                }
                Some(there) if *name == forced => there.len() == wanted.len(),
                Some(there) => there == wanted,
            };
            if !same {
                amiss.get_or_insert_with(|| format!("the rules of the chain {name} were changed"));
            }
        }
        if let Some(name) = chains.keys().find(|name| !shape.chains.contains_key(*name)) {
            amiss.get_or_insert_with(|| format!("a chain {name} was added"));
        }
        (side, amiss)
    }

    fn take(&mut self, rule: &str, forced: bool, amiss: &mut Option<String>) {
        if !forced && (rule == LOOPBACK || rule.strip_prefix("-j ") == Some(&self.sub("f"))) {
            return;
        }
        let Some((prefix, target)) = source(rule, self.family) else {
            amiss.get_or_insert_with(|| format!("a rule was put into {}: {rule}", self.chain));
            return;
        };
        let number = target.strip_prefix(&self.sub("p")).and_then(|number| number.parse::<usize>().ok());
        let new = match number {
            None if target == "RETURN" && !forced => self.allow.insert(prefix),
            None if target == self.refuse() => self.bans.insert(Key { prefix, ports: Ports::All, forced }),
            Some(number) if self.lists.contains_key(&number) => {
                let ports = Ports::Only(Arc::clone(&self.lists[&number]));
                self.bans.insert(Key { prefix, ports, forced })
            }
            _ => false,
        };
        if !new {
            amiss.get_or_insert_with(|| format!("a rule was put into {}: {rule}", self.chain));
        }
    }
}

const fn list(ports: &Ports) -> Option<&Arc<[u16]>> {
    match ports {
        Ports::All => None,
        Ports::Only(list) => Some(list),
    }
}

/// A rule for what comes from there.
fn sourced(prefix: Prefix, target: &str) -> String {
    if prefix.len() == 0 { format!("-j {target}") } else { format!("-s {prefix} -j {target}") }
}

/// Where what a rule is for comes from, and what becomes of it; `None` where it asks for more.
fn source(rule: &str, family: Family) -> Option<(Prefix, &str)> {
    let words: Vec<&str> = rule.split(' ').collect();
    match words[..] {
        ["-s", source, "-j", target] => Some((source.parse().ok().filter(|prefix: &Prefix| prefix.family() == family)?, target)),
        ["-j", target] => Some((everybody(family), target)),
        _ => None,
    }
}

fn everybody(family: Family) -> Prefix {
    let any = match family {
        Family::V4 => Addr::from(std::net::Ipv4Addr::UNSPECIFIED),
        Family::V6 => Addr::from(std::net::Ipv6Addr::UNSPECIFIED),
    };
    Prefix::host(any).widen(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str, ports: &[u16], forced: bool) -> Key {
        Key { prefix: text.parse().unwrap(), ports: Ports::only(ports.iter().copied()).unwrap(), forced }
    }

    fn side(refusal: Refusal) -> Side {
        let many: Vec<u16> = (1..=17).collect();
        let mut side = Side::new(Family::V4, "IP4BAN", refusal);
        side.bans = [
            key("192.0.2.7/32", &[], false),
            key("192.0.2.7/32", &[22], false),
            key("192.0.2.7/32", &many, true),
            key("0.0.0.0/0", &[], false),
            key("192.0.2.7/32", &[], true),
        ]
        .into();
        side.allow = ["198.51.100.0/24".parse().unwrap()].into();
        side.number_lists();
        side
    }

    #[test]
    fn a_rule_a_ban_behind_the_allow_list() {
        let shape = side(Refusal::Drop).shape();
        assert_eq!(
            shape.chains["IP4BAN"],
            [
                "-i lo -j RETURN",
                "-j IP4BAN-f",
                "-s 198.51.100.0/24 -j RETURN",
                "-j DROP",
                "-s 192.0.2.7/32 -j DROP",
                "-s 192.0.2.7/32 -j IP4BAN-p2",
            ]
        );
        assert_eq!(shape.chains["IP4BAN-f"], ["-s 192.0.2.7/32 -j DROP", "-s 192.0.2.7/32 -j IP4BAN-p1"]);
        assert_eq!(shape.chains["IP4BAN-p1"][1], "-p tcp -m multiport --dports 16,17 -j DROP");
        assert_eq!(shape.jumps.len(), 2);
    }

    #[test]
    fn what_is_written_is_read_back_in_any_order_of_the_bans() {
        for refusal in [Refusal::Drop, Refusal::Reject] {
            let side = side(refusal);
            let mut chains = side.shape().chains;
            assert_eq!(Side::of(Family::V4, "IP4BAN", &chains), (side.clone(), None));
            chains.get_mut("IP4BAN").unwrap()[3..].reverse();
            assert_eq!(Side::of(Family::V4, "IP4BAN", &chains), (side, None));
        }
    }

    #[test]
    fn what_was_put_in_is_seen() {
        let whole = side(Refusal::Drop).shape().chains;
        let with = |name: &str, at: usize, rule: &str| {
            let mut chains = whole.clone();
            chains.entry(name.to_owned()).or_default().insert(at, rule.to_owned());
            Side::of(Family::V4, "IP4BAN", &chains).1
        };
        for (name, at, rule) in [
            ("IP4BAN", 0, "-j ACCEPT"),
            ("IP4BAN", 3, "-s 192.0.2.7/32 -j DROP"),
            ("IP4BAN", 4, "-s 192.0.2.9/32 -j RETURN"),
            ("IP4BAN", 4, "-s 192.0.2.9/32 -p tcp -j DROP"),
            ("IP4BAN-f", 0, "-j RETURN"),
            ("IP4BAN-p1", 0, "-j RETURN"),
            ("IP4BAN-p9", 0, "-j RETURN"),
            ("IP4BAN-ref", 0, "-j RETURN"),
        ] {
            assert!(with(name, at, rule).is_some(), "{name} {at} {rule}");
        }
        assert_eq!(with("IP4BAN", 4, "-s 192.0.2.9/32 -j DROP"), None, "that is one more ban");
        assert!(is_ours("IP4BAN-p12", "IP4BAN") && !is_ours("IP4BANS", "IP4BAN") && !is_ours("IP4BAN-p", "IP4BAN"));
    }
}
