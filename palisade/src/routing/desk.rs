//! One steering and its hands: an event in, and everything that follows from it done before the next.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use palisade_core::control::route::RouteReply;
use palisade_core::route::lookup::Answer;
use palisade_core::route::{Names, Protocol, Table};
use palisade_core::steering::{Action, Answered, Changes, Event, Steering};
use palisade_core::time::Tick;
use palisade_os::routes::{self, Own, Read, Router, marks, names};
use palisade_os::{clock, errors, flows, sysctl};

use super::disk;
use super::probes::Probes;

/// Whether what is decided is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hands {
    /// It is.
    Free,
    /// Only looking: nothing is written, sent or changed.
    Tied,
}

/// What leaves the desk.
#[derive(Debug)]
pub(crate) enum Out {
    /// For the asker with that id.
    Answer(u64, Answered),
    /// For the operator.
    Tell(String),
    /// Something does not work, or works again.
    Trouble(String, Option<String>),
}

/// The steering at work.
pub(crate) struct Desk {
    steering: Steering,
    router: Box<dyn Router>,
    probes: Probes,
    state: PathBuf,
    hands: Hands,
}

impl Desk {
    /// With hands for it. What it wants to do first comes with the first event.
    pub(crate) fn new(steering: Steering, router: Box<dyn Router>, state: &Path, hands: Hands) -> Self {
        Self { steering, router, probes: Probes::default(), state: state.to_owned(), hands }
    }

    /// When it wants to be asked again.
    pub(crate) fn next_deadline(&self) -> Tick {
        self.steering.next_deadline()
    }

    /// What it decides by.
    pub(crate) const fn steering(&self) -> &Steering {
        &self.steering
    }

    /// What the kernel's notifications are about for us.
    pub(crate) fn own(&self) -> Own {
        let (protocol, tables) = self.steering.own();
        Own { protocol, tables, port: self.router.port() }
    }

    /// The kernel told of changes.
    pub(crate) fn changed(&mut self, changes: routes::Changes, out: &mut Vec<Out>) {
        let links = changes.links || changes.addresses;
        let changes = Changes {
            links,
            // Routes that go with their link are nobody's doing.
            routes: changes.routes_gone && !links,
            others: changes.rules_new || changes.rules_gone || changes.defaults,
            rules: changes.ours_gone,
            lost: changes.lost,
        };
        if !changes.is_empty() {
            self.handle(Event::Changed(changes), out);
        }
    }

    /// The sockets that answers to probes come in by.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.probes.fds()
    }

    /// Takes in the answers that are there.
    pub(crate) fn hear(&mut self, out: &mut Vec<Out>) {
        for event in self.probes.receive() {
            self.handle(event, out);
        }
    }

    /// Takes one event, and does all that follows.
    pub(crate) fn handle(&mut self, event: Event, out: &mut Vec<Out>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Vec::new();
            self.steering.handle(event, clock::now(), &mut actions);
            for action in actions {
                match self.act(action, out) {
                    Ok(more) => events.extend(more),
                    // What was to follow must not be done.
                    Err(error) => {
                        events.push_front(Event::NotKept(errors::chain(&error)));
                        break;
                    }
                }
            }
        }
    }

    /// Does one thing, and tells what came of it. An error only where the journal could not be written.
    fn act(&mut self, action: Action, out: &mut Vec<Out>) -> io::Result<Option<Event>> {
        let free = self.hands == Hands::Free;
        Ok(match action {
            Action::Look(tables) => Some(match self.router.read(&Read::Ours(tables)) {
                Ok(world) => Event::Found(Box::new(world)),
                Err(error) => Event::Blind(errors::chain(&error)),
            }),
            Action::Compare { marks: wanted, switches } => {
                let marks = match marks::stands(wanted.as_ref()) {
                    Ok(stands) => stands,
                    // Without nf_tables there is nothing of ours to be wrong.
                    Err(_) => wanted.is_none(),
                };
                let held = switches.into_iter().filter_map(|path| {
                    let value = sysctl::get(&path).ok().flatten()?;
                    Some((path, value))
                });
                Some(Event::Compared { marks, switches: held.collect() })
            }
            Action::Apply(steps) => Some(Event::Applied(self.router.apply(&steps))),
            Action::Keep(journal) => {
                if free {
                    disk::write(&self.state, &journal)?;
                }
                None
            }
            Action::Names { tables, protocol } => {
                if free {
                    tell_names(tables, protocol);
                }
                None
            }
            Action::Ask(questions) => {
                let mut ask = |question| self.router.lookup(question).unwrap_or(Answer::NoWay(0));
                Some(Event::Ways(questions.iter().map(&mut ask).collect()))
            }
            Action::Probe(probe) => {
                if free {
                    self.probes.send(&probe);
                }
                None
            }
            Action::Unprobe(uplink) => {
                self.probes.forget(&uplink);
                None
            }
            Action::Purge { uplink, mark, sources } => {
                if free {
                    out.push(purged(&uplink, flows::purge::purge(mark, &sources)));
                }
                None
            }
            Action::Answer { id, reply } => {
                out.push(Out::Answer(id, reply.map(with_leaks)));
                None
            }
            Action::Tell(what) => {
                out.push(Out::Tell(what));
                None
            }
            Action::Trouble { about, what } => {
                out.push(Out::Trouble(about, what));
                None
            }
        })
    }
}

/// That `ip` writes numbers in place of names keeps nothing from working: it is told where it is looked for.
fn tell_names(tables: Vec<Table>, protocol: Protocol) {
    let folder = Path::new(names::FOLDER);
    let written = if tables.is_empty() {
        names::remove(folder)
    } else {
        names::write(folder, &Names(tables.into_iter().map(|table| (table.id, table.name)).collect()), protocol)
    };
    if let Err(error) = written {
        tracing::debug!("names of tables: {error}");
    }
}

fn purged(uplink: &Arc<str>, result: io::Result<u64>) -> Out {
    match result {
        Ok(count) => Out::Tell(format!("ended {count} connections of uplink {uplink}, and no others")),
        Err(error) => Out::Tell(format!("connections of uplink {uplink} could not be ended: {error}")),
    }
}

/// The leak counters are the kernel's.
fn with_leaks(mut reply: RouteReply) -> RouteReply {
    if let RouteReply::Status(status) = &mut reply
        && let Ok(leaks) = marks::leaks()
    {
        for uplink in &mut status.uplinks {
            uplink.leaks = leaks.get(&uplink.name).map(|leak| leak.packets);
        }
    }
    reply
}
