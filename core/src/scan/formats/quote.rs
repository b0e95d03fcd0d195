//! Where a text in quotes ends.

/// So many bytes are looked at one by one before the next quote or backslash is searched for: a
/// search costs as much as that, and where escapes stand close together none pays.
const NEAR: usize = 16;

/// The place of the next quote from `from` on that no backslash escapes, and whether there was a
/// backslash before it.
pub(super) fn end(text: &[u8], from: usize) -> Option<(usize, bool)> {
    let (mut at, mut escaped) = (from, false);
    loop {
        for _ in 0..NEAR {
            match text.get(at)? {
                b'"' => return Some((at, escaped)),
                b'\\' => (at, escaped) = (at + 2, true),
                _ => at += 1,
            }
        }
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
    }
}

/// What stands between quotes: the first byte and the end of each.
pub(in super::super) fn spans(text: &[u8]) -> Vec<(usize, usize)> {
    let next = |from| {
        let open = end(text, from)?.0 + 1;
        Some((open, end(text, open)?.0))
    };
    std::iter::successors(next(0), |(_, closed)| next(closed + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_stands_between_quotes() {
        let text = br#"a "b" \"c "d\"e" "" f "g"#;
        let found: Vec<&[u8]> = spans(text).into_iter().map(|(from, to)| &text[from..to]).collect();
        assert_eq!(found, [&b"b"[..], br#"d\"e"#, b""]);
    }

    proptest! {
        #[test]
        fn as_one_byte_after_the_other(text in r#"(a{0,20}|\\|"){0,40}"#, from in 0usize..8) {
            let (mut wanted, mut seen, mut skip) = (None, false, false);
            for (at, byte) in text.bytes().enumerate().skip(from) {
                match byte {
                    _ if skip => skip = false,
                    b'"' => {
                        wanted = Some((at, seen));
                        break;
                    }
                    b'\\' => (skip, seen) = (true, true),
                    _ => {}
                }
            }
            prop_assert_eq!(end(text.as_bytes(), from), wanted);
        }
    }
}
