//! What is kept of routing: which set was confirmed, which one is on trial and until when, and those before.
//!
//! A set is the config's text of it, so it is read by the reader that reads the config. The journal is on the disk before
//! the first change is made; from it alone a daemon that was killed, or a host that was rebooted, knows what to go back to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::{Now, Span, Stamp, Tick};

/// How many earlier sets are kept to go back to.
pub const HISTORY: usize = 10;

/// The shape of the journal. Another one is of another version of the program.
pub const VERSION: u32 = 1;

/// One set of uplinks, rules and policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// When it was applied.
    pub at: Stamp,
    /// As the config has it.
    pub text: String,
}

/// A set on trial: it is taken back unless somebody confirms it in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub set: Set,
    /// The boot it was applied in: another one ends the trial.
    pub boot: String,
    /// Until when, by the clock that counts through sleep and is never set.
    pub until: Tick,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// [`VERSION`].
    pub v: u32,
    /// What stands when nothing is on trial.
    pub confirmed: Option<Set>,
    /// What is on trial.
    pub trial: Option<Trial>,
    /// What was confirmed before, oldest first.
    pub history: Vec<Set>,
    /// What stood and may not be gone from the kernel yet: whoever is killed between writing this and changing that
    /// leaves to the next what is to be removed.
    #[serde(default)]
    pub leaving: Vec<Set>,
    /// What the kernel's switches were before the first of ours, by path: they are put back when nothing of ours is left.
    #[serde(default)]
    pub switches: BTreeMap<String, String>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { v: VERSION, confirmed: None, trial: None, history: Vec::new(), leaving: Vec::new(), switches: BTreeMap::new() }
    }
}

/// What is to be done with a journal that was just read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Nothing is on trial.
    Settled,
    /// The trial goes on.
    OnTrial(Tick),
    /// The trial was over while nobody watched: this set is to be removed.
    Lapsed(Set),
}

impl Journal {
    /// What a daemon that just started makes of it. A trial ends with its boot: whoever lost the way to the host may
    /// have had it rebooted.
    pub fn open(&mut self, boot: &str, now: Tick) -> Opening {
        match self.trial.take() {
            None => Opening::Settled,
            Some(trial) if trial.boot == boot && now < trial.until => {
                let until = trial.until;
                self.trial = Some(trial);
                Opening::OnTrial(until)
            }
            Some(trial) => {
                self.leave(trial.set.clone());
                Opening::Lapsed(trial.set)
            }
        }
    }

    /// A set is to be removed from the kernel.
    fn leave(&mut self, set: Set) {
        if !self.leaving.iter().any(|other| other.text == set.text) {
            self.leaving.push(set);
        }
    }

    /// Everything that may stand in the kernel.
    pub fn sets(&self) -> impl Iterator<Item = &Set> {
        self.trial.as_ref().map(|trial| &trial.set).into_iter().chain(&self.confirmed).chain(&self.leaving)
    }

    /// Nothing but what is to stand stands: whether there is anything to forget.
    pub fn settled(&mut self) -> bool {
        !std::mem::take(&mut self.leaving).is_empty()
    }

    /// What is to stand.
    pub fn standing(&self) -> Option<&Set> {
        self.trial.as_ref().map(|trial| &trial.set).or(self.confirmed.as_ref())
    }

    /// Takes a set on trial. One that was on trial already is no more.
    pub fn try_out(&mut self, text: String, boot: &str, within: Span, now: Now) -> Tick {
        let until = now.tick.plus(within);
        if let Some(trial) = self.trial.take() {
            self.leave(trial.set);
        }
        self.trial = Some(Trial { set: Set { at: now.stamp, text }, boot: boot.to_owned(), until });
        until
    }

    /// Takes a set for good.
    pub fn confirm(&mut self, set: Set) {
        if let Some(trial) = self.trial.take().filter(|trial| trial.set != set) {
            self.leave(trial.set);
        }
        // The same once more is nothing to go back to.
        if let Some(before) =
            self.confirmed.replace(set).filter(|before| Some(&before.text) != self.confirmed.as_ref().map(|set| &set.text))
        {
            self.leave(before.clone());
            self.history.push(before);
        }
        let surplus = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..surplus);
    }

    /// What was on trial is the set for good. `None`: nothing was.
    pub fn confirm_trial(&mut self) -> Option<Set> {
        let trial = self.trial.clone()?;
        self.confirm(trial.set.clone());
        Some(trial.set)
    }

    /// Goes back: from what is on trial to what was confirmed, else to the set before, and from the first to nothing.
    /// Whether there was anything to go back from or to.
    pub fn go_back(&mut self) -> bool {
        if let Some(trial) = self.trial.take() {
            self.leave(trial.set);
            return true;
        }
        let before = self.history.pop();
        let any = before.is_some() || self.confirmed.is_some();
        if let Some(left) = std::mem::replace(&mut self.confirmed, before) {
            self.leave(left);
        }
        any
    }

    /// Nothing is to stand any more.
    pub fn release(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.leave(trial.set);
        }
        if let Some(before) = self.confirmed.take() {
            self.leave(before.clone());
            self.history.push(before);
        }
        let surplus = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(tick: u64) -> Now {
        Now { stamp: Stamp(1_000_000), tick: Tick(tick) }
    }

    fn set(text: &str) -> Set {
        Set { at: Stamp(1), text: text.to_owned() }
    }

    fn tried() -> Journal {
        let mut journal = Journal { confirmed: Some(set("a")), ..Journal::default() };
        assert_eq!(journal.try_out("b".to_owned(), "boot-1", Span::secs(60), now(5_000)), Tick(65_000));
        journal
    }

    #[test]
    fn a_trial_outlives_the_daemon_but_neither_its_time_nor_its_boot() {
        let mut journal = tried();
        assert_eq!(journal.open("boot-1", Tick(64_999)), Opening::OnTrial(Tick(65_000)));
        assert_eq!(journal.standing().unwrap().text, "b");
        let Opening::Lapsed(left) = journal.clone().open("boot-1", Tick(65_000)) else { panic!("its time is over") };
        assert_eq!(left.text, "b");
        assert!(matches!(journal.open("boot-2", Tick(1)), Opening::Lapsed(_)));
        assert_eq!(journal.standing().unwrap().text, "a");
        assert_eq!(journal.open("boot-2", Tick(1)), Opening::Settled);
    }

    #[test]
    fn one_goes_back_set_by_set_to_nothing() {
        let mut journal = tried();
        assert_eq!(journal.confirm_trial().unwrap().text, "b");
        assert_eq!(journal.confirm_trial(), None);
        journal.confirm(set("c"));
        journal.confirm(set("c"));
        let standing = |journal: &Journal| journal.standing().map(|set| set.text.clone());
        let mut left = vec![standing(&journal)];
        while journal.go_back() {
            left.push(standing(&journal));
        }
        assert_eq!(left, [Some("c"), Some("b"), Some("a"), None].map(|text| text.map(str::to_owned)));
        // From a release too.
        journal.confirm(set("d"));
        journal.release();
        assert!(journal.standing().is_none() && journal.go_back());
        assert_eq!(journal.standing().unwrap().text, "d");
    }

    #[test]
    fn only_so_many_are_kept() {
        let mut journal = Journal::default();
        (0..30).for_each(|n| journal.confirm(set(&n.to_string())));
        assert_eq!(journal.history.len(), HISTORY);
        journal.release();
        assert_eq!((journal.history.len(), journal.standing()), (HISTORY, None));
        assert_eq!(journal.history.last().unwrap().text, "29");
    }
}
