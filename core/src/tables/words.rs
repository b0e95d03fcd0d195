//! The words that tables are made of: addresses, prefixes, ranges, texts.

use super::{Item, REASON_MAX, Row};
use crate::attack::excerpt;
use crate::net::{Addr, Prefix, range};

/// How many bytes of what is not understood are shown.
const SHOWN: usize = 60;

/// What others wrote, short and printable.
pub(super) fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN)];
    let dots = if cut.len() < bytes.len() { "…" } else { "" };
    format!("`{}{dots}`", excerpt(cut))
}

/// Why somebody is in a table, made printable and cut to [`REASON_MAX`] bytes.
pub(super) fn reason(bytes: &[u8]) -> String {
    let bytes = bytes.trim_ascii();
    if bytes.is_empty() {
        return String::new();
    }
    let mut text = excerpt(&bytes[..bytes.len().min(REASON_MAX)]);
    // Escapes make a text longer.
    let end = (0..=REASON_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}

/// `ADDR` or `ADDR/LEN`.
pub(super) fn prefix(bytes: &[u8]) -> Option<Prefix> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn addr(bytes: &[u8]) -> Option<Addr> {
    std::str::from_utf8(bytes.trim_ascii()).ok()?.parse().ok()
}

/// `ADDR`, `ADDR/LEN`, or `FIRST - LAST`, each prefix of which becomes a row like `like`.
pub(super) fn prefixes(bytes: &[u8], like: Row, say: &mut dyn FnMut(Item)) {
    if let Some(prefix) = prefix(bytes) {
        return say(Item::Ban(Row { prefix, ..like }));
    }
    let Some(dash) = bytes.iter().position(|byte| *byte == b'-') else { return say(no_prefix(bytes)) };
    let (Some(first), Some(last)) = (addr(&bytes[..dash]), addr(&bytes[dash + 1..])) else { return say(no_prefix(bytes)) };
    match range(first, last) {
        Some(prefixes) => prefixes.for_each(|prefix| say(Item::Ban(Row { prefix, ..like.clone() }))),
        None => say(Item::Bad(format!("expected a range FIRST - LAST of one family and in order, found {}", shown(bytes)))),
    }
}

/// It is no prefix.
pub(super) fn no_prefix(bytes: &[u8]) -> Item {
    Item::Bad(format!("expected an address (203.0.113.7), a prefix (203.0.113.0/24) or a range (FIRST - LAST), found {}", shown(bytes)))
}

/// A row for any prefix, to be filled in.
pub(super) const fn blank() -> Row {
    Row::of(Prefix::host(Addr::UNSPECIFIED))
}

/// Whether the line says nothing: empty, or a comment.
pub(super) fn silent(line: &[u8]) -> bool {
    matches!(line.first(), None | Some(b'#' | b';'))
}

/// The line before its comment, and the comment without its sign.
pub(super) fn comment(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|byte| matches!(byte, b'#' | b';')) {
        Some(at) => (line[..at].trim_ascii_end(), line[at + 1..].trim_ascii()),
        None => (line, &[]),
    }
}

/// The number in decimal digits alone, saturating.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(bytes.iter().fold(0, |sum: u64, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}
