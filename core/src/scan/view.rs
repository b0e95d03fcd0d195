//! One line with what has been read from it so far: each format is tried once at most, whatever the
//! number of signatures that ask.

use super::formats::access::{self, Request};
use super::formats::record::Record;
use super::formats::syslog::{self, Frame};
use super::line::Line;
use super::pattern::Memory;
use super::signature::{Found, Kind, Rule, Signature};
use super::times::LogClock;
use super::unwrap::{Inner, Opened, Unwrapper};
use crate::time::Stamp;

/// Memory that is used again for the next line.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    record: Record,
    memory: Memory,
}

/// A line and its parts.
pub(super) struct View<'a> {
    line: Line<'a>,
    /// When, says what was around it.
    time: Option<&'a [u8]>,
    frame: Option<Frame<'a>>,
    request: Option<Option<Request<'a>>>,
    /// The text whose fields are in `scratch.record`.
    fields: Option<Option<&'a [u8]>>,
    scratch: Scratch,
}

impl<'a> View<'a> {
    /// The same, using memory of the line before.
    fn with(line: Line<'a>, mut scratch: Scratch) -> Self {
        scratch.memory.forget();
        Self { line, time: None, frame: None, request: None, fields: None, scratch }
    }

    /// A view of what was found in a line; the memory is taken if there is something to see.
    pub(super) fn opened(opened: Opened<'a>, scratch: &mut Scratch) -> Option<Self> {
        match opened {
            Opened::AsIs(line) => Some(Self::with(line, std::mem::take(scratch))),
            Opened::Inner(Inner { line, time, daemon }) => {
                Some(Self { time, frame: daemon.map(Frame::unrolled), ..Self::with(line, std::mem::take(scratch)) })
            }
            Opened::Pending => None,
        }
    }

    /// The memory, for the next line.
    pub(super) fn scratch(self) -> Scratch {
        self.scratch
    }

    /// What the program wrote.
    pub(super) fn text(&self) -> &'a [u8] {
        self.line.text
    }

    /// The texts in which all can be seen that rules look for: the message stands apart where a syslog
    /// daemon's object was read.
    pub(super) fn texts(&mut self) -> impl Iterator<Item = &'a [u8]> {
        let (whole, message) = (self.line.text, self.frame().message);
        let within = whole.as_ptr_range().contains(&message.as_ptr());
        std::iter::once(whole).chain((!within).then_some(message))
    }

    pub(super) fn frame(&mut self) -> Frame<'a> {
        let line = self.line;
        *self.frame.get_or_insert_with(|| match line.split {
            Some(program) => Frame::once(None, program, line.text.trim_ascii()),
            None => syslog::frame(line.text).unrolled(),
        })
    }

    /// The request of an access log, which may have come through syslog.
    pub(super) fn request(&mut self) -> Option<Request<'a>> {
        if let Some(read) = self.request {
            return read;
        }
        let read = access::read(self.line.text).or_else(|| {
            let frame = self.frame();
            frame.program.and_then(|_| access::read(frame.message))
        });
        self.request = Some(read);
        read
    }

    /// The text whose fields are read: the line, or the message where a syslog prefix names a program.
    fn fields(&mut self) -> Option<&'a [u8]> {
        if let Some(read) = self.fields {
            return read;
        }
        let whole = self.line.text.trim_ascii();
        let text = if whole.starts_with(b"{") {
            whole
        } else {
            let frame = self.frame();
            if frame.program.is_some() { frame.message } else { whole }
        };
        let read = self.scratch.record.read(text).then_some(text);
        self.fields = Some(read);
        read
    }

    /// Whether the line has fields.
    pub(super) fn has_record(&mut self) -> bool {
        self.fields().is_some()
    }

    /// The fields and the text they stand in, if they were asked for and are there.
    pub(super) fn record(&self) -> Option<(&Record, &'a [u8])> {
        self.fields.flatten().map(|text| (&self.scratch.record, text))
    }

    /// What the heaviest rule of a signature that matches says of it.
    pub(super) fn look<'s>(&mut self, signature: &'s Signature) -> Option<Found<'s, 'a>> {
        signature.rules().iter().find_map(|rule| self.look_by(signature, rule))
    }

    /// What one rule of a signature says of it.
    pub(super) fn look_by<'s>(&mut self, signature: &'s Signature, rule: &'s Rule) -> Option<Found<'s, 'a>> {
        match signature.kind() {
            Kind::Plain => rule.in_message(self.line.text.trim_ascii_end(), &mut self.scratch.memory),
            Kind::Syslog => {
                let frame = self.frame();
                let memory = &mut self.scratch.memory;
                signature.listens_to(frame.program).then(|| rule.in_message(frame.message, memory)).flatten()
            }
            Kind::AccessLog => rule.in_request(&self.request()?, &mut self.scratch.memory),
            Kind::Fields => {
                let text = self.fields()?;
                let program = self.frame().program;
                let Scratch { record, memory } = &mut self.scratch;
                signature.listens_to(program).then(|| rule.in_record(record, text, memory)).flatten()
            }
        }
    }

    /// How heavy what was found is: as often as it was said. What has no syslog daemon was said once.
    pub(super) fn weight(&mut self, signature: &Signature, found: &Found<'_, '_>) -> u16 {
        let times = if signature.kind() == Kind::Plain { 1 } else { self.frame().times };
        found.rule.score().saturating_mul(times)
    }

    /// When it happened: the journal's time, what the rule found, or what stands before the message.
    pub(super) fn at(&mut self, found: Option<&[u8]>, clock: &LogClock) -> Option<Stamp> {
        let own = self.line.at().or_else(|| found.and_then(|text| epoch(text).or_else(|| clock.read(text))));
        let own = own.or_else(|| self.request.flatten().and_then(|request| request.at()));
        let own = own.or_else(|| self.frame().time.and_then(|text| epoch(text).or_else(|| clock.read(text))));
        own.or_else(|| clock.read(self.time?))
    }
}

impl Line<'_> {
    /// When it was written, as far as it says.
    pub fn when(self, clock: &LogClock) -> Option<Stamp> {
        let (mut unwrapper, mut scratch) = (Unwrapper::default(), Scratch::default());
        let own = View::opened(unwrapper.open(self), &mut scratch).and_then(|mut view| {
            let _ = view.request();
            view.at(None, clock)
        });
        own.or_else(|| clock.find(self.text)?.1)
    }
}

/// Seconds since 1970 with or without a fraction, or milli-, micro- or nanoseconds: which, says
/// their size. Seconds have ten digits from 2001 to 2286.
fn epoch(text: &[u8]) -> Option<Stamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i64 = whole.parse().ok()?;
    let millis = match whole.len() {
        9 | 10 => {
            let thousandths = format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?;
            number.checked_mul(1000)?.checked_add(thousandths)?
        }
        12 | 13 => number,
        15 | 16 => number / 1000,
        18 | 19 => number / 1_000_000,
        _ => return None,
    };
    Some(Stamp(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_their_parts_by_size() {
        for text in ["1795366800.5", "1795366800.512345", "1795366800500", "1795366800500123", "1795366800500123456"] {
            assert_eq!(epoch(text.as_bytes()).unwrap().0 / 100, 17_953_668_005, "{text}");
        }
        for text in ["", "1", "x", "12345678901", "-1795366800", "1795366800.x", "99999999999999999999"] {
            assert_eq!(epoch(text.as_bytes()), None, "{text}");
        }
    }
}
