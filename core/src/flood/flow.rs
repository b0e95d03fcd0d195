//! One tracked flow, as far as a census counts it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::net::Addr;
use crate::time::Span;

/// `IPPROTO_TCP` (RFC 9293), `IPPROTO_UDP` (RFC 768), `IPPROTO_ICMP` (RFC 792), `IPPROTO_ICMPV6` (RFC 4443).
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMP.
pub const ICMP: u8 = 1;
/// ICMPv6.
pub const ICMPV6: u8 = 58;

/// Protocols whose flows have ports, all of them where TCP has them: TCP, UDP, DCCP (RFC 4340), SCTP (RFC 9260), UDP-Lite
/// (RFC 3828), by their IANA protocol numbers.
pub const WITH_PORTS: [u8; 5] = [TCP, UDP, 33, 132, 136];

/// Whether flows of this protocol have ports.
pub fn has_ports(protocol: u8) -> bool {
    WITH_PORTS.contains(&protocol)
}

/// One tracked flow. `Copy` and small: half a million of them pass through a census in a fraction of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sent its first packet, before any translation.
    pub source: Addr,
    /// To whom, as the sender wrote it.
    pub destination: Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// The sender's port, 0 where the protocol has none.
    pub source_port: u16,
    /// Where to, 0 where the protocol has none.
    pub port: u16,
    /// The TCP state; `None` for other protocols.
    pub tcp: Option<TcpState>,
    /// Packets passed in both directions.
    pub replied: bool,
    /// Never dropped early when the table is full.
    pub assured: bool,
    /// Its source is translated.
    pub source_nat: bool,
    /// Its destination is translated.
    pub destination_nat: bool,
    /// How long it lasts without another packet.
    pub left: Span,
}

/// Connection tracking's own states of TCP (`enum tcp_conntrack`, linux/netfilter/nf_conntrack_tcp.h), in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// Nothing known yet.
    None,
    /// A SYN was seen.
    SynSent,
    /// And its answer.
    SynRecv,
    /// Open.
    Established,
    /// One side has closed.
    FinWait,
    /// Which was acknowledged.
    CloseWait,
    /// The other side has closed too.
    LastAck,
    /// Both have.
    TimeWait,
    /// Reset.
    Close,
    /// SYNs of both sides crossed.
    SynSent2,
}

impl TcpState {
    /// All, in the kernel's order: the number is the index.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::SynSent,
        Self::SynRecv,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
        Self::SynSent2,
    ];

    /// From the kernel's number.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// As conntrack(8) prints it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
        }
    }
}

/// Where flows go: what many of them have in common. Travels as it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Endpoint {
    /// Whose address.
    pub addr: Addr,
    /// Which port, 0 where the protocol has none.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl fmt::Display for Endpoint {
    /// `192.0.2.1:443/tcp`, `[2001:db8::1]:53/udp`, `192.0.2.1/icmp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => write!(f, "{}/{}", self.addr, Protocol(self.protocol)),
            port => write!(f, "{}/{}", SocketAddr::new(self.addr.ip(), port), Protocol(self.protocol)),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no endpoint: it reads 192.0.2.1:443/tcp");
        let (to, protocol) = text.rsplit_once('/').ok_or_else(wrong)?;
        let protocol = Protocol::of(protocol).ok_or_else(wrong)?.0;
        if let Ok(to) = to.parse::<SocketAddr>() {
            return Ok(Self { addr: to.ip().into(), port: to.port(), protocol });
        }
        Ok(Self { addr: to.parse::<IpAddr>().map_err(|_| wrong())?.into(), port: 0, protocol })
    }
}

/// A protocol by its name where it has a common one (IANA protocol numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

/// Those with a name.
const NAMES: [(u8, &str); 9] = [
    (ICMP, "icmp"),
    (TCP, "tcp"),
    (UDP, "udp"),
    (33, "dccp"),
    (47, "gre"),
    (50, "esp"),
    (ICMPV6, "icmpv6"),
    (132, "sctp"),
    (136, "udplite"),
];

impl Protocol {
    /// From its name or number.
    pub fn of(text: &str) -> Option<Self> {
        let named = NAMES.iter().find(|(_, name)| *name == text).map(|(number, _)| *number);
        named.or_else(|| text.parse().ok()).map(Self)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_they_are_printed() {
        for text in ["192.0.2.1:443/tcp", "[2001:db8::1]:53/udp", "192.0.2.1/icmp", "2001:db8::1/icmpv6", "192.0.2.1/89"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for wrong in ["", "/", "192.0.2.1", "192.0.2.1:443", "192.0.2.1:443/nothing", "x:1/tcp", "192.0.2.1/256"] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
