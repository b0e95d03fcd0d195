//! The order of stopping in which nothing is lost.

use std::time::Duration;

use palisade_core::brain::Mode;
use palisade_core::event::What;
use palisade_core::time::Span;
use palisade_os::clock;
use palisade_os::wake::Waker;

use super::{FEEDS, House, Input, control, feeds, keeper, killing, wall};

/// How long the readers may take to hand over what they have read, when they are to stop.
const STOP_WITHIN: Span = Span::secs(5);

impl House {
    /// Stops in the order in which nothing is lost: readers, then what they led to, then the store.
    /// The wall stays.
    pub(super) fn close(mut self) {
        self.notify("STOPPING=1");
        self.sources.stop();
        let threads = self.sources.threads();
        self.drain(|house| house.ended >= threads);
        let now = clock::now();
        let what = if self.mode == Mode::Enforce { "stopped; the wall stands" } else { "stopped; nothing was done" };
        self.brain.close_history();
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
        #[cfg(target_os = "linux")]
        self.posts.census.put(super::census::Post::stop);
        #[cfg(target_os = "linux")]
        self.posts.routing.put(super::routing::Post::stop);
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
                Ok(Input::Signal(_) | Input::Ask(_)) => {}
                Err(_) if so => return,
                Err(_) => {}
            }
            if clock::now().tick >= until {
                return;
            }
        }
    }
}
