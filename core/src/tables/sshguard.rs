//! What sshguard keeps: the blacklist it bans for good, and the whitelist.
//!
//! | blacklist line | |
//! |---|---|
//! | `1795366800\|100\|4\|203.0.113.7` | seconds since 1970 of the last attack, service, 4 or 6, address |
//! | `# text`, or a blank first | nothing |
//!
//! (`blacklist_load` and `blacklist_add` of sshguard's src/blocker/sshguard_blacklist.c; the services are
//! numbered in src/common/service_names.c.) An entry has no end: sshguard blocks it at every start.
//!
//! | whitelist line | |
//! |---|---|
//! | `203.0.113.7`, `203.0.113.0/24` | never blocked |
//! | `friend.example.org` | nor what this name resolves to |
//! | `# text` | nothing; what follows the first blank or `#` neither |
//!
//! (`whitelist_file` of src/blocker/sshguard_whitelist.c.)

use super::words::{blank, no_prefix, number, prefix, shown};
use super::{End, Item, Row};
use crate::time::{Span, Stamp};

/// Reads one line of a blacklist.
pub(super) fn blacklist(line: &[u8], say: &mut dyn FnMut(Item)) {
    if matches!(line.first(), None | Some(b'#')) {
        return;
    }
    let mut fields = line.split(|byte| *byte == b'|');
    let mut next = || fields.next().unwrap_or_default().trim_ascii();
    let (time, service, kind, who) = (next(), next(), next(), next());
    let (Some(time), Some(service), Some(4 | 6), None) = (number(time), number(service), number(kind), fields.next()) else {
        return say(Item::Bad(format!("expected TIME|SERVICE|4 or 6|ADDRESS, found {}", shown(line))));
    };
    let Some(prefix) = prefix(who) else { return say(no_prefix(who)) };
    let since = Some(Stamp(0).plus(Span::secs(time)));
    say(Item::Ban(Row { prefix, end: Some(End::Forever), since, reason: format!("sshguard blacklist, service {service}"), ..blank() }));
}

/// Reads one line of a whitelist. (sshguard takes whitespace and `#` as the end of the entry.)
pub(super) fn whitelist(line: &[u8], say: &mut dyn FnMut(Item)) {
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'#' | b';')).unwrap_or(line.len());
    let entry = &line[..end];
    if entry.is_empty() {
        return;
    }
    if let Some(prefix) = prefix(entry) {
        return say(Item::Ban(Row::of(prefix)));
    }
    match std::str::from_utf8(entry) {
        Ok(name) if is_name(entry) => say(Item::Name(name.to_owned())),
        _ => say(Item::Bad(format!("expected an address, a prefix or a host's name, found {}", shown(entry)))),
    }
}

/// Whether it may be a host's name: letters, digits, `-`, `.` (RFC 1123 2.1), and not all digits and dots,
/// which is a mistyped address.
fn is_name(entry: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    entry.len() <= 253 && entry.iter().all(allowed) && entry.iter().any(u8::is_ascii_alphabetic) && !matches!(entry[0], b'-' | b'.')
}
