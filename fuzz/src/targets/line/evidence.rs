//! What a line says when all that can be around it is off: by a reader of its own, so that an address
//! which is not in there was made up.

use std::collections::BTreeMap;

use palisade_core::net::Addr;
use serde_json::Value;

/// Longer than any address is written: of IPv6 45 bytes.
const LONGEST: usize = 46;

/// All texts of the lines so far that can count for the last one.
#[derive(Default)]
pub struct Evidence {
    /// Of the last line: itself, and each text in it.
    texts: Vec<Vec<u8>>,
    /// What came in pieces, by stream.
    pieces: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Evidence {
    /// The next line.
    pub fn add(&mut self, line: &[u8]) {
        self.texts.clear();
        self.unfold(line, 0);
        // A container's runtime: time, stream, tag, text.
        let mut words = line.splitn(4, |b| *b == b' ');
        if let (Some(_), Some(stream), Some(_), Some(text)) = (words.next(), words.next(), words.next(), words.next()) {
            let whole = self.pieces.entry(stream.to_vec()).or_default();
            whole.extend(text);
            let whole = whole.clone();
            self.unfold(&whole, 0);
        }
        // Docker's engine: by the names alone, as what is between them may be no JSON.
        let begin = find(line, b"\"log\":\"").map(|at| at + 7);
        let end = find(line, b"\",\"stream\":\"");
        if let Some(text) = begin.zip(end).and_then(|(begin, end)| line.get(begin..end)) {
            // Of either engine: what is there of a stream goes on in the other's form.
            let stream = end.and_then(|end| line.get(end + 12..end + 18)).unwrap_or_default();
            let whole = self.pieces.entry(stream.to_vec()).or_default();
            whole.extend(unescaped(text));
            let whole = whole.clone();
            self.unfold(&whole, 0);
        }
    }

    /// A text, without colours, with its escapes read, and the texts of the JSON in it.
    fn unfold(&mut self, text: &[u8], depth: usize) {
        self.texts.push(without_colours(text));
        self.texts.push(unescaped(text));
        if depth < 3
            && let Some(start) = text.iter().position(|b| *b == b'{')
            && let Some(Ok(value)) = serde_json::Deserializer::from_str(&readable(&text[start..])).into_iter::<Value>().next()
        {
            self.values(&value, depth);
        }
    }

    fn values(&mut self, value: &Value, depth: usize) {
        match value {
            Value::String(text) => self.unfold(text.as_bytes(), depth + 1),
            Value::Array(all) => all.iter().for_each(|value| self.values(value, depth)),
            Value::Object(all) => all.values().for_each(|value| self.values(value, depth)),
            _ => {}
        }
    }

    /// Whether the address is written somewhere.
    pub fn holds(&self, addr: Addr) -> bool {
        self.texts.iter().any(|text| written(text, addr))
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Without what JSON forbids and writers of logs write all the same: no address holds any of it.
fn readable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Whether one of the words that could be an address is this one.
fn written(text: &[u8], addr: Addr) -> bool {
    let part = |b: u8| b.is_ascii_hexdigit() || matches!(b, b'.' | b':');
    text.split(|b| !part(*b)).any(|word| {
        (0..word.len()).any(|from| {
            let longest = (word.len() - from).min(LONGEST);
            (1..=longest).any(|length| std::str::from_utf8(&word[from..from + length]).is_ok_and(|text| text.parse() == Ok(addr)))
        })
    })
}

/// As a terminal shows it.
fn without_colours(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let colour = after.strip_prefix(b"[").filter(|_| *first == 0x1b).and_then(|codes| {
            let end = codes.iter().position(|b| !b.is_ascii_digit() && *b != b';')?;
            (codes[end] == b'm').then(|| &codes[end + 1..])
        });
        match colour {
            Some(after) => rest = after,
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// `\"`, `\u0031`, `\x31` and so on as what they stand for, by whoever wrote them.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let (byte, used) = match (first, after.first()) {
            (b'\\', Some(b'u')) => (code(after.get(1..5)), 6),
            (b'\\', Some(b'x')) => (code(after.get(1..3)), 4),
            (b'\\', Some(other)) => (Some(*other), 2),
            _ => (Some(*first), 1),
        };
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = rest.get(used..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    without_colours(&out)
}

/// A code in hexadecimal digits that is a byte of text.
fn code(digits: Option<&[u8]>) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok()
}
