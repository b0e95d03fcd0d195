//! `name[key=value, key="value"][key='value']`, as a jail names its filter and its actions.
//!
//! | part | rule (fail2ban's `helpers.py`, `extractOptions`) |
//! |---|---|
//! | name | anything but `[` |
//! | key | letters, digits, `_`, `-`, `.`; 1.1 adds a condition: `key?family=inet6` |
//! | value | `"..."`, `'...'`, or anything without `,` and `]` |
//! | between two | `,`, or `][` for groups |

use super::is_word;
use super::parse::is_space;

/// The name and the options of a call, in their order; an option that is written twice has its last value.
///
/// # Errors
/// What cannot be read of it, and where.
pub fn call(text: &str) -> Result<(String, Vec<(String, String)>), String> {
    let text = text.trim_matches(is_space);
    let (name, inside) = match text.split_once('[') {
        None => (text, ""),
        Some((name, rest)) => match rest.strip_suffix(']') {
            Some(inside) => (name, inside),
            None => return Err(format!("`{}` has a `[` but does not end with `]`", shown(text))),
        },
    };
    let name = name.trim_matches(is_space);
    if name.is_empty() {
        return Err(format!("`{}` begins with no name", shown(text)));
    }
    Ok((name.to_owned(), options(inside)?))
}

fn options(inside: &str) -> Result<Vec<(String, String)>, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut rest = inside;
    loop {
        let end = rest.strip_prefix(',').unwrap_or(rest);
        if end.trim_start_matches(is_space).is_empty() {
            return Ok(found);
        }
        rest = rest.trim_start_matches(is_space);
        let Some((key, after)) = key(rest) else {
            return Err(format!("expected `option=value` at `{}`", shown(rest)));
        };
        let (value, after) = value(after);
        let Some(next) = next(after) else {
            return Err(format!("expected `,` or `][` after the value of `{key}` at `{}`; put the value in quotes", shown(after)));
        };
        let value = value.trim_matches(is_space).to_owned();
        match found.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = value,
            None => found.push((key.to_owned(), value)),
        }
        rest = next;
    }
}

fn shown(text: &str) -> String {
    text.chars().take(25).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The key of `key=...`, and what stands after the `=`.
fn key(text: &str) -> Option<(&str, &str)> {
    let good = |c: char| is_word(c) || c == '-' || c == '.';
    let word = |text: &str| text.find(|c| !good(c)).unwrap_or(text.len());
    let end = word(text);
    let mut key = text.get(..end)?;
    if let Some(condition) = text.get(end..)?.strip_prefix('?') {
        let (name, wanted) = condition.split_once('=')?;
        let length = end.checked_add(name.len())?.checked_add(word(wanted))?.checked_add(2)?;
        if name.is_empty() || !name.chars().all(good) || word(wanted) == 0 {
            return None;
        }
        key = text.get(..length)?;
    }
    let after = text.get(key.len()..)?.strip_prefix('=')?;
    (!key.is_empty()).then_some((key, after))
}

/// A value, and what stands after it.
fn value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(split) = text.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return split;
        }
    }
    text.split_at(text.find([',', ']']).unwrap_or(text.len()))
}

/// What follows after `,` or `][`; nothing at the end.
fn next(text: &str) -> Option<&str> {
    if text.is_empty() || text == "\n" {
        return Some("");
    }
    text.strip_prefix(',').or_else(|| text.strip_prefix(']')?.trim_start_matches(is_space).strip_prefix('['))
}

/// The words of a line as a POSIX shell splits them, without what a shell would fill in: single and
/// double quotes hold blanks, a backslash holds the next character (Python's `shlex.split`).
///
/// # Errors
/// A quote that is not closed, or a backslash at the end.
pub fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next().ok_or("a backslash at the end")?),
            '"' | '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or_else(|| format!("a {c} that is not closed"))? {
                        end if end == c => break,
                        '\\' if c == '"' => match chars.next().ok_or("a backslash at the end")? {
                            kept @ ('"' | '\\') => word.push(kept),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}
