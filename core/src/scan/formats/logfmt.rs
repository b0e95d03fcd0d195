//! `key=value` words, as Go's loggers and many others write them.
//!
//! A value with blanks, quotes or `=` stands in double quotes, escaped as `strconv.Quote` does.
//! A line with anything that is not `key=value` is not of this format: a logger that does not quote
//! writes such lines as soon as a value has a blank, and then nobody knows where the value ends.

use super::quote;
use super::record::{Fields, Parent, Span};

/// Keeps all fields of the line; `None` where it is not of the format.
pub(super) fn read(text: &[u8], fields: &mut Fields) -> Option<()> {
    let mut at = 0;
    loop {
        at += text.get(at..)?.iter().take_while(|b| **b == b' ').count();
        if at == text.len() {
            return (!fields.is_empty()).then_some(());
        }
        let equals = at + text.get(at..)?.iter().position(|b| !is_key(*b))?;
        if equals == at || text.get(equals) != Some(&b'=') {
            return None;
        }
        let (value, end) = value(text, equals + 1)?;
        fields.leaf(text, Parent::NONE, Span::new(at, equals, false)?, value)?;
        at = end;
    }
}

const fn is_key(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | b'/' | b':')
}

/// The value that begins here, and where the next blank or the end is.
fn value(text: &[u8], from: usize) -> Option<(Span, usize)> {
    if text.get(from) != Some(&b'"') {
        let end = from + text.get(from..)?.iter().position(|b| *b == b' ').unwrap_or(text.len() - from);
        let word = text.get(from..end)?;
        // A quote within a bare word: whoever wrote it does not quote.
        return (!word.contains(&b'"')).then(|| Some((Span::new(from, end, false)?, end))).flatten();
    }
    let (at, escaped) = quote::end(text, from + 1)?;
    matches!(text.get(at + 1), None | Some(b' ')).then(|| Some((Span::new(from + 1, at, escaped)?, at + 1))).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::get;
    use proptest::prelude::*;

    #[test]
    fn words_and_quoted_values() {
        let text = r#"time="2026-11-22T17:00:00Z" level=warn user="a \"b\" addr=203.0.113.9" addr=192.0.2.7 empty= x="""#;
        assert_eq!(get(text, "addr").unwrap(), "192.0.2.7");
        assert_eq!(get(text, "user").unwrap(), "a \"b\" addr=203.0.113.9");
        assert_eq!((get(text, "empty").unwrap(), get(text, "x").unwrap()), (String::new(), String::new()));
    }

    #[test]
    fn a_line_with_anything_else_is_not_read() {
        for text in [
            "addr=192.0.2.7 msg=two words",
            "addr=192.0.2.7 x=\"a\"b",
            "addr=192.0.2.7 x=\"a",
            "=x addr=192.0.2.7",
            "addr=192.0.2.7 x=a\"b",
            "",
            " ",
        ] {
            assert_eq!(get(text, "addr"), None, "{text}");
        }
    }

    #[test]
    fn a_field_told_twice_is_not_believed() {
        assert_eq!(get("addr=192.0.2.7 user=x addr=203.0.113.9", "addr"), None);
        assert_eq!(get("addr=192.0.2.7 user=x addr=192.0.2.7", "addr").unwrap(), "192.0.2.7");
    }

    proptest! {
        #[test]
        fn a_quoted_value_is_read_back(value: String) {
            let text = format!("a=1 v={value:?} addr=192.0.2.7", value = value.replace(|c: char| c.is_control() || !c.is_ascii(), ""));
            prop_assert_eq!(get(&text, "addr").unwrap(), "192.0.2.7");
        }

        #[test]
        fn total_on_what_looks_like_logfmt(text in r#"([a-c]{0,2}=?("[a-c\\" ]{0,4}"?)? ?){0,20}"#) {
            get(&text, "a");
        }
    }
}
