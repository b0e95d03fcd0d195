//! Keys of a signature file nobody knows, with their line and the nearest known one.

use toml::de::{DeTable, DeValue};

/// Known keys: of the file, of a `[[rule]]`, of a hit.
const FILE: &[&str] =
    &["name", "service", "summary", "kind", "programs", "files", "journal", "ports", "addr", "addr_from", "user", "time", "rule"];
const RULE: &[&str] = &[
    "id",
    "score",
    "outcome",
    "note",
    "pattern",
    "open_end",
    "owned",
    "methods",
    "path",
    "agent",
    "referer",
    "status",
    "where",
    "addr",
    "addr_from",
    "user",
    "time",
    "hits",
    "misses",
];
const HIT: &[&str] = &["line", "addr", "score", "user"];

/// A key nobody knows.
pub(super) struct Unknown {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) nearest: &'static str,
}

/// The first unknown key. A text that is no TOML has none: its reader says what is wrong with it.
pub(super) fn unknown(text: &str) -> Option<Unknown> {
    let file = DeTable::parse(text).ok()?;
    stranger(text, file.get_ref(), FILE).or_else(|| {
        tables(file.get_ref(), "rule")
            .find_map(|rule| stranger(text, rule, RULE).or_else(|| tables(rule, "hits").find_map(|hit| stranger(text, hit, HIT))))
    })
}

fn tables<'t>(table: &'t DeTable<'_>, key: &str) -> impl Iterator<Item = &'t DeTable<'t>> {
    let list = match table.get(key).map(|v| v.get_ref()) {
        Some(DeValue::Array(list)) => Some(list),
        _ => None,
    };
    list.into_iter().flat_map(|list| list.iter()).filter_map(|v| match v.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    })
}

fn stranger(text: &str, table: &DeTable<'_>, known: &'static [&'static str]) -> Option<Unknown> {
    let key = table.keys().filter(|k| !known.contains(&k.get_ref().as_ref())).min_by_key(|k| k.span().start)?;
    let line = text.as_bytes()[..key.span().start].iter().filter(|b| **b == b'\n').count() + 1;
    let name = key.get_ref().as_ref();
    let nearest = known.iter().min_by_key(|k| distance(k, name)).copied().unwrap_or_default();
    Some(Unknown { line, key: name.to_owned(), nearest })
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
