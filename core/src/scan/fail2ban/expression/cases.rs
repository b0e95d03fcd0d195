//! Takes conditions apart: `(a)?b(?(1)c|d)` is `(a)bc|bd`.
//!
//! What a regex tries, it tries in order: to put what follows an alternative into each of its branches
//! changes neither what is tried nor the order. In each branch it is then known whether the group of a
//! condition has matched, and only one of the two cases is left.

use std::collections::{BTreeMap, BTreeSet};

use super::syntax::{Greed, Node, Times};

/// How many branches come of it at most; sshd's busiest expression has 4.
const BRANCHES: usize = 16;

/// Which of the groups that conditions ask for have matched so far; `None` where that is not known.
type Known = BTreeMap<u32, Option<bool>>;

/// The same expression without conditions; `None` where that is not possible.
pub(super) fn without_conditions(node: &Node) -> Option<Node> {
    let mut asked = BTreeSet::new();
    groups_asked(node, &mut asked);
    if asked.is_empty() {
        return Some(node.clone());
    }
    let known: Known = asked.iter().map(|group| (*group, Some(false))).collect();
    let mut branches: Vec<Node> = branches(node, &known)?.into_iter().map(|(node, _)| node).collect();
    Some(if branches.len() == 1 { branches.remove(0) } else { Node::Alt(branches) })
}

fn groups_asked(node: &Node, asked: &mut BTreeSet<u32>) {
    match node {
        Node::Cond { group, yes, no } => {
            asked.insert(*group);
            groups_asked(yes, asked);
            groups_asked(no, asked);
        }
        Node::Group(_, node) | Node::Atomic(node) | Node::Repeat(node, _) => groups_asked(node, asked),
        Node::Concat(nodes) | Node::Alt(nodes) => nodes.iter().for_each(|node| groups_asked(node, asked)),
        Node::Look(look) => groups_asked(&look.node, asked),
        Node::Empty | Node::Char(_) | Node::Set(_) | Node::Assert(_) | Node::Again { .. } => {}
    }
}

fn concerned(node: &Node, known: &Known) -> bool {
    node.any(&|node| match node {
        Node::Cond { .. } => true,
        Node::Group(group, _) => known.contains_key(group),
        _ => false,
    })
}

/// Alternatives, tried in this order, that together are `node`, and what is known after each.
fn branches(node: &Node, known: &Known) -> Option<Vec<(Node, Known)>> {
    if !concerned(node, known) {
        return Some(vec![(node.clone(), known.clone())]);
    }
    let all = match node {
        Node::Cond { group, yes, no } => branches(if (*known.get(group)?)? { yes } else { no }, known)?,
        Node::Group(group, node) => {
            let inner = branches(node, known)?;
            let wrapped = inner.into_iter().map(|(node, mut known)| {
                known.entry(*group).and_modify(|set| *set = Some(true));
                (Node::Group(*group, Box::new(node)), known)
            });
            wrapped.collect()
        }
        Node::Alt(nodes) => {
            let mut all = Vec::new();
            for node in nodes {
                all.extend(branches(node, known)?);
            }
            all
        }
        Node::Repeat(node, Times { min: 0, max: Some(1), greed }) if *greed != Greed::Possessive => {
            let mut all = branches(node, known)?;
            let at = if *greed == Greed::Greedy { all.len() } else { 0 };
            all.insert(at, (Node::Empty, known.clone()));
            all
        }
        Node::Concat(nodes) => in_order(nodes, known)?,
        Node::Repeat(inner, times) => {
            let (inner, known) = alone(inner, known)?;
            vec![(Node::Repeat(Box::new(inner), *times), known)]
        }
        Node::Atomic(inner) => {
            let (inner, known) = alone(inner, known)?;
            vec![(Node::Atomic(Box::new(inner)), known)]
        }
        Node::Look(look) => {
            let mut look = look.clone();
            let (inner, known) = alone(&look.node, known)?;
            look.node = inner;
            vec![(Node::Look(look), known)]
        }
        Node::Empty | Node::Char(_) | Node::Set(_) | Node::Assert(_) | Node::Again { .. } => vec![(node.clone(), known.clone())],
    };
    (all.len() <= BRANCHES).then(|| joined(all))
}

fn in_order(nodes: &[Node], known: &Known) -> Option<Vec<(Node, Known)>> {
    let mut all: Vec<(Vec<Node>, Known)> = vec![(Vec::new(), known.clone())];
    for node in nodes {
        let mut next = Vec::new();
        for (before, known) in &all {
            for (node, known) in branches(node, known)? {
                let mut longer = before.clone();
                longer.push(node);
                next.push((longer, known));
            }
        }
        all = next;
        if all.len() > BRANCHES {
            return None;
        }
    }
    Some(all.into_iter().map(|(nodes, known)| (Node::concat(nodes), known)).collect())
}

/// What is repeated, or only looked at, must be one branch. What it did to groups is not known after it.
fn alone(node: &Node, known: &Known) -> Option<(Node, Known)> {
    // Within it a group may have matched in an earlier round.
    let mut inside = known.clone();
    forget(node, &mut inside);
    let mut all = branches(node, &inside)?;
    (all.len() == 1).then(|| all.remove(0).0).map(|node| (node, inside))
}

fn forget(node: &Node, known: &mut Known) {
    let forgotten: Vec<u32> =
        known.keys().copied().filter(|group| node.any(&|node| matches!(node, Node::Group(index, _) if index == group))).collect();
    for group in forgotten {
        known.insert(group, None);
    }
}

/// Neighbours after which the same is known, as one.
fn joined(all: Vec<(Node, Known)>) -> Vec<(Node, Known)> {
    let mut out: Vec<(Node, Known)> = Vec::new();
    for (node, known) in all {
        match out.last_mut() {
            Some((last, same)) if *same == known => match last {
                Node::Alt(nodes) => nodes.push(node),
                _ => *last = Node::Alt(vec![std::mem::replace(last, Node::Empty), node]),
            },
            _ => out.push((node, known)),
        }
    }
    out
}
