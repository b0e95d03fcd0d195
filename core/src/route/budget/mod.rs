//! The client's side of a provider's rule: how often may be connected, and when next.
//!
//! The rule: more than `connects` within `within` is a breach and refused for `penalty`; `breaches` of them within
//! `breach_within` lock out. A provider may count refused connects too, and count by account or by address; so each
//! connect of anybody is taken from one budget, before it is made, and given back only if it never left this host.
//!
//! * An automatic start may use what is not reserved for a human; a human may use all, but never more.
//! * The window is the provider's and the margin: a connect may reach him that much later than it was made.
//! * After a breach automatic starts have a window for themselves. What could be the breach that locks out takes a human
//!   who says so.
//! * Who waited longest is first.

mod account;
#[cfg(test)]
mod simulation;
mod status;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::tunnels::Budget;
use crate::time::{Now, Span};
use account::Pause;
pub use account::{Account, AccountError, BootId, FILE_MAX, Moment};
pub use status::{Breach, BudgetStatus};
use view::{View, plus};

/// Who wants to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A tunnel that is kept up.
    Automatic,
    /// A human.
    Manual,
    /// A human who knows that it may be the connect that locks out.
    SpendLast,
}

/// Why a connect cannot be now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// As many were made as the provider allows, or automatic starts may use.
    Window,
    /// There was a breach: one automatic start in a window, and none beside a human's.
    Careful,
    /// It could be the breach that locks out.
    Last,
    /// The provider refuses for a while.
    Hold,
    /// The provider has locked us out.
    Lockout,
}

impl Why {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Window => "the provider's limit of connects is used up",
            Self::Careful => {
                "after a breach of the provider's limit only one automatic start is made in a window, and none beside a human's"
            }
            Self::Last => "one connect more could be the breach that locks the account out",
            Self::Hold => "the provider refuses connects for a while",
            Self::Lockout => "the provider has locked the account out",
        }
    }
}

/// A wish to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who: a tunnel's name, or a human's verb.
    pub who: Arc<str>,
    /// By itself or by hand.
    pub kind: Kind,
    /// How many connects it makes.
    pub cost: u32,
}

/// The answer.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Now. Spend it, keep that, and then connect.
    Granted {
        /// How much a human could still spend after it.
        left: u32,
    },
    /// Not now.
    Wait {
        /// The earliest moment.
        until: Now,
        /// How long that is.
        left: Span,
        /// Why.
        why: Why,
    },
    /// Not by waiting.
    Denied {
        /// Why, and what to do.
        why: String,
    },
}

/// One spent connect, to give it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// One budget: its rule, what was spent, and who waits.
#[derive(Clone, Debug)]
pub struct Ledger {
    budget: Budget,
    boot: BootId,
    account: Account,
    /// Automatic starts that were told to wait, oldest first, with their cost.
    waiting: Vec<(Arc<str>, u32)>,
}

impl Ledger {
    /// The budget with what was kept of it, in this boot.
    pub fn new(budget: Budget, account: Account, boot: BootId) -> Self {
        // Counting that far takes memory; fewer connects than allowed do no harm.
        let connects = budget.connects.min(u32::try_from(account::ATTEMPTS_MAX).unwrap_or(u32::MAX));
        Self { budget: Budget { connects, ..budget }, boot, account, waiting: Vec::new() }
    }

    /// Its rule.
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Takes the rule of a new config. Those who wait go on waiting.
    pub fn set_budget(&mut self, budget: Budget) {
        *self = Self { waiting: std::mem::take(&mut self.waiting), ..Self::new(budget, self.account.clone(), self.boot.clone()) };
    }

    /// What is to be kept.
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// Takes what somebody else kept meanwhile.
    pub fn load(&mut self, account: Account) {
        self.account = account;
    }

    /// Looks at the clocks. Whether one was set or the boot is new, so that what is kept changed and should be written.
    pub fn observe(&mut self, now: Now) -> bool {
        self.account.observe(now, &self.boot)
    }

    /// Whether a connect may be made now. One that is told to wait keeps its place until it is granted or [`Self::leave`]s.
    pub fn grant(&mut self, ask: &Ask, now: Now) -> Grant {
        self.observe(now);
        let (first, forbidden, used) = self.first(ask, now);
        match first {
            Some(Span::ZERO) => {
                self.leave(&ask.who);
                Grant::Granted { left: self.budget.connects.saturating_sub(used.saturating_add(ask.cost)) }
            }
            Some(left) if ask.kind == Kind::Manual && forbidden == Some(Why::Last) => {
                Grant::Denied { why: self.needs_spend_last(left, now) }
            }
            Some(left) => {
                if ask.kind == Kind::Automatic && !self.waiting.iter().any(|(who, _)| *who == ask.who) {
                    self.waiting.push((Arc::clone(&ask.who), ask.cost));
                }
                // Where only those before it hold it up, it is the window that they will fill.
                let why = forbidden.unwrap_or(Why::Window);
                Grant::Wait { until: Now { stamp: now.stamp.plus(left), tick: now.tick.plus(left) }, left, why }
            }
            None => {
                self.leave(&ask.who);
                Grant::Denied { why: self.never(ask) }
            }
        }
    }

    /// How long until it may be, those before it first; what forbids it now, and how much is used now.
    fn first(&self, ask: &Ask, now: Now) -> (Option<Span>, Option<Why>, u32) {
        let mut view = self.view(now);
        let (forbidden, used) = (view.forbidden(ask.kind, ask.cost, Span::ZERO), view.used(Span::ZERO));
        let mut from = Span::ZERO;
        if ask.kind == Kind::Automatic {
            for (_, cost) in self.waiting.iter().take_while(|(who, _)| *who != ask.who) {
                if let Some(first) = view.earliest(Kind::Automatic, *cost, from) {
                    view.take(first, *cost);
                    from = first;
                }
            }
        }
        (view.earliest(ask.kind, ask.cost, from), forbidden, used)
    }

    /// Gives up a place among those who wait.
    pub fn leave(&mut self, who: &str) {
        self.waiting.retain(|(waiting, _)| **waiting != *who);
    }

    /// Takes a connect from the budget. Keep [`Self::account`] before it is made.
    pub fn spend(&mut self, ask: &Ask, now: Now) -> Ticket {
        self.tidy(now);
        let at = self.account.moment(now, &self.boot);
        let ticket = Ticket(self.account.add(at, ask.cost, &ask.who, ask.kind != Kind::Automatic));
        let within = |attempt: &&account::Attempt| self.account.age(&attempt.at, now, &self.boot) < self.budget.within;
        let made = self.account.attempts.iter().filter(within).fold(0u32, |sum, attempt| sum.saturating_add(attempt.cost));
        if made > self.budget.connects {
            // Nobody asked first: the provider will refuse it, whether he says so or not.
            self.breach(now);
        }
        ticket
    }

    /// Gives back what was provably never sent: the program could not be started. Whether it was still counted.
    pub fn give_back(&mut self, ticket: Ticket) -> bool {
        let before = self.account.attempts.len();
        self.account.attempts.retain(|attempt| attempt.id != ticket.0);
        let was = self.account.attempts.len() < before;
        if was {
            self.account.since_refusal = self.account.since_refusal.saturating_sub(1);
        }
        was
    }

    /// The provider refused. A breach, unless it is the answer to what was refused before: then he means it twice as long.
    pub fn refused(&mut self, now: Now) {
        self.tidy(now);
        match (self.account.refusals, self.account.since_refusal) {
            // One of several under way when the first was refused.
            (1.., 0) => self.hold(now),
            // The first try since: still the same penalty, longer than was thought.
            (1.., 1) => {
                self.account.refusals = self.account.refusals.saturating_add(1);
                self.hold(now);
            }
            // The first, or one with others before it that he took.
            _ => self.breach(now),
        }
        self.account.since_refusal = 0;
    }

    fn breach(&mut self, now: Now) {
        self.account.refusals = 1;
        self.account.since_refusal = 0;
        let at = self.account.moment(now, &self.boot);
        if self.account.breaches.len() >= account::ATTEMPTS_MAX {
            self.account.breaches.remove(0);
        }
        self.account.breaches.push(at.clone());
        self.hold(now);
        if self.account.breaches.len() >= self.budget.breaches as usize {
            self.account.lock = Some(Pause { since: at, lasts: plus(self.budget.lockout, self.budget.margin) });
        }
    }

    /// Nobody connects for the penalty, doubled for each refusal in a row but not beyond the lockout, unless it is so for longer already.
    fn hold(&mut self, now: Now) {
        let doubled = self.account.refusals.saturating_sub(1).min(32);
        let penalty = self.budget.penalty.as_millis().saturating_mul(1 << doubled);
        let longest = self.budget.lockout.max(self.budget.penalty).as_millis();
        let lasts = plus(Span::millis(penalty.min(longest)), self.budget.margin);
        if lasts > self.account.left(self.account.hold.as_ref(), now, &self.boot) {
            self.account.hold = Some(Pause { since: self.account.moment(now, &self.boot), lasts });
        }
    }

    /// Forgets all, as a human says who knows that the provider counts nothing any more.
    pub fn reset(&mut self, now: Now) {
        self.account = Account::new(now, &self.boot);
    }

    fn tidy(&mut self, now: Now) {
        self.account.observe(now, &self.boot);
        let window = plus(self.budget.within, self.budget.margin);
        let breaches = plus(self.budget.breach_within, self.budget.margin);
        self.account.tidy(window, breaches, now, &self.boot);
        if self.account.breaches.is_empty() {
            self.account.refusals = 0;
        }
    }

    fn view(&self, now: Now) -> View<'_> {
        let left = |age: Span, lasts: Span| Span::millis(plus(lasts, self.budget.margin).as_millis().saturating_sub(age.as_millis()));
        let counted = |span: &Span| *span > Span::ZERO;
        let attempts = self.account.attempts.iter();
        let attempts = attempts.map(|one| (left(self.account.age(&one.at, now, &self.boot), self.budget.within), one.cost));
        let breaches = self.account.breaches.iter();
        let breaches = breaches.map(|at| left(self.account.age(at, now, &self.boot), self.budget.breach_within));
        View {
            budget: &self.budget,
            attempts: attempts.filter(|(span, _)| counted(span)).collect(),
            breaches: breaches.filter(counted).collect(),
            hold: self.account.left(self.account.hold.as_ref(), now, &self.boot),
            lock: self.account.left(self.account.lock.as_ref(), now, &self.boot),
        }
    }

    fn needs_spend_last(&self, left: Span, now: Now) -> String {
        let (budget, at) = (&self.budget, now.stamp.plus(left));
        format!(
            "{}: {} for {}. From {at} on it is none; if it must be now, say --spend-last",
            Why::Last.text(),
            budget.name,
            budget.lockout
        )
    }

    fn never(&self, ask: &Ask) -> String {
        let Budget { name, connects, reserve, .. } = &self.budget;
        format!(
            "one start of {} costs {} of budget {name}, which has {connects} with {reserve} kept for a human: never enough; \
             lower its cost or the budget's reserve",
            ask.who, ask.cost
        )
    }
}
