//! The numbers of policy routing, each a type of its own so that none is taken for another.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A packet's or connection's mark (`fwmark`, `ct mark`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mark(pub u32);

/// Which bits of a mark are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mask(pub u32);

impl Mask {
    /// All bits.
    pub const ALL: Self = Self(u32::MAX);
    /// The bits that are ours where the config does not say: clear of Tailscale's and pbr's 0xff0000 and of mwan3's 0x3f00.
    pub const OURS: Self = Self(0x7f00_0000);
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A routing table's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableId(pub u32);

impl TableId {
    /// `RT_TABLE_LOCAL`, `RT_TABLE_MAIN`, `RT_TABLE_DEFAULT` (linux/rtnetlink.h).
    pub const LOCAL: Self = Self(255);
    /// See [`TableId::LOCAL`].
    pub const MAIN: Self = Self(254);
    /// See [`TableId::LOCAL`].
    pub const DEFAULT: Self = Self(253);
}

/// A routing table with its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    /// As in rt_tables.d.
    pub name: Arc<str>,
    /// Its number.
    pub id: TableId,
}

/// What tables are called where they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(pub BTreeMap<TableId, Arc<str>>);

impl Names {
    /// The name of a table, or its number.
    pub fn of(&self, id: TableId) -> String {
        match (self.0.get(&id), id) {
            (Some(name), _) => name.to_string(),
            (None, TableId::LOCAL) => "local".to_owned(),
            (None, TableId::MAIN) => "main".to_owned(),
            (None, TableId::DEFAULT) => "default".to_owned(),
            (None, TableId(number)) => number.to_string(),
        }
    }
}

/// A rule's priority: lower numbers come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Priority(pub u32);

/// Who made a rule or route (`FRA_PROTOCOL`, `rtm_protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Protocol(pub u8);

impl Protocol {
    /// `RTPROT_UNSPEC`: what `ip rule add` leaves there.
    pub const UNSPEC: Self = Self(0);
    /// `RTPROT_KERNEL`.
    pub const KERNEL: Self = Self(2);
    /// `RTPROT_STATIC`.
    pub const STATIC: Self = Self(4);
    /// `RTPROT_RA`.
    pub const RA: Self = Self(9);
    /// `RTPROT_DHCP`.
    pub const DHCP: Self = Self(16);
    /// Ours where the config does not say: nobody's in linux/rtnetlink.h and iproute2's rt_protos.
    pub const OURS: Self = Self(80);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::KERNEL => f.write_str("kernel"),
            Self(3) => f.write_str("boot"),
            Self::STATIC => f.write_str("static"),
            Self::RA => f.write_str("ra"),
            Self::DHCP => f.write_str("dhcp"),
            Self::OURS => f.write_str("palisade"),
            Self(other) => write!(f, "{other}"),
        }
    }
}
