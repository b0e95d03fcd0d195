//! The links thread: the host's own addresses, gateways, resolvers, admin sessions and allowed names.

use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::AsFd;
use std::sync::mpsc::SyncSender;

use palisade_core::brain::Event;
use palisade_core::net::Addr;
use palisade_core::time::{Span, Tick};
use palisade_os::clock;
use palisade_os::links::{Links, Neighbourhood};
use palisade_os::wake::{Waker, poll};

use super::Input;
use super::errors::chain;

/// What the problem list calls not knowing the host's addresses.
const OWN: &str = "own addresses";

/// How often it is asked whether somebody has logged in or out.
const LOGINS: Span = Span::secs(1);

/// How often sessions are looked for at least: an administrator who has just logged in is safe from the next
/// look on, and from `palisade ban` at once.
const SESSIONS: Span = Span::secs(5);

/// How often allowed names are resolved again.
const NAMES: Span = Span::secs(300);

/// Tells the brain once, before anything is read: nobody may be banned who must not be.
pub(crate) fn first(links: &mut Links) -> Vec<Event> {
    let mut events = Vec::new();
    match links.snapshot() {
        Ok(found) => events.push(host(found)),
        Err(error) => events.push(trouble(&error)),
    }
    if let Ok(peers) = links.admin_sessions() {
        events.push(Event::Sessions(peers));
    }
    events
}

fn host(found: Neighbourhood) -> Event {
    Event::Host { own: found.own, gateways: found.gateways, resolvers: found.resolvers }
}

fn trouble(error: &dyn std::error::Error) -> Event {
    Event::Trouble { about: OWN.to_owned(), what: Some(format!("{}; the allow list may miss some of them", chain(error))) }
}

/// Runs until told to stop.
pub(super) fn run(mut links: Links, stop: &Waker, brain: &SyncSender<Input>) -> io::Result<()> {
    let (mut last, mut logins, mut look_at) = (None, None, Tick(0));
    loop {
        if poll(&[links.as_fd()], Some(stop), Some(LOGINS))?.woken() {
            return Ok(());
        }
        let mut events = Vec::new();
        match links.drain().and_then(|changed| if changed { links.snapshot().map(Some) } else { Ok(None) }) {
            Ok(Some(found)) => events.extend([host(found), Event::Trouble { about: OWN.to_owned(), what: None }]),
            Ok(None) => {}
            Err(error) => events.push(trouble(&error)),
        }
        let (now, marks) = (clock::now().tick, links.logins_changed());
        if now >= look_at || logins != Some(marks) {
            (look_at, logins) = (now.plus(SESSIONS), Some(marks));
            match links.admin_sessions() {
                Ok(peers) if !peers.is_empty() || last.as_ref() != Some(&peers) => {
                    last = Some(peers.clone());
                    events.push(Event::Sessions(peers));
                }
                Ok(_) => {}
                Err(error) => tracing::debug!("admin sessions: {}", chain(&error)),
            }
        }
        for event in events {
            // The brain only goes away when the whole process stops.
            let _ = brain.send(Input::Event(event));
        }
    }
}

/// Resolves the allow list's names now and again. A thread of its own, as the resolver blocks; names
/// that do not resolve keep their last good answer.
pub(super) fn names(names: &[String], stop: &Waker, brain: &SyncSender<Input>) -> io::Result<()> {
    let mut good: Vec<(String, Vec<Addr>)> = names.iter().map(|n| (n.clone(), Vec::new())).collect();
    loop {
        for (name, addrs) in &mut good {
            match (name.as_str(), 0).to_socket_addrs() {
                Ok(found) => *addrs = found.map(|a| Addr::from(a.ip())).collect(),
                Err(error) => tracing::warn!("allowed name {name} does not resolve: {error}; its last addresses stay allowed"),
            }
        }
        let all = good.iter().flat_map(|(name, addrs)| addrs.iter().map(|a| (name.clone(), *a))).collect();
        let _ = brain.send(Input::Event(Event::Names(all)));
        if poll(&[], Some(stop), Some(NAMES))?.woken() {
            return Ok(());
        }
    }
}
