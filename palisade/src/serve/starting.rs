//! From an empty house to one that is ready: the wall up and proven, then the threads.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, Result};
use palisade_core::attack::JailName;
use palisade_core::bans::backend::Backend;
use palisade_core::brain::{Action, Event, Mode};
use palisade_core::route::tunnels::TunnelKind;
use palisade_core::time::Span;
use palisade_os::block::detect::{self, Look};
use palisade_os::block::{Blocker, Read};
use palisade_os::clock;
use palisade_os::wake::{Mailbox, Signals, Waker, poll};

use super::open::Opened;
use super::sources::Sources;
use super::{FEEDS, House, INBOX, Input, Posts, control, feeds, former, host, keeper, killing, open, proof, rights, sources, wall};
#[cfg(target_os = "linux")]
use super::{census, routing};
use crate::settings::Places;
use crate::store::Store;

/// How many bans are read back at the start: a look at each takes a program's run in some firewalls.
const SAMPLE: usize = 8;

impl House {
    pub(super) fn build(places: &Places, mode: Mode, opened: Opened, signals: Signals) -> Result<Self> {
        let (outlet, inbox) = sync_channel(INBOX);
        let posts = Posts {
            wall: Mailbox::new()?,
            killing: Mailbox::new()?,
            keeper: Mailbox::new()?,
            feeds: Mailbox::new()?,
            #[cfg(target_os = "linux")]
            census: Mailbox::new()?,
            #[cfg(target_os = "linux")]
            routing: Mailbox::new()?,
            control: Mailbox::new()?,
        };
        let Opened { lock, config, library, mut store, mut blocker, backend, chosen, broken: _, flows, mut links, brain, positions } =
            opened;
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
            library,
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
        let clients = house.config.tunnels().values().any(|tunnel| matches!(tunnel.kind, TunnelKind::Exec(_)));
        rights::give_up(&places.state, backend, clients);
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
        let (out, inbox) = (house.control_outlets(), posts.control.clone());
        house.spawn("control", move || control::run(&listener, &inbox, &out))?;
        let (config, state, inbox, brain) = (house.config.clone(), places.state.clone(), posts.feeds.clone(), outlet.clone());
        house.spawn(FEEDS, move || feeds::run(&config, state, &inbox, &brain))?;
        house.census()?;
        house.routing()?;
        let (brain, stop) = (outlet.clone(), house.stopper()?);
        house.spawn("links", move || host::run(links, &stop, &brain))?;
        let (brain, stop) = (outlet, house.stopper()?);
        house.spawn("signals", move || signals_thread(&signals, &stop, &brain))?;
        house.names()?;
        for action in std::mem::take(&mut house.actions) {
            house.act(action);
        }
        house.sources = Sources::start(1, (&house.config, &house.library), &house.positions, &house.outlet)?;
        house.tell_of_jails();
        Ok(house)
    }

    fn control_outlets(&self) -> control::Outlets {
        control::Outlets {
            brain: self.outlet.clone(),
            keeper: self.posts.keeper.clone(),
            control: self.posts.control.clone(),
            #[cfg(target_os = "linux")]
            routing: self.posts.routing.clone(),
        }
    }

    #[cfg(target_os = "linux")]
    fn census(&mut self) -> Result<()> {
        let (settings, state, mode) = (self.config.conntrack().clone(), self.places.state.clone(), self.mode);
        let (inbox, brain) = (self.posts.census.clone(), self.outlet.clone());
        self.spawn("census", move || census::run(settings, &state, mode, &inbox, &brain))
    }

    #[cfg(not(target_os = "linux"))]
    fn census(&mut self) -> Result<()> {
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn routing(&mut self) -> Result<()> {
        let out = routing::Outlets { brain: self.outlet.clone(), control: self.posts.control.clone() };
        let (config, state, mode, inbox) = (self.config.clone(), self.places.state.clone(), self.mode, self.posts.routing.clone());
        self.spawn("routing", move || routing::run(&config, &state, mode, &inbox, &out))
    }

    #[cfg(not(target_os = "linux"))]
    fn routing(&mut self) -> Result<()> {
        Ok(())
    }

    /// Puts the wall up and keeps what followed, before any thread runs.
    fn raise(&mut self, first: Vec<Event>, blocker: &mut dyn Blocker, store: &mut Store) -> Result<()> {
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
    fn read_back(&mut self, blocker: &mut dyn Blocker) -> Result<()> {
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
    pub(super) fn names(&mut self) -> Result<()> {
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

    pub(super) fn listen_to_stdin(&mut self, jail: &JailName) -> Result<()> {
        let (config, library, jail) = (self.config.clone(), self.library.clone(), jail.clone());
        let (brain, stop) = (self.outlet.clone(), self.stopper()?);
        if config.jail(&jail).is_none() {
            anyhow::bail!("there is no jail `{jail}` to read standard input for; `palisade config show` lists them");
        }
        self.spawn("stdin", move || sources::stdin(&config, &library, &jail, &stop, &brain).map_err(std::io::Error::other))
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
}

fn signals_thread(signals: &Signals, stop: &Waker, brain: &SyncSender<Input>) -> std::io::Result<()> {
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
