//! Ini files as fail2ban reads them: includes, what a later file overrides, and interpolation.
//!
//! | part | what it does |
//! |---|---|
//! | `parse` | one file's text to sections and options, by the rules of Python's `configparser` |
//! | `load` | which files there are and in which order they count; a later one overrides |
//! | `interpolate` | `%(name)s` in values |
//! | `call` | `name[key=value, key="value"]`, as a jail names its filter and its actions |
//!
//! Sources: Python's `configparser` documentation; fail2ban's `jail.conf(5)`, its `configparserinc.py`
//! and `configreader.py` (1.0.2 and 1.1 read alike).
//!
//! Names of options are lower case, names of sections are as written. What a file says anew stays
//! known: the value before it stands in the section `KNOWN/<section>`.

mod call;
mod interpolate;
mod load;
mod parse;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use call::{call, words};

/// What files there are: the caller reads them, nothing here touches the world.
pub trait Files {
    /// The whole text of a file, any bytes; `Ok(None)` where there is none.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String>;

    /// The paths of the files in a folder that end so (`.conf`), sorted; empty where there is no folder.
    fn list(&self, dir: &str, ending: &str) -> Vec<String>;
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file; empty for what was not read from one.
    pub file: String,
    /// Which line, from 1; 0 for the file as a whole.
    pub line: u32,
    /// What is wrong and what to do.
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", _) => f.write_str(&self.what),
            (file, 0) => write!(f, "{file}: {}", self.what),
            (file, line) => write!(f, "{file}:{line}: {}", self.what),
        }
    }
}

impl std::error::Error for Fault {}

/// What an option was set to, as written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The text; its lines without what stands around them.
    pub text: String,
    /// The file; empty for what was not read from one.
    pub file: Arc<str>,
    /// The line of the option's name, from 1.
    pub line: u32,
}

impl Value {
    fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { file: self.file.to_string(), line: self.line, what: what.into() }
    }
}

/// The options of a section.
type Options = BTreeMap<String, Value>;

/// The section whose options every other section has too.
pub const DEFAULT: &str = "DEFAULT";

/// What the sections of older values begin with.
const KNOWN: &str = "KNOWN/";

/// Several files read as one.
#[derive(Clone, Debug, Default)]
pub struct Ini {
    defaults: Options,
    sections: BTreeMap<String, Options>,
    /// The names in the order they were first met.
    order: Vec<String>,
    files: Vec<String>,
    notes: Vec<Fault>,
}

impl Ini {
    /// Reads `BASE.conf`, `BASE.d/*.conf`, `BASE.local` and `BASE.d/*.local` with what they include;
    /// later ones override earlier ones. Where there are none, it is empty: see [`Self::files`].
    ///
    /// # Errors
    /// What is no ini file, or too large.
    pub fn load(files: &dyn Files, base: &str) -> Result<Self, Fault> {
        load::load(files, base)
    }

    /// The files that were read, in the order they count; one that is included twice stands there twice.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// What was passed over, as fail2ban passes over it: files that are not UTF-8, includes that are not there.
    pub fn notes(&self) -> &[Fault] {
        &self.notes
    }

    /// The sections in the order they were first met, less `DEFAULT`.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str).filter(|name| !name.starts_with(KNOWN))
    }

    /// Whether there is a section of this name.
    pub fn has_section(&self, section: &str) -> bool {
        self.sections.contains_key(section)
    }

    /// The options of one section alone, by name; of [`DEFAULT`] too.
    pub fn options(&self, section: &str) -> impl Iterator<Item = (&str, &Value)> {
        let options = if section == DEFAULT { Some(&self.defaults) } else { self.sections.get(section) };
        options.into_iter().flatten().map(|(name, value)| (name.as_str(), value))
    }

    /// An option as written: the section's own, else that of `DEFAULT`; `None` where there is no such section.
    pub fn raw(&self, section: &str, option: &str) -> Option<&Value> {
        let option = option.to_lowercase();
        let own = if section == DEFAULT { None } else { Some(self.sections.get(section)?) };
        own.and_then(|options| options.get(&option)).or_else(|| self.defaults.get(&option))
    }

    /// What an option was before a later file set it anew, as written.
    pub fn known(&self, section: &str, option: &str) -> Option<&Value> {
        self.sections.get(&format!("{KNOWN}{section}"))?.get(&option.to_lowercase())
    }

    /// An option with its `%(name)s` filled in. `vars` (names in lower case) come before what the files say.
    ///
    /// # Errors
    /// A `%` that is no reference, a reference to nothing or round in a circle, or one that grows too long.
    pub fn get(&self, section: &str, option: &str, vars: &BTreeMap<String, String>) -> Result<Option<String>, Fault> {
        interpolate::get(self, section, option, vars)
    }

    /// As [`Self::get`], where the option may name its section: `section/option`, `default/option`,
    /// or `known/option` for the value before the last.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_from(&self, section: &str, option: &str, vars: &BTreeMap<String, String>) -> Result<Option<String>, Fault> {
        let none = BTreeMap::new();
        if let Some((of, name)) = section_and_option(option) {
            let known = format!("{KNOWN}{section}");
            let places: [Option<&str>; 2] = match of.to_lowercase().as_str() {
                "known" => [Some(&known), Some(section)],
                "default" => [Some(DEFAULT), None],
                _ => [Some(of), None],
            };
            for place in places.into_iter().flatten() {
                if let Some(value) = self.get(place, name, &none)? {
                    return Ok(Some(value));
                }
            }
        }
        self.get(section, option, vars)
    }

    /// Sets an option of `DEFAULT` that no file says.
    pub fn set_default(&mut self, option: &str, text: &str) {
        let value = Value { text: text.to_owned(), file: Arc::from(""), line: 0 };
        self.defaults.insert(option.to_lowercase(), value);
    }

    /// Adds a later file.
    fn merge(&mut self, later: &parse::Parsed) {
        self.defaults.extend(later.defaults.clone());
        for (name, options) in &later.sections {
            let (name, options) = conditional(name, options);
            if let Some(earlier) = self.sections.get(name) {
                let again = earlier.iter().filter(|(option, _)| options.contains_key(*option));
                let again: Options = again.map(|(option, value)| (option.clone(), value.clone())).collect();
                self.section(&format!("{KNOWN}{name}")).extend(again);
            }
            self.section(name).extend(options);
        }
    }

    fn section(&mut self, name: &str) -> &mut Options {
        if !self.sections.contains_key(name) {
            self.order.push(name.to_owned());
        }
        self.sections.entry(name.to_owned()).or_default()
    }
}

/// What is a part of a name in Python's regexes: `\w`.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `[Init?family=inet6]` is `[Init]`, each option of which is called `option?family=inet6`.
fn conditional<'a>(name: &'a str, options: &Options) -> (&'a str, Options) {
    match condition(name) {
        Some((name, condition)) => (name, options.iter().map(|(option, value)| (format!("{option}{condition}"), value.clone())).collect()),
        None => (name, options.clone()),
    }
}

/// The name and the condition of `name?condition`; the `?` goes with the condition.
pub fn condition(name: &str) -> Option<(&str, &str)> {
    let at = name.find('?')?;
    let (name, condition) = name.split_at(at);
    (!name.is_empty() && name.chars().all(is_word) && condition.len() > 1).then_some((name, condition))
}

/// The two of `section/option`.
fn section_and_option(name: &str) -> Option<(&str, &str)> {
    let (section, option) = name.split_once('/')?;
    let good = |c: char| is_word(c) || c == '-';
    let whole = !section.is_empty() && section.chars().all(good) && !option.is_empty();
    (whole && !option.contains(|c: char| c == '>' || parse::is_space(c))).then_some((section, option))
}

#[cfg(test)]
mod tests;
