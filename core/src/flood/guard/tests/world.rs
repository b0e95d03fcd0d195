//! A table, those who fill it, and a guard who watches.

use std::collections::{BTreeMap, BTreeSet};

use crate::flood::census::{Census, Held, Row};
use crate::flood::flow::{Endpoint, TCP};
use crate::flood::gauge::Gauge;
use crate::flood::guard::{FloodGuard, Said, State};
use crate::flood::settings::{Action, Settings};
use crate::flood::wanted::Culprit;
use crate::net::{Addr, Prefix};
use crate::time::{Now, Stamp, Tick};

/// What a gateway with a gigabyte of memory has.
pub(super) const MAX: u32 = 65_536;

/// Wall clock at the world's beginning.
const BEGIN: i64 = 1_795_366_800_000;

/// One who holds flows.
#[derive(Clone, Debug, Default)]
pub(super) struct Holder {
    /// How many now.
    pub flows: f64,
    /// How many more each second.
    pub rate: f64,
    /// How many of a /64's addresses; 0 or 1: a host.
    pub hosts: u32,
}

/// The world.
pub(super) struct World {
    pub guard: FloodGuard,
    pub holders: BTreeMap<Prefix, Holder>,
    /// Beside them: so many forged sources with one flow each to one endpoint.
    pub forged: Option<(Endpoint, u32)>,
    pub processes: Vec<Held>,
    /// Processes were looked for, though none may be there.
    pub looked: bool,
    pub own: BTreeSet<Addr>,
    pub exempt: Vec<Prefix>,
    pub max: u32,
    pub drop: u64,
    pub now: Now,
    pub said: Vec<(u64, Said)>,
    /// Packets the limits have dropped so far.
    pub dropped: BTreeMap<Culprit, u64>,
    /// Whether banned ones lose their flows at once.
    pub bans_work: bool,
    /// How many seconds pass at once: 1, or more where days are looked at.
    pub step: u32,
    taken: u64,
}

pub(super) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(super) fn source(text: &str) -> Culprit {
    Culprit::Source { prefix: prefix(text) }
}

pub(super) fn to(text: &str) -> Endpoint {
    text.parse().unwrap()
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            guard: FloodGuard::new(settings),
            holders: BTreeMap::new(),
            forged: None,
            processes: Vec::new(),
            looked: false,
            own: BTreeSet::new(),
            exempt: Vec::new(),
            max: MAX,
            drop: 0,
            now: Now { stamp: Stamp(BEGIN), tick: Tick(1_000_000) },
            said: Vec::new(),
            dropped: BTreeMap::new(),
            bans_work: true,
            step: 1,
            taken: 0,
        }
    }

    /// Twenty hosts that do nothing unusual, one of them busy: 800 flows.
    pub(super) fn lan(settings: Settings) -> Self {
        let mut world = Self::new(settings);
        for host in 1..=19 {
            world.hold(&format!("192.0.2.{host}"), 20.0 + 7.0 * f64::from(host), 0.0);
        }
        world.hold("192.0.2.20", 800.0, 0.0);
        world
    }

    pub(super) fn hold(&mut self, who: &str, flows: f64, rate: f64) {
        self.holders.insert(prefix(who), Holder { flows, rate, hosts: 1 });
    }

    pub(super) fn net(&mut self, who: &str, flows: f64, rate: f64, hosts: u32) {
        self.holders.insert(prefix(who), Holder { flows, rate, hosts });
    }

    pub(super) fn second(&self) -> u64 {
        (self.now.tick.0 - 1_000_000) / 1000
    }

    pub(super) fn count(&self) -> u32 {
        let held: f64 = self.holders.values().map(|holder| holder.flows).sum();
        let local: u32 = self.processes.iter().map(|held| held.flows).sum();
        whole(held).saturating_add(local).saturating_add(self.forged.map_or(0, |(_, flows)| flows)).min(self.max)
    }

    pub(super) fn gauge(&self) -> Gauge {
        Gauge { count: self.count(), max: self.max, drop: self.drop, ..Gauge::default() }
    }

    /// As it stands now.
    pub(super) fn census(&self) -> Census {
        let mut census = Census { flows: self.count().into(), ..Census::default() };
        for (prefix, holder) in &self.holders {
            let row = Row {
                prefix: *prefix,
                flows: whole(holder.flows),
                unreplied: 0,
                unassured: 0,
                opened: self.guard.wanted().listen.then_some(holder.rate.max(0.0) as f32),
                top: Some((to("203.0.113.9:443/tcp"), whole(holder.flows))),
                hosts: holder.hosts,
            };
            if prefix.is_host() { census.top.push(row) } else { census.nets.push(row) }
        }
        census.sources = census.top.len() as u64 + census.nets.iter().map(|net| u64::from(net.hosts)).sum::<u64>();
        if let Some((endpoint, flows)) = self.forged {
            census.sources += u64::from(flows);
            census.unassured = flows;
            census.endpoints.push((endpoint, flows));
        }
        census.top.sort_by_key(|row| std::cmp::Reverse(row.flows));
        census.typical = if self.forged.is_some() { (1, 1) } else { typical(&census.top) };
        census.processes = self.processes.clone();
        census.looked = self.looked;
        census
    }

    /// One step: all grow, what is limited is limited, the guard looks.
    pub(super) fn tick(&mut self) {
        self.now =
            Now { stamp: Stamp(self.now.stamp.0 + i64::from(self.step) * 1000), tick: Tick(self.now.tick.0 + u64::from(self.step) * 1000) };
        let step = f64::from(self.step);
        let wanted = self.guard.wanted();
        for (prefix, holder) in &mut self.holders {
            let limit = wanted.limits.iter().find(|limit| limit.whose == Culprit::Source { prefix: *prefix });
            let rate = limit.map_or(holder.rate, |limit| holder.rate.min(f64::from(limit.rate)));
            if let Some(limit) = limit {
                *self.dropped.entry(limit.whose).or_default() += ((holder.rate - rate) * step) as u64;
            }
            holder.flows = (holder.flows + rate * step).clamp(0.0, f64::from(self.max));
        }
        self.guard.gauge(self.gauge(), self.now);
        let pause = if self.guard.alarmed() { 1 } else { 10 };
        if self.second() >= self.taken + pause {
            self.look();
        }
        let dropped: Vec<(Culprit, u64)> = self.dropped.iter().map(|(culprit, packets)| (*culprit, *packets)).collect();
        self.guard.limited(&dropped, self.now);
        self.guard.pass(self.now);
        self.hear();
    }

    /// A census now.
    pub(super) fn look(&mut self) {
        self.taken = self.second();
        let (own, exempt, census) = (self.own.clone(), self.exempt.clone(), self.census());
        let why = |prefix: Prefix| exempt.iter().any(|one| one.overlaps(&prefix)).then(|| "it is on the allow list".to_owned());
        self.guard.census(census, &why, &|addr| own.contains(&addr), self.now);
    }

    pub(super) fn hear(&mut self) {
        let second = self.second();
        for said in self.guard.take() {
            if let Said::Ban { prefix, .. } = &said
                && self.bans_work
            {
                self.holders.remove(prefix);
            }
            self.said.push((second, said));
        }
    }

    pub(super) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds / u64::from(self.step) {
            self.tick();
        }
    }

    /// Until `done`, at most so many seconds; how many it took.
    pub(super) fn until(&mut self, most: u64, done: impl Fn(&Self) -> bool) -> Option<u64> {
        let begun = self.second();
        for _ in 0..most / u64::from(self.step) {
            self.tick();
            if done(self) {
                return Some(self.second() - begun);
            }
        }
        None
    }

    pub(super) fn named(&self) -> Vec<Culprit> {
        let named = |said: &Said| if let Said::Named { culprit, .. } = said { Some(*culprit) } else { None };
        self.said.iter().filter_map(|(_, said)| named(said)).collect()
    }

    pub(super) fn limited(&self) -> Vec<Culprit> {
        self.guard.wanted().limits.iter().map(|limit| limit.whose).collect()
    }

    pub(super) fn states(&self) -> Vec<(State, State)> {
        let state = |said: &Said| if let Said::State { from, to, .. } = said { Some((*from, *to)) } else { None };
        self.said.iter().filter_map(|(_, said)| state(said)).collect()
    }

    pub(super) fn count_of(&self, what: impl Fn(&Said) -> bool) -> usize {
        self.said.iter().filter(|(_, said)| what(said)).count()
    }

    pub(super) fn action_of(&self, culprit: Culprit) -> Option<Action> {
        let status = self.guard.status(self.now);
        status.offenders.iter().find(|offender| offender.culprit == culprit).map(|offender| offender.action)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is small")]
fn whole(flows: f64) -> u32 {
    flows as u32
}

/// Median and 90th percentile.
fn typical(top: &[Row]) -> (u32, u32) {
    let at = |share: usize| top.get(top.len() * share / 10).map_or(0, |row| row.flows);
    (at(5), at(1))
}

/// A process with flows to one port.
pub(super) fn process(uid: u32, comm: &str, flows: u32, endpoint: &str) -> Held {
    let process = crate::flood::owner::Process { pid: 4211, comm: comm.to_owned(), uid, user: None, unit: None };
    let mut endpoint = to(endpoint);
    if endpoint.protocol == 0 {
        endpoint.protocol = TCP;
    }
    Held { process, flows, opened: None, top: Some((endpoint, flows)), port: None }
}
