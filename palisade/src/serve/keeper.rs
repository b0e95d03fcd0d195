//! The keeping thread: the one writer of the store.
//!
//! What the brain wants kept is merged while the disk is busy, and written in one transaction when
//! it is free. A disk that is full or gone loses nothing that enforces: bans stand in the kernel
//! and in the brain, and everything is written once there is room.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::SyncSender;

use palisade_core::brain::Event;
use palisade_core::control::conntrack::ConntrackReply;
use palisade_core::control::{Evidence, Reply, Why};
use palisade_core::event::Record;
use palisade_core::flood::history::{COARSE, FINE, Point};
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp};
use palisade_os::clock;
use palisade_os::wake::{Mailbox, poll};

use super::Input;
use super::errors::chain;
use crate::store::{Keep, Store, StoreError};

/// How many records wait for a disk at most before those that nothing depends on (evidence lines,
/// the event log) are thrown away; bans, positions and the like are bounded by what they are about.
const WAITING: usize = 65_536;

/// How soon a failed write is tried again.
const RETRY: Span = Span::secs(1);

/// How often old rows are thrown out, and the moment is noted against a clock that starts in the past.
const TIDY: Span = Span::secs(60);

/// How many lines and events `why` shows.
pub(crate) const WHY_LINES: usize = 10;

/// How many events are handed out at once.
pub(crate) const EVENTS: usize = 100_000;

/// What is asked of the store.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Add lines and events, then answer.
    Why { id: u64, why: Box<Why> },
    /// Nothing: say this once all that was to be kept before is written (or could not be).
    Confirm { id: u64, reply: Reply },
    /// The kept events.
    Events { id: u64, since: Option<Stamp>, about: Option<Prefix> },
    /// How the connection table was.
    History { id: u64, now: Stamp },
}

/// The keeping thread's mailbox.
#[derive(Debug, Default)]
pub(super) struct Post {
    records: Vec<Record>,
    asks: Vec<Ask>,
    dropped: u64,
    /// From so many records on they are condensed: twice as many as the last time left, so that a disk that is far
    /// behind does not make each further record cost a pass over all.
    condense_at: usize,
    stop: bool,
}

impl Post {
    /// Adds the records of one decision.
    pub(super) fn keep(&mut self, records: Vec<Record>) {
        for record in records {
            let idle = matches!(record, Record::Failure { .. } | Record::Notice(_) | Record::History(_));
            if idle && self.records.len() >= WAITING {
                self.dropped += 1;
            } else {
                self.records.push(record);
            }
        }
        if self.records.len() >= self.condense_at.max(2 * WAITING) {
            self.records = condense(std::mem::take(&mut self.records));
            self.condense_at = 2 * self.records.len();
        }
    }

    /// Asks.
    pub(super) fn ask(&mut self, ask: Ask) {
        self.asks.push(ask);
    }

    /// Ends the thread once everything is written that can be.
    pub(super) const fn stop(&mut self) {
        self.stop = true;
    }
}

/// Of several records about the same thing keeps the last: later ones replace earlier ones anyway.
/// Moments on the two sides of a step of the clock cannot be compared, so each side is taken by itself.
fn condense(records: Vec<Record>) -> Vec<Record> {
    let mut kept: Vec<Option<Record>> = Vec::with_capacity(records.len());
    let mut seen = HashMap::new();
    for record in records {
        if let Record::Shift(by) = record {
            seen.clear();
            if let Some(Some(Record::Shift(before))) = kept.last_mut() {
                *before = before.saturating_add(by);
                continue;
            }
        }
        if let Some(key) = about(&record)
            && let Some(old) = seen.insert(key, kept.len())
            && let Some(slot) = kept.get_mut(old)
        {
            *slot = None;
        }
        kept.push(Some(record));
    }
    kept.into_iter().flatten().collect()
}

/// What a record is about, where a later one about the same replaces it.
fn about(record: &Record) -> Option<String> {
    match record {
        Record::Ban(ban) => Some(format!("b{:?}", ban.key)),
        Record::Unban(key) => Some(format!("b{key:?}")),
        Record::Spent { jail, unit } => Some(format!("f{jail}/{unit}")),
        Record::Sentence(sentence) => Some(format!("s{}", sentence.prefix)),
        Record::Allow(member) => Some(format!("a{}", member.prefix)),
        Record::Disallow(prefix) => Some(format!("a{prefix}")),
        Record::Position { source, .. } => Some(format!("p{source}")),
        Record::Failure { .. } | Record::Notice(_) | Record::History(_) | Record::Shift(_) => None,
    }
}

/// Where the keeping thread's results go.
pub(super) struct Outlets {
    pub(super) brain: SyncSender<Input>,
    /// Takes an answer to whom it is for.
    pub(super) answer: Box<dyn Fn(u64, Reply) + Send>,
}

/// Runs until told to stop.
pub(super) fn run(store: Store, keep: Keep, inbox: &Mailbox<Post>, out: &Outlets) -> io::Result<()> {
    let mut keeper = Keeper { store: Some(store), unwritten: Vec::new(), troubled: false, tidy_at: clock::now().tick.plus(TIDY), keep };
    loop {
        let now = clock::now().tick;
        let wait = if keeper.unwritten.is_empty() { keeper.tidy_at.since(now) } else { RETRY };
        let _ = poll(&[], Some(inbox.waker()), Some(wait))?;
        let mut post = inbox.take();
        if post.dropped > 0 {
            tracing::warn!(records = post.dropped, "the disk is too slow or full: evidence lines and events were not kept");
        }
        keeper.unwritten.append(&mut post.records);
        keeper.write(out);
        keeper.trim();
        for ask in post.asks {
            keeper.answer(ask, out);
        }
        if clock::now().tick >= keeper.tidy_at {
            keeper.tidy();
        }
        if post.stop {
            return Ok(());
        }
    }
}

struct Keeper {
    /// `None` only while a damaged store is being replaced.
    store: Option<Store>,
    unwritten: Vec<Record>,
    troubled: bool,
    tidy_at: palisade_core::time::Tick,
    keep: Keep,
}

impl Keeper {
    fn write(&mut self, out: &Outlets) {
        if self.unwritten.is_empty() {
            return;
        }
        let Some(store) = &mut self.store else { return };
        match store.write(&self.unwritten) {
            Ok(()) => {
                self.unwritten.clear();
                if std::mem::take(&mut self.troubled) {
                    trouble(out, None);
                }
            }
            Err(error @ StoreError::Corrupt { .. }) => self.replace(&error, out),
            Err(error) => {
                self.troubled = true;
                trouble(out, Some(chain(&error)));
            }
        }
    }

    /// What could not be written waits, within bounds.
    fn trim(&mut self) {
        if self.unwritten.len() >= WAITING {
            self.unwritten.retain(|r| !matches!(r, Record::Failure { .. } | Record::Notice(_) | Record::History(_)));
            self.unwritten = condense(std::mem::take(&mut self.unwritten));
        }
    }

    /// Sets a damaged store aside and has the brain tell everything anew.
    fn replace(&mut self, error: &StoreError, out: &Outlets) {
        let Some(store) = self.store.take() else { return };
        match store.set_aside(chain(error)) {
            Ok((store, opening)) => {
                tracing::error!("{}; set aside, kept anew: {opening:?}", chain(error));
                self.store = Some(store);
                let _ = out.brain.send(Input::Event(Event::Forgotten));
            }
            Err(worse) => {
                self.troubled = true;
                trouble(out, Some(format!("{}; and it cannot be replaced: {}", chain(error), chain(&worse))));
            }
        }
    }

    fn tidy(&mut self) {
        let now = clock::now();
        self.tidy_at = now.tick.plus(TIDY);
        let Some(store) = &mut self.store else { return };
        let done = store.seen(now.stamp).and_then(|()| store.tidy(now.stamp, self.keep));
        match done {
            Ok(tidied) if tidied.more => self.tidy_at = now.tick.plus(RETRY),
            Ok(_) => {}
            Err(error) => tracing::warn!("tidying: {}", chain(&error)),
        }
    }

    fn answer(&self, ask: Ask, out: &Outlets) {
        let (id, reply) = match (ask, &self.store) {
            (Ask::Confirm { id, reply }, _) => (id, reply),
            (Ask::Why { id, mut why }, Some(store)) => {
                remember(store, &mut why);
                (id, Reply::Why(why))
            }
            (Ask::Events { id, since, about }, Some(store)) => match store.notices(since, about.as_ref(), EVENTS) {
                Ok(notices) => (id, Reply::Events { notices }),
                Err(error) => (id, Reply::Failed { exit: 70, message: chain(&error) }),
            },
            (Ask::History { id, now }, Some(store)) => match history(store, now) {
                Ok(points) => (id, Reply::Conntrack(ConntrackReply::History { points })),
                Err(error) => (id, Reply::Failed { exit: 70, message: chain(&error) }),
            },
            (Ask::Why { id, why }, None) => (id, Reply::Why(why)),
            (Ask::Events { id, .. } | Ask::History { id, .. }, None) => {
                (id, Reply::Failed { exit: 6, message: "the store is damaged and could not be replaced; see `palisade status`".to_owned() })
            }
        };
        (out.answer)(id, reply);
    }
}

/// How the connection table was: the last month coarsely, the last day finely.
pub(crate) fn history(store: &Store, now: Stamp) -> Result<Vec<Point>, StoreError> {
    let mut points = Vec::new();
    for (grain, keep) in [COARSE, FINE] {
        let seconds = u32::try_from(grain.as_secs_ceil()).unwrap_or(u32::MAX);
        for point in store.history(seconds, now.minus(keep))? {
            match points.last_mut().filter(|last: &&mut Point| (last.at, last.grain) == (point.at, point.grain)) {
                // The daemon was restarted within the grain.
                Some(last) => last.merge(&point),
                None => points.push(point),
            }
        }
    }
    Ok(points)
}

fn trouble(out: &Outlets, what: Option<String>) {
    let _ = out.brain.send(Input::Event(Event::Trouble { about: "store".to_owned(), what }));
}

/// Adds the lines and events that the store has about the prefix, newest first.
pub(crate) fn remember(store: &Store, why: &mut Why) {
    let Some(prefix) = why.prefix else { return };
    if let Ok(lines) = store.lines_of(&prefix, WHY_LINES) {
        why.lines = lines.into_iter().map(|e| Evidence { at: e.counted, jail: e.jail, signature: e.signature, line: e.line }).collect();
    }
    if let Ok(mut notices) = store.notices(None, Some(&prefix), WHY_LINES) {
        notices.reverse();
        why.notices = notices;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::bans::wall::Key;
    use palisade_core::event::{Notice, What};

    #[test]
    fn a_slow_disk_costs_the_event_log_and_never_a_ban_or_a_position() {
        let mut post = Post::default();
        let notice = || Record::Notice(Notice { at: Stamp(0), prefix: None, what: What::Expired });
        for n in 0..3 * WAITING {
            let key = Key::all(format!("2001:db8::{:x}", n % 100).parse().unwrap());
            post.keep(vec![notice(), Record::Unban(key), Record::Position { source: "a".to_owned(), position: n.to_string() }]);
        }
        assert!(post.dropped > 0 && post.records.len() <= 2 * WAITING);
        let kept = condense(post.records);
        let unbans = kept.iter().filter(|r| matches!(r, Record::Unban(_))).count();
        let positions: Vec<_> = kept.iter().filter(|r| matches!(r, Record::Position { .. })).collect();
        assert_eq!(unbans, 100);
        assert_eq!(positions, [&Record::Position { source: "a".to_owned(), position: (3 * WAITING - 1).to_string() }]);
    }
}
