//! The routing thread: the steering and the tunnels, one writer of rules, routes and budgets.
//!
//! It waits for the kernel's notifications, answers to probes, tunnels' output and ends, questions from the control
//! socket, and the next deadline; each is dealt with before the next, as nothing here takes longer than a disk's write.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::mpsc::SyncSender;

use palisade_core::brain::{Event as BrainEvent, Mode};
use palisade_core::config::Config;
use palisade_core::control::Reply;
use palisade_core::control::route::RouteRequest;
use palisade_core::event::What;
use palisade_core::steering::{Event, Steering};
use palisade_os::routes::{Changes, Watch};
use palisade_os::wake::{Mailbox, poll};
use palisade_os::{clock, routes};

use super::Input;
use super::control::Post as ControlPost;
use super::errors::chain;
use crate::routing::{Desk, Hands, Out, disk};

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

    /// Ends the thread. What stands stays, and tunnels go on.
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
    let _ = config;
    let hands = if mode == Mode::Observe { Hands::Tied } else { Hands::Free };
    let mut told = Vec::new();
    let opened = open(state, hands, &mut told);
    out.take(told);
    match opened {
        Ok((watch, desk)) => serve(watch, desk, inbox, out),
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

fn serve(mut watch: Watch, mut desk: Desk, inbox: &Mailbox<Post>, out: &Outlets) -> io::Result<()> {
    loop {
        let ready = {
            let fds: Vec<BorrowedFd<'_>> = [watch.as_fd()].into_iter().chain(desk.fds()).collect();
            let wait = desk.next_deadline().since(clock::now().tick);
            poll(&fds, Some(inbox.waker()), Some(wait))?
        };
        let mut told = Vec::new();
        if ready.at(0) {
            let changes = watch.drain().unwrap_or_else(|_| Changes { lost: true, ..Changes::default() });
            desk.changed(changes, &mut told);
        }
        desk.hear(&mut told);
        let post = inbox.take();
        for (id, request) in post.asks {
            desk.handle(Event::Asked { id, request }, &mut told);
        }
        desk.handle(Event::Idle, &mut told);
        watch.set(desk.own());
        out.take(told);
        if post.stop {
            return Ok(());
        }
    }
}
