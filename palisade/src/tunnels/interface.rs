//! A tunnel that is an interface: 6in4 and GRE are made and follow the way out, WireGuard is watched.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use palisade_core::control::route::TunnelStatus;
use palisade_core::net::Addr;
use palisade_core::route::World;
use palisade_core::route::budget::{Ask, Grant, Kind};
use palisade_core::route::handshakes::{Alive, Handshakes};
use palisade_core::route::tunnel::{LinkFacts, LinkStep, Order, State, Waits, link};
use palisade_core::route::tunnels::{LinkKind, LinkTunnel, Tunnel, TunnelKind, Wireguard};
use palisade_core::route::world::Address;
use palisade_core::time::{Now, Span, Tick};
use palisade_os::process::client::Run;
use palisade_os::tunnels as system;
use palisade_os::{errors, files};

use super::purse::Purse;
use super::{Reply, Told};

/// Between two looks where nothing was heard: the way to the far end may be another without a sign of it here.
const LOOK_EVERY: Span = Span::secs(2);

/// WireGuard repeats an unanswered handshake every five seconds: looked at more often, one packet would seem to be lost.
const LOOK_AT_PEERS: Span = Span::secs(5);

/// Making an interface whole takes this many steps; more is going round in circles.
const STEPS: usize = 6;

/// How long the program that tells the provider may take.
const UPDATE_WITHIN: Span = Span::secs(60);

/// signal(7): the same number everywhere.
const SIGKILL: i32 = 9;

/// One such tunnel.
#[derive(Debug)]
pub(super) struct Interface {
    spec: Tunnel,
    state: State,
    /// A human stopped it.
    stopped: bool,
    look_at: Tick,
    handshakes: Handshakes,
    /// The near end that the provider was last told, and where that is kept.
    told: Option<Addr>,
    path: PathBuf,
    /// The program that tells it, and what it tells.
    update: Option<(Run, Addr, Tick)>,
    /// When it may be tried to tell it again.
    update_at: Tick,
    failures: u32,
    last_line: Option<String>,
    /// The host's addresses at the last look.
    seen: Vec<Address>,
}

impl Interface {
    pub(super) fn new(spec: Tunnel, state: &Path) -> Self {
        let path = state.join("tunnel").join(format!("{}.told", spec.name));
        let told = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        Self {
            spec,
            state: State::Waiting { until: None, why: Waits::Underlay },
            stopped: false,
            look_at: Tick(0),
            handshakes: Handshakes::default(),
            told,
            path,
            update: None,
            update_at: Tick(0),
            failures: 0,
            last_line: None,
            seen: Vec::new(),
        }
    }

    pub(super) const fn spec(&self) -> &Tunnel {
        &self.spec
    }

    /// The budget that telling the provider is taken from.
    pub(super) fn budget(&self) -> Option<&Arc<str>> {
        match &self.spec.kind {
            TunnelKind::Link(link) => link.budget.as_ref(),
            TunnelKind::Exec(_) | TunnelKind::Wireguard(_) => None,
        }
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.update.iter().flat_map(|(run, ..)| run.fds())
    }

    pub(super) const fn next_deadline(&self) -> Tick {
        self.look_at
    }

    /// The config does not have it any more: what we made goes. Nothing is left of it.
    pub(super) fn retire(self, told: &mut Vec<Told>) -> Option<Self> {
        if let TunnelKind::Link(link) = &self.spec.kind
            && let Err(error) = system::remove(link)
        {
            told.push(Told::say(&self.spec.name, format!("tunnel {}: {}", self.spec.name, errors::chain(&error))));
        }
        None
    }

    pub(super) fn status(&self) -> TunnelStatus {
        let kind = match &self.spec.kind {
            TunnelKind::Exec(_) => "exec",
            TunnelKind::Link(LinkTunnel { kind: LinkKind::Sit, .. }) => "sit",
            TunnelKind::Link(LinkTunnel { kind: LinkKind::Gre, .. }) => "gre",
            TunnelKind::Wireguard(_) => "wireguard",
        };
        TunnelStatus {
            name: Arc::clone(&self.spec.name),
            kind: kind.to_owned(),
            state: self.state.clone(),
            pid: None,
            failures: self.failures,
            budget: self.budget().cloned(),
            last_line: self.last_line.clone(),
        }
    }

    /// A human's order.
    pub(super) fn order(&mut self, order: Order, now: Now) -> Reply {
        let name = Arc::clone(&self.spec.name);
        let TunnelKind::Link(link) = &self.spec.kind else {
            return Reply::Refused(format!(
                "tunnel {name} is only watched: whoever made its interface starts and stops it (wg-quick, networkd)"
            ));
        };
        self.stopped = matches!(order, Order::Stop);
        if matches!(order, Order::Stop | Order::Restart(_))
            && let Err(error) = system::remove(link)
        {
            return Reply::Refused(errors::chain(&error));
        }
        self.look_at = now.tick;
        if self.stopped {
            self.state = State::Down;
            return Reply::Done(format!("tunnel {name} is down"));
        }
        Reply::Done(format!("tunnel {name} is being made"))
    }

    /// Looks, and does what is due.
    pub(super) fn turn(&mut self, now: Now, world: &World, purse: Option<&mut Purse>, told: &mut Vec<Told>) {
        self.hear(now);
        if self.stopped {
            self.look_at = now.tick.plus(LOOK_EVERY);
            return;
        }
        let state = match self.spec.kind.clone() {
            TunnelKind::Link(link) if now.tick >= self.look_at || self.moved(world) => self.make(&link, now, world, purse),
            TunnelKind::Wireguard(wireguard) if now.tick >= self.look_at => self.watch(&wireguard, now),
            TunnelKind::Link(_) | TunnelKind::Wireguard(_) | TunnelKind::Exec(_) => return,
        };
        self.seen.clone_from(&world.addresses);
        self.look_at = now.tick.plus(if matches!(self.spec.kind, TunnelKind::Wireguard(_)) { LOOK_AT_PEERS } else { LOOK_EVERY });
        self.become_state(state, told);
    }

    /// Whether the near end may be another, or the interface gone.
    fn moved(&self, world: &World) -> bool {
        self.seen != world.addresses
    }

    /// Takes the new state, and tells of it if it is another kind of state than before.
    fn become_state(&mut self, state: State, told: &mut Vec<Told>) {
        let name = &self.spec.name;
        let news = match (&self.state, &state) {
            (State::Up { .. }, State::Up { .. }) => None,
            (_, State::Up { proof, .. }) => Some(format!("tunnel {name} is up: {proof}")),
            (State::Failed { why: old }, State::Failed { why }) if old == why => None,
            (_, State::Failed { why }) => Some(format!("tunnel {name}: {why}")),
            (State::Up { .. }, _) => Some(format!("tunnel {name} is not up any more")),
            _ => None,
        };
        told.extend(news.map(|news| Told::say(name, news)));
        // Since when it is up stays what it was.
        self.state = match (&self.state, state) {
            (State::Up { since, .. }, State::Up { proof, .. }) => State::Up { since: *since, proof },
            (State::Lost { since }, State::Lost { .. }) => State::Lost { since: *since },
            (_, state) => state,
        };
    }

    fn make(&mut self, spec: &LinkTunnel, now: Now, world: &World, mut purse: Option<&mut Purse>) -> State {
        for _ in 0..STEPS {
            let found = match system::state(spec) {
                Ok(found) => found,
                Err(error) => return State::Failed { why: errors::chain(&error) },
            };
            let addresses = |index: u32| world.addresses_of(index).map(|address| address.addr).collect();
            let facts = LinkFacts {
                local: found.as_ref().and_then(|found| found.local),
                works: found.as_ref().is_some_and(|found| found.up),
                // What was just given is not in what was read before.
                addresses: found.as_ref().map_or_else(Vec::new, |found| addresses(found.index)),
                leaves_with: system::local_for(spec.remote).ok().flatten(),
                told: self.told,
            };
            let step = link(spec, &facts);
            let done = match &step {
                LinkStep::Make(local) => system::make(spec, *local).map(drop),
                LinkStep::SetLocal(local) => system::set_local(spec, *local),
                // Making what is there already gives it what is missing.
                LinkStep::SwitchOn | LinkStep::Address(_) => facts.local.map_or(Ok(()), |local| system::make(spec, local).map(drop)),
                LinkStep::Update(local) => {
                    self.tell_provider(spec, *local, now, purse.as_deref_mut());
                    Ok(())
                }
                LinkStep::AwaitUnderlay | LinkStep::Stands => Ok(()),
            };
            if let Err(error) = done {
                return State::Failed { why: errors::chain(&error) };
            }
            match step {
                LinkStep::AwaitUnderlay => return State::Waiting { until: None, why: Waits::Underlay },
                LinkStep::Stands | LinkStep::Update(_) | LinkStep::Address(_) => {
                    let local = facts.local.map(|local| local.to_string()).unwrap_or_default();
                    return State::Up { since: now.tick, proof: format!("{} from {local} to {}", spec.interface, spec.remote) };
                }
                LinkStep::Make(_) | LinkStep::SetLocal(_) | LinkStep::SwitchOn => {}
            }
        }
        State::Failed { why: format!("the interface {} never becomes what it should be: somebody else changes it", spec.interface) }
    }

    /// Starts the program that tells the provider of our new near end, as its budget allows.
    fn tell_provider(&mut self, spec: &LinkTunnel, local: Addr, now: Now, purse: Option<&mut Purse>) {
        let Some(update) = &spec.update else { return };
        if self.update.is_some() || now.tick < self.update_at {
            return;
        }
        let (mut purse, mut ticket) = (purse, None);
        if let Some(purse) = purse.as_deref_mut() {
            let ask = Ask { who: Arc::clone(&self.spec.name), kind: Kind::Automatic, cost: 1 };
            match purse.ask(&ask, now) {
                Ok((Grant::Granted { .. }, spent)) => ticket = spent,
                Ok((Grant::Wait { until, .. }, _)) => {
                    self.update_at = until.tick;
                    return;
                }
                Ok((Grant::Denied { why }, _)) => return self.update_failed(why, now),
                Err(error) => return self.update_failed(errors::chain(&error), now),
            }
        }
        let call: Vec<String> = update.iter().map(|word| word.replace("{local}", &local.to_string())).collect();
        match Run::spawn(&call) {
            Ok(run) => self.update = Some((run, local, now.tick.plus(UPDATE_WITHIN))),
            Err(error) => {
                // Nothing of it left this host.
                if let (Some(purse), Some(ticket)) = (purse, ticket) {
                    let _ = purse.give_back(ticket, now);
                }
                self.update_failed(error.to_string(), now);
            }
        }
    }

    fn update_failed(&mut self, why: String, now: Now) {
        self.failures = self.failures.saturating_add(1);
        self.last_line = Some(why);
        // As often as a client would be started again.
        let backoff = &self.spec.backoff;
        let factor = (f64::from(backoff.factor) / 100.0).powi(i32::try_from(self.failures.min(30)).unwrap_or(30) - 1);
        self.update_at = now.tick.plus(backoff.min.times(factor).min(backoff.max));
    }

    /// What the program that tells the provider said, and how it ended.
    fn hear(&mut self, now: Now) {
        let Some((run, local, until)) = &mut self.update else { return };
        if now.tick >= *until {
            let _ = run.signal(SIGKILL);
        }
        let mut last = None;
        let _ = run.lines(|line| last = Some(line.to_owned()));
        self.last_line = last.or(self.last_line.take());
        match run.ended() {
            Ok(None) => {}
            Ok(Some(status)) if status.success() => {
                let local = *local;
                (self.update, self.failures, self.told) = (None, 0, Some(local));
                if let Some(folder) = self.path.parent() {
                    let _ = fs::create_dir_all(folder);
                }
                // Lost, the provider is told the same once more.
                let _ = files::replace(&self.path, format!("{local}\n").as_bytes());
            }
            Ok(Some(status)) => {
                self.update = None;
                let said = self.last_line.take().map(|line| format!(": {line}")).unwrap_or_default();
                self.update_failed(format!("telling the provider failed ({status}){said}"), now);
            }
            Err(error) => {
                self.update = None;
                self.update_failed(error.to_string(), now);
            }
        }
    }

    fn watch(&mut self, spec: &Wireguard, now: Now) -> State {
        match system::wireguard(&spec.interface) {
            Ok(None) => State::Failed { why: format!("there is no WireGuard interface {}", spec.interface) },
            Ok(Some(peers)) => match self.handshakes.look(&peers, spec.handshake, now) {
                Alive::Alive => State::Up { since: now.tick, proof: "a peer agreed on keys lately".to_owned() },
                Alive::Idle => State::Up { since: now.tick, proof: "nothing is sent, so nobody needs keys".to_owned() },
                Alive::Stale => State::Lost { since: now.tick },
            },
            Err(error) => State::Failed { why: errors::chain(&error) },
        }
    }
}
