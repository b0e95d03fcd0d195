//! One file's text to sections and options.
//!
//! | rule of Python's `configparser` (as fail2ban sets it up) | here |
//! |---|---|
//! | `[name]` begins a section; up to the last `]` of the line | [`Reading::header`] |
//! | `name = value` or `name: value`; the name in lower case | [`Reading::option`] |
//! | a line that begins with `#` or `;` is a comment, and so is the rest of a line after ` ;` | [`uncommented`] |
//! | a line further in than the one that began the value goes on with it, blank lines between them too | [`Reading::line`] |
//! | a section or an option that comes twice in one file is an error | [`Reading::header`], [`Reading::option`] |

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::{DEFAULT, Fault, Options, Value};

/// What one file says.
#[derive(Clone, Debug, Default)]
pub(super) struct Parsed {
    pub(super) defaults: Options,
    /// In their order.
    pub(super) sections: Vec<(String, Options)>,
}

impl Parsed {
    /// The option as written, or that of `DEFAULT`, if there is the section.
    pub(super) fn section(&self, name: &str) -> Option<&Options> {
        self.sections.iter().find(|(section, _)| section == name).map(|(_, options)| options)
    }
}

/// What Python's `str.isspace` takes for space: Unicode's white space and four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Reads a file's text.
pub(super) fn parse(file: &Arc<str>, text: &str) -> Result<Parsed, Fault> {
    let text: Cow<'_, str> = if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n").into() } else { text.into() };
    let mut reading =
        Reading { file, parsed: Parsed::default(), names: BTreeSet::new(), inside: None, taken: BTreeSet::new(), open: None, indent: 0 };
    for (line, number) in text.split('\n').zip(1u32..) {
        reading.line(line, number)?;
    }
    reading.close();
    Ok(reading.parsed)
}

/// Where the next option goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Defaults,
    /// The last one in the list.
    Section,
}

struct Reading<'a> {
    file: &'a Arc<str>,
    parsed: Parsed,
    /// The sections there are already.
    names: BTreeSet<String>,
    inside: Option<Inside>,
    /// The options the section has already; those of `DEFAULT` begin with a newline, as it can come back.
    taken: BTreeSet<String>,
    /// The option that the next lines may go on with: its name, its line, its text so far.
    open: Option<(String, u32, Vec<&'a str>)>,
    /// How far in the line stood that began it.
    indent: usize,
}

/// A line without its comment, and whether it had one.
fn uncommented(line: &str) -> (&str, bool) {
    let whole = line.trim_matches(is_space);
    if whole.starts_with(['#', ';']) {
        return ("", true);
    }
    let mut before = None;
    for (at, c) in line.char_indices() {
        if c == ';' && before.is_none_or(is_space) {
            return (line.get(..at).unwrap_or_default().trim_matches(is_space), true);
        }
        before = Some(c);
    }
    (whole, false)
}

impl<'a> Reading<'a> {
    fn fault(&self, line: u32, what: impl Into<String>) -> Fault {
        Fault { file: self.file.to_string(), line, what: what.into() }
    }

    fn line(&mut self, line: &'a str, number: u32) -> Result<(), Fault> {
        let (text, comment) = uncommented(line);
        if text.is_empty() {
            if let (false, Some((_, _, lines))) = (comment, &mut self.open) {
                lines.push("");
            }
            return Ok(());
        }
        let indent = line.chars().take_while(|c| is_space(*c)).count();
        if let Some((_, _, lines)) = &mut self.open
            && indent > self.indent
        {
            lines.push(text);
            return Ok(());
        }
        self.indent = indent;
        match text.strip_prefix('[').and_then(|rest| rest.rfind(']').and_then(|end| rest.get(..end))) {
            Some(name) if !name.is_empty() => self.header(name, number),
            _ => self.option(text, number),
        }
    }

    fn header(&mut self, name: &str, number: u32) -> Result<(), Fault> {
        self.close();
        self.taken.retain(|option| option.starts_with('\n'));
        if name == DEFAULT {
            self.inside = Some(Inside::Defaults);
            return Ok(());
        }
        if !self.names.insert(name.to_owned()) {
            return Err(self.fault(number, format!("the section [{name}] is there twice in this file; make one of the two")));
        }
        self.parsed.sections.push((name.to_owned(), Options::new()));
        self.inside = Some(Inside::Section);
        Ok(())
    }

    fn option(&mut self, text: &'a str, number: u32) -> Result<(), Fault> {
        self.close();
        let Some(inside) = self.inside else {
            return Err(self.fault(number, "text before the first section; a section begins with a line like [Definition]"));
        };
        let split = text.find(['=', ':']).map(|at| text.split_at(at));
        let Some((name, value)) = split.map(|(name, rest)| (name.trim_end_matches(is_space), rest.get(1..).unwrap_or_default())) else {
            let what = "this is neither a section nor `name = value`; indent it further than the option it is to go on with";
            return Err(self.fault(number, what));
        };
        if name.is_empty() {
            return Err(self.fault(number, "there is no name before the `=` or `:`"));
        }
        let name = name.to_lowercase();
        let key = if inside == Inside::Defaults { format!("\n{name}") } else { name.clone() };
        if !self.taken.insert(key) {
            return Err(self.fault(number, format!("`{name}` is there twice in this section; make one of the two")));
        }
        self.open = Some((name, number, vec![value.trim_matches(is_space)]));
        Ok(())
    }

    /// Puts the option away whose lines came last.
    fn close(&mut self) {
        let Some((name, line, lines)) = self.open.take() else { return };
        let text = lines.join("\n").trim_end_matches(is_space).to_owned();
        let value = Value { text, file: Arc::clone(self.file), line };
        match (self.inside, self.parsed.sections.last_mut()) {
            (Some(Inside::Section), Some((_, options))) => drop(options.insert(name, value)),
            _ => drop(self.parsed.defaults.insert(name, value)),
        }
    }
}
