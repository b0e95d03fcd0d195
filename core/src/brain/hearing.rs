//! Attacks become bans.

use super::wall::Pending;
use super::{Batch, Brain, Mode};
use crate::allow::{Bannable, Protected};
use crate::attack::{Attack, Sign};
use crate::bans::ban::{Ban, Origin};
use crate::bans::table::{Change, NewBan};
use crate::bans::wall::Key;
use crate::control::Source;
use crate::event::{KillCount, Notice, Record, What};
use crate::judge::policy::Policy;
use crate::judge::spread::{neighbourhood, spread};
use crate::judge::{Sentence, Verdict};
use crate::net::Prefix;
use crate::scan::counts_at;
use crate::time::{Stamp, Until};

/// What the problem list calls a full ban table.
const TABLE: &str = "bans";

/// A ban that judging came to, before it is in the table.
pub(super) struct Ruling {
    pub(super) prefix: Bannable,
    pub(super) until: Until,
    pub(super) origin: Origin,
    pub(super) offences: u32,
    pub(super) reason: String,
}

impl Brain {
    pub(super) fn heard(&mut self, batch: Batch, now: Stamp) {
        self.counts.lines += batch.lines;
        self.counts.oversize += batch.oversize;
        for (jail, shortfall) in batch.shortfalls {
            self.shortfalls.entry(jail).or_default().add(shortfall);
        }
        let name = batch.source;
        self.sources.entry(name.clone()).or_insert_with(|| Source { name: name.clone(), lines: 0 }).lines += batch.lines;
        let mut made = Vec::new();
        for sign in batch.signs {
            self.sign(sign, batch.catching_up, now, &mut made);
        }
        // Observing keeps nothing, so that enforcing later finds the world as it was.
        if self.mode == Mode::Observe {
            self.records.retain(|record| matches!(record, Record::Notice(_)));
        }
        if let Some(position) = batch.position {
            self.records.push(Record::Position { source: name, position });
        }
        if made.is_empty() {
            return;
        }
        let order = Self::blocks(&made);
        let notices = made.iter().map(|(ban, _)| self.notice_of(ban, now)).collect();
        self.order(order, Pending { notices, ..Pending::default() });
    }

    /// The ban that shuts whoever this is about out of all that the jail guards, if there is one.
    pub fn shuts_out(&self, sign: &Sign, now: Stamp) -> Option<Key> {
        let (addr, jail) = match sign {
            Sign::Attack(attack) => (attack.addr, &attack.jail),
            Sign::Login(login) => (login.addr, &login.jail),
        };
        let ban = self.table.shut_out(addr, &self.config.jail(jail)?.policy.ports)?;
        (!ban.until.over(now)).then_some(ban.key)
    }

    /// Takes one sign to the court. With `catching_up` it counts when it was written ([`counts_at`]); what was
    /// written longer ago than failures count is not of this time any more and says nothing.
    pub(super) fn sign(&mut self, sign: Sign, catching_up: bool, now: Stamp, made: &mut Vec<(Ban, bool)>) {
        match sign {
            Sign::Attack(attack) => {
                self.counts.attacks += 1;
                let Some(jail) = self.config.jail(&attack.jail) else { return };
                let policy = jail.policy.clone();
                let counted = counts_at(attack.at, now, catching_up);
                if counted <= now.minus(policy.find_time) {
                    return;
                }
                self.tallies.entry(attack.jail.clone()).or_default().failures += 1;
                self.weigh(attack, &policy, (counted, now), made);
            }
            Sign::Login(login) => {
                let Some(jail) = self.config.jail(&login.jail) else { return };
                let counted = counts_at(login.at, now, catching_up);
                if counted <= now.minus(jail.policy.find_time) {
                    return;
                }
                if let Some(unit) = self.court.welcome(&login, &jail.policy, counted) {
                    self.records.push(Record::Spent { jail: login.jail, unit });
                }
            }
        }
    }

    fn weigh(&mut self, attack: Attack, policy: &Policy, (counted, now): (Stamp, Stamp), made: &mut Vec<(Ban, bool)>) {
        // Lines written before the ban stood and read after it are no further offence.
        if self.table.shut_out(attack.addr, &policy.ports).is_some_and(|ban| !ban.until.over(now)) {
            return;
        }
        let jail = attack.jail.clone();
        let origin = Origin::Jail(jail.clone());
        match self.court.hear_at(&attack, policy, &self.allow, (counted, now)) {
            Verdict::Ignore { why } => self.refused(&origin, &why, now),
            Verdict::Watch { unit, .. } => self.records.push(Record::Failure { unit, counted, attack }),
            Verdict::Ban { prefix, unit, until, offences, reason } => {
                self.tallies.entry(jail.clone()).or_default().bans += 1;
                self.records.push(Record::Failure { unit, counted, attack });
                self.records.push(Record::Spent { jail, unit });
                let sentence = Sentence { prefix: prefix.prefix(), started: now, ends: until };
                self.records.push(Record::Sentence(sentence));
                self.enter(Ruling { prefix, until, origin, offences, reason }, policy, now, made);
                self.spread(prefix.prefix(), until, policy, now, made);
            }
        }
    }

    pub(super) fn enter(&mut self, ruling: Ruling, policy: &Policy, now: Stamp, made: &mut Vec<(Ban, bool)>) {
        let Ruling { prefix, until, origin, offences, reason } = ruling;
        let new = NewBan { who: prefix, ports: policy.ports.clone(), since: now, until, origin, reason: reason.into(), offences };
        match self.table.ban(new) {
            Ok(Change::New { ban, displaced }) => {
                self.records.push(Record::Ban(ban.clone()));
                made.push((ban, policy.kill_states));
                self.displace(displaced, now);
                self.trouble(TABLE, None, now);
            }
            Ok(Change::Extended { ban, .. }) => {
                self.records.push(Record::Ban(ban.clone()));
                made.push((ban, policy.kill_states));
            }
            Ok(Change::Unchanged { .. }) => {}
            Err(full) => self.trouble(TABLE, Some(full.to_string()), now),
        }
    }

    /// Lets go of the ban that left a full table for a new one.
    pub(super) fn displace(&mut self, displaced: Option<Ban>, now: Stamp) {
        let by = "the ban table is full, and of those that may leave this ban ended soonest";
        self.release(displaced.as_slice(), now, |_| What::Unban { by: by.to_owned() });
    }

    /// So many banned neighbours that the whole neighbourhood is banned, until the last of them would be free.
    fn spread(&mut self, prefix: Prefix, until: Until, policy: &Policy, now: Stamp, made: &mut Vec<(Ban, bool)>) {
        let Some((wide, _)) = neighbourhood(policy, prefix) else { return };
        let neighbours: Vec<(Prefix, Until)> = {
            // Whom a feed lists has done nothing here.
            let banned = self.table.within(wide).filter(|ban| !ban.origin.is_feed());
            banned.map(|ban| (ban.key.prefix, ban.until)).collect()
        };
        let Some(wide) = spread(policy, prefix, neighbours.iter().map(|(p, _)| *p)) else { return };
        let until = neighbours.iter().map(|(_, u)| *u).max().unwrap_or(until);
        match self.allow.bannable(wide, now) {
            Ok(prefix) => {
                let reason = format!("{} banned neighbours", neighbours.len());
                self.enter(Ruling { prefix, until, origin: Origin::Spread, offences: 1, reason }, policy, now, made);
            }
            Err(why) => self.refused(&Origin::Spread, &why, now),
        }
    }

    pub(super) fn notice_of(&self, ban: &Ban, now: Stamp) -> Notice {
        let (until, origin, reason) = (ban.until, ban.origin.clone(), ban.reason.clone());
        let what = match self.mode {
            Mode::Observe => What::WouldBan { until, origin, reason },
            Mode::Enforce => What::Ban { until, origin, reason, offences: ban.offences, killed: KillCount::default() },
        };
        Notice { at: now, prefix: Some(ban.key.prefix), what }
    }

    /// Something was not banned because it is protected. Told at most once a minute for each
    /// protecting member: a protected host may well fail a thousand times.
    pub(super) fn refused(&mut self, origin: &Origin, why: &Protected, now: Stamp) {
        let last = self.refusals.entry(why.member.prefix).or_insert(Stamp(i64::MIN));
        if now.since(*last) < super::REFUSAL_QUIET {
            return;
        }
        *last = now;
        if self.refusals.len() > super::REFUSALS_KEPT {
            self.refusals.retain(|_, at| now.since(*at) < super::REFUSAL_QUIET);
        }
        self.tell(now, Some(why.prefix), What::Refused { origin: origin.clone(), protected_by: why.member.to_string() });
    }
}
