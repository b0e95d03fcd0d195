//! Feeds become bans.
//!
//! Each feed is a set of its own. What stands of their members follows from one rule, [`Brain::settle`], asked anew
//! whenever something about a prefix changed: a feed took it up or dropped it, another's ban of it ended, the allow
//! list let it go. A large list is worked through in parts, so that an attack is never kept waiting by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::wall::{Pending, REBUILD_FROM, REBUILD_PART};
use super::{Action, Brain, Mode};
use crate::bans::ban::{Ban, Origin};
use crate::bans::order::Order;
use crate::bans::table::{Change, NewBan};
use crate::bans::wall::{Entry, Key, Report as Done};
use crate::config::Feed;
use crate::control::{FeedStatus, Reply};
use crate::event::{KillCount, Notice, Record, What};
use crate::feeds::{Changes, Report};
use crate::net::Prefix;
use crate::ports::Ports;
use crate::time::{Now, Stamp, Until};

/// How many members are settled between two events: a few milliseconds.
const AT_ONCE: usize = 4096;

/// What the problem list calls members for which there is no room.
const FEEDS: &str = "feeds";

/// Exit code of what makes no sense (see `palisade --help`).
const EXIT_USAGE: u8 = 2;

/// What came of looking at a feed's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// Which feed.
    pub name: Arc<str>,
    /// Its members, sorted and none within another; `None`: those that it had.
    pub members: Option<Vec<Prefix>>,
    /// How it went.
    pub report: Report,
    /// Whether its source was asked; else this is what was good last, as it was kept.
    pub looked: bool,
}

/// All feeds that are followed.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    sets: BTreeMap<Arc<str>, Set>,
    /// Members that are listed and yet do not stand, and why.
    aside: BTreeMap<Prefix, Aside>,
    /// Whose ban may not be what it should be.
    todo: BTreeSet<Prefix>,
    /// Members that stood made room since those for which there was none were last tried.
    freed: bool,
    /// So much changes that the wall is built anew in the end, in place of many orders: whose connections to end then.
    anew: Option<Vec<(Prefix, Ports)>>,
    /// Who waits until all of that is done.
    asked: Vec<(u64, Vec<Arc<str>>)>,
}

#[derive(Debug, Default)]
struct Set {
    members: Vec<Prefix>,
    report: Report,
}

impl Set {
    fn lists(&self, prefix: Prefix) -> bool {
        self.members.binary_search(&prefix).is_ok()
    }
}

/// Why a member does not stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aside {
    /// The allow list protects it.
    Protected,
    /// The ban table is full.
    NoRoom,
    /// Somebody unbanned it by hand: until the next look at a list that has it.
    Lifted,
}

impl Feeds {
    /// The first feed by name that lists this prefix.
    fn lister(&self, prefix: Prefix) -> Option<&Arc<str>> {
        self.sets.iter().find(|(_, set)| set.lists(prefix)).map(|(name, _)| name)
    }

    /// Somebody unbanned it by hand. Which feed lists it, if any does.
    pub(super) fn lift(&mut self, prefix: Prefix) -> Option<Arc<str>> {
        let name = self.lister(prefix)?.clone();
        self.aside.insert(prefix, Aside::Lifted);
        Some(name)
    }

    /// The allow list protects less than before.
    pub(super) fn look_again(&mut self) {
        self.todo.extend(self.aside.iter().filter(|(_, why)| **why == Aside::Protected).map(|(prefix, _)| *prefix));
    }

    /// Whether there are members to settle, or somebody to answer.
    pub(super) fn busy(&self) -> bool {
        !self.todo.is_empty() || !self.asked.is_empty()
    }

    /// Whether this problem is a feed's whose last good list stands: nothing that was enforced is not any more.
    pub(super) fn only_stale(&self, about: &str) -> bool {
        about.strip_prefix("feed ").and_then(|name| self.sets.get(name)).is_some_and(|set| !set.members.is_empty())
    }
}

/// What the problem list calls a feed.
fn about(name: &str) -> String {
    format!("feed {name}")
}

impl Brain {
    /// Takes over from the table what each feed listed last: until the lists themselves are told.
    pub(super) fn recall_feeds(&mut self) {
        for (prefix, name) in self.table.fed() {
            let set = match self.feeds.sets.get_mut(name) {
                Some(set) => set,
                None => self.feeds.sets.entry(name.clone()).or_default(),
            };
            // Keys come in the order of their prefixes, and a feed's are of all ports.
            set.members.push(prefix);
        }
        self.drop_unfollowed();
    }

    /// Lets go of feeds that the config does not follow. What the problem list said of them is over.
    pub(super) fn drop_unfollowed(&mut self) -> Vec<Arc<str>> {
        let gone: Vec<Arc<str>> = self.feeds.sets.keys().filter(|name| self.config.feed(name).is_none()).cloned().collect();
        for name in &gone {
            self.feeds.todo.extend(self.feeds.sets.remove(name).into_iter().flat_map(|set| set.members));
        }
        gone
    }

    /// The feeds of a new config.
    pub(super) fn follow(&mut self, now: Stamp) {
        for name in self.drop_unfollowed() {
            self.trouble(&about(&name), None, now);
        }
    }

    /// A list was looked at.
    pub(super) fn fed(&mut self, fed: Fed, now: Stamp) {
        let Fed { name, members, mut report, looked } = fed;
        // The config may have changed while it was fetched.
        if self.config.feed(&name).is_none() {
            return;
        }
        let set = self.feeds.sets.entry(name.clone()).or_default();
        if let Some(members) = members {
            let changes = Changes::between(&set.members, &members);
            self.feeds.todo.extend(changes.added);
            self.feeds.todo.extend(changes.removed);
            set.members = members;
            let todo = self.feeds.todo.len();
            if looked && todo >= REBUILD_FROM && todo >= self.table.len() / REBUILD_PART {
                self.feeds.anew.get_or_insert_default();
            }
        }
        if !looked {
            // What was wrong with it is so until it is asked again.
            report.error = set.report.error.take();
        } else if report.error.is_none() {
            let again = self.feeds.aside.keys().filter(|prefix| set.lists(**prefix)).copied();
            self.feeds.todo.extend(again);
            self.feeds.aside.retain(|prefix, why| *why != Aside::Lifted || !set.lists(*prefix));
        }
        set.report = report;
        let (total, added, removed) = (set.members.len(), set.report.added, set.report.removed);
        let stands = if total == 0 { "nothing of it stands yet" } else { "the last good list is followed on" };
        let what = set.report.error.as_ref().map(|error| format!("{error}; {stands}, and it is asked for again"));
        if !looked {
            return;
        }
        if added + removed > 0 && what.is_none() {
            self.tell(now, None, What::Fed { feed: name.to_string(), members: total, added, removed });
        }
        self.trouble(&about(&name), what, now);
    }

    /// Settles the next members, and answers who waited for the last of them.
    pub(super) fn feed_on(&mut self, now: Now) {
        if !self.feeds.busy() {
            return;
        }
        let mut order = Order::new();
        for _ in 0..AT_ONCE {
            let Some(prefix) = self.feeds.todo.pop_first() else { break };
            let _ = self.settle(prefix, now.stamp, &mut order);
        }
        match &mut self.feeds.anew {
            Some(kills) => kills.extend(order.kills(&Done::all_done(order.len()))),
            None if order.is_empty() => {}
            None => self.order(order, Pending::default()),
        }
        if self.feeds.todo.is_empty() && std::mem::take(&mut self.feeds.freed) {
            let roomless = self.feeds.aside.iter().filter(|(_, why)| **why == Aside::NoRoom).map(|(prefix, _)| *prefix);
            self.feeds.todo.extend(roomless);
        }
        if !self.feeds.todo.is_empty() {
            return;
        }
        if let Some(kills) = self.feeds.anew.take() {
            self.rebuild(Pending { kills, ..Pending::default() });
        }
        let full = self.feeds.aside.values().any(|why| *why == Aside::NoRoom).then(|| {
            "members of feeds do not stand, as the ban table is full; raise [limits] bans, or follow fewer feeds (`palisade feed list`)"
                .to_owned()
        });
        self.trouble(FEEDS, full, now.stamp);
        for (id, names) in std::mem::take(&mut self.feeds.asked) {
            let feeds = self.feed_list().into_iter().filter(|feed| names.iter().any(|name| **name == *feed.name)).collect();
            // Behind the orders above: who is answered finds the members in the firewall.
            self.order(Order::new(), Pending { answer: Some((id, Reply::Refreshed { feeds })), ..Pending::default() });
        }
    }

    /// The one rule of what stands of the feeds' members: one that any of them lists is banned, unless somebody else
    /// banned it, the allow list protects it, or it was unbanned by hand; one that none lists is not banned by a feed.
    /// Gives the ban where one began.
    pub(super) fn settle(&mut self, prefix: Prefix, now: Stamp, order: &mut Order) -> Option<Ban> {
        let key = Key::all(prefix);
        let lister = self.feeds.lister(prefix).cloned();
        let standing = self.table.origin_of(&key).cloned();
        let Some(name) = lister else {
            self.feeds.aside.remove(&prefix);
            if standing.is_some_and(|origin| origin.is_feed()) {
                self.table.remove(&key);
                self.feeds.freed = true;
                order.release(key.clone());
                self.keep(Record::Unban(key));
            }
            return None;
        };
        match standing {
            Some(Origin::Feed(held)) if held == name => return None,
            Some(Origin::Feed(_)) => drop(self.table.remove(&key)),
            // Of a lost store's bans those without an end were a feed's, as far as anybody knows.
            Some(Origin::Recovered) if self.table.get(&key).is_some_and(|ban| ban.until == Until::Forever) => {
                self.table.remove(&key);
            }
            Some(_) => return None,
            None if self.feeds.aside.get(&prefix) == Some(&Aside::Lifted) => return None,
            None => {}
        }
        let Ok(who) = self.allow.bannable(prefix, now) else {
            self.feeds.aside.insert(prefix, Aside::Protected);
            return None;
        };
        let reason = format!("listed by {name}").into();
        let new = NewBan { who, ports: Ports::All, since: now, until: Until::Forever, origin: Origin::Feed(name), reason, offences: 1 };
        match self.table.ban(new) {
            Ok(Change::New { ban, .. } | Change::Extended { ban, .. }) => {
                self.feeds.aside.remove(&prefix);
                order.block(Entry { key: ban.key.clone(), until: ban.until }, self.config.ban().policy.kill_states);
                self.keep(Record::Ban(ban.clone()));
                Some(ban)
            }
            Ok(Change::Unchanged { .. }) => None,
            Err(_) => {
                self.feeds.aside.insert(prefix, Aside::NoRoom);
                None
            }
        }
    }

    /// Bans of others ended: those that a feed lists are banned by it now, in the same order, so that nothing passes
    /// in between. What began of them.
    pub(super) fn settle_ended(&mut self, ended: &[Ban], now: Stamp, order: &mut Order) -> Vec<Ban> {
        if self.feeds.sets.is_empty() {
            return Vec::new();
        }
        ended.iter().filter(|ban| ban.key == Key::all(ban.key.prefix)).filter_map(|ban| self.settle(ban.key.prefix, now, order)).collect()
    }

    /// What is to be told of such a ban.
    pub(super) fn began(ban: &Ban, now: Stamp) -> Notice {
        let (until, origin, reason) = (ban.until, ban.origin.clone(), ban.reason.clone());
        let what = What::Ban { until, origin, reason, offences: ban.offences, killed: KillCount::default() };
        Notice { at: now, prefix: Some(ban.key.prefix), what }
    }

    fn keep(&mut self, record: Record) {
        if self.mode == Mode::Enforce {
            self.records.push(record);
        }
    }

    /// Has lists looked at now, if there are such.
    pub(super) fn refresh(&mut self, id: u64, names: &[String], accept: bool) {
        let feeds: Vec<&Feed> = self.config.feeds().values().filter(|feed| feed.enabled).collect();
        let known: Vec<&str> = feeds.iter().map(|feed| &*feed.name).collect();
        let message = if known.is_empty() {
            Some("no feed is followed; write one in [feed.NAME] of the config".to_owned())
        } else {
            let unknown = names.iter().find(|name| !known.contains(&name.as_str()));
            unknown.map(|name| format!("no feed `{name}` is followed; there are: {}", known.join(", ")))
        };
        if let Some(message) = message {
            return self.out.push(Action::Answer { id, reply: Reply::Failed { exit: EXIT_USAGE, message } });
        }
        let meant = |feed: &&&Feed| names.is_empty() || names.iter().any(|name| **name == *feed.name);
        let names = feeds.iter().filter(meant).map(|feed| feed.name.clone()).collect();
        self.out.push(Action::Fetch { id, names, accept });
    }

    /// They have been looked at, and what came of it was told.
    pub(super) fn fetched(&mut self, id: u64, names: Vec<Arc<str>>) {
        self.feeds.asked.push((id, names));
    }

    /// Every feed of the config.
    pub(super) fn feed_list(&self) -> Vec<FeedStatus> {
        let one = |feed: &Feed| {
            let set = self.feeds.sets.get(&feed.name).filter(|_| feed.enabled);
            let mut status = FeedStatus {
                name: feed.name.to_string(),
                enabled: feed.enabled,
                source: feed.source.to_string(),
                members: set.map_or(0, |set| set.members.len()),
                report: set.map(|set| set.report.clone()).unwrap_or_default(),
                ..FeedStatus::default()
            };
            for (_, why) in self.feeds.aside.iter().filter(|(prefix, _)| set.is_some_and(|set| set.lists(**prefix))) {
                *match why {
                    Aside::Protected => &mut status.protected,
                    Aside::NoRoom => &mut status.no_room,
                    Aside::Lifted => &mut status.unbanned,
                } += 1;
            }
            status
        };
        self.config.feeds().values().map(one).collect()
    }
}
