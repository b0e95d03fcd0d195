//! One line, as a source delivers it.

use crate::time::Stamp;

/// One line, as a source delivers it.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub(super) text: &'a [u8],
    /// `None`: not taken apart yet.
    pub(super) split: Option<Option<&'a [u8]>>,
    pid: Option<u32>,
    at: Option<Stamp>,
    file: &'a [u8],
}

impl<'a> Line<'a> {
    /// A line of a file or of standard input, without its newline.
    pub const fn raw(text: &'a [u8]) -> Self {
        Self { text, split: None, pid: None, at: None, file: b"" }
    }

    /// A journal record: `SYSLOG_IDENTIFIER`, `_PID`, `MESSAGE` and the record's time. Nothing in the
    /// message is taken for a syslog prefix.
    pub const fn journal(program: Option<&'a [u8]>, pid: Option<u32>, message: &'a [u8], at: Option<Stamp>) -> Self {
        Self { text: message, split: Some(program), pid, at, file: b"" }
    }

    /// The same line, with the name of its file: pieces of one line are joined within a file only. To
    /// be told wherever one state sees lines of several.
    pub const fn of_file(self, file: &'a [u8]) -> Self {
        Self { file, ..self }
    }

    /// The name of its file, if it was told.
    pub(super) const fn file(&self) -> &'a [u8] {
        self.file
    }

    /// A line without a date whose time is known otherwise.
    pub const fn dated(text: &'a [u8], at: Stamp) -> Self {
        Self { text, split: None, pid: None, at: Some(at), file: b"" }
    }

    /// The program and the process of a journal record; `None` for a line.
    pub(super) const fn record(&self) -> Option<(Option<&'a [u8]>, Option<u32>)> {
        match self.split {
            Some(program) => Some((program, self.pid)),
            None => None,
        }
    }

    /// When the journal got it.
    pub(super) const fn at(&self) -> Option<Stamp> {
        self.at
    }

    /// The bytes as delivered.
    pub const fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The same with what was found in its text.
    pub(super) const fn within<'b>(self, text: &'b [u8]) -> Line<'b>
    where
        'a: 'b,
    {
        Line { text, ..self }
    }

    /// Whether it comes from the journal.
    pub(super) const fn is_record(&self) -> bool {
        self.split.is_some()
    }
}
