//! `fail2ban` and `options` of a jail: a filter of fail2ban, run as fail2ban runs it.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::error::{At, Gather, Problem};
use super::nearest::shown;
use super::raw::RawJail;
use super::show::{line, quoted};
use super::values::{Reading, Value};
use super::words::{self, Wrong};

/// How many options a filter may be given; those that ship know a dozen.
const OPTIONS_MAX: usize = 256;

/// How long an option's name and value may be, in bytes: a whole `failregex` fits in.
const NAME_MAX: usize = 128;
const VALUE_MAX: usize = 64 * 1024;

/// A filter of fail2ban, and what the jail gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail2banFilter {
    /// The `.conf` file, absolute; what stands beside it counts as with fail2ban.
    pub path: String,
    /// What stands in brackets in a jail of fail2ban: `mode = "aggressive"`.
    pub options: BTreeMap<String, String>,
}

impl Reading<'_> {
    pub(super) fn filter(&mut self, key: &str, value: &Value<'_>) -> Option<At<String>> {
        let path = self.parsed(key, value, path)?;
        Some(self.at(value, path))
    }

    pub(super) fn filter_options(&mut self, key: &str, value: &Value<'_>) -> Option<At<BTreeMap<String, String>>> {
        let table = self.table(key, value, "a table like { mode = \"aggressive\" }")?;
        if table.len() > OPTIONS_MAX {
            let message = format!("{} options are more than the {OPTIONS_MAX} a filter is given", table.len());
            self.tell(&value.span(), Problem::TooLarge(message), None);
            return None;
        }
        let mut options = BTreeMap::new();
        for (name, value) in table {
            if !is_option(name.get_ref()) {
                let message = format!("`{}` is no option of a filter: letters, digits, `_`, `-`, `.`", shown(name.get_ref()));
                self.tell(&name.span(), Problem::Value(message), None);
                continue;
            }
            let text = match value.get_ref() {
                DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
                _ => self.text(name.get_ref(), value, "a text like \"aggressive\", or a number")?.to_owned(),
            };
            if text.len() > VALUE_MAX || text.contains('\0') {
                let message =
                    format!("`{}` has {} bytes; a filter's option has at most {VALUE_MAX}, and no NUL", shown(name.get_ref()), text.len());
                self.tell(&value.span(), Problem::TooLarge(message), None);
                continue;
            }
            options.insert(name.get_ref().to_string(), text);
        }
        Some(self.at(value, options))
    }
}

/// What fail2ban takes for the name of an option; `?family=inet6` is for its actions.
fn is_option(name: &str) -> bool {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(good)
}

fn path(text: &str) -> Result<String, Wrong> {
    let path = words::file(text)?;
    if path.ends_with(".conf") {
        return Ok(path);
    }
    let hint = "write the filter's .conf file; its .local is read with it";
    Err((format!("`{}` is no filter of fail2ban", shown(text)), Some(hint.to_owned())))
}

/// The filter that is meant.
pub(super) fn mean(jail: &str, raw: &RawJail, errors: &mut Gather) -> Option<Fail2banFilter> {
    if let (None, Some(options)) = (&raw.fail2ban, &raw.options) {
        let message = format!("jail `{jail}` has `options`, but no filter they are for");
        let hint = "write fail2ban = \"/etc/fail2ban/filter.d/NAME.conf\"".to_owned();
        errors.tell(options.at, Problem::Missing(message), Some(hint));
    }
    let path = raw.fail2ban.as_ref()?.value.clone();
    Some(Fail2banFilter { path, options: raw.options.as_ref().map(|options| options.value.clone()).unwrap_or_default() })
}

pub(super) fn show(out: &mut String, filter: &Fail2banFilter) {
    line(out, "fail2ban", quoted(&filter.path));
    let options: Vec<String> = filter.options.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
    line(out, "options", if options.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", options.join(", ")) });
}
