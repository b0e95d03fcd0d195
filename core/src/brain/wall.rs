//! Bans become orders for the wall, and what became of the orders.

use std::collections::{BTreeMap, VecDeque};

use super::{Action, Brain, Mode};
use crate::bans::ban::Ban;
use crate::bans::order::Order;
use crate::bans::wall::{Entry, Key, Report};
use crate::control::{BanOutcome, Imported, Reply};
use crate::event::{KillCount, Notice, Record, What};
use crate::net::Prefix;
use crate::ports::Ports;
use crate::time::{Now, Span, Stamp, Tick};

/// The first wait before a wall that could not be built is tried again; doubles up to [`RETRY_MOST`].
const RETRY_FIRST: Span = Span::secs(1);
/// The longest wait.
const RETRY_MOST: Span = Span::secs(60);

/// What the problem list calls the wall.
const WALL: &str = "wall";

/// Exit code of what works only in part (see `palisade --help`).
const EXIT_DEGRADED: u8 = 6;

/// From so many changed bans on, where they are more than this part of all, the wall is built anew:
/// filling fresh sets takes a tenth of the time of putting bans back one by one.
pub(super) const REBUILD_FROM: usize = 1000;
pub(super) const REBUILD_PART: usize = 4;

/// So many repairs within this time are a contest. An administrator who edits by hand makes some in a minute; a
/// program that has us for an enemy makes them at once.
const CONTEST: usize = 10;
const CONTEST_WITHIN: Span = Span::secs(60);

/// What the problem list calls it.
const CONTESTED: &str = "contested wall";

/// What is waited for, and what is to be said when it is done.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Who is to be answered.
    pub(super) answer: Option<(u64, Reply)>,
    /// To be told once done, with the count of ended connections in the first ban of them.
    pub(super) notices: Vec<Notice>,
    /// Somebody else's change that this repairs: what was seen, when, how many bans.
    pub(super) drift: Option<(String, Tick, u64)>,
    /// Whose connections to end once the wall is built anew.
    pub(super) kills: Vec<(Prefix, Ports)>,
    /// What is still to come.
    pub(super) open: Open,
    pub(super) killed: KillCount,
}

/// Which answers are still to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    applied: bool,
    ended: bool,
}

/// The orders on their way.
#[derive(Debug, Default)]
pub(super) struct Orders {
    ticket: u64,
    pending: BTreeMap<u64, Pending>,
    /// When to build the wall again after a failure.
    pub(super) retry_at: Option<Tick>,
    retry_wait: Span,
    /// A change failed, and connections that were to be ended with it were not: they are, once the wall stands whole.
    owed: bool,
    /// When others' last changes were seen, [`CONTEST`] of them at most.
    repairs: VecDeque<Tick>,
}

impl Orders {
    fn next(&mut self, pending: Pending) -> u64 {
        self.ticket += 1;
        self.pending.insert(self.ticket, pending);
        self.ticket
    }
}

impl Brain {
    /// Sends an order to the wall. When observing, nothing is sent and all counts as done. A wall that
    /// was taken down is put up again, all of it, with the first new ban; until then nothing is sent.
    pub(super) fn order(&mut self, order: Order, mut pending: Pending) {
        if self.down && order.blocks_any() {
            self.rebuild(Pending::default());
        }
        let enforce = self.mode == Mode::Enforce && !self.down;
        pending.open = Open { applied: enforce, ended: enforce };
        let ticket = self.orders.next(pending);
        if enforce {
            self.out.push(Action::Order { ticket, order });
        }
        self.finish(ticket, None);
    }

    /// Has connections ended without a ban.
    pub(super) fn end(&mut self, targets: Vec<(Prefix, Ports)>, mut pending: Pending) {
        let enforce = self.mode == Mode::Enforce;
        pending.open = Open { applied: false, ended: enforce };
        let ticket = self.orders.next(pending);
        if enforce {
            self.out.push(Action::Kill { ticket, targets });
        }
        self.finish(ticket, None);
    }

    /// Has the wall built anew from the table.
    pub(super) fn rebuild(&mut self, mut pending: Pending) {
        self.orders.retry_at = None;
        self.floods.dirty |= std::mem::take(&mut self.down);
        let enforce = self.mode == Mode::Enforce;
        pending.open = Open { applied: enforce, ended: enforce && !pending.kills.is_empty() };
        let ticket = self.orders.next(pending);
        if enforce {
            let frame = self.frame(self.clock.last().stamp);
            self.out.push(Action::Rebuild { ticket, frame, entries: self.table.entries().collect() });
        }
        self.finish(ticket, None);
    }

    /// Has the wall taken down, as somebody asked, and says so until it is put up again.
    pub(super) fn take_down(&mut self, id: u64, now: Now) {
        self.down = true;
        self.floods.dirty = true;
        self.orders.retry_at = None;
        self.trouble(
            WALL,
            Some("taken down by `palisade flush`; `palisade restore` or the next ban puts it up again".to_owned()),
            now.stamp,
        );
        self.out.push(Action::TakeDown { id });
    }

    /// It could not be taken down: it stands, all or part of it, and is built anew.
    pub(super) fn still_up(&mut self, error: &str, now: Now) {
        self.down = false;
        self.wall_failed(format!("it was to be taken down and could not be: {error}"), now);
    }

    /// Puts the wall up: the first thing after waking. Orders from before are in what it is built
    /// from, and need not be carried out.
    pub fn raise(&mut self, out: &mut Vec<Action>) {
        self.orders.pending.clear();
        self.rebuild(Pending::default());
        self.hand_out(out);
    }

    /// Lets go of bans that the table no longer has, and tells why.
    pub(super) fn release(&mut self, bans: &[Ban], now: Stamp, why: impl Fn(&Ban) -> What) {
        if bans.is_empty() {
            return;
        }
        let mut order = Order::new();
        for ban in bans {
            order.release(ban.key.clone());
            if self.mode == Mode::Enforce {
                self.records.push(Record::Unban(ban.key.clone()));
            }
            self.tell(now, Some(ban.key.prefix), why(ban));
        }
        let notices = self.settle_ended(bans, now, &mut order).iter().map(|ban| Self::began(ban, now)).collect();
        self.order(order, Pending { notices, ..Pending::default() });
    }

    pub(super) fn applied(&mut self, ticket: u64, failed: Vec<(Option<Key>, String)>, now: Now) {
        let Some(pending) = self.orders.pending.get_mut(&ticket) else { return };
        pending.open.applied = false;
        if let Some((_, Reply::Bans { results, .. })) = &mut pending.answer {
            for (key, error) in &failed {
                let concerned = |prefix: &Prefix| key.as_ref().is_none_or(|key| key.prefix == *prefix);
                for result in results.iter_mut().filter(|r| concerned(&r.prefix) && matches!(r.what, BanOutcome::Banned { .. })) {
                    result.what = BanOutcome::Failed { error: format!("{error}; it is kept and tried again") };
                }
            }
        }
        if let Some((_, Reply::Imported(imported))) = &mut pending.answer
            && let Some((_, error)) = failed.first()
        {
            let all = imported.new + imported.longer;
            let count = if failed.iter().any(|(key, _)| key.is_none()) { all } else { failed.len().min(all) };
            imported.fail(count, format_args!("{error}; it is kept and tried again"));
        }
        if let Some((_, error)) = failed.first() {
            self.wall_failed(format!("{} changes failed, the first with: {error}", failed.len()), now);
        }
        self.finish(ticket, Some(now));
    }

    pub(super) fn ended(&mut self, ticket: u64, killed: KillCount, error: Option<String>, now: Now) {
        if let Some(pending) = self.orders.pending.get_mut(&ticket) {
            pending.killed = killed;
            pending.open.ended = false;
        }
        self.trouble("states", error, now.stamp);
        self.finish(ticket, Some(now));
    }

    pub(super) fn rebuilt(&mut self, ticket: u64, result: Result<Report, String>, now: Now) {
        let failure = match result {
            Ok(report) => report
                .failed
                .first()
                .map(|(_, first)| format!("{} bans could not be put up, the first because: {first}", report.failed.len())),
            Err(error) => Some(error),
        };
        if let Some(pending) = self.orders.pending.get_mut(&ticket) {
            pending.open.applied = false;
            match (&mut pending.answer, &failure) {
                (Some((_, Reply::Imported(imported))), Some(error)) => {
                    imported.fail(imported.new + imported.longer, format_args!("{error}; they are kept and tried again"));
                }
                (Some((_, reply)), Some(error)) => *reply = Reply::Failed { exit: EXIT_DEGRADED, message: error.clone() },
                _ => {}
            }
            // What does not stand ends nobody's connections.
            let targets = std::mem::take(&mut pending.kills);
            pending.open.ended = failure.is_none() && !targets.is_empty();
            if pending.open.ended {
                self.out.push(Action::Kill { ticket, targets });
            }
        }
        match failure {
            Some(error) => self.wall_failed(error, now),
            None => {
                self.orders.retry_wait = Span::ZERO;
                self.trouble(WALL, None, now.stamp);
                let owed = std::mem::take(&mut self.orders.owed);
                if self.lasting || owed {
                    self.end_what_came_in();
                }
            }
        }
        self.finish(ticket, Some(now));
    }

    /// Ends the connections of everybody who is banned: where the firewall lets open ones go on, or where their ban
    /// did not stand when it was made, whoever came in before the wall stood would stay.
    fn end_what_came_in(&mut self) {
        if self.config.ban().policy.kill_states && !self.table.is_empty() {
            let targets = self.table.entries().map(|entry| (entry.key.prefix, entry.key.ports)).collect();
            self.end(targets, Pending::default());
        }
    }

    /// Something of the wall does not stand: say so, and build it anew soon.
    fn wall_failed(&mut self, what: String, now: Now) {
        self.orders.owed = true;
        // Further failures do not put off what is to come already.
        if self.orders.retry_at.is_none() {
            self.orders.retry_wait = self.orders.retry_wait.times(2.0).clamp(RETRY_FIRST, RETRY_MOST);
            self.orders.retry_at = Some(now.tick.plus(self.orders.retry_wait));
        }
        let wait = self.orders.retry_wait;
        self.trouble(WALL, Some(format!("{what}; what stood still stands, and it is tried again every {wait} or so")), now.stamp);
    }

    /// Answers and tells once nothing of the order is outstanding.
    fn finish(&mut self, ticket: u64, now: Option<Now>) {
        if self.orders.pending.get(&ticket).is_none_or(|pending| pending.open != Open::default()) {
            return;
        }
        let Some(mut pending) = self.orders.pending.remove(&ticket) else { return };
        let mut untold = Some(pending.killed);
        for mut notice in pending.notices.drain(..) {
            if let What::Ban { killed, .. } | What::Imported { killed, .. } | What::Killed(killed) = &mut notice.what {
                *killed = untold.take().unwrap_or_default();
            }
            self.tell(notice.at, notice.prefix, notice.what);
        }
        if let (Some((what, seen, repaired)), Some(now)) = (pending.drift, now) {
            let millis = now.tick.since(seen).as_millis();
            self.tell(now.stamp, None, What::Drift { what, repaired, millis });
        }
        if let Some((id, mut reply)) = pending.answer {
            match &mut reply {
                Reply::Bans { killed, .. } | Reply::Imported(Imported { killed, .. }) | Reply::Killed(killed) => *killed = pending.killed,
                _ => {}
            }
            self.out.push(Action::Answer { id, reply });
        }
    }

    /// Repairs that come one upon the other are a fight with another program, which nobody wins: that is told.
    fn contest(&mut self, seen: Tick, now: Now) {
        self.orders.repairs.push_back(seen);
        if self.orders.repairs.len() > CONTEST {
            self.orders.repairs.pop_front();
        }
        let first = self.orders.repairs.front().copied().unwrap_or(seen);
        if self.orders.repairs.len() == CONTEST && seen.since(first) <= CONTEST_WITHIN {
            let what = format!(
                "somebody changes what is ours again and again, {CONTEST} times within {CONTEST_WITHIN}; find out who (`nft monitor`, `ps`), as the wall is \
                 open for moments each time"
            );
            self.trouble(CONTESTED, Some(what), now.stamp);
        }
    }

    /// A fight that is over.
    pub(super) fn calm(&mut self, now: Now) {
        if self.orders.repairs.back().is_some_and(|last| now.tick.since(*last) > CONTEST_WITHIN) {
            self.orders.repairs.clear();
            self.trouble(CONTESTED, None, now.stamp);
        }
    }

    /// Somebody else changed our objects: put back what should stand, take away what should not.
    pub(super) fn drifted(&mut self, keys: Option<Vec<Key>>, what: String, seen: Tick, now: Now) {
        if self.down {
            return;
        }
        self.counts.drift += 1;
        self.contest(seen, now);
        let Some(keys) = keys.filter(|keys| keys.len() < REBUILD_FROM || keys.len() < self.table.len() / REBUILD_PART) else {
            let repaired = u64::try_from(self.table.len()).unwrap_or(u64::MAX);
            self.rebuild(Pending { drift: Some((what, seen, repaired)), ..Pending::default() });
            return;
        };
        let repaired = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        let mut order = Order::new();
        for key in keys {
            match self.table.get(&key) {
                Some(ban) if !ban.until.over(now.stamp) => order.block(Entry { key, until: ban.until }, false),
                _ => order.release(key),
            }
        }
        self.order(order, Pending { drift: Some((what, seen, repaired)), ..Pending::default() });
    }

    /// The order that makes new bans stand, each with whether it ends connections.
    pub(super) fn blocks(bans: &[(Ban, bool)]) -> Order {
        let mut order = Order::new();
        for (ban, kill) in bans {
            order.block(Entry { key: ban.key.clone(), until: ban.until }, *kill);
        }
        order
    }
}
