//! `limit`: new flows that somebody who is limited may still open.

use super::super::error::{At, Problem};
use super::super::nearest::shown;
use super::super::values::{Bounds, Reading, Value};
use super::super::words::Wrong;

/// Keys of `limit`.
pub(in super::super) const LIMIT_KEYS: &[&str] = &["rate", "burst"];

const SHAPE: &str = "a text like \"5/second\" or \"300/minute\", or a table like { rate = 5, burst = 20 }";
const RATE: Bounds = Bounds { low: 1, high: 10_000, why: "less lets nobody work, and more fills any table in seconds" };
const BURST: Bounds = Bounds { low: 1, high: 100_000, why: "so many come at once" };
/// How many times the rate may come at once where `burst` is not typed: a page with all that is on it.
const BURST_DEFAULT: u32 = 4;
/// Words for a time, in seconds.
const PER: [(&str, u32); 3] = [("second", 1), ("minute", 60), ("hour", 3600)];

impl Reading<'_> {
    /// Flows a second, and at once.
    pub(super) fn flood_limit(&mut self, value: &Value<'_>) -> Option<At<(u32, u32)>> {
        if value.get_ref().as_str().is_some() {
            let rate = self.parsed("limit", value, rate)?;
            return Some(self.at(value, (rate, rate * BURST_DEFAULT)));
        }
        let (mut rate, mut burst) = (None, None);
        let fields = self.table("limit", value, SHAPE)?;
        for (key, value) in fields {
            let name: &str = key.get_ref();
            match name {
                "rate" => rate = self.number::<u32>(name, value, RATE),
                "burst" => burst = self.number::<u32>(name, value, BURST),
                _ => self.unknown(key, "in [conntrack.limit]", LIMIT_KEYS),
            }
        }
        if !fields.contains_key("rate") {
            self.tell(&value.span(), Problem::Missing("`limit` needs a `rate`: how many new flows a second".to_owned()), None);
        }
        let rate = rate?.value;
        Some(self.at(value, (rate, burst.map_or(rate * BURST_DEFAULT, |burst| burst.value))))
    }
}

/// `5/second`, `300/minute`, `7200/hour`: whole flows a second, as the kernel is told seconds.
fn rate(text: &str) -> Result<u32, Wrong> {
    let wrong = |why: &str, hint: Option<String>| Err((format!("`{}` {why}", shown(text)), hint));
    let Some((count, per)) = text.split_once('/') else {
        return wrong("is no rate: write it like \"5/second\" or \"300/minute\"", None);
    };
    let Some((_, seconds)) = PER.iter().find(|(word, _)| *word == per) else {
        let words: Vec<&str> = PER.iter().map(|(word, _)| *word).collect();
        let hint = super::super::nearest::hint(per, &words);
        return wrong("is no rate: it is a number of flows per second, minute or hour", hint);
    };
    let digits = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
    let Some(count) = count.parse::<u32>().ok().filter(|_| digits) else {
        return wrong("has no number of flows before its `/`", None);
    };
    if !count.is_multiple_of(*seconds) {
        let near = count.div_ceil(*seconds).saturating_mul(*seconds);
        return wrong("is no whole number of flows a second", Some(format!("the next that is: \"{near}/{per}\"")));
    }
    let rate = count / seconds;
    if (RATE.low..=RATE.high).contains(&u64::from(rate)) {
        return Ok(rate);
    }
    wrong(&format!("is {rate} a second, but a limit is {} to {} a second: {}", RATE.low, RATE.high, RATE.why), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_whole_flows_a_second() {
        for (typed, read) in [("5/second", 5), ("300/minute", 5), ("7200/hour", 2), ("10000/second", 10_000)] {
            assert_eq!(rate(typed), Ok(read), "{typed}");
        }
        for wrong in
            ["", "5", "/second", "5/", "-5/second", "+5/second", "0/second", "10001/second", "5 /second", "5/s", "99999999999/hour"]
        {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(rate("100/minute").unwrap_err().1.unwrap(), "the next that is: \"120/minute\"");
        assert_eq!(rate("5/minutes").unwrap_err().1.unwrap(), "did you mean `minute`?");
    }
}
