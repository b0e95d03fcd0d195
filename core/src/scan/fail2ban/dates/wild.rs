//! Regexes with look-around, conditions or repeated groups, by `fancy-regex`.
//!
//! Python's way of writing is put into that of Rust first:
//!
//! | Python | Rust |
//! |---|---|
//! | `\Z` | `\z` |
//! | `\<`, `\-`, `\"` and other escaped signs | the sign itself, escaped where Rust needs it |
//! | `{` that begins no quantifier | `\{` |
//! | `{,3}` | `{0,3}` |
//! | `[`, `&`, `~` inside a class | escaped: Rust reads sets of sets there |
//! | `\d` | `0` to `9` |
//!
//! A search that takes too many steps finds nothing.

use fancy_regex::{Regex, RegexBuilder};

use super::parse::field;
use super::program::GROUPS;
use super::run::Hit;

/// Steps back in one search. A shipped pattern takes a few hundred in a long line.
const STEPS_BACK: usize = 20_000;

/// A compiled regex.
#[derive(Debug)]
pub(super) struct Wild {
    regex: Regex,
    fields: Box<[(char, u8)]>,
}

impl Wild {
    pub(super) fn compile(regex: &str) -> Result<Self, String> {
        let regex = RegexBuilder::new(&lowered(regex)).backtrack_limit(STEPS_BACK).build().map_err(|error| error.to_string())?;
        let (mut fields, mut names) = (Vec::new(), Vec::new());
        for (group, name) in regex.capture_names().enumerate() {
            let Some(group) = u8::try_from(group).ok().filter(|group| usize::from(*group) < GROUPS) else {
                return Err(format!("it has more than {} groups", GROUPS - 1));
            };
            if name.is_some_and(|name| names.contains(&name)) {
                return Err(format!("the field or group `{}` stands there twice", name.unwrap_or_default()));
            }
            names.extend(name);
            fields.extend(name.and_then(field).map(|field| (field, group)));
        }
        Ok(Self { regex, fields: fields.into() })
    }

    /// The groups whose names say what they hold.
    pub(super) fn fields(&self) -> &[(char, u8)] {
        &self.fields
    }

    /// The leftmost match that begins at `from` or later. `^` is the text's start.
    pub(super) fn search(&self, text: &str, from: usize) -> Option<Hit> {
        if !text.is_char_boundary(from) {
            return None;
        }
        let found = self.regex.captures_from_pos(text, from).ok()??;
        let whole = found.get(0)?;
        let mut hit = Hit::new(whole.start(), whole.end());
        for (group, place) in (0u8..).zip(found.iter()).skip(1) {
            if let Some(place) = place {
                hit.note(group, place.start(), place.end());
            }
        }
        Some(hit)
    }
}

/// A Python regex as a Rust one.
fn lowered(regex: &str) -> String {
    let mut out = String::with_capacity(regex.len() + 16);
    let mut inside = false;
    let mut rest = regex;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let Some(escaped) = rest.chars().next() else { break };
                rest = &rest[escaped.len_utf8()..];
                escape(&mut out, escaped, inside);
            }
            '[' if !inside => {
                inside = true;
                out.push('[');
                if let Some(more) = rest.strip_prefix('^') {
                    (rest, _) = (more, out.push('^'));
                }
                if let Some(more) = rest.strip_prefix(']') {
                    (rest, _) = (more, out.push_str("\\]"));
                }
            }
            ']' if inside => {
                inside = false;
                out.push(']');
            }
            '[' | '&' | '~' if inside => out.extend(['\\', c]),
            '{' if !inside => match quantifier(rest) {
                Some(("", max, more)) => {
                    out.push_str(&format!("{{0,{max}}}"));
                    rest = more;
                }
                Some(_) => out.push('{'),
                None => out.push_str("\\{"),
            },
            _ => out.push(c),
        }
    }
    out
}

fn escape(out: &mut String, c: char, inside: bool) {
    match c {
        'd' if inside => out.push_str("0-9"),
        'd' => out.push_str("[0-9]"),
        'D' if !inside => out.push_str("[^0-9]"),
        'Z' => out.push_str("\\z"),
        // Rust knows these as edges of a word, and refuses others that need no backslash.
        c if c.is_ascii_punctuation() => match c {
            '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' | '#' | '&' | '-' | '~' => {
                out.extend(['\\', c])
            }
            _ => out.push(c),
        },
        _ => out.extend(['\\', c]),
    }
}

/// `2}`, `1,}`, `,3}`: least, most, and what follows. `None`: the brace before it is one.
fn quantifier(rest: &str) -> Option<(&str, &str, &str)> {
    let (inside, more) = rest.split_once('}')?;
    let (min, max) = inside.split_once(',').unwrap_or((inside, inside));
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    (number(min) && number(max) && !(min.is_empty() && max.is_empty())).then_some((min, max, more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_s_way_of_writing_is_put_into_rust_s() {
        for (python, rust) in [
            (r"\<\d{,3}\Z", r"<[0-9]{0,3}\z"),
            (r"a{b}\{", r"a\{b}\{"),
            (r"[]\d[&-]{2}", r"[\]0-9\[\&-]{2}"),
            (r#"ts=\"\-"#, r#"ts="\-"#),
            (r"[^]]+", r"[^\]]+"),
        ] {
            assert_eq!(lowered(python), rust, "{python}");
            assert!(Regex::new(rust).is_ok(), "{rust}");
        }
    }

    #[test]
    fn a_search_that_would_run_away_finds_nothing() {
        let wild = Wild::compile(r"(?:a+)+(?=b)(\d)").unwrap();
        assert!(wild.search(&"a".repeat(5000), 0).is_none());
    }
}
