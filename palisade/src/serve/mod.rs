//! The daemon: start order, threads, the loop around the brain.
//!
//! ```text
//!   files ──┐                      ┌─> wall ──> killing      one writer of the firewall; ends connections
//!   journal ┼─> inbox ─> brain ────┼─> keeper                one writer of the store
//!   links ──┤    ^   (this loop)   ├─> control               answers and events
//!   feeds ──┤    │                 └─> feeds                 lists to look at
//!   control ┘    └── answers of wall, killing, keeper; what routing tells
//!
//!   census ──> inbox (gauges, censuses), <── what is to hold of limits and timeouts
//!   control ──> routing ──> control                         one writer of rules, routes and budgets; keeps tunnels up
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
//! | census | one wish, the culprits to purge | a later wish replaces the earlier |
//! | feeds, routing | one config, one question a connection | bounded by both |
//!
//! | file | what |
//! |---|---|
//! | `mod` | the loop around the brain |
//! | `starting`, `reloading`, `stopping` | the orders in which nothing is lost |
//! | `wall`, `killing`, `keeper`, `feeds`, `census`, `routing`, `control`, `host`, `sources`, `reports` | a thread each |
//! | `open`, `proof`, `former`, `rights` | what the start needs once |
//! | control | 8192 events, one answer a question | the oldest events are dropped |

#[cfg(target_os = "linux")]
pub(crate) mod census;
pub mod client;
mod control;
pub(crate) mod errors;
mod feeds;
pub(crate) mod former;
pub(crate) mod host;
pub(crate) mod keeper;
pub(crate) mod killing;
mod lags;
mod logging;
pub(crate) mod open;
pub(crate) mod proof;
mod reloading;
mod reports;
mod rights;
#[cfg(target_os = "linux")]
pub(crate) mod routing;
pub(crate) mod sources;
mod starting;
mod stopping;
pub(crate) mod wall;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_core::brain::{Action, Brain, Event, Mode};
use palisade_core::config::Config;
use palisade_core::event::Record;
use palisade_core::time::{Now, Span, Tick};
use palisade_os::wake::{Mailbox, Signal, Signals, Waker};
use palisade_os::{clock, privileges, process};

use crate::library::Library;
use crate::settings::Places;
use sources::Sources;

/// How many events may wait for the brain. One is a batch of lines, a question, an answer.
const INBOX: usize = 1024;

/// The thread that is not waited for at the end: it may be in the middle of a list that comes slowly, and what it
/// keeps is never there by halves.
const FEEDS: &str = "feeds";

/// What the brain's loop receives.
pub(crate) enum Input {
    /// For the brain.
    Event(Event),
    /// For the store, once what was decided before is on its way there.
    Ask(keeper::Ask),
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
    config: Config,
    library: Library,
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
    #[cfg(target_os = "linux")]
    census: Mailbox<census::Post>,
    #[cfg(target_os = "linux")]
    routing: Mailbox<routing::Post>,
    control: Mailbox<control::Post>,
}

impl House {
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
                Ok(Input::Ask(ask)) => {
                    self.posts.keeper.put(|post| post.ask(ask));
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
            #[cfg(target_os = "linux")]
            Action::Hold { wanted, alarmed, own } => self.posts.census.put(|post| post.hold(wanted, alarmed, own)),
            #[cfg(target_os = "linux")]
            Action::Purge { culprits, own, spare } => self.posts.census.put(|post| post.purge(culprits, own, spare)),
            #[cfg(target_os = "linux")]
            Action::Forget { addrs } => self.posts.census.put(|post| post.forget(addrs)),
            // Nobody counts there, so nothing follows from it.
            #[cfg(not(target_os = "linux"))]
            Action::Hold { .. } | Action::Purge { .. } | Action::Forget { .. } => {}
            Action::TakeDown { id } => self.posts.wall.put(|post| post.add(wall::Job::TakeDown { id })),
            Action::Tell(notice) => {
                logging::tell(&notice);
                self.posts.control.put(|post| post.tell(notice));
            }
        }
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
}
