//! Requests become answers.

use std::collections::BTreeMap;

use super::importing::Import;
use super::wall::Pending;
use super::{Action, Brain, Mode};
use crate::attack::JailName;
use crate::bans::ban::{Ban, Origin};
use crate::bans::order::Order;
use crate::bans::table::{Change, NewBan};
use crate::control::{BanOutcome, BanResult, KillCount, Member, Reply, Request, State, Status, Tally, Whom, Why};
use crate::event::{Allowed, Notice, Record, What};
use crate::net::{Addr, Prefix};
use crate::ports::Ports;
use crate::time::{Now, Stamp, Term};

/// Exit code of a refusal by a safety rule (see `palisade --help`).
const EXIT_REFUSED: u8 = 5;

/// A ban by hand, as asked.
struct Asked {
    term: Option<Term>,
    reason: String,
    force: bool,
    origin: Origin,
}

impl Brain {
    pub(super) fn asked(&mut self, id: u64, who: &str, request: Request, now: Now) {
        if self.mode == Mode::Observe && !request.only_reads() {
            let message = "the daemon only observes: nothing was changed; run it without --observe".to_owned();
            return self.out.push(Action::Answer { id, reply: Reply::Failed { exit: 1, message } });
        }
        let reply = match request {
            Request::Status => Reply::Status(Box::new(self.status(now.stamp))),
            Request::List => Reply::List { bans: self.table.iter().filter(|b| !b.until.over(now.stamp)).collect() },
            Request::Check { addr } => Reply::Check { bans: self.standing_bans(Prefix::host(addr), now.stamp) },
            Request::Why { prefix } => return self.why(id, prefix, now.stamp),
            Request::AllowList => Reply::Allow { members: self.members(now.stamp) },
            Request::Ban { prefixes, term, reason, force, origin, asker } => {
                return self.ban(id, &prefixes, &Asked { term, reason, force, origin }, asker, now.stamp);
            }
            Request::Import { rows, term, reason, origin, asker } => {
                self.protect_asker(asker, now.stamp);
                return self.import(id, rows, &Import { term, reason, origin }, now.stamp);
            }
            Request::Unban { whom } => return self.unban(id, who, whom, now.stamp),
            Request::AllowAdd { prefixes, term, comment } => return self.allow_add(id, &prefixes, term, &comment, now.stamp),
            Request::AllowDel { prefixes } => return self.allow_del(id, &prefixes, now.stamp),
            Request::Kill { prefixes } => return self.kill(id, &prefixes, now.stamp),
            Request::Report(report) => return self.reported(id, &report, now.stamp),
            Request::Feeds => Reply::Feeds { feeds: self.feed_list() },
            Request::FeedRefresh { names, accept } => return self.refresh(id, &names, accept),
            Request::Flush => return self.take_down(id, now),
            Request::Restore => {
                let bans = self.table.len();
                return self.rebuild(Pending { answer: Some((id, Reply::Restored { bans })), ..Pending::default() });
            }
            Request::Reload => Reply::Failed { exit: 70, message: "the config is read by the house, not by the brain".to_owned() },
            Request::Events { .. } => Reply::Failed { exit: 70, message: "events are kept by the store, not by the brain".to_owned() },
            Request::Conntrack(request) => self.asked_of_table(request, now),
            Request::Route(_) => {
                Reply::Failed { exit: 70, message: "uplinks and tunnels are not kept on this system; see palisade(1)".to_owned() }
            }
        };
        self.out.push(Action::Answer { id, reply });
    }

    fn state(&self) -> State {
        match self.mode {
            _ if self.problems.keys().any(|about| !self.feeds.only_stale(about)) => State::Degraded,
            Mode::Enforce => State::Enforcing,
            Mode::Observe => State::Observing,
        }
    }

    /// The state in one line, cheap enough to be told every few seconds.
    pub fn summary(&self) -> String {
        format!("{}: {} bans stand in {}, {} problems", self.state(), self.table.len(), self.backend, self.problems.len())
    }

    /// What state everything is in.
    pub fn status(&self, now: Stamp) -> Status {
        let mut jails: BTreeMap<_, usize> = self.config.jails().values().filter(|j| j.enabled).map(|j| (j.name.clone(), 0)).collect();
        let tally = self.table.tally(now);
        for (origin, count) in &tally.by_origin {
            if let Origin::Jail(name) = origin {
                *jails.entry(name.clone()).or_default() += count;
            }
        }
        Status {
            chosen: self.chosen.clone(),
            proof: self.proof.clone(),
            state: self.state(),
            backend: self.backend.clone(),
            bans: tally.bans,
            permanent: tally.permanent,
            drift: self.counts.drift,
            since: Some(self.started),
            sources: self.sources.values().cloned().collect(),
            tracked: self.court.judge.len(),
            evicted: self.court.judge.evicted(),
            lines: self.counts.lines,
            oversize: self.counts.oversize,
            attacks: self.counts.attacks,
            tallies: self.tallies(now),
            jails: jails.into_iter().collect(),
            shortfalls: self.shortfalls.iter().map(|(jail, shortfall)| (jail.clone(), *shortfall)).collect(),
            feeds: self.feed_list(),
            conntrack: self.floods.line(),
            problems: self.problems.values().cloned().collect(),
        }
    }

    fn tallies(&self, now: Stamp) -> BTreeMap<JailName, Tally> {
        let mut tallies = self.tallies.clone();
        for (jail, failing) in self.court.judge.failing(now) {
            tallies.entry(jail.clone()).or_default().failing = failing;
        }
        tallies.retain(|name, _| self.config.jail(name).is_some_and(|jail| jail.enabled));
        tallies
    }

    /// The bans that shut (part of) the prefix out and are not over.
    fn standing_bans(&self, prefix: Prefix, now: Stamp) -> Vec<Ban> {
        self.table.covering(prefix).into_iter().filter(|ban| !ban.until.over(now)).collect()
    }

    fn why(&mut self, id: u64, prefix: Prefix, now: Stamp) {
        let mut bans = self.standing_bans(prefix, now);
        let inner: Vec<Ban> = self.table.within(prefix).filter(|ban| ban.key.prefix != prefix && !ban.until.over(now)).collect();
        bans.extend(inner);
        let windows = self
            .court
            .judge
            .windows_of(prefix, now)
            .into_iter()
            .map(|seen| {
                let needed = self
                    .config
                    .jail(&seen.jail)
                    .map_or(0, |jail| u32::from(jail.policy.max_retry) * u32::from(crate::attack::FULL_FAILURE));
                (seen.jail, seen.unit, seen.score, needed)
            })
            .collect();
        let why = Why {
            prefix: Some(prefix),
            windows,
            offences: u32::try_from(self.court.past.of(prefix).count()).unwrap_or(u32::MAX),
            logins: self.court.clemency.of(prefix).map(|(jail, unit, at)| (jail.clone(), unit, at)).collect(),
            protected_by: self.allow.bannable(prefix, now).err().map(|protected| protected.member.to_string()),
            bans: bans.into_iter().map(|ban| (ban, None)).collect(),
            floods: self.floods_by(prefix, self.clock.last()),
            ..Why::default()
        };
        let keys = why.bans.iter().map(|(ban, _)| ban.key.clone()).collect();
        self.out.push(Action::Look { id, why: Box::new(why), keys });
    }

    fn members(&self, now: Stamp) -> Vec<Member> {
        self.allow.members(now).map(|m| Member { prefix: m.prefix, why: m.why.to_string(), until: m.until }).collect()
    }

    /// Whoever asks over ssh is an administrator with a session.
    fn protect_asker(&mut self, asker: Option<Addr>, now: Stamp) {
        if let Some(asker) = asker
            && self.config.allow().auto.admin_sessions
        {
            let altered = self.allow.set_sessions([asker], now);
            self.allow_changed(altered, "the asker's own session", now);
        }
    }

    fn ban(&mut self, id: u64, prefixes: &[Prefix], asked: &Asked, asker: Option<Addr>, now: Stamp) {
        self.protect_asker(asker, now);
        let mut results = Vec::with_capacity(prefixes.len());
        let mut made = Vec::new();
        for prefix in prefixes {
            let what = self.ban_one(*prefix, asked, now, &mut made);
            results.push(BanResult { prefix: *prefix, what });
        }
        let kill = self.config.ban().policy.kill_states;
        let made: Vec<(Ban, bool)> = made.into_iter().map(|ban| (ban, kill)).collect();
        let order = Self::blocks(&made);
        let notices = made.iter().map(|(ban, _)| self.by_hand(ban, now)).collect();
        let reply = Reply::Bans { results, killed: KillCount::default() };
        self.order(order, Pending { answer: Some((id, reply)), notices, ..Pending::default() });
    }

    fn by_hand(&self, ban: &Ban, now: Stamp) -> Notice {
        let what = What::Ban {
            until: ban.until,
            origin: ban.origin.clone(),
            reason: ban.reason.clone(),
            offences: ban.offences,
            killed: KillCount::default(),
        };
        Notice { at: now, prefix: Some(ban.key.prefix), what }
    }

    fn ban_one(&mut self, prefix: Prefix, asked: &Asked, now: Stamp, made: &mut Vec<Ban>) -> BanOutcome {
        let bannable = self.allow.bannable(prefix, now).or_else(|protected| match self.allow.forced(prefix) {
            Ok(forced) if asked.force => Ok(forced),
            Ok(_) => Err(format!("it is protected by {}; `palisade ban {prefix} --force` bans it anyway", protected.member)),
            Err(own) => Err(format!("it is protected by {}, and nothing bans that", own.member)),
        });
        let bannable = match bannable {
            Ok(bannable) => bannable,
            Err(protected_by) => return BanOutcome::Refused { protected_by },
        };
        let until = asked.term.unwrap_or(self.config.ban().manual_time).from(now);
        let reason = crate::attack::excerpt(asked.reason.as_bytes());
        let new = NewBan {
            who: bannable,
            ports: Ports::All,
            since: now,
            until,
            origin: asked.origin.clone(),
            reason: reason.into(),
            offences: 1,
        };
        // What was the same jail's already is counted.
        let counted = self.table.covering(prefix).iter().any(|ban| ban.key.prefix == prefix && ban.origin == asked.origin);
        match self.table.ban(new) {
            Ok(Change::New { ban, displaced }) => {
                self.displace(displaced, now);
                self.count(&ban, counted);
                self.made(ban, made)
            }
            Ok(Change::Extended { ban, .. }) => {
                self.count(&ban, counted);
                self.made(ban, made)
            }
            Ok(Change::Unchanged { ban }) => {
                // A longer ban of the same key stands: put it up once more, so that "done" is proven.
                let until = ban.until;
                made.push(ban);
                BanOutcome::Banned { until }
            }
            Err(full) => BanOutcome::Failed { error: format!("{full}; it is not kept") },
        }
    }

    /// Counts a ban for its jail, once.
    fn count(&mut self, ban: &Ban, counted: bool) {
        if let Origin::Jail(jail) = &ban.origin
            && !counted
        {
            self.tallies.entry(jail.clone()).or_default().bans += 1;
        }
    }

    fn made(&mut self, ban: Ban, made: &mut Vec<Ban>) -> BanOutcome {
        let until = ban.until;
        if self.mode == Mode::Enforce {
            self.records.push(Record::Ban(ban.clone()));
        }
        made.push(ban);
        BanOutcome::Banned { until }
    }

    fn unban(&mut self, id: u64, who: &str, whom: Whom, now: Stamp) {
        let (mut removed, mut missing, mut still) = (Vec::new(), Vec::new(), Vec::new());
        let (by_hand, all) = (!matches!(whom, Whom::Jail(_)), whom == Whom::All);
        match whom {
            Whom::All => removed = self.table.unban_all(),
            Whom::Jail(jail) => removed = self.table.unban_jail(&jail),
            Whom::Prefixes(prefixes) => {
                for prefix in prefixes {
                    let unbanned = self.table.unban(prefix);
                    if unbanned.removed.is_empty() {
                        missing.push(prefix);
                    }
                    removed.extend(unbanned.removed);
                    still.extend(unbanned.still_covered_by);
                    still.extend(unbanned.inside);
                }
            }
        }
        for ban in &removed {
            self.court.judge.forget_overlapping(ban.key.prefix);
            self.unban_for_flood(ban);
        }
        let mut order = Order::new();
        let mut listed: BTreeMap<String, usize> = BTreeMap::new();
        for ban in &removed {
            order.release(ban.key.clone());
            if self.mode == Mode::Enforce {
                self.records.push(Record::Unban(ban.key.clone()));
            }
            // Of all at once not each member of each feed is told.
            if !(all && ban.origin.is_feed()) {
                self.tell(now, Some(ban.key.prefix), What::Unban { by: who.to_owned() });
            }
            if by_hand && let Some(feed) = self.feeds.lift(ban.key.prefix) {
                *listed.entry(feed.to_string()).or_default() += 1;
            }
        }
        if !by_hand {
            still.extend(self.settle_ended(&removed, now, &mut order));
        }
        let reply = Reply::Unbans { removed, missing, still, listed: listed.into_iter().collect() };
        self.order(order, Pending { answer: Some((id, reply)), ..Pending::default() });
    }

    fn allow_add(&mut self, id: u64, prefixes: &[Prefix], term: Term, comment: &str, now: Stamp) {
        if let Some(wide) = prefixes.iter().find(|p| p.len() == 0) {
            let message = format!("{wide} would switch every ban off; to stop enforcing use `palisade flush`");
            return self.out.push(Action::Answer { id, reply: Reply::Failed { exit: EXIT_REFUSED, message } });
        }
        let comment = crate::attack::excerpt(comment.as_bytes());
        let mut lifted = Vec::new();
        for prefix in prefixes {
            let until = term.from(now);
            let altered = self.allow.add_by_hand(*prefix, until, &comment);
            self.records.push(Record::Allow(Allowed { prefix: *prefix, since: now, until, comment: comment.clone() }));
            self.tell(now, Some(*prefix), What::Allow { added: true, comment: comment.clone() });
            lifted.extend(self.lift_protected(&altered, "by hand", now));
        }
        let reply = Reply::Allowed { changed: prefixes.to_vec(), missing: Vec::new(), lifted };
        self.answer_with_frame(id, reply, now);
    }

    fn allow_del(&mut self, id: u64, prefixes: &[Prefix], now: Stamp) {
        let (mut changed, mut missing) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            if self.allow.remove_by_hand(*prefix).is_none() {
                missing.push(*prefix);
                continue;
            }
            self.feeds.look_again();
            self.records.push(Record::Disallow(*prefix));
            self.tell(now, Some(*prefix), What::Allow { added: false, comment: String::new() });
            changed.push(*prefix);
        }
        self.answer_with_frame(id, Reply::Allowed { changed, missing, lifted: Vec::new() }, now);
    }

    fn answer_with_frame(&mut self, id: u64, reply: Reply, now: Stamp) {
        let frame = self.frame(now);
        let pending = Pending { answer: Some((id, reply)), ..Pending::default() };
        let mut order = Order::new();
        order.frame(frame);
        self.order(order, pending);
    }

    fn kill(&mut self, id: u64, prefixes: &[Prefix], now: Stamp) {
        let own = prefixes.iter().find_map(|p| self.allow.forced(*p).err());
        if let Some(protected) = own {
            let message = format!("{}: its connections are this host's own", protected.member);
            return self.out.push(Action::Answer { id, reply: Reply::Failed { exit: EXIT_REFUSED, message } });
        }
        let kills = prefixes.iter().map(|p| (*p, Ports::All)).collect();
        let notices = prefixes.iter().map(|p| Notice { at: now, prefix: Some(*p), what: What::Killed(KillCount::default()) }).collect();
        let pending = Pending { answer: Some((id, Reply::Killed(KillCount::default()))), notices, ..Pending::default() };
        self.end(kills, pending);
    }
}
