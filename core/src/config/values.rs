//! How one TOML value becomes a typed one. Each function tells what is wrong and gives `None`.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{At, Gather, Place, Problem};
use super::nearest::{hint, shown};
use super::words::Wrong;
use crate::time::{Span, Term};

/// A value and the bytes it stands on.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// A number's range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) low: u64,
    pub(crate) high: u64,
    /// Why there is a bound.
    pub(super) why: &'static str,
}

/// A duration's range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeBounds {
    pub(crate) low: Span,
    pub(crate) high: Span,
    pub(super) permanent: bool,
    pub(super) why: &'static str,
}

/// One file being read.
pub(super) struct Reading<'a> {
    pub(super) file: usize,
    pub(super) signatures: &'a [&'a str],
    pub(super) errors: &'a mut Gather,
}

impl Reading<'_> {
    pub(super) const fn place(&self, span: &Range<usize>) -> Place {
        Place { file: self.file, start: span.start, end: span.end }
    }

    pub(super) fn tell(&mut self, span: &Range<usize>, problem: Problem, hint: Option<String>) {
        self.errors.tell(self.place(span), problem, hint);
    }

    pub(super) fn wrong_type<T>(&mut self, key: &str, value: &Value<'_>, want: &str) -> Option<T> {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.tell(&value.span(), Problem::Type { key: shown(key), want: want.to_owned(), found }, None);
        None
    }

    pub(super) fn wrong_value<T>(&mut self, value: &Value<'_>, (message, hint): Wrong) -> Option<T> {
        self.tell(&value.span(), Problem::Value(message), hint);
        None
    }

    /// A text that `read` makes something of.
    pub(super) fn parsed<T>(&mut self, key: &str, value: &Value<'_>, read: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        let text = self.text(key, value, "a text")?;
        read(text).map_or_else(|wrong| self.wrong_value(value, wrong), Some)
    }

    pub(super) fn at<T>(&self, value: &Value<'_>, typed: T) -> At<T> {
        At { value: typed, at: self.place(&value.span()) }
    }

    pub(super) fn table<'v, 't>(&mut self, key: &str, value: &'v Value<'t>, want: &str) -> Option<&'v DeTable<'t>> {
        value.get_ref().as_table().or_else(|| self.wrong_type(key, value, want))
    }

    pub(super) fn text<'v>(&mut self, key: &str, value: &'v Value<'_>, want: &str) -> Option<&'v str> {
        value.get_ref().as_str().or_else(|| self.wrong_type(key, value, want))
    }

    pub(super) fn boolean(&mut self, key: &str, value: &Value<'_>) -> Option<At<bool>> {
        let typed = value.get_ref().as_bool().or_else(|| self.wrong_type(key, value, "true or false"))?;
        Some(self.at(value, typed))
    }

    /// One of a few words; `later` are known but cannot be chosen yet.
    pub(super) fn word(&mut self, key: &str, value: &Value<'_>, words: &[&'static str], later: &[&str]) -> Option<At<&'static str>> {
        let want = format!("one of {}", words.join(", "));
        let text = self.text(key, value, &want)?;
        if let Some(word) = words.iter().find(|word| **word == text) {
            return Some(self.at(value, word));
        }
        if later.contains(&text) {
            self.tell(&value.span(), Problem::Later(format!("{key} `{text}`")), Some(format!("choose {want}")));
            return None;
        }
        let all: Vec<&str> = words.iter().chain(later).copied().collect();
        let message = format!("`{}` is not a word for `{key}`: it is {want}", shown(text));
        self.wrong_value(value, (message, hint(text, &all)))
    }

    /// A whole number within bounds.
    pub(super) fn number<T: TryFrom<u64>>(&mut self, key: &str, value: &Value<'_>, bounds: Bounds) -> Option<At<T>> {
        let Some(integer) = value.get_ref().as_integer() else {
            return self.wrong_type(key, value, "a whole number");
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let typed = number.filter(|n| (bounds.low..=bounds.high).contains(n)).and_then(|n| T::try_from(n).ok());
        typed.map(|typed| self.at(value, typed)).or_else(|| self.out_of(key, value, &integer.to_string(), bounds))
    }

    /// A size in bytes within bounds, as a number or with a unit.
    pub(super) fn size(&mut self, key: &str, value: &Value<'_>, bounds: Bounds) -> Option<At<usize>> {
        let Some(text) = value.get_ref().as_str() else {
            if value.get_ref().is_integer() {
                return self.number(key, value, bounds);
            }
            return self.wrong_type(key, value, "a size like \"16KiB\" or a number of bytes");
        };
        let Some(size) = super::words::bytes(text) else {
            return self.wrong_value(value, (format!("`{}` is not a size: write it like 16KiB, 1MiB or 4096", shown(text)), None));
        };
        let typed = Some(size).filter(|n| (bounds.low..=bounds.high).contains(n)).and_then(|n| usize::try_from(n).ok());
        typed.map(|typed| self.at(value, typed)).or_else(|| self.out_of(key, value, text, bounds))
    }

    /// A number that may have a fraction, within bounds.
    pub(super) fn fraction(&mut self, key: &str, value: &Value<'_>, bounds: Bounds) -> Option<f64> {
        let (number, got): (Option<f64>, String) = match value.get_ref() {
            DeValue::Integer(integer) => {
                let small = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
                (small.map(f64::from), integer.to_string())
            }
            DeValue::Float(float) => (float.as_str().parse().ok(), float.to_string()),
            _ => return self.wrong_type(key, value, "a number"),
        };
        #[expect(clippy::cast_precision_loss, reason = "bounds are small numbers")]
        let range = bounds.low as f64..=bounds.high as f64;
        // NaN is in no range.
        number.filter(|n| range.contains(n)).or_else(|| self.out_of(key, value, &got, bounds))
    }

    fn out_of<T>(&mut self, key: &str, value: &Value<'_>, got: &str, bounds: Bounds) -> Option<T> {
        let range = format!("{} to {}", bounds.low, bounds.high);
        self.tell(&value.span(), Problem::Range { key: shown(key), got: shown(got), range, why: bounds.why }, None);
        None
    }

    /// A duration within bounds: text, or a whole number of seconds (-1: permanent, as in fail2ban).
    pub(super) fn term(&mut self, key: &str, value: &Value<'_>, bounds: TimeBounds) -> Option<At<Term>> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.to_string(),
            _ => return self.wrong_type(key, value, "a duration like \"10m\" or a number of seconds"),
        };
        let typed: Term = match text.parse() {
            Ok(typed) => typed,
            Err(_) => {
                let message = format!("`{}` is not a duration: write it like 90s, 10m, 1h30m, 2d, 1w or permanent", shown(&text));
                return self.wrong_value(value, (message, None));
            }
        };
        let fits = match typed {
            Term::For(span) => (bounds.low..=bounds.high).contains(&span),
            Term::Forever => bounds.permanent,
        };
        if !fits {
            let or = if bounds.permanent { " or permanent" } else { "" };
            let range = format!("{} to {}{or}", bounds.low, bounds.high);
            self.tell(&value.span(), Problem::Range { key: shown(key), got: shown(&text), range, why: bounds.why }, None);
            return None;
        }
        Some(self.at(value, typed))
    }

    /// A duration that cannot be permanent.
    pub(super) fn span(&mut self, key: &str, value: &Value<'_>, bounds: TimeBounds) -> Option<At<Span>> {
        match self.term(key, value, TimeBounds { permanent: false, ..bounds })? {
            At { value: Term::For(span), at } => Some(At { value: span, at }),
            At { value: Term::Forever, .. } => None,
        }
    }

    /// A list of at most `most`, none of them twice. Every wrong member is told.
    pub(super) fn list<T: Ord + Clone>(
        &mut self,
        key: &str,
        value: &Value<'_>,
        (want, most): (&str, usize),
        mut member: impl FnMut(&mut Self, &Value<'_>) -> Option<T>,
    ) -> Option<At<Vec<T>>> {
        let array = value.get_ref().as_array().or_else(|| self.wrong_type(key, value, want))?;
        if array.len() > most {
            let message = format!("`{}` has {} entries, more than the {most} that are read", shown(key), array.len());
            self.tell(&value.span(), Problem::TooLarge(message), None);
            return None;
        }
        let mut seen = BTreeSet::new();
        let mut typed = Vec::with_capacity(array.len());
        for element in array {
            let Some(one) = member(self, element) else { continue };
            if seen.insert(one.clone()) {
                typed.push(one);
            } else {
                let text = element.get_ref().as_str().map_or_else(|| key.to_owned(), shown);
                self.tell(&element.span(), Problem::Duplicate(text), None);
            }
        }
        Some(self.at(value, typed))
    }

    /// A list of texts, each read by `read`.
    pub(super) fn texts<T: Ord + Clone>(
        &mut self,
        key: &str,
        value: &Value<'_>,
        shape: (&str, usize),
        mut read: impl FnMut(&str) -> Result<T, Wrong>,
    ) -> Option<At<Vec<T>>> {
        self.list(key, value, shape, |reading, element| {
            let text = reading.text(key, element, shape.0)?;
            read(text).map_or_else(|wrong| reading.wrong_value(element, wrong), Some)
        })
    }

    /// A port or ports: a number, or a text that [`super::words::ports`] reads.
    pub(super) fn port(&mut self, value: &Value<'_>) -> Option<Vec<u16>> {
        const PORT: Bounds = Bounds { low: 1, high: 65535, why: "that is what TCP and UDP have" };
        if value.get_ref().is_integer() {
            return self.number::<u16>("ports", value, PORT).map(|port| vec![port.value]);
        }
        let text = self.text("ports", value, "a list like [\"ssh\", 2222, \"6000-6007\"]")?;
        super::words::ports(text).map_or_else(|wrong| self.wrong_value(value, wrong), Some)
    }
}
