//! Backslash escapes back to bytes.
//!
//! | escape | byte or character | source |
//! |---|---|---|
//! | `\"` `\\` `\/` `\'` | itself | RFC 8259 7; Go's `strconv.Quote` |
//! | `\b` `\f` `\n` `\r` `\t` `\a` `\v` | 8 12 10 13 9 7 11 | the same |
//! | `\uXXXX` | a UTF-16 unit; two of them a pair | RFC 8259 7 |
//! | `\UXXXXXXXX` | a character | `strconv.Quote` |
//! | `\xXX` | a byte | `strconv.Quote`, nginx `escape=default` |
//!
//! What is none of these stays as it stands: a reader that guesses can be led.

/// So many bytes behind an escape are taken one by one: where escapes stand close together, to search
/// for each costs more.
const NEAR: usize = 8;

/// Appends `text` without its escapes.
pub(super) fn unescape(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let mut near = &rest[at..];
        let mut plain = 0;
        while let Some(byte) = near.first().filter(|_| plain < NEAR) {
            if *byte != b'\\' {
                out.push(*byte);
                (near, plain) = (&near[1..], plain + 1);
                continue;
            }
            let used = one(near, out).unwrap_or_else(|| {
                out.push(b'\\');
                1
            });
            (near, plain) = (near.get(used..).unwrap_or_default(), 0);
        }
        rest = near;
    }
    out.extend_from_slice(rest);
}

/// One escape: how many bytes of the text it took.
fn one(escape: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let byte = match escape.get(1)? {
        b @ (b'"' | b'\\' | b'/' | b'\'') => *b,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 7,
        b'v' => 11,
        b'x' => {
            out.push(u8::try_from(hex(escape, 2, 2)?).ok()?);
            return Some(4);
        }
        b'U' => {
            push(char::from_u32(hex(escape, 2, 8)?)?, out);
            return Some(10);
        }
        b'u' => return unit(escape, out),
        _ => return None,
    };
    out.push(byte);
    Some(2)
}

/// `\uXXXX`, or two that make a pair. Half a pair is the replacement character.
fn unit(escape: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let high = hex(escape, 2, 4)?;
    if (0xd800..0xdc00).contains(&high)
        && escape.get(6..8) == Some(b"\\u")
        && let Some(low @ 0xdc00..=0xdfff) = hex(escape, 8, 4)
    {
        push(char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))?, out);
        return Some(12);
    }
    push(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), out);
    Some(6)
}

fn hex(text: &[u8], from: usize, digits: usize) -> Option<u32> {
    text.get(from..from + digits)?.iter().try_fold(0u32, |all, b| Some(all << 4 | char::from(*b).to_digit(16)?))
}

fn push(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        unescape(text.as_bytes(), &mut out);
        out
    }

    #[test]
    fn each_escape_in_the_table() {
        assert_eq!(plain(r#"a\"b\\c\/d\'e"#), b"a\"b\\c/d'e");
        assert_eq!(plain(r"\b\f\n\r\t\a\v"), [8, 12, 10, 13, 9, 7, 11]);
        assert_eq!(plain(r"\u0026\u00e4\ud83d\ude00\x1b\U0001F600"), "&ä😀\u{1b}😀".as_bytes());
    }

    #[test]
    fn what_is_no_escape_stays() {
        for text in [r"\q", r"\", r"\u12", r"\xg0", r"\U110000ff"] {
            assert_eq!(plain(text), text.as_bytes());
        }
        assert_eq!(plain(r"\ud83dx\ude00"), "\u{fffd}x\u{fffd}".as_bytes());
    }

    proptest! {
        #[test]
        fn as_serde_reads_json(text: String) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(plain(&json[1..json.len() - 1]), text.as_bytes());
        }
    }
}
