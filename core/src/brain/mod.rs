//! The brain: an event in, actions out, and the next moment at which it wants to be asked again.
//!
//! It holds everything that is decided from: the config, who is protected, what is being counted,
//! who is shut out. It never reads a clock and never touches the world, so every behaviour of the
//! daemon can be replayed from its events.
//!
//! | file | what |
//! |---|---|
//! | [`io`] | [`Event`], [`Action`]: everything that enters and leaves |
//! | `mod` | the state, and which event goes where |
//! | `hearing` | attacks become bans |
//! | `asking` | requests become answers |
//! | `reporting` | what programs report becomes bans |
//! | `importing` | tables become bans |
//! | `feeding` | feeds become bans |
//! | `flooding` | censuses of the connection table become limits and bans |
//! | `wall` | bans become orders; what became of the orders |
//! | [`clock`] | steps of the wall clock |

mod asking;
pub mod clock;
mod feeding;
mod flooding;
mod hearing;
mod importing;
pub mod io;
mod lagging;
mod reporting;
#[cfg(test)]
mod tests;
mod wall;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::allow::{AllowList, Altered};
use crate::attack::JailName;
use crate::bans::ban::{Ban, Origin};
use crate::bans::order::Order;
use crate::bans::proof::Proof;
use crate::bans::table::BanTable;
use crate::bans::wall::{Frame, Key, Limits, Ports};
use crate::config::Config;
use crate::control::{Problem, Source, Tally};
use crate::event::{Allowed, Notice, Record, What};
use crate::flood::guard::FloodGuard;
use crate::judge::Court;
use crate::net::{Addr, Prefix};
use crate::scan::fail2ban::Shortfall;
use crate::time::{Now, Span, Stamp, Tick};

pub use feeding::Fed;
pub use io::{Action, Batch, Event, Kept};
use wall::{Orders, Pending};

/// Whether what is decided is also done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    Enforce,
    /// It is told only: nothing in the kernel, nothing of it in the store.
    Observe,
}

/// How often at the latest the brain wants to look at its windows, to forget what is over.
const SWEEP: Span = Span::secs(10);

/// How long a refusal is not told again for the same protecting member.
const REFUSAL_QUIET: Span = Span::secs(60);
/// How many members' last refusals are remembered before the old ones are thrown out.
const REFUSALS_KEPT: usize = 1024;

/// How many past sentences are remembered, to tell repeat offenders. About 100 bytes each.
const SENTENCES: usize = 131_072;

/// The brain.
pub struct Brain {
    config: Config,
    mode: Mode,
    backend: String,
    /// Whether the firewall can limit a ban to ports. One that cannot shuts out of all of them.
    ports: bool,
    /// Whether open connections go on past a ban there.
    lasting: bool,
    chosen: Option<String>,
    proof: Option<Proof>,
    clock: clock::Steady,
    started: Stamp,
    allow: AllowList,
    court: Court,
    table: BanTable,
    feeds: feeding::Feeds,
    floods: flooding::Floods,
    orders: Orders,
    /// Somebody had the wall taken down.
    down: bool,
    /// What the host said of itself last, whether the config wants it protected or not.
    host: Host,
    problems: BTreeMap<String, Problem>,
    sources: BTreeMap<String, Source>,
    lagging: lagging::Lagging,
    /// What the filters of these jails left undone.
    shortfalls: BTreeMap<JailName, Shortfall>,
    counts: Counts,
    /// What each jail has done since start.
    tallies: BTreeMap<JailName, Tally>,
    sweep_at: Tick,
    refusals: BTreeMap<Prefix, Stamp>,
    out: Vec<Action>,
    records: Vec<Record>,
}

/// The host's own surroundings.
#[derive(Clone, Debug, Default)]
struct Host {
    own: BTreeSet<Addr>,
    gateways: BTreeSet<Addr>,
    resolvers: BTreeSet<Addr>,
}

/// Counted since start.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    lines: u64,
    oversize: u64,
    attacks: u64,
    drift: u64,
}

impl Brain {
    /// Wakes up with what the store kept. The first actions put the wall up; they come with the
    /// first [`Brain::handle`].
    pub fn new(config: Config, mode: Mode, backend: &str, limits: Limits, kept: Kept, now: Now) -> Self {
        let mut brain = Self {
            allow: AllowList::new(),
            court: Court::new(config.limits().tracked_sources, SENTENCES),
            table: BanTable::new(config.limits().bans.min(limits.bans)),
            floods: flooding::Floods::new(FloodGuard::new(config.conntrack().clone())),
            config,
            mode,
            backend: backend.to_owned(),
            ports: limits.ports,
            lasting: limits.lasting,
            chosen: None,
            proof: None,
            clock: clock::Steady::new(now),
            started: now.stamp,
            feeds: feeding::Feeds::default(),
            orders: Orders::default(),
            down: false,
            host: Host::default(),
            problems: BTreeMap::new(),
            sources: BTreeMap::new(),
            lagging: lagging::Lagging::default(),
            shortfalls: BTreeMap::new(),
            counts: Counts::default(),
            tallies: BTreeMap::new(),
            sweep_at: now.tick.plus(SWEEP),
            refusals: BTreeMap::new(),
            out: Vec::new(),
            records: Vec::new(),
        };
        let _ = brain.allow.set_config(brain.config.allow().prefixes.iter().copied());
        brain.restore(kept, now.stamp);
        brain.recall_feeds();
        brain.fit_ports(now.stamp);
        brain
    }

    /// Some of the bans that stand and do not end within moments, the first of them.
    pub fn sample(&self, most: usize) -> Vec<Key> {
        let soon = self.clock.last().stamp.plus(SWEEP);
        self.table.entries().filter(|entry| !entry.until.over(soon)).take(most).map(|entry| entry.key).collect()
    }

    /// Whether the wall took all that it was last told.
    pub fn stands_whole(&self) -> bool {
        self.orders.retry_at.is_none() && !self.down
    }

    /// Which firewall was chosen and why, and what was proven of it: for whoever asks how things are.
    pub fn about_wall(&mut self, chosen: String, proof: Proof) {
        self.chosen = Some(chosen);
        self.proof = Some(proof);
    }

    /// Takes over what the store kept. A wall clock behind the latest kept moment counts as no time
    /// gone by: nobody is released early because a clock without battery starts in the past.
    fn restore(&mut self, kept: Kept, now: Stamp) {
        let behind = kept.last_moment.map_or(0, |last| now.0.saturating_sub(last.0).min(0));
        for allowed in kept.allowed {
            let _ = self.allow.add_by_hand(allowed.prefix, allowed.until, &allowed.comment);
        }
        for (jail, unit, at, score) in kept.failures {
            if let Some(jail) = self.config.jail(&jail) {
                self.court.judge.restore(&jail.name, &jail.policy, unit, at, score);
            }
        }
        for sentence in kept.sentences {
            self.court.past.add(sentence);
        }
        let mut bans = kept.bans;
        if bans.len() > self.table.capacity() {
            // Who was shut out by hand, and for longest, first.
            bans.sort_by_key(|ban| (ban.origin != Origin::Manual, Reverse(ban.until)));
        }
        let mut beyond = 0;
        for mut ban in bans {
            if !self.ports && ban.key.ports != Ports::All {
                self.records.push(Record::Unban(ban.key.clone()));
                ban.key.ports = Ports::All;
                self.records.push(Record::Ban(ban.clone()));
            }
            beyond += usize::from(!self.table.restore(ban) && self.table.len() == self.table.capacity());
        }
        if beyond > 0 {
            let what = format!(
                "{beyond} of the stored bans are more than {} that {} holds, and do not stand; unban some, or choose another backend in [ban]",
                self.table.capacity(),
                self.backend
            );
            self.trouble("capacity", Some(what), now);
        }
        if behind < 0 {
            self.shift(behind, now, "the clock is behind the last moment that was kept");
        }
        let over = self.table.expire(now);
        self.records.extend(over.into_iter().map(|ban| Record::Unban(ban.key)));
        // What is protected may have changed while nothing ran. The wall is not up yet, so there is nothing to release.
        let members: Vec<Prefix> = self.allow.prefixes(now).into_iter().collect();
        for ban in members.iter().flat_map(|member| self.take_within(*member)).collect::<Vec<_>>() {
            self.tell(now, Some(ban.key.prefix), What::Unban { by: "allow list".to_owned() });
            self.records.push(Record::Unban(ban.key));
        }
        for ban in self.table.iter() {
            if let Origin::Jail(jail) = ban.origin {
                self.tallies.entry(jail).or_default().restored += 1;
            }
        }
    }

    /// Takes the bans out of the table that lie wholly within a protected prefix and were not made
    /// with `--force`.
    fn take_within(&mut self, member: Prefix) -> Vec<Ban> {
        let keys: Vec<_> = self.table.within(member).filter(|ban| !ban.key.forced).map(|ban| ban.key).collect();
        keys.iter().filter_map(|key| self.table.remove(key)).collect()
    }

    /// Takes one event and appends what follows from it to `out`.
    pub fn handle(&mut self, event: Event, now: Now, out: &mut Vec<Action>) {
        let step = self.clock.step(now);
        if step != 0 {
            self.shift(step, now.stamp, "the wall clock was stepped");
        }
        match event {
            Event::Heard(batch) => self.heard(batch, now.stamp),
            Event::Asked { id, who, request } => self.asked(id, &who, request, now),
            Event::Applied { ticket, failed } => self.applied(ticket, failed, now),
            Event::Ended { ticket, killed, error } => self.ended(ticket, killed, error, now),
            Event::Rebuilt { ticket, result } => self.rebuilt(ticket, result, now),
            Event::StillUp(error) => self.still_up(&error, now),
            Event::Drifted { keys, what, seen } => self.drifted(keys, what, seen, now),
            Event::Host { own, gateways, resolvers } => {
                let before = std::mem::replace(&mut self.host, Host { own, gateways, resolvers });
                let altered = self.protect_host();
                self.moved(&before.own, now);
                self.allow_changed(altered, "the host's own surroundings", now.stamp);
            }
            Event::Sessions(peers) if self.config.allow().auto.admin_sessions => {
                let altered = self.allow.set_sessions(peers, now.stamp);
                self.allow_changed(altered, "admin session", now.stamp);
            }
            Event::Sessions(_) | Event::Idle => {}
            Event::Names(addrs) => {
                let altered = self.allow.set_names(addrs);
                self.allow_changed(altered, "allowed name", now.stamp);
            }
            Event::Trouble { about, what } => self.trouble(&about, what, now.stamp),
            Event::Behind { source, bytes, since } => self.behind(&source, bytes, since, now),
            Event::Noted(what) => self.tell(now.stamp, None, what),
            Event::Gauged(gauge) => self.gauged(gauge, now),
            Event::Uncounted => self.uncounted(now),
            Event::Counted(census) => self.counted(*census, now),
            Event::Limited(dropped) => self.limited(&dropped, now),
            Event::Fed(fed) => self.fed(*fed, now.stamp),
            Event::Fetched { id, names } => self.fetched(id, names),
            Event::Forgotten => self.tell_all(),
            Event::Configured(config) => {
                self.forget_lags(now.stamp);
                self.configured(*config, now.stamp);
            }
        }
        self.pass(now);
        self.hand_out(out);
    }

    /// The actions, what is to be kept before any answer: who is told of a change finds it in the store. What is told
    /// comes before what is kept: who finds in the store that something happened can rely on that it has been told.
    fn hand_out(&mut self, out: &mut Vec<Action>) {
        if !self.records.is_empty() {
            self.out.sort_by_key(|action| !matches!(action, Action::Tell(_)));
            let answer = self.out.iter().position(|action| matches!(action, Action::Answer { .. }));
            let records = std::mem::take(&mut self.records);
            self.out.insert(answer.unwrap_or(self.out.len()), Action::Keep(records));
        }
        out.append(&mut self.out);
    }

    /// When to be asked again with [`Event::Idle`] if nothing happens before.
    pub fn next_deadline(&self, now: Now) -> Tick {
        if self.feeds.busy() {
            return now.tick;
        }
        let moments = [self.table.next_deadline(), self.allow.next_deadline()];
        let by_wall = moments.into_iter().flatten().min().map(|at| now.tick.plus(at.since(now.stamp)));
        [by_wall, self.orders.retry_at, self.floods.next_deadline(), Some(self.sweep_at)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.sweep_at)
    }

    /// What time by itself does: bans and protections end, windows are forgotten, a failed wall is built again.
    fn pass(&mut self, now: Now) {
        let over = self.table.expire(now.stamp);
        if !over.is_empty() {
            self.release(&over, now.stamp, |_| What::Expired);
        }
        let altered = self.allow.expire(now.stamp);
        if !altered.is_empty() {
            self.allow_changed(altered, "", now.stamp);
        }
        self.feed_on(now);
        self.flood_on(now);
        if now.tick >= self.sweep_at {
            self.court.judge.sweep(now.stamp);
            self.calm(now);
            self.sweep_at = now.tick.plus(SWEEP);
        }
        if self.orders.retry_at.is_some_and(|at| now.tick >= at) {
            self.rebuild(Pending::default());
        }
    }

    /// The wall clock moved by `ms`: so does every kept moment, and what is left of each ban stays.
    fn shift(&mut self, ms: i64, now: Stamp, why: &str) {
        self.table.shift(ms);
        self.court.shift(ms);
        self.allow.shift(ms);
        self.floods.shift(ms);
        self.records.push(Record::Shift(ms));
        self.tell(
            now,
            None,
            What::Daemon { what: format!("{why}: all times moved by {} s, what is left of each ban is unchanged", ms / 1000) },
        );
    }

    /// Everything that is to be kept, for a store that lost it. The counted failures are lost: at
    /// worst an attacker gets a few more tries.
    fn tell_all(&mut self) {
        if self.mode == Mode::Enforce {
            self.records.extend(self.table.iter().map(Record::Ban));
        }
        let by_hand = self.allow.members(self.started).filter_map(|member| match member.why {
            crate::allow::Why::Hand { comment } => Some(Record::Allow(Allowed {
                prefix: member.prefix,
                since: self.started,
                until: member.until,
                comment: comment.to_string(),
            })),
            _ => None,
        });
        self.records.extend(by_hand);
    }

    /// Bans of single ports become bans of all where the firewall knows no ports: shut out too much
    /// rather than not at all, and say so.
    fn fit_ports(&mut self, now: Stamp) {
        if !self.ports && self.config.forget_ports() {
            let what = format!("{} knows no ports: bans of jails with `ports` shut out of all of them", self.backend);
            self.tell(now, None, What::Daemon { what });
        }
    }

    fn configured(&mut self, config: Config, now: Stamp) {
        self.config = config;
        self.shortfalls.retain(|jail, _| self.config.jail(jail).is_some());
        self.floods.guard.configure(self.config.conntrack().clone());
        self.floods.dirty = true;
        self.fit_ports(now);
        let mut altered = self.allow.set_config(self.config.allow().prefixes.iter().copied());
        altered.added.extend(self.protect_host().added);
        self.tell(now, None, What::Daemon { what: "config read anew".to_owned() });
        self.lift_protected(&altered, "config", now);
        self.order_frame(now);
        self.follow(now);
        self.feeds.look_again();
    }

    /// Whether there is work left that waits for nobody: [`Event::Idle`] goes on with it.
    pub fn busy(&self) -> bool {
        self.feeds.busy()
    }

    /// Protects what of the host's surroundings the config wants protected, and no longer what it does not.
    fn protect_host(&mut self) -> Altered {
        let auto = self.config.allow().auto;
        let Host { own, gateways, resolvers } = self.host.clone();
        let wanted = |on: bool, addrs: BTreeSet<Addr>| if on { addrs } else { BTreeSet::new() };
        let steps = [
            self.allow.set_own(wanted(auto.own, own)),
            self.allow.set_gateways(wanted(auto.gateways, gateways)),
            self.allow.set_resolvers(wanted(auto.resolvers, resolvers)),
        ];
        let mut all = Altered::default();
        for altered in steps {
            all.added.extend(altered.added);
            all.removed.extend(altered.removed);
        }
        all
    }

    /// The allow list changed: lift what it protects now, tell the wall.
    fn allow_changed(&mut self, altered: Altered, by: &str, now: Stamp) {
        if altered.is_empty() {
            return;
        }
        self.lift_protected(&altered, by, now);
        self.order_frame(now);
        if !altered.removed.is_empty() {
            self.feeds.look_again();
        }
    }

    /// Ends the bans that lie wholly within a new member; of wider ones the wall's allow list
    /// spares the member. Bans made with `--force` stay.
    fn lift_protected(&mut self, altered: &Altered, by: &str, now: Stamp) -> Vec<Ban> {
        let lifted: Vec<Ban> = altered.added.iter().flat_map(|member| self.take_within(*member)).collect();
        if !lifted.is_empty() {
            let by = format!("allow list: {by}");
            self.release(&lifted, now, |_| What::Unban { by: by.clone() });
        }
        lifted
    }

    fn frame(&self, now: Stamp) -> Frame {
        Frame { allow: self.allow.prefixes(now), refusal: self.config.ban().refusal }
    }

    fn order_frame(&mut self, now: Stamp) {
        let frame = self.frame(now);
        let mut order = Order::new();
        order.frame(frame);
        self.order(order, Pending::default());
    }

    fn trouble(&mut self, about: &str, what: Option<String>, now: Stamp) {
        match what {
            Some(what) => {
                let old = self.problems.get(about);
                if old.is_some_and(|p| p.what == what) {
                    return;
                }
                let since = old.map_or(now, |p| p.since);
                self.problems.insert(about.to_owned(), Problem { about: about.to_owned(), what: what.clone(), since });
                self.tell(now, None, What::Problem { about: about.to_owned(), what });
            }
            None => {
                if self.problems.remove(about).is_some() {
                    self.tell(now, None, What::Solved { about: about.to_owned() });
                }
            }
        }
    }

    /// Tells something about the daemon itself, and hands out what is to be kept.
    pub fn note(&mut self, what: What, now: Now, out: &mut Vec<Action>) {
        self.tell(now.stamp, None, what);
        self.hand_out(out);
    }

    fn tell(&mut self, at: Stamp, prefix: Option<Prefix>, what: What) {
        let notice = Notice { at, prefix, what };
        self.records.push(Record::Notice(notice.clone()));
        self.out.push(Action::Tell(notice));
    }
}
