//! The routing thread: the steering and the tunnels, one writer of rules, routes and budgets.
//!
//! It waits for the kernel's notifications, answers to probes, tunnels' output and ends, questions from the control
//! socket, and the next deadline; each is dealt with before the next, as nothing here takes longer than a disk's write.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use palisade_core::brain::{Event as BrainEvent, Mode};
use palisade_core::config::Config;
use palisade_core::control::Reply;
use palisade_core::control::route::{RouteReply, RouteRequest, TunnelVerb};
use palisade_core::event::What;
use palisade_core::route::budget::Kind;
use palisade_core::route::tunnel::Order;
use palisade_core::route::tunnels::{Budget, Tunnel, TunnelKind};
use palisade_core::steering::{Answered, Event, Steering};
use palisade_core::time::Tick;
use palisade_os::routes::{Changes, Watch};
use palisade_os::wake::{Mailbox, poll};
use palisade_os::{clock, routes};

use super::Input;
use super::control::Post as ControlPost;
use super::errors::chain;
use crate::routing::{Desk, Hands, Out, disk};
use crate::tunnels::{Facts, Reply as SaidReply, Supervisor};

/// The routing thread's mailbox. One question a connection to the control socket, and one config.
#[derive(Debug, Default)]
pub(super) struct Post {
    asks: Vec<(u64, RouteRequest)>,
    config: Option<Box<Config>>,
    stop: bool,
}

impl Post {
    /// Asks; the answer goes to the control thread.
    pub(super) fn ask(&mut self, id: u64, request: RouteRequest) {
        self.asks.push((id, request));
    }

    /// Tunnels and budgets are these from now on. What is applied of routing stays what it is.
    pub(super) fn configure(&mut self, config: Config) {
        self.config = Some(Box::new(config));
    }

    /// Ends the thread. What is confirmed stays, what is on trial is taken back, and tunnels go on.
    pub(super) const fn stop(&mut self) {
        self.stop = true;
    }
}

/// Where things go.
pub(super) struct Outlets {
    pub(super) brain: SyncSender<Input>,
    pub(super) control: Mailbox<ControlPost>,
}

impl Outlets {
    fn brain(&self, event: BrainEvent) {
        // The brain only goes away when the whole process stops.
        let _ = self.brain.send(Input::Event(event));
    }

    fn answer(&self, id: u64, reply: Reply) {
        self.control.put(|post| post.reply(id, reply));
    }

    fn take(&self, out: Vec<Out>) {
        for one in out {
            match one {
                Out::Answer(id, Ok(reply)) => self.answer(id, Reply::Route(reply)),
                Out::Answer(id, Err((exit, message))) => self.answer(id, Reply::Failed { exit, message }),
                Out::Tell(what) => self.brain(BrainEvent::Noted(What::Route { what })),
                Out::Trouble(about, what) => self.brain(BrainEvent::Trouble { about, what }),
            }
        }
    }
}

/// Runs until told to stop.
pub(super) fn run(config: &Config, state: &Path, mode: Mode, inbox: &Mailbox<Post>, out: &Outlets) -> io::Result<()> {
    let hands = if mode == Mode::Observe { Hands::Tied } else { Hands::Free };
    let mut told = Vec::new();
    let opened = open(state, hands, &mut told);
    out.take(told);
    match opened {
        Ok((watch, desk)) => serve(watch, desk, Fleet::new(config, state, hands)?, inbox, out),
        Err(what) => {
            out.brain(BrainEvent::Trouble { about: "routing".to_owned(), what: Some(what.clone()) });
            refuse(&what, inbox, out)
        }
    }
}

fn open(state: &Path, hands: Hands, told: &mut Vec<Out>) -> Result<(Watch, Desk), String> {
    let journal = disk::read(state).map_err(|error| chain(&error))?;
    let boot = clock::boot_id().map_err(|error| format!("which boot this is cannot be told: {error}"))?;
    let router = routes::open().map_err(|error| chain(&error))?;
    let steering = Steering::new(journal, &boot, hands == Hands::Tied, clock::now());
    let mut desk = Desk::new(steering, router, state, hands);
    // First the ears: what changes while the kernel is read for the first time is heard after that.
    let watch = Watch::open(desk.own()).map_err(|error| format!("the kernel's rules and routes cannot be watched: {error}"))?;
    desk.handle(Event::Idle, told);
    Ok((watch, desk))
}

/// Nothing can be done: every question is answered with why.
fn refuse(why: &str, inbox: &Mailbox<Post>, out: &Outlets) -> io::Result<()> {
    loop {
        let _ = poll(&[], Some(inbox.waker()), None)?;
        let post = inbox.take();
        for (id, _) in post.asks {
            out.answer(id, Reply::Failed { exit: 6, message: why.to_owned() });
        }
        if post.stop {
            return Ok(());
        }
    }
}

fn serve(mut watch: Watch, mut desk: Desk, mut fleet: Fleet, inbox: &Mailbox<Post>, out: &Outlets) -> io::Result<()> {
    loop {
        let ready = {
            let fds: Vec<BorrowedFd<'_>> = [watch.as_fd()].into_iter().chain(desk.fds()).chain(fleet.fds()).collect();
            let wait = desk.next_deadline().min(fleet.next_deadline()).since(clock::now().tick);
            poll(&fds, Some(inbox.waker()), Some(wait))?
        };
        let mut told = Vec::new();
        if ready.at(0) {
            let changes = match watch.drain() {
                Ok(changes) => changes,
                Err(_) => {
                    watch = Watch::open(desk.own())?;
                    Changes { lost: true, ..Changes::default() }
                }
            };
            desk.changed(changes, &mut told);
        }
        desk.hear(&mut told);
        let post = inbox.take();
        if let Some(config) = &post.config {
            told.push(fleet.configure(config));
        }
        if post.stop {
            desk.handle(Event::Stop, &mut told);
        }
        for (id, request) in post.asks {
            match fleet.ask(&request) {
                Some(reply) => told.push(Out::Answer(id, reply)),
                None => desk.handle(Event::Asked { id, request }, &mut told),
            }
        }
        desk.handle(Event::Idle, &mut told);
        fleet.turn(&desk, &mut told);
        watch.set(desk.own());
        out.take(told);
        if post.stop {
            return Ok(());
        }
    }
}

/// The tunnels, and which uplink each makes.
struct Fleet {
    supervisor: Supervisor,
    carries: BTreeMap<Arc<str>, Arc<str>>,
    hands: Hands,
    /// It started with clients to start.
    clients: bool,
}

impl Fleet {
    fn new(config: &Config, state: &Path, hands: Hands) -> io::Result<Self> {
        let boot = clock::boot_id()?;
        let (tunnels, budgets) = declared(config);
        // Who only observes starts nothing.
        let tunnels = if hands == Hands::Tied { Vec::new() } else { tunnels };
        let supervisor = Supervisor::new(&tunnels, &budgets, state, &boot, clock::now());
        Ok(Self { supervisor, carries: carries(config), hands, clients: tunnels.iter().any(is_client) })
    }

    /// A client needs rights, which a daemon that started without any client has given up.
    fn configure(&mut self, config: &Config) -> Out {
        let (mut tunnels, budgets) = declared(config);
        let unfit = !self.clients && tunnels.iter().any(is_client);
        if self.hands == Hands::Free {
            tunnels.retain(|tunnel| self.clients || !is_client(tunnel));
            self.supervisor.reload(&tunnels, &budgets, clock::now());
            self.carries = carries(config);
        }
        let what =
            "the config now has tunnels with clients, for whose sake rights are kept at the start: restart palisade to have them started";
        Out::Trouble("tunnels".to_owned(), unfit.then(|| what.to_owned()))
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.supervisor.fds()
    }

    fn next_deadline(&self) -> Tick {
        self.supervisor.next_deadline().unwrap_or(Tick(u64::MAX))
    }

    fn turn(&mut self, desk: &Desk, told: &mut Vec<Out>) {
        let steering = desk.steering();
        let facts = Facts { world: steering.world(), healths: steering.healths(), carries: &self.carries };
        told.extend(self.supervisor.turn(clock::now(), &facts).into_iter().map(|told| Out::Tell(told.text)));
    }

    /// The answer to what is asked of tunnels and budgets; `None`: it is asked of routing.
    fn ask(&mut self, request: &RouteRequest) -> Option<Answered> {
        let now = clock::now();
        Some(match request {
            RouteRequest::Tunnels => Ok(RouteReply::Tunnels { tunnels: self.supervisor.status() }),
            RouteRequest::Tunnel { name, order, spend_last } => {
                let kind = if *spend_last { Kind::SpendLast } else { Kind::Manual };
                let order = match order {
                    TunnelVerb::Start => Order::Start(kind),
                    TunnelVerb::Stop => Order::Stop,
                    TunnelVerb::Restart => Order::Restart(kind),
                };
                match self.supervisor.command(name, order, now) {
                    SaidReply::Done(text) => Ok(RouteReply::Said { text }),
                    SaidReply::Refused(why) => Err((5, why)),
                    SaidReply::Unknown(why) => Err((2, why)),
                }
            }
            RouteRequest::Budgets => Ok(budgets(&mut self.supervisor)),
            RouteRequest::BudgetReset { name } => match self.supervisor.reset(name, now) {
                Some(Ok(())) => Ok(RouteReply::Said { text: format!("budget {name} has forgotten all connects and breaches") }),
                Some(Err(error)) => Err((6, chain(&error))),
                None => Err((2, format!("there is no [budget.{name}]"))),
            },
            _ => return None,
        })
    }
}

fn is_client(tunnel: &Tunnel) -> bool {
    matches!(tunnel.kind, TunnelKind::Exec(_))
}

fn declared(config: &Config) -> (Vec<Tunnel>, Vec<Budget>) {
    (config.tunnels().values().cloned().collect(), config.budgets().values().cloned().collect())
}

/// Which uplink's interface a tunnel makes, by the tunnel's name.
fn carries(config: &Config) -> BTreeMap<Arc<str>, Arc<str>> {
    let uplinks = config.routing().uplinks.iter();
    uplinks.filter_map(|uplink| Some((Arc::clone(uplink.tunnel.as_ref()?), Arc::clone(&uplink.name)))).collect()
}

/// How the budgets are.
pub(crate) fn budgets(supervisor: &mut Supervisor) -> RouteReply {
    let (mut good, mut broken) = (Vec::new(), Vec::new());
    for one in supervisor.budgets(clock::now()) {
        match one {
            Ok(status) => good.push(status),
            Err(error) => broken.push(chain(&error)),
        }
    }
    RouteReply::Budgets { budgets: good, broken }
}
