//! The file by which switches hold after a reboot: one of sysctl.d(5).
//!
//! | line | what |
//! |---|---|
//! | `# text`, `; text` | a comment |
//! | `net.netfilter.NAME = value` | a switch; a `-` before it: no failure where there is none; `/` in place of `.` is the same |

use super::Values;
use super::catalogue::PREFIX;
use super::plan::{is_value, may_set};

/// The file's name. Below those of administrators (`99-`), so that theirs win.
pub const FILE: &str = "60-palisade-conntrack.conf";

const HEAD: &str = "\
# Written by `palisade conntrack timeouts apply`, and written anew by each.
# `palisade conntrack timeouts revert` puts the former values back and takes this file away.
# The line above each value says why.
";

/// A reason is no longer than this. Some that read such files take the rest of a long line for a line of its own.
const WHY: usize = 200;

/// The text that sets these, each with a line that says why. What is no switch that we set, or no number, is left out:
/// whoever reads the file at boot is root.
pub fn text<'a>(values: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> String {
    let mut text = HEAD.to_owned();
    for (name, value, why) in values.into_iter().filter(|(name, value, _)| may_set(name) && is_value(value)) {
        // Nor may a reason break out of its line.
        let why: String = why.chars().take(WHY).map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.push_str(&format!("\n# {why}\n-net.netfilter.{name} = {value}\n"));
    }
    text
}

/// Whether a text is one that [`text`] wrote: it begins as each does, and sets something.
pub fn is_ours(text: &str) -> bool {
    text.starts_with(HEAD) && !read(text).is_empty()
}

/// What a text sets of connection tracking; other lines are passed over.
pub fn read(text: &str) -> Values {
    let line = |line: &str| {
        let (key, value) = line.trim().split_once('=')?;
        let key = key.trim().trim_start_matches('-').trim().replace('/', ".");
        let name = key.strip_prefix("net.netfilter.")?;
        name.starts_with(PREFIX).then(|| (name.to_owned(), value.trim().to_owned()))
    };
    text.lines().filter_map(line).collect()
}
