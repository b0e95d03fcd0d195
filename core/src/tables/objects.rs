//! A JSON stream cut into the objects that are rows, without holding the document.
//!
//! A row is an object that stands at the top (one a line, or one after another), in a list at the top,
//! or in the list under [`LISTS`] of an object in such a place:
//!
//! ```text
//!   {row} {row} ...                                       one object a line
//!   [{row}, {row}, ...]                                   a list
//!   {"v": 1, "bans": [{row}, ...]}                        palisade list
//!   [{..., "decisions": [{row}, ...], ...}, ...]          cscli decisions list
//! ```
//! Only enough of the grammar is looked at to find where rows begin and end; each row is then read by
//! serde_json. After something that cannot be JSON, reading goes on with the next line.

use serde::Deserialize;

use super::lines::BOM;
use super::words::shown;
use super::{Item, LINE_MAX, Take};

/// Under which names lists of rows stand.
const LISTS: [&[u8]; 2] = [b"bans", b"decisions"];

/// How deeply things may be nested: more than serde_json follows, which then says so.
const DEEPEST: usize = 200;

/// How deeply lists of rows may stand. cscli's stand three deep.
const LISTS_DEEPEST: usize = 8;

/// The longest name in [`LISTS`]; of longer ones only this much is held.
const NAME: usize = 16;

/// What reads rows.
pub(super) trait Rows {
    /// Reads one object and says what it found.
    fn read(&mut self, object: &[u8], say: &mut dyn FnMut(Item));

    /// Reads the row that the bytes begin with, where it is whole and could be nothing else, as
    /// [`Self::read`] would; how long it is. `None`: nothing was said, cut it out and see.
    fn read_first(&mut self, bytes: &[u8], say: &mut dyn FnMut(Item)) -> Option<usize>;
}

/// The value the bytes begin with, and how long it is. Reads it once, where cutting it out first would read it twice.
pub(super) fn first<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Option<(T, usize)> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset())).filter(|(_, len)| *len <= LINE_MAX)
}

/// What the scanner is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Object,
    List,
    /// A list whose objects are rows.
    Rows,
}

/// The last thing that stood outside of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// Nothing, `[`, `{` or `,`: a value or a name comes.
    Open,
    /// `:`: a value comes.
    Colon,
    /// A text, number, word, `]` or `}`.
    Value,
}

/// What cannot stand where it stands. Small, for it is looked at after every byte.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Brace,
    Bracket,
    CloseBrace,
    CloseBracket,
    Newline,
    Scalar,
    Text,
    Deep,
}

impl Wrong {
    fn told(self) -> String {
        match self {
            Self::Brace => "expected `,` or the end of the object or list before `{`".to_owned(),
            Self::Bracket => "expected `,` or the end of the object or list before `[`".to_owned(),
            Self::CloseBrace => "expected no `}` here".to_owned(),
            Self::CloseBracket => "expected no `]` here".to_owned(),
            Self::Newline => "expected the end of the text on its line".to_owned(),
            Self::Scalar => "expected an object, found a value".to_owned(),
            Self::Text => "expected an object, found a text".to_owned(),
            Self::Deep => format!("expected at most {DEEPEST} levels of objects and lists"),
        }
    }
}

/// Cuts objects out.
#[derive(Debug)]
pub(super) struct Objects {
    /// How many newlines are behind it.
    lines: u64,
    levels: Vec<Level>,
    /// The row that is being cut out: the line it began on, how many levels were around it.
    row: Option<(u64, usize)>,
    /// What of it stood in earlier pieces.
    held: Vec<u8>,
    /// It is longer than may be.
    oversize: bool,
    in_text: bool,
    escaped: bool,
    /// The text that was read last, or is being read.
    name: [u8; NAME],
    name_len: usize,
    last: Last,
    /// What follows up to the end of the line is passed over.
    skipping: bool,
    /// The byte before was a newline, or nothing was before.
    fresh: bool,
}

impl Objects {
    /// A cutter that has `before` lines behind it.
    pub(super) const fn new(before: u64) -> Self {
        Self {
            lines: before,
            levels: Vec::new(),
            row: None,
            held: Vec::new(),
            oversize: false,
            in_text: false,
            escaped: false,
            name: [0; NAME],
            name_len: 0,
            last: Last::Open,
            skipping: false,
            fresh: true,
        }
    }

    /// Takes bytes, has each whole row read, and hands out what it says.
    pub(super) fn push(&mut self, bytes: &[u8], take: &mut Take<'_>, rows: &mut impl Rows) {
        // Where in these bytes the row that is being cut out begins.
        let mut start = 0;
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let mut byte = *byte;
            if self.in_text && !self.escaped && !self.skipping {
                at += self.run(&bytes[at..]);
                match bytes.get(at) {
                    Some(next) => byte = *next,
                    None => break,
                }
            }
            if byte == b'{' && !self.skipping && !self.in_text && self.row_may_begin() {
                let line = self.lines + 1;
                if let Some(len) = rows.read_first(&bytes[at..], &mut |item| take(line, item)) {
                    self.lines += bytes[at..at + len].iter().filter(|byte| **byte == b'\n').count() as u64;
                    (self.last, self.fresh) = (Last::Value, false);
                    at += len;
                    continue;
                }
            }
            let begins = self.row.is_none();
            match self.step(byte) {
                Ok(false) => {}
                Ok(true) => {
                    let (line, _) = self.row.take().unwrap_or((self.lines + 1, 0));
                    self.cut(&bytes[start..=at], line, take, rows);
                }
                Err(what) => {
                    take(self.row.map_or(self.lines + 1, |(line, _)| line), Item::Bad(what.told()));
                    self.recover();
                    // A line that begins an object may be whole itself.
                    if std::mem::take(&mut self.fresh) && byte == b'{' {
                        continue;
                    }
                    self.skipping = byte != b'\n';
                }
            }
            if begins && self.row.is_some() {
                start = at;
            }
            self.fresh = byte == b'\n';
            self.lines += u64::from(self.fresh);
            at += 1;
        }
        if self.row.is_some() {
            self.hold(&bytes[start.min(bytes.len())..]);
        }
    }

    /// The stream is over.
    pub(super) fn finish(&mut self, take: &mut Take<'_>) {
        if self.row.is_some() || !self.levels.is_empty() {
            let line = self.row.map_or(self.lines + 1, |(line, _)| line);
            take(line, Item::Bad("expected the end of what begins here, found the end of the table".to_owned()));
        }
        *self = Self::new(self.lines);
    }

    /// How many bytes of a text come before one that matters; keeps the beginning of it as a name.
    fn run(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n')).unwrap_or(bytes.len());
        let room = NAME - self.name_len;
        let kept = &bytes[..len.min(room)];
        self.name[self.name_len..self.name_len + kept.len()].copy_from_slice(kept);
        self.name_len += kept.len();
        len
    }

    /// Takes one byte. Whether a row ends with it.
    #[inline]
    fn step(&mut self, byte: u8) -> Result<bool, Wrong> {
        if self.skipping {
            self.skipping = byte != b'\n';
            return Ok(false);
        }
        if self.in_text {
            return self.text(byte);
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'"' => {
                self.value(Wrong::Text)?;
                (self.in_text, self.name_len) = (true, 0);
            }
            b'{' => {
                if self.row_may_begin() {
                    self.row = Some((self.lines + 1, self.levels.len()));
                } else if self.last == Last::Value {
                    return Err(Wrong::Brace);
                }
                self.open(Level::Object)?;
            }
            b'[' => {
                let level = if self.rows_begin() { Level::Rows } else { Level::List };
                if self.last == Last::Value {
                    return Err(Wrong::Bracket);
                }
                self.open(level)?;
            }
            b'}' => return self.close(Level::Object),
            b']' => return self.close(Level::List),
            b',' => self.last = Last::Open,
            b':' => self.last = Last::Colon,
            _ if self.lines == 0 && BOM.contains(&byte) => {}
            _ => self.value(Wrong::Scalar)?,
        }
        Ok(false)
    }

    fn text(&mut self, byte: u8) -> Result<bool, Wrong> {
        match byte {
            _ if std::mem::take(&mut self.escaped) => {}
            b'\\' => {
                self.escaped = true;
                // No name that is looked for has an escape.
                self.name_len = NAME;
            }
            b'"' => (self.in_text, self.last) = (false, Last::Value),
            b'\n' => return Err(Wrong::Newline),
            _ => {}
        }
        Ok(false)
    }

    /// A text, number or word stands here: not where only rows may.
    fn value(&mut self, what: Wrong) -> Result<(), Wrong> {
        if matches!(self.levels.last(), None | Some(Level::Rows)) {
            return Err(what);
        }
        self.last = Last::Value;
        Ok(())
    }

    /// Whether an object that opens here is one of the rows (or holds a list of them).
    fn row_may_begin(&self) -> bool {
        self.row.is_none() && matches!(self.levels.last(), None | Some(Level::Rows)) && (self.levels.is_empty() || self.last == Last::Open)
    }

    /// Whether a list that opens here is one of rows; the object around it is then none.
    fn rows_begin(&mut self) -> bool {
        if self.levels.is_empty() {
            return true;
        }
        let mine = self.levels.len() < LISTS_DEEPEST && self.row.is_some_and(|(_, around)| around + 1 == self.levels.len());
        let so = mine && self.last == Last::Colon && LISTS.contains(&&self.name[..self.name_len]);
        if so {
            self.row = None;
            self.held.clear();
            self.oversize = false;
        }
        so
    }

    fn open(&mut self, level: Level) -> Result<(), Wrong> {
        if self.levels.len() >= DEEPEST {
            return Err(Wrong::Deep);
        }
        self.levels.push(level);
        self.last = Last::Open;
        Ok(())
    }

    fn close(&mut self, level: Level) -> Result<bool, Wrong> {
        let fits = self.levels.last().is_some_and(|here| (*here == Level::Object) == (level == Level::Object));
        if !fits {
            return Err(if level == Level::Object { Wrong::CloseBrace } else { Wrong::CloseBracket });
        }
        self.levels.pop();
        self.last = Last::Value;
        Ok(self.row.is_some_and(|(_, around)| around == self.levels.len()))
    }

    /// After what is no JSON: the row is given up, and another may begin where it began.
    fn recover(&mut self) {
        let around = match self.row.take() {
            Some((_, around)) => around,
            None if self.levels.last() == Some(&Level::Rows) => self.levels.len(),
            None => 0,
        };
        self.levels.truncate(around);
        self.held.clear();
        (self.oversize, self.in_text, self.escaped, self.last) = (false, false, false, Last::Open);
    }

    /// Keeps what of the row is there when the bytes end.
    fn hold(&mut self, bytes: &[u8]) {
        if self.oversize || self.held.len() + bytes.len() > LINE_MAX {
            self.oversize = true;
            self.held.clear();
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    /// A row is whole.
    fn cut(&mut self, bytes: &[u8], line: u64, take: &mut Take<'_>, rows: &mut impl Rows) {
        let mut say = |item| take(line, item);
        if std::mem::take(&mut self.oversize) || self.held.len() + bytes.len() > LINE_MAX {
            say(Item::Bad(format!("the object is longer than {LINE_MAX} bytes: {}", shown(bytes))));
        } else if self.held.is_empty() {
            rows.read(bytes, &mut say);
        } else {
            self.held.extend_from_slice(bytes);
            rows.read(&self.held, &mut say);
        }
        self.held.clear();
    }
}
