//! What our table of marks looks like. Pure: names, chains and rules, no kernel.
//!
//! ```text
//!  table inet palisade_route {                                        MASK: our bits; OTHERS: all but those
//!    counter leak_fibre { }                                           one for each uplink with a guard
//!    chain pre  { filter hook prerouting mangle (-150):               behind connection tracking, before DNAT
//!      iifname "wan1" meta mark & MASK != 0 meta mark set meta mark & OTHERS                         each interface
//!      ct mark & MASK == C1 meta mark set meta mark & OTHERS | C1 accept                             each mark
//!      ct state new iifname "wan1" ct mark & MASK == 0 ct mark set .. | C1 meta mark set .. | C1     each mark
//!    }
//!    chain out  { route hook output mangle (-150):                    a mark that changes is routed anew
//!      ct state established,related ct mark & MASK == C1 meta mark set .. | C1 accept                each mark
//!    }
//!    chain post { filter hook postrouting 150:                        behind source NAT (100)
//!      oifname "wan2" jump leaks                                                                     each interface
//!      ct state new oifname "wan1" ct mark & MASK == 0 meta mark & MASK == 0 ct mark set .. | C1     each mark
//!    }
//!    chain leaks { to multicast or link-local: return
//!      oifname != "wan1" ip saddr SOURCE counter name "leak_fibre" drop|accept                       each source
//!    }
//!  }
//! ```
//! The first packet from an uplink gets the mark itself too, not only its connection: a strict reverse path
//! filter looks the way back up with it (`src_valid_mark`).
//!
//! What comes in by an uplink with bits of ours in its mark has them from the packet it was wrapped in (a tunnel's
//! outer packet): they say nothing about it.
//!
//! Packets that leave with bits of ours in their mark and no marked connection are our probes, and what others
//! mark by our numbers: their connection stays unmarked, so that a probe keeps the way its mark gives it.
//!
//! A leak ends the walk whatever the guard: its connection must not be marked for the wrong uplink.
//! Leaks are looked for behind source NAT, as the source counts that the provider sees.

use std::collections::BTreeSet;
use std::io;

use palisade_core::net::{Family, Prefix};
use palisade_core::route::spec::Guard;
use palisade_core::route::wanted::{Marked, Marks};
use palisade_core::route::words::{Mark, Mask};

use crate::netlink::nft::expr::{Ct, Header, Meta, ct_state};
use crate::netlink::nft::whole::Whole;
use crate::netlink::nft::{Base, Chain, Expr, Object, Rule, Verdict};

/// `NF_INET_PRE_ROUTING`, `NF_INET_LOCAL_OUT`, `NF_INET_POST_ROUTING`, `NF_ACCEPT` (linux/netfilter.h).
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
const ACCEPT: u32 = 1;
/// `NF_IP_PRI_MANGLE` (linux/netfilter_ipv4.h).
const MANGLE: i32 = -150;
/// Behind `NF_IP_PRI_NAT_SRC` (100), before `NF_IP_PRI_CONNTRACK_CONFIRM`, after which a connection's mark is seen by others.
const BEHIND_NAT: i32 = 150;
/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `IFNAMSIZ`: a device's name with the zero behind it (linux/if.h).
const NAME_SIZE: usize = 16;
/// What a counter's name begins with; the uplink's name follows.
const LEAK: &str = "leak_";
/// The longest name of an uplink: with [`LEAK`] well within the kernel's 255 bytes of an object's name.
const LONGEST: usize = 128;
/// What stays on the link: no provider sees it. RFC 3927, RFC 5771, RFC 919; RFC 4291 2.5.6 and 2.7.
const ON_LINK: [&str; 5] = ["169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8"];

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) chains: Vec<Chain>,
    pub(super) rules: Vec<Rule>,
    /// The counters' names, sorted.
    pub(super) counters: Vec<String>,
}

impl Layout {
    /// What is wanted, as a table.
    ///
    /// # Errors
    /// `InvalidInput` where a name cannot be a device's or a mark is none of ours.
    pub(super) fn of(marks: &Marks) -> io::Result<Self> {
        check(marks)?;
        let interfaces: BTreeSet<&str> = marks.uplinks.iter().map(|uplink| uplink.interface.as_str()).collect();
        let guarded = || marks.uplinks.iter().filter(|uplink| uplink.guard != Guard::Off);
        let leaks = if interfaces.len() > 1 { leaks(guarded()) } else { Vec::new() };
        let base = |name: &str, kind: &str, hook, priority| Chain {
            name: name.to_owned(),
            base: Some(Base { hook, priority, policy: ACCEPT, kind: kind.to_owned() }),
        };
        let mut chains = vec![
            base("pre", "filter", PREROUTING, MANGLE),
            base("out", "route", OUTPUT, MANGLE),
            base("post", "filter", POSTROUTING, BEHIND_NAT),
        ];
        let bits = Bits(marks.mask);
        let mut rules: Vec<Rule> = interfaces.iter().map(|name| bits.cleared_from(name)).collect();
        rules.extend(connections(marks).flat_map(|(_, mark)| [bits.restored("pre", mark), bits.restored("out", mark)]));
        rules.extend(connections(marks).map(|(uplink, mark)| bits.came_in(uplink, mark)));
        if !leaks.is_empty() {
            chains.push(Chain { name: "leaks".to_owned(), base: None });
            let jump = || Expr::Verdict(Verdict::Jump("leaks".to_owned()));
            rules.extend(interfaces.iter().map(|name| rule("post", named(Meta::OutName, name).into_iter().chain([jump()]))));
        }
        rules.extend(connections(marks).map(|(uplink, mark)| bits.went_out(uplink, mark)));
        rules.extend(leaks);
        let counters: BTreeSet<String> = guarded().map(|uplink| counter(&uplink.name)).collect();
        Ok(Self { chains, rules, counters: counters.into_iter().collect() })
    }

    /// As it is put up.
    pub(super) fn whole(self) -> Whole {
        Whole { chains: self.chains, rules: self.rules, objects: self.counters.into_iter().map(Object::counter).collect() }
    }
}

fn check(marks: &Marks) -> io::Result<()> {
    let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    for uplink in &marks.uplinks {
        let (name, interface) = (&uplink.name, &uplink.interface);
        if name.is_empty() || name.len() > LONGEST || name.contains('\0') {
            return wrong(format!("uplink {name:?}: a name has 1 to {LONGEST} bytes"));
        }
        if interface.is_empty() || interface.len() >= NAME_SIZE || interface.contains('\0') {
            return wrong(format!("uplink {name}: `{interface}` cannot be an interface's name, which has 1 to 15 bytes"));
        }
        if let Some(Mark(mark)) = uplink.connection
            && (mark == 0 || mark & !marks.mask.0 != 0)
        {
            return wrong(format!("uplink {name}: the connection mark {mark:#x} does not lie in the mask {}", marks.mask));
        }
    }
    Ok(())
}

/// The name of an uplink's counter of leaks.
fn counter(uplink: &str) -> String {
    format!("{LEAK}{uplink}")
}

/// The uplink whose leaks are counted by this name.
pub(super) fn uplink_of(counter: &str) -> Option<&str> {
    counter.strip_prefix(LEAK)
}

fn connections(marks: &Marks) -> impl Iterator<Item = (&Marked, Mark)> {
    marks.uplinks.iter().filter_map(|uplink| Some((uplink, uplink.connection?)))
}

fn rule(chain: &str, exprs: impl IntoIterator<Item = Expr>) -> Rule {
    Rule { chain: chain.to_owned(), exprs: exprs.into_iter().collect() }
}

/// Only packets of a device by this name, as the kernel compares it: filled up with zeros.
fn named(which: Meta, name: &str) -> [Expr; 2] {
    [Expr::Meta(which), Expr::Equal(padded(name))]
}

fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_SIZE, 0);
    bytes
}

fn word(value: u32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

fn state(bits: u32) -> [Expr; 3] {
    [Expr::Ct(Ct::State), Expr::Mask(word(bits)), Expr::Differs(word(0))]
}

/// Our bits of marks; all others are kept.
#[derive(Clone, Copy)]
struct Bits(Mask);

impl Bits {
    /// Only packets whose connection's bits are these.
    fn connection_is(self, mark: u32) -> [Expr; 3] {
        [Expr::Ct(Ct::Mark), Expr::Mask(word(self.0.0)), Expr::Equal(word(mark))]
    }

    fn set_connection(self, mark: Mark) -> [Expr; 3] {
        [Expr::Ct(Ct::Mark), self.with(mark), Expr::SetCt(Ct::Mark)]
    }

    fn set_packet(self, mark: Mark) -> [Expr; 3] {
        [Expr::Meta(Meta::Mark), self.with(mark), Expr::SetMeta(Meta::Mark)]
    }

    fn with(self, mark: Mark) -> Expr {
        Expr::Bits { mask: word(!self.0.0), xor: word(mark.0) }
    }

    fn cleared_from(self, interface: &str) -> Rule {
        let ours = [Expr::Meta(Meta::Mark), Expr::Mask(word(self.0.0)), Expr::Differs(word(0))];
        let clear = [Expr::Meta(Meta::Mark), Expr::Mask(word(!self.0.0)), Expr::SetMeta(Meta::Mark)];
        rule("pre", named(Meta::InName, interface).into_iter().chain(ours).chain(clear))
    }

    fn restored(self, chain: &str, mark: Mark) -> Rule {
        // What this host sends first takes the way that is looked up for it; only what follows is held on it.
        let begun = (chain == "out").then(|| state(ct_state::ESTABLISHED | ct_state::RELATED)).into_iter().flatten();
        let rest = self.connection_is(mark.0).into_iter().chain(self.set_packet(mark));
        rule(chain, begun.chain(rest).chain([Expr::Verdict(Verdict::Accept)]))
    }

    fn came_in(self, uplink: &Marked, mark: Mark) -> Rule {
        let fresh = state(ct_state::NEW).into_iter().chain(named(Meta::InName, &uplink.interface)).chain(self.connection_is(0));
        rule("pre", fresh.chain(self.set_connection(mark)).chain(self.set_packet(mark)))
    }

    fn went_out(self, uplink: &Marked, mark: Mark) -> Rule {
        let fresh = state(ct_state::NEW).into_iter().chain(named(Meta::OutName, &uplink.interface)).chain(self.connection_is(0));
        let unmarked = [Expr::Meta(Meta::Mark), Expr::Mask(word(self.0.0)), Expr::Equal(word(0))];
        rule("post", fresh.chain(unmarked).chain(self.set_connection(mark)))
    }
}

/// The chain that knows leaks, for packets that leave by an uplink.
fn leaks<'a>(guarded: impl Iterator<Item = &'a Marked>) -> Vec<Rule> {
    let mut counting = Vec::new();
    for uplink in guarded {
        let verdict = if uplink.guard == Guard::Drop { Verdict::Drop } else { Verdict::Accept };
        for source in uplink.sources.iter().collect::<BTreeSet<_>>() {
            let elsewhere = [Expr::Meta(Meta::OutName), Expr::Differs(padded(&uplink.interface))];
            let then = [Expr::Count(counter(&uplink.name)), Expr::Verdict(verdict.clone())];
            counting.push(rule("leaks", elsewhere.into_iter().chain(address(source, Side::Source)).chain(then)));
        }
    }
    if counting.is_empty() {
        return counting;
    }
    let on_link = ON_LINK.iter().filter_map(|text| text.parse::<Prefix>().ok());
    let pass = on_link.map(|to| rule("leaks", address(&to, Side::Destination).into_iter().chain([Expr::Verdict(Verdict::Return)])));
    pass.chain(counting).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

/// Only packets with an address of this prefix there. Where it stands: RFC 791 3.1, RFC 8200 3.
fn address(prefix: &Prefix, side: Side) -> Vec<Expr> {
    let (protocol, first, len) = match prefix.family() {
        Family::V4 => (IPV4, 12, 4),
        Family::V6 => (IPV6, 8, 16),
    };
    let offset = if side == Side::Source { first } else { first + len };
    let mut exprs = vec![Expr::Meta(Meta::Family), Expr::Equal(vec![protocol]), Expr::Payload { header: Header::Network, offset, len }];
    if !prefix.is_host() {
        exprs.push(Expr::Mask(prefix.netmask().to_vec()));
    }
    exprs.push(Expr::Equal(prefix.addr().octets().to_vec()));
    exprs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn uplink(name: &str, interface: &str, mark: Option<u32>, sources: &[&str], guard: Guard) -> Marked {
        Marked {
            name: name.into(),
            interface: interface.to_owned(),
            connection: mark.map(Mark),
            sources: sources.iter().map(|text| text.parse().unwrap()).collect(),
            guard,
        }
    }

    fn marks(uplinks: Vec<Marked>) -> Marks {
        Marks { mask: Mask::OURS, uplinks }
    }

    #[test]
    fn one_interface_has_nowhere_to_leak_to() {
        let layout = Layout::of(&marks(vec![uplink("a", "wan1", None, &["192.0.2.1/32"], Guard::Drop)])).unwrap();
        assert_eq!((layout.chains.len(), layout.counters.as_slice()), (3, &["leak_a".to_owned()][..]));
        assert!(layout.rules.iter().all(|rule| !rule.exprs.contains(&Expr::Verdict(Verdict::Drop))));
    }

    #[test]
    fn what_the_kernel_could_not_hold_is_refused_by_name() {
        let refused = |one: Marked| Layout::of(&marks(vec![one])).unwrap_err().to_string();
        assert!(refused(uplink("a", "an-interface-too-long", None, &[], Guard::Off)).contains("uplink a: `an-interface-too-long`"));
        assert!(refused(uplink("", "wan1", None, &[], Guard::Off)).contains("name"));
        assert!(refused(uplink("a", "wan1", Some(0x8000_0000), &[], Guard::Off)).contains("0x80000000"));
        assert!(refused(uplink("a", "wan1", Some(0), &[], Guard::Off)).contains("mask 0x7f000000"));
    }

    proptest! {
        #[test]
        fn rules_use_only_what_is_there(
            all in proptest::collection::vec(("[a-z]{1,9}", "[a-z]{1,15}", 0u32..4, any::<bool>()), 0..6),
        ) {
            let guards = [Guard::Off, Guard::Count, Guard::Drop];
            let each = all.iter().map(|(name, interface, n, marked)| {
                uplink(name, interface, marked.then_some((n + 1) << 24), &["192.0.2.0/24", "2001:db8::1/128"], guards[*n as usize % 3])
            });
            let layout = Layout::of(&marks(each.collect())).unwrap();
            let chains: BTreeSet<_> = layout.chains.iter().map(|chain| chain.name.clone()).collect();
            for rule in &layout.rules {
                prop_assert!(chains.contains(&rule.chain));
                for expr in &rule.exprs {
                    match expr {
                        Expr::Count(counter) => prop_assert!(layout.counters.contains(counter) && uplink_of(counter).is_some()),
                        Expr::Verdict(Verdict::Jump(chain)) => prop_assert!(chains.contains(chain)),
                        _ => {}
                    }
                }
            }
        }
    }
}
