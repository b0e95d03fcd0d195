//! The blocking thread: the one writer of the wall. Carries out orders, watches for others' hands.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::sync::mpsc::SyncSender;

use std::collections::BTreeMap;

use palisade_core::bans::order::Order;
use palisade_core::bans::wall::{Entry, Frame, Key, Report, Step};
use palisade_core::brain::Event;
use palisade_core::control::{KillCount, Reply, Why};
use palisade_core::time::Span;
use palisade_os::block::{Blocker, Drift, Read};
use palisade_os::clock;
use palisade_os::wake::{Mailbox, poll};

use super::Input;
use super::control::Post as ControlPost;
use super::errors::chain;
use super::keeper::{Ask, Post as KeeperPost};
use super::killing::{Post as KillingPost, targets};

/// How often the wall is looked at when nobody says that it changed. The look is one generation
/// number (2.6 us); it finds what a full notification buffer lost.
const LOOK_EVERY: Span = Span::secs(1);

/// How many jobs may wait. A wall that is so far behind gets no more steps but is built anew, which
/// costs less. The brain makes one job a batch of lines, so this is many seconds of a storm.
const JOBS: usize = 4096;

/// What the problem list calls not seeing what others do to the wall.
const WATCH: &str = "wall watch";

/// What the wall is to do.
#[derive(Debug)]
pub(super) enum Job {
    /// See [`palisade_core::brain::Action::Order`].
    Order { ticket: u64, order: Order },
    /// An order that came when too many were waiting.
    TooMany { ticket: u64 },
    /// See [`palisade_core::brain::Action::Rebuild`].
    Rebuild { ticket: u64, frame: Frame, entries: Vec<Entry> },
    /// Read these bans back and pass the answer on.
    Look { id: u64, why: Box<Why>, keys: Vec<Key> },
    /// Take everything of ours away and answer.
    TakeDown { id: u64 },
}

/// The blocking thread's mailbox.
#[derive(Debug, Default)]
pub(super) struct Post {
    jobs: VecDeque<Job>,
    stop: bool,
}

impl Post {
    /// Adds a job. Beyond [`JOBS`] an order loses what it orders and is answered as failed, upon
    /// which the brain has the wall built anew.
    pub(super) fn add(&mut self, job: Job) {
        let job = match job {
            Job::Order { ticket, .. } if self.jobs.len() >= JOBS => Job::TooMany { ticket },
            job => job,
        };
        self.jobs.push_back(job);
    }

    /// Ends the thread once all jobs are done.
    pub(super) const fn stop(&mut self) {
        self.stop = true;
    }
}

/// Where the blocking thread's results go.
pub(super) struct Outlets {
    pub(super) brain: SyncSender<Input>,
    pub(super) killing: Mailbox<KillingPost>,
    pub(super) keeper: Mailbox<KeeperPost>,
    pub(super) control: Mailbox<ControlPost>,
}

/// Runs until told to stop. Leaves the wall standing.
pub(super) fn run(mut blocker: Box<dyn Blocker>, inbox: &Mailbox<Post>, out: &Outlets) -> io::Result<()> {
    let mut troubled = false;
    loop {
        let ready = {
            let notices = blocker.notices();
            let fds: Vec<_> = notices.iter().map(AsFd::as_fd).collect();
            poll(&fds, Some(inbox.waker()), Some(LOOK_EVERY))?
        };
        let seen = clock::now().tick;
        let post = inbox.take();
        // The kernel tells us of our own doing too, before it is done: read now it wakes nobody later.
        let worked = !post.jobs.is_empty();
        work(blocker.as_mut(), post.jobs, out);
        if post.stop {
            return Ok(());
        }
        if worked || ready.at(0) || ready.timed_out() {
            match blocker.drift() {
                Ok(Drift::None) if troubled => {
                    troubled = false;
                    send(out, Event::Trouble { about: WATCH.to_owned(), what: None });
                }
                Ok(Drift::None) => {}
                Ok(Drift::Bans(keys)) => {
                    let what = format!("{} bans were changed by somebody else", keys.len());
                    send(out, Event::Drifted { keys: Some(keys), what, seen });
                }
                Ok(Drift::Everything(what)) => send(out, Event::Drifted { keys: None, what, seen }),
                Err(error) => {
                    troubled = true;
                    send(out, Event::Trouble { about: WATCH.to_owned(), what: Some(chain(&error)) });
                }
            }
        }
    }
}

fn send(out: &Outlets, event: Event) {
    // The brain only goes away when the whole process stops.
    let _ = out.brain.send(Input::Event(event));
}

/// Does the jobs in order; orders that follow one another are applied in one go.
fn work(blocker: &mut dyn Blocker, jobs: VecDeque<Job>, out: &Outlets) {
    let mut orders = Vec::new();
    for job in jobs {
        match job {
            Job::Order { ticket, order } => orders.push((ticket, order)),
            other => {
                apply(blocker, mem::take(&mut orders), out);
                single(blocker, other, out);
            }
        }
    }
    apply(blocker, orders, out);
}

fn apply(blocker: &mut dyn Blocker, orders: Vec<(u64, Order)>, out: &Outlets) {
    if orders.is_empty() {
        return;
    }
    let mut all = Order::new();
    for (_, order) in &orders {
        all.absorb(order.clone());
    }
    let steps = all.steps();
    let report = if steps.is_empty() { Report::default() } else { blocker.apply(&steps, clock::now().stamp) };
    let failed = failures(&steps, &report);
    for (ticket, order) in orders {
        let own = order.steps();
        let mine: Vec<_> = own.iter().filter_map(|step| Some((key_of(step), failed.get(&key_of(step))?.clone()))).collect();
        // The blocks stand: now, and not before, the connections of those that do.
        let kills = order.kills(&own_report(&own, &failed));
        let nobody = kills.is_empty();
        if !nobody {
            out.killing.put(|post| post.add(ticket, targets(kills)));
        }
        send(out, Event::Applied { ticket, failed: mine });
        if nobody {
            send(out, Event::Ended { ticket, killed: KillCount::default(), error: None });
        }
    }
}

fn key_of(step: &Step) -> Option<Key> {
    match step {
        Step::Frame(_) => None,
        Step::Block(entry) => Some(entry.key.clone()),
        Step::Release(key) => Some(key.clone()),
    }
}

/// Which of all steps failed, by what they are about.
pub(crate) fn failures(steps: &[Step], report: &Report) -> BTreeMap<Option<Key>, String> {
    report.failed.iter().filter_map(|(at, why)| Some((key_of(steps.get(*at)?), why.clone()))).collect()
}

/// The report of one order's steps, out of what failed of all.
fn own_report(steps: &[Step], failed: &BTreeMap<Option<Key>, String>) -> Report {
    let failed: Vec<_> = steps.iter().enumerate().filter_map(|(at, step)| Some((at, failed.get(&key_of(step))?.clone()))).collect();
    Report { done: steps.len() - failed.len(), failed }
}

fn single(blocker: &mut dyn Blocker, job: Job, out: &Outlets) {
    match job {
        Job::Order { .. } => {}
        Job::TooMany { ticket } => {
            let why = format!("more than {JOBS} changes wait for the firewall");
            send(out, Event::Applied { ticket, failed: vec![(None, why)] });
            send(out, Event::Ended { ticket, killed: KillCount::default(), error: None });
        }
        Job::Rebuild { ticket, frame, entries } => {
            let result = blocker.replace(&frame, &mut entries.into_iter(), clock::now().stamp).map_err(|e| chain(&e));
            send(out, Event::Rebuilt { ticket, result });
        }
        Job::Look { id, mut why, keys } => {
            look(blocker, &mut why, &keys);
            out.keeper.put(|post| post.ask(Ask::Why { id, why }));
        }
        Job::TakeDown { id } => {
            let reply = match blocker.remove() {
                Ok(()) => Reply::Flushed,
                Err(error) => {
                    send(out, Event::StillUp(chain(&error)));
                    Reply::Failed { exit: 70, message: chain(&error) }
                }
            };
            out.control.put(|post| post.reply(id, reply));
        }
    }
}

/// Adds what the kernel holds for each ban.
pub(crate) fn look(blocker: &mut dyn Blocker, why: &mut Why, keys: &[Key]) {
    let Ok(found) = blocker.read(Read::Keys(keys)) else { return };
    for ((_, standing), key) in why.bans.iter_mut().zip(keys) {
        *standing = found.bans.get(key).copied();
    }
}

#[cfg(test)]
mod tests {
    use palisade_core::time::Until;

    use super::*;

    #[test]
    fn each_order_is_told_what_of_it_failed() {
        let key = |text: &str| Key::all(text.parse().unwrap());
        let mut order = Order::new();
        order.frame(Frame::default());
        order.block(Entry { key: key("192.0.2.1"), until: Until::Forever }, true);
        order.block(Entry { key: key("192.0.2.2"), until: Until::Forever }, true);
        let steps = order.steps();
        let failed = failures(&steps, &Report { done: 2, failed: vec![(2, "no".to_owned())] });
        let report = own_report(&steps, &failed);
        assert_eq!(report, Report { done: 2, failed: vec![(2, "no".to_owned())] });
        assert_eq!(order.kills(&report), [("192.0.2.1".parse().unwrap(), palisade_core::ports::Ports::All)]);
    }

    #[test]
    fn a_wall_far_behind_is_given_no_more_orders() {
        let mut post = Post::default();
        for ticket in 0..=JOBS as u64 {
            post.add(Job::Order { ticket, order: Order::new() });
        }
        assert!(matches!(post.jobs.back(), Some(Job::TooMany { ticket }) if *ticket == JOBS as u64));
    }
}
