//! `[conntrack]`: the flood guard. Keys, reader, meaning and writer in one place; those of `[conntrack.service.NAME]` and
//! of all timeouts in files of their own.

mod fill;
mod limit;
mod service;
mod timeouts;

use toml::de::DeTable;

use super::error::{At, Gather, Problem};
use super::nearest::shown;
use super::show::{line, list, quoted};
use super::values::{Bounds, Reading, TimeBounds, Value};
use super::walk::BAN;
use super::words::{self, Wrong};
use crate::flood::settings::{Action, Settings};
use crate::net::Prefix;
use crate::time::{Span, Term};
use service::RawServices;
use timeouts::RawTimeouts;

#[cfg(test)]
pub(super) use limit::LIMIT_KEYS;
pub(super) use service::SERVICE_KEYS;
pub(super) use timeouts::TIMEOUTS;
#[cfg(test)]
pub(super) use timeouts::{TCP_STATES, UDP_STATES};

/// Keys of `[conntrack]`.
pub(super) const CONNTRACK_KEYS: &[&str] = &[
    "enabled",
    "engage",
    "release",
    "calm_after",
    "horizon",
    "per_source",
    "exempt",
    "action",
    "limit",
    "limit_time",
    "ban_time",
    "purge",
    "adapt",
    "follow_addresses",
    "address_lifetime",
    "timeouts",
    "leases",
    "service",
];
/// Words of `action`.
pub(super) const ACTIONS: &[(&str, Action)] = &[("watch", Action::Watch), ("limit", Action::Limit), ("ban", Action::Ban)];

/// More prefixes than this are a list that belongs in `[allow]`: each culprit is held against each of them.
const EXEMPT_MAX: usize = 1024;
/// Each file of leases is read whole when somebody is named.
const LEASES_MAX: usize = 16;
/// What `release` is at most where it is not written: so much of `engage`. Nearer, one burst would begin and end pressure again and again.
const RELEASE_BELOW: f64 = 0.9;

const DAY: u64 = 86_400;
const CALM_AFTER: TimeBounds =
    TimeBounds { low: Span::secs(1), high: Span::secs(DAY), permanent: false, why: "so long the timeouts of a full table go on" };
const HORIZON: TimeBounds = TimeBounds {
    low: Span::ZERO,
    high: Span::secs(DAY),
    permanent: false,
    why: "nobody can tell what a table holds in days; 0 looks at what it holds now",
};
const LIMIT_TIME: TimeBounds = TimeBounds {
    low: Span::secs(1),
    high: Span::secs(30 * DAY),
    permanent: false,
    why: "a limit goes by itself, and comes back if it must",
};
const LIFETIME: TimeBounds = TimeBounds {
    low: Span::secs(60),
    high: Span::secs(365 * DAY),
    permanent: true,
    why: "no timeout is longer than that, and none is made shorter than a minute for it",
};
const PER_SOURCE: Bounds = Bounds { low: 1, high: 16_777_216, why: "no table holds more flows than that" };

#[derive(Debug, Default)]
pub(super) struct RawConntrack {
    enabled: Option<At<bool>>,
    engage: Option<At<(f64, f64)>>,
    release: Option<At<f64>>,
    calm_after: Option<At<Span>>,
    horizon: Option<At<Span>>,
    per_source: Option<At<u32>>,
    exempt: Option<At<Vec<Prefix>>>,
    action: Option<At<Action>>,
    limit: Option<At<(u32, u32)>>,
    limit_time: Option<At<Span>>,
    ban_time: Option<At<Term>>,
    purge: Option<At<bool>>,
    adapt: Option<At<bool>>,
    follow_addresses: Option<At<bool>>,
    address_lifetime: Option<At<Term>>,
    timeouts: RawTimeouts,
    leases: Option<At<Vec<String>>>,
    services: RawServices,
}

impl RawConntrack {
    /// Adds what a later file wrote: keys of the later one win, timeouts and services merge by name.
    pub(super) fn merge(&mut self, later: Self) {
        self.enabled = later.enabled.or(self.enabled.take());
        self.engage = later.engage.or(self.engage.take());
        self.release = later.release.or(self.release.take());
        self.calm_after = later.calm_after.or(self.calm_after.take());
        self.horizon = later.horizon.or(self.horizon.take());
        self.per_source = later.per_source.or(self.per_source.take());
        self.exempt = later.exempt.or(self.exempt.take());
        self.action = later.action.or(self.action.take());
        self.limit = later.limit.or(self.limit.take());
        self.limit_time = later.limit_time.or(self.limit_time.take());
        self.ban_time = later.ban_time.or(self.ban_time.take());
        self.purge = later.purge.or(self.purge.take());
        self.adapt = later.adapt.or(self.adapt.take());
        self.follow_addresses = later.follow_addresses.or(self.follow_addresses.take());
        self.address_lifetime = later.address_lifetime.or(self.address_lifetime.take());
        self.timeouts.extend(later.timeouts);
        self.leases = later.leases.or(self.leases.take());
        service::merge(&mut self.services, later.services);
    }
}

impl Reading<'_> {
    /// Reads `[conntrack]`.
    pub(super) fn conntrack(&mut self, table: &DeTable<'_>) -> RawConntrack {
        let mut raw = RawConntrack::default();
        for (key, value) in table {
            let name: &str = key.get_ref();
            match name {
                "enabled" => raw.enabled = self.boolean(name, value),
                "engage" => raw.engage = self.engage(value),
                "release" => raw.release = self.fill(name, value, fill::SHAPE),
                "calm_after" => raw.calm_after = self.span(name, value, CALM_AFTER),
                "horizon" => raw.horizon = self.span(name, value, HORIZON),
                "per_source" => raw.per_source = self.number(name, value, PER_SOURCE),
                "exempt" => raw.exempt = self.texts(name, value, ("a list of texts like \"192.0.2.0/24\"", EXEMPT_MAX), exempt),
                "action" => raw.action = self.flood_action(name, value),
                "limit" => raw.limit = self.flood_limit(value),
                "limit_time" => raw.limit_time = self.span(name, value, LIMIT_TIME),
                "ban_time" => raw.ban_time = self.term(name, value, BAN),
                "purge" => raw.purge = self.boolean(name, value),
                "adapt" => raw.adapt = self.boolean(name, value),
                "follow_addresses" => raw.follow_addresses = self.boolean(name, value),
                "address_lifetime" => raw.address_lifetime = self.term(name, value, LIFETIME),
                "timeouts" => raw.timeouts = self.flood_timeouts(value, "[conntrack.timeouts]", TIMEOUTS),
                "leases" => raw.leases = self.texts(name, value, ("a list of paths", LEASES_MAX), words::file),
                "service" => raw.services = self.flood_services(value),
                _ => self.unknown(key, "in [conntrack]", CONNTRACK_KEYS),
            }
        }
        raw
    }

    fn flood_action(&mut self, name: &str, value: &Value<'_>) -> Option<At<Action>> {
        let known: Vec<&'static str> = ACTIONS.iter().map(|(word, _)| *word).collect();
        let word = self.word(name, value, &known, &[])?;
        ACTIONS.iter().find(|(known, _)| *known == word.value).map(|(_, action)| At { value: *action, at: word.at })
    }
}

/// Whoever is exempt. Not everybody: that has a word of its own.
fn exempt(text: &str) -> Result<Prefix, Wrong> {
    let prefix: Prefix = text.parse().map_err(|error| {
        let hint = words::host_name(text).ok().map(|_| "host names belong in `names` of [allow], whose hosts are exempt too".to_owned());
        (format!("`{}`: {error}", shown(text)), hint)
    })?;
    if prefix.len() > 0 {
        return Ok(prefix);
    }
    let message = format!("`{}` is everyone: with it nothing would ever be done about a flood", shown(text));
    Err((message, Some("write `action = \"watch\"`".to_owned())))
}

/// What was typed, over the defaults. Here is told what does not go together.
pub(super) fn mean(raw: RawConntrack, errors: &mut Gather) -> Settings {
    let default = Settings::default();
    let engage = raw.engage.map_or(default.engage, |typed| typed.value);
    let release = release(raw.release, engage.0, default.release, errors);
    Settings {
        enabled: or(raw.enabled, default.enabled),
        engage,
        release,
        calm_after: or(raw.calm_after, default.calm_after),
        horizon: or(raw.horizon, default.horizon),
        per_source: or(raw.per_source, default.per_source),
        exempt: or(raw.exempt, default.exempt),
        action: or(raw.action, default.action),
        limit: or(raw.limit, default.limit),
        limit_time: or(raw.limit_time, default.limit_time),
        ban_time: or(raw.ban_time, default.ban_time),
        purge: or(raw.purge, default.purge),
        adapt: or(raw.adapt, default.adapt),
        follow_addresses: or(raw.follow_addresses, default.follow_addresses),
        address_lifetime: raw.address_lifetime.map_or(default.address_lifetime, |typed| match typed.value {
            Term::For(span) => Some(span),
            Term::Forever => None,
        }),
        timeouts: timeouts::mean(raw.timeouts),
        services: service::mean(raw.services, errors),
        leases: raw.leases.map(|typed| typed.value).or(default.leases),
    }
}

fn or<T>(typed: Option<At<T>>, default: T) -> T {
    typed.map_or(default, |typed| typed.value)
}

/// Where pressure ends: below where it begins. Where only that was typed, the end moves along.
fn release(typed: Option<At<f64>>, engage: f64, default: f64, errors: &mut Gather) -> f64 {
    let Some(At { value, at }) = typed else { return default.min(engage * RELEASE_BELOW) };
    if value >= engage {
        let message = format!(
            "`release` = {} is not below {}, where `engage` has pressure begin: it would begin and end at once",
            fill::text(value),
            fill::text(engage)
        );
        errors.tell(at, Problem::Clash(message), Some(format!("write less than {}", fill::text(engage))));
    }
    value
}

/// The section and its services as TOML again.
pub(super) fn show(out: &mut String, settings: &Settings) {
    let action = ACTIONS.iter().find(|(_, action)| *action == settings.action).map_or("limit", |(word, _)| *word);
    let (rate, burst) = settings.limit;
    out.push_str("\n[conntrack]\n");
    line(out, "enabled", settings.enabled);
    line(out, "engage", format!("[{}, {}]", fill::show(settings.engage.0), fill::show(settings.engage.1)));
    line(out, "release", fill::show(settings.release));
    line(out, "calm_after", quoted(&settings.calm_after));
    line(out, "horizon", quoted(&settings.horizon));
    line(out, "per_source", settings.per_source);
    line(out, "exempt", list(&settings.exempt));
    line(out, "action", quoted(action));
    line(out, "limit", format!("{{ rate = {rate}, burst = {burst} }}"));
    line(out, "limit_time", quoted(&settings.limit_time));
    line(out, "ban_time", quoted(&settings.ban_time));
    line(out, "purge", settings.purge);
    line(out, "adapt", settings.adapt);
    line(out, "follow_addresses", settings.follow_addresses);
    line(out, "address_lifetime", quoted(&settings.address_lifetime.map_or(Term::Forever, Term::For)));
    line(out, "timeouts", timeouts::show(&settings.timeouts));
    if let Some(leases) = &settings.leases {
        line(out, "leases", list(leases));
    }
    service::show(out, &settings.services);
}
