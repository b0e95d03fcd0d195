//! Censuses of the connection table become limits and bans.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::hearing::Ruling;
use super::wall::Pending;
use super::{Action, Brain, Mode};
use crate::allow::Why;
use crate::bans::ban::{Ban, Origin};
use crate::control::conntrack::{ConntrackReply, ConntrackRequest};
use crate::control::{FloodStatus, Reply};
use crate::event::{Record, What};
use crate::flood::census::Census;
use crate::flood::gauge::Gauge;
use crate::flood::guard::{FloodGuard, Said, State, Status};
use crate::flood::history::Recorder;
use crate::flood::settings::Action as Answer;
use crate::flood::wanted::{Culprit, Wanted};
use crate::net::{Addr, Prefix};
use crate::ports::Ports;
use crate::time::{Now, Span, Stamp, Tick};

/// An address that this host has lost is waited for so long: a lease that is renewed, a link that flaps, bring it back,
/// and its connections with it.
const GONE: Span = Span::secs(10);

/// The guard, and what belongs to it.
pub(super) struct Floods {
    pub(super) guard: FloodGuard,
    recorder: Recorder,
    gauge: Option<Gauge>,
    /// Something happened that may have changed what is wanted.
    pub(super) dirty: bool,
    /// What was wanted last; nothing is told twice.
    told: Option<(Wanted, bool)>,
    /// Addresses this host has lost, and when their states are ended.
    lost: Vec<(Addr, Tick)>,
}

impl Floods {
    pub(super) fn new(guard: FloodGuard) -> Self {
        Self { guard, recorder: Recorder::new(), gauge: None, dirty: false, told: None, lost: Vec::new() }
    }

    pub(super) fn shift(&mut self, ms: i64) {
        self.recorder.shift(ms);
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        let lost = self.lost.iter().map(|(_, at)| *at).min();
        [self.guard.next_deadline(), lost].into_iter().flatten().min()
    }

    /// The table in one line of `status`; `None` where it is not watched.
    pub(super) fn line(&self) -> Option<FloodStatus> {
        let gauge = self.gauge?;
        let limited = self.told.as_ref().map_or(0, |(wanted, _)| wanted.limits.len());
        Some(FloodStatus { count: gauge.count, max: gauge.max, state: self.guard.state(), limited, drops: gauge.drop })
    }
}

impl Brain {
    /// The table's gauge, each second.
    pub(super) fn gauged(&mut self, gauge: Gauge, now: Now) {
        self.floods.gauge = Some(gauge);
        self.floods.dirty = true;
        self.floods.guard.gauge(gauge, now);
        let points = self.floods.recorder.gauge(&gauge, now.stamp);
        self.records.extend(points.into_iter().map(Record::History));
    }

    /// Who holds how many.
    pub(super) fn counted(&mut self, census: Census, now: Now) {
        self.floods.recorder.census(&census);
        self.floods.dirty = true;
        let Self { floods, allow, host, .. } = self;
        // Protected are all that may never be banned: of this host's own addresses the processes are judged.
        let exempt = |prefix: Prefix| allow.bannable(prefix, now.stamp).err().map(|protected| protected.member.to_string());
        floods.guard.census(census, &exempt, &|addr| host.own.contains(&addr), now);
    }

    /// The daemon ends: the grains of the history that are open are kept as they stand.
    pub fn close_history(&mut self) {
        self.records.extend(self.floods.recorder.finish().into_iter().map(Record::History));
    }

    /// Nobody counts any more: what was known of the table is over.
    pub(super) fn uncounted(&mut self, now: Now) {
        self.floods.gauge = None;
        self.floods.guard.lost(now);
        self.floods.dirty = true;
    }

    /// What each limit has dropped.
    pub(super) fn limited(&mut self, dropped: &[(Culprit, u64)], now: Now) {
        self.floods.guard.limited(dropped, now);
        self.floods.dirty = true;
    }

    /// This host's addresses are these now, and were those.
    pub(super) fn moved(&mut self, before: &BTreeSet<Addr>, now: Now) {
        self.floods.guard.home(self.host.own.iter().copied());
        // What is wanted names them too.
        self.floods.told = None;
        self.floods.dirty = true;
        let own = &self.host.own;
        self.floods.lost.retain(|(addr, _)| !own.contains(addr));
        if self.config.conntrack().follow_addresses && self.mode == Mode::Enforce {
            let lost = before.difference(own).filter(|addr| carries(**addr)).map(|addr| (*addr, now.tick.plus(GONE)));
            self.floods.lost.extend(lost);
        }
    }

    /// What follows from what the guard came to, and from time.
    pub(super) fn flood_on(&mut self, now: Now) {
        if self.floods.guard.next_deadline().is_some_and(|at| at <= now.tick) {
            self.floods.guard.pass(now);
            self.floods.dirty = true;
        }
        let mut purged = Vec::new();
        for said in self.floods.guard.take() {
            self.guard_said(said, &mut purged, now);
        }
        self.purge(purged, now.stamp);
        let (gone, lost) = std::mem::take(&mut self.floods.lost).into_iter().partition::<Vec<_>, _>(|(_, at)| *at <= now.tick);
        self.floods.lost = lost;
        if !gone.is_empty() {
            self.out.push(Action::Forget { addrs: gone.into_iter().map(|(addr, _)| addr).collect() });
        }
        self.order_limits();
    }

    /// Tells the hands what should hold, where that changed. Who only observes has nobody limited, nor has whoever had the
    /// wall taken down.
    fn order_limits(&mut self) {
        if !std::mem::take(&mut self.floods.dirty) {
            return;
        }
        let mut wanted = self.floods.guard.wanted();
        if self.mode == Mode::Observe || self.down {
            wanted = Wanted { listen: wanted.listen, ..Wanted::default() };
        }
        let next = (wanted, self.floods.guard.alarmed());
        if self.floods.told.as_ref() != Some(&next) {
            self.floods.told = Some(next.clone());
            let own = self.host.own.iter().copied().collect();
            self.out.push(Action::Hold { wanted: Box::new(next.0), alarmed: next.1, own });
        }
    }

    /// Has the idle flows of culprits ended, but those of administrators.
    fn purge(&mut self, culprits: Vec<Culprit>, now: Stamp) {
        if culprits.is_empty() || self.mode == Mode::Observe {
            return;
        }
        let own = self.host.own.iter().copied().collect();
        let admins = self.allow.members(now).filter(|member| member.why == Why::AdminSession);
        let spare = admins.map(|member| member.prefix.addr()).collect();
        self.out.push(Action::Purge { culprits, own, spare });
    }

    /// Tells and does one thing the guard said; whose idle flows are to end is added to `purged`.
    fn guard_said(&mut self, said: Said, purged: &mut Vec<Culprit>, now: Now) {
        match said {
            Said::State { to, why, .. } => self.table_is(to, why, now.stamp),
            Said::Named { culprit, flows, new_per_second, why, process, action, exempt } => {
                let why = exempt.map_or_else(|| why.clone(), |exempt| format!("{why}; nothing is done: {exempt}"));
                let who = process.map_or_else(|| culprit.to_string(), |process| format!("{process}, {culprit},"));
                self.culprit(culprit, who, (flows, new_per_second), action, why, now.stamp);
            }
            Said::Grown { culprit, flows, new_per_second, to, why, .. } => {
                self.culprit(culprit, culprit.to_string(), (flows, new_per_second), to, why, now.stamp);
            }
            Said::Eased { culprit, .. } => self.tell(now.stamp, about(&culprit), What::Daemon { what: said.to_string() }),
            Said::Over { culprit, lasted, dropped } => {
                let what = What::CulpritOver { who: culprit.to_string(), seconds: lasted.as_secs_ceil(), dropped };
                self.tell(now.stamp, about(&culprit), what);
            }
            Said::Ban { prefix, term, why } => self.ban_for_flood(prefix, term.from(now.stamp), why, now.stamp),
            Said::Purge { culprit } => purged.push(culprit),
            Said::Dropped { explanation, .. } => self.table_is(self.floods.guard.state(), explanation, now.stamp),
        }
    }

    fn table_is(&mut self, state: State, what: String, now: Stamp) {
        let Gauge { count, max, .. } = self.floods.gauge.unwrap_or_default();
        self.tell(now, None, What::Table { state, count, max, what });
    }

    fn culprit(&mut self, culprit: Culprit, who: String, (flows, opened): (u32, f32), action: Answer, what: String, now: Stamp) {
        // Who only observes does nothing but watch.
        let action = if self.mode == Mode::Observe { Answer::Watch } else { action };
        // Saturates; what is below nothing is nothing.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people's eyes, `as` saturates")]
        let new_per_second = opened.round() as u32;
        self.tell(now, about(&culprit), What::Culprit { who, flows, new_per_second, action, what });
    }

    /// The same way into the same table as any other ban.
    fn ban_for_flood(&mut self, prefix: Prefix, until: crate::time::Until, reason: String, now: Stamp) {
        let bannable = match self.allow.bannable(prefix, now) {
            Ok(bannable) => bannable,
            Err(why) => {
                self.floods.guard.unbanned(prefix);
                return self.refused(&Origin::Flood, &why, now);
            }
        };
        let mut policy = self.config.ban().policy.clone();
        policy.ports = Ports::All;
        let offences = u32::try_from(self.court.past.of(prefix).count()).unwrap_or(u32::MAX).saturating_add(1);
        let mut made = Vec::new();
        self.enter(Ruling { prefix: bannable, until, origin: Origin::Flood, offences, reason }, &policy, now, &mut made);
        if made.is_empty() {
            return;
        }
        if self.mode == Mode::Observe {
            self.records.retain(|record| matches!(record, Record::Notice(_) | Record::History(_)));
        } else {
            self.records.push(Record::Sentence(crate::judge::Sentence { prefix, started: now, ends: until }));
        }
        let order = Self::blocks(&made);
        let notices = made.iter().map(|(ban, _)| self.notice_of(ban, now)).collect();
        self.order(order, Pending { notices, ..Pending::default() });
    }

    /// What the guard says, less what is not done: who only observes does nothing.
    fn as_done(&self, mut status: Status) -> Status {
        if self.mode == Mode::Observe || self.down {
            (status.profile, status.limits) = (None, 0);
            for offender in &mut status.offenders {
                (offender.action, offender.limited) = (Answer::Watch, false);
            }
        }
        status
    }

    /// What the guard holds against a prefix now.
    pub(super) fn floods_by(&self, prefix: Prefix, now: Now) -> Option<String> {
        let status = self.as_done(self.floods.guard.status(now));
        let theirs = |culprit: &Culprit| matches!(culprit, Culprit::Source { prefix: source } if source.overlaps(&prefix));
        let one = status.offenders.into_iter().find(|one| theirs(&one.culprit))?;
        let done = match (one.action, &one.exempt) {
            (_, Some(exempt)) => format!("nothing is done: {exempt}"),
            (Answer::Watch, None) => "watched".to_owned(),
            (Answer::Limit, None) => format!("its new flows are limited, {} packets dropped", one.dropped),
            (Answer::Ban, None) => "banned".to_owned(),
        };
        Some(format!("{}: {done}, since {}", one.why, one.since))
    }

    /// A ban was taken back by hand: if it was the guard's, its next flood is another.
    pub(super) fn unban_for_flood(&mut self, ban: &Ban) {
        if ban.origin == Origin::Flood {
            self.floods.guard.unbanned(ban.key.prefix);
            self.floods.dirty = true;
        }
    }

    /// Answers what is asked of the table.
    pub(super) fn asked_of_table(&self, request: ConntrackRequest, now: Now) -> Reply {
        match request {
            ConntrackRequest::Status if self.floods.gauge.is_some() => {
                Reply::Conntrack(ConntrackReply::Status(Box::new(self.as_done(self.floods.guard.status(now)))))
            }
            ConntrackRequest::Status => {
                let why = if self.config.conntrack().enabled {
                    "the connection table is not counted yet, or cannot be; `palisade status` tells why"
                } else {
                    "the connection table is not watched: [conntrack] enabled = false"
                };
                Reply::Failed { exit: 6, message: why.to_owned() }
            }
            ConntrackRequest::History => {
                Reply::Failed { exit: 70, message: "the history is kept by the store, not by the brain".to_owned() }
            }
        }
    }
}

/// Whether states can outlive an address in a harmful way: what never leaves the link or the host has no uplink.
fn carries(addr: Addr) -> bool {
    match addr.ip() {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

/// Whom a notice is about, where that is an address.
const fn about(culprit: &Culprit) -> Option<Prefix> {
    match culprit {
        Culprit::Source { prefix } => Some(*prefix),
        Culprit::Local { .. } | Culprit::Crowd { .. } => None,
    }
}
