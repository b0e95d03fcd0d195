//! `%(name)s` in values.
//!
//! | reference | what it means |
//! |---|---|
//! | `%(x)s` | `x` of what the caller gave, else of this section, else of `DEFAULT` |
//! | `%(section/x)s` | `x` of that section, else of `DEFAULT` |
//! | `%(known/x)s` | `x` of this section as an earlier file had it, else of `DEFAULT` |
//! | `%(default/x)s` | `x` of `DEFAULT` |
//! | `%(__name__)s` | the section's name |
//! | `%%` | `%` |
//!
//! What was filled in is read again for references, always in the light of the section that began.

use std::collections::BTreeMap;

use super::{Fault, Ini, KNOWN, Options, Value, is_word};

/// How deep references may lead to references: Python's `MAX_INTERPOLATION_DEPTH`.
const DEEP: u32 = 10;

/// How long a value may grow, in bytes. The longest that ships has 20 KB.
const LONG: usize = 1 << 20;

/// How many bytes may be looked at for one value: references that double at each step end here.
const WORK: usize = 16 << 20;

/// What one reference costs besides its text.
const STEP: usize = 64;

/// See [`Ini::get`].
pub(super) fn get(ini: &Ini, section: &str, option: &str, vars: &BTreeMap<String, String>) -> Result<Option<String>, Fault> {
    let own = ini.sections.get(section);
    if own.is_none() && section != super::DEFAULT {
        return Ok(None);
    }
    let option = option.to_lowercase();
    let told = Value { text: String::new(), file: "".into(), line: 0 };
    let mut filling = Filling { ini, section, own, vars, at: &told, work: 0, out: String::new() };
    let written = own.and_then(|own| own.get(&option)).or_else(|| ini.defaults.get(&option));
    filling.at = written.unwrap_or(&told);
    let Some(text) = filling.find(&option, None) else { return Ok(None) };
    filling.fill(text, None, 1)?;
    Ok(Some(filling.out))
}

struct Filling<'a> {
    ini: &'a Ini,
    section: &'a str,
    own: Option<&'a Options>,
    vars: &'a BTreeMap<String, String>,
    /// The value that is read.
    at: &'a Value,
    work: usize,
    out: String,
}

/// What references with a `/` mean at one depth, over what they meant outside of it.
struct Scope<'s, 'a> {
    outer: Option<&'s Self>,
    added: BTreeMap<&'a str, &'a str>,
}

impl<'a> Scope<'_, 'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.added.get(name).copied().or_else(|| self.outer.and_then(|outer| outer.get(name)))
    }
}

impl<'a> Filling<'a> {
    fn find(&self, name: &str, scope: Option<&Scope<'_, 'a>>) -> Option<&'a str> {
        let scoped = scope.and_then(|scope| scope.get(name));
        let given = scoped.or_else(|| self.vars.get(name).map(String::as_str));
        let own = || self.own.and_then(|own| own.get(name));
        given.or_else(|| own().or_else(|| self.ini.defaults.get(name)).map(|value| value.text.as_str()))
    }

    /// What the references of `text` that name a section mean.
    fn addressed(&self, text: &'a str, outer: Option<&Scope<'_, 'a>>) -> BTreeMap<&'a str, &'a str> {
        let mut added = BTreeMap::new();
        let mut rest = text;
        while let Some(at) = rest.find("%(") {
            rest = rest.get(at.saturating_add(2)..).unwrap_or_default();
            let Some((name, option)) = reference(rest).and_then(|name| Some((name, addressed(name)?))) else { continue };
            if added.contains_key(name) || self.find(name, outer).is_some() {
                continue;
            }
            let (section, option) = option;
            let options = match section.to_lowercase().as_str() {
                "default" => None,
                "known" => self.ini.sections.get(&format!("{KNOWN}{}", self.section)),
                _ => match self.ini.sections.get(section) {
                    Some(options) => Some(options),
                    None => continue,
                },
            };
            let value = options.and_then(|options| options.get(option)).or_else(|| self.ini.defaults.get(option));
            if let Some(value) = value {
                added.insert(name, value.text.as_str());
            }
        }
        added
    }

    fn fill(&mut self, text: &'a str, outer: Option<&Scope<'_, 'a>>, depth: u32) -> Result<(), Fault> {
        self.spend(text.len())?;
        if depth > DEEP {
            return Err(self.at.fault(format!("references go round in a circle, or deeper than {DEEP}")));
        }
        let mut added = self.addressed(text, outer);
        added.insert("__name__", self.section);
        let scope = Scope { outer, added };
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            let (before, after) = rest.split_at(at);
            self.put(before)?;
            let after = after.get(1..).unwrap_or_default();
            if let Some(after) = after.strip_prefix('%') {
                self.put("%")?;
                rest = after;
                continue;
            }
            let name = after.strip_prefix('(').and_then(reference);
            let Some(name) = name else {
                let start: String = after.chars().take(20).collect();
                return Err(self.at.fault(format!("`%{start}` is no reference; write `%(name)s`, or `%%` for a `%`")));
            };
            // The name, and `(`, `)s` around it.
            rest = after.get(name.len().saturating_add(3)..).unwrap_or_default();
            let Some(value) = self.find(&name.to_lowercase(), Some(&scope)) else {
                return Err(self.at.fault(format!("`%({name})s` means nothing: neither this section nor [DEFAULT] has `{name}`")));
            };
            self.spend(STEP)?;
            if value.contains('%') {
                self.fill(value, Some(&scope), depth.saturating_add(1))?;
            } else {
                self.put(value)?;
            }
        }
        self.put(rest)
    }

    fn put(&mut self, text: &str) -> Result<(), Fault> {
        if self.out.len().saturating_add(text.len()) > LONG {
            return Err(self.at.fault(format!("grows longer than {LONG} bytes with what its references mean")));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn spend(&mut self, work: usize) -> Result<(), Fault> {
        self.work = self.work.saturating_add(work);
        if self.work > WORK {
            return Err(self.at.fault("has references that lead to ever more references; write it with fewer"));
        }
        Ok(())
    }
}

/// The name of `name)s...`.
fn reference(rest: &str) -> Option<&str> {
    let (name, after) = rest.split_once(')')?;
    (!name.is_empty() && after.starts_with('s')).then_some(name)
}

/// Section and option of a reference that names both.
fn addressed(name: &str) -> Option<(&str, &str)> {
    let (section, option) = name.split_once('/')?;
    let good = |c: char| is_word(c) || c == '-';
    (!section.is_empty() && section.chars().all(good) && !option.is_empty()).then_some((section, option))
}
