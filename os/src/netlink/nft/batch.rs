//! A transaction: what is sent as one, and stands as one or not at all.

use std::ops::Deref;

use super::nfta::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TYPE, DATA_VALUE, ELEM_EXPIRATION, ELEM_KEY, ELEM_TIMEOUT, ELEMS_LIST, ELEMS_SET,
    EXPR_NAME, HOOK_NUM, HOOK_PRIORITY, LIST_ELEM, OBJECT_DATA, OBJECT_NAME, OBJECT_TYPE, RULE_CHAIN, RULE_EXPRESSIONS, SET_DESC,
    SET_DESC_SIZE, SET_EXPR, SET_FLAGS, SET_ID, SET_KEY_LEN, SET_KEY_TYPE, SET_NAME, SET_TIMEOUT, TABLE, TABLE_FLAGS,
};
use super::{Chain, INET, Object, Rule, SUBSYSTEM, Set, kind, nfgenmsg, op};
use crate::netlink::wire::{Builder, flag};

/// `NFNL_MSG_BATCH_BEGIN`.
const BEGIN: u16 = 0x10;
/// `NFNL_MSG_BATCH_END`.
const END: u16 = 0x11;

/// Where a message's list of elements is cut, in bytes. The list is an attribute, whose length is
/// a u16; an element is at most 52 bytes.
const LIST_CUT: usize = 60_000;

/// One element to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<K> {
    /// The key's bytes, as many as the set's keys have.
    pub key: K,
    /// After how many milliseconds it ends by itself; `None`: never.
    pub timeout: Option<u64>,
    /// Says the time left as well as the timeout. A kernel that updates elements starts the clock
    /// of one that stands anew only then; one that does not, and a new element, need not be told.
    pub restart: bool,
}

impl<K> Element<K> {
    /// Without an end.
    pub const fn bare(key: K) -> Self {
        Self { key, timeout: None, restart: false }
    }
}

/// Writes operations on one `inet` table, one after another, in one buffer.
#[derive(Debug)]
pub struct Batch {
    builder: Builder,
    table: String,
    seq: u32,
    operations: usize,
    sets: u32,
}

impl Batch {
    /// For the table of this name.
    pub fn new(table: &str) -> Self {
        Self { builder: Builder::new(), table: table.to_owned(), seq: 0, operations: 0, sets: 0 }
    }

    /// Begins anew. All messages carry the number `seq`, so that every answer can be told from older ones.
    pub fn begin(&mut self, seq: u32) -> &mut Self {
        self.builder.clear();
        (self.seq, self.operations) = (seq, 0);
        self.builder.message(BEGIN, flag::REQUEST, seq, &nfgenmsg(0, SUBSYSTEM));
        self
    }

    /// Whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// The number its messages carry.
    pub const fn seq(&self) -> u32 {
        self.seq
    }

    /// Ends it: the bytes to send as one. The last operation asks to be acknowledged; the kernel
    /// answers after it has committed everything.
    pub fn finish(&mut self) -> &[u8] {
        self.builder.add_flags(flag::ACK);
        self.builder.message(END, flag::REQUEST, self.seq, &nfgenmsg(0, SUBSYSTEM));
        self.builder.bytes()
    }

    fn operation(&mut self, operation: u16, flags: u16) -> &mut Builder {
        self.operations += 1;
        self.builder.message(kind(operation), flag::REQUEST | flags, self.seq, &nfgenmsg(INET, 0)).attr_str(TABLE, &self.table)
    }

    /// Makes the table, or wakes one that somebody put to sleep (`flags dormant`).
    pub fn add_table(&mut self) -> &mut Self {
        self.operation(op::NEW_TABLE, flag::CREATE).attr_be32(TABLE_FLAGS, 0);
        self
    }

    /// Deletes the table and all in it.
    pub fn delete_table(&mut self) -> &mut Self {
        self.operation(op::DEL_TABLE, 0);
        self
    }

    /// Makes a chain. One that exists keeps its rules and gets the policy.
    pub fn add_chain(&mut self, chain: &Chain) -> &mut Self {
        let b = self.operation(op::NEW_CHAIN, flag::CREATE);
        b.attr_str(CHAIN_NAME, &chain.name);
        if let Some(base) = &chain.base {
            let hook = b.nest(CHAIN_HOOK);
            b.attr_be32(HOOK_NUM, base.hook).attr_be32(HOOK_PRIORITY, base.priority.cast_unsigned());
            b.end(hook).attr_be32(CHAIN_POLICY, base.policy).attr_str(CHAIN_TYPE, &base.kind);
        }
        self
    }

    /// Deletes a chain without rules that nothing points at.
    pub fn delete_chain(&mut self, name: &str) -> &mut Self {
        self.operation(op::DEL_CHAIN, 0).attr_str(CHAIN_NAME, name);
        self
    }

    /// Appends a rule to its chain.
    pub fn add_rule(&mut self, rule: &Rule) -> &mut Self {
        let b = self.operation(op::NEW_RULE, flag::CREATE | flag::APPEND);
        b.attr_str(RULE_CHAIN, &rule.chain);
        let list = b.nest(RULE_EXPRESSIONS);
        rule.exprs.iter().for_each(|expr| expr.write(b));
        b.end(list);
        self
    }

    /// Deletes all rules of all chains of the table.
    pub fn delete_rules(&mut self) -> &mut Self {
        self.operation(op::DEL_RULE, 0);
        self
    }

    /// Makes a set. One that exists and is alike stays as it is; newer kernels (6.5) give it the new size.
    pub fn add_set(&mut self, set: &Set) -> &mut Self {
        self.sets = self.sets.wrapping_add(1);
        let id = self.sets;
        let b = self.operation(op::NEW_SET, flag::CREATE);
        b.attr_str(SET_NAME, &set.name).attr_be32(SET_FLAGS, set.flags);
        b.attr_be32(SET_KEY_TYPE, set.key_type).attr_be32(SET_KEY_LEN, set.key_len).attr_be32(SET_ID, id);
        if let Some(timeout) = set.timeout {
            b.attr_be64(SET_TIMEOUT, timeout);
        }
        if let Some(size) = set.size {
            let desc = b.nest(SET_DESC);
            b.attr_be32(SET_DESC_SIZE, size);
            b.end(desc);
        }
        if set.counter {
            let expr = b.nest(SET_EXPR);
            b.attr_str(EXPR_NAME, "counter").end(expr);
        }
        self
    }

    /// Deletes a set that no rule uses, with its elements.
    pub fn delete_set(&mut self, name: &str) -> &mut Self {
        self.operation(op::DEL_SET, 0).attr_str(SET_NAME, name);
        self
    }

    /// Makes an object with a name. One of its name and kind that exists stays as it is: a counter goes on counting.
    pub fn add_object(&mut self, object: &Object) -> &mut Self {
        let b = self.operation(op::NEW_OBJECT, flag::CREATE);
        b.attr_str(OBJECT_NAME, &object.name).attr_be32(OBJECT_TYPE, object.kind());
        let data = b.nest(OBJECT_DATA);
        object.held.write(b);
        b.end(data);
        self
    }

    /// Deletes an object that no rule uses, of whatever kind: somebody else may have put it into the table.
    pub fn delete_object(&mut self, kind: u32, name: &str) -> &mut Self {
        self.operation(op::DEL_OBJECT, 0).attr_str(OBJECT_NAME, name).attr_be32(OBJECT_TYPE, kind);
        self
    }

    /// Makes elements of a set stand. What becomes of ones that stand depends on the kernel: since
    /// 6.12 they get the new end, before it they stay as they are.
    pub fn add_elements<K: Deref<Target = [u8]>>(&mut self, set: &str, elements: impl Iterator<Item = Element<K>>) -> &mut Self {
        self.elements(op::NEW_ELEMENTS, flag::CREATE, set, elements)
    }

    /// Deletes elements of a set. One that does not stand fails the whole transaction.
    pub fn delete_elements<K: Deref<Target = [u8]>>(&mut self, set: &str, keys: impl Iterator<Item = K>) -> &mut Self {
        self.elements(op::DEL_ELEMENTS, 0, set, keys.map(Element::bare))
    }

    fn elements<K: Deref<Target = [u8]>>(
        &mut self,
        operation: u16,
        flags: u16,
        set: &str,
        elements: impl Iterator<Item = Element<K>>,
    ) -> &mut Self {
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            let b = self.operation(operation, flags);
            b.attr_str(ELEMS_SET, set);
            let list = b.nest(ELEMS_LIST);
            while b.nest_len(list) < LIST_CUT {
                let Some(element) = elements.next() else { break };
                write_element(b, &element);
            }
            b.end(list);
        }
        self
    }
}

fn write_element<K: Deref<Target = [u8]>>(b: &mut Builder, element: &Element<K>) {
    let member = b.nest(LIST_ELEM);
    write_key(b, &element.key);
    if let Some(timeout) = element.timeout {
        b.attr_be64(ELEM_TIMEOUT, timeout);
        if element.restart {
            b.attr_be64(ELEM_EXPIRATION, timeout);
        }
    }
    b.end(member);
}

fn write_key(b: &mut Builder, key: &[u8]) {
    let nest = b.nest(ELEM_KEY);
    b.attr(DATA_VALUE, key);
    b.end(nest);
}

/// Writes the request for one element of a set of `table`. The answer is the element, or `ENOENT`.
pub fn get_element(b: &mut Builder, seq: u32, table: &str, set: &str, key: &[u8]) {
    b.message(kind(op::GET_ELEMENTS), flag::REQUEST, seq, &nfgenmsg(INET, 0)).attr_str(TABLE, table).attr_str(ELEMS_SET, set);
    let list = b.nest(ELEMS_LIST);
    let member = b.nest(LIST_ELEM);
    write_key(b, key);
    b.end(member).end(list);
}

/// Writes a request of `operation` (one of the `GET_*`) for what `table` holds. For elements, `set` names which.
pub fn list(b: &mut Builder, seq: u32, operation: u16, table: &str, set: Option<&str>) {
    b.message(kind(operation), flag::REQUEST | flag::DUMP, seq, &nfgenmsg(INET, 0)).attr_str(TABLE, table);
    if let Some(set) = set {
        b.attr_str(ELEMS_SET, set);
    }
}

/// The request of `operation` (one of the `GET_*`) for what all tables of all families hold.
pub fn list_all(seq: u32, operation: u16) -> Builder {
    let mut b = Builder::new();
    b.message(kind(operation), flag::REQUEST | flag::DUMP, seq, &nfgenmsg(0, 0));
    b
}

/// Writes the request for one table by name, acknowledged.
pub fn get_table(b: &mut Builder, seq: u32, table: &str) {
    b.message(kind(op::GET_TABLE), flag::REQUEST | flag::ACK, seq, &nfgenmsg(INET, 0)).attr_str(TABLE, table);
}

/// Writes the request for the generation number, acknowledged.
pub fn get_generation(b: &mut Builder, seq: u32) {
    b.message(kind(op::GET_GENERATION), flag::REQUEST | flag::ACK, seq, &nfgenmsg(0, 0));
}
