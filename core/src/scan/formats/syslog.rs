//! The prefix a syslog daemon writes before a message, taken off by hand.
//!
//! | form | example | source |
//! |---|---|---|
//! | traditional | `Nov 22 17:00:00 host prog[pid]: msg` | RFC 3164 4.1 |
//! | rsyslog, macOS | `2026-11-22T17:00:00.123456+01:00 host prog[pid]: msg` | RFC 3339 in the place of the date |
//! | RFC 5424 | `<34>1 2026-11-22T17:00:00Z host app procid msgid [sd] msg`, sysklogd writes it without `<34>1` | RFC 5424 6 |
//! | busybox | `Nov 22 17:00:00 host auth.info prog[pid]: msg`, with `-S` without host | busybox syslogd |
//! | FreeBSD `-v` | `Nov 22 17:00:00 <10.5> host prog[pid]: msg` | syslogd(8) |
//! | socklog | `2026-11-22T17:00:00.12345 auth.info: Nov 22 17:00:00 prog[pid]: msg` | socklog(8) |
//! | bare | `prog[pid]: msg`, or only the message | |
//!
//! `<PRI>` may stand before each. The host and the program are written by the local syslog daemon,
//! the message by whoever talks to the program: so the *first* tag in a line is the program, and
//! what looks like a tag later is only text.

/// A line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The date and time as they stand in the line.
    pub time: Option<&'a [u8]>,
    /// Which program wrote it: `sshd`, `postfix/smtpd`.
    pub program: Option<&'a [u8]>,
    /// What it said, without leading or trailing blanks.
    pub message: &'a [u8],
}

/// Longest program name or host that is believed; RFC 5424 allows 48 and 255.
const TOKEN: usize = 255;

/// Takes the prefix off. A line without a known prefix is its own message.
pub fn frame(line: &[u8]) -> Frame<'_> {
    let line = line.trim_ascii_end();
    let (rest, pri) = strip_priority(line);
    if let Some(frame) = pri.then(|| rest.strip_prefix(b"1 ")).flatten().and_then(rfc5424) {
        return frame;
    }
    let Some((time, iso, rest)) = take_time(rest) else {
        let (program, message) = bare_tag(rest, pri).unwrap_or((None, rest));
        return Frame { time: None, program, message: message.trim_ascii_start() };
    };
    if let Some(frame) = iso.then(|| rfc5424(line_without_priority(line))).flatten() {
        return frame;
    }
    let (program, message) = after_time(rest);
    Frame { time: Some(time), program, message }
}

fn line_without_priority(line: &[u8]) -> &[u8] {
    strip_priority(line).0
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
        let inner = take_time(after).map_or(after, |(_, _, inner)| inner).trim_ascii_start();
        return tag(inner).unwrap_or((None, inner));
    }
    if let Some(found) = tag(rest) {
        return found;
    }
    let Some((_host, after)) = token(rest) else { return (None, rest) };
    let after = strip_facility(after).unwrap_or(after);
    tag(after).unwrap_or((None, rest))
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

/// Without a date only `prog[pid]:` is a tag (or `prog:` after a priority): `error: PAM: ...` is a message.
fn bare_tag(rest: &[u8], pri: bool) -> Option<(Option<&[u8]>, &[u8])> {
    let (word, _) = token(rest)?;
    (pri || word.ends_with(b"]:")).then(|| tag(rest)).flatten()
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
    if time != b"-" && take_iso(time)?.1 != time.len() {
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
    Some(Frame { time: (time != b"-").then_some(time), program, message })
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

/// A date and time at the start: itself, whether it is an ISO one, and the rest without leading blanks.
fn take_time(rest: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let (iso, end) = match take_iso(rest) {
        Some((_, end)) => (true, end),
        None => (false, take_rfc3164(rest)?),
    };
    (rest.get(end) == Some(&b' ')).then(|| (&rest[..end], iso, rest[end..].trim_ascii_start()))
}

/// Matches `shape` at the start, where `0` is any digit and everything else is itself.
fn shaped(text: &[u8], shape: &[u8]) -> bool {
    text.len() >= shape.len() && text.iter().zip(shape).all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == s })
}

/// `Nov 22 17:00:00`, `Nov  2 ...` or `Nov 2 ...`: how long it is.
fn take_rfc3164(rest: &[u8]) -> Option<usize> {
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = rest.get(..3)?;
    if !MONTHS.chunks_exact(3).any(|m| m == month) {
        return None;
    }
    [&b" 00 00:00:00"[..], b"  0 00:00:00", b" 0 00:00:00"].iter().find(|shape| shaped(&rest[3..], shape)).map(|shape| 3 + shape.len())
}

/// `2026-11-22T17:00:00[.frac][zone]`, a blank in the place of `T` too: whether it names a zone, and how long it is.
fn take_iso(rest: &[u8]) -> Option<(bool, usize)> {
    if !(shaped(rest, b"0000-00-00T00:00:00") || shaped(rest, b"0000-00-00 00:00:00")) {
        return None;
    }
    let mut end = 19;
    if matches!(rest.get(end), Some(b'.' | b',')) {
        // Nine digits are nanoseconds; more is no fraction anyone writes.
        end += 1 + rest[end + 1..].iter().take(9).take_while(|b| b.is_ascii_digit()).count();
    }
    let zone = rest.get(end..).unwrap_or_default();
    let zone_len = match zone.first() {
        Some(b'Z') => 1,
        Some(b'+' | b'-') if shaped(&zone[1..], b"00:00") => 6,
        Some(b'+' | b'-') if shaped(&zone[1..], b"0000") => 5,
        _ => 0,
    };
    Some((zone_len > 0, end + zone_len))
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
            ("Nov 22 17:00:00 <10.5> host sshd[7]: hello there", "sshd"),
            ("2026-11-22T17:00:00.12345 auth.info: Nov 22 17:00:00 sshd[7]: hello there", "sshd"),
            ("Nov 22 17:00:00 [exim] hello there", "exim"),
            ("Nov 22 17:00:00 host sshd[7]: [ID 800047 auth.info] hello there", "sshd"),
            ("sshd[7]: hello there", "sshd"),
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
