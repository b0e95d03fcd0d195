//! Comma-separated values (RFC 4180, a record a line): a header that names the columns, or none.
//!
//! | column | also called | means |
//! |---|---|---|
//! | `prefix` | `addr`, `address`, `cidr`, `ip`, `network`, `range`, `value` | who; the only one that must be there |
//! | `until` | `end`, `ends`, `expires`, `expiry`, `expiration` | when it ends, see [`super::moment`] |
//! | `duration` | `bantime`, `ttl`, `left` | the same, where there is no `until` |
//! | `since` | `start`, `time`, `created` | when it began |
//! | `reason` | `comment`, `scenario`, `why` | why |
//! | `offences` | `bancount`, `count` | the how manieth |
//! | `ports` | | of which ports alone: `22 80`; empty: all |
//!
//! Columns of other names are passed over. Without a header the columns are prefix, until, reason.
//! Written with the header `prefix,since,until,origin,reason,offences,ports`; an `until` of
//! `permanent` has no end.

use std::borrow::Cow;

use super::words::{blank, number, prefixes, reason, shown};
use super::write::{Out, put};
use super::{Item, Row, moment};
use crate::ports::Ports;
use crate::time::{Stamp, Until};

/// How many columns are looked at. No table that was seen has half as many.
const COLUMNS: usize = 32;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Prefix,
    Until,
    Duration,
    Since,
    Reason,
    Offences,
    Ports,
    /// CrowdSec's: `ip`, `range`, ...
    Scope,
    /// CrowdSec's: `ban`, `captcha`, ...
    Kind,
    /// CrowdSec's: whether it is only tried.
    Simulated,
    Other,
}

/// The names of the columns of a table of anybody's.
const OURS: &[(Column, &[&str])] = &[
    (Column::Prefix, &["prefix", "addr", "address", "cidr", "ip", "network", "range", "value"]),
    (Column::Until, &["until", "end", "ends", "expires", "expiry", "expiration"]),
    (Column::Duration, &["duration", "bantime", "ttl", "left"]),
    (Column::Since, &["since", "start", "time", "created"]),
    (Column::Reason, &["reason", "comment", "scenario", "why"]),
    (Column::Offences, &["offences", "bancount", "count"]),
    (Column::Ports, &["ports"]),
];

/// Those of CrowdSec's two tables; see [`super::crowdsec`].
const CROWDSEC: &[(Column, &[&str])] = &[
    (Column::Prefix, &["value", "ip"]),
    (Column::Duration, &["duration", "expiration"]),
    (Column::Reason, &["reason", "scenario"]),
    (Column::Scope, &["scope"]),
    (Column::Kind, &["type", "action"]),
    (Column::Simulated, &["simulated"]),
];

/// Which column is which.
#[derive(Debug)]
pub(super) struct Columns {
    names: &'static [(Column, &'static [&'static str])],
    /// Whether the table must begin with a header.
    headed: bool,
    /// `None` until the first line that says anything.
    order: Option<Vec<Column>>,
}

impl Columns {
    /// Of a table of anybody's.
    pub(super) const fn ours() -> Self {
        Self { names: OURS, headed: false, order: None }
    }

    /// Of a table of CrowdSec's.
    pub(super) const fn crowdsec() -> Self {
        Self { names: CROWDSEC, headed: true, order: None }
    }

    /// The record of a line; `None` where it was the header, or nothing, or nothing that can be read.
    pub(super) fn record<'l>(&mut self, line: &'l [u8], say: &mut dyn FnMut(Item)) -> Option<Record<'l>> {
        if matches!(line.first(), None | Some(b'#')) {
            return None;
        }
        let Some(record) = Record::cut(line) else {
            say(Item::Bad(format!("expected at most {COLUMNS} fields, each closed on its line, found {}", shown(line))));
            return None;
        };
        if self.order.is_some() {
            return Some(record);
        }
        let order: Vec<Column> = record.fields().iter().map(|field| self.named(field)).collect();
        if order.contains(&Column::Prefix) {
            self.order = Some(order);
            return None;
        }
        self.order = Some(vec![Column::Prefix, Column::Until, Column::Reason]);
        if self.headed {
            say(Item::Bad(format!("expected a header with a column `value`, found {}", shown(line))));
            return None;
        }
        Some(record)
    }

    /// The field of a column; empty where there is none.
    pub(super) fn field<'l>(&self, record: &Record<'l>, column: Column) -> &'l [u8] {
        let at = self.order.as_ref().and_then(|order| order.iter().position(|here| *here == column));
        at.and_then(|at| record.fields().get(at).copied()).unwrap_or_default()
    }

    fn named(&self, field: &[u8]) -> Column {
        let is = |name: &&str| field.eq_ignore_ascii_case(name.as_bytes());
        self.names.iter().find(|(_, names)| names.iter().any(is)).map_or(Column::Other, |(column, _)| *column)
    }
}

/// A line cut into fields: without the quotes around them, doubled ones within as they stand.
pub(super) struct Record<'l> {
    fields: [&'l [u8]; COLUMNS],
    len: usize,
}

impl<'l> Record<'l> {
    fn fields(&self) -> &[&'l [u8]] {
        &self.fields[..self.len]
    }

    fn cut(mut line: &'l [u8]) -> Option<Self> {
        let mut record = Self { fields: [&[]; COLUMNS], len: 0 };
        loop {
            let (field, end) = if line.first() == Some(&b'"') { quoted(line)? } else { bare(line) };
            *record.fields.get_mut(record.len)? = field;
            record.len += 1;
            match line.get(end) {
                None => return Some(record),
                Some(b',') => line = line[end + 1..].trim_ascii_start(),
                Some(_) => return None,
            }
        }
    }
}

fn bare(line: &[u8]) -> (&[u8], usize) {
    let end = line.iter().position(|byte| *byte == b',').unwrap_or(line.len());
    (line[..end].trim_ascii(), end)
}

/// A field in quotes, and where what follows its closing quote begins.
fn quoted(line: &[u8]) -> Option<(&[u8], usize)> {
    let mut at = 1;
    loop {
        at += line.get(at..)?.iter().position(|byte| *byte == b'"')?;
        if line.get(at + 1) != Some(&b'"') {
            break;
        }
        at += 2;
    }
    let blanks = line[at + 1..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    Some((&line[1..at], at + 1 + blanks))
}

/// A text field: a doubled quote means one.
pub(super) fn text(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'"') {
        return field.into();
    }
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        out.push(*byte);
        if *byte == b'"' {
            bytes.next();
        }
    }
    out.into()
}

/// Reads one line.
pub(super) fn read(line: &[u8], columns: &mut Columns, now: Stamp, say: &mut dyn FnMut(Item)) {
    let Some(record) = columns.record(line, say) else { return };
    match row(columns, &record, now) {
        Ok(row) => prefixes(columns.field(&record, Column::Prefix), row, say),
        Err(bad) => say(bad),
    }
}

fn row(columns: &Columns, record: &Record<'_>, now: Stamp) -> Result<Row, Item> {
    let field = |column| columns.field(record, column);
    let when = if field(Column::Until).is_empty() { field(Column::Duration) } else { field(Column::Until) };
    let end = if when.is_empty() { None } else { Some(moment::read(when, now).ok_or_else(|| moment::none(when))?) };
    let since = std::str::from_utf8(field(Column::Since)).ok().and_then(moment::at);
    let offences = number(field(Column::Offences)).map_or(1, |count| u32::try_from(count).unwrap_or(u32::MAX).max(1));
    let ports = ports(field(Column::Ports))?;
    Ok(Row { end, since, offences, ports, reason: reason(&text(field(Column::Reason))), ..blank() })
}

fn ports(field: &[u8]) -> Result<Ports, Item> {
    if field.is_empty() {
        return Ok(Ports::All);
    }
    let port = |word: &[u8]| number(word).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let all: Option<Vec<u16>> = field.split(|byte| matches!(byte, b' ' | b';')).filter(|word| !word.is_empty()).map(port).collect();
    all.and_then(Ports::only).ok_or_else(|| {
        Item::Bad(format!("expected at most {} ports from 1 to 65535 with blanks between, found {}", Ports::MOST, shown(field)))
    })
}

/// The header.
pub(super) fn head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"prefix,since,until,origin,reason,offences,ports\n");
}

/// Writes one line.
pub(super) fn write(ban: &Out<'_>, out: &mut Vec<u8>) {
    put(out, format_args!("{},", ban.prefix));
    moment_of(ban.since, out);
    out.push(b',');
    match ban.until {
        Until::At(at) => moment_of(at, out),
        Until::Forever => out.extend_from_slice(b"permanent"),
    }
    out.push(b',');
    escaped(ban.origin, out);
    out.push(b',');
    escaped(ban.reason, out);
    put(out, format_args!(",{},", ban.offences));
    if let Ports::Only(ports) = ban.ports {
        for (n, port) in ports.iter().enumerate() {
            put(out, format_args!("{}{port}", if n > 0 { " " } else { "" }));
        }
    }
    out.push(b'\n');
}

/// To the millisecond, as JSON has it.
fn moment_of(at: Stamp, out: &mut Vec<u8>) {
    let from = out.len();
    // A stamp is always written; without its quotes it is what stands in JSON.
    if serde_json::to_writer(&mut *out, &at).is_ok() {
        out.pop();
        out.remove(from);
    }
}

fn escaped(text: &str, out: &mut Vec<u8>) {
    let plain = |byte: &u8| !matches!(byte, b',' | b'"' | b'\n' | b'\r' | b'#' | b' ');
    if text.bytes().all(|byte| plain(&byte)) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    for byte in text.bytes() {
        out.extend_from_slice(match byte {
            b'"' => b"\"\"",
            b'\n' | b'\r' => b" ",
            _ => std::slice::from_ref(&byte),
        });
    }
    out.push(b'"');
}
