//! A JSON object (RFC 8259) to its fields, walked by hand: nothing is built that nobody asks for.
//!
//! Nothing but blanks may follow the object, and a text that ends within it is no object: half a
//! line must not be read as a whole one. Elements of lists are walked over and not kept. Control
//! bytes within strings, which the RFC forbids, are let through: some loggers write them.

use super::quote;
use super::record::{Fields, Parent, Span};

/// Deepest nesting: loggers nest three or four objects; the walk is recursive, so this bounds its stack.
const DEEPEST: u8 = 32;

/// Keeps all fields of the object that is this text; `None` where it is none.
pub(super) fn read(text: &[u8], fields: &mut Fields) -> Option<()> {
    let mut walk = Walk { text, at: 0, fields };
    walk.blanks();
    if walk.peek() != Some(b'{') {
        return None;
    }
    walk.object(Parent::NONE, true, 0)?;
    walk.blanks();
    (walk.at == text.len()).then_some(())
}

struct Walk<'t, 'f> {
    text: &'t [u8],
    at: usize,
    fields: &'f mut Fields,
}

impl Walk<'_, '_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte that is no blank, if it is this one.
    fn eat(&mut self, byte: u8) -> Option<()> {
        self.blanks();
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    /// `{...}`; with `keep` its fields are kept.
    fn object(&mut self, parent: Parent, keep: bool, depth: u8) -> Option<()> {
        if depth >= DEEPEST {
            return None;
        }
        self.eat(b'{')?;
        if self.eat(b'}').is_some() {
            return Some(());
        }
        loop {
            self.blanks();
            let key = self.string()?;
            self.eat(b':')?;
            self.value(parent, keep.then_some(key), depth)?;
            if self.eat(b',').is_none() {
                return self.eat(b'}');
            }
        }
    }

    /// `[...]`: walked over.
    fn list(&mut self, depth: u8) -> Option<()> {
        if depth >= DEEPEST {
            return None;
        }
        self.eat(b'[')?;
        if self.eat(b']').is_some() {
            return Some(());
        }
        loop {
            self.value(Parent::NONE, None, depth)?;
            if self.eat(b',').is_none() {
                return self.eat(b']');
            }
        }
    }

    fn value(&mut self, parent: Parent, key: Option<Span>, depth: u8) -> Option<()> {
        self.blanks();
        match self.peek()? {
            b'{' => {
                let inner = match key {
                    Some(key) => self.fields.branch(self.text, parent, key)?,
                    None => Parent::NONE,
                };
                self.object(inner, key.is_some(), depth + 1)
            }
            b'[' => self.list(depth + 1),
            b'"' => {
                let value = self.string()?;
                self.keep(parent, key, value)
            }
            _ => {
                let value = self.bare()?;
                // `null` says that there is no value.
                let key = key.filter(|_| value.of(self.text) != b"null");
                self.keep(parent, key, value)
            }
        }
    }

    fn keep(&mut self, parent: Parent, key: Option<Span>, value: Span) -> Option<()> {
        key.map_or(Some(()), |key| self.fields.leaf(self.text, parent, key, value))
    }

    /// What stands between quotes, escapes and all.
    fn string(&mut self) -> Option<Span> {
        self.peek().filter(|b| *b == b'"')?;
        let from = self.at + 1;
        let (at, escaped) = quote::end(self.text, from)?;
        self.at = at + 1;
        Span::new(from, at, escaped)
    }

    /// A number, `true`, `false` or `null`.
    fn bare(&mut self) -> Option<Span> {
        let from = self.at;
        let rest = self.text.get(from..)?;
        let numeric = |b: &u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let mut end = rest.iter().position(|b| !numeric(b)).unwrap_or(rest.len());
        let mut good = matches!(rest.first()?, b'-' | b'0'..=b'9');
        if rest.get(end).is_some_and(u8::is_ascii_alphabetic) {
            end = rest.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(rest.len());
            good = matches!(rest.get(..end)?, b"true" | b"false" | b"null");
        }
        self.at += end;
        good.then(|| Span::new(from, self.at, false)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::super::record::tests::get;
    use proptest::prelude::*;

    #[test]
    fn fields_are_addressed_by_dotted_names() {
        let text = r#" {"level":"info","request":{"remote_ip":"192.0.2.7","headers":{"User-Agent":["curl"]},"tls":{}},"status":401,"ok":false,"none":null,"a.b":"flat"} "#;
        assert_eq!(get(text, "request.remote_ip").unwrap(), "192.0.2.7");
        assert_eq!(get(text, "status").unwrap(), "401");
        assert_eq!(get(text, "ok").unwrap(), "false");
        assert_eq!(get(text, "a.b").unwrap(), "flat");
        for absent in ["none", "request", "request.headers.User-Agent", "remote_ip", "b", "", "request."] {
            assert_eq!(get(text, absent), None, "{absent}");
        }
    }

    #[test]
    fn half_an_object_is_none() {
        for text in [
            "{",
            r#"{"a""#,
            r#"{"a":1"#,
            r#"{"a":1}x"#,
            r#"{"a":1,}"#,
            r#"{"a":nul}"#,
            r#"{"a":"b\"}"#,
            r#"[{"a":1}]"#,
            r#"{"a":1}{"a":2}"#,
            "{a:1}",
        ] {
            assert_eq!(get(text, "a"), None, "{text}");
        }
        let deep = format!("{}1{}", r#"{"a":"#.repeat(40), "}".repeat(40));
        assert_eq!(get(&deep, "a"), None);
        assert!(!Record::default().read("[".repeat(100_000).as_bytes()));
        assert!(!Record::default().read(r#"{"a":["#.repeat(100_000).as_bytes()));
    }

    proptest! {
        #[test]
        fn whatever_serde_writes_is_read_alike(a: String, b: String, n: i64) {
            let text = serde_json::json!({ "x": { "a": a, "y": [b, { "a": 1 }] }, "n": n, "b": b }).to_string();
            prop_assert_eq!(get(&text, "x.a").unwrap(), a);
            prop_assert_eq!(get(&text, "b").unwrap(), b);
            prop_assert_eq!(get(&text, "n").unwrap(), n.to_string());
        }

        #[test]
        fn total_on_what_looks_like_json(text in r#"\{("[a-c\\"]{0,3}"[:,]|[\[\]{}]|[0-9a-z]{1,4}|[ ,:"\\]){0,30}\}?"#) {
            get(&text, "a");
        }
    }
}
