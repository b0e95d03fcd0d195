//! fail2ban's filters among the jails of a source: which lines they must look at, and which they only pass by.
//!
//! Where each filter can say what texts a line must hold to matter to it, these are needles of the one pass over a block
//! as those of signatures are. What holds none is not looked at: the filter notes its date, for what a filter finds later
//! may count at it. A filter that must see every line makes the source be read line by line.

use std::ops::Range;
use std::slice;
use std::sync::Arc;

use super::block::{Place, line_end, newlines, part};
use super::fail2ban::{Failure, Filter, Session};
use super::line::Line;
use super::needles::Needles;
use super::scanner::{JailScan, ScanState, Scanner};
use super::times::LogClock;
use crate::attack::{Attack, FULL_FAILURE, JailName, Sign, excerpt};

/// Which lines the filters of a source must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filters {
    /// There are none.
    None,
    /// Each those that hold a needle of its own, by slots from this one on; of the others it notes the date.
    Slots(u32),
    /// All.
    All,
}

impl Scanner {
    /// Lines that hold no needle: those without filters are only counted.
    pub(super) fn pass_over(
        &self,
        state: &mut ScanState,
        (file, block): (&[u8], &[u8]),
        place: &mut Place,
        Range { start: mut from, end }: Range<usize>,
        sink: &mut dyn FnMut(Place, Sign),
    ) {
        if self.filters == Filters::None {
            // What follows the last newline is a line too.
            place.line += newlines(block, from, end) + u64::from(from < end && part(block, end - 1, end) != b"\n");
            return;
        }
        while from < end {
            let end = line_end(block, from);
            let line = place.set(block, from..end).of_file(file);
            self.pass(state, line, &mut |sign| sink(place.clone(), sign));
            place.line += 1;
            from = end + 1;
        }
    }

    /// A line that holds no needle, as the filters see it.
    pub(super) fn pass(&self, state: &mut ScanState, line: Line<'_>, sink: &mut dyn FnMut(Sign)) {
        if self.filters == Filters::None {
            return;
        }
        let ScanState { clock, sessions, .. } = state;
        let mut sessions = sessions.iter_mut();
        let records = self.filters.slots(line).next().is_none();
        for JailScan { jail, filters, .. } in &self.jails {
            let failure = failure(filters, &mut sessions, line, clock, &mut || records);
            if let Some(attack) = failure.and_then(|(filter, failure)| failure_attack(jail, filter, failure, line)) {
                sink(Sign::Attack(attack));
            }
        }
    }
}

impl Filters {
    /// What each filter needs, if they all can say it, for slots from `first` on.
    pub(super) fn of(jails: &[JailScan], first: usize) -> (Self, Vec<Needles>) {
        let filters = || jails.iter().flat_map(|jail| &jail.filters);
        if filters().next().is_none() {
            return (Self::None, Vec::new());
        }
        if filters().any(|filter| filter.needles().is_empty()) {
            return (Self::All, Vec::new());
        }
        let texts = |filter: &Arc<Filter>| filter.needles().iter().map(|text| text.as_bytes().to_vec()).collect();
        let needles = filters().map(|filter| Needles { texts: texts(filter), folded: true, also: None }).collect();
        (Self::Slots(u32::try_from(first).unwrap_or(u32::MAX)), needles)
    }

    /// The slots of the filters; none where each filter must see the line: expressions see more of a journal record
    /// than its message, and what is dated otherwise.
    pub(super) fn slots(self, line: Line<'_>) -> Range<u32> {
        match self {
            Self::Slots(first) if line.record().is_none() && line.at().is_none() => first..u32::MAX,
            _ => 0..0,
        }
    }
}

/// What the filters of a jail find in a line; each looks at it, or only passes it by if it does not `concern` it.
pub(super) fn failure<'f>(
    filters: &'f [Arc<Filter>],
    sessions: &mut slice::IterMut<'_, Session>,
    line: Line<'_>,
    clock: &LogClock,
    concerns: &mut dyn FnMut() -> bool,
) -> Option<(&'f Filter, Failure)> {
    let mut failure = None;
    for (filter, session) in filters.iter().zip(sessions) {
        if !concerns() && filter.pass(session, line.text, clock) {
            continue;
        }
        // Nobody can be banned by a name.
        let named = filter.look(session, line, clock).filter(|found| found.addr.is_some());
        failure = failure.or_else(|| named.map(|found| (filter.as_ref(), found)));
    }
    failure
}

/// The attack a filter found; `None` where it names no address: nobody can be banned by a name.
pub(super) fn failure_attack(jail: &JailName, filter: &Filter, failure: Failure, line: Line<'_>) -> Option<Attack> {
    Some(Attack {
        addr: failure.addr?,
        jail: jail.clone(),
        signature: filter.full_name().clone(),
        service: filter.service().clone(),
        score: FULL_FAILURE,
        at: failure.at,
        user: failure.user,
        line: excerpt(line.text),
    })
}
