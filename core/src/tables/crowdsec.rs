//! CrowdSec's decisions, in the four shapes that `cscli` writes and reads.
//!
//! | shape | |
//! |---|---|
//! | `cscli decisions list -o json` | a list of alerts, each with its `decisions` |
//! | `cscli decisions list -o raw` | CSV: `id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id`, with `ip` as `Ip:203.0.113.7` |
//! | `cscli decisions import`, JSON | a list of `{"duration","reason","scope","type","value"}` |
//! | the same in CSV | any of these columns, with a header |
//!
//! (cmd/crowdsec-cli/clidecision/decisions.go and import.go of crowdsecurity/crowdsec.) A duration is
//! Go's (`3h59m58.12s`, time.ParseDuration) and counts from now; a negative one is over. What is not
//! to `ban`, is only simulated, or is about a country, a network's owner or a user is passed over.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::csv::{Column, Columns, text};
use super::json::Text;
use super::words::{blank, prefixes, reason, shown};
use super::{End, Item, Row, moment, objects};
use crate::time::Stamp;

/// One decision, whatever the shape.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Decision<'a> {
    #[serde(borrow)]
    value: Text<'a>,
    #[serde(borrow)]
    duration: Text<'a>,
    #[serde(borrow)]
    until: Text<'a>,
    #[serde(borrow)]
    scope: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, alias = "scenario")]
    reason: Text<'a>,
    simulated: Option<bool>,
    /// Only an alert has it: one whose list of decisions is null.
    events_count: Option<IgnoredAny>,
    /// Rows may stand in here, and then this is none.
    bans: Option<IgnoredAny>,
    decisions: Option<IgnoredAny>,
}

/// Reads decisions, counting durations from this moment.
pub(super) struct Decisions(pub(super) Stamp);

impl objects::Rows for Decisions {
    fn read(&mut self, object: &[u8], say: &mut dyn FnMut(Item)) {
        let decision: Decision<'_> = match serde_json::from_slice(object) {
            Ok(decision) => decision,
            Err(error) => return say(Item::Bad(format!("expected a decision with `value`, `type`, `duration`: {error}"))),
        };
        if !decision.value.bytes().is_empty() {
            return decision.told().say(self.0, say);
        }
        say(match decision.events_count {
            Some(_) => Item::Passed("an alert without decisions".to_owned()),
            None => Item::Bad(format!("expected a decision with `value`, found {}", shown(object))),
        });
    }

    fn read_first(&mut self, bytes: &[u8], say: &mut dyn FnMut(Item)) -> Option<usize> {
        let (decision, len) = objects::first::<Decision<'_>>(bytes)?;
        // An alert has no value of its own: its decisions are looked for.
        if decision.value.bytes().is_empty() || decision.bans.is_some() || decision.decisions.is_some() {
            return None;
        }
        decision.told().say(self.0, say);
        Some(len)
    }
}

impl Decision<'_> {
    fn told(&self) -> Told<'_> {
        Told {
            value: self.value.bytes(),
            duration: self.duration.bytes(),
            until: self.until.bytes(),
            scope: self.scope.bytes(),
            kind: self.kind.bytes(),
            reason: self.reason.bytes(),
            simulated: self.simulated == Some(true),
        }
    }
}

/// Reads one line.
pub(super) fn csv(line: &[u8], columns: &mut Columns, now: Stamp, say: &mut dyn FnMut(Item)) {
    // What an old `cscli` prints for no decisions at all.
    if line == b"null" {
        return;
    }
    let Some(record) = columns.record(line, say) else { return };
    let field = |column| columns.field(&record, column);
    let value = field(Column::Prefix);
    // `Ip:203.0.113.7`: an IPv6 address has no letter beyond f before its first colon.
    let colon = value.iter().position(|byte| *byte == b':').unwrap_or(0);
    let scoped = value[..colon].iter().any(|byte| byte.is_ascii_alphabetic() && !byte.is_ascii_hexdigit());
    let (scope, value) = if scoped { (&value[..colon], &value[colon + 1..]) } else { (field(Column::Scope), value) };
    let told = Told {
        value,
        duration: field(Column::Duration),
        until: &[],
        scope,
        kind: field(Column::Kind),
        reason: &text(field(Column::Reason)),
        simulated: field(Column::Simulated).eq_ignore_ascii_case(b"true"),
    };
    told.say(now, say);
}

/// A decision's fields, empty where they are not there.
struct Told<'a> {
    value: &'a [u8],
    duration: &'a [u8],
    until: &'a [u8],
    scope: &'a [u8],
    kind: &'a [u8],
    reason: &'a [u8],
    simulated: bool,
}

impl Told<'_> {
    fn say(&self, now: Stamp, say: &mut dyn FnMut(Item)) {
        let is = |text: &[u8], word: &str| text.is_empty() || text.eq_ignore_ascii_case(word.as_bytes());
        if self.simulated {
            return say(Item::Passed("a decision that is only simulated".to_owned()));
        }
        if !is(self.kind, "ban") {
            return say(Item::Passed(format!("a decision to {}, not to ban", shown(self.kind))));
        }
        if !is(self.scope, "ip") && !is(self.scope, "range") {
            return say(Item::Passed(format!("a decision about a {}, not an address", shown(self.scope))));
        }
        let end = match (self.duration, self.until) {
            ([], []) => Ok(None),
            ([], until) => moment::read(until, now).map(Some).ok_or(until),
            (duration, _) => go_duration(duration).map(|ms| Some(End::At(now.shifted(ms).0))).ok_or(duration),
        };
        match end {
            Ok(end) => prefixes(self.value, Row { end, reason: reason(self.reason), ..blank() }, say),
            Err(bad) => say(Item::Bad(format!("expected a duration like 3h59m58.12s, found {}", shown(bad)))),
        }
    }
}

/// Go's units in nanoseconds (time.ParseDuration), and the days that `cscli` takes besides.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1000),
    ("µs", 1000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// A duration as Go writes it, in milliseconds; saturates.
fn go_duration(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= 64)?;
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    match rest {
        "" => return None,
        "0" => return Some(0),
        _ => {}
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (whole, tail) = digits(rest);
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(tail) => digits(tail),
            None => ("", tail),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &tail[..letters])?;
        rest = &tail[letters..];
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u128::MAX) };
        // Nine digits are all that a nanosecond can tell.
        let fraction = &fraction[..fraction.len().min(9)];
        let part =
            if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? * unit / 10u128.pow(u32::try_from(fraction.len()).ok()?) };
        nanos = nanos.saturating_add(whole.saturating_mul(*unit)).saturating_add(part);
    }
    Some(sign * i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, ms) in [
            ("4h", 14_400_000),
            ("3h59m58.123456789s", 14_398_123),
            ("-1h2m3s", -3_723_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("7d", 604_800_000),
            ("0", 0),
            ("0s", 0),
            ("99999999999999999999999999999999999999999999h", i64::MAX),
        ] {
            assert_eq!(go_duration(text.as_bytes()), Some(ms), "{text}");
        }
        for wrong in ["", "-", "4", "h", "4x", ".h", "4h ", "1..2s"] {
            assert_eq!(go_duration(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
