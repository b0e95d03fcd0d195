//! Calm, pressure or flood: up at once, down a step at a time.

use super::State;
use crate::flood::settings::Settings;
use crate::time::{Now, Span, Tick};

/// A table that is full within this time is as good as full: a census and a limit take a second or two each.
pub(super) const MOMENTS: Span = Span::secs(15);

/// What the last gauge says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signs {
    /// How full the table is.
    pub fill: f64,
    /// Until it is full.
    pub full_in: Option<Span>,
    /// Packets were lost, or flows thrown out, for want of room since the gauge before.
    pub lost: bool,
    /// Packets were lost because it was full.
    pub full: bool,
}

/// The state, and since when nothing speaks for it any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    state: State,
    /// `None`: nothing was ever seen.
    since: Option<Now>,
    quiet: Option<Tick>,
}

/// From one to the other.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub from: State,
    pub to: State,
    pub why: String,
}

impl Level {
    pub(super) const fn state(&self) -> State {
        self.state
    }

    /// Since when it is so: since it was first looked at, where it never changed.
    pub(super) fn since(&self) -> Now {
        self.since.unwrap_or_default()
    }

    /// It is looked at.
    pub(super) fn begin(&mut self, now: Now) {
        self.since.get_or_insert(now);
    }

    /// Looks at the signs. It goes up as soon as they say so. It goes down one step when for the whole of `calm_after`
    /// nothing was lost, nothing is forecast, and the table was emptier than half way between where pressure begins and where a
    /// flood does (from flood), or than `release` (from pressure). So a table that always is at the one, and was at the other once, does
    /// not keep the timeouts of an attack.
    pub(super) fn step(&mut self, signs: &Signs, settings: &Settings, now: Now) -> Option<Step> {
        let (target, why) = said_by(signs, settings);
        if target > self.state {
            return Some(self.go(target, why, now));
        }
        let (pressure, flood) = engage(settings);
        let below = if self.state == State::Flood { f64::midpoint(pressure, flood) } else { settings.release.min(pressure) };
        let quiet = signs.fill < below && !signs.lost && signs.full_in.is_none_or(|left| left > settings.horizon);
        if self.state == State::Calm || !quiet {
            self.quiet = None;
            return None;
        }
        let from = *self.quiet.get_or_insert(now.tick);
        if now.tick.since(from) < settings.calm_after {
            return None;
        }
        let to = if self.state == State::Flood { State::Pressure } else { State::Calm };
        let why = format!("{} full, nothing lost and nothing forecast for {}", percent(signs.fill), settings.calm_after);
        Some(self.go(to, why, now))
    }

    /// Calm, whatever it was: nothing is seen any more.
    pub(super) fn reset(&mut self, why: &str, now: Now) -> Option<Step> {
        self.quiet = None;
        (self.state != State::Calm).then(|| self.go(State::Calm, why.to_owned(), now))
    }

    fn go(&mut self, to: State, why: String, now: Now) -> Step {
        let from = std::mem::replace(&mut self.state, to);
        self.since = Some(now);
        self.quiet = None;
        Step { from, to, why }
    }
}

/// Where pressure begins and where a flood does, never the wrong way round.
fn engage(settings: &Settings) -> (f64, f64) {
    let (pressure, flood) = settings.engage;
    (pressure.min(flood), flood.max(pressure))
}

/// What the signs alone say.
fn said_by(signs: &Signs, settings: &Settings) -> (State, String) {
    let (pressure, flood) = engage(settings);
    let fill = percent(signs.fill);
    let full_in = |within: Span| signs.full_in.filter(|left| *left <= within);
    if signs.full {
        (State::Flood, "packets were dropped because the table is full".to_owned())
    } else if signs.fill >= flood {
        (State::Flood, format!("{fill} full, from {} on it is a flood", percent(flood)))
    } else if let Some(left) = full_in(MOMENTS.min(settings.horizon)) {
        (State::Flood, format!("{fill} full, and full within {} at this growth", whole(left)))
    } else if signs.fill >= pressure {
        (State::Pressure, format!("{fill} full, from {} on it is under pressure", percent(pressure)))
    } else if signs.lost {
        (State::Pressure, "the kernel dropped packets or threw out flows for want of room".to_owned())
    } else if let Some(left) = full_in(settings.horizon) {
        (State::Pressure, format!("{fill} full, and full within {} at this growth", whole(left)))
    } else {
        (State::Calm, String::new())
    }
}

/// `71 %`; below ten with one decimal, `0.4 %`.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    // What would be written as 10.0 is ten.
    let decimals = usize::from(percent < 9.95);
    format!("{percent:.decimals$} %")
}

/// To the second, for people.
pub(super) const fn whole(span: Span) -> Span {
    Span::secs(span.as_secs_ceil())
}
