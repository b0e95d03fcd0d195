//! A question to the kernel: which way would this packet take?

use super::routes::Route;
use super::words::Mark;
use crate::net::Addr;

/// A packet, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose it is to; tells the family.
    pub to: Addr,
    /// Whose it is; none of an unbound socket.
    pub from: Option<Addr>,
    /// The interface it came in by, by index; none of what this host sends.
    pub iif: Option<u32>,
    /// The interface its socket is bound to, by index.
    pub oif: Option<u32>,
    /// Its mark.
    pub mark: Option<Mark>,
    /// Whose socket.
    pub uid: Option<u32>,
    /// Its protocol.
    pub ipproto: Option<u8>,
    /// Its source port.
    pub sport: Option<u16>,
    /// Its destination port.
    pub dport: Option<u16>,
}

impl Question {
    /// Where a packet to somebody goes.
    pub const fn to(to: Addr) -> Self {
        Self { to, from: None, iif: None, oif: None, mark: None, uid: None, ipproto: None, sport: None, dport: None }
    }
}

/// The kernel's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The route that matched, as it stands in its table.
    Route(Route),
    /// There is no way, and how the kernel words it: its error number.
    NoWay(i32),
}
