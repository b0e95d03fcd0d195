//! The date and time at the start of a line, found by its shape.
//!
//! | shape | who writes it |
//! |---|---|
//! | `Nov 22 17:00:00`, `Nov  2 ...`, `Nov 2 ...`, with `.123` | RFC 3164 4.1.2, syslog-ng |
//! | `Nov 22 2026 17:00:00`, `2026 Nov 22 17:00:00` | the same with a year, syslog-ng's FULLDATE |
//! | `2026-11-22T17:00:00[.frac][zone]`, a blank or `_` in the place of `T` | RFC 3339, macOS, svlogd |
//! | `Sun 2026-11-22 17:00:00 CET` | journalctl -o short-full; the zone is the reader's, unless it is UTC |
//! | `Sun Nov 22 17:00:00 2026`, `Sun Nov 22 17:00:00 2026 [1795363200.123]` | OpenWrt's logd and its logread -t |
//! | `1795366800.123456` | journalctl -o short-unix |
//! | `[12345.678901]`, the kernel's time since it started | journalctl -o short-monotonic, dmesg |
//! | `@4000000065a1b2c3075bcd15` | TAI64N: multilog(8), svlogd(8) |

/// What kind of date it is, where that matters for what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A year, or none, and a month by its name.
    Named,
    /// ISO 8601.
    Iso,
    /// ISO 8601 with a blank, a fraction and a zone without a colon: macOS.
    Mac,
    /// A number.
    Number,
    /// What a logger like multilog puts before whatever it reads.
    Logger,
}

/// A date and time at the start, its shape, and the rest without leading blanks.
pub(super) fn take(text: &[u8]) -> Option<(&[u8], Shape, &[u8])> {
    let (shape, time, end) = match text.first()? {
        b'@' => (Shape::Logger, &text[..25.min(text.len())], tai64n(text)?),
        b'[' => all(Shape::Number, text, monotonic(text)?),
        b'0'..=b'9' => {
            let (shape, end) =
                iso(text).or_else(|| Some((Shape::Named, year_first(text)?))).or_else(|| Some((Shape::Number, epoch(text)?)))?;
            all(shape, text, end)
        }
        _ => match weekday(text) {
            Some(rest) => full(text, rest).or_else(|| ctime(text, rest))?,
            None => all(Shape::Named, text, named(text)?),
        },
    };
    (text.get(end) == Some(&b' ')).then(|| (time, shape, text[end..].trim_ascii_start()))
}

/// All up to there is the time.
fn all(shape: Shape, text: &[u8], end: usize) -> (Shape, &[u8], usize) {
    (shape, &text[..end], end)
}

/// The same for an ISO date only: its length.
pub(super) fn whole_iso(text: &[u8]) -> Option<usize> {
    iso(text).map(|(_, end)| end)
}

/// Matches `shape` at the start, where `0` is any digit and everything else is itself.
fn shaped(text: &[u8], shape: &[u8]) -> bool {
    text.len() >= shape.len() && text.iter().zip(shape).all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == s })
}

/// `.123` or `,123`: its length. Nine digits are nanoseconds; more is no fraction anyone writes.
fn fraction(text: &[u8]) -> usize {
    match text.first() {
        Some(b'.' | b',') => 1 + text[1..].iter().take(9).take_while(|b| b.is_ascii_digit()).count(),
        _ => 0,
    }
}

fn is_month(text: &[u8]) -> bool {
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    text.get(..3).is_some_and(|month| MONTHS.chunks_exact(3).any(|m| m == month))
}

fn named(text: &[u8]) -> Option<usize> {
    const SHAPES: [&[u8]; 5] = [b" 00 00:00:00", b"  0 00:00:00", b" 0 00:00:00", b" 00 0000 00:00:00", b"  0 0000 00:00:00"];
    let rest = text.get(3..).filter(|_| is_month(text))?;
    let end = 3 + SHAPES.iter().find(|shape| shaped(rest, shape))?.len();
    Some(end + fraction(&text[end..]))
}

fn year_first(text: &[u8]) -> Option<usize> {
    shaped(text, b"0000 ").then(|| Some(5 + named(&text[5..])?)).flatten()
}

fn iso(text: &[u8]) -> Option<(Shape, usize)> {
    let blank = shaped(text, b"0000-00-00 00:00:00");
    let logger = shaped(text, b"0000-00-00_00:00:00");
    if !(blank || logger || shaped(text, b"0000-00-00T00:00:00")) {
        return None;
    }
    let end = 19 + fraction(&text[19..]);
    let zone = &text[end..];
    let (length, colon) = match zone.first() {
        Some(b'Z') => (1, true),
        Some(b'+' | b'-') if shaped(&zone[1..], b"00:00") => (6, true),
        Some(b'+' | b'-') if shaped(&zone[1..], b"0000") => (5, false),
        _ => (0, true),
    };
    let shape = match (logger, blank && end == 26 && !colon) {
        (true, _) => Shape::Logger,
        (_, true) => Shape::Mac,
        _ => Shape::Iso,
    };
    Some((shape, end + length))
}

/// What follows the name of a day.
fn weekday(text: &[u8]) -> Option<&[u8]> {
    const DAYS: &[u8; 21] = b"MonTueWedThuFriSatSun";
    let day = text.get(..3)?;
    text.get(4..).filter(|_| DAYS.chunks_exact(3).any(|d| d == day) && text[3] == b' ')
}

fn full<'a>(text: &[u8], rest: &'a [u8]) -> Option<(Shape, &'a [u8], usize)> {
    let end = iso(rest)?.1;
    let zone = rest.get(end..)?.strip_prefix(b" ")?;
    let length = zone.iter().take(6).take_while(|b| b.is_ascii_uppercase()).count();
    let after = (2..=5).contains(&length).then_some(end + 1 + length)?;
    let known = matches!(&zone[..length], b"UTC" | b"GMT");
    Some((Shape::Iso, &rest[..if known { after } else { end }], text.len() - rest.len() + after))
}

fn ctime<'a>(text: &'a [u8], rest: &[u8]) -> Option<(Shape, &'a [u8], usize)> {
    let end = text.len() - rest.len() + named(rest)?;
    let end = if shaped(&text[end..], b" 0000 ") { end + 5 } else { end };
    // `logread -t` says it once more, and to the thousandth.
    let more = text[end..].strip_prefix(b" ").filter(|more| more.starts_with(b"[")).and_then(monotonic);
    Some((Shape::Named, &text[..end], end + more.map_or(0, |more| 1 + more)))
}

fn epoch(text: &[u8]) -> Option<usize> {
    shaped(text, b"0000000000").then(|| 10 + fraction(&text[10..]))
}

fn monotonic(text: &[u8]) -> Option<usize> {
    let inner = text.iter().take(24).position(|b| *b == b']')?;
    let number = text[1..inner].trim_ascii_start();
    let (whole, part) = number.split_at(number.iter().position(|b| *b == b'.')?);
    (!whole.is_empty() && whole.iter().chain(&part[1..]).all(u8::is_ascii_digit)).then_some(inner + 1)
}

fn tai64n(text: &[u8]) -> Option<usize> {
    // Sixteen digits of seconds, of which the first is 4 for 2^62, and eight of nanoseconds.
    let digits = text.get(1..25)?;
    (digits[0] == b'4' && digits.iter().all(u8::is_ascii_hexdigit)).then_some(25)
}
