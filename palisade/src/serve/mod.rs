//! The daemon: start order, threads, the loop around the brain.
//!
//! ```text
//!   files ──┐                      ┌─> wall ──> killing      one writer of the firewall; ends connections
//!   journal ┼─> inbox ─> brain ────┼─> keeper                one writer of the store
//!   links ──┤    ^   (this loop)   ├─> control               answers and events
//!   feeds ──┤    │                 └─> feeds                 lists to look at
//!   control ┘    └── answers of wall, killing, keeper
//! ```
//!
//! Start: lock, config, log, store, kernel, own addresses, **wall up**, fewer rights, threads,
//! ready. The wall is up before the ears are open, and it stays up when the daemon ends.
//!
//! | channel | depth | when it is full |
//! |---|---|---|
//! | inbox of the brain | [`INBOX`] events | the readers wait: logs can; nothing is lost |
//! | wall | 4096 orders | later orders lose their steps, and the wall is built anew from the table |
//! | killing | one entry an order | bounded by the orders above |
//! | keeper | 65,536 records | evidence lines and events are dropped and counted; bans and positions merge |
//! | feeds | one config, one question a connection | bounded by both |
//! | control | 8192 events, one answer a question | the oldest events are dropped |

pub mod client;
mod control;
pub(crate) mod errors;
mod feeds;
pub(crate) mod former;
pub(crate) mod host;
pub(crate) mod keeper;
pub(crate) mod killing;
mod logging;
pub(crate) mod open;
pub(crate) mod proof;
mod rights;
pub(crate) mod sources;
pub(crate) mod wall;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_core::attack::JailName;
use palisade_core::bans::backend::Backend;
use palisade_core::brain::{Action, Brain, Event, Mode};
use palisade_core::event::{Record, What};
use palisade_core::time::{Now, Span, Tick};
use palisade_os::block::Read;
use palisade_os::block::detect::{self, Look};
use palisade_os::privileges;
use palisade_os::wake::{Mailbox, Signal, Signals, Waker, poll};
use palisade_os::{clock, process};

use crate::settings::Places;
use open::Opened;
use sources::Sources;

/// How many events may wait for the brain. One is a batch of lines, a question, an answer.
const INBOX: usize = 1024;

/// How many bans are read back at the start: a look at each takes a program's run in some firewalls.
const SAMPLE: usize = 8;

/// How long the readers may take to hand over what they have read, when they are to stop.
const STOP_WITHIN: Span = Span::secs(5);

/// The thread that is not waited for at the end: it may be in the middle of a list that comes slowly, and what it
/// keeps is never there by halves.
const FEEDS: &str = "feeds";

/// What the brain's loop receives.
pub(crate) enum Input {
    /// For the brain.
    Event(Event),
    /// From the system.
    Signal(Signal),
    /// A reading thread of this generation ended.
    SourceStopped(u64),
}

/// Runs the daemon until it is told to stop. With a jail, standard input is read for it too.
pub fn run(places: &Places, mode: Mode, stdin: Option<&str>) -> Result<()> {
    // Before any thread: a signal that arrives is then for the signal thread alone.
    let signals = Signals::take_over().context("taking over signals")?;
    let opened = open::all(places, mode)?;
    logging::start();
    let mut house = House::build(places, mode, opened, signals)?;
    if let Some(jail) = stdin {
        house.listen_to_stdin(&jail.into())?;
    }
    house.notify("READY=1");
    tracing::info!("{}", house.brain.summary());
    let result = house.live();
    house.close();
    result
}

struct House {
    places: Places,
    brain: Brain,
    inbox: Receiver<Input>,
    outlet: SyncSender<Input>,
    posts: Posts,
    sources: Sources,
    /// How many of their threads have ended.
    ended: usize,
    /// A new config waits for the readers to stop.
    restart: bool,
    mode: Mode,
    positions: HashMap<String, String>,
    config: palisade_core::config::Config,
    /// One for each worker that has no mailbox.
    stops: Vec<Waker>,
    /// The worker that resolves the allowed names, which change with the config.
    names_stop: Option<Waker>,
    workers: Vec<(&'static str, JoinHandle<()>)>,
    notify: Option<PathBuf>,
    watchdog: Option<Span>,
    fed: Tick,
    actions: Vec<Action>,
    _lock: privileges::Lock,
}

#[derive(Clone)]
struct Posts {
    wall: Mailbox<wall::Post>,
    killing: Mailbox<killing::Post>,
    keeper: Mailbox<keeper::Post>,
    feeds: Mailbox<feeds::Post>,
    control: Mailbox<control::Post>,
}

impl House {
    fn build(places: &Places, mode: Mode, opened: Opened, signals: Signals) -> Result<Self> {
        let (outlet, inbox) = sync_channel(INBOX);
        let posts = Posts {
            wall: Mailbox::new()?,
            killing: Mailbox::new()?,
            keeper: Mailbox::new()?,
            feeds: Mailbox::new()?,
            control: Mailbox::new()?,
        };
        let Opened { lock, config, mut store, mut blocker, backend, chosen, broken: _, flows, mut links, brain, positions } = opened;
        let mut house = Self {
            places: places.clone(),
            brain,
            inbox,
            outlet: outlet.clone(),
            posts: posts.clone(),
            sources: Sources::none(),
            ended: 0,
            restart: false,
            mode,
            positions,
            config,
            stops: Vec::new(),
            names_stop: None,
            workers: Vec::new(),
            notify: std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from),
            watchdog: watchdog(),
            fed: clock::now().tick,
            actions: Vec::new(),
            _lock: lock,
        };
        let first = host::first(&mut links);
        house.raise(first, blocker.as_mut(), &mut store)?;
        house.read_back(blocker.as_mut())?;
        house.prove(backend, &chosen)?;
        if mode == Mode::Enforce {
            let what = former::retire(&places.state, backend, &house.config);
            house.handle_early(Event::Trouble { about: "former wall".to_owned(), what });
        }
        let listener = control::listen(&places.socket()).with_context(|| format!("cannot listen on {}", places.socket().display()))?;
        // Everything that needs more rights than enforcing does is open now.
        rights::give_up(&places.state, backend);
        let keep = open::keep_of(&house.config);
        let (out, inbox) = (
            wall::Outlets {
                brain: outlet.clone(),
                killing: posts.killing.clone(),
                keeper: posts.keeper.clone(),
                control: posts.control.clone(),
            },
            posts.wall.clone(),
        );
        house.spawn("wall", move || wall::run(blocker, &inbox, &out))?;
        let (brain, inbox) = (outlet.clone(), posts.killing.clone());
        house.spawn("killing", move || killing::run(flows, &inbox, &brain))?;
        let control = posts.control.clone();
        let answer = Box::new(move |id, reply| control.put(|post| post.reply(id, reply)));
        let (out, inbox) = (keeper::Outlets { brain: outlet.clone(), answer }, posts.keeper.clone());
        house.spawn("keeper", move || keeper::run(store, keep, &inbox, &out))?;
        let (out, inbox) = (control::Outlets { brain: outlet.clone(), keeper: posts.keeper.clone() }, posts.control.clone());
        house.spawn("control", move || control::run(&listener, &inbox, &out))?;
        let (config, state, inbox, brain) = (house.config.clone(), places.state.clone(), posts.feeds.clone(), outlet.clone());
        house.spawn(FEEDS, move || feeds::run(&config, state, &inbox, &brain))?;
        let (brain, stop) = (outlet.clone(), house.stopper()?);
        house.spawn("links", move || host::run(links, &stop, &brain))?;
        let (brain, stop) = (outlet, house.stopper()?);
        house.spawn("signals", move || signals_thread(&signals, &stop, &brain))?;
        house.names()?;
        for action in std::mem::take(&mut house.actions) {
            house.act(action);
        }
        house.sources = Sources::start(1, &house.config, &house.positions, &house.outlet)?;
        Ok(house)
    }

    /// Puts the wall up and keeps what followed, before any thread runs.
    fn raise(&mut self, first: Vec<Event>, blocker: &mut dyn palisade_os::block::Blocker, store: &mut crate::store::Store) -> Result<()> {
        let mut actions = Vec::new();
        for event in first {
            self.brain.handle(event, clock::now(), &mut actions);
        }
        actions.retain(|action| !matches!(action, Action::Order { .. } | Action::Rebuild { .. }));
        self.brain.raise(&mut actions);
        self.actions = open::carry_out(actions, &mut self.brain, blocker, store)?;
        Ok(())
    }

    /// Takes an event before there are threads to act: what follows is done once there are.
    fn handle_early(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        self.brain.handle(event, clock::now(), &mut actions);
        self.actions = actions;
    }

    /// Some of the bans that were just put up are read back, from the firewall itself where it can be read.
    fn read_back(&mut self, blocker: &mut dyn palisade_os::block::Blocker) -> Result<()> {
        let sample = self.brain.sample(SAMPLE);
        let found = blocker.read(Read::Keys(&sample)).context("what was put up cannot be read back")?;
        let missing: Vec<_> = sample.iter().filter(|key| !found.bans.contains_key(key)).collect();
        if let Some(first) = missing.first()
            && self.mode == Mode::Enforce
            && self.brain.stands_whole()
        {
            anyhow::bail!(
                "{} took {} bans that cannot be read back, the first is {first:?}; nothing is known to be blocked",
                blocker.name(),
                missing.len()
            );
        }
        Ok(())
    }

    /// Proves that what now stands blocks. A firewall that lets the banned pass is an error here and now; what
    /// stands goes on standing.
    fn prove(&mut self, backend: Backend, chosen: &str) -> Result<()> {
        tracing::info!("firewall: {chosen}");
        if self.mode == Mode::Observe {
            return Ok(());
        }
        let proven = proof::ask(&self.places, backend);
        proven.notes.iter().for_each(|note| tracing::warn!("firewall: {note}"));
        tracing::info!("{} {}", proven.backend, proven.proof);
        proof::insist(&proven, || detect::look(self.config.backends(), Look::All).next_best(backend))?;
        self.brain.about_wall(chosen.to_owned(), proven.proof);
        Ok(())
    }

    /// Has the config's names resolved, and no longer those of the config before.
    fn names(&mut self) -> Result<()> {
        if let Some(stop) = self.names_stop.take() {
            stop.wake();
        }
        let names = self.config.allow().names.clone();
        if names.is_empty() {
            self.handle(Event::Names(Vec::new()), clock::now());
            return Ok(());
        }
        let (brain, stop) = (self.outlet.clone(), self.stopper()?);
        self.names_stop = Some(stop.clone());
        self.spawn("names", move || host::names(&names, &stop, &brain))
    }

    fn listen_to_stdin(&mut self, jail: &JailName) -> Result<()> {
        let (config, jail, brain, stop) = (self.config.clone(), jail.clone(), self.outlet.clone(), self.stopper()?);
        if config.jail(&jail).is_none() {
            anyhow::bail!("there is no jail `{jail}` to read standard input for; `palisade config show` lists them");
        }
        self.spawn("stdin", move || sources::stdin(&config, &jail, &stop, &brain).map_err(std::io::Error::other))
    }

    fn stopper(&mut self) -> Result<Waker> {
        let waker = Waker::new().context("making an eventfd")?;
        self.stops.push(waker.clone());
        Ok(waker)
    }

    fn spawn(&mut self, name: &'static str, body: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<()> {
        let (brain, about) = (self.outlet.clone(), name.to_owned());
        let body = move || {
            if let Err(error) = body() {
                let what = Some(format!("the {about} thread stopped: {error}; restart palisade"));
                let _ = brain.send(Input::Event(Event::Trouble { about, what }));
            }
        };
        let worker = thread::Builder::new().name(name.to_owned()).spawn(body).context("starting a thread")?;
        self.workers.push((name, worker));
        Ok(())
    }

    /// The loop: one input, what follows from it, the next deadline.
    fn live(&mut self) -> Result<()> {
        loop {
            let now = clock::now();
            let deadline = self.brain.next_deadline(now).min(self.watchdog.map_or(Tick(u64::MAX), |every| self.fed.plus(every)));
            let wait = Duration::from_millis(deadline.since(now.tick).as_millis());
            let event = match self.inbox.recv_timeout(wait) {
                Ok(Input::Event(event)) => event,
                Ok(Input::Signal(Signal::Hangup)) => {
                    self.reload();
                    continue;
                }
                Ok(Input::Signal(Signal::User1)) => Event::Idle,
                Ok(Input::Signal(Signal::Terminate | Signal::Interrupt)) => return Ok(()),
                Ok(Input::SourceStopped(generation)) => {
                    self.source_stopped(generation);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => Event::Idle,
                Err(RecvTimeoutError::Disconnected) => unreachable!("the house holds a sender itself"),
            };
            self.handle(event, clock::now());
            self.feed();
        }
    }

    fn handle(&mut self, event: Event, now: Now) {
        let mut actions = std::mem::take(&mut self.actions);
        self.brain.handle(event, now, &mut actions);
        for action in actions.drain(..) {
            self.act(action);
        }
        self.actions = actions;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Order { ticket, order } => self.posts.wall.put(|post| post.add(wall::Job::Order { ticket, order })),
            Action::Kill { ticket, targets } => self.posts.killing.put(|post| post.add(ticket, killing::targets(targets))),
            Action::Rebuild { ticket, frame, entries } => {
                self.posts.wall.put(|post| post.add(wall::Job::Rebuild { ticket, frame, entries }))
            }
            Action::Keep(mut records) => {
                for record in &records {
                    if let Record::Position { source, position } = record {
                        self.positions.insert(source.clone(), position.clone());
                    }
                }
                if self.mode == Mode::Observe {
                    // What was only looked at is to be read, and acted upon, by whoever enforces.
                    records.retain(|record| !matches!(record, Record::Position { .. }));
                }
                self.posts.keeper.put(|post| post.keep(records));
            }
            Action::Answer { id, reply } if reply.confirms() => self.posts.keeper.put(|post| post.ask(keeper::Ask::Confirm { id, reply })),
            Action::Answer { id, reply } => self.posts.control.put(|post| post.reply(id, reply)),
            Action::Look { id, why, keys } => self.posts.wall.put(|post| post.add(wall::Job::Look { id, why, keys })),
            Action::Fetch { id, names, accept } => self.posts.feeds.put(|post| post.ask(id, names, accept)),
            Action::TakeDown { id } => self.posts.wall.put(|post| post.add(wall::Job::TakeDown { id })),
            Action::Tell(notice) => {
                logging::tell(&notice);
                self.posts.control.put(|post| post.tell(notice));
            }
        }
    }

    /// Reads the config anew. A bad one changes nothing.
    fn reload(&mut self) {
        self.notify("RELOADING=1");
        match self.places.config() {
            Ok(config) => {
                let names = self.config.allow().names != config.allow().names;
                let moved = (config.ban().backend, config.backends()) != (self.config.ban().backend, self.config.backends());
                if moved {
                    let what = Some("the config now has another firewall, or other names in it: restart palisade for that; the bans stay where they are until then".to_owned());
                    self.handle(Event::Trouble { about: "backend".to_owned(), what }, clock::now());
                }
                self.config = config.clone();
                self.posts.feeds.put(|post| post.configure(config.clone()));
                self.handle(Event::Configured(Box::new(config)), clock::now());
                if names && let Err(error) = self.names() {
                    self.handle(
                        Event::Trouble { about: "names".to_owned(), what: Some(format!("{error:#}; restart palisade")) },
                        clock::now(),
                    );
                }
                self.restart = true;
                self.sources.stop();
                if self.ended >= self.sources.threads() {
                    self.start_sources();
                }
            }
            Err(error) => {
                let what = Some(format!("the new config is not used: {error:#}; the old one stays in force"));
                self.handle(Event::Trouble { about: "config".to_owned(), what }, clock::now());
            }
        }
        self.notify("READY=1");
    }

    fn source_stopped(&mut self, generation: u64) {
        self.ended += usize::from(generation == self.sources.generation());
        if self.restart && self.ended >= self.sources.threads() {
            self.start_sources();
        }
    }

    fn start_sources(&mut self) {
        self.restart = false;
        let generation = self.sources.generation() + 1;
        let what = match Sources::start(generation, &self.config, &self.positions, &self.outlet) {
            Ok(sources) => {
                self.ended = 0;
                self.sources = sources;
                None
            }
            Err(error) => Some(format!("nothing is read: {error:#}; mend the config and reload")),
        };
        // Only now is the new config wholly in force: its files are open, and what is written from here on is read.
        for about in ["config", "files", "journal"] {
            self.handle(Event::Trouble { about: about.to_owned(), what: None }, clock::now());
        }
        self.handle(Event::Trouble { about: "sources".to_owned(), what }, clock::now());
    }

    /// Feeds the watchdog. Only from here, so that it starves when the brain hangs.
    fn feed(&mut self) {
        let now = clock::now().tick;
        if self.watchdog.is_some_and(|every| now.since(self.fed) >= every) {
            self.fed = now;
            let status = format!("WATCHDOG=1\nSTATUS={}", self.brain.summary());
            self.notify(&status);
        }
    }

    fn notify(&self, state: &str) {
        if let Some(socket) = &self.notify
            && let Err(error) = process::sd_notify(Some(socket.as_os_str()), state)
        {
            tracing::debug!("sd_notify: {error}");
        }
    }

    /// Stops in the order in which nothing is lost: readers, then what they led to, then the store.
    /// The wall stays.
    fn close(mut self) {
        self.notify("STOPPING=1");
        self.sources.stop();
        let threads = self.sources.threads();
        self.drain(|house| house.ended >= threads);
        let now = clock::now();
        let what = if self.mode == Mode::Enforce { "stopped; the wall stands" } else { "stopped; nothing was done" };
        self.brain.note(What::Daemon { what: what.to_owned() }, now, &mut self.actions);
        for action in std::mem::take(&mut self.actions) {
            self.act(action);
        }
        // Each is asked once nobody can send it anything any more: what is banned last is still ended, kept and told.
        self.posts.wall.put(wall::Post::stop);
        self.drain(|house| house.done("wall"));
        self.posts.killing.put(killing::Post::stop);
        self.drain(|house| house.done("killing"));
        self.posts.keeper.put(keeper::Post::stop);
        self.drain(|house| house.done("keeper"));
        self.posts.feeds.put(feeds::Post::stop);
        self.posts.control.put(control::Post::stop);
        self.stops.iter().for_each(Waker::wake);
        self.drain(|house| house.workers.iter().all(|(name, worker)| *name == FEEDS || worker.is_finished()));
        let _ = std::fs::remove_file(self.places.socket());
    }

    fn done(&self, name: &str) -> bool {
        self.workers.iter().all(|(worker, handle)| *worker != name || handle.is_finished())
    }

    /// Handles what comes until it is so and nothing is waiting, or for [`STOP_WITHIN`].
    fn drain(&mut self, is_so: impl Fn(&Self) -> bool) {
        let until = clock::now().tick.plus(STOP_WITHIN);
        loop {
            let so = is_so(self);
            let wait = if so { Duration::ZERO } else { Duration::from_millis(10) };
            match self.inbox.recv_timeout(wait) {
                Ok(Input::Event(event)) => self.handle(event, clock::now()),
                Ok(Input::SourceStopped(generation)) => self.ended += usize::from(generation == self.sources.generation()),
                Ok(Input::Signal(_)) => {}
                Err(_) if so => return,
                Err(_) => {}
            }
            if clock::now().tick >= until {
                return;
            }
        }
    }
}

fn signals_thread(signals: &Signals, stop: &Waker, brain: &SyncSender<Input>) -> std::io::Result<()> {
    use std::os::fd::AsFd;
    loop {
        if poll(&[signals.as_fd()], Some(stop), None)?.woken() {
            return Ok(());
        }
        while let Some(signal) = signals.next()? {
            // The brain only goes away when the whole process stops.
            let _ = brain.send(Input::Signal(signal));
        }
    }
}

/// How often to feed the watchdog: a third of what systemd grants (sd_watchdog_enabled(3)).
fn watchdog() -> Option<Span> {
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(Span::millis((micros / 3000).max(1)))
}
