//! `[budget.NAME]`: what a provider allows.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::DeTable;

use super::super::error::{At, Gather, Place, Problem};
use super::super::show::{line, quoted};
use super::super::values::{Bounds, Reading, TimeBounds, Value};
use super::super::walk::Key;
use super::{head, or, place};
use crate::route::tunnels::Budget;
use crate::time::Span;

/// Keys of `[budget.NAME]`.
pub(in super::super) const BUDGET_KEYS: &[&str] = &["limit", "penalty", "lockout", "reserve", "margin"];
/// Keys of `limit`.
pub(in super::super) const LIMIT_KEYS: &[&str] = &["connects", "within"];
/// Keys of `lockout`.
pub(in super::super) const LOCKOUT_KEYS: &[&str] = &["breaches", "within", "for"];

const CONNECTS: Bounds = Bounds { low: 1, high: 1000, why: "each is remembered" };
const BREACHES: Bounds = Bounds { low: 1, high: 100, why: "each is remembered" };
const RESERVE: Bounds = Bounds { low: 0, high: 999, why: "some must be left for what starts by itself" };
const WITHIN: TimeBounds = TimeBounds { low: Span::secs(1), high: Span::secs(30 * 86_400), permanent: false, why: "it is waited for" };
const MARGIN: TimeBounds = TimeBounds { low: Span::ZERO, high: Span::secs(3600), permanent: false, why: "it is added to every wait" };

#[derive(Debug, Default)]
pub(super) struct RawBudget {
    pub(super) at: Place,
    limit: Option<At<(u32, Span)>>,
    penalty: Option<At<Span>>,
    lockout: Option<At<(u32, Span, Span)>>,
    reserve: Option<At<u32>>,
    margin: Option<At<Span>>,
}

impl RawBudget {
    pub(super) fn merge(&mut self, later: Self) {
        self.at = later.at;
        self.limit = later.limit.or(self.limit.take());
        self.penalty = later.penalty.or(self.penalty.take());
        self.lockout = later.lockout.or(self.lockout.take());
        self.reserve = later.reserve.or(self.reserve.take());
        self.margin = later.margin.or(self.margin.take());
    }
}

impl Reading<'_> {
    pub(super) fn budget(&mut self, key: &Key<'_>, table: &DeTable<'_>) -> RawBudget {
        let mut raw = RawBudget { at: self.place(&key.span()), ..RawBudget::default() };
        for (setting, value) in table {
            let name: &str = setting.get_ref();
            match name {
                "limit" => raw.limit = self.limit(value),
                "penalty" => raw.penalty = self.span(name, value, WITHIN),
                "lockout" => raw.lockout = self.lockout(value),
                "reserve" => raw.reserve = self.number(name, value, RESERVE),
                "margin" => raw.margin = self.span(name, value, MARGIN),
                _ => self.unknown(setting, &format!("in [budget.{}]", key.get_ref()), BUDGET_KEYS),
            }
        }
        raw
    }

    fn limit(&mut self, value: &Value<'_>) -> Option<At<(u32, Span)>> {
        const SHAPE: &str = "a table like { connects = 4, within = \"60s\" }";
        let (mut connects, mut within) = (None, None);
        for (key, value) in self.table("limit", value, SHAPE)? {
            let name: &str = key.get_ref();
            match name {
                "connects" => connects = self.number(name, value, CONNECTS).map(|typed| typed.value),
                "within" => within = self.span(name, value, WITHIN).map(|typed| typed.value),
                _ => self.unknown(key, "in `limit`", LIMIT_KEYS),
            }
        }
        if connects.is_none() || within.is_none() {
            self.tell(&value.span(), Problem::Missing(format!("`limit` is {SHAPE}")), None);
        }
        self.at_of(value, connects.zip(within))
    }

    fn lockout(&mut self, value: &Value<'_>) -> Option<At<(u32, Span, Span)>> {
        const SHAPE: &str = "a table like { breaches = 2, within = \"24h\", for = \"7d\" }";
        let (mut breaches, mut within, mut lasting) = (None, None, None);
        for (key, value) in self.table("lockout", value, SHAPE)? {
            let name: &str = key.get_ref();
            match name {
                "breaches" => breaches = self.number(name, value, BREACHES).map(|typed| typed.value),
                "within" => within = self.span(name, value, WITHIN).map(|typed| typed.value),
                "for" => lasting = self.span(name, value, WITHIN).map(|typed| typed.value),
                _ => self.unknown(key, "in `lockout`", LOCKOUT_KEYS),
            }
        }
        let (Some(breaches), Some(within), Some(lasting)) = (breaches, within, lasting) else {
            self.tell(&value.span(), Problem::Missing(format!("`lockout` is {SHAPE}")), None);
            return None;
        };
        self.at_of(value, Some((breaches, within, lasting)))
    }
}

/// The budgets that were typed.
pub(super) fn mean(raw: BTreeMap<String, RawBudget>, errors: &mut Gather) -> BTreeMap<Arc<str>, Budget> {
    raw.into_iter().filter_map(|(name, raw)| Some((Arc::from(name.as_str()), one(&name, raw, errors)?))).collect()
}

fn one(name: &str, raw: RawBudget, errors: &mut Gather) -> Option<Budget> {
    let Some(At { value: (connects, within), at }) = raw.limit else {
        let message =
            format!("budget `{name}` has no limit: write what the provider allows, `limit = {{ connects = 4, within = \"60s\" }}`");
        errors.tell(raw.at, Problem::Missing(message), None);
        return None;
    };
    let reserve = raw.reserve.as_ref().map_or(u32::from(connects > 1), |reserve| reserve.value);
    if reserve >= connects {
        let message = format!("budget `{name}` keeps {reserve} of {connects} connects for a human: nothing would ever start by itself");
        errors.tell(place(raw.reserve.as_ref(), at), Problem::Clash(message), None);
    }
    let (breaches, breach_within, lockout) = raw.lockout.map_or((2, Span::secs(86_400), Span::secs(7 * 86_400)), |typed| typed.value);
    Some(Budget {
        name: name.into(),
        connects,
        within,
        penalty: or(raw.penalty, Span::secs(300)),
        breaches,
        breach_within,
        lockout,
        reserve,
        margin: or(raw.margin, Span::secs(5)),
    })
}

pub(super) fn show(out: &mut String, budget: &Budget) {
    head(out, "budget", &budget.name);
    line(out, "limit", format!("{{ connects = {}, within = {} }}", budget.connects, quoted(&budget.within)));
    line(out, "penalty", quoted(&budget.penalty));
    let (breaches, within, lasting) = (budget.breaches, quoted(&budget.breach_within), quoted(&budget.lockout));
    line(out, "lockout", format!("{{ breaches = {breaches}, within = {within}, for = {lasting} }}"));
    line(out, "reserve", budget.reserve);
    line(out, "margin", quoted(&budget.margin));
}
