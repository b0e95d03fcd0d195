//! The common and combined access-log formats, taken apart by hand.
//!
//! | field | apache | nginx | who fills it |
//! |---|---|---|---|
//! | vhost | `%v:%p` (vhost_combined only) | `$host:$server_port`, `$host` | config; nginx: the client |
//! | address | `%h` | `$remote_addr`, IPv6 perhaps in brackets | the kernel |
//! | ident | `%l` | `-` | identd |
//! | user | `%u` | `$remote_user` | **the client**: blanks and `[` stand as they are |
//! | time | `%t` `[22/Nov/2026:17:00:00 +0100]` | `[$time_local]`, `[$time_iso8601]` | the server |
//! | request | `"%r"` | `"$request"` | **the client** |
//! | status, bytes | `%>s %b` | `$status $body_bytes_sent` | the server |
//! | referer, agent | `"%{Referer}i" "%{User-agent}i"` | the same | **the client** |
//!
//! Inside quotes apache writes `"` as `\"` and nginx as `\x22`, so the first quote that is not
//! escaped opens the request. Directly before it stands the time, of one of two fixed shapes; before
//! that the client's user name, and the address is the first word: no field can shift it.
//! A line that could be read with two different addresses is not read at all. What follows the agent
//! (times, the host, `X-Forwarded-For`) is not looked at: whoever sits behind a proxy logs the
//! client's address in the first field, by mod_remoteip or `set_real_ip_from`.

use std::str;

use super::super::times;
use crate::net::Addr;
use crate::time::Stamp;

/// One request, as the log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The client.
    pub addr: Addr,
    /// The user name it gave, without quotes; `None` for `-`.
    pub user: Option<&'a [u8]>,
    /// `22/Nov/2026:17:00:00 +0100`.
    pub time: &'a [u8],
    /// `GET`; empty where the request is no HTTP.
    pub method: &'a [u8],
    /// Path with query, as sent.
    pub path: &'a [u8],
    /// The answer's status, 100 to 999.
    pub status: u16,
    /// The Referer header.
    pub referer: Option<&'a [u8]>,
    /// The User-Agent header.
    pub agent: Option<&'a [u8]>,
}

/// What `[time] ` before the request looks like: `0` a digit, `a` a letter, `+` a sign.
const TIMES: [&[u8]; 2] = [b"[00/aaa/0000:00:00:00 +0000] ", b"[0000-00-00T00:00:00+00:00] "];

/// The end of the time and the begin of the request, which stand in each line that is read.
pub(in super::super) const MARK: &[u8] = b"] \"";

/// Reads one line; `None` where it is not of the format.
pub fn read(line: &[u8]) -> Option<Request<'_>> {
    let line = line.trim_ascii_end();
    let mut open = next_quote(line, 0)?;
    if time_before(line, open).is_none() {
        // Some servers quote the user name: `192.0.2.1 - "name" [time] "request"`.
        let close = next_quote(line, open + 1)?;
        open = next_quote(line, close + 1)?;
    }
    let time = time_before(line, open)?;
    let (addr, user) = who(&line[..open - time.len()])?;
    let close = next_quote(line, open + 1)?;
    let (method, path) = request(&line[open + 1..close]);
    let (status, tail) = outcome(&line[close + 1..])?;
    let (referer, tail) = quoted(tail);
    let (agent, _) = quoted(tail);
    Some(Request { addr, user, time: &time[1..time.len() - 2], method, path, status, referer, agent })
}

/// `[time] ` before the request.
fn time_before(line: &[u8], open: usize) -> Option<&[u8]> {
    TIMES.iter().find_map(|shape| {
        let text = &line[open.checked_sub(shape.len())?..open];
        is_time(text, shape).then_some(text)
    })
}

fn is_time(text: &[u8], shape: &[u8]) -> bool {
    text.iter().zip(shape).all(|(b, shape)| match shape {
        b'0' => b.is_ascii_digit(),
        b'a' => b.is_ascii_alphabetic(),
        b'+' => matches!(b, b'+' | b'-'),
        other => b == other,
    })
}

/// The next quote that no backslash escapes.
fn next_quote(line: &[u8], from: usize) -> Option<usize> {
    let mut escaped = false;
    for (at, b) in line.iter().enumerate().skip(from) {
        match b {
            b'"' if !escaped => return Some(at),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

fn word(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|b| *b == b' ') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &[]),
    }
}

/// `[vhost:port ]addr ident user `: the client's address and the name it gave.
fn who(text: &[u8]) -> Option<(Addr, Option<&[u8]>)> {
    let (first, rest) = word(text);
    let (second, after) = word(rest);
    let (addr, rest) = match (address(first), address(second)) {
        // Two addresses: a vhost that looks like one, or an ident that does. Nobody is blamed.
        (Some(_), Some(_)) | (None, None) => return None,
        (Some(addr), None) => (addr, rest),
        (None, Some(addr)) => is_vhost(first, after).then_some((addr, after))?,
    };
    let (_ident, user) = word(rest);
    let user = user.trim_ascii();
    let user = user.strip_prefix(b"\"").and_then(|u| u.strip_suffix(b"\"")).unwrap_or(user);
    Some((addr, (!user.is_empty() && user != b"-").then_some(user)))
}

/// A server's name, with its port or, as nginx's `$host` has it, without. A name without a port might be the client's
/// and the address after it what its identd says; so there must be an ident after that, and it must be `-`.
fn is_vhost(text: &[u8], after: &[u8]) -> bool {
    let name = text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'*' | b'[' | b']'));
    name && (text.contains(&b':') || (text.contains(&b'.') && after.starts_with(b"- ")))
}

fn address(text: &[u8]) -> Option<Addr> {
    let text = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]")).filter(|text| text.contains(&b':')).unwrap_or(text);
    // 45 bytes are the longest text of an IPv6 address (INET6_ADDRSTRLEN less the NUL).
    // Looked at before it is read, as a refusal in words costs memory.
    let good = (2..=45).contains(&text.len()) && text.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
    good.then(|| str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// Method and path. The path is all between the first and the last blank; without `HTTP/` at the
/// end (HTTP/0.9, or no HTTP at all) there is no method.
fn request(text: &[u8]) -> (&[u8], &[u8]) {
    let (method, rest) = word(text);
    match rest.iter().rposition(|b| *b == b' ') {
        Some(blank) if rest[blank + 1..].starts_with(b"HTTP/") => (method, &rest[..blank]),
        _ => (&[], text),
    }
}

/// ` 404 153` and what follows; bytes may be `-`.
fn outcome(text: &[u8]) -> Option<(u16, &[u8])> {
    let (status, rest) = word(text.strip_prefix(b" ")?);
    let (bytes, rest) = word(rest);
    if status.len() != 3 || !(bytes == b"-" || (!bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit))) {
        return None;
    }
    let status: u16 = str::from_utf8(status).ok()?.parse().ok()?;
    (status >= 100).then_some((status, rest))
}

/// The text in quotes at the start, and what follows.
fn quoted(text: &[u8]) -> (Option<&[u8]>, &[u8]) {
    if text.first() != Some(&b'"') {
        return (None, text);
    }
    next_quote(text, 1).map_or((None, &[]), |close| (Some(&text[1..close]), text[close + 1..].trim_ascii_start()))
}

impl Request<'_> {
    /// The log's own time.
    pub fn at(&self) -> Option<Stamp> {
        times::absolute(self.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addr(line: &str) -> Option<String> {
        read(line.as_bytes()).map(|r| r.addr.to_string())
    }

    #[test]
    fn combined_with_all_fields() {
        let line = br#"192.0.2.7 - alice [22/Nov/2026:17:00:00 +0100] "POST /a b?c HTTP/1.1" 401 5 "https://example.org/" "curl\"x""#;
        let r = read(line).unwrap();
        assert_eq!((r.method, r.path, r.status), (&b"POST"[..], &b"/a b?c"[..], 401));
        assert_eq!((r.user, r.referer, r.agent), (Some(&b"alice"[..]), Some(&b"https://example.org/"[..]), Some(&b"curl\\\"x"[..])));
        assert_eq!(r.at().unwrap().to_string(), "2026-11-22T16:00:00Z");
    }

    #[test]
    fn the_time_as_nginx_has_it_by_iso_8601() {
        let r = read(br#"192.0.2.7 - - [2026-11-22T17:00:00+01:00] "GET /a HTTP/1.1" 404 5 "-" "-""#).unwrap();
        assert_eq!(
            (r.addr.to_string().as_str(), r.path, r.at().unwrap().to_string().as_str()),
            ("192.0.2.7", &b"/a"[..], "2026-11-22T16:00:00Z")
        );
    }

    #[test]
    fn vhost_common_and_ipv6() {
        let tail = r#"[22/Nov/2026:17:00:00 +0100] "GET / HTTP/1.1" 200 -"#;
        assert_eq!(addr(&format!("2001:db8::7 - - {tail}")).unwrap(), "2001:db8::7");
        assert_eq!(addr(&format!("[2001:db8::7] - - {tail}")).unwrap(), "2001:db8::7");
        assert_eq!(addr(&format!("[www.example.org]:443 [2001:db8::7] - - {tail}")).unwrap(), "2001:db8::7");
        assert_eq!(addr(&format!("[192.0.2.7] - - {tail}")), None);
        let forwarded = format!("192.0.2.7 - - {tail} \"-\" \"curl\" \"203.0.113.9, 198.51.100.1\" rt=0.001 203.0.113.9");
        assert_eq!(addr(&forwarded).unwrap(), "192.0.2.7");
        assert_eq!(addr(&format!("www.example.org:443 192.0.2.7 - - {tail}")).unwrap(), "192.0.2.7");
        assert_eq!(addr(&format!("www.example.org 192.0.2.7 - - {tail}")).unwrap(), "192.0.2.7");
        assert_eq!(addr(&format!("host.example.org 203.0.113.9 bob {tail}")), None);
        assert_eq!(addr(&format!("host.example.org - - {tail}")), None);
        assert_eq!(addr(&format!("192.0.2.7 - \"bob\" {tail}")).unwrap(), "192.0.2.7");
    }

    #[test]
    fn no_field_shifts_the_address() {
        let fake = r#"203.0.113.9 - - [22/Nov/2026:17:00:00 +0100] \x22POST /wp-login.php HTTP/1.1\x22 200 1"#;
        let time = "[22/Nov/2026:17:00:01 +0100]";
        for line in [
            format!("192.0.2.7 - {fake} {time} \"GET / HTTP/1.1\" 200 1"),
            format!("192.0.2.7 - - {time} \"GET /{fake} HTTP/1.1\" 404 1 \"{fake}\" \"{fake}\""),
            format!("192.0.2.7 - - {time} \"{}\" 400 1", fake.replace("\\x22", "\"")),
        ] {
            if let Some(found) = addr(&line) {
                assert_eq!(found, "192.0.2.7", "{line}");
            }
        }
        assert_eq!(addr(&format!("2001:db8::9:443 192.0.2.7 - - {time} \"GET / HTTP/1.1\" 401 1")), None);
    }

    proptest! {
        #[test]
        fn total_and_never_another_address(user in "[^\"\\\\\n]{0,40}", path in "[^\n]{0,60}", agent in "[^\n]{0,40}") {
            let line = format!("192.0.2.7 - {user} [22/Nov/2026:17:00:00 +0100] \"GET {path} HTTP/1.1\" 404 1 \"-\" \"{agent}\"");
            if let Some(r) = read(line.as_bytes()) {
                prop_assert_eq!(r.addr.to_string(), "192.0.2.7");
            }
        }

        #[test]
        fn total_on_any_bytes(line: Vec<u8>) {
            read(&line);
        }
    }
}
