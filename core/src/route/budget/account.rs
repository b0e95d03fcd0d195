//! What is kept of a budget: when was connected, refused, and until when nobody may. Its file's form, and how old things are.
//!
//! How old something is, decided so that it never seems older than it is:
//!
//! | when it was | its age |
//! |---|---|
//! | in this boot | by the boot clock, which never steps |
//! | in another, wall clock not behind what it once was | by the wall clock, but at least as long as this boot lasts |
//! | in another, wall clock behind (no battery), or written under such a one | as long as this boot lasts: so long it is at least |
//!
//! A wall clock that is set while we run takes all kept moments along, so that nothing ages by it. One that was behind
//! and is set past where it once was counts as right again for what lasts long (refusals, lockouts: they would never end
//! on a host without a battery), but connects stay as young as this boot: whoever set it may have been wrong.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::{Now, Span, Stamp, Tick};

/// The form of the file.
const VERSION: u32 = 1;

/// The largest file that is read: four thousand attempts take less.
pub const FILE_MAX: usize = 1 << 20;

/// More attempts than this are not kept, nor allowed within a window: no provider counts that far.
pub(super) const ATTEMPTS_MAX: usize = 4096;

/// The longest name of who connected.
const WHO_MAX: usize = 128;

/// A wall clock that went on by so much more or less than the boot clock was set: slewing is slower, and less does no harm.
const STEP: i64 = 1000;

/// Which boot a [`Tick`] is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootId(pub Arc<str>);

impl From<&str> for BootId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

/// A moment that can be told the age of in this boot and in later ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The wall clock then; none if that was known to be behind.
    pub wall: Option<Stamp>,
    /// The boot.
    pub boot: BootId,
    /// The boot clock then.
    pub tick: Tick,
}

/// One connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub(super) id: u64,
    pub(super) at: Moment,
    pub(super) cost: u32,
    pub(super) who: String,
    pub(super) manual: bool,
}

/// Nobody connects for so long after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pause {
    pub(super) since: Moment,
    pub(super) lasts: Span,
}

/// All that is kept of one budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    v: u32,
    /// The number of the next attempt.
    pub(super) next: u64,
    /// In the order they were made.
    pub(super) attempts: Vec<Attempt>,
    /// In the order they were seen.
    pub(super) breaches: Vec<Moment>,
    pub(super) hold: Option<Pause>,
    pub(super) lock: Option<Pause>,
    /// Refusals in a row.
    pub(super) refusals: u32,
    /// Connects since the last of them.
    pub(super) since_refusal: u32,
    /// The latest the wall clock ever was; moves along where it is set.
    high_water: Stamp,
    /// When the clocks were last looked at.
    seen: Moment,
}

/// Why a budget's file is of no use.
#[derive(Debug, thiserror::Error)]
#[error(
    "{why}. As long as it is not known what was connected nothing is: wait as long as the provider's lockout lasts or ask him, then `palisade budget {budget} --reset --i-know`"
)]
pub struct AccountError {
    budget: Arc<str>,
    why: String,
}

impl Account {
    /// An empty one.
    pub fn new(now: Now, boot: &BootId) -> Self {
        let seen = Moment { wall: Some(now.stamp), boot: boot.clone(), tick: now.tick };
        Self {
            v: VERSION,
            next: 1,
            attempts: Vec::new(),
            breaches: Vec::new(),
            hold: None,
            lock: None,
            refusals: 0,
            since_refusal: 0,
            high_water: now.stamp,
            seen,
        }
    }

    /// Reads its file.
    ///
    /// # Errors
    /// Where that is not what [`Self::write`] makes.
    pub fn read(budget: &Arc<str>, bytes: &[u8]) -> Result<Self, AccountError> {
        let bad = |why: String| AccountError { budget: Arc::clone(budget), why };
        if bytes.len() > FILE_MAX {
            return Err(bad(format!("it has more than {FILE_MAX} bytes")));
        }
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let wrong = |error: serde_json::Error| bad(format!("it is damaged ({error})"));
        let version: Version = serde_json::from_slice(bytes).map_err(wrong)?;
        if version.v != VERSION {
            return Err(bad(format!("it is of version {}, and this program knows version {VERSION}", version.v)));
        }
        let account: Self = serde_json::from_slice(bytes).map_err(wrong)?;
        if account.attempts.len() > ATTEMPTS_MAX || account.breaches.len() > ATTEMPTS_MAX {
            return Err(bad(format!("it holds more than {ATTEMPTS_MAX} connects or breaches")));
        }
        if account.attempts.iter().any(|attempt| attempt.who.len() > WHO_MAX || attempt.id >= account.next) {
            return Err(bad("it holds a connect that was not written by this program".to_owned()));
        }
        Ok(account)
    }

    /// The bytes of its file.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain structs of numbers and texts are always JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Whether the wall clock can be relied on: it is not before where it once was.
    fn trusted(&self, wall: Stamp) -> bool {
        wall >= self.high_water
    }

    /// How old something is, at the least.
    pub(super) fn age(&self, then: &Moment, now: Now, boot: &BootId) -> Span {
        if then.boot == *boot {
            return now.tick.since(then.tick);
        }
        let this_boot = Span::millis(now.tick.0);
        let by_wall = then.wall.filter(|_| self.trusted(now.stamp)).map_or(Span::ZERO, |wall| now.stamp.since(wall));
        by_wall.max(this_boot)
    }

    /// How much is left of a pause.
    pub(super) fn left(&self, pause: Option<&Pause>, now: Now, boot: &BootId) -> Span {
        let left = |pause: &Pause| Span::millis(pause.lasts.as_millis().saturating_sub(self.age(&pause.since, now, boot).as_millis()));
        pause.map_or(Span::ZERO, left)
    }

    /// This moment, to be kept.
    pub(super) fn moment(&self, now: Now, boot: &BootId) -> Moment {
        Moment { wall: self.trusted(now.stamp).then_some(now.stamp), boot: boot.clone(), tick: now.tick }
    }

    /// Looks at the clocks. Whether one was set, or the boot is new, so that what is kept changed.
    pub(super) fn observe(&mut self, now: Now, boot: &BootId) -> bool {
        let here = |then: &Moment| then.boot == *boot;
        let before = if here(&self.seen) { self.seen.wall } else { None };
        let Some(before) = before else {
            // The first look of this boot: what the wall clock says now is what there is.
            self.saw(now, boot);
            return true;
        };
        let passed = i64::try_from(now.tick.since(self.seen.tick).as_millis()).unwrap_or(i64::MAX);
        let step = now.stamp.0.saturating_sub(before.0).saturating_sub(passed);
        if step.saturating_abs() < STEP {
            return false;
        }
        let trusted = self.trusted(before.shifted(passed));
        if trusted {
            self.high_water = self.high_water.shifted(step);
        }
        let right = self.trusted(now.stamp);
        for then in self.moments() {
            if here(then) {
                // What was written under a clock that was behind is known to the wall once that is right.
                let since = now.tick.since(then.tick);
                then.wall = right.then(|| now.stamp.minus(since));
            } else if trusted {
                then.wall = then.wall.map(|wall| wall.shifted(step));
            }
        }
        if right && !trusted {
            let began = now.stamp.minus(Span::millis(now.tick.0));
            let others = self.attempts.iter_mut().filter(|attempt| attempt.at.boot != *boot);
            others.for_each(|attempt| attempt.at.wall = Some(began));
        }
        self.saw(now, boot);
        true
    }

    /// Remembers what the clocks say.
    fn saw(&mut self, now: Now, boot: &BootId) {
        self.high_water = self.high_water.max(now.stamp);
        self.seen = Moment { wall: Some(now.stamp), boot: boot.clone(), tick: now.tick };
    }

    fn moments(&mut self) -> impl Iterator<Item = &mut Moment> {
        let pauses = self.hold.iter_mut().chain(&mut self.lock).map(|pause| &mut pause.since);
        self.attempts.iter_mut().map(|attempt| &mut attempt.at).chain(&mut self.breaches).chain(pauses)
    }

    /// Forgets what cannot matter any more, and notes the time: done before it is written.
    pub(super) fn tidy(&mut self, attempts: Span, breaches: Span, now: Now, boot: &BootId) {
        let kept: Vec<_> = self.attempts.iter().filter(|attempt| self.age(&attempt.at, now, boot) < attempts).cloned().collect();
        let seen: Vec<_> = self.breaches.iter().filter(|breach| self.age(breach, now, boot) < breaches).cloned().collect();
        let over = |pause: &Option<Pause>| self.left(pause.as_ref(), now, boot) == Span::ZERO;
        let (hold, lock) = (over(&self.hold), over(&self.lock));
        (self.attempts, self.breaches) = (kept, seen);
        if hold {
            self.hold = None;
        }
        if lock {
            self.lock = None;
        }
        if self.trusted(now.stamp) {
            self.saw(now, boot);
        }
    }

    /// One more connect, its number.
    pub(super) fn add(&mut self, at: Moment, cost: u32, who: &str, manual: bool) -> u64 {
        let id = self.next;
        self.next = self.next.saturating_add(1);
        let who = who.chars().take(WHO_MAX / 4).collect();
        if self.attempts.len() >= ATTEMPTS_MAX {
            self.attempts.remove(0);
        }
        self.attempts.push(Attempt { id, at, cost, who, manual });
        self.since_refusal = self.since_refusal.saturating_add(1);
        id
    }
}
