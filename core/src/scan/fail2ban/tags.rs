//! `<tag>` in a filter's options: other options by name.
//!
//! | rule (fail2ban's `helpers.py`, `substituteRecursiveTags`) |
//! |---|
//! | a tag is `<`, anything but space, `<` and `>`, and `>`: of `<a-<b>>` that is `<b>` first, then `<a-...>` |
//! | it means an option of the filter or of the jail, else `section/option`; one that means nothing stays: `<HOST>` |
//! | what was put in is looked at again; an option cannot mean itself, nor one tag be put in more than 25 times |

use std::collections::{BTreeMap, BTreeSet};

use crate::ini::{Fault, condition};

/// How often one tag may be put in for one option: fail2ban's `MAX_TAG_REPLACE_COUNT`.
const AGAIN: u32 = 25;

/// How long an option may grow, in bytes. The longest that ships has 20 KB.
const LONG: usize = 1 << 20;

/// How many bytes may be looked at for all options together: tags that double at each step end here.
const WORK: usize = 64 << 20;

/// What one tag costs besides its text.
const STEP: usize = 64;

/// The options of a filter, with their tags.
pub(super) struct Tags {
    values: BTreeMap<String, String>,
    work: usize,
}

/// Why an option's tags cannot be filled in.
pub(super) struct Unfilled {
    pub(super) option: String,
    pub(super) what: String,
}

/// What a tag means that none of the options is called.
type Elsewhere<'a> = &'a dyn Fn(&str) -> Result<Option<String>, Fault>;

/// What filling in one option came to.
struct Filled {
    value: String,
    changed: bool,
}

impl Tags {
    pub(super) fn new(values: BTreeMap<String, String>) -> Self {
        Self { values, work: 0 }
    }

    pub(super) fn into_values(self) -> BTreeMap<String, String> {
        self.values
    }

    /// Fills in all options, those named `first` before the others, as fail2ban does.
    pub(super) fn fill(&mut self, first: &[&str], elsewhere: Elsewhere<'_>) -> Result<(), Unfilled> {
        let conditional: BTreeSet<String> = self.values.keys().filter_map(|name| Some(condition(name)?.0.to_owned())).collect();
        let mut open: Vec<String> = self.values.keys().filter(|name| !conditional.contains(*name)).cloned().collect();
        open.sort_by_key(|name| first.iter().position(|first| first == name).unwrap_or(first.len()));
        let mut counts: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
        let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
        loop {
            let mut again = false;
            let mut still = Vec::new();
            for option in open {
                let counts = counts.entry(option.clone()).or_default();
                let filled = self.option(&option, &conditional, counts, &mut found, elsewhere);
                let Filled { value, changed } = filled.map_err(|what| Unfilled { option: option.clone(), what })?;
                again |= changed && tag(&value, 0).is_some();
                let more = value.contains('<');
                if changed {
                    self.values.insert(option.clone(), value);
                }
                if more {
                    still.push(option);
                }
            }
            if !again {
                return Ok(());
            }
            open = still;
        }
    }

    fn option(
        &mut self,
        option: &str,
        ignored: &BTreeSet<String>,
        counts: &mut BTreeMap<String, u32>,
        found: &mut BTreeMap<String, Option<String>>,
        elsewhere: Elsewhere<'_>,
    ) -> Result<Filled, String> {
        let mut value = self.values.get(option).cloned().unwrap_or_default();
        let mut changed = false;
        let mut from = 0;
        self.spend(value.len())?;
        while let Some((start, end, name)) = tag(&value, from) {
            self.spend(STEP)?;
            from = end;
            if ignored.contains(name) {
                continue;
            }
            let name = name.to_owned();
            if name == option || counts.get(&name).is_some_and(|count| *count > AGAIN) {
                return Err(format!("`<{name}>` in it leads round in a circle"));
            }
            let meant = match self.values.get(&name) {
                Some(meant) => Some(meant),
                None => {
                    if !found.contains_key(&name) {
                        let meant = elsewhere(&name).map_err(|fault| format!("`<{name}>` in it: {fault}"))?;
                        found.insert(name.clone(), meant);
                    }
                    found.get(&name).and_then(Option::as_ref)
                }
            };
            let Some(meant) = meant else { continue };
            let text = format!("<{name}>");
            let times = value.matches(&text).count();
            let length = value.len().saturating_add(times.saturating_mul(meant.len()));
            if length > LONG {
                return Err(format!("it grows longer than {LONG} bytes with what its tags mean"));
            }
            value = value.replace(&text, meant);
            self.spend(length)?;
            changed = true;
            let count = counts.entry(name).or_default();
            *count = count.saturating_add(1);
            from = start;
        }
        Ok(Filled { value, changed })
    }

    fn spend(&mut self, work: usize) -> Result<(), String> {
        self.work = self.work.saturating_add(work);
        if self.work > WORK { Err("its tags lead to ever more tags; write it with fewer".to_owned()) } else { Ok(()) }
    }
}

/// The next tag: where it begins and ends, and its name.
fn tag(text: &str, from: usize) -> Option<(usize, usize, &str)> {
    let mut at = from;
    loop {
        let start = at.checked_add(text.get(at..)?.find('<')?)?;
        let inner = start.checked_add(1)?;
        let rest = text.get(inner..)?;
        let length = rest.find([' ', '<', '>'])?;
        let end = inner.checked_add(length)?;
        if length > 0 && text.get(end..)?.starts_with('>') {
            return Some((start, end.checked_add(1)?, text.get(inner..end)?));
        }
        at = end.max(inner);
    }
}
