//! What the kernel answers and tells, as the types that we write.
//!
//! Each parser takes a message's payload (behind nlmsghdr) and answers `None` where what makes
//! the object is missing.

use super::nfta::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TYPE, COUNTER_BYTES, COUNTER_PACKETS, DATA_VALUE, ELEM_EXPIRATION, ELEM_EXPR,
    ELEM_EXPRESSIONS, ELEM_KEY, ELEM_TIMEOUT, ELEMS_LIST, ELEMS_SET, EXPR_DATA, EXPR_NAME, GEN_ID, HOOK_NUM, HOOK_PRIORITY, LIST_ELEM,
    RULE_CHAIN, RULE_EXPRESSIONS, SET_DESC, SET_DESC_SIZE, SET_EXPR, SET_EXPRESSIONS, SET_FLAGS, SET_KEY_LEN, SET_KEY_TYPE, SET_NAME,
    SET_TIMEOUT, TABLE, TABLE_FLAGS,
};
use super::{ANY_SIZE, Base, Chain, Expr, INET, Rule, Set};
use crate::netlink::wire::{Attr, Attrs};

/// `struct nfgenmsg`.
const NFGENMSG: usize = 4;

pub(super) fn attrs(payload: &[u8]) -> Attrs<'_> {
    Attrs(payload.get(NFGENMSG..).unwrap_or_default())
}

pub(super) fn text(attrs: Attrs<'_>, kind: u16) -> Option<&str> {
    attrs.find(kind)?.str()
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// `NFT_TABLE_F_*`: 1 dormant, 2 owned by a process.
    pub flags: u32,
}

/// The name of the `inet` table a message is about; `None` for other families.
pub fn table_of(payload: &[u8]) -> Option<&str> {
    (*payload.first()? == INET).then(|| text(attrs(payload), TABLE))?
}

/// Which table of which family (`NFPROTO_*`) a message is about, whatever its operation.
pub fn named_table(payload: &[u8]) -> Option<(u8, &str)> {
    Some((*payload.first()?, text(attrs(payload), TABLE)?))
}

/// Reads `NEWTABLE`.
pub fn parse_table(payload: &[u8]) -> Option<Table> {
    let attrs = attrs(payload);
    Some(Table { name: text(attrs, TABLE)?.to_owned(), flags: attrs.find(TABLE_FLAGS).and_then(|a| a.be32()).unwrap_or(0) })
}

/// Reads `NEWCHAIN`.
pub fn parse_chain(payload: &[u8]) -> Option<Chain> {
    let attrs = attrs(payload);
    let base = attrs.find(CHAIN_HOOK).map(|hook| {
        let number = |kind| hook.nested().find(kind).and_then(|a| a.be32()).unwrap_or(u32::MAX);
        Base {
            hook: number(HOOK_NUM),
            priority: number(HOOK_PRIORITY).cast_signed(),
            policy: attrs.find(CHAIN_POLICY).and_then(|a| a.be32()).unwrap_or(u32::MAX),
            kind: text(attrs, CHAIN_TYPE).unwrap_or_default().to_owned(),
        }
    });
    Some(Chain { name: text(attrs, CHAIN_NAME)?.to_owned(), base })
}

/// Reads `NEWRULE`.
pub fn parse_rule(payload: &[u8]) -> Option<Rule> {
    let attrs = attrs(payload);
    let list = attrs.find(RULE_EXPRESSIONS).map_or(Attrs(&[]), |a| a.nested());
    let exprs = list.filter(|a| a.kind == LIST_ELEM).map(Expr::read).collect();
    Some(Rule { chain: text(attrs, RULE_CHAIN)?.to_owned(), exprs })
}

/// Reads `NEWSET`.
pub fn parse_set(payload: &[u8]) -> Option<Set> {
    let attrs = attrs(payload);
    let number = |kind| attrs.find(kind).and_then(|a| a.be32());
    let one = attrs.find(SET_EXPR);
    let first = attrs.find(SET_EXPRESSIONS).and_then(|list| list.nested().find(LIST_ELEM));
    Some(Set {
        name: text(attrs, SET_NAME)?.to_owned(),
        flags: number(SET_FLAGS).unwrap_or(0) & !super::set_flag::EXPR,
        key_type: number(SET_KEY_TYPE).unwrap_or(0),
        key_len: number(SET_KEY_LEN)?,
        counter: one.or(first).is_some_and(|expr| text(expr.nested(), EXPR_NAME) == Some("counter")),
        size: attrs.find(SET_DESC).and_then(|desc| desc.nested().find(SET_DESC_SIZE)?.be32()).filter(|size| ![0, ANY_SIZE].contains(size)),
        timeout: attrs.find(SET_TIMEOUT).and_then(|a| a.be64()).filter(|timeout| *timeout > 0),
    })
}

/// `NEWGEN`: the number that every committed transaction of the namespace moves on by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(pub u32);

/// Reads `NEWGEN`.
pub fn parse_generation(payload: &[u8]) -> Option<Generation> {
    Some(Generation(attrs(payload).find(GEN_ID)?.be32()?))
}

/// Elements of one set: of an answer, or of a notification.
#[derive(Clone, Copy, Debug)]
pub struct ElementList<'a> {
    /// The set's name.
    pub set: &'a str,
    /// Them.
    pub elements: Elements<'a>,
}

/// One element as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredElement<'a> {
    /// The key's bytes.
    pub key: &'a [u8],
    /// Milliseconds until it ends by itself; `None`: never.
    pub left: Option<u64>,
    /// Packets that matched it, where it counts.
    pub packets: Option<u64>,
    /// Bytes that matched it.
    pub bytes: Option<u64>,
}

/// Iterates over [`StoredElement`]s; skips what has no key.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a>(Attrs<'a>);

/// Reads `NEWSETELEM` and `DELSETELEM`.
pub fn parse_elements(payload: &[u8]) -> Option<ElementList<'_>> {
    let attrs = attrs(payload);
    let list = attrs.find(ELEMS_LIST).map_or(Attrs(&[]), |a| a.nested());
    Some(ElementList { set: text(attrs, ELEMS_SET)?, elements: Elements(list) })
}

fn parse_element(member: Attr<'_>) -> Option<StoredElement<'_>> {
    let attrs = member.nested();
    let key = attrs.find(ELEM_KEY)?.nested().find(DATA_VALUE)?.payload;
    let timeout = attrs.find(ELEM_TIMEOUT).and_then(|a| a.be64()).filter(|timeout| *timeout > 0);
    let left = attrs.find(ELEM_EXPIRATION).and_then(|a| a.be64());
    let one = attrs.find(ELEM_EXPR);
    let first = attrs.find(ELEM_EXPRESSIONS).and_then(|list| list.nested().find(LIST_ELEM));
    let counter = one.or(first).map(|a| a.nested()).filter(|expr| text(*expr, EXPR_NAME) == Some("counter"));
    let count = |kind| counter?.find(EXPR_DATA)?.nested().find(kind)?.be64();
    Some(StoredElement { key, left: timeout.map(|all| left.unwrap_or(all)), packets: count(COUNTER_PACKETS), bytes: count(COUNTER_BYTES) })
}

impl<'a> Iterator for Elements<'a> {
    type Item = StoredElement<'a>;
    fn next(&mut self) -> Option<StoredElement<'a>> {
        self.0.by_ref().find_map(parse_element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (parse_table(&bytes), parse_chain(&bytes), parse_rule(&bytes), parse_set(&bytes), parse_generation(&bytes), table_of(&bytes));
            if let Some(list) = parse_elements(&bytes) {
                prop_assert!(list.elements.count() <= bytes.len());
            }
        }
    }
}
