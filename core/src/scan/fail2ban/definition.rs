//! A `filter.d` file with its includes and options to the texts of its expressions.
//!
//! | what | rule (fail2ban's `filterreader.py`, `configreader.py`; jail.conf(5)) |
//! |---|---|
//! | `[Definition]` | the options that count ([`OPTIONS`]), and any more for tags to name |
//! | `[Init]` | what tags and options are where the jail does not say: the jail's own come first |
//! | `logtype` | `journal` or `file` by what the jail reads, where neither jail nor `[Definition]` says |
//! | `<tag>` | see `tags` |
//!
//! fail2ban reads a filter twice for a jail; the second time `%(name)s` finds what `[Init]` says too.

use std::collections::BTreeMap;

use super::filter::CompileError;
use super::tags::Tags;
use super::{Definition, Filter};
use crate::ini::{self, Fault, Files, Ini, Value};

/// What a filter can say to the engine.
const OPTIONS: [&str; 7] = ["usedns", "prefregex", "ignoreregex", "failregex", "maxlines", "datepattern", "journalmatch"];

/// Options by name.
type Options = BTreeMap<String, String>;

/// Why a filter cannot be used, and where it says so.
pub type FilterError = Fault;

/// Reads the filter at `path` (`.../filter.d/sshd.conf`, with what stands beside it) with a jail's
/// options, for a jail that reads the journal or files.
///
/// # Errors
/// That it is not there, cannot be read, or says nothing that could match.
pub fn define(files: &dyn Files, path: &str, options: &Options, journal: bool) -> Result<Definition, FilterError> {
    let ini = ini(files, path)?;
    defined(&ini, path, options, journal)
}

/// Reads and compiles the filter at `path`, as [`define`] does.
///
/// # Errors
/// As [`define`], and which regex or date pattern is none.
pub fn load(files: &dyn Files, path: &str, options: &Options, journal: bool) -> Result<(Definition, Filter), FilterError> {
    let ini = ini(files, path)?;
    let definition = defined(&ini, path, options, journal)?;
    match Filter::compile(&definition) {
        Ok(filter) => Ok((definition, filter)),
        Err(error) => {
            let option = match &error {
                CompileError::Expression { option, .. } => *option,
                CompileError::Date { .. } => "datepattern",
            };
            let what = error.to_string();
            Err(match options.contains_key(option) {
                true => Fault { file: path.to_owned(), line: 0, what: format!("{what}; the jail's `options` say so") },
                false => origin(&ini, option, what),
            })
        }
    }
}

fn defined(ini: &Ini, path: &str, options: &Options, journal: bool) -> Result<Definition, Fault> {
    let mut said = combined(ini, options, journal, false)?;
    let at = |option: &str, what: String| origin(ini, option, what);
    let lines = |text: Option<String>| -> Vec<String> {
        text.unwrap_or_default().split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let failregex = lines(said.remove("failregex"));
    if failregex.is_empty() {
        return Err(at("failregex", "no `failregex` is left of this filter with these options: nothing would ever match".to_owned()));
    }
    let maxlines = match said.remove("maxlines").map(|text| text.trim().parse::<u32>()) {
        Some(Ok(0)) => return Err(at("maxlines", "`maxlines` is 0; write how many lines one regex may span, 1 or more".to_owned())),
        Some(Ok(lines)) => lines,
        // What is no number does not count.
        Some(Err(_)) | None => 1,
    };
    let mut journalmatch = Vec::new();
    for line in lines(said.remove("journalmatch")) {
        let words = ini::words(&line).map_err(|why| at("journalmatch", format!("`{line}` is no journal match: {why}")))?;
        let groups = words.split(|word| word == "+").filter(|group| !group.is_empty());
        journalmatch.extend(groups.map(|group| group.join(" ")));
    }
    Ok(Definition {
        name: name(path).to_owned(),
        failregex,
        ignoreregex: lines(said.remove("ignoreregex")),
        prefregex: said.remove("prefregex").filter(|text| !text.is_empty()),
        maxlines,
        datepattern: said.remove("datepattern"),
        journalmatch,
        usedns: said.remove("usedns"),
    })
}

/// All options of the filter at `path` that tags could name, filled in, as a jail's own
/// `%(known/option)s` sees them.
///
/// # Errors
/// As [`define`].
pub fn known(files: &dyn Files, path: &str, options: &Options, journal: bool) -> Result<Options, FilterError> {
    combined(&ini(files, path)?, options, journal, true)
}

/// The file's stem.
fn name(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".conf").or_else(|| name.strip_suffix(".local")).unwrap_or(name)
}

fn ini(files: &dyn Files, path: &str) -> Result<Ini, Fault> {
    let base = path.strip_suffix(".conf").or_else(|| path.strip_suffix(".local")).unwrap_or(path);
    let ini = Ini::load(files, base)?;
    let fault = |what: String| Err(Fault { file: path.to_owned(), line: 0, what });
    match ini.files() {
        [] if ini.notes().is_empty() => fault("there is no such filter; `ls` its folder to see which there are".to_owned()),
        [] => Err(ini.notes().first().cloned().unwrap_or_else(|| Fault { file: path.to_owned(), line: 0, what: String::new() })),
        _ if !ini.has_section("Definition") && !ini.has_section("Init") => {
            fault("this is no filter: it has no section [Definition]".to_owned())
        }
        _ => Ok(ini),
    }
}

/// The options with what `[Init]`, the jail and tags say; `all` of `[Definition]`, or only those of [`OPTIONS`].
fn combined(ini: &Ini, options: &Options, journal: bool, all: bool) -> Result<Options, Fault> {
    let mut init = options.clone();
    let said = ini.options("Definition").any(|(name, _)| name == "logtype");
    if init.get("logtype").is_none_or(String::is_empty) && !said {
        init.insert("logtype".to_owned(), if journal { "journal" } else { "file" }.to_owned());
    }
    // The first reading finds what cannot be resolved without [Init].
    let (_, first) = reading(ini, &init)?;
    let (mut said, init) = reading(ini, &first)?;
    let vars = lower(&first);
    if all {
        for (option, _) in ini.options("Definition") {
            if !said.contains_key(option)
                && let Some(value) = ini.get("Definition", option, &vars)?
            {
                said.insert(option.to_owned(), value);
            }
        }
    }
    said.extend(init);
    let mut tags = Tags::new(said);
    let filled = tags.fill(&OPTIONS, &|tag| ini.get_from("Definition", tag, &vars));
    filled.map_err(|unfilled| origin(ini, &unfilled.option, unfilled.what))?;
    Ok(tags.into_values())
}

/// A fault of an option, at the place that sets it.
fn origin(ini: &Ini, option: &str, what: String) -> Fault {
    match ini.raw("Definition", option).or_else(|| ini.raw("Init", option)) {
        Some(Value { file, line, .. }) => Fault { file: file.to_string(), line: *line, what },
        None => Fault { file: ini.files().last().cloned().unwrap_or_default(), line: 0, what: format!("`{option}`: {what}") },
    }
}

/// What `[Definition]` says with these jail options, and these with `[Init]` added to them.
fn reading(ini: &Ini, given: &Options) -> Result<(Options, Options), Fault> {
    let vars = lower(given);
    let (mut said, mut init) = (BTreeMap::new(), given.clone());
    for option in OPTIONS.into_iter().filter(|option| !given.contains_key(*option)) {
        if let Some(value) = ini.get("Definition", option, &vars)? {
            said.insert(option.to_owned(), value);
        }
    }
    for (option, _) in ini.options("Init") {
        let Some(value) = ini.get("Init", option, &BTreeMap::new())? else { continue };
        if !option.starts_with("known/") {
            init.insert(format!("known/{option}"), value.clone());
        }
        init.entry(option.to_owned()).or_insert(value);
    }
    Ok((said, init))
}

/// Names as ini files have them.
fn lower(options: &Options) -> Options {
    options.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect()
}
