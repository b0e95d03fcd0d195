//! fail2ban's tags to the regex text they stand for.
//!
//! | tag | regex (fail2ban 1.0.2, `server/failregex.py`) |
//! |---|---|
//! | `<IP4>` `<F-IP4/>` | [`IP4`] |
//! | `<IP6>` `<F-IP6/>` | [`IP6`] |
//! | `<ADDR>` `<F-ADDR/>` | either, in brackets or not |
//! | `<DNS>` `<F-DNS/>` | [`DNS`] |
//! | `<HOST>` | `<ADDR>` or `<DNS>`; `<ADDR>` alone where `usedns = no` |
//! | `<CIDR>` `<F-CIDR/>` | [`CIDR`] |
//! | `<SUBNET>` `<F-SUBNET/>` | an address with an optional `/CIDR` |
//! | `<F-ID/>`, `<F-PORT/>` | `(?P<fid>\S+)`, `(?P<fport>\w+)` |
//! | `<F-NAME>...</F-NAME>` | `(?P<name>...)`; ID is `fid`, PORT is `fport` |
//! | `<SKIPLINES>` | [`skiplines`], numbered |
//!
//! Everything else in angle brackets stays as it is.

use std::fmt::Write;

const IP4: &str = r"(?:::f{4,6}:)?(?P<ip4>(?:\d{1,3}\.){3}\d{1,3})";

/// fail2ban writes `(?<=:):` where `:` stands at the end; what comes before always ends in a colon, so
/// that the look-behind says nothing.
const IP6: &str = r"(?P<ip6>(?:[0-9a-fA-F]{1,4}::?|::){1,7}(?:[0-9a-fA-F]{1,4}|:))";

const DNS: &str = r"(?P<dns>[\w\-.^_]*\w)";
const CIDR: &str = r"(?P<cidr>\d+)";

fn addr() -> String {
    format!(r"\[?(?:{IP4}|{IP6})\]?")
}

fn skiplines(number: usize) -> String {
    format!(r"\n(?P<skiplines{number}>(?:(?:.*\n)*?))")
}

/// What a tag without a close tag stands for.
fn closed(name: &str, names_too: bool) -> Option<String> {
    Some(match name {
        "HOST" if names_too => format!("(?:{}|{DNS})", addr()),
        "HOST" | "ADDR" | "F-ADDR/" => addr(),
        "IP4" | "F-IP4/" => IP4.into(),
        "IP6" | "F-IP6/" => IP6.into(),
        "DNS" | "F-DNS/" => DNS.into(),
        "CIDR" | "F-CIDR/" => CIDR.into(),
        "SUBNET" | "F-SUBNET/" => format!(r"\[?(?:{IP4}|{IP6})(?:/{CIDR})?\]?"),
        "F-ID/" => r"(?P<fid>\S+)".into(),
        "F-PORT/" => r"(?P<fport>\w+)".into(),
        _ => return None,
    })
}

/// The group that `<F-NAME>` opens, and what an alternative name of it (`ALT_NAME_1`) stands in for.
pub(super) fn group_name(tag: &str) -> String {
    match tag.to_lowercase().as_str() {
        "id" => "fid".into(),
        "port" => "fport".into(),
        name => name.into(),
    }
}

/// The name of a tag at the start of `text`, which begins with `<`: `[/][A-Za-z0-9_-]+[/]`.
fn tag(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('<')?;
    let word = inner.strip_prefix('/').unwrap_or(inner);
    let rest = word.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '-');
    let end = rest.strip_prefix('/').unwrap_or(rest);
    (rest.len() < word.len() && end.starts_with('>')).then_some(())?;
    inner.get(..inner.len() - end.len())
}

/// The regex text of a failregex, prefregex or ignoreregex.
pub(super) fn expand(text: &str, names_too: bool) -> String {
    let mut out = String::with_capacity(text.len().saturating_mul(2));
    let mut open: Vec<&str> = Vec::new();
    let mut skips = 0;
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, here) = rest.split_at(at);
        out.push_str(before);
        let Some(name) = tag(here) else {
            out.push('<');
            rest = here.get(1..).unwrap_or_default();
            continue;
        };
        rest = here.get(name.len() + 2..).unwrap_or_default();
        if name == "SKIPLINES" {
            out.push_str(&skiplines(skips));
            skips += 1;
        } else if let Some(regex) = closed(name, names_too) {
            out.push_str(&regex);
        } else if let Some(custom) = custom(name, "F-") {
            open.push(custom);
            let _ = write!(out, "(?P<{}>", group_name(custom));
        } else if custom(name, "/F-").is_some_and(|custom| open.contains(&custom)) {
            out.push(')');
        } else {
            let _ = write!(out, "<{name}>");
        }
    }
    out.push_str(rest);
    local_flags(&out)
}

/// The upper-case name after `F-` or `/F-`.
fn custom<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let custom = name.strip_prefix(prefix)?;
    let good = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    (!custom.is_empty() && custom.bytes().all(good)).then_some(custom)
}

/// `((?i)` and `(?:(?i)` to `(?i:`: a flag for the whole text, put in a group, is meant for that group.
fn local_flags(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('(') {
        let (before, here) = rest.split_at(at);
        out.push_str(before);
        // As in fail2ban's own expression, one backslash before is enough to leave it alone.
        match flags_in_group(here).filter(|_| !before.ends_with('\\')) {
            Some((flags, after)) => {
                let _ = write!(out, "(?{flags}:");
                rest = after;
            }
            None => {
                out.push('(');
                rest = here.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

fn flags_in_group(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('(')?;
    let inner = inner.strip_prefix("?:").unwrap_or(inner).strip_prefix("(?")?;
    let (flags, after) = inner.split_at(inner.bytes().take_while(u8::is_ascii_lowercase).count());
    (!flags.is_empty()).then_some(())?;
    Some((flags, after.strip_prefix(')')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_groups_and_other_brackets_stay() {
        assert_eq!(expand("<F-USER>.*</F-USER> <x> </F-NO> <", true), "(?P<user>.*) <x> </F-NO> <");
        assert_eq!(expand("<F-ID>a</F-ID><F-PORT/>", true), r"(?P<fid>a)(?P<fport>\w+)");
        assert_eq!(expand("a<SKIPLINES>b<SKIPLINES>", true).matches("skiplines").count(), 2);
        assert!(expand("<HOST>", true).contains("dns") && !expand("<HOST>", false).contains("dns"));
        assert_eq!(expand("(?P<name>x) (?P=name)", true), "(?P<name>x) (?P=name)");
    }

    #[test]
    fn flags_in_a_group_are_of_that_group() {
        assert_eq!(expand("((?i)a)(?:(?i)b)((?i)c", true), "(?i:a)(?i:b)(?i:c");
        assert_eq!(expand(r"\((?i)a", true), r"\((?i)a");
        assert_eq!(expand("(?i)a", true), "(?i)a");
    }
}
