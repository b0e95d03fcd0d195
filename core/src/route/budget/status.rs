//! What is told of a budget.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::view::plus;
use super::{Kind, Ledger, Why};
use crate::time::{Now, Span, Stamp};

/// One budget at one moment. Moments are of the wall clock as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Connects that count now, the margin included.
    pub used: u32,
    /// How many the provider allows
    pub of: u32,
    /// within this time, in milliseconds.
    pub within: Span,
    /// How many of them are kept for a human.
    pub reserved: u32,
    /// Now.
    pub now: Stamp,
    /// When an automatic start may be; none: never.
    pub next_automatic: Option<Stamp>,
    /// When a human may connect without saying more; none: never.
    pub next_manual: Option<Stamp>,
    /// What an automatic start waits for.
    pub why: Option<Why>,
    /// Those that still count.
    pub breaches: Vec<Breach>,
    /// So many of them lock out
    pub lockout_at: u32,
    /// for so long, in milliseconds.
    pub lockout: Span,
    /// Until when the provider refuses, as far as is known.
    pub hold: Option<Stamp>,
    /// Until when he has locked us out.
    pub locked: Option<Stamp>,
    /// Tunnels that wait for it, the first first.
    pub waiting: Vec<Arc<str>>,
}

/// One breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// When.
    pub at: Stamp,
    /// Until when it counts.
    pub until: Stamp,
}

impl Ledger {
    /// What is to be told of it.
    pub fn status(&self, now: Now) -> BudgetStatus {
        let view = self.view(now);
        let later = |left: Span| now.stamp.plus(left);
        let some = |left: Span| (left > Span::ZERO).then(|| later(left));
        let whole = plus(self.budget.breach_within, self.budget.margin);
        let breach = |left: &Span| Breach { at: later(*left).minus(whole), until: later(*left) };
        BudgetStatus {
            name: Arc::clone(&self.budget.name),
            used: view.used(Span::ZERO),
            of: self.budget.connects,
            within: self.budget.within,
            reserved: self.budget.reserve,
            now: now.stamp,
            next_automatic: view.earliest(Kind::Automatic, 1, Span::ZERO).map(later),
            next_manual: view.earliest(Kind::Manual, 1, Span::ZERO).map(later),
            why: view.forbidden(Kind::Automatic, 1, Span::ZERO),
            breaches: view.breaches.iter().map(breach).collect(),
            lockout_at: self.budget.breaches,
            lockout: self.budget.lockout,
            hold: some(view.hold),
            locked: some(view.lock),
            waiting: self.waiting.iter().map(|(who, _)| Arc::clone(who)).collect(),
        }
    }
}

impl fmt::Display for BudgetStatus {
    /// `budget sixxs: 2 of 4 in 60 s (1 reserved) · next automatic now · breaches 0`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = |at: Option<Stamp>| match at {
            None => "never".to_owned(),
            Some(at) if at <= self.now => "now".to_owned(),
            Some(at) => at.to_string(),
        };
        let Self { name, used, of, reserved, .. } = self;
        write!(f, "budget {name}: {used} of {of} in {} s ({reserved} reserved)", self.within.as_secs_ceil())?;
        write!(f, " · next automatic {}", when(self.next_automatic))?;
        if self.next_manual != self.next_automatic {
            write!(f, " · next by hand {}", when(self.next_manual))?;
        }
        write!(f, " · breaches {}", self.breaches.len())?;
        if let Some(last) = self.breaches.last() {
            write!(f, " ({}, expires {})", last.at, last.until)?;
        }
        match (self.locked, self.hold) {
            (Some(until), _) => write!(f, " · locked out until {until}")?,
            (None, Some(until)) => write!(f, " · refused until {until}")?,
            _ => {}
        }
        if self.locked.is_none() && self.breaches.len() + 1 >= self.lockout_at as usize {
            let lockout = self.lockout.as_millis();
            match lockout % 86_400_000 {
                0 => write!(f, " · a further breach locks for {}d", lockout / 86_400_000)?,
                _ => write!(f, " · a further breach locks for {}", self.lockout)?,
            }
        }
        Ok(())
    }
}
