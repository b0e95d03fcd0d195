//! What the `%` letters of a `datepattern` stand for.
//!
//! | token | reads | note |
//! |---|---|---|
//! | `%Y %y %G` | year of four or two digits | `%ExY`: of this century; `%Exy` is `%y` |
//! | `%m %b %B` | month as number, short or full name | `%Exm`: exactly two digits |
//! | `%d` | day of the month | `%Exd`: exactly two digits |
//! | `%H %k` | hour of 24 | `%k`: with a blank before it; `%ExH %Exk` strict |
//! | `%I %l %p` | hour of 12, AM or PM | `%Exl` strict |
//! | `%M %S %f` | minute, second, fraction | `%ExM %ExS`: exactly two digits |
//! | `%a %A %w %u` | day of the week | by itself it says nothing; with `%U` or `%W` it does |
//! | `%j %U %W %V` | day or week of the year | `%U`: weeks begin on Sunday, `%W`: on Monday |
//! | `%z %Z` | offset, zone abbreviation | `%Exz %ExZ`: with the table of abbreviations |
//! | `%c %x %X` | the C locale's date and time | |
//!
//! Source: fail2ban's `server/strptime.py` over Python's `_strptime.TimeRE` in the C locale. Its `%ExY`
//! allows the centuries between 2001 and three years from the daemon's start; here it is the whole
//! century, so that the same line means the same whenever the daemon started.

/// Names of the months as `%B` tries them, longest first.
const MONTHS: &str = "september|february|november|december|january|october|august|march|april|june|july|may";
const MON: &str = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec";
/// Names of the days as `%A` tries them, longest first.
const WEEKDAYS: &str = "wednesday|thursday|saturday|tuesday|monday|friday|sunday";
const DAY: &str = "mon|tue|wed|thu|fri|sat|sun";
/// Day, hour, minute and second as `%c`, `%x` and `%X` have them.
const C_DAY: &str = "(?P<d>3[0-1]|[1-2]\\d|0[1-9]|[1-9]| [1-9])";
const C_TIME: &str = "(?P<H>2[0-3]|[0-1]\\d|\\d):(?P<M>[0-5]\\d|\\d):(?P<S>6[0-1]|[0-5]\\d|\\d)";

/// Puts the regexes in; the text behind a `%` that stands for nothing is the error.
pub(super) fn expand(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() * 8);
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = if rest.starts_with("Ex") { 3 } else { 1 };
        let key = rest.char_indices().nth(end).map_or(rest, |(to, _)| &rest[..to]);
        out.push_str(&regex(key).ok_or_else(|| format!("`%{key}` stands for nothing; a percent sign is written `%%`"))?);
        rest = &rest[key.len()..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether the pattern holds names, which are read in any case.
pub(super) fn has_names(pattern: &str) -> bool {
    let mut before = None;
    let mut last = None;
    for c in pattern.chars() {
        if last == Some('%') && before != Some('%') && matches!(c, 'a' | 'A' | 'b' | 'B' | 'p' | 'c') {
            return true;
        }
        (before, last) = (last, Some(c));
    }
    false
}

fn regex(key: &str) -> Option<String> {
    let (name, inside) = match key {
        "a" => ("a", DAY),
        "A" => ("A", WEEKDAYS),
        "b" => ("b", MON),
        "B" => ("B", MONTHS),
        "d" => ("d", r"[1-2]\d|[0 ]?[1-9]|3[0-1]"),
        "Exd" => ("d", r"[1-2]\d|0[1-9]|3[0-1]"),
        "m" => ("m", "0?[1-9]|1[0-2]"),
        "Exm" => ("m", "0[1-9]|1[0-2]"),
        "Y" => ("Y", r"\d{4}"),
        "ExY" => ("Y", r"20\d\d"),
        "y" | "Exy" => ("y", r"\d{2}"),
        "G" => ("G", r"\d\d\d\d"),
        "H" => ("H", r"[0-1]?\d|2[0-3]"),
        "ExH" => ("H", r"[0-1]\d|2[0-3]"),
        "I" => ("I", "1[0-2]|0[1-9]|[1-9]"),
        "M" => ("M", r"[0-5]?\d"),
        "ExM" => ("M", r"[0-5]\d"),
        "S" => ("S", r"[0-5]?\d|6[0-1]"),
        "ExS" => ("S", r"[0-5]\d|6[0-1]"),
        "f" => ("f", "[0-9]{1,6}"),
        "j" => ("j", r"36[0-6]|3[0-5]\d|[1-2]\d\d|0[1-9]\d|00[1-9]|[1-9]\d|0[1-9]|[1-9]"),
        "U" => ("U", r"5[0-3]|[0-4]\d|\d"),
        "W" => ("W", r"5[0-3]|[0-4]\d|\d"),
        "V" => ("V", r"5[0-3]|0[1-9]|[1-4]\d|\d"),
        "w" => ("w", "[0-6]"),
        "u" => ("u", "[1-7]"),
        "p" => ("p", "am|pm"),
        "Z" => ("Z", "Z|[A-Z]{3,5}"),
        "ExZ" => ("Z", "[A-Z](?:[A-Z]{2,4})?"),
        "z" => ("z", r"Z|UTC|GMT|[+-][01]\d(?::?\d{2})?"),
        "Exz" => ("z", r"(?:[A-Z](?:[A-Z]{2,4})?)?[+-][01]\d(?::?\d{2})?|[A-Z](?:[A-Z]{2,4})?"),
        // Not one group, or text beside the group.
        "k" => return Some(r" ?(?P<H>[0-2]?\d)".to_owned()),
        "Exk" => return Some(r" ?(?P<H>[0-1]?\d|2[0-3])".to_owned()),
        "l" => return Some(r" ?(?P<I>1?\d)".to_owned()),
        "Exl" => return Some(r" ?(?P<I>1[0-2]|\d)".to_owned()),
        "c" => return Some(format!(r"(?P<a>{DAY})\s+(?P<b>{MON})\s+{C_DAY}\s+{C_TIME}\s+(?P<Y>\d\d\d\d)")),
        "x" => return Some(format!(r"(?P<m>1[0-2]|0[1-9]|[1-9])/{C_DAY}/(?P<y>\d\d)")),
        "X" => return Some(C_TIME.to_owned()),
        "%" => return Some("%".to_owned()),
        _ => return None,
    };
    Some(format!("(?P<{name}>{inside})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_becomes_a_named_group_and_a_doubled_percent_sign_stays_one() {
        assert_eq!(expand("[%Exd] %% é").unwrap(), r"[(?P<d>[1-2]\d|0[1-9]|3[0-1])] % é");
        assert_eq!(expand("%kx").unwrap(), r" ?(?P<H>[0-2]?\d)x");
    }

    #[test]
    fn a_letter_that_stands_for_nothing_is_named() {
        for (pattern, key) in [("%Q", "`%Q`"), ("%ExQ", "`%ExQ`"), ("100%", "`%`"), ("%é", "`%é`")] {
            assert!(expand(pattern).unwrap_err().contains(key), "{pattern}");
        }
    }

    #[test]
    fn names_are_looked_for_behind_single_percent_signs() {
        assert!(has_names("%d %b") && has_names("x%p"));
        assert!(!has_names("%d/%m %%b"));
    }
}
