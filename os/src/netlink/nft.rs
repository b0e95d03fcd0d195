//! nf_tables over netlink: tables, chains, rules, sets and their elements.
//!
//! ```text
//!  message   nlmsghdr  u8 family  u8 version = 0  be16 res_id   attributes      (struct nfgenmsg)
//!            nlmsg_type = subsystem 10 << 8 | operation
//!  batch     BATCH_BEGIN(0x10)  operation...  BATCH_END(0x11), res_id = subsystem, all in one send
//! ```
//! Source: linux/netfilter/nfnetlink.h and nf_tables.h. What is written and what is read back are
//! the same types ([`Chain`], [`Rule`], [`Set`], [`Object`]), so that "is it still as we made it" is `==`.
//! The parsers are total: whatever the bytes, they answer with what was whole in them.

pub mod batch;
pub mod expr;
pub mod object;
pub(crate) mod port;
mod reply;
pub mod survey;
pub(crate) mod whole;

pub use batch::{Batch, Element};
pub use expr::{Expr, Verdict};
pub use object::{Held, Object, Policy, Rate, parse_object};
pub use reply::{ElementList, Elements, Generation, StoredElement, Table};
pub use reply::{named_table, parse_chain, parse_elements, parse_generation, parse_rule, parse_set, parse_table, table_of};

/// `NFNL_SUBSYS_NFTABLES`.
pub const SUBSYSTEM: u16 = 10;
/// `NFPROTO_INET`: tables that see IPv4 and IPv6.
pub const INET: u8 = 1;
/// `NFNLGRP_NFTABLES`: the multicast group that tells of every change.
pub const GROUP: u32 = 7;

/// Operations (`enum nf_tables_msg_types`).
pub mod op {
    /// `NFT_MSG_NEWTABLE`.
    pub const NEW_TABLE: u16 = 0;
    /// `NFT_MSG_GETTABLE`.
    pub const GET_TABLE: u16 = 1;
    /// `NFT_MSG_DELTABLE`.
    pub const DEL_TABLE: u16 = 2;
    /// `NFT_MSG_NEWCHAIN`.
    pub const NEW_CHAIN: u16 = 3;
    /// `NFT_MSG_GETCHAIN`.
    pub const GET_CHAIN: u16 = 4;
    /// `NFT_MSG_DELCHAIN`.
    pub const DEL_CHAIN: u16 = 5;
    /// `NFT_MSG_NEWRULE`.
    pub const NEW_RULE: u16 = 6;
    /// `NFT_MSG_GETRULE`.
    pub const GET_RULE: u16 = 7;
    /// `NFT_MSG_DELRULE`.
    pub const DEL_RULE: u16 = 8;
    /// `NFT_MSG_NEWSET`.
    pub const NEW_SET: u16 = 9;
    /// `NFT_MSG_GETSET`.
    pub const GET_SET: u16 = 10;
    /// `NFT_MSG_DELSET`.
    pub const DEL_SET: u16 = 11;
    /// `NFT_MSG_NEWSETELEM`.
    pub const NEW_ELEMENTS: u16 = 12;
    /// `NFT_MSG_GETSETELEM`.
    pub const GET_ELEMENTS: u16 = 13;
    /// `NFT_MSG_DELSETELEM`.
    pub const DEL_ELEMENTS: u16 = 14;
    /// `NFT_MSG_NEWGEN`.
    pub const NEW_GENERATION: u16 = 15;
    /// `NFT_MSG_GETGEN`.
    pub const GET_GENERATION: u16 = 16;
    /// `NFT_MSG_NEWOBJ`.
    pub const NEW_OBJECT: u16 = 18;
    /// `NFT_MSG_GETOBJ`.
    pub const GET_OBJECT: u16 = 19;
    /// `NFT_MSG_DELOBJ`.
    pub const DEL_OBJECT: u16 = 20;
}

/// Attribute numbers (`enum nft_*_attributes`).
pub(crate) mod nfta {
    /// All objects name their table by number 1.
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const TABLE_FLAGS: u16 = 2;

    pub(crate) const CHAIN_NAME: u16 = 3;
    pub(crate) const CHAIN_HOOK: u16 = 4;
    pub(crate) const CHAIN_POLICY: u16 = 5;
    pub(crate) const CHAIN_TYPE: u16 = 7;
    pub(crate) const HOOK_NUM: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;

    pub(crate) const RULE_CHAIN: u16 = 2;
    pub(crate) const RULE_EXPRESSIONS: u16 = 4;

    pub(crate) const SET_NAME: u16 = 2;
    pub(crate) const SET_FLAGS: u16 = 3;
    pub(crate) const SET_KEY_TYPE: u16 = 4;
    pub(crate) const SET_KEY_LEN: u16 = 5;
    pub(crate) const SET_DESC: u16 = 9;
    pub(crate) const SET_ID: u16 = 10;
    pub(crate) const SET_TIMEOUT: u16 = 11;
    pub(crate) const SET_EXPR: u16 = 17;
    pub(crate) const SET_EXPRESSIONS: u16 = 18;
    pub(crate) const SET_DESC_SIZE: u16 = 1;

    pub(crate) const ELEMS_SET: u16 = 2;
    pub(crate) const ELEMS_LIST: u16 = 3;
    pub(crate) const ELEM_KEY: u16 = 1;
    pub(crate) const ELEM_TIMEOUT: u16 = 4;
    pub(crate) const ELEM_EXPIRATION: u16 = 5;
    pub(crate) const ELEM_EXPR: u16 = 7;
    pub(crate) const ELEM_EXPRESSIONS: u16 = 11;

    pub(crate) const OBJECT_NAME: u16 = 2;
    pub(crate) const OBJECT_TYPE: u16 = 3;
    pub(crate) const OBJECT_DATA: u16 = 4;

    /// `NFTA_LIST_ELEM`: every member of a list.
    pub(crate) const LIST_ELEM: u16 = 1;
    pub(crate) const DATA_VALUE: u16 = 1;
    pub(crate) const DATA_VERDICT: u16 = 2;

    pub(crate) const EXPR_NAME: u16 = 1;
    pub(crate) const EXPR_DATA: u16 = 2;
    pub(crate) const COUNTER_BYTES: u16 = 1;
    pub(crate) const COUNTER_PACKETS: u16 = 2;

    pub(crate) const GEN_ID: u16 = 1;
}

/// Flags of a set (`enum nft_set_flags`).
pub mod set_flag {
    /// `NFT_SET_CONSTANT`: cannot change while a rule uses it.
    pub const CONSTANT: u32 = 2;
    /// `NFT_SET_TIMEOUT`: its elements may end by themselves.
    pub const TIMEOUT: u32 = 0x10;
    /// `NFT_SET_EXPR`: told by newer kernels of sets whose elements count; never written.
    pub const EXPR: u32 = 0x100;
}

/// A [`Set::size`] to write over another: more than fit into memory. Read back it is `None`.
pub const ANY_SIZE: u32 = u32::MAX;

/// What a set's keys are. The numbers are nft(8)'s, which prints elements by them; the kernel only
/// keeps them (libnftables include/datatype.h).
pub mod key_type {
    /// `TYPE_IPADDR`.
    pub const IPV4: u32 = 7;
    /// `TYPE_IP6ADDR`.
    pub const IPV6: u32 = 8;
    /// `TYPE_INET_PROTOCOL`.
    pub const PROTOCOL: u32 = 12;
    /// `TYPE_INET_SERVICE`.
    pub const PORT: u32 = 13;
}

/// `nlmsg_type` of an nf_tables operation.
pub const fn kind(op: u16) -> u16 {
    SUBSYSTEM << 8 | op
}

/// The operation of an `nlmsg_type`; `None` where it is no nf_tables message.
pub const fn operation(kind: u16) -> Option<u16> {
    if kind >> 8 == SUBSYSTEM { Some(kind & 0xff) } else { None }
}

/// `struct nfgenmsg`: family, version 0, resource id in network order.
pub const fn nfgenmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// A chain: a plain one to be jumped to, or one that hangs in a hook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where it hangs, for a base chain.
    pub base: Option<Base>,
}

/// Where a base chain of type `filter` hangs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Base {
    /// `NF_INET_*`: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub hook: u32,
    /// Lower runs earlier.
    pub priority: i32,
    /// What becomes of a packet no rule decided: 0 drop, 1 accept.
    pub policy: u32,
    /// `filter`, `nat` or `route`.
    pub kind: String,
}

/// A rule: the chain it stands in and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its chain's name.
    pub chain: String,
    /// In order.
    pub exprs: Vec<Expr>,
}

/// A set, without its elements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Of [`set_flag`].
    pub flags: u32,
    /// Of [`key_type`].
    pub key_type: u32,
    /// Bytes of a key.
    pub key_len: u32,
    /// Whether each element counts the packets and bytes that matched it.
    pub counter: bool,
    /// The most elements it takes; `None`: any number. A new set's hash table is made to hold so many.
    pub size: Option<u32>,
    /// What elements without a timeout of their own get, in milliseconds; ours get none.
    pub timeout: Option<u64>,
}
