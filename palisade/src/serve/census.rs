//! The census thread: counts the connection table, and makes hold what the flood guard wants.
//!
//! Each second the table's gauge, which costs microseconds; a census when the pace says so; between them, while it is
//! wanted, one in some of the new flows as they are opened. The one writer of limits and of profiles of timeouts.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::SyncSender;

use palisade_core::brain::{Event, Mode};
use palisade_core::event::What;
use palisade_core::flood::census::{Fold, Opened, Sample};
use palisade_core::flood::gauge::Gauge;
use palisade_core::flood::pace::Pace;
use palisade_core::flood::settings::Settings;
use palisade_core::flood::timeouts::{Profile, Timeouts};
use palisade_core::flood::wanted::{Culprit, Wanted};
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::{Span, Tick};
use palisade_os::flows::census::{Listener, Table};
use palisade_os::flows::purge;
use palisade_os::limits::{Done, Standing};
use palisade_os::wake::{Mailbox, poll};
use palisade_os::{clock, limits, owners};

use super::Input;
use super::errors::chain;
use crate::timeouts::{Desk, Hold, Proc, Switches, timeouts};

/// How many sources have a row of their own: a LAN, a busy server's clients. About 100 bytes each.
const ROOM: usize = 65_536;

/// How many rows of each kind the guard is told: more culprits at once are no culprits but a crowd.
const ROWS: usize = 512;

/// How many local flows the processes are found by: a share of them is known to a few percent.
const SAMPLE: usize = 4096;

/// How often the gauge is read.
const EVERY: Span = Span::secs(1);

/// How often it is looked whether the limits stand: a few listings of a small table.
const LOOK: Span = Span::secs(5);

/// How long what cannot be opened is left alone.
const RETRY: Span = Span::secs(30);

/// One in so many new flows is listened to: at 100,000 a second some 1,500 are heard, enough to tell a tenth from a fifth.
const ONE_IN: u32 = 64;

/// How many former sets of timeouts are known: calm, pressure, attack and back, twice.
const REMEMBERED: usize = 8;

/// What the problem list calls not being able to count.
const TABLE: &str = "connection table";
/// And not being able to limit.
const LIMITS: &str = "connection limits";
/// And not being able to change timeouts.
const TIMEOUTS: &str = "connection timeouts";

/// The census thread's mailbox. One of each; purges are bounded by the guard, which asks for few.
#[derive(Debug, Default)]
pub(super) struct Post {
    hold: Option<(Box<Wanted>, bool, Vec<Addr>)>,
    purges: Vec<(Culprit, Vec<Addr>, Vec<Addr>)>,
    forget: Vec<Addr>,
    settings: Option<Box<Settings>>,
    stop: bool,
}

impl Post {
    /// This is to hold from now on.
    pub(super) fn hold(&mut self, wanted: Box<Wanted>, alarmed: bool, own: Vec<Addr>) {
        self.hold = Some((wanted, alarmed, own));
    }

    /// The culprit's idle flows are to end.
    pub(super) fn purge(&mut self, culprit: Culprit, own: Vec<Addr>, spare: Vec<Addr>) {
        self.purges.push((culprit, own, spare));
    }

    /// The states of these addresses are to end.
    pub(super) fn forget(&mut self, addrs: Vec<Addr>) {
        self.forget.extend(addrs);
    }

    /// The config is another.
    pub(super) fn configure(&mut self, settings: Settings) {
        self.settings = Some(Box::new(settings));
    }

    /// Ends the thread: limits and shortened timeouts end with who would end them.
    pub(super) const fn stop(&mut self) {
        self.stop = true;
    }
}

/// Runs until told to stop.
pub(super) fn run(settings: Settings, state: &Path, mode: Mode, inbox: &Mailbox<Post>, brain: &SyncSender<Input>) -> io::Result<()> {
    let mut counter = Counter::new(settings, state, mode, brain);
    counter.recover(state);
    loop {
        let wait = counter.next_deadline().since(clock::now().tick);
        let heard = {
            let fds: Vec<_> = counter.listener.iter().map(AsFd::as_fd).collect();
            let ready = poll(&fds, Some(inbox.waker()), Some(wait))?;
            !fds.is_empty() && ready.at(0)
        };
        if heard {
            counter.listen();
        }
        let post = inbox.take();
        if let Some(settings) = post.settings {
            counter.settings = *settings;
        }
        if let Some((wanted, alarmed, own)) = post.hold {
            (counter.alarmed, counter.own) = (alarmed, own.into_iter().collect());
            counter.hold(*wanted);
        }
        if !post.purges.is_empty() {
            counter.purge(post.purges);
        }
        if !post.forget.is_empty() {
            counter.forget(&post.forget);
        }
        if post.stop {
            counter.leave();
            return Ok(());
        }
        counter.turn();
    }
}

struct Counter<'a> {
    settings: Settings,
    enforce: bool,
    brain: &'a SyncSender<Input>,
    table: Option<Table>,
    listener: Option<Listener>,
    pace: Pace,
    opened: Opened,
    timeouts: Hold,
    /// What the timeouts were, the latest last: flows that are older last as long as those said.
    held: VecDeque<Timeouts>,
    wanted: Wanted,
    alarmed: bool,
    own: BTreeSet<Addr>,
    gauge_at: Tick,
    look_at: Tick,
    /// What could not be opened or set is tried again then.
    retry_at: Tick,
    /// Limits stand, or may.
    limited: bool,
    /// The kernel has no timeouts by policy: limits stand without.
    untimed: bool,
    /// What the switches hold beneath the profile that holds, or may, where that is not calm.
    calm: Option<Timeouts>,
    /// Which profile of timeouts was set last.
    profile: Option<Profile>,
}

impl<'a> Counter<'a> {
    fn new(settings: Settings, state: &Path, mode: Mode, brain: &'a SyncSender<Input>) -> Self {
        let now = clock::now().tick;
        Self {
            settings,
            enforce: mode == Mode::Enforce,
            brain,
            table: None,
            listener: None,
            pace: Pace::new(now),
            opened: Opened::new(ROOM),
            timeouts: Hold::open(state),
            held: VecDeque::new(),
            wanted: Wanted::default(),
            alarmed: false,
            own: BTreeSet::new(),
            gauge_at: now,
            look_at: now,
            retry_at: now,
            // A daemon before this one may have left some.
            limited: true,
            untimed: false,
            calm: None,
            profile: None,
        }
    }

    /// Puts back what a daemon that was killed has left shortened, and sets what was applied before this boot, where the
    /// switches were not there yet when sysctl.d was read.
    fn recover(&mut self, state: &Path) {
        if !self.enforce {
            return;
        }
        if let Ok(shown) = Desk::open(state, self.settings.clone(), None).show() {
            self.held.extend([timeouts(&shown.former), timeouts(&shown.base)]);
            self.calm = Some(timeouts(&shown.base));
        }
        let back = self.timeouts.set(Profile::Calm, &self.settings);
        if back.is_ok() {
            self.calm = None;
        }
        let set = Desk::open(state, self.settings.clone(), None).booted();
        for told in [back, set] {
            match told {
                Ok(Some(what)) => self.tell(Event::Noted(What::Daemon { what })),
                Ok(None) => {}
                Err(error) => self.trouble(TIMEOUTS, Some(format!("{error:#}"))),
            }
        }
    }

    fn next_deadline(&self) -> Tick {
        if !self.settings.enabled {
            return clock::now().tick.plus(RETRY);
        }
        if self.table.is_none() { self.retry_at } else { self.gauge_at.min(self.pace.due()) }
    }

    fn tell(&self, event: Event) {
        // The brain only goes away when the whole process stops.
        let _ = self.brain.send(Input::Event(event));
    }

    fn trouble(&self, about: &str, what: Option<String>) {
        self.tell(Event::Trouble { about: about.to_owned(), what });
    }

    /// What time by itself has to do.
    fn turn(&mut self) {
        if !self.settings.enabled {
            (self.table, self.listener) = (None, None);
            self.trouble(TABLE, None);
            return;
        }
        let now = clock::now().tick;
        if self.table.is_none() && now >= self.retry_at {
            self.retry_at = now.plus(RETRY);
            match Table::open() {
                Ok(table) => self.table = Some(table),
                Err(error) => return self.uncounted(&error),
            }
        }
        if self.table.is_some() && now >= self.gauge_at {
            self.gauge_at = now.plus(EVERY);
            self.gauge(now);
        }
        if self.table.is_some() && clock::now().tick >= self.pace.due() {
            self.census();
        }
        if now >= self.look_at {
            self.look_at = now.plus(LOOK);
            self.look();
        }
    }

    fn uncounted(&mut self, error: &io::Error) {
        self.table = None;
        self.trouble(TABLE, Some(format!("{error}; who fills it is not seen, and it is tried again every {RETRY}")));
    }

    fn gauge(&mut self, now: Tick) {
        let Some(table) = &mut self.table else { return };
        let gauge: Gauge = match table.gauge() {
            Ok(gauge) => gauge,
            Err(error) => return self.uncounted(&error),
        };
        self.pace.gauge(&gauge, now, self.alarmed);
        self.opened.settle(now);
        self.tell(Event::Gauged(gauge));
        if !self.wanted.limits.is_empty()
            && let Ok(dropped) = limits::dropped()
        {
            self.tell(Event::Limited(dropped));
        }
    }

    fn census(&mut self) {
        let Some(table) = &mut self.table else { return };
        let began = clock::now().tick;
        let mut fold = Fold::new(ROOM);
        let mut sample = Sample::new(SAMPLE, clock::now().stamp.0.cast_unsigned());
        let own = &self.own;
        let counted = table.each(|flow| {
            fold.add(flow);
            if own.contains(&flow.source) {
                sample.add(flow);
            }
        });
        // The pace goes by what it costs, whether it succeeded or not.
        self.pace.taken(clock::now().tick.since(began), clock::now().tick);
        if let Err(error) = counted {
            return self.uncounted(&error);
        }
        self.trouble(TABLE, None);
        let mut census = fold.finish(ROWS, self.listener.is_some().then_some(&self.opened));
        // Nobody can be a culprit with less.
        if sample.seen() >= u64::from(self.settings.per_source) {
            match owners::holders(sample.flows(), sample.seen()) {
                Ok(held) => census.processes = held,
                Err(error) => tracing::debug!("whose the local flows are: {error}"),
            }
        }
        self.tell(Event::Counted(Box::new(census)));
    }

    fn listen(&mut self) {
        let Some(listener) = &mut self.listener else { return };
        #[expect(clippy::cast_precision_loss, reason = "a power of two up to 65,536")]
        let weight = listener.one_in() as f32;
        let opened = &mut self.opened;
        match listener.drain(|flow| opened.add(flow, weight)) {
            // What was lost is in the table: a census tells.
            Ok(heard) if heard.lost => self.pace.lost(),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("new flows are not listened to any more: {error}");
                self.listener = None;
            }
        }
    }

    /// Makes hold what is wanted now.
    fn hold(&mut self, wanted: Wanted) {
        let rules = (&wanted.limits, &wanted.services) != (&self.wanted.limits, &self.wanted.services);
        self.wanted = wanted;
        if rules || self.limited && self.wanted.limits.is_empty() {
            self.limit();
        }
        if self.wanted.listen != self.listener.is_some() {
            self.opened = Opened::new(ROOM);
            self.opened.settle(clock::now().tick);
            self.listener = if self.wanted.listen { listener() } else { None };
        }
        self.profile();
    }

    fn limit(&mut self) {
        if !self.enforce {
            return;
        }
        let done = limits::set(&self.wanted, &self.base());
        self.limited = !self.wanted.limits.is_empty();
        self.untimed = matches!(done, Ok(Done::WithoutTimeouts(_)));
        let wrong = match done {
            Ok(Done::All) => None,
            Ok(Done::WithoutTimeouts(what)) => Some(what),
            Err(error) => Some(format!("{error}; culprits are named and not limited; it is tried again every {LOOK}")),
        };
        self.trouble(LIMITS, wrong);
    }

    /// What policies hold where nothing is said: not what an attack has made of the switches. Empty while they are calm, and
    /// hold it themselves.
    fn base(&self) -> Timeouts {
        self.calm.clone().unwrap_or_default()
    }

    /// Somebody else may have changed what is ours.
    fn look(&mut self) {
        self.profile();
        if !self.enforce || self.wanted.limits.is_empty() && self.wanted.services.is_empty() {
            return;
        }
        match limits::stands(&self.wanted, &self.base()) {
            Ok(Standing::All) => {}
            Ok(Standing::WithoutTimeouts) if self.untimed => {}
            Ok(_) => {
                let began = clock::now().tick;
                self.limit();
                let (what, millis) = ("limits of floods were changed".to_owned(), clock::now().tick.since(began).as_millis());
                self.tell(Event::Noted(What::Drift { what, repaired: 0, millis }));
            }
            Err(_) => self.limit(),
        }
    }

    fn profile(&mut self) {
        let Some(profile) = self.wanted.profile.filter(|_| self.enforce && self.wanted.profile != self.profile) else { return };
        self.profile = Some(profile);
        let before = self.remember();
        if profile != Profile::Calm && self.calm.is_none() {
            self.calm = before;
        }
        match self.timeouts.set(profile, &self.settings) {
            Ok(told) => {
                if profile == Profile::Calm {
                    self.calm = None;
                }
                self.trouble(TIMEOUTS, None);
                if let Some(what) = told {
                    self.tell(Event::Noted(What::Daemon { what }));
                }
            }
            Err(error) => {
                self.profile = None;
                self.trouble(TIMEOUTS, Some(format!("{error:#}; it is tried again every {LOOK}")));
            }
        }
    }

    /// What the timeouts are before they are changed.
    fn remember(&mut self) -> Option<Timeouts> {
        let now = timeouts(&Proc.list().ok()?);
        if self.held.back() != Some(&now) {
            self.held.push_back(now.clone());
        }
        if self.held.len() > REMEMBERED {
            self.held.pop_front();
        }
        Some(now)
    }

    /// Ends idle flows of all of them in one pass over the table.
    fn purge(&mut self, purges: Vec<(Culprit, Vec<Addr>, Vec<Addr>)>) {
        // Those asked for last know best which addresses are ours; whom one spares all spare.
        let own = purges.last().map(|(_, own, _)| own.clone()).unwrap_or_default();
        let spare: Vec<Addr> = purges.iter().flat_map(|(_, _, spare)| spare).copied().collect::<BTreeSet<_>>().into_iter().collect();
        let culprits: Vec<Culprit> = purges.into_iter().map(|(culprit, ..)| culprit).collect::<BTreeSet<_>>().into_iter().collect();
        let whose = match &culprits[..] {
            [one, two, .., _] => format!("{one}, {two} and {} more", culprits.len() - 2),
            few => few.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
        };
        match purge::idle_since(&culprits, &own, &spare, self.held.make_contiguous()) {
            Ok(0) => {}
            Ok(states) => self.tell(Event::Noted(What::Purged { whose: format!("{whose}, idle"), states })),
            Err(error) => tracing::warn!("idle flows of {whose} are not ended: {error}"),
        }
    }

    fn forget(&self, addrs: &[Addr]) {
        let prefixes: Vec<Prefix> = addrs.iter().map(|addr| Prefix::host(*addr)).collect();
        match purge::purge(None, &prefixes) {
            Ok(0) => {}
            Ok(states) => {
                let names: Vec<String> = addrs.iter().map(ToString::to_string).collect();
                let whose = format!("{}, which this host has no longer", names.join(", "));
                self.tell(Event::Noted(What::Purged { whose, states }));
            }
            Err(error) => tracing::warn!("states of lost addresses are not ended: {}", chain(&error)),
        }
    }

    fn leave(&mut self) {
        if !self.enforce {
            return;
        }
        if let Err(error) = limits::set(&Wanted::default(), &Timeouts::new()) {
            tracing::warn!("limits of floods still stand: {error}");
        }
        match self.timeouts.set(Profile::Calm, &self.settings) {
            Ok(_) => {}
            Err(error) => tracing::warn!("timeouts are still shortened: {error:#}"),
        }
    }
}

fn listener() -> Option<Listener> {
    match Listener::open(ONE_IN) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::info!("new flows cannot be listened to, and are told by their numbers alone: {error}");
            None
        }
    }
}
