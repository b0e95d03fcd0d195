//! The census thread: counts the connection table, and makes hold what the flood guard wants.
//!
//! Each second the table's gauge, which costs microseconds; a census when the pace says so; between them, while it is
//! wanted, one in some of the new flows as they are opened. What is to hold in the kernel is in [`grip`].

mod grip;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::SyncSender;

use palisade_core::brain::{Event, Mode};
use palisade_core::flood::census::{Fold, Opened, Sample};
use palisade_core::flood::gauge::Gauge;
use palisade_core::flood::pace::Pace;
use palisade_core::flood::settings::Settings;
use palisade_core::flood::wanted::{Culprit, Wanted};
use palisade_core::net::Addr;
use palisade_core::time::{Span, Tick};
use palisade_os::flows::census::{Listener, Table};
use palisade_os::wake::{Mailbox, poll};
use palisade_os::{clock, limits, owners, privileges};

use super::Input;
use grip::{Grip, LIMITS, Purge};

/// How many sources have a row of their own: a LAN, a busy server's clients. About 200 bytes each.
const ROOM: usize = 65_536;

/// How many rows of each kind the guard is told: more culprits at once are no culprits but a crowd.
const ROWS: usize = 512;

/// How many local flows the processes are found by: a share of them is known to a few percent.
const SAMPLE: usize = 4096;

/// How often the gauge is read.
const EVERY: Span = Span::secs(1);

/// How long what cannot be opened is left alone.
const RETRY: Span = Span::secs(30);

/// One in so many new flows is listened to: at 100,000 a second some 1,500 are heard, enough to tell a tenth from a fifth.
const ONE_IN: u32 = 64;

/// What the problem list calls not being able to count.
const TABLE: &str = "connection table";

/// The census thread's mailbox. One of each; culprits to purge are bounded by the guard, which names few at a time.
#[derive(Debug, Default)]
pub(super) struct Post {
    hold: Option<(Box<Wanted>, bool, Vec<Addr>)>,
    purge: Purge,
    forget: Vec<Addr>,
    settings: Option<Box<Settings>>,
    stop: bool,
}

impl Post {
    /// This is to hold from now on.
    pub(super) fn hold(&mut self, wanted: Box<Wanted>, alarmed: bool, own: Vec<Addr>) {
        self.hold = Some((wanted, alarmed, own));
    }

    /// The culprits' idle flows are to end. Where several wishes wait, it is for the latest to say who is spared.
    pub(super) fn purge(&mut self, culprits: Vec<Culprit>, own: Vec<Addr>, spare: Vec<Addr>) {
        self.purge.culprits.extend(culprits);
        (self.purge.own, self.purge.spare) = (own, spare);
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
    if !privileges::have_net_admin() {
        // Whoever is run without rights knows it: the firewall is nobody's then either.
        tracing::info!("the connection table is not watched: it takes CAP_NET_ADMIN");
        return idle(inbox);
    }
    let brain = Mouth(brain);
    let mut grip = Grip::new(settings.clone(), state, mode, brain);
    grip.recover();
    let mut counter = Counter::new(settings, brain);
    loop {
        let wait = counter.next_deadline().min(grip.next_deadline()).since(clock::now().tick);
        let heard = {
            let fds: Vec<_> = counter.listener.iter().map(AsFd::as_fd).collect();
            let ready = poll(&fds, Some(inbox.waker()), Some(wait))?;
            !fds.is_empty() && ready.at(0)
        };
        if heard {
            counter.listen();
        }
        let post = inbox.take();
        if post.stop {
            grip.leave();
            return Ok(());
        }
        if let Some(settings) = post.settings {
            grip.configure((*settings).clone());
            counter.settings = *settings;
        }
        if let Some((wanted, alarmed, own)) = post.hold {
            (counter.alarmed, counter.own) = (alarmed, own.into_iter().collect());
            counter.hear(wanted.listen);
            grip.want(*wanted);
        }
        grip.purge(&post.purge);
        grip.forget(&post.forget);
        counter.turn(grip.limits_any());
        grip.turn();
    }
}

/// Nothing can be done: waits for the end.
fn idle(inbox: &Mailbox<Post>) -> io::Result<()> {
    while !inbox.take().stop {
        let _ = poll(&[], Some(inbox.waker()), None)?;
    }
    Ok(())
}

/// What both halves tell the brain by.
#[derive(Clone, Copy)]
struct Mouth<'a>(&'a SyncSender<Input>);

impl Mouth<'_> {
    fn tell(self, event: Event) {
        // The brain only goes away when the whole process stops.
        let _ = self.0.send(Input::Event(event));
    }

    fn trouble(self, about: &str, what: Option<String>) {
        self.tell(Event::Trouble { about: about.to_owned(), what });
    }
}

struct Counter<'a> {
    settings: Settings,
    brain: Mouth<'a>,
    table: Option<Table>,
    listener: Option<Listener>,
    pace: Pace,
    opened: Opened,
    alarmed: bool,
    own: BTreeSet<Addr>,
    gauge_at: Tick,
    /// What could not be opened is tried again then.
    retry_at: Tick,
}

impl<'a> Counter<'a> {
    fn new(settings: Settings, brain: Mouth<'a>) -> Self {
        let now = clock::now().tick;
        Self {
            settings,
            brain,
            table: None,
            listener: None,
            pace: Pace::new(now),
            opened: Opened::new(ROOM),
            alarmed: false,
            own: BTreeSet::new(),
            gauge_at: now,
            retry_at: now,
        }
    }

    fn next_deadline(&self) -> Tick {
        if !self.settings.enabled {
            return Tick(u64::MAX);
        }
        if self.table.is_none() { self.retry_at } else { self.gauge_at.min(self.pace.due()) }
    }

    /// What time by itself has to do. `limits`: whether somebody is limited, whose drops are to be counted.
    fn turn(&mut self, limits: bool) {
        if !self.settings.enabled {
            if self.table.take().is_some() {
                self.listener = None;
                self.brain.trouble(TABLE, None);
                self.brain.tell(Event::Uncounted);
            }
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
            self.gauge(now, limits);
        }
        if self.table.is_some() && clock::now().tick >= self.pace.due() {
            self.census();
        }
    }

    fn uncounted(&mut self, error: &io::Error) {
        self.table = None;
        self.brain.trouble(TABLE, Some(format!("{error}; who fills it is not seen, and it is tried again every {RETRY}")));
        self.brain.tell(Event::Uncounted);
    }

    fn gauge(&mut self, now: Tick, limits: bool) {
        let Some(table) = &mut self.table else { return };
        let gauge: Gauge = match table.gauge() {
            Ok(gauge) => gauge,
            Err(error) => return self.uncounted(&error),
        };
        self.pace.gauge(&gauge, now, self.alarmed);
        self.opened.settle(now);
        self.brain.tell(Event::Gauged(gauge));
        if limits {
            match limits::dropped() {
                Ok(dropped) => self.brain.tell(Event::Limited(dropped)),
                Err(error) => self.brain.trouble(LIMITS, Some(format!("what they drop cannot be read: {error}"))),
            }
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
        let mut census = fold.finish(ROWS, self.listener.is_some().then_some(&self.opened));
        // Nobody can be a culprit with less than half of it.
        if counted.is_ok() && sample.seen() >= u64::from(self.settings.per_source / 2) {
            match owners::holders(sample.flows(), sample.seen()) {
                Ok(held) => (census.processes, census.looked) = (held, true),
                Err(error) => tracing::debug!("whose the local flows are: {error}"),
            }
        } else {
            census.looked = true;
        }
        // The pace goes by all that it costs, whether it succeeded or not.
        self.pace.taken(clock::now().tick.since(began), clock::now().tick);
        if let Err(error) = counted {
            return self.uncounted(&error);
        }
        self.brain.trouble(TABLE, None);
        self.brain.tell(Event::Counted(Box::new(census)));
    }

    /// Begins or ends to listen to who opens flows.
    fn hear(&mut self, wanted: bool) {
        if wanted == self.listener.is_some() {
            return;
        }
        self.opened = Opened::new(ROOM);
        self.opened.settle(clock::now().tick);
        self.listener = if wanted { listener() } else { None };
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
