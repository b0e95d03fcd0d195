//! One culprit, from the census in which it crosses the line until it is let go.

use super::State;
use super::forecast::seconds;
use super::habit::LIFE;
use super::said::{Queue, Said};
use super::suspects::{DWARFED, SHARE, WEIGHTY};
use crate::flood::gauge::Gauge;
use crate::flood::owner::Process;
use crate::flood::settings::{Action, Settings};
use crate::flood::timeouts::Timeouts;
use crate::flood::timeouts::profile::TABLE;
use crate::flood::wanted::{Culprit, Limit};
use crate::time::{Now, Span, Term, Tick};

/// Idle flows of one culprit are ended at most so often: each time the whole table is gone through.
const PURGE_PAUSE: Span = Span::secs(30);

/// Nobody is let go for want of a census before this: in quiet times one a minute is taken.
const BLIND: Span = Span::secs(120);

/// What a limit drops is averaged over about so long, in seconds: a page that opens thirty connections at once is no flood.
const PRESSING: f64 = 30.0;

/// A hold is doubled so many times at most.
const DOUBLED: u32 = 3;

/// Port of DNS: without it a host hears of nothing any more, so what a local process asks is limited last.
const DNS: u16 = 53;

/// What one who floods still opens has the timeouts of the attack profile, but for what it really talks over: ten minutes.
const TALKS: (&str, Span) = ("tcp_established", Span::secs(600));

/// Of a crowd's flows only what is not answered in full ends soon, for there may be somebody real in it.
const UNANSWERED: [&str; 3] = ["tcp_syn_sent", "tcp_syn_recv", "udp"];

/// Timeouts of the flows that a culprit still opens, by the name of the config's: the switch's without `nf_conntrack_` and
/// `_timeout`.
fn short(crowd: bool) -> Timeouts {
    let rows = TABLE.iter().filter(|row| row.name.starts_with("tcp_") || row.name.starts_with("udp_"));
    let all = rows.map(|row| (row.name.replacen("_timeout", "", 1), Span::secs(row.attack)));
    let of = all.filter(|(name, _)| !crowd || UNANSWERED.contains(&name.as_str()));
    of.map(|(name, time)| if name == TALKS.0 { (name, time.min(TALKS.1)) } else { (name, time) }).collect()
}

/// What the last census says of one.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    pub culprit: Culprit,
    pub flows: u32,
    pub opened: Option<f32>,
    /// Flows more each second, lately and just now.
    pub growth: f64,
    pub gained: f64,
    pub usual: f64,
    pub process: Option<Process>,
    /// It crosses the line, and why.
    pub over: Option<String>,
    /// Too much to be let go.
    pub stays: bool,
}

/// One culprit.
#[derive(Clone, Debug)]
pub(super) struct Offender {
    pub culprit: Culprit,
    pub flows: u32,
    pub opened: Option<f32>,
    pub growth: f64,
    pub gained: f64,
    pub usual: f64,
    pub process: Option<Process>,
    pub why: String,
    pub exempt: Option<String>,
    pub action: Action,
    pub since: Now,
    /// The most it held.
    pub peak: u32,
    /// Packets its limit dropped.
    pub dropped: u64,
    /// How often it came back soon after it was let go.
    pub strikes: u32,
    /// As the last census had it.
    pub over: bool,
    /// By the settings of now it would never have been named.
    pub excused: bool,
    /// The most it opened a second.
    fastest: f32,
    last_over: Tick,
    checked: Tick,
    told: bool,
    counter: u64,
    pressing: f64,
    counted: Option<Tick>,
    purged: Option<Tick>,
    banned: Option<(Tick, Term)>,
    /// Its ban was lifted, or refused, in this flood.
    unbanned: Option<Tick>,
}

/// How it stands while it is looked at what is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs<'a> {
    pub state: State,
    pub gauge: &'a Gauge,
    /// How many flows the largest of those who are over holds.
    pub largest: u32,
}

impl Offender {
    pub(super) fn new(seen: Sighting, strikes: u32, now: Now) -> Self {
        Self {
            culprit: seen.culprit,
            flows: seen.flows,
            opened: seen.opened,
            growth: seen.growth,
            gained: seen.gained,
            usual: seen.usual,
            process: seen.process,
            why: seen.over.unwrap_or_default(),
            exempt: None,
            action: Action::Watch,
            since: now,
            peak: seen.flows,
            dropped: 0,
            strikes: strikes.min(DOUBLED),
            over: true,
            excused: false,
            fastest: seen.opened.unwrap_or(0.0),
            last_over: now.tick,
            checked: now.tick,
            told: false,
            counter: 0,
            pressing: 0.0,
            counted: None,
            purged: None,
            banned: None,
            unbanned: None,
        }
    }

    /// It is in another census.
    pub(super) fn see(&mut self, seen: Sighting, now: Tick) {
        self.over = seen.over.is_some() || seen.stays;
        if self.over {
            self.last_over = now;
        } else {
            self.unbanned = None;
        }
        if let Some(why) = seen.over {
            self.why = why;
        }
        (self.flows, self.opened, self.usual) = (seen.flows, seen.opened, seen.usual);
        (self.growth, self.gained) = (seen.growth, seen.gained);
        self.process = seen.process.or_else(|| self.process.take());
        self.peak = self.peak.max(self.flows);
        self.fastest = self.fastest.max(self.opened.unwrap_or(0.0));
        self.checked = now;
    }

    /// It is in none any more, or too small to be named.
    pub(super) fn gone(&mut self, now: Tick) {
        (self.over, self.flows, self.opened) = (false, 0, None);
        (self.growth, self.gained, self.checked, self.unbanned) = (0.0, 0.0, now, None);
    }

    /// It may be there: this census did not look. That alone does not keep it for longer than a while after it was last looked at.
    pub(super) const fn unseen(&mut self, now: Tick) {
        if self.over {
            self.last_over = now;
        }
    }

    /// How many it opens a second: heard, or at least by its growth.
    #[expect(clippy::cast_possible_truncation, reason = "a number for people: a float that is too large becomes infinite")]
    pub(super) fn new_per_second(&self) -> f32 {
        self.opened.unwrap_or(self.gained.max(0.0) as f32)
    }

    /// Asks whether it would have been named by these settings.
    pub(super) fn reconsider(&mut self, settings: &Settings) {
        let least = settings.per_source;
        let crowd = matches!(self.culprit, Culprit::Crowd { .. });
        let slow = self.peak < least / 2 || f64::from(self.fastest) * LIFE < f64::from(least);
        self.excused = !crowd && self.peak < least && slow;
    }

    /// Its limit has dropped `total` packets so far, or since it was made anew.
    pub(super) fn count(&mut self, total: u64, rate: u32, now: Tick) {
        let more = total.checked_sub(self.counter).unwrap_or(total);
        let elapsed = self.counted.map_or(1.0, |counted| seconds(now.since(counted)).max(0.001));
        (self.counter, self.counted) = (total, Some(now));
        self.dropped = self.dropped.saturating_add(more);
        let speed = more as f64 / elapsed;
        self.pressing += (speed - self.pressing) * (1.0 - (-elapsed / PRESSING).exp());
        if speed >= f64::from(rate) && self.pressing >= f64::from(rate) {
            self.last_over = now;
        }
    }

    /// When it is let go, if nothing happens: a while after it was last over, or after a census last could tell, if none can any
    /// more. Nobody stays named or limited by what nobody looks at.
    pub(super) fn ends(&self, settings: &Settings) -> Tick {
        if self.excused {
            return Tick::default();
        }
        let hold = Span::millis(settings.limit_time.as_millis().saturating_mul(1 << self.strikes));
        let blind = self.checked.plus(hold.max(BLIND));
        if self.over { blind } else { blind.min(self.last_over.plus(hold)) }
    }

    /// Its ban does not stand. Its next flood is said again; this one, if it goes on, once the time is over that a limit is held,
    /// and it is limited meanwhile.
    pub(super) const fn unban(&mut self) {
        self.banned = None;
        if self.over {
            self.unbanned = Some(self.checked);
        } else {
            self.action = Action::Watch;
        }
    }

    /// Looks at what is to be done and says what is new of it.
    pub(super) fn act(&mut self, settings: &Settings, signs: &Signs<'_>, now: Tick, said: &mut Queue) {
        self.unbanned = self.unbanned.filter(|unbanned| now.since(*unbanned) < settings.limit_time);
        let due = self.due(settings, signs);
        let from = std::mem::replace(&mut self.action, due);
        let (culprit, to, why) = (self.culprit, self.action, self.why.clone());
        let (flows, new_per_second) = (self.flows, self.new_per_second());
        if !self.told {
            self.told = true;
            let (process, exempt) = (self.process.clone(), self.exempt.clone());
            said.push(Said::Named { culprit, flows, new_per_second, why, process, action: to, exempt });
        } else if to > from {
            said.push(Said::Grown { culprit, flows, new_per_second, from, to, why });
        } else if to < from {
            let other =
                if self.unbanned.is_some() { "its ban was lifted or refused" } else { "the config says so, or the table can bear it" };
            let why = self.exempt.clone().unwrap_or_else(|| other.to_owned());
            said.push(Said::Eased { culprit, from, to, why });
        }
        self.ban(settings, now, said);
    }

    /// What should be done about it now.
    fn due(&self, settings: &Settings, signs: &Signs<'_>) -> Action {
        let local = !matches!(self.culprit, Culprit::Source { .. });
        let most = if local || self.unbanned.is_some() { settings.action.min(Action::Limit) } else { settings.action };
        let asks = matches!(self.culprit, Culprit::Local { port: DNS, .. });
        if self.exempt.is_some() || (asks && signs.state != State::Flood) {
            Action::Watch
        } else if self.over && self.endangers(settings, signs) {
            most
        } else {
            self.action.min(most)
        }
    }

    /// Whether the table is in danger because of it.
    fn endangers(&self, settings: &Settings, signs: &Signs<'_>) -> bool {
        let gauge = signs.gauge;
        let (max, flows) = (f64::from(gauge.max), f64::from(self.flows));
        let left = f64::from(gauge.max.saturating_sub(gauge.count));
        let within = seconds(settings.horizon);
        let weighty = flows >= WEIGHTY * max || flows >= DWARFED * f64::from(signs.largest);
        let pressing = signs.state >= State::Pressure && weighty;
        pressing || (max > 0.0 && (flows >= SHARE * max || (self.growth > 0.0 && left <= self.growth * within)))
    }

    /// Ends its idle flows, once and again after a while; whether they are.
    pub(super) fn purge(&mut self, now: Tick, said: &mut Queue) -> bool {
        let again = self.purged.is_none_or(|purged| now.since(purged) >= PURGE_PAUSE && self.checked > purged);
        let purge = self.action == Action::Limit && self.over && again;
        if purge {
            self.purged = Some(now);
            said.push(Said::Purge { culprit: self.culprit });
        }
        purge
    }

    /// Bans it, once, and again when that ban is over.
    fn ban(&mut self, settings: &Settings, now: Tick, said: &mut Queue) {
        let Culprit::Source { prefix } = self.culprit else { return };
        let stands = match self.banned {
            None => false,
            Some((_, Term::Forever)) => true,
            Some((at, Term::For(span))) => now.since(at) < span,
        };
        if self.action == Action::Ban && self.over && !stands {
            self.banned = Some((now, settings.ban_time));
            said.push(Said::Ban { prefix, term: settings.ban_time, why: self.why.clone() });
        }
    }

    /// It is let go.
    pub(super) fn farewell(&self, now: Tick) -> Said {
        Said::Over { culprit: self.culprit, lasted: now.since(self.since.tick), dropped: self.dropped }
    }

    /// The limit it has; `None`: it has none.
    pub(super) fn limit(&self, settings: &Settings, gauge: &Gauge) -> Option<Limit> {
        let stands = self.action == Action::Limit && settings.action >= Action::Limit && self.exempt.is_none() && !self.excused;
        stands.then(|| {
            let (rate, burst) = self.rate(settings, gauge.max);
            Limit { whose: self.culprit, rate, burst, timeouts: short(matches!(self.culprit, Culprit::Crowd { .. })) }
        })
    }

    /// How many it may open, a second and at once.
    pub(super) fn rate(&self, settings: &Settings, max: u32) -> (u32, u32) {
        match self.culprit {
            Culprit::Crowd { .. } => (super::crowd::rate(max), super::crowd::rate(max)),
            _ => settings.limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_culprit_opens_ends_as_in_an_attack() {
        let seconds = |crowd| short(crowd).into_iter().map(|(name, time)| (name, time.as_secs_ceil())).collect::<Vec<_>>();
        let expected = [
            ("tcp_close", 5),
            ("tcp_close_wait", 10),
            ("tcp_established", 600),
            ("tcp_fin_wait", 10),
            ("tcp_last_ack", 10),
            ("tcp_max_retrans", 30),
            ("tcp_syn_recv", 8),
            ("tcp_syn_sent", 8),
            ("tcp_time_wait", 5),
            ("tcp_unacknowledged", 30),
            ("udp", 10),
            ("udp_stream", 30),
        ];
        assert_eq!(seconds(false), expected.map(|(name, time)| (name.to_owned(), time)));
        let crowd = [("tcp_syn_recv", 8), ("tcp_syn_sent", 8), ("udp", 10)];
        assert_eq!(seconds(true), crowd.map(|(name, time)| (name.to_owned(), time)));
    }
}
