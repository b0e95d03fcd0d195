//! A new config takes effect: the old readers stop, the new ones start where they were.

use palisade_core::brain::Event;
use palisade_os::clock;

use super::House;
use super::sources::Sources;

impl House {
    /// Reads the config anew. A bad one changes nothing.
    pub(super) fn reload(&mut self) {
        self.notify("RELOADING=1");
        match self.places.config_and_library() {
            Ok((config, library)) => {
                let names = self.config.allow().names != config.allow().names;
                let moved = (config.ban().backend, config.backends()) != (self.config.ban().backend, self.config.backends());
                if moved {
                    let what = Some("the config now has another firewall, or other names in it: restart palisade for that; the bans stay where they are until then".to_owned());
                    self.handle(Event::Trouble { about: "backend".to_owned(), what }, clock::now());
                }
                self.config = config.clone();
                self.library = library;
                self.posts.feeds.put(|post| post.configure(config.clone()));
                #[cfg(target_os = "linux")]
                self.posts.census.put(|post| post.configure(config.conntrack().clone()));
                #[cfg(target_os = "linux")]
                self.posts.routing.put(|post| post.configure(config.clone()));
                self.handle(Event::Configured(Box::new(config)), clock::now());
                if names && let Err(error) = self.names() {
                    self.handle(
                        Event::Trouble { about: "names".to_owned(), what: Some(format!("{error:#}; restart palisade")) },
                        clock::now(),
                    );
                }
                self.restart = true;
                self.sources.stop();
                if self.ended >= self.sources.threads() {
                    self.start_sources();
                }
            }
            Err(error) => {
                let what = Some(format!("the new config is not used: {error:#}; the old one stays in force"));
                self.handle(Event::Trouble { about: "config".to_owned(), what }, clock::now());
            }
        }
        self.notify("READY=1");
    }

    pub(super) fn source_stopped(&mut self, generation: u64) {
        self.ended += usize::from(generation == self.sources.generation());
        if self.restart && self.ended >= self.sources.threads() {
            self.start_sources();
        }
    }

    fn start_sources(&mut self) {
        self.restart = false;
        let generation = self.sources.generation() + 1;
        let before: Vec<String> = self.sources.troubles().iter().map(|(about, _)| about.clone()).collect();
        let what = match Sources::start(generation, (&self.config, &self.library), &self.positions, &self.outlet) {
            Ok(sources) => {
                self.ended = 0;
                self.sources = sources;
                None
            }
            Err(error) => Some(format!("nothing is read: {error:#}; mend the config and reload")),
        };
        // Only now is the new config wholly in force: its files are open, and what is written from here on is read.
        for about in ["config", "files", "journal", "blocklistd"] {
            self.handle(Event::Trouble { about: about.to_owned(), what: None }, clock::now());
        }
        self.handle(Event::Trouble { about: "sources".to_owned(), what }, clock::now());
        // A jail that is gone, or has no filter any more, has no trouble with it either.
        let gone = |about: &String| !self.sources.troubles().iter().any(|(of, _)| of == about);
        let solved: Vec<String> = before.into_iter().filter(gone).collect();
        for about in solved {
            self.handle(Event::Trouble { about, what: None }, clock::now());
        }
        self.tell_of_jails();
    }

    /// Tells which jails do not run for their filters, and which do again.
    pub(super) fn tell_of_jails(&mut self) {
        for (about, what) in self.sources.troubles().to_vec() {
            self.handle(Event::Trouble { about, what }, clock::now());
        }
    }
}
