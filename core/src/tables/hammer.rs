//! The tables of a hand-made ban script, `ip4.ban` and `ip6.ban`: `ADDR=TIME`.
//!
//! | line | means |
//! |---|---|
//! | `203.0.113.7=1795453200` | banned until then; what else TIME may be stands in [`super::moment`] |
//! | `2001:db8:5::/64 = permanent` | prefixes and blanks are welcome |
//! | `203.0.113.7`, `203.0.113.7=` | banned, and the table does not say until when |
//! | `# text`, `; text`, blank | nothing |
//!
//! Written as `ADDR=SECONDS`, the end in whole seconds since 1970, rounded up, or `ADDR=permanent`;
//! a single address without its length.

use super::words::{blank, comment, prefixes, reason, silent};
use super::write::{Out, put};
use super::{Item, Row, moment};
use crate::time::{Stamp, Until};

/// Reads one line.
pub(super) fn read(line: &[u8], now: Stamp, say: &mut dyn FnMut(Item)) {
    if silent(line) {
        return;
    }
    let (line, why) = comment(line);
    let (who, when) = match line.iter().position(|byte| *byte == b'=') {
        Some(at) => (line[..at].trim_ascii_end(), line[at + 1..].trim_ascii()),
        None => (line, &[][..]),
    };
    let end = if when.is_empty() { None } else { moment::read(when, now) };
    if end.is_none() && !when.is_empty() {
        return say(moment::none(when));
    }
    prefixes(who, Row { end, reason: reason(why), ..blank() }, say);
}

/// Writes one line.
pub(super) fn write(ban: &Out<'_>, out: &mut Vec<u8>) {
    ban.put_bare(out);
    match ban.until {
        Until::At(at) => put(out, format_args!("={}\n", seconds(at))),
        Until::Forever => out.extend_from_slice(b"=permanent\n"),
    }
}

/// In whole seconds, rounded up, and never so few that they would be read as a duration.
fn seconds(at: Stamp) -> i64 {
    let up = at.0.div_euclid(1000) + i64::from(at.0.rem_euclid(1000) > 0);
    up.max(i64::try_from(moment::MOMENT_FROM).unwrap_or(i64::MAX))
}
