//! Single words of the config that are more than a number or a name.

use super::defaults::SERVICES;
use super::nearest::{hint, shown};
use crate::bans::wall::Ports;

/// Why a word is wrong, and what may have been meant.
pub(super) type Wrong = (String, Option<String>);

/// A path is at most this long (PATH_MAX, limits.h).
const PATH_MAX: usize = 4096;
/// The longest zone name of the tz database has 32 bytes.
const ZONE_MAX: usize = 64;
/// A journal match longer than this is no match someone typed.
const MATCH_MAX: usize = 1024;
/// A journal field's name is at most this long (systemd.journal-fields: 64).
const FIELD_MAX: usize = 64;
/// A host name is at most this long (RFC 1035 2.3.4), and each of its labels 63.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;
/// A jail's name is at most this long, see [`crate::attack::JailName`].
const JAIL_MAX: usize = 64;

/// What to do about more ports than a jail may name.
const ALL_PORTS: &str = ": leave `ports` out to mean all of them";

/// `ssh`, `22`, `6000-6007`.
pub(super) fn ports(text: &str) -> Result<Vec<u16>, Wrong> {
    ports_or(text, ALL_PORTS)
}

/// The same, where something else is to be done about too many.
pub(super) fn ports_or(text: &str, too_many: &str) -> Result<Vec<u16>, Wrong> {
    if let Some((_, ports)) = SERVICES.iter().find(|(name, _)| *name == text) {
        return Ok(ports.to_vec());
    }
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        let names: Vec<&str> = SERVICES.iter().map(|(name, _)| *name).collect();
        let message = format!("`{}` is not a port: write a number, a range like 6000-6007, or a service's name", shown(text));
        return Err((message, hint(text, &names)));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => {
            if usize::from(last - first) < Ports::MOST {
                Ok((first..=last).collect())
            } else {
                Err((format!("`{text}` is more than {} ports{too_many}", Ports::MOST), None))
            }
        }
        (Some(first), Some(last)) => {
            Err((format!("`{text}` is no range: {first} is more than {last}"), Some(format!("did you mean `{last}-{first}`?"))))
        }
        _ => Err((format!("`{}` is not a port: ports are 1 to 65535, a range is written like 6000-6007", shown(text)), None)),
    }
}

fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// A size in bytes: `16KiB`, `1MiB`, `4096`. `K` and `M` are the same as `KiB` and `MiB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let count: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim_start() {
        "" | "B" => 1,
        "K" | "KiB" => 1024,
        "M" | "MiB" => 1024 * 1024,
        _ => return None,
    };
    count.checked_mul(unit)
}

/// A file's absolute path, in which `*`, `?` and `[...]` may stand for others.
pub(super) fn glob(text: &str) -> Result<String, Wrong> {
    let why = if !text.starts_with('/') {
        "is not absolute: paths begin with /"
    } else if text.len() > PATH_MAX {
        "is longer than a path can be"
    } else if text.chars().any(char::is_control) {
        "holds a control character"
    } else if text.ends_with('/') {
        "is a directory: name the files in it, like /var/log/nginx/*access*.log"
    } else if text.split('/').any(|part| part == "..") {
        "holds `..`: write where the file really is"
    } else if unclosed_bracket(text) {
        "has a `[` without its `]`"
    } else {
        return Ok(text.to_owned());
    };
    Err((format!("`{}` {why}", shown(text)), None))
}

/// One file, by its whole path.
pub(super) fn file(text: &str) -> Result<String, Wrong> {
    if text.contains(['*', '?', '[']) {
        return Err((format!("`{}` must be one path, without wildcards", shown(text)), None));
    }
    glob(text)
}

fn unclosed_bracket(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        // A `]` right after the `[` or `[!` stands for itself (glob(7)).
        let inner = rest[at + 1..].strip_prefix('!').unwrap_or(&rest[at + 1..]);
        let skip = usize::from(inner.starts_with(']'));
        let Some(end) = inner[skip..].find(']') else { return true };
        rest = &inner[skip + end + 1..];
    }
    false
}

/// A zone's name as the IANA has it: `Europe/Berlin`, `UTC`. Nothing that could be a path elsewhere.
pub(super) fn zone(text: &str) -> Result<String, Wrong> {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'));
    if text.len() <= ZONE_MAX && text.split('/').all(part) {
        return Ok(text.to_owned());
    }
    let hint = "write it like \"Europe/Berlin\" or \"UTC\"; `timedatectl list-timezones` lists them".to_owned();
    Err((format!("`{}` is not a zone's name", shown(text)), Some(hint)))
}

/// `FIELD=VALUE [FIELD=VALUE...]`, single spaces between.
pub(super) fn journal(text: &str) -> Result<String, Wrong> {
    let wrong = |why: &str| Err((format!("`{}` is not a journal match: {why}", shown(text)), None));
    if text.len() > MATCH_MAX {
        return wrong("it is too long");
    }
    let mut terms = Vec::new();
    for term in text.split_ascii_whitespace() {
        if term == "+" {
            return wrong("write what stands on each side of `+` as an entry of its own");
        }
        let Some((field, value)) = term.split_once('=') else {
            return wrong("write it like _SYSTEMD_UNIT=ssh.service");
        };
        let upper = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if field.is_empty() || field.len() > FIELD_MAX || field.as_bytes()[0].is_ascii_digit() || !field.bytes().all(upper) {
            return wrong("a field's name has upper-case letters, digits and `_`");
        }
        // __CURSOR, __REALTIME_TIMESTAMP: addresses of a record, which the journal does not match on.
        if field.starts_with("__") {
            return wrong("fields whose names begin with `__` cannot be matched on");
        }
        if value.is_empty() || value.chars().any(char::is_control) {
            return wrong("a field's value cannot be empty or hold control characters");
        }
        terms.push(term);
    }
    if terms.is_empty() { wrong("it is empty") } else { Ok(terms.join(" ")) }
}

/// A host name, as RFC 1123 has it, and `_` too.
pub(super) fn host_name(text: &str) -> Result<String, Wrong> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |l: &str| !l.is_empty() && l.len() <= LABEL_MAX && !l.starts_with('-') && !l.ends_with('-') && l.bytes().all(letter);
    if text.contains(':') || text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'/') {
        return Err((format!("`{}` is not a host name", shown(text)), Some("addresses belong in `prefixes`".to_owned())));
    }
    if text.len() <= NAME_MAX && text.strip_suffix('.').unwrap_or(text).split('.').all(label) {
        return Ok(text.to_ascii_lowercase());
    }
    Err((format!("`{}` is not a host name", shown(text)), None))
}

/// Whether a jail may be called that.
pub(super) fn is_jail_name(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty() && text.len() <= JAIL_MAX && text.bytes().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_by_number_range_and_name() {
        assert_eq!(ports("ssh"), Ok(vec![22]));
        assert_eq!(ports("xmpp"), Ok(vec![5222, 5269]));
        assert_eq!(ports("6000-6003"), Ok(vec![6000, 6001, 6002, 6003]));
        assert_eq!(ports("6000-6031").unwrap().len(), 32);
        assert_eq!(ports("65535-65535"), Ok(vec![65535]));
        for wrong in
            ["", "0", "65536", "22-", "-22", "+22", "22-+23", "6000-6032", "1-65535", "9-1", "22,23", "22:23", "sshd ", "99999999999"]
        {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
        assert_eq!(ports("htps").unwrap_err().1.unwrap(), "did you mean `https`?");
        assert_eq!(ports("9-1").unwrap_err().1.unwrap(), "did you mean `1-9`?");
    }

    #[test]
    fn service_names_are_sorted_out() {
        for (name, list) in SERVICES {
            assert_eq!(ports(name), Ok(list.to_vec()), "{name} is listed twice");
        }
    }

    #[test]
    fn sizes() {
        for (text, size) in [("16KiB", 16384), ("1MiB", 1 << 20), ("4096", 4096), ("8K", 8192), ("10 B", 10)] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for wrong in ["", "KiB", "-1", "1GB", "1.5K", "99999999999999999999", "18446744073709551615K"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn globs_are_absolute_and_whole() {
        for right in ["/var/log/auth.log", "/var/log/*/[a-z]?access*.log", "/a/[]x]", "/a/[!]x]b", "/a/b..c"] {
            assert_eq!(glob(right).as_deref(), Ok(right));
        }
        for wrong in ["", "auth.log", "./x", "/var/log/", "/var/../etc/shadow", "/a\0b", "/a\nb", "/a/[b", "/a/[]", "/a/[!]", "~/x"] {
            assert!(glob(wrong).is_err(), "{wrong:?}");
        }
        assert!(glob(&format!("/{}", "a".repeat(PATH_MAX))).is_err());
    }

    #[test]
    fn journal_matches_are_field_and_value() {
        assert_eq!(journal("_COMM=sshd  _UID=0 ").as_deref(), Ok("_COMM=sshd _UID=0"));
        assert_eq!(journal("SYSLOG_IDENTIFIER=a=b").as_deref(), Ok("SYSLOG_IDENTIFIER=a=b"));
        for wrong in [
            "",
            " ",
            "sshd",
            "=x",
            "_UID=",
            "comm=sshd",
            "0A=b",
            "_COMM=a + _COMM=b",
            "__CURSOR=x",
            "_UID=0 __SEQNUM=1",
            "--all",
            "-u=x",
            "_A=\u{7f}",
        ] {
            assert!(journal(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn host_names_are_no_addresses() {
        for right in ["office.example.org", "a", "x_y-1.example."] {
            assert!(host_name(right).is_ok(), "{right}");
        }
        for wrong in ["", ".", "a..b", "-a.example", "a-.example", "a b", "192.0.2.1", "192.0.2.0/24", "2001:db8::1", "*.example.org", "ä"]
        {
            assert!(host_name(wrong).is_err(), "{wrong}");
        }
        assert!(host_name(&"a.".repeat(127)).is_err());
    }
}
