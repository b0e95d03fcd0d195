//! What the flood guard wants of the kernel, made to hold: limits, timeouts, states that are ended.
//!
//! The one writer of limits and of profiles of timeouts.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use palisade_core::brain::{Event, Mode};
use palisade_core::event::What;
use palisade_core::flood::settings::Settings;
use palisade_core::flood::timeouts::{Profile, Timeouts};
use palisade_core::flood::wanted::{Culprit, Wanted};
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::{Span, Tick};
use palisade_os::flows::purge;
use palisade_os::limits::{Done, Standing};
use palisade_os::{clock, limits};

use super::super::errors::chain;
use super::Mouth;
use crate::timeouts::{Desk, Hold, Proc, Switches, timeouts};

/// How often it is looked whether the limits stand, and what failed is tried again: a few listings of a small table.
const LOOK: Span = Span::secs(1);

/// How many former sets of timeouts are known: calm, pressure, attack and back, twice.
const REMEMBERED: usize = 8;

/// What the problem list calls not being able to limit.
pub(super) const LIMITS: &str = "connection limits";
/// And not being able to change timeouts.
const TIMEOUTS: &str = "connection timeouts";

/// Whose idle flows are to end.
#[derive(Debug, Default)]
pub(super) struct Purge {
    pub(super) culprits: Vec<Culprit>,
    /// This host's own addresses.
    pub(super) own: Vec<Addr>,
    /// Administrators, whose flows stay.
    pub(super) spare: Vec<Addr>,
}

pub(super) struct Grip<'a> {
    settings: Settings,
    state: PathBuf,
    enforce: bool,
    brain: Mouth<'a>,
    timeouts: Hold,
    /// What the timeouts are where no profile holds.
    base: Timeouts,
    /// What they were, the latest last: flows that are older last as long as those said.
    held: VecDeque<Timeouts>,
    wanted: Wanted,
    look_at: Tick,
    /// The table of limits stands, or may.
    standing: bool,
    /// What is wanted stands as far as is known.
    done: bool,
    /// The kernel has no timeouts by policy: limits stand without.
    untimed: bool,
    /// Which profile of timeouts was set last.
    profile: Option<Profile>,
}

impl<'a> Grip<'a> {
    pub(super) fn new(settings: Settings, state: &Path, mode: Mode, brain: Mouth<'a>) -> Self {
        // Services' timeouts outlive a daemon, so they stay from the first moment on.
        let services = if settings.enabled { settings.services.clone() } else { Default::default() };
        Self {
            settings,
            state: state.to_owned(),
            enforce: mode == Mode::Enforce,
            brain,
            timeouts: Hold::open(state),
            base: Timeouts::new(),
            held: VecDeque::new(),
            wanted: Wanted { services: services.into_iter().collect(), ..Wanted::default() },
            look_at: clock::now().tick,
            standing: false,
            done: true,
            untimed: false,
            profile: None,
        }
    }

    /// Takes away what a daemon that was killed has left of its limits, puts back what it has left shortened, and sets
    /// what was applied before this boot, where the switches were not there yet when sysctl.d was read.
    pub(super) fn recover(&mut self) {
        if !self.enforce {
            return;
        }
        let mut desk = Desk::open(&self.state, self.settings.clone(), None);
        if let Ok(shown) = desk.show() {
            self.base = timeouts(&shown.base);
            self.held.extend([timeouts(&shown.former), self.base.clone()]);
        }
        self.limit();
        self.profile();
        match desk.booted() {
            Ok(Some(what)) => self.brain.tell(Event::Noted(What::Daemon { what })),
            Ok(None) => {}
            Err(error) => self.brain.trouble(TIMEOUTS, Some(format!("{error:#}"))),
        }
    }

    /// The config is another: a profile is set anew, as it may say other timeouts.
    pub(super) fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        self.profile = None;
    }

    /// When [`Grip::turn`] has something to do.
    pub(super) const fn next_deadline(&self) -> Tick {
        if self.standing || !self.done || self.profile.is_none() && self.enforce { self.look_at } else { Tick(u64::MAX) }
    }

    /// Whether somebody is limited.
    pub(super) fn limits_any(&self) -> bool {
        self.enforce && !self.wanted.limits.is_empty()
    }

    /// This is wanted from now on.
    pub(super) fn want(&mut self, wanted: Wanted) {
        let rules = (&wanted.limits, &wanted.services) != (&self.wanted.limits, &self.wanted.services);
        self.wanted = wanted;
        // Timeouts first: what is limited gets those that hold.
        self.profile();
        if rules {
            self.limit();
        }
    }

    /// What failed is tried again, and what others have changed is put back.
    pub(super) fn turn(&mut self) {
        let now = clock::now().tick;
        if !self.enforce || now < self.look_at {
            return;
        }
        self.look_at = now.plus(LOOK);
        self.profile();
        if !self.done {
            return self.limit();
        }
        let changed = || match limits::stands(&self.wanted, &self.base()) {
            Ok(Standing::WithoutTimeouts) => !self.untimed,
            stands => matches!(stands, Ok(Standing::Other)),
        };
        if self.standing && changed() {
            self.limit();
            if self.done {
                let (what, millis) = ("limits of floods were changed".to_owned(), clock::now().tick.since(now).as_millis());
                self.brain.tell(Event::Noted(What::Drift { what, repaired: 0, millis }));
            }
        }
    }

    fn limit(&mut self) {
        if !self.enforce {
            return;
        }
        let set = limits::set(&self.wanted, &self.base());
        self.done = set.is_ok();
        self.untimed = matches!(set, Ok(Done::WithoutTimeouts(_)));
        self.standing = !self.done || !self.wanted.limits.is_empty() || !self.wanted.services.is_empty();
        let wrong = match set {
            Ok(Done::All) => None,
            // A kernel that has no timeouts of single flows will have none in a second either.
            Ok(Done::WithoutTimeouts(what)) => Some(what),
            Err(error) => Some(format!("{error}; culprits are named and not limited, and it is tried again every {LOOK}")),
        };
        self.brain.trouble(LIMITS, wrong);
    }

    /// What policies hold where nothing is said: not what an attack has made of the switches. Empty while these are calm, and
    /// hold it themselves.
    fn base(&self) -> Timeouts {
        if self.profile == Some(Profile::Calm) { Timeouts::new() } else { self.base.clone() }
    }

    /// Sets the timeouts of the profile; where nobody wants any, those of calm.
    fn profile(&mut self) {
        let profile = self.wanted.profile.unwrap_or(Profile::Calm);
        if !self.enforce || self.profile == Some(profile) {
            return;
        }
        self.remember();
        match self.timeouts.set(profile, &self.settings) {
            Ok(told) => {
                self.profile = Some(profile);
                self.brain.trouble(TIMEOUTS, None);
                if let Some(what) = told {
                    self.brain.tell(Event::Noted(What::Daemon { what }));
                }
            }
            Err(error) => {
                // Some may have changed all the same.
                self.profile = None;
                self.brain.trouble(TIMEOUTS, Some(format!("{error:#}; it is tried again every {LOOK}")));
            }
        }
    }

    /// What the timeouts are before they are changed.
    fn remember(&mut self) {
        let Ok(now) = Proc.list() else { return };
        let now = timeouts(&now);
        if self.profile == Some(Profile::Calm) || self.profile.is_none() && self.held.is_empty() {
            self.base.clone_from(&now);
        }
        if self.held.back() != Some(&now) {
            self.held.push_back(now);
        }
        if self.held.len() > REMEMBERED {
            self.held.pop_front();
        }
    }

    /// Ends what of the culprits' flows is of no use, of all in one pass.
    pub(super) fn purge(&mut self, Purge { culprits, own, spare }: &Purge) {
        if culprits.is_empty() {
            return;
        }
        let names: Vec<String> = culprits.iter().map(ToString::to_string).collect();
        let whose = format!("{}, idle", names.join(", "));
        match purge::idle_since(culprits, own, spare, self.held.make_contiguous()) {
            Ok(0) => {}
            Ok(states) => self.brain.tell(Event::Noted(What::Purged { whose, states })),
            Err(error) => tracing::warn!("flows of {whose} are not ended: {error}"),
        }
    }

    /// Ends the states of addresses that this host has no longer.
    pub(super) fn forget(&self, addrs: &[Addr]) {
        if addrs.is_empty() {
            return;
        }
        let prefixes: Vec<Prefix> = addrs.iter().map(|addr| Prefix::host(*addr)).collect();
        match purge::purge(None, &prefixes) {
            Ok(0) => {}
            Ok(states) => {
                let names: Vec<String> = addrs.iter().map(ToString::to_string).collect();
                let whose = format!("{}, which this host has no longer", names.join(", "));
                self.brain.tell(Event::Noted(What::Purged { whose, states }));
            }
            Err(error) => tracing::warn!("states of lost addresses are not ended: {}", chain(&error)),
        }
    }

    /// Limits and shortened timeouts end with who would end them; timeouts of services stay.
    pub(super) fn leave(&mut self) {
        if !self.enforce {
            return;
        }
        let services = std::mem::take(&mut self.wanted.services);
        if let Err(error) = limits::set(&Wanted { services, ..Wanted::default() }, &self.base()) {
            tracing::warn!("limits of floods may still stand: {error}");
        }
        if let Err(error) = self.timeouts.set(Profile::Calm, &self.settings) {
            tracing::warn!("timeouts are still shortened: {error:#}");
        }
    }
}
