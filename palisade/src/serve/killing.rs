//! The killing thread: ends the connections of what was banned, once the ban stands.
//!
//! A thread of its own, because reading a large connection table takes longer than putting up the
//! next ban may wait.

use std::io;
use std::sync::mpsc::SyncSender;

use palisade_core::brain::Event;
use palisade_core::event::KillCount;
use palisade_core::net::Prefix;
use palisade_core::ports::Ports;
use palisade_os::flows::{Flows, Target};
use palisade_os::wake::{Mailbox, poll};

use super::Input;
use super::errors::chain;

/// Up to so many orders at once are done one by one, so that each is told its own count; more share
/// one pass over the connection table.
const ONE_BY_ONE: usize = 4;

/// The killing thread's mailbox. Bounded by the brain, which waits for each order's answer, and by
/// the bans there can be.
#[derive(Debug, Default)]
pub(super) struct Post {
    orders: Vec<(u64, Vec<Target>)>,
    stop: bool,
}

impl Post {
    /// Adds an order.
    pub(super) fn add(&mut self, ticket: u64, targets: Vec<Target>) {
        self.orders.push((ticket, targets));
    }

    /// Ends the thread once all orders are done.
    pub(super) const fn stop(&mut self) {
        self.stop = true;
    }
}

/// Runs until told to stop.
pub(super) fn run(mut flows: Box<dyn Flows>, inbox: &Mailbox<Post>, brain: &SyncSender<Input>) -> io::Result<()> {
    loop {
        let _ = poll(&[], Some(inbox.waker()), None)?;
        let post = inbox.take();
        let mut orders = post.orders;
        if orders.len() > ONE_BY_ONE {
            let all: Vec<Target> = orders.iter_mut().flat_map(|(_, targets)| std::mem::take(targets)).collect();
            orders[0].1 = all;
        }
        for (ticket, targets) in orders {
            let (killed, error) = if targets.is_empty() { (KillCount::default(), None) } else { kill(flows.as_mut(), &targets) };
            // The brain only goes away when the whole process stops.
            let _ = brain.send(Input::Event(Event::Ended { ticket, killed, error }));
        }
        if post.stop {
            return Ok(());
        }
    }
}

/// The orders' prefixes as the killing hands know them.
pub(crate) fn targets(kills: Vec<(Prefix, Ports)>) -> Vec<Target> {
    kills.into_iter().map(|(prefix, ports)| Target { prefix, ports }).collect()
}

/// Ends them, and says how many and what could not be done.
pub(crate) fn kill(flows: &mut dyn Flows, targets: &[Target]) -> (KillCount, Option<String>) {
    match flows.kill(targets) {
        Ok(killed) => (KillCount { sockets: killed.sockets, states: killed.states }, None),
        Err(error) => (KillCount { sockets: error.killed.sockets, states: error.killed.states }, Some(chain(&error))),
    }
}
