//! The feeds thread: looks at each feed's list when it is due, and tells the brain what is in it.
//!
//! Lists are fetched one after the other, each within the bounds of [`crate::feeds`]; meanwhile letters wait.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use palisade_core::brain::Event;
use palisade_core::config::{Config, Feed, FeedSource};
use palisade_os::clock;
use palisade_os::wake::{Mailbox, poll};

use super::Input;
use crate::feeds::{Follower, sweep};

/// The feeds thread's mailbox. One question each connection to the control socket, and one config.
#[derive(Debug, Default)]
pub(super) struct Post {
    config: Option<Box<Config>>,
    asks: Vec<Ask>,
    stop: bool,
}

#[derive(Debug)]
struct Ask {
    id: u64,
    names: Vec<Arc<str>>,
    accept: bool,
}

impl Post {
    /// Follows what this config says, and looks at the files of those it followed before.
    pub(super) fn configure(&mut self, config: Config) {
        self.config = Some(Box::new(config));
    }

    /// Has these looked at now.
    pub(super) fn ask(&mut self, id: u64, names: Vec<Arc<str>>, accept: bool) {
        self.asks.push(Ask { id, names, accept });
    }

    /// Ends the thread once it is not fetching.
    pub(super) const fn stop(&mut self) {
        self.stop = true;
    }
}

/// Runs until told to stop.
pub(super) fn run(config: &Config, state: PathBuf, inbox: &Mailbox<Post>, brain: &SyncSender<Input>) -> io::Result<()> {
    let mut desk = Desk { followers: Vec::new(), state, brain: brain.clone() };
    desk.configure(config);
    loop {
        let now = clock::now().tick;
        let due = desk.followers.iter().map(|follower| follower.next().since(now)).min();
        let _ = poll(&[], Some(inbox.waker()), due)?;
        let post = inbox.take();
        if post.stop {
            return Ok(());
        }
        if let Some(config) = post.config {
            desk.configure(&config);
            desk.look(|feed| matches!(feed.source, FeedSource::Path(_)), false);
        }
        for Ask { id, names, accept } in post.asks {
            desk.look(|feed| names.contains(&feed.name), accept);
            desk.send(Event::Fetched { id, names });
        }
        desk.look_at_one_due();
    }
}

struct Desk {
    followers: Vec<Follower>,
    state: PathBuf,
    brain: SyncSender<Input>,
}

impl Desk {
    /// Follows the feeds of this config; those that are as they were go on as they are.
    fn configure(&mut self, config: &Config) {
        sweep(&self.state, config);
        let mut former = std::mem::take(&mut self.followers);
        for feed in config.feeds().values().filter(|feed| feed.enabled) {
            let follower = match former.iter().position(|follower| follower.feed() == feed) {
                Some(at) => former.swap_remove(at),
                None => {
                    let (mut follower, fed) = Follower::take_up(feed, &self.state, clock::now());
                    if let Some(fed) = fed {
                        self.send(Event::Fed(Box::new(fed)));
                    }
                    // Somebody who changed a feed wants to see what comes of it.
                    if former.iter().any(|follower| follower.feed().name == feed.name) {
                        follower.hurry(clock::now());
                    }
                    follower
                }
            };
            self.followers.push(follower);
        }
    }

    fn look(&mut self, at: impl Fn(&Feed) -> bool, accept: bool) {
        for n in 0..self.followers.len() {
            if at(self.followers[n].feed()) {
                let fed = self.followers[n].look(accept);
                self.send(Event::Fed(Box::new(fed)));
            }
        }
    }

    /// One only: a letter that came meanwhile goes before the next.
    fn look_at_one_due(&mut self) {
        let now = clock::now().tick;
        if let Some(follower) = self.followers.iter_mut().filter(|follower| follower.next() <= now).min_by_key(|follower| follower.next()) {
            let fed = follower.look(false);
            self.send(Event::Fed(Box::new(fed)));
        }
    }

    fn send(&self, event: Event) {
        // The brain only goes away when the whole process stops.
        let _ = self.brain.send(Input::Event(event));
    }
}
