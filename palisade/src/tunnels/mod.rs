//! Supervised tunnels: machines, budgets and programs, driven from somebody else's loop.
//!
//! | file | what it holds |
//! |---|---|
//! | `purse` | a budget on disk, shared with the verbs |
//! | `keeper` | one tunnel's programs |
//! | `interface` | a tunnel that is an interface: made and followed, or watched |
//!
//! Nothing here has a thread or waits: [`Supervisor::turn`] takes no longer than starting a program and writing a small
//! file. When a `Supervisor` is dropped its clients run on, and the next one finds them and leaves them alone.

mod interface;
mod keeper;
mod purse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use palisade_core::control::route::TunnelStatus;
use palisade_core::route::World;
use palisade_core::route::budget::{BootId, BudgetStatus, Grant, Kind};
#[cfg(test)]
use palisade_core::route::tunnel::Waits;
use palisade_core::route::tunnel::{Event, Order, State};
use palisade_core::route::tunnels::{Budget, Exec, Tunnel, TunnelKind};
use palisade_core::route::wanted::{Health, Healths};
use palisade_core::time::{Now, Span, Tick};
use palisade_os::process::client::{adopt_orphans, reap_orphans};

use interface::Interface;
use keeper::{Keeper, Turn};
pub use purse::{Purse, PurseError};

/// Between two looks for what clients left behind, and at the clocks.
const TIDY_EVERY: Span = Span::secs(30);

/// What people are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Of which tunnel.
    pub tunnel: Arc<str>,
    /// What.
    pub text: String,
}

impl Told {
    fn say(tunnel: &Arc<str>, text: String) -> Self {
        Self { tunnel: Arc::clone(tunnel), text }
    }
}

/// What is known of the host at one turn.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Links and addresses.
    pub world: &'a World,
    /// Of uplinks, by name.
    pub healths: &'a Healths,
    /// Which uplink's interface a tunnel makes, by the tunnel's name.
    pub carries: &'a BTreeMap<Arc<str>, Arc<str>>,
}

/// What a human's order came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done, or under way.
    Done(String),
    /// Not now, or not so.
    Refused(String),
    /// There is no such tunnel with a client.
    Unknown(String),
}

/// All tunnels, and all budgets.
#[derive(Debug)]
pub struct Supervisor {
    keepers: BTreeMap<Arc<str>, Keeper>,
    interfaces: BTreeMap<Arc<str>, Interface>,
    purses: BTreeMap<Arc<str>, Purse>,
    state: PathBuf,
    boot: BootId,
    began: bool,
    tidied: Tick,
    /// For jitter: nothing depends on its being hard to guess.
    chance: u64,
    first: Vec<Told>,
}

impl Supervisor {
    /// Of these tunnels and budgets, with what the state folder holds of them. Nothing is started before the first turn.
    pub fn new(tunnels: &[Tunnel], budgets: &[Budget], state: &Path, boot: &str, now: Now) -> Self {
        let (keepers, purses) = (BTreeMap::new(), BTreeMap::new());
        let chance = now.stamp.0.unsigned_abs() ^ (u64::from(std::process::id()) << 32) | 1;
        let (state, boot) = (state.to_owned(), BootId::from(boot));
        let interfaces = BTreeMap::new();
        let mut supervisor = Self { keepers, interfaces, purses, state, boot, began: false, tidied: now.tick, chance, first: Vec::new() };
        supervisor.reload(tunnels, budgets, now);
        supervisor
    }

    /// Takes a new config. A tunnel whose words are the same goes on untouched; one that is gone or switched off is stopped;
    /// one whose client is started in another way is stopped and started, as its budget allows.
    pub fn reload(&mut self, tunnels: &[Tunnel], budgets: &[Budget], now: Now) {
        self.purses.retain(|name, _| budgets.iter().any(|budget| budget.name == *name));
        for budget in budgets {
            let new = || Purse::new(budget.clone(), &self.state, now, &self.boot);
            self.purses.entry(Arc::clone(&budget.name)).or_insert_with(new).set(budget.clone());
        }
        self.reload_interfaces(tunnels);
        let kept = |tunnel: &&Tunnel| tunnel.enabled;
        let wanted: BTreeMap<&Arc<str>, (&Tunnel, &Exec)> =
            tunnels.iter().filter(kept).filter_map(|tunnel| Some((&tunnel.name, (tunnel, exec(tunnel)?)))).collect();
        let names: Vec<Arc<str>> = self.keepers.keys().cloned().collect();
        for name in names {
            match wanted.get(&name) {
                Some((tunnel, exec)) => self.change(&name, tunnel, exec, now),
                None => {
                    if let Some(keeper) = self.keepers.get_mut(&name) {
                        keeper.leaving = true;
                    }
                    self.with(&name, now, |keeper, turn| keeper.tell(Event::Order(Order::Stop), turn));
                }
            }
        }
        for (name, (tunnel, exec)) in wanted {
            if !self.keepers.contains_key(name) {
                self.keepers.insert(Arc::clone(name), Keeper::new(tunnel.clone(), exec.clone(), &self.state));
                if self.began {
                    self.with(name, now, |keeper, turn| {
                        keeper.look(turn);
                        keeper.begin(turn);
                    });
                }
            }
        }
    }

    /// The same of those that are interfaces: one that changed is made anew, one that is gone is removed.
    fn reload_interfaces(&mut self, tunnels: &[Tunnel]) {
        let wanted = tunnels.iter().filter(|tunnel| tunnel.enabled && exec(tunnel).is_none());
        let mut former = std::mem::take(&mut self.interfaces);
        for tunnel in wanted {
            let same =
                former.remove(&tunnel.name).and_then(|old| if *old.spec() == *tunnel { Some(old) } else { old.retire(&mut self.first) });
            let interface = same.unwrap_or_else(|| Interface::new(tunnel.clone(), &self.state));
            self.interfaces.insert(Arc::clone(&tunnel.name), interface);
        }
        for old in former.into_values() {
            let _: Option<Interface> = old.retire(&mut self.first);
        }
    }

    fn change(&mut self, name: &Arc<str>, tunnel: &Tunnel, exec: &Exec, now: Now) {
        self.with(name, now, |keeper, turn| {
            if std::mem::take(&mut keeper.leaving) {
                keeper.tell(Event::Order(Order::Start(Kind::Automatic)), turn);
            }
            if keeper.spec == *tunnel {
                return;
            }
            let another = (&keeper.exec.start, &keeper.exec.pidfile) != (&exec.start, &exec.pidfile);
            let runs = matches!(keeper.machine.state(), State::Starting { .. } | State::Up { .. } | State::Lost { .. });
            if another && runs {
                // Stopped by its old words.
                keeper.tell(Event::Order(Order::Restart(Kind::Automatic)), turn);
            }
            (keeper.spec, keeper.exec) = (tunnel.clone(), exec.clone());
            keeper.machine.set(exec.clone(), tunnel.ready.clone(), tunnel.backoff);
        });
    }

    /// Does something with one tunnel and its budget; what is told waits for the next turn.
    fn with<T>(&mut self, name: &Arc<str>, now: Now, work: impl FnOnce(&mut Keeper, &mut Turn<'_>) -> T) -> Option<T> {
        // An xorshift (Marsaglia 2003): numbers that differ are enough.
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let chance = u32::try_from(self.chance >> 32).unwrap_or(0);
        let keeper = self.keepers.get_mut(name)?;
        let purse = keeper.exec.budget.as_ref().and_then(|budget| self.purses.get_mut(budget));
        let mut turn = Turn { now, purse, told: &mut self.first, chance, grant: None };
        Some(work(keeper, &mut turn))
    }

    /// What to wait for until the next turn.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.keepers.values().flat_map(Keeper::fds).chain(self.interfaces.values().flat_map(Interface::fds)).collect()
    }

    /// When the next turn is due even if none of them is ready.
    pub fn next_deadline(&self) -> Option<Tick> {
        let own = (!self.keepers.is_empty()).then(|| self.tidied.plus(TIDY_EVERY));
        let interfaces = self.interfaces.values().map(Interface::next_deadline);
        self.keepers.values().filter_map(Keeper::next_deadline).chain(own).chain(interfaces).min()
    }

    /// Looks at everything, and does what is due. Call it when a descriptor is ready, a deadline is there, or the facts changed.
    pub fn turn(&mut self, now: Now, facts: &Facts<'_>) -> Vec<Told> {
        let names: Vec<Arc<str>> = self.keepers.keys().cloned().collect();
        if !self.began {
            self.began = true;
            self.look_at_clocks(now, true);
            if let Some(Err(error)) = names.first().map(|_| adopt_orphans()) {
                self.first.extend(names.first().map(|name| Told::say(name, format!("clients in the background are not reaped: {error}"))));
            }
            for name in &names {
                self.with(name, now, Keeper::look);
                self.facts_of(name, now, facts);
                self.with(name, now, Keeper::begin);
            }
        }
        for name in &names {
            self.facts_of(name, now, facts);
            self.with(name, now, |keeper, turn| keeper.turn(facts.world, turn));
        }
        self.keepers.retain(|_, keeper| !keeper.is_gone());
        for interface in self.interfaces.values_mut() {
            let purse = interface.budget().and_then(|budget| self.purses.get_mut(budget));
            interface.turn(now, facts.world, purse, &mut self.first);
        }
        if now.tick.since(self.tidied) >= TIDY_EVERY {
            self.tidy(now);
        }
        std::mem::take(&mut self.first)
    }

    fn facts_of(&mut self, name: &Arc<str>, now: Now, facts: &Facts<'_>) {
        let down = |uplink: Option<&Arc<str>>| uplink.and_then(|uplink| facts.healths.get(uplink)) == Some(&Health::Down);
        let fail = down(facts.carries.get(name));
        self.with(name, now, |keeper, turn| {
            let works = !down(keeper.spec.underlay.as_ref());
            keeper.tell(Event::Underlay(works), turn);
            keeper.tell(Event::Probes { fail }, turn);
        });
    }

    fn tidy(&mut self, now: Now) {
        self.tidied = now.tick;
        let ours: Vec<u32> = self.keepers.values().flat_map(Keeper::children).collect();
        reap_orphans(&ours);
        self.look_at_clocks(now, false);
    }

    /// A clock that was set, or is behind as a boot begins, is noted before that matters.
    fn look_at_clocks(&mut self, now: Now, first: bool) {
        for (name, purse) in &mut self.purses {
            let looked = if first { purse.status(now).map(drop) } else { purse.observe(now) };
            if let Err(error) = looked {
                self.first.push(Told::say(name, error.to_string()));
            }
        }
    }

    /// A human's order.
    pub fn command(&mut self, name: &str, order: Order, now: Now) -> Reply {
        let name: Arc<str> = name.into();
        if let Some(interface) = self.interfaces.get_mut(&name) {
            return interface.order(order, now);
        }
        let done = self.with(&name, now, |keeper, turn| {
            keeper.tell(Event::Order(order), turn);
            (keeper.machine.state().clone(), turn.grant.take())
        });
        let Some((state, grant)) = done else {
            let known: Vec<&str> = self.keepers.keys().chain(self.interfaces.keys()).map(|name| &**name).collect();
            return Reply::Unknown(format!("there is no tunnel {name}; there are: {}", known.join(", ")));
        };
        match (grant, state) {
            (Some(Grant::Granted { left }), _) => Reply::Done(format!("tunnel {name} is started; {left} connects are left now")),
            (Some(Grant::Wait { until, why, .. }), State::Waiting { .. }) => {
                Reply::Refused(format!("not now: {}. Tunnel {name} is started at {}", why.text(), until.stamp))
            }
            (Some(Grant::Wait { until, why, .. }), _) => Reply::Refused(format!("not before {}: {}", until.stamp, why.text())),
            (Some(Grant::Denied { why }), _) => Reply::Refused(why),
            (None, State::Failed { why }) => Reply::Refused(format!("tunnel {name}: {why}")),
            (None, State::Waiting { .. }) => Reply::Refused(format!("tunnel {name} cannot be started now and is tried again; see the log")),
            (None, State::Stopping { .. }) => Reply::Done(format!("tunnel {name} is being stopped")),
            (None, State::Down) => Reply::Done(format!("tunnel {name} is down")),
            (None, _) => Reply::Done(format!("tunnel {name} runs")),
        }
    }

    /// How all tunnels are.
    pub fn status(&self) -> Vec<TunnelStatus> {
        let one = |(name, keeper): (&Arc<str>, &Keeper)| TunnelStatus {
            name: Arc::clone(name),
            kind: "exec".to_owned(),
            state: keeper.machine.state().clone(),
            pid: keeper.process.as_ref().map(|process| process.identity().pid),
            failures: keeper.machine.memory().failures,
            budget: keeper.exec.budget.clone(),
            last_line: keeper.last_line.clone(),
        };
        let mut all: Vec<TunnelStatus> = self.keepers.iter().map(one).chain(self.interfaces.values().map(Interface::status)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// How all budgets are, or why that is not known.
    pub fn budgets(&mut self, now: Now) -> Vec<Result<BudgetStatus, PurseError>> {
        self.purses.values_mut().map(|purse| purse.status(now)).collect()
    }

    /// Forgets what a budget counted.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn reset(&mut self, budget: &str, now: Now) -> Option<Result<(), PurseError>> {
        self.purses.get_mut(budget).map(|purse| purse.reset(now))
    }
}

fn exec(tunnel: &Tunnel) -> Option<&Exec> {
    match &tunnel.kind {
        TunnelKind::Exec(exec) => Some(exec),
        TunnelKind::Link(_) | TunnelKind::Wireguard(_) => None,
    }
}
