//! Calm, pressure or flood; whose fault; what to do.
//!
//! | file | what |
//! |---|---|
//! | [`level`] | calm, pressure or flood, with hysteresis |
//! | [`forecast`] | when the table will be full |
//! | [`habit`] | what each source usually holds |
//! | [`suspects`] | who of a census is over |
//! | [`crowd`] | many with few flows each, to one endpoint |
//! | [`offender`], [`offenders`] | those who were named, until they are let go |
//! | [`drops`] | what the kernel lost, and why |
//! | [`said`] | what is told, and done once |
//! | [`status`] | what `conntrack status` shows |
//!
//! Naming is cheap and early; acting is late: only about who endangers the table. Who is exempt, and this host itself,
//! are named and never acted upon.

mod crowd;
mod drops;
mod forecast;
mod habit;
mod level;
mod offender;
mod offenders;
mod said;
mod status;
mod suspects;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use drops::{Cause, Lost};
pub use said::Said;
pub use status::{Forecast, Offender, Status};

use super::census::Census;
use super::gauge::Gauge;
use super::settings::Settings;
use super::timeouts::Profile;
use super::wanted::{Culprit, Wanted};
use crate::net::{Addr, Family, Prefix};
use crate::time::{Now, Tick};
use habit::Season;
use offender::Sighting;

/// How it stands with the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should.
    #[default]
    Calm,
    /// It fills.
    Pressure,
    /// It is nearly full, or will be within moments.
    Flood,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calm => "calm",
            Self::Pressure => "pressure",
            Self::Flood => "flood",
        })
    }
}

/// More /64s of its own no host has that this could look after.
const HOMES: usize = 4096;

/// Watches the table.
#[derive(Clone, Debug)]
pub struct FloodGuard {
    settings: Settings,
    gauge: Gauge,
    level: level::Level,
    forecast: forecast::Forecast,
    habits: habit::Habits,
    crowds: crowd::Crowds,
    offenders: offenders::Offenders,
    drops: drops::Drops,
    homes: BTreeSet<Prefix>,
    said: said::Queue,
    /// When the last census was.
    taken: Option<Tick>,
    /// The settings changed, and nothing came of it yet.
    unsettled: bool,
    /// Since when the table cannot be read.
    lost: Option<Tick>,
}

impl FloodGuard {
    /// A guard that knows nobody yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            gauge: Gauge::default(),
            level: level::Level::default(),
            forecast: forecast::Forecast::default(),
            habits: habit::Habits::default(),
            crowds: crowd::Crowds::default(),
            offenders: offenders::Offenders::default(),
            drops: drops::Drops::default(),
            homes: BTreeSet::new(),
            said: said::Queue::default(),
            taken: None,
            unsettled: false,
            lost: None,
        }
    }

    /// Takes the settings of a new config. Who is no culprit by them is let go with the next [`Self::pass`], who is exempt
    /// by them is free at once.
    pub fn configure(&mut self, settings: Settings) {
        if settings.enabled != self.settings.enabled {
            // What was before, or comes until it is watched again, says nothing of then.
            (self.taken, self.lost) = (None, None);
            self.forecast = forecast::Forecast::default();
            self.drops.pause();
        }
        self.settings = settings;
        let settings = &self.settings;
        self.offenders.reconsider(settings, |culprit| exempt_by(settings, culprit));
        self.unsettled = true;
    }

    /// This host's own addresses. A /64 with one of them is a network it lives in, never one source.
    pub fn home(&mut self, own: impl IntoIterator<Item = Addr>) {
        let own = own.into_iter().filter(|addr| addr.family() == Family::V6);
        self.homes = own.map(|addr| Prefix::host(addr).widen(64)).take(HOMES).collect();
    }

    /// The table's gauge, each second.
    pub fn gauge(&mut self, gauge: Gauge, now: Now) {
        self.level.begin(now);
        (self.gauge, self.lost) = (gauge, None);
        let moved = self.drops.gauge(gauge);
        self.forecast.add(&gauge, now.tick);
        if self.settings.enabled {
            let full_in = self.forecast.outlook().map(|outlook| outlook.full_in);
            let signs = level::Signs { fill: gauge.fill(), full_in, lost: moved.any, full: moved.full };
            if let Some(level::Step { from, to, why }) = self.level.step(&signs, &self.settings, now) {
                self.said.push(Said::State { from, to, why });
            }
        }
        self.pass(now);
    }

    /// The table cannot be read any more: no gauge comes, no census. What was last seen does not hold for ever: the state is calm
    /// after [`Settings::calm_after`] without a gauge, and offenders end when it is too long ago that anybody looked at them. It may
    /// be said again and again; the next gauge ends it.
    pub fn lost(&mut self, now: Now) {
        self.lost.get_or_insert(now.tick);
        self.forecast = forecast::Forecast::default();
        self.pass(now);
    }

    /// When nobody knows any more how it stands with the table, and it is something else than calm.
    fn blind(&self) -> Option<Tick> {
        self.lost.filter(|_| self.state() > State::Calm).map(|lost| lost.plus(self.settings.calm_after))
    }

    /// Who holds how many. `exempt` says why a prefix must not be limited or banned, `own` whether an address is this host's.
    pub fn census(&mut self, census: Census, exempt: &dyn Fn(Prefix) -> Option<String>, own: &dyn Fn(Addr) -> bool, now: Now) {
        if !self.settings.enabled {
            return;
        }
        let season = self.season(&census, now.tick);
        self.taken = Some(now.tick);
        self.judge(&census, own, &season, now);
        let standing = |to| self.offenders.has(&Culprit::Crowd { to });
        let crowds = self.crowds.look(&census, self.offenders.excess(), &standing, &self.settings, &season);
        let crowds = crowds.into_iter().map(of_crowd).collect();
        self.offenders.see(crowds, |culprit| matches!(culprit, Culprit::Crowd { .. }), &self.settings, now, &mut self.said);
        let (settings, homes) = (&self.settings, &self.homes);
        self.offenders.exempt(|culprit| match culprit {
            Culprit::Source { prefix } => {
                let ours = homes.contains(prefix) || own(prefix.addr());
                let ours = ours.then(|| "it is an address or a network of this host".to_owned());
                ours.or_else(|| exempt_by(settings, culprit)).or_else(|| exempt(*prefix))
            }
            _ => exempt_by(settings, culprit),
        });
        self.pass(now);
    }

    /// Sources and local processes of one census.
    fn judge(&mut self, census: &Census, own: &dyn Fn(Addr) -> bool, season: &Season, now: Now) {
        let lan = suspects::Lan { own, homes: &self.homes };
        let standing = |culprit: &Culprit| self.offenders.has(culprit);
        let seen = suspects::suspects(census, &lan, &standing, &mut self.habits, season);
        let looked = census.looked || !census.processes.is_empty();
        let of = |culprit: &Culprit| match culprit {
            Culprit::Source { .. } => true,
            Culprit::Local { .. } => looked,
            Culprit::Crowd { .. } => false,
        };
        let seen = seen.into_iter().filter(|one| one.over.is_some() || standing(&one.culprit)).map(of_suspect).collect();
        self.offenders.see(seen, of, &self.settings, now, &mut self.said);
        if !looked {
            let ours = census.top.iter().filter(|row| row.prefix.is_host() && own(row.prefix.addr()));
            let flows = ours.map(|row| u64::from(row.flows)).sum();
            self.offenders.unlooked(flows, self.settings.per_source, now.tick);
        }
    }

    fn season(&self, census: &Census, now: Tick) -> Season {
        Season {
            now,
            elapsed: self.taken.map(|taken| now.since(taken)),
            per_source: self.settings.per_source.max(1),
            typical: f64::from(census.typical.1),
            pressed: self.level.state() >= State::Pressure || self.gauge.fill() >= self.settings.engage.0,
            max: self.gauge.max,
        }
    }

    /// How many packets each limit has dropped since it was made.
    pub fn limited(&mut self, dropped: &[(Culprit, u64)], now: Now) {
        self.offenders.limited(dropped, &self.settings, self.gauge.max, now.tick);
        self.pass(now);
    }

    /// The ban of a prefix does not stand, though [`Said::Ban`] asked for it: it was lifted, or refused. The guard forgets that it
    /// was banned, so that its next flood is said again. If it floods still it is only limited, until it stopped once or
    /// [`Settings::limit_time`] has passed: who lifts a ban should not see it come back with the next census.
    pub fn unbanned(&mut self, prefix: Prefix) {
        self.offenders.unbanned(prefix);
    }

    /// What time by itself does: culprits are let go, drops are told.
    pub fn pass(&mut self, now: Now) {
        self.unsettled = false;
        if !self.settings.enabled {
            self.offenders.release(|_| true, &self.settings, now.tick, &mut self.said);
            self.reset("the table is no longer watched", now);
        } else if self.blind().is_some_and(|at| at <= now.tick) {
            self.reset("the table cannot be read any more; who fills it is not seen", now);
        }
        self.offenders.act(&self.settings, self.level.state(), &self.gauge, now.tick, &mut self.said);
        let settings = &self.settings;
        let over = |one: &offender::Offender| one.ends(settings) <= now.tick;
        self.offenders.release(over, settings, now.tick, &mut self.said);
        for said in self.drops.told(now) {
            self.said.push(said);
        }
    }

    /// Calm, whatever it was.
    fn reset(&mut self, why: &str, now: Now) {
        if let Some(level::Step { from, to, why }) = self.level.reset(why, now) {
            self.said.push(Said::State { from, to, why });
        }
    }

    /// What is to be told and done since the last call, in order.
    #[must_use]
    pub fn take(&mut self) -> Vec<Said> {
        self.said.take()
    }

    /// How it stands with the table.
    pub const fn state(&self) -> State {
        self.level.state()
    }

    /// What should hold in the kernel.
    pub fn wanted(&self) -> Wanted {
        if !self.settings.enabled {
            return Wanted::default();
        }
        Wanted {
            limits: self.offenders.limits(&self.settings, &self.gauge),
            services: self.settings.services.iter().map(|(name, service)| (name.clone(), service.clone())).collect(),
            profile: self.profile(),
            listen: self.level.state() >= State::Pressure || !self.offenders.is_empty(),
        }
    }

    fn profile(&self) -> Option<Profile> {
        let crowd = self.offenders.iter().any(|offender| offender.over && matches!(offender.culprit, Culprit::Crowd { .. }));
        self.settings.adapt.then(|| match self.level.state() {
            State::Pressure | State::Flood if crowd => Profile::Attack,
            State::Calm => Profile::Calm,
            State::Pressure => Profile::Pressure,
            State::Flood => Profile::Attack,
        })
    }

    /// Whether censuses should come quickly.
    pub fn alarmed(&self) -> bool {
        let enabled = self.settings.enabled;
        enabled
            && (self.level.state() > State::Calm
                || !self.offenders.is_empty()
                || self.forecast.outlook().is_some()
                || self.forecast.jumped())
    }

    /// When [`Self::pass`] has something to do; a moment long past: at once.
    pub fn next_deadline(&self) -> Option<Tick> {
        let at_once = self.unsettled.then(Tick::default);
        [at_once, self.blind(), self.offenders.deadline(&self.settings), self.drops.deadline()].into_iter().flatten().min()
    }

    /// How it stands.
    pub fn status(&self, _now: Now) -> Status {
        let limits = self.wanted().limits;
        let max = f64::from(self.gauge.max.max(1));
        let offenders = self.offenders.worst().into_iter().map(|one| Offender {
            addr: one.culprit.to_string(),
            culprit: one.culprit,
            flows: one.flows,
            new_per_second: one.new_per_second(),
            share: if self.gauge.max == 0 { 0.0 } else { f64::from(one.flows) / max },
            usual: one.usual,
            since: one.since.stamp,
            action: one.action,
            why: one.why.clone(),
            exempt: one.exempt.clone(),
            process: one.process.clone(),
            dropped: one.dropped,
            over: one.over,
            limited: limits.iter().any(|limit| limit.whose == one.culprit),
        });
        let forecast = self.forecast.outlook();
        Status {
            count: self.gauge.count,
            max: self.gauge.max,
            fill: self.gauge.fill(),
            state: self.level.state(),
            since: self.level.since().stamp,
            profile: self.wanted().profile,
            forecast: forecast.map(|outlook| Forecast { growth_per_second: outlook.growth, full_in: outlook.full_in }),
            offenders: offenders.collect(),
            limits: limits.len(),
            drops: self.drops.totals(),
            habits: self.habits.len(),
            untold: self.said.lost(),
        }
    }
}

/// Why the config, or what it is, forbids to do anything about one.
fn exempt_by(settings: &Settings, culprit: &Culprit) -> Option<String> {
    match culprit {
        Culprit::Source { prefix } => {
            let listed = settings.exempt.iter().find(|exempt| exempt.overlaps(prefix))?;
            Some(format!("{listed} is exempt in the config ([conntrack] exempt)"))
        }
        Culprit::Local { protocol: 0, .. } => Some("where its flows go is not known".to_owned()),
        Culprit::Local { uid: 0, port: 0, .. } => Some("its flows go to no one port, and all of root's are never limited".to_owned()),
        Culprit::Local { .. } | Culprit::Crowd { .. } => None,
    }
}

fn of_suspect(one: suspects::Suspect) -> Sighting {
    Sighting {
        culprit: one.culprit,
        flows: one.measure.flows,
        opened: one.measure.opened,
        growth: one.usual.growth,
        gained: one.usual.gained,
        usual: one.usual.flows,
        process: one.process,
        over: one.over,
        stays: one.stays,
    }
}

fn of_crowd(one: crowd::Sighting) -> Sighting {
    Sighting {
        culprit: Culprit::Crowd { to: one.to },
        flows: one.flows,
        opened: None,
        growth: 0.0,
        gained: 0.0,
        usual: one.usual,
        process: None,
        over: one.over,
        stays: one.stays,
    }
}
