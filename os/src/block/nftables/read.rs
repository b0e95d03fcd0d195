//! What stands in the kernel, and what it takes to make another layout of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use palisade_core::bans::wall::{Frame, Key, Refusal, Standing};
use palisade_core::net::Prefix;
use palisade_core::time::Span;

use super::layout::{Kind, Layout, generation_of};
use crate::netlink::nft::port::Port;
use crate::netlink::nft::whole::{by_chain, hangs_as, sorted};
use crate::netlink::nft::{Batch, Chain, Expr, Rule, Set, StoredElement, Table, op, parse_chain, parse_elements, parse_rule, parse_set};

/// `NFT_TABLE_F_DORMANT`: the table exists and does nothing.
const DORMANT: u32 = 1;

/// Our table without the elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) table: Option<Table>,
    pub(super) chains: Vec<Chain>,
    pub(super) rules: Vec<Rule>,
    pub(super) sets: Vec<Set>,
}

impl Snapshot {
    pub(super) fn take(port: &mut Port) -> io::Result<Self> {
        let table = port.table()?;
        if table.is_none() {
            return Ok(Self::default());
        }
        Ok(Self {
            table,
            chains: port.list(op::GET_CHAIN, None, |payload, all| all.extend(parse_chain(payload)))?,
            rules: port.list(op::GET_RULE, None, |payload, all| all.extend(parse_rule(payload)))?,
            sets: port.list(op::GET_SET, None, |payload, all| all.extend(parse_set(payload)))?,
        })
    }

    /// The layout it comes from, or came from before somebody changed it: the generation that rules
    /// ask for (else the oldest there is), and all its sets, counting as they do.
    pub(super) fn layout(&self) -> Layout {
        let asked = self.rules.iter().flat_map(|rule| &rule.exprs).find_map(|expr| match expr {
            Expr::In(set) => Kind::parse(set).map(|(_, generation)| generation),
            _ => None,
        });
        let kinds: Vec<_> = self.sets.iter().filter_map(|set| Some((Kind::parse(&set.name)?, set.counter))).collect();
        let generation = asked.or_else(|| kinds.iter().map(|((_, generation), _)| *generation).min()).unwrap_or(1);
        let reject = self.chains.iter().any(|chain| chain.name == "refuse");
        Layout {
            generation,
            refusal: if reject { Refusal::Reject } else { Refusal::Drop },
            kinds: kinds.into_iter().filter(|((_, g), _)| *g == generation).map(|((kind, _), counted)| (kind, counted)).collect(),
        }
    }

    /// Whether it is exactly what its layout says: nothing missing, changed or added.
    pub(super) fn whole(&self) -> bool {
        let layout = self.layout();
        self.table.is_some()
            && self.awake()
            && sorted(self.chains.clone()) == sorted(layout.chains())
            && sorted(self.sets.clone()) == sorted(layout.sets())
            && by_chain(self.rules.clone()) == by_chain(layout.rules())
    }

    /// The lowest generation no set here belongs to.
    pub(super) fn free_generation(&self) -> u32 {
        let used: BTreeSet<u32> = self.sets.iter().map(|set| generation_of(&set.name)).collect();
        (1..).find(|generation| !used.contains(generation)).unwrap_or(1)
    }

    /// Wakes the table if somebody put it to sleep: the kernel refuses to do that and to hang new
    /// chains in hooks in one transaction.
    pub(super) fn wake(&self, port: &mut Port) -> io::Result<()> {
        if self.awake() {
            return Ok(());
        }
        port.begin().add_table();
        port.commit()
    }

    fn awake(&self) -> bool {
        self.table.as_ref().is_none_or(|table| table.flags & DORMANT == 0)
    }

    /// Writes the operations that make `layout` of this. Sets of the layout that stand keep their
    /// elements, and base chains that hang where they should keep hanging: between the old rules
    /// and the new ones no packet finds none.
    pub(super) fn rebuild(&self, layout: &Layout, batch: &mut Batch) {
        batch.add_table();
        if self.table.is_some() {
            batch.delete_rules();
        }
        let (sets, chains) = (layout.sets(), layout.chains());
        for set in self.sets.iter().filter(|set| !sets.contains(set)) {
            batch.delete_set(&set.name);
        }
        for chain in self.chains.iter().filter(|chain| !chains.iter().any(|wanted| hangs_as(chain, wanted))) {
            batch.delete_chain(&chain.name);
        }
        chains.iter().for_each(|chain| _ = batch.add_chain(chain));
        for set in sets.iter().filter(|set| !self.sets.contains(set)) {
            batch.add_set(set);
        }
        for (set, keys) in layout.constants().into_iter().filter(|(set, _)| !self.sets.contains(set)) {
            batch.add_elements(&set.name, keys.into_iter().map(crate::netlink::nft::Element::bare));
        }
        layout.rules().iter().for_each(|rule| _ = batch.add_rule(rule));
    }
}

pub(super) fn standing(element: &StoredElement<'_>) -> Standing {
    Standing { left: element.left.map(Span::millis), packets: element.packets, bytes: element.bytes }
}

/// How often at most a set is listed again, waiting for two listings alike.
const LISTINGS: usize = 16;

/// Lists one set's bans. A listing of more than one message may skip elements while the kernel
/// resizes the set's hash table, as it does for a while after a load, and nothing tells: such a
/// set is listed until twice in a row nothing new comes.
pub(super) fn bans(port: &mut Port, kind: &Kind, generation: u32) -> io::Result<BTreeMap<Key, Standing>> {
    let mut all = BTreeMap::new();
    for _ in 0..LISTINGS {
        let (mut messages, before) = (0, all.len());
        let listed = port.list(op::GET_ELEMENTS, Some(&kind.name(generation)), |payload, listed| {
            messages += 1;
            let elements = parse_elements(payload).into_iter().flat_map(|list| list.elements);
            listed.extend(elements.filter_map(|element| Some((kind.key(element.key)?, standing(&element)))));
        })?;
        let count = listed.len();
        all.extend(listed);
        if messages <= 1 || before == all.len() && count == before {
            break;
        }
    }
    Ok(all)
}

/// The allow list and the manner, as they stand.
pub(super) fn frame(port: &mut Port, layout: &Layout) -> io::Result<Frame> {
    let mut allow = BTreeSet::new();
    for kind in layout.allowing() {
        let members: Vec<Prefix> = port.list(op::GET_ELEMENTS, Some(&kind.name(layout.generation)), |payload, all| {
            let elements = parse_elements(payload).into_iter().flat_map(|list| list.elements);
            all.extend(elements.filter_map(|element| kind.prefix(element.key)));
        })?;
        allow.extend(members);
    }
    Ok(Frame { allow, refusal: layout.refusal })
}
