//! One address, prefix or range a line.
//!
//! | line | means |
//! |---|---|
//! | `203.0.113.7`, `203.0.113.0/24`, `2001:db8::/32` | that prefix, masked |
//! | `203.0.113.1 - 203.0.113.9` | the fewest prefixes that hold exactly these |
//! | `# text`, `; text`, blank | nothing |
//! | `198.51.100.0/24 ; SBL1` | the prefix, and what stands after the sign is its reason |
//!
//! FireHOL's `.netset` and `.ipset` files are the same with a header of comments, whose first line with
//! text is the list's name (firehol/iprange; firehol/blocklist-ipsets). PF's table files are the same
//! too: `pfr_next_token` of FreeBSD's sbin/pfctl/pfctl_radix.c passes over `#` to the end of the line.

use super::words::{blank, comment, prefixes, reason, silent};
use super::write::Out;
use super::{Item, Row};

/// Reads one line.
pub(super) fn read(line: &[u8], say: &mut dyn FnMut(Item)) {
    if silent(line) {
        return;
    }
    let (what, why) = comment(line);
    prefixes(what, Row { reason: reason(why), ..blank() }, say);
}

/// What the header of a netset told.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// The list's name.
    name: Option<String>,
    /// Whether its lines have begun.
    over: bool,
}

impl Header {
    /// Reads one line; the list's name is the reason of lines that have none.
    pub(super) fn read(&mut self, line: &[u8], say: &mut dyn FnMut(Item)) {
        if silent(line) {
            let (_, text) = comment(line);
            if !self.over && self.name.is_none() && !text.is_empty() && !text.contains(&b' ') {
                self.name = Some(reason(text));
            }
            return;
        }
        self.over = true;
        let (what, why) = comment(line);
        let reason = if why.is_empty() { self.name.clone().unwrap_or_default() } else { reason(why) };
        prefixes(what, Row { reason, ..blank() }, say);
    }
}

/// Writes one line.
pub(super) fn write(ban: &Out<'_>, out: &mut Vec<u8>) {
    super::write::put(out, format_args!("{}\n", ban.prefix));
}
