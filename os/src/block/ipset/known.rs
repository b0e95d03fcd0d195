//! What stands, as we last saw or left it.

use std::collections::{BTreeMap, BTreeSet};

use palisade_core::bans::wall::Refusal;
use palisade_core::time::Span;

use super::layout::{Kind, Layout, Names};
use super::sets::Header;
use super::{Ipset, LOOK_EVERY, RARELY, failed, told};
use crate::block::BlockError;
use crate::clock;

/// What stands.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) layouts: Vec<Layout>,
    pub(super) held: Vec<Held>,
    /// Where in `held` the set of a kind is.
    pub(super) places: BTreeMap<Kind, usize>,
    /// Whether rules and sets are as they should be.
    pub(super) whole: bool,
}

/// A set.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) header: Header,
}

impl Known {
    pub(super) fn new(layouts: Vec<Layout>) -> Self {
        Self { layouts, held: Vec::new(), places: BTreeMap::new(), whole: true }
    }

    /// Takes in a set; tells its place.
    pub(super) fn hold(&mut self, kind: Kind, name: String, header: Header) -> usize {
        let place = self.held.len();
        self.places.insert(kind.clone(), place);
        self.held.push(Held { kind, name, header });
        place
    }

    /// The names of the sets in use.
    pub(super) fn used(&self) -> BTreeSet<String> {
        self.held.iter().map(|held| held.name.clone()).collect()
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.held.iter().map(|held| held.name.as_str()).collect()
    }

    /// The sets that the layouts name and that are made as they should be; of the others, what is wrong.
    fn fit(&mut self, names: &Names, headers: &BTreeMap<String, Header>) -> Option<String> {
        let mut amiss = None;
        for at in 0..self.layouts.len() {
            let layout = self.layouts[at].clone();
            for kind in &layout.kinds {
                let name = layout.name(names, kind);
                match headers.get(&name).filter(|header| is_made_for(kind, header)) {
                    Some(header) => _ = self.hold(kind.clone(), name, header.clone()),
                    None => {
                        amiss.get_or_insert_with(|| format!("the set {name} is gone or made otherwise"));
                        self.layouts[at].kinds.remove(kind);
                    }
                }
            }
        }
        amiss
    }
}

/// Whether a set can hold what this kind needs, however large it is.
pub(super) fn is_made_for(kind: &Kind, header: &Header) -> bool {
    header.kind == "hash:net" && header.family == kind.family && header.timeouts == kind.bans()
}

/// What a look found.
pub(super) struct Seen {
    pub(super) known: Known,
    /// Whether nothing of ours is in the filter tables.
    pub(super) nothing: bool,
}

impl Ipset {
    /// Every set of ours.
    pub(super) fn headers(&mut self) -> Result<BTreeMap<String, Header>, BlockError> {
        let began = clock::now().tick;
        let headers = self.sets.headers(|set| self.names.set_is_ours(set)).map_err(failed("reading our sets"))?;
        let now = clock::now().tick;
        let took = now.since(began).as_millis();
        self.look_at = now.plus(LOOK_EVERY.max(Span::millis(took.saturating_mul(RARELY))));
        Ok(headers)
    }

    /// Looks at rules and sets; whether these still are as we left them, too.
    pub(super) fn learn(&mut self) -> Result<Seen, BlockError> {
        let headers = self.headers()?;
        self.compare(&headers);
        let mut known = Known::new(Vec::new());
        let mut nothing = true;
        for family in self.tables.families() {
            let there = self.chains(family)?;
            let layout = self.layout_of(family, &there.chains);
            nothing &= there.is_empty();
            known.whole &= there.amiss(&layout.shape(&self.names)).is_none();
            known.layouts.push(layout);
        }
        let rejects = |layout: &Layout| layout.refusal == Refusal::Reject;
        if known.layouts.iter().any(rejects) {
            known.whole &= known.layouts.iter().all(rejects);
            known.layouts.iter_mut().for_each(|layout| layout.refusal = Refusal::Reject);
        }
        known.whole &= known.fit(&self.names, &headers).is_none();
        Ok(Seen { known, nothing })
    }

    /// After a change of ours: what stands is known from what we did, but for the sets' sizes.
    pub(super) fn settle(&mut self, layouts: Vec<Layout>) -> Result<(), BlockError> {
        let headers = self.headers()?;
        let mut known = Known::new(layouts);
        match known.fit(&self.names, &headers) {
            None => {
                self.known = Some(known);
                Ok(())
            }
            Some(what) => {
                let hint = "somebody changed our sets meanwhile; they are built anew at the next try".to_owned();
                Err(BlockError::Unusable { what: format!("ipset: {what}"), hint })
            }
        }
    }

    /// After a change of ours to sets: how large they are now.
    pub(super) fn measure(&mut self) -> Result<(), BlockError> {
        let headers = self.headers()?;
        for held in self.known.iter_mut().flat_map(|known| &mut known.held) {
            if let Some(header) = headers.get(&held.name) {
                held.header = header.clone();
            }
        }
        Ok(())
    }

    /// Looks whether the sets still are as large as we left them, less what may have ended by itself.
    pub(super) fn glance(&mut self) -> Result<(), BlockError> {
        if self.known.is_none() {
            return Ok(());
        }
        let headers = self.headers()?;
        self.compare(&headers);
        Ok(())
    }

    fn compare(&mut self, headers: &BTreeMap<String, Header>) {
        let now = self.seconds();
        for held in self.known.iter_mut().flat_map(|known| &mut known.held) {
            let ends = self.ends.get_mut(&held.name);
            let what = match headers.get(&held.name) {
                None => Some(format!("the set {} is gone", held.name)),
                Some(header) => {
                    let (before, entries) = (held.header.entries, header.entries);
                    let missing = before.saturating_sub(entries);
                    let remade = header.kind != held.header.kind || header.timeouts != held.header.timeouts;
                    held.header = header.clone();
                    if remade {
                        Some(format!("the set {} was made anew", held.name))
                    } else if entries > before {
                        Some(format!("{} members were put into the set {}", entries - before, held.name))
                    } else if ends.is_some_and(|ends| !ends.explain(missing, now)) {
                        Some(format!("{missing} members were taken out of the set {}", held.name))
                    } else {
                        None
                    }
                }
            };
            if let Some(what) = what {
                self.seen.get_or_insert(told(held.kind.family, &what));
            }
        }
        if self.seen.is_some() {
            self.known = None;
        }
    }
}
