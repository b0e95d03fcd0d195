//! The blocking thread: the one writer of the wall. Carries out orders, watches for others' hands.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::sync::mpsc::SyncSender;

use palisade_core::bans::wall::{Entry, Frame, Key, Ports, Report, Step};
use palisade_core::brain::Event;
use palisade_core::control::{Reply, Why};
use palisade_core::net::Prefix;
use palisade_core::time::Span;
use palisade_os::block::{Blocker, Drift, Read};
use palisade_os::clock;
use palisade_os::flows::Target;
use palisade_os::wake::{Mailbox, poll};

use super::Input;
use super::control::Post as ControlPost;
use super::errors::chain;
use super::keeper::{Ask, Post as KeeperPost};
use super::killing::Post as KillingPost;

/// How often the wall is looked at when nobody says that it changed. The look is one generation
/// number (2.6 us); it finds what a full notification buffer lost.
const LOOK_EVERY: Span = Span::secs(1);

/// How many jobs may wait. A wall that is so far behind gets no more steps but is built anew, which
/// costs less. The brain makes one job a batch of lines, so this is many seconds of a storm.
const JOBS: usize = 4096;

/// What the wall is to do.
#[derive(Debug)]
pub(super) enum Job {
    /// See [`palisade_core::brain::Action::Order`].
    Order { ticket: u64, steps: Vec<Step>, kills: Vec<(Prefix, Ports)> },
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
    /// Adds a job. Beyond [`JOBS`] an order loses its steps and is answered as failed, upon which
    /// the brain has the wall built anew.
    pub(super) fn add(&mut self, job: Job) {
        match job {
            Job::Order { ticket, steps, .. } if self.jobs.len() >= JOBS && !steps.is_empty() => {
                let behind = self.jobs.iter().any(|job| matches!(job, Job::Order { steps, .. } if steps.is_empty()));
                if !behind {
                    tracing::warn!("the wall is {JOBS} orders behind; it will be built anew");
                }
                self.jobs.push_back(Job::Order { ticket, steps: Vec::new(), kills: Vec::new() });
            }
            job => self.jobs.push_back(job),
        }
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
    loop {
        let ready = {
            let notices = blocker.notices();
            let fds: Vec<_> = notices.iter().map(AsFd::as_fd).collect();
            poll(&fds, Some(inbox.waker()), Some(LOOK_EVERY))?
        };
        let seen = clock::now().tick;
        let post = inbox.take();
        work(blocker.as_mut(), post.jobs, out);
        if post.stop {
            return Ok(());
        }
        if ready.at(0) || ready.timed_out() {
            match blocker.drift() {
                Ok(Drift::None) => {}
                Ok(Drift::Bans(keys)) => {
                    let what = format!("{} bans were changed by somebody else", keys.len());
                    send(out, Event::Drifted { keys: Some(keys), what, seen });
                }
                Ok(Drift::Everything(what)) => send(out, Event::Drifted { keys: None, what, seen }),
                Err(error) => send(out, Event::Trouble { about: "wall watch".to_owned(), what: Some(chain(&error)) }),
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
    let mut orders: Vec<Order> = Vec::new();
    for job in jobs {
        match job {
            Job::Order { ticket, steps, kills } => orders.push(Order { ticket, steps, kills }),
            other => {
                apply(blocker, mem::take(&mut orders), out);
                single(blocker, other, out);
            }
        }
    }
    apply(blocker, orders, out);
}

struct Order {
    ticket: u64,
    steps: Vec<Step>,
    kills: Vec<(Prefix, Ports)>,
}

fn apply(blocker: &mut dyn Blocker, orders: Vec<Order>, out: &Outlets) {
    if orders.is_empty() {
        return;
    }
    let mut lens = Vec::with_capacity(orders.len());
    let mut steps = Vec::new();
    let mut rest = Vec::with_capacity(orders.len());
    for order in orders {
        lens.push(order.steps.len());
        steps.extend(order.steps);
        rest.push((order.ticket, order.kills));
    }
    let report = if steps.is_empty() { Report::default() } else { blocker.apply(&steps, clock::now().stamp) };
    let reports = split(&report, &lens);
    for ((ticket, kills), report) in rest.into_iter().zip(reports) {
        // The block stands (or failed, and then ending connections still slows the attacker): now the states.
        if !kills.is_empty() {
            let targets = kills.into_iter().map(|(prefix, ports)| Target { prefix, ports }).collect();
            out.killing.put(|post| post.add(ticket, targets));
        }
        send(out, Event::Applied { ticket, report });
    }
}

/// One report for each order out of the report of all.
fn split(report: &Report, lens: &[usize]) -> Vec<Report> {
    let mut start = 0;
    lens.iter()
        .map(|len| {
            let range = start..start + len;
            start = range.end;
            let failed: Vec<_> = report.failed.iter().filter(|(i, _)| range.contains(i)).map(|(i, why)| (i - range.start, why.clone())).collect();
            Report { done: len - failed.len(), failed }
        })
        .collect()
}

fn single(blocker: &mut dyn Blocker, job: Job, out: &Outlets) {
    match job {
        Job::Order { .. } => {}
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
                Err(error) => Reply::Failed { exit: 70, message: chain(&error) },
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
    use super::*;

    #[test]
    fn a_report_is_split_where_the_orders_were() {
        let report = Report { done: 3, failed: vec![(1, "no".to_owned()), (3, "nor this".to_owned())] };
        let parts = split(&report, &[2, 0, 3]);
        assert_eq!(parts[0], Report { done: 1, failed: vec![(1, "no".to_owned())] });
        assert_eq!(parts[1], Report::all_done(0));
        assert_eq!(parts[2], Report { done: 2, failed: vec![(1, "nor this".to_owned())] });
    }

    #[test]
    fn a_wall_far_behind_is_given_no_more_steps() {
        let mut post = Post::default();
        for ticket in 0..=JOBS as u64 {
            post.add(Job::Order { ticket, steps: vec![Step::Frame(Frame::default())], kills: Vec::new() });
        }
        assert_eq!(post.jobs.len(), JOBS + 1);
        assert!(matches!(post.jobs.back(), Some(Job::Order { steps, .. }) if steps.is_empty()));
    }
}
