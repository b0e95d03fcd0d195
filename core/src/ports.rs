//! Which of our ports a ban is about. A word of floor 0: the judge's policies and the wall's keys
//! both speak of it, and neither may import the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Which traffic of a source a ban shuts out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ports {
    /// All of it, whatever the protocol.
    #[default]
    All,
    /// TCP and UDP to these of our ports only (and the answers from them). Sorted, without doubles, 1 to [`Ports::MOST`].
    Only(Arc<[u16]>),
}

impl Ports {
    /// How many ports a ban may name. A jail that needs more means all of them.
    pub const MOST: usize = 32;

    /// The sorted set of `ports`. No port at all means all of them; `None` for more than [`Ports::MOST`].
    pub fn only(ports: impl IntoIterator<Item = u16>) -> Option<Self> {
        let set: BTreeSet<u16> = ports.into_iter().collect();
        match set.len() {
            0 => Some(Self::All),
            n if n <= Self::MOST => Some(Self::Only(set.into_iter().collect())),
            _ => None,
        }
    }

    /// Whether shutting these out shuts out all of `other` too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(mine), Self::Only(theirs)) => theirs.iter().all(|port| mine.binary_search(port).is_ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_means_all_and_only_a_superset_covers() {
        let only = |ports: &[u16]| Ports::only(ports.iter().copied()).unwrap();
        assert_eq!(only(&[]), Ports::All);
        assert_eq!(only(&[443, 22, 22]), only(&[22, 443]));
        assert_eq!(Ports::only(0..33), None);
        assert!(Ports::All.covers(&only(&[22])) && !only(&[22]).covers(&Ports::All));
        assert!(only(&[22, 80, 443]).covers(&only(&[22, 443])) && !only(&[22]).covers(&only(&[22, 80])));
    }
}
