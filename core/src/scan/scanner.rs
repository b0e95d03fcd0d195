//! The lines of one source against the signatures of the jails that read it.

use std::sync::Arc;

use super::access::{self, Request};
use super::framing::{self, Frame};
use super::signature::{Found, Kind, Signature};
use crate::attack::{Attack, JailName, excerpt};
use crate::time::Stamp;

/// One line, as a source delivers it.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    text: &'a [u8],
    /// `None`: not taken apart yet.
    split: Option<Option<&'a [u8]>>,
    at: Option<Stamp>,
}

impl<'a> Line<'a> {
    /// A line of a file or of standard input, without its newline.
    pub const fn raw(text: &'a [u8]) -> Self {
        Self { text, split: None, at: None }
    }

    /// A journal record: `SYSLOG_IDENTIFIER`, `MESSAGE` and the record's time. Nothing in the
    /// message is taken for a syslog prefix.
    pub const fn journal(program: Option<&'a [u8]>, message: &'a [u8], at: Option<Stamp>) -> Self {
        Self { text: message, split: Some(program), at }
    }

    /// The bytes as delivered.
    pub const fn text(&self) -> &'a [u8] {
        self.text
    }

    pub(super) fn view(self) -> View<'a> {
        View { line: self, frame: None, request: None }
    }
}

/// A line with what has been read from it so far; each is read once at most.
pub(super) struct View<'a> {
    line: Line<'a>,
    frame: Option<Frame<'a>>,
    request: Option<Option<Request<'a>>>,
}

impl<'a> View<'a> {
    pub(super) fn frame(&mut self) -> Frame<'a> {
        let line = self.line;
        *self.frame.get_or_insert_with(|| match line.split {
            Some(program) => Frame { time: None, program, message: line.text.trim_ascii() },
            None => framing::frame(line.text),
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

    pub(super) fn find<'s>(mut self, signature: &'s Signature) -> Option<Found<'s, 'a>> {
        self.look(signature)
    }

    pub(super) fn look<'s>(&mut self, signature: &'s Signature) -> Option<Found<'s, 'a>> {
        match signature.kind() {
            Kind::Plain => signature.in_message(self.line.text.trim_ascii_end()),
            Kind::Syslog => {
                let frame = self.frame();
                signature.listens_to(frame.program).then(|| signature.in_message(frame.message)).flatten()
            }
            Kind::AccessLog => self.request().and_then(|request| signature.in_request(&request)),
        }
    }

    /// The line's own time: the journal's, or one that names its zone.
    pub(super) fn at(&mut self) -> Option<Stamp> {
        let own = self.line.at.or_else(|| self.request.flatten().and_then(|r| r.at()));
        own.or_else(|| Stamp::parse(std::str::from_utf8(self.frame().time?).ok()?))
    }
}

/// A jail's part in one source.
#[derive(Clone, Debug)]
pub struct JailScan {
    /// The jail.
    pub jail: JailName,
    /// What its lines are held against.
    pub signatures: Vec<Arc<Signature>>,
}

/// All jails of one source. Immutable: share it in an `Arc`.
#[derive(Clone, Debug)]
pub struct Scanner {
    jails: Vec<JailScan>,
}

impl Scanner {
    /// A scanner for a source that these jails read.
    pub fn new(jails: &[JailScan]) -> Self {
        Self { jails: jails.to_vec() }
    }

    /// The jails and their signatures.
    pub fn jails(&self) -> &[JailScan] {
        &self.jails
    }

    /// Tells `sink` the attacks in one line, at most one a jail: the heaviest. A line that matches
    /// nothing costs no allocation.
    pub fn scan(&self, line: Line<'_>, sink: &mut dyn FnMut(Attack)) {
        let mut view = line.view();
        for JailScan { jail, signatures } in &self.jails {
            let mut best: Option<(&Signature, Found<'_, '_>)> = None;
            for signature in signatures {
                let Some(found) = view.look(signature) else { continue };
                if best.as_ref().is_none_or(|(_, b)| found.rule.score() > b.rule.score()) {
                    best = Some((signature, found));
                }
            }
            if let Some((signature, found)) = best {
                sink(attack(jail, signature, &found, &mut view));
            }
        }
    }
}

fn attack(jail: &JailName, signature: &Signature, found: &Found<'_, '_>, view: &mut View<'_>) -> Attack {
    Attack {
        addr: found.addr,
        jail: jail.clone(),
        signature: found.rule.full_name().clone(),
        service: signature.service().clone(),
        score: found.rule.score(),
        at: view.at(),
        user: found.user.map(excerpt),
        line: excerpt(view.line.text),
    }
}
