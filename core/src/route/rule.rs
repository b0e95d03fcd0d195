//! One rule of the routing policy database (`ip rule`).

use std::fmt::{self, Write};

use super::words::{Mark, Mask, Names, Priority, Protocol, TableId};
use crate::net::{Family, Prefix};

/// What a rule asks of a packet. Nothing set: every packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// The opposite of all that follows (`not`, `FIB_RULE_INVERT`).
    pub not: bool,
    /// Source. Only packets whose source is known already: accepted connections, bound sockets, echo replies, forwarded ones.
    pub from: Option<Prefix>,
    /// Destination.
    pub to: Option<Prefix>,
    /// The interface it came in by; `lo` for what this host sends.
    pub iif: Option<String>,
    /// The interface its socket is bound to.
    pub oif: Option<String>,
    /// Its mark, and which bits of it.
    pub fwmark: Option<(Mark, Mask)>,
    /// Users, first and last.
    pub uid: Option<(u32, u32)>,
    /// Protocol, as in IP's header.
    pub ipproto: Option<u8>,
    /// Source ports, first and last.
    pub sport: Option<(u16, u16)>,
    /// Destination ports, first and last.
    pub dport: Option<(u16, u16)>,
    /// Type of service, the whole byte (`tos`, `dsfield`); 0 is none.
    pub tos: u8,
    /// Differentiated services code point, 0 to 63 (`FRA_DSCP`, Linux 6.13).
    pub dscp: Option<u8>,
    /// Tunnel key (`tun_id`).
    pub tun_id: Option<u64>,
    /// Bound to a VRF (`l3mdev`).
    pub l3mdev: bool,
}

/// What a rule does with a packet that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Look it up there; go on where the table has nothing (`FR_ACT_TO_TBL`).
    Lookup(TableId),
    /// Go on with the rule of that priority.
    Goto(Priority),
    /// Nothing.
    Nop,
    /// Drop it, silently.
    Blackhole,
    /// Drop it, and say that the network is unreachable.
    Unreachable,
    /// Drop it, and say that it is forbidden.
    Prohibit,
    /// One that is not known here, by its number in linux/fib_rules.h. Never ours.
    Other(u8),
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// IPv4 and IPv6 have databases of their own.
    pub family: Family,
    /// Its place.
    pub priority: Priority,
    /// Which packets.
    pub selector: Selector,
    /// What is done with them.
    pub action: Action,
    /// A route no longer than this is none (`suppress_prefixlength`).
    pub suppress_prefixlength: Option<u32>,
    /// A route by an interface of this group is none.
    pub suppress_ifgroup: Option<u32>,
    /// Who made it.
    pub protocol: Protocol,
    /// Attributes that are not known here, as they came. Never ours; kept so that two that differ are not taken for one.
    pub other: Vec<u8>,
}

impl Rule {
    /// A rule of ours.
    pub const fn new(family: Family, priority: Priority, selector: Selector, action: Action, protocol: Protocol) -> Self {
        Self { family, priority, selector, action, suppress_prefixlength: None, suppress_ifgroup: None, protocol, other: Vec::new() }
    }

    /// The same, blind to routes no longer than this.
    #[must_use]
    pub const fn suppress(mut self, length: u32) -> Self {
        self.suppress_prefixlength = Some(length);
        self
    }

    /// As `ip rule` writes it: `4200: from 2a02::1 lookup sixxs0`.
    pub fn text(&self, names: &Names) -> String {
        let mut out = format!("{}:", self.priority.0);
        let selected = self.selector.to_string();
        let _ = write!(out, " {}", if selected.is_empty() { "from all" } else { &selected });
        let _ = match self.action {
            Action::Lookup(table) => write!(out, " lookup {}", names.of(table)),
            Action::Goto(Priority(to)) => write!(out, " goto {to}"),
            Action::Nop => write!(out, " nop"),
            Action::Blackhole => write!(out, " blackhole"),
            Action::Unreachable => write!(out, " unreachable"),
            Action::Prohibit => write!(out, " prohibit"),
            Action::Other(number) => write!(out, " action {number}"),
        };
        if let Some(length) = self.suppress_prefixlength {
            let _ = write!(out, " suppress_prefixlength {length}");
        }
        if let Some(group) = self.suppress_ifgroup {
            let _ = write!(out, " suppress_ifgroup {group}");
        }
        out
    }
}

impl fmt::Display for Selector {
    /// In the words of `ip rule`, in its order; empty for every packet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |prefix: &Prefix| if prefix.is_host() { prefix.addr().to_string() } else { prefix.to_string() };
        let span = |first: u64, last: u64| if first == last { first.to_string() } else { format!("{first}-{last}") };
        let mut words: Vec<String> = Vec::new();
        words.extend(self.not.then(|| "not".to_owned()));
        words.extend(self.from.as_ref().map(|from| format!("from {}", host(from))));
        words.extend(self.to.as_ref().map(|to| format!("to {}", host(to))));
        words.extend((self.tos != 0).then(|| format!("tos {:#x}", self.tos)));
        words.extend(
            self.fwmark.map(|(mark, mask)| if mask == Mask::ALL { format!("fwmark {mark}") } else { format!("fwmark {mark}/{mask}") }),
        );
        words.extend(self.iif.as_ref().map(|name| format!("iif {name}")));
        words.extend(self.oif.as_ref().map(|name| format!("oif {name}")));
        words.extend(self.l3mdev.then(|| "l3mdev".to_owned()));
        words.extend(self.uid.map(|(first, last)| format!("uidrange {first}-{last}")));
        words.extend(self.ipproto.map(|number| format!("ipproto {}", ipproto(number))));
        words.extend(self.sport.map(|(first, last)| format!("sport {}", span(first.into(), last.into()))));
        words.extend(self.dport.map(|(first, last)| format!("dport {}", span(first.into(), last.into()))));
        words.extend(self.dscp.map(|dscp| format!("dscp {dscp}")));
        words.extend(self.tun_id.map(|id| format!("tun_id {id}")));
        f.write_str(&words.join(" "))
    }
}

/// The protocols that are written by name: numbers of IANA's protocol registry.
pub const IPPROTOS: &[(&str, u8)] =
    &[("icmp", 1), ("tcp", 6), ("udp", 17), ("dccp", 33), ("ipv6", 41), ("gre", 47), ("esp", 50), ("ipv6-icmp", 58), ("sctp", 132)];

fn ipproto(number: u8) -> String {
    IPPROTOS.iter().find(|(_, known)| *known == number).map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}
