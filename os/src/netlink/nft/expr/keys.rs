//! What expressions ask of packets and of their connections, and the numbers that stand for it.

/// What is known of a packet beside its bytes (`enum nft_meta_keys`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// Index of the device it came in by; 4 bytes, host order.
    InDevice,
    /// Index of the device it leaves by; 4 bytes, host order.
    OutDevice,
    /// Name of the device it came in by; 16 bytes, filled up with zeros.
    InName,
    /// Name of the device it leaves by; 16 bytes, filled up with zeros.
    OutName,
    /// Its mark; 4 bytes, host order.
    Mark,
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`; 1 byte.
    Family,
    /// Transport protocol; 1 byte.
    Transport,
    /// User of the local process that sends it (fsuid of who opened its socket); 4 bytes, host order.
    User,
}

/// What is known of the connection a packet belongs to (`enum nft_ct_keys`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ct {
    /// Bits of [`ct_state`]; 4 bytes, host order.
    State,
    /// Bits of [`ct_status`]; 4 bytes, host order.
    Status,
    /// Its mark; 4 bytes, host order.
    Mark,
}

/// How a packet stands to its connection (`NF_CT_STATE_BIT` of linux/netfilter/nf_conntrack_common.h).
pub mod ct_state {
    /// Both directions were seen, or this is the answer.
    pub const ESTABLISHED: u32 = 1 << 1;
    /// A connection that another one led to; an ICMP error about one.
    pub const RELATED: u32 = 1 << 2;
    /// The first direction only, so far.
    pub const NEW: u32 = 1 << 3;
}

/// What became of the connection so far (`enum ip_conntrack_status` of linux/netfilter/nf_conntrack_common.h).
pub mod ct_status {
    /// It is in the table: its first packet has left, or arrived.
    pub const CONFIRMED: u32 = 1 << 3;
}

/// Which header an offset counts from (`enum nft_payload_bases`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// IPv4 or IPv6.
    Network,
    /// TCP, UDP, ICMP.
    Transport,
}

impl Meta {
    pub(super) const ALL: [(Self, u32); 8] = [
        (Self::Mark, 3),
        (Self::InDevice, 4),
        (Self::OutDevice, 5),
        (Self::InName, 6),
        (Self::OutName, 7),
        (Self::User, 10),
        (Self::Family, 15),
        (Self::Transport, 16),
    ];

    pub(super) fn number(self) -> u32 {
        Self::ALL.iter().find(|(meta, _)| *meta == self).map_or(0, |(_, number)| *number)
    }

    pub(super) fn of(number: u32) -> Option<Self> {
        Some(Self::ALL.iter().find(|(_, known)| *known == number)?.0)
    }
}

impl Ct {
    pub(super) const ALL: [Self; 3] = [Self::State, Self::Status, Self::Mark];

    pub(super) const fn number(self) -> u32 {
        match self {
            Self::State => 0,
            Self::Status => 2,
            Self::Mark => 3,
        }
    }

    pub(super) fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.number() == number)
    }
}

impl Header {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Network => 1,
            Self::Transport => 2,
        }
    }
}
