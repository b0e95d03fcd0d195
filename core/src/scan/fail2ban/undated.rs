//! A line without its date, as the expressions see it, and the date.

use std::fmt::Write;

use super::super::line::Line;
use super::super::times::LogClock;
use super::dates::DateFound;
use super::filter::{Filter, Session};
use crate::time::Stamp;

/// For how long the date of a line holds for those after it that have none (fail2ban's 60 s).
const DATE_HOLDS: i64 = 60_000;

/// What a journal record is told to come from; filters pass over it.
const HOST: &str = "localhost";

impl Filter {
    /// The line without its date, and the date.
    pub(super) fn undated(&self, session: &mut Session, line: Line<'_>, clock: &LogClock, out: &mut String) -> Option<Stamp> {
        out.clear();
        let text = String::from_utf8_lossy(line.text());
        if let Some((program, pid)) = line.record() {
            record_text(program, pid, &text, out);
        } else if line.at().is_some() {
            out.push_str(text.trim_end_matches(['\r', '\n']));
        } else {
            return self.cut(session, &text, clock, out);
        }
        session.dates.set_recent(line.at());
        Some(line.at().unwrap_or(clock.now))
    }

    fn cut(&self, session: &mut Session, text: &str, clock: &LogClock, out: &mut String) -> Option<Stamp> {
        let text = text.trim_end_matches(['\r', '\n']);
        let found = self.dates.find(&mut session.dates, text, clock);
        if let Some(DateFound { start, end, at: at @ Some(_) }) = found {
            out.push_str(text.get(..start).unwrap_or_default());
            out.push_str(text.get(end..).unwrap_or_default());
            return at;
        }
        session.dateless = found.is_none_or(|DateFound { start, end, .. }| start < end);
        let recent = self.dates.recent(&mut session.dates, clock);
        let recent = recent.filter(|last| last.0 > clock.now.0.saturating_sub(DATE_HOLDS));
        match found {
            // A date that is none: the line counts at the last one, if that holds, as it stands.
            Some(DateFound { start, end, .. }) if start < end && recent.is_none() => {
                out.push_str(text.get(..start).unwrap_or_default());
                out.push_str(text.get(end..).unwrap_or_default());
                None
            }
            Some(DateFound { start, end, .. }) => {
                out.push_str(text);
                recent.or((start >= end).then_some(clock.now))
            }
            None => {
                out.push_str(text);
                recent
            }
        }
    }
}

/// `HOST IDENT[PID]: MESSAGE`, as fail2ban makes of a journal record (`server/filtersystemd.py`).
fn record_text(program: Option<&[u8]>, pid: Option<u32>, message: &str, out: &mut String) {
    out.push_str(HOST);
    out.push(' ');
    if let Some(program) = program.filter(|program| !program.is_empty()) {
        out.push_str(&String::from_utf8_lossy(program));
        if let Some(pid) = pid {
            let _ = write!(out, "[{pid}]");
        }
        out.push_str(": ");
        // The kernel's lines begin with the time since boot, which nothing here needs to know.
        if out.ends_with(" kernel: ") {
            out.push_str("[    0.000000] ");
        }
    }
    for (i, line) in message.split('\n').enumerate() {
        out.push_str(if i > 0 { "\\n" } else { "" });
        out.push_str(line);
    }
}
