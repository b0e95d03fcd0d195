//! Which files there are, and in which order they count.
//!
//! | of `BASE` (`.../filter.d/sshd`, `.../jail`) | |
//! |---|---|
//! | `BASE.conf`, `BASE.d/*.conf`, `BASE.local`, `BASE.d/*.local` | in this order, those that are there |
//! | `[INCLUDES]` `before` and `after` of each | names one a line, beside the file; read before and after it, and so on inwards |
//! | `X.local` beside an included `X.conf` | read after it |
//!
//! A file is not included again by what it includes itself.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::parse::{Parsed, parse};
use super::{Fault, Files, Ini, interpolate};

/// The largest file that is read, in bytes: the largest that ships with fail2ban has 30 KB, and lists
/// of bad words written by users a few hundred.
const FILE_MAX: usize = 1 << 20;

/// How many bytes all files of one filter may have, each counted once.
const ALL_MAX: usize = 8 << 20;

/// How many files may count, those included twice counted twice: shipped ones include five at most.
const FILES_MAX: usize = 256;

/// How deep files may include one another.
const DEEP: usize = 32;

/// The section that names what to include.
const INCLUDES: &str = "INCLUDES";

/// See [`Ini::load`].
pub(super) fn load(files: &dyn Files, base: &str) -> Result<Ini, Fault> {
    let mut loading = Loading { files, parsed: BTreeMap::new(), bytes: 0, order: Vec::new(), notes: Vec::new() };
    let dir = format!("{base}.d");
    for ending in [".conf", ".local"] {
        loading.with_includes(&format!("{base}{ending}"), &mut Vec::new())?;
        for path in files.list(&dir, ending) {
            // As a shell's `*`: hidden files are not meant.
            if !path.rsplit('/').next().unwrap_or_default().starts_with('.') {
                loading.with_includes(&path, &mut Vec::new())?;
            }
        }
    }
    let mut ini = Ini { notes: loading.notes, ..Ini::default() };
    for path in loading.order {
        if let Some(parsed) = loading.parsed.get(&path).and_then(Option::as_ref) {
            ini.merge(parsed);
            ini.files.push(path);
        }
    }
    Ok(ini)
}

struct Loading<'f> {
    files: &'f dyn Files,
    /// What was read; `None` for what is not there.
    parsed: BTreeMap<String, Option<Rc<Parsed>>>,
    bytes: usize,
    order: Vec<String>,
    notes: Vec<Fault>,
}

impl Loading<'_> {
    fn read(&mut self, path: &str) -> Result<Option<Rc<Parsed>>, Fault> {
        if let Some(read) = self.parsed.get(path) {
            return Ok(read.clone());
        }
        let fault = |what: String| Fault { file: path.to_owned(), line: 0, what };
        let bytes = self.files.read(path).map_err(|why| fault(format!("cannot be read: {why}")))?;
        let size = bytes.as_ref().map_or(0, Vec::len);
        self.bytes = self.bytes.saturating_add(size);
        if size > FILE_MAX || self.bytes > ALL_MAX {
            return Err(fault(format!("too large: a file has at most {FILE_MAX} bytes, all files of one filter {ALL_MAX}")));
        }
        let parsed = match bytes.map(String::from_utf8) {
            None => None,
            Some(Ok(text)) => Some(Rc::new(parse(&Arc::from(path), &text)?)),
            Some(Err(_)) => {
                self.notes.push(fault("passed over, as fail2ban does, because it is not UTF-8; save it as UTF-8".to_owned()));
                None
            }
        };
        self.parsed.insert(path.to_owned(), parsed.clone());
        Ok(parsed)
    }

    /// Puts a file in its place among what it includes. `seen`: the files that led to it.
    fn with_includes(&mut self, path: &str, seen: &mut Vec<String>) -> Result<bool, Fault> {
        let Some(parsed) = self.read(path)? else { return Ok(false) };
        if seen.len() >= DEEP || self.order.len() >= FILES_MAX {
            let what = format!("includes go round in a circle, or are more than {FILES_MAX} or deeper than {DEEP}");
            return Err(Fault { file: path.to_owned(), line: 0, what });
        }
        self.include(&parsed, path, "before", seen)?;
        self.order.push(path.to_owned());
        self.include(&parsed, path, "after", seen)?;
        Ok(true)
    }

    fn include(&mut self, parsed: &Parsed, path: &str, option: &str, seen: &mut Vec<String>) -> Result<(), Fault> {
        let Some(own) = parsed.section(INCLUDES) else { return Ok(()) };
        let Some(value) = own.get(option).or_else(|| parsed.defaults.get(option)) else { return Ok(()) };
        // A file's own words alone tell what it includes.
        let mut alone = Ini::default();
        alone.merge(parsed);
        let names = interpolate::get(&alone, INCLUDES, option, &BTreeMap::new())?.unwrap_or_default();
        for name in names.split('\n').filter(|name| !name.is_empty()) {
            let included = beside(path, name);
            if seen.contains(&included) {
                continue;
            }
            seen.push(path.to_owned());
            let there = self.with_includes(&included, seen)?;
            // Files for users' own words are seldom there.
            if !there && !included.ends_with(".local") {
                self.notes.push(value.fault(format!("includes {included}, which cannot be read; nothing of it counts")));
            }
            let local = local(&included);
            if local != included {
                self.with_includes(&local, seen)?;
            }
            seen.pop();
        }
        Ok(())
    }
}

/// A name as the file at `path` means it.
fn beside(path: &str, name: &str) -> String {
    match path.rsplit_once('/') {
        Some((dir, _)) if !name.starts_with('/') => format!("{dir}/{name}"),
        _ => name.to_owned(),
    }
}

/// `X.local` of `X.conf`.
fn local(path: &str) -> String {
    let start = path.rfind('/').map_or(0, |at| at.saturating_add(1));
    let (dir, name) = path.split_at(start);
    let leading = name.len().saturating_sub(name.trim_start_matches('.').len());
    let stem = match name.rfind('.') {
        Some(at) if at >= leading => name.get(..at).unwrap_or(name),
        _ => name,
    };
    format!("{dir}{stem}.local")
}
