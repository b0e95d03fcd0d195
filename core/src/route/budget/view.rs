//! A budget seen from one moment: everything as how long it still lasts. Answers when the next connect may be.

use super::{Kind, Why};
use crate::route::tunnels::Budget;
use crate::time::Span;

/// How long each thing still counts, from now.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    pub(super) budget: &'a Budget,
    /// Connects: how long they count, and how much.
    pub(super) attempts: Vec<(Span, u32)>,
    pub(super) breaches: Vec<Span>,
    pub(super) hold: Span,
    pub(super) lock: Span,
}

impl View<'_> {
    /// How much is taken, so much later.
    pub(super) fn used(&self, at: Span) -> u32 {
        self.attempts.iter().filter(|(left, _)| *left > at).fold(0, |sum, (_, cost)| sum.saturating_add(*cost))
    }

    /// Why a connect cannot be so much later; `None`: it can. What cannot be later could not be sooner: all of it only ends.
    pub(super) fn forbidden(&self, kind: Kind, cost: u32, at: Span) -> Option<Why> {
        let budget = self.budget;
        let breaches = self.breaches.iter().filter(|left| **left > at).count();
        let used = self.used(at);
        let after = used.saturating_add(cost);
        let (limit, automatic) = match kind {
            Kind::Automatic => (budget.connects.saturating_sub(budget.reserve), true),
            Kind::Manual | Kind::SpendLast => (budget.connects, false),
        };
        // One that was not counted, and this one would be the breach that locks out.
        let last = breaches + 1 >= budget.breaches as usize && after >= budget.connects && kind != Kind::SpendLast;
        match () {
            () if at < self.lock => Some(Why::Lockout),
            () if at < self.hold => Some(Why::Hold),
            () if after > limit => Some(Why::Window),
            () if automatic && breaches > 0 && used > 0 => Some(Why::Careful),
            () if last => Some(Why::Last),
            () => None,
        }
    }

    /// How long from now, but not before `from`, until a connect can be; `None`: never.
    pub(super) fn earliest(&self, kind: Kind, cost: u32, from: Span) -> Option<Span> {
        let ends = self.attempts.iter().map(|(left, _)| *left).chain(self.breaches.iter().copied());
        let mut changes: Vec<Span> = ends.chain([self.hold, self.lock]).filter(|end| *end > from).chain([from]).collect();
        changes.sort_unstable();
        let first = changes.partition_point(|at| self.forbidden(kind, cost, *at).is_some());
        changes.get(first).copied()
    }

    /// The same once that connect was made.
    pub(super) fn take(&mut self, at: Span, cost: u32) {
        self.attempts.push((plus(at, plus(self.budget.within, self.budget.margin)), cost));
    }
}

pub(super) const fn plus(a: Span, b: Span) -> Span {
    Span::millis(a.as_millis().saturating_add(b.as_millis()))
}
