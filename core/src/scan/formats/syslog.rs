//! The prefix a syslog daemon writes before a message, taken off by hand.
//!
//! | form | example | source |
//! |---|---|---|
//! | traditional | `Nov 22 17:00:00 host prog[pid]: msg` | RFC 3164 4.1 |
//! | rsyslog, syslog-ng | `2026-11-22T17:00:00.123456+01:00 host prog[pid]: msg` | RFC 3339 in the place of the date |
//! | RFC 5424 | `<34>1 2026-11-22T17:00:00Z host app procid msgid [sd] msg`, sysklogd writes it without `<34>1` | RFC 5424 6 |
//! | busybox | `Nov 22 17:00:00 host auth.info prog[pid]: msg`, with `-S` without host | busybox syslogd |
//! | OpenWrt | `Sun Nov 22 17:00:00 2026 auth.info prog[pid]: msg`, with `-t` `[1795363200.123]` behind the year | logread(1) |
//! | FreeBSD `-v` | `Nov 22 17:00:00 <10.5> host prog[pid]: msg` | syslogd(8) |
//! | Solaris | `Nov 22 17:00:00 host prog[pid]: [ID 800047 auth.info] msg` | syslogd(1M) |
//! | macOS | `2026-11-22 17:00:00.123456+0100  host prog[pid]: (library) [subsystem] msg` | log(1) --style syslog |
//! | metalog | `Nov 22 17:00:00 [prog] msg` | metalog(8) |
//! | socklog | `2026-11-22T17:00:00.12345 auth.info: Nov 22 17:00:00 prog[pid]: msg`, each part may lack | socklog(8), svlogd(8) |
//! | multilog | `@4000000065a1b2c3075bcd15 ` and any of the above | multilog(8) |
//! | journalctl | `Sun 2026-11-22 17:00:00 CET host prog[pid]: msg` and the other dates of [`super::date`] | journalctl(1) -o |
//! | bare | `prog[pid]: msg`, or only the message | |
//! | repeated | `Nov 22 17:00:00 host prog[pid]: message repeated 5 times: [ msg]` | rsyslog, `$RepeatedMsgReduction on`, as Ubuntu has it |
//!
//! `<PRI>` may stand before each. The host and the program are written by the local syslog daemon,
//! the message by whoever talks to the program: so the *first* tag in a line is the program, and
//! what looks like a tag later is only text.

use super::date::{self, Shape};

/// A line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The date and time as they stand in the line.
    pub time: Option<&'a [u8]>,
    /// Which program wrote it: `sshd`, `postfix/smtpd`.
    pub program: Option<&'a [u8]>,
    /// What it said, without leading or trailing blanks.
    pub message: &'a [u8],
    /// How often it said that, since the daemon wrote it last.
    pub times: u16,
}

impl<'a> Frame<'a> {
    /// Something that was said once.
    pub const fn once(time: Option<&'a [u8]>, program: Option<&'a [u8]>, message: &'a [u8]) -> Self {
        Self { time, program, message, times: 1 }
    }

    /// The same, with what rsyslog writes in the place of repetitions read as what was repeated. It begins the
    /// message, where only the daemon and the program write. Of a longer message rsyslog keeps 800 bytes, and no `]`.
    pub fn unrolled(self) -> Self {
        let repeated = || {
            let rest = self.message.strip_prefix(b"message repeated ")?;
            let digits = rest.iter().take(6).take_while(|b| b.is_ascii_digit()).count();
            let (count, rest) = rest.split_at_checked(digits)?;
            let message = rest.strip_prefix(b" times: [")?.strip_suffix(b"]")?.trim_ascii();
            let times = str::from_utf8(count).ok()?.parse::<u32>().ok()?;
            Some(Self { message, times: u16::try_from(times.max(1)).unwrap_or(u16::MAX), ..self })
        };
        repeated().unwrap_or(self)
    }
}

/// Longest program name or host that is believed; RFC 5424 allows 48 and 255.
const TOKEN: usize = 255;

/// Takes the prefix off. A line without a known prefix is its own message.
pub fn frame(line: &[u8]) -> Frame<'_> {
    let line = line.trim_ascii_end();
    let (rest, pri) = strip_priority(line);
    let new = rest.strip_prefix(b"1 ").filter(|rest| pri || date::whole_iso(rest).is_some());
    if let Some(frame) = new.and_then(rfc5424) {
        return frame;
    }
    let Some((time, shape, after)) = date::take(rest) else {
        if let Some(after) = strip_facility(rest) {
            let (time, inner) = inner_time(after);
            let (program, message) = tag(inner).unwrap_or((None, inner));
            return Frame::once(time, program, message);
        }
        let (program, message) = bare_tag(rest, pri).unwrap_or((None, rest));
        return Frame::once(None, program, message.trim_ascii_start());
    };
    let (time, after) = match shape {
        Shape::Iso => match rfc5424(rest) {
            Some(frame) => return frame,
            None => (time, after),
        },
        // multilog puts its own before what it reads, which may begin with a date, or with all of a prefix.
        Shape::Logger => (time, inner_time(after).1),
        _ => (time, after),
    };
    let (program, message) = after_time(after);
    let message = if shape == Shape::Mac { strip_library(message) } else { message };
    Frame::once(Some(time), program, message)
}

/// A date that a logger found in what it read, and what follows.
fn inner_time(text: &[u8]) -> (Option<&[u8]>, &[u8]) {
    date::take(text).map_or((None, text), |(time, _, rest)| (Some(time), rest))
}

/// `(library) ` and `[subsystem:category] `, which macOS puts before the message.
fn strip_library(message: &[u8]) -> &[u8] {
    let strip = |text: &'_ [u8], open: u8, close: u8| -> Option<usize> {
        let (word, _) = token(text)?;
        let inner = word.strip_prefix(&[open])?.strip_suffix(&[close])?;
        inner.iter().all(|b| is_program(*b) || *b == b':').then_some(word.len())
    };
    let end = strip(message, b'(', b')').unwrap_or(0);
    let message = message[end..].trim_ascii_start();
    let end = strip(message, b'[', b']').unwrap_or(0);
    message[end..].trim_ascii_start()
}

/// `<0>` to `<191>`, and whether it was there.
fn strip_priority(line: &[u8]) -> (&[u8], bool) {
    let Some(rest) = line.strip_prefix(b"<") else { return (line, false) };
    let digits = rest.iter().take(4).take_while(|b| b.is_ascii_digit()).count();
    match rest.get(digits) {
        Some(b'>') if (1..=3).contains(&digits) => (&rest[digits + 1..], true),
        _ => (line, false),
    }
}

/// Host, facility and tag after a date; what is not there is not there.
fn after_time(rest: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut rest = rest.trim_ascii_start();
    if let Some(after) = strip_numeric_priority(rest) {
        rest = after;
    }
    if let Some(after) = strip_facility(rest) {
        // socklog repeats the date of the message it received.
        let inner = inner_time(after).1;
        return tag(inner).unwrap_or((None, inner));
    }
    if let Some(found) = tag(rest) {
        return found;
    }
    let Some((_host, after)) = token(rest).filter(|(host, _)| is_host(host)) else { return (None, rest) };
    let after = strip_facility(after).unwrap_or(after);
    tag(after).unwrap_or((None, rest))
}

/// Whether a word may be a host's name or address: `auth(x` or `error:` begins a message.
fn is_host(word: &[u8]) -> bool {
    word.last() != Some(&b':') && !word.iter().any(|b| b"()<>\"'=[]{}".contains(b))
}

/// `<10.5> `, as FreeBSD's syslogd -v writes facility and level.
fn strip_numeric_priority(rest: &[u8]) -> Option<&[u8]> {
    let (word, after) = token(rest)?;
    let inner = word.strip_prefix(b"<")?.strip_suffix(b">")?;
    inner.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'.').then_some(after)
}

/// `auth.info ` or `auth.info: `: one of the facilities of syslog.conf(5), a dot, a level.
fn strip_facility(rest: &[u8]) -> Option<&[u8]> {
    const FACILITIES: [&[u8]; 13] =
        [b"auth", b"authpriv", b"cron", b"daemon", b"ftp", b"kern", b"lpr", b"mail", b"news", b"security", b"syslog", b"user", b"uucp"];
    const LEVELS: [&[u8]; 10] = [b"emerg", b"alert", b"crit", b"err", b"error", b"warn", b"warning", b"notice", b"info", b"debug"];
    let (word, after) = token(rest)?;
    let word = word.strip_suffix(b":").unwrap_or(word);
    let dot = word.iter().position(|b| *b == b'.')?;
    let facility = &word[..dot];
    let known = FACILITIES.contains(&facility) || (facility.starts_with(b"local") && facility.len() == 6);
    (known && LEVELS.contains(&&word[dot + 1..])).then_some(after)
}

/// The next word of at most [`TOKEN`] bytes and what comes after the blanks behind it.
fn token(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = rest.iter().take(TOKEN + 1).position(|b| *b == b' ')?;
    (end > 0).then(|| (&rest[..end], rest[end..].trim_ascii_start()))
}

const fn is_program(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/' | b'@' | b'+' | b'(' | b')')
}

/// `prog[pid]: `, `prog[pid] `, `prog: `, `[prog] ` or `[prog]: ` at the start: the program and the message.
fn tag(rest: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (word, message) = token(rest)?;
    let colon = word.last() == Some(&b':');
    let word = word.strip_suffix(b":").unwrap_or(word);
    let program = if let Some(inner) = word.strip_prefix(b"[") {
        inner.strip_suffix(b"]")?
    } else if let Some(open) = word.iter().position(|b| *b == b'[') {
        let pid = word[open + 1..].strip_suffix(b"]")?;
        (!pid.is_empty() && pid.iter().all(u8::is_ascii_digit)).then_some(&word[..open])?
    } else if colon {
        word
    } else {
        return None;
    };
    // `[4711]` alone is a process, not a program.
    let good = program.iter().any(u8::is_ascii_alphabetic) && program.iter().all(|b| is_program(*b));
    good.then(|| (Some(program), strip_solaris_id(message)))
}

/// Without a date only `prog[pid]:` is a tag (or `prog:` after a priority): `error: PAM: ...` is a message. A host
/// may stand before it, as fail2ban has lines of the journal: `host prog[pid]: ...`.
fn bare_tag(rest: &[u8], pri: bool) -> Option<(Option<&[u8]>, &[u8])> {
    let (word, after) = token(rest)?;
    if pri || word.ends_with(b"]:") {
        return tag(rest);
    }
    let named = word.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let (next, _) = token(after)?;
    (named && next.ends_with(b"]:") && next.contains(&b'[')).then(|| tag(after)).flatten()
}

/// `[ID 800047 auth.info] `, which Solaris puts before the message.
fn strip_solaris_id(message: &[u8]) -> &[u8] {
    if !message.starts_with(b"[ID ") {
        return message;
    }
    let end = message.iter().take(64).position(|b| *b == b']');
    end.map_or(message, |end| message[end + 1..].trim_ascii_start())
}

/// `TIMESTAMP HOST APP PROCID MSGID SD [MSG]`, RFC 5424 6, after the version.
fn rfc5424(rest: &[u8]) -> Option<Frame<'_>> {
    let (time, rest) = token(rest)?;
    if time != b"-" && date::whole_iso(time)? != time.len() {
        return None;
    }
    let (_host, rest) = token(rest)?;
    let (app, rest) = token(rest)?;
    let (pid, rest) = token(rest)?;
    let (_msgid, rest) = token(rest)?;
    if !(pid == b"-" || pid.iter().all(u8::is_ascii_digit)) || !app.iter().all(|b| is_program(*b)) {
        return None;
    }
    let message = structured_data(rest)?.trim_ascii_start();
    let message = message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message);
    let program = (app != b"-").then_some(app);
    Some(Frame::once((time != b"-").then_some(time), program, message))
}

/// Skips `-` or `[id name="value"]...`; inside a value `\"`, `\\` and `\]` are escaped (RFC 5424 6.3.3).
fn structured_data(rest: &[u8]) -> Option<&[u8]> {
    if let Some(after) = rest.strip_prefix(b"-") {
        return (after.is_empty() || after[0] == b' ').then_some(after);
    }
    let (mut at, mut inside, mut quoted) = (0, false, false);
    while let Some(b) = rest.get(at) {
        match (b, inside, quoted) {
            (b'\\', true, true) => at += 1,
            (b'"', true, _) => quoted = !quoted,
            (b'[', false, _) => inside = true,
            (b']', true, false) => inside = false,
            (b' ', false, _) if at > 0 => break,
            (_, false, _) => return None,
            _ => {}
        }
        at += 1;
    }
    (at > 0 && !inside).then(|| rest.get(at..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(line: &str) -> (Option<&str>, &str) {
        let frame = frame(line.as_bytes());
        (frame.program.map(|p| std::str::from_utf8(p).unwrap()), std::str::from_utf8(frame.message).unwrap())
    }

    #[test]
    fn each_prefix_in_the_table_is_taken_off() {
        for (line, program) in [
            ("Nov 22 17:00:00 host sshd[7]: hello there", "sshd"),
            ("Nov  2 17:00:00 host sshd: hello there", "sshd"),
            ("Nov 2 17:00:00 host postfix/smtpd[9]: hello there", "postfix/smtpd"),
            ("<38>Nov 22 17:00:00 host sshd[7]: hello there", "sshd"),
            ("2026-11-22T17:00:00.123456+01:00 host sshd-session[7]: hello there", "sshd-session"),
            ("2026-11-22T17:00:00.123456+01:00 host sshd[7] hello there", "sshd"),
            ("2026-11-22 17:00:00.123456+0000 host sshd[7]: hello there", "sshd"),
            ("<34>1 2026-11-22T17:00:00Z host sshd 7 - - hello there", "sshd"),
            ("<34>1 - - sshd - - [a b=\"x]\\\"y\"][c] hello there", "sshd"),
            ("2026-11-22T17:00:00+00:00 host dropbear 6052 - - hello there", "dropbear"),
            ("Nov 22 17:00:00 host auth.info sshd[7]: hello there", "sshd"),
            ("Nov 22 17:00:00 sshd[7]: hello there", "sshd"),
            ("Sun Nov 22 17:00:00 2026 auth.info sshd[7]: hello there", "sshd"),
            ("Sun Nov  8 17:00:00 2026 authpriv.warn dropbear[7]: hello there", "dropbear"),
            ("Sun Nov 22 17:00:00 2026 [1795363200.123] auth.info sshd[7]: hello there", "sshd"),
            ("1 2026-11-22T17:00:00+01:00 host sshd 7 - - hello there", "sshd"),
            ("Nov 22 17:00:00 <10.5> host sshd[7]: hello there", "sshd"),
            ("2026-11-22T17:00:00.12345 auth.info: Nov 22 17:00:00 sshd[7]: hello there", "sshd"),
            ("Nov 22 17:00:00 [exim] hello there", "exim"),
            ("Nov 22 17:00:00 host sshd[7]: [ID 800047 auth.info] hello there", "sshd"),
            ("sshd[7]: hello there", "sshd"),
            ("host.example.org sshd[7]: hello there", "sshd"),
            ("Nov 22 2026 17:00:00 host sshd[7]: hello there", "sshd"),
            ("2026 Nov 22 17:00:00 host sshd[7]: hello there", "sshd"),
            ("Nov 22 17:00:00.123 src@host sshd[7]: hello there", "sshd"),
            ("Sun 2026-11-22 17:00:00 CET host sshd[7]: hello there", "sshd"),
            ("1795366800.123456 host sshd[7]: hello there", "sshd"),
            ("[12345.678901] host sshd[7]: hello there", "sshd"),
            ("[    5.678901] host sshd[7]: hello there", "sshd"),
            ("2026-11-22 17:00:00.123456+0100  localhost sshd[7]: (libsystem_c.dylib) hello there", "sshd"),
            ("2026-11-22 17:00:00.123456+0100  localhost sshd[7]: (Security) [com.example.securityd:x] hello there", "sshd"),
            ("@4000000065a1b2c3075bcd15 sshd[7]: hello there", "sshd"),
            ("@4000000065a1b2c3075bcd15 auth.info: Nov 22 17:00:00 sshd[7]: hello there", "sshd"),
            ("@4000000065a1b2c3075bcd15 Nov 22 17:00:00 host sshd[7]: hello there", "sshd"),
            ("2026-11-22_17:00:00.12345 auth.info: Nov 22 17:00:00 sshd[7]: hello there", "sshd"),
            ("2026-11-22_17:00:00.12345 sshd[7]: hello there", "sshd"),
            ("auth.info: Nov 22 17:00:00 sshd[7]: hello there", "sshd"),
            ("auth.info sshd[7]: hello there", "sshd"),
            ("Nov 22 17:00:00 host [sshd] hello there", "sshd"),
        ] {
            assert_eq!(parts(line), (Some(program), "hello there"), "{line}");
        }
    }

    #[test]
    fn what_is_no_prefix_stays_in_the_message() {
        for line in ["error: PAM: no", "banner exchange: Connection", "unknown[192.0.2.1]: x", "", " ", "<999999>x", "Nov 22", "[]: x"] {
            assert_eq!(parts(line), (None, line.trim()), "{line}");
        }
        assert_eq!(parts("2026-11-22T17:00:00 auth.info: Invalid user x"), (None, "Invalid user x"));
        assert_eq!(parts("2026-11-22 17:00:00 [7] H=x y"), (None, "[7] H=x y"));
        assert_eq!(parts("Nov 22 17:00:00 auth(x imap-login: y"), (None, "auth(x imap-login: y"));
    }

    #[test]
    fn repetitions_are_what_was_repeated_so_many_times() {
        let read = |line: &'static str| {
            let Frame { program, message, times, .. } = frame(line.as_bytes()).unrolled();
            (program.unwrap(), std::str::from_utf8(message).unwrap(), times)
        };
        let head = "Nov 22 17:00:00 host sshd[7]: ";
        for (message, wanted, times) in [
            ("message repeated 5 times: [ hello there]", "hello there", 5),
            ("message repeated 99999 times: [ x [y]]", "x [y]", u16::MAX),
            ("message repeated 0 times: [ x]", "x", 1),
            ("message repeated 5 times: [ cut off", "message repeated 5 times: [ cut off", 1),
            ("message repeated  times: [ x]", "message repeated  times: [ x]", 1),
            ("message repeated 1234567 times: [ x]", "message repeated 1234567 times: [ x]", 1),
            ("a message repeated 5 times: [ x]", "a message repeated 5 times: [ x]", 1),
        ] {
            let line: &'static str = format!("{head}{message}").leak();
            assert_eq!(read(line), (&b"sshd"[..], wanted, times), "{message}");
        }
    }

    #[test]
    fn the_first_tag_is_the_program() {
        let (program, message) = parts("Nov 22 17:00:00 host nginx[3]: sshd[1]: Failed password for root from 203.0.113.9");
        assert_eq!(program, Some("nginx"));
        assert!(message.starts_with("sshd[1]:"));
        assert_eq!(parts("Nov 22 17:00:00 host some words sshd[1]: x").0, None);
    }

    proptest! {
        #[test]
        fn total_on_any_bytes(line: Vec<u8>) {
            let frame = frame(&line);
            prop_assert!(frame.message.len() <= line.len());
        }

        #[test]
        fn total_on_broken_prefixes(line in "(<[0-9]{0,4}>)?(1 )?([A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8}|[0-9T:.+-]{0,30})( [a-z<>.\\[\\]:\"\\\\-]{0,9}){0,6}") {
            frame(line.as_bytes());
        }
    }
}
