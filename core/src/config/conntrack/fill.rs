//! How full the table is, as it is typed: `"70%"`, or a share like 0.7.

use super::super::error::{At, Problem};
use super::super::nearest::shown;
use super::super::values::{Reading, Value};

/// How it is written.
pub(super) const SHAPE: &str = "a fill like \"70%\" or 0.7";
const PAIR: &str = "a fill like \"70%\" or 0.7, or two of them: where pressure begins, and where a flood";
const WHY: &str = "it is a share of the table; 70% is written \"70%\" or 0.7";

impl Reading<'_> {
    /// Above 0, up to 1.
    pub(super) fn fill(&mut self, key: &str, value: &Value<'_>, want: &str) -> Option<At<f64>> {
        let typed = value.get_ref();
        let share = if let Some(text) = typed.as_str() {
            let Some(percent) = percent(text) else {
                return self.wrong_value(value, (format!("`{}` is no fill: write it like \"70%\" or 0.7", shown(text)), None));
            };
            percent / 100.0
        } else if let Some(integer) = typed.as_integer() {
            u32::from_str_radix(integer.as_str(), integer.radix()).map_or(f64::NAN, f64::from)
        } else if let Some(float) = typed.as_float() {
            float.as_str().parse().unwrap_or(f64::NAN)
        } else {
            return self.wrong_type(key, value, want);
        };
        // NaN is in no range.
        if share > 0.0 && share <= 1.0 {
            return Some(self.at(value, share));
        }
        let got = typed.as_str().map_or_else(|| share.to_string(), shown);
        let hint = (typed.as_str().is_none() && share > 1.0 && share <= 100.0).then(|| format!("did you mean \"{share}%\"?"));
        let problem = Problem::Range { key: shown(key), got, range: "above 0 and at most 1".to_owned(), why: WHY };
        self.tell(&value.span(), problem, hint);
        None
    }

    /// One fill, where pressure begins: a flood begins half way from there to full. Or both.
    pub(super) fn engage(&mut self, value: &Value<'_>) -> Option<At<(f64, f64)>> {
        let Some(array) = value.get_ref().as_array() else {
            return self
                .fill("engage", value, PAIR)
                .map(|typed| At { value: (typed.value, f64::midpoint(typed.value, 1.0)), at: typed.at });
        };
        let [pressure, flood] = &array[..] else {
            let message = format!("`engage` has {} entries; it is {PAIR}", array.len());
            return self.wrong_value(value, (message, None));
        };
        let (pressure, flood) = (self.fill("engage", pressure, SHAPE), self.fill("engage", flood, SHAPE));
        let (pressure, flood) = (pressure?.value, flood?.value);
        if pressure > flood {
            let message = format!("`engage` has a flood begin at {}, below the pressure at {}", text(flood), text(pressure));
            self.tell(&value.span(), Problem::Clash(message), Some(format!("did you mean [{}, {}]?", show(flood), show(pressure))));
            return None;
        }
        Some(self.at(value, (pressure, flood)))
    }
}

/// `70%`, `62.5%`: digits with at most one dot among them.
fn percent(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%')?.trim_end();
    let plain = number.starts_with(|c: char| c.is_ascii_digit()) && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    number.parse().ok().filter(|_| plain)
}

/// As a percentage where that is exactly it, else as it is.
pub(super) fn text(share: f64) -> String {
    let hundredths = format!("{:.2}", share * 100.0);
    let short = hundredths.trim_end_matches('0').trim_end_matches('.');
    match percent(&format!("{short}%")) {
        #[expect(clippy::float_cmp, reason = "whether it reads back as the very same number")]
        Some(read) if read / 100.0 == share => format!("{short}%"),
        _ => toml::Value::Float(share).to_string(),
    }
}

/// The same as TOML.
pub(super) fn show(share: f64) -> String {
    let text = text(share);
    if text.ends_with('%') { format!("\"{text}\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_digits() {
        for (typed, read) in [("70%", 70.0), ("62.5%", 62.5), ("100 %", 100.0), ("0.1%", 0.1)] {
            assert_eq!(percent(typed), Some(read), "{typed}");
        }
        for wrong in ["", "%", "70", "-1%", "+1%", "1e1%", "inf%", "nan%", ".5%", "1.2.3%", "70%%", "seventy%"] {
            assert_eq!(percent(wrong), None, "{wrong}");
        }
        assert_eq!((text(0.7), text(0.625), text(1.0), show(0.7)), ("70%".into(), "62.5%".into(), "100%".into(), "\"70%\"".into()));
        assert_eq!(show(1.0 / 3.0), "0.3333333333333333");
    }
}
